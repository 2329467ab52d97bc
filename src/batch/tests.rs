//! Tests of batch signatures, against independently computed vectors and by breaking each part.

use proptest::prelude::*;
use ring::signature::{Ed25519KeyPair, KeyPair};
use serde::Deserialize;

use super::*;

const DOMAIN: &str = "bloc.example";
const TAG: Tag = Tag::Envelope;

#[derive(Deserialize)]
struct Vector {
    trust_domain: String,
    tag: String,
    seed: u8,
    public_key: String,
    items: Vec<String>,
    leaves: Vec<String>,
    root: String,
    signed: String,
    signature: String,
    paths: Vec<Vec<String>>,
}

/// A signed batch as a sender would hold it.
struct Signed {
    key: PublicKey,
    leaves: Vec<Hash>,
    proofs: Vec<Proof>,
}

fn signed(seed: u8, tag: Tag, count: usize) -> Signed {
    let pair = Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).unwrap();
    let leaves: Vec<Hash> = (0..count).map(|i| item_leaf(tag, format!("item {i}").as_bytes())).collect();
    let tree = merkle::Tree::new(&leaves);
    let count = count as u8;
    let signature = pair.sign(&signed_bytes(DOMAIN, tag, count, &tree.root()));
    let signature: [u8; 64] = signature.as_ref().try_into().unwrap();
    let proof = |index: u8| Proof { count, index, path: tree.inclusion_path(index.into()), signature };
    Signed {
        key: PublicKey::checked(pair.public_key().as_ref()).unwrap(),
        proofs: (0..count).map(proof).collect(),
        leaves,
    }
}

fn hex(text: &str) -> Vec<u8> {
    data_encoding::HEXLOWER.decode(text.as_bytes()).unwrap()
}

#[test]
fn leaves_signed_bytes_and_signatures_equal_those_computed_elsewhere() {
    let vectors: Vec<Vector> = serde_json::from_str(include_str!("../../tests/vectors/batch.json")).unwrap();
    for vector in vectors {
        let tag = ALL_TAGS.into_iter().find(|tag| tag.as_str() == vector.tag).unwrap();
        let leaves: Vec<Hash> = vector.items.iter().map(|item| item_leaf(tag, &hex(item))).collect();
        let root = merkle::root(&leaves);
        let count = leaves.len() as u8;
        let signed = signed_bytes(&vector.trust_domain, tag, count, &root);
        assert_eq!(leaves.iter().map(Hash::to_string).collect::<Vec<_>>(), vector.leaves);
        assert_eq!(root.to_string(), vector.root);
        assert_eq!(signed, hex(&vector.signed));
        let pair = Ed25519KeyPair::from_seed_unchecked(&[vector.seed; 32]).unwrap();
        assert_eq!(pair.sign(&signed).as_ref(), hex(&vector.signature));

        let key: PublicKey = vector.public_key.parse().unwrap();
        let mut verifier = Verifier::new(1);
        for (index, path) in vector.paths.iter().enumerate() {
            let (path, signature) = (hex(&path.concat()), hex(&vector.signature));
            let proof = Proof::from_parts(count.into(), index as u32, &path, &signature).unwrap();
            assert_eq!(verifier.verify(&vector.trust_domain, tag, &key, leaves[index], &proof), Ok(()));
            assert_eq!(proof.path_bytes(), path);
        }
        let signature: [u8; 64] = hex(&vector.signature).try_into().unwrap();
        assert_eq!(verify_whole(&vector.trust_domain, tag, &key, &leaves, &signature), Ok(root));
    }
}

#[test]
fn a_batch_costs_one_signature_verification_in_any_order_of_its_items() {
    for count in 1..=BATCH_ITEMS_MAX {
        let batch = signed(1, TAG, count);
        for backwards in [false, true] {
            let mut verifier = Verifier::new(1);
            for step in 0..count {
                let at = if backwards { count - 1 - step } else { step };
                let verified = verifier.verify(DOMAIN, TAG, &batch.key, batch.leaves[at], &batch.proofs[at]);
                assert_eq!(verified, Ok(()), "item {at} of {count}");
            }
            assert_eq!(verifier.signatures_verified(), 1);
        }
    }
}

