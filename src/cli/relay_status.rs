//! `pouch relay status`: how a running relay stands, asked over the socket in its folder.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;

use crate::cli::failure::Failure;
use crate::cli::screen::Screen;
use crate::cli::table::Paint;
use crate::cli::{safe_text, time};
use crate::limits::ADMIN_TIME_MAX;
use crate::relay::status::{ADMIN_SOCKET, LogStatus, RelayStatus};

/// Bytes of an answer: 16,384 parties with a session and a mailbox each. A longer one is given up.
const ANSWER_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// Prints the status of the relay whose folder is `dir`.
pub fn run(dir: &Path, screen: &mut Screen<'_>) -> Result<(), Failure> {
    let socket = dir.join(ADMIN_SOCKET);
    let status = ask(&socket).map_err(|source| Failure::Relay { socket, source })?;
    if screen.json {
        return screen.object(&status);
    }
    screen.text(&described(&status, screen.paint))
}

/// One request, one answer, and the relay closes: so the body is what follows the empty line.
fn ask(socket: &Path) -> io::Result<RelayStatus> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(ADMIN_TIME_MAX))?;
    stream.set_write_timeout(Some(ADMIN_TIME_MAX))?;
    stream.write_all(b"GET /v1/status HTTP/1.1\r\nhost: relay\r\nconnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.take(ANSWER_BYTES_MAX).read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").ok_or(io::ErrorKind::UnexpectedEof)?;
    if !head.starts_with("HTTP/1.1 200 ") {
        return Err(io::Error::other(body.to_owned()));
    }
    serde_json::from_str(body).map_err(io::Error::other)
}

fn described(status: &RelayStatus, paint: Paint) -> String {
    let heading = format!("{}, pouch {}", status.relay, status.version);
    let mut text = paint.bold(&safe_text::line(&heading)) + "\n\n";
    let ready = if status.not_ready.is_empty() { "yes".to_owned() } else { status.not_ready.join("; ") };
    let journal = &status.journal;
    let busy = journal.busy_ms.map_or(String::new(), |ms| format!(", one under way for {ms} ms"));
    let fields = [
        ("ready", ready),
        ("up", format!("{} since {}", spelled(status.uptime_s), time::dtg(&status.started))),
        ("roster", format!("version {}", status.roster_version)),
        (
            "clock",
            format!("log time {}, the wall clock is {} s ahead", status.log_time, status.clock_ahead_s),
        ),
        (
            "journal",
            format!(
                "{} records, {} MiB in {} files, {} syncs{busy}, {} records on their way",
                status.records,
                journal.bytes / (1024 * 1024),
                journal.files,
                journal.syncs,
                journal.records_pending
            ),
        ),
        ("log", status.log.as_ref().map_or("left out".to_owned(), log)),
        ("sessions", format!("{} open, {} connections", status.sessions.len(), status.connections)),
        ("refused", refused(status)),
    ];
    for (name, value) in fields {
        text.push_str(&format!("{name:<9} {}\n", safe_text::line(&value)));
    }
    for alarm in &status.alarms {
        let line = format!("alarm     {}: {}", alarm.kind.name(), alarm.sentence);
        text.push_str(&(paint.alarm(&safe_text::line(&line)) + "\n"));
    }
    text.push('\n');
    for session in &status.sessions {
        let since = time::dtg(&session.since);
        let line = format!(
            "{:<9} in contact since {since}, incarnation {}, {}",
            session.party, session.incarnation, session.software
        );
        text.push_str(&(safe_text::line(&line) + "\n"));
    }
    for mailbox in &status.mailboxes {
        let waiting: Vec<String> =
            mailbox.waiting.iter().map(|(precedence, count)| format!("{count} {precedence}")).collect();
        let oldest =
            mailbox.oldest.as_deref().map_or(String::new(), |at| format!(", oldest {}", time::dtg(at)));
        let what = if waiting.is_empty() { "no envelopes".to_owned() } else { waiting.join(", ") };
        let line = format!("{:<9} {what} waiting{oldest}; {} receipts", mailbox.party, mailbox.receipts);
        text.push_str(&(safe_text::line(&line) + "\n"));
    }
    text
}

