//! What is no chat goes to a provider and back as it is.

use serde_json::{Value, json};

use crate::support::upstream::{Received, Step, Upstream, json_answer};
use crate::support::{TestGateway, client};

fn embedded() -> Value {
    json!({"object": "list", "model": "fake", "data": [{"object": "embedding", "index": 0, "embedding": [0.5]}],
        "usage": {"prompt_tokens": 3, "total_tokens": 3}})
}

/// Answers by path, and remembers what came.
async fn upstream() -> Upstream {
    Upstream::start(|request: &Received| match request.path.as_str() {
        "/v1/audio/speech" => vec![
            Step::Head(200, vec![("content-type", "audio/mpeg".into())]),
            Step::Chunk(b"ID3".to_vec()),
            Step::Chunk(vec![0, 255]),
            Step::End,
        ],
        "/v1/completions" => vec![json_answer(
            200,
            &json!({"object": "text_completion", "choices": [{"text": request.json()["prompt"]}]}),
        )],
        "/v1/audio/transcriptions" => vec![json_answer(200, &json!({"text": "hello"}))],
        "/v1/moderations" => vec![json_answer(400, &json!({"error": {"message": "too long"}}))],
        _ => vec![json_answer(200, &embedded())],
    })
    .await
}

async fn told(response: reqwest::Response) -> (u16, Value) {
    let status = response.status().as_u16();
    (status, response.json().await.expect("JSON"))
}

#[tokio::test]
async fn a_request_goes_as_it_came_and_is_in_the_history() {
    let upstream = upstream().await;
    let gateway = TestGateway::start().await;
    gateway.provider("up", &upstream).await;
    let body = json!({"model": "up/fake", "input": ["a"], "dimensions": 1, "new": 7});
    let response = gateway.post(&gateway.router("/v1/embeddings"), &body).await;
    assert_eq!(response.headers()["x-qwarden-provider"], "up");
    assert_eq!(told(response).await, (200, embedded()));
    let sent = upstream.received("/v1/embeddings");
    assert_eq!(
        sent[0].json(),
        json!({"model": "fake", "input": ["a"], "dimensions": 1, "new": 7})
    );
    assert_eq!(sent[0].header("authorization"), Some("Bearer sk-upstream"));
    let row = |column: &str| {
        format!(
            "SELECT {column} FROM requests JOIN responses ON responses.request_id = requests.id"
        )
    };
    assert_eq!(gateway.cell::<String>(&row("path")), "/v1/embeddings");
    assert_eq!(gateway.cell::<String>(&row("status")), "completed");
    assert_eq!(gateway.cell::<i64>(&row("total_tokens")), 3);

    let response = gateway
        .post(
            &gateway.router("/v1/audio/speech"),
            &json!({"model": "fake", "input": "hi"}),
        )
        .await;
    assert_eq!(response.headers()["content-type"], "audio/mpeg");
    assert_eq!(
        response.bytes().await.expect("a body"),
        b"ID3\x00\xFF".as_slice()
    );
    let response = gateway
        .post(
            &gateway.router("/v1/moderations"),
            &json!({"model": "fake", "input": "hi"}),
        )
        .await;
    assert_eq!(response.headers()["x-should-retry"], "false");
    let (status, error) = told(response).await;
    assert_eq!(status, 400);
    assert!(
        error["error"]["message"]
            .as_str()
            .expect("text")
            .contains("too long")
    );
    gateway.stop().await;
}

#[tokio::test]
async fn a_form_with_a_file_is_passed_on_with_its_model_named_anew() {
    let upstream = upstream().await;
    let gateway = TestGateway::start().await;
    gateway.provider("up", &upstream).await;
    let form = "--b\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a.wav\"\r\n\r\nRIFF\u{0}\r\n--b\r\n\
                Content-Disposition: form-data; name=\"model\"\r\n\r\nup/fake\r\n--b--\r\n";
    let response = client()
        .post(gateway.router("/v1/audio/transcriptions"))
        .header("content-type", "multipart/form-data; boundary=b")
        .body(form)
        .send()
        .await
        .expect("an answer");
    assert_eq!(told(response).await, (200, json!({"text": "hello"})));
    let sent = &upstream.received("/v1/audio/transcriptions")[0];
    assert_eq!(sent.body, form.replace("up/fake", "fake").into_bytes());
    assert_eq!(
        sent.header("content-type"),
        Some("multipart/form-data; boundary=b")
    );
    // Where no files are expected, a form is none.
    let refused = client()
        .post(gateway.router("/v1/embeddings"))
        .header("content-type", "multipart/form-data; boundary=b")
        .body(form)
        .send()
        .await
        .expect("an answer");
    assert_eq!(refused.status(), 415);
    gateway.stop().await;
}

