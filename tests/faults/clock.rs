//! Jumps of the wall clock (R31), by libfaketime: the timers' clock is left alone.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::binary::Binary;
use crate::support::service::provider;
use crate::support::upstream::{DONE, Step, Upstream, delta, finish, json_answer, sse_head, whole};
use crate::support::{client, figures, hear, read_cell, say, say_streamed};

/// Where the distributions put it.
fn library() -> PathBuf {
    let places = [
        "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1",
        "/usr/lib/aarch64-linux-gnu/faketime/libfaketimeMT.so.1",
        "/usr/lib64/faketime/libfaketimeMT.so.1",
    ];
    let found = places.iter().map(Path::new).find(|place| place.exists());
    found
        .expect("libfaketime is installed (apt-get install libfaketime)")
        .to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn r31_jumps_of_a_month_change_no_timer() {
    const JUMPS: [&str; 3] = ["+30d", "-30d", "+0d"];
    let dir = TempDir::new().expect("a directory");
    let offset = dir.path().join("offset");
    fs::write(&offset, "+0d\n").expect("written");
    let library = library();
    let variables = [
        ("LD_PRELOAD", library.to_str().expect("text")),
        ("FAKETIME_TIMESTAMP_FILE", offset.to_str().expect("text")),
        ("FAKETIME_NO_CACHE", "1"),
        ("FAKETIME_DONT_FAKE_MONOTONIC", "1"),
        ("NO_FAKE_STAT", "1"),
    ];
    let data = dir.path().join("data");
    let flags = [
        "--set",
        "server.timeout=60000",
        "--set",
        "history.commitWait=5000",
    ];
    let binary = Binary::with(&data, &flags, &variables, Stdio::null());
    let upstream = Upstream::start(|request| {
        let text = request.json()["messages"][0]["content"].to_string();
        if text.contains("fail") {
            return vec![Step::Close];
        }
        if text.contains("quick") {
            return vec![json_answer(200, &whole("quick"))];
        }
        let mut steps = vec![sse_head()];
        for jump in JUMPS {
            steps.extend([Step::Chunk(delta(jump).into()), Step::Gate]);
        }
        steps.extend([
            Step::Chunk(format!("{}{DONE}", finish("stop")).into()),
            Step::End,
        ]);
        steps
    })
    .await;
    let client = client();
    let url = format!("{}/v1/chat/completions", binary.router);
    let api = |path: &str| format!("{}{path}", binary.management);
    for id in ["p1", "p2"] {
        let created = client
            .post(api("/api/providers"))
            .json(&provider(id, &upstream.base_url()));
        assert_eq!(created.send().await.expect("an answer").status(), 201);
    }
    // A breaker that is open: the jump must neither close it nor keep it open for a month.
    for _ in 0..5 {
        let _ = client
            .post(&url)
            .json(&say("p2/fake", "fail"))
            .send()
            .await
            .expect("an answer");
    }
    let is_served = || async {
        let asked = client.post(&url).json(&say("p2/fake", "quick")).send();
        asked.await.expect("an answer").status() == 200
    };
    assert!(!is_served().await, "the breaker is open");
    let clock = || async {
        let health = client
            .get(api("/api/health"))
            .send()
            .await
            .expect("an answer");
        let health: Value = health.json().await.expect("JSON");
        health["timestamp"].to_string()
    };
    let mut stream = client
        .post(&url)
        .json(&say_streamed("p1/fake", "hi"))
        .send()
        .await
        .expect("an answer");
    let mut heard = Vec::new();
    heard.extend(stream.chunk().await.expect("a chunk").expect("not the end"));
    let first = clock().await;
    let mut days = Vec::new();
    for jump in JUMPS {
        fs::write(&offset, format!("{jump}\n")).expect("written");
        let began = Instant::now();
        days.push(clock().await);
        // Everything that asks a clock is asked: a completion, a change, the tree.
        let answer = client
            .post(&url)
            .json(&say("echo", jump))
            .send()
            .await
            .expect("an answer");
        assert_eq!(answer.status(), 200, "{jump}");
        let put = client
            .put(api("/api/settings/session.timeout"))
            .json(&json!({"value": 60_000}));
        assert_eq!(put.send().await.expect("an answer").status(), 200, "{jump}");
        let ready = client
            .get(api("/api/health/ready"))
            .send()
            .await
            .expect("an answer");
        assert_eq!(ready.status(), 200, "{jump}");
        upstream.go(1);
        heard.extend(
            stream
                .chunk()
                .await
                .expect("the stream goes on")
                .expect("not the end"),
        );
        assert!(
            began.elapsed() < Duration::from_secs(10),
            "{jump}: nothing waits for a month"
        );
    }
    assert!(
        days.iter().take(2).all(|day| day[..11] != first[..11]),
        "the clock did jump: {first} {days:?}"
    );
    let rest = stream.text().await.expect("it ends");
    let heard = hear(&format!("{}{rest}", String::from_utf8_lossy(&heard)));
    assert_eq!(
        (heard.text.as_str(), heard.done, heard.errors.len()),
        (JUMPS.concat().as_str(), 1, 0)
    );
    // The breaker lets a probe through after its 10 s, by the timers' clock.
    let waited = Instant::now();
    while !is_served().await {
        assert!(
            waited.elapsed() < Duration::from_secs(25),
            "it is open for a month"
        );
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let completed: i64 = read_cell(
        &data.join("qwarden.db"),
        "SELECT count(*) FROM requests WHERE status = 'completed'",
    );
    assert_eq!(completed, 5, "no exchange is lost");
    figures::record("R31", "jumps of 30 days under an open stream", JUMPS.len());
}
