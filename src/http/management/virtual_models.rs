//! `/api/virtual-models`: names that stand for a list of targets. An alias is one with a single target.

use axum::Json;
use axum::extract::{Path, Request, State};
use axum::http::header::LOCATION;
use axum::response::{AppendHeaders, IntoResponse, Response};
use hyper::StatusCode;
use serde::Serialize;
use serde_json::{Map, Value, json};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::actors::database::StoreError;
use crate::clock::{new_id, now_ms};
use crate::db::error::DbError;
use crate::db::ops::WriteOp;
use crate::db::virtual_models::{self, VirtualRow};
use crate::http::App;
use crate::http::error::ApiError;
use crate::http::extract;
use crate::http::management::bodies::{ChangedVirtual, Done, NewVirtualBody, VirtualBody};
use crate::http::management::changes::{self, Change};
use crate::http::management::fields::Fields;
use crate::http::management::models::escaped;
use crate::http::params::{PageInfo, PageParams, Params};
use crate::routing::virtuals::{self, Fault, Strategy, VirtualModel, VirtualTarget};

const LISTED: i64 = 50;
/// Bytes of a description.
const LONGEST: usize = 2_000;

pub(crate) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(list, create))
        .routes(routes!(show, replace, change, remove))
}

/// A virtual model.
#[derive(Serialize, ToSchema)]
#[schema(as = VirtualModel)]
struct Shown {
    name: String,
    description: Option<String>,
    strategy: &'static str,
    /// In the order of `priority`.
    targets: Vec<ShownTarget>,
    enabled: bool,
    /// Unix time, ms.
    created_at: i64,
    /// Unix time, ms.
    updated_at: i64,
}

/// A target of a virtual model.
#[derive(Serialize, ToSchema)]
#[schema(as = VirtualTarget)]
struct ShownTarget {
    /// `provider/model`, a model's name, or another virtual model's.
    target: String,
    weight: u32,
}

/// Virtual models of a list.
#[derive(Serialize, ToSchema)]
#[schema(as = VirtualModelList)]
struct VirtualList {
    #[serde(flatten)]
    page: PageInfo,
    virtual_models: Vec<Shown>,
}

impl From<&VirtualRow> for Shown {
    fn from(row: &VirtualRow) -> Self {
        let targets = row.model.targets.iter().map(|target| ShownTarget {
            target: target.target.clone(),
            weight: target.weight,
        });
        Self {
            name: row.model.name.clone(),
            description: row.description.clone(),
            strategy: row.model.strategy.as_str(),
            targets: targets.collect(),
            enabled: row.model.enabled,
            created_at: row.created_at,
            updated_at: row.updated_at,
        }
    }
}

/// All virtual models, by name.
#[utoipa::path(get, path = "/api/virtual-models", tag = "virtual models",
    params(PageParams,
        ("enabled" = Option<bool>, Query, description = "Only those that are, or are not"),
        ("strategy" = Option<String>, Query, description = "Only those of this one"),
        ("q" = Option<String>, Query, description = "Part of a name or a target")),
    responses((status = 200, body = VirtualList)))]
async fn list(State(app): State<App>, params: Params) -> Result<Json<VirtualList>, ApiError> {
    let page = params.page(LISTED)?;
    let enabled = params.flag("enabled")?;
    let strategy = params.word(
        "strategy",
        &Strategy::ALL.map(|strategy| (strategy.as_str(), strategy)),
    )?;
    let q = params.text("q").map(|q| q.to_lowercase());
    let rows = all(&app).await?;
    let matching = rows.iter().filter(|VirtualRow { model, .. }| {
        let holds = |q: &String| {
            let targets = model.targets.iter().map(|target| &target.target);
            std::iter::once(&model.name)
                .chain(targets)
                .any(|text| text.to_lowercase().contains(q))
        };
        enabled.is_none_or(|enabled| model.enabled == enabled)
            && strategy.is_none_or(|strategy| model.strategy == strategy)
            && q.as_ref().is_none_or(holds)
    });
    let place = |row: &&VirtualRow| row.model.name.clone();
    let (virtual_models, page) = page.of(matching.collect(), place)?;
    let virtual_models = virtual_models.into_iter().map(Shown::from).collect();
    Ok(Json(VirtualList {
        page,
        virtual_models,
    }))
}

/// Makes a virtual model; the next request can use it.
#[utoipa::path(post, path = "/api/virtual-models", tag = "virtual models", request_body = NewVirtualBody,
    responses((status = 201, body = Shown, headers(("location" = String, description = "Where it is")))))]
