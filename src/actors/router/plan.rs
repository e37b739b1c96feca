//! From the targets behind a name to those to try, in order: what a request needs, how its targets do, and the strategy.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;

use crate::actors::router::resolve::Route;
use crate::actors::router::target::Target;
use crate::routing::needs::{Lack, Needs};
use crate::routing::node::Closed;
use crate::routing::order::{self, Ranked};
use crate::routing::virtuals::Strategy;
use crate::tasks::lock;

/// Targets of a plan: far more than are ever tried.
const MOST: usize = 8;

/// A request as the router sees it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Question {
    /// What the client named.
    pub(crate) model: Option<String>,
    pub(crate) needs: Needs,
    /// Stays the same for one conversation.
    pub(crate) conversation: u64,
    /// Only these, in this order, whatever the model.
    pub(crate) only: Vec<String>,
}

/// Where a request goes, in the order to try.
#[derive(Clone)]
pub(crate) struct RoutePlan {
    pub(crate) targets: Vec<Arc<Target>>,
    /// Closed now; some may open while the request can wait.
    pub(crate) closed: Vec<(Arc<Target>, Closed)>,
    /// Left out, since others offer what the request needs.
    pub(crate) lacking: Vec<(Arc<Target>, Lack)>,
    pub(crate) strategy: Strategy,
    /// What put each of `targets` where it is.
    pub(crate) places: Vec<Ranked>,
    /// The name that was looked up.
    pub(crate) model: Arc<str>,
    /// The virtual model they stand for.
    pub(crate) via: Option<String>,
    pub(crate) needs: Needs,
    /// Nobody lists the model.
    pub(crate) is_guess: bool,
    /// Each target is tried once, and nothing waits: what happened is told again.
    pub(crate) is_once: bool,
}

impl RoutePlan {
    /// A plan with one target, as it is.
    pub(crate) fn only(target: Target) -> Self {
        Self {
            targets: vec![Arc::new(target)],
            closed: Vec::new(),
            lacking: Vec::new(),
            strategy: Strategy::Priority,
            places: Vec::new(),
            model: "".into(),
            via: None,
            needs: Needs::default(),
            is_guess: false,
            is_once: false,
        }
    }

    /// What is kept and shown of it. `now` is when it was made.
    pub(crate) fn to_json(&self, now: Instant) -> Value {
        let targets = self.targets.iter().enumerate().map(|(at, target)| {
            json!({"target": target.name(), "place": at + 1, "reason": self.reason(at)})
        });
        let closed = self.closed.iter().map(|(target, closed)| {
            json!({"target": target.name(), "reason": closed_words(*closed, now)})
        });
        let lacking = self.lacking.iter().map(|(target, lack)| {
            json!({"target": target.name(), "reason": format!("it {}", lack.words())})
        });
        json!({
            "via": self.via,
            "strategy": self.strategy.as_str(),
            "estimated_tokens": self.needs.tokens,
            "is_guess": self.is_guess,
            "targets": targets.collect::<Vec<_>>(),
            "skipped": closed.chain(lacking).collect::<Vec<_>>(),
        })
    }

    /// Why the target number `at` has its place, for people.
    pub(crate) fn reason(&self, at: usize) -> String {
        let place = self.places.get(at);
        if place.is_some_and(|place| place.is_avoided) {
            return "it could not serve a request lately: others are preferred".into();
        }
        let first = match self.strategy {
            Strategy::Priority => "first in order",
            Strategy::Weighted => "its share is due",
            Strategy::RoundRobin => "its turn",
            Strategy::LeastLatency => "the soonest to answer",
            Strategy::LeastBusy => "the least busy",
            Strategy::Cheapest => "the cheapest for this request",
            Strategy::Sticky => "this conversation is its",
        };
        let words = if at == 0 {
            first
        } else {
            "tried when those before it fail"
        };
        match place.and_then(|place| measure(self.strategy, place)) {
            Some(measure) => format!("{words}: {measure}"),
            None => words.into(),
        }
    }
}

