//! What a provider's configuration may say, checked before anything is made of it.

use std::path::Path;
use std::time::Duration;

use reqwest::Url;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use secrecy::SecretString;
use serde_json::{Map, Value};

use super::address;
use super::authority::Authority;
use super::presets::{self, Preset};
use crate::protocol::dialect::Dialect;

/// Headers that belong to the connection, not to the configuration.
const RESERVED: [&str; 9] = [
    "host",
    "content-length",
    "transfer-encoding",
    "connection",
    "te",
    "trailer",
    "upgrade",
    "accept-encoding",
    "content-type",
];

/// How much a provider may be asked: at once, and in a minute.
const LIMITS: [&str; 3] = ["maxConcurrent", "requestsPerMinute", "tokensPerMinute"];

/// Which exchanges are recorded. The weakest comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Record {
    Off,
    Failed,
    All,
}

impl Record {
    /// Reads the word of the setting `history.record` and of the configuration key `record`.
    pub(crate) fn read(word: &str) -> Option<Self> {
        match word {
            "off" => Some(Self::Off),
            "failed" => Some(Self::Failed),
            "all" => Some(Self::All),
            _ => None,
        }
    }
}

/// A configured provider as it is stored.
#[derive(Clone)]
pub(crate) struct Definition {
    pub(crate) id: String,
    /// The name of a preset, `echo`, or anything else: that is a generic `OpenAI`-compatible server.
    pub(crate) kind: String,
    /// May hold secrets.
    pub(crate) config: Map<String, Value>,
}

