//! `/api/qwen/credentials`: the user's own logins at chat.qwen.ai. Taken in, never given out.

use axum::Json;
use axum::extract::{Request, State};
use secrecy::SecretString;
use serde::Serialize;
use serde_json::{Map, Value, json};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::actors::credentials::{LoginState, Shown, Verdict};
use crate::clock::now_ms;
use crate::http::App;
use crate::http::error::ApiError;
use crate::http::extract;
use crate::http::management::bodies::CredentialsBody;
use crate::http::management::changes::{self, Kept};
use crate::http::params::Params;
use crate::protocol::qwen::curl;
use crate::providers::qwen::{Login, as_ms, token_expiry};

/// Of a login that came without one.
pub(crate) const DEFAULT_LABEL: &str = "default";

pub(crate) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(show, store, remove))
        .routes(routes!(verify))
}

/// A login as a client may hand it over, its fields checked.
struct NewLogin {
    login: Login,
    /// Unix time, ms.
    expires_at: Option<i64>,
}

/// That a login is stored.
#[derive(Serialize, ToSchema)]
#[schema(as = StoredLogin)]
struct Stored {
    success: bool,
    message: &'static str,
    id: String,
    /// Unix seconds.
    #[serde(rename = "expiresAt")]
    expires_at: Option<i64>,
    /// Whether the site took it; false also when it could not be asked.
    verified: bool,
}

/// What is stored, the login that is used first beside the list of all.
#[derive(Serialize, ToSchema)]
struct Logins {
    #[serde(rename = "hasCredentials")]
    has_credentials: bool,
    #[serde(rename = "isValid")]
    is_valid: bool,
    /// Unix seconds.
    #[serde(rename = "expiresAt")]
    expires_at: Option<i64>,
    /// Of the first login, where there is one, all that its entry in `accounts` has.
    /// `missing` where there is no login; else the first one's, among what `first` has.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false)]
    state: Option<&'static str>,
    #[serde(flatten)]
    #[schema(value_type = Object)]
    first: Option<First>,
    accounts: Vec<Account>,
}

/// What is shown of the first login beside what is shown without one, too.
#[derive(Serialize)]
struct First {
    id: String,
    #[serde(flatten)]
    rest: AccountDetail,
}

/// A login, without its secrets.
#[derive(Serialize, ToSchema)]
#[schema(as = Login)]
struct Account {
    id: String,
    #[serde(rename = "isValid")]
    is_valid: bool,
    /// Unix seconds.
    #[serde(rename = "expiresAt")]
    expires_at: Option<i64>,
    #[serde(flatten)]
    rest: AccountDetail,
}

/// See [`Account`].
#[derive(Serialize, ToSchema)]
#[schema(as = LoginDetail)]
struct AccountDetail {
    label: String,
    /// `valid`, `expiring`, `expired`, `rejected` or `challenged`.
    state: &'static str,
    #[serde(rename = "isExpired")]
    is_expired: bool,
    /// Seconds.
    expires_in: Option<i64>,
    /// Unix seconds.
    limited_until: Option<i64>,
    /// When the site last took it, Unix seconds.
    last_verified_at: Option<i64>,
    /// Unix seconds.
    #[serde(rename = "createdAt")]
    created_at: i64,
    /// Unix seconds.
    #[serde(rename = "updatedAt")]
    updated_at: i64,
    /// Its first and last characters.
    token_preview: String,
    cookie_names: Vec<String>,
    /// `database` or `environment`.
    source: &'static str,
    last_error: Option<String>,
}

impl From<Account> for First {
    fn from(account: Account) -> Self {
        Self {
            id: account.id,
            rest: account.rest,
        }
    }
}

/// What the site made of a login.
#[derive(Serialize, ToSchema)]
#[schema(as = VerifiedLogin)]
struct Verified {
    verified: bool,
    /// As it is now; null when it was removed meanwhile.
    account: Option<Account>,
}

/// What was forgotten.
#[derive(Serialize, ToSchema)]
#[schema(as = DeletedLogins)]
struct Forgotten {
    success: bool,
    message: &'static str,
    deleted: usize,
}

/// Stores a login; the next request can use it.
#[utoipa::path(post, path = "/api/qwen/credentials", tag = "credentials",
    request_body = CredentialsBody,
    responses((status = 200, body = Stored)))]
