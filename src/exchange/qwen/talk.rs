//! One completion's talk with the site: find the place, ask, translate, remember.

use std::sync::Arc;

use tokio::sync::OwnedSemaphorePermit;

use crate::actors::sessions::Found;
use crate::clock::{new_id, now_ms};
use crate::db::sessions::TurnRow;
use crate::exchange::qwen::answering::{Answering, Chat, StopGuard};
use crate::exchange::qwen::asked::Asked;
use crate::exchange::qwen::refused::{nothing, refused};
use crate::exchange::qwen::relay::{self, Calls, Garbled, Outcome};
use crate::exchange::qwen::spares::Kind;
use crate::exchange::qwen::teller::Teller;
use crate::exchange::qwen::{Inner, malformed};
use crate::limits::qwen::{BUSY_PAUSES, MOST_TRIES};
use crate::protocol::openai::message::Message;
use crate::protocol::qwen::chats;
use crate::protocol::qwen::refusal::{self, Refusal, RefusalKind};
use crate::protocol::qwen::request::{self, ChatMode, Turn};
use crate::protocol::recording;
use crate::protocol::tools::notation::{NEUTRAL, Notation};
use crate::providers::qwen::{Answered, Login, PROVIDER, Site};
use crate::providers::tape::Tape;
use crate::providers::{Deadlines, Phase, UpstreamError};
use crate::settings;

/// See the module.
pub(crate) struct Talk {
    inner: Arc<Inner>,
    logins: Vec<Arc<Login>>,
    asked: Asked,
    deadlines: Deadlines,
    tape: Tape,
}

/// What is asked of a chat.
struct Question<'a> {
    /// The answer it follows.
    parent_id: Option<String>,
    content: String,
    /// The messages whose attachments go with it.
    messages: &'a [Message],
}

impl Talk {
    pub(crate) fn new(
        inner: Arc<Inner>,
        logins: Vec<Arc<Login>>,
        asked: Asked,
        deadlines: Deadlines,
        tape: Tape,
    ) -> Self {
        Self {
            inner,
            logins,
            asked,
            deadlines,
            tape,
        }
    }

    /// Talks until the answer is told or cannot be had.
    pub(crate) async fn run(self, mut teller: Teller) {
        match self.converse(&mut teller).await {
            Ok(()) => teller.done().await,
            Err(error) => teller.fail(error).await,
        }
    }

    async fn converse(&self, teller: &mut Teller) -> Result<(), UpstreamError> {
        let site = self.inner.site()?.heard_by(self.tape.clone());
        let mut answering = self.begin(&site, None).await?;
        let is_growing =
            self.inner.settings.borrow().text(settings::TOOLS_STREAMING) == Some("incremental");
        let calls = if is_growing {
            Calls::Grow
        } else {
            Calls::Whole
        };
        let mut usage = None;
        // What a second question is about to mend, once.
        let mut garbled: Option<Vec<Garbled>> = None;
        loop {
            let outcome =
                relay::relay(teller, &self.asked, calls, &mut answering, &mut usage).await?;
            match outcome {
                Outcome::Intercepted if answering.notation.name == NEUTRAL.name => {
                    return Err(malformed(
                        "the site took the tool calls for its own in both notations",
                    ));
                }
                Outcome::Intercepted => {
                    self.inner.remember_notation(
                        &answering.login.account(),
                        &self.asked.model,
                        &NEUTRAL,
                    );
                    drop(answering);
                    answering = self.begin(&site, Some(&NEUTRAL)).await?;
                }
                Outcome::Refused(refusal) => {
                    let refusal = self.inner.judge(&answering.login, refusal);
                    return Err(refused(&refusal));
                }
                Outcome::Whole(unread) => {
                    let is_second = garbled.is_some();
                    let has_mended = is_second && unread.is_empty() && teller.has_called();
                    if !is_second
                        && let Some(question) = self.to_mend(&unread, teller, answering.notation)
                    {
                        let question = Question {
                            parent_id: answering.response_id(),
                            content: question,
                            messages: &[],
                        };
                        let place = (answering.login.clone(), answering.chat.clone());
                        let notation = answering.notation;
                        let asked = self.ask_on(&site, (&place.0, &place.1), notation, question);
                        match asked.await {
                            Ok(next) => {
                                answering = next;
                                garbled = Some(unread);
                                continue;
                            }
                            Err(error) => {
                                tracing::info!(%error, "the model could not be asked to repeat its call");
                            }
                        }
                    }
                    // Nothing is dropped: what could not be read is told as it came.
                    let first = garbled.filter(|_| !has_mended).unwrap_or_default();
                    for garbled in first.into_iter().chain(unread) {
                        teller.content(garbled.raw).await?;
                    }
                    teller.finish(usage.as_ref()).await?;
                    self.inner.fine(&answering.login);
                    self.remember(&answering, teller);
                    self.prewarm(&site, &answering.login);
                    // The chat is free before the client can ask again.
                    drop(answering);
                    return Ok(());
                }
            }
        }
    }

