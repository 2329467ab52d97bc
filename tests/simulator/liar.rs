//! A relay that lies about its audit log. It has the log's key and its own tree, and knows what each desk holds: so
//! what it shows is as good as a false history can be. The relay below it is whole: only what its victims are told is
//! false.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use pouch::{
    audit::{AddCheckpoint, Bundle, BundlePath, Checkpoint},
    merkle::{self, Hash, Tree, sha256},
    note::{Note, NoteSignature},
    record::leaf::is_traffic,
    tiles::signed_note,
    wire::{
        codec,
        pb::{self, frame::Kind},
    },
};

use super::{
    bloc::{BLOC, DESKS, ORIGIN, QUORUM},
    checker::roster_version,
    ministry::HUB,
    network::End,
    world::World,
};

/// What a lying relay does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Deceit {
    /// A leaf that was verified is gone, and those behind it move up.
    Drops,
    /// A leaf that was verified is another one.
    Edits,
    /// The log is whole, but a file of it that a desk fetches is not.
    EditsFile,
    /// Two leaves that were verified have changed places.
    Reorders,
    /// One desk is shown another history than the others, which agrees with all that it was told.
    Forks,
    /// A checkpoint of fewer leaves than were verified, and the log goes on from there.
    Rewinds,
    /// The log is made anew from its first leaf on, under the same key.
    SignsAnew,
    /// The log is signed by a key that the roster does not list.
    SignsByAnother,
    /// What was accepted is not in the log: another leaf has its place.
    Omits,
    /// The roster in the log is not sent to a desk.
    Withholds,
    /// A roster's leaf is left out of the log, with another leaf in its place.
    WithholdsLeaf,
    /// A checkpoint names more leaves than its root has.
    WrongSize,
    /// Desks are shown the checkpoint that they have, and no newer one.
    Stale,
    /// Log time is far ahead, though Welcome tells the true time.
    FutureTime,
    /// One leaf stands in two places.
    Duplicates,
    /// The newest leaves that were verified are gone, and the log goes on without them.
    CutsTail,
}

/// Log time of a relay that lies about it is ahead by so much.
const FUTURE_US: i64 = 3 * 24 * 3_600_000_000;
/// Leaves that a relay which sets its log back takes away.
const CUT_LEAVES: usize = 3;

impl Deceit {
    /// Who is lied to: one desk where the others must not know, or all witnesses.
    pub fn victims(self) -> BTreeSet<usize> {
        match self {
            Deceit::Forks | Deceit::Withholds | Deceit::EditsFile => BTreeSet::from([VICTIM]),
            Deceit::FutureTime => (0..DESKS.len()).collect(),
            _ => (0..DESKS.len()).filter(|desk| *desk != HUB).collect(),
        }
    }

    /// Whether the ministry has to publish rosters for it to lie about.
    pub fn takes_rosters(self) -> bool {
        matches!(self, Deceit::Withholds | Deceit::WithholdsLeaf)
    }
}

/// The desk that is lied to where it is only one.
pub const VICTIM: usize = 1;

/// An alarm of a desk, or a relay's stop.
#[derive(Clone, Debug)]
pub struct Caught {
    /// Since the first lie was told.
    pub after: Duration,
    /// Of the desk.
    pub desk: usize,
    pub key: String,
    pub sentence: String,
}

/// What one victim is told.
#[derive(Default)]
struct Face {
    /// Leaves under the checkpoint that it cosigned last.
    held: Vec<Bytes>,
    /// Leaves under the one that it is asked for, or was shown last.
    shown: Vec<Bytes>,
    /// Whether it had raised an alarm when it was asked.
    was_alarmed: bool,
    /// Positions that it was told something of.
    told: BTreeSet<usize>,
}

pub struct Liar {
    pub deceit: Deceit,
    /// When it begins to lie.
    since: Duration,
    faces: BTreeMap<usize, Face>,
    /// Leaves that all victims had verified when it began.
    begun: Option<usize>,
    /// When it first told a lie.
    lied: Option<Duration>,
    /// Cosignatures of what it showed, by the checkpoint's text.
    lines: BTreeMap<String, BTreeMap<usize, NoteSignature>>,
    /// The false leaf that it put in, or where it did something to a true one.
    place: Option<usize>,
    pub caught: Vec<Caught>,
    /// Cosignatures of a false checkpoint by desks that had raised an alarm.
    pub cosigned_after_alarm: usize,
}

