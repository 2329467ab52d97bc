//! What a desk can prove of a dispatch: what was signed, by whom, and its leaf in the log.

use serde::{Deserialize, Serialize};

/// All that a desk can prove of one dispatch, for a proof file: answer to `GET /v1/dispatches/{id}/evidence`, for
/// what was sent and what was received alike. Bytes are in base64, as they were signed and sent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Evidence {
    /// UUID v7.
    pub id: String,
    /// Trust domain.
    pub trust_domain: String,
    /// The audit log's origin, by the roster in force.
    pub log_origin: String,
    /// The envelope.
    pub envelope: ProvenEnvelope,
    /// Receipts that name it: for what was sent, those of addressees and the relay; for what was received, this
    /// desk's own.
    pub receipts: Vec<ProvenReceipt>,
    /// Every roster version held, from the trust bundle's to the one in force: `GET /v1/rosters/{version}`.
    pub rosters: Vec<u32>,
}

/// An envelope, its signature and its leaf.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProvenEnvelope {
    /// The header's bytes.
    pub header: String,
    /// The ciphertext; until sealing exists, the dispatch in clear.
    pub ciphertext: String,
    /// The sender's share of a batch signature, tag `envelope`.
    pub signature: BatchShare,
    /// Where the log has it.
    pub leaf: ProvenLeaf,
}

/// A receipt, its signature and its leaf.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProvenReceipt {
    /// `delivered`, `set aside`, `read`, `acknowledged`, `withdrawn`, `expired`.
    pub kind: String,
    /// Code of who gave it.
    pub from: String,
    /// The item's bytes.
    pub item: String,
    /// Details beside it, or empty: they name a person.
    pub details: String,
    /// The receiptor's share of a batch signature, tag `receipt`.
    pub signature: BatchShare,
    /// Where the log has the batch.
    pub leaf: ProvenLeaf,
}

/// A roster version and its leaf: answer to `GET /v1/rosters/{version}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProvenRoster {
    /// The version.
    pub version: u32,
    /// The signed note.
    pub note: String,
    /// Its administrative leaf; absent for one that came from a file and was not seen in the log yet.
    pub leaf: Option<String>,
    /// Position of that leaf.
    pub position: Option<u64>,
    /// As in [`ProvenLeaf`].
    pub proof: Option<String>,
}

/// One party's share of a batch signature.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BatchShare {
    /// Items in the batch.
    pub count: u32,
    /// Which one this is.
    pub index: u32,
    /// Hashes from the item to the batch's root, 32 bytes each.
    pub path: String,
    /// Ed25519.
    pub signature: String,
}

/// A traffic leaf of the log, and what opens it. All but the proof is absent for what the relay has not logged yet.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProvenLeaf {
    /// Its position.
    pub position: Option<u64>,
    /// 32 bytes.
    pub salt: String,
    /// 45 bytes.
    pub opening: String,
    /// A tlog-proof as text, with salt and opening as `extra`; absent while it is owed.
    pub proof: Option<String>,
}
