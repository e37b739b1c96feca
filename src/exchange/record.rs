//! What is kept of an exchange: the request row before the upstream is called, the rest before the client's last byte.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use serde_json::json;

use crate::actors::database::Database;
use crate::actors::events::Events;
use crate::actors::keys::Account;
use crate::actors::router::plan::RoutePlan;
use crate::actors::router::target::Target;
use crate::clock::{new_id, now_ms};
use crate::db::body::Body;
use crate::db::cache::Key;
use crate::db::history::{AttemptOutcome, AttemptRow, ExchangeStatus, OutcomeRow, RequestRow};
use crate::db::ops::WriteOp;
use crate::exchange::cache::{Given, Keeping};
use crate::exchange::taping::Taping;
use crate::protocol::dialect::Original;
use crate::protocol::openai::answer::Assembled;
use crate::protocol::openai::chunk::{Scan, Usage};
use crate::protocol::openai::request::ChatRequest;
use crate::protocol::openai::texts;
use crate::providers::tape::Tape;
use crate::providers::{Blame, UpstreamError};
use crate::routing::facts::Price;
use crate::settings::{self, Settings};

/// Who asked, and how.
#[derive(Clone, Debug)]
pub(crate) struct Subject {
    /// Our own id of the exchange.
    pub(crate) request_id: String,
    /// What the client sent as `x-request-id`.
    pub(crate) client_request_id: Option<String>,
    /// Our id of the exchange that this one repeats.
    pub(crate) replay_of: Option<String>,
    /// Of the key that pays for it.
    pub(crate) account: Option<Account>,
    /// What the client wants to find it by.
    pub(crate) tags: BTreeMap<String, String>,
    pub(crate) path: &'static str,
    pub(crate) port: u16,
    pub(crate) user_agent: Option<String>,
    /// The client wants it recorded.
    pub(crate) is_recorded: bool,
    /// What its dialect needs to tell the answer again, as JSON; none where no client may ask for that.
    pub(crate) kept: Option<String>,
    /// What the client sent, where that was no chat request.
    pub(crate) original: Option<Original>,
}

/// How an exchange ended.
pub(crate) enum Ending {
    Completed,
    Failed { message: String, code: &'static str },
    ClientClosed,
}

/// What attempts used that another one followed.
#[derive(Default)]
struct Earlier {
    /// Of the last one that told it.
    usage: Option<Usage>,
    /// Micro-dollars; none while no price is known.
    cost: Option<u64>,
}

/// Gathers one exchange's rows.
pub(crate) struct Recorder {
    database: Database,
    events: Events,
    request: Arc<RequestRow>,
    began: Instant,
    assembled: Assembled,
    told_usage: Option<Usage>,
    finish_reason: Option<String>,
    whole: Option<Bytes>,
    first_content: Option<Instant>,
    /// Of the attempt under way.
    attempt_content: Option<Instant>,
    upstream_status: Option<u16>,
    attempts: Vec<AttemptRow>,
    /// When each of them began.
    began_at: Vec<Instant>,
    /// The one that is spoken of.
    current: usize,
    commit_wait: Duration,
    keep_answers: bool,
    is_searched: bool,
    most_bytes: usize,
    finished: bool,
    account: Option<Account>,
    /// Of the attempts, like `began_at`.
    prices: Vec<Option<Price>>,
    /// What the attempts before it used.
    earlier: Earlier,
    taping: Taping,
    keeping: Keeping,
    /// What the cache gave instead of an upstream.
    given: Option<(Key, Given)>,
}

impl Recorder {
    pub(crate) fn new(
        database: Database,
        events: Events,
        settings: &Settings,
        request: &ChatRequest,
        subject: &Subject,
    ) -> Self {
        let asked = (&request.body, request.model.as_deref(), request.stream);
        Self::about(database, events, settings, asked, subject)
    }

