//! What clients do to us: slow, gone, odd, and too many of them (R15, R20, R21, R28, S17).

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use crate::support::service::provider;
use crate::support::tls::{TlsUpstream, authority};
use crate::support::upstream::{Step, Upstream};
use crate::support::{PATIENCE, Service, figures, process, read_cell, say, say_streamed};

/// `127.0.0.1:3001` of a URL.
fn address(url: &str) -> String {
    url.trim_start_matches("http://").to_owned()
}

/// A connection on which `bytes` were sent.
async fn sent(address: &str, bytes: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(address).await.expect("it listens");
    stream.write_all(bytes).await.expect("it is taken");
    stream
}

/// A completion request as bytes.
fn asking(address: &str, body: &serde_json::Value) -> Vec<u8> {
    let body = body.to_string();
    format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: {address}\r\ncontent-type: application/json\r\n\
         content-length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

/// Everything until the other side closes.
async fn rest(stream: &mut TcpStream) -> String {
    let mut all = Vec::new();
    let reading = stream.read_to_end(&mut all);
    // A reset ends it too.
    let _ = tokio::time::timeout(PATIENCE * 2, reading)
        .await
        .expect("it is closed");
    String::from_utf8_lossy(&all).into_owned()
}

/// An upstream that sends events as fast as they are taken, for ever. Counts what was taken.
async fn flooding() -> (String, Arc<AtomicUsize>, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let (taken, over) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let counts = (taken.clone(), over.clone());
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let (taken, over) = counts.clone();
            tokio::spawn(async move {
                let mut asked = [0; 4_096];
                let read = stream.read(&mut asked).await.unwrap_or_default();
                if asked[..read].starts_with(b"GET") {
                    let models =
                        json!({"object": "list", "data": [{"id": "fake", "object": "model"}]})
                            .to_string();
                    let answer = format!(
                        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{models}",
                        models.len()
                    );
                    let _ = stream.write_all(answer.as_bytes()).await;
                    return;
                }
                let head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n";
                let event = crate::support::upstream::delta(&"x".repeat(2_000));
                let _ = stream.write_all(head).await;
                while stream.write_all(event.as_bytes()).await.is_ok() {
                    taken.fetch_add(event.len(), Ordering::Relaxed);
                }
                over.fetch_add(1, Ordering::Relaxed);
            });
        }
    });
    (format!("http://{address}/v1"), taken, over)
}

/// Waits until `count` stands still.
async fn still(count: &AtomicUsize) {
    let mut before = 0;
    loop {
        tokio::time::sleep(Duration::from_millis(500)).await;
        let now = count.load(Ordering::Relaxed);
        if now == before && now > 0 {
            return;
        }
        before = now;
    }
}

