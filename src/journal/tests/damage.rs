//! Damage to what is durable is refused with its place; only the last batch may be torn.

use super::sim::SimDisk;
use super::*;
use crate::journal::segment::{BATCH_HEADER_BYTES, BOUNDARY_BYTES, BatchHeader};
use crate::merkle::sha256;

/// Three segments of one life: no dead batches, the last data batch unconfirmed.
struct Sample {
    disk: SimDisk,
    segments: Vec<String>,
    records: u64,
    /// The last batch in the last segment: its first byte, and the one behind it.
    last_batch: (usize, usize),
}

/// Records in the last batch of a sample.
const LAST: u64 = 2;

/// Segments filled with records of some kilobytes.
fn sample() -> Sample {
    let disk = SimDisk::new(7);
    let mut writer = started(&disk).0;
    while disk.segments().len() < 3 {
        append(&mut writer, 3).expect("the disk is well");
    }
    finish(disk, writer)
}

/// A few records so short that all of a batch is within its first [`DENSE_BYTES`].
fn small_sample() -> Sample {
    let disk = SimDisk::new(8);
    let mut writer = started(&disk).0;
    for _ in 0..2 {
        append(&mut writer, 2).expect("the disk is well");
        let base = writer.next_position().0.to_be_bytes();
        writer.roll(&base).expect("the disk is well");
    }
    finish(disk, writer)
}

fn finish(disk: SimDisk, mut writer: Writer) -> Sample {
    append(&mut writer, 1).expect("the disk is well");
    writer.seal().expect("the disk is well");
    append(&mut writer, LAST).expect("the disk is well");
    let segments = disk.segments();
    assert_eq!(segments.len(), 3);
    let batches = batches(&disk.bytes(&segments[2]));
    let (start, header) = *batches.last().expect("there are batches");
    let last_batch = (start, start + bytes_on_disk(&header));
    Sample { disk, segments, records: writer.next_position().0, last_batch }
}

fn started(disk: &SimDisk) -> (Writer, Reader, u64) {
    start(disk.shared()).expect("the disk is well")
}

fn bytes_on_disk(header: &BatchHeader) -> usize {
    usize::try_from(header.bytes_on_disk()).expect("small")
}

/// Offset and header of each batch but the footer.
pub(super) fn batches(segment: &[u8]) -> Vec<(usize, BatchHeader)> {
    let body = &segment[..segment.len() - BOUNDARY_BYTES];
    let boundaries = body.chunks(BOUNDARY_BYTES).enumerate();
    boundaries.filter_map(|(n, bytes)| Some((n * BOUNDARY_BYTES, BatchHeader::decode(bytes)?))).collect()
}

/// Records that a start would find, or the place it refuses.
pub(super) fn found(disk: &SimDisk) -> Result<u64, (String, u64, u64)> {
    match read(disk.shared()) {
        Ok((recovered, counter)) => Ok(counter.records + recovered.unconfirmed() as u64),
        Err(JournalError::Corrupt { file, offset, position, .. }) => Err((file, offset, position)),
        Err(other) => panic!("{other}"),
    }
}

/// FAULTS 4.
#[test]
fn every_torn_end_of_the_last_batch_is_dropped_and_the_log_goes_on() {
    let Sample { disk, segments, records, last_batch: (start, end) } = sample();
    let whole = disk.bytes(&segments[2]);
    for from in start..end {
        disk.tamper(&segments[2], |bytes| bytes[from..end].fill(0));
        let only_padding = whole[from..end].iter().all(|byte| *byte == 0);
        let expected = if only_padding { records } else { records - LAST };
        assert_eq!(found(&disk), Ok(expected), "cut at {from}");
        if from.is_multiple_of(509) {
            let torn = disk.copy(0);
            let (mut writer, _, kept) = started(&torn);
            assert_eq!(kept, expected);
            append(&mut writer, 1).expect("the disk is well");
            drop(writer);
            assert_eq!(found(&torn), Ok(expected + 1));
            assert_eq!(torn.segments().len(), 4);
        }
        disk.tamper(&segments[2], |bytes| bytes.clone_from(&whole));
    }
}

#[test]
fn every_truncation_of_every_segment_is_refused() {
    // A segment has its full length, durably, before it has its name: no crash makes it shorter.
    let Sample { disk, segments, .. } = small_sample();
    for name in &segments {
        let whole = disk.bytes(name);
        for length in (0..whole.len()).rev() {
            disk.tamper(name, |bytes| bytes.truncate(length));
            let (file, offset, _) = found(&disk).expect_err("refused");
            assert_eq!((&file, offset), (name, length as u64));
        }
        disk.tamper(name, |bytes| bytes.clone_from(&whole));
    }
}

