//! What the fuzzers found worth keeping, replayed through the functions that they call.

#[path = "../fuzz/src/lib.rs"]
#[allow(dead_code, reason = "a module of its own package")]
mod targets;

use std::{
    fs,
    path::{Path, PathBuf},
};

use proptest::{collection::vec, prelude::*, sample::Index};

type Target = (&'static str, fn(&[u8]));

const TARGETS: [Target; 12] = [
    ("frame", targets::frame::run),
    ("envelope", targets::envelope::run),
    ("journal", targets::journal::run),
    ("roster", targets::roster::run),
    ("session", targets::session::run),
    ("note", targets::log::note),
    ("checkpoint", targets::log::checkpoint),
    ("proof", targets::log::proof),
    ("path", targets::log::path),
    ("bundle", targets::log::bundle),
    ("opening", targets::log::opening),
    ("proof_file", targets::proof_file::run),
];
/// Bytes of all corpora together, so that they stay small.
const CORPORA_BYTES_MAX: u64 = 300 * 1024;

fn corpus(target: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let entries = fs::read_dir(&folder).expect("the corpus is there");
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.expect("readable").path()).collect();
    files.sort();
    assert!(!files.is_empty(), "{target} has a corpus");
    files
}

#[test]
fn the_corpora_replay_and_break_no_promise() {
    for (target, run) in TARGETS {
        for file in corpus(target) {
            // Seen only where it panics: then this is the input to look at.
            eprintln!("{}", file.display());
            run(&fs::read(&file).expect("readable"));
        }
    }
}

#[test]
fn the_corpora_stay_small() {
    let files = TARGETS.iter().flat_map(|(target, _)| corpus(target));
    let bytes: u64 = files.map(|file| file.metadata().expect("readable").len()).sum();
    assert!(bytes <= CORPORA_BYTES_MAX, "{bytes} bytes; minimise them with `cargo fuzz cmin`");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_corpus_changed_anywhere_breaks_no_promise(
        target in 0..TARGETS.len(), file: Index, changes in vec((any::<Index>(), any::<u8>(), any::<bool>()), 1..8), cut: Option<Index>,
    ) {
        let (name, run) = TARGETS[target];
        let mut bytes = fs::read(file.get(&corpus(name))).expect("readable");
        for (at, value, inserts) in changes {
            let at = at.index(bytes.len() + 1);
            match bytes.get_mut(at).filter(|_| !inserts) {
                Some(byte) => *byte = value,
                None => bytes.insert(at, value),
            }
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len() + 1));
        }
        run(&bytes);
    }
}
