//! What hostile frames cost in memory: at most four times the bytes received, and a constant (FAULTS 36, 59).

use std::{
    sync::{Mutex, MutexGuard},
    time::SystemTime,
};

use bytes::{BufMut, Bytes, BytesMut};
use peak_alloc::PeakAlloc;
use pouch::{
    audit::{
        AddCheckpoint, Bundle, BundlePath, Checkpoint, LeafProof, OLD_LINE_PATH_MAX, ProofFile, TilePath,
    },
    keys::SigningKey,
    limits::{
        ADDRESSEES_MAX, BATCH_ITEMS_MAX, DISPATCH_BYTES_MAX, FRAME_BEFORE_WELCOME_BYTES_MAX, FRAME_BYTES_MAX,
        FRAME_CONTROL_BYTES_MAX, NOTE_SIGNATURES_MAX, RECEIPT_ENVELOPES_MAX, ROSTER_BYTES_MAX,
    },
    merkle::Hash,
    note::Note,
    pki::{self, Example},
    record::leaf::{OPENING_BYTES, Opening},
    roster::PartyNumber,
    session::inbound::{Inbound, Intake},
    wire::{
        EnvelopeHash, Position,
        codec::{self, FrameDecoder},
        pb::{self, frame::Kind},
        receipt::ReceiptKind,
    },
};

#[path = "support/peer.rs"]
#[allow(dead_code, reason = "not every test makes every frame")]
mod peer;
use peer::Peer;

#[global_allocator]
static HEAP: PeakAlloc = PeakAlloc;

/// One read of the relay, and so what it makes room for at once.
const READ_BYTES: usize = 16 * 1024;
/// Frames that the relay takes out of its buffer before the engine has them.
const FRAMES_AT_ONCE_MAX: usize = 64;
/// What a connection may take whatever came: its read buffer twice while that grows, one batch of checked
/// frames, the lists of 128 addressees and 64 receipts, the verifier's memory.
const CONNECTION_BYTES_MAX: usize = 96 * 1024;
/// Times the bytes received (FAULTS 36).
const FACTOR_MAX: usize = 4;

/// The allocator counts for the whole process: one test at a time.
static TURN: Mutex<()> = Mutex::new(());

/// A desk with keys, and a relay's view of its connection.
struct Case {
    _turn: MutexGuard<'static, ()>,
    _folder: tempfile::TempDir,
    example: Example,
    key: SigningKey,
}

impl Case {
    fn new() -> Case {
        let turn = TURN.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let folder = tempfile::tempdir().expect("temporary folder");
        let parties = pki::example_parties();
        let example = pki::make_example(&folder.path().join("pki"), &parties, &[], SystemTime::now());
        let example = example.expect("example PKI");
        let key = SigningKey::load(&example.folder.join("idn").join("sign.key")).expect("sign key");
        Case { _turn: turn, _folder: folder, example, key }
    }

    fn peer(&self) -> Peer<'_> {
        let party = self.example.roster.party_by_code("IDN").expect("in the example");
        Peer { roster: &self.example.roster, number: party.number, key: &self.key }
    }

    /// Feeds bytes as the relay reads them, and holds the peak against the bound. Returns what the last
    /// frame came to.
    fn bounded(&self, wire: &[u8], frame_bytes_max: usize) -> Option<Inbound> {
        let mut intake = Intake::new(self.example.roster.trust_domain(), [0; 32]);
        let key = self.key.public();
        let mut decoder = FrameDecoder::new(frame_bytes_max);
        let mut last = None;
        HEAP.reset_peak_usage();
        let before = HEAP.current_usage();
        'reads: for read in wire.chunks(READ_BYTES) {
            decoder.buffer().reserve(READ_BYTES);
            decoder.buffer().put_slice(read);
            loop {
                let mut frames = Vec::new();
                while frames.len() < FRAMES_AT_ONCE_MAX
                    && let Some(frame) = intake.take(&mut decoder, Some(&key))
                {
                    let ends = matches!(frame, Inbound::Violation(_));
                    frames.push(frame);
                    if ends {
                        last = frames.pop();
                        break 'reads;
                    }
                }
                let taken = frames.len();
                last = frames.pop().or(last);
                if taken < FRAMES_AT_ONCE_MAX {
                    break;
                }
            }
        }
        let peak = HEAP.peak_usage().saturating_sub(before);
        let bound = FACTOR_MAX * wire.len() + CONNECTION_BYTES_MAX;
        assert!(peak <= bound, "{peak} bytes of heap for {} received, at most {bound}", wire.len());
        last
    }
}

