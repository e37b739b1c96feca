//! The upstreams of the matrix: each plays every scenario in its own dialect.

use serde_json::{Value, json};

use super::clients::Client;
use super::{IMAGE, Scenario, TEXT, THOUGHT, calls};
use crate::qwen::log_in;
use crate::support::site::{Play, Site};
use crate::support::upstream::{DONE, Step, Upstream, finish, json_answer, sse_head, usage};
use crate::support::{TestGateway, free_port};

/// How an upstream speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Provider {
    OpenAi,
    Anthropic,
    Qwen,
}

pub const PROVIDERS: [Provider; 3] = [Provider::OpenAi, Provider::Anthropic, Provider::Qwen];

/// A gateway in front of such an upstream.
pub struct Played {
    pub gateway: TestGateway,
    client: Client,
    provider: Provider,
    scenario: Scenario,
    upstream: Option<Upstream>,
    site: Option<Site>,
}

impl Played {
    pub async fn start(client: Client, provider: Provider, scenario: Scenario) -> Self {
        let mut settings = Vec::new();
        if client == Client::Ollama {
            settings.push(("ollama.port", json!(free_port())));
        }
        if provider == Provider::Qwen {
            let site = Site::start(move |_| qwen(scenario)).await;
            settings.push(("qwen.baseUrl", json!(site.upstream.origin())));
            let gateway = TestGateway::with(&settings).await;
            log_in(&gateway, "default", "user").await;
            let web = json!({"id": "web", "name": "web", "type": "qwen-direct", "config": {}});
            let made = gateway.post(&gateway.api("/api/providers"), &web).await;
            assert_eq!(made.status(), 201);
            return Self {
                gateway,
                client,
                provider,
                scenario,
                upstream: None,
                site: Some(site),
            };
        }
        let gateway = TestGateway::with(&settings).await;
        let upstream = Upstream::start(move |_| match provider {
            Provider::Anthropic => anthropic(scenario),
            _ => openai(scenario),
        })
        .await;
        let kind = match provider {
            Provider::Anthropic => "anthropic-compatible",
            _ => "openai-compatible",
        };
        let body = json!({"id": "up", "name": "up", "type": kind,
                          "config": {"baseURL": upstream.base_url(), "apiKey": "sk-upstream"}});
        let response = gateway.post(&gateway.api("/api/providers"), &body).await;
        assert_eq!(response.status(), 201);
        Self {
            gateway,
            client,
            provider,
            scenario,
            upstream: Some(upstream),
            site: None,
        }
    }

    pub fn model(&self) -> &'static str {
        match (self.provider, self.client) {
            // Ollama's port reaches what the router's does, of which the web chat is one provider.
            (Provider::Qwen, Client::Ollama) => "web/qwen3-max",
            (Provider::Qwen, _) => "qwen3-max",
            _ => "up/fake",
        }
    }

    pub fn url(&self, path: &str) -> String {
        match (self.client, self.provider) {
            (Client::Ollama, _) => self.gateway.ollama(path),
            (_, Provider::Qwen) => self.gateway.qwen(path),
            _ => self.gateway.router(path),
        }
    }

    pub fn upstream(&self) -> &Upstream {
        let site = self.site.as_ref().map(|site| &site.upstream);
        site.or(self.upstream.as_ref()).expect("one of the two")
    }

    /// The body of the completion as the upstream got it, without what differs from run to run.
    pub fn asked(&self) -> Value {
        if let Some(site) = &self.site {
            let turns = site.turns();
            let body = &turns.first().expect("a turn").body;
            let message = &body["messages"][0];
            return json!({
                "content": message["content"], "chat_type": message["chat_type"],
                "thinks": message["feature_config"]["thinking_enabled"],
                "files": message["files"].as_array().map_or(0, Vec::len),
            });
        }
        let asked = self.upstream().asked();
        let first = asked.first().expect("a completion");
        let path = first.path.clone();
        json!({"path": path, "body": first.json()})
    }

    /// What the model was told, as text.
    pub fn seen(&self) -> String {
        if let Some(site) = &self.site {
            return site.turns().first().expect("a turn").content.clone();
        }
        let asked = self.upstream().asked();
        String::from_utf8_lossy(&asked.first().expect("a completion").body).into_owned()
    }

    /// The upstream got what it needs.
    pub fn check(&self, name: &str) {
        if let Some(site) = &self.site {
            assert_eq!(site.faults(), Vec::<String>::new(), "{name}");
            if self.scenario == Scenario::Image {
                assert_eq!(site.uploads().len(), 1, "{name}");
            }
            return;
        }
        let asked = self.upstream().asked();
        assert_eq!(asked.len(), 1, "{name}: one attempt");
        let text = String::from_utf8_lossy(&asked[0].body).into_owned();
        if self.scenario == Scenario::Image {
            assert!(text.contains(IMAGE), "{name}: the image arrives");
        }
        if self.scenario.has_tools() {
            assert!(text.contains("filePath"), "{name}: the tools arrive");
        }
        let key = match self.provider {
            Provider::Anthropic => asked[0].header("x-api-key"),
            _ => asked[0]
                .header("authorization")
                .and_then(|value| value.strip_prefix("Bearer ")),
        };
        assert_eq!(key, Some("sk-upstream"), "{name}");
    }
}

