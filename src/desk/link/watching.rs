//! A session's part in the audit log, carried out: what the watch says is sent, kept or cosigned, and proofs that are
//! owed are cut, a few at a time and only when nothing else is due.

use std::{collections::VecDeque, mem, time::Duration};

use crate::{
    audit::witness_name,
    desk::{
        link::{
            coverage::Coverage,
            greeting::{self, CLOCK_DIFFERENCE_MAX},
            jobs::{StoreAnswer, StoreJob},
            known::Known,
            machine::Now,
            proving::Proving,
            verify,
            watch::{Step, Watch, witnessed},
        },
        store::{Owed, Verified},
    },
    wire::{Malformed, Position, pb, pb::frame::Kind},
};

/// The watch of one session, and how it is carried out.
#[derive(Debug, Default)]
pub(super) struct Watching {
    watch: Watch,
    /// What the relay owed before this session.
    owed: Owed,
    coverage: Coverage,
    /// What the store has to keep.
    jobs: VecDeque<StoreJob>,
    proving: Proving,
    /// Whether the store is about to be told of a leaf that is witnessed already.
    is_late: bool,
    /// Whether log time was found to be ahead in this session: it is said once.
    log_time_is_ahead: bool,
    /// The highest number of an order that the log was seen to hold: numbers rise, so that a relay cannot make this
    /// desk keep one again and again.
    last_order: u32,
}

impl Watching {
    /// Goes on from what the store holds.
    pub(super) fn new(verified: Verified, owed: Owed, known: &Known) -> Watching {
        let watch = Watch::new(verified).shown_before(known.published.clone());
        Watching { watch, owed, ..Watching::default() }
    }

    /// Welcome came: from here on the relay has its time.
    pub(super) fn opened(&mut self, now: Now) {
        self.coverage = Coverage::new(self.owed.last, self.owed.is_overdue, now.mono);
    }

    /// When [`Watching::tick`] has something to do.
    pub(super) fn due(&self, known: &Known) -> Option<Duration> {
        self.coverage.asks_at(known.setup.limits.checkpoint_owed_time_max)
    }

    /// Asks for a sign of life where a checkpoint is due.
    pub(super) fn tick(&mut self, known: &mut Known, now: Now) {
        if let Some(token) = self.coverage.asks(known.setup.limits.checkpoint_owed_time_max, now.mono) {
            known.send(Kind::Ping(pb::Ping { token }));
        }
    }

    /// A Pong came.
    pub(super) fn pong(&mut self, token: u64) {
        self.jobs.extend(self.coverage.answered(token).map(|position| StoreJob::Uncovered(Some(position))));
    }

    /// Takes a frame that is about the audit log.
    ///
    /// # Errors
    /// [`Malformed`]: the relay breaks the protocol.
    pub(super) fn frame(&mut self, frame: &Kind, known: &mut Known, now: Now) -> Result<(), Malformed> {
        let Some(roster) = known.roster.clone() else { return Ok(()) };
        let steps = match frame {
            Kind::AddCheckpoint(request) => self.watch.add_checkpoint(request, &roster),
            Kind::Checkpoint(checkpoint) => {
                let steps = self.watch.published(checkpoint, &roster);
                if let Some(arrived) = self.watch.arrived() {
                    // The first since the daemon started may have been counted before.
                    let is_news = known.published.replace(arrived.clone()).is_some();
                    self.jobs.extend(is_news.then_some(StoreJob::Published(arrived.size)));
                }
                steps
            }
            Kind::Fetched(fetched) => self.watch.fetched(fetched, &roster)?,
            _ => Vec::new(),
        };
        if self.coverage.shown(self.watch.shown()) {
            self.jobs.push_back(StoreJob::Uncovered(None));
        }
        self.carry_out(steps, known, now);
        Ok(())
    }

    /// Holds the time of a record that a frame tells of against this machine's clock.
    fn look_at_time(&mut self, frame: &Kind, known: &mut Known, now: Now) {
        let ahead_us = verify::log_time_us(frame).map_or(0, |time_us| time_us.saturating_sub(now.wall_us));
        let ahead = Duration::from_micros(ahead_us);
        if ahead > CLOCK_DIFFERENCE_MAX && !mem::replace(&mut self.log_time_is_ahead, true) {
            known.alarm("log-time", verify::log_time_is_ahead(ahead));
        }
    }

    /// Notes a frame that tells of a leaf. One that is witnessed already, because it was told of late, may be proven
    /// at once; all others wait for their checkpoint.
    pub(super) fn saw(&mut self, frame: &Kind, known: &mut Known, now: Now) {
        self.look_at_time(frame, known, now);
        let position = match frame {
            Kind::Accepted(accepted) => accepted.position,
            Kind::Deliver(deliver) => deliver.position,
            Kind::Receipt(receipt) => receipt.position,
            Kind::Refused(refused) if refused.recorded => refused.position,
            Kind::StoredAt(stored_at) => stored_at.position,
            _ => return,
        };
        self.is_late |= position < self.watch.witnessed_size();
        if Position(position) != Position::NONE {
            self.coverage.told(Position(position), now.mono);
        }
    }

    /// Takes what the store said to a job, where the log is concerned.
    pub(super) fn answered(&mut self, answer: &StoreAnswer, known: &mut Known, now: Now) {
        let steps = match answer {
            StoreAnswer::Followed { cosigns } => {
                self.proving.begin();
                self.watch.kept(*cosigns)
            }
            StoreAnswer::Proved(proved) => self.watch.want(self.proving.proved(proved)),
            StoreAnswer::Delivered | StoreAnswer::ReceiptsStored | StoreAnswer::Done => {
                // It may hold now what was told of late.
                if mem::take(&mut self.is_late) {
                    self.proving.begin();
                }
                return;
            }
            _ => return,
        };
        self.carry_out(steps, known, now);
    }

    /// What the store has to keep, or may prove.
    pub(super) fn job(&mut self) -> Option<StoreJob> {
        self.jobs.pop_front().or_else(|| self.proving.job())
    }

    fn carry_out(&mut self, steps: Vec<Step>, known: &mut Known, now: Now) {
        for step in steps {
            match step {
                Step::Send(frame) => known.send(frame),
                Step::Keep(progress) => self.jobs.push_back(StoreJob::Follow(progress)),
                Step::Tile(path, bytes) => self.proving.fetched(path, bytes),
                Step::Order(position, order) => {
                    if order.order.number > self.last_order && greeting::is_of_hub(&order, known) {
                        self.last_order = order.order.number;
                        self.jobs.push_back(StoreJob::LearnOrder { position, order });
                    }
                }
                Step::Roster(position, version, leaf) => {
                    self.jobs.push_back(StoreJob::LearnRosterLeaf { position, version, leaf });
                }
                Step::Cloned(position, party) => greeting::cloned(position, party, known),
                Step::Doubt(doubt) => known.doubt(doubt),
                Step::Cosign(text) => {
                    let name = witness_name(&known.setup.id);
                    let line = known.setup.witness.cosign(&name, now.wall_us / 1_000_000, &text);
                    let line = line.expect("a SPIFFE ID names a witness").to_string();
                    known.send(Kind::Witnessed(witnessed(&crate::audit::Answer::Cosigned(line))));
                }
            }
        }
    }
}
