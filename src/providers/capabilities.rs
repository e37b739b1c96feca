//! What a model can do, as upstreams tell it. Each has words of its own; those that routing knows are made one.

use serde_json::Value;

/// More than anybody tells.
const MOST: usize = 32;
const LONGEST: usize = 40;

/// The capabilities in a row of a list of models, each once.
pub(crate) fn read(row: &Value) -> Vec<String> {
    let mut told = Vec::new();
    match row.get("capabilities") {
        // Ollama, LM Studio, qwarden itself.
        Some(Value::Array(words)) => {
            for word in words.iter().filter_map(Value::as_str) {
                add(&mut told, word);
            }
        }
        // Mistral, Anthropic's and Qwen's own.
        Some(Value::Object(flags)) => {
            let on = flags.iter().filter(|(_, flag)| is_on(flag));
            for (word, _) in on {
                add(&mut told, word);
            }
        }
        _ => {}
    }
    // OpenRouter. Most parameters say nothing of the model.
    for word in words(row.get("supported_parameters")) {
        if matches!(known(word), "tools" | "structured_output" | "reasoning") {
            add(&mut told, word);
        }
    }
    let modalities = row
        .pointer("/architecture/input_modalities")
        .or_else(|| row.get("input_modalities"));
    for word in words(modalities).filter(|word| *word != "text") {
        add(&mut told, word);
    }
    told
}

fn words(list: Option<&Value>) -> impl Iterator<Item = &str> {
    list.and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
}

/// `true`, or what says more of it, such as `{"supported": true}`.
fn is_on(flag: &Value) -> bool {
    match flag {
        Value::Bool(on) => *on,
        Value::Object(more) => more.get("supported").is_some_and(is_on),
        _ => false,
    }
}

fn add(told: &mut Vec<String>, word: &str) {
    let word = word.trim().to_ascii_lowercase();
    let word = known(&word);
    let is_word = !word.is_empty() && word.len() <= LONGEST && !word.chars().any(char::is_control);
    if is_word && told.len() < MOST && !told.iter().any(|one| one == word) {
        told.push(word.to_owned());
    }
}

/// The one word for what is called by many; others stay.
fn known(word: &str) -> &str {
    match word {
        "completion" | "completions" | "completion_chat" | "chat_completion"
        | "chat_completions" => "chat",
        "tool" | "tool_use" | "tool_call" | "tool_calls" | "tool_calling" | "function_call"
        | "function_calling" | "functions" => "tools",
        "image" | "images" | "image_input" => "vision",
        "thinking" | "include_reasoning" | "reasoning_effort" => "reasoning",
        "structured_outputs" | "json_schema" => "structured_output",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn many_ways_to_tell_come_out_as_one() {
        for (row, told) in [
            (
                json!({"capabilities": ["completion", "Tools", "vision", "thinking", 7]}),
                vec!["chat", "tools", "vision", "reasoning"],
            ),
            (
                json!({"capabilities": {"completion_chat": true, "function_calling": true, "vision": false, "x": 1}}),
                vec!["chat", "tools"],
            ),
            (
                json!({"capabilities": {"structured_outputs": {"supported": true}, "pdf": {"supported": false}}}),
                vec!["structured_output"],
            ),
            (
                json!({"supported_parameters": ["temperature", "tools", "tool_choice", "structured_outputs",
                       "reasoning", "include_reasoning"],
                       "architecture": {"input_modalities": ["text", "image", "audio"]}}),
                vec!["tools", "structured_output", "reasoning", "vision", "audio"],
            ),
            (
                json!({"input_modalities": ["image"], "capabilities": ["vision"]}),
                vec!["vision"],
            ),
            (json!({"capabilities": "chat"}), vec![]),
            (
                json!({"capabilities": ["", "a\nb", "x".repeat(LONGEST + 1)], "architecture": 7}),
                vec![],
            ),
            (json!("m"), vec![]),
        ] {
            assert_eq!(read(&row), told, "{row}");
        }
        let many: Vec<String> = (0..100).map(|n| format!("c{n}")).collect();
        assert_eq!(read(&json!({"capabilities": many})).len(), MOST);
    }
}
