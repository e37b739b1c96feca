//! The Qwen web chat as a provider: an OpenAI request becomes the next turn of a chat of the user's own login.
//!
//! Data flow: the credentials actor says which logins may be used; the session actor, which chat knows how much of the
//! history; only what is new is sent there, or the whole history into a new chat. The answer is translated event by
//! event; calls are read out of its text. When it is whole, the session actor learns where the next turn goes on.
//!
//! Each completion is a task of its own (`talk.rs`): when the client leaves, it is dropped and the site is told to stop.

mod answering;
pub(crate) mod asked;
mod excuse;
mod refused;
mod relay;
mod seen;
mod spares;
mod talk;
mod teller;
mod uploads;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::sync::{Semaphore, mpsc, oneshot, watch};

use crate::actors::credentials::{Credentials, Verdict};
use crate::actors::router::plan::RoutePlan;
use crate::actors::router::target::Target;
use crate::actors::sessions::Sessions;
use crate::clock::now_ms;
use crate::db::sessions::ChatOf;
use crate::exchange::progress_limit;
use crate::exchange::qwen::asked::Asked;
use crate::exchange::qwen::refused::{no_login, refused, unavailable};
use crate::exchange::qwen::spares::Spares;
use crate::exchange::qwen::talk::Talk;
use crate::exchange::qwen::teller::Teller;
use crate::exchange::qwen::uploads::Uploads;
use crate::limits::qwen::THROTTLED;
use crate::limits::qwen::{
    CHUNKS_WAITING, MODELS_DEADLINE, MODELS_FRESH, MODELS_PAUSE, SILENCE, WHOLE_LIMIT,
};
use crate::protocol::openai::answer::Assembled;
use crate::protocol::openai::build::Head;
use crate::protocol::openai::chunk;
use crate::protocol::qwen::models::{self, QwenModel};
use crate::protocol::qwen::refusal::{self, Refusal, RefusalKind};
use crate::protocol::sse::Reader;
use crate::protocol::tools::notation::{NATIVE_JSON, Notation};
use crate::providers::calls::{Calls, Counted};
use crate::providers::capabilities;
use crate::providers::http::Http;
use crate::providers::qwen::{Answered, DIRECT, Login, PROVIDER, Site};
use crate::providers::{
    Answer, AnswerHeaders, ByteStream, Call, Phase, Provider, UpstreamError, UpstreamModel,
};
use crate::routing::facts;
use crate::routing::node::Node;
use crate::settings::{self, Settings};
use crate::tasks::{Owned, Tasks, lock};

/// See the module. Cheap to clone.
#[derive(Clone)]
pub(crate) struct QwenWeb {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) credentials: Credentials,
    pub(crate) sessions: Sessions,
    pub(crate) settings: watch::Receiver<Arc<Settings>>,
    pub(crate) http: Http,
    pub(crate) tasks: Tasks,
    models: Mutex<Models>,
    /// Requests under way, by login.
    slots: Mutex<HashMap<String, (usize, Arc<Semaphore>)>>,
    /// How often in a row the site called itself busy, by login.
    busy: Mutex<HashMap<String, u32>>,
    uploads: Uploads,
    spares: Spares,
    calls: Calls,
    /// How the site does, for those that ask it on :3000.
    node: Arc<Node>,
    /// Notations that were found to be needed, by account and model.
    notations: Mutex<HashMap<(String, String), &'static Notation>>,
}

/// What is known of the site's models.
#[derive(Clone, Default)]
struct Models {
    list: Option<Arc<Vec<QwenModel>>>,
    told: Option<Instant>,
    failed: Option<Instant>,
    error: Option<UpstreamError>,
    is_asking: bool,
}

impl Models {
    fn has_failed_lately(&self) -> bool {
        self.failed.is_some_and(|at| at.elapsed() < MODELS_PAUSE)
    }
}

impl QwenWeb {
    pub(crate) fn new(
        credentials: Credentials,
        sessions: Sessions,
        settings: watch::Receiver<Arc<Settings>>,
        http: Http,
        tasks: Tasks,
    ) -> Self {
        Self {
            inner: Arc::new(Inner {
                credentials,
                sessions,
                settings,
                http,
                tasks,
                models: Mutex::default(),
                slots: Mutex::default(),
                busy: Mutex::default(),
                uploads: Uploads::default(),
                spares: Spares::default(),
                calls: Calls::default(),
                notations: Mutex::default(),
                node: Arc::default(),
            }),
        }
    }

