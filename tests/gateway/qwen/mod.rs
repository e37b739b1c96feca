//! Port 3000: the user's own login at the Qwen web chat, played by a site that checks what it is sent.

mod answers;
mod broken;
mod conversations;
mod interception;
mod logins;
mod oauth;
mod repeats;
mod tools;

use serde_json::{Value, json};

use crate::support::site::{Site, Turn, jwt};
use crate::support::{Heard, TestGateway, hear};

/// Far in the future (Unix seconds).
const LATER: u64 = 4_000_000_000;

/// A gateway in front of `site`, with the login of `user`.
async fn logged_in(site: &Site, user: &str) -> TestGateway {
    let gateway = at(site, &[]).await;
    log_in(&gateway, "default", user).await;
    gateway
}

async fn at(site: &Site, settings: &[(&str, Value)]) -> TestGateway {
    let mut all = vec![("qwen.baseUrl", json!(site.upstream.origin()))];
    all.extend(settings.iter().cloned());
    TestGateway::with(&all).await
}

pub async fn log_in(gateway: &TestGateway, label: &str, user: &str) -> Value {
    let token = jwt(user, LATER);
    let body =
        json!({"label": label, "token": token, "cookies": format!("token={token}; acw_tc=a")});
    let response = gateway
        .post(&gateway.api("/api/qwen/credentials"), &body)
        .await;
    assert_eq!(response.status(), 200);
    response.json().await.expect("JSON")
}

async fn ask(gateway: &TestGateway, body: &Value) -> reqwest::Response {
    gateway
        .post(&gateway.qwen("/v1/chat/completions"), body)
        .await
}

/// A whole answer's message.
async fn answer(gateway: &TestGateway, body: &Value) -> Value {
    let response = ask(gateway, body).await;
    let status = response.status();
    let body: Value = response.json().await.expect("JSON");
    assert_eq!(status, 200, "{body}");
    body["choices"][0]["message"].clone()
}

/// A streamed answer: its text, and all its chunks.
async fn streamed(gateway: &TestGateway, mut body: Value) -> (Heard, Vec<Value>) {
    body["stream"] = true.into();
    let response = ask(gateway, &body).await;
    let status = response.status();
    let text = response.text().await.expect("a body");
    assert_eq!(status, 200, "{text}");
    let chunks = text
        .lines()
        .filter_map(|line| line.strip_prefix("data: "))
        .filter_map(|data| serde_json::from_str(data).ok())
        .collect();
    (hear(&text), chunks)
}

fn reasoning(chunks: &[Value]) -> String {
    chunks
        .iter()
        .filter_map(|chunk| chunk["choices"][0]["delta"]["reasoning_content"].as_str())
        .collect()
}

/// Names and arguments of the calls in a stream, put together by index.
fn calls(chunks: &[Value]) -> Vec<(String, Value)> {
    let mut calls: Vec<(String, String)> = Vec::new();
    for delta in chunks
        .iter()
        .filter_map(|chunk| chunk["choices"][0]["delta"]["tool_calls"].as_array())
        .flatten()
    {
        let index = usize::try_from(delta["index"].as_u64().expect("an index")).expect("small");
        if index == calls.len() {
            assert!(delta["id"].is_string() && delta["type"] == "function");
            let name = delta["function"]["name"].as_str().expect("a name");
            calls.push((name.to_owned(), String::new()));
        }
        calls[index]
            .1
            .push_str(delta["function"]["arguments"].as_str().unwrap_or_default());
    }
    calls
        .into_iter()
        .map(|(name, arguments)| {
            let parsed = serde_json::from_str(&arguments).expect("arguments are JSON");
            (name, parsed)
        })
        .collect()
}

fn user(text: &str) -> Value {
    json!({"role": "user", "content": text})
}

fn chat(messages: &[Value]) -> Value {
    json!({"model": "qwen3-max", "messages": messages})
}

/// The tools of the fixtures.
fn tools() -> Value {
    let tool = |name: &str, properties: Value, required: Value| {
        json!({"type": "function", "function": {"name": name, "description": format!("Use {name}."),
            "parameters": {"type": "object", "properties": properties, "required": required}}})
    };
    json!([
        tool(
            "read",
            json!({"filePath": {"type": "string"}, "offset": {"type": "integer"}}),
            json!(["filePath"])
        ),
        tool(
            "write",
            json!({"filePath": {"type": "string"}, "content": {"type": "string"}, "count": {"type": "integer"}}),
            json!(["filePath", "content"])
        ),
        tool(
            "edit",
            json!({"path": {"type": "string"}, "old": {"type": "string"}, "new": {"type": "string"}}),
            json!(["path"])
        ),
        tool(
            "bash",
            json!({"command": {"type": "string"}}),
            json!(["command"])
        ),
    ])
}

fn with_tools(messages: &[Value]) -> Value {
    json!({"model": "qwen3-max", "messages": messages, "tools": tools()})
}

/// The last line of what a turn said.
fn last_line(turn: &Turn) -> String {
    turn.content.lines().last().unwrap_or_default().to_owned()
}

pub fn assert_clean(site: &Site) {
    assert_eq!(site.faults(), Vec::<String>::new());
}
