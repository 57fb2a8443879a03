//! Numbers: what does not fit is an error, in every format.

use std::ops::Range;

use crate::doc::{DocBuilder, Payload};
use crate::error::{ErrorKind, Result};

impl DocBuilder<'_> {
    /// A whole number from its sign and digits.
    pub(crate) fn integer(
        &self,
        negative: bool,
        digits: &str,
        radix: u32,
        span: Range<usize>,
    ) -> Result<Payload> {
        // Neither other scripts' digits nor a second sign, which the standard library would take.
        if !digits.bytes().all(|digit| (digit as char).is_digit(radix)) {
            return Err(self.error(ErrorKind::Syntax, "not a number", span));
        }
        // Most numbers are short: no overflow is possible, so no check is needed.
        if radix == 10 && digits.len() <= 18 {
            let value = digits.bytes().fold(0i64, |value, digit| value * 10 + i64::from(digit - b'0'));
            return Ok(Payload::Int(if negative { -value } else { value }));
        }
        let fits = u64::from_str_radix(digits, radix).ok().and_then(|value| {
            if negative {
                0i64.checked_sub_unsigned(value).map(Payload::Int)
            } else {
                Some(i64::try_from(value).map_or(Payload::Uint(value), Payload::Int))
            }
        });
        fits.ok_or_else(|| self.error(ErrorKind::Number, "an integer that does not fit 64 bits", span))
    }

    /// A number with a fraction or an exponent, as Rust writes it.
    pub(crate) fn float(&self, text: &str, span: Range<usize>) -> Result<Payload> {
        let value =
            text.parse::<f64>().map_err(|_| self.error(ErrorKind::Syntax, "not a number", span.clone()))?;
        let digits = text.split(['e', 'E']).next().unwrap_or_default();
        let vanished = value == 0.0 && digits.bytes().any(|digit| matches!(digit, b'1'..=b'9'));
        if value.is_finite() && !vanished {
            return Ok(Payload::Float(value));
        }
        Err(self.error(ErrorKind::Number, "a number that does not fit 64 bits", span))
    }
}