#[test]
fn the_oldest_batch_is_forgotten_first() {
    let batches = [signed(1, TAG, 3), signed(2, TAG, 3), signed(3, TAG, 3)];
    let mut verifier = Verifier::new(2);
    let mut verify = |batch: usize, item: usize| {
        let Signed { key, leaves, proofs } = &batches[batch];
        verifier.verify(DOMAIN, TAG, key, leaves[item], &proofs[item]).unwrap();
        verifier.signatures_verified()
    };
    assert_eq!([verify(0, 0), verify(1, 0), verify(0, 1), verify(1, 1)], [1, 2, 2, 2]);
    assert_eq!([verify(2, 0), verify(1, 2), verify(2, 2)], [3, 3, 3]);
    assert_eq!(verify(0, 2), 4, "batch 0 made room for batch 2");
}

#[test]
fn another_domain_tag_or_key_is_refused_also_when_the_batch_is_known() {
    let batch = signed(1, TAG, 5);
    let other = signed(2, TAG, 5).key;
    let mut verifier = Verifier::new(4);
    for _ in 0..2 {
        let (leaf, proof) = (batch.leaves[3], &batch.proofs[3]);
        assert_eq!(verifier.verify("mod.example", TAG, &batch.key, leaf, proof), Err(BatchError::Signature));
        assert_eq!(
            verifier.verify(DOMAIN, Tag::Receipt, &batch.key, leaf, proof),
            Err(BatchError::Signature)
        );
        assert_eq!(verifier.verify(DOMAIN, TAG, &other, leaf, proof), Err(BatchError::Signature));
        assert_eq!(verifier.verify(DOMAIN, TAG, &batch.key, leaf, proof), Ok(()));
    }
}

#[test]
fn failures_are_not_remembered() {
    let batch = signed(1, TAG, 2);
    let mut verifier = Verifier::new(1);
    for expected in 1..=3 {
        assert!(verifier.verify(DOMAIN, TAG, &batch.key, Hash::ZERO, &batch.proofs[0]).is_err());
        assert_eq!(verifier.signatures_verified(), expected);
    }
    assert_eq!(verifier.verify(DOMAIN, TAG, &batch.key, batch.leaves[0], &batch.proofs[0]), Ok(()));
}

#[test]
fn a_tag_is_part_of_the_leaf() {
    assert_ne!(item_leaf(Tag::Draft, b"item"), item_leaf(Tag::Release, b"item"));
}

#[test]
fn a_path_of_the_wrong_length_is_refused_for_every_place_of_every_count() {
    for count in 1..=64 {
        for index in 0..count {
            let exact = Climb::new(index.into(), count.into()).unwrap().path_hashes() * 32;
            for bytes in (0..=7 * 32).filter(|bytes| bytes % 16 == 0) {
                let made = Proof::from_parts(count, index, &vec![0; bytes], &[0; 64]);
                assert_eq!(made.is_ok(), bytes == exact, "{bytes} bytes for item {index} of {count}");
            }
        }
    }
}

#[test]
fn counts_indexes_and_signatures_out_of_bounds_are_refused() {
    let made = |count, index, signature: usize| Proof::from_parts(count, index, &[], &vec![0; signature]);
    assert!(made(1, 0, 64).is_ok());
    for count in [0, 65, 255, 256, u32::MAX] {
        assert_eq!(made(count, 0, 64), Err(BatchError::Count { count }));
    }
    for index in [1, 255, 256, u32::MAX] {
        assert_eq!(made(1, index, 64), Err(BatchError::Index { index, count: 1 }));
    }
    for bytes in [0, 63, 65] {
        assert_eq!(made(1, 0, bytes), Err(BatchError::SignatureLength { bytes }));
    }
}

#[test]
fn a_proof_built_by_hand_out_of_bounds_is_refused_and_no_panic() {
    let Signed { key, leaves, proofs } = signed(1, TAG, 4);
    let mut verifier = Verifier::new(1);
    verifier.verify(DOMAIN, TAG, &key, leaves[0], &proofs[0]).unwrap();
    for (count, index) in [(0, 0), (65, 0), (255, 254), (4, 4), (4, 255)] {
        let proof = Proof { count, index, ..proofs[0].clone() };
        assert!(verifier.verify(DOMAIN, TAG, &key, leaves[0], &proof).is_err(), "{index} of {count}");
    }
    let longer = Proof { path: vec![Hash::ZERO; 3], ..proofs[0].clone() };
    assert_eq!(verifier.verify(DOMAIN, TAG, &key, leaves[0], &longer), Err(BatchError::PathLength));
}

