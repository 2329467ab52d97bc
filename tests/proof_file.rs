//! The proof file of a dispatch: what it proves, what it does not, and that nothing in it can be changed.

#![expect(clippy::unwrap_used, reason = "a test that cannot set up its world has failed")]

#[allow(dead_code, reason = "shared with tests/audit.rs")]
#[path = "audit/bloc.rs"]
mod bloc;
#[allow(dead_code, reason = "shared with tests/audit_commands.rs")]
#[path = "audit/dispatch.rs"]
mod dispatch;

use std::thread;

use dispatch::{Change, IDN, MOD, MYS, PLACE, Plan, RELAY, World};
use pouch::{
    audit::{
        KeyInForce, Outcome, Part, ProofFault, ProofFile, ProofFileError, Revocation, Ruling, Standing,
        check, sift,
    },
    limits::PROOF_FILE_BYTES_MAX,
    merkle::{Hash, sha256},
    roster::{PartyNumber, RosterDraft, Status, TrustBundle},
    wire::{
        Position,
        order::OrderKind,
        receipt::{ReceiptItem, ReceiptKind},
    },
};

fn by_agreement(first: u32, last: u32) -> KeyInForce {
    KeyInForce::ByAgreement { first, last }
}

fn kinds(proven: &pouch::audit::ProvenDispatch) -> Vec<(u32, ReceiptKind)> {
    proven.receipts.iter().map(|receipt| (receipt.item.receiptor.0, receipt.item.kind)).collect()
}

#[test]
fn a_file_proves_sender_place_time_and_receipts_under_a_quorum() {
    let world = World::new(Plan::default());
    let file = world.file();
    assert_eq!(file.to_string().parse::<ProofFile>().unwrap(), file);
    let proven = check(&file, Some(&world.bloc.trust), None).unwrap();
    assert_eq!((proven.core.sender, proven.core.id.0), (IDN, [1; 16]));
    assert_eq!((proven.leaf.position, proven.leaf.witnesses, proven.leaf.quorum), (PLACE, 3, 2));
    assert_eq!(
        kinds(&proven),
        [
            (MOD.0, ReceiptKind::Delivered),
            (MYS.0, ReceiptKind::Delivered),
            (MOD.0, ReceiptKind::Acknowledged)
        ]
    );
    assert!(proven.receipts[2].details.ends_with(b"Coast guard informed"));
    assert_eq!(proven.key_in_force, by_agreement(1, 1));
    assert!(proven.has_content && proven.revoked_since.is_empty());
    assert_eq!(proven.codes[&IDN], "IDN");

    let bare = ProofFile { ciphertext: None, receipts: Vec::new(), ..file };
    let proven = check(&bare, Some(&world.bloc.trust), None).unwrap();
    assert!(!proven.has_content);
    assert_eq!(
        proven.key_in_force,
        KeyInForce::Unproven { header: 1, opening: 1 },
        "no addressee names the roster"
    );
}

/// Of two witnesses both are needed, so no place of the file may be ignored.
#[test]
fn every_flipped_bit_of_a_file_is_caught() {
    let world = World::new(Plan { missions: &["IDN", "MYS"], ..Plan::default() });
    let mut file = world.file();
    file.receipts.truncate(1);
    assert!(check(&file, Some(&world.bloc.trust), None).is_ok());
    let text = file.to_string();
    let is_caught = |bit: usize| {
        let mut bytes = text.clone().into_bytes();
        bytes[bit / 8] ^= 1 << (bit % 8);
        let flipped = String::from_utf8(bytes).ok().and_then(|text| text.parse::<ProofFile>().ok());
        flipped.is_none_or(|file| check(&file, Some(&world.bloc.trust), None).is_err())
    };
    let threads = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| {
        for first in 0..threads {
            let mut bits = (first..text.len() * 8).step_by(threads);
            scope.spawn(move || assert_eq!(bits.find(|bit| !is_caught(*bit)), None, "a bit"));
        }
    });
}

