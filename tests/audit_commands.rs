//! `pouch audit` as an auditor runs it: files, exit codes, words.

#![expect(clippy::unwrap_used, reason = "a test that cannot set up its world has failed")]

#[allow(dead_code, reason = "shared with tests/audit.rs")]
#[path = "audit/bloc.rs"]
mod bloc;
#[allow(dead_code, reason = "shared with tests/proof_file.rs")]
#[path = "audit/dispatch.rs"]
mod dispatch;

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    net::{SocketAddr, TcpListener},
    path::Path,
    process::{Command, Output},
};

use bloc::{Bloc, Files};
use dispatch::{Plan, World};
use pouch::{tiles::Folder, wire::order::OrderKind};

fn pouch(folder: &Path, line: &str) -> Output {
    let arguments = line.split_whitespace();
    Command::new(env!("CARGO_BIN_EXE_pouch"))
        .arg("audit")
        .args(arguments)
        .current_dir(folder)
        .output()
        .unwrap()
}

/// A folder with `log` and `trust.toml`.
fn laid_out(bloc: &Bloc, log: &Files) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    log.write_to(&folder.path().join("log"));
    fs::write(folder.path().join("trust.toml"), bloc.trust.to_string()).unwrap();
    folder
}

#[test]
fn a_trust_bundle_is_exported_from_a_log_that_a_quorum_has_witnessed_and_from_no_other() {
    let bloc = Bloc::new();
    let log = bloc.log(&[20]);
    let folder = laid_out(&bloc, &log);
    let export = "trust export --log log --trust trust.toml";
    let shown = pouch(folder.path(), export);
    assert_eq!(
        (shown.status.code(), String::from_utf8_lossy(&shown.stdout).into_owned()),
        (Some(0), bloc.trust.to_string())
    );
    let written = pouch(folder.path(), &format!("{export} --out new.toml"));
    assert!(written.status.success(), "{written:?}");
    assert_eq!(fs::read_to_string(folder.path().join("new.toml")).unwrap(), bloc.trust.to_string());

    let found = pouch::tiles::verify(&log, &bloc.trust, None).unwrap();
    log.put(&[("checkpoint".into(), bloc.checkpoint(&found.checkpoint, 1))]).unwrap();
    let unwitnessed = laid_out(&bloc, &log);
    assert_eq!(pouch(unwitnessed.path(), export).status.code(), Some(9));
    let verify = "verify log --trust trust.toml";
    let (code, out, err) = words(&pouch(unwitnessed.path(), verify));
    assert!(
        code == Some(9) && (out + &err).contains("are a quorum"),
        "all fits, and too few have signed: {err}"
    );
    let stranger = laid_out(&Bloc::new(), &log);
    assert_eq!(pouch(stranger.path(), export).status.code(), Some(8));
    assert_eq!(pouch(stranger.path(), verify).status.code(), Some(8));
    assert_eq!(pouch(folder.path(), "trust export --log log").status.code(), Some(2), "by what to verify it");
}

/// A folder with `proof`, `log` and `trust.toml`.
fn with_proof(world: &World) -> tempfile::TempDir {
    let folder = laid_out(&world.bloc, &world.files());
    fs::write(folder.path().join("proof"), world.file().to_string()).unwrap();
    folder
}

