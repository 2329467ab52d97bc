//! Numbers that a party spends: what the relay deduplicates by (FORMATS 5 and 7).

use std::collections::VecDeque;

use bytes::{Buf, BufMut, TryGetError};

use crate::{
    limits::SUBMISSIONS_REMEMBERED,
    merkle::Hash,
    record::{
        SALT_BYTES,
        content::Traffic,
        leaf::{Opening, OpeningKind},
    },
    wire::{EnvelopeHash, Malformed, Position, SubmissionNumber},
};

/// What became of a submission.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Its record is here.
    Accepted {
        /// Where.
        position: Position,
        /// What proves its leaf.
        traffic: Traffic,
    },
    /// It was refused for good, and that is a record.
    Refused {
        /// Where.
        position: Position,
        /// Refusal code.
        code: u16,
        /// What proves its leaf.
        traffic: Traffic,
    },
}

impl Outcome {
    fn position(&self) -> Position {
        match self {
            Outcome::Accepted { position, .. } | Outcome::Refused { position, .. } => *position,
        }
    }
}

/// One spent number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spent {
    /// The number.
    pub number: SubmissionNumber,
    /// The envelope that spent it.
    pub hash: EnvelopeHash,
    /// What became of it.
    pub outcome: Outcome,
}

/// A sender's numbers: the last, and the last 512 with what became of them; about 150 bytes each.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Submissions {
    last: SubmissionNumber,
    spent: VecDeque<Spent>,
}

impl Spent {
    /// Bytes in a segment's base.
    pub const BASE_BYTES: usize = 8 + 32 + 32 + 8 + 4 + 1 + 2 + 8;

    /// `u64 number || hash[32] || salt[32] || u64 log time_us || u32 roster version || u8 1 accepted, 2 refused
    /// || u16 code || u64 position`: the opening's hash is the envelope's.
    fn encode(&self, out: &mut Vec<u8>) {
        let (kind, code, position, traffic) = match self.outcome {
            Outcome::Accepted { position, traffic } => (1, 0, position, traffic),
            Outcome::Refused { position, code, traffic } => (2, code, position, traffic),
        };
        out.put_u64(self.number.0);
        out.put_slice(self.hash.0.as_bytes());
        put_traffic(out, &traffic);
        out.put_u8(kind);
        out.put_u16(code);
        out.put_u64(position.0);
    }

    fn decode(fields: &mut &[u8]) -> Result<Spent, Malformed> {
        let short = |_: TryGetError| CUT_SHORT;
        let number = SubmissionNumber(fields.try_get_u64().map_err(short)?);
        let hash = take_hash(fields).map_err(short)?;
        let (salt, time, version) = take_traffic(fields).map_err(short)?;
        let (kind, code) = (fields.try_get_u8().map_err(short)?, fields.try_get_u16().map_err(short)?);
        let position = Position(fields.try_get_u64().map_err(short)?);
        let traffic = |kind| Traffic {
            salt,
            opening: Opening { kind, log_time_us: time, roster_version: version, hash },
        };
        let outcome = match kind {
            1 => Outcome::Accepted { position, traffic: traffic(OpeningKind::Envelope) },
            2 => Outcome::Refused { position, code, traffic: traffic(OpeningKind::Refusal) },
            _ => return Err(Malformed::new("a submission in the base", "has an unknown outcome")),
        };
        Ok(Spent { number, hash: EnvelopeHash(hash), outcome })
    }
}

/// `salt[32] || u64 log time_us || u32 roster version`: what an opening adds to a hash that is known.
pub(super) fn put_traffic(out: &mut Vec<u8>, traffic: &Traffic) {
    out.put_slice(&traffic.salt);
    out.put_u64(traffic.opening.log_time_us);
    out.put_u32(traffic.opening.roster_version);
}

pub(super) fn take_traffic(fields: &mut &[u8]) -> Result<([u8; SALT_BYTES], u64, u32), TryGetError> {
    Ok((take_hash(fields)?.0, fields.try_get_u64()?, fields.try_get_u32()?))
}

pub(super) fn take_hash(fields: &mut &[u8]) -> Result<Hash, TryGetError> {
    let mut hash = Hash::ZERO;
    fields.try_copy_to_slice(&mut hash.0)?;
    Ok(hash)
}

const CUT_SHORT: Malformed = Malformed { what: "submissions in the base", problem: "are cut short" };

/// How a number stands to those spent before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Never used.
    New,
    /// Used, and remembered.
    Spent(Spent),
    /// Used or jumped over, and no longer remembered.
    Old,
}

impl Submissions {
    /// The highest number spent.
    pub fn last(&self) -> SubmissionNumber {
        self.last
    }

    /// The numbers that are remembered, rising.
    pub fn remembered(&self) -> impl ExactSizeIterator<Item = &Spent> {
        self.spent.iter()
    }

    /// How a number stands.
    pub fn standing(&self, number: SubmissionNumber) -> Standing {
        if number > self.last {
            return Standing::New;
        }
        match self.spent.binary_search_by_key(&number, |spent| spent.number) {
            Ok(at) => Standing::Spent(self.spent[at]),
            Err(_) => Standing::Old,
        }
    }

    /// Spends a number.
    pub fn spend(&mut self, number: SubmissionNumber, hash: EnvelopeHash, outcome: Outcome) {
        assert!(number > self.last, "submission numbers rise: {number:?} after {:?}", self.last);
        self.last = number;
        if self.spent.len() == SUBMISSIONS_REMEMBERED {
            self.spent.pop_front();
        }
        self.spent.push_back(Spent { number, hash, outcome });
    }

