//! Any server that speaks `OpenAI`'s chat completions, and Responses where its configuration says so.
//!
//! The body goes out as it is given, and the events come back as they are. What a 200 hides that is no answer (an error
//! as JSON, an HTML page, an empty body) becomes a typed error here, before anything reaches a client.

mod native;

use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use reqwest::{RequestBuilder, Response};
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;
use tokio::time::timeout;

use self::native::Native;
use super::address;
use super::config::Settings;
use super::error::{Phase, UpstreamError};
use super::http::Http;
use super::response::{self, ContentType};
use super::tape::{Sending, Tape};
use super::{Answer, Call, Deadlines, Pass, Passed, Provider, UpstreamModel, capabilities};
use crate::limits::upstreams::{LIST_CONNECT, MODELS_LIMIT, WHOLE_LIMIT};
use crate::protocol::openai::request::roles;
use crate::protocol::openai::{answer, plain};
use crate::protocol::recording::Purpose;

pub(super) struct OpenAi {
    settings: Settings,
    http: Http,
}

impl OpenAi {
    pub(super) fn new(settings: Settings, http: Http) -> Self {
        Self { settings, http }
    }

    async fn complete(&self, call: Call) -> Result<Answer, UpstreamError> {
        let deadlines = self.deadlines(call.deadlines);
        let native = Native::of(&call, self.settings.responses.as_ref());
        let (url, body) = match &native {
            Some(native) => (native.url, native.body.clone()),
            None if call.is_translated => (
                &self.settings.chat,
                plain::request(&call.body, self.settings.kind, &call.model),
            ),
            None => (&self.settings.chat, call.body),
        };
        let client = self
            .http
            .client_for(self.settings.kind, url, deadlines.connect)
            .map_err(|reason| self.unreachable(reason))?;
        let accept = if call.stream {
            "text/event-stream"
        } else {
            "application/json"
        };
        let renamed = (!self.settings.developer)
            .then(|| roles::without_developer(&body))
            .flatten();
        let request = client
            .post(url.clone())
            .header(CONTENT_TYPE, "application/json")
            .header(ACCEPT, accept)
            .body(renamed.unwrap_or(body));
        let listened = (&call.tape, Some(Purpose::Completion));
        let response = self.send(listened, request, deadlines).await?;
        if !response.status().is_success() {
            return Err(response::status_error(self.id(), response).await);
        }
        if call.stream {
            let answer = response::event_stream(self.id(), response, deadlines.idle).await?;
            Ok(match &native {
                Some(native) => native.streamed(answer, self.id()),
                None => answer,
            })
        } else {
            self.whole(response, deadlines.idle, native.as_ref()).await
        }
    }

    async fn pass(&self, pass: Pass) -> Result<Passed, UpstreamError> {
        let deadlines = self.deadlines(pass.deadlines);
        let url = self.settings.at(pass.path);
        let client = self
            .http
            .client_for(self.settings.kind, &url, deadlines.connect)
            .map_err(|reason| self.unreachable(reason))?;
        let request = client
            .post(url)
            .header(CONTENT_TYPE, pass.content_type)
            .body(pass.body);
        let unheard = Tape::default();
        let response = self.send((&unheard, None), request, deadlines).await?;
        if !response.status().is_success() {
            return Err(response::status_error(self.id(), response).await);
        }
        let content_type = response.headers().get(CONTENT_TYPE);
        Ok(Passed {
            status: response.status().as_u16(),
            content_type: content_type
                .and_then(|kind| kind.to_str().ok())
                .map(str::to_owned),
            bytes: response::byte_stream(self.id(), None, response, deadlines.idle),
        })
    }

    async fn models(&self, deadline: Duration) -> Result<Vec<UpstreamModel>, UpstreamError> {
        let deadlines = Deadlines {
            connect: deadline.min(LIST_CONNECT),
            first_byte: deadline,
            idle: deadline,
        };
        let exchange = async {
            let client = self
                .http
                .client_for(self.settings.kind, &self.settings.models, deadlines.connect)
                .map_err(|reason| self.unreachable(reason))?;
            let request = client
                .get(self.settings.models.clone())
                .header(ACCEPT, "application/json");
            let unheard = Tape::default();
            let mut response = self.send((&unheard, None), request, deadlines).await?;
            if !response.status().is_success() {
                return Err(response::status_error(self.id(), response).await);
            }
            let body =
                response::collect(&self.settings.id, &mut response, MODELS_LIMIT, deadline).await?;
            read_models(&body).ok_or_else(|| {
                response::not_an_answer(
                    self.id(),
                    &body,
                    "the list of models is not JSON of the expected shape",
                )
            })
        };
        match timeout(deadline, exchange).await {
            Ok(result) => result,
            Err(_) => Err(self.late(Phase::FirstByte, deadline)),
        }
    }

