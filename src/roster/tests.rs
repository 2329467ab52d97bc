//! Tests of the roster: what one version is checked for, the chain of versions, and who may do what.

use jiff::civil::{date, time};
use ring::signature::{Ed25519KeyPair, KeyPair};

use super::*;
use crate::batch::{KeyError, PublicKey};
use crate::limits::{ROSTER_BYTES_MAX, ROSTER_PARTIES_MAX, ROSTER_WITNESSES_MAX};
use crate::merkle::sha256;
use crate::note::{KeyKind, Note, NoteError, NoteSignature, Vkey, signed_bytes};

const DOMAIN: &str = "bloc.example";

fn pair(seed: u8) -> Ed25519KeyPair {
    Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).unwrap()
}

fn public(seed: u8) -> PublicKey {
    PublicKey::checked(pair(seed).public_key().as_ref()).unwrap()
}

fn vkey(name: &str, seed: u8) -> Vkey {
    Vkey::new(name, KeyKind::Ed25519, public(seed).0).unwrap()
}

/// Roster keys are made from seeds; their names say which.
fn roster_key(seed: u8) -> Vkey {
    vkey(&format!("{DOMAIN}/roster-{seed}"), seed)
}

fn party(number: u32, path: &str, code: &str, sign: u8) -> Party {
    let id = format!("spiffe://{DOMAIN}/{path}").parse().unwrap();
    let mut party = Party::new(PartyNumber(number), id, code, &format!("Party {code}"), public(sign));
    if matches!(party.kind, PartyKind::Hub | PartyKind::Mission) {
        party.witness = Some(public(sign + 100));
        party.is_witness = party.kind == PartyKind::Mission;
        party.topics = vec!["maritime".to_owned(), "cyber".to_owned()];
        party.clearance = "BLOC CONFIDENTIAL".to_owned();
    }
    party
}

/// A small bloc: 2 of 3 roster keys, relay, hub, two missions, with every field in use somewhere.
fn sample() -> RosterDraft {
    let keys = RosterKeys { threshold: 2, keys: vec![roster_key(1), roster_key(2), roster_key(3)] };
    let classifications = ["BLOC UNCLASSIFIED", "BLOC RESTRICTED", "BLOC CONFIDENTIAL"].map(str::to_owned);
    let labels = LabelPolicy { policy: "BLOC".to_owned(), classifications: classifications.to_vec() };
    let mut draft = RosterDraft::init(DOMAIN, keys, "bloc.example/log", labels);
    draft.relay_addresses = vec!["relay.bloc.example:7443".to_owned(), "[2001:db8::1]:443".to_owned()];
    draft.log.keys = vec![vkey("bloc.example/log", 9)];
    for (id, name) in [("maritime", "Maritime security"), ("cyber", "Cybersecurity")] {
        draft.topics.push(Topic { id: id.to_owned(), name: name.to_owned() });
    }
    for entry in [("relay/a", "RELAY-A"), ("hub", "MOD"), ("mission/idn", "IDN"), ("mission/mys", "MYS")] {
        let number = draft.next_number();
        draft.add(party(number.0, entry.0, entry.1, 10 + u8::try_from(number.0).unwrap()));
    }
    let window = Window { days: vec![Day::Mon, Day::Fri], from: time(8, 0, 0, 0), until: time(16, 30, 0, 0) };
    let mission = &mut draft.parties[2];
    mission.time_zone = "Asia/Jakarta".to_owned();
    mission.revoked_serials = vec!["0a1b".to_owned()];
    mission.holidays = vec![date(2026, 8, 17)];
    mission.quotas.envelopes_per_minute = Some(600);
    mission.working_hours = vec![window.clone()];
    mission.schedule = vec![window];
    mission.duty = vec![Duty { name: "Duty officer".to_owned(), reach: "+62 21 0000".to_owned() }];
    let members = vec![PartyNumber(3), PartyNumber(4)];
    draft.groups = vec![Group { code: "ACI".to_owned(), name: "All missions".to_owned(), members }];
    let term = |party, from, until| Holder { party: PartyNumber(party), from, until };
    let holders =
        vec![term(3, date(2026, 1, 1), date(2026, 6, 30)), term(4, date(2026, 7, 1), date(2026, 12, 31))];
    draft.offices = vec![Office { code: "ACI-CHAIR".to_owned(), name: "Chair".to_owned(), holders }];
    draft
}

