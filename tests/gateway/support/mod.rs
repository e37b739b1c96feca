//! A real gateway, a scripted upstream and a client, all over loopback.

#[path = "../../support/binary.rs"]
pub mod binary;
#[path = "../../support/figures.rs"]
pub mod figures;
pub mod site;
#[path = "../../support/talk.rs"]
mod talk;
#[path = "../../support/tls.rs"]
pub mod tls;
#[path = "../../support/upstream.rs"]
pub mod upstream;

use std::path::PathBuf;
use std::time::Duration;

use qwarden::gateway::{Config, Gateway};
use serde_json::{Value, json};
use tempfile::TempDir;

pub use talk::{Heard, PATIENCE, client, hear, read_cell, say, say_streamed};

/// A port that nobody has at the moment.
pub fn free_port() -> u16 {
    let socket = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    socket.local_addr().expect("an address").port()
}

/// A gateway of this process, on free ports, with a database of its own.
pub struct TestGateway {
    pub gateway: Gateway,
    pub client: reqwest::Client,
    dir: TempDir,
}

impl TestGateway {
    pub async fn start() -> Self {
        Self::with(&[]).await
    }

    /// With these settings besides.
    pub async fn with(settings: &[(&str, Value)]) -> Self {
        Self::reopened(TempDir::new().expect("a temporary directory"), settings).await
    }

    /// On the database that another one left behind.
    pub async fn reopened(dir: TempDir, settings: &[(&str, Value)]) -> Self {
        let mut given: Vec<(String, Value)> = [
            ("server.port", json!(0)),
            ("server.qwenPort", json!(0)),
            ("server.apiPort", json!(0)),
            ("system.discovery", json!(false)),
            // Far beyond what a commit takes: a test must not depend on the default's race with a busy disk.
            ("history.commitWait", json!(5000)),
        ]
        .map(|(key, value)| (key.to_owned(), value))
        .to_vec();
        given.extend(
            settings
                .iter()
                .map(|(key, value)| ((*key).to_owned(), value.clone())),
        );
        let config = || Config {
            data_dir: dir.path().join("data"),
            settings: given.clone(),
            ..Config::default()
        };
        let starting = async {
            loop {
                match Gateway::start(config()).await {
                    // A program that another test starts holds all our files for the moment until it is another program.
                    Err(error) if error.to_string().contains("is in use by another") => {
                        tokio::task::yield_now().await;
                    }
                    started => break started,
                }
            }
        };
        let started = tokio::time::timeout(PATIENCE, starting).await;
        let gateway = started
            .expect("its folder is free in the end")
            .expect("the gateway starts");
        Self {
            gateway,
            client: client(),
            dir,
        }
    }

    pub fn router(&self, path: &str) -> String {
        format!("http://{}{path}", self.gateway.router_address())
    }

    pub fn qwen(&self, path: &str) -> String {
        format!("http://{}{path}", self.gateway.qwen_address())
    }

    /// Of Ollama's port, which the setting `ollama.port` opens.
    pub fn ollama(&self, path: &str) -> String {
        let address = self.gateway.ollama_address().expect("it is on");
        format!("http://{address}{path}")
    }

    pub fn api(&self, path: &str) -> String {
        format!("http://{}{path}", self.gateway.management_address())
    }

    pub fn database(&self) -> PathBuf {
        self.dir.path().join("data").join("qwarden.db")
    }

    /// Registers `upstream` as the provider `id`.
    pub async fn provider(&self, id: &str, upstream: &upstream::Upstream) {
        self.provider_at(id, &upstream.base_url()).await;
    }

    pub async fn provider_at(&self, id: &str, base_url: &str) {
        let body = json!({"id": id, "name": id, "type": "openai-compatible", "config": {"baseURL": base_url, "apiKey": "sk-upstream"}});
        let response = self.post(&self.api("/api/providers"), &body).await;
        assert_eq!(
            response.status(),
            201,
            "{}",
            response.text().await.unwrap_or_default()
        );
    }

    pub async fn post(&self, url: &str, body: &Value) -> reqwest::Response {
        self.client
            .post(url)
            .json(body)
            .send()
            .await
            .expect("the gateway answers")
    }

    pub async fn get(&self, url: &str) -> (u16, Value) {
        let response = self
            .client
            .get(url)
            .send()
            .await
            .expect("the gateway answers");
        let status = response.status().as_u16();
        (status, response.json().await.expect("a JSON body"))
    }

    pub async fn chat(&self, body: &Value) -> reqwest::Response {
        self.post(&self.router("/v1/chat/completions"), body).await
    }

    /// One cell of the database, read from outside.
    pub fn cell<T: rusqlite::types::FromSql>(&self, sql: &str) -> T {
        read_cell(&self.database(), sql)
    }

    /// The node of the live tree.
    pub async fn actor(&self, name: &str) -> Value {
        let (status, tree) = self.get(&self.api("/api/supervision")).await;
        assert_eq!(status, 200);
        find(&tree, name).unwrap_or_else(|| panic!("no actor {name} in {tree}"))
    }

    pub async fn crash(&self, actor: &str) -> u16 {
        let url = self.api(&format!("/api/fault/crash/{actor}"));
        self.client
            .post(url)
            .send()
            .await
            .expect("the gateway answers")
            .status()
            .as_u16()
    }

    /// Waits until `actor` runs in an incarnation later than `than`, and returns its node.
    pub async fn incarnation_after(&self, actor: &str, than: u64) -> Value {
        let looking = async {
            loop {
                let node = self.actor(actor).await;
                if node["state"] == "running" && node["incarnation"].as_u64() > Some(than) {
                    return node;
                }
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(PATIENCE, looking)
            .await
            .expect("the actor comes back")
    }

    /// Stops in order; fails the test when anything is left over.
    pub async fn stop(self) -> TempDir {
        assert!(
            self.gateway.shutdown(Duration::from_secs(5)).await,
            "the gateway ends in order"
        );
        self.dir
    }
}

fn find(node: &Value, name: &str) -> Option<Value> {
    if node["name"] == name {
        return Some(node.clone());
    }
    node["children"]
        .as_array()?
        .iter()
        .find_map(|child| find(child, name))
}
