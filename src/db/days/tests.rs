use proptest::prelude::*;

use super::*;
use crate::db::history::ExchangeStatus;
use crate::db::stats::{self, GroupBy, StatsFilter};
use crate::db::testing;
use crate::db::usage::{self, Spent};

/// What may happen to the sums, in an order.
#[derive(Clone, Debug)]
enum Step {
    /// An exchange ended: at an hour, by one of some providers and models, so long.
    Counted(i64, usize, usize, i64),
    /// All days that are over at an hour get their sums.
    Closed(i64),
}

const PROVIDERS: [&str; 3] = ["", "p", "q"];
const MODELS: [&str; 3] = ["", "m", "n"];
/// Days that are played with.
const DAYS: i64 = 4;

fn step() -> impl Strategy<Value = Step> {
    let hours = 0..DAYS * 24;
    prop_oneof![
        6 => (hours, 0usize..3, 0usize..3, 0i64..100_000)
            .prop_map(|(hour, provider, model, ms)| Step::Counted(hour, provider, model, ms)),
        1 => (0..DAYS * 24 + 30).prop_map(Step::Closed),
    ]
}

fn count(conn: &Connection, hour: i64, provider: usize, model: usize, ms: i64) {
    let spent = Spent {
        provider: PROVIDERS[provider],
        model: MODELS[model],
        finished_at: hour * HOUR_MS + ms,
        status: [
            ExchangeStatus::Completed,
            ExchangeStatus::Failed,
            ExchangeStatus::ClientClosed,
        ][provider],
        attempts: model,
        prompt_tokens: Some(ms),
        completion_tokens: Some(3),
        total_tokens: None,
        cached_tokens: Some(2),
        reasoning_tokens: Some(1),
        cost_microusd: Some(ms / 2),
        duration_ms: ms,
        ttft_ms: (model > 0).then_some(ms / 3),
    };
    usage::add_spent(conn, None, &spent).unwrap();
}

/// As the retention does it. Returns how many days were closed.
fn close_all(conn: &Connection, now: i64) -> usize {
    let (mut after, mut days) = (i64::MIN, 0);
    while let Some(closed) = next_over(conn, after, now).unwrap() {
        assert!(closed.day + DAY_MS <= now);
        after = closed.day + DAY_MS;
        assert!(close(conn, &closed).unwrap() > 0);
        days += 1;
    }
    assert_eq!(next_over(conn, i64::MIN, now).unwrap(), None);
    days
}

fn bound() -> impl Strategy<Value = Option<i64>> {
    prop::option::of((-2..=DAYS * 24 + 2, 0..HOUR_MS).prop_map(|(hour, ms)| {
        // The ends of days are where it could go wrong.
        (hour * HOUR_MS + if ms % 3 == 0 { 0 } else { ms }).max(0)
    }))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 192, ..ProptestConfig::default() })]

    #[test]
    fn sums_are_the_same_with_and_without_closed_days(
        steps in prop::collection::vec(step(), 1..60),
        from in bound(),
        until in bound(),
        provider in prop::option::of(0usize..3),
        model in prop::option::of(0usize..3),
    ) {
        let (closing, plain) = (testing::database(), testing::database());
        for step in steps {
            match step {
                Step::Counted(hour, provider, model, ms) => {
                    count(&closing, hour, provider, model, ms);
                    count(&plain, hour, provider, model, ms);
                }
                Step::Closed(hour) => {
                    close_all(&closing, hour * HOUR_MS);
                }
            }
        }
        let wanted = StatsFilter {
            from,
            until,
            provider: provider.map(|at| PROVIDERS[at].into()),
            model: model.map(|at| MODELS[at].into()),
            session: None,
            sessions: 5,
        };
        for by in [
            None,
            Some(GroupBy::Provider),
            Some(GroupBy::Model),
            Some(GroupBy::Hour),
            Some(GroupBy::Day),
            Some(GroupBy::Session),
        ] {
            prop_assert_eq!(
                stats::sums(&closing, &wanted, by).unwrap(),
                stats::sums(&plain, &wanted, by).unwrap(),
                "{:?}", by
            );
        }
        prop_assert_eq!(usage::totals(&closing).unwrap(), usage::totals(&plain).unwrap());
    }
}

fn rows(conn: &Connection, table: &str) -> i64 {
    let sql = format!("SELECT count(*) FROM {table}");
    conn.query_row(&sql, [], |row| row.get(0)).unwrap()
}

#[test]
fn a_day_is_closed_when_it_is_over_and_opened_by_what_comes_late() {
    let conn = testing::database();
    for hour in [0, 5, 23, 24, 49] {
        count(&conn, hour, 1, 1, 10);
        count(&conn, hour, 2, 1, 10);
    }
    assert_eq!(close_all(&conn, DAY_MS - 1), 0, "it is not over");
    assert_eq!(close_all(&conn, 2 * DAY_MS + HOUR_MS), 2);
    assert_eq!(
        (rows(&conn, "usage_days"), rows(&conn, "usage_hours")),
        (4, 4)
    );
    assert_eq!(
        spans(&conn, 0, i64::MAX).unwrap(),
        [
            Span {
                from: 0,
                until: 2 * DAY_MS - 1,
                is_closed: true
            },
            Span {
                from: 2 * DAY_MS,
                until: i64::MAX,
                is_closed: false
            },
        ]
    );
    count(&conn, 12, 1, 1, 10);
    assert_eq!(
        (rows(&conn, "usage_days"), rows(&conn, "usage_hours")),
        (2, 1)
    );
    assert_eq!(close_all(&conn, 2 * DAY_MS), 1);
}

#[test]
fn what_was_counted_since_the_sums_were_read_keeps_the_day_open() {
    let conn = testing::database();
    count(&conn, 3, 1, 1, 10);
    let read = next_over(&conn, 0, DAY_MS).unwrap().unwrap();
    count(&conn, 3, 1, 1, 10);
    assert_eq!(close(&conn, &read).unwrap(), 0);
    assert_eq!(rows(&conn, "usage_days"), 0);
}

#[test]
fn a_question_about_whole_days_reads_no_hours() {
    let conn = testing::database();
    for hour in 0..48 {
        count(&conn, hour, 1, 1, 10);
    }
    close_all(&conn, 2 * DAY_MS);
    // What is left of the hours would show.
    conn.execute_batch("DELETE FROM usage_rollups; DELETE FROM usage_latencies")
        .unwrap();
    for (from, until, counted) in [
        (0, 2 * DAY_MS - 1, 48),
        (1, 2 * DAY_MS - HOUR_MS, 48),
        (HOUR_MS, 2 * DAY_MS - HOUR_MS, 24),
        (0, 2 * DAY_MS - HOUR_MS - 1, 24),
    ] {
        let wanted = StatsFilter {
            from: Some(from),
            until: Some(until),
            ..StatsFilter::default()
        };
        let (all, _) = stats::sums(&conn, &wanted, None).unwrap();
        assert_eq!(all.requests, counted, "{from} {until}");
    }
}
