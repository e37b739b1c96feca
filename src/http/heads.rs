//! How long the head of a request may take (R28), and how long a client may take nothing (R21).
//!
//! hyper has one clock for an idle connection and for a head that has begun. An idle connection may wait long; a head that
//! comes byte by byte only holds a place. So what is read is watched, and a second clock runs while a head is under way.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::watch;

use crate::limits::connections::HEAD_DEADLINE;

/// What a connection is about. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Heads(Arc<watch::Sender<State>>);

#[derive(Clone, Copy)]
struct State {
    phase: Phase,
    /// What is written does not go out: the client reads nothing.
    is_blocked: bool,
    /// How often it went out after that.
    moved: u32,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Nothing of the next request has come.
    Idle,
    /// Its head has begun.
    Begun,
    /// It is being served.
    Serving,
}

impl Heads {
    pub(crate) fn new() -> Self {
        Self(Arc::new(watch::Sender::new(State {
            phase: Phase::Idle,
            is_blocked: false,
            moved: 0,
        })))
    }

    /// The head is whole.
    pub(crate) fn arrived(&self) {
        self.enter(Phase::Serving);
    }

    /// The answer's body; when it is over, the next head may begin.
    pub(crate) fn ending(&self, body: Body) -> Ending {
        Ending {
            body,
            heads: self.clone(),
        }
    }

    /// Resolves when a head has taken too long.
    pub(crate) async fn late(&self) {
        let mut state = self.0.subscribe();
        loop {
            // The sender lives as long as `self`.
            let _ = state.wait_for(|state| state.phase == Phase::Begun).await;
            let whole = state.wait_for(|state| state.phase != Phase::Begun);
            if tokio::time::timeout(HEAD_DEADLINE, whole).await.is_err() {
                return;
            }
        }
    }

    /// Resolves when the client has taken nothing for `patience` of what was written.
    pub(crate) async fn stuck(&self, patience: Duration) {
        let mut state = self.0.subscribe();
        loop {
            let blocked = state.wait_for(|state| state.is_blocked).await;
            let Ok(moved) = blocked.map(|state| state.moved) else {
                return;
            };
            let moving = state.wait_for(|state| !state.is_blocked || state.moved != moved);
            if tokio::time::timeout(patience, moving).await.is_err() {
                return;
            }
        }
    }

    fn enter(&self, phase: Phase) {
        self.0.send_modify(|state| state.phase = phase);
    }

    fn read(&self) {
        // Read first: most pieces are of bodies.
        if self.0.borrow().phase == Phase::Idle {
            self.enter(Phase::Begun);
        }
    }

    fn wrote(&self, is_blocked: bool) {
        if self.0.borrow().is_blocked != is_blocked {
            self.0.send_modify(|state| {
                state.is_blocked = is_blocked;
                state.moved = state.moved.wrapping_add(u32::from(!is_blocked));
            });
        }
    }
}

/// A connection whose reads are watched.
pub(crate) struct Watched {
    pub(crate) stream: TcpStream,
    pub(crate) heads: Heads,
}

impl AsyncRead for Watched {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buffer.filled().len();
        let polled = Pin::new(&mut this.stream).poll_read(context, buffer);
        if buffer.filled().len() > before {
            this.heads.read();
        }
        polled
    }
}

impl AsyncWrite for Watched {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.stream).poll_write(context, bytes);
        this.heads.wrote(polled.is_pending());
        polled
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(context)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.stream).poll_write_vectored(context, slices);
        this.heads.wrote(polled.is_pending());
        polled
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

/// See [`Heads::ending`].
pub(crate) struct Ending {
    body: Body,
    heads: Heads,
}

impl HttpBody for Ending {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.get_mut().body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Ending {
    fn drop(&mut self) {
        self.heads.enter(Phase::Idle);
    }
}
