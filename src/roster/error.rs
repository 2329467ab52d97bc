//! Why a roster is refused. The texts are for the ministry's operator and say what to do.

use super::{KeyUse, PartyNumber};
use crate::batch::{KeyError, PublicKey};
use crate::identity::SpiffeId;
use crate::limits::{
    CODE_BYTES_MAX, COSIGNATURES_MAX, NAME_BYTES_MAX, ROSTER_BYTES_MAX, ROSTER_THRESHOLD_MAX,
    TOPIC_BYTES_MAX, TRUST_DOMAIN_BYTES_MAX,
};
use crate::merkle::Hash;
use crate::note::NoteError;

/// Why a roster, or a trust bundle, is refused.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum RosterError {
    /// The note or its text is too long to be read at all.
    #[error("a roster has at most {ROSTER_BYTES_MAX} bytes, not {bytes}; take out what is no longer needed")]
    TooLong {
        /// The length found.
        bytes: usize,
    },
    /// It is no signed note, or a signature on it is wrong.
    #[error("the roster is no valid signed note: {0}; fetch the file again, or sign it anew")]
    Note(#[from] NoteError),
    /// The text is not the TOML of a roster.
    #[error("the text cannot be read, correct this place:\n{0}")]
    Toml(#[source] Box<toml::de::Error>),
    /// The content cannot be written as TOML.
    #[error("the roster cannot be written: {0}")]
    Unwritable(#[source] toml::ser::Error),
    /// A field breaks a rule.
    #[error("{place}: {field} = {value:?}: {rule}")]
    Field {
        /// Where: the roster, a party, a group.
        place: String,
        /// Which field.
        field: &'static str,
        /// What stands there.
        value: String,
        /// The rule, and what to do.
        rule: Rule,
    },
    /// Too few of the keys that must have signed did.
    #[error("signed by {found} of {whose}, {threshold} must sign; let more holders run `pouch roster sign`")]
    Unsigned {
        /// Which keys.
        whose: Signers,
        /// How many of them signed.
        found: usize,
        /// How many must.
        threshold: u32,
    },
    /// An older version came: somebody may be replaying it.
    #[error("version {found} is older than version {current} in force, which stays; find out who sent it")]
    Older {
        /// The version found.
        found: u32,
        /// The version in force.
        current: u32,
    },
    /// Another roster of the version in force: its keys signed twice.
    #[error(
        "another roster of version {version}, {found}, than the one in force, {current}, which stays; \
         ask the holders of the roster keys why both exist"
    )]
    Fork {
        /// The version of both.
        version: u32,
        /// The hash found.
        found: Hash,
        /// The hash in force.
        current: Hash,
    },
    /// The very roster that is in force.
    #[error("version {version} is in force already; nothing is to be done")]
    InForce {
        /// The version.
        version: u32,
    },
    /// Versions between are missing.
    #[error("version {found} does not follow version {current} in force; give it the versions between first")]
    Gap {
        /// The version found.
        found: u32,
        /// The version in force.
        current: u32,
    },
    /// It continues another roster than the one in force.
    #[error("the roster follows {found}, not {current} in force; make it again from the version in force")]
    Previous {
        /// The hash that it names, or zero where it names none.
        found: Hash,
        /// The hash in force.
        current: Hash,
    },
    /// A further version would not fit its field.
    #[error("the versions of this roster are used up; start a new trust domain")]
    VersionsUsedUp,
    /// It is for another trust domain.
    #[error("the roster is for {found:?}, not for {expected:?}; take the file of your own trust domain")]
    TrustDomain {
        /// The trust domain found.
        found: String,
        /// The trust domain expected.
        expected: String,
    },
    /// It is not what the trust bundle names.
    #[error("the roster's {field} is not the one in the trust bundle; take both from the ministry anew")]
    Bundle {
        /// What differs.
        field: &'static str,
    },
    /// A party is gone, or another has its number.
    #[error("party {number} was {was} before; keep its entry with its id, and revoke it if it is to leave")]
    PartyChanged {
        /// The number.
        number: PartyNumber,
        /// The id that it belongs to.
        was: SpiffeId,
    },
    /// A key that was retired or revoked in an earlier version is not listed as such.
    #[error("the key {key} was revoked or is no longer used: list it under revoked_keys, never to return")]
    KeyForgotten {
        /// The key.
        key: PublicKey,
    },
    /// A key changed hands.
    #[error("the key {key} was {was} and is now {is}; a key has one use, make a new one")]
    KeyMoved {
        /// The key.
        key: PublicKey,
        /// Its use before.
        was: KeyUse,
        /// Its use now.
        is: KeyUse,
    },
}

