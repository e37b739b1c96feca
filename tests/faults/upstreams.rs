//! What upstreams do to us, in every dialect of a client (R16, R17, R18, R19, S15).

use std::time::{Duration, Instant};

use serde_json::json;

use crate::support::dialects::{self, Dialect};
use crate::support::upstream::{DONE, Step, Upstream, delta, finish, json_answer, sse_head, usage};
use crate::support::{PATIENCE, Service, figures, process, read_cell, say, say_streamed, seeds};

/// A provider `id` that does `steps`; dropped, it is gone.
async fn doing(service: &Service, id: &str, steps: Vec<Step>) -> Upstream {
    let upstream = Upstream::start(move |_| steps.clone()).await;
    service.provider(id, &upstream).await;
    upstream
}

async fn streamed(service: &Service, dialect: Dialect, model: &str) -> (u16, String) {
    let url = format!("{}{}", service.binary.router, dialect.path());
    let asked = service.client.post(url).json(&dialect.ask(model));
    let response = asked.send().await.expect("the gateway answers");
    let status = response.status().as_u16();
    (
        status,
        response.text().await.expect("the body ends in order"),
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn r16_r19_whatever_breaks_a_stream_is_told_once_in_every_dialect() {
    let service = Service::start(&["--set", "server.timeout=1000", "--set", "routing.retries=0"]);
    let giant = format!("data: {{\"x\":\"{}\"}}\n\n", "x".repeat(2 << 20));
    let cases: Vec<(&str, Vec<Step>)> = vec![
        ("ends early, and cleanly", vec![Step::End]),
        ("closes", vec![Step::Close]),
        ("resets", vec![Step::Reset]),
        ("stalls", vec![Step::Hang]),
        (
            "half-event",
            vec![Step::Chunk(b"data: {\"cho".to_vec()), Step::End],
        ),
        (
            "garbage",
            vec![
                Step::Chunk(b"data: \x00\xfe garbage\n\n".to_vec()),
                Step::End,
            ],
        ),
        (
            "bad-framing",
            vec![Step::Raw(b"zz\r\n\x00oops".to_vec()), Step::Close],
        ),
        (
            "giant-event",
            vec![Step::Chunk(giant.into_bytes()), Step::End],
        ),
        (
            "endless-line",
            vec![Step::Chunk(vec![b'a'; 3 << 20]), Step::Hang],
        ),
        (
            "page",
            vec![
                Step::Chunk(b"<html><body>Bad gateway</body></html>\n\n".to_vec()),
                Step::End,
            ],
        ),
        (
            "in-band",
            vec![
                Step::Chunk(b"data: {\"error\":{\"message\":\"overloaded\"}}\n\n".to_vec()),
                Step::End,
            ],
        ),
    ];
    let mut count = 0;
    for (number, (what, steps)) in cases.into_iter().enumerate() {
        let mut all = vec![
            sse_head(),
            Step::Chunk(delta("one ").into()),
            Step::Chunk(delta("two").into()),
        ];
        all.extend(steps);
        for dialect in dialects::ALL {
            // A provider for each, so that no breaker of an earlier one decides.
            let id = format!("p{number}-{dialect:?}").to_lowercase();
            let _upstream = doing(&service, &id, all.clone()).await;
            let began = Instant::now();
            let (status, body) = streamed(&service, dialect, &format!("{id}/fake")).await;
            assert!(
                began.elapsed() < PATIENCE / 2,
                "{what}, {dialect:?}: it hangs"
            );
            assert_eq!(status, 200, "{what}, {dialect:?}");
            let (text, errors, ends) = dialect.hear(&body);
            assert_eq!(
                (text.as_str(), errors, ends),
                ("one two", 1, 0),
                "{what}, {dialect:?}: {body}"
            );
            count += 1;
        }
    }
    figures::record("R16", "broken streams told in their dialect", count);
}

#[tokio::test(flavor = "multi_thread")]
async fn r17_s15_what_is_no_answer_is_an_error_and_costs_little_memory() {
    let service = Service::start(&["--set", "server.timeout=5000", "--set", "routing.retries=0"]);
    let head = |more: &str| Step::Raw(format!("HTTP/1.1 200 OK\r\n{more}\r\n").into_bytes());
    let lines = (0..40_000).map(|number| format!("x-{number}: {}\r\n", "y".repeat(40)));
    let endless = lines.collect::<Vec<_>>().concat();
    // 100 MB of zeros, as gzip packs them: far less on the wire. We never ask for it, and never unpack it.
    let bomb = include_bytes!("bomb.gz").to_vec();
    let whole_of = |size: usize| {
        let mut steps = vec![Step::Head(
            200,
            vec![("content-type", "application/json".into())],
        )];
        steps.extend((0..size >> 20).map(|_| Step::Chunk(vec![b' '; 1 << 20])));
        steps.push(Step::End);
        steps
    };
    let html = b"<!DOCTYPE html><html><head><title>Just a moment</title></head></html>".to_vec();
    let cases: Vec<(&str, Vec<Step>)> = vec![
        (
            "page",
            vec![Step::Whole(
                200,
                vec![("content-type", "text/html".into())],
                html,
            )],
        ),
        (
            "nothing",
            vec![Step::Whole(
                200,
                vec![("content-type", "application/json".into())],
                Vec::new(),
            )],
        ),
        (
            "error as an answer",
            vec![json_answer(200, &json!({"error": {"message": "no"}}))],
        ),
        ("endless headers", vec![head(&endless), Step::Hang]),
        (
            "bomb",
            vec![Step::Whole(
                200,
                vec![
                    ("content-type", "application/json".into()),
                    ("content-encoding", "gzip".into()),
                ],
                bomb,
            )],
        ),
        ("too large", whole_of(80 << 20)),
        (
            "announced",
            vec![
                head("content-type: application/json\r\ncontent-length: 99999999999\r\n"),
                Step::Hang,
            ],
        ),
    ];
    let pid = service.binary.pid();
    let before = process::memory(pid);
    let mut most = before;
    for (number, (what, steps)) in cases.into_iter().enumerate() {
        for streams in [false, true] {
            let id = format!("q{number}-{streams}");
            let _upstream = doing(&service, &id, steps.clone()).await;
            let model = format!("{id}/fake");
            let body = if streams {
                say_streamed(&model, "hi")
            } else {
                say(&model, "hi")
            };
            let response = service.chat(&body).await;
            let (status, text) = (
                response.status().as_u16(),
                response.text().await.expect("text"),
            );
            let is_told =
                matches!(status, 502..=504) || (status == 200 && text.contains("\"error\""));
            assert!(is_told, "{what}, {streams}: {status} {text}");
            most = most.max(process::memory(pid));
        }
    }
    let grown = (most - before) >> 20;
    figures::record("S15", "most memory above rest, MiB", grown);
    // One body of at most 64 MiB at a time, which grows by doubling.
    assert!(grown < 200, "{grown} MiB");
}

#[tokio::test(flavor = "multi_thread")]
async fn s15_a_stream_ends_at_its_bytes_and_at_its_time() {
    let flags = [
        "--set",
        "server.maxStream=100000",
        "--set",
        "server.streamTimeout=1000",
        "--set",
        "routing.retries=0",
    ];
    let service = Service::start(&flags);
    let mut large = vec![sse_head()];
    large.extend((0..200).map(|_| Step::Chunk(delta(&"x".repeat(1_000)).into())));
    large.extend([
        Step::Chunk(format!("{}{DONE}", finish("stop")).into()),
        Step::End,
    ]);
    let _large = doing(&service, "large", large).await;
    let slow = vec![sse_head(), Step::Chunk(delta("one").into()), Step::Hang];
    let slow = doing(&service, "slow", slow).await;
    for dialect in dialects::ALL {
        let (_, body) = streamed(&service, dialect, "large/fake").await;
        let (text, errors, ends) = dialect.hear(&body);
        assert!(
            text.len() > 50_000 && text.len() <= 100_000,
            "{dialect:?}: {}",
            text.len()
        );
        assert_eq!((errors, ends), (1, 0), "{dialect:?}");
        let (_, body) = streamed(&service, dialect, "slow/fake").await;
        assert_eq!(dialect.hear(&body), ("one".to_owned(), 1, 0), "{dialect:?}");
        slow.hung_up(PATIENCE).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn r18_however_an_answer_is_split_it_is_the_same() {
    let service = Service::start(&[]);
    let mut dice = seeds::dice();
    let mut bytes = b"\xef\xbb\xbf: hello\r\n\r\n".to_vec();
    bytes.extend_from_slice(delta("Gr\u{fc}\u{df}e ").replace('\n', "\r\n").as_bytes());
    bytes.extend_from_slice(
        delta("\u{1f980} \u{4f60}\u{597d} ")
            .replacen("data: ", "data:", 1)
            .as_bytes(),
    );
    bytes.extend_from_slice(
        b"data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"\xff\xfe\"}}]}\n\n",
    );
    bytes.extend_from_slice(b"id: 7\rretry: 5\r\revent: message\n");
    bytes.extend_from_slice(delta("end").as_bytes());
    bytes.extend_from_slice(format!("{}{}{DONE}", finish("stop"), usage(1, 2)).as_bytes());
    let expected = "Gr\u{fc}\u{df}e \u{1f980} \u{4f60}\u{597d} \u{fffd}\u{fffd}end";
    let mut splits: Vec<Vec<usize>> = vec![vec![bytes.len()], vec![1; bytes.len()]];
    for _ in 0..seeds::rounds(20) {
        splits.push((0..bytes.len()).map(|_| dice.usize(1..40)).collect());
    }
    let count = splits.len();
    for (number, split) in splits.into_iter().enumerate() {
        let mut steps = vec![sse_head()];
        let mut rest = bytes.as_slice();
        for size in split {
            let (piece, after) = rest.split_at(size.min(rest.len()));
            if !piece.is_empty() {
                steps.push(Step::Chunk(piece.to_vec()));
            }
            rest = after;
        }
        steps.push(Step::End);
        let _upstream = doing(&service, &format!("s{number}"), steps).await;
        for dialect in dialects::ALL {
            let (_, body) = streamed(&service, dialect, &format!("s{number}/fake")).await;
            // The upstream's own line ends reach chat clients.
            let body = body
                .replace("\r\n", "\n")
                .replace('\r', "\n")
                .replace("data:{", "data: {");
            let body: String = body
                .lines()
                .filter(|line| !line.starts_with("id:") && !line.starts_with("retry:"))
                .fold(String::new(), |all, line| all + line + "\n");
            assert_eq!(
                dialect.hear(&body),
                (expected.to_owned(), 0, 1),
                "{number}, {dialect:?}"
            );
        }
    }
    figures::record("R18", "splits, each in three dialects", count);
}

#[tokio::test(flavor = "multi_thread")]
async fn r18_many_small_events_cost_in_proportion() {
    let service = Service::start(&["--set", "server.timeout=60000"]);
    let pid = service.binary.pid();
    let mut took = Vec::new();
    for (id, size) in [("warm", 64 << 10), ("small", 256 << 10), ("large", 1 << 20)] {
        let event = b"data: {\"a\":1}\n\n";
        let mut steps = vec![sse_head()];
        steps.push(Step::Chunk(delta("x").into()));
        let block = event.repeat((64 << 10) / event.len());
        steps.extend((0..size / (64 << 10)).map(|_| Step::Chunk(block.clone())));
        steps.extend([
            Step::Chunk(format!("{}{DONE}", finish("stop")).into()),
            Step::End,
        ]);
        let _upstream = doing(&service, id, steps).await;
        let before = process::cpu(pid);
        let (status, body) = streamed(&service, Dialect::Chat, &format!("{id}/fake")).await;
        assert_eq!(status, 200);
        assert!(body.len() > size / 2, "{}", body.len());
        took.push(process::cpu(pid).saturating_sub(before));
    }
    let ratio = took[2].as_secs_f64() / took[1].as_secs_f64().max(0.02);
    figures::record(
        "R18",
        "processor for 1 MiB of 15-byte events (debug build), ms",
        u64::try_from(took[2].as_millis()).expect("short"),
    );
    assert!(
        ratio < 8.0,
        "4 times the bytes cost {ratio:.1} times: {took:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn r20_an_upstream_is_let_go_when_its_client_leaves() {
    let service = Service::start(&[]);
    let upstream = doing(
        &service,
        "p",
        vec![sse_head(), Step::Chunk(delta("one").into()), Step::Hang],
    )
    .await;
    let mut times = Vec::new();
    for number in 0..30 {
        let dialect = dialects::ALL[number % 3];
        let url = format!("{}{}", service.binary.router, dialect.path());
        let asked = service.client.post(url).json(&dialect.ask("p/fake"));
        let mut response = asked.send().await.expect("the gateway answers");
        response.chunk().await.expect("a chunk");
        drop(response);
        let left = Instant::now();
        upstream.hung_up(Duration::from_secs(10)).await;
        times.push(left.elapsed());
    }
    times.sort_unstable();
    let median = times[times.len() / 2];
    figures::record_times("R20", "client gone until upstream let go", &mut times);
    assert!(median < Duration::from_secs(1), "{times:?}");
    let (health, _) = service
        .until("everything left", |health| {
            health["tasks"]["exchange"].is_null()
        })
        .await;
    assert!(health["tasks"]["passing"].is_null(), "{health}");
    let sql = "SELECT count(*) FROM requests WHERE status = 'client_closed'";
    let began = Instant::now();
    while read_cell::<i64>(&service.database(), sql) < 30 {
        assert!(began.elapsed() < PATIENCE, "their rows are written");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
