//! What a proof file proves, and why it does not.

use std::collections::BTreeMap;

use super::{AuditError, Part};
use crate::{
    batch::BatchError,
    merkle::Hash,
    roster::{PartyNumber, RosterError},
    wire::{EnvelopeHash, Malformed, envelope::Core, order::SignedOrder, receipt::ReceiptItem},
};

/// What holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProvenDispatch {
    /// What its sender signed.
    pub core: Core,
    /// The envelope's name.
    pub hash: EnvelopeHash,
    /// What the relay did with it.
    pub outcome: Outcome,
    /// Its leaf.
    pub leaf: ProvenLeaf,
    /// Whether the sender's key is shown to have been in force when the relay took it.
    pub key_in_force: KeyInForce,
    /// In the file's order.
    pub receipts: Vec<ProvenReceipt>,
    /// Whether the ciphertext is in the file, and the one that was signed.
    pub has_content: bool,
    /// What became of the signers' keys since, by the newest roster at hand.
    pub revoked_since: Vec<Revocation>,
    /// Codes of parties, by the newest roster at hand.
    pub codes: BTreeMap<PartyNumber, String>,
    /// That roster's version.
    pub newest_roster: u32,
}

/// What the relay did with an envelope, by its leaf.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Took it, to deliver it.
    Accepted,
    /// Refused it for good; the code stands in a receipt that the relay signed.
    Refused,
}

/// A leaf that is in the log, and what it commits to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProvenLeaf {
    /// Where.
    pub position: u64,
    /// The relay's log time, microseconds since 1970.
    pub log_time_us: u64,
    /// The roster in force at the relay.
    pub roster_version: u32,
    /// How many witnesses of those that count have signed.
    pub witnesses: usize,
    /// How many they must be.
    pub quorum: usize,
    /// The roster by which they were counted: the newest that is shown to stand below the checkpoint, or the one
    /// before.
    pub counted_by: u32,
}

/// A receipt that holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProvenReceipt {
    /// What its signer says.
    pub item: ReceiptItem,
    /// Its leaf.
    pub leaf: ProvenLeaf,
    /// Who and what remark: fits the hash that was signed, or is empty.
    pub details: Vec<u8>,
}

/// Whether the sender's key was in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyInForce {
    /// The log shows it: no newer roster stands before the envelope.
    ByLog(u32),
    /// Sender, relay and an addressee name rosters of this range, each under its own signature, and the addressee no
    /// older one than the relay; in all of them the sender is active with that key.
    ByAgreement {
        /// The oldest that one of them names.
        first: u32,
        /// The newest that one of them names, or that stands before the envelope.
        last: u32,
    },
    /// Nobody but sender and relay names the roster.
    Unproven {
        /// The sender's.
        header: u32,
        /// The relay's.
        opening: u32,
    },
}

/// A key that no longer counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Revocation {
    /// Whose.
    pub party: PartyNumber,
    /// What became of it.
    pub standing: Standing,
    /// Who says so.
    pub by: Ruling,
}

/// What changed a key's standing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ruling {
    /// A roster, from this version on.
    Roster(u32),
    /// An order of the hub, which the log holds.
    Order {
        /// The order's number.
        number: u32,
        /// Its leaf.
        position: u64,
        /// Seconds since 1970; `u64::MAX` is until it is lifted.
        until_s: u64,
        /// The order that lifted it.
        lifted_by: Option<u32>,
    },
}

/// What became of a signer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Suspended.
    Suspended,
    /// Revoked.
    Revoked,
    /// It signs with another key.
    KeyReplaced,
}

/// What a whole log says that was verified from the same bundle, and that a quorum has witnessed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogFacts {
    /// The log's name.
    pub origin: String,
    /// Leaves.
    pub size: u64,
    /// Hashes of the leaves that the file names, as far as the log holds them.
    pub leaves: BTreeMap<u64, Hash>,
    /// Where each roster version came into force.
    pub rosters: BTreeMap<u32, u64>,
    /// Their notes.
    pub notes: BTreeMap<u32, Vec<u8>>,
    /// Orders that suspend or lift, by position, rising. Nobody has verified their signatures.
    pub orders: Vec<(u64, SignedOrder)>,
}

