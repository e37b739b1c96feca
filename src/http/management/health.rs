//! `/api/health`: whether the gateway lives, is ready, and what ails it.

use axum::Json;
use axum::extract::State;
use hyper::StatusCode;
use serde_json::{Map, Value, json};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::actors::vitals::Life;
use crate::clock::{now_ms, rfc3339};
use crate::http::management::providers::shape::{ModelHealth, NodeHealth};
use crate::http::{App, Integrity};

pub(crate) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(about))
        .routes(routes!(health))
        .routes(routes!(live))
        .routes(routes!(ready))
}

/// What is served here.
#[utoipa::path(get, path = "/", tag = "health",
    responses((status = 200, body = Value)))]
async fn about() -> Json<Value> {
    Json(json!({
        "name": "qwarden management",
        "version": env!("CARGO_PKG_VERSION"),
        "endpoints": {
            "health": "GET /api/health, /api/health/live, /api/health/ready",
            "supervision": "GET /api/supervision, POST /api/supervision/{name}/restart",
            "proxy": "GET /api/proxy/status, POST /api/proxy/start, POST /api/proxy/stop",
            "providers": "GET, POST /api/providers, GET, DELETE /api/providers/{id}",
        },
    }))
}

/// Always 200 while the process serves; `status` says how well.
#[utoipa::path(get, path = "/api/health", tag = "health",
    responses((status = 200, body = Value)))]
async fn health(State(app): State<App>) -> Json<Value> {
    let database = app.handles.database.health();
    let integrity = app.integrity.borrow().clone();
    let logins = app.handles.credentials.all().await;
    let mut actors = Map::new();
    let mut all_run = true;
    for vitals in app.handles.supervision.vitals() {
        let life = vitals.life();
        all_run &= life == Life::Running || vitals.name.starts_with("listener-");
        actors.insert(
            vitals.name.into(),
            json!({"state": life, "restarts": vitals.restarts(), "last_failure": vitals.last_failure()}),
        );
    }
    let sound = !matches!(integrity, Integrity::Damaged(_));
    let status = if all_run && sound && database.status == "ok" {
        "ok"
    } else {
        "degraded"
    };
    let router = app.handles.gateway.ports().iter().all(|port| port.is_on());
    Json(json!({
        "status": status,
        "service": "api-server",
        "timestamp": rfc3339(now_ms()),
        "version": env!("CARGO_PKG_VERSION"),
        "uptime": app.started.elapsed().as_secs(),
        "checks": {
            "db": {"status": database.status, "queued": database.queued, "integrity": integrity,
                   "log_dropped_total": database.log_dropped_total, "commits": database.commits,
                   "commit_waits_expired": database.commit_waits_expired},
            "router": if router { "ok" } else { "stopped" },
            "qwen": if router { "ok" } else { "stopped" },
            "credentials": match logins.as_deref() {
                Ok([]) => json!("missing"),
                // The best of them decides.
                Ok(logins) => json!(logins.iter().map(|login| login.state).min_by_key(|state| !state.is_usable())),
                Err(_) => json!("unavailable"),
            },
        },
        "providers": providers(&app),
        "actors": actors,
        "tasks": app.tasks.running(),
    }))
}

/// How the enabled providers do, by id.
fn providers(app: &App) -> Map<String, Value> {
    let doing = app.handles.router.doing().into_iter();
    let shown = doing.map(|(id, doing)| {
        let mut shown = json!(NodeHealth::from(&doing.provider));
        shown["models"] = json!(ModelHealth::of(&doing));
        (id, shown)
    });
    shown.collect()
}

/// The process answers.
#[utoipa::path(get, path = "/api/health/live", tag = "health",
    responses((status = 200, body = Value)))]
async fn live() -> Json<Value> {
    Json(json!({"status": "ok"}))
}

/// 200 when a completion would be served and its history kept, else 503 with the reasons.
#[utoipa::path(get, path = "/api/health/ready", tag = "health",
    responses((status = 200, body = Value), (status = 503, body = Value)))]
async fn ready(State(app): State<App>) -> (StatusCode, Json<Value>) {
    let mut reasons = Vec::new();
    for vitals in app.handles.supervision.vitals() {
        if matches!(
            vitals.life(),
            Life::Melted | Life::Restarting | Life::Starting
        ) {
            reasons.push(format!("actor {} is not running", vitals.name));
        }
    }
    let database = app.handles.database.health().status;
    if database != "ok" {
        reasons.push(format!("the database refuses writes: {database}"));
    }
    if app.handles.supervision.tree().await.is_err() {
        reasons.push("the root supervisor does not answer".into());
    }
    for port in app
        .handles
        .gateway
        .ports()
        .iter()
        .filter(|port| !port.is_on())
    {
        reasons.push(format!("the {} is stopped", port.name));
    }
    let (status, word) = if reasons.is_empty() {
        (StatusCode::OK, "ready")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "not_ready")
    };
    (status, Json(json!({"status": word, "reasons": reasons})))
}
