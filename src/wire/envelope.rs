//! Header, signature, wraps, ciphertext: an envelope, parsed from the bytes that were signed (FORMATS 5).

use std::{ops::Range, sync::Arc};

use bytes::{BufMut, Bytes, BytesMut};

use crate::{
    batch::{self, BatchError, Proof, PublicKey, Tag},
    limits,
    merkle::{self, Hash, Tree},
    roster::PartyNumber,
    wire::{
        EnvelopeHash, Malformed,
        core::hash,
        fields::{Fields, Value, put_bytes},
        pb,
    },
};

pub use super::core::{Addressee, AttachmentName, Core, Sealing};

/// One wrap: what only its addressee opens. The slip in clear until sealing exists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wrap {
    /// Generation of the addressee's prekey; 0 in clear.
    pub generation: u32,
    /// At most 64 KiB.
    pub bytes: Bytes,
}

/// Hash of one wrap as it stands in the tree of wraps.
pub fn wrap_leaf(party: PartyNumber, generation: u32, wrap: &[u8]) -> Hash {
    let mut entry = [0; 8 + limits::HASH_BYTES];
    entry[..4].copy_from_slice(&party.0.to_be_bytes());
    entry[4..8].copy_from_slice(&generation.to_be_bytes());
    entry[8..].copy_from_slice(merkle::sha256(wrap).as_bytes());
    merkle::leaf_hash(&entry)
}

/// An envelope as it is stored and relayed: signed bytes and the parts that they name.
///
/// Its *stored form* is the body of its journal record: `u8 count || u8 index || u8 n || n x path[32] ||
/// signature[64] || u32 length || wraps || ciphertext`. All parts are slices of it: handing one out copies
/// nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Envelope {
    /// Header as signed.
    pub header: Bytes,
    /// The stored form.
    pub stored: Bytes,
    places: Places,
    /// Nothing for a single addressee.
    many_wraps: Option<ManyWraps>,
}

/// The wraps of several addressees.
#[derive(Clone, Debug, PartialEq, Eq)]
struct ManyWraps {
    /// Where each begins in the stored form.
    starts: Vec<u32>,
    /// The tree over their leaves.
    tree: Tree,
}

/// Where the parts lie in a stored form.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Places {
    path: Range<usize>,
    signature: Range<usize>,
    wraps: Range<usize>,
}

impl Envelope {
    /// Takes over a submission, copying its parts once, out of the read buffer that they would pin.
    ///
    /// # Errors
    /// As [`Envelope::from_stored`].
    pub fn from_submit(submit: &pb::Submit, proof: &Proof) -> Result<(Envelope, Core), Malformed> {
        let wraps = u32::try_from(submit.wraps.len()).map_err(|_| Malformed::new("wraps", "are too long"))?;
        let stored_bytes = STORED_HEAD_BYTES
            + proof.path.len() * limits::HASH_BYTES
            + batch::SIGNATURE_BYTES
            + WRAPS_LENGTH_BYTES
            + submit.wraps.len()
            + submit.ciphertext.len();
        // One buffer for both, so that an envelope is one piece of memory.
        let mut both = Vec::with_capacity(submit.header.len() + stored_bytes);
        both.extend_from_slice(&submit.header);
        both.extend_from_slice(&[proof.count, proof.index]);
        both.push(u8::try_from(proof.path.len()).expect("at most 6 hashes"));
        for hash in &proof.path {
            both.extend_from_slice(hash.as_bytes());
        }
        both.extend_from_slice(&proof.signature);
        both.extend_from_slice(&wraps.to_be_bytes());
        both.extend_from_slice(&submit.wraps);
        both.extend_from_slice(&submit.ciphertext);
        let mut header = Bytes::from(both);
        let stored = header.split_off(submit.header.len());
        Envelope::from_stored(header, stored)
    }

