//! A dispatch is proven by its sender and by its addressee, from what each desk keeps, and checked with nothing but the
//! trust bundle.

#![expect(clippy::unwrap_used, reason = "a test that cannot set up its world has failed")]

mod support;

use std::{
    fs,
    path::Path,
    process::{Command, Output},
    thread,
    time::{Duration, Instant},
};

use support::Site;

const TIME_MAX: Duration = Duration::from_secs(90);

fn pouch(folder: &Path, socket: &Path, arguments: &[&str]) -> Output {
    let mut pouch = Command::new(env!("CARGO_BIN_EXE_pouch"));
    pouch.args(arguments).env("POUCH_SOCKET", socket).current_dir(folder).output().unwrap()
}

fn words(output: &Output) -> String {
    String::from_utf8_lossy(&[&output.stdout[..], &output.stderr].concat()).into_owned()
}

/// Asks until the answer is as wanted: proofs come with the next checkpoint.
fn until(what: &str, ask: impl Fn() -> Output, wanted: impl Fn(&Output) -> bool) -> Output {
    let end = Instant::now() + TIME_MAX;
    loop {
        let output = ask();
        if wanted(&output) {
            return output;
        }
        assert!(Instant::now() < end, "{what}: {}", words(&output));
        thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn a_dispatch_is_proven_from_either_end_with_the_relay_gone() {
    let mut site = Site::new();
    for party in ["relay", "hub", "idn", "mys", "phl"] {
        site.start(party);
    }
    let folder = tempfile::tempdir().unwrap();
    let run = |party: &str, line: &str| {
        pouch(folder.path(), &site.socket(party), &line.split(' ').collect::<Vec<_>>())
    };
    let send = "send --to MOD --topic maritime --ack Vessel --json --wait delivered --timeout 60s";
    let sent = until("sent", || run("idn", send), |output| output.status.success());
    let id =
        serde_json::from_slice::<serde_json::Value>(&sent.stdout).unwrap()["id"].as_str().unwrap().to_owned();
    until("acknowledged", || run("hub", &format!("ack {id} -m Taken")), |output| output.status.success());
    assert_eq!(run("idn", "audit prove nothing").status.code(), Some(2));

    for (party, out) in [("idn", "sent"), ("hub", "received")] {
        let prove = format!("audit prove {id} --out {out}");
        let all = |output: &Output| {
            assert!(matches!(output.status.code(), Some(0 | 9)), "{}", words(output));
            output.status.success() && words(output).contains("with 3 receipts") && output.stderr.is_empty()
        };
        until(party, || run(party, &prove), all);
    }
    // By then a quorum has signed it, and the lists say so: three of four witnesses, for one is not there.
    for (party, list) in [("idn", "outbox"), ("hub", "inbox")] {
        let listed = words(&run(party, list));
        assert!(listed.contains("  by 3 of 4  "), "{list}: {listed}");
        let line: serde_json::Value =
            serde_json::from_slice(&run(party, &format!("{list} --json")).stdout).unwrap();
        assert_eq!(line["witnessed"], serde_json::json!({"by": 3, "of": 4}), "{list}: {line}");
    }
    let trust = run("idn", "audit trust export --out trust.toml");
    assert!(trust.status.success(), "{}", words(&trust));
    assert!(run("idn", &format!("audit prove {id} --with-content --out content")).status.success());
    let shown = run("idn", &format!("audit prove {id}"));
    assert_eq!(shown.stdout, fs::read(folder.path().join("sent")).unwrap(), "the same bytes each time");

    for party in ["relay", "hub", "idn", "mys", "phl"] {
        site.kill(party);
    }
    let nowhere = folder.path().join("no.sock");
    for file in ["sent", "received", "content"] {
        let line = ["audit", "check", file, "--trust", "trust.toml"];
        let checked = pouch(folder.path(), &nowhere, &line);
        let said = words(&checked);
        assert_eq!(checked.status.code(), Some(0), "{file}: {said}");
        for part in [
            "from      IDN",
            "to        MOD",
            "delivered by MOD",
            "acknowledged by MOD",
            "each name roster 1",
        ] {
            assert!(said.contains(part), "{file}: {part}\n{said}");
        }
        assert!(said.contains("orders stand in the log: give it with --log"), "{said}");
        assert_eq!(said.contains("subject   Vessel"), file == "content", "{said}");
        assert_eq!(said.contains(": Taken"), file == "content", "{said}");
        // The log that the relay has left.
        let log = site.dir("relay").join("log");
        let whole = pouch(folder.path(), &nowhere, &[&line[..], &["--log", log.to_str().unwrap()]].concat());
        let said = words(&whole);
        assert_eq!(whole.status.code(), Some(0), "{file}: {said}");
        assert!(said.contains("the log shows roster 1 before the envelope"), "{file}: {said}");
        assert!(!said.contains("--log"), "{file}: {said}");
    }
}
