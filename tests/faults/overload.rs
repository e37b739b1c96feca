//! More than can be served (R15, R21, R27): eight times as many requests as there is room for, and 10,000 idle streams.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use crate::support::service::provider;
use crate::support::tls::{TlsUpstream, authority};
use crate::support::{PATIENCE, Service, client, figures, process, say, say_streamed, seeds};

/// An upstream that takes `service` for each answer, or holds each stream after its first event.
async fn upstream(service: Duration) -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let held = Arc::new(AtomicUsize::new(0));
    let count = held.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let _ = stream.set_nodelay(true);
            tokio::spawn(serve(stream, service, count.clone()));
        }
    });
    (format!("http://{address}/v1"), held)
}

async fn serve(mut stream: TcpStream, service: Duration, held: Arc<AtomicUsize>) {
    let mut asked = [0; 2_048];
    loop {
        // What is asked here fits into one segment.
        let read = match stream.read(&mut asked).await {
            Ok(read) if read > 0 => read,
            _ => return,
        };
        let asked = String::from_utf8_lossy(&asked[..read]).into_owned();
        let answer = if asked.starts_with("GET") {
            json!({"object": "list", "data": [{"id": "fake", "object": "model"}]})
        } else if asked.contains("\"stream\":true") {
            let event = crate::support::upstream::delta("one");
            let first =
                "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n";
            let _ = stream.write_all(format!("{first}{event}").as_bytes()).await;
            held.fetch_add(1, Ordering::Relaxed);
            let _ = stream.read(&mut [0; 16]).await;
            held.fetch_sub(1, Ordering::Relaxed);
            return;
        } else {
            tokio::time::sleep(service).await;
            crate::support::upstream::whole("fine")
        };
        let answer = answer.to_string();
        let first = format!(
            "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
            answer.len()
        );
        if stream
            .write_all(format!("{first}{answer}").as_bytes())
            .await
            .is_err()
        {
            return;
        }
    }
}

/// What many clients met.
#[derive(Default)]
struct Met {
    served: Vec<Duration>,
    refused: Vec<Duration>,
}

/// Lets `clients` ask again and again for `how_long`.
async fn ask(service: &Service, clients: usize, how_long: Duration, pause: Duration) -> Met {
    let until = Instant::now() + how_long;
    let mut asking = JoinSet::new();
    for _ in 0..clients {
        let (client, url) = (client(), service.completions());
        asking.spawn(async move {
            let mut met = Met::default();
            while Instant::now() < until {
                let began = Instant::now();
                let asked = client.post(&url).json(&say("p/fake", "hi"));
                let response = asked.send().await.expect("the gateway answers");
                let status = response.status();
                let has_wait = response.headers().contains_key("retry-after");
                let body = response.text().await.expect("a body");
                if status == 200 {
                    met.served.push(began.elapsed());
                } else {
                    assert!(status == 503 && has_wait, "{status} {body}");
                    met.refused.push(began.elapsed());
                    tokio::time::sleep(pause).await;
                }
            }
            met
        });
    }
    let mut all = Met::default();
    while let Some(met) = asking.join_next().await {
        let met = met.expect("a client");
        all.served.extend(met.served);
        all.refused.extend(met.refused);
    }
    all
}

fn percentile(times: &mut [Duration], percent: usize) -> Duration {
    times.sort_unstable();
    let index = (times.len() * percent).div_ceil(100).saturating_sub(1);
    times[index]
}

