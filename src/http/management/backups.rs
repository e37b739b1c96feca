//! `/api/backup`, `/api/backups`: copies of the database, made beside serving.

use std::path::PathBuf;

use axum::Json;
use axum::extract::{Request, State};
use hyper::StatusCode;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::actors::backups::Wanted;
use crate::db::backups::Backup;
use crate::http::App;
use crate::http::error::ApiError;
use crate::http::extract;
use crate::http::management::bodies::BackupBody;
use crate::http::management::changes::Asked;

pub(crate) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(make))
        .routes(routes!(list))
}

/// A backup that was made.
#[derive(Serialize, ToSchema)]
struct BackupAnswer {
    success: bool,
    backup: Backup,
    /// Names of older ones that made room for it (`backup.keep`).
    removed: Vec<String>,
    duration_ms: u64,
}

/// The files among the backups, the newest first.
#[derive(Serialize, ToSchema)]
struct BackupList {
    backups: Vec<Backup>,
    total: usize,
}

/// Copies the database beside serving, checks the copy, and answers when it counts. Without a path it is a dated file in
/// the data directory's `backups`, of which the newest are kept.
#[utoipa::path(post, path = "/api/backup", tag = "database", request_body(content = Option<BackupBody>),
    responses((status = 201, body = BackupAnswer)))]
async fn make(
    State(app): State<App>,
    request: Request,
) -> Result<(StatusCode, Json<BackupAnswer>), ApiError> {
    let body = extract::optional_object(request).await?;
    let to = match body.get("path") {
        None | Some(serde_json::Value::Null) => None,
        Some(path) => {
            let path = path.as_str().map(PathBuf::from);
            let path = path.filter(|path| path.is_absolute() && path.file_name().is_some());
            Some(path.ok_or_else(|| {
                ApiError::Validation(vec!["`path` must be the absolute path of a file".into()])
            })?)
        }
    };
    let asked = Asked::here();
    let wanted = Wanted {
        principal: asked.principal(),
        request_id: asked.request_id,
    };
    let made = app.backups.make(to, wanted).await?;
    let answer = BackupAnswer {
        success: true,
        backup: made.backup,
        removed: made.removed,
        duration_ms: u64::try_from(made.took.as_millis()).unwrap_or(u64::MAX),
    };
    Ok((StatusCode::CREATED, Json(answer)))
}

/// The backups of the data directory; also those that were made before a migration or a restore.
#[utoipa::path(get, path = "/api/backups", tag = "database",
    responses((status = 200, body = BackupList)))]
async fn list(State(app): State<App>) -> Result<Json<BackupList>, ApiError> {
    let backups = app.backups.list().await?;
    let total = backups.len();
    Ok(Json(BackupList { backups, total }))
}
