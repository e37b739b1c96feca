//! How far something long is: one line on standard error that is written over, for people only.

use std::io::{self, IsTerminal, Write};
use std::time::Instant;

use eventsource_stream::Eventsource;
use futures_util::StreamExt;
use serde_json::Value;
use tokio::time::timeout;

use crate::cli::client::Client;
use crate::cli::input::json_or_text;
use crate::limits::command_line::{PROGRESS_LISTEN, PROGRESS_PAUSE};

/// Back to the first column, and what stood there away.
const AGAIN: &str = "\r\u{1b}[K";
/// Of a bar.
const WIDTH: u64 = 20;
const KIB: u64 = 1 << 10;
const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];

/// The line. It goes away with the value.
pub(crate) struct Progress {
    is_shown: bool,
    drawn: Option<Instant>,
}

impl Progress {
    pub(crate) fn new() -> Self {
        Self {
            is_shown: io::stderr().is_terminal(),
            drawn: None,
        }
    }

    /// Whether anybody sees it.
    pub(crate) fn is_shown(&self) -> bool {
        self.is_shown
    }

    /// Shows the line, unless the last one has just been.
    pub(crate) fn tell(&mut self, line: impl FnOnce() -> String) {
        if !self.is_shown || self.drawn.is_some_and(|at| at.elapsed() < PROGRESS_PAUSE) {
            return;
        }
        self.drawn = Some(Instant::now());
        let mut stderr = io::stderr();
        let _ = write!(stderr, "{AGAIN}{}", line());
        let _ = stderr.flush();
    }

    /// Begins `work` and waits for it, and shows meanwhile what the gateway's events of these kinds say of it.
    pub(crate) async fn during<T>(
        &mut self,
        client: &Client,
        types: &str,
        line: impl Fn(&Value) -> String,
        work: impl Future<Output = T>,
    ) -> T {
        let mut work = std::pin::pin!(work);
        if !self.is_shown {
            return work.await;
        }
        let listen = client.get(&["api", "events"]).query("types", Some(types));
        let listen = listen.stream("text/event-stream");
        // Before the work, or what it says at its beginning would be missed.
        let Ok(Ok(response)) = timeout(PROGRESS_LISTEN, listen).await else {
            return work.await;
        };
        let mut events = response.bytes_stream().eventsource();
        loop {
            tokio::select! {
                biased;
                event = events.next() => match event {
                    Some(Ok(event)) => self.tell(|| line(&json_or_text(&event.data))),
                    _ => return work.await,
                },
                done = &mut work => return done,
            }
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.drawn.is_some() {
            let mut stderr = io::stderr();
            let _ = write!(stderr, "{AGAIN}");
            let _ = stderr.flush();
        }
    }
}

/// `copying [####....] 45 %`.
pub(crate) fn part(what: &str, done: u64, total: u64) -> String {
    let done = done.min(total);
    let Some(percent) = done.saturating_mul(100).checked_div(total) else {
        return format!("{what} ...");
    };
    let full = usize::try_from(done.saturating_mul(WIDTH) / total).unwrap_or_default();
    let width = usize::try_from(WIDTH).unwrap_or_default();
    format!(
        "{what} [{}{}] {percent} %",
        "#".repeat(full),
        ".".repeat(width.saturating_sub(full))
    )
}

/// `12.3 MiB`.
pub(crate) fn size(bytes: u64) -> String {
    if bytes < KIB {
        return format!("{bytes} bytes");
    }
    let (mut tenths, mut unit) = (bytes * 10 / KIB, 0);
    while tenths >= 10 * KIB && unit + 1 < UNITS.len() {
        tenths /= KIB;
        unit += 1;
    }
    let unit = UNITS.get(unit).copied().unwrap_or_default();
    format!("{}.{} {unit}", tenths / 10, tenths % 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_parts_are_short() {
        for (bytes, text) in [
            (0, "0 bytes"),
            (1_023, "1023 bytes"),
            (1_024, "1.0 KiB"),
            (1_600, "1.5 KiB"),
            (1 << 20, "1.0 MiB"),
            (5 << 30, "5.0 GiB"),
            (3 << 50, "3072.0 TiB"),
        ] {
            assert_eq!(size(bytes), text);
        }
        assert_eq!(
            part("copying", 9, 20),
            "copying [#########...........] 45 %"
        );
        assert_eq!(
            part("copying", 21, 20),
            "copying [####################] 100 %"
        );
        assert_eq!(part("checking", 0, 0), "checking ...");
    }
}
