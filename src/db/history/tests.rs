use std::sync::Arc;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::db::body::Body;
use crate::db::testing::{self, sample_outcome, sample_request};

fn shown(conn: &Connection, request_id: &str) -> Value {
    serde_json::to_value(exchange(conn, &RowName::read(request_id)).unwrap().unwrap()).unwrap()
}

fn rollup(conn: &Connection, column: &str) -> i64 {
    conn.query_row(
        &format!("SELECT sum({column}) FROM usage_rollups"),
        [],
        |row| row.get(0),
    )
    .unwrap()
}

#[test]
fn an_exchange_is_read_back_as_the_contract_names_it() {
    let conn = testing::database();
    begin(&conn, &sample_request("r1")).unwrap();
    assert_eq!(shown(&conn, "r1")["status"], "in_progress");
    assert_eq!(shown(&conn, "r1")["response"], Value::Null);
    finish(&conn, &sample_request("r1"), &sample_outcome("a1")).unwrap();
    let shown = shown(&conn, "r1");
    assert_eq!(shown["status"], "completed");
    assert_eq!(shown["provider"], "p2");
    assert_eq!(shown["openai_request"], json!({"model": "m"}));
    assert_eq!(shown["stream"], true);
    assert_eq!(shown["response"]["openai_response"], json!({"id": "x"}));
    assert_eq!(shown["response"]["request_id"], shown["id"]);
    assert_eq!(shown["response"]["duration_ms"], 9);
    assert_eq!(shown["attempts"].as_array().map(Vec::len), Some(2));
    assert_eq!(shown["attempts"][0]["outcome"], "failed");
    assert!(exchange(&conn, &RowName::read("r9")).unwrap().is_none());
    assert_eq!(
        counts(&conn).unwrap(),
        HistoryCounts {
            requests: 1,
            responses: 1,
            in_progress: 0
        }
    );
}

#[test]
fn usage_is_counted_once_and_survives_its_history() {
    let conn = testing::database();
    for response in ["a1", "a1", "a2"] {
        finish(&conn, &sample_request("r1"), &sample_outcome(response)).unwrap();
    }
    finish(&conn, &sample_request("r2"), &sample_outcome("a3")).unwrap();
    conn.execute("DELETE FROM requests", []).unwrap();
    let sums = [
        "requests",
        "completed",
        "prompt_tokens",
        "total_tokens",
        "attempts",
        "hour",
    ]
    .map(|column| rollup(&conn, column));
    assert_eq!(sums, [2, 2, 20, 30, 4, 7_200_000]);
    assert_eq!(
        counts(&conn).unwrap(),
        HistoryCounts {
            requests: 0,
            responses: 0,
            in_progress: 0
        }
    );
}

#[test]
fn absurd_token_counts_do_not_end_the_counting() {
    let conn = testing::database();
    for number in 0..20 {
        let mut outcome = sample_outcome(&format!("a{number}"));
        outcome.prompt_tokens = Some(i64::MAX);
        outcome.total_tokens = Some(-5);
        finish(&conn, &sample_request(&format!("r{number}")), &outcome).unwrap();
    }
    assert_eq!(rollup(&conn, "prompt_tokens"), 20_000_000_000);
    assert_eq!(rollup(&conn, "total_tokens"), 0);
}

#[test]
fn made_up_models_make_no_rollup_rows() {
    let conn = testing::database();
    for number in 0..3 {
        let mut request = RequestRow::clone(&sample_request(&format!("r{number}")));
        request.model = format!("made-up-{number}");
        let mut outcome = sample_outcome(&format!("a{number}"));
        outcome.provider_id = None;
        outcome.status = ExchangeStatus::Failed;
        finish(&conn, &request, &outcome).unwrap();
    }
    assert_eq!((rollup(&conn, "1"), rollup(&conn, "failed")), (1, 3));
}

#[test]
fn only_what_began_earlier_is_interrupted() {
    let conn = testing::database();
    for (id, timestamp) in [("old", 10), ("new", 20)] {
        begin(
            &conn,
            &RequestRow {
                timestamp,
                ..RequestRow::clone(&sample_request(id))
            },
        )
        .unwrap();
    }
    assert_eq!(interrupt(&conn, 20).unwrap(), 1);
    assert_eq!(
        (
            shown(&conn, "old")["status"].clone(),
            shown(&conn, "new")["status"].clone()
        ),
        (json!("interrupted"), json!("in_progress"))
    );
    finish(&conn, &sample_request("old"), &sample_outcome("a1")).unwrap();
    assert_eq!(
        shown(&conn, "old")["status"],
        "completed",
        "its row was only late"
    );
}

#[test]
fn a_deleted_session_costs_no_history() {
    let conn = testing::database();
    let request = RequestRow {
        session_id: Some("gone".into()),
        ..RequestRow::clone(&sample_request("r1"))
    };
    finish(&conn, &request, &sample_outcome("a1")).unwrap();
    assert_eq!(shown(&conn, "r1")["session_id"], Value::Null);
}

#[test]
fn a_body_nested_too_deep_is_kept_as_text() {
    let conn = testing::database();
    let deep = format!("{}{}", "[".repeat(3_000), "]".repeat(3_000));
    let request = RequestRow {
        openai_request: Body::of(deep.clone()),
        ..RequestRow::clone(&sample_request("r1"))
    };
    let mut outcome = sample_outcome("a1");
    outcome.openai_response = Some("no json".into());
    finish(&conn, &request, &outcome).unwrap();
    assert_eq!(shown(&conn, "r1")["openai_request"], Value::String(deep));
    assert_eq!(shown(&conn, "r1")["response"]["openai_response"], "no json");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn any_text_a_client_sends_is_stored(body in any::<String>(), model in any::<String>(), error in any::<String>()) {
        let conn = testing::database();
        let request = Arc::new(RequestRow {
            openai_request: Body::of(body),
            model: model.clone(),
            ..RequestRow::clone(&sample_request("r1"))
        });
        let mut outcome = sample_outcome("a1");
        outcome.error = Some(error.clone());
        finish(&conn, &request, &outcome).unwrap();
        let shown = shown(&conn, "r1");
        prop_assert_eq!(&shown["model"], &Value::String(model));
        prop_assert_eq!(&shown["response"]["error"], &Value::String(error));
    }
}
