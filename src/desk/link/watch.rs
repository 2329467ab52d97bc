//! The desk watches the audit log: it fetches every leaf, holds each checkpoint against them, and cosigns what
//! fits as a witness (FORMATS 9). Pure, as the rest of the link: frames in, frames and jobs out.
//!
//! One file of the log is asked for at a time. What was verified is durable before the cosignature leaves. A
//! checkpoint that does not fit is never forgotten silently: it is an alarm, the desk refuses to cosign it, and mail
//! goes on.

use std::{collections::BTreeSet, mem};

use bytes::{Bytes, BytesMut};

use crate::{
    audit::{
        AddCheckpoint, Answer, AuditError, Bundle, BundlePath, Checkpoint, Followed, Follower, LogTrust,
        TILE_HASHES, TilePath,
    },
    desk::store::{AUDIT_LOG, FORKED, LOG_WHAT_NOW, Progress, Verified},
    limits::{CHECKPOINT_BYTES_MAX, LEAVES_PER_STEP, LOG_BUNDLE_BYTES_MAX, LOG_TILE_BYTES_MAX},
    merkle::{self, Hash},
    record::administrative::Act,
    roster::{PartyNumber, Roster},
    wire::{Malformed, Position, order::SignedOrder, pb, pb::frame::Kind},
};

/// What is to be done after a frame or an answer of the store.
#[derive(Debug, PartialEq)]
#[expect(clippy::large_enum_variant, reason = "most steps are frames, and each is moved once")]
pub(super) enum Step {
    /// Send this.
    Send(Kind),
    /// Make this durable.
    Keep(Box<Progress>),
    /// Cosign this checkpoint's text and send that as the answer.
    Cosign(String),
    /// An order that the log holds, and the relay may not have told of.
    Order(Position, Box<SignedOrder>),
    /// Two machines take turns as this party.
    Cloned(Position, PartyNumber),
    /// The leaf of a roster that this desk may hold, with another hash or without its leaf.
    Roster(Position, u32, Bytes),
    /// A tile that was wanted for proofs, or that the relay has none.
    Tile(TilePath, Option<Bytes>),
    /// Tell a person, and cosign nothing before.
    Doubt(Doubt),
}

/// Something that does not fit the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Doubt {
    /// Of the alarm.
    pub(super) key: &'static str,
    /// In words, with what to do.
    pub(super) sentence: String,
    /// The checkpoint, or the request to cosign one, as it came.
    pub(super) shown: Bytes,
}

/// A checkpoint that the leaves are being fetched for.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Target {
    checkpoint: Checkpoint,
    /// With the log's signature alone.
    note: Bytes,
    /// As it was published, where a quorum has witnessed it.
    witnessed: Bytes,
    /// Whether the relay waits for a cosignature.
    is_asked: bool,
}

/// A file of the log on its way.
#[derive(Debug)]
struct Fetching {
    file: File,
    bytes: BytesMut,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum File {
    /// Leaves to follow.
    Bundle(BundlePath),
    /// Hashes for proofs.
    Tile(TilePath),
}

/// What is on its way to the disk.
#[derive(Debug)]
enum Keeping {
    /// How far the log was followed, on the way to a target.
    Step,
    /// That this was verified.
    Target(Target),
}

/// What one session watches.
#[derive(Debug, Default)]
pub(super) struct Watch {
    verified: Verified,
    /// Ahead of what is verified while a target is followed.
    follower: Follower,
    /// Hashes of the leaves that it took last, which the store has not kept yet.
    leaves: Vec<Hash>,
    target: Option<Target>,
    /// The newest that came meanwhile: the one that the relay waits for, and the one that was published. Neither
    /// takes the other's place, or the relay would wait for its answer as long as the session lasts.
    next_asked: Option<Target>,
    next_published: Option<Target>,
    /// A checkpoint that was published just now, and the newest one.
    arrived: Option<Checkpoint>,
    /// Leaves in the largest checkpoint that came and the log's key has signed, whoever else did.
    shown: u64,
    newest_published: Option<Checkpoint>,
    fetching: Option<Fetching>,
    requests: u64,
    keeping: Option<Keeping>,
    /// Tiles to be fetched for proofs: each goes before the next bundle, so that neither waits for all of the other.
    wanted: BTreeSet<TilePath>,
}

impl Watch {
    /// Goes on from what the store holds.
    pub(super) fn new(verified: Verified) -> Watch {
        let follower = verified.ahead.as_ref().unwrap_or(&verified.follower).clone();
        let newest_published = checkpoint_of(&verified.witnessed);
        Watch { follower, verified, newest_published, ..Watch::default() }
    }

