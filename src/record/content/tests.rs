//! What a record says: every kind reads back, and nothing that its leaf does not commit to.

use bytes::Bytes;

use super::{AcceptedEnvelope, AcceptedReceipts, AdministrativeRecord, Content, RecordedRefusal, Traffic};
use crate::{
    batch::{Tag, item_leaf},
    merkle::{Hash, sha256},
    record::{
        Record,
        administrative::{Act, AdministrativeLeaf, ChainHead},
        expiry::ExpiredEnvelope,
        leaf::{Opening, OpeningKind},
    },
    roster::PartyNumber,
    wire::{
        EnvelopeHash, Position, Precedence, SubmissionNumber,
        tests::{sample_envelope, sample_receipts},
    },
};

fn traffic(kind: OpeningKind, hash: Hash) -> Traffic {
    let opening = Opening { kind, log_time_us: 1_790_000_000_000_000, roster_version: 2, hash };
    Traffic { salt: [5; 32], opening }
}

fn envelope() -> Content {
    let (envelope, core) = sample_envelope();
    let hash = item_leaf(Tag::Envelope, &envelope.header);
    Content::Envelope(AcceptedEnvelope {
        traffic: traffic(OpeningKind::Envelope, hash),
        envelope: envelope.into(),
        core: core.into(),
        hash: EnvelopeHash(hash),
    })
}

fn receipts() -> Content {
    let batch = sample_receipts();
    Content::Receipts(AcceptedReceipts {
        traffic: traffic(OpeningKind::Receipts, batch.tree.root()),
        receiptor: PartyNumber(4),
        batch: batch.into(),
    })
}

fn refusal() -> Content {
    let hash = Hash([8; 32]);
    Content::Refusal(RecordedRefusal {
        traffic: traffic(OpeningKind::Refusal, hash),
        sender: PartyNumber(3),
        submission: SubmissionNumber(9),
        hash: EnvelopeHash(hash),
        code: 11,
    })
}

fn expired() -> Content {
    Content::Expired(ExpiredEnvelope {
        traffic: traffic(OpeningKind::Expiry, Hash([8; 32])),
        position: Position(77),
        relay: PartyNumber(1),
        sender: PartyNumber(3),
        addressees: vec![(PartyNumber(4), Precedence::Flash), (PartyNumber(5), Precedence::Routine)],
    })
}

fn administrative(act: Act, beside: &'static [u8]) -> Content {
    let leaf = AdministrativeLeaf { log_time_us: 7, previous: ChainHead::START, act };
    Content::Administrative(AdministrativeRecord { leaf, beside: Bytes::from_static(beside) })
}

fn roster() -> Content {
    administrative(Act::Roster { version: 1, hash: sha256(b"a note"), length: 6 }, b"a note")
}

fn traffics() -> [Content; 4] {
    [envelope(), receipts(), refusal(), expired()]
}

fn flipped(bytes: &Bytes, bit: usize) -> Bytes {
    let mut bytes = bytes.to_vec();
    bytes[bit / 8] ^= 1 << (bit % 8);
    bytes.into()
}

#[test]
fn content_of_every_kind_reads_back_from_its_record() {
    let stopped = administrative(Act::Stopped, b"");
    for content in traffics().into_iter().chain([roster(), stopped]) {
        let record = content.to_record();
        assert_eq!(Content::from_record(&record), Ok(content.clone()));
        let mut bytes = Vec::new();
        record.encode(&mut bytes).expect("within bounds");
        assert_eq!(Record::decode(&bytes.into()), Ok(record));
    }
}

#[test]
fn no_flipped_bit_of_leaf_salt_or_opening_is_taken() {
    for content in traffics() {
        let record = content.to_record();
        for bit in 0..record.leaf.len() * 8 {
            let other = Record { leaf: flipped(&record.leaf, bit), ..record.clone() };
            assert!(Content::from_record(&other).is_err(), "leaf, bit {bit}");
        }
        for bit in 0..record.salt.len() * 8 {
            let other = Record { salt: flipped(&record.salt, bit), ..record.clone() };
            assert!(Content::from_record(&other).is_err(), "salt, bit {bit}");
        }
        for bit in 0..record.opening.len() * 8 {
            let other = Record { opening: flipped(&record.opening, bit), ..record.clone() };
            assert!(Content::from_record(&other).is_err(), "opening, bit {bit}");
        }
    }
}

#[test]
fn an_opening_does_not_fit_the_header_and_body_of_another_record() {
    for content in traffics() {
        for other in traffics().into_iter().filter(|other| *other != content) {
            let (record, other) = (content.to_record(), other.to_record());
            let mixed = Record { header: other.header, body: other.body, ..record };
            assert!(Content::from_record(&mixed).is_err());
        }
    }
    let record = envelope().to_record();
    for bit in 0..record.header.len() * 8 {
        let other = Record { header: flipped(&record.header, bit), ..record.clone() };
        assert!(Content::from_record(&other).is_err(), "header, bit {bit}");
    }
}

#[test]
fn replay_takes_a_ciphertext_on_trust_and_nothing_else_of_an_envelope() {
    let record = envelope().to_record();
    assert_eq!(Content::from_replay(&record), Content::from_record(&record));
    let last = record.body.len() * 8 - 1;
    let other = Record { body: flipped(&record.body, last), ..record.clone() };
    assert!(Content::from_record(&other).is_err(), "what is delivered is hashed");
    assert!(Content::from_replay(&other).is_ok());
    for bit in 0..record.header.len() * 8 {
        let other = Record { header: flipped(&record.header, bit), ..record.clone() };
        assert!(Content::from_replay(&other).is_err(), "header, bit {bit}");
    }
}

#[test]
fn parts_that_are_cut_or_do_not_belong_are_refused() {
    let with = |change: &dyn Fn(&mut Record), content: Content| {
        let mut record = content.to_record();
        change(&mut record);
        Content::from_record(&record)
    };
    for content in traffics() {
        assert!(with(&|record| record.salt = Bytes::new(), content.clone()).is_err());
        assert!(with(&|record| record.opening = record.opening.slice(1..), content.clone()).is_err());
        assert!(with(&|record| record.header = record.header.slice(1..), content.clone()).is_err());
        let longer = |bytes: &Bytes| Bytes::from([&bytes[..], &[0]].concat());
        assert!(with(&|record| record.body = longer(&record.body), content.clone()).is_err());
    }
    assert!(with(&|record| record.body = Bytes::from_static(b"A note"), roster()).is_err());
    assert!(with(&|record| record.body = Bytes::from_static(b"a note."), roster()).is_err());
    for content in [roster(), administrative(Act::Stopped, b"")] {
        let stray = Bytes::from_static(&[1; 32]);
        assert!(with(&|record| record.salt = stray.clone(), content.clone()).is_err());
        assert!(with(&|record| record.opening = stray.clone(), content.clone()).is_err());
        assert!(with(&|record| record.header = stray.clone(), content.clone()).is_err());
    }
    assert!(
        with(&|record| record.body = Bytes::from_static(b"x"), administrative(Act::Stopped, b"")).is_err()
    );
}