    /// Sends a request and waits for the headers of its answer.
    async fn send(
        &self,
        (tape, purpose): (&Tape, Option<Purpose>),
        request: RequestBuilder,
        deadlines: Deadlines,
    ) -> Result<Response, UpstreamError> {
        // The configured headers come last: a vendor's own `authorization` replaces the key.
        let request = match &self.settings.key {
            Some(key) => request.header(AUTHORIZATION, bearer(key)),
            None => request,
        };
        let request = request.headers(self.settings.headers.clone());
        let sending = Sending {
            provider: &self.settings.id,
            purpose,
            login: None,
            turn: None,
            deadlines,
        };
        tape.send(sending, request).await
    }

    async fn whole(
        &self,
        mut response: Response,
        idle: Duration,
        native: Option<&Native<'_>>,
    ) -> Result<Answer, UpstreamError> {
        let (status, headers) = (
            response.status().as_u16(),
            response::answer_headers(response.headers()),
        );
        if response::content_type(response.headers()) == ContentType::EventStream {
            let reason = "an event stream, which was not asked for".to_owned();
            return Err(UpstreamError::Malformed {
                provider: self.id(),
                reason,
            });
        }
        let body = response::collect(&self.settings.id, &mut response, WHOLE_LIMIT, idle).await?;
        let body = match native {
            Some(native) => native.whole(body),
            None => body,
        };
        match answer::scan_whole(&body) {
            Ok(whole) if whole.has_choices && whole.error.is_none() => Ok(Answer::Whole {
                status,
                headers,
                body,
            }),
            Ok(whole) if whole.error.is_none() => Err(response::not_an_answer(
                self.id(),
                &body,
                "JSON without `choices` instead of a completion",
            )),
            Ok(answer::Whole {
                error: Some(fault), ..
            }) => Err(UpstreamError::InBand {
                provider: self.id(),
                fault,
            }),
            Ok(_) | Err(_) => Err(response::not_an_answer(
                self.id(),
                &body,
                "a body that is not a completion",
            )),
        }
    }

    fn deadlines(&self, given: Deadlines) -> Deadlines {
        match self.settings.timeout {
            Some(timeout) => Deadlines {
                first_byte: timeout,
                idle: timeout,
                ..given
            },
            None => given,
        }
    }

    fn id(&self) -> String {
        self.settings.id.clone()
    }

    fn unreachable(&self, reason: String) -> UpstreamError {
        UpstreamError::Connect {
            provider: self.id(),
            reason,
        }
    }

    fn late(&self, phase: Phase, after: Duration) -> UpstreamError {
        UpstreamError::Timeout {
            provider: self.id(),
            phase,
            after,
        }
    }
}

impl Provider for OpenAi {
    fn kind(&self) -> &'static str {
        self.settings.kind
    }

    fn complete(&self, call: Call) -> BoxFuture<'_, Result<Answer, UpstreamError>> {
        self.complete(call).boxed()
    }

    fn passes(&self) -> bool {
        // Our own Qwen proxy only chats.
        self.settings.kind != address::QWEN_PROXY
    }

    fn pass(&self, pass: Pass) -> BoxFuture<'_, Result<Passed, UpstreamError>> {
        self.pass(pass).boxed()
    }

    fn models(
        &self,
        deadline: Duration,
    ) -> BoxFuture<'_, Result<Vec<UpstreamModel>, UpstreamError>> {
        self.models(deadline).boxed()
    }
}

/// The header's value; marked so that nothing prints it. The key was checked when the configuration was read.
fn bearer(key: &SecretString) -> HeaderValue {
    let mut value = HeaderValue::from_str(&format!("Bearer {}", key.expose_secret()))
        .unwrap_or(HeaderValue::from_static(""));
    value.set_sensitive(true);
    value
}

/// `{"data":[..]}` (`OpenAI`), `{"models":[..]}` (Ollama's own), or a bare list (Together).
pub(super) fn read_models(body: &[u8]) -> Option<Vec<UpstreamModel>> {
    let value: Value = serde_json::from_slice(body).ok()?;
    let rows = match &value {
        Value::Array(rows) => rows,
        other => match other.get("data").or_else(|| other.get("models"))? {
            Value::Array(rows) => rows,
            // Ollama without any model.
            Value::Null => return Some(Vec::new()),
            _ => return None,
        },
    };
    Some(rows.iter().filter_map(read_model).collect())
}

fn read_model(row: &Value) -> Option<UpstreamModel> {
    let text = |key: &str| {
        row.get(key)
            .and_then(Value::as_str)
            .filter(|text| !text.is_empty())
            .map(str::to_owned)
    };
    let lengths = [
        "context_length",
        "context_window",
        "max_context_length",
        "max_model_len",
    ];
    Some(UpstreamModel {
        id: row
            .as_str()
            .map(str::to_owned)
            .or_else(|| text("id"))
            .or_else(|| text("name"))?,
        owned_by: text("owned_by"),
        created: row.get("created").and_then(Value::as_u64),
        context_length: lengths
            .iter()
            .find_map(|key| row.get(*key).and_then(Value::as_u64)),
        capabilities: capabilities::read(row),
    })
}

#[cfg(test)]
mod tests;
