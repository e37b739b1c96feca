//! `/api/audit`: who changed what.

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::db::audit::{self, AuditEntry, AuditFilter};
use crate::http::App;
use crate::http::error::ApiError;
use crate::http::params::{PageInfo, PageParams, Params};

const LISTED: i64 = 50;

pub(crate) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(list))
}

/// Changes of a list.
#[derive(Serialize, ToSchema)]
struct AuditList {
    #[serde(flatten)]
    page: PageInfo,
    changes: Vec<AuditEntry>,
}

/// Changes of the configuration and the history, the newest first, as long as `retention.auditDays` keeps them. Secrets are masked.
#[utoipa::path(get, path = "/api/audit", tag = "activity",
    params(PageParams,
        ("entity" = Option<String>, Query, description = "`provider`, `setting`, `model`, ..."),
        ("entity_id" = Option<String>, Query),
        ("principal" = Option<String>, Query, description = "`local`, `admin`, `schedule`, ..."),
        ("start_date" = Option<i64>, Query, description = "Unix time, ms"),
        ("end_date" = Option<i64>, Query, description = "Unix time, ms")),
    responses((status = 200, body = AuditList)))]
async fn list(State(app): State<App>, params: Params) -> Result<Json<AuditList>, ApiError> {
    let page = params.page(LISTED)?;
    let slice = page.slice()?;
    let (from, until) = params.dates()?;
    let filter = AuditFilter {
        entity: params.text("entity"),
        entity_id: params.text("entity_id"),
        principal: params.text("principal"),
        from,
        until,
    };
    let read = move |conn: &_| audit::list(conn, &filter, slice);
    let (mut changes, total) = app.handles.database.read(read).await?;
    let page = page.cut(&mut changes, total, |one| (one.row.timestamp, one.seq));
    Ok(Json(AuditList { page, changes }))
}
