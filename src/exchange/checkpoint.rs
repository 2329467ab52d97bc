//! Checkpoints of the audit log: when one is due, and when it is published (FORMATS 9, 10).
//!
//! The exchange says when; the edge signs, writes tiles, finds paths and keeps files. Nothing here delays an
//! envelope: what witnesses answer, or do not, changes only what is published. [`super::watchers`] asks them.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use bytes::Bytes;

use super::{ConnId, Exchange, LogReport, Notice, Now, Output, Stage};
use crate::{
    audit::{AuditError, Checkpoint, LogTrust, SignedCheckpoint},
    limits::WITNESS_CONFLICTS_MAX,
    merkle::Hash,
    note::{Note, NoteSignature},
    record::{Record, content},
    roster::{PartyNumber, Roster},
    session::outbound::Outbound,
    wire::Position,
};

/// What the log has signed, and how far that has come.
#[derive(Debug, Default)]
pub(super) struct Checkpoints {
    /// Whether an edge keeps a log at all; without one nothing is signed.
    is_kept: bool,
    /// Whether leaves are not even hashed.
    is_left_out: bool,
    /// Whose signatures count from which position on, by the rosters of the log.
    trusts: Vec<(Position, LogTrust)>,
    /// A FLASH was accepted, or a claim has to be looked at: the next one is due.
    at_once: bool,
    /// Its time has come.
    is_time: bool,
    is_signing: bool,
    /// When the newest one was begun.
    begun: Duration,
    signed: Option<Signed>,
    published: Option<Published>,
    /// What was given out to be published, and is not durable yet.
    publishing: usize,
    /// Since when what was signed waits for a quorum, and what was said of it.
    unwitnessed: Option<(Duration, Option<Said>)>,
    /// Witnesses that an operator was told of, and have not cosigned since. At most as many as were ever asked.
    refusing: BTreeSet<PartyNumber>,
    /// Whether no roster lists the key that signs.
    is_key_dropped: bool,
    /// Whether that is so by the roster in force: nothing is signed before the next one.
    awaits_roster: bool,
}

/// What an operator was told of a log that goes without a quorum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Said {
    Unwitnessed,
    Unsigned,
    WitnessesLost,
}

/// The newest checkpoint that the log's key signed.
#[derive(Debug)]
pub(super) struct Signed {
    pub(super) checkpoint: Checkpoint,
    /// With the log's signature alone.
    pub(super) note: Bytes,
    pub(super) cosignatures: BTreeMap<PartyNumber, NoteSignature>,
    asked: BTreeSet<PartyNumber>,
    /// How often a witness said that it had cosigned another one than this relay thought, and was asked from there.
    asked_again: BTreeMap<PartyNumber, u32>,
    /// Whether a quorum has cosigned it: it is published, or about to be.
    is_witnessed: bool,
}

/// The newest checkpoint that a quorum witnessed and that a restart would find: whose witnesses count next follows from it.
#[derive(Debug)]
struct Published {
    size: u64,
    /// With its cosignatures.
    note: Bytes,
    /// With the log's signature alone.
    bare: Bytes,
    /// When; of one that is from before the start, the start.
    at: Duration,
}

impl Signed {
    fn new(checkpoint: Checkpoint, note: Bytes) -> Signed {
        let (cosignatures, asked, asked_again) = (BTreeMap::new(), BTreeSet::new(), BTreeMap::new());
        Signed { checkpoint, note, cosignatures, asked, asked_again, is_witnessed: false }
    }
}

impl Checkpoints {
    pub(super) fn is_kept(&self) -> bool {
        self.is_kept
    }

    pub(super) fn signed_size(&self) -> Option<u64> {
        self.signed.as_ref().map(|signed| signed.checkpoint.size)
    }

    /// Whether a checkpoint is on its way to being published. Until desks have heard of it, none is asked for the next
    /// one, nor is that signed out of turn: a record is in the second checkpoint after it was told of at the latest.
    pub(super) fn is_publishing(&self) -> bool {
        self.publishing > 0
    }

    /// The newest published one, with its cosignatures.
    pub(super) fn published(&self) -> Option<&Bytes> {
        self.published.as_ref().map(|published| &published.note)
    }

    /// The same with the log's signature alone, as a Welcome has room for it; empty where there is none.
    pub(super) fn published_bare(&self) -> Bytes {
        self.published.as_ref().map(|published| published.bare.clone()).unwrap_or_default()
    }

    /// The newest one, where it is larger than any that was published.
    pub(super) fn unpublished(&self) -> Option<&Signed> {
        let published = self.published.as_ref().map_or(0, |published| published.size);
        self.signed.as_ref().filter(|signed| signed.checkpoint.size > published)
    }

