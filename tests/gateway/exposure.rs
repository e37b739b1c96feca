//! What leaves the gateway and what gets in beside requests: headers, connections, errors, files, protocols.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};

use crate::import::old;
use crate::support::binary::Binary;
use crate::support::upstream::{DONE, Step, Upstream, delta, finish, json_answer, whole};
use crate::support::{PATIENCE, TestGateway, client, say, say_streamed};

/// What a client's tools and proxies put into a request that is nobody's business behind the gateway.
const CLIENTS_OWN: [(&str, &str); 14] = [
    ("authorization", "Bearer sk-planted-client"),
    ("x-api-key", "planted-client-key"),
    ("cookie", "planted=client"),
    ("proxy-authorization", "Basic planted"),
    ("proxy-connection", "keep-alive"),
    ("x-forwarded-for", "203.0.113.7"),
    ("x-forwarded-proto", "https"),
    ("x-forwarded-host", "planted.example"),
    ("forwarded", "for=203.0.113.7"),
    ("x-real-ip", "203.0.113.7"),
    ("via", "1.1 planted"),
    ("te", "trailers"),
    ("upgrade", "planted/1"),
    ("referer", "http://planted.example/"),
];
/// What an upstream says of itself and to itself.
const UPSTREAMS_OWN: [(&str, &str); 7] = [
    ("set-cookie", "planted=upstream"),
    ("server", "planted-server/1"),
    ("x-powered-by", "planted"),
    ("via", "1.1 planted"),
    ("strict-transport-security", "max-age=1"),
    ("alt-svc", "h3=\":443\""),
    ("access-control-allow-origin", "*"),
];

