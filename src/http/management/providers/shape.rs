//! A provider as clients see it (management contract, 1).

use std::time::Duration;

use serde::Serialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;

use crate::actors::router::ProviderView;
use crate::actors::router::nodes::Doing;
use crate::db::models::LinkedModel;
use crate::db::providers::{ConfigRow, ProviderRow, is_sensitive};
use crate::routing::node::Shown;
use crate::secrets::MASK;

/// The contract's Provider.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub(crate) struct Provider {
    pub(crate) id: String,
    pub(crate) name: String,
    #[serde(rename = "type")]
    pub(crate) kind: String,
    pub(crate) enabled: bool,
    pub(crate) priority: i64,
    pub(crate) description: Option<String>,
    /// Unix time, ms.
    pub(crate) created_at: i64,
    /// Unix time, ms.
    pub(crate) updated_at: i64,
    /// `user`, `seed`, `discovered` or `import`.
    pub(crate) origin: String,
    /// Becomes enabled when its local server is first seen.
    pub(crate) auto_enable: bool,
}

/// A provider in a list.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
#[schema(as = ProviderSummary)]
pub(crate) struct Summary {
    #[serde(flatten)]
    pub(crate) provider: Provider,
    /// `loaded` or `not_loaded`: whether completions can use it.
    pub(crate) runtime_status: &'static str,
    pub(crate) health: Health,
}

/// What the last look at an upstream found, and how it does since the gateway runs.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
#[schema(as = ProviderHealth)]
pub(crate) struct Health {
    /// `unknown`, `healthy` or `unhealthy`.
    pub(crate) state: &'static str,
    pub(crate) latency_ms: Option<u64>,
    /// Unix time, ms.
    pub(crate) checked_at: Option<i64>,
    pub(crate) error: Option<String>,
    #[serde(flatten)]
    pub(crate) node: NodeHealth,
    /// Its models that were used; those in trouble first, and no more than 50.
    pub(crate) models: Vec<ModelHealth>,
}

/// How a provider, or a model of it, does.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub(crate) struct NodeHealth {
    /// `closed` (all is well), `open` (it is left alone) or `half_open` (one request finds out).
    pub(crate) breaker: &'static str,
    /// Until one request is let through to find out.
    pub(crate) reopens_in_ms: Option<u64>,
    /// It asked to be left alone for so long.
    pub(crate) resting_for_ms: Option<u64>,
    pub(crate) failures_in_row: u32,
    pub(crate) in_flight: u32,
    /// Requests that wait for it.
    pub(crate) waiting: u32,
    /// The code of what went wrong last.
    pub(crate) last_error: Option<&'static str>,
}

/// How a model of a provider does.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub(crate) struct ModelHealth {
    pub(crate) model: String,
    #[serde(flatten)]
    pub(crate) node: NodeHealth,
    /// To the first content, as a moving average.
    pub(crate) latency_ms: Option<f64>,
}

impl From<&Shown> for NodeHealth {
    fn from(shown: &Shown) -> Self {
        let millis = |left: Duration| u64::try_from(left.as_millis()).unwrap_or(u64::MAX);
        Self {
            breaker: shown.breaker,
            reopens_in_ms: shown.reopens_in.map(millis),
            resting_for_ms: shown.resting_for.map(millis),
            failures_in_row: shown.failures_in_row,
            in_flight: shown.in_flight,
            waiting: shown.waiting,
            last_error: shown.last_error,
        }
    }
}

impl ModelHealth {
    pub(crate) fn of(doing: &Doing) -> Vec<Self> {
        let models = doing.models.iter();
        models
            .map(|(model, shown)| Self {
                model: model.clone(),
                node: NodeHealth::from(shown),
                latency_ms: shown.latency_ms,
            })
            .collect()
    }
}

/// A provider by itself.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
#[schema(as = ProviderDetail)]
pub(crate) struct Detail {
    #[serde(flatten)]
    pub(crate) summary: Summary,
    /// Secrets are masked.
    pub(crate) config: Map<String, Value>,
    pub(crate) models: Vec<LinkedModel>,
}

impl From<&ProviderRow> for Provider {
    fn from(row: &ProviderRow) -> Self {
        Self {
            id: row.id.clone(),
            name: row.name.clone(),
            kind: row.kind.clone(),
            enabled: row.enabled,
            priority: row.priority,
            description: row.description.clone(),
            created_at: row.created_at,
            updated_at: row.updated_at,
            origin: row.origin.clone(),
            auto_enable: row.auto_enable,
        }
    }
}

