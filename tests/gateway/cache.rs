//! The response cache: what is given again to whom, what is kept, and until when.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use reqwest::Response;
use serde_json::{Value, json};

use crate::cli::User;
use crate::qwen::{assert_clean, log_in};
use crate::support::site::Site;
use crate::support::upstream::{
    DONE, Received, Step, Upstream, delta, finish, json_answer, sse_head, usage, whole,
};
use crate::support::{PATIENCE, TestGateway, hear};

const ON: (&str, Value) = ("cache.enabled", Value::Bool(true));

/// Answers with the number of the request, in the form it asks for.
async fn counting() -> Upstream {
    let count = Arc::new(AtomicUsize::new(0));
    Upstream::start(move |request: &Received| {
        let number = count.fetch_add(1, Ordering::Relaxed) + 1;
        if request.json()["stream"] == true {
            let text = format!("answer {number}");
            return streamed(&[&delta("an "), &delta(&text), &finish("stop"), &usage(3, 4)]);
        }
        vec![json_answer(200, &whole(&format!("answer {number}")))]
    })
    .await
}

fn streamed(frames: &[&str]) -> Vec<Step> {
    let mut steps = vec![sse_head()];
    steps.extend(frames.iter().map(|frame| Step::Chunk((*frame).into())));
    steps.extend([Step::Chunk(DONE.into()), Step::End]);
    steps
}

async fn with(settings: &[(&str, Value)], upstream: &Upstream) -> TestGateway {
    let gateway = TestGateway::with(settings).await;
    gateway.provider("up", upstream).await;
    gateway
}

/// A question of temperature 0.
fn question(text: &str) -> Value {
    json!({"model": "up/fake", "temperature": 0, "messages": [{"role": "user", "content": text}]})
}

fn in_stream(mut body: Value) -> Value {
    body["stream"] = true.into();
    body
}

/// What a client got: what the response says of the cache, and the body.
#[derive(Debug, PartialEq, Eq)]
struct Got {
    cache: Option<String>,
    body: String,
}

impl Got {
    async fn of(response: Response) -> Self {
        assert_eq!(response.status(), 200);
        let cache = response.headers().get("x-qwarden-cache");
        let cache = cache.map(|value| value.to_str().expect("text").to_owned());
        let age = response.headers().get("age").is_some();
        assert_eq!(age, cache.as_deref() == Some("hit"));
        let body = response.text().await.expect("a body");
        Self { cache, body }
    }

    fn cache(&self) -> &str {
        self.cache.as_deref().unwrap_or("-")
    }

    fn json(&self) -> Value {
        serde_json::from_str(&self.body).expect("JSON")
    }

    fn text(&self) -> String {
        let body = self.json();
        let text = body["choices"][0]["message"]["content"].as_str();
        text.expect("a text").to_owned()
    }
}

async fn ask(gateway: &TestGateway, body: &Value) -> Got {
    Got::of(gateway.chat(body).await).await
}

async fn ask_with(gateway: &TestGateway, wish: &str, body: &Value) -> Got {
    let request = gateway
        .client
        .post(gateway.router("/v1/chat/completions"))
        .header("x-qwarden-cache", wish);
    Got::of(request.json(body).send().await.expect("an answer")).await
}

/// Changes the database as another program would.
fn change(gateway: &TestGateway, sql: &str) -> usize {
    let conn = rusqlite::Connection::open(gateway.database()).expect("it opens");
    conn.busy_timeout(PATIENCE).expect("a timeout");
    conn.execute(sql, []).expect("it is changed")
}

fn kept(gateway: &TestGateway) -> i64 {
    gateway.cell("SELECT count(*) FROM response_cache")
}

async fn told(gateway: &TestGateway) -> Value {
    let (status, body) = gateway.get(&gateway.api("/api/cache")).await;
    assert_eq!(status, 200);
    body
}

