//! What is known of one provider, or of one target (a model at a provider), while it is used: its breaker, its latency,
//! its limits, and who is being served.
//!
//! Nodes live above the router, so its crash forgets nothing, and requests enter and leave them without asking an actor.
//! A plan looks at every target: what it finds of one that is well and has no limits, it finds without the lock.

use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use crate::limits::routing::{SUSPECT, UNRELIABLE_AVOIDED};
use crate::routing::breaker::{Breaker, Gate};
use crate::routing::latency::Latency;
use crate::routing::rate::Rate;
use crate::routing::usual::Usual;
use crate::tasks::lock;

/// So many failures among the last sixteen outcomes, and others are preferred for a while. More than open the breaker in
/// a row: this is for those that fail now and then, and would use up everybody's retries.
const UNRELIABLE: u32 = 6;

/// What a configuration allows; none means no bound.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Limits {
    /// Requests served at once.
    pub(crate) concurrent: Option<u32>,
    pub(crate) requests_per_minute: Option<u32>,
    pub(crate) tokens_per_minute: Option<u32>,
}

/// Why a request may not enter now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Closed {
    /// The breaker is open.
    Broken { until: Instant },
    /// The breaker lets one probe through, and that is under way.
    Probing,
    /// The upstream asked to be left alone.
    Resting { until: Instant },
    /// As many as may are being served.
    Full,
    /// The limit per minute is used up.
    Limited { until: Instant },
}

impl Closed {
    /// When it is worth another try, where that is known.
    pub(crate) fn until(self) -> Option<Instant> {
        match self {
            Self::Broken { until } | Self::Resting { until } | Self::Limited { until } => {
                Some(until)
            }
            Self::Probing | Self::Full => None,
        }
    }
}

/// What a plan looks at.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Glance {
    pub(crate) closed: Option<Closed>,
    /// Something is wrong that another target does not share: it comes last.
    pub(crate) is_avoided: bool,
    /// What it did last was to fail: another one is the better second choice.
    pub(crate) is_suspect: bool,
    pub(crate) in_flight: u32,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Node {
    inner: Mutex<Inner>,
    /// There is more to see than `in_flight`.
    is_marked: AtomicBool,
    /// A copy of the one inside.
    in_flight: AtomicU32,
    /// Somebody left.
    left: Notify,
}

#[derive(Debug, Default)]
struct Inner {
    breaker: Breaker,
    latency: Latency,
    usual: Usual,
    resting: Option<Instant>,
    avoided: Option<Instant>,
    /// Until when it counts as unreliable.
    unreliable: Option<Instant>,
    /// The last outcomes, one bit each, the newest lowest; set for a failure.
    outcomes: u16,
    /// When it failed, if it did not succeed since.
    failed: Option<Instant>,
    in_flight: u32,
    waiting: u32,
    limits: Limits,
    requests: Option<Rate>,
    tokens: Option<Rate>,
    last_error: Option<&'static str>,
}

/// What health shows.
#[derive(Clone, Debug)]
pub(crate) struct Shown {
    /// `closed`, `open` or `half_open`.
    pub(crate) breaker: &'static str,
    /// How long until a probe is let through.
    pub(crate) reopens_in: Option<Duration>,
    pub(crate) resting_for: Option<Duration>,
    pub(crate) failures_in_row: u32,
    pub(crate) in_flight: u32,
    pub(crate) waiting: u32,
    pub(crate) latency_ms: Option<f64>,
    pub(crate) last_error: Option<&'static str>,
}

impl Shown {
    /// Whether there is anything to show.
    pub(crate) fn was_used(&self) -> bool {
        self.latency_ms.is_some()
            || self.last_error.is_some()
            || self.resting_for.is_some()
            || self.breaker != "closed"
            || self.in_flight + self.waiting > 0
    }
}

impl Node {
    /// Puts new limits in force; what was counted under equal ones goes on.
    pub(crate) fn limit(&self, limits: Limits) {
        let mut inner = self.change();
        if inner.limits == limits {
            return;
        }
        inner.limits = limits;
        inner.requests = limits.requests_per_minute.map(Rate::new);
        inner.tokens = limits.tokens_per_minute.map(Rate::new);
        drop(inner);
        self.left.notify_waiters();
    }

