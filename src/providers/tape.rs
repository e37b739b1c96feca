//! The place where requests leave for an upstream: a tape can listen there, or answer in the upstream's stead.
//!
//! Everything above, from the reading of a status to the last event, runs the same code whether the bytes come from the
//! network or from a recording. Without a tape a request goes out as it is, and its answer is not touched.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::stream;
use reqwest::header::{AUTHORIZATION, COOKIE, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Body, Request, RequestBuilder, Response, StatusCode};
use serde_json::value::RawValue;
use tokio::time::timeout;
use zeroize::Zeroizing;

use super::Deadlines;
use super::error::{Phase, UpstreamError};
use super::http::reason;
use crate::protocol::dialect::{Original, Retelling};
use crate::protocol::recording::{
    Attempt, Call, Chunk, Data, End, Failure, Form, Limits, Purpose, Recording, Sent, Turn,
};
use crate::tasks::lock;

/// Headers whose values say something about a fault and nothing about a person.
const SHOWN: [&str; 10] = [
    "accept",
    "content-type",
    "retry-after",
    "retry-after-ms",
    "x-should-retry",
    "x-request-id",
    "request-id",
    "x-oneapi-request-id",
    "cf-ray",
    "x-accel-buffering",
];
/// Shorter values of sensitive headers are words that may stand anywhere.
const SECRET: usize = 8;
/// What a chunk counts besides its bytes.
const CHUNK: usize = 32;

/// Cheap to clone; [`Tape::default`] does nothing.
#[derive(Clone, Default)]
pub(crate) struct Tape(Option<Arc<Mode>>);

enum Mode {
    /// The recording under way; none once it is over.
    Recording(Box<Mutex<Option<Reel>>>),
    /// The calls that are still to be answered.
    Playing(Mutex<VecDeque<Call>>),
}

struct Reel {
    recording: Recording,
    began: Instant,
    attempt_began: Instant,
    /// Bytes that may still be recorded.
    left: usize,
    /// What the client asked and what was asked upstream: read as JSON once nobody waits for bytes any more.
    asked: Option<Bytes>,
    /// Of a client that speaks no chat: what it sent, and how its answer is told.
    told_as: Option<(Original, Retelling)>,
    bodies: Vec<(Place, Bytes)>,
    secrets: Vec<Zeroizing<Vec<u8>>>,
    logins: Vec<String>,
}

/// Where in a recording a call stands.
#[derive(Clone, Copy)]
struct Place {
    attempt: usize,
    call: usize,
}

/// Who asks, and what for. A call without a purpose is never recorded.
#[derive(Clone)]
pub(super) struct Sending<'a> {
    pub(super) provider: &'a str,
    pub(super) purpose: Option<Purpose>,
    pub(super) login: Option<&'a str>,
    pub(super) turn: Option<&'a Turn>,
    pub(super) deadlines: Deadlines,
}

impl fmt::Debug for Tape {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self.0.as_deref() {
            None => "no tape",
            Some(Mode::Recording(_)) => "recording",
            Some(Mode::Playing(_)) => "playing",
        })
    }
}

impl Tape {
    /// Records an exchange that was asked `asked` onto `recording`, at most `most` bytes of bodies. What a client sent
    /// that speaks no chat, and how its answer is told, is `told_as`.
    pub(crate) fn recording(
        recording: Recording,
        asked: Bytes,
        told_as: Option<(Original, Retelling)>,
        most: usize,
    ) -> Self {
        let now = Instant::now();
        let mut reel = Reel {
            recording,
            began: now,
            attempt_began: now,
            left: most,
            asked: None,
            told_as,
            bodies: Vec::new(),
            secrets: Vec::new(),
            logins: Vec::new(),
        };
        let sent = reel.told_as.as_ref().map_or(0, |(original, _)| {
            original.body.len() + original.native.as_ref().map_or(0, Bytes::len)
        });
        reel.asked = reel.takes(asked.len() + sent).then_some(asked);
        Self(Some(Arc::new(Mode::Recording(Box::new(Mutex::new(Some(
            reel,
        )))))))
    }

