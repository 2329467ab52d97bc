//! What the log says is erased is nowhere on the disk any more, whatever fails meanwhile; what still waits, and every
//! leaf, stays.

use super::handle::LONG;
use super::recycle::log;
use super::sim::{FAILURES, SimDisk};
use super::*;
use crate::journal::{Append, Event, Urgency};
use crate::record::{
    Ticket,
    administrative::{Act, AdministrativeLeaf, ChainHead, Erasure},
};

/// Records before the leaf that erases, and the last position that it names.
const BEFORE: u64 = 38;
const THROUGH: u64 = 19;
/// One of those that are erased is still waited for.
const WAITS: u64 = 5;

/// A traffic record, every part of which names its position.
fn traffic(position: u64) -> Record {
    let text = |part: &str| format!("<{part} {position:04}>");
    let mut salt = text("salt").into_bytes();
    salt.resize(32, b'.');
    Record {
        leaf: Bytes::from([&[1, 1], text("leaf").as_bytes()].concat()),
        salt: Bytes::from(salt),
        opening: Bytes::from(text("opening")),
        header: Bytes::from(text("header")),
        body: Bytes::from(text("body").repeat(200)),
    }
}

fn erasing(through: u64) -> Record {
    let act = Act::Erasures { through: Position(through) };
    let leaf = AdministrativeLeaf { log_time_us: 1, previous: ChainHead::START, act };
    Record { leaf: leaf.encode(), ..Record::default() }
}

fn written(position: u64) -> Record {
    if position == BEFORE { erasing(THROUGH) } else { traffic(position) }
}

/// Starts as a relay does: what was erased by the records so far is erased to the end.
fn start(disk: &SimDisk) -> Result<(Writer, Reader), JournalError> {
    let (mut records, mut erasure, mut is_first) = (0, None, true);
    let mut replay = |replayed: Replayed| {
        match replayed {
            Replayed::Base(base) => {
                let base: [u8; 9] = base[..].try_into().expect("9 bytes");
                let (size, erased) = base.split_first_chunk().expect("8 bytes");
                if std::mem::take(&mut is_first) {
                    records = u64::from_be_bytes(*size);
                    erasure = (erased == [1]).then_some(ERASURE);
                }
                assert_eq!(records, u64::from_be_bytes(*size));
            }
            Replayed::Record(position, record) => {
                assert_eq!((position, &record), (Position(records), &written(records)));
                erasure = Erasure::of(position, &record.leaf).or(erasure);
                records += 1;
            }
            Replayed::Archived(..) => panic!("only an observer is told of the past"),
        }
        Ok::<(), JournalError>(())
    };
    let recovered = recover(disk.shared(), OPTIONS, &mut replay)?;
    let next = recovered.next_position().0;
    let (mut writer, reader) = recovered.open(&base(next), &mut replay)?;
    erasure.into_iter().for_each(|erasure| writer.erase(erasure));
    Ok((writer, reader))
}

const ERASURE: Erasure = Erasure { through: Position(THROUGH), at: Position(BEFORE) };

fn base(size: u64) -> Vec<u8> {
    let mut base = size.to_be_bytes().to_vec();
    base.push(u8::from(size > BEFORE));
    base
}

fn append_one(writer: &mut Writer) -> Result<(), JournalError> {
    let next = writer.next_position().0;
    let record = written(next);
    if writer.needs_segment(1, record.encoded_len()) || writer.wants_roll() {
        writer.roll(&base(next))?;
    }
    writer.append(&[record]).map(|_| ())
}

/// Gives up what can be given up, as the journal's thread does while nothing comes in.
fn idle(writer: &mut Writer) -> Result<(), JournalError> {
    if writer.wants_roll() {
        writer.roll(&base(writer.next_position().0))?;
    }
    while let Some(end) = writer.oldest_end() {
        let needed: Vec<_> = (end.0 > WAITS).then_some(Position(WAITS)).into_iter().collect();
        if !writer.retire_oldest(&needed)? {
            break;
        }
    }
    writer.tend()
}

/// Records up to `end`, and segments given up after every third.
fn live(writer: &mut Writer, end: u64) -> Result<(), JournalError> {
    while writer.next_position().0 < end {
        append_one(writer)?;
        if writer.next_position().0.is_multiple_of(3) {
            idle(writer)?;
        }
    }
    Ok(())
}

