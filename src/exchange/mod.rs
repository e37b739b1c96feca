//! One completion, from the plan to its last byte: a plain task, so that no actor's crash breaks a stream.
//!
//! Data flow: `http` hands over the parsed request; the router answers one message with a plan; the request row is
//! queued; targets are tried in order until one begins to answer; its events go to the client as they come, through a
//! bounded channel; the outcome is queued, and the client's last byte waits (shortly) for its commit.
//!
//! Until the first content the client is sent nothing but comments, so whatever goes wrong, the next target begins anew.
//! After it the next one goes on where the answer broke off, if that is safe (`seam`).

pub(crate) mod admission;
mod attempts;
pub(crate) mod cache;
pub(crate) mod counting;
pub(crate) mod downlink;
mod endings;
mod hedging;
mod holding;
pub(crate) mod passing;
pub(crate) mod qwen;
pub(crate) mod record;
pub(crate) mod replay;
mod seam;
#[cfg(test)]
mod simulation;
pub(crate) mod stream;
mod structured;
pub(crate) mod taping;
pub(crate) mod told_as;

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::{oneshot, watch};

use crate::actors::address::Unavailable;
use crate::actors::database::Database;
use crate::actors::events::Events;
use crate::actors::ports::{Connections, InFlight};
use crate::actors::router::Router;
use crate::actors::router::plan::{Question, RoutePlan};
use crate::actors::router::resolve::NoTarget;
use crate::actors::router::target::Target;
use crate::exchange::admission::{Admission, Buffering, Place};
pub(crate) use crate::exchange::attempts::NobodyTakesIt;
use crate::exchange::attempts::{Picked, Picker, Policy};
use crate::exchange::cache::{Cache, Caching, Lookup, Verdict};
use crate::exchange::counting::Counting;
use crate::exchange::downlink::{Clocks, Downlink, Interrupted, Pieces};
use crate::exchange::record::{Ending, Recorder, Subject};
use crate::exchange::seam::{Graft, Told};
use crate::protocol::dialect::Native;
use crate::protocol::openai::chunk::Usage;
use crate::protocol::openai::request::ChatRequest;
use crate::protocol::openai::{answer, build, continuation};
use crate::protocol::recording::Form;
use crate::protocol::sse;
use crate::providers::tape::Tape;
use crate::providers::{Answer, AnswerHeaders, Call, Deadlines, Phase, UpstreamError};
use crate::routing::dice::{self, Dice};
use crate::routing::needs::Needs;
use crate::routing::retry::Budget;
use crate::settings::{self, Settings};
use crate::tasks::Tasks;

/// What every exchange needs. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Exchanges {
    pub(crate) router: Router,
    pub(crate) database: Database,
    pub(crate) events: Events,
    pub(crate) settings: watch::Receiver<Arc<Settings>>,
    pub(crate) tasks: Tasks,
    /// Completions served at once; beyond it requests are refused early (R27).
    pub(crate) admission: Admission,
    pub(crate) cache: Cache,
    /// Retries that all may still make (R22).
    pub(crate) retries: Arc<Budget>,
    /// Chance, for jitter.
    pub(crate) dice: Arc<Dice>,
    pub(crate) counting: Counting,
}

/// What a request says of its own about how it is served (`x-qwarden-*`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Wishes {
    /// Only these targets, in this order.
    pub(crate) targets: Vec<String>,
    pub(crate) no_fallback: bool,
    /// How long an upstream may be silent.
    pub(crate) timeout: Option<Duration>,
}

/// A completion request as `http` received it.
pub(crate) struct Incoming {
    pub(crate) request: ChatRequest,
    /// The request as it came, when that was in another dialect.
    pub(crate) native: Option<Native>,
    /// Whether the request was made of one in another dialect: what only that one knows is not for other servers.
    pub(crate) is_translated: bool,
    pub(crate) subject: Subject,
    pub(crate) connections: Connections,
    pub(crate) received: Instant,
    /// What the client calls its session.
    pub(crate) session: Option<String>,
    pub(crate) wishes: Wishes,
    /// Where it goes, when the port decides that and not the router.
    pub(crate) plan: Option<RoutePlan>,
    /// What the cache may do for it; none when it is not to be asked.
    pub(crate) caching: Option<Caching>,
    /// Counts its body; none where that is not held for a client.
    pub(crate) buffering: Option<Buffering>,
}

