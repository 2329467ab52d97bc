//! What a desk answers to probes: ready means that its store answers, a roster is in force and names this desk
//! with its sign key. A desk without contact is alive and ready: it takes dispatches; its link is a metric.

use std::sync::Arc;

use jiff::Timestamp;
use tokio::time::timeout;

use crate::{
    alarms::{AlarmKind, Alarms},
    batch::PublicKey,
    desk::{
        handle::DeskHandle,
        status::LinkState,
        view::{Overdue, Status, Waiting},
    },
    exposition::Exposition,
    identity::SpiffeId,
    limits::ENGINE_ANSWER_TIME_MAX,
    probes::Probed,
    roster::Roster,
};

/// A running desk, as probes see it.
pub struct ProbedDesk {
    /// The desk.
    pub handle: DeskHandle,
    /// Who it is.
    pub id: SpiffeId,
    /// The public half of its sign key.
    pub sign: PublicKey,
    /// The daemon's standing alarms.
    pub alarms: Alarms,
    /// When it started.
    pub started: Timestamp,
}

impl Probed for ProbedDesk {
    async fn gets_on(&self) -> bool {
        self.roster().await.is_some()
    }

    async fn not_ready(&self) -> Vec<String> {
        match self.roster().await {
            Some(roster) => self.unfit(roster.as_deref()).into_iter().collect(),
            None => {
                vec![
                    "the store does not answer: look at the desk's log, and at the disk of its folder"
                        .to_owned(),
                ]
            }
        }
    }

    async fn metrics(&self) -> String {
        let mut text = Exposition::default();
        let ready = u8::from(self.not_ready().await.is_empty());
        text.gauge("pouch_desk_ready", "Whether the desk can store, can sign and has a roster.", ready);
        let started = self.started.as_second();
        text.gauge("pouch_desk_start_time_seconds", "When the desk started, in seconds since 1970.", started);
        let standing = self.alarms.all();
        let stands = |kind: AlarmKind| u8::from(standing.iter().any(|alarm| alarm.kind == kind));
        text.gauges(
            "pouch_desk_alarm",
            "Whether an alarm of the daemon stands; `pouch status` says what to do.",
            "kind",
            AlarmKind::ALL.map(|kind| (kind.name(), stands(kind))),
        );
        self.link(&mut text);
        if let Ok(Ok(status)) = timeout(ENGINE_ANSWER_TIME_MAX, self.handle.status()).await {
            store(&status, &mut text);
        }
        text.into_text()
    }
}

impl ProbedDesk {
    /// The roster held, if the store answers in time.
    async fn roster(&self) -> Option<Option<Arc<Roster>>> {
        let asking = self.handle.store().ask(|store| Ok(store.facts()?.roster));
        timeout(ENGINE_ANSWER_TIME_MAX, asking).await.ok()?.ok()
    }

    /// Why what this desk signs would not be believed.
    fn unfit(&self, roster: Option<&Roster>) -> Option<String> {
        let Some(roster) = roster else {
            return Some(
                "no roster is in force: bring the link up, or set `roster` to the ministry's".to_owned(),
            );
        };
        let own = roster.party_by_id(&self.id);
        own.is_none_or(|own| own.sign != self.sign).then(|| {
            format!(
                "the roster in force does not name {} with the key in sign.key: nobody believes this desk; have the \
                 roster corrected",
                self.id
            )
        })
    }

    fn link(&self, text: &mut Exposition) {
        let link = self.handle.link();
        let in_contact = u8::from(link.state == LinkState::InContact);
        text.gauge("pouch_desk_in_contact", "Whether a session with the relay is open.", in_contact);
        let heard = link.last_contact.map_or(0, Timestamp::as_second);
        text.gauge(
            "pouch_desk_last_contact_seconds",
            "When the relay was last heard, in seconds since 1970; 0 for not since the start.",
            heard,
        );
    }
}

fn store(status: &Status, text: &mut Exposition) {
    let Waiting { flash, immediate, priority, routine } = status.waiting;
    text.gauges(
        "pouch_desk_outbox_dispatches",
        "Dispatches that wait for the relay.",
        "precedence",
        [("flash", flash), ("immediate", immediate), ("priority", priority), ("routine", routine)],
    );
    let age = |at: &Option<String>| {
        let at = at.as_ref().and_then(|at| at.parse::<Timestamp>().ok());
        at.map_or(0, |at| Timestamp::now().duration_since(at).as_secs().max(0))
    };
    for (name, help, value) in [
        ("outbox_oldest_age_seconds", "Age of the oldest of them.", age(&status.oldest_queued_at)),
        (
            "undelivered_oldest_age_seconds",
            "Age of the oldest accepted one that is undelivered.",
            age(&status.oldest_undelivered_at),
        ),
    ] {
        text.gauge(&format!("pouch_desk_{name}"), help, value);
    }
    let Overdue { addressees, acknowledgements, answers, acknowledgements_owed, answers_owed } =
        status.overdue;
    text.gauges(
        "pouch_desk_overdue",
        "Overdue: addressees that lack a dispatch or have not acknowledged it, by precedence or by the time named; answers owed to this desk; what it owes.",
        "what",
        [
            ("addressees", addressees),
            ("acknowledgements", acknowledgements),
            ("answers", answers),
            ("acknowledgements-owed", acknowledgements_owed),
            ("answers-owed", answers_owed),
        ],
    );
    for (name, help, value) in [
        ("undelivered_dispatches", "Accepted, and not delivered to every addressee.", status.undelivered),
        ("refused_dispatches", "Refused, for a person.", status.refused),
        ("inbox_dispatches", "Entries of the register.", status.inbox),
        ("unread_dispatches", "Of those, unread.", status.unread),
        ("unacknowledged_dispatches", "Of those, with an acknowledgement owed.", status.unacknowledged),
        ("set_aside_dispatches", "Of those, set aside instead of opened.", status.set_aside),
        ("proofs_owed", "Records that are not proven to be in the audit log yet.", status.proofs_owed),
        ("log_verified_size", "Leaves of the audit log that this desk has verified.", status.log_verified),
        ("receipts_waiting", "Receipts that the relay has not logged yet.", status.receipts_waiting),
        ("roster_version", "Version of the roster held.", status.roster_version.into()),
        ("open_alarms", "Alarms that nobody has taken or closed.", status.alarms.len() as u64),
    ] {
        text.gauge(&format!("pouch_desk_{name}"), help, value);
    }
}
