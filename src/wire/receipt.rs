//! Receipts: who says which step of which envelopes was done (FORMATS 7).
//!
//! An item has a fixed layout, big endian: `u8 kind || u16 reason || u32 receiptor || u32 sender ||
//! u32 addressee || u64 time_us || u32 roster version || u64 checkpoint size || root[32] ||
//! details hash[32] or zeros || u16 n || n x (envelope hash[32] || u64 position)`.

use bytes::{BufMut, Bytes, BytesMut};

use crate::{
    batch::{self, BatchError, Proof, PublicKey, Tag},
    limits,
    merkle::{self, Hash, Tree},
    roster::PartyNumber,
    wire::{EnvelopeHash, Malformed, Position, pb},
};

/// The step that a receipt proves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ReceiptKind {
    /// Durable, verified and opened at the addressee. Settles.
    Delivered,
    /// Durable at the addressee, but not opened; the reason says why. Settles.
    SetAside,
    /// A person read it.
    Read,
    /// A person acknowledged it.
    Acknowledged,
    /// The sender's desk took it back.
    Withdrawn,
    /// The relay will never accept it; the reason is the refusal's code.
    Refused,
    /// The relay dropped it after its time.
    Expired,
}

impl ReceiptKind {
    const ALL: [ReceiptKind; 7] = [
        ReceiptKind::Delivered,
        ReceiptKind::SetAside,
        ReceiptKind::Read,
        ReceiptKind::Acknowledged,
        ReceiptKind::Withdrawn,
        ReceiptKind::Refused,
        ReceiptKind::Expired,
    ];

    /// Its byte in an item: 1 to 7 in the order above.
    pub fn code(self) -> u8 {
        self as u8 + 1
    }

    /// Reads [`ReceiptKind::code`].
    pub fn from_code(code: u8) -> Option<ReceiptKind> {
        ReceiptKind::ALL.into_iter().find(|kind| kind.code() == code)
    }

    /// Whether it takes the envelope out of the addressee's mailbox.
    pub fn settles(self) -> bool {
        matches!(self, ReceiptKind::Delivered | ReceiptKind::SetAside)
    }

    /// Lower-case words for people and the API.
    pub fn name(self) -> &'static str {
        match self {
            ReceiptKind::Delivered => "delivered",
            ReceiptKind::SetAside => "set aside",
            ReceiptKind::Read => "read",
            ReceiptKind::Acknowledged => "acknowledged",
            ReceiptKind::Withdrawn => "withdrawn",
            ReceiptKind::Refused => "refused",
            ReceiptKind::Expired => "expired",
        }
    }
}

/// Why a desk set an envelope aside: the reason of such a receipt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SetAsideReason {
    /// The sender's signature does not verify under the roster's key.
    BadSignature,
    /// Header, wrap or slip cannot be read, or the wrap's path is wrong.
    Malformed,
    /// The dispatch does not open, or is not what the core says.
    Unopened,
    /// The roster does not let this sender write so.
    NotPermitted,
}

impl SetAsideReason {
    /// 1 to 4 in the order above.
    pub fn code(self) -> u16 {
        self as u16 + 1
    }

    /// Words for a person, for any code a peer may send.
    pub fn words(code: u16) -> &'static str {
        match code {
            1 => "bad signature",
            2 => "cannot be read",
            3 => "does not open",
            4 => "not permitted by the roster",
            _ => "reason unknown to this version",
        }
    }
}

/// What a receipt says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReceiptItem {
    /// The step.
    pub kind: ReceiptKind,
    /// 0, or why: a [`SetAsideReason`] or a refusal's code.
    pub reason: u16,
    /// Who signs.
    pub receiptor: PartyNumber,
    /// Sender of all its envelopes.
    pub sender: PartyNumber,
    /// The addressee whose step it is; the sender where there is none (refused, withdrawn).
    pub addressee: PartyNumber,
    /// Receiptor's clock, microseconds since 1970.
    pub time_us: u64,
    /// Roster that the receiptor holds.
    pub roster_version: u32,
    /// Size of the receiptor's newest verified checkpoint.
    pub checkpoint_size: u64,
    /// Its root.
    pub checkpoint_root: Hash,
    /// SHA-256 of the details, or zeros.
    pub details_hash: Hash,
    /// 1 to 256, with positions.
    pub envelopes: Vec<(EnvelopeHash, Position)>,
}

const ITEM_HEAD_BYTES: usize = 1 + 2 + 4 + 4 + 4 + 8 + 4 + 8 + 32 + 32 + 2;
const ITEM_ENVELOPE_BYTES: usize = 32 + 8;
/// Bytes of the longest item.
pub const ITEM_BYTES_MAX: usize = ITEM_HEAD_BYTES + limits::RECEIPT_ENVELOPES_MAX * ITEM_ENVELOPE_BYTES;
const _: () = assert!(ITEM_BYTES_MAX + limits::DETAILS_BYTES_MAX < limits::FRAME_CONTROL_BYTES_MAX);

