//! What port 3000 adds to the site's own time: `cargo bench --bench translation`.
//!
//! Throughput of the tool parser, time per event of the translation, and how much later a chunk arrives through the
//! gateway than directly, in one run. Prints a table; measures, and judges nothing.
#![expect(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a bench's own work"
)]
#![expect(clippy::disallowed_methods, reason = "its tasks end with the process")]
#![expect(
    dead_code,
    unreachable_pub,
    reason = "the modules are those of the tests, which use more of them"
)]

#[path = "../tests/gateway/support/site.rs"]
mod site;
#[path = "../tests/support/upstream.rs"]
mod upstream;

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use qwarden::gateway::{Config, Gateway};
use qwarden::measure;
use serde_json::json;

use site::{Play, Site, jwt, phase};
use upstream::{Step, sse_head};

/// Words of one answer whose way is timed.
const WORDS: usize = 2_000;
/// Answers whose first word's way is timed.
const ANSWERS: usize = 300;

fn main() {
    throughput();
    per_event();
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        forwarding().await;
        first_word().await;
    });
}

/// The best of several runs, in MB/s.
fn rate(text: &str, size: usize) -> f64 {
    let best = (0..9)
        .map(|_| {
            let begun = Instant::now();
            std::hint::black_box(measure::parse_tools(text, size));
            begun.elapsed()
        })
        .min()
        .expect("runs");
    let bytes = u32::try_from(text.len()).expect("small");
    f64::from(bytes) / 1e6 / best.as_secs_f64()
}

fn throughput() {
    let prose =
        "The dance tells where the flowers are, how far, and how good they were. ".repeat(60_000);
    let call = "<tool_call>\n{\"name\": \"bash\", \"arguments\": {\"command\": \"grep -rn 'fn main' src | head\"}}\n</tool_call>\n";
    let code = "    let answer = \\\"quoted\\\"; // and </tool_call> in a string\\n".repeat(20_000);
    let edit = format!(
        "<tool_call>\n{{\"name\": \"edit\", \"arguments\": {{\"path\": \"a\", \"old\": \"b\", \"new\": \"{code}\"}}}}\n</tool_call>"
    );
    println!("tool parser, one core, MB/s in pieces of 20 / 50 bytes");
    for (what, text) in [
        ("plain text", prose),
        ("small calls", call.repeat(20_000)),
        ("a call of 1 MB", edit),
    ] {
        println!(
            "  {what:16} {:6.0} / {:.0}",
            rate(&text, 20),
            rate(&text, 50)
        );
    }
}

/// The value that `share` of the sorted `times` do not exceed.
fn quantile(times: &mut [Duration], share: f64) -> Duration {
    times.sort_unstable();
    let last = u32::try_from(times.len() - 1).expect("small");
    let at = (f64::from(last) * share).round();
    times[format!("{at:.0}").parse::<usize>().expect("a place")]
}

fn per_event() {
    println!("translation of one event, bytes in to bytes out");
    for name in ["plain.sse", "thinking.sse", "tool-calls.sse"] {
        let stream = site::fixture(name);
        let mut times: Vec<Duration> = (0..300)
            .flat_map(|_| measure::translate(stream.as_bytes()))
            .collect();
        let (median, worst) = (quantile(&mut times, 0.5), quantile(&mut times, 0.99));
        println!("  {name:16} p50 {median:?}, p99 {worst:?}");
    }
}

/// A site that stamps each of `words` as it writes it, one for each permit.
async fn stamping(words: usize, stamps: Arc<Mutex<Vec<Instant>>>) -> Site {
    Site::start(move |turn| {
        let created =
            json!({"response.created": {"chat_id": turn.chat_id, "response_id": turn.response_id}});
        let event =
            |data: &serde_json::Value| Step::Chunk(format!("data: {data}\n\n").into_bytes());
        let mut steps = vec![sse_head(), event(&created)];
        for number in 0..words {
            let stamps = stamps.clone();
            steps.push(Step::Gate);
            steps.push(Step::Run(Arc::new(move || {
                stamps.lock().expect("not poisoned").push(Instant::now());
            })));
            steps.push(event(&phase("answer", &format!("word{number} "), "typing")));
        }
        steps.push(event(&phase("answer", "", "finished")));
        steps.push(Step::End);
        Play::Steps(steps)
    })
    .await
}

/// A site of `words`, a gateway in front of it, and a client.
struct Bench {
    site: Site,
    words: usize,
    stamps: Arc<Mutex<Vec<Instant>>>,
    gateway: Gateway,
    client: reqwest::Client,
    token: String,
    #[expect(dead_code, reason = "held for its end")]
    dir: tempfile::TempDir,
}

