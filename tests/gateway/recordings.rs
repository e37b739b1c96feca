//! Recordings: what is recorded when, what is never in one, and that today's code makes the same of them.

use std::path::Path;
use std::process::Command;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::cli::User;
use crate::support::site::{Play, Site, jwt};
use crate::support::upstream::{DONE, Step, Upstream, delta, finish, json_answer, sse_head, usage};
use crate::support::{TestGateway, say, say_streamed};

/// Runs `qwarden replay`, which needs no gateway: its exit code and its answer.
fn replay(file: &Path) -> (Option<i32>, Value) {
    let run = Command::new(env!("CARGO_BIN_EXE_qwarden"))
        .args(["replay", "--json"])
        .arg(file)
        .output()
        .expect("it runs");
    let said = String::from_utf8_lossy(&run.stdout).into_owned();
    let told = serde_json::from_str(&said).unwrap_or(Value::Null);
    (run.status.code(), told)
}

pub fn replay_document(document: &Value) -> (Option<i32>, Value) {
    let dir = TempDir::new().expect("a temporary directory");
    let file = dir.path().join("recording.json");
    std::fs::write(&file, document.to_string()).expect("it is written");
    replay(&file)
}

async fn send(gateway: &TestGateway, url: &str, body: &Value, record: Option<&str>) -> String {
    let mut request = gateway.client.post(url).json(body);
    if let Some(record) = record {
        request = request.header("x-qwarden-record", record);
    }
    let answer = request.send().await.expect("an answer");
    let id = answer.headers()["x-request-id"].to_str().expect("text");
    let id = id.to_owned();
    // A client may be cut off; that is no matter here.
    let _ = answer.bytes().await;
    id
}

async fn chat(gateway: &TestGateway, body: &Value, record: Option<&str>) -> String {
    let url = gateway.router("/v1/chat/completions");
    send(gateway, &url, body, record).await
}

async fn recording(gateway: &TestGateway, id: &str) -> (u16, Value) {
    let url = gateway.api(&format!("/api/requests/{id}/recording"));
    gateway.get(&url).await
}

async fn is_recorded(gateway: &TestGateway, id: &str) -> bool {
    let (status, body) = recording(gateway, id).await;
    let (_, shown) = gateway
        .get(&gateway.api(&format!("/api/requests/{id}")))
        .await;
    assert_eq!(shown["has_recording"], status == 200);
    if status != 200 {
        assert_eq!(
            (status, &body["error"]["code"]),
            (404, &json!("recording_not_found"))
        );
    }
    status == 200
}

async fn replayed(gateway: &TestGateway, id: &str) -> Value {
    let url = gateway.api(&format!("/api/requests/{id}/recording/replay"));
    let answer = gateway.client.post(url).send().await.expect("an answer");
    let status = answer.status();
    let body: Value = answer.json().await.expect("JSON");
    assert_eq!(status, 200, "{body}");
    body
}

async fn set(gateway: &TestGateway, key: &str, value: Value) {
    let url = gateway.api(&format!("/api/settings/{key}"));
    let request = gateway.client.put(url).json(&json!({"value": value}));
    assert_eq!(request.send().await.expect("an answer").status(), 200);
}

async fn provider(gateway: &TestGateway, id: &str, upstream: &Upstream, more: Value) -> u16 {
    let mut config = json!({"baseURL": upstream.base_url(), "apiKey": "sk-planted-provider-key"});
    if let (Some(config), Value::Object(more)) = (config.as_object_mut(), more) {
        config.extend(more);
    }
    let body = json!({"id": id, "name": id, "type": "openai-compatible", "config": config});
    let answer = gateway.post(&gateway.api("/api/providers"), &body).await;
    answer.status().as_u16()
}

async fn log_in(gateway: &TestGateway, user: &str, cookies: &str) {
    let token = jwt(user, 4_000_000_000);
    let login =
        json!({"label": user, "token": token, "cookies": format!("token={token}; {cookies}")});
    let url = gateway.api("/api/qwen/credentials");
    assert_eq!(gateway.post(&url, &login).await.status(), 200);
}

