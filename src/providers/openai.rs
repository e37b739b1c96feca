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

use self::native::Native;
use super::address;
use super::config::Settings;
use super::error::UpstreamError;
use super::http::Http;
use super::response::{self, ContentType};
use super::server::Server;
use super::tape::Tape;
use super::{Answer, Call, Pass, Passed, Provider, UpstreamModel, capabilities};
use crate::limits::upstreams::WHOLE_LIMIT;
use crate::protocol::dialect::Dialect;
use crate::protocol::openai::request::roles;
use crate::protocol::openai::{answer, plain};
use crate::protocol::recording::Purpose;

pub(super) struct OpenAi {
    server: Server,
}

impl OpenAi {
    pub(super) fn new(settings: Settings, http: Http) -> Self {
        Self {
            server: Server::new(settings, http, sign),
        }
    }

    async fn complete(&self, call: Call) -> Result<Answer, UpstreamError> {
        let server = &self.server;
        let settings = &server.settings;
        let deadlines = server.deadlines(call.deadlines);
        let native = Native::of(&call, settings.responses.as_ref());
        let (url, body) = match &native {
            Some(native) => (native.url, native.body.clone()),
            None if call.is_translated => (
                &settings.chat,
                plain::request(&call.body, settings.kind, &call.model),
            ),
            None => (&settings.chat, call.body),
        };
        let client = server.client(url, deadlines)?;
        let accept = if call.stream {
            "text/event-stream"
        } else {
            "application/json"
        };
        let renamed = (!settings.developer)
            .then(|| roles::without_developer(&body))
            .flatten();
        let request = client
            .post(url.clone())
            .header(CONTENT_TYPE, "application/json")
            .header(ACCEPT, accept)
            .body(renamed.unwrap_or(body));
        let listened = (&call.tape, Some(Purpose::Completion));
        let response = server.send(listened, request, deadlines).await?;
        if call.stream {
            let answer = response::event_stream(server.id(), response, deadlines.idle).await?;
            Ok(match &native {
                Some(native) => native.streamed(answer, server.id()),
                None => answer,
            })
        } else {
            self.whole(response, deadlines.idle, native.as_ref()).await
        }
    }

    async fn pass(&self, pass: Pass) -> Result<Passed, UpstreamError> {
        let server = &self.server;
        let deadlines = server.deadlines(pass.deadlines);
        let url = server.settings.at(pass.path);
        let request = server
            .client(&url, deadlines)?
            .post(url)
            .header(CONTENT_TYPE, pass.content_type)
            .body(pass.body);
        let unheard = Tape::default();
        let response = server.send((&unheard, None), request, deadlines).await?;
        let content_type = response.headers().get(CONTENT_TYPE);
        Ok(Passed {
            status: response.status().as_u16(),
            content_type: content_type
                .and_then(|kind| kind.to_str().ok())
                .map(str::to_owned),
            bytes: response::byte_stream(server.id(), None, response, deadlines.idle),
        })
    }

    async fn whole(
        &self,
        mut response: Response,
        idle: Duration,
        native: Option<&Native<'_>>,
    ) -> Result<Answer, UpstreamError> {
        let server = &self.server;
        let (status, headers) = (
            response.status().as_u16(),
            response::answer_headers(response.headers()),
        );
        if response::content_type(response.headers()) == ContentType::EventStream {
            let reason = "an event stream, which was not asked for".to_owned();
            return Err(server.malformed(reason));
        }
        let body = response::collect(&server.settings.id, &mut response, WHOLE_LIMIT, idle).await?;
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
                server.id(),
                &body,
                "JSON without `choices` instead of a completion",
            )),
            Ok(answer::Whole {
                error: Some(fault), ..
            }) => Err(UpstreamError::InBand {
                provider: server.id(),
                fault,
            }),
            Ok(_) | Err(_) => Err(response::not_an_answer(
                server.id(),
                &body,
                "a body that is not a completion",
            )),
        }
    }
}

impl Provider for OpenAi {
    fn kind(&self) -> &'static str {
        self.server.settings.kind
    }

    fn speaks(&self) -> Dialect {
        if self.server.settings.responses.is_some() {
            Dialect::Responses
        } else {
            Dialect::Chat
        }
    }

    fn complete(&self, call: Call) -> BoxFuture<'_, Result<Answer, UpstreamError>> {
        self.complete(call).boxed()
    }

    fn passes(&self) -> bool {
        // Our own Qwen proxy only chats.
        self.server.settings.kind != address::QWEN_PROXY
    }

    fn pass(&self, pass: Pass) -> BoxFuture<'_, Result<Passed, UpstreamError>> {
        self.pass(pass).boxed()
    }

    fn models(
        &self,
        deadline: Duration,
    ) -> BoxFuture<'_, Result<Vec<UpstreamModel>, UpstreamError>> {
        self.server
            .models(self.server.settings.models.clone(), deadline)
            .boxed()
    }
}

fn sign(request: RequestBuilder, key: Option<&SecretString>) -> RequestBuilder {
    match key {
        Some(key) => request.header(AUTHORIZATION, bearer(key)),
        None => request,
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
