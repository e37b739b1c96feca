//! One completion, from the plan to its last byte: a plain task, so that no actor's crash breaks a stream.
//!
//! Data flow: `http` hands over the parsed request; the router answers one message with a plan; the request row is
//! queued; targets are tried in order until one begins to answer; its events go to the client as they come, through a
//! bounded channel; the outcome is queued, and the client's last byte waits (shortly) for its commit.

pub(crate) mod cache;
pub(crate) mod downlink;
pub(crate) mod qwen;
pub(crate) mod record;
pub(crate) mod replay;
pub(crate) mod stream;
pub(crate) mod taping;

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot, watch};

use crate::actors::address::Unavailable;
use crate::actors::database::Database;
use crate::actors::events::Events;
use crate::actors::ports::{Connections, InFlight};
use crate::actors::router::Router;
use crate::actors::router::resolve::{NoTarget, RoutePlan, Target};
use crate::exchange::cache::{Cache, Caching, Lookup, Verdict};
use crate::exchange::downlink::{Downlink, Interrupted, Pieces};
use crate::exchange::record::{Ending, Recorder, Subject};
use crate::protocol::openai::answer;
use crate::protocol::openai::request::ChatRequest;
use crate::protocol::recording::Form;
use crate::providers::tape::Tape;
use crate::providers::{Answer, AnswerHeaders, Call, Deadlines, UpstreamError};
use crate::settings::{self, Settings};
use crate::tasks::Tasks;

/// Targets tried for one request (R22).
const MOST_ATTEMPTS: usize = 3;

/// What every exchange needs. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Exchanges {
    pub(crate) router: Router,
    pub(crate) database: Database,
    pub(crate) events: Events,
    pub(crate) settings: watch::Receiver<Arc<Settings>>,
    pub(crate) tasks: Tasks,
    /// Completions served at once; beyond it requests are refused early (R27).
    pub(crate) admission: Arc<Semaphore>,
    pub(crate) cache: Cache,
}

/// A completion request as `http` received it.
pub(crate) struct Incoming {
    pub(crate) request: ChatRequest,
    pub(crate) subject: Subject,
    pub(crate) connections: Connections,
    pub(crate) received: Instant,
    /// What the client calls its session.
    pub(crate) session: Option<String>,
    /// Where it goes, when the port decides that and not the router.
    pub(crate) plan: Option<RoutePlan>,
    /// What the cache may do for it; none when it is not to be asked.
    pub(crate) caching: Option<Caching>,
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
        let Ok(permit) = self.admission.clone().try_acquire_owned() else {
            return Err(Refusal::Overloaded);
        };
        let settings = self.settings.borrow().clone();
        let mut recorder = Recorder::new(
            self.database.clone(),
            self.events.clone(),
            &settings,
            &incoming.request,
            &incoming.subject,
        );
        let keeping = match self.look_up(&incoming, &settings).await {
            Lookup::Hit(hit) => {
                return self.give(*hit, incoming, recorder, &settings, permit).await;
            }
            Lookup::Miss(keeping) => keeping,
        };
        recorder.keeping(keeping.clone());
        let planned = match incoming.plan {
            Some(plan) => Ok(Ok(plan)),
            None => self.router.plan(incoming.request.model.as_deref()).await,
        };
        let plan = match planned {
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
        let mut plan = plan;
        for target in plan
            .targets
            .iter_mut()
            .filter(|target| target.upstream_model.is_empty())
        {
            target.upstream_model = incoming
                .request
                .model
                .clone()
                .unwrap_or_else(|| qwen::asked::DEFAULT_MODEL.into());
        }
        recorder.begin();
        let (head, delivered) = oneshot::channel();
        let in_flight = incoming.connections.enter();
        let mut downlink = Downlink::new(
            head,
            &incoming.connections,
            settings.millis(settings::SERVER_KEEP_ALIVE),
            incoming.request.stream,
        );
        downlink.keeping(keeping);
        let exchange = Exchange {
            downlink,
            deadlines: Deadlines {
                connect: settings.millis(settings::SERVER_CONNECT_TIMEOUT),
                first_byte: settings.millis(settings::SERVER_TIMEOUT),
                idle: settings.millis(settings::SERVER_TIMEOUT),
            },
            request: incoming.request,
            request_id: incoming.subject.request_id,
            session: incoming.session,
            recorder,
            received: incoming.received,
            _guards: (permit, in_flight),
        };
        self.tasks.spawn("exchange", exchange.drive(plan));
        delivered.await.unwrap_or(Err(Refusal::Broken))
    }
}

