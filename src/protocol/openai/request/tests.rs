use proptest::prelude::*;

use super::*;

const OK: &str = r#""messages":[{"role":"user","content":"hi"}]"#;

fn parsed(text: &str) -> ChatRequest {
    parse(Bytes::copy_from_slice(text.as_bytes())).unwrap()
}

fn problems(text: &str) -> Vec<(String, &'static str)> {
    let errors = parse(Bytes::copy_from_slice(text.as_bytes())).unwrap_err();
    errors
        .into_iter()
        .map(|error| (error.param.unwrap_or_default(), error.code))
        .collect()
}

#[test]
fn a_good_request_is_understood() {
    let request = parsed(
        r#"{"model":"m","stream":true,"stream_options":{"include_usage":true},"tools":[{}],"x_unknown":[1],"temperature":null,
        "messages":[{"role":"developer","content":"a"},{"role":"user","content":[{"type":"text","text":"b"}]},
        {"role":"assistant","tool_calls":[]},{"role":"assistant","content":null},{"role":"tool","tool_call_id":"t","content":""}]}"#,
    );
    assert_eq!(
        (
            request.model.as_deref(),
            request.stream,
            request.include_usage
        ),
        (Some("m"), true, true)
    );
    assert_eq!((request.has_tools, request.message_count), (true, 5));
    let request = parsed(&format!(
        r#"{{"model":null,"stream":null,"tools":[ ],{OK}}}"#
    ));
    assert_eq!(
        (request.model, request.stream, request.has_tools),
        (None, false, false)
    );
}