/// Whose signatures are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Signers {
    /// The keys of the version in force, or of the trust bundle.
    #[error("the roster keys in force")]
    InForce,
    /// The keys that the roster itself names.
    #[error("the roster keys that it names itself")]
    Own,
}

/// The rules of single fields, each with what to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Rule {
    /// A trust domain of the wrong form.
    #[error("a trust domain is a DNS name in lower case, at most {TRUST_DOMAIN_BYTES_MAX} bytes; correct it")]
    TrustDomain,
    /// A version or a party number of 0.
    #[error("numbers start at 1; correct it")]
    FromOne,
    /// A first version with a version before, or a later one without.
    #[error("every version but the first names the hash of the one before; use `pouch roster` to make it")]
    Previous,
    /// A code of the wrong form.
    #[error(
        "a code has 1 to {CODE_BYTES_MAX} capital letters, digits and hyphens, as IDN or ACI-CHAIR; correct it"
    )]
    Code,
    /// A name of the wrong form.
    #[error(
        "write 1 to {NAME_BYTES_MAX} bytes in one line, without control characters or marks of direction"
    )]
    Name,
    /// A topic id of the wrong form.
    #[error("a topic id has 1 to {TOPIC_BYTES_MAX} lower-case letters, digits and hyphens; correct it")]
    Topic,
    /// A label of the wrong form.
    #[error(
        "a label is one line of 1 to {TOPIC_BYTES_MAX} bytes, without control characters or marks of direction; correct it"
    )]
    Label,
    /// Something that must be unique stands twice.
    #[error("stands twice in this roster; give each its own")]
    Duplicate,
    /// A reference to something that is not there.
    #[error("is not in this roster; add it, or correct the spelling")]
    Unknown,
    /// Too many elements.
    #[error("too many: at most {0}; take some out")]
    TooMany(usize),
    /// A threshold that cannot be met, or none.
    #[error("the threshold is 1 to {ROSTER_THRESHOLD_MAX} and at most the number of keys; correct it")]
    Threshold,
    /// A key that nobody may use.
    #[error("{0}; make another key")]
    Key(KeyError),
    /// A key of a kind that does not sign here.
    #[error("only a plain Ed25519 key (type 01) signs here; make another key")]
    KeyKind,
    /// A key in use that was revoked.
    #[error("was revoked, and never returns; make another key")]
    KeyRevoked,
    /// A log key under another name than the log's.
    #[error("a log key has the log's origin as its name; correct either")]
    LogName,
    /// An origin of the wrong form.
    #[error("an origin is a name without spaces and plus signs, as bloc.example/log; correct it")]
    Origin,
    /// An address of the wrong form.
    #[error("an address reads host:port, as relay.bloc.example:7443; correct it")]
    Address,
    /// An id of another trust domain.
    #[error("the id is of another trust domain than the roster; correct it")]
    ForeignId,
    /// An id that says another kind.
    #[error("the id says another kind; correct either")]
    Kind,
    /// A desk without a witness key.
    #[error("every desk has a witness key: take it from the request of the party")]
    WitnessMissing,
    /// A witness that may be none.
    #[error("neither relay nor hub counts as a witness; set is_witness to false")]
    WitnessKind,
    /// More liars than the witnesses can stand, or than a checkpoint's cosignatures can outnumber.
    #[error(
        "so many lying witnesses leave no quorum, or one of more than {COSIGNATURES_MAX}, which no checkpoint can carry; \
         add witnesses, or lower it"
    )]
    Faults,
    /// A serial of the wrong form.
    #[error(
        "a serial is lower hex of 1 to 20 bytes without leading zero bytes, as `pouch pki show` prints it"
    )]
    Serial,
    /// A time zone of the wrong form.
    #[error("a time zone is an IANA name, as Asia/Jakarta; correct it")]
    TimeZone,
    /// A window that is empty.
    #[error("a window names its days, and ends at another time than it starts; correct it")]
    Window,
    /// Terms that overlap or end before they start.
    #[error("terms of an office start before they end, one after the other; correct the dates")]
    Term,
}
