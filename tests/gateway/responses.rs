//! `OpenAI`'s Responses as a client's dialect, on both ports, over upstreams that speak chat completions.

use std::time::Duration;

use serde_json::{Value, json};

use crate::qwen::log_in;
use crate::support::site::{Play, Site};
use crate::support::upstream::{
    DONE, Received, Step, Upstream, delta, finish, json_answer, sse_head, usage, whole,
};
use crate::support::{PATIENCE, TestGateway};

/// What Codex sends in its first turn, in small.
fn codex() -> Value {
    json!({
        "model": "p/fake", "stream": true, "store": false, "tool_choice": "auto", "parallel_tool_calls": true,
        "reasoning": {"summary": "auto"}, "include": ["reasoning.encrypted_content"], "prompt_cache_key": "0198-thread",
        "client_metadata": {"session_id": "0198-thread"},
        "input": [
            {"type": "message", "id": "msg_a", "role": "developer", "content": [
                {"type": "input_text", "text": "be"}, {"type": "input_text", "text": "brief"}]},
            {"type": "message", "id": "msg_b", "role": "user", "content": [{"type": "input_text", "text": "go"}]},
        ],
        "tools": [
            {"type": "function", "name": "exec_command", "description": "Runs a command", "strict": false,
             "parameters": {"type": "object", "properties": {"cmd": {"type": "string"}}, "required": ["cmd"]}},
            {"type": "namespace", "name": "agents", "description": "Agents", "tools": [
                {"type": "function", "name": "spawn", "strict": false, "parameters": {"type": "object", "properties": {}}}]},
            {"type": "custom", "name": "apply_patch", "description": "Patches", "format": {"type": "grammar", "syntax": "lark", "definition": "start: x"}},
            {"type": "web_search", "external_web_access": false},
        ],
    })
}

fn calls(calls: &Value) -> String {
    let chunk = json!({"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "fake",
        "choices": [{"index": 0, "delta": {"tool_calls": calls}, "finish_reason": null}]});
    format!("data: {chunk}\n\n")
}

fn thought(text: &str) -> String {
    let chunk = json!({"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "fake",
        "choices": [{"index": 0, "delta": {"reasoning_content": text}, "finish_reason": null}]});
    format!("data: {chunk}\n\n")
}

/// The events of a stream, each checked to be named and numbered.
fn events(text: &str) -> Vec<Value> {
    let mut events = Vec::new();
    for frame in text
        .split_terminator("\n\n")
        .filter(|frame| !frame.starts_with(':'))
    {
        let (name, data) = frame.split_once('\n').expect("a name and data");
        let event: Value =
            serde_json::from_str(data.strip_prefix("data: ").expect("data")).expect("JSON");
        assert_eq!(name.strip_prefix("event: "), event["type"].as_str());
        assert_eq!(event["sequence_number"], events.len());
        events.push(event);
    }
    events
}

fn kinds(events: &[Value]) -> Vec<&str> {
    events
        .iter()
        .filter_map(|event| event["type"].as_str()?.strip_prefix("response."))
        .collect()
}

async fn ask(gateway: &TestGateway, body: &Value) -> reqwest::Response {
    gateway.post(&gateway.router("/v1/responses"), body).await
}

/// A whole response, checked to be one.
async fn answer(gateway: &TestGateway, body: &Value) -> Value {
    let response = ask(gateway, body).await;
    let status = response.status();
    let body: Value = response.json().await.expect("JSON");
    assert_eq!(status, 200, "{body}");
    body
}

async fn streamed(gateway: &TestGateway, body: &Value) -> Vec<Value> {
    let response = ask(gateway, body).await;
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    events(&response.text().await.expect("a body"))
}

/// A gateway in front of an upstream that always does the same.
async fn before(
    script: impl Fn(&Received) -> Vec<Step> + Send + Sync + 'static,
) -> (TestGateway, Upstream) {
    let gateway = TestGateway::start().await;
    let upstream = Upstream::start(script).await;
    gateway.provider("p", &upstream).await;
    (gateway, upstream)
}