/// What files of the disk still hold of erased records, but for leaves: file, part and position.
fn found(disk: &SimDisk) -> Vec<(String, String)> {
    const SECTOR: usize = 512;
    let mut found = Vec::new();
    for name in disk.list().expect("the disk is well") {
        let bytes = disk.bytes(&name);
        let sectors = bytes.chunks(SECTOR).enumerate().filter(|(_, sector)| sector.contains(&b'<'));
        let begins = sectors.flat_map(|(number, sector)| {
            let begins = sector.iter().enumerate().filter(|(_, byte)| **byte == b'<');
            begins.map(move |(at, _)| number * SECTOR + at)
        });
        for at in begins {
            let text = String::from_utf8_lossy(&bytes[at + 1..bytes.len().min(at + 13)]);
            let Some((part, position)) = text.split_once(' ') else { continue };
            let position = position.get(..4).and_then(|position| position.parse().ok());
            let is_erased = position.is_some_and(|position: u64| position <= THROUGH && position != WAITS);
            if is_erased && ["salt", "opening", "header", "body"].contains(&part) {
                found.push((name.clone(), text.into_owned()));
            }
        }
    }
    found
}

fn assert_erased(disk: &SimDisk, reader: &Reader, end: u64) {
    assert_eq!(found(disk), []);
    assert_eq!(reader.load(Position(WAITS)).expect("it is waited for"), traffic(WAITS));
    let bare = |position| {
        let record = written(position);
        let leaf = record.leaf.clone();
        if position <= THROUGH {
            return Record { leaf, ..Record::default() };
        }
        Record { header: Bytes::new(), body: Bytes::new(), ..record }
    };
    let expected: Vec<Record> = (0..end).map(bare).collect();
    assert_eq!(log(disk, reader, end), expected);
}

/// A journal with archives, used spares and a waiting record, a moment before the leaf that erases.
fn before_erasure() -> SimDisk {
    let disk = SimDisk::new(1);
    let (mut writer, _) = start(&disk).expect("the disk is well");
    live(&mut writer, BEFORE).expect("the disk is well");
    disk
}

#[test]
fn what_is_erased_is_in_no_file_and_what_waits_and_every_leaf_stays() {
    let disk = before_erasure();
    let before = found(&disk);
    for (kind, part) in [("archive-", "opening"), ("segment-", "body"), ("used-", "body")] {
        let holds = |(name, text): &(String, String)| name.starts_with(kind) && text.starts_with(part);
        assert!(before.iter().any(holds), "{kind} holds something to erase");
    }
    let (mut writer, reader) = start(&disk).expect("the disk is well");
    live(&mut writer, BEFORE + 1).expect("the disk is well");
    idle(&mut writer).expect("the disk is well");
    assert!(matches!(writer.erased(), Some(Ok(through)) if through == Position(THROUGH)));
    assert_erased(&disk, &reader, BEFORE + 1);
    drop(writer);
    let (mut writer, reader) = start(&disk).expect("the disk is well");
    live(&mut writer, BEFORE + 20).expect("the disk is well");
    assert!(matches!(writer.erased(), Some(Ok(_))));
    assert_erased(&disk, &reader, BEFORE + 20);
}

#[test]
fn an_erasure_survives_every_failed_operation_and_is_finished_by_the_next_start() {
    let disk = before_erasure();
    let run = |disk: &SimDisk| -> Result<(), JournalError> {
        let (mut writer, _) = start(disk)?;
        live(&mut writer, BEFORE + 1)?;
        idle(&mut writer)
    };
    let healthy = disk.copy(99);
    let before = healthy.operations();
    run(&healthy).expect("the disk is well");
    let operations = healthy.operations() - before;
    assert!(operations > 40, "{operations}");
    for (operation, failure) in (0..operations).flat_map(|n| FAILURES.map(|failure| (n, failure))) {
        let disk = disk.copy(1_000 + operation);
        disk.fail_after(operation, failure);
        if run(&disk).is_err() {
            assert_eq!(disk.operations_after_failure(), 0, "operation {operation} {failure:?}");
        }
        disk.heal();
        disk.cut_power();
        let (mut writer, reader) = start(&disk).expect("a power cut is no damage");
        live(&mut writer, BEFORE + 1).expect("the disk is well");
        idle(&mut writer).expect("the disk is well");
        assert!(matches!(writer.erased(), Some(Ok(_))), "operation {operation} {failure:?}");
        assert_erased(&disk, &reader, writer.next_position().0);
    }
}

