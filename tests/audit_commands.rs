//! `pouch audit` as an auditor runs it: files, exit codes, words.

#![expect(clippy::unwrap_used, reason = "a test that cannot set up its world has failed")]

#[allow(dead_code, reason = "shared with tests/audit.rs")]
#[path = "audit/bloc.rs"]
mod bloc;

use std::{
    fs,
    path::Path,
    process::{Command, Output},
};

use bloc::{Bloc, Files};
use pouch::tiles::Folder;

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
    let stranger = laid_out(&Bloc::new(), &log);
    assert_eq!(pouch(stranger.path(), export).status.code(), Some(8));
    assert_eq!(pouch(folder.path(), "trust export --log log").status.code(), Some(2), "by what to verify it");
}
