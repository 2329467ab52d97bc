//! What desks told their people, when all is quiet: of a whole relay and honest desks nothing but what went wrong.

use super::{
    bloc::DESKS,
    checker::{Checker, Promise},
    desk::Desk,
};

/// Alarms that what goes wrong here may raise, by how their keys begin. Any other one blames somebody wrongly.
const EXPECTED: [&str; 8] = [
    // A wall clock jumped, or was ahead when something was about to expire.
    "log-time",
    "relay-clock",
    "undelivered-",
    // A store was restored: what it lost since comes as news.
    "receipt-",
    "store-restored",
    "stream-",
    // The journal has no room.
    "relay-defers",
    // Openings are kept for a second.
    "receipts-erased",
];

impl Checker {
    /// No desk blames anybody for what nobody did.
    pub fn blames_nobody(&mut self, desks: &[Desk]) {
        for (desk, code) in desks.iter().zip(DESKS) {
            let mut statement = desk.disk.prepare("SELECT key, sentence FROM alarms").expect("a store");
            let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)));
            let rows: Vec<(String, String)> = rows.and_then(Iterator::collect).expect("text");
            for (key, sentence) in rows {
                let expected = EXPECTED.iter().any(|begin| key.starts_with(begin));
                self.must(expected, Promise::Log, || format!("{code} is alarmed: {key}: {sentence}"));
            }
        }
    }
}