#[tokio::test]
async fn it_is_off_until_somebody_turns_it_on() {
    let upstream = counting().await;
    let gateway = with(&[], &upstream).await;
    for number in 1..=2 {
        let got = ask(&gateway, &question("hi")).await;
        assert_eq!((got.cache(), got.text()), ("-", format!("answer {number}")));
    }
    assert_eq!((upstream.completions().len(), kept(&gateway)), (2, 0));
    let url = gateway.api("/api/settings/cache.enabled");
    let on = gateway.client.put(url).json(&json!({"value": true}));
    assert_eq!(on.send().await.expect("an answer").status(), 200);
    for (cache, text) in [("miss", "answer 3"), ("hit", "answer 3")] {
        let got = ask(&gateway, &question("hi")).await;
        assert_eq!((got.cache(), &*got.text()), (cache, text));
    }
    gateway.stop().await;
}

#[tokio::test]
async fn the_same_question_of_temperature_0_is_asked_once_and_counted_once() {
    let upstream = counting().await;
    let gateway = with(&[ON], &upstream).await;
    let first = ask(&gateway, &question("hi")).await;
    assert_eq!(first.cache(), "miss");
    let same = [
        question("hi").to_string(),
        r#"{"messages":[{"content":"hi","role":"user"}], "user":"somebody", "temperature":0.0, "metadata":{"a":1},
            "model":"up/fake", "stream_options":null}"#
            .to_owned(),
    ];
    for body in same {
        let request = gateway
            .client
            .post(gateway.router("/v1/chat/completions"))
            .header("content-type", "application/json");
        let response = request.body(body).send().await.expect("an answer");
        assert_eq!(response.headers()["x-qwarden-provider"], "up");
        assert_eq!(response.headers()["x-qwarden-attempts"], "0");
        let id = response.headers()["x-request-id"]
            .to_str()
            .expect("text")
            .to_owned();
        let again = Got::of(response).await;
        assert_eq!((again.cache(), &again.body), ("hit", &first.body));
        let (_, row) = gateway
            .get(&gateway.api(&format!("/api/requests/{id}")))
            .await;
        assert_eq!(
            (&row["status"], &row["provider"]),
            (&json!("completed"), &json!("up"))
        );
        assert_eq!(row["attempts"], json!([]));
        let response = &row["response"];
        assert_eq!(response["from_cache"], true);
        assert_eq!(
            (&response["total_tokens"], &response["upstream_model"]),
            (&json!(7), &json!("fake"))
        );
        assert_eq!(response["openai_response"], again.json());
    }
    assert_eq!(upstream.completions().len(), 1);

    let (_, stats) = gateway
        .get(&gateway.api("/api/responses/stats?group_by=provider"))
        .await;
    assert_eq!(
        (&stats["total_responses"], &stats["total_tokens"]),
        (&json!(3), &json!(7))
    );
    let group = stats["groups"]
        .as_array()
        .expect("groups")
        .iter()
        .find(|group| group["key"] == "up");
    assert_eq!(group.expect("the provider")["total_responses"], 1);
    let (_, list) = gateway.get(&gateway.api("/api/requests?limit=1")).await;
    assert_eq!(list["requests"][0]["response_summary"]["from_cache"], true);

    for (body, cache) in [
        (question("hi there"), "miss"),
        (
            json!({"model": "up/fake", "temperature": 0, "seed": 1, "messages": question("hi")["messages"]}),
            "miss",
        ),
        (
            json!({"model": "up/fake", "temperature": 1, "messages": question("hi")["messages"]}),
            "bypass",
        ),
        (
            json!({"model": "up/fake", "messages": question("hi")["messages"]}),
            "bypass",
        ),
    ] {
        assert_eq!(ask(&gateway, &body).await.cache(), cache, "{body}");
    }
    assert_eq!(upstream.completions().len(), 5);
    let held = told(&gateway).await;
    assert_eq!(
        (&held["enabled"], &held["entries"]),
        (&json!(true), &json!(3))
    );
    assert_eq!((&held["hits"], &held["misses"]), (&json!(2), &json!(3)));
    assert!(held["bytes"].as_i64() > Some(0) && held["oldest"].is_i64());
    assert_eq!(
        gateway.cell::<i64>("SELECT sum(hits) FROM response_cache"),
        2
    );
    gateway.stop().await;
}