fn signed_text(text: &str, signers: &[u8]) -> Vec<u8> {
    let mut note = Note::new(text).unwrap();
    for seed in signers {
        let key = roster_key(*seed);
        let blob = pair(*seed).sign(signed_bytes(text)).as_ref().to_vec();
        note.add(NoteSignature { name: key.name().to_owned(), key_id: key.key_id(), blob }).unwrap();
    }
    note.to_bytes()
}

fn signed(draft: &RosterDraft, signers: &[u8]) -> Vec<u8> {
    signed_text(&draft.text().unwrap(), signers)
}

/// Signs a draft without the check of [`RosterDraft::text`], as a careless tool would.
fn signed_unchecked(draft: &RosterDraft, signers: &[u8]) -> Vec<u8> {
    signed_text(&toml::to_string(draft).unwrap(), signers)
}

fn bundle_for(draft: &RosterDraft, note: &[u8]) -> TrustBundle {
    TrustBundle::naming(&Roster::checked(draft.clone(), sha256(note)).unwrap(), sha256(b"root key"))
}

fn first() -> Roster {
    let note = signed(&sample(), &[1, 2]);
    verify_first(&note, &bundle_for(&sample(), &note)).unwrap()
}

/// The version after [`first`], changed and then signed by keys 1 and 2.
fn after_first(change: impl FnOnce(&mut RosterDraft)) -> Result<Roster, RosterError> {
    let mut draft = RosterDraft::next(&first()).unwrap();
    change(&mut draft);
    verify_next(&signed_unchecked(&draft, &[1, 2]), &first())
}

mod chain {
    use super::*;

    #[test]
    fn the_roster_that_the_bundle_names_is_taken() {
        let roster = first();
        assert_eq!((roster.version(), roster.trust_domain()), (1, DOMAIN));
        assert_eq!(roster.hash(), sha256(&signed(&sample(), &[1, 2])));
    }

    #[test]
    fn a_bundle_that_differs_in_any_field_takes_no_roster() {
        let note = signed(&sample(), &[1, 2]);
        let bundle = bundle_for(&sample(), &note);
        let refused = |change: fn(&mut TrustBundle)| {
            let mut other = bundle.clone();
            change(&mut other);
            verify_first(&note, &other).unwrap_err()
        };
        let differs = |field| RosterError::Bundle { field };
        assert_eq!(refused(|bundle| bundle.roster_hash = Hash::ZERO), differs("hash"));
        assert_eq!(refused(|bundle| bundle.roster_version = 2), differs("version"));
        assert_eq!(refused(|bundle| bundle.trust_domain = "mod.example".to_owned()), differs("trust domain"));
        assert_eq!(refused(|bundle| bundle.log_origin = "other".to_owned()), differs("log origin"));
        assert_eq!(refused(|bundle| bundle.threshold = 1), differs("roster keys"));
        assert_eq!(refused(|bundle| bundle.roster_keys.truncate(2)), differs("roster keys"));
        let none = RosterError::Unsigned { whose: Signers::InForce, found: 2, threshold: 0 };
        assert_eq!(refused(|bundle| bundle.threshold = 0), none);
    }

    #[test]
    fn a_bundle_is_written_and_read_alike_and_refuses_unknown_keys() {
        let bundle = bundle_for(&sample(), b"a note");
        let text = bundle.to_string();
        assert_eq!(text.parse::<TrustBundle>(), Ok(bundle));
        let refused = format!("{text}more = 1\n").parse::<TrustBundle>().unwrap_err();
        assert!(refused.to_string().contains("unknown field `more`"), "{refused}");
    }