/// One that reads a little and leaves: what is made once is made.
async fn warmed(router: &str, asked: &[u8]) {
    let mut first = sent(router, asked).await;
    let _ = first.read(&mut [0; 4_096]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn r21_a_client_that_reads_nothing_costs_little_and_is_cut() {
    const CLIENTS: usize = 20;
    let service = Service::start(&["--set", "server.clientTimeout=15000"]);
    let (url, taken, over) = flooding().await;
    let (status, told) = service
        .post(&service.api("/api/providers"), &provider("p", &url))
        .await;
    assert_eq!(status, 201, "{told}");
    let router = address(&service.binary.router);
    warmed(&router, &asking(&router, &say_streamed("p/fake", "hi"))).await;
    let pid = service.binary.pid();
    let before = process::memory(pid);
    let mut clients = Vec::new();
    for _ in 0..CLIENTS {
        clients.push(sent(&router, &asking(&router, &say_streamed("p/fake", "hi"))).await);
    }
    tokio::time::timeout(PATIENCE, still(&taken))
        .await
        .expect("the upstreams are made to wait");
    let each = (process::memory(pid).saturating_sub(before)) / CLIENTS;
    figures::record(
        "R21",
        "memory of a client that reads nothing of a flood, KiB",
        each >> 10,
    );
    // Of which most is hyper's read buffer towards an upstream that floods.
    assert!(each < 2 << 20, "{} KiB", each >> 10);
    let cutting = async {
        while over.load(Ordering::Relaxed) < CLIENTS {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE * 4, cutting)
        .await
        .expect("they are cut, and their upstreams let go");
    service
        .until("all are over", |health| {
            health["tasks"]["exchange"].is_null()
                && health["tasks"]["connection"].as_u64().unwrap_or_default() <= 4
        })
        .await;
    let sql = "SELECT count(*) FROM requests WHERE status = 'client_closed'";
    assert!(read_cell::<i64>(&service.database(), sql) >= i64::try_from(CLIENTS).expect("few"));
    drop(clients);
}

/// Over HTTP/2 it is ours to say how much of an answer may wait.
#[tokio::test(flavor = "multi_thread")]
async fn r21_a_client_that_reads_nothing_of_an_http2_upstream_costs_little() {
    const CLIENTS: usize = 20;
    let service = Service::start(&[]);
    let upstream = TlsUpstream::start().await;
    let mut made = provider("p", &format!("https://127.0.0.1:{}/v1", upstream.port));
    made["config"]["caFile"] = json!(authority());
    let (status, told) = service.post(&service.api("/api/providers"), &made).await;
    assert_eq!(status, 201, "{told}");
    let router = address(&service.binary.router);
    let asked = asking(&router, &say_streamed("p/fake", "flood"));
    warmed(&router, &asked).await;
    let pid = service.binary.pid();
    let before = process::memory(pid);
    let mut clients = Vec::new();
    for _ in 0..CLIENTS {
        clients.push(sent(&router, &asked).await);
    }
    tokio::time::timeout(PATIENCE, still(&upstream.seen.taken))
        .await
        .expect("the upstream is made to wait");
    let each = process::memory(pid).saturating_sub(before) / CLIENTS;
    figures::record(
        "R21",
        "memory of a client that reads nothing of a flood over HTTP/2, KiB",
        each >> 10,
    );
    assert!(each < 256 << 10, "{} KiB", each >> 10);
    drop(clients);
    service
        .until("all are over", |health| {
            health["tasks"]["exchange"].is_null()
        })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn r28_heads_and_bodies_that_come_byte_by_byte_are_closed() {
    let service = Service::start(&[]);
    let router = address(&service.binary.router);
    let began = Instant::now();
    let head = sent(&router, b"POST /v1/chat/completions HTTP/1.1\r\nhost: loc").await;
    let body = sent(&router, format!("POST /v1/chat/completions HTTP/1.1\r\nhost: {router}\r\ncontent-type: application/json\r\ncontent-length: 500\r\n\r\n{{").as_bytes()).await;
    // A head that goes on, a byte a second, is not saved by that.
    let dripping = async {
        let (mut reader, mut writer) = sent(&router, b"GET / HTTP/1.1\r\n").await.into_split();
        let feeding = async {
            while writer.write_all(b"x").await.is_ok() {
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        };
        let mut end = [0; 64];
        let ending = async { while matches!(reader.read(&mut end).await, Ok(read) if read > 0) {} };
        tokio::select! { () = feeding => {}, () = ending => {} }
        began.elapsed()
    };
    let ended = |mut stream: TcpStream| async move {
        let told = rest(&mut stream).await;
        (told, began.elapsed())
    };
    let ((_, head), (told, body), dripped) = tokio::join!(ended(head), ended(body), dripping);
    assert!(
        head < PATIENCE && dripped < PATIENCE,
        "{head:?} {dripped:?}"
    );
    assert!(
        told.starts_with("HTTP/1.1 408") && body < PATIENCE * 2,
        "{told} {body:?}"
    );
    figures::record(
        "R28",
        "seconds until a head, a dripped head, a body is given up",
        format!(
            "{}, {}, {}",
            head.as_secs(),
            dripped.as_secs(),
            body.as_secs()
        ),
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn s17_odd_framing_is_refused_and_harms_nobody() {
    let service = Service::start(&[]);
    let router = address(&service.binary.router);
    let host = format!("host: {router}\r\n");
    let post =
        format!("POST /v1/chat/completions HTTP/1.1\r\n{host}content-type: application/json\r\n");
    let body = say("echo", "hi").to_string();
    let chunks = format!("{:x}\r\n{body}\r\n0\r\n\r\n", body.len());
    let cases: Vec<(&str, Vec<u8>)> = vec![
        (
            "two lengths",
            format!("{post}content-length: 2\r\ncontent-length: 3\r\n\r\n{{}}").into(),
        ),
        (
            "odd encoding",
            format!("{post}transfer-encoding: chunked, gzip\r\n\r\n{chunks}").into(),
        ),
        (
            "packed chunks",
            format!("{post}transfer-encoding: gzip, chunked\r\n\r\n{chunks}").into(),
        ),
        (
            "two encodings",
            format!(
                "{post}transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n\r\n{chunks}"
            )
            .into(),
        ),
        (
            "length that is none",
            format!("{post}content-length: 2x\r\n\r\n{{}}").into(),
        ),
        (
            "signed length",
            format!("{post}content-length: +2\r\n\r\n{{}}").into(),
        ),
        (
            "huge length",
            format!("{post}content-length: 99999999999999999999\r\n\r\n").into(),
        ),
        (
            "bad chunk",
            format!("{post}transfer-encoding: chunked\r\n\r\nzz\r\n{{}}\r\n0\r\n\r\n").into(),
        ),
        (
            "NUL in a value",
            format!("{post}x-a: a\0b\r\ncontent-length: 2\r\n\r\n{{}}").into(),
        ),
        (
            "CR in a value",
            format!("{post}x-a: a\rb\r\ncontent-length: 2\r\n\r\n{{}}").into(),
        ),
        (
            "blank before a colon",
            format!("{post}x-a : b\r\ncontent-length: 2\r\n\r\n{{}}").into(),
        ),
        (
            "folded header",
            format!("{post}x-a: b\r\n c\r\ncontent-length: 2\r\n\r\n{{}}").into(),
        ),
        (
            "no HTTP",
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 garbage\r\n\r\n".to_vec(),
        ),
        ("HTTP/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec()),
        (
            "garbage behind a request",
            format!("GET /health/live HTTP/1.1\r\n{host}\r\n\x00\x01\x02 not a request\r\n\r\n")
                .into(),
        ),
    ];
    let count = cases.len();
    for (what, bytes) in cases {
        let mut stream = sent(&router, &bytes).await;
        // What is refused is closed by us; half a close lets what waits for more see that none comes.
        let _ = stream.shutdown().await;
        let told = rest(&mut stream).await;
        // The last answer may stand behind a body, and words about HTTP/1.1 in one.
        let is_status = |part: &&str| part.starts_with(|first: char| first.is_ascii_digit());
        let last = told.rsplit("HTTP/1.1 ").find(is_status).unwrap_or_default();
        let is_refused = last.is_empty()
            || last.starts_with("400")
            || last.starts_with("413")
            || last.starts_with("415");
        assert!(is_refused, "{what}: {told}");
        assert!(
            !told.contains("200 OK") || what.starts_with("garbage behind"),
            "{what}: {told}"
        );
    }
    figures::record("S17", "ways to frame a request oddly", count);
    assert_eq!(service.chat(&say("echo", "hi")).await.status(), 200);
    let rows = read_cell::<i64>(&service.database(), "SELECT count(*) FROM requests");
    assert_eq!(rows, 1, "none of them was served");
}

#[tokio::test(flavor = "multi_thread")]
async fn r15_r27_bodies_of_all_requests_together_are_bounded() {
    const MIB: usize = 1 << 20;
    let service = Service::start(&["--set", "server.maxBuffered=4194304"]);
    let router = address(&service.binary.router);
    let post = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: {router}\r\ncontent-type: application/json\r\n"
    );
    // Who only announces much takes nothing from others.
    let announced = sent(
        &router,
        format!("{post}content-length: 20000000\r\n\r\n{{").as_bytes(),
    )
    .await;
    assert_eq!(service.chat(&say("echo", "hi")).await.status(), 200);
    let mut holding = Vec::new();
    for _ in 0..3 {
        let mut stream = sent(
            &router,
            format!("{post}content-length: 20000000\r\n\r\n{{").as_bytes(),
        )
        .await;
        stream
            .write_all(&vec![b' '; MIB])
            .await
            .expect("it is read");
        holding.push(stream);
    }
    let large = say("echo", &"x".repeat(2 * MIB));
    let began = Instant::now();
    // The others' bytes are read a moment after they were sent.
    let refused = loop {
        let response = service.chat(&large).await;
        if response.status() == 503 {
            break response;
        }
        assert!(
            began.elapsed() < PATIENCE,
            "it is refused once the others are read"
        );
    };
    assert!(refused.headers().contains_key("retry-after"));
    let told: serde_json::Value = refused.json().await.expect("JSON");
    assert_eq!(told["error"]["code"], "overloaded", "{told}");
    assert_eq!(
        service.chat(&say("echo", "hi")).await.status(),
        200,
        "a small one has room"
    );
    drop((announced, holding));
    let began = Instant::now();
    while service.chat(&large).await.status() != 200 {
        assert!(began.elapsed() < PATIENCE, "the bytes are given back");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn r28_a_gateway_without_descriptors_serves_again_once_there_are_some() {
    let service = Service::start(&[]);
    let router = address(&service.binary.router);
    let pid = service.binary.pid();
    assert_eq!(service.chat(&say("echo", "hi")).await.status(), 200);
    let open = process::descriptors(pid);
    assert!(
        process::limit_descriptors(pid, open + 10),
        "prlimit is there"
    );
    let mut flood = Vec::new();
    for _ in 0..200 {
        flood.push(
            TcpStream::connect(&router)
                .await
                .expect("the kernel takes it"),
        );
    }
    let full = async {
        while process::descriptors(pid) < open + 8 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, full)
        .await
        .expect("there are none left");
    drop(flood);
    let freed = Instant::now();
    while service
        .client
        .post(service.completions())
        .json(&say("echo", "hi"))
        .timeout(Duration::from_secs(1))
        .send()
        .await
        .is_err()
    {
        assert!(freed.elapsed() < PATIENCE, "it serves again");
    }
    let took = freed.elapsed();
    figures::record(
        "R28",
        "service after descriptors are free, ms",
        u64::try_from(took.as_millis()).expect("short"),
    );
    assert!(took < Duration::from_secs(10), "{took:?}");
}

/// The program where it may open so few descriptors, and its three addresses.
fn starved(dir: &std::path::Path, most: usize) -> (Child, Vec<String>) {
    let mut child = Command::new("prlimit")
        .arg(format!("--nofile={most}:{most}"))
        .arg(env!("CARGO_BIN_EXE_qwarden"))
        .args([
            "serve",
            "--no-discovery",
            "--port",
            "0",
            "--qwen-port",
            "0",
            "--api-port",
            "0",
            "--data-dir",
        ])
        .arg(dir)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("prlimit is there");
    let lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
    let urls = lines
        .map_while(Result::ok)
        .take_while(|line| !line.starts_with("try:"))
        .filter_map(|line| {
            Some(
                line[line.find("http://")?..]
                    .split_whitespace()
                    .next()?
                    .trim_end_matches("/v1")
                    .to_owned(),
            )
        });
    let urls = urls.take(3).collect();
    (child, urls)
}

/// Opens connections until one is told that it is one too many.
async fn turned_away(router: &str, open: &mut Vec<TcpStream>) -> String {
    let ask = format!("GET /health/live HTTP/1.1\r\nhost: {router}\r\n\r\n");
    let began = Instant::now();
    loop {
        let mut stream = sent(router, ask.as_bytes()).await;
        let mut told = vec![0; 600];
        let read = tokio::time::timeout(PATIENCE, stream.read(&mut told))
            .await
            .expect("an answer")
            .unwrap_or_default();
        let told = String::from_utf8_lossy(&told[..read]).into_owned();
        if told.starts_with("HTTP/1.1 503") {
            return told;
        }
        // Those before are accepted one after the other.
        assert!(began.elapsed() < PATIENCE, "{told}");
        open.push(stream);
    }
}

/// The bound can be set, where upstreams need fewer descriptors than clients do, or somebody wants fewer clients.
#[tokio::test(flavor = "multi_thread")]
async fn r15_connections_are_as_many_as_the_settings_say() {
    let service = Service::start(&["--set", "server.maxConnections=12"]);
    let router = address(&service.binary.router);
    let mut open = Vec::new();
    turned_away(&router, &mut open).await;
    assert_eq!(open.len(), 12);
    let (status, _) = service.get(&service.api("/api/health")).await;
    assert_eq!(status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn r15_r27_a_connection_too_many_is_told_so_and_management_stays_reachable() {
    let dir = tempfile::TempDir::new().expect("a directory");
    let (mut child, urls) = starved(dir.path(), 256);
    let router = address(&urls[0]);
    // (256 - 96) / 2 are for clients.
    let mut open = Vec::new();
    for _ in 0..80 {
        open.push(TcpStream::connect(&router).await.expect("it listens"));
    }
    let told = turned_away(&router, &mut open).await;
    assert!(told.to_ascii_lowercase().contains("retry-after"), "{told}");
    let client = crate::support::client();
    let health = client
        .get(format!("{}/api/health", urls[2]))
        .send()
        .await
        .expect("management answers");
    assert_eq!(health.status(), 200);
    drop(open);
    let began = Instant::now();
    loop {
        let answered = client
            .post(format!("{}/v1/chat/completions", urls[0]))
            .json(&say("echo", "hi"))
            .send()
            .await;
        if answered.is_ok_and(|answered| answered.status() == 200) {
            break;
        }
        assert!(began.elapsed() < PATIENCE, "there is room again");
    }
    child.kill().expect("it can be killed");
    child.wait().expect("it ends");
}

#[tokio::test(flavor = "multi_thread")]
async fn r32_a_log_that_nobody_reads_stops_nothing() {
    let dir = tempfile::TempDir::new().expect("a directory");
    // The pipe is never read: it is full after 64 KiB.
    let flags = ["--log-level", "debug", "--log-format", "json"];
    let binary = crate::support::binary::Binary::logging(dir.path(), &flags, Stdio::piped());
    let client = crate::support::client();
    let url = format!("{}/v1/chat/completions", binary.router);
    let metrics = format!("{}/metrics", binary.management);
    let began = Instant::now();
    let mut served = 0;
    let dropped = loop {
        let mut asked = JoinSet::new();
        for _ in 0..200 {
            let (client, url) = (client.clone(), url.clone());
            asked.spawn(async move {
                client
                    .post(url)
                    .json(&say("nobody/knows", "hi"))
                    .send()
                    .await
            });
        }
        while let Some(answered) = asked.join_next().await {
            let answered = answered.expect("a task").expect("the gateway answers");
            assert_eq!(answered.status(), 404);
            served += 1;
        }
        let page = client
            .get(&metrics)
            .send()
            .await
            .expect("an answer")
            .text()
            .await
            .expect("text");
        let line = page
            .lines()
            .find_map(|line| line.strip_prefix("qwarden_log_lines_dropped_total "))
            .expect("the count")
            .to_owned();
        let dropped: u64 = line.parse().expect("a number");
        if dropped > 0 {
            break dropped;
        }
        assert!(
            began.elapsed() < PATIENCE * 3,
            "{served} requests wrote no more lines than there is room for"
        );
    };
    figures::record(
        "R32",
        "lines dropped, and requests served meanwhile",
        format!("{dropped}, {served}"),
    );
    drop(binary);
}

#[tokio::test(flavor = "multi_thread")]
async fn r33_aborted_requests_leave_nothing_behind() {
    let rounds = crate::support::seeds::rounds(1_500);
    let service = Service::start(&["--set", "retention.maxRequests=1000"]);
    let upstream = Upstream::start(|request| {
        if request.json()["messages"][0]["content"] == "hang" {
            return vec![
                crate::support::upstream::sse_head(),
                Step::Chunk(crate::support::upstream::delta("one").into()),
                Step::Hang,
            ];
        }
        vec![crate::support::upstream::json_answer(
            200,
            &crate::support::upstream::whole("fine"),
        )]
    })
    .await;
    service.provider("p", &upstream).await;
    let pid = service.binary.pid();
    // Of a burst the same memory is used again; of a leak it is not.
    mixed(&service, rounds).await;
    let rest = |health: &serde_json::Value| {
        health["tasks"]["exchange"].is_null()
            && health["tasks"]["connection"].as_u64().unwrap_or_default() <= 24
    };
    let (health, _) = service.until("all is over", rest).await;
    let (memory, tasks) = (process::memory(pid), health["tasks"].clone());
    let open = process::descriptors(pid);
    mixed(&service, rounds).await;
    let (health, _) = service.until("all is over", rest).await;
    let after = process::memory(pid);
    let grown = after.saturating_sub(memory) * 100 / memory;
    figures::record("R33", "requests, half of them aborted", rounds * 2);
    figures::record("R33", "growth of memory, %", grown);
    assert!(grown <= 10, "{memory} to {after}");
    for (name, count) in health["tasks"].as_object().expect("tasks") {
        let before = tasks[name].as_u64().unwrap_or_default();
        let is_connection = name == "connection";
        assert!(
            is_connection || count.as_u64().unwrap_or_default() <= before.max(1),
            "{name}: {before} to {count}"
        );
    }
    assert!(
        process::descriptors(pid) <= open + 16,
        "{open} to {}",
        process::descriptors(pid)
    );
}

/// `count` requests, half of them left in the middle of a stream, at most 16 at once.
async fn mixed(service: &Service, count: usize) {
    let mut running = JoinSet::new();
    for number in 0..count {
        if running.len() >= 16 {
            running
                .join_next()
                .await
                .expect("one runs")
                .expect("it ends");
        }
        let (client, url) = (service.client.clone(), service.completions());
        running.spawn(async move {
            if number % 2 == 0 {
                let asked = client.post(url).json(&say("p/fake", "hi"));
                assert_eq!(asked.send().await.expect("an answer").status(), 200);
            } else {
                let asked = client.post(url).json(&say_streamed("p/fake", "hang"));
                let mut response = asked.send().await.expect("an answer");
                response.chunk().await.expect("a chunk");
            }
        });
    }
    while let Some(ended) = running.join_next().await {
        ended.expect("it ends");
    }
}
