//! Answers by a schema, the fields that are nobody's business but the upstream's, and older forms of a request.

use serde_json::{Value, json};

use crate::qwen::log_in;
use crate::support::site::{Play, Site};
use crate::support::upstream::{
    DONE, Received, Step, Upstream, delta, finish, json_answer, sse_head, usage, whole,
};
use crate::support::{TestGateway, hear};

fn last_of(request: &Received) -> String {
    let body = request.json();
    let messages = body["messages"].as_array().expect("messages");
    let last = messages.last().expect("a message");
    last["content"].as_str().unwrap_or_default().to_owned()
}

/// Says `first`, and `second` to the question that follows.
async fn answering(first: &'static str, second: &'static str) -> Upstream {
    Upstream::start(move |request| {
        let text = if last_of(request).contains("does not follow") {
            second
        } else {
            first
        };
        if request.json()["stream"] == true {
            let events = format!("{}{}{}{DONE}", delta(text), finish("stop"), usage(3, 4));
            return vec![sse_head(), Step::Chunk(events.into_bytes()), Step::End];
        }
        vec![json_answer(200, &whole(text))]
    })
    .await
}

/// A provider whose model `plain` is known to answer by no schema.
async fn plain(gateway: &TestGateway, upstream: &Upstream) {
    gateway.provider("up", upstream).await;
    let model = json!({"id": "plain", "name": "Plain"});
    gateway.post(&gateway.api("/api/models"), &model).await;
    let link = json!({"model_id": "plain", "config": {"structured": false}});
    let linked = gateway
        .post(&gateway.api("/api/providers/up/models"), &link)
        .await;
    assert!(linked.status().is_success());
}

fn by_schema(model: &str) -> Value {
    let schema = json!({"type": "object", "required": ["city"], "properties": {"city": {"type": "string"}},
        "additionalProperties": false});
    json!({"model": model, "messages": [{"role": "user", "content": "where?"}],
        "response_format": {"type": "json_schema", "json_schema": {"name": "place", "schema": schema, "strict": true}}})
}

async fn told(response: reqwest::Response) -> (u16, Value) {
    let status = response.status().as_u16();
    (status, response.json().await.expect("JSON"))
}

#[tokio::test]
async fn who_cannot_be_held_to_a_schema_is_told_it_and_checked() {
    let upstream = answering("```json\n{\"city\": \"Ulm\"}\n```", "").await;
    let gateway = TestGateway::start().await;
    plain(&gateway, &upstream).await;
    let (status, answer) = told(gateway.chat(&by_schema("up/plain")).await).await;
    assert_eq!(
        (status, &answer["choices"][0]["message"]["content"]),
        (200, &json!("{\"city\": \"Ulm\"}"))
    );
    let sent = upstream.completions()[0].json();
    assert_eq!(sent.get("response_format"), None);
    assert!(
        sent["messages"][0]["content"]
            .as_str()
            .expect("text")
            .contains("JSON Schema")
    );
    // Another model of the same provider is held to it by the provider.
    gateway.chat(&by_schema("up/fake")).await;
    assert_eq!(
        upstream.completions()[1].json()["response_format"]["type"],
        "json_schema"
    );
    gateway.stop().await;
}

#[tokio::test]
async fn an_answer_that_does_not_follow_is_asked_for_once_more() {
    let upstream = answering("{\"town\": 7}", "{\"city\":\"Ulm\"}").await;
    let gateway = TestGateway::start().await;
    plain(&gateway, &upstream).await;
    let (status, answer) = told(gateway.chat(&by_schema("up/plain")).await).await;
    assert_eq!(
        (
            status,
            &answer["choices"][0]["message"]["content"],
            &answer["usage"]["total_tokens"]
        ),
        (200, &json!("{\"city\":\"Ulm\"}"), &json!(14))
    );
    let asked = upstream.completions();
    assert_eq!(asked.len(), 2);
    assert!(last_of(&asked[1]).contains("must have the member `city`"));
    let mut streamed = by_schema("up/plain");
    streamed["stream"] = true.into();
    let events = gateway.chat(&streamed).await.text().await.expect("a body");
    let heard = hear(&events);
    assert_eq!(
        (heard.text.as_str(), heard.done, heard.usages),
        ("{\"city\":\"Ulm\"}", 1, 0)
    );
    assert_eq!(heard.finish_reasons, ["stop"]);
    assert_eq!(
        gateway.cell::<i64>("SELECT count(*) FROM attempts"),
        2,
        "a question more is no attempt more"
    );
    gateway.stop().await;
}

