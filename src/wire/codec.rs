//! Frames in and out of a byte stream: protobuf behind its length as a varint.
//!
//! The decoder's buffer lives outside any future, so that a dropped read loses nothing. A length is
//! checked against the bound in force, and no room is made for bytes that were only announced.

use bytes::{Buf, Bytes, BytesMut};
use prost::Message;

use crate::{limits, wire::pb};

/// The peer sent bytes that are no frame. The session ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CodecError {
    /// A frame of no bytes says nothing.
    #[error("frame of zero length")]
    Empty,
    /// Longer than the bound in force.
    #[error("frame of {bytes} bytes, at most {bytes_max} are allowed here")]
    TooLong {
        /// Announced length.
        bytes: u64,
        /// Bound in force.
        bytes_max: usize,
    },
    /// A length longer than four bytes, or not in its shortest form.
    #[error("frame length is not a shortest-form varint of at most {LENGTH_BYTES_MAX} bytes")]
    Length,
    /// Not protobuf, or a frame of no known kind.
    #[error("frame cannot be read")]
    Unreadable,
}

/// A varint of four bytes reaches 2^28, far above every bound on frames.
const LENGTH_BYTES_MAX: usize = 4;
const _: () = assert!(limits::FRAME_BYTES_MAX < 1 << (7 * LENGTH_BYTES_MAX));

/// Cuts a stream of bytes into frames. Holds at most one frame beyond what a single read brought.
#[derive(Debug)]
pub struct FrameDecoder {
    buffer: BytesMut,
    bytes_max: usize,
}

impl FrameDecoder {
    /// Makes a decoder that refuses frames above `bytes_max` bytes.
    pub fn new(bytes_max: usize) -> FrameDecoder {
        FrameDecoder { buffer: BytesMut::new(), bytes_max }
    }

    /// Changes the bound, for frames not yet taken.
    pub fn allow(&mut self, bytes_max: usize) {
        self.bytes_max = bytes_max;
    }

    /// Where the reader puts what it received.
    pub fn buffer(&mut self) -> &mut BytesMut {
        &mut self.buffer
    }

    /// Whether bytes of an unfinished frame wait.
    pub fn is_mid_frame(&self) -> bool {
        !self.buffer.is_empty()
    }

    /// Takes the next whole frame's bytes, without its length; `None` until more bytes come.
    ///
    /// # Errors
    /// After an error the stream has no boundary any more: close it.
    pub fn next_bytes(&mut self) -> Result<Option<Bytes>, CodecError> {
        let Some((length, prefix)) = read_length(&self.buffer)? else { return Ok(None) };
        if length == 0 {
            return Err(CodecError::Empty);
        }
        let length = match usize::try_from(length) {
            Ok(length) if length <= self.bytes_max => length,
            _ => return Err(CodecError::TooLong { bytes: length, bytes_max: self.bytes_max }),
        };
        if self.buffer.len() < prefix + length {
            return Ok(None);
        }
        self.buffer.advance(prefix);
        Ok(Some(self.buffer.split_to(length).freeze()))
    }

    /// Takes and parses the next whole frame; its byte fields share the read buffer.
    ///
    /// # Errors
    /// As [`FrameDecoder::next_bytes`], and [`CodecError::Unreadable`].
    pub fn next_frame(&mut self) -> Result<Option<pb::frame::Kind>, CodecError> {
        Ok(self.next_sized()?.map(|(frame, _)| frame))
    }

    /// As [`FrameDecoder::next_frame`], with the frame's bytes: what windows count.
    ///
    /// # Errors
    /// As [`FrameDecoder::next_frame`].
    pub fn next_sized(&mut self) -> Result<Option<(pb::frame::Kind, u64)>, CodecError> {
        let Some(bytes) = self.next_bytes()? else { return Ok(None) };
        let length = bytes.len() as u64;
        let frame = pb::Frame::decode(bytes).map_err(|_| CodecError::Unreadable)?;
        let kind = frame.kind.ok_or(CodecError::Unreadable)?;
        Ok(Some((kind, length)))
    }
}

/// Appends a frame behind its length, and returns how many bytes that took.
pub fn encode(kind: pb::frame::Kind, out: &mut BytesMut) -> usize {
    let before = out.len();
    let frame = pb::Frame { kind: Some(kind) };
    frame.encode_length_delimited(out).expect("BytesMut grows as needed");
    let bytes = out.len() - before;
    debug_assert!(bytes <= limits::FRAME_BYTES_MAX + LENGTH_BYTES_MAX, "we never build a longer frame");
    bytes
}