async fn create(State(app): State<App>, request: Request) -> Result<Response, ApiError> {
    let body = extract::json_object(request).await?;
    let row = read(&body, blank(""), &["name", "targets"])?;
    let before = all(&app).await?;
    let name = row.model.name.clone();
    if before.iter().any(|known| known.model.name == name) {
        return Err(taken(&name));
    }
    checked(&row.model, &before, None)?;
    let op = WriteOp::CreateVirtual {
        row: row.clone(),
        operation: new_id(),
    };
    let creating = app.handles.database.write(op).await;
    creating.map_err(|error| refused(error, &name, &name))?;
    told(&app, "created", None, Some(&row)).await?;
    let location = format!("/api/virtual-models/{}", escaped(&name));
    let location = AppendHeaders([(LOCATION, location)]);
    Ok((StatusCode::CREATED, location, Json(Shown::from(&row))).into_response())
}

/// One virtual model. In a name `/` is written `%2F`.
#[utoipa::path(get, path = "/api/virtual-models/{name}", tag = "virtual models",
    params(("name" = String, Path)), responses((status = 200, body = Shown)))]
async fn show(State(app): State<App>, Path(name): Path<String>) -> Result<Json<Shown>, ApiError> {
    let rows = all(&app).await?;
    Ok(Json(Shown::from(find(&rows, &name)?)))
}

/// Puts another one in its place: what the body does not name is as in a new one.
#[utoipa::path(put, path = "/api/virtual-models/{name}", tag = "virtual models",
    params(("name" = String, Path)), request_body = VirtualBody, responses((status = 200, body = Shown)))]
async fn replace(
    State(app): State<App>,
    Path(name): Path<String>,
    request: Request,
) -> Result<Json<Shown>, ApiError> {
    let body = extract::json_object(request).await?;
    let rows = all(&app).await?;
    find(&rows, &name)?;
    let row = read(&body, blank(&name), &["targets"])?;
    put(&app, &name, row, &rows).await
}

/// Changes what the body names; targets as a whole.
#[utoipa::path(patch, path = "/api/virtual-models/{name}", tag = "virtual models",
    params(("name" = String, Path)), request_body = ChangedVirtual, responses((status = 200, body = Shown)))]
async fn change(
    State(app): State<App>,
    Path(name): Path<String>,
    request: Request,
) -> Result<Json<Shown>, ApiError> {
    let body = extract::json_object(request).await?;
    let rows = all(&app).await?;
    let before = find(&rows, &name)?;
    let row = read(&body, before.clone(), &[])?;
    put(&app, &name, row, &rows).await
}

/// Forgets a virtual model, from the next request on.
#[utoipa::path(delete, path = "/api/virtual-models/{name}", tag = "virtual models",
    params(("name" = String, Path)), responses((status = 200, body = Done)))]
async fn remove(State(app): State<App>, Path(name): Path<String>) -> Result<Json<Done>, ApiError> {
    let rows = all(&app).await?;
    let before = find(&rows, &name)?;
    let models = models(&rows);
    let left: Vec<_> = without(&models, &name).cloned().collect();
    let broken = words(virtuals::broken(&models, &left));
    if !broken.is_empty() {
        return Err(ApiError::Taken {
            code: "virtual_model_needed",
            message: format!(
                "`{name}` cannot go before the others are changed: {}",
                broken.join("; ")
            ),
        });
    }
    let op = WriteOp::DeleteVirtual {
        name: name.clone(),
        operation: new_id(),
    };
    let deleting = app.handles.database.write(op).await;
    deleting.map_err(|error| refused(error, &name, &name))?;
    told(&app, "deleted", Some(before), None).await?;
    Ok(Done::new("Virtual model deleted"))
}

/// Stores `row` in the place of `name`.
async fn put(
    app: &App,
    name: &str,
    row: VirtualRow,
    rows: &[VirtualRow],
) -> Result<Json<Shown>, ApiError> {
    let before = find(rows, name)?;
    let row = VirtualRow {
        created_at: before.created_at,
        updated_at: before.updated_at,
        ..row
    };
    if row == *before {
        return Ok(Json(Shown::from(before)));
    }
    let new_name = row.model.name.clone();
    if new_name != name && rows.iter().any(|known| known.model.name == new_name) {
        return Err(taken(&new_name));
    }
    checked(&row.model, rows, Some(name))?;
    let row = VirtualRow {
        updated_at: now_ms(),
        ..row
    };
    let op = WriteOp::ChangeVirtual {
        name: name.to_owned(),
        row: row.clone(),
        operation: new_id(),
    };
    let changing = app.handles.database.write(op).await;
    changing.map_err(|error| refused(error, name, &new_name))?;
    told(app, "updated", Some(before), Some(&row)).await?;
    Ok(Json(Shown::from(&row)))
}

fn blank(name: &str) -> VirtualRow {
    let now = now_ms();
    VirtualRow {
        model: VirtualModel {
            name: name.to_owned(),
            strategy: Strategy::default(),
            targets: Vec::new(),
            enabled: true,
        },
        description: None,
        created_at: now,
        updated_at: now,
    }
}

