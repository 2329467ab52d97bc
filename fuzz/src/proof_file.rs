//! The proof file of a dispatch: its form, and a whole one in which any field is replaced.

use pouch::{
    audit::{LeafProof, ProofFile, check},
    limits::HASH_BYTES,
    merkle::Hash,
};

use super::{Input, bloc::BLOC};

/// A file that is consistent with itself: behind its first byte, which says that it is one.
const WHOLE: &str = include_str!("../corpus/proof_file/whole");

/// Input: `u8 which || text`, or fields that take the place of those of a whole file. A file has one form; nothing that
/// was changed says something else of the dispatch, and nothing that came from elsewhere is proven.
pub fn run(bytes: &[u8]) {
    let mut input = Input(bytes);
    if input.byte().is_multiple_of(2) {
        let Ok(text) = str::from_utf8(input.0) else { return };
        let Ok(file) = text.parse::<ProofFile>() else { return };
        assert_eq!(file.to_string(), text, "a proof file has one form");
        assert!(check(&file, Some(&BLOC.bundle), None).is_err(), "no input holds a key");
        return;
    }
    let whole: ProofFile = WHOLE[1..].parse().expect("it is whole");
    let mut file = whole.clone();
    while !input.is_empty() {
        let which = input.byte();
        change(&mut file, which, &mut input);
    }
    if let Ok(proven) = check(&file, None, None) {
        let before = check(&whole, None, None).expect("it is whole");
        assert_eq!((&proven.core, proven.leaf.position), (&before.core, before.leaf.position));
        for receipt in &proven.receipts {
            let found = before.receipts.iter().find(|known| known.item == receipt.item);
            let known = found.expect("nobody signed another one");
            assert!(receipt.details.is_empty() || receipt.details == known.details);
        }
    }
}

/// Replaces one field by what the input goes on with.
fn change(file: &mut ProofFile, which: u8, input: &mut Input<'_>) {
    let receipt = file.receipts.first_mut();
    match which % 10 {
        0 => file.envelope.bytes = input.counted().to_vec(),
        1 => file.ciphertext = Some(input.counted().to_vec()),
        2 => file.receipts.truncate(input.byte().into()),
        3 => receipt.into_iter().for_each(|receipt| receipt.item.bytes = input.counted().to_vec()),
        4 => receipt.into_iter().for_each(|receipt| receipt.details = input.counted().to_vec()),
        5 => file.rosters.iter_mut().for_each(|roster| roster.note = input.counted().to_vec()),
        6 => leaf(&mut file.envelope.leaf, input),
        7 => receipt.into_iter().for_each(|receipt| leaf(&mut receipt.item.leaf, input)),
        8 => file.rosters.iter_mut().filter_map(|roster| roster.leaf.as_mut()).for_each(|at| leaf(at, input)),
        _ => {
            file.envelope.signature.index = input.byte();
            file.envelope.signature.count = input.byte();
        }
    }
}

fn leaf(leaf: &mut LeafProof, input: &mut Input<'_>) {
    match input.byte() % 4 {
        0 => leaf.index = input.short().into(),
        1 => leaf.extra = Some(input.counted().to_vec()),
        2 => leaf.checkpoint = String::from_utf8_lossy(input.counted()).into_owned(),
        _ => {
            let hashes = input.counted().as_chunks::<HASH_BYTES>().0;
            leaf.path = hashes.iter().copied().map(Hash).collect();
        }
    }
}
