//! Who may ask for completions: everybody of this machine, or who has a key; `auth.requireKeys` says which.

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use hyper::Method;
use hyper::http::Extensions;

use crate::actors::keys::{Account, Admitted, Counts, NoKey};
use crate::http::App;
use crate::http::access::{self, Peer};
use crate::http::error::ApiError;
use crate::http::extract;
use crate::http::same_user::{Caller, Door};
use crate::settings;

/// What a client may ask for; everything, unless its key says less.
#[derive(Clone, Default)]
pub(crate) struct Allowed(Option<Admitted>);

impl Allowed {
    pub(crate) fn in_request(extensions: &Extensions) -> Self {
        extensions.get::<Self>().cloned().unwrap_or_default()
    }

    /// Where what its key uses is put down.
    pub(crate) fn account(&self) -> Option<Account> {
        self.0.as_ref().map(|key| key.account.clone())
    }

    pub(crate) fn permits(&self, model: &str) -> bool {
        let list = self
            .0
            .as_ref()
            .and_then(|key| key.row.allowed_models.as_ref());
        list.is_none_or(|list| list.iter().any(|allowed| covers(allowed, model)))
    }

    /// The key the client came with, where one is needed.
    pub(crate) fn key_id(&self) -> Option<&str> {
        self.0.as_ref().map(|key| key.row.id.as_str())
    }

    /// Refuses a model that is not allowed; no name is one of those that were allowed by name.
    pub(crate) fn check(&self, model: Option<&str>) -> Result<(), ApiError> {
        if self.permits(model.unwrap_or_default()) {
            return Ok(());
        }
        let named = model.map_or("a request without a model".into(), |model| {
            format!("the model `{model}`")
        });
        Err(ApiError::Forbidden {
            code: "model_not_allowed",
            message: format!("this API key does not allow {named}"),
        })
    }
}

/// The layer of all ports but management's.
pub(crate) async fn clients(State(app): State<App>, mut request: Request, next: Next) -> Response {
    let settings = app.settings.borrow().clone();
    let is_near = access::is_near(&request);
    let is_needed = match settings.text(settings::AUTH_REQUIRE_KEYS) {
        Some("never") => false,
        Some("always") => true,
        _ => !is_near,
    };
    let caller = request.extensions().get::<Caller>();
    let is_other_user = is_near && app.gate.users.refuse(&settings, Door::Completions, caller);
    let is_needed = is_needed || is_other_user;
    let is_about = matches!(request.uri().path(), "/" | "/health");
    if !is_needed || (is_about && is_near) {
        return next.run(request).await;
    }
    let counts = if request.method() == Method::POST {
        Counts::Yes
    } else {
        Counts::No
    };
    match admit(&app, &request, counts) {
        Ok(key) => {
            request.extensions_mut().insert(Allowed(Some(key)));
            next.run(request).await
        }
        Err(refused) => {
            // A client that is still sending would not read why.
            let is_bare = access::presented(request.headers()).is_empty();
            extract::discard(request.into_body()).await;
            if is_other_user && is_bare {
                return access::other_user().into_response();
            }
            refused.into_response()
        }
    }
}

/// The key a request came with. A peer that tried too many wrong ones waits, whatever it sends (S6).
fn admit(app: &App, request: &Request, counts: Counts) -> Result<Admitted, ApiError> {
    let presented = access::presented(request.headers());
    let peer = Peer::in_request(request.extensions()).remote;
    if !presented.is_empty() {
        let waiting = app.gate.clients.check(peer);
        waiting.map_err(|after| ApiError::TooMany {
            code: "too_many_attempts",
            message: "too many wrong API keys; try again later".into(),
            after,
        })?;
    }
    app.keys.admit(&presented, counts).map_err(|reason| {
        if matches!(reason, NoKey::Unknown) {
            app.gate.clients.count(peer);
        }
        refused(&reason)
    })
}

/// In the words of `OpenAI`'s own API.
fn refused(reason: &NoKey) -> ApiError {
    match reason {
        NoKey::TooFast { after, .. } => ApiError::TooMany {
            code: "rate_limit_exceeded",
            message: reason.to_string(),
            after: *after,
        },
        NoKey::Exhausted { after, .. } => ApiError::TooMany {
            code: "budget_exhausted",
            message: reason.to_string(),
            after: *after,
        },
        NoKey::Missing | NoKey::Unknown | NoKey::Disabled | NoKey::Expired => {
            ApiError::Unauthorized {
                kind: "invalid_request_error",
                code: "invalid_api_key",
                message: reason.to_string(),
                forget: None,
            }
        }
    }
}

/// `groq/*` covers all that begin so.
fn covers(allowed: &str, model: &str) -> bool {
    match allowed.strip_suffix('*') {
        Some(beginning) => model.starts_with(beginning),
        None => model == allowed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn models_are_allowed_by_name_or_by_their_beginning() {
        for (allowed, model, covered) in [
            ("echo", "echo", true),
            ("echo", "echo2", false),
            ("groq/*", "groq/llama", true),
            ("groq/*", "llama", false),
            ("*", "anything", true),
        ] {
            assert_eq!(covers(allowed, model), covered, "{allowed} {model}");
        }
    }
}
