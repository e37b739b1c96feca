//! An OpenAI-compatible server that does what a script says, also what no sane server does.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, Semaphore};

/// Longer than anything here takes; only a hang reaches it.
const PATIENCE: Duration = Duration::from_secs(30);

/// One thing the upstream does after it has read a request.
#[derive(Clone)]
pub enum Step {
    /// A response head; the body that follows is chunked.
    Head(u16, Vec<(&'static str, String)>),
    /// One chunk of the body.
    Chunk(Vec<u8>),
    /// The end of a chunked body.
    End,
    /// A whole response.
    Whole(u16, Vec<(&'static str, String)>, Vec<u8>),
    /// Raw bytes, unframed.
    Raw(Vec<u8>),
    /// Waits until somebody calls [`Upstream::go`].
    Gate,
    /// Says nothing until the other side hangs up.
    Hang,
    /// Closes without ending the body.
    Close,
    /// Closes with a reset.
    Reset,
    /// Notes something at this point of the answer.
    Run(Arc<dyn Fn() + Send + Sync>),
}

#[derive(Clone, Debug)]
pub struct Received {
    pub method: String,
    pub path: String,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Received {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).expect("a JSON body")
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(key, _)| key.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }
}

type Script = dyn Fn(&Received) -> Vec<Step> + Send + Sync;

struct Inner {
    script: Box<Script>,
    models: Value,
    received: Mutex<Vec<Received>>,
    arrived: Notify,
    gate: Semaphore,
    hung_up: Semaphore,
}

/// See the module.
pub struct Upstream {
    address: SocketAddr,
    inner: Arc<Inner>,
    accepting: tokio::task::JoinHandle<()>,
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl Upstream {
    /// Answers completions by `script`, and lists the model `fake`.
    pub async fn start(script: impl Fn(&Received) -> Vec<Step> + Send + Sync + 'static) -> Self {
        let models = json!([{"id": "fake", "object": "model", "created": 1, "owned_by": "test"}]);
        Self::with(models, script).await
    }

    /// Lists `models`, and answers no completion.
    pub async fn listing(models: &Value) -> Self {
        Self::with(models.clone(), |_| vec![Step::Close]).await
    }

    async fn with(
        models: Value,
        script: impl Fn(&Received) -> Vec<Step> + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let inner = Arc::new(Inner {
            script: Box::new(script),
            models,
            received: Mutex::default(),
            arrived: Notify::new(),
            gate: Semaphore::new(0),
            hung_up: Semaphore::new(0),
        });
        let shared = inner.clone();
        let accepting = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, shared.clone()));
            }
        });
        Self {
            address,
            inner,
            accepting,
        }
    }

    /// Always streams `events`, whatever is asked.
    pub async fn streaming(events: &str) -> Self {
        let events = events.as_bytes().to_vec();
        Self::start(move |_| vec![sse_head(), Step::Chunk(events.clone()), Step::End]).await
    }

    pub fn base_url(&self) -> String {
        format!("http://{}/v1", self.address)
    }

    /// The address without a path.
    pub fn origin(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The completion requests so far.
    pub fn completions(&self) -> Vec<Received> {
        let received = self.inner.received.lock().expect("not poisoned");
        received
            .iter()
            .filter(|request| request.path.contains("/chat/completions"))
            .cloned()
            .collect()
    }

    /// Every request so far that was sent something, in whatever dialect.
    pub fn asked(&self) -> Vec<Received> {
        let received = self.inner.received.lock().expect("not poisoned");
        let asked = received.iter().filter(|request| request.method == "POST");
        asked.cloned().collect()
    }

    /// The requests for this path so far.
    pub fn requests_for(&self, path: &str) -> Vec<Received> {
        let received = self.inner.received.lock().expect("not poisoned");
        let wanted = received.iter().filter(|request| request.path == path);
        wanted.cloned().collect()
    }

    /// The requests to `path` so far.
    pub fn received(&self, path: &str) -> Vec<Received> {
        let received = self.inner.received.lock().expect("not poisoned");
        let at_path = received.iter().filter(|request| request.path == path);
        at_path.cloned().collect()
    }

    /// How often its models were asked for.
    pub fn listings(&self) -> usize {
        let received = self.inner.received.lock().expect("not poisoned");
        let listings = received
            .iter()
            .filter(|request| request.path == "/v1/models");
        listings.count()
    }

    /// Waits until `count` completion requests have come.
    pub async fn wait_for(&self, count: usize) {
        let waiting = async {
            loop {
                let arrived = self.inner.arrived.notified();
                if self.completions().len() >= count {
                    return;
                }
                arrived.await;
            }
        };
        tokio::time::timeout(PATIENCE, waiting)
            .await
            .expect("the requests come");
    }

    /// Lets `count` gates through.
    pub fn go(&self, count: usize) {
        self.inner.gate.add_permits(count);
    }

    /// Waits until a client of a hanging script has hung up; at most `within`.
    pub async fn hung_up(&self, within: Duration) {
        let permit = tokio::time::timeout(within, self.inner.hung_up.acquire()).await;
        permit
            .expect("the upstream is let go in time")
            .expect("never closed")
            .forget();
    }
}