#[tokio::test]
async fn a_text_is_answered_whole_and_streamed() {
    let (gateway, upstream) = before(|request| {
        if request.json()["stream"] == true {
            let events = [
                delta("one "),
                delta("two"),
                finish("stop"),
                usage(3, 4),
                DONE.to_owned(),
            ]
            .concat();
            return vec![sse_head(), Step::Chunk(events.into()), Step::End];
        }
        vec![json_answer(200, &whole("one two"))]
    })
    .await;
    let mut body = json!({"model": "p/fake", "input": "hi", "instructions": "be kind", "max_output_tokens": 50,
        "metadata": {"a": "b"}, "temperature": 0.5, "text": {"format": {"type": "json_object"}}});
    let told = answer(&gateway, &body).await;
    assert_eq!(told["status"], "completed");
    assert_eq!(told["output"][0]["content"][0]["text"], "one two");
    assert_eq!(told["usage"]["input_tokens"], 3);
    assert_eq!(told["usage"]["total_tokens"], 7);
    assert_eq!(
        (&told["instructions"], &told["metadata"]["a"]),
        (&json!("be kind"), &json!("b"))
    );
    assert_eq!(
        (&told["temperature"], &told["text"]["format"]["type"]),
        (&json!(0.5), &json!("json_object"))
    );
    body["stream"] = json!(true);
    let events = streamed(&gateway, &body).await;
    assert_eq!(
        kinds(&events),
        [
            "created",
            "in_progress",
            "output_item.added",
            "content_part.added",
            "output_text.delta",
            "output_text.delta",
            "output_text.done",
            "content_part.done",
            "output_item.done",
            "completed"
        ]
    );
    let last = &events.last().expect("events")["response"];
    assert_eq!(last["output"][0]["content"], told["output"][0]["content"]);
    assert_eq!(last["usage"], told["usage"]);
    let asked: Vec<Value> = upstream.completions().iter().map(Received::json).collect();
    let wanted = json!({"model": "fake", "max_tokens": 50, "temperature": 0.5, "response_format": {"type": "json_object"},
        "messages": [{"role": "system", "content": "be kind"}, {"role": "user", "content": "hi"}]});
    assert_eq!(asked[0], wanted);
    assert_eq!(asked[1]["stream_options"]["include_usage"], true);
    gateway.stop().await;
}

#[tokio::test]
async fn codex_calls_functions_namespaces_and_custom_tools_at_once() {
    let (gateway, upstream) = before(|request| {
        let messages = request.json()["messages"].clone();
        let events = if messages.as_array().expect("messages").len() == 2 {
            [
                thought("let me see"),
                delta("I look."),
                calls(&json!([{"index": 0, "id": "c0", "type": "function", "function": {"name": "exec_command", "arguments": ""}}])),
                calls(&json!([{"index": 0, "function": {"arguments": "{\"cmd\":\"ls\"}"}}])),
                calls(&json!([{"index": 1, "id": "c1", "type": "function", "function": {"name": "agents__spawn", "arguments": "{}"}}])),
                calls(&json!([{"index": 2, "id": "c2", "type": "function", "function": {"name": "apply_patch",
                    "arguments": json!({"input": "*** Begin \"Patch\"\n"}).to_string()}}])),
                finish("tool_calls"),
                usage(10, 20),
                DONE.to_owned(),
            ]
            .concat()
        } else {
            [delta("done"), finish("stop"), DONE.to_owned()].concat()
        };
        vec![sse_head(), Step::Chunk(events.into()), Step::End]
    })
    .await;
    let mut body = codex();
    let events = streamed(&gateway, &body).await;
    let response = &events.last().expect("events")["response"];
    let output = response["output"].as_array().expect("items").clone();
    let called: Vec<Value> = output[2..]
        .iter()
        .map(|item| {
            json!([
                item["type"],
                item["call_id"],
                item["namespace"],
                item["name"],
                item["arguments"],
                item["input"]
            ])
        })
        .collect();
    assert_eq!(
        called,
        [
            json!([
                "function_call",
                "c0",
                null,
                "exec_command",
                "{\"cmd\":\"ls\"}",
                null
            ]),
            json!(["function_call", "c1", "agents", "spawn", "{}", null]),
            json!([
                "custom_tool_call",
                "c2",
                null,
                "apply_patch",
                null,
                "*** Begin \"Patch\"\n"
            ]),
        ]
    );
    assert_eq!(output[0]["summary"][0]["text"], "let me see");
    // The client comes back with ids of its own making, and what came of the calls.
    let input = body["input"].as_array_mut().expect("items");
    for (at, mut item) in output.into_iter().enumerate() {
        item["id"] = json!(format!("other_{at}"));
        input.push(item);
    }
    for (kind, id, output) in [
        ("function_call_output", "c1", json!("spawned")),
        (
            "function_call_output",
            "c0",
            json!([{"type": "input_text", "text": "a.txt"},
            {"type": "input_image", "image_url": "data:image/png;base64,aGk="}]),
        ),
        ("custom_tool_call_output", "c2", json!("patched")),
    ] {
        input.push(json!({"type": kind, "call_id": id, "output": output}));
    }
    let events = streamed(&gateway, &body).await;
    assert_eq!(
        events.last().expect("events")["response"]["output"][0]["content"][0]["text"],
        "done"
    );
    let asked: Vec<Value> = upstream.completions().iter().map(Received::json).collect();
    let names: Vec<&str> = asked[0]["tools"]
        .as_array()
        .expect("tools")
        .iter()
        .filter_map(|tool| tool["function"]["name"].as_str())
        .collect();
    assert_eq!(names, ["exec_command", "agents__spawn", "apply_patch"]);
    for foreign in [
        "include",
        "prompt_cache_key",
        "client_metadata",
        "store",
        "reasoning",
    ] {
        assert_eq!(asked[0].get(foreign), None, "{foreign}");
    }
    assert_eq!(
        asked[0]["messages"],
        json!([{"role": "system", "content": "be\n\nbrief"}, {"role": "user", "content": "go"}])
    );
    let later = asked[1]["messages"].as_array().expect("messages");
    assert_eq!(later[2]["reasoning_content"], "let me see");
    assert_eq!(
        later[2]["tool_calls"][1]["function"],
        json!({"name": "agents__spawn", "arguments": "{}"})
    );
    let results: Vec<&Value> = later[3..6]
        .iter()
        .map(|result| &result["tool_call_id"])
        .collect();
    assert_eq!(results, ["c1", "c0", "c2"]);
    assert_eq!(
        later[6]["content"][0]["image_url"]["url"],
        "data:image/png;base64,aGk="
    );
    gateway.stop().await;
}