    /// What is no news, for it was published in a session before, whether it was followed or not.
    pub(super) fn shown_before(self, published: Option<Checkpoint>) -> Watch {
        Watch { newest_published: published.or(self.newest_published), ..self }
    }

    /// Asks for tiles that proofs need, few at once, as soon as no other file is on its way.
    pub(super) fn want(&mut self, tiles: BTreeSet<TilePath>) -> Vec<Step> {
        if tiles.is_empty() {
            return Vec::new();
        }
        self.wanted.extend(tiles);
        self.go_on()
    }

    /// How large a log a quorum has witnessed, as far as this desk has verified it.
    pub(super) fn witnessed_size(&self) -> u64 {
        checkpoint_of(&self.verified.witnessed).map_or(0, |checkpoint| checkpoint.size)
    }

    /// The relay asks for a cosignature.
    pub(super) fn add_checkpoint(&mut self, frame: &pb::AddCheckpoint, roster: &Roster) -> Vec<Step> {
        let request = str::from_utf8(&frame.request).ok().and_then(|text| text.parse().ok());
        let Some(request): Option<AddCheckpoint> = request else { return vec![answer(&Answer::Malformed)] };
        let trust = LogTrust::of(roster);
        let last = self.last();
        let last = last.filter(|last| last.origin == trust.origin());
        match request.check(last.as_ref(), &trust) {
            Ok(checkpoint) => {
                self.shown = self.shown.max(checkpoint.size);
                let bare = trust.open(request.checkpoint.as_bytes()).map(|signed| signed.bare());
                let note = bare.expect("opened a moment ago").into();
                self.aim(Target { checkpoint, note, witnessed: Bytes::new(), is_asked: true })
            }
            Err(refusal) => {
                let signed = trust.open(request.checkpoint.as_bytes());
                self.shown =
                    signed.as_ref().map_or(self.shown, |signed| self.shown.max(signed.checkpoint.size));
                let last_size = last.map_or(0, |last| last.size);
                // Refused by its form alone, or answered with what this desk holds: what the relay has signed shows
                // all the same that it goes back.
                let is_set_back = signed.is_ok_and(|signed| signed.checkpoint.size < last_size);
                let alarm = if is_set_back { Some(set_back(last_size)) } else { refusal_alarm(&refusal) };
                let mut steps = vec![answer(&refusal)];
                steps.extend(alarm.map(|sentence| unfit(sentence, &frame.request)));
                steps
            }
        }
    }

    /// A checkpoint was published.
    pub(super) fn published(&mut self, frame: &pb::Checkpoint, roster: &Roster) -> Vec<Step> {
        let trust = LogTrust::of(roster);
        let signed = match trust.open(&frame.note) {
            Ok(signed) => signed,
            Err(error) => {
                let sentence = format!(
                    "the relay published a checkpoint of the audit log that is not one ({error}); {LOG_WHAT_NOW}"
                );
                return vec![unfit(sentence, &frame.note)];
            }
        };
        self.shown = self.shown.max(signed.checkpoint.size);
        // Before a quorum has signed it counts for nothing, and is no alarm: the roster may just have changed.
        if trust.quorum() > 0 && !signed.is_witnessed() {
            return Vec::new();
        }
        let note = signed.bare().into();
        let target =
            Target { checkpoint: signed.checkpoint, note, witnessed: frame.note.clone(), is_asked: false };
        let last = self.last().filter(|last| last.origin == target.checkpoint.origin);
        let size = target.checkpoint.size;
        // A relay shows the newest one again with each Welcome, and while nothing happens.
        let newest = self.newest_published.as_ref();
        // That of another log is no measure.
        let newest = newest.filter(|newest| newest.origin == target.checkpoint.origin);
        if size > newest.map_or(0, |newest| newest.size) {
            self.newest_published = Some(target.checkpoint.clone());
            self.arrived = Some(target.checkpoint.clone());
        }
        if let Some(last) = last.filter(|last| last.size == size) {
            if last.root != target.checkpoint.root {
                let shown = target.witnessed;
                return vec![Step::Doubt(Doubt { key: FORKED, sentence: forked(last.size), shown })];
            }
            if self.keeping.is_none() {
                let verified = Verified { witnessed: target.witnessed.clone(), ..self.verified.clone() };
                return self.keep(target, verified, Vec::new());
            }
        } else if size < self.follower.size() && !self.is_new_log(&target) {
            // What it covers was followed before; a later one tells more.
            return Vec::new();
        }
        self.aim(target)
    }