impl ReceiptItem {
    /// What a party says of its own step with envelopes of one sender, without reason, details or a verified checkpoint.
    pub fn own(
        kind: ReceiptKind,
        receiptor: PartyNumber,
        sender: PartyNumber,
        time_us: u64,
        roster_version: u32,
        envelopes: Vec<(EnvelopeHash, Position)>,
    ) -> ReceiptItem {
        ReceiptItem {
            kind,
            reason: 0,
            receiptor,
            sender,
            addressee: receiptor,
            time_us,
            roster_version,
            checkpoint_size: 0,
            checkpoint_root: merkle::empty_root(),
            details_hash: Hash::ZERO,
            envelopes,
        }
    }

    /// The bytes to sign.
    pub fn encode(&self) -> Bytes {
        debug_assert!((1..=limits::RECEIPT_ENVELOPES_MAX).contains(&self.envelopes.len()));
        let mut out = BytesMut::with_capacity(ITEM_HEAD_BYTES + self.envelopes.len() * ITEM_ENVELOPE_BYTES);
        out.put_u8(self.kind.code());
        out.put_u16(self.reason);
        out.put_u32(self.receiptor.0);
        out.put_u32(self.sender.0);
        out.put_u32(self.addressee.0);
        out.put_u64(self.time_us);
        out.put_u32(self.roster_version);
        out.put_u64(self.checkpoint_size);
        out.put_slice(self.checkpoint_root.as_bytes());
        out.put_slice(self.details_hash.as_bytes());
        out.put_u16(u16::try_from(self.envelopes.len()).expect("at most 256"));
        for (hash, position) in &self.envelopes {
            out.put_slice(hash.0.as_bytes());
            out.put_u64(position.0);
        }
        out.freeze()
    }

    /// Parses and checks an item.
    ///
    /// # Errors
    /// [`Malformed`] names what is wrong.
    pub fn decode(bytes: &[u8]) -> Result<ReceiptItem, Malformed> {
        let (head, list) = bytes
            .split_first_chunk::<ITEM_HEAD_BYTES>()
            .ok_or(Malformed::new("receipt item", "is too short"))?;
        let mut fields = Fields(head);
        let kind = ReceiptKind::from_code(fields.u8()).ok_or(Malformed::new("receipt kind", "is unknown"))?;
        let item = ReceiptItem {
            kind,
            reason: fields.u16(),
            receiptor: PartyNumber(fields.u32()),
            sender: PartyNumber(fields.u32()),
            addressee: PartyNumber(fields.u32()),
            time_us: fields.u64(),
            roster_version: fields.u32(),
            checkpoint_size: fields.u64(),
            checkpoint_root: fields.hash(),
            details_hash: fields.hash(),
            envelopes: Vec::new(),
        };
        let count = usize::from(fields.u16());
        if count == 0 || count > limits::RECEIPT_ENVELOPES_MAX || list.len() != count * ITEM_ENVELOPE_BYTES {
            return Err(Malformed::new("receipt item", "does not hold 1 to 256 envelopes of 40 bytes"));
        }
        let envelope = |entry: &[u8]| {
            let mut fields = Fields(entry);
            (EnvelopeHash(fields.hash()), Position(fields.u64()))
        };
        Ok(ReceiptItem { envelopes: list.chunks_exact(ITEM_ENVELOPE_BYTES).map(envelope).collect(), ..item })
    }
}

/// Reads fixed-layout fields from bytes whose length was checked before.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn take<const N: usize>(&mut self) -> [u8; N] {
        let (field, rest) = self.0.split_first_chunk().expect("the caller checked the whole length");
        self.0 = rest;
        *field
    }

    fn u8(&mut self) -> u8 {
        self.take::<1>()[0]
    }

    fn u16(&mut self) -> u16 {
        u16::from_be_bytes(self.take())
    }

    fn u32(&mut self) -> u32 {
        u32::from_be_bytes(self.take())
    }

    fn u64(&mut self) -> u64 {
        u64::from_be_bytes(self.take())
    }

    fn hash(&mut self) -> Hash {
        Hash(self.take())
    }
}

/// One item as it travels: signed bytes, and details beside them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReceiptPart {
    /// As signed.
    pub bytes: Bytes,
    /// `salt[32] || Details`, or empty.
    pub details: Bytes,
    /// What the bytes say.
    pub item: ReceiptItem,
}

impl ReceiptPart {
    /// Parses an item and checks its details against the hash in it.
    ///
    /// # Errors
    /// [`Malformed`] names what is wrong.
    pub fn parse(bytes: Bytes, details: Bytes) -> Result<ReceiptPart, Malformed> {
        let item = ReceiptItem::decode(&bytes)?;
        let expected = if details.is_empty() { Hash::ZERO } else { merkle::sha256(&details) };
        if item.details_hash != expected {
            return Err(Malformed::new("receipt details", "do not fit their hash"));
        }
        if details.len() > limits::DETAILS_BYTES_MAX || (!details.is_empty() && item.envelopes.len() != 1) {
            return Err(Malformed::new("receipt details", "are too long or for more than one envelope"));
        }
        Ok(ReceiptPart { bytes, details, item })
    }
}

