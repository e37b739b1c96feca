//! The upstream of the self-test: a socket that misbehaves as the model's name says, as a vendor's API or as chat.qwen.ai.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;

use crate::clock::new_id;
use crate::tasks::{Owned, Tasks};

/// What is said before anything goes wrong: characters of one to four bytes.
pub(super) const TEXT: &str = "héllo wörld – 你好 🌍";

const HEAD: &str =
    "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
const LIST: &str = r#"{"object":"list","data":[{"id":"whole"}]}"#;
const LONGEST: usize = 1 << 20;

/// Listens until it is dropped.
pub(super) struct Upstream {
    pub(super) address: SocketAddr,
    go: Arc<Notify>,
    _accepting: Owned,
}

impl Upstream {
    pub(super) async fn start(tasks: &Tasks) -> std::io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?;
        let go = Arc::new(Notify::new());
        let (own, gate) = (tasks.clone(), go.clone());
        let accepting = tasks.spawn_owned("self-test upstream", async move {
            while let Ok((stream, _)) = listener.accept().await {
                let gate = gate.clone();
                drop(own.spawn("self-test answer", async move {
                    // The gateway hangs up where it is right to: that is what is looked at.
                    let _ = answer(stream, &gate).await;
                }));
            }
        });
        Ok(Self {
            address,
            go,
            _accepting: accepting,
        })
    }

    /// Lets one answer of the model `gated` go on.
    pub(super) fn go(&self) {
        self.go.notify_one();
    }
}

async fn answer(mut stream: TcpStream, gate: &Notify) -> std::io::Result<()> {
    let Some((head, body)) = request(&mut stream).await? else {
        return Ok(());
    };
    let target = head.split(' ').nth(1).unwrap_or_default();
    let site = Site::of(target);
    let whole = match site {
        Some(Site::NewChat) => Some(json!({"success": true, "data": {"id": new_id()}}).to_string()),
        Some(Site::Stop) => Some(json!({"success": true, "data": {"status": true}}).to_string()),
        // An answer that broke off is asked for again: it is not there.
        Some(_) if head.starts_with("GET ") => Some(
            json!({"success": false, "data": {"code": "Not_Found", "details": "gone"}}).to_string(),
        ),
        None if head.starts_with("GET ") => Some(LIST.to_owned()),
        _ => None,
    };
    if let Some(body) = whole {
        let answer = format!(
            "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
            body.len()
        );
        return stream.write_all(answer.as_bytes()).await;
    }
    let body: Value = serde_json::from_slice(&body).unwrap_or_default();
    let model = body["model"].as_str().unwrap_or_default();
    if model == "refuse" {
        let answer = "HTTP/1.1 503 Service Unavailable\r\nretry-after: 30\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
        return stream.write_all(answer.as_bytes()).await;
    }
    stream.write_all(HEAD.as_bytes()).await?;
    let text = if site.is_some() {
        chunk(&mut stream, event(&begun()).as_bytes()).await?;
        said
    } else {
        text
    };
    match model {
        "split" => {
            // Byte by byte, so that every character is cut somewhere.
            for byte in event(&text(TEXT)).as_bytes() {
                chunk(&mut stream, &[*byte]).await?;
            }
        }
        "gated" => {
            chunk(&mut stream, event(&text(TEXT)).as_bytes()).await?;
            gate.notified().await;
        }
        // The site's models write calls as text.
        "tool-cut" if site.is_some() => {
            let call = r#"<tool_call>{"name": "write", "arguments": {"path": "a"#;
            chunk(&mut stream, event(&said(call)).as_bytes()).await?;
        }
        "tool-cut" => {
            let call = json!({"index": 0, "id": "call_1", "type": "function",
                              "function": {"name": "write", "arguments": "{\"path\": \"a"}});
            chunk(
                &mut stream,
                event(&delta(&json!({"tool_calls": [call]}))).as_bytes(),
            )
            .await?;
        }
        _ => chunk(&mut stream, event(&text(TEXT)).as_bytes()).await?,
    }
    match model {
        // The socket closes amid the chunked body.
        "cut" | "tool-cut" => stream.shutdown().await,
        // The body ends as it should, the protocol within it does not.
        "early-end" => stream.write_all(b"0\r\n\r\n").await,
        "in-band" => {
            let error = if site.is_some() {
                json!({"error": {"code": "internal_error", "details": "overloaded"}})
            } else {
                json!({"error": {"message": "overloaded", "type": "server_error"}})
            };
            chunk(&mut stream, event(&error).as_bytes()).await?;
            stream.write_all(b"0\r\n\r\n").await
        }
        "malformed" => {
            chunk(&mut stream, b"data: {\"choices\": [{]\n\n").await?;
            stream.write_all(b"0\r\n\r\n").await
        }
        "stall" => {
            // Until the gateway gives up and hangs up.
            let mut rest = [0; 16];
            while stream.read(&mut rest).await? > 0 {}
            Ok(())
        }
        _ => {
            let end = if site.is_some() {
                event(&over())
            } else {
                format!("{}data: [DONE]\n\n", event(&finished()))
            };
            chunk(&mut stream, end.as_bytes()).await?;
            stream.write_all(b"0\r\n\r\n").await
        }
    }
}