/// What a strategy goes by; none where that is the order or the turn alone.
fn measure(strategy: Strategy, place: &Ranked) -> Option<String> {
    let under_way = place.in_flight;
    match strategy {
        Strategy::Priority | Strategy::RoundRobin => None,
        Strategy::Weighted | Strategy::Sticky => Some(format!("weight {}", place.weight)),
        Strategy::LeastBusy => Some(format!("{under_way} under way")),
        Strategy::LeastLatency if place.latency > 0.0 => Some(format!(
            "{:.0} ms to the first content, {under_way} under way",
            place.latency
        )),
        Strategy::LeastLatency => Some(format!("not measured yet, {under_way} under way")),
        Strategy::Cheapest => Some(place.cost.map_or_else(
            || "no price is known".into(),
            |cost| format!("about {cost} millionths of a dollar"),
        )),
    }
}

/// Why a target is passed over, for people.
pub(crate) fn closed_words(closed: Closed, now: Instant) -> String {
    let left = |until: Instant| {
        let left = until.saturating_duration_since(now);
        format!(
            "{:.1} s",
            Duration::from_millis(u64::try_from(left.as_millis()).unwrap_or(u64::MAX))
                .as_secs_f64()
        )
    };
    match closed {
        Closed::Broken { until } => format!("its breaker is open for {}", left(until)),
        Closed::Probing => "its breaker lets one probe through, which is under way".into(),
        Closed::Resting { until } => format!("it asked to be left alone for {}", left(until)),
        Closed::Full => "it serves as many requests as it may".into(),
        Closed::Limited { until } => format!("its limit per minute is used up for {}", left(until)),
    }
}

/// Decides. `takes_turn` is false for those who only want to know.
pub(crate) fn plan(
    route: &Route,
    question: &Question,
    now: Instant,
    takes_turn: bool,
) -> RoutePlan {
    let needs = question.needs;
    // Who wants to know is told of all.
    let most = if takes_turn { MOST } else { usize::MAX };
    let (mut ranked, mut closed, mut lacking) = (Vec::new(), Vec::new(), Vec::new());
    let is_met = |target: &Arc<Target>| needs.unmet(&target.facts).is_none();
    // Where nobody is known to offer it, what is known may be wrong: then all are asked.
    let is_offered = route.targets.iter().any(is_met);
    let mut turns = lock(&route.turns);
    // Where the place alone decides, the best come first: the others need not be looked at.
    let (first, may_stop) = match route.strategy {
        Strategy::Priority => (0, true),
        Strategy::RoundRobin => (turns.next(), true),
        _ => (0, false),
    };
    let (before, from) = route
        .targets
        .split_at_checked(first)
        .unwrap_or((&route.targets, &[]));
    let places = (first..).zip(from).chain((0..).zip(before));
    let mut well = 0;
    for (at, target) in places {
        if may_stop && well >= most {
            break;
        }
        if let Some(lack) = needs.unmet(&target.facts).filter(|_| is_offered) {
            lacking.push((target.clone(), lack));
            continue;
        }
        let glance = target.glance(needs.tokens, now);
        if let Some(why) = glance.closed {
            closed.push((target.clone(), why));
            continue;
        }
        well += usize::from(!glance.is_avoided);
        ranked.push(Ranked {
            at,
            weight: target.weight,
            in_flight: glance.in_flight,
            latency: if route.strategy == Strategy::LeastLatency {
                target.node.latency(now)
            } else {
                0.0
            },
            cost: target.facts.price.map(|price| needs.cost(&price)),
            name: target.hash,
            is_avoided: glance.is_avoided,
        });
    }
    let mut untaken = (!takes_turn).then(|| turns.clone());
    order::order(
        route.strategy,
        &mut ranked,
        untaken.as_mut().unwrap_or(&mut turns),
        question.conversation,
        most,
    );
    drop(turns);
    let targets = ranked
        .iter()
        .filter_map(|ranked| route.targets.get(ranked.at).cloned())
        .collect();
    closed.truncate(most);
    lacking.truncate(most);
    RoutePlan {
        targets,
        closed,
        lacking,
        strategy: route.strategy,
        places: ranked,
        model: route.model.clone(),
        via: route.via.clone(),
        needs,
        is_guess: route.is_guess,
        is_once: false,
    }
}
