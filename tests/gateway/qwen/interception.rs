//! What the site's own runner makes of a call never reaches the client (annex A6).

use serde_json::{Value, json};

use super::{answer, ask, assert_clean, calls, logged_in, streamed, user, with_tools};
use crate::support::hear;
use crate::support::site::{Play, Site, phase};

const EXCUSE: &str = "Tool read does not exists.";
const CALL: &str =
    "<client_call>{\"name\": \"read\", \"arguments\": {\"filePath\": \"a\"}}</client_call>";

fn says(text: &str) -> Value {
    phase("answer", text, "typing")
}

fn end() -> Value {
    phase("answer", "", "finished")
}

fn native(name: &str, arguments: &Value) -> Value {
    json!({"choices": [{"delta": {"role": "assistant", "content": "", "phase": "tool_call", "status": "finished",
        "function_call": {"name": name, "arguments": arguments}}}]})
}

/// The runner's own answer to a call.
fn result() -> Value {
    json!({"choices": [{"delta": {"role": "function", "name": "read", "content": EXCUSE, "phase": "tool_call",
        "status": "finished"}}]})
}

/// How an interception shows.
fn forms() -> Vec<(&'static str, Vec<Value>)> {
    let thought = || phase("think", "Hm.", "typing");
    let undeclared = || native("open_browser", &json!("{}"));
    let excuse = || says("I cannot use that tool.");
    vec![
        (
            "the excuse alone",
            vec![
                says("Tool "),
                says("read"),
                says(" does not exists."),
                end(),
            ],
        ),
        (
            "the excuse after text",
            vec![
                says("Let me look. To"),
                says("ol read does not exists."),
                end(),
            ],
        ),
        (
            "the excuse after reasoning",
            vec![thought(), says(EXCUSE), end()],
        ),
        ("an undeclared call", vec![undeclared(), end()]),
        (
            "an undeclared call after text",
            vec![says("Let me look."), undeclared(), end()],
        ),
        (
            "a result after text",
            vec![says("Let me look."), result(), excuse(), end()],
        ),
        (
            "a result after reasoning",
            vec![thought(), result(), excuse(), end()],
        ),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn it_is_asked_for_again_in_the_other_notation_however_it_shows() {
    for (what, events) in forms() {
        let site = Site::start(move |turn| {
            if turn.content.contains("<client_call>") {
                return Play::says(CALL);
            }
            Play::Events(events.clone())
        })
        .await;
        let gateway = logged_in(&site, "u1").await;
        let (heard, chunks) = streamed(&gateway, with_tools(&[user("go")])).await;
        let read = ("read".to_owned(), json!({"filePath": "a"}));
        assert_eq!(calls(&chunks), [read], "{what}: {heard:?}");
        assert_eq!(heard.finish_reasons, ["tool_calls"], "{what}");
        for never in ["not exist", "cannot use"] {
            assert!(!heard.text.contains(never), "{what}: {}", heard.text);
        }
        assert_eq!(site.opened().len(), 2, "{what}");
        assert_clean(&site);
        gateway.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn in_both_notations_it_is_an_error_however_it_shows() {
    for (what, events) in forms() {
        let site = Site::start(move |_| Play::Events(events.clone())).await;
        let gateway = logged_in(&site, "u1").await;
        // The second conversation begins in the notation that was the last resort of the first.
        for (text, opened) in [("go", 2), ("again", 3)] {
            let mut body = with_tools(&[user(text)]);
            body["stream"] = true.into();
            let response = ask(&gateway, &body).await;
            let status = response.status();
            let told = response.text().await.expect("text");
            for never in ["not exist", "cannot use"] {
                assert!(!told.contains(never), "{what}: {told}");
            }
            if status == 200 {
                let heard = hear(&told);
                assert_eq!(heard.errors.len(), 1, "{what}: {told}");
                assert!(heard.finish_reasons.is_empty(), "{what}: {told}");
            } else {
                assert_eq!(status, 502, "{what}: {told}");
            }
            assert_eq!(site.opened().len(), opened, "{what}");
        }
        gateway.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_of_the_sites_own_form_get_the_same_care_as_others() {
    let cases = [
        // The name that was meant, and what the schema says.
        (
            vec![
                native("Read", &json!({"filePath": 7, "offset": "3"})),
                end(),
            ],
            json!([["read", {"filePath": "7", "offset": 3}]]),
        ),
        (
            vec![
                native("functions.bash", &json!("{'command': 'ls',}")),
                end(),
            ],
            json!([["bash", {"command": "ls"}]]),
        ),
        // One that nobody declared beside one that somebody did.
        (
            vec![
                native("open_browser", &json!({})),
                native("bash", &json!({"command": "ls"})),
                end(),
            ],
            json!([["bash", {"command": "ls"}]]),
        ),
    ];
    for (events, expected) in cases {
        let shown = json!(events);
        let site = Site::start(move |_| Play::Events(events.clone())).await;
        let gateway = logged_in(&site, "u1").await;
        let (heard, chunks) = streamed(&gateway, with_tools(&[user("go")])).await;
        let got: Vec<Value> = calls(&chunks)
            .into_iter()
            .map(|(name, arguments)| json!([name, arguments]))
            .collect();
        assert_eq!(json!(got), expected, "{shown}: {heard:?}");
        assert_eq!(site.turns().len(), 1, "{shown}");
        gateway.stop().await;
    }
    // One at a time is one of all there are.
    for events in [
        vec![
            native("read", &json!({"filePath": "a"})),
            native("bash", &json!({"command": "ls"})),
            end(),
        ],
        vec![
            native("read", &json!({"filePath": "a"})),
            says(
                "<tool_call>{\"name\": \"read\", \"arguments\": {\"filePath\": \"a\"}}</tool_call>",
            ),
            end(),
        ],
    ] {
        let site = Site::start(move |_| Play::Events(events.clone())).await;
        let gateway = logged_in(&site, "u1").await;
        let mut one = with_tools(&[user("go")]);
        one["parallel_tool_calls"] = false.into();
        let message = answer(&gateway, &one).await;
        assert_eq!(message["tool_calls"].as_array().map(Vec::len), Some(1));
        assert_eq!(message["tool_calls"][0]["function"]["name"], "read");
        gateway.stop().await;
    }
}
