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

/// Leaves the `most` best, the best first. `conversation` is a hash that stays the same for one conversation. Targets to
/// be avoided come last, whatever the strategy.
pub(crate) fn order(
    strategy: Strategy,
    targets: &mut Vec<Ranked>,
    turns: &mut Turns,
    conversation: u64,
    most: usize,
) {
    if strategy == Strategy::Weighted {
        turns.accrue(targets);
    }
    // The smaller, the earlier. What a comparison costs is paid once for each target.
    let mut keys: Vec<(bool, u64, u32, usize, usize)> = targets
        .iter()
        .enumerate()
        .map(|(index, target)| {
            let (first, second) = match strategy {
                Strategy::Priority => (0, 0),
                Strategy::RoundRobin => (u64::from(target.at < turns.next), 0),
                Strategy::Weighted => (turns.rank(target.at), 0),
                Strategy::LeastLatency => {
                    let cost = target.latency * f64::from(target.in_flight + 1);
                    (ascending(cost), target.in_flight)
                }
                Strategy::LeastBusy => (0, target.in_flight),
                Strategy::Cheapest => (target.cost.unwrap_or(u64::MAX), 0),
                Strategy::Sticky => (!ascending(target.drawn(conversation)), 0),
            };
            (target.is_avoided, first, second, target.at, index)
        })
        .collect();
    if most < keys.len() {
        keys.select_nth_unstable(most);
        keys.truncate(most);
    }
    keys.sort_unstable();
    if let Some((.., at, _)) = keys.first() {
        turns.took(strategy, *at, targets);
    }
    *targets = keys
        .iter()
        .filter_map(|(.., index)| targets.get(*index).copied())
        .collect();
}

/// Numbers in the order of these, none of which is negative.
fn ascending(value: f64) -> u64 {
    value.to_bits()
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
    /// The place whose turn it is.
    pub(crate) fn next(&self) -> usize {
        self.next
    }

    /// Smooth weighted round robin: each is owed its weight, and who serves pays what all were given. Those to be avoided
    /// take no part while there are others, so that they do not get everything at once when they are well again.
    fn accrue(&mut self, targets: &[Ranked]) {
        let most = targets.iter().map(|target| target.at + 1).max();
        self.owed.resize(self.owed.len().max(most.unwrap_or(0)), 0);
        for target in taking_part(targets) {
            if let Some(owed) = self.owed.get_mut(target.at) {
                *owed += i64::from(target.weight);
            }
        }
    }

    /// The more it is owed, the smaller.
    fn rank(&self, at: usize) -> u64 {
        let owed = self.owed.get(at).copied().unwrap_or_default();
        !owed.cast_unsigned().wrapping_add(1 << 63)
    }

    /// The target at this place serves.
    fn took(&mut self, strategy: Strategy, at: usize, targets: &[Ranked]) {
        self.next = at + 1;
        if strategy == Strategy::Weighted
            && let Some(owed) = self.owed.get_mut(at)
        {
            *owed -= taking_part(targets)
                .map(|target| i64::from(target.weight))
                .sum::<i64>();
        }
    }
}

/// Those that are not to be avoided; all where all are.
fn taking_part(targets: &[Ranked]) -> impl Iterator<Item = &Ranked> {
    let are_all_avoided = targets.iter().all(|target| target.is_avoided);
    targets
        .iter()
        .filter(move |target| are_all_avoided || !target.is_avoided)
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
        order(strategy, &mut targets, turns, conversation, usize::MAX);
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
    fn one_that_was_avoided_is_owed_nothing_for_it() {
        let (mut two, mut turns) = (targets(&[1, 1]), Turns::default());
        let mut counts = |avoided: bool, rounds: usize| {
            two[1].is_avoided = avoided;
            let mut first =
                (0..rounds).map(|_| ordered(Strategy::Weighted, &two, &mut turns, 0)[0]);
            first.by_ref().filter(|first| *first == 1).count()
        };
        assert_eq!((counts(true, 100), counts(false, 100)), (0, 50));
    }

    #[test]
    fn the_best_few_are_the_first_of_all() {
        let weights: Vec<u32> = (1..=40).map(|at| at * 7 % 11 + 1).collect();
        let mut all = targets(&weights);
        for (target, number) in all.iter_mut().zip(1_u32..) {
            target.in_flight = number * 5 % 7;
            target.latency = f64::from(number * 3 % 17);
            target.cost = (number % 4 > 0).then(|| u64::from(number * 13 % 23));
            target.is_avoided = number % 9 == 0;
        }
        for strategy in Strategy::ALL {
            let turns = Turns {
                next: 5,
                owed: vec![3, -4, 9],
            };
            let whole = ordered(strategy, &all, &mut turns.clone(), 77);
            let mut few = all.clone();
            order(strategy, &mut few, &mut turns.clone(), 77, 6);
            let few: Vec<usize> = few.iter().map(|target| target.at).collect();
            assert_eq!(few, whole[..6], "{strategy:?}");
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
