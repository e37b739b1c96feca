//! `qwarden request`: the exchanges of the history, shown, repeated, or as a curl command.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use futures_util::StreamExt;
use serde_json::{Value, json};

use crate::cli::client::{Client, LONG};
use crate::cli::console::Console;
use crate::cli::failure::{Exit, Failure, Outcome};
use crate::cli::input::Page;
use crate::cli::replay as recording;
use crate::cli::table::{self, Column, Table};
use crate::cli::words::{self, Show, at};

/// Of a list of exchanges.
pub(crate) const COLUMNS: &[Column] = &[
    ("ID", "/id", Show::Text),
    ("REQUEST", "/request_id", Show::Text),
    ("TIME", "/timestamp", Show::Time),
    ("PROVIDER", "/provider", Show::Text),
    ("MODEL", "/model", Show::Text),
    ("STATUS", "/status", Show::State),
    ("TOKENS", "/response_summary/total_tokens", Show::Text),
    ("DURATION", "/response_summary/duration_ms", Show::Took),
];

/// What a table needs of an exchange: bodies are long.
pub(crate) const LIGHT: &str =
    "request_id,session_id,timestamp,method,path,model,stream,provider,status,response_summary";

const FIELDS: &[Column] = &[
    ("id", "/id", Show::Text),
    ("request", "/request_id", Show::Text),
    ("session", "/session_id", Show::Text),
    ("time", "/timestamp", Show::Time),
    ("path", "/path", Show::Text),
    ("port", "/port", Show::Text),
    ("client", "/user_agent", Show::Text),
    ("model", "/model", Show::Text),
    ("streamed", "/stream", Show::Flag),
    ("provider", "/provider", Show::Text),
    ("status", "/status", Show::Text),
    ("recorded", "/has_recording", Show::Flag),
    ("http status", "/response/http_status", Show::Text),
    ("finish reason", "/response/finish_reason", Show::Text),
    ("error", "/response/error", Show::Text),
    ("tokens in", "/response/prompt_tokens", Show::Text),
    ("tokens out", "/response/completion_tokens", Show::Text),
    ("first byte", "/response/ttft_ms", Show::Took),
    ("duration", "/response/duration_ms", Show::Took),
];

const ATTEMPTS: &[Column] = &[
    ("ATTEMPT", "/number", Show::Text),
    ("PROVIDER", "/provider", Show::Text),
    ("MODEL", "/upstream_model", Show::Text),
    ("OUTCOME", "/outcome", Show::State),
    ("STATUS", "/upstream_status", Show::Text),
    ("DURATION", "/duration_ms", Show::Took),
    ("ERROR", "/error", Show::Text),
];

/// What to do with exchanges.
#[derive(Subcommand, Debug)]
pub(crate) enum Verb {
    /// List exchanges, the newest first. Filters combine.
    #[command(visible_alias = "ls")]
    List(Filter),
    /// Show one with its attempts; with --bodies what was said.
    Show {
        /// Its number, its UUID, or the `x-request-id` of an answer.
        id: String,
        /// Also the bodies of the request and the answer.
        #[arg(long)]
        bodies: bool,
    },
    /// Delete one with its answer.
    #[command(visible_alias = "rm")]
    Remove {
        /// Its number, its UUID, or the `x-request-id` of an answer.
        id: String,
    },
    /// Ask the same again, and print the answer.
    Replay {
        /// Its number, its UUID, or the `x-request-id` of an answer.
        id: String,
        /// Ask this model instead.
        #[arg(long)]
        model: Option<String>,
        /// Print the events of a streamed answer as they come.
        #[arg(long)]
        stream: bool,
    },
    /// Print the raw bytes of one that was recorded, for a bug report and `qwarden replay`.
    Recording {
        /// Its number, its UUID, or the `x-request-id` of an answer.
        id: String,
        /// Write them to this file instead.
        #[arg(short, long, value_name = "FILE")]
        output: Option<PathBuf>,
    },
    /// Print one as a curl command.
    Curl {
        /// Its number, its UUID, or the `x-request-id` of an answer.
        id: String,
    },
}

