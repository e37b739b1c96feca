//! Ollama's API on its own port, over providers of other dialects.

use serde_json::{Value, json};

use crate::support::upstream::{
    DONE, Received, Step, Upstream, delta, finish, json_answer, sse_head, usage, whole,
};
use crate::support::{PATIENCE, TestGateway, client, free_port};

const PNG: &str = "iVBORw0KGgo=";

async fn gateway() -> TestGateway {
    TestGateway::with(&[("ollama.port", json!(free_port()))]).await
}

/// As curl sends it.
async fn post(gateway: &TestGateway, path: &str, body: &Value) -> reqwest::Response {
    gateway
        .client
        .post(gateway.ollama(path))
        .header("content-type", "application/x-www-form-urlencoded")
        .body(body.to_string())
        .send()
        .await
        .expect("the gateway answers")
}

async fn json_of(response: reqwest::Response) -> (u16, Value) {
    let status = response.status().as_u16();
    (status, response.json().await.expect("JSON"))
}

async fn lines(response: reqwest::Response) -> Vec<Value> {
    assert_eq!(response.headers()["content-type"], "application/x-ndjson");
    let text = response.text().await.expect("a whole body");
    text.lines()
        .map(|line| serde_json::from_str(line).expect("every line is JSON"))
        .collect()
}

fn events(events: &[String]) -> Vec<Step> {
    let chunks = events
        .iter()
        .map(|event| Step::Chunk(event.clone().into_bytes()));
    [sse_head()]
        .into_iter()
        .chain(chunks)
        .chain([Step::End])
        .collect()
}

fn asked(request: &Received) -> Value {
    request.json()
}

#[tokio::test]
async fn it_looks_like_ollama() {
    let gateway = gateway().await;
    let upstream = Upstream::start(|_| vec![json_answer(200, &whole("hi"))]).await;
    gateway.provider("up", &upstream).await;
    let about = client()
        .get(gateway.ollama("/"))
        .send()
        .await
        .expect("an answer");
    assert_eq!(about.text().await.expect("text"), "Ollama is running");
    let head = client()
        .head(gateway.ollama("/"))
        .send()
        .await
        .expect("an answer");
    assert_eq!(head.status(), 200);
    let (_, version) = gateway.get(&gateway.ollama("/api/version")).await;
    assert!(version["version"].is_string());
    assert_eq!(
        gateway.get(&gateway.ollama("/api/ps")).await.1,
        json!({"models": []})
    );
    // The models of a provider that was just made are asked for beside that.
    let looking = async {
        loop {
            let (_, tags) = gateway.get(&gateway.ollama("/api/tags")).await;
            let names: Vec<_> = tags["models"]
                .as_array()
                .expect("a list")
                .iter()
                .map(|row| row["name"].clone())
                .collect();
            if names.contains(&json!("up/fake")) {
                return tags;
            }
            tokio::task::yield_now().await;
        }
    };
    let tags = tokio::time::timeout(PATIENCE, looking)
        .await
        .expect("it is listed");
    for row in tags["models"].as_array().expect("a list") {
        assert_eq!(row["digest"].as_str().map(str::len), Some(64));
        // Whatever is listed can be asked for, also with a tag.
        let name = row["name"].as_str().expect("a name");
        for name in [name.to_owned(), format!("{name}:latest")] {
            let (status, shown) =
                json_of(post(&gateway, "/api/show", &json!({"model": name})).await).await;
            assert_eq!(
                (status, shown["capabilities"][0].as_str()),
                (200, Some("completion")),
                "{name}"
            );
            let body = json!({"model": name, "stream": false, "messages": [{"role": "user", "content": "hi"}]});
            let (status, told) = json_of(post(&gateway, "/api/chat", &body).await).await;
            assert_eq!(
                (status, &told["message"]["content"], &told["model"]),
                (200, &json!("hi"), &json!(name)),
                "{told}"
            );
        }
    }
    let (status, chat) = json_of(
        gateway
            .post(
                &gateway.ollama("/v1/chat/completions"),
                &crate::support::say("echo", "hi"),
            )
            .await,
    )
    .await;
    assert_eq!(
        (status, &chat["choices"][0]["message"]["content"]),
        (200, &json!("hi"))
    );
    assert_eq!(gateway.get(&gateway.ollama("/v1/models")).await.0, 200);
    gateway.stop().await;
}

