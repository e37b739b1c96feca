//! What is no chat: embeddings, images, speech, text completions. The request goes to a provider as it came, and its
//! answer back; only the model is named anew.
//!
//! The same plan, doors and breakers as for a chat, and the same rows. Until the first byte of an answer the next target
//! can still be tried: nothing was sent to the client.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use serde::de::IgnoredAny;
use serde_json::json;
use tokio::sync::oneshot;

use crate::actors::ports::{Connections, InFlight};
use crate::actors::router::Router;
use crate::actors::router::plan::{Question, RoutePlan};
use crate::actors::router::target::Target;
use crate::exchange::admission::{Buffering, Place};
use crate::exchange::attempts::{NobodyTakesIt, Picker, Policy};
use crate::exchange::downlink::{Clocks, Downlink, Interrupted};
use crate::exchange::record::{self, Ending, Recorder, Subject};
use crate::exchange::{Caps, Delivery, Exchanges, Refusal, Wishes, too_long};
use crate::limits::upstreams::{MOST_PASSED, MOST_WHOLE};
use crate::protocol::openai::answer;
use crate::protocol::openai::request::named::Named;
use crate::providers::{Deadlines, Pass, Passed, UpstreamError};
use crate::routing::dice::{self, Dice};
use crate::routing::retry::Budget;
use crate::settings;

/// A request to be passed on.
pub(crate) struct Passing {
    pub(crate) named: Named,
    /// Below a provider's base URL.
    pub(crate) path: &'static str,
    pub(crate) content_type: String,
    pub(crate) subject: Subject,
    pub(crate) connections: Connections,
    pub(crate) received: Instant,
    pub(crate) wishes: Wishes,
    /// Where it goes, when that was asked before.
    pub(crate) plan: Option<RoutePlan>,
    pub(crate) buffering: Option<Buffering>,
}

/// What the router has to know of a request that is passed on.
pub(crate) fn question(named: &Named, wishes: &Wishes) -> Question {
    Question {
        model: named.model.clone(),
        conversation: dice::hash(&named.body),
        only: wishes.targets.clone(),
        ..Question::default()
    }
}

impl Exchanges {
    /// Passes a request on. Resolves when the first bytes can go out.
    pub(crate) async fn pass(&self, passing: Passing) -> Result<Delivery, Refusal> {
        let settings = self.settings.borrow().clone();
        let most = settings.size(settings::SERVER_MAX_IN_FLIGHT);
        let Some(permit) = self.admission.enter(most) else {
            return Err(Refusal::Overloaded);
        };
        let named = &passing.named;
        let mut recorder = Recorder::about(
            self.database.clone(),
            self.events.clone(),
            &settings,
            (&kept(&passing), named.model.as_deref(), named.stream),
            &passing.subject,
        );
        let planned = match passing.plan {
            Some(plan) => Ok(Ok(plan)),
            None => self.router.plan(question(named, &passing.wishes)).await,
        };
        let mut plan = match planned {
            Ok(Ok(plan)) => plan,
            Ok(Err(no_target)) => {
                let words = no_target.to_string();
                recorder
                    .refused(&words, "model_not_found", 404, passing.received)
                    .await;
                return Err(Refusal::NoTarget(no_target));
            }
            Err(unavailable) => return Err(Refusal::Unavailable(unavailable)),
        };
        if can_pass(&plan) {
            plan.targets.retain(|target| target.adapter.passes());
            plan.closed.retain(|(target, _)| target.adapter.passes());
        }
        recorder.planned(&plan);
        self.retries.earn();
        recorder.begin();
        let mut policy = Policy::of(&settings);
        policy.fallbacks &= !passing.wishes.no_fallback;
        let silence = passing.wishes.timeout;
        let (head, delivered) = oneshot::channel();
        let in_flight = passing.connections.enter();
        // Comments are for chats: what is passed on is only what comes.
        let downlink = Downlink::new(head, &passing.connections, Clocks::of(&settings), false);
        let courier = Courier {
            named: passing.named,
            path: passing.path,
            content_type: passing.content_type,
            downlink,
            recorder,
            deadlines: Deadlines {
                connect: settings.millis(settings::SERVER_CONNECT_TIMEOUT),
                first_byte: silence.unwrap_or(settings.millis(settings::SERVER_TIMEOUT)),
                idle: silence.unwrap_or(settings.millis(settings::SERVER_TIMEOUT)),
            },
            longest: Caps::of(&settings).time,
            router: self.router.clone(),
            retries: self.retries.clone(),
            dice: self.dice.clone(),
            received: passing.received,
            _guards: (permit, in_flight, passing.buffering),
        };
        self.tasks
            .spawn("passing", Box::new(courier).drive(plan, policy));
        delivered.await.unwrap_or(Err(Refusal::Broken))
    }
}