#[test]
fn a_witness_that_is_not_needed_may_be_missing_and_none_that_is() {
    let world = World::new(Plan::default());
    let whole = world.file().to_string();
    let witness = |line: &&str| line.starts_with("— bloc.example/mission/");
    let without = |names: &[&str]| {
        let is_kept = |line: &&str| !(witness(line) && names.iter().any(|name| line.contains(name)));
        let lines: Vec<_> = whole.split_inclusive('\n').filter(is_kept).collect();
        check(&lines.concat().parse().unwrap(), Some(&world.bloc.trust), None)
    };
    assert_eq!(without(&["/phl "]).map(|proven| proven.leaf.witnesses), Ok(2));
    let fault = without(&["/phl ", "/mys "]).unwrap_err();
    assert_eq!(fault, ProofFault::Unwitnessed { part: Part::Roster(1), found: 1, quorum: 2 });
}

#[test]
fn a_forged_file_that_brings_its_own_log_witnesses_and_roster_proves_nothing() {
    let (world, forger) = (World::new(Plan::default()), World::new(Plan::default()));
    let forged = forger.file();
    assert!(check(&forged, Some(&forger.bloc.trust), None).is_ok(), "consistent with itself");
    assert!(check(&forged, None, None).is_ok(), "consistent with itself");
    let fault = check(&forged, Some(&world.bloc.trust), None).unwrap_err();
    assert!(matches!(fault, ProofFault::Roster { version: 1, .. }), "{fault}");
    // The right roster, and all else forged.
    let mut mixed = forged;
    mixed.rosters = world.file().rosters;
    let fault = check(&mixed, Some(&world.bloc.trust), None).unwrap_err();
    assert!(!fault.is_lack(), "{fault}");
    // The right roster and leaves, with an envelope of the forger's.
    let mut mixed = world.file();
    mixed.envelope.bytes = forger.file().envelope.bytes;
    mixed.envelope.signature = forger.file().envelope.signature;
    let fault = check(&mixed, Some(&world.bloc.trust), None).unwrap_err();
    assert!(matches!(fault, ProofFault::Wrong { part: Part::Envelope, .. }), "{fault}");
}

#[test]
fn parts_of_other_dispatches_and_signers_are_refused() {
    let trust = |world: &World| world.bloc.trust.clone();
    let plan = Plan::default();
    let mut world = World::new(Plan::default());
    let named = ReceiptItem::decode(&world.file().receipts[0].item.bytes).unwrap().envelopes;
    let item = |kind, by| ReceiptItem::own(kind, by, IDN, 1, 1, named.clone());
    let elsewhere = ReceiptItem {
        envelopes: vec![(named[0].0, pouch::wire::Position(9))],
        ..item(ReceiptKind::Read, MOD)
    };
    let forged: [(&str, ReceiptItem); 5] = [
        ("MYS", item(ReceiptKind::Acknowledged, MOD)),
        ("PHL", item(ReceiptKind::Delivered, pouch::roster::PartyNumber(5))),
        ("MOD", elsewhere),
        ("MOD", ReceiptItem { addressee: MYS, ..item(ReceiptKind::Read, MOD) }),
        ("MOD", item(ReceiptKind::Expired, MOD)),
    ];
    for (by, item) in forged {
        let what = format!("{by}: {item:?}");
        let before = world.file().receipts.len();
        world.receipts(&plan, by, vec![(item, Vec::new())]);
        let mut file = world.file();
        let last = file.receipts.pop().unwrap();
        file.receipts.truncate(3);
        file.receipts.push(last);
        assert!(before > 2);
        let fault = check(&file, Some(&trust(&world)), None).unwrap_err();
        let part = match fault {
            ProofFault::Wrong { part, .. } | ProofFault::Signature { part, .. } => part,
            other => panic!("{what}: {other}"),
        };
        assert_eq!(part, Part::Receipt(4), "{what}");
    }
    let file = world.file();
    let whole = || ProofFile { receipts: file.receipts[..3].to_vec(), ..file.clone() };
    let mut other = whole();
    other.receipts[2].details[40] ^= 1;
    assert!(matches!(
        check(&other, Some(&trust(&world)), None),
        Err(ProofFault::Wrong { part: Part::Receipt(3), .. })
    ));
    let mut other = whole();
    other.ciphertext.as_mut().unwrap()[0] ^= 1;
    assert!(matches!(
        check(&other, Some(&trust(&world)), None),
        Err(ProofFault::Wrong { part: Part::Content, .. })
    ));
    let mut other = whole();
    other.receipts[0].item.leaf = other.receipts[1].item.leaf.clone();
    assert!(matches!(
        check(&other, Some(&trust(&world)), None),
        Err(ProofFault::Wrong { part: Part::Receipt(1), .. })
    ));
    let mut other = whole();
    other.envelope.leaf.index += 1;
    assert!(matches!(
        check(&other, Some(&trust(&world)), None),
        Err(ProofFault::Leaf { part: Part::Envelope, .. })
    ));
}

