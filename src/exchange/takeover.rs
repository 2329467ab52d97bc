//! When a second session of a party may take over, and when two boxes take turns (FORMATS 4).

use std::{collections::VecDeque, time::Duration};

use super::{ConnId, Exchange, Notice};
use crate::{record::administrative::Act, roster::PartyNumber, wire::pb::GoodbyeCode};

/// A session is taken over at most this often; sooner comers are told TAKE_OVER_SOON.
const TAKE_OVER_EVERY: Duration = Duration::from_secs(10);
/// Take-overs between the same two processes that pass within [`CLONED_TIME`]; the next is refused CLONED.
const TAKE_OVERS_OF_A_PAIR_MAX: usize = 2;
/// How long take-overs are remembered, and how long further ones are refused once two boxes took turns. With
/// [`TAKE_OVER_EVERY`] it bounds what is remembered: 60 for each party.
const CLONED_TIME: Duration = Duration::from_secs(600);

/// What became of one party's sessions.
#[derive(Debug, Default)]
pub(super) struct TakeOvers {
    past: VecDeque<TakeOver>,
    cloned_until: Duration,
}

/// One take-over, with its two processes in a fixed order.
#[derive(Debug)]
struct TakeOver {
    at: Duration,
    between: [[u8; 16]; 2],
}

#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Passes,
    TooSoon,
    /// Whether it is this one that shows it.
    Cloned {
        newly: bool,
    },
}

impl TakeOvers {
    fn judge(&mut self, from: [u8; 16], to: [u8; 16], now: Duration) -> Verdict {
        if from != to && now < self.cloned_until {
            return Verdict::Cloned { newly: false };
        }
        while self.past.front().is_some_and(|first| first.at + CLONED_TIME <= now) {
            self.past.pop_front();
        }
        if self.past.back().is_some_and(|last| now < last.at + TAKE_OVER_EVERY) {
            return Verdict::TooSoon;
        }
        let between = [from.min(to), from.max(to)];
        let turns = self.past.iter().filter(|past| past.between == between).count();
        // One process that lost its line and came back is no second box.
        if from != to && turns >= TAKE_OVERS_OF_A_PAIR_MAX {
            self.cloned_until = now + CLONED_TIME;
            return Verdict::Cloned { newly: true };
        }
        self.past.push_back(TakeOver { at: now, between });
        Verdict::Passes
    }
}

impl Exchange {
    /// Lets the newest session of a party take over, unless that happened a moment ago or two boxes do it in
    /// turn; then it is closed itself. Returns whether the newcomer may go on.
    pub(super) fn take_over(&mut self, party: PartyNumber, by: ConnId, instance: [u8; 16]) -> bool {
        let older = self.by_party.get(&party).copied().filter(|older| *older != by);
        let Some(older) = older else { return true };
        let stays = self.sessions[&older].instance;
        match self.take_overs.entry(party).or_default().judge(stays, instance, self.clock.mono()) {
            Verdict::Passes => {
                let words = "a newer session of this party took over";
                self.goodbye(older, GoodbyeCode::TakenOver, words.to_owned());
                return true;
            }
            Verdict::TooSoon => {
                let words = "a session of this party took over a moment ago; come again";
                self.goodbye(by, GoodbyeCode::TakeOverSoon, words.to_owned());
            }
            Verdict::Cloned { newly } => {
                let words = "two machines take turns as this party; stop the one that should not run";
                self.goodbye(by, GoodbyeCode::Cloned, words.to_owned());
                if newly {
                    self.notice(Notice::Cloned { party });
                    self.administer(Act::Cloned { party, stays, refused: instance });
                }
            }
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_party_is_taken_over_at_most_once_in_ten_seconds() {
        let mut overs = TakeOvers::default();
        let mut judge = |from, seconds| overs.judge([from; 16], [from + 1; 16], at(seconds));
        assert_eq!(judge(1, 100), Verdict::Passes);
        assert_eq!(judge(2, 109), Verdict::TooSoon);
        assert_eq!(judge(2, 110), Verdict::Passes, "a refused attempt does not count");
    }

    #[test]
    fn the_third_take_over_between_two_boxes_is_refused_for_ten_minutes_and_shows_them_once() {
        let (a, b) = ([1; 16], [2; 16]);
        let mut overs = TakeOvers::default();
        assert_eq!(overs.judge(a, b, at(0)), Verdict::Passes);
        assert_eq!(overs.judge(b, a, at(10)), Verdict::Passes);
        assert_eq!(overs.judge(a, b, at(20)), Verdict::Cloned { newly: true });
        assert_eq!(overs.judge(a, b, at(619)), Verdict::Cloned { newly: false });
        assert_eq!(overs.judge(a, [3; 16], at(619)), Verdict::Cloned { newly: false }, "nor a third box");
        assert_eq!(overs.judge(a, a, at(619)), Verdict::Passes, "the one that stays may reconnect");
        assert_eq!(overs.judge(a, b, at(630)), Verdict::Passes);
    }

    #[test]
    fn restarts_and_a_line_that_comes_and_goes_are_no_clones() {
        let mut overs = TakeOvers::default();
        for n in 0..20 {
            let started = u8::try_from(n).unwrap();
            assert_eq!(
                overs.judge([started; 16], [started + 1; 16], at(20 * n)),
                Verdict::Passes,
                "a restart"
            );
            let again = [started + 1; 16];
            assert_eq!(overs.judge(again, again, at(20 * n + 10)), Verdict::Passes, "the same process");
        }
        assert!(overs.past.len() <= 60, "what is remembered is bounded");
    }
}
