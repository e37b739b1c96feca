//! The site's stream as events that mean something (qwen-web-protocol, 4, 6, A1, A5 and A6).
//!
//! Read leniently: what is unknown is passed over, and only what says so is the end. A stream that stops without it was
//! cut, whatever came before.

mod flow;
mod natives;
#[cfg(test)]
mod tests;

use std::collections::HashSet;

use serde_json::Value;

use self::flow::{Flow, Summary};
use self::natives::Natives;
use super::refusal::{self, Refusal};
use crate::protocol::openai::chunk::Usage;

/// What an event of the stream amounts to.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum QwenEvent {
    /// The site took the turn; nothing of the answer yet.
    Created,
    Reasoning(String),
    Content(String),
    /// A piece of a call in the site's own form. All pieces of one call have the same key.
    NativeCall {
        key: String,
        name: Option<String>,
        arguments: NativeArguments,
    },
    /// Sources that were not named before.
    Citations(Vec<Citation>),
    /// The address of an image that was made.
    Image(String),
    /// The counts so far.
    Usage(Usage),
    /// The site's own runner told the model the result of a call.
    ToolResult,
    /// The site broke off. Nothing follows.
    Failed(Refusal),
    /// The answer is whole. Nothing follows.
    Finished,
}

/// Arguments of a native call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum NativeArguments {
    /// More of their JSON text.
    Increment(String),
    /// All of it, in place of what came before.
    Whole(String),
}

/// A source of the answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Citation {
    pub(crate) url: String,
    pub(crate) title: String,
}

/// Reads one answer, event by event.
#[derive(Debug, Default)]
pub(crate) struct Translator {
    response_id: Option<String>,
    content: Flow,
    reasoning: Flow,
    summary: Summary,
    natives: Natives,
    usage: Option<Usage>,
    /// Addresses of sources and images that were told.
    told: HashSet<String>,
    saw_anything: bool,
    is_over: bool,
}

/// What a delta's phase makes of its content (A5).
#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Reasoning,
    /// Reasoning as lists that repeat and grow.
    Summary,
    Answer,
    /// Content whose end is not the end of the answer.
    Document,
    Image,
    /// The site's own tools, signs of life, what we do not know.
    Aside,
}

impl Translator {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// For the answer `response_id`, told once more.
    pub(crate) fn of(response_id: String) -> Self {
        Self {
            response_id: Some(response_id),
            ..Self::default()
        }
    }

    /// Takes the data of one event, or a body that is no stream.
    pub(crate) fn push(&mut self, data: &str) -> Vec<QwenEvent> {
        let mut out = Vec::new();
        if self.is_over {
            return out;
        }
        let data = data.trim();
        match serde_json::from_str::<Value>(data) {
            Ok(event) => self.event(&event, &mut out),
            Err(_) if data.starts_with('<') => {
                if let Some(refusal) = refusal::classify(200, None, data.as_bytes()) {
                    self.fail(refusal, &mut out);
                }
            }
            // `[DONE]` of some deployments, and whatever else is no JSON.
            Err(_) => {}
        }
        self.saw_anything |= out.iter().any(|event| {
            matches!(
                event,
                QwenEvent::Reasoning(_)
                    | QwenEvent::Content(_)
                    | QwenEvent::Image(_)
                    | QwenEvent::NativeCall { .. }
            )
        });
        out
    }

    /// Whether the answer was whole or broken off by the site.
    pub(crate) fn is_finished(&self) -> bool {
        self.is_over
    }

    /// Whether anything of an answer came.
    pub(crate) fn saw_anything(&self) -> bool {
        self.saw_anything
    }

    /// The answer's id: the parent of the next turn.
    pub(crate) fn response_id(&self) -> Option<&str> {
        self.response_id.as_deref()
    }

    fn event(&mut self, event: &Value, out: &mut Vec<QwenEvent>) {
        if let Some(created) = event.get("response.created") {
            if self.response_id.is_none() {
                self.response_id = text(created, "response_id");
                out.push(QwenEvent::Created);
            }
            return;
        }
        if self.is_of_another_answer(event) {
            return;
        }
        if let Some(refusal) = refusal::from_value(event) {
            return self.fail(refusal, out);
        }
        if self.whole(event, out) {
            return;
        }
        self.count(event.get("usage"), out);
        self.cite(event.get("sources"), out);
        if let Some(delta) = event.pointer("/choices/0/delta") {
            self.delta(delta, out);
        }
        let is_stopped = event.get("response.stopped").is_some()
            || event.get("type").and_then(Value::as_str) == Some("response.stopped")
            || event.get("done") == Some(&Value::Bool(true));
        if is_stopped && !self.is_over {
            self.finish(out);
        }
    }

    /// The site can run two answers side by side: ours is the first (A5).
    fn is_of_another_answer(&mut self, event: &Value) -> bool {
        if event
            .get("response_index")
            .and_then(Value::as_u64)
            .is_some_and(|index| index != 0)
        {
            return true;
        }
        match (text(event, "response_id"), &self.response_id) {
            (Some(id), Some(own)) => id != *own,
            (Some(id), None) => {
                self.response_id = Some(id);
                false
            }
            (None, _) => false,
        }
    }

    /// A whole answer where a stream was asked for (A4).
    fn whole(&mut self, event: &Value, out: &mut Vec<QwenEvent>) -> bool {
        let body = event
            .get("data")
            .filter(|data| data.is_object())
            .unwrap_or(event);
        let Some(message) = body
            .pointer("/choices/0/message/content")
            .and_then(Value::as_str)
        else {
            return false;
        };
        // Nothing better is known here than the message's id.
        let id = || text(body, "response_id").or_else(|| text(body, "message_id"));
        self.response_id = self.response_id.take().or_else(id);
        self.count(body.get("usage"), out);
        if !message.is_empty() {
            out.push(QwenEvent::Content(message.to_owned()));
        }
        self.finish(out);
        true
    }

