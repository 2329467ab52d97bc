//! A disk that takes its time.

use std::io;
use std::sync::mpsc::TryRecvError;
use std::sync::{Mutex, MutexGuard};

use super::handle::{LONG, journal};
use super::sim::SimDisk;
use super::*;
use crate::journal::{Append, AppendError, Event, Urgency};
use crate::record::Ticket;

/// While its gate is held, no sync of a file ends.
#[derive(Clone)]
struct SlowDisk {
    disk: SimDisk,
    gate: Arc<Mutex<()>>,
}

struct SlowFile {
    file: Arc<dyn SegmentFile>,
    gate: Arc<Mutex<()>>,
}

impl SlowDisk {
    fn new() -> SlowDisk {
        SlowDisk { disk: SimDisk::new(1), gate: Arc::default() }
    }

    fn hold(&self) -> MutexGuard<'_, ()> {
        self.gate.lock().expect("nobody panics while it holds the gate")
    }

    fn slow(&self, file: Arc<dyn SegmentFile>) -> Arc<dyn SegmentFile> {
        Arc::new(SlowFile { file, gate: self.gate.clone() })
    }
}

impl Disk for SlowDisk {
    fn list(&self) -> io::Result<Vec<String>> {
        self.disk.list()
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn SegmentFile>> {
        Ok(self.slow(self.disk.create(name)?))
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn SegmentFile>> {
        Ok(self.slow(self.disk.open(name)?))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.disk.rename(from, to)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.disk.remove(name)
    }

    fn sync_directory(&self) -> io::Result<()> {
        self.disk.sync_directory()
    }

    fn random_id(&self) -> io::Result<SegmentId> {
        self.disk.random_id()
    }
}

impl SegmentFile for SlowFile {
    fn bytes(&self) -> io::Result<u64> {
        self.file.bytes()
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.file.read_at(buffer, offset)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.file.write_at(bytes, offset)
    }

    fn cut(&self, bytes: u64) -> io::Result<()> {
        self.file.cut(bytes)
    }

    fn sync(&self) -> io::Result<()> {
        drop(self.gate.lock());
        self.file.sync()
    }
}

/// FAULTS 17. What a peer sees of it: no Accepted, and no credit for more.
#[test]
fn while_a_sync_takes_long_records_gather_up_to_a_bound_and_none_is_acknowledged() {
    let disk = SlowDisk::new();
    let options = Options { queue_bytes_max: 64 * 1024, spare_segments: 0, ..OPTIONS };
    let (journal, _, events, _) = journal(Arc::new(disk.clone()), options.clone());
    let one = |n| vec![Append { ticket: Ticket(n), record: record(n), urgency: Urgency::Now }];

    let held = disk.hold();
    let (mut handed_in, mut bytes) = (0, 0);
    loop {
        match journal.append(one(handed_in)) {
            Ok(()) => bytes += record(handed_in).encoded_len(),
            Err(AppendError::Full(records)) => break assert_eq!(records[0].ticket, Ticket(handed_in)),
            Err(AppendError::Stopped) => panic!("it runs"),
        }
        handed_in += 1;
    }
    assert!(handed_in > 10 && bytes <= options.queue_bytes_max, "{handed_in} records of {bytes} bytes");
    assert!(matches!(events.try_recv(), Err(TryRecvError::Empty)), "nothing is durable");

    drop(held);
    let mut durable = 0;
    while durable < handed_in {
        match events.recv_timeout(LONG).expect("the journal goes on") {
            Event::Durable(batch) => {
                let encoded = |(_, position): &(Ticket, Position)| record(position.0).encoded_len();
                assert!(batch.iter().map(encoded).sum::<usize>() <= options.batch_bytes_max());
                durable += batch.len() as u64;
            }
            Event::BaseWanted => journal.base(durable.to_be_bytes().to_vec()).expect("it listens"),
            Event::NeededWanted(_) | Event::Room(_) => {}
            Event::Erased(erased) => panic!("erased: {erased:?}"),
            Event::Failed(error) => panic!("{error}"),
        }
    }
    journal.stop();
}
