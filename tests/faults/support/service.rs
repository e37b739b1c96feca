//! One running `qwarden serve` with its data directory, which outlives it.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;

use super::binary::Binary;
use super::upstream::Upstream;
use super::{PATIENCE, client};

/// See the module.
pub struct Service {
    pub binary: Binary,
    pub client: reqwest::Client,
    dir: PathBuf,
    /// Removed at the end where it is its own.
    _own: Option<TempDir>,
    flags: Vec<String>,
}

impl Service {
    /// In a fresh directory, with these flags of `qwarden serve` besides.
    pub fn start(flags: &[&str]) -> Self {
        let own = TempDir::new().expect("a directory");
        let dir = own.path().to_owned();
        Self::with(dir, Some(own), flags)
    }

    /// In a directory that is somebody else's to remove.
    pub fn within(dir: &Path, flags: &[&str]) -> Self {
        Self::with(dir.to_owned(), None, flags)
    }

    fn with(dir: PathBuf, own: Option<TempDir>, flags: &[&str]) -> Self {
        Self {
            binary: Binary::logging(&dir, flags, log()),
            client: client(),
            dir,
            _own: own,
            flags: flags.iter().map(|flag| (*flag).to_owned()).collect(),
        }
    }

    /// Starts it anew where it was; what still runs is killed first. Returns how long it took to serve.
    pub fn restart(&mut self) -> Duration {
        self.binary.kill();
        let flags: Vec<&str> = self.flags.iter().map(String::as_str).collect();
        self.binary = Binary::logging(&self.dir, &flags, log());
        self.binary.ready_after
    }

    pub fn dir(&self) -> &Path {
        &self.dir
    }

    pub fn database(&self) -> PathBuf {
        self.dir.join("qwarden.db")
    }

    pub fn api(&self, path: &str) -> String {
        format!("{}{path}", self.binary.management)
    }

    pub fn completions(&self) -> String {
        format!("{}/v1/chat/completions", self.binary.router)
    }

    /// Registers `upstream` as the provider `id`.
    pub async fn provider(&self, id: &str, upstream: &Upstream) {
        let body = provider(id, &upstream.base_url());
        let (status, answer) = self.post(&self.api("/api/providers"), &body).await;
        assert_eq!(status, 201, "{answer}");
    }

    pub async fn post(&self, url: &str, body: &Value) -> (u16, Value) {
        told(self.client.post(url).json(body)).await
    }

    pub async fn put(&self, url: &str, body: &Value) -> (u16, Value) {
        told(self.client.put(url).json(body)).await
    }

    pub async fn get(&self, url: &str) -> (u16, Value) {
        told(self.client.get(url)).await
    }

    pub async fn chat(&self, body: &Value) -> reqwest::Response {
        let sent = self.client.post(self.completions()).json(body).send().await;
        sent.expect("the gateway answers")
    }

    pub async fn health(&self) -> Value {
        self.get(&self.api("/api/health")).await.1
    }

    /// Asks for health until `wanted` is true of it; returns it and how long that took.
    pub async fn until(&self, what: &str, wanted: impl Fn(&Value) -> bool) -> (Value, Duration) {
        let began = Instant::now();
        loop {
            let health = self.health().await;
            if wanted(&health) {
                return (health, began.elapsed());
            }
            assert!(began.elapsed() < PATIENCE, "not {what}: {health}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

/// A provider as it is created.
pub fn provider(id: &str, base_url: &str) -> Value {
    json!({"id": id, "name": id, "type": "openai-compatible", "config": {"baseURL": base_url, "apiKey": "sk-upstream"}})
}

async fn told(request: reqwest::RequestBuilder) -> (u16, Value) {
    let response = request.send().await.expect("the gateway answers");
    let status = response.status().as_u16();
    (status, response.json().await.expect("a JSON body"))
}

/// With `QWARDEN_LOG` set, what it logs is seen.
fn log() -> Stdio {
    if std::env::var_os("QWARDEN_LOG").is_some() {
        Stdio::inherit()
    } else {
        Stdio::null()
    }
}
