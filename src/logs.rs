//! The newest log lines, for who looks at them through the API. Knows nobody.
//!
//! The subscriber of logs is the process's, and so is what it keeps: a process that started none keeps nothing. A crash loses
//! it; what must be found later goes to standard error as before.

use std::collections::VecDeque;
use std::fmt::{Debug, Write as _};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};

use serde::Serialize;
use serde_json::{Map, Value};
use tokio::sync::broadcast;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;
use utoipa::ToSchema;

use crate::clock::now_ms;

/// Lines kept.
pub(crate) const KEPT: usize = 2_000;
/// Lines a slow reader may be behind before it loses the oldest.
const BEHIND: usize = 1_000;
/// Bytes of one text; lines of libraries may be of any length.
const LONGEST: usize = 4_096;

/// Levels as the setting `logging.level` names them, the most severe first.
pub(crate) const LEVELS: [(&str, u8); 5] = [
    ("error", 0),
    ("warn", 1),
    ("info", 2),
    ("debug", 3),
    ("trace", 4),
];

static LATELY: LazyLock<Logs> = LazyLock::new(Logs::default);

/// The lines of this process.
pub(crate) fn lately() -> &'static Logs {
    &LATELY
}

/// One line.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
#[schema(as = LogLine)]
pub(crate) struct Line {
    /// Counts the lines of this process.
    pub(crate) seq: u64,
    /// Unix time, ms.
    pub(crate) at: i64,
    /// `error`, `warn`, `info`, `debug` or `trace`.
    pub(crate) level: &'static str,
    /// The part of the program that says it.
    pub(crate) target: String,
    pub(crate) message: String,
    /// What belongs to it, by name.
    pub(crate) fields: Map<String, Value>,
}

impl Line {
    /// At least as severe as `level` of [`LEVELS`].
    pub(crate) fn reaches(&self, level: u8) -> bool {
        LEVELS
            .iter()
            .any(|(name, rank)| *name == self.level && *rank <= level)
    }

    /// Says `text` somewhere; `text` is in lower case.
    pub(crate) fn says(&self, text: &str) -> bool {
        let has = |part: &str| part.to_lowercase().contains(text);
        has(&self.message)
            || has(&self.target)
            || self.fields.iter().any(|(name, value)| {
                has(name) || value.as_str().map_or_else(|| has(&value.to_string()), has)
            })
    }
}

/// The newest lines, and those who wait for the next.
pub(crate) struct Logs {
    kept: Mutex<Kept>,
    listeners: broadcast::Sender<Arc<Line>>,
}

#[derive(Default)]
struct Kept {
    last: u64,
    lines: VecDeque<Arc<Line>>,
}

impl Default for Logs {
    fn default() -> Self {
        Self {
            kept: Mutex::default(),
            listeners: broadcast::channel(BEHIND).0,
        }
    }
}

impl Logs {
    /// Those after the line `after`, oldest first.
    pub(crate) fn after(&self, after: u64) -> Vec<Arc<Line>> {
        later(&self.lock(), after)
    }

    /// Those after the line `after`, and all that come: none is lost or told twice in between.
    pub(crate) fn listen(&self, after: u64) -> (Vec<Arc<Line>>, broadcast::Receiver<Arc<Line>>) {
        let kept = self.lock();
        (later(&kept, after), self.listeners.subscribe())
    }