/// `row` with what the body says of it.
fn read(
    body: &Map<String, Value>,
    mut row: VirtualRow,
    required: &[&str],
) -> Result<VirtualRow, ApiError> {
    let mut fields = Fields::of(body);
    for key in required {
        if body.get(*key).is_none_or(Value::is_null) {
            fields.fault(format!("`{key}` is required"));
        }
    }
    if let Some(name) = fields.text("name") {
        row.model.name = name;
    }
    if let Some(word) = fields.text("strategy") {
        match Strategy::parse(&word) {
            Some(strategy) => row.model.strategy = strategy,
            None => fields.fault(format!(
                "`strategy` must be one of {}",
                Strategy::ALL.map(Strategy::as_str).join(", ")
            )),
        }
    }
    if body.get("targets").is_some_and(|list| !list.is_null()) {
        match targets(body) {
            Some(targets) => row.model.targets = targets,
            None => fields.fault(
                "`targets` must be an array of names, or of objects with a `target` and perhaps a `weight`",
            ),
        }
    }
    row.model.enabled = fields.boolean("enabled").unwrap_or(row.model.enabled);
    if let Some(description) = body.get("description") {
        row.description = fields.text("description");
        if description
            .as_str()
            .is_some_and(|text| text.len() > LONGEST)
        {
            fields.fault(format!("`description` must be at most {LONGEST} bytes"));
        }
    }
    fields.end()?;
    Ok(row)
}

fn targets(body: &Map<String, Value>) -> Option<Vec<VirtualTarget>> {
    let target = |item: &Value| {
        let (name, weight) = match item {
            Value::String(name) => (name, None),
            Value::Object(more) => (
                match more.get("target")? {
                    Value::String(name) => name,
                    _ => return None,
                },
                more.get("weight").filter(|weight| !weight.is_null()),
            ),
            _ => return None,
        };
        let weight = match weight {
            None => 1,
            // What is too small or too large is told with the other rules.
            Some(weight) => {
                let weight = weight.as_i64()?.clamp(0, i64::from(u32::MAX));
                u32::try_from(weight).ok()?
            }
        };
        Some(VirtualTarget {
            target: name.clone(),
            weight,
        })
    };
    let list = body.get("targets")?.as_array()?;
    list.iter().map(target).collect()
}

/// Refuses what would not do, beside the others; `replaced` is the name it had.
fn checked(
    model: &VirtualModel,
    rows: &[VirtualRow],
    replaced: Option<&str>,
) -> Result<(), ApiError> {
    let before = models(rows);
    let mut after: Vec<_> = without(&before, replaced.unwrap_or_default())
        .cloned()
        .collect();
    let own = virtuals::check(model, &after);
    let faults = own.err().unwrap_or_else(|| {
        after.push(model.clone());
        virtuals::broken(&before, &after)
    });
    if faults.is_empty() {
        return Ok(());
    }
    Err(ApiError::Unfit {
        code: "invalid_virtual_model",
        faults: words(faults),
    })
}

fn models(rows: &[VirtualRow]) -> Vec<VirtualModel> {
    rows.iter().map(|row| row.model.clone()).collect()
}

fn without<'a>(
    models: &'a [VirtualModel],
    name: &'a str,
) -> impl Iterator<Item = &'a VirtualModel> {
    models.iter().filter(move |model| model.name != name)
}

fn words(faults: Vec<Fault>) -> Vec<String> {
    faults.into_iter().map(|fault| fault.to_string()).collect()
}

async fn all(app: &App) -> Result<Vec<VirtualRow>, ApiError> {
    Ok(app.handles.database.read(virtual_models::all).await?)
}

fn find<'a>(rows: &'a [VirtualRow], name: &str) -> Result<&'a VirtualRow, ApiError> {
    let found = rows.iter().find(|row| row.model.name == name);
    found.ok_or_else(|| missing(name))
}

fn missing(name: &str) -> ApiError {
    ApiError::Missing {
        code: "virtual_model_not_found",
        message: format!("there is no virtual model `{name}`; GET /api/virtual-models lists them"),
    }
}

fn taken(name: &str) -> ApiError {
    ApiError::Taken {
        code: "virtual_model_exists",
        message: format!(
            "the virtual model `{name}` exists; PATCH /api/virtual-models/{} changes it",
            escaped(name)
        ),
    }
}

fn refused(error: StoreError, name: &str, new_name: &str) -> ApiError {
    match error {
        StoreError::Db(DbError::Missing { .. }) => missing(name),
        StoreError::Db(DbError::Conflict { .. }) => taken(new_name),
        error => error.into(),
    }
}

/// The router must know before the answer goes out.
async fn told(
    app: &App,
    action: &'static str,
    before: Option<&VirtualRow>,
    after: Option<&VirtualRow>,
) -> Result<(), ApiError> {
    app.handles.router.refresh().await?;
    let shown = |row: Option<&VirtualRow>| row.map(|row| json!(Shown::from(row)));
    let name = after.or(before).map_or("", |row| row.model.name.as_str());
    let change = Change {
        entity: "virtual model",
        id: name,
        action,
        event: "virtual_models:updated",
        detail: json!({"virtualModel": name}),
        before: shown(before),
        after: shown(after),
    };
    changes::record(app, change).await;
    Ok(())
}