    #[test]
    fn the_next_version_is_taken_with_a_threshold_of_signatures() {
        let draft = RosterDraft::next(&first()).unwrap();
        for signers in [&[1, 2], &[3, 1], &[2, 3]] {
            let next = verify_next(&signed(&draft, signers), &first()).unwrap();
            assert_eq!(next.version(), 2);
        }
        assert!(verify_next(&signed(&draft, &[1, 2, 3]), &first()).is_ok());
    }

    #[test]
    fn too_few_signatures_are_refused_whoever_else_signed() {
        let draft = RosterDraft::next(&first()).unwrap();
        let too_few = |found| Err(RosterError::Unsigned { whose: Signers::InForce, found, threshold: 2 });
        assert_eq!(verify_next(&signed(&draft, &[1]), &first()), too_few(1));
        assert_eq!(verify_next(&signed(&draft, &[4, 5]), &first()), too_few(0));
        let once = String::from_utf8(signed(&draft, &[1])).unwrap();
        let line = once.rsplit_once("\n\n").unwrap().1.to_owned();
        assert_eq!(verify_next((once + &line).as_bytes(), &first()), too_few(1));
    }

    #[test]
    fn changed_keys_need_a_threshold_of_the_old_and_of_the_new() {
        let mut draft = RosterDraft::next(&first()).unwrap();
        draft.roster = RosterKeys { threshold: 2, keys: vec![roster_key(3), roster_key(4), roster_key(5)] };
        draft.retire_keys_of(&first());
        let unsigned = |whose, found| Err(RosterError::Unsigned { whose, found, threshold: 2 });
        assert_eq!(verify_next(&signed(&draft, &[1, 2]), &first()), unsigned(Signers::Own, 0));
        assert_eq!(verify_next(&signed(&draft, &[1, 2, 4]), &first()), unsigned(Signers::Own, 1));
        assert_eq!(verify_next(&signed(&draft, &[3, 4, 5]), &first()), unsigned(Signers::InForce, 1));
        // Key 3 is of both sets and counts for both.
        assert!(verify_next(&signed(&draft, &[2, 3, 4]), &first()).is_ok());
    }

    #[test]
    fn a_raised_threshold_must_be_met_at_once() {
        let mut draft = RosterDraft::next(&first()).unwrap();
        draft.roster.threshold = 3;
        let unsigned = RosterError::Unsigned { whose: Signers::Own, found: 2, threshold: 3 };
        assert_eq!(verify_next(&signed(&draft, &[1, 2]), &first()), Err(unsigned));
        assert!(verify_next(&signed(&draft, &[1, 2, 3]), &first()).is_ok());
    }

    #[test]
    fn older_other_same_and_later_versions_are_told_apart() {
        let (one, note) = (first(), signed(&sample(), &[1, 2]));
        assert_eq!(verify_next(&note, &one), Err(RosterError::InForce { version: 1 }));
        let two = after_first(|_| ()).unwrap();
        assert_eq!(verify_next(&note, &two), Err(RosterError::Older { found: 1, current: 2 }));
        let other = signed(&sample(), &[2, 3]);
        let fork = RosterError::Fork { version: 1, found: sha256(&other), current: one.hash() };
        assert_eq!(verify_next(&other, &one), Err(fork));
        let three = signed(&RosterDraft::next(&two).unwrap(), &[1, 2]);
        assert_eq!(verify_next(&three, &one), Err(RosterError::Gap { found: 3, current: 1 }));
        assert!(verify_next(&three, &two).is_ok());
    }

    #[test]
    fn a_version_that_follows_another_roster_is_refused() {
        let refused = after_first(|draft| draft.previous = Some(sha256(b"another")));
        let expected = RosterError::Previous { found: sha256(b"another"), current: first().hash() };
        assert_eq!(refused, Err(expected));
        assert!(matches!(after_first(|draft| draft.previous = None), Err(RosterError::Previous { .. })));
        let foreign = after_first(|draft| draft.trust_domain = "mod.example".to_owned());
        assert!(matches!(foreign, Err(RosterError::TrustDomain { .. })));
    }

