//! Doors for the benches: what they measure is private, and stays so. Compiled for them alone.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::actors::router::plan::Question;
use crate::actors::tree::Handles;
use crate::clock::new_id;
use crate::db::ops::WriteOp;
use crate::db::providers::{ConfigRow, ProviderRow};
use crate::gateway::Gateway;
use crate::limits::upstreams::EVENT_LIMIT;
use crate::protocol::openai::build::{self, CallDelta, Delta, Head};
use crate::protocol::qwen::stream::{QwenEvent, Translator};
use crate::protocol::sse::{self, Reader};
use crate::protocol::tools::declared::Tools;
use crate::protocol::tools::notation::NATIVE_JSON;
use crate::protocol::tools::parser::{Parser, Piece};

/// A few tools as an agent declares them.
fn tools() -> Arc<Tools> {
    let text = json!({"type": "string"});
    let tool = |name: &str, names: &[&str]| {
        let properties: serde_json::Map<_, _> = names
            .iter()
            .map(|name| ((*name).to_owned(), text.clone()))
            .collect();
        json!({"type": "function", "function": {"name": name, "parameters": {"type": "object", "properties": properties}}})
    };
    let declared = json!([
        tool("read", &["filePath"]),
        tool("edit", &["path", "old", "new"]),
        tool("bash", &["command"]),
    ]);
    Arc::new(Tools::read(Some(&declared)))
}

/// Reads `text` in pieces of `size` bytes, as a model's answer; returns how many calls were in it.
pub fn parse_tools(text: &str, size: usize) -> usize {
    let mut parser = Parser::new(tools(), &NATIVE_JSON);
    let mut calls = 0;
    let mut count = |pieces: Vec<Piece>| {
        calls += pieces
            .iter()
            .filter(|piece| matches!(piece, Piece::Call(_)))
            .count();
    };
    let mut rest = text;
    while !rest.is_empty() {
        let mut at = size.min(rest.len());
        while !rest.is_char_boundary(at) {
            at += 1;
        }
        let (head, tail) = rest.split_at(at);
        count(parser.push(head));
        rest = tail;
    }
    count(parser.finish());
    calls
}

/// Translates a stream of the site event by event into chunks; returns how long each event took.
pub fn translate(stream: &[u8]) -> Vec<Duration> {
    let mut reader = Reader::new(EVENT_LIMIT);
    let mut translator = Translator::new();
    let mut parser = Parser::new(tools(), &NATIVE_JSON);
    let head = Head {
        id: "chatcmpl-0".into(),
        model: "qwen3-max".into(),
        created: 0,
    };
    let mut took = Vec::new();
    for event in stream.split_inclusive(|byte| *byte == b'\n') {
        let begun = Instant::now();
        let frames = reader.push(event).unwrap_or_default();
        let mut written = 0;
        for event in frames.into_iter().filter_map(|frame| frame.event) {
            for event in translator.push(&event.data) {
                let deltas = match event {
                    QwenEvent::Content(text) => parser.push(&text).into_iter().map(delta).collect(),
                    QwenEvent::Reasoning(text) => vec![Delta::reasoning(text)],
                    _ => Vec::new(),
                };
                for delta in deltas {
                    written += sse::data(&build::chunk(&head, &delta, None)).len();
                }
            }
        }
        if written > 0 {
            took.push(begun.elapsed());
        }
    }
    took
}

fn delta(piece: Piece) -> Delta {
    match piece {
        Piece::Text(text) | Piece::Unreadable { raw: text, .. } => Delta::content(text),
        Piece::Call(call) => Delta::call(CallDelta::arguments(0, call.arguments)),
    }
}

/// Fills a data directory with `count` made-up exchanges of the last month.
pub fn generate_history(data_dir: &std::path::Path, count: i64) -> Result<(), String> {
    std::fs::create_dir_all(data_dir).map_err(|error| error.to_string())?;
    let month = 720 * 3_600_000;
    let file = data_dir.join(crate::db::instance::DATABASE);
    crate::db::generated::fill(&file, count, crate::clock::now_ms() - month)
        .map_err(|error| error.to_string())
}

/// A gateway's router with `providers` providers of `each` models, asked for plans as a request asks it.
pub struct Routes {
    handles: Handles,
}

/// The one model that every provider has.
pub const EVERYWHERE: &str = "everywhere";

impl Routes {
    /// Stores the providers and models, and waits until they are in force.
    pub async fn fill(
        gateway: &Gateway,
        providers: usize,
        each: usize,
    ) -> Result<Self, anyhow::Error> {
        let handles = gateway.handles().clone();
        let at = crate::clock::now_ms();
        let ids: Vec<String> = (0..providers).map(|at| format!("p{at:03}")).collect();
        for (rank, id) in (0..).zip(&ids) {
            let provider = ProviderRow {
                id: id.clone(),
                name: id.clone(),
                kind: "openai-compatible".into(),
                enabled: true,
                priority: rank,
                description: None,
                origin: "user".into(),
                auto_enable: false,
                created_at: at,
                updated_at: at,
            };
            let address = ConfigRow {
                key: "baseURL".into(),
                value: json!("http://127.0.0.1:9/v1"),
                is_sensitive: false,
                sealed: false,
            };
            let operation = WriteOp::CreateProvider {
                provider,
                config: vec![address],
                operation: new_id(),
            };
            handles.database.write(operation).await?;
            let operation = WriteOp::OfferModels {
                provider: id.clone(),
                models: (1..each)
                    .map(|model| format!("{id}-model-{model}"))
                    .chain([EVERYWHERE.to_owned()])
                    .collect(),
                at,
                operation: new_id(),
            };
            handles.database.write(operation).await?;
        }
        handles.router.refresh().await?;
        Ok(Self { handles })
    }

    /// How many targets the plan for `model` has.
    pub async fn plan(&self, model: &str) -> Result<usize, anyhow::Error> {
        let question = Question {
            model: Some(model.to_owned()),
            ..Question::default()
        };
        Ok(self.handles.router.plan(question).await??.targets.len())
    }

    /// Reads the providers and models anew.
    pub async fn refresh(&self) -> Result<(), anyhow::Error> {
        Ok(self.handles.router.refresh().await?)
    }

    /// Kills the router from inside.
    pub fn crash(&self) -> bool {
        self.handles.supervision.crash("router")
    }
}
