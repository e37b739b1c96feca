//! How far an answer had come when its connection died, and what is new when the site tells it once more.
//!
//! Only what shows that it is the same answer, by beginning with all that was told, is gone on with.

use std::collections::{HashMap, HashSet};

use crate::protocol::qwen::stream::{NativeArguments, QwenEvent};

/// What was told of an answer.
#[derive(Clone, Debug, Default)]
pub(super) struct Seen {
    content: String,
    reasoning: String,
    images: HashSet<String>,
}

impl Seen {
    pub(super) fn note(&mut self, event: &QwenEvent) {
        match event {
            QwenEvent::Content(text) => self.content.push_str(text),
            QwenEvent::Reasoning(text) => self.reasoning.push_str(text),
            QwenEvent::Image(address) => drop(self.images.insert(address.clone())),
            _ => {}
        }
    }

    pub(super) fn content(&self) -> &str {
        &self.content
    }
}

/// What comes is not the answer that was told.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Another;

/// An answer that is told from its beginning once more.
#[derive(Debug)]
pub(super) struct Again {
    content: Known,
    reasoning: Known,
    images: HashSet<String>,
    /// Arguments of native calls so far, by key: what was told of them is replaced.
    natives: HashMap<String, String>,
}

impl Again {
    pub(super) fn of(seen: &Seen) -> Self {
        Self {
            content: Known::of(&seen.content),
            reasoning: Known::of(&seen.reasoning),
            images: seen.images.clone(),
            natives: HashMap::new(),
        }
    }

    /// What is new in an event.
    pub(super) fn take(&mut self, event: QwenEvent) -> Result<Option<QwenEvent>, Another> {
        let some = |text: String, event: fn(String) -> QwenEvent| {
            Some(text).filter(|text| !text.is_empty()).map(event)
        };
        match event {
            QwenEvent::Content(text) => Ok(some(self.content.new_of(&text)?, QwenEvent::Content)),
            // Of reasoning that reads differently the rest is left out: it decides nothing.
            QwenEvent::Reasoning(text) => {
                let new = self.reasoning.new_of(&text).unwrap_or_default();
                Ok(some(new, QwenEvent::Reasoning))
            }
            QwenEvent::Image(address) if self.images.contains(&address) => Ok(None),
            QwenEvent::NativeCall {
                key,
                name,
                arguments,
            } => {
                let known = self.natives.entry(key.clone()).or_default();
                match arguments {
                    NativeArguments::Increment(more) => known.push_str(&more),
                    NativeArguments::Whole(whole) => *known = whole,
                }
                let arguments = NativeArguments::Whole(known.clone());
                Ok(Some(QwenEvent::NativeCall {
                    key,
                    name,
                    arguments,
                }))
            }
            QwenEvent::Created => Ok(None),
            QwenEvent::Finished if !self.content.is_through() => Err(Another),
            QwenEvent::Failed(_) => Err(Another),
            other => Ok(Some(other)),
        }
    }
}

/// A text of which the head was told.
#[derive(Debug)]
struct Known {
    told: String,
    /// How much of it has come again.
    at: usize,
    is_another: bool,
}

impl Known {
    fn of(told: &str) -> Self {
        Self {
            told: told.to_owned(),
            at: 0,
            is_another: false,
        }
    }

    fn is_through(&self) -> bool {
        self.at == self.told.len()
    }

    /// What of `text` was not told.
    fn new_of(&mut self, text: &str) -> Result<String, Another> {
        let ahead = self.told.get(self.at..).unwrap_or_default();
        if self.is_another {
            return Err(Another);
        }
        if let Some(new) = text.strip_prefix(ahead) {
            self.at = self.told.len();
            return Ok(new.to_owned());
        }
        self.is_another = !ahead.starts_with(text);
        if self.is_another {
            return Err(Another);
        }
        self.at += text.len();
        Ok(String::new())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_told_is_dropped_however_it_is_cut() {
        let told = "Bees 🐝 dance";
        let whole = "Bees 🐝 dance to say.";
        let mut seen = Seen::default();
        seen.note(&QwenEvent::Content(told.into()));
        let chars: Vec<char> = whole.chars().collect();
        for size in 1..=chars.len() {
            let mut again = Again::of(&seen);
            let mut new = String::new();
            for piece in chars.chunks(size) {
                let event = QwenEvent::Content(piece.iter().collect());
                if let Some(QwenEvent::Content(text)) = again.take(event).expect("the same") {
                    new.push_str(&text);
                }
            }
            assert_eq!(new, " to say.", "{size}");
            assert_eq!(
                again.take(QwenEvent::Finished),
                Ok(Some(QwenEvent::Finished))
            );
        }
    }

    #[test]
    fn another_answer_is_told_apart() {
        let mut seen = Seen::default();
        seen.note(&QwenEvent::Content("Bees".into()));
        seen.note(&QwenEvent::Reasoning("Hm".into()));
        let mut again = Again::of(&seen);
        assert_eq!(again.take(QwenEvent::Content("Be".into())), Ok(None));
        assert_eq!(again.take(QwenEvent::Finished), Err(Another));
        assert_eq!(again.take(QwenEvent::Content("ars".into())), Err(Another));
        let other = QwenEvent::Reasoning("What".into());
        assert_eq!(again.take(other), Ok(None));
    }
}
