//! The upstream of the load run: answers every completion at once with the same bytes, as fast as hyper can.
//!
//! `cargo run --release --example bench_upstream -- 18080`
#![expect(
    clippy::disallowed_methods,
    reason = "a connection's task ends with the process"
)]

use std::convert::Infallible;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

/// Words of a streamed answer.
const WORDS: usize = 50;

fn events() -> String {
    let chunk = |delta: &str, finish: &str| {
        format!(
            "data: {{\"id\":\"chatcmpl-1\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"bench\",\
             \"choices\":[{{\"index\":0,\"delta\":{delta},\"finish_reason\":{finish}}}]}}\n\n"
        )
    };
    let mut events = chunk("{\"role\":\"assistant\",\"content\":\"\"}", "null");
    for word in 0..WORDS {
        events += &chunk(&format!("{{\"content\":\"word{word} \"}}"), "null");
    }
    events + &chunk("{}", "\"stop\"") + "data: [DONE]\n\n"
}

const WHOLE: &str = r#"{"id":"chatcmpl-1","object":"chat.completion","created":1,"model":"bench","choices":[{"index":0,"message":{"role":"assistant","content":"Hello there"},"finish_reason":"stop"}],"usage":{"prompt_tokens":2,"completion_tokens":2,"total_tokens":4}}"#;
const MODELS: &str =
    r#"{"object":"list","data":[{"id":"bench","object":"model","created":1,"owned_by":"bench"}]}"#;

async fn answer(
    request: Request<Incoming>,
    events: Bytes,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let lists = request.uri().path().ends_with("/models");
    let body = request
        .into_body()
        .collect()
        .await
        .map(http_body_util::Collected::to_bytes)
        .unwrap_or_default();
    let streams = body.windows(13).any(|window| window == b"\"stream\":true");
    let (kind, bytes) = match (lists, streams) {
        (true, _) => ("application/json", Bytes::from_static(MODELS.as_bytes())),
        (false, true) => ("text/event-stream", events),
        (false, false) => ("application/json", Bytes::from_static(WHOLE.as_bytes())),
    };
    let mut response = Response::new(Full::new(bytes));
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    Ok(response)
}

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let port = std::env::args()
        .nth(1)
        .and_then(|port| port.parse().ok())
        .unwrap_or(18_080_u16);
    let listener = TcpListener::bind(("127.0.0.1", port)).await?;
    let events = Bytes::from(events());
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let events = events.clone();
        tokio::spawn(async move {
            let service = service_fn(move |request| answer(request, events.clone()));
            let _ = http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
    }
}