fn chunks(list: &Value) -> Vec<u8> {
    let list = list.as_array().expect("chunks");
    let bytes = list.iter().map(|chunk| {
        assert!(chunk["at_ms"].is_u64());
        STANDARD
            .decode(chunk["data"].as_str().expect("text"))
            .expect("base64")
    });
    bytes.flatten().collect()
}

/// Fails for a message that says so.
async fn moody() -> Upstream {
    Upstream::start(|request| {
        let text = String::from_utf8_lossy(&request.body).into_owned();
        if text.contains("please fail") {
            return vec![json_answer(
                400,
                &json!({"error": {"message": "no", "type": "x"}}),
            )];
        }
        let mut steps = vec![sse_head()];
        for word in ["one ", "two "] {
            steps.push(Step::Chunk(delta(word).into_bytes()));
        }
        steps.push(Step::Chunk(
            format!("{}{}{DONE}", finish("stop"), usage(3, 2)).into_bytes(),
        ));
        steps.push(Step::End);
        steps
    })
    .await
}

#[tokio::test]
async fn nothing_is_recorded_unless_it_is_asked_for() {
    let upstream = moody().await;
    let gateway = TestGateway::start().await;
    assert_eq!(provider(&gateway, "p1", &upstream, json!({})).await, 201);
    let (good, bad) = (
        say_streamed("p1/fake", "hi"),
        say_streamed("p1/fake", "please fail"),
    );
    for body in [&good, &bad] {
        for header in [None, Some("false")] {
            let id = chat(&gateway, body, header).await;
            assert!(!is_recorded(&gateway, &id).await);
        }
    }
    let rows: i64 = gateway.cell("SELECT count(*) FROM recordings");
    assert_eq!(rows, 0);
    gateway.stop().await;
}

#[tokio::test]
async fn header_setting_and_provider_say_what_is_recorded() {
    let upstream = moody().await;
    let gateway = TestGateway::start().await;
    for (id, more) in [
        ("plain", json!({})),
        ("never", json!({"record": "off"})),
        ("failures", json!({"record": "failed"})),
        ("always", json!({"record": "all"})),
    ] {
        assert_eq!(provider(&gateway, id, &upstream, more).await, 201);
    }
    let refused = provider(&gateway, "odd", &upstream, json!({"record": "yes"})).await;
    assert_eq!(refused, 422);
    // Setting, provider, header, and whether a good and a failed exchange are recorded.
    for (setting, id, header, wanted) in [
        ("off", "plain", Some("true"), (true, true)),
        ("off", "never", Some("true"), (true, true)),
        ("off", "never", None, (false, false)),
        ("off", "failures", None, (false, true)),
        ("off", "always", None, (true, true)),
        ("failed", "plain", None, (false, true)),
        ("failed", "always", None, (true, true)),
        ("all", "plain", None, (true, true)),
        ("all", "never", None, (false, false)),
        ("all", "failures", None, (false, true)),
    ] {
        set(&gateway, "history.record", json!(setting)).await;
        let model = format!("{id}/fake");
        let good = chat(&gateway, &say_streamed(&model, "hi"), header).await;
        let bad = chat(&gateway, &say_streamed(&model, "please fail"), header).await;
        let found = (
            is_recorded(&gateway, &good).await,
            is_recorded(&gateway, &bad).await,
        );
        assert_eq!(found, wanted, "{setting} {id} {header:?}");
    }
    gateway.stop().await;
}

