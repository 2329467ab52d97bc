//! How many visits to the store it takes to cut proofs that are owed, where the tiles have to be fetched.

use std::collections::BTreeSet;

use bytes::Bytes;

use super::*;
use crate::{
    audit::TilePath,
    desk::{link::proving::Proving, store::Proved},
    limits::{PROOF_TILES_HELD_MAX, PROOFS_PER_TURN},
};

/// A store that owes proofs and has no tile, and a relay that has them all.
struct Owing {
    owed: BTreeSet<u64>,
    size: u64,
    /// Tiles that the relay has not.
    lost: BTreeSet<TilePath>,
    turns: usize,
    fetches: Vec<TilePath>,
}

impl Owing {
    /// So many proofs, each so far from the one before.
    fn new(proofs: u64, apart: u64) -> Owing {
        let owed = (0..proofs).map(|number| number * apart).collect();
        Owing { owed, size: proofs * apart + 1, lost: BTreeSet::new(), turns: 0, fetches: Vec::new() }
    }

    fn tiles(&self, position: u64) -> impl Iterator<Item = TilePath> + use<> {
        let size = self.size;
        (0..8_u8)
            .map_while(move |level| TilePath::in_tree(level, position >> (8 * (u32::from(level) + 1)), size))
    }

    /// What the store does in a turn.
    fn turn(&mut self, job: StoreJob) -> Proved {
        let StoreJob::Prove { fetched, after } = job else { panic!("{job:?}") };
        assert!(fetched.len() <= PROOF_TILES_HELD_MAX, "{} tiles in memory", fetched.len());
        self.turns += 1;
        let from = after.map_or(0, |after| after.0 + 1);
        let turn: Vec<u64> = self.owed.range(from..).copied().take(PROOFS_PER_TURN as usize).collect();
        let next = turn.last().copied().filter(|_| turn.len() == PROOFS_PER_TURN as usize);
        let mut proved = Proved { next: next.map(Position), ..Proved::default() };
        for position in turn {
            let lacked = self.tiles(position).find(|path| !fetched.contains_key(&(path.level, path.index)));
            if lacked.is_none() {
                self.owed.remove(&position);
            }
            if let Some(path) = lacked {
                proved.missing.entry(path).or_insert(Position(position));
            }
        }
        proved
    }

    /// Has all proofs cut that can be.
    fn prove(&mut self, proving: &mut Proving) {
        while let Some(job) = proving.job() {
            let wanted = proving.proved(&self.turn(job));
            assert!(wanted.len() <= PROOF_TILES_HELD_MAX);
            for path in wanted {
                assert_eq!(proving.job(), None, "no turn while a tile is awaited");
                self.fetches.push(path);
                let bytes = Bytes::from(vec![0; usize::from(path.width) * 32]);
                proving.fetched(path, (!self.lost.contains(&path)).then_some(bytes));
            }
            assert!(self.turns < 10_000, "it goes on for ever");
        }
    }
}

#[test]
fn the_turns_that_it_takes_grow_with_the_proofs_and_no_tile_is_fetched_twice() {
    // Side by side, each in its own tile, and so far apart that two levels are needed.
    for (proofs, apart, turns_max) in [(640, 1, 32), (640, 256, 50), (640, 4_000, 70)] {
        let mut owing = Owing::new(proofs, apart);
        let mut proving = Proving::default();
        proving.begin();
        owing.prove(&mut proving);
        println!("{proofs} proofs, {apart} apart: {} turns, {} tiles", owing.turns, owing.fetches.len());
        assert_eq!(owing.owed, BTreeSet::new());
        assert!(owing.turns <= turns_max, "{} turns for {proofs} proofs {apart} apart", owing.turns);
        let distinct: BTreeSet<TilePath> = owing.fetches.iter().copied().collect();
        assert!(
            owing.fetches.len() <= distinct.len() * 11 / 10,
            "{} of {}",
            owing.fetches.len(),
            distinct.len()
        );
    }
}

#[test]
fn proofs_that_are_farther_apart_than_tiles_are_held_are_cut_all_the_same() {
    // Each needs two tiles of its own, and others beside.
    let mut owing = Owing::new(200, 256 * 256);
    let mut proving = Proving::default();
    proving.begin();
    owing.prove(&mut proving);
    assert_eq!(owing.owed, BTreeSet::new());
    assert!(owing.turns <= 40, "{} turns", owing.turns);
}

#[test]
fn a_tile_that_the_relay_has_not_holds_up_no_other_proof_and_is_asked_for_once() {
    let mut owing = Owing::new(100, 256);
    owing.lost = (0..3).map(|index| TilePath::in_tree(0, 5 + index, owing.size).unwrap()).collect();
    let mut proving = Proving::default();
    proving.begin();
    owing.prove(&mut proving);
    assert_eq!(owing.owed, [5 * 256, 6 * 256, 7 * 256].into());
    proving.begin();
    let fetched = owing.fetches.len();
    owing.prove(&mut proving);
    assert!(!owing.fetches[fetched..].iter().any(|path| owing.lost.contains(path)));
}

#[test]
fn a_tile_that_is_shorter_than_it_was_asked_for_is_none() {
    let mut owing = Owing::new(1, 256);
    let mut proving = Proving::default();
    proving.begin();
    let job = proving.job().expect("a turn");
    let wanted = proving.proved(&owing.turn(job));
    let path = *wanted.first().expect("a tile is missing");
    proving.fetched(path, Some(Bytes::from_static(&[0; 31])));
    owing.prove(&mut proving);
    assert_eq!((owing.owed.len(), owing.fetches.len()), (1, 0), "it is given up");
}

#[test]
fn what_is_owed_while_a_sweep_is_under_way_has_another_one_after_it() {
    let mut owing = Owing::new(100, 1);
    let mut proving = Proving::default();
    proving.begin();
    let job = proving.job().expect("a turn");
    proving.begin();
    assert_eq!(proving.job(), None, "one at a time");
    let proved = owing.turn(job);
    let wanted = proving.proved(&proved);
    proving.begin();
    assert_eq!(wanted.len(), 0, "the sweep gathers first");
    owing.prove(&mut proving);
    assert_eq!(owing.owed, BTreeSet::new());
    // Told of late, below all that the sweep had left.
    let turns = owing.turns;
    assert_eq!(proving.job(), None);
    proving.begin();
    owing.prove(&mut proving);
    assert_eq!(owing.turns, turns + 1);
}
