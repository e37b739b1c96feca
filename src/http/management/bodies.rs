//! Bodies as the API's description tells them. What is read from a body is checked field by field (`fields`), so that
//! all faults are told at once; these types say the same to programs.

#![expect(dead_code, reason = "they describe bodies and are never made")]

use axum::Json;
use serde::Serialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;

/// That something was done.
#[derive(Serialize, ToSchema)]
pub(crate) struct Done {
    success: bool,
    message: String,
}

impl Done {
    pub(crate) fn new(message: impl Into<String>) -> Json<Self> {
        Json(Self {
            success: true,
            message: message.into(),
        })
    }
}

/// A provider to be made.
#[derive(ToSchema)]
pub(crate) struct NewProviderBody {
    #[schema(pattern = "^[a-z0-9-]+$", min_length = 1, max_length = 100)]
    id: String,
    #[schema(min_length = 1, max_length = 200)]
    name: String,
    /// A value of `GET /api/providers/types`, or any text for a server that speaks `OpenAI`'s format.
    #[schema(rename = "type", min_length = 1, max_length = 200)]
    kind: String,
    /// True unless given.
    enabled: Option<bool>,
    /// 0 unless given.
    priority: Option<i64>,
    description: Option<String>,
    config: Option<Map<String, Value>>,
}

/// What is to change of a provider.
#[derive(ToSchema)]
pub(crate) struct ChangedProvider {
    #[schema(min_length = 1, max_length = 200)]
    name: Option<String>,
    #[schema(rename = "type", min_length = 1, max_length = 200)]
    kind: Option<String>,
    enabled: Option<bool>,
    priority: Option<i64>,
    description: Option<String>,
    /// Keys that are set; the others stay.
    config: Option<Map<String, Value>>,
}

/// How a provider is tested.
#[derive(ToSchema)]
pub(crate) struct TestBody {
    /// Asks for a completion of this model instead of the list of models.
    model: Option<String>,
    prompt: Option<String>,
}

/// Configuration keys to be set.
#[derive(ToSchema)]
pub(crate) struct ConfigBody {
    config: Map<String, Value>,
}

/// One configuration value.
#[derive(ToSchema)]
pub(crate) struct ConfigValueBody {
    value: Value,
    is_sensitive: Option<bool>,
}

/// A link to be made.
#[derive(ToSchema)]
pub(crate) struct NewLinkBody {
    #[schema(min_length = 1, max_length = 200)]
    model_id: String,
    is_default: Option<bool>,
    /// What is known of it here: `price`, `context_length`, `tools` and the like.
    config: Option<Map<String, Value>>,
}

/// A model to be made.
#[derive(ToSchema)]
pub(crate) struct NewModelBody {
    /// Printable characters without blanks.
    #[schema(min_length = 1, max_length = 200)]
    id: String,
    #[schema(min_length = 1, max_length = 200)]
    name: String,
    description: Option<String>,
    capabilities: Option<Vec<String>>,
}

/// What is to change of a model.
#[derive(ToSchema)]
pub(crate) struct ChangedModel {
    #[schema(min_length = 1, max_length = 200)]
    name: Option<String>,
    description: Option<String>,
    capabilities: Option<Vec<String>>,
}

/// A virtual model to be made.
#[derive(ToSchema)]
pub(crate) struct NewVirtualBody {
    /// What clients send; `*` stands for any text.
    #[schema(min_length = 1, max_length = 200)]
    name: String,
    #[schema(min_items = 1, max_items = 64)]
    targets: Vec<VirtualTargetBody>,
    /// `priority` unless given.
    strategy: Option<StrategyBody>,
    description: Option<String>,
    /// True unless given.
    enabled: Option<bool>,
}

/// What a virtual model is to be.
#[derive(ToSchema)]
pub(crate) struct VirtualBody {
    /// As before unless given.
    #[schema(min_length = 1, max_length = 200)]
    name: Option<String>,
    #[schema(min_items = 1, max_items = 64)]
    targets: Vec<VirtualTargetBody>,
    /// `priority` unless given.
    strategy: Option<StrategyBody>,
    description: Option<String>,
    /// True unless given.
    enabled: Option<bool>,
}

/// What is to change of a virtual model.
#[derive(ToSchema)]
pub(crate) struct ChangedVirtual {
    #[schema(min_length = 1, max_length = 200)]
    name: Option<String>,
    /// All of them.
    #[schema(min_items = 1, max_items = 64)]
    targets: Option<Vec<VirtualTargetBody>>,
    strategy: Option<StrategyBody>,
    description: Option<String>,
    enabled: Option<bool>,
}

/// A target of a virtual model: its name, or that and more.
#[derive(ToSchema)]
#[schema(as = NewVirtualTarget)]
#[serde(untagged)]
pub(crate) enum VirtualTargetBody {
    Name(String),
    Weighted(WeightedTargetBody),
}

