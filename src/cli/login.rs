//! `qwarden login`: takes a chat.qwen.ai login in whatever form the user has it.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use clap::{ArgGroup, Args};
use serde_json::{Map, Value, json};
use tokio::signal::unix::{SignalKind, signal};

use crate::cli::browser::{self, LoggedIn, NoLogin, Window};
use crate::cli::client::Client;
use crate::cli::console::Console;
use crate::cli::failure::{Exit, Failure, Outcome};
use crate::cli::input;
use crate::cli::words::{Show, show};
use crate::limits::command_line::LONG;
use crate::settings::QWEN_BASE_URL;

/// A login, from one or more sources.
#[derive(Args, Debug)]
#[command(group(
    ArgGroup::new("source").args(["browser", "from_curl", "cookies", "token_value"]).required(true).multiple(true)
))]
#[command(
    override_usage = "qwarden login [OPTIONS] --browser\n       qwarden login [OPTIONS] --from-curl <FILE>",
    after_help = "\
--browser opens a window of its own, in which you log in at chat.qwen.ai. The
cookies of that site are read, and the window and its folder are gone again.

Without a browser on this machine: log in at chat.qwen.ai in any browser, open
its developer tools (F12), tab Network, right-click any request to the site,
Copy as cURL.

Examples:
  qwarden login --browser
  qwarden login --from-curl request.txt
  xclip -o | qwarden login --from-curl -
  qwarden login --label second --cookies -"
)]
pub(crate) struct Options {
    /// Log in in a window of Chromium, Chrome, Edge or Brave.
    #[arg(long, conflicts_with_all = ["from_curl", "cookies", "token_value"])]
    browser: bool,
    /// Which one [default: the first that is found].
    #[arg(long, value_name = "PROGRAM", requires = "browser")]
    browser_path: Option<PathBuf>,
    /// A flag of the browser's own; may be given several times.
    #[arg(
        long,
        value_name = "FLAG",
        requires = "browser",
        allow_hyphen_values = true
    )]
    browser_flag: Vec<String>,
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
    if options.browser {
        let found = in_browser(client, options.browser_path, options.browser_flag).await?;
        body.insert("cookies".into(), json!(found.cookies));
        body.insert("headers".into(), json!({"user-agent": found.user_agent}));
    }
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

/// Opens a window at the gateway's site, and waits until somebody is logged in there.
async fn in_browser(
    client: &Client,
    path: Option<PathBuf>,
    flags: Vec<String>,
) -> Result<LoggedIn, Failure> {
    let setting = client
        .get(&["api", "settings", QWEN_BASE_URL])
        .send()
        .await?;
    let site = setting["value"].as_str().unwrap_or_default();
    let site = site.trim_end_matches('/').to_owned();
    let refused = |error: NoLogin| match error {
        NoLogin::NoBrowser => Failure::Usage(error.to_string()),
        other => Failure::Other(other.to_string()),
    };
    let browser = path.map_or_else(browser::find, Ok).map_err(refused)?;
    Console::note(&format!(
        "{} opens: log in at {site} there; it closes by itself (Ctrl-C ends this)",
        browser.display()
    ));
    let is_over = Arc::new(AtomicBool::new(false));
    let window = Window {
        browser,
        flags,
        site,
        is_over: is_over.clone(),
    };
    let unheard =
        |error: std::io::Error| Failure::Other(format!("signals cannot be heard: {error}"));
    let mut interrupt = signal(SignalKind::interrupt()).map_err(unheard)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(unheard)?;
    let mut hang_up = signal(SignalKind::hangup()).map_err(unheard)?;
    let mut running = tokio::task::spawn_blocking(move || window.log_in());
    let ended = tokio::select! {
        ended = &mut running => ended,
        () = async {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
                _ = hang_up.recv() => {}
            }
        } => {
            // It takes its folder away before it ends.
            is_over.store(true, Ordering::Relaxed);
            running.await
        }
    };
    let ended = ended.map_err(|error| Failure::Other(error.to_string()))?;
    ended.map_err(refused)
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
