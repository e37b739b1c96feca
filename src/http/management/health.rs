//! `/api/health`: whether the gateway lives, is ready, and what ails it.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use hyper::StatusCode;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::actors::credentials::LoginState;
use crate::actors::vitals::{Failure, Life};
use crate::clock::{now_ms, rfc3339};
use crate::http::management::providers::shape::{ModelHealth, NodeHealth};
use crate::http::management::proxy;
use crate::http::{App, Integrity};
use crate::limits::management::READY_DEADLINE;

pub(crate) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(about))
        .routes(routes!(health))
        .routes(routes!(live))
        .routes(routes!(ready))
}

/// What this is, and where to look.
#[derive(Serialize, ToSchema)]
struct About {
    name: &'static str,
    version: &'static str,
    /// Everything else is described there.
    endpoints: Endpoints,
}

/// Where to begin.
#[derive(Serialize, ToSchema)]
struct Endpoints {
    description: &'static str,
    documentation: &'static str,
    health: &'static str,
    events: &'static str,
    proxy: &'static str,
    providers: &'static str,
}

/// How the gateway does.
#[derive(Serialize, ToSchema)]
#[schema(as = HealthReport)]
struct Report {
    /// `ok` or `degraded`.
    status: &'static str,
    service: &'static str,
    /// RFC 3339.
    timestamp: String,
    version: &'static str,
    /// Seconds.
    uptime: u64,
    checks: Checks,
    /// The enabled ones, by id.
    providers: BTreeMap<String, ProviderDoing>,
    /// By name.
    actors: BTreeMap<&'static str, ActorDoing>,
    /// Background work, by name.
    tasks: BTreeMap<&'static str, usize>,
}

/// What is checked.
#[derive(Serialize, ToSchema)]
#[schema(as = HealthChecks)]
struct Checks {
    db: DatabaseCheck,
    /// `ok`, `stopped`, or what its listener is about.
    router: &'static str,
    qwen: &'static str,
    /// The state of the best login, `missing` or `unavailable`.
    credentials: &'static str,
    /// Where clients of other users of this machine need a token: `management`, `all`, `off`, or `unreadable` where the
    /// system does not tell whose a connection is.
    same_user: &'static str,
}

/// The database, and the check of its file.
#[derive(Serialize, ToSchema)]
struct DatabaseCheck {
    #[serde(flatten)]
    health: crate::actors::database::Health,
    integrity: Integrity,
}

/// How a provider and its models do.
#[derive(Serialize, ToSchema)]
struct ProviderDoing {
    #[serde(flatten)]
    node: NodeHealth,
    models: Vec<ModelHealth>,
}

/// How an actor does.
#[derive(Serialize, ToSchema)]
struct ActorDoing {
    state: Life,
    restarts: u64,
    last_failure: Option<Failure>,
}

/// That it lives.
#[derive(Serialize, ToSchema)]
struct Alive {
    status: &'static str,
}

/// Whether it is ready.
#[derive(Serialize, ToSchema)]
struct Readiness {
    /// `ready` or `not_ready`.
    status: &'static str,
    reasons: Vec<String>,
}

/// What is served here.
#[utoipa::path(get, path = "/", tag = "health",
    responses((status = 200, body = About)))]
async fn about() -> Json<About> {
    Json(About {
        name: "qwarden management",
        version: env!("CARGO_PKG_VERSION"),
        endpoints: Endpoints {
            description: "GET /api/openapi.json",
            documentation: "GET /api/docs",
            health: "GET /api/health, /api/health/live, /api/health/ready",
            events: "GET /api/events",
            proxy: "GET /api/proxy/status, POST /api/proxy/start, POST /api/proxy/stop",
            providers: "GET, POST /api/providers, GET, PUT, DELETE /api/providers/{id}",
        },
    })
}

/// Always 200 while the process serves; `status` says how well.
#[utoipa::path(get, path = "/api/health", tag = "health",
    responses((status = 200, body = Report)))]
async fn health(State(app): State<App>) -> Json<Report> {
    let database = app.handles.database.health();
    let integrity = app.integrity.borrow().clone();
    let logins = app.handles.credentials.all().await;
    let mut actors = BTreeMap::new();
    let mut all_run = true;
    for vitals in app.handles.supervision.vitals() {
        let life = vitals.life();
        all_run &= life == Life::Running || vitals.name.starts_with("listener-");
        let doing = ActorDoing {
            state: life,
            restarts: vitals.restarts(),
            last_failure: vitals.last_failure(),
        };
        actors.insert(vitals.name, doing);
    }
    let sound = !matches!(integrity, Integrity::Damaged(_));
    let is_ok = all_run && sound && database.status == "ok";
    let (router, qwen) = proxy::checks(&app);
    Json(Report {
        status: if is_ok { "ok" } else { "degraded" },
        service: "api-server",
        timestamp: rfc3339(now_ms()),
        version: env!("CARGO_PKG_VERSION"),
        uptime: app.started.elapsed().as_secs(),
        checks: Checks {
            db: DatabaseCheck {
                health: database,
                integrity,
            },
            router,
            qwen,
            credentials: match logins.as_deref() {
                Ok([]) => "missing",
                // The best of them decides.
                Ok(logins) => logins
                    .iter()
                    .map(|login| login.state)
                    .min_by_key(|state| !state.is_usable())
                    .map_or("missing", LoginState::as_str),
                Err(_) => "unavailable",
            },
            same_user: app.gate.users.checked(&app.settings.borrow()),
        },
        providers: providers(&app),
        actors,
        tasks: app.tasks.running(),
    })
}

/// How the enabled providers do, by id.
fn providers(app: &App) -> BTreeMap<String, ProviderDoing> {
    let doing = app.handles.router.doing().into_iter();
    let shown = doing.map(|(id, doing)| {
        let shown = ProviderDoing {
            node: NodeHealth::from(&doing.provider),
            models: ModelHealth::of(&doing),
        };
        (id, shown)
    });
    shown.collect()
}

/// The process answers.
#[utoipa::path(get, path = "/api/health/live", tag = "health",
    responses((status = 200, body = Alive)))]
async fn live() -> Json<Alive> {
    Json(Alive { status: "ok" })
}

/// 200 when a completion would be served and its history kept, else 503 with the reasons. The root supervisor, the database
/// writer and the ports are asked, the ports over loopback.
#[utoipa::path(get, path = "/api/health/ready", tag = "health",
    responses((status = 200, body = Readiness), (status = 503, body = Readiness)))]
async fn ready(State(app): State<App>) -> (StatusCode, Json<Readiness>) {
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
    let faults = app.pulse.faults(READY_DEADLINE).await.into_iter();
    reasons.extend(faults.map(|fault| fault.reason));
    for port in app
        .handles
        .gateway
        .ports()
        .iter()
        .filter(|port| !port.is_on())
    {
        reasons.push(format!("the {} is stopped", port.name));
    }
    let (code, status) = if reasons.is_empty() {
        (StatusCode::OK, "ready")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "not_ready")
    };
    (code, Json(Readiness { status, reasons }))
}
