//! What answers say of an upstream's limits: how much remains, and when that is reset.

use std::time::Duration;

use reqwest::header::HeaderMap;

use crate::limits::upstreams::RETRY_AFTER_LIMIT;

/// What remains, and when it is reset.
const LIMITS: [(&str, &str); 8] = [
    // OpenAI, and most who speak its format.
    (
        "x-ratelimit-remaining-requests",
        "x-ratelimit-reset-requests",
    ),
    ("x-ratelimit-remaining-tokens", "x-ratelimit-reset-tokens"),
    ("x-ratelimit-remaining", "x-ratelimit-reset"),
    (
        "anthropic-ratelimit-requests-remaining",
        "anthropic-ratelimit-requests-reset",
    ),
    (
        "anthropic-ratelimit-tokens-remaining",
        "anthropic-ratelimit-tokens-reset",
    ),
    (
        "anthropic-ratelimit-input-tokens-remaining",
        "anthropic-ratelimit-input-tokens-reset",
    ),
    (
        "anthropic-ratelimit-output-tokens-remaining",
        "anthropic-ratelimit-output-tokens-reset",
    ),
    // The draft of the IETF.
    ("ratelimit-remaining", "ratelimit-reset"),
];
/// A plain number above it is a time, in seconds; above the second one, in milliseconds.
const UNIX_SECONDS: f64 = 1e9;
const UNIX_MILLIS: f64 = 1e12;
/// Seconds of what a duration is written in. The longer words first: `ms` ends with `s`.
const UNITS: [(&str, f64); 7] = [
    ("ms", 1e-3),
    ("us", 1e-6),
    ("µs", 1e-6),
    ("ns", 1e-9),
    ("h", 3_600.0),
    ("m", 60.0),
    ("s", 1.0),
];

/// How long nothing is left of a limit; of several, until the last is reset. `now_ms` is Unix time.
pub(super) fn used_up_for(headers: &HeaderMap, now_ms: i64) -> Option<Duration> {
    let used_up = LIMITS.iter().filter(|(remaining, _)| {
        let left = text(headers, remaining).and_then(|text| text.parse::<f64>().ok());
        left.is_some_and(|left| left <= 0.0)
    });
    used_up
        .filter_map(|(_, reset)| wait(text(headers, reset)?, now_ms))
        .filter(|wait| !wait.is_zero())
        .max()
}

/// How long it is until the next limit is reset, whatever is left.
pub(super) fn reset(headers: &HeaderMap, now_ms: i64) -> Option<Duration> {
    let resets = LIMITS.iter();
    resets
        .filter_map(|(_, reset)| wait(text(headers, reset)?, now_ms))
        .filter(|wait| !wait.is_zero())
        .min()
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let text = headers.get(name)?.to_str().ok()?;
    Some(text.trim())
}

/// `1s`, `6m0s`, `20ms`, seconds, Unix time in seconds or milliseconds, or RFC 3339.
fn wait(text: &str, now_ms: i64) -> Option<Duration> {
    let seconds = match text.parse::<f64>() {
        Ok(number) => {
            #[expect(clippy::cast_precision_loss, reason = "Unix ms are below 2^53")]
            let now = now_ms as f64 / 1_000.0;
            match number {
                at if at >= UNIX_MILLIS => at / 1_000.0 - now,
                at if at >= UNIX_SECONDS => at - now,
                seconds => seconds,
            }
        }
        Err(_) => return duration(text).or_else(|| until(text, now_ms)).map(bounded),
    };
    // A reset in the past is none to wait for; what is no number is none at all.
    seconds.is_finite().then(|| bounded(seconds.max(0.0)))
}

fn bounded(seconds: f64) -> Duration {
    Duration::from_secs_f64(seconds.clamp(0.0, RETRY_AFTER_LIMIT.as_secs_f64()))
}

