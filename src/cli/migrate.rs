//! `qwarden migrate`: what the older program's `.env` means here, and with a gateway also put in force.

use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::{Map, Value, json};

use crate::cli::client::Client;
use crate::cli::console::Console;
use crate::cli::failure::{Exit, Failure, Outcome};
use crate::cli::input;
use crate::cli::table::{Column, Table};
use crate::cli::words::Show;
use crate::settings::{self, SETTINGS, Setting};

const COLUMNS: &[Column] = &[
    ("VARIABLE", "/variable", Show::Text),
    ("MEANS", "/target", Show::Text),
    ("VALUE", "/value", Show::Text),
    ("STATE", "/state", Show::State),
    ("NOTE", "/note", Show::Text),
];

const HIDDEN: &str = "***MASKED***";
const DASHSCOPE: &str = "dashscope";

/// What the older program read and has no effect here, with what to know instead.
const WITHOUT_EFFECT: [(&str, &str); 20] = [
    ("API_HOST", "all ports are on server.host"),
    ("CORS_ORIGIN", "pages of other sites are refused"),
    ("DATABASE_BUSY_TIMEOUT", "fixed"),
    ("DATABASE_VERBOSE", "logging.level is debug"),
    ("LOG_DIR", "logs go to standard error"),
    ("LOG_MAX_FILES", "logs go to standard error"),
    ("LOG_MAX_SIZE", "logs go to standard error"),
    ("MAX_RETRIES", "built in"),
    ("MODEL_MAPPINGS", "it had none there either"),
    ("NODE_ENV", "no such difference"),
    ("QWEN_TIMEOUT", "server.timeout"),
    ("RATE_LIMIT_MAX", "server.maxInFlight bounds what is served"),
    (
        "RATE_LIMIT_WINDOW",
        "server.maxInFlight bounds what is served",
    ),
    ("RETRY_BASE_DELAY", "built in"),
    ("RETRY_MAX_DELAY", "built in"),
    ("SESSION_CLEANUP_INTERVAL", "built in"),
    ("TRUST_PROXY", "only this machine is served"),
    ("USER_AGENT", "a login copied as cURL brings its own"),
    ("USE_LEGACY_CONFIG", "there is one configuration"),
    ("VITE_API_URL", "no page is built here"),
];

/// Where the `.env` is.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  qwarden migrate --dry-run --env-file ~/old/.env
  qwarden migrate --env-file ~/old/.env && qwarden import ~/old/provider-router.db")]
pub(crate) struct Options {
    /// The older program's settings.
    #[arg(long, value_name = "FILE", default_value = ".env")]
    env_file: PathBuf,
    /// Only tell what they mean; needs no gateway.
    #[arg(short, long)]
    dry_run: bool,
}

/// What one variable means.
#[derive(Clone, Debug, PartialEq)]
struct Item {
    variable: String,
    meaning: Meaning,
}

