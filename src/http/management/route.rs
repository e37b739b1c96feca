//! `POST /api/route/explain`: where a completion would go, and why, without sending anything.

use axum::Json;
use axum::extract::{Request, State};
use serde::Serialize;
use tokio::time::Instant;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::actors::router::plan::{RoutePlan, closed_words};
use crate::actors::router::target::Target;
use crate::clock::now_ms;
use crate::exchange;
use crate::http::App;
use crate::http::completions::chat;
use crate::http::error::ApiError;
use crate::http::extract;
use crate::http::params::Params;
use crate::protocol::openai::request;
use crate::routing::needs::Needs;
use crate::routing::node::Closed;
use crate::routing::order::Ranked;
use crate::settings;

pub(crate) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(explain))
}

/// Where a request would go now.
#[derive(Serialize, ToSchema)]
struct Explanation {
    /// What the request names.
    model: Option<String>,
    /// The name that was looked up: the default's when the request names none.
    resolved: String,
    /// The virtual model that stands for the targets.
    via: Option<String>,
    strategy: &'static str,
    /// Nobody lists the model: these providers never told what they have.
    is_guess: bool,
    /// Whether another target is tried when one fails.
    fallbacks: bool,
    /// Attempts at all targets together, at most.
    attempts: i64,
    needs: ShownNeeds,
    /// In the order to try.
    targets: Vec<Planned>,
    /// Those that are not tried now; one that opens while the request waits is.
    skipped: Vec<Skipped>,
}

/// What the request needs of a model.
#[derive(Serialize, ToSchema)]
#[schema(as = Needs)]
struct ShownNeeds {
    tools: bool,
    vision: bool,
    structured: bool,
    estimated_tokens: u64,
}

/// A target that would be tried.
#[derive(Serialize, ToSchema)]
#[schema(as = PlannedTarget)]
struct Planned {
    /// `provider/model`.
    target: String,
    provider: String,
    model: String,
    /// From 1.
    place: usize,
    reason: String,
    weight: u32,
    in_flight: u32,
    /// To the first content; null when nothing is known.
    latency_ms: Option<f64>,
    /// What the request costs about, in millionths of a dollar; null when no price is known.
    cost_microdollars: Option<u64>,
}

/// A target that is passed over.
#[derive(Serialize, ToSchema)]
#[schema(as = SkippedTarget)]
struct Skipped {
    /// `provider/model`.
    target: String,
    provider: String,
    model: String,
    /// `breaker_open`, `probing`, `resting`, `full`, `limited`, `lacks` or `no_fallback`.
    why: &'static str,
    reason: String,
    /// When it is worth another try, Unix ms, where that is known.
    until: Option<i64>,
    /// The code of what went wrong last.
    last_error: Option<&'static str>,
}

/// Says where a completion request would go, and why. Nothing is sent, and nobody's turn is taken. The `x-qwarden-*` and
/// session headers of a completion count here, too.
#[utoipa::path(post, path = "/api/route/explain", tag = "routing",
    params(("target" = Option<String>, Query, description = "As `x-qwarden-target`: only these, by comma"),
        ("no_fallback" = Option<bool>, Query, description = "As `x-qwarden-no-fallback`"),
        ("session" = Option<String>, Query, description = "As `x-session-id`")),
    request_body(content = Map<String, Value>, description = "A chat completion request"),
    responses((status = 200, body = Explanation)))]
async fn explain(
    State(app): State<App>,
    params: Params,
    request: Request,
) -> Result<Json<Explanation>, ApiError> {
    let mut wishes = chat::wishes(request.headers())?;
    if let Some(targets) = params.text("target") {
        wishes.targets = chat::names(&targets);
    }
    wishes.no_fallback |= params.flag("no_fallback")? == Some(true);
    let session = params.text("session");
    let session = session.or_else(|| chat::session(request.headers()));
    let settings = app.settings.borrow().clone();
    let body = extract::json_bytes(request, settings.size(settings::SERVER_MAX_BODY)).await?;
    let parsed = request::parse(body).map_err(ApiError::Fields)?;
    let question = exchange::question(&parsed, session.as_deref(), &wishes);
    let plan = app.handles.router.explain(question).await?;
    let plan = plan.map_err(ApiError::NoTarget)?;
    let fallbacks = settings.flag(settings::ROUTING_FALLBACKS) && !wishes.no_fallback;
    let now = Instant::now();
    let (targets, skipped) = shown(&plan, fallbacks, now);
    Ok(Json(Explanation {
        model: parsed.model,
        resolved: plan.model.to_string(),
        via: plan.via.clone(),
        strategy: plan.strategy.as_str(),
        is_guess: plan.is_guess,
        fallbacks,
        attempts: settings.integer(settings::ROUTING_RETRIES) + 1,
        needs: ShownNeeds::from(plan.needs),
        targets,
        skipped,
    }))
}

impl From<Needs> for ShownNeeds {
    fn from(needs: Needs) -> Self {
        Self {
            tools: needs.tools,
            vision: needs.vision,
            structured: needs.structured,
            estimated_tokens: needs.tokens,
        }
    }
}

fn shown(plan: &RoutePlan, fallbacks: bool, now: Instant) -> (Vec<Planned>, Vec<Skipped>) {
    let tried = if fallbacks { plan.targets.len() } else { 1 };
    let targets = plan.targets.iter().zip(&plan.places).take(tried);
    let places = targets
        .enumerate()
        .map(|(at, (target, ranked))| place(target, at + 1, plan.reason(at), ranked));
    let closed = plan.closed.iter().map(|(target, closed)| Skipped {
        why: word(*closed),
        until: closed.until().map(|until| unix_ms(until, now)),
        ..skipped(target, closed_words(*closed, now))
    });
    let lacking = plan.lacking.iter().map(|(target, lack)| Skipped {
        why: "lacks",
        ..skipped(target, format!("it {}", lack.words()))
    });
    let others = plan.targets.iter().skip(tried);
    let others = others.map(|target| skipped(target, "no other target is to be tried".into()));
    (
        places.collect(),
        closed.chain(lacking).chain(others).collect(),
    )
}

fn place(target: &Target, place: usize, reason: String, ranked: &Ranked) -> Planned {
    Planned {
        target: target.name(),
        provider: target.provider.clone(),
        model: target.upstream_model.clone(),
        place,
        reason,
        weight: ranked.weight,
        in_flight: ranked.in_flight,
        latency_ms: Some(ranked.latency).filter(|latency| *latency > 0.0),
        cost_microdollars: ranked.cost,
    }
}

fn skipped(target: &Target, reason: String) -> Skipped {
    Skipped {
        target: target.name(),
        provider: target.provider.clone(),
        model: target.upstream_model.clone(),
        why: "no_fallback",
        reason,
        until: None,
        last_error: target.last_error(),
    }
}

fn word(closed: Closed) -> &'static str {
    match closed {
        Closed::Broken { .. } => "breaker_open",
        Closed::Probing => "probing",
        Closed::Resting { .. } => "resting",
        Closed::Full => "full",
        Closed::Limited { .. } => "limited",
    }
}

fn unix_ms(until: Instant, now: Instant) -> i64 {
    let left = until.saturating_duration_since(now).as_millis();
    now_ms().saturating_add(i64::try_from(left).unwrap_or(i64::MAX))
}
