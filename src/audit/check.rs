//! What a proof file proves: from the trust bundle to the rosters, from them to keys and quorum, and from those to
//! envelope, leaves and receipts (FORMATS 11). What the file says of itself is believed nowhere.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use super::{
    FiledReceipt, FiledRoster, LeafProof, LogFacts, Outcome, Part, ProofFault, ProofFile, ProvenDispatch,
    ProvenLeaf, ProvenReceipt, SignedItem,
    rosters::{Opened, Rosters, own_bundle},
};
use crate::{
    batch::{self, PublicKey, Tag},
    limits::RELAY_KEYS_TRIED_MAX,
    merkle::{Hash, leaf_hash, root_from_inclusion, sha256},
    record::{
        SALT_BYTES,
        administrative::{Act, AdministrativeLeaf},
        leaf::{Opening, OpeningKind},
    },
    roster::{PartyKind, PartyNumber, TrustBundle},
    wire::{
        EnvelopeHash, Position,
        envelope::{Core, parse_header},
        receipt::{ReceiptItem, ReceiptKind},
    },
};

/// Checks a file against a trust bundle and, where there is one, a whole log. Without a bundle the file's own first
/// roster stands in for it: what comes out then is consistent with itself, and proves nothing.
///
/// # Errors
/// The first thing that is wrong or missing: rosters, then the envelope, then receipts, then content.
pub fn check(
    file: &ProofFile,
    bundle: Option<&TrustBundle>,
    log: Option<&LogFacts>,
) -> Result<ProvenDispatch, ProofFault> {
    let (mut check, core, outcome, leaf) = Check::begin(file, bundle, log)?;
    let hash = EnvelopeHash(batch::item_leaf(Tag::Envelope, &file.envelope.bytes));
    let named = Named { core: &core, outcome, hash, position: Position(leaf.position) };
    let mut receipts = Vec::with_capacity(file.receipts.len());
    for (number, receipt) in (1..).zip(&file.receipts) {
        receipts.push(check.filed(number, receipt, &named)?);
    }
    let has_content = content(file)?;
    Ok(ProvenDispatch {
        key_in_force: check.key_in_force(&core, &leaf, &receipts),
        revoked_since: check.revoked_since(&core, &leaf, &receipts),
        codes: check.rosters.newest().parties().map(|party| (party.number, party.code.clone())).collect(),
        newest_roster: check.rosters.newest().version(),
        core,
        hash,
        outcome,
        leaf,
        receipts,
        has_content,
    })
}

/// Keeps those of a file's receipts that hold, of each kind and signer the first. One that fits nothing makes the whole
/// file worth nothing: whoever signs such a one later would take away the proof of what it signed before. Returns the
/// places, from 0, of those that do not hold.
///
/// # Errors
/// What is wrong with rosters or envelope, without which no receipt can be held against anything.
pub fn sift(file: &mut ProofFile, bundle: &TrustBundle) -> Result<Vec<usize>, ProofFault> {
    let (mut check, core, outcome, leaf) = Check::begin(file, Some(bundle), None)?;
    let hash = EnvelopeHash(batch::item_leaf(Tag::Envelope, &file.envelope.bytes));
    let named = Named { core: &core, outcome, hash, position: Position(leaf.position) };
    let (mut kept, mut misfits, mut said) = (Vec::new(), Vec::new(), BTreeSet::new());
    for (place, receipt) in std::mem::take(&mut file.receipts).into_iter().enumerate() {
        match check.filed(place, &receipt, &named) {
            Ok(proven) if said.insert((proven.item.kind.code(), proven.item.receiptor)) => kept.push(receipt),
            Ok(_) => {}
            Err(_) => misfits.push(place),
        }
    }
    file.receipts = kept;
    Ok(misfits)
}