/// Whoever acknowledged a note must not be able to deny it by signing something that does not fit.
#[test]
fn receipts_that_do_not_fit_take_no_proof_away_from_those_that_do() {
    let plan = Plan::default();
    let mut world = World::new(Plan::default());
    let named = ReceiptItem::decode(&world.file().receipts[0].item.bytes).unwrap().envelopes;
    let item = |kind, by| ReceiptItem::own(kind, by, IDN, 1, 1, named.clone());
    let elsewhere = vec![(named[0].0, Position(9))];
    let misfits = [
        ("MOD", ReceiptItem { envelopes: elsewhere, ..item(ReceiptKind::Read, MOD) }),
        ("PHL", item(ReceiptKind::Acknowledged, PartyNumber(5))),
    ];
    for (by, item) in misfits {
        world.receipts(&plan, by, vec![(item, Vec::new())]);
    }
    let mut file = world.file();
    let is_misfit = |receipt: &pouch::audit::FiledReceipt| {
        let item = ReceiptItem::decode(&receipt.item.bytes).unwrap();
        item.receiptor == PartyNumber(5) || item.kind == ReceiptKind::Read
    };
    file.receipts.sort_by_key(|receipt| !is_misfit(receipt));
    // Said twice, it is filed once.
    file.receipts.push(file.receipts[4].clone());
    assert_eq!((file.receipts.len(), check(&file, Some(&world.bloc.trust), None).is_err()), (6, true));
    assert_eq!(sift(&mut file, &world.bloc.trust), Ok(vec![0, 1]));
    let proven = check(&file, Some(&world.bloc.trust), None).unwrap();
    let expected =
        [(MOD, ReceiptKind::Delivered), (MYS, ReceiptKind::Delivered), (MOD, ReceiptKind::Acknowledged)];
    assert_eq!(kinds(&proven), expected.map(|(party, kind)| (party.0, kind)));
    file.envelope.leaf.index += 1;
    assert!(sift(&mut file, &world.bloc.trust).is_err(), "nothing holds of a dispatch that does not");
}

#[test]
fn too_few_witnesses_prove_nothing() {
    let world = World::new(Plan::default());
    let mut file = world.file();
    file.envelope.leaf.checkpoint = world.checkpoint(1);
    let fault = check(&file, Some(&world.bloc.trust), None).unwrap_err();
    assert_eq!(fault, ProofFault::Unwitnessed { part: Part::Envelope, found: 1, quorum: 2 });
    assert!(fault.is_lack());
    let mut file = world.file();
    file.rosters[0].leaf = None;
    assert!(matches!(
        check(&file, Some(&world.bloc.trust), None),
        Err(ProofFault::Unlisted { part: Part::Envelope })
    ));
}

fn unchanged(_: &mut RosterDraft) {}

fn revoke_idn(draft: &mut RosterDraft) {
    draft.parties.iter_mut().find(|party| party.number == IDN).unwrap().status = Status::Revoked;
}

fn new_log(draft: &mut RosterDraft) {
    draft.log.origin = "relay.bloc.example/log-2".into();
    draft.log.keys = vec![bloc::key().vkey(&draft.log.origin).unwrap()];
}

fn suspend_mod(draft: &mut RosterDraft) {
    draft.parties.iter_mut().find(|party| party.number == MOD).unwrap().status = Status::Suspended;
}