#[tokio::test]
async fn a_chat_is_translated_there_and_back() {
    let call = json!({"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": "fake", "choices": [{"index": 0,
        "delta": {"tool_calls": [{"index": 0, "id": "t1", "type": "function",
            "function": {"name": "read", "arguments": "{\"path\":\"a\"}"}}]}, "finish_reason": null}]});
    let thought = json!({"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": "fake", "choices": [{"index": 0,
        "delta": {"reasoning_content": "hm"}, "finish_reason": null}]});
    let said = [
        format!("data: {thought}\n\n"),
        delta("Hel"),
        delta("lo"),
        format!("data: {call}\n\n"),
        finish("tool_calls"),
        usage(3, 5),
        DONE.to_owned(),
    ];
    let upstream = Upstream::start(move |_| events(&said)).await;
    let gateway = gateway().await;
    gateway.provider("up", &upstream).await;
    let body = json!({"model": "up/fake", "think": true, "format": {"type": "object"}, "options": {"num_predict": 7},
        "messages": [{"role": "user", "content": "hi", "images": [PNG]}],
        "tools": [{"type": "function", "function": {"name": "read", "parameters": {"type": "object"}}}]});
    let response = post(&gateway, "/api/chat", &body).await;
    assert_eq!(response.headers()["x-qwarden-provider"], "up");
    let lines = lines(response).await;
    let (last, pieces) = lines.split_last().expect("lines");
    let text: String = pieces
        .iter()
        .filter_map(|line| line["message"]["content"].as_str())
        .collect();
    assert_eq!(text, "Hello");
    assert_eq!(pieces[0]["message"]["thinking"], "hm");
    assert_eq!(
        pieces.last().expect("a piece")["message"]["tool_calls"],
        json!([{"id": "t1", "function": {"name": "read", "arguments": {"path": "a"}}}])
    );
    assert!(
        pieces
            .iter()
            .all(|line| line["done"] == false && line["created_at"].is_string())
    );
    assert_eq!(
        (
            &last["done"],
            &last["done_reason"],
            &last["prompt_eval_count"],
            &last["eval_count"]
        ),
        (&json!(true), &json!("stop"), &json!(3), &json!(5))
    );
    assert!(last["total_duration"].as_u64() > Some(0));
    let sent = asked(&upstream.completions()[0]);
    assert_eq!(
        (&sent["model"], &sent["stream"], &sent["max_tokens"]),
        (&json!("fake"), &json!(true), &json!(7))
    );
    // A word of Qwen's servers, which others may refuse.
    assert_eq!(sent.get("enable_thinking"), None);
    assert_eq!(
        sent["messages"][0]["content"][1]["image_url"]["url"],
        format!("data:image/png;base64,{PNG}")
    );
    assert_eq!(
        gateway.cell::<String>("SELECT path FROM requests"),
        "/api/chat"
    );
    gateway.stop().await;
}

#[tokio::test]
async fn a_prompt_is_answered_and_no_prompt_loads() {
    let gateway = gateway().await;
    let body = json!({"model": "echo", "prompt": "one two", "system": "s"});
    let lines = lines(post(&gateway, "/api/generate", &body).await).await;
    let text: String = lines
        .iter()
        .filter_map(|line| line["response"].as_str())
        .collect();
    assert_eq!(text, "one two");
    assert_eq!(lines.last().expect("a line")["done_reason"], "stop");
    for (path, body, reason) in [
        ("/api/generate", json!({"model": "echo:latest"}), "load"),
        (
            "/api/chat",
            json!({"model": "echo", "messages": [], "keep_alive": 0}),
            "unload",
        ),
    ] {
        let (status, told) = json_of(post(&gateway, path, &body).await).await;
        assert_eq!(
            (status, &told["done"], &told["done_reason"]),
            (200, &json!(true), &json!(reason))
        );
    }
    gateway.stop().await;
}

#[tokio::test]
async fn errors_are_told_as_ollama_does() {
    let gateway = gateway().await;
    let said =
        |text: &str| json!({"model": "echo", "messages": [{"role": "user", "content": text}]});
    for (path, body, wanted, words) in [
        (
            "/api/chat",
            json!({"messages": []}),
            400,
            "model is required",
        ),
        (
            "/api/chat",
            json!({"model": "ecko", "messages": [{"role": "user", "content": "x"}]}),
            404,
            "echo",
        ),
        ("/api/generate", json!({"model": "ecko"}), 404, "echo"),
        ("/api/show", json!({"model": "ecko"}), 404, "echo"),
        (
            "/api/generate",
            json!({"model": "echo", "prompt": "a", "suffix": "b"}),
            400,
            "insert",
        ),
        (
            "/api/chat",
            said("echo:fail 429 slow down"),
            429,
            "slow down",
        ),
        ("/api/pull", json!({"model": "echo"}), 404, "/api/pull"),
    ] {
        let (status, told) = json_of(post(&gateway, path, &body).await).await;
        let message = told["error"].as_str().unwrap_or_default();
        assert_eq!(status, wanted, "{path} {told}");
        assert!(message.contains(words), "{path}: {message}");
    }
    // What breaks off says so, and is not taken for an end.
    for text in ["echo:cut 1\none two", "echo:error 1\none two"] {
        let lines = lines(post(&gateway, "/api/chat", &said(text)).await).await;
        assert!(
            lines.last().expect("a line")["error"].is_string(),
            "{lines:?}"
        );
        assert!(lines.iter().all(|line| line["done"] != true));
    }
    gateway.stop().await;
}

