//! An upstream behind TLS that speaks HTTP/2, with a certificate that no system trusts (tests/fixtures/tls).

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use h2::SendStream;
use h2::server::{Connection, SendResponse};
use serde_json::json;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::server::TlsStream;

use super::upstream::{delta, whole};

const CERTIFICATE: &[u8] = include_bytes!("../fixtures/tls/cert.pem");
const KEY: &[u8] = include_bytes!("../fixtures/tls/key.pem");

/// What it has seen.
#[derive(Default)]
pub struct Seen {
    pub connections: AtomicUsize,
    /// Requests that were read.
    pub asked: AtomicUsize,
    /// Streams that are open.
    pub held: AtomicUsize,
    /// Bytes of floods that were taken.
    pub taken: AtomicUsize,
}

pub struct TlsUpstream {
    pub port: u16,
    pub seen: Arc<Seen>,
}

/// The file of the authority that signed its certificate.
pub fn authority() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tls/ca.pem")
}

impl TlsUpstream {
    pub async fn start() -> Self {
        Self::at("127.0.0.1").await
    }

    /// At another address than the certificate is for.
    pub async fn at(address: &str) -> Self {
        let certificates = CertificateDer::pem_slice_iter(CERTIFICATE);
        let certificates = certificates.collect::<Result<Vec<_>, _>>();
        let key = PrivateKeyDer::from_pem_slice(KEY).expect("a key");
        let mut config = ServerConfig::builder()
            .with_no_client_auth()
            .with_single_cert(certificates.expect("certificates"), key)
            .expect("they belong together");
        config.alpn_protocols = vec![b"h2".to_vec()];
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind((address, 0)).await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let seen = Arc::new(Seen::default());
        let told = seen.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(acceptor.clone(), stream, told.clone()));
            }
        });
        Self { port, seen }
    }
}

async fn serve(acceptor: TlsAcceptor, stream: TcpStream, seen: Arc<Seen>) {
    let Ok(stream) = acceptor.accept(stream).await else {
        return;
    };
    seen.connections.fetch_add(1, Ordering::Relaxed);
    let mut builder = h2::server::Builder::new();
    builder.max_concurrent_streams(u32::MAX);
    let handshake = builder.handshake::<_, Bytes>(stream);
    let Ok(mut connection): Result<Connection<TlsStream<TcpStream>, Bytes>, _> = handshake.await
    else {
        return;
    };
    while let Some(Ok((request, respond))) = connection.accept().await {
        tokio::spawn(answer(request, respond, seen.clone()));
    }
}

async fn answer(
    request: hyper::Request<h2::RecvStream>,
    mut respond: SendResponse<Bytes>,
    seen: Arc<Seen>,
) {
    let is_list = request.method() == hyper::Method::GET;
    let mut body = request.into_body();
    let mut asked = Vec::new();
    while let Some(Ok(piece)) = body.data().await {
        let _ = body.flow_control().release_capacity(piece.len());
        asked.extend_from_slice(&piece);
    }
    seen.asked.fetch_add(1, Ordering::Relaxed);
    let asked = String::from_utf8_lossy(&asked);
    let is_stream = asked.contains("\"stream\":true");
    let kind = if is_stream {
        "text/event-stream"
    } else {
        "application/json"
    };
    let head = hyper::Response::builder().header("content-type", kind);
    let head = head.body(()).expect("a head");
    let Ok(mut stream) = respond.send_response(head, false) else {
        return;
    };
    if is_stream {
        seen.held.fetch_add(1, Ordering::Relaxed);
        if asked.contains("flood") {
            flood(&mut stream, &seen.taken).await;
        } else {
            hold(&mut stream).await;
        }
        seen.held.fetch_sub(1, Ordering::Relaxed);
        return;
    }
    let said = if is_list {
        json!({"object": "list", "data": [{"id": "fake", "object": "model"}]})
    } else {
        whole("fine")
    };
    let _ = stream.send_data(said.to_string().into(), true);
}

/// As many words as are taken.
async fn flood(stream: &mut SendStream<Bytes>, taken: &AtomicUsize) {
    let words = delta("word ").repeat(64);
    let mut rest = Bytes::new();
    loop {
        if rest.is_empty() {
            rest = words.clone().into();
        }
        stream.reserve_capacity(rest.len());
        let room = std::future::poll_fn(|context| stream.poll_capacity(context));
        let Some(Ok(room)) = room.await else {
            return;
        };
        let piece = rest.split_to(room.min(rest.len()));
        taken.fetch_add(piece.len(), Ordering::Relaxed);
        if stream.send_data(piece, false).is_err() {
            return;
        }
    }
}

/// One word, and then nothing until the other side has had enough.
async fn hold(stream: &mut SendStream<Bytes>) {
    if stream.send_data(delta("one").into(), false).is_ok() {
        let _ = std::future::poll_fn(|context| stream.poll_reset(context)).await;
    }
}
