use std::time::Duration;

/// Reads `"1h30m"`, `"200ms"` or `"0.5s"`: numbers, each with a unit, the larger unit first.
pub(super) fn parse(text: &str) -> Option<Duration> {
    const UNITS: [(&str, f64); 6] =
        [("d", 86_400.0), ("h", 3_600.0), ("m", 60.0), ("s", 1.0), ("ms", 1e-3), ("us", 1e-6)];
    let mut rest = text.trim();
    let mut total = Duration::ZERO;
    let mut units = &UNITS[..];
    if rest.is_empty() || rest.len() > 64 {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let number: f64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let length = rest.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(rest.len());
        let at = units.iter().position(|(unit, _)| *unit == &rest[..length])?;
        total = total.checked_add(Duration::try_from_secs_f64(number * units[at].1).ok()?)?;
        units = &units[at + 1..];
        rest = rest[length..].trim_start();
    }
    Some(total)
}

/// What a duration looks like, for messages.
pub(super) const EXAMPLE: &str = "a duration such as \"200ms\", \"5s\" or \"1h30m\"";

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn durations_are_numbers_with_units_the_larger_first() {
        let good = [
            ("200ms", 200),
            ("5s", 5_000),
            ("1h30m", 5_400_000),
            ("0.5s", 500),
            ("0s", 0),
            ("2d 1ms", 172_800_001),
        ];
        for (text, millis) in good {
            assert_eq!(parse(text).map(|d| d.as_millis()), Some(millis), "{text}");
        }
        for text in [
            "",
            "5",
            "s",
            "5 s",
            "-5s",
            "5x",
            "1m1h",
            "1s1s",
            "1e3s",
            "1.2.3s",
            "99999999999999999999999d",
            "nan s",
            "5sé",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
