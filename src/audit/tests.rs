//! Tests of the log's formats, against vectors computed elsewhere, by exhaustion, and by breaking each part.

use std::collections::BTreeMap;

use bytes::Bytes;
use ring::signature::{Ed25519KeyPair, KeyPair};
use serde::Deserialize;

use super::*;
use crate::{
    merkle::{Hash, Tree, leaf_hash, sha256},
    note::{KeyKind, NoteSignature, Vkey, cosigned_bytes, signed_bytes},
    record::{
        administrative::{Act, AdministrativeLeaf, ChainHead},
        leaf::{Opening, OpeningKind},
    },
    roster::PartyNumber,
    wire::Position,
};

const ORIGIN: &str = "bloc.example/log";

#[derive(Deserialize)]
struct Vectors {
    names: Vec<Name>,
    opening: Opened,
    logs: Vec<Log>,
    proof: String,
    add_checkpoint: String,
}

#[derive(Deserialize)]
struct Name {
    index: u64,
    name: String,
}

#[derive(Deserialize)]
struct Opened {
    index: u64,
    salt: String,
    opening: String,
    leaf: String,
}

#[derive(Deserialize)]
struct Log {
    size: u64,
    checkpoint: String,
    tiles: BTreeMap<String, String>,
    bundles: BTreeMap<String, String>,
}

fn vectors() -> Vectors {
    serde_json::from_str(include_str!("../../tests/vectors/audit.json")).unwrap()
}

/// The leaf at an index of the vectors' log, with its salt and its opening.
fn opened(index: u64) -> (Vec<u8>, Hash, Opening) {
    let hash = sha256(format!("envelope {index}").as_bytes());
    let log_time_us = 1_795_000_000_000_000 + index;
    let opening = Opening { kind: OpeningKind::Envelope, log_time_us, roster_version: 3, hash };
    let salt = sha256(format!("salt {index}").as_bytes());
    (opening.leaf(salt.as_bytes()).to_vec(), salt, opening)
}

fn entries(size: u64) -> Vec<Bytes> {
    (0..size).map(|index| Bytes::from(opened(index).0)).collect()
}

fn hashes(size: u64) -> Vec<Hash> {
    entries(size).iter().map(|entry| leaf_hash(entry)).collect()
}

fn hex(bytes: &[u8]) -> String {
    data_encoding::HEXLOWER.encode(bytes)
}

fn pair(seed: u8) -> Ed25519KeyPair {
    Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).unwrap()
}

fn vkey(name: &str, kind: KeyKind, seed: u8) -> Vkey {
    Vkey::new(name, kind, pair(seed).public_key().as_ref().try_into().unwrap()).unwrap()
}

fn witness(number: u32) -> (PartyNumber, Vkey) {
    let seed = 100 + u8::try_from(number).unwrap();
    (PartyNumber(number), vkey(&format!("bloc.example/mission/m{number}"), KeyKind::Cosignature, seed))
}

/// The vectors' log key, and so many witnesses.
fn trust(witnesses: u32, quorum: usize) -> LogTrust {
    let log_keys = vec![vkey(ORIGIN, KeyKind::Ed25519, 4)];
    LogTrust::new(ORIGIN, log_keys, (1..=witnesses).map(witness).collect(), quorum)
}

fn cosigned(note: &str, numbers: &[u32]) -> String {
    let mut note = crate::note::Note::parse(note.as_bytes()).unwrap();
    for number in numbers {
        let (_, key) = witness(*number);
        let signed = cosigned_bytes(9, note.text());
        let signature = pair(100 + u8::try_from(*number).unwrap()).sign(&signed);
        let blob = [&9_u64.to_be_bytes(), signature.as_ref()].concat();
        note.add(NoteSignature { name: key.name().to_owned(), key_id: key.key_id(), blob }).unwrap();
    }
    note.to_string()
}

/// The tile of a log of so many leaves, as a file would give it.
fn tile(size: u64, path: TilePath) -> Vec<u8> {
    let mut level = hashes(size);
    for _ in 0..path.level {
        level = level.as_chunks::<256>().0.iter().map(|part| crate::merkle::root(part)).collect();
    }
    let first = usize::try_from(path.index).unwrap() * 256;
    level[first..first + usize::from(path.width)].iter().flat_map(|hash| hash.0).collect()
}

