use std::sync::{Arc, Mutex};

use bytes::Bytes;
use futures_util::StreamExt;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::super::{Deadlines, Definition, Phase, build};
use super::*;

const SSE: &str = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nx-request-id: up-1\r\nconnection: close\r\n\r\n";

/// What the server does after it has read one request: writes the pieces in turn, then closes.
#[derive(Clone)]
enum Step {
    Write(Vec<u8>),
    Sleep(u64),
}

fn write(text: impl Into<Vec<u8>>) -> Step {
    Step::Write(text.into())
}

fn answer(status: &str, headers: &str, body: &str) -> Vec<Step> {
    vec![write(format!(
        "HTTP/1.1 {status}\r\n{headers}content-length: {}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    ))]
}

struct Server {
    address: String,
    seen: Arc<Mutex<String>>,
}

/// Answers one connection after the other with the same script.
async fn serve(script: Vec<Step>) -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}/v1", listener.local_addr().unwrap());
    let seen = Arc::new(Mutex::new(String::new()));
    let log = Arc::clone(&seen);
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            let mut request = Vec::new();
            let mut buffer = [0; 4096];
            while !is_whole(&request) {
                let count = socket.read(&mut buffer).await.unwrap();
                assert!(count > 0);
                request.extend_from_slice(&buffer[..count]);
            }
            *log.lock().unwrap() = String::from_utf8(request).unwrap();
            for step in &script {
                match step {
                    Step::Write(bytes) if socket.write_all(bytes).await.is_err() => break,
                    Step::Write(_) => {}
                    Step::Sleep(ms) => tokio::time::sleep(Duration::from_millis(*ms)).await,
                }
            }
        }
    });
    // It lives as long as the test's runtime.
    tasks.detach_all();
    Server { address, seen }
}

fn is_whole(request: &[u8]) -> bool {
    let text = String::from_utf8_lossy(request).to_lowercase();
    let Some((head, body)) = text.split_once("\r\n\r\n") else {
        return false;
    };
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length: "))
        .map_or(0, |length| length.parse().unwrap());
    body.len() >= length
}

fn provider(base: &str) -> Arc<dyn Provider> {
    let config = json!({ "baseURL": base, "apiKey": "sk-hush", "headers": { "x-team": "blue" } });
    let Value::Object(config) = config else {
        panic!("not an object")
    };
    build(
        &Definition {
            id: "p1".into(),
            kind: "test".into(),
            config,
        },
        &Http::default(),
    )
    .ok()
    .unwrap()
}

fn call(stream: bool) -> Call {
    let ms = Duration::from_millis;
    Call {
        is_translated: false,
        native: None,
        model: String::new(),
        body: Bytes::from_static(b"{\"messages\":[]}"),
        stream,
        deadlines: Deadlines {
            connect: ms(1000),
            first_byte: ms(400),
            idle: ms(300),
        },
        request_id: "r".into(),
        session: None,
        tape: crate::providers::tape::Tape::default(),
    }
}

async fn outcome(script: Vec<Step>, stream: bool) -> Result<Answer, UpstreamError> {
    provider(&serve(script).await.address)
        .complete(call(stream))
        .await
}

async fn failure(script: Vec<Step>, stream: bool) -> UpstreamError {
    outcome(script, stream).await.err().unwrap()
}

async fn read_stream(answer: Answer) -> (Vec<u8>, Option<UpstreamError>) {
    let Answer::Stream { mut bytes, .. } = answer else {
        panic!("not a stream")
    };
    let mut read = Vec::new();
    while let Some(next) = bytes.next().await {
        match next {
            Ok(chunk) => read.extend_from_slice(&chunk),
            Err(error) => return (read, Some(error)),
        }
    }
    (read, None)
}

#[tokio::test]
async fn a_stream_comes_back_byte_for_byte() {
    let server = serve(vec![
        write(SSE),
        write("data: {}\r\n\r\n"),
        Step::Sleep(20),
        write("data: [DONE]\n\n"),
    ])
    .await;
    let answer = provider(&server.address)
        .complete(call(true))
        .await
        .ok()
        .unwrap();
    let Answer::Stream {
        status, headers, ..
    } = &answer
    else {
        panic!("not a stream")
    };
    assert_eq!(
        (*status, headers.upstream_request_id.as_deref()),
        (200, Some("up-1"))
    );
    assert_eq!(
        read_stream(answer).await,
        (b"data: {}\r\n\r\ndata: [DONE]\n\n".to_vec(), None)
    );
    let seen = server.seen.lock().unwrap().to_lowercase();
    for part in [
        "post /v1/chat/completions ",
        "authorization: bearer sk-hush",
        "x-team: blue",
        "accept: text/event-stream",
        "{\"messages\":[]}",
    ] {
        assert!(seen.contains(part), "{part} in {seen}");
    }
    assert!(
        !seen.contains("accept-encoding") && !seen.contains("referer"),
        "{seen}"
    );
}

