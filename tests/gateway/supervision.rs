//! Crashes stay local (R10 to R14), seen from outside.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::support::upstream::{DONE, Step, Upstream, delta, finish, sse_head};
use crate::support::{PATIENCE, TestGateway, figures, hear, read_cell, say, say_streamed};

const ACTORS: [&str; 11] = [
    "database",
    "events",
    "credentials",
    "qwen-sessions",
    "retention",
    "router",
    "gateway",
    "listener-qwen",
    "listener-router",
    "listener-ollama",
    "listener-management",
];

#[tokio::test]
async fn the_tree_is_seen_live() {
    let gateway = TestGateway::start().await;
    gateway.chat(&say("echo", "hi")).await;
    let (status, tree) = gateway.get(&gateway.api("/api/supervision")).await;
    assert_eq!((status, &tree["name"]), (200, &json!("root")));
    for name in ACTORS {
        let node = gateway.actor(name).await;
        assert_eq!(
            (&node["state"], &node["incarnation"], &node["restarts"]),
            (&json!("running"), &json!(1), &json!(0)),
            "{name}"
        );
        for field in ["mailbox_depth", "messages_handled", "uptime"] {
            assert!(node[field].is_u64(), "{name} shows {field}");
        }
        assert_eq!(node["last_failure"], Value::Null);
    }
    let router = gateway.actor("router").await;
    assert!(router["messages_handled"].as_u64() > Some(0));
    gateway.stop().await;
}

#[tokio::test]
async fn r10_no_crash_breaks_a_stream_or_loses_a_row() {
    const STREAMS: usize = 50;
    const WORDS: usize = 2 * ACTORS.len();
    let gateway = Arc::new(TestGateway::start().await);
    let upstream = Upstream::start(|_| {
        let mut steps = vec![sse_head()];
        for word in 0..WORDS {
            steps.extend([Step::Chunk(delta(&format!("w{word} ")).into()), Step::Gate]);
        }
        steps.extend([
            Step::Chunk(format!("{}{DONE}", finish("stop")).into()),
            Step::End,
        ]);
        steps
    })
    .await;
    gateway.provider("p1", &upstream).await;
    let mut streams = JoinSet::new();
    for number in 0..STREAMS {
        let gateway = gateway.clone();
        streams.spawn(async move {
            let response = gateway
                .chat(&say_streamed("p1/fake", &format!("stream {number}")))
                .await;
            hear(&response.text().await.expect("the stream is whole"))
        });
    }
    upstream.wait_for(STREAMS).await;
    let mut recovered = Vec::new();
    for actor in ACTORS {
        upstream.go(STREAMS);
        let before = gateway.actor(actor).await["incarnation"]
            .as_u64()
            .expect("a number");
        let crashed = Instant::now();
        assert_eq!(gateway.crash(actor).await, 200, "{actor}");
        let node = gateway.incarnation_after(actor, before).await;
        recovered.push(crashed.elapsed());
        assert!(
            node["restarts"].as_u64() > Some(0),
            "{actor} shows its restart"
        );
        assert!(
            node["last_failure"]["reason"]
                .as_str()
                .expect("a reason")
                .contains("injected fault"),
            "{actor}: {node}"
        );
        upstream.go(STREAMS);
        // And the capability is back: a new completion goes through every actor of its path.
        assert_eq!(
            gateway.chat(&say("echo", "still there")).await.status(),
            200,
            "after {actor}"
        );
    }
    let expected = (0..WORDS)
        .map(|word| format!("w{word} "))
        .collect::<Vec<_>>()
        .concat();
    while let Some(heard) = streams.join_next().await {
        let heard = heard.expect("no stream breaks");
        assert_eq!(
            (heard.text.as_str(), heard.done, heard.errors.len()),
            (expected.as_str(), 1, 0)
        );
    }
    let completed = i64::try_from(STREAMS + ACTORS.len()).expect("few");
    assert_eq!(
        gateway.cell::<i64>("SELECT count(*) FROM requests WHERE status = 'completed'"),
        completed
    );
    assert_eq!(
        gateway.cell::<i64>("SELECT count(*) FROM responses"),
        completed
    );
    figures::record("R10", "streams held through a crash of each actor", STREAMS);
    figures::record("R10", "actors crashed", ACTORS.len());
    figures::record_times(
        "R10",
        "crash to serving again, seen by a client",
        &mut recovered,
    );
    let (_, health) = gateway.get(&gateway.api("/api/health")).await;
    assert_eq!(health["status"], "ok", "{health}");
    assert!(health["actors"]["router"]["restarts"].as_u64() > Some(0));
    Arc::into_inner(gateway)
        .expect("the only owner")
        .stop()
        .await;
}

