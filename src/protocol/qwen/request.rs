//! What is sent to the site: as little as works (qwen-web-protocol, 2, 3 and A4).

use serde_json::{Map, Value, json};

/// Thinking tokens when the client names no budget (section 3).
const BUDGET: u64 = 81_920;

/// How the model is to think.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Thinking {
    Off,
    On {
        /// Tokens.
        budget: Option<u64>,
    },
}

/// What kind of chat it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum ChatType {
    Text,
    /// The model searches the web first.
    Search,
    Image,
    ImageEdit,
    /// Made by a job that outlives the answer; not offered.
    Video,
    DeepResearch,
    Artifacts,
    WebDev,
    Travel,
}

/// Sizes of images, as the site names them (section 3).
pub(crate) const SIZES: [&str; 5] = ["1:1", "4:3", "3:4", "16:9", "9:16"];

impl ChatType {
    const ALL: [Self; 9] = [
        Self::Text,
        Self::Search,
        Self::Image,
        Self::ImageEdit,
        Self::Video,
        Self::DeepResearch,
        Self::Artifacts,
        Self::WebDev,
        Self::Travel,
    ];

    /// The kind that the site calls `name`.
    pub(crate) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.wire() == name)
    }

    /// What the site calls the kinds that are offered.
    pub(crate) fn names() -> Vec<&'static str> {
        let offered = Self::ALL.into_iter().filter(|kind| *kind != Self::Video);
        offered.map(Self::wire).collect()
    }

    fn wire(self) -> &'static str {
        match self {
            Self::Text => "t2t",
            Self::Search => "search",
            Self::Image => "t2i",
            Self::ImageEdit => "image_edit",
            Self::Video => "t2v",
            Self::DeepResearch => "deep_research",
            Self::Artifacts => "artifacts",
            Self::WebDev => "web_dev",
            Self::Travel => "travel",
        }
    }
}

/// Whose chat it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ChatMode {
    Normal,
    /// The anonymous session of 2025.
    Guest,
}

impl ChatMode {
    fn wire(self) -> &'static str {
        match self {
            Self::Normal => "normal",
            Self::Guest => "guest",
        }
    }
}

/// Opens a chat. `now_ms` is Unix time: this call takes milliseconds, the next one seconds (A4).
pub(crate) fn new_chat(model: &str, chat_type: ChatType, mode: ChatMode, now_ms: i64) -> Value {
    json!({
        "title": "New Chat",
        "models": [model],
        "chat_mode": mode.wire(),
        "chat_type": chat_type.wire(),
        "timestamp": now_ms,
    })
}

/// One message to a chat.
#[derive(Debug)]
pub(crate) struct Turn<'a> {
    pub(crate) chat_id: &'a str,
    /// The answer it follows; none at the head of a chat.
    pub(crate) parent_id: Option<&'a str>,
    pub(crate) model: &'a str,
    pub(crate) content: &'a str,
    /// Entries as [`super::files::entry`] makes them.
    pub(crate) files: Vec<Value>,
    pub(crate) thinking: Thinking,
    pub(crate) chat_type: ChatType,
    /// Of the image to be made.
    pub(crate) size: Option<&'a str>,
    pub(crate) mode: ChatMode,
    /// Ids that we make: of this message, and of the answer as the page would number it.
    pub(crate) fid: &'a str,
    pub(crate) child_id: &'a str,
    /// Unix ms.
    pub(crate) now_ms: i64,
}

/// The completion request. Exactly one message of role user: history lives in the chat.
pub(crate) fn completion(turn: &Turn<'_>) -> Value {
    let seconds = turn.now_ms.div_euclid(1_000);
    let chat_type = turn.chat_type.wire();
    let mut body = json!({
        "stream": true,
        "version": "2.1",
        "incremental_output": true,
        "chat_id": turn.chat_id,
        "chat_mode": turn.mode.wire(),
        "model": turn.model,
        "parent_id": turn.parent_id,
        "messages": [{
            "fid": turn.fid,
            "parentId": turn.parent_id,
            "childrenIds": [turn.child_id],
            "role": "user",
            "content": turn.content,
            "user_action": "chat",
            "files": turn.files,
            "timestamp": seconds,
            "models": [turn.model],
            "chat_type": chat_type,
            "sub_chat_type": chat_type,
            "feature_config": features(turn),
            "extra": {"meta": {"subChatType": chat_type}},
            "parent_id": turn.parent_id,
        }],
        "timestamp": seconds + 1,
    });
    if matches!(turn.chat_type, ChatType::Image | ChatType::ImageEdit) {
        body["size"] = turn.size.unwrap_or("1:1").into();
    }
    body
}

