use serde_json::Map;

use super::*;

fn teller() -> Teller {
    let head = Head {
        request_id: "r".into(),
        created: 7,
        echo: Map::from_iter([("store".to_owned(), json!(true))]),
        model: "asked".into(),
    };
    let names = serde_json::from_value(json!({
        "agents__spawn": {"name": "spawn", "namespace": "agents"},
        "patch": {"name": "patch", "is_custom": true},
    }));
    Teller::new(head, names.unwrap())
}

fn delta(delta: &Value) -> String {
    json!({"id": "c", "model": "m", "choices": [{"index": 0, "delta": delta, "finish_reason": null}]}).to_string()
}

fn finish(reason: &str) -> String {
    json!({"id": "c", "choices": [{"index": 0, "delta": {}, "finish_reason": reason}]}).to_string()
}

const USAGE: &str = r#"{"choices":[],"usage":{"prompt_tokens":5,"completion_tokens":3,"total_tokens":8,"estimated":true,
    "prompt_tokens_details":{"cached_tokens":2},"completion_tokens_details":{"reasoning_tokens":1}}}"#;

/// Each event, with what every one of them must have checked.
fn told(chunks: &[String]) -> Vec<Value> {
    let mut teller = teller();
    let mut out = Vec::new();
    for chunk in chunks {
        teller.event(chunk, &mut out);
    }
    let text = String::from_utf8(out).unwrap();
    let mut events = Vec::new();
    for (number, event) in (0..).zip(text.split_terminator("\n\n")) {
        let (name, data) = event.split_once('\n').unwrap();
        let data: Value = serde_json::from_str(data.strip_prefix("data: ").unwrap()).unwrap();
        assert_eq!(name.strip_prefix("event: "), data["type"].as_str());
        assert_eq!(data["sequence_number"], number);
        events.push(data);
    }
    events
}

fn kinds(events: &[Value]) -> Vec<&str> {
    let kinds = events.iter().filter_map(|event| event["type"].as_str());
    kinds
        .map(|kind| kind.strip_prefix("response.").unwrap())
        .collect()
}

#[test]
fn thoughts_text_and_calls_come_in_full_sequence() {
    let events = told(&[
        delta(&json!({"role": "assistant", "content": ""})),
        delta(&json!({"reasoning_content": "hm"})),
        delta(&json!({"content": "a"})),
        delta(&json!({"content": "b"})),
        delta(
            &json!({"tool_calls": [{"index": 0, "id": "1", "function": {"name": "f", "arguments": ""}}]}),
        ),
        delta(
            &json!({"tool_calls": [{"index": 1, "id": "2", "function": {"name": "agents__spawn", "arguments": "{}"}}]}),
        ),
        delta(&json!({"tool_calls": [{"index": 0, "function": {"arguments": "{\"x\""}}]})),
        delta(&json!({"tool_calls": [{"index": 0, "function": {"arguments": ":1}"}}]})),
        delta(
            &json!({"tool_calls": [{"index": 2, "id": "3", "function": {"name": "patch", "arguments": "{\"input\":\"*** x\"}"}}]}),
        ),
        finish("tool_calls"),
        USAGE.into(),
        "[DONE]".into(),
    ]);
    assert_eq!(
        kinds(&events),
        [
            "created",
            "in_progress",
            "output_item.added",
            "reasoning_summary_part.added",
            "reasoning_summary_text.delta",
            "reasoning_summary_text.done",
            "reasoning_summary_part.done",
            "output_item.done",
            "output_item.added",
            "content_part.added",
            "output_text.delta",
            "output_text.delta",
            "output_text.done",
            "content_part.done",
            "output_item.done",
            "output_item.added",
            "output_item.added",
            "function_call_arguments.delta",
            "function_call_arguments.delta",
            "function_call_arguments.delta",
            "output_item.added",
            "function_call_arguments.done",
            "output_item.done",
            "function_call_arguments.done",
            "output_item.done",
            "custom_tool_call_input.delta",
            "custom_tool_call_input.done",
            "output_item.done",
            "completed",
        ]
    );
    let response = &events.last().unwrap()["response"];
    assert_eq!(response["id"], "resp_r");
    assert_eq!(response["model"], "m");
    assert_eq!(response["status"], "completed");
    assert_eq!(
        response["usage"],
        json!({
            "input_tokens": 5, "input_tokens_details": {"cached_tokens": 2, "cache_write_tokens": 0}, "output_tokens": 3,
            "output_tokens_details": {"reasoning_tokens": 1}, "total_tokens": 8, "estimated": true,
        })
    );
    assert_eq!(
        response["output"],
        json!([
            {"id": "rs_r_0", "type": "reasoning", "status": "completed", "summary": [{"type": "summary_text", "text": "hm"}]},
            {"id": "msg_r_1", "type": "message", "role": "assistant", "status": "completed",
             "content": [{"type": "output_text", "text": "ab", "annotations": [], "logprobs": []}]},
            {"id": "fc_r_2", "type": "function_call", "status": "completed", "call_id": "1", "name": "f", "arguments": "{\"x\":1}"},
            {"id": "fc_r_3", "type": "function_call", "status": "completed", "call_id": "2", "name": "spawn",
             "namespace": "agents", "arguments": "{}"},
            {"id": "ctc_r_4", "type": "custom_tool_call", "status": "completed", "call_id": "3", "name": "patch", "input": "*** x"},
        ])
    );
    // Each item ends as it stands in the response.
    for event in events
        .iter()
        .filter(|event| event["type"] == "response.output_item.done")
    {
        let place = usize::try_from(event["output_index"].as_u64().unwrap()).unwrap();
        assert_eq!(event["item"], response["output"][place]);
    }
}

