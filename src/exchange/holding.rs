//! Events of a stream on their way to the client: held until it is safe to send them.
//!
//! Before the first content nothing is sent, so that another target can begin anew. A tool call is sent when its JSON has
//! closed, so that none reaches the client that a dying upstream has cut.

use bytes::Bytes;

use crate::limits::exchanges::{LONGEST_CALL, MOST_BYTES, MOST_EVENTS};
use crate::protocol::openai::chunk::Scan;

/// An event, and what is in it.
pub(super) struct Held {
    pub(super) raw: Bytes,
    /// None for a comment.
    pub(super) scan: Option<Scan>,
}

/// See the module.
pub(super) struct Holding {
    held: Vec<Held>,
    bytes: usize,
    /// Something was let go.
    has_begun: bool,
    holds_calls: bool,
    call: Option<Call>,
}

/// A call whose arguments are still being written.
struct Call {
    place: (u64, u64),
    json: Nesting,
}

impl Holding {
    /// `has_begun`: the client has content already, of this upstream or another.
    pub(super) fn new(has_begun: bool, holds_calls: bool) -> Self {
        Self {
            held: Vec::new(),
            bytes: 0,
            has_begun,
            holds_calls,
            call: None,
        }
    }

    /// Takes an event; returns those that may go now, in order.
    pub(super) fn take(&mut self, raw: Bytes, scan: Scan) -> Vec<Held> {
        let (is_content, is_end) = (
            scan.has_content(),
            scan.choices
                .iter()
                .any(|choice| choice.finish_reason.is_some()),
        );
        self.follow_calls(&scan);
        self.bytes += raw.len();
        self.held.push(Held {
            raw,
            scan: Some(scan),
        });
        let is_much = self.held.len() > MOST_EVENTS || self.bytes > MOST_BYTES;
        self.has_begun |= is_content || is_end || is_much;
        let is_held = self.call.is_some() && self.bytes <= LONGEST_CALL;
        if self.has_begun && !is_held {
            self.all()
        } else {
            Vec::new()
        }
    }

    /// Takes what is no event, such as a comment; returns it when nothing is held before it.
    pub(super) fn take_aside(&mut self, raw: Bytes) -> Option<Bytes> {
        if self.has_begun && self.held.is_empty() {
            return Some(raw);
        }
        if self.held.len() <= MOST_EVENTS {
            self.held.push(Held { raw, scan: None });
        }
        None
    }

    /// Everything that is held; the stream is over.
    pub(super) fn all(&mut self) -> Vec<Held> {
        self.bytes = 0;
        std::mem::take(&mut self.held)
    }

    /// Whether a call has begun and not ended.
    pub(super) fn is_inside_a_call(&self) -> bool {
        self.call.is_some()
    }

    fn follow_calls(&mut self, scan: &Scan) {
        if !self.holds_calls {
            return;
        }
        for choice in &scan.choices {
            for delta in &choice.tool_calls {
                let place = (choice.index, delta.index);
                let mut call = match self.call.take() {
                    Some(call) if call.place == place => call,
                    _ => Call {
                        place,
                        json: Nesting::default(),
                    },
                };
                let is_whole = delta
                    .arguments
                    .as_deref()
                    .is_some_and(|text| call.json.feed(text));
                if !is_whole {
                    self.call = Some(call);
                }
            }
            if choice.finish_reason.is_some() {
                self.call = None;
            }
        }
    }
}

/// Follows the brackets of a JSON text that comes in pieces.
#[derive(Default)]
struct Nesting {
    depth: usize,
    is_in_text: bool,
    is_escaped: bool,
}

impl Nesting {
    /// Returns whether what opened has closed.
    fn feed(&mut self, text: &str) -> bool {
        let mut has_closed = false;
        for byte in text.bytes() {
            match byte {
                _ if self.is_escaped => self.is_escaped = false,
                b'\\' if self.is_in_text => self.is_escaped = true,
                b'"' => self.is_in_text = !self.is_in_text,
                b'{' | b'[' if !self.is_in_text => self.depth += 1,
                b'}' | b']' if !self.is_in_text => {
                    self.depth = self.depth.saturating_sub(1);
                    has_closed = self.depth == 0;
                }
                _ => {}
            }
        }
        has_closed && self.depth == 0
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::protocol::openai::chunk;

    fn delta(delta: &Value) -> (Bytes, Scan) {
        let data = json!({"choices": [{"index": 0, "delta": delta}]}).to_string();
        (data.clone().into(), chunk::scan(&data).expect("a chunk"))
    }

    fn call(index: u64, arguments: &str) -> Value {
        json!({"tool_calls": [{"index": index, "function": {"name": "f", "arguments": arguments}}]})
    }

    /// How many events go after each.
    fn released(holding: &mut Holding, deltas: &[Value]) -> Vec<usize> {
        let take = |one: &Value| {
            let (raw, scan) = delta(one);
            holding.take(raw, scan).len()
        };
        deltas.iter().map(take).collect()
    }

    #[test]
    fn nothing_goes_before_the_first_content_unless_it_is_much() {
        let role = json!({"role": "assistant", "content": ""});
        let text = json!({"content": "Hi"});
        let mut holding = Holding::new(false, true);
        let gone = released(
            &mut holding,
            &[role.clone(), role.clone(), text.clone(), text.clone()],
        );
        assert_eq!(gone, [0, 0, 3, 1]);
        let mut holding = Holding::new(false, true);
        let many: Vec<_> = (0..70).map(|_| role.clone()).collect();
        assert_eq!(
            released(&mut holding, &many)[60..],
            [0, 0, 0, 0, 65, 1, 1, 1, 1, 1]
        );
    }

    #[test]
    fn a_call_goes_when_its_json_has_closed() {
        let deltas = [
            json!({"content": "I look."}),
            call(0, ""),
            call(0, "{\"path\": \"a}\\\""),
            call(0, ".txt\", \"of\": {"),
            call(0, "}}"),
            call(1, "{}"),
            call(2, "{\"x\":"),
        ];
        let mut holding = Holding::new(false, true);
        assert_eq!(released(&mut holding, &deltas), [1, 0, 0, 0, 4, 1, 0]);
        assert!(holding.is_inside_a_call());
        let mut at_once = Holding::new(false, false);
        assert_eq!(released(&mut at_once, &deltas), [1; 7]);
        let end = json!({"choices": [{"index": 0, "delta": {}, "finish_reason": "tool_calls"}]})
            .to_string();
        let scan = chunk::scan(&end).expect("a chunk");
        assert_eq!(holding.take(end.into(), scan).len(), 2);
        assert!(!holding.is_inside_a_call());
    }
}