    /// How often the site was asked, and what came of it.
    pub(crate) fn calls(&self) -> Counted {
        self.inner.calls.counted()
    }

    /// The site's models, from memory where there are any: a list that is not fresh is asked for again beside that. A
    /// site that did not tell lately is not waited for.
    pub(crate) async fn list(
        &self,
        deadline: Duration,
    ) -> Result<Arc<Vec<QwenModel>>, UpstreamError> {
        let kept = lock(&self.inner.models).clone();
        if let Some(models) = kept.list.clone() {
            let is_old = kept.told.is_none_or(|at| at.elapsed() > MODELS_FRESH);
            if is_old && !kept.has_failed_lately() && !kept.is_asking {
                lock(&self.inner.models).is_asking = true;
                let own = self.clone();
                self.inner
                    .tasks
                    .spawn("qwen models", async move { own.ask_models(deadline).await });
            }
            return Ok(models);
        }
        if let Some(error) = kept.error.clone().filter(|_| kept.has_failed_lately()) {
            return Err(error);
        }
        self.ask_models(deadline).await
    }

    async fn ask_models(&self, deadline: Duration) -> Result<Arc<Vec<QwenModel>>, UpstreamError> {
        let login = match self.inner.first_login().await {
            Ok(login) => login,
            Err(error) => {
                lock(&self.inner.models).is_asking = false;
                return Err(error);
            }
        };
        let asked = tokio::time::timeout(deadline, self.fetch_models(&login, deadline)).await;
        let asked = asked.unwrap_or_else(|_| Err(malformed("the list of models did not come")));
        let mut kept = lock(&self.inner.models);
        kept.is_asking = false;
        match asked {
            Ok(models) => {
                let models = Arc::new(models);
                kept.list = Some(models.clone());
                kept.told = Some(Instant::now());
                kept.error = None;
                Ok(models)
            }
            Err(error) => {
                kept.failed = Some(Instant::now());
                kept.error = Some(error.clone());
                Err(error)
            }
        }
    }

    /// The site's models.
    pub(crate) async fn models(&self) -> Result<Arc<Vec<QwenModel>>, UpstreamError> {
        self.inner.first_login().await?;
        self.list(MODELS_DEADLINE).await
    }

    /// Chats that stand ready for conversations to come.
    pub(crate) fn spare_chats(&self) -> usize {
        self.inner.spares.count()
    }

    /// A plan that has the site as its only target.
    pub(crate) fn plan(&self) -> RoutePlan {
        // The model is the request's.
        let mut target = Target::bare(PROVIDER, "", Arc::new(self.clone()));
        target.facts = facts::facts(DIRECT, "");
        target.provider_node = self.inner.node.clone();
        RoutePlan::only(target)
    }

    /// Deletes a chat at the site, when the user wants that of deleted sessions.
    pub(crate) fn forget(&self, place: ChatOf) {
        let inner = self.inner.clone();
        let is_wanted = inner.settings.borrow().flag(settings::QWEN_DELETE_CHATS);
        let Some(account) = place.login.filter(|_| is_wanted) else {
            return;
        };
        let chat_id = place.chat_id;
        self.inner.tasks.spawn("qwen delete chat", async move {
            let Ok(Ok(logins)) = inner.credentials.usable().await else {
                return;
            };
            let login = logins.iter().find(|login| login.account() == account);
            if let (Some(login), Ok(site)) = (login, inner.site())
                && let Err(error) = site.delete_chat(login, &chat_id).await
            {
                tracing::warn!(%error, "a chat could not be deleted at the site");
            }
        });
    }

    /// Whether the site takes `login` for signed in. Asked with a deadline of its own; no answer is no.
    pub(crate) async fn verify(&self, login: &Login) -> bool {
        let Ok(site) = self.inner.site() else {
            return false;
        };
        match site.whoami(login).await {
            Ok(Answered::Document {
                status,
                content_type,
                body,
            }) => {
                status == 200 && refusal::classify(status, content_type.as_deref(), &body).is_none()
            }
            Ok(Answered::Events(_)) | Err(_) => false,
        }
    }

    async fn fetch_models(
        &self,
        login: &Login,
        deadline: Duration,
    ) -> Result<Vec<QwenModel>, UpstreamError> {
        match self.inner.site()?.models(login, deadline).await? {
            Answered::Document {
                status,
                content_type,
                body,
            } => {
                if let Some(refusal) = refusal::classify(status, content_type.as_deref(), &body) {
                    return Err(refused(&refusal));
                }
                models::read(&body)
                    .ok_or_else(|| malformed("the list of models is of no known shape"))
            }
            Answered::Events(_) => Err(malformed("a stream instead of the list of models")),
        }
    }

