//! `GET /api/events`: what happens, as it happens; and changes under load.

use std::io::Write;
use std::time::Duration;

use futures_util::StreamExt;
use reqwest::Method as M;
use serde_json::{Value, json};

use crate::support::upstream::{Step, Upstream, delta, finish, json_answer, sse_head, whole};
use crate::support::{PATIENCE, TestGateway, client, say, say_streamed};

/// A listener of the event stream.
pub struct Listener {
    bytes: futures_util::stream::BoxStream<'static, reqwest::Result<bytes::Bytes>>,
    text: String,
}

/// One event as it came.
#[derive(Debug)]
pub struct Heard {
    pub id: Option<String>,
    pub kind: String,
    pub data: Value,
}

impl Listener {
    pub async fn of(gateway: &TestGateway, query: &str, last: Option<&str>) -> Self {
        let mut request = gateway
            .client
            .get(gateway.api(&format!("/api/events{query}")));
        if let Some(last) = last {
            request = request.header("last-event-id", last);
        }
        let response = request.send().await.expect("an answer");
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        Self {
            bytes: response.bytes_stream().boxed(),
            text: String::new(),
        }
    }

    /// The next event; none when the stream has ended.
    pub async fn next(&mut self) -> Option<Heard> {
        loop {
            if let Some((event, rest)) = self.text.split_once("\n\n") {
                let line = |name: &str| {
                    let mut lines = event.lines();
                    lines
                        .find_map(|line| line.strip_prefix(name).map(|text| text.trim().to_owned()))
                };
                let heard = line("event:").map(|kind| Heard {
                    id: line("id:"),
                    kind,
                    data: serde_json::from_str(&line("data:").unwrap_or_default()).expect("JSON"),
                });
                let rest = rest.to_owned();
                self.text = rest;
                if heard.is_some() {
                    return heard;
                }
                continue;
            }
            let more = tokio::time::timeout(PATIENCE, self.bytes.next()).await;
            let Some(Ok(more)) = more.expect("something comes") else {
                return None;
            };
            self.text.push_str(&String::from_utf8_lossy(&more));
        }
    }

