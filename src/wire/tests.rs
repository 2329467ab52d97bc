//! Envelopes and receipts: what is written reads back, and nothing else is taken.

use bytes::{BufMut, Bytes, BytesMut};
use prost::Message;
use ring::signature::{Ed25519KeyPair, KeyPair};

use super::{
    DispatchId, EnvelopeHash, Malformed, Position, Precedence, Role, SubmissionNumber,
    convert::{deliver_frame, delivered_parts, proof_frame},
    envelope::{
        Addressee, AttachmentName, Core, Envelope, Sealing, VerifiedEnvelope, Wrap, header_bytes, join_wraps,
        parse_header, wrap_leaf,
    },
    pb,
    receipt::{
        ITEM_BYTES_MAX, ReceiptBatch, ReceiptItem, ReceiptKind, ReceiptPart, VerifiedReceipts, join_parts,
        split_parts,
    },
};
use crate::{
    batch::{Proof, PublicKey, Tag, Verifier, item_leaf, signed_bytes},
    limits,
    merkle::{self, Hash, Tree},
    roster::PartyNumber,
};

const DOMAIN: &str = "bloc.example";

fn pair() -> Ed25519KeyPair {
    Ed25519KeyPair::from_seed_unchecked(&[7; 32]).unwrap()
}

fn key() -> PublicKey {
    PublicKey::checked(pair().public_key().as_ref()).unwrap()
}

fn sign(tag: Tag, leaves: &[Hash]) -> [u8; 64] {
    let count = u8::try_from(leaves.len()).unwrap();
    let signed = signed_bytes(DOMAIN, tag, count, &merkle::root(leaves));
    pair().sign(&signed).as_ref().try_into().unwrap()
}

/// With every field in use.
fn sample_core() -> Core {
    let addressee = |party, role| Addressee { party: PartyNumber(party), role };
    Core {
        trust_domain: DOMAIN.to_owned(),
        id: DispatchId([3; 16]),
        sender: PartyNumber(3),
        submission: SubmissionNumber(9),
        roster_version: 2,
        roster_hash: Hash([4; 32]),
        addressees: vec![addressee(4, Role::To), addressee(2, Role::Info), addressee(300, Role::To)],
        precedence_action: Precedence::Immediate,
        precedence_info: Precedence::Priority,
        topic: "maritime".to_owned(),
        label: "BLOC RESTRICTED".to_owned(),
        exercise: true,
        expires_s: 1_790_000_000,
        size_bucket: 1,
        commitment: Some(Hash([5; 32])),
        attachments: vec![AttachmentName { ciphertext_hash: Hash([6; 32]), bytes: 70_000 }],
        supersedes: Some(DispatchId([8; 16])),
        checkpoint_size: 11,
        checkpoint_root: Hash([9; 32]),
        sealing: Sealing::Clear,
    }
}

/// A signed submission of three wraps.
pub(crate) fn sample_submit() -> pb::Submit {
    submit_of(&sample_core())
}

/// An envelope to so many, in a batch of 64; its signature is none.
pub(crate) fn envelope_to(addressees: u32) -> Envelope {
    let addressee = |party| Addressee { party: PartyNumber(party), role: Role::To };
    let submit = submit_of(&Core { addressees: (1..=addressees).map(addressee).collect(), ..sample_core() });
    let proof = Proof { count: 64, index: 5, path: vec![Hash([2; 32]); 6], signature: [9; 64] };
    Envelope::from_submit(&submit, &proof).unwrap().0
}

fn submit_of(core: &Core) -> pb::Submit {
    let wrap =
        |addressee: &Addressee| Wrap { generation: 2, bytes: format!("for {}", addressee.party).into() };
    let wraps: Vec<Wrap> = core.addressees.iter().map(wrap).collect();
    let leaves: Vec<Hash> = core
        .addressees
        .iter()
        .zip(&wraps)
        .map(|(addressee, wrap)| wrap_leaf(addressee.party, wrap.generation, &wrap.bytes))
        .collect();
    let ciphertext = Bytes::from_static(b"a dispatch");
    let header = header_bytes(core, &ciphertext, &merkle::root(&leaves));
    let signature = sign(Tag::Envelope, &[item_leaf(Tag::Envelope, &header)]);
    let proof = Proof { count: 1, index: 0, path: Vec::new(), signature };
    pb::Submit { header, proof: Some(proof_frame(&proof)), ciphertext, wraps: join_wraps(&wraps) }
}