/// The length at the start of `bytes` and how many bytes it takes; `None` if it is cut off.
fn read_length(bytes: &[u8]) -> Result<Option<(u64, usize)>, CodecError> {
    let mut length = 0u64;
    for (at, byte) in bytes.iter().take(LENGTH_BYTES_MAX).enumerate() {
        length |= u64::from(byte & 0x7f) << (7 * at);
        if byte & 0x80 == 0 {
            return if *byte == 0 && at > 0 { Err(CodecError::Length) } else { Ok(Some((length, at + 1))) };
        }
    }
    if bytes.len() >= LENGTH_BYTES_MAX { Err(CodecError::Length) } else { Ok(None) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decoder_with(bytes: &[u8], bytes_max: usize) -> FrameDecoder {
        let mut decoder = FrameDecoder::new(bytes_max);
        decoder.buffer().extend_from_slice(bytes);
        decoder
    }

    fn ping(token: u64) -> pb::frame::Kind {
        pb::frame::Kind::Ping(pb::Ping { token })
    }

    #[test]
    fn every_truncation_of_a_frame_waits_for_more_and_then_yields_it_whole() {
        let mut wire = BytesMut::new();
        encode(
            pb::frame::Kind::Stored(pb::Stored {
                number: 7,
                count: 1,
                items: vec![9; 300].into(),
                signature: vec![1; 64].into(),
            }),
            &mut wire,
        );
        for cut in 0..wire.len() {
            let mut decoder = decoder_with(&wire[..cut], 1024);
            assert_eq!(decoder.next_frame(), Ok(None), "cut at {cut}");
            decoder.buffer().extend_from_slice(&wire[cut..]);
            let frame = decoder.next_frame().expect("whole frame");
            assert!(matches!(frame, Some(pb::frame::Kind::Stored(stored)) if stored.number == 7));
            assert!(!decoder.is_mid_frame());
        }
    }

    #[test]
    fn frames_that_arrive_together_come_out_one_by_one_in_order() {
        let mut wire = BytesMut::new();
        for token in 0..5 {
            encode(ping(token), &mut wire);
        }
        let mut decoder = decoder_with(&wire, 64);
        for token in 0..5 {
            assert_eq!(decoder.next_frame(), Ok(Some(ping(token))));
        }
        assert_eq!(decoder.next_frame(), Ok(None));
    }

    #[test]
    fn a_length_above_the_bound_is_refused_before_any_room_is_made() {
        let mut decoder = decoder_with(&[0xff, 0xff, 0xff, 0x7f], 4096);
        let before = decoder.buffer().capacity();
        assert_eq!(decoder.next_bytes(), Err(CodecError::TooLong { bytes: (1 << 28) - 1, bytes_max: 4096 }));
        assert_eq!(decoder.buffer().capacity(), before);
        assert!(matches!(
            decoder_with(&[0x81, 0x20], 4096).next_bytes(),
            Err(CodecError::TooLong { bytes: 4097, .. })
        ));
        assert_eq!(decoder_with(&[0x80, 0x20], 4096).next_bytes(), Ok(None), "the bound itself is allowed");
    }

    #[test]
    fn a_frame_that_was_only_announced_takes_no_room() {
        let mut decoder = decoder_with(&[0x80, 0x80, 0x10], limits::FRAME_BYTES_MAX);
        let before = decoder.buffer().capacity();
        assert_eq!(decoder.next_bytes(), Ok(None));
        assert_eq!(decoder.buffer().capacity(), before);
    }

    #[test]
    fn zero_length_and_over_long_varints_are_refused() {
        assert_eq!(decoder_with(&[0], 64).next_bytes(), Err(CodecError::Empty));
        assert_eq!(decoder_with(&[0x82, 0x00, 1, 1], 64).next_bytes(), Err(CodecError::Length));
        assert_eq!(decoder_with(&[0xff, 0xff, 0xff, 0xff, 0x01], 64).next_bytes(), Err(CodecError::Length));
    }

    #[test]
    fn noise_and_unknown_kinds_are_unreadable_and_unknown_fields_are_ignored() {
        assert_eq!(decoder_with(&[2, 0xff, 0xff], 64).next_frame(), Err(CodecError::Unreadable));
        assert_eq!(
            decoder_with(&[3, 0xa2, 0x01, 0x00], 64).next_frame(),
            Err(CodecError::Unreadable),
            "kind 20 is reserved"
        );
        let with_unknown_field = [6, 0x72, 4, 0x08, 5, 0x78, 1];
        assert_eq!(decoder_with(&with_unknown_field, 64).next_frame(), Ok(Some(ping(5))));
    }

    #[test]
    fn groups_and_deep_nesting_are_errors_not_stack_overflows() {
        let mut groups = vec![0x0b; 200];
        groups.insert(0, 200);
        groups.insert(1, 1);
        assert_eq!(decoder_with(&groups, 4096).next_frame(), Err(CodecError::Unreadable));
    }
}
