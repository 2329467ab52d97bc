//! Bodies kept in memory for delivery, bounded in bytes; the rest is loaded back from the journal.

use std::{collections::BTreeMap, sync::Arc};

use crate::{
    record::content::AcceptedReceipts, record::expiry::ExpiredEnvelope, wire::Position,
    wire::envelope::Envelope,
};

/// What a record delivers.
#[derive(Clone, Debug)]
pub enum Body {
    /// To its addressees.
    Envelope(Arc<Envelope>),
    /// To the senders they concern.
    Receipts(Arc<AcceptedReceipts>),
    /// To the sender of an envelope and to who had not settled it.
    Expired(Arc<ExpiredEnvelope>),
}

impl Body {
    fn bytes(&self) -> usize {
        match self {
            Body::Envelope(envelope) => envelope.bytes(),
            Body::Expired(expired) => expired.bytes(),
            Body::Receipts(receipts) => {
                receipts.batch.parts.iter().map(|part| part.bytes.len() * 2 + part.details.len()).sum()
            }
        }
    }
}

/// The cache. Oldest positions go first: live traffic stays, and a desk that was long away is served
/// from disk.
#[derive(Debug)]
pub struct Bodies {
    kept: BTreeMap<Position, Body>,
    bytes: usize,
    bytes_max: usize,
}

impl Bodies {
    /// An empty cache of at most so many bytes, or one body where that is larger.
    pub fn new(bytes_max: usize) -> Bodies {
        Bodies { kept: BTreeMap::new(), bytes: 0, bytes_max }
    }

    /// The body at a position, where it is kept.
    pub fn find(&self, position: Position) -> Option<&Body> {
        self.kept.get(&position)
    }

    /// Keeps a body, and drops the oldest others where that is too much.
    pub fn keep(&mut self, position: Position, body: Body) {
        self.drop(position);
        self.bytes += body.bytes();
        self.kept.insert(position, body);
        while self.bytes > self.bytes_max {
            let Some(oldest) = self.kept.keys().copied().find(|kept| *kept != position) else { return };
            self.drop(oldest);
        }
    }

    /// Forgets a body that nobody waits for.
    pub fn drop(&mut self, position: Position) {
        if let Some(body) = self.kept.remove(&position) {
            self.bytes -= body.bytes();
        }
    }
}
