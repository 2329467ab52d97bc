//! Protobuf read in place and written in one piece, field by field: for the messages that every envelope holds, without a
//! copy and a count of references for each of their parts.

use prost::encoding::encode_varint;

/// Goes through the fields of one message, in the order in which they were written. After an error it ends.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fields<'a> {
    rest: &'a [u8],
}

/// What a field holds, by its wire type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Value<'a> {
    /// A varint.
    Number(u64),
    /// Behind its length: bytes, text or a message.
    Bytes(&'a [u8]),
    /// Four or eight bytes, which no message of ours has.
    Fixed,
}

/// The bytes are no message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NotProtobuf;

impl<'a> Fields<'a> {
    pub(super) fn of(message: &'a [u8]) -> Fields<'a> {
        Fields { rest: message }
    }

    fn take(&mut self) -> Option<(u64, Value<'a>)> {
        let key = self.varint().filter(|key| *key <= u64::from(u32::MAX))?;
        let value = match key & 7 {
            0 => Value::Number(self.varint()?),
            1 => self.bytes(8).map(|_| Value::Fixed)?,
            2 => {
                let length = self.varint()?;
                Value::Bytes(self.bytes(usize::try_from(length).ok()?)?)
            }
            5 => self.bytes(4).map(|_| Value::Fixed)?,
            // Groups, which protobuf 3 does not have, and what it never had.
            _ => return None,
        };
        Some((key >> 3, value)).filter(|(number, _)| *number > 0)
    }

    fn varint(&mut self) -> Option<u64> {
        let mut number = 0;
        for (at, byte) in self.rest.iter().take(VARINT_BYTES_MAX).enumerate() {
            number |= u64::from(byte & 0x7f) << (7 * at);
            if byte & 0x80 == 0 {
                self.rest = &self.rest[at + 1..];
                // The tenth byte holds the 64th bit and no more.
                return (at + 1 < VARINT_BYTES_MAX || *byte <= 1).then_some(number);
            }
        }
        None
    }

    fn bytes(&mut self, length: usize) -> Option<&'a [u8]> {
        self.rest.split_off(..length)
    }
}

const VARINT_BYTES_MAX: usize = 10;

/// Appends a field that holds a number; zero is left out, as protobuf has it.
pub(super) fn put_number(field: u32, number: impl Into<u64>, out: &mut Vec<u8>) {
    let number = number.into();
    if number != 0 {
        encode_varint((field << 3).into(), out);
        encode_varint(number, out);
    }
}

/// Appends a field that holds bytes, text or a message; where it is empty it is left out.
pub(super) fn put_bytes(field: u32, bytes: &[u8], out: &mut Vec<u8>) {
    if !bytes.is_empty() {
        encode_varint((field << 3 | 2).into(), out);
        encode_varint(bytes.len() as u64, out);
        out.extend_from_slice(bytes);
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<(u64, Value<'a>), NotProtobuf>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let field = self.take();
        if field.is_none() {
            self.rest = &[];
        }
        Some(field.ok_or(NotProtobuf))
    }
}
