//! What a desk said, checked as far as the bytes alone allow.
//!
//! The connection's task calls [`Intake::take`]; the exchange then only decides. Signatures are
//! verified here, off the exchange's thread, and carried as types that only a check can make.

use crate::{
    batch::{self, PublicKey},
    limits,
    note::NoteSignature,
    session::{
        hello::{HelloError, VerifiedHello},
        window::Credit,
    },
    wire::{
        EnvelopeHash, Position, SubmissionNumber,
        codec::FrameDecoder,
        envelope::{EnvelopeError, VerifiedEnvelope, parse_header},
        order::{OrderError, SignedOrder},
        pb::{self, frame::Kind},
        receipt::VerifiedReceipts,
    },
};

/// A frame of a desk, checked.
#[derive(Clone, Debug)]
pub enum Inbound {
    /// A Hello that this party's key signed for this connection.
    Hello(Box<VerifiedHello>),
    /// A Hello that is not believed: the code to close with, and why.
    BadHello(pb::GoodbyeCode, String),
    /// An envelope with a good signature, and the bytes of its frame.
    Submit(Box<VerifiedEnvelope>, u64),
    /// A submission that can never be accepted, and the bytes of its frame.
    BadSubmit(BadSubmit, u64),
    /// Receipts with a good signature.
    Stored(Box<VerifiedReceipts>),
    /// Receipts up to here are in the desk's store.
    Confirm(Position),
    /// A chunk of a roster to be put in force.
    Publish(pb::Publish),
    /// An order that this key signed, and its request.
    Order(u64, Box<SignedOrder>, PublicKey),
    /// What a witness says to a checkpoint.
    Witnessed(Witnessed),
    /// Asks for a file of the audit log: the request, and the name as it was written.
    Fetch(u64, String),
    /// The desk grants in all.
    Credit(Credit),
    /// To be answered.
    Ping(u64),
    /// An answer to our ping.
    Pong,
    /// The desk ends the session.
    Goodbye,
    /// The desk ends the session, because the relay has lost what it had accepted.
    LogBehind,
    /// The desk broke the protocol, in these words.
    Violation(String),
}

/// What a witness says to a checkpoint (tlog-witness).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Witnessed {
    /// 200: its cosignature, not verified yet.
    Cosigned(NoteSignature),
    /// 409: the size that it cosigned last.
    Conflict(u64),
    /// 400, 403, 404 or 422.
    Refused(u16),
}

/// A submission that failed its checks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadSubmit {
    /// As far as its header can be read.
    pub submission: Option<SubmissionNumber>,
    /// Leaf of the header bytes, whatever they are.
    pub hash: EnvelopeHash,
    /// Why.
    pub code: pb::RefusalCode,
    /// What exactly.
    pub detail: String,
}

/// Checks one connection's frames.
#[derive(Debug)]
pub struct Intake {
    trust_domain: String,
    exporter: [u8; 32],
    verifier: batch::Verifier,
}

/// Batches whose verified nodes one connection remembers: a few senders' worth, for a desk has one key.
const BATCHES_REMEMBERED: usize = 8;

impl Intake {
    /// For a connection with this TLS exporter.
    pub fn new(trust_domain: &str, exporter: [u8; 32]) -> Intake {
        Intake {
            trust_domain: trust_domain.to_owned(),
            exporter,
            verifier: batch::Verifier::new(BATCHES_REMEMBERED),
        }
    }

    /// Takes the next whole frame out of `decoder` and checks it; `None` until more bytes come. Nothing may
    /// be taken after an [`Inbound::Violation`].
    pub fn take(&mut self, decoder: &mut FrameDecoder, key: Option<&PublicKey>) -> Option<Inbound> {
        match decoder.next_sized() {
            Ok(None) => None,
            Ok(Some((Kind::Submit(submit), bytes))) => Some(self.check(Kind::Submit(submit), bytes, key)),
            Ok(Some((_, bytes))) if bytes > limits::FRAME_CONTROL_BYTES_MAX as u64 => {
                Some(Inbound::Violation(format!("a control frame of {bytes} bytes")))
            }
            Ok(Some((frame, bytes))) => Some(self.check(frame, bytes, key)),
            Err(error) => Some(Inbound::Violation(error.to_string())),
        }
    }

