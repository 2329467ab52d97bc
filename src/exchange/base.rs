//! The base of a segment: what replay would have built up before it, as bytes (DESIGN 8). A start begins with
//! the oldest one that is kept, and compares the others.
//!
//! Layout, big endian: `u8 5 || administrative head: u64 position, hash[32] || u64 log time_us of the last
//! record || tree: u64 size, u8 n, n x hash[32] || u32 rosters`, and for each version that came into force
//! `u64 position || u16 length || its leaf || hash of its note[32]`; then the router
//! ([`crate::router`]'s base), `u64` wall clock accepted last, and the orders that stand
//! ([`crate::router::orders`]), and what was erased ([`super::erasure`]). Last comes what no record says: what desks have confirmed of their receipts, and the receipts that they have not.

use bytes::{Buf, BufMut, Bytes, TryGetError};

use super::{Exchange, ReplayError, erasure::Erasures};
use crate::{
    limits::{self, HASH_BYTES, Limits},
    merkle::{self, Frontier, Hash},
    record::administrative::{Act, AdministrativeLeaf, ChainHead},
    router::{self, Router, orders::Orders},
    wire::{Malformed, Position},
};

const VERSION: u8 = 5;
/// The one before, which says nothing of erasures: from such a base on, days are noted anew.
const VERSION_BEFORE: u8 = 4;
/// A roster's position, leaf and hash of its note.
const ROSTER_BYTES: usize = 8 + 2 + ROSTER_LEAF_BYTES + HASH_BYTES;
const ROSTER_LEAF_BYTES: usize = 51 + 4 + HASH_BYTES + 4;
/// The tree at its largest, and the fields of a fixed length.
const HEAD_BYTES: usize = 1 + 8 + HASH_BYTES + 8 + 8 + 1 + 64 * HASH_BYTES + 4 + 8;

/// Bytes of a base at most: what a segment must have room for.
pub const fn base_bytes_max(limits: &Limits) -> usize {
    HEAD_BYTES
        + limits::ROSTER_VERSIONS_MAX * ROSTER_BYTES
        + router::base::bytes_max(limits)
        + Orders::BYTES_MAX
        + Erasures::BYTES_MAX
}

impl Exchange {
    /// All lasting state, at most [`base_bytes_max`] of it, for a segment that begins here: until that is
    /// durable, no later record may be.
    pub fn base(&mut self) -> Vec<u8> {
        let mut out = self.base_of_records(VERSION);
        self.router.encode_receipts(&mut out);
        self.router.base_made();
        out
    }

    /// Whether a segment should begin soon, though the one before it has room: so much was confirmed since the
    /// last base that a start without a new one would find too much waiting.
    pub fn wants_base(&self) -> bool {
        self.router.wants_base(&self.limits)
    }

    /// Takes over the base that a journal begins with. `note` gives the roster note whose record stands at a
    /// position; it is verified from the trust bundle on.
    ///
    /// # Errors
    /// [`ReplayError::BaseVersion`], [`ReplayError::FirstBase`] where it cannot be read, [`ReplayError::Roster`], and those of `note`.
    pub fn restore<E: From<ReplayError>>(
        &mut self,
        base: &[u8],
        mut note: impl FnMut(Position) -> Result<Bytes, E>,
    ) -> Result<(), E> {
        let first_base = |source| E::from(ReplayError::FirstBase(source));
        self.check_version(base)?;
        let mut fields = base;
        let parts = Parts::decode(&mut fields).map_err(first_base)?;
        for (position, leaf, hash) in parts.rosters {
            let beside = note(position)?;
            if merkle::sha256(&beside) != hash {
                return Err(first_base(Malformed::new("a roster note", "is not the one that was in force")));
            }
            self.restore_roster(position, leaf, beside)?;
        }
        self.chain = parts.chain;
        self.tree = parts.tree;
        self.last_record_us = parts.last_record_us;
        if parts.clock_accepted_us > 0 {
            self.clock.accept(parts.clock_accepted_us);
        }
        self.clock.replay(parts.last_record_us);
        self.router = parts.router;
        self.orders = parts.orders;
        self.erasures = parts.erasures;
        self.router.take_receipts(Router::decode_receipts(&mut fields).map_err(first_base)?);
        if fields.is_empty() { Ok(()) } else { Err(first_base(Malformed::new("the base", "is too long"))) }
    }

    /// Compares a base met at replay with the state built so far, and takes over what desks had confirmed.
    ///
    /// # Errors
    /// [`ReplayError::BaseVersion`], [`ReplayError::Base`] where they differ: the journal is damaged.
    pub fn replay_base(&mut self, base: &[u8]) -> Result<(), ReplayError> {
        self.check_version(base)?;
        let differs = || ReplayError::Base(Position(self.tree.size()));
        let version = base.first().copied().unwrap_or(VERSION);
        let mut receipts = base.strip_prefix(self.base_of_records(version).as_slice()).ok_or_else(differs)?;
        let taken = Router::decode_receipts(&mut receipts).map_err(|_| differs())?;
        if !receipts.is_empty() {
            return Err(differs());
        }
        self.router.take_receipts(taken);
        if version == VERSION_BEFORE {
            self.erasures = Erasures::default();
        }
        Ok(())
    }

