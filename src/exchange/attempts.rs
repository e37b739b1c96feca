//! Which target is tried next, and when: the plan's order, what has failed already, and who has room.

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::select_all;
use tokio::time::Instant;

use crate::actors::router::plan::{RoutePlan, closed_words};
use crate::actors::router::target::{Entrance, Target};
use crate::limits::routing::SOON;
use crate::providers::{UpstreamError, Verdict};
use crate::routing::node::Closed;
use crate::routing::retry;
use crate::settings::{self, Settings};

/// How far a request goes to be served.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Policy {
    /// Attempts at all targets together.
    pub(crate) attempts: u32,
    /// Whether another target may be tried.
    pub(crate) fallbacks: bool,
    /// Whether another target may go on with an answer.
    pub(crate) mid_stream: bool,
    /// Whether another target is asked beside one that takes unusually long.
    pub(crate) hedge: bool,
    /// Requests that may wait for one provider.
    pub(crate) queue: u32,
    /// How long one may wait for a target.
    pub(crate) patience: Duration,
}

impl Policy {
    pub(crate) fn of(settings: &Settings) -> Self {
        let number = |key| u32::try_from(settings.integer(key)).unwrap_or_default();
        Self {
            attempts: number(settings::ROUTING_RETRIES) + 1,
            fallbacks: settings.flag(settings::ROUTING_FALLBACKS),
            mid_stream: settings.flag(settings::ROUTING_MID_STREAM),
            hedge: settings.flag(settings::ROUTING_HEDGE),
            queue: number(settings::ROUTING_QUEUE),
            patience: settings.millis(settings::ROUTING_QUEUE_TIMEOUT),
        }
    }
}

/// No target takes the request.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{message}")]
pub(crate) struct NobodyTakesIt {
    pub(crate) status: u16,
    pub(crate) code: &'static str,
    pub(crate) message: String,
    pub(crate) retry_after: Duration,
}

/// A target that has let the request in.
pub(crate) struct Picked {
    pub(crate) target: Arc<Target>,
    pub(crate) entrance: Entrance,
    place: usize,
}

/// The targets of one request, and how they did so far.
pub(crate) struct Picker {
    chances: Vec<Chance>,
    policy: Policy,
    tokens: u64,
    /// Each target is tried once, and nothing waits: a replay.
    is_once: bool,
    /// There are few attempts, or few left (R22): none goes to who is likely to fail while there are others.
    is_careful: bool,
    waited: Duration,
}

struct Chance {
    target: Arc<Target>,
    tries: u32,
    /// It cannot serve this request.
    is_out: bool,
    not_before: Option<Instant>,
}

impl Picker {
    pub(crate) fn new(plan: &RoutePlan, policy: Policy) -> Self {
        let closed = plan.closed.iter().map(|(target, _)| target);
        let mut chances: Vec<_> = plan
            .targets
            .iter()
            .chain(closed)
            .map(|target| Chance {
                target: target.clone(),
                tries: 0,
                is_out: false,
                not_before: None,
            })
            .collect();
        if !policy.fallbacks {
            chances.truncate(1);
        }
        Self {
            chances,
            policy,
            tokens: plan.needs.tokens,
            is_once: plan.is_once,
            is_careful: false,
            waited: Duration::ZERO,
        }
    }

    /// Few retries are left.
    pub(crate) fn be_careful(&mut self) {
        self.is_careful = !self.is_once;
    }

    /// Whether any target is left.
    pub(crate) fn has_chance(&self) -> bool {
        self.chances.iter().any(|chance| !chance.is_out)
    }

    /// The next target that lets the request in; waits for one if that is likely to help. Dropping it loses no place.
    pub(crate) async fn next(&mut self) -> Result<Picked, NobodyTakesIt> {
        let began = Instant::now();
        let mut queued = None;
        loop {
            let now = Instant::now();
            let closed = match self.enter(now) {
                Ok(picked) => {
                    self.waited += now - began;
                    return Ok(picked);
                }
                Err(closed) => closed,
            };
            let left = (began + self.policy.patience).saturating_duration_since(now + self.waited);
            let ready = |until: Instant| until <= now + left;
            let busy: Vec<_> = closed
                .iter()
                .filter(|(_, closed)| matches!(closed, Closed::Full | Closed::Probing))
                .collect();
            let soonest = closed
                .iter()
                .filter(|(_, closed)| !matches!(closed, Closed::Broken { .. }))
                .filter_map(|(_, closed)| closed.until())
                .filter(|until| ready(*until))
                .min();
            let mut soonest = soonest;
            if busy.is_empty() && soonest.is_none() {
                match self.hurry(now) {
                    Some(at) if at <= now => continue,
                    at => soonest = at.filter(|at| ready(*at)),
                }
            }
            if left.is_zero() || (busy.is_empty() && soonest.is_none()) {
                return Err(nobody(&closed, now));
            }
            if queued.is_none() {
                let first = busy
                    .first()
                    .map_or_else(|| closed.first(), |first| Some(*first));
                let Some((chance, _)) = first else {
                    return Err(nobody(&closed, now));
                };
                let node = &chance.provider_node;
                let Some(place) = node.queue(self.policy.queue) else {
                    return Err(full(chance, self.policy.queue));
                };
                queued = Some(place);
            }
            let until = soonest.unwrap_or(now + left).min(now + left);
            let mut leaving: Vec<_> = Vec::new();
            for (target, _) in &busy {
                leaving.push(target.provider_node.somebody_left().boxed());
                leaving.push(target.node.somebody_left().boxed());
            }
            leaving.push(tokio::time::sleep_until(until).boxed());
            select_all(leaving).await;
        }
    }