#[tokio::test]
async fn two_hundred_management_calls_across_restarts_all_succeed() {
    let gateway = Arc::new(TestGateway::start().await);
    let mut calls = JoinSet::new();
    for number in 0..200 {
        let caller = gateway.clone();
        calls.spawn(async move {
            let body = json!({"id": format!("p{number}"), "name": format!("Provider {number}"), "type": "openai-compatible",
                "config": {"baseURL": "http://127.0.0.1:9/v1"}});
            caller.post(&caller.api("/api/providers"), &body).await.status().as_u16()
        });
        if number % 40 == 20 {
            for actor in ["router", "database"] {
                gateway.crash(actor).await;
            }
        }
    }
    while let Some(status) = calls.join_next().await {
        assert_eq!(status.expect("no panic"), 201);
    }
    assert_eq!(
        gateway.cell::<i64>("SELECT count(*) FROM providers WHERE origin = 'user'"),
        200
    );
    let (_, list) = gateway
        .get(&gateway.api("/api/providers?limit=1000&type=openai-compatible"))
        .await;
    assert_eq!(list["total"], 200, "the registry knows them all");
    Arc::into_inner(gateway)
        .expect("the only owner")
        .stop()
        .await;
}

#[tokio::test]
async fn r12_six_crashes_melt_one_capability_which_heals_by_itself() {
    let gateway = TestGateway::start().await;
    for crash in 1..=6 {
        let before = gateway.actor("router").await["incarnation"]
            .as_u64()
            .expect("a number");
        assert_eq!(gateway.crash("router").await, 200, "crash {crash}");
        if crash < 6 {
            gateway.incarnation_after("router", before).await;
        }
    }
    // The sixth crash within the window: paused, and everything else works.
    let healed = gateway.incarnation_after("router", 6).await;
    assert_eq!(healed["restarts"], 6);
    let (_, log) = gateway.get(&gateway.api("/api/supervision/events")).await;
    let of_router = |event: &str| {
        let events = log["events"].as_array().expect("a list");
        events
            .iter()
            .filter(|e| e["detail"]["actor"] == "router" && e["action"] == event)
            .count()
    };
    assert_eq!((of_router("failed"), of_router("melted")), (5, 1), "{log}");
    assert_eq!(
        gateway.chat(&say("echo", "hi")).await.status(),
        200,
        "healed"
    );
    gateway.stop().await;
}

