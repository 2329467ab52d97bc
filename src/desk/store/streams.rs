//! Streams: the numbers that sender and addressee give each other on slips, one series for each pair and
//! precedence (FORMATS 5). Sent ones are counted and voided here, received ones checked for gaps.

use jiff::Timestamp;
use rusqlite::{OptionalExtension, params};

use super::{StoreError, Tx, alarms, columns::integer, expired, schema::exists};
use crate::{
    alarms::is_whole,
    merkle::Hash,
    roster::PartyNumber,
    seal::{SLIP_VOIDED_MAX, Slip},
    wire::{EnvelopeHash, Precedence, SubmissionNumber},
};

/// Makes the next slip of a stream. [`sent`] must follow once the envelope has a hash.
pub(super) fn next(
    tx: &Tx<'_>,
    party: PartyNumber,
    precedence: Precedence,
    epoch: u32,
) -> Result<Slip, StoreError> {
    let stream = params![party, precedence, epoch];
    let sql = "SELECT max(number) FROM slips_out WHERE party = ?1 AND precedence = ?2 AND epoch = ?3";
    let last: Option<u64> = tx.db.prepare_cached(sql)?.query_row(stream, |row| row.get(0))?;
    let sql = "SELECT hash FROM slips_out WHERE party = ?1 AND precedence = ?2 AND epoch = ?3 AND voided = 0
        ORDER BY number DESC LIMIT 1";
    let previous: Option<Hash> = tx.db.prepare_cached(sql)?.query_row(stream, |row| row.get(0)).optional()?;
    let sql =
        "SELECT number FROM slips_out WHERE party = ?1 AND precedence = ?2 AND epoch = ?3 AND voided = 1
        AND announced_by IS NULL ORDER BY number LIMIT ?4";
    let bound = integer(SLIP_VOIDED_MAX as u64);
    let mut statement = tx.db.prepare_cached(sql)?;
    let voided = statement.query_map(params![party, precedence, epoch, bound], |row| row.get(0))?;
    Ok(Slip {
        epoch,
        number: last.unwrap_or(0) + 1,
        previous: previous.unwrap_or(Hash::ZERO),
        voided: voided.collect::<Result<_, _>>()?,
    })
}

/// Notes that a slip went into a sealed envelope.
pub(super) fn sent(
    tx: &Tx<'_>,
    party: PartyNumber,
    precedence: Precedence,
    slip: &Slip,
    submission: SubmissionNumber,
    hash: EnvelopeHash,
) -> Result<(), StoreError> {
    let sql = "INSERT INTO slips_out (party, precedence, epoch, number, submission, hash)
        VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
    let number = integer(slip.number);
    tx.db.prepare_cached(sql)?.execute(params![party, precedence, slip.epoch, number, submission, hash])?;
    let sql = "UPDATE slips_out SET announced_by = ?5
        WHERE party = ?1 AND precedence = ?2 AND epoch = ?3 AND number = ?4";
    let mut statement = tx.db.prepare_cached(sql)?;
    for voided in &slip.voided {
        statement.execute(params![party, precedence, slip.epoch, integer(*voided), submission])?;
    }
    Ok(())
}

/// Gives up the stream numbers of a refused submission; the next slips of those streams say so, and say
/// again what the refused one would have told.
pub(super) fn void(tx: &Tx<'_>, submission: SubmissionNumber) -> Result<(), StoreError> {
    let sql = "UPDATE slips_out SET voided = 1 WHERE submission = ?1";
    tx.db.prepare_cached(sql)?.execute([submission])?;
    let sql = "UPDATE slips_out SET announced_by = NULL WHERE announced_by = ?1";
    tx.db.prepare_cached(sql)?.execute([submission])?;
    Ok(())
}

/// An envelope that came on a stream.
#[derive(Clone, Copy)]
pub(super) struct Arrival<'a> {
    pub sender: PartyNumber,
    pub precedence: Precedence,
    pub slip: &'a Slip,
    pub hash: EnvelopeHash,
    /// Register number under which a person finds what is noticed.
    pub register: u64,
}

