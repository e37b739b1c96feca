//! `/api/retention`: what the history has outlived.

use axum::Json;
use axum::extract::{Request, State};
use serde::Serialize;
use serde_json::{Value, json};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::actors::retention::Report;
use crate::http::App;
use crate::http::error::ApiError;
use crate::http::extract;
use crate::http::management::bodies::RetentionBody;
use crate::http::management::changes::{self, Change};

pub(crate) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(run))
}

/// What was deleted, or would be.
#[derive(Serialize, ToSchema)]
struct RetentionAnswer {
    success: bool,
    dry_run: bool,
    #[serde(flatten)]
    report: Report,
}

/// Deletes what is outlived by the settings `retention.*` now instead of within the hour, and says how much. The usage it
/// was counted in stays.
#[utoipa::path(post, path = "/api/retention/run", tag = "database", request_body(content = Option<RetentionBody>),
    responses((status = 200, body = RetentionAnswer)))]
async fn run(State(app): State<App>, request: Request) -> Result<Json<RetentionAnswer>, ApiError> {
    let body = extract::optional_object(request).await?;
    let dry_run = match body.get("dry_run") {
        None | Some(Value::Null) => false,
        Some(Value::Bool(dry_run)) => *dry_run,
        Some(_) => {
            return Err(ApiError::Validation(vec![
                "`dry_run` must be true or false".into(),
            ]));
        }
    };
    let report = if dry_run {
        app.handles.retention.preview().await?
    } else {
        let report = app.handles.retention.run().await?;
        let change = Change {
            entity: "database",
            id: "retention",
            action: "ran",
            event: "requests:updated",
            detail: json!({"deleted": report.deleted}),
            before: None,
            after: Some(json!(report)),
        };
        changes::record(&app, change).await;
        report
    };
    Ok(Json(RetentionAnswer {
        success: true,
        dry_run,
        report,
    }))
}