pub fn sse_head() -> Step {
    Step::Head(200, vec![("content-type", "text/event-stream".into())])
}

pub fn json_answer(status: u16, body: &Value) -> Step {
    Step::Whole(
        status,
        vec![("content-type", "application/json".into())],
        body.to_string().into_bytes(),
    )
}

/// A chunk of a streamed answer.
pub fn delta(content: &str) -> String {
    let chunk = json!({"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "fake",
        "choices": [{"index": 0, "delta": {"content": content}, "finish_reason": null}]});
    format!("data: {chunk}\n\n")
}

/// The chunk that says why the answer ended.
pub fn finish(reason: &str) -> String {
    let chunk = json!({"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "fake",
        "choices": [{"index": 0, "delta": {}, "finish_reason": reason}]});
    format!("data: {chunk}\n\n")
}

/// The usage chunk.
pub fn usage(prompt: u64, completion: u64) -> String {
    let chunk = json!({"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "fake", "choices": [],
        "usage": {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}});
    format!("data: {chunk}\n\n")
}

pub const DONE: &str = "data: [DONE]\n\n";

/// A whole answer.
pub fn whole(content: &str) -> Value {
    json!({"id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "fake",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": content}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}})
}

async fn serve(mut stream: TcpStream, inner: Arc<Inner>) {
    let _ = stream.set_nodelay(true);
    let mut buffer = Vec::new();
    while let Some(request) = read_request(&mut stream, &mut buffer).await {
        let steps = if request.path.split('?').next() == Some("/v1/models") {
            vec![json_answer(
                200,
                &json!({"object": "list", "data": inner.models}),
            )]
        } else {
            (inner.script)(&request)
        };
        inner.received.lock().expect("not poisoned").push(request);
        inner.arrived.notify_waiters();
        for step in steps {
            let written = match step {
                Step::Head(status, headers) => {
                    let mut head =
                        format!("HTTP/1.1 {status} Scripted\r\ntransfer-encoding: chunked\r\n");
                    for (name, value) in headers {
                        let _ = write!(head, "{name}: {value}\r\n");
                    }
                    head.push_str("\r\n");
                    stream.write_all(head.as_bytes()).await
                }
                Step::Chunk(bytes) => {
                    let mut chunk = format!("{:x}\r\n", bytes.len()).into_bytes();
                    chunk.extend_from_slice(&bytes);
                    chunk.extend_from_slice(b"\r\n");
                    stream.write_all(&chunk).await
                }
                Step::End => stream.write_all(b"0\r\n\r\n").await,
                Step::Whole(status, headers, body) => {
                    let mut head = format!(
                        "HTTP/1.1 {status} Scripted\r\ncontent-length: {}\r\n",
                        body.len()
                    );
                    for (name, value) in headers {
                        let _ = write!(head, "{name}: {value}\r\n");
                    }
                    head.push_str("\r\n");
                    let mut bytes = head.into_bytes();
                    bytes.extend_from_slice(&body);
                    stream.write_all(&bytes).await
                }
                Step::Run(note) => {
                    note();
                    Ok(())
                }
                Step::Raw(bytes) => stream.write_all(&bytes).await,
                Step::Gate => {
                    inner.gate.acquire().await.expect("never closed").forget();
                    Ok(())
                }
                Step::Hang => {
                    let mut rest = [0; 1024];
                    while matches!(stream.read(&mut rest).await, Ok(read) if read > 0) {}
                    inner.hung_up.add_permits(1);
                    return;
                }
                Step::Close => return,
                Step::Reset => {
                    let _ = stream.set_zero_linger();
                    return;
                }
            };
            if written.is_err() {
                inner.hung_up.add_permits(1);
                return;
            }
        }
    }
}

async fn read_request(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Option<Received> {
    let head_end = loop {
        if let Some(at) = buffer.windows(4).position(|window| window == b"\r\n\r\n") {
            break at;
        }
        fill(stream, buffer).await?;
    };
    let head = String::from_utf8_lossy(&buffer[..head_end]).into_owned();
    let mut lines = head.split("\r\n");
    let mut first = lines.next()?.split(' ');
    let (method, path) = (first.next()?.to_owned(), first.next()?.to_owned());
    let headers: Vec<(String, String)> = lines
        .filter_map(|line| {
            line.split_once(':')
                .map(|(name, value)| (name.to_owned(), value.trim().to_owned()))
        })
        .collect();
    let length = headers
        .iter()
        .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
        .and_then(|(_, value)| value.parse::<usize>().ok())
        .unwrap_or_default();
    while buffer.len() < head_end + 4 + length {
        fill(stream, buffer).await?;
    }
    let body = buffer[head_end + 4..head_end + 4 + length].to_vec();
    buffer.drain(..head_end + 4 + length);
    Some(Received {
        method,
        path,
        headers,
        body,
    })
}

async fn fill(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Option<()> {
    let mut chunk = vec![0; 64 << 10];
    match stream.read(&mut chunk).await {
        Ok(read) if read > 0 => {
            buffer.extend_from_slice(&chunk[..read]);
            Some(())
        }
        _ => None,
    }
}
