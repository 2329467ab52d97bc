//! The files under `packaging/`: what systemd itself finds in them, and that no daemon is started again
//! blindly after what a person must look at.

#![expect(clippy::unwrap_used, reason = "a test that panics has failed")]

use std::{
    fs,
    io::ErrorKind,
    path::{Path, PathBuf},
    process::Command,
};

#[test]
fn no_daemon_is_started_again_after_an_exit_that_a_person_must_look_at() {
    for (path, text) in units() {
        let line = text.lines().find_map(|line| line.strip_prefix("RestartPreventExitStatus="));
        assert_eq!(line, Some("70 71 72 73 78"), "{}", path.display());
    }
}

#[test]
fn every_unit_starts_a_daemon_that_this_build_has() {
    for (path, text) in units() {
        let line = text.lines().find_map(|line| line.strip_prefix("ExecStart=/usr/bin/pouch ")).unwrap();
        let help = Command::new(env!("CARGO_BIN_EXE_pouch")).args(line.split(' ')).arg("--help").output();
        assert!(help.unwrap().status.success(), "{}: {line}", path.display());
    }
}

/// Only where systemd is installed.
#[test]
fn systemd_finds_no_fault_in_the_units() {
    let folder = tempfile::tempdir().unwrap();
    let mut verify = Command::new("systemd-analyze");
    verify.arg("verify").env("SYSTEMD_LOG_LEVEL", "warning");
    for (path, text) in units() {
        // The program itself is not installed where tests run.
        let text = text.replace("/usr/bin/pouch", env!("CARGO_BIN_EXE_pouch"));
        let copy = folder.path().join(path.file_name().unwrap());
        fs::write(&copy, text).unwrap();
        verify.arg(copy);
    }
    match verify.output() {
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => panic!("systemd-analyze: {error}"),
        Ok(output) => {
            let words = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(output.status.success() && !words.contains("pouch"), "{words}");
        }
    }
}

fn units() -> Vec<(PathBuf, String)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging/systemd");
    let paths = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let units: Vec<_> = paths.map(|path| (path.clone(), fs::read_to_string(path).unwrap())).collect();
    assert_eq!(units.len(), 3, "relay, mission and hub");
    units
}
