//! Each table of the file: what is read of it, and how a row is mended and brought into our form.

use std::net::IpAddr;

use secrecy::SecretString;
use serde_json::Value;

use crate::db::body::Body;
use crate::db::import::cells::{Cells, rounded, unquoted, unwrapped};
use crate::db::import::{
    CONFIGS, ERRORS, LINKS, LOGINS, LinkRow, MODELS, OldError, OldLogin, OldRequest, OldResponse,
    OldSession, PROVIDERS, REQUESTS, RESPONSES, SESSIONS, SETTINGS,
};
use crate::db::models::ModelRow;
use crate::db::providers::{ConfigRow, ProviderRow, is_sensitive};
use crate::db::settings::SettingRow;
use crate::settings::{self, Kind, Setting};

/// Keys of a provider's configuration whose values are texts, also where they look like something else.
const TEXTS: [&str; 2] = ["baseURL", "defaultModel"];

/// Above this a time counts milliseconds, below it seconds.
const LEAST_MS: i64 = 100_000_000_000;

const REQUEST_OF: &str =
    "(SELECT q.request_id FROM requests q WHERE q.id = t.request_id) AS request";
const MODEL_OF: &str = "(SELECT q.model FROM requests q WHERE q.id = t.request_id) AS model";

/// A table of the file, and what is read of it.
pub(super) struct Wanted {
    pub(super) table: &'static str,
    pub(super) columns: &'static [&'static str],
    /// Further values by an expression, for rows that name a request by its number.
    pub(super) through_request: &'static [(&'static str, &'static str)],
}