    async fn answer(self, call: Call) -> Result<Answer, UpstreamError> {
        let logins = match self.inner.credentials.usable().await {
            Ok(Ok(logins)) => logins,
            Ok(Err(none)) => return Err(no_login(&none)),
            Err(reason) => return Err(unavailable(&reason)),
        };
        // Without the list a model's name is taken as it stands.
        let models = self.list(MODELS_DEADLINE).await.unwrap_or_default();
        self.answer_as(call, logins, &models).await
    }

    /// The same with given logins and models.
    pub(crate) async fn answer_as(
        self,
        call: Call,
        logins: Vec<Arc<Login>>,
        models: &[QwenModel],
    ) -> Result<Answer, UpstreamError> {
        let asked = Asked::read(&call, models)?;
        let ignored = asked.ignored.clone();
        let (opened, began) = oneshot::channel();
        let (sender, receiver) = mpsc::channel(CHUNKS_WAITING);
        let head = Head {
            id: format!("chatcmpl-{}", call.request_id),
            model: asked.shown_model.clone(),
            created: u64::try_from(now_ms() / 1_000).unwrap_or_default(),
        };
        let teller = Teller::new(sender, opened, head, SILENCE.min(call.deadlines.idle));
        let talk = Talk::new(self.inner.clone(), logins, asked, call.deadlines, call.tape);
        let running = self.inner.tasks.spawn_owned("qwen talk", talk.run(teller));
        began
            .await
            .unwrap_or_else(|_| Err(malformed("the exchange with the site failed")))?;
        let bytes = stream_of(receiver, running);
        let headers = AnswerHeaders {
            ignored,
            ..AnswerHeaders::default()
        };
        if call.stream {
            return Ok(Answer::Stream {
                status: 200,
                headers,
                bytes,
            });
        }
        let body = whole_of(bytes, progress_limit(call.deadlines.idle)).await?;
        Ok(Answer::Whole {
            status: 200,
            headers,
            body,
        })
    }
}

impl Provider for QwenWeb {
    fn kind(&self) -> &'static str {
        DIRECT
    }

    fn retries_itself(&self) -> bool {
        true
    }

    fn knows_formats(&self) -> bool {
        false
    }

    fn complete(&self, call: Call) -> BoxFuture<'_, Result<Answer, UpstreamError>> {
        self.clone().answer(call).boxed()
    }

    fn models(
        &self,
        deadline: Duration,
    ) -> BoxFuture<'_, Result<Vec<UpstreamModel>, UpstreamError>> {
        async move {
            let models = self.list(deadline).await?;
            Ok(models
                .iter()
                .map(|model| UpstreamModel {
                    id: model.id.clone(),
                    owned_by: model.owned_by.clone(),
                    created: None,
                    context_length: model.max_context_length,
                    capabilities: capabilities::read(&model.meta),
                })
                .collect())
        }
        .boxed()
    }
}

impl Inner {
    pub(crate) fn site(&self) -> Result<Site, UpstreamError> {
        let settings = self.settings.borrow().clone();
        let base = settings.text(settings::QWEN_BASE_URL).unwrap_or_default();
        Site::new(base, self.http.clone(), self.calls.clone()).map_err(|reason| {
            UpstreamError::Connect {
                provider: PROVIDER.into(),
                reason,
            }
        })
    }

    pub(crate) async fn first_login(&self) -> Result<Arc<Login>, UpstreamError> {
        match self.credentials.usable().await {
            Ok(Ok(logins)) => logins
                .into_iter()
                .next()
                .ok_or_else(|| malformed("no login")),
            Ok(Err(none)) => Err(no_login(&none)),
            Err(reason) => Err(unavailable(&reason)),
        }
    }

    /// The places of one login; few requests at a time keep the site friendly.
    pub(crate) fn slots(&self, login: &str) -> Arc<Semaphore> {
        let most = self.settings.borrow().size(settings::QWEN_IN_FLIGHT);
        let mut slots = lock(&self.slots);
        // A changed setting counts from the next request on; those under way keep their places in the old count.
        match slots.get(login) {
            Some((size, slots)) if *size == most => slots.clone(),
            _ => {
                let fresh = Arc::new(Semaphore::new(most));
                slots.insert(login.to_owned(), (most, fresh.clone()));
                fresh
            }
        }
    }

