//! The receiving end: takes deliveries, settles each, and counts what is lost or comes twice.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use tokio::time::timeout_at;

use super::{
    BenchError,
    desk::{Desk, RelayEnd, Session},
};
use crate::{
    batch::{self, Tag, Verifier},
    limits::{BATCH_ITEMS_MAX, Limits, RECEIPT_ENVELOPES_MAX},
    merkle::Hash,
    record::leaf::Opening,
    roster::PartyNumber,
    wire::{
        EnvelopeHash, Position, SubmissionNumber, convert,
        envelope::{Core, parse_header},
        pb::{self, frame::Kind as Frame},
        receipt::{ReceiptItem, ReceiptKind, ReceiptPart, join_parts},
    },
};

/// Receipts are gathered for so long or up to so many envelopes, as a desk does (FORMATS 7).
const GATHER: Duration = Duration::from_millis(5);
const GATHER_ENVELOPES_MAX: usize = RECEIPT_ENVELOPES_MAX;
/// Envelopes that the relay may have under way to the consumer.
const WINDOW_ENVELOPES: u64 = Limits::DEFAULT.window_envelopes_max;
/// Batches that are remembered while verifying: a few of every publisher.
const BATCHES_REMEMBERED: usize = 64;

/// Takes what the relay delivers to one desk.
pub(super) struct Consumer {
    desk: Desk,
    relay: Arc<RelayEnd>,
    session: Session,
    /// Envelopes granted and taken since Welcome.
    granted: u64,
    taken: u64,
    /// Number of the last Stored frame.
    last_stored: u64,
    gathered: Gathered,
    verifier: Option<Verifier>,
    pub(super) tally: Tally,
    /// When the last delivery that counts came.
    pub(super) delivered_at: Option<Instant>,
}

/// What is to be settled.
#[derive(Debug, Default)]
struct Gathered {
    by_sender: BTreeMap<PartyNumber, Vec<(EnvelopeHash, Position)>>,
    envelopes: usize,
    since: Option<Instant>,
}

impl Consumer {
    /// Opens the session of `desk` and grants the whole window at once, as a desk does.
    pub(super) async fn open(
        mut desk: Desk,
        relay: Arc<RelayEnd>,
        verify: bool,
    ) -> Result<Consumer, BenchError> {
        let session = Session::open(&mut desk, &relay).await?;
        let last_stored = session.welcome.last_stored;
        let mut consumer = Consumer {
            desk,
            relay,
            session,
            granted: 0,
            taken: 0,
            last_stored,
            gathered: Gathered::default(),
            verifier: verify.then(|| Verifier::new(BATCHES_REMEMBERED)),
            tally: Tally::default(),
            delivered_at: None,
        };
        consumer.grant();
        consumer.session.flush().await?;
        Ok(consumer)
    }

    pub(super) fn number(&self) -> PartyNumber {
        self.desk.number
    }

    /// Takes deliveries and settles them until the future is dropped, which loses nothing.
    pub(super) async fn consume(&mut self) -> Result<(), BenchError> {
        loop {
            self.step().await?;
        }
    }

    /// Goes on until so many envelopes have come; returns when the last of them did.
    pub(super) async fn until_delivered(&mut self, envelopes: u64) -> Result<Instant, BenchError> {
        while self.tally.delivered < envelopes {
            self.step().await?;
        }
        Ok(Instant::now())
    }

    /// Ends the session, and gives the desk back for the next.
    pub(super) async fn close(self) -> Result<Desk, BenchError> {
        self.session.close().await?;
        Ok(self.desk)
    }

    /// Waits for deliveries, or for the time to settle those gathered.
    async fn step(&mut self) -> Result<(), BenchError> {
        match self.gathered.since {
            None => self.session.receive().await?,
            Some(since) => match timeout_at((since + GATHER).into(), self.session.receive()).await {
                Ok(received) => received?,
                Err(_) => self.settle(),
            },
        }
        while let Some((frame, _)) = self.session.next()? {
            if let Frame::Deliver(deliver) = frame {
                self.deliver(&deliver)?;
            }
        }
        if self.gathered.since.is_some_and(|since| since.elapsed() >= GATHER) {
            self.settle();
        }
        self.grant();
        self.session.flush().await
    }

    fn deliver(&mut self, deliver: &pb::Deliver) -> Result<(), BenchError> {
        let opening = Opening::decode(&deliver.opening)?;
        let core = match &mut self.verifier {
            None => parse_header(&deliver.header)?.0,
            Some(verifier) => verified(deliver, &opening, verifier, &self.relay)?,
        };
        self.taken += 1;
        if self.tally.count(core.sender, core.submission) {
            self.delivered_at = Some(Instant::now());
        }
        let envelopes = self.gathered.by_sender.entry(core.sender).or_default();
        envelopes.push((EnvelopeHash(opening.hash), Position(deliver.position)));
        self.gathered.envelopes += 1;
        self.gathered.since.get_or_insert_with(Instant::now);
        if self.gathered.envelopes >= GATHER_ENVELOPES_MAX {
            self.settle();
        }
        Ok(())
    }

