//! Text that is safe in HTML, and numbers that are short.

use std::fmt::{self, Write};

use chrono::{DateTime, Utc};

/// Escapes for content and for attributes. What is no text is shown as such.
pub(super) struct Xml<'a>(pub(super) &'a str);

impl fmt::Display for Xml<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.chars().try_for_each(|c| match c {
            '&' => f.write_str("&amp;"),
            '<' => f.write_str("&lt;"),
            '>' => f.write_str("&gt;"),
            '"' => f.write_str("&quot;"),
            '\'' => f.write_str("&#39;"),
            c if c.is_control() => f.write_char('\u{fffd}'),
            c => f.write_char(c),
        })
    }
}

/// A number in at most four figures: 0.045, 45.2, 12.5 k, 3.1e-9.
pub(super) fn amount(value: f64) -> String {
    let size = value.abs();
    if size == 0.0 {
        return "0".to_owned();
    }
    if !(1e-4..1e15).contains(&size) {
        return format!("{value:.1e}");
    }
    let (scaled, unit) = match size {
        1e12.. => (value / 1e12, " T"),
        1e9.. => (value / 1e9, " G"),
        1e6.. => (value / 1e6, " M"),
        1e4.. => (value / 1e3, " k"),
        _ => (value, ""),
    };
    let places = (2 - scaled.abs().log10().floor() as i32).clamp(0, 6) as usize;
    let text = format!("{scaled:.places$}");
    let text = if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
    format!("{text}{unit}")
}

/// A time within `lasts` seconds that are looked at: with the day or the seconds where these matter.
pub(super) fn clock(time: DateTime<Utc>, lasts: i64) -> String {
    let format = match lasts {
        ..600 => "%H:%M:%S",
        600..=90_000 => "%H:%M",
        _ => "%b %-d %H:%M",
    };
    time.format(format).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_short() {
        for (value, text) in [
            (0.0, "0"),
            (45.2, "45.2"),
            (0.045, "0.045"),
            (-12.0, "-12"),
            (1234.0, "1234"),
            (12_500.0, "12.5 k"),
            (2_000_000.0, "2 M"),
            (3.14e-9, "3.1e-9"),
            (1e140, "1.0e140"),
        ] {
            assert_eq!(amount(value), text);
        }
    }
}