const fn wanted(table: &'static str, columns: &'static [&'static str]) -> Wanted {
    Wanted {
        table,
        columns,
        through_request: &[],
    }
}

pub(super) const PROVIDERS_WANTED: Wanted = wanted(
    PROVIDERS,
    &[
        "id",
        "name",
        "type",
        "enabled",
        "priority",
        "description",
        "created_at",
        "updated_at",
    ],
);

pub(super) fn provider(cells: &Cells<'_>, now: i64) -> Result<ProviderRow, String> {
    let id = needed(cells, "id")?;
    let kind = cells
        .text("type")
        .ok_or_else(|| format!("`{id}` has no type"))?;
    let (created_at, updated_at) = times(cells, now);
    Ok(ProviderRow {
        name: cells.text("name").unwrap_or_else(|| id.clone()),
        kind,
        enabled: cells.flag("enabled").unwrap_or(true),
        priority: cells.integer("priority").unwrap_or_default(),
        description: cells.text("description"),
        origin: "import".into(),
        auto_enable: false,
        created_at,
        updated_at,
        id,
    })
}

pub(super) const CONFIGS_WANTED: Wanted =
    wanted(CONFIGS, &["provider_id", "key", "value", "is_sensitive"]);

pub(super) fn config(cells: &Cells<'_>) -> Result<(String, ConfigRow), String> {
    let provider = needed(cells, "provider_id")?;
    let key = needed(cells, "key")?;
    let text = cells
        .text("value")
        .ok_or_else(|| format!("`{key}` of `{provider}` is empty"))?;
    let is_sensitive = cells.flag("is_sensitive").unwrap_or_default() || is_sensitive(&key);
    let meant = configured(&text);
    // A key that is all digits is a text; headers that hold keys are no text.
    let is_text = is_sensitive || TEXTS.contains(&key.as_str());
    let value = if is_text && !meant.is_object() {
        Value::from(unquoted(&text))
    } else {
        meant
    };
    Ok((
        provider,
        ConfigRow {
            key,
            value,
            is_sensitive,
            sealed: false,
        },
    ))
}

/// A configuration value as it was meant: `120000.0` is a number, `{"x-team":"a"}` an object, the rest text.
fn configured(text: &str) -> Value {
    match unwrapped(text) {
        Some(Value::Number(number)) if !number.is_i64() => {
            let whole = number
                .as_f64()
                .filter(|n| n.fract() == 0.0)
                .and_then(rounded);
            whole.map_or(Value::Number(number), Value::from)
        }
        Some(Value::Null) | None => text.into(),
        Some(value) => value,
    }
}

pub(super) const MODELS_WANTED: Wanted = wanted(
    MODELS,
    &[
        "id",
        "name",
        "description",
        "capabilities",
        "created_at",
        "updated_at",
    ],
);

pub(super) fn model(cells: &Cells<'_>, now: i64) -> Result<ModelRow, String> {
    let id = needed(cells, "id")?;
    let (created_at, updated_at) = times(cells, now);
    Ok(ModelRow {
        name: cells.text("name").unwrap_or_else(|| id.clone()),
        description: cells.text("description"),
        capabilities: capabilities(&cells.words("capabilities")),
        created_at,
        updated_at,
        id,
    })
}

/// A list, also one that is encoded twice, or written with commas.
fn capabilities(text: &str) -> Vec<String> {
    let listed = |text: &str| {
        text.split(',')
            .map(|word| word.trim().to_owned())
            .filter(|word| !word.is_empty())
            .collect()
    };
    match unwrapped(text) {
        Some(Value::Array(items)) => items
            .into_iter()
            .filter_map(|item| item.as_str().map(str::to_owned))
            .collect(),
        Some(Value::String(words)) => listed(&words),
        Some(_) => Vec::new(),
        None if text.contains(['[', '{', '"']) => Vec::new(),
        None => listed(text),
    }
}

pub(super) const LINKS_WANTED: Wanted = wanted(
    LINKS,
    &[
        "provider_id",
        "model_id",
        "is_default",
        "config",
        "created_at",
        "updated_at",
    ],
);

pub(super) fn link(cells: &Cells<'_>, now: i64) -> Result<LinkRow, String> {
    let (created_at, updated_at) = times(cells, now);
    Ok(LinkRow {
        provider_id: needed(cells, "provider_id")?,
        model_id: needed(cells, "model_id")?,
        is_default: cells.flag("is_default").unwrap_or_default(),
        config: cells
            .text("config")
            .and_then(|text| unwrapped(&text))
            .filter(Value::is_object)
            .map(|config| config.to_string()),
        created_at,
        updated_at,
    })
}

pub(super) const SETTINGS_WANTED: Wanted = wanted(SETTINGS, &["key", "value", "updated_at"]);

pub(super) fn setting(cells: &Cells<'_>, now: i64) -> Result<SettingRow, String> {
    let key = needed(cells, "key")?;
    let known = settings::find(&key).ok_or_else(|| format!("there is no setting `{key}`"))?;
    if known.is_access() {
        return Err(format!("`{key}` is not taken from another program"));
    }
    let value = repaired(known, &cells.words("value"));
    known.check(&value)?;
    if key == settings::SERVER_HOST && !is_of_this_machine(value.as_str().unwrap_or_default()) {
        return Err(format!("`{key}` may only be an address of this machine"));
    }
    Ok(SettingRow {
        key,
        value: value.to_string(),
        updated_at: cells.integer("updated_at").map_or(now, as_ms),
    })
}

/// The value that was meant by `3001.0`, `"info"` or `1`.
fn repaired(setting: &Setting, text: &str) -> Value {
    let text = unquoted(text);
    let text = text.trim();
    let whole = match setting.kind {
        Kind::Integer(..) | Kind::Port | Kind::Boolean => text
            .parse::<f64>()
            .ok()
            .filter(|number| number.fract() == 0.0)
            .and_then(rounded),
        Kind::Text
        | Kind::OneOf(_)
        | Kind::Token
        | Kind::Origins
        | Kind::HostNames
        | Kind::Proxy => None,
    };
    match whole {
        Some(number) => setting.read_text(&number.to_string()),
        None => setting.read_text(text),
    }
}

/// Others are refused at the next start, and a start must not fail for an import.
fn is_of_this_machine(host: &str) -> bool {
    host == "localhost"
        || host
            .parse::<IpAddr>()
            .is_ok_and(|address| address.is_loopback())
}

pub(super) const SESSIONS_WANTED: Wanted = wanted(
    SESSIONS,
    &[
        "id",
        "chat_id",
        "parent_id",
        "first_user_message",
        "message_count",
        "user_id",
        "conversation_hash",
        "created_at",
        "last_accessed",
        "expires_at",
    ],
);

pub(super) fn session(cells: &Cells<'_>, now: i64) -> Result<OldSession, String> {
    let created_at = cells.integer("created_at").unwrap_or(now);
    let last_accessed = cells.integer("last_accessed").unwrap_or(created_at);
    Ok(OldSession {
        id: needed(cells, "id")?,
        chat_id: cells.words("chat_id"),
        parent_id: cells.text("parent_id"),
        first_user_message: cells.words("first_user_message"),
        message_count: cells.count("message_count").unwrap_or_default(),
        user_id: cells.text("user_id"),
        conversation_hash: cells.text("conversation_hash"),
        created_at,
        last_accessed,
        expires_at: cells.integer("expires_at").unwrap_or(last_accessed),
    })
}

pub(super) const REQUESTS_WANTED: Wanted = wanted(
    REQUESTS,
    &[
        "session_id",
        "request_id",
        "timestamp",
        "method",
        "path",
        "openai_request",
        "qwen_request",
        "model",
        "stream",
        "created_at",
    ],
);

pub(super) fn request(cells: &Cells<'_>, now: i64) -> Result<OldRequest, String> {
    let timestamp = timestamp(cells, now);
    Ok(OldRequest {
        request_id: needed(cells, "request_id")?,
        session_id: cells.text("session_id"),
        timestamp,
        method: cells.text("method").unwrap_or_else(|| "POST".into()),
        path: cells.words("path"),
        openai_request: cells
            .body("openai_request")
            .map_or_else(|| "null".into(), Body::of),
        qwen_request: body(cells, "qwen_request"),
        model: cells.words("model"),
        stream: cells.flag("stream").unwrap_or_default(),
        created_at: cells.integer("created_at").unwrap_or(timestamp),
    })
}

fn body(cells: &Cells<'_>, column: &str) -> Option<Body> {
    let body = cells.body(column).filter(|body| !body.is_empty());
    body.map(Body::of)
}

pub(super) const RESPONSES_WANTED: Wanted = Wanted {
    table: RESPONSES,
    columns: &[
        "response_id",
        "timestamp",
        "qwen_response",
        "openai_response",
        "parent_id",
        "completion_tokens",
        "prompt_tokens",
        "total_tokens",
        "finish_reason",
        "error",
        "duration_ms",
        "created_at",
    ],
    through_request: &[(REQUEST_OF, "request"), (MODEL_OF, "model")],
};

pub(super) fn response(cells: &Cells<'_>, now: i64) -> Result<OldResponse, String> {
    let response_id = needed(cells, "response_id")?;
    let timestamp = timestamp(cells, now);
    Ok(OldResponse {
        request: cells
            .text("request")
            .ok_or_else(|| format!("`{response_id}` answers a request that is not there"))?,
        timestamp,
        qwen_response: body(cells, "qwen_response"),
        openai_response: body(cells, "openai_response"),
        parent_id: cells.text("parent_id"),
        prompt_tokens: cells.count("prompt_tokens"),
        completion_tokens: cells.count("completion_tokens"),
        total_tokens: cells.count("total_tokens"),
        finish_reason: cells.text("finish_reason"),
        error: cells.text("error"),
        duration_ms: cells.count("duration_ms").unwrap_or_default(),
        created_at: cells.integer("created_at").unwrap_or(timestamp),
        model: cells.words("model"),
        response_id,
    })
}

pub(super) const ERRORS_WANTED: Wanted = Wanted {
    table: ERRORS,
    columns: &[
        "error_id",
        "timestamp",
        "error_type",
        "error_code",
        "error_message",
        "stack_trace",
        "session_id",
        "endpoint",
        "method",
        "user_agent",
        "request_payload",
        "response_payload",
        "severity",
        "resolved",
        "notes",
        "created_at",
    ],
    through_request: &[(REQUEST_OF, "request")],
};

pub(super) fn error(cells: &Cells<'_>, now: i64) -> Result<OldError, String> {
    let timestamp = timestamp(cells, now);
    Ok(OldError {
        error_id: needed(cells, "error_id")?,
        timestamp,
        error_type: cells.text("error_type").unwrap_or_else(|| "unknown".into()),
        error_code: cells.text("error_code"),
        error_message: cells.words("error_message"),
        stack_trace: cells.text("stack_trace"),
        session_id: cells.text("session_id"),
        request: cells.text("request"),
        endpoint: cells.text("endpoint"),
        method: cells.text("method"),
        user_agent: cells.text("user_agent"),
        request_payload: cells.text("request_payload"),
        response_payload: cells.text("response_payload"),
        severity: severity(&cells.words("severity")),
        resolved: cells.flag("resolved").unwrap_or_default(),
        notes: cells.text("notes"),
        created_at: cells.integer("created_at").unwrap_or(timestamp),
    })
}

fn severity(word: &str) -> &'static str {
    match word.to_ascii_lowercase().as_str() {
        "debug" | "trace" => "debug",
        "info" | "low" => "info",
        "warn" | "warning" | "medium" => "warning",
        "critical" | "fatal" => "critical",
        _ => "error",
    }
}

