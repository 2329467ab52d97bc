//! What desks have to do with the audit log: the checkpoint that a Hello brings, and the cosignatures of witnesses.
//! The files that followers fetch are in [`super::files`].

use super::{ConnId, Exchange, Notice, Output, Stage, checkpoint::Signed};
use crate::{
    audit::{AddCheckpoint, AuditError, Checkpoint, LogTrust},
    limits::COSIGNATURES_MAX,
    merkle::{self, Hash},
    note::{Note, NoteSignature},
    roster::PartyNumber,
    session::{hello::VerifiedHello, inbound::Witnessed, outbound::Outbound},
    wire::pb::GoodbyeCode,
};

/// A session's part in the audit log.
#[derive(Debug, Default)]
pub(super) struct Watcher {
    /// The checkpoint that its Hello brought, and the Hello, until it is known to be one of this log's history.
    claim: Option<(Checkpoint, Box<VerifiedHello>)>,
    /// The size that it cosigned last, as far as it has said.
    cosigned: u64,
    /// The size that it is asked to cosign.
    asked: Option<u64>,
}

impl Exchange {
    /// Holds the checkpoint of a Hello against the log, and greets whoever says it once it fits.
    pub(super) fn take_claim(&mut self, conn: ConnId, hello: Box<VerifiedHello>) {
        let note = &hello.fields().checkpoint;
        if note.is_empty() || !self.checkpoints.is_kept() {
            return self.greet(conn, &hello);
        }
        let claim = match self.open_checkpoint(note) {
            Ok(opened) => opened.checkpoint,
            // Of the log before this one, which ended with its origin.
            Err(AuditError::Origin) => return self.greet(conn, &hello),
            Err(error) => {
                let words = format!("the checkpoint in Hello is not one of this log's: {error}");
                return self.goodbye(conn, GoodbyeCode::Protocol, words);
            }
        };
        // A key that the roster no longer lists may be in anybody's hands: what it signs must not stop the relay.
        if self.open_by_roster(note).is_err() {
            return self.greet(conn, &hello);
        }
        if claim.size > self.tree.size() {
            return self.outputs.push_back(Output::Forked { note: note.clone() });
        }
        let session = self.sessions.get_mut(&conn).expect("the session whose Hello it is");
        session.watcher.cosigned = claim.size;
        if claim.size == 0 {
            return self.greet(conn, &hello);
        }
        session.stage = Stage::Checking;
        session.watcher.claim = Some((claim, hello));
        self.look_at_watcher(conn);
    }

    /// A path from an older tree to a signed one was found in the tiles.
    pub(super) fn proved(&mut self, conn: ConnId, old_size: u64, size: u64, path: Vec<Hash>) {
        let Some(Signed { checkpoint, note, .. }) = self.checkpoints.signed_at(size) else {
            // A newer one was signed meanwhile: that is what counts now.
            return self.look_at_watcher(conn);
        };
        let (root, note) = (checkpoint.root, note.clone());
        let Some(session) = self.sessions.get_mut(&conn) else { return };
        let party = session.party;
        if let Some((claim, hello)) = session.watcher.claim.take_if(|(claim, _)| claim.size == old_size) {
            if merkle::verify_consistency(old_size, claim.root, size, root, &path).is_err() {
                return self.outputs.push_back(Output::Forked { note: hello.fields().checkpoint.clone() });
            }
            return self.greet(conn, &hello);
        }
        let watcher = &mut session.watcher;
        if watcher.claim.is_none() && watcher.cosigned == old_size && watcher.asked.is_none() {
            watcher.asked = Some(size);
            let checkpoint = String::from_utf8(note.to_vec()).expect("a note is text");
            self.checkpoints.asked(party);
            self.send(conn, Outbound::AddCheckpoint(Box::new(AddCheckpoint { old_size, path, checkpoint })));
        }
    }

    /// There is no telling whether an older tree leads to a signed one: whoever brought it comes again, for unseen it is
    /// not let in, and whoever is to cosign is not asked for this one.
    pub(super) fn unproved(&mut self, conn: ConnId, old_size: u64) {
        let Some(session) = self.sessions.get_mut(&conn) else { return };
        if session.watcher.claim.take_if(|(claim, _)| claim.size == old_size).is_some() {
            let words = "the checkpoint in Hello cannot be held against this log now; come again".to_owned();
            self.goodbye(conn, GoodbyeCode::NotReady, words);
        }
    }

