//! What Prometheus reads: counts of this process since its start, and the state of the moment (management contract, 2.2).

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use hyper::Method;
use hyper::header::CONTENT_TYPE;

use crate::actors::ports::PROBED;
use crate::http::App;
use crate::http::error::ApiError;
use crate::sink;
use crate::tasks::lock;

/// Upper bounds in seconds: a chat may take long.
const BOUNDS: [f64; 10] = [0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];
/// The pages that have a name of their own. Everything else is counted together: paths are the client's to make up.
const PATHS: [&str; 6] = [
    "/",
    "/health",
    "/health/detailed",
    "/metrics",
    "/v1/models",
    "/v1/chat/completions",
];
/// What `/api/...` is counted by.
const RESOURCES: [&str; 16] = [
    "/api/activity",
    "/api/auth",
    "/api/backup",
    "/api/cache",
    "/api/events",
    "/api/health",
    "/api/import",
    "/api/keys",
    "/api/models",
    "/api/providers",
    "/api/proxy",
    "/api/qwen",
    "/api/requests",
    "/api/responses",
    "/api/sessions",
    "/api/settings",
];
const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The requests so far. Cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct Metrics(Arc<Mutex<BTreeMap<Labels, Series>>>);

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Labels {
    port: &'static str,
    method: &'static str,
    path: &'static str,
    status: u16,
}

#[derive(Clone, Copy, Default)]
struct Series {
    count: u64,
    seconds: f64,
    /// How many were not above each of [`BOUNDS`].
    within: [u64; BOUNDS.len()],
}

/// What the layer of one port counts for.
#[derive(Clone)]
pub(crate) struct Observed {
    pub(crate) port: &'static str,
    pub(crate) metrics: Metrics,
}

/// The layer: counts a request when the head of its answer goes out.
pub(crate) async fn observe(
    State(observed): State<Observed>,
    request: Request,
    next: Next,
) -> Response {
    let (method, path) = (
        method_label(request.method()),
        path_label(request.uri().path()),
    );
    let Some(path) = path else {
        return next.run(request).await;
    };
    let began = Instant::now();
    let response = next.run(request).await;
    let labels = Labels {
        port: observed.port,
        method,
        path,
        status: response.status().as_u16(),
    };
    observed.metrics.count(labels, began.elapsed());
    response
}

impl Metrics {
    fn count(&self, labels: Labels, took: Duration) {
        let seconds = took.as_secs_f64();
        let mut all = lock(&self.0);
        let series = all.entry(labels).or_default();
        series.count += 1;
        series.seconds += seconds;
        for (within, bound) in series.within.iter_mut().zip(BOUNDS) {
            *within += u64::from(seconds <= bound);
        }
    }
}

/// None for the gateway's own question whether a port answers.
fn path_label(path: &str) -> Option<&'static str> {
    if path == PROBED {
        return None;
    }
    let exact = PATHS.iter().find(|known| **known == path);
    let below = |known: &&&str| {
        path.strip_prefix(**known)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    let label = exact.or_else(|| RESOURCES.iter().find(below));
    Some(
        label
            .copied()
            .unwrap_or(if path.starts_with("/v1/models/") {
                "/v1/models/{id}"
            } else {
                "other"
            }),
    )
}

fn method_label(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        Method::HEAD => "HEAD",
        Method::OPTIONS => "OPTIONS",
        _ => "other",
    }
}

/// `GET /metrics` of :3000 and :3002.
pub(crate) async fn show(State(app): State<App>) -> Result<Response, ApiError> {
    let sessions = app.handles.sessions.active().await?;
    let text = rendered(&app, sessions);
    Ok(([(CONTENT_TYPE, TEXT)], text).into_response())
}