#[derive(Clone, Debug, PartialEq)]
enum Meaning {
    Setting {
        key: &'static str,
        value: Value,
    },
    /// A key of a provider's configuration; `kind` is for one that does not exist.
    Provider {
        id: &'static str,
        kind: &'static str,
        key: &'static str,
        value: String,
    },
    /// Half of a login.
    Login {
        field: &'static str,
        value: String,
    },
    /// The older program's database.
    Database(String),
    Invalid {
        target: &'static str,
        why: String,
    },
    WithoutEffect(&'static str),
    Unknown,
}

/// What became of an item.
enum Fate {
    Would,
    Done,
    Refused(String),
}

pub(crate) async fn run(options: Options, client: &Client, console: &Console) -> Outcome {
    let items = meanings(&variables(&input::file(&options.env_file)?));
    let fates = if options.dry_run {
        items.iter().map(|_| Fate::Would).collect()
    } else {
        console.confirm(&format!(
            "put `{}` in force in the gateway at {}",
            options.env_file.display(),
            client.url()
        ))?;
        // Whether one runs, before the first change.
        client.get(&["api", "health"]).send().await?;
        put(&items, client).await?
    };
    let rows: Vec<Value> = items
        .iter()
        .zip(&fates)
        .map(|(item, fate)| item.row(fate, &options.env_file))
        .collect();
    let is_done = rows.iter().all(|row| row["state"] != "failed");
    let body = json!({"success": is_done, "dry_run": options.dry_run, "items": rows});
    console.answer(&body, || console.draw(&Table::of(&rows, COLUMNS)))?;
    if options.dry_run {
        Console::note("nothing was changed; leave out --dry-run to do it");
    }
    Ok(if is_done { Exit::Done } else { Exit::Failed })
}

impl Item {
    fn row(&self, fate: &Fate, env_file: &Path) -> Value {
        let (kind, target, value) = match &self.meaning {
            Meaning::Setting { key, value } => ("setting", (*key).to_owned(), value.clone()),
            Meaning::Provider { id, key, value, .. } => {
                let shown = if *key == "apiKey" { HIDDEN } else { value };
                ("provider", format!("{id} {key}"), shown.into())
            }
            Meaning::Login { field, .. } => ("login", format!("login {field}"), HIDDEN.into()),
            Meaning::Database(path) => ("database", "history".to_owned(), path.as_str().into()),
            Meaning::Invalid { target, .. } => ("setting", (*target).to_owned(), Value::Null),
            Meaning::WithoutEffect(_) => ("none", "nothing".to_owned(), Value::Null),
            Meaning::Unknown => ("unknown", "nothing".to_owned(), Value::Null),
        };
        let (state, note) = match (&self.meaning, fate) {
            (Meaning::Invalid { why, .. }, _) => ("failed", Some(why.clone())),
            (Meaning::WithoutEffect(why), _) => ("ignored", Some((*why).to_owned())),
            (Meaning::Unknown, _) => ("ignored", Some("not of the older program".into())),
            (Meaning::Database(path), _) => {
                let base = env_file.parent().unwrap_or(Path::new(""));
                (
                    "by hand",
                    Some(format!("qwarden import {}", base.join(path).display())),
                )
            }
            (_, Fate::Would) => ("ok", None),
            (_, Fate::Done) => ("ok", Some("set".into())),
            (_, Fate::Refused(why)) => ("failed", Some(why.clone())),
        };
        json!({"variable": self.variable, "kind": kind, "target": target, "value": value, "state": state, "note": note})
    }
}

/// Puts the items in force, in an order in which each finds what it needs. What is refused does not hold up the rest.
async fn put(items: &[Item], client: &Client) -> Result<Vec<Fate>, Failure> {
    let mut fates = Vec::new();
    for item in items {
        let outcome = match &item.meaning {
            Meaning::Setting { key, value } => {
                let call = client.put(&["api", "settings", key]);
                call.body(json!({"value": value})).send().await
            }
            Meaning::Provider {
                id,
                kind,
                key,
                value,
            } => {
                let config = json!({(*key): value});
                let change = client.put(&["api", "providers", id]);
                match change.body(json!({"config": config})).send().await {
                    Err(failure) if failure.is_missing() => {
                        let new = json!({"id": id, "name": id, "type": kind, "config": config});
                        client.post(&["api", "providers"]).body(new).send().await
                    }
                    outcome => outcome,
                }
            }
            Meaning::Login { field: "token", .. } => {
                // Both halves at once.
                let fields: Map<String, Value> = items.iter().filter_map(login).collect();
                let call = client.post(&["api", "qwen", "credentials"]);
                call.body(Value::Object(fields)).send().await
            }
            Meaning::Login { .. }
            | Meaning::Database(_)
            | Meaning::Invalid { .. }
            | Meaning::WithoutEffect(_)
            | Meaning::Unknown => Ok(Value::Null),
        };
        fates.push(match outcome {
            Ok(_) => Fate::Done,
            Err(Failure::Refused(refusal)) => Fate::Refused(refusal.message),
            Err(failure) => return Err(failure),
        });
    }
    Ok(fates)
}

fn login(item: &Item) -> Option<(String, Value)> {
    match &item.meaning {
        Meaning::Login { field, value } => Some(((*field).to_owned(), value.as_str().into())),
        _ => None,
    }
}

/// What the variables mean, in the order in which that is put in force.
fn meanings(variables: &[(String, String)]) -> Vec<Item> {
    let has = |name: &str| variables.iter().any(|(other, _)| other == name);
    let is_login = has("QWEN_TOKEN") && has("QWEN_COOKIES");
    let mut items: Vec<Item> = variables
        .iter()
        .map(|(name, value)| Item {
            variable: name.clone(),
            meaning: meaning(name, value, is_login),
        })
        .collect();
    // The active provider has to exist, and a provider needs its key to be made.
    items.sort_by_key(|item| match &item.meaning {
        Meaning::Provider { key: "apiKey", .. } => 0,
        Meaning::Provider { .. } => 1,
        Meaning::Setting { key, .. } if *key == settings::ACTIVE_PROVIDER => 4,
        Meaning::Setting { .. } | Meaning::Invalid { .. } => 2,
        Meaning::Login { .. } => 3,
        Meaning::Database(_) => 5,
        Meaning::WithoutEffect(_) => 6,
        Meaning::Unknown => 7,
    });
    items
}

fn meaning(name: &str, value: &str, is_login: bool) -> Meaning {
    let provider = |id, kind, key| Meaning::Provider {
        id,
        kind,
        key,
        value: value.to_owned(),
    };
    let half = |field| {
        if is_login {
            let value = value.to_owned();
            Meaning::Login { field, value }
        } else {
            Meaning::Invalid {
                target: "login",
                why: "QWEN_TOKEN and QWEN_COOKIES belong together".into(),
            }
        }
    };
    if value.is_empty() {
        return Meaning::WithoutEffect("it is empty");
    }
    match name {
        "LM_STUDIO_BASE_URL" => provider("lm-studio-default", "lm-studio", "baseURL"),
        "LM_STUDIO_DEFAULT_MODEL" => provider("lm-studio-default", "lm-studio", "defaultModel"),
        "QWEN_PROXY_BASE_URL" => provider("qwen-proxy-default", "qwen-proxy", "baseURL"),
        "QWEN_API_KEY" => provider(DASHSCOPE, DASHSCOPE, "apiKey"),
        // The older program's two halves meant two things by it.
        "QWEN_BASE_URL" if value.contains("dashscope") => provider(DASHSCOPE, DASHSCOPE, "baseURL"),
        "QWEN_TOKEN" => half("token"),
        "QWEN_COOKIES" => half("cookies"),
        "DATABASE_PATH" => Meaning::Database(value.to_owned()),
        "PROVIDER_ROUTER_PORT" => setting(settings::SERVER_PORT, value),
        _ => match SETTINGS.iter().find(|setting| setting.env == Some(name)) {
            Some(found) => setting(found.key, value),
            None => WITHOUT_EFFECT
                .iter()
                .find(|(other, _)| *other == name)
                .map_or(Meaning::Unknown, |(_, why)| Meaning::WithoutEffect(why)),
        },
    }
}

fn setting(key: &'static str, text: &str) -> Meaning {
    let invalid = |why| Meaning::Invalid { target: key, why };
    let checked = |setting: &Setting| {
        let value = setting.read_text(text);
        setting.check(&value).map(|()| value)
    };
    match settings::find(key).map(checked) {
        Some(Ok(_)) if key == settings::SERVER_HOST && !is_loopback(text) => {
            invalid("only this machine is served: 127.0.0.1 or ::1".into())
        }
        Some(Ok(value)) => Meaning::Setting { key, value },
        Some(Err(why)) => invalid(why),
        None => Meaning::Unknown,
    }
}

fn is_loopback(host: &str) -> bool {
    let address = host.parse::<std::net::IpAddr>();
    host == "localhost" || address.is_ok_and(|address| address.is_loopback())
}

/// Reads the lines `NAME=value`; the last one of a name counts, as it does there.
fn variables(text: &str) -> Vec<(String, String)> {
    let mut found: Vec<(String, String)> = Vec::new();
    for line in text.trim_start_matches('\u{feff}').lines() {
        let line = line.trim();
        let line = line.strip_prefix("export ").unwrap_or(line);
        let Some((name, value)) = line.split_once('=') else {
            continue;
        };
        let name = name.trim();
        let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
        if name.is_empty() || !name.chars().all(is_name) {
            continue;
        }
        found.retain(|(other, _)| other != name);
        found.push((name.to_owned(), unquoted(value.trim())));
    }
    found
}

fn unquoted(value: &str) -> String {
    for quote in ['\'', '"', '`'] {
        let inner = value.strip_prefix(quote);
        if let Some((inner, _)) = inner.and_then(|rest| rest.rsplit_once(quote)) {
            return if quote == '"' {
                inner.replace("\\n", "\n").replace("\\r", "\r")
            } else {
                inner.to_owned()
            };
        }
    }
    let end = value.find(" #").unwrap_or(value.len());
    let value = value.get(..end).unwrap_or(value);
    if value.starts_with('#') {
        return String::new();
    }
    value.trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read_as_the_older_program_reads_them() {
        let text = "\u{feff}# a comment\nPORT=3001\nexport HOST = localhost \nPORT=4001 # the last counts\n\
                    QWEN_COOKIES=\"a=b; c=d\" # quoted\nA='x # y'\nEMPTY=\nno line\nbad name=1\nN=#x\nM=a#b\n";
        let found = variables(text);
        let found: Vec<(&str, &str)> = found
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .collect();
        assert_eq!(
            found,
            [
                ("HOST", "localhost"),
                ("PORT", "4001"),
                ("QWEN_COOKIES", "a=b; c=d"),
                ("A", "x # y"),
                ("EMPTY", ""),
                ("N", ""),
                ("M", "a#b")
            ]
        );
    }

    #[test]
    fn each_variable_has_its_meaning_and_secrets_are_hidden() {
        for (name, value, kind, target, state) in [
            ("PORT", "4001", "setting", "server.port", "ok"),
            (
                "PROVIDER_ROUTER_PORT",
                "4001",
                "setting",
                "server.port",
                "ok",
            ),
            ("PORT", "3001.5", "setting", "server.port", "failed"),
            ("HOST", "0.0.0.0", "setting", "server.host", "failed"),
            (
                "LOG_REQUESTS",
                "false",
                "setting",
                "logging.logRequests",
                "ok",
            ),
            (
                "LM_STUDIO_BASE_URL",
                "http://x/v1",
                "provider",
                "lm-studio-default baseURL",
                "ok",
            ),
            (
                "QWEN_API_KEY",
                "sk-planted",
                "provider",
                "dashscope apiKey",
                "ok",
            ),
            (
                "QWEN_BASE_URL",
                "https://dashscope.aliyuncs.com/v1",
                "provider",
                "dashscope baseURL",
                "ok",
            ),
            (
                "QWEN_BASE_URL",
                "https://chat.qwen.ai",
                "setting",
                "qwen.baseUrl",
                "ok",
            ),
            ("QWEN_TOKEN", "planted", "login", "login token", "ok"),
            (
                "DATABASE_PATH",
                "./data/x.db",
                "database",
                "history",
                "by hand",
            ),
            ("TRUST_PROXY", "1", "none", "nothing", "ignored"),
            ("HOME", "/x", "unknown", "nothing", "ignored"),
            ("PORT", "", "none", "nothing", "ignored"),
        ] {
            let item = Item {
                variable: name.into(),
                meaning: meaning(name, value, true),
            };
            let row = item.row(&Fate::Would, Path::new("/old/.env"));
            assert_eq!(
                (&row["kind"], &row["target"], &row["state"]),
                (&json!(kind), &json!(target), &json!(state)),
                "{name}={value}: {row}"
            );
            assert!(!row.to_string().contains("planted"), "{row}");
        }
        let half = meaning("QWEN_TOKEN", "planted", false);
        assert!(matches!(half, Meaning::Invalid { .. }));
    }

    #[test]
    fn what_another_needs_comes_before_it() {
        let names = ["DEFAULT_PROVIDER", "QWEN_BASE_URL", "QWEN_API_KEY", "PORT"];
        let values = ["dashscope", "https://dashscope.aliyuncs.com/v1", "sk", "1"];
        let given: Vec<_> = names
            .iter()
            .zip(values)
            .map(|(name, value)| ((*name).to_owned(), value.to_owned()))
            .collect();
        let order: Vec<_> = meanings(&given)
            .into_iter()
            .map(|item| item.variable)
            .collect();
        assert_eq!(
            order,
            ["QWEN_API_KEY", "QWEN_BASE_URL", "PORT", "DEFAULT_PROVIDER"]
        );
    }
}
