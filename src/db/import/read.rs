//! The rows of the file, in chunks: read in the order of their numbers, mended, and brought into our form.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;

use secrecy::SecretString;
use serde_json::Value;

use crate::db::error::DbError;
use crate::db::import::cells::{Cells, rounded, unquoted, unwrapped};
use crate::db::import::report::MOST_REASONS;
use crate::db::import::source::{Source, damaged};
use crate::db::import::{
    CONFIGS, Content, ERRORS, ImportChunk, ImportRows, LINKS, LOGINS, LinkRow, MODELS, OLDEST_LOG,
    OldError, OldLogin, OldRequest, OldResponse, OldSession, PROVIDERS, Piece, REQUESTS, RESPONSES,
    SESSIONS, SETTINGS,
};
use crate::db::models::ModelRow;
use crate::db::providers::{ConfigRow, ProviderRow, is_sensitive};
use crate::db::settings::SettingRow;
use crate::settings::{self, Kind, Setting};

/// Rows and bytes of one chunk: so many that a commit is worth it, so few that no other write waits long.
const CHUNK_ROWS: u32 = 500;
const CHUNK_BYTES: usize = 4 << 20;

/// Keys of a provider's configuration whose values are texts, also where they look like something else.
const TEXTS: [&str; 2] = ["baseURL", "defaultModel"];

/// Above this a time counts milliseconds, below it seconds.
const LEAST_MS: i64 = 100_000_000_000;

const REQUEST_OF: &str =
    "(SELECT q.request_id FROM requests q WHERE q.id = t.request_id) AS request";
const MODEL_OF: &str = "(SELECT q.model FROM requests q WHERE q.id = t.request_id) AS model";

/// A table of the file, and what is read of it.
struct Wanted {
    table: &'static str,
    columns: &'static [&'static str],
    /// Further values by an expression, for rows that name a request by its number.
    through_request: &'static [(&'static str, &'static str)],
}

