//! Values of the API as people read them. What is absent is `-`.

use serde_json::Value;

use crate::clock::{now_ms, rfc3339};

pub(crate) const NOTHING: &str = "-";
/// The start of the texts of a table: more is not read there.
const LONGEST: usize = 400;

/// How a value is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Show {
    Text,
    /// A word that says how something is; it has a colour.
    State,
    /// `yes` or `no`.
    Flag,
    /// `*` or nothing.
    Mark,
    /// Unix time in milliseconds.
    Time,
    /// Unix time in seconds.
    Seconds,
    /// Unix time in milliseconds, as how long ago that is.
    Ago,
    /// Milliseconds something took.
    Took,
    /// Seconds something has lasted.
    Lasted,
    /// Millionths of a dollar.
    Cost,
}

/// The colour of a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tone {
    Plain,
    Heading,
    Good,
    Doubtful,
    Bad,
}

impl Show {
    pub(crate) fn tone(self, text: &str) -> Tone {
        if self != Self::State {
            return Tone::Plain;
        }
        match text {
            "ok" | "healthy" | "valid" | "running" | "ready" | "completed" | "active" => Tone::Good,
            "problem" | "unhealthy" | "failed" | "error" | "expired" | "rejected" | "melted"
            | "challenged" => Tone::Bad,
            "warning" | "degraded" | "expiring" | "partial" | "interrupted" | "restarting" => {
                Tone::Doubtful
            }
            _ => Tone::Plain,
        }
    }
}

impl Tone {
    pub(crate) fn paint(self, text: &str, colour: bool) -> String {
        let code = match self {
            Self::Heading => "1",
            Self::Good => "32",
            Self::Doubtful => "33",
            Self::Bad => "31",
            Self::Plain => return text.to_owned(),
        };
        if colour && !text.is_empty() {
            format!("\u{1b}[{code}m{text}\u{1b}[0m")
        } else {
            text.to_owned()
        }
    }
}

pub(crate) fn show(value: Option<&Value>, how: Show) -> String {
    let Some(value) = value.filter(|value| !value.is_null()) else {
        return if how == Show::Mark { "" } else { NOTHING }.into();
    };
    let number = value.as_i64();
    let shown = match how {
        Show::Text | Show::State => Some(plain(value)),
        Show::Flag => value
            .as_bool()
            .map(|yes| if yes { "yes" } else { "no" }.into()),
        Show::Mark => value.as_bool().map(|yes| if yes { "*" } else { "" }.into()),
        Show::Time => number.map(time),
        Show::Seconds => number.map(|at| time(at.saturating_mul(1_000))),
        Show::Ago => number.map(|at| ago(now_ms().saturating_sub(at))),
        Show::Took => number.map(took),
        Show::Cost => number.map(cost),
        Show::Lasted => number.map(|seconds| span(seconds.saturating_mul(1_000))),
    };
    // A value of another type than the contract's is shown as it is.
    shown.unwrap_or_else(|| plain(value))
}

/// The value at `pointer` as text.
pub(crate) fn at(value: &Value, pointer: &str) -> String {
    show(value.pointer(pointer), Show::Text)
}

/// One line, without the control characters that would move a terminal's cursor: texts come from anywhere.
pub(crate) fn one_line(text: &str) -> String {
    let shown: String = text.chars().take(LONGEST).collect();
    let mut line = String::with_capacity(shown.len());
    for c in shown.chars() {
        if !c.is_control() && !c.is_whitespace() {
            line.push(c);
        } else if !line.ends_with(' ') {
            line.push(' ');
        }
    }
    line.trim().to_owned()
}

/// A line without the control characters that would move a terminal's cursor.
pub(crate) fn printable(line: &str) -> String {
    line.chars()
        .filter(|c| !c.is_control() || *c == '\t')
        .collect()
}

fn plain(value: &Value) -> String {
    let text = match value {
        Value::String(text) => one_line(text),
        Value::Array(items) => items.iter().map(plain).collect::<Vec<_>>().join(", "),
        value => one_line(&value.to_string()),
    };
    if text.is_empty() {
        NOTHING.into()
    } else {
        text
    }
}

/// Unix milliseconds as `2026-11-23 14:03:12Z`.
pub(crate) fn time(at_ms: i64) -> String {
    rfc3339_time(&rfc3339(at_ms))
}

/// `2026-11-23T14:03:12.345Z` as `2026-11-23 14:03:12Z`.
pub(crate) fn rfc3339_time(text: &str) -> String {
    match text.get(..19) {
        Some(text) => format!("{}Z", one_line(&text.replace('T', " "))),
        None => NOTHING.into(),
    }
}

fn ago(ms: i64) -> String {
    if ms < 0 {
        return format!("in {}", span(-ms));
    }
    if ms < 1_000 {
        return "now".into();
    }
    format!("{} ago", span(ms))
}

fn took(ms: i64) -> String {
    if ms < 10_000 {
        return format!("{ms} ms");
    }
    span(ms)
}

/// Dollars with as many digits as say something: `$12.35`, `$0.0042`.
fn cost(microusd: i64) -> String {
    let (dollars, rest) = (microusd / 1_000_000, (microusd % 1_000_000).abs());
    if dollars == 0 && rest > 0 {
        let digits = format!("{rest:06}");
        format!("$0.{}", digits.trim_end_matches('0'))
    } else {
        format!("${dollars}.{:02}", rest / 10_000)
    }
}

/// In the largest unit that fits.
fn span(ms: i64) -> String {
    let seconds = ms / 1_000;
    match seconds {
        ..60 => format!("{seconds} s"),
        60..3_600 => format!("{} min", seconds / 60),
        3_600..86_400 => format!("{} h", seconds / 3_600),
        _ => format!("{} d", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn values_are_shown_as_people_read_them() {
        for (value, how, text) in [
            (json!(null), Show::Text, "-"),
            (json!(null), Show::Mark, ""),
            (json!(""), Show::Text, "-"),
            (json!(["a", 1]), Show::Text, "a, 1"),
            (json!("a\u{1b}[31m\r\n  b"), Show::Text, "a [31m b"),
            (json!(true), Show::Flag, "yes"),
            (json!(true), Show::Mark, "*"),
            (json!("soon"), Show::Time, "soon"),
            (
                json!(1_700_000_000_123_i64),
                Show::Time,
                "2023-11-14 22:13:20Z",
            ),
            (json!(1_700_000_000), Show::Seconds, "2023-11-14 22:13:20Z"),
            (json!(950), Show::Took, "950 ms"),
            (json!(61_000), Show::Took, "1 min"),
            (json!(7_300), Show::Lasted, "2 h"),
            (json!(0), Show::Cost, "$0.00"),
            (json!(4_200), Show::Cost, "$0.0042"),
            (json!(12_345_678), Show::Cost, "$12.34"),
        ] {
            assert_eq!(show(Some(&value), how), text, "{value} {how:?}");
        }
        assert_eq!(show(None, Show::Text), "-");
        let yesterday = json!(now_ms() - 90_000_000);
        assert_eq!(show(Some(&yesterday), Show::Ago), "1 d ago");
        let later = json!(now_ms() + 7_500_000);
        assert_eq!(show(Some(&later), Show::Ago), "in 2 h");
    }
}