    #[test]
    fn a_party_never_leaves_and_its_number_is_nobody_elses() {
        let changed = |number, path: &str| {
            let was = format!("spiffe://{DOMAIN}/{path}").parse().unwrap();
            Err(RosterError::PartyChanged { number: PartyNumber(number), was })
        };
        let removed = after_first(|draft| {
            draft.offices.clear();
            draft.groups.clear();
            draft.parties.pop();
            draft.retire_keys_of(&first());
        });
        assert_eq!(removed, changed(4, "mission/mys"));
        let renamed = after_first(|draft| {
            draft.parties[3].id = format!("spiffe://{DOMAIN}/mission/phl").parse().unwrap();
        });
        assert_eq!(renamed, changed(4, "mission/mys"));
    }

    #[test]
    fn a_replaced_key_must_be_listed_as_revoked() {
        let refused = after_first(|draft| draft.parties[2].sign = public(50));
        assert_eq!(refused, Err(RosterError::KeyForgotten { key: public(13) }));
        let next = after_first(|draft| {
            draft.parties[2].sign = public(50);
            draft.retire_keys_of(&first());
        });
        assert_eq!(next.unwrap().content().revoked_keys, [public(13)]);
    }

    #[test]
    fn a_revoked_key_never_returns() {
        let revoked = after_first(|draft| draft.parties[3].status = Status::Revoked).unwrap();
        let following = |change: fn(&mut RosterDraft, &Roster)| {
            let mut draft = RosterDraft::next(&revoked).unwrap();
            change(&mut draft, &revoked);
            verify_next(&signed_unchecked(&draft, &[1, 2]), &revoked)
        };
        let back = following(|draft, _| draft.parties[3].status = Status::Active);
        assert_eq!(back, Err(RosterError::KeyForgotten { key: public(14).min(public(114)) }));
        let listed = following(|draft, revoked| {
            draft.retire_keys_of(revoked);
            draft.revoked_keys.push(public(14));
            draft.parties[3].status = Status::Active;
        });
        assert!(matches!(listed, Err(RosterError::Field { rule: Rule::KeyRevoked, .. })));
        let elsewhere = following(|draft, _| draft.add(party(5, "mission/phl", "PHL", 14)));
        assert!(matches!(elsewhere, Err(RosterError::Field { rule: Rule::KeyRevoked, .. })));
        let new_keys = following(|draft, revoked| {
            draft.parties[3] = party(4, "mission/mys", "MYS", 60);
            draft.retire_keys_of(revoked);
        });
        assert_eq!(new_keys.unwrap().content().revoked_keys.len(), 2);
    }

    #[test]
    fn a_key_never_changes_hands() {
        let swapped = after_first(|draft| {
            let (sign, other) = (draft.parties[2].sign, draft.parties[3].sign);
            (draft.parties[2].sign, draft.parties[3].sign) = (other, sign);
        });
        assert!(matches!(swapped, Err(RosterError::KeyMoved { .. })), "{swapped:?}");
    }

    #[test]
    fn a_suspended_party_keeps_its_keys_and_comes_back() {
        let suspended = after_first(|draft| draft.parties[3].status = Status::Suspended).unwrap();
        let mut draft = RosterDraft::next(&suspended).unwrap();
        draft.parties[3].status = Status::Active;
        assert!(verify_next(&signed(&draft, &[1, 2]), &suspended).is_ok());
    }

    #[test]
    fn a_note_cut_short_anywhere_is_refused() {
        let note = signed(&RosterDraft::next(&first()).unwrap(), &[1, 2]);
        let one = first();
        for end in 0..note.len() {
            assert!(verify_next(&note[..end], &one).is_err(), "{end}");
        }
        assert!(verify_next(&note, &one).is_ok());
    }

    #[test]
    fn a_flipped_bit_anywhere_is_refused() {
        let note = signed(&RosterDraft::next(&first()).unwrap(), &[1, 2]);
        let one = first();
        for at in 0..note.len() {
            let mut other = note.clone();
            other[at] ^= 1 << (at % 8);
            assert!(verify_next(&other, &one).is_err(), "byte {at}");
        }
    }

