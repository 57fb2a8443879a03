//! Text that has to be safe, short, or no wider than its place.

use std::borrow::Cow;
use std::fmt::{self, Write};
use std::time::Duration;

/// Escapes for XML and HTML, in content as well as in attributes.
pub(super) struct Xml<'a>(pub(super) &'a str);

impl fmt::Display for Xml<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.chars().try_for_each(|c| match c {
            '&' => f.write_str("&amp;"),
            '<' => f.write_str("&lt;"),
            '>' => f.write_str("&gt;"),
            '"' => f.write_str("&quot;"),
            '\'' => f.write_str("&#39;"),
            c => f.write_char(shown(c)),
        })
    }
}

/// Replaces what may not stand in XML (control characters, as in the output of a terminal program).
fn shown(c: char) -> char {
    match c {
        '\n' | '\t' => c,
        c if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') => '\u{fffd}',
        c => c,
    }
}

/// `text` on one line and without control characters.
pub(super) fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

/// At most `limit` characters of `text`.
pub(super) fn cut(text: &str, limit: usize) -> Cow<'_, str> {
    match text.char_indices().nth(limit) {
        None => Cow::Borrowed(text),
        Some((at, _)) => Cow::Owned(format!("{}…", &text[..at])),
    }
}

/// A duration as people say it, with two or three significant digits.
pub(super) fn duration(duration: Duration) -> String {
    micros(i64::try_from(duration.as_micros()).unwrap_or(i64::MAX))
}

/// As [`duration`], from microseconds.
pub(super) fn micros(micros: i64) -> String {
    let two = |big: i64, unit: &str, small: i64, below: &str| match small {
        0 => format!("{big}{unit}"),
        _ => format!("{big}{unit} {small}{below}"),
    };
    match micros {
        ..=0 => "0 s".to_owned(),
        1..1_000 => format!("{micros} µs"),
        1_000..999_500 => decimal(micros, 1_000, "ms"),
        999_500..59_950_000 => decimal(micros, 1_000_000, "s"),
        _ => {
            let seconds = micros.saturating_add(500_000) / 1_000_000;
            match seconds {
                ..3_600 => two(seconds / 60, "m", seconds % 60, "s"),
                3_600..86_400 => two(seconds / 3_600, "h", seconds % 3_600 / 60, "m"),
                _ => two(seconds / 86_400, "d", seconds % 86_400 / 3_600, "h"),
            }
        }
    }
}

/// Three significant digits, without zeros at the end.
fn decimal(value: i64, unit: i64, name: &str) -> String {
    let places = if value < unit * 10 { 2 } else { usize::from(value < unit * 100) };
    let text = format!("{:.places$}", value as f64 / unit as f64);
    let text = if places > 0 { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
    format!("{text} {name}")
}

/// The width of `text` in a common sans-serif face of `size` pixels, in pixels; rather too much than too little.
pub(super) fn width(text: &str, size: f64) -> f64 {
    text.chars().map(advance).sum::<f64>() * size
}

fn advance(c: char) -> f64 {
    match c {
        'i' | 'j' | 'l' | '\'' | '.' | ',' | ':' | ';' | '|' | '!' => 0.34,
        ' ' | 'f' | 't' | 'r' | 'I' | '(' | ')' | '-' | '/' => 0.43,
        'm' | 'w' | 'M' | 'W' | '@' | '%' => 1.0,
        'A'..='Z' | '…' => 0.75,
        '\0'..='\u{7f}' => 0.64,
        '\u{300}'..='\u{36f}' | '\u{200b}'..='\u{200f}' => 0.0,
        '\u{80}'..='\u{10ff}' => 0.75,
        // The marks.
        '\u{2190}'..='\u{27bf}' => 0.9,
        _ => 1.1,
    }
}

/// `text`, or both its ends with an ellipsis between them, no wider than `room` pixels.
pub(super) fn fit(text: &str, size: f64, room: f64) -> Cow<'_, str> {
    if width(text, size) <= room {
        return Cow::Borrowed(text);
    }
    let chars: Vec<char> = text.chars().collect();
    let (mut head, mut tail) = (0, 0);
    let mut left = room / size - advance('…');
    while head + tail < chars.len() {
        // Names in one pipeline tend to differ at the end, so that both ends are kept.
        let next = if head <= tail { chars[head] } else { chars[chars.len() - 1 - tail] };
        left -= advance(next);
        if left < 0.0 {
            break;
        }
        if head <= tail { head += 1 } else { tail += 1 }
    }
    let kept = chars[..head].iter().chain(['…'].iter()).chain(&chars[chars.len() - tail..]);
    Cow::Owned(kept.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_short() {
        let check = |of: i64, expected: &str| assert_eq!(micros(of), expected, "{of} µs");
        check(0, "0 s");
        check(999, "999 µs");
        check(1_500, "1.5 ms");
        check(100_000, "100 ms");
        check(999_499, "999 ms");
        check(999_500, "1 s");
        check(12_340_000, "12.3 s");
        check(59_960_000, "1m");
        check(61_000_000, "1m 1s");
        check(7_500_000_000, "2h 5m");
        check(273_600_000_000, "3d 4h");
        assert!(!micros(i64::MAX).is_empty());
    }

    #[test]
    fn what_is_fitted_is_never_too_wide() {
        for text in
            ["", "a", "deploy.agents.copy-the-files-over", "ウィジェットを作る", "e\u{301}e\u{301}e\u{301}"]
        {
            for room in [12.0, 40.0, 90.0, 500.0] {
                assert!(
                    width(&fit(text, 12.0, room), 12.0) <= room.max(width("…", 12.0)),
                    "{text} in {room}"
                );
            }
        }
        assert_eq!(fit("abcdefghij", 10.0, 45.0), "abc…hij");
    }

    #[test]
    fn what_xml_forbids_is_replaced() {
        assert_eq!(
            Xml("<a href='x'>&\u{1b}[31m\"\n").to_string(),
            "&lt;a href=&#39;x&#39;&gt;&amp;\u{fffd}[31m&quot;\n"
        );
    }
}