/// What is asked of the site.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Site {
    NewChat,
    Completion,
    Stop,
    Chat,
}

impl Site {
    fn of(target: &str) -> Option<Self> {
        let path = target.split('?').next()?.strip_prefix("/api/v2/")?;
        Some(match path {
            "chats/new" => Self::NewChat,
            "chat/completions" => Self::Completion,
            "chat/completions/stop" => Self::Stop,
            _ => Self::Chat,
        })
    }
}

/// The head and the body of the only request a connection is good for.
async fn request(stream: &mut TcpStream) -> std::io::Result<Option<(String, Vec<u8>)>> {
    let mut bytes = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&bytes);
        if let Some(end) = text.find("\r\n\r\n") {
            let head = text.get(..end).unwrap_or_default().to_ascii_lowercase();
            let length = head
                .lines()
                .find_map(|line| line.strip_prefix("content-length:"));
            let length: usize = length
                .and_then(|text| text.trim().parse().ok())
                .unwrap_or(0);
            let begin = end + 4;
            if bytes.len() >= begin + length.min(LONGEST) {
                let head = head.replacen("get ", "GET ", 1);
                let body = bytes.get(begin..).unwrap_or_default().to_vec();
                return Ok(Some((head, body)));
            }
        }
        if bytes.len() > LONGEST || stream.read_buf(&mut bytes).await? == 0 {
            return Ok(None);
        }
    }
}

async fn chunk(stream: &mut TcpStream, bytes: &[u8]) -> std::io::Result<()> {
    let mut framed = format!("{:x}\r\n", bytes.len()).into_bytes();
    framed.extend_from_slice(bytes);
    framed.extend_from_slice(b"\r\n");
    stream.write_all(&framed).await?;
    stream.flush().await?;
    // Lets the reader see what is there before more is.
    tokio::task::yield_now().await;
    Ok(())
}

fn event(value: &Value) -> String {
    format!("data: {value}\n\n")
}

fn text(text: &str) -> Value {
    delta(&json!({"role": "assistant", "content": text}))
}

fn finished() -> Value {
    json!({"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m",
           "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
}

/// The same three in the site's words.
fn begun() -> Value {
    json!({"response.created": {"chat_id": "c", "parent_id": "p", "response_id": "r"}})
}

fn said(text: &str) -> Value {
    json!({"choices": [{"delta": {"role": "assistant", "content": text, "phase": "answer", "status": "typing"}}]})
}

fn over() -> Value {
    json!({"choices": [{"delta": {"role": "assistant", "content": "", "phase": "answer", "status": "finished"}}]})
}

fn delta(delta: &Value) -> Value {
    json!({"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m",
           "choices": [{"index": 0, "delta": delta, "finish_reason": null}]})
}

/// How long the gateway waits for a silent upstream here (ms).
pub(super) const SILENCE_MS: u64 = 1_000;
/// No row takes longer, unless something hangs.
pub(super) const PATIENCE: Duration = Duration::from_secs(15);