    /// FAULTS 70.
    #[test]
    fn a_note_beyond_the_bound_is_refused_before_it_is_read() {
        let huge = vec![b'x'; ROSTER_BYTES_MAX + 1];
        assert_eq!(verify_next(&huge, &first()), Err(RosterError::TooLong { bytes: huge.len() }));
        let text = String::from_utf8(huge).unwrap();
        assert_eq!(RosterDraft::parse(&text), Err(RosterError::TooLong { bytes: text.len() }));
        let at_the_bound = vec![b'x'; ROSTER_BYTES_MAX];
        assert_eq!(verify_next(&at_the_bound, &first()), Err(RosterError::Note(NoteError::SignaturesCount)));
    }
}

mod text {
    use super::*;

    #[test]
    fn the_text_of_a_roster_is_the_committed_example() {
        let example = include_str!("../../tests/vectors/roster.toml");
        assert_eq!(sample().text().unwrap(), example);
        assert_eq!(RosterDraft::parse(example), Ok(sample()));
        assert!(!example.contains('\t'));
    }

    #[test]
    fn parties_are_written_in_the_order_of_their_numbers() {
        let mut draft = sample();
        draft.parties.reverse();
        assert_eq!(draft.text(), sample().text());
    }

    #[test]
    fn unknown_keys_and_values_are_refused_with_their_line() {
        let text = sample().text().unwrap();
        for (from, to, said) in [
            ("version = 1", "version = 1\nvirsion = 1", "unknown field `virsion`"),
            ("code = \"IDN\"", "code = \"IDN\"\ncodes = 1", "unknown field `codes`"),
            ("policy = \"BLOC\"", "policy = \"BLOC\"\nx = 1", "unknown field `x`"),
            ("pouch-roster/v1", "pouch-roster/v2", "pouch-roster/v2"),
            ("status = \"active\"", "status = \"Active\"", "unknown variant `Active`"),
            ("version = 1", "version = -1", "-1"),
            ("version = 1", "version = 1\nversion = 1", "duplicate key"),
            ("/hub\"", "/hub/x\"", "the hub has none"),
            ("2026-08-17", "2026-08-32", "2026-08-32"),
        ] {
            assert!(text.contains(from), "{from}");
            let refused = RosterDraft::parse(&text.replacen(from, to, 1)).unwrap_err().to_string();
            assert!(refused.contains(said) && refused.contains("line "), "{refused}");
        }
    }
}

mod fields {
    use super::*;

    /// Asserts which field of a changed sample breaks which rule.
    fn refused(field: &str, rule: Rule, change: impl FnOnce(&mut RosterDraft)) {
        let mut draft = sample();
        change(&mut draft);
        match draft.text() {
            Err(RosterError::Field { field: found, rule: broken, .. }) => {
                assert_eq!((found, broken), (field, rule));
            }
            other => panic!("{field}, {rule:?}: {other:?}"),
        }
    }

    #[test]
    fn a_refusal_names_place_field_value_and_what_to_do() {
        let mut draft = sample();
        draft.parties[2].code = "idn".to_owned();
        let said = "party 3: code = \"idn\": a code has 1 to 16 capital letters, digits and hyphens, \
                    as IDN or ACI-CHAIR; correct it";
        assert_eq!(draft.text().unwrap_err().to_string(), said);
    }

    #[test]
    fn the_head_is_checked() {
        refused("trust_domain", Rule::TrustDomain, |draft| draft.trust_domain = "Bloc".to_owned());
        refused("version", Rule::FromOne, |draft| draft.version = 0);
        refused("version", Rule::Previous, |draft| draft.version = 2);
        refused("version", Rule::Previous, |draft| draft.previous = Some(Hash::ZERO));
        for address in ["relay", "relay:", ":7443", "relay:0", "relay:65536", "relay:07", "a b:1", "::1:443"]
        {
            refused("relay_addresses", Rule::Address, |draft| {
                draft.relay_addresses = vec![address.to_owned()]
            });
        }
        refused("relay_addresses", Rule::TooMany(16), |draft| {
            draft.relay_addresses = vec!["a:1".to_owned(); 17]
        });
    }

