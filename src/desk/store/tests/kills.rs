//! SQLite's durability as this store uses it: a child process commits as fast as it can and is killed
//! with -9 in the middle, again and again on one file.

use std::{
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Command, Stdio},
};

use super::*;

/// Where the child finds folder and trust bundle.
const FOLDER: &str = "POUCH_TEST_STORE";
/// Answered dispatches of one life of the child, at least.
const ANSWERED: usize = 150;
const LIVES: usize = 4;

/// Run by the test below in a process of its own, which is killed: hands in dispatches, eight under one sync
/// as the store's thread does, and says each id once it was answered.
#[test]
#[ignore = "runs until it is killed"]
fn hands_in_dispatches_without_end() {
    let folder = std::env::var_os(FOLDER).expect("the parent names it");
    let bundle = std::fs::read_to_string(Path::new(&folder).join("trust.toml")).unwrap().parse().unwrap();
    let mut store = Store::open(Path::new(&folder), id("IDN"), &bundle).unwrap();
    loop {
        let together = store.together(|store| {
            (0..8).map(|_| store.enqueue(dispatch("MOD", "routine", "x"), now()).unwrap()).collect::<Vec<_>>()
        });
        let mut out = std::io::stdout().lock();
        for sent in together.unwrap() {
            writeln!(out, "answered {} {}", sent.id, sent.reference).unwrap();
        }
    }
}

#[test]
fn every_answered_dispatch_is_found_after_kills_in_the_middle_of_commits() {
    let bloc = Bloc::new();
    let folder = TempDir::new().unwrap();
    std::fs::write(folder.path().join("trust.toml"), bloc.bundle.to_string()).unwrap();
    let mut store = Store::open(folder.path(), id("IDN"), &bloc.bundle).unwrap();
    store.learn_roster(None, bloc.roster.clone(), &bloc.note).unwrap();
    drop(store);
    let mut answered = Vec::new();
    for _ in 0..LIVES {
        answered.extend(one_life(folder.path()));
        let store = Store::open(folder.path(), id("IDN"), &bloc.bundle).unwrap();
        for (id, reference) in &answered {
            assert_eq!(store.outgoing(id).unwrap().reference, *reference);
        }
        let sql = "SELECT count(*), (SELECT last FROM registry) FROM outbox";
        let (rows, last): (usize, usize) =
            store.connection.query_row(sql, [], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
        assert_eq!(rows, last, "references have no gap: a commit is whole or absent");
    }
    assert!(answered.len() >= LIVES * ANSWERED);
}

/// Starts the child, reads what it has answered, kills it, and reads the rest: id and reference of each.
fn one_life(folder: &Path) -> Vec<(String, String)> {
    let name = "desk::store::tests::kills::hands_in_dispatches_without_end";
    let mut child = Command::new(std::env::current_exe().expect("a test binary has a path"))
        .args(["--ignored", "--exact", "--nocapture", name])
        .env(FOLDER, folder)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut answered = Vec::new();
    for line in BufReader::new(child.stdout.take().unwrap()).lines() {
        let line = line.unwrap();
        // A kill may cut the last line short.
        if let [_, id, reference] = line.split(' ').collect::<Vec<_>>()[..]
            && line.starts_with("answered ")
            && reference.len() == "IDN/2026/0000".len()
        {
            answered.push((id.to_owned(), reference.to_owned()));
        }
        if answered.len() == ANSWERED {
            child.kill().unwrap();
        }
    }
    child.wait().unwrap();
    answered
}