/// Why a proof file does not prove its dispatch.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum ProofFault {
    /// The file was made for another bundle.
    #[error(
        "the trust bundle names roster {version}, and the file holds {first} to {last}: have it made again with this bundle, or give the log with --log"
    )]
    OtherBundle {
        /// The bundle's version.
        version: u32,
        /// The file's first.
        first: u32,
        /// Its last.
        last: u32,
    },
    /// A roster is not the one that the bundle leads to.
    #[error("roster {version}: {source}")]
    Roster {
        /// Its version.
        version: u32,
        /// Why.
        source: RosterError,
    },
    /// A roster that is needed is not there.
    #[error("{part}: it stands on roster {version}, which is not in the file: have it made again")]
    NoRoster {
        /// What needs it.
        part: Part,
        /// Its version.
        version: u32,
    },
    /// No roster is shown to be in the log before a checkpoint, so nobody's signature counts.
    #[error("{part}: the file shows no roster in the log below this checkpoint: have it made again")]
    Unlisted {
        /// What stands under the checkpoint.
        part: Part,
    },
    /// Too few witnesses.
    #[error("{part}: {found} witnesses have signed and a quorum is {quorum}: nothing is proven")]
    Unwitnessed {
        /// What.
        part: Part,
        /// Cosignatures that count.
        found: usize,
        /// How many it takes.
        quorum: usize,
    },
    /// The log at hand is another one: the ministry began a new log since, or before.
    #[error("{part}: it stands in another log than the one at hand: give that one, or none")]
    OtherLog {
        /// What.
        part: Part,
    },
    /// The log at hand is too old.
    #[error("{part}: the log ends at {size} leaves, before leaf {index}: get a newer copy")]
    LogTooShort {
        /// What.
        part: Part,
        /// Its leaf.
        index: u64,
        /// The log's size.
        size: u64,
    },
    /// The log at hand holds something else.
    #[error("{part}: the log holds another leaf {index}")]
    OtherLeaf {
        /// What.
        part: Part,
        /// Its leaf.
        index: u64,
    },
    /// The log at hand holds another roster of this version than the file.
    #[error("roster {version}: the log holds another one")]
    OtherRoster {
        /// Its version.
        version: u32,
    },
    /// Something cannot be read.
    #[error("{part}: {source}")]
    Malformed {
        /// What.
        part: Part,
        /// Why.
        source: Malformed,
    },
    /// A batch signature does not verify under the roster's key.
    #[error("{part}: {source}")]
    Signature {
        /// Of what.
        part: Part,
        /// Why.
        source: BatchError,
    },
    /// A leaf is not in the log, or its checkpoint not believed.
    #[error("{part}: {source}")]
    Leaf {
        /// Whose.
        part: Part,
        /// Why.
        source: AuditError,
    },
    /// Parts do not belong together.
    #[error("{part}: {problem}")]
    Wrong {
        /// Which.
        part: Part,
        /// What is wrong.
        problem: &'static str,
    },
}

impl ProofFault {
    /// Whether nothing is wrong with what is there, and too little is there.
    pub fn is_lack(&self) -> bool {
        match self {
            ProofFault::OtherBundle { .. }
            | ProofFault::NoRoster { .. }
            | ProofFault::Unlisted { .. }
            | ProofFault::Unwitnessed { .. }
            | ProofFault::OtherLog { .. }
            | ProofFault::LogTooShort { .. } => true,
            ProofFault::Roster { .. }
            | ProofFault::OtherLeaf { .. }
            | ProofFault::OtherRoster { .. }
            | ProofFault::Malformed { .. }
            | ProofFault::Signature { .. }
            | ProofFault::Leaf { .. }
            | ProofFault::Wrong { .. } => false,
        }
    }
}