#[tokio::test]
async fn a_stream_is_given_again_in_its_own_frames() {
    let upstream = counting().await;
    let gateway = with(&[ON], &upstream).await;
    let body = in_stream(question("hi"));
    let first = ask(&gateway, &body).await;
    let expected = [&*delta("an "), &delta("answer 1"), &finish("stop"), DONE].concat();
    assert_eq!((first.cache(), &first.body), ("miss", &expected));
    let again = ask(&gateway, &body).await;
    assert_eq!((again.cache(), &again.body), ("hit", &expected));
    // The usage came from the upstream and was kept for whoever asks for it.
    let mut counted = body.clone();
    counted["stream_options"] = json!({"include_usage": true});
    let again = ask(&gateway, &counted).await;
    let expected = [
        &*delta("an "),
        &delta("answer 1"),
        &finish("stop"),
        &usage(3, 4),
        DONE,
    ]
    .concat();
    assert_eq!((again.cache(), &again.body), ("hit", &expected));
    assert_eq!(upstream.completions().len(), 1);
    let kept: String =
        gateway.cell("SELECT is_stream || (usage ->> '$.total_tokens') FROM response_cache");
    assert_eq!(kept, "17");
    gateway.stop().await;
}

#[tokio::test]
async fn comments_of_waiting_are_not_part_of_an_answer() {
    let upstream = Upstream::start(|_| {
        let mut steps = streamed(&[": processing\n\n", &delta("hi"), &finish("stop")]);
        steps.insert(1, Step::Gate);
        steps
    })
    .await;
    let gateway = with(&[ON, ("server.keepAlive", json!(10))], &upstream).await;
    let body = in_stream(question("hi"));
    let mut response = gateway.chat(&body).await;
    let comment = response.chunk().await.expect("a chunk").expect("bytes");
    assert!(comment.starts_with(b":"));
    upstream.go(1);
    assert!(response.text().await.expect("a body").ends_with(DONE));
    let again = ask(&gateway, &body).await;
    let expected = [&*delta("hi"), &finish("stop"), DONE].concat();
    assert_eq!((again.cache(), &again.body), ("hit", &expected));
    gateway.stop().await;
}

#[tokio::test]
async fn either_form_answers_a_request_for_the_other() {
    let upstream = counting().await;
    let gateway = with(&[ON], &upstream).await;
    ask(&gateway, &in_stream(question("streamed"))).await;
    let got = ask(&gateway, &question("streamed")).await;
    assert_eq!((got.cache(), &*got.text()), ("hit", "an answer 1"));
    let body = got.json();
    assert_eq!(
        (&body["object"], &body["model"]),
        (&json!("chat.completion"), &json!("fake"))
    );
    assert_eq!(
        (
            &body["choices"][0]["finish_reason"],
            &body["usage"]["total_tokens"]
        ),
        (&json!("stop"), &json!(7))
    );

    ask(&gateway, &question("whole")).await;
    let mut wanted = in_stream(question("whole"));
    let got = ask(&gateway, &wanted).await;
    assert_eq!(got.cache(), "hit");
    let heard = hear(&got.body);
    assert_eq!((&*heard.text, heard.done, heard.usages), ("answer 2", 1, 0));
    assert_eq!(heard.finish_reasons, ["stop"]);
    assert_eq!(
        got.body.matches("data: ").count(),
        4,
        "role, content, finish, end: {}",
        got.body
    );
    wanted["stream_options"] = json!({"include_usage": true});
    let got = ask(&gateway, &wanted).await;
    assert_eq!((got.cache(), hear(&got.body).usages), ("hit", 1));
    assert_eq!(upstream.completions().len(), 2);

    // What only one form can tell is kept for that form.
    let mut exact = question("streamed");
    exact["logprobs"] = true.into();
    assert_eq!(ask(&gateway, &exact).await.cache(), "miss");
    assert_eq!(
        ask(&gateway, &in_stream(exact.clone())).await.cache(),
        "miss"
    );
    assert_eq!(ask(&gateway, &exact).await.cache(), "hit");
    gateway.stop().await;
}