#[tokio::test]
async fn images_and_files_reach_the_model() {
    let (gateway, upstream) = before(|_| vec![json_answer(200, &whole("a cat"))]).await;
    let body = json!({"model": "p/fake", "input": [{"role": "user", "content": [
        {"type": "input_text", "text": "what is it?"},
        {"type": "input_image", "image_url": "data:image/png;base64,aGk=", "detail": "auto"},
        {"type": "input_file", "filename": "a.pdf", "file_data": "data:application/pdf;base64,aGk="}]}]});
    answer(&gateway, &body).await;
    assert_eq!(
        upstream.completions()[0].json()["messages"][0]["content"],
        json!([{"type": "text", "text": "what is it?"},
            {"type": "image_url", "image_url": {"url": "data:image/png;base64,aGk="}},
            {"type": "file", "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,aGk="}}])
    );
    gateway.stop().await;
}

#[tokio::test]
async fn what_is_wrong_is_told_by_the_members_own_name() {
    let (gateway, upstream) = before(|_| {
        vec![json_answer(
            429,
            &json!({"error": {"message": "slow down", "code": "rate_limit_exceeded"}}),
        )]
    })
    .await;
    for (body, status, param, code) in [
        (
            json!({"model": "p/fake"}),
            400,
            json!("input"),
            "missing_required_parameter",
        ),
        (
            json!({"model": "p/fake", "input": "x", "background": true}),
            400,
            json!("background"),
            "unsupported_parameter",
        ),
        (
            json!({"model": "p/fake", "input": [{"type": "message", "role": "bot", "content": "x"}]}),
            400,
            json!("input[0].role"),
            "invalid_value",
        ),
        (
            json!({"model": "p/fake", "input": "x", "previous_response_id": "resp_1"}),
            400,
            json!("previous_response_id"),
            "previous_response_not_found",
        ),
        (
            json!({"model": "p/fake", "input": [{"type": "item_reference", "id": "msg_1_0"}]}),
            400,
            json!("input[0].id"),
            "item_not_found",
        ),
        (
            json!({"model": "nobody/x", "input": "x"}),
            404,
            json!("model"),
            "provider_not_found",
        ),
        (
            json!({"model": "p/fake", "input": "x"}),
            429,
            Value::Null,
            "rate_limit_exceeded",
        ),
    ] {
        let response = ask(&gateway, &body).await;
        assert_eq!(response.status(), status, "{body}");
        let may_retry = if status == 429 { "true" } else { "false" };
        assert_eq!(response.headers()["x-should-retry"], may_retry, "{body}");
        let told: Value = response.json().await.expect("JSON");
        assert_eq!(
            (&told["error"]["param"], &told["error"]["code"]),
            (&param, &json!(code)),
            "{told}"
        );
    }
    assert!(!upstream.completions().is_empty());
    gateway.stop().await;
}

#[tokio::test]
async fn r16_a_stream_that_breaks_off_fails_and_never_completes() {
    for (name, end) in [
        ("clean end", vec![Step::End]),
        ("reset", vec![Step::Reset]),
        (
            "error",
            vec![
                Step::Chunk(b"data: {\"error\":{\"message\":\"overloaded\"}}\n\n".to_vec()),
                Step::End,
            ],
        ),
    ] {
        let (gateway, _upstream) = before(move |_| {
            let mut steps = vec![
                sse_head(),
                Step::Chunk(delta("one ").into()),
                Step::Chunk(delta("two").into()),
            ];
            steps.extend(end.iter().cloned());
            steps
        })
        .await;
        let events = streamed(
            &gateway,
            &json!({"model": "p/fake", "input": "hi", "stream": true}),
        )
        .await;
        let kinds = kinds(&events);
        assert_eq!(
            kinds
                .iter()
                .filter(|kind| **kind == "output_text.delta")
                .count(),
            2,
            "{name}"
        );
        assert_eq!(kinds.last(), Some(&"failed"), "{name}");
        assert!(!kinds.contains(&"completed"), "{name}");
        let response = &events.last().expect("events")["response"];
        assert_eq!(response["status"], "failed");
        assert!(response["error"]["code"].is_string() && response["error"]["message"].is_string());
        // The same is told afterwards, and nothing goes on from it.
        let id = response["id"].as_str().expect("an id");
        let (status, stored) = gateway
            .get(&gateway.router(&format!("/v1/responses/{id}")))
            .await;
        assert_eq!(
            (status, &stored["status"], &stored["error"]),
            (200, &json!("failed"), &response["error"]),
            "{name}"
        );
        let on = ask(
            &gateway,
            &json!({"model": "p/fake", "input": "on", "previous_response_id": id}),
        )
        .await;
        assert_eq!(on.status(), 400, "{name}");
        gateway.stop().await;
    }
}