/// The envelope of [`sample_submit`], as it is stored.
pub(crate) fn sample_envelope() -> (Envelope, Core) {
    let submit = sample_submit();
    let proof = super::convert::proof(submit.proof.as_ref()).unwrap();
    Envelope::from_submit(&submit, &proof).unwrap()
}

fn item(kind: ReceiptKind, positions: std::ops::Range<u64>) -> ReceiptItem {
    ReceiptItem {
        kind,
        reason: 2,
        receiptor: PartyNumber(4),
        sender: PartyNumber(3),
        addressee: PartyNumber(4),
        time_us: 1_790_000_000_000_000,
        roster_version: 2,
        checkpoint_size: 11,
        checkpoint_root: Hash([9; 32]),
        details_hash: Hash::ZERO,
        envelopes: positions.map(|n| (EnvelopeHash(Hash([1; 32])), Position(n))).collect(),
    }
}

fn part(mut item: ReceiptItem, details: &[u8]) -> ReceiptPart {
    if !details.is_empty() {
        item.details_hash = merkle::sha256(details);
    }
    ReceiptPart { bytes: item.encode(), details: Bytes::copy_from_slice(details), item }
}

/// Three receipts under one signature, one of them with details.
pub(crate) fn sample_receipts() -> ReceiptBatch {
    let parts = vec![
        part(item(ReceiptKind::Delivered, 5..8), b""),
        part(item(ReceiptKind::Acknowledged, 5..6), b"with thanks"),
        part(item(ReceiptKind::SetAside, 8..9), b""),
    ];
    let leaves: Vec<Hash> = parts.iter().map(|part| item_leaf(Tag::Receipt, &part.bytes)).collect();
    let signature = sign(Tag::Receipt, &leaves);
    ReceiptBatch::new(6, parts, signature)
}

fn stored_frame(batch: &ReceiptBatch) -> pb::Stored {
    pb::Stored {
        number: batch.number,
        count: u32::try_from(batch.parts.len()).unwrap(),
        items: join_parts(&batch.parts),
        signature: Bytes::copy_from_slice(&batch.signature),
    }
}

fn flipped(bytes: &Bytes, bit: usize) -> Bytes {
    let mut bytes = bytes.to_vec();
    bytes[bit / 8] ^= 1 << (bit % 8);
    bytes.into()
}

mod envelopes {
    use super::*;

    fn verify(submit: &pb::Submit) -> Result<VerifiedEnvelope, super::super::envelope::EnvelopeError> {
        VerifiedEnvelope::verify(submit, DOMAIN, &key(), &mut Verifier::new(1))
    }

    /// What a core becomes when its bytes are laid out with one field changed.
    fn decoded(change: impl FnOnce(&mut pb::Core)) -> Result<Core, Malformed> {
        let mut core = pb::Core::decode(sample_core().encode()).unwrap();
        change(&mut core);
        Core::decode(&core.encode_to_vec())
    }