#[tokio::test]
async fn tool_calls_and_several_choices_survive_in_both_forms() {
    let call = |index: u64, arguments: &str| {
        json!({"index": index, "id": format!("call_{index}"), "type": "function",
        "function": {"name": "read", "arguments": arguments}})
    };
    let chunk = |index: u64, delta: Value, reason: Value| {
        let chunk = json!({"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "fake",
            "choices": [{"index": index, "delta": delta, "finish_reason": reason}]});
        format!("data: {chunk}\n\n")
    };
    let frames = [
        chunk(
            0,
            json!({"role": "assistant", "content": null, "tool_calls": [call(0, "")]}),
            json!(null),
        ),
        chunk(
            1,
            json!({"role": "assistant", "content": "no call"}),
            json!(null),
        ),
        chunk(
            0,
            json!({"tool_calls": [{"index": 0, "function": {"arguments": "{\"a\":"}}]}),
            json!(null),
        ),
        chunk(
            0,
            json!({"tool_calls": [{"index": 0, "function": {"arguments": "1}"}}, call(1, "{}")]}),
            json!(null),
        ),
        chunk(0, json!({}), json!("tool_calls")),
        chunk(1, json!({}), json!("stop")),
    ];
    let stream = frames.concat() + DONE;
    let upstream = Upstream::streaming(&stream).await;
    let gateway = with(&[ON], &upstream).await;
    let mut body = question("hi");
    body["n"] = 2.into();
    body["tools"] = json!([{"type": "function", "function": {"name": "read", "parameters": {"type": "object"}}}]);
    assert_eq!(
        ask(&gateway, &in_stream(body.clone())).await.cache(),
        "miss"
    );
    let again = ask(&gateway, &in_stream(body.clone())).await;
    assert_eq!((again.cache(), &again.body), ("hit", &stream));
    let got = ask(&gateway, &body).await;
    assert_eq!(got.cache(), "hit");
    let choices = got.json()["choices"].clone();
    assert_eq!(
        choices[0]["message"]["tool_calls"][0]["function"]["arguments"],
        "{\"a\":1}"
    );
    assert_eq!(choices[0]["message"]["tool_calls"][1]["id"], "call_1");
    assert_eq!(choices[0]["finish_reason"], "tool_calls");
    assert_eq!(choices[1]["message"]["content"], "no call");
    assert_eq!(upstream.completions().len(), 1);
    gateway.stop().await;
}

#[tokio::test]
async fn the_client_decides_with_a_header() {
    let upstream = counting().await;
    let gateway = with(&[], &upstream).await;
    let warm = json!({"model": "up/fake", "messages": [{"role": "user", "content": "hi"}]});
    for (wish, cache, text) in [
        ("on", "miss", "answer 1"),
        ("On", "hit", "answer 1"),
        ("off", "bypass", "answer 2"),
        ("on", "hit", "answer 1"),
        ("refresh", "miss", "answer 3"),
        ("on", "hit", "answer 3"),
    ] {
        let got = ask_with(&gateway, wish, &warm).await;
        assert_eq!((got.cache(), &*got.text()), (cache, text), "{wish}");
    }
    assert_eq!(
        ask(&gateway, &warm).await.cache(),
        "-",
        "off, and not asked for"
    );
    let request = gateway.client.post(gateway.router("/v1/chat/completions"));
    let request = request.header("x-qwarden-cache", "perhaps").json(&warm);
    let refused = request.send().await.expect("an answer");
    assert_eq!(refused.status(), 400);
    let body: Value = refused.json().await.expect("JSON");
    let message = body["error"]["message"].as_str().expect("words");
    assert!(message.contains("`on`, `off` or `refresh`"), "{message}");
    gateway.stop().await;
}

#[tokio::test]
async fn an_answer_is_given_again_until_it_expires() {
    let upstream = counting().await;
    let gateway = with(&[ON, ("cache.ttl", json!(600_000))], &upstream).await;
    ask(&gateway, &question("hi")).await;
    let lives: i64 = gateway.cell("SELECT expires_at - created_at FROM response_cache");
    assert_eq!(lives, 600_000);
    change(
        &gateway,
        "UPDATE response_cache SET created_at = created_at - 90000",
    );
    let response = gateway.chat(&question("hi")).await;
    let age: u64 = response.headers()["age"]
        .to_str()
        .expect("text")
        .parse()
        .expect("a number");
    assert!((90..90 + PATIENCE.as_secs()).contains(&age), "{age}");
    drop(response);
    change(&gateway, "UPDATE response_cache SET expires_at = 1");
    for cache in ["miss", "hit"] {
        let got = ask(&gateway, &question("hi")).await;
        assert_eq!((got.cache(), &*got.text()), (cache, "answer 2"));
    }
    change(&gateway, "UPDATE response_cache SET expires_at = 1");
    let run = gateway.api("/api/retention/run");
    let report: Value = gateway
        .post(&run, &json!({}))
        .await
        .json()
        .await
        .expect("JSON");
    assert_eq!(report["deleted"]["response_cache"], 1);
    assert_eq!(kept(&gateway), 0);
    gateway.stop().await;
}