fn with_own(mut headers: Vec<(&'static str, String)>) -> Vec<(&'static str, String)> {
    headers.extend(UPSTREAMS_OWN.map(|(name, value)| (name, value.to_owned())));
    headers
}

#[tokio::test(flavor = "multi_thread")]
async fn s11_headers_of_clients_and_upstreams_end_at_the_gateway() {
    let upstream = Upstream::start(|request| {
        if request.path.ends_with("/embeddings") {
            let body = json!({"object": "list", "data": [], "model": "fake"});
            let head = with_own(vec![("content-type", "application/json".into())]);
            return vec![Step::Whole(200, head, body.to_string().into_bytes())];
        }
        if request.json()["stream"] == true {
            let head = with_own(vec![("content-type", "text/event-stream".into())]);
            let events = format!("{}{}{DONE}", delta("hi"), finish("stop"));
            return vec![
                Step::Head(200, head),
                Step::Chunk(events.into_bytes()),
                Step::End,
            ];
        }
        let head = with_own(vec![("content-type", "application/json".into())]);
        vec![Step::Whole(200, head, whole("hi").to_string().into_bytes())]
    })
    .await;
    let other = Upstream::start(|_| vec![json_answer(200, &whole("other"))]).await;
    // A request that a proxy passed on counts as one of elsewhere, which needs a key.
    let gateway = TestGateway::start().await;
    let key = gateway
        .post(&gateway.api("/api/keys"), &json!({"name": "tools"}))
        .await;
    let key: Value = key.json().await.expect("JSON");
    let key = key["key"].as_str().expect("a key").to_owned();
    gateway.provider("p1", &upstream).await;
    let second = json!({"id": "p2", "name": "p2", "type": "openai-compatible",
        "config": {"baseURL": other.base_url(), "apiKey": "sk-second"}});
    let made = gateway.post(&gateway.api("/api/providers"), &second).await;
    assert_eq!(made.status(), 201);

    let message = json!({"model": "p1/fake", "max_tokens": 9, "messages": [{"role": "user", "content": "x"}]});
    let bodies = [
        ("/v1/chat/completions", say("p1/fake", "x")),
        ("/v1/chat/completions", say_streamed("p1/fake", "x")),
        ("/v1/messages", message),
        ("/v1/responses", json!({"model": "p1/fake", "input": "x"})),
        ("/v1/embeddings", json!({"model": "p1/fake", "input": "x"})),
    ];
    let count = bodies.len();
    for (path, body) in bodies {
        let mut request = gateway.client.post(gateway.router(path)).json(&body);
        for (name, value) in CLIENTS_OWN {
            let value = if name == "authorization" {
                format!("Bearer {key}")
            } else {
                value.to_owned()
            };
            request = request.header(name, value);
        }
        let answer = request.send().await.expect("an answer");
        let (status, headers) = (answer.status(), answer.headers().clone());
        let text = answer.text().await.expect("a body");
        assert_eq!(status, 200, "{path} {text}");
        for (name, _) in UPSTREAMS_OWN {
            assert!(
                !headers.contains_key(name),
                "{path}: {name}: {:?}",
                headers[name]
            );
        }
        assert!(
            !format!("{headers:?}{text}").contains("planted"),
            "{path} {headers:?}"
        );
    }
    let asked = upstream.asked();
    assert_eq!(asked.len(), count);
    for request in &asked {
        for (name, _) in CLIENTS_OWN {
            let got = request.header(name);
            let own = name == "authorization";
            let right = if own {
                got == Some("Bearer sk-upstream")
            } else {
                got.is_none()
            };
            assert!(right, "{}: {name}: {got:?}", request.path);
        }
        let all = format!("{:?}", request.headers);
        assert!(!all.contains("planted") && !all.contains(&key), "{all}");
    }
    // Each gets its own key.
    assert_eq!(gateway.chat(&say("p2/fake", "x")).await.status(), 200);
    assert_eq!(
        other.asked()[0].header("authorization"),
        Some("Bearer sk-second")
    );
    gateway.stop().await;
}

/// A traced process; it ends with the value, and its tracer with it.
struct Traced(Child);

impl Drop for Traced {
    fn drop(&mut self) {
        let pid = self.0.id();
        let below = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
        let below = below.unwrap_or_default();
        let ended = Command::new("kill")
            .args(["-s", "TERM"])
            .args(below.split_whitespace())
            .status();
        if ended.is_err() || below.is_empty() {
            let _ = self.0.kill();
        }
        let _ = self.0.wait();
    }
}

/// Addresses in a trace of `connect` and `sendto`, but for those of our own kind (unix sockets, netlink).
fn connected(trace: &str) -> BTreeSet<String> {
    let lines = trace
        .lines()
        .filter(|line| line.contains("sa_family=AF_INET"));
    let of = |line: &str| {
        line.split_once('{')
            .map_or_else(|| line.to_owned(), |(_, rest)| rest.to_owned())
    };
    lines.map(of).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn s14_an_idle_gateway_connects_nowhere() {
    let traced = Command::new("strace")
        .args(["-V"])
        .stdout(Stdio::null())
        .status();
    if traced.is_err() {
        assert!(std::env::var_os("CI").is_none(), "CI has strace");
        return;
    }
    let dir = tempfile::TempDir::new().expect("a directory");
    // One with everything a user may have: a login, providers that answer nowhere, a schedule.
    let binary = Binary::start(dir.path(), &[]);
    let http = client();
    for (path, body) in [
        (
            "/api/qwen/credentials",
            json!({"token": "t", "cookies": "token=t"}),
        ),
        (
            "/api/providers",
            json!({"id": "far", "name": "far", "type": "openai-compatible",
                                  "config": {"baseURL": "https://models.example.com/v1", "apiKey": "sk"}}),
        ),
    ] {
        let url = format!("{}{path}", binary.management);
        let answer = http.post(url).json(&body).send().await.expect("an answer");
        assert!(answer.status().is_success(), "{path}");
    }
    drop(binary);

    let trace = dir.path().join("trace");
    let child = Command::new("strace")
        .args([
            "-f",
            "-qq",
            "-e",
            "trace=connect,sendto,sendmsg,sendmmsg",
            "-o",
        ])
        .arg(&trace)
        .arg(env!("CARGO_BIN_EXE_qwarden"))
        .args(["serve", "--no-discovery", "--data-dir"])
        .arg(dir.path())
        .args(["--port", "0", "--qwen-port", "0", "--api-port", "0"])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn();
    let mut traced = Traced(child.expect("strace runs"));
    let mut output = traced.0.stdout.take().expect("a pipe");
    let mut said = String::new();
    while !said.contains("try:") {
        let mut piece = [0; 512];
        let length = output.read(&mut piece).expect("text");
        assert!(length > 0, "it ended: {said}");
        said.push_str(&String::from_utf8_lossy(&piece[..length]));
    }
    // Long enough for what is done soon after a start; what is done later is by the same timers.
    tokio::time::sleep(Duration::from_secs(3)).await;
    let before = std::fs::read_to_string(&trace).expect("a trace");
    // The one connection that the start itself makes: to a socket of its own, to learn whether Linux tells its user.
    let own: Vec<_> = connected(&before).into_iter().collect();
    assert!(own.iter().all(|to| to.contains("127.0.0.1")), "{own:#?}");
    assert_eq!(own.len(), 1, "{own:#?}");

    // That the trace would show it: a completion that goes out is seen in it.
    let url = said
        .split_whitespace()
        .find(|word| word.ends_with("/v1"))
        .expect("the router's address");
    let asked = http
        .post(format!("{url}/chat/completions"))
        .json(&say("far/m", "x"))
        .send();
    let _ = tokio::time::timeout(PATIENCE, asked).await;
    let after = std::fs::read_to_string(&trace).expect("a trace");
    assert!(connected(&after).len() > 1, "a name is looked up at least");
}

#[tokio::test(flavor = "multi_thread")]
async fn s16_what_clients_write_never_becomes_sql() {
    let gateway = TestGateway::start().await;
    for text in ["alpha 100% sure", "beta under_score", "gamma"] {
        let answer = gateway.chat(&say("echo", text)).await;
        answer.bytes().await.expect("a body");
    }
    let provider = json!({"id": "p%", "name": "100%_'\"; DROP TABLE providers; --", "type": "openai-compatible",
        "config": {"baseURL": "http://127.0.0.1:9/v1"}});
    let made = gateway
        .post(&gateway.api("/api/providers"), &provider)
        .await;
    let is_taken = made.status() == 201;
    assert!(
        is_taken || made.status() == 400,
        "{}",
        made.text().await.unwrap_or_default()
    );

    let ugly = [
        "'",
        "%",
        "';--",
        "x' OR '1'='1",
        "(SELECT key FROM settings)",
        "id) UNION SELECT value FROM provider_config --",
        "\u{0}",
        "NEAR(\"",
        "col:x*",
    ];
    let lists = [
        "requests",
        "responses",
        "providers",
        "models",
        "sessions",
        "activity/recent",
        "virtual-models",
        "keys",
    ];
    for list in lists {
        let (_, all) = gateway.get(&gateway.api(&format!("/api/{list}"))).await;
        for text in ugly {
            for name in ["q", "sort", "model", "fields", "cursor", "limit"] {
                let url = reqwest::Url::parse_with_params(
                    &gateway.api(&format!("/api/{list}")),
                    [(name, text)],
                );
                let (status, body) = gateway.get(url.expect("a URL").as_str()).await;
                assert!(
                    matches!(status, 200 | 400),
                    "{list} {name}={text}: {status} {body}"
                );
                let told = body.to_string().to_ascii_lowercase();
                for word in [
                    "syntax error",
                    "no such column",
                    "sqlite",
                    "unrecognized token",
                    "fts5",
                ] {
                    assert!(!told.contains(word), "{list} {name}={text}: {body}");
                }
                // Only names of a fixed list are known.
                if (list, name) == ("sessions", "sort") {
                    assert_eq!(status, 400, "{text}: {body}");
                }
            }
        }
        let (status, again) = gateway.get(&gateway.api(&format!("/api/{list}"))).await;
        assert_eq!((status, &again["total"]), (200, &all["total"]), "{list}");
    }
    // A pattern's own signs are signs like others, or nothing to look for.
    for (text, expected) in [("100%", 200), ("under_score", 200), ("%", 400), ("_", 400)] {
        let url = reqwest::Url::parse_with_params(&gateway.api("/api/requests"), [("q", text)]);
        let (status, body) = gateway.get(url.expect("a URL").as_str()).await;
        assert_eq!(status, expected, "{text}: {body}");
        assert!(status != 200 || body["total"] == 1, "{text}: {body}");
    }
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn s18_errors_tell_nothing_internal_and_no_answer_names_a_server() {
    let gateway = TestGateway::start().await;
    let dead = json!({"id": "dead", "name": "dead", "type": "openai-compatible",
        "config": {"baseURL": "http://127.0.0.1:9/planted/path", "apiKey": "sk-planted"}});
    let made = gateway.post(&gateway.api("/api/providers"), &dead).await;
    assert_eq!(made.status(), 201);
    let dir = gateway
        .database()
        .parent()
        .expect("a folder")
        .display()
        .to_string();
    let again = gateway
        .client
        .post(gateway.api("/api/providers"))
        .json(&dead);
    let chat = |model: &str| {
        gateway
            .client
            .post(gateway.router("/v1/chat/completions"))
            .json(&say(model, "x"))
    };
    let ask = |url: String| gateway.client.get(url);
    let requests = [
        again,
        chat("dead/m"),
        chat("nothing"),
        chat("echo")
            .body("{")
            .header("content-type", "application/json"),
        gateway
            .client
            .post(gateway.router("/v1/messages"))
            .json(&json!({"model": "dead/m", "max_tokens": 1,
            "messages": [{"role": "user", "content": "x"}]})),
        gateway
            .client
            .post(gateway.router("/v1/responses"))
            .json(&json!({"model": "dead/m", "input": "x"})),
        gateway
            .client
            .post(gateway.qwen("/v1/chat/completions"))
            .json(&say("qwen3-max", "x")),
        ask(gateway.api("/api/requests/999999")),
        ask(gateway.api("/api/sessions?sort=planted")),
        ask(gateway.api("/api/fault/handler")),
        ask(gateway.router("/v1/nothing")),
        ask(gateway.qwen("/%ff")),
        ask(gateway.api("/api/health")).header("host", "evil.example"),
        gateway
            .client
            .post(gateway.api("/api/import"))
            .json(&json!({"path": "/etc/passwd"})),
        gateway
            .client
            .post(gateway.api("/api/backup"))
            .json(&json!({"path": "/proc/nothing/x.db"})),
        gateway
            .client
            .put(gateway.api("/api/settings/server.port"))
            .json(&json!({"value": "x"})),
    ];
    let count = requests.len();
    let mut failed = 0;
    for request in requests {
        let answer = request.send().await.expect("an answer");
        let url = answer.url().path().to_owned();
        for name in ["server", "x-powered-by", "via", "x-version"] {
            assert!(!answer.headers().contains_key(name), "{url}: {name}");
        }
        failed +=
            usize::from(answer.status().is_client_error() || answer.status().is_server_error());
        let text = answer.text().await.expect("a body");
        for word in [
            dir.as_str(),
            "planted/path",
            "sk-planted",
            "127.0.0.1:9",
            "SELECT",
            "INSERT",
            "UNIQUE constraint",
            "sqlite",
            "SQLite3",
            "panicked",
            "injected fault",
            ".rs:",
            "src/",
            "rusqlite",
            "reqwest",
            "hyper",
            "thread '",
        ] {
            assert!(!text.contains(word), "{url}: `{word}` in {text}");
        }
    }
    assert_eq!(failed, count, "all of them are errors");
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn s19_a_foreign_database_is_read_and_nothing_in_it_runs() {
    let gateway = TestGateway::start().await;
    let dir = tempfile::TempDir::new().expect("a folder");
    let path = old(
        dir.path(),
        "http://127.0.0.1:9/v1",
        "token-of-the-older-program",
    );
    let conn = rusqlite::Connection::open(&path).expect("it opens");
    // What would run if a schema that is not ours were trusted, and what stands where a table should.
    conn.execute_batch(
        "CREATE TABLE witness (t TEXT);
         CREATE TRIGGER t1 AFTER INSERT ON requests BEGIN INSERT INTO witness VALUES ('ran'); END;
         ALTER TABLE models RENAME TO models_hidden;
         CREATE VIEW models AS SELECT 'evil' AS id, load_extension('/nowhere') AS name, NULL AS description,
             NULL AS capabilities, 1 AS created_at, 1 AS updated_at;
         PRAGMA wal_checkpoint(TRUNCATE);",
    )
    .expect("it runs");
    drop(conn);
    let link = dir.path().join("link.db");
    std::os::unix::fs::symlink(&path, &link).expect("a link");
    // A machine that is busy with other tests may be late; that is another promise's matter.
    let import = async |path: &std::path::Path| loop {
        let url = gateway.api("/api/import");
        let answer = gateway.post(&url, &json!({"path": path})).await;
        let status = answer.status().as_u16();
        if status != 503 {
            return (status, answer.json::<Value>().await.expect("JSON"));
        }
    };
    let (status, body) = import(&link).await;
    assert_eq!(
        (status, &body["error"]["code"]),
        (422, &json!("not_importable")),
        "{body}"
    );
    assert!(
        body["message"].to_string().contains("symbolic link"),
        "{body}"
    );
    let before = std::fs::read(&path).expect("a file");
    let (status, body) = import(&path).await;
    assert_eq!(status, 200, "{body}");
    assert!(
        before == std::fs::read(&path).expect("a file"),
        "the file is only read"
    );
    let conn = rusqlite::Connection::open(&path).expect("it opens");
    let ran: i64 = conn
        .query_row("SELECT count(*) FROM witness", [], |row| row.get(0))
        .expect("a row");
    assert_eq!(ran, 0);
    let (_, models) = gateway.get(&gateway.api("/api/models?limit=1000")).await;
    assert!(!models.to_string().contains("evil"), "{models}");
    // A copied command is text.
    let witness = dir.path().join("witness");
    let command = format!(
        "curl 'https://chat.qwen.ai/' -H \"cookie: token=t; x=$(touch {0})`touch {0}`\" -H 'authorization: Bearer t' ; touch {0}",
        witness.display()
    );
    let answer = gateway
        .post(
            &gateway.api("/api/qwen/credentials"),
            &json!({"curl": command}),
        )
        .await;
    assert!(answer.status().as_u16() < 500);
    assert!(!witness.exists(), "nothing of it runs");
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn s24_the_ports_speak_no_http2() {
    let gateway = TestGateway::start().await;
    for address in [
        gateway.gateway.router_address(),
        gateway.gateway.qwen_address(),
        gateway.gateway.management_address(),
    ] {
        let mut stream = TcpStream::connect(address).expect("a connection");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        // The preface, and empty settings.
        let _ = stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0");
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        let answer = String::from_utf8_lossy(&answer).into_owned();
        assert!(
            answer.is_empty() || answer.starts_with("HTTP/1.1 4"),
            "{answer:?}"
        );
        let upgrade = gateway
            .client
            .get(format!("http://{address}/health/live"))
            .header("connection", "upgrade, http2-settings")
            .header("upgrade", "h2c")
            .header("http2-settings", "AAMAAABkAAQAoAAAAAIAAAAA");
        let answer = upgrade.send().await.expect("an answer");
        assert_ne!(answer.status(), 101);
        assert_eq!(answer.version(), reqwest::Version::HTTP_11);
    }
    gateway.stop().await;
}

#[test]
fn s25_what_tests_is_not_what_is_released() {
    // `tests/release-binary` looks for the same words in a binary without the feature; they are the right ones only if this
    // one has them.
    let binary = std::fs::read(env!("CARGO_BIN_EXE_qwarden")).expect("the binary");
    for words in ["/api/fault/", "injected fault"] {
        let found = binary
            .windows(words.len())
            .any(|window| window == words.as_bytes());
        assert!(found, "`{words}`");
    }
}
