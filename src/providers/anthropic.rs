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
use secrecy::ExposeSecret;
use serde_json::Value;
use tokio::time::timeout;

use super::config::Settings;
use super::error::{Phase, UpstreamError};
use super::http::Http;
use super::openai::read_models;
use super::response;
use super::tape::{Sending, Tape};
use super::{Answer, ByteStream, Call, Deadlines, Provider, UpstreamModel};
use crate::clock;
use crate::limits::upstreams::EVENT_LIMIT;
use crate::limits::upstreams::LIST_CONNECT;
use crate::limits::upstreams::{MODELS_LIMIT, WHOLE_LIMIT};
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
    settings: Settings,
    http: Http,
}

impl Anthropic {
    pub(super) fn new(settings: Settings, http: Http) -> Self {
        Self { settings, http }
    }

    async fn complete(&self, call: Call) -> Result<Answer, UpstreamError> {
        let deadlines = match self.settings.timeout {
            Some(timeout) => Deadlines {
                first_byte: timeout,
                idle: timeout,
                ..call.deadlines
            },
            None => call.deadlines,
        };
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
        let body = body.map_err(|reason| self.malformed(reason))?;
        let accept = if call.stream {
            "text/event-stream"
        } else {
            "application/json"
        };
        let client = self
            .http
            .client_for(self.settings.kind, &self.settings.chat, deadlines.connect)
            .map_err(|reason| self.unreachable(reason))?;
        let mut request = client
            .post(self.settings.chat.clone())
            .header(CONTENT_TYPE, "application/json")
            .header(ACCEPT, accept)
            .body(body);
        let beta = native.and_then(|native| native.beta.as_deref());
        if let Some(beta) = beta.and_then(|beta| HeaderValue::from_str(beta).ok()) {
            request = request.header(BETA, beta);
        }
        let keeps_all = native.is_some();
        let listened = (&call.tape, Some(Purpose::Completion));
        let response = self.send(listened, request, deadlines).await?;
        if !response.status().is_success() {
            return Err(response::status_error(self.id(), response).await);
        }
        if call.stream {
            let answer = response::event_stream(self.id(), response, deadlines.idle).await?;
            Ok(match answer {
                Answer::Stream {
                    status,
                    headers,
                    bytes,
                } => Answer::Stream {
                    status,
                    headers,
                    bytes: translated(self.id(), bytes, Translator::new(keeps_all, now())),
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
        let body = response::collect(&self.settings.id, &mut response, WHOLE_LIMIT, idle).await?;
        let message: Value = serde_json::from_slice(&body).unwrap_or_default();
        if !message.get("content").is_some_and(Value::is_array) {
            let what = "a body that is not a message";
            return Err(response::not_an_answer(self.id(), &body, what));
        }
        let completion = content::completion(&message, keeps_all, now());
        Ok(Answer::Whole {
            status,
            headers,
            body: completion.to_string().into(),
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
            let mut list = self.settings.models.clone();
            // Twenty are listed otherwise.
            list.query_pairs_mut().append_pair("limit", "1000");
            let request = client.get(list).header(ACCEPT, "application/json");
            let unheard = Tape::default();
            let mut response = self.send((&unheard, None), request, deadlines).await?;
            if !response.status().is_success() {
                return Err(response::status_error(self.id(), response).await);
            }
            let body =
                response::collect(&self.settings.id, &mut response, MODELS_LIMIT, deadline).await?;
            read_models(&body).ok_or_else(|| {
                let what = "the list of models is not JSON of the expected shape";
                response::not_an_answer(self.id(), &body, what)
            })
        };
        timeout(deadline, exchange).await.unwrap_or_else(|_| {
            Err(UpstreamError::Timeout {
                provider: self.id(),
                phase: Phase::FirstByte,
                after: deadline,
            })
        })
    }

    async fn send(
        &self,
        (tape, purpose): (&Tape, Option<Purpose>),
        request: RequestBuilder,
        deadlines: Deadlines,
    ) -> Result<Response, UpstreamError> {
        let mut request = request.header(VERSION, "2023-06-01");
        if let Some(key) = &self.settings.key
            && let Ok(mut key) = HeaderValue::from_str(key.expose_secret())
        {
            key.set_sensitive(true);
            request = request.header(API_KEY, key);
        }
        // The configured headers come last: a vendor that wants `authorization` gets it from there.
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

    fn id(&self) -> String {
        self.settings.id.clone()
    }

    fn unreachable(&self, reason: String) -> UpstreamError {
        UpstreamError::Connect {
            provider: self.id(),
            reason,
        }
    }

    fn malformed(&self, reason: String) -> UpstreamError {
        UpstreamError::Malformed {
            provider: self.id(),
            reason,
        }
    }
}

impl Provider for Anthropic {
    fn kind(&self) -> &'static str {
        self.settings.kind
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
