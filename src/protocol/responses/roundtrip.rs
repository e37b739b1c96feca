//! What a client says survives its way into a chat and back.

use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::back;
use super::items::Messages;
use super::names::{Called, Names};

/// A step of a conversation: what the user says, or a turn of the model and what its calls returned.
fn step() -> impl Strategy<Value = Vec<Value>> {
    prop_oneof![
        user().prop_map(|user| vec![user]),
        instructions().prop_map(|said| vec![said]),
        turn()
    ]
}

fn text() -> impl Strategy<Value = String> {
    "[a-z\"\\\\\n é漢😀{}]{1,20}"
}

fn user() -> impl Strategy<Value = Value> {
    let part = prop_oneof![
        text().prop_map(|text| json!({"type": "input_text", "text": text})),
        "[A-Za-z0-9]{4}".prop_map(|data| json!({"type": "input_image",
            "image_url": format!("data:image/png;base64,{data}"), "detail": "high"})),
        Just(
            json!({"type": "input_file", "filename": "a.pdf", "file_data": "data:application/pdf;base64,aGk="})
        ),
    ];
    proptest::collection::vec(part, 1..4)
        .prop_map(|content| json!({"type": "message", "role": "user", "content": content}))
}

fn instructions() -> impl Strategy<Value = Value> {
    text().prop_map(|text| {
        json!({"type": "message", "role": "system", "content": [{"type": "input_text", "text": text}]})
    })
}

fn turn() -> impl Strategy<Value = Vec<Value>> {
    let calls = proptest::collection::vec((0..4_u8, text(), "[a-z0-9]{12}", text()), 0..4);
    (proptest::option::of(text()), proptest::option::of(text()), calls).prop_map(|(thought, said, calls)| {
        let mut items = Vec::new();
        if let Some(text) = thought {
            items.push(json!({"type": "reasoning", "summary": [{"type": "summary_text", "text": text}]}));
        }
        if let Some(text) = said {
            let content = json!([{"type": "output_text", "text": text}]);
            items.push(json!({"type": "message", "role": "assistant", "content": content}));
        }
        let mut results = Vec::new();
        for (kind, text, id, result) in calls {
            let (mut call, output) = match kind {
                0 => (json!({"type": "custom_tool_call", "name": "patch", "input": text}), "custom_tool_call_output"),
                1 => (json!({"type": "function_call", "name": "spawn", "namespace": "agents",
                    "arguments": json!({"t": text}).to_string()}), "function_call_output"),
                _ => (json!({"type": "function_call", "name": "read", "arguments": json!({"t": text}).to_string()}),
                    "function_call_output"),
            };
            call["call_id"] = json!(id);
            items.push(call);
            results.push(json!({"type": output, "call_id": id, "output": result}));
        }
        items.extend(results);
        // The user speaks between turns; two turns in a row could be one.
        items.push(json!({"type": "message", "role": "user", "content": [{"type": "input_text", "text": "on"}]}));
        items
    })
}

fn names() -> Names {
    let mut names = Names::default();
    let mut taken = ["read".to_owned()].into();
    for (name, namespace, is_custom) in [("patch", None, true), ("spawn", Some("agents"), false)] {
        let called = Called {
            name: name.to_owned(),
            namespace: namespace.map(str::to_owned),
            is_custom,
        };
        names.add(called, &mut taken);
    }
    names
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    #[test]
    fn a_conversation_comes_back_as_it_was(steps in proptest::collection::vec(step(), 0..8)) {
        let (names, known) = (names(), BTreeMap::new());
        let items: Vec<Value> = steps.into_iter().flatten().collect();
        let mut messages = Messages::new(&names, &known);
        let mut faults = Vec::new();
        for item in &items {
            messages.item(item, "input", &mut faults);
        }
        prop_assert_eq!(faults, vec![]);
        let chat = messages.finish();
        prop_assert_eq!(back::items(&chat, &names), items);
        // And the chat itself is the same after another round.
        let mut again = Messages::new(&names, &known);
        for item in back::items(&chat, &names) {
            again.item(&item, "input", &mut Vec::new());
        }
        prop_assert_eq!(again.finish(), chat);
    }
}
