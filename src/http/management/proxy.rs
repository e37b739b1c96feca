//! `/api/proxy`: starting, stopping and seeing the gateway's ports.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use hyper::StatusCode;
use serde::Serialize;
use serde_json::{Value, json};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::actors::address::Unavailable;
use crate::actors::gateway::Started;
use crate::actors::ports::Port;
use crate::actors::vitals::{Life, Vitals};
use crate::db::models::{self, ModelRow};
use crate::http::App;
use crate::http::error::ApiError;
use crate::http::management::changes::{self, Kept};
use crate::http::management::providers::shape::Provider;
use crate::http::params::Params;

/// What a stop allows open requests unless told otherwise, and the most it can be told (ms).
const STOP_GRACE: i64 = 2_000;
const LONGEST_GRACE: i64 = 600_000;
/// The names under which the two are known to clients, and the actors that serve them.
const ROUTER: (&str, &str) = ("providerRouter", "listener-router");
const QWEN: (&str, &str) = ("qwenProxy", "listener-qwen");

pub(crate) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(start))
        .routes(routes!(stop))
        .routes(routes!(status))
}

/// The contract's object S. Of all fields those that were asked for.
#[derive(Serialize, ToSchema)]
#[schema(as = ProxyStatus)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Standing {
    /// `running`, `partial`, `stopped`, or `starting` where a start is under way.
    #[schema(required = false)]
    status: &'static str,
    #[schema(required = false)]
    provider_router: Service,
    #[schema(required = false)]
    qwen_proxy: Service,
    /// Runs only where `ollama.port` says so.
    #[schema(required = false)]
    ollama: Service,
    #[schema(required = false)]
    providers: ProvidersNow,
    #[schema(required = false)]
    models: ModelsNow,
    #[schema(required = false)]
    credentials: CredentialsNow,
    /// There is no extension.
    #[schema(required = false)]
    extension_connected: bool,
    #[schema(required = false)]
    message: &'static str,
    /// Of a start and a stop.
    #[serde(skip_serializing_if = "Option::is_none")]
    success: Option<bool>,
    /// Of a stop: requests that finished within the grace.
    #[serde(skip_serializing_if = "Option::is_none")]
    drained: Option<usize>,
    /// Of a stop: requests that were ended with an error.
    #[serde(skip_serializing_if = "Option::is_none")]
    aborted: Option<usize>,
}

/// One of the gateway's ports.
#[derive(Serialize, ToSchema)]
#[schema(as = ProxyService)]
struct Service {
    /// Its listener lives, and it answers when it is called.
    running: bool,
    port: u16,
    pid: Option<u32>,
    /// Seconds.
    uptime: u64,
    /// Unix time, ms.
    started_at: Option<i64>,
    /// The listener's life.
    #[schema(value_type = Option<String>)]
    state: Option<Life>,
    restarts: u64,
    last_error: Option<String>,
    /// Completions that are being served.
    in_flight: usize,
}

/// The providers there are.
#[derive(Serialize, ToSchema)]
pub(crate) struct ProvidersNow {
    items: Vec<Provider>,
    total: usize,
    enabled: usize,
}

/// The models there are.
#[derive(Serialize, ToSchema)]
pub(crate) struct ModelsNow {
    items: Vec<ModelRow>,
    total: usize,
}

/// Whether a login can be used.
#[derive(Serialize, ToSchema)]
pub(crate) struct CredentialsNow {
    valid: bool,
    /// Unix seconds.
    #[serde(rename = "expiresAt")]
    expires_at: Option<i64>,
}

/// Opens the ports; answers when they are bound. 202 when that takes longer, as while a stop waits for requests.
#[utoipa::path(post, path = "/api/proxy/start", tag = "proxy",
    responses((status = 200, body = Standing), (status = 202, body = Standing)))]