    #[test]
    fn roster_and_log_keys_are_checked() {
        refused("threshold", Rule::Threshold, |draft| draft.roster.threshold = 0);
        refused("threshold", Rule::Threshold, |draft| draft.roster.threshold = 4);
        refused("threshold", Rule::Threshold, |draft| {
            draft.roster = RosterKeys { threshold: 9, keys: (1..=9).map(roster_key).collect() };
        });
        refused("keys", Rule::TooMany(16), |draft| draft.roster.keys = (1..=17).map(roster_key).collect());
        refused("keys", Rule::KeyKind, |draft| {
            draft.roster.keys[0] = Vkey::new("a", KeyKind::Cosignature, public(1).0).unwrap();
        });
        refused("keys", Rule::Key(KeyError::SmallOrder), |draft| {
            draft.roster.keys[0] = Vkey::new("a", KeyKind::Ed25519, [0; 32]).unwrap();
        });
        refused("keys", Rule::LogName, |draft| draft.log.keys = vec![vkey("other", 9)]);
        refused("origin", Rule::Origin, |draft| draft.log.origin = "a log".to_owned());
    }

    #[test]
    fn topics_and_labels_are_checked() {
        refused("id", Rule::Topic, |draft| draft.topics[0].id = "Maritime".to_owned());
        refused("name", Rule::Name, |draft| draft.topics[0].name = String::new());
        refused("topic", Rule::Duplicate, |draft| draft.topics.push(draft.topics[0].clone()));
        refused("classifications", Rule::Label, |draft| draft.labels.classifications[0] = "x".repeat(65));
        refused("classifications", Rule::Duplicate, |draft| {
            draft.labels.classifications.push("BLOC RESTRICTED".to_owned());
        });
        refused("classifications", Rule::TooMany(16), |draft| {
            draft.labels.classifications = (0..17).map(|n| format!("L{n}")).collect();
        });
    }

    /// FAULTS 61: names.
    #[test]
    fn a_party_is_checked_in_every_field() {
        let party = |field, rule, change: fn(&mut Party)| {
            refused(field, rule, |draft| change(&mut draft.parties[2]));
        };
        party("number", Rule::FromOne, |party| party.number = PartyNumber(0));
        party("id", Rule::ForeignId, |party| party.id = "spiffe://other/mission/idn".parse().unwrap());
        party("kind", Rule::Kind, |party| party.kind = PartyKind::Hub);
        for code in ["", "idn", "I N", "ABCDEFGHIJKLMNOPQ"] {
            refused("code", Rule::Code, |draft| draft.parties[2].code = code.to_owned());
        }
        party("name", Rule::Name, |party| party.name = "a\u{7}b".to_owned());
        party("name", Rule::Name, |party| party.name = "\u{202e}lessev".to_owned());
        party("name", Rule::Name, |party| party.name = "x".repeat(129));
        party("name", Rule::Name, |party| party.name = " padded".to_owned());
        party("witness", Rule::WitnessMissing, |party| party.witness = None);
        party("topics", Rule::Unknown, |party| party.topics.push("gossip".to_owned()));
        party("clearance", Rule::Unknown, |party| party.clearance = "COSMIC".to_owned());
        for serial in ["", "0", "00ab", "AB", "abc", "0x12", &"ab".repeat(21)] {
            refused("revoked_serials", Rule::Serial, |draft| {
                draft.parties[2].revoked_serials = vec![serial.to_owned()];
            });
        }
        party("revoked_serials", Rule::TooMany(128), |party| {
            party.revoked_serials = vec!["ab".to_owned(); 129]
        });
        party("time_zone", Rule::TimeZone, |party| party.time_zone = "Asia Jakarta".to_owned());
        party("holidays", Rule::TooMany(128), |party| party.holidays = vec![date(2026, 1, 1); 129]);
        party("working_hours", Rule::Window, |party| party.working_hours[0].days.clear());
        party("working_hours", Rule::Window, |party| party.working_hours[0].days.push(Day::Mon));
        party("schedule", Rule::Window, |party| party.schedule[0].until = party.schedule[0].from);
        party("duty.name", Rule::Name, |party| party.duty[0].name.clear());
        party("duty.reach", Rule::Name, |party| party.duty[0].reach.clear());
        refused("is_witness", Rule::WitnessKind, |draft| draft.parties[1].is_witness = true);
    }

