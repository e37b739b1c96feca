//! In which order the targets of a request are tried.

use crate::routing::dice::mix;
use crate::routing::virtuals::Strategy;

/// What of a target decides its place.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ranked {
    /// Its place in the configuration.
    pub(crate) at: usize,
    pub(crate) weight: u32,
    pub(crate) in_flight: u32,
    /// ms to the first content; 0 when nothing is known.
    pub(crate) latency: f64,
    /// Micro-dollars for the request at hand; none when no price is known.
    pub(crate) cost: Option<u64>,
    /// A hash of its name.
    pub(crate) name: u64,
    pub(crate) is_avoided: bool,
}

/// What a route remembers from one request to the next.
#[derive(Clone, Debug, Default)]
pub(crate) struct Turns {
    next: usize,
    /// Smooth weighted round robin: what each target is owed, by its place in the configuration.
    owed: Vec<i64>,
}

/// Puts the best first. `conversation` is a hash that stays the same for one conversation. Targets to be avoided come
/// last, whatever the strategy.
pub(crate) fn order(
    strategy: Strategy,
    targets: &mut [Ranked],
    turns: &mut Turns,
    conversation: u64,
) {
    match strategy {
        Strategy::Priority => targets.sort_by_key(|target| target.at),
        Strategy::RoundRobin => turns.rotate(targets),
        Strategy::Weighted => turns.share(targets),
        Strategy::LeastLatency => targets.sort_by(|a, b| {
            let cost = |target: &Ranked| target.latency * f64::from(target.in_flight + 1);
            cost(a)
                .total_cmp(&cost(b))
                .then_with(|| a.in_flight.cmp(&b.in_flight))
                .then_with(|| a.at.cmp(&b.at))
        }),
        Strategy::LeastBusy => targets.sort_by_key(|target| (target.in_flight, target.at)),
        Strategy::Cheapest => {
            targets.sort_by_key(|target| (target.cost.unwrap_or(u64::MAX), target.at));
        }
        Strategy::Sticky => targets.sort_by(|a, b| {
            b.drawn(conversation)
                .total_cmp(&a.drawn(conversation))
                .then_with(|| a.at.cmp(&b.at))
        }),
    }
    targets.sort_by_key(|target| target.is_avoided);
}

impl Ranked {
    /// Weighted rendezvous hashing: each conversation draws a lot for each target, and keeps it when others come or go.
    fn drawn(&self, conversation: u64) -> f64 {
        // 53 bits fill a float; the half keeps 0 out of the logarithm.
        #[expect(clippy::cast_precision_loss, reason = "53 bits are exact")]
        let chance = ((mix(conversation ^ self.name) >> 11) as f64 + 0.5) / (1_u64 << 53) as f64;
        f64::from(self.weight) / -chance.ln()
    }
}

impl Turns {
    fn rotate(&mut self, targets: &mut [Ranked]) {
        targets.sort_by_key(|target| target.at);
        let first = targets
            .iter()
            .position(|target| target.at >= self.next)
            .unwrap_or(0);
        targets.rotate_left(first);
        self.next = targets.first().map_or(0, |target| target.at + 1);
    }