    /// What to ask for when a call could not be read, or none came where one must.
    fn to_mend(&self, unread: &[Garbled], teller: &Teller, notation: &Notation) -> Option<String> {
        let is_wanted = self.inner.settings.borrow().flag(settings::TOOLS_REPEAT);
        if !is_wanted {
            None
        } else if let Some(garbled) = unread.first() {
            Some(Asked::repeat(&garbled.reason, notation))
        } else if !teller.has_called() && self.asked.must_call() {
            Some(self.asked.insist(notation))
        } else {
            None
        }
    }

    /// Asks until an answer begins.
    async fn begin(
        &self,
        site: &Site,
        forced: Option<&'static Notation>,
    ) -> Result<Answering, UpstreamError> {
        let mut logins = self.logins.clone();
        let mut fresh = forced.is_some();
        let mut pauses = BUSY_PAUSES.into_iter();
        let mut throttled = false;
        let mut lost_spare = false;
        for _ in 0..MOST_TRIES {
            let (login, found) = self.place(&logins, fresh).await?;
            let slot = self.slot(&login).await?;
            let known = found.as_ref().map(|found| found.chat_id.clone());
            let refusal = match self.ask(site, &login, found, slot).await {
                Ok(Ok(answering)) => return Ok(answering),
                Ok(Err(refusal)) => self.inner.judge(&login, refusal),
                // An empty answer is quiet throttling: one try more, in a new chat, with another login where there is
                // one (annex A4).
                Err(error) if is_nothing(&error) => {
                    let is_second = std::mem::replace(&mut throttled, true);
                    let is_last = logins.len() == 1;
                    if is_second || !is_last {
                        self.inner.throttled(&login);
                    }
                    if is_second {
                        return Err(error);
                    }
                    if !is_last {
                        logins.retain(|other| other.id != login.id);
                    }
                    fresh = true;
                    continue;
                }
                Err(error) => return Err(error),
            };
            match (refusal.kind, known) {
                (RefusalKind::ChatGone, Some(chat_id)) => {
                    self.inner.sessions.forget(&chat_id);
                    fresh = true;
                }
                // A spare chat can be gone, too; the next new one is not a spare.
                (RefusalKind::ChatGone, None) if !std::mem::replace(&mut lost_spare, true) => {}
                (RefusalKind::ChatInProgress, Some(chat_id)) => match pauses.next() {
                    Some(pause) => {
                        let body = request::stop(&chat_id, "");
                        let _ = site.stop(&login, &chat_id, &body).await;
                        site.pause(pause).await;
                    }
                    None => fresh = true,
                },
                (RefusalKind::Parallel, _) => match pauses.next() {
                    Some(pause) => site.pause(pause).await,
                    None => return Err(refused(&refusal)),
                },
                (
                    RefusalKind::Unauthorized
                    | RefusalKind::Challenge
                    | RefusalKind::RateLimited
                    | RefusalKind::Quota,
                    _,
                ) => {
                    logins.retain(|other| other.id != login.id);
                    if logins.is_empty() {
                        return Err(refused(&refusal));
                    }
                }
                _ => return Err(refused(&refusal)),
            }
        }
        Err(malformed("the site could not be brought to answer"))
    }

    /// The login to ask with, and the chat that knows the most of the history.
    async fn place(
        &self,
        logins: &[Arc<Login>],
        fresh: bool,
    ) -> Result<(Arc<Login>, Option<Found>), UpstreamError> {
        let freest = logins
            .iter()
            .rev()
            .max_by_key(|login| self.inner.slots(&login.id).available_permits());
        let freest = freest
            .cloned()
            .ok_or_else(|| malformed("no login is left"))?;
        if fresh {
            return Ok((freest, None));
        }
        if let Some((number, turn)) = self.tape.next_turn() {
            let login = self.logins.get(number).cloned().unwrap_or(freest);
            let found = turn.continues.then(|| self.replayed(&login));
            return Ok((login, found));
        }
        let mut prefixes: Vec<_> = logins
            .iter()
            .flat_map(|login| {
                let account = login.account();
                let notation = self.inner.notation(&account, &self.asked.model);
                self.asked.prefixes(&account, notation)
            })
            .collect();
        prefixes.sort_by_key(|prefix| std::cmp::Reverse(prefix.messages));
        if prefixes.is_empty() {
            return Ok((freest, None));
        }
        // Without the session actor a new chat serves as well.
        let found = self.inner.sessions.find(prefixes).await.unwrap_or_default();
        let login = found
            .as_ref()
            .and_then(|found| logins.iter().find(|login| login.account() == found.login));
        Ok((login.cloned().unwrap_or(freest), found))
    }