#[tokio::test]
async fn a_client_that_leaves_cancels_the_upstream() {
    let (gateway, upstream) =
        before(|_| vec![sse_head(), Step::Chunk(delta("one").into()), Step::Hang]).await;
    let mut response = ask(
        &gateway,
        &json!({"model": "p/fake", "input": "hi", "stream": true}),
    )
    .await;
    let first = response.chunk().await.expect("a body").expect("a chunk");
    assert!(first.starts_with(b"event: response.created\n"));
    drop(response);
    upstream.hung_up(Duration::from_secs(5)).await;
    gateway.stop().await;
}

#[tokio::test]
async fn responses_go_on_from_stored_ones_also_after_a_restart() {
    let upstream = Upstream::start(|request| {
        let asked = request.json();
        let count = asked["messages"].as_array().expect("messages").len();
        if asked["stream"] == true {
            let call = calls(
                &json!([{"index": 0, "id": "c9", "function": {"name": "look", "arguments": "{}"}}]),
            );
            let events = [thought("hm"), call, finish("tool_calls"), DONE.to_owned()].concat();
            return vec![sse_head(), Step::Chunk(events.into()), Step::End];
        }
        vec![json_answer(200, &whole(&format!("answer to {count}")))]
    })
    .await;
    let gateway = TestGateway::start().await;
    gateway.provider("p", &upstream).await;
    let tools = json!([{"type": "function", "name": "look", "parameters": {"type": "object", "properties": {}}}]);
    let first = answer(
        &gateway,
        &json!({"model": "p/fake", "input": "one", "instructions": "first rules"}),
    )
    .await;
    let second = streamed(
        &gateway,
        &json!({"model": "p/fake", "stream": true, "input": "two", "tools": tools,
        "instructions": "second rules", "previous_response_id": first["id"]}),
    )
    .await;
    let second = second.last().expect("events")["response"].clone();
    assert_eq!(second["previous_response_id"], first["id"]);
    let dir = gateway.stop().await;
    let gateway = TestGateway::reopened(dir, &[]).await;
    let third = answer(
        &gateway,
        &json!({"model": "p/fake", "previous_response_id": second["id"],
        "input": [{"type": "function_call_output", "call_id": "c9", "output": "seen"}]}),
    )
    .await;
    let asked = upstream.completions().last().expect("asked").json();
    assert_eq!(
        asked["messages"],
        json!([
            {"role": "user", "content": "one"},
            {"role": "assistant", "content": "answer to 2"},
            {"role": "user", "content": "two"},
            {"role": "assistant", "content": null, "reasoning_content": "hm", "tool_calls": [
                {"id": "c9", "type": "function", "function": {"name": "look", "arguments": "{}"}}]},
            {"role": "tool", "tool_call_id": "c9", "content": "seen"},
        ]),
        "instructions are not carried on"
    );
    // What is stored is told as it was, on both ports.
    for (url, told) in [
        (gateway.router("/v1/responses/"), &second),
        (gateway.qwen("/v1/responses/"), &second),
        (gateway.router("/v1/responses/"), &third),
    ] {
        let (status, stored) = gateway
            .get(&format!("{url}{}", told["id"].as_str().expect("an id")))
            .await;
        assert_eq!((status, &stored), (200, told));
    }
    let id = third["id"].as_str().expect("an id");
    let list = gateway.router(&format!("/v1/responses/{id}/input_items"));
    let (status, items) = gateway.get(&format!("{list}?order=asc&limit=4")).await;
    assert_eq!(status, 200);
    let kinds: Vec<&str> = items["data"]
        .as_array()
        .expect("items")
        .iter()
        .filter_map(|item| item["type"].as_str())
        .collect();
    assert_eq!(kinds, ["message", "message", "message", "reasoning"]);
    assert_eq!(items["has_more"], true);
    let after = items["last_id"].as_str().expect("an id");
    let (_, rest) = gateway
        .get(&format!("{list}?order=asc&after={after}"))
        .await;
    assert_eq!(
        (&rest["data"][0]["type"], &rest["data"][1]["output"]),
        (&json!("function_call"), &json!("seen"))
    );
    assert_eq!(rest["has_more"], false);
    let (_, newest) = gateway.get(&format!("{list}?limit=1")).await;
    assert_eq!(newest["data"][0]["output"], "seen");
    // An item can be named instead of being sent.
    let item = third["output"][0]["id"].clone();
    answer(&gateway, &json!({"model": "p/fake", "input": [{"type": "item_reference", "id": item}, {"role": "user", "content": "and?"}]})).await;
    let asked = upstream.completions().last().expect("asked").json();
    assert_eq!(
        asked["messages"][0],
        json!({"role": "assistant", "content": "answer to 5"})
    );
    // What was deleted is gone, and what went on from it is not.
    let url = gateway.router(&format!(
        "/v1/responses/{}",
        second["id"].as_str().expect("an id")
    ));
    let deleted = gateway.client.delete(&url).send().await.expect("answered");
    assert_eq!(deleted.status(), 200);
    assert_eq!(
        deleted.json::<Value>().await.expect("JSON")["deleted"],
        true
    );
    let (status, missing) = gateway.get(&url).await;
    assert_eq!(
        (status, &missing["error"]["code"]),
        (404, &json!("response_not_found"))
    );
    assert_eq!(gateway.get(&list).await.0, 200);
    gateway.stop().await;
}