#[tokio::test]
async fn the_next_target_is_asked_until_the_first_byte() {
    let broken =
        Upstream::start(|_| vec![json_answer(503, &json!({"error": {"message": "down"}}))]).await;
    let cut = Upstream::start(|_| {
        vec![
            Step::Head(200, vec![("content-type", "application/json".into())]),
            Step::Chunk(b"{\"data\":".to_vec()),
            Step::Close,
        ]
    })
    .await;
    let upstream = upstream().await;
    let gateway = TestGateway::start().await;
    gateway.provider("one", &broken).await;
    gateway.provider("two", &cut).await;
    gateway.provider("three", &upstream).await;
    let all = json!({"name": "all", "targets": [{"target": "one/fake"}, {"target": "two/fake"}, {"target": "three/fake"}]});
    gateway
        .post(&gateway.api("/api/virtual-models"), &all)
        .await;
    let body = json!({"model": "all", "input": "a"});
    let response = gateway.post(&gateway.router("/v1/embeddings"), &body).await;
    assert_eq!(response.headers()["x-qwarden-attempts"], "3");
    assert_eq!(told(response).await, (200, embedded()));
    assert_eq!(gateway.cell::<i64>("SELECT count(*) FROM attempts"), 3);
    gateway.stop().await;
}

#[tokio::test]
async fn who_only_chats_says_what_to_do_and_completes_texts_as_chats() {
    let upstream = upstream().await;
    let gateway = TestGateway::start().await;
    gateway.provider("up", &upstream).await;
    let embeddings = gateway.router("/v1/embeddings");
    let (status, error) = told(
        gateway
            .post(&embeddings, &json!({"model": "echo", "input": "a"}))
            .await,
    )
    .await;
    let message = error["error"]["message"].as_str().expect("text");
    assert_eq!(status, 404);
    assert!(
        message.contains("/embeddings") && message.contains("provider/model"),
        "{message}"
    );
    let (status, error) = told(gateway.post(&embeddings, &json!({"model": 7})).await).await;
    assert_eq!((status, &error["error"]["param"]), (400, &json!("model")));

    let completions = gateway.router("/v1/completions");
    let (status, answer) = told(
        gateway
            .post(
                &completions,
                &json!({"model": "fake", "prompt": "as it is"}),
            )
            .await,
    )
    .await;
    assert_eq!(
        (status, &answer["choices"][0]["text"]),
        (200, &json!("as it is"))
    );
    let body = json!({"model": "echo", "prompt": "one two", "stream": true});
    let events = gateway
        .post(&completions, &body)
        .await
        .text()
        .await
        .expect("a body");
    let mut text = String::new();
    for data in events
        .lines()
        .filter_map(|line| line.strip_prefix("data: "))
    {
        if let Ok(chunk) = serde_json::from_str::<Value>(data) {
            assert_eq!(chunk["object"], "text_completion");
            text.push_str(chunk["choices"][0]["text"].as_str().unwrap_or_default());
        }
    }
    assert_eq!(text, "one two");
    assert!(events.ends_with("data: [DONE]\n\n"));
    let (status, error) = told(gateway.post(&completions, &json!({"model": "echo"})).await).await;
    assert_eq!((status, &error["error"]["param"]), (400, &json!("prompt")));
    gateway.stop().await;
}

#[tokio::test]
async fn a_client_that_leaves_lets_go_of_the_upstream() {
    let upstream = Upstream::start(|_| {
        vec![
            Step::Head(200, vec![("content-type", "audio/mpeg".into())]),
            Step::Chunk(b"ID3".to_vec()),
            Step::Chunk(b"more".to_vec()),
            Step::Hang,
        ]
    })
    .await;
    let gateway = TestGateway::start().await;
    gateway.provider("up", &upstream).await;
    let url = gateway.router("/v1/audio/speech");
    let mut response = gateway
        .post(&url, &json!({"model": "fake", "input": "hi"}))
        .await;
    assert!(response.chunk().await.expect("a chunk").is_some());
    drop(response);
    upstream.hung_up(crate::support::PATIENCE).await;
    gateway.stop().await;
}
