//! Orders in force: what the hub has narrowed, until a time or until it is lifted.

use std::collections::BTreeMap;

use bytes::{Buf, BufMut, Bytes};

use crate::{
    limits::ORDERS_STANDING_MAX,
    record::administrative::{Act, AdministrativeLeaf},
    roster::PartyNumber,
    wire::{
        Malformed, Position, Precedence,
        order::{Order, OrderKind},
    },
};

/// The newest order about each party, the newest MINIMIZE, and the last number. About 500 bytes for each
/// party that an order ever named, which are at most [`ORDERS_STANDING_MAX`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Orders {
    last: u32,
    parties: BTreeMap<PartyNumber, Standing>,
    minimize: Option<Standing>,
}

/// Bytes of an order's leaf at most: with the longest path that a batch has.
const ORDER_LEAF_BYTES_MAX: usize = 512;

/// One order as it stands, with the leaf that desks are shown.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Standing {
    /// When it ends, seconds since 1970; 0 for a lift.
    until_s: u64,
    position: Position,
    leaf: Bytes,
}

impl Orders {
    /// The last order's number, 0 before the first.
    pub fn last(&self) -> u32 {
        self.last
    }

    /// Whether a party is suspended by order.
    pub fn is_suspended(&self, party: PartyNumber, now_s: u64) -> bool {
        self.parties.get(&party).is_some_and(|standing| now_s < standing.until_s)
    }

    /// Whether MINIMIZE keeps this precedence back.
    pub fn holds(&self, precedence: Precedence, now_s: u64) -> bool {
        precedence < Precedence::Immediate
            && self.minimize.as_ref().is_some_and(|standing| now_s < standing.until_s)
    }

    /// Leaves that a desk must know, from a position on, in their order.
    pub fn since(&self, position: Position) -> Vec<(Position, Bytes)> {
        let standing = self.parties.values().chain(&self.minimize);
        let unknown = standing.filter(|standing| standing.position >= position);
        let mut leaves: Vec<_> = unknown.map(|standing| (standing.position, standing.leaf.clone())).collect();
        leaves.sort_by_key(|(position, _)| *position);
        leaves
    }

    /// Takes an order in, from its leaf at a position.
    pub fn take(&mut self, order: &Order, position: Position, leaf: Bytes) {
        self.last = self.last.max(order.number);
        match order.kind {
            OrderKind::Suspend { party, until_s } => {
                self.parties.insert(party, Standing { until_s, position, leaf });
            }
            OrderKind::Lift { party } => {
                self.parties.insert(party, Standing { until_s: 0, position, leaf });
            }
            OrderKind::Minimize { until_s } => {
                self.minimize = Some(Standing { until_s, position, leaf });
            }
            OrderKind::Erase { .. } => {}
        }
    }

    /// Bytes that they take in a base at most.
    pub const BYTES_MAX: usize = 4 + 4 + (ORDERS_STANDING_MAX + 1) * (8 + 2 + ORDER_LEAF_BYTES_MAX);

    /// Whether an order would be one too many.
    pub fn has_room_for(&self, order: &Order) -> bool {
        match order.kind {
            OrderKind::Suspend { party, .. } | OrderKind::Lift { party } => {
                self.parties.contains_key(&party) || self.parties.len() < ORDERS_STANDING_MAX
            }
            OrderKind::Minimize { .. } | OrderKind::Erase { .. } => true,
        }
    }

