//! What came for this desk and waits for the store, and the credit that the relay has for more.

use std::{mem, time::Duration};

use crate::{
    desk::{
        link::jobs::StoreJob,
        store::{Delivery, ReceivedReceipt},
    },
    limits::Limits,
    session::window::{Credit, Grant, Overdrawn},
    wire::{Position, Precedence, pb},
};

/// Deliveries wait this long for others, so that one transaction and one batch signature serve many
/// (FORMATS 7).
const GATHER: Duration = Duration::from_millis(5);
/// Deliveries that do not wait for more (FORMATS 7).
const GATHER_ENVELOPES_MAX: usize = 256;
/// What the relay counts for all of a Deliver frame but header, ciphertext and wrap.
const DELIVER_HEAD_BYTES: usize = 512;

/// Deliveries and receipts on their way into the store.
#[derive(Debug)]
pub(super) struct Inbound {
    limits: Limits,
    grant: Grant,
    deliveries: Vec<Delivery>,
    /// When the deliveries go to the store, at the latest.
    due: Option<Duration>,
    /// What the deliveries at the store count for, frame by frame.
    storing: Vec<u64>,
    receipts: Vec<ReceivedReceipt>,
    /// Records that these receipts come from.
    receipt_records: usize,
    confirm: Confirm,
}

impl Inbound {
    /// A desk grants its whole window at once: it has one session, and so nothing to share.
    pub(super) fn new(limits: &Limits) -> Inbound {
        let limits = Limits {
            window_envelopes_min: limits.window_envelopes_max,
            window_bytes_min: limits.window_bytes_max,
            ..limits.clone()
        };
        Inbound {
            grant: Grant::new(&limits),
            limits,
            deliveries: Vec::new(),
            due: None,
            storing: Vec::new(),
            receipts: Vec::new(),
            receipt_records: 0,
            confirm: Confirm::default(),
        }
    }

    /// What the relay may send in all since Welcome.
    pub(super) fn granted(&self) -> Credit {
        self.grant.granted()
    }

    /// Counts a Deliver frame against the credit.
    ///
    /// # Errors
    /// [`Overdrawn`] where the relay had none left.
    pub(super) fn receive(&mut self, frame: &pb::Deliver) -> Result<(), Overdrawn> {
        self.grant.receive(deliver_bytes(frame))
    }

    /// Gives the credit of a counted frame back; the new total where it is news.
    pub(super) fn finish(&mut self, bytes: u64) -> Option<Credit> {
        // A window that is as large as may be does not grow, whatever the time.
        self.grant.finish(bytes, Duration::ZERO, &self.limits, &mut 0)
    }

    /// Queues a delivery that was counted.
    pub(super) fn deliver(&mut self, delivery: Delivery, now: Duration) {
        let flash = delivery.core.precedence(delivery.role) == Precedence::Flash;
        let at_once = flash || self.deliveries.len() + 1 >= GATHER_ENVELOPES_MAX;
        let due = if at_once { now } else { now + GATHER };
        self.due = Some(self.due.map_or(due, |earlier| earlier.min(due)));
        self.deliveries.push(delivery);
    }

    /// When deliveries go to the store without further input.
    pub(super) fn due(&self) -> Option<Duration> {
        self.due
    }

    /// The deliveries gathered, when they are due.
    pub(super) fn deliver_job(&mut self, now: Duration) -> Option<StoreJob> {
        if self.due.is_none_or(|due| now < due) {
            return None;
        }
        self.due = None;
        let deliveries = mem::take(&mut self.deliveries);
        self.storing = deliveries.iter().map(|delivery| deliver_bytes(&delivery.frame)).collect();
        Some(StoreJob::Deliver(deliveries))
    }

    /// The deliveries of the last job are in the store; the relay's new credit where it is news.
    pub(super) fn delivered(&mut self) -> Option<Credit> {
        let storing = mem::take(&mut self.storing);
        let totals = storing.into_iter().filter_map(|bytes| self.finish(bytes));
        totals.last()
    }

    /// Queues a receipt; `false` where those of more records wait than a relay sends before any is confirmed.
    pub(super) fn receipt(&mut self, receipt: ReceivedReceipt) -> bool {
        let is_same_record = self.receipts.last().is_some_and(|last| last.position == receipt.position);
        self.receipt_records += usize::from(!is_same_record);
        self.receipts.push(receipt);
        self.receipt_records <= self.limits.receipts_in_flight_max
    }

    /// The receipts gathered.
    pub(super) fn receipts_job(&mut self) -> Option<StoreJob> {
        if self.receipts.is_empty() {
            return None;
        }
        self.confirm.begin_storing();
        self.receipt_records = 0;
        Some(StoreJob::Receipts(mem::take(&mut self.receipts)))
    }

    /// The receipts of the last job are in the store.
    pub(super) fn receipts_stored(&mut self) {
        self.confirm.end_storing();
    }

    /// Notes the position of a receipt frame that came, or that another frame did.
    pub(super) fn saw(&mut self, receipt: Option<Position>) {
        self.confirm.saw(receipt);
    }

    /// A position to confirm, once.
    pub(super) fn confirm(&mut self) -> Option<Position> {
        self.confirm.take(self.receipts.is_empty())
    }
}

/// What a Deliver frame counts for. The relay must count the same, or the window shrinks or grows with
/// every frame.
pub(super) fn deliver_bytes(frame: &pb::Deliver) -> u64 {
    (frame.header.len() + frame.ciphertext.len() + frame.wrap.len() + DELIVER_HEAD_BYTES) as u64
}

/// What may be confirmed. One record may hold several receipts for this desk, in frames that follow each
/// other: its position is confirmed only after a frame that shows that all of them came.
#[derive(Debug, Default)]
struct Confirm {
    /// Position of the receipt that came last.
    newest: Option<Position>,
    /// All receipts through here came.
    complete: Option<Position>,
    /// What was complete when the receipts that are at the store went there.
    storing: Option<Option<Position>>,
    /// All receipts through here are in the store.
    durable: Option<Position>,
    confirmed: Option<Position>,
}

impl Confirm {
    fn saw(&mut self, receipt: Option<Position>) {
        if receipt.is_none() || receipt != self.newest {
            self.complete = self.newest;
        }
        self.newest = receipt.or(self.newest);
    }

    fn begin_storing(&mut self) {
        self.storing = Some(self.complete);
    }

    fn end_storing(&mut self) {
        self.durable = self.durable.max(self.storing.take().flatten());
    }

    fn take(&mut self, none_waits: bool) -> Option<Position> {
        if none_waits && self.storing.is_none() {
            self.durable = self.durable.max(self.complete);
        }
        if self.durable <= self.confirmed {
            return None;
        }
        self.confirmed = self.durable;
        self.confirmed
    }
}