/// What goes to the client.
pub(crate) struct Delivery {
    pub(crate) provider: String,
    pub(crate) upstream_model: String,
    pub(crate) attempts: u32,
    /// Fields of the request that had no effect.
    pub(crate) ignored: Vec<&'static str>,
    /// What the cache did; none when that is of no interest.
    pub(crate) cache: Option<Verdict>,
    /// What the content is, where it is no chat completion.
    pub(crate) content_type: Option<String>,
    pub(crate) content: Content,
}

pub(crate) enum Content {
    /// One JSON document.
    Whole(Bytes),
    /// Server-sent events.
    Events(Pieces),
}

/// Why there is no answer. `http` turns it into the client's dialect.
#[derive(Debug)]
pub(crate) enum Refusal {
    NoTarget(NoTarget),
    Upstream {
        error: UpstreamError,
        attempts: u32,
    },
    /// Every target is closed, and waiting does not help.
    Closed(NobodyTakesIt),
    Unavailable(Unavailable),
    /// More completions run than are admitted.
    Overloaded,
    /// The port is being closed.
    ShuttingDown,
    /// The exchange itself failed; its panic is in the log.
    Broken,
}

impl Exchanges {
    /// Serves one completion. Resolves when the first bytes can go out; the rest happens in a task, which ends when
    /// the client leaves.
    pub(crate) async fn run(&self, incoming: Incoming) -> Result<Delivery, Refusal> {
        let settings = self.settings.borrow().clone();
        let most = settings.size(settings::SERVER_MAX_IN_FLIGHT);
        let Some(place) = self.admission.enter(most) else {
            return Err(Refusal::Overloaded);
        };
        let mut recorder = Recorder::new(
            self.database.clone(),
            self.events.clone(),
            &settings,
            &incoming.request,
            &incoming.subject,
        );
        let keeping = match self.look_up(&incoming, &settings).await {
            Lookup::Hit(hit) => {
                return self.give(*hit, incoming, recorder, &settings, place).await;
            }
            Lookup::Miss(keeping) => keeping,
        };
        recorder.keeping(keeping.clone());
        let question = question(
            &incoming.request,
            incoming.session.as_deref(),
            &incoming.wishes,
        );
        let mut policy = Policy::of(&settings);
        policy.fallbacks &= !incoming.wishes.no_fallback;
        let planned = match incoming.plan {
            Some(plan) => Ok(Ok(plan)),
            None => self.router.plan(question).await,
        };
        let mut plan = match planned {
            Ok(Ok(plan)) => plan,
            Ok(Err(no_target)) => {
                recorder
                    .refused(
                        &no_target.to_string(),
                        "model_not_found",
                        404,
                        incoming.received,
                    )
                    .await;
                return Err(Refusal::NoTarget(no_target));
            }
            Err(unavailable) => return Err(Refusal::Unavailable(unavailable)),
        };
        for target in plan
            .targets
            .iter_mut()
            .filter(|target| target.upstream_model.is_empty())
        {
            Arc::make_mut(target).upstream_model = incoming
                .request
                .model
                .clone()
                .unwrap_or_else(|| qwen::asked::DEFAULT_MODEL.into());
        }
        recorder.planned(&plan);
        self.retries.earn();
        let silence = incoming.wishes.timeout;
        recorder.begin();
        let (head, delivered) = oneshot::channel();
        let in_flight = incoming.connections.enter();
        let mut downlink = Downlink::new(
            head,
            &incoming.connections,
            Clocks::of(&settings),
            incoming.request.stream,
        );
        downlink.keeping(keeping);
        let exchange = Exchange {
            downlink,
            deadlines: Deadlines {
                connect: settings.millis(settings::SERVER_CONNECT_TIMEOUT),
                first_byte: silence.unwrap_or(settings.millis(settings::SERVER_TIMEOUT)),
                idle: silence.unwrap_or(settings.millis(settings::SERVER_TIMEOUT)),
            },
            caps: Caps::of(&settings),
            has_own_deadline: silence.is_some(),
            // Who wants to watch calls being written takes them as they come.
            holds_calls: policy.mid_stream
                && settings.text(settings::TOOLS_STREAMING) != Some("incremental"),
            told: Told::default(),
            graft: None,
            router: self.router.clone(),
            retries: self.retries.clone(),
            dice: self.dice.clone(),
            counting: self.counting.clone(),
            request: incoming.request,
            native: incoming.native,
            is_translated: incoming.is_translated,
            request_id: incoming.subject.request_id,
            session: incoming.session,
            recorder,
            received: incoming.received,
            _guards: (place, in_flight, incoming.buffering),
        };
        // Boxed, and so are the ends below: what a stream waits with is as small as may be, and ends are made when they come.
        self.tasks
            .spawn("exchange", Box::new(exchange).drive(plan, policy));
        delivered.await.unwrap_or(Err(Refusal::Broken))
    }
}

