//! Every client dialect over every provider dialect: what the upstream is asked, and what the client hears.
//!
//! Each cell of the matrix asserts content, order, usage and end, and is compared with its file in `tests/golden/dialects`.
//! `UPDATE_GOLDEN=1` writes the files anew; what changes in them is to be read like code.

mod clients;
mod providers;
mod recorded;

use std::path::PathBuf;
use std::time::Duration;

use futures_util::StreamExt;
use serde_json::{Value, json};

use self::clients::{CLIENTS, Client, Transcript};
use self::providers::{PROVIDERS, Played, Provider};

/// What happens in a cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scenario {
    Plain,
    Stream,
    Tools,
    Parallel,
    Thinking,
    Image,
    Error,
    Cut,
    Cancel,
}

impl Scenario {
    const ALL: [Self; 9] = [
        Self::Plain,
        Self::Stream,
        Self::Tools,
        Self::Parallel,
        Self::Thinking,
        Self::Image,
        Self::Error,
        Self::Cut,
        Self::Cancel,
    ];

    fn name(self) -> String {
        format!("{self:?}").to_lowercase()
    }

    pub fn streams(self) -> bool {
        !matches!(self, Self::Plain | Self::Image | Self::Error)
    }

    pub fn has_tools(self) -> bool {
        matches!(self, Self::Tools | Self::Parallel)
    }
}

pub const TEXT: &str = "Hello from the model.";
pub const THOUGHT: &str = "Let me think about it.";
/// The pixel that the image scenario sends.
pub const IMAGE: &str = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==";

/// The calls of the scenarios with tools.
pub fn calls(scenario: Scenario) -> Vec<(&'static str, Value)> {
    let all = vec![
        ("read", json!({"filePath": "/a \"b\".txt"})),
        ("bash", json!({"command": "ls {x,y}"})),
    ];
    let count = match scenario {
        Scenario::Tools => 1,
        Scenario::Parallel => 2,
        _ => 0,
    };
    all.into_iter().take(count).collect()
}

async fn cell(client: Client, provider: Provider, scenario: Scenario) {
    let name = format!("{client:?}-{provider:?}-{}", scenario.name()).to_lowercase();
    let played = Played::start(client, provider, scenario).await;
    let (path, body) = client.request(played.model(), scenario);
    let asked = played.gateway.client.post(played.url(path)).json(&body);
    let response = asked.send().await.expect("the gateway answers");
    let status = response.status().as_u16();
    let should_retry = response
        .headers()
        .get("x-should-retry")
        .map(|value| value.to_str().expect("text").to_owned());
    if scenario == Scenario::Cancel {
        assert_eq!(status, 200, "{name}");
        let mut heard = response.bytes_stream();
        let mut so_far = Vec::new();
        while !String::from_utf8_lossy(&so_far).contains("Hello") {
            so_far.extend_from_slice(&heard.next().await.expect("more").expect("bytes"));
        }
        drop(heard);
        played.upstream().hung_up(Duration::from_secs(1)).await;
        played.check(&name);
        compare(&name, json!({"asked": played.asked(), "status": status}));
        return;
    }
    let text = response.text().await.expect("the body ends in order");
    let transcript = if scenario.streams() {
        client.streamed(&text)
    } else {
        client.whole(status, &text)
    };
    check(
        &name,
        scenario,
        status,
        should_retry.as_deref(),
        &transcript,
    );
    played.check(&name);
    let seen = json!({"asked": played.asked(), "status": status, "heard": transcript.to_json()});
    compare(&name, seen);
}

/// What holds for a scenario in whatever dialect.
fn check(
    name: &str,
    scenario: Scenario,
    status: u16,
    should_retry: Option<&str>,
    heard: &Transcript,
) {
    match scenario {
        Scenario::Error => {
            assert!(status >= 400, "{name}: {status}");
            assert_eq!(should_retry, Some("false"), "{name}: no retry mends it");
            assert_eq!(heard.errors.len(), 1, "{name}: {heard:?}");
            assert!(heard.text.is_empty(), "{name}");
            return;
        }
        Scenario::Cut => {
            assert_eq!(
                (status, heard.text.as_str()),
                (200, "Hello from "),
                "{name}"
            );
            assert_eq!(
                heard.errors.len(),
                1,
                "{name}: exactly one error: {heard:?}"
            );
            assert_eq!(heard.end, None, "{name}: no end is made up");
            return;
        }
        _ => {}
    }
    assert_eq!((status, heard.errors.len()), (200, 0), "{name}: {heard:?}");
    let expected = calls(scenario);
    let named: Vec<(&str, &Value)> = heard
        .calls
        .iter()
        .map(|(name, input)| (name.as_str(), input))
        .collect();
    let due: Vec<(&str, &Value)> = expected
        .iter()
        .map(|(name, input)| (*name, input))
        .collect();
    assert_eq!(named, due, "{name}");
    let end = if expected.is_empty() { "stop" } else { "calls" };
    assert_eq!(heard.end.as_deref(), Some(end), "{name}");
    let text = if expected.is_empty() { TEXT } else { "I look." };
    assert_eq!(heard.text.trim_end(), text, "{name}");
    let thought = if scenario == Scenario::Thinking {
        THOUGHT
    } else {
        ""
    };
    assert_eq!(heard.thought, thought, "{name}");
    assert!(heard.usage.0 > 0 && heard.usage.1 > 0, "{name}: {heard:?}");
    // Thoughts, text, calls: in the order they were made.
    let mut order = heard.order.clone();
    order.dedup();
    let due: Vec<&str> = [
        (scenario == Scenario::Thinking, "thought"),
        (true, "text"),
        (!expected.is_empty(), "call"),
    ]
    .into_iter()
    .filter_map(|(is_due, kind)| is_due.then_some(kind))
    .collect();
    assert_eq!(order, due, "{name}");
}