fn bundle(world: &World, version: usize) -> TrustBundle {
    TrustBundle::naming(&world.rosters[version - 1], Hash::ZERO)
}

#[test]
fn rosters_are_followed_forwards_by_signatures_and_backwards_by_hashes() {
    let later: Vec<Change> = vec![(true, unchanged), (false, unchanged), (false, unchanged)];
    let world = World::new(Plan { header: 2, opening: 2, receipt: 2, later, ..Plan::default() });
    let file = world.file();
    for version in 1..=4 {
        let proven = check(&file, Some(&bundle(&world, version)), None).unwrap();
        assert_eq!((proven.newest_roster, proven.key_in_force), (4, by_agreement(2, 2)), "{version}");
    }
    // Backwards the hash alone counts, so a bit of an old roster is seen too.
    let mut other = file.clone();
    let note = &mut other.rosters[0].note;
    let at = note.len() - 10;
    note[at] ^= 1;
    let fault = check(&other, Some(&bundle(&world, 4)), None).unwrap_err();
    assert!(matches!(fault, ProofFault::Roster { version: 1, .. }), "{fault}");

    let mut short = file.clone();
    short.rosters.pop();
    let fault = check(&short, Some(&bundle(&world, 4)), None).unwrap_err();
    assert_eq!(fault, ProofFault::OtherBundle { version: 4, first: 1, last: 3 });
    assert!(fault.is_lack());
    assert!(
        check(&short, Some(&bundle(&world, 4)), Some(&world.facts(&short))).is_ok(),
        "the log has the fourth"
    );
    let mut late = file.clone();
    late.rosters.drain(..2);
    let fault = check(&late, Some(&bundle(&world, 4)), None).unwrap_err();
    assert!(fault.is_lack(), "{fault}");
}

#[test]
fn a_dispatch_of_a_log_that_ended_stays_proven_by_the_rosters_that_named_it() {
    let later: Vec<Change> = vec![(false, new_log), (false, unchanged)];
    let world = World::new(Plan { later, ..Plan::default() });
    let proven = check(&world.file(), Some(&world.bloc.trust), None).unwrap();
    assert_eq!((proven.newest_roster, proven.leaf.witnesses), (3, 3));
}

#[test]
fn a_later_revocation_is_always_shown() {
    let later: Vec<Change> = vec![(false, suspend_mod), (false, revoke_idn)];
    let world = World::new(Plan { later, ..Plan::default() });
    let proven = check(&world.file(), Some(&world.bloc.trust), None).unwrap();
    let shown = |party, standing, version| Revocation { party, standing, by: Ruling::Roster(version) };
    assert_eq!(proven.revoked_since, [shown(MOD, Standing::Suspended, 2), shown(IDN, Standing::Revoked, 3)]);
    assert_eq!(proven.key_in_force, by_agreement(1, 1));
    // A file that leaves the revocation out is found out with the log.
    let mut silent = world.file();
    silent.rosters.truncate(1);
    assert_eq!(check(&silent, Some(&world.bloc.trust), None).unwrap().revoked_since, []);
    let facts = world.facts(&silent);
    let proven = check(&silent, Some(&world.bloc.trust), Some(&facts)).unwrap();
    assert_eq!((proven.revoked_since.len(), proven.key_in_force), (2, KeyInForce::ByLog(1)));
}

