//! `certs-example/make.sh` and the commands of its README, run as a reader would run them.

#![expect(clippy::unwrap_used, reason = "a test that panics has failed")]

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use tempfile::TempDir;

#[test]
fn the_script_makes_a_pki_and_a_roster_that_verify() {
    let out = make();
    let shown = pouch(&out, &["pki", "show", "idn/tls.pem"]);
    assert!(text(&shown).contains("spiffe://mod.example/mission/idn"), "{shown:?}");
    let shown = pouch(&out, &["roster", "show", "roster.note"]);
    assert!(text(&shown).contains("High Commission of Malaysia"), "{shown:?}");
    let checked = pouch(&out, &["roster", "check", "--trust", "trust.toml", "roster.note"]);
    assert!(text(&checked).starts_with("Good: mod.example version 1"), "{checked:?}");
}

#[test]
fn the_next_version_is_drafted_signed_and_checked_by_commands() {
    let out = make();
    let draft = "roster/roster-v2.toml";
    text(&pouch(&out, &["roster", "next", "--trust", "trust.toml", "roster.note", "--out", draft]));
    let one = ["roster", "sign", draft, "--key", "roster/roster-1.key", "--out", "roster-v2.note"];
    text(&pouch(&out, &one));
    let check = ["roster", "check", "--trust", "trust.toml", "roster.note", "roster-v2.note"];
    let refused = pouch(&out, &check);
    assert_eq!(refused.status.code(), Some(8), "{refused:?}");
    let two = ["roster", "sign", "roster-v2.note", "--key", "roster/roster-3.key", "--out", "roster-v2.note"];
    text(&pouch(&out, &two));
    let checked = pouch(&out, &check);
    assert!(text(&checked).starts_with("Good: mod.example version 2"), "{checked:?}");
}

#[test]
fn a_renewed_certificate_has_a_new_tls_key_and_the_partys_number() {
    let out = make();
    let next = out.path().join("out/idn-next");
    fs::create_dir(&next).unwrap();
    for key in ["sign.key", "witness.key"] {
        fs::copy(out.path().join("out/idn").join(key), next.join(key)).unwrap();
    }
    let id = ["--id", "spiffe://mod.example/mission/idn", "--code", "IDN", "--name", "Embassy of Indonesia"];
    text(&pouch(&out, &[&["pki", "request", "idn-next"], id.as_slice()].concat()));
    let issued = pouch(&out, &["pki", "issue", "idn-next/request.toml", "--ca", "ca"]);
    assert!(text(&issued).contains("number = 3"), "{issued:?}");
    let key = |folder: &str| fs::read(out.path().join("out").join(folder).join("tls.key")).unwrap();
    assert_ne!(key("idn"), key("idn-next"));
}

/// Runs a copy of the script in a folder of its own, so that tests do not meet.
fn make() -> TempDir {
    let folder = TempDir::new().unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("certs-example/make.sh");
    let copy = folder.path().join("make.sh");
    fs::copy(script, &copy).unwrap();
    let made = Command::new("sh").arg(&copy).env("POUCH", env!("CARGO_BIN_EXE_pouch")).output().unwrap();
    text(&made);
    folder
}

fn pouch(folder: &TempDir, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pouch"));
    command.args(arguments).current_dir(folder.path().join("out")).output().unwrap()
}

fn text(output: &Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout.clone()).unwrap()
}
