//! Spans of time as people write them: `90s`, `6h`.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// A span of time; written as a whole number and `s`, `m`, `h` or `d`, at most ten years.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Span(pub Duration);

/// Seconds of the longest span that can be written: ten years.
const SPAN_S_MAX: u64 = 3660 * 24 * 3600;

/// Each unit and its seconds, longest first.
const UNITS: [(char, u64); 4] = [('d', 24 * 3600), ('h', 3600), ('m', 60), ('s', 1)];

impl Span {
    /// So many minutes.
    pub const fn minutes(minutes: u64) -> Span {
        Span(Duration::from_secs(60 * minutes))
    }
}

/// Text that is no span.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no span of time: write a whole number and s, m, h or d, as 90s or 6h")]
pub struct NoSpan(String);

impl FromStr for Span {
    type Err = NoSpan;

    fn from_str(text: &str) -> Result<Span, NoSpan> {
        let unit = text.chars().next_back().and_then(|last| UNITS.iter().find(|(unit, _)| *unit == last));
        let (_, seconds) = unit.ok_or_else(|| NoSpan(text.to_owned()))?;
        let digits = &text[..text.len() - 1];
        let all_digits = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
        let number = if all_digits { digits.parse::<u64>().ok() } else { None };
        let whole =
            number.and_then(|number| number.checked_mul(*seconds)).filter(|whole| *whole <= SPAN_S_MAX);
        whole.map(|whole| Span(Duration::from_secs(whole))).ok_or_else(|| NoSpan(text.to_owned()))
    }
}

impl TryFrom<String> for Span {
    type Error = NoSpan;

    fn try_from(text: String) -> Result<Span, NoSpan> {
        text.parse()
    }
}

impl From<Span> for String {
    fn from(span: Span) -> String {
        span.to_string()
    }
}

impl fmt::Display for Span {
    /// In the largest unit that leaves a whole number.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let whole = self.0.as_secs();
        let fits =
            |(_, seconds): &&(char, u64)| whole.is_multiple_of(*seconds) && (whole > 0 || *seconds == 1);
        let (unit, seconds) = UNITS.iter().find(fits).expect("every number of seconds is whole in seconds");
        write!(f, "{}{unit}", whole / seconds)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_have_a_whole_number_and_a_unit_and_are_written_in_the_largest_that_fits() {
        for (text, seconds) in [("90s", 90), ("6h", 6 * 3600), ("2d", 2 * 86400), ("0s", 0), ("10m", 600)] {
            let span: Span = text.parse().unwrap();
            assert_eq!((span, span.to_string().as_str()), (Span(Duration::from_secs(seconds)), text));
        }
        assert_eq!(Span::minutes(180).to_string(), "3h");
        for text in
            ["", "s", "6", "-6h", "+6h", "6 h", "1.5h", "6ħ", "99999999999999999999d", "999999999999d"]
        {
            assert!(text.parse::<Span>().is_err(), "{text:?}");
        }
    }
}
