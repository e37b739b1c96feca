//! One adapter per kind of upstream behind one trait. Knows HTTP; knows no routing, database or client.

pub(crate) mod address;
mod anthropic;
mod authority;
pub(crate) mod calls;
pub(crate) mod capabilities;
pub(crate) mod config;
pub(crate) mod echo;
pub(crate) mod error;
pub(crate) mod http;
mod openai;
pub(crate) mod presets;
mod quota;
pub(crate) mod qwen;
mod qwen_oauth;
mod response;
mod server;
pub(crate) mod tape;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use futures_util::stream::BoxStream;

pub(crate) use self::address::OwnPorts;
pub(crate) use self::config::{ConfigError, Definition, InvalidConfig, Record};
pub(crate) use self::error::{Blame, Phase, UpstreamError, Verdict};
pub(crate) use self::http::Http;
use self::tape::Tape;
use crate::protocol::dialect::{Dialect, Native};
use crate::protocol::openai::error::UpstreamFault;

/// The body of an answer as the upstream sends it. Ends after its first error; dropping it cancels the upstream.
pub(crate) type ByteStream = BoxStream<'static, Result<Bytes, UpstreamError>>;

/// One attempt.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    /// A chat completion request in `OpenAI`'s form; its model is already the upstream's.
    pub(crate) body: Bytes,
    /// Whether the body was translated from another dialect.
    pub(crate) is_translated: bool,
    /// The request as the client sent it in that one, unless the body says more; its model is the client's.
    pub(crate) native: Option<Native>,
    /// What the upstream calls the model.
    pub(crate) model: String,
    /// Whether the body asks for a stream.
    pub(crate) stream: bool,
    pub(crate) deadlines: Deadlines,
    pub(crate) request_id: String,
    /// What the client calls its session, if it names one. One session is not one conversation (client-behaviour, 4).
    pub(crate) session: Option<String>,
    /// What listens to the attempt, or answers it.
    pub(crate) tape: Tape,
}

/// How long an upstream may take. A `timeout` in the provider's configuration replaces `first_byte` and `idle`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Deadlines {
    /// Until the connection stands, TLS included.
    pub(crate) connect: Duration,
    /// From the start of the call to the headers of the answer.
    pub(crate) first_byte: Duration,
    /// Between two pieces of the body.
    pub(crate) idle: Duration,
}

/// A request that is passed on as it is.
#[derive(Debug, Clone)]
pub(crate) struct Pass {
    /// Below the base URL.
    pub(crate) path: &'static str,
    pub(crate) content_type: String,
    /// Its model is already the upstream's.
    pub(crate) body: Bytes,
    pub(crate) deadlines: Deadlines,
}

/// What came back, with a 2xx status.
pub(crate) struct Passed {
    pub(crate) status: u16,
    pub(crate) content_type: Option<String>,
    pub(crate) bytes: ByteStream,
}

/// What an upstream answered, with a 2xx status.
pub(crate) enum Answer {
    /// Server-sent events, not looked into.
    Stream {
        status: u16,
        headers: AnswerHeaders,
        bytes: ByteStream,
    },
    /// A completion: JSON with choices.
    Whole {
        status: u16,
        headers: AnswerHeaders,
        body: Bytes,
    },
}

/// The headers of an answer that are worth keeping. None of them is passed on as it is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct AnswerHeaders {
    /// The upstream's own id of the request, for asking its operator about it.
    pub(crate) upstream_request_id: Option<String>,
    /// Fields of the request that had no effect.
    pub(crate) ignored: Vec<&'static str>,
    /// Nothing is left of a limit for so long.
    pub(crate) used_up_for: Option<Duration>,
}

/// A model an upstream offers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct UpstreamModel {
    pub(crate) id: String,
    pub(crate) owned_by: Option<String>,
    /// Unix seconds.
    pub(crate) created: Option<u64>,
    /// Tokens.
    pub(crate) context_length: Option<u64>,
    /// What it can do, in the words of [`capabilities`]; empty when the upstream does not tell.
    pub(crate) capabilities: Vec<String>,
}

/// A configured upstream.
pub(crate) trait Provider: Send + Sync + 'static {
    /// The kind of adapter: metric label and log field. A vendor's preset name, or `generic-openai`.
    fn kind(&self) -> &'static str;

    /// Whether it tries again by itself what passes: then it is not asked once more for the same request.
    fn retries_itself(&self) -> bool {
        false
    }

    /// What it speaks beside chat completions, or instead of them: a request in that dialect goes out as it came.
    fn speaks(&self) -> Dialect {
        Dialect::Chat
    }

    /// Whether its models can be told by `response_format` what an answer is to be. Where not, they are told in words.
    fn knows_formats(&self) -> bool {
        true
    }

    /// Makes one attempt. Resolves when headers came (stream) or the body is whole; dropping it or the stream cancels it.
    fn complete(&self, call: Call) -> BoxFuture<'_, Result<Answer, UpstreamError>>;

    /// Whether it takes what is no chat.
    fn passes(&self) -> bool {
        false
    }

    /// Passes on what is no chat. Resolves when headers came; dropping it or the body cancels it.
    fn pass(&self, pass: Pass) -> BoxFuture<'_, Result<Passed, UpstreamError>> {
        let message = format!(
            "it only chats and has no `/{}`; name a model of a provider that has, as `provider/model`",
            pass.path
        );
        let refused = UpstreamError::Status {
            provider: self.kind().to_owned(),
            status: 404,
            fault: UpstreamFault::text(&message),
            retry_after: None,
            should_retry: Some(false),
        };
        std::future::ready(Err(refused)).boxed()
    }

    /// Lists models; also the health probe. `deadline` is for the whole exchange.
    fn models(
        &self,
        deadline: Duration,
    ) -> BoxFuture<'_, Result<Vec<UpstreamModel>, UpstreamError>>;
}

/// Says what is wrong with a configuration, without making anything of it.
pub(crate) fn check(definition: &Definition, own: &OwnPorts) -> Result<(), InvalidConfig> {
    let common = config::check_common(definition);
    let kind = match definition.kind.as_str() {
        echo::KIND | qwen::DIRECT => Ok(()),
        qwen_oauth::KIND => {
            qwen_oauth::QwenOauth::new(definition, Http::new(own.clone())).map(drop)
        }
        _ => config::read(definition).and_then(|settings| {
            match own.refusal(&definition.kind, &settings.chat) {
                None => Ok(()),
                Some(why) => Err(InvalidConfig {
                    provider: definition.id.clone(),
                    errors: vec![ConfigError {
                        key: "baseURL".into(),
                        message: format!("`baseURL` must not be {why}"),
                    }],
                }),
            }
        }),
    };
    match (kind, common) {
        (Err(mut own), Err(common)) => {
            own.errors.extend(common.errors);
            Err(own)
        }
        (own, common) => own.and(common),
    }
}

/// Makes the adapter of a configured provider. Nothing is connected yet.
pub(crate) fn build(
    definition: &Definition,
    http: &Http,
) -> Result<Arc<dyn Provider>, InvalidConfig> {
    if definition.kind == echo::KIND {
        return Ok(Arc::new(echo::Echo));
    }
    if definition.kind == qwen_oauth::KIND {
        return Ok(Arc::new(qwen_oauth::QwenOauth::new(
            definition,
            http.clone(),
        )?));
    }
    let settings = config::read(definition)?;
    Ok(match settings.dialect {
        Dialect::Anthropic => Arc::new(anthropic::Anthropic::new(settings, http.clone())),
        _ => Arc::new(openai::OpenAi::new(settings, http.clone())),
    })
}