    /// Changes what is inside, and at the end what can be seen from outside.
    fn change(&self) -> Change<'_> {
        Change {
            node: self,
            inner: lock(&self.inner),
        }
    }

    pub(crate) fn glance(&self, tokens: u64, now: Instant) -> Glance {
        if !self.is_marked.load(Ordering::Acquire) {
            return Glance {
                closed: None,
                is_avoided: false,
                is_suspect: false,
                in_flight: self.in_flight.load(Ordering::Relaxed),
            };
        }
        let inner = lock(&self.inner);
        Glance {
            closed: inner.closed(tokens, now),
            is_avoided: inner
                .avoided
                .max(inner.unreliable)
                .is_some_and(|until| until > now),
            is_suspect: inner.failed.is_some_and(|at| at + SUSPECT > now),
            in_flight: inner.in_flight,
        }
    }

    /// Time to the first content, ms; 0 when nothing is known.
    pub(crate) fn latency(&self, now: Instant) -> f64 {
        lock(&self.inner).latency.millis(now)
    }

    /// Lets a request of about `tokens` in, or says why not.
    pub(crate) fn enter(self: &Arc<Self>, tokens: u64, now: Instant) -> Result<Pass, Closed> {
        let mut inner = self.change();
        if let Some(closed) = inner.closed(tokens, now) {
            return Err(closed);
        }
        let is_probe = inner.breaker.gate(now) == Gate::Probe;
        if is_probe {
            inner.breaker.probe();
        }
        if let Some(rate) = &mut inner.requests {
            rate.take(1, now);
        }
        if let Some(rate) = &mut inner.tokens {
            rate.take(tokens, now);
        }
        inner.in_flight += 1;
        drop(inner);
        Ok(Pass {
            node: self.clone(),
            tokens,
            is_probe,
            is_judged: false,
        })
    }

    /// A place in the queue before it; none when `most` wait already.
    pub(crate) fn queue(self: &Arc<Self>, most: u32) -> Option<Waiting> {
        let mut inner = self.change();
        if inner.waiting >= most {
            return None;
        }
        inner.waiting += 1;
        Some(Waiting(self.clone()))
    }

    /// Resolves when somebody has left since; who waits longest is told first.
    pub(crate) async fn somebody_left(&self) {
        self.left.notified().await;
    }

    /// The upstream wants to be left alone until then, for the reason of this code.
    pub(crate) fn rest(&self, until: Instant, code: &'static str) {
        let mut inner = self.change();
        inner.last_error = Some(code);
        inner.resting = inner.resting.max(Some(until));
    }

    /// Others are preferred until then.
    pub(crate) fn avoid(&self, until: Instant) {
        self.change().avoided = Some(until);
    }

    /// From when on a request of about `tokens` may be let in as a probe before the breaker's time, if only that is in the
    /// way.
    pub(crate) fn earliest(&self, tokens: u64, now: Instant) -> Option<Instant> {
        let inner = lock(&self.inner);
        let is_free = inner.barred(tokens, now).is_none();
        inner.breaker.earliest(now).filter(|_| is_free)
    }

    /// Lets that probe in.
    pub(crate) fn hurry(&self, now: Instant) {
        self.change().breaker.hurry(now);
    }

    /// The code of what went wrong last.
    pub(crate) fn last_error(&self) -> Option<&'static str> {
        lock(&self.inner).last_error
    }

    /// What nearly all of its whole answers stay below; none while little is known.
    pub(crate) fn usual(&self) -> Option<Duration> {
        lock(&self.inner).usual.p95()
    }

    /// It answered something else than a completion, such as its list of models.
    pub(crate) fn seen(&self, now: Instant) {
        self.change().breaker.seen(now);
    }

    /// Its configuration changed: what it did before says nothing any more.
    pub(crate) fn forget(&self) {
        let mut inner = self.change();
        inner.breaker = Breaker::default();
        inner.resting = None;
        inner.avoided = None;
        inner.unreliable = None;
        inner.outcomes = 0;
        inner.failed = None;
        inner.last_error = None;
    }

    /// Whether the breaker is open or half open.
    pub(crate) fn is_broken(&self) -> bool {
        lock(&self.inner).breaker.gate(Instant::now()) != Gate::Closed
    }

    pub(crate) fn shown(&self, now: Instant) -> Shown {
        let inner = lock(&self.inner);
        let left = |until: Instant| until.saturating_duration_since(now);
        let (breaker, reopens_in) = match inner.breaker.gate(now) {
            Gate::Closed => ("closed", None),
            Gate::Open { until } => ("open", Some(left(until))),
            Gate::Probe => ("open", Some(Duration::ZERO)),
            Gate::Probing => ("half_open", None),
        };
        Shown {
            breaker,
            reopens_in,
            resting_for: inner.resting.map(left).filter(|left| !left.is_zero()),
            failures_in_row: inner.breaker.failures_in_row(),
            in_flight: inner.in_flight,
            waiting: inner.waiting,
            latency_ms: inner.latency.last(),
            last_error: inner.last_error,
        }
    }
}

