//! What can be done with a provider: enable, disable, test, reload.

use std::time::Instant;

use axum::Json;
use axum::extract::{Path, Request, State};
use serde::Serialize;
use serde_json::{Value, json};
use utoipa::ToSchema;

use crate::clock::{new_id, now_ms};
use crate::db::providers::ProviderChange;
use crate::http::App;
use crate::http::error::ApiError;
use crate::http::extract;
use crate::http::management::bodies::TestBody;
use crate::http::management::fields::Fields;
use crate::http::management::providers::shape::Detail;
use crate::http::management::providers::{apply, body, find, told};
use crate::limits::management::TEST_DEADLINE;
use crate::providers::{Answer, Call, Deadlines, Provider, UpstreamError};

/// A provider, and what was done with it.
#[derive(Serialize, ToSchema)]
#[schema(as = ProviderSwitched)]
pub(super) struct Switched {
    #[serde(flatten)]
    provider: Detail,
    message: &'static str,
}

/// What a test found.
#[derive(Serialize, ToSchema)]
#[schema(as = ProviderTested)]
pub(super) struct Tested {
    provider_id: String,
    healthy: bool,
    duration_ms: u64,
    /// Unix time, ms.
    timestamp: i64,
    /// The upstream's status, when it refused.
    status: Option<u16>,
    error: Option<TestError>,
    /// How many models it lists; null when the test was a completion.
    models_count: Option<usize>,
    /// What it answered to a prompt.
    answer: Option<String>,
}

/// Why a test failed.
#[derive(Serialize, ToSchema)]
struct TestError {
    #[serde(rename = "type")]
    kind: String,
    message: String,
}

/// A provider that was read anew.
#[derive(Serialize, ToSchema)]
#[schema(as = ProviderReloaded)]
pub(super) struct Reloaded {
    provider_id: String,
    name: String,
    #[serde(rename = "type")]
    kind: String,
    message: &'static str,
    /// Unix time, ms.
    timestamp: i64,
}

/// Lets completions use the provider, from the next one on.
#[utoipa::path(post, path = "/api/providers/{id}/enable", tag = "providers",
    params(("id" = String, Path)), responses((status = 200, body = Switched)))]
pub(super) async fn enable(
    State(app): State<App>,
    Path(id): Path<String>,
) -> Result<Json<Switched>, ApiError> {
    switch(&app, &id, true).await
}

/// Keeps completions from the provider, from the next one on; those under way finish.
#[utoipa::path(post, path = "/api/providers/{id}/disable", tag = "providers",
    params(("id" = String, Path)), responses((status = 200, body = Switched)))]
pub(super) async fn disable(
    State(app): State<App>,
    Path(id): Path<String>,
) -> Result<Json<Switched>, ApiError> {
    switch(&app, &id, false).await
}

async fn switch(app: &App, id: &str, enabled: bool) -> Result<Json<Switched>, ApiError> {
    let before = find(app, id).await?;
    let change = ProviderChange {
        id: id.to_owned(),
        enabled: Some(enabled),
        at: now_ms(),
        ..ProviderChange::default()
    };
    body::check_change(&before.stored, &change, &app.own)?;
    let (action, message) = if enabled {
        ("enabled", "Provider enabled")
    } else {
        ("disabled", "Provider disabled")
    };
    let after = apply(app, &before, change, action).await?;
    Ok(Json(Switched {
        provider: Detail::from(&after),
        message,
    }))
}

/// Asks the upstream for its models, or for a completion when the body has a prompt. An upstream that fails is an answer,
/// not an error.
#[utoipa::path(post, path = "/api/providers/{id}/test", tag = "providers",
    params(("id" = String, Path)), request_body(content = Option<TestBody>),
    responses((status = 200, body = Tested)))]
pub(super) async fn test(
    State(app): State<App>,
    Path(id): Path<String>,
    request: Request,
) -> Result<Json<Tested>, ApiError> {
    let body = extract::optional_object(request).await?;
    let mut fields = Fields::of(&body);
    let (model, prompt) = (
        fields.optional("model", 200),
        fields.optional("prompt", 100_000),
    );
    fields.end()?;
    let adapter = app.handles.router.adapter(&id).await?;
    let adapter = adapter.ok_or_else(|| ApiError::ProviderNotFound { id: id.clone() })?;
    let began = Instant::now();
    let mut tested = Tested {
        provider_id: id,
        healthy: false,
        duration_ms: 0,
        timestamp: now_ms(),
        status: None,
        error: None,
        models_count: None,
        answer: None,
    };
    match adapter {
        Err(invalid) => tested.error = Some(error("invalid_config", invalid.to_string())),
        Ok(adapter) => {
            let outcome = if model.is_some() || prompt.is_some() {
                let prompt = prompt.unwrap_or_else(|| "Say ok.".into());
                complete(&*adapter, model, &prompt)
                    .await
                    .map(|answer| tested.answer = Some(answer))
            } else {
                adapter
                    .models(TEST_DEADLINE)
                    .await
                    .map(|models| tested.models_count = Some(models.len()))
            };
            match outcome {
                Ok(()) => tested.healthy = true,
                Err(failed) => {
                    tested.status = failed.status();
                    tested.error = Some(error(failed.code(), failed.to_string()));
                }
            }
        }
    }
    tested.duration_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
    Ok(Json(tested))
}

async fn complete(
    adapter: &dyn Provider,
    model: Option<String>,
    prompt: &str,
) -> Result<String, UpstreamError> {
    let mut body = json!({"messages": [{"role": "user", "content": prompt}], "max_tokens": 16, "stream": false});
    if let Some(model) = &model {
        body["model"] = model.as_str().into();
    }
    let call = Call {
        is_translated: false,
        native: None,
        model: model.unwrap_or_default(),
        body: body.to_string().into(),
        stream: false,
        deadlines: Deadlines {
            connect: TEST_DEADLINE,
            first_byte: TEST_DEADLINE,
            idle: TEST_DEADLINE,
        },
        request_id: new_id(),
        session: None,
        tape: crate::providers::tape::Tape::default(),
    };
    match adapter.complete(call).await? {
        Answer::Whole { body, .. } => {
            let answer: Value = serde_json::from_slice(&body).unwrap_or_default();
            let text = answer["choices"][0]["message"]["content"].as_str();
            Ok(text.unwrap_or_default().to_owned())
        }
        // An upstream that streams all the same has answered.
        Answer::Stream { .. } => Ok(String::new()),
    }
}

fn error(kind: &str, message: String) -> TestError {
    TestError {
        kind: kind.to_owned(),
        message,
    }
}

/// Reads the provider from the database again. What serves now keeps serving when it cannot be read.
#[utoipa::path(post, path = "/api/providers/{id}/reload", tag = "providers",
    params(("id" = String, Path)), responses((status = 200, body = Reloaded)))]
pub(super) async fn reload(
    State(app): State<App>,
    Path(id): Path<String>,
) -> Result<Json<Reloaded>, ApiError> {
    let before = find(&app, &id).await?;
    if !before.stored.provider.enabled {
        return Err(ApiError::ProviderDisabled { id });
    }
    app.handles.router.refresh().await?;
    let view = find(&app, &id).await?;
    let nothing = ProviderChange {
        id: id.clone(),
        ..ProviderChange::default()
    };
    body::check_change(&view.stored, &nothing, &app.own)?;
    told(&app, &id, "reloaded", Some(&before), Some(&view)).await;
    let provider = view.stored.provider;
    Ok(Json(Reloaded {
        provider_id: id,
        name: provider.name,
        kind: provider.kind,
        message: "Provider reloaded successfully",
        timestamp: now_ms(),
    }))
}
