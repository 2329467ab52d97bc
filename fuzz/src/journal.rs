//! Recovery of a journal that was changed behind its back in any way.

use std::{collections::BTreeMap, sync::LazyLock};

use bytes::Bytes;
use pouch::{
    journal::{JournalError, Options, Replayed, recover},
    record::Record,
};

use super::{Input, memory::MemoryDisk};

const OPTIONS: Options = Options { segment_bytes: 64 * 1024, spare_segments: 1, ..Options::DEFAULT };
const BLOCK_BYTES: usize = 4 * 1024;
/// Batches of the journal that is changed, of one to three records each; they fill three segments.
const BATCHES: u64 = 24;
/// Changes made to it, at most.
const CHANGES_MAX: usize = 16;

/// A journal as it was written, its last batch still unconfirmed.
struct Original {
    files: BTreeMap<String, Vec<u8>>,
    /// Records that a later batch confirms.
    confirmed: u64,
    /// File and offset of the last batch's first block.
    last: (String, usize),
}

static ORIGINAL: LazyLock<Original> = LazyLock::new(|| {
    let disk = MemoryDisk::default();
    let recovered = recover(disk.shared(), OPTIONS, &mut ignore).expect("an empty directory");
    let (mut writer, _) = recovered.open(&[], &mut ignore).expect("a first segment");
    let mut confirmed = 0;
    for batch in 0..BATCHES {
        confirmed = writer.next_position().0;
        let records: Vec<Record> = (0..=batch % 3).map(|index| record(confirmed + index)).collect();
        let bytes = records.iter().map(Record::encoded_len).sum();
        if writer.needs_segment(records.len(), bytes) {
            writer.roll(&[7; 64]).expect("a further segment");
        }
        writer.append(&records).expect("appended");
    }
    let files = disk.files();
    let name = files.keys().filter(|name| name.starts_with("segment-")).max().expect("segments").clone();
    let blocks = files[&name].chunks(BLOCK_BYTES);
    let written = blocks.enumerate().filter(|(_, block)| block.iter().any(|byte| *byte != 0));
    // The longest record takes less than a block, so the last batch takes at most two.
    let offset = written.map(|(index, _)| index * BLOCK_BYTES).next_back().expect("a batch");
    Original { files, confirmed, last: (name, offset.saturating_sub(2 * BLOCK_BYTES)) }
});

fn record(position: u64) -> Record {
    Record {
        leaf: Bytes::from(format!("leaf {position}")),
        body: Bytes::from(vec![1; usize::try_from(position * 37 % 2000).expect("small")]),
        ..Record::default()
    }
}

fn ignore(_: Replayed) -> Result<(), JournalError> {
    Ok(())
}

/// Input: changes of 6 bytes each and what they write. Recovery ends in order. Where the last batch was not
/// touched, it is refused or tells every record that was confirmed; and what it tells is still there after the
/// journal went on and was recovered again.
pub fn run(bytes: &[u8]) {
    let mut input = Input(bytes);
    let mut files = ORIGINAL.files.clone();
    for _ in 0..CHANGES_MAX {
        if input.is_empty() {
            break;
        }
        change(&mut files, &mut input);
    }
    let (last_file, last_offset) = &ORIGINAL.last;
    let end_of = |files: &BTreeMap<String, Vec<u8>>| {
        files.get(last_file).map(|file| file.get(*last_offset..).map(<[u8]>::to_vec))
    };
    let keeps_last = end_of(&files) == end_of(&ORIGINAL.files);

    let disk = MemoryDisk::holding(&files);
    let mut next = 0;
    let mut count = |replayed| {
        if let Replayed::Record(position, _) = replayed {
            assert_eq!(position.0, next, "positions are dense");
            next += 1;
        }
        Ok::<(), JournalError>(())
    };
    let Ok(recovered) = recover(disk.shared(), OPTIONS, &mut count) else { return };
    let told = recovered.next_position().0;
    let unconfirmed = recovered.unconfirmed() as u64;
    assert!(!keeps_last || told >= ORIGINAL.confirmed, "{told} of {} confirmed records", ORIGINAL.confirmed);
    let Ok((mut writer, _)) = recovered.open(&[9; 8], &mut ignore) else { return };
    assert_eq!(writer.next_position().0, told + unconfirmed);
    writer.append(&[record(told + unconfirmed)]).expect("it goes on");
    let again = recover(disk.shared(), OPTIONS, &mut ignore).expect("what was just written can be read");
    assert_eq!(again.next_position().0 + again.unconfirmed() as u64, told + unconfirmed + 1);
}

/// `u8 what || u8 file || u16 block and offset || u16 length`, and bytes to write.
fn change(files: &mut BTreeMap<String, Vec<u8>>, input: &mut Input<'_>) {
    let (what, file, offset, length) = (input.byte(), input.byte(), input.short(), input.short());
    let Some(name) = files.keys().nth(usize::from(file) % files.len().max(1)).cloned() else { return };
    let Some(content) = files.get_mut(&name) else { return };
    let start = usize::from(offset).min(content.len());
    let end = (start + usize::from(length)).min(content.len());
    match what % 8 {
        0 => content[start..end].fill(0),
        1 => content.truncate(start),
        2 => {
            let bytes = input.take((end - start).min(64));
            content[start..start + bytes.len()].copy_from_slice(bytes);
        }
        3 => {
            if let Some(byte) = content.get_mut(start) {
                *byte ^= 1 << (length % 8);
            }
        }
        4 => {
            files.remove(&name);
        }
        // A block written where another belongs.
        5 => {
            let from = start / BLOCK_BYTES * BLOCK_BYTES;
            let to = usize::from(length) / BLOCK_BYTES * BLOCK_BYTES;
            if from + BLOCK_BYTES <= content.len() && to + BLOCK_BYTES <= content.len() {
                content.copy_within(from..from + BLOCK_BYTES, to);
            }
        }
        // Another file's content under this name.
        6 => {
            let other = files.values().nth(usize::from(length) % files.len()).cloned();
            files.insert(name, other.unwrap_or_default());
        }
        _ => content.resize(content.len() + usize::from(length), 0),
    }
}