/// Holds the lock.
struct Change<'a> {
    node: &'a Node,
    inner: MutexGuard<'a, Inner>,
}

impl Deref for Change<'_> {
    type Target = Inner;

    fn deref(&self) -> &Inner {
        &self.inner
    }
}

impl DerefMut for Change<'_> {
    fn deref_mut(&mut self) -> &mut Inner {
        &mut self.inner
    }
}

impl Drop for Change<'_> {
    fn drop(&mut self) {
        let node = self.node;
        node.in_flight
            .store(self.inner.in_flight, Ordering::Relaxed);
        node.is_marked
            .store(self.inner.is_marked(), Ordering::Release);
    }
}

impl Inner {
    /// Whether there may be more to see than how many are served.
    fn is_marked(&self) -> bool {
        !self.breaker.is_closed()
            || self.resting.is_some()
            || self.avoided.is_some()
            || self.unreliable.is_some()
            || self.failed.is_some()
            || self.limits != Limits::default()
    }

    fn closed(&self, tokens: u64, now: Instant) -> Option<Closed> {
        match self.breaker.gate(now) {
            Gate::Open { until } => Some(Closed::Broken { until }),
            Gate::Probing => Some(Closed::Probing),
            Gate::Closed | Gate::Probe => self.barred(tokens, now),
        }
    }

    /// What else than the breaker keeps a request out.
    fn barred(&self, tokens: u64, now: Instant) -> Option<Closed> {
        if let Some(until) = self.resting.filter(|until| *until > now) {
            return Some(Closed::Resting { until });
        }
        if self
            .limits
            .concurrent
            .is_some_and(|most| self.in_flight >= most)
        {
            return Some(Closed::Full);
        }
        let waits = [(&self.requests, 1), (&self.tokens, tokens)]
            .into_iter()
            .filter_map(|(rate, amount)| rate.as_ref()?.ready(amount, now));
        waits.max().map(|until| Closed::Limited { until })
    }
}

/// A request that is being served. Its end, whatever it is, frees its place; one that nobody judged counts as neither.
#[derive(Debug)]
pub(crate) struct Pass {
    node: Arc<Node>,
    tokens: u64,
    is_probe: bool,
    is_judged: bool,
}

impl Pass {
    /// The first content came after `took`.
    pub(crate) fn began(&self, took: Duration, now: Instant) {
        lock(&self.node.inner).latency.observe(took, now);
    }

    /// A whole answer came after `took`.
    pub(crate) fn took(&self, took: Duration) {
        lock(&self.node.inner).usual.took(took);
    }

    /// It served. `tokens` is what it came to, where that is known. Returns whether that closed the breaker.
    pub(crate) fn succeeded(&mut self, tokens: Option<u64>, now: Instant) -> bool {
        self.is_judged = true;
        let mut inner = self.node.change();
        let more = tokens.unwrap_or_default().saturating_sub(self.tokens);
        if let Some(rate) = inner.tokens.as_mut().filter(|_| more > 0) {
            rate.take(more, now);
        }
        inner.avoided = None;
        inner.failed = None;
        inner.resting.take_if(|until| *until <= now);
        inner.unreliable.take_if(|until| *until <= now);
        inner.outcomes <<= 1;
        let has_closed = inner.breaker.succeeded(self.is_probe);
        if has_closed {
            inner.outcomes = 0;
        }
        has_closed
    }