/// Whether anybody of the plan takes what is no chat.
pub(crate) fn can_pass(plan: &RoutePlan) -> bool {
    let closed = plan.closed.iter().map(|(target, _)| target);
    plan.targets
        .iter()
        .chain(closed)
        .any(|target| target.adapter.passes())
}

/// What the history keeps of the request: a form holds files, which are left out.
fn kept(passing: &Passing) -> Bytes {
    if passing.content_type.starts_with("application/json") {
        return passing.named.body.clone();
    }
    let note = json!({"model": passing.named.model,
        "qwarden": {"omitted": "a form with files", "bytes": passing.named.body.len()}});
    note.to_string().into()
}

/// One request on its way.
struct Courier {
    named: Named,
    path: &'static str,
    content_type: String,
    downlink: Downlink,
    recorder: Recorder,
    deadlines: Deadlines,
    /// What the whole of an attempt may take.
    longest: Duration,
    router: Router,
    retries: Arc<Budget>,
    dice: Arc<Dice>,
    received: Instant,
    _guards: (Place, InFlight, Option<Buffering>),
}

/// How one attempt ended.
enum Ended {
    /// The client has its answer, or as much of it as there is.
    Over,
    Failed(UpstreamError),
    Interrupted(Interrupted),
}

impl Courier {
    async fn drive(mut self: Box<Self>, plan: RoutePlan, policy: Policy) {
        let mut chances = Picker::new(&plan, policy);
        drop(plan);
        if self.retries.is_low(tokio::time::Instant::now()) {
            chances.be_careful();
        }
        let mut number = 0;
        let mut failure: Option<UpstreamError> = None;
        loop {
            let picked = match self.downlink.patiently(chances.next()).await {
                Ok(picked) => picked,
                Err(interrupted) => return Box::pin(self.interrupted(interrupted)).await,
            };
            let mut picked = match (picked, failure) {
                (Ok(picked), _) => picked,
                (Err(_), Some(error)) => return Box::pin(self.failed(error, number)).await,
                (Err(nobody), None) => return Box::pin(self.nobody(nobody)).await,
            };
            number += 1;
            let target = picked.target.clone();
            self.recorder.begin_attempt(number, &target);
            self.downlink
                .serving(&target, number, crate::providers::tape::Tape::default());
            let longest = self.longest;
            let ended = match tokio::time::timeout(longest, self.attempt(&target)).await {
                Ok(ended) => ended,
                Err(_) => Ended::Failed(too_long(&target, longest)),
            };
            let now = tokio::time::Instant::now();
            match ended {
                Ended::Over => {
                    if picked.entrance.succeeded(self.recorder.tokens(), now) {
                        self.recorder.breaker_closed(&target);
                    }
                    return;
                }
                Ended::Interrupted(interrupted) => {
                    return Box::pin(self.interrupted(interrupted)).await;
                }
                Ended::Failed(error) => {
                    self.recorder.attempt_failed(&error);
                    if picked.entrance.failed(&target, &error, now) {
                        self.recorder.breaker_opened(&target, &error);
                        self.router.suspect(&target.provider);
                    }
                    chances.failed(&picked, &error, self.dice.throw());
                    drop(picked.entrance);
                    let is_over = self.downlink.is_open()
                        || number >= policy.attempts
                        || !chances.has_chance()
                        || !self.retries.spend(now);
                    if is_over {
                        return Box::pin(self.failed(error, number)).await;
                    }
                    failure = Some(error);
                }
            }
        }
    }

    async fn attempt(&mut self, target: &Target) -> Ended {
        let mut deadlines = self.deadlines;
        if let Some(timeout) = target.timeout {
            deadlines.first_byte = timeout;
            deadlines.idle = timeout;
        }
        let model = if target.upstream_model.is_empty() {
            self.named.model.clone().unwrap_or_default()
        } else {
            target.upstream_model.clone()
        };
        let pass = Pass {
            path: self.path,
            content_type: self.content_type.clone(),
            body: self.named.to(&model),
            deadlines,
        };
        let passed = match self.downlink.patiently(target.adapter.pass(pass)).await {
            Err(interrupted) => return Ended::Interrupted(interrupted),
            Ok(Err(error)) => return Ended::Failed(error),
            Ok(Ok(passed)) => passed,
        };
        self.recorder.upstream_answered(passed.status);
        let is_json = passed
            .content_type
            .as_deref()
            .is_some_and(|kind| kind.starts_with("application/json"));
        self.downlink.told_as(passed.content_type.clone());
        if is_json {
            self.whole(target, passed).await
        } else {
            self.stream(target, passed).await
        }
    }

