use super::*;
use crate::db::history::{self, RequestRow};
use crate::db::testing::{self, sample_outcome, sample_request};

/// Ten exchanges, a day apart, the last one on day 10.
fn history() -> Connection {
    let conn = testing::database();
    for day in 1..=10 {
        let request = RequestRow {
            timestamp: day * DAY_MS,
            ..RequestRow::clone(&sample_request(&format!("r{day}")))
        };
        history::finish(&conn, &request, &sample_outcome(&format!("a{day}"))).unwrap();
    }
    conn
}

fn left(conn: &Connection) -> i64 {
    number(conn, "SELECT count(*) FROM requests", params![]).unwrap()
}

fn remove_all(conn: &Connection, plan: &Plan) {
    for (what, count) in &plan.outlived {
        let mut removed = 0;
        loop {
            match remove(conn, *what, 2).unwrap() {
                0 => break,
                some => removed += i64::try_from(some).unwrap(),
            }
        }
        assert_eq!(removed, *count, "{what:?}");
    }
}

#[test]
fn age_and_number_decide_together() {
    for (rules, kept) in [
        (
            Rules {
                days: 4,
                ..Rules::default()
            },
            5,
        ),
        (
            Rules {
                requests: 3,
                ..Rules::default()
            },
            3,
        ),
        (
            Rules {
                days: 4,
                requests: 7,
                ..Rules::default()
            },
            5,
        ),
        (
            Rules {
                days: 9,
                requests: 2,
                ..Rules::default()
            },
            2,
        ),
        (
            Rules {
                days: 20,
                requests: 20,
                ..Rules::default()
            },
            10,
        ),
    ] {
        let conn = history();
        let plan = plan(&conn, &rules, 10 * DAY_MS).unwrap();
        assert_eq!(plan.counts().requests, 10 - kept, "{rules:?}");
        remove_all(&conn, &plan);
        assert_eq!(left(&conn), kept, "{rules:?}");
        let words = number(
            &conn,
            "SELECT count(*) FROM history_words_docsize",
            params![],
        );
        assert_eq!(words.unwrap(), kept, "words go along");
        let counted = number(&conn, "SELECT sum(requests) FROM usage_rollups", params![]);
        assert_eq!(counted.unwrap(), 10, "what was counted stays");
    }
}

#[test]
fn bodies_leave_notes_of_their_length_and_no_words() {
    let conn = history();
    let long = json!({"messages": "word ".repeat(2_000)}).to_string();
    let request = RequestRow {
        timestamp: 5,
        openai_request: body::Body::of(long.clone()),
        ..RequestRow::clone(&sample_request("long"))
    };
    history::finish(&conn, &request, &sample_outcome("a")).unwrap();
    let rules = Rules {
        bodies_days: 3,
        requests: 10,
        ..Rules::default()
    };
    // The oldest of them goes as a whole.
    let planned = plan(&conn, &rules, 10 * DAY_MS).unwrap().counts();
    assert_eq!((planned.requests, planned.bodies), (1, 6));
    let rules = Rules {
        requests: 0,
        ..rules
    };
    let plan_now = plan(&conn, &rules, 10 * DAY_MS).unwrap();
    remove_all(&conn, &plan_now);
    assert_eq!(plan(&conn, &rules, 10 * DAY_MS).unwrap().counts().bodies, 0);
    assert_eq!(left(&conn), 11);
    let note = number(
        &conn,
        "SELECT openai_request ->> '$.qwarden.bytes' FROM requests WHERE request_id = 'long'",
        params![],
    );
    assert_eq!(note.unwrap(), i64::try_from(long.len()).unwrap());
    let words = number(
        &conn,
        "SELECT count(*) FROM history_words_docsize",
        params![],
    );
    assert_eq!(words.unwrap(), 4);
}

#[test]
fn what_is_under_way_stays() {
    let conn = testing::database();
    history::begin(&conn, &sample_request("r")).unwrap();
    let rules = Rules {
        days: 1,
        bodies_days: 1,
        ..Rules::default()
    };
    let plan = plan(&conn, &rules, i64::MAX).unwrap();
    assert_eq!(plan.counts(), Counts::default());
    assert_eq!(remove(&conn, Outlived::oldest(), 9).unwrap(), 0);
}

#[test]
fn the_size_is_guessed_from_what_all_take() {
    let file = FileSize {
        bytes: 1_200,
        free_bytes: 200,
    };
    let rules = |bytes| Rules {
        bytes,
        ..Rules::default()
    };
    for (bytes, gone, more) in [
        (0, 0, 0),
        (1_000, 0, 0),
        (900, 0, 10),
        (900, 4, 6),
        (900, 20, 0),
        (1, 30, 70),
    ] {
        assert_eq!(
            by_size(100, gone, &file, &rules(bytes)),
            more,
            "{bytes} {gone}"
        );
    }
}
