//! Every setting once: key, type, default, range, environment name, and when a change takes effect.
//!
//! Knows nobody. Precedence: command line over database over environment over default. A stored value that does
//! not pass its own check falls back to the next source with a warning, so that a damaged row never stops a start.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};

use crate::secrets::MASK;
use crate::secrets::tokens::{self, Hashed};

/// What a setting's value may be.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Kind {
    /// An integer within the two bounds, both included.
    Integer(i64, i64),
    /// A TCP port. A flag may say 0, which lets the system choose; what is stored names one.
    Port,
    /// `true` or `false`.
    Boolean,
    /// Any text, may be empty.
    Text,
    /// One of the listed words.
    OneOf(&'static [&'static str]),
    /// A secret that is kept as a hash and never shown.
    Token,
    /// Web origins, by comma.
    Origins,
    /// Names of this machine, by comma.
    HostNames,
    /// The address of an HTTP proxy; empty for none.
    Proxy,
}

/// A default, as plain data.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Fallback {
    Integer(i64),
    Boolean(bool),
    Text(&'static str),
    /// No value unless somebody sets one.
    None,
}

/// One row of [`SETTINGS`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct Setting {
    pub(crate) key: &'static str,
    pub(crate) kind: Kind,
    pub(crate) fallback: Fallback,
    /// Environment variable read when nothing is stored.
    pub(crate) env: Option<&'static str>,
    pub(crate) help: &'static str,
}

const fn setting(
    key: &'static str,
    kind: Kind,
    fallback: Fallback,
    env: Option<&'static str>,
    help: &'static str,
) -> Setting {
    Setting {
        key,
        kind,
        fallback,
        env,
        help,
    }
}