#[test]
fn a_whole_batch_of_none_or_too_many_is_refused() {
    let batch = signed(1, TAG, 64);
    let verify = |leaves: &[Hash]| verify_whole(DOMAIN, TAG, &batch.key, leaves, &batch.proofs[0].signature);
    assert_eq!(verify(&[]), Err(BatchError::Count { count: 0 }));
    assert_eq!(verify(&[Hash::ZERO; 65]), Err(BatchError::Count { count: 65 }));
    assert_eq!(verify(&batch.leaves[..63]), Err(BatchError::Signature));
    assert_eq!(verify(&batch.leaves), Ok(merkle::root(&batch.leaves)));
}

#[test]
fn keys_of_small_order_second_encodings_and_wrong_lengths_are_refused() {
    let mut key = [0; 32];
    assert_eq!(PublicKey::checked(&key), Err(KeyError::SmallOrder));
    key[31] = 0x80;
    assert_eq!(PublicKey::checked(&key), Err(KeyError::SmallOrder), "the sign of x changes nothing");
    let order_8 = hex("c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a");
    assert_eq!(PublicKey::checked(&order_8), Err(KeyError::SmallOrder));
    let mut above_the_prime = [0xff; 32];
    assert_eq!(PublicKey::checked(&above_the_prime), Err(KeyError::NotCanonical));
    above_the_prime[0] = 0xf0;
    assert_eq!(PublicKey::checked(&above_the_prime), Err(KeyError::NotCanonical));
    let mut below_the_prime = above_the_prime;
    below_the_prime[0] = 0xeb;
    assert_eq!(PublicKey::checked(&below_the_prime), Ok(PublicKey(below_the_prime)));
    assert_eq!(PublicKey::checked(&[9; 31]), Err(KeyError::Length { bytes: 31 }));
    assert_eq!("zz".parse::<PublicKey>(), Err(KeyError::Text));
}

/// Changes of one proof that must all be refused.
fn broken(proof: &Proof, bit: usize) -> Vec<Proof> {
    let flip = |bytes: &mut [u8]| bytes[bit / 8 % bytes.len()] ^= 1 << (bit % 8);
    let mut all = Vec::new();
    for at in 0..proof.path.len() {
        let mut other = proof.clone();
        flip(&mut other.path[at].0);
        all.push(other);
    }
    let mut other = proof.clone();
    flip(&mut other.signature);
    all.push(other);
    for index in (0..proof.count).filter(|index| *index != proof.index) {
        all.push(Proof { index, ..proof.clone() });
    }
    all
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn whatever_is_remembered_a_broken_proof_is_refused_and_a_good_one_accepted(
        count in 1usize..=64, known in prop::collection::vec(any::<prop::sample::Index>(), 0..6),
        pick in any::<prop::sample::Index>(), bit in 0usize..512,
    ) {
        let Signed { key, leaves, proofs } = signed(7, TAG, count);
        let mut verifier = Verifier::new(2);
        for index in known.iter().map(|known| known.index(count)) {
            prop_assert_eq!(verifier.verify(DOMAIN, TAG, &key, leaves[index], &proofs[index]), Ok(()));
        }
        let index = pick.index(count);
        for proof in broken(&proofs[index], bit) {
            prop_assert!(verifier.verify(DOMAIN, TAG, &key, leaves[index], &proof).is_err());
        }
        let mut wrong = leaves[index];
        wrong.0[bit % 32] ^= 1;
        prop_assert!(verifier.verify(DOMAIN, TAG, &key, wrong, &proofs[index]).is_err());
        prop_assert_eq!(verifier.verify(DOMAIN, TAG, &key, leaves[index], &proofs[index]), Ok(()));
    }
}

const ALL_TAGS: [Tag; 13] = [
    Tag::Envelope,
    Tag::Receipt,
    Tag::Prekey,
    Tag::Hello,
    Tag::Note,
    Tag::Person,
    Tag::Renewal,
    Tag::Order,
    Tag::EnrolAnswer,
    Tag::Draft,
    Tag::Release,
    Tag::OrderPerson,
    Tag::EnrolRequest,
];