    /// Of a request of whatever kind: what is kept of it, its model, and whether it asks for events.
    pub(crate) fn about(
        database: Database,
        events: Events,
        settings: &Settings,
        (body, model, stream): (&Bytes, Option<&str>, bool),
        subject: &Subject,
    ) -> Self {
        let most_bytes = settings.size(settings::HISTORY_MAX_BODY);
        let keep = settings.flag(settings::LOGGING_REQUESTS);
        let is_searched = settings.flag(settings::HISTORY_SEARCH);
        // Here and not in the write operation: one writer serves all exchanges, and this takes ms per MB.
        let asked = if keep {
            kept_text(body, most_bytes)
        } else {
            left_out("not kept", body.len())
        };
        let words = if is_searched {
            texts::of_request(&asked)
        } else {
            String::new()
        };
        let row = RequestRow {
            request_id: subject.request_id.clone(),
            client_request_id: subject.client_request_id.clone(),
            replay_of: subject.replay_of.clone(),
            tags: subject.tags.clone(),
            session_id: None,
            timestamp: now_ms(),
            method: "POST".into(),
            path: subject.path.into(),
            port: subject.port,
            user_agent: subject.user_agent.clone(),
            openai_request: Body::of(asked),
            model: model.unwrap_or_default().to_owned(),
            stream,
            plan: None,
            key_id: subject
                .account
                .as_ref()
                .map(|account| account.key().to_owned()),
            kept: subject.kept.clone(),
            words,
        };
        let now = Instant::now();
        Self {
            database,
            events,
            request: Arc::new(row),
            began: now,
            assembled: Assembled::default(),
            told_usage: None,
            finish_reason: None,
            whole: None,
            first_content: None,
            attempt_content: None,
            upstream_status: None,
            attempts: Vec::new(),
            began_at: Vec::new(),
            current: 0,
            commit_wait: settings.millis(settings::HISTORY_COMMIT_WAIT),
            keep_answers: settings.flag(settings::LOGGING_RESPONSES),
            is_searched,
            most_bytes,
            finished: false,
            account: subject.account.clone(),
            prices: Vec::new(),
            earlier: Earlier::default(),
            taping: Taping::new(settings, subject),
            keeping: Keeping::default(),
            given: None,
        }
    }

    /// What keeps the answer for the cache once it is whole.
    pub(crate) fn keeping(&mut self, keeping: Keeping) {
        self.keeping = keeping;
    }

    /// The answer comes from the cache: there is no attempt.
    pub(crate) fn given(&mut self, key: Key, given: Given) {
        self.given = Some((key, given));
    }

    /// Keeps where the request may go.
    pub(crate) fn planned(&mut self, plan: &RoutePlan) {
        let told = plan.to_json(tokio::time::Instant::now()).to_string();
        // Nobody else has the row yet.
        Arc::make_mut(&mut self.request).plan = Some(told);
    }

    /// Queues the request row. Before the upstream is called, so that a request that ends with the process is seen.
    pub(crate) fn begin(&self) {
        self.database
            .record(WriteOp::BeginExchange(self.request.clone()));
        let request = &self.request;
        self.events.mention(
            "request:started",
            "started",
            format!("request for {}", request.model),
            json!({"requestId": request.request_id, "model": request.model, "stream": request.stream,
                   "path": request.path, "port": request.port}),
        );
    }

    /// A request that never reached an upstream.
    pub(crate) async fn refused(
        mut self,
        message: &str,
        code: &'static str,
        status: u16,
        received: Instant,
    ) {
        let ending = Ending::Failed {
            message: message.to_owned(),
            code,
        };
        self.finish(ending, status, received).await;
    }

    /// Begins an attempt; returns what listens to it.
    pub(crate) fn attempt(&mut self, number: u32, target: &Target, request: &ChatRequest) -> Tape {
        self.begin_attempt(number, target);
        self.keeping.asks(target);
        self.taping.attempt(number, target, request)
    }