    #[test]
    fn numbers_ids_and_codes_are_unique() {
        refused("party number", Rule::Duplicate, |draft| draft.parties[3].number = PartyNumber(3));
        refused("party id", Rule::Duplicate, |draft| draft.parties[3].id = draft.parties[2].id.clone());
        refused("code", Rule::Duplicate, |draft| draft.parties[3].code = "IDN".to_owned());
        refused("code", Rule::Duplicate, |draft| draft.groups[0].code = "IDN".to_owned());
        refused("code", Rule::Duplicate, |draft| draft.offices[0].code = "ACI".to_owned());
    }

    #[test]
    fn no_key_has_two_uses() {
        refused("key", Rule::Duplicate, |draft| draft.parties[3].sign = draft.parties[2].sign);
        refused("key", Rule::Duplicate, |draft| draft.parties[3].witness = Some(draft.parties[2].sign));
        refused("key", Rule::Duplicate, |draft| draft.parties[2].sign = public(1));
        refused("key", Rule::Duplicate, |draft| draft.parties[2].sign = public(9));
        refused("key", Rule::Duplicate, |draft| draft.roster.keys[1] = vkey("another-name", 1));
        refused("key", Rule::KeyRevoked, |draft| draft.revoked_keys = vec![public(13)]);
        refused("key", Rule::KeyRevoked, |draft| {
            draft.parties[2].status = Status::Revoked;
            draft.parties[3].sign = draft.parties[2].sign;
        });
    }

    #[test]
    fn a_key_of_small_order_is_refused_when_it_is_read() {
        let text = sample().text().unwrap().replace(&public(13).to_string(), &"00".repeat(32));
        let refused = RosterDraft::parse(&text).unwrap_err().to_string();
        assert!(refused.contains("small order"), "{refused}");
    }

    #[test]
    fn groups_and_offices_are_checked() {
        refused("members", Rule::Unknown, |draft| draft.groups[0].members.push(PartyNumber(9)));
        refused("members", Rule::Duplicate, |draft| draft.groups[0].members.push(PartyNumber(3)));
        refused("holder", Rule::Unknown, |draft| draft.offices[0].holders[0].party = PartyNumber(9));
        refused("holder", Rule::Term, |draft| draft.offices[0].holders[1].from = date(2026, 6, 30));
        refused("holder", Rule::Term, |draft| draft.offices[0].holders[0].from = date(2026, 7, 1));
    }

    #[test]
    fn parties_and_witnesses_are_bounded() {
        refused("party", Rule::TooMany(ROSTER_PARTIES_MAX), |draft| {
            let more = party(5, "auditor/a", "AUD", 70);
            draft.parties.extend(std::iter::repeat_n(more, ROSTER_PARTIES_MAX - 3));
        });
        let witnesses = |count: u32| {
            let mut draft = sample();
            for number in 5..count + 3 {
                let (path, code) = (format!("mission/m{number}"), format!("M{number}"));
                draft.add(party(number, &path, &code, 20 + u8::try_from(number).unwrap()));
            }
            draft.text()
        };
        assert!(witnesses(24).is_ok());
        assert!(matches!(
            witnesses(25),
            Err(RosterError::Field { rule: Rule::TooMany(ROSTER_WITNESSES_MAX), .. })
        ));
    }
}

mod questions {
    use super::*;

    fn roster(change: impl FnOnce(&mut RosterDraft)) -> Roster {
        let mut draft = sample();
        change(&mut draft);
        Roster::checked(draft, Hash::ZERO).unwrap()
    }

    #[test]
    fn parties_are_found_by_number_id_and_code_in_any_case() {
        let roster = roster(|draft| draft.parties.reverse());
        let mission = roster.party(PartyNumber(3)).unwrap();
        assert_eq!(roster.party_by_code("idn"), Some(mission));
        assert_eq!(roster.party_by_id(&mission.id), Some(mission));
        assert_eq!(roster.parties().map(|party| party.number.0).collect::<Vec<_>>(), [1, 2, 3, 4]);
        assert_eq!(roster.relay().map(|relay| relay.number), Some(PartyNumber(1)));
        assert_eq!((roster.party(PartyNumber(9)), roster.party_by_code("XYZ")), (None, None));
        assert_eq!(roster.group("aci").map(|group| group.members.len()), Some(2));
    }

