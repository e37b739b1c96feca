//! A stream on its way through: events are looked at, never changed, and forwarded as they come.

use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::StreamExt;

use crate::actors::router::resolve::Target;
use crate::exchange::downlink::Interrupted;
use crate::exchange::record::Ending;
use crate::exchange::{Attempted, Exchange, progress_limit};
use crate::protocol::openai::chunk;
use crate::protocol::recording::Form;
use crate::protocol::sse::{self, Frame, Reader};
use crate::providers::{ByteStream, Phase, UpstreamError};

/// How long an upstream that sent its end marker may take to end the body, so that its connection can be used again.
const TRAILER: Duration = Duration::from_millis(50);

/// What an event means for the stream.
enum Step {
    Go,
    /// The upstream's end marker, as it sent it.
    End(Bytes),
    Stop(Attempted),
}

impl Exchange {
    /// Forwards `bytes` until the upstream's end, whatever that is.
    pub(super) async fn stream(
        &mut self,
        target: &Target,
        mut bytes: ByteStream,
        idle: Duration,
    ) -> Attempted {
        let mut reader = Reader::new(sse::EVENT_LIMIT);
        let mut progress = Instant::now();
        loop {
            let next = tokio::time::timeout(
                progress_limit(idle).saturating_sub(progress.elapsed()),
                bytes.next(),
            );
            let chunk = match self.downlink.patiently(next).await {
                Err(interrupted) => return Attempted::Interrupted(interrupted),
                Ok(Err(_)) => {
                    let after = progress_limit(idle);
                    let provider = target.provider.clone();
                    return self
                        .broken(UpstreamError::Timeout {
                            provider,
                            phase: Phase::Progress,
                            after,
                        })
                        .await;
                }
                Ok(Ok(Some(Err(error)))) => {
                    // What ended whole before the connection broke is whole.
                    return if self.recorder.assembled().is_complete() {
                        self.complete(None).await
                    } else {
                        self.broken(error).await
                    };
                }
                Ok(Ok(None)) => return self.ended(target, reader).await,
                Ok(Ok(Some(Ok(chunk)))) => chunk,
            };
            let frames = match reader.push(&chunk) {
                Ok(frames) => frames,
                Err(error) => return self.broken(malformed(target, &error.to_string())).await,
            };
            for frame in frames {
                let is_event = frame.event.is_some();
                match self.frame(target, frame).await {
                    // After the forwarding: the time a slow client took is not the upstream's.
                    Step::Go if is_event => progress = Instant::now(),
                    Step::Go => {}
                    Step::Stop(attempted) => return attempted,
                    Step::End(marker) => {
                        let attempted = self.complete(Some(marker)).await;
                        // Read on to the end of the body, or the connection could not be reused.
                        let _ = tokio::time::timeout(TRAILER, bytes.next()).await;
                        return attempted;
                    }
                }
            }
        }
    }

    async fn frame(&mut self, target: &Target, frame: Frame) -> Step {
        let Some(event) = &frame.event else {
            return self.forward(frame.raw).await;
        };
        if event.data.is_empty() {
            return self.forward(frame.raw).await;
        }
        let scan = match chunk::scan(&event.data) {
            Ok(scan) => scan,
            // Forwarding it would raise a bare decoding error in the OpenAI SDK (client-behaviour.md, 6).
            Err(error) => {
                return Step::Stop(self.broken(malformed(target, &error.to_string())).await);
            }
        };
        if scan.done {
            return Step::End(frame.raw);
        }
        if let Some(fault) = scan.error {
            let provider = target.provider.clone();
            return Step::Stop(self.broken(UpstreamError::InBand { provider, fault }).await);
        }
        self.recorder.saw(&scan);
        if scan.usage_only && !self.request.include_usage {
            // We asked for it, the client did not: it must not see what it did not ask for.
            self.downlink.withhold(&frame.raw);
            return Step::Go;
        }
        self.forward(frame.raw).await
    }

    async fn forward(&mut self, raw: Bytes) -> Step {
        match self.downlink.send(raw).await {
            Ok(()) => Step::Go,
            Err(interrupted) => Step::Stop(Attempted::Interrupted(interrupted)),
        }
    }

    /// The body ended without an end marker: whole only if every choice said why it finished.
    async fn ended(&mut self, target: &Target, reader: Reader) -> Attempted {
        let inside = if reader.is_mid_event() {
            "inside an event"
        } else {
            "before the answer did"
        };
        if let Some(frame) = reader.finish() {
            match self.frame(target, frame).await {
                Step::Go => {}
                Step::Stop(attempted) => return attempted,
                Step::End(_) => return self.complete(None).await,
            }
        }
        if self.recorder.assembled().is_complete() {
            return self.complete(None).await;
        }
        let reason = format!("the stream ended {inside}");
        self.broken(UpstreamError::Cut {
            provider: target.provider.clone(),
            reason,
        })
        .await
    }

    /// The answer is whole: its row is stored, then the client gets its last byte.
    async fn complete(&mut self, marker: Option<Bytes>) -> Attempted {
        let marker = marker.unwrap_or_else(|| sse::data("[DONE]"));
        self.downlink.note(Form::Events, &marker);
        self.recorder
            .finish(Ending::Completed, 200, self.received)
            .await;
        match self.downlink.end(marker).await {
            Ok(()) | Err(Interrupted::ClientGone) => Attempted::Over,
            Err(interrupted @ Interrupted::ShuttingDown) => Attempted::Interrupted(interrupted),
        }
    }

    /// The upstream failed: another target may be tried as long as the client has seen nothing.
    async fn broken(&mut self, error: UpstreamError) -> Attempted {
        if !self.downlink.is_open() {
            return Attempted::Failed(error);
        }
        let farewell = self
            .downlink
            .farewell(&error.to_string(), error.code(), 200);
        self.recorder.attempt_failed(&error);
        tracing::info!(request.id = self.request_id, %error, "an answer broke off");
        let ending = Ending::Failed {
            message: error.to_string(),
            code: error.code(),
        };
        self.recorder.finish(ending, 200, self.received).await;
        if let Some(farewell) = farewell {
            // A client that is gone by now needs none.
            let _ = self.downlink.end(farewell).await;
        }
        Attempted::Over
    }
}

fn malformed(target: &Target, reason: &str) -> UpstreamError {
    UpstreamError::Malformed {
        provider: target.provider.clone(),
        reason: reason.to_owned(),
    }
}
