//! Standing alarms of a daemon: what an operator must mend, raised and cleared by the daemon itself.
//!
//! They live in memory and are raised anew after a restart, because their causes are looked at anew. What
//! a desk must tell its people for good, as a gap in a stream, is kept in its store instead.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::SystemTime;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

/// What an alarm is about. One alarm stands for each at most, so their number is bounded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AlarmKind {
    /// The own certificate ends soon, has ended, or has not begun.
    Certificate,
    /// A CA should have replaced its list of revoked certificates; the old one counts on.
    Crl,
    /// A reload was refused as a whole; what was in force goes on.
    Reload,
    /// The roster file holds none that follows the one in force.
    Roster,
    /// Two machines took turns as one party; stands until the relay is started again.
    Cloned,
    /// A desk says that the relay has lost what it had accepted; stands until the relay is started again.
    LogBehind,
    /// The machine's clock and the log's time differ; nothing may expire until an operator has accepted it.
    Clock,
    /// The journal has no room but for receipts: submissions wait.
    Journal,
    /// No quorum of witnesses has signed the audit log for too long.
    Unwitnessed,
    /// A witness does not cosign, or says what does not fit, and has not cosigned since.
    Witness,
    /// The disk has no room for the audit log's files: no checkpoint is signed.
    LogRoom,
    /// A file of the audit log that a desk asked for cannot be read; stands until the relay is started again.
    LogFile,
    /// Openings that are past their time are not all erased: an archive is damaged.
    Erasure,
    /// The configuration allows plain X25519.
    X25519Allowed,
    /// A session came about by plain X25519.
    X25519Used,
}

impl AlarmKind {
    /// Every kind, in order.
    pub const ALL: [AlarmKind; 15] = [
        AlarmKind::Certificate,
        AlarmKind::Crl,
        AlarmKind::Reload,
        AlarmKind::Roster,
        AlarmKind::Cloned,
        AlarmKind::LogBehind,
        AlarmKind::Clock,
        AlarmKind::Journal,
        AlarmKind::Unwitnessed,
        AlarmKind::Witness,
        AlarmKind::LogRoom,
        AlarmKind::LogFile,
        AlarmKind::Erasure,
        AlarmKind::X25519Allowed,
        AlarmKind::X25519Used,
    ];

    /// Its name in logs and metrics.
    pub fn name(self) -> &'static str {
        match self {
            AlarmKind::Certificate => "certificate",
            AlarmKind::Crl => "crl",
            AlarmKind::Reload => "reload",
            AlarmKind::Roster => "roster",
            AlarmKind::Cloned => "cloned",
            AlarmKind::LogBehind => "log-behind",
            AlarmKind::Clock => "clock",
            AlarmKind::Journal => "journal",
            AlarmKind::Unwitnessed => "unwitnessed",
            AlarmKind::Witness => "witness",
            AlarmKind::LogRoom => "log-room",
            AlarmKind::LogFile => "log-file",
            AlarmKind::Erasure => "erasure",
            AlarmKind::X25519Allowed => "x25519-allowed",
            AlarmKind::X25519Used => "x25519-used",
        }
    }
}

impl AlarmKind {
    /// What a desk's people are told beside what is wrong: whether mail goes on, what to save, whom to call.
    pub fn advice(self) -> &'static str {
        match self {
            AlarmKind::Certificate => {
                "mail goes on until it ends, then waits here; nothing need be saved; call the ministry for a new certificate"
            }
            AlarmKind::Reload => {
                "mail goes on as before; nothing need be saved; call whoever changed the files, or the ministry"
            }
            AlarmKind::X25519Allowed | AlarmKind::X25519Used => {
                "mail goes on; nothing need be saved; call whoever runs the relay and ask what it can do"
            }
            AlarmKind::Crl | AlarmKind::Roster => {
                "mail goes on by what is in force; nothing need be saved; call the ministry for the newest file"
            }
            AlarmKind::Clock => {
                "mail goes on; nothing need be saved; call the ministry if this machine's clock is right"
            }
            AlarmKind::Journal => {
                "new mail waits at the desks; nothing need be saved; call whoever looks after the disk"
            }
            AlarmKind::Cloned | AlarmKind::LogBehind => {
                "other mail goes on; save the folder before anything is changed; telephone the party that is named"
            }
            AlarmKind::Unwitnessed => {
                "mail goes on; nothing need be saved; telephone the desks that are away"
            }
            AlarmKind::Witness => {
                "mail goes on; save the relay's folder before anything is changed; telephone the desk that is named"
            }
            AlarmKind::Erasure | AlarmKind::LogFile => {
                "mail goes on; save a copy of the relay's folder; call whoever looks after the disk"
            }
            AlarmKind::LogRoom => {
                "mail goes on for now; save nothing by deleting; call whoever looks after the disk"
            }
        }
    }
}