fn openai(scenario: Scenario) -> Vec<Step> {
    let chunk = |delta: Value| {
        let chunk = json!({"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "fake",
            "choices": [{"index": 0, "delta": delta, "finish_reason": null}]});
        Step::Chunk(format!("data: {chunk}\n\n").into_bytes())
    };
    let says = |text: &str| -> Vec<Step> {
        text.split_inclusive(' ')
            .map(|word| chunk(json!({"content": word})))
            .collect()
    };
    let mut steps = vec![
        sse_head(),
        chunk(json!({"role": "assistant", "content": ""})),
    ];
    let reason = match scenario {
        Scenario::Error => {
            let error = json!({"error": {"message": "the key is not valid", "type": "invalid_request_error", "code": "invalid_api_key"}});
            return vec![json_answer(401, &error)];
        }
        Scenario::Plain | Scenario::Image => {
            let message = json!({"role": "assistant", "content": TEXT});
            return vec![json_answer(
                200,
                &json!({"id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "fake",
                "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
                "usage": {"prompt_tokens": 7, "completion_tokens": 4, "total_tokens": 11}}),
            )];
        }
        Scenario::Cut => {
            steps.extend(says("Hello from "));
            steps.push(Step::Close);
            return steps;
        }
        Scenario::Cancel => {
            steps.extend(says("Hello "));
            steps.push(Step::Hang);
            return steps;
        }
        Scenario::Tools | Scenario::Parallel => {
            steps.extend(says("I look."));
            for (index, (name, input)) in calls(scenario).into_iter().enumerate() {
                let function = json!({"name": name, "arguments": ""});
                steps.push(chunk(json!({"tool_calls": [{"index": index, "id": format!("call_{index}"), "type": "function", "function": function}]})));
                let text = input.to_string();
                let (start, end) = text.split_at(5);
                for piece in [start, end] {
                    steps.push(chunk(
                        json!({"tool_calls": [{"index": index, "function": {"arguments": piece}}]}),
                    ));
                }
            }
            "tool_calls"
        }
        Scenario::Thinking => {
            steps.extend(
                THOUGHT
                    .split_inclusive(' ')
                    .map(|word| chunk(json!({"reasoning_content": word}))),
            );
            steps.extend(says(TEXT));
            "stop"
        }
        Scenario::Stream => {
            steps.extend(says(TEXT));
            "stop"
        }
    };
    steps.push(Step::Chunk(finish(reason).into_bytes()));
    steps.push(Step::Chunk(usage(7, 4).into_bytes()));
    steps.push(Step::Chunk(DONE.into()));
    steps.push(Step::End);
    steps
}