    fn refused(change: impl FnOnce(&mut pb::Core)) -> &'static str {
        decoded(change).expect_err("refused").what
    }

    /// As protobuf's own library reads a core, in the fields that [`Core::decode`] takes over as they are.
    fn by_library(bytes: &[u8]) -> Option<pb::Core> {
        pb::Core::decode(bytes).ok()
    }

    #[test]
    fn core_and_header_are_written_as_protobufs_own_library_writes_them() {
        let bare = Core {
            exercise: false,
            size_bucket: 0,
            commitment: None,
            attachments: Vec::new(),
            supersedes: None,
            checkpoint_size: 0,
            ..sample_core()
        };
        for core in [sample_core(), bare] {
            let bytes = core.encode();
            assert_eq!(pb::Core::decode(bytes.clone()).unwrap().encode_to_vec(), bytes);
            assert_eq!(Core::decode(&bytes), Ok(core.clone()));
            let header = header_bytes(&core, b"ciphertext", &Hash([5; 32]));
            assert_eq!(pb::Header::decode(header.clone()).unwrap().encode_to_vec(), header);
        }
    }

    #[test]
    fn a_core_is_read_in_place_as_protobuf_reads_it() {
        let sound = sample_core().encode();
        let mut cases: Vec<Vec<u8>> = Vec::new();
        for at in 0..sound.len() {
            for byte in [0, 1, 0x7f, 0x80, 0xff, sound[at] ^ 1, sound[at] ^ 8, sound[at].wrapping_add(8)] {
                let mut bytes = sound.to_vec();
                bytes[at] = byte;
                cases.push(bytes);
            }
        }
        // Fields that come twice, unknown ones of each wire type, numbers that are too long or too large.
        let tails: [&[u8]; 12] = [
            &[0x18, 7],
            &[0x18, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1],
            &[0x18, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2],
            &[0x20, 0x80, 0x80, 0x80, 0x80, 0x10],
            &[0x40, 0x83, 0x80, 0x80, 0x80, 0x10],
            &[0x60, 2],
            &[0xf8, 0x01, 5],
            &[0xf9, 0x01, 1, 2, 3, 4, 5, 6, 7, 8],
            &[0xfd, 0x01, 1, 2, 3, 4],
            &[0xfa, 0x01, 2, 9, 9],
            &[0x0d, 1, 2, 3, 4],
            &[0x00, 1],
        ];
        cases.extend(tails.iter().map(|tail| [&sound[..], tail].concat()));
        let mut read = 0;
        for bytes in cases {
            let (own, library) = (Core::decode(&bytes), by_library(&bytes));
            match (own, library) {
                (Ok(own), Some(library)) => {
                    let library = Core::decode(&library.encode_to_vec());
                    assert_eq!(library, Ok(own), "{bytes:02x?}");
                    read += 1;
                }
                (Err(own), Some(library)) => {
                    assert_eq!(Core::decode(&library.encode_to_vec()), Err(own), "{bytes:02x?}");
                }
                (Err(own), None) => assert_eq!(own.problem, "is not protobuf", "{bytes:02x?}"),
                (Ok(_), None) => panic!("only our own reader takes {bytes:02x?}"),
            }
        }
        assert!(read > 1_000, "{read}");
    }

    #[test]
    fn a_core_reads_back_and_no_truncation_of_it_does() {
        let bytes = sample_core().encode();
        assert_eq!(Core::decode(&bytes), Ok(sample_core()));
        for cut in 0..bytes.len() {
            assert!(Core::decode(&bytes[..cut]).is_err(), "cut at {cut}");
        }
    }

    #[test]
    fn every_field_of_a_core_has_its_bound() {
        assert!(decoded(|_| ()).is_ok());
        assert_eq!(refused(|core| core.trust_domain = "d".repeat(248)), "trust domain");
        assert_eq!(refused(|core| core.trust_domain.clear()), "trust domain");
        assert_eq!(refused(|core| core.topic = "t".repeat(65)), "topic");
        assert_eq!(refused(|core| core.label = "two\nlines".to_owned()), "label");
        assert_eq!(refused(|core| core.label = "hidden\u{85}".to_owned()), "label");
        assert_eq!(refused(|core| core.id = Bytes::from_static(&[0; 15])), "id");
        assert_eq!(refused(|core| core.supersedes = Bytes::from_static(&[0; 17])), "supersedes");
        assert_eq!(refused(|core| core.submission = 0), "submission number");
        assert_eq!(refused(|core| core.roster_hash.clear()), "roster hash");
        assert_eq!(refused(|core| core.commitment = Bytes::from_static(&[0; 31])), "commitment");
        assert_eq!(refused(|core| core.checkpoint_root.clear()), "checkpoint root");
        assert_eq!(refused(|core| core.precedence_action = 0), "precedence");
        assert_eq!(refused(|core| core.precedence_action = 99), "precedence");
        assert_eq!(
            refused(|core| core.precedence_info = pb::Precedence::Flash.into()),
            "precedence for info"
        );
        assert_eq!(refused(|core| core.sealing = 7), "sealing");
    }

    #[test]
    fn lists_in_a_core_are_bounded_whole_and_without_repetition() {
        let entries = |parties: std::ops::Range<u32>, role: u8| {
            let mut bytes = BytesMut::new();
            for party in parties {
                bytes.put_u32(party);
                bytes.put_u8(role);
            }
            bytes.freeze()
        };
        assert_eq!(decoded(|core| core.addressees = entries(0..128, 1)).unwrap().addressees.len(), 128);
        let twice = Bytes::from([&entries(0..2, 1)[..], &entries(1..2, 2)[..]].concat());
        for wrong in [entries(0..129, 1), entries(0..0, 1), entries(0..2, 0), entries(0..2, 3), twice] {
            assert_eq!(refused(|core| core.addressees = wrong.clone()), "addressees", "{wrong:?}");
        }
        assert_eq!(refused(|core| core.addressees.truncate(14)), "addressees");
        let attachments = |n: usize| Bytes::from(vec![0; n * 40]);
        assert_eq!(decoded(|core| core.attachments = attachments(16)).unwrap().attachments.len(), 16);
        assert_eq!(refused(|core| core.attachments = attachments(17)), "attachments");
        assert_eq!(refused(|core| core.attachments.truncate(39)), "attachments");
    }

    #[test]
    fn an_envelope_reads_back_from_its_stored_form_and_from_no_part_of_it() {
        let (envelope, core) = sample_envelope();
        let read = |header: Bytes, stored: Bytes| Envelope::from_stored(header, stored);
        assert_eq!(read(envelope.header.clone(), envelope.stored.clone()), Ok((envelope.clone(), core)));
        for cut in 0..envelope.stored.len() {
            assert!(read(envelope.header.clone(), envelope.stored.slice(..cut)).is_err(), "stored to {cut}");
        }
        for cut in 0..envelope.header.len() {
            assert!(read(envelope.header.slice(..cut), envelope.stored.clone()).is_err(), "header to {cut}");
        }
        let longer = Bytes::from([&envelope.stored[..], &[0]].concat());
        assert!(read(envelope.header.clone(), longer).is_err());
    }

    #[test]
    fn no_flipped_bit_of_a_submission_is_taken() {
        let submit = sample_submit();
        let verified = verify(&submit).expect("as signed");
        assert_eq!((verified.core(), *verified.key()), (&sample_core(), key()));
        let fields: [fn(&mut pb::Submit) -> &mut Bytes; 4] = [
            |submit| &mut submit.header,
            |submit| &mut submit.ciphertext,
            |submit| &mut submit.wraps,
            |submit| &mut submit.proof.as_mut().expect("signed").signature,
        ];
        for (at, field) in fields.into_iter().enumerate() {
            let bits = field(&mut submit.clone()).len() * 8;
            for bit in 0..bits {
                let mut other = submit.clone();
                *field(&mut other) = flipped(field(&mut other), bit);
                assert!(verify(&other).is_err(), "field {at}, bit {bit}");
            }
        }
    }

    #[test]
    fn an_envelope_has_one_wrap_for_each_addressee_and_nothing_after_them() {
        let submit = sample_submit();
        let wrong = |wraps: Bytes| verify(&pb::Submit { wraps, ..submit.clone() }).unwrap_err().to_string();
        for cut in 0..submit.wraps.len() {
            assert!(wrong(submit.wraps.slice(..cut)).starts_with("wraps are"), "cut at {cut}");
        }
        let more =
            [&submit.wraps[..], &join_wraps(&[Wrap { generation: 0, bytes: Bytes::new() }])[..]].concat();
        assert_eq!(wrong(more.into()), "wraps are more than the addressees");
        let swapped = join_wraps(&vec![sample_envelope().0.wrap(0); 3]);
        assert_eq!(wrong(swapped), "root of the wraps does not fit the wraps");
    }

    #[test]
    fn each_addressee_is_delivered_its_own_wrap_with_its_path() {
        let (envelope, core) = sample_envelope();
        for (index, addressee) in core.addressees.iter().enumerate() {
            let frame = deliver_frame(Position(4), &envelope, index, Bytes::new(), Bytes::new());
            let parts = delivered_parts(&frame).expect("as sealed");
            assert_eq!((parts.addressee, parts.wrap), (addressee.party, envelope.wrap(index)));
            assert_eq!(parts.core, core);
            for bit in 0..frame.wrap.len() * 8 {
                let wrap = flipped(&frame.wrap, bit);
                assert!(delivered_parts(&pb::Deliver { wrap, ..frame.clone() }).is_err());
            }
            for cut in 0..frame.wrap_path.len() {
                let wrap_path = frame.wrap_path.slice(..cut);
                assert!(
                    delivered_parts(&pb::Deliver { wrap_path, ..frame.clone() }).is_err(),
                    "path to {cut}"
                );
            }
            let other = pb::Deliver { wrap_index: (frame.wrap_index + 1) % 3, ..frame.clone() };
            assert!(delivered_parts(&other).is_err());
            assert!(delivered_parts(&pb::Deliver { wrap_index: 3, ..frame.clone() }).is_err());
            assert!(delivered_parts(&pb::Deliver { wrap_generation: 3, ..frame.clone() }).is_err());
            assert!(delivered_parts(&pb::Deliver { ciphertext: Bytes::new(), ..frame }).is_err());
        }
    }

    #[test]
    fn a_root_of_the_wraps_that_is_no_hash_fits_no_path() {
        let (envelope, core) = sample_envelope();
        let mut header = pb::Header::decode(envelope.header.clone()).unwrap();
        header.wraps_root.truncate(31);
        let header: Bytes = header.encode_to_vec().into();
        assert_eq!(parse_header(&header).unwrap().0, core);
        let frame = deliver_frame(Position(4), &envelope, 0, Bytes::new(), Bytes::new());
        let lying = pb::Deliver { header, wrap_path: Bytes::new(), ..frame };
        assert_eq!(delivered_parts(&lying).unwrap_err().what, "root of the wraps");
    }
}

