//! What an operator's log and alarms should say.

use super::{ClockStanding, ConnId};
use crate::{roster::PartyNumber, wire::pb::GoodbyeCode};

/// For the operator's log. No content, no subject, no key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// A session is open.
    SessionOpened {
        /// Where.
        conn: ConnId,
        /// Whose.
        party: PartyNumber,
    },
    /// A session or connection was closed by us.
    SessionClosed {
        /// Where.
        conn: ConnId,
        /// Whose certificate.
        party: String,
        /// Why.
        code: GoodbyeCode,
        /// In words.
        sentence: String,
    },
    /// A submission was refused.
    Refused {
        /// Whose.
        party: PartyNumber,
        /// Why.
        code: u16,
        /// Whether it is a record.
        recorded: bool,
    },
    /// Two machines take turns as one party.
    Cloned {
        /// Which.
        party: PartyNumber,
    },
    /// A desk says that this relay has lost what it had accepted from it. A bare claim: it is not proven.
    LogBehind {
        /// Whose.
        party: PartyNumber,
    },
    /// How the machine's clock stands to log time, when that changes.
    Clock {
        /// By how many seconds the machine's clock is ahead.
        ahead_s: i64,
        /// What follows from it.
        standing: ClockStanding,
    },
    /// No quorum of witnesses has signed a checkpoint for too long. Mail goes on.
    Unwitnessed,
    /// The log's thread has been at one checkpoint for too long. Mail goes on.
    Unsigned,
    /// So few witnesses of the roster before are active with their keys under the one in force, that no checkpoint that
    /// covers it can be published. Mail goes on.
    WitnessesLost {
        /// Of those that count, how many are active.
        left: usize,
        /// How many must sign.
        quorum: usize,
    },
    /// A quorum has signed again.
    Witnessed,
    /// No roster so far lists the key that signs the log's checkpoints.
    LogKeyDropped,
    /// The roster lists it again.
    LogKeyListed,
    /// A witness has refused to cosign, by tlog-witness's status; 200 for a cosignature that does not verify.
    WitnessRefused {
        /// Which.
        party: PartyNumber,
        /// As HTTP.
        status: u16,
    },
    /// A witness says that it has cosigned a larger log than this relay has signed.
    WitnessAhead {
        /// Which.
        party: PartyNumber,
        /// Leaves, by its word.
        size: u64,
    },
    /// A witness about which one of the last two was said has cosigned: it holds this very log.
    WitnessAgrees {
        /// Which.
        party: PartyNumber,
    },
    /// An offered roster was not taken.
    RosterRefused(String),
}