    /// A witness answers.
    pub(super) fn witnessed(&mut self, conn: ConnId, answer: &Witnessed) {
        let session = self.sessions.get_mut(&conn).expect("frames come from sessions");
        let (party, known) = (session.party, session.watcher.cosigned);
        let Some(size) = session.watcher.asked.take() else {
            let words = "an answer to no request for a cosignature".to_owned();
            return self.goodbye(conn, GoodbyeCode::Protocol, words);
        };
        match answer {
            Witnessed::Cosigned(line) => {
                session.watcher.cosigned = size;
                self.cosigned(party, size, line);
            }
            Witnessed::Conflict(at) if *at > size => {
                self.witness_refuses(party, Notice::WitnessAhead { party, size: *at });
            }
            // It has verified a newer one than this relay knows of, and is asked from there.
            Witnessed::Conflict(at) => {
                session.watcher.cosigned = *at;
                if *at <= known || !self.checkpoints.ask_again(party) {
                    self.witness_refuses(party, Notice::WitnessRefused { party, status: 409 });
                }
            }
            Witnessed::Refused(status) => {
                self.witness_refuses(party, Notice::WitnessRefused { party, status: *status });
            }
        }
        self.look_at_watcher(conn);
    }

    fn cosigned(&mut self, party: PartyNumber, size: u64, line: &NoteSignature) {
        let Some(signed) = self.checkpoints.signed_at(size) else { return };
        // Who is no witness by the roster that counts is not asked; a roster may have come between.
        let Some(key) = self.checkpoints.trust().and_then(|trust| trust.witness(party)) else { return };
        let mut note = Note::new(&signed.checkpoint.to_string()).expect("a checkpoint's text");
        note.add(line.clone()).expect("the first signature");
        let is_good = note.verify(std::slice::from_ref(key)).is_ok_and(|found| !found.is_empty());
        if !is_good {
            // No reason to end its session: a witness key that was just replaced must not hold up mail.
            return self.witness_refuses(party, Notice::WitnessRefused { party, status: 200 });
        }
        let has_room =
            signed.cosignatures.len() < COSIGNATURES_MAX || signed.cosignatures.contains_key(&party);
        self.witness_agrees(party);
        if has_room {
            self.checkpoints.cosigned(party, line.clone());
            self.publish_if_witnessed();
        }
    }

    /// Shows a desk what was signed and is not published yet, unless it is about to be asked to cosign it: each can so
    /// tell in time a log that holds what it was told of from one that hangs or is held back.
    pub(super) fn show_signed(&mut self, conn: ConnId) {
        let Some(session) = self.sessions.get(&conn).filter(|session| session.stage == Stage::Open) else {
            return;
        };
        let Some(Signed { checkpoint, note, .. }) = self.checkpoints.unpublished() else { return };
        // Where nobody has to cosign, it would count as published before it is.
        let is_any = |quorum: Option<usize>| quorum.is_some_and(|quorum| quorum > 0);
        let by_roster = self.roster.as_ref().map(|roster| roster.quorum());
        if !is_any(by_roster) || !is_any(self.checkpoints.trust().map(LogTrust::quorum)) {
            return;
        }
        let is_free = session.watcher.asked.is_none() && session.watcher.cosigned <= checkpoint.size;
        if !is_free || !self.checkpoints.may_ask(session.party) {
            let note = note.clone();
            self.send(conn, Outbound::Checkpoint(note));
        }
    }

    /// Has the path found that this session's next step needs: from what it brought, or from what it cosigned.
    pub(super) fn look_at_watcher(&mut self, conn: ConnId) {
        let Some(session) = self.sessions.get(&conn) else { return };
        let claimed = session.watcher.claim.as_ref().map(|(claim, _)| claim.size);
        let signed = self.checkpoints.signed_size();
        let old_size = match claimed {
            // Only a lost file makes this relay forget what it has signed: the next checkpoint tells.
            Some(claimed) if signed.is_none_or(|size| claimed > size) => return self.checkpoint_at_once(),
            Some(claimed) => claimed,
            None if session.stage == Stage::Open
                && session.watcher.asked.is_none()
                && !self.checkpoints.is_publishing() =>
            {
                session.watcher.cosigned
            }
            None => return,
        };
        let (Some(size), party) = (signed, session.party) else { return };
        let Some(Signed { checkpoint, .. }) = self.checkpoints.signed_at(size) else { return };
        if claimed.is_some() || (self.checkpoints.may_ask(party) && old_size <= size) {
            self.outputs.push_back(Output::Prove { conn, old_size, size, root: checkpoint.root });
        }
    }
}
