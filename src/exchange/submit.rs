//! An envelope comes in: numbers, policy, the record, and its answer.

use super::{ConnId, Exchange, Notice, Pending, Room};
use crate::{
    merkle::Hash,
    record::{
        Ticket,
        content::{AcceptedEnvelope, Content, RecordedRefusal, Traffic},
        leaf::{Opening, OpeningKind},
    },
    roster::PartyNumber,
    router::{
        policy,
        submissions::{Outcome, Spent, Standing},
    },
    session::{
        inbound::BadSubmit,
        outbound::{Outbound, Refusal, refusal_code},
    },
    wire::{
        EnvelopeHash, Position, SubmissionNumber,
        envelope::{Core, VerifiedEnvelope},
        pb::{GoodbyeCode, RefusalCode},
    },
};

/// What a sender is told to wait when the journal has no room.
const RETRY_AFTER_MS: u32 = 1_000;

impl Exchange {
    pub(super) fn submit(&mut self, conn: ConnId, envelope: VerifiedEnvelope, bytes: u64) {
        let Some(session) = self.sessions.get_mut(&conn) else { return };
        let (party, number, hash) = (session.party, envelope.core().submission, envelope.hash());
        if session.submits.receive(bytes).is_err() {
            return self.goodbye(
                conn,
                GoodbyeCode::Protocol,
                "more envelopes than the window allows".to_owned(),
            );
        }
        if session.must_wait(number) {
            return self.defer(conn, number, bytes);
        }
        if let Some((pending, ticket)) = self.in_flight.entry(party).or_default().submissions.get(&number) {
            let (same, ticket) = (*pending == hash, *ticket);
            return if same {
                self.wait_for(ticket, conn, bytes);
            } else {
                self.refuse(conn, number, hash, RefusalCode::NumberReused, bytes);
            };
        }
        match self.standing(party, number) {
            Standing::Spent(spent) if spent.hash == hash => self.answer_again(conn, &spent, bytes),
            Standing::Spent(_) => self.refuse(conn, number, hash, RefusalCode::NumberReused, bytes),
            Standing::Old => self.refuse(conn, number, hash, RefusalCode::OldNumber, bytes),
            Standing::New => self.submit_new(conn, party, envelope, bytes),
        }
    }

    fn submit_new(&mut self, conn: ConnId, party: PartyNumber, envelope: VerifiedEnvelope, bytes: u64) {
        let session = self.sessions.get_mut(&conn).expect("checked by the caller");
        let number = envelope.core().submission;
        if !session.is_dense(number) {
            return self.goodbye(conn, GoodbyeCode::Protocol, "submission numbers are not dense".to_owned());
        }
        if self.room == Room::ReceiptsOnly || self.router.owes_confirmation(party, &self.limits) {
            session.deferred_from = Some(number);
            return self.defer(conn, number, bytes);
        }
        session.last_new = Some(number);
        match self.check_new(party, &envelope, bytes) {
            Ok(()) => self.accept(conn, party, envelope, bytes),
            Err(code) => self.refuse_signed(conn, party, envelope.core(), envelope.hash(), code, bytes),
        }
    }

    fn check_new(
        &self,
        party: PartyNumber,
        envelope: &VerifiedEnvelope,
        bytes: u64,
    ) -> Result<(), RefusalCode> {
        let roster = self.roster.as_ref().ok_or(RefusalCode::RosterUnknown)?;
        let sender = roster.party(party).ok_or(RefusalCode::Suspended)?;
        if sender.sign != *envelope.key() {
            return Err(RefusalCode::BadSignature);
        }
        let core = envelope.core();
        policy::check(core, sender, roster, &self.orders, &self.history, self.clock.time_us())?;
        if !self.is_within_quotas(sender, core, bytes) {
            return Err(RefusalCode::Quota);
        }
        let is_full = core.addressees.iter().any(|addressee| {
            let flying = self.in_flight.get(&addressee.party).map_or(0, |flying| flying.to_mailbox);
            let envelopes_max = policy::mailbox_max(roster, addressee.party, &self.limits);
            !self.router.has_room(addressee.party, flying, envelopes_max)
                || self.router.owes_confirmation(addressee.party, &self.limits)
        });
        let (envelopes, addressees) =
            (self.pending.len() + 1, self.addressees_pending + core.addressees.len());
        if is_full || !self.router.has_room_in_all(envelopes, addressees, &self.limits) {
            return Err(RefusalCode::MailboxFull);
        }
        Ok(())
    }

