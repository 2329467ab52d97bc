//! Logs that Pouch wrote, verified by code that is not ours: `interop/check.go`, on Go's `sumdb/tlog` and `sumdb/note`,
//! and the Python package `aics-tlog`.
//!
//! The first needs Debian's `golang-go` and `golang-golang-x-mod-dev`; without them these tests say so and pass,
//! unless `CI=true`. The second needs Python 3.12, which Debian 12 lacks.

#![expect(clippy::unwrap_used, reason = "a test that cannot set up its world has failed")]

#[path = "audit/bloc.rs"]
mod bloc;

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

use pouch::{
    keys::SigningKey,
    note::{KeyKind, Vkey},
    tiles::{self, DiskFolder, Folder},
};

use bloc::{Bloc, Files, ORIGIN};

/// Where Debian puts Go's packages.
const GOPATH: &str = "/usr/share/gocode";

#[test]
fn logs_that_pouch_wrote_verify_with_gos_own_code_across_restarts() {
    let Some(checker) = checker() else { return };
    let (bloc, dir) = (Bloc::new(), tempfile::tempdir().unwrap());
    let sizes = [0, 1, 255, 256, 257, 65_539];
    let mut old = Vec::new();
    for written in 1..=sizes.len() {
        let size = sizes[written - 1];
        let files = bloc.log(&sizes[..written]);
        let log = on_disk(&files, &dir.path().join(size.to_string()));
        let said = check(checker, &bloc, &log, &old).unwrap();
        assert!(said.contains(&format!("{size} leaves, root ")), "{said}");
        assert!(said.contains(&format!(" {} consistency proofs", old.len() * (old.len() + 1) / 2)), "{said}");
        assert!(said.contains("witnessed by 3 bloc.example/mission/idn "), "{said}");
        // A log without leaves names no roster, so no trust bundle leads to it; Go is given the keys.
        assert_eq!(tiles::verify(&files, &bloc.trust, None).is_ok(), size > 0);
        old.push(log.join("checkpoint"));
    }
}

#[test]
fn gos_own_code_catches_a_changed_byte_in_every_file() {
    let Some(checker) = checker() else { return };
    let (bloc, dir) = (Bloc::new(), tempfile::tempdir().unwrap());
    let good = bloc.log(&[257]).all();
    let files: Vec<&String> = good.keys().filter(|path| !path.starts_with("roster/")).collect();
    let tiles =
        ["tile/0/000", "tile/0/001.p/1", "tile/1/000.p/1", "tile/entries/000", "tile/entries/001.p/1"];
    assert_eq!(files[0], "checkpoint");
    assert_eq!(files[1..], tiles);
    for path in files {
        for at in [0, good[path].len() / 2, good[path].len() - 2] {
            let mut changed = good.clone();
            changed.get_mut(path).unwrap()[at] ^= 1;
            let log =
                on_disk(&Files::of(changed), &dir.path().join(format!("{}-{at}", path.replace('/', "-"))));
            let said = check(checker, &bloc, &log, &[]).unwrap_err();
            assert!(said.starts_with("FAILED: "), "byte {at} of {path}: {said}");
        }
    }
}

#[test]
fn gos_own_code_tells_a_rewritten_log_from_the_one_that_was_kept() {
    let Some(checker) = checker() else { return };
    let (bloc, dir) = (Bloc::new(), tempfile::tempdir().unwrap());
    let kept = on_disk(&bloc.log(&[300]), &dir.path().join("kept")).join("checkpoint");
    let grown = on_disk(&bloc.log(&[100, 600]), &dir.path().join("grown"));
    check(checker, &bloc, &grown, std::slice::from_ref(&kept)).unwrap();
    // The same keys, and another first leaf: the roster is another one.
    let rewritten = Bloc { note: Bloc::new().note, ..bloc };
    let log = on_disk(&rewritten.log(&[600]), &dir.path().join("rewritten"));
    check(checker, &rewritten, &log, &[]).unwrap();
    let said = check(checker, &rewritten, &log, &[kept]).unwrap_err();
    assert!(said.contains("is not the beginning of"), "{said}");
}