#[tokio::test]
async fn a_whole_answer_comes_back_as_it_is() {
    let body = r#"{"id":"c","choices":[{"message":{"content":"a"},"finish_reason":"stop"}]}"#;
    match outcome(
        answer("200 OK", "content-type: application/json\r\n", body),
        false,
    )
    .await
    .ok()
    .unwrap()
    {
        Answer::Whole {
            status, body: read, ..
        } => assert_eq!((status, read), (200, Bytes::from(body))),
        Answer::Stream { .. } => panic!("a stream"),
    }
}

#[tokio::test]
async fn a_missing_content_type_is_sniffed() {
    let events = ": hello\n\ndata: {}\n\n";
    let found = outcome(answer("200 OK", "", events), true)
        .await
        .ok()
        .unwrap();
    assert_eq!(read_stream(found).await, (events.as_bytes().to_vec(), None));
    let error = failure(answer("200 OK", "", r#"{"error":"no"}"#), true).await;
    assert_eq!(error.code(), "upstream_in_band_error");
}

#[tokio::test]
async fn refusals_keep_status_words_and_waits() {
    let body = r#"{"error":{"message":"slow down","code":"rate_limit_exceeded"}}"#;
    let error = failure(
        answer(
            "429 Too Many Requests",
            "Retry-After: 7\r\nx-should-retry: true\r\n",
            body,
        ),
        true,
    )
    .await;
    assert_eq!(
        (error.status(), error.retry_after()),
        (Some(429), Some(Duration::from_secs(7)))
    );
    let UpstreamError::Status {
        fault,
        should_retry,
        ..
    } = &error
    else {
        panic!("{error}")
    };
    assert_eq!(
        (fault.message.as_str(), *should_retry),
        ("slow down", Some(true))
    );
    let date = "Retry-After: Fri, 31 Dec 2100 23:59:59 GMT\r\n";
    let error = failure(answer("429 Too Many Requests", date, "busy"), false).await;
    assert_eq!(error.retry_after(), Some(Duration::from_hours(24)));
    assert_eq!(error.to_string(), "provider `p1` answered 429: busy");
}

#[tokio::test]
async fn a_200_that_is_no_answer_is_an_error() {
    let html = "<html><title>Sign in</title></html>";
    let json = "content-type: application/json\r\n";
    let whole = r#"{"choices":[{"message":{"content":"a"}}]}"#;
    for (headers, body, stream, code, words) in [
        (
            "content-type: text/html\r\n",
            html,
            true,
            "upstream_malformed",
            "Sign in",
        ),
        (
            "content-type: text/html\r\n",
            html,
            false,
            "upstream_malformed",
            "Sign in",
        ),
        (
            json,
            r#"{"error":{"message":"no"}}"#,
            true,
            "upstream_in_band_error",
            "no",
        ),
        (
            json,
            r#"{"error":{"message":"no"}}"#,
            false,
            "upstream_in_band_error",
            "no",
        ),
        (
            json,
            r#"{"object":"list"}"#,
            false,
            "upstream_malformed",
            "without `choices`",
        ),
        (
            json,
            whole,
            true,
            "upstream_malformed",
            "`application/json` instead",
        ),
        (
            json,
            r#"{"choices":[{"mess"#,
            false,
            "upstream_malformed",
            "not a completion",
        ),
        (json, "", false, "upstream_malformed", "an empty body"),
        (
            "content-type: text/event-stream\r\n",
            "data: {}\n\n",
            false,
            "upstream_malformed",
            "not asked for",
        ),
    ] {
        let error = failure(answer("200 OK", headers, body), stream).await;
        assert_eq!(error.code(), code, "{body}: {error}");
        assert!(error.to_string().contains(words), "{error}");
    }
}

#[tokio::test]
async fn redirects_are_not_followed() {
    let error = failure(
        answer("302 Found", "location: http://127.0.0.1:1/\r\n", ""),
        true,
    )
    .await;
    assert_eq!(error.code(), "upstream_malformed");
    assert!(error.to_string().contains("redirect refused"));
}

#[tokio::test]
async fn a_closed_port_is_a_connect_error_without_the_address() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let error = provider(&format!("http://{address}/secret-path"))
        .complete(call(true))
        .await
        .err()
        .unwrap();
    assert_eq!(error.code(), "upstream_unreachable");
    assert!(
        !error.to_string().contains("secret-path") && !error.to_string().contains("hush"),
        "{error}"
    );
}

#[tokio::test]
async fn silence_is_cut_at_each_clock() {
    let error = failure(vec![Step::Sleep(5000)], true).await;
    assert_eq!(error.code(), "upstream_first_byte_timeout");
    let found = outcome(
        vec![write(SSE), write("data: {}\n\n"), Step::Sleep(5000)],
        true,
    )
    .await
    .ok()
    .unwrap();
    let (read, error) = read_stream(found).await;
    assert_eq!(read, b"data: {}\n\n");
    assert_eq!(error.unwrap().code(), "upstream_idle_timeout");
    let error = failure(
        vec![
            write("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{"),
            Step::Sleep(5000),
        ],
        false,
    )
    .await;
    assert_eq!(error.code(), "upstream_idle_timeout");
}

#[tokio::test]
async fn a_configured_timeout_replaces_the_given_one() {
    let server = serve(vec![Step::Sleep(5000)]).await;
    let Value::Object(config) = json!({ "baseURL": server.address, "timeout": 50 }) else {
        panic!()
    };
    let provider = build(
        &Definition {
            id: "p".into(),
            kind: "x".into(),
            config,
        },
        &Http::default(),
    )
    .ok()
    .unwrap();
    match provider.complete(call(true)).await {
        Err(UpstreamError::Timeout {
            phase: Phase::FirstByte,
            after,
            ..
        }) => assert_eq!(after, Duration::from_millis(50)),
        other => panic!("{:?}", other.err()),
    }
}

#[tokio::test]
async fn an_early_end_is_a_cut() {
    let error = failure(
        vec![write("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{")],
        false,
    )
    .await;
    assert_eq!(error.code(), "upstream_cut");
    let chunked = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n5\r\nda";
    let (_, error) = read_stream(outcome(vec![write(chunked)], true).await.ok().unwrap()).await;
    assert_eq!(error.unwrap().code(), "upstream_cut");
    assert_eq!(failure(vec![], true).await.code(), "upstream_cut");
}

#[tokio::test]
async fn oversized_bodies_are_refused_or_cut_short() {
    let head = format!(
        "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n",
        WHOLE_LIMIT + 1
    );
    assert_eq!(
        failure(vec![write(head)], false).await.code(),
        "upstream_too_large"
    );
    let long = "x".repeat(crate::limits::upstreams::ERROR_LIMIT * 2);
    let error = failure(answer("500 Internal Server Error", "", &long), true).await;
    assert!(error.to_string().len() < 1000);
    let mut script = vec![write("HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n")];
    script.extend(vec![write(vec![b' '; 1024 * 1024]); 65]);
    assert_eq!(failure(script, false).await.code(), "upstream_too_large");
}

#[tokio::test]
async fn models_are_read_in_every_shape() {
    for body in [
        r#"{"data":[{"id":"m","owned_by":"o","created":5,"context_length":9,"capabilities":["tools"]},{"no":1}]}"#,
        r#"[{"id":"m","owned_by":"o","created":5,"max_model_len":9,"supported_parameters":["tools","top_p"]}]"#,
        r#"{"models":[{"name":"m","owned_by":"o","created":5,"context_window":9,"capabilities":{"function_calling":true}}]}"#,
    ] {
        let server = serve(answer("200 OK", "", body)).await;
        let models = provider(&server.address)
            .models(Duration::from_secs(1))
            .await
            .unwrap();
        let expected = UpstreamModel {
            id: "m".into(),
            owned_by: Some("o".into()),
            created: Some(5),
            context_length: Some(9),
            capabilities: vec!["tools".into()],
        };
        assert_eq!(models, [expected], "{body}");
        assert!(server.seen.lock().unwrap().starts_with("GET /v1/models "));
    }
    for (script, code) in [
        (answer("401 Unauthorized", "", "{}"), "upstream_auth"),
        (answer("200 OK", "", "<html>"), "upstream_malformed"),
        (vec![Step::Sleep(5000)], "upstream_first_byte_timeout"),
    ] {
        let server = serve(script).await;
        assert_eq!(
            provider(&server.address)
                .models(Duration::from_millis(200))
                .await
                .unwrap_err()
                .code(),
            code
        );
    }
}
