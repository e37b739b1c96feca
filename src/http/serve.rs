//! One connection: hyper's HTTP/1 with the deadlines that axum's own `serve` lacks.

use std::pin::pin;

use axum::Router;
use axum::body::Body;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpStream;
use tower::ServiceExt;

use crate::actors::ports::Connections;
use crate::http::access::Peer;
use crate::http::heads::{Heads, Watched};
use crate::http::same_user::Caller;
use crate::limits::connections::IDLE_DEADLINE;
use crate::limits::connections::{LONGEST_HEADERS, MOST_HEADERS};

/// What a connection is served with.
pub(crate) type Service = Router;

/// hyper grows its read buffer up to this, and refuses a head that does not fit by itself, without our words. So there is
/// room for more than we take (S15).
const BUFFER: usize = 2 * LONGEST_HEADERS;
const HEADERS: usize = 2 * MOST_HEADERS;

/// Serves requests until the client leaves or the port closes.
pub(crate) async fn connection(stream: TcpStream, service: Service, connections: Connections) {
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
            () = &mut late => {
                tracing::debug!("a connection took too long for the head of a request");
                return;
            }
        }
    }
}