    /// Answers from `calls`, in their order.
    pub(crate) fn playing(calls: Vec<Call>) -> Self {
        Self(Some(Arc::new(Mode::Playing(Mutex::new(calls.into())))))
    }

    pub(crate) fn is_on(&self) -> bool {
        self.0.is_some()
    }

    /// The next target is tried.
    pub(crate) fn attempt(&self, attempt: Attempt) {
        self.on_reel(|reel| {
            reel.attempt_began = Instant::now();
            reel.recording.attempts.push(attempt);
        });
    }

    /// The client is sent `bytes`.
    pub(crate) fn told(&self, form: Form, bytes: &Bytes) {
        self.on_reel(|reel| {
            let Some((form, bytes)) = reel.as_told(form, bytes) else {
                return;
            };
            reel.recording.client.form = form;
            let at_ms = millis(reel.began.elapsed());
            if let Some(chunk) = reel.chunk(at_ms, &bytes) {
                reel.recording.client.chunks.push(chunk);
            }
        });
    }

    /// Ends the recording and hands it over, without the secrets that were sent.
    pub(crate) fn finish(&self, status: u16, outcome: &str) -> Option<Recording> {
        let Some(Mode::Recording(reel)) = self.0.as_deref() else {
            return None;
        };
        let mut reel = lock(reel).take()?;
        reel.recording.client.status = status;
        outcome.clone_into(&mut reel.recording.client.outcome);
        let json = |bytes: &Bytes| serde_json::from_slice::<Box<RawValue>>(bytes).ok();
        reel.recording.request = reel.asked.as_ref().and_then(json);
        let sent = reel.told_as.take().filter(|_| reel.asked.is_some());
        reel.recording.original = sent.and_then(|(original, _)| Sent::of(&original));
        for (place, body) in std::mem::take(&mut reel.bodies) {
            if let Some(call) = reel.call(place) {
                call.request = json(&body);
            }
        }
        reel.recording.blank(&reel.secrets);
        Some(reel.recording)
    }

    /// Of a recording: the next turn of a chat, and which login asked it.
    pub(crate) fn next_turn(&self) -> Option<(usize, Turn)> {
        let Some(Mode::Playing(calls)) = self.0.as_deref() else {
            return None;
        };
        let calls = lock(calls);
        let mut turns = calls
            .iter()
            .filter_map(|call| Some((call.login?, call.turn.clone()?)));
        turns.next()
    }

    /// Waits, unless the answers come from a recording: there is nobody to give time to.
    pub(crate) async fn pause(&self, pause: Duration) {
        if !matches!(self.0.as_deref(), Some(Mode::Playing(_))) {
            tokio::time::sleep(pause).await;
        }
    }

    /// Sends a request and waits for the headers of its answer.
    pub(super) async fn send(
        &self,
        sending: Sending<'_>,
        request: RequestBuilder,
    ) -> Result<Response, UpstreamError> {
        match self.0.as_deref() {
            None => {
                let within = sending.deadlines.first_byte;
                arrived(&sending, timeout(within, request.send()).await)
            }
            Some(Mode::Playing(calls)) => played(&sending, calls),
            Some(Mode::Recording(_)) => self.listen(&sending, request).await,
        }
    }

    async fn listen(
        &self,
        sending: &Sending<'_>,
        request: RequestBuilder,
    ) -> Result<Response, UpstreamError> {
        let (client, request) = request.build_split();
        let request = request.map_err(|error| UpstreamError::Connect {
            provider: sending.provider.to_owned(),
            reason: reason(error),
        })?;
        let place = self.on_reel(|reel| reel.sent(sending, &request)).flatten();
        let within = sending.deadlines.first_byte;
        let answer = arrived(sending, timeout(within, client.execute(request)).await);
        let Some(place) = place else {
            return answer;
        };
        let answered = self.on_reel(|reel| reel.answered(place, &answer));
        match answer {
            Ok(response) if answered.is_some() => Ok(self.clone().overheard(place, response)),
            answer => answer,
        }
    }

