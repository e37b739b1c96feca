//! One answer: from the site's stream to what the client gets.

use std::time::Duration;

use serde_json::{Value, json};

use super::{
    LATER, ask, assert_clean, at, calls, chat, log_in, logged_in, reasoning, streamed, user,
    with_tools,
};
use crate::support::PATIENCE;
use crate::support::site::{Play, Site, fixture, phase};
use crate::support::upstream::{Step, sse_head};

#[tokio::test(flavor = "multi_thread")]
async fn a_stored_login_answers_whole_and_streamed() {
    let site = Site::saying("Bees dance. 花 🐝").await;
    let gateway = at(&site, &[]).await;
    let stored = log_in(&gateway, "default", "u1").await;
    assert_eq!(
        (&stored["verified"], &stored["expiresAt"]),
        (&json!(true), &json!(LATER))
    );
    let mut body = chat(&[user("hello")]);
    body["temperature"] = 0.into();
    body["max_tokens"] = 9.into();
    let response = ask(&gateway, &body).await;
    assert_eq!(response.headers()["x-qwarden-provider"], "qwen");
    assert_eq!(
        response.headers()["x-qwarden-ignored"],
        "temperature, max_tokens"
    );
    let whole: Value = response.json().await.expect("JSON");
    assert_eq!(whole["object"], "chat.completion");
    assert_eq!(whole["model"], "qwen3-max");
    assert_eq!(
        whole["choices"][0]["message"]["content"],
        "Bees dance. 花 🐝"
    );
    assert_eq!(whole["choices"][0]["finish_reason"], "stop");
    assert_eq!(
        whole["usage"],
        json!({"prompt_tokens": 7, "completion_tokens": 4, "total_tokens": 11,
        "prompt_tokens_details": {"cached_tokens": 0}})
    );
    let (heard, chunks) = streamed(&gateway, chat(&[user("hello again")])).await;
    assert_eq!(heard.text, "Bees dance. 花 🐝");
    assert_eq!(
        (heard.finish_reasons.as_slice(), heard.done, heard.usages),
        (["stop".to_owned()].as_slice(), 1, 0)
    );
    assert_eq!(chunks[0]["choices"][0]["delta"]["role"], "assistant");
    let recorded: i64 = gateway.cell(
        "SELECT count(*) FROM requests r JOIN responses s ON s.request_id = r.id
          WHERE r.provider_id = 'qwen' AND s.finish_reason = 'stop' AND s.completion_tokens = 4",
    );
    assert_eq!(recorded, 2);
    let (_, models) = gateway.get(&gateway.qwen("/v1/models")).await;
    let ids: Vec<&str> = models["data"]
        .as_array()
        .expect("a list")
        .iter()
        .filter_map(|model| model["id"].as_str())
        .collect();
    assert!(
        ids.contains(&"qwen3-max") && ids.contains(&"qwen3-coder-plus"),
        "{ids:?}"
    );
    assert_clean(&site);
    gateway.stop().await;
}

/// What a fixture amounts to.
struct Reading {
    fixture: &'static str,
    content: &'static str,
    reasoning: &'static str,
    finish: Option<&'static str>,
}

