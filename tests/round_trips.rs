//! Whatever the product can write it reads back: cores, receipts, orders, leaves, records, slips, rosters.

use std::collections::BTreeMap;

use bytes::Bytes;
use pouch::{
    line::is_line,
    merkle::{Hash, sha256},
    record::{
        Record, SALT_BYTES,
        administrative::{Act, AdministrativeLeaf, ChainHead},
        leaf::{Opening, OpeningKind},
    },
    roster::{PartyNumber, Quotas, RosterDraft, verify_next},
    seal::{SLIP_VOIDED_MAX, Slip},
    wire::{
        DispatchId, EnvelopeHash, Position, Precedence, Role, SubmissionNumber,
        envelope::{Addressee, AttachmentName, Core, Sealing},
        order::{Order, OrderKind},
        receipt::{ReceiptItem, ReceiptKind, ReceiptPart, join_parts, split_parts},
    },
};
use proptest::{collection::vec, option, prelude::*};

#[path = "../fuzz/src/lib.rs"]
#[allow(dead_code, reason = "a module of its own package")]
mod targets;
use targets::bloc::{BLOC, sign_note};

fn hash() -> impl Strategy<Value = Hash> {
    any::<[u8; 32]>().prop_map(Hash)
}

fn party() -> impl Strategy<Value = PartyNumber> {
    any::<u32>().prop_map(PartyNumber)
}

/// A line of any script, not empty and not padded.
fn line(bytes_max: usize) -> impl Strategy<Value = String> {
    "\\PC{1,16}".prop_filter("a line within its bound", move |text| {
        !text.is_empty() && text.trim() == text && is_line(text, bytes_max)
    })
}

fn addressees() -> impl Strategy<Value = Vec<Addressee>> {
    proptest::collection::btree_map(any::<u32>(), any::<bool>(), 1..=128).prop_map(
        |parties: BTreeMap<_, _>| {
            let role = |to: bool| if to { Role::To } else { Role::Info };
            parties
                .into_iter()
                .map(|(party, to)| Addressee { party: PartyNumber(party), role: role(to) })
                .collect()
        },
    )
}

fn core() -> impl Strategy<Value = Core> {
    let attachment =
        (hash(), any::<u64>()).prop_map(|(ciphertext_hash, bytes)| AttachmentName { ciphertext_hash, bytes });
    let identity = (line(64), any::<[u8; 16]>(), party(), 1..=u64::MAX, any::<u32>(), hash());
    let address = (addressees(), 0usize..4, 0usize..4, line(64), line(64), any::<bool>());
    let rest = (any::<u64>(), any::<u32>(), option::of(hash()), vec(attachment, 0..=16));
    let past = (option::of(any::<[u8; 16]>()), any::<u64>(), hash());
    (identity, address, rest, past).prop_map(|(identity, address, rest, past)| {
        let (trust_domain, id, sender, submission, roster_version, roster_hash) = identity;
        let (addressees, one, other, topic, label, exercise) = address;
        let (expires_s, size_bucket, commitment, attachments) = rest;
        let (supersedes, checkpoint_size, checkpoint_root) = past;
        Core {
            trust_domain,
            id: DispatchId(id),
            sender,
            submission: SubmissionNumber(submission),
            roster_version,
            roster_hash,
            addressees,
            precedence_action: Precedence::HIGHEST_FIRST[one.min(other)],
            precedence_info: Precedence::HIGHEST_FIRST[one.max(other)],
            topic,
            label,
            exercise,
            expires_s,
            size_bucket,
            commitment,
            attachments,
            supersedes: supersedes.map(DispatchId),
            checkpoint_size,
            checkpoint_root,
            sealing: Sealing::Clear,
        }
    })
}

fn item() -> impl Strategy<Value = ReceiptItem> {
    let who = (1u8..=7, any::<u16>(), party(), party(), party());
    let when = (any::<u64>(), any::<u32>(), any::<u64>(), hash());
    (who, when, vec((hash(), any::<u64>()), 1..=256)).prop_map(|(who, when, envelopes)| {
        let (kind, reason, receiptor, sender, addressee) = who;
        let (time_us, roster_version, checkpoint_size, checkpoint_root) = when;
        ReceiptItem {
            kind: ReceiptKind::from_code(kind).expect("1 to 7"),
            reason,
            receiptor,
            sender,
            addressee,
            time_us,
            roster_version,
            checkpoint_size,
            checkpoint_root,
            details_hash: Hash::ZERO,
            envelopes: envelopes.into_iter().map(|(hash, at)| (EnvelopeHash(hash), Position(at))).collect(),
        }
    })
}

