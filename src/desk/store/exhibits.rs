//! What a proof file needs of one dispatch, gathered from all that the desk keeps: nothing here asks the relay.

use data_encoding::BASE64;
use prost::Message;
use rusqlite::{OptionalExtension, Row, params};

use super::{
    Store, StoreError, Tx, inbox, outbox,
    owing::leaf_of,
    proofs::proof_of,
    receipts::{decoded, parts},
};
use crate::{
    desk::{
        error::DeskError,
        view::{BatchShare, Evidence, ProvenEnvelope, ProvenLeaf, ProvenReceipt, ProvenRoster},
    },
    merkle::leaf_hash,
    wire::{
        EnvelopeHash, Position,
        convert::proof_frame,
        pb,
        receipt::{ReceiptBatch, ReceiptItem},
    },
};

impl Store {
    /// All that can be proven of a dispatch of the outbox or the inbox, by UUID or short id.
    ///
    /// # Errors
    /// [`DeskError::NotFound`]; [`DeskError::NotAccepted`] and [`DeskError::OnlyCounted`] for what the log does not hold;
    /// [`DeskError::Store`].
    pub(in crate::desk) fn exhibits(&self, id: &str) -> Result<Evidence, DeskError> {
        let tx = self.read();
        let (id_found, hash, envelope, is_sent) = match outbox::find(&tx, id)? {
            Some(seq) => {
                let sql = "SELECT outbox.id, submissions.hash, frame, submissions.position, submissions.salt, opening
                    FROM outbox JOIN submissions ON dispatch = seq WHERE seq = ?1
                    AND iif(outbox.state = 3, submissions.state = 2 AND submissions.position IS NOT NULL,
                        submissions.state = 1 AND submissions.hash = outbox.hash)
                    ORDER BY number DESC LIMIT 1";
                let found = tx
                    .db
                    .prepare_cached(sql)?
                    .query_row([seq], |row| Ok((row.get(0)?, row.get(1)?, sent(row)?)));
                let (id, hash, sent): (_, EnvelopeHash, Sent) = match found.optional()? {
                    Some(found) => found,
                    None => return Err(unlogged(&tx, seq, id)?),
                };
                (id, hash, sent_envelope(&tx, sent)?, true)
            }
            None => {
                let register = inbox::find(&tx, id)?.register;
                let sql = "SELECT id, hash, header, content, proof, position, salt, opening FROM inbox WHERE register = ?1";
                let mut statement = tx.db.prepare_cached(sql)?;
                let mut rows = statement.query([super::columns::integer(register)])?;
                let row = rows.next()?.ok_or_else(|| DeskError::NotFound { id: id.to_owned() })?;
                (row.get(0)?, row.get(1)?, received_envelope(&tx, row)?, false)
            }
        };
        let receipts = if is_sent { received_receipts(&tx, hash)? } else { own_receipts(&tx, hash)? };
        let roster = tx.roster.map(|roster| (roster.trust_domain(), roster.content().log.origin.as_str()));
        let (trust_domain, log_origin) = roster.unwrap_or_default();
        let id_found: crate::wire::DispatchId = id_found;
        Ok(Evidence {
            id: super::naming::id_text(&id_found.0),
            trust_domain: trust_domain.to_owned(),
            log_origin: log_origin.to_owned(),
            envelope,
            receipts,
            rosters: roster_versions(&tx)?,
        })
    }

    /// A roster version that is held, with its leaf.
    ///
    /// # Errors
    /// [`DeskError::NotFound`], [`DeskError::Store`].
    pub(in crate::desk) fn proven_roster(&self, version: u32) -> Result<ProvenRoster, DeskError> {
        let tx = self.read();
        let mut statement =
            tx.db.prepare_cached("SELECT note, leaf, position FROM rosters WHERE version = ?1")?;
        let mut rows = statement.query([version])?;
        let row = rows.next()?.ok_or_else(|| DeskError::NotFound { id: version.to_string() })?;
        let (note, leaf): (Vec<u8>, Option<Vec<u8>>) = (row.get(0)?, row.get(1)?);
        let position: Option<Position> = row.get(2)?;
        let proof = match (position, &leaf) {
            (Some(position), Some(leaf)) => proof_of(&tx, position, leaf_hash(leaf), None)?,
            _ => None,
        };
        Ok(ProvenRoster {
            version,
            note: String::from_utf8(note).map_err(|_| StoreError::Corrupt { what: "a roster" })?,
            leaf: leaf.map(|leaf| BASE64.encode(&leaf)),
            position: position.map(|position| position.0),
            proof: proof.map(|proof| proof.to_string()),
        })
    }
}

/// Why the log holds no record of a dispatch that was handed in here.
fn unlogged(tx: &Tx<'_>, seq: i64, id: &str) -> Result<DeskError, StoreError> {
    let sql = "SELECT refusal_code FROM outbox WHERE seq = ?1 AND state = 3";
    let refused = tx.db.prepare_cached(sql)?.query_row([seq], |row| row.get::<_, Option<String>>(0));
    let id = id.to_owned();
    Ok(match refused.optional()? {
        Some(code) => DeskError::OnlyCounted { id, code: code.unwrap_or_default() },
        None => DeskError::NotAccepted { id },
    })
}

/// A submission's row, from its frame on.
struct Sent {
    frame: Vec<u8>,
    leaf: Told,
}

/// What the relay told of a traffic leaf.
struct Told {
    position: Option<Position>,
    salt: Vec<u8>,
    opening: Vec<u8>,
}

