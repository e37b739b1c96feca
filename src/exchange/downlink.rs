//! The way to one client: the head that is sent once, the events that follow, and when to stop.

use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_util::Stream;
use serde_json::json;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::actors::ports::Connections;
use crate::actors::router::target::Target;
use crate::exchange::cache::{Given, Keeping};
use crate::exchange::{Content, Delivery, Refusal};
use crate::limits::exchanges::{BYTES_WAITING, EVENTS_WAITING};
use crate::protocol::recording::Form;
use crate::protocol::sse;
use crate::providers::tape::Tape;
use crate::settings::{self, Settings};

/// Why an exchange stops before its upstream does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Interrupted {
    ClientGone,
    ShuttingDown,
}

/// The sending half.
pub(crate) struct Downlink {
    head: Option<oneshot::Sender<Result<Delivery, Refusal>>>,
    pieces: mpsc::Sender<Piece>,
    /// Bytes that may wait for the client: each piece takes its own with it.
    room: Arc<Semaphore>,
    /// Until the head is sent.
    receiver: Option<mpsc::Receiver<Piece>>,
    /// Of the target that is being tried.
    provider: String,
    upstream_model: String,
    attempts: u32,
    ignored: Vec<&'static str>,
    content_type: Option<String>,
    aborting: CancellationToken,
    clocks: Clocks,
    /// Whether the client asked for events: only then can it be kept waiting with comments.
    streams: bool,
    tape: Tape,
    keeping: Keeping,
}

/// What travels to the client's body.
struct Piece {
    bytes: Bytes,
    /// The end marker: only after it is the body complete.
    is_last: bool,
    /// Given back when the connection takes the piece.
    _room: OwnedSemaphorePermit,
}

/// How long a client waits, and is waited for.
#[derive(Clone, Copy)]
pub(crate) struct Clocks {
    /// A streaming client that hears nothing for so long gets a comment.
    keep_alive: Duration,
    /// One that takes nothing for so long is cut (R21).
    stalled: Duration,
}

impl Clocks {
    pub(crate) fn of(settings: &Settings) -> Self {
        Self {
            keep_alive: settings.millis(settings::SERVER_KEEP_ALIVE),
            stalled: settings.millis(settings::SERVER_CLIENT_TIMEOUT),
        }
    }
}

impl Downlink {
    pub(crate) fn new(
        head: oneshot::Sender<Result<Delivery, Refusal>>,
        connections: &Connections,
        clocks: Clocks,
        streams: bool,
    ) -> Self {
        let (pieces, receiver) = mpsc::channel(EVENTS_WAITING);
        Self {
            head: Some(head),
            pieces,
            room: Arc::new(Semaphore::new(BYTES_WAITING)),
            receiver: Some(receiver),
            provider: String::new(),
            upstream_model: String::new(),
            attempts: 0,
            ignored: Vec::new(),
            content_type: None,
            aborting: connections.aborting.clone(),
            clocks,
            streams,
            tape: Tape::default(),
            keeping: Keeping::default(),
        }
    }

    /// What keeps the answer for the cache, as it goes out.
    pub(crate) fn keeping(&mut self, keeping: Keeping) {
        self.keeping = keeping;
    }

    /// Whose answer the cache gives, for the response headers.
    pub(crate) fn giving(&mut self, given: &Given) {
        self.provider.clone_from(&given.provider);
        self.upstream_model.clone_from(&given.upstream_model);
    }

    /// What the answer is, where it is no chat completion.
    pub(crate) fn told_as(&mut self, content_type: Option<String>) {
        self.content_type = content_type;
    }

