//! Models as Ollama lists them.
//!
//! Clients decide by `capabilities` what they offer to do, and by `*.context_length` how much they send. What is not
//! known of a model is told as a model without limits that calls tools: the gateway asks one that can.

use serde_json::{Map, Value, json};

/// What is known of a model.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Known<'a> {
    pub(crate) name: &'a str,
    pub(crate) owner: &'a str,
    /// In RFC 3339.
    pub(crate) made_at: &'a str,
    /// In the gateway's words; empty when nobody tells.
    pub(crate) capabilities: &'a [String],
    pub(crate) context_length: Option<u64>,
    /// Hexadecimal, the same for one name.
    pub(crate) digest: &'a str,
}

/// A row of `/api/tags`.
pub(crate) fn tag(known: &Known<'_>) -> Value {
    json!({
        "name": known.name,
        "model": known.name,
        "modified_at": known.made_at,
        "size": 0,
        "digest": known.digest,
        "details": details(known),
    })
}

/// The answer of `/api/show`.
pub(crate) fn shown(known: &Known<'_>) -> Value {
    let mut info = Map::new();
    info.insert("general.architecture".into(), known.owner.into());
    info.insert("general.basename".into(), known.name.into());
    if let Some(length) = known.context_length {
        info.insert(format!("{}.context_length", known.owner), length.into());
    }
    json!({
        "modelfile": format!("FROM {}\n", known.name),
        "parameters": "",
        "template": "{{ .Prompt }}",
        "modified_at": known.made_at,
        "details": details(known),
        "model_info": info,
        "capabilities": capabilities(known.capabilities),
    })
}

/// In Ollama's words.
fn capabilities(known: &[String]) -> Vec<&str> {
    if known.is_empty() {
        return vec!["completion", "tools"];
    }
    let told = known.iter().filter_map(|word| match word.as_str() {
        "tools" => Some("tools"),
        "vision" => Some("vision"),
        "reasoning" => Some("thinking"),
        "embedding" | "embeddings" => Some("embedding"),
        _ => None,
    });
    ["completion"].into_iter().chain(told).collect()
}

fn details(known: &Known<'_>) -> Value {
    json!({
        "parent_model": "",
        "format": "gguf",
        "family": known.owner,
        "families": [known.owner],
        "parameter_size": "",
        "quantization_level": "",
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_known_is_told_in_its_words() {
        let words = ["chat", "vision", "reasoning"].map(str::to_owned);
        let shown = shown(&Known {
            name: "m",
            owner: "o",
            capabilities: &words,
            context_length: Some(9),
            ..Known::default()
        });
        assert_eq!(
            shown["capabilities"],
            json!(["completion", "vision", "thinking"])
        );
        assert_eq!(shown["model_info"]["o.context_length"], 9);
        assert_eq!(capabilities(&[]), ["completion", "tools"]);
    }
}