    /// Every target is closed: one that is only broken may be probed before its time. Returns when; if that is now, it lets
    /// the next request in. Not a single one: what has no stand-in fails at once.
    fn hurry(&self, now: Instant) -> Option<Instant> {
        if self.chances.len() < 2 {
            return None;
        }
        let open = self
            .chances
            .iter()
            .filter(|chance| !chance.is_out && chance.not_before.is_none_or(|until| until <= now));
        let mut earliest: Option<Instant> = None;
        for chance in open {
            let at = chance.target.hurry(self.tokens, now);
            if at.is_some_and(|at| at <= now) {
                // One at a time.
                return at;
            }
            earliest = earliest.into_iter().chain(at).min();
        }
        earliest
    }

    /// Another target than `picked`, if one lets the request in at once.
    pub(crate) fn another(&self, picked: &Picked) -> Option<Picked> {
        let now = Instant::now();
        self.chances.iter().enumerate().find_map(|(place, chance)| {
            let is_free = place != picked.place
                && !chance.is_out
                && chance.not_before.is_none_or(|until| until <= now)
                && !chance.target.is_same(&picked.target);
            let entrance = is_free.then(|| chance.target.enter(self.tokens, now).ok())??;
            Some(Picked {
                target: chance.target.clone(),
                entrance,
                place,
            })
        })
    }

    /// Tries the doors: as planned, and with care those that were tried least, and of these the ones that did not just
    /// fail.
    fn enter(&self, now: Instant) -> Result<Picked, Vec<(Arc<Target>, Closed)>> {
        let mut order: Vec<usize> = (0..self.chances.len()).collect();
        if self.is_careful {
            order.sort_by_cached_key(|place| {
                let chance = self.chances.get(*place)?;
                let is_suspect = chance.target.glance(self.tokens, now).is_suspect;
                Some((chance.tries, is_suspect))
            });
        }
        let mut closed = Vec::new();
        for place in order {
            let Some(chance) = self.chances.get(place).filter(|chance| !chance.is_out) else {
                continue;
            };
            if let Some(until) = chance.not_before.filter(|until| *until > now) {
                closed.push((chance.target.clone(), Closed::Resting { until }));
                continue;
            }
            match chance.target.enter(self.tokens, now) {
                Ok(entrance) => {
                    return Ok(Picked {
                        target: chance.target.clone(),
                        entrance,
                        place,
                    });
                }
                Err(why) => closed.push((chance.target.clone(), why)),
            }
        }
        Err(closed)
    }

    /// `picked` failed. `dice` is any number.
    pub(crate) fn failed(&mut self, picked: &Picked, error: &UpstreamError, dice: u64) {
        let (verdict, patience, is_once) = (error.verdict(), self.policy.patience, self.is_once);
        let too_small = picked.target.facts.context_length;
        // A replay goes the recorded way.
        self.is_careful = !is_once;
        for (place, chance) in self.chances.iter_mut().enumerate() {
            let is_same = place == picked.place;
            match verdict {
                Verdict::Caller => chance.is_out = true,
                Verdict::TooLong => {
                    let holds = chance.target.facts.context_length;
                    let is_no_larger = holds
                        .zip(too_small)
                        .is_some_and(|(holds, small)| holds <= small);
                    chance.is_out |= is_same || is_no_larger;
                }
                Verdict::Filtered | Verdict::Elsewhere => chance.is_out |= is_same,
                Verdict::Passing if is_same => {
                    chance.tries += 1;
                    let asked = error.retry_after().unwrap_or_default();
                    chance.not_before =
                        Some(Instant::now() + asked.max(retry::pause(chance.tries, dice)));
                    chance.is_out |=
                        is_once || asked > patience || chance.target.adapter.retries_itself();
                }
                Verdict::Passing => {}
            }
        }
    }

    /// An answer that `target` began is not gone on with by itself.
    pub(crate) fn rule_out(&mut self, target: &Target) {
        for chance in &mut self.chances {
            chance.is_out |= chance.target.is_same(target);
        }
    }
}

fn nobody(closed: &[(Arc<Target>, Closed)], now: Instant) -> NobodyTakesIt {
    let words: Vec<_> = closed
        .iter()
        .map(|(target, closed)| {
            let last = target.last_error();
            let after = last.map_or_else(String::new, |code| format!(", after `{code}`"));
            format!("`{}`: {}{after}", target.name(), closed_words(*closed, now))
        })
        .collect();
    let until = closed.iter().filter_map(|(_, closed)| closed.until()).min();
    let wait = until.map_or(Duration::ZERO, |until| until.saturating_duration_since(now));
    let is_limit = |(target, closed): &(Arc<Target>, Closed)| match closed {
        Closed::Limited { .. } => true,
        Closed::Resting { .. } => target.last_error() == Some("upstream_rate_limited"),
        _ => false,
    };
    NobodyTakesIt {
        // Whoever waits for a limit to pass is told so: clients know that better than an outage.
        status: if closed.iter().all(is_limit) && !closed.is_empty() {
            429
        } else {
            503
        },
        code: "no_target_available",
        message: format!(
            "no target takes the request now ({}); try again later, or name another model",
            words.join("; ")
        ),
        retry_after: wait.max(SOON),
    }
}

fn full(target: &Target, most: u32) -> NobodyTakesIt {
    NobodyTakesIt {
        status: 503,
        code: "queue_full",
        message: format!(
            "the provider `{}` is busy, and {most} requests wait for it already; try again shortly",
            target.provider
        ),
        retry_after: SOON,
    }
}