/// FAULTS 6, and 7 as far as there are no checkpoints.
#[test]
fn every_flipped_bit_is_refused_at_its_place_unless_only_the_last_batch_has_it() {
    let Sample { disk, segments, records, last_batch: (start, end) } = small_sample();
    let mut flips = 0;
    for (number, name) in segments.iter().enumerate() {
        let whole = disk.bytes(name);
        let batches = batches(&whole);
        let (last, header) = batches.last().expect("a segment has batches");
        let used = last + bytes_on_disk(header);
        assert!(
            batches
                .iter()
                .all(|(_, h)| BATCH_HEADER_BYTES as u64 + u64::from(h.length) <= DENSE_BYTES as u64)
        );
        for bit in bits_to_flip(whole.len(), used) {
            let byte = bit / 8;
            disk.tamper(name, |bytes| bytes[byte] ^= 1 << (bit % 8));
            let found = found(&disk);
            disk.tamper(name, |bytes| bytes[byte] ^= 1 << (bit % 8));
            flips += 1;
            if byte >= used {
                assert_eq!(found, Ok(records), "{name} bit {bit}: nothing lies there");
            } else if number == 2 && (start..end).contains(&byte) {
                assert_eq!(found, Ok(records - LAST), "{name} bit {bit}: unconfirmed");
            } else {
                let damaged = batches.iter().rfind(|(offset, _)| *offset <= byte);
                let offset = damaged.map_or(0, |(offset, _)| *offset as u64);
                let first_in_segment = batches[0].1.head.position;
                let position = damaged.map_or(first_in_segment, |(_, header)| header.head.position);
                assert_eq!(found, Err((name.clone(), offset, position)), "bit {bit}");
            }
        }
    }
    assert!(flips > 50_000, "{flips}");
}

/// Covers all that is not padding in a boundary of the small sample, but for the checksum at the
/// end of a segment header.
pub(super) const DENSE_BYTES: usize = 512;

/// Every bit that is not padding, every 61st of what is, and some of what is not used at all:
/// CRC32C finds a single bit wherever it is.
fn bits_to_flip(length: usize, used: usize) -> impl Iterator<Item = usize> {
    let dense = |bit: &usize| {
        let within = (bit / 8) % BOUNDARY_BYTES;
        !(DENSE_BYTES..BOUNDARY_BYTES - 4).contains(&within)
    };
    let used_bits = (0..used * 8).filter(move |bit| dense(bit) || bit.is_multiple_of(61));
    used_bits.chain((used * 8..length * 8).step_by(4099))
}

#[test]
fn a_lost_batch_with_a_later_one_behind_it_is_refused() {
    let Sample { disk, segments, .. } = sample();
    let whole = disk.bytes(&segments[2]);
    let batches = batches(&whole);
    for ((offset, header), (next, _)) in batches.iter().zip(&batches[1..]) {
        disk.tamper(&segments[2], |bytes| bytes[*offset..*next].fill(0));
        let place = (segments[2].clone(), *offset as u64, header.head.position);
        assert_eq!(found(&disk), Err(place));
        disk.tamper(&segments[2], |bytes| bytes.clone_from(&whole));
    }
}

/// FAULTS 8.
#[test]
fn a_missing_segment_is_refused_also_if_it_was_the_newest() {
    let Sample { disk, segments, .. } = sample();
    for name in &segments {
        let short = disk.copy(0);
        short.tamper_names(|names| assert!(names.remove(name).is_some()));
        assert!(found(&short).is_err(), "without {name}");
    }
}

#[test]
fn a_missing_newest_segment_is_refused_after_a_restart_too() {
    let Sample { disk, .. } = sample();
    let (mut writer, _, _) = started(&disk);
    append(&mut writer, 1).expect("the disk is well");
    let newest = disk.segments().pop().expect("some");
    disk.tamper_names(|names| assert!(names.remove(&newest).is_some()));
    assert!(found(&disk).is_err());
}

/// FAULTS 8.
#[test]
fn duplicated_swapped_and_renamed_segments_are_refused() {
    let Sample { disk, segments, .. } = sample();
    for (from, to) in [(0, 1), (0, 2), (1, 0), (1, 2), (2, 0), (2, 1)] {
        let (from, to) = (&segments[from], &segments[to]);
        let swapped = disk.copy(0);
        swapped.tamper_names(|names| {
            let (a, b) = (names[from], names[to]);
            names.insert(from.clone(), b);
            names.insert(to.clone(), a);
        });
        assert!(found(&swapped).is_err(), "{from} and {to} swapped");
        let duplicated = disk.copy(0);
        duplicated.tamper_names(|names| assert!(names.insert(to.clone(), names[from]).is_some()));
        assert!(found(&duplicated).is_err(), "{from} in place of {to}");
    }
    for name in ["segment-0000000000000009-0000000000000100", "segment-1", "segment-copy"] {
        let copied = disk.copy(0);
        copied.plant(name, disk.bytes(&segments[1]));
        assert_eq!(found(&copied).expect_err("refused").0, name);
    }
}

#[test]
fn a_segment_of_another_journal_is_refused() {
    let Sample { disk, segments, .. } = sample();
    let other = SimDisk::new(8);
    let (mut writer, _, _) = started(&other);
    while other.segments().len() < 3 {
        append(&mut writer, 3).expect("the disk is well");
    }
    assert_eq!(other.segments(), segments);
    disk.tamper(&segments[1], |bytes| *bytes = other.bytes(&segments[1]));
    assert!(found(&disk).is_err());
}