/// Everything that is wrong with a configuration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "the configuration of provider `{provider}` is not valid: {}",
    listed(errors)
)]
pub(crate) struct InvalidConfig {
    pub(crate) provider: String,
    pub(crate) errors: Vec<ConfigError>,
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ConfigError {
    /// The configuration key, such as `baseURL`.
    pub(crate) key: String,
    pub(crate) message: String,
}

/// A configuration in the form the adapter works with.
pub(super) struct Settings {
    pub(super) id: String,
    pub(super) kind: &'static str,
    pub(super) dialect: Dialect,
    /// Where completions are asked for.
    base: Url,
    pub(super) chat: Url,
    pub(super) models: Url,
    /// Where requests in the Responses dialect go as they are; none where they become chat requests.
    pub(super) responses: Option<Url>,
    pub(super) key: Option<SecretString>,
    pub(super) headers: HeaderMap,
    pub(super) timeout: Option<Duration>,
    /// Whom it is taken for when one of these says so.
    pub(super) authority: Option<Authority>,
    /// Knows the role `developer`.
    pub(super) developer: bool,
}

impl Settings {
    /// The address of another route.
    pub(super) fn at(&self, path: &str) -> Url {
        below(&self.base, path)
    }
}

/// Checks a configuration. Unknown keys are left alone: other readers may know them.
pub(super) fn read(definition: &Definition) -> Result<Settings, InvalidConfig> {
    let preset = presets::find(&definition.kind);
    let mut errors = Vec::new();
    let dialect = preset.map_or(Dialect::Chat, |preset| preset.dialect);
    let base = base_url(definition, preset, &mut errors);
    let key = api_key(definition, &mut errors);
    let timeout = timeout(definition, &mut errors);
    let authority = authority(definition, &mut errors);
    let headers = headers(definition, &mut errors);
    let responses = responses(definition, preset, &mut errors);
    match base {
        Some(base) if errors.is_empty() => Ok(Settings {
            id: definition.id.clone(),
            kind: preset.map_or(presets::GENERIC, |preset| preset.kind),
            dialect,
            chat: below(
                &base,
                match dialect {
                    Dialect::Anthropic => "messages",
                    _ => "chat/completions",
                },
            ),
            models: below(&base, "models"),
            responses: responses.then(|| below(&base, "responses")),
            base,
            key,
            headers,
            timeout,
            authority,
            developer: presets::KNOW_DEVELOPERS.contains(&definition.kind.as_str()),
        }),
        _ => Err(InvalidConfig {
            provider: definition.id.clone(),
            errors,
        }),
    }
}

impl Definition {
    /// A value; null and the empty string count as absent.
    fn value(&self, key: &str) -> Option<&Value> {
        self.config
            .get(key)
            .filter(|value| !value.is_null() && value.as_str() != Some(""))
    }
}

fn base_url(
    definition: &Definition,
    preset: Option<&Preset>,
    errors: &mut Vec<ConfigError>,
) -> Option<Url> {
    let text = match definition.value("baseURL") {
        Some(Value::String(text)) => text.trim(),
        Some(_) => return refuse(errors, "baseURL", "must be a string"),
        None => match preset.and_then(|preset| preset.base_url) {
            Some(default) => default,
            None => {
                return refuse(
                    errors,
                    "baseURL",
                    "is required, such as `http://127.0.0.1:8000/v1`",
                );
            }
        },
    };
    let Ok(mut url) = Url::parse(text) else {
        return refuse(
            errors,
            "baseURL",
            "must be a URL, such as `http://127.0.0.1:8000/v1`",
        );
    };
    if !matches!(url.scheme(), "http" | "https") {
        return refuse(errors, "baseURL", "must begin with `http://` or `https://`");
    }
    if url.host_str().is_none_or(str::is_empty) {
        return refuse(errors, "baseURL", "must name a host");
    }
    if !url.username().is_empty() || url.password().is_some() {
        return refuse(
            errors,
            "baseURL",
            "must not hold a user name or password; use `apiKey` or `headers`",
        );
    }
    if let Some(why) = address::url_refusal(&url) {
        return refuse(errors, "baseURL", &format!("must not be {why}"));
    }
    url.set_fragment(None);
    let mut path = url.path().trim_end_matches('/').to_owned();
    if preset.is_some_and(|preset| preset.append_v1) && !path.ends_with("/v1") {
        path.push_str("/v1");
    }
    url.set_path(&path);
    Some(url)
}

/// `base` with `path` appended; a query in the base, such as Azure's `api-version`, stays.
fn below(base: &Url, path: &str) -> Url {
    let mut url = base.clone();
    url.set_path(&format!("{}/{path}", base.path().trim_end_matches('/')));
    url
}

fn api_key(definition: &Definition, errors: &mut Vec<ConfigError>) -> Option<SecretString> {
    match definition.value("apiKey")? {
        Value::String(key) if HeaderValue::from_str(key.trim()).is_ok() => {
            Some(SecretString::from(key.trim()))
        }
        Value::String(_) => refuse(
            errors,
            "apiKey",
            "holds characters that a header cannot carry",
        ),
        _ => refuse(errors, "apiKey", "must be a string"),
    }
}

/// What every kind of provider may say.
pub(super) fn check_common(definition: &Definition) -> Result<(), InvalidConfig> {
    let mut errors = Vec::new();
    let is_record = |value: &Value| value.as_str().and_then(Record::read).is_some();
    if definition
        .value("record")
        .is_some_and(|value| !is_record(value))
    {
        refuse::<()>(&mut errors, "record", "must be one of off, failed, all");
    }
    for key in LIMITS {
        let is_bound = |value: &Value| {
            let text = value.as_str().and_then(|text| text.trim().parse().ok());
            value
                .as_u64()
                .or(text)
                .is_some_and(|number| (1..=u64::from(u32::MAX)).contains(&number))
        };
        if definition.value(key).is_some_and(|value| !is_bound(value)) {
            refuse::<()>(&mut errors, key, "must be a whole number, at least 1");
        }
    }
    if errors.is_empty() {
        return Ok(());
    }
    Err(InvalidConfig {
        provider: definition.id.clone(),
        errors,
    })
}

/// Whether the server takes Responses. A known vendor's own address is known to; what else is put in its place need not.
fn responses(
    definition: &Definition,
    preset: Option<&Preset>,
    errors: &mut Vec<ConfigError>,
) -> bool {
    let is_own = definition.value("baseURL").is_none();
    match definition.value("responses") {
        None => is_own && preset.is_some_and(|preset| preset.responses),
        Some(Value::Bool(wanted)) => *wanted,
        Some(Value::String(text)) if text == "true" || text == "false" => text == "true",
        Some(_) => {
            refuse::<()>(errors, "responses", "must be true or false");
            false
        }
    }
}

/// `timeout` is in milliseconds; a number written as a string is taken too, as stored configurations have both.
fn timeout(definition: &Definition, errors: &mut Vec<ConfigError>) -> Option<Duration> {
    let value = definition.value("timeout")?;
    let number = value
        .as_f64()
        .or_else(|| value.as_str().and_then(|text| text.trim().parse().ok()));
    match number {
        Some(ms) if (1.0..=86_400_000.0).contains(&ms) => {
            Some(Duration::from_secs_f64(ms / 1000.0))
        }
        _ => refuse(
            errors,
            "timeout",
            "must be a positive number of milliseconds, at most one day",
        ),
    }
}

fn authority(definition: &Definition, errors: &mut Vec<ConfigError>) -> Option<Authority> {
    const KEY: &str = "caFile";
    let value = definition.value(KEY)?;
    match value.as_str().map(str::trim) {
        Some("") => None,
        Some(path) => match Authority::read(Path::new(path)) {
            Ok(authority) => Some(authority),
            Err(problem) => refuse(errors, KEY, &problem),
        },
        None => refuse(errors, KEY, "must be the path of a file"),
    }
}

fn headers(definition: &Definition, errors: &mut Vec<ConfigError>) -> HeaderMap {
    let mut headers = HeaderMap::new();
    let Some(value) = definition.value("headers") else {
        return headers;
    };
    let Value::Object(wanted) = value else {
        refuse::<()>(errors, "headers", "must be an object of strings");
        return headers;
    };
    for (name, value) in wanted {
        let key = format!("headers.{name}");
        let Ok(parsed) = HeaderName::from_bytes(name.as_bytes()) else {
            refuse::<()>(errors, &key, "is not a header name");
            continue;
        };
        if RESERVED.contains(&parsed.as_str()) {
            refuse::<()>(errors, &key, "is set by the gateway itself");
            continue;
        }
        let problem = match value.as_str().map(HeaderValue::from_str) {
            Some(Ok(mut text)) => {
                text.set_sensitive(true);
                headers.insert(parsed, text);
                continue;
            }
            Some(Err(_)) => "holds characters that a header cannot carry",
            None => "must be a string",
        };
        refuse::<()>(errors, &key, problem);
    }
    headers
}

fn refuse<T>(errors: &mut Vec<ConfigError>, key: &str, problem: &str) -> Option<T> {
    errors.push(ConfigError {
        key: key.to_owned(),
        message: format!("`{key}` {problem}"),
    });
    None
}

fn listed(errors: &[ConfigError]) -> String {
    errors
        .iter()
        .map(|error| error.message.as_str())
        .collect::<Vec<_>>()
        .join("; ")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read_json(kind: &str, config: Value) -> Result<Settings, InvalidConfig> {
        let Value::Object(config) = config else {
            panic!("not an object")
        };
        read(&Definition {
            id: "p".into(),
            kind: kind.into(),
            config,
        })
    }

    #[test]
    fn addresses_are_normalised() {
        for (kind, base, chat) in [
            ("x", "http://h:1/v1/", "http://h:1/v1/chat/completions"),
            ("x", "http://h:1", "http://h:1/chat/completions"),
            (
                "x",
                "https://h/a?api-version=1",
                "https://h/a/chat/completions?api-version=1",
            ),
            (
                "qwen-proxy",
                "http://localhost:3000",
                "http://localhost:3000/v1/chat/completions",
            ),
            (
                "qwen-proxy",
                "http://localhost:3000/v1/",
                "http://localhost:3000/v1/chat/completions",
            ),
        ] {
            let settings = read_json(kind, json!({ "baseURL": base, "other": 1 }))
                .ok()
                .unwrap();
            assert_eq!(settings.chat.as_str(), chat);
        }
        assert_eq!(
            read_json("x", json!({ "baseURL": "http://h" }))
                .ok()
                .unwrap()
                .kind,
            "generic-openai"
        );
    }

    #[test]
    fn each_bad_key_is_named_and_all_at_once() {
        for (config, key) in [
            (json!({}), "baseURL"),
            (json!({ "baseURL": "" }), "baseURL"),
            (json!({ "baseURL": 7 }), "baseURL"),
            (json!({ "baseURL": "h:1" }), "baseURL"),
            (json!({ "baseURL": "ftp://h" }), "baseURL"),
            (json!({ "baseURL": "http://" }), "baseURL"),
            (json!({ "baseURL": "http://u:p@h" }), "baseURL"),
            (json!({ "baseURL": "http://169.254.169.254" }), "baseURL"),
            (json!({ "baseURL": "http://h", "timeout": 0 }), "timeout"),
            (
                json!({ "baseURL": "http://h", "timeout": "soon" }),
                "timeout",
            ),
            (json!({ "baseURL": "http://h", "apiKey": 7 }), "apiKey"),
            (json!({ "baseURL": "http://h", "apiKey": "a\nb" }), "apiKey"),
            (json!({ "baseURL": "http://h", "headers": [] }), "headers"),
            (
                json!({ "baseURL": "http://h", "headers": { "a": 1 } }),
                "headers.a",
            ),
            (
                json!({ "baseURL": "http://h", "headers": { "a b": "" } }),
                "headers.a b",
            ),
            (
                json!({ "baseURL": "http://h", "headers": { "Host": "x" } }),
                "headers.Host",
            ),
        ] {
            let error = read_json("x", config.clone()).err().unwrap();
            assert_eq!(
                error
                    .errors
                    .iter()
                    .map(|error| error.key.as_str())
                    .collect::<Vec<_>>(),
                [key],
                "{config}"
            );
        }
        assert_eq!(
            read_json("x", json!({ "timeout": -1, "apiKey": [] }))
                .err()
                .unwrap()
                .errors
                .len(),
            3
        );
    }

    #[test]
    fn no_message_shows_a_secret() {
        let error = read_json(
            "x",
            json!({ "apiKey": "sk-\u{7}secret", "headers": { "a": "hush\n" } }),
        )
        .err()
        .unwrap();
        assert!(
            !error.to_string().contains("secret") && !error.to_string().contains("hush"),
            "{error}"
        );
    }
}