#[tokio::test(flavor = "multi_thread")]
async fn every_stream_of_the_fixtures_is_read_as_its_readme_says() {
    let read = |fixture, content, finish| Reading {
        fixture,
        content,
        reasoning: "",
        finish,
    };
    let plain = "Bees dance to say where flowers are. 花の場所を踊りで伝える 🐝.";
    let readings = [
        read("plain.sse", plain, Some("stop")),
        read("cumulative.sse", plain, Some("stop")),
        read(
            "site-tail.sse",
            "Greenings, traveller! 🌌\n\nTwo lines.",
            Some("stop"),
        ),
        read("framing-branches.sse", "Only this counts.", Some("stop")),
        read("search.sse", "They dance [1].", Some("stop")),
        read(
            "search-marks.sse",
            "It is so [[1]] and also [[2]].",
            Some("stop"),
        ),
        read("cut.sse", "Bees dance to say where flowers", None),
        read("error-in-stream.sse", "Bees dance to say", None),
        read("error-delta.sse", "Half an ans", None),
        Reading {
            reasoning: "First I read the file.\n\nThen I answer.",
            ..read("thinking-snapshots.sse", "Done.", Some("stop"))
        },
        Reading {
            reasoning: "Bees meet at the comb.\n\nOne sentence is enough.",
            ..read("thinking-summary.sse", "They dance.", Some("stop"))
        },
        read(
            "intercepted.sse",
            "Tool read does not exists.",
            Some("stop"),
        ),
    ];
    for reading in readings {
        let site = Site::start(move |_| Play::Fixture(reading.fixture)).await;
        let gateway = logged_in(&site, "u1").await;
        let (heard, chunks) = streamed(&gateway, chat(&[user("go")])).await;
        let name = reading.fixture;
        assert_eq!(heard.text, reading.content, "{name}");
        assert_eq!(super::reasoning(&chunks), reading.reasoning, "{name}");
        assert_eq!(heard.done, 1, "{name}");
        let finish: Vec<&str> = reading.finish.into_iter().collect();
        assert_eq!(heard.finish_reasons, finish, "{name}");
        let errors = usize::from(reading.finish.is_none());
        assert_eq!(heard.errors.len(), errors, "{name}: {:?}", heard.errors);
        gateway.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn thinking_comes_apart_and_as_it_comes() {
    let site = Site::start(|_| {
        Play::Thinks(
            vec!["Let me ".into(), "think.".into()],
            vec!["Done.".into()],
        )
    })
    .await;
    let gateway = logged_in(&site, "u1").await;
    let mut body = chat(&[user("go")]);
    body["reasoning_effort"] = "high".into();
    let (heard, chunks) = streamed(&gateway, body).await;
    assert_eq!(
        (reasoning(&chunks).as_str(), heard.text.as_str()),
        ("Let me think.", "Done.")
    );
    let config = &site.turns()[0].body["messages"][0]["feature_config"];
    assert_eq!(config["thinking_enabled"], true);
    for (field, value, on) in [
        ("enable_thinking", json!(false), false),
        ("enable_thinking", json!(true), true),
        ("reasoning_effort", json!("none"), false),
        ("thinking_budget", json!(2048), true),
    ] {
        let mut body = chat(&[user("go")]);
        body[field] = value;
        ask(&gateway, &body).await;
        let turns = site.turns();
        let config = &turns.last().expect("a turn").body["messages"][0]["feature_config"];
        assert_eq!(config["thinking_enabled"], on, "{field}");
        if field == "thinking_budget" {
            assert_eq!(config["thinking_budget"], 2048);
        }
    }
    // By the model's name, too; the site is asked for the model itself.
    let mut body = chat(&[user("go")]);
    body["model"] = "Qwen3-Max-thinking".into();
    let (_, chunks) = streamed(&gateway, body).await;
    assert_eq!(chunks[0]["model"], "Qwen3-Max-thinking");
    let turns = site.turns();
    let last = &turns.last().expect("a turn").body;
    assert_eq!(last["model"], "qwen3-max");
    assert_eq!(
        last["messages"][0]["feature_config"]["thinking_enabled"],
        true
    );
    let mut body = chat(&[user("go")]);
    body["model"] = "qwen3-max-search".into();
    streamed(&gateway, body).await;
    let turns = site.turns();
    let last = &turns.last().expect("a turn").body;
    assert_eq!(last["messages"][0]["chat_type"], "search");
    assert_clean(&site);
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_fixture_byte_by_byte_makes_the_same_answer() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/qwen-web");
    let names = std::fs::read_dir(folder).expect("the fixtures");
    let names = names.map(|entry| {
        entry
            .expect("an entry")
            .file_name()
            .into_string()
            .expect("text")
    });
    let mut names: Vec<String> = names
        .filter(|name| name.rsplit('.').next() == Some("sse"))
        .collect();
    assert!(names.len() >= 20, "{names:?}");
    names.extend(["rate-limited.json", "challenge.html", "non-stream.json"].map(str::to_owned));
    for name in &names {
        let mut read = Vec::new();
        for size in [usize::MAX, 1] {
            let text = fixture(name);
            let site = Site::start(move |turn| {
                let text = text
                    .replace("11111111-1111-4111-8111-111111111111", &turn.chat_id)
                    .replace("33333333-3333-4333-8333-333333333333", &turn.response_id);
                let mut steps = vec![sse_head()];
                let pieces = text.as_bytes().chunks(size);
                steps.extend(pieces.map(|piece| Step::Chunk(piece.to_vec())));
                steps.push(Step::End);
                Play::Steps(steps)
            })
            .await;
            let gateway = logged_in(&site, "u1").await;
            let mut body = with_tools(&[user("go")]);
            body["stream"] = true.into();
            let response = ask(&gateway, &body).await;
            let (status, text) = (response.status(), response.text().await.expect("text"));
            if status == 200 {
                let chunks: Vec<Value> = text
                    .lines()
                    .filter_map(|line| serde_json::from_str(line.strip_prefix("data: ")?).ok())
                    .collect();
                let heard = crate::support::hear(&text);
                let codes: Vec<_> = heard
                    .errors
                    .iter()
                    .map(|error| error["code"].clone())
                    .collect();
                read.push(json!([
                    heard.text,
                    reasoning(&chunks),
                    json!(calls(&chunks)),
                    heard.finish_reasons,
                    codes
                ]));
            } else {
                let error: Value = serde_json::from_str(&text).expect("JSON");
                read.push(json!([status.as_u16(), error["error"]["code"]]));
            }
            gateway.stop().await;
        }
        assert_eq!(read[0], read[1], "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_first_chunk_is_forwarded_while_the_site_still_writes() {
    let site = Site::start(|turn| {
        let created =
            json!({"response.created": {"chat_id": turn.chat_id, "response_id": turn.response_id}});
        let event = |data: &Value| Step::Chunk(format!("data: {data}\n\n").into_bytes());
        Play::Steps(vec![
            sse_head(),
            event(&created),
            event(&phase("answer", "first", "typing")),
            Step::Gate,
            event(&phase("answer", " last", "typing")),
            event(&phase("answer", "", "finished")),
            Step::End,
        ])
    })
    .await;
    let gateway = logged_in(&site, "u1").await;
    let mut body = chat(&[user("go")]);
    body["stream"] = true.into();
    let mut response = ask(&gateway, &body).await;
    let mut text = String::new();
    while !text.contains("first") {
        let chunk = response.chunk().await.expect("a chunk").expect("not over");
        text.push_str(&String::from_utf8_lossy(&chunk));
    }
    assert!(!text.contains("last"));
    site.upstream.go(1);
    while let Some(chunk) = response.chunk().await.expect("a chunk") {
        text.push_str(&String::from_utf8_lossy(&chunk));
    }
    assert_eq!(crate::support::hear(&text).text, "first last");
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_leaves_frees_the_chat() {
    let site = Site::start(|turn| {
        let created =
            json!({"response.created": {"chat_id": turn.chat_id, "response_id": turn.response_id}});
        let event = |data: &Value| Step::Chunk(format!("data: {data}\n\n").into_bytes());
        Play::Steps(vec![
            sse_head(),
            event(&created),
            event(&phase("answer", "first", "typing")),
            Step::Hang,
        ])
    })
    .await;
    let gateway = logged_in(&site, "u1").await;
    let mut body = chat(&[user("go")]);
    body["stream"] = true.into();
    let mut response = ask(&gateway, &body).await;
    response.chunk().await.expect("a chunk");
    drop(response);
    site.upstream.hung_up(PATIENCE).await;
    let stopped = async {
        while site.stopped().is_empty() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(1), stopped)
        .await
        .expect("the site is told within a second");
    assert_eq!(site.stopped(), site.opened());
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_whose_connection_died_is_taken_up_where_it_broke() {
    let site = Site::start(|turn| {
        let created =
            json!({"response.created": {"chat_id": turn.chat_id, "response_id": turn.response_id}});
        let event = |data: &Value| Step::Chunk(format!("data: {data}\n\n").into_bytes());
        Play::Steps(vec![
            sse_head(),
            event(&created),
            event(&phase("answer", "The first half", "typing")),
            Step::Close,
        ])
    })
    .await;
    site.finishes_alone("The first half and the second.");
    let gateway = logged_in(&site, "u1").await;
    let (heard, _) = streamed(&gateway, chat(&[user("go")])).await;
    assert_eq!(heard.text, "The first half and the second.");
    assert_eq!(heard.finish_reasons, ["stop"]);
    // A text that does not go on from what came is no continuation.
    site.finishes_alone("Another answer.");
    let (heard, _) = streamed(&gateway, chat(&[user("go on")])).await;
    assert_eq!(
        (heard.text.as_str(), heard.errors.len()),
        ("The first half", 1)
    );
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_whole_body_instead_of_a_stream_is_an_answer() {
    let site =
        Site::start(|_| Play::Body(200, "application/json", fixture("non-stream.json"))).await;
    let gateway = logged_in(&site, "u1").await;
    let (heard, _) = streamed(&gateway, chat(&[user("go")])).await;
    assert_eq!(
        (heard.text.as_str(), heard.finish_reasons.len()),
        ("A whole answer.", 1)
    );
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_is_no_stream_is_read_whatever_it_is_called() {
    for (body, status) in [
        ("rate-limited.json", 429),
        ("challenge.html", 403),
        ("non-stream.json", 200),
    ] {
        let site = Site::start(move |_| Play::Body(200, "text/event-stream", fixture(body))).await;
        let gateway = logged_in(&site, "u1").await;
        let response = ask(&gateway, &chat(&[user("go")])).await;
        assert_eq!(response.status(), status, "{body}");
        gateway.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_are_told_in_the_clients_terms() {
    for (status, fixture, expected, code, retry) in [
        (200, "challenge.json", 403, "qwen_challenge", "false"),
        (200, "busy.json", 503, "qwen_busy", "true"),
        (200, "rate-limited.json", 429, "qwen_rate_limited", "true"),
        (200, "quota.json", 429, "qwen_quota", "true"),
        (200, "bad-request.json", 502, "qwen_internal", "true"),
        (200, "content-filter.json", 400, "content_filter", "false"),
        (400, "validation-error.json", 502, "qwen_internal", "true"),
        (
            401,
            "unauthorized.json",
            401,
            "credentials_rejected",
            "false",
        ),
    ] {
        let site = Site::start(move |_| Play::refusal(status, fixture)).await;
        let gateway = logged_in(&site, "u1").await;
        let response = ask(&gateway, &chat(&[user("go")])).await;
        assert_eq!(response.status(), expected, "{fixture}");
        assert_eq!(response.headers()["x-should-retry"], retry, "{fixture}");
        assert_eq!(
            response.headers().contains_key("retry-after"),
            retry == "true",
            "{fixture}"
        );
        let error: Value = response.json().await.expect("JSON");
        assert_eq!(error["error"]["code"], code, "{fixture}: {error}");
        assert!(!error.to_string().contains("x5sec"), "{error}");
        gateway.stop().await;
    }
    for name in ["challenge.html", "waf-block.html"] {
        for status in [200, 403] {
            let site = Site::start(move |_| Play::Body(status, "text/html", fixture(name))).await;
            let gateway = logged_in(&site, "u1").await;
            let response = ask(&gateway, &chat(&[user("go")])).await;
            assert_eq!(response.status(), 403, "{name}");
            let error: Value = response.json().await.expect("JSON");
            assert_eq!(error["error"]["code"], "qwen_challenge", "{name}");
            assert!(
                error["error"]["message"]
                    .as_str()
                    .expect("text")
                    .contains("chat.qwen.ai")
            );
            gateway.stop().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_router_reaches_the_same_adapter_in_process_and_over_http() {
    let site = Site::saying("from the site").await;
    let gateway = at(&site, &[]).await;
    log_in(&gateway, "default", "u1").await;
    for (id, kind, config) in [
        ("direct", "qwen-direct", json!({})),
        (
            "proxied",
            "qwen-proxy",
            json!({"baseURL": gateway.qwen("/v1")}),
        ),
    ] {
        let body = json!({"id": id, "name": id, "type": kind, "config": config});
        let made = gateway.post(&gateway.api("/api/providers"), &body).await;
        assert_eq!(
            made.status(),
            201,
            "{}",
            made.text().await.unwrap_or_default()
        );
        let mut body = chat(&[user("go")]);
        body["model"] = format!("{id}/qwen3-max").into();
        let response = gateway.chat(&body).await;
        assert_eq!(response.headers()["x-qwarden-provider"], id);
        let answer: Value = response.json().await.expect("JSON");
        assert_eq!(
            answer["choices"][0]["message"]["content"], "from the site",
            "{answer}"
        );
    }
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn images_are_stored_once_and_shown_with_their_message() {
    let site = Site::saying("a bee").await;
    let gateway = logged_in(&site, "u1").await;
    let image = |url: &str| {
        json!({"role": "user", "content": [{"type": "text", "text": "what is it?"},
        {"type": "image_url", "image_url": {"url": url}}]})
    };
    let bee = image("data:image/png;base64,aGVsbG8=");
    let first = crate::qwen::answer(&gateway, &chat(std::slice::from_ref(&bee))).await;
    crate::qwen::answer(&gateway, &chat(&[bee, first, user("sure?")])).await;
    let uploads = site.uploads();
    assert_eq!(uploads.len(), 1);
    assert_eq!(
        (uploads[0].method.as_str(), uploads[0].body.as_slice()),
        ("PUT", b"hello".as_slice())
    );
    assert!(
        uploads[0]
            .header("authorization")
            .expect("signed")
            .starts_with("OSS4-HMAC-SHA256 Credential=STS.ID/")
    );
    assert_eq!(uploads[0].header("content-type"), Some("image/png"));
    assert_eq!(
        uploads[0].header("cookie"),
        None,
        "the store is another host: no login goes there"
    );
    let turns = site.turns();
    let files = &turns[0].body["messages"][0]["files"];
    assert_eq!(
        (&files[0]["type"], &files[0]["size"], &files[0]["status"]),
        (&json!("image"), &json!(5), &json!("uploaded"))
    );
    assert_eq!(turns[0].content, "what is it?");
    assert_eq!(
        turns[1].body["messages"][0]["files"],
        json!([]),
        "the chat has it"
    );
    for (url, part) in [
        ("https://example.org/a.png", "data URL"),
        ("data:image/png;base64,%%", "messages[0].content[1]"),
    ] {
        let response = ask(&gateway, &chat(&[image(url)])).await;
        assert_eq!(response.status(), 400);
        assert_eq!(response.headers()["x-should-retry"], "false");
        let error: Value = response.json().await.expect("JSON");
        assert!(
            error["error"]["message"]
                .as_str()
                .expect("text")
                .contains(part),
            "{error}"
        );
    }
    assert_clean(&site);
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_kind_of_chat_is_asked_for_by_name_or_by_field() {
    let site = Site::saying("done").await;
    let gateway = logged_in(&site, "u1").await;
    for (suffix, fields, kind, size) in [
        ("", json!({}), "t2t", Value::Null),
        ("-thinking", json!({}), "t2t", Value::Null),
        ("-search", json!({}), "search", Value::Null),
        ("-thinking-search", json!({}), "search", Value::Null),
        ("-fast-search", json!({}), "search", Value::Null),
        ("-deep-research", json!({}), "deep_research", Value::Null),
        ("-image", json!({}), "t2i", json!("1:1")),
        ("-image-edit", json!({}), "image_edit", json!("1:1")),
        ("-image", json!({"size": "16:9"}), "t2i", json!("16:9")),
        (
            "",
            json!({"chat_type": "artifacts"}),
            "artifacts",
            Value::Null,
        ),
        (
            "",
            json!({"extra_body": {"chat_type": "t2i", "size": "4:3"}}),
            "t2i",
            json!("4:3"),
        ),
        // A field says it more plainly than a name.
        (
            "-search",
            json!({"chat_type": "web_dev"}),
            "web_dev",
            Value::Null,
        ),
        ("", json!({"web_search_options": {}}), "search", Value::Null),
    ] {
        let mut body = chat(&[user("go")]);
        body["model"] = format!("qwen3-max{suffix}").into();
        let fields_of = fields.as_object().expect("an object").clone();
        body.as_object_mut().expect("an object").extend(fields_of);
        assert_eq!(
            ask(&gateway, &body).await.status(),
            200,
            "{suffix} {fields}"
        );
        let turns = site.turns();
        let sent = &turns.last().expect("a turn").body;
        assert_eq!(sent["messages"][0]["chat_type"], kind, "{suffix} {fields}");
        assert_eq!(sent["size"], size, "{suffix} {fields}");
    }
    let asked = site.turns().len();
    for (model, fields, part) in [
        ("qwen3-max-video", json!({}), "video"),
        ("qwen3-max", json!({"chat_type": "t2v"}), "video"),
        ("qwen3-max", json!({"chat_type": "nonsense"}), "`chat_type`"),
        ("qwen3-max-image", json!({"size": "huge"}), "`size`"),
    ] {
        let mut body = chat(&[user("go")]);
        body["model"] = model.into();
        let fields_of = fields.as_object().expect("an object").clone();
        body.as_object_mut().expect("an object").extend(fields_of);
        let response = ask(&gateway, &body).await;
        assert_eq!(response.status(), 400, "{model} {fields}");
        let error: Value = response.json().await.expect("JSON");
        let message = error["error"]["message"].as_str().expect("text");
        assert!(message.contains(part), "{message}");
    }
    assert_eq!(site.turns().len(), asked, "the site is not asked");
    assert_clean(&site);
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_document_is_parsed_before_its_message_is_sent() {
    let site = Site::saying("a list").await;
    let gateway = logged_in(&site, "u1").await;
    let message = json!({"role": "user", "content": [{"type": "text", "text": "what is it?"},
        {"type": "file", "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,aGVsbG8="}},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,aGVsbG8gYmVl"}}]});
    assert_eq!(ask(&gateway, &chat(&[message])).await.status(), 200);
    let turns = site.turns();
    let files = &turns[0].body["messages"][0]["files"];
    assert_eq!(files.as_array().map(Vec::len), Some(2));
    assert_eq!(site.parsed(), [files[0]["id"].as_str().expect("an id")]);
    assert_clean(&site);
    gateway.stop().await;
}
