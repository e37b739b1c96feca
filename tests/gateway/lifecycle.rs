//! Start, stop and signals (R29, R30), and the contract's rows on `/api/proxy`.

use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::task::JoinSet;

use crate::support::binary::{Binary, fails};
use crate::support::upstream::{DONE, Step, Upstream, delta, finish, sse_head};
use crate::support::{PATIENCE, TestGateway, client, hear, say, say_streamed};

/// `server.drainTimeout` and the two seconds of R29.
const DRAIN_AND_END: Duration = Duration::from_secs(12);

async fn post(gateway: &TestGateway, path: &str) -> (u16, Value) {
    let response = gateway
        .client
        .post(gateway.api(path))
        .send()
        .await
        .expect("an answer");
    (
        response.status().as_u16(),
        response.json().await.expect("JSON"),
    )
}

#[tokio::test]
async fn stop_closes_both_ports_and_start_opens_them_again() {
    let gateway = TestGateway::start().await;
    let (status, shown) = gateway.get(&gateway.api("/api/proxy/status")).await;
    assert_eq!((status, &shown["status"]), (200, &json!("running")));
    for field in [
        "providerRouter",
        "qwenProxy",
        "providers",
        "models",
        "credentials",
        "extensionConnected",
        "message",
    ] {
        assert!(!shown[field].is_null(), "{field}: {shown}");
    }
    assert_eq!(
        shown["providerRouter"]["port"],
        gateway.gateway.router_address().port()
    );
    let (router, qwen) = (gateway.router("/health"), gateway.qwen("/health"));
    let (status, stopped) = post(&gateway, "/api/proxy/stop").await;
    assert_eq!(
        (status, &stopped["status"], &stopped["success"]),
        (200, &json!("stopped"), &json!(true))
    );
    for url in [router, qwen] {
        assert!(
            client()
                .get(url)
                .send()
                .await
                .expect_err("closed")
                .is_connect()
        );
    }
    assert_eq!(
        gateway.get(&gateway.api("/api/health")).await.0,
        200,
        "management stays up"
    );
    assert_eq!(gateway.get(&gateway.api("/api/health/ready")).await.0, 503);
    let (status, again) = post(&gateway, "/api/proxy/stop").await;
    assert_eq!(
        (status, &again["status"]),
        (200, &json!("stopped")),
        "idempotent"
    );
    for _ in 0..2 {
        let (status, started) = post(&gateway, "/api/proxy/start").await;
        assert_eq!(
            (status, &started["status"], &started["success"]),
            (200, &json!("running"), &json!(true))
        );
    }
    assert_eq!(gateway.chat(&say("echo", "hi")).await.status(), 200);
    assert_eq!(gateway.get(&gateway.api("/api/health/ready")).await.0, 200);
    let (_, part) = gateway
        .get(&gateway.api("/api/proxy/status?fields=status,message"))
        .await;
    assert_eq!(part.as_object().expect("an object").len(), 2);
    gateway.stop().await;
}

#[tokio::test]
async fn twenty_starts_at_once_get_the_same_answer() {
    let gateway = Arc::new(TestGateway::start().await);
    post(&gateway, "/api/proxy/stop").await;
    let mut starts = JoinSet::new();
    for _ in 0..20 {
        let gateway = gateway.clone();
        starts.spawn(async move { post(&gateway, "/api/proxy/start").await });
    }
    while let Some(started) = starts.join_next().await {
        let (status, body) = started.expect("no panic");
        assert_eq!((status, &body["status"]), (200, &json!("running")));
    }
    assert_eq!(
        gateway.actor("listener-router").await["incarnation"],
        2,
        "started once more, not twenty times"
    );
    Arc::into_inner(gateway)
        .expect("the only owner")
        .stop()
        .await;
}

