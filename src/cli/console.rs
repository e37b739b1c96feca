//! Where results and words to the user go: results to standard output, everything else to standard error.

use std::io::{self, BufRead, IsTerminal, Write};

use serde_json::Value;

use crate::cli::failure::Failure;
use crate::cli::table::{Column, Table};

/// How to talk to this user.
pub(crate) struct Console {
    /// The API's answer as it is, instead of text.
    pub(crate) json: bool,
    yes: bool,
    colour: bool,
    /// Columns of the terminal; `None` is no limit.
    width: Option<usize>,
}

impl Console {
    pub(crate) fn new(json: bool, yes: bool) -> Self {
        let terminal = io::stdout().is_terminal();
        let columns = std::env::var("COLUMNS")
            .ok()
            .and_then(|text| text.parse().ok())
            .filter(|columns| *columns > 0);
        Self {
            json,
            yes,
            colour: terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()),
            width: columns.filter(|_| terminal),
        }
    }

    /// Prints the answer: as JSON when that was asked for, else as `text`.
    pub(crate) fn answer(
        &self,
        answer: &Value,
        text: impl FnOnce() -> String,
    ) -> Result<(), Failure> {
        if self.json {
            Self::json(answer)
        } else {
            print(&text())
        }
    }

    /// Prints the rows below `key` of the answer as a table, or the answer as JSON.
    pub(crate) fn list(
        &self,
        answer: &Value,
        key: &str,
        columns: &[Column],
    ) -> Result<(), Failure> {
        if self.json {
            return Self::json(answer);
        }
        let rows = answer.get(key).and_then(Value::as_array);
        let rows = rows.map(Vec::as_slice).unwrap_or_default();
        print(&self.draw(&Table::of(rows, columns)))?;
        if rows.is_empty() {
            Self::note("nothing to list");
        }
        let rest = answer["total"]
            .as_u64()
            .and_then(|total| total.checked_sub(rows.len() as u64));
        if rest.is_some_and(|rest| rest > 0) && answer["has_more"] == true {
            Self::note(&format!("{} of {}", rows.len(), answer["total"]));
        }
        Ok(())
    }

    pub(crate) fn colour(&self) -> bool {
        self.colour
    }

    pub(crate) fn draw(&self, table: &Table) -> String {
        table.render(self.width, self.colour)
    }

    /// Prints JSON for people: over several lines.
    pub(crate) fn json(value: &Value) -> Result<(), Failure> {
        print(&format!("{value:#}"))
    }

    /// Says something beside the result.
    pub(crate) fn note(text: &str) {
        // A closed standard error is no reason to fail.
        let _ = writeln!(io::stderr(), "{text}");
    }

    /// Asks before something is lost. Without a terminal nobody can answer: then `--yes` must have been given.
    pub(crate) fn confirm(&self, what: &str) -> Result<(), Failure> {
        if self.yes {
            return Ok(());
        }
        if !(io::stdin().is_terminal() && io::stderr().is_terminal()) {
            return Err(Failure::Usage(format!(
                "this would {what}; add --yes to do it without a question"
            )));
        }
        let mut stderr = io::stderr();
        let _ = write!(stderr, "{what}? [y/N] ");
        let _ = stderr.flush();
        let mut line = String::new();
        io::stdin().lock().read_line(&mut line)?;
        if matches!(line.trim(), "y" | "Y" | "yes") {
            Ok(())
        } else {
            Err(Failure::Other("nothing was changed".into()))
        }
    }
}

/// Prints a result, with a line end.
pub(crate) fn print(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    if !text.ends_with('\n') {
        out.write_all(b"\n")?;
    }
    out.flush()?;
    Ok(())
}
