//! Server-sent events: a byte guard in front of `eventsource-stream`, and two encoders.
//!
//! The guard cuts the bytes into frames at blank lines and gives the parser one frame at a time, so that every event is
//! known together with the upstream's own bytes: a stream that needs no translation is passed on unchanged.
//! It also keeps away from the parser what it cannot take (seen in 0.2.3): a BOM panics it, one invalid byte stalls
//! everything after it, and its cost is quadratic in the number of lines given at once.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::{BufMut, Bytes, BytesMut};
use eventsource_stream::EventStream;
use futures_util::Stream;

const BOM: &[u8] = b"\xEF\xBB\xBF";

/// Everything up to and including one blank line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Frame {
    /// The upstream's own bytes; the repaired text with LF line ends when they had a BOM or were not UTF-8.
    pub(crate) raw: Bytes,
    /// None for comments, blank lines and frames that only carry `id` or `retry`.
    pub(crate) event: Option<Event>,
}

/// One dispatched event (WHATWG HTML, 9.2.6).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Event {
    /// `message` unless the upstream named it.
    pub(crate) name: String,
    /// The data lines joined with LF.
    pub(crate) data: String,
}

/// Why no more events can be read from a stream.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SseError {
    /// One event has more bytes than allowed.
    #[error("one event is longer than {limit} bytes")]
    TooLong { limit: usize },
    /// The parser refused a line. It accepts every line of text, so this is a defect here or there.
    #[error("the event stream cannot be parsed: {0}")]
    Parser(String),
}

/// Reads events from bytes that arrive in any pieces.
pub(crate) struct Reader {
    guard: Guard,
    parser: Parser,
    limit: usize,
    failed: Option<SseError>,
    /// The first frame, which alone may begin with a BOM, is over.
    started: bool,
}

impl Reader {
    /// `limit` is the most bytes one event may have, its field names and line ends included.
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            guard: Guard::default(),
            parser: Parser::new(),
            limit,
            failed: None,
            started: false,
        }
    }

    /// Takes the next bytes and returns the frames they complete.
    ///
    /// Frames in front of a failure are returned first; the error comes with the next call, and with each one after it.
    pub(crate) fn push(&mut self, bytes: &[u8]) -> Result<Vec<Frame>, SseError> {
        let mut frames = Vec::new();
        if self.failed.is_none() {
            self.guard.buffer.extend_from_slice(bytes);
            self.failed = self.read_frames(&mut frames).err();
        }
        match &self.failed {
            Some(error) if frames.is_empty() => Err(error.clone()),
            _ => Ok(frames),
        }
    }

    /// Flushes what came after the last blank line: some servers end without one.
    ///
    /// The frame's `raw` has no blank line either, and its event may be a fragment: only its content can tell.
    pub(crate) fn finish(mut self) -> Option<Frame> {
        let rest = self.guard.take_rest();
        if self.failed.is_some() || rest.is_empty() || rest.len() > self.limit {
            return None;
        }
        self.frame(rest).ok()
    }

    /// Whether the bytes so far end inside an event, or inside one that was refused.
    pub(crate) fn is_mid_event(&self) -> bool {
        self.failed.is_some()
            || self
                .guard
                .buffer
                .iter()
                .any(|byte| !matches!(byte, b'\n' | b'\r'))
    }

    fn read_frames(&mut self, frames: &mut Vec<Frame>) -> Result<(), SseError> {
        while let Some(raw) = self.guard.next_frame() {
            if raw.len() > self.limit {
                return Err(SseError::TooLong { limit: self.limit });
            }
            frames.push(self.frame(raw)?);
        }
        if self.guard.buffer.len() > self.limit {
            self.guard.buffer = BytesMut::new();
            return Err(SseError::TooLong { limit: self.limit });
        }
        Ok(())
    }

    fn frame(&mut self, raw: Bytes) -> Result<Frame, SseError> {
        let is_first = !std::mem::replace(&mut self.started, true);
        let has_bom = is_first && raw.starts_with(BOM);
        let body = if has_bom {
            raw.slice(BOM.len()..)
        } else {
            raw.clone()
        };
        let repaired = match String::from_utf8_lossy(&body) {
            Cow::Borrowed(_) => None,
            Cow::Owned(text) => Some(Bytes::from(text)),
        };
        let is_clean = repaired.is_none() && !has_bom;
        let text = to_lf(repaired.unwrap_or(body));
        let event = self.parser.parse(&text)?;
        Ok(Frame {
            raw: if is_clean { raw } else { text },
            event,
        })
    }
}

/// How the last line ended; decides whether a CR on a blank line may still be followed by its LF.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
enum LineEnd {
    #[default]
    Lf,
    Cr,
    CrLf,
}

/// What the byte in front of the scan says about an LF that may come next.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
enum Cr {
    /// It is no CR, or one that no LF can follow.
    #[default]
    None,
    /// A CR that ended a line: the LF belongs to it.
    EndedLine,
    /// A CR that ended a blank line: the frame waits for the LF.
    EndedFrame,
}

/// Finds the blank lines. What it finds depends on the bytes alone, never on how they were split.
#[derive(Default)]
struct Guard {
    buffer: BytesMut,
    /// Bytes of `buffer` that were looked at.
    scanned: usize,
    line_has_content: bool,
    last_end: LineEnd,
    last_cr: Cr,
    /// Bytes looked at in all, so that a test can prove that each is looked at once.
    #[cfg(test)]
    looked_at: usize,
}