#[tokio::test]
async fn what_is_not_stored_cannot_be_asked_for() {
    let (gateway, _upstream) = before(|_| vec![json_answer(200, &whole("yes"))]).await;
    let unstored = answer(
        &gateway,
        &json!({"model": "p/fake", "input": "hi", "store": false}),
    )
    .await;
    let chat = gateway.chat(&crate::support::say("p/fake", "hi")).await;
    let chat_id = chat.headers()["x-request-id"]
        .to_str()
        .expect("text")
        .replacen("req_", "resp_", 1);
    let url = gateway.api("/api/settings/logging.logRequests");
    let set = gateway
        .client
        .put(&url)
        .json(&json!({"value": false}))
        .send()
        .await
        .expect("answered");
    assert_eq!(
        set.status(),
        200,
        "{}",
        set.text().await.unwrap_or_default()
    );
    let bare = answer(&gateway, &json!({"model": "p/fake", "input": "hi"})).await;
    for id in [
        unstored["id"].as_str().expect("an id"),
        &chat_id,
        bare["id"].as_str().expect("an id"),
        "resp_x",
        "7",
    ] {
        let (status, missing) = gateway
            .get(&gateway.router(&format!("/v1/responses/{id}")))
            .await;
        assert_eq!(
            (status, &missing["error"]["code"]),
            (404, &json!("response_not_found")),
            "{id}"
        );
        let on = ask(
            &gateway,
            &json!({"model": "p/fake", "input": "on", "previous_response_id": id}),
        )
        .await;
        assert_eq!(on.status(), 400);
        let told: Value = on.json().await.expect("JSON");
        assert_eq!(told["error"]["code"], "previous_response_not_found");
        let message = told["error"]["message"].as_str().expect("text");
        assert!(
            message.contains("without `previous_response_id`"),
            "{message}"
        );
        assert_eq!(
            message.contains("logging.logRequests"),
            Some(id) == bare["id"].as_str(),
            "{message}"
        );
    }
    gateway.stop().await;
}

#[tokio::test]
async fn a_response_belongs_to_the_key_it_was_made_with() {
    let gateway = TestGateway::with(&[("auth.requireKeys", json!("always"))]).await;
    let upstream = Upstream::start(|_| vec![json_answer(200, &whole("yes"))]).await;
    gateway.provider("p", &upstream).await;
    let mut keys = Vec::new();
    for name in ["one", "two"] {
        let made = gateway
            .post(&gateway.api("/api/keys"), &json!({"name": name}))
            .await;
        let made: Value = made.json().await.expect("JSON");
        keys.push(made["key"].as_str().expect("a key").to_owned());
    }
    let url = gateway.router("/v1/responses");
    let post = |key: &str, body: Value| {
        gateway
            .client
            .post(&url)
            .bearer_auth(key)
            .json(&body)
            .send()
    };
    let made = post(&keys[0], json!({"model": "p/fake", "input": "hi"}))
        .await
        .expect("answered");
    let id = made.json::<Value>().await.expect("JSON")["id"]
        .as_str()
        .expect("an id")
        .to_owned();
    for (key, status) in [(&keys[0], 200), (&keys[1], 404)] {
        let shown = gateway
            .client
            .get(format!("{url}/{id}"))
            .bearer_auth(key)
            .send()
            .await
            .expect("answered");
        assert_eq!(shown.status(), status);
        let on = post(
            key,
            json!({"model": "p/fake", "input": "on", "previous_response_id": id}),
        )
        .await
        .expect("answered");
        assert_eq!(on.status(), if status == 200 { 200 } else { 400 });
    }
    let foreign = gateway
        .client
        .delete(format!("{url}/{id}"))
        .bearer_auth(&keys[1])
        .send()
        .await
        .expect("answered");
    assert_eq!(foreign.status(), 404);
    gateway.stop().await;
}

