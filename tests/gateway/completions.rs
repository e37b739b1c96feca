//! Completions that go well: echo, pass-through, what is rewritten and what is kept.

use serde_json::{Value, json};

use crate::support::upstream::{
    DONE, Step, Upstream, delta, finish, json_answer, sse_head, usage, whole,
};
use crate::support::{TestGateway, hear, say, say_streamed};

#[tokio::test]
async fn echo_answers_plain_and_streamed_and_is_in_the_database() {
    let gateway = TestGateway::start().await;
    let response = gateway.chat(&say("echo", "Hello there, world")).await;
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers()["x-qwarden-provider"], "echo");
    let answer: Value = response.json().await.expect("JSON");
    assert_eq!(answer["object"], "chat.completion");
    assert_eq!(
        answer["choices"][0]["message"]["content"],
        "Hello there, world"
    );
    assert_eq!(answer["choices"][0]["finish_reason"], "stop");

    let response = gateway
        .chat(&say_streamed("echo", "Hello there, world"))
        .await;
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    let heard = hear(&response.text().await.expect("text"));
    assert_eq!(heard.text, "Hello there, world");
    assert_eq!(
        (heard.finish_reasons, heard.done, heard.usages),
        (vec!["stop".to_owned()], 1, 0)
    );

    assert_eq!(
        gateway.cell::<i64>(
            "SELECT count(*) FROM requests WHERE status = 'completed' AND provider_id = 'echo'"
        ),
        2
    );
    assert_eq!(
        gateway.cell::<i64>(
            "SELECT count(*) FROM responses WHERE finish_reason = 'stop' AND http_status = 200"
        ),
        2
    );
    assert_eq!(
        gateway.cell::<i64>("SELECT count(*) FROM attempts WHERE outcome = 'succeeded'"),
        2
    );
    assert_eq!(
        gateway.cell::<i64>("SELECT count(*) FROM responses WHERE total_tokens > 0"),
        2,
        "streams count tokens too"
    );
    let kept: String =
        gateway.cell("SELECT openai_response FROM responses ORDER BY id DESC LIMIT 1");
    assert_eq!(
        serde_json::from_str::<Value>(&kept).expect("JSON")["choices"][0]["message"]["content"],
        "Hello there, world"
    );
    gateway.stop().await;
}

#[tokio::test]
async fn an_exchange_is_shown_by_the_id_its_client_got() {
    let gateway = TestGateway::start().await;
    let response = gateway.chat(&say("echo", "keep this")).await;
    let id = response.headers()["x-request-id"]
        .to_str()
        .expect("text")
        .to_owned();
    let (status, kept) = gateway
        .get(&gateway.api(&format!("/api/requests/{id}")))
        .await;
    assert_eq!(status, 200);
    assert_eq!(
        kept["openai_request"]["messages"][0]["content"],
        "keep this"
    );
    assert_eq!(kept["response"]["finish_reason"], "stop");
    assert_eq!(kept["attempts"][0]["provider_id"], "echo");
    let (status, error) = gateway.get(&gateway.api("/api/requests/nope")).await;
    assert_eq!(
        (status, &error["error"]["code"]),
        (404, &json!("request_not_found"))
    );
    gateway.stop().await;
}

#[tokio::test]
async fn echo_does_what_its_directives_say() {
    let gateway = TestGateway::start().await;
    let text = "echo:reasoning let me think\necho:tool read {\"path\":\"a b\"}\ndone";
    let answer: Value = gateway
        .chat(&say("echo", text))
        .await
        .json()
        .await
        .expect("JSON");
    let message = &answer["choices"][0]["message"];
    assert_eq!(message["reasoning_content"], "let me think");
    assert_eq!(message["tool_calls"][0]["function"]["name"], "read");
    assert_eq!(answer["choices"][0]["finish_reason"], "tool_calls");
    let response = gateway.chat(&say("echo", "echo:fail 429 slow down")).await;
    assert_eq!(response.status(), 429);
    assert_eq!(response.headers()["retry-after"], "1");
    let body: Value = response.json().await.expect("JSON");
    assert_eq!(body["error"]["message"], "slow down");
    gateway.stop().await;
}