#[tokio::test]
async fn a_stop_lets_streams_finish_within_the_grace_and_ends_the_rest_with_an_error() {
    let gateway = TestGateway::start().await;
    let upstream = Upstream::start(|_| {
        vec![
            sse_head(),
            Step::Chunk(delta("one ").into()),
            Step::Gate,
            Step::Chunk(format!("{}{}{DONE}", delta("two"), finish("stop")).into()),
            Step::End,
        ]
    })
    .await;
    gateway.provider("p1", &upstream).await;
    for (finishes, grace) in [(true, 20_000), (false, 50)] {
        post(&gateway, "/api/proxy/start").await;
        let mut response = gateway.chat(&say_streamed("p1/fake", "hi")).await;
        let first = response
            .chunk()
            .await
            .expect("a chunk")
            .expect("not the end");
        let stopping = {
            let url = gateway.api(&format!("/api/proxy/stop?drain_ms={grace}"));
            tokio::spawn(client().post(url).send())
        };
        // Whatever finishes from here on finishes within the grace.
        while client().get(gateway.router("/health")).send().await.is_ok() {
            tokio::task::yield_now().await;
        }
        if finishes {
            upstream.go(1);
        }
        let rest = response.text().await.expect("the body ends in order");
        let heard = hear(&format!("{}{rest}", String::from_utf8_lossy(&first)));
        let stopped: Value = stopping
            .await
            .expect("no panic")
            .expect("an answer")
            .json()
            .await
            .expect("JSON");
        if finishes {
            assert_eq!((heard.text.as_str(), heard.errors.len()), ("one two", 0));
            assert_eq!(
                (&stopped["drained"], &stopped["aborted"]),
                (&json!(1), &json!(0))
            );
        } else {
            assert_eq!(heard.errors[0]["code"], "server_shutdown");
            assert_eq!((heard.done, heard.finish_reasons.len()), (1, 0));
            assert_eq!(
                (&stopped["drained"], &stopped["aborted"]),
                (&json!(0), &json!(1))
            );
        }
    }
    let (status, error) = post(&gateway, "/api/proxy/stop?drain_ms=soon").await;
    assert_eq!(
        (status, &error["error"]["code"]),
        (400, &json!("invalid_drain_ms"))
    );
    gateway.stop().await;
}

#[tokio::test]
async fn a_port_in_use_is_named_and_nobody_is_killed() {
    let gateway = TestGateway::with(&[
        ("system.autoStart", json!(false)),
        ("server.port", json!(0)),
    ])
    .await;
    assert_eq!(gateway.get(&gateway.api("/api/health")).await.0, 200);
    gateway.stop().await;

    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = taken.local_addr().expect("an address").port();
    let gateway = TestGateway::with(&[
        ("system.autoStart", json!(false)),
        ("server.port", json!(port)),
    ])
    .await;
    let (status, error) = post(&gateway, "/api/proxy/start").await;
    assert_eq!(
        (status, &error["error"]["code"]),
        (409, &json!("port_in_use"))
    );
    assert!(
        error["message"]
            .as_str()
            .expect("text")
            .contains(&port.to_string()),
        "{error}"
    );
    drop(taken);
    assert_eq!(
        post(&gateway, "/api/proxy/start").await.0,
        200,
        "once it is free"
    );
    gateway.stop().await;
}

#[test]
fn r30_a_port_in_use_at_the_start_is_one_line_with_the_flag_to_change_it() {
    let dir = TempDir::new().expect("a directory");
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = taken.local_addr().expect("an address").port().to_string();
    for flag in ["--port", "--qwen-port", "--api-port"] {
        let mut flags = vec!["--port", "0", "--qwen-port", "0", "--api-port", "0"];
        let at = flags.iter().position(|f| *f == flag).expect("there");
        flags[at + 1] = &port;
        let (status, said) = fails(dir.path(), &flags);
        assert_eq!(status.code(), Some(1));
        assert!(said.contains(&port) && said.contains(flag), "{said}");
        assert_eq!(said.trim().lines().count(), 1, "{said}");
    }
    let (status, said) = fails(dir.path(), &["--host", "0.0.0.0"]);
    assert_eq!(status.code(), Some(1), "S1: only this machine is served");
    assert!(said.contains("127.0.0.1"), "{said}");
    let (status, said) = fails(dir.path(), &["--set", "server.timeout=5"]);
    assert_eq!(status.code(), Some(1));
    assert!(said.contains("1000 to 600000"), "{said}");
}

