//! The command line: one file per verb or noun. `serve` is the gateway; all others ask a running one over its
//! management API.

pub(crate) mod activity;
pub(crate) mod alias;
pub(crate) mod backup;
mod browser;
pub(crate) mod cache;
pub(crate) mod client;
pub(crate) mod completions;
pub(crate) mod console;
pub(crate) mod credentials;
pub(crate) mod data_dir;
pub(crate) mod doctor;
pub(crate) mod env;
pub(crate) mod export;
pub(crate) mod failure;
pub(crate) mod gateway;
pub(crate) mod history;
pub(crate) mod import;
pub(crate) mod input;
pub(crate) mod key;
pub(crate) mod logging;
pub(crate) mod login;
pub(crate) mod logs;
pub(crate) mod migrate;
pub(crate) mod model;
pub(crate) mod progress;
pub(crate) mod provider;
pub(crate) mod replay;
pub(crate) mod request;
pub(crate) mod response;
pub(crate) mod restore;
pub(crate) mod retention;
pub(crate) mod route;
pub(crate) mod selftest;
pub(crate) mod serve;
pub(crate) mod service;
pub(crate) mod session;
pub(crate) mod settings;
pub(crate) mod stats;
pub(crate) mod status;
pub(crate) mod switch;
pub(crate) mod table;
pub(crate) mod token;
pub(crate) mod top;
pub(crate) mod words;

use std::io::Write;
use std::process::ExitCode;

use anyhow::Context;
use clap::{Args, Parser, Subcommand};
use secrecy::SecretString;

use crate::cli::client::Client;
use crate::cli::console::Console;
use crate::cli::failure::{Failure, Outcome};

const LAST_WORDS: &str = "\
First steps:
  qwarden serve                     run the gateway (leave it running)
  qwarden status                    see what it serves
  qwarden login --browser           use your chat.qwen.ai login
  qwarden env opencode --write      point a tool at it
  qwarden doctor                    find out what is wrong

Results go to standard output, everything else to standard error.
Exit codes: 0 done, 1 failed, 2 wrong usage, 3 not running, 4 unhealthy.";

/// A resilient local gateway to language models.
#[derive(Parser)]
#[command(name = "qwarden", version, about, max_term_width = 100, after_help = LAST_WORDS)]
struct Arguments {
    #[command(flatten)]
    common: Common,
    #[command(subcommand)]
    verb: Verb,
}

/// What every verb but `serve` looks at.
#[derive(Args)]
struct Common {
    /// Management address of the gateway.
    #[arg(
        long,
        global = true,
        env = "QWARDEN_URL",
        default_value = "http://127.0.0.1:3002",
        hide_env_values = true,
        value_name = "URL",
        help_heading = "Global options"
    )]
    url: String,
    /// Sent as `authorization: Bearer`.
    #[arg(
        long,
        global = true,
        env = "QWARDEN_TOKEN",
        hide_env_values = true,
        value_name = "TOKEN",
        help_heading = "Global options"
    )]
    token: Option<String>,
    /// Print the API's answer as JSON, and nothing else.
    #[arg(long, global = true, help_heading = "Global options")]
    json: bool,
    /// Answer every question with yes.
    #[arg(long, global = true, help_heading = "Global options")]
    yes: bool,
}

#[derive(Subcommand)]
enum Verb {
    /// Run the gateway in the foreground.
    Serve(serve::Options),
    /// Show what runs: ports, active provider, login.
    Status,
    /// Check that completions would be served (exit code 4 if not).
    Health,
    /// Open the gateway's ports.
    Start,
    /// Close the gateway's ports; open requests may finish.
    Stop(gateway::StopOptions),
    /// Close the gateway's ports and open them again.
    Restart(gateway::StopOptions),
    /// Find out what is wrong, and what to do about it.
    Doctor(doctor::Options),
    /// List the providers; `*` marks the active one.
    #[command(visible_alias = "ls")]
    List(provider::ListOptions),
    /// Make a provider the active one.
    #[command(visible_alias = "set")]
    Use(switch::Options),
    /// Ask a provider whether it works [default: the active one].
    Test(provider::TestOptions),
    /// Providers: add, edit, remove, enable, disable ...
    #[command(subcommand)]
    Provider(provider::Verb),
    /// Models, and which provider offers them.
    #[command(subcommand)]
    Model(model::Verb),
    /// Names that stand for one model or several, of any provider.
    #[command(subcommand)]
    Alias(alias::Verb),
    /// Where a request would go, and why, without sending it.
    Route(route::Options),
    /// Read and change settings.
    #[command(subcommand)]
    Settings(settings::Verb),
    /// Point a tool at the gateway: OpenCode, Claude Code, Codex ...
    Env(env::Options),
    /// Hand over your chat.qwen.ai login.
    Login(login::Options),
    /// Forget every stored login.
    Logout,
    /// The stored chat.qwen.ai logins.
    #[command(subcommand)]
    Credentials(credentials::Verb),
    /// API keys of the clients of the router and the Qwen proxy.
    #[command(subcommand)]
    Key(key::Verb),
    /// The admin token.
    #[command(subcommand)]
    Token(token::Verb),
    /// The latest exchanges, in short.
    History(history::Options),
    /// Exchanges: what was asked, replayed, as curl.
    #[command(subcommand)]
    Request(request::Verb),
    /// Run a recorded exchange again, offline, and compare.
    Replay(replay::Options),
    /// Answers, and numbers about them.
    #[command(subcommand)]
    Response(response::Verb),
    /// Qwen conversations.
    #[command(subcommand)]
    Session(session::Verb),
    /// Numbers: requests, tokens, times, by provider.
    Stats,
    /// What the gateway does, as it does it.
    Top(top::Options),
    /// What happened lately.
    Activity(activity::Options),
    /// Events; -f follows them as they happen.
    Logs(logs::Options),
    /// Break things on purpose, in a scratch folder, and look.
    Selftest,
    /// Copy the database, also while it is used.
    Backup(backup::Options),
    /// Put a backup in the database's place, while no gateway runs.
    Restore(restore::Options),
    /// Remove what the history has outlived, now.
    Retention(retention::Options),
    /// What the response cache holds; `clear` empties it.
    Cache(cache::Options),
    /// The history as JSONL or CSV.
    Export(export::Options),
    /// Take over a provider-router.db.
    Import(import::Options),
    /// Take over the settings of the older program's .env.
    Migrate(migrate::Options),
    /// Print completions for a shell.
    Completions(completions::Options),
}

