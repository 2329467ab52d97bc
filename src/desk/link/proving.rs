//! Proofs that are owed, cut in sweeps over all of them, a turn at a time. What a sweep lacks it gathers first, and goes
//! on from the first proof that lacked something once that is here: so each turn is worth its visit to the store.

use std::{
    collections::{BTreeMap, BTreeSet},
    mem,
};

use bytes::Bytes;

use crate::{
    audit::TilePath,
    desk::{
        link::jobs::StoreJob,
        store::{FetchedTiles, Proved},
    },
    limits::{HASH_BYTES, PROOF_TILES_HELD_MAX, PROOF_TILES_WANTED_MIN},
    wire::Position,
};

/// What is known of the proofs that are owed.
#[derive(Debug, Default)]
pub(super) struct Proving {
    /// Whether the next turn may begin.
    is_due: bool,
    /// Whether one is at the store.
    is_asked: bool,
    /// Whether there is something for another sweep once this one is over.
    begins_again: bool,
    /// Where the turn under way, or the next one, goes on.
    after: Option<Position>,
    /// Tiles that this sweep lacks, with the first leaf whose proof needs each.
    lacks: BTreeMap<TilePath, Position>,
    /// What was asked for.
    awaited: BTreeSet<TilePath>,
    /// What was missing, and is here; nothing in it is verified.
    fetched: FetchedTiles,
    /// What the relay has not, or what does not fit: not asked for again in this session.
    absent: BTreeSet<TilePath>,
}

impl Proving {
    /// Looks at all that is owed, from the start, as soon as what is under way is done.
    pub(super) fn begin(&mut self) {
        if self.is_asked || self.after.is_some() || !self.awaited.is_empty() {
            self.begins_again = true;
        } else {
            self.is_due = true;
        }
    }

    /// The next turn, where one may begin.
    pub(super) fn job(&mut self) -> Option<StoreJob> {
        mem::take(&mut self.is_due).then(|| {
            self.is_asked = true;
            StoreJob::Prove { fetched: self.fetched.clone(), after: self.after }
        })
    }

    /// Takes what became of a turn; gives the tiles to be fetched.
    pub(super) fn proved(&mut self, proved: &Proved) -> BTreeSet<TilePath> {
        self.is_asked = false;
        for &path in &proved.damaged {
            self.fetched.remove(&(path.level, path.index));
            self.give_up(path);
        }
        let lacked = self.lacks.len();
        if self.absent.len() < PROOF_TILES_HELD_MAX {
            for (path, position) in &proved.missing {
                if !self.absent.contains(path) {
                    self.lacks.entry(*path).or_insert(*position);
                }
            }
        }
        // A turn that lacks the same as those before says that more of them would, too.
        let gathers = self.lacks.is_empty()
            || (self.lacks.len() > lacked && self.lacks.len() + self.fetched.len() < PROOF_TILES_HELD_MAX);
        match proved.next {
            Some(next) if gathers => {
                (self.after, self.is_due) = (Some(next), true);
                BTreeSet::new()
            }
            _ => self.ends(),
        }
    }

    /// A tile came, or the relay has none.
    pub(super) fn fetched(&mut self, path: TilePath, bytes: Option<Bytes>) {
        // What is shorter would be asked for without end.
        match bytes.filter(|bytes| bytes.len() >= usize::from(path.width) * HASH_BYTES) {
            Some(bytes) => drop(self.fetched.insert((path.level, path.index), bytes)),
            None => self.give_up(path),
        }
        self.is_due |= self.awaited.remove(&path) && self.awaited.is_empty();
    }

    /// Gives what was lacking, as much as may be held, nearest first; where nothing was, the sweep is over.
    fn ends(&mut self) -> BTreeSet<TilePath> {
        let mut lacks: Vec<(Position, TilePath)> =
            mem::take(&mut self.lacks).into_iter().map(|(path, position)| (position, path)).collect();
        lacks.sort_unstable();
        let Some((place, _)) = lacks.first().copied() else {
            self.fetched.clear();
            (self.after, self.is_due) = (None, mem::take(&mut self.begins_again));
            return BTreeSet::new();
        };
        self.after = place.0.checked_sub(1).map(Position);
        self.make_room(place, lacks.len().min(PROOF_TILES_WANTED_MIN));
        lacks.truncate(PROOF_TILES_HELD_MAX - self.fetched.len());
        self.awaited = lacks.into_iter().map(|(_, path)| path).collect();
        self.awaited.clone()
    }

    /// Lets tiles go that lie before the proof that is next, and the farthest behind it: what that one needs stays,
    /// for a leaf lies under one tile of each level.
    fn make_room(&mut self, place: Position, tiles: usize) {
        self.fetched.retain(|(level, index), _| begins(*level, index + 1) > u128::from(place.0));
        while self.fetched.len() + tiles > PROOF_TILES_HELD_MAX {
            let farthest = self.fetched.keys().copied().max_by_key(|(level, index)| begins(*level, *index));
            farthest.map(|farthest| self.fetched.remove(&farthest));
        }
    }

    fn give_up(&mut self, path: TilePath) {
        if self.absent.len() < PROOF_TILES_HELD_MAX {
            self.absent.insert(path);
        }
    }
}

/// The first leaf under a tile.
fn begins(level: u8, index: u64) -> u128 {
    u128::from(index) << (8 * (u32::from(level) + 1))
}
