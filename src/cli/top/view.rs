//! What is known of the gateway's work: fed by its events, shown as text or JSON. Asks no clock: times are Unix ms.

use std::collections::{BTreeSet, VecDeque};

use serde_json::{Value, json};

use crate::cli::console::Console;
use crate::cli::table::{Column, Table};
use crate::cli::top::screen::Size;
use crate::cli::words::{self, Show};

/// Exchanges that ended: more than a terminal has rows, and all of a busy minute's last seconds.
const KEPT: usize = 1_000;
/// What `requests/s` and `errors` are made of.
const SECOND_MS: i64 = 1_000;
const RATE_MS: i64 = 10 * SECOND_MS;
const MINUTE_MS: i64 = 60 * SECOND_MS;
/// Of a text that is not cut to a terminal.
const LISTED: usize = 20;

const RUNNING: &[Column] = &[
    ("RUNNING", "/request_id", Show::Text),
    ("MODEL", "/model", Show::Text),
    ("PROVIDER", "/provider", Show::Text),
    ("PATH", "/path", Show::Text),
    ("AGE", "/age_ms", Show::Took),
];

const FINISHED: &[Column] = &[
    ("FINISHED", "/request_id", Show::Text),
    ("MODEL", "/model", Show::Text),
    ("PROVIDER", "/provider", Show::Text),
    ("STATUS", "/status", Show::State),
    ("FIRST", "/ttft_ms", Show::Took),
    ("TOOK", "/duration_ms", Show::Took),
    ("AGO", "/ago_ms", Show::Took),
    ("ERROR", "/error", Show::Text),
];

const ACTORS: &[Column] = &[
    ("ACTOR", "/name", Show::Text),
    ("STATE", "/state", Show::State),
    ("RESTARTS", "/restarts", Show::Text),
    ("MAILBOX", "/mailbox_depth", Show::Text),
    ("HANDLED", "/messages_handled", Show::Text),
    ("LAST FAILURE", "/last_failure/reason", Show::Text),
];

pub(super) struct View {
    url: String,
    /// The oldest first.
    running: Vec<Value>,
    /// The newest first.
    finished: VecDeque<Value>,
    /// Providers, or models of them, whose breakers are open.
    broken: BTreeSet<String>,
    pub(super) tree: Value,
    pub(super) is_reached: bool,
    /// Events were lost: what runs has to be asked for.
    pub(super) is_behind: bool,
}

impl View {
    pub(super) fn new(url: String) -> Self {
        Self {
            url,
            running: Vec::new(),
            finished: VecDeque::new(),
            broken: BTreeSet::new(),
            tree: Value::Null,
            is_reached: true,
            is_behind: false,
        }
    }

    /// Takes a list of exchanges that run.
    pub(super) fn runs(&mut self, list: &Value) {
        let rows = list["requests"].as_array().into_iter().flatten().rev();
        self.running = rows
            .map(|row| {
                json!({"request_id": row["request_id"], "model": row["model"], "provider": row["provider"],
                    "path": row["path"], "since": row["timestamp"]})
            })
            .collect();
    }

    /// Takes a list of exchanges, the newest first.
    pub(super) fn ended(&mut self, list: &Value) {
        let rows = list["requests"].as_array().into_iter().flatten();
        let rows = rows.filter(|row| row["status"] != "in_progress").map(|row| {
            let summary = &row["response_summary"];
            let began = row["timestamp"].as_i64().unwrap_or_default();
            let took = summary["duration_ms"].as_i64().unwrap_or_default();
            json!({"request_id": row["request_id"], "model": row["model"], "provider": row["provider"],
                "status": row["status"], "ttft_ms": summary["ttft_ms"], "duration_ms": summary["duration_ms"],
                "error": summary["error"], "ended_at": began + took})
        });
        self.finished = rows.take(KEPT).collect();
        self.finished
            .make_contiguous()
            .sort_by_key(|row| std::cmp::Reverse(row["ended_at"].as_i64()));
    }

    /// Takes the gateway's health.
    pub(super) fn ails(&mut self, health: &Value) {
        self.broken = broken(health).collect();
    }

    /// Takes an event of the gateway.
    pub(super) fn hear(&mut self, kind: &str, data: &Value, now: i64) {
        let id = &data["requestId"];
        let at = data["at"].as_i64().unwrap_or(now);
        match kind {
            "request:started" if self.running.iter().all(|row| row["request_id"] != *id) => {
                self.running.push(
                    json!({"request_id": id, "model": data["model"], "provider": null,
                        "path": data["path"], "since": at}),
                );
            }
            "request:attempted" => {
                let row = self.running.iter_mut().find(|row| row["request_id"] == *id);
                if let Some(row) = row {
                    row["provider"] = data["provider"].clone();
                }
            }
            "request:completed" => {
                self.running.retain(|row| row["request_id"] != *id);
                if self.finished.iter().any(|row| row["request_id"] == *id) {
                    return;
                }
                self.finished.push_front(json!({"request_id": id, "model": data["model"],
                    "provider": data["provider"], "status": data["status"], "ttft_ms": data["ttftMs"],
                    "duration_ms": data["durationMs"], "error": data["error"], "ended_at": at}));
                self.finished.truncate(KEPT);
            }
            "provider:breaker_opened" => drop(self.broken.insert(target(data))),
            "provider:breaker_closed" => {
                self.broken.remove(&target(data));
                // A model that serves shows that its provider does.
                self.broken.remove(&words::at(data, "/provider"));
            }
            "events:lost" => self.is_behind = true,
            _ => {}
        }
    }

