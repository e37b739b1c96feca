//! Parses the command line and returns what it says.

use std::process::ExitCode;

fn main() -> ExitCode {
    qwarden::cli::run()
}
