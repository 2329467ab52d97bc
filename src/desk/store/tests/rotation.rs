//! A desk whose sign key was replaced: what the old key signed and nobody answered goes out under the new one.

use super::*;

/// Gives a party another sign key: the next roster is learnt by `desk`.
fn rotate(bloc: &Bloc, desk: &mut Desk) -> SigningKey {
    let new = SigningKey::generate().unwrap();
    let (roster, note) = bloc.next(|draft| {
        let party = draft.parties.iter_mut().find(|party| party.code == desk.code).unwrap();
        draft.revoked_keys.push(party.sign);
        party.sign = new.public();
    });
    desk.store.learn_roster(None, roster, &note).unwrap();
    new
}

#[test]
fn envelopes_keep_number_and_name_and_get_the_new_keys_signature() {
    let bloc = Bloc::new();
    let mut desk = bloc.desk("IDN");
    for n in 0..70 {
        desk.send(dispatch("MOD", "routine", &format!("{n}")));
    }
    let sealed = [bloc.seal(&mut desk), bloc.seal(&mut desk)].concat();
    let new = rotate(&bloc, &mut desk);
    let again = resent(desk.store.welcome(welcome_facts(0, 0), &new, now())).submits;
    assert_eq!(again.len(), 70);
    let mut verifier = Verifier::new(4);
    for (before, after) in sealed.iter().zip(&again) {
        assert_eq!((before.number, hash(before)), (after.number, hash(after)));
        VerifiedEnvelope::verify(&after.submit, DOMAIN, &new.public(), &mut verifier).unwrap();
    }
    assert_eq!(verifier.signatures_verified(), 2, "in batches of at most 64");
    assert_eq!(desk.store.unanswered().unwrap(), again, "durable as they go out");
    assert_eq!(resent(desk.store.welcome(welcome_facts(0, 0), &new, now())).submits, again);
}

#[test]
fn a_stored_frame_keeps_number_and_items_and_gets_the_new_keys_signature() {
    let bloc = Bloc::new();
    let (mut idn, mut hub) = (bloc.desk("IDN"), bloc.desk("MOD"));
    idn.send(dispatch("MOD", "routine", "x"));
    let submit = bloc.seal(&mut idn).remove(0);
    hub.store.deliver(vec![bloc.delivery(&submit, "MOD", 7)], now()).unwrap();
    let before = hub.store.make_stored(bloc.sign("MOD"), now()).unwrap().unwrap();
    let new = rotate(&bloc, &mut hub);
    let after = resent(hub.store.welcome(welcome_facts(0, 0), &new, now())).stored;
    assert_eq!((&after[0].items, after[0].number), (&before.items, before.number));
    VerifiedReceipts::verify(after[0].clone(), DOMAIN, &new.public()).unwrap();
    assert_eq!(hub.store.unanswered_stored().unwrap(), after, "durable as it goes out");
}

#[test]
fn with_the_same_key_the_same_bytes_go_out() {
    let bloc = Bloc::new();
    let (mut idn, mut hub) = (bloc.desk("IDN"), bloc.desk("MOD"));
    idn.send(dispatch("MOD", "routine", "1"));
    idn.send(dispatch("MOD", "routine", "2"));
    let sealed = bloc.seal(&mut idn);
    idn.store.accepted(vec![accepted(&sealed[0], 7)], now()).unwrap();
    let again = resent(idn.store.welcome(welcome_facts(1, 0), bloc.sign("IDN"), now()));
    assert_eq!(again.submits, sealed[1..], "also where the rest of the batch was answered");
    hub.store.deliver(vec![bloc.delivery(&sealed[0], "MOD", 7)], now()).unwrap();
    let stored = hub.store.make_stored(bloc.sign("MOD"), now()).unwrap().unwrap();
    let again = resent(hub.store.welcome(welcome_facts(0, 0), bloc.sign("MOD"), now()));
    assert_eq!(again.stored, [stored]);
}

#[test]
fn an_envelope_refused_for_its_signature_is_sealed_again() {
    let bloc = Bloc::new();
    let mut desk = bloc.desk("IDN");
    desk.send(dispatch("MOD", "routine", "x"));
    let sealed = bloc.seal(&mut desk);
    desk.store.refused(refused(&sealed[0], pb::RefusalCode::BadSignature), now()).unwrap();
    let again = bloc.seal(&mut desk);
    assert_eq!((again[0].number, core(&again[0]).id), (2, core(&sealed[0]).id));
}

#[test]
fn a_store_that_is_opened_again_knows_the_keys_of_all_its_rosters() {
    let bloc = Bloc::new();
    let mut desk = bloc.desk("IDN");
    let (old, new) = (bloc.sign("IDN").public(), rotate(&bloc, &mut desk).public());
    let desk = desk.killed(&bloc);
    let (keys, idn) = (desk.store.facts().unwrap().keys, bloc.number("IDN"));
    assert_eq!([0, 1, 2, 9].map(|version| *keys.at(idn, version).unwrap()), [old, old, new, new]);
    assert_eq!(keys.at(PartyNumber(99), 1), None);
}
