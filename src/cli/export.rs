//! `qwarden export`: the history as a file, for other programs.

use std::fs;
use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use futures_util::StreamExt;
use serde_json::json;

use crate::cli::client::Client;
use crate::cli::console::Console;
use crate::cli::failure::{Exit, Failure, Outcome};
use crate::cli::progress::{Progress, part, size};
use crate::cli::request::Which;
use crate::db::files;

/// Which exchanges, and where to.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  qwarden export -o history.jsonl
  qwarden export --format csv --errors --since 2026-11-01 > failed.csv")]
pub(crate) struct Options {
    /// One exchange a line as JSON, or a table.
    #[arg(long, default_value = "jsonl")]
    format: Format,
    #[command(flatten)]
    which: Which,
    /// In a table: leave texts that begin like a formula as they are.
    #[arg(long)]
    no_guard: bool,
    /// Write here instead of to standard output.
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

/// How the file looks.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Format {
    Jsonl,
    Csv,
}

impl Format {
    fn as_str(self) -> &'static str {
        match self {
            Self::Jsonl => "jsonl",
            Self::Csv => "csv",
        }
    }
}

pub(crate) async fn run(options: Options, client: &Client, console: &Console) -> Outcome {
    // A line of JSON for each exchange is what --json asks for; a table is not.
    if console.json && options.output.is_none() && matches!(options.format, Format::Csv) {
        return Err(Failure::Usage(
            "a table is no JSON: name a file with -o, or leave out --json".into(),
        ));
    }
    if let Some(path) = options.output.as_deref().filter(|path| path.exists()) {
        console.confirm(&format!("replace `{}`", path.display()))?;
    }
    let format = options.format;
    let call = client
        .get(&["api", "requests", "export"])
        .query("format", Some(format.as_str()))
        .query("guard", options.no_guard.then_some(false));
    let which = options.which;
    let mut bytes = which.clone().ask(call).stream("*/*").await?.bytes_stream();
    // Before anything is written: it is the answer that tells whether there is something to write.
    let mut target = match &options.output {
        Some(path) => Target::file(path)?,
        None => Target::Standard,
    };
    // On one terminal, the line would be drawn into the export.
    let mut progress =
        (options.output.is_some() || !io::stdout().is_terminal()).then(Progress::new);
    let is_shown = progress.as_ref().is_some_and(Progress::is_shown);
    let total = if is_shown {
        total(which, client).await
    } else {
        None
    };
    let (mut written, mut lines) = (0_u64, 0_u64);
    while let Some(piece) = bytes.next().await {
        let piece =
            piece.map_err(|error| Failure::Other(format!("the export broke off: {error}")))?;
        target.write(&piece)?;
        written += piece.len() as u64;
        lines += memchr::memchr_iter(b'\n', &piece).count() as u64;
        if let Some(progress) = &mut progress {
            progress.tell(|| match total {
                Some(total) => part("exporting", lines, total),
                None => format!("exported {}", size(written)),
            });
        }
    }
    target.finish()?;
    drop(progress);
    if let Some(path) = &options.output {
        // A line end may stand inside a cell of a table.
        let exchanges = matches!(format, Format::Jsonl).then_some(lines);
        let body = json!({"success": true, "file": path, "format": format.as_str(), "bytes": written, "exchanges": exchanges});
        let count = exchanges.map_or_else(String::new, |count| format!(", {count} exchanges"));
        console.answer(&body, || {
            format!("{} ({}{count})", path.display(), size(written))
        })?;
    }
    Ok(Exit::Done)
}

/// How many exchanges it will be, for the bar. Without it the export goes on all the same.
async fn total(which: Which, client: &Client) -> Option<u64> {
    let call = client.get(&["api", "requests"]).query("limit", Some(1));
    let answer = which.ask(call.query("fields", Some("id"))).send().await;
    answer.ok()?["total"].as_u64()
}

/// Where the bytes go. A file counts once it is whole.
enum Target {
    Standard,
    File {
        file: fs::File,
        partial: Partial,
        path: PathBuf,
    },
}

impl Target {
    fn file(path: &Path) -> Result<Self, Failure> {
        let partial = files::beside(path, ".partial");
        let unwritable = |error: io::Error| {
            Failure::Other(format!(
                "`{}` cannot be written: {error}",
                partial.display()
            ))
        };
        // It holds prompts and answers: nobody else is to read it.
        let file = files::create_private_file(&partial).map_err(unwritable)?;
        Ok(Self::File {
            file,
            partial: Partial(partial),
            path: path.to_owned(),
        })
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        match self {
            Self::Standard => {
                let mut out = io::stdout().lock();
                out.write_all(bytes)?;
                Ok(out.flush()?)
            }
            Self::File { file, .. } => Ok(file.write_all(bytes)?),
        }
    }

    fn finish(self) -> Result<(), Failure> {
        if let Self::File {
            file,
            partial,
            path,
        } = self
        {
            file.sync_all()?;
            fs::rename(&partial.0, path)?;
        }
        Ok(())
    }
}

/// Removed with the value; what was put in place is no longer there.
struct Partial(PathBuf);

impl Drop for Partial {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}
