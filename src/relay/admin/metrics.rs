//! `/metrics`: names end in their unit, labels come from small fixed sets, and nobody is named.

use super::{Admin, status};
use crate::{
    alarms::AlarmKind, exposition::Exposition, journal::SYNC_CLASSES, relay::engine::EngineReport,
    wire::Precedence,
};

/// Everything that can be told now; while the engine does not answer, what is known without it.
pub(super) async fn text(admin: &Admin) -> String {
    let report = admin.report().await;
    let mut text = Exposition::default();
    let ready = status::not_ready(admin, report.as_deref()).is_empty();
    text.gauge(
        "pouch_relay_ready",
        "Whether the relay can sign, can sync and has a roster.",
        u8::from(ready),
    );
    text.gauge(
        "pouch_relay_start_time_seconds",
        "When the relay started, in seconds since 1970.",
        admin.started.as_second(),
    );
    text.counters(
        "pouch_relay_handshakes_total",
        "TLS handshakes by how they ended.",
        "end",
        admin.shared.handshakes.counts(),
    );
    let standing = admin.alarms.all();
    let stands = |kind: AlarmKind| u8::from(standing.iter().any(|alarm| alarm.kind == kind));
    text.gauges(
        "pouch_relay_alarm",
        "Whether an alarm stands; `pouch relay status` says what to do.",
        "kind",
        AlarmKind::ALL.map(|kind| (kind.name(), stands(kind))),
    );
    journal(admin, &mut text).await;
    if let Some(report) = report {
        exchange(&report, &mut text);
        log(&report, &mut text);
        traffic(&report, &mut text);
    }
    text.into_text()
}

async fn journal(admin: &Admin, text: &mut Exposition) {
    let syncs = admin.vitals.syncs();
    let (files, bytes) = status::size(&admin.journal).await;
    text.histogram(
        "pouch_relay_journal_sync_seconds",
        "Write and sync of one batch together.",
        &SYNC_CLASSES,
        &syncs.classes,
        syncs.sum,
    );
    let busy = syncs.busy_for.unwrap_or_default().as_secs_f64();
    text.gauge("pouch_relay_journal_sync_busy_seconds", "How long the sync under way has taken.", busy);
    text.gauge("pouch_relay_journal_bytes", "Bytes of all files in the journal's folder.", bytes);
    text.gauge("pouch_relay_journal_files", "Files in the journal's folder, spare segments included.", files);
}

fn exchange(report: &EngineReport, text: &mut Exposition) {
    let exchange = &report.exchange;
    text.counter("pouch_relay_records_total", "Records in the log, all starts together.", exchange.records);
    text.gauge("pouch_relay_records_pending", "Records on their way to the disk.", exchange.records_pending);
    text.gauge("pouch_relay_roster_version", "Version of the roster in force.", exchange.roster_version);
    text.gauge("pouch_relay_connections", "Connections whose handshake is done.", report.connections);
    text.gauge("pouch_relay_sessions", "Open sessions.", exchange.sessions.len());
    text.gauge(
        "pouch_relay_credit_pool_bytes",
        "Credit left for all sessions' windows to grow.",
        exchange.credit_pool_bytes,
    );
    let log_time_s = exchange.log_time_us / 1_000_000;
    text.gauge("pouch_relay_log_time_seconds", "The relay's own time, in seconds since 1970.", log_time_s);
    let waiting = Precedence::HIGHEST_FIRST.iter().enumerate().map(|(place, precedence)| {
        (precedence.name(), exchange.mailboxes.iter().map(|mailbox| mailbox.waiting[place]).sum::<usize>())
    });
    text.gauges(
        "pouch_relay_mailbox_envelopes",
        "Envelopes that addressees have not settled.",
        "precedence",
        waiting,
    );
    let oldest_us = exchange.mailboxes.iter().filter_map(|mailbox| mailbox.oldest_us).min();
    let age_s = oldest_us.map_or(0, |us| exchange.log_time_us.saturating_sub(us) / 1_000_000);
    text.gauge("pouch_relay_mailbox_oldest_age_seconds", "Age of the oldest of them, by log time.", age_s);
    let receipts: usize = exchange.mailboxes.iter().map(|mailbox| mailbox.receipts).sum();
    text.gauge("pouch_relay_mailbox_receipts", "Receipt records that senders have not confirmed.", receipts);
}

fn log(report: &EngineReport, text: &mut Exposition) {
    let Some(log) = &report.exchange.log else { return };
    let (published, ago) = log.published.unwrap_or_default();
    for (name, help, value) in [
        ("signed_size", "Leaves under the newest signed checkpoint.", log.signed),
        ("published_size", "Leaves under the newest checkpoint that a quorum has witnessed.", published),
        ("published_age_seconds", "How long ago that was published, or the relay started.", ago.as_secs()),
        (
            "cosignatures",
            "Witnesses that have cosigned the newest signed checkpoint.",
            log.cosigned_by.len() as u64,
        ),
        ("quorum", "How many must.", log.quorum as u64),
    ] {
        text.gauge(&format!("pouch_relay_log_{name}"), help, value);
    }
}

fn traffic(report: &EngineReport, text: &mut Exposition) {
    let counts = &report.counts;
    text.counter(
        "pouch_relay_accepted_total",
        "Accepted answers sent, repetitions included.",
        counts.accepted,
    );
    text.counter("pouch_relay_deferred_total", "Deferred answers sent.", counts.deferred);
    text.counter("pouch_relay_deliveries_total", "Envelopes sent to addressees.", counts.deliveries);
    text.counter("pouch_relay_receipts_stored_total", "Frames of receipts stored for desks.", counts.stored);
    text.counter("pouch_relay_receipts_sent_total", "Receipts sent to senders.", counts.receipts);
    text.counter(
        "pouch_relay_expired_sent_total",
        "Notices of expiry sent, to senders and addressees.",
        counts.expired,
    );
    text.counters(
        "pouch_relay_refused_total",
        "Submissions refused, by code.",
        "code",
        counts.refused.iter().map(|(code, count)| (*code, *count)),
    );
    text.counter("pouch_relay_sessions_opened_total", "Sessions opened.", counts.opened);
    text.counters(
        "pouch_relay_sessions_closed_total",
        "Connections that the relay closed, by the code of its Goodbye.",
        "code",
        counts.closed.iter().map(|(code, count)| (*code, *count)),
    );
}