/// The file's rosters and the log's, verified from the bundle.
fn rosters(
    file: &ProofFile,
    bundle: Option<&TrustBundle>,
    log: Option<&LogFacts>,
) -> Result<Rosters, ProofFault> {
    let mut notes: BTreeMap<u32, &[u8]> = BTreeMap::new();
    notes.extend(log.into_iter().flat_map(|log| &log.notes).map(|(version, note)| (*version, &note[..])));
    for roster in &file.rosters {
        let before = notes.insert(roster.version, &roster.note);
        if before.is_some_and(|before| before != roster.note) {
            return Err(ProofFault::OtherRoster { version: roster.version });
        }
    }
    let first = file.rosters.first().ok_or(ProofFault::NoRoster { part: Part::Envelope, version: 0 })?;
    let own;
    let bundle = match bundle {
        Some(bundle) => bundle,
        None => {
            own = own_bundle(&first.note)
                .map_err(|source| ProofFault::Roster { version: first.version, source })?;
            &own
        }
    };
    let mut rosters = Rosters::verify(&notes, bundle)?;
    log.into_iter().flat_map(|log| &log.rosters).for_each(|(version, at)| rosters.locate(*version, *at));
    for roster in &file.rosters {
        // Only claimed here; `roster_leaf` holds each against the log.
        roster.leaf.iter().for_each(|leaf| rosters.locate(roster.version, leaf.index));
    }
    Ok(rosters)
}

/// What everything is held against.
pub(super) struct Check<'a> {
    pub rosters: Rosters,
    pub log: Option<&'a LogFacts>,
}

impl<'a> Check<'a> {
    /// Rosters and envelope, on which all else rests.
    fn begin(
        file: &ProofFile,
        bundle: Option<&TrustBundle>,
        log: Option<&'a LogFacts>,
    ) -> Result<(Check<'a>, Core, Outcome, ProvenLeaf), ProofFault> {
        let mut check = Check { rosters: rosters(file, bundle, log)?, log };
        for roster in &file.rosters {
            check.roster_leaf(roster)?;
        }
        let (core, outcome, leaf) = check.envelope(&file.envelope)?;
        Ok((check, core, outcome, leaf))
    }

    /// One of the file's receipts, with its details.
    fn filed(
        &mut self,
        number: usize,
        receipt: &FiledReceipt,
        named: &Named<'_>,
    ) -> Result<ProvenReceipt, ProofFault> {
        let part = Part::Receipt(number);
        let (item, leaf) = self.receipt(part, &receipt.item, named)?;
        let details_hash =
            if receipt.details.is_empty() { item.details_hash } else { sha256(&receipt.details) };
        if details_hash != item.details_hash {
            return Err(ProofFault::Wrong { part, problem: "its details are not those that were signed" });
        }
        Ok(ProvenReceipt { item, leaf, details: receipt.details.clone() })
    }

    fn roster_leaf(&mut self, filed: &FiledRoster) -> Result<(), ProofFault> {
        let part = Part::Roster(filed.version);
        let Some(proof) = &filed.leaf else { return Ok(()) };
        let leaf = proof.extra.as_deref().unwrap_or_default();
        let read =
            AdministrativeLeaf::decode(leaf).map_err(|source| ProofFault::Malformed { part, source })?;
        let roster = self.rosters.version(filed.version);
        let is_it = match (read.act, roster) {
            (Act::Roster { version, hash, .. }, Some(roster)) => {
                version == roster.version() && hash == roster.hash()
            }
            _ => false,
        };
        if !is_it || self.rosters.position(filed.version) != Some(proof.index) {
            return Err(ProofFault::Wrong {
                part,
                problem: "its leaf names another roster, or stands elsewhere",
            });
        }
        self.included(part, proof, leaf_hash(leaf)).map(drop)
    }

    /// Holds a leaf against its checkpoint, and against the log where that is at hand.
    fn included(&mut self, part: Part, proof: &LeafProof, leaf: Hash) -> Result<Opened, ProofFault> {
        let (signed, counted_by) = self.rosters.open(part, &proof.checkpoint)?;
        let root = root_from_inclusion(leaf, proof.index, signed.checkpoint.size, &proof.path)
            .map_err(|source| ProofFault::Leaf { part, source: source.into() })?;
        if root != signed.checkpoint.root {
            let source = crate::merkle::MerkleError::RootMismatch.into();
            return Err(ProofFault::Leaf { part, source });
        }
        if let Some(log) = self.log {
            if log.origin != signed.checkpoint.origin {
                return Err(ProofFault::OtherLog { part });
            }
            let index = proof.index;
            match log.leaves.get(&index) {
                None => return Err(ProofFault::LogTooShort { part, index, size: log.size }),
                Some(there) if *there != leaf => return Err(ProofFault::OtherLeaf { part, index }),
                Some(_) => {}
            }
        }
        Ok((signed, counted_by))
    }

