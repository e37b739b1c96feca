//! Exchanges of every dialect on tape: what the client sent and what it got, and the same once more.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::Scenario;
use super::clients::{CLIENTS, Client};
use super::providers::{PROVIDERS, Played, Provider};

const SCENARIOS: [Scenario; 4] = [
    Scenario::Plain,
    Scenario::Parallel,
    Scenario::Thinking,
    Scenario::Cut,
];

/// Asks for a recording; its id, and what the client got.
async fn recorded(played: &Played, path: &str, body: &Value) -> (String, String) {
    let asked = played
        .gateway
        .client
        .post(played.url(path))
        .header("x-qwarden-record", "true")
        .header("anthropic-beta", "one,two")
        .json(body);
    let response = asked.send().await.expect("the gateway answers");
    let id = response.headers()["x-request-id"].to_str().expect("text");
    (
        id.to_owned(),
        response.text().await.expect("the body ends in order"),
    )
}

async fn replayed(played: &Played, id: &str, what: &str) -> Value {
    let url = played.gateway.api(&format!("/api/requests/{id}/{what}"));
    let response = played.gateway.client.post(url).send().await;
    let response = response.expect("the gateway answers");
    let status = response.status();
    let body: Value = response.json().await.expect("JSON");
    assert_eq!(status, 200, "{body}");
    body
}

fn client_bytes(document: &Value) -> String {
    let chunks = document["client"]["chunks"].as_array().expect("chunks");
    let bytes = chunks.iter().flat_map(|chunk| {
        let data = chunk["data"].as_str().expect("base64");
        STANDARD.decode(data).expect("base64")
    });
    String::from_utf8(bytes.collect()).expect("text")
}

/// Lines without what the clock says.
fn timeless(text: &str) -> Vec<Value> {
    let lines = text.lines().map(|line| {
        let mut line: Value = serde_json::from_str(line).expect("JSON");
        let members = line.as_object_mut().expect("an object");
        members.retain(|key, _| key != "created_at" && !key.ends_with("_duration"));
        line
    });
    lines.collect()
}

async fn cell(client: Client, provider: Provider, scenario: Scenario) {
    let name = format!("{client:?}-{provider:?}-{scenario:?}");
    let played = Played::start(client, provider, scenario).await;
    let (path, body) = client.request(played.model(), scenario);
    let (id, heard) = recorded(&played, path, &body).await;
    let url = played.gateway.api(&format!("/api/requests/{id}/recording"));
    let (status, document) = played.gateway.get(&url).await;
    assert_eq!(status, 200, "{name}: {document}");
    if client == Client::Chat {
        assert_eq!(document.get("original"), None, "{name}");
        assert_eq!(document["request"], body, "{name}");
    } else {
        assert_eq!(document["original"]["body"], body, "{name}");
        assert_eq!(document["path"], path, "{name}");
        assert!(document["request"]["messages"].is_array(), "{name}");
    }
    let told = client_bytes(&document);
    if client == Client::Ollama {
        assert_eq!(timeless(&told), timeless(&heard), "{name}");
    } else {
        assert_eq!(told, heard, "{name}: to the byte");
    }
    let compared = replayed(&played, &id, "recording/replay").await;
    assert_eq!(compared["is_equal"], true, "{name}: {compared}");
    assert_ne!(compared["equal"], 0, "{name}: {compared}");
    played.gateway.stop().await;
}

async fn row(provider: Provider) {
    for client in CLIENTS {
        for scenario in SCENARIOS {
            cell(client, provider, scenario).await;
        }
    }
}

#[tokio::test]
async fn every_dialect_is_recorded_over_openai() {
    row(PROVIDERS[0]).await;
}

#[tokio::test]
async fn every_dialect_is_recorded_over_anthropic() {
    row(PROVIDERS[1]).await;
}

#[tokio::test]
async fn every_dialect_is_recorded_over_qwen() {
    row(PROVIDERS[2]).await;
}

#[tokio::test]
async fn what_was_recorded_is_sent_again_as_it_came() {
    let played = Played::start(Client::Messages, PROVIDERS[1], Scenario::Plain).await;
    let (path, mut body) = Client::Messages.request(played.model(), Scenario::Plain);
    body["a_new_member"] = json!({"z": 1, "a": 2});
    let (id, _) = recorded(&played, path, &body).await;
    let repeated = replayed(&played, &id, "replay").await;
    let text = &repeated["response"]["choices"][0]["message"]["content"];
    assert_eq!(text, super::TEXT, "{repeated}");
    let asked = played.upstream().asked();
    let [first, second] = &asked[..] else {
        panic!("{} requests", asked.len())
    };
    assert_eq!(second.path, "/v1/messages");
    assert_eq!(second.header("anthropic-beta"), Some("one,two"));
    let mut expected = first.json();
    expected["stream"] = json!(false);
    assert_eq!(second.json(), expected);
    assert_eq!(second.json()["system"], body["system"], "with its marks");
    // A client that is told something else than then is told so.
    let url = played.gateway.api(&format!("/api/requests/{id}/recording"));
    let (_, mut document) = played.gateway.get(&url).await;
    let other = client_bytes(&document).replace("Hello", "Howdy");
    document["client"]["chunks"] = json!([{"at_ms": 0, "data": STANDARD.encode(other)}]);
    let (code, told) = crate::recordings::replay_document(&document);
    assert_eq!((code, &told["changed"]), (Some(1), &json!(1)), "{told}");
    assert!(
        told["events"][0]["now"]
            .as_str()
            .is_some_and(|now| now.contains("\"type\":\"message\"")),
        "in the client's dialect: {told}"
    );
    played.gateway.stop().await;
}
