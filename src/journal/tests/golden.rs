//! A small journal as it was written when its formats were fixed, committed: segments with bases, data, carried,
//! seal and end batches; an archive; a roster's note. Every version from then on reads it, or refuses it by number.
//!
//! `POUCH_UPDATE=1 cargo test --lib journal::tests::golden` writes it anew, which is right only for a new version.

use std::fs;
use std::path::{Path, PathBuf};

use super::*;
use crate::exchange::tests::{desk::bundle, replay::busy};
use crate::exchange::{Exchange, ReplayError};
use crate::journal::segment::{BOUNDARY_BYTES, Kind};
use crate::journal::{FileDisk, note, observe};
use crate::limits::Limits;
use crate::roster::TrustBundle;

#[derive(Debug, thiserror::Error)]
enum StartError {
    #[error(transparent)]
    Journal(#[from] JournalError),
    #[error(transparent)]
    Replay(#[from] ReplayError),
}

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/journal")
}

/// What a segment holds: its boundaries that are not all zeros, each `u32 number || u32 length || bytes`.
fn pack(segment: &[u8]) -> Vec<u8> {
    let mut packed = Vec::new();
    for (number, block) in (0u32..).zip(segment.chunks(BOUNDARY_BYTES)) {
        let length = block.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        if length > 0 {
            packed.extend_from_slice(&number.to_be_bytes());
            packed.extend_from_slice(&u32::try_from(length).expect("small").to_be_bytes());
            packed.extend_from_slice(&block[..length]);
        }
    }
    packed
}

fn unpack(mut packed: &[u8]) -> Vec<u8> {
    let mut segment = vec![0; usize::try_from(OPTIONS.segment_bytes).expect("small")];
    while !packed.is_empty() {
        let number = |at: usize| u32::from_be_bytes(packed[at..at + 4].try_into().expect("4 bytes")) as usize;
        let (start, length) = (number(0) * BOUNDARY_BYTES, number(4));
        segment[start..start + length].copy_from_slice(&packed[8..8 + length]);
        packed = &packed[8 + length..];
    }
    segment
}

fn files(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let entries = fs::read_dir(folder).expect("it is there").map(|entry| entry.expect("readable"));
    let mut files: Vec<_> = entries
        .map(|entry| {
            let name = entry.file_name().into_string().expect("ours");
            (name, fs::read(entry.path()).expect("readable"))
        })
        .collect();
    files.sort();
    files
}

/// Size and root of the log, and what somebody still waits for.
fn told(exchange: &Exchange) -> String {
    let needed = exchange.needed_below(Position::NONE);
    let needed: Vec<String> = needed.iter().map(ToString::to_string).collect();
    format!("size {}\nroot {}\nneeded {}\n", exchange.tree().size(), exchange.tree().root(), needed.join(" "))
}

fn write_anew() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let disk: Arc<dyn Disk> = Arc::new(FileDisk::open(directory.path()).expect("ours"));
    let mut ignore = |_| Ok::<(), JournalError>(());
    let recovered = recover(disk, OPTIONS, &mut ignore).expect("empty");
    let mut exchange = Exchange::new(Limits::DEFAULT, bundle());
    let (mut writer, _) = recovered.open(&exchange.base(), &mut ignore).expect("the disk is well");
    for (position, record) in (0..).map(Position).zip(busy().durable) {
        if position.0 == 8 || position.0 == 14 {
            writer.roll(&exchange.base()).expect("the disk is well");
        }
        writer.append(std::slice::from_ref(&record)).expect("the disk is well");
        exchange.replay(position, &record).expect("it was written here");
    }
    let needed = exchange.needed_below(writer.oldest_end().expect("three segments"));
    assert!(writer.retire_oldest(&needed).expect("the disk is well"));
    drop(writer);
    fs::create_dir_all(golden()).expect("ours");
    for (name, bytes) in files(directory.path()) {
        match name.split('-').next() {
            Some("segment") => fs::write(golden().join(name), pack(&bytes)).expect("ours"),
            Some("archive" | "note") => fs::write(golden().join(name), bytes).expect("ours"),
            _ => {}
        }
    }
    fs::write(golden().join("trust.toml"), bundle().to_string()).expect("ours");
    fs::write(golden().join("told.txt"), told(&exchange)).expect("ours");
}

/// FAULTS 29 and 39.
#[test]
fn the_committed_journal_is_read_as_it_was_meant() {
    if std::env::var_os("POUCH_UPDATE").is_some() {
        write_anew();
    }
    let directory = tempfile::tempdir().expect("a temporary directory");
    let mut kinds = Vec::new();
    for (name, bytes) in files(&golden()).into_iter().filter(|(name, _)| name.contains('-')) {
        let bytes = if name.starts_with("segment-") { unpack(&bytes) } else { bytes };
        if name.starts_with("segment-") {
            let boundaries = bytes.chunks(BOUNDARY_BYTES);
            kinds.extend(boundaries.filter_map(super::super::segment::BatchHeader::decode).map(|h| h.kind));
        }
        fs::write(directory.path().join(name), bytes).expect("ours");
    }
    for kind in [Kind::Base, Kind::Data, Kind::Carried, Kind::Seal, Kind::End] {
        assert!(kinds.contains(&Ok(kind)), "no batch of kind {kind:?}");
    }

    let trust = fs::read_to_string(golden().join("trust.toml")).expect("it is there");
    let trust: TrustBundle = trust.parse().expect("a bundle");
    let disk: Arc<dyn Disk> = Arc::new(FileDisk::open(directory.path()).expect("ours"));
    let (notes, mut is_first) = (disk.clone(), true);
    let mut exchange = Exchange::new(Limits::DEFAULT, trust);
    let mut replay = |exchange: &mut Exchange, replayed| match replayed {
        Replayed::Base(base) if std::mem::take(&mut is_first) => {
            exchange.restore::<StartError>(&base, |position| Ok(note(&*notes, position)?))
        }
        Replayed::Base(base) => Ok(exchange.replay_base(&base)?),
        Replayed::Record(position, record) => Ok(exchange.replay(position, &record)?),
        Replayed::Archived(..) => panic!("only an observer is told of the past"),
    };
    let recovered = recover(disk.clone(), OPTIONS, &mut |replayed| replay(&mut exchange, replayed));
    let recovered = recovered.expect("this version reads it");
    let base = exchange.base();
    let opened = recovered.open(&base, &mut |replayed| replay(&mut exchange, replayed));
    let (_writer, reader) = opened.expect("this version goes on from it");
    assert_eq!(told(&exchange), fs::read_to_string(golden().join("told.txt")).expect("it is there"));
    for position in exchange.needed_below(Position::NONE) {
        assert!(reader.load(position).is_ok(), "{position}");
    }
    let mut positions = Vec::new();
    let disk = FileDisk::observe(directory.path()).expect("a folder");
    observe::<JournalError>(&disk, &mut |replayed| {
        if let Replayed::Archived(position, _) | Replayed::Record(position, _) = replayed {
            positions.push(position.0);
        }
        Ok(())
    })
    .expect("the log from its beginning");
    assert!(positions.iter().copied().eq(0..exchange.tree().size()), "{positions:?}");
}
