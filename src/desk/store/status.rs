//! Counts and alarms: what `pouch status` says of the store.

use jiff::Timestamp;

use super::{Store, StoreError, alarms, columns::time_text, daemon_name, orders, overdue, streams};
use crate::{
    desk::{
        status::{LinkState, LinkStatus},
        view::{Status, Waiting},
    },
    wire::Precedence,
};

/// Open gaps listed among the alarms; the newest.
const GAP_ALARMS_MAX: u32 = 50;

impl Store {
    /// The desk's status, with what the link says of itself.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(in crate::desk) fn status(&self, link: &LinkStatus, now: Timestamp) -> Result<Status, StoreError> {
        let tx = self.read();
        let count = |sql: &str| tx.db.prepare_cached(sql)?.query_row([], |row| row.get(0));
        let queued = count("SELECT count(*) FROM outbox WHERE state <> 2 AND state < 2")?;
        Ok(Status {
            daemon: daemon_name(self.me.kind()).to_owned(),
            code: tx.own_code(),
            trust_domain: self.me.trust_domain().to_owned(),
            link: link.state.name().to_owned(),
            link_reason: link.reason.clone().filter(|_| link.state != LinkState::InContact),
            relay: link.relay.clone(),
            since: link.since.to_string(),
            last_contact: link.last_contact.map(|at| at.to_string()),
            roster_version: tx.roster.map_or(0, |roster| roster.version()),
            queued,
            undelivered: count(
                "SELECT count(DISTINCT dispatch) FROM addressees JOIN outbox ON dispatch = seq
                 WHERE delivered_at IS NULL AND set_aside_at IS NULL AND expired_at IS NULL AND state = 2",
            )?,
            waiting: self.waiting_by_precedence()?,
            oldest_queued_at: self
                .oldest("SELECT min(queued_at) FROM outbox WHERE state <> 2 AND state < 2")?,
            oldest_undelivered_at: self.oldest(
                "SELECT min(accepted_at) FROM outbox WHERE state = 2 AND seq IN
                 (SELECT dispatch FROM addressees WHERE delivered_at IS NULL AND set_aside_at IS NULL AND expired_at IS NULL)",
            )?,
            refused: count("SELECT count(*) FROM outbox WHERE state <> 2 AND state = 3")?,
            inbox: count("SELECT coalesce(max(register), 0) FROM inbox")?,
            unread: count("SELECT count(*) FROM inbox WHERE read_at IS NULL AND set_aside IS NULL")?,
            unacknowledged: count(
                "SELECT count(*) FROM inbox
                 WHERE acknowledgement = 1 AND acknowledged_at IS NULL AND set_aside IS NULL",
            )?,
            set_aside: count("SELECT count(*) FROM inbox WHERE set_aside IS NOT NULL")?,
            overdue: overdue::count(&tx)?,
            receipts_waiting: count("SELECT count(*) FROM receipts_due")? + self.receipts_unanswered()?,
            proofs_owed: count("SELECT count(*) FROM proofs WHERE checkpoint IS NULL")?,
            log_verified: self.verified()?.follower.size(),
            orders: orders::standing(&tx, now)?,
            alarms: self.open_alarms(queued)?,
            version: env!("CARGO_PKG_VERSION").to_owned(),
        })
    }

    fn waiting_by_precedence(&self) -> Result<Waiting, StoreError> {
        let sql =
            "SELECT precedence, count(*) FROM outbox WHERE state <> 2 AND state < 2 GROUP BY precedence";
        let mut statement = self.connection.prepare_cached(sql)?;
        let mut rows = statement.query([])?;
        let mut waiting = Waiting::default();
        while let Some(row) = rows.next()? {
            let count = match row.get(0)? {
                Precedence::Flash => &mut waiting.flash,
                Precedence::Immediate => &mut waiting.immediate,
                Precedence::Priority => &mut waiting.priority,
                Precedence::Routine => &mut waiting.routine,
            };
            *count = row.get(1)?;
        }
        Ok(waiting)
    }

    /// The time that a query finds, where it finds one.
    fn oldest(&self, sql: &str) -> Result<Option<String>, StoreError> {
        let found: Option<i64> = self.connection.prepare_cached(sql)?.query_row([], |row| row.get(0))?;
        Ok(found.map(time_text))
    }

    /// Receipts in frames that the relay has not answered.
    fn receipts_unanswered(&self) -> Result<u64, StoreError> {
        let sql = "SELECT coalesce(sum(receipts), 0) FROM stored WHERE position IS NULL";
        Ok(self.connection.prepare_cached(sql)?.query_row([], |row| row.get(0))?)
    }

    fn open_alarms(&self, queued: u64) -> Result<Vec<String>, StoreError> {
        let tx = self.read();
        let mut dated = alarms::open(&tx)?;
        dated.extend(streams::gap_alarms(&tx, GAP_ALARMS_MAX)?);
        dated.sort();
        let mut sentences: Vec<String> = dated.into_iter().map(|(_, sentence)| sentence).collect();
        if tx.own().is_none() && queued > 0 {
            let why = "no roster that names this desk is held yet: mail waits here, and is checked and sealed once one \
                came; nothing need be saved; bring the link up, or call the ministry and name its roster in the configuration";
            sentences.push(why.to_owned());
        }
        Ok(sentences)
    }
}