mod receipts {
    use super::*;

    fn verify(stored: pb::Stored) -> Result<VerifiedReceipts, super::super::receipt::ReceiptError> {
        VerifiedReceipts::verify(stored, DOMAIN, &key())
    }

    #[test]
    fn an_item_of_each_kind_and_length_reads_back_and_no_other_length_of_it_does() {
        for code in 1..=7 {
            let kind = ReceiptKind::from_code(code).unwrap();
            let whole = item(kind, 0..3);
            let bytes = whole.encode();
            assert_eq!(ReceiptItem::decode(&bytes), Ok(whole));
            for cut in 0..bytes.len() {
                assert!(ReceiptItem::decode(&bytes[..cut]).is_err(), "cut at {cut}");
            }
            assert!(ReceiptItem::decode(&[&bytes[..], &[0; 40]].concat()).is_err());
        }
        let longest = item(ReceiptKind::Delivered, 0..256);
        assert_eq!(longest.encode().len(), ITEM_BYTES_MAX);
        assert_eq!(ReceiptItem::decode(&longest.encode()), Ok(longest));
    }

    #[test]
    fn an_item_of_an_unknown_kind_or_with_no_or_too_many_envelopes_is_refused() {
        let bytes = item(ReceiptKind::Delivered, 0..1).encode();
        let head = bytes.len() - 40;
        for code in [0, 8, 255] {
            assert!(ReceiptItem::decode(&[&[code], &bytes[1..]].concat()).is_err());
        }
        let with_count = |count: u16| {
            let list = vec![0; usize::from(count) * 40];
            [&bytes[..head - 2], &count.to_be_bytes(), &list].concat()
        };
        assert!(ReceiptItem::decode(&with_count(256)).is_ok());
        assert!(ReceiptItem::decode(&with_count(257)).is_err());
        assert!(ReceiptItem::decode(&with_count(0)).is_err());
    }

