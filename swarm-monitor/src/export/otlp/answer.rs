use crate::export::otlp::wire::{Field, fields};

/// What a receiver says of a request that it took: an `ExportMetricsServiceResponse`.
#[derive(Debug, PartialEq, Eq, Default)]
pub(crate) struct Partial {
    /// Data points that it did not take.
    pub(crate) rejected: u64,
    pub(crate) message: String,
}

impl Partial {
    /// Nothing where it is damaged, as the request was taken all the same.
    pub(crate) fn of(answer: &[u8]) -> Self {
        let mut partial = Partial::default();
        let success = fields(answer).filter_map(|field| match field {
            (1, Field::Bytes(success)) => Some(success),
            _ => None,
        });
        for field in success.flat_map(fields) {
            match field {
                // Of a number below zero nothing is to be believed.
                (1, Field::Number(rejected)) if i64::try_from(rejected).is_ok() => {
                    partial.rejected = rejected
                }
                (2, Field::Bytes(message)) => partial.message = cut(message),
                _ => {}
            }
        }
        partial
    }
}

/// Why a receiver refused a request: the message of a `google.rpc.Status`.
pub(crate) fn reason(answer: &[u8]) -> Option<String> {
    fields(answer).find_map(|field| match field {
        (2, Field::Bytes(message)) => Some(cut(message)),
        _ => None,
    })
}

fn cut(message: &[u8]) -> String {
    let text = String::from_utf8_lossy(message);
    text[..text.floor_char_boundary(crate::table::LONGEST)].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_read_as_far_as_they_go() {
        for (answer, rejected, message) in [
            (&b""[..], 0, ""),
            (b"\x0a\x00", 0, ""),
            (b"\x0a\x07\x08\x03\x12\x03bad", 3, "bad"),
            (b"\x12\x02xx\x0a\x05\x12\x03bad", 0, "bad"),
            (b"\x0a\x0b\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", 0, ""),
            (b"\x0a\x07\x08\x03\x12\xffbad", 3, ""),
            (b"<html>", 0, ""),
        ] {
            let expected = Partial { rejected, message: message.to_owned() };
            assert_eq!(Partial::of(answer), expected, "{answer:?}");
        }
        assert_eq!(reason(b"\x08\x03\x12\x03bad"), Some("bad".to_owned()));
        assert_eq!(reason(b""), None);
    }
}
