//! `qwarden request`: the exchanges of the history, shown, repeated, or as a curl command.

use std::fmt::Write as _;
use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use serde_json::{Value, json};

use crate::cli::client::{Call, Client};
use crate::cli::console::Console;
use crate::cli::failure::{Exit, Failure, Outcome};
use crate::cli::input::{Page, moment};
use crate::cli::replay as recording;
use crate::cli::table::{self, Column, Table};
use crate::cli::words::{self, Show, at};
use crate::limits::command_line::LONG;

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
    ("cost", "/response/cost_microusd", Show::Cost),
    ("first byte", "/response/ttft_ms", Show::Took),
    ("duration", "/response/duration_ms", Show::Took),
];

const ATTEMPTS: &[Column] = &[
    ("ATTEMPT", "/number", Show::Text),
    ("PROVIDER", "/provider_id", Show::Text),
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
        /// Ask this provider instead.
        #[arg(long)]
        provider: Option<String>,
        /// Ask for this model instead.
        #[arg(long)]
        model: Option<String>,
    },
    /// Print the recording of one, for `qwarden replay`.
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
    #[command(flatten)]
    which: Which,
}

/// What they have in common.
#[derive(Args, Clone, Debug)]
pub(crate) struct Which {
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
    /// Only with the API key of this id.
    #[arg(long, value_name = "ID")]
    key: Option<String>,
    /// Only those that failed.
    #[arg(long)]
    errors: bool,
    /// Only from then on: a day (UTC), a time, or Unix ms.
    #[arg(long, value_name = "TIME", value_parser = moment)]
    since: Option<i64>,
    /// Only until then.
    #[arg(long, value_name = "TIME", value_parser = moment)]
    until: Option<i64>,
    /// Only those whose texts say all of these words.
    #[arg(long, value_name = "WORDS")]
    search: Option<String>,
}

impl Which {
    pub(crate) fn ask(self, call: Call) -> Call {
        call.query("session_id", self.session)
            .query("model", self.model)
            .query("provider", self.provider)
            .query("status", self.status.map(Status::as_str))
            .query("stream", self.stream)
            .query("key", self.key)
            .query("has_error", self.errors.then_some(true))
            .query("start_date", self.since)
            .query("end_date", self.until)
            .query("q", self.search)
    }
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
            let call = client
                .get(&["api", "requests"])
                .query("limit", Some(filter.page.limit))
                .query("offset", Some(filter.page.offset))
                .query("fields", (!console.json).then_some(LIGHT));
            let body = filter.which.ask(call).send().await?;
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
        Verb::Replay {
            id,
            provider,
            model,
        } => {
            let wanted = json!({"provider": provider, "model": model});
            let call = client
                .post(&["api", "requests", &id, "replay"])
                .body(wanted);
            let body = call.within(LONG).send().await?;
            if let Some(message) = body.pointer("/error/message").and_then(Value::as_str) {
                console.answer(&body, String::new)?;
                return Err(Failure::Other(message.to_owned()));
            }
            console.answer(&body, || said(&body["response"]))?;
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
            let body = client.get(&["api", "requests", &id, "curl"]).send().await?;
            console.answer(&body, || at(&body, "/command"))?;
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