impl From<&ProviderView> for Summary {
    fn from(view: &ProviderView) -> Self {
        let provider = Provider::from(&view.stored.provider);
        let listing = &view.listing;
        Self {
            runtime_status: if provider.enabled && view.loaded.is_ok() {
                "loaded"
            } else {
                "not_loaded"
            },
            provider,
            health: Health {
                state: listing.state(),
                latency_ms: listing.latency_ms,
                checked_at: listing.checked_at,
                error: view
                    .loaded
                    .as_ref()
                    .err()
                    .or(listing.error.as_ref())
                    .cloned(),
                node: NodeHealth::from(&view.doing.provider),
                models: ModelHealth::of(&view.doing),
            },
        }
    }
}

impl From<&ProviderView> for Detail {
    fn from(view: &ProviderView) -> Self {
        Self {
            summary: view.into(),
            config: shown_config(&view.stored.config),
            models: view.stored.models.clone(),
        }
    }
}

/// A configuration as it may be shown.
pub(crate) fn shown_config(rows: &[ConfigRow]) -> Map<String, Value> {
    rows.iter()
        .map(|row| (row.key.clone(), masked(row)))
        .collect()
}

/// A configuration value as it may be shown.
pub(crate) fn masked(row: &ConfigRow) -> Value {
    match &row.value {
        _ if row.is_sensitive || row.sealed => MASK.into(),
        // Headers are named by the user: some of them carry keys.
        Value::Object(entries) => Value::Object(
            entries
                .iter()
                .map(|(key, value)| {
                    let value = if is_sensitive(key) {
                        MASK.into()
                    } else {
                        value.clone()
                    };
                    (key.clone(), value)
                })
                .collect(),
        ),
        Value::String(text) if row.key == "baseURL" => masked_query(text).into(),
        value => value.clone(),
    }
}

/// A URL without the secrets of its query; the rest of it, such as Azure's `api-version`, stays.
fn masked_query(url: &str) -> String {
    let Some((path, query)) = url.split_once('?') else {
        return url.to_owned();
    };
    let shown = query.split('&').map(|pair| match pair.split_once('=') {
        Some((name, _)) if is_sensitive(name) => format!("{name}={MASK}"),
        _ => pair.to_owned(),
    });
    format!("{path}?{}", shown.collect::<Vec<_>>().join("&"))
}

/// `new` with the mask's places filled from `old`: a form that is sent back as it was shown changes nothing. None when
/// there is nothing to fill a place with.
pub(crate) fn unmasked(new: &Value, old: Option<&ConfigRow>) -> Option<Value> {
    if let (Some(old), true) = (old, old.is_some_and(|old| *new == masked(old))) {
        return Some(old.value.clone());
    }
    match new {
        Value::String(text) if text.contains(MASK) => None,
        Value::Object(entries) => {
            let before = old.and_then(|old| old.value.as_object());
            entries
                .iter()
                .map(|(key, value)| {
                    if value.as_str() == Some(MASK) {
                        Some((key.clone(), before?.get(key)?.clone()))
                    } else {
                        Some((key.clone(), value.clone()))
                    }
                })
                .collect::<Option<Map<_, _>>>()
                .map(Value::Object)
        }
        value => Some(value.clone()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_was_shown_can_be_sent_back() {
        let row = |key: &str, value: Value| ConfigRow {
            is_sensitive: is_sensitive(key),
            sealed: false,
            key: key.into(),
            value,
        };
        for old in [
            row("apiKey", json!("sk-1")),
            row("headers", json!({"x-api-key": "k", "x-team": "t"})),
            row("baseURL", json!("https://h/v1?api-key=1&api-version=2")),
            row("timeout", json!(7)),
        ] {
            assert_eq!(unmasked(&masked(&old), Some(&old)), Some(old.value.clone()));
        }
        let headers = row("headers", json!({"x-api-key": "k", "x-team": "t"}));
        let edited = json!({"x-api-key": MASK, "x-team": "u"});
        assert_eq!(
            unmasked(&edited, Some(&headers)),
            Some(json!({"x-api-key": "k", "x-team": "u"}))
        );
        assert_eq!(unmasked(&json!(MASK), None), None);
        assert_eq!(unmasked(&edited, None), None);
        assert_eq!(unmasked(&json!("sk-2"), None), Some(json!("sk-2")));
    }
}
