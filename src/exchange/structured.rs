//! One attempt at a target, by a schema where that is wanted and the target cannot be held to one.
//!
//! Then the answer is waited for as a whole, looked at, and asked for once more if it does not follow; a client that
//! streams gets comments meanwhile, and the events of the answer that follows. What follows neither time is an error of
//! this target: another may do better.

use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::{FutureExt, StreamExt, stream};

use crate::actors::router::target::Target;
use crate::limits::upstreams::EVENT_LIMIT;
use crate::limits::upstreams::MOST_STRUCTURED;
use crate::protocol::openai::answer::Assembled;
use crate::protocol::openai::error::UpstreamFault;
use crate::protocol::openai::structured::{self, Fault, Judged, Wanted};
use crate::protocol::openai::{chunk, restream};
use crate::protocol::sse::{self, Reader};
use crate::providers::{Answer, AnswerHeaders, ByteStream, Call, UpstreamError};

/// An answer that came as a whole, whichever way.
struct Whole {
    status: u16,
    headers: AnswerHeaders,
    body: Bytes,
}

/// Asks `target`.
pub(super) fn complete(
    target: &Target,
    call: Call,
) -> BoxFuture<'_, Result<Answer, UpstreamError>> {
    match missing(target, &call) {
        Some(wanted) => held_to(target, call, wanted).boxed(),
        None => target.adapter.complete(call),
    }
}

/// What the request wants of the answer and the target does not see to.
fn missing(target: &Target, call: &Call) -> Option<Wanted> {
    let knows_formats = target.adapter.knows_formats();
    let knows_schemas = knows_formats && target.facts.structured != Some(false);
    if knows_schemas {
        return None;
    }
    structured::wanted(&call.body).filter(|wanted| !knows_formats || *wanted != Wanted::Object)
}

async fn held_to(target: &Target, call: Call, wanted: Wanted) -> Result<Answer, UpstreamError> {
    let streams = call.stream;
    let Some(told) = wanted.told(&call.body) else {
        return target.adapter.complete(call).await;
    };
    let ask = |body: Bytes| {
        // What is told in words is in the chat request only.
        let call = Call {
            body,
            native: None,
            ..call.clone()
        };
        whole(target, call)
    };
    let first = ask(told.clone()).await?;
    let fault = match wanted.judge(&first.body) {
        Judged::Fits(body) => return Ok(answer(Whole { body, ..first }, streams)),
        Judged::Faulty(fault) => fault,
    };
    tracing::debug!(request.id = call.request_id, faults = ?fault.faults, "an answer did not follow its schema");
    let Some(question) = fault.question(&told) else {
        return Err(unmet(target, &fault));
    };
    let second = ask(question).await?;
    match wanted.judge(&second.body) {
        Judged::Fits(body) => {
            let body = structured::with_usage_of(body, &first.body);
            Ok(answer(Whole { body, ..second }, streams))
        }
        Judged::Faulty(fault) => Err(unmet(target, &fault)),
    }
}

/// Not a fault that a breaker should know of, and one that another target may not have.
fn unmet(target: &Target, fault: &Fault) -> UpstreamError {
    let message = format!(
        "the answer does not follow the schema of `response_format`, also when asked again: {}; use a model that answers \
         by a schema, or a simpler schema",
        fault.faults.join("; ")
    );
    UpstreamError::Status {
        provider: target.provider.clone(),
        status: 502,
        fault: UpstreamFault {
            message,
            code: Some("schema_unmet".into()),
            ..UpstreamFault::default()
        },
        retry_after: None,
        should_retry: Some(false),
    }
}

fn answer(whole: Whole, streams: bool) -> Answer {
    let Whole {
        status,
        headers,
        body,
    } = whole;
    let told = streams.then(|| restream::split(&body)).flatten();
    let Some(told) = told else {
        return Answer::Whole {
            status,
            headers,
            body,
        };
    };
    let events = told.into_iter().map(|told| told.raw);
    let pieces: Vec<_> = events.chain([sse::data("[DONE]")]).map(Ok).collect();
    Answer::Stream {
        status,
        headers,
        bytes: stream::iter(pieces).boxed(),
    }
}

async fn whole(target: &Target, call: Call) -> Result<Whole, UpstreamError> {
    match target.adapter.complete(call).await? {
        Answer::Whole {
            status,
            headers,
            body,
        } => Ok(Whole {
            status,
            headers,
            body,
        }),
        Answer::Stream {
            status,
            headers,
            bytes,
        } => {
            let body = collected(&target.provider, bytes).await?;
            Ok(Whole {
                status,
                headers,
                body,
            })
        }
    }
}

/// A stream as one document.
async fn collected(provider: &str, mut bytes: ByteStream) -> Result<Bytes, UpstreamError> {
    let malformed = |reason: String| UpstreamError::Malformed {
        provider: provider.to_owned(),
        reason,
    };
    let mut reader = Reader::new(EVENT_LIMIT);
    let mut assembled = Assembled::new(MOST_STRUCTURED);
    let mut taken = 0;
    while let Some(piece) = bytes.next().await {
        let piece = piece?;
        taken += piece.len();
        if taken > MOST_STRUCTURED || assembled.is_truncated() {
            return Err(UpstreamError::TooLarge {
                provider: provider.to_owned(),
                limit: MOST_STRUCTURED,
            });
        }
        let frames = reader
            .push(&piece)
            .map_err(|error| malformed(error.to_string()))?;
        for event in frames.into_iter().filter_map(|frame| frame.event) {
            if event.data.is_empty() {
                continue;
            }
            let scan = chunk::scan(&event.data).map_err(|error| malformed(error.to_string()))?;
            if let Some(fault) = scan.error {
                let provider = provider.to_owned();
                return Err(UpstreamError::InBand { provider, fault });
            }
            if !scan.done {
                assembled.feed(&scan);
            }
        }
    }
    if !assembled.is_complete() {
        return Err(UpstreamError::Cut {
            provider: provider.to_owned(),
            reason: "the stream ended before the answer did".into(),
        });
    }
    Ok(assembled.to_json().to_string().into())
}