#[test]
fn a_key_is_in_force_only_where_three_agree_or_the_log_shows_it() {
    let one: Vec<Change> = vec![(true, unchanged)];
    for (header, opening, receipt, expected) in [
        (2, 2, 2, by_agreement(2, 2)),
        (1, 2, 2, by_agreement(1, 2)),
        (2, 2, 1, KeyInForce::Unproven { header: 2, opening: 2 }),
        // The relay judged by an older roster than stands before the envelope: one was on its way.
        (1, 1, 1, by_agreement(1, 2)),
        (1, 1, 2, by_agreement(1, 2)),
    ] {
        let world = World::new(Plan { header, opening, receipt, later: one.clone(), ..Plan::default() });
        let file = world.file();
        let proven = check(&file, Some(&world.bloc.trust), None).unwrap();
        assert_eq!(proven.key_in_force, expected, "{header} {opening} {receipt}");
        let proven = check(&file, Some(&world.bloc.trust), Some(&world.facts(&file))).unwrap();
        assert_eq!(proven.key_in_force, KeyInForce::ByLog(2), "the same key under both");
    }
    let revoked: Vec<Change> = vec![(true, revoke_idn)];
    let world = World::new(Plan { later: revoked, ..Plan::default() });
    let file = world.file();
    let proven = check(&file, Some(&world.bloc.trust), Some(&world.facts(&file))).unwrap();
    assert_eq!(
        proven.key_in_force,
        KeyInForce::Unproven { header: 1, opening: 1 },
        "revoked before it was accepted"
    );
    let world = World::new(Plan { opening: 2, later: vec![(false, unchanged)], ..Plan::default() });
    let fault = check(&world.file(), Some(&world.bloc.trust), None).unwrap_err();
    assert!(matches!(fault, ProofFault::Wrong { part: Part::Envelope, .. }), "from the future: {fault}");
}

#[test]
fn a_file_proves_that_the_relay_refused_and_by_whose_word_why() {
    let world = World::new(Plan { is_refused: true, ..Plan::default() });
    let file = world.file();
    let proven = check(&file, Some(&world.bloc.trust), None).unwrap();
    assert_eq!((proven.outcome, proven.leaf.position), (Outcome::Refused, PLACE));
    assert_eq!(kinds(&proven), [(RELAY.0, ReceiptKind::Refused)]);
    assert_eq!(proven.key_in_force, KeyInForce::Unproven { header: 1, opening: 1 }, "no addressee says so");
    let proven = check(&file, Some(&world.bloc.trust), Some(&world.facts(&file))).unwrap();
    assert_eq!(proven.key_in_force, KeyInForce::ByLog(1));

    // No addressee can have had it, and a refusal is nobody's but the relay's.
    let mut world = World::new(Plan { is_refused: true, ..Plan::default() });
    let plan = Plan::default();
    let refusal = ReceiptItem::decode(&file.receipts[0].item.bytes).unwrap();
    let (hash, _) = ReceiptItem::decode(&world.file().receipts[0].item.bytes).unwrap().envelopes[0];
    let of = |position| vec![(hash, position)];
    let delivered = ReceiptItem::own(ReceiptKind::Delivered, MOD, IDN, 1, 1, of(Position(PLACE)));
    let by_hub = ReceiptItem { receiptor: MOD, envelopes: of(Position::NONE), ..refusal };
    for (item, problem) in
        [(delivered, "what was refused has no such receipt"), (by_hub, "its signer may give no such receipt")]
    {
        world.receipts(&plan, "MOD", vec![(item, Vec::new())]);
        let mut file = world.file();
        let last = file.receipts.pop().unwrap();
        file.receipts.truncate(1);
        file.receipts.push(last);
        let fault = check(&file, Some(&world.bloc.trust), None).unwrap_err();
        assert_eq!(fault, ProofFault::Wrong { part: Part::Receipt(2), problem });
    }
}

#[test]
fn suspensions_by_order_are_shown_where_the_log_is_at_hand_and_the_hub_gave_them() {
    let suspend = |party| OrderKind::Suspend { party, until_s: u64::MAX };
    let shown = |orders| {
        let world = World::new(Plan { orders, ..Plan::default() });
        let file = world.file();
        assert_eq!(check(&file, Some(&world.bloc.trust), None).unwrap().revoked_since, []);
        check(&file, Some(&world.bloc.trust), Some(&world.facts(&file))).unwrap().revoked_since
    };
    let by = |number, position, lifted_by| Revocation {
        party: IDN,
        standing: Standing::Suspended,
        by: Ruling::Order { number, position, until_s: u64::MAX, lifted_by },
    };
    assert_eq!(shown(vec![("MOD", suspend(IDN))]), [by(1, 7, None)]);
    let lift = OrderKind::Lift { party: IDN };
    assert_eq!(shown(vec![("MOD", suspend(IDN)), ("MOD", lift)]), [by(1, 7, Some(2))]);
    assert_eq!(shown(vec![("MOD", suspend(PartyNumber(5)))]), [], "signed nothing of it");
    assert_eq!(shown(vec![("MYS", suspend(IDN))]), [], "the hub gave no such order");
}