fn log(log: &LogStatus) -> String {
    let LogStatus { signed, published, published_at, cosigned_by, missing, quorum } = log;
    let at = published_at.as_deref().map_or(String::new(), |at| format!(" at {}", time::dtg(at)));
    let named = |what: &str, codes: &[String]| match codes {
        [] => String::new(),
        codes => format!("{what} {}", codes.join(", ")),
    };
    format!(
        "{signed} leaves signed, {published} witnessed by a quorum{at}; {} of the {quorum} that must have cosigned the newest{}{}",
        cosigned_by.len(),
        named(":", cosigned_by),
        named("; not yet:", missing)
    )
}

fn refused(status: &RelayStatus) -> String {
    let refused = status.handshakes.iter().filter(|(end, count)| !end.starts_with("ok") && **count > 0);
    let ends: Vec<String> = refused.map(|(end, count)| format!("{count} {end}")).collect();
    if ends.is_empty() { "no handshakes".to_owned() } else { format!("handshakes: {}", ends.join(", ")) }
}

fn spelled(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3_600 => format!("{} min", seconds / 60),
        3_600..172_800 => format!("{} h", seconds / 3_600),
        _ => format!("{} days", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::alarms::{Alarm, AlarmKind};
    use crate::relay::status::{JournalStatus, MailboxStatus, SessionStatus};

    #[test]
    fn a_status_says_who_is_there_what_waits_and_what_to_mend() {
        let at = || "2026-11-24T10:16:00Z".to_owned();
        let counts = |pairs: &[(&str, u64)]| -> BTreeMap<String, u64> {
            pairs.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect()
        };
        let status = RelayStatus {
            relay: "spiffe://bloc.example/relay/a".into(),
            version: "0.1.0".into(),
            started: at(),
            uptime_s: 7_300,
            not_ready: vec![],
            roster_version: 3,
            records: 140,
            log_time: at(),
            clock_ahead_s: 0,
            connections: 2,
            sessions: vec![SessionStatus {
                party: "IDN".into(),
                since: at(),
                incarnation: 1,
                software: "pouch 0.1.0\x1b[2J".into(),
                serial: "01".into(),
            }],
            mailboxes: vec![MailboxStatus {
                party: "VNM".into(),
                waiting: counts(&[("flash", 1), ("routine", 10)]),
                oldest: Some(at()),
                receipts: 4,
            }],
            journal: JournalStatus {
                bytes: 268_435_456,
                files: 4,
                syncs: 77,
                busy_ms: Some(3),
                records_pending: 2,
            },
            log: Some(LogStatus {
                signed: 140,
                published: 131,
                published_at: Some(at()),
                cosigned_by: vec!["IDN".into(), "MYS".into()],
                missing: vec!["VNM".into()],
                quorum: 3,
            }),
            handshakes: counts(&[("ok", 9), ("other-ca", 2), ("expired", 0)]),
            alarms: vec![Alarm { kind: AlarmKind::Certificate, since: at(), sentence: "renew it".into() }],
        };
        let expected = "\
spiffe://bloc.example/relay/a, pouch 0.1.0

ready     yes
up        2 h since 241016ZNOV26
roster    version 3
clock     log time 2026-11-24T10:16:00Z, the wall clock is 0 s ahead
journal   140 records, 256 MiB in 4 files, 77 syncs, one under way for 3 ms, 2 records on their way
log       140 leaves signed, 131 witnessed by a quorum at 241016ZNOV26; 2 of the 3 that must have cosigned the newest: IDN, MYS; not yet: VNM
sessions  1 open, 2 connections
refused   handshakes: 2 other-ca
alarm     certificate: renew it

IDN       in contact since 241016ZNOV26, incarnation 1, pouch 0.1.0␛[2J
VNM       1 flash, 10 routine waiting, oldest 241016ZNOV26; 4 receipts
";
        assert_eq!(described(&status, Paint::Plain), expected);
    }
}
