//! What the client is told, chunk by chunk, and what it has been told so far.

use std::time::{Duration, Instant};

use bytes::Bytes;
use serde_json::{Value, json};
use tokio::sync::{mpsc, oneshot};

use crate::clock::new_id;
use crate::exchange::qwen::malformed;
use crate::protocol::openai::build::{self, CallDelta, Delta, Head};
use crate::protocol::openai::chunk::Usage;
use crate::protocol::openai::message::{Message, Role, ToolCall};
use crate::protocol::qwen::chain::CALL_ID;
use crate::protocol::qwen::stream::Citation;
use crate::protocol::sse;
use crate::providers::UpstreamError;

/// Told once: the answer has begun, or why it did not.
pub(crate) type Opened = oneshot::Sender<Result<(), UpstreamError>>;

/// See the module.
pub(crate) struct Teller {
    sender: mpsc::Sender<Result<Bytes, UpstreamError>>,
    /// Until the answer has begun.
    opened: Option<Opened>,
    head: Head,
    text: String,
    calls: Vec<ToolCall>,
    citations: Vec<Citation>,
    told_last: Instant,
    /// How long nothing is told of an answer that goes on.
    silence: Duration,
}

impl Teller {
    pub(crate) fn new(
        sender: mpsc::Sender<Result<Bytes, UpstreamError>>,
        opened: Opened,
        head: Head,
        silence: Duration,
    ) -> Self {
        Self {
            sender,
            opened: Some(opened),
            head,
            text: String::new(),
            calls: Vec::new(),
            citations: Vec::new(),
            told_last: Instant::now(),
            silence,
        }
    }

    /// Whether the client has seen anything of the answer.
    pub(crate) fn has_begun(&self) -> bool {
        self.opened.is_none()
    }

    pub(crate) fn has_called(&self) -> bool {
        !self.calls.is_empty()
    }

    pub(crate) async fn reasoning(&mut self, text: String) -> Result<(), UpstreamError> {
        self.delta(&Delta::reasoning(text)).await
    }

    pub(crate) async fn content(&mut self, text: String) -> Result<(), UpstreamError> {
        if text.is_empty() {
            return Ok(());
        }
        self.text.push_str(&text);
        self.delta(&Delta::content(text)).await
    }

    /// A whole call.
    pub(crate) async fn call(
        &mut self,
        name: String,
        arguments: String,
    ) -> Result<(), UpstreamError> {
        self.begin_call(name).await?;
        self.more_arguments(arguments).await
    }

    /// A call whose arguments come in pieces.
    pub(crate) async fn begin_call(&mut self, name: String) -> Result<(), UpstreamError> {
        let index = u64::try_from(self.calls.len()).unwrap_or(u64::MAX);
        let id = format!("{CALL_ID}{}", new_id().replace('-', ""));
        let start = CallDelta::start(index, id.clone(), name.clone());
        self.delta(&Delta::call(start)).await?;
        self.calls.push(ToolCall {
            id: Some(id),
            name,
            arguments: String::new(),
        });
        Ok(())
    }

    /// More arguments of the call that was begun last.
    pub(crate) async fn more_arguments(&mut self, more: String) -> Result<(), UpstreamError> {
        let index = u64::try_from(self.calls.len().saturating_sub(1)).unwrap_or(u64::MAX);
        if let Some(call) = self.calls.last_mut() {
            call.arguments.push_str(&more);
        }
        let more = CallDelta::arguments(index, more);
        self.delta(&Delta::call(more)).await
    }

    /// The answer goes on, though there is nothing to tell yet: a call is being written. Without a sign of it this would
    /// be taken for an upstream that makes no progress.
    pub(crate) async fn is_alive(&mut self) -> Result<(), UpstreamError> {
        if !self.has_begun() || self.told_last.elapsed() < self.silence {
            return Ok(());
        }
        self.delta(&Delta::default()).await
    }

    /// Sources of the answer: told with its end.
    pub(crate) fn cite(&mut self, citations: Vec<Citation>) {
        for citation in citations {
            if !self.citations.iter().any(|known| known.url == citation.url) {
                self.citations.push(citation);
            }
        }
    }

    /// The last chunks of a whole answer, but for the end marker.
    pub(crate) async fn finish(&mut self, usage: Option<&Usage>) -> Result<(), UpstreamError> {
        let reason = if self.calls.is_empty() {
            "stop"
        } else {
            "tool_calls"
        };
        self.begin().await?;
        let last = build::chunk(&self.head, &Delta::default(), Some(reason));
        self.send(self.cited(last)).await?;
        if let Some(usage) = usage {
            self.send(build::usage_chunk(&self.head, usage)).await?;
        }
        Ok(())
    }

    /// The end marker.
    pub(crate) async fn done(&self) {
        let _ = self.sender.send(Ok(sse::data("[DONE]"))).await;
    }

    /// No answer can be had, or no more of it.
    pub(crate) async fn fail(mut self, error: UpstreamError) {
        match self.opened.take() {
            Some(opened) => drop(opened.send(Err(error))),
            None => drop(self.sender.send(Err(error)).await),
        }
    }

    /// The answer as the client will send it back.
    pub(crate) fn answer(&self) -> Message {
        Message {
            role: Role::Assistant,
            text: self.text.clone(),
            attachments: Vec::new(),
            calls: self.calls.clone(),
            call_id: None,
            name: None,
        }
    }

    async fn delta(&mut self, delta: &Delta) -> Result<(), UpstreamError> {
        self.begin().await?;
        self.send(build::chunk(&self.head, delta, None)).await
    }

    async fn begin(&mut self) -> Result<(), UpstreamError> {
        let Some(opened) = self.opened.take() else {
            return Ok(());
        };
        let _ = opened.send(Ok(()));
        self.send(build::chunk(&self.head, &Delta::role(), None))
            .await
    }

    /// The sources stand beside the choices, where the makers of searching models put theirs.
    fn cited(&self, chunk: String) -> String {
        if self.citations.is_empty() {
            return chunk;
        }
        let list: Vec<Value> = self
            .citations
            .iter()
            .map(|citation| json!({"url": citation.url, "title": citation.title}))
            .collect();
        match serde_json::from_str::<Value>(&chunk) {
            Ok(mut whole) => {
                whole["citations"] = list.into();
                whole.to_string()
            }
            Err(_) => chunk,
        }
    }

    async fn send(&mut self, json: String) -> Result<(), UpstreamError> {
        self.told_last = Instant::now();
        // Nobody listens any more: this task is being dropped.
        self.sender
            .send(Ok(sse::data(&json)))
            .await
            .map_err(|_| malformed("the client left"))
    }
}
