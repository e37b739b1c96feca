//! Logs: for people on a terminal, as JSON otherwise; to standard error, so that answers have standard output.

use std::io::IsTerminal;

use anyhow::Context;
use serde_json::json;
use tracing_subscriber::filter::{EnvFilter, LevelFilter};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::reload;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, Registry, fmt};

use crate::limits::logs::FLUSH;
use crate::logs::{self, Keeper};
use crate::sink::Lines;

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Format {
    /// Pretty on a terminal, JSON otherwise.
    Auto,
    Pretty,
    Json,
}

/// Changes the level while the process runs. At its end, the last lines go out.
pub(crate) struct Level {
    filter: reload::Handle<EnvFilter, Registry>,
    lines: Lines,
}

impl Drop for Level {
    fn drop(&mut self) {
        self.lines.flush(FLUSH);
    }
}

impl Level {
    /// `level` is one of the words of the setting `logging.level`.
    pub(crate) fn set(&self, level: &str) {
        let _ = self.filter.reload(filter(level));
    }
}

/// Starts logging.
pub(crate) fn start(format: Format, level: &str) -> anyhow::Result<Level> {
    let (filter, handle) = reload::Layer::new(filter(level));
    let pretty = match format {
        Format::Pretty => true,
        Format::Json => false,
        Format::Auto => std::io::stderr().is_terminal(),
    };
    let colour = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let queue = Lines::to(std::io::stderr(), move |count| missed(pretty, count))
        .context("no thread for the log")?;
    let to_queue = {
        let queue = queue.clone();
        move || queue.clone()
    };
    let lines = if pretty {
        fmt::layer()
            .with_writer(to_queue)
            .with_ansi(colour)
            .with_target(false)
            .boxed()
    } else {
        fmt::layer()
            .with_writer(to_queue)
            .json()
            .flatten_event(true)
            .boxed()
    };
    tracing_subscriber::registry()
        .with(filter)
        .with(lines)
        .with(Keeper(logs::lately()))
        .try_init()
        .context("logging could not be started")?;
    std::panic::set_hook(Box::new(told_in_a_line));
    Ok(Level {
        filter: handle,
        lines: queue,
    })
}

/// What the log says of lines that are not in it.
fn missed(pretty: bool, count: u64) -> String {
    let message = format!("{count} log lines were dropped: what takes the log took none");
    if pretty {
        format!("{message}\n")
    } else {
        let line = json!({"level": "WARN", "message": message, "dropped": count});
        format!("{line}\n")
    }
}

/// A crash is what supervision is for: it is one line among the others, not a page of addresses for each.
fn told_in_a_line(panic: &std::panic::PanicHookInfo<'_>) {
    let at = panic.location().map(tracing::field::display);
    let reason = panic.payload_as_str().unwrap_or("no reason is given");
    tracing::error!(at, reason, "a task crashed");
}

/// Ours at `level`; libraries only when they warn, since their lines may hold what ours never do.
fn filter(level: &str) -> EnvFilter {
    EnvFilter::builder()
        .with_default_directive(LevelFilter::WARN.into())
        .parse_lossy(format!("warn,qwarden={level},ractor=off"))
}