    #[test]
    fn parts_read_back_whole_and_nothing_may_be_missing_or_follow() {
        let batch = sample_receipts();
        let bytes = join_parts(&batch.parts);
        assert_eq!(split_parts(bytes.clone(), 3).as_deref(), Ok(&batch.parts[..]));
        for cut in 0..bytes.len() {
            assert!(split_parts(bytes.slice(..cut), 3).is_err(), "cut at {cut}");
        }
        assert!(split_parts(bytes.clone(), 2).is_err(), "one more than announced");
        assert!(split_parts(bytes, 4).is_err(), "one fewer than announced");
        assert!(split_parts(Bytes::new(), 0).is_err(), "none");
        let many = vec![part(item(ReceiptKind::Read, 0..1), b""); limits::BATCH_ITEMS_MAX + 1];
        assert!(split_parts(join_parts(&many[1..]), limits::BATCH_ITEMS_MAX).is_ok());
        assert!(split_parts(join_parts(&many), limits::BATCH_ITEMS_MAX + 1).is_err(), "too many");
    }

    #[test]
    fn details_fit_their_hash_their_bound_and_one_envelope() {
        let parse = |part: &ReceiptPart| ReceiptPart::parse(part.bytes.clone(), part.details.clone());
        let one = || item(ReceiptKind::Acknowledged, 0..1);
        assert!(parse(&part(one(), &[1; limits::DETAILS_BYTES_MAX])).is_ok());
        assert!(parse(&part(one(), &[1; limits::DETAILS_BYTES_MAX + 1])).is_err(), "too long");
        assert!(parse(&part(item(ReceiptKind::Read, 0..2), b"both")).is_err(), "for two envelopes");
        let with = part(one(), b"with thanks");
        assert!(ReceiptPart::parse(with.bytes.clone(), Bytes::new()).is_err(), "missing");
        assert!(ReceiptPart::parse(with.bytes, Bytes::from_static(b"no thanks")).is_err(), "other ones");
        assert!(ReceiptPart::parse(part(one(), b"").bytes, Bytes::from_static(b"x")).is_err(), "unannounced");
    }

