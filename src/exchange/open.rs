//! Opening and closing sessions: who connects, what a Hello must say, deadlines, the last word.

use std::sync::Arc;

use bytes::Bytes;

use super::{ConnId, Exchange, Notice, Now, Output, Session, Stage, watchers::Watcher};
use crate::{
    audit::AuditError,
    identity::{PartyId, SpiffeId},
    record::administrative::Act,
    roster::{PartyNumber, Roster},
    router::policy,
    session::{
        hello::VerifiedHello,
        outbound::{Outbound, Welcome},
        queue::Queue,
        window::{Allowance, Grant},
    },
    wire::{Position, pb::GoodbyeCode},
};

/// The highest incarnation at first contact, so that there is room above it.
const INCARNATION_FIRST_MAX: u32 = u32::MAX / 2;
/// How far an incarnation may rise at once: a few restores without contact, never to the end of the numbers.
const INCARNATION_RISE_MAX: u32 = 16;

impl Exchange {
    pub(super) fn connected(&mut self, conn: ConnId, id: PartyId, serial: String, now: Now) {
        let session = Session {
            id,
            serial,
            party: PartyNumber(0),
            stage: Stage::AwaitsHello { until: now.mono + self.limits.hello_time_max },
            instance: [0; 16],
            software: String::new(),
            since: now.mono,
            heard: now.mono,
            sent: now.mono,
            pinged: now.mono,
            submits: Grant::new(&self.limits),
            delivers: Allowance::default(),
            queue: Queue::new(&self.limits),
            last_new: None,
            deferred_from: None,
            bad_signatures: 0,
            publication: None,
            watcher: Watcher::default(),
            file: None,
            is_files_turn: true,
        };
        self.sessions.insert(conn, session);
        if self.stopping {
            self.goodbye(conn, GoodbyeCode::Shutdown, "the relay is stopping; come again".to_owned());
        }
    }

    /// Whether whoever a certificate names may read the audit log now.
    ///
    /// # Errors
    /// Why not, as a desk would be told.
    pub fn admit_reader(&self, id: &SpiffeId, serial: &str) -> Result<PartyNumber, GoodbyeCode> {
        let roster = self.roster.as_ref().ok_or(GoodbyeCode::NotReady)?;
        policy::admit_reader(roster, &self.orders, self.now_s(), id, serial).map(|party| party.number)
    }

    pub(super) fn hello(&mut self, conn: ConnId, hello: Box<VerifiedHello>) {
        let Some((roster, number)) = self.admit(conn) else { return };
        let party = roster.party(number).expect("admitted a moment ago");
        if party.sign != *hello.key() {
            let words = "signed by a key that is no longer the roster's".to_owned();
            return self.bad_hello(conn, GoodbyeCode::BadSignature, words);
        }
        self.take_claim(conn, hello);
    }

    /// Lets in whoever said Hello: what it brought of the log fits, or it brought nothing. A log that was rolled back must
    /// not grow before that is known (FORMATS 10).
    pub(super) fn greet(&mut self, conn: ConnId, hello: &VerifiedHello) {
        let Some((_, number)) = self.admit(conn) else { return };
        let fields = hello.fields();
        let (incarnation, store_id) = (fields.incarnation, hello.store_id());
        let (known, store_known) = self.incarnation(number);
        if incarnation < known || (incarnation == known && store_id != store_known) {
            return self.goodbye_incarnation(conn, known);
        }
        let most =
            if known == 0 { INCARNATION_FIRST_MAX } else { known.saturating_add(INCARNATION_RISE_MAX) };
        if incarnation > most {
            let words = format!("incarnation {incarnation} came where at most {most} may");
            return self.goodbye(conn, GoodbyeCode::Protocol, words);
        }
        if !self.take_over(number, conn, hello.instance()) {
            return;
        }
        self.send_unknown(conn, fields.roster_version, Position(fields.position));
        let since = self.clock.mono();
        let session = self.sessions.get_mut(&conn).expect("admitted a moment ago");
        session.party = number;
        session.instance = hello.instance();
        session.software.clone_from(&fields.software);
        session.since = since;
        session.stage = Stage::Opening;
        self.by_party.insert(number, conn);
        if fields.confirmed > 0 && self.is_of_this_log(fields.roster_version, &fields.checkpoint) {
            self.confirm_through(number, Position(fields.confirmed - 1));
        }
        if incarnation > known {
            self.in_flight.entry(number).or_default().incarnation = Some((incarnation, store_id));
            self.administer(Act::Incarnation { party: number, incarnation, store_id });
        }
        self.welcome(number);
    }