    /// How the log does, where an edge keeps one.
    pub(super) fn report(&self, now: Now) -> Option<LogReport> {
        let signed = self.signed.as_ref();
        let has_cosigned =
            |party: &PartyNumber| signed.is_some_and(|signed| signed.cosignatures.contains_key(party));
        let witnesses = self.trust().map_or(&[][..], LogTrust::witnesses).iter().map(|(party, _)| *party);
        let (cosigned_by, missing) = witnesses.partition(has_cosigned);
        let published = self.published.as_ref();
        self.is_kept.then(|| LogReport {
            signed: self.signed_size().unwrap_or_default(),
            published: published.map(|published| (published.size, now.mono.saturating_sub(published.at))),
            cosigned_by,
            missing,
            quorum: self.trust().map_or(0, LogTrust::quorum),
        })
    }

    /// The newest one, if it has this size.
    pub(super) fn signed_at(&self, size: u64) -> Option<&Signed> {
        self.signed.as_ref().filter(|signed| signed.checkpoint.size == size)
    }

    /// The trust under which the newest one is witnessed: of the newest roster that a published one covers, for
    /// the first that covers a new roster needs the quorum of the one before it (FORMATS 9).
    pub(super) fn trust(&self) -> Option<&LogTrust> {
        let size = self.published.as_ref().map_or(0, |published| published.size);
        let covered = self.trusts.iter().rev().find(|(position, _)| position.0 < size);
        covered.or(self.trusts.first()).map(|(_, trust)| trust)
    }

    /// Whether a party is a witness that was not asked for the newest one yet.
    pub(super) fn may_ask(&self, party: PartyNumber) -> bool {
        let is_asked = self.signed.as_ref().is_some_and(|signed| signed.asked.contains(&party));
        !is_asked && self.is_listed() && self.trust().is_some_and(|trust| trust.witness(party).is_some())
    }

    /// Whether the roster in force lists the key that signed the newest one. Desks go by that roster: they would take
    /// the signature of a key that was replaced for a lie.
    fn is_listed(&self) -> bool {
        let (Some(signed), Some((_, trust))) = (&self.signed, self.trusts.last()) else { return false };
        trust.log_alone().open(&signed.note).is_ok()
    }

    pub(super) fn asked(&mut self, party: PartyNumber) {
        if let Some(signed) = &mut self.signed {
            signed.asked.insert(party);
        }
    }

    /// Lets a party be asked about the newest one once more; `false` where it was, too often.
    pub(super) fn ask_again(&mut self, party: PartyNumber) -> bool {
        let Some(signed) = &mut self.signed else { return false };
        let times = signed.asked_again.entry(party).or_default();
        *times += 1;
        let may_be = *times <= WITNESS_CONFLICTS_MAX;
        if may_be {
            signed.asked.remove(&party);
        }
        may_be
    }

    pub(super) fn cosigned(&mut self, party: PartyNumber, line: NoteSignature) {
        if let Some(signed) = &mut self.signed {
            signed.cosignatures.insert(party, line);
        }
    }
}

impl Exchange {
    /// Says that the edge keeps a log, with the notes that it signed and published last. Rosters are known by then. What a
    /// key signed that no roster has listed yet is passed over: claims are then held against what was published.
    ///
    /// # Errors
    /// As [`LogTrust::open`], where they are none of this log's.
    pub fn keep_log(&mut self, signed: Option<Bytes>, published: Option<Bytes>) -> Result<(), AuditError> {
        self.checkpoints.is_kept = true;
        let mut newest = None;
        if let Some(note) = published {
            let (checkpoint, bare) = self.take_published(note)?;
            newest = Some(Signed { is_witnessed: true, ..Signed::new(checkpoint, bare) });
        }
        if let Some(note) = signed
            && newest.as_ref().is_none_or(|newest| newest.note != note)
        {
            match self.open_checkpoint(&note) {
                Ok(opened) => newest = Some(Signed::new(opened.checkpoint, note)),
                Err(AuditError::Unsigned) => {}
                Err(error) => return Err(error),
            }
        }
        self.checkpoints.signed = newest;
        Ok(())
    }

    /// Goes on without an audit log, once its records are replayed: nothing is hashed for the tree and nothing signed.
    /// A journal that is written so is of no use afterwards: for a bench that measures what the log costs.
    pub fn leave_out_log(&mut self) {
        (self.checkpoints.is_kept, self.checkpoints.is_left_out) = (false, true);
    }

    /// Whether an edge has to keep the leaves.
    pub fn keeps_log(&self) -> bool {
        self.checkpoints.is_kept
    }

