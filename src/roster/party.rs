//! What a roster says about one party.

use std::fmt;

use jiff::civil::{Date, Time};
use serde::{Deserialize, Serialize};

use super::text;
use crate::batch::PublicKey;
use crate::identity::{Kind, SpiffeId};

/// A party's number: never used again for another party, in any version of the roster. From 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PartyNumber(pub u32);

impl fmt::Display for PartyNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Whether a party may take part.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// It may.
    Active,
    /// Not for now; its keys stay its own.
    Suspended,
    /// Not with these keys, ever again.
    Revoked,
}

/// One party's entry (FORMATS 3): `[[party]]` in the file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Party {
    /// Its number in fixed layouts.
    pub number: PartyNumber,
    /// Its SPIFFE ID, as in its certificate.
    #[serde(with = "text")]
    pub id: SpiffeId,
    /// What people write to address it: `IDN`. At most 16 capital letters, digits and hyphens.
    pub code: String,
    /// Its full name, at most 128 bytes.
    pub name: String,
    /// What it is; the ID says the same.
    #[serde(with = "text")]
    pub kind: Kind,
    /// Whether it may take part.
    pub status: Status,
    /// The key of its batch signatures.
    #[serde(with = "text")]
    pub sign: PublicKey,
    /// The key of its cosignatures: every desk (hub, mission) has one.
    #[serde(with = "text::option", default, skip_serializing_if = "Option::is_none")]
    pub witness: Option<PublicKey>,
    /// Whether its cosignatures count towards the quorum (FORMATS 9); never of a relay or the hub.
    #[serde(default)]
    pub is_witness: bool,
    /// Ids of the topics that it may write and read about.
    #[serde(default)]
    pub topics: Vec<String>,
    /// The highest classification that it may write and read; empty: none.
    #[serde(default)]
    pub clearance: String,
    /// Serials of its certificates that no longer count: lower hex without leading zero bytes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub revoked_serials: Vec<String>,
    /// Its IANA time zone (`Asia/Jakarta`), in which its hours and holidays are meant.
    #[serde(default = "utc")]
    pub time_zone: String,
    /// Days on which it does not work.
    #[serde(with = "text::list", default, skip_serializing_if = "Vec::is_empty")]
    pub holidays: Vec<Date>,
    /// What it may use up.
    #[serde(default, skip_serializing_if = "Quotas::is_unlimited")]
    pub quotas: Quotas,
    /// When it works.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub working_hours: Vec<Window>,
    /// When it makes contact, unless the two agreed otherwise.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub schedule: Vec<Window>,
    /// Whom to call there, first name first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub duty: Vec<Duty>,
}

impl Party {
    /// An active party of the kind that its ID says, with no topic, no clearance and no bounds yet.
    pub fn new(number: PartyNumber, id: SpiffeId, code: &str, name: &str, sign: PublicKey) -> Party {
        Party {
            number,
            kind: id.kind(),
            id,
            code: code.to_owned(),
            name: name.to_owned(),
            status: Status::Active,
            sign,
            witness: None,
            is_witness: false,
            topics: Vec::new(),
            clearance: String::new(),
            revoked_serials: Vec::new(),
            time_zone: utc(),
            holidays: Vec::new(),
            quotas: Quotas::default(),
            working_hours: Vec::new(),
            schedule: Vec::new(),
            duty: Vec::new(),
        }
    }
}

/// What a party may use up; each bound absent where there is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Quotas {
    /// Envelopes that it may submit within any minute.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub envelopes_per_minute: Option<u32>,
    /// Of these, envelopes of precedence FLASH within any hour.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flash_per_hour: Option<u32>,
    /// Bytes of envelopes that it may submit within any hour.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes_per_hour: Option<u64>,
    /// Envelopes that may wait for it at the relay.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mailbox_envelopes: Option<u32>,
}

impl Quotas {
    /// Whether there is no bound at all.
    pub fn is_unlimited(&self) -> bool {
        *self == Quotas::default()
    }
}

/// A span of time on some days of the week, in the party's time zone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Window {
    /// The days on which it starts, at least one.
    pub days: Vec<Day>,
    /// When it starts.
    #[serde(with = "text")]
    pub from: Time,
    /// When it ends; on the next day if that is earlier than its start.
    #[serde(with = "text")]
    pub until: Time,
}

/// A day of the week.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Day {
    /// Monday.
    Mon,
    /// Tuesday.
    Tue,
    /// Wednesday.
    Wed,
    /// Thursday.
    Thu,
    /// Friday.
    Fri,
    /// Saturday.
    Sat,
    /// Sunday.
    Sun,
}

/// Somebody to call at a party.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Duty {
    /// Name or post.
    pub name: String,
    /// Telephone number or other way to reach them.
    pub reach: String,
}

fn utc() -> String {
    "UTC".to_owned()
}