    /// Parses and checks header, core and stored form: hash of the ciphertext, one wrap per addressee, root
    /// of the wraps. The signature is not verified here.
    ///
    /// # Errors
    /// [`Malformed`] names the first thing that is wrong.
    pub fn from_stored(header: Bytes, stored: Bytes) -> Result<(Envelope, Core), Malformed> {
        let (envelope, core, ciphertext_hash) = Envelope::from_parts(header, stored)?;
        if merkle::sha256(envelope.ciphertext_bytes()) != ciphertext_hash {
            return Err(Malformed::new("hash of the ciphertext", "does not fit the ciphertext"));
        }
        Ok((envelope, core))
    }

    /// As [`Envelope::from_stored`], but takes the ciphertext on trust, which a checksum covers: while a relay
    /// reads its journal back. Before anybody gets the envelope it is loaded anew, and checked then.
    pub(crate) fn from_replay(header: Bytes, stored: Bytes) -> Result<(Envelope, Core), Malformed> {
        Envelope::from_parts(header, stored).map(|(envelope, core, _)| (envelope, core))
    }

    /// With the hash that the header names of the ciphertext.
    fn from_parts(header: Bytes, stored: Bytes) -> Result<(Envelope, Core, Hash), Malformed> {
        let (core, named) = parse_header(&header)?;
        let places = Places::find(&stored)?;
        let (wraps_root, many_wraps) = wraps(&stored, places.wraps.clone(), &core.addressees)?;
        if wraps_root != hash(named.wraps_root, "root of the wraps")? {
            return Err(Malformed::new("root of the wraps", "does not fit the wraps"));
        }
        let ciphertext_hash = hash(named.ciphertext_hash, "hash of the ciphertext")?;
        Ok((Envelope { header, stored, places, many_wraps }, core, ciphertext_hash))
    }

    /// The sealed dispatch.
    pub fn ciphertext(&self) -> Bytes {
        self.stored.slice(self.places.wraps.end..)
    }

    /// The wrap of the addressee at `index` of the core.
    ///
    /// # Panics
    /// If there is no such addressee.
    pub fn wrap(&self, index: usize) -> Wrap {
        let (generation, place) = self.wrap_place(index);
        Wrap { generation, bytes: self.stored.slice(place) }
    }

    /// The path of that wrap in the tree of wraps.
    ///
    /// # Panics
    /// If there is no such addressee.
    pub fn wrap_path(&self, index: usize) -> Vec<Hash> {
        match &self.many_wraps {
            Some(wraps) => wraps.tree.inclusion_path(index),
            None => Vec::new(),
        }
    }

    /// The sender's batch signature over the header, as a frame carries it.
    pub fn proof(&self) -> pb::BatchProof {
        pb::BatchProof {
            count: self.stored[0].into(),
            index: self.stored[1].into(),
            path: self.stored.slice(self.places.path.clone()),
            signature: self.stored.slice(self.places.signature.clone()),
        }
    }

    /// How many items the sender's batch signature covers, and which of them this is.
    pub(super) fn place_in_batch(&self) -> (u8, u8) {
        (self.stored[0], self.stored[1])
    }

    /// The path of that signature.
    pub(super) fn path_bytes(&self) -> &[u8] {
        &self.stored[self.places.path.clone()]
    }

    pub(super) fn signature_bytes(&self) -> &[u8] {
        &self.stored[self.places.signature.clone()]
    }

    pub(super) fn ciphertext_bytes(&self) -> &[u8] {
        &self.stored[self.places.wraps.end..]
    }

    /// Generation and bytes of one addressee's wrap.
    pub(super) fn wrap_bytes(&self, index: usize) -> (u32, &[u8]) {
        let (generation, place) = self.wrap_place(index);
        (generation, &self.stored[place])
    }

    /// Bytes that this envelope holds in memory and takes on the wire, within a few dozen.
    pub fn bytes(&self) -> usize {
        self.header.len() + self.stored.len()
    }

    /// Bytes of header, ciphertext and one addressee's wrap: what a Deliver frame carries, but for proofs.
    ///
    /// # Panics
    /// If there is no such addressee.
    pub fn bytes_for(&self, index: usize) -> usize {
        self.header.len() + (self.stored.len() - self.places.wraps.end) + self.wrap_place(index).1.len()
    }

