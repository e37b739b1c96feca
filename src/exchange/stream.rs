//! A stream on its way through: events are looked at and forwarded as they came, some of them a little later
//! (`holding`); only those of an upstream that goes on with another one's answer are made to fit (`seam`).

use bytes::Bytes;
use futures_util::StreamExt;
use tokio::time::Instant;

use crate::actors::router::target::Target;
use crate::exchange::attempts::Picked;
use crate::exchange::downlink::Interrupted;
use crate::exchange::holding::{Held, Holding};
use crate::exchange::record::Ending;
use crate::exchange::{Attempted, Exchange, progress_limit};
use crate::limits::upstreams::{EVENT_LIMIT, TRAILER};
use crate::protocol::openai::{build, chunk};
use crate::protocol::recording::Form;
use crate::protocol::sse::{self, Frame, Reader};
use crate::providers::{ByteStream, Deadlines, Phase, UpstreamError};

/// What an event means for the stream.
enum Step {
    Go,
    /// The upstream's end marker, as it sent it.
    End(Bytes),
    Stop(Attempted),
}

/// One upstream's stream while it is read.
struct Reading<'a> {
    picked: &'a Picked,
    began: Instant,
    holding: Holding,
    has_content: bool,
}

impl Reading<'_> {
    fn target(&self) -> &Target {
        &self.picked.target
    }

    fn cut(&self, reason: impl Into<String>) -> UpstreamError {
        UpstreamError::Cut {
            provider: self.target().provider.clone(),
            reason: reason.into(),
        }
    }

    fn malformed(&self, reason: &str) -> UpstreamError {
        UpstreamError::Malformed {
            provider: self.target().provider.clone(),
            reason: reason.to_owned(),
        }
    }
}

/// Whether every line is one that server-sent events have: a page in the middle of a stream is not passed on (R17).
fn is_field_by_field(raw: &[u8]) -> bool {
    let mut lines = raw.split(|byte| matches!(byte, b'\n' | b'\r'));
    lines.all(|line| {
        let fields: [&[u8]; 5] = [b":", b"data", b"event", b"id", b"retry"];
        line.is_empty() || fields.iter().any(|field| line.starts_with(field))
    })
}

impl Exchange {
    /// Forwards `bytes` until the upstream's end, whatever that is.
    pub(super) async fn stream(
        &mut self,
        picked: &Picked,
        mut bytes: ByteStream,
        deadlines: Deadlines,
        began: Instant,
    ) -> Attempted {
        let mut reading = Reading {
            picked,
            began,
            holding: Holding::new(self.told.is_anything(), self.holds_calls),
            has_content: false,
        };
        let mut reader = Reader::new(EVENT_LIMIT);
        let mut progress = Instant::now();
        let mut taken = 0_usize;
        loop {
            let (limit, phase) = if reading.has_content {
                (progress_limit(deadlines.idle), Phase::Progress)
            } else {
                // Silence is noticed by who reads: this is for one that sends everything but content.
                (deadlines.first_byte + deadlines.idle, Phase::FirstByte)
            };
            let left = if reading.has_content {
                limit.saturating_sub(progress.elapsed())
            } else {
                limit.saturating_sub(began.elapsed())
            };
            let next = tokio::time::timeout(left, bytes.next());
            let chunk = match self.downlink.patiently(next).await {
                Err(interrupted) => return Attempted::Interrupted(interrupted),
                Ok(Err(_)) => {
                    return Attempted::Failed(UpstreamError::Timeout {
                        provider: picked.target.provider.clone(),
                        phase,
                        after: limit,
                    });
                }
                Ok(Ok(Some(Err(error)))) => {
                    // What ended whole before the connection broke is whole.
                    return if self.recorder.assembled().is_complete() {
                        Box::pin(self.complete(&mut reading, None)).await
                    } else {
                        Attempted::Failed(error)
                    };
                }
                Ok(Ok(None)) => return Box::pin(self.ended(&mut reading, reader)).await,
                Ok(Ok(Some(Ok(chunk)))) => chunk,
            };
            taken = taken.saturating_add(chunk.len());
            if taken > self.caps.bytes {
                return Attempted::Failed(UpstreamError::TooLarge {
                    provider: reading.target().provider.clone(),
                    limit: self.caps.bytes,
                });
            }
            let frames = match reader.push(&chunk) {
                Ok(frames) => frames,
                Err(error) => return Attempted::Failed(reading.malformed(&error.to_string())),
            };
            for frame in frames {
                let is_event = frame.event.is_some();
                match self.frame(&mut reading, frame).await {
                    // After the forwarding: the time a slow client took is not the upstream's.
                    Step::Go if is_event => progress = Instant::now(),
                    Step::Go => {}
                    Step::Stop(attempted) => return attempted,
                    Step::End(marker) => {
                        let attempted = Box::pin(self.complete(&mut reading, Some(marker))).await;
                        // Read on to the end of the body, or the connection could not be reused.
                        let _ = tokio::time::timeout(TRAILER, bytes.next()).await;
                        return attempted;
                    }
                }
            }
        }
    }

