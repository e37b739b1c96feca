//! Bad input and failing upstreams: one envelope, in words that say what to do.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::upstream::{Step, Upstream, json_answer, sse_head};
use crate::support::{PATIENCE, TestGateway, say, say_streamed};

/// Asserts the envelope and returns the body.
async fn refused(response: reqwest::Response, status: u16, code: &str) -> Value {
    let url = response.url().clone();
    assert_eq!(response.status().as_u16(), status, "{url}");
    assert_eq!(
        response.headers()["content-type"],
        "application/json",
        "{url}"
    );
    let id = response.headers()["x-request-id"]
        .to_str()
        .expect("text")
        .to_owned();
    let retry = response.headers()["x-should-retry"]
        .to_str()
        .expect("text")
        .to_owned();
    assert_eq!(
        retry == "true",
        response.headers().contains_key("retry-after"),
        "a passing error says when"
    );
    let body: Value = response.json().await.expect("JSON");
    assert_eq!(body["error"]["code"], code, "{url} {body}");
    assert_eq!(body["requestId"], id);
    assert_eq!(body["message"], body["error"]["message"]);
    assert!(
        body["error"]["type"].is_string()
            && !body["error"]["message"].as_str().expect("text").is_empty()
    );
    body
}

#[tokio::test]
async fn every_kind_of_bad_body_names_its_fault() {
    let gateway = TestGateway::start().await;
    let cases: &[(&str, &str)] = &[
        ("", "body"),
        ("{", "JSON"),
        ("[1]", "object"),
        (r#"{"model":"echo"}"#, "messages"),
        (r#"{"model":"echo","messages":[]}"#, "messages"),
        (r#"{"model":"echo","messages":"x"}"#, "messages"),
        (r#"{"model":"echo","messages":[7]}"#, "messages[0]"),
        (
            r#"{"model":"echo","messages":[{"content":"x"}]}"#,
            "messages[0].role",
        ),
        (
            r#"{"model":7,"messages":[{"role":"user","content":"x"}]}"#,
            "model",
        ),
        (
            r#"{"model":"echo","stream":"yes","messages":[{"role":"user","content":"x"}]}"#,
            "stream",
        ),
        (
            r#"{"model":"echo","temperature":"hot","messages":[{"role":"user","content":"x"}]}"#,
            "temperature",
        ),
    ];
    for (body, names) in cases {
        let request = gateway
            .client
            .post(gateway.router("/v1/chat/completions"))
            .header("content-type", "application/json");
        let response = request.body(*body).send().await.expect("an answer");
        assert_eq!(response.status(), 400, "{body}");
        assert_eq!(response.headers()["x-should-retry"], "false");
        let told: Value = response.json().await.expect("JSON");
        assert!(
            told["error"]["message"]
                .as_str()
                .expect("text")
                .contains(names),
            "{body} -> {told}"
        );
        assert_eq!(told["error"]["type"], "invalid_request_error");
    }
    let body = json!({"model": 7, "stream": 1, "messages": [{"role": "nobody"}]});
    let told: Value = gateway.chat(&body).await.json().await.expect("JSON");
    assert!(
        told["error"]["errors"].as_array().expect("a list").len() >= 3,
        "all at once: {told}"
    );
    gateway.stop().await;
}

#[tokio::test]
async fn unknown_routes_methods_and_media_types_get_the_envelope_on_every_port() {
    let gateway = TestGateway::start().await;
    for base in [gateway.router(""), gateway.qwen(""), gateway.api("")] {
        let get = gateway
            .client
            .get(format!("{base}/nope"))
            .send()
            .await
            .expect("an answer");
        refused(get, 404, "not_found").await;
    }
    let url = gateway.router("/v1/chat/completions");
    let response = gateway.client.get(&url).send().await.expect("an answer");
    assert_eq!(response.headers()["allow"], "POST");
    refused(response, 405, "method_not_allowed").await;
    let form = gateway
        .client
        .post(&url)
        .header("content-type", "text/plain")
        .body("{}")
        .send()
        .await
        .expect("an answer");
    refused(form, 415, "unsupported_media_type").await;
    let none = gateway
        .client
        .post(&url)
        .body("{}")
        .send()
        .await
        .expect("an answer");
    refused(none, 415, "unsupported_media_type").await;
    let panicked = gateway
        .client
        .get(gateway.api("/api/fault/handler"))
        .send()
        .await
        .expect("an answer");
    refused(panicked, 500, "internal_error").await;
    let echoed = gateway
        .client
        .get(gateway.api("/nope"))
        .header("x-request-id", "mine-1")
        .send()
        .await
        .expect("an answer");
    assert_eq!(echoed.headers()["x-request-id"], "mine-1");
    gateway.stop().await;
}

#[tokio::test]
async fn twenty_megabytes_pass_and_forty_are_refused_with_the_limit() {
    let gateway = TestGateway::start().await;
    let text = "x".repeat(20_000_000);
    let answer: Value = gateway
        .chat(&say("echo", &text))
        .await
        .json()
        .await
        .expect("JSON");
    assert_eq!(
        answer["choices"][0]["message"]["content"]
            .as_str()
            .expect("text")
            .len(),
        text.len()
    );
    let body = refused(
        gateway.chat(&say("echo", &"x".repeat(40_000_000))).await,
        413,
        "request_too_large",
    )
    .await;
    assert_eq!(body["error"]["details"]["limit_bytes"], 32 << 20);
    // The same without a length announced.
    let chunks = (0..40).map(|_| Ok::<_, std::io::Error>("x".repeat(1 << 20)));
    let request = gateway
        .client
        .post(gateway.router("/v1/chat/completions"))
        .header("content-type", "application/json");
    let body = reqwest::Body::wrap_stream(futures_util::stream::iter(chunks));
    refused(
        request.body(body).send().await.expect("an answer"),
        413,
        "request_too_large",
    )
    .await;
    gateway.stop().await;
}

#[tokio::test]
async fn unknown_models_and_providers_are_told_with_the_closest_names() {
    let gateway = TestGateway::start().await;
    let upstream = Upstream::streaming("").await;
    gateway.provider("p1", &upstream).await;
    let body = refused(
        gateway.chat(&say("ecko", "hi")).await,
        404,
        "model_not_found",
    )
    .await;
    assert!(
        body["message"].as_str().expect("text").contains("`echo`"),
        "{body}"
    );
    let body = refused(
        gateway.chat(&say("fakes", "hi")).await,
        404,
        "model_not_found",
    )
    .await;
    assert!(
        body["message"].as_str().expect("text").contains("`fake`"),
        "{body}"
    );
    let body = refused(
        gateway.chat(&say("p2/fake", "hi")).await,
        404,
        "provider_not_found",
    )
    .await;
    assert!(
        body["message"].as_str().expect("text").contains("`p1`"),
        "{body}"
    );
    refused(
        gateway
            .chat(&say("qwen-direct-default/qwen3-max", "hi"))
            .await,
        404,
        "provider_disabled",
    )
    .await;
    refused(
        gateway
            .chat(&json!({"messages": [{"role": "user", "content": "x"}]}))
            .await,
        400,
        "missing_model",
    )
    .await;
    assert_eq!(
        gateway.cell::<i64>("SELECT count(*) FROM requests WHERE status = 'failed'"),
        5,
        "refusals are history too"
    );
    gateway.stop().await;
}

#[tokio::test]
async fn an_upstream_that_is_down_slow_or_silent_is_told_apart() {
    let gateway = TestGateway::with(&[("server.timeout", json!(1000))]).await;
    gateway.provider_at("down", "http://127.0.0.1:1/v1").await;
    let silent = Upstream::start(|_| vec![Step::Hang]).await;
    gateway.provider("silent", &silent).await;
    let slow = Upstream::start(|_| vec![sse_head(), Step::Hang]).await;
    gateway.provider("slow", &slow).await;
    let down = gateway.chat(&say("down/x", "hi")).await;
    let told = refused(down, 502, "upstream_unreachable").await;
    let message = told["error"]["message"].as_str().expect("a message");
    assert!(
        message.contains("start its server"),
        "it says what to do: {message}"
    );
    refused(
        gateway.chat(&say("silent/fake", "hi")).await,
        504,
        "upstream_first_byte_timeout",
    )
    .await;
    silent.hung_up(Duration::from_secs(1)).await;
    refused(
        gateway.chat(&say_streamed("slow/fake", "hi")).await,
        504,
        "upstream_idle_timeout",
    )
    .await;
    slow.hung_up(Duration::from_secs(1)).await;
    gateway.stop().await;
}

#[tokio::test]
async fn an_upstreams_own_refusal_reaches_the_client() {
    // Once each: that passing ones are tried again is looked at elsewhere.
    let gateway = TestGateway::with(&[("routing.retries", json!(0))]).await;
    let upstream = Upstream::start(|request| {
        let text = request.json()["messages"][0]["content"]
            .as_str()
            .unwrap_or_default()
            .to_owned();
        let error =
            |message: &str| json!({"error": {"message": message, "type": "t", "code": "c"}});
        match text.as_str() {
            "400" => vec![json_answer(400, &error("bad temperature"))],
            "429" => vec![Step::Whole(
                429,
                vec![
                    ("content-type", "application/json".into()),
                    ("retry-after", "7".into()),
                ],
                error("slow down").to_string().into_bytes(),
            )],
            "500" => vec![json_answer(500, &error("it broke"))],
            "503" => vec![json_answer(503, &error("come back"))],
            "html" => vec![Step::Whole(
                200,
                vec![("content-type", "text/html".into())],
                b"<html>no</html>".to_vec(),
            )],
            "garbage" => vec![Step::Whole(
                200,
                vec![("content-type", "application/json".into())],
                b"garbage".to_vec(),
            )],
            "inband" => vec![json_answer(200, &error("model overloaded"))],
            _ => vec![Step::Reset],
        }
    })
    .await;
    gateway.provider("p1", &upstream).await;
    for streamed in [false, true] {
        let ask = |text: &str| {
            // A model each: one that asked to be left alone is left alone.
            if streamed {
                say_streamed(&format!("p1/streamed-{text}"), text)
            } else {
                say(&format!("p1/{text}"), text)
            }
        };
        let body = refused(gateway.chat(&ask("400")).await, 400, "c").await;
        assert_eq!(body["error"]["message"], "bad temperature");
        let response = gateway.chat(&ask("429")).await;
        assert_eq!(response.headers()["retry-after"], "7");
        assert_eq!(
            refused(response, 429, "c").await["error"]["message"],
            "slow down"
        );
        let body = refused(gateway.chat(&ask("500")).await, 502, "c").await;
        assert_eq!(
            (
                &body["error"]["message"],
                &body["error"]["details"]["upstream_status"]
            ),
            (&json!("it broke"), &json!(500))
        );
        refused(gateway.chat(&ask("503")).await, 503, "c").await;
        refused(gateway.chat(&ask("html")).await, 502, "upstream_malformed").await;
        refused(
            gateway.chat(&ask("garbage")).await,
            502,
            "upstream_malformed",
        )
        .await;
        let body = refused(gateway.chat(&ask("inband")).await, 502, "c").await;
        assert_eq!(body["error"]["message"], "model overloaded");
        let response = gateway.chat(&ask("reset")).await;
        assert_eq!(response.status(), 502);
    }
    assert_eq!(
        gateway.cell::<i64>("SELECT count(*) FROM requests WHERE status = 'failed'"),
        16
    );
    assert_eq!(
        gateway.cell::<i64>("SELECT count(*) FROM responses WHERE upstream_status = 429"),
        2
    );
    gateway.stop().await;
}

#[tokio::test]
async fn the_qwen_port_says_how_to_go_on_without_a_login() {
    let gateway = TestGateway::start().await;
    let body = refused(
        gateway
            .post(
                &gateway.qwen("/v1/chat/completions"),
                &say("qwen3-max", "hi"),
            )
            .await,
        401,
        "missing_credentials",
    )
    .await;
    assert_eq!(body["error"]["type"], "authentication_error");
    let models = gateway
        .client
        .get(gateway.qwen("/v1/models"))
        .send()
        .await
        .expect("an answer");
    refused(models, 401, "missing_credentials").await;
    let (status, health) = gateway.get(&gateway.qwen("/health")).await;
    assert_eq!(
        (status, &health["checks"]["authentication"]),
        (200, &json!("not_configured"))
    );
    gateway.stop().await;
}

#[tokio::test]
async fn foreign_hosts_and_pages_are_refused() {
    let gateway = TestGateway::start().await;
    let asked = |headers: &[(&'static str, &'static str)]| {
        let mut request = gateway.client.get(gateway.api("/api/health"));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.send()
    };
    refused(
        asked(&[("host", "evil.example")]).await.expect("an answer"),
        403,
        "host_not_allowed",
    )
    .await;
    refused(
        asked(&[("origin", "https://evil.example")])
            .await
            .expect("an answer"),
        403,
        "origin_not_allowed",
    )
    .await;
    refused(
        asked(&[("sec-fetch-site", "cross-site")])
            .await
            .expect("an answer"),
        403,
        "origin_not_allowed",
    )
    .await;
    assert_eq!(
        asked(&[("host", "localhost:9")])
            .await
            .expect("an answer")
            .status(),
        200
    );
    gateway.stop().await;
}

#[tokio::test]
async fn a_half_sent_request_costs_nobody_else() {
    let gateway = TestGateway::start().await;
    let mut stream = tokio::net::TcpStream::connect(gateway.gateway.router_address())
        .await
        .expect("a connection");
    stream.write_all(b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: 50\r\n\r\n{\"mod").await.expect("sent");
    stream.shutdown().await.expect("half closed");
    let mut rest = Vec::new();
    let _ = stream.read_to_end(&mut rest).await;
    assert_eq!(gateway.chat(&say("echo", "hi")).await.status(), 200);
    gateway.stop().await;
}

/// S15 and S20: what is too long or too deep is refused in words, and what management tells is kept by nobody.
#[tokio::test]
async fn s15_heads_and_management_bodies_are_bounded() {
    let gateway = TestGateway::start().await;
    let get = async |path: &str, headers: usize, bytes: usize| {
        let mut request = gateway.client.get(gateway.api(path));
        for number in 0..headers {
            request = request.header(format!("x-{number}"), "x".repeat(bytes));
        }
        request.send().await.expect("an answer")
    };
    let long = |length: usize| {
        format!(
            "/api/models?q={}",
            "x".repeat(length - "/api/models?q=".len())
        )
    };
    let answer = get(&long(8 << 10), 0, 0).await;
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.headers()["cache-control"], "no-store");
    let answer = get(&long((8 << 10) + 1), 0, 0).await;
    assert_eq!(answer.headers()["cache-control"], "no-store");
    refused(answer, 414, "target_too_long").await;
    assert_eq!(get("/api/models", 90, 400).await.status(), 200);
    for (headers, bytes) in [(101, 1), (90, 800)] {
        let answer = get("/api/models", headers, bytes).await;
        refused(answer, 431, "headers_too_large").await;
    }
    let post = async |body: String| {
        let request = gateway.client.post(gateway.api("/api/models"));
        let request = request.header("content-type", "application/json");
        request.body(body).send().await.expect("an answer")
    };
    let body = |length: usize| {
        let rest = r#"{"id":"m","name":"m","description":""}"#.len();
        let text = "x".repeat(length - rest);
        format!(r#"{{"id":"m","name":"m","description":"{text}"}}"#)
    };
    let answer = post(body((1 << 20) + 1)).await;
    let told = refused(answer, 413, "request_too_large").await;
    assert_eq!(told["error"]["details"]["limit_bytes"], 1 << 20);
    let deep = |depth: usize| {
        let (open, close) = ("[".repeat(depth), "]".repeat(depth));
        format!(r#"{{"id":"m","name":"m","capabilities":{open}{close}}}"#)
    };
    // A list of lists is no list of texts, but it is read.
    let answer = post(deep(100)).await;
    let told = refused(answer, 400, "invalid_request").await;
    assert!(
        told["message"]
            .as_str()
            .is_some_and(|text| text.contains("capabilities")),
        "{told}"
    );
    let answer = post(deep(128)).await;
    let told = refused(answer, 400, "invalid_request").await;
    assert!(
        told["message"]
            .as_str()
            .is_some_and(|text| text.contains("not JSON")),
        "{told}"
    );
    gateway.stop().await;
}

/// R28. Takes the ten seconds that a head may take.
#[tokio::test]
async fn r28_a_head_that_does_not_end_is_closed_and_an_idle_connection_is_not() {
    let gateway = TestGateway::start().await;
    let address = gateway.gateway.router_address();
    let connect = || tokio::net::TcpStream::connect(address);
    let mut slow = connect().await.expect("a connection");
    let mut idle = connect().await.expect("a connection");
    let request = format!("GET /health/live HTTP/1.1\r\nhost: {address}\r\n\r\n");
    let ask = async |stream: &mut tokio::net::TcpStream| {
        stream
            .write_all(request.as_bytes())
            .await
            .expect("it is read");
        let mut answer = Vec::new();
        while !answer.ends_with(b"{\"status\":\"ok\"}") {
            let read = stream.read_buf(&mut answer).await.expect("an answer");
            assert!(read > 0, "{}", String::from_utf8_lossy(&answer));
        }
    };
    ask(&mut idle).await;
    // Also the second head of a connection.
    ask(&mut slow).await;
    let began = std::time::Instant::now();
    slow.write_all(b"GET /health/live HTTP/1.1\r\nx-slow: ")
        .await
        .expect("it is read");
    let mut rest = Vec::new();
    let ended = tokio::time::timeout(PATIENCE, slow.read_to_end(&mut rest)).await;
    let _ = ended.expect("it is closed");
    assert!(
        began.elapsed() >= Duration::from_secs(9),
        "{:?}",
        began.elapsed()
    );
    assert!(rest.is_empty(), "{}", String::from_utf8_lossy(&rest));
    ask(&mut idle).await;
    gateway.stop().await;
}