    /// Generation and place in the stored form.
    fn wrap_place(&self, index: usize) -> (u32, Range<usize>) {
        let start = match &self.many_wraps {
            Some(wraps) => wraps.starts[index] as usize,
            None => {
                assert_eq!(index, 0, "there is one addressee");
                self.places.wraps.start
            }
        };
        let mut wraps = Wraps { bytes: &self.stored[..self.places.wraps.end], at: start };
        wraps.next().and_then(Result::ok).expect("checked when it was read")
    }
}

const STORED_HEAD_BYTES: usize = 3;
const WRAPS_LENGTH_BYTES: usize = 4;

impl Places {
    fn find(stored: &[u8]) -> Result<Places, Malformed> {
        let cut_off = Malformed::new("envelope", "is cut off");
        let [count, index, hashes] = *stored.first_chunk::<STORED_HEAD_BYTES>().ok_or(cut_off)?;
        let path = STORED_HEAD_BYTES..STORED_HEAD_BYTES + usize::from(hashes) * limits::HASH_BYTES;
        let signature = path.end..path.end + batch::SIGNATURE_BYTES;
        let start = signature.end + WRAPS_LENGTH_BYTES;
        let length = stored.get(signature.end..start).and_then(|bytes| bytes.first_chunk()).ok_or(cut_off)?;
        let length = usize::try_from(u32::from_be_bytes(*length)).map_err(|_| cut_off)?;
        if stored.len() - start < length {
            return Err(cut_off);
        }
        if batch::path_hashes(count, index) != Ok(usize::from(hashes)) {
            return Err(Malformed::new("batch signature", "has parts of the wrong length"));
        }
        Ok(Places { path, signature, wraps: start..start + length })
    }
}

/// An envelope whose signature was verified; nothing but [`VerifiedEnvelope::verify`] makes one.
#[derive(Clone, Debug)]
pub struct VerifiedEnvelope {
    envelope: Arc<Envelope>,
    core: Box<Core>,
    hash: EnvelopeHash,
    key: PublicKey,
}

/// Why a submission is no verified envelope.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EnvelopeError {
    /// It cannot be read.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// It was not signed by this key.
    #[error(transparent)]
    Signature(#[from] BatchError),
}

impl VerifiedEnvelope {
    /// Verifies the batch signature over the header and everything that the header names.
    ///
    /// # Errors
    /// [`EnvelopeError`]; the verifier remembers nothing of a failure.
    pub fn verify(
        submit: &pb::Submit,
        trust_domain: &str,
        key: &PublicKey,
        verifier: &mut batch::Verifier,
    ) -> Result<VerifiedEnvelope, EnvelopeError> {
        let proof = super::convert::proof(submit.proof.as_ref())?;
        let leaf = batch::item_leaf(Tag::Envelope, &submit.header);
        verifier.verify(trust_domain, Tag::Envelope, key, leaf, &proof)?;
        let (envelope, core) = Envelope::from_submit(submit, &proof)?;
        let (envelope, core) = (Arc::new(envelope), Box::new(core));
        Ok(VerifiedEnvelope { envelope, core, hash: EnvelopeHash(leaf), key: *key })
    }

    /// The envelope's name.
    pub fn hash(&self) -> EnvelopeHash {
        self.hash
    }

    /// The key that signed it; whether it is the sender's is the roster's to say.
    pub fn key(&self) -> &PublicKey {
        &self.key
    }

    /// What it says.
    pub fn core(&self) -> &Core {
        &self.core
    }

    /// Its parts.
    pub fn envelope(&self) -> &Envelope {
        &self.envelope
    }

    /// Takes it apart.
    pub fn into_parts(self) -> (Arc<Envelope>, Box<Core>, EnvelopeHash) {
        (self.envelope, self.core, self.hash)
    }
}

/// What a header names beside the core, as it was written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Named<'a> {
    /// SHA-256 of the ciphertext, if it has 32 bytes.
    pub ciphertext_hash: &'a [u8],
    /// Root of the tree of wraps, if it has 32 bytes.
    pub wraps_root: &'a [u8],
}