#[test]
fn a_relay_without_traffic_gives_up_its_only_segment() {
    let disk = SimDisk::new(2);
    let options = Options { retry_every: std::time::Duration::from_millis(1), ..OPTIONS };
    let mut ignore = |_| Ok::<(), JournalError>(());
    let recovered = recover(disk.shared(), options, &mut ignore).expect("an empty disk");
    let (writer, reader) = recovered.open(&base(0), &mut ignore).expect("the disk is well");
    let (sender, events) = std::sync::mpsc::channel();
    let tell = move |event| sender.send(event).unwrap_or_default();
    let journal = crate::journal::Journal::start(writer, tell).expect("threads can be started");
    let append =
        |position| Append { ticket: Ticket(position), record: written(position), urgency: Urgency::Now };
    journal.append((0..=BEFORE).map(append).collect()).expect("room");
    let mut durable = 0;
    loop {
        match events.recv_timeout(LONG).expect("the journal goes on") {
            Event::Durable(records) => durable += records.len() as u64,
            Event::BaseWanted => journal.base(base(durable)).expect("it listens"),
            Event::NeededWanted(end) => {
                let needed = (end.0 > WAITS).then_some(Position(WAITS));
                journal.needed(end, needed.into_iter().collect()).expect("it listens");
            }
            Event::Erased(erased) => {
                assert_eq!(erased.expect("no archive is damaged"), Position(THROUGH));
                break;
            }
            Event::Room(has_room) => panic!("room: {has_room}"),
            Event::Failed(error) => panic!("{error}"),
        }
    }
    assert_erased(&disk, &reader, BEFORE + 1);
    journal.stop();
}

#[test]
fn a_damaged_archive_is_named_and_the_others_are_erased() {
    let hash: fn(&mut Vec<u8>) = |bytes| *bytes.last_mut().expect("a hash") ^= 1;
    let version: fn(&mut Vec<u8>) = |bytes| bytes[11] ^= 0x40;
    let erased: fn(&mut Vec<u8>) = |bytes| bytes[35] ^= 1;
    for damage in [hash, version, erased] {
        let disk = before_erasure();
        let names = disk.list().expect("the disk is well");
        let damaged = names.iter().find(|name| name.starts_with("archive-")).expect("there is one").clone();
        disk.tamper(&damaged, damage);
        let (mut writer, _) = start(&disk).expect("archives are not looked at");
        live(&mut writer, BEFORE + 1).expect("the disk is well");
        idle(&mut writer).expect("the disk is well");
        let erased = writer.erased().expect("it went on").expect_err("one was left");
        let named = match &erased {
            JournalError::Corrupt { file, .. } | JournalError::Unsupported { file, .. } => file,
            other => panic!("{other}"),
        };
        assert_eq!(*named, damaged);
        assert!(found(&disk).iter().all(|(name, _)| *name == damaged));
        append_one(&mut writer).expect("mail goes on");
    }
}

#[test]
fn an_archive_whose_head_has_no_checksum_is_erased_whatever_it_says_of_itself() {
    let disk = before_erasure();
    for name in disk.list().expect("the disk is well") {
        if name.starts_with("archive-") {
            disk.tamper(&name, |bytes| {
                bytes[11] = 2;
                bytes[32..40].copy_from_slice(&u64::MAX.to_be_bytes());
                bytes.drain(40..44);
                let end = bytes.len() - 32;
                let hash = crate::merkle::sha256(&bytes[..end]);
                bytes[end..].copy_from_slice(hash.as_bytes());
            });
        }
    }
    let (mut writer, reader) = start(&disk).expect("archives are not looked at");
    live(&mut writer, BEFORE + 1).expect("the disk is well");
    idle(&mut writer).expect("the disk is well");
    assert!(matches!(writer.erased(), Some(Ok(_))));
    assert_erased(&disk, &reader, BEFORE + 1);
}