    /// It failed for a reason of its own. Returns whether that opened the breaker.
    pub(crate) fn failed(&mut self, code: &'static str, now: Instant) -> bool {
        self.is_judged = true;
        let mut inner = self.node.change();
        inner.last_error = Some(code);
        inner.failed = Some(now);
        inner.outcomes = inner.outcomes << 1 | 1;
        if inner.outcomes.count_ones() >= UNRELIABLE {
            inner.unreliable = Some(now + UNRELIABLE_AVOIDED);
        }
        inner.breaker.failed(self.is_probe, now)
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        let mut inner = self.node.change();
        inner.in_flight -= 1;
        if !self.is_judged {
            inner.breaker.abandoned(self.is_probe, Instant::now());
        }
        drop(inner);
        if self.is_probe {
            // Whatever it found out concerns all who wait.
            self.node.left.notify_waiters();
        }
        self.node.left.notify_one();
    }
}

/// A place in the queue.
#[derive(Debug)]
pub(crate) struct Waiting(Arc<Node>);

impl Drop for Waiting {
    fn drop(&mut self) {
        lock(&self.0.inner).waiting -= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(limits: Limits) -> Arc<Node> {
        let node = Arc::new(Node::default());
        node.limit(limits);
        node
    }

    #[tokio::test(start_paused = true)]
    async fn as_many_as_may_are_served_and_who_leaves_makes_room() {
        let now = Instant::now();
        let node = node(Limits {
            concurrent: Some(2),
            ..Limits::default()
        });
        let first = node.enter(1, now).expect("room");
        let second = node.enter(1, now).expect("room");
        assert_eq!(node.enter(1, now).err(), Some(Closed::Full));
        let waiting = node.queue(1).expect("a place");
        assert!(node.queue(1).is_none(), "the queue is bounded");
        let left = node.somebody_left();
        drop(first);
        left.await;
        drop(waiting);
        assert!(node.enter(1, now).is_ok());
        drop(second);
        assert_eq!(node.shown(now).in_flight, 0);
        assert_eq!(node.shown(now).waiting, 0);
    }

    #[tokio::test(start_paused = true)]
    async fn limits_per_minute_hold_and_what_came_to_more_is_counted() {
        let now = Instant::now();
        let by_requests = node(Limits {
            requests_per_minute: Some(2),
            ..Limits::default()
        });
        for _ in 0..2 {
            drop(by_requests.enter(1, now).expect("room"));
        }
        let until = now + Duration::from_secs(30);
        assert_eq!(
            by_requests.enter(1, now).err(),
            Some(Closed::Limited { until })
        );
        let by_tokens = node(Limits {
            tokens_per_minute: Some(6_000),
            ..Limits::default()
        });
        let mut pass = by_tokens.enter(1_000, now).expect("room");
        assert!(by_tokens.enter(5_000, now).is_ok());
        pass.succeeded(Some(2_000), now);
        let until = now + Duration::from_secs(10) + Duration::from_secs(1);
        assert_eq!(
            by_tokens.glance(100, now).closed,
            Some(Closed::Limited { until })
        );
    }

    #[tokio::test(start_paused = true)]
    async fn failures_break_it_and_only_one_probe_passes() {
        let now = Instant::now();
        let node = node(Limits::default());
        for number in 1..=5 {
            let mut pass = node.enter(1, now).expect("closed still");
            assert_eq!(pass.failed("upstream_error", now), number == 5);
        }
        let until = now + Duration::from_secs(10);
        assert_eq!(node.enter(1, now).err(), Some(Closed::Broken { until }));
        tokio::time::advance(Duration::from_secs(10)).await;
        let now = Instant::now();
        let probe = node.enter(1, now).expect("the probe");
        assert_eq!(node.enter(1, now).err(), Some(Closed::Probing));
        // Its client left: the next one may probe.
        drop(probe);
        let mut probe = node.enter(1, now).expect("another probe");
        assert!(probe.succeeded(None, now));
        assert!(node.enter(1, now).is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_wants_to_rest_rests_and_one_to_avoid_comes_last() {
        let now = Instant::now();
        let node = node(Limits::default());
        let until = now + Duration::from_secs(7);
        node.rest(until, "upstream_rate_limited");
        node.rest(now + Duration::from_secs(1), "upstream_rate_limited");
        assert_eq!(node.enter(1, now).err(), Some(Closed::Resting { until }));
        assert!(node.enter(1, until).is_ok());
        node.avoid(until);
        let glance = node.glance(1, now);
        assert!(glance.is_avoided);
        assert!(!node.glance(1, until).is_avoided);
        node.forget();
        assert!(node.enter(1, now).is_ok());
    }
}
