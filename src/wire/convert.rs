//! Small conversions between generated frames and domain types, used by both ends.

use bytes::Bytes;

use crate::{
    batch::Proof,
    limits,
    merkle::Hash,
    roster::PartyNumber,
    wire::{
        Malformed, Position,
        envelope::{Core, Envelope, Wrap, parse_header, wrap_leaf},
        pb,
    },
};

/// Reads a batch proof.
///
/// # Errors
/// [`Malformed`] where it is missing or a length in it is wrong.
pub fn proof(proof: Option<&pb::BatchProof>) -> Result<Proof, Malformed> {
    let proof = proof.ok_or(Malformed::new("batch signature", "is missing"))?;
    Proof::from_parts(proof.count, proof.index, &proof.path, &proof.signature)
        .map_err(|_| Malformed::new("batch signature", "has parts of the wrong length"))
}

/// Writes a batch proof.
pub fn proof_frame(proof: &Proof) -> pb::BatchProof {
    pb::BatchProof {
        count: proof.count.into(),
        index: proof.index.into(),
        path: proof.path_bytes().into(),
        signature: Bytes::copy_from_slice(&proof.signature),
    }
}

/// Writes the Deliver frame of one envelope to the addressee at `index` of its core.
pub fn deliver_frame(
    position: Position,
    envelope: &Envelope,
    index: usize,
    salt: Bytes,
    opening: Bytes,
) -> pb::Deliver {
    let wrap = envelope.wrap(index);
    pb::Deliver {
        position: position.0,
        header: envelope.header.clone(),
        proof: Some(envelope.proof()),
        ciphertext: envelope.ciphertext(),
        wrap_index: u32::try_from(index).expect("at most 128 addressees"),
        wrap_generation: wrap.generation,
        wrap: wrap.bytes,
        wrap_path: hashes_bytes(&envelope.wrap_path(index)),
        salt,
        opening,
    }
}

fn hashes_bytes(hashes: &[Hash]) -> Bytes {
    if hashes.is_empty() {
        Bytes::new()
    } else {
        hashes.iter().flat_map(|hash| hash.0).collect::<Vec<u8>>().into()
    }
}

/// What a Deliver frame says, with ciphertext and wrap checked against the header; the signature is the
/// caller's to verify.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeliveredParts {
    /// What was signed.
    pub core: Core,
    /// The addressee that the wrap is for.
    pub addressee: PartyNumber,
    /// Its wrap.
    pub wrap: Wrap,
}

/// Checks a Deliver frame against its own header: ciphertext hash, and the wrap's path.
///
/// # Errors
/// [`Malformed`] names what is wrong.
pub fn delivered_parts(deliver: &pb::Deliver) -> Result<DeliveredParts, Malformed> {
    let (core, named) = parse_header(&deliver.header)?;
    let index =
        usize::try_from(deliver.wrap_index).map_err(|_| Malformed::new("wrap index", "is too large"))?;
    let addressee =
        core.addressees.get(index).ok_or(Malformed::new("wrap index", "names no addressee"))?.party;
    let leaf = wrap_leaf(addressee, deliver.wrap_generation, &deliver.wrap);
    let (hashes, rest) = deliver.wrap_path.as_chunks::<{ limits::HASH_BYTES }>();
    let path: Vec<Hash> = hashes.iter().copied().map(Hash).collect();
    let root = crate::merkle::root_from_inclusion(leaf, index as u64, core.addressees.len() as u64, &path);
    let claimed = Hash::try_from(named.wraps_root)
        .map_err(|_| Malformed::new("root of the wraps", "is not 32 bytes"))?;
    if !rest.is_empty() || root != Ok(claimed) {
        return Err(Malformed::new("wrap", "does not fit the root of the wraps"));
    }
    if *crate::merkle::sha256(&deliver.ciphertext).as_bytes() != *named.ciphertext_hash {
        return Err(Malformed::new("ciphertext", "does not fit its hash"));
    }
    let wrap = Wrap { generation: deliver.wrap_generation, bytes: deliver.wrap.clone() };
    Ok(DeliveredParts { core, addressee, wrap })
}

/// Cuts a sentence to the bound of a control frame, at a character.
pub fn sentence(text: &str) -> String {
    let end = text.floor_char_boundary(limits::SENTENCE_BYTES_MAX);
    text[..end].to_owned()
}
