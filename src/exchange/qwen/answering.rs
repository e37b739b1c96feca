//! An answer under way: its bytes become events. When the connection dies, the site is asked for the answer once more,
//! and if it tells no stream, whether it went on without us.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;

use crate::actors::leases::Lease;
use crate::exchange::qwen::malformed;
use crate::exchange::qwen::refused::nothing;
use crate::exchange::qwen::seen::{Again, Another, Seen};
use crate::limits::qwen::{HEAD_LIMIT, LOOK_PAUSES};
use crate::limits::upstreams::EVENT_LIMIT;
use crate::protocol::qwen::chats;
use crate::protocol::qwen::refusal::{self, Refusal};
use crate::protocol::qwen::request;
use crate::protocol::qwen::stream::{QwenEvent, Translator};
use crate::protocol::sse::Reader;
use crate::protocol::tools::notation::Notation;
use crate::providers::qwen::{Answered, Login, PROVIDER, Site};
use crate::providers::{ByteStream, Deadlines, Phase, UpstreamError};
use crate::tasks::Tasks;

/// JSON or a page, not events.
fn is_document(head: &[u8]) -> bool {
    head.trim_ascii_start().starts_with(b"{") || head.trim_ascii_start().starts_with(b"<")
}

fn cut() -> UpstreamError {
    UpstreamError::Cut {
        provider: PROVIDER.into(),
        reason: "the stream ended before the answer did".into(),
    }
}

/// Whether the connection failed, not the answer.
fn is_broken(error: &UpstreamError) -> bool {
    matches!(
        error,
        UpstreamError::Cut { .. } | UpstreamError::Timeout { .. } | UpstreamError::Connect { .. }
    )
}

/// The chat that is asked, as long as it is ours.
pub(crate) struct Chat {
    pub(crate) id: String,
    pub(crate) session_id: String,
    /// Nobody else asks this chat meanwhile.
    pub(crate) lease: Lease,
    /// One of its login's places.
    #[expect(dead_code, reason = "held for its end")]
    pub(crate) slot: OwnedSemaphorePermit,
}

/// See the module.
pub(crate) struct Answering {
    pub(crate) login: Arc<Login>,
    pub(crate) chat: Arc<Chat>,
    pub(crate) notation: &'static Notation,
    bytes: Option<ByteStream>,
    reader: Reader,
    translator: Translator,
    pending: VecDeque<QwenEvent>,
    stop: StopGuard,
    /// The bytes before the first event: a body that is no stream, though it was called one.
    head: Option<Vec<u8>>,
    deadlines: Deadlines,
    /// What was told so far.
    seen: Seen,
    /// The site tells the answer once more.
    again: Option<Again>,
    has_asked_again: bool,
    has_looked: bool,
}

impl Answering {
    pub(crate) fn new(
        login: Arc<Login>,
        chat: Arc<Chat>,
        notation: &'static Notation,
        bytes: Option<ByteStream>,
        stop: StopGuard,
        deadlines: Deadlines,
    ) -> Self {
        Self {
            login,
            chat,
            notation,
            bytes,
            reader: Reader::new(EVENT_LIMIT),
            translator: Translator::new(),
            pending: VecDeque::new(),
            stop,
            head: Some(Vec::new()),
            deadlines,
            seen: Seen::default(),
            again: None,
            has_asked_again: false,
            has_looked: false,
        }
    }

    /// Takes a body that is no stream; `false` when nothing of an answer is in it.
    pub(crate) fn take_document(&mut self, body: &[u8]) -> bool {
        let events = self.translator.push(&String::from_utf8_lossy(body));
        self.pending.extend(events);
        self.translator.is_finished()
    }

    /// Waits until something of the answer is there. Refusals come inside a 200 stream, too: the inner error.
    pub(crate) async fn begin(
        &mut self,
        within: Duration,
    ) -> Result<Result<(), Refusal>, UpstreamError> {
        let deadline = Instant::now() + within;
        loop {
            // `response.created` comes before the model has thought of anything (annex A5).
            let begins = |event: &&QwenEvent| {
                !matches!(
                    event,
                    QwenEvent::Created | QwenEvent::Usage(_) | QwenEvent::Citations(_)
                )
            };
            match self.pending.iter().find(begins) {
                Some(QwenEvent::Failed(refusal)) => {
                    self.stop.is_armed = false;
                    return Ok(Err(refusal.clone()));
                }
                Some(QwenEvent::Finished) if !self.translator.saw_anything() => {
                    self.stop.is_armed = false;
                    return Err(nothing());
                }
                Some(_) => return Ok(Ok(())),
                None => {}
            }
            let late = UpstreamError::Timeout {
                provider: PROVIDER.into(),
                phase: Phase::FirstByte,
                after: within,
            };
            tokio::time::timeout_at(deadline, self.more())
                .await
                .map_err(|_| late)??;
        }
    }

    /// The next event. An answer always ends in [`QwenEvent::Finished`], [`QwenEvent::Failed`] or an error.
    pub(crate) async fn next(&mut self) -> Result<QwenEvent, UpstreamError> {
        loop {
            let Some(event) = self.pending.pop_front() else {
                self.more().await?;
                continue;
            };
            self.seen.note(&event);
            if matches!(event, QwenEvent::Finished | QwenEvent::Failed(_)) {
                self.stop.is_armed = false;
            }
            return Ok(event);
        }
    }

    /// The answer's id: the parent of the next turn.
    pub(crate) fn response_id(&self) -> Option<String> {
        self.translator.response_id().map(str::to_owned)
    }