    /// The chat that a recorded turn went on in: only that there was one matters.
    fn replayed(&self, login: &Login) -> Found {
        const CHAT: &str = "replayed";
        Found {
            session_id: CHAT.into(),
            login: login.account(),
            chat_id: CHAT.into(),
            parent_id: CHAT.into(),
            known: 0,
            lease: self.inner.sessions.claim(CHAT),
        }
    }

    /// Waits for one of the login's places: few requests at a time keep the site friendly.
    async fn slot(&self, login: &Login) -> Result<OwnedSemaphorePermit, UpstreamError> {
        let after = self.deadlines.first_byte;
        let slot = tokio::time::timeout(after, self.inner.slots(&login.id).acquire_owned()).await;
        match slot {
            Ok(Ok(slot)) => Ok(slot),
            _ => Err(UpstreamError::Timeout {
                provider: PROVIDER.into(),
                phase: Phase::FirstByte,
                after,
            }),
        }
    }

    /// Asks once: in the chat that was found, else in a new one. The inner error is the site's refusal.
    async fn ask(
        &self,
        site: &Site,
        login: &Arc<Login>,
        found: Option<Found>,
        slot: OwnedSemaphorePermit,
    ) -> Result<Result<Answering, Refusal>, UpstreamError> {
        let asked = &self.asked;
        let notation = self.inner.notation(&login.account(), &asked.model);
        let (chat, parent_id, content, known) = if let Some(found) = found {
            let content = asked.continued(found.known, notation);
            let chat = Chat {
                id: found.chat_id,
                session_id: found.session_id,
                lease: found.lease,
                slot,
            };
            (chat, Some(found.parent_id), content, found.known)
        } else {
            let kind = self.kind(login);
            let id = match self.inner.spares.take(&kind) {
                Some(id) => id,
                None => match open_chat(site, login, &kind, self.deadlines).await? {
                    Ok(id) => id,
                    Err(refusal) => return Ok(Err(refusal)),
                },
            };
            let chat = Chat {
                session_id: new_id(),
                lease: self.inner.sessions.claim(&id),
                id,
                slot,
            };
            (chat, None, asked.flattened(notation), 0)
        };
        let question = Question {
            parent_id,
            content,
            messages: asked.messages.get(known..).unwrap_or_default(),
        };
        self.send(site, login, &Arc::new(chat), notation, question)
            .await
    }

    /// Asks once more in the chat that has just answered.
    async fn ask_on(
        &self,
        site: &Site,
        (login, chat): (&Arc<Login>, &Arc<Chat>),
        notation: &'static Notation,
        question: Question<'_>,
    ) -> Result<Answering, UpstreamError> {
        let sent = self.send(site, login, chat, notation, question);
        sent.await?
            .map_err(|refusal| refused(&self.inner.judge(login, refusal)))
    }