/// A target with its weight.
#[derive(ToSchema)]
#[schema(as = WeightedTarget)]
pub(crate) struct WeightedTargetBody {
    /// `provider/model`, a model's name, or another virtual model's.
    #[schema(min_length = 1, max_length = 400)]
    target: String,
    /// 1 unless given.
    #[schema(minimum = 1, maximum = 1000)]
    weight: Option<u32>,
}

/// In which order targets are tried.
#[derive(ToSchema)]
#[schema(as = Strategy)]
#[serde(rename_all = "snake_case")]
pub(crate) enum StrategyBody {
    Priority,
    Weighted,
    RoundRobin,
    LeastLatency,
    LeastBusy,
    Cheapest,
    Sticky,
}

/// A setting's new value.
#[derive(ToSchema)]
pub(crate) struct SettingBody {
    value: Value,
}

/// Many settings' new values, by key.
#[derive(ToSchema)]
pub(crate) struct SettingsBody {
    settings: Map<String, Value>,
}

/// A login at chat.qwen.ai: `token` and `cookies`, or a request copied as cURL.
#[derive(ToSchema)]
pub(crate) struct CredentialsBody {
    /// The cookie `token` of the session.
    token: Option<String>,
    /// The cookie header, or a list of `{name, value}`.
    cookies: Option<Value>,
    /// The same as `cookies`.
    cookie_header: Option<String>,
    /// A request to the site, copied as cURL.
    curl: Option<String>,
    /// Headers of the browser to send along.
    headers: Option<Map<String, Value>>,
    /// A name for it; a login of the same name is replaced.
    label: Option<String>,
    /// Unix seconds.
    #[schema(rename = "expiresAt")]
    expires_at: Option<i64>,
}

/// How a pass of the retention is made.
#[derive(ToSchema)]
pub(crate) struct RetentionBody {
    /// Only tell what would be deleted.
    dry_run: Option<bool>,
}

/// Where a backup goes.
#[derive(ToSchema)]
pub(crate) struct BackupBody {
    /// Absolute, on the gateway's own machine, of a file that does not exist; a dated file unless given.
    path: Option<String>,
}

/// A database of the older program.
#[derive(ToSchema)]
pub(crate) struct ImportBody {
    /// Absolute, on the gateway's own machine.
    path: String,
    /// Only tell what would be imported.
    dry_run: Option<bool>,
}

/// How an exchange is repeated.
#[derive(ToSchema)]
pub(crate) struct ReplayBody {
    /// Asks this provider instead.
    #[schema(min_length = 1, max_length = 200)]
    provider: Option<String>,
    /// Asks for this model instead.
    #[schema(min_length = 1, max_length = 200)]
    model: Option<String>,
}

/// Who logs in.
#[derive(ToSchema)]
pub(crate) struct LoginBody {
    /// The admin token.
    token: String,
}

/// A client's key to be made.
#[derive(ToSchema)]
pub(crate) struct NewKeyBody {
    #[schema(min_length = 1, max_length = 200)]
    name: String,
    /// Every model unless given. `groq/*` means all that begin so.
    allowed_models: Option<Vec<String>>,
    /// Unix time, ms.
    expires_at: Option<i64>,
    disabled: Option<bool>,
    /// Completions per minute.
    #[schema(minimum = 1, maximum = 1_000_000)]
    rate_per_minute: Option<i64>,
    #[schema(minimum = 0)]
    tokens_per_day: Option<i64>,
    #[schema(minimum = 0)]
    tokens_per_month: Option<i64>,
    /// US dollars.
    #[schema(minimum = 0, maximum = 1_000_000)]
    cost_per_day: Option<f64>,
    /// US dollars.
    #[schema(minimum = 0, maximum = 1_000_000)]
    cost_per_month: Option<f64>,
}

/// What is to change of a client's key; null takes a limit away.
#[derive(ToSchema)]
pub(crate) struct KeyBody {
    #[schema(min_length = 1, max_length = 200)]
    name: Option<String>,
    allowed_models: Option<Vec<String>>,
    /// Unix time, ms.
    expires_at: Option<i64>,
    disabled: Option<bool>,
    /// Completions per minute.
    #[schema(minimum = 1, maximum = 1_000_000)]
    rate_per_minute: Option<i64>,
    #[schema(minimum = 0)]
    tokens_per_day: Option<i64>,
    #[schema(minimum = 0)]
    tokens_per_month: Option<i64>,
    /// US dollars.
    #[schema(minimum = 0, maximum = 1_000_000)]
    cost_per_day: Option<f64>,
    /// US dollars.
    #[schema(minimum = 0, maximum = 1_000_000)]
    cost_per_month: Option<f64>,
}