const fn wanted(table: &'static str, columns: &'static [&'static str]) -> Wanted {
    Wanted {
        table,
        columns,
        through_request: &[],
    }
}

/// Takes a part of the file; false when no more is wanted.
type Deliver<'a> = dyn FnMut(Piece) -> bool + 'a;

/// What came of some rows, besides those that are good.
#[derive(Default)]
struct Walked {
    found: u64,
    bytes: usize,
    skipped: u64,
    reasons: Vec<String>,
}

impl Walked {
    fn skip(&mut self, reason: String) {
        self.skipped += 1;
        if self.reasons.len() < MOST_REASONS {
            self.reasons.push(reason);
        }
    }

    fn piece(self, table: &'static str, rows: Option<ImportRows>) -> Piece {
        let bytes = self.bytes;
        Piece {
            table,
            found: self.found,
            skipped: self.skipped,
            reasons: self.reasons,
            content: rows.map_or(Content::Nothing, |rows| {
                Content::Rows(ImportChunk { rows, bytes })
            }),
        }
    }
}

impl Source {
    /// Gives out the whole file, a table after those its rows refer to. `now_ms` (Unix time) tells which login still
    /// is one, and stands in for times that are lost.
    pub(crate) fn read(&self, now_ms: i64, deliver: &mut Deliver<'_>) -> Result<(), DbError> {
        self.read_all(now_ms, deliver).map(drop).map_err(damaged)
    }

    fn read_all(&self, now: i64, deliver: &mut Deliver<'_>) -> Result<bool, DbError> {
        Ok(self.providers(now, deliver)?
            && self.simple(
                &MODELS_WANTED,
                |c| model(c, now),
                ImportRows::Models,
                deliver,
            )?
            && self.simple(&LINKS_WANTED, |c| link(c, now), ImportRows::Links, deliver)?
            && self.simple(
                &SETTINGS_WANTED,
                |c| setting(c, now),
                ImportRows::Settings,
                deliver,
            )?
            && self.simple(
                &SESSIONS_WANTED,
                |c| session(c, now),
                ImportRows::Sessions,
                deliver,
            )?
            && self.simple(
                &REQUESTS_WANTED,
                |c| request(c, now),
                ImportRows::Requests,
                deliver,
            )?
            && self.simple(
                &RESPONSES_WANTED,
                |c| response(c, now),
                ImportRows::Responses,
                deliver,
            )?
            && self.simple(
                &ERRORS_WANTED,
                |c| error(c, now),
                ImportRows::Errors,
                deliver,
            )?
            && self.logins(now, deliver)?
            && self.oldest_log(deliver)?)
    }

    /// A table whose rows stand for themselves.
    fn simple<T>(
        &self,
        wanted: &Wanted,
        convert: impl Fn(&Cells<'_>) -> Result<T, String>,
        wrap: fn(Vec<T>) -> ImportRows,
        deliver: &mut Deliver<'_>,
    ) -> Result<bool, DbError> {
        self.walk(wanted, convert, &mut |rows, walked| {
            deliver(walked.piece(wanted.table, Some(wrap(rows))))
        })
    }

    /// Each provider with its configuration.
    fn providers(&self, now: i64, deliver: &mut Deliver<'_>) -> Result<bool, DbError> {
        let mut configs: HashMap<String, BTreeMap<String, ConfigRow>> = HashMap::new();
        let mut faulty = Walked::default();
        self.walk(&CONFIGS_WANTED, config, &mut |rows, walked| {
            faulty.found += walked.skipped;
            faulty.skipped += walked.skipped;
            faulty.reasons.extend(walked.reasons);
            for (provider, row) in rows {
                configs
                    .entry(provider)
                    .or_default()
                    .insert(row.key.clone(), row);
            }
            true
        })?;
        let mut goes_on = self.walk(
            &PROVIDERS_WANTED,
            |cells| provider(cells, now),
            &mut |rows, walked| {
                let one = |row: ProviderRow| {
                    let config = configs.remove(&row.id).unwrap_or_default();
                    Walked {
                        found: 1,
                        bytes: walked.bytes,
                        ..Walked::default()
                    }
                    .piece(
                        PROVIDERS,
                        Some(ImportRows::Provider(
                            Box::new(row),
                            config.into_values().collect(),
                        )),
                    )
                };
                let goes_on = rows.into_iter().map(one).all(&mut *deliver);
                let unusable = Walked {
                    found: walked.skipped,
                    ..walked
                };
                goes_on && (unusable.found == 0 || deliver(unusable.piece(PROVIDERS, None)))
            },
        )?;
        for (provider, rows) in configs {
            for key in rows.into_keys() {
                faulty.found += 1;
                faulty.skip(format!("`{key}`: there is no provider `{provider}`"));
            }
        }
        if goes_on && faulty.found > 0 {
            goes_on = deliver(faulty.piece(CONFIGS, None));
        }
        Ok(goes_on)
    }

    /// The newest login that has not expired: the older program used one.
    fn logins(&self, now: i64, deliver: &mut Deliver<'_>) -> Result<bool, DbError> {
        let mut total = Walked::default();
        let mut newest = None;
        self.walk(
            &LOGINS_WANTED,
            |cells| login(cells, now),
            &mut |rows, walked| {
                total.found += walked.found;
                total.skipped += walked.skipped;
                total.reasons.extend(walked.reasons);
                for row in rows {
                    if newest.replace(row).is_some() {
                        total.skip("a newer login took its place".into());
                    }
                }
                true
            },
        )?;
        if total.found == 0 {
            return Ok(true);
        }
        let piece = total.piece(LOGINS, None);
        Ok(deliver(Piece {
            content: newest.map_or(Content::Nothing, Content::Login),
            ..piece
        }))
    }

    /// The log of its first layout, whose columns are not known: only told of.
    fn oldest_log(&self, deliver: &mut Deliver<'_>) -> Result<bool, DbError> {
        if !self.tables.contains_key(OLDEST_LOG) {
            return Ok(true);
        }
        let count: i64 = self
            .conn
            .query_row("SELECT count(*) FROM request_logs", [], |row| row.get(0))?;
        let count = u64::try_from(count).unwrap_or_default();
        Ok(count == 0
            || deliver(Piece {
                table: OLDEST_LOG,
                found: count,
                skipped: count,
                reasons: vec![
                    "a log of the first layout; start a newer release of the program once, which converts it".into(),
                ],
                content: Content::Nothing,
            }))
    }

    /// Reads a table chunk by chunk. One that is not there has no rows.
    fn walk<T>(
        &self,
        wanted: &Wanted,
        convert: impl Fn(&Cells<'_>) -> Result<T, String>,
        emit: &mut dyn FnMut(Vec<T>, Walked) -> bool,
    ) -> Result<bool, DbError> {
        let Some(sql) = self.select(wanted) else {
            return Ok(true);
        };
        let mut statement = self.conn.prepare(&sql)?;
        let mut after = i64::MIN;
        loop {
            let mut rows = statement.query((after, CHUNK_ROWS))?;
            let (mut good, mut walked) = (Vec::new(), Walked::default());
            while let Some(row) = rows.next()? {
                after = row.get("row_number")?;
                walked.found += 1;
                let cells = Cells(row);
                walked.bytes += cells.bytes();
                match convert(&cells) {
                    Ok(row) => good.push(row),
                    Err(reason) => walked.skip(reason),
                }
                if walked.bytes > CHUNK_BYTES {
                    break;
                }
            }
            if walked.found == 0 {
                return Ok(true);
            }
            if !emit(good, walked) {
                return Ok(false);
            }
        }
    }

    /// The query for the next rows after a number; columns that this version of the file lacks are NULL.
    fn select(&self, wanted: &Wanted) -> Option<String> {
        let there = self.tables.get(wanted.table)?;
        let own = wanted.columns.iter().map(|column| {
            if there.contains(*column) {
                format!("t.{column} AS {column}")
            } else {
                format!("NULL AS {column}")
            }
        });
        let requests = self.tables.get(REQUESTS);
        let can_join = there.contains("request_id")
            && requests.is_some_and(|columns| {
                ["id", "request_id", "model"]
                    .iter()
                    .all(|column| columns.contains(*column))
            });
        let joined = wanted.through_request.iter().map(|(expression, name)| {
            if can_join {
                (*expression).to_owned()
            } else {
                format!("NULL AS {name}")
            }
        });
        let columns: Vec<String> = own.chain(joined).collect();
        Some(format!(
            "SELECT t.rowid AS row_number, {} FROM {} t WHERE t.rowid > ?1 ORDER BY t.rowid LIMIT ?2",
            columns.join(", "),
            wanted.table
        ))
    }
}

const PROVIDERS_WANTED: Wanted = wanted(
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

fn provider(cells: &Cells<'_>, now: i64) -> Result<ProviderRow, String> {
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

const CONFIGS_WANTED: Wanted = wanted(CONFIGS, &["provider_id", "key", "value", "is_sensitive"]);

fn config(cells: &Cells<'_>) -> Result<(String, ConfigRow), String> {
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

const MODELS_WANTED: Wanted = wanted(
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

fn model(cells: &Cells<'_>, now: i64) -> Result<ModelRow, String> {
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

const LINKS_WANTED: Wanted = wanted(
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

fn link(cells: &Cells<'_>, now: i64) -> Result<LinkRow, String> {
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

const SETTINGS_WANTED: Wanted = wanted(SETTINGS, &["key", "value", "updated_at"]);

fn setting(cells: &Cells<'_>, now: i64) -> Result<SettingRow, String> {
    let key = needed(cells, "key")?;
    let known = settings::find(&key).ok_or_else(|| format!("there is no setting `{key}`"))?;
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
        Kind::Integer(..) | Kind::Boolean => text
            .parse::<f64>()
            .ok()
            .filter(|number| number.fract() == 0.0)
            .and_then(rounded),
        Kind::Text | Kind::OneOf(_) => None,
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

const SESSIONS_WANTED: Wanted = wanted(
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

fn session(cells: &Cells<'_>, now: i64) -> Result<OldSession, String> {
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

const REQUESTS_WANTED: Wanted = wanted(
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

fn request(cells: &Cells<'_>, now: i64) -> Result<OldRequest, String> {
    let timestamp = timestamp(cells, now);
    Ok(OldRequest {
        request_id: needed(cells, "request_id")?,
        session_id: cells.text("session_id"),
        timestamp,
        method: cells.text("method").unwrap_or_else(|| "POST".into()),
        path: cells.words("path"),
        openai_request: cells
            .body("openai_request")
            .unwrap_or_else(|| "null".into()),
        qwen_request: cells.body("qwen_request").filter(|body| !body.is_empty()),
        model: cells.words("model"),
        stream: cells.flag("stream").unwrap_or_default(),
        created_at: cells.integer("created_at").unwrap_or(timestamp),
    })
}

const RESPONSES_WANTED: Wanted = Wanted {
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

fn response(cells: &Cells<'_>, now: i64) -> Result<OldResponse, String> {
    let response_id = needed(cells, "response_id")?;
    let timestamp = timestamp(cells, now);
    Ok(OldResponse {
        request: cells
            .text("request")
            .ok_or_else(|| format!("`{response_id}` answers a request that is not there"))?,
        timestamp,
        qwen_response: cells.body("qwen_response").filter(|body| !body.is_empty()),
        openai_response: cells
            .body("openai_response")
            .filter(|body| !body.is_empty()),
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

const ERRORS_WANTED: Wanted = Wanted {
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

fn error(cells: &Cells<'_>, now: i64) -> Result<OldError, String> {
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

const LOGINS_WANTED: Wanted = wanted(LOGINS, &["token", "cookies", "expires_at"]);

fn login(cells: &Cells<'_>, now: i64) -> Result<OldLogin, String> {
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
