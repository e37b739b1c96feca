//! Upstreams that fail in every way, with a second one that does not: the client sees one clean answer, once.

use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};

use crate::support::upstream::{
    DONE, Received, Step, Upstream, delta, finish, json_answer, sse_head, whole,
};
use crate::support::{PATIENCE, TestGateway, say, say_streamed};

const MODEL: &str = "m";

/// Sixty different words.
fn words() -> Vec<String> {
    (1..=60).map(|number| format!("word{number} ")).collect()
}

fn text() -> String {
    words().concat()
}

fn told(words: &[String]) -> Step {
    let chunks: String = words.iter().map(|word| delta(word)).collect();
    Step::Chunk(chunks.into_bytes())
}

/// The whole answer as a stream, or as one document.
fn good(request: &Received) -> Vec<Step> {
    if request.json()["stream"] == true {
        vec![
            sse_head(),
            told(&words()),
            Step::Chunk(ending("stop")),
            Step::End,
        ]
    } else {
        vec![json_answer(200, &whole(&text()))]
    }
}

fn ending(reason: &str) -> Vec<u8> {
    format!("{}{DONE}", finish(reason)).into_bytes()
}

fn event(delta: &Value) -> String {
    let chunk = json!({"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "fake",
        "choices": [{"index": 0, "delta": delta, "finish_reason": null}]});
    format!("data: {chunk}\n\n")
}

/// A virtual model over `upstreams`, in this order.
async fn over(upstreams: &[&Upstream], settings: &[(&str, Value)]) -> TestGateway {
    let gateway = TestGateway::with(settings).await;
    let mut targets = Vec::new();
    for (number, upstream) in (1..).zip(upstreams) {
        gateway.provider(&format!("p{number}"), upstream).await;
        targets.push(format!("p{number}/fake"));
    }
    let body = json!({"name": MODEL, "targets": targets});
    let made = gateway
        .post(&gateway.api("/api/virtual-models"), &body)
        .await;
    assert_eq!(made.status(), 201);
    gateway
}

/// What a client made of a stream.
#[derive(Debug, Default)]
struct Seen {
    status: u16,
    id: String,
    provider: String,
    attempts: String,
    raw: String,
    text: String,
    thought: String,
    calls: Vec<(String, String)>,
    finishes: Vec<String>,
    errors: Vec<Value>,
    ends: usize,
}

impl Seen {
    fn read(&mut self) {
        for event in self
            .raw
            .split("\n\n")
            .filter_map(|event| event.strip_prefix("data: "))
        {
            if event == "[DONE]" {
                self.ends += 1;
                continue;
            }
            let event: Value = serde_json::from_str(event).expect("JSON");
            if !event["error"].is_null() {
                self.errors.push(event["error"].clone());
            }
            let choice = &event["choices"][0];
            self.text
                .push_str(choice["delta"]["content"].as_str().unwrap_or_default());
            self.thought.push_str(
                choice["delta"]["reasoning_content"]
                    .as_str()
                    .unwrap_or_default(),
            );
            for call in choice["delta"]["tool_calls"]
                .as_array()
                .into_iter()
                .flatten()
            {
                let arguments = call["function"]["arguments"].as_str().unwrap_or_default();
                match call["function"]["name"].as_str() {
                    Some(name) => self.calls.push((name.into(), arguments.into())),
                    None => self.calls.last_mut().expect("a call").1.push_str(arguments),
                }
            }
            self.finishes
                .extend(choice["finish_reason"].as_str().map(str::to_owned));
        }
    }

    #[track_caller]
    fn is_whole(&self) {
        assert_eq!((self.status, &*self.text), (200, &*text()), "{self:?}");
        assert_eq!((self.errors.len(), self.ends), (0, 1), "{self:?}");
        assert_eq!(self.finishes, ["stop"], "{self:?}");
    }
}

async fn stream(gateway: &TestGateway, body: &Value) -> Seen {
    let answer = gateway.chat(body).await;
    let header = |name: &str| {
        let value = answer.headers().get(name);
        value
            .map_or("", |value| value.to_str().expect("text"))
            .to_owned()
    };
    let mut seen = Seen {
        status: answer.status().as_u16(),
        id: header("x-request-id"),
        provider: header("x-qwarden-provider"),
        attempts: header("x-qwarden-attempts"),
        ..Seen::default()
    };
    seen.raw = answer.text().await.expect("a body that ends");
    if seen.status == 200 {
        seen.read();
    }
    seen
}