/// Whether a desk's alarm has its three parts: whether mail goes on, what to save, whom to call.
pub fn is_whole(sentence: &str) -> bool {
    let says = |words: &[&str]| words.iter().any(|word| sentence.contains(word));
    says(&["mail"]) && says(&["save"]) && says(&["telephone", "call ", "tell "])
}

/// One alarm that stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Alarm {
    /// What it is about.
    pub kind: AlarmKind,
    /// Since when, RFC 3339 in UTC.
    pub since: String,
    /// What is wrong and what to do. No key, no subject.
    pub sentence: String,
}

/// The alarms of one daemon; clones share them.
#[derive(Clone, Debug)]
pub struct Alarms(Arc<watch::Sender<BTreeMap<AlarmKind, Alarm>>>);

impl Default for Alarms {
    fn default() -> Alarms {
        Alarms(Arc::new(watch::Sender::new(BTreeMap::new())))
    }
}

impl Alarms {
    /// Raises an alarm, or changes what it says. The log hears of what is new.
    pub fn raise(&self, kind: AlarmKind, sentence: String) {
        self.0.send_if_modified(|alarms| {
            if alarms.get(&kind).is_some_and(|alarm| alarm.sentence == sentence) {
                return false;
            }
            tracing::warn!(alarm = kind.name(), sentence, "alarm raised");
            let now =
                || Timestamp::try_from(SystemTime::now()).map_or_else(|_| String::new(), |at| at.to_string());
            let since = alarms.get(&kind).map_or_else(now, |alarm| alarm.since.clone());
            alarms.insert(kind, Alarm { kind, since, sentence });
            true
        });
    }

    /// Ends an alarm, where it stands.
    pub fn clear(&self, kind: AlarmKind) {
        self.0.send_if_modified(|alarms| {
            let stood = alarms.remove(&kind).is_some();
            if stood {
                tracing::info!(alarm = kind.name(), "alarm over");
            }
            stood
        });
    }

    /// Raises an alarm where there is a sentence, and ends it where there is none.
    pub fn set(&self, kind: AlarmKind, sentence: Option<String>) {
        match sentence {
            Some(sentence) => self.raise(kind, sentence),
            None => self.clear(kind),
        }
    }

    /// All that stand, by kind.
    pub fn all(&self) -> Vec<Alarm> {
        self.0.borrow().values().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_says_whether_mail_goes_on_what_to_save_and_whom_to_call() {
        for kind in AlarmKind::ALL {
            assert!(is_whole(kind.advice()), "{}", kind.name());
        }
        let whole = "mail goes on; nothing need be saved; tell the ministry";
        for part in ["mail goes on", "nothing need be saved", "tell the ministry"] {
            assert!(is_whole(whole) && !is_whole(&whole.replace(part, "")), "without {part}");
        }
    }

    #[test]
    fn an_alarm_stands_once_until_it_is_cleared_and_keeps_its_beginning() {
        let alarms = Alarms::default();
        alarms.raise(AlarmKind::Certificate, "in 3 days".to_owned());
        let since = alarms.all()[0].since.clone();
        alarms.clone().raise(AlarmKind::Certificate, "in 2 days".to_owned());
        let all = alarms.all();
        assert_eq!(all.len(), 1);
        assert_eq!((all[0].sentence.as_str(), &all[0].since), ("in 2 days", &since));
        alarms.set(AlarmKind::Certificate, None);
        assert!(alarms.all().is_empty());
    }
}