/// What the router has to know of a request.
pub(crate) fn question(request: &ChatRequest, session: Option<&str>, wishes: &Wishes) -> Question {
    // What the client calls its session, else what stays the same from turn to turn.
    let conversation = match session {
        Some(session) => dice::hash(session.as_bytes()),
        None => dice::hash(request.prefix()),
    };
    Question {
        model: request.model.clone(),
        needs: Needs::of(request),
        conversation,
        only: wishes.targets.clone(),
    }
}

/// One running completion.
struct Exchange {
    request: ChatRequest,
    native: Option<Native>,
    is_translated: bool,
    request_id: String,
    session: Option<String>,
    downlink: Downlink,
    recorder: Recorder,
    deadlines: Deadlines,
    caps: Caps,
    /// The client said how long it waits; that beats a provider's own timeout.
    has_own_deadline: bool,
    /// Calls are sent when they are whole.
    holds_calls: bool,
    /// What the client has of the answer.
    told: Told,
    /// Makes the current attempt's events continue what was told; none when it begins the answer.
    graft: Option<Graft>,
    router: Router,
    retries: Arc<Budget>,
    dice: Arc<Dice>,
    counting: Counting,
    received: Instant,
    _guards: (Place, InFlight, Option<Buffering>),
}

/// What one answer of an upstream may be (S15).
#[derive(Clone, Copy)]
pub(crate) struct Caps {
    /// Of a stream; what is whole has its own, smaller bound.
    pub(crate) bytes: usize,
    /// From the beginning of the attempt to its end.
    pub(crate) time: Duration,
}

impl Caps {
    pub(crate) fn of(settings: &Settings) -> Self {
        Self {
            bytes: settings.size(settings::SERVER_MAX_STREAM),
            time: settings.millis(settings::SERVER_STREAM_TIMEOUT),
        }
    }
}

fn too_long(target: &Target, after: Duration) -> UpstreamError {
    UpstreamError::Timeout {
        provider: target.provider.clone(),
        phase: Phase::Whole,
        after,
    }
}

/// How one attempt ended.
enum Attempted {
    /// The client has its answer, or knows that there is none.
    Over,
    /// It failed. What the client has seen of it is in `told`.
    Failed(UpstreamError),
    Interrupted(Interrupted),
}