    #[test]
    fn no_flipped_bit_of_signed_receipts_is_taken() {
        let frame = stored_frame(&sample_receipts());
        assert_eq!(verify(frame.clone()).expect("as signed").batch(), &sample_receipts());
        for bit in 0..frame.items.len() * 8 {
            let items = flipped(&frame.items, bit);
            assert!(verify(pb::Stored { items, ..frame.clone() }).is_err(), "items, bit {bit}");
        }
        for bit in 0..frame.signature.len() * 8 {
            let signature = flipped(&frame.signature, bit);
            assert!(verify(pb::Stored { signature, ..frame.clone() }).is_err(), "signature, bit {bit}");
        }
        assert!(verify(pb::Stored { count: 2, ..frame.clone() }).is_err());
        assert!(verify(pb::Stored { signature: frame.signature.slice(1..), ..frame }).is_err());
    }

    #[test]
    fn each_receipt_of_a_batch_proves_itself_alone() {
        let batch = sample_receipts();
        let mut verifier = Verifier::new(1);
        for (index, part) in batch.parts.iter().enumerate() {
            let leaf = item_leaf(Tag::Receipt, &part.bytes);
            assert_eq!(verifier.verify(DOMAIN, Tag::Receipt, &key(), leaf, &batch.proof(index)), Ok(()));
            let other = (index + 1) % batch.parts.len();
            assert!(verifier.verify(DOMAIN, Tag::Receipt, &key(), leaf, &batch.proof(other)).is_err());
        }
        let leaves: Vec<Hash> = batch.parts.iter().map(|part| item_leaf(Tag::Receipt, &part.bytes)).collect();
        assert_eq!(batch.tree.root(), Tree::new(&leaves).root());
    }
}