pub(crate) const SERVER_PORT: &str = "server.port";
pub(crate) const SERVER_HOST: &str = "server.host";
pub(crate) const SERVER_QWEN_PORT: &str = "server.qwenPort";
pub(crate) const SERVER_API_PORT: &str = "server.apiPort";
pub(crate) const OLLAMA_PORT: &str = "ollama.port";
pub(crate) const SERVER_TIMEOUT: &str = "server.timeout";
pub(crate) const SERVER_CONNECT_TIMEOUT: &str = "server.connectTimeout";
pub(crate) const SERVER_KEEP_ALIVE: &str = "server.keepAlive";
pub(crate) const SERVER_DRAIN_TIMEOUT: &str = "server.drainTimeout";
pub(crate) const SERVER_MAX_IN_FLIGHT: &str = "server.maxInFlight";
pub(crate) const SERVER_MAX_CONNECTIONS: &str = "server.maxConnections";
pub(crate) const SERVER_MAX_BODY: &str = "server.maxBody";
pub(crate) const SERVER_MAX_BUFFERED: &str = "server.maxBuffered";
pub(crate) const SERVER_MAX_STREAM: &str = "server.maxStream";
pub(crate) const SERVER_STREAM_TIMEOUT: &str = "server.streamTimeout";
pub(crate) const SERVER_CLIENT_TIMEOUT: &str = "server.clientTimeout";
pub(crate) const HISTORY_COMMIT_WAIT: &str = "history.commitWait";
pub(crate) const HISTORY_MAX_BODY: &str = "history.maxBody";
pub(crate) const HISTORY_SEARCH: &str = "history.search";
pub(crate) const HISTORY_RECORD: &str = "history.record";
pub(crate) const HISTORY_RECORD_MAX: &str = "history.recordMaxBytes";
pub(crate) const RETENTION_DAYS: &str = "retention.days";
pub(crate) const RETENTION_MAX_REQUESTS: &str = "retention.maxRequests";
pub(crate) const RETENTION_MAX_SIZE: &str = "retention.maxSizeMb";
pub(crate) const RETENTION_BODIES_DAYS: &str = "retention.bodiesDays";
pub(crate) const RETENTION_AUDIT_DAYS: &str = "retention.auditDays";
pub(crate) const BACKUP_KEEP: &str = "backup.keep";
pub(crate) const ROUTING_STRATEGY: &str = "routing.strategy";
pub(crate) const ROUTING_RETRIES: &str = "routing.retries";
pub(crate) const ROUTING_FALLBACKS: &str = "routing.fallbacks";
pub(crate) const ROUTING_MID_STREAM: &str = "routing.midStream";
pub(crate) const ROUTING_HEDGE: &str = "routing.hedge";
pub(crate) const ROUTING_QUEUE: &str = "routing.queue";
pub(crate) const ROUTING_QUEUE_TIMEOUT: &str = "routing.queueTimeout";
pub(crate) const BACKUP_EVERY: &str = "backup.everyHours";
pub(crate) const LOGGING_LEVEL: &str = "logging.level";
pub(crate) const LOGGING_REQUESTS: &str = "logging.logRequests";
pub(crate) const LOGGING_RESPONSES: &str = "logging.logResponses";
pub(crate) const AUTO_START: &str = "system.autoStart";
pub(crate) const MINIMIZE_TO_TRAY: &str = "system.minimizeToTray";
pub(crate) const CHECK_UPDATES: &str = "system.checkUpdates";
pub(crate) const DISCOVERY: &str = "system.discovery";
pub(crate) const QWEN_BASE_URL: &str = "qwen.baseUrl";
pub(crate) const QWEN_IN_FLIGHT: &str = "qwen.maxInFlight";
pub(crate) const KEYRING: &str = "security.keyring";
pub(crate) const QWEN_PREWARM: &str = "qwen.prewarm";
pub(crate) const QWEN_DELETE_CHATS: &str = "qwen.deleteChats";
pub(crate) const TOOLS_STREAMING: &str = "tools.streaming";
pub(crate) const TOOLS_REPEAT: &str = "tools.repeat";
pub(crate) const SESSION_TIMEOUT: &str = "session.timeout";
pub(crate) const SESSION_CLEANUP: &str = "session.cleanupInterval";
pub(crate) const AUTH_ADMIN_TOKEN: &str = "auth.adminToken";
pub(crate) const AUTH_REQUIRED: &str = "auth.required";
pub(crate) const AUTH_REQUIRE_KEYS: &str = "auth.requireKeys";
pub(crate) const AUTH_SAME_USER: &str = "auth.sameUser";
pub(crate) const CORS_ORIGINS: &str = "cors.origins";
pub(crate) const SERVER_HOST_NAMES: &str = "server.hostNames";
pub(crate) const CACHE_ENABLED: &str = "cache.enabled";
pub(crate) const CACHE_TTL: &str = "cache.ttl";
pub(crate) const CACHE_MAX_ENTRIES: &str = "cache.maxEntries";
pub(crate) const CACHE_MAX_BYTES: &str = "cache.maxBytes";
pub(crate) const NETWORK_PROXY: &str = "network.proxy";
pub(crate) const ACTIVE_PROVIDER: &str = "active_provider";
pub(crate) const ACTIVE_MODEL: &str = "active_model";