    fn accept(&mut self, conn: ConnId, party: PartyNumber, envelope: VerifiedEnvelope, bytes: u64) {
        let (envelope, core, hash) = envelope.into_parts();
        for addressee in &core.addressees {
            self.in_flight.entry(addressee.party).or_default().to_mailbox += 1;
        }
        self.addressees_pending += core.addressees.len();
        let number = core.submission;
        self.use_quotas(party, core.precedence_action, bytes);
        let traffic = self.traffic(OpeningKind::Envelope, hash.0);
        let accepted = AcceptedEnvelope { traffic, envelope, core, hash };
        let ticket = self.append(Content::Envelope(accepted), true, vec![(conn, bytes)]);
        self.in_flight.entry(party).or_default().submissions.insert(number, (hash, ticket));
    }

    /// A final refusal of a correctly signed envelope: a record, unless this party has had its share of them
    /// in this second; those are only counted.
    fn refuse_signed(
        &mut self,
        conn: ConnId,
        party: PartyNumber,
        core: &Core,
        hash: EnvelopeHash,
        code: RefusalCode,
        bytes: u64,
    ) {
        let second = self.clock.time_us() / 1_000_000;
        let max = self.limits.refusal_records_per_second_max;
        if !self.administrative.may_record_refusal(party, second, max) {
            return self.refuse(conn, core.submission, hash, code, bytes);
        }
        let traffic = self.traffic(OpeningKind::Refusal, hash.0);
        let number = core.submission;
        let refusal =
            RecordedRefusal { traffic, sender: party, submission: number, hash, code: refusal_code(code) };
        let ticket = self.append(Content::Refusal(refusal), true, vec![(conn, bytes)]);
        self.in_flight.entry(party).or_default().submissions.insert(number, (hash, ticket));
    }

    /// A refusal that is answered at once and only counted in the log.
    fn refuse(
        &mut self,
        conn: ConnId,
        number: SubmissionNumber,
        hash: EnvelopeHash,
        code: RefusalCode,
        bytes: u64,
    ) {
        let Some(session) = self.sessions.get(&conn) else { return };
        let party = session.party;
        self.administrative.count_refusal(party, refusal_code(code), self.clock.time_us());
        self.notice(Notice::Refused { party, code: refusal_code(code), recorded: false });
        self.send_refusal(conn, party, number, hash, code, None);
        self.give_back(conn, bytes);
    }

    pub(super) fn bad_submit(&mut self, conn: ConnId, bad: &BadSubmit, bytes: u64) {
        let Some(session) = self.sessions.get_mut(&conn) else { return };
        if session.submits.receive(bytes).is_err() {
            return self.goodbye(
                conn,
                GoodbyeCode::Protocol,
                "more envelopes than the window allows".to_owned(),
            );
        }
        if bad.code == RefusalCode::BadSignature {
            session.bad_signatures += 1;
            if session.bad_signatures > self.limits.bad_signatures_max {
                return self.goodbye(conn, GoodbyeCode::BadSignature, "too many bad signatures".to_owned());
            }
        }
        if let Some(number) = bad.submission {
            if session.must_wait(number) {
                return self.defer(conn, number, bytes);
            }
            let is_next = session.is_dense(number);
            let party = session.party;
            if is_next && self.standing(party, number) == Standing::New {
                let session = self.sessions.get_mut(&conn).expect("found a moment ago");
                session.last_new = Some(number);
            }
        }
        self.refuse(conn, bad.submission.unwrap_or_default(), bad.hash, bad.code, bytes);
    }