fn told(row: &Row<'_>, first: usize) -> rusqlite::Result<Told> {
    let (salt, opening): (Option<_>, Option<_>) = (row.get(first + 1)?, row.get(first + 2)?);
    Ok(Told {
        position: row.get(first)?,
        salt: salt.unwrap_or_default(),
        opening: opening.unwrap_or_default(),
    })
}

fn sent(row: &Row<'_>) -> rusqlite::Result<Sent> {
    Ok(Sent { frame: row.get(2)?, leaf: told(row, 3)? })
}

fn sent_envelope(tx: &Tx<'_>, sent: Sent) -> Result<ProvenEnvelope, StoreError> {
    let submit = pb::Submit::decode(&sent.frame[..]);
    let submit = submit.map_err(|_| StoreError::Corrupt { what: "a sealed envelope" })?;
    Ok(ProvenEnvelope {
        header: BASE64.encode(&submit.header),
        ciphertext: BASE64.encode(&submit.ciphertext),
        signature: share(&submit.proof.unwrap_or_default()),
        leaf: leaf(tx, sent.leaf)?,
    })
}

fn received_envelope(tx: &Tx<'_>, row: &Row<'_>) -> Result<ProvenEnvelope, StoreError> {
    let (header, content): (Vec<u8>, Vec<u8>) = (row.get(2)?, row.get(3)?);
    let proof = batch_proof(&row.get::<_, Vec<u8>>(4)?)?;
    Ok(ProvenEnvelope {
        header: BASE64.encode(&header),
        ciphertext: BASE64.encode(&content),
        signature: share(&proof),
        leaf: leaf(tx, told(row, 5)?)?,
    })
}

fn received_receipts(tx: &Tx<'_>, envelope: EnvelopeHash) -> Result<Vec<ProvenReceipt>, StoreError> {
    let sql = "SELECT item, details, proof, position, salt, opening FROM receipts_of JOIN receipts_in
        USING (position, hash) WHERE envelope = ?1 ORDER BY position";
    let mut statement = tx.db.prepare_cached(sql)?;
    let mut rows = statement.query([envelope])?;
    let mut receipts = Vec::new();
    while let Some(row) = rows.next()? {
        let (bytes, details): (Vec<u8>, Vec<u8>) = (row.get(0)?, row.get(1)?);
        let item = ReceiptItem::decode(&bytes).map_err(|_| StoreError::Corrupt { what: "a receipt" })?;
        receipts.push(ProvenReceipt {
            kind: item.kind.name().to_owned(),
            from: tx.code(item.receiptor),
            item: BASE64.encode(&bytes),
            details: BASE64.encode(&details),
            signature: share(&batch_proof(&row.get::<_, Vec<u8>>(2)?)?),
            leaf: leaf(tx, told(row, 3)?)?,
        });
    }
    Ok(receipts)
}

/// Those that this desk gave, out of their frames.
fn own_receipts(tx: &Tx<'_>, envelope: EnvelopeHash) -> Result<Vec<ProvenReceipt>, StoreError> {
    let sql = "SELECT frame, position, salt, opening FROM stored_of JOIN stored USING (number)
            WHERE envelope = ?1 AND log = (SELECT log FROM desk)
        UNION ALL SELECT frame, position, salt, opening FROM stored_of JOIN stored_earlier USING (log, number)
            WHERE envelope = ?1";
    let mut statement = tx.db.prepare_cached(sql)?;
    let mut rows = statement.query(params![envelope])?;
    let mut receipts = Vec::new();
    while let Some(row) = rows.next()? {
        let frame = decoded(row.get(0)?)?;
        let signature = frame.signature.as_ref().try_into();
        let signature = signature.map_err(|_| StoreError::Corrupt { what: "a receipt frame" })?;
        let batch = ReceiptBatch::new(frame.number, parts(&frame)?, signature);
        for (index, part) in batch.parts.iter().enumerate() {
            if part.item.envelopes.iter().any(|(named, _)| *named == envelope) {
                receipts.push(ProvenReceipt {
                    kind: part.item.kind.name().to_owned(),
                    from: tx.code(part.item.receiptor),
                    item: BASE64.encode(&part.bytes),
                    details: BASE64.encode(&part.details),
                    signature: share(&proof_frame(&batch.proof(index))),
                    leaf: leaf(tx, told(row, 1)?)?,
                });
            }
        }
    }
    Ok(receipts)
}

fn roster_versions(tx: &Tx<'_>) -> Result<Vec<u32>, StoreError> {
    let mut statement = tx.db.prepare_cached("SELECT version FROM rosters ORDER BY version")?;
    let rows = statement.query_map([], |row| row.get(0))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

fn leaf(tx: &Tx<'_>, told: Told) -> Result<ProvenLeaf, StoreError> {
    let Told { position, salt, opening } = told;
    // Without an opening, the relay had erased it before it told of it.
    let Some(position) = position.filter(|_| !opening.is_empty()) else { return Ok(ProvenLeaf::default()) };
    let extra = [&salt[..], &opening[..]].concat();
    let proof = proof_of(tx, position, leaf_of(&salt, &opening), Some(extra))?;
    Ok(ProvenLeaf {
        position: Some(position.0),
        salt: BASE64.encode(&salt),
        opening: BASE64.encode(&opening),
        proof: proof.map(|proof| proof.to_string()),
    })
}

fn batch_proof(bytes: &[u8]) -> Result<pb::BatchProof, StoreError> {
    pb::BatchProof::decode(bytes).map_err(|_| StoreError::Corrupt { what: "a batch signature" })
}

fn share(proof: &pb::BatchProof) -> BatchShare {
    BatchShare {
        count: proof.count,
        index: proof.index,
        path: BASE64.encode(&proof.path),
        signature: BASE64.encode(&proof.signature),
    }
}
