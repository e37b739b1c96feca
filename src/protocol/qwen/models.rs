//! The site's models, and the names clients call them by (qwen-web-protocol, 6 and A3).

use serde_json::Value;

use super::request::ChatType;

/// A model the site offers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct QwenModel {
    pub(crate) id: String,
    /// As the page shows it; differs from the id.
    pub(crate) name: String,
    pub(crate) owned_by: Option<String>,
    /// Tokens.
    pub(crate) max_context_length: Option<u64>,
    /// What the site says of it, as it says it.
    pub(crate) meta: Value,
    pub(crate) is_visitor_active: bool,
}

/// Reads the list, in either nesting; models that are not active are left out.
pub(crate) fn read(body: &[u8]) -> Option<Vec<QwenModel>> {
    let value: Value = serde_json::from_slice(body).ok()?;
    let data = value.get("data")?;
    let list = data.as_array().or_else(|| data.get("data")?.as_array())?;
    Some(list.iter().filter_map(model).collect())
}

fn model(entry: &Value) -> Option<QwenModel> {
    let info = entry.get("info").unwrap_or(entry);
    if info.get("is_active") == Some(&Value::Bool(false)) {
        return None;
    }
    let text = |key: &str| {
        let value = entry.get(key).or_else(|| info.get(key))?.as_str()?;
        (!value.is_empty()).then(|| value.to_owned())
    };
    let id = text("id")?;
    let meta = info.get("meta").cloned().unwrap_or(Value::Null);
    Some(QwenModel {
        name: text("name").unwrap_or_else(|| id.clone()),
        owned_by: text("owned_by"),
        max_context_length: meta.get("max_context_length").and_then(Value::as_u64),
        is_visitor_active: info.get("is_visitor_active") == Some(&Value::Bool(true)),
        meta,
        id,
    })
}

/// A name, resolved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Resolved {
    pub(crate) model_id: String,
    /// What the name's suffix says about thinking.
    pub(crate) thinking: Option<bool>,
    /// What the suffix says about the kind of chat.
    pub(crate) chat_type: Option<ChatType>,
}

/// Suffixes that clients append to a model's name.
const SUFFIXES: [(&str, Option<bool>, Option<ChatType>); 10] = [
    ("-thinking-search", Some(true), Some(ChatType::Search)),
    ("-fast-search", Some(false), Some(ChatType::Search)),
    ("-deep-research", None, Some(ChatType::DeepResearch)),
    ("-no-thinking", Some(false), None),
    ("-thinking", Some(true), None),
    ("-search", None, Some(ChatType::Search)),
    ("-image-edit", None, Some(ChatType::ImageEdit)),
    ("-image", None, Some(ChatType::Image)),
    ("-video", None, Some(ChatType::Video)),
    ("-fast", Some(false), None),
];

/// Finds a model by id, then by name, whatever the case; a suffix counts only if the rest is a model.
pub(crate) fn resolve(asked: &str, models: &[QwenModel]) -> Option<Resolved> {
    if let Some(model_id) = find(asked, models) {
        return Some(Resolved {
            model_id,
            thinking: None,
            chat_type: None,
        });
    }
    let lower = asked.to_ascii_lowercase();
    // Longer suffixes stand before those they end in.
    SUFFIXES.iter().find_map(|(suffix, thinking, chat_type)| {
        let model_id = find(lower.strip_suffix(suffix)?, models)?;
        Some(Resolved {
            model_id,
            thinking: *thinking,
            chat_type: *chat_type,
        })
    })
}

fn find(name: &str, models: &[QwenModel]) -> Option<String> {
    let by_id = models
        .iter()
        .find(|model| model.id.eq_ignore_ascii_case(name));
    let found = by_id.or_else(|| {
        models
            .iter()
            .find(|model| model.name.eq_ignore_ascii_case(name))
    });
    found.map(|model| model.id.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    macro_rules! fixture {
        ($name:literal) => {
            include_bytes!(concat!(
                env!("CARGO_MANIFEST_DIR"),
                "/tests/fixtures/qwen-web/",
                $name
            ))
        };
    }

    #[test]
    fn both_nestings_are_read_without_what_is_inactive() {
        let models = read(fixture!("models.json")).expect("a list");
        let ids: Vec<&str> = models.iter().map(|model| model.id.as_str()).collect();
        assert!(
            ids.contains(&"qwen3-max") && ids.contains(&"qwen3-coder-plus"),
            "{ids:?}"
        );
        assert_eq!(models[0].max_context_length, Some(262_144));
        assert_eq!(read(fixture!("models-v2.json")).expect("a list").len(), 4);
        assert_eq!(read(b"{}"), None);
        assert_eq!(read(b"[1]"), None);
    }

    #[test]
    fn names_and_suffixes_find_their_model() {
        let models = read(fixture!("models-v2.json")).expect("a list");
        let found = |asked: &str| {
            resolve(asked, &models).map(|found| (found.model_id, found.thinking, found.chat_type))
        };
        let max = || "qwen3.8-max".to_owned();
        assert_eq!(found("QWEN3.8-Max"), Some((max(), None, None)));
        assert_eq!(
            found("Qwen3.8-Max-thinking"),
            Some((max(), Some(true), None))
        );
        assert_eq!(
            found("qwen3.8-max-no-thinking"),
            Some((max(), Some(false), None))
        );
        assert_eq!(
            found("qwen3.8-max-thinking-search"),
            Some((max(), Some(true), Some(ChatType::Search)))
        );
        assert_eq!(found("nope-thinking"), None);
    }
}
