//! A disk that takes its time.

use std::sync::Mutex;
use std::sync::mpsc::TryRecvError;

use super::handle::{LONG, journal};
use super::hooked::{About, HookedDisk};
use super::sim::SimDisk;
use super::*;
use crate::journal::{Append, AppendError, Event, Urgency};
use crate::record::Ticket;

/// FAULTS 17. What a peer sees of it: no Accepted, and no credit for more.
#[test]
fn while_a_sync_takes_long_records_gather_up_to_a_bound_and_none_is_acknowledged() {
    // While this is held, no sync of a file ends.
    let gate = Arc::new(Mutex::new(()));
    let disk = HookedDisk::new(Arc::new(SimDisk::new(1)), {
        let gate = gate.clone();
        move |about| drop((about == About::Sync).then(|| gate.lock()))
    });
    let options = Options { queue_bytes_max: 64 * 1024, spare_segments: 0, ..OPTIONS };
    let (journal, _, events, _) = journal(Arc::new(disk), options.clone());
    let one = |n| vec![Append { ticket: Ticket(n), record: record(n), urgency: Urgency::Now }];

    let held = gate.lock().expect("nobody panics while it holds the gate");
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