#[tokio::test]
async fn a_silent_upstream_keeps_the_client_waiting_with_lines() {
    let said = [delta("hi"), finish("stop"), DONE.to_owned()];
    let upstream = Upstream::start(move |_| {
        let mut steps = events(&said);
        steps.insert(1, Step::Gate);
        steps
    })
    .await;
    let settings = [
        ("ollama.port", json!(free_port())),
        ("server.keepAlive", json!(10)),
    ];
    let gateway = TestGateway::with(&settings).await;
    gateway.provider("up", &upstream).await;
    let body = json!({"model": "up/fake", "messages": [{"role": "user", "content": "hi"}]});
    let mut response = post(&gateway, "/api/chat", &body).await;
    let first = response
        .chunk()
        .await
        .expect("a chunk")
        .expect("not the end");
    let first: Value =
        serde_json::from_slice(first.split(|byte| *byte == b'\n').next().expect("a line"))
            .expect("JSON");
    assert_eq!(
        (&first["done"], &first["message"]["content"]),
        (&json!(false), &json!(""))
    );
    upstream.go(1);
    let rest = lines(response).await;
    assert_eq!(rest.last().expect("a line")["done"], true);
    gateway.stop().await;
}

async fn set_port(gateway: &TestGateway, port: u16) -> (u16, Value) {
    let response = gateway
        .client
        .put(gateway.api("/api/settings/ollama.port"))
        .json(&json!({"value": port}))
        .send()
        .await
        .expect("an answer");
    json_of(response).await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_port_is_opened_moved_and_closed_while_it_serves() {
    let gateway = TestGateway::start().await;
    assert_eq!(
        gateway.gateway.ollama_address(),
        None,
        "it is off by default"
    );
    assert_eq!(gateway.actor("listener-ollama").await["state"], "running");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = taken.local_addr().expect("an address").port();
    let (status, told) = set_port(&gateway, port).await;
    assert_eq!(
        (status, &told["error"]["code"]),
        (409, &json!("port_in_use"))
    );
    assert!(
        told["error"]["message"]
            .as_str()
            .expect("text")
            .contains("Ollama"),
        "{told}"
    );
    drop(taken);
    let mut before = None;
    for port in [free_port(), free_port(), 0, free_port()] {
        assert_eq!(set_port(&gateway, port).await.0, 200);
        if let Some(before) = before.take() {
            let asked = client().get(before).send().await;
            assert!(
                asked.is_err_and(|error| error.is_connect()),
                "the old one is closed"
            );
        }
        if port == 0 {
            assert_eq!(gateway.gateway.ollama_address(), None);
            continue;
        }
        let version = gateway.ollama("/api/version");
        assert!(version.contains(&format!(":{port}/")));
        assert_eq!(gateway.get(&version).await.0, 200);
        before = Some(version);
    }
    // A crash and a stop leave it as it was.
    let node = gateway.actor("listener-ollama").await;
    gateway.crash("listener-ollama").await;
    gateway
        .incarnation_after(
            "listener-ollama",
            node["incarnation"].as_u64().expect("a number"),
        )
        .await;
    let version = gateway.ollama("/api/version");
    assert_eq!(gateway.get(&version).await.0, 200);
    let (_, status) = gateway.get(&gateway.api("/api/proxy/status")).await;
    assert_eq!(status["ollama"]["running"], true);
    gateway
        .post(&gateway.api("/api/proxy/stop"), &json!({}))
        .await;
    assert_eq!(gateway.gateway.ollama_address(), None);
    gateway
        .post(&gateway.api("/api/proxy/start"), &json!({}))
        .await;
    assert_eq!(gateway.get(&version).await.0, 200);
    gateway.stop().await;
}

#[tokio::test]
async fn a_taken_port_stops_the_start_and_names_the_flag() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = taken.local_addr().expect("an address").port();
    let dir = tempfile::TempDir::new().expect("a directory");
    let zero = |key: &str| (key.to_owned(), json!(0));
    let config = qwarden::gateway::Config {
        data_dir: dir.path().join("data"),
        settings: vec![
            zero("server.port"),
            zero("server.qwenPort"),
            zero("server.apiPort"),
            ("ollama.port".into(), json!(port)),
        ],
        ..qwarden::gateway::Config::default()
    };
    let Err(error) = qwarden::gateway::Gateway::start(config).await else {
        panic!("it started");
    };
    assert!(error.to_string().contains("--ollama-port"), "{error}");
}

#[tokio::test]
async fn keys_and_pages_are_checked_as_elsewhere() {
    let gateway = TestGateway::with(&[
        ("ollama.port", json!(free_port())),
        ("auth.requireKeys", json!("always")),
    ])
    .await;
    let (status, told) = gateway.get(&gateway.ollama("/api/tags")).await;
    assert_eq!(status, 401);
    assert!(told["error"].is_string(), "{told}");
    let foreign = client()
        .post(gateway.ollama("/api/chat"))
        .header("origin", "https://evil.example")
        .body("{}")
        .send()
        .await
        .expect("an answer");
    assert_eq!(foreign.status(), 403);
    gateway.stop().await;
}