#[tokio::test]
async fn a_recording_tells_both_sides_and_its_replay_is_equal() {
    let upstream = moody().await;
    let gateway = TestGateway::start().await;
    assert_eq!(provider(&gateway, "p1", &upstream, json!({})).await, 201);
    let asked = say_streamed("p1/fake", "hi");
    let id = chat(&gateway, &asked, Some("true")).await;
    let (_, document) = recording(&gateway, &id).await;
    assert_eq!(
        (&document["format"], &document["cut"]),
        (&json!(2), &json!(false))
    );
    assert_eq!(document["request"], asked);
    let attempt = &document["attempts"][0];
    assert_eq!(
        (&attempt["provider"], &attempt["kind"]),
        (&json!("p1"), &json!("openai-compatible"))
    );
    let call = &attempt["calls"][0];
    assert_eq!(call["request"], upstream.completions()[0].json());
    assert_eq!(call["request"]["model"], "fake");
    assert_eq!(call["request_headers"]["content-type"], "application/json");
    let names = call["request_headers"].as_object().expect("headers");
    assert_eq!(names.get("authorization"), Some(&Value::Null));
    let response = &call["response"];
    assert_eq!(response["status"], 200);
    assert_eq!(response["headers"]["content-type"], "text/event-stream");
    let sent = format!(
        "{}{}{}{}{DONE}",
        delta("one "),
        delta("two "),
        finish("stop"),
        usage(3, 2)
    );
    assert_eq!(chunks(&response["chunks"]), sent.as_bytes());
    // The client did not ask for the usage.
    let told = sent.replace(&usage(3, 2), "");
    assert_eq!(document["client"]["form"], "events");
    assert_eq!(document["client"]["outcome"], "completed");
    assert_eq!(chunks(&document["client"]["chunks"]), told.as_bytes());

    let compared = replayed(&gateway, &id).await;
    assert_eq!(
        (&compared["is_equal"], &compared["equal"]),
        (&json!(true), &json!(4))
    );
    let (code, offline) = replay_document(&document);
    assert_eq!((code, &offline), (Some(0), &compared));

    // The whole answer, the refused one, and one of an upstream that cannot be reached.
    for (body, form) in [
        (say("p1/fake", "hi"), "refused"),
        (say_streamed("p1/fake", "please fail"), "refused"),
        (say("echo", "hi"), "whole"),
    ] {
        let id = chat(&gateway, &body, Some("true")).await;
        let (_, document) = recording(&gateway, &id).await;
        assert_eq!(document["client"]["form"], form, "{document}");
        let compared = replayed(&gateway, &id).await;
        assert_eq!(compared["is_equal"], true, "{compared}");
        assert_eq!(compared["equal"], 1);
    }
    gateway.stop().await;
}

#[tokio::test]
async fn a_changed_chunk_is_told_as_a_difference() {
    let upstream = moody().await;
    let gateway = TestGateway::start().await;
    assert_eq!(provider(&gateway, "p1", &upstream, json!({})).await, 201);
    let id = chat(&gateway, &say_streamed("p1/fake", "hi"), Some("true")).await;
    let (_, document) = recording(&gateway, &id).await;
    let place = "/attempts/0/calls/0/response/chunks/0/data";
    let change = |text: &str| {
        let mut changed = document.clone();
        *changed.pointer_mut(place).expect("a chunk") = STANDARD.encode(text).into();
        replay_document(&changed)
    };
    let counts = |told: &Value| ["changed", "missing", "added"].map(|key| told[key].clone());
    let (code, told) = change(&delta("ONE "));
    assert_eq!(
        (code, counts(&told)),
        (Some(1), [json!(1), json!(0), json!(0)])
    );
    let event = &told["events"][0];
    assert_eq!(event["change"], "changed");
    assert!(event["then"].as_str().expect("text").contains("\"one \""));
    assert!(event["now"].as_str().expect("text").contains("\"ONE \""));
    let (code, told) = change("");
    assert_eq!(
        (code, counts(&told)),
        (Some(1), [json!(0), json!(1), json!(0)])
    );
    let (code, told) = change(&format!("{}{}", delta("zero "), delta("one ")));
    assert_eq!(
        (code, counts(&told)),
        (Some(1), [json!(0), json!(0), json!(1)])
    );
    let (code, _) = replay_document(&json!({"format": 99}));
    assert_eq!(code, Some(2));
    gateway.stop().await;
}