#[tokio::test]
async fn what_never_follows_is_an_error_that_says_so_or_is_asked_of_another() {
    let upstream = answering("no", "still not").await;
    let gateway = TestGateway::start().await;
    plain(&gateway, &upstream).await;
    let response = gateway.chat(&by_schema("up/plain")).await;
    assert_eq!(response.headers()["x-should-retry"], "false");
    let (status, answer) = told(response).await;
    let message = answer["error"]["message"].as_str().expect("a message");
    assert_eq!(status, 502);
    assert!(
        message.contains("schema") && message.contains("must be JSON"),
        "{message}"
    );
    let other = answering("{\"city\":\"Bonn\"}", "").await;
    gateway.provider("other", &other).await;
    let mut request = by_schema("up/plain");
    request["model"] = "both".into();
    let both =
        json!({"name": "both", "targets": [{"target": "up/plain"}, {"target": "other/fake"}]});
    gateway
        .post(&gateway.api("/api/virtual-models"), &both)
        .await;
    let (_, answer) = told(gateway.chat(&request).await).await;
    assert_eq!(
        answer["choices"][0]["message"]["content"],
        "{\"city\":\"Bonn\"}"
    );
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_web_chat_answers_by_a_schema() {
    let site = Site::start(|turn| {
        if turn.content.contains("does not follow") {
            Play::says("{\"city\":\"Ulm\"}")
        } else {
            Play::says("It is Ulm.")
        }
    })
    .await;
    let settings = [("qwen.baseUrl", json!(site.upstream.origin()))];
    let gateway = TestGateway::with(&settings).await;
    log_in(&gateway, "default", "u1").await;
    let url = gateway.qwen("/v1/chat/completions");
    let (status, answer) = told(gateway.post(&url, &by_schema("qwen3-max")).await).await;
    assert_eq!(
        (status, &answer["choices"][0]["message"]["content"]),
        (200, &json!("{\"city\":\"Ulm\"}")),
        "{answer}"
    );
    assert!(site.turns()[0].content.contains("JSON Schema"));
    let text = json!({"model": "qwen3-max", "prompt": "where?"});
    let (status, answer) = told(gateway.post(&gateway.qwen("/v1/completions"), &text).await).await;
    assert_eq!(
        (status, &answer["object"], &answer["choices"][0]["text"]),
        (200, &json!("text_completion"), &json!("It is Ulm."))
    );
    gateway.stop().await;
}

#[tokio::test]
async fn what_is_not_ours_goes_through_as_it_is() {
    let upstream = Upstream::start(|_| {
        let mut answer = whole("hi");
        answer["choices"][0]["logprobs"] = json!({"content": [{"token": "hi", "logprob": -0.1}]});
        answer["service_tier"] = "default".into();
        vec![json_answer(200, &answer)]
    })
    .await;
    let gateway = TestGateway::start().await;
    gateway.provider("up", &upstream).await;
    let mut body = json!({"model": "fake", "n": 2, "logprobs": true, "top_logprobs": 3, "seed": 7, "logit_bias": {"50256": -100},
        "store": false, "metadata": {"a": "b"}, "something_new": [1, {"x": null}],
        "messages": [{"role": "user", "content": "hi"}]});
    let (_, answer) = told(gateway.chat(&body).await).await;
    assert_eq!(
        answer["choices"][0]["logprobs"]["content"][0]["token"],
        "hi"
    );
    assert_eq!(answer["service_tier"], "default");
    assert_eq!(upstream.completions()[0].json(), body);
    // Who does not know developers is told of the system.
    body["messages"] = json!([{"role": "developer", "content": "be kind"}, {"role": "user", "content": "developer"}]);
    gateway.chat(&body).await;
    body["messages"][0]["role"] = "system".into();
    assert_eq!(upstream.completions()[1].json(), body);
    gateway.stop().await;
}

#[tokio::test]
async fn the_older_form_of_tools_is_understood_and_answered() {
    let upstream = Upstream::start(|request| {
        let call = json!({"index": 0, "id": "t1", "type": "function", "function": {"name": "read", "arguments": "{\"a\":1}"}});
        if request.json()["stream"] == true {
            let chunk = json!({"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "fake",
                "choices": [{"index": 0, "delta": {"role": "assistant", "tool_calls": [call]}, "finish_reason": null}]});
            let events = format!("data: {chunk}\n\n{}{DONE}", finish("tool_calls"));
            return vec![sse_head(), Step::Chunk(events.into_bytes()), Step::End];
        }
        let mut answer = whole("");
        answer["choices"][0] = json!({"index": 0, "finish_reason": "tool_calls",
            "message": {"role": "assistant", "content": null, "tool_calls": [call]}});
        vec![json_answer(200, &answer)]
    })
    .await;
    let gateway = TestGateway::start().await;
    gateway.provider("up", &upstream).await;
    let mut body = json!({"model": "fake", "functions": [{"name": "read", "parameters": {"type": "object"}}],
        "function_call": "auto", "messages": [
            {"role": "user", "content": "go"},
            {"role": "assistant", "content": null, "function_call": {"name": "read", "arguments": "{}"}},
            {"role": "function", "name": "read", "content": "nothing"}]});
    let (_, answer) = told(gateway.chat(&body).await).await;
    assert_eq!(
        answer["choices"][0],
        json!({"index": 0, "finish_reason": "function_call", "message": {"role": "assistant", "content": null,
            "function_call": {"name": "read", "arguments": "{\"a\":1}"}}})
    );
    let sent = upstream.completions()[0].json();
    assert_eq!(
        (&sent["tool_choice"], &sent["tools"][0]["function"]["name"]),
        (&json!("auto"), &json!("read"))
    );
    assert_eq!(
        sent["messages"][2],
        json!({"role": "tool", "tool_call_id": "call_0", "content": "nothing"})
    );
    body["stream"] = true.into();
    let events = gateway.chat(&body).await.text().await.expect("a body");
    assert!(
        events.contains("\"function_call\":{\"name\":\"read\",\"arguments\":\"{\\\"a\\\":1}\"}"),
        "{events}"
    );
    assert!(
        events.contains("\"finish_reason\":\"function_call\"")
            && events.ends_with("data: [DONE]\n\n")
    );
    gateway.stop().await;
}
