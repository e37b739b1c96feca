//! Logs: for people on a terminal, as JSON otherwise; to standard error, so that answers have standard output.

use std::io::IsTerminal;

use anyhow::Context;
use tracing_subscriber::filter::{EnvFilter, LevelFilter};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::reload;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, Registry, fmt};

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Format {
    /// Pretty on a terminal, JSON otherwise.
    Auto,
    Pretty,
    Json,
}

/// Changes the level while the process runs.
pub(crate) struct Level(reload::Handle<EnvFilter, Registry>);

impl Level {
    /// `level` is one of the words of the setting `logging.level`.
    pub(crate) fn set(&self, level: &str) {
        let _ = self.0.reload(filter(level));
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
    let lines = if pretty {
        fmt::layer()
            .with_writer(std::io::stderr)
            .with_ansi(colour)
            .with_target(false)
            .boxed()
    } else {
        fmt::layer()
            .with_writer(std::io::stderr)
            .json()
            .flatten_event(true)
            .boxed()
    };
    tracing_subscriber::registry()
        .with(filter)
        .with(lines)
        .try_init()
        .context("logging could not be started")?;
    std::panic::set_hook(Box::new(told_in_a_line));
    Ok(Level(handle))
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
