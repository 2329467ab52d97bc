//! The router in a segment's base: from these bytes a start builds it up again.
//!
//! Layout, big endian: `u32 parties`, and for each in the order of numbers `u32 number || u32 incarnation ||
//! store id[16] || submissions || stored numbers` ([`super::submissions`]); `u32 held`, and for each
//! envelope that somebody has not settled, in the order of positions, `u64 position || hash[32] || u32 sender
//! || u64 expires_s || salt[32] || u64 log time_us || u32 roster version || u8 n || n x (u32 party || u8 precedence, with 128
//! where it is settled)`. What waits in mailboxes follows from it, but for receipts: which of them a desk
//! has confirmed is no record, so they stand apart.

use bytes::{Buf, BufMut, TryGetError};

use super::{
    Held, PartyState, Router, Waiting,
    mailbox::Mailbox,
    submissions::{Spent, StoredNumbers, Submissions, put_traffic, take_hash, take_traffic},
};
use crate::{
    limits::{self, HASH_BYTES, Limits},
    record::{
        SALT_BYTES,
        content::Traffic,
        leaf::{Opening, OpeningKind},
    },
    roster::PartyNumber,
    wire::{EnvelopeHash, Malformed, Position, Precedence},
};

const SETTLED: u8 = 128;

impl Router {
    /// Writes what follows from records.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let parties: Vec<_> = self.parties.iter().filter(|(_, state)| has_records(state)).collect();
        out.put_u32(u32::try_from(parties.len()).expect("at most 16,384 parties"));
        for (number, state) in parties {
            out.put_u32(number.0);
            out.put_u32(state.incarnation);
            out.put_slice(&state.store_id);
            state.submissions.encode(out);
            state.stored.encode(out);
        }
        out.put_u32(u32::try_from(self.held.len()).expect("bounded in limits"));
        for (position, held) in &self.held {
            put_held(out, *position, held);
        }
    }

    /// Writes what desks have confirmed, and the receipts that they have not: `u32 n`, and for each of n
    /// parties `u32 number || its receipts`.
    pub fn encode_receipts(&self, out: &mut Vec<u8>) {
        let known: Vec<_> = self.parties.iter().filter(|(_, state)| state.mailbox.knows_receipts()).collect();
        out.put_u32(u32::try_from(known.len()).expect("at most 16,384 parties"));
        for (number, state) in known {
            out.put_u32(number.0);
            state.mailbox.encode_receipts(out);
        }
    }

    /// Reads [`Router::encode`].
    ///
    /// # Errors
    /// [`Malformed`] where the bytes end too soon, or positions do not rise.
    pub fn decode(fields: &mut &[u8]) -> Result<Router, Malformed> {
        let short = |_: TryGetError| Malformed::new("the router in the base", "is cut short");
        let mut router = Router::default();
        for _ in 0..fields.try_get_u32().map_err(short)? {
            let (number, state) = take_party(fields)?;
            router.submissions_remembered += state.submissions.remembered().len();
            router.stored_remembered += state.stored.remembered();
            router.parties.insert(number, state);
        }
        for _ in 0..fields.try_get_u32().map_err(short)? {
            let (position, held) = take_held(fields)?;
            if router.held.last_key_value().is_some_and(|(last, _)| position <= *last) {
                return Err(Malformed::new("envelopes in the base", "do not stand in order"));
            }
            router.hold(position, held);
        }
        Ok(router)
    }

    /// Reads [`Router::encode_receipts`] as party and mailbox with nothing but receipts.
    ///
    /// # Errors
    /// [`Malformed`] where the bytes end too soon, or positions do not rise.
    pub fn decode_receipts(fields: &mut &[u8]) -> Result<Vec<(PartyNumber, Mailbox)>, Malformed> {
        let short = |_: TryGetError| Malformed::new("receipts in the base", "are cut short");
        let count = fields.try_get_u32().map_err(short)?;
        (0..count)
            .map(|_| {
                let party = PartyNumber(fields.try_get_u32().map_err(short)?);
                Ok((party, Mailbox::decode_receipts(fields)?))
            })
            .collect()
    }

    /// Takes over receipts of [`Router::decode_receipts`], and what was confirmed of them.
    pub fn take_receipts(&mut self, receipts: Vec<(PartyNumber, Mailbox)>) {
        for (party, mailbox) in receipts {
            self.change_mailbox(party, |own| own.take_receipts(mailbox));
        }
        self.base_made();
    }
}

