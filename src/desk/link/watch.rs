//! The desk watches the audit log: it fetches every leaf, holds each checkpoint against them, and cosigns what
//! fits as a witness (FORMATS 9). Pure, as the rest of the link: frames in, frames and jobs out.
//!
//! One file of the log is asked for at a time. What was verified is durable before the cosignature leaves. A
//! checkpoint that does not fit is never forgotten silently: it is an alarm, the desk refuses to cosign it, and mail
//! goes on.

use std::{collections::BTreeSet, mem, time::Duration};

use bytes::{Bytes, BytesMut};

use crate::{
    audit::{
        AddCheckpoint, Answer, AuditError, Bundle, BundlePath, Checkpoint, Followed, Follower, LogTrust,
        TILE_HASHES, witness_name,
    },
    desk::{
        link::{greeting::CLOCK_DIFFERENCE_MAX, jobs::StoreJob, known::Known, machine::Now, verify},
        store::Verified,
    },
    limits::{CHECKPOINT_BYTES_MAX, LOG_BUNDLE_BYTES_MAX},
    record::administrative::Act,
    roster::Roster,
    wire::{Malformed, pb, pb::frame::Kind},
};

/// What is to be done after a frame or an answer of the store.
#[derive(Debug, PartialEq)]
#[expect(clippy::large_enum_variant, reason = "most steps are frames, and each is moved once")]
pub(super) enum Step {
    /// Send this.
    Send(Kind),
    /// Make this durable.
    Keep(Box<Verified>),
    /// Cosign this checkpoint's text and send that as the answer.
    Cosign(String),
    /// Tell a person.
    Alarm(String),
}

/// The watch of one session, and how it is carried out.
#[derive(Debug, Default)]
pub(super) struct Watching {
    watch: Watch,
    /// What was verified and is not on its way to the disk yet.
    verified: Option<Box<Verified>>,
    /// Whether log time was found to be ahead in this session: it is said once.
    log_time_is_ahead: bool,
}

impl Watching {
    /// Goes on from what the store holds.
    pub(super) fn new(verified: Verified) -> Watching {
        Watching { watch: Watch::new(verified), ..Watching::default() }
    }

    /// Takes a frame that is about the audit log.
    ///
    /// # Errors
    /// [`Malformed`]: the relay breaks the protocol.
    pub(super) fn frame(&mut self, frame: &Kind, known: &mut Known, now: Now) -> Result<(), Malformed> {
        let Some(roster) = known.roster.clone() else { return Ok(()) };
        let steps = match frame {
            Kind::AddCheckpoint(request) => self.watch.add_checkpoint(request, &roster),
            Kind::Checkpoint(checkpoint) => self.watch.published(checkpoint, &roster),
            Kind::Fetched(fetched) => self.watch.fetched(fetched, &roster)?,
            _ => Vec::new(),
        };
        self.carry_out(steps, known, now);
        Ok(())
    }

    /// Holds the time of a record that a frame tells of against this machine's clock.
    pub(super) fn look_at_time(&mut self, frame: &Kind, known: &mut Known, now: Now) {
        let ahead_us = verify::log_time_us(frame).map_or(0, |time_us| time_us.saturating_sub(now.wall_us));
        let ahead = Duration::from_micros(ahead_us);
        if ahead > CLOCK_DIFFERENCE_MAX && !mem::replace(&mut self.log_time_is_ahead, true) {
            known.alarm("log-time", verify::log_time_is_ahead(ahead));
        }
    }

    /// What was verified is durable.
    pub(super) fn kept(&mut self, known: &mut Known, now: Now) {
        let steps = self.watch.kept();
        self.carry_out(steps, known, now);
    }

    /// What the store has to keep.
    pub(super) fn job(&mut self) -> Option<StoreJob> {
        self.verified.take().map(StoreJob::Verified)
    }

