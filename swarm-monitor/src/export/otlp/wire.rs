//! As much of protobuf as OTLP needs: <https://protobuf.dev/programming-guides/encoding/>.

/// A message while it is written. What is left out stands for its default: zero, or nothing.
#[derive(Debug, Default)]
pub(crate) struct Message(Vec<u8>);

const VARINT: u64 = 0;
const EIGHT_BYTES: u64 = 1;
const LENGTH: u64 = 2;
const FOUR_BYTES: u64 = 5;

impl Message {
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn into_bytes(self) -> Vec<u8> {
        self.0
    }

    /// Adds the fields of another.
    pub(crate) fn append(&mut self, other: &Message) {
        self.0.extend(&other.0);
    }

    pub(crate) fn varint(&mut self, field: u64, value: u64) {
        self.head(field, VARINT);
        varint(value, &mut self.0);
    }

    /// A number whose sign takes one bit: `sint32`.
    pub(crate) fn signed(&mut self, field: u64, value: i32) {
        let value = i64::from(value);
        self.varint(field, (value << 1 ^ value >> 63) as u64);
    }

    pub(crate) fn fixed(&mut self, field: u64, value: u64) {
        self.head(field, EIGHT_BYTES);
        self.0.extend(value.to_le_bytes());
    }

    pub(crate) fn double(&mut self, field: u64, value: f64) {
        self.fixed(field, value.to_bits());
    }

    pub(crate) fn bytes(&mut self, field: u64, bytes: &[u8]) {
        self.head(field, LENGTH);
        varint(bytes.len() as u64, &mut self.0);
        self.0.extend(bytes);
    }

    /// A text, if it is not empty.
    pub(crate) fn text(&mut self, field: u64, text: &str) {
        if !text.is_empty() {
            self.bytes(field, text.as_bytes());
        }
    }

    pub(crate) fn message(&mut self, field: u64, message: &Message) {
        self.bytes(field, &message.0);
    }

    pub(crate) fn varints(&mut self, field: u64, values: &[u64]) {
        let mut packed = Vec::new();
        values.iter().for_each(|&value| varint(value, &mut packed));
        self.bytes(field, &packed);
    }

    pub(crate) fn all_fixed(&mut self, field: u64, values: impl IntoIterator<Item = u64>) {
        let packed: Vec<u8> = values.into_iter().flat_map(u64::to_le_bytes).collect();
        self.bytes(field, &packed);
    }

    fn head(&mut self, field: u64, kind: u64) {
        varint(field << 3 | kind, &mut self.0);
    }
}

fn varint(mut value: u64, out: &mut Vec<u8>) {
    while value > 0x7f {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// A field of a message that is read.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Field<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

/// The fields of a message with their numbers, up to where it is none.
pub(crate) fn fields(mut bytes: &[u8]) -> impl Iterator<Item = (u64, Field<'_>)> {
    std::iter::from_fn(move || {
        let head = read_varint(&mut bytes)?;
        let field = match head & 7 {
            VARINT => Field::Number(read_varint(&mut bytes)?),
            EIGHT_BYTES => Field::Number(u64::from_le_bytes(take(&mut bytes, 8)?.try_into().ok()?)),
            FOUR_BYTES => Field::Number(u32::from_le_bytes(take(&mut bytes, 4)?.try_into().ok()?).into()),
            LENGTH => {
                let len = read_varint(&mut bytes)?;
                Field::Bytes(take(&mut bytes, len)?)
            }
            _ => return None,
        };
        Some((head >> 3, field))
    })
}

fn take<'a>(bytes: &mut &'a [u8], len: u64) -> Option<&'a [u8]> {
    bytes.split_off(..usize::try_from(len).ok()?)
}

fn read_varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let byte = *bytes.split_off_first()?;
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn messages_are_those_of_the_encoding_guide() {
        let mut message = Message::default();
        message.varint(1, 150);
        message.text(2, "testing");
        message.text(3, "");
        message.varints(6, &[3, 270, 86_942]);
        message.signed(7, -2);
        assert_eq!(
            message.into_bytes(),
            b"\x08\x96\x01\x12\x07testing\x32\x06\x03\x8e\x02\x9e\xa7\x05\x38\x03"
        );
    }

    proptest! {
        #[test]
        fn what_was_written_is_read(number in any::<u64>(), fixed in any::<u64>(), text in ".{1,200}") {
            let mut message = Message::default();
            message.varint(1, number);
            message.fixed(2, fixed);
            message.text(300, &text);
            let bytes = message.into_bytes();
            let read: Vec<_> = fields(&bytes).collect();
            let expected =
                [(1, Field::Number(number)), (2, Field::Number(fixed)), (300, Field::Bytes(text.as_bytes()))];
            prop_assert_eq!(read, expected);
            for end in 0..bytes.len() {
                prop_assert!(fields(&bytes[..end]).count() < 3);
            }
        }

        #[test]
        fn reading_ends_whatever_is_read(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(fields(&bytes).count() <= bytes.len());
        }
    }
}
