//! What is served where, and the layers a request meets.

use axum::Router;
use axum::extract::Request;
use axum::middleware::from_fn_with_state;

use crate::http::error::ApiError;
use crate::http::{App, access, clients, completions, envelope, management};

/// :3000, the Qwen proxy.
pub(crate) fn qwen(app: App) -> Router {
    layered(completions::qwen::routes(), app)
}

/// :3001, the router.
pub(crate) fn router(app: App) -> Router {
    layered(
        completions::chat::routes()
            .merge(completions::models::routes())
            .merge(completions::about::routes()),
        app,
    )
}

/// :3002, management.
pub(crate) fn management(app: App) -> Router {
    let (routes, api) = management::openapi::routes();
    let routes = routes.merge(management::openapi::served(&api));
    #[cfg(feature = "fault-injection")]
    let routes = routes.merge(management::fault::routes());
    let conventions = from_fn_with_state(app.clone(), management::conventions::conventions);
    let envelope = from_fn_with_state(app.settings.clone(), envelope::envelope);
    let access = from_fn_with_state(app.clone(), access::management);
    // Around the routing, so that it can look at one route on behalf of another.
    Router::new()
        .fallback_service(served(routes, app))
        .layer(conventions)
        .layer(access)
        .layer(envelope)
}

/// The same for every port: the envelope is outermost, so that it writes every error, the fallbacks' too.
fn layered(routes: Router<App>, app: App) -> Router {
    let envelope = from_fn_with_state(app.settings.clone(), envelope::envelope);
    let clients = from_fn_with_state(app.clone(), clients::clients);
    // Around the routing: whoever is not let in does not learn what is here.
    Router::new()
        .fallback_service(served(routes, app))
        .layer(clients)
        .layer(envelope)
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