    /// Begins an attempt that nothing listens to.
    pub(crate) fn begin_attempt(&mut self, number: u32, target: &Target) {
        self.events.mention(
            "request:attempted",
            "attempted",
            format!(
                "request for {} goes to {}",
                self.request.model, target.provider
            ),
            json!({"requestId": self.request.request_id, "provider": target.provider,
                   "upstreamModel": target.upstream_model, "attempt": number}),
        );
        self.settle();
        self.prices.push(target.facts.price);
        self.current = self.attempts.len();
        self.began_at.push(Instant::now());
        self.attempt_content = None;
        self.upstream_status = None;
        self.attempts.push(AttemptRow {
            number,
            provider_id: target.provider.clone(),
            upstream_model: target.upstream_model.clone(),
            started_at: now_ms(),
            duration_ms: 0,
            ttft_ms: None,
            upstream_status: None,
            outcome: AttemptOutcome::Succeeded,
            error: None,
            error_code: None,
            resumed_at: None,
        });
    }

    /// The attempt that is spoken of, by its place.
    pub(crate) fn current(&self) -> usize {
        self.current
    }

    /// Speaks of another attempt that is still under way.
    pub(crate) fn turn_to(&mut self, place: usize) {
        self.current = place;
    }

    pub(crate) fn upstream_answered(&mut self, status: u16) {
        self.upstream_status = Some(status);
    }

    pub(crate) fn attempt_failed(&mut self, error: &UpstreamError) {
        self.upstream_status = error.status().or(self.upstream_status);
        self.close_attempt(
            AttemptOutcome::Failed,
            Some((error.to_string(), error.code())),
        );
    }

    pub(crate) fn attempt_cancelled(&mut self) {
        self.close_attempt(AttemptOutcome::Cancelled, None);
    }

    /// Puts down what the attempt used so far: another one's usage takes its place.
    fn settle(&mut self) {
        let told = self.told_usage.take();
        let Some(usage) = told.or_else(|| self.assembled.take_usage()) else {
            return;
        };
        self.earlier.usage = Some(usage);
        if let Some(price) = self.price() {
            let cost = price.cost_microusd(&usage);
            self.earlier.cost = Some(self.earlier.cost.unwrap_or_default().saturating_add(cost));
        }
    }

    fn price(&self) -> Option<Price> {
        self.prices.get(self.current).copied().flatten()
    }