    /// The hash of a record's leaf, as [`Exchange::grow_tree`] wants it.
    pub(super) fn leaf_hash(&self, record: &Record) -> Hash {
        if self.checkpoints.is_left_out { Hash::ZERO } else { content::leaf_hash(record) }
    }

    /// The next record is durable.
    pub(super) fn grow_tree(&mut self, leaf: Hash) {
        if self.checkpoints.is_left_out { self.tree.skip() } else { self.tree.append(leaf) }
    }

    /// Whose signatures count once a roster is in the log.
    pub(super) fn trust_from(&mut self, position: Position, roster: &Roster) {
        self.checkpoints.trusts.push((position, LogTrust::of(roster)));
        self.checkpoints.awaits_roster = false;
    }

    /// Nobody waits for the next one's time: a FLASH was accepted, or a claim is to be looked at.
    pub(super) fn checkpoint_at_once(&mut self) {
        self.checkpoints.at_once = true;
    }

    /// Looks whether the time of the next checkpoint has come.
    pub(super) fn time_checkpoint(&mut self, now: Now) {
        let size = self.tree.size();
        let checkpoints = &mut self.checkpoints;
        let is_grown = checkpoints.signed.as_ref().is_none_or(|signed| size > signed.checkpoint.size);
        let every = if is_grown { self.limits.checkpoint_every } else { self.limits.checkpoint_idle_every };
        checkpoints.is_time |= checkpoints.signed.is_none() || now.mono >= checkpoints.begun + every;
    }

    /// A checkpoint to be signed, where one is due. It is asked for when outputs are taken, and so covers every
    /// record that an edge has called durable before: whoever keeps the leaves has them all by then.
    pub(super) fn checkpoint_due(&mut self) -> Option<Output> {
        let size = self.tree.size();
        let checkpoints = &mut self.checkpoints;
        if !checkpoints.is_kept
            || checkpoints.is_signing
            || checkpoints.awaits_roster
            || self.roster.is_none()
        {
            return None;
        }
        let is_grown = checkpoints.signed.as_ref().is_none_or(|signed| size > signed.checkpoint.size);
        // Cosignatures count for the newest alone: one after the other without a pause would have none published.
        let is_witnessed = checkpoints.signed.as_ref().is_none_or(|signed| signed.is_witnessed);
        let may_follow = is_witnessed && !checkpoints.is_publishing();
        if !(checkpoints.is_time || (checkpoints.at_once && is_grown && may_follow)) {
            return None;
        }
        (checkpoints.at_once, checkpoints.is_time, checkpoints.is_signing) = (false, false, true);
        checkpoints.begun = self.clock.mono();
        // From here on, and not once it is signed: the disk may hold the log's thread up for ever.
        checkpoints.unwitnessed.get_or_insert((checkpoints.begun, None));
        Some(Output::Sign { size, root: self.tree.root() })
    }

    /// The log's key has signed; the checkpoint and its tiles are durable.
    pub(super) fn checkpoint_signed(&mut self, note: Bytes) {
        self.checkpoints.is_signing = false;
        let Ok(opened) = self.open_by_roster(&note) else {
            (self.checkpoints.is_key_dropped, self.checkpoints.awaits_roster) = (true, true);
            return self.notice(Notice::LogKeyDropped);
        };
        if std::mem::take(&mut self.checkpoints.is_key_dropped) {
            self.notice(Notice::LogKeyListed);
        }
        let checkpoints = &mut self.checkpoints;
        let again = checkpoints.signed.as_mut().filter(|signed| signed.checkpoint == opened.checkpoint);
        let is_new = again.is_none();
        match again {
            // The same once more: witnesses say again that they still hold it.
            Some(signed) => {
                signed.asked.clear();
                signed.asked_again.clear();
            }
            None => checkpoints.signed = Some(Signed::new(opened.checkpoint, note)),
        }
        self.publish_if_witnessed();
        self.count_witnesses();
        let conns: Vec<ConnId> = self.sessions.keys().copied().collect();
        for conn in conns {
            if is_new {
                self.show_signed(conn);
            }
            self.look_at_watcher(conn);
        }
    }

    /// Has what was signed published once a quorum has witnessed it, and again when all who were asked have answered.
    pub(super) fn publish_if_witnessed(&mut self) {
        let Some(quorum) = self.checkpoints.trust().map(LogTrust::quorum) else { return };
        let is_listed = self.checkpoints.is_listed();
        let checkpoints = &mut self.checkpoints;
        let Some(signed) = &mut checkpoints.signed else { return };
        if signed.cosignatures.len() < quorum || !is_listed {
            return;
        }
        let was_said = checkpoints.unwitnessed.take().is_some_and(|(_, said)| said.is_some());
        let have_all = signed.asked.iter().all(|party| signed.cosignatures.contains_key(party));
        if std::mem::replace(&mut signed.is_witnessed, true) && (signed.asked.is_empty() || !have_all) {
            return;
        }
        let mut note = Note::parse(&signed.note).expect("the log's own note");
        for line in signed.cosignatures.values() {
            note.add(line.clone()).expect("at most fifteen beside the log's own");
        }
        checkpoints.publishing += 1;
        self.outputs.push_back(Output::Publish { note: note.to_bytes().into() });
        if was_said {
            self.notice(Notice::Witnessed);
        }
    }

