//! The wall clock and new ids: the only place that asks for either. Knows nobody.
//!
//! Rows and pages show this clock; no timer, deadline or window is measured with it.

use std::time::{SystemTime, UNIX_EPOCH};

/// Unix time in milliseconds.
pub(crate) fn now_ms() -> i64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// `now_ms` as RFC 3339 text in UTC, for the bodies that show time so.
pub(crate) fn rfc3339(at_ms: i64) -> String {
    jiff::Timestamp::from_millisecond(at_ms).map_or_else(|_| String::new(), |at| format!("{at:.3}"))
}

/// `at_ms` (Unix time) in UTC as `YYYYMMDDTHHMMSSZ`, the form of signatures.
pub(crate) fn compact_utc(at_ms: i64) -> String {
    let seconds = rfc3339(at_ms).chars().take(19).collect::<String>();
    format!("{}Z", seconds.replace(['-', ':'], ""))
}

/// Reads what [`compact_utc`] wrote, as Unix ms; none when it is anything else.
pub(crate) fn from_compact_utc(text: &str) -> Option<i64> {
    let at = jiff::fmt::strtime::parse("%Y%m%dT%H%M%SZ", text).ok()?;
    let at = at
        .to_datetime()
        .ok()?
        .to_zoned(jiff::tz::TimeZone::UTC)
        .ok()?;
    let at_ms = at.timestamp().as_millisecond();
    (compact_utc(at_ms) == text).then_some(at_ms)
}

const DAY_MS: i64 = 86_400_000;

/// When the day of `at_ms` began (UTC), and when the next one does. All of it Unix ms.
pub(crate) fn utc_day(at_ms: i64) -> (i64, i64) {
    let began = at_ms.saturating_sub(at_ms.rem_euclid(DAY_MS));
    (began, began.saturating_add(DAY_MS))
}

/// When the month of `at_ms` began (UTC), and when the next one does. All of it Unix ms.
pub(crate) fn utc_month(at_ms: i64) -> (i64, i64) {
    let month = |at_ms| {
        let utc = jiff::tz::TimeZone::UTC;
        let at = jiff::Timestamp::from_millisecond(at_ms).ok()?;
        let date = at.to_zoned(utc.clone()).date();
        let began = |date: jiff::civil::Date| {
            let began = date.to_zoned(utc.clone()).ok()?;
            Some(began.timestamp().as_millisecond())
        };
        let next = date.last_of_month().tomorrow().ok()?;
        Some((began(date.first_of_month())?, began(next)?))
    };
    // Only the end of the calendar has no month.
    month(at_ms).unwrap_or_else(|| utc_day(at_ms))
}

/// A new `UUIDv7`: unique, and sorted by the time it was made.
pub(crate) fn new_id() -> String {
    uuid::Uuid::now_v7().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_shown_with_milliseconds() {
        assert_eq!(rfc3339(1_700_000_000_123), "2023-11-14T22:13:20.123Z");
        assert_eq!(compact_utc(1_700_000_000_123), "20231114T221320Z");
        assert_eq!(
            from_compact_utc("20231114T221320Z"),
            Some(1_700_000_000_000)
        );
        assert_eq!(
            utc_day(1_700_000_000_123),
            (1_699_920_000_000, 1_700_006_400_000)
        );
        let (began, ends) = utc_month(1_709_251_199_999);
        assert_eq!(rfc3339(began), "2024-02-01T00:00:00.000Z");
        assert_eq!(rfc3339(ends), "2024-03-01T00:00:00.000Z");
        assert_eq!(utc_month(ends).0, ends);
        assert_eq!(utc_month(i64::MAX).0, utc_day(i64::MAX).0);
        for odd in [
            "",
            "20231114T221320",
            "20231314T221320Z",
            "v1",
            "2023111T2213200Z",
        ] {
            assert_eq!(from_compact_utc(odd), None, "{odd}");
        }
    }
}