    fn carry_out(&mut self, steps: Vec<Step>, known: &mut Known, now: Now) {
        for step in steps {
            match step {
                Step::Send(frame) => known.send(frame),
                Step::Keep(verified) => self.verified = Some(verified),
                Step::Alarm(sentence) => known.alarm("audit-log", sentence),
                Step::Cosign(text) => {
                    let name = witness_name(&known.setup.id);
                    let line = known.setup.witness.cosign(&name, now.wall_us / 1_000_000, &text);
                    let line = line.expect("a SPIFFE ID names a witness").to_string();
                    known.send(Kind::Witnessed(witnessed(&Answer::Cosigned(line))));
                }
            }
        }
    }
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
    path: BundlePath,
    bytes: BytesMut,
}

/// What one session watches.
#[derive(Debug, Default)]
pub(super) struct Watch {
    verified: Verified,
    /// Ahead of what is verified while a target is followed.
    follower: Follower,
    target: Option<Target>,
    /// The newest that came meanwhile: the one that the relay waits for, and the one that was published. Neither
    /// takes the other's place, or the relay would wait for its answer as long as the session lasts.
    next_asked: Option<Target>,
    next_published: Option<Target>,
    fetching: Option<Fetching>,
    requests: u64,
    /// The target whose verification is on its way to the disk.
    keeping: Option<Target>,
}