    /// Whether positions in a Hello may be this log's: not of a desk that has seen none of its rosters, or has verified
    /// another log last.
    fn is_of_this_log(&self, version_seen: u32, note: &Bytes) -> bool {
        let is_met = self.roster_leaves.first().is_some_and(|(version, ..)| version_seen >= *version);
        is_met && (note.is_empty() || !matches!(self.open_checkpoint(note), Err(AuditError::Origin)))
    }

    pub(super) fn bad_hello(&mut self, conn: ConnId, code: GoodbyeCode, words: String) {
        if self.admit(conn).is_some() {
            self.goodbye(conn, code, format!("Hello refused: {words}"));
        }
    }

    /// A party's incarnation and store, as the log has them or is about to.
    fn incarnation(&self, party: PartyNumber) -> (u32, [u8; 16]) {
        let flying = self.in_flight.get(&party).and_then(|flying| flying.incarnation);
        let known = self.router.known(party).map(|state| (state.incarnation, state.store_id));
        flying.or(known).unwrap_or_default()
    }

    /// An incarnation is durable: whoever waits for it is welcome.
    pub(super) fn incarnated(&mut self, party: PartyNumber, incarnation: u32, store_id: [u8; 16]) {
        let flying = self.in_flight.entry(party).or_default();
        if flying.incarnation == Some((incarnation, store_id)) {
            flying.incarnation = None;
        }
        self.welcome(party);
    }

    /// Sends Welcome and what waits, unless the party's incarnation is still being written. The session is open from here.
    pub(super) fn welcome(&mut self, party: PartyNumber) {
        let Some(conn) = self.by_party.get(&party).copied() else { return };
        let is_written = self.in_flight.get(&party).is_none_or(|flying| flying.incarnation.is_none());
        let session = &self.sessions[&conn];
        if session.stage != Stage::Opening || !is_written {
            return;
        }
        // One by a key that the roster has dropped since would be taken for a lie: the next one will do.
        let bare = self.checkpoints.published_bare();
        let bare = if self.open_by_roster(&bare).is_ok() { bare } else { Bytes::new() };
        let published = self.checkpoints.published().filter(|_| !bare.is_empty()).cloned();
        let session = self.sessions.get_mut(&conn).expect("a party's connection is a session");
        session.stage = Stage::Open;
        let credit = session.submits.granted();
        let roster = self.roster.as_ref().expect("a session opens under a roster");
        let state = self.router.party(party);
        state.mailbox.session_ended();
        let welcome = Welcome {
            checkpoint: bare,
            time_us: self.clock.time_us(),
            roster_version: roster.version(),
            roster_hash: roster.hash(),
            incarnation_known: state.incarnation,
            last_accepted: state.submissions.last(),
            last_stored: state.stored.last(),
            credit,
        };
        self.send(conn, Outbound::Welcome(Box::new(welcome)));
        self.notice(Notice::SessionOpened { conn, party });
        if let Some(note) = published {
            self.send(conn, Outbound::Checkpoint(note));
        }
        let unpublished = self.checkpoints.unpublished();
        // One that a key of an earlier roster signed is no checkpoint to this desk.
        if unpublished.is_some_and(|signed| self.open_by_roster(&signed.note).is_ok()) {
            self.show_signed(conn);
        }
        self.look_at_watcher(conn);
        self.deliver(conn);
    }

    /// The roster and the party that a connection's certificate names, or the connection is closed.
    fn admit(&mut self, conn: ConnId) -> Option<(Arc<Roster>, PartyNumber)> {
        let session = self.sessions.get(&conn)?;
        let Some(roster) = self.roster.clone() else {
            self.goodbye(conn, GoodbyeCode::NotReady, "the relay has no roster yet; come again".to_owned());
            return None;
        };
        match policy::admit(&roster, &self.orders, self.now_s(), session.id.spiffe(), &session.serial) {
            Ok(party) => {
                let number = party.number;
                Some((roster, number))
            }
            Err(code) => {
                self.goodbye(conn, code, policy::admission_words(code).to_owned());
                None
            }
        }
    }