#[tokio::test]
async fn a_session_is_known_by_any_of_its_names() {
    let (gateway, upstream) = before(|_| vec![json_answer(200, &whole("yes"))]).await;
    let other = Upstream::start(|_| vec![json_answer(200, &whole("yes"))]).await;
    gateway.provider("o", &other).await;
    let body = json!({"name": "both", "strategy": "sticky", "targets": ["p/fake", "o/fake"]});
    let made = gateway
        .post(&gateway.api("/api/virtual-models"), &body)
        .await;
    assert_eq!(
        made.status(),
        201,
        "{}",
        made.text().await.unwrap_or_default()
    );
    // The first words differ, so without a session each would go where its hash says.
    for session in 0..6 {
        let before = (upstream.completions().len(), other.completions().len());
        for text in ["a", "b", "c", "d"] {
            let request = gateway.client.post(gateway.router("/v1/responses"));
            let mut body = json!({"model": "both", "input": text});
            let name = format!("s-{session}");
            let request = match session % 3 {
                0 => request.header("thread-id", name),
                1 => {
                    body["prompt_cache_key"] = json!(name);
                    request
                }
                _ => {
                    body["client_metadata"] = json!({"session_id": name});
                    request
                }
            };
            assert_eq!(
                request.json(&body).send().await.expect("answered").status(),
                200
            );
        }
        let after = (
            upstream.completions().len() - before.0,
            other.completions().len() - before.1,
        );
        assert!(
            after == (4, 0) || after == (0, 4),
            "session {session}: {after:?}"
        );
    }
    gateway.stop().await;
}

#[tokio::test]
async fn the_qwen_web_chat_takes_a_turn_of_codex() {
    let site = Site::start(|turn| {
        let called = "<tool_call>\n{\"name\": \"exec_command\", \"arguments\": {\"cmd\": \"ls\"}}\n</tool_call>";
        match turn.before {
            0 => Play::Thinks(vec!["I should ".into(), "look.".into()], vec![called.into()]),
            _ => Play::says("All done."),
        }
    })
    .await;
    let gateway = TestGateway::with(&[("qwen.baseUrl", json!(site.upstream.origin()))]).await;
    log_in(&gateway, "default", "u").await;
    let mut body = codex();
    body["model"] = json!("qwen3-max");
    let url = gateway.qwen("/v1/responses");
    let ask = |body: &Value| {
        let request = gateway
            .client
            .post(&url)
            .header("session-id", "s")
            .json(body);
        async move {
            let response = request.send().await.expect("answered");
            assert_eq!(response.status(), 200);
            let text = tokio::time::timeout(PATIENCE, response.text())
                .await
                .expect("in time");
            events(&text.expect("a body"))
        }
    };
    let told = ask(&body).await;
    let last = told.last().expect("events");
    assert_eq!(last["type"], "response.completed", "{last}");
    let output = last["response"]["output"]
        .as_array()
        .expect("items")
        .clone();
    let call = output.last().expect("an item").clone();
    let arguments: Value =
        serde_json::from_str(call["arguments"].as_str().expect("text")).expect("JSON");
    assert_eq!(
        (&call["name"], arguments),
        (&json!("exec_command"), json!({"cmd": "ls"}))
    );
    assert_eq!(output[0]["type"], "reasoning");
    let input = body["input"].as_array_mut().expect("items");
    input.extend(output);
    input.push(
        json!({"type": "function_call_output", "call_id": call["call_id"], "output": "a.txt"}),
    );
    let told = ask(&body).await;
    let last = &told.last().expect("events")["response"];
    assert_eq!(last["output"][0]["content"][0]["text"], "All done.");
    assert_eq!(
        site.opened().len(),
        1,
        "the second turn goes on in the first one's chat"
    );
    assert!(site.turns()[1].content.contains("a.txt"));
    assert_eq!(site.faults(), Vec::<String>::new());
    gateway.stop().await;
}

/// A response as `OpenAI`'s servers stream it.
fn native_stream() -> String {
    let sealed = json!({"type": "reasoning", "id": "rs_up", "summary": [{"type": "summary_text", "text": "hm"}],
        "encrypted_content": "sealed"});
    let message = json!({"type": "message", "id": "msg_up", "role": "assistant", "status": "completed",
        "content": [{"type": "output_text", "text": "hi there", "annotations": []}]});
    let response = json!({"id": "resp_up", "object": "response", "created_at": 9, "model": "fake-2026", "status": "completed",
        "output": [sealed, message],
        "usage": {"input_tokens": 5, "input_tokens_details": {"cached_tokens": 2}, "output_tokens": 3,
            "output_tokens_details": {"reasoning_tokens": 1}, "total_tokens": 8}});
    let created = json!({"id": "resp_up", "created_at": 9, "model": "fake-2026", "status": "in_progress", "output": []});
    let events = [
        json!({"type": "response.created", "response": created}),
        json!({"type": "response.output_item.added", "output_index": 0, "item": {"type": "reasoning", "id": "rs_up", "summary": []}}),
        json!({"type": "response.reasoning_summary_text.delta", "output_index": 0, "summary_index": 0, "delta": "hm"}),
        json!({"type": "response.output_item.done", "output_index": 0, "item": sealed}),
        json!({"type": "response.output_item.added", "output_index": 1, "item": {"type": "message", "id": "msg_up", "content": []}}),
        json!({"type": "response.output_text.delta", "output_index": 1, "content_index": 0, "delta": "hi "}),
        json!({"type": "response.output_text.delta", "output_index": 1, "content_index": 0, "delta": "there"}),
        json!({"type": "response.output_item.done", "output_index": 1, "item": message}),
        json!({"type": "response.completed", "response": response}),
    ];
    let frame = |event: &Value| {
        format!(
            "event: {}\ndata: {event}\n\n",
            event["type"].as_str().expect("a type")
        )
    };
    events.iter().map(frame).collect()
}