    /// All of it, for programs.
    pub(super) fn snapshot(&self, now: i64) -> Value {
        let finished: Vec<&Value> = self.finished.iter().take(LISTED).collect();
        json!({"at": now, "breakers_open": self.broken, "url": self.url, "running": self.aged(now), "finished": finished,
            "requests_per_second": self.rate(now), "errors_last_minute": self.errors(now), "supervision": self.tree})
    }

    /// For people, in lines of at most `columns`.
    pub(super) fn text(&self, now: i64, columns: Option<usize>, console: &Console) -> String {
        self.told(now, columns, LISTED, LISTED, console)
    }

    /// For a terminal of this size.
    pub(super) fn picture(
        &self,
        now: i64,
        size: Size,
        is_paused: bool,
        console: &Console,
    ) -> String {
        // The heading, three tables' own headings, the keys, and a blank line before all but the first.
        let fixed = 9 + self.actors().len() + usize::from(!self.broken.is_empty());
        let room = size.rows.saturating_sub(fixed).max(2);
        let running = self.running.len().clamp(1, room / 2);
        let finished = room - running;
        let mut text = self.told(now, Some(size.columns), running, finished, console);
        let state = match (is_paused, self.is_reached) {
            (true, _) => "  paused",
            (false, false) => "  the gateway does not answer; trying again",
            (false, true) => "",
        };
        let shown: Vec<&str> = text.lines().take(size.rows.saturating_sub(2)).collect();
        text = shown.join("\n");
        text.push_str("\n\nq quit  p pause");
        text.push_str(state);
        text
    }

    fn told(
        &self,
        now: i64,
        columns: Option<usize>,
        running: usize,
        finished: usize,
        console: &Console,
    ) -> String {
        let draw = |rows: &[Value], columns_of| {
            Table::of(rows, columns_of).render(columns, console.colour())
        };
        let (all, rate, errors) = (self.aged(now), self.rate(now), self.errors(now));
        let running: Vec<Value> = all.iter().take(running).cloned().collect();
        let ended = self.finished.iter().take(finished).map(|row| {
            let mut row = row.clone();
            row["ago_ms"] = (now - row["ended_at"].as_i64().unwrap_or(now))
                .max(0)
                .into();
            row
        });
        let finished: Vec<Value> = ended.collect();
        format!(
            "qwarden {}  running {}  requests/s {rate:.1}  errors/min {errors}\n{}\n{}\n{}\n{}",
            words::one_line(&self.url),
            all.len(),
            self.ailing(columns),
            draw(&running, RUNNING),
            draw(&finished, FINISHED),
            draw(&self.actors(), ACTORS)
        )
    }

    /// A line of what is left alone; nothing when all is well.
    fn ailing(&self, columns: Option<usize>) -> String {
        if self.broken.is_empty() {
            return String::new();
        }
        let names: Vec<&str> = self.broken.iter().map(String::as_str).collect();
        let line = words::one_line(&format!("breakers open: {}", names.join(", ")));
        let mut line: String = line.chars().take(columns.unwrap_or(usize::MAX)).collect();
        line.push('\n');
        line
    }

    fn aged(&self, now: i64) -> Vec<Value> {
        let aged = self.running.iter().map(|row| {
            let mut row = row.clone();
            row["age_ms"] = (now - row["since"].as_i64().unwrap_or(now)).max(0).into();
            row
        });
        aged.collect()
    }

    fn since(&self, from: i64) -> impl Iterator<Item = &Value> {
        self.finished
            .iter()
            .filter(move |row| row["ended_at"].as_i64() > Some(from))
    }

    /// Exchanges that ended per second, of the last ten.
    fn rate(&self, now: i64) -> f64 {
        let ended = u32::try_from(self.since(now - RATE_MS).count()).unwrap_or(u32::MAX);
        f64::from(ended) / 10.0
    }

    fn errors(&self, now: i64) -> usize {
        self.since(now - MINUTE_MS)
            .filter(|row| row["status"] == "failed")
            .count()
    }

    /// The tree as rows; what is below another is marked.
    fn actors(&self) -> Vec<Value> {
        let mut rows = Vec::new();
        if self.tree.is_object() {
            flatten(&self.tree, 0, &mut rows);
        }
        rows
    }
}

/// What an event of a breaker is about.
fn target(data: &Value) -> String {
    match data["model"].as_str() {
        Some(model) => format!("{}/{model}", words::at(data, "/provider")),
        None => words::at(data, "/provider"),
    }
}