#[tokio::test]
async fn what_is_too_long_is_cut_and_says_so() {
    let upstream = Upstream::start(|_| {
        let mut steps = vec![sse_head()];
        steps.extend((0..200).map(|_| Step::Chunk(delta(&"word ".repeat(20)).into_bytes())));
        steps.push(Step::Chunk(
            format!("{}{DONE}", finish("stop")).into_bytes(),
        ));
        steps.push(Step::End);
        steps
    })
    .await;
    let gateway = TestGateway::with(&[("history.recordMaxBytes", json!(20_000))]).await;
    assert_eq!(provider(&gateway, "p1", &upstream, json!({})).await, 201);
    let id = chat(&gateway, &say_streamed("p1/fake", "hi"), Some("true")).await;
    let (_, document) = recording(&gateway, &id).await;
    assert_eq!(document["cut"], true);
    let kept = chunks(&document["attempts"][0]["calls"][0]["response"]["chunks"]).len()
        + chunks(&document["client"]["chunks"]).len();
    assert!((10_000..20_000).contains(&kept), "{kept}");
    // What it holds is still the same.
    let compared = replayed(&gateway, &id).await;
    assert_eq!(compared["is_partial"], true);
    assert_eq!(compared["is_equal"], true, "{compared}");
    assert!(compared["equal"].as_u64() > Some(10));
    let long = say_streamed("p1/fake", &"long ".repeat(10_000));
    let id = chat(&gateway, &long, Some("true")).await;
    let (_, document) = recording(&gateway, &id).await;
    assert_eq!(
        (&document["cut"], &document["request"]),
        (&json!(true), &Value::Null)
    );
    let url = gateway.api(&format!("/api/requests/{id}/recording/replay"));
    let answer = gateway.client.post(url).send().await.expect("an answer");
    assert_eq!(answer.status(), 422);
    gateway.stop().await;
}

#[tokio::test]
async fn a_recording_goes_with_its_exchange_its_answer_and_its_bodies() {
    let upstream = moody().await;
    let gateway = TestGateway::with(&[("history.record", json!("all"))]).await;
    assert_eq!(provider(&gateway, "p1", &upstream, json!({})).await, 201);
    let delete = async |path: String| {
        let answer = gateway.client.delete(gateway.api(&path)).send().await;
        assert_eq!(answer.expect("an answer").status(), 200, "{path}");
    };
    let rows = || gateway.cell::<i64>("SELECT count(*) FROM recordings");
    let body = say_streamed("p1/fake", "hi");
    let ids = [
        chat(&gateway, &body, None).await,
        chat(&gateway, &body, None).await,
        chat(&gateway, &body, None).await,
    ];
    assert_eq!(rows(), 3);
    delete(format!("/api/requests/{}", ids[0])).await;
    assert_eq!(rows(), 2);
    assert_eq!(
        recording(&gateway, &ids[0]).await.1["error"]["code"],
        "request_not_found"
    );
    let (_, shown) = gateway
        .get(&gateway.api(&format!("/api/requests/{}", ids[1])))
        .await;
    delete(format!("/api/responses/{}", shown["response"]["id"])).await;
    assert_eq!(rows(), 1);
    assert!(!is_recorded(&gateway, &ids[1]).await);
    // As old as bodies are kept.
    let conn = rusqlite::Connection::open(gateway.database()).expect("it opens");
    conn.busy_timeout(crate::support::PATIENCE)
        .expect("a timeout");
    conn.execute("UPDATE requests SET timestamp = timestamp - 864000000", [])
        .expect("changed");
    set(&gateway, "retention.bodiesDays", json!(1)).await;
    let url = gateway.api("/api/retention/run");
    gateway.post(&url, &json!({"dry_run": false})).await;
    assert_eq!(rows(), 0);
    gateway.stop().await;
}

