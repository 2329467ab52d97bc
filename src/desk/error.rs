//! Why the desk does not do what a person or a program asked.

use crate::desk::store::StoreError;

/// A refusal of the desk's API. Each text ends with what to do.
#[derive(Debug, thiserror::Error)]
pub enum DeskError {
    /// A field is missing or breaks its bound.
    #[error("{field} {problem}")]
    Invalid {
        /// Field of the request.
        field: &'static str,
        /// What is wrong and what to write instead.
        problem: &'static str,
    },
    /// The caller's own registry number stands on another dispatch.
    #[error("reference {reference} stands on another dispatch; choose another one or leave it out")]
    ReferenceTaken {
        /// As given.
        reference: String,
    },
    /// A code that is not in the roster.
    #[error("{code} is nobody in the roster; write one that is, the nearest are {}", nearest.join(", "))]
    UnknownAddressee {
        /// As given, in upper case.
        code: String,
        /// Codes of parties, groups and offices that are most like it, the likest first.
        nearest: Vec<String>,
    },
    /// An office that nobody holds today.
    #[error("nobody holds {code} on {day} by the roster; name a party instead, or ask the ministry")]
    Vacant {
        /// The office's code.
        code: String,
        /// In UTC.
        day: String,
    },
    /// Groups and codes together reach too many.
    #[error(
        "{parties} parties are more than the {} that one dispatch goes to; send it in parts",
        crate::limits::ADDRESSEES_MAX
    )]
    TooManyAddressees {
        /// How many they are.
        parties: usize,
    },
    /// A party that the roster or an order has suspended or revoked.
    #[error("{code} is suspended or revoked; leave it out, or ask the ministry")]
    Inactive {
        /// The party's code.
        code: String,
    },
    /// A topic that the roster does not have.
    #[error("the roster has no topic {topic}; use one of {}", known.join(", "))]
    UnknownTopic {
        /// As given.
        topic: String,
        /// Ids of all topics.
        known: Vec<String>,
    },
    /// A party may not use the topic.
    #[error(
        "{code} is not admitted to the topic {topic}; use another topic, leave {code} out (`--exempt {code}` where a group names it), or ask the ministry"
    )]
    Topic {
        /// The party's code.
        code: String,
        /// Topic id.
        topic: String,
    },
    /// A label that the roster's policy does not have.
    #[error("the roster's policy has no label {label:?}; use one of {}", known.join(", "))]
    UnknownLabel {
        /// As given.
        label: String,
        /// Labels of the policy, lowest first.
        known: Vec<String>,
    },
    /// A party is not cleared for the label.
    #[error(
        "{code} is not cleared for {label}; use a lower label, leave {code} out (`--exempt {code}` where a group names it), or ask the ministry"
    )]
    Clearance {
        /// The party's code.
        code: String,
        /// The label.
        label: String,
    },
    /// Exercise traffic refers to real traffic, or the reverse.
    #[error("exercise and real dispatches never refer to each other; leave in_reply_to out")]
    ExerciseMix,
    /// A text is longer than one dispatch carries.
    #[error("{field} has {bytes} bytes, at most {bytes_max} are allowed; send it in parts")]
    TooLarge {
        /// Field of the request.
        field: &'static str,
        /// Its length.
        bytes: usize,
        /// The bound.
        bytes_max: usize,
    },
    /// The outbox holds as many unsent dispatches as it may.
    #[error(
        "{waiting} dispatches wait in the outbox already; bring the link up (`pouch status`) and try again"
    )]
    OutboxFull {
        /// How many wait.
        waiting: u64,
    },
    /// Nothing here has this id.
    #[error("nothing here has the id {id}; `pouch inbox` lists what there is")]
    NotFound {
        /// As given.
        id: String,
    },
    /// The log holds nothing of a dispatch yet.
    #[error(
        "the relay has not accepted {id}, so the log holds nothing of it and nothing is proven; see `pouch outbox {id}`"
    )]
    NotAccepted {
        /// As given.
        id: String,
    },
    /// The log only counts the refusal, or this desk itself gave the dispatch back.
    #[error(
        "{id} was refused ({code}), and the log has no record of that: of what the relay refuses beyond ten a second, or that is not rightly signed, \
         the log keeps one leaf for each party, code and minute with a count (`pouch audit show`), and of what a desk \
         gives back itself nothing. Such a leaf proves how many were refused, not that this one was: nothing is proven; see `pouch outbox {id}`"
    )]
    OnlyCounted {
        /// As given.
        id: String,
        /// Of the refusal.
        code: String,
    },
    /// Another reader works with the cursor.
    #[error(
        "another reader has the cursor {name} until {until}; stop it, or name another cursor with --cursor"
    )]
    CursorTaken {
        /// The cursor.
        name: String,
        /// RFC 3339 in UTC; later if the reader asks again.
        until: String,
    },
    /// No alarm has this key.
    #[error("no alarm has the key {key}; `pouch alarms` lists those there are")]
    UnknownAlarm {
        /// As given.
        key: String,
    },
    /// Only the ministry's desk may do this.
    #[error("only the hub's desk publishes rosters and gives orders; name its socket with --socket")]
    NotTheHub,
    /// The desk has no roster yet.
    #[error("this desk has no roster yet; bring it into contact with the relay (`pouch status`)")]
    NoRoster,
    /// The relay must be in contact for this, and is not: nothing was asked.
    #[error(
        "the hub is not in contact with the relay, so nothing was changed; see `pouch status`, then try again"
    )]
    NoContact,
    /// The relay did not do it.
    #[error("the relay declined: {sentence}; nothing was changed: correct it and try again")]
    Declined {
        /// Its words.
        sentence: String,
    },
    /// The line broke before the relay answered.
    #[error(
        "the relay gave no answer, so it is not known whether this is in force; asking again does no harm"
    )]
    Unanswered,
    /// The store failed; the daemon stops.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl DeskError {
    /// The code of the API's answer: `usage`, `unknown-addressee`, `not-permitted`, `not-found`, `not-proven`, `too-large`,
    /// `full`, `no-contact`, `declined`, `taken`, `unanswered` or `internal`.
    pub fn code(&self) -> &'static str {
        match self {
            DeskError::Invalid { .. } | DeskError::ReferenceTaken { .. } => "usage",
            DeskError::UnknownAddressee { .. } | DeskError::Vacant { .. } => "unknown-addressee",
            DeskError::Inactive { .. }
            | DeskError::UnknownTopic { .. }
            | DeskError::Topic { .. }
            | DeskError::UnknownLabel { .. }
            | DeskError::Clearance { .. }
            | DeskError::ExerciseMix => "not-permitted",
            DeskError::TooLarge { .. } | DeskError::TooManyAddressees { .. } => "too-large",
            DeskError::OutboxFull { .. } => "full",
            DeskError::NotTheHub => "not-permitted",
            DeskError::NoContact | DeskError::NoRoster => "no-contact",
            DeskError::Declined { .. } => "declined",
            DeskError::CursorTaken { .. } => "taken",
            DeskError::Unanswered => "unanswered",
            DeskError::NotFound { .. } | DeskError::UnknownAlarm { .. } => "not-found",
            DeskError::NotAccepted { .. } | DeskError::OnlyCounted { .. } => "not-proven",
            DeskError::Store(_) => "internal",
        }
    }

    /// The store's failure, where that is what went wrong.
    pub(super) fn failure(&self) -> Option<&StoreError> {
        if let DeskError::Store(error) = self { Some(error) } else { None }
    }
}

impl From<rusqlite::Error> for DeskError {
    fn from(error: rusqlite::Error) -> DeskError {
        DeskError::Store(error.into())
    }
}
