//! From what a person or a program hands in to a draft that keeps every bound, and what the roster says
//! of it.

use jiff::{Timestamp, civil::DateTime, tz::TimeZone};

use super::addressing::{Addressed, Directory, Naming};
use crate::{
    desk::{error::DeskError, view::NewDispatch},
    limits,
    line::misleads,
    roster::Roster,
    seal,
    wire::{Precedence, pb::DispatchType},
};

/// Bytes of a caller's own key.
const IDEMPOTENCY_KEY_BYTES_MAX: usize = 200;
/// A dispatch lives at least so many seconds: long enough to reach a desk that is in contact.
const EXPIRES_S_MIN: u64 = 60;
const DAY_S: u64 = 24 * 3600;

/// A dispatch as handed in, checked but for the roster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Draft {
    /// Codes in upper case, as named, TO first; each once for each way of naming.
    pub names: Vec<(String, Naming)>,
    pub topic: String,
    /// Empty: the roster's lowest.
    pub label: String,
    pub precedence: Precedence,
    /// Towards INFO, never above the other.
    pub info_precedence: Precedence,
    pub kind: DispatchType,
    pub subject: String,
    pub body: String,
    pub language: String,
    pub reference: Option<String>,
    /// As typed.
    pub in_reply_to: Option<String>,
    pub acknowledgement: bool,
    /// Seconds since 1970, or 0: by precedence.
    pub acknowledgement_due_s: u64,
    /// Seconds since 1970, or 0.
    pub answer_due_s: u64,
    /// Seconds since 1970.
    pub expires_s: u64,
    pub exercise: bool,
    pub office: String,
    pub person: String,
    pub idempotency_key: Option<String>,
}

impl Draft {
    /// Checks everything that needs no roster.
    pub fn check(new: NewDispatch, now: Timestamp) -> Result<Draft, DeskError> {
        let precedence = Precedence::from_name(&new.precedence)
            .ok_or(invalid("precedence", "is none of routine, priority, immediate, flash"))?;
        let info_precedence = match new.info_precedence.as_str() {
            "" => precedence,
            name => Precedence::from_name(name).filter(|info| *info <= precedence).ok_or(invalid(
                "info_precedence",
                "is none of routine, priority, immediate, flash, or is above precedence; write a lower one",
            ))?,
        };
        let names = names(&new)?;
        let body_max = seal::BODY_BYTES_MAX;
        if new.body.len() > body_max {
            return Err(DeskError::TooLarge { field: "body", bytes: new.body.len(), bytes_max: body_max });
        }
        if new.subject.is_empty() {
            return Err(invalid("subject", "is empty; write one line that says what it is about"));
        }
        let mut reference = line("reference", new.reference, seal::REFERENCE_BYTES_MAX)?;
        reference.truncate(reference.trim_end().len());
        let acknowledgement_due = new.acknowledgement_due.as_deref();
        let acknowledgement_due =
            acknowledgement_due.map(|due| time("acknowledgement_due", due)).transpose()?;
        let key = new.idempotency_key.map(|key| line("idempotency_key", key, IDEMPOTENCY_KEY_BYTES_MAX));
        Ok(Draft {
            names,
            topic: word("topic", new.topic)?,
            label: line("label", new.label, limits::TOPIC_BYTES_MAX)?,
            precedence,
            info_precedence,
            kind: kind_from_name(&new.kind)?,
            subject: line("subject", new.subject, seal::SUBJECT_BYTES_MAX)?,
            body: new.body,
            language: language(new.language)?,
            reference: (!reference.is_empty()).then_some(reference),
            in_reply_to: new.in_reply_to.filter(|id| !id.trim().is_empty()),
            acknowledgement: new.acknowledgement_required || acknowledgement_due.is_some(),
            acknowledgement_due_s: acknowledgement_due.unwrap_or(0),
            answer_due_s: new.answer_due.as_deref().map_or(Ok(0), |due| time("answer_due", due))?,
            expires_s: expires(new.expires_s, precedence, now)?,
            exercise: new.exercise,
            office: line("office", new.office, seal::ORIGINATOR_BYTES_MAX)?,
            person: line("person", new.person, seal::ORIGINATOR_BYTES_MAX)?,
            idempotency_key: key.transpose()?,
        })
    }

    /// Addresses it and checks it as the relay and the addressees will.
    pub fn address<'a>(&self, directory: &Directory<'a>) -> Result<Addressed<'a>, DeskError> {
        let addressed = directory.address(&self.names)?;
        permitted(directory, &addressed, &self.topic, &self.label)?;
        Ok(addressed)
    }
}

/// The label to send under: the roster's lowest where the sender names none.
pub(super) fn label<'a>(roster: &'a Roster, label: &'a str) -> &'a str {
    let lowest = || roster.content().labels.classifications.first().map_or("", String::as_str);
    if label.is_empty() { lowest() } else { label }
}