fn framed(kind: Kind) -> Vec<u8> {
    let mut wire = BytesMut::new();
    codec::encode(kind, &mut wire);
    wire.to_vec()
}

/// Any bytes behind their length.
fn delimited(frame: &[u8]) -> Vec<u8> {
    let mut wire = BytesMut::new();
    prost::encoding::encode_varint(frame.len() as u64, &mut wire);
    wire.put_slice(frame);
    wire.to_vec()
}

/// Repeats a few bytes up to a length.
fn repeated(bytes: &[u8], length: usize) -> Vec<u8> {
    bytes.iter().copied().cycle().take(length - length % bytes.len()).collect()
}

#[test]
fn a_frame_that_is_announced_and_never_comes_takes_no_room() {
    let case = Case::new();
    let mut announced = BytesMut::new();
    prost::encoding::encode_varint(FRAME_BYTES_MAX as u64, &mut announced);
    assert!(case.bounded(&announced, FRAME_BYTES_MAX).is_none());
    announced.put_bytes(7, FRAME_BYTES_MAX - 1);
    assert!(case.bounded(&announced, FRAME_BYTES_MAX).is_none());
}

#[test]
fn the_shortest_frames_by_the_hundred_thousand_are_taken_in_batches() {
    let case = Case::new();
    let pings = repeated(&framed(Kind::Ping(pb::Ping { token: 0 })), 1 << 20);
    assert!(matches!(case.bounded(&pings, FRAME_BYTES_MAX), Some(Inbound::Ping(0))));
    let submits = repeated(&framed(Kind::Submit(pb::Submit::default())), 1 << 18);
    assert!(matches!(case.bounded(&submits, FRAME_BYTES_MAX), Some(Inbound::BadSubmit(..))));
}

/// FAULTS 36 and 59.
#[test]
fn breadth_bombs_take_no_more_room_than_their_bytes() {
    let case = Case::new();
    let submit = 0x1a;
    let bombs: [(&str, &[u8]); 5] = [
        ("empty submissions in one frame", &[submit, 0]),
        ("submissions with an empty proof", &[submit, 2, 0x12, 0]),
        ("unknown fields", &[0xf8, 0x7f, 0]),
        ("unknown empty messages", &[0xfa, 0x7f, 0]),
        ("kinds in turn", &[submit, 0, 0x42, 0, 0x0a, 0]),
    ];
    for (what, bytes) in bombs {
        let frame = repeated(bytes, FRAME_BYTES_MAX);
        assert!(case.bounded(&delimited(&frame), FRAME_BYTES_MAX).is_some(), "{what}");
        let early = repeated(bytes, FRAME_BEFORE_WELCOME_BYTES_MAX);
        assert!(case.bounded(&delimited(&early), FRAME_BEFORE_WELCOME_BYTES_MAX).is_some(), "{what}");
    }
}

#[test]
fn deep_nesting_and_unclosed_groups_take_no_room() {
    let case = Case::new();
    for bytes in [&[0x0b][..], &[0xfb, 0x7f], &[0x0a, 0x7f]] {
        let frame = delimited(&repeated(bytes, FRAME_BYTES_MAX));
        assert!(matches!(case.bounded(&frame, FRAME_BYTES_MAX), Some(Inbound::Violation(_))), "{bytes:?}");
    }
}

