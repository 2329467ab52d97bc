//! What the relay took out of this desk's mailbox unread: by hash, sender and precedence it explains a gap in
//! the stream, which is then closed.

use rusqlite::params;

use super::{StoreError, Tx, streams};
use crate::{
    record::expiry::precedence_from_code,
    roster::PartyNumber,
    wire::{EnvelopeHash, Precedence, receipt::ReceiptItem},
};

/// Keeps an expired receipt that names this desk as addressee. A repetition changes nothing.
pub(super) fn note(tx: &Tx<'_>, item: &ReceiptItem) -> Result<(), StoreError> {
    let Some(precedence) = precedence_from_code(item.reason) else { return Ok(()) };
    let sql = "INSERT OR IGNORE INTO expired (hash, sender, precedence, position) VALUES (?1, ?2, ?3, ?4)";
    let mut statement = tx.db.prepare_cached(sql)?;
    for (hash, position) in &item.envelopes {
        statement.execute(params![hash, item.sender, precedence, position])?;
    }
    explain(tx, item.sender, precedence)
}

/// Closes each gap of a sender's stream that as many expired envelopes lie in as numbers are missing. The log
/// has a stream's envelopes in the order of their numbers, so those of a gap lie between its two ends.
pub(super) fn explain(tx: &Tx<'_>, sender: PartyNumber, precedence: Precedence) -> Result<(), StoreError> {
    let sql = "SELECT epoch, first, last, gaps.register, inbox.position,
            coalesce((SELECT before.position FROM slips_in JOIN inbox AS before USING (hash)
                WHERE slips_in.sender = gaps.sender AND slips_in.precedence = gaps.precedence
                AND slips_in.epoch = gaps.epoch AND slips_in.number = gaps.first - 1), -1)
        FROM gaps JOIN inbox USING (register) WHERE gaps.sender = ?1 AND gaps.precedence = ?2";
    let mut statement = tx.db.prepare_cached(sql)?;
    let rows = statement.query_map(params![sender, precedence], |row| {
        Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?, row.get(5)?))
    })?;
    let gaps: Vec<(u32, i64, i64, u64, i64, i64)> = rows.collect::<Result<_, _>>()?;
    for (epoch, first, last, register, end, start) in gaps {
        let between = params![sender, precedence, start, end];
        let sql = "SELECT hash FROM expired WHERE sender = ?1 AND precedence = ?2 AND explains IS NULL
            AND position > ?3 AND position < ?4";
        let mut statement = tx.db.prepare_cached(sql)?;
        let hashes: Vec<EnvelopeHash> =
            statement.query_map(between, |row| row.get(0))?.collect::<Result<_, _>>()?;
        let missing = last - first + 1;
        if i64::try_from(hashes.len()) != Ok(missing) {
            continue;
        }
        let sql = "DELETE FROM gaps WHERE sender = ?1 AND precedence = ?2 AND epoch = ?3 AND first = ?4";
        tx.db.prepare_cached(sql)?.execute(params![sender, precedence, epoch, first])?;
        let sql = "UPDATE expired SET explains = ?2 WHERE hash = ?1";
        let mut statement = tx.db.prepare_cached(sql)?;
        for hash in hashes {
            statement.execute(params![hash, first])?;
        }
        let sentence = match missing {
            1 => "1 dispatch before it expired at the relay before it was fetched".to_owned(),
            more => format!("{more} dispatches before it expired at the relay before they were fetched"),
        };
        streams::notice(tx, register, &sentence)?;
    }
    Ok(())
}