#[tokio::test]
async fn a_planted_secret_is_in_no_recording() {
    // An upstream that echoes what it was sent, in pieces.
    let upstream = Upstream::start(|request| {
        let key = request.header("authorization").expect("a key").to_owned();
        let other = request.header("x-extra").expect("a header").to_owned();
        let (head, tail) = (&key[..15], &key[15..]);
        let event = delta(&format!("{head}|{tail} {other}")).replace('|', "");
        let at = event.find(tail).expect("it is there");
        vec![
            Step::Head(
                200,
                vec![
                    ("content-type", "text/event-stream".into()),
                    ("x-request-id", key.clone()),
                    ("set-cookie", "session=planted-set-cookie".into()),
                ],
            ),
            Step::Chunk(event.as_bytes()[..at].to_vec()),
            Step::Gate,
            Step::Chunk(event.as_bytes()[at..].to_vec()),
            Step::Chunk(format!("{}{DONE}", finish("stop")).into_bytes()),
            Step::End,
        ]
    })
    .await;
    for is_echoed in [true, false] {
        let token = jwt("planted-user", 4_000_000_000);
        let echo = if is_echoed {
            format!("you are {token} with planted-cookie-value")
        } else {
            "you are somebody".to_owned()
        };
        let site = Site::start(move |_| Play::says(&echo)).await;
        let gateway = TestGateway::with(&[
            ("history.record", json!("all")),
            ("qwen.baseUrl", json!(site.upstream.origin())),
        ])
        .await;
        let more = json!({"headers": {"x-extra": "planted-extra-header"}});
        assert_eq!(provider(&gateway, "p1", &upstream, more).await, 201);
        log_in(&gateway, "planted-user", "acw_tc=planted-cookie-value").await;
        upstream.go(1);
        let direct = chat(&gateway, &say_streamed("p1/fake", "hi"), None).await;
        let url = gateway.qwen("/v1/chat/completions");
        let web = send(&gateway, &url, &say_streamed("qwen3-max", "hi"), None).await;
        for id in [&direct, &web] {
            let (status, document) = recording(&gateway, id).await;
            assert_eq!(status, 200);
            let mut seen = document.to_string();
            let calls = document["attempts"][0]["calls"].as_array().expect("calls");
            let lists = calls.iter().map(|call| &call["response"]["chunks"]);
            for list in lists.chain([&document["client"]["chunks"]]) {
                seen.push_str(&String::from_utf8_lossy(&chunks(list)));
            }
            assert_eq!(seen.contains("******"), is_echoed || id == &direct);
            for secret in [
                "sk-planted-provider-key",
                "planted-extra-header",
                "planted-set-cookie",
                "planted-cookie-value",
                &token,
            ] {
                assert!(!seen.contains(secret), "{secret} in {seen}");
            }
            assert_eq!(replayed(&gateway, id).await["is_equal"], true);
        }
        let dir = gateway.stop().await;
        if is_echoed {
            // The answer's own text is history like any other.
            continue;
        }
        for file in ["qwarden.db", "qwarden.db-wal"] {
            let bytes = std::fs::read(dir.path().join("data").join(file)).unwrap_or_default();
            for secret in [&*token, "planted-cookie-value", "planted-set-cookie"] {
                let mut windows = bytes.windows(secret.len());
                assert!(
                    windows.all(|window| window != secret.as_bytes()),
                    "{secret}"
                );
            }
        }
    }
}

/// What the site says, once more through today's translator and parser.
#[tokio::test]
async fn turns_of_the_web_chat_are_recorded_and_replayed() {
    for name in [
        "thinking.sse",
        "tool-calls.sse",
        "native-call.sse",
        "malformed-tool-call.sse",
        "tool-call-cut.sse",
        "error-in-stream.sse",
        "intercepted.sse",
        "search.sse",
        "empty.sse",
    ] {
        let site = Site::start(move |_| Play::Fixture(name)).await;
        let gateway = TestGateway::with(&[
            ("history.record", json!("all")),
            ("qwen.baseUrl", json!(site.upstream.origin())),
        ])
        .await;
        let tool = |name: &str| json!({"type": "function", "function": {"name": name, "parameters": {"type": "object"}}});
        for stream in [true, false] {
            // Anew: one that got an empty answer rests for a moment.
            log_in(&gateway, "user", "acw_tc=a").await;
            let body = json!({"model": "qwen3-max", "stream": stream, "messages": [{"role": "user", "content": "hi"}],
                "tools": [tool("read"), tool("write"), tool("edit"), tool("bash")]});
            let url = gateway.qwen("/v1/chat/completions");
            let id = send(&gateway, &url, &body, None).await;
            let (status, document) = recording(&gateway, &id).await;
            assert_eq!(status, 200, "{name}");
            let calls = document["attempts"][0]["calls"].as_array().expect("calls");
            assert_eq!(calls[0]["purpose"], "new_chat");
            let completion = &calls[1];
            assert_eq!(
                (&completion["purpose"], &completion["login"]),
                (&json!("completion"), &json!(0))
            );
            assert!(completion["request"]["messages"][0]["content"].is_string());
            assert!(!chunks(&completion["response"]["chunks"]).is_empty());
            let compared = replayed(&gateway, &id).await;
            assert_eq!(compared["is_equal"], true, "{name} {stream}: {compared:#}");
            assert_eq!(compared["is_partial"], false);
        }
        gateway.stop().await;
    }
}