    /// Where the oldest number that is remembered stands.
    pub(super) fn oldest(&self) -> Option<Position> {
        self.spent.front().map(|spent| spent.outcome.position())
    }

    /// Forgets the numbers whose records stand below a position, and says how many that were.
    pub(super) fn forget_below(&mut self, end: Position) -> usize {
        let many = self.spent.partition_point(|spent| spent.outcome.position() < end);
        self.spent.drain(..many).len()
    }

    /// Forgets the older half of what is remembered, one at least, and says how many that were.
    pub(super) fn forget_half(&mut self) -> usize {
        self.spent.drain(..self.spent.len().div_ceil(2)).len()
    }

    /// `u64 last || u16 n || n x spent`.
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        out.put_u64(self.last.0);
        out.put_u16(u16::try_from(self.spent.len()).expect("at most 512"));
        for spent in &self.spent {
            spent.encode(out);
        }
    }

    pub(super) fn decode(fields: &mut &[u8]) -> Result<Submissions, Malformed> {
        let last = SubmissionNumber(fields.try_get_u64().map_err(|_| CUT_SHORT)?);
        let count = fields.try_get_u16().map_err(|_| CUT_SHORT)?;
        let spent = (0..count).map(|_| Spent::decode(fields)).collect::<Result<_, _>>()?;
        Ok(Submissions { last, spent })
    }
}

/// A desk's Stored frames: the last number, and where the last 512 are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StoredNumbers {
    last: u64,
    taken: VecDeque<(u64, Position, Traffic)>,
}

impl StoredNumbers {
    /// The highest number taken.
    pub fn last(&self) -> u64 {
        self.last
    }

    /// Where a number's record is, while that is remembered.
    pub fn find(&self, number: u64) -> Option<(Position, Traffic)> {
        let at = self.taken.binary_search_by_key(&number, |taken| taken.0).ok()?;
        let (_, position, traffic) = self.taken[at];
        Some((position, traffic))
    }

    /// Takes the next number.
    pub fn take(&mut self, number: u64, position: Position, traffic: Traffic) {
        assert_eq!(number, self.last + 1, "numbers of Stored frames are dense");
        self.last = number;
        if self.taken.len() == SUBMISSIONS_REMEMBERED {
            self.taken.pop_front();
        }
        self.taken.push_back((number, position, traffic));
    }

    /// Where the oldest frame that is remembered stands.
    pub(super) fn oldest(&self) -> Option<Position> {
        self.taken.front().map(|(_, position, _)| *position)
    }

    /// Forgets the frames whose records stand below a position, and says how many that were.
    pub(super) fn forget_below(&mut self, end: Position) -> usize {
        let many = self.taken.partition_point(|(_, position, _)| *position < end);
        self.taken.drain(..many).len()
    }

    /// Forgets the older half of what is remembered, one at least, and says how many that were.
    pub(super) fn forget_half(&mut self) -> usize {
        self.taken.drain(..self.taken.len().div_ceil(2)).len()
    }

    pub(super) fn remembered(&self) -> usize {
        self.taken.len()
    }

    /// Bytes of one number in a segment's base.
    pub const BASE_BYTES: usize = 8 + 8 + 32 + 32 + 8 + 4;

    /// `u64 last || u16 n || n x (u64 number || u64 position || root of the receipts[32] || salt[32] || u64 log
    /// time_us || u32 roster version)`.
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        out.put_u64(self.last);
        out.put_u16(u16::try_from(self.taken.len()).expect("at most 512"));
        for (number, position, traffic) in &self.taken {
            out.put_u64(*number);
            out.put_u64(position.0);
            out.put_slice(traffic.opening.hash.as_bytes());
            put_traffic(out, traffic);
        }
    }

    pub(super) fn decode(fields: &mut &[u8]) -> Result<StoredNumbers, TryGetError> {
        let last = fields.try_get_u64()?;
        let count = fields.try_get_u16()?;
        let mut taken = VecDeque::new();
        for _ in 0..count {
            let (number, position) = (fields.try_get_u64()?, Position(fields.try_get_u64()?));
            let hash = take_hash(fields)?;
            let (salt, log_time_us, roster_version) = take_traffic(fields)?;
            let opening = Opening { kind: OpeningKind::Receipts, log_time_us, roster_version, hash };
            taken.push_back((number, position, Traffic { salt, opening }));
        }
        Ok(StoredNumbers { last, taken })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn traffic() -> Traffic {
        let opening =
            Opening { kind: OpeningKind::Envelope, log_time_us: 1, roster_version: 1, hash: Hash([1; 32]) };
        Traffic { salt: [0; 32], opening }
    }

    #[test]
    fn a_number_is_new_once_then_remembered_and_at_last_old() {
        let mut submissions = Submissions::default();
        let hash = |n: u64| EnvelopeHash(Hash([u8::try_from(n % 251).expect("below 251"); 32]));
        for n in 1..=600u64 {
            let number = SubmissionNumber(n * 2);
            assert_eq!(submissions.standing(number), Standing::New);
            let outcome = Outcome::Accepted { position: Position(n), traffic: traffic() };
            submissions.spend(number, hash(n), outcome);
            assert!(matches!(submissions.standing(number), Standing::Spent(spent) if spent.hash == hash(n)));
        }
        assert_eq!(submissions.standing(SubmissionNumber(2)), Standing::Old);
        assert_eq!(submissions.standing(SubmissionNumber(1_199)), Standing::Old, "jumped over");
        assert_eq!(submissions.remembered().count(), SUBMISSIONS_REMEMBERED);
        assert_eq!(submissions.last(), SubmissionNumber(1_200));
    }
}
