//! Orders of the hub as a desk keeps and obeys them: what is held back, and who is not written to.

use jiff::Timestamp;
use rusqlite::{OptionalExtension, params};

use super::{
    Store, StoreError, Tx, addressing,
    columns::{integer, time_text},
    draft, learned,
};
use crate::{
    desk::{error::DeskError, view::NewOrder},
    identity::Kind,
    roster::PartyNumber,
    wire::{
        Position,
        order::{OrderKind, SignedOrder},
    },
};

/// As the column holds them.
const SUSPEND: i64 = 1;
const LIFT: i64 = 2;
const MINIMIZE: i64 = 3;
const ERASE: i64 = 4;

/// What the relay refused for MINIMIZE waits so long, whatever orders this desk knows.
const HOLD_AFTER_REFUSAL_S: i64 = 10;

impl Store {
    /// Keeps an order that the link has verified. A repetition changes nothing.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn learn_order(&mut self, position: Position, signed: &SignedOrder) -> Result<(), StoreError> {
        self.write(|tx| {
            let (kind, subject, until_s) = match signed.order.kind {
                OrderKind::Suspend { party, until_s } => (SUSPEND, party.0.into(), integer(until_s)),
                OrderKind::Lift { party } => (LIFT, party.0.into(), 0),
                OrderKind::Minimize { until_s } => (MINIMIZE, 0, integer(until_s)),
                OrderKind::Erase { position } => (ERASE, integer(position.0), 0),
            };
            let sql = "INSERT OR IGNORE INTO orders (number, kind, subject, until_s, position, signed)
                VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
            let row = params![signed.order.number, kind, subject, until_s, position, signed.encode()];
            tx.db.prepare_cached(sql)?.execute(row)?;
            learned(tx, position)
        })
    }

    /// Whether this is the ministry's desk.
    ///
    /// # Errors
    /// [`DeskError::NotTheHub`].
    pub(in crate::desk) fn hub_only(&self) -> Result<(), DeskError> {
        if self.me.kind() == Kind::Hub { Ok(()) } else { Err(DeskError::NotTheHub) }
    }

    /// The number that the hub's next order probably has, and what it orders.
    ///
    /// # Errors
    /// [`DeskError::NotTheHub`], or what is wrong with the order.
    pub(in crate::desk) fn next_order(&self, new: &NewOrder) -> Result<(u32, OrderKind), DeskError> {
        self.hub_only()?;
        let tx = self.read();
        let party = match tx.roster {
            Some(roster) if !new.party.is_empty() => {
                let missions = || roster.parties().filter(|party| party.kind == Kind::Mission);
                let named = missions().find(|party| party.code.eq_ignore_ascii_case(&new.party));
                let codes = missions().map(|party| party.code.as_str());
                let unknown = || addressing::unknown(&new.party.to_uppercase(), codes);
                Some(named.ok_or_else(unknown)?.number)
            }
            _ => None,
        };
        let until_s = match new.until.as_str() {
            "" => None,
            // Ended by every clock, however late it is.
            "now" => Some(0),
            text => Some(draft::time("until", text)?),
        };
        let sql = "SELECT coalesce(max(number), 0) FROM orders";
        let last: u32 = tx.db.prepare_cached(sql)?.query_row([], |row| row.get(0))?;
        Ok((last.saturating_add(1), order_kind(new, party, until_s)?))
    }
}

/// Until when MINIMIZE holds ROUTINE and PRIORITY back, where it does now: as the order says, and for a while after the
/// relay refused something for it. The relay goes by log time, which this desk's clock may be ahead of.
pub(super) fn minimized(tx: &Tx<'_>, now: Timestamp) -> Result<Option<i64>, StoreError> {
    let now_s = now.as_second();
    let sql = "SELECT until_s FROM orders WHERE kind = ?1 ORDER BY number DESC LIMIT 1";
    let ordered = tx.db.prepare_cached(sql)?.query_row([MINIMIZE], |row| row.get(0)).optional()?;
    // A clock that was set back must not make the hold longer.
    let refused_s = tx.minimize_refused.get().map(Timestamp::as_second).filter(|at_s| *at_s <= now_s);
    let refused = refused_s.map(|at_s| at_s.saturating_add(HOLD_AFTER_REFUSAL_S));
    Ok(ordered.max(refused).filter(|until_s| now_s < *until_s))
}

