//! The only place where lasting state changes: live when a record is durable, and at replay.

use std::sync::Arc;

use bytes::Bytes;

use super::{Body, Exchange, Output, Pending, Stage};
use crate::{
    identity::Kind,
    merkle::Hash,
    record::{
        Record,
        administrative::{Act, AdministrativeLeaf},
        content::{AdministrativeRecord, Content, leaf_hash},
    },
    roster::{PartyNumber, RosterError},
    router::submissions::Outcome,
    session::outbound::Outbound,
    wire::{Malformed, Position, Precedence, order::OrderKind},
};

/// A journaled record cannot be applied. The journal is damaged in a way that its checksums do not show, or
/// belongs to another relay: the process refuses to start.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// It cannot be read.
    #[error(
        "record at position {position}: {source}; restore the journal from a backup, or call the maintainers"
    )]
    Malformed {
        /// Where.
        position: Position,
        /// What is wrong.
        source: Malformed,
    },
    /// A roster in it does not follow the chain from the trust bundle.
    #[error(
        "roster at position {position}: {source}; is this the trust bundle that the relay was started with?"
    )]
    Roster {
        /// Where.
        position: Position,
        /// What is wrong.
        source: Box<RosterError>,
    },
    /// An administrative leaf does not name the one before it.
    #[error(
        "administrative leaf at position {0} does not follow the one before it; restore the journal from a backup"
    )]
    Chain(Position),
    /// Positions are not in order.
    #[error("record at position {position} came where {expected} is due; restore the journal from a backup")]
    Order {
        /// Where it says it is.
        position: Position,
        /// Where it should be.
        expected: Position,
    },
    /// A base does not say what the records before it say.
    #[error(
        "the base before position {0} does not fit the records before it; restore the journal from a backup"
    )]
    Base(Position),
    /// Another version of pouch wrote the base.
    #[error(
        "a base of version {0} before position {1}, unknown to this version: start the version that wrote it"
    )]
    BaseVersion(u8, Position),
    /// The first base cannot be read.
    #[error("the base that the journal begins with: {0}; restore the journal from a backup")]
    FirstBase(Malformed),
}

/// A record of the journal, read and checked by itself: what can be done of a replay on another thread than the
/// exchange's.
#[derive(Debug)]
pub struct Past {
    position: Position,
    content: Content,
    leaf: Hash,
}

impl Past {
    /// Reads the record at a position.
    ///
    /// # Errors
    /// [`ReplayError::Malformed`].
    pub fn read(position: Position, record: &Record) -> Result<Past, ReplayError> {
        let content =
            Content::from_replay(record).map_err(|source| ReplayError::Malformed { position, source })?;
        Ok(Past { position, content, leaf: leaf_hash(record) })
    }
}

impl Exchange {
    /// Reads a record of the journal and applies it, before any input.
    ///
    /// # Errors
    /// [`ReplayError`]; the exchange is of no use after it.
    pub fn replay(&mut self, position: Position, record: &Record) -> Result<(), ReplayError> {
        self.replay_past(Past::read(position, record)?)
    }

    /// As [`Exchange::replay`], of a record that was read before.
    ///
    /// # Errors
    /// As [`Exchange::replay`].
    pub fn replay_past(&mut self, past: Past) -> Result<(), ReplayError> {
        let Past { position, content, leaf } = past;
        let expected = Position(self.tree.size());
        if position != expected {
            return Err(ReplayError::Order { position, expected });
        }
        if let Content::Administrative(AdministrativeRecord { leaf: act, beside }) = &content {
            if act.previous != self.chain {
                return Err(ReplayError::Chain(position));
            }
            if matches!(act.act, Act::Roster { .. }) {
                self.verify_roster(beside)
                    .map_err(|source| ReplayError::Roster { position, source: Box::new(source) })?;
            }
        }
        self.apply(&content, leaf, position);
        self.outputs.clear();
        Ok(())
    }

    pub(super) fn finish(&mut self, pending: Pending, position: Position) {
        self.apply(&pending.content, pending.leaf, position);
        match &pending.content {
            Content::Envelope(accepted) => {
                self.bodies.keep(position, Body::Envelope(accepted.envelope.clone()));
                if accepted.core.precedence_action == Precedence::Flash {
                    self.checkpoint_at_once();
                }
                for addressee in &accepted.core.addressees {
                    self.in_flight.entry(addressee.party).or_default().to_mailbox -= 1;
                }
                self.addressees_pending -= accepted.core.addressees.len();
                self.answer_submission(&pending, accepted.core.sender, accepted.core.submission);
                for addressee in &accepted.core.addressees {
                    self.deliver_to(addressee.party);
                }
            }
            Content::Receipts(receipts) => {
                self.bodies.keep(position, Body::Receipts(Arc::new(receipts.clone())));
                self.answer_stored(&pending, receipts.receiptor, receipts.batch.number);
                for part in &receipts.batch.parts {
                    self.deliver_to(part.item.sender);
                }
            }
            Content::Expired(expired) => {
                self.expiring.remove(&expired.position);
                self.bodies.keep(position, Body::Expired(Arc::new(expired.clone())));
                self.deliver_to(expired.sender);
                for (party, _) in &expired.addressees {
                    self.deliver_to(*party);
                }
            }
            Content::Refusal(refusal) => self.answer_submission(&pending, refusal.sender, refusal.submission),
            Content::Administrative(record) => {
                self.administered(position);
                if let Act::Incarnation { party, incarnation, store_id } = record.leaf.act {
                    self.incarnated(party, incarnation, store_id);
                }
            }
        }
    }