#[test]
fn each_bad_field_is_named() {
    for (body, param, code) in [
        ("", "", "empty_body"),
        (" \n", "", "empty_body"),
        ("{", "", "invalid_json"),
        ("{} x", "", "invalid_json"),
        ("[]", "", "invalid_type"),
        ("7", "", "invalid_type"),
        ("{}", "messages", "missing_required_parameter"),
        (
            r#"{"messages":null}"#,
            "messages",
            "missing_required_parameter",
        ),
        (r#"{"messages":"hi"}"#, "messages", "invalid_type"),
        (r#"{"messages":{}}"#, "messages", "invalid_type"),
        (r#"{"messages":[]}"#, "messages", "invalid_value"),
        (r#"{"messages":["hi"]}"#, "messages[0]", "invalid_type"),
        (
            r#"{"messages":[{"content":"a"}]}"#,
            "messages[0].role",
            "missing_required_parameter",
        ),
        (
            r#"{"messages":[{"role":7,"content":"a"}]}"#,
            "messages[0].role",
            "invalid_type",
        ),
        (
            r#"{"messages":[{"role":"bot","content":"a"}]}"#,
            "messages[0].role",
            "invalid_value",
        ),
        (
            r#"{"messages":[{"role":"user"}]}"#,
            "messages[0].content",
            "missing_required_parameter",
        ),
        (
            r#"{"messages":[{"role":"user","content":{}}]}"#,
            "messages[0].content",
            "invalid_type",
        ),
        (
            r#"{"messages":[{"role":"tool","content":"a"}]}"#,
            "messages[0].tool_call_id",
            "missing_required_parameter",
        ),
        (
            r#"{"messages":[{"role":"tool","content":"a","tool_call_id":1}]}"#,
            "messages[0].tool_call_id",
            "invalid_type",
        ),
    ] {
        assert_eq!(problems(body), [(param.to_owned(), code)], "{body}");
    }
    for (field, param, code) in [
        (r#""model":"""#, "model", "invalid_value"),
        (r#""model":[]"#, "model", "invalid_type"),
        (r#""stream":"yes""#, "stream", "invalid_type"),
        (r#""temperature":"hot""#, "temperature", "invalid_type"),
        (r#""top_p":[]"#, "top_p", "invalid_type"),
        (r#""max_tokens":"9""#, "max_tokens", "invalid_type"),
        (
            r#""max_completion_tokens":true"#,
            "max_completion_tokens",
            "invalid_type",
        ),
        (r#""n":{}"#, "n", "invalid_type"),
        (r#""seed":"a""#, "seed", "invalid_type"),
        (r#""tools":{}"#, "tools", "invalid_type"),
        (r#""stream_options":[]"#, "stream_options", "invalid_type"),
        (
            r#""stream_options":{"include_usage":1}"#,
            "stream_options.include_usage",
            "invalid_type",
        ),
        (r#""stop":1"#, "stop", "invalid_type"),
    ] {
        assert_eq!(
            problems(&format!("{{{field},{OK}}}")),
            [(param.to_owned(), code)],
            "{field}"
        );
    }
}

#[test]
fn all_problems_are_listed_at_once() {
    let found =
        problems(r#"{"model":7,"stream":1,"n":"x","messages":[{"role":"user","content":1},3]}"#);
    let params: Vec<&str> = found.iter().map(|(param, _)| param.as_str()).collect();
    assert_eq!(
        params,
        ["messages[0].content", "messages[1]", "n", "model", "stream"]
    );
}

#[test]
fn bad_json_names_the_place() {
    let errors = parse(Bytes::from_static(b"{\n  \"model\": nope\n}")).unwrap_err();
    assert!(
        errors[0].message.contains("line 2 column"),
        "{}",
        errors[0].message
    );
    assert_eq!(
        problems("{\"model\":\"\u{1}\"}"),
        [(String::new(), "invalid_json")]
    );
    let errors = parse(Bytes::from_static(b"{\"model\":\"\xff\"}")).unwrap_err();
    assert_eq!(errors[0].code, "invalid_json");
}

#[test]
fn nesting_is_bounded() {
    let nested = |levels: usize| {
        format!(
            r#"{{{OK},"x":{}{}}}"#,
            "[".repeat(levels),
            "]".repeat(levels)
        )
    };
    assert_eq!(parsed(&nested(127)).message_count, 1);
    assert_eq!(problems(&nested(128)), [(String::new(), "too_deep")]);
    assert_eq!(
        parsed(&format!(r#"{{{OK},"x":"{}\"["}}"#, "[".repeat(500))).message_count,
        1
    );
}

#[test]
fn an_unchanged_body_is_not_copied() {
    let request = parsed(&format!(r#"{{"model":"m","stream":true,{OK}}}"#));
    for body in [
        request.upstream_body(None, false),
        request.upstream_body(Some("m"), false),
    ] {
        assert_eq!(body.as_ptr(), request.body.as_ptr());
    }
    let asked = parsed(&format!(
        r#"{{"stream":true,"stream_options":{{"include_usage":true}},{OK}}}"#
    ));
    assert_eq!(asked.upstream_body(None, true), asked.body);
    let plain = parsed(&format!("{{{OK}}}"));
    assert_eq!(plain.upstream_body(None, true), plain.body);
}

#[test]
fn only_the_named_bytes_change() {
    for (before, after) in [
        (
            r#"{ "model" : "a" , "stream":true, M}"#,
            r#"{ "model" : "x/\"y\"" , "stream":true, M}"#,
        ),
        (
            r#"{"mod\u0065l":"\u0061","stream":false,M}"#,
            r#"{"mod\u0065l":"x/\"y\"","stream":false,M}"#,
        ),
        (
            r#" {M,"stream":true,"model":null}"#,
            r#" {M,"stream":true,"model":"x/\"y\""}"#,
        ),
        (r"{M}", r#"{"model":"x/\"y\"",M}"#),
    ] {
        let (before, after) = (before.replace('M', OK), after.replace('M', OK));
        assert_eq!(parsed(&before).upstream_body(Some("x/\"y\""), false), after);
    }
    for (before, after) in [
        (
            r#"{"stream":true,M}"#,
            r#"{"stream_options":{"include_usage":true},"stream":true,M}"#,
        ),
        (
            r#"{"stream":true,"stream_options":null,M}"#,
            r#"{"stream":true,"stream_options":{"include_usage":true},M}"#,
        ),
        (
            r#"{"stream":true,"stream_options": { } ,M}"#,
            r#"{"stream":true,"stream_options": {"include_usage":true } ,M}"#,
        ),
        (
            r#"{"stream":true,"stream_options":{"a":1},M}"#,
            r#"{"stream":true,"stream_options":{"include_usage":true,"a":1},M}"#,
        ),
        (
            r#"{"stream":true,"stream_options":{"include_usage": false},M}"#,
            r#"{"stream":true,"stream_options":{"include_usage": true},M}"#,
        ),
    ] {
        let (before, after) = (before.replace('M', OK), after.replace('M', OK));
        assert_eq!(parsed(&before).upstream_body(None, true), after);
    }
}

#[test]
fn repeated_keys_are_settled_before_the_upstream_sees_them() {
    let request = parsed(&format!(
        r#"{{"model":"a","model":"b","stream":true,{OK}}}"#
    ));
    assert_eq!(request.model.as_deref(), Some("b"));
    let body: Value = serde_json::from_slice(&request.upstream_body(Some("c"), true)).unwrap();
    assert_eq!(
        (&body["model"], &body["stream_options"]["include_usage"]),
        (&json!("c"), &json!(true))
    );
}

fn json_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i32>().prop_map(Value::from),
        ".{0,8}".prop_map(Value::from)
    ];
    leaf.prop_recursive(3, 16, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec((".{0,4}", inner), 0..4)
                .prop_map(|pairs| Value::Object(pairs.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn a_splice_differs_only_there(
        extra in json_value(), model in ".{1,12}", has_model in any::<bool>(), options in prop::option::of(json_value()), pretty in any::<bool>()
    ) {
        let mut whole = json!({ "messages": [{ "role": "user", "content": "hi" }], "stream": true, "extra": extra });
        if has_model {
            whole["model"] = json!("before");
        }
        if let Some(options) = options {
            whole["stream_options"] = json!({ "other": options });
        }
        let text = if pretty { serde_json::to_string_pretty(&whole).unwrap() } else { whole.to_string() };
        let body = parsed(&text).upstream_body(Some(&model), true);
        whole["model"] = json!(model);
        whole["stream_options"]["include_usage"] = json!(true);
        prop_assert_eq!(serde_json::from_slice::<Value>(&body).unwrap(), whole);
    }
}

#[test]
fn a_conversation_is_known_by_its_key_or_its_first_question() {
    let of = |more: &str, question: &str| {
        let body = format!(
            "{{\"messages\":[{{\"role\":\"system\",\"content\":\"s\"}},{{\"role\":\"user\",\"content\":\"{question}\"}}{more}"
        );
        parse(Bytes::from(body))
            .expect("a request")
            .prefix()
            .to_vec()
    };
    let first = of("]}", "hi");
    let later = of(
        ",{\"role\":\"assistant\",\"content\":\"yes?\"},{\"role\":\"user\",\"content\":\"more\"}]}",
        "hi",
    );
    assert!(!first.is_empty());
    assert_eq!(first, later);
    assert_ne!(first, of("]}", "ho"));
    let keyed = |question| of("],\"prompt_cache_key\":\"k-1\"}", question);
    assert_eq!(keyed("hi"), keyed("ho"));
    assert_ne!(keyed("hi"), first);
}

#[test]
fn images_are_counted_and_not_taken_for_text() {
    let image = "A".repeat(40_000);
    let body = json!({"messages": [{"role": "user", "content": [
        {"type": "text", "text": "what is this?"},
        {"type": "image_url", "image_url": {"url": format!("data:image/png;base64,{image}")}},
    ]}]});
    let request = parse(Bytes::from(body.to_string())).expect("a request");
    let (images, tokens) = request.estimate();
    assert_eq!(images, 1);
    assert!((1_000..1_100).contains(&tokens), "{tokens}");
}
