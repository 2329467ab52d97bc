//! Domain types as columns. Numbers from outside are cut to SQLite's 63 bits.

use jiff::Timestamp;
use rusqlite::{
    Row, ToSql,
    types::{FromSql, FromSqlError, FromSqlResult, ToSqlOutput, ValueRef},
};

use super::addressing::Naming;
use crate::{
    merkle::Hash,
    roster::PartyNumber,
    wire::{DispatchId, EnvelopeHash, Position, Precedence, Role, SubmissionNumber},
};

/// A number for SQLite. Numbers of this desk never come near the end; one that a peer made up is cut
/// there, and so fits nothing that the store looks for.
pub(super) fn integer(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// A time as microseconds since 1970.
pub(super) fn micros(at: Timestamp) -> i64 {
    at.as_microsecond()
}

/// A time of the store as the API writes it.
pub(super) fn time_text(micros: i64) -> String {
    Timestamp::from_microsecond(micros).unwrap_or(Timestamp::MAX).to_string()
}

/// A time that may be missing, read from a column.
pub(super) fn optional_time(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<String>> {
    Ok(row.get::<_, Option<i64>>(column)?.map(time_text))
}

macro_rules! column {
    ($type:ty as $raw:ty: $to:expr, $from:expr) => {
        impl ToSql for $type {
            fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
                let to: fn($type) -> $raw = $to;
                Ok(ToSqlOutput::from(to(*self)))
            }
        }

        impl FromSql for $type {
            fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
                let from: fn($raw) -> Option<$type> = $from;
                from(<$raw>::column_result(value)?).ok_or(FromSqlError::InvalidType)
            }
        }
    };
}

column!(Hash as Vec<u8>: |hash| hash.0.into(), |bytes| bytes.try_into().ok().map(Hash));
column!(EnvelopeHash as Vec<u8>: |hash| hash.0.0.into(), |bytes| bytes.try_into().ok().map(|hash| EnvelopeHash(Hash(hash))));
column!(DispatchId as Vec<u8>: |id| id.0.into(), |bytes| bytes.try_into().ok().map(DispatchId));
column!(PartyNumber as i64: |party| party.0.into(), |number| u32::try_from(number).ok().map(PartyNumber));
column!(Position as i64: |position| integer(position.0), |number| u64::try_from(number).ok().map(Position));
column!(SubmissionNumber as i64: |number| integer(number.0), |number| u64::try_from(number).ok().map(SubmissionNumber));
column!(Role as i64: |role| match role { Role::To => 1, Role::Info => 2 }, |number| match number {
    1 => Some(Role::To),
    2 => Some(Role::Info),
    _ => None,
});
column!(Naming as i64: |naming| match naming { Naming::To => 1, Naming::Info => 2, Naming::Exempt => 3 }, |number| match number {
    1 => Some(Naming::To),
    2 => Some(Naming::Info),
    3 => Some(Naming::Exempt),
    _ => None,
});
column!(Precedence as i64: |precedence| precedence as i64, |number| {
    Precedence::HIGHEST_FIRST.into_iter().find(|precedence| *precedence as i64 == number)
});
