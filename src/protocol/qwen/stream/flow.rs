//! Text that comes as increments, or as all there is so far, or as lists of items that grow.

use serde_json::Value;

/// A first delta this short may well begin the second one by chance.
const CHANCE: usize = 4;

/// One text of a stream.
///
/// Increments are asked for, and believed. Some models and dates repeat all that came before in each delta: when the
/// second delta begins with the first and is longer, it is held until the third shows which it was.
#[derive(Debug, Default)]
pub(super) enum Flow {
    #[default]
    Nothing,
    First(String),
    /// The second delta, which begins with the first; and how long that was.
    Undecided(String, usize),
    Increments,
    /// All there is so far.
    Repeats(String),
}

impl Flow {
    /// Takes a delta, and gives what is new.
    pub(super) fn take(&mut self, delta: &str) -> Option<String> {
        if delta.is_empty() {
            return None;
        }
        match std::mem::take(self) {
            Self::Nothing => {
                *self = Self::First(delta.to_owned());
                Some(delta.to_owned())
            }
            Self::First(first) if begins(delta, &first) => {
                *self = Self::Undecided(delta.to_owned(), first.len());
                None
            }
            Self::First(_) | Self::Increments => {
                *self = Self::Increments;
                Some(delta.to_owned())
            }
            Self::Undecided(second, told) if begins(delta, &second) || delta == second => {
                *self = Self::Repeats(delta.to_owned());
                delta.get(told..).map(str::to_owned)
            }
            Self::Undecided(second, _) => {
                *self = Self::Increments;
                Some(second + delta)
            }
            Self::Repeats(known) => {
                let new = delta.strip_prefix(known.as_str()).map(str::to_owned);
                let is_old = known.starts_with(delta);
                match (new, is_old) {
                    (Some(new), _) => {
                        *self = Self::Repeats(delta.to_owned());
                        Some(new)
                    }
                    (None, true) => {
                        *self = Self::Repeats(known);
                        None
                    }
                    // It does not repeat any more: nothing is lost by believing increments from here on.
                    (None, false) => {
                        *self = Self::Increments;
                        Some(delta.to_owned())
                    }
                }
            }
        }
    }

    /// No more comes: what was held, as what it most likely was.
    pub(super) fn end(&mut self) -> Option<String> {
        match std::mem::replace(self, Self::Increments) {
            Self::Undecided(second, told) if told >= CHANCE => {
                second.get(told..).map(str::to_owned)
            }
            Self::Undecided(second, _) => Some(second),
            other => {
                *self = other;
                None
            }
        }
    }
}

fn begins(text: &str, head: &str) -> bool {
    text.len() > head.len() && text.starts_with(head)
}

/// Reasoning as lists that are sent again and again: items are added, the last one grows, earlier ones may be rewritten.
#[derive(Debug, Default)]
pub(super) struct Summary {
    /// The items, as far as they were told.
    items: Vec<String>,
}

impl Summary {
    /// What is new in a delta's `extra`. `is_over`: this is the phase's last one.
    pub(super) fn take(&mut self, extra: &Value, is_over: bool) -> Option<String> {
        let mut new = String::new();
        let thoughts = list(extra, "summary_thought").or_else(|| list(extra, "summary_content"));
        for (at, thought) in thoughts.into_iter().flatten().enumerate() {
            self.item(at, thought, &mut new);
        }
        // Titles are what is left when there are no thoughts.
        if is_over && self.items.iter().all(String::is_empty) {
            self.items.clear();
            let titles = list(extra, "summary_title").into_iter().flatten();
            for (at, title) in titles.enumerate() {
                self.item(at, title, &mut new);
            }
        }
        (!new.is_empty()).then_some(new)
    }

    fn item(&mut self, at: usize, text: &Value, new: &mut String) {
        let text = text.as_str().unwrap_or_default();
        let is_last = at + 1 == self.items.len();
        if at < self.items.len() && !is_last {
            return;
        }
        if !is_last {
            self.items.push(String::new());
        }
        let has_before = self.items.iter().rev().skip(1).any(|item| !item.is_empty());
        let Some(item) = self.items.last_mut() else {
            return;
        };
        if let Some(growth) = text
            .strip_prefix(item.as_str())
            .filter(|growth| !growth.is_empty())
        {
            if item.is_empty() && has_before {
                new.push_str("\n\n");
            }
            new.push_str(growth);
            text.clone_into(item);
        }
    }
}

fn list<'a>(extra: &'a Value, key: &str) -> Option<&'a Vec<Value>> {
    extra.get(key)?.get("content")?.as_array()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flow(deltas: &[&str]) -> String {
        let mut flow = Flow::default();
        let mut all: String = deltas.iter().filter_map(|delta| flow.take(delta)).collect();
        all.extend(flow.end());
        all
    }

    #[test]
    fn increments_and_repeats_are_told_apart() {
        for (deltas, expected) in [
            (&["a", "b", "", "c"][..], "abc"),
            (&["Hello", "Hello wor", "Hello world"], "Hello world"),
            (&["Hello", "Hello world"], "Hello world"),
            (&["ha", "haha", "!"], "hahaha!"),
            (&["ha", "haha"], "hahaha"),
            (&["\n", "\n\n", "x"], "\n\n\nx"),
            (&["a", "a", "a"], "aaa"),
            (
                &["Well", "Well, no", "Well, no", "Well, no. But"],
                "Well, no. But",
            ),
            (
                &["Well", "Well, no", "Well, no.", " More"],
                "Well, no. More",
            ),
        ] {
            assert_eq!(flow(deltas), expected, "{deltas:?}");
        }
    }
}