/// The table everything derives from.
pub(crate) const SETTINGS: &[Setting] = &[
    setting(
        SERVER_PORT,
        Kind::Port,
        Fallback::Integer(3001),
        Some("PORT"),
        "port of the router",
    ),
    setting(
        SERVER_QWEN_PORT,
        Kind::Port,
        Fallback::Integer(3000),
        Some("QWEN_PROXY_PORT"),
        "port of the Qwen proxy",
    ),
    setting(
        SERVER_API_PORT,
        Kind::Port,
        Fallback::Integer(3002),
        Some("API_PORT"),
        "port of the management API",
    ),
    setting(
        OLLAMA_PORT,
        Kind::Integer(0, 65_535),
        Fallback::Integer(0),
        None,
        "port that speaks Ollama's API, 0 = off; Ollama's own is 11434",
    ),
    setting(
        SERVER_HOST,
        Kind::Text,
        Fallback::Text("127.0.0.1"),
        Some("HOST"),
        "address all ports are bound to, or a name of it",
    ),
    setting(
        SERVER_TIMEOUT,
        Kind::Integer(1_000, 600_000),
        Fallback::Integer(120_000),
        Some("REQUEST_TIMEOUT"),
        "ms an upstream may stay silent",
    ),
    setting(
        SERVER_CONNECT_TIMEOUT,
        Kind::Integer(100, 60_000),
        Fallback::Integer(5_000),
        None,
        "ms to connect to an upstream",
    ),
    setting(
        SERVER_KEEP_ALIVE,
        Kind::Integer(10, 600_000),
        Fallback::Integer(15_000),
        None,
        "ms of silence after which a client gets a comment",
    ),
    setting(
        SERVER_DRAIN_TIMEOUT,
        Kind::Integer(0, 600_000),
        Fallback::Integer(10_000),
        None,
        "ms open requests may take to finish at shutdown",
    ),
    setting(
        SERVER_MAX_IN_FLIGHT,
        Kind::Integer(1, 100_000),
        Fallback::Integer(512),
        None,
        "completions served at once",
    ),
    setting(
        SERVER_MAX_CONNECTIONS,
        Kind::Integer(0, 16_384),
        Fallback::Integer(0),
        None,
        "connections of clients at once; 0: half of the file descriptors, since each may need another one; read at the start",
    ),
    setting(
        SERVER_MAX_BODY,
        Kind::Integer(1_024, 1 << 30),
        Fallback::Integer(32 << 20),
        None,
        "bytes of one completion request",
    ),
    setting(
        SERVER_MAX_BUFFERED,
        Kind::Integer(1 << 20, 64 << 30),
        Fallback::Integer(256 << 20),
        None,
        "bytes of completion requests held at once",
    ),
    setting(
        SERVER_MAX_STREAM,
        Kind::Integer(1_024, 64 << 30),
        Fallback::Integer(1 << 30),
        None,
        "bytes an upstream may stream for one answer",
    ),
    setting(
        SERVER_STREAM_TIMEOUT,
        Kind::Integer(1_000, 86_400_000),
        Fallback::Integer(3_600_000),
        None,
        "ms one answer of an upstream may take as a whole",
    ),
    setting(
        SERVER_CLIENT_TIMEOUT,
        Kind::Integer(100, 3_600_000),
        Fallback::Integer(120_000),
        None,
        "ms a client may take nothing of its answer",
    ),
    setting(
        HISTORY_COMMIT_WAIT,
        Kind::Integer(0, 5_000),
        Fallback::Integer(50),
        None,
        "ms the last byte may wait for its row, 0 = do not wait",
    ),
    setting(
        HISTORY_MAX_BODY,
        Kind::Integer(0, 64 << 20),
        Fallback::Integer(1 << 20),
        None,
        "bytes of a request or answer kept in the history",
    ),
    setting(
        HISTORY_SEARCH,
        Kind::Boolean,
        Fallback::Boolean(true),
        None,
        "make the texts of requests and answers searchable",
    ),
    setting(
        HISTORY_RECORD,
        Kind::OneOf(&["off", "failed", "all"]),
        Fallback::Text("off"),
        None,
        "record the raw bytes of exchanges: none, those that fail, or all",
    ),
    setting(
        HISTORY_RECORD_MAX,
        Kind::Integer(1_024, 64 << 20),
        Fallback::Integer(4 << 20),
        None,
        "bytes of one recording; what is beyond is cut off",
    ),
    setting(
        RETENTION_DAYS,
        Kind::Integer(0, 36_500),
        Fallback::Integer(0),
        None,
        "days an exchange is kept, 0 = for ever",
    ),
    setting(
        RETENTION_MAX_REQUESTS,
        Kind::Integer(0, 1_000_000_000),
        Fallback::Integer(0),
        None,
        "exchanges kept, the newest, 0 = all",
    ),
    setting(
        RETENTION_MAX_SIZE,
        Kind::Integer(0, 1 << 20),
        Fallback::Integer(0),
        None,
        "MiB of the database from which on the oldest exchanges go, 0 = no bound",
    ),
    setting(
        RETENTION_BODIES_DAYS,
        Kind::Integer(0, 36_500),
        Fallback::Integer(0),
        None,
        "days the bodies of an exchange are kept, 0 = as long as the exchange",
    ),
    setting(
        RETENTION_AUDIT_DAYS,
        Kind::Integer(0, 36_500),
        Fallback::Integer(90),
        None,
        "days the activity, the actors' events, the audit log and the sums by conversation are kept, 0 = for ever",
    ),
    setting(
        ROUTING_STRATEGY,
        Kind::OneOf(&[
            "priority",
            "weighted",
            "round_robin",
            "least_latency",
            "least_busy",
            "cheapest",
            "sticky",
        ]),
        Fallback::Text("priority"),
        None,
        "order of the providers that offer the same model",
    ),
    setting(
        ROUTING_RETRIES,
        Kind::Integer(0, 10),
        Fallback::Integer(2),
        None,
        "attempts after the first, over all targets",
    ),
    setting(
        ROUTING_FALLBACKS,
        Kind::Boolean,
        Fallback::Boolean(true),
        None,
        "try the next target when one fails",
    ),
    setting(
        ROUTING_MID_STREAM,
        Kind::Boolean,
        Fallback::Boolean(true),
        None,
        "let the next target go on with an answer that broke off; calls are told when whole",
    ),
    setting(
        ROUTING_HEDGE,
        Kind::Boolean,
        Fallback::Boolean(false),
        None,
        "ask the next target too when a short answer takes unusually long",
    ),
    setting(
        ROUTING_QUEUE,
        Kind::Integer(0, 10_000),
        Fallback::Integer(64),
        None,
        "requests that may wait for a busy provider",
    ),
    setting(
        ROUTING_QUEUE_TIMEOUT,
        Kind::Integer(0, 600_000),
        Fallback::Integer(10_000),
        None,
        "ms a request may wait for a busy provider, or one that asked to be left alone",
    ),
    setting(
        BACKUP_KEEP,
        Kind::Integer(1, 10_000),
        Fallback::Integer(7),
        None,
        "backups kept, the newest; others than qwarden's own are never removed",
    ),
    setting(
        BACKUP_EVERY,
        Kind::Integer(0, 8_760),
        Fallback::Integer(0),
        None,
        "hours between two backups, 0 = only when asked",
    ),
    setting(
        LOGGING_LEVEL,
        Kind::OneOf(&["debug", "info", "warn", "error"]),
        Fallback::Text("info"),
        Some("LOG_LEVEL"),
        "least severe level logged",
    ),
    setting(
        LOGGING_REQUESTS,
        Kind::Boolean,
        Fallback::Boolean(true),
        Some("LOG_REQUESTS"),
        "keep the bodies of requests",
    ),
    setting(
        LOGGING_RESPONSES,
        Kind::Boolean,
        Fallback::Boolean(true),
        Some("LOG_RESPONSES"),
        "keep the bodies of answers",
    ),
    setting(
        AUTO_START,
        Kind::Boolean,
        Fallback::Boolean(true),
        None,
        "open the gateway ports when the service starts",
    ),
    setting(
        MINIMIZE_TO_TRAY,
        Kind::Boolean,
        Fallback::Boolean(true),
        None,
        "let a desktop shell go on in the tray when its window is closed",
    ),
    setting(
        CHECK_UPDATES,
        Kind::Boolean,
        Fallback::Boolean(true),
        None,
        "let a desktop shell look for new versions; qwarden itself never does",
    ),
    setting(
        DISCOVERY,
        Kind::Boolean,
        Fallback::Boolean(true),
        None,
        "look for local model servers when the service starts",
    ),
    setting(
        QWEN_BASE_URL,
        Kind::Text,
        Fallback::Text("https://chat.qwen.ai"),
        Some("QWEN_BASE_URL"),
        "address of the Qwen web chat, or of a mirror",
    ),
    setting(
        QWEN_IN_FLIGHT,
        Kind::Integer(1, 100),
        Fallback::Integer(2),
        None,
        "requests one Qwen login serves at once",
    ),
    setting(
        KEYRING,
        Kind::Boolean,
        Fallback::Boolean(false),
        None,
        "keep the key of stored logins in the desktop's keyring instead of a file",
    ),
    setting(
        QWEN_PREWARM,
        Kind::Boolean,
        Fallback::Boolean(false),
        None,
        "keep one empty Qwen chat ready per login and model; it shows in your list of chats",
    ),
    setting(
        QWEN_DELETE_CHATS,
        Kind::Boolean,
        Fallback::Boolean(false),
        None,
        "delete a Qwen chat when its session is deleted",
    ),
    setting(
        TOOLS_STREAMING,
        Kind::OneOf(&["whole", "incremental"]),
        Fallback::Text("whole"),
        None,
        "tell a tool call once the answer is whole, or as the model writes it",
    ),
    setting(
        TOOLS_REPEAT,
        Kind::Boolean,
        Fallback::Boolean(true),
        None,
        "ask a model once more for a tool call that could not be read, or must come and did not",
    ),
    setting(
        SESSION_TIMEOUT,
        Kind::Integer(1_000, 31_536_000_000),
        Fallback::Integer(1_800_000),
        Some("SESSION_TIMEOUT"),
        "ms a Qwen conversation can be gone on with after its last answer",
    ),
    setting(
        SESSION_CLEANUP,
        Kind::Integer(1_000, 31_536_000_000),
        Fallback::Integer(600_000),
        Some("SESSION_CLEANUP_INTERVAL"),
        "ms after which, with the next answer, what expired Qwen conversations knew is let go of",
    ),
    setting(
        AUTH_ADMIN_TOKEN,
        Kind::Token,
        Fallback::None,
        None,
        "token that opens management; kept as a hash, never shown",
    ),
    setting(
        AUTH_REQUIRED,
        Kind::OneOf(&["remote", "always"]),
        Fallback::Text("remote"),
        None,
        "who needs the admin token once there is one: clients of other machines, or all",
    ),
    setting(
        AUTH_REQUIRE_KEYS,
        Kind::OneOf(&["remote", "always", "never"]),
        Fallback::Text("remote"),
        None,
        "who needs an API key at the router and the Qwen proxy",
    ),
    setting(
        AUTH_SAME_USER,
        Kind::OneOf(&["management", "all", "off"]),
        Fallback::Text("management"),
        None,
        "where clients of other users of this machine need a token or key (Linux)",
    ),
    setting(
        CORS_ORIGINS,
        Kind::Origins,
        Fallback::Text(""),
        None,
        "origins whose pages may use this gateway, by comma",
    ),
    setting(
        SERVER_HOST_NAMES,
        Kind::HostNames,
        Fallback::Text(""),
        None,
        "names under which this gateway is called besides localhost, by comma",
    ),
    setting(
        CACHE_ENABLED,
        Kind::Boolean,
        Fallback::Boolean(false),
        None,
        "answer a request of temperature 0 that came before from the cache",
    ),
    setting(
        CACHE_TTL,
        Kind::Integer(1_000, 31_536_000_000),
        Fallback::Integer(3_600_000),
        None,
        "ms an answer is given again",
    ),
    setting(
        CACHE_MAX_ENTRIES,
        Kind::Integer(0, 100_000),
        Fallback::Integer(1_000),
        None,
        "answers the cache holds, those last hit",
    ),
    setting(
        CACHE_MAX_BYTES,
        Kind::Integer(0, 16 << 30),
        Fallback::Integer(64 << 20),
        None,
        "bytes the cache holds, packed",
    ),
    setting(
        NETWORK_PROXY,
        Kind::Proxy,
        Fallback::Text(""),
        None,
        "HTTP proxy for upstreams elsewhere, `http://host:port`; empty = none, whatever the environment says",
    ),
    setting(
        ACTIVE_PROVIDER,
        Kind::Text,
        Fallback::None,
        Some("DEFAULT_PROVIDER"),
        "provider of requests that name none",
    ),
    setting(
        ACTIVE_MODEL,
        Kind::Text,
        Fallback::None,
        None,
        "model of requests that name none",
    ),
];

