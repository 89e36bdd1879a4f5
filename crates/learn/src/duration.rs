//! Spans of time as people write them: `90`, `90s`, `2m`, `1h`.

use std::time::Duration;

/// Reads a number of seconds, or of the unit that follows it.
///
/// # Errors
/// What would be accepted.
pub fn parse(text: &str) -> std::result::Result<Duration, String> {
    let digits = text.trim_end_matches(|letter: char| letter.is_ascii_alphabetic());
    let factor = match &text[digits.len()..] {
        "" | "s" => 1,
        "m" => 60,
        "h" => 3600,
        _ => 0,
    };
    digits
        .parse::<u64>()
        .ok()
        .and_then(|number| number.checked_mul(factor))
        .filter(|seconds| *seconds > 0)
        .map(Duration::from_secs)
        .ok_or_else(|| {
            "a span of time is a number of seconds, or one with s, m or h: 90, 90s, 2m, 1h".to_owned()
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_have_units_and_are_longer_than_nothing() {
        assert_eq!(parse("90"), Ok(Duration::from_secs(90)));
        assert_eq!(parse("90s"), Ok(Duration::from_secs(90)));
        assert_eq!(parse("2m"), Ok(Duration::from_secs(120)));
        assert_eq!(parse("1h"), Ok(Duration::from_secs(3600)));
        for text in [
            "",
            "s",
            "0",
            "0m",
            "-1",
            "1d",
            "1.5s",
            "1 s",
            "99999999999999999999",
        ] {
            assert!(parse(text).is_err(), "{text:?}");
        }
    }
}
