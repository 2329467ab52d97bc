//! What the audit log is read from: notes, checkpoints, requests to witnesses, proofs, names of files, bundles,
//! openings.

use bytes::Bytes;
use pouch::{
    audit::{
        AddCheckpoint, Bundle, BundlePath, Checkpoint, Follower, LeafProof, LogTrust, TilePath,
        bundles_between, tiles_between, witness_name,
    },
    limits::HASH_BYTES,
    merkle::{self, Hash},
    note::{KeyKind, Note, Vkey},
    record::{
        SALT_BYTES,
        administrative::AdministrativeLeaf,
        leaf::{Opening, is_traffic},
    },
};

use super::{Input, bloc::BLOC};

const ORIGIN: &str = "bloc.example/log";

/// Input: a note. What parses reads back the same, and nobody but the holders of keys has signed it.
pub fn note(bytes: &[u8]) {
    let Ok(note) = Note::parse(bytes) else { return };
    assert_eq!(note.to_bytes(), bytes, "a note has one form");
    let again = Note::new(note.text()).expect("the text of a note");
    assert!(again.signatures().is_empty());
    for key in trust().log_keys() {
        let signers = note.verify(std::slice::from_ref(key));
        assert!(signers.is_err() || signers.is_ok_and(|signers| signers.is_empty()), "no input holds a key");
    }
    if let Ok(text) = str::from_utf8(bytes)
        && let Ok(key) = text.trim_end().parse::<Vkey>()
    {
        assert_eq!(key.to_string().parse::<Vkey>().expect("what was written can be read"), key);
    }
}

/// Input: `u8 which || text`, or sizes, roots and a path for a request that the log's key signs. What parses reads back
/// the same; a witness agrees only to what follows from the checkpoint that it has.
pub fn checkpoint(bytes: &[u8]) {
    let mut input = Input(bytes);
    match input.byte() % 3 {
        0 => {
            if let Some(checkpoint) = text(input.0).and_then(|text| text.parse::<Checkpoint>().ok()) {
                assert_eq!(Some(checkpoint.to_string().as_str()), text(input.0), "a checkpoint has one form");
            }
            assert!(trust().open(input.0).is_err(), "no input holds the log's key");
        }
        1 => {
            let Some(request) = text(input.0).and_then(|text| text.parse::<AddCheckpoint>().ok()) else {
                return;
            };
            assert_eq!(Some(request.to_string().as_str()), text(input.0), "a request has one form");
            assert!(request.check(None, &trust()).is_err(), "no input holds the log's key");
        }
        _ => request(input),
    }
}

/// `u8 old || u8 size || root[32] || u8 last || last root[32] || path`.
fn request(mut input: Input<'_>) {
    let (old_size, size, root) = (input.byte().into(), input.byte().into(), hash(&mut input));
    let last_size: u64 = input.byte().into();
    let last = Checkpoint { origin: ORIGIN.to_owned(), size: last_size, root: hash(&mut input) };
    let path: Vec<Hash> = input.0.as_chunks::<HASH_BYTES>().0.iter().copied().map(Hash).collect();
    let checkpoint = signed(&Checkpoint { origin: ORIGIN.to_owned(), size, root });
    let request = AddCheckpoint { old_size, path, checkpoint };
    if let Ok(agreed) = request.check(Some(&last), &trust()) {
        assert!(old_size == last_size && last_size <= size, "nothing goes back");
        assert!(last_size < size || last.root == root, "one size has one root");
        assert_eq!((agreed.size, agreed.root), (size, root));
    }
}

/// Input: `u8 which || text`, or what a proof of a leaf under a checkpoint of the log's is made of. What parses reads
/// back the same; a proof proves the leaf that it is of, and no other.
pub fn proof(bytes: &[u8]) {
    let mut input = Input(bytes);
    if input.byte().is_multiple_of(2) {
        let Some(proof) = text(input.0).and_then(|text| text.parse::<LeafProof>().ok()) else { return };
        assert_eq!(Some(proof.to_string().as_str()), text(input.0), "a proof has one form");
        assert!(proof.verify(Hash::ZERO, &trust()).is_err(), "no input holds the log's key");
        return;
    }
    let (index, size, leaf) = (input.byte().into(), input.byte().into(), hash(&mut input));
    let path: Vec<Hash> = input.0.as_chunks::<HASH_BYTES>().0.iter().copied().map(Hash).collect();
    let made = merkle::root_from_inclusion(leaf, index, size, &path);
    let root = made.as_ref().copied().unwrap_or(Hash::ZERO);
    let checkpoint = signed(&Checkpoint { origin: ORIGIN.to_owned(), size, root });
    let proof = LeafProof { extra: None, index, path, checkpoint };
    assert_eq!(proof.verify(leaf, &trust()).is_ok(), made.is_ok());
    assert!(proof.verify(Hash([0xa5; HASH_BYTES]), &trust()).is_err() || leaf == Hash([0xa5; HASH_BYTES]));
}