/// Which exchanges.
#[derive(Args, Debug)]
pub(crate) struct Filter {
    #[command(flatten)]
    page: Page,
    /// Only of this session.
    #[arg(long)]
    session: Option<String>,
    /// Only for this model.
    #[arg(short, long)]
    model: Option<String>,
    /// Only answered by this provider.
    #[arg(short, long)]
    provider: Option<String>,
    /// Only those that ended so.
    #[arg(long)]
    status: Option<Status>,
    /// Only streamed ones (true), or only others (false).
    #[arg(long)]
    stream: Option<bool>,
    /// Only those that failed.
    #[arg(long)]
    errors: bool,
}

/// How an exchange ended.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Status {
    InProgress,
    Completed,
    Failed,
    ClientClosed,
    Interrupted,
}

impl Status {
    fn as_str(self) -> &'static str {
        match self {
            Self::InProgress => "in_progress",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::ClientClosed => "client_closed",
            Self::Interrupted => "interrupted",
        }
    }
}

pub(crate) async fn run(verb: Verb, client: &Client, console: &Console) -> Outcome {
    match verb {
        Verb::List(filter) => {
            let body = client
                .get(&["api", "requests"])
                .query("limit", Some(filter.page.limit))
                .query("offset", Some(filter.page.offset))
                .query("session_id", filter.session)
                .query("model", filter.model)
                .query("provider", filter.provider)
                .query("status", filter.status.map(Status::as_str))
                .query("stream", filter.stream)
                .query("has_error", filter.errors.then_some(true))
                .query("fields", (!console.json).then_some(LIGHT))
                .send()
                .await?;
            console.list(&body, "requests", COLUMNS)?;
        }
        Verb::Show { id, bodies } => {
            let body = client.get(&["api", "requests", &id]).send().await?;
            console.answer(&body, || shown(&body, bodies, console))?;
        }
        Verb::Remove { id } => {
            console.confirm(&format!("delete the request `{id}` and its answer"))?;
            let body = client.delete(&["api", "requests", &id]).send().await?;
            console.answer(&body, || format!("request {id} deleted"))?;
        }
        Verb::Replay { id, model, stream } => {
            return replay(&id, model, stream, client, console).await;
        }
        Verb::Recording { id, output } => {
            // As it came: what the client asked keeps its spelling.
            let path = ["api", "requests", &id, "recording"];
            let response = client.get(&path).stream("application/json").await?;
            let document = response.text().await;
            let document = document
                .map_err(|error| Failure::Other(format!("the recording broke off: {error}")))?;
            recording::write(&document, output.as_ref())?;
        }
        Verb::Curl { id } => {
            let asked = Asked::again(&id, client).await?;
            let command = asked.curl()?;
            console.answer(&json!({"command": command}), || command.clone())?;
        }
    }
    Ok(Exit::Done)
}

fn shown(body: &Value, bodies: bool, console: &Console) -> String {
    let mut text = table::fields(body, FIELDS);
    let attempts = body["attempts"].as_array().map(Vec::as_slice);
    if let Some(attempts) = attempts.filter(|attempts| !attempts.is_empty()) {
        text.push('\n');
        text.push_str(&console.draw(&Table::of(attempts, ATTEMPTS)));
    }
    if bodies {
        for (name, pointer) in [
            ("request", "/openai_request"),
            ("answer", "/response/openai_response"),
        ] {
            let value = body.pointer(pointer).unwrap_or(&Value::Null);
            let _ = writeln!(text, "\n{name}:\n{value:#}");
        }
    }
    text
}

/// A stored request that is to be sent again, to the port it came to.
struct Asked {
    client: Client,
    path: String,
    body: Value,
}