fn tile_tree(size: u64) -> TileTree<impl FnMut(TilePath) -> Result<Vec<u8>, AuditError>> {
    TileTree::new(size, move |path| Ok(tile(size, path)))
}

#[test]
fn names_of_tiles_equal_those_computed_elsewhere_and_read_back() {
    for Name { index, name } in vectors().names {
        let path = TilePath { level: 3, index, width: 256 };
        assert_eq!(path.to_string(), format!("tile/3/{name}"));
        assert_eq!(format!("tile/3/{name}").parse(), Ok(path));
        let path = BundlePath { index, width: 17 };
        assert_eq!(path.to_string(), format!("tile/entries/{name}.p/17"));
        assert_eq!(format!("tile/entries/{name}.p/17").parse(), Ok(path));
    }
}

#[test]
fn a_tile_has_one_name() {
    let wrong = [
        "",
        "tile",
        "tile/",
        "tile/0",
        "tile/0/",
        "tile/0/0",
        "tile/0/00",
        "tile/0/0000",
        "tile/00/000",
        "tile/8/000",
        "tile/+1/000",
        "tile/0/x000",
        "tile/0/x000/001",
        "tile/0/001/002",
        "tile/0/x001/x002",
        "tile/0/000.p/",
        "tile/0/000.p/0",
        "tile/0/000.p/256",
        "tile/0/000.p/017",
        "tile/0/000.p/-1",
        "tile/0/000.p/1.p/1",
        "/tile/0/000",
        "tile/0/000/",
        "tile/0/../000",
        "tile/entries/000",
        "tile/0/x999/x999/x999/x999/x999/x999/999",
        "tile/0/000\n",
    ];
    for text in wrong {
        assert_eq!(text.parse::<TilePath>(), Err(AuditError::Path), "{text}");
    }
    for text in
        ["tile/entries/0", "tile/entries/x000/000", "tile/entries/000.p/300", "tile/0/000", "entries/000"]
    {
        assert_eq!(text.parse::<BundlePath>(), Err(AuditError::Path), "{text}");
    }
}

#[test]
fn tiles_and_bundles_of_a_log_equal_those_computed_elsewhere() {
    for log in vectors().logs {
        let made = tiles_between(0, log.size);
        let made: BTreeMap<String, String> = made
            .into_iter()
            .map(|path| (path.to_string(), sha256(&tile(log.size, path)).to_string()))
            .collect();
        assert_eq!(made, log.tiles, "size {}", log.size);
        let all = entries(log.size);
        let mut made = BTreeMap::new();
        for path in bundles_between(0, log.size) {
            let mut bundle = Bundle::default();
            let first = usize::try_from(path.index).unwrap() * 256;
            all[first..first + usize::from(path.width)].iter().for_each(|entry| bundle.push(entry.clone()));
            let bytes = Bytes::from(bundle.to_bytes(path.width));
            assert_eq!(Bundle::parse(&bytes, path.width), Ok(bundle));
            made.insert(path.to_string(), sha256(&bytes).to_string());
        }
        assert_eq!(made, log.bundles, "size {}", log.size);
    }
}

#[test]
fn what_a_log_has_to_write_is_what_changed() {
    let names =
        |old, new| -> Vec<String> { tiles_between(old, new).iter().map(TilePath::to_string).collect() };
    assert_eq!(names(0, 0), [""; 0]);
    assert_eq!(names(7, 7), [""; 0]);
    assert_eq!(names(9, 7), [""; 0]);
    assert_eq!(names(0, 256), ["tile/0/000", "tile/1/000.p/1"]);
    assert_eq!(names(255, 257), ["tile/0/000", "tile/0/001.p/1", "tile/1/000.p/1"]);
    assert_eq!(names(256, 257), ["tile/0/001.p/1"]);
    assert_eq!(names(65_535, 65_536), ["tile/0/255", "tile/1/000", "tile/2/000.p/1"]);
    let names =
        |old, new| -> Vec<String> { bundles_between(old, new).iter().map(BundlePath::to_string).collect() };
    assert_eq!(names(255, 257), ["tile/entries/000", "tile/entries/001.p/1"]);
    assert_eq!(names(256, 256), [""; 0]);
    // The far end of what a size can be.
    assert!(TilePath::in_tree(7, 0, u64::MAX).is_some());
    assert_eq!(TilePath::in_tree(0, u64::MAX, u64::MAX), None);
    assert_eq!(BundlePath::in_log(1, 256), None);
}