/// Reads on until `heard` holds `text`.
async fn read_until(answer: &mut reqwest::Response, heard: &mut String, text: &str) {
    while !heard.contains(text) {
        let piece = tokio::time::timeout(PATIENCE, answer.chunk()).await;
        let piece = piece.expect("it comes").expect("a body").expect("more");
        heard.push_str(&String::from_utf8_lossy(&piece));
    }
}

async fn attempts(gateway: &TestGateway, id: &str) -> Vec<Value> {
    let (status, shown) = gateway
        .get(&gateway.api(&format!("/api/requests/{id}")))
        .await;
    assert_eq!(status, 200);
    assert!(shown["plan"]["targets"].is_array(), "{shown}");
    shown["attempts"].as_array().expect("attempts").clone()
}

type Fault = (&'static str, fn() -> Vec<Step>);

/// How an upstream ends early, once it has said what it said.
const ENDS: &[Fault] = &[
    ("cut", || vec![Step::Close]),
    ("reset", || vec![Step::Reset]),
    ("clean end", || vec![Step::End]),
    ("in-band error", || {
        let error = json!({"error": {"message": "the engine died", "type": "server_error"}});
        vec![
            Step::Chunk(format!("data: {error}\n\n").into_bytes()),
            Step::End,
        ]
    }),
    ("malformed", || {
        vec![
            Step::Chunk(b"data: {\"choices\": [{\n\n".to_vec()),
            Step::End,
        ]
    }),
    ("stall", || vec![Step::Hang]),
];

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_breaks_off_is_gone_on_with() {
    for (name, end) in ENDS {
        for second in ["anew", "on", "repeating"] {
            let first = Upstream::start(move |_| {
                let mut steps = vec![sse_head(), told(&words()[..40])];
                steps.extend(end());
                steps
            })
            .await;
            let other = Upstream::start(move |request| match second {
                "anew" => good(request),
                "on" => vec![
                    sse_head(),
                    told(&words()[40..]),
                    Step::Chunk(ending("stop")),
                    Step::End,
                ],
                _ => vec![
                    sse_head(),
                    told(&words()[37..]),
                    Step::Chunk(ending("stop")),
                    Step::End,
                ],
            })
            .await;
            let gateway = over(&[&first, &other], &[("server.timeout", json!(1000))]).await;
            let seen = stream(&gateway, &say_streamed(MODEL, "tell me")).await;
            seen.is_whole();
            assert_eq!(
                (first.completions().len(), other.completions().len()),
                (1, 1),
                "{name} {second}"
            );
            assert_eq!(seen.provider, "p1", "the head was sent by then");
            assert!(
                seen.raw.contains(": qwarden: the answer broke off after "),
                "{}",
                seen.raw
            );
            // All of one stream, for clients that look.
            let ids = seen.raw.matches("\"id\":\"chatcmpl-1\"").count();
            assert_eq!(ids, seen.raw.matches("\"choices\"").count(), "{}", seen.raw);
            let asked = other.completions()[0].json();
            let messages = asked["messages"].as_array().expect("messages");
            assert_eq!(
                messages[1],
                json!({"role": "assistant", "content": words()[..40].concat()})
            );
            let instruction = messages[2]["content"].as_str().expect("text");
            assert!(instruction.contains("word40"), "{instruction}");
            let rows = attempts(&gateway, &seen.id).await;
            let outcomes: Vec<_> = rows.iter().map(|row| row["outcome"].clone()).collect();
            assert_eq!(outcomes, ["failed", "succeeded"], "{rows:?}");
            let length = words()[..40].concat().chars().count();
            assert_eq!(
                (&rows[0]["resumed_at"], &rows[1]["resumed_at"]),
                (&Value::Null, &json!(length))
            );
            let (_, shown) = gateway
                .get(&gateway.api(&format!("/api/requests/{}", seen.id)))
                .await;
            let kept = &shown["response"]["openai_response"]["choices"][0]["message"]["content"];
            assert_eq!(kept, &json!(text()), "the history has it whole, too");
            gateway.stop().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_another_target_the_error_is_told() {
    for (name, end) in ENDS {
        let only = Upstream::start(move |_| {
            let mut steps = vec![sse_head(), told(&words()[..40])];
            steps.extend(end());
            steps
        })
        .await;
        let gateway = over(&[&only], &[("server.timeout", json!(1000))]).await;
        let seen = stream(&gateway, &say_streamed(MODEL, "tell me")).await;
        assert_eq!(seen.text, words()[..40].concat(), "{name}: all that came");
        assert_eq!(
            (seen.errors.len(), seen.ends, seen.finishes.len()),
            (1, 1, 0),
            "{name}: {seen:?}"
        );
        assert_eq!(only.completions().len(), 1, "{name}");
        gateway.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn before_the_first_content_the_next_target_begins_anew() {
    let role = || Step::Chunk(event(&json!({"role": "assistant", "content": ""})).into_bytes());
    let heads: &[(&str, bool)] = &[("at once", false), ("after the role", true)];
    for (name, end) in ENDS {
        for (when, has_role) in heads {
            let has_role = *has_role;
            let first = Upstream::start(move |_| {
                let mut steps = vec![sse_head()];
                steps.extend(has_role.then(role));
                steps.extend(end());
                steps
            })
            .await;
            let second = Upstream::start(good).await;
            let gateway = over(&[&first, &second], &[("server.timeout", json!(1000))]).await;
            let seen = stream(&gateway, &say_streamed(MODEL, "tell me")).await;
            seen.is_whole();
            assert_eq!(&*seen.provider, "p2", "{name} {when}");
            assert_eq!(&*seen.attempts, "2", "{name} {when}");
            assert!(!seen.raw.contains("qwarden:"), "no seam: {}", seen.raw);
            let asked = second.completions()[0].json();
            assert_eq!(asked["messages"].as_array().map(Vec::len), Some(1));
            gateway.stop().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_in_other_words_is_never_mixed_in() {
    let first = Upstream::start(|_| vec![sse_head(), told(&words()[..40]), Step::Close]).await;
    let second = Upstream::start(|_| {
        let mut other = words()[..10].to_vec();
        other.extend((0..30).map(|number| format!("other{number} ")));
        vec![
            sse_head(),
            told(&other),
            Step::Chunk(ending("stop")),
            Step::End,
        ]
    })
    .await;
    let gateway = over(&[&first, &second], &[]).await;
    let seen = stream(&gateway, &say_streamed(MODEL, "tell me")).await;
    assert_eq!(seen.text, words()[..40].concat());
    assert_eq!(
        (seen.errors.len(), seen.ends, seen.finishes.len()),
        (1, 1, 0),
        "{seen:?}"
    );
    gateway.stop().await;
}

fn call(index: usize, name: Option<&str>, arguments: &str) -> String {
    event(
        &json!({"tool_calls": [{"index": index, "id": name.map(|name| format!("call_{name}")),
        "type": "function", "function": {"name": name, "arguments": arguments}}]}),
    )
}

/// What comes before a call that is cut half way, and what the client gets in the end.
#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_is_cut_is_begun_again_elsewhere() {
    let good_call = || {
        [
            call(0, Some("write"), "{\"path\": \"a.txt\","),
            call(0, None, " \"text\": \"}{\"}"),
        ]
        .concat()
    };
    for before in ["", "I write it. "] {
        let first = Upstream::start(move |_| {
            let mut chunks = String::new();
            if !before.is_empty() {
                chunks.push_str(&delta(before));
            }
            let _ = write!(chunks, "{}", call(0, Some("write"), "{\"path\": \"a.t"));
            vec![sse_head(), Step::Chunk(chunks.into_bytes()), Step::Close]
        })
        .await;
        let second = Upstream::start(move |_| {
            vec![
                sse_head(),
                Step::Chunk(good_call().into_bytes()),
                Step::Chunk(ending("tool_calls")),
                Step::End,
            ]
        })
        .await;
        let gateway = over(&[&first, &second], &[]).await;
        let seen = stream(&gateway, &say_streamed(MODEL, "write it")).await;
        assert_eq!(
            (seen.status, &*seen.text, seen.errors.len()),
            (200, before, 0),
            "{seen:?}"
        );
        let expected = (
            "write".to_owned(),
            "{\"path\": \"a.txt\", \"text\": \"}{\"}".to_owned(),
        );
        assert_eq!(seen.calls, [expected], "once, and whole");
        assert_eq!(
            (seen.finishes, seen.ends),
            (vec!["tool_calls".to_owned()], 1)
        );
        gateway.stop().await;
    }
    // One that is told cannot be taken back.
    let first = Upstream::start(|_| {
        let calls = [
            call(0, Some("read"), "{}"),
            call(1, Some("write"), "{\"path\":"),
        ]
        .concat();
        vec![sse_head(), Step::Chunk(calls.into_bytes()), Step::Close]
    })
    .await;
    let second = Upstream::start(good).await;
    let gateway = over(&[&first, &second], &[]).await;
    let seen = stream(&gateway, &say_streamed(MODEL, "write it")).await;
    assert_eq!(seen.calls, [("read".to_owned(), "{}".to_owned())]);
    assert_eq!(
        (seen.errors.len(), seen.ends, seen.finishes.len()),
        (1, 1, 0),
        "{seen:?}"
    );
    assert!(second.completions().is_empty());
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_is_sent_when_it_is_whole_and_the_client_hears_of_the_wait() {
    let upstream = Upstream::start(|_| {
        vec![
            sse_head(),
            Step::Chunk(call(0, Some("write"), "{\"path\":").into_bytes()),
            Step::Gate,
            Step::Chunk(call(0, None, " 1}").into_bytes()),
            Step::Gate,
            Step::Chunk(ending("tool_calls")),
            Step::End,
        ]
    })
    .await;
    let gateway = over(&[&upstream], &[("server.keepAlive", json!(20))]).await;
    let mut answer = gateway.chat(&say_streamed(MODEL, "write it")).await;
    let mut heard = String::new();
    read_until(&mut answer, &mut heard, ": waiting").await;
    assert!(!heard.contains("tool_calls"), "{heard}");
    upstream.go(1);
    // Both pieces, while the upstream has not said yet that it is over.
    read_until(&mut answer, &mut heard, " 1}").await;
    assert!(
        heard.contains("write") && !heard.contains("finish_reason\":\"tool_calls"),
        "{heard}"
    );
    upstream.go(1);
    read_until(&mut answer, &mut heard, "[DONE]").await;
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_of_which_only_the_thinking_was_told_is_begun_anew() {
    let thought = |text: &str| event(&json!({"reasoning_content": text}));
    let first = Upstream::start(move |_| {
        vec![
            sse_head(),
            Step::Chunk(thought("Let me think").into_bytes()),
            Step::Close,
        ]
    })
    .await;
    let second = Upstream::start(good).await;
    let gateway = over(&[&first, &second], &[]).await;
    let seen = stream(&gateway, &say_streamed(MODEL, "tell me")).await;
    seen.is_whole();
    assert_eq!(seen.thought, "Let me think");
    let asked = second.completions()[0].json();
    assert_eq!(
        asked["messages"].as_array().map(Vec::len),
        Some(1),
        "nothing to go on with"
    );
    gateway.stop().await;
}

fn refusal(status: u16, headers: Vec<(&'static str, String)>, error: &Value) -> Vec<Step> {
    let mut all = vec![("content-type", "application/json".to_owned())];
    all.extend(headers);
    vec![Step::Whole(
        status,
        all,
        json!({"error": error}).to_string().into_bytes(),
    )]
}

#[tokio::test(flavor = "multi_thread")]
async fn each_class_of_error_goes_where_it_belongs() {
    // Status, code, and whether another target is asked.
    for (status, code, goes_on) in [
        (400, "bad_temperature", false),
        (422, "unprocessable", false),
        (400, "context_length_exceeded", true),
        (413, "too_large", true),
        (400, "content_filter", true),
        (401, "invalid_api_key", true),
        (402, "payment_required", true),
        (403, "forbidden", true),
        (404, "model_not_found", true),
        (408, "timeout", true),
        (409, "conflict", true),
        (429, "slow_down", true),
        (429, "insufficient_quota", true),
        (500, "broken", true),
        (502, "bad_gateway", true),
        (503, "unavailable", true),
        (504, "late", true),
        (529, "overloaded", true),
    ] {
        let first = Upstream::start(move |_| {
            refusal(status, Vec::new(), &json!({"message": "no", "code": code}))
        })
        .await;
        let second = Upstream::start(good).await;
        let gateway = over(&[&first, &second], &[]).await;
        for body in [say(MODEL, "hi"), say_streamed(MODEL, "hi")] {
            let asked = first.completions().len();
            let answer = gateway.chat(&body).await;
            if goes_on {
                assert_eq!(answer.status(), 200, "{status} {code}");
                assert_eq!(answer.headers()["x-qwarden-provider"], "p2");
            } else {
                assert_eq!(answer.status().as_u16(), status, "{code}");
                let told: Value = answer.json().await.expect("JSON");
                assert_eq!(told["error"]["code"], code);
                assert!(
                    second.completions().is_empty(),
                    "{status} {code}: it is the caller's fault"
                );
            }
            assert!(first.completions().len() <= asked + 1, "{status} {code}");
        }
        gateway.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_hides_in_a_200_is_no_answer() {
    let bodies: [(&str, &str); 4] = [
        (
            "application/json",
            "{\"error\":{\"message\":\"overloaded\"}}",
        ),
        ("text/html", "<html><title>Login</title></html>"),
        ("application/json", "garbage"),
        ("application/json", ""),
    ];
    for (kind, body) in bodies {
        let first = Upstream::start(move |_| {
            vec![Step::Whole(
                200,
                vec![("content-type", kind.into())],
                body.into(),
            )]
        })
        .await;
        let second = Upstream::start(good).await;
        let gateway = over(&[&first, &second], &[]).await;
        for request in [say(MODEL, "hi"), say_streamed(MODEL, "hi")] {
            let answer = gateway.chat(&request).await;
            assert_eq!(
                answer.headers()["x-qwarden-provider"],
                "p2",
                "{kind} {body}"
            );
        }
        assert_eq!(
            (first.completions().len(), second.completions().len()),
            (2, 2)
        );
        gateway.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_asks_for_a_rest_is_left_alone() {
    for after in [
        vec![("retry-after", "30".to_owned())],
        vec![("retry-after", "Fri, 31 Dec 2100 23:59:59 GMT".to_owned())],
        vec![("retry-after-ms", "30000".to_owned())],
    ] {
        let first =
            Upstream::start(move |_| refusal(429, after.clone(), &json!({"message": "slow down"})))
                .await;
        let second = Upstream::start(good).await;
        let gateway = over(&[&first, &second], &[]).await;
        for _ in 0..3 {
            let answer = gateway.chat(&say(MODEL, "hi")).await;
            assert_eq!(answer.headers()["x-qwarden-provider"], "p2");
        }
        assert_eq!(
            (first.completions().len(), second.completions().len()),
            (1, 3)
        );
        // By itself it is not asked either; the client learns when.
        let answer = gateway.chat(&say("p1/fake", "hi")).await;
        assert_eq!(answer.status(), 429);
        assert!(answer.headers().contains_key("retry-after"));
        assert_eq!(first.completions().len(), 1);
        gateway.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lonely_target_is_tried_again_and_then_its_error_is_told() {
    let count = Arc::new(AtomicUsize::new(0));
    let counted = count.clone();
    let upstream = Upstream::start(
        move |request| match counted.fetch_add(1, Ordering::SeqCst) {
            0 | 1 => refusal(503, Vec::new(), &json!({"message": "not yet"})),
            2 => good(request),
            _ => refusal(503, Vec::new(), &json!({"message": "never"})),
        },
    )
    .await;
    let gateway = over(&[&upstream], &[]).await;
    let answer = gateway.chat(&say(MODEL, "hi")).await;
    assert_eq!(
        (
            answer.status().as_u16(),
            &answer.headers()["x-qwarden-attempts"]
        ),
        (200, &"3".parse().expect("a value"))
    );
    let answer = gateway.chat(&say(MODEL, "hi")).await;
    assert_eq!(answer.status(), 503);
    assert!(answer.headers().contains_key("retry-after"));
    let told: Value = answer.json().await.expect("JSON");
    assert_eq!(told["error"]["message"], "never");
    let asked = upstream.completions().len();
    assert!(
        (5..=6).contains(&asked),
        "at most three times, within the budget: {asked}"
    );
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn r23_a_target_that_keeps_failing_is_not_asked_until_it_is_seen_well() {
    let is_well = Arc::new(AtomicUsize::new(0));
    let well = is_well.clone();
    let first = Upstream::start(move |request| match well.load(Ordering::SeqCst) {
        0 => refusal(500, Vec::new(), &json!({"message": "broken"})),
        _ => good(request),
    })
    .await;
    let second = Upstream::start(good).await;
    let gateway = over(&[&first, &second], &[]).await;
    let ask = async || {
        let answer = gateway.chat(&say(MODEL, "hi")).await;
        assert_eq!(answer.status(), 200);
        answer.headers()["x-qwarden-provider"]
            .to_str()
            .expect("text")
            .to_owned()
    };
    // The retry budget lets some go straight to the second one; none is failed for that.
    while first.completions().len() < 5 {
        assert_eq!(ask().await, "p2");
    }
    let router = gateway.actor("router").await["incarnation"]
        .as_u64()
        .expect("a number");
    assert_eq!(gateway.crash("router").await, 200);
    gateway.incarnation_after("router", router).await;
    for _ in 0..5 {
        assert_eq!(ask().await, "p2");
    }
    assert_eq!(
        first.completions().len(),
        5,
        "the router's crash forgot nothing"
    );
    let only = gateway.chat(&say("p1/fake", "hi")).await;
    assert_eq!(only.status(), 503);
    let told: Value = only.json().await.expect("JSON");
    let message = told["error"]["message"].as_str().expect("text");
    assert!(
        message.contains("breaker") && message.contains("upstream_error"),
        "{message}"
    );
    assert_eq!(first.completions().len(), 5);
    // A change of the provider begins anew.
    is_well.store(1, Ordering::SeqCst);
    let url = gateway.api("/api/providers/p1/config/timeout");
    let put = gateway.client.patch(url).json(&json!({"value": 5000}));
    assert_eq!(put.send().await.expect("an answer").status(), 200);
    assert_eq!(ask().await, "p1");
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn headers_of_a_request_say_how_it_is_served() {
    let first = Upstream::start(|_| {
        refusal(
            503,
            vec![("retry-after", "60".into())],
            &json!({"message": "no"}),
        )
    })
    .await;
    let second = Upstream::start(good).await;
    let slow = Upstream::start(|_| vec![Step::Hang]).await;
    let gateway = over(&[&first, &second, &slow], &[]).await;
    let send = async |headers: &[(&str, &str)]| {
        let mut request = gateway
            .client
            .post(gateway.router("/v1/chat/completions"))
            .json(&say(MODEL, "hi"));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.send().await.expect("an answer")
    };
    let answer = send(&[("x-qwarden-no-fallback", "true")]).await;
    assert_eq!(answer.status(), 503);
    assert!(second.completions().is_empty());
    let answer = send(&[("x-qwarden-target", "p2/other")]).await;
    assert_eq!(
        (
            answer.status().as_u16(),
            &answer.headers()["x-qwarden-model"]
        ),
        (200, &"other".parse().expect("a value"))
    );
    let answer = send(&[
        ("x-qwarden-target", "p3/fake, p2/fake"),
        ("x-qwarden-timeout", "200"),
    ])
    .await;
    assert_eq!(answer.headers()["x-qwarden-provider"], "p2");
    assert_eq!(slow.completions().len(), 1);
    for (name, value) in [
        ("x-qwarden-no-fallback", "perhaps"),
        ("x-qwarden-timeout", "soon"),
        ("x-qwarden-timeout", "0"),
        ("x-qwarden-target", " , "),
    ] {
        let answer = send(&[(name, value)]).await;
        assert_eq!(answer.status(), 400, "{name}: {value}");
        let told = answer.text().await.expect("a body");
        assert!(told.contains(name), "{told}");
    }
    gateway.stop().await;
}

async fn configured(gateway: &TestGateway, id: &str, upstream: &Upstream, more: &[(&str, Value)]) {
    let mut config = json!({"baseURL": upstream.base_url()});
    for (key, value) in more {
        config[*key] = value.clone();
    }
    let body = json!({"id": id, "name": id, "type": "openai-compatible", "config": config});
    let made = gateway.post(&gateway.api("/api/providers"), &body).await;
    assert_eq!(made.status(), 201);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_busy_provider_is_waited_for_in_line_and_not_for_ever() {
    let upstream = Upstream::start(|request| {
        let mut steps = vec![Step::Gate];
        steps.extend(good(request));
        steps
    })
    .await;
    let gateway = TestGateway::with(&[("routing.queue", json!(1))]).await;
    configured(&gateway, "busy", &upstream, &[("maxConcurrent", json!(1))]).await;
    let body = say("busy/fake", "hi");
    let url = gateway.router("/v1/chat/completions");
    let send = || tokio::spawn(gateway.client.post(&url).json(&body).send());
    let first = send();
    upstream.wait_for(1).await;
    let second = send();
    let health = async |field: &str| {
        let (_, shown) = gateway.get(&gateway.api("/api/providers/busy")).await;
        shown["health"][field].as_u64()
    };
    while health("waiting").await != Some(1) {
        tokio::task::yield_now().await;
    }
    // The line is full.
    let third = gateway.chat(&body).await;
    assert_eq!(third.status(), 503);
    assert!(third.headers().contains_key("retry-after"));
    assert_eq!(
        third.json::<Value>().await.expect("JSON")["error"]["code"],
        "queue_full"
    );
    upstream.go(2);
    for waiting in [first, second] {
        let answer = waiting.await.expect("no panic").expect("an answer");
        assert_eq!(answer.status(), 200);
    }
    assert_eq!(upstream.completions().len(), 2);
    // Nobody waits longer than that.
    let url = gateway.api("/api/settings/routing.queueTimeout");
    let put = gateway.client.put(url).json(&json!({"value": 50}));
    assert_eq!(put.send().await.expect("an answer").status(), 200);
    let holding = send();
    upstream.wait_for(3).await;
    let late = gateway.chat(&body).await;
    assert_eq!(late.status(), 503);
    assert_eq!(
        late.json::<Value>().await.expect("JSON")["error"]["code"],
        "no_target_available"
    );
    upstream.go(1);
    assert_eq!(
        holding
            .await
            .expect("no panic")
            .expect("an answer")
            .status(),
        200
    );
    // Another target is not waited for: it is asked at once.
    let other = Upstream::start(good).await;
    configured(&gateway, "free", &other, &[]).await;
    let both = json!({"name": "both", "targets": ["busy/fake", "free/fake"]});
    gateway
        .post(&gateway.api("/api/virtual-models"), &both)
        .await;
    let holding = send();
    upstream.wait_for(4).await;
    let answer = gateway.chat(&say("both", "hi")).await;
    assert_eq!(answer.headers()["x-qwarden-provider"], "free");
    upstream.go(1);
    holding.await.expect("no panic").expect("an answer");
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_per_minute_send_requests_elsewhere() {
    let first = Upstream::start(good).await;
    let second = Upstream::start(good).await;
    for limit in [
        ("requestsPerMinute", json!(2)),
        ("tokensPerMinute", json!(60)),
    ] {
        let gateway = TestGateway::with(&[]).await;
        configured(&gateway, "p1", &first, std::slice::from_ref(&limit)).await;
        configured(&gateway, "p2", &second, &[]).await;
        let both = json!({"name": MODEL, "targets": ["p1/fake", "p2/fake"]});
        gateway
            .post(&gateway.api("/api/virtual-models"), &both)
            .await;
        let mut providers = Vec::new();
        for _ in 0..4 {
            let answer = gateway.chat(&say(MODEL, &"long ".repeat(15))).await;
            providers.push(
                answer.headers()["x-qwarden-provider"]
                    .to_str()
                    .expect("text")
                    .to_owned(),
            );
        }
        assert_eq!(providers[0], "p1", "{limit:?}");
        assert_eq!(providers[2..], ["p2", "p2"], "{limit:?}");
        let bad = json!({"value": "many"});
        let url = gateway.api(&format!("/api/providers/p1/config/{}", limit.0));
        let put = gateway
            .client
            .patch(url)
            .json(&bad)
            .send()
            .await
            .expect("an answer");
        assert_eq!(put.status(), 422);
        gateway.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn strategies_are_kept_to() {
    let upstream = Upstream::start(good).await;
    let gateway = over(&[&upstream, &upstream], &[]).await;
    let set = async |body: Value| {
        let url = gateway.api(&format!("/api/virtual-models/{MODEL}"));
        let put = gateway
            .client
            .patch(url)
            .json(&body)
            .send()
            .await
            .expect("an answer");
        assert_eq!(put.status(), 200);
    };
    let ask = async |session: &str| {
        let request = gateway.client.post(gateway.router("/v1/chat/completions"));
        let request = request
            .header("x-session-id", session)
            .json(&say(MODEL, "hi"));
        let answer = request.send().await.expect("an answer");
        answer.headers()["x-qwarden-provider"]
            .to_str()
            .expect("text")
            .to_owned()
    };
    let targets = json!([{"target": "p1/fake", "weight": 3}, {"target": "p2/fake", "weight": 1}]);
    set(json!({"strategy": "weighted", "targets": targets})).await;
    let mut counts = [0, 0];
    for _ in 0..40 {
        counts[usize::from(ask("s").await == "p2")] += 1;
    }
    assert_eq!(counts, [30, 10]);
    set(json!({"strategy": "round_robin"})).await;
    let turns = [ask("s").await, ask("s").await, ask("s").await];
    assert_eq!(turns[0], turns[2]);
    assert_ne!(turns[0], turns[1]);
    set(json!({"strategy": "sticky"})).await;
    let mut used = [false, false];
    for session in 0..16 {
        let session = format!("session-{session}");
        let place = ask(&session).await;
        for _ in 0..2 {
            assert_eq!(ask(&session).await, place);
        }
        used[usize::from(place == "p2")] = true;
    }
    assert_eq!(used, [true, true], "conversations spread");
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_target_is_known_to_lack_sends_a_request_elsewhere() {
    let upstream = Upstream::start(good).await;
    let gateway = over(&[&upstream, &upstream], &[]).await;
    let config = json!({"tools": false, "vision": false, "context_length": 500});
    let link = json!({"model_id": "fake", "config": config});
    let model = json!({"id": "fake", "name": "fake"});
    gateway.post(&gateway.api("/api/models"), &model).await;
    let linked = gateway
        .post(&gateway.api("/api/providers/p1/models"), &link)
        .await;
    assert_eq!(
        linked.status(),
        201,
        "{}",
        linked.text().await.expect("a body")
    );
    let provider = async |body: &Value| {
        let answer = gateway.chat(body).await;
        answer.headers()["x-qwarden-provider"]
            .to_str()
            .expect("text")
            .to_owned()
    };
    let plain = say(MODEL, "hi");
    assert_eq!(provider(&plain).await, "p1");
    let mut tools = plain.clone();
    tools["tools"] =
        json!([{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]);
    assert_eq!(provider(&tools).await, "p2");
    let image =
        json!({"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}});
    let image = json!({"model": MODEL, "messages": [{"role": "user", "content": [image]}]});
    assert_eq!(provider(&image).await, "p2");
    assert_eq!(provider(&say(MODEL, &"long ".repeat(1_000))).await, "p2");
    // Where nobody else is, it is asked all the same: what is known may be wrong.
    let mut alone = tools.clone();
    alone["model"] = json!("p1/fake");
    assert_eq!(provider(&alone).await, "p1");
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disabled_provider_is_not_asked_again_and_finishes_what_it_does() {
    let first = Upstream::start(|_| {
        vec![
            sse_head(),
            told(&words()[..30]),
            Step::Gate,
            told(&words()[30..]),
            Step::Chunk(ending("stop")),
            Step::End,
        ]
    })
    .await;
    let second = Upstream::start(good).await;
    let gateway = over(&[&first, &second], &[]).await;
    let mut answer = gateway.chat(&say_streamed(MODEL, "hi")).await;
    let mut heard = String::new();
    read_until(&mut answer, &mut heard, "word30").await;
    let url = gateway.api("/api/providers/p1/disable");
    let disabled = gateway.client.post(url).send().await.expect("an answer");
    assert_eq!(disabled.status(), 200);
    let next = gateway.chat(&say(MODEL, "hi")).await;
    assert_eq!(next.headers()["x-qwarden-provider"], "p2");
    first.go(1);
    read_until(&mut answer, &mut heard, "[DONE]").await;
    assert!(heard.contains("word60"), "{heard}");
    assert_eq!(
        (first.completions().len(), second.completions().len()),
        (1, 1)
    );
    gateway.stop().await;
}
