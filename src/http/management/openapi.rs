//! The API's own description: `OpenAPI` 3.1, made of the handlers.

use std::collections::HashSet;
use std::sync::Arc;

use axum::Router;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use utoipa::openapi::{Content, Info, OpenApi, PathItem, Ref, RefOr, ResponseBuilder, Schema};
use utoipa::{PartialSchema, ToSchema};
use utoipa_axum::router::OpenApiRouter;

use crate::http::App;
use crate::http::management as m;

/// Every route of :3002, and their description.
pub(crate) fn routes() -> (Router<App>, OpenApi) {
    let all = OpenApiRouter::new()
        .merge(m::health::routes())
        .merge(m::metrics::routes())
        .merge(m::proxy::routes())
        .merge(m::shutdown::routes())
        .merge(m::providers::routes())
        .merge(m::models::routes())
        .merge(m::virtual_models::routes())
        .merge(m::route::routes())
        .merge(m::route_models::routes())
        .merge(m::sessions::routes())
        .merge(m::requests::routes())
        .merge(m::replay::routes())
        .merge(m::playground::routes())
        .merge(m::stats::routes())
        .merge(m::export::routes())
        .merge(m::recordings::routes())
        .merge(m::responses::routes())
        .merge(m::retention::routes())
        .merge(m::cache::routes())
        .merge(m::activity::routes())
        .merge(m::events::routes())
        .merge(m::audit::routes())
        .merge(m::logs::routes())
        .merge(m::settings::routes())
        .merge(m::auth::routes())
        .merge(m::keys::routes())
        .merge(m::credentials::routes())
        .merge(m::import::routes())
        .merge(m::backups::routes())
        .merge(m::supervision::routes());
    let (routes, mut api) = all.split_for_parts();
    finish(&mut api);
    (routes, api)
}

/// Serves the description.
pub(crate) fn served(api: &OpenApi) -> Router<App> {
    // The document holds no value that cannot be JSON; if it did, the test that reads it would fail.
    let text: Arc<str> = serde_json::to_string(api).unwrap_or_default().into();
    let show = move || {
        let text = text.clone();
        async move { json(&text) }
    };
    Router::new().route("/api/openapi.json", get(show))
}

fn json(text: &str) -> Response {
    let mut response = text.to_owned().into_response();
    let kind = HeaderValue::from_static("application/json");
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}

/// What every operation has in common, and what nesting cannot know.
fn finish(api: &mut OpenApi) {
    api.info = Info::new("qwarden management", env!("CARGO_PKG_VERSION"));
    api.info.description = Some("Seeing and steering the gateway.".into());
    let components = api.components.get_or_insert_default();
    components
        .schemas
        .insert(Failure::name().into_owned(), Failure::schema());
    let mut nested = Vec::new();
    Failure::schemas(&mut nested);
    components.schemas.extend(nested);
    let failure = ResponseBuilder::new()
        .description("Why not")
        .content(
            "application/json",
            Content::new(Some(RefOr::<Schema>::Ref(Ref::from_schema_name(
                Failure::name(),
            )))),
        )
        .build();
    let mut known = HashSet::new();
    for (path, item) in &mut api.paths.paths {
        let is_alias = path.starts_with("/api/{id}/");
        for (method, operation) in operations(item) {
            operation
                .responses
                .responses
                .insert("default".into(), RefOr::T(failure.clone()));
            let own = format!("{method}_{}", path.trim_start_matches('/'))
                .replace(['/', '-', '.'], "_")
                .replace(['{', '}'], "");
            debug_assert!(known.insert(own.clone()), "{own} is there twice");
            operation.operation_id = Some(own);
            if is_alias {
                operation.deprecated = Some(utoipa::openapi::Deprecated::True);
            }
        }
    }
}

fn operations(
    item: &mut PathItem,
) -> impl Iterator<Item = (&'static str, &mut utoipa::openapi::path::Operation)> {
    let all = [
        ("get", item.get.as_mut()),
        ("put", item.put.as_mut()),
        ("post", item.post.as_mut()),
        ("delete", item.delete.as_mut()),
        ("patch", item.patch.as_mut()),
    ];
    all.into_iter()
        .filter_map(|(method, operation)| Some((method, operation?)))
}

/// An error.
#[derive(ToSchema)]
#[expect(dead_code, reason = "it describes what `error.rs` writes")]
struct Failure {
    error: FailureDetail,
    /// The same as `error.message`.
    message: String,
    #[schema(rename = "requestId")]
    request_id: String,
}

/// See [`Failure`].
#[derive(ToSchema)]
#[expect(dead_code, reason = "it describes what `error.rs` writes")]
struct FailureDetail {
    message: String,
    #[schema(rename = "type")]
    kind: String,
    code: String,
    param: Option<String>,
    errors: Option<Vec<String>>,
}