/// A gateway in front of an upstream that serves Responses itself.
async fn before_native(
    script: impl Fn(&Received) -> Vec<Step> + Send + Sync + 'static,
) -> (TestGateway, Upstream) {
    let gateway = TestGateway::start().await;
    let upstream = Upstream::start(script).await;
    let body = json!({"id": "p", "name": "p", "type": "openai-compatible",
        "config": {"baseURL": upstream.base_url(), "apiKey": "sk-upstream", "responses": true}});
    let made = gateway.post(&gateway.api("/api/providers"), &body).await;
    assert_eq!(
        made.status(),
        201,
        "{}",
        made.text().await.unwrap_or_default()
    );
    (gateway, upstream)
}

#[tokio::test]
async fn an_upstream_of_the_same_dialect_gets_the_request_as_it_is() {
    let (gateway, upstream) = before_native(|request| {
        if request.path == "/v1/chat/completions" {
            return vec![json_answer(200, &whole("a chat"))];
        }
        vec![sse_head(), Step::Chunk(native_stream().into()), Step::End]
    })
    .await;
    let mut body = codex();
    body["store"] = json!(true);
    let told = streamed(&gateway, &body).await;
    let first = told.last().expect("events")["response"].clone();
    assert_eq!(told.last().expect("events")["type"], "response.completed");
    assert_eq!(first["output"][0]["encrypted_content"], "sealed");
    assert_eq!(first["output"][0]["summary"][0]["text"], "hm");
    assert_eq!(first["output"][1]["content"][0]["text"], "hi there");
    assert_eq!(first["usage"]["input_tokens_details"]["cached_tokens"], 2);
    let asked = upstream.requests_for("/v1/responses")[0].json();
    assert_eq!(
        (&asked["model"], &asked["store"]),
        (&json!("fake"), &json!(false))
    );
    for kept in [
        "input",
        "tools",
        "include",
        "prompt_cache_key",
        "reasoning",
        "client_metadata",
    ] {
        assert_eq!(asked[kept], body[kept], "{kept}");
    }
    // What went before is told again, since nothing of it is stored there.
    let next = json!({"model": "p/fake", "stream": true, "previous_response_id": first["id"], "input": [
        {"type": "reasoning", "id": "rs_x", "summary": [], "encrypted_content": "sealed"},
        {"type": "reasoning", "id": "rs_y", "summary": [{"type": "summary_text", "text": "not theirs"}]},
        {"type": "message", "role": "user", "content": "on"}]});
    streamed(&gateway, &next).await;
    let asked = upstream.requests_for("/v1/responses")[1].json();
    assert_eq!(asked.get("previous_response_id"), None);
    let said: Vec<Value> = asked["input"]
        .as_array()
        .expect("items")
        .iter()
        .map(|item| json!([item["type"], item["role"]]))
        .collect();
    assert_eq!(
        json!(said),
        json!([
            ["message", "system"],
            ["message", "user"],
            ["reasoning", null],
            ["message", "assistant"],
            ["reasoning", null],
            ["message", "user"]
        ])
    );
    assert_eq!(
        asked["input"][4].get("id"),
        None,
        "what is sealed names its own"
    );
    // What was sealed stays with what is stored, and goes back to its author with the next turn.
    let (status, stored) = gateway
        .get(&gateway.router(&format!(
            "/v1/responses/{}",
            first["id"].as_str().expect("an id")
        )))
        .await;
    assert_eq!(status, 200, "{stored}");
    assert_eq!(stored["output"], first["output"]);
    assert_eq!(stored["output"][0]["encrypted_content"], "sealed");
    let next = json!({"model": "p/fake", "stream": true, "previous_response_id": first["id"], "input": "and?"});
    let second = streamed(&gateway, &next).await;
    let second = second.last().expect("events")["response"]["id"].clone();
    let next = json!({"model": "p/fake", "previous_response_id": second, "input": "and then?", "stream": true});
    streamed(&gateway, &next).await;
    let asked = upstream.requests_for("/v1/responses")[3].json();
    let sealed: Vec<&Value> = asked["input"]
        .as_array()
        .expect("items")
        .iter()
        .filter(|item| item["type"] == "reasoning")
        .collect();
    assert_eq!(sealed.len(), 2, "one of each turn: {asked}");
    for item in sealed {
        assert_eq!(item["encrypted_content"], "sealed");
        assert_eq!(item["summary"][0]["text"], "hm");
        assert_eq!(item.get("id"), None);
    }
    // The history has it as the chat that it is inside, and a chat still goes as one.
    let id = first["id"]
        .as_str()
        .expect("an id")
        .replacen("resp_", "", 1);
    let (_, row) = gateway
        .get(&gateway.api(&format!("/api/requests/{id}")))
        .await;
    assert_eq!(
        row["response"]["openai_response"]["choices"][0]["message"]["content"],
        "hi there"
    );
    assert_eq!(
        (
            &row["response"]["prompt_tokens"],
            &row["response"]["reasoning_tokens"]
        ),
        (&json!(5), &json!(1))
    );
    assert_eq!(
        gateway
            .chat(&crate::support::say("p/fake", "hi"))
            .await
            .status(),
        200
    );
    assert_eq!(upstream.completions().len(), 1);
    gateway.stop().await;
}