fn features(turn: &Turn<'_>) -> Value {
    let is_on = matches!(turn.thinking, Thinking::On { .. });
    let mut features = Map::from_iter([
        ("output_schema".to_owned(), json!("phase")),
        ("thinking_enabled".to_owned(), json!(is_on)),
        ("auto_thinking".to_owned(), json!(false)),
        (
            "thinking_mode".to_owned(),
            json!(if is_on { "Thinking" } else { "Fast" }),
        ),
        // Searching adds marks to the text, which agents do not expect: only when it was asked for.
        (
            "auto_search".to_owned(),
            json!(turn.chat_type == ChatType::Search),
        ),
    ]);
    if let Thinking::On { budget } = turn.thinking {
        features.insert("thinking_format".to_owned(), json!("summary"));
        features.insert(
            "thinking_budget".to_owned(),
            json!(budget.unwrap_or(BUDGET)),
        );
    }
    Value::Object(features)
}

/// Ends a generation, so that its chat is free again (A1).
pub(crate) fn stop(chat_id: &str, response_id: &str) -> Value {
    json!({"chat_id": chat_id, "response_id": response_id})
}

#[cfg(test)]
mod tests {
    use super::*;

    fn turn(parent_id: Option<&'static str>) -> Turn<'static> {
        Turn {
            chat_id: "c",
            parent_id,
            model: "qwen3-max",
            content: "hi",
            files: Vec::new(),
            thinking: Thinking::Off,
            chat_type: ChatType::Text,
            size: None,
            mode: ChatMode::Normal,
            fid: "f",
            child_id: "k",
            now_ms: 1_761_484_568_123,
        }
    }

    #[test]
    fn a_turn_names_its_parent_in_three_places() {
        for parent in [None, Some("r1")] {
            let body = completion(&turn(parent));
            let message = &body["messages"][0];
            for place in [
                &body["parent_id"],
                &message["parentId"],
                &message["parent_id"],
            ] {
                assert_eq!(place.as_str(), parent);
            }
            assert_eq!(
                (&message["timestamp"], &body["timestamp"]),
                (&json!(1_761_484_568), &json!(1_761_484_569))
            );
            assert_eq!(body["messages"].as_array().map(Vec::len), Some(1));
        }
        assert_eq!(
            new_chat("m", ChatType::Text, ChatMode::Guest, 7)["timestamp"],
            7
        );
    }

    #[test]
    fn thinking_and_searching_are_said_only_when_wanted() {
        let plain = completion(&turn(None));
        let config = &plain["messages"][0]["feature_config"];
        assert_eq!(
            (&config["thinking_enabled"], &config["auto_search"]),
            (&json!(false), &json!(false))
        );
        assert!(config["thinking_budget"].is_null() && plain["size"].is_null());
        let thinking = |budget| {
            let body = completion(&Turn {
                thinking: Thinking::On { budget },
                chat_type: ChatType::Search,
                ..turn(None)
            });
            body["messages"][0]["feature_config"].clone()
        };
        assert_eq!(thinking(None)["thinking_budget"], BUDGET);
        assert_eq!(
            (
                &thinking(Some(9))["thinking_budget"],
                &thinking(None)["auto_search"]
            ),
            (&json!(9), &json!(true))
        );
        let image = completion(&Turn {
            chat_type: ChatType::Image,
            ..turn(None)
        });
        assert_eq!(
            (&image["size"], &image["messages"][0]["chat_type"]),
            (&json!("1:1"), &json!("t2i"))
        );
    }
}