#[tokio::test(flavor = "multi_thread")]
async fn r15_r27_eight_times_the_load_is_shed_early_and_the_rest_served_as_ever() {
    const PLACES: usize = 16;
    let how_long = if seeds::is_long_run() { 60 } else { 8 };
    let service = Service::start(&["--set", &format!("server.maxInFlight={PLACES}")]);
    // Capacity is PLACES / service time, whatever the machine does.
    let (url, _) = upstream(Duration::from_millis(500)).await;
    let (status, told) = service
        .post(&service.api("/api/providers"), &provider("p", &url))
        .await;
    assert_eq!(status, 201, "{told}");
    let short = Duration::from_secs(4);
    ask(
        &service,
        PLACES,
        Duration::from_secs(1),
        Duration::from_millis(50),
    )
    .await;
    let mut alone = ask(&service, PLACES, short, Duration::from_millis(50)).await;
    let pid = service.binary.pid();
    // As they are told to.
    let pause = Duration::from_secs(1);
    // Connections, pools and caches are made once, and the latest events and lines of the log are kept.
    let warm_up = if seeds::is_long_run() { 20 } else { 2 };
    ask(&service, PLACES * 8, Duration::from_secs(warm_up), pause).await;
    let before = process::memory(pid);
    let managing = {
        let (client, url) = (client(), service.api("/api/health"));
        tokio::spawn(async move {
            let mut times = Vec::new();
            loop {
                let began = Instant::now();
                let health = client.get(&url).send().await.expect("management answers");
                assert_eq!(health.status(), 200);
                times.push(began.elapsed());
                if times.len() > how_long * 2 {
                    return times;
                }
                tokio::time::sleep(Duration::from_millis(400)).await;
            }
        })
    };
    let long = Duration::from_secs(u64::try_from(how_long).expect("short"));
    let mut loaded = ask(&service, PLACES * 8, long, pause).await;
    let after = process::memory(pid);
    let mut managed = tokio::time::timeout(PATIENCE * 3, managing)
        .await
        .expect("in time")
        .expect("served");
    let capacity = alone.served.len() as f64 / short.as_secs_f64();
    let goodput = loaded.served.len() as f64 / long.as_secs_f64();
    let share = (goodput / capacity * 100.0).round();
    let (p50_alone, p50_loaded) = (
        percentile(&mut alone.served, 50),
        percentile(&mut loaded.served, 50),
    );
    let grown = after.saturating_sub(before) as f64 / before as f64 * 100.0;
    figures::record(
        "R27",
        "goodput under 8 times the load, % of that without",
        share,
    );
    figures::record("R27", "refused", loaded.refused.len());
    figures::record_times("R27", "refusals", &mut loaded.refused);
    figures::record_times("R27", "served, alone", &mut alone.served);
    figures::record_times("R27", "served, under load", &mut loaded.served);
    figures::record_times("R27", "health meanwhile", &mut managed);
    figures::record(
        "R15",
        "growth of memory under load, %",
        (grown * 10.0).round() / 10.0,
    );
    assert!(
        loaded.refused.len() > loaded.served.len(),
        "there was more than could be served"
    );
    assert!(share >= 90.0, "{goodput} of {capacity}");
    assert!(
        p50_loaded < p50_alone * 2,
        "{p50_alone:?} became {p50_loaded:?}"
    );
    assert!(
        percentile(&mut loaded.refused, 50) < Duration::from_millis(500),
        "a refusal is fast"
    );
    figures::record("R15", "memory under load, MB", after >> 20);
    assert!(grown < 10.0, "{before} to {after}");
}

/// How many streams: `QWARDEN_STREAMS`, or as many as everyday runs have time for.
fn streams() -> usize {
    let asked = std::env::var("QWARDEN_STREAMS")
        .ok()
        .and_then(|text| text.parse().ok());
    asked.unwrap_or(1_000)
}

#[tokio::test(flavor = "multi_thread")]
async fn r21_idle_streams_are_held_and_cost_little() {
    let (url, held) = upstream(Duration::ZERO).await;
    // Both ends of all of them are in this process.
    let descriptors = streams() * 2 + 200;
    idle("", descriptors, &provider("p", &url), &held).await;
}

