//! Numbers that a party spends: what the relay deduplicates by (FORMATS 5 and 7).

use std::collections::VecDeque;

use crate::{
    limits::SUBMISSIONS_REMEMBERED,
    record::content::Traffic,
    wire::{EnvelopeHash, Position, SubmissionNumber},
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
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        merkle::Hash,
        record::leaf::{Opening, OpeningKind},
    };

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