/// The row of `key`, or `None` when there is no such setting.
pub(crate) fn find(key: &str) -> Option<&'static Setting> {
    SETTINGS.iter().find(|setting| setting.key == key)
}

impl Setting {
    /// Whether `value` may be stored under this key; the error says what would be accepted.
    pub(crate) fn check(&self, value: &Value) -> Result<(), String> {
        let good = match self.kind {
            Kind::Integer(least, most) => {
                value.as_i64().is_some_and(|n| (least..=most).contains(&n))
            }
            Kind::Port => value.as_u64().is_some_and(|n| n <= 65_535),
            Kind::Boolean => value.is_boolean(),
            Kind::Text => value.is_string(),
            Kind::OneOf(words) => value.as_str().is_some_and(|word| words.contains(&word)),
            Kind::Token => value
                .as_str()
                .is_some_and(|text| Hashed::read(text).is_some()),
            Kind::Origins => value
                .as_str()
                .is_some_and(|text| listed(text).all(is_origin)),
            Kind::HostNames => value
                .as_str()
                .is_some_and(|text| listed(text).all(is_host_name)),
            Kind::Proxy => value.as_str().is_some_and(is_proxy),
        };
        if good {
            Ok(())
        } else {
            Err(format!("`{}` must be {}", self.key, self.kind.wanted()))
        }
    }