async fn start(State(app): State<App>) -> Result<(StatusCode, Json<Standing>), ApiError> {
    let was_running = app.handles.gateway.ports().iter().all(|port| port.is_on());
    if !was_running {
        tell_lifecycle(&app, "starting");
    }
    let started = match app.handles.gateway.start().await {
        Ok(started) => started,
        // It is heard, and carried out as soon as what is under way is over.
        Err(Unavailable::Deadline { .. }) => {
            let body = Standing {
                status: "starting",
                message: "Proxy servers are starting",
                success: Some(true),
                ..standing(&app).await?
            };
            return Ok((StatusCode::ACCEPTED, Json(body)));
        }
        Err(unavailable) => return Err(unavailable.into()),
    };
    let started = match started {
        Ok(started) => started,
        Err(taken) => {
            tell_lifecycle(&app, "error");
            return Err(ApiError::PortTaken(taken));
        }
    };
    let mut body = standing(&app).await?;
    body.success = Some(true);
    if started == Started::Already {
        body.message = "Proxy servers are already running";
    } else {
        keep(&app, "started", "stopped", "running").await;
        publish(&app, "started", "gateway started");
    }
    Ok((StatusCode::OK, Json(body)))
}

/// Closes the ports; open requests may finish.
#[utoipa::path(post, path = "/api/proxy/stop", tag = "proxy",
    params(("drain_ms" = Option<i64>, Query, minimum = 0, maximum = 600_000, description = "How long open requests may take")),
    responses((status = 200, body = Standing)))]
async fn stop(State(app): State<App>, params: Params) -> Result<Json<Standing>, ApiError> {
    let grace = params
        .integer("drain_ms", "invalid_drain_ms", 0, LONGEST_GRACE)?
        .unwrap_or(STOP_GRACE);
    let grace = Duration::from_millis(grace.unsigned_abs());
    tell_lifecycle(&app, "stopping");
    let drained = app.handles.gateway.stop(grace).await?;
    tell_lifecycle(&app, "stopped");
    keep(&app, "stopped", "running", "stopped").await;
    publish(&app, "stopped", "gateway stopped");
    Ok(Json(Standing {
        success: Some(true),
        message: "Proxy servers stopped successfully",
        drained: Some(drained.drained),
        aborted: Some(drained.aborted),
        ..standing(&app).await?
    }))
}

/// Its row in the audit log.
async fn keep(app: &App, action: &'static str, before: &str, after: &str) {
    let kept = Kept {
        entity: "proxy",
        id: "gateway",
        action,
        before: Some(json!({"status": before})),
        after: Some(json!({"status": after})),
    };
    changes::keep(app, kept).await;
}

/// Whether the ports serve, and what there is to serve.
#[utoipa::path(get, path = "/api/proxy/status", tag = "proxy",
    params(("fields" = Option<String>, Query, description = "Only these fields, by comma")),
    responses((status = 200, body = Standing)))]
async fn status(State(app): State<App>, params: Params) -> Result<Json<Value>, ApiError> {
    let mut body = json!(standing(&app).await?);
    if let (Some(fields), Some(body)) = (params.text("fields"), body.as_object_mut()) {
        let wanted: Vec<_> = fields.split(',').map(str::trim).collect();
        body.retain(|key, _| wanted.contains(&key.as_str()));
    }
    Ok(Json(body))
}

/// The state is added when it is told: it is the state of that moment, and the log need not hold it.
fn publish(app: &App, action: &'static str, description: &str) {
    app.handles.events.publish(
        "proxy:status",
        action,
        description.to_owned(),
        json!({"status": action}),
    );
}

/// That both are on their way. What their listeners do by themselves is told by whoever watches them.
fn tell_lifecycle(app: &App, state: &'static str) {
    for (process, port) in [(ROUTER.0, &app.router_port), (QWEN.0, &app.qwen_port)] {
        let detail = json!({"lifecycle": {
            "process": process,
            "state": state,
            "port": port.address().port(),
            "running": false,
            "error": null,
        }});
        let description = format!("{process} is {state}");
        app.handles
            .events
            .mention("lifecycle:update", state, description, detail);
    }
}

