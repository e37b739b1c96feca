//! `/api/import`: takes over the database of the older program, `provider-router.db`.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Instant;

use axum::Json;
use axum::extract::{Request, State};
use serde::Serialize;
use serde_json::{Map, Value, json};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::actors::database::StoreError;
use crate::actors::import::{self, Effect, Imported};
use crate::clock::now_ms;
use crate::db::import::OldLogin;
use crate::db::import::report::{LoginFate, Report, TableReport};
use crate::http::App;
use crate::http::error::ApiError;
use crate::http::extract;
use crate::http::management::bodies::ImportBody;
use crate::http::management::changes::{self, Asked, Change};
use crate::http::management::credentials::DEFAULT_LABEL;
use crate::limits::management::TELLING;
use crate::providers::qwen::{Login, token_expiry};

pub(crate) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(store))
}

/// A checked body.
struct Wanted {
    path: PathBuf,
    effect: Effect,
}

/// What was imported, or would be.
#[derive(Serialize, ToSchema)]
#[schema(as = ImportReport)]
struct Told {
    success: bool,
    dry_run: bool,
    /// Rows of all tables.
    imported: u64,
    /// By name.
    tables: BTreeMap<&'static str, TableReport>,
}

/// Imports what is not there yet; the report says what became of every table.
#[utoipa::path(post, path = "/api/import", tag = "database", request_body = ImportBody,
    responses((status = 200, body = Told)))]
async fn store(State(app): State<App>, request: Request) -> Result<Json<Told>, ApiError> {
    let wanted = Wanted::checked(&extract::json_object(request).await?)?;
    let place = app.importing.clone();
    let place = place
        .try_acquire_owned()
        .map_err(|_| ApiError::ImportRunning)?;
    let (own, effect) = (app.clone(), wanted.effect);
    // Runs to its end even when the client leaves.
    let carrying_out = Asked::here().for_whom(async move {
        let _place = place;
        carry_out(&own, wanted).await
    });
    let importing = app.tasks.spawn("import", carrying_out);
    let report = importing.await.map_err(|_| ApiError::Internal)??;
    Ok(Json(Told {
        success: true,
        dry_run: effect == Effect::Preview,
        imported: report.imported(),
        tables: report.tables,
    }))
}

async fn carry_out(app: &App, wanted: Wanted) -> Result<Report, StoreError> {
    let database = &app.handles.database;
    let mut told = None;
    let outcome = import::import(
        database,
        &app.vault,
        &wanted.path,
        wanted.effect,
        |progress| {
            if told.is_none_or(|at: Instant| at.elapsed() >= TELLING) {
                told = Some(Instant::now());
                let detail = json!({"table": progress.table, "rows": progress.found});
                let description = "an import is under way".into();
                let events = &app.handles.events;
                events.mention("import:progress", "progress", description, detail);
            }
        },
    )
    .await;
    if wanted.effect == Effect::Store {
        // Also what a broken import has left behind is in force.
        app.store.reload().await?;
        app.handles.router.refresh().await?;
        app.handles.retention.nudge();
    }
    let Imported { mut report, login } = outcome?;
    if let Some(login) = login {
        report.login(take_over(app, login, wanted.effect).await?);
    }
    if wanted.effect == Effect::Store && report.imported() > 0 {
        tell(app, &report).await;
    }
    Ok(report)
}

/// Stores the login as one that came without a label, unless there is such a one.
async fn take_over(app: &App, old: OldLogin, effect: Effect) -> Result<LoginFate, StoreError> {
    let login = Login {
        id: DEFAULT_LABEL.into(),
        label: DEFAULT_LABEL.into(),
        token: old.token,
        cookies: old.cookies,
        headers: "{}".into(),
    };
    let expires_at = old.expires_at.or_else(|| token_expiry(&login));
    if expires_at.is_some_and(|at| at <= now_ms()) {
        return Ok(LoginFate::Expired);
    }
    let stored = app.handles.credentials.all().await?;
    if stored
        .iter()
        .any(|shown| shown.id == login.id && shown.source == "database")
    {
        return Ok(LoginFate::Existing);
    }
    if effect == Effect::Store {
        let id = login.id.clone();
        app.handles
            .credentials
            .store(login, expires_at, false)
            .await?;
        let change = Change {
            entity: "credential",
            id: &id,
            action: "imported",
            event: "credentials:updated",
            detail: json!({}),
            before: None,
            after: Some(json!({"id": id, "expires_at": expires_at})),
        };
        changes::record(app, change).await;
    }
    Ok(LoginFate::Imported)
}

/// The import is made: a trail that cannot be written is logged, not undone.
async fn tell(app: &App, report: &Report) {
    let change = Change {
        entity: "database",
        id: "provider-router.db",
        action: "imported",
        event: "import:finished",
        detail: json!({"imported": report.imported()}),
        before: None,
        after: Some(json!(report)),
    };
    changes::record(app, change).await;
}

impl Wanted {
    fn checked(body: &Map<String, Value>) -> Result<Self, ApiError> {
        let mut faults = Vec::new();
        let path = body.get("path").and_then(Value::as_str).map(PathBuf::from);
        let path = path.filter(|path| path.is_absolute());
        if path.is_none() {
            faults.push("`path` must be the absolute path of a provider-router.db".into());
        }
        let effect = match body.get("dry_run") {
            None | Some(Value::Null | Value::Bool(false)) => Effect::Store,
            Some(Value::Bool(true)) => Effect::Preview,
            Some(_) => {
                faults.push("`dry_run` must be true or false".into());
                Effect::Preview
            }
        };
        match path {
            Some(path) if faults.is_empty() => Ok(Self { path, effect }),
            _ => Err(ApiError::Validation(faults)),
        }
    }
}
