//! Tests of the tree arithmetic, against independently computed vectors and by exhaustion.

use proptest::prelude::*;
use serde::Deserialize;

use super::*;

#[derive(Deserialize)]
struct Vectors {
    roots: Vec<RootVector>,
    inclusion: Vec<InclusionVector>,
    consistency: Vec<ConsistencyVector>,
}

#[derive(Deserialize)]
struct RootVector {
    size: usize,
    root: String,
}

#[derive(Deserialize)]
struct InclusionVector {
    size: usize,
    index: usize,
    path: Vec<String>,
}

#[derive(Deserialize)]
struct ConsistencyVector {
    old: usize,
    new: usize,
    path: Vec<String>,
}

fn vectors() -> Vectors {
    serde_json::from_str(include_str!("../../tests/vectors/merkle.json")).unwrap()
}

fn hashes(texts: &[String]) -> Vec<Hash> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

fn leaves(size: usize) -> Vec<Hash> {
    (0..size).map(|index| leaf_hash(format!("entry {index}").as_bytes())).collect()
}

fn flipped(hash: &Hash, bit: usize) -> Hash {
    let mut bytes = hash.0;
    bytes[bit / 8] ^= 1 << (bit % 8);
    Hash(bytes)
}

#[test]
fn roots_equal_those_computed_elsewhere() {
    for RootVector { size, root: expected } in vectors().roots {
        assert_eq!(root(&leaves(size)).to_string(), expected, "size {size}");
    }
}

#[test]
fn the_root_of_the_certificate_transparency_test_entries_is_the_known_one() {
    let entries: [&[u8]; 8] = [
        b"",
        b"\x00",
        b"\x10",
        b"\x20\x21",
        b"\x30\x31",
        b"\x40\x41\x42\x43",
        b"\x50\x51\x52\x53\x54\x55\x56\x57",
        b"\x60\x61\x62\x63\x64\x65\x66\x67\x68\x69\x6a\x6b\x6c\x6d\x6e\x6f",
    ];
    let leaves: Vec<Hash> = entries.iter().map(|entry| leaf_hash(entry)).collect();
    let known = "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328";
    assert_eq!(root(&leaves).to_string(), known);
}

#[test]
fn paths_equal_those_computed_elsewhere() {
    for InclusionVector { size, index, path } in vectors().inclusion {
        assert_eq!(inclusion_path(&leaves(size), index), hashes(&path), "leaf {index} of {size}");
    }
    for ConsistencyVector { old, new, path } in vectors().consistency {
        assert_eq!(consistency_path(&leaves(new), old), hashes(&path), "{old} to {new}");
    }
}

#[test]
fn every_leaf_of_every_tree_up_to_70_is_proven_by_its_path_and_by_no_other_length() {
    let all = leaves(70);
    for size in 1..=70 {
        let tree = Tree::new(&all[..size]);
        for (index, leaf) in all[..size].iter().enumerate() {
            let path = tree.inclusion_path(index);
            let (place, of) = (index as u64, size as u64);
            assert_eq!(root_from_inclusion(*leaf, place, of, &path), Ok(tree.root()));
            let longer = [path.as_slice(), &[Hash::ZERO]].concat();
            assert_eq!(root_from_inclusion(*leaf, place, of, &longer), Err(MerkleError::PathLength));
            for short in 0..path.len() {
                let found = root_from_inclusion(*leaf, place, of, &path[..short]);
                assert_eq!(found, Err(MerkleError::PathLength));
            }
        }
    }
}

#[test]
fn every_pair_of_trees_up_to_40_is_consistent_by_its_path_and_by_no_other_length() {
    let all = leaves(40);
    for new in 0..=40 {
        let tree = Tree::new(&all[..new]);
        for old in 0..=new {
            let (old_root, path) = (root(&all[..old]), tree.consistency_path(old));
            let verify =
                |path: &[Hash]| verify_consistency(old as u64, old_root, new as u64, tree.root(), path);
            assert_eq!(verify(&path), Ok(()), "{old} to {new}");
            let longer = [path.as_slice(), &[Hash::ZERO]].concat();
            assert_eq!(verify(&longer), Err(MerkleError::PathLength), "{old} to {new}");
            for short in 0..path.len() {
                assert_eq!(verify(&path[..short]), Err(MerkleError::PathLength), "{old} to {new}");
            }
        }
    }
}