    /// The checkpoint that has just been published, larger than any before, that log and quorum have signed; once.
    pub(super) fn arrived(&mut self) -> Option<Checkpoint> {
        self.arrived.take()
    }

    /// How large a log the relay has shown a signed checkpoint of in this session.
    pub(super) fn shown(&self) -> u64 {
        self.shown
    }

    /// A chunk of the file that was asked for.
    ///
    /// # Errors
    /// [`Malformed`]: the relay breaks the protocol.
    pub(super) fn fetched(&mut self, frame: &pb::Fetched, roster: &Roster) -> Result<Vec<Step>, Malformed> {
        let wrong = |problem| Malformed::new("file of the audit log", problem);
        let fetching = self.fetching.as_mut().filter(|_| frame.request == self.requests);
        let fetching = fetching.ok_or(wrong("was not asked for"))?;
        let total_bytes = usize::try_from(frame.total_bytes).unwrap_or(usize::MAX);
        let bytes_max = match fetching.file {
            File::Bundle(_) => LOG_BUNDLE_BYTES_MAX,
            File::Tile(_) => LOG_TILE_BYTES_MAX,
        };
        if total_bytes > bytes_max {
            return Err(wrong("is longer than any of its kind"));
        }
        let follows = usize::try_from(frame.offset) == Ok(fetching.bytes.len())
            && frame.chunk.len() <= total_bytes - fetching.bytes.len()
            && (!frame.chunk.is_empty() || total_bytes == 0);
        if !follows {
            return Err(wrong("has a chunk that does not follow the one before"));
        }
        fetching.bytes.extend_from_slice(&frame.chunk);
        if fetching.bytes.len() < total_bytes {
            return Ok(Vec::new());
        }
        let Fetching { file, bytes } = self.fetching.take().expect("looked at above");
        let bytes = frame.found.then(|| bytes.freeze());
        Ok(match file {
            File::Tile(path) => {
                let mut steps = vec![Step::Tile(path, bytes)];
                steps.extend(self.go_on());
                steps
            }
            File::Bundle(path) => {
                let taken = bytes.ok_or(AuditError::Bundle).and_then(|bytes| self.take(path, &bytes, roster));
                match taken {
                    Ok(mut steps) => {
                        steps.extend(self.go_on());
                        steps
                    }
                    Err(error) => self.give_up(&error),
                }
            }
        })
    }

    /// What was to be made durable is; `cosigns` says whether no alarm forbids it.
    pub(super) fn kept(&mut self, cosigns: bool) -> Vec<Step> {
        let mut steps = Vec::new();
        if let Some(Keeping::Target(target)) = self.keeping.take()
            && target.is_asked
        {
            steps.push(match cosigns {
                true => Step::Cosign(target.checkpoint.to_string()),
                // All that the protocol has for "I hold another history".
                false => answer(&Answer::BadProof),
            });
        }
        steps.extend(if self.target.is_some() { self.go_on() } else { self.go_to_next() });
        steps
    }

    fn last(&self) -> Option<Checkpoint> {
        checkpoint_of(&self.verified.note)
    }

