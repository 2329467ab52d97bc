//! Names of dispatches: ids, short ids, references, date-time groups, and the randomness they need.

use jiff::{Timestamp, tz::TimeZone};
use ring::rand::{SecureRandom, SystemRandom};
use rusqlite::{OptionalExtension, params};
use uuid::Uuid;

use super::{StoreError, Tx, columns::integer, schema::exists};
use crate::{merkle, wire::DispatchId};

/// Crockford's base32 without I, L, O and U.
const CROCKFORD: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";

/// Fresh random bytes.
pub(super) fn random<const N: usize>() -> Result<[u8; N], StoreError> {
    let mut bytes = [0; N];
    SystemRandom::new().fill(&mut bytes).map_err(|_| StoreError::Random)?;
    Ok(bytes)
}

/// A new dispatch's id.
pub(super) fn new_id() -> DispatchId {
    DispatchId(*Uuid::now_v7().as_bytes())
}

/// An id as text.
pub(super) fn id_text(id: &[u8; 16]) -> String {
    Uuid::from_bytes(*id).to_string()
}

/// Takes the first free short id of a dispatch: 4 characters of its hash, 5 or 6 where shorter ones are
/// taken. Sender and addressee so mostly come to the same one.
pub(super) fn take_short(tx: &Tx<'_>, id: &DispatchId) -> Result<String, StoreError> {
    let mut attempt = 0_u32;
    loop {
        let digest = merkle::sha256_parts(&[&id.0, &(attempt / 3).to_be_bytes()]);
        let length = 4 + usize::try_from(attempt.min(2)).expect("at most 2");
        let short: String =
            digest.0.iter().take(length).map(|byte| char::from(CROCKFORD[usize::from(byte % 32)])).collect();
        let sql = "INSERT OR IGNORE INTO shorts (short) VALUES (?1)";
        if tx.db.prepare_cached(sql)?.execute([&short])? == 1 {
            return Ok(short);
        }
        attempt += 1;
    }
}

/// An id as a person types it: what a short id or a UUID means.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum TypedId {
    /// Upper case, with Crockford's look-alikes read as what they look like.
    Short(String),
    /// A UUID's bytes.
    Long([u8; 16]),
}

/// Reads an id as a person types it.
pub(super) fn typed_id(text: &str) -> TypedId {
    match Uuid::try_parse(text.trim()) {
        Ok(id) => TypedId::Long(*id.as_bytes()),
        Err(_) => TypedId::Short(text.trim().to_uppercase().replace('O', "0").replace(['I', 'L'], "1")),
    }
}

/// The next reference of this desk, `IDN/2026/0001`, past any that a person chose.
pub(super) fn next_reference(tx: &Tx<'_>, now: Timestamp) -> Result<String, StoreError> {
    let year = now.to_zoned_datetime(TimeZone::UTC).year();
    let code = tx.own_code();
    let sql = "SELECT last FROM registry WHERE year = ?1";
    let mut last: u64 =
        tx.db.prepare_cached(sql)?.query_row([year], |row| row.get(0)).optional()?.unwrap_or(0);
    loop {
        last += 1;
        let reference = format!("{code}/{year}/{last:04}");
        if !exists(tx.db, "SELECT 1 FROM outbox WHERE reference = ?1", [&reference])? {
            let sql = "INSERT OR REPLACE INTO registry (year, last) VALUES (?1, ?2)";
            tx.db.prepare_cached(sql)?.execute(params![year, integer(last)])?;
            return Ok(reference);
        }
    }
}

/// The date-time group of `now`; a further dispatch of the same minute gets `-2`, `-3`, so that each is
/// unique and none lies about the time.
pub(super) fn next_dtg(tx: &Tx<'_>, now: Timestamp) -> Result<String, StoreError> {
    let minute = now.strftime("%d%H%MZ%b%y").to_string().to_uppercase();
    let sql = "SELECT count(*) FROM outbox WHERE dtg = ?1 OR dtg BETWEEN ?1 || '-' AND ?1 || '-~'";
    let taken: u64 = tx.db.prepare_cached(sql)?.query_row([&minute], |row| row.get(0))?;
    Ok(if taken == 0 { minute } else { format!("{minute}-{}", taken + 1) })
}