    /// How a number stands, to those that are durable and those that are being written.
    fn standing(&mut self, party: PartyNumber, number: SubmissionNumber) -> Standing {
        let flying = self.in_flight.entry(party).or_default().submissions.keys().next_back();
        match self.router.party(party).submissions.standing(number) {
            Standing::New if flying.is_some_and(|last| number <= *last) => Standing::Old,
            standing => standing,
        }
    }

    /// Answers those who wait for an envelope or a refusal that has just become durable.
    pub(super) fn answer_submission(
        &mut self,
        pending: &Pending,
        party: PartyNumber,
        number: SubmissionNumber,
    ) {
        self.in_flight.entry(party).or_default().submissions.remove(&number);
        let Standing::Spent(spent) = self.router.party(party).submissions.standing(number) else {
            unreachable!("apply spent the number a moment ago")
        };
        for (conn, bytes) in &pending.waiters {
            self.answer_again(*conn, &spent, *bytes);
        }
    }

    fn answer_again(&mut self, conn: ConnId, spent: &Spent, bytes: u64) {
        let Some(session) = self.sessions.get(&conn) else { return };
        let party = session.party;
        match spent.outcome {
            Outcome::Accepted { position, traffic } => {
                self.send(
                    conn,
                    Outbound::Accepted { submission: spent.number, hash: spent.hash, position, traffic },
                );
            }
            Outcome::Refused { position, code, traffic } => {
                let code = RefusalCode::try_from(i32::from(code)).unwrap_or(RefusalCode::Unspecified);
                self.notice(Notice::Refused { party, code: refusal_code(code), recorded: true });
                self.send_refusal(conn, party, spent.number, spent.hash, code, Some((position, traffic)));
            }
        }
        self.give_back(conn, bytes);
    }

    fn send_refusal(
        &mut self,
        conn: ConnId,
        sender: PartyNumber,
        submission: SubmissionNumber,
        hash: EnvelopeHash,
        code: RefusalCode,
        recorded: Option<(Position, Traffic)>,
    ) {
        let roster = self.roster.as_ref().expect("a session is open under a roster");
        let refusal = Refusal {
            submission,
            hash,
            code,
            sentence: policy::words(code).to_owned(),
            sender,
            relay: roster.relay().map_or(PartyNumber(0), |relay| relay.number),
            time_us: recorded.map_or(self.clock.time_us(), |(_, traffic)| traffic.opening.log_time_us),
            roster_version: roster.version(),
            recorded,
        };
        self.send(conn, Outbound::Refused(Box::new(refusal)));
    }

    fn defer(&mut self, conn: ConnId, submission: SubmissionNumber, bytes: u64) {
        self.send(conn, Outbound::Deferred { submission, retry_after_ms: RETRY_AFTER_MS });
        self.give_back(conn, bytes);
    }

    /// Answers this connection, too, once the ticket's record is durable.
    pub(super) fn wait_for(&mut self, ticket: Ticket, conn: ConnId, bytes: u64) {
        let pending = self.pending.iter_mut().find(|pending| pending.ticket == ticket);
        pending.expect("in flight means pending").waiters.push((conn, bytes));
    }

    /// Gives credit back for an answered submission.
    fn give_back(&mut self, conn: ConnId, bytes: u64) {
        let Some(session) = self.sessions.get_mut(&conn) else { return };
        let now = self.clock.mono();
        if let Some(credit) = session.submits.finish(bytes, now, &self.limits, &mut self.pool_bytes) {
            self.send(conn, Outbound::Credit(credit));
        }
    }

    pub(super) fn traffic(&mut self, kind: OpeningKind, hash: Hash) -> Traffic {
        let roster_version = self.roster.as_ref().map_or(0, |roster| roster.version());
        let opening = Opening { kind, log_time_us: self.clock.time_us(), roster_version, hash };
        Traffic { salt: self.salt(), opening }
    }
}