#[test]
fn a_frontier_has_the_root_of_its_leaves_and_survives_being_taken_apart() {
    let all = leaves(70);
    let mut frontier = Frontier::new();
    for size in 0..70 {
        assert_eq!(frontier.root(), root(&all[..size]));
        let (at, parts) = frontier.parts();
        assert_eq!(Frontier::from_parts(at, parts), Ok(frontier.clone()));
        frontier.append(all[size]);
    }
    assert_eq!(frontier.size(), 70);
}

#[test]
fn a_frontier_takes_complete_subtrees_where_they_begin() {
    let all = leaves(70);
    for begin in (0..64).step_by(8) {
        let (mut by_leaf, mut frontier) = (Frontier::new(), Frontier::new());
        all[..begin + 8].iter().for_each(|leaf| by_leaf.append(*leaf));
        all[..begin].iter().for_each(|leaf| frontier.append(*leaf));
        frontier.append_subtree(3, root(&all[begin..begin + 8]));
        assert_eq!(frontier, by_leaf);
    }
}

#[test]
#[should_panic(expected = "a subtree begins")]
fn a_subtree_begins_at_a_multiple_of_its_leaves() {
    let mut frontier = Frontier::new();
    frontier.append(Hash::ZERO);
    frontier.append_subtree(3, Hash::ZERO);
}

#[test]
fn a_frontier_that_skips_leaves_counts_them_and_has_no_root_of_theirs() {
    let (mut skipped, mut tree) = (Frontier::new(), Frontier::new());
    for leaf in leaves(70) {
        skipped.skip();
        tree.append(leaf);
        let (size, subtrees) = skipped.parts();
        assert!(Frontier::from_parts(size, subtrees).is_ok());
        assert_eq!(size, tree.size());
        assert_ne!(skipped.root(), tree.root());
    }
}

#[test]
fn frontier_parts_of_the_wrong_number_are_refused() {
    let refused = Frontier::from_parts(5, &leaves(3));
    assert_eq!(refused, Err(MerkleError::FrontierParts { size: 5, expected: 2, found: 3 }));
    assert!(Frontier::from_parts(u64::MAX, &leaves(63)).is_err());
}

#[test]
fn a_leaf_beyond_the_end_is_refused() {
    let refused = root_from_inclusion(Hash::ZERO, 4, 4, &[]);
    assert_eq!(refused, Err(MerkleError::IndexBeyondSize { index: 4, size: 4 }));
    assert!(root_from_inclusion(Hash::ZERO, 0, 0, &[]).is_err());
}

#[test]
fn hostile_sizes_are_errors_and_no_panic() {
    let path = [Hash::ZERO; 64];
    assert!(root_from_inclusion(Hash::ZERO, u64::MAX - 1, u64::MAX, &path).is_err());
    assert!(root_from_inclusion(Hash::ZERO, u64::MAX, u64::MAX, &path).is_err());
    assert!(verify_consistency(u64::MAX - 1, Hash::ZERO, u64::MAX, Hash::ZERO, &path).is_err());
    assert!(verify_consistency(u64::MAX >> 1, Hash::ZERO, u64::MAX, Hash::ZERO, &path).is_err());
}

#[test]
fn a_tree_never_shrinks() {
    let refused = verify_consistency(5, Hash::ZERO, 4, Hash::ZERO, &[]);
    assert_eq!(refused, Err(MerkleError::Shrunk { old: 5, new: 4 }));
}

#[test]
fn equal_sizes_need_equal_roots_and_an_empty_tree_the_empty_root() {
    let (one, other) = (leaf_hash(b"1"), leaf_hash(b"2"));
    assert_eq!(verify_consistency(1, one, 1, other, &[]), Err(MerkleError::RootMismatch));
    assert_eq!(verify_consistency(0, one, 3, other, &[]), Err(MerkleError::RootMismatch));
    assert_eq!(verify_consistency(0, one, 0, one, &[]), Err(MerkleError::RootMismatch));
    assert_eq!(verify_consistency(0, empty_root(), 0, empty_root(), &[]), Ok(()));
}