    /// A traffic leaf, by what opens it.
    fn opened(&mut self, part: Part, proof: &LeafProof) -> Result<(Opening, ProvenLeaf), ProofFault> {
        let malformed = |source| ProofFault::Malformed { part, source };
        let extra = proof.extra.as_deref().unwrap_or_default();
        let (salt, opening) = extra
            .split_first_chunk::<SALT_BYTES>()
            .ok_or(ProofFault::Wrong { part, problem: "what opens its leaf is too short" })?;
        let opening = Opening::decode(opening).map_err(malformed)?;
        let (signed, counted_by) = self.included(part, proof, leaf_hash(&opening.leaf(salt)))?;
        let (position, log_time_us, roster_version) =
            (proof.index, opening.log_time_us, opening.roster_version);
        // An older one may be named just behind a new one: the relay judges by what is durable.
        if self.rosters.position(roster_version).is_some_and(|placed| placed > position) {
            return Err(ProofFault::Wrong {
                part,
                problem: "the relay names a roster that came into force later",
            });
        }
        let (witnesses, quorum) = (signed.witnesses.len(), signed.quorum);
        Ok((opening, ProvenLeaf { position, log_time_us, roster_version, witnesses, quorum, counted_by }))
    }

    /// A party's sign key under a roster version.
    fn key(&self, part: Part, party: PartyNumber, version: u32) -> Result<PublicKey, ProofFault> {
        let roster = self.rosters.version(version).ok_or(ProofFault::NoRoster { part, version })?;
        let party = roster.party(party);
        party
            .map(|party| party.sign)
            .ok_or(ProofFault::Wrong { part, problem: "its signer is not in the roster" })
    }

    fn signed(&self, part: Part, tag: Tag, item: &SignedItem, key: &PublicKey) -> Result<(), ProofFault> {
        let leaf = batch::item_leaf(tag, &item.bytes);
        let domain = self.rosters.newest().trust_domain();
        let verified = batch::Verifier::new(1).verify(domain, tag, key, leaf, &item.signature);
        verified.map_err(|source| ProofFault::Signature { part, source })
    }

    fn envelope(&mut self, item: &SignedItem) -> Result<(Core, Outcome, ProvenLeaf), ProofFault> {
        let part = Part::Envelope;
        let wrong = |problem| ProofFault::Wrong { part, problem };
        let header = Bytes::copy_from_slice(&item.bytes);
        let (core, _) = parse_header(&header).map_err(|source| ProofFault::Malformed { part, source })?;
        let version = core.roster_version;
        let addressed = self.rosters.version(version).ok_or(ProofFault::NoRoster { part, version })?;
        if addressed.hash() != core.roster_hash || core.trust_domain != addressed.trust_domain() {
            return Err(wrong("it was addressed by another roster"));
        }
        let (opening, leaf) = self.opened(part, &item.leaf)?;
        let outcome = match opening.kind {
            OpeningKind::Envelope => Some(Outcome::Accepted),
            OpeningKind::Refusal => Some(Outcome::Refused),
            OpeningKind::Receipts | OpeningKind::Expiry => None,
        };
        let outcome = outcome.filter(|_| opening.hash == batch::item_leaf(Tag::Envelope, &item.bytes));
        let outcome = outcome.ok_or(wrong("its leaf is that of something else"))?;
        if version > leaf.roster_version {
            return Err(wrong("its sender names a newer roster than was in force"));
        }
        self.signed(part, Tag::Envelope, item, &self.key(part, core.sender, leaf.roster_version)?)?;
        Ok((core, outcome, leaf))
    }