async fn store(State(app): State<App>, request: Request) -> Result<Json<Stored>, ApiError> {
    let new = NewLogin::checked(&extract::json_object(request).await?)?;
    let (id, expires_at) = (new.login.id.clone(), new.expires_at);
    let verified = app.qwen.verify(&new.login).await;
    let credentials = app.handles.credentials.clone();
    let storing = app.tasks.spawn("store credentials", async move {
        credentials.store(new.login, expires_at, verified).await
    });
    storing.await.map_err(|_| ApiError::Internal)??;
    let kept = Kept {
        entity: "credential",
        id: &id,
        action: "updated",
        before: None,
        after: Some(json!({"id": id, "expires_at": expires_at, "verified": verified})),
    };
    changes::keep(&app, kept).await;
    let detail = json!({"action": "updated", "id": id, "verified": verified});
    app.handles.events.publish(
        "credentials:updated",
        "updated",
        "Qwen credentials updated".into(),
        detail,
    );
    Ok(Json(Stored {
        success: true,
        message: "Qwen credentials updated successfully",
        id,
        expires_at: expires_at.map(seconds),
        verified,
    }))
}

/// Asks the site whether it takes a stored login. If so, what was held against the login before is forgotten; if not, or
/// when the site cannot be asked, nothing changes.
#[utoipa::path(post, path = "/api/qwen/credentials/verify", tag = "credentials",
    params(("label" = Option<String>, Query, description = "The login of this name; `default` unless given")),
    responses((status = 200, body = Verified)))]
async fn verify(State(app): State<App>, params: Params) -> Result<Json<Verified>, ApiError> {
    let label = params.text("label");
    let label = label.unwrap_or_else(|| DEFAULT_LABEL.to_owned());
    let credentials = &app.handles.credentials;
    let login = credentials.find(&label).await?;
    let login = login.ok_or_else(|| ApiError::Missing {
        code: "credentials_not_found",
        message: format!("there is no login `{label}`; GET /api/qwen/credentials lists them"),
    })?;
    let verified = app.qwen.verify(&login).await;
    if verified {
        credentials.judge(&login, Verdict::Verified);
    }
    let logins = credentials.all().await?;
    let account = logins.iter().find(|login| login.label == label).map(shown);
    Ok(Json(Verified { verified, account }))
}

/// What is stored, without its secrets.
#[utoipa::path(get, path = "/api/qwen/credentials", tag = "credentials",
    responses((status = 200, body = Logins)))]
async fn show(State(app): State<App>) -> Result<Json<Logins>, ApiError> {
    let logins = app.handles.credentials.all().await?;
    let first = logins.first().map(shown);
    Ok(Json(Logins {
        has_credentials: first.is_some(),
        is_valid: first.as_ref().is_some_and(|first| first.is_valid),
        expires_at: first.as_ref().and_then(|first| first.expires_at),
        state: first.is_none().then_some("missing"),
        first: first.map(Into::into),
        accounts: logins.iter().map(shown).collect(),
    }))
}

/// Forgets every stored login, or the one of a label, at once and for good.
#[utoipa::path(delete, path = "/api/qwen/credentials", tag = "credentials",
    params(("label" = Option<String>, Query, description = "Only the login of this name")),
    responses((status = 200, body = Forgotten)))]
async fn remove(State(app): State<App>, params: Params) -> Result<Json<Forgotten>, ApiError> {
    let (credentials, label) = (app.handles.credentials.clone(), params.text("label"));
    let id = label.clone().unwrap_or_else(|| "*".into());
    let is_one = label.is_some();
    let clearing = app.tasks.spawn("delete credentials", async move {
        match label {
            Some(label) => credentials.delete(&label).await,
            None => credentials.clear().await,
        }
    });
    let deleted = clearing.await.map_err(|_| ApiError::Internal)??;
    if !is_one {
        app.handles.sessions.ended();
    }
    let message = if deleted > 0 {
        "Qwen credentials deleted"
    } else {
        "No credentials to delete"
    };
    let kept = Kept {
        entity: "credential",
        id: &id,
        action: "deleted",
        before: Some(json!({"stored": deleted})),
        after: None,
    };
    changes::keep(&app, kept).await;
    let detail = json!({"action": "deleted", "deleted": deleted});
    app.handles.events.publish(
        "credentials:updated",
        "deleted",
        "Qwen credentials deleted".into(),
        detail,
    );
    Ok(Json(Forgotten {
        success: true,
        message,
        deleted,
    }))
}

