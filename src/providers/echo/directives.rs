//! What a request asks the echo to do.

use std::time::Duration;

use serde_json::Value;

/// More would only fill memory and time.
const REPEAT_LIMIT: u64 = 1_000_000;
/// Longest pause that is taken.
const PAUSE_LIMIT: u64 = 3_600_000;

/// The answer a request asks for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Plan {
    /// Words with the white space behind them.
    pub(super) words: Vec<String>,
    /// How often the words are said.
    pub(super) repeat: u64,
    pub(super) reasoning: Vec<String>,
    /// Name and arguments.
    pub(super) tool: Option<(String, String)>,
    pub(super) fail: Option<(u16, String)>,
    pub(super) stall: Duration,
    pub(super) delay: Duration,
    /// Number of words after which it happens.
    pub(super) cut: Option<u64>,
    pub(super) error: Option<u64>,
    pub(super) include_usage: bool,
    /// Words in all messages.
    pub(super) prompt_words: u64,
}

impl Plan {
    /// Reads a chat request. A directive that makes no sense is part of the text.
    pub(super) fn read(request: &Value) -> Self {
        let messages = request
            .get("messages")
            .and_then(Value::as_array)
            .map(Vec::as_slice)
            .unwrap_or_default();
        let prompt_words = messages
            .iter()
            .map(|message| count(&text_of(message)))
            .sum();
        let last = messages
            .iter()
            .rev()
            .find(|message| message.get("role").and_then(Value::as_str) == Some("user"));
        let include_usage = request
            .pointer("/stream_options/include_usage")
            .and_then(Value::as_bool)
            .unwrap_or(false);
        let mut plan = Self {
            repeat: 1,
            include_usage,
            prompt_words,
            ..Self::default()
        };
        let mut text: Vec<&str> = Vec::new();
        let whole = last.map(text_of).unwrap_or_default();
        for line in whole.split('\n') {
            if plan.direct(line.trim_end_matches('\r')).is_none() {
                text.push(line);
            }
        }
        let text = text.join("\n");
        // A call alone needs no words.
        let text = if text.trim().is_empty() && plan.tool.is_none() {
            "echo"
        } else {
            text.trim()
        };
        plan.words = words(text);
        plan
    }

    /// How many words the answer has, reasoning left out.
    pub(super) fn word_count(&self) -> u64 {
        u64::try_from(self.words.len())
            .unwrap_or(u64::MAX)
            .saturating_mul(self.repeat)
    }

    /// Follows one line; None when it is no directive.
    fn direct(&mut self, line: &str) -> Option<()> {
        let line = line.strip_prefix("echo:")?;
        let (name, rest) = line.split_once(' ').unwrap_or((line, ""));
        let rest = rest.trim();
        match name {
            "reasoning" if !rest.is_empty() => self.reasoning = words(rest),
            "tool" => {
                let (tool, arguments) = rest.split_once(' ').unwrap_or((rest, "{}"));
                if tool.is_empty() {
                    return None;
                }
                self.tool = Some((tool.to_owned(), arguments.trim().to_owned()));
            }
            "fail" => {
                let (status, message) = rest.split_once(' ').unwrap_or((rest, "failed as asked"));
                let status = status
                    .parse()
                    .ok()
                    .filter(|status| (400..600).contains(status))?;
                self.fail = Some((status, message.to_owned()));
            }
            "stall" => self.stall = pause(rest)?,
            "delay" => self.delay = pause(rest)?,
            "cut" => self.cut = Some(rest.parse().ok()?),
            "error" => self.error = Some(rest.parse().ok()?),
            "repeat" => self.repeat = rest.parse::<u64>().ok()?.clamp(1, REPEAT_LIMIT),
            _ => return None,
        }
        Some(())
    }
}

/// How many words a text has.
fn count(text: &str) -> u64 {
    u64::try_from(text.split_whitespace().count()).unwrap_or(u64::MAX)
}

fn pause(ms: &str) -> Option<Duration> {
    ms.parse::<u64>()
        .ok()
        .map(|ms| Duration::from_millis(ms.min(PAUSE_LIMIT)))
}

/// A message's text; that of content parts is joined.
fn text_of(message: &Value) -> String {
    match message.get("content") {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Array(parts)) => parts
            .iter()
            .filter_map(|part| part.get("text").and_then(Value::as_str))
            .collect(),
        _ => String::new(),
    }
}

/// Each word with the white space behind it, so that joining them gives the text back.
fn words(text: &str) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    let mut after_space = true;
    for character in text.chars() {
        match words.last_mut() {
            Some(word) if character.is_whitespace() || !after_space => word.push(character),
            _ => words.push(character.to_string()),
        }
        after_space = character.is_whitespace();
    }
    words
}
