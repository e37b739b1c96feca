//! Claude Code asks the turn of a stream that broke once more, without `stream` (client-behaviour.md, 6 and 7).

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::StreamExt;
use serde_json::{Value, json};

use super::{assert_clean, logged_in};
use crate::support::site::{Play, Site, Turn, phase};
use crate::support::upstream::{Step, sse_head};
use crate::support::{PATIENCE, TestGateway};

/// A turn of a conversation, as Claude Code sends it.
fn turn(said: &[(&str, &str)], stream: bool) -> Value {
    let messages: Vec<Value> = said
        .iter()
        .map(|(role, text)| {
            json!({"role": role, "content": [{"type": "text", "text": text, "cache_control": {"type": "ephemeral"}}]})
        })
        .collect();
    let mut body = json!({"model": "qwen3-max", "max_tokens": 32_000, "messages": messages,
        "system": [{"type": "text", "text": "You are a careful gardener."}], "thinking": {"type": "adaptive"},
        "tools": [{"name": "read", "description": "Use read.", "input_schema": {"type": "object",
            "properties": {"filePath": {"type": "string"}}, "required": ["filePath"]}}]});
    if stream {
        body["stream"] = json!(true);
    }
    body
}

async fn ask(gateway: &TestGateway, body: &Value) -> reqwest::Response {
    let asked = gateway
        .client
        .post(gateway.qwen("/v1/messages?beta=true"))
        .header("x-claude-code-session-id", "s-1")
        .json(body);
    asked.send().await.expect("the gateway answers")
}

async fn said(response: reqwest::Response) -> String {
    let status = response.status();
    let body: Value = response.json().await.expect("JSON");
    assert_eq!(status, 200, "{body}");
    let blocks = body["content"].as_array().expect("blocks").iter();
    blocks.filter_map(|block| block["text"].as_str()).collect()
}

fn begun(turn: &Turn, text: &str) -> Vec<Step> {
    let created = json!({"response.created": {"chat_id": turn.chat_id, "parent_id": "u", "response_id": turn.response_id}});
    let event = |data: &Value| Step::Chunk(format!("data: {data}\n\n").into_bytes());
    vec![
        sse_head(),
        event(&created),
        event(&phase("answer", text, "typing")),
    ]
}

/// A site that lets `play` answer the question "two", and says how often that came before; the rest it echoes.
async fn playing(play: impl Fn(&Turn, usize) -> Play + Send + Sync + 'static) -> Site {
    let asked = Arc::new(AtomicUsize::new(0));
    Site::start(move |turn| {
        let last = turn.content.lines().last().unwrap_or_default();
        if last == "two" {
            return play(turn, asked.fetch_add(1, Ordering::SeqCst));
        }
        Play::says(&format!("re: {last}"))
    })
    .await
}

const SAID: [(&str, &str); 3] = [("user", "one"), ("assistant", "re: one"), ("user", "two")];

/// The first turn, then the question that breaks.
async fn begin(gateway: &TestGateway) -> reqwest::Response {
    let first = ask(gateway, &turn(&SAID[..1], false)).await;
    assert_eq!(said(first).await, "re: one");
    let response = ask(gateway, &turn(&SAID, true)).await;
    assert_eq!(response.status(), 200);
    response
}

/// Goes on after `answer`, and returns the site's turns: all but the last ask "two" behind the first answer.
async fn go_on(gateway: &TestGateway, site: &Site, answer: &str) -> usize {
    let next = [&SAID[..], &[("assistant", answer), ("user", "three")]].concat();
    let third = ask(gateway, &turn(&next, false)).await;
    assert_eq!(said(third).await, "re: three");
    let turns = site.turns();
    let (last, rest) = turns.split_last().expect("turns");
    let (first, repeats) = rest.split_first().expect("turns");
    for repeat in repeats {
        assert_eq!(repeat.content, "two", "only what is new is told");
        assert_eq!(repeat.parent_id.as_deref(), Some(&*first.response_id));
    }
    let repeat = repeats.last().expect("it was asked again");
    assert_eq!(last.content, "three");
    assert_eq!(last.parent_id.as_deref(), Some(&*repeat.response_id));
    assert_eq!(site.opened().len(), 1, "one chat for all of it");
    assert_clean(site);
    repeats.len()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_stream_asked_again_whole_is_the_same_place_of_the_same_chat() {
    let site = playing(|_, before| match before {
        0 => Play::Breaks(vec![phase("answer", "The first ha", "typing")], Step::Reset),
        // What broke off goes on at the site for a while.
        1 | 2 => Play::refusal(400, "chat-in-progress.json"),
        _ => Play::says("All of it."),
    })
    .await;
    let gateway = logged_in(&site, "u1").await;
    let broken = begin(&gateway).await.text().await.expect("a body");
    assert!(broken.contains("The first ha"), "{broken}");
    assert!(
        broken.contains("event: error") && !broken.contains("message_stop"),
        "{broken}"
    );
    let repeat = ask(&gateway, &turn(&SAID, false)).await;
    assert_eq!(said(repeat).await, "All of it.");
    assert_eq!(go_on(&gateway, &site, "All of it.").await, 4);
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeat_waits_for_the_stream_that_its_client_left() {
    // The site goes on with the answer until it is told to stop.
    let site = playing(|turn, before| match before {
        0 => {
            let steps = begun(turn, "The first ha").into_iter();
            Play::Steps(steps.chain([Step::Hang]).collect())
        }
        _ => Play::says("All of it."),
    })
    .await;
    let gateway = Arc::new(logged_in(&site, "u1").await);
    let mut first = begin(&gateway).await.bytes_stream();
    let mut heard = Vec::new();
    while !String::from_utf8_lossy(&heard).contains("first") {
        heard.extend_from_slice(&first.next().await.expect("more").expect("bytes"));
    }
    // It asks again before the gateway can know that it has left.
    let asking = {
        let gateway = gateway.clone();
        tokio::spawn(async move { said(ask(&gateway, &turn(&SAID, false)).await).await })
    };
    let both_run = async {
        loop {
            let (_, status) = gateway.get(&gateway.api("/api/proxy/status")).await;
            if status["qwenProxy"]["in_flight"] == 2 {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let in_time = tokio::time::timeout(PATIENCE, both_run).await;
    in_time.expect("the repeat arrives while the first runs");
    assert_eq!(site.turns().len(), 2, "one request at a time in a chat");
    drop(first);
    assert_eq!(asking.await.expect("an answer"), "All of it.");
    assert_eq!(go_on(&gateway, &site, "All of it.").await, 2);
    assert_eq!(
        site.stopped().len(),
        1,
        "it was told to stop before it was asked again"
    );
    let gateway = Arc::into_inner(gateway).expect("all tasks are over");
    gateway.stop().await;
}