    /// Which fields of the request have no effect, for the response headers.
    pub(crate) fn ignoring(&mut self, fields: &[&'static str]) {
        fields.clone_into(&mut self.ignored);
    }

    /// Who is being asked, for the response headers, and what listens.
    pub(crate) fn serving(&mut self, target: &Target, attempts: u32, tape: Tape) {
        self.provider.clone_from(&target.provider);
        self.upstream_model.clone_from(&target.upstream_model);
        self.attempts = attempts;
        self.tape = tape;
    }

    /// Whether the client already has a response head, so that errors must go into the stream.
    pub(crate) fn is_open(&self) -> bool {
        self.head.is_none()
    }

    /// Waits for `work`, unless the client leaves or the port closes first. A streaming client that hears nothing
    /// meanwhile gets a comment, so that it does not give up.
    pub(crate) async fn patiently<T>(
        &mut self,
        work: impl Future<Output = T>,
    ) -> Result<T, Interrupted> {
        let mut work = pin!(work);
        let aborting = self.aborting.clone();
        loop {
            let streams = self.streams;
            let keep_alive = self.clocks.keep_alive;
            tokio::select! {
                biased;
                done = &mut work => return Ok(done),
                () = aborting.cancelled() => return Err(Interrupted::ShuttingDown),
                () = self.gone() => return Err(Interrupted::ClientGone),
                () = tokio::time::sleep(keep_alive), if streams => self.send(sse::comment("waiting for the model")).await?,
            }
        }
    }

    /// Resolves when nobody waits for the answer any more.
    async fn gone(&mut self) {
        match &mut self.head {
            Some(head) => head.closed().await,
            None => self.pieces.closed().await,
        }
    }

    /// Sends events on, opening the response first. Waits while the client is slow.
    pub(crate) async fn send(&mut self, bytes: Bytes) -> Result<(), Interrupted> {
        self.open();
        self.note(Form::Events, &bytes);
        self.push(bytes, false).await
    }

    /// Sends the end marker, which is noted already; the body is complete then.
    pub(crate) async fn end(&mut self, bytes: Bytes) -> Result<(), Interrupted> {
        self.open();
        self.push(bytes, true).await
    }

    /// What tells of a failure inside the stream and ends it: the OpenAI SDKs raise the error (R16). None when the client
    /// has no response head yet, and so is to be refused with `status`.
    pub(crate) fn farewell(&self, message: &str, code: &str, status: u16) -> Option<Bytes> {
        if !self.is_open() {
            if self.tape.is_on() {
                self.note(Form::Refused, &refusal(status, code, message));
            }
            return None;
        }
        let event = json!({"error": {"message": message, "type": "stream_error", "code": code, "param": null}});
        let mut bytes = sse::data(&event.to_string()).to_vec();
        bytes.extend_from_slice(&sse::data("[DONE]"));
        let bytes = Bytes::from(bytes);
        self.note(Form::Events, &bytes);
        Some(bytes)
    }

    /// Notes on the tape what the client is about to get. What ends an answer is noted before its outcome is stored.
    pub(crate) fn note(&self, form: Form, bytes: &Bytes) {
        self.tape.told(form, bytes);
        self.keeping.told(form, bytes);
    }

    /// Keeps what this client did not ask for and another may.
    pub(crate) fn withhold(&self, bytes: &Bytes) {
        self.keeping.told(Form::Events, bytes);
    }

    /// Answers with one document.
    pub(crate) fn deliver_whole(&mut self, body: Bytes) {
        let delivery = self.delivery(Content::Whole(body));
        if let Some(head) = self.head.take() {
            let _ = head.send(Ok(delivery));
        }
    }

    /// Answers with an error instead of a response.
    pub(crate) fn refuse(&mut self, refusal: Refusal) {
        if let Some(head) = self.head.take() {
            let _ = head.send(Err(refusal));
        }
    }

    fn open(&mut self) {
        if let (Some(head), Some(receiver)) = (self.head.take(), self.receiver.take()) {
            let _ = head.send(Ok(self.delivery(Content::Events(Pieces {
                receiver,
                ended: false,
            }))));
        }
    }

    async fn push(&mut self, bytes: Bytes, is_last: bool) -> Result<(), Interrupted> {
        // An event that is longer than the room takes all of it.
        let weight = bytes.len().min(BYTES_WAITING);
        let weight = u32::try_from(weight).unwrap_or(u32::MAX);
        let room = self.room.clone();
        let sending = async {
            // Never closed.
            let Ok(room) = room.acquire_many_owned(weight).await else {
                return Err(Interrupted::ClientGone);
            };
            let piece = Piece {
                bytes,
                is_last,
                _room: room,
            };
            let sent = self.pieces.send(piece).await;
            sent.map_err(|_| Interrupted::ClientGone)
        };
        tokio::select! {
            biased;
            sent = sending => sent,
            () = self.aborting.cancelled() => Err(Interrupted::ShuttingDown),
            () = self.pieces.closed() => Err(Interrupted::ClientGone),
            () = tokio::time::sleep(self.clocks.stalled) => Err(Interrupted::ClientGone),
        }
    }

    fn delivery(&self, content: Content) -> Delivery {
        Delivery {
            provider: self.provider.clone(),
            upstream_model: self.upstream_model.clone(),
            attempts: self.attempts,
            ignored: self.ignored.clone(),
            cache: self.keeping.verdict(),
            content_type: self.content_type.clone(),
            content,
        }
    }
}

/// What a recording says of a refusal: its dialect is a matter of `http`.
pub(crate) fn refusal(status: u16, code: &str, message: &str) -> Bytes {
    json!({"status": status, "code": code, "message": message})
        .to_string()
        .into()
}

/// The receiving half: a response body.
pub(crate) struct Pieces {
    receiver: mpsc::Receiver<Piece>,
    ended: bool,
}

/// The exchange ended without its end marker: the connection must break, or the client would take the text for whole.
#[derive(Debug, thiserror::Error)]
#[error("the answer was cut short")]
pub(crate) struct CutShort;

impl Stream for Pieces {
    type Item = Result<Bytes, CutShort>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.ended {
            return Poll::Ready(None);
        }
        self.receiver.poll_recv(cx).map(|piece| {
            self.ended = piece.as_ref().is_none_or(|piece| piece.is_last);
            Some(piece.map(|piece| piece.bytes).ok_or(CutShort))
        })
    }
}