/// The contract's object S.
pub(crate) async fn standing(app: &App) -> Result<Standing, ApiError> {
    let (provider_router, qwen_proxy, ollama) = tokio::join!(
        service(app, &app.router_port, ROUTER.1),
        service(app, &app.qwen_port, QWEN.1),
        service(app, &app.ollama_port, "listener-ollama")
    );
    let (status, message) = match (provider_router.running, qwen_proxy.running) {
        (true, true) => ("running", "All proxy servers are running"),
        (false, false) => ("stopped", "Proxy servers are not running"),
        _ => ("partial", "Some proxy servers are running"),
    };
    Ok(Standing {
        status,
        provider_router,
        qwen_proxy,
        ollama,
        providers: providers_now(app).await?,
        models: models_now(app).await?,
        credentials: credentials_now(app).await?,
        extension_connected: false,
        message,
        success: None,
        drained: None,
        aborted: None,
    })
}

pub(crate) async fn providers_now(app: &App) -> Result<ProvidersNow, ApiError> {
    let views = app.handles.router.providers().await?;
    let items: Vec<_> = views
        .iter()
        .map(|view| Provider::from(&view.stored.provider))
        .collect();
    Ok(ProvidersNow {
        total: items.len(),
        enabled: items.iter().filter(|provider| provider.enabled).count(),
        items,
    })
}

pub(crate) async fn models_now(app: &App) -> Result<ModelsNow, ApiError> {
    let items = app.handles.database.read(models::all).await?;
    Ok(ModelsNow {
        total: items.len(),
        items,
    })
}

pub(crate) async fn credentials_now(app: &App) -> Result<CredentialsNow, ApiError> {
    let logins = app.handles.credentials.all().await?;
    let latest = logins.iter().filter_map(|login| login.expires_at).max();
    Ok(CredentialsNow {
        valid: logins.iter().any(|login| login.state.is_usable()),
        expires_at: latest.map(|at| at.div_euclid(1_000)),
    })
}

async fn service(app: &App, port: &Port, listener: &str) -> Service {
    let vitals = vitals(app, listener);
    let since = port.opened_since();
    let lives = since.is_some() && vitals.is_some_and(|vitals| vitals.life() == Life::Running);
    let running = lives && port.answers().await;
    Service {
        running,
        port: port.address().port(),
        pid: running.then(std::process::id),
        uptime: since
            .filter(|_| running)
            .map_or(0, |since| since.elapsed().as_secs()),
        started_at: port.opened_at().filter(|_| running),
        state: vitals.map(|vitals| vitals.life()),
        restarts: vitals.map_or(0, |vitals| vitals.restarts()),
        last_error: vitals
            .and_then(|vitals| Vitals::last_failure(vitals))
            .map(|failure| failure.reason),
        in_flight: port.in_flight(),
    }
}

/// In a word how the router and the Qwen proxy do, by their listeners.
pub(crate) fn checks(app: &App) -> (&'static str, &'static str) {
    let check = |port: &Arc<Port>, listener| match vitals(app, listener).map(|one| one.life()) {
        _ if port.opened_since().is_none() => "stopped",
        Some(Life::Running) => "ok",
        Some(Life::Starting) => "starting",
        Some(Life::Restarting) => "restarting",
        Some(Life::Melted) => "failing",
        Some(Life::Stopped) | None => "stopped",
    };
    (
        check(&app.router_port, ROUTER.1),
        check(&app.qwen_port, QWEN.1),
    )
}

fn vitals<'a>(app: &'a App, listener: &str) -> Option<&'a Arc<Vitals>> {
    let mut all = app.handles.supervision.vitals();
    all.find(|vitals| vitals.name == listener)
}
