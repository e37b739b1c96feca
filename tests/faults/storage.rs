//! A database that cannot be written: management says so soon (R3), completions go on (R4), and it heals alone (R6).

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::service::provider;
use crate::support::strace::Injection;
use crate::support::{PATIENCE, Service, figures, read_cell, say};

/// R3 and R6: how soon it says so, and how soon it heals. Besides, what a busy machine takes for an answer.
const SOON: Duration = Duration::from_secs(5);
const SLACK: Duration = Duration::from_secs(2);

/// While `trouble` lasts: management is refused with one of `codes`, completions are served, nothing of it is lost.
async fn refuses<T>(
    name: &str,
    service: &Service,
    codes: &[&str],
    trouble: impl FnOnce(&Service) -> T,
) {
    let before = provider(&format!("{name}-before"), "http://127.0.0.1:9/v1");
    assert_eq!(
        service
            .post(&service.api("/api/providers"), &before)
            .await
            .0,
        201
    );
    let holding = trouble(service);
    let began = Instant::now();
    let refused = provider(&format!("{name}-refused"), "http://127.0.0.1:9/v1");
    let request = service
        .client
        .post(service.api("/api/providers"))
        .json(&refused);
    let asking = tokio::spawn(request.send());
    let mut slowest = Duration::ZERO;
    for number in 0..20 {
        let asked = Instant::now();
        let answer = service
            .chat(&say("echo", &format!("{name} {number}")))
            .await;
        assert_eq!(answer.status(), 200, "completions go on");
        let answer: Value = answer.json().await.expect("JSON");
        assert_eq!(
            answer["choices"][0]["message"]["content"],
            format!("{name} {number}")
        );
        slowest = slowest.max(asked.elapsed());
    }
    // An answer waits for its row 50 ms at most.
    assert!(slowest < SOON, "{name}: {slowest:?}");
    let answer = asking.await.expect("no panic").expect("an answer");
    let took = began.elapsed();
    let (status, retry) = (
        answer.status(),
        answer.headers().get("retry-after").cloned(),
    );
    let body: Value = answer.json().await.expect("JSON");
    let code = body["error"]["code"].as_str().unwrap_or_default();
    assert!(
        status == 503 && codes.contains(&code),
        "{name}: {status} {body}"
    );
    assert!(retry.is_some(), "it says when to come again");
    assert!(took < SOON + SLACK, "{name}: {took:?}");
    let text = body.to_string();
    assert!(
        !text.contains("INSERT") && !text.contains("qwarden.db"),
        "{text}"
    );
    let health = service.health().await;
    // History is written without a sync, so there is nothing wrong with it then.
    if !name.starts_with("sync") {
        assert_eq!(health["status"], "degraded", "{name}");
    }
    drop(holding);
    let healed = Instant::now();
    let after = provider(&format!("{name}-after"), "http://127.0.0.1:9/v1");
    while service.post(&service.api("/api/providers"), &after).await.0 != 201 {
        assert!(healed.elapsed() < PATIENCE, "{name}: it does not heal");
    }
    let healed = healed.elapsed();
    assert!(healed < SOON + SLACK, "{name}: {healed:?}");
    // All that was told meanwhile is stored, nothing that was refused.
    service
        .until("stored", |health| health["checks"]["db"]["queued"] == 0)
        .await;
    let count = |sql: &str| read_cell::<i64>(&service.database(), sql);
    let told = format!(
        "SELECT count(*) FROM requests q JOIN responses r ON r.request_id = q.id WHERE q.openai_request LIKE '%{name} %'"
    );
    assert_eq!(count(&told), 20, "{name}");
    let kept =
        format!("SELECT count(*) FROM providers WHERE id IN ('{name}-before', '{name}-after')");
    assert_eq!(count(&kept), 2, "{name}");
    let refused = format!("SELECT count(*) FROM providers WHERE id = '{name}-refused'");
    assert_eq!(
        count(&refused),
        0,
        "{name}: what was refused did not happen"
    );
    assert_eq!(health["checks"]["db"]["log_dropped_total"], 0);
    let ms = |time: Duration| format!("{} ms", time.as_millis());
    figures::record("R3", &format!("{name}: refused after"), ms(took));
    figures::record("R4", &format!("{name}: slowest completion"), ms(slowest));
    figures::record("R6", &format!("{name}: writes again after"), ms(healed));
}