    fn apply(&mut self, content: &Content, leaf: Hash, position: Position) {
        assert_eq!(
            position,
            Position(self.tree.size()),
            "records are applied in the order of their positions"
        );
        self.grow_tree(leaf);
        self.last_record_us = content.log_time_us();
        self.clock.replay(content.log_time_us());
        self.erasures.note(content.log_time_us(), position, &self.limits);
        match content {
            Content::Envelope(accepted) => self.router.accept(accepted, position),
            Content::Receipts(receipts) => {
                let settled = self.router.settle(receipts, position);
                for done in settled.done {
                    self.bodies.drop(done);
                }
            }
            Content::Expired(expired) => {
                if self.router.expire(expired, position) {
                    self.bodies.drop(expired.position);
                }
            }
            Content::Refusal(refusal) => {
                let outcome = Outcome::Refused { position, code: refusal.code, traffic: refusal.traffic };
                self.router.spend(refusal.sender, refusal.submission, refusal.hash, outcome);
            }
            Content::Administrative(administrative) => self.apply_administrative(administrative, position),
        }
    }

    fn apply_administrative(&mut self, administrative: &AdministrativeRecord, position: Position) {
        let AdministrativeRecord { leaf, beside } = administrative;
        let AdministrativeLeaf { act, log_time_us, .. } = leaf;
        self.chain = leaf.head_at(position);
        let leaf = leaf.encode();
        match act {
            Act::Roster { version, .. } => {
                let roster =
                    self.verify_roster(beside).expect("verified before it was journaled or replayed");
                let before = self.roster.replace(roster.clone());
                self.history.push(before.as_deref(), &roster);
                self.trust_from(position, &roster);
                self.roster_leaves.push((*version, position, leaf.clone(), beside.clone()));
                self.outputs.push_back(Output::RosterInForce(roster.clone()));
                self.recheck_sessions(before.as_deref(), &roster);
                self.send_to_sessions(position, &leaf, beside);
            }
            Act::Incarnation { party, incarnation, store_id } => {
                let state = self.router.party(*party);
                state.incarnation = *incarnation;
                state.store_id = *store_id;
            }
            Act::Order(signed) => {
                self.orders.take(&signed.order, position, leaf.clone());
                if let Some(roster) = self.roster.clone() {
                    self.recheck_sessions(Some(&roster), &roster);
                }
                if !matches!(signed.order.kind, OrderKind::Erase { .. }) {
                    self.send_to_sessions(position, &leaf, &Bytes::new());
                }
            }
            Act::Cloned { party, .. } => self.send_to_concerned(*party, position, &leaf),
            Act::ClockAccepted { wall_us } => {
                self.clock.accept(*wall_us);
                self.erasures.jumped(wall_us.saturating_sub(*log_time_us));
            }
            Act::Erasures { through } => self.erased(*through, position),
            Act::Started { .. } | Act::Stopped | Act::Refusals { .. } | Act::Configuration { .. } => {}
        }
    }

    /// Sends an administrative leaf to a party and to the hub, where they are connected.
    fn send_to_concerned(&mut self, party: PartyNumber, position: Position, leaf: &Bytes) {
        let hub = self
            .roster
            .as_ref()
            .and_then(|roster| roster.parties().find(|party| party.kind == Kind::Hub).map(|hub| hub.number));
        for number in [Some(party), hub].into_iter().flatten() {
            let conn = self.by_party.get(&number).copied();
            let open = conn.filter(|conn| self.sessions[conn].stage == Stage::Open);
            if let Some(conn) = open {
                let (leaf, beside) = (leaf.clone(), Bytes::new());
                self.send(conn, Outbound::Administrative { position, leaf, beside, before_welcome: false });
            }
        }
    }

    /// Sends an administrative leaf to every desk that has said Hello; the others get it after theirs.
    fn send_to_sessions(&mut self, position: Position, leaf: &Bytes, beside: &Bytes) {
        let stages: Vec<_> = self.sessions.iter().map(|(conn, session)| (*conn, session.stage)).collect();
        for (conn, stage) in stages {
            let before_welcome = match stage {
                Stage::AwaitsHello { .. } | Stage::Checking => continue,
                Stage::Opening => true,
                Stage::Open => false,
            };
            let (leaf, beside) = (leaf.clone(), beside.clone());
            self.send(conn, Outbound::Administrative { position, leaf, beside, before_welcome });
        }
    }
}