impl Watch {
    /// Goes on from what the store holds.
    pub(super) fn new(verified: Verified) -> Watch {
        Watch { follower: verified.follower.clone(), verified, ..Watch::default() }
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
                let bare = trust.open(request.checkpoint.as_bytes()).map(|signed| signed.bare());
                let note = bare.expect("opened a moment ago").into();
                self.aim(Target { checkpoint, note, witnessed: Bytes::new(), is_asked: true })
            }
            Err(refusal) => {
                let signed = trust.open(request.checkpoint.as_bytes());
                let last_size = last.map_or(0, |last| last.size);
                // Refused by its form alone, or answered with what this desk holds: what the relay has signed shows
                // all the same that it goes back.
                let is_set_back = signed.is_ok_and(|signed| signed.checkpoint.size < last_size);
                let alarm = if is_set_back { Some(set_back(last_size)) } else { refusal_alarm(&refusal) };
                let mut steps = vec![answer(&refusal)];
                steps.extend(alarm.map(Step::Alarm));
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
                return vec![Step::Alarm(format!(
                    "the relay published a checkpoint of the audit log that is not one ({error}); {WHAT_NOW}"
                ))];
            }
        };
        // Before a quorum has signed it counts for nothing, and is no alarm: the roster may just have changed.
        if trust.quorum() > 0 && !signed.is_witnessed() {
            return Vec::new();
        }
        let note = signed.bare().into();
        let target =
            Target { checkpoint: signed.checkpoint, note, witnessed: frame.note.clone(), is_asked: false };
        match self.last() {
            Some(last) if last.origin == target.checkpoint.origin && last.size == target.checkpoint.size => {
                if last.root != target.checkpoint.root {
                    return vec![Step::Alarm(forked(last.size))];
                }
                let verified = Verified { witnessed: target.witnessed.clone(), ..self.verified.clone() };
                self.keep(target, verified)
            }
            // What it covers was followed before; a later one tells more.
            Some(last) if last.origin == target.checkpoint.origin && last.size > target.checkpoint.size => {
                Vec::new()
            }
            _ => self.aim(target),
        }
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
        if total_bytes > LOG_BUNDLE_BYTES_MAX {
            return Err(wrong("is longer than any bundle"));
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
        let Fetching { path, bytes } = self.fetching.take().expect("looked at above");
        let taken =
            if frame.found { self.take(path, &bytes.freeze(), roster) } else { Err(AuditError::Bundle) };
        Ok(match taken {
            Ok(()) => self.go_on(),
            Err(error) => self.give_up(&error),
        })
    }

    /// What was to be made durable is.
    pub(super) fn kept(&mut self) -> Vec<Step> {
        let Some(target) = self.keeping.take() else { return Vec::new() };
        let mut steps = Vec::new();
        if target.is_asked {
            steps.push(Step::Cosign(target.checkpoint.to_string()));
        }
        steps.extend(self.go_to_next());
        steps
    }

    fn last(&self) -> Option<Checkpoint> {
        let text = str::from_utf8(&self.verified.note).ok()?;
        let (text, _) = text.rsplit_once("\n\n")?;
        format!("{text}\n").parse().ok()
    }

    /// Follows the log to a checkpoint, once what is under way is done.
    fn aim(&mut self, target: Target) -> Vec<Step> {
        if self.target.is_some() || self.keeping.is_some() {
            let next = if target.is_asked { &mut self.next_asked } else { &mut self.next_published };
            *next = Some(target);
            return Vec::new();
        }
        let is_new_log = self.last().is_some_and(|last| last.origin != target.checkpoint.origin);
        if is_new_log {
            // A log that begins anew under another name, which the roster gave it.
            self.verified = Verified::default();
            self.follower = Follower::new();
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

    /// Asks for the next bundle, or holds the checkpoint against the leaves.
    fn go_on(&mut self) -> Vec<Step> {
        let Some(target) = &self.target else { return Vec::new() };
        let (at, size) = (self.follower.size(), target.checkpoint.size);
        if let Some(path) = (at < size).then(|| BundlePath::in_log(at / TILE_HASHES, size)).flatten() {
            self.requests += 1;
            self.fetching = Some(Fetching { path, bytes: BytesMut::new() });
            let fetch = pb::Fetch { request: self.requests, name: path.to_string() };
            return vec![Step::Send(Kind::Fetch(fetch))];
        }
        if let Err(error) = self.follower.check(&target.checkpoint) {
            return self.give_up(&error);
        }
        let target = self.target.take().expect("looked at above");
        let witnessed =
            if target.witnessed.is_empty() { &self.verified.witnessed } else { &target.witnessed };
        let (follower, note) = (self.follower.clone(), target.note.clone());
        let verified = Verified { follower, note, witnessed: witnessed.clone() };
        self.keep(target, verified)
    }

    fn keep(&mut self, target: Target, verified: Verified) -> Vec<Step> {
        self.verified = verified.clone();
        self.keeping = Some(target);
        vec![Step::Keep(Box::new(verified))]
    }

    fn take(&mut self, path: BundlePath, bytes: &Bytes, roster: &Roster) -> Result<(), AuditError> {
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
            if let Followed::Administrative(leaf) = self.follower.take(entry)?
                && let Act::Roster { version, hash, .. } = leaf.act
                && (version > roster.version() || (version == roster.version() && hash != roster.hash()))
            {
                // The relay sends each roster before a checkpoint covers it.
                return Err(AuditError::RosterUntold { index, version });
            }
        }
        Ok(())
    }

    /// The log does not fit what it claims: the desk stays with what it has verified.
    fn give_up(&mut self, error: &AuditError) -> Vec<Step> {
        let target = self.target.take().expect("a target is followed");
        self.follower = self.verified.follower.clone();
        let mut steps = vec![Step::Alarm(format!(
            "the audit log does not fit its checkpoint of {} leaves ({error}); {WHAT_NOW}",
            target.checkpoint.size
        ))];
        if target.is_asked {
            steps.push(answer(&Answer::BadProof));
        }
        steps.extend(self.go_to_next());
        steps
    }
}

/// What every alarm about the log ends with.
const WHAT_NOW: &str = "mail goes on: save this desk's folder, do not restart anything, and telephone the \
                        ministry's watch officer and one other mission";

fn answer(answer: &Answer) -> Step {
    Step::Send(Kind::Witnessed(witnessed(answer)))
}

/// An answer as a frame.
fn witnessed(answer: &Answer) -> pb::Witnessed {
    pb::Witnessed { status: answer.status().into(), body: answer.body().into() }
}

/// The words of the gravest alarm.
pub(in crate::desk) fn forked(size: u64) -> String {
    format!("two checkpoints of {size} leaves of the audit log differ: the log was forked; {WHAT_NOW}")
}

fn set_back(size: u64) -> String {
    format!(
        "the relay asks this desk to cosign an audit log of fewer leaves than the {size} that it has verified: the log was \
         set back; it was refused; {WHAT_NOW}"
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
        "a checkpoint that the relay asks this desk to cosign {problem}; it was refused; {WHAT_NOW}"
    ))
}

const _: () = assert!(CHECKPOINT_BYTES_MAX < crate::limits::FRAME_CONTROL_BYTES_MAX);
