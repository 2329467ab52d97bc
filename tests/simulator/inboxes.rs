//! The promises as people see them: what an inbox shows, and in the end what became of each dispatch.

use rusqlite::params;

use super::{
    bloc::{DESKS, desk_of},
    checker::{Checker, Promise, Violation},
    desk::Desk,
};

/// What became of a dispatch at one addressee: subject, state, code, when it was delivered, whether it expired,
/// why it was set aside.
type Outcome = (String, i64, String, Option<i64>, bool, Option<String>);

impl Checker {
    /// New rows of an inbox, as its people see them.
    pub fn inbox(&mut self, desk: usize, desks: &[Desk]) {
        let seen = self.seen.get(&desk).copied().unwrap_or(0);
        let sql = "SELECT register, sender_code, subject, precedence, set_aside FROM inbox
            WHERE register > ?1 ORDER BY register";
        let mut statement = desks[desk].disk.prepare(sql).expect("a store");
        let rows = statement
            .query_map([seen], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?)));
        let rows: Vec<(u64, String, String, i64, Option<u16>)> =
            rows.and_then(Iterator::collect).expect("a store");
        let mut last = seen;
        for (register, sender, subject, precedence, set_aside) in rows {
            self.must(register == last + 1, Promise::ExactlyOnce, || {
                format!("{} has register {register} after {last}", DESKS[desk])
            });
            last = register;
            self.must(set_aside.is_none(), Promise::Receipts, || {
                format!("{} set an honest dispatch aside: {set_aside:?}", DESKS[desk])
            });
            let Some((author, serial)) = name_of(&subject) else {
                self.broken(Violation::new(Promise::Sender, format!("nobody wrote {subject:?}")));
                continue;
            };
            let known = self.written.get(&(author, serial));
            let meant = known.is_some_and(|to| to.contains(&desk));
            self.must(meant && sender == DESKS[author], Promise::Sender, || {
                format!("{} has {subject} as from {sender}", DESKS[desk])
            });
            self.ever_arrived.insert((desk, author, serial));
            let is_new = self.arrived.insert((desk, author, serial));
            self.must(is_new, Promise::ExactlyOnce, || format!("{} has {subject} twice", DESKS[desk]));
            self.check_order(desk, author, serial, precedence, register, desks);
        }
        self.seen.insert(desk, last);
    }

    /// Promise 3: nothing that its author wrote later came earlier, unless one of the two was sealed again.
    fn check_order(
        &mut self,
        desk: usize,
        author: usize,
        serial: u64,
        precedence: i64,
        register: u64,
        desks: &[Desk],
    ) {
        let sql = "SELECT subject FROM inbox WHERE sender_code = ?1 AND precedence = ?2 AND register < ?3
            ORDER BY register DESC LIMIT 1";
        let before = desks[desk]
            .disk
            .query_row(sql, params![DESKS[author], precedence, register], |row| row.get::<_, String>(0));
        let Some((_, earlier)) = before.ok().and_then(|subject| name_of(&subject)) else { return };
        let again = self.restored.contains_key(&author)
            || [serial, earlier].iter().any(|serial| sealed_again(&desks[author], author, *serial));
        self.must(again || earlier < serial, Promise::Order, || {
            format!("{} got {}/{serial} after {}/{earlier}", DESKS[desk], DESKS[author], DESKS[author])
        });
    }

    /// A store was restored: its inbox shows what it showed then.
    pub fn restored(&mut self, desk: usize, desks: &[Desk]) {
        let sql = "SELECT subject FROM inbox ORDER BY register";
        let mut statement = desks[desk].disk.prepare(sql).expect("a store");
        let rows = statement.query_map([], |row| row.get(0));
        let subjects: Vec<String> = rows.and_then(Iterator::collect).expect("a store");
        self.arrived.retain(|(at, ..)| *at != desk);
        let names = subjects.iter().filter_map(|subject| name_of(subject));
        self.arrived.extend(names.map(|(author, serial)| (desk, author, serial)));
        self.seen.insert(desk, subjects.len() as u64);
        let sql = "SELECT subject FROM outbox ORDER BY seq DESC LIMIT 1";
        let last: Option<String> = desks[desk].disk.query_row(sql, [], |row| row.get(0)).ok();
        let last = last.and_then(|subject| name_of(&subject)).map_or(0, |(_, serial)| serial);
        self.restored.insert(desk, last);
        self.came("restored store");
    }

    /// When all is quiet: what its author sees as accepted lies in every addressee's inbox, and the other way.
    pub fn settled(&mut self, desks: &[Desk]) {
        for (author, desk) in desks.iter().enumerate() {
            let sql = "SELECT count(*) FROM outbox WHERE refusal_code = 'ATTEMPTS'";
            let given_up: i64 = desk.disk.query_row(sql, [], |row| row.get(0)).expect("a store");
            self.must(given_up == 0, Promise::Accepted, || {
                format!("{} gave {given_up} dispatches up for what passes by itself", DESKS[author])
            });
            let sql = "SELECT subject, state, code, delivered_at, expired_at IS NOT NULL, set_aside_reason
                FROM outbox JOIN addressees ON dispatch = seq";
            let mut statement = desk.disk.prepare(sql).expect("a store");
            let rows = statement.query_map([], |row| {
                Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?, row.get(5)?))
            });
            let rows: Vec<Outcome> = rows.and_then(Iterator::collect).expect("a store");
            for (subject, state, addressee, delivered, expired, set_aside) in rows {
                let (Some((_, serial)), Some(to)) = (name_of(&subject), desk_of(&addressee)) else {
                    continue;
                };
                self.must(state >= 2, Promise::Accepted, || format!("{subject} still waits in the outbox"));
                let arrived = self.ever_arrived.contains(&(to, author, serial));
                // Receipts that a store had confirmed before it was restored do not come again.
                let lost = self.restored.get(&author).is_some_and(|last| serial <= *last);
                self.must(set_aside.is_none(), Promise::Receipts, || {
                    format!("{addressee} set {subject} aside: {set_aside:?}")
                });
                if expired {
                    let ahead = self.clock_was_ahead;
                    self.must(ahead, Promise::Accepted, || format!("{subject} expired before its time"));
                    self.came("expired by a clock that was ahead");
                    continue;
                }
                self.must(arrived || state != 2, Promise::Accepted, || {
                    format!("{subject} was accepted and is lost to {addressee}")
                });
                self.must(delivered.is_none() || arrived, Promise::Receipts, || {
                    format!("{subject} counts as delivered to {addressee}, where it is not")
                });
                self.must(delivered.is_some() || state != 2 || lost, Promise::Accepted, || {
                    format!("no receipt of {addressee} came for {subject}")
                });
            }
        }
    }
}

/// Author and serial of a subject such as `IDN/7`.
fn name_of(subject: &str) -> Option<(usize, u64)> {
    let (code, serial) = subject.split_once('/')?;
    Some((desk_of(code)?, serial.parse().ok()?))
}

fn sealed_again(author: &Desk, number: usize, serial: u64) -> bool {
    let sql = "SELECT count(*) > 1 FROM submissions JOIN outbox ON dispatch = seq WHERE subject = ?1";
    let subject = format!("{}/{serial}", DESKS[number]);
    author.disk.query_row(sql, [subject], |row| row.get(0)).unwrap_or(true)
}
