//! The stream decoder: any bytes, cut anywhere.

use bytes::{BufMut, BytesMut};
use pouch::{
    limits::{FRAME_BEFORE_WELCOME_BYTES_MAX, FRAME_BYTES_MAX},
    wire::{
        codec::{self, CodecError, FrameDecoder},
        pb::frame::Kind,
    },
};

use super::Input;

/// Input: `u8 bound || u8 seed of the cuts || stream`. How a stream is cut changes nothing, no frame is
/// above its bound, and what was read is written and read again.
pub fn run(bytes: &[u8]) {
    let mut input = Input(bytes);
    let bytes_max = if input.byte() & 1 == 0 { FRAME_BEFORE_WELCOME_BYTES_MAX } else { FRAME_BYTES_MAX };
    let seed = usize::from(input.byte());
    let stream = input.0;
    let (frames, end) = decode([stream].into_iter(), bytes_max);
    let cut = decode(stream.chunks(1 + seed % 61), bytes_max);
    assert_eq!((&frames, &end), (&cut.0, &cut.1), "cuts change nothing");
    for (frame, bytes) in frames {
        assert!(bytes <= bytes_max as u64);
        let mut wire = BytesMut::new();
        codec::encode(frame.clone(), &mut wire);
        let (again, end) = decode([&wire[..]].into_iter(), FRAME_BYTES_MAX);
        assert_eq!((again.len(), end), (1, None));
        assert_eq!(again[0].0, frame);
    }
}

/// Every whole frame, and the error that ended them.
fn decode<'a>(
    reads: impl Iterator<Item = &'a [u8]>,
    bytes_max: usize,
) -> (Vec<(Kind, u64)>, Option<CodecError>) {
    let mut decoder = FrameDecoder::new(bytes_max);
    let mut frames = Vec::new();
    for read in reads {
        decoder.buffer().put_slice(read);
        loop {
            match decoder.next_sized() {
                Ok(None) => break,
                Ok(Some(frame)) => frames.push(frame),
                Err(error) => return (frames, Some(error)),
            }
        }
    }
    (frames, None)
}
