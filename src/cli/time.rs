//! Times as people write and read them: date-time groups and spans.

use std::time::Duration;

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::Offset;

use crate::cli::safe_text;
use crate::config::Span;
use crate::desk::view::Awaited;

/// An RFC 3339 time as a date-time group, `241015ZNOV26`; text that is no time, made safe.
pub fn dtg(time: &str) -> String {
    match time.parse::<Timestamp>() {
        Ok(time) => time.strftime("%d%H%MZ%b%y").to_string().to_uppercase(),
        Err(_) => safe_text::line(time),
    }
}

/// When the first of what is awaited is due, marked where it is overdue: `OVERDUE 241015ZNOV26`, or `-` for nothing.
pub fn due<'a>(awaited: impl IntoIterator<Item = &'a Awaited>) -> String {
    let first = awaited.into_iter().min_by_key(|awaited| awaited.due_at.parse::<Timestamp>().ok());
    match first {
        Some(awaited) if awaited.overdue => format!("OVERDUE {}", dtg(&awaited.due_at)),
        Some(awaited) => dtg(&awaited.due_at),
        None => "-".to_owned(),
    }
}

/// Microseconds since 1970 to the second, `2026-11-24T10:15:00Z`.
pub fn seconds(time_us: u64) -> String {
    let time = i64::try_from(time_us).ok().and_then(|us| Timestamp::from_microsecond(us).ok());
    time.map_or_else(|| "out of range".to_owned(), |time| time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string())
}

/// Reads a date-time group as RFC 3339 in UTC. The error says how to write one.
pub fn from_dtg(text: &str) -> Result<String, String> {
    let malformed = || {
        format!("`{text}` is no date-time group: write day, hours, minutes, Z, month, year as 241200ZNOV26")
    };
    // strptime would also take `4` for a day and spaces; a date-time group has exactly this shape.
    let (digits, rest) = text.split_at_checked(6).ok_or_else(malformed)?;
    if text.len() != 12 || !digits.bytes().all(|byte| byte.is_ascii_digit()) || !rest.is_ascii() {
        return Err(malformed());
    }
    let time = DateTime::strptime("%d%H%MZ%b%y", text.to_ascii_uppercase()).map_err(|_| malformed())?;
    let time = Offset::UTC.to_timestamp(time).map_err(|_| malformed())?;
    Ok(time.to_string())
}

/// Reads a [`Span`]. The error says how to write one.
pub fn span(text: &str) -> Result<Duration, String> {
    text.parse::<Span>().map(|span| span.0).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_shown_as_a_date_time_group() {
        assert_eq!(dtg("2026-11-24T10:15:59.5Z"), "241015ZNOV26");
        assert_eq!(dtg("2026-11-24T10:15:00+07:00"), "240315ZNOV26");
        assert_eq!(dtg("soon\x1b"), "soon␛");
    }

    #[test]
    fn a_date_time_group_is_read_in_utc() {
        assert_eq!(from_dtg("241200ZNOV26").unwrap(), "2026-11-24T12:00:00Z");
        assert_eq!(from_dtg("010000zJan27").unwrap(), "2027-01-01T00:00:00Z");
    }

    #[test]
    fn what_is_no_date_time_group_is_refused() {
        for text in [
            "",
            "24ZNOV26",
            "311200ZNOV26",
            "242400ZNOV26",
            "241200JNOV26",
            " 41200ZNOV26",
            "241200ZNOV2026",
            "äääääää",
        ] {
            assert!(from_dtg(text).is_err(), "{text:?}");
        }
    }
}