/// Lays parts out as a Stored frame carries them.
pub fn join_parts(parts: &[ReceiptPart]) -> Bytes {
    let mut out = BytesMut::new();
    for part in parts {
        for bytes in [&part.bytes, &part.details] {
            out.put_u16(u16::try_from(bytes.len()).expect("item and details are below 64 KiB"));
            out.put_slice(bytes);
        }
    }
    out.freeze()
}

/// Takes [`join_parts`] apart: exactly `count` items, nothing after them.
///
/// # Errors
/// [`Malformed`] names what is wrong.
pub fn split_parts(mut bytes: Bytes, count: usize) -> Result<Vec<ReceiptPart>, Malformed> {
    if !(1..=limits::BATCH_ITEMS_MAX).contains(&count) {
        return Err(Malformed::new("receipts", "are not 1 to 64"));
    }
    let mut parts = Vec::with_capacity(count);
    for _ in 0..count {
        let item = take_counted(&mut bytes)?;
        let details = take_counted(&mut bytes)?;
        parts.push(ReceiptPart::parse(item, details)?);
    }
    if bytes.is_empty() { Ok(parts) } else { Err(Malformed::new("receipts", "are followed by other bytes")) }
}

fn take_counted(bytes: &mut Bytes) -> Result<Bytes, Malformed> {
    let cut_off = Malformed::new("receipts", "are cut off");
    let length = usize::from(u16::from_be_bytes(*bytes.first_chunk().ok_or(cut_off)?));
    if bytes.len() < 2 + length {
        return Err(cut_off);
    }
    let counted = bytes.split_to(2 + length);
    Ok(counted.slice(2..))
}

/// The receipts of one Stored frame, signed by one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReceiptBatch {
    /// Number of the frame, dense per party.
    pub number: u64,
    /// 1 to 64.
    pub parts: Vec<ReceiptPart>,
    /// Over all of them.
    pub signature: [u8; 64],
    /// The batch's tree, for the path that each sender gets.
    pub tree: Tree,
}

impl ReceiptBatch {
    /// Puts parts under their signature, which is not verified here.
    pub fn new(number: u64, parts: Vec<ReceiptPart>, signature: [u8; 64]) -> ReceiptBatch {
        let leaves: Vec<Hash> =
            parts.iter().map(|part| batch::item_leaf(Tag::Receipt, &part.bytes)).collect();
        ReceiptBatch { number, parts, signature, tree: Tree::new(&leaves) }
    }

    /// What one item carries to prove itself alone.
    pub fn proof(&self, index: usize) -> Proof {
        let small = |n: usize| u8::try_from(n).expect("at most 64 items");
        Proof {
            count: small(self.parts.len()),
            index: small(index),
            path: self.tree.inclusion_path(index),
            signature: self.signature,
        }
    }
}

/// Receipts whose batch signature was verified; nothing but [`VerifiedReceipts::verify`] makes them.
#[derive(Clone, Debug)]
pub struct VerifiedReceipts {
    batch: ReceiptBatch,
    key: PublicKey,
}

/// Why a Stored frame holds no verified receipts.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReceiptError {
    /// It cannot be read.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// It was not signed by this key.
    #[error(transparent)]
    Signature(#[from] BatchError),
}

impl VerifiedReceipts {
    /// Verifies the one signature over all items.
    ///
    /// # Errors
    /// [`ReceiptError`].
    pub fn verify(
        stored: pb::Stored,
        trust_domain: &str,
        key: &PublicKey,
    ) -> Result<VerifiedReceipts, ReceiptError> {
        let count =
            usize::try_from(stored.count).map_err(|_| Malformed::new("receipts", "are not 1 to 64"))?;
        let parts = split_parts(Bytes::copy_from_slice(&stored.items), count)?;
        let signature =
            (&*stored.signature).try_into().map_err(|_| Malformed::new("signature", "is not 64 bytes"))?;
        let batch = ReceiptBatch::new(stored.number, parts, signature);
        let items = u8::try_from(batch.parts.len()).expect("at most 64 items");
        batch::verify_root(trust_domain, Tag::Receipt, key, items, &batch.tree.root(), &signature)?;
        Ok(VerifiedReceipts { batch, key: *key })
    }

    /// Root of the batch: what the opening of its record names.
    pub fn root(&self) -> Hash {
        self.batch.tree.root()
    }

    /// The key that signed; whether it is the party's is the roster's to say.
    pub fn key(&self) -> &PublicKey {
        &self.key
    }

    /// The receipts.
    pub fn batch(&self) -> &ReceiptBatch {
        &self.batch
    }

    /// Takes them out.
    pub fn into_batch(self) -> ReceiptBatch {
        self.batch
    }
}