    /// Whether a target is of another log than was verified.
    fn is_new_log(&self, target: &Target) -> bool {
        self.last().is_some_and(|last| last.origin != target.checkpoint.origin)
    }

    /// Follows the log to a checkpoint, once what is under way is done.
    fn aim(&mut self, target: Target) -> Vec<Step> {
        if self.target.is_some() || self.keeping.is_some() {
            let next = if target.is_asked { &mut self.next_asked } else { &mut self.next_published };
            *next = Some(target);
            return Vec::new();
        }
        let is_new_log = self.is_new_log(&target);
        if is_new_log {
            // A log that begins anew under another name, which the roster gave it.
            self.verified = Verified::default();
        }
        if is_new_log || self.follower.size() > target.checkpoint.size {
            self.restart();
        }
        self.target = Some(target);
        self.go_on()
    }

    /// Follows what came meanwhile, the smaller one first.
    fn go_to_next(&mut self) -> Vec<Step> {
        let size =
            |target: &Option<Target>| target.as_ref().map_or(u64::MAX, |target| target.checkpoint.size);
        let is_asked_first = size(&self.next_asked) <= size(&self.next_published);
        let next = if is_asked_first { self.next_asked.take() } else { self.next_published.take() };
        next.map(|next| self.aim(next)).unwrap_or_default()
    }

    /// Asks for the next file, or holds the checkpoint against the leaves.
    fn go_on(&mut self) -> Vec<Step> {
        if self.fetching.is_some() {
            return Vec::new();
        }
        if let Some(tile) = self.wanted.pop_first() {
            return self.fetch(File::Tile(tile), tile.to_string());
        }
        let Some(target) = self.target.as_ref().filter(|_| self.keeping.is_none()) else { return Vec::new() };
        let (at, size) = (self.follower.size(), target.checkpoint.size);
        if self.leaves.len() >= LEAVES_PER_STEP && at < size {
            self.keeping = Some(Keeping::Step);
            let (follower, leaves) = (self.follower.clone(), mem::take(&mut self.leaves));
            self.verified.ahead = Some(follower.clone());
            let progress = Progress { follower, leaves, verified: None, is_published: false };
            return vec![Step::Keep(Box::new(progress))];
        }
        if let Some(path) = (at < size).then(|| BundlePath::in_log(at / TILE_HASHES, size)).flatten() {
            return self.fetch(File::Bundle(path), path.to_string());
        }
        if let Err(error) = self.follower.check(&target.checkpoint) {
            return self.give_up(&error);
        }
        let target = self.target.take().expect("looked at above");
        let witnessed =
            if target.witnessed.is_empty() { &self.verified.witnessed } else { &target.witnessed };
        let (follower, note) = (self.follower.clone(), target.note.clone());
        let verified = Verified { follower, note, witnessed: witnessed.clone(), ahead: None };
        let leaves = mem::take(&mut self.leaves);
        self.keep(target, verified, leaves)
    }

    fn fetch(&mut self, file: File, name: String) -> Vec<Step> {
        self.requests += 1;
        self.fetching = Some(Fetching { file, bytes: BytesMut::new() });
        vec![Step::Send(Kind::Fetch(pb::Fetch { request: self.requests, name }))]
    }

    fn keep(&mut self, target: Target, verified: Verified, leaves: Vec<Hash>) -> Vec<Step> {
        self.verified = verified.clone();
        let is_published = !target.witnessed.is_empty();
        self.keeping = Some(Keeping::Target(target));
        let follower = verified.follower.clone();
        vec![Step::Keep(Box::new(Progress { follower, leaves, verified: Some(verified), is_published }))]
    }

    /// Goes back to what is verified.
    fn restart(&mut self) {
        self.follower = self.verified.follower.clone();
        self.verified.ahead = None;
        self.leaves.clear();
    }