impl Liar {
    pub fn new(deceit: Deceit, since: Duration) -> Liar {
        let faces = deceit.victims().into_iter().map(|desk| (desk, Face::default())).collect();
        Liar {
            deceit,
            since,
            faces,
            begun: None,
            lied: None,
            lines: BTreeMap::new(),
            place: None,
            caught: Vec::new(),
            cosigned_after_alarm: 0,
        }
    }

    /// How far the relay's clock is off, for which deceit.
    pub fn skew_us(&self) -> i64 {
        if self.deceit == Deceit::FutureTime { FUTURE_US } else { 0 }
    }

    fn begins(&mut self, now: Duration) -> bool {
        if self.begun.is_none() && now >= self.since {
            let least = self.faces.values().map(|face| face.held.len()).min().unwrap_or(0);
            self.begun = (least > 2 * CUT_LEAVES).then_some(least);
        }
        self.begun.is_some()
    }

    /// What it says in place of a frame of the whole relay's.
    pub fn twists(&mut self, now: Duration, desk: usize, kind: Kind, log: &[Bytes]) -> Vec<Kind> {
        if let Some(position) = position_of(&kind)
            && let Some(face) = self.faces.get_mut(&desk)
        {
            face.told.insert(position);
        }
        let begun = self.begins(now);
        let Some(face) = self.faces.get_mut(&desk) else { return vec![kind] };
        match kind {
            Kind::Welcome(mut welcome) => {
                if self.deceit == Deceit::FutureTime {
                    welcome.time_us -= u64::try_from(FUTURE_US).expect("ahead");
                    self.lied.get_or_insert(now);
                }
                vec![Kind::Welcome(welcome)]
            }
            Kind::AddCheckpoint(frame) if !begun => {
                face.shown = log[..request_of(&frame).1].to_vec();
                vec![Kind::AddCheckpoint(frame)]
            }
            Kind::AddCheckpoint(frame) => {
                let size = request_of(&frame).1;
                vec![self.asks(now, desk, &log[..size])]
            }
            // It shows what its victims have cosigned, as soon as they have: never what the others did.
            Kind::Checkpoint(_) if begun && !self.is_true() => Vec::new(),
            Kind::Administrative(frame) if self.deceit == Deceit::Withholds && begun => {
                if frame.offset == 0 && roster_version(&frame.leaf).is_some_and(|version| version > 1) {
                    self.lied.get_or_insert(now);
                }
                Vec::new()
            }
            other => vec![other],
        }
    }

    /// Whether its log is the true one, and only what it says beside it is false.
    fn is_true(&self) -> bool {
        matches!(self.deceit, Deceit::Withholds | Deceit::FutureTime | Deceit::EditsFile)
    }

    /// Asks a victim to cosign the newest false checkpoint.
    fn asks(&mut self, now: Duration, desk: usize, log: &[Bytes]) -> Kind {
        let shown = self.falsify(desk, log);
        let face = self.faces.get_mut(&desk).expect("a victim");
        if shown != log {
            self.lied.get_or_insert(now);
        }
        let (old, tree) = (face.held.len(), tree_of(&shown));
        let mut checkpoint =
            Checkpoint { origin: ORIGIN.to_owned(), size: shown.len() as u64, root: tree.root() };
        let mut path = if old <= shown.len() { tree.consistency_path(old) } else { Vec::new() };
        if self.deceit == Deceit::WrongSize {
            checkpoint.size += 1;
            path = tree.consistency_path(old.min(shown.len()));
            self.lied.get_or_insert(now);
        }
        let key = if self.deceit == Deceit::SignsByAnother { &BLOC.relay_key } else { &BLOC.log_key };
        if self.deceit == Deceit::SignsByAnother {
            self.lied.get_or_insert(now);
        }
        let note = String::from_utf8(signed_note(key, &checkpoint).to_vec()).expect("text");
        face.shown = shown;
        face.was_alarmed = self.caught.iter().any(|caught| caught.desk == desk);
        let request = AddCheckpoint { old_size: old as u64, path, checkpoint: note };
        Kind::AddCheckpoint(pb::AddCheckpoint { request: request.to_string().into() })
    }

