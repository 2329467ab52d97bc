//! Puts together what `/readyz` and `/v1/status` say.

use std::{collections::BTreeMap, path::Path, time::Duration};

use jiff::Timestamp;

use super::Admin;
use crate::{
    exchange::{LogReport, MailboxReport, SessionReport},
    limits::SYNC_STUCK_AFTER,
    relay::{
        engine::EngineReport,
        status::{JournalStatus, LogStatus, MailboxStatus, RelayStatus, SessionStatus},
    },
    roster::{PartyNumber, Roster},
    wire::Precedence,
};

/// What is said while the engine does not answer.
pub(super) const SILENT: &str =
    "the relay's engine does not answer: look at its log, and at the disk of its journal";

/// What keeps the relay from serving: ready means that it can sign, can sync and has a roster.
pub(super) fn not_ready(admin: &Admin, report: Option<&EngineReport>) -> Vec<String> {
    let mut missing = Vec::new();
    if report.is_none() {
        missing.push(SILENT.to_owned());
    }
    match admin.shared.roster.load().as_deref() {
        None => missing.push("no roster is in force: put the ministry's where `roster` says".to_owned()),
        Some(roster) => {
            let own = roster.party_by_id(&admin.id);
            if own.is_none_or(|own| own.sign != admin.shared.sign.public()) {
                missing.push(format!(
                    "the roster in force does not name {} with the key in sign.key: desks will not believe \
                     this relay; have the roster corrected",
                    admin.id
                ));
            }
            if !roster.content().log.keys.contains(&admin.log_key) {
                missing.push(
                    "the roster in force does not list this relay's log key: no checkpoint is signed, and nothing new is \
                     proven; have the roster corrected"
                        .to_owned(),
                );
            }
        }
    }
    if let Some(busy_for) = stuck_for(admin) {
        let seconds = busy_for.as_secs();
        missing.push(format!("the disk has not ended a sync for {seconds} s: look at the journal's disk"));
    }
    missing
}

/// How long the sync under way has taken, where that is too long.
pub(super) fn stuck_for(admin: &Admin) -> Option<Duration> {
    admin.vitals.syncs().busy_for.filter(|busy_for| *busy_for >= SYNC_STUCK_AFTER)
}

pub(super) async fn status(admin: &Admin, report: &EngineReport) -> RelayStatus {
    let (now, exchange) = (Timestamp::now(), &report.exchange);
    let roster = admin.shared.roster.load();
    let code = |party| code(roster.as_deref(), party);
    let session = |session: &SessionReport| SessionStatus {
        party: code(session.party),
        since: time_text(now.as_microsecond().saturating_sub(micros(session.open_for))),
        incarnation: session.incarnation,
        software: session.software.clone(),
        serial: session.serial.clone(),
    };
    let mailbox = |mailbox: &MailboxReport| MailboxStatus {
        party: code(mailbox.party),
        waiting: by_precedence(mailbox.waiting),
        oldest: mailbox.oldest_us.map(|us| time_text(i64::try_from(us).unwrap_or(i64::MAX))),
        receipts: mailbox.receipts as u64,
    };
    let log = |log: &LogReport| LogStatus {
        signed: log.signed,
        published: log.published.map_or(0, |(size, _)| size),
        published_at: log
            .published
            .map(|(_, ago)| time_text(now.as_microsecond().saturating_sub(micros(ago)))),
        cosigned_by: log.cosigned_by.iter().copied().map(code).collect(),
        missing: log.missing.iter().copied().map(code).collect(),
        quorum: log.quorum as u64,
    };
    let log_time_us = i64::try_from(exchange.log_time_us).unwrap_or(i64::MAX);
    let uptime = now.duration_since(admin.started).as_secs();
    RelayStatus {
        relay: admin.id.to_string(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        started: admin.started.to_string(),
        uptime_s: u64::try_from(uptime).unwrap_or_default(),
        not_ready: not_ready(admin, Some(report)),
        roster_version: exchange.roster_version,
        records: exchange.records,
        log_time: time_text(log_time_us),
        clock_ahead_s: now.as_microsecond().saturating_sub(log_time_us) / 1_000_000,
        connections: report.connections as u64,
        sessions: exchange.sessions.iter().map(session).collect(),
        mailboxes: exchange.mailboxes.iter().map(mailbox).collect(),
        journal: journal(admin, report).await,
        log: exchange.log.as_ref().map(log),
        handshakes: admin.shared.handshakes.counts().map(|(end, count)| (end.to_owned(), count)).collect(),
        alarms: admin.alarms.all(),
    }
}

async fn journal(admin: &Admin, report: &EngineReport) -> JournalStatus {
    let syncs = admin.vitals.syncs();
    let (files, bytes) = size(&admin.journal).await;
    JournalStatus {
        bytes,
        files,
        syncs: syncs.classes.iter().sum(),
        busy_ms: syncs.busy_for.map(|busy_for| u64::try_from(busy_for.as_millis()).unwrap_or(u64::MAX)),
        records_pending: report.exchange.records_pending as u64,
    }
}

/// Files in the journal's folder, and their bytes. What vanishes meanwhile is not counted.
pub(super) async fn size(folder: &Path) -> (u64, u64) {
    let folder = folder.to_owned();
    let looking = tokio::task::spawn_blocking(move || {
        let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
        let files = entries.filter_map(|entry| entry.metadata().ok()).filter(|file| file.is_file());
        files.fold((0, 0), |(files, bytes), file| (files + 1, bytes + file.len()))
    });
    looking.await.unwrap_or_default()
}

fn by_precedence(waiting: [usize; 4]) -> BTreeMap<String, u64> {
    let named = Precedence::HIGHEST_FIRST.iter().zip(waiting);
    named
        .filter(|(_, count)| *count > 0)
        .map(|(name, count)| (name.name().to_owned(), count as u64))
        .collect()
}

fn code(roster: Option<&Roster>, party: PartyNumber) -> String {
    let known = roster.and_then(|roster| roster.party(party));
    known.map_or_else(|| format!("party-{party}"), |party| party.code.clone())
}

fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

fn time_text(us: i64) -> String {
    Timestamp::from_microsecond(us).map_or_else(|_| "a time far away".to_owned(), |at| at.to_string())
}