    /// What is kept of a value that somebody gives: that itself, but the hash of a token.
    pub(crate) fn taken(&self, value: &Value) -> Result<Value, String> {
        if !self.is_secret() {
            return self.check(value).map(|()| value.clone());
        }
        let token = value.as_str().unwrap_or_default();
        if let Some(fault) = tokens::fault(token) {
            return Err(format!("`{}` {fault}", self.key));
        }
        let hashed = Hashed::of(token).map_err(|error| error.to_string())?;
        Ok(Value::from(hashed.text()))
    }

    /// Must not be shown.
    pub(crate) fn is_secret(&self) -> bool {
        matches!(self.kind, Kind::Token)
    }

    /// Decides who may ask, or whom all of it passes; no foreign file may set it.
    pub(crate) fn is_access(&self) -> bool {
        self.key.starts_with("auth.")
            || [CORS_ORIGINS, SERVER_HOST_NAMES, NETWORK_PROXY].contains(&self.key)
    }

    /// Reads the text of an environment variable or a flag as this setting's type.
    pub(crate) fn read_text(&self, text: &str) -> Value {
        match self.kind {
            Kind::Integer(..) | Kind::Port => {
                text.trim().parse::<i64>().map_or(Value::Null, Value::from)
            }
            Kind::Boolean => match text.trim().to_ascii_lowercase().as_str() {
                "1" | "true" | "yes" | "on" => Value::Bool(true),
                "0" | "false" | "no" | "off" => Value::Bool(false),
                _ => Value::Null,
            },
            Kind::Text
            | Kind::OneOf(_)
            | Kind::Token
            | Kind::Origins
            | Kind::HostNames
            | Kind::Proxy => Value::from(text),
        }
    }