fn has_records(state: &PartyState) -> bool {
    state.incarnation > 0 || state.submissions.last().0 > 0 || state.stored.last() > 0
}

/// Bytes of a party without its numbers, and of its receipts without their records.
const PARTY_BYTES: usize = 4 + 4 + 16 + 2 * (8 + 2) + 4 + 8 + 4;
/// Bytes of a held envelope without its addressees.
const HELD_BYTES: usize = 8 + HASH_BYTES + 4 + 8 + SALT_BYTES + 8 + 4 + 1;
const ADDRESSEE_BYTES: usize = 4 + 1;
/// Bytes of one item of a record that waits as a receipt, at most: alone in its record.
const ITEM_BYTES: usize = 8 + 1 + 1;
/// Items that one addressee of a held envelope may yet make: if it expires, one for each side.
const ITEMS_TO_COME: usize = 2;

/// Bytes that held envelopes take in a base, and what may yet come of them.
pub(super) const fn held_bytes(envelopes: usize, addressees: usize, unsettled: usize) -> usize {
    envelopes * HELD_BYTES + addressees * ADDRESSEE_BYTES + items_bytes(ITEMS_TO_COME * unsettled)
}

/// Bytes that receipts take in a base at most.
pub(super) const fn items_bytes(items: usize) -> usize {
    items * ITEM_BYTES
}

/// Bytes of a base's two parts of the router at most.
pub const fn bytes_max(limits: &Limits) -> usize {
    3 * 4
        + limits::ROSTER_PARTIES_MAX * PARTY_BYTES
        + limits::SUBMISSIONS_REMEMBERED_IN_ALL * Spent::BASE_BYTES
        + limits::STORED_REMEMBERED_IN_ALL * StoredNumbers::BASE_BYTES
        + limits.lasting_bytes_max
        + items_bytes(limits::MARKS_IN_ALL_MAX)
}

fn take_party(fields: &mut &[u8]) -> Result<(PartyNumber, PartyState), Malformed> {
    let short = |_: TryGetError| Malformed::new("a party in the base", "is cut short");
    let number = PartyNumber(fields.try_get_u32().map_err(short)?);
    let incarnation = fields.try_get_u32().map_err(short)?;
    let mut state = PartyState { incarnation, ..PartyState::default() };
    fields.try_copy_to_slice(&mut state.store_id).map_err(short)?;
    state.submissions = Submissions::decode(fields)?;
    state.stored = StoredNumbers::decode(fields).map_err(short)?;
    Ok((number, state))
}

fn put_held(out: &mut Vec<u8>, position: Position, held: &Held) {
    out.put_u64(position.0);
    out.put_slice(held.hash.0.as_bytes());
    out.put_u32(held.sender.0);
    out.put_u64(held.expires_s);
    put_traffic(out, &held.traffic);
    out.put_u8(u8::try_from(held.addressees.len()).expect("at most 128"));
    for waiting in &held.addressees {
        out.put_u32(waiting.party.0);
        let precedence = u8::try_from(waiting.precedence.index()).expect("0 to 3");
        out.put_u8(precedence | if waiting.settled { SETTLED } else { 0 });
    }
}