/// Parses a header and the core in it.
///
/// # Errors
/// [`Malformed`] names the first thing that is wrong.
pub fn parse_header(header: &[u8]) -> Result<(Core, Named<'_>), Malformed> {
    let not_protobuf = Malformed::new("header", "is not protobuf");
    let (mut core, mut named) = (&[][..], Named::default());
    for field in Fields::of(header) {
        match field.map_err(|_| not_protobuf)? {
            (1, Value::Bytes(bytes)) => core = bytes,
            (2, Value::Bytes(bytes)) => named.ciphertext_hash = bytes,
            (3, Value::Bytes(bytes)) => named.wraps_root = bytes,
            (1..=3, _) => return Err(not_protobuf),
            _ => {}
        }
    }
    Ok((Core::decode(core)?, named))
}

/// The header bytes to sign for a core and what it comes with.
pub fn header_bytes(core: &Core, ciphertext: &[u8], wrap_root: &Hash) -> Bytes {
    let core = core.encode();
    let mut header = Vec::with_capacity(core.len() + HEADER_BYTES_BESIDE_CORE);
    put_bytes(1, &core, &mut header);
    put_bytes(2, merkle::sha256(ciphertext).as_bytes(), &mut header);
    put_bytes(3, wrap_root.as_bytes(), &mut header);
    header.into()
}

/// Two hashes, and before them and the core a key and a length each.
const HEADER_BYTES_BESIDE_CORE: usize = 2 * (2 + limits::HASH_BYTES) + 6;

/// Lays wraps out as a Submit frame carries them: `u32 generation || u16 length || wrap` each.
pub fn join_wraps(wraps: &[Wrap]) -> Bytes {
    let mut out = BytesMut::with_capacity(wraps.iter().map(|wrap| wrap.bytes.len() + WRAP_HEAD_BYTES).sum());
    for wrap in wraps {
        out.put_u32(wrap.generation);
        out.put_u16(u16::try_from(wrap.bytes.len()).expect("a wrap is far below 64 KiB: slips are bounded"));
        out.put_slice(&wrap.bytes);
    }
    out.freeze()
}

const WRAP_HEAD_BYTES: usize = 6;

/// Goes through wraps laid out by [`join_wraps`], from `at` to the end of `bytes`: generation and place of each.
struct Wraps<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Iterator for Wraps<'_> {
    type Item = Result<(u32, Range<usize>), Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.at == self.bytes.len() {
            return None;
        }
        let place = self.bytes[self.at..].first_chunk::<WRAP_HEAD_BYTES>().and_then(|head| {
            let generation = u32::from_be_bytes([head[0], head[1], head[2], head[3]]);
            let start = self.at + WRAP_HEAD_BYTES;
            let end = start + usize::from(u16::from_be_bytes([head[4], head[5]]));
            (end <= self.bytes.len()).then_some((generation, start..end))
        });
        self.at = place.as_ref().map_or(self.bytes.len(), |(_, place)| place.end);
        Some(place.ok_or(Malformed::new("wraps", "are cut off")))
    }
}

/// The root of the tree of the wraps at `place` of a stored form, and what is kept of several.
fn wraps(
    stored: &[u8],
    place: Range<usize>,
    addressees: &[Addressee],
) -> Result<(Hash, Option<ManyWraps>), Malformed> {
    let mut wraps = Wraps { bytes: &stored[..place.end], at: place.start };
    let fewer = Malformed::new("wraps", "are fewer than the addressees");
    let mut next = |addressee: &Addressee| {
        let start = u32::try_from(wraps.at).expect("a record is far below 4 GiB");
        let (generation, place) = wraps.next().ok_or(fewer)??;
        Ok((wrap_leaf(addressee.party, generation, &stored[place]), start))
    };
    let (root, many_wraps) = if let [addressee] = addressees {
        (next(addressee)?.0, None)
    } else {
        let (leaves, starts): (Vec<Hash>, Vec<u32>) =
            addressees.iter().map(next).collect::<Result<Vec<_>, _>>()?.into_iter().unzip();
        let tree = Tree::new(&leaves);
        (tree.root(), Some(ManyWraps { starts, tree }))
    };
    if wraps.at < place.end {
        return Err(Malformed::new("wraps", "are more than the addressees"));
    }
    Ok((root, many_wraps))
}