#[test]
fn the_relays_word_counts_by_the_key_that_it_got_since() {
    fn new_relay_key(draft: &mut RosterDraft) {
        let relay = draft.parties.iter_mut().find(|party| party.number == RELAY).unwrap();
        relay.sign = bloc::key().public();
    }
    // It signed by its first key, and by none of those that it got.
    let later: Vec<Change> = vec![(false, new_relay_key), (false, new_relay_key)];
    let world = World::new(Plan { is_refused: true, later, ..Plan::default() });
    assert!(check(&world.file(), Some(&world.bloc.trust), None).is_ok());
    let later: Vec<Change> = vec![(true, new_relay_key), (true, new_relay_key)];
    let world =
        World::new(Plan { is_refused: true, header: 2, opening: 2, receipt: 2, later, ..Plan::default() });
    let fault = check(&world.file(), Some(&world.bloc.trust), None).unwrap_err();
    assert!(matches!(fault, ProofFault::Signature { part: Part::Receipt(1), .. }), "{fault}");
}

#[test]
fn a_whole_log_shows_what_a_file_alone_cannot() {
    let world = World::new(Plan::default());
    let file = world.file();
    let facts = world.facts(&file);
    assert_eq!(
        check(&file, Some(&world.bloc.trust), Some(&facts)).unwrap().key_in_force,
        KeyInForce::ByLog(1)
    );
    let mut other = facts.clone();
    other.leaves.insert(PLACE, sha256(b"another leaf"));
    let fault = check(&file, Some(&world.bloc.trust), Some(&other)).unwrap_err();
    assert_eq!(fault, ProofFault::OtherLeaf { part: Part::Envelope, index: PLACE });
    let renamed = pouch::audit::LogFacts { origin: "another.example/log".into(), ..facts.clone() };
    let fault = check(&file, Some(&world.bloc.trust), Some(&renamed)).unwrap_err();
    assert!(matches!(fault, ProofFault::OtherLog { part: Part::Roster(1) }) && fault.is_lack(), "{fault}");
    let mut older = facts;
    older.leaves.remove(&PLACE);
    let fault = check(&file, Some(&world.bloc.trust), Some(&older)).unwrap_err();
    assert!(matches!(fault, ProofFault::LogTooShort { index: PLACE, .. }) && fault.is_lack(), "{fault}");
}

#[test]
fn a_file_has_one_form_and_bounds() {
    let text = World::new(Plan::default()).file().to_string();
    let refused = |text: &str| text.parse::<ProofFile>().unwrap_err();
    for (from, to) in [
        ("count = 1", "count =  1"),
        ("count = 1", "count = 0x1"),
        ("[envelope]", "# a remark\n[envelope]"),
        ("index = 0\n", ""),
        ("format = \"pouch-proof/v1\"", "format = \"pouch-proof/v2\""),
        ("[content]", "[more]\nof = 1\n\n[content]"),
        ("version = 1", "version = 1\nname = \"x\""),
        ("path = []", "path = [\"AA==\"]"),
        ("extra ", "extro "),
    ] {
        assert!(text.contains(from), "{from}");
        let error = refused(&text.replacen(from, to, 1));
        assert!(error.to_string().ends_with("from whoever made it"), "{error}");
    }
    refused(&text.replace('\n', "\r\n"));
    assert!(matches!(refused("a = \n"), ProofFileError::Form { line: 1, .. }));
    assert_eq!(refused(&"#".repeat(PROOF_FILE_BYTES_MAX + 1)), ProofFileError::TooLong);
    let receipts: Vec<&str> = text.split("\n[[").collect();
    let twice = format!("{}\n[[{}\n[[{}", receipts[0], receipts[1], receipts[1]);
    assert!(matches!(refused(&twice), ProofFileError::Field { .. }), "a receipt stands once");
}