#[test]
fn only_64_lower_case_hex_digits_are_a_hash() {
    let text = empty_root().to_string();
    assert_eq!(text.parse(), Ok(empty_root()));
    assert_eq!(text.to_uppercase().parse::<Hash>(), Err(MerkleError::HashText));
    assert_eq!(text[..62].parse::<Hash>(), Err(MerkleError::HashLength { bytes: 31 }));
    assert_eq!(Hash::try_from([0; 33].as_slice()), Err(MerkleError::HashLength { bytes: 33 }));
}

proptest! {
    #[test]
    fn a_flipped_bit_in_leaf_or_path_leads_elsewhere(
        size in 1usize..200, pick in any::<prop::sample::Index>(), bit in 0usize..256, at in any::<prop::sample::Index>(),
    ) {
        let all = leaves(size);
        let index = pick.index(size);
        let mut path = inclusion_path(&all, index);
        let wrong_leaf = flipped(&all[index], bit);
        prop_assert_ne!(root_from_inclusion(wrong_leaf, index as u64, size as u64, &path), Ok(root(&all)));
        if !path.is_empty() {
            let at = at.index(path.len());
            path[at] = flipped(&path[at], bit);
            prop_assert_ne!(root_from_inclusion(all[index], index as u64, size as u64, &path), Ok(root(&all)));
        }
    }

    #[test]
    fn a_flipped_bit_in_a_root_or_the_path_is_inconsistent(
        new in 2usize..200, pick in any::<prop::sample::Index>(), bit in 0usize..256, at in any::<prop::sample::Index>(),
    ) {
        let all = leaves(new);
        let old = 1 + pick.index(new - 1);
        let (old_root, new_root) = (root(&all[..old]), root(&all));
        let mut path = consistency_path(&all, old);
        let verify = |old_root, new_root, path: &[Hash]| {
            verify_consistency(old as u64, old_root, new as u64, new_root, path)
        };
        prop_assert_eq!(verify(old_root, new_root, &path), Ok(()));
        prop_assert_eq!(verify(flipped(&old_root, bit), new_root, &path), Err(MerkleError::RootMismatch));
        prop_assert_eq!(verify(old_root, flipped(&new_root, bit), &path), Err(MerkleError::RootMismatch));
        let at = at.index(path.len());
        path[at] = flipped(&path[at], bit);
        prop_assert_eq!(verify(old_root, new_root, &path), Err(MerkleError::RootMismatch));
    }
}

#[test]
fn ranges_are_the_subtrees_of_the_paths() {
    let all = leaves(70);
    let roots = |ranges: Vec<std::ops::Range<u64>>| -> Vec<Hash> {
        let at = |leaf| usize::try_from(leaf).unwrap();
        ranges.into_iter().map(|range| root(&all[at(range.start)..at(range.end)])).collect()
    };
    for size in 1..=all.len() {
        let tree = Tree::new(&all[..size]);
        let wide = |count: usize| u64::try_from(count).unwrap();
        for index in 0..size {
            let ranges = inclusion_ranges(wide(index), wide(size)).unwrap();
            assert_eq!(roots(ranges), tree.inclusion_path(index), "{index} of {size}");
        }
        for old in 0..=size {
            let ranges = consistency_ranges(wide(old), wide(size)).unwrap();
            assert_eq!(roots(ranges), tree.consistency_path(old), "{old} to {size}");
        }
    }
    assert_eq!(inclusion_ranges(3, 3), Err(MerkleError::IndexBeyondSize { index: 3, size: 3 }));
    assert_eq!(consistency_ranges(4, 3), Err(MerkleError::Shrunk { old: 4, new: 3 }));
    // No overflow at the far end of what a size can be.
    assert_eq!(inclusion_ranges(u64::MAX - 1, u64::MAX).unwrap().len(), 63);
    assert!(consistency_ranges(u64::MAX - 1, u64::MAX).is_ok());
}