/// Checks a received slip against its stream: opens and closes gaps, and leaves notices and alarms. Nothing
/// that is wrong with a slip keeps the dispatch out of the inbox.
pub(super) fn received(tx: &Tx<'_>, arrival: &Arrival<'_>, now: Timestamp) -> Result<(), StoreError> {
    let Arrival { sender, precedence, slip, hash, .. } = *arrival;
    let number = integer(slip.number);
    let sql =
        "SELECT hash FROM slips_in WHERE sender = ?1 AND precedence = ?2 AND epoch = ?3 AND number = ?4";
    let key = params![sender, precedence, slip.epoch, number];
    let same: Option<EnvelopeHash> =
        tx.db.prepare_cached(sql)?.query_row(key, |row| row.get(0)).optional()?;
    if let Some(known) = same {
        if known != hash {
            let what = format!("stream number {number} came before with another envelope");
            suspicious(tx, arrival, "number", &what, now)?;
        }
        return Ok(());
    }
    let sql = "SELECT max(epoch) FROM slips_in WHERE sender = ?1 AND precedence = ?2";
    let newest: Option<u32> =
        tx.db.prepare_cached(sql)?.query_row(params![sender, precedence], |row| row.get(0))?;
    match newest {
        Some(newest) if slip.epoch < newest => {
            let what = format!("it counts in epoch {}, older than {newest}", slip.epoch);
            suspicious(tx, arrival, "epoch", &what, now)?;
        }
        Some(newest) if slip.epoch > newest => {
            let sentence = "first of a new series: the sender's store was restored or replaced";
            notice(tx, arrival.register, sentence)?;
        }
        Some(_) | None => {}
    }
    follow(tx, arrival, now)?;
    let sql = "INSERT INTO slips_in (sender, precedence, epoch, number, hash) VALUES (?1, ?2, ?3, ?4, ?5)";
    tx.db.prepare_cached(sql)?.execute(params![sender, precedence, slip.epoch, number, hash])?;
    expired::explain(tx, sender, precedence)
}

/// Gap and chain within one epoch, before the new number is noted.
fn follow(tx: &Tx<'_>, arrival: &Arrival<'_>, now: Timestamp) -> Result<(), StoreError> {
    let Arrival { sender, precedence, slip, .. } = *arrival;
    for voided in &slip.voided {
        close(tx, arrival, integer(*voided))?;
    }
    let sql = "SELECT max(number) FROM slips_in WHERE sender = ?1 AND precedence = ?2 AND epoch = ?3";
    let stream = params![sender, precedence, slip.epoch];
    let last: Option<i64> = tx.db.prepare_cached(sql)?.query_row(stream, |row| row.get(0))?;
    let (last, number) = (last.unwrap_or(0), integer(slip.number));
    if number < last {
        return match close(tx, arrival, number)? {
            true => Ok(()),
            false => suspicious(tx, arrival, "void", "the sender had given its stream number up", now),
        };
    }
    let missing = missing(last + 1, number - 1, &slip.voided);
    for (first, last) in &missing {
        open(tx, arrival, *first, *last)?;
    }
    if missing.is_empty() && slip.previous != expected_previous(tx, arrival)? {
        suspicious(tx, arrival, "chain", "it follows on another envelope than the last one that came", now)?;
    }
    Ok(())
}

/// The hash that an envelope without a gap before it must name: of the highest number that came and was
/// not voided.
fn expected_previous(tx: &Tx<'_>, arrival: &Arrival<'_>) -> Result<Hash, StoreError> {
    let Arrival { sender, precedence, slip, .. } = *arrival;
    let sql = "SELECT number, hash FROM slips_in WHERE sender = ?1 AND precedence = ?2 AND epoch = ?3
        ORDER BY number DESC LIMIT ?4";
    let bound = integer(SLIP_VOIDED_MAX as u64 + 1);
    let mut statement = tx.db.prepare_cached(sql)?;
    let mut rows = statement.query(params![sender, precedence, slip.epoch, bound])?;
    while let Some(row) = rows.next()? {
        if !slip.voided.contains(&row.get(0)?) {
            return Ok(row.get(1)?);
        }
    }
    Ok(Hash::ZERO)
}

/// The ranges of `first..=last` that are not voided; at most one more than there are voided numbers.
fn missing(first: i64, last: i64, voided: &[u64]) -> Vec<(i64, i64)> {
    let mut voided: Vec<i64> = voided.iter().copied().map(integer).collect();
    voided.retain(|number| (first..=last).contains(number));
    voided.sort_unstable();
    let mut ranges = Vec::new();
    let mut start = first;
    for number in voided {
        if start < number {
            ranges.push((start, number - 1));
        }
        start = number + 1;
    }
    if start <= last {
        ranges.push((start, last));
    }
    ranges
}

fn open(tx: &Tx<'_>, arrival: &Arrival<'_>, first: i64, last: i64) -> Result<(), StoreError> {
    let sql =
        "INSERT INTO gaps (sender, precedence, epoch, first, last, register) VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
    tx.db.prepare_cached(sql)?.execute(params![
        arrival.sender,
        arrival.precedence,
        arrival.slip.epoch,
        first,
        last,
        integer(arrival.register)
    ])?;
    Ok(())
}