/// One running completion.
struct Exchange {
    request: ChatRequest,
    request_id: String,
    session: Option<String>,
    downlink: Downlink,
    recorder: Recorder,
    deadlines: Deadlines,
    received: Instant,
    _guards: (OwnedSemaphorePermit, InFlight),
}

/// How one attempt ended.
enum Attempted {
    /// The client has its answer, or knows that there is none.
    Over,
    /// Nothing reached the client; another target may be tried.
    Failed(UpstreamError),
    Interrupted(Interrupted),
}

impl Exchange {
    async fn drive(mut self, plan: RoutePlan) {
        let last = plan.targets.len().min(MOST_ATTEMPTS);
        for (number, target) in (1_u32..).zip(plan.targets.into_iter().take(last)) {
            let tape = self.recorder.attempt(number, &target, &self.request);
            self.downlink.serving(&target, number, tape.clone());
            match self.attempt(&target, tape).await {
                Attempted::Over => return,
                Attempted::Interrupted(interrupted) => return self.interrupted(interrupted).await,
                Attempted::Failed(error) => {
                    self.recorder.attempt_failed(&error);
                    let is_last = usize::try_from(number).is_ok_and(|number| number == last);
                    if is_last || !error.is_retryable() {
                        return self.failed(error, number).await;
                    }
                    tracing::info!(request.id = self.request_id, %error, "trying the next provider");
                }
            }
        }
    }

    async fn attempt(&mut self, target: &Target, tape: Tape) -> Attempted {
        let rename = (self.request.model.as_deref() != Some(&target.upstream_model))
            .then_some(&*target.upstream_model);
        let ask_usage = self.request.stream && target.reports_usage;
        let mut deadlines = self.deadlines;
        if let Some(timeout) = target.timeout {
            deadlines.first_byte = timeout;
            deadlines.idle = timeout;
        }
        let call = Call {
            body: self.request.upstream_body(rename, ask_usage),
            stream: self.request.stream,
            deadlines,
            request_id: self.request_id.clone(),
            session: self.session.clone(),
            tape,
        };
        let answer = match self.downlink.patiently(target.adapter.complete(call)).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(error)) => return Attempted::Failed(error),
            Err(interrupted) => return Attempted::Interrupted(interrupted),
        };
        match answer {
            Answer::Whole {
                status,
                headers,
                body,
            } => {
                self.answered(target, status, &headers);
                self.whole(target, body).await
            }
            Answer::Stream {
                status,
                headers,
                bytes,
            } => {
                self.answered(target, status, &headers);
                self.stream(target, bytes, deadlines.idle).await
            }
        }
    }

    fn answered(&mut self, target: &Target, status: u16, headers: &AnswerHeaders) {
        self.recorder.upstream_answered(status);
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
        self.recorder
            .answered(whole.usage, whole.finish_reason, &body);
        self.downlink.note(Form::Whole, &body);
        self.recorder
            .finish(Ending::Completed, 200, self.received)
            .await;
        self.downlink.deliver_whole(body);
        Attempted::Over
    }

    /// No target is left, or the fault is the caller's: the client is told.
    async fn failed(mut self, error: UpstreamError, attempts: u32) {
        tracing::debug!(request.id = self.request_id, %error, "completion failed");
        let status = crate::exchange::record::client_status(&error);
        let farewell = self
            .downlink
            .farewell(&error.to_string(), error.code(), status);
        self.recorder
            .finish(
                Ending::Failed {
                    message: error.to_string(),
                    code: error.code(),
                },
                status,
                self.received,
            )
            .await;
        if let Some(farewell) = farewell {
            // A client that is gone by now needs none.
            let _ = self.downlink.end(farewell).await;
        } else {
            self.downlink.refuse(Refusal::Upstream { error, attempts });
        }
    }

    /// The client left, or we are closing.
    async fn interrupted(mut self, interrupted: Interrupted) {
        match interrupted {
            Interrupted::ClientGone => {
                self.recorder.attempt_cancelled();
                self.recorder
                    .finish(Ending::ClientClosed, 499, self.received)
                    .await;
            }
            Interrupted::ShuttingDown => {
                let message = "the gateway is shutting down; send the request again";
                self.recorder.attempt_cancelled();
                let farewell = self.downlink.farewell(message, "server_shutdown", 503);
                let ending = Ending::Failed {
                    message: message.into(),
                    code: "server_shutdown",
                };
                self.recorder.finish(ending, 503, self.received).await;
                if let Some(farewell) = farewell {
                    let _ = self.downlink.end(farewell).await;
                } else {
                    self.downlink.refuse(Refusal::ShuttingDown);
                }
            }
        }
    }
}

/// What a progress clock allows: three times the silence limit without one data event (R19).
fn progress_limit(idle: Duration) -> Duration {
    idle.saturating_mul(3)
}