#[test]
fn a_leaf_and_its_opening_equal_those_computed_elsewhere() {
    let expected = vectors().opening;
    let (leaf, salt, opening) = opened(expected.index);
    assert_eq!(hex(salt.as_bytes()), expected.salt);
    assert_eq!(hex(&opening.encode()), expected.opening);
    assert_eq!(hex(&leaf), expected.leaf);
}

#[test]
fn checkpoints_equal_those_computed_elsewhere_and_verify() {
    for log in vectors().logs {
        let signed = trust(0, 0).open(log.checkpoint.as_bytes()).unwrap();
        let root = crate::merkle::root(&hashes(log.size));
        let expected = Checkpoint { origin: ORIGIN.to_owned(), size: log.size, root };
        assert_eq!(signed.checkpoint, expected);
        let signature = pair(4).sign(signed_bytes(&expected.to_string()));
        let key = vkey(ORIGIN, KeyKind::Ed25519, 4);
        let line = crate::note::signature_line(ORIGIN, key.key_id(), signature.as_ref());
        assert_eq!(format!("{expected}\n{line}"), log.checkpoint);
        assert!(!signed.is_witnessed(), "without witnesses nothing is witnessed");
    }
}

#[test]
fn a_checkpoint_has_one_form() {
    let root = "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=";
    assert!(format!("a log\n0\n{root}\n").parse::<Checkpoint>().is_ok());
    let wrong = [
        format!("a log\n0\n{root}"),
        format!("a log\n00\n{root}\n"),
        format!("a log\n+1\n{root}\n"),
        format!("a log\n 1\n{root}\n"),
        format!("a log\n\n{root}\n"),
        format!("a log\n18446744073709551616\n{root}\n"),
        format!("\n1\n{root}\n"),
        format!("a log\n1\n{root}\nextension\n"),
        format!("a log\n1\n{root}\n\n"),
        format!("a log\n1\n{}\n", &root[1..]),
        format!("a log\n1\n{}\n", root.replace("FU=", "FV=")),
        "a log\n1\n".to_owned(),
        String::new(),
    ];
    for text in wrong {
        assert_eq!(text.parse::<Checkpoint>(), Err(AuditError::Checkpoint), "{text}");
    }
}

#[test]
fn only_the_rosters_witnesses_make_a_quorum() {
    let bare = &vectors().logs[3].checkpoint;
    let trust = trust(4, 3);
    let who = |numbers: &[u32]| trust.open(cosigned(bare, numbers).as_bytes()).unwrap();
    assert_eq!(who(&[]).witnesses, []);
    assert!(!who(&[1, 2]).is_witnessed());
    assert!(who(&[4, 1, 2]).is_witnessed());
    assert_eq!(who(&[4, 1, 2]).witnesses, [PartyNumber(1), PartyNumber(2), PartyNumber(4)]);
    // A stranger's signature is ignored, the same one twice counts once.
    assert_eq!(who(&[7, 8, 1]).witnesses, [PartyNumber(1)]);
    let twice = cosigned(bare, &[1]) + cosigned(bare, &[1]).lines().last().unwrap() + "\n";
    assert_eq!(trust.open(twice.as_bytes()).unwrap().witnesses, [PartyNumber(1)]);
    assert_eq!(who(&[1, 2]).bare(), bare.as_bytes());
}

#[test]
fn a_checkpoint_of_another_log_or_without_the_logs_signature_is_refused() {
    let note = &vectors().logs[3].checkpoint;
    let other = LogTrust::new("other", vec![vkey("other", KeyKind::Ed25519, 4)], Vec::new(), 0);
    assert_eq!(other.open(note.as_bytes()), Err(AuditError::Origin));
    let keys = vec![vkey(ORIGIN, KeyKind::Ed25519, 5)];
    let rotated = LogTrust::new(ORIGIN, keys, Vec::new(), 0);
    assert_eq!(rotated.open(note.as_bytes()), Err(AuditError::Unsigned));
    let long = format!("{note}{}", "\u{2014} x AAAAAAAA\n".repeat(1_000));
    assert!(matches!(trust(0, 0).open(long.as_bytes()), Err(AuditError::TooLong { .. })));
}