    async fn frame(&mut self, reading: &mut Reading<'_>, frame: Frame) -> Step {
        let event = frame.event.as_ref().filter(|event| !event.data.is_empty());
        let Some(event) = event else {
            // A comment: nothing of the answer.
            return match reading.holding.take_aside(frame.raw) {
                Some(raw) if self.graft.is_none() && is_field_by_field(&raw) => {
                    self.forward(raw).await
                }
                _ => Step::Go,
            };
        };
        let scan = match chunk::scan(&event.data) {
            Ok(scan) => scan,
            // Forwarding it would raise a bare decoding error in the OpenAI SDK (client-behaviour.md, 6).
            Err(error) => {
                return Step::Stop(Attempted::Failed(reading.malformed(&error.to_string())));
            }
        };
        if scan.done {
            return Step::End(frame.raw);
        }
        if let Some(fault) = scan.error {
            let provider = reading.target().provider.clone();
            return Step::Stop(Attempted::Failed(UpstreamError::InBand { provider, fault }));
        }
        if !reading.has_content && scan.has_content() {
            reading.has_content = true;
            let now = Instant::now();
            reading.picked.entrance.began(now - reading.began, now);
            self.recorder.first_content();
        }
        let (raw, scan) = match &mut self.graft {
            None => (frame.raw, scan),
            Some(graft) => match graft.fit(&event.data) {
                Ok(Some(fitted)) => fitted,
                Ok(None) => return Step::Go,
                Err(diverged) => {
                    return Step::Stop(Attempted::Failed(reading.malformed(&diverged.to_string())));
                }
            },
        };
        for held in reading.holding.take(raw, scan) {
            match self.release(held).await {
                Step::Go => {}
                stop => return stop,
            }
        }
        Step::Go
    }

    /// Sends an event on: from here on it is a part of the answer.
    async fn release(&mut self, held: Held) -> Step {
        if let Some(scan) = held.scan {
            self.recorder.saw(&scan);
            self.told.add(&scan);
            if scan.usage_only && !self.request.include_usage {
                // We asked for it, the client did not: it must not see what it did not ask for.
                self.downlink.withhold(&held.raw);
                return Step::Go;
            }
        }
        self.forward(held.raw).await
    }

    /// The usage chunk of an answer whose upstream told no counts.
    async fn estimated(&self) -> Option<Held> {
        let assembled = self.recorder.assembled();
        if assembled.usage().is_some() || assembled.is_empty() {
            return None;
        }
        let mut answer = assembled.to_json();
        let message = answer["choices"][0]["message"].take();
        let usage = self
            .counting
            .usage(self.request.body.clone(), message)
            .await;
        answer["object"] = "chat.completion.chunk".into();
        answer["choices"] = serde_json::json!([]);
        answer["usage"] = build::usage_json(&usage);
        let data = answer.to_string();
        let scan = chunk::scan(&data).ok()?;
        Some(Held {
            raw: sse::data(&data),
            scan: Some(scan),
        })
    }

    async fn forward(&mut self, raw: Bytes) -> Step {
        match self.downlink.send(raw).await {
            Ok(()) => Step::Go,
            Err(interrupted) => Step::Stop(Attempted::Interrupted(interrupted)),
        }
    }

    /// The body ended without an end marker: whole only if every choice said why it finished.
    async fn ended(&mut self, reading: &mut Reading<'_>, reader: Reader) -> Attempted {
        let inside = if reader.is_mid_event() {
            "inside an event"
        } else {
            "before the answer did"
        };
        if let Some(frame) = reader.finish() {
            match self.frame(reading, frame).await {
                Step::Go => {}
                Step::Stop(attempted) => return attempted,
                Step::End(_) => return self.complete(reading, None).await,
            }
        }
        if self.recorder.assembled().is_complete() {
            return self.complete(reading, None).await;
        }
        Attempted::Failed(reading.cut(format!("the stream ended {inside}")))
    }

    /// The answer is whole: its row is stored, then the client gets its last byte.
    async fn complete(&mut self, reading: &mut Reading<'_>, marker: Option<Bytes>) -> Attempted {
        if reading.holding.is_inside_a_call() {
            return Attempted::Failed(reading.cut("the stream ended inside a tool call"));
        }
        for held in reading.holding.all() {
            match self.release(held).await {
                Step::Stop(attempted) => return attempted,
                Step::Go | Step::End(_) => {}
            }
        }
        if let Some(held) = self.estimated().await {
            match self.release(held).await {
                Step::Stop(attempted) => return attempted,
                Step::Go | Step::End(_) => {}
            }
        }
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
}