    fn delta(&mut self, delta: &Value, out: &mut Vec<QwenEvent>) {
        let content = delta
            .get("content")
            .and_then(Value::as_str)
            .unwrap_or_default();
        let extra = delta.get("extra").unwrap_or(&Value::Null);
        let status = delta.get("status").and_then(Value::as_str);
        if status == Some("error") {
            let said = text(extra, "error").unwrap_or_else(|| content.to_owned());
            return self.fail(refusal::said(&said), out);
        }
        self.cite(extra.get("web_search_info"), out);
        self.cite(extra.pointer("/tool_result/docs"), out);
        if delta.get("role").and_then(Value::as_str) == Some("function") {
            out.push(QwenEvent::ToolResult);
            return;
        }
        self.natives.take(delta, out);
        let phase = phase(delta.get("phase"));
        match phase {
            Phase::Answer | Phase::Document => {
                push_text(self.content.take(content), QwenEvent::Content, out);
            }
            Phase::Reasoning => {
                push_text(self.reasoning.take(content), QwenEvent::Reasoning, out);
            }
            Phase::Summary => {
                push_text(self.reasoning.take(content), QwenEvent::Reasoning, out);
                let is_over = status == Some("finished");
                push_text(self.summary.take(extra, is_over), QwenEvent::Reasoning, out);
            }
            Phase::Image => self.image(content, out),
            Phase::Aside => {}
        }
        for image in extra
            .get("image_list")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
        {
            let address = image.as_str().map(str::to_owned);
            if let Some(address) = address
                .or_else(|| text(image, "image"))
                .or_else(|| text(image, "url"))
            {
                self.image(&address, out);
            }
        }
        if status == Some("finished") {
            match phase {
                Phase::Answer => self.finish(out),
                Phase::Reasoning => push_text(self.reasoning.end(), QwenEvent::Reasoning, out),
                _ => {}
            }
        }
    }

    fn image(&mut self, address: &str, out: &mut Vec<QwenEvent>) {
        let is_address = address.starts_with("https://") || address.starts_with("http://");
        if is_address && self.told.insert(address.to_owned()) {
            out.push(QwenEvent::Image(address.to_owned()));
        }
    }

    fn cite(&mut self, sources: Option<&Value>, out: &mut Vec<QwenEvent>) {
        let list = sources.and_then(Value::as_array).into_iter().flatten();
        let new: Vec<Citation> = list
            .filter_map(|source| {
                let url = text(source, "url")?;
                let title = text(source, "title").unwrap_or_default();
                self.told
                    .insert(url.clone())
                    .then_some(Citation { url, title })
            })
            .collect();
        if !new.is_empty() {
            out.push(QwenEvent::Citations(new));
        }
    }

    /// Counts are on nearly every event; told are those that changed.
    fn count(&mut self, usage: Option<&Value>, out: &mut Vec<QwenEvent>) {
        let Some(usage) = usage.filter(|usage| usage.is_object()) else {
            return;
        };
        let number = |names: [&str; 2]| names.iter().find_map(|name| usage.get(*name)?.as_u64());
        let detail = |names: [&str; 2], key: &str| {
            names
                .iter()
                .find_map(|name| usage.get(*name)?.get(key)?.as_u64())
        };
        let counts = Usage {
            prompt: number(["input_tokens", "prompt_tokens"]),
            completion: number(["output_tokens", "completion_tokens"]),
            total: number(["total_tokens", "total_tokens"]),
            cached: number(["cached_tokens", "cached_tokens"]).or_else(|| {
                detail(
                    ["input_tokens_details", "prompt_tokens_details"],
                    "cached_tokens",
                )
            }),
            cache_write: None,
            is_estimated: false,
            reasoning: detail(
                ["output_tokens_details", "completion_tokens_details"],
                "reasoning_tokens",
            ),
        };
        if self.usage != Some(counts) {
            self.usage = Some(counts);
            out.push(QwenEvent::Usage(counts));
        }
    }

    fn finish(&mut self, out: &mut Vec<QwenEvent>) {
        push_text(self.reasoning.end(), QwenEvent::Reasoning, out);
        push_text(self.content.end(), QwenEvent::Content, out);
        out.push(QwenEvent::Finished);
        self.is_over = true;
    }

    fn fail(&mut self, refusal: Refusal, out: &mut Vec<QwenEvent>) {
        push_text(self.content.end(), QwenEvent::Content, out);
        out.push(QwenEvent::Failed(refusal));
        self.is_over = true;
    }
}

fn push_text(text: Option<String>, event: fn(String) -> QwenEvent, out: &mut Vec<QwenEvent>) {
    out.extend(text.filter(|text| !text.is_empty()).map(event));
}

fn text(value: &Value, key: &str) -> Option<String> {
    value.get(key)?.as_str().map(str::to_owned)
}

fn phase(phase: Option<&Value>) -> Phase {
    match phase.and_then(Value::as_str) {
        Some("answer") | None => Phase::Answer,
        Some("ReportGeneration" | "slides") => Phase::Document,
        Some("think" | "thinking" | "DeepThinking" | "image_gen_think" | "ResearchPlanning") => {
            Phase::Reasoning
        }
        Some("thinking_summary") => Phase::Summary,
        Some("image_gen" | "image_gen_tool" | "image_edit_tool" | "image_generation") => {
            Phase::Image
        }
        Some(_) => Phase::Aside,
    }
}