    /// Follows the leaves of a bundle; gives the rosters, orders and clones among them.
    fn take(&mut self, path: BundlePath, bytes: &Bytes, roster: &Roster) -> Result<Vec<Step>, AuditError> {
        let mut steps = Vec::new();
        let bundle = Bundle::parse(bytes, path.width)?;
        let known = self.follower.size() - path.index * TILE_HASHES;
        let known = usize::try_from(known).expect("below the width of a bundle");
        let mut before: BTreeSet<&Bytes> = bundle.entries()[..known].iter().collect();
        for entry in &bundle.entries()[known..] {
            let index = self.follower.size();
            // Each holds a random salt, or the leaf before it: none comes twice.
            if !before.insert(entry) {
                return Err(AuditError::Repeated { index });
            }
            match self.follower.take(entry)? {
                // The relay sends each roster before a checkpoint covers it.
                Followed::Administrative(leaf) => match leaf.act {
                    Act::Roster { version, hash, .. }
                        if version > roster.version()
                            || (version == roster.version() && hash != roster.hash()) =>
                    {
                        return Err(AuditError::RosterUntold { index, version });
                    }
                    // The relay tells of no roster that this desk brought from a file, and the store holds the older ones.
                    Act::Roster { version, .. } => {
                        steps.push(Step::Roster(Position(index), version, entry.clone()));
                    }
                    Act::Order(order) => steps.push(Step::Order(Position(index), order)),
                    Act::Cloned { party, .. } => steps.push(Step::Cloned(Position(index), party)),
                    _ => {}
                },
                Followed::Traffic => {}
            }
            self.leaves.push(merkle::leaf_hash(entry));
        }
        Ok(steps)
    }

    /// The log does not fit what it claims: the desk stays with what it has verified.
    fn give_up(&mut self, error: &AuditError) -> Vec<Step> {
        let target = self.target.take().expect("a target is followed");
        self.restart();
        let sentence = format!(
            "the audit log does not fit its checkpoint of {} leaves ({error}); {LOG_WHAT_NOW}",
            target.checkpoint.size
        );
        let shown = if target.witnessed.is_empty() { &target.note } else { &target.witnessed };
        let mut steps = vec![unfit(sentence, shown)];
        if target.is_asked {
            steps.push(answer(&Answer::BadProof));
        }
        steps.extend(self.go_to_next());
        steps
    }
}

/// The checkpoint in a note that was verified before it was kept.
fn checkpoint_of(note: &Bytes) -> Option<Checkpoint> {
    let text = str::from_utf8(note).ok()?;
    let (text, _) = text.rsplit_once("\n\n")?;
    format!("{text}\n").parse().ok()
}

fn unfit(sentence: String, shown: &Bytes) -> Step {
    Step::Doubt(Doubt { key: AUDIT_LOG, sentence, shown: shown.clone() })
}

fn answer(answer: &Answer) -> Step {
    Step::Send(Kind::Witnessed(witnessed(answer)))
}

/// An answer as a frame.
pub(super) fn witnessed(answer: &Answer) -> pb::Witnessed {
    pb::Witnessed { status: answer.status().into(), body: answer.body().into() }
}

/// The words of the gravest alarm.
pub(in crate::desk) fn forked(size: u64) -> String {
    format!("two checkpoints of {size} leaves of the audit log differ: the log was forked; {LOG_WHAT_NOW}")
}

fn set_back(size: u64) -> String {
    format!(
        "the relay asks this desk to cosign an audit log of fewer leaves than the {size} that it has verified: the log was \
         set back; it was refused; {LOG_WHAT_NOW}"
    )
}

fn refusal_alarm(refusal: &Answer) -> Option<String> {
    let problem = match refusal {
        Answer::BadProof => {
            "does not follow from the one that this desk has cosigned: the log was changed or forked"
        }
        Answer::BadSignature => "is not signed by the log's key in the roster",
        Answer::UnknownLog => "is of another log than the roster names",
        Answer::Cosigned(_) | Answer::Malformed | Answer::Conflict(_) => return None,
    };
    Some(format!(
        "a checkpoint that the relay asks this desk to cosign {problem}; it was refused; {LOG_WHAT_NOW}"
    ))
}

const _: () = assert!(CHECKPOINT_BYTES_MAX < crate::limits::FRAME_CONTROL_BYTES_MAX);
