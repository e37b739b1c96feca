//! `qwarden login`: takes a chat.qwen.ai login in whatever form the user has it.

use std::path::PathBuf;

use clap::{ArgGroup, Args};
use serde_json::{Map, Value};

use crate::cli::client::Client;
use crate::cli::console::Console;
use crate::cli::failure::{Exit, Failure, Outcome};
use crate::cli::input;
use crate::cli::words::{Show, show};
use crate::limits::command_line::LONG;

/// A login, from one or more sources.
#[derive(Args, Debug)]
#[command(group(
    ArgGroup::new("source").args(["from_curl", "cookies", "token_value"]).required(true).multiple(true)
))]
#[command(
    override_usage = "qwarden login [OPTIONS] --from-curl <FILE>",
    after_help = "\
Where to find it: log in at chat.qwen.ai in your browser, open its developer
tools (F12), tab Network, right-click any request to the site, Copy as cURL.

Examples:
  qwarden login --from-curl request.txt
  xclip -o | qwarden login --from-curl -
  qwarden login --label second --cookies -"
)]
pub(crate) struct Options {
    /// A request copied as cURL, in a file or on standard input (-).
    #[arg(long, value_name = "FILE")]
    from_curl: Option<PathBuf>,
    /// The cookie header; `-` reads standard input.
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    cookies: Option<String>,
    /// The token by itself; `-` reads standard input.
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    token_value: Option<String>,
    /// Name of this login, when there are several [default: default].
    #[arg(long)]
    label: Option<String>,
    /// When it ends, in Unix seconds [default: as the token says].
    #[arg(long, value_name = "SECONDS")]
    expires_at: Option<i64>,
}

pub(crate) async fn run(options: Options, client: &Client, console: &Console) -> Outcome {
    let standard = [
        options.from_curl.as_deref() == Some(std::path::Path::new("-")),
        options.cookies.as_deref() == Some("-"),
        options.token_value.as_deref() == Some("-"),
    ];
    if standard.iter().filter(|reads| **reads).count() > 1 {
        return Err(Failure::Usage(
            "standard input can be read for one of them only".into(),
        ));
    }
    let mut body = Map::new();
    if let Some(path) = options.from_curl {
        body.insert("curl".into(), input::file(&path)?.into());
    }
    if let Some(text) = options.cookies {
        body.insert("cookie_header".into(), input::text(&text)?.into());
    }
    if let Some(text) = options.token_value {
        body.insert("token".into(), input::text(&text)?.into());
    }
    if let Some(label) = options.label {
        body.insert("label".into(), label.into());
    }
    if let Some(at) = options.expires_at {
        body.insert("expiresAt".into(), at.into());
    }
    // The gateway asks the site whether it takes the login.
    let call = client.post(&["api", "qwen", "credentials"]).within(LONG);
    let body = call.body(Value::Object(body)).send().await?;
    console.answer(&body, || told(&body))?;
    Ok(Exit::Done)
}

fn told(body: &Value) -> String {
    let id = body["id"].as_str().unwrap_or("default");
    let verified = match body["verified"].as_bool() {
        Some(true) => "chat.qwen.ai takes it",
        Some(false) | None => "chat.qwen.ai did not confirm it",
    };
    let until = match body["expiresAt"] {
        Value::Number(_) => format!(", it ends {}", show(body.get("expiresAt"), Show::Seconds)),
        _ => String::new(),
    };
    format!("login `{id}` stored: {verified}{until}")
}