#[test]
fn logs_that_pouch_wrote_verify_with_aics_tlog_and_a_changed_byte_does_not() {
    if Command::new("aics-tlog").arg("--version").output().is_err() {
        println!(
            "not verified with aics-tlog: install it with Python 3.12 or newer, `pip install aics-tlog`"
        );
        return;
    }
    let (bloc, dir) = (Bloc::new(), tempfile::tempdir().unwrap());
    let sizes = [1, 255, 256, 257, 65_539];
    let mut old: Option<PathBuf> = None;
    for written in 1..=sizes.len() {
        let size: u64 = sizes[written - 1];
        let log = on_disk(&bloc.log(&sizes[..written]), &dir.path().join(size.to_string()));
        assert!(aics_tlog(&bloc, &log, "verify-checkpoint", &[]), "{size}");
        for index in [0, size / 2, size - 1] {
            assert!(aics_tlog(&bloc, &log, "verify-inclusion", &["--index", &index.to_string()]), "{size}");
        }
        if let Some(old) = old.replace(log.join("checkpoint")) {
            let old = old.to_str().unwrap();
            assert!(aics_tlog(&bloc, &log, "verify-consistency", &["--old-checkpoint", old]), "{size}");
        }
    }
    for (path, command, index) in [
        ("checkpoint", "verify-checkpoint", None),
        ("tile/0/000", "verify-inclusion", Some("9")),
        ("tile/entries/000", "verify-inclusion", Some("0")),
    ] {
        let mut files = bloc.log(&[257]).all();
        files.get_mut(path).unwrap()[40] ^= 1;
        let log = on_disk(&Files::of(files), &dir.path().join(path.replace('/', "-")));
        let index: Vec<&str> = index.into_iter().flat_map(|index| ["--index", index]).collect();
        assert!(!aics_tlog(&bloc, &log, command, &index), "{path}");
    }
}

/// Whether the Python package is content with a log that all three witnesses must have signed.
fn aics_tlog(bloc: &Bloc, log: &Path, command: &str, more: &[&str]) -> bool {
    let mut aics = Command::new("aics-tlog");
    aics.args([command, "--log-key", &bloc.log_key.vkey(ORIGIN).unwrap().to_string(), "--quorum", "3"]);
    for vkey in witness_keys(bloc) {
        aics.args(["--witness-key", &vkey]);
    }
    let output = aics.args(more).arg("--tiles").arg(log).output().unwrap();
    // Whatever else ended it says no verdict, which is one object of JSON.
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(said.contains("\"ok\": "), "{said}{}", String::from_utf8_lossy(&output.stderr));
    output.status.success()
}

/// Writes a log's files as a relay does.
fn on_disk(files: &Files, folder: &Path) -> PathBuf {
    let files: Vec<_> = files.all().into_iter().collect();
    DiskFolder::open(folder).unwrap().put(&files).unwrap();
    folder.to_owned()
}

/// What the checker says of a log that all three witnesses must have signed; the error is why it fails.
fn check(checker: &Path, bloc: &Bloc, log: &Path, old: &[PathBuf]) -> Result<String, String> {
    let mut command = Command::new(checker);
    command.args(["-quorum", "3", "-log", &bloc.log_key.vkey(ORIGIN).unwrap().to_string()]);
    for vkey in witness_keys(bloc) {
        command.args(["-witness", &vkey]);
    }
    for path in old {
        command.arg("-old").arg(path);
    }
    let output = command.arg(log).output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    match output.status.code() {
        Some(0) => Ok(said),
        Some(1) => Err(said),
        _ => panic!("{}: {}", output.status, String::from_utf8_lossy(&output.stderr)),
    }
}

fn witness_keys(bloc: &Bloc) -> Vec<String> {
    let vkey = |(name, key): &(String, SigningKey)| {
        Vkey::new(name, KeyKind::Cosignature, key.public().0).unwrap().to_string()
    };
    bloc.witnesses.iter().map(vkey).collect()
}

/// The checker, built once; `None` where this machine has no Go.
fn checker() -> Option<&'static Path> {
    static BUILT: OnceLock<Option<PathBuf>> = OnceLock::new();
    BUILT.get_or_init(build).as_deref()
}

fn build() -> Option<PathBuf> {
    let has_go = Command::new("go").arg("version").output().is_ok();
    if !has_go || !Path::new(GOPATH).join("src/golang.org/x/mod/sumdb/tlog").is_dir() {
        let missing = "not verified with Go: install Debian's golang-go and golang-golang-x-mod-dev";
        assert_ne!(env::var("CI").as_deref(), Ok("true"), "{missing}");
        println!("{missing}");
        return None;
    }
    let target = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let (checker, cache) = (target.join("interop-check"), target.join("go-cache"));
    fs::create_dir_all(&cache).unwrap();
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/interop/check.go");
    let mut go = Command::new("go");
    go.args(["build", "-o"]).arg(&checker).arg(source);
    // Debian's packages alone: no modules, no network.
    go.env("GO111MODULE", "off").env("GOPATH", GOPATH).env("GOCACHE", cache).env("GOFLAGS", "");
    let built = go.output().unwrap();
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    Some(checker)
}