#[test]
fn a_whole_answer_is_the_response_that_a_stream_ends_with() {
    let whole = json!({"id": "c", "model": "m", "choices": [{"index": 0, "finish_reason": "tool_calls", "message": {
        "role": "assistant", "content": "ab", "reasoning_content": "hm", "tool_calls": [
            {"id": "1", "type": "function", "function": {"name": "agents__spawn", "arguments": "{}"}}]}}]});
    let told_whole: Value =
        serde_json::from_slice(&teller().whole(whole.to_string().as_bytes()).unwrap()).unwrap();
    let events = told(&[
        delta(&json!({"reasoning": "hm", "content": "ab"})),
        delta(
            &json!({"tool_calls": [{"index": 0, "id": "1", "function": {"name": "agents__spawn", "arguments": "{}"}}]}),
        ),
        finish("tool_calls"),
        "[DONE]".into(),
    ]);
    assert_eq!(events.last().unwrap()["response"], told_whole);
    assert_eq!(told_whole["usage"], Value::Null);
}

#[test]
fn an_answer_that_was_cut_by_its_length_is_incomplete() {
    for (reason, told_reason) in [
        ("length", "max_output_tokens"),
        ("content_filter", "content_filter"),
    ] {
        let events = told(&[
            delta(&json!({"content": "a"})),
            finish(reason),
            "[DONE]".into(),
        ]);
        let last = events.last().unwrap();
        assert_eq!(last["type"], "response.incomplete");
        assert_eq!(
            last["response"]["incomplete_details"],
            json!({"reason": told_reason})
        );
        assert_eq!(last["response"]["output"][0]["status"], "incomplete");
    }
}

#[test]
fn after_an_error_there_is_no_completion() {
    let error = json!({"error": {"message": "cut", "type": "stream_error", "code": "upstream_cut", "param": null}});
    let events = told(&[
        delta(&json!({"content": "a"})),
        delta(
            &json!({"tool_calls": [{"index": 0, "id": "1", "function": {"name": "f", "arguments": "{"}}]}),
        ),
        error.to_string(),
        "[DONE]".into(),
    ]);
    let last = events.last().unwrap();
    assert_eq!(last["type"], "response.failed");
    assert_eq!(last["response"]["status"], "failed");
    assert_eq!(
        last["response"]["error"],
        json!({"code": "upstream_cut", "message": "cut"})
    );
    let output = last["response"]["output"].as_array().unwrap();
    assert_eq!(output.len(), 1, "half a call is not there to be run");
    assert!(!kinds(&events).contains(&"completed"));
    let early = told(&[error.to_string(), "[DONE]".into()]);
    assert_eq!(kinds(&early), ["created", "in_progress", "failed"]);
}

#[test]
fn odd_calls_are_told_apart() {
    let call =
        |id: &str| json!({"index": 0, "id": id, "function": {"name": "f", "arguments": "{}"}});
    let events = told(&[
        delta(&json!({"tool_calls": [call("a")]})),
        delta(&json!({"tool_calls": [call("b")]})),
        // Its name comes late, its id never.
        delta(&json!({"tool_calls": [{"index": 1, "function": {"arguments": "{\"y\":"}}]})),
        delta(&json!({"tool_calls": [{"index": 1, "function": {"name": "g", "arguments": "2}"}}]})),
        finish("stop"),
        "[DONE]".into(),
    ]);
    let output = events.last().unwrap()["response"]["output"].clone();
    let calls: Vec<_> = output
        .as_array()
        .unwrap()
        .iter()
        .map(|call| (&call["call_id"], &call["arguments"]))
        .collect();
    assert_eq!(
        calls,
        [
            (&json!("a"), &json!("{}")),
            (&json!("b"), &json!("{}")),
            (&json!("call_r_2"), &json!("{\"y\":2}"))
        ]
    );
}

#[test]
fn items_of_the_same_dialect_go_through() {
    let sealed =
        json!({"type": "reasoning", "id": "rs_up", "summary": [], "encrypted_content": "xyz"});
    let search = json!({"type": "web_search_call", "id": "ws_1", "status": "completed", "action": {"type": "search"}});
    let events = told(&[
        delta(&json!({"reasoning_content": "hm"})),
        delta(&json!({extra::ITEMS: [sealed]})),
        delta(&json!({extra::ITEMS: [search]})),
        delta(&json!({"content": "a"})),
        finish("stop"),
        "[DONE]".into(),
    ]);
    let output = events.last().unwrap()["response"]["output"].clone();
    assert_eq!(output[0]["encrypted_content"], "xyz");
    assert_eq!(output[0]["summary"][0]["text"], "hm");
    assert_eq!(output[1], search);
    assert_eq!(output[2]["content"][0]["text"], "a");
    assert_eq!(output.as_array().unwrap().len(), 3);
}