fn words(output: &Output) -> (Option<i32>, String, String) {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

#[test]
fn a_proof_file_is_checked_offline_and_said_in_plain_words() {
    let world = World::new(Plan::default());
    let folder = with_proof(&world);
    let (code, out, err) = words(&pouch(folder.path(), "check proof --trust trust.toml"));
    assert_eq!((code, err.as_str()), (Some(0), ""), "{out}");
    let hash = out.lines().nth(1).unwrap().to_owned();
    let expected = format!("\
dispatch  01010101-0101-0101-0101-010101010101
{hash}
from      IDN
to        MOD
info      MYS
accepted  by the relay at 2026-11-18T11:06:40Z, leaf 3, witnessed by 3 (2 are a quorum of roster 1)
receipt   delivered by MOD at 2026-11-18T11:06:40Z, leaf 4, witnessed by 3 (2 are a quorum of roster 1)
receipt   delivered by MYS at 2026-11-18T11:06:40Z, leaf 5, witnessed by 3 (2 are a quorum of roster 1)
receipt   acknowledged by MOD at 2026-11-18T11:06:40Z, leaf 6, witnessed by 3 (2 are a quorum of roster 1): Watch officer: Coast guard informed
subject   Unlit vessel
key       of IDN, in force: sender, relay and an addressee each name roster 1
unproven  that no order suspended a signer: orders stand in the log: give it with --log
unproven  which person wrote or released it: a desk signs, and its people are its own

Two miles east.
");
    assert_eq!(out, expected);

    let (code, out, _) = words(&pouch(folder.path(), "check proof --trust trust.toml --log log"));
    assert_eq!(code, Some(0));
    assert!(
        out.contains("key       of IDN, in force: the log shows roster 1 before the envelope\n"),
        "{out}"
    );
    assert!(!out.contains("orders stand in the log"), "{out}");
    let (code, out, _) = words(&pouch(folder.path(), "check proof --trust trust.toml --json"));
    let verdict: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!((code, &verdict["proven"], &verdict["key_in_force"]), (Some(0), &true.into(), &true.into()));
    assert_eq!((&verdict["sender"], &verdict["receipts"][1]["by"]), (&"IDN".into(), &"MYS".into()));
}

#[test]
fn a_refusal_and_a_suspension_by_order_are_said_in_plain_words() {
    let orders = vec![
        ("MOD", OrderKind::Suspend { party: dispatch::IDN, until_s: 1_800_000_000 }),
        ("MOD", OrderKind::Lift { party: dispatch::IDN }),
    ];
    let world = World::new(Plan { is_refused: true, orders, ..Plan::default() });
    let folder = with_proof(&world);
    let (code, out, err) = words(&pouch(folder.path(), "check proof --trust trust.toml"));
    assert_eq!(code, Some(0), "{err}");
    for line in [
        "refused   by the relay at 2026-11-18T11:06:40Z, leaf 3, witnessed by 3 (2 are a quorum of roster 1)\n",
        "receipt   refused by RELAY for IDN at 1970-01-01T00:00:00Z, leaf 3, witnessed by 3 (2 are a quorum of roster 1): TOPIC\n",
        "unproven  that no order suspended a signer: orders stand in the log: give it with --log\n",
        "unproven  that the relay was right to refuse it: the reason is its own word\n",
    ] {
        assert!(out.contains(line), "{line}\n{out}");
    }
    assert!(!out.contains("no receipt is no proof"), "it went nowhere: {out}");

    let address = mirror(world.files(), |_| None);
    for log in ["log".to_owned(), format!("http://{address}/log/")] {
        let line = format!("check proof --trust trust.toml --log {log}");
        let (code, out, err) = words(&pouch(folder.path(), &line));
        assert_eq!(code, Some(0), "{err}");
        assert!(
            out.contains("since     IDN was suspended by order 1 (leaf 4), lifted by order 2\n"),
            "{out}"
        );
        let (_, out, _) = words(&pouch(folder.path(), &(line + " --json")));
        let verdict: serde_json::Value = serde_json::from_str(&out).unwrap();
        assert_eq!(verdict["refused_at_us"], 1_795_000_000_000_003_u64);
        assert_eq!(verdict["accepted_at_us"], serde_json::Value::Null);
        let order =
            serde_json::json!({"number": 1, "position": 4, "until_s": 1_800_000_000_u64, "lifted_by": 2});
        assert_eq!(verdict["revoked_since"][0]["order"], order);
    }
    let (code, _, err) =
        words(&pouch(folder.path(), "check proof --trust trust.toml --log http://127.0.0.1:1/"));
    assert_eq!(code, Some(3), "{err}");
    let nameless = "check proof --trust trust.toml --log https://127.0.0.1:1/";
    assert_eq!(pouch(folder.path(), nameless).status.code(), Some(2), "with which certificate");
}

#[test]
fn without_the_right_bundle_nothing_is_proven_and_the_first_failing_thing_is_named() {
    let world = World::new(Plan::default());
    let folder = with_proof(&world);
    let (code, out, err) = words(&pouch(folder.path(), "check proof"));
    assert_eq!(code, Some(9), "{out}");
    assert!(err.contains("internally consistent, nothing proven"), "{err}");
    assert!(out.contains("unproven  all of it"), "{out}");

    fs::write(folder.path().join("other.toml"), Bloc::new().trust.to_string()).unwrap();
    let (code, _, err) = words(&pouch(folder.path(), "check proof --trust other.toml"));
    assert_eq!(code, Some(8));
    assert!(err.starts_with("pouch: not proven: roster 1: "), "{err}");

    let mut file = world.file();
    file.receipts[1].item.signature.signature[5] ^= 1;
    fs::write(folder.path().join("flipped"), file.to_string()).unwrap();
    let (code, _, err) = words(&pouch(folder.path(), "check flipped --trust trust.toml"));
    assert_eq!(code, Some(8));
    assert!(err.starts_with("pouch: not proven: receipt 2: the batch signature"), "{err}");

    let mut file = world.file();
    file.envelope.leaf.checkpoint = world.checkpoint(1);
    fs::write(folder.path().join("unwitnessed"), file.to_string()).unwrap();
    assert_eq!(pouch(folder.path(), "check unwitnessed --trust trust.toml").status.code(), Some(9));

    fs::write(folder.path().join("text"), "Dear Sir").unwrap();
    assert_eq!(pouch(folder.path(), "check text --trust trust.toml").status.code(), Some(8));
    assert_eq!(pouch(folder.path(), "check nothing --trust trust.toml").status.code(), Some(2));
    assert_eq!(
        pouch(folder.path(), "check proof --log log").status.code(),
        Some(2),
        "a log without a bundle"
    );

    // Silence is no proof, and content is not there unless it was put in.
    let mut file = world.file();
    file.ciphertext = None;
    file.receipts.clear();
    fs::write(folder.path().join("bare"), file.to_string()).unwrap();
    let (code, out, _) = words(&pouch(folder.path(), "check bare --trust trust.toml"));
    assert_eq!(code, Some(0));
    for unproven in [
        "that the key was in force then: give the log with --log",
        "what became of it at MOD MYS: no receipt is no proof that it did not arrive",
        "what it said: the file was made without --with-content",
    ] {
        assert!(out.contains(&format!("unproven  {unproven}\n")), "{out}");
    }
}

/// Serves files below `/log` over plain HTTP, as a mirror would, until the test ends. What `change` gives comes instead of
/// a file: the whole answer. Every third answer closes its connection.
fn mirror(files: Files, change: fn(&str) -> Option<Vec<u8>>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let mut stream = BufReader::new(stream);
            for _ in 0..3 {
                let mut lines = Vec::new();
                while lines.last().is_none_or(|line: &String| line != "\r\n") {
                    let mut line = String::new();
                    if stream.read_line(&mut line).unwrap_or(0) == 0 {
                        break;
                    }
                    lines.push(line);
                }
                let Some(name) = lines.first().and_then(|line| line.split(' ').nth(1)?.strip_prefix("/log/"))
                else {
                    break;
                };
                let answer = change(name).unwrap_or_else(|| {
                    let file = files.read(name).unwrap();
                    let (status, body) = file.map_or(("404 Not Found", Vec::new()), |file| ("200 OK", file));
                    [
                        format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n", body.len()).into_bytes(),
                        body,
                    ]
                    .concat()
                });
                if stream.get_mut().write_all(&answer).is_err() {
                    break;
                }
            }
        }
    });
    address
}