/// Checks that sender and addressees may use the topic and are cleared for the label.
pub(super) fn permitted(
    directory: &Directory<'_>,
    addressed: &Addressed<'_>,
    topic: &str,
    named: &str,
) -> Result<(), DeskError> {
    let roster = directory.roster;
    let label = label(roster, named);
    if roster.topic(topic).is_none() {
        let known = roster.content().topics.iter().map(|topic| topic.id.clone()).collect();
        return Err(DeskError::UnknownTopic { topic: topic.to_owned(), known });
    }
    if roster.label_rank(label).is_none() {
        let known = roster.content().labels.classifications.clone();
        return Err(DeskError::UnknownLabel { label: label.to_owned(), known });
    }
    for party in [directory.own].into_iter().chain(addressed.addressees.iter().map(|(party, _)| *party)) {
        if !roster.may_use_topic(party, topic) {
            return Err(DeskError::Topic { code: party.code.clone(), topic: topic.to_owned() });
        }
        if !roster.cleared(party, label) {
            return Err(DeskError::Clearance { code: party.code.clone(), label: label.to_owned() });
        }
    }
    Ok(())
}

/// Names of the dispatch types, as the API writes them.
const KINDS: [(DispatchType, &str); 8] = [
    (DispatchType::NoteVerbale, "note-verbale"),
    (DispatchType::AideMemoire, "aide-memoire"),
    (DispatchType::CircularNote, "circular-note"),
    (DispatchType::Request, "request"),
    (DispatchType::Report, "report"),
    (DispatchType::CheckIn, "check-in"),
    (DispatchType::Contact, "contact"),
    (DispatchType::Cancellation, "cancellation"),
];

/// A type's name; `unknown` for what was set aside unread.
pub(super) fn kind_name(code: i32) -> &'static str {
    let found = KINDS.iter().find(|(kind, _)| i32::from(*kind) == code);
    found.map_or("unknown", |(_, name)| name)
}

fn kind_from_name(name: &str) -> Result<DispatchType, DeskError> {
    let name = if name.is_empty() { "report" } else { name };
    let found = KINDS.iter().find(|(_, known)| *known == name);
    found.map(|(kind, _)| *kind).ok_or(invalid(
        "kind",
        "is none of note-verbale, aide-memoire, circular-note, request, report, check-in, contact, cancellation",
    ))
}

fn names(new: &NewDispatch) -> Result<Vec<(String, Naming)>, DeskError> {
    if new.to.is_empty() {
        return Err(invalid("to", "names nobody; give at least one addressee for action"));
    }
    let lists = [("to", &new.to, Naming::To), ("info", &new.info, Naming::Info)];
    let mut names = Vec::new();
    for (field, codes, naming) in lists.into_iter().chain([("exempt", &new.exempt, Naming::Exempt)]) {
        for code in codes {
            if names.len() == limits::ADDRESSEES_MAX {
                return Err(invalid("to", "info and exempt hold more than 128 codes; name a group instead"));
            }
            let name = (word(field, code.trim().to_uppercase())?, naming);
            if !names.contains(&name) {
                names.push(name);
            }
        }
    }
    Ok(names)
}

/// How long a dispatch lives where its sender does not say: what is urgent is soon worth nothing.
fn expires(expires_s: Option<u64>, precedence: Precedence, now: Timestamp) -> Result<u64, DeskError> {
    let life = expires_s.unwrap_or(match precedence {
        Precedence::Routine => 30 * DAY_S,
        Precedence::Priority => 7 * DAY_S,
        Precedence::Immediate => 3 * DAY_S,
        Precedence::Flash => DAY_S,
    });
    if !(EXPIRES_S_MIN..=limits::EXPIRY_MAX.as_secs()).contains(&life) {
        return Err(invalid("expires_s", "is not between 60 seconds and 60 days; choose a time between"));
    }
    let now = u64::try_from(now.as_second()).unwrap_or_default();
    Ok(now + life)
}

/// Reads RFC 3339, or a date-time group as it stands on a formal note, as seconds since 1970.
pub(super) fn time(field: &'static str, text: &str) -> Result<u64, DeskError> {
    let by_dtg = || {
        let civil = DateTime::strptime("%d%H%MZ%b%y", text).ok()?;
        Some(civil.to_zoned_datetime(TimeZone::UTC).ok()?.timestamp())
    };
    let due = text.parse::<Timestamp>().ok().or_else(by_dtg);
    due.and_then(|due| u64::try_from(due.as_second()).ok())
        .ok_or(invalid(field, "is no time; write 2026-11-24T12:00:00Z or 241200ZNOV26"))
}

fn language(tag: String) -> Result<String, DeskError> {
    if tag.is_empty() { Ok("en".to_owned()) } else { line("language", tag, seal::LANGUAGE_BYTES_MAX) }
}

fn word(field: &'static str, text: String) -> Result<String, DeskError> {
    if text.is_empty() {
        return Err(invalid(field, "is empty; give one word of the roster"));
    }
    line(field, text, limits::TOPIC_BYTES_MAX)
}

fn line(field: &'static str, text: String, bytes_max: usize) -> Result<String, DeskError> {
    if text.len() > bytes_max {
        return Err(DeskError::TooLarge { field, bytes: text.len(), bytes_max });
    }
    if text.chars().any(misleads) {
        let problem = "holds a line break, a control character or a mark of direction; write one plain line";
        return Err(invalid(field, problem));
    }
    Ok(text)
}

fn invalid(field: &'static str, problem: &'static str) -> DeskError {
    DeskError::Invalid { field, problem }
}
