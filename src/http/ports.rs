//! What is served where, and the layers a request meets.

use std::sync::Arc;

use axum::extract::Request;
use axum::middleware::{from_fn, from_fn_with_state};
use axum::{Extension, Router};

use crate::http::aliases::{Aliases, Managed};
use crate::http::dashboard::OfDashboard;
use crate::http::envelope::OfOllama;
use crate::http::error::ApiError;
use crate::http::metrics::Observed;
use crate::http::{
    App, access, aliases, clients, completions, dashboard, envelope, intake, management, metrics,
};

/// :3000, the Qwen proxy.
pub(crate) fn qwen(app: &App) -> Router {
    let aliases = from_fn_with_state(aliases(app), aliases::on_qwen);
    let routes = completions::qwen::routes().merge(completions::about::live());
    let routes = for_clients(routes, app).layer(aliases);
    enveloped(routes, app, "qwen")
}

/// :3001, the router.
pub(crate) fn router(app: &App) -> Router {
    let aliases = from_fn_with_state(aliases(app), aliases::on_router);
    let routes = completions::chat::routes()
        .merge(completions::messages::routes())
        .merge(completions::responses::routes())
        .merge(completions::passing::routes())
        .merge(completions::models::routes())
        .merge(completions::about::routes())
        .merge(completions::about::live());
    enveloped(for_clients(routes, app).layer(aliases), app, "router")
}

/// The port that speaks Ollama's API, where there is one.
pub(crate) fn ollama(app: &App) -> Router {
    let routes = completions::ollama::routes().merge(completions::models::routes());
    // Outside the envelope, which writes errors in the client's dialect.
    enveloped(for_clients(routes, app), app, "ollama").layer(Extension(OfOllama))
}

/// :3002, management.
pub(crate) fn management(app: &App) -> Router {
    let (routes, api) = management::openapi::routes();
    let routes = routes
        .merge(management::openapi::served(&api))
        .merge(management::docs::routes());
    #[cfg(feature = "fault-injection")]
    let routes = routes.merge(management::fault::routes());
    // Outside of who may manage: whoever is to log in needs a page first.
    let routes = for_managers(routes, app).layer(from_fn(dashboard::dashboard));
    enveloped(routes, app, "management").layer(Extension(OfDashboard))
}

fn aliases(app: &App) -> Aliases {
    let (routes, _) = management::openapi::routes();
    Aliases(Arc::new(Managed {
        app: app.clone(),
        management: for_managers(routes, app),
    }))
}

/// With what every management route has, under whatever name it is served.
fn for_managers(routes: Router<App>, app: &App) -> Router {
    let conventions = from_fn_with_state(app.clone(), management::conventions::conventions);
    let access = from_fn_with_state(app.clone(), access::management);
    let intake = from_fn_with_state(app.clone(), intake::managers);
    around(routes, app)
        .layer(conventions)
        .layer(access)
        .layer(intake)
}

fn for_clients(routes: Router<App>, app: &App) -> Router {
    around(routes, app)
        .layer(from_fn_with_state(app.clone(), clients::clients))
        .layer(from_fn_with_state(app.clone(), intake::clients))
}

/// Layers on this see requests before they are routed: one can look at one route on behalf of another, and whoever is not
/// let in does not learn what is here.
fn around(routes: Router<App>, app: &App) -> Router {
    Router::new().fallback_service(served(routes, app.clone()))
}

/// The envelope is around everything on every port, so that it writes every error, the fallbacks' too. What it writes
/// is counted.
fn enveloped(routes: Router, app: &App, port: &'static str) -> Router {
    let metrics = app.metrics.clone();
    let observed = Observed { port, metrics };
    routes
        .layer(from_fn_with_state(app.clone(), envelope::envelope))
        .layer(from_fn_with_state(observed, metrics::observe))
}

fn served(routes: Router<App>, app: App) -> Router {
    routes
        .fallback(no_route)
        .method_not_allowed_fallback(no_method)
        .with_state(app)
}

async fn no_route(request: Request) -> ApiError {
    ApiError::NoRoute {
        method: request.method().to_string(),
        path: request.uri().path().to_owned(),
    }
}

async fn no_method(request: Request) -> ApiError {
    ApiError::Method {
        method: request.method().to_string(),
        path: request.uri().path().to_owned(),
    }
}
