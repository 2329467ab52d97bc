//! What of a link outlives its sessions: by what it verifies, and what waits to be carried out.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use crate::{
    alarms::is_whole,
    audit::Checkpoint,
    batch,
    desk::link::{
        jobs::StoreJob,
        machine::{Output, Setup},
        verify::Judge,
        watch::Doubt,
    },
    roster::{PartyNumber, Roster, SignKeys},
    session::window::Credit,
    wire::{pb, pb::frame::Kind},
};

/// What outlives a session.
pub(super) struct Known {
    pub(super) setup: Setup,
    /// The newest roster, verified.
    pub(super) roster: Option<Arc<Roster>>,
    /// The sign keys under it and those before it.
    pub(super) keys: Arc<SignKeys>,
    pub(super) verifier: batch::Verifier,
    /// Whether the store took a new incarnation and no Welcome has come since.
    pub(super) is_new_incarnation: bool,
    /// The newest published checkpoint that the relay has shown since the daemon started.
    pub(super) published: Option<Checkpoint>,
    /// Jobs that belong to no session.
    pub(super) jobs: VecDeque<StoreJob>,
    /// Alarms that the store has not been given yet, by key, and whether the same words again are no news.
    pub(super) alarms: BTreeMap<String, (String, bool)>,
    /// What does not fit the audit log, and the store has not been told yet.
    pub(super) doubts: VecDeque<Doubt>,
    /// What is to be carried out, in order.
    pub(super) outputs: VecDeque<Output>,
}

/// Alarms of different keys that wait for the store. Reached: further ones are not raised until it has taken some.
const ALARMS_WAITING_MAX: usize = 64;
/// Doubts that wait for the store: it keeps only the first of each kind anyhow.
const DOUBTS_WAITING_MAX: usize = 8;

impl Known {
    pub(super) fn send(&mut self, frame: Kind) {
        self.outputs.push_back(Output::Send(frame));
    }

    pub(super) fn grant(&mut self, total: Credit) {
        self.send(Kind::Credit(pb::Credit { envelopes: total.envelopes, bytes: total.bytes }));
    }

    /// Something that a person must see. The sentence holds codes and numbers, never a peer's text, and says
    /// whether mail goes on, what to save and whom to call.
    pub(super) fn alarm(&mut self, key: &str, sentence: String) {
        self.raise(key, sentence, false);
    }

    /// The same, of what may be told of twice: it stays closed where a person has closed it.
    pub(super) fn alarm_once(&mut self, key: &str, sentence: String) {
        self.raise(key, sentence, true);
    }

    fn raise(&mut self, key: &str, sentence: String, once: bool) {
        debug_assert!(is_whole(&sentence), "says neither of mail, what to save, whom to call: {sentence}");
        if self.alarms.len() < ALARMS_WAITING_MAX || self.alarms.contains_key(key) {
            self.alarms.insert(key.to_owned(), (sentence, once));
        }
    }

    /// Something that does not fit the audit log.
    pub(super) fn doubt(&mut self, doubt: Doubt) {
        if self.doubts.len() < DOUBTS_WAITING_MAX {
            self.doubts.push_back(doubt);
        }
    }

    /// What to verify by in an open session.
    pub(super) fn judge(&mut self, own: PartyNumber) -> Judge<'_> {
        let roster = self.roster.as_deref().expect("a session opens only with a roster");
        Judge { roster, keys: &self.keys, own, verifier: &mut self.verifier }
    }
}