fn compare(name: &str, seen: Value) {
    let mut seen = seen;
    // So that a file changes only with what it says.
    seen.sort_all_objects();
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join(format!("tests/golden/dialects/{name}.json"));
    let seen = format!("{seen:#}\n");
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, &seen).expect("written");
        return;
    }
    let kept = std::fs::read_to_string(&path)
        .unwrap_or_else(|error| panic!("{}: {error}; UPDATE_GOLDEN=1 writes it", path.display()));
    assert_eq!(
        seen, kept,
        "{name}: if this is right now, write it with UPDATE_GOLDEN=1"
    );
}

async fn row(provider: Provider) {
    for client in CLIENTS {
        for scenario in Scenario::ALL {
            cell(client, provider, scenario).await;
        }
    }
}

#[tokio::test]
async fn every_client_over_openais_chat_completions() {
    row(PROVIDERS[0]).await;
}

#[tokio::test]
async fn every_client_over_anthropics_messages() {
    row(PROVIDERS[1]).await;
}

#[tokio::test]
async fn every_client_over_qwens_web_chat() {
    row(PROVIDERS[2]).await;
}

/// Puts properties into every schema of `body` that has `filePath`, in an order that is not the alphabet's.
fn disorder(body: &mut Value) {
    match body {
        Value::Array(items) => items.iter_mut().for_each(disorder),
        Value::Object(members) => {
            if members.contains_key("filePath") {
                for name in ["zeta", "alpha", "mid"] {
                    let schema = json!({"type": "string", "description": format!("The {name}.")});
                    members.insert(name.to_owned(), schema);
                }
            }
            members.values_mut().for_each(disorder);
        }
        _ => {}
    }
}

#[tokio::test]
async fn models_see_the_properties_of_a_schema_in_the_order_they_were_written() {
    for client in CLIENTS {
        for provider in PROVIDERS {
            let played = Played::start(client, provider, Scenario::Tools).await;
            let (path, mut body) = client.request(played.model(), Scenario::Tools);
            disorder(&mut body);
            let response = played.gateway.post(&played.url(path), &body).await;
            assert_eq!(response.status(), 200, "{client:?} {provider:?}");
            response.text().await.expect("the body ends in order");
            let seen = played.seen();
            let places: Vec<Option<usize>> = ["filePath", "zeta", "alpha", "mid"]
                .iter()
                .map(|name| seen.find(name))
                .collect();
            assert!(
                places.iter().all(Option::is_some) && places.is_sorted(),
                "{client:?} {provider:?}: {places:?} in {seen}"
            );
            played.gateway.stop().await;
        }
    }
}

#[tokio::test]
async fn the_first_event_counts_an_image_as_one_and_not_as_text() {
    let played = Played::start(Client::Messages, PROVIDERS[0], Scenario::Stream).await;
    let first = |image: usize| {
        let source =
            json!({"type": "base64", "media_type": "image/png", "data": "A".repeat(image)});
        let content =
            json!([{"type": "text", "text": "What is this?"}, {"type": "image", "source": source}]);
        let body = json!({"model": played.model(), "max_tokens": 9, "stream": true,
            "messages": [{"role": "user", "content": content}]});
        let (gateway, url) = (&played.gateway, played.url("/v1/messages"));
        async move {
            let told = gateway.post(&url, &body).await.text().await;
            let told = told.expect("the body ends in order");
            let data = told.lines().find_map(|line| line.strip_prefix("data: "));
            let event: Value = serde_json::from_str(data.expect("an event")).expect("JSON");
            assert_eq!(event["type"], "message_start");
            event["message"]["usage"]["input_tokens"]
                .as_u64()
                .expect("a count")
        }
    };
    let (small, large) = (first(64).await, first(400_000).await);
    assert_eq!(small, large, "however many bytes it has");
    assert!((1_000..1_200).contains(&small), "{small}");
    played.gateway.stop().await;
}

#[tokio::test]
async fn a_request_reaches_a_provider_of_its_dialect_byte_for_byte() {
    let played = Played::start(Client::Messages, PROVIDERS[1], Scenario::Plain).await;
    let body = r#"{ "max_tokens":9, "model":"up/fake", "messages":[{"role":"user","content":[{"type":"text","text":"hi","cache_control":{"type":"ephemeral"}}]}], "a_new_member": {"z":1, "a":2} }"#;
    let response = played
        .gateway
        .client
        .post(played.url("/v1/messages"))
        .header("content-type", "application/json")
        .header("anthropic-beta", "one,two")
        .body(body)
        .send()
        .await
        .expect("the gateway answers");
    assert_eq!(response.status(), 200);
    let asked = &played.upstream().asked()[0];
    assert_eq!(
        String::from_utf8_lossy(&asked.body),
        body.replace("up/fake", "fake")
    );
    assert_eq!(asked.header("anthropic-beta"), Some("one,two"));
}
