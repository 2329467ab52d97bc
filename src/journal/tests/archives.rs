//! Damage to archives, notes and carried batches is refused, and so are formats of another version.

use super::damage::{DENSE_BYTES, batches, found};
use super::sim::SimDisk;
use super::*;
use crate::journal::archive::{self, Span};
use crate::journal::segment::{BATCH_HEADER_BYTES, Kind};
use crate::merkle::sha256;

const SPAN: Span = Span { first: 0, end: 3 };
const NOTE: &[u8] = b"a roster";

/// As an administrative record is: with its note beside it.
fn administrative() -> Record {
    let leaf = Bytes::from_static(&[1, 2, 1, 7, 7]);
    Record { leaf, body: Bytes::from_static(NOTE), ..Record::default() }
}

/// A journal whose first segment, with a note at position 1, is archived.
fn archived() -> SimDisk {
    let disk = SimDisk::new(1);
    let mut ignore = |_| Ok::<(), JournalError>(());
    let recovered = recover(disk.shared(), OPTIONS, &mut ignore).expect("an empty disk");
    let (mut writer, _) = recovered.open(&[], &mut ignore).expect("the disk is well");
    writer.append(&[record(0), administrative(), record(2)]).expect("the disk is well");
    writer.roll(&[]).expect("the disk is well");
    assert!(writer.retire_oldest(&[]).expect("the disk is well"));
    disk
}

fn archive_name(disk: &SimDisk) -> String {
    let names = disk.list().expect("the disk is well");
    names.into_iter().find(|name| name.starts_with("archive-")).expect("archived")
}

fn read_archive(disk: &SimDisk) -> Result<Vec<Record>, JournalError> {
    let mut records = Vec::new();
    archive::read(&*disk.shared(), SPAN, |_, record| {
        records.push(record);
        Ok::<(), JournalError>(())
    })?;
    Ok(records)
}

#[test]
fn an_archive_holds_leaf_salt_and_opening_and_a_note_is_as_it_was() {
    let disk = archived();
    let bare = |record: Record| Record { header: Bytes::new(), body: Bytes::new(), ..record };
    let expected = [record(0), administrative(), record(2)].map(bare);
    assert_eq!(read_archive(&disk).expect("whole"), expected);
    assert_eq!(archive::read_note(&*disk.shared(), Position(1)).expect("whole"), NOTE);
}

/// FAULTS 4 and 6, of archives.
#[test]
fn every_truncation_extension_and_flipped_bit_of_an_archive_is_refused() {
    let disk = archived();
    let name = archive_name(&disk);
    let whole = disk.bytes(&name);
    for length in 0..whole.len() {
        disk.tamper(&name, |bytes| bytes.truncate(length));
        let refused = read_archive(&disk).expect_err("refused");
        assert_eq!(refused.exit_code(), 71, "cut at {length}: {refused}");
        disk.tamper(&name, |bytes| bytes.clone_from(&whole));
    }
    disk.tamper(&name, |bytes| bytes.push(0));
    assert_eq!(read_archive(&disk).expect_err("refused").exit_code(), 71);
    disk.tamper(&name, |bytes| bytes.clone_from(&whole));
    for bit in 0..whole.len() * 8 {
        disk.tamper(&name, |bytes| bytes[bit / 8] ^= 1 << (bit % 8));
        let refused = read_archive(&disk).expect_err("refused");
        let version = u32::from_be_bytes(disk.bytes(&name)[8..12].try_into().expect("4 bytes"));
        let expected = if (1..=3).contains(&version) { 71 } else { 78 };
        assert_eq!(refused.exit_code(), expected, "bit {bit}: {refused}");
        disk.tamper(&name, |bytes| bytes[bit / 8] ^= 1 << (bit % 8));
    }
    assert!(read_archive(&disk).is_ok(), "whole again");
}

/// FAULTS 29.
#[test]
fn an_archive_of_a_newer_version_is_refused_by_its_number() {
    let disk = archived();
    let name = archive_name(&disk);
    disk.tamper(&name, |bytes| {
        bytes[11] = 4;
        let end = bytes.len() - 32;
        let hash = sha256(&bytes[..end]);
        bytes[end..].copy_from_slice(hash.as_bytes());
    });
    let refused = read_archive(&disk).expect_err("refused");
    assert!(matches!(&refused, JournalError::Unsupported { what, .. } if what == "version 4"), "{refused}");
}

#[test]
fn a_note_longer_than_any_is_refused_before_it_is_read() {
    let disk = archived();
    disk.tamper("note-0000000000000001", |bytes| bytes.resize(crate::limits::ROSTER_BYTES_MAX + 1, 0));
    let refused = archive::read_note(&*disk.shared(), Position(1)).expect_err("refused");
    assert_eq!(refused.exit_code(), 71, "{refused}");
}

/// FAULTS 6, of carried batches: by then no other copy of their records is left.
#[test]
fn every_flipped_bit_of_a_carried_batch_is_refused_at_its_place() {
    let disk = SimDisk::new(2);
    let (mut writer, ..) = start(disk.shared()).expect("the disk is well");
    append(&mut writer, 3).expect("the disk is well");
    writer.roll(&3u64.to_be_bytes()).expect("the disk is well");
    append(&mut writer, 1).expect("the disk is well");
    assert!(writer.retire_oldest(&[Position(0), Position(2)]).expect("the disk is well"));
    drop(writer);
    let segment = disk.segments().pop().expect("one is left");
    let batches = batches(&disk.bytes(&segment));
    let carried = batches.iter().find(|(_, header)| header.kind == Ok(Kind::Carried));
    let (offset, header) = *carried.expect("two records were carried");
    let used = BATCH_HEADER_BYTES + usize::try_from(header.length).expect("small");
    assert!(used <= DENSE_BYTES, "{used}");
    assert_eq!(found(&disk), Ok(4));
    for bit in offset * 8..(offset + used) * 8 {
        disk.tamper(&segment, |bytes| bytes[bit / 8] ^= 1 << (bit % 8));
        let refused = found(&disk).expect_err("refused");
        assert_eq!(refused, (segment.clone(), offset as u64, 4), "bit {bit}");
        disk.tamper(&segment, |bytes| bytes[bit / 8] ^= 1 << (bit % 8));
    }
}