    /// Queues the receipts for what was gathered: one Stored frame, unless there are very many senders.
    fn settle(&mut self) {
        let Gathered { by_sender, .. } = std::mem::take(&mut self.gathered);
        let parts: Vec<ReceiptPart> = by_sender.into_iter().map(|gathered| self.receipt(gathered)).collect();
        for parts in parts.chunks(BATCH_ITEMS_MAX) {
            let leaves: Vec<Hash> =
                parts.iter().map(|part| batch::item_leaf(Tag::Receipt, &part.bytes)).collect();
            let trust_domain = self.relay.roster.trust_domain();
            let proofs = self.desk.sign.sign_batch(trust_domain, Tag::Receipt, &leaves);
            self.last_stored += 1;
            self.session.queue(Frame::Stored(pb::Stored {
                number: self.last_stored,
                count: u32::try_from(parts.len()).expect("at most 64 in a chunk"),
                items: join_parts(parts),
                signature: Bytes::copy_from_slice(&proofs[0].signature),
            }));
        }
    }

    fn receipt(&self, (sender, envelopes): (PartyNumber, Vec<(EnvelopeHash, Position)>)) -> ReceiptPart {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let (own, version) = (self.desk.number, self.relay.roster.version());
        let time_us = u64::try_from(now.as_micros()).unwrap_or(u64::MAX);
        let item = ReceiptItem::own(ReceiptKind::Delivered, own, sender, time_us, version, envelopes);
        ReceiptPart { bytes: item.encode(), details: Bytes::new(), item }
    }

    /// Grants what came free, a quarter of the window at a time. Bodies are small: envelopes are the bound.
    fn grant(&mut self) {
        let total = self.taken + WINDOW_ENVELOPES;
        if total - self.granted >= WINDOW_ENVELOPES / 4 {
            self.granted = total;
            self.session.queue(Frame::Credit(pb::Credit { envelopes: total, bytes: u64::MAX }));
        }
    }
}

/// Does what a desk does before it believes an envelope.
fn verified(
    deliver: &pb::Deliver,
    opening: &Opening,
    verifier: &mut Verifier,
    relay: &RelayEnd,
) -> Result<Core, BenchError> {
    let core = convert::delivered_parts(deliver)?.core;
    let sender =
        relay.roster.party(core.sender).ok_or(BenchError::Wrong("a sender that the roster lacks"))?;
    let leaf = batch::item_leaf(Tag::Envelope, &deliver.header);
    let proof = convert::proof(deliver.proof.as_ref())?;
    verifier
        .verify(relay.roster.trust_domain(), Tag::Envelope, &sender.sign, leaf, &proof)
        .map_err(|_| BenchError::Wrong("an envelope is not signed by its sender"))?;
    if leaf != opening.hash {
        return Err(BenchError::Wrong("an opening names another envelope"));
    }
    Ok(core)
}

/// What came, by the senders that take part. Each sender's numbers come dense and in order.
#[derive(Debug, Default)]
pub(super) struct Tally {
    senders: BTreeMap<PartyNumber, Numbers>,
    /// Envelopes that came, each counted once.
    pub(super) delivered: u64,
    /// Envelopes that came again.
    pub(super) duplicated: u64,
}

#[derive(Debug)]
struct Numbers {
    /// Spent before the workload began.
    before: u64,
    last: u64,
}

impl Tally {
    /// Counts what a sender submits after its number `before`, and nothing else.
    pub(super) fn expect(&mut self, (sender, before): (PartyNumber, u64)) {
        self.senders.insert(sender, Numbers { before, last: before });
    }

    /// Counts a delivery; says whether it is the first of its number.
    fn count(&mut self, sender: PartyNumber, number: SubmissionNumber) -> bool {
        let Some(numbers) = self.senders.get_mut(&sender) else { return false };
        let is_first = number.0 > numbers.last;
        if is_first {
            numbers.last = number.0;
            self.delivered += 1;
        } else if number.0 > numbers.before {
            self.duplicated += 1;
        }
        is_first
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_envelope_that_comes_again_is_counted_beside_and_what_waited_before_is_not_counted() {
        let mut tally = Tally::default();
        let sender = PartyNumber(3);
        tally.expect((sender, 10));
        let mut count = |number| tally.count(sender, SubmissionNumber(number));
        assert_eq!([9, 10, 11, 12, 11, 12].map(&mut count), [false, false, true, true, false, false]);
        assert!(!tally.count(PartyNumber(4), SubmissionNumber(1)), "a sender that takes no part");
        assert_eq!((tally.delivered, tally.duplicated), (2, 2));
    }
}