#[tokio::test]
async fn a_native_answer_is_recorded_and_asked_for_again_in_its_dialect() {
    let (gateway, upstream) = before_native(|request| {
        if request.json()["stream"] == true {
            return vec![sse_head(), Step::Chunk(native_stream().into()), Step::End];
        }
        let response = json!({"id": "resp_up", "object": "response", "created_at": 9, "model": "fake", "status": "completed",
            "output": [{"type": "message", "id": "m", "role": "assistant", "content": [{"type": "output_text", "text": "again"}]}]});
        vec![json_answer(200, &response)]
    })
    .await;
    let asked = gateway
        .client
        .post(gateway.router("/v1/responses"))
        .header("x-qwarden-record", "true")
        .json(&codex());
    let response = asked.send().await.expect("an answer");
    let id = response.headers()["x-request-id"].to_str().expect("text");
    let id = id.to_owned();
    let told = response.text().await.expect("a body");
    assert!(told.contains("sealed"), "a recording changes nothing");
    let replay = |what: &str| {
        let url = gateway.api(&format!("/api/requests/{id}/{what}"));
        let asked = gateway.client.post(url).send();
        async move {
            let response = asked.await.expect("an answer");
            response.json::<Value>().await.expect("JSON")
        }
    };
    let compared = replay("recording/replay").await;
    assert_eq!(compared["is_equal"], true, "{compared}");
    let again = replay("replay").await;
    assert_eq!(
        again["response"]["choices"][0]["message"]["content"], "again",
        "{again}"
    );
    let asked = upstream.requests_for("/v1/responses");
    let (mut first, second) = (asked[0].json(), asked[1].json());
    first["stream"] = json!(false);
    assert_eq!(second, first);
    assert_eq!(second["include"], codex()["include"]);
    gateway.stop().await;
}

#[tokio::test]
async fn a_native_stream_that_breaks_off_fails_too() {
    for (end, code) in [
        ("", "upstream_cut"),
        (
            "event: response.failed\ndata: {\"type\":\"response.failed\",\"response\":{\"status\":\"failed\",\"error\":{\"code\":\"server_error\",\"message\":\"broke\"}}}\n\n",
            "",
        ),
    ] {
        let (gateway, _upstream) = before_native(move |_| {
            let whole = native_stream();
            let cut = whole.find("event: response.completed").expect("its end");
            vec![
                sse_head(),
                Step::Chunk(format!("{}{end}", &whole[..cut]).into()),
                Step::End,
            ]
        })
        .await;
        let told = streamed(
            &gateway,
            &json!({"model": "p/fake", "input": "hi", "stream": true}),
        )
        .await;
        let last = told.last().expect("events");
        assert_eq!(last["type"], "response.failed", "{last}");
        if code.is_empty() {
            assert!(
                last["response"]["error"]["message"]
                    .as_str()
                    .is_some_and(|told| told.contains("broke")),
                "{last}"
            );
        } else {
            assert_eq!(last["response"]["error"]["code"], code);
        }
        gateway.stop().await;
    }
}

#[tokio::test]
async fn a_native_answer_comes_whole_or_as_the_error_it_is() {
    let (gateway, _upstream) = before_native(|request| {
        if request.json()["input"] == json!([{"type": "message", "role": "user", "content": "fail"}]) {
            return vec![json_answer(400, &json!({"error": {"message": "no such thing", "code": "bad"}}))];
        }
        let response = json!({"id": "resp_up", "object": "response", "created_at": 9, "model": "fake", "status": "incomplete",
            "incomplete_details": {"reason": "max_output_tokens"}, "error": null,
            "output": [{"type": "message", "id": "m", "role": "assistant", "content": [{"type": "output_text", "text": "half"}]}]});
        vec![json_answer(200, &response)]
    })
    .await;
    let told = answer(&gateway, &json!({"model": "p/fake", "input": "hi"})).await;
    assert_eq!(
        (&told["status"], &told["output"][0]["content"][0]["text"]),
        (&json!("incomplete"), &json!("half"))
    );
    let failed = ask(&gateway, &json!({"model": "p/fake", "input": "fail"})).await;
    assert_eq!(failed.status(), 400);
    assert_eq!(
        failed.json::<Value>().await.expect("JSON")["error"]["message"],
        "no such thing"
    );
    gateway.stop().await;
}
