use super::*;
use crate::{
    batch::Verifier,
    desk::link::{
        tests::world::{MOD, MYS, hash_of, item},
        verify::{Judge, Unproven},
    },
    keys::SigningKey,
    merkle::Hash,
    roster::SignKeys,
    wire::{
        Position, Role,
        receipt::{ReceiptItem, ReceiptKind, SetAsideReason},
    },
};
use bytes::Bytes;

fn delivery(world: &World, frame: pb::Deliver) -> Result<Result<(), SetAsideReason>, Unproven> {
    let mut verifier = Verifier::new(4);
    judge(world, &keys(world), &mut verifier).delivery(frame).map(|delivery| delivery.checked)
}

fn receipt(world: &World, frame: pb::Receipt) -> Result<(), Unproven> {
    let mut verifier = Verifier::new(4);
    judge(world, &keys(world), &mut verifier).receipt(frame).map(|_| ())
}

fn judge<'a>(world: &'a World, keys: &'a SignKeys, verifier: &'a mut Verifier) -> Judge<'a> {
    Judge { roster: &world.roster, keys, own: IDN, verifier }
}

/// Of the world's roster alone.
fn keys(world: &World) -> SignKeys {
    let mut keys = SignKeys::default();
    keys.push(&world.roster);
    keys
}

#[test]
fn a_sound_envelope_comes_with_its_name_and_our_role() {
    let world = World::new();
    let core = world.core(MOD, IDN, 1);
    let frame = world.deliver(MOD, &core, 70);
    let mut verifier = Verifier::new(4);
    let delivery = judge(&world, &keys(&world), &mut verifier).delivery(frame);
    let delivery = delivery.expect("an envelope for us");
    assert_eq!(delivery.checked, Ok(()));
    assert_eq!((delivery.position, delivery.role), (Position(70), Role::To));
    assert_eq!(delivery.envelope_hash, hash_of(&world.submits(MOD, &[core])[0]));
}

#[test]
fn an_envelope_that_another_key_signed_is_set_aside() {
    let world = World::new();
    let core = world.core(MOD, IDN, 1);
    assert_eq!(delivery(&world, world.deliver(MYS, &core, 70)), Ok(Err(SetAsideReason::BadSignature)));
    let unsigned = pb::Deliver { proof: None, ..world.deliver(MOD, &core, 70) };
    assert_eq!(delivery(&world, unsigned), Ok(Err(SetAsideReason::BadSignature)));
}

#[test]
fn parts_that_the_header_does_not_name_are_set_aside() {
    let world = World::new();
    let sound = || world.deliver(MOD, &world.core(MOD, IDN, 1), 70);
    let other = |byte: u8| Bytes::from(vec![byte; 32]);
    for broken in [
        pb::Deliver { wrap_path: other(1), ..sound() },
        pb::Deliver { wrap_path: Bytes::new(), ..sound() },
        pb::Deliver { wrap: other(2), ..sound() },
        pb::Deliver { wrap_generation: 1, ..sound() },
        pb::Deliver { wrap_index: 1, ..sound() },
        pb::Deliver { ciphertext: other(3), ..sound() },
        pb::Deliver { opening: other(4), ..sound() },
    ] {
        assert_eq!(delivery(&world, broken.clone()), Ok(Err(SetAsideReason::Malformed)), "{broken:?}");
    }
}

/// FAULTS 84: foreign.
#[test]
fn the_wrap_of_another_addressee_is_set_aside() {
    let world = World::new();
    let of_mys = world.deliver_to(1, MOD, &world.core(MOD, IDN, 1), 70);
    assert_eq!(delivery(&world, of_mys), Ok(Err(SetAsideReason::Malformed)));
}

#[test]
fn a_sender_that_the_same_roster_does_not_allow_is_set_aside() {
    let world = World::new();
    let mut core = world.core(MOD, IDN, 1);
    core.topic = "cyber".into();
    assert_eq!(delivery(&world, world.deliver(MOD, &core, 70)), Ok(Err(SetAsideReason::NotPermitted)));
    let mut core = world.core(MOD, IDN, 1);
    core.label = "RESTRICTED".into();
    assert_eq!(delivery(&world, world.deliver(MOD, &core, 70)), Ok(Err(SetAsideReason::NotPermitted)));
    core.roster_version = 7;
    assert_eq!(
        delivery(&world, world.deliver(MOD, &core, 70)),
        Ok(Ok(())),
        "another roster may have allowed it"
    );
    let mut core = world.core(MOD, IDN, 1);
    core.sender = crate::roster::PartyNumber(99);
    assert_eq!(delivery(&world, world.deliver(MOD, &core, 70)), Ok(Err(SetAsideReason::NotPermitted)));
}