/// Input: `u8 which || a name`, or `u64 old || u64 size`. A tile and a bundle have one name each, and what a log writes
/// when it grows has such names.
pub fn path(bytes: &[u8]) {
    let mut input = Input(bytes);
    if !input.byte().is_multiple_of(2) {
        let size = u64::from(input.byte()) << (input.byte() % 56);
        let old = size.saturating_sub(u64::from(input.short()));
        for tile in tiles_between(old, size) {
            assert_eq!(tile.to_string().parse(), Ok(tile));
        }
        for bundle in bundles_between(old, size) {
            assert_eq!(bundle.to_string().parse(), Ok(bundle));
        }
        return;
    }
    let Some(name) = text(input.0) else { return };
    if let Ok(path) = name.parse::<TilePath>() {
        assert_eq!(path.to_string(), name);
        assert!((1..=256).contains(&path.width));
    }
    if let Ok(path) = name.parse::<BundlePath>() {
        assert_eq!(path.to_string(), name);
        assert!((1..=256).contains(&path.width));
    }
}

/// Input: `u8 width - 1 || bytes`. What parses is written the same; its leaves make the tree that they make alone.
pub fn bundle(bytes: &[u8]) {
    let mut input = Input(bytes);
    let width = u16::from(input.byte()) + 1;
    let rest = Bytes::copy_from_slice(input.0);
    let end = Bundle::end_of(&rest, width);
    let Ok(bundle) = Bundle::parse(&rest, width) else { return };
    assert_eq!(bundle.to_bytes(width), rest);
    assert_eq!(end, Ok(rest.len()));
    let mut follower = Follower::new();
    let mut taken = Vec::new();
    for entry in bundle.entries() {
        match follower.take(entry) {
            Ok(_) => taken.push(merkle::leaf_hash(entry)),
            Err(_) => {
                assert_eq!(follower.size(), taken.len() as u64, "nothing is changed by what is refused")
            }
        }
    }
    assert_eq!(follower.root(), merkle::root(&taken));
    assert_eq!(Follower::decode(&follower.encode()), Ok(follower));
}

/// Input: `salt[32] || opening`, which are looked at as leaf and as state of a follower too. Fixed layouts have one form.
pub fn opening(bytes: &[u8]) {
    if let Ok(leaf) = AdministrativeLeaf::decode(bytes) {
        assert_eq!(leaf.encode(), bytes);
        assert!(!is_traffic(bytes));
    }
    if let Ok(follower) = Follower::decode(bytes) {
        assert_eq!(follower.encode(), bytes);
    }
    let Some((salt, rest)) = bytes.split_first_chunk::<SALT_BYTES>() else { return };
    if let Ok(opening) = Opening::decode(rest) {
        assert_eq!(opening.encode(), rest);
        let leaf = opening.leaf(salt);
        assert!(is_traffic(&leaf) && Follower::new().take(&leaf).is_ok());
    }
}

fn text(bytes: &[u8]) -> Option<&str> {
    str::from_utf8(bytes).ok()
}

fn hash(input: &mut Input<'_>) -> Hash {
    let mut hash = [0; HASH_BYTES];
    let taken = input.take(HASH_BYTES);
    hash[..taken.len()].copy_from_slice(taken);
    Hash(hash)
}

/// The log and its witnesses, a quorum of two.
fn trust() -> LogTrust {
    let witness = |desk: &super::bloc::Desk| {
        let key = Vkey::new(&witness_name(desk.id.spiffe()), KeyKind::Cosignature, desk.sign.public().0);
        (desk.number, key.expect("a SPIFFE ID names a witness"))
    };
    let witnesses = BLOC.desks.iter().map(witness).collect();
    let log_key = BLOC.roster_key.vkey(ORIGIN).expect("an origin names a key");
    LogTrust::new(ORIGIN, vec![log_key], witnesses, 2)
}

/// A checkpoint that the log signed.
fn signed(checkpoint: &Checkpoint) -> String {
    let text = checkpoint.to_string();
    let mut note = Note::new(&text).expect("a checkpoint's text");
    note.add(BLOC.roster_key.sign_note(ORIGIN, &text).expect("an origin names a key")).expect("the first");
    note.to_string()
}