#[tokio::test]
async fn r29_sigterm_drains_and_exits_0() {
    let dir = TempDir::new().expect("a directory");
    for signal in ["TERM", "INT"] {
        let mut binary = Binary::start(dir.path(), &[]);
        let url = format!("{}/v1/chat/completions", binary.router);
        let mut response = client()
            .post(&url)
            .json(&say_streamed("echo", "echo:delay 50\none two three four"))
            .send()
            .await
            .expect("an answer");
        let first = response
            .chunk()
            .await
            .expect("a chunk")
            .expect("not the end");
        binary.signal(signal);
        let rest = response.text().await.expect("the stream finishes");
        let heard = hear(&format!("{}{rest}", String::from_utf8_lossy(&first)));
        assert_eq!(
            (heard.text.as_str(), heard.errors.len(), heard.done),
            ("one two three four", 0, 1)
        );
        // What is left of the drain, and the two seconds of R29.
        let status = tokio::task::spawn_blocking(move || binary.exit_within(DRAIN_AND_END));
        let status = status.await.expect("no panic").expect("it ends in time");
        assert_eq!(status.code(), Some(0));
    }
    let database = dir.path().join("qwarden.db");
    assert_eq!(
        crate::support::read_cell::<i64>(
            &database,
            "SELECT count(*) FROM requests WHERE status = 'completed'"
        ),
        2
    );
}

#[tokio::test]
async fn r29_a_second_signal_exits_at_once() {
    let dir = TempDir::new().expect("a directory");
    let mut binary = Binary::start(dir.path(), &["--set", "server.drainTimeout=600000"]);
    let url = format!("{}/v1/chat/completions", binary.router);
    let mut response = client()
        .post(&url)
        .json(&say_streamed("echo", "echo:delay 60000\none two"))
        .send()
        .await
        .expect("an answer");
    response.chunk().await.expect("a chunk");
    binary.signal("TERM");
    // The first signal is in force once the port refuses.
    let closed = async {
        while client()
            .get(format!("{}/health", binary.router))
            .send()
            .await
            .is_ok()
        {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), closed)
        .await
        .expect("the port closes");
    binary.signal("TERM");
    let status = tokio::task::spawn_blocking(move || binary.exit_within(Duration::from_secs(5)));
    let status = status.await.expect("no panic").expect("it ends at once");
    assert_eq!(status.code(), Some(130));
}

/// Takes the five seconds that a start is waited for.
#[tokio::test]
async fn a_start_that_must_wait_for_a_stop_says_so_and_is_carried_out() {
    let gateway = TestGateway::start().await;
    let upstream = Upstream::start(|_| {
        vec![
            sse_head(),
            Step::Chunk(delta("one ").into()),
            Step::Gate,
            Step::Chunk(format!("{}{DONE}", finish("stop")).into()),
            Step::End,
        ]
    })
    .await;
    gateway.provider("p1", &upstream).await;
    let mut response = gateway.chat(&say_streamed("p1/fake", "hi")).await;
    response.chunk().await.expect("a chunk");
    let url = gateway.api("/api/proxy/stop?drain_ms=60000");
    let stopping = tokio::spawn(client().post(url).send());
    while client().get(gateway.router("/health")).send().await.is_ok() {
        tokio::task::yield_now().await;
    }
    let (status, body) = post(&gateway, "/api/proxy/start").await;
    assert_eq!(
        (status, &body["status"], &body["success"]),
        (202, &json!("starting"), &json!(true)),
        "{body}"
    );
    upstream.go(1);
    response.text().await.expect("the stream ends in order");
    let stopped = stopping.await.expect("no panic").expect("an answer");
    assert_eq!(stopped.status(), 200);
    let starting = async {
        loop {
            let (_, now) = gateway.get(&gateway.api("/api/proxy/status")).await;
            if now["status"] == "running" {
                return now;
            }
            tokio::task::yield_now().await;
        }
    };
    let now = tokio::time::timeout(PATIENCE, starting).await;
    let now = now.expect("it starts");
    let router = &now["providerRouter"];
    assert!(
        router["started_at"].as_i64() > Some(1_700_000_000_000),
        "{router}"
    );
    gateway.stop().await;
}