/// Takes in that the relay refused a dispatch for MINIMIZE: that is no attempt, and what MINIMIZE holds waits a while.
pub(super) fn refused_for_minimize(tx: &Tx<'_>, dispatch: i64, now: Timestamp) -> Result<(), StoreError> {
    tx.minimize_refused.set(Some(now));
    let sql = "UPDATE outbox SET attempts = max(attempts - 1, 0) WHERE seq = ?1";
    tx.db.prepare_cached(sql)?.execute([dispatch])?;
    Ok(())
}

/// Parties that are suspended by order now, and until when.
pub(super) fn suspended(tx: &Tx<'_>, now: Timestamp) -> Result<Vec<(PartyNumber, i64)>, StoreError> {
    let sql = "SELECT subject, until_s FROM orders AS standing WHERE kind = ?1 AND until_s > ?3
        AND NOT EXISTS (SELECT 1 FROM orders AS later WHERE later.subject = standing.subject
            AND later.kind IN (?1, ?2) AND later.number > standing.number) ORDER BY subject";
    let mut statement = tx.db.prepare_cached(sql)?;
    let rows = statement.query_map([SUSPEND, LIFT, now.as_second()], |row| Ok((row.get(0)?, row.get(1)?)))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Forgets the orders of a log that has ended: the new one has none of them. Gives those that stood, as the hub may
/// give them again.
pub(super) fn forget(tx: &Tx<'_>, now: Timestamp) -> Result<Vec<String>, StoreError> {
    tx.minimize_refused.set(None);
    let until = |until_s: i64| match until_s.checked_mul(1_000_000) {
        Some(micros) => format!(" until {}", time_text(micros)),
        None => String::new(),
    };
    let minimized = minimized(tx, now)?.map(|until_s| format!("`pouch order minimize`{}", until(until_s)));
    let suspended = suspended(tx, now)?.into_iter();
    let suspended = suspended
        .map(|(party, until_s)| format!("`pouch order suspend {}`{}", tx.code(party), until(until_s)));
    tx.db.execute("DELETE FROM orders", [])?;
    Ok(minimized.into_iter().chain(suspended).collect())
}

/// What stands, in words for `pouch status`.
pub(super) fn standing(tx: &Tx<'_>, now: Timestamp) -> Result<Vec<String>, StoreError> {
    let until = |until_s: i64| match until_s.checked_mul(1_000_000) {
        Some(micros) => format!("until {}", time_text(micros)),
        None => "until it is lifted".to_owned(),
    };
    let minimized = minimized(tx, now)?.map(|until_s| {
        format!("MINIMIZE {}: ROUTINE and PRIORITY wait here, IMMEDIATE and FLASH go out", until(until_s))
    });
    let suspended = suspended(tx, now)?;
    let suspended = suspended.into_iter().map(|(party, until_s)| {
        format!("{} is suspended {}: it can neither send nor receive", tx.code(party), until(until_s))
    });
    Ok(minimized.into_iter().chain(suspended).collect())
}

/// What a person orders, once the party's number is known.
fn order_kind(
    new: &NewOrder,
    party: Option<PartyNumber>,
    until_s: Option<u64>,
) -> Result<OrderKind, DeskError> {
    let invalid = |field, problem| DeskError::Invalid { field, problem };
    let party = || party.ok_or(invalid("party", "is missing; name the mission by its code"));
    match new.kind.as_str() {
        "suspend" => Ok(OrderKind::Suspend { party: party()?, until_s: until_s.unwrap_or(u64::MAX) }),
        "lift" => Ok(OrderKind::Lift { party: party()? }),
        "minimize" => until_s
            .map(|until_s| OrderKind::Minimize { until_s })
            .ok_or(invalid("until", "is missing; write 2026-11-24T12:00:00Z or 241200ZNOV26")),
        "erase" => new
            .position
            .map(|position| OrderKind::Erase { position: Position(position) })
            .ok_or(invalid("position", "is missing; `pouch relay log` lists positions")),
        _ => Err(invalid("kind", "is none of suspend, lift, minimize, erase")),
    }
}