#[test]
fn every_flipped_bit_of_a_checkpoint_is_noticed_or_lies_in_a_strangers_line() {
    let note = cosigned(&vectors().logs[4].checkpoint, &[1, 2]);
    let trust = trust(2, 2);
    for bit in 0..note.len() * 8 {
        let mut flipped = note.clone().into_bytes();
        flipped[bit / 8] ^= 1 << (bit % 8);
        // A changed name or key id makes a line a stranger's: then the witness does not count.
        let passes = trust.open(&flipped).is_ok_and(|signed| signed.is_witnessed());
        assert!(!passes, "bit {bit}");
    }
}

#[test]
fn roots_and_paths_found_in_tiles_are_those_of_the_tree() {
    for size in [1, 2, 255, 256, 257, 511, 513, 600] {
        let tree = Tree::new(&hashes(size));
        assert_eq!(tile_tree(size).root(), Ok(tree.root()), "{size}");
        for index in (0..size).step_by(37).chain([size - 1]) {
            let path = tree.inclusion_path(usize::try_from(index).unwrap());
            assert_eq!(tile_tree(size).inclusion_path(index), Ok(path), "{index} of {size}");
            assert_eq!(tile_tree(size).leaf(index), Ok(leaf_hash(&opened(index).0)));
            let path = tree.consistency_path(usize::try_from(index).unwrap());
            assert_eq!(tile_tree(size).consistency_path(index), Ok(path), "{index} to {size}");
        }
        assert!(matches!(tile_tree(size).inclusion_path(size), Err(AuditError::Merkle(_))));
        assert!(matches!(tile_tree(size).consistency_path(size + 1), Err(AuditError::Merkle(_))));
    }
    assert_eq!(tile_tree(0).root(), Ok(crate::merkle::empty_root()));
}

#[test]
fn a_tile_of_another_length_is_refused_and_a_wider_one_serves() {
    for cut in [0, 1, 31, 32 * 255, 32 * 256 - 1] {
        let mut tree = TileTree::new(256, |path| -> Result<Vec<u8>, AuditError> {
            Ok(tile(600, TilePath { width: 256, ..path })[..cut].to_vec())
        });
        assert_eq!(tree.inclusion_path(3), Err(AuditError::Tile), "{cut}");
    }
    let mut wider =
        TileTree::new(100, |path| Ok::<_, AuditError>(tile(600, TilePath { width: 256, ..path })));
    assert_eq!(wider.root(), Ok(crate::merkle::root(&hashes(100))));
}

#[test]
fn a_bundle_is_read_whole_or_not_at_all() {
    let mut bundle = Bundle::default();
    entries(3).into_iter().for_each(|entry| bundle.push(entry));
    let bytes = Bytes::from(bundle.to_bytes(3));
    assert_eq!(Bundle::parse(&bytes, 3).unwrap().entries(), entries(3));
    assert_eq!(Bundle::parse(&bytes, 2), Err(AuditError::Bundle));
    assert_eq!(Bundle::parse(&bytes, 4), Err(AuditError::Bundle));
    for cut in 0..bytes.len() {
        assert_eq!(Bundle::parse(&bytes.slice(..cut), 3), Err(AuditError::Bundle), "{cut}");
    }
    assert_eq!(Bundle::parse(&Bytes::from(vec![0xff; 0x1_0001]), 1), Err(AuditError::Bundle));
    assert_eq!(Bundle::parse(&Bytes::from(bundle.to_bytes(2)), 2).unwrap().entries().len(), 2);
}