#[test]
fn a_header_of_unknown_fields_or_of_any_list_at_its_bound_stays_within_it() {
    let case = Case::new();
    let peer = case.peer();
    let submit = peer.submit(&peer.core(1, &[PartyNumber(2)], SystemTime::now()), b"any");
    let bomb = Bytes::from(repeated(&[0xfa, 0x7f, 0], FRAME_BYTES_MAX - 1024));
    let unknown = peer.sign_header(bomb.clone(), submit.clone());
    assert!(matches!(
        case.bounded(&framed(Kind::Submit(unknown)), FRAME_BYTES_MAX),
        Some(Inbound::BadSubmit(..))
    ));
    let wraps = pb::Submit { wraps: Bytes::from(vec![0; FRAME_BYTES_MAX - 1024]), ..submit };
    assert!(matches!(
        case.bounded(&framed(Kind::Submit(wraps)), FRAME_BYTES_MAX),
        Some(Inbound::BadSubmit(..))
    ));
}

#[test]
fn the_largest_envelope_and_the_longest_receipts_stay_within_it() {
    let case = Case::new();
    let peer = case.peer();
    let parties = (1000..).take(ADDRESSEES_MAX).map(PartyNumber).collect::<Vec<_>>();
    let submit = peer.submit(&peer.core(1, &parties, SystemTime::now()), &vec![7; DISPATCH_BYTES_MAX]);
    let largest = framed(Kind::Submit(submit));
    assert!(matches!(case.bounded(&largest, FRAME_BYTES_MAX), Some(Inbound::Submit(..))));

    let item = |envelopes: usize| {
        let envelope = |position| (EnvelopeHash(Hash([1; 32])), Position(position));
        let envelopes: Vec<_> = (0..).take(envelopes).map(envelope).collect();
        peer.receipt(ReceiptKind::Delivered, PartyNumber(2), &envelopes)
    };
    for items in [
        vec![item(1); BATCH_ITEMS_MAX],
        vec![item(20); BATCH_ITEMS_MAX],
        vec![item(RECEIPT_ENVELOPES_MAX); 6],
    ] {
        let stored = framed(Kind::Stored(peer.stored(1, &items)));
        assert!(stored.len() <= FRAME_CONTROL_BYTES_MAX);
        assert!(matches!(case.bounded(&stored, FRAME_BYTES_MAX), Some(Inbound::Stored(_))));
    }
    let nothing = pb::Stored { count: 64, items: Bytes::from(vec![0; 60_000]), ..pb::Stored::default() };
    let stored = framed(Kind::Stored(nothing));
    assert!(matches!(case.bounded(&stored, FRAME_BYTES_MAX), Some(Inbound::Violation(_))));
}

/// Holds the peak of reading something that came from the relay or a stranger's file against the bound.
fn reading_is_bounded(what: &str, bytes: usize, read: impl FnOnce() -> bool) {
    HEAP.reset_peak_usage();
    let before = HEAP.current_usage();
    assert!(read(), "{what}: it parses");
    let peak = HEAP.peak_usage().saturating_sub(before);
    let bound = FACTOR_MAX * bytes + READING_BYTES_MAX;
    assert!(peak <= bound, "{what}: {peak} bytes of heap for {bytes}, at most {bound}");
}

/// What one of the audit log's files may take besides: the list of a bundle's 256 entries.
const READING_BYTES_MAX: usize = 12 * 1024;

#[test]
fn what_the_audit_log_is_read_from_takes_no_more_room_than_its_bytes() {
    let _turn = TURN.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let hash = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n";
    let line = "\u{2014} a AAAAAAA=\n";
    let text = "a\n0\nAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n";
    let note = format!("{text}\n{}", line.repeat(NOTE_SIGNATURES_MAX));
    reading_is_bounded("a note", note.len(), || Note::parse(note.as_bytes()).is_ok());
    let long = format!("{}\n\n{line}", "x".repeat(ROSTER_BYTES_MAX - 64));
    reading_is_bounded("a long note", long.len(), || Note::parse(long.as_bytes()).is_ok());
    reading_is_bounded("a checkpoint", text.len(), || text.parse::<Checkpoint>().is_ok());
    let request = format!("old 1\n{}\n{note}", hash.repeat(OLD_LINE_PATH_MAX));
    reading_is_bounded("a request", request.len(), || request.parse::<AddCheckpoint>().is_ok());
    let proof = format!("c2sp.org/tlog-proof@v1\nextra AAAA\nindex 0\n{}\n{note}", hash.repeat(63));
    reading_is_bounded("a proof", proof.len(), || proof.parse::<LeafProof>().is_ok());
    let shortest = Bytes::from(vec![0; 512]);
    reading_is_bounded("a bundle of empty entries", 512, || Bundle::parse(&shortest, 256).is_ok());
    let longest = [&[0xf0, 0][..], &vec![7; 0xf000]].concat().repeat(256);
    let longest = Bytes::from(longest);
    reading_is_bounded("the longest bundle", longest.len(), || Bundle::parse(&longest, 256).is_ok());
    // And what is too long or too many is refused before room is made for it.
    let many = format!("old 1\n{}\n{note}", hash.repeat(200));
    reading_is_bounded("too long a path", many.len(), || many.parse::<AddCheckpoint>().is_err());
    let lines = format!("{text}\n{}", line.repeat(100_000));
    reading_is_bounded("too many lines", lines.len(), || Note::parse(lines.as_bytes()).is_err());
}