    /// A base without any bytes is of no version, but cut short.
    fn check_version(&self, base: &[u8]) -> Result<(), ReplayError> {
        match base.first() {
            Some(version) if ![VERSION, VERSION_BEFORE].contains(version) => {
                Err(ReplayError::BaseVersion(*version, Position(self.tree.size())))
            }
            _ => Ok(()),
        }
    }

    fn restore_roster(&mut self, position: Position, leaf: Bytes, beside: Bytes) -> Result<(), ReplayError> {
        let source = |source| ReplayError::Roster { position, source: Box::new(source) };
        let roster = self.verify_roster(&beside).map_err(source)?;
        let before = self.roster.replace(roster.clone());
        self.history.push(before.as_deref(), &roster);
        self.trust_from(position, &roster);
        self.roster_leaves.push((roster.version(), position, leaf, beside));
        Ok(())
    }

    pub(super) fn base_of_records(&self, version: u8) -> Vec<u8> {
        let mut out = vec![version];
        out.put_u64(self.chain.position.0);
        out.put_slice(self.chain.hash.as_bytes());
        out.put_u64(self.last_record_us);
        let (size, subtrees) = self.tree.parts();
        out.put_u64(size);
        out.put_u8(u8::try_from(subtrees.len()).expect("a tree has at most 64 subtrees"));
        for hash in subtrees {
            out.put_slice(hash.as_bytes());
        }
        out.put_u32(u32::try_from(self.roster_leaves.len()).expect("versions are u32"));
        for (_, position, leaf, beside) in &self.roster_leaves {
            out.put_u64(position.0);
            out.put_u16(u16::try_from(leaf.len()).expect("a roster's leaf is below 100 bytes"));
            out.put_slice(leaf);
            out.put_slice(merkle::sha256(beside).as_bytes());
        }
        self.router.encode(&mut out);
        out.put_u64(self.clock.accepted_us());
        self.orders.encode(&mut out);
        if version == VERSION {
            self.erasures.encode(&mut out);
        }
        out
    }
}

const CUT_SHORT: Malformed = Malformed { what: "the base", problem: "is cut short" };

/// What follows from records, as read back.
struct Parts {
    chain: ChainHead,
    last_record_us: u64,
    tree: Frontier,
    rosters: Vec<(Position, Bytes, Hash)>,
    router: Router,
    clock_accepted_us: u64,
    orders: Orders,
    erasures: Erasures,
}

impl Parts {
    fn decode(fields: &mut &[u8]) -> Result<Parts, Malformed> {
        let short = |_: TryGetError| CUT_SHORT;
        let version = fields.try_get_u8().map_err(short)?;
        let position = Position(fields.try_get_u64().map_err(short)?);
        let chain = ChainHead { position, hash: hash(fields)? };
        let last_record_us = fields.try_get_u64().map_err(short)?;
        let size = fields.try_get_u64().map_err(short)?;
        let count = fields.try_get_u8().map_err(short)?;
        let subtrees = (0..count).map(|_| hash(fields)).collect::<Result<Vec<_>, _>>()?;
        let tree = Frontier::from_parts(size, &subtrees)
            .map_err(|_| Malformed::new("the tree", "has another number of parts"))?;
        let mut rosters = Vec::new();
        for _ in 0..fields.try_get_u32().map_err(short)? {
            rosters.push(roster(fields)?);
        }
        let router = Router::decode(fields)?;
        let clock_accepted_us = fields.try_get_u64().map_err(short)?;
        let orders = Orders::decode(fields)?;
        let erasures = if version == VERSION { Erasures::decode(fields)? } else { Erasures::default() };
        Ok(Parts { chain, last_record_us, tree, rosters, router, clock_accepted_us, orders, erasures })
    }
}

fn roster(fields: &mut &[u8]) -> Result<(Position, Bytes, Hash), Malformed> {
    let position = Position(fields.try_get_u64().map_err(|_| CUT_SHORT)?);
    let length = usize::from(fields.try_get_u16().map_err(|_| CUT_SHORT)?);
    let leaf = Bytes::copy_from_slice(fields.split_off(..length).ok_or(CUT_SHORT)?);
    if !matches!(AdministrativeLeaf::decode(&leaf)?.act, Act::Roster { .. }) {
        return Err(Malformed::new("a roster's leaf", "is of another act"));
    }
    Ok((position, leaf, hash(fields)?))
}

fn hash(fields: &mut &[u8]) -> Result<Hash, Malformed> {
    let mut hash = Hash::ZERO;
    fields.try_copy_to_slice(&mut hash.0).map_err(|_| CUT_SHORT)?;
    Ok(hash)
}