    /// Read at the start only.
    pub(crate) fn needs_restart(&self) -> bool {
        [AUTO_START, DISCOVERY, KEYRING, SERVER_MAX_CONNECTIONS].contains(&self.key)
    }

    /// The value when nobody set one.
    pub(crate) fn default_value(&self) -> Option<Value> {
        match self.fallback {
            Fallback::Integer(n) => Some(Value::from(n)),
            Fallback::Boolean(b) => Some(Value::from(b)),
            Fallback::Text(text) => Some(Value::from(text)),
            Fallback::None => None,
        }
    }
}

impl Kind {
    /// Its JSON type.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Integer(..) | Self::Port => "integer",
            Self::Boolean => "boolean",
            Self::Text
            | Self::OneOf(_)
            | Self::Token
            | Self::Origins
            | Self::HostNames
            | Self::Proxy => "string",
        }
    }

    /// What narrows the type, in JSON Schema's words.
    pub(crate) fn constraints(self) -> Value {
        match self {
            Self::Integer(least, most) => json!({"minimum": least, "maximum": most}),
            Self::Port => json!({"minimum": 1, "maximum": 65_535}),
            Self::OneOf(words) => json!({"enum": words}),
            Self::Token => json!({"minLength": 32, "maxLength": 200, "writeOnly": true}),
            Self::Boolean | Self::Text | Self::Origins | Self::HostNames | Self::Proxy => json!({}),
        }
    }

    fn wanted(self) -> String {
        match self {
            Self::Integer(least, most) => format!("an integer from {least} to {most}"),
            Self::Port => "an integer from 1 to 65535".into(),
            Self::Boolean => "true or false".into(),
            Self::Text => "a string".into(),
            Self::OneOf(words) => format!("one of {}", words.join(", ")),
            Self::Token => "a hashed token".into(),
            Self::Origins => {
                "origins by comma, each as a browser sends it: `https://dash.example`, `http://localhost:5173`".into()
            }
            Self::HostNames => "host names by comma, without ports".into(),
            Self::Proxy => {
                "empty or `http://host:port`, without a path and without a password: settings are shown".into()
            }
        }
    }
}

