//! The dialects of clients and upstreams, and what it takes to tell a chat completion in another one.
//!
//! Inside the gateway everything is an `OpenAI` chat completion: a request in another dialect is translated when it comes
//! in, and the answer, whole or event by event, when it goes out. What an answer says beyond a chat completion travels in
//! members that chat clients do not read; [`extra`] names them.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::limits::upstreams::EVENT_LIMIT;
use crate::protocol::recording::Form;
use crate::protocol::sse::{Reader, SseError};

/// How a client or an upstream speaks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Dialect {
    /// `OpenAI` chat completions.
    #[default]
    Chat,
    /// Anthropic Messages.
    Anthropic,
    /// `OpenAI` Responses.
    Responses,
    /// Ollama's own API.
    Ollama,
}

impl Dialect {
    /// What is spoken at a path of the clients' ports.
    pub(crate) fn of_path(path: &str) -> Self {
        match path {
            path if path.starts_with("/v1/messages") => Self::Anthropic,
            path if path.starts_with("/v1/responses") => Self::Responses,
            path if path.starts_with("/api/") => Self::Ollama,
            _ => Self::Chat,
        }
    }
}

/// A request as it came, for an upstream that speaks the client's dialect: then nothing of it is translated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Native {
    pub(crate) dialect: Dialect,
    /// The body; its model is the client's.
    pub(crate) body: Bytes,
    /// Of Anthropic's dialect: the header `anthropic-beta`.
    pub(crate) beta: Option<String>,
}

/// A request as its client sent it, where that is no chat request: what is kept to ask it again, and to tell its answer.
#[derive(Clone, Debug)]
pub(crate) struct Original {
    pub(crate) body: Bytes,
    /// What an upstream of the same dialect is sent, where that is not the body.
    pub(crate) native: Option<Bytes>,
    /// Of Anthropic's dialect: the header `anthropic-beta`.
    pub(crate) beta: Option<String>,
    /// When it came, in Unix seconds: some answers say so.
    pub(crate) created: i64,
}

impl Native {
    /// What an upstream of the dialect of `path` is sent; none where that is the chat request.
    pub(crate) fn of(original: Original, path: &str) -> Option<Self> {
        let dialect = Dialect::of_path(path);
        matches!(dialect, Dialect::Anthropic | Dialect::Responses).then(|| Self {
            dialect,
            body: original.native.unwrap_or(original.body),
            beta: original.beta,
        })
    }
}

impl Original {
    /// One that is only translated.
    pub(crate) fn translated(body: Bytes, created: i64) -> Self {
        Self {
            body,
            native: None,
            beta: None,
            created,
        }
    }
}

/// Members of a chat completion (of its `message` or `delta`) with what only other dialects know.
pub(crate) mod extra {
    /// Text that proves to its author that the reasoning before it is unchanged: Anthropic's `signature` of a thinking block.
    pub(crate) const SIGNATURE: &str = "reasoning_signature";
    /// Reasoning that only its author can read: Anthropic's `redacted_thinking`, a list of texts.
    pub(crate) const REDACTED: &str = "redacted_reasoning";
    /// A list of Anthropic's content blocks that a chat completion has no word for, as they came.
    pub(crate) const BLOCKS: &str = "anthropic_blocks";
    /// Of a whole message: Anthropic's content blocks, all of them, as they came.
    pub(crate) const CONTENT: &str = "anthropic_content";
    /// The stop sequence that ended the answer.
    pub(crate) const STOP_SEQUENCE: &str = "stop_sequence";
    /// In `usage`: these are not the upstream's counts.
    pub(crate) const ESTIMATED: &str = "estimated";
    /// A list of output items of `OpenAI`'s Responses that a chat completion has no word for, as they came.
    pub(crate) const ITEMS: &str = "responses_items";
}

/// How the answer to one request is told in the client's dialect.
pub(crate) trait Telling: Send {
    /// The whole answer, from the whole chat completion.
    fn whole(&mut self, completion: &[u8]) -> Result<Bytes, serde_json::Error>;

    /// One event of the chat stream: a chunk, an error, or the marker `[DONE]`. What it becomes is appended to `out`.
    /// After an error comes the marker: then the client's stream ends as a failed one does.
    fn event(&mut self, data: &str, out: &mut Vec<u8>);

    /// Nothing came for a while: what keeps the client waiting. A comment where the dialect has no word for it.
    fn silence(&mut self, out: &mut Vec<u8>) {
        out.extend_from_slice(b": waiting for the model\n\n");
    }

    /// The content type of the stream.
    fn stream_type(&self) -> &'static str {
        "text/event-stream"
    }
}

/// An answer on its way into the client's dialect.
pub(crate) struct Retelling {
    reader: Reader,
    /// The stream is one of server-sent events.
    has_comments: bool,
    telling: Box<dyn Telling>,
}

impl Retelling {
    pub(crate) fn new(telling: Box<dyn Telling>) -> Self {
        Self {
            reader: Reader::new(EVENT_LIMIT),
            has_comments: telling.stream_type() == "text/event-stream",
            telling,
        }
    }

    /// The form of what is told of a chat's answer of this form.
    pub(crate) fn form(&self, chat: Form) -> Form {
        match chat {
            Form::Events if !self.has_comments => Form::Lines,
            form => form,
        }
    }

    /// What the next bytes of a chat stream become.
    pub(crate) fn events(&mut self, bytes: &[u8]) -> Result<Vec<u8>, SseError> {
        let mut out = Vec::with_capacity(bytes.len());
        for frame in self.reader.push(bytes)? {
            match frame.event {
                Some(event) if !event.data.is_empty() => self.telling.event(&event.data, &mut out),
                _ if frame.raw.starts_with(b": waiting") => self.telling.silence(&mut out),
                // Where there are no comments, what they say is left out.
                _ if frame.raw.starts_with(b":") && self.has_comments => {
                    out.extend_from_slice(&frame.raw);
                }
                _ => {}
            }
        }
        Ok(out)
    }

    /// What a whole chat completion becomes.
    pub(crate) fn whole(&mut self, completion: &[u8]) -> Result<Bytes, serde_json::Error> {
        self.telling.whole(completion)
    }
}