/// A proof file that holds so much of each of its parts.
fn proof_file(header: usize, ciphertext: usize, receipts: usize, note: usize) -> String {
    let base64 = |bytes: usize| data_encoding::BASE64.encode(&vec![7; bytes]);
    let (signature, hash) = (base64(64), base64(32));
    let leaf = |index: usize| {
        format!(
            "'''\nc2sp.org/tlog-proof@v1\nextra AAAA\nindex {index}\n{hash}\n\na\n9\n{hash}\n\n\u{2014} a AAAAAAA=\n'''\n"
        )
    };
    let item = |name: &str, bytes: usize, index: usize| {
        let bytes = base64(bytes);
        format!(
            "{name} = \"{bytes}\"\ncount = 1\nindex = 0\npath = []\nsignature = \"{signature}\"\nproof = {}",
            leaf(index)
        )
    };
    let receipts = (1..=receipts).map(|index| format!("\n[[receipt]]\n{}", item("item", 1, index)));
    format!(
        "format = \"pouch-proof/v1\"\n\n[envelope]\n{}\n[content]\nciphertext = \"{}\"\n{}\n[[roster]]\nversion = 1\nnote = \"{}\"\n",
        item("header", header, 0),
        base64(ciphertext),
        receipts.collect::<String>(),
        base64(note),
    )
}

#[test]
fn a_proof_file_and_what_a_log_is_named_and_opened_by_take_no_more_room_than_their_bytes() {
    let _turn = TURN.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let mib = 1 << 20;
    for (header, ciphertext, receipts, note) in
        [(1, 1, 0, 1), (1, 1, 1024, 1), (4 * mib, 1, 0, 1), (1, 8 * mib, 0, 1), (1, 1, 0, 11 * mib)]
    {
        let text = proof_file(header, ciphertext, receipts, note);
        let what = format!("a proof file of {} bytes with {receipts} receipts", text.len());
        reading_is_bounded(&what, text.len(), || text.parse::<ProofFile>().is_ok());
    }
    let many = proof_file(1, 1, 8192, 1);
    reading_is_bounded("too many receipts", many.len(), || many.parse::<ProofFile>().is_err());
    for (what, bytes) in
        [("arrays in arrays", "["), ("empty arrays", "[],"), ("tables", "[a]\n"), ("keys", "a.")]
    {
        let bomb = format!("a = [{}", bytes.repeat(mib / bytes.len()));
        reading_is_bounded(what, bomb.len(), || bomb.parse::<ProofFile>().is_err());
        let bomb = bytes.repeat(mib / bytes.len());
        reading_is_bounded(what, bomb.len(), || bomb.parse::<ProofFile>().is_err());
    }
    let opening = [1; OPENING_BYTES];
    reading_is_bounded("an opening", opening.len(), || Opening::decode(&opening).is_ok());
    let path = "tile/entries/x001/234.p/7";
    reading_is_bounded("the path of a bundle", path.len(), || path.parse::<BundlePath>().is_ok());
    for path in ["x001/".repeat(mib / 5), "tile/0/".to_owned() + &"x001/".repeat(mib / 5)] {
        reading_is_bounded("a long path", path.len(), || path.parse::<TilePath>().is_err());
    }
}