    /// What was to be published is durable. Only now desks hear of it: after a crash this relay must know all that they
    /// do, or it would ask witnesses that a roster replaced, and whom nobody can ask any longer.
    pub(super) fn checkpoint_published(&mut self, note: Bytes) {
        self.checkpoints.publishing -= 1;
        self.take_published(note.clone()).expect("a checkpoint of this log, as it was given out");
        if self.open_by_roster(&note).is_err() {
            return;
        }
        let conns: Vec<ConnId> = self.by_party.values().copied().collect();
        for conn in conns {
            if self.sessions[&conn].stage == Stage::Open {
                self.send(conn, Outbound::Checkpoint(note.clone()));
                self.look_at_watcher(conn);
            }
        }
    }

    /// What it says, and its note with the log's signature alone.
    fn take_published(&mut self, note: Bytes) -> Result<(Checkpoint, Bytes), AuditError> {
        let opened = self.open_checkpoint(&note)?;
        let (size, bare) = (opened.checkpoint.size, Bytes::from(opened.bare()));
        self.checkpoints.published =
            Some(Published { size, note, bare: bare.clone(), at: self.clock.mono() });
        Ok((opened.checkpoint, bare))
    }

    /// Tells an operator of a witness that refuses, or says that it is ahead.
    pub(super) fn witness_refuses(&mut self, party: PartyNumber, notice: Notice) {
        self.checkpoints.refusing.insert(party);
        self.notice(notice);
    }

    /// A witness has cosigned what this log has signed.
    pub(super) fn witness_agrees(&mut self, party: PartyNumber) {
        if self.checkpoints.refusing.remove(&party) {
            self.notice(Notice::WitnessAgrees { party });
        }
    }

    /// Tells an operator at once when the roster in force keeps out so many of the witnesses that count until a
    /// checkpoint covers it, that none ever will; and when another roster has mended that.
    fn count_witnesses(&mut self) {
        let (Some(roster), Some(trust)) = (&self.roster, self.checkpoints.trust()) else { return };
        let (left, quorum) = (trust.left_under(roster), trust.quorum());
        let Some((_, said)) = &mut self.checkpoints.unwitnessed else { return };
        match (left < quorum, *said == Some(Said::WitnessesLost)) {
            (true, false) => {
                *said = Some(Said::WitnessesLost);
                self.notice(Notice::WitnessesLost { left, quorum });
            }
            (false, true) => {
                *said = Some(Said::Unwitnessed);
                self.notice(Notice::Unwitnessed);
            }
            _ => {}
        }
    }

    /// Tells an operator when witnesses stay away, or the log's thread does not sign at all, and when it is the other
    /// of the two.
    pub(super) fn watch_witnesses(&mut self, now: Now) {
        let max = self.limits.unwitnessed_time_max;
        let is_stuck = self.checkpoints.is_signing && now.mono >= self.checkpoints.begun + max;
        let (news, notice) = match is_stuck {
            true => (Said::Unsigned, Notice::Unsigned),
            false => (Said::Unwitnessed, Notice::Unwitnessed),
        };
        if let Some((since, said)) = &mut self.checkpoints.unwitnessed
            && now.mono >= *since + max
            && ![Some(news), Some(Said::WitnessesLost)].contains(said)
        {
            *said = Some(news);
            self.notice(notice);
        }
    }

    /// As [`Exchange::open_checkpoint`], by the log keys of the roster in force alone.
    pub(super) fn open_by_roster(&self, note: &[u8]) -> Result<SignedCheckpoint, AuditError> {
        let trust = self.roster.as_ref().map(|roster| LogTrust::of(roster));
        trust.ok_or(AuditError::Unsigned)?.log_alone().open(note)
    }

    /// Opens a checkpoint by the log keys of any roster so far, the newest first. Who cosigned it is not looked at.
    pub(super) fn open_checkpoint(&self, note: &[u8]) -> Result<SignedCheckpoint, AuditError> {
        let mut opened = Err(AuditError::Unsigned);
        for (_, trust) in self.checkpoints.trusts.iter().rev() {
            opened = trust.log_alone().open(note);
            if opened.is_ok() {
                break;
            }
        }
        opened
    }
}