    /// The history that a victim is shown in place of the true one.
    fn falsify(&mut self, desk: usize, log: &[Bytes]) -> Vec<Bytes> {
        let begun = self.begun.expect("it has begun");
        let mut leaves = log.to_vec();
        let face = &self.faces[&desk];
        match self.deceit {
            Deceit::Drops => {
                leaves.remove(traffic(log, 0..begun));
            }
            Deceit::Edits => leaves[traffic(log, 0..begun)] = false_leaf(1),
            Deceit::Reorders => {
                let first = traffic(log, 0..begun);
                leaves.swap(first, traffic(log, first + 1..begun));
            }
            Deceit::Rewinds | Deceit::CutsTail => {
                leaves.drain(begun - CUT_LEAVES..begun);
                if self.deceit == Deceit::Rewinds {
                    leaves.truncate(begun - 1);
                }
            }
            Deceit::SignsAnew => {
                let anew = (0..).zip(&mut leaves).filter(|(_, leaf)| is_traffic(leaf));
                anew.for_each(|(place, leaf)| *leaf = false_leaf(place));
            }
            Deceit::Stale => {
                if face.held.len() < log.len() {
                    leaves = face.held.clone();
                }
            }
            Deceit::Forks | Deceit::Duplicates | Deceit::Omits | Deceit::WithholdsLeaf => {
                self.place =
                    self.place.or_else(|| place(self.deceit, &face.told, log, begun.max(face.held.len())));
                if let Some(place) = self.place {
                    let other = if self.deceit == Deceit::Duplicates {
                        log[traffic(log, place / 256 * 256..place)].clone()
                    } else {
                        false_leaf(2)
                    };
                    leaves[place] = other;
                }
            }
            Deceit::EditsFile
            | Deceit::SignsByAnother
            | Deceit::Withholds
            | Deceit::WrongSize
            | Deceit::FutureTime => {}
        }
        leaves
    }

    /// The file that a victim is given; `None` where it gets the true one.
    pub fn serves(&mut self, now: Duration, desk: usize, name: &str) -> Option<Bytes> {
        let is_false = self.begun.is_some() && (!self.is_true() || self.deceit == Deceit::EditsFile);
        let face = self.faces.get(&desk).filter(|_| is_false)?;
        let path: BundlePath = name.parse().ok()?;
        let first = usize::try_from(path.index).expect("a short log") * 256;
        let mut bundle = Bundle::default();
        let mut leaves = face.shown.clone();
        // What it has not, it makes up.
        leaves.resize(leaves.len().max(first + usize::from(path.width)), false_leaf(3));
        if self.deceit == Deceit::EditsFile {
            let last = first + usize::from(path.width) - 1;
            leaves[last] = false_leaf(4);
            self.lied.get_or_insert(now);
        }
        leaves.into_iter().skip(first).take(path.width.into()).for_each(|leaf| bundle.push(leaf));
        Some(bundle.to_bytes(path.width).into())
    }

    /// A victim answers: gives the checkpoint that a quorum of them has cosigned by now.
    fn answered(&mut self, desk: usize, answer: &pb::Witnessed) -> Option<Bytes> {
        let face = self.faces.get_mut(&desk)?;
        if answer.status != 200 {
            return None;
        }
        let is_true = matches!(self.deceit, Deceit::FutureTime | Deceit::Stale);
        self.cosigned_after_alarm += usize::from(face.was_alarmed && !is_true);
        face.held = face.shown.clone();
        self.begun?;
        let tree = tree_of(&face.held);
        let checkpoint =
            Checkpoint { origin: ORIGIN.to_owned(), size: face.held.len() as u64, root: tree.root() };
        let line = str::from_utf8(&answer.body).ok()?.parse().ok()?;
        let lines = self.lines.entry(checkpoint.to_string()).or_default();
        lines.insert(desk, line);
        if lines.len() != QUORUM {
            return None;
        }
        let mut note = Note::parse(&signed_note(&BLOC.log_key, &checkpoint)).expect("its own note");
        lines.values().for_each(|line| note.add(line.clone()).expect("few"));
        Some(note.to_bytes().into())
    }