    /// The same response, each read of its body noted.
    fn overheard(self, place: Place, response: Response) -> Response {
        let (status, headers) = (response.status(), response.headers().clone());
        let body = stream::unfold(Some((self, response)), move |state| async move {
            let (tape, mut response) = state?;
            match response.chunk().await {
                Ok(Some(bytes)) => {
                    tape.on_reel(|reel| reel.read(place, &bytes));
                    Some((Ok(bytes), Some((tape, response))))
                }
                Ok(None) => {
                    tape.on_reel(|reel| reel.ended(place, End::Whole));
                    None
                }
                Err(error) => {
                    let reason = reason(error);
                    tape.on_reel(|reel| reel.ended(place, End::Broken(reason.clone())));
                    Some((Err(Broken(reason)), None))
                }
            }
        });
        made(status, headers, Body::wrap_stream(body))
    }

    fn on_reel<R>(&self, change: impl FnOnce(&mut Reel) -> R) -> Option<R> {
        match self.0.as_deref() {
            Some(Mode::Recording(reel)) => lock(reel).as_mut().map(change),
            _ => None,
        }
    }
}

impl Reel {
    /// Whether that much may still be recorded.
    fn takes(&mut self, bytes: usize) -> bool {
        let left = self.left.checked_sub(bytes);
        self.left = left.unwrap_or_default();
        self.recording.cut |= left.is_none();
        !self.recording.cut
    }

    /// What `bytes` of a chat are to the client; none where that is nothing yet.
    fn as_told(&mut self, form: Form, bytes: &Bytes) -> Option<(Form, Bytes)> {
        let Some((_, retelling)) = &mut self.told_as else {
            return Some((form, bytes.clone()));
        };
        let told = match form {
            // It was read before: what cannot be is not told to the client either.
            Form::Events => Bytes::from(retelling.events(bytes).ok()?),
            Form::Whole => retelling.whole(bytes).ok()?,
            Form::Lines | Form::Refused | Form::Nothing => return Some((form, bytes.clone())),
        };
        let form = retelling.form(form);
        (!told.is_empty()).then_some((form, told))
    }

    fn chunk(&mut self, at_ms: u64, bytes: &Bytes) -> Option<Chunk> {
        self.takes(bytes.len() + CHUNK).then(|| Chunk {
            at_ms,
            data: Data::Here(bytes.clone()),
        })
    }

    fn sent(&mut self, sending: &Sending<'_>, request: &Request) -> Option<Place> {
        self.learn(request.headers());
        let purpose = sending.purpose?;
        let at_ms = millis(self.attempt_began.elapsed());
        let login = sending.login.map(|login| self.login(login));
        let body = request.body().and_then(Body::as_bytes).unwrap_or_default();
        let body =
            (!body.is_empty() && self.takes(body.len())).then(|| Bytes::copy_from_slice(body));
        let attempt = self.recording.attempts.len().checked_sub(1)?;
        let calls = &mut self.recording.attempts.last_mut()?.calls;
        calls.push(Call {
            purpose,
            login,
            turn: sending.turn.cloned(),
            at_ms,
            deadlines: Limits {
                connect_ms: millis(sending.deadlines.connect),
                first_byte_ms: millis(sending.deadlines.first_byte),
                idle_ms: millis(sending.deadlines.idle),
            },
            method: request.method().to_string(),
            request_headers: request
                .headers()
                .iter()
                .map(|(name, value)| (name.to_string(), shown(name, value)))
                .collect(),
            request: None,
            response: None,
            failure: None,
        });
        let place = Place {
            attempt,
            call: calls.len() - 1,
        };
        self.bodies.extend(body.map(|body| (place, body)));
        Some(place)
    }

