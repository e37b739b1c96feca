//! What a client's key may use in a day and in a month (UTC), and what it has used.

use crate::clock::{utc_day, utc_month};
use crate::routing::facts::dollars;

/// What exchanges took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Spent {
    pub(crate) requests: i64,
    pub(crate) tokens: i64,
    pub(crate) cost_microusd: i64,
}

/// The most a key may use; none where nothing is said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Budgets {
    pub(crate) tokens_per_day: Option<i64>,
    pub(crate) tokens_per_month: Option<i64>,
    pub(crate) cost_per_day_microusd: Option<i64>,
    pub(crate) cost_per_month_microusd: Option<i64>,
}

/// What was used in the day and in the month that run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Used {
    pub(crate) day: Span,
    pub(crate) month: Span,
}

/// What was used until the span ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Span {
    /// When the next one begins, Unix ms.
    pub(crate) until: i64,
    pub(crate) spent: Spent,
}

/// A budget that is used up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Exhausted {
    /// In words: `1000 tokens per day`.
    pub(crate) what: String,
    /// When it can be used again, Unix ms.
    pub(crate) until: i64,
}

impl Spent {
    pub(crate) fn add(&mut self, more: &Self) {
        self.requests = self.requests.saturating_add(more.requests);
        self.tokens = self.tokens.saturating_add(more.tokens);
        self.cost_microusd = self.cost_microusd.saturating_add(more.cost_microusd);
    }
}

impl Used {
    /// What was used in the day and the month of `now` (Unix ms).
    pub(crate) fn of(now: i64, day: Spent, month: Spent) -> Self {
        let span = |until, spent| Span { until, spent };
        Self {
            day: span(utc_day(now).1, day),
            month: span(utc_month(now).1, month),
        }
    }

    /// Adds what an exchange took that ended `at` (Unix ms).
    pub(crate) fn add(&mut self, at: i64, more: &Spent) {
        *self = self.at(at);
        self.day.spent.add(more);
        self.month.spent.add(more);
    }

    /// As it is at `now` (Unix ms): what has ended by then counts no more.
    pub(crate) fn at(&self, now: i64) -> Self {
        let turned = |span: Span, until: i64| {
            if now < span.until {
                span
            } else {
                Span {
                    until,
                    spent: Spent::default(),
                }
            }
        };
        Self {
            day: turned(self.day, utc_day(now).1),
            month: turned(self.month, utc_month(now).1),
        }
    }

    /// The budget that is used up at `now` (Unix ms); of several, the one that lasts the longest.
    pub(crate) fn exhausted(&self, budgets: &Budgets, now: i64) -> Option<Exhausted> {
        let used = self.at(now);
        let tokens = |most: i64, span: &str| format!("{most} tokens per {span}");
        let cost = |most: i64, span: &str| format!("${} per {span}", dollars(most));
        let checks = [
            (
                budgets.tokens_per_month,
                used.month.spent.tokens,
                used.month.until,
                tokens as fn(_, &_) -> _,
                "month",
            ),
            (
                budgets.cost_per_month_microusd,
                used.month.spent.cost_microusd,
                used.month.until,
                cost,
                "month",
            ),
            (
                budgets.tokens_per_day,
                used.day.spent.tokens,
                used.day.until,
                tokens,
                "day",
            ),
            (
                budgets.cost_per_day_microusd,
                used.day.spent.cost_microusd,
                used.day.until,
                cost,
                "day",
            ),
        ];
        let mut checks = checks.into_iter();
        checks.find_map(|(most, spent, until, words, span)| {
            let most = most.filter(|most| spent >= *most)?;
            Some(Exhausted {
                what: words(most, span),
                until,
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2026-11-29T12:00:00Z.
    const NOON: i64 = 1_795_953_600_000;
    const DAY: i64 = 86_400_000;
    const MIDNIGHT: i64 = NOON + DAY / 2;
    /// 2026-12-01.
    const NEXT_MONTH: i64 = MIDNIGHT + DAY;

    fn took(tokens: i64, cost_microusd: i64) -> Spent {
        Spent {
            requests: 1,
            tokens,
            cost_microusd,
        }
    }

    #[test]
    fn a_new_day_and_a_new_month_begin_at_nothing() {
        let mut used = Used::of(NOON, took(1, 1), took(10, 10));
        used.add(NOON, &took(5, 7));
        assert_eq!((used.day.until, used.month.until), (MIDNIGHT, NEXT_MONTH));
        assert_eq!(
            (used.day.spent.tokens, used.month.spent.cost_microusd),
            (6, 17)
        );
        assert_eq!(used.at(MIDNIGHT - 1), used);
        let next = used.at(MIDNIGHT);
        assert_eq!(
            (next.day.until, next.day.spent),
            (MIDNIGHT + DAY, Spent::default())
        );
        assert_eq!(next.month, used.month);
        used.add(NEXT_MONTH, &took(2, 3));
        assert_eq!((used.day.spent, used.month.spent), (took(2, 3), took(2, 3)));
        assert_eq!(used.month.until, NEXT_MONTH + 31 * DAY);
        assert_eq!(
            Used::default().at(NOON),
            Used::of(NOON, Spent::default(), Spent::default())
        );
    }

    #[test]
    fn a_budget_holds_until_it_is_reached_and_the_longest_is_told() {
        let budgets = Budgets {
            tokens_per_day: Some(10),
            cost_per_month_microusd: Some(2_500_000),
            ..Budgets::default()
        };
        let used = |tokens, cost| Used::of(NOON, took(tokens, 0), took(tokens, cost));
        let told = |used: Used, now| {
            let told = used.exhausted(&budgets, now);
            told.map(|told| (told.what, told.until))
        };
        assert_eq!(told(used(9, 2_499_999), NOON), None);
        assert_eq!(
            told(used(10, 0), NOON),
            Some(("10 tokens per day".into(), MIDNIGHT))
        );
        assert_eq!(told(used(10, 0), MIDNIGHT), None);
        let month = Some(("$2.5 per month".into(), NEXT_MONTH));
        assert_eq!(told(used(99, 2_500_000), NOON), month);
        assert_eq!(told(used(99, 2_500_000), MIDNIGHT), month);
        assert_eq!(told(used(99, 2_500_000), NEXT_MONTH), None);
        let nothing = Budgets {
            tokens_per_day: Some(0),
            ..Budgets::default()
        };
        assert!(Used::default().exhausted(&nothing, NOON).is_some());
        assert_eq!(Used::default().exhausted(&Budgets::default(), NOON), None);
    }
}
