//! `qwarden completions`: what a shell needs to complete this command line.

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use crate::cli::console::print;
use crate::cli::failure::{Exit, Outcome};

/// For which shell.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  qwarden completions bash > ~/.local/share/bash-completion/completions/qwarden
  qwarden completions fish > ~/.config/fish/completions/qwarden.fish
  qwarden completions zsh > ~/.zfunc/_qwarden

The script is all there is to print, also with --json.")]
pub(crate) struct Options {
    /// The shell.
    shell: Shell,
}

pub(crate) fn run(options: &Options) -> Outcome {
    let mut script = Vec::new();
    let mut command = super::Arguments::command();
    clap_complete::generate(options.shell, &mut command, "qwarden", &mut script);
    print(&String::from_utf8_lossy(&script))?;
    Ok(Exit::Done)
}