impl Asked {
    async fn again(id: &str, client: &Client) -> Result<Self, Failure> {
        let stored = client.get(&["api", "requests", id]).send().await?;
        let body = stored["openai_request"].clone();
        if !body.is_object()
            || body
                .get("messages")
                .or(body.get("prompt"))
                .or(body.get("input"))
                .is_none()
        {
            return Err(Failure::Other(format!(
                "the body of the request `{id}` was not kept whole; see `qwarden settings get history.maxBody` and logging.logRequests"
            )));
        }
        let port = stored["port"].as_u64();
        let port = match port.and_then(|port| u16::try_from(port).ok()) {
            Some(port) if port > 0 => port,
            // Rows of the older program know no port.
            _ => router_port(client).await?,
        };
        Ok(Self {
            client: client.beside(port),
            path: at(&stored, "/path"),
            body,
        })
    }

    fn segments(&self) -> Vec<&str> {
        self.path
            .split('/')
            .filter(|part| !part.is_empty())
            .collect()
    }

    fn curl(&self) -> Result<String, Failure> {
        let body =
            serde_json::to_string(&self.body).map_err(|error| Failure::Other(error.to_string()))?;
        let unbuffered = if self.body["stream"] == true {
            "-N "
        } else {
            ""
        };
        Ok(format!(
            "curl {unbuffered}{} \\\n  -H 'content-type: application/json' \\\n  -d {}",
            quoted(&format!("{}{}", self.client.url(), self.path)),
            quoted(&body)
        ))
    }
}

async fn router_port(client: &Client) -> Result<u16, Failure> {
    let body = client.get(&["api", "proxy", "status"]).send().await?;
    let port = body["providerRouter"]["port"].as_u64();
    port.and_then(|port| u16::try_from(port).ok())
        .ok_or_else(|| {
            Failure::Other("the gateway does not say on which port its router is".into())
        })
}

/// As one word of a POSIX shell.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

async fn replay(
    id: &str,
    model: Option<String>,
    stream: bool,
    client: &Client,
    console: &Console,
) -> Outcome {
    if stream && console.json {
        return Err(Failure::Usage(
            "a stream of events is no JSON: leave out --stream or --json".into(),
        ));
    }
    let mut asked = Asked::again(id, client).await?;
    if let Some(model) = model {
        asked.body["model"] = model.into();
    }
    asked.body["stream"] = stream.into();
    if !stream {
        // Refused by some upstreams beside `stream: false`.
        if let Some(body) = asked.body.as_object_mut() {
            body.remove("stream_options");
        }
    }
    let call = asked
        .client
        .post(&asked.segments())
        .body(asked.body.clone());
    if stream {
        let mut events = call.stream("text/event-stream").await?.bytes_stream();
        while let Some(bytes) = events.next().await {
            let bytes =
                bytes.map_err(|error| Failure::Other(format!("the answer broke off: {error}")))?;
            let mut out = std::io::stdout().lock();
            out.write_all(&bytes)?;
            out.flush()?;
        }
        return Ok(Exit::Done);
    }
    let body = call.within(LONG).send().await?;
    console.answer(&body, || said(&body))?;
    Ok(Exit::Done)
}

/// The text of an answer; the answer itself where it has none.
fn said(body: &Value) -> String {
    match body
        .pointer("/choices/0/message/content")
        .and_then(Value::as_str)
    {
        Some(text) if !text.is_empty() => text
            .lines()
            .map(words::printable)
            .collect::<Vec<_>>()
            .join("\n"),
        _ => format!("{body:#}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_curl_command_survives_any_text() {
        let asked = Asked {
            client: Client::new("http://127.0.0.1:3002", None)
                .unwrap()
                .beside(3001),
            path: "/v1/chat/completions".into(),
            body: json!({"messages": [{"content": "it's $HOME"}], "stream": true}),
        };
        assert_eq!(
            asked.curl().unwrap(),
            "curl -N 'http://127.0.0.1:3001/v1/chat/completions' \\\n  -H 'content-type: application/json' \\\n  \
             -d '{\"messages\":[{\"content\":\"it'\\''s $HOME\"}],\"stream\":true}'"
        );
    }
}