#[tokio::test]
async fn a_thinking_answer_with_a_call_is_told_again_by_the_command_line() {
    let site = Site::start(|_| {
        let pieces = |text: &str| text.split_inclusive(' ').map(str::to_owned).collect();
        let call = "I will look. <tool_call> {\"name\": \"read\", \"arguments\": {\"filePath\": \"a b.txt\"}} </tool_call>";
        Play::Thinks(pieces("The user wants a file"), pieces(call))
    })
    .await;
    let gateway = TestGateway::with(&[("qwen.baseUrl", json!(site.upstream.origin()))]).await;
    log_in(&gateway, "user", "acw_tc=a").await;
    let tool = json!({"type": "function", "function": {"name": "read", "parameters": {"type": "object",
        "properties": {"filePath": {"type": "string"}}}}});
    let body = json!({"model": "qwen3-max", "stream": true, "tools": [tool],
        "messages": [{"role": "user", "content": "read it"}]});
    let url = gateway.qwen("/v1/chat/completions");
    let id = send(&gateway, &url, &body, Some("true")).await;
    let dir = TempDir::new().expect("a temporary directory");
    let file = dir.path().join("recording.json");
    let user = User::of(&gateway);
    let run = async |args: &[&str]| {
        let said = user.run(args).await;
        (said.code, said.out)
    };
    let path = file.to_str().expect("text");
    let written = run(&["request", "recording", &id, "-o", path]).await;
    assert_eq!(written, (Some(0), String::new()));
    let (code, said) = run(&["request", "recording", &id]).await;
    let text = std::fs::read_to_string(&file).expect("a file");
    assert_eq!((code, said.trim_end()), (Some(0), text.trim_end()));
    let (code, _) = run(&["request", "recording", "nope"]).await;
    assert_eq!(code, Some(1));
    let (code, said) = run(&["replay", path]).await;
    assert_eq!(code, Some(0), "{said}");
    assert!(
        said.ends_with("equal, 0 changed, 0 missing, 0 added\n"),
        "{said}"
    );
    let told = String::from_utf8(chunks(
        &serde_json::from_str::<Value>(&text).expect("JSON")["client"]["chunks"],
    ));
    let told = told.expect("text");
    assert!(
        told.contains("reasoning_content") && told.contains("a b.txt"),
        "{told}"
    );
    // Another name of the same call is another answer.
    let other = STANDARD.encode(told.replace("a b.txt", "a c.txt"));
    let mut document: Value = serde_json::from_str(&text).expect("JSON");
    document["client"]["chunks"] = json!([{"at_ms": 0, "data": other}]);
    std::fs::write(&file, document.to_string()).expect("written");
    let (code, said) = run(&["replay", path]).await;
    assert_eq!(code, Some(1), "{said}");
    assert!(
        said.contains("CHANGE") && said.ends_with("1 changed, 0 missing, 0 added\n"),
        "{said}"
    );
    gateway.stop().await;
}