/// The providers and models whose breakers the gateway's health calls open.
fn broken(health: &Value) -> impl Iterator<Item = String> {
    let is_open = |node: &Value| {
        node["breaker"]
            .as_str()
            .is_some_and(|word| word != "closed")
    };
    let providers = health["providers"].as_object().into_iter().flatten();
    providers.flat_map(move |(id, provider)| {
        let models = provider["models"].as_array().into_iter().flatten();
        let models = models.filter(move |model| is_open(model));
        let models = models.map(move |model| format!("{id}/{}", words::at(model, "/model")));
        let own = is_open(provider).then(|| id.clone());
        own.into_iter().chain(models)
    })
}

fn flatten(node: &Value, depth: usize, rows: &mut Vec<Value>) {
    let mut row = node.clone();
    let name = node["name"].as_str().unwrap_or_default();
    row["name"] = format!("{}{name}", "· ".repeat(depth)).into();
    if let Some(row) = row.as_object_mut() {
        row.remove("children");
    }
    rows.push(row);
    for child in node["children"].as_array().into_iter().flatten() {
        flatten(child, depth + 1, rows);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view() -> View {
        let mut view = View::new("http://x".into());
        view.tree = json!({"name": "root", "state": "running", "restarts": 0, "mailbox_depth": 0, "messages_handled": 1,
            "children": [{"name": "router", "state": "melted", "restarts": 7, "mailbox_depth": 3, "messages_handled": 9,
            "last_failure": {"reason": "why\nnot"}}]});
        view
    }

    fn begun(id: &str) -> Value {
        json!({"requestId": id, "model": "m", "path": "/p", "at": 1_000})
    }

    fn done(id: &str, status: &str, at: i64) -> Value {
        json!({"requestId": id, "model": "m", "provider": "lab", "status": status, "durationMs": 20, "ttftMs": 5, "at": at})
    }

    #[test]
    fn what_started_and_did_not_end_runs() {
        let mut view = view();
        view.runs(&json!({"requests": [{"request_id": "b", "timestamp": 900}, {"request_id": "a", "timestamp": 800}]}));
        // Both are heard again: the list and the events overlap.
        view.hear("request:started", &begun("b"), 0);
        view.hear("request:started", &begun("c"), 0);
        view.hear(
            "request:attempted",
            &json!({"requestId": "c", "provider": "lab"}),
            0,
        );
        view.hear("request:completed", &done("a", "completed", 2_000), 0);
        view.hear("request:completed", &done("a", "completed", 2_000), 0);
        let shown = view.snapshot(3_000);
        let running = shown["running"].as_array().unwrap();
        let running: Vec<_> = running
            .iter()
            .map(|row| (&row["request_id"], &row["provider"], &row["age_ms"]))
            .collect();
        assert_eq!(
            running,
            [
                (&json!("b"), &json!(null), &json!(2_100)),
                (&json!("c"), &json!("lab"), &json!(2_000))
            ]
        );
        assert_eq!(shown["finished"].as_array().unwrap().len(), 1);
        assert!(!view.is_behind);
        view.hear("events:lost", &json!({"lost": 5}), 0);
        assert!(view.is_behind);
    }

    #[test]
    fn numbers_are_of_the_last_seconds() {
        let mut view = view();
        for (id, status, at) in [
            ("a", "completed", 1_000),
            ("b", "failed", 58_000),
            ("c", "failed", 65_000),
            ("d", "client_closed", 66_000),
        ] {
            view.hear("request:completed", &done(id, status, at), 0);
        }
        let shown = view.snapshot(67_000);
        assert_eq!(shown["requests_per_second"], 0.3);
        assert_eq!(shown["errors_last_minute"], 2);
        assert_eq!(shown["finished"][0]["request_id"], "d");
        let later = view.snapshot(200_000);
        assert_eq!(
            (&later["requests_per_second"], &later["errors_last_minute"]),
            (&json!(0.0), &json!(0))
        );
    }

    #[test]
    fn a_picture_fits_its_terminal() {
        let mut view = view();
        for number in 0..50 {
            view.hear("request:started", &begun(&format!("r{number}")), 0);
            view.hear(
                "request:completed",
                &done(&format!("d{number}"), "failed", 1_000),
                0,
            );
        }
        let console = Console::new(false, false);
        for (columns, rows) in [(100, 24), (80, 10), (80, 4), (200, 60)] {
            let picture = view.picture(2_000, Size { columns, rows }, true, &console);
            let lines: Vec<&str> = picture.lines().collect();
            assert!(lines.len() <= rows, "{rows}: {picture}");
            assert!(
                picture.contains("running 50") && picture.ends_with("paused"),
                "{picture}"
            );
            if rows >= 24 {
                assert!(
                    lines.iter().all(|line| line.chars().count() <= columns),
                    "{picture}"
                );
                assert!(
                    picture.contains("· router") && picture.contains("why not"),
                    "{picture}"
                );
            }
        }
    }
}