    pub(crate) fn notation(&self, account: &str, model: &str) -> &'static Notation {
        lock(&self.notations)
            .get(&(account.to_owned(), model.to_owned()))
            .copied()
            .unwrap_or(&NATIVE_JSON)
    }

    pub(crate) fn remember_notation(
        &self,
        account: &str,
        model: &str,
        notation: &'static Notation,
    ) {
        lock(&self.notations).insert((account.to_owned(), model.to_owned()), notation);
    }

    /// Draws what follows for the login from a refusal, and returns what it amounts to.
    pub(crate) fn judge(&self, login: &Arc<Login>, refusal: Refusal) -> Refusal {
        /// Seconds a login rests when a limit says nothing of its end.
        const REST: u64 = 3_600;
        let refusal = self.weigh(login, refusal);
        let verdict = match refusal.kind {
            RefusalKind::Unauthorized => Verdict::Rejected,
            RefusalKind::Challenge => Verdict::Challenged,
            RefusalKind::RateLimited | RefusalKind::Quota => {
                let rest = refusal.retry_after_s.unwrap_or(REST);
                let rest = i64::try_from(rest).unwrap_or(i64::MAX / 1_000);
                Verdict::Limited(now_ms().saturating_add(rest.saturating_mul(1_000)))
            }
            _ => return refusal,
        };
        self.credentials.judge(login, verdict);
        refusal
    }

    /// The site answered with nothing: it throttles the login without saying so (annex A4).
    pub(crate) fn throttled(&self, login: &Arc<Login>) {
        let rest = i64::try_from(THROTTLED.as_millis()).unwrap_or(i64::MAX);
        let until = now_ms().saturating_add(rest);
        self.credentials.judge(login, Verdict::Limited(until));
    }

    /// The site took the login.
    pub(crate) fn fine(&self, login: &Arc<Login>) {
        lock(&self.busy).remove(&login.id);
        self.credentials.judge(login, Verdict::Fine);
    }

    /// The second "busy" in a row is what a login gets that is to pass a check (annex A2).
    fn weigh(&self, login: &Login, refusal: Refusal) -> Refusal {
        if refusal.kind != RefusalKind::Busy {
            return refusal;
        }
        let mut busy = lock(&self.busy);
        let streak = busy.entry(login.id.clone()).or_default();
        *streak += 1;
        if *streak < 2 {
            return refusal;
        }
        busy.remove(&login.id);
        Refusal {
            kind: RefusalKind::Challenge,
            ..refusal
        }
    }
}

pub(crate) fn malformed(reason: &str) -> UpstreamError {
    UpstreamError::Malformed {
        provider: PROVIDER.into(),
        reason: reason.into(),
    }
}

/// The chunks as the body of an answer; dropping it ends the talk.
fn stream_of(receiver: mpsc::Receiver<Result<Bytes, UpstreamError>>, task: Owned) -> ByteStream {
    let state = (receiver, task);
    Box::pin(futures_util::stream::unfold(
        state,
        |(mut receiver, task)| async move { receiver.recv().await.map(|item| (item, (receiver, task))) },
    ))
}

/// The same answer as one document.
async fn whole_of(mut bytes: ByteStream, patience: Duration) -> Result<Bytes, UpstreamError> {
    use futures_util::StreamExt;
    let mut reader = Reader::new(WHOLE_LIMIT);
    let mut whole = Assembled::new(WHOLE_LIMIT);
    loop {
        let late = |_| UpstreamError::Timeout {
            provider: PROVIDER.into(),
            phase: Phase::Progress,
            after: patience,
        };
        let next = tokio::time::timeout(patience, bytes.next()).await;
        let Some(chunk) = next.map_err(late)? else {
            break;
        };
        for frame in reader
            .push(&chunk?)
            .map_err(|error| malformed(&error.to_string()))?
        {
            let Some(event) = frame.event else { continue };
            let scan = chunk::scan(&event.data).map_err(|error| malformed(&error.to_string()))?;
            if let Some(fault) = scan.error {
                return Err(UpstreamError::InBand {
                    provider: PROVIDER.into(),
                    fault,
                });
            }
            whole.feed(&scan);
        }
    }
    if whole.is_truncated() {
        return Err(UpstreamError::TooLarge {
            provider: PROVIDER.into(),
            limit: WHOLE_LIMIT,
        });
    }
    if !whole.is_complete() {
        return Err(UpstreamError::Cut {
            provider: PROVIDER.into(),
            reason: "the answer broke off".into(),
        });
    }
    Ok(Bytes::from(whole.to_json().to_string()))
}
