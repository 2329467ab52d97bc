//! What only the ministry's desk does: putting rosters in force, and giving orders. Both need contact, and
//! are answered when they are in force.

use std::time::Duration;

use bytes::Bytes;
use ring::rand::{SecureRandom, SystemRandom};
use tokio::{sync::oneshot, time::timeout};

use crate::{
    desk::{
        error::DeskError,
        handle::DeskHandle,
        link::requests::{Request, RequestEnd},
        store::StoreError,
        view::{InForce, NewOrder},
    },
    limits::{Limits, ROSTER_BYTES_MAX},
    wire::{
        Position,
        order::{ORDER_SALT_BYTES, Order},
    },
};

/// An order takes at most this long to be answered.
pub(super) const ORDER_TIME_MAX: Duration = Duration::from_secs(25);
/// And a roster as long as the relay waits for it, on the thinnest line.
pub(super) const PUBLISH_TIME_MAX: Duration = Limits::DEFAULT.publication_time_max;
/// Numbers tried for one order: the second follows the relay's word.
const NUMBERS_TRIED_MAX: usize = 3;

impl DeskHandle {
    /// Puts a signed roster note in force at the relay, and so at every desk.
    ///
    /// # Errors
    /// [`DeskError::NotTheHub`], [`DeskError::TooLarge`], [`DeskError::NoContact`], [`DeskError::Declined`],
    /// [`DeskError::Unanswered`].
    pub async fn publish_roster(&self, note: Bytes) -> Result<InForce, DeskError> {
        self.store().ask(|store| store.hub_only()).await?;
        if note.is_empty() {
            return Err(DeskError::Invalid { field: "roster", problem: "is empty; give the signed note" });
        }
        if note.len() > ROSTER_BYTES_MAX {
            let (bytes, bytes_max) = (note.len(), ROSTER_BYTES_MAX);
            return Err(DeskError::TooLarge { field: "roster", bytes, bytes_max });
        }
        match self.request(Request::Publish(note), PUBLISH_TIME_MAX).await? {
            RequestEnd::Done(position) => Ok(InForce { position: Some(position.0), number: None }),
            RequestEnd::Known => Ok(InForce { position: None, number: None }),
            end => Err(refused(end)),
        }
    }

    /// Signs an order and puts it in force.
    ///
    /// # Errors
    /// As [`DeskHandle::publish_roster`], and [`DeskError::UnknownAddressee`] for a code that is no mission's.
    pub async fn order(&self, new: NewOrder) -> Result<InForce, DeskError> {
        let mut salt = [0; ORDER_SALT_BYTES];
        SystemRandom::new().fill(&mut salt).map_err(|_| StoreError::Random)?;
        let (mut number, kind) = self.store().ask(move |store| store.next_order(&new)).await?;
        for _ in 0..NUMBERS_TRIED_MAX {
            let order = Order { number, kind, salt };
            match self.request(Request::Order(order), ORDER_TIME_MAX).await? {
                RequestEnd::Done(Position(position)) => {
                    return Ok(InForce { position: Some(position), number: Some(number) });
                }
                RequestEnd::NumberTaken(last) => number = last.saturating_add(1),
                end => return Err(refused(end)),
            }
        }
        Err(refused(RequestEnd::Unanswered))
    }

    async fn request(&self, request: Request, time_max: Duration) -> Result<RequestEnd, DeskError> {
        let Some(link) = self.link_requests() else { return Ok(RequestEnd::NoContact) };
        let (answer, answered) = oneshot::channel();
        if link.send((request, answer)).await.is_err() {
            return Ok(RequestEnd::NoContact);
        }
        // A link that is gone answers as little as one that takes too long.
        match timeout(time_max, answered).await {
            Ok(Ok(end)) => Ok(end),
            Ok(Err(_)) | Err(_) => Ok(RequestEnd::Unanswered),
        }
    }
}

fn refused(end: RequestEnd) -> DeskError {
    match end {
        RequestEnd::NoContact => DeskError::NoContact,
        RequestEnd::Declined(sentence) => DeskError::Declined { sentence },
        RequestEnd::Unanswered | RequestEnd::NumberTaken(_) | RequestEnd::Known | RequestEnd::Done(_) => {
            DeskError::Unanswered
        }
    }
}