    /// Writes them for a segment's base: `u32 last || u32 n || n x (u64 position || u16 length || leaf)`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let leaves = self.since(Position(0));
        out.put_u32(self.last);
        out.put_u32(u32::try_from(leaves.len()).expect("at most ORDERS_STANDING_MAX, and MINIMIZE"));
        for (position, leaf) in leaves {
            out.put_u64(position.0);
            out.put_u16(u16::try_from(leaf.len()).expect("an order's leaf is below 1 KiB"));
            out.put_slice(&leaf);
        }
    }

    /// Reads [`Orders::encode`] from the front of `bytes`.
    ///
    /// # Errors
    /// [`Malformed`].
    pub fn decode(bytes: &mut &[u8]) -> Result<Orders, Malformed> {
        let short = Malformed::new("orders in the base", "are cut short");
        let last = bytes.try_get_u32().map_err(|_| short)?;
        let count = bytes.try_get_u32().map_err(|_| short)?;
        let mut orders = Orders::default();
        for _ in 0..count {
            let position = Position(bytes.try_get_u64().map_err(|_| short)?);
            let length = usize::from(bytes.try_get_u16().map_err(|_| short)?);
            let leaf = Bytes::copy_from_slice(bytes.split_off(..length).ok_or(short)?);
            let Act::Order(signed) = AdministrativeLeaf::decode(&leaf)?.act else {
                return Err(Malformed::new("orders in the base", "hold another act"));
            };
            orders.take(&signed.order, position, leaf);
        }
        orders.last = last;
        Ok(orders)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{batch::Proof, merkle::Hash, record::administrative::ChainHead, wire::order::SignedOrder};

    const IDN: PartyNumber = PartyNumber(3);

    fn taken(kinds: &[OrderKind]) -> Orders {
        let mut orders = Orders::default();
        for (number, kind) in (1..).zip(kinds) {
            let order = Order { number, kind: *kind, salt: [1; 32] };
            let proof = Proof { count: 1, index: 0, path: Vec::new(), signature: [2; 64] };
            let act = Act::Order(Box::new(SignedOrder { order, proof }));
            let leaf = AdministrativeLeaf { log_time_us: 1, previous: ChainHead::START, act }.encode();
            orders.take(&order, Position(u64::from(number) * 10), leaf);
        }
        orders
    }

    #[test]
    fn orders_about_the_most_parties_fit_a_base_and_one_more_does_not() {
        let mut orders = Orders::default();
        for number in 1..=u32::try_from(ORDERS_STANDING_MAX).expect("small") {
            let kind = OrderKind::Suspend { party: PartyNumber(number), until_s: 9 };
            let order = Order { number, kind, salt: [1; 32] };
            assert!(orders.has_room_for(&order));
            let path = vec![Hash([3; 32]); 6];
            let proof = Proof { count: 64, index: 0, path, signature: [2; 64] };
            let act = Act::Order(Box::new(SignedOrder { order, proof }));
            let leaf = AdministrativeLeaf { log_time_us: 1, previous: ChainHead::START, act }.encode();
            orders.take(&order, Position(number.into()), leaf);
        }
        let mut bytes = Vec::new();
        orders.encode(&mut bytes);
        assert!(bytes.len() <= Orders::BYTES_MAX, "{}", bytes.len());
        let room_for = |kind| orders.has_room_for(&Order { number: u32::MAX, kind, salt: [1; 32] });
        assert!(!room_for(OrderKind::Lift { party: PartyNumber(u32::MAX) }));
        assert!(
            room_for(OrderKind::Lift { party: PartyNumber(7) })
                && room_for(OrderKind::Minimize { until_s: 1 })
        );
    }

    #[test]
    fn a_suspension_ends_at_its_time_or_when_it_is_lifted() {
        let suspend = OrderKind::Suspend { party: IDN, until_s: 100 };
        let orders = taken(&[suspend]);
        assert!(orders.is_suspended(IDN, 99) && !orders.is_suspended(IDN, 100));
        assert!(!orders.is_suspended(PartyNumber(4), 99));
        assert!(!taken(&[suspend, OrderKind::Lift { party: IDN }]).is_suspended(IDN, 99));
    }

    #[test]
    fn minimize_holds_routine_and_priority_until_its_time_or_the_next_one() {
        let orders = taken(&[OrderKind::Minimize { until_s: 100 }]);
        let held = |orders: &Orders, now_s| {
            Precedence::HIGHEST_FIRST.map(|precedence| orders.holds(precedence, now_s))
        };
        assert_eq!(held(&orders, 99), [false, false, true, true]);
        assert_eq!(held(&orders, 100), [false; 4]);
        let ended = taken(&[OrderKind::Minimize { until_s: 100 }, OrderKind::Minimize { until_s: 0 }]);
        assert_eq!(held(&ended, 99), [false; 4]);
    }

    #[test]
    fn a_base_gives_back_what_stands_and_the_last_number() {
        let orders = taken(&[
            OrderKind::Suspend { party: IDN, until_s: u64::MAX },
            OrderKind::Minimize { until_s: 100 },
            OrderKind::Lift { party: IDN },
            OrderKind::Suspend { party: PartyNumber(4), until_s: 7 },
            OrderKind::Erase { position: Position(5) },
        ]);
        assert_eq!(orders.since(Position(25)).iter().map(|(at, _)| at.0).collect::<Vec<_>>(), [30, 40]);
        let mut bytes = Vec::new();
        orders.encode(&mut bytes);
        for cut in 0..bytes.len() {
            assert!(Orders::decode(&mut &bytes[..cut]).is_err(), "{cut}");
        }
        bytes.push(9);
        let mut rest = &bytes[..];
        assert_eq!(Orders::decode(&mut rest), Ok(orders));
        assert_eq!(rest, [9]);
    }
}
