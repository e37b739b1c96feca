//! Any server that speaks Anthropic's Messages.
//!
//! A request that came in this dialect goes out as it came; any other is translated. The answer is translated either way,
//! since everything that watches over it reads chat completions; what those have no word for comes along for a client
//! of the same dialect.

use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::{FutureExt, StreamExt, stream};
use reqwest::header::{ACCEPT, CONTENT_TYPE, HeaderName, HeaderValue};
use reqwest::{RequestBuilder, Response};
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;

use super::config::Settings;
use super::error::UpstreamError;
use super::http::Http;
use super::response;
use super::server::Server;
use super::{Answer, ByteStream, Call, Provider, UpstreamModel};
use crate::clock;
use crate::limits::upstreams::EVENT_LIMIT;
use crate::limits::upstreams::WHOLE_LIMIT;
use crate::protocol::anthropic::stream::Translator;
use crate::protocol::anthropic::{content, upstream};
use crate::protocol::dialect::Dialect;
use crate::protocol::openai::request::named;
use crate::protocol::recording::Purpose;
use crate::protocol::sse::Reader;

const API_KEY: HeaderName = HeaderName::from_static("x-api-key");
const VERSION: HeaderName = HeaderName::from_static("anthropic-version");
const BETA: HeaderName = HeaderName::from_static("anthropic-beta");

pub(super) struct Anthropic {
    server: Server,
}

impl Anthropic {
    pub(super) fn new(settings: Settings, http: Http) -> Self {
        Self {
            server: Server::new(settings, http, sign),
        }
    }

    async fn complete(&self, call: Call) -> Result<Answer, UpstreamError> {
        let server = &self.server;
        let deadlines = server.deadlines(call.deadlines);
        let native = call
            .native
            .as_ref()
            .filter(|native| native.dialect == Dialect::Anthropic);
        let body = match native {
            // Byte for byte but for the model: prompt caches go by what was sent before.
            Some(native) => named::json(native.body.clone())
                .map(|named| named.to(&call.model))
                .map_err(|_| "the request cannot be read".to_owned()),
            None => upstream::request(&call.body)
                .map(|body| Bytes::from(body.to_string()))
                .map_err(|error| error.to_string()),
        };
        // It was read when it came.
        let body = body.map_err(|reason| server.malformed(reason))?;
        let accept = if call.stream {
            "text/event-stream"
        } else {
            "application/json"
        };
        let url = &server.settings.chat;
        let mut request = server
            .client(url, deadlines)?
            .post(url.clone())
            .header(CONTENT_TYPE, "application/json")
            .header(ACCEPT, accept)
            .body(body);
        let beta = native.and_then(|native| native.beta.as_deref());
        if let Some(beta) = beta.and_then(|beta| HeaderValue::from_str(beta).ok()) {
            request = request.header(BETA, beta);
        }
        let keeps_all = native.is_some();
        let listened = (&call.tape, Some(Purpose::Completion));
        let response = server.send(listened, request, deadlines).await?;
        if call.stream {
            let answer = response::event_stream(server.id(), response, deadlines.idle).await?;
            Ok(match answer {
                Answer::Stream {
                    status,
                    headers,
                    bytes,
                } => Answer::Stream {
                    status,
                    headers,
                    bytes: translated(server.id(), bytes, Translator::new(keeps_all, now())),
                },
                whole @ Answer::Whole { .. } => whole,
            })
        } else {
            self.whole(response, deadlines.idle, keeps_all).await
        }
    }

    async fn whole(
        &self,
        mut response: Response,
        idle: Duration,
        keeps_all: bool,
    ) -> Result<Answer, UpstreamError> {
        let (status, headers) = (
            response.status().as_u16(),
            response::answer_headers(response.headers()),
        );
        let server = &self.server;
        let body = response::collect(&server.settings.id, &mut response, WHOLE_LIMIT, idle).await?;
        let message: Value = serde_json::from_slice(&body).unwrap_or_default();
        if !message.get("content").is_some_and(Value::is_array) {
            let what = "a body that is not a message";
            return Err(response::not_an_answer(server.id(), &body, what));
        }
        let completion = content::completion(&message, keeps_all, now());
        Ok(Answer::Whole {
            status,
            headers,
            body: completion.to_string().into(),
        })
    }

    async fn models(&self, deadline: Duration) -> Result<Vec<UpstreamModel>, UpstreamError> {
        let mut list = self.server.settings.models.clone();
        // Twenty are listed otherwise.
        list.query_pairs_mut().append_pair("limit", "1000");
        self.server.models(list, deadline).await
    }
}

fn sign(request: RequestBuilder, key: Option<&SecretString>) -> RequestBuilder {
    let request = request.header(VERSION, "2023-06-01");
    // The key was checked when the configuration was read.
    match key.map(|key| HeaderValue::from_str(key.expose_secret())) {
        Some(Ok(mut key)) => {
            key.set_sensitive(true);
            request.header(API_KEY, key)
        }
        _ => request,
    }
}

impl Provider for Anthropic {
    fn kind(&self) -> &'static str {
        self.server.settings.kind
    }

    fn speaks(&self) -> Dialect {
        Dialect::Anthropic
    }

    fn complete(&self, call: Call) -> BoxFuture<'_, Result<Answer, UpstreamError>> {
        self.complete(call).boxed()
    }

    fn models(
        &self,
        deadline: Duration,
    ) -> BoxFuture<'_, Result<Vec<UpstreamModel>, UpstreamError>> {
        self.models(deadline).boxed()
    }
}

/// Unix seconds.
fn now() -> u64 {
    u64::try_from(clock::now_ms() / 1_000).unwrap_or_default()
}

/// A stream of events as one of chat chunks. It ends where the other ends, so an early end stays one.
fn translated(provider: String, bytes: ByteStream, translator: Translator) -> ByteStream {
    let reader = Reader::new(EVENT_LIMIT);
    let state = Some((provider, bytes, reader, translator));
    stream::unfold(state, |state| async move {
        let (provider, mut bytes, mut reader, mut translator) = state?;
        loop {
            let malformed = |reason: String| UpstreamError::Malformed {
                provider: provider.clone(),
                reason,
            };
            let mut out = Vec::new();
            let frames = match bytes.next().await? {
                Ok(piece) => reader.push(&piece),
                Err(error) => return Some((Err(error), None)),
            };
            let frames = match frames {
                Ok(frames) => frames,
                Err(error) => return Some((Err(malformed(error.to_string())), None)),
            };
            for event in frames.into_iter().filter_map(|frame| frame.event) {
                if event.data.is_empty() {
                    continue;
                }
                if let Err(error) = translator.event(&event.data, &mut out) {
                    // What came before it is told first: the reader sees the error next.
                    let failed = stream::iter([Err(malformed(error.to_string()))]).boxed();
                    let next = Some((provider.clone(), failed, reader, translator));
                    return Some((Ok(Bytes::from(out)), next));
                }
            }
            if !out.is_empty() {
                let next = Some((provider, bytes, reader, translator));
                return Some((Ok(Bytes::from(out)), next));
            }
        }
    })
    .boxed()
}
