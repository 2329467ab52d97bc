//! The base of a segment: what replay would have built up before it, as bytes (DESIGN 8).
//!
//! Layout, big endian: `u8 2 || u32 roster version || roster hash[32] || administrative head: u64 position,
//! hash[32] || u64 log time_us of the last record || tree: u64 size, u8 n, n x hash[32] || u32 parties`; for
//! each party in the order of numbers `u32 number || u32 incarnation || store id[16] || u64 last submission ||
//! u64 last stored || u16 n`, and n remembered submissions `u64 number || hash[32] || u8 1 accepted, 2 refused
//! || u16 code || u64 position`; then `u64` wall clock accepted last, and the orders that stand ([`crate::router::orders`]); at the end, for each party that confirmed receipts, `u32 number || u64
//! position`. All but this end follows from the records before it.

use bytes::{Buf, BufMut};

use super::{Exchange, ReplayError};
use crate::{
    merkle::Hash,
    roster::PartyNumber,
    router::{PartyState, submissions::Outcome},
    wire::Position,
};

const VERSION: u8 = 2;
const CONFIRMED_BYTES: usize = 12;

impl Exchange {
    /// The lasting state, but for what waits in mailboxes.
    pub fn base(&self) -> Vec<u8> {
        let mut out = self.base_of_records();
        for (number, state) in self.router.parties() {
            if let Some(confirmed) = state.mailbox.confirmed() {
                out.put_u32(number.0);
                out.put_u64(confirmed.0);
            }
        }
        out
    }

    /// Compares a base met at replay with the state built so far, and takes over what desks had confirmed.
    ///
    /// # Errors
    /// [`ReplayError::Base`] where they differ: the journal is damaged, or another version wrote it.
    pub fn replay_base(&mut self, base: &[u8]) -> Result<(), ReplayError> {
        let differs = ReplayError::Base(Position(self.tree.size()));
        let Some(confirmed) = base.strip_prefix(self.base_of_records().as_slice()) else {
            return Err(differs);
        };
        let (entries, rest) = confirmed.as_chunks::<CONFIRMED_BYTES>();
        if !rest.is_empty() {
            return Err(differs);
        }
        for entry in entries {
            let mut entry: &[u8] = entry;
            let party = PartyNumber(entry.get_u32());
            self.confirm_through(party, Position(entry.get_u64()));
        }
        Ok(())
    }

    fn base_of_records(&self) -> Vec<u8> {
        let mut out = vec![VERSION];
        out.put_u32(self.roster.as_ref().map_or(0, |roster| roster.version()));
        out.put_slice(self.roster.as_ref().map_or(Hash::ZERO, |roster| roster.hash()).as_bytes());
        out.put_u64(self.chain.position.0);
        out.put_slice(self.chain.hash.as_bytes());
        out.put_u64(self.last_record_us);
        let (size, subtrees) = self.tree.parts();
        out.put_u64(size);
        out.put_u8(u8::try_from(subtrees.len()).expect("a tree has at most 64 subtrees"));
        for hash in subtrees {
            out.put_slice(hash.as_bytes());
        }
        let parties: Vec<_> = self.router.parties().filter(|(_, state)| has_records(state)).collect();
        out.put_u32(u32::try_from(parties.len()).expect("at most 16,384 parties"));
        for (number, state) in parties {
            put_party(&mut out, number, state);
        }
        out.put_u64(self.clock.accepted_us());
        self.orders.encode(&mut out);
        out
    }
}

fn has_records(state: &PartyState) -> bool {
    state.incarnation > 0 || state.submissions.last().0 > 0 || state.stored.last() > 0
}

fn put_party(out: &mut Vec<u8>, number: PartyNumber, state: &PartyState) {
    out.put_u32(number.0);
    out.put_u32(state.incarnation);
    out.put_slice(&state.store_id);
    out.put_u64(state.submissions.last().0);
    out.put_u64(state.stored.last());
    let remembered = state.submissions.remembered();
    out.put_u16(u16::try_from(remembered.len()).expect("at most 512"));
    for spent in remembered {
        out.put_u64(spent.number.0);
        out.put_slice(spent.hash.0.as_bytes());
        let (kind, code, position) = match spent.outcome {
            Outcome::Accepted { position, .. } => (1, 0, position),
            Outcome::Refused { position, code, .. } => (2, code, position),
        };
        out.put_u8(kind);
        out.put_u16(code);
        out.put_u64(position.0);
    }
}