#[tokio::test]
async fn a_melted_capability_answers_503_while_the_rest_serves() {
    let gateway = TestGateway::start().await;
    // Each melted retry doubles the pause: crash on until it is long enough to be seen from outside.
    let melted = async {
        loop {
            let node = gateway.actor("router").await;
            if node["state"] == "melted" && node["retry_in_ms"].as_u64() > Some(1_000) {
                return;
            }
            if node["state"] == "running" {
                gateway.crash("router").await;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, melted)
        .await
        .expect("it melts");
    // The pause is longer than nothing but may be shorter than the caller's patience: a refusal comes at once only
    // when waiting could not help, so the pause must outlast the deadline of a plan.
    let (status, health) = gateway.get(&gateway.api("/api/health")).await;
    assert_eq!((status, &health["status"]), (200, &json!("degraded")));
    let (status, ready) = gateway.get(&gateway.api("/api/health/ready")).await;
    assert_eq!((status, &ready["status"]), (503, &json!("not_ready")));
    assert_eq!(gateway.actor("credentials").await["state"], "running");
    gateway.incarnation_after("router", 1).await;
    gateway.stop().await;
}

#[tokio::test]
async fn one_child_is_restarted_on_request() {
    let gateway = TestGateway::start().await;
    for actor in ACTORS {
        let url = gateway.api(&format!("/api/supervision/{actor}/restart"));
        let response = gateway.client.post(url).send().await.expect("an answer");
        assert_eq!(response.status(), 200, "{actor}");
        let node = gateway.actor(actor).await;
        assert!(node["incarnation"].as_u64() >= Some(2), "{actor}: {node}");
        assert_eq!(
            (&node["state"], &node["last_failure"]),
            (&json!("running"), &Value::Null),
            "{actor}"
        );
    }
    let url = gateway.api("/api/supervision/nobody/restart");
    let response = gateway.client.post(url).send().await.expect("an answer");
    assert_eq!(response.status(), 404);
    assert!(
        response.text().await.expect("text").contains("router"),
        "it names those there are"
    );
    assert_eq!(gateway.chat(&say("echo", "hi")).await.status(), 200);
    gateway.stop().await;
}

#[tokio::test]
async fn r11_a_dead_database_thread_is_an_actors_crash() {
    let gateway = TestGateway::start().await;
    let response = gateway
        .client
        .post(gateway.api("/api/fault/database-thread"))
        .send()
        .await
        .expect("an answer");
    let outcome: Value = response.json().await.expect("JSON");
    assert!(
        outcome["outcome"]
            .as_str()
            .expect("text")
            .contains("crashed"),
        "given up after it killed again: {outcome}"
    );
    let node = gateway.incarnation_after("database", 1).await;
    assert!(node["restarts"].as_u64() > Some(1));
    assert_eq!(gateway.chat(&say("echo", "hi")).await.status(), 200);
    assert_eq!(gateway.cell::<i64>("SELECT count(*) FROM responses"), 1);
    gateway.stop().await;
}

/// A change that began is made whole, with its row of the audit log, although its client left and a stop was asked for.
#[tokio::test(flavor = "multi_thread")]
async fn a_stop_lets_changes_under_way_end() {
    let gateway = TestGateway::start().await;
    let audited = "SELECT count(*) FROM audit_log WHERE entity = 'setting'";
    let mut changes = JoinSet::new();
    for number in 0..40 {
        let url = gateway.api("/api/settings/session.timeout");
        let put = gateway
            .client
            .put(url)
            .json(&json!({"value": 60_000 + number}));
        changes.spawn(put.send());
    }
    // One is answered, so those that wait for their turn have been read.
    let first = changes.join_next().await.expect("forty").expect("no panic");
    assert_eq!(first.expect("an answer").status(), 200);
    changes.abort_all();
    let database = gateway.database();
    let dir = gateway.stop().await;
    let (count, last): (i64, i64) = (
        read_cell(&database, audited),
        read_cell(
            &database,
            "SELECT json_extract(after, '$') FROM audit_log ORDER BY seq DESC",
        ),
    );
    let stored: i64 = read_cell(
        &database,
        "SELECT json_extract(value, '$') FROM settings WHERE key = 'session.timeout'",
    );
    assert!(count > 0);
    assert_eq!(stored, last, "what is stored was audited");
    drop(dir);
}

/// Whoever leaves just before a stop has a row that says how far its answer came.
#[tokio::test(flavor = "multi_thread")]
async fn a_stop_lets_exchanges_be_recorded_to_their_end() {
    for _ in 0..5 {
        let gateway = TestGateway::start().await;
        for _ in 0..10 {
            let answer = gateway.chat(&say_streamed("echo", "hi there")).await;
            assert_eq!(answer.status(), 200);
        }
        let database = gateway.database();
        let dir = gateway.stop().await;
        let left: i64 = read_cell(
            &database,
            "SELECT count(*) FROM requests WHERE status NOT IN ('completed', 'client_closed')",
        );
        assert_eq!(left, 0);
        drop(dir);
    }
}

#[tokio::test]
async fn r02_rows_queued_while_the_writer_is_down_are_stored() {
    let gateway = Arc::new(TestGateway::with(&[("history.commitWait", json!(0))]).await);
    let mut chats = JoinSet::new();
    for number in 0..100 {
        let caller = gateway.clone();
        chats.spawn(async move {
            caller
                .chat(&say("echo", &format!("chat {number}")))
                .await
                .status()
        });
        if number % 25 == 0 {
            gateway.crash("database").await;
        }
    }
    while let Some(status) = chats.join_next().await {
        assert_eq!(status.expect("no panic"), 200);
    }
    let stored = async {
        while gateway.cell::<i64>("SELECT count(*) FROM responses") < 100 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, stored)
        .await
        .expect("every row comes");
    Arc::into_inner(gateway)
        .expect("the only owner")
        .stop()
        .await;
}

#[tokio::test]
async fn each_port_is_told_for_itself() {
    let gateway = TestGateway::start().await;
    let (_, health) = gateway.get(&gateway.api("/api/health")).await;
    assert_eq!(
        (&health["checks"]["router"], &health["checks"]["qwen"]),
        (&json!("ok"), &json!("ok"))
    );
    // A listener that fails again and again is paused.
    let failing = async {
        loop {
            gateway.crash("listener-qwen").await;
            let (_, health) = gateway.get(&gateway.api("/api/health")).await;
            assert_eq!(health["checks"]["router"], "ok");
            if health["checks"]["qwen"] == "failing" {
                return;
            }
        }
    };
    tokio::time::timeout(PATIENCE, failing)
        .await
        .expect("it is told");
    let (_, now) = gateway.get(&gateway.api("/api/proxy/status")).await;
    assert_eq!(
        (&now["status"], &now["qwenProxy"]["running"]),
        (&json!("partial"), &json!(false))
    );
    assert_eq!(now["providerRouter"]["running"], true);
    assert!(now["qwenProxy"]["last_error"].is_string(), "{now}");
    gateway.stop().await;
}