impl Bench {
    async fn start(words: usize) -> Self {
        let stamps = Arc::new(Mutex::new(Vec::new()));
        let site = stamping(words, stamps.clone()).await;
        let dir = tempfile::TempDir::new().expect("a folder");
        let settings = [
            ("server.port", json!(0)),
            ("server.qwenPort", json!(0)),
            ("server.apiPort", json!(0)),
            ("system.discovery", json!(false)),
            ("qwen.baseUrl", json!(site.upstream.origin())),
        ]
        .map(|(key, value)| (key.to_owned(), value))
        .to_vec();
        let config = Config {
            data_dir: dir.path().to_owned(),
            settings,
            ..Config::default()
        };
        let gateway = Gateway::start(config).await.expect("the gateway starts");
        let client = reqwest::Client::builder()
            .no_proxy()
            .build()
            .expect("a client");
        let token = jwt("u", 4_000_000_000);
        let login = json!({"token": token, "cookies": format!("token={token}")});
        let management = gateway.management_address();
        let stored = client
            .post(format!("http://{management}/api/qwen/credentials"))
            .json(&login)
            .send();
        assert_eq!(stored.await.expect("an answer").status(), 200);
        Self {
            site,
            words,
            stamps,
            gateway,
            client,
            token,
            dir,
        }
    }

    /// How long after its stamp each word of an answer came through the gateway.
    async fn through(&self) -> Vec<Duration> {
        let body = json!({"model": "qwen3-max", "stream": true, "messages": [{"role": "user", "content": "go"}]});
        let url = format!("http://{}/v1/chat/completions", self.gateway.qwen_address());
        let asked = self.client.post(url).json(&body).send();
        self.late(asked).await
    }

    /// The same from the site itself.
    async fn direct(&self) -> Vec<Duration> {
        let call = |path: String, body: serde_json::Value| {
            let request = self
                .client
                .post(format!("{}{path}", self.site.upstream.origin()));
            request
                .header("cookie", format!("token={}", self.token))
                .json(&body)
                .send()
        };
        let opened = json!({"title": "t", "models": [], "chat_mode": "normal", "chat_type": "t2t", "timestamp": 1});
        let opened = call("/api/v2/chats/new".into(), opened).await;
        let opened: serde_json::Value = opened.expect("an answer").json().await.expect("JSON");
        let chat = opened["data"]["id"].as_str().expect("an id").to_owned();
        let turn = json!({"chat_id": chat, "messages": [{"role": "user", "content": "go"}]});
        let path = format!("/api/v2/chat/completions?chat_id={chat}");
        self.late(call(path, turn)).await
    }

    /// Reads an answer word by word: the next is written when the last one has come, so that one at a time is under way.
    async fn late(
        &self,
        asked: impl Future<Output = Result<reqwest::Response, reqwest::Error>>,
    ) -> Vec<Duration> {
        // The gateway answers once the first word is there.
        self.site.upstream.go(1);
        let mut response = asked.await.expect("an answer");
        assert_eq!(response.status(), 200);
        let mut times = Vec::with_capacity(self.words);
        while let Some(chunk) = response.chunk().await.expect("a chunk") {
            if chunk.windows(4).any(|window| window == b"word") {
                let stamps = self.stamps.lock().expect("not poisoned");
                times.push(stamps.last().expect("stamped").elapsed());
                if times.len() < self.words {
                    self.site.upstream.go(1);
                }
            }
        }
        assert_eq!(times.len(), self.words);
        times
    }

    async fn stop(self) {
        self.gateway.shutdown(Duration::from_secs(5)).await;
    }
}

fn print(rows: [(&str, &mut Vec<Duration>); 2]) {
    for (what, times) in rows {
        let (median, worst) = (quantile(times, 0.5), quantile(times, 0.99));
        println!("  {what:16} p50 {median:?}, p99 {worst:?}");
    }
}

async fn forwarding() {
    let bench = Bench::start(WORDS).await;
    let (mut through, mut direct) = (bench.through().await, bench.direct().await);
    println!("a word on its way from the site to the client, over loopback, one at a time");
    print([("direct", &mut direct), ("through", &mut through)]);
    bench.stop().await;
}

async fn first_word() {
    let bench = Bench::start(1).await;
    let (mut through, mut direct) = (Vec::new(), Vec::new());
    for _ in 0..ANSWERS {
        through.extend(bench.through().await);
        direct.extend(bench.direct().await);
    }
    println!(
        "the first word of an answer, {ANSWERS} new conversations on connections that were used before"
    );
    print([("direct", &mut direct), ("through", &mut through)]);
    bench.stop().await;
}