#[tokio::test]
async fn what_was_not_hit_for_longest_goes_first() {
    let upstream = counting().await;
    let gateway = with(&[ON, ("cache.maxEntries", json!(2))], &upstream).await;
    ask(&gateway, &question("a")).await;
    ask(&gateway, &question("b")).await;
    // Times that do not depend on how fast this runs.
    change(&gateway, "UPDATE response_cache SET last_hit_at = 1");
    assert_eq!(ask(&gateway, &question("a")).await.cache(), "hit");
    ask(&gateway, &question("c")).await;
    assert_eq!(kept(&gateway), 2);
    assert_eq!(ask(&gateway, &question("a")).await.cache(), "hit");
    assert_eq!(ask(&gateway, &question("c")).await.cache(), "hit");
    for (key, left) in [("cache.maxEntries", 1), ("cache.maxBytes", 0)] {
        let url = gateway.api(&format!("/api/settings/{key}"));
        let lower = gateway.client.put(url).json(&json!({"value": left}));
        assert_eq!(lower.send().await.expect("an answer").status(), 200);
        let run = gateway.api("/api/retention/run");
        assert_eq!(gateway.post(&run, &json!({})).await.status(), 200);
        assert_eq!(kept(&gateway), left);
    }
    assert_eq!(ask(&gateway, &question("d")).await.cache(), "miss");
    assert_eq!(kept(&gateway), 0);
    gateway.stop().await;
}

#[tokio::test]
async fn it_survives_a_restart_and_answers_while_nobody_else_does() {
    let upstream = counting().await;
    let gateway = with(&[ON], &upstream).await;
    ask(&gateway, &question("hi")).await;
    ask(&gateway, &in_stream(question("events"))).await;
    drop(upstream);
    let gateway = TestGateway::reopened(gateway.stop().await, &[ON]).await;
    let got = ask(&gateway, &question("hi")).await;
    assert_eq!((got.cache(), &*got.text()), ("hit", "answer 1"));
    let got = ask(&gateway, &in_stream(question("events"))).await;
    assert_eq!(
        (got.cache(), &*hear(&got.body).text),
        ("hit", "an answer 2")
    );
    assert_eq!(gateway.chat(&question("else")).await.status(), 502);
    gateway.stop().await;
}

#[tokio::test]
async fn only_whole_answers_are_kept() {
    let error = format!("data: {}\n\n", json!({"error": {"message": "no"}}));
    let long = delta(&"x".repeat(700_000));
    let open = json!({"id": "c", "object": "chat.completion", "model": "fake",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "x"}, "finish_reason": null}]});
    let cases: Vec<(&str, Vec<Step>)> = vec![
        (
            "a failure",
            vec![json_answer(500, &json!({"error": {"message": "no"}}))],
        ),
        (
            "a refusal",
            vec![json_answer(400, &json!({"error": {"message": "no"}}))],
        ),
        ("no finish reason", vec![json_answer(200, &open)]),
        (
            "cut",
            vec![sse_head(), Step::Chunk(delta("a").into()), Step::Close],
        ),
        ("an end without a finish reason", streamed(&[&delta("a")])),
        ("an error inside", streamed(&[&delta("a"), &error])),
        ("too large", streamed(&[&long, &long, &finish("stop")])),
    ];
    for (what, steps) in cases {
        let is_stream = matches!(steps[0], Step::Head(..));
        let upstream = Upstream::start(move |_| steps.clone()).await;
        let gateway = with(&[ON], &upstream).await;
        let mut body = question("hi");
        body["stream"] = is_stream.into();
        for _ in 0..2 {
            let response = gateway.chat(&body).await;
            assert_ne!(
                response
                    .headers()
                    .get("x-qwarden-cache")
                    .map(reqwest::header::HeaderValue::as_bytes),
                Some(&b"hit"[..]),
                "{what}"
            );
            let _ = response.bytes().await;
        }
        assert!(upstream.completions().len() >= 2, "{what}");
        assert_eq!(kept(&gateway), 0, "{what}");
        gateway.stop().await;
    }
}