/// Receipts, those of one envelope with details of so many bytes.
fn part() -> impl Strategy<Value = ReceiptPart> {
    (item(), 0usize..600).prop_map(|(mut item, details)| {
        let details = if item.envelopes.len() == 1 { Bytes::from(vec![7; details]) } else { Bytes::new() };
        if !details.is_empty() {
            item.details_hash = sha256(&details);
        }
        ReceiptPart { bytes: item.encode(), details, item }
    })
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        (any::<u32>(), hash(), any::<u32>()).prop_map(|(version, hash, length)| Act::Roster {
            version,
            hash,
            length
        }),
        (party(), any::<u32>(), any::<[u8; 16]>())
            .prop_map(|(party, incarnation, store_id)| Act::Incarnation { party, incarnation, store_id }),
        "[ -~]{0,64}".prop_map(|software| Act::Started { software }),
        Just(Act::Stopped),
        (party(), any::<u16>(), any::<u64>(), any::<u32>())
            .prop_map(|(party, code, minute, count)| Act::Refusals { party, code, minute, count }),
        (party(), any::<[u8; 16]>(), any::<[u8; 16]>()).prop_map(|(party, stays, refused)| Act::Cloned {
            party,
            stays,
            refused
        }),
        any::<u64>().prop_map(|wall_us| Act::ClockAccepted { wall_us }),
        any::<u64>().prop_map(|through| Act::Erasures { through: Position(through) }),
        hash().prop_map(|hash| Act::Configuration { hash }),
    ]
}

fn order() -> impl Strategy<Value = Order> {
    let kind = prop_oneof![
        (party(), any::<u64>()).prop_map(|(party, until_s)| OrderKind::Suspend { party, until_s }),
        party().prop_map(|party| OrderKind::Lift { party }),
        any::<u64>().prop_map(|until_s| OrderKind::Minimize { until_s }),
        any::<u64>().prop_map(|position| OrderKind::Erase { position: Position(position) }),
    ];
    (1..=u32::MAX, kind, any::<[u8; 32]>()).prop_map(|(number, kind, salt)| Order { number, kind, salt })
}

fn bytes(lengths: std::ops::Range<usize>) -> impl Strategy<Value = Bytes> {
    vec(any::<u8>(), lengths).prop_map(Bytes::from)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn a_core_reads_back(core in core()) {
        prop_assert_eq!(Core::decode(&core.encode()), Ok(core));
    }

    #[test]
    fn a_receipt_item_reads_back(item in item()) {
        prop_assert_eq!(ReceiptItem::decode(&item.encode()), Ok(item));
    }

    #[test]
    fn the_receipts_of_a_frame_read_back(parts in vec(part(), 1..=8)) {
        prop_assert_eq!(split_parts(join_parts(&parts), parts.len()), Ok(parts));
    }

    #[test]
    fn an_order_reads_back(order in order()) {
        prop_assert_eq!(Order::decode(&order.encode()), Ok(order));
    }

    #[test]
    fn an_administrative_leaf_reads_back(log_time_us: u64, at: u64, hash in hash(), act in act()) {
        let leaf = AdministrativeLeaf { log_time_us, previous: ChainHead { position: Position(at), hash }, act };
        prop_assert_eq!(AdministrativeLeaf::decode(&leaf.encode()), Ok(leaf));
    }

    #[test]
    fn an_opening_reads_back(kind in 0usize..3, log_time_us: u64, roster_version: u32, hash in hash()) {
        let kind = [OpeningKind::Envelope, OpeningKind::Receipts, OpeningKind::Refusal][kind];
        let opening = Opening { kind, log_time_us, roster_version, hash };
        prop_assert_eq!(Opening::decode(&opening.encode()), Ok(opening));
    }

    #[test]
    fn a_record_reads_back(
        leaf in bytes(1..200), salted: bool, opening in bytes(0..200), header in bytes(0..200), body in bytes(0..2000),
    ) {
        let salt = if salted { Bytes::from_static(&[7; SALT_BYTES]) } else { Bytes::new() };
        let record = Record { leaf, salt, opening, header, body };
        let mut out = Vec::new();
        record.encode(&mut out).expect("within its bounds");
        prop_assert_eq!(Record::decode(&Bytes::from(out)), Ok(record));
    }

    #[test]
    fn a_slip_reads_back(
        epoch in 1..=u32::MAX, number in 1..=i64::MAX.unsigned_abs(), previous in hash(),
        voided in vec(1..=i64::MAX.unsigned_abs(), 0..=SLIP_VOIDED_MAX),
    ) {
        let slip = Slip { epoch, number, previous, voided };
        prop_assert_eq!(Slip::decode(&slip.encode()), Ok(slip));
    }

    #[test]
    fn a_roster_of_any_names_and_quotas_reads_back_and_follows(
        names in vec(line(128), 5), quotas: (Option<u32>, Option<u32>, Option<u32>), serial in "[1-9a-f][0-9a-f]",
    ) {
        let mut draft = RosterDraft::next(&BLOC.roster).expect("there is a next version");
        for (party, name) in draft.parties.iter_mut().zip(names) {
            party.name = name;
            party.revoked_serials = vec![serial.clone()];
            let (envelopes_per_minute, flash_per_hour, bytes) = quotas;
            let bytes_per_hour = bytes.map(u64::from);
            party.quotas =
                Quotas { envelopes_per_minute, flash_per_hour, bytes_per_hour, mailbox_envelopes: flash_per_hour };
        }
        let text = draft.text().expect("a draft has a text");
        prop_assert_eq!(&RosterDraft::parse(&text).expect("what was written can be read"), &draft);
        let note = sign_note(&BLOC.roster_key, &text).expect("a text of ours");
        let next = verify_next(&note, &BLOC.roster).expect("it follows");
        prop_assert_eq!(next.content(), &draft);
    }
}