/// Seconds of a duration as Go writes it.
fn duration(text: &str) -> Option<f64> {
    let mut rest = text;
    let mut seconds = 0.0;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, unit) = rest.split_at(end);
        let (word, scale) = UNITS.iter().find(|(word, _)| unit.starts_with(word))?;
        seconds += number.parse::<f64>().ok()? * scale;
        rest = unit.strip_prefix(word)?;
    }
    (!text.is_empty()).then_some(seconds)
}

/// Seconds until a time of RFC 3339.
fn until(text: &str, now_ms: i64) -> Option<f64> {
    let at: jiff::Timestamp = text.parse().ok()?;
    let left = at.as_millisecond().saturating_sub(now_ms).max(0);
    let left = Duration::from_millis(u64::try_from(left).ok()?);
    Some(left.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use reqwest::header::{HeaderName, HeaderValue};

    use super::*;

    /// 2026-01-01T00:00:00Z.
    const NOW: i64 = 1_767_225_600_000;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let pairs = pairs.iter();
        pairs
            .map(|(name, value)| {
                let value = HeaderValue::from_str(value).unwrap();
                (HeaderName::from_static(name), value)
            })
            .collect()
    }

    #[test]
    fn resets_are_read_in_every_form() {
        let ms = |ms| Some(Duration::from_millis(ms));
        for (text, expected) in [
            ("1s", ms(1_000)),
            ("6m0s", ms(360_000)),
            ("20ms", ms(20)),
            ("1h2m3.5s", ms(3_723_500)),
            ("500us", Some(Duration::from_micros(500))),
            ("7", ms(7_000)),
            ("0.25", ms(250)),
            ("0", ms(0)),
            ("2026-01-01T00:01:30Z", ms(90_000)),
            ("2026-01-01T01:00:00+01:00", ms(0)),
            ("2025-12-31T23:00:00Z", ms(0)),
            ("1767225620", ms(20_000)),
            ("1767225620500", ms(20_500)),
            ("1500000000", ms(0)),
            ("999h", Some(RETRY_AFTER_LIMIT)),
            ("2099-01-01T00:00:00Z", Some(RETRY_AFTER_LIMIT)),
            ("1e300", Some(RETRY_AFTER_LIMIT)),
        ] {
            assert_eq!(wait(text, NOW), expected, "{text}");
        }
        for bad in [
            "",
            "soon",
            "s",
            "1x",
            "1m2",
            "NaN",
            "inf",
            "..s",
            "2026-13-01",
        ] {
            assert_eq!(wait(bad, NOW), None, "{bad}");
        }
    }

    #[test]
    fn only_what_is_used_up_makes_one_wait_and_the_last_reset_counts() {
        let used_up = |pairs: &[(&'static str, &str)]| used_up_for(&headers(pairs), NOW);
        let requests = ("x-ratelimit-remaining-requests", "0");
        let tokens = ("x-ratelimit-remaining-tokens", "0");
        let soon = ("x-ratelimit-reset-requests", "2s");
        let late = ("x-ratelimit-reset-tokens", "1m0s");
        let seconds = |seconds| Some(Duration::from_secs(seconds));
        assert_eq!(used_up(&[requests, soon, late]), seconds(2));
        assert_eq!(used_up(&[requests, tokens, soon, late]), seconds(60));
        let left = ("x-ratelimit-remaining-requests", "1");
        assert_eq!(used_up(&[left, soon]), None);
        assert_eq!(used_up(&[requests]), None, "nobody says until when");
        assert_eq!(
            used_up(&[
                ("anthropic-ratelimit-input-tokens-remaining", "0"),
                (
                    "anthropic-ratelimit-input-tokens-reset",
                    "2026-01-01T00:00:09Z"
                ),
            ]),
            seconds(9)
        );
        assert_eq!(
            used_up(&[("ratelimit-remaining", "0"), ("ratelimit-reset", "5")]),
            seconds(5)
        );
        assert_eq!(reset(&headers(&[left, soon, late]), NOW), seconds(2));
        assert_eq!(reset(&headers(&[left]), NOW), None);
    }
}