    pub async fn until(&mut self, kind: &str) -> Heard {
        loop {
            let heard = self.next().await.expect("an event");
            if heard.kind == kind {
                return heard;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_happens_is_told_and_told_again_to_who_missed_it() {
    let gateway = TestGateway::start().await;
    let mut listener = Listener::of(&gateway, "", None).await;
    let first = listener.next().await.expect("an event");
    assert_eq!(first.kind, "proxy:status");
    assert_eq!(first.data["status"]["status"], "running");
    let model = json!({"id": "m1", "name": "M"});
    gateway.post(&gateway.api("/api/models"), &model).await;
    let made = listener.until("models:updated").await;
    assert_eq!(
        (&made.data["action"], &made.data["modelId"]),
        (&json!("created"), &json!("m1"))
    );
    // With what there is now.
    assert_eq!(made.data["total"], 1);
    assert_eq!(made.data["items"][0]["id"], "m1");
    gateway
        .chat(&say("echo", "hi"))
        .await
        .bytes()
        .await
        .expect("a body");
    let started = listener.until("request:started").await;
    let ended = listener.until("request:completed").await;
    assert_eq!(ended.data["requestId"], started.data["requestId"]);
    assert_eq!(
        (&ended.data["status"], &ended.data["provider"]),
        (&json!("completed"), &json!("echo"))
    );
    let put = gateway
        .client
        .put(gateway.api("/api/settings/logging.logRequests"));
    put.json(&json!({"value": false}))
        .send()
        .await
        .expect("an answer");
    assert_eq!(
        listener.until("settings:updated").await.data["keys"],
        json!(["logging.logRequests"])
    );
    assert_eq!(gateway.crash("router").await, 200);
    let restarted = listener.until("actor:restarted").await;
    assert_eq!(restarted.data["actor"], "router");

    // Another one that comes back after the model was made hears the rest again, in order, and what comes.
    let last = made.id.expect("an id");
    let mut back = Listener::of(&gateway, "?types=request:*,settings:updated", Some(&last)).await;
    for kind in [
        "request:started",
        "request:attempted",
        "request:completed",
        "settings:updated",
    ] {
        assert_eq!(back.next().await.expect("an event").kind, kind);
    }
    gateway
        .chat(&say("echo", "hi"))
        .await
        .bytes()
        .await
        .expect("a body");
    assert_eq!(back.next().await.expect("an event").kind, "request:started");

    // The actor that tells may crash: nobody's stream ends, and it goes on telling.
    let incarnation = gateway.actor("events").await["incarnation"]
        .as_u64()
        .expect("a number");
    assert_eq!(gateway.crash("events").await, 200);
    gateway.incarnation_after("events", incarnation).await;
    gateway
        .post(
            &gateway.api("/api/models"),
            &json!({"id": "m2", "name": "M"}),
        )
        .await;
    assert_eq!(listener.until("models:updated").await.data["modelId"], "m2");

    // And a shutdown does not wait for listeners.
    let waiting = tokio::spawn(async move { while listener.next().await.is_some() {} });
    let began = std::time::Instant::now();
    gateway.stop().await;
    waiting.await.expect("the stream ends");
    assert!(began.elapsed() < Duration::from_secs(5));
}

#[tokio::test(flavor = "multi_thread")]
async fn events_carry_what_there_is_now() {
    let gateway = TestGateway::start().await;
    let mut listener = Listener::of(&gateway, "", None).await;
    assert_eq!(
        listener.next().await.expect("an event").kind,
        "proxy:status"
    );
    gateway.provider_at("p1", "http://127.0.0.1:9/v1").await;
    let made = listener.until("providers:updated").await.data;
    assert_eq!(
        (&made["action"], &made["providerId"]),
        (&json!("created"), &json!("p1"))
    );
    let items = made["items"].as_array().expect("providers");
    assert!(items.iter().any(|one| one["id"] == "p1"), "{made}");
    assert_eq!(made["total"], items.len());
    assert!(made["enabled"].as_u64() > Some(0), "{made}");
    let login = json!({"token": "t", "cookies": "c=1", "expiresAt": 1_999_999_999});
    gateway
        .post(&gateway.api("/api/qwen/credentials"), &login)
        .await;
    let updated = listener.until("credentials:updated").await.data;
    assert_eq!(updated["action"], "updated");
    assert_eq!(
        updated["credentials"],
        json!({"valid": true, "expiresAt": 1_999_999_999})
    );
    // A stop and a start: both services, step by step, and the same object as on connecting.
    for (path, steps) in [
        ("/api/proxy/stop", ["stopping", "stopped"]),
        ("/api/proxy/start", ["starting", "running"]),
    ] {
        gateway.post(&gateway.api(path), &json!({})).await;
        for state in steps {
            for _ in 0..2 {
                let told = listener.until("lifecycle:update").await.data;
                assert_eq!(told["lifecycle"]["state"], state, "{told}");
                let process = told["lifecycle"]["process"].as_str().expect("a name");
                assert_eq!(told["lifecycle"]["port"], told[process]["port"]);
                assert!(told["providers"]["total"].is_u64(), "{told}");
            }
        }
        let told = listener.until("proxy:status").await.data;
        assert!(told["status"]["providerRouter"]["port"].is_u64(), "{told}");
        assert!(told["timestamp"].is_string());
    }
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_comes_back_too_late_is_told_that_something_is_lost() {
    let gateway = TestGateway::start().await;
    let mut listener = Listener::of(&gateway, "", None).await;
    gateway
        .post(
            &gateway.api("/api/models"),
            &json!({"id": "m1", "name": "M"}),
        )
        .await;
    let known = listener.until("models:updated").await.id.expect("an id");
    let mut back = Listener::of(&gateway, "", Some(&known)).await;
    assert_eq!(back.next().await.expect("an event").kind, "proxy:status");
    // The actor's crash loses what it kept.
    let incarnation = gateway.actor("events").await["incarnation"].as_u64();
    assert_eq!(gateway.crash("events").await, 200);
    gateway
        .incarnation_after("events", incarnation.expect("a number"))
        .await;
    let mut late = Listener::of(&gateway, "?types=models:*", Some(&known)).await;
    let first = late.next().await.expect("an event");
    assert_eq!(
        (first.kind.as_str(), &first.data["lost"]),
        ("events:lost", &Value::Null)
    );
    // As does a thousand of others.
    let known = {
        gateway
            .post(
                &gateway.api("/api/models"),
                &json!({"id": "m2", "name": "M"}),
            )
            .await;
        late.until("models:updated").await.id.expect("an id")
    };
    for _ in 0..340 {
        let answer = gateway.chat(&say("echo", "hi")).await;
        answer.bytes().await.expect("a body");
    }
    let mut late = Listener::of(&gateway, "?types=models:*", Some(&known)).await;
    assert_eq!(late.next().await.expect("an event").kind, "events:lost");
    gateway.stop().await;
}

/// Tells a process of [`changes_under_load_lose_nothing_and_break_no_stream`] what to do: the address and its name.
const HAMMER: &str = "QWARDEN_TEST_HAMMER";
/// Rounds of changes each process makes.
const CHANGES: usize = 40;
/// Begins the line in which such a process says how many of its changes of the common counter were taken.
const COUNTED: &str = "counted ";

/// Runs this test binary as another process that does nothing but [`the_other_process_changes_things`].
fn hammer(gateway: &TestGateway, name: &str, upstream: &Upstream) -> std::process::Child {
    let task = json!({"api": gateway.api(""), "name": name, "upstream": upstream.base_url()});
    std::process::Command::new(std::env::current_exe().expect("this binary"))
        .args([
            "--exact",
            "events::the_other_process_changes_things",
            "--nocapture",
        ])
        .env(HAMMER, task.to_string())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .expect("another process")
}

/// Two processes that change the configuration all the time, while a hundred streams are open: no error, nothing lost.
#[tokio::test(flavor = "multi_thread")]
async fn changes_under_load_lose_nothing_and_break_no_stream() {
    const STREAMS: usize = 100;
    let words: String = (0..20).map(|n| delta(&format!("w{n} "))).collect();
    let rest = format!("{}{}data: [DONE]\n\n", delta("last"), finish("stop"));
    let upstream = Upstream::start(move |_| {
        vec![
            sse_head(),
            Step::Chunk(words.clone().into_bytes()),
            Step::Gate,
            Step::Chunk(rest.clone().into_bytes()),
            Step::End,
        ]
    })
    .await;
    let listed = Upstream::start(|_| vec![json_answer(200, &whole("x"))]).await;
    let gateway = TestGateway::start().await;
    gateway.provider("served", &upstream).await;
    gateway.provider("counted", &listed).await;
    let begun = tokio::sync::Semaphore::new(0);
    let streams = (0..STREAMS).map(|_| async {
        let answer = gateway.chat(&say_streamed("served/fake", "hi")).await;
        assert_eq!(answer.status(), 200);
        let mut text = String::new();
        let mut pieces = answer.bytes_stream();
        while let Some(piece) = pieces.next().await {
            let was_begun = text.contains("w19");
            text.push_str(&String::from_utf8_lossy(&piece.expect("a whole stream")));
            if !was_begun && text.contains("w19") {
                begun.add_permits(1);
            }
        }
        assert!(text.contains("last") && text.contains("[DONE]"), "{text}");
    });
    // Every stream is open before the first change and until after the last one.
    let changes = async {
        let all = u32::try_from(STREAMS).expect("a few");
        let open = tokio::time::timeout(PATIENCE, begun.acquire_many(all)).await;
        open.expect("all begin").expect("never closed").forget();
        let ends = ["one", "two"].map(|name| {
            let child = hammer(&gateway, name, &listed);
            async { tokio::task::spawn_blocking(|| child.wait_with_output()).await }
        });
        let mut taken = 0;
        for ended in futures_util::future::join_all(ends).await {
            let ended = ended.expect("it is waited for").expect("it ends");
            let said = String::from_utf8_lossy(&ended.stdout);
            let why = String::from_utf8_lossy(&ended.stderr);
            assert!(ended.status.success(), "{said}\n{why}");
            let counted = said
                .split(COUNTED)
                .nth(1)
                .and_then(|rest| rest.lines().next());
            taken += counted
                .expect("it counts")
                .parse::<usize>()
                .expect("a number");
        }
        let (_, status) = gateway.get(&gateway.api("/api/proxy/status")).await;
        assert_eq!(status["providerRouter"]["in_flight"], STREAMS);
        upstream.go(STREAMS);
        taken
    };
    let (_, taken) = tokio::join!(futures_util::future::join_all(streams), changes);
    let (_, providers) = gateway
        .get(&gateway.api("/api/providers?limit=1000&type=openai-compatible"))
        .await;
    assert_eq!(
        providers["total"],
        2 + CHANGES,
        "half of those made are left"
    );
    let (_, counter) = gateway
        .get(&gateway.api("/api/providers/counted/config"))
        .await;
    assert_eq!(taken, 2 * CHANGES);
    assert_eq!(counter["config"]["count"], taken, "no update is lost");
    let (_, served) = gateway
        .get(&gateway.api("/api/providers/served/config"))
        .await;
    for name in ["one", "two"] {
        assert_eq!(served["config"][name], CHANGES - 1);
        let (_, kept) = gateway
            .get(&gateway.api(&format!("/api/providers/{name}-39")))
            .await;
        assert_eq!(
            (&kept["priority"], &kept["models"][0]["id"]),
            (&json!(39), &json!(format!("{name}-39")))
        );
    }
    let (_, stats) = gateway
        .get(&gateway.api("/api/responses/stats?provider=served"))
        .await;
    assert_eq!(
        (&stats["completed"], &stats["failed"]),
        (&json!(STREAMS), &json!(0))
    );
    gateway.stop().await;
}

/// What each of those processes does. Without its task it has nothing to do.
#[tokio::test]
async fn the_other_process_changes_things() {
    let Ok(task) = std::env::var(HAMMER) else {
        return;
    };
    let task: Value = serde_json::from_str(&task).expect("JSON");
    let text = |key: &str| task[key].as_str().expect("text").to_owned();
    let (api, name, upstream) = (text("api"), text("name"), text("upstream"));
    let client = client();
    let send = async |method: M, path: String, body: Value, status: u16| {
        let request = client.request(method, format!("{api}{path}")).json(&body);
        let answer = request.send().await.expect("an answer");
        let got = answer.status().as_u16();
        let said = answer.text().await.unwrap_or_default();
        assert_eq!(got, status, "{path}: {said}");
    };
    let mut taken = 0;
    for round in 0..CHANGES {
        let id = format!("{name}-{round}");
        let new = json!({"id": id, "name": id, "type": "openai-compatible", "enabled": false,
                         "config": {"baseURL": upstream}});
        let model = json!({"id": id, "name": id});
        let link = json!({"model_id": id});
        let path = format!("/api/providers/{id}");
        let (note, models) = (format!("{path}/config/note"), format!("{path}/models"));
        // Both change the same provider, each its own key.
        let common = format!("/api/providers/served/config/{name}");
        let value = json!({"value": round});
        send(M::POST, "/api/providers".into(), new, 201).await;
        send(M::PUT, path.clone(), json!({"priority": round}), 200).await;
        send(M::PATCH, note, value.clone(), 200).await;
        send(M::POST, "/api/models".into(), model, 201).await;
        send(M::POST, models, link, 201).await;
        send(M::PATCH, common, value, 200).await;
        if round % 2 == 0 {
            send(M::DELETE, path, Value::Null, 200).await;
        }
        taken += counted_on(&client, &api).await;
    }
    let mut out = std::io::stdout();
    writeln!(out, "\n{COUNTED}{taken}").expect("somebody reads it");
}

/// Both read the same value and write the next one, as often as it takes for theirs to be the one that counts. Returns
/// how many of these changes were taken.
async fn counted_on(client: &reqwest::Client, api: &str) -> usize {
    let url = format!("{api}/api/providers/counted/config");
    loop {
        let seen = client.get(&url).send().await.expect("an answer");
        let tag = seen.headers()["etag"].clone();
        let config: Value = seen.json().await.expect("JSON");
        let next = config["config"]["count"].as_i64().unwrap_or_default() + 1;
        let change = client.patch(format!("{url}/count")).header("if-match", tag);
        let change = change.json(&json!({"value": next})).send().await;
        match change.expect("an answer").status().as_u16() {
            200 => return 1,
            412 => {}
            other => panic!("{other} to a change of what was seen"),
        }
    }
}