/// The parts of a list that is one text.
pub(crate) fn listed(text: &str) -> impl Iterator<Item = &str> {
    text.split(',')
        .map(str::trim)
        .filter(|part| !part.is_empty())
}

/// Scheme, host and perhaps a port, in the form that browsers send. `*` and `null` are none.
fn is_origin(text: &str) -> bool {
    let Some((scheme, host)) = text.split_once("://") else {
        return false;
    };
    let is_scheme = scheme
        .bytes()
        .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"+-.".contains(&byte));
    let is_host = host.bytes().all(|byte| {
        byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_.:[]".contains(&byte)
    });
    !scheme.is_empty() && is_scheme && !host.is_empty() && is_host
}

fn is_proxy(text: &str) -> bool {
    let host = text
        .strip_prefix("http://")
        .or_else(|| text.strip_prefix("https://"));
    text.is_empty()
        || host.is_some_and(|host| {
            let host = host.strip_suffix('/').unwrap_or(host);
            let is_good = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:[]".contains(&byte);
            !host.is_empty() && host.bytes().all(is_good)
        })
}

/// Letters, digits, hyphens and dots, as far as can be told without looking it up.
pub(crate) fn is_host_name(text: &str) -> bool {
    text.len() <= 253
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
}

/// The values in force, all checked.
#[derive(Clone, Debug, Default)]
pub(crate) struct Settings {
    values: BTreeMap<&'static str, Value>,
}