    /// Something was noticed.
    pub fn noticed(&mut self, now: Duration, desk: usize, key: &str, sentence: &str) {
        let after = now - self.lied.unwrap_or(now);
        let (key, sentence) = (key.to_owned(), sentence.to_owned());
        self.caught.push(Caught { after, desk, key, sentence });
    }

    /// Whether a lie was told by then.
    pub fn lied_before(&self, time: Duration) -> bool {
        self.lied.is_some_and(|lied| lied <= time)
    }
}

impl World {
    /// A desk answers a lying relay's request: what a quorum has cosigned is published among its victims.
    pub fn lie_witnessed(&mut self, desk: usize, kind: &Kind) {
        let Kind::Witnessed(answer) = kind else { return };
        let Some(liar) = &mut self.liar else { return };
        let Some(note) = liar.answered(desk, answer).filter(|_| !liar.is_true()) else { return };
        let victims: Vec<usize> = liar.faces.keys().copied().collect();
        self.hand_over(&note, &victims);
    }

    /// Desks are shown a published checkpoint.
    pub fn hand_over(&mut self, note: &Bytes, to: &[usize]) {
        let mut buffer = BytesMut::new();
        codec::encode(Kind::Checkpoint(pb::Checkpoint { note: note.clone() }), &mut buffer);
        let sides = self.relay.as_ref().map(|relay| {
            let lines = relay.sides.iter().filter(|(_, side)| side.welcomed && to.contains(&side.desk));
            lines.map(|(line, _)| *line).collect::<Vec<u64>>()
        });
        for line in sides.unwrap_or_default() {
            self.send(line, End::Desk, &buffer);
        }
    }
}

/// The first traffic leaf there.
fn traffic(log: &[Bytes], range: std::ops::Range<usize>) -> usize {
    let first = range.start;
    let place = log[range].iter().position(|leaf| is_traffic(leaf));
    first + place.expect("people have written by now")
}

/// Where a lie about a leaf that was not verified yet is told.
fn place(deceit: Deceit, told: &BTreeSet<usize>, log: &[Bytes], begun: usize) -> Option<usize> {
    (begun..log.len()).find(|place| match deceit {
        Deceit::WithholdsLeaf => roster_version(&log[*place]).is_some(),
        Deceit::Omits => told.contains(place) && is_traffic(&log[*place]),
        _ => !told.contains(place) && is_traffic(&log[*place]),
    })
}

/// A commitment that nobody has an opening of.
fn false_leaf(seed: u64) -> Bytes {
    [[1, 1].as_slice(), sha256(&seed.to_be_bytes()).as_bytes()].concat().into()
}

fn tree_of(leaves: &[Bytes]) -> Tree {
    Tree::new(&leaves.iter().map(|leaf| merkle::leaf_hash(leaf)).collect::<Vec<Hash>>())
}

/// Size that was cosigned, as the relay remembers, and size of the checkpoint.
fn request_of(frame: &pb::AddCheckpoint) -> (usize, usize) {
    let request: AddCheckpoint = str::from_utf8(&frame.request)
        .ok()
        .and_then(|text| text.parse().ok())
        .expect("the relay's own request");
    let note = Note::parse(request.checkpoint.as_bytes()).expect("the relay's own note");
    let checkpoint: Checkpoint = note.text().parse().expect("a checkpoint");
    let small = |size: u64| usize::try_from(size).expect("a short log");
    (small(request.old_size), small(checkpoint.size))
}

/// Where a record is that a frame tells of.
fn position_of(kind: &Kind) -> Option<usize> {
    let position = match kind {
        Kind::Accepted(frame) => frame.position,
        Kind::Deliver(frame) => frame.position,
        Kind::StoredAt(frame) => frame.position,
        Kind::Receipt(frame) => frame.position,
        _ => return None,
    };
    usize::try_from(position).ok()
}
