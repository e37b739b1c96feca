//! The providers a new database starts with (management contract, 3.2): offered, and enabled as soon as they are seen.

use serde_json::{Value, json};

use crate::db::providers::{ConfigRow, ProviderRow};

/// One seed; `config` is a JSON object.
struct Seed {
    id: &'static str,
    name: &'static str,
    kind: &'static str,
    priority: i64,
    enabled: bool,
    /// Enabled when its server on this machine first answers.
    until_seen: bool,
    base_url: Option<&'static str>,
}

const SEEDS: &[Seed] = &[
    Seed {
        id: "lm-studio-default",
        name: "LM Studio Default",
        kind: "lm-studio",
        priority: 10,
        enabled: false,
        until_seen: true,
        base_url: Some("http://localhost:1234/v1"),
    },
    Seed {
        id: "qwen-direct-default",
        name: "Qwen Direct Default",
        kind: "qwen-direct",
        priority: 8,
        enabled: false,
        until_seen: false,
        base_url: None,
    },
    Seed {
        id: "qwen-proxy-default",
        name: "Qwen Proxy Default",
        kind: "qwen-proxy",
        priority: 5,
        enabled: true,
        until_seen: false,
        base_url: Some("http://localhost:3000"),
    },
    Seed {
        id: "ollama",
        name: "Ollama",
        kind: "ollama",
        priority: 4,
        enabled: false,
        until_seen: true,
        base_url: Some("http://localhost:11434/v1"),
    },
    Seed {
        id: "llama-cpp",
        name: "llama.cpp",
        kind: "llama.cpp",
        priority: 3,
        enabled: false,
        until_seen: true,
        base_url: Some("http://localhost:8080/v1"),
    },
    Seed {
        id: "vllm",
        name: "vLLM",
        kind: "vllm",
        priority: 2,
        enabled: false,
        until_seen: true,
        base_url: Some("http://localhost:8000/v1"),
    },
];

/// The rows of a new database. `qwen_port` is where our own Qwen proxy listens.
pub(crate) fn seeds(now_ms: i64, qwen_port: u16) -> Vec<(ProviderRow, Vec<ConfigRow>)> {
    let rows = SEEDS.iter().map(|seed| {
        let provider = ProviderRow {
            id: seed.id.into(),
            name: seed.name.into(),
            kind: seed.kind.into(),
            enabled: seed.enabled,
            priority: seed.priority,
            description: None,
            origin: if seed.until_seen && seed.id != "lm-studio-default" {
                "discovered"
            } else {
                "seed"
            }
            .into(),
            auto_enable: seed.until_seen,
            created_at: now_ms,
            updated_at: now_ms,
        };
        let base_url = match seed.kind {
            "qwen-proxy" => Some(Value::from(format!("http://localhost:{qwen_port}"))),
            _ => seed.base_url.map(Value::from),
        };
        let config = base_url.map(|value| ConfigRow {
            key: "baseURL".into(),
            value,
            is_sensitive: false,
            sealed: false,
        });
        let timeout = ConfigRow {
            key: "timeout".into(),
            value: json!(120_000),
            is_sensitive: false,
            sealed: false,
        };
        (provider, config.into_iter().chain([timeout]).collect())
    });
    rows.collect()
}
