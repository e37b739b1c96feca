//! What is served where, and the layers a request meets.

use axum::Router;
use axum::extract::Request;
use axum::middleware::{from_fn, from_fn_with_state};

use crate::http::aliases::Aliases;
use crate::http::error::ApiError;
use crate::http::{App, aliases, completions, envelope, management};

/// :3000, the Qwen proxy.
pub(crate) fn qwen(app: App) -> Router {
    let aliases = aliases(&app);
    let routes = served(completions::qwen::routes(), app);
    enveloped(around(routes).layer(from_fn_with_state(aliases, aliases::on_qwen)))
}

/// :3001, the router.
pub(crate) fn router(app: App) -> Router {
    let aliases = aliases(&app);
    let routes = completions::chat::routes()
        .merge(completions::models::routes())
        .merge(completions::about::routes());
    let routes = served(routes, app);
    enveloped(around(routes).layer(from_fn_with_state(aliases, aliases::on_router)))
}

/// :3002, management.
pub(crate) fn management(app: App) -> Router {
    let (routes, api) = management::openapi::routes();
    let routes = routes
        .merge(management::openapi::served(&api))
        .merge(management::docs::routes());
    #[cfg(feature = "fault-injection")]
    let routes = routes.merge(management::fault::routes());
    enveloped(conventional(routes, app))
}

fn aliases(app: &App) -> Aliases {
    let (routes, _) = management::openapi::routes();
    Aliases {
        app: app.clone(),
        management: conventional(routes, app.clone()),
    }
}

fn conventional(routes: Router<App>, app: App) -> Router {
    let conventions = from_fn_with_state(app.clone(), management::conventions::conventions);
    around(served(routes, app)).layer(conventions)
}

/// A layer on this sees requests before they are routed: it can look at one route on behalf of another.
fn around(routes: Router) -> Router {
    Router::new().fallback_service(routes)
}

/// The envelope is outermost on every port, so that it writes every error, the fallbacks' too.
fn enveloped(routes: Router) -> Router {
    routes.layer(from_fn(envelope::envelope))
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