impl Exchange {
    async fn drive(mut self: Box<Self>, plan: RoutePlan, policy: Policy) {
        let mut chances = Picker::new(&plan, policy);
        let (is_replay, tokens) = (plan.is_once, plan.needs.tokens);
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
            let tape = self.recorder.attempt(number, &target, &self.request);
            self.downlink.serving(&target, number, tape.clone());
            if let Err(interrupted) = self.splice(&target).await {
                return Box::pin(self.interrupted(interrupted)).await;
            }
            let hedge = (number == 1 && policy.hedge && !self.request.stream)
                .then(|| hedging::patience(&target, tokens))
                .flatten();
            let longest = self.caps.time;
            let trying = async {
                match hedge {
                    Some(patience) => {
                        let asking =
                            self.hedged(&mut chances, &mut picked, &mut number, tape, patience);
                        Box::pin(asking).await
                    }
                    None => self.attempt(&picked, tape).await,
                }
            };
            let attempted = match tokio::time::timeout(longest, trying).await {
                Ok(attempted) => attempted,
                Err(_) => Attempted::Failed(too_long(&target, longest)),
            };
            // Of two that were asked one is left.
            let target = picked.target.clone();
            match attempted {
                Attempted::Over => {
                    let now = tokio::time::Instant::now();
                    if picked.entrance.succeeded(self.recorder.tokens(), now) {
                        self.recorder.breaker_closed(&target);
                    }
                    return;
                }
                Attempted::Interrupted(interrupted) => {
                    return Box::pin(self.interrupted(interrupted)).await;
                }
                Attempted::Failed(error) => {
                    self.recorder.attempt_failed(&error);
                    let now = tokio::time::Instant::now();
                    if picked.entrance.failed(&target, &error, now) {
                        self.broke(&target, &error);
                    }
                    chances.failed(&picked, &error, self.dice.throw());
                    drop(picked.entrance);
                    let has_told = self.told.is_anything();
                    if has_told {
                        // It is gone on with elsewhere, or not at all.
                        chances.rule_out(&target);
                    }
                    let may_go_on = !has_told || (policy.mid_stream && self.told.can_go_on());
                    let is_over = !may_go_on
                        || number >= policy.attempts
                        || !chances.has_chance()
                        || !(is_replay || self.retries.spend(now));
                    if is_over {
                        return Box::pin(self.failed(error, number)).await;
                    }
                    tracing::info!(request.id = self.request_id, %error, "trying again");
                    failure = Some(error);
                }
            }
        }
    }

    /// A breaker of `target` opened.
    fn broke(&self, target: &Target, error: &UpstreamError) {
        self.recorder.breaker_opened(target, error);
        self.router.suspect(&target.provider);
    }

    /// Prepares for the next target: it begins the answer, or goes on with it.
    async fn splice(&mut self, target: &Target) -> Result<(), Interrupted> {
        self.graft = None;
        if !self.told.is_anything() {
            self.recorder.begins_anew();
            return Ok(());
        }
        let characters = self.told.content.chars().count();
        self.graft = Some(self.told.graft(target.way()));
        self.recorder.goes_on(characters);
        let seam = format!(
            "qwarden: the answer broke off after {characters} characters; {} goes on",
            target.name()
        );
        // A comment must be one line, and a model's name is the user's.
        self.downlink
            .send(sse::comment(&seam.replace(char::is_control, " ")))
            .await
    }

    fn body_for(&self, target: &Target) -> Bytes {
        let rename = (self.request.model.as_deref() != Some(&target.upstream_model))
            .then_some(&*target.upstream_model);
        let ask_usage = self.request.stream && target.reports_usage;
        let body = self.request.upstream_body(rename, ask_usage);
        if self.told.content.is_empty() {
            return body;
        }
        continuation::request(&body, &self.told.content, target.way()).unwrap_or(body)
    }

    async fn attempt(&mut self, picked: &Picked, tape: Tape) -> Attempted {
        let began = tokio::time::Instant::now();
        let call = self.call(&picked.target, tape);
        let deadlines = call.deadlines;
        let asking = structured::complete(&picked.target, call);
        match self.downlink.patiently(asking).await {
            Ok(answer) => self.take(picked, answer, deadlines, began).await,
            Err(interrupted) => Attempted::Interrupted(interrupted),
        }
    }

    fn call(&self, target: &Target, tape: Tape) -> Call {
        let mut deadlines = self.deadlines;
        if let Some(timeout) = target.timeout.filter(|_| !self.has_own_deadline) {
            deadlines.first_byte = timeout;
            deadlines.idle = timeout;
        }
        Call {
            body: self.body_for(target),
            is_translated: self.is_translated,
            // What another upstream began is told in the chat request only.
            native: self.native.clone().filter(|_| self.told.content.is_empty()),
            model: target.upstream_model.clone(),
            stream: self.request.stream,
            deadlines,
            request_id: self.request_id.clone(),
            session: self.session.clone(),
            tape,
        }
    }

    /// Takes what `picked` answered.
    async fn take(
        &mut self,
        picked: &Picked,
        answer: Result<Answer, UpstreamError>,
        deadlines: Deadlines,
        began: tokio::time::Instant,
    ) -> Attempted {
        let target = &*picked.target;
        match answer {
            Err(error) => Attempted::Failed(error),
            Ok(Answer::Whole {
                status,
                headers,
                body,
            }) => {
                self.answered(target, status, &headers);
                let attempted = Box::pin(self.whole(target, body)).await;
                let now = tokio::time::Instant::now();
                if matches!(attempted, Attempted::Over) {
                    picked.entrance.began(now - began, now);
                    picked.entrance.took(now - began);
                }
                attempted
            }
            Ok(Answer::Stream {
                status,
                headers,
                bytes,
            }) => {
                self.answered(target, status, &headers);
                self.stream(picked, bytes, deadlines, began).await
            }
        }
    }

    fn answered(&mut self, target: &Target, status: u16, headers: &AnswerHeaders) {
        self.recorder.upstream_answered(status);
        if let Some(wait) = headers.used_up_for {
            let until = tokio::time::Instant::now() + wait;
            target.node.rest(until, "upstream_rate_limited");
        }
        self.downlink.ignoring(&headers.ignored);
        tracing::debug!(
            request.id = self.request_id,
            provider.id = target.provider,
            provider.kind = target.adapter.kind(),
            upstream.request_id = headers.upstream_request_id,
            status,
            tools = self.request.has_tools,
            messages = self.request.message_count,
            "upstream answered"
        );
    }

    async fn whole(&mut self, target: &Target, body: Bytes) -> Attempted {
        let whole = match answer::scan_whole(&body) {
            Ok(whole) => whole,
            Err(error) => {
                return Attempted::Failed(UpstreamError::Malformed {
                    provider: target.provider.clone(),
                    reason: error.to_string(),
                });
            }
        };
        if let Some(fault) = whole.error {
            return Attempted::Failed(UpstreamError::InBand {
                provider: target.provider.clone(),
                fault,
            });
        }
        self.recorder.first_content();
        let (usage, body) = match whole.usage {
            Some(usage) => (Some(usage), body),
            None => self.estimated_whole(body).await,
        };
        self.recorder.answered(usage, whole.finish_reason, &body);
        self.downlink.note(Form::Whole, &body);
        self.recorder
            .finish(Ending::Completed, 200, self.received)
            .await;
        self.downlink.deliver_whole(body);
        Attempted::Over
    }

    /// An answer whose upstream told no counts, with our own.
    async fn estimated_whole(&self, body: Bytes) -> (Option<Usage>, Bytes) {
        let Ok(serde_json::Value::Object(mut answer)) = serde_json::from_slice(&body) else {
            return (None, body);
        };
        let message = answer
            .get("choices")
            .and_then(|choices| choices.get(0)?.get("message"));
        let Some(message) = message else {
            return (None, body);
        };
        let asked = self.request.body.clone();
        let usage = self.counting.usage(asked, message.clone()).await;
        answer.insert("usage".to_owned(), build::usage_json(&usage));
        let body = serde_json::Value::Object(answer).to_string();
        (Some(usage), body.into())
    }
}

/// What a progress clock allows: three times the silence limit without one data event (R19).
fn progress_limit(idle: Duration) -> Duration {
    idle.saturating_mul(3)
}