    /// Checks a frame of `bytes` bytes under the key that the roster lists for the party now, if any.
    pub fn check(&mut self, frame: Kind, bytes: u64, key: Option<&PublicKey>) -> Inbound {
        match frame {
            Kind::Hello(hello) => match key {
                None => Inbound::BadHello(
                    pb::GoodbyeCode::NotInRoster,
                    "the roster lists no key for this party".to_owned(),
                ),
                Some(key) => match VerifiedHello::verify(hello, self.exporter, &self.trust_domain, key) {
                    Ok(hello) => Inbound::Hello(Box::new(hello)),
                    Err(error) => Inbound::BadHello(goodbye_code(&error), error.to_string()),
                },
            },
            Kind::Submit(submit) => self.check_submit(&submit, bytes, key),
            Kind::Stored(stored) => {
                match key.map(|key| VerifiedReceipts::verify(stored, &self.trust_domain, key)) {
                    Some(Ok(receipts)) => Inbound::Stored(Box::new(receipts)),
                    Some(Err(error)) => Inbound::Violation(format!("receipts: {error}")),
                    None => Inbound::Violation("receipts of a party without a key".to_owned()),
                }
            }
            Kind::Confirm(confirm) => Inbound::Confirm(Position(confirm.position)),
            Kind::Credit(credit) => {
                Inbound::Credit(Credit { envelopes: credit.envelopes, bytes: credit.bytes })
            }
            Kind::Publish(chunk) => Inbound::Publish(chunk),
            Kind::Order(order) => self.check_order(&order, key),
            Kind::Witnessed(answer) => match witnessed(&answer) {
                Some(answer) => Inbound::Witnessed(answer),
                None => Inbound::Violation("an answer that no witness gives".to_owned()),
            },
            Kind::Fetch(fetch) if fetch.name.len() <= limits::LOG_NAME_BYTES_MAX => {
                Inbound::Fetch(fetch.request, fetch.name)
            }
            Kind::Fetch(_) => Inbound::Violation("a name that no file of the audit log has".to_owned()),
            Kind::Ping(ping) => Inbound::Ping(ping.token),
            Kind::Pong(_) => Inbound::Pong,
            Kind::Goodbye(goodbye) if goodbye.code == pb::GoodbyeCode::LogBehind as u32 => Inbound::LogBehind,
            Kind::Goodbye(_) => Inbound::Goodbye,
            Kind::Welcome(_)
            | Kind::Accepted(_)
            | Kind::Refused(_)
            | Kind::Deferred(_)
            | Kind::Deliver(_)
            | Kind::StoredAt(_)
            | Kind::Receipt(_)
            | Kind::Administrative(_)
            | Kind::Checkpoint(_)
            | Kind::AddCheckpoint(_)
            | Kind::Fetched(_)
            | Kind::Administered(_) => Inbound::Violation("a frame that only a relay sends".to_owned()),
        }
    }

    fn check_order(&self, frame: &pb::Order, key: Option<&PublicKey>) -> Inbound {
        let Some(key) = key else {
            return Inbound::Violation("an order of a party without a key".to_owned());
        };
        let verified = SignedOrder::parse(frame).map_err(OrderError::from).and_then(|order| {
            order.verify(&self.trust_domain, key)?;
            Ok(order)
        });
        match verified {
            Ok(order) => Inbound::Order(frame.request, Box::new(order), *key),
            Err(error) => Inbound::Violation(format!("order: {error}")),
        }
    }

    fn check_submit(&mut self, submit: &pb::Submit, bytes: u64, key: Option<&PublicKey>) -> Inbound {
        let Some(key) = key else {
            return Inbound::Violation("a submission of a party without a key".to_owned());
        };
        match VerifiedEnvelope::verify(submit, &self.trust_domain, key, &mut self.verifier) {
            Ok(envelope) => Inbound::Submit(Box::new(envelope), bytes),
            Err(error) => Inbound::BadSubmit(bad_submit(submit, &error), bytes),
        }
    }
}

fn witnessed(answer: &pb::Witnessed) -> Option<Witnessed> {
    let body = Some(&answer.body).filter(|body| body.len() <= limits::WITNESSED_BYTES_MAX);
    let body = body.and_then(|body| str::from_utf8(body).ok())?;
    match answer.status {
        200 => body.parse().ok().map(Witnessed::Cosigned),
        409 => body.strip_suffix('\n').and_then(|size| size.parse().ok()).map(Witnessed::Conflict),
        400 | 403 | 404 | 422 => u16::try_from(answer.status).ok().map(Witnessed::Refused),
        _ => None,
    }
}

fn goodbye_code(error: &HelloError) -> pb::GoodbyeCode {
    match error {
        HelloError::Version(_) => pb::GoodbyeCode::Version,
        HelloError::Malformed(_) => pb::GoodbyeCode::Protocol,
        HelloError::Signature(_) => pb::GoodbyeCode::BadSignature,
    }
}

fn bad_submit(submit: &pb::Submit, error: &EnvelopeError) -> BadSubmit {
    BadSubmit {
        submission: parse_header(&submit.header).ok().map(|(core, _)| core.submission),
        hash: EnvelopeHash(batch::item_leaf(batch::Tag::Envelope, &submit.header)),
        code: match error {
            EnvelopeError::Malformed(_) => pb::RefusalCode::Malformed,
            EnvelopeError::Signature(_) => pb::RefusalCode::BadSignature,
        },
        detail: error.to_string(),
    }
}