fn rendered(app: &App, sessions: i64) -> String {
    let mut page = Page::default();
    let all = lock(&app.metrics.0).clone();
    page.head("http_requests_total", "counter", "Requests answered.");
    for (labels, series) in &all {
        page.line("http_requests_total", &labels.text(), series.count);
    }
    let name = "http_request_duration_seconds";
    page.head(
        name,
        "histogram",
        "Time until the head of the answer went out.",
    );
    for (labels, series) in &all {
        let labels = labels.text();
        for (bound, within) in BOUNDS.iter().zip(series.within) {
            page.line(
                &format!("{name}_bucket"),
                &format!("{labels},le=\"{bound}\""),
                within,
            );
        }
        page.line(
            &format!("{name}_bucket"),
            &format!("{labels},le=\"+Inf\""),
            series.count,
        );
        page.line(&format!("{name}_sum"), &labels, series.seconds);
        page.line(&format!("{name}_count"), &labels, series.count);
    }
    let site = app.qwen.calls();
    page.head(
        "qwen_api_calls_total",
        "counter",
        "Requests to the Qwen site.",
    );
    for ((endpoint, status), count) in &site.calls {
        let labels = format!("endpoint=\"{endpoint}\",status=\"{status}\"");
        page.line("qwen_api_calls_total", &labels, count);
    }
    let name = "qwen_api_errors_total";
    page.head(name, "counter", "Requests to the Qwen site that failed.");
    for (error, count) in &site.errors {
        page.line(name, &format!("error_type=\"{error}\""), count);
    }
    page.one(
        "active_sessions",
        "gauge",
        "Qwen conversations that can go on.",
        sessions,
    );
    let name = "streaming_connections_active";
    page.head(name, "gauge", "Completions that are being served.");
    for (port, ours) in [("router", &app.router_port), ("qwen", &app.qwen_port)] {
        page.line(name, &format!("port=\"{port}\""), ours.in_flight());
    }
    let name = "qwarden_actor_restarts_total";
    page.head(name, "counter", "Restarts of an actor.");
    for vitals in app.handles.supervision.vitals() {
        let labels = format!("actor=\"{}\"", vitals.name);
        page.line(name, &labels, vitals.restarts());
    }
    let database = app.handles.database.health();
    let name = "qwarden_database_commits_total";
    page.one(
        name,
        "counter",
        "Transactions that were committed.",
        database.commits,
    );
    let name = "qwarden_database_queued";
    page.one(name, "gauge", "Writes that wait.", database.queued);
    let name = "qwarden_history_dropped_total";
    page.one(
        name,
        "counter",
        "History rows that could not be kept.",
        database.log_dropped_total,
    );
    let name = "qwarden_log_lines_dropped_total";
    page.one(
        name,
        "counter",
        "Log lines that found no room: what takes the log took none.",
        sink::dropped(),
    );
    let name = "process_uptime_seconds";
    page.one(
        name,
        "gauge",
        "Since the start.",
        app.started.elapsed().as_secs_f64(),
    );
    if let Some(bytes) = resident_bytes() {
        let name = "process_resident_memory_bytes";
        page.one(name, "gauge", "Memory in use.", bytes);
    }
    page.0
}

/// Where the system tells it.
pub(crate) fn resident_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kib * 1_024)
}

/// The text, line by line.
#[derive(Default)]
struct Page(String);

impl Page {
    fn head(&mut self, name: &str, kind: &str, help: &str) {
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    fn line(&mut self, name: &str, labels: &str, value: impl std::fmt::Display) {
        let _ = writeln!(self.0, "{name}{{{labels}}} {value}");
    }

    /// A value without labels.
    fn one(&mut self, name: &str, kind: &str, help: &str, value: impl std::fmt::Display) {
        self.head(name, kind, help);
        let _ = writeln!(self.0, "{name} {value}");
    }
}

impl Labels {
    fn text(&self) -> String {
        let Self {
            port,
            method,
            path,
            status,
        } = self;
        format!("port=\"{port}\",method=\"{method}\",path=\"{path}\",status=\"{status}\"")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn made_up_paths_are_counted_together() {
        for (path, label) in [
            ("/", Some("/")),
            ("/v1/models", Some("/v1/models")),
            ("/v1/models/a/b", Some("/v1/models/{id}")),
            ("/api/providers/p1/config", Some("/api/providers")),
            ("/api/providersx", Some("other")),
            ("/made/up", Some("other")),
            (PROBED, None),
        ] {
            assert_eq!(path_label(path), label, "{path}");
        }
    }
}