#[test]
fn a_log_verifies_from_a_mirror_over_plain_http_and_a_mirror_that_lies_is_found_out() {
    let bloc = Bloc::new();
    let log = bloc.log(&[300, 600]);
    let folder = laid_out(&bloc, &log);
    let verify = |change: fn(&str) -> Option<Vec<u8>>| {
        let address = mirror(log.clone(), change);
        words(&pouch(folder.path(), &format!("verify http://{address}/log/ --trust trust.toml")))
    };
    let (code, out, err) = verify(|_| None);
    assert_eq!(code, Some(0), "{err}");
    assert!(out.contains("leaves     600, of them 2 administrative"), "{out}");

    let (code, _, err) = verify(|name| {
        (name == "tile/0/001").then(|| b"HTTP/1.1 404 No\r\ncontent-length: 0\r\n\r\n".to_vec())
    });
    assert_eq!(code, Some(8), "{err}");
    assert!(err.contains("leaf 256: the tile over it is missing"), "{err}");
    let (code, _, err) = verify(|name| {
        (name == "checkpoint").then(|| b"HTTP/1.1 500 No\r\ncontent-length: 5\r\n\r\nbusy\n".to_vec())
    });
    assert_eq!(code, Some(3), "{err}");
    assert!(err.contains("checkpoint: the answer is 500: busy: check address"), "{err}");
    let (code, _, err) = verify(|name| {
        let endless = [&b"HTTP/1.1 200 OK\r\ncontent-length: 99999999\r\n\r\n"[..], &[b'x'; 20_000]].concat();
        (name == "checkpoint").then_some(endless)
    });
    assert_eq!(code, Some(3), "{err}");
    assert!(err.contains("length limit exceeded"), "a file has a bound: {err}");
    for (url, code) in [("ftp://127.0.0.1/", 2), ("https://127.0.0.1:1", 2), ("http://127.0.0.1:1", 3)] {
        assert_eq!(
            pouch(folder.path(), &format!("verify {url} --trust trust.toml")).status.code(),
            Some(code),
            "{url}"
        );
    }
}