#[tokio::test]
async fn a_streamed_answer_reaches_the_client_byte_for_byte() {
    let gateway = TestGateway::start().await;
    let events = format!(
        ": welcome\n\n{}{}data: {{ \"id\":\"x\",  \"choices\":[{{\"index\":0,\"delta\":{{\"content\":\"odd  spacing \\u00e9 \u{1F30C}\"}}}}], \"vendor\":{{\"a\":[1,2]}} }}\n\n{}{}{DONE}",
        delta("One "),
        delta("two "),
        finish("stop"),
        usage(3, 4),
    );
    let upstream = Upstream::streaming(&events).await;
    gateway.provider("p1", &upstream).await;
    let mut body = say_streamed("p1/fake", "hi");
    body["stream_options"] = json!({"include_usage": true});
    let got = gateway.chat(&body).await.bytes().await.expect("a body");
    assert_eq!(String::from_utf8_lossy(&got), events);
    assert_eq!(gateway.cell::<i64>("SELECT total_tokens FROM responses"), 7);
    gateway.stop().await;
}

#[tokio::test]
async fn bytes_split_anywhere_come_out_the_same() {
    let gateway = TestGateway::start().await;
    let events = format!(
        "{}{}{}{DONE}",
        delta("Grüße, "),
        delta("世界 🌌"),
        finish("stop")
    );
    let bytes = events.clone().into_bytes();
    let upstream = Upstream::start(move |_| {
        let mut steps = vec![sse_head()];
        steps.extend(bytes.iter().map(|byte| Step::Chunk(vec![*byte])));
        steps.push(Step::End);
        steps
    })
    .await;
    gateway.provider("p1", &upstream).await;
    let got = gateway
        .chat(&say_streamed("p1/fake", "hi"))
        .await
        .text()
        .await
        .expect("text");
    assert_eq!(got, events);
    gateway.stop().await;
}

#[tokio::test]
async fn usage_is_asked_for_and_kept_but_not_shown_to_a_client_that_did_not_ask() {
    let gateway = TestGateway::start().await;
    let upstream = Upstream::streaming(&format!(
        "{}{}{}{DONE}",
        delta("hi"),
        finish("stop"),
        usage(11, 5)
    ))
    .await;
    gateway.provider("p1", &upstream).await;
    let got = gateway
        .chat(&say_streamed("p1/fake", "hi"))
        .await
        .text()
        .await
        .expect("text");
    assert_eq!(hear(&got).usages, 0);
    assert_eq!(
        upstream.completions()[0].json()["stream_options"]["include_usage"],
        true
    );
    assert_eq!(
        gateway.cell::<i64>("SELECT prompt_tokens FROM responses"),
        11
    );
    gateway.stop().await;
}

#[tokio::test]
async fn a_request_body_passes_through_byte_for_byte_but_for_the_model() {
    let gateway = TestGateway::start().await;
    let upstream = Upstream::start(|_| vec![json_answer(200, &whole("hi"))]).await;
    gateway.provider("p1", &upstream).await;
    let body = r#"{ "vendor_field" : {"z":1, "a":[ 1.50, 1e3 ]}, "model":"p1/fake",  "messages":[{"role":"user","content":"\u00e9 hi"}] , "temperature":0.70 }"#;
    let request = gateway
        .client
        .post(gateway.router("/v1/chat/completions"))
        .header("content-type", "application/json");
    assert_eq!(
        request.body(body).send().await.expect("an answer").status(),
        200
    );
    let received = &upstream.completions()[0];
    assert_eq!(
        String::from_utf8_lossy(&received.body),
        body.replace("p1/fake", "fake")
    );
    assert_eq!(
        received.header("authorization"),
        Some("Bearer sk-upstream"),
        "the provider's own key"
    );

    let bare = r#"{"model": "fake",  "messages":[{"role":"user","content":"x"}]}"#;
    let request = gateway
        .client
        .post(gateway.router("/v1/chat/completions"))
        .header("content-type", "application/json");
    let response = request
        .header("authorization", "Bearer sk-client")
        .header("cookie", "a=b")
        .body(bare)
        .send()
        .await;
    assert_eq!(response.expect("an answer").status(), 200);
    let received = &upstream.completions()[1];
    assert_eq!(String::from_utf8_lossy(&received.body), bare);
    assert_eq!(
        received.header("authorization"),
        Some("Bearer sk-upstream"),
        "never the client's"
    );
    assert_eq!(received.header("cookie"), None);
    gateway.stop().await;
}

#[tokio::test]
async fn a_whole_answer_passes_through_byte_for_byte() {
    let gateway = TestGateway::start().await;
    let body = format!(
        "{}\n",
        serde_json::to_string_pretty(&whole("hi")).expect("JSON")
    );
    let bytes = body.clone().into_bytes();
    let upstream = Upstream::start(move |_| {
        vec![Step::Whole(
            200,
            vec![("content-type", "application/json".into())],
            bytes.clone(),
        )]
    })
    .await;
    gateway.provider("p1", &upstream).await;
    let response = gateway.chat(&say("p1/fake", "hi")).await;
    assert_eq!(response.headers()["x-qwarden-attempts"], "1");
    assert_eq!(response.text().await.expect("text"), body);
    assert_eq!(gateway.cell::<i64>("SELECT total_tokens FROM responses"), 7);
    gateway.stop().await;
}