fn anthropic(scenario: Scenario) -> Vec<Step> {
    let event = |data: Value| {
        let name = data["type"].as_str().expect("a type").to_owned();
        Step::Chunk(format!("event: {name}\ndata: {data}\n\n").into_bytes())
    };
    let usage = json!({"input_tokens": 5, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 2, "output_tokens": 4});
    let mut blocks = Vec::new();
    if scenario == Scenario::Thinking {
        blocks.push(json!({"type": "thinking", "thinking": THOUGHT, "signature": "c2lnbmVk"}));
    }
    let text = match scenario {
        Scenario::Tools | Scenario::Parallel => "I look.",
        Scenario::Cut => "Hello from ",
        Scenario::Cancel => "Hello ",
        _ => TEXT,
    };
    blocks.push(json!({"type": "text", "text": text}));
    for (index, (name, input)) in calls(scenario).into_iter().enumerate() {
        blocks.push(json!({"type": "tool_use", "id": format!("toolu_{index}"), "name": name, "input": input}));
    }
    let stop = if scenario.has_tools() {
        "tool_use"
    } else {
        "end_turn"
    };
    let message = json!({"id": "msg_1", "type": "message", "role": "assistant", "model": "fake", "content": blocks,
                         "stop_reason": stop, "stop_sequence": null, "usage": usage});
    match scenario {
        Scenario::Error => {
            let error = json!({"type": "error", "error": {"type": "authentication_error", "message": "the key is not valid"}});
            return vec![json_answer(401, &error)];
        }
        Scenario::Plain | Scenario::Image => return vec![json_answer(200, &message)],
        _ => {}
    }
    let mut head = message.clone();
    head["content"] = json!([]);
    head["stop_reason"] = Value::Null;
    head["usage"]["output_tokens"] = json!(1);
    let mut steps = vec![
        sse_head(),
        event(json!({"type": "message_start", "message": head})),
    ];
    for (index, block) in blocks.iter().enumerate() {
        let mut start = block.clone();
        let mut deltas = Vec::new();
        let words = |name: &str| -> Vec<String> {
            let text = block[name].as_str().unwrap_or_default();
            text.split_inclusive(' ').map(str::to_owned).collect()
        };
        for word in words("thinking") {
            deltas.push(json!({"type": "thinking_delta", "thinking": word}));
            start["thinking"] = json!("");
        }
        for word in words("text") {
            deltas.push(json!({"type": "text_delta", "text": word}));
            start["text"] = json!("");
        }
        if block["type"] == "thinking" {
            deltas.push(json!({"type": "signature_delta", "signature": block["signature"]}));
            start["signature"] = json!("");
        }
        if block["type"] == "tool_use" {
            let text = block["input"].to_string();
            let (beginning, end) = text.split_at(5);
            for piece in ["", beginning, end] {
                deltas.push(json!({"type": "input_json_delta", "partial_json": piece}));
            }
            start["input"] = json!({});
        }
        steps.push(event(
            json!({"type": "content_block_start", "index": index, "content_block": start}),
        ));
        steps.extend(deltas.into_iter().map(|delta| {
            event(json!({"type": "content_block_delta", "index": index, "delta": delta}))
        }));
        match scenario {
            Scenario::Cut => steps.push(Step::Close),
            Scenario::Cancel => steps.push(Step::Hang),
            _ => steps.push(event(json!({"type": "content_block_stop", "index": index}))),
        }
    }
    steps.push(event(json!({"type": "ping"})));
    steps.push(event(
        json!({"type": "message_delta", "delta": {"stop_reason": stop, "stop_sequence": null},
                            "usage": {"output_tokens": 4}}),
    ));
    steps.push(event(json!({"type": "message_stop"})));
    steps.push(Step::End);
    steps
}

fn qwen(scenario: Scenario) -> Play {
    let pieces =
        |text: &str| -> Vec<String> { text.split_inclusive(' ').map(str::to_owned).collect() };
    let begun = |text: &str| {
        let data = crate::support::site::phase("answer", text, "typing");
        let mut steps = vec![sse_head()];
        steps.push(Step::Chunk(format!("data: {data}\n\n").into_bytes()));
        steps
    };
    match scenario {
        Scenario::Error => Play::refusal(401, "unauthorized.json"),
        Scenario::Cut => {
            let mut steps = begun("Hello from ");
            steps.push(Step::Close);
            Play::Steps(steps)
        }
        Scenario::Cancel => {
            let mut steps = begun("Hello ");
            steps.push(Step::Hang);
            Play::Steps(steps)
        }
        Scenario::Thinking => Play::Thinks(pieces(THOUGHT), pieces(TEXT)),
        Scenario::Tools | Scenario::Parallel => {
            let calls = calls(scenario).into_iter().map(|(name, input)| {
                let call = json!({"name": name, "arguments": input});
                format!("<tool_call>\n{call}\n</tool_call>\n")
            });
            Play::Says(pieces(&format!("I look.\n{}", calls.collect::<String>())))
        }
        _ => Play::says(TEXT),
    }
}
