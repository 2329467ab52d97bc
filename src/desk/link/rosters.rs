//! Puts administrative leaves together with what lies beside them, chunk by chunk, and keeps orders that came before
//! the roster to judge them by.

use std::mem;

use bytes::Bytes;

use crate::{
    limits,
    wire::{Malformed, Position, order::SignedOrder, pb},
};

/// An administrative leaf that has arrived whole.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Administrative {
    pub(super) position: Position,
    pub(super) leaf: Bytes,
    /// The roster note where the leaf is a roster's, else empty.
    pub(super) beside: Vec<u8>,
}

/// The leaf under way, if any. Holds at most 4 MiB and a leaf.
#[derive(Debug, Default)]
pub(super) struct Assembly {
    partial: Option<(Administrative, usize)>,
    /// Orders that wait for a roster.
    pub(super) early: EarlyOrders,
}

/// Orders that came while this desk held no roster, in the order of the log: those that stand, 600 bytes each, at most
/// [`limits::ORDERS_STANDING_MAX`] and MINIMIZE. An honest relay has no more; what is beyond is passed over.
#[derive(Debug, Default)]
pub(super) struct EarlyOrders(Vec<(Position, Box<SignedOrder>)>);

impl EarlyOrders {
    /// Puts one behind the others.
    pub(super) fn keep(&mut self, position: Position, order: Box<SignedOrder>) {
        if self.0.len() <= limits::ORDERS_STANDING_MAX {
            self.0.push((position, order));
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// All of them; none stays.
    pub(super) fn take(&mut self) -> Vec<(Position, Box<SignedOrder>)> {
        mem::take(&mut self.0)
    }
}

impl Assembly {
    /// Takes the next chunk, and gives back the leaf that it completes.
    ///
    /// # Errors
    /// [`Malformed`] where chunks are out of order, too long in all, or of a leaf that is too long.
    pub(super) fn take(&mut self, frame: pb::Administrative) -> Result<Option<Administrative>, Malformed> {
        let (mut whole, total_bytes) = match self.partial.take() {
            Some(partial) => partial,
            None => begin(&frame)?,
        };
        let offset = usize::try_from(frame.offset).unwrap_or(usize::MAX);
        if frame.position != whole.position.0 || offset != whole.beside.len() {
            return Err(Malformed::new("administrative chunk", "is out of order"));
        }
        if frame.chunk.len() > total_bytes - offset || (frame.chunk.is_empty() && total_bytes > 0) {
            return Err(Malformed::new("administrative chunk", "is empty or longer than announced"));
        }
        whole.beside.extend_from_slice(&frame.chunk);
        if whole.beside.len() == total_bytes {
            return Ok(Some(whole));
        }
        self.partial = Some((whole, total_bytes));
        Ok(None)
    }
}

fn begin(frame: &pb::Administrative) -> Result<(Administrative, usize), Malformed> {
    if frame.leaf.is_empty() || frame.leaf.len() > limits::ADMINISTRATIVE_LEAF_BYTES_MAX {
        return Err(Malformed::new("administrative leaf", "is missing or too long"));
    }
    let total_bytes = usize::try_from(frame.total_bytes).unwrap_or(usize::MAX);
    if total_bytes > limits::ROSTER_BYTES_MAX {
        return Err(Malformed::new("roster note", "is longer than 4 MiB"));
    }
    let leaf = frame.leaf.clone();
    Ok((Administrative { position: Position(frame.position), leaf, beside: Vec::new() }, total_bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chunk(
        position: u64,
        leaf: &'static [u8],
        total: u32,
        offset: u32,
        chunk: &'static [u8],
    ) -> pb::Administrative {
        let (leaf, chunk) = (Bytes::from_static(leaf), Bytes::from_static(chunk));
        pb::Administrative { position, leaf, total_bytes: total, offset, chunk }
    }

    #[test]
    fn a_leaf_with_nothing_beside_it_is_whole_at_once() {
        let whole = Assembly::default().take(chunk(4, b"leaf", 0, 0, b"")).expect("in order").expect("whole");
        assert_eq!((whole.position, &*whole.leaf, whole.beside.len()), (Position(4), b"leaf".as_slice(), 0));
    }

    #[test]
    fn chunks_in_order_give_the_note() {
        let mut assembly = Assembly::default();
        assert_eq!(assembly.take(chunk(4, b"leaf", 5, 0, b"no")), Ok(None));
        assert_eq!(assembly.take(chunk(4, b"", 5, 2, b"t")), Ok(None));
        let whole = assembly.take(chunk(4, b"", 5, 3, b"e\n")).expect("in order").expect("whole");
        assert_eq!(whole.beside, b"note\n");
        assert!(assembly.take(chunk(5, b"next", 0, 0, b"")).expect("in order").is_some());
    }

    #[test]
    fn chunks_that_do_not_continue_the_note_are_refused() {
        for wrong in [
            chunk(5, b"", 5, 2, b"t"),
            chunk(4, b"", 5, 3, b"t"),
            chunk(4, b"", 5, 0, b"no"),
            chunk(4, b"", 5, 2, b""),
            chunk(4, b"", 5, 2, b"long"),
        ] {
            let mut assembly = Assembly::default();
            assert_eq!(assembly.take(chunk(4, b"leaf", 5, 0, b"no")), Ok(None));
            assert!(assembly.take(wrong.clone()).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn a_note_above_the_bound_and_a_missing_leaf_are_refused() {
        let bound = u32::try_from(limits::ROSTER_BYTES_MAX).expect("4 MiB");
        assert!(Assembly::default().take(chunk(0, b"leaf", bound + 1, 0, b"a")).is_err());
        assert!(Assembly::default().take(chunk(0, b"leaf", bound, 0, b"a")).is_ok());
        assert!(Assembly::default().take(chunk(0, b"", 5, 0, b"a")).is_err());
    }
}