/// Runs the verb of the command line, and tells how it went.
pub fn run() -> ExitCode {
    let Arguments { common, verb } = Arguments::parse();
    let outcome = match verb {
        Verb::Serve(options) => serve::run(options),
        verb => ask(common, verb),
    };
    outcome.unwrap_or_else(|error| {
        // Nothing is left to do when even this cannot be written.
        let _ = writeln!(std::io::stderr(), "qwarden: {error:#}");
        ExitCode::FAILURE
    })
}

/// Runs a verb that needs a running gateway, or none.
fn ask(common: Common, verb: Verb) -> anyhow::Result<ExitCode> {
    let console = Console::new(common.json, common.yes);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("no runtime")?;
    let outcome = Client::new(&common.url, common.token.map(SecretString::from))
        .and_then(|client| runtime.block_on(Box::pin(dispatch(verb, &client, &console))));
    let failure = match outcome {
        Ok(exit) => return Ok(exit.into()),
        Err(failure) => failure,
    };
    if let (true, Failure::Refused(refusal)) = (console.json, &failure) {
        // A refusal is an answer of the API, too.
        let _ = Console::json(&refusal.body);
    }
    if !matches!(failure, Failure::Closed) {
        Console::note(&format!("qwarden: {failure}"));
    }
    Ok(failure.exit().into())
}

async fn dispatch(verb: Verb, client: &Client, console: &Console) -> Outcome {
    match verb {
        // Handled above: it builds a runtime of its own.
        Verb::Serve(_) => Err(Failure::Usage("`serve` stands alone".into())),
        Verb::Status => status::status(client, console).await,
        Verb::Health => status::health(client, console).await,
        Verb::Start => gateway::start(client, console).await,
        Verb::Stop(options) => gateway::stop(&options, client, console).await,
        Verb::Restart(options) => gateway::restart(&options, client, console).await,
        Verb::Doctor(options) => doctor::run(options, client, console).await,
        Verb::List(options) => provider::list(options, client, console).await,
        Verb::Use(options) => switch::run(&options, client, console).await,
        Verb::Test(options) => provider::test(options, client, console).await,
        Verb::Provider(verb) => provider::run(verb, client, console).await,
        Verb::Model(verb) => model::run(verb, client, console).await,
        Verb::Alias(verb) => alias::run(verb, client, console).await,
        Verb::Route(options) => route::run(&options, client, console).await,
        Verb::Settings(verb) => settings::run(verb, client, console).await,
        Verb::Env(options) => env::run(options, client, console).await,
        Verb::Login(options) => login::run(options, client, console).await,
        Verb::Logout => credentials::clear(None, client, console).await,
        Verb::Credentials(verb) => credentials::run(verb, client, console).await,
        Verb::Key(verb) => key::run(verb, client, console).await,
        Verb::Token(verb) => token::run(&verb, client, console).await,
        Verb::History(options) => history::run(options, client, console).await,
        Verb::Request(verb) => request::run(verb, client, console).await,
        Verb::Replay(options) => replay::run(&options, console).await,
        Verb::Response(verb) => response::run(verb, client, console).await,
        Verb::Session(verb) => session::run(verb, client, console).await,
        Verb::Stats => stats::run(client, console).await,
        Verb::Top(options) => top::run(options, client, console).await,
        Verb::Activity(options) => activity::run(&options, client, console).await,
        Verb::Logs(options) => logs::run(options, client, console).await,
        Verb::Selftest => selftest::run(console).await,
        Verb::Backup(options) => backup::run(options, client, console).await,
        Verb::Restore(options) => restore::run(options, console),
        Verb::Retention(options) => retention::run(&options, client, console).await,
        Verb::Cache(options) => cache::run(options, client, console).await,
        Verb::Export(options) => export::run(options, client, console).await,
        Verb::Import(options) => import::run(options, client, console).await,
        Verb::Migrate(options) => migrate::run(options, client, console).await,
        Verb::Completions(options) => completions::run(&options),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }
}