fn shown(login: &Shown) -> Account {
    let now = now_ms();
    Account {
        id: login.id.clone(),
        is_valid: login.state.is_usable(),
        expires_at: login.expires_at.map(seconds),
        rest: AccountDetail {
            label: login.label.clone(),
            state: login.state.as_str(),
            is_expired: login.state == LoginState::Expired,
            expires_in: login.expires_at.map(|at| seconds(at - now)),
            last_verified_at: login.last_verified_at.map(seconds),
            limited_until: login.limited_until.map(seconds),
            created_at: seconds(login.created_at),
            updated_at: seconds(login.updated_at),
            token_preview: login.token_preview.clone(),
            cookie_names: login.cookie_names.clone(),
            source: login.source,
            last_error: login.last_error.clone(),
        },
    }
}

fn seconds(ms: i64) -> i64 {
    ms.div_euclid(1_000)
}

/// Whether a body is taken for a login, and then, whether its secrets can be sent as headers; for the fuzzer.
#[cfg(test)]
pub(crate) fn taken(body: &Map<String, Value>) -> Option<bool> {
    use secrecy::ExposeSecret;
    let login = NewLogin::checked(body).ok()?.login;
    let can_be_sent = |secret: &SecretString| {
        let value = hyper::header::HeaderValue::from_str(secret.expose_secret().trim());
        value.is_ok_and(|value| !value.is_empty())
    };
    Some(can_be_sent(&login.token) && can_be_sent(&login.cookies))
}

impl NewLogin {
    fn checked(body: &Map<String, Value>) -> Result<Self, ApiError> {
        let mut faults = Vec::new();
        let text = |key: &str| {
            body.get(key)
                .and_then(Value::as_str)
                .map(str::trim)
                .filter(|text| !text.is_empty())
        };
        let copied = text("curl").map(curl::read).unwrap_or_default();
        let listed = body.get("cookies").and_then(Value::as_array).map(|list| {
            let pair = |cookie: &Value| {
                Some(format!(
                    "{}={}",
                    cookie.get("name")?.as_str()?,
                    cookie.get("value")?.as_str()?
                ))
            };
            list.iter().filter_map(pair).collect::<Vec<_>>().join("; ")
        });
        let mut headers: Map<String, Value> = copied
            .headers
            .into_iter()
            .map(|(name, value)| (name, value.into()))
            .collect();
        let given = body.get("headers").and_then(Value::as_object);
        for (name, value) in given.into_iter().flatten() {
            if curl::is_replayed(name) && value.is_string() {
                headers.insert(name.to_ascii_lowercase(), value.clone());
            }
        }
        let cookies = text("cookies")
            .or(text("cookie_header"))
            .map(str::to_owned)
            .or(listed)
            .or(copied.cookies)
            .filter(|cookies| !cookies.trim().is_empty());
        let from_cookie = cookies.as_deref().and_then(|cookies| {
            let pairs = cookies
                .split(';')
                .filter_map(|pair| pair.trim().split_once('='));
            pairs
                .into_iter()
                .find(|(name, _)| *name == "token")
                .map(|(_, value)| value.to_owned())
        });
        let token = text("token")
            .map(str::to_owned)
            .or(copied.bearer)
            .or(copied.umid)
            .or(from_cookie)
            .filter(|token| !token.trim().is_empty());
        if token.is_none() {
            faults.push(
                "`token` is required: the cookie `token` of your chat.qwen.ai session".into(),
            );
        }
        if cookies.is_none() {
            faults.push(
                "`cookies` is required: the cookie header of your chat.qwen.ai session".into(),
            );
        }
        let control = |text: &Option<String>| {
            text.as_ref()
                .is_some_and(|text| text.chars().any(char::is_control))
        };
        if control(&token) || control(&cookies) {
            faults.push(
                "`token` and `cookies` must not hold line breaks or other control characters"
                    .into(),
            );
        }
        let expires_at = match body.get("expiresAt") {
            None | Some(Value::Null) => None,
            Some(value) => {
                let at = value.as_i64().filter(|at| *at >= 0);
                if at.is_none() {
                    faults.push("`expiresAt` must be a time in Unix seconds".into());
                }
                at.map(as_ms)
            }
        };
        let (Some(token), Some(cookies), true) = (token, cookies, faults.is_empty()) else {
            return Err(ApiError::Validation(faults));
        };
        let label = text("label")
            .unwrap_or(DEFAULT_LABEL)
            .chars()
            .take(100)
            .collect::<String>();
        let login = Login {
            id: label.clone(),
            label,
            token: SecretString::from(token),
            cookies: SecretString::from(cookies),
            headers: SecretString::from(Value::Object(headers).to_string()),
        };
        let expires_at = expires_at.or_else(|| token_expiry(&login));
        if expires_at.is_some_and(|at| at <= now_ms()) {
            return Err(ApiError::CredentialsExpired);
        }
        Ok(Self { login, expires_at })
    }
}