    /// Ends the generation: nothing more of it is wanted, and the chat is to be free for the next turn.
    pub(crate) async fn stop(&mut self) {
        if std::mem::replace(&mut self.stop.is_armed, false) {
            self.stop.tell(self.translator.response_id()).await;
        }
    }

    /// Takes in more of the stream.
    async fn more(&mut self) -> Result<(), UpstreamError> {
        let read = self.read().await;
        if let Some(id) = self.translator.response_id() {
            id.clone_into(&mut self.stop.response_id);
        }
        match read {
            Err(error) if is_broken(&error) => {
                if self.ask_again().await || self.look().await.is_some() {
                    return Ok(());
                }
                Err(error)
            }
            read => read,
        }
    }

    async fn read(&mut self) -> Result<(), UpstreamError> {
        let next = match &mut self.bytes {
            Some(bytes) => bytes.next().await,
            None => None,
        };
        let frames = if let Some(chunk) = next {
            let chunk = chunk?;
            if let Some(head) = self.head.as_mut().filter(|head| head.len() < HEAD_LIMIT) {
                head.extend_from_slice(&chunk);
            }
            self.reader
                .push(&chunk)
                .map_err(|error| malformed(&error.to_string()))?
        } else {
            self.bytes = None;
            let head = self.head.take().filter(|head| is_document(head));
            let is_document = head.is_some();
            if let Some(head) = head {
                if let Some(refusal) = refusal::classify(200, None, &head) {
                    self.pending.push_back(QwenEvent::Failed(refusal));
                    return Ok(());
                }
                if self.take_document(&head) {
                    return Ok(());
                }
            }
            let reader = std::mem::replace(&mut self.reader, Reader::new(EVENT_LIMIT));
            let Some(last) = reader.finish() else {
                // In order, but empty: no connection has died (annex A4).
                let is_nothing = !self.translator.saw_anything() && self.again.is_none();
                return Err(if is_nothing && !is_document {
                    nothing()
                } else {
                    cut()
                });
            };
            vec![last]
        };
        for event in frames.into_iter().filter_map(|frame| frame.event) {
            self.head = None;
            for event in self.translator.push(&event.data) {
                let new = match &mut self.again {
                    Some(again) => again.take(event).map_err(|Another| cut())?,
                    None => Some(event),
                };
                self.pending.extend(new);
            }
        }
        Ok(())
    }

    /// Has the answer told once more, from its beginning; once. What was told of it is dropped as it comes.
    async fn ask_again(&mut self) -> bool {
        let Some(id) = self.translator.response_id().map(str::to_owned) else {
            return false;
        };
        if std::mem::replace(&mut self.has_asked_again, true) {
            return false;
        }
        let (site, chat) = (&self.stop.site, &self.chat.id);
        let asked = site.resume(&self.login, chat, &id, self.deadlines).await;
        let Ok(Answered::Events(bytes)) = asked else {
            return false;
        };
        tracing::info!("an answer whose connection died is told once more");
        self.pending.clear();
        self.bytes = Some(bytes);
        self.reader = Reader::new(EVENT_LIMIT);
        self.translator = Translator::of(id);
        self.again = Some(Again::of(&self.seen));
        true
    }

    /// The rest of an answer that the site finished although the connection died (annex A7); once.
    async fn look(&mut self) -> Option<()> {
        if std::mem::replace(&mut self.has_looked, true) {
            return None;
        }
        self.pending.clear();
        let id = self.translator.response_id()?.to_owned();
        for pause in LOOK_PAUSES {
            self.stop.site.pause(pause).await;
            let asked = self.stop.site.chat(&self.login, &self.chat.id).await;
            let Ok(Answered::Document { body, .. }) = asked else {
                return None;
            };
            let state = chats::chat_state(&body, &id)?;
            if !state.is_done {
                continue;
            }
            let rest = state.answer?.strip_prefix(self.seen.content())?.to_owned();
            if rest.is_empty() && self.seen.content().is_empty() {
                return None;
            }
            tracing::info!("an answer whose connection died was whole at the site");
            self.pending.push_back(QwenEvent::Content(rest));
            self.pending.push_back(QwenEvent::Finished);
            return Some(());
        }
        None
    }
}

/// Tells the site to stop when dropped before the answer is whole, so that its chat is free again. Until that was told
/// nobody else has the chat: a stop that comes late would end the next answer.
pub(crate) struct StopGuard {
    pub(crate) tasks: Tasks,
    pub(crate) site: Site,
    pub(crate) login: Arc<Login>,
    pub(crate) chat: Arc<Chat>,
    pub(crate) response_id: String,
    pub(crate) is_armed: bool,
}

impl StopGuard {
    async fn tell(&self, response_id: Option<&str>) {
        let body = request::stop(&self.chat.id, response_id.unwrap_or_default());
        if self
            .site
            .stop(&self.login, &self.chat.id, &body)
            .await
            .is_err()
        {
            tracing::debug!("the site could not be told to stop");
        }
    }
}

impl Drop for StopGuard {
    fn drop(&mut self) {
        if !self.is_armed {
            return;
        }
        self.chat.lease.leave();
        let again = Self {
            tasks: self.tasks.clone(),
            site: self.site.clone(),
            login: self.login.clone(),
            chat: self.chat.clone(),
            response_id: std::mem::take(&mut self.response_id),
            is_armed: false,
        };
        self.tasks.spawn("qwen stop", async move {
            again.tell(Some(&again.response_id)).await;
        });
    }
}