    /// Remembers what must not be in the recording, wherever it may turn up.
    fn learn(&mut self, headers: &HeaderMap) {
        for (name, value) in headers.iter().filter(|(_, value)| value.is_sensitive()) {
            let value = value.as_bytes();
            let mut parts: Vec<&[u8]> = vec![value];
            if name == AUTHORIZATION {
                parts.extend(value.split(|byte| *byte == b' '));
            } else if name == COOKIE {
                let pairs = value.split(|byte| *byte == b';');
                parts.extend(pairs.filter_map(|pair| {
                    let at = pair.iter().position(|byte| *byte == b'=')?;
                    pair.get(at + 1..)
                }));
            }
            for part in parts.into_iter().map(<[u8]>::trim_ascii) {
                if part.len() >= SECRET && !self.secrets.iter().any(|known| **known == part) {
                    self.secrets.push(Zeroizing::new(part.to_vec()));
                }
            }
        }
    }

    fn login(&mut self, login: &str) -> usize {
        let known = self.logins.iter().position(|known| known == login);
        known.unwrap_or_else(|| {
            self.logins.push(login.to_owned());
            self.logins.len() - 1
        })
    }

    fn call(&mut self, place: Place) -> Option<&mut Call> {
        let attempt = self.recording.attempts.get_mut(place.attempt)?;
        attempt.calls.get_mut(place.call)
    }

    fn answered(&mut self, place: Place, answer: &Result<Response, UpstreamError>) {
        let at_ms = millis(self.attempt_began.elapsed());
        let Some(call) = self.call(place) else {
            return;
        };
        match answer {
            Ok(response) => {
                call.response = Some(crate::protocol::recording::Response {
                    status: response.status().as_u16(),
                    headers: response
                        .headers()
                        .iter()
                        .filter_map(|(name, value)| Some((name.to_string(), shown(name, value)?)))
                        .collect(),
                    at_ms,
                    chunks: Vec::new(),
                    end: End::Left,
                });
            }
            Err(error) => call.failure = failure(error),
        }
    }

    fn read(&mut self, place: Place, bytes: &Bytes) {
        let at_ms = millis(self.attempt_began.elapsed());
        let Some(chunk) = self.chunk(at_ms, bytes) else {
            return;
        };
        if let Some(response) = self.call(place).and_then(|call| call.response.as_mut()) {
            response.chunks.push(chunk);
        }
    }

    fn ended(&mut self, place: Place, end: End) {
        // Behind what is missing there is no end.
        if self.recording.cut {
            return;
        }
        if let Some(response) = self.call(place).and_then(|call| call.response.as_mut()) {
            response.end = end;
        }
    }
}

fn shown(name: &HeaderName, value: &HeaderValue) -> Option<String> {
    let is_shown = SHOWN.contains(&name.as_str()) && !value.is_sensitive();
    let text = value.to_str().ok().filter(|_| is_shown)?;
    Some(text.to_owned())
}

fn failure(error: &UpstreamError) -> Option<Failure> {
    match error {
        UpstreamError::Timeout {
            phase: Phase::Connect,
            ..
        } => Some(Failure::ConnectTimeout),
        UpstreamError::Connect { reason, .. } => Some(Failure::Connect(reason.clone())),
        UpstreamError::Cut { reason, .. } => Some(Failure::Cut(reason.clone())),
        _ => None,
    }
}

type Answered = Result<Result<Response, reqwest::Error>, tokio::time::error::Elapsed>;

fn arrived(sending: &Sending<'_>, answered: Answered) -> Result<Response, UpstreamError> {
    let deadlines = sending.deadlines;
    let provider = sending.provider.to_owned();
    match answered {
        Ok(Ok(response)) => Ok(response),
        Ok(Err(error)) if error.is_connect() && error.is_timeout() => Err(UpstreamError::Timeout {
            provider,
            phase: Phase::Connect,
            after: deadlines.connect,
        }),
        Ok(Err(error)) if error.is_connect() => Err(UpstreamError::Connect {
            provider,
            reason: reason(error),
        }),
        Ok(Err(error)) => Err(UpstreamError::Cut {
            provider,
            reason: reason(error),
        }),
        Err(_) => Err(UpstreamError::Timeout {
            provider,
            phase: Phase::FirstByte,
            after: deadlines.first_byte,
        }),
    }
}