    /// Sends one turn, and waits until its answer begins.
    async fn send(
        &self,
        site: &Site,
        login: &Arc<Login>,
        chat: &Arc<Chat>,
        notation: &'static Notation,
        question: Question<'_>,
    ) -> Result<Result<Answering, Refusal>, UpstreamError> {
        let asked = &self.asked;
        let stored = self
            .inner
            .uploads
            .store(site, login, question.messages, self.deadlines);
        let files = match stored.await? {
            Ok(files) => files,
            Err(refusal) => return Ok(Err(refusal)),
        };
        let (fid, child_id) = (new_id(), new_id());
        let body = request::completion(&Turn {
            chat_id: &chat.id,
            parent_id: question.parent_id.as_deref(),
            model: &asked.model,
            content: &question.content,
            files,
            thinking: asked.thinking,
            chat_type: asked.chat_type,
            size: asked.size.as_deref(),
            mode: mode(login),
            fid: &fid,
            child_id: &child_id,
            now_ms: now_ms(),
        });
        let mut stop = StopGuard {
            tasks: self.inner.tasks.clone(),
            site: site.clone(),
            login: login.clone(),
            chat: chat.clone(),
            response_id: String::new(),
            is_armed: true,
        };
        let turn = recording::Turn {
            notation: notation.name.to_owned(),
            continues: question.parent_id.is_some(),
        };
        let sent = site.complete(login, &chat.id, &body, &turn, self.deadlines);
        let sent = sent.await;
        let (login, chat) = (login.clone(), chat.clone());
        match sent? {
            Answered::Events(bytes) => {
                let mut answering =
                    Answering::new(login, chat, notation, Some(bytes), stop, self.deadlines);
                let begun = answering.begin(self.deadlines.first_byte).await?;
                Ok(begun.map(|()| answering))
            }
            Answered::Document {
                status,
                content_type,
                body,
            } => {
                stop.is_armed = false;
                if status == 200 && body.trim_ascii().is_empty() {
                    return Err(nothing());
                }
                if let Some(refusal) = refusal::classify(status, content_type.as_deref(), &body) {
                    return Ok(Err(refusal));
                }
                let mut answering =
                    Answering::new(login, chat, notation, None, stop, self.deadlines);
                if !answering.take_document(&body) {
                    return Err(malformed("neither an event stream nor a known refusal"));
                }
                Ok(Ok(answering))
            }
        }
    }

    /// Opens a chat that the next conversation of this kind can begin in, if the user wants that.
    fn prewarm(&self, site: &Site, login: &Arc<Login>) {
        let kind = self.kind(login);
        let is_wanted = self.inner.settings.borrow().flag(settings::QWEN_PREWARM);
        if !is_wanted || !self.inner.spares.lacks(&kind) {
            return;
        }
        let (inner, site, login) = (self.inner.clone(), site.clone(), login.clone());
        let deadlines = self.deadlines;
        self.inner.tasks.spawn("qwen prewarm", async move {
            let opened = open_chat(&site, &login, &kind, deadlines).await;
            if let Ok(Ok(chat_id)) = opened {
                inner.spares.keep(kind, chat_id);
            }
        });
    }

    fn kind(&self, login: &Login) -> Kind {
        let asked = &self.asked;
        (login.account(), asked.model.clone(), asked.chat_type)
    }

    /// Keeps where the next turn goes on.
    fn remember(&self, answering: &Answering, teller: &Teller) {
        let Some(parent_id) = answering.response_id() else {
            return;
        };
        let account = answering.login.account();
        let at = now_ms();
        let timeout = self
            .inner
            .settings
            .borrow()
            .integer(settings::SESSION_TIMEOUT);
        let known = self
            .asked
            .after(&account, answering.notation, &teller.answer());
        let turn = TurnRow {
            hash: String::new(),
            session_id: answering.chat.session_id.clone(),
            login: account,
            credential_id: answering.login.id.clone(),
            chat_id: answering.chat.id.clone(),
            parent_id,
            first_user_message: self.asked.first_user_message(),
            request_id: self.asked.request_id.clone(),
            message_count: i64::try_from(self.asked.messages.len() + 1).unwrap_or(i64::MAX),
            model: self.asked.model.clone(),
            at,
            expires_at: at.saturating_add(timeout),
        };
        for hash in known {
            self.inner.sessions.answered(TurnRow {
                hash,
                ..turn.clone()
            });
        }
    }
}

async fn open_chat(
    site: &Site,
    login: &Login,
    (_, model, chat_type): &Kind,
    deadlines: Deadlines,
) -> Result<Result<String, Refusal>, UpstreamError> {
    let body = request::new_chat(model, *chat_type, mode(login), now_ms());
    match site.new_chat(login, &body, deadlines).await? {
        Answered::Document {
            status,
            content_type,
            body,
        } => {
            if let Some(refusal) = refusal::classify(status, content_type.as_deref(), &body) {
                return Ok(Err(refusal));
            }
            Ok(chats::new_chat_id(&body))
        }
        Answered::Events(_) => Err(malformed("a stream instead of a new chat")),
    }
}

fn mode(login: &Login) -> ChatMode {
    if login.is_guest() {
        ChatMode::Guest
    } else {
        ChatMode::Normal
    }
}

fn is_nothing(error: &UpstreamError) -> bool {
    error.fault().and_then(|fault| fault.code.as_deref()) == Some("qwen_throttled")
}
