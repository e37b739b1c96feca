//! Calls that the site hands back in a form of its own (A6): in pieces, repeated, or whole.

use serde_json::Value;

use super::{NativeArguments, QwenEvent};

/// The calls of one answer.
#[derive(Debug, Default)]
pub(super) struct Natives(Vec<Native>);

#[derive(Debug, Default)]
struct Native {
    id: Option<String>,
    index: Option<u64>,
    name: Option<String>,
    /// The arguments' text so far.
    seen: String,
}

impl Natives {
    /// Takes what a delta says of calls.
    pub(super) fn take(&mut self, delta: &Value, out: &mut Vec<QwenEvent>) {
        if let Some(call) = delta.get("function_call").filter(|call| call.is_object()) {
            self.piece(call, call, out);
        }
        let calls = delta.get("tool_calls").and_then(Value::as_array);
        for call in calls.into_iter().flatten() {
            self.piece(call, call.get("function").unwrap_or(call), out);
        }
    }

    fn piece(&mut self, call: &Value, function: &Value, out: &mut Vec<QwenEvent>) {
        let text = |value: &Value, key: &str| {
            let text = value.get(key)?.as_str()?;
            (!text.is_empty()).then(|| text.to_owned())
        };
        let (id, index) = (text(call, "id"), call.get("index").and_then(Value::as_u64));
        let name = text(function, "name");
        let at = self.find(id.as_ref(), index, name.as_ref());
        let Some(native) = self.0.get_mut(at) else {
            return;
        };
        native.id = native.id.take().or(id);
        native.index = native.index.or(index);
        let is_news = name.is_some() && native.name != name;
        if is_news {
            native.name.clone_from(&name);
        }
        let arguments = match function.get("arguments") {
            Some(Value::String(text)) => native.increment(text),
            Some(whole @ Value::Object(_)) => Some(NativeArguments::Whole(whole.to_string())),
            _ => None,
        };
        if is_news || arguments.is_some() {
            out.push(QwenEvent::NativeCall {
                key: at.to_string(),
                name: name.filter(|_| is_news),
                arguments: arguments.unwrap_or_else(|| NativeArguments::Increment(String::new())),
            });
        }
    }

    /// The place of the call a piece belongs to; a new one when there is none.
    fn find(&mut self, id: Option<&String>, index: Option<u64>, name: Option<&String>) -> usize {
        let same = |native: &Native| match (id, &native.id, index, native.index) {
            (Some(id), Some(own), ..) => id == own,
            (_, _, Some(index), Some(own)) => index == own,
            // Without either, another name is another call.
            _ => name.is_none() || native.name.as_ref() == name,
        };
        if let Some(at) = self.0.iter().rposition(same) {
            return at;
        }
        self.0.push(Native::default());
        self.0.len() - 1
    }
}

impl Native {
    /// A text that begins with all that came repeats it: arguments are one JSON object, and none begins twice.
    fn increment(&mut self, text: &str) -> Option<NativeArguments> {
        let new = match text.strip_prefix(self.seen.as_str()) {
            Some(new) => new,
            None => text,
        };
        if new.is_empty() {
            return None;
        }
        self.seen.push_str(new);
        Some(NativeArguments::Increment(new.to_owned()))
    }
}