/// The recorded answer to a call.
fn played(sending: &Sending<'_>, calls: &Mutex<VecDeque<Call>>) -> Result<Response, UpstreamError> {
    let provider = sending.provider.to_owned();
    let call = {
        let mut calls = lock(calls);
        let at = calls
            .iter()
            .position(|call| Some(call.purpose) == sending.purpose);
        at.and_then(|at| calls.remove(at))
    };
    let Some(call) = call else {
        return unrecorded(sending);
    };
    if let Some(response) = call.response {
        let status = StatusCode::from_u16(response.status).unwrap_or(StatusCode::BAD_GATEWAY);
        let headers = response.headers.iter().filter_map(|(name, value)| {
            let name = HeaderName::from_bytes(name.as_bytes()).ok()?;
            Some((name, HeaderValue::from_str(value).ok()?))
        });
        let idle = Duration::from_millis(call.deadlines.idle_ms);
        let body = body(response.chunks, response.end, idle);
        return Ok(made(status, headers.collect(), body));
    }
    Err(match call.failure {
        Some(Failure::Connect(reason)) => UpstreamError::Connect { provider, reason },
        Some(Failure::Cut(reason)) => UpstreamError::Cut { provider, reason },
        Some(Failure::ConnectTimeout) => UpstreamError::Timeout {
            provider,
            phase: Phase::Connect,
            after: Duration::from_millis(call.deadlines.connect_ms),
        },
        None => UpstreamError::Timeout {
            provider,
            phase: Phase::FirstByte,
            after: Duration::from_millis(call.deadlines.first_byte_ms),
        },
    })
}

/// What a call is answered that is not in the recording. Chats are opened anew by a replay, since it knows no
/// conversations, and what stands beside an answer (a file, a stop) is done.
fn unrecorded(sending: &Sending<'_>) -> Result<Response, UpstreamError> {
    const DONE: &str = r#"{"success":true,"data":{"id":"replayed","status":true},
        "access_key_id":"","access_key_secret":"","security_token":"","file_url":"https://replay.invalid/f?x=1",
        "file_path":"f","file_id":"f","bucketname":"b","region":"oss-r"}"#;
    match sending.purpose {
        Some(Purpose::Completion | Purpose::Chat | Purpose::Resume) => Err(UpstreamError::Cut {
            provider: sending.provider.to_owned(),
            reason: "the recording holds no answer to this call".into(),
        }),
        Some(Purpose::NewChat) | None => {
            Ok(made(StatusCode::OK, HeaderMap::new(), Body::from(DONE)))
        }
    }
}

fn body(chunks: Vec<Chunk>, end: End, idle: Duration) -> Body {
    let last: Option<Result<Bytes, Box<dyn std::error::Error + Send + Sync>>> = match end {
        End::Whole => None,
        End::Broken(reason) => Some(Err(Box::new(Broken(reason)))),
        End::Left => Some(Err(Box::new(Silence(idle)))),
    };
    let chunks = chunks.into_iter().map(|chunk| match chunk.data {
        Data::Here(bytes) => Ok(bytes),
        Data::Behind(_) => Ok(Bytes::new()),
    });
    Body::wrap_stream(stream::iter(chunks.chain(last)))
}

fn made(status: StatusCode, headers: HeaderMap, body: Body) -> Response {
    let mut response = hyper::Response::new(body);
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    Response::from(response)
}

/// A body that broke, in the words it broke with.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Broken(String);

/// Nothing more was recorded: the upstream was silent until nobody waited any longer.
#[derive(Debug, thiserror::Error)]
#[error("nothing more was recorded")]
struct Silence(Duration);

/// How long a recorded upstream is silent, when that is what `error` is.
pub(super) fn silence(error: &reqwest::Error) -> Option<Duration> {
    let mut cause = std::error::Error::source(error);
    while let Some(current) = cause {
        if let Some(Silence(after)) = current.downcast_ref() {
            return Some(*after);
        }
        cause = current.source();
    }
    None
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