    fn keep(&self, level: Level, target: &str, said: Said) {
        let mut kept = self.lock();
        kept.last += 1;
        let line = Arc::new(Line {
            seq: kept.last,
            at: now_ms(),
            level: name(level),
            target: target.to_owned(),
            message: said.message,
            fields: said.fields,
        });
        if kept.lines.len() == KEPT {
            kept.lines.pop_front();
        }
        kept.lines.push_back(line.clone());
        // Within the lock, so that listeners get them in order. Nobody listening is no failure.
        let _ = self.listeners.send(line);
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        // Lines are whole in whatever state a panic left them.
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn later(kept: &Kept, after: u64) -> Vec<Arc<Line>> {
    let later = kept.lines.iter().filter(|line| line.seq > after);
    later.cloned().collect()
}

fn name(level: Level) -> &'static str {
    match level {
        Level::ERROR => "error",
        Level::WARN => "warn",
        Level::INFO => "info",
        Level::DEBUG => "debug",
        Level::TRACE => "trace",
    }
}

/// Keeps what passes the filters above it.
pub(crate) struct Keeper(pub(crate) &'static Logs);

impl<S: Subscriber> Layer<S> for Keeper {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut said = Said::default();
        event.record(&mut said);
        let about = event.metadata();
        self.0.keep(*about.level(), about.target(), said);
    }
}

/// What an event says.
#[derive(Default)]
struct Said {
    message: String,
    fields: Map<String, Value>,
}

impl Said {
    fn put(&mut self, field: &Field, value: Value) {
        self.fields.insert(field.name().to_owned(), value);
    }
}

impl Visit for Said {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        let mut text = String::new();
        let _ = write!(text, "{value:?}");
        cut(&mut text);
        // What is said comes first; a field may have the same name.
        if field.name() == "message" && self.message.is_empty() {
            self.message = text;
        } else {
            self.put(field, text.into());
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        let mut text = value.to_owned();
        cut(&mut text);
        // What is said comes first; a field may have the same name.
        if field.name() == "message" && self.message.is_empty() {
            self.message = text;
        } else {
            self.put(field, text.into());
        }
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, value.into());
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field, value.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, value.into());
    }
}

fn cut(text: &mut String) {
    if text.len() > LONGEST {
        text.truncate(text.floor_char_boundary(LONGEST));
        text.push('…');
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tracing_subscriber::layer::SubscriberExt;

    fn logging(work: impl FnOnce()) -> &'static Logs {
        let logs: &'static Logs = Box::leak(Box::default());
        let subscriber = tracing_subscriber::registry().with(Keeper(logs));
        tracing::subscriber::with_default(subscriber, work);
        logs
    }

    #[test]
    fn lines_are_kept_with_their_fields_and_found_again() {
        let logs = logging(|| {
            tracing::warn!(port = 3001, name = "fake", ok = true, "The port is TAKEN");
            tracing::debug!(error = %"no route", "second");
        });
        let lines = logs.after(0);
        assert_eq!(lines.len(), 2);
        let first = &lines[0];
        assert_eq!((first.seq, first.level), (1, "warn"));
        assert_eq!(first.message, "The port is TAKEN");
        assert_eq!(
            Value::Object(first.fields.clone()),
            serde_json::json!({"port": 3001, "name": "fake", "ok": true})
        );
        assert!(first.target.starts_with("qwarden"), "{}", first.target);
        assert!(first.reaches(1) && first.reaches(3) && !first.reaches(0));
        for found in ["taken", "3001", "fake", "logs"] {
            assert!(first.says(found), "{found}");
        }
        assert!(!first.says("no route") && lines[1].says("no route"));
        assert_eq!(logs.after(1).len(), 1);
    }

    #[test]
    fn the_oldest_and_the_longest_give_way() {
        let logs = logging(|| {
            tracing::info!("{}", "ä".repeat(LONGEST));
            for at in 0..KEPT {
                tracing::info!(at, "line");
            }
        });
        let lines = logs.after(0);
        assert_eq!((lines.len(), lines[0].seq), (KEPT, 2));
        let long = logging(|| tracing::info!("{}", "ä".repeat(LONGEST))).after(0);
        assert!(long[0].message.len() <= LONGEST + '…'.len_utf8());
    }

    #[test]
    fn who_listens_gets_what_was_and_what_comes_once_each() {
        let logs: &'static Logs = Box::leak(Box::default());
        let subscriber = tracing_subscriber::registry().with(Keeper(logs));
        tracing::subscriber::with_default(subscriber, || {
            tracing::info!("one");
            tracing::info!("two");
            let (missed, mut coming) = logs.listen(1);
            tracing::info!("three");
            let missed: Vec<_> = missed.iter().map(|line| line.seq).collect();
            assert_eq!(missed, [2]);
            assert_eq!(coming.try_recv().map(|line| line.seq), Ok(3));
            assert!(coming.try_recv().is_err());
        });
    }
}
