//! The sending end: builds and signs envelopes as a desk with much in its outbox does.

use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use uuid::Uuid;

use super::{
    BenchError,
    desk::{Desk, RelayEnd, Session},
    report::micros,
};
use crate::{
    batch::{self, Tag, Verifier},
    limits::BATCH_ITEMS_MAX,
    merkle::{self, Hash},
    roster::PartyNumber,
    seal::{self, Sealed},
    session::window::{Allowance, Credit},
    wire::{
        DispatchId, EnvelopeHash, Position, Precedence, Role, SubmissionNumber, convert,
        envelope::{Addressee, Core, Sealing},
        pb::{self, frame::Kind as Frame},
        receipt::ReceiptItem,
    },
};

/// Bytes of each body.
const BODY_BYTES: usize = 1024;
/// Bytes of a Submit frame with such a body, without what each addressee adds, at most.
const FRAME_BYTES: u64 = 2 * BODY_BYTES as u64;
/// What an addressee adds, at most: 5 bytes in the core, 6 before its wrap, a slip of 52 with nothing voided.
const ADDRESSEE_BYTES: u64 = 63;
/// How long a publisher waits for its last receipts.
const DRAIN_MAX: Duration = Duration::from_secs(20);
/// How long an envelope lives.
const EXPIRES_AFTER: Duration = Duration::from_secs(24 * 3600);
/// Batches of the consumers' receipts that are remembered.
const BATCHES_REMEMBERED: usize = 128;

/// Submits envelopes to its consumers, and takes their receipts.
pub(super) struct Publisher {
    desk: Desk,
    relay: Arc<RelayEnd>,
    session: Session,
    allowance: Allowance,
    /// What all envelopes have in common; id, number and body change.
    core: Core,
    to: Vec<PartyNumber>,
    body: [u8; BODY_BYTES],
    in_flight: VecDeque<InFlight>,
    /// Where receipts are verified.
    verifier: Option<Verifier>,
    /// Envelopes submitted in this session.
    pub(super) submitted: u64,
    /// Envelopes accepted.
    pub(super) accepted: u64,
    receipted: Receipted,
    /// When the last Accepted came.
    pub(super) accepted_at: Option<Instant>,
    /// From submission to Accepted, in microseconds, one of each envelope accepted.
    pub(super) accepted_us: Vec<u32>,
}

/// How a publisher submits.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    /// No submission after so long, but for a first one.
    pub(super) time: Duration,
    /// Nor more than so many.
    pub(super) submissions_max: u64,
    /// Submitted and not accepted, at most.
    pub(super) in_flight_max: usize,
    /// Submitted and not receipted, at most.
    pub(super) unsettled_max: usize,
}

/// Deliveries of this session's envelopes that receipts name. A relay that was started anew since an earlier
/// run delivers that run's receipts again.
#[derive(Debug, Default)]
struct Receipted {
    /// Where the session's first envelope stands in the log.
    first: Option<Position>,
    deliveries: u64,
}

impl Receipted {
    fn count(&mut self, envelopes: &[(EnvelopeHash, Position)]) {
        let Some(first) = self.first else { return };
        self.deliveries += envelopes.iter().filter(|(_, position)| *position >= first).count() as u64;
    }
}

struct InFlight {
    number: u64,
    hash: EnvelopeHash,
    since: Instant,
}

impl Publisher {
    /// Opens the session of `desk`.
    pub(super) async fn open(
        mut desk: Desk,
        relay: Arc<RelayEnd>,
        to: &[PartyNumber],
        verify: bool,
    ) -> Result<Publisher, BenchError> {
        let session = Session::open(&mut desk, &relay).await?;
        let mut allowance = Allowance::default();
        allowance.raise(Credit {
            envelopes: session.welcome.credit_envelopes,
            bytes: session.welcome.credit_bytes,
        });
        let core = core(desk.number, SubmissionNumber(session.welcome.last_accepted), to, &relay);
        Ok(Publisher {
            desk,
            relay,
            session,
            allowance,
            core,
            to: to.to_vec(),
            body: [0x5a; BODY_BYTES],
            in_flight: VecDeque::new(),
            verifier: verify.then(|| Verifier::new(BATCHES_REMEMBERED)),
            submitted: 0,
            accepted: 0,
            receipted: Receipted::default(),
            accepted_at: None,
            accepted_us: Vec::new(),
        })
    }