fn take_held(fields: &mut &[u8]) -> Result<(Position, Held), Malformed> {
    let short = |_: TryGetError| Malformed::new("an envelope in the base", "is cut short");
    let position = Position(fields.try_get_u64().map_err(short)?);
    let hash = take_hash(fields).map_err(short)?;
    let sender = PartyNumber(fields.try_get_u32().map_err(short)?);
    let expires_s = fields.try_get_u64().map_err(short)?;
    let (salt, log_time_us, roster_version) = take_traffic(fields).map_err(short)?;
    let opening = Opening { kind: OpeningKind::Envelope, log_time_us, roster_version, hash };
    let count = fields.try_get_u8().map_err(short)?;
    let mut addressees = Vec::with_capacity(usize::from(count));
    for _ in 0..count {
        let party = PartyNumber(fields.try_get_u32().map_err(short)?);
        let byte = fields.try_get_u8().map_err(short)?;
        let mut precedences = Precedence::HIGHEST_FIRST.into_iter();
        let precedence = precedences.find(|precedence| precedence.index() == usize::from(byte & !SETTLED));
        let unknown = Malformed::new("an addressee in the base", "has an unknown precedence");
        addressees.push(Waiting {
            party,
            precedence: precedence.ok_or(unknown)?,
            settled: byte & SETTLED != 0,
        });
    }
    let unsettled = addressees.iter().filter(|waiting| !waiting.settled).count();
    let hash = EnvelopeHash(hash);
    let traffic = Traffic { salt, opening };
    Ok((position, Held { hash, sender, addressees, unsettled, expires_s, traffic }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        merkle::Hash,
        record::{content::AcceptedReceipts, expiry::ExpiredEnvelope},
        router::submissions::Outcome,
        wire::{SubmissionNumber, receipt::ReceiptBatch},
    };

    fn traffic(kind: OpeningKind, n: u64) -> Traffic {
        let mut hash = Hash::ZERO;
        hash.0[..8].copy_from_slice(&n.to_be_bytes());
        Traffic { salt: [0; 32], opening: Opening { kind, log_time_us: n, roster_version: 1, hash } }
    }

    /// An envelope of party 1 for these parties.
    fn held(position: u64, addressees: std::ops::Range<u32>) -> Held {
        let traffic = traffic(OpeningKind::Envelope, position);
        let waiting =
            |party| Waiting { party: PartyNumber(party), precedence: Precedence::Routine, settled: false };
        let addressees: Vec<Waiting> = addressees.map(waiting).collect();
        Held {
            hash: EnvelopeHash(traffic.opening.hash),
            sender: PartyNumber(1),
            unsettled: addressees.len(),
            addressees,
            expires_s: 9,
            traffic,
        }
    }

    fn expire(router: &mut Router, envelope: u64, position: u64) {
        let held = router.held(Position(envelope)).expect("held").clone();
        let expired = ExpiredEnvelope {
            traffic: held.traffic,
            position: Position(envelope),
            relay: PartyNumber(0),
            sender: held.sender,
            addressees: held.addressees.iter().map(|waiting| (waiting.party, waiting.precedence)).collect(),
        };
        assert!(router.expire(&expired, Position(position)));
    }

    fn bytes(router: &Router) -> usize {
        let mut out = Vec::new();
        router.encode(&mut out);
        router.encode_receipts(&mut out);
        out.len()
    }

    /// All numbers and marks of which the relay remembers any.
    fn full_of_numbers(parties: u32) -> Router {
        let mut router = Router::default();
        for n in 0..limits::SUBMISSIONS_REMEMBERED_IN_ALL as u64 + 9 {
            let party = PartyNumber(u32::try_from(n).expect("small") % parties + 1);
            let position = Position(n);
            let outcome = Outcome::Accepted { position, traffic: traffic(OpeningKind::Envelope, n) };
            router.spend(party, SubmissionNumber(n + 1), EnvelopeHash(Hash::ZERO), outcome);
            let number = router.party(party).stored.last() + 1;
            let batch = ReceiptBatch::new(number, Vec::new(), [0; 64]);
            let traffic = traffic(OpeningKind::Receipts, n);
            let receipts = AcceptedReceipts { traffic, receiptor: party, batch: std::sync::Arc::new(batch) };
            router.take_stored(&receipts, position);
        }
        for n in 0..limits::MARKS_IN_ALL_MAX as u64 + 9 {
            let party = PartyNumber(u32::try_from(n).expect("small") % parties + 1);
            router.change_mailbox(party, |mailbox| mailbox.put_mark(Position(n), 63));
        }
        router
    }

    #[test]
    fn a_router_at_every_bound_fits_its_share_of_a_base_and_so_does_what_becomes_of_it() {
        let limits = Limits { lasting_bytes_max: 256 * 1024, ..Limits::DEFAULT };
        let parties = u32::try_from(limits::ROSTER_PARTIES_MAX).expect("small");
        let full = full_of_numbers(parties);
        for addressees in [1, 128] {
            let mut router = full.clone();
            let (mut end, mut rounds) = (1_000_000, 0);
            while router.has_room_in_all(4, 4 * addressees as usize, &limits) {
                let first = end;
                while router.has_room_in_all(1, addressees as usize, &limits) {
                    router.hold(Position(end), held(end, 2..2 + addressees));
                    end += 1;
                }
                let held = bytes(&router);
                assert!(held <= bytes_max(&limits), "{addressees} addressees: {held}");
                for (envelope, position) in (first..end).zip(end..) {
                    expire(&mut router, envelope, position);
                }
                let expired = bytes(&router);
                assert!(expired <= bytes_max(&limits), "{addressees} addressees, expired: {expired}");
                end += end - first;
                rounds += 1;
            }
            assert!(rounds > 1, "receipts that nobody confirms take the room of envelopes");
        }
    }

    #[test]
    fn marks_of_all_parties_have_a_bound_and_who_has_most_loses_half() {
        let mut router = Router::default();
        let mut put = |party, n: usize| {
            let (party, position) = (PartyNumber(party), Position(n as u64));
            router.change_mailbox(party, |mailbox| mailbox.put_mark(position, 0));
            (router.marks, router.known(party).expect("known").mailbox.marks())
        };
        let few = 1_000;
        (0..few).for_each(|n| assert_eq!(put(1, n), (n + 1, n + 1)));
        let most = limits::MAILBOX_MARKS_MAX;
        (0..most).for_each(|n| assert_eq!(put(2, n).1, n + 1));
        let rest = limits::MARKS_IN_ALL_MAX - few - most;
        (0..rest).for_each(|n| assert_eq!(put(3, n).1, n + 1));
        assert_eq!(put(3, rest), (limits::MARKS_IN_ALL_MAX + 1 - most / 2, rest + 1));
        assert_eq!(put(1, few).1, few + 1, "who has few keeps them");
    }

    #[test]
    fn what_was_confirmed_takes_room_until_a_base_says_so() {
        let one = held_bytes(1, 1, 1);
        let limits = Limits { lasting_bytes_max: one, confirmed_bytes_max: 0, ..Limits::DEFAULT };
        let mut router = Router::default();
        assert!(router.has_room_in_all(1, 1, &limits) && !router.has_room_in_all(1, 2, &limits));
        router.hold(Position(3), held(3, 2..3));
        assert!(!router.has_room_in_all(1, 1, &limits));
        expire(&mut router, 3, 4);
        for party in [1, 2] {
            assert!(!router.has_room_in_all(1, 1, &limits) && !router.wants_base(&limits) || party == 2);
            router.confirm(PartyNumber(party), Position(4));
        }
        assert!(router.wants_base(&limits) && !router.has_room_in_all(1, 1, &limits));
        router.base_made();
        assert!(!router.wants_base(&limits) && router.has_room_in_all(1, 1, &limits));
    }

    #[test]
    fn a_confirmed_record_is_needed_until_a_base_says_that_it_was_confirmed() {
        let mut router = Router::default();
        router.hold(Position(3), held(3, 2..3));
        expire(&mut router, 3, 4);
        let needed = |router: &Router| router.needed_below(Position(9));
        for party in [1, 2] {
            router.confirm(PartyNumber(party), Position(4));
            assert_eq!(needed(&router), [Position(4)], "a start would send it again");
        }
        assert_eq!(router.needed_below(Position(4)), []);
        router.base_made();
        assert_eq!(needed(&router), []);
    }

    #[test]
    fn an_unknown_precedence_or_outcome_is_refused_and_never_read_as_another() {
        let mut router = Router::default();
        let traffic = traffic(OpeningKind::Envelope, 1);
        let (hash, outcome) = (traffic.opening.hash, Outcome::Accepted { position: Position(0), traffic });
        router.spend(PartyNumber(1), SubmissionNumber(1), EnvelopeHash(hash), outcome);
        router.hold(Position(0), held(0, 2..3));
        let mut bytes = Vec::new();
        router.encode(&mut bytes);
        assert_eq!(Router::decode(&mut &bytes[..]).as_ref(), Ok(&router));
        let precedence = bytes.len() - 1;
        let outcome = 4 + 4 + 4 + 16 + 8 + 2 + 8 + 32 + 32 + 8 + 4;
        for (at, good) in [(precedence, 0..4), (precedence, 128..132), (outcome, 1..3)] {
            assert!(good.contains(&bytes[at]) || good.start == 128, "byte {at} is {}", bytes[at]);
            for byte in 0..=255 {
                let mut other = bytes.clone();
                other[at] = byte;
                let is_known = good.contains(&byte) || (at == precedence && (byte & 127) < 4);
                assert_eq!(Router::decode(&mut &other[..]).is_ok(), is_known, "byte {at} is {byte}");
            }
        }
    }
}