#[test]
fn what_an_earlier_life_of_a_segment_held_is_not_read() {
    let Sample { disk, segments, records, .. } = sample();
    disk.plant("spare-0000", disk.bytes(&segments[1]));
    let (mut writer, _, _) = started(&disk);
    append(&mut writer, 1).expect("the disk is well");
    drop(writer);
    let newest = disk.segments().pop().expect("some");
    let old = batches(&disk.bytes(&segments[1])).len();
    assert!(batches(&disk.bytes(&newest)).len() >= old, "old batches lie behind the new");
    assert_eq!(found(&disk), Ok(records + 1));
}

/// FAULTS 29, and 39 for an older program.
#[test]
fn a_newer_version_and_an_unknown_kind_are_refused_not_skipped() {
    let Sample { disk, segments, .. } = sample();
    let newer = disk.copy(0);
    newer.tamper(&segments[0], |bytes| {
        bytes[11] = 2;
        let crc = crc32c::crc32c(&bytes[..BOUNDARY_BYTES - 4]);
        bytes[BOUNDARY_BYTES - 4..BOUNDARY_BYTES].copy_from_slice(&crc.to_be_bytes());
    });
    let unknown = disk.copy(0);
    let (offset, _) = *batches(&disk.bytes(&segments[2])).last().expect("some");
    unknown.tamper(&segments[2], |bytes| {
        bytes[offset + 4] = 6;
        let crc = crc32c::crc32c(&bytes[offset..offset + BATCH_HEADER_BYTES - 4]);
        bytes[offset + BATCH_HEADER_BYTES - 4..offset + BATCH_HEADER_BYTES]
            .copy_from_slice(&crc.to_be_bytes());
    });
    for disk in [newer, unknown] {
        let refused = read(disk.shared()).err().expect("refused");
        assert!(matches!(refused, JournalError::Unsupported { .. }), "{refused}");
        assert_eq!(refused.exit_code(), 78);
    }
}

#[test]
fn a_record_that_rots_while_the_relay_runs_is_refused_when_loaded() {
    let Sample { disk, segments, .. } = sample();
    let (_writer, reader, _) = started(&disk);
    let (offset, header) =
        *batches(&disk.bytes(&segments[1])).iter().find(|(_, h)| h.length > 100).expect("data");
    let position = Position(header.head.position);
    for byte in [4, 20, 98, 120] {
        disk.tamper(&segments[1], |bytes| bytes[offset + byte] ^= 1);
        let refused = reader.load(position).expect_err("refused");
        assert_eq!(refused.exit_code(), 71, "byte {byte}: {refused}");
        disk.tamper(&segments[1], |bytes| bytes[offset + byte] ^= 1);
        assert_eq!(reader.load(position).expect("whole again"), record(position.0));
    }
}

#[test]
fn headers_lie_as_documented() {
    let Sample { disk, segments, .. } = small_sample();
    let segment = disk.bytes(&segments[1]);
    let number = |at: usize| u64::from_be_bytes(segment[at..at + 8].try_into().expect("8 bytes"));
    assert_eq!(segments[1], "segment-0000000000000002-0000000000000002");
    assert_eq!(segment[..16], *b"POUCHJNL\0\0\0\x01\0\0\0\0");
    let (id, chain) = (&segment[16..32], &segment[48 + 8..88]);
    assert_eq!((number(32), number(40), number(48)), (64 * 1024, 2, 2));
    assert_eq!(segment[4092..4096], crc32c::crc32c(&segment[..4092]).to_be_bytes());
    let base = &segment[4096..8192];
    assert_eq!(base[..8], *b"PBAT\x02\0\0\0");
    assert_eq!(base[8..16], 2u64.to_be_bytes());
    assert_eq!((&base[16..32], &base[48..80]), (id, chain));
    assert_eq!(base[32..40], 2u64.to_be_bytes());
    assert_eq!(base[40..48], [0, 0, 0, 0, 0, 0, 0, 8]);
    assert_eq!(base[80..84], crc32c::crc32c(&base[96..]).to_be_bytes());
    assert_eq!(base[92..96], crc32c::crc32c(&base[..92]).to_be_bytes());
    assert_eq!(base[96..104], 2u64.to_be_bytes());
    let footer = &segment[segment.len() - 4096..];
    assert_eq!(footer[..8], *b"PBAT\x04\0\0\0");
    assert_eq!(footer[8..16], 4u64.to_be_bytes());
}

#[test]
fn the_bytes_on_disk_are_those_of_the_first_version() {
    // Changes only with a new version in the segment header.
    let Sample { disk, segments, .. } = sample();
    let hashes: Vec<_> = segments.iter().map(|name| sha256(&disk.bytes(name)).to_string()).collect();
    let first_version = [
        "b21c7facc6e1faba6ebb62aa1061f13867363cc2ee863cc53753dd34eac1517d",
        "348b70ea7dd5b3945f7d555da9a72cb36f062daf7657f19cb1f288489387d6cc",
        "3b5eaba13164775a96354d6e4c23d8e43b1e2a72a9c953d143d9ddc4cfead769",
    ];
    assert_eq!(hashes, first_version);
}
