//! What the hub's desk asks of the relay while its session is open: to put a roster in force, and orders.
//! Nothing is kept: a request lives as long as its session, and may be made again.

use bytes::Bytes;
use tokio::sync::oneshot;

use crate::{
    batch::Tag,
    desk::link::machine::Setup,
    limits,
    wire::{Position, convert, order::Order, pb, pb::frame::Kind},
};

/// Bytes of a note in one frame: with its head below the bound of a control frame.
const CHUNK_BYTES: usize = 60 * 1024;
const _: () = assert!(CHUNK_BYTES + 256 < limits::FRAME_CONTROL_BYTES_MAX);

/// One request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// Put this roster note in force.
    Publish(Bytes),
    /// Sign this order and put it in force.
    Order(Order),
}

/// A request on its way to the link, and where its end is told.
pub type Asked = (Request, oneshot::Sender<RequestEnd>);

/// What became of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RequestEnd {
    /// It is in force.
    Done(Position),
    /// That very roster is in force already.
    Known,
    /// The order's number is taken: this is the last one.
    NumberTaken(u32),
    /// The relay said no, in these words.
    Declined(String),
    /// There was no session: nothing was asked.
    NoContact,
    /// The session ended before an answer came: whether it is in force is not known.
    Unanswered,
}

impl From<pb::Administered> for RequestEnd {
    fn from(frame: pb::Administered) -> RequestEnd {
        use pb::AdministeredCode as Code;
        let code = i32::try_from(frame.code).ok().and_then(|code| Code::try_from(code).ok());
        match code {
            Some(Code::Done) => RequestEnd::Done(Position(frame.position)),
            Some(Code::Known) => RequestEnd::Known,
            Some(Code::Number) => RequestEnd::NumberTaken(frame.order_number),
            Some(Code::NotValid | Code::Busy | Code::Unspecified) | None => {
                RequestEnd::Declined(frame.sentence)
            }
        }
    }
}

/// The frames of a request, whose note the caller has held against its bound.
pub(super) fn frames(request: Request, number: u64, setup: &Setup) -> Vec<Kind> {
    match request {
        Request::Publish(note) => {
            let total_bytes = u32::try_from(note.len()).unwrap_or(u32::MAX);
            let chunk = |offset: usize| {
                Kind::Publish(pb::Publish {
                    request: number,
                    total_bytes,
                    offset: u32::try_from(offset).unwrap_or(u32::MAX),
                    chunk: note.slice(offset..note.len().min(offset + CHUNK_BYTES)),
                })
            };
            (0..note.len()).step_by(CHUNK_BYTES).map(chunk).collect()
        }
        Request::Order(order) => {
            let mut proofs = setup.sign.sign_batch(&setup.trust.trust_domain, Tag::Order, &[order.leaf()]);
            let proof = proofs.pop().map(|proof| convert::proof_frame(&proof));
            vec![Kind::Order(pb::Order { request: number, item: order.encode(), proof })]
        }
    }
}