    /// The last number spent before this session's first.
    pub(super) fn last_before(&self) -> (PartyNumber, u64) {
        (self.desk.number, self.session.welcome.last_accepted)
    }

    /// Submits for `time` or up to `submissions_max`, with at most `in_flight_max` under way and
    /// `unsettled_max` not yet receipted; then waits until each is receipted, or [`DRAIN_MAX`] is over.
    pub(super) async fn publish(&mut self, pace: Pace) -> Result<(), BenchError> {
        let until = Instant::now() + pace.time;
        loop {
            self.take()?;
            let now = Instant::now();
            if (now < until || self.submitted == 0) && self.submitted < pace.submissions_max {
                self.submit_whole_batches(&pace);
            } else if self.in_flight.is_empty() && self.receipted.deliveries >= self.deliveries_due()
                || now > until + DRAIN_MAX
            {
                return Ok(());
            }
            self.session.flush().await?;
            self.session.receive().await?;
        }
    }

    pub(super) fn number(&self) -> PartyNumber {
        self.desk.number
    }

    /// Deliveries that the envelopes accepted so far make.
    pub(super) fn deliveries_due(&self) -> u64 {
        self.accepted * self.to.len() as u64
    }

    /// Submits one envelope and waits for its answer; returns when that came.
    pub(super) async fn submit_one(&mut self) -> Result<Instant, BenchError> {
        self.submit(1);
        while !self.in_flight.is_empty() {
            self.session.flush().await?;
            self.session.receive().await?;
            self.take()?;
        }
        Ok(Instant::now())
    }

    /// Ends the session, and gives the desk back for the next.
    pub(super) async fn close(self) -> Result<Desk, BenchError> {
        self.session.close().await?;
        Ok(self.desk)
    }

    /// With much in its outbox a desk fills whole batches: 64 cost one signature. What is less goes out
    /// only while nothing is under way, and so the window is small.
    fn submit_whole_batches(&mut self, pace: &Pace) {
        loop {
            let settled = self.receipted.deliveries / self.to.len() as u64;
            let unsettled = usize::try_from(self.submitted - settled).unwrap_or(usize::MAX);
            let room = self.room(pace.in_flight_max).min(pace.unsettled_max.saturating_sub(unsettled));
            if room >= BATCH_ITEMS_MAX {
                self.submit(BATCH_ITEMS_MAX);
            } else if room > 0 && self.in_flight.is_empty() {
                return self.submit(room);
            } else {
                return;
            }
        }
    }

    /// How many may be submitted now.
    fn room(&self, in_flight_max: usize) -> usize {
        let credit = self.allowance.room();
        let frame_bytes_max = FRAME_BYTES + ADDRESSEE_BYTES * self.to.len() as u64;
        let allowed = credit.envelopes.min(credit.bytes / frame_bytes_max);
        let free = in_flight_max.saturating_sub(self.in_flight.len());
        usize::try_from(allowed).unwrap_or(usize::MAX).min(free)
    }

    /// Queues `count` new envelopes under one signature.
    fn submit(&mut self, count: usize) {
        let sealed: Vec<(u64, Sealed)> = (0..count).map(|_| self.seal_next()).collect();
        let leaves: Vec<Hash> = sealed.iter().map(|(_, sealed)| sealed.hash().0).collect();
        let proofs = self.desk.sign.sign_batch(&self.core.trust_domain, Tag::Envelope, &leaves);
        let since = Instant::now();
        for ((number, sealed), proof) in sealed.into_iter().zip(&proofs) {
            self.in_flight.push_back(InFlight { number, hash: sealed.hash(), since });
            let frame = Frame::Submit(sealed.submit(proof));
            self.allowance.spend(frame.encoded_len() as u64);
            self.session.queue(frame);
        }
        self.submitted += count as u64;
    }

    fn seal_next(&mut self) -> (u64, Sealed) {
        let number = self.core.submission.0 + 1;
        self.core.submission = SubmissionNumber(number);
        // Another id and another body for each: the number in their first or last bytes.
        self.core.id.0[8..].copy_from_slice(&number.to_be_bytes());
        self.body[..8].copy_from_slice(&number.to_be_bytes());
        let slips = self.desk.next_slips(&self.to);
        let sealed = seal::seal(&self.core, Bytes::copy_from_slice(&self.body), &slips);
        self.desk.sent(&self.to, slips, sealed.hash().0);
        (number, sealed)
    }