/// An upstream that speaks HTTP/2 has all of them on few connections, so there can be twice as many for the same descriptors.
#[tokio::test(flavor = "multi_thread")]
async fn r21_idle_streams_over_http2_are_held_and_cost_little() {
    let upstream = TlsUpstream::start().await;
    let mut made = provider("p", &format!("https://127.0.0.1:{}/v1", upstream.port));
    made["config"]["caFile"] = json!(authority());
    let seen = &upstream.seen;
    idle(" over HTTP/2", streams() + 300, &made, &seen.held).await;
    // The first ones come before it is known what the upstream speaks.
    let connections = seen.connections.load(Ordering::Relaxed);
    assert!(connections <= 100, "{connections} connections");
}

/// Holds as many streams as are asked for, at an upstream that counts them in `held`, and looks at what one costs.
async fn idle(over: &str, descriptors: usize, upstream: &Value, held: &AtomicUsize) {
    let count = streams();
    assert!(
        process::allow_descriptors(descriptors),
        "descriptors can be had for {count} streams"
    );
    let flags = [
        "--set",
        &format!("server.maxInFlight={}", count + 100),
        "--set",
        &format!("server.maxConnections={}", count + 100),
        "--set",
        "server.timeout=600000",
        "--set",
        "server.keepAlive=600000",
    ];
    let service = Service::start(&flags);
    let pid = service.binary.pid();
    let (status, told) = service.post(&service.api("/api/providers"), upstream).await;
    assert_eq!(status, 201, "{told}");
    let router = service.binary.router.trim_start_matches("http://");
    let mut open = Vec::new();
    hold(router, 50, &mut open).await;
    let before = process::memory(pid);
    hold(router, count, &mut open).await;
    let at_upstream = held.load(Ordering::Relaxed);
    assert_eq!(at_upstream, count + 50, "each has its upstream");
    let each = process::memory(pid).saturating_sub(before) / count;
    figures::record("R21", &format!("idle streams held{over}"), count);
    figures::record(
        "R21",
        &format!("memory of an idle stream{over}, bytes"),
        each,
    );
    // One more, and management.
    assert_eq!(service.chat(&say("p/fake", "hi")).await.status(), 200);
    let (status, health) = service.get(&service.api("/api/health")).await;
    assert_eq!(status, 200);
    let exchanges = health["tasks"]["exchange"].as_u64().unwrap_or_default();
    assert!(exchanges >= u64::try_from(count).expect("few"), "{health}");
    // Without optimisation, futures hold what they moved, too: 64 KB were seen.
    let is_release = std::env::var_os("QWARDEN_BINARY").is_some() || !cfg!(debug_assertions);
    let most = if is_release { 60_000 } else { 75_000 };
    assert!(each < most, "{each} bytes");
    drop(open);
    service
        .until("they are let go", |health: &Value| {
            health["tasks"]["exchange"].is_null()
        })
        .await;
}

/// Opens `count` streams, a hundred at a time, and waits for the first event of each.
async fn hold(router: &str, count: usize, open: &mut Vec<TcpStream>) {
    let mut left = count;
    while left > 0 {
        let batch = left.min(100);
        left -= batch;
        let mut opening = JoinSet::new();
        for _ in 0..batch {
            let router = router.to_owned();
            opening.spawn(async move {
                let body = say_streamed("p/fake", "hi").to_string();
                let mut stream = TcpStream::connect(&router).await.expect("it listens");
                let asked = format!("POST /v1/chat/completions HTTP/1.1\r\nhost: {router}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}", body.len());
                stream.write_all(asked.as_bytes()).await.expect("it is taken");
                let mut got = Vec::new();
                let reading = async {
                    while !got.windows(9).any(|window| window == b"\"content\"") {
                        let mut piece = [0; 1_024];
                        let read = stream.read(&mut piece).await.expect("it goes on");
                        assert!(read > 0, "it ended: {}", String::from_utf8_lossy(&got));
                        got.extend_from_slice(&piece[..read]);
                    }
                };
                tokio::time::timeout(PATIENCE, reading).await.expect("its first event comes");
                stream
            });
        }
        while let Some(stream) = opening.join_next().await {
            open.push(stream.expect("it is open"));
        }
    }
}
