//! What users write on the command line or hand over in files.

use std::io::Read;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::cli::failure::Failure;

/// A page of a list.
#[derive(clap::Args, Clone, Copy, Debug)]
pub(crate) struct Page {
    /// How many to show, 1 to 1000.
    #[arg(short, long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(crate) limit: u32,
    /// How many of the newest to leave out.
    #[arg(long, default_value_t = 0)]
    pub(crate) offset: u32,
}

/// `key=value`; the value is JSON where it is JSON, else text.
pub(crate) fn pair(text: &str) -> Result<(String, Value), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), json_or_text(value))),
        _ => Err("wanted KEY=VALUE".into()),
    }
}

pub(crate) fn json_or_text(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|_| Value::from(text))
}

/// More than a recording has, which is the longest of what is read.
const LONGEST: u64 = 256 << 20;

/// The text of a file, or of standard input when it is `-`.
pub(crate) fn file(path: &Path) -> Result<String, Failure> {
    if path == Path::new("-") {
        return standard();
    }
    let read = std::fs::File::open(path).and_then(bounded);
    read.map_err(|error| Failure::Usage(format!("`{}` cannot be read: {error}", path.display())))
}

/// Not a byte more than what may be read is.
fn bounded(from: impl Read) -> std::io::Result<String> {
    let mut text = String::new();
    let length = from.take(LONGEST + 1).read_to_string(&mut text)?;
    if length as u64 > LONGEST {
        return Err(std::io::Error::other("it is longer than 256 MiB"));
    }
    Ok(text)
}

/// The text itself, or standard input when it is `-`: what stands on a command line is seen by every user.
pub(crate) fn text(given: &str) -> Result<String, Failure> {
    if given == "-" {
        return Ok(standard()?.trim().to_owned());
    }
    Ok(given.to_owned())
}

/// The path as another process finds it.
pub(crate) fn absolute(path: &Path) -> Result<PathBuf, Failure> {
    std::path::absolute(path)
        .map_err(|error| Failure::Usage(format!("`{}` is no path: {error}", path.display())))
}

/// A time as Unix ms: as such, as a day (UTC), or as RFC 3339 says it.
pub(crate) fn moment(text: &str) -> Result<i64, String> {
    if let Ok(at) = text.parse() {
        return Ok(at);
    }
    if let Ok(at) = text.parse::<jiff::Timestamp>() {
        return Ok(at.as_millisecond());
    }
    let day = text.parse::<jiff::civil::Date>();
    let day = day.and_then(|day| day.to_zoned(jiff::tz::TimeZone::UTC));
    day.map(|day| day.timestamp().as_millisecond())
        .map_err(|_| "wanted 2026-11-23, 2026-11-23T14:00:00Z or Unix ms".into())
}

fn standard() -> Result<String, Failure> {
    Ok(bounded(std::io::stdin().lock())?)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_moment_is_a_day_a_time_or_a_number() {
        for (text, at) in [
            ("1700000000123", Some(1_700_000_000_123)),
            ("2023-11-14", Some(1_699_920_000_000)),
            ("2023-11-14T22:13:20Z", Some(1_700_000_000_000)),
            ("2023-11-14T23:13:20+01:00", Some(1_700_000_000_000)),
            ("yesterday", None),
            ("", None),
        ] {
            assert_eq!(moment(text).ok(), at, "{text}");
        }
    }

    #[test]
    fn a_value_is_json_where_it_is_json() {
        for (text, value) in [
            ("k=v", json!("v")),
            ("k=http://x/?a=b", json!("http://x/?a=b")),
            ("k=9000", json!(9000)),
            ("k=true", json!(true)),
            ("k={\"a\":1}", json!({"a": 1})),
            ("k=\"9000\"", json!("9000")),
            ("k=", json!("")),
        ] {
            assert_eq!(pair(text), Ok(("k".to_owned(), value)), "{text}");
        }
        assert!(pair("k").is_err() && pair("=v").is_err());
    }
}