    /// Takes everything that has come: answers, receipts, credit.
    fn take(&mut self) -> Result<(), BenchError> {
        let mut confirm = None;
        while let Some((frame, _)) = self.session.next()? {
            match frame {
                Frame::Accepted(accepted) => self.accepted(&accepted)?,
                Frame::Receipt(receipt) => {
                    self.receipt(&receipt)?;
                    confirm = Some(pb::Confirm { position: receipt.position });
                }
                Frame::Credit(pb::Credit { envelopes, bytes }) => {
                    self.allowance.raise(Credit { envelopes, bytes })
                }
                Frame::Refused(refused) => return Err(BenchError::Refused(refused.sentence)),
                Frame::Deferred(_) => return Err(BenchError::Refused("no room in the journal".to_owned())),
                _ => {}
            }
        }
        if let Some(confirm) = confirm {
            self.session.queue(Frame::Confirm(confirm));
        }
        Ok(())
    }

    fn accepted(&mut self, accepted: &pb::Accepted) -> Result<(), BenchError> {
        let first = self.in_flight.pop_front().ok_or(BenchError::Wrong("Accepted without a submission"))?;
        if first.number != accepted.submission || *first.hash.0.as_bytes() != *accepted.envelope_hash {
            return Err(BenchError::Wrong("Accepted names another envelope than the one that is due"));
        }
        let now = Instant::now();
        self.receipted.first.get_or_insert(Position(accepted.position));
        self.accepted += 1;
        self.accepted_at = Some(now);
        self.accepted_us.push(micros(now - first.since));
        Ok(())
    }

    fn receipt(&mut self, receipt: &pb::Receipt) -> Result<(), BenchError> {
        let item = ReceiptItem::decode(&receipt.item)?;
        if let Some(verifier) = &mut self.verifier {
            let roster = &self.relay.roster;
            let key = &roster.party(item.receiptor).ok_or(BenchError::Wrong("a receipt of nobody"))?.sign;
            let proof = convert::proof(receipt.proof.as_ref())?;
            let leaf = batch::item_leaf(Tag::Receipt, &receipt.item);
            let verified = verifier.verify(roster.trust_domain(), Tag::Receipt, key, leaf, &proof);
            verified.map_err(|_| BenchError::Wrong("a receipt is not signed by its consumer"))?;
        }
        self.receipted.count(&item.envelopes);
        Ok(())
    }
}

fn core(sender: PartyNumber, last: SubmissionNumber, to: &[PartyNumber], relay: &RelayEnd) -> Core {
    let roster = &relay.roster;
    let first = |words: &[String]| words.first().cloned().unwrap_or_default();
    let topics: Vec<String> = roster.content().topics.iter().map(|topic| topic.id.clone()).collect();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Core {
        trust_domain: roster.trust_domain().to_owned(),
        id: DispatchId(Uuid::now_v7().into_bytes()),
        sender,
        submission: last,
        roster_version: roster.version(),
        roster_hash: roster.hash(),
        addressees: to.iter().map(|&party| Addressee { party, role: Role::To }).collect(),
        precedence_action: Precedence::Routine,
        precedence_info: Precedence::Routine,
        topic: first(&topics),
        label: first(&roster.content().labels.classifications),
        exercise: true,
        expires_s: (now + EXPIRES_AFTER).as_secs(),
        size_bucket: 0,
        commitment: None,
        attachments: Vec::new(),
        supersedes: None,
        checkpoint_size: 0,
        checkpoint_root: merkle::empty_root(),
        sealing: Sealing::Clear,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn receipts_of_an_earlier_run_are_not_counted() {
        let at = |position| (EnvelopeHash(Hash::ZERO), Position(position));
        let mut receipted = Receipted::default();
        receipted.count(&[at(3), at(4)]);
        assert_eq!(receipted.deliveries, 0, "nothing of this session is accepted yet");
        receipted.first = Some(Position(10));
        receipted.count(&[at(9), at(10), at(11)]);
        assert_eq!(receipted.deliveries, 2);
    }
}