#[test]
fn a_proof_equals_the_one_computed_elsewhere_and_verifies() {
    let text = vectors().proof;
    let proof: LeafProof = text.parse().unwrap();
    assert_eq!(proof.to_string(), text);
    let (leaf, salt, opening) = opened(7);
    assert_eq!(proof.extra, Some([salt.as_bytes().as_slice(), &opening.encode()].concat()));
    assert_eq!(proof.path, Tree::new(&hashes(600)).inclusion_path(7));
    assert_eq!(proof.verify(leaf_hash(&leaf), &trust(0, 0)).unwrap().checkpoint.size, 600);
    let other = leaf_hash(&opened(8).0);
    assert!(matches!(proof.verify(other, &trust(0, 0)), Err(AuditError::Merkle(_))));
}

#[test]
fn every_flipped_bit_of_a_proof_is_noticed_or_lies_in_its_extra() {
    let text = vectors().proof;
    let leaf = leaf_hash(&opened(7).0);
    let extra = text.find("extra").unwrap()..text.find("\nindex").unwrap();
    for bit in (0..text.len() * 8).filter(|bit| !extra.contains(&(bit / 8))) {
        let mut flipped = text.clone().into_bytes();
        flipped[bit / 8] ^= 1 << (bit % 8);
        let Ok(flipped) = String::from_utf8(flipped) else { continue };
        let verified = flipped.parse::<LeafProof>().and_then(|proof| proof.verify(leaf, &trust(0, 0)));
        assert!(verified.is_err(), "bit {bit}");
    }
}

#[test]
fn a_proof_has_one_form() {
    let text = vectors().proof;
    let path_line = text.lines().nth(3).unwrap().to_owned() + "\n";
    let wrong = [
        text.replace("@v1", "@v2"),
        text.replace("index 7", "index 07"),
        text.replace("index 7\n", ""),
        text.replace("extra ", "extra  "),
        text.replacen(&path_line, &(path_line.clone() + "\n"), 1),
        text.replacen(&path_line, &path_line.repeat(70), 1),
        text.replacen(&path_line, "AAAA\n", 1),
        text.split("\n\n").next().unwrap().to_owned(),
        String::new(),
    ];
    for (place, text) in wrong.iter().enumerate() {
        let verified = text.parse::<LeafProof>().and_then(|proof| proof.verify(leaf_hash(b""), &trust(0, 0)));
        assert!(verified.is_err(), "{place}");
    }
    let long = text.replacen("extra ", &format!("extra {}", "AAAA".repeat(6_000)), 1);
    assert!(matches!(long.parse::<LeafProof>(), Err(AuditError::TooLong { .. })));
}

#[test]
fn a_request_to_a_witness_equals_the_one_computed_elsewhere() {
    let text = vectors().add_checkpoint;
    let request: AddCheckpoint = text.parse().unwrap();
    assert_eq!(request.to_string(), text);
    assert_eq!(request.path, Tree::new(&hashes(600)).consistency_path(257));
    let root = crate::merkle::root(&hashes(257));
    let last = Checkpoint { origin: ORIGIN.to_owned(), size: 257, root };
    assert_eq!(request.check(Some(&last), &trust(0, 0)).unwrap().size, 600);
}

#[test]
fn a_witness_answers_as_tlog_witness_says() {
    let text = vectors().add_checkpoint;
    let request: AddCheckpoint = text.parse().unwrap();
    let at = |size| Checkpoint { origin: ORIGIN.to_owned(), size, root: crate::merkle::root(&hashes(size)) };
    let trust = trust(0, 0);
    let check = |request: &AddCheckpoint, last: &Checkpoint| request.check(Some(last), &trust).unwrap_err();
    assert_eq!(check(&request, &at(256)), Answer::Conflict(256));
    assert_eq!(request.check(None, &trust).unwrap_err(), Answer::Conflict(0));
    let forked = Checkpoint { root: sha256(b"another history"), ..at(257) };
    assert_eq!(check(&request, &forked), Answer::BadProof);
    let cut = AddCheckpoint { path: request.path[1..].to_vec(), ..request.clone() };
    assert_eq!(check(&cut, &at(257)), Answer::BadProof);
    let shrunk = AddCheckpoint { old_size: 601, ..request.clone() };
    assert_eq!(check(&shrunk, &at(601)), Answer::Malformed);
    // The same size again is no error, another root at it is.
    let again = AddCheckpoint { old_size: 600, path: Vec::new(), ..request.clone() };
    assert!(again.check(Some(&at(600)), &trust).is_ok());
    let other = Checkpoint { root: sha256(b"another root"), ..at(600) };
    assert_eq!(check(&again, &other), Answer::BadProof);
    let stranger = LogTrust::new("other", Vec::new(), Vec::new(), 0);
    assert_eq!(request.check(None, &stranger).unwrap_err(), Answer::UnknownLog);
    let keys = vec![vkey(ORIGIN, KeyKind::Ed25519, 9)];
    let rotated = LogTrust::new(ORIGIN, keys, Vec::new(), 0);
    assert_eq!(request.check(Some(&at(257)), &rotated).unwrap_err(), Answer::BadSignature);
    let statuses =
        [Answer::Malformed, Answer::BadSignature, Answer::UnknownLog, Answer::Conflict(3), Answer::BadProof];
    assert_eq!(statuses.clone().map(|answer| answer.status()), [400, 403, 404, 409, 422]);
    assert_eq!(statuses[3].body(), "3\n");
}