impl Guard {
    fn next_frame(&mut self) -> Option<Bytes> {
        while let Some(&byte) = self.buffer.get(self.scanned) {
            match std::mem::take(&mut self.last_cr) {
                Cr::EndedLine if byte == b'\n' => {
                    self.advance(1);
                    self.last_end = LineEnd::CrLf;
                    continue;
                }
                Cr::EndedFrame => {
                    if byte == b'\n' {
                        self.advance(1);
                        self.last_end = LineEnd::CrLf;
                    }
                    return Some(self.cut());
                }
                Cr::EndedLine | Cr::None => {}
            }
            match byte {
                b'\n' => {
                    self.advance(1);
                    self.last_end = LineEnd::Lf;
                    if !self.line_has_content {
                        return Some(self.cut());
                    }
                    self.line_has_content = false;
                }
                b'\r' => {
                    self.advance(1);
                    let before = std::mem::replace(&mut self.last_end, LineEnd::Cr);
                    self.last_cr = match (self.line_has_content, before) {
                        (true, _) => Cr::EndedLine,
                        // A server that ends lines with a bare CR would otherwise be one event late for ever.
                        (false, LineEnd::Cr) => {
                            self.last_cr = Cr::EndedLine;
                            return Some(self.cut());
                        }
                        (false, LineEnd::Lf | LineEnd::CrLf) => Cr::EndedFrame,
                    };
                    self.line_has_content = false;
                }
                _ => {
                    let rest = self.buffer.get(self.scanned..).unwrap_or_default();
                    let length = rest
                        .iter()
                        .position(|byte| matches!(byte, b'\n' | b'\r'))
                        .unwrap_or(rest.len());
                    self.advance(length);
                    self.line_has_content = true;
                }
            }
        }
        None
    }

    fn advance(&mut self, count: usize) {
        self.scanned += count;
        #[cfg(test)]
        {
            self.looked_at += count;
        }
    }

    fn cut(&mut self) -> Bytes {
        self.line_has_content = false;
        let frame = self.buffer.split_to(self.scanned).freeze();
        self.scanned = 0;
        frame
    }

    fn take_rest(&mut self) -> Bytes {
        self.scanned = 0;
        self.buffer.split().freeze()
    }
}

/// The text with CR and CRLF turned into LF; the same buffer when there is nothing to turn.
fn to_lf(text: Bytes) -> Bytes {
    if !text.contains(&b'\r') {
        return text;
    }
    let mut out = BytesMut::with_capacity(text.len());
    let mut bytes = text.iter().copied().peekable();
    while let Some(byte) = bytes.next() {
        if byte == b'\r' {
            bytes.next_if_eq(&b'\n');
            out.put_u8(b'\n');
        } else {
            out.put_u8(byte);
        }
    }
    out.freeze()
}

/// `eventsource-stream`, driven one frame at a time through a queue in memory.
struct Parser {
    queue: Queue,
    events: EventStream<Queue>,
}

impl Parser {
    fn new() -> Self {
        let queue = Queue::default();
        // The parser cuts one byte off a first chunk that begins with U+FEFF, and panics. A comment goes first.
        queue.push(Bytes::from_static(b":\n"));
        Self {
            events: EventStream::new(queue.clone()),
            queue,
        }
    }

    /// `text` is one frame with LF line ends; missing ones at its end are added.
    fn parse(&mut self, text: &Bytes) -> Result<Option<Event>, SseError> {
        // One line at a time: the parser copies all lines behind the one it reads.
        let mut rest = text.clone();
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            self.queue.push(rest.split_to(end + 1));
        }
        if !rest.is_empty() {
            self.queue.push(rest);
            self.queue.push(Bytes::from_static(b"\n"));
        }
        if !text.ends_with(b"\n\n") && text.as_ref() != b"\n" {
            self.queue.push(Bytes::from_static(b"\n"));
        }
        let mut found = None;
        let mut context = Context::from_waker(Waker::noop());
        while let Poll::Ready(Some(next)) = Pin::new(&mut self.events).poll_next(&mut context) {
            let event = next.map_err(|error| SseError::Parser(error.to_string()))?;
            found = Some(Event {
                name: event.event,
                data: event.data,
            });
        }
        Ok(found)
    }
}

/// Pieces of text on their way to the parser. Never ends: it is pending when it is empty.
#[derive(Clone, Default)]
struct Queue(Arc<Mutex<VecDeque<Bytes>>>);

impl Queue {
    fn push(&self, piece: Bytes) {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push_back(piece);
    }
}

impl Stream for Queue {
    type Item = Result<Bytes, Infallible>;

    fn poll_next(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        match self
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .pop_front()
        {
            Some(piece) => Poll::Ready(Some(Ok(piece))),
            None => Poll::Pending,
        }
    }
}

/// A comment frame, which clients ignore: keeps a silent stream open.
pub(crate) fn comment(text: &str) -> Bytes {
    let text = text.replace(['\n', '\r'], " ");
    Bytes::from(format!(": {text}\n\n"))
}

/// One unnamed event whose data is `json`. Line breaks inside it become data lines of their own.
pub(crate) fn data(json: &str) -> Bytes {
    if json.contains(['\n', '\r']) {
        let lines: Vec<&str> = json.split(['\n', '\r']).collect();
        return Bytes::from(format!("data: {}\n\n", lines.join("\ndata: ")));
    }
    let mut out = BytesMut::with_capacity(json.len() + 8);
    out.put_slice(b"data: ");
    out.put_slice(json.as_bytes());
    out.put_slice(b"\n\n");
    out.freeze()
}

#[cfg(test)]
mod tests;
