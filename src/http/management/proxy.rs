//! `/api/proxy`: starting, stopping and seeing the gateway's ports.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use serde_json::{Map, Value, json};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::actors::gateway::Started;
use crate::actors::ports::Port;
use crate::actors::vitals::{Life, Vitals};
use crate::db::models;
use crate::http::App;
use crate::http::error::ApiError;
use crate::http::management::providers::shape::Provider;
use crate::http::params::Params;

/// What a stop allows open requests unless told otherwise, and the most it can be told (ms).
const STOP_GRACE: i64 = 2_000;
const LONGEST_GRACE: i64 = 600_000;

pub(crate) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(start))
        .routes(routes!(stop))
        .routes(routes!(status))
}

/// Opens the ports; answers when they are bound.
#[utoipa::path(post, path = "/api/proxy/start", tag = "proxy",
    responses((status = 200, body = Value)))]
async fn start(State(app): State<App>) -> Result<Json<Value>, ApiError> {
    let started = app
        .handles
        .gateway
        .start()
        .await?
        .map_err(ApiError::PortTaken)?;
    let mut body = standing(&app).await?;
    body.insert("success".into(), true.into());
    if started == Started::Already {
        body.insert("message".into(), "Proxy servers are already running".into());
    } else {
        app.handles.events.publish(
            "proxy:status",
            "started",
            "gateway started".into(),
            json!({"status": "running"}),
        );
    }
    Ok(Json(Value::Object(body)))
}

/// Closes the ports; open requests may finish.
#[utoipa::path(post, path = "/api/proxy/stop", tag = "proxy",
    params(("drain_ms" = Option<i64>, Query, minimum = 0, maximum = 600_000, description = "How long open requests may take")),
    responses((status = 200, body = Value)))]
async fn stop(State(app): State<App>, params: Params) -> Result<Json<Value>, ApiError> {
    let grace = params
        .integer("drain_ms", "invalid_drain_ms", 0, LONGEST_GRACE)?
        .unwrap_or(STOP_GRACE);
    let grace = Duration::from_millis(grace.unsigned_abs());
    let drained = app.handles.gateway.stop(grace).await?;
    app.handles.events.publish(
        "proxy:status",
        "stopped",
        "gateway stopped".into(),
        json!({"status": "stopped"}),
    );
    let mut body = standing(&app).await?;
    body.insert("success".into(), true.into());
    body.insert(
        "message".into(),
        "Proxy servers stopped successfully".into(),
    );
    body.insert("drained".into(), drained.drained.into());
    body.insert("aborted".into(), drained.aborted.into());
    Ok(Json(Value::Object(body)))
}

/// Whether the ports serve, and what there is to serve.
#[utoipa::path(get, path = "/api/proxy/status", tag = "proxy",
    params(("fields" = Option<String>, Query, description = "Only these fields, by comma")),
    responses((status = 200, body = Value)))]
async fn status(State(app): State<App>, params: Params) -> Result<Json<Value>, ApiError> {
    let mut body = standing(&app).await?;
    if let Some(fields) = params.text("fields") {
        let wanted: Vec<_> = fields.split(',').map(str::trim).collect();
        body.retain(|key, _| wanted.contains(&key.as_str()));
    }
    Ok(Json(Value::Object(body)))
}

/// The contract's object S.
pub(crate) async fn standing(app: &App) -> Result<Map<String, Value>, ApiError> {
    let (router, router_runs) = service(app, &app.router_port, "listener-router");
    let (qwen, qwen_runs) = service(app, &app.qwen_port, "listener-qwen");
    let (ollama, _) = service(app, &app.ollama_port, "listener-ollama");
    let (status, message) = match (router_runs, qwen_runs) {
        (true, true) => ("running", "All proxy servers are running"),
        (false, false) => ("stopped", "Proxy servers are not running"),
        _ => ("partial", "Some proxy servers are running"),
    };
    let views = app.handles.router.providers().await?;
    let models = app.handles.database.read(models::all).await?;
    let logins = app.handles.credentials.all().await?;
    let enabled = views
        .iter()
        .filter(|view| view.stored.provider.enabled)
        .count();
    let providers: Vec<_> = views
        .iter()
        .map(|view| Provider::from(&view.stored.provider))
        .collect();
    let body = json!({
        "status": status,
        "providerRouter": router,
        "qwenProxy": qwen,
        "ollama": ollama,
        "providers": {"total": providers.len(), "enabled": enabled, "items": providers},
        "models": {"total": models.len(), "items": models},
        "credentials": {
            "valid": logins.iter().any(|login| login.state.is_usable()),
            "expiresAt": logins.iter().filter_map(|login| login.expires_at).max().map(|at| at / 1_000),
        },
        "extensionConnected": false,
        "message": message,
    });
    match body {
        Value::Object(body) => Ok(body),
        _ => Err(ApiError::Internal),
    }
}

fn service(app: &App, port: &Port, listener: &str) -> (Value, bool) {
    let vitals = app
        .handles
        .supervision
        .vitals()
        .find(|vitals| vitals.name == listener);
    let since = port.opened_since();
    let running = since.is_some() && vitals.is_some_and(|vitals| vitals.life() == Life::Running);
    let shown = json!({
        "running": running,
        "port": port.address().port(),
        "pid": running.then(std::process::id),
        "uptime": since.filter(|_| running).map_or(0, |since| since.elapsed().as_secs()),
        "state": vitals.map(|vitals| vitals.life()),
        "restarts": vitals.map_or(0, |vitals| vitals.restarts()),
        "last_error": vitals.and_then(|vitals| Vitals::last_failure(vitals)).map(|failure| failure.reason),
        "in_flight": port.in_flight(),
    });
    (shown, running)
}