    #[test]
    fn a_suspended_relay_is_no_relay() {
        assert_eq!(roster(|draft| draft.parties[0].status = Status::Suspended).relay(), None);
    }

    #[test]
    fn a_party_reads_up_to_its_clearance_and_no_unknown_label() {
        let roster = roster(|draft| draft.parties[2].clearance = "BLOC RESTRICTED".to_owned());
        let mission = roster.party(PartyNumber(3)).unwrap();
        let relay = roster.party(PartyNumber(1)).unwrap();
        assert!(roster.cleared(mission, "BLOC UNCLASSIFIED") && roster.cleared(mission, "BLOC RESTRICTED"));
        assert!(!roster.cleared(mission, "BLOC CONFIDENTIAL") && !roster.cleared(mission, "bloc restricted"));
        assert!(!roster.cleared(mission, "") && !roster.cleared(relay, "BLOC UNCLASSIFIED"));
        assert_eq!(roster.label_rank("BLOC CONFIDENTIAL"), Some(2));
    }

    #[test]
    fn a_party_uses_the_topics_that_it_is_given() {
        let roster = roster(|draft| draft.parties[2].topics = vec!["cyber".to_owned()]);
        let mission = roster.party(PartyNumber(3)).unwrap();
        assert!(roster.may_use_topic(mission, "cyber") && !roster.may_use_topic(mission, "maritime"));
        assert!(roster.topic("maritime").is_some() && roster.topic("gossip").is_none());
    }

    #[test]
    fn an_office_is_held_day_by_day() {
        let roster = roster(|_| ());
        let holder = |month, day| roster.office("ACI-CHAIR").unwrap().holder_on(date(2026, month, day));
        assert_eq!([holder(6, 30), holder(7, 1)], [Some(PartyNumber(3)), Some(PartyNumber(4))]);
        assert_eq!(roster.office("aci-chair").unwrap().holder_on(date(2027, 1, 1)), None);
    }

    #[test]
    fn the_quorum_is_that_of_the_formats() {
        let with = |count: u32, faults: Option<u32>| {
            let mut draft = sample();
            draft.faults = faults;
            draft.parties.truncate(2);
            draft.groups.clear();
            draft.offices.clear();
            for number in 3..count + 3 {
                let (path, code) = (format!("mission/m{number}"), format!("M{number}"));
                draft.add(party(number, &path, &code, 20 + u8::try_from(number).unwrap()));
            }
            Roster::checked(draft, Hash::ZERO).map(|roster| (roster.faults(), roster.quorum()))
        };
        for (witnesses, expected) in
            [(0, (0, 0)), (1, (0, 1)), (2, (0, 2)), (5, (1, 4)), (11, (2, 7)), (24, (5, 15))]
        {
            assert_eq!(with(witnesses, None), Ok(expected), "{witnesses} witnesses");
        }
        assert_eq!(with(11, Some(3)), Ok((3, 8)));
        assert_eq!(with(24, Some(5)), Ok((5, 15)));
        for (witnesses, faults) in [(24, 6), (20, 11)] {
            let refused = with(witnesses, Some(faults));
            assert!(matches!(refused, Err(RosterError::Field { rule: Rule::Faults, .. })), "{refused:?}");
        }
        assert!(matches!(with(4, Some(4)), Err(RosterError::Field { rule: Rule::Faults, .. })));
        assert!(matches!(with(4, Some(u32::MAX)), Err(RosterError::Field { rule: Rule::Faults, .. })));
    }

    #[test]
    fn only_active_witnesses_count() {
        let roster = roster(|draft| draft.parties[3].status = Status::Suspended);
        assert_eq!((roster.witnesses().count(), roster.quorum()), (1, 1));
    }
}