    async fn whole(&mut self, target: &Target, mut passed: Passed) -> Ended {
        let mut body = BytesMut::new();
        loop {
            match self.downlink.patiently(passed.bytes.next()).await {
                Err(interrupted) => return Ended::Interrupted(interrupted),
                Ok(Some(Err(error))) => return Ended::Failed(error),
                Ok(Some(Ok(piece))) if body.len() + piece.len() > MOST_WHOLE => {
                    drop(piece);
                    return Ended::Failed(too_large(target, MOST_WHOLE));
                }
                Ok(Some(Ok(piece))) => body.extend_from_slice(&piece),
                Ok(None) => break,
            }
        }
        let body = body.freeze();
        self.recorder.first_content();
        // It need not look like a completion; its usage does where there is one.
        let usage = answer::scan_whole(&body).ok().and_then(|whole| whole.usage);
        // What only says that it is JSON cannot be kept as such.
        if serde_json::from_slice::<IgnoredAny>(&body).is_ok() {
            self.recorder.answered(usage, None, &body);
        }
        self.recorder
            .finish(Ending::Completed, 200, self.received)
            .await;
        self.downlink.deliver_whole(body);
        Ended::Over
    }

    async fn stream(&mut self, target: &Target, mut passed: Passed) -> Ended {
        let mut sent = 0;
        loop {
            let piece = match self.downlink.patiently(passed.bytes.next()).await {
                Err(interrupted) => return Ended::Interrupted(interrupted),
                Ok(Some(Err(error))) => return Ended::Failed(error),
                Ok(Some(Ok(piece))) => piece,
                Ok(None) => break,
            };
            if sent == 0 {
                self.recorder.first_content();
            }
            sent += piece.len();
            if sent > MOST_PASSED {
                return Ended::Failed(too_large(target, MOST_PASSED));
            }
            if let Err(interrupted) = self.downlink.send(piece).await {
                return Ended::Interrupted(interrupted);
            }
        }
        self.recorder
            .finish(Ending::Completed, 200, self.received)
            .await;
        // The end of the body is what waits for the row.
        match self.downlink.end(Bytes::new()).await {
            Ok(()) | Err(Interrupted::ClientGone) => Ended::Over,
            Err(interrupted @ Interrupted::ShuttingDown) => Ended::Interrupted(interrupted),
        }
    }

    /// No target is left. A client that has a part of an answer sees its connection break.
    async fn failed(mut self: Box<Self>, error: UpstreamError, attempts: u32) {
        let status = if self.downlink.is_open() {
            200
        } else {
            record::client_status(&error)
        };
        let ending = Ending::Failed {
            message: error.to_string(),
            code: error.code(),
        };
        self.recorder.finish(ending, status, self.received).await;
        self.downlink.refuse(Refusal::Upstream { error, attempts });
    }

    async fn nobody(mut self: Box<Self>, nobody: NobodyTakesIt) {
        let ending = Ending::Failed {
            message: nobody.message.clone(),
            code: nobody.code,
        };
        let status = nobody.status;
        self.recorder.finish(ending, status, self.received).await;
        self.downlink.refuse(Refusal::Closed(nobody));
    }

    async fn interrupted(mut self: Box<Self>, interrupted: Interrupted) {
        self.recorder.attempt_cancelled();
        match interrupted {
            Interrupted::ClientGone => {
                let ending = Ending::ClientClosed;
                self.recorder.finish(ending, 499, self.received).await;
            }
            Interrupted::ShuttingDown => {
                let ending = Ending::Failed {
                    message: "the gateway is shutting down; send the request again".into(),
                    code: "server_shutdown",
                };
                self.recorder.finish(ending, 503, self.received).await;
                self.downlink.refuse(Refusal::ShuttingDown);
            }
        }
    }
}

fn too_large(target: &Target, limit: usize) -> UpstreamError {
    UpstreamError::TooLarge {
        provider: target.provider.clone(),
        limit,
    }
}