#[test]
fn a_request_to_a_witness_has_one_form() {
    let text = vectors().add_checkpoint;
    let path_line = text.lines().nth(1).unwrap().to_owned() + "\n";
    let wrong = [
        text.replacen("old 257", "old 0257", 1),
        text.replacen("old 257\n", "", 1),
        text.replacen(&path_line, &path_line.repeat(64), 1),
        text.replacen(&path_line, "short\n", 1),
        text.split("\n\n").next().unwrap().to_owned(),
        "x".repeat(20_000),
    ];
    for (place, text) in wrong.iter().enumerate() {
        assert!(text.parse::<AddCheckpoint>().is_err(), "{place}");
    }
}

fn administrative(previous: ChainHead, act: Act) -> Bytes {
    AdministrativeLeaf { log_time_us: 5, previous, act }.encode()
}

#[test]
fn a_follower_takes_every_leaf_and_knows_the_root() {
    let mut follower = Follower::new();
    let first = administrative(ChainHead::START, Act::Started { software: "pouch".to_owned() });
    let head = ChainHead { position: Position(0), hash: leaf_hash(&first) };
    let log = [first, Bytes::from(opened(1).0), administrative(head, Act::Stopped)];
    assert!(matches!(follower.take(&log[0]), Ok(Followed::Administrative(_))));
    assert_eq!(follower.take(&log[1]), Ok(Followed::Traffic));
    let restored = Follower::at(follower.tree().clone(), follower.chain());
    assert_eq!(restored, follower);
    assert!(matches!(follower.take(&log[2]), Ok(Followed::Administrative(_))));
    let hashes: Vec<Hash> = log.iter().map(|leaf| leaf_hash(leaf)).collect();
    let checkpoint = Checkpoint { origin: ORIGIN.to_owned(), size: 3, root: crate::merkle::root(&hashes) };
    assert_eq!(follower.check(&checkpoint), Ok(()));
    assert_eq!(
        follower.check(&Checkpoint { size: 2, ..checkpoint.clone() }),
        Err(AuditError::Root { size: 2 })
    );
    let other = Checkpoint { root: sha256(b"x"), ..checkpoint };
    assert_eq!(follower.check(&other), Err(AuditError::Root { size: 3 }));
}

#[test]
fn a_follower_notices_a_withheld_administrative_leaf_and_leaves_of_no_known_form() {
    let mut follower = Follower::new();
    let first = administrative(ChainHead::START, Act::Stopped);
    let head = ChainHead { position: Position(0), hash: leaf_hash(&first) };
    follower.take(&first).unwrap();
    let before = follower.clone();
    let second = administrative(head, Act::Stopped);
    let third = administrative(ChainHead { position: Position(1), hash: leaf_hash(&second) }, Act::Stopped);
    assert_eq!(follower.take(&third), Err(AuditError::Chain { index: 1 }));
    assert_eq!(follower.take(&first), Err(AuditError::Chain { index: 1 }));
    for entry in [&b""[..], b"\x01", b"\x01\x01", b"\x01\x03abc", b"\x02\x01", &opened(0).0[..33]] {
        assert!(matches!(follower.take(entry), Err(AuditError::Leaf { index: 1, .. })));
    }
    assert_eq!(follower, before, "what is refused changes nothing");
    assert!(follower.take(&second).is_ok());
}
