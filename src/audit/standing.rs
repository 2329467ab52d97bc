//! Whether the keys that signed a dispatch and its receipts counted then, and whether they still do.

use std::collections::BTreeMap;

use super::{KeyInForce, ProvenLeaf, ProvenReceipt, Revocation, Ruling, Standing, check::Check};
use crate::{
    batch::PublicKey,
    roster::{PartyKind, PartyNumber, Roster, Status},
    wire::{envelope::Core, order::OrderKind, order::SignedOrder},
};

impl Check<'_> {
    /// Whether the sender's key was in force where the relay took the envelope.
    pub(super) fn key_in_force(
        &self,
        core: &Core,
        leaf: &ProvenLeaf,
        receipts: &[ProvenReceipt],
    ) -> KeyInForce {
        let (header, opening) = (core.roster_version, leaf.roster_version);
        let log = self.rosters.version(opening).map_or("", |roster| &roster.content().log.origin);
        let in_force = self.rosters.in_force_at(log, leaf.position);
        let signed_by =
            self.rosters.version(opening).and_then(|roster| Some(roster.party(core.sender)?.sign));
        let counts = |version| {
            let key = self.active_key(core.sender, version);
            key.is_some() && key == signed_by
        };
        if let Some(version) = in_force.filter(|version| self.log.is_some() && counts(*version)) {
            return KeyInForce::ByLog(version);
        }
        // An addressee that names an older roster than the relay says nothing of the relay's.
        let agreeing = receipts.iter().filter(|receipt| {
            receipt.item.receiptor == receipt.item.addressee && receipt.item.receiptor != core.sender
        });
        let named = agreeing.map(|receipt| receipt.item.roster_version).filter(|version| *version >= opening);
        let agreed = named.min().map(|named| (header.min(opening), named.max(in_force.unwrap_or_default())));
        match agreed.filter(|(first, last)| (*first..=*last).all(counts)) {
            Some((first, last)) => KeyInForce::ByAgreement { first, last },
            None => KeyInForce::Unproven { header, opening },
        }
    }

    fn active_key(&self, party: PartyNumber, version: u32) -> Option<PublicKey> {
        let party = self.rosters.version(version)?.party(party)?;
        (party.status == Status::Active).then_some(party.sign)
    }

    /// What became of the signers' keys since: by a roster, and as far as a log is at hand by an order.
    pub(super) fn revoked_since(
        &self,
        core: &Core,
        leaf: &ProvenLeaf,
        receipts: &[ProvenReceipt],
    ) -> Vec<Revocation> {
        let mut signers = BTreeMap::from([(core.sender, leaf)]);
        for receipt in receipts {
            signers.entry(receipt.item.receiptor).or_insert(&receipt.leaf);
        }
        let found = |(party, leaf): (PartyNumber, &ProvenLeaf)| {
            [self.revoked(party, leaf.roster_version), self.suspended(party, leaf)]
        };
        signers.into_iter().flat_map(found).flatten().collect()
    }

    /// The gravest thing that a later roster says against the key that a party had. No roster leaves a party out that
    /// an earlier one lists.
    fn revoked(&self, party: PartyNumber, version: u32) -> Option<Revocation> {
        let key = self.rosters.version(version)?.party(party)?.sign;
        let later = self.rosters.since(version);
        let changed = later.filter_map(|roster| {
            let standing = match roster.party(party)? {
                now if now.status == Status::Revoked => Standing::Revoked,
                now if now.status == Status::Suspended => Standing::Suspended,
                now if now.sign != key => Standing::KeyReplaced,
                _ => return None,
            };
            Some(Revocation { party, standing, by: Ruling::Roster(roster.version()) })
        });
        // Of equal ones the first.
        changed.min_by_key(|found| match found.standing {
            Standing::Revoked => 0,
            Standing::KeyReplaced => 1,
            Standing::Suspended => 2,
        })
    }

    /// The newest suspension by order that stood at a leaf or came after it.
    fn suspended(&self, party: PartyNumber, leaf: &ProvenLeaf) -> Option<Revocation> {
        let log = self.log?;
        let mut found = None;
        for (position, order) in &log.orders {
            match order.order.kind {
                OrderKind::Suspend { party: subject, until_s } if subject == party => {
                    let ended = *position < leaf.position && until_s <= leaf.log_time_us / 1_000_000;
                    if self.is_of_hub(&log.origin, *position, order) {
                        let number = order.order.number;
                        found = (!ended).then_some((number, *position, until_s, None));
                    }
                }
                OrderKind::Lift { party: subject } if subject == party => {
                    if self.is_of_hub(&log.origin, *position, order) {
                        found = found.filter(|_| *position > leaf.position);
                        found.iter_mut().for_each(|(.., lifted_by)| *lifted_by = Some(order.order.number));
                    }
                }
                OrderKind::Suspend { .. }
                | OrderKind::Lift { .. }
                | OrderKind::Minimize { .. }
                | OrderKind::Erase { .. } => {}
            }
        }
        let (number, position, until_s, lifted_by) = found?;
        let by = Ruling::Order { number, position, until_s, lifted_by };
        Some(Revocation { party, standing: Standing::Suspended, by })
    }

    /// Whether the hub gave an order that the log holds: by the roster in force there, or the one before, by which
    /// the relay may have judged.
    fn is_of_hub(&self, origin: &str, position: u64, order: &SignedOrder) -> bool {
        let version = self.rosters.in_force_at(origin, position);
        let judged =
            version.into_iter().flat_map(|version| [Some(version), version.checked_sub(1)]).flatten();
        let signed = |roster: &Roster| {
            let hub = roster.parties().find(|party| party.kind == PartyKind::Hub);
            hub.is_some_and(|hub| order.verify(roster.trust_domain(), &hub.sign).is_ok())
        };
        judged.filter_map(|version| self.rosters.version(version)).any(signed)
    }
}
