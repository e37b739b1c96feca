//! The built-in upstream: deterministic, without any network. For trying the gateway out, and for its tests.
//!
//! It has one model, `echo`, and streams the last user message back word by word, as an `OpenAI` server would. Without any
//! text it answers `echo`. Lines of that message that begin with `echo:` are directives, and not part of the text:
//!
//! | Directive | Effect |
//! |---|---|
//! | `echo:reasoning TEXT` | reasoning comes first |
//! | `echo:tool NAME {json}` | ends with a tool call, its arguments in fragments |
//! | `echo:fail STATUS MESSAGE` | that status instead of an answer; 429 and 503 with a `Retry-After` of 1 s |
//! | `echo:stall MS` | a pause before the answer |
//! | `echo:delay MS` | a pause before each word |
//! | `echo:cut N` | the connection ends after N words, without a terminator |
//! | `echo:error N` | an error inside the stream after N words |
//! | `echo:repeat N` | the text N times |
//!
//! A pause that is longer than its deadline ends like that of any other upstream. Usage is counted in words.

mod directives;
mod script;

use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::{FutureExt, StreamExt, stream};
use serde_json::{Value, json};
use tokio::time::sleep;

use self::directives::Plan;
use self::script::Step;
use super::error::{Phase, UpstreamError};
use super::{Answer, AnswerHeaders, ByteStream, Call, Provider, UpstreamModel};
use crate::clock;
use crate::limits::routing::SOON;
use crate::protocol::openai::answer::Assembled;
use crate::protocol::openai::build::Head;
use crate::protocol::openai::chunk;
use crate::protocol::openai::error::UpstreamFault;
use crate::protocol::sse;

/// The kind, and the id of the only model.
pub(crate) const KIND: &str = "echo";

/// Most bytes of an answer that is not streamed.
const WHOLE_LIMIT: usize = 64 * 1024 * 1024;

/// Needs no configuration, and calls itself `echo` in its errors.
pub(crate) struct Echo;

impl Echo {
    async fn answer(call: Call) -> Result<Answer, UpstreamError> {
        let Ok(request) = serde_json::from_slice::<Value>(&call.body) else {
            return Err(failed(400, "the body is not JSON"));
        };
        let plan = Plan::read(&request);
        if plan.stall >= call.deadlines.first_byte {
            sleep(call.deadlines.first_byte).await;
            return Err(late(Phase::FirstByte, call.deadlines.first_byte));
        }
        sleep(plan.stall).await;
        if let Some((status, message)) = &plan.fail {
            return Err(failed(*status, message));
        }
        let created = u64::try_from(clock::now_ms() / 1000).unwrap_or(0);
        let head = Head {
            id: format!("chatcmpl-{}", call.request_id),
            model: KIND.to_owned(),
            created,
        };
        let headers = AnswerHeaders {
            upstream_request_id: Some(format!("echo-{}", call.request_id)),
            ..AnswerHeaders::default()
        };
        if call.stream {
            let bytes = stream_of(&plan, head, call.deadlines.idle);
            return Ok(Answer::Stream {
                status: 200,
                headers,
                bytes,
            });
        }
        let body = whole_of(&plan, head, call.deadlines.idle).await?;
        Ok(Answer::Whole {
            status: 200,
            headers,
            body,
        })
    }
}

impl Provider for Echo {
    fn kind(&self) -> &'static str {
        KIND
    }

    fn complete(&self, call: Call) -> BoxFuture<'_, Result<Answer, UpstreamError>> {
        Self::answer(call).boxed()
    }

    fn models(&self, _: Duration) -> BoxFuture<'_, Result<Vec<UpstreamModel>, UpstreamError>> {
        let model = UpstreamModel {
            id: KIND.to_owned(),
            owned_by: Some("qwarden".to_owned()),
            ..UpstreamModel::default()
        };
        std::future::ready(Ok(vec![model])).boxed()
    }
}

fn stream_of(plan: &Plan, head: Head, idle: Duration) -> ByteStream {
    let steps = script::steps(plan, head);
    stream::unfold(Some(steps), move |state| async move {
        let mut steps = state?;
        let mut silent = Duration::ZERO;
        loop {
            match steps.next()? {
                Step::Send(json) => {
                    return Some((Ok(sse::data(&json)), Some(steps)));
                }
                Step::Fail(json) => return Some((Ok(sse::data(&json)), None)),
                Step::Cut => return None,
                Step::Pause(pause) => {
                    let left = idle.saturating_sub(silent);
                    sleep(pause.min(left)).await;
                    silent += pause;
                    if pause >= left {
                        return Some((Err(late(Phase::Idle, idle)), None));
                    }
                }
            }
        }
    })
    .boxed()
}

async fn whole_of(plan: &Plan, head: Head, idle: Duration) -> Result<Bytes, UpstreamError> {
    let mut whole = Assembled::new(WHOLE_LIMIT);
    // A whole answer always names its usage.
    let plan = Plan {
        include_usage: true,
        ..plan.clone()
    };
    for step in script::steps(&plan, head) {
        match step {
            Step::Send(json) => {
                if let Ok(scan) = chunk::scan(&json) {
                    whole.feed(&scan);
                }
            }
            Step::Fail(json) => {
                let fault = chunk::scan(&json)
                    .ok()
                    .and_then(|scan| scan.error)
                    .unwrap_or_default();
                return Err(UpstreamError::InBand {
                    provider: KIND.to_owned(),
                    fault,
                });
            }
            Step::Cut => {
                return Err(UpstreamError::Cut {
                    provider: KIND.to_owned(),
                    reason: "cut as asked".to_owned(),
                });
            }
            Step::Pause(pause) if pause >= idle => {
                sleep(idle).await;
                return Err(late(Phase::Idle, idle));
            }
            Step::Pause(pause) => sleep(pause).await,
        }
        if whole.is_truncated() {
            return Err(UpstreamError::TooLarge {
                provider: KIND.to_owned(),
                limit: WHOLE_LIMIT,
            });
        }
    }
    Ok(Bytes::from(whole.to_json().to_string()))
}

fn late(phase: Phase, after: Duration) -> UpstreamError {
    UpstreamError::Timeout {
        provider: KIND.to_owned(),
        phase,
        after,
    }
}

fn failed(status: u16, message: &str) -> UpstreamError {
    let kind = if status < 500 {
        "invalid_request_error"
    } else {
        "server_error"
    };
    let error = json!({ "error": { "message": message, "type": kind } });
    let fault = crate::protocol::openai::error::read_value(&error)
        .unwrap_or_else(|| UpstreamFault::text(message));
    let retry_after = matches!(status, 429 | 503).then_some(SOON);
    UpstreamError::Status {
        provider: KIND.to_owned(),
        status,
        fault,
        retry_after,
        should_retry: None,
    }
}

#[cfg(test)]
mod tests;