pub(super) const LOGINS_WANTED: Wanted = wanted(LOGINS, &["token", "cookies", "expires_at"]);

pub(super) fn login(cells: &Cells<'_>, now: i64) -> Result<OldLogin, String> {
    let secret = |column| {
        let text = cells.words(column).trim().to_owned();
        (!text.is_empty() && !text.chars().any(char::is_control)).then(|| SecretString::from(text))
    };
    let (Some(token), Some(cookies)) = (secret("token"), secret("cookies")) else {
        return Err("the login lacks its token or its cookies".into());
    };
    let expires_at = cells.count("expires_at").filter(|at| *at > 0).map(as_ms);
    if expires_at.is_some_and(|at| at <= now) {
        return Err("the login has expired".into());
    }
    Ok(OldLogin {
        token,
        cookies,
        expires_at,
    })
}

/// Its comments say milliseconds, its code writes seconds.
fn as_ms(time: i64) -> i64 {
    if time < LEAST_MS {
        time.saturating_mul(1_000)
    } else {
        time
    }
}

fn needed(cells: &Cells<'_>, column: &str) -> Result<String, String> {
    cells
        .text(column)
        .ok_or_else(|| format!("a row has no `{column}`"))
}

/// When a row came about, and when it was changed last.
fn times(cells: &Cells<'_>, now: i64) -> (i64, i64) {
    let created_at = cells.integer("created_at").unwrap_or(now);
    (
        created_at,
        cells.integer("updated_at").unwrap_or(created_at),
    )
}

fn timestamp(cells: &Cells<'_>, now: i64) -> i64 {
    cells
        .integer("timestamp")
        .or_else(|| cells.integer("created_at"))
        .unwrap_or(now)
}