    fn receipt(
        &mut self,
        part: Part,
        signed: &SignedItem,
        named: &Named<'_>,
    ) -> Result<(ReceiptItem, ProvenLeaf), ProofFault> {
        let wrong = |problem| ProofFault::Wrong { part, problem };
        let item =
            ReceiptItem::decode(&signed.bytes).map_err(|source| ProofFault::Malformed { part, source })?;
        let core = named.core;
        // What was refused has no position.
        let position = if item.kind == ReceiptKind::Refused { Position::NONE } else { named.position };
        if !item.envelopes.contains(&(named.hash, position)) || item.sender != core.sender {
            return Err(wrong("it is a receipt for something else"));
        }
        if named.outcome == Outcome::Refused && item.kind != ReceiptKind::Refused {
            return Err(wrong("what was refused has no such receipt"));
        }
        let (opening, leaf) = self.opened(part, &signed.leaf)?;
        let is_addressed = core.addressees.iter().any(|addressee| addressee.party == item.addressee);
        let by_relay = || {
            let roster = self.rosters.version(leaf.roster_version);
            roster
                .and_then(|roster| roster.party(item.receiptor))
                .is_some_and(|party| party.kind == PartyKind::Relay)
        };
        let (may, kind) = match item.kind {
            ReceiptKind::Delivered
            | ReceiptKind::SetAside
            | ReceiptKind::Read
            | ReceiptKind::Acknowledged => {
                (is_addressed && item.receiptor == item.addressee, OpeningKind::Receipts)
            }
            ReceiptKind::Withdrawn => (item.receiptor == core.sender, OpeningKind::Receipts),
            ReceiptKind::Expired => (is_addressed && by_relay(), OpeningKind::Expiry),
            ReceiptKind::Refused => (item.addressee == core.sender && by_relay(), OpeningKind::Refusal),
        };
        if !may {
            return Err(wrong("its signer may give no such receipt"));
        }
        let committed = match kind {
            OpeningKind::Receipts => batch_root(signed),
            OpeningKind::Envelope | OpeningKind::Refusal | OpeningKind::Expiry => Some(named.hash.0),
        };
        if opening.kind != kind || committed != Some(opening.hash) {
            return Err(wrong("its leaf is that of something else"));
        }
        match kind {
            OpeningKind::Receipts | OpeningKind::Envelope => {
                let key = self.key(part, item.receiptor, leaf.roster_version)?;
                self.signed(part, Tag::Receipt, signed, &key)?;
            }
            OpeningKind::Refusal | OpeningKind::Expiry => {
                self.signed_since(part, signed, item.receiptor, leaf.roster_version)?;
            }
        }
        Ok((item, leaf))
    }

    /// The relay signs what is its own when it sends it, perhaps with a key that it got since.
    fn signed_since(
        &self,
        part: Part,
        item: &SignedItem,
        relay: PartyNumber,
        version: u32,
    ) -> Result<(), ProofFault> {
        let mut keys: Vec<PublicKey> = vec![self.key(part, relay, version)?];
        keys.extend(self.rosters.since(version).filter_map(|roster| Some(roster.party(relay)?.sign)));
        // A key that was replaced never returns.
        keys.dedup();
        let mut verified = Ok(());
        for key in keys.iter().take(RELAY_KEYS_TRIED_MAX) {
            verified = self.signed(part, Tag::Receipt, item, key);
            if verified.is_ok() {
                break;
            }
        }
        verified
    }
}

/// The envelope that receipts must be for.
struct Named<'a> {
    core: &'a Core,
    outcome: Outcome,
    hash: EnvelopeHash,
    position: Position,
}

/// The root of the batch that an item was signed in: what a record of receipts commits to.
fn batch_root(item: &SignedItem) -> Option<Hash> {
    let leaf = batch::item_leaf(Tag::Receipt, &item.bytes);
    let signature = &item.signature;
    root_from_inclusion(leaf, signature.index.into(), signature.count.into(), &signature.path).ok()
}

fn content(file: &ProofFile) -> Result<bool, ProofFault> {
    let Some(ciphertext) = &file.ciphertext else { return Ok(false) };
    let part = Part::Content;
    let header = Bytes::copy_from_slice(&file.envelope.bytes);
    let (_, header) = parse_header(&header).map_err(|source| ProofFault::Malformed { part, source })?;
    if sha256(ciphertext).as_bytes()[..] == header.ciphertext_hash[..] {
        Ok(true)
    } else {
        Err(ProofFault::Wrong { part, problem: "it is not what the sender signed" })
    }
}