#[tokio::test(flavor = "multi_thread")]
async fn r03_r04_r06_a_foreign_lock_is_told_and_sat_out() {
    let service = Service::start(&[]);
    refuses("foreign-lock", &service, &["storage_busy"], |service| {
        let conn = rusqlite::Connection::open(service.database()).expect("it opens");
        conn.busy_timeout(PATIENCE).expect("a timeout");
        conn.execute_batch("BEGIN IMMEDIATE").expect("the lock");
        conn
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn r03_r04_r06_a_full_disk_and_a_broken_one_are_told_and_heal() {
    let service = Service::start(&[]);
    for (name, codes, calls, how) in [
        (
            "no-space",
            ["storage_full"],
            "pwrite64,write",
            "error=ENOSPC",
        ),
        (
            "write-error",
            ["storage_error"],
            "pwrite64,write",
            "error=EIO",
        ),
        (
            "sync-error",
            ["storage_error"],
            "fsync,fdatasync",
            "error=EIO",
        ),
    ] {
        refuses(name, &service, &codes, |service| {
            let log = service.dir().join("qwarden.db-wal");
            Injection::start(service.binary.pid(), &log, calls, how)
        })
        .await;
    }
    let integrity: String = read_cell(&service.database(), "PRAGMA integrity_check");
    assert_eq!(integrity, "ok");
}

/// The disk takes seconds for each write: nothing fails, and only management waits.
#[tokio::test(flavor = "multi_thread")]
async fn r04_r11_a_stalled_writer_holds_up_no_completion() {
    let service = Service::start(&[]);
    service.chat(&say("echo", "warm")).await;
    let log = service.dir().join("qwarden.db-wal");
    let stall = Injection::start(
        service.binary.pid(),
        &log,
        "pwrite64,write",
        "delay_enter=3000000",
    );
    let (url, body) = (
        service.api("/api/settings/session.timeout"),
        json!({"value": 60_000}),
    );
    let putting = tokio::spawn(service.client.put(url).json(&body).send());
    let began = Instant::now();
    let mut times = Vec::new();
    while began.elapsed() < Duration::from_secs(4) {
        let asked = Instant::now();
        assert_eq!(service.chat(&say("echo", "stalled")).await.status(), 200);
        times.push(asked.elapsed());
    }
    let answer = putting.await.expect("no panic").expect("an answer");
    let took = began.elapsed();
    assert!(
        [200, 503].contains(&answer.status().as_u16()),
        "{}",
        answer.status()
    );
    assert!(
        took < SOON + SLACK,
        "a stalled actor is a 503, never a hang: {took:?}"
    );
    times.sort();
    assert!(times[times.len() * 99 / 100] < SOON, "{times:?}");
    drop(stall);
    service
        .until("stored", |health| health["checks"]["db"]["queued"] == 0)
        .await;
    let stored: i64 = read_cell(
        &service.database(),
        "SELECT count(*) FROM responses r JOIN requests q ON q.id = r.request_id WHERE q.openai_request LIKE '%stalled%'",
    );
    assert_eq!(usize::try_from(stored).expect("few"), times.len());
    figures::record("R4", "completions while each write takes 3 s", times.len());
    figures::record_times("R4", "latency meanwhile", &mut times);
}

/// Megabytes of history go through the log, and it stays small (R9).
#[tokio::test(flavor = "multi_thread")]
async fn r09_the_log_of_the_database_stays_small() {
    let mut dice = crate::support::seeds::dice();
    let service = Service::start(&[]);
    let log = service.dir().join("qwarden.db-wal");
    let (mut most, mut written) = (0, 0);
    for _ in 0..120 {
        // Random, or it would be packed to nothing.
        let text: String = (0..200_000).map(|_| dice.alphanumeric()).collect();
        assert_eq!(service.chat(&say("echo", &text)).await.status(), 200);
        written += 2 * text.len();
        most = most.max(std::fs::metadata(&log).expect("there is a log").len());
    }
    // At 32 MiB the writer would have to do what it leaves to another connection.
    assert!(most < 30 << 20, "{most}");
    let mb = |bytes: u64| format!("{:.1} MB", bytes as f64 / f64::from(1 << 20));
    figures::record(
        "R9",
        "bodies written",
        mb(u64::try_from(written).expect("few")),
    );
    figures::record("R9", "longest log meanwhile", mb(most));
}
