//! One connection: hyper's HTTP/1 with the deadlines that axum's own `serve` lacks.

use std::pin::pin;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tower::ServiceExt;

use crate::actors::ports::Connections;
use crate::http::access::Peer;
use crate::http::heads::{Heads, Watched};
use crate::http::same_user::Caller;
use crate::limits::connections::IDLE_DEADLINE;
use crate::limits::connections::{LONGEST_HEADERS, MOST_HEADERS, TURNING_AWAY};

/// What a connection is served with.
pub(crate) type Service = Router;

/// hyper grows its read buffer up to this, and refuses a head that does not fit by itself, without our words. So there is
/// room for more than we take (S15).
const BUFFER: usize = 2 * LONGEST_HEADERS;
const HEADERS: usize = 2 * MOST_HEADERS;

/// Serves requests until the client leaves or the port closes.
pub(crate) async fn connection(
    stream: TcpStream,
    service: Service,
    connections: Connections,
    client_timeout: Duration,
) {
    let told = connections.clone();
    let peer = Peer::of(&stream);
    let caller = Caller::of(&stream);
    let heads = Heads::new();
    let begun = heads.clone();
    let handle = hyper::service::service_fn(move |request: hyper::Request<Incoming>| {
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(connections.clone());
        request.extensions_mut().insert(peer);
        if let Some(caller) = &caller {
            request.extensions_mut().insert(caller.clone());
        }
        begun.arrived();
        let (answering, begun) = (service.clone().oneshot(request), begun.clone());
        async move {
            let answer = answering.await;
            answer.map(|response| response.map(|body| begun.ending(body)))
        }
    });
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(IDLE_DEADLINE)
        .max_buf_size(BUFFER)
        .max_headers(HEADERS);
    let watched = Watched {
        stream,
        heads: heads.clone(),
    };
    let mut serving = pin!(builder.serve_connection(TokioIo::new(watched), handle));
    let mut late = pin!(heads.late());
    let mut stuck = pin!(heads.stuck(client_timeout));
    let mut closing = false;
    loop {
        tokio::select! {
            ended = &mut serving => {
                if let Err(error) = ended {
                    tracing::debug!(%error, "a connection ended early");
                }
                return;
            }
            () = told.closing.cancelled(), if !closing => {
                closing = true;
                serving.as_mut().graceful_shutdown();
            }
            () = told.killing.cancelled() => return,
            () = &mut stuck => {
                tracing::debug!("a client took nothing of its answer");
                return;
            }
            () = &mut late => {
                tracing::debug!("a connection took too long for the head of a request");
                return;
            }
        }
    }
}

/// What a connection is told that is one too many: nothing is parsed and nothing kept for it.
const TOO_MANY: &str = "HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\nretry-after: 1\r\n\
    x-should-retry: true\r\nconnection: close\r\ncontent-length: 131\r\n\r\n\
    {\"error\":{\"message\":\"too many connections are open; try again shortly\",\"type\":\"overloaded_error\",\"code\":\"overloaded\",\"param\":null}}";

/// Tells a client that there is no room for its connection.
pub(crate) async fn turn_away(mut stream: TcpStream) {
    let telling = async {
        let mut asked = [0; 1_024];
        // Answered before it asked, a client may take the answer for somebody else's.
        let _ = stream.read(&mut asked).await;
        let _ = stream.write_all(TOO_MANY.as_bytes()).await;
        let _ = stream.shutdown().await;
        // What it still sends is read, or the answer could be lost with a reset.
        while matches!(stream.read(&mut asked).await, Ok(read) if read > 0) {}
    };
    let _ = tokio::time::timeout(TURNING_AWAY, telling).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_for_one_too_many_are_whole() {
        let (head, body) = TOO_MANY.split_once("\r\n\r\n").expect("a head");
        let length = format!("content-length: {}", body.len());
        assert!(head.contains(&length), "it must say {length}");
        assert!(serde_json::from_str::<serde_json::Value>(body).is_ok());
    }
}