#[tokio::test]
async fn an_answer_its_client_left_is_not_kept() {
    let upstream =
        Upstream::start(|_| vec![sse_head(), Step::Chunk(delta("a").into()), Step::Hang]).await;
    let gateway = with(&[ON], &upstream).await;
    let mut response = gateway.chat(&in_stream(question("hi"))).await;
    response.chunk().await.expect("a chunk").expect("bytes");
    drop(response);
    upstream.hung_up(Duration::from_secs(20)).await;
    let dir = gateway.stop().await;
    let database = dir.path().join("data").join("qwarden.db");
    let count = |sql| crate::support::read_cell::<i64>(&database, sql);
    assert_eq!(
        count("SELECT count(*) FROM requests WHERE status = 'client_closed'"),
        1
    );
    assert_eq!(count("SELECT count(*) FROM response_cache"), 0);
}

#[tokio::test]
async fn keys_do_not_share_answers() {
    let upstream = counting().await;
    let gateway = with(&[ON, ("auth.requireKeys", json!("always"))], &upstream).await;
    let mut keys = Vec::new();
    for name in ["a", "b"] {
        let made = gateway
            .post(&gateway.api("/api/keys"), &json!({"name": name}))
            .await;
        let made: Value = made.json().await.expect("JSON");
        keys.push(made["key"].as_str().expect("a key").to_owned());
    }
    for (key, cache, text) in [
        (0, "miss", "answer 1"),
        (1, "miss", "answer 2"),
        (0, "hit", "answer 1"),
        (1, "hit", "answer 2"),
    ] {
        let request = gateway.client.post(gateway.router("/v1/chat/completions"));
        let request = request.bearer_auth(&keys[key]).json(&question("hi"));
        let got = Got::of(request.send().await.expect("an answer")).await;
        assert_eq!((got.cache(), &*got.text()), (cache, text));
    }
    gateway.stop().await;
}

#[tokio::test]
async fn it_can_be_looked_at_and_emptied() {
    let upstream = counting().await;
    let gateway = with(&[ON], &upstream).await;
    let user = User::of(&gateway);
    ask(&gateway, &question("a")).await;
    ask(&gateway, &question("b")).await;
    let mut other = question("c");
    other["model"] = "fake".into();
    ask(&gateway, &other).await;
    let said = user.run(&["cache"]).await.ok();
    assert!(
        said.out.contains("answers") && said.out.contains('3'),
        "{said:?}"
    );
    let clear = async |query: &str| {
        let url = gateway.api(&format!("/api/cache{query}"));
        let answer = gateway.client.delete(url).send().await.expect("an answer");
        assert_eq!(answer.status(), 200);
        answer.json::<Value>().await.expect("JSON")["deleted"].clone()
    };
    assert_eq!(clear("?model=nothing").await, 0);
    assert_eq!(clear("?model=up/fake").await, 2);
    assert_eq!(ask(&gateway, &other).await.cache(), "hit");
    assert_eq!(clear("").await, 1);
    assert_eq!(ask(&gateway, &other).await.cache(), "miss");
    user.run(&["cache", "clear"]).await.fails(2);
    let said = user.run(&["cache", "clear", "--yes"]).await.ok();
    assert!(said.out.contains("1 answers dropped"), "{said:?}");
    assert_eq!(told(&gateway).await["entries"], 0);
    let audited = "SELECT count(*) FROM audit_log WHERE entity = 'cache' AND action = 'cleared'";
    assert_eq!(gateway.cell::<i64>(audited), 4);
    let (_, events) = gateway.get(&gateway.api("/api/activity/recent")).await;
    let is_told = events["activities"]
        .as_array()
        .expect("rows")
        .iter()
        .any(|row| row["type"] == "cache_updated");
    assert!(is_told, "{events}");
    gateway.stop().await;
}