    fn close_attempt(&mut self, outcome: AttemptOutcome, error: Option<(String, &'static str)>) {
        let (Some(attempt), Some(began)) = (
            self.attempts.get_mut(self.current),
            self.began_at.get(self.current),
        ) else {
            return;
        };
        let (took, status) = (millis(began.elapsed()), self.upstream_status);
        let first = self
            .attempt_content
            .map(|at| millis(at.saturating_duration_since(*began)));
        attempt.duration_ms = took;
        attempt.upstream_status = status;
        attempt.ttft_ms = first;
        attempt.outcome = outcome;
        if let Some((message, code)) = error {
            attempt.error = Some(message);
            attempt.error_code = Some(code.to_owned());
        }
    }

    /// Takes in one event that the client gets.
    pub(crate) fn saw(&mut self, scan: &Scan) {
        self.assembled.feed(scan);
    }

    /// The first content of an attempt came.
    pub(crate) fn first_content(&mut self) {
        let now = Instant::now();
        self.attempt_content = Some(now);
        self.first_content.get_or_insert(now);
    }

    /// What the last attempt brought never reached the client.
    pub(crate) fn begins_anew(&mut self) {
        self.settle();
        self.assembled = Assembled::default();
        self.first_content = None;
    }

    /// The attempt goes on with an answer of which the client has so many characters.
    pub(crate) fn goes_on(&mut self, characters: usize) {
        if let Some(attempt) = self.attempts.get_mut(self.current) {
            attempt.resumed_at = i64::try_from(characters).ok();
        }
    }

    /// Tokens of question and answer, as far as the upstream told them.
    pub(crate) fn tokens(&self) -> Option<u64> {
        let usage = self.told_usage.or_else(|| self.assembled.usage())?;
        usage
            .total
            .or_else(|| Some(usage.prompt? + usage.completion.unwrap_or_default()))
    }

    pub(crate) fn assembled(&self) -> &Assembled {
        &self.assembled
    }

    /// Takes in an answer that came as one document.
    pub(crate) fn answered(
        &mut self,
        usage: Option<Usage>,
        finish_reason: Option<String>,
        body: &Bytes,
    ) {
        self.told_usage = usage;
        self.finish_reason = finish_reason;
        self.whole = Some(body.clone());
    }

    /// Queues the outcome, and waits for its commit, at most as long as the setting says (R2). Only the first call
    /// counts.
    pub(crate) async fn finish(&mut self, ending: Ending, http_status: u16, received: Instant) {
        if std::mem::replace(&mut self.finished, true) {
            return;
        }
        if matches!(ending, Ending::Completed) {
            // In front of the outcome, so that who waits for that can count on the cache.
            self.keeping.keep(&self.database);
        }
        let outcome = Box::new(self.outcome(&ending, http_status, received));
        if let Some(account) = &self.account {
            account.add(outcome.finished_at, &outcome.spent());
        }
        self.mention(&outcome);
        let queued = self.database.record(WriteOp::FinishExchange {
            request: self.request.clone(),
            outcome,
        });
        let Some(acknowledged) = queued.filter(|_| !self.commit_wait.is_zero()) else {
            return;
        };
        if tokio::time::timeout(self.commit_wait, acknowledged)
            .await
            .is_err()
        {
            self.database.count_late_ack();
        }
    }

    /// Tells that what was asked fails too often to be asked on.
    pub(crate) fn breaker_opened(&self, target: &Target, error: &UpstreamError) {
        let model = (error.blame() != Blame::Provider).then_some(&target.upstream_model);
        tracing::warn!(provider = target.provider, model, %error, "a breaker opened");
        let name = model.map_or_else(|| target.provider.clone(), |_| target.name());
        self.events.mention(
            "provider:breaker_opened",
            "breaker_opened",
            format!("{name} fails again and again and is left alone"),
            json!({"provider": target.provider, "model": model, "error": error.code(), "requestId": self.request.request_id}),
        );
    }

    /// Tells that it serves again: the model, and with it the provider.
    pub(crate) fn breaker_closed(&self, target: &Target) {
        let (provider, model) = (&target.provider, &target.upstream_model);
        tracing::info!(provider, model, "a breaker closed");
        self.events.mention(
            "provider:breaker_closed",
            "breaker_closed",
            format!("{} serves again", target.name()),
            json!({"provider": provider, "model": model, "requestId": self.request.request_id}),
        );
    }

    fn mention(&self, outcome: &OutcomeRow) {
        let request = &self.request;
        self.events.mention(
            "request:completed",
            outcome.status.as_str(),
            format!("request for {} {}", request.model, outcome.status.as_str()),
            json!({"requestId": request.request_id, "responseId": outcome.response_id, "model": request.model,
                   "provider": outcome.provider_id, "stream": request.stream, "path": request.path,
                   "status": outcome.status.as_str(), "httpStatus": outcome.http_status,
                   "durationMs": outcome.duration_ms, "ttftMs": outcome.ttft_ms,
                   "totalTokens": outcome.total_tokens, "costMicrousd": outcome.cost_microusd, "finishReason": outcome.finish_reason,
                   "attempts": outcome.attempts.len(), "fromCache": outcome.from_cache.is_some(),
                   "error": outcome.error}),
        );
    }

    fn outcome(&mut self, ending: &Ending, http_status: u16, received: Instant) -> OutcomeRow {
        if matches!(ending, Ending::Completed) {
            self.close_attempt(AttemptOutcome::Succeeded, None);
        }
        let (status, error, error_code) = match ending {
            Ending::Completed => (ExchangeStatus::Completed, None, None),
            Ending::ClientClosed => (ExchangeStatus::ClientClosed, None, None),
            Ending::Failed { message, code } => (
                ExchangeStatus::Failed,
                Some(message.clone()),
                Some((*code).to_owned()),
            ),
        };
        let usage = self.told_usage.or_else(|| self.assembled.usage());
        // The answer that is kept tells its usage, so it must not be taken out.
        let cost = usage
            .zip(self.price())
            .map(|(usage, price)| price.cost_microusd(&usage));
        let cost = match (self.earlier.cost, cost) {
            (Some(earlier), Some(cost)) => Some(earlier.saturating_add(cost)),
            (earlier, cost) => earlier.or(cost),
        };
        // What the cache gave cost nothing.
        let cost = cost.or(self.given.as_ref().map(|_| 0));
        let usage = usage.or(self.earlier.usage).unwrap_or_default();
        let count = |tokens: Option<u64>| tokens.and_then(|tokens| i64::try_from(tokens).ok());
        let answer = self.kept_answer();
        let words = self
            .is_searched
            .then(|| answer.as_deref().map_or_else(String::new, texts::of_answer));
        let last = self.attempts.get(self.current);
        let (from_cache, given) = self.given.take().unzip();
        let given = given.or_else(|| last.map(Given::by));
        let (provider_id, upstream_model) = given
            .map(|given| (given.provider, given.upstream_model))
            .unzip();
        OutcomeRow {
            response_id: new_id(),
            status,
            provider_id,
            upstream_model,
            finished_at: now_ms(),
            openai_response: answer.map(Body::of),
            words,
            prompt_tokens: count(usage.prompt),
            completion_tokens: count(usage.completion),
            total_tokens: count(usage.total),
            cached_tokens: count(usage.cached),
            reasoning_tokens: count(usage.reasoning),
            cost_microusd: count(cost),
            finish_reason: self
                .finish_reason
                .take()
                .or_else(|| self.assembled.finish_reason()),
            error,
            error_code,
            http_status,
            upstream_status: self.upstream_status,
            queue_ms: Some(millis(self.began.saturating_duration_since(received))),
            ttft_ms: self
                .first_content
                .map(|at| millis(at.saturating_duration_since(received))),
            duration_ms: millis(received.elapsed()),
            attempts: std::mem::take(&mut self.attempts),
            recording: self.taping.finish(status, http_status),
            from_cache,
        }
    }

    fn kept_answer(&mut self) -> Option<String> {
        if !self.keep_answers {
            return None;
        }
        match self.whole.take() {
            Some(body) => Some(kept_text(&body, self.most_bytes)),
            None if self.assembled.is_empty() => None,
            None => Some(self.assembled.to_json().to_string()),
        }
    }
}

/// The body as the history keeps it: its own text, or a note of its size when it is longer than what is kept.
fn kept_text(body: &Bytes, most_bytes: usize) -> String {
    match std::str::from_utf8(body) {
        Ok(text) if text.len() <= most_bytes => text.to_owned(),
        Ok(_) => left_out("too long", body.len()),
        Err(_) => left_out("not text", body.len()),
    }
}

fn left_out(why: &str, bytes: usize) -> String {
    json!({"qwarden": {"omitted": why, "bytes": bytes}}).to_string()
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

/// The status a client gets for an upstream's failure: its own where it has one that is the caller's to see, else the
/// gateway's word for what went wrong. Never 500, which would be a fault of ours (R24, R25).
pub(crate) fn client_status(error: &UpstreamError) -> u16 {
    match error {
        UpstreamError::Status { status, .. } => shown_status(Some(*status)),
        UpstreamError::InBand { fault, .. } => shown_status(fault.status),
        UpstreamError::Timeout { .. } => 504,
        UpstreamError::Connect { .. }
        | UpstreamError::Malformed { .. }
        | UpstreamError::Cut { .. }
        | UpstreamError::TooLarge { .. } => 502,
    }
}

fn shown_status(upstream: Option<u16>) -> u16 {
    match upstream {
        Some(status) if matches!(status, 400..=499 | 502..=504) => status,
        // Anthropic's and some vendors' word for overloaded.
        Some(529) => 503,
        Some(_) | None => 502,
    }
}