impl Settings {
    /// Merges the sources. The second half of the answer names the stored or environment values that were refused.
    pub(crate) fn resolve(
        stored: &[(String, String)],
        environment: impl Fn(&str) -> Option<String>,
        flags: &[(&'static str, Value)],
    ) -> (Self, Vec<String>) {
        let mut values = BTreeMap::new();
        let mut refused = Vec::new();
        for setting in SETTINGS {
            let flag = flags
                .iter()
                .rev()
                .find(|(key, _)| *key == setting.key)
                .map(|(_, value)| value.clone());
            let kept = stored
                .iter()
                .find(|(key, _)| key == setting.key)
                .map(|(_, text)| serde_json::from_str(text).unwrap_or(Value::Null));
            let from_environment = setting
                .env
                .and_then(&environment)
                .filter(|text| !text.is_empty())
                .map(|text| setting.read_text(&text));
            let mut chosen = None;
            for candidate in [flag, kept, from_environment].into_iter().flatten() {
                match setting.check(&candidate) {
                    Ok(()) => {
                        chosen = Some(candidate);
                        break;
                    }
                    Err(reason) => refused.push(reason),
                }
            }
            if let Some(value) = chosen.or_else(|| setting.default_value()) {
                values.insert(setting.key, value);
            }
        }
        (Self { values }, refused)
    }

    /// The value in force, `null` when there is none.
    pub(crate) fn value(&self, key: &str) -> Value {
        self.values.get(key).cloned().unwrap_or(Value::Null)
    }

    /// The same as it may be shown.
    pub(crate) fn shown(&self, key: &str) -> Value {
        match (self.value(key), find(key).is_some_and(Setting::is_secret)) {
            (Value::Null, _) => Value::Null,
            (_, true) => MASK.into(),
            (value, false) => value,
        }
    }

    /// The admin token, if there is one.
    pub(crate) fn admin_token(&self) -> Option<Hashed> {
        self.text(AUTH_ADMIN_TOKEN).and_then(Hashed::read)
    }

    /// The parts of a setting that is a list.
    pub(crate) fn list(&self, key: &str) -> impl Iterator<Item = &str> {
        listed(self.text(key).unwrap_or_default())
    }

    /// An integer setting; 0 for a key that is not one, which a unit test rules out.
    pub(crate) fn integer(&self, key: &str) -> i64 {
        self.values
            .get(key)
            .and_then(Value::as_i64)
            .unwrap_or_default()
    }

    /// An integer setting as a size.
    pub(crate) fn size(&self, key: &str) -> usize {
        usize::try_from(self.integer(key)).unwrap_or_default()
    }

    /// An integer setting that counts milliseconds.
    pub(crate) fn millis(&self, key: &str) -> Duration {
        Duration::from_millis(u64::try_from(self.integer(key)).unwrap_or_default())
    }

    /// An integer setting that is a TCP port.
    pub(crate) fn port(&self, key: &str) -> u16 {
        u16::try_from(self.integer(key)).unwrap_or_default()
    }

    /// A boolean setting.
    pub(crate) fn flag(&self, key: &str) -> bool {
        self.values
            .get(key)
            .and_then(Value::as_bool)
            .unwrap_or_default()
    }

    /// A text setting, `None` when unset or empty.
    pub(crate) fn text(&self, key: &str) -> Option<&str> {
        self.values
            .get(key)
            .and_then(Value::as_str)
            .filter(|text| !text.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nothing(_: &str) -> Option<String> {
        None
    }

    #[test]
    fn every_default_passes_its_own_check_and_keys_are_unique() {
        for setting in SETTINGS {
            if let Some(value) = setting.default_value() {
                assert_eq!(setting.check(&value), Ok(()), "{}", setting.key);
            }
            assert_eq!(
                SETTINGS
                    .iter()
                    .filter(|other| other.key == setting.key)
                    .count(),
                1
            );
            assert!(!setting.help.is_empty());
        }
    }

    #[test]
    fn flags_beat_the_database_beats_the_environment() {
        let stored = [("server.port".to_owned(), "4000".to_owned())];
        let environment = |name: &str| (name == "PORT").then(|| "5000".to_owned());
        let port = |stored: &[_], flags: &[_]| {
            Settings::resolve(stored, environment, flags)
                .0
                .port(SERVER_PORT)
        };
        assert_eq!(port(&stored, &[(SERVER_PORT, Value::from(6000))]), 6000);
        assert_eq!(port(&stored, &[]), 4000);
        assert_eq!(port(&[], &[]), 5000);
        assert_eq!(
            Settings::resolve(&[], nothing, &[]).0.port(SERVER_PORT),
            3001
        );
    }

    #[test]
    fn a_token_is_kept_as_a_hash_and_shown_as_a_mask() {
        let setting = find(AUTH_ADMIN_TOKEN).unwrap();
        let token = "t".repeat(40);
        let kept = setting.taken(&Value::from(token.as_str())).unwrap();
        assert!(!kept.to_string().contains(&token));
        assert!(setting.check(&Value::from(token.as_str())).is_err());
        for bad in [json!("short"), json!(""), json!(7), Value::Null] {
            assert!(setting.taken(&bad).is_err(), "{bad}");
        }
        let (settings, _) = Settings::resolve(&[], nothing, &[(AUTH_ADMIN_TOKEN, kept)]);
        assert!(settings.admin_token().unwrap().matches(&token));
        assert_eq!(settings.shown(AUTH_ADMIN_TOKEN), json!(MASK));
        assert_eq!(Settings::default().shown(AUTH_ADMIN_TOKEN), Value::Null);
    }

    #[test]
    fn lists_hold_what_browsers_send_and_nothing_wider() {
        let check = |key: &str, text: &str| find(key).unwrap().check(&json!(text)).is_ok();
        for good in [
            "",
            "https://a.example",
            "http://localhost:5173, tauri://localhost",
        ] {
            assert!(check(CORS_ORIGINS, good), "{good}");
        }
        for bad in [
            "*",
            "null",
            "a.example",
            "https://a/",
            "https://A",
            "https://*.a",
            "://a",
            "https://a b",
        ] {
            assert!(!check(CORS_ORIGINS, bad), "{bad}");
        }
        assert!(check(SERVER_HOST_NAMES, "box.lan, qwarden"));
        for bad in ["box:3001", "*", "a/b"] {
            assert!(!check(SERVER_HOST_NAMES, bad), "{bad}");
        }
    }

    #[test]
    fn a_damaged_row_falls_back_and_is_named() {
        let stored = [
            ("server.timeout".to_owned(), "5".to_owned()),
            ("logging.level".to_owned(), "\"loud\"".to_owned()),
        ];
        let (settings, refused) = Settings::resolve(&stored, nothing, &[]);
        assert_eq!(settings.millis(SERVER_TIMEOUT), Duration::from_mins(2));
        assert_eq!(settings.text(LOGGING_LEVEL), Some("info"));
        assert_eq!(refused.len(), 2);
    }
}