#[tokio::test]
async fn a_conversation_at_the_site_goes_on_unless_its_client_asks_for_the_cache() {
    let site = Site::saying("Hello").await;
    let gateway = TestGateway::with(&[ON, ("qwen.baseUrl", json!(site.upstream.origin()))]).await;
    log_in(&gateway, "default", "me").await;
    let direct = json!({"id": "web", "name": "web", "type": "qwen-direct", "config": {}});
    let made = gateway.post(&gateway.api("/api/providers"), &direct).await;
    assert_eq!(made.status(), 201);
    for (url, model, unasked) in [
        (gateway.qwen("/v1/chat/completions"), "qwen3-max", "bypass"),
        (
            gateway.router("/v1/chat/completions"),
            "web/qwen3-max",
            "bypass",
        ),
    ] {
        let mut body = question("hi");
        body["model"] = model.into();
        let asking = async |wish: Option<&str>| {
            let mut request = gateway.client.post(&url).json(&body);
            if let Some(wish) = wish {
                request = request.header("x-qwarden-cache", wish);
            }
            Got::of(request.send().await.expect("an answer")).await
        };
        let before = site.turns().len();
        assert_eq!(asking(None).await.cache(), unasked);
        assert_eq!(asking(None).await.cache(), unasked);
        assert_eq!(site.turns().len(), before + 2, "{url}");
        assert_eq!(asking(Some("on")).await.cache(), "miss");
        assert_eq!(asking(Some("on")).await.cache(), "hit");
        assert_eq!(asking(None).await.cache(), unasked, "{url}");
        assert_eq!(site.turns().len(), before + 4, "{url}");
    }
    assert_clean(&site);
    gateway.stop().await;
}

#[tokio::test]
async fn a_database_that_is_gone_costs_no_request() {
    let upstream = counting().await;
    let gateway = with(&[ON], &upstream).await;
    ask(&gateway, &question("hi")).await;
    let before = gateway.actor("database").await["incarnation"].as_u64();
    for _ in 0..3 {
        assert_eq!(gateway.crash("database").await, 200);
        let got = ask(&gateway, &question("hi")).await;
        assert!(["hit", "miss"].contains(&got.cache()), "{got:?}");
    }
    gateway
        .incarnation_after("database", before.expect("a number"))
        .await;
    assert_eq!(ask(&gateway, &question("hi")).await.cache(), "hit");
    gateway.stop().await;
}

#[tokio::test]
async fn a_replay_asks_anew() {
    let upstream = counting().await;
    let gateway = with(&[ON], &upstream).await;
    let response = gateway.chat(&question("hi")).await;
    let id = response.headers()["x-request-id"]
        .to_str()
        .expect("text")
        .to_owned();
    assert_eq!(Got::of(response).await.text(), "answer 1");
    let url = gateway.api(&format!("/api/requests/{id}/replay"));
    let replayed: Value = gateway
        .post(&url, &json!({}))
        .await
        .json()
        .await
        .expect("JSON");
    let text = &replayed["response"]["choices"][0]["message"]["content"];
    assert_eq!(text, "answer 2");
    assert_eq!(ask(&gateway, &question("hi")).await.text(), "answer 1");
    gateway.stop().await;
}

#[tokio::test]
async fn of_two_equal_questions_at_once_neither_waits_for_the_other() {
    let upstream = Upstream::start(|_| vec![Step::Gate, json_answer(200, &whole("Hello"))]).await;
    let gateway = with(&[ON], &upstream).await;
    let body = question("hi");
    let both = async { tokio::join!(ask(&gateway, &body), ask(&gateway, &body)) };
    let release = async {
        upstream.wait_for(2).await;
        upstream.go(2);
    };
    let ((one, other), ()) = tokio::join!(both, release);
    assert_eq!((one.cache(), other.cache()), ("miss", "miss"));
    assert_eq!(ask(&gateway, &body).await.cache(), "hit");
    assert_eq!(kept(&gateway), 1);
    gateway.stop().await;
}