    /// Sends the rosters above a version and the orders from a position on, in the order of the log: a desk
    /// counts what it knows by position.
    fn send_unknown(&mut self, conn: ConnId, version_seen: u32, from: Position) {
        let rosters = self.roster_leaves.iter().filter(|(version, ..)| *version > version_seen);
        let rosters = rosters.map(|(_, position, leaf, beside)| (*position, leaf.clone(), beside.clone()));
        let orders =
            self.orders.since(from).into_iter().map(|(position, leaf)| (position, leaf, Bytes::new()));
        let mut unknown: Vec<_> = rosters.chain(orders).collect();
        unknown.sort_by_key(|(position, ..)| *position);
        for (position, leaf, beside) in unknown {
            self.send(conn, Outbound::Administrative { position, leaf, beside, before_welcome: true });
        }
    }

    /// Says why, and closes once that is out.
    pub(super) fn goodbye(&mut self, conn: ConnId, code: GoodbyeCode, sentence: String) {
        self.last_word(conn, code, sentence, 0);
    }

    fn goodbye_incarnation(&mut self, conn: ConnId, current: u32) {
        let sentence =
            format!("the log knows incarnation {current} of this party; take the next and resynchronise");
        self.last_word(conn, GoodbyeCode::IncarnationOld, sentence, current);
    }

    fn last_word(&mut self, conn: ConnId, code: GoodbyeCode, sentence: String, incarnation: u32) {
        let Some(session) = self.sessions.get(&conn) else { return };
        let party = session.id.spiffe().to_string();
        self.send(conn, Outbound::Goodbye { code, sentence: sentence.clone(), incarnation });
        self.notice(Notice::SessionClosed { conn, party, code, sentence });
        self.close_quietly(conn);
    }

    pub(super) fn close_quietly(&mut self, conn: ConnId) {
        self.outputs.push_back(Output::Close { conn });
        self.closed(conn);
    }

    /// Forgets a connection: what it was sent and did not settle is due again.
    pub(super) fn closed(&mut self, conn: ConnId) {
        let Some(session) = self.sessions.remove(&conn) else { return };
        self.pool_bytes += session.submits.pool_share(&self.limits);
        self.forget_file(conn, session.file);
        if self.by_party.get(&session.party) == Some(&conn) {
            self.by_party.remove(&session.party);
            self.router.party(session.party).mailbox.session_ended();
        }
    }

    pub(super) fn check_deadlines(&mut self, conn: ConnId, now: Now) {
        let Some(session) = self.sessions.get_mut(&conn) else { return };
        let silent = now.mono.saturating_sub(session.heard);
        if let Stage::AwaitsHello { until } = session.stage
            && now.mono >= until
        {
            return self.goodbye(conn, GoodbyeCode::Silent, "no Hello came in time".to_owned());
        }
        if session.publication.as_ref().is_some_and(|publication| now.mono >= publication.until) {
            return self.goodbye(
                conn,
                GoodbyeCode::Protocol,
                "a roster did not come whole in time".to_owned(),
            );
        }
        if silent >= self.limits.silence_max {
            return self.goodbye(conn, GoodbyeCode::Silent, "nothing was heard for too long".to_owned());
        }
        // A desk whose long frame is under way on a thin line hears nothing meanwhile, unless we say something.
        let is_quiet = silent.max(now.mono.saturating_sub(session.sent)) >= self.limits.ping_every;
        if is_quiet
            && session.stage == Stage::Open
            && now.mono.saturating_sub(session.pinged) >= self.limits.ping_every
        {
            session.pinged = now.mono;
            let token = u64::try_from(now.mono.as_micros()).unwrap_or_default();
            self.send(conn, Outbound::Ping(token));
        }
    }

    pub(super) fn stop(&mut self) {
        self.stopping = true;
        let all: Vec<ConnId> = self.sessions.keys().copied().collect();
        for conn in all {
            self.goodbye(conn, GoodbyeCode::Shutdown, "the relay is stopping; come again".to_owned());
        }
        self.administer_counts();
        self.administer(Act::Stopped);
    }

    /// A new roster or order is in force: whoever it no longer admits, or whose key changed, is closed at once.
    pub(super) fn recheck_sessions(&mut self, before: Option<&Roster>, roster: &Roster) {
        let open: Vec<ConnId> = self.sessions.keys().copied().collect();
        for conn in open {
            let session = &self.sessions[&conn];
            match policy::admit(roster, &self.orders, self.now_s(), session.id.spiffe(), &session.serial) {
                Err(code) => self.goodbye(conn, code, policy::admission_words(code).to_owned()),
                Ok(party) => {
                    let was = before.and_then(|before| before.party(party.number));
                    if was.is_some_and(|was| was.sign != party.sign) {
                        self.goodbye(
                            conn,
                            GoodbyeCode::BadSignature,
                            "this party's sign key was changed".to_owned(),
                        );
                    }
                }
            }
        }
    }
}