/// Takes one number out of the gap that holds it; false where none does.
fn close(tx: &Tx<'_>, arrival: &Arrival<'_>, number: i64) -> Result<bool, StoreError> {
    let Arrival { sender, precedence, slip, .. } = *arrival;
    let sql = "SELECT first, last, register FROM gaps
        WHERE sender = ?1 AND precedence = ?2 AND epoch = ?3 AND first <= ?4 AND last >= ?4";
    let found: Option<(i64, i64, u64)> = tx
        .db
        .prepare_cached(sql)?
        .query_row(params![sender, precedence, slip.epoch, number], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?))
        })
        .optional()?;
    let Some((first, last, register)) = found else { return Ok(false) };
    let sql = "DELETE FROM gaps WHERE sender = ?1 AND precedence = ?2 AND epoch = ?3 AND first = ?4";
    tx.db.prepare_cached(sql)?.execute(params![sender, precedence, slip.epoch, first])?;
    let gap = Arrival { register, ..*arrival };
    for (first, last) in [(first, number - 1), (number + 1, last)] {
        if first <= last {
            open(tx, &gap, first, last)?;
        }
    }
    Ok(true)
}

/// Something that honest desks and an honest relay do not do: a notice beside the dispatch, and an alarm.
fn suspicious(
    tx: &Tx<'_>,
    arrival: &Arrival<'_>,
    kind: &str,
    what: &str,
    now: Timestamp,
) -> Result<(), StoreError> {
    notice(tx, arrival.register, what)?;
    let (code, register) = (tx.code(arrival.sender), arrival.register);
    let sentence = format!(
        "register {register} from {code}: {what}; mail goes on; save this desk's folder, and ask {code} by telephone what it sent"
    );
    alarms::raise(tx, now, &format!("stream-{kind}-{register}"), &sentence)
}

pub(super) fn notice(tx: &Tx<'_>, register: u64, sentence: &str) -> Result<(), StoreError> {
    let register = integer(register);
    if !exists(
        tx.db,
        "SELECT 1 FROM notices WHERE register = ?1 AND sentence = ?2",
        params![register, sentence],
    )? {
        let sql = "INSERT INTO notices (register, sentence) VALUES (?1, ?2)";
        tx.db.prepare_cached(sql)?.execute(params![register, sentence])?;
    }
    Ok(())
}

/// Notices of one dispatch, and what is missing before it.
pub(super) fn notices(tx: &Tx<'_>, register: u64) -> Result<Vec<String>, StoreError> {
    let register = integer(register);
    let mut statement =
        tx.db.prepare_cached("SELECT sentence FROM notices WHERE register = ?1 ORDER BY rowid")?;
    let mut sentences: Vec<String> =
        statement.query_map([register], |row| row.get(0))?.collect::<Result<_, _>>()?;
    let sql = "SELECT first, last FROM gaps WHERE register = ?1 ORDER BY epoch, first";
    let mut statement = tx.db.prepare_cached(sql)?;
    let mut rows = statement.query([register])?;
    while let Some(row) = rows.next()? {
        sentences.push(missing_words(row.get(0)?, row.get(1)?));
    }
    Ok(sentences)
}

/// Alarms for all gaps that are still open, the oldest first, with the time of each.
pub(super) fn gap_alarms(tx: &Tx<'_>, gaps_max: u32) -> Result<Vec<(i64, String)>, StoreError> {
    let sql = "SELECT received_at, gaps.sender, gaps.precedence, first, last, register
        FROM gaps JOIN inbox USING (register) ORDER BY register DESC LIMIT ?1";
    let mut statement = tx.db.prepare_cached(sql)?;
    let mut rows = statement.query([gaps_max])?;
    let mut alarms = Vec::new();
    while let Some(row) = rows.next()? {
        let code = tx.code(row.get(1)?);
        let precedence = row.get::<_, Precedence>(2)?.name();
        let missing = missing_words(row.get(3)?, row.get(4)?);
        let register: u64 = row.get(5)?;
        let sentence = format!(
            "{precedence} from {code} before register {register}: {missing}; other mail goes on; nothing need be saved; call {code} to have it sent again"
        );
        debug_assert!(is_whole(&sentence));
        alarms.push((row.get(0)?, sentence));
    }
    alarms.reverse();
    Ok(alarms)
}

fn missing_words(first: i64, last: i64) -> String {
    match last - first {
        0 => format!("1 dispatch is missing (stream number {first})"),
        more => format!("{} dispatches are missing (stream numbers {first} to {last})", more + 1),
    }
}
