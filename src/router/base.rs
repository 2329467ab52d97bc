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
    submissions::{StoredNumbers, Submissions, put_traffic, take_hash, take_traffic},
};
use crate::{
    record::{
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
            let (number, state) = take_party(fields).map_err(short)?;
            router.submissions_remembered += state.submissions.remembered().len();
            router.stored_remembered += state.stored.remembered();
            router.parties.insert(number, state);
        }
        for _ in 0..fields.try_get_u32().map_err(short)? {
            let (position, held) = take_held(fields).map_err(short)?;
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
    /// Where the bytes end too soon.
    pub fn decode_receipts(fields: &mut &[u8]) -> Result<Vec<(PartyNumber, Mailbox)>, TryGetError> {
        let count = fields.try_get_u32()?;
        (0..count)
            .map(|_| Ok((PartyNumber(fields.try_get_u32()?), Mailbox::decode_receipts(fields)?)))
            .collect()
    }
}

fn has_records(state: &PartyState) -> bool {
    state.incarnation > 0 || state.submissions.last().0 > 0 || state.stored.last() > 0
}

fn take_party(fields: &mut &[u8]) -> Result<(PartyNumber, PartyState), TryGetError> {
    let number = PartyNumber(fields.try_get_u32()?);
    let mut state = PartyState { incarnation: fields.try_get_u32()?, ..PartyState::default() };
    fields.try_copy_to_slice(&mut state.store_id)?;
    state.submissions = Submissions::decode(fields)?;
    state.stored = StoredNumbers::decode(fields)?;
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

fn take_held(fields: &mut &[u8]) -> Result<(Position, Held), TryGetError> {
    let position = Position(fields.try_get_u64()?);
    let hash = take_hash(fields)?;
    let sender = PartyNumber(fields.try_get_u32()?);
    let expires_s = fields.try_get_u64()?;
    let (salt, log_time_us, roster_version) = take_traffic(fields)?;
    let opening = Opening { kind: OpeningKind::Envelope, log_time_us, roster_version, hash };
    let count = fields.try_get_u8()?;
    let mut addressees = Vec::with_capacity(usize::from(count));
    for _ in 0..count {
        let party = PartyNumber(fields.try_get_u32()?);
        let byte = fields.try_get_u8()?;
        let mut precedences = Precedence::HIGHEST_FIRST.into_iter();
        let precedence = precedences.find(|precedence| precedence.index() == usize::from(byte & !SETTLED));
        let precedence = precedence.unwrap_or(Precedence::Routine);
        addressees.push(Waiting { party, precedence, settled: byte & SETTLED != 0 });
    }
    let unsettled = addressees.iter().filter(|waiting| !waiting.settled).count();
    let hash = EnvelopeHash(hash);
    let traffic = Traffic { salt, opening };
    Ok((position, Held { hash, sender, addressees, unsettled, expires_s, traffic }))
}