/// What went wrong on the way is in a recording, too, and goes wrong in the same words.
#[tokio::test]
async fn broken_and_failed_answers_are_replayed_as_they_went() {
    let upstream = Upstream::start(|request| {
        let text = String::from_utf8_lossy(&request.body).into_owned();
        let begin = vec![sse_head(), Step::Chunk(delta("one ").into_bytes())];
        let end: Vec<Step> = if text.contains("please cut") {
            vec![Step::Close]
        } else if text.contains("please end early") {
            vec![Step::End]
        } else if text.contains("please hang") {
            vec![Step::Hang]
        } else if text.contains("please err") {
            let error = json!({"error": {"message": "overloaded", "type": "server_error"}});
            vec![
                Step::Chunk(format!("data: {error}\n\n").into_bytes()),
                Step::End,
            ]
        } else if text.contains("please say nothing") {
            return vec![Step::Hang];
        } else {
            return vec![Step::Whole(
                503,
                vec![
                    ("retry-after", "7".into()),
                    ("content-type", "text/html".into()),
                ],
                b"<html><title>down</title></html>".to_vec(),
            )];
        };
        begin.into_iter().chain(end).collect()
    })
    .await;
    let gateway = TestGateway::with(&[
        ("history.record", json!("failed")),
        ("server.timeout", json!(1000)),
    ])
    .await;
    assert_eq!(provider(&gateway, "p1", &upstream, json!({})).await, 201);
    let nobody = json!({"id": "nobody", "name": "nobody", "type": "openai-compatible",
        "config": {"baseURL": "http://127.0.0.1:9/v1"}});
    gateway.post(&gateway.api("/api/providers"), &nobody).await;
    for (model, text, events) in [
        // A model each: a breaker that opens leaves nothing to record.
        ("p1/cut", "please cut", 3),
        ("p1/end", "please end early", 3),
        ("p1/hang", "please hang", 3),
        ("p1/err", "please err", 3),
        ("p1/nothing", "please say nothing", 1),
        ("p1/down", "go down", 1),
        ("nobody/fake", "hi", 1),
    ] {
        let id = chat(&gateway, &say_streamed(model, text), None).await;
        assert!(is_recorded(&gateway, &id).await, "{text}");
        let compared = replayed(&gateway, &id).await;
        assert_eq!(compared["is_equal"], true, "{text}: {compared:#}");
        assert_eq!(compared["equal"], events, "{text}");
    }
    gateway.stop().await;
}

/// A chat that is gone on with, one that is gone, and a login that is refused.
#[tokio::test]
async fn detours_at_the_site_are_replayed() {
    let site = Site::saying("Hello there").await;
    let gateway = TestGateway::with(&[
        ("history.record", json!("all")),
        ("qwen.baseUrl", json!(site.upstream.origin())),
    ])
    .await;
    for user in ["one", "two"] {
        log_in(&gateway, user, "acw_tc=a").await;
    }
    let url = gateway.qwen("/v1/chat/completions");
    let mut messages = vec![json!({"role": "user", "content": "hi"})];
    let mut purposes = Vec::new();
    for step in ["opened", "continued", "gone", "refused"] {
        if step == "gone" {
            site.lose_chats();
        }
        if step == "refused" {
            let used = site.turns().last().expect("a turn").token.clone();
            site.reject(&used);
        }
        let body = json!({"model": "qwen3-max", "stream": true, "messages": messages});
        let id = send(&gateway, &url, &body, None).await;
        let (_, document) = recording(&gateway, &id).await;
        let calls = document["attempts"][0]["calls"].as_array().expect("calls");
        purposes.push(
            calls
                .iter()
                .map(|call| format!("{} {}", call["purpose"], call["login"]))
                .collect::<Vec<_>>()
                .join(", "),
        );
        let compared = replayed(&gateway, &id).await;
        assert_eq!(compared["is_equal"], true, "{step}: {compared:#}");
        messages.push(json!({"role": "assistant", "content": "Hello there"}));
        messages.push(json!({"role": "user", "content": step}));
    }
    assert!(
        purposes[0].starts_with("\"new_chat\" 0, \"completion\" 0"),
        "{purposes:?}"
    );
    assert_eq!(purposes[1], "\"completion\" 0");
    assert!(
        purposes[2].starts_with("\"completion\" 0, \"new_chat\" "),
        "{purposes:?}"
    );
    assert!(purposes[3].contains("\"completion\" 1"), "{purposes:?}");
    gateway.stop().await;
}

/// A user's recording dropped into this folder is a test from then on.
#[test]
fn every_kept_recording_brings_what_it_brought() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/recordings");
    let mut count = 0;
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let file = entry.expect("an entry").path();
        if file.extension().is_none_or(|extension| extension != "json") {
            continue;
        }
        count += 1;
        let (code, told) = replay(&file);
        assert_eq!(code, Some(0), "{}: {told:#}", file.display());
        assert!(told["equal"].as_u64() > Some(0), "{}", file.display());
    }
    assert!(count >= 4, "the folder is walked");
}
