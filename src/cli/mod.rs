//! The command line: one file per verb.

pub(crate) mod logging;
pub(crate) mod serve;

use std::io::Write;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// A resilient local gateway to language models.
#[derive(Parser)]
#[command(version, about, max_term_width = 100)]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Run the gateway in the foreground.
    Serve(serve::Options),
}

/// Runs the verb of the command line, and tells how it went.
pub fn run() -> ExitCode {
    let outcome = match Arguments::parse().verb {
        Verb::Serve(options) => serve::run(options),
    };
    outcome.unwrap_or_else(|error| {
        // Nothing is left to do when even this cannot be written.
        let _ = writeln!(std::io::stderr(), "qwarden: {error:#}");
        ExitCode::FAILURE
    })
}
