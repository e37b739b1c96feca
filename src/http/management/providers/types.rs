//! `/api/providers/types`: what kinds of providers there are, and what each needs.

use axum::Json;
use serde::Serialize;
use serde_json::{Map, Value, json};
use utoipa::ToSchema;

use crate::providers::presets::{self, PRESETS};
use crate::providers::{echo, qwen};

/// All kinds.
#[derive(Serialize, ToSchema)]
#[schema(as = ProviderTypes)]
pub(super) struct Types {
    types: Vec<Type>,
    total: usize,
}

/// One kind of provider.
#[derive(Serialize, ToSchema)]
#[schema(as = ProviderType)]
#[serde(rename_all = "camelCase")]
struct Type {
    /// What a provider's `type` says.
    value: &'static str,
    label: &'static str,
    description: &'static str,
    required_config: Vec<&'static str>,
    optional_config: Vec<&'static str>,
    /// By key: type, description, and an example or a default.
    config_schema: Map<String, Value>,
    capabilities: &'static [&'static str],
    /// The environment variable that the vendor's own tools read the key from.
    key_variable: Option<&'static str>,
    /// Runs on the user's own machine.
    local: bool,
}

const CAPABILITIES: &[&str] = &["chat", "streaming", "tools", "models"];

/// What kinds of providers there are. Any other text is a kind too: a server that speaks `OpenAI`'s format.
#[utoipa::path(get, path = "/api/providers/types", tag = "providers", responses((status = 200, body = Types)))]
pub(super) async fn types() -> Json<Types> {
    let presets = PRESETS.iter().map(|preset| Type {
        value: preset.kind,
        label: preset.label,
        description: preset.description,
        required_config: preset.required.to_vec(),
        optional_config: preset.optional.to_vec(),
        config_schema: schema(preset.required, preset.optional, preset.base_url),
        capabilities: CAPABILITIES,
        key_variable: preset.key_variable,
        local: preset.local,
    });
    let own = [
        Type {
            value: presets::GENERIC,
            label: "OpenAI-compatible server",
            description: "Any server that speaks OpenAI's chat format",
            required_config: vec!["baseURL"],
            optional_config: presets::OPTIONAL_OF_ANY.to_vec(),
            config_schema: schema(&["baseURL"], presets::OPTIONAL_OF_ANY, None),
            capabilities: CAPABILITIES,
            key_variable: None,
            local: false,
        },
        Type {
            value: qwen::DIRECT,
            label: "Qwen web chat",
            description: "chat.qwen.ai with your own login, in this process",
            required_config: Vec::new(),
            optional_config: vec!["defaultModel", "record"],
            config_schema: schema(&[], &["defaultModel", "record"], None),
            capabilities: &["chat", "streaming", "tools", "sessions", "models"],
            key_variable: None,
            local: false,
        },
        Type {
            value: echo::KIND,
            label: "Echo",
            description: "Answers with what it is asked; for trying the gateway out",
            required_config: Vec::new(),
            optional_config: Vec::new(),
            config_schema: Map::new(),
            capabilities: &["chat", "streaming", "tools"],
            key_variable: None,
            local: true,
        },
    ];
    let mut types: Vec<Type> = Vec::new();
    for kind in presets.chain(own) {
        if types.iter().all(|known| known.value != kind.value) {
            types.push(kind);
        }
    }
    Json(Types {
        total: types.len(),
        types,
    })
}

fn schema(required: &[&str], optional: &[&str], base_url: Option<&str>) -> Map<String, Value> {
    let keys = required.iter().chain(optional);
    keys.map(|key| ((*key).to_owned(), described(key, base_url)))
        .collect()
}

fn described(key: &str, base_url: Option<&str>) -> Value {
    match key {
        "baseURL" => json!({
            "type": "string",
            "description": "Where its API begins",
            "example": base_url.unwrap_or("http://localhost:8080/v1"),
            "default": base_url,
        }),
        "apiKey" => {
            json!({"type": "string", "description": "Sent as a bearer token", "sensitive": true})
        }
        "timeout" => json!({
            "type": "number",
            "description": "Milliseconds it may stay silent",
            "default": 120_000,
        }),
        "headers" => json!({"type": "object", "description": "Headers to send along"}),
        "defaultModel" => {
            json!({"type": "string", "description": "The model of requests that name none"})
        }
        "record" => json!({
            "type": "string",
            "enum": ["off", "failed", "all"],
            "description": "Which of its exchanges are recorded, in place of `history.record`",
        }),
        "caFile" => json!({
            "type": "string",
            "description": "A file of certificates (PEM) that its own may be signed by, on the gateway's machine",
            "example": "/etc/ssl/company-ca.pem",
        }),
        "responses" => json!({
            "type": "boolean",
            "description": "It serves /responses: requests in that dialect are passed on as they are",
        }),
        _ => json!({"type": "string", "description": ""}),
    }
}