#[tokio::test]
async fn events_are_forwarded_as_they_arrive() {
    let gateway = TestGateway::start().await;
    let (first, rest) = (delta("first"), format!("{}{DONE}", finish("stop")));
    let expected = first.clone();
    let upstream = Upstream::start(move |_| {
        vec![
            sse_head(),
            Step::Chunk(first.clone().into()),
            Step::Gate,
            Step::Chunk(rest.clone().into()),
            Step::End,
        ]
    })
    .await;
    gateway.provider("p1", &upstream).await;
    let mut response = gateway.chat(&say_streamed("p1/fake", "hi")).await;
    // The upstream says nothing more until the client has the first event in hand.
    let chunk = response
        .chunk()
        .await
        .expect("a chunk")
        .expect("not the end");
    assert_eq!(String::from_utf8_lossy(&chunk), expected);
    upstream.go(1);
    assert!(response.text().await.expect("text").ends_with(DONE));
    gateway.stop().await;
}

#[tokio::test]
async fn a_silent_upstream_does_not_leave_the_client_in_silence() {
    let gateway = TestGateway::with(&[("server.keepAlive", json!(20))]).await;
    let events = format!("{}{}{DONE}", delta("late"), finish("stop"));
    let upstream = Upstream::start(move |_| {
        vec![
            sse_head(),
            Step::Gate,
            Step::Chunk(events.clone().into()),
            Step::End,
        ]
    })
    .await;
    gateway.provider("p1", &upstream).await;
    let mut response = gateway.chat(&say_streamed("p1/fake", "hi")).await;
    let chunk = response
        .chunk()
        .await
        .expect("a chunk")
        .expect("not the end");
    assert!(chunk.starts_with(b":"), "a comment comes first: {chunk:?}");
    upstream.go(1);
    assert_eq!(hear(&response.text().await.expect("text")).text, "late");
    gateway.stop().await;
}

#[tokio::test]
async fn models_of_all_providers_are_listed_and_found() {
    let gateway = TestGateway::start().await;
    let upstream = Upstream::streaming("").await;
    gateway.provider("p1", &upstream).await;
    let (status, list) = gateway.get(&gateway.router("/v1/models")).await;
    assert_eq!((status, &list["object"]), (200, &json!("list")));
    let ids: Vec<_> = list["data"]
        .as_array()
        .expect("a list")
        .iter()
        .filter_map(|model| model["id"].as_str())
        .collect();
    assert_eq!(ids, ["echo", "fake", "p1/fake"]);
    for id in ids {
        let (status, model) = gateway
            .get(&gateway.router(&format!("/v1/models/{id}")))
            .await;
        assert_eq!(
            (status, &model["id"], &model["object"]),
            (200, &json!(id), &json!("model"))
        );
    }
    let (_, own) = gateway.get(&gateway.router("/v1/models?provider=p1")).await;
    assert_eq!(own["data"].as_array().expect("a list").len(), 1);
    assert_eq!(own["data"][0]["id"], "fake");
    let (status, error) = gateway.get(&gateway.router("/v1/models/fakee")).await;
    assert_eq!(
        (status, &error["error"]["code"]),
        (404, &json!("model_not_found"))
    );
    assert!(
        error["message"].as_str().expect("text").contains("`fake`"),
        "{error}"
    );
    gateway.stop().await;
}

#[tokio::test]
async fn a_provider_that_is_down_is_stepped_over() {
    let gateway = TestGateway::start().await;
    let (broken, good) = (
        Upstream::start(|_| vec![json_answer(503, &json!({"error": {"message": "busy"}}))]).await,
        Upstream::start(|_| vec![json_answer(200, &whole("from the second"))]).await,
    );
    gateway.provider("p1", &broken).await;
    gateway.provider("p2", &good).await;
    gateway.get(&gateway.router("/v1/models")).await;
    let response = gateway.chat(&say("fake", "hi")).await;
    assert_eq!(response.headers()["x-qwarden-attempts"], "2");
    assert_eq!(response.headers()["x-qwarden-provider"], "p2");
    let answer: Value = response.json().await.expect("JSON");
    assert_eq!(
        answer["choices"][0]["message"]["content"],
        "from the second"
    );
    assert_eq!(
        gateway.cell::<i64>(
            "SELECT count(*) FROM attempts WHERE outcome = 'failed' AND upstream_status = 503"
        ),
        1
    );
    gateway.stop().await;
}