#[test]
fn what_is_not_addressed_to_us_or_cannot_be_read_is_no_delivery() {
    let world = World::new();
    let misrouted = world.deliver(MOD, &world.core(MOD, RELAY, 1), 70);
    assert!(delivery(&world, misrouted).is_err());
    let unreadable = pb::Deliver {
        header: Bytes::from_static(b"\xff"),
        ..world.deliver(MOD, &world.core(MOD, IDN, 1), 70)
    };
    assert!(delivery(&world, unreadable).is_err());
}

#[test]
fn each_step_is_believed_from_the_one_party_whose_word_counts() {
    let world = World::new();
    let refused = ReceiptItem { addressee: IDN, ..item(ReceiptKind::Refused, RELAY, IDN) };
    for (rightful, item) in [
        (MOD, item(ReceiptKind::Delivered, MOD, MOD)),
        (MOD, item(ReceiptKind::SetAside, MOD, MOD)),
        (MYS, item(ReceiptKind::Read, MYS, MYS)),
        (MYS, item(ReceiptKind::Acknowledged, MYS, MYS)),
        (RELAY, item(ReceiptKind::Expired, RELAY, MOD)),
        (RELAY, refused),
    ] {
        assert_eq!(receipt(&world, world.receipt(rightful, &item, 80)), Ok(()), "{item:?}");
        for wrong in [RELAY, MOD, IDN, MYS] {
            if wrong != rightful {
                assert!(receipt(&world, world.receipt(wrong, &item, 80)).is_err(), "{wrong} signed {item:?}");
                let claimed = ReceiptItem { receiptor: wrong, ..item.clone() };
                assert!(
                    receipt(&world, world.receipt(wrong, &claimed, 80)).is_err(),
                    "{wrong} claims {item:?}"
                );
            }
        }
    }
}

#[test]
fn a_receipt_for_another_sender_is_not_ours_but_expiry_concerns_the_addressee_too() {
    let world = World::new();
    let of_mys = |kind, receiptor, addressee| ReceiptItem { sender: MYS, ..item(kind, receiptor, addressee) };
    let delivered = of_mys(ReceiptKind::Delivered, MOD, MOD);
    assert!(receipt(&world, world.receipt(MOD, &delivered, 80)).is_err());
    let expired = of_mys(ReceiptKind::Expired, RELAY, IDN);
    assert_eq!(receipt(&world, world.receipt(RELAY, &expired, 80)), Ok(()));
}

#[test]
fn a_receipt_whose_opening_names_another_batch_proves_nothing() {
    let world = World::new();
    let sound = world.receipt(MOD, &item(ReceiptKind::Delivered, MOD, MOD), 80);
    let opening = world::opening(crate::record::leaf::OpeningKind::Receipts, Hash([1; 32]));
    assert!(receipt(&world, pb::Receipt { opening, ..sound.clone() }).is_err());
    let details = Bytes::from_static(b"not in the item");
    assert!(receipt(&world, pb::Receipt { details, ..sound }).is_err());
}

/// MOD's key is another from version 2 on; openings of the world say version 1.
#[test]
fn what_waited_while_a_key_was_replaced_is_held_against_the_key_of_its_own_time() {
    let world = World::new();
    let new_key = SigningKey::generate().expect("random bytes").public();
    let note = world.next_note(|draft| {
        draft.revoked_keys.push(draft.parties[1].sign);
        draft.parties[1].sign = new_key;
    });
    let newer = crate::roster::verify_next(&note, &world.roster).expect("the next roster");
    let mut keys = keys(&world);
    keys.push(&newer);
    let mut verifier = Verifier::new(4);
    let mut judge = Judge { roster: &newer, keys: &keys, own: IDN, verifier: &mut verifier };
    let envelope = world.deliver(MOD, &world.core(MOD, IDN, 1), 70);
    let delivery = judge.delivery(envelope.clone()).expect("an envelope for us");
    assert_eq!(delivery.checked, Ok(()));
    let delivered = world.receipt(MOD, &item(ReceiptKind::Delivered, MOD, MOD), 80);
    assert!(judge.receipt(delivered.clone()).is_ok());

    let later = |opening: Bytes| {
        let mut opening = crate::record::leaf::Opening::decode(&opening).expect("the world's own");
        opening.roster_version = 2;
        Bytes::copy_from_slice(&opening.encode())
    };
    let envelope = pb::Deliver { opening: later(envelope.opening.clone()), ..envelope };
    let delivery = judge.delivery(envelope).expect("an envelope for us");
    assert_eq!(delivery.checked, Err(SetAsideReason::BadSignature), "the old key says nothing any more");
    let delivered = pb::Receipt { opening: later(delivered.opening.clone()), ..delivered };
    assert!(judge.receipt(delivered).is_err());
}