    fn share(&mut self, targets: &mut [Ranked]) {
        let most = targets
            .iter()
            .map(|target| target.at + 1)
            .max()
            .unwrap_or(0);
        if self.owed.len() < most {
            self.owed.resize(most, 0);
        }
        let mut total = 0;
        for target in targets.iter() {
            total += i64::from(target.weight);
            if let Some(owed) = self.owed.get_mut(target.at) {
                *owed += i64::from(target.weight);
            }
        }
        let owed = |target: &Ranked| self.owed.get(target.at).copied().unwrap_or_default();
        targets.sort_by_key(|target| (std::cmp::Reverse(owed(target)), target.at));
        if let Some(owed) = targets
            .first()
            .and_then(|first| self.owed.get_mut(first.at))
        {
            *owed -= total;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::routing::dice::{Dice, hash};

    fn targets(weights: &[u32]) -> Vec<Ranked> {
        let of = |(at, weight): (usize, &u32)| Ranked {
            at,
            weight: *weight,
            in_flight: 0,
            latency: 0.0,
            cost: None,
            name: hash(format!("p{at}/m").as_bytes()),
            is_avoided: false,
        };
        weights.iter().enumerate().map(of).collect()
    }

    fn ordered(
        strategy: Strategy,
        targets: &[Ranked],
        turns: &mut Turns,
        conversation: u64,
    ) -> Vec<usize> {
        let mut targets = targets.to_vec();
        order(strategy, &mut targets, turns, conversation);
        targets.iter().map(|target| target.at).collect()
    }

    #[test]
    fn each_strategy_prefers_what_it_says() {
        let mut three = targets(&[1, 1, 1]);
        for (target, (in_flight, latency, cost)) in
            three
                .iter_mut()
                .zip([(5, 100.0, None), (1, 400.0, Some(7)), (2, 10.0, Some(3))])
        {
            (target.in_flight, target.latency, target.cost) = (in_flight, latency, cost);
        }
        for (strategy, expected) in [
            (Strategy::Priority, [0, 1, 2]),
            (Strategy::LeastLatency, [2, 0, 1]),
            (Strategy::LeastBusy, [1, 2, 0]),
            (Strategy::Cheapest, [2, 1, 0]),
        ] {
            assert_eq!(
                ordered(strategy, &three, &mut Turns::default(), 0),
                expected,
                "{strategy:?}"
            );
        }
        three[2].is_avoided = true;
        assert_eq!(
            ordered(Strategy::LeastLatency, &three, &mut Turns::default(), 0),
            [0, 1, 2]
        );
    }

    #[test]
    fn turns_go_round_also_when_one_is_missing() {
        let (three, mut turns) = (targets(&[1, 1, 1]), Turns::default());
        let mut first =
            |targets: &[Ranked]| ordered(Strategy::RoundRobin, targets, &mut turns, 0)[0];
        assert_eq!(
            [first(&three), first(&three), first(&three), first(&three)],
            [0, 1, 2, 0]
        );
        let two = [three[0], three[2]];
        assert_eq!([first(&two), first(&two), first(&two)], [2, 0, 2]);
    }

    #[test]
    fn shares_are_kept_to_one() {
        let (three, mut turns) = (targets(&[5, 3, 2]), Turns::default());
        let mut counts = [0_i32; 3];
        for round in 1..=1_000_i32 {
            counts[ordered(Strategy::Weighted, &three, &mut turns, 0)[0]] += 1;
            for (count, share) in counts.iter().zip([5, 3, 2]) {
                assert!(
                    (count * 10 - round * share).abs() <= 10,
                    "{counts:?} after {round}"
                );
            }
        }
    }

    #[test]
    fn a_conversation_stays_where_it_is_when_others_come_and_go() {
        let five = targets(&[1, 1, 1, 1, 4]);
        let dice = Dice::new(1);
        let mut counts = [0_u32; 5];
        for _ in 0..8_000 {
            let conversation = dice.throw();
            let order = |targets: &[Ranked]| {
                ordered(
                    Strategy::Sticky,
                    targets,
                    &mut Turns::default(),
                    conversation,
                )
            };
            let all = order(&five);
            counts[all[0]] += 1;
            let without_second: Vec<Ranked> = five
                .iter()
                .copied()
                .filter(|target| target.at != all[1])
                .collect();
            assert_eq!(order(&without_second)[0], all[0]);
            let without_first: Vec<Ranked> = five
                .iter()
                .copied()
                .filter(|target| target.at != all[0])
                .collect();
            assert_eq!(order(&without_first)[0], all[1]);
        }
        for (count, weight) in counts.iter().zip([1, 1, 1, 1, 4]) {
            let expected = 1_000 * weight;
            assert!(count.abs_diff(expected) < expected / 8 + 60, "{counts:?}");
        }
    }
}
