//! A chat request's messages and wishes, for upstreams that do not take the body as it is.
//!
//! The body has been checked by [`super::request::parse`]; what clients write beyond the reference is taken as meant
//! (client-behaviour, 3).

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use serde_json::{Map, Value};

use super::lenient;

/// Who says a message. `developer` is a system message, `function` a tool's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    System,
    User,
    Assistant,
    Tool,
}

/// One message; parts are joined.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Message {
    pub(crate) role: Role,
    pub(crate) text: String,
    pub(crate) attachments: Vec<Attachment>,
    /// Of an assistant.
    pub(crate) calls: Vec<ToolCall>,
    /// Of a tool: the call it answers.
    pub(crate) call_id: Option<String>,
    pub(crate) name: Option<String>,
}

/// A call that an assistant made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ToolCall {
    pub(crate) id: Option<String>,
    pub(crate) name: String,
    /// JSON text, as the client returned it.
    pub(crate) arguments: String,
}

/// An image or file of a message.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Attachment {
    /// Somewhere on the web.
    Url(String),
    Inline {
        media_type: String,
        data: Vec<u8>,
        name: Option<String>,
    },
}

impl Attachment {
    /// The same file under another name is the same file.
    fn shows_same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Url(url), Self::Url(other)) => url == other,
            (Self::Inline { data, .. }, Self::Inline { data: other, .. }) => data == other,
            _ => false,
        }
    }
}

impl std::fmt::Debug for Attachment {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Url(_) => formatter.write_str("Url"),
            Self::Inline {
                media_type, data, ..
            } => write!(formatter, "Inline({media_type}, {} bytes)", data.len()),
        }
    }
}

/// How much the client wants the model to think. None: it did not say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Wanted {
    pub(crate) enable: Option<bool>,
    /// Tokens.
    pub(crate) budget: Option<u64>,
    pub(crate) effort: Option<String>,
}

/// A request taken apart.
#[derive(Clone, Debug)]
pub(crate) struct ChatBody {
    pub(crate) model: Option<String>,
    pub(crate) messages: Vec<Message>,
    /// `tools`, or the older `functions`.
    pub(crate) tools: Option<Value>,
    /// `tool_choice`, or the older `function_call`.
    pub(crate) tool_choice: Option<Value>,
    pub(crate) parallel_tool_calls: bool,
    pub(crate) thinking: Wanted,
    pub(crate) web_search: bool,
    /// What kind of chat is wanted, in the site's words.
    pub(crate) chat_type: Option<String>,
    /// The size of an image that is to be made.
    pub(crate) size: Option<String>,
    /// Fields that ask for what only a model's own server can do.
    pub(crate) ignored: Vec<&'static str>,
}

/// How the model's server is to sample and end.
const SAMPLING: [&str; 13] = [
    "temperature",
    "top_p",
    "top_k",
    "max_tokens",
    "max_completion_tokens",
    "stop",
    "seed",
    "presence_penalty",
    "frequency_penalty",
    "logit_bias",
    "logprobs",
    "top_logprobs",
    "response_format",
];

/// What cannot be taken, with its place.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{place}` {problem}")]
pub(crate) struct Unreadable {
    place: String,
    problem: String,
}

/// Takes a request apart.
pub(crate) fn body(bytes: &[u8]) -> Result<ChatBody, Unreadable> {
    let whole: Map<String, Value> = serde_json::from_slice(bytes)
        .map_err(|error| unreadable("body", &format!("is no JSON object: {error}")))?;
    let list = whole.get("messages").and_then(Value::as_array);
    let messages = list
        .into_iter()
        .flatten()
        .enumerate()
        .map(|(at, message)| read(message, &format!("messages[{at}]")))
        .collect::<Result<_, _>>()?;
    let given = |keys: [&str; 2]| {
        keys.into_iter()
            .find_map(|key| present(&whole, key))
            .cloned()
    };
    let web_search = present(&whole, "web_search_options").is_some_and(Value::is_object)
        || extra(&whole, "enable_search").and_then(Value::as_bool) == Some(true);
    let word = |key: &str| {
        let value = extra(&whole, key)?;
        Some(
            value
                .as_str()
                .map_or_else(|| value.to_string(), str::to_owned),
        )
    };
    Ok(ChatBody {
        model: whole
            .get("model")
            .and_then(Value::as_str)
            .map(str::to_owned),
        messages,
        tools: given(["tools", "functions"]),
        tool_choice: given(["tool_choice", "function_call"]),
        parallel_tool_calls: whole.get("parallel_tool_calls") != Some(&Value::Bool(false)),
        thinking: thinking(&whole),
        web_search,
        chat_type: word("chat_type"),
        size: word("size"),
        ignored: SAMPLING
            .into_iter()
            .filter(|key| present(&whole, key).is_some())
            .collect(),
    })
}

/// The attachments of `messages`, each content once, in order.
pub(crate) fn attachments(messages: &[Message]) -> Vec<&Attachment> {
    let mut found: Vec<&Attachment> = Vec::new();
    for attachment in messages.iter().flat_map(|message| &message.attachments) {
        if !found.iter().any(|known| known.shows_same(attachment)) {
            found.push(attachment);
        }
    }
    found
}

fn unreadable(place: &str, problem: &str) -> Unreadable {
    Unreadable {
        place: place.to_owned(),
        problem: problem.to_owned(),
    }
}

fn present<'a>(object: &'a Map<String, Value>, key: &str) -> Option<&'a Value> {
    object.get(key).filter(|value| !value.is_null())
}

/// A field that is no part of the reference: SDKs put it beside the others, or into one of these objects.
fn extra<'a>(whole: &'a Map<String, Value>, key: &str) -> Option<&'a Value> {
    present(whole, key).or_else(|| {
        ["extra_body", "chat_template_kwargs"]
            .into_iter()
            .find_map(|outer| present(whole.get(outer)?.as_object()?, key))
    })
}

fn thinking(whole: &Map<String, Value>) -> Wanted {
    // Anthropic's form, which some clients send to any server.
    let typed = extra(whole, "thinking");
    let kind = typed.and_then(|typed| typed.get("type")?.as_str());
    let switched = match typed {
        Some(Value::Bool(on)) => Some(*on),
        _ => match kind {
            Some("enabled" | "adaptive") => Some(true),
            Some("disabled") => Some(false),
            _ => None,
        },
    };
    let effort = present(whole, "reasoning_effort")
        .or_else(|| whole.get("reasoning")?.get("effort"))
        .and_then(Value::as_str);
    Wanted {
        enable: extra(whole, "enable_thinking")
            .and_then(Value::as_bool)
            .or(switched),
        budget: extra(whole, "thinking_budget")
            .or_else(|| typed?.get("budget_tokens"))
            .and_then(lenient::count),
        effort: effort.map(str::to_owned),
    }
}

fn read(value: &Value, place: &str) -> Result<Message, Unreadable> {
    let role = match value.get("role").and_then(Value::as_str) {
        Some("system" | "developer") => Role::System,
        Some("user") => Role::User,
        Some("assistant") => Role::Assistant,
        Some("tool" | "function") => Role::Tool,
        _ => {
            return Err(unreadable(
                &format!("{place}.role"),
                "must be one of system, developer, user, assistant, tool",
            ));
        }
    };
    let mut message = Message {
        role,
        text: String::new(),
        attachments: Vec::new(),
        calls: Vec::new(),
        call_id: text(value, "tool_call_id"),
        name: text(value, "name").filter(|name| !name.is_empty()),
    };
    match value.get("content") {
        Some(Value::String(text)) => message.text.clone_from(text),
        Some(Value::Array(parts)) => {
            for (at, part) in parts.iter().enumerate() {
                take_part(&mut message, part, &format!("{place}.content[{at}]"))?;
            }
        }
        _ => {}
    }
    if role == Role::Assistant {
        let calls = value.get("tool_calls").and_then(Value::as_array);
        let listed = calls.into_iter().flatten();
        let older = value.get("function_call").filter(|call| call.is_object());
        message.calls = listed.filter_map(tool_call).collect();
        // Some clients write one call in both forms.
        if message.calls.is_empty() {
            message.calls.extend(older.and_then(function));
        }
    }
    Ok(message)
}

fn text(value: &Value, key: &str) -> Option<String> {
    value.get(key)?.as_str().map(str::to_owned)
}

fn tool_call(call: &Value) -> Option<ToolCall> {
    let function = function(
        call.get("function")
            .filter(|inner| inner.is_object())
            .unwrap_or(call),
    )?;
    Some(ToolCall {
        id: text(call, "id").or_else(|| text(call, "call_id")),
        ..function
    })
}

fn function(call: &Value) -> Option<ToolCall> {
    let arguments = match call.get("arguments") {
        Some(Value::String(text)) => text.clone(),
        None | Some(Value::Null) => String::new(),
        Some(other) => other.to_string(),
    };
    Some(ToolCall {
        id: None,
        name: text(call, "name")?,
        arguments,
    })
}

fn take_part(message: &mut Message, part: &Value, place: &str) -> Result<(), Unreadable> {
    let kind = part.get("type").and_then(Value::as_str);
    let source = match kind {
        Some("image_url" | "input_image" | "image" | "video_url") => {
            let holder = ["image_url", "image", "video_url", "url"]
                .into_iter()
                .find_map(|key| part.get(key));
            holder.and_then(|holder| holder.as_str().or_else(|| holder.get("url")?.as_str()))
        }
        Some("file" | "input_file") => {
            let holder = part.get("file").unwrap_or(part);
            let data = holder.get("file_data").or_else(|| holder.get("file_url"));
            let name = text(holder, "filename");
            let Some(data) = data.and_then(Value::as_str) else {
                return Err(unreadable(place, "must bring its file as `file_data`"));
            };
            message.attachments.push(attachment(data, name, place)?);
            return Ok(());
        }
        Some("input_audio") => {
            let audio = part.get("input_audio").unwrap_or(part);
            let format = text(audio, "format").unwrap_or_else(|| "wav".to_owned());
            let data = audio
                .get("data")
                .and_then(Value::as_str)
                .unwrap_or_default();
            let url = format!("data:audio/{format};base64,{data}");
            message.attachments.push(attachment(&url, None, place)?);
            return Ok(());
        }
        // What the model thought is no part of what it said.
        Some("reasoning" | "thinking" | "refusal") => return Ok(()),
        _ => {
            if let Some(text) = lenient::part_text(part) {
                message.text.push_str(text);
            }
            return Ok(());
        }
    };
    let Some(source) = source else {
        return Err(unreadable(place, "names no image"));
    };
    message.attachments.push(attachment(source, None, place)?);
    Ok(())
}

/// A URL, a data URL, or bare base64 as some clients send files.
fn attachment(source: &str, name: Option<String>, place: &str) -> Result<Attachment, Unreadable> {
    if source.starts_with("http://") || source.starts_with("https://") {
        return Ok(Attachment::Url(source.to_owned()));
    }
    let (head, coded) = match source.strip_prefix("data:") {
        Some(rest) => rest
            .split_once(',')
            .ok_or_else(|| unreadable(place, "is no data URL"))?,
        None => (";base64", source),
    };
    let mut head = head.split(';');
    let media_type = head
        .next()
        .filter(|kind| !kind.is_empty())
        .unwrap_or("application/octet-stream");
    let data = if head.any(|option| option.trim().eq_ignore_ascii_case("base64")) {
        let coded: String = coded.chars().filter(|c| !c.is_ascii_whitespace()).collect();
        STANDARD
            .decode(&coded)
            .or_else(|_| STANDARD_NO_PAD.decode(&coded))
            .map_err(|_| unreadable(place, "is neither a URL nor valid base64"))?
    } else {
        percent_decoded(coded)
    };
    if data.is_empty() {
        return Err(unreadable(place, "is an empty attachment"));
    }
    Ok(Attachment::Inline {
        media_type: media_type.to_ascii_lowercase(),
        data,
        name,
    })
}

/// The other form of data URLs (RFC 2397); a `%` that begins no pair of digits stands for itself.
fn percent_decoded(text: &str) -> Vec<u8> {
    let mut data = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let pair = after.get(..2).filter(|_| *first == b'%');
        let byte = pair
            .and_then(|pair| std::str::from_utf8(pair).ok())
            .filter(|pair| pair.bytes().all(|digit| digit.is_ascii_hexdigit()))
            .and_then(|pair| u8::from_str_radix(pair, 16).ok());
        data.push(byte.unwrap_or(*first));
        rest = match byte {
            Some(_) => after.get(2..).unwrap_or_default(),
            None => after,
        };
    }
    data
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn taken(value: &Value) -> ChatBody {
        body(value.to_string().as_bytes()).expect("readable")
    }

    #[test]
    fn every_form_of_content_is_taken() {
        let taken = taken(&json!({"model": "m", "messages": [
            {"role": "developer", "content": "be kind"},
            {"role": "user", "content": [{"type": "text", "text": "look "}, {"type": "input_text", "text": "here"},
                {"type": "image_url", "image_url": {"url": "data:image/PNG;base64,aGk="}},
                {"type": "image_url", "image_url": "https://h/a.png"},
                {"type": "file", "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,aGk"}}]},
            {"role": "assistant", "content": null, "tool_calls": [
                {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{\"a\":1}"}},
                {"id": "c2", "type": "function", "function": {"name": "g", "arguments": {"b": 2}}}]},
            {"role": "tool", "tool_call_id": "c1", "content": [{"type": "text", "text": "done"}]},
            {"role": "assistant", "function_call": {"name": "old", "arguments": "{}"}},
            {"role": "function", "name": "old", "content": "ok"},
        ]}));
        let messages = &taken.messages;
        assert_eq!(
            (messages[0].role, messages[0].text.as_str()),
            (Role::System, "be kind")
        );
        assert_eq!(messages[1].text, "look here");
        let inline = |media_type: &str, name: Option<&str>| Attachment::Inline {
            media_type: media_type.into(),
            data: b"hi".to_vec(),
            name: name.map(str::to_owned),
        };
        assert_eq!(
            messages[1].attachments,
            [
                inline("image/png", None),
                Attachment::Url("https://h/a.png".into()),
                inline("application/pdf", Some("a.pdf"))
            ]
        );
        let calls: Vec<_> = messages[2]
            .calls
            .iter()
            .map(|call| {
                (
                    call.id.as_deref(),
                    call.name.as_str(),
                    call.arguments.as_str(),
                )
            })
            .collect();
        assert_eq!(
            calls,
            [
                (Some("c1"), "f", "{\"a\":1}"),
                (Some("c2"), "g", "{\"b\":2}")
            ]
        );
        assert_eq!(
            (messages[3].role, messages[3].call_id.as_deref()),
            (Role::Tool, Some("c1"))
        );
        assert_eq!(messages[4].calls[0].name, "old");
        assert_eq!(messages[5].role, Role::Tool);
        // The last shows the same bytes as the first.
        assert_eq!(attachments(messages).len(), 2);
    }

    #[test]
    fn files_come_in_many_ways() {
        let hi = |media_type: &str, name: Option<&str>| {
            Some(Attachment::Inline {
                media_type: media_type.into(),
                data: b"hi".to_vec(),
                name: name.map(str::to_owned),
            })
        };
        for (part, expected) in [
            (
                json!({"type": "input_image", "image_url": "data:image/png;name=a;base64,aG\nk="}),
                hi("image/png", None),
            ),
            (
                json!({"type": "input_audio", "input_audio": {"data": "aGk=", "format": "mp3"}}),
                hi("audio/mp3", None),
            ),
            (
                json!({"type": "file", "file": {"filename": "a", "file_data": "aGk="}}),
                hi("application/octet-stream", Some("a")),
            ),
            (
                json!({"type": "input_file", "file_url": "https://h/a"}),
                Some(Attachment::Url("https://h/a".into())),
            ),
            (
                json!({"type": "file", "file": {"file_data": "data:text/plain,%68i"}}),
                hi("text/plain", None),
            ),
            (json!({"type": "refusal", "refusal": "no"}), None),
            (json!({"type": "reasoning", "text": "hm"}), None),
            (json!({"type": "odd"}), None),
            (json!(7), None),
        ] {
            let taken = taken(&json!({"messages": [{"role": "user", "content": [part]}]}));
            let message = &taken.messages[0];
            assert_eq!(message.attachments.first(), expected.as_ref(), "{part}");
            assert_eq!(message.text, "", "{part}");
        }
        assert_eq!(percent_decoded("%2B%%41%4%+1"), b"+%A%4%+1");
    }

    #[test]
    fn the_older_names_are_taken() {
        let older = taken(&json!({"functions": [{"name": "f"}], "function_call": "auto"}));
        assert_eq!(older.tools, Some(json!([{"name": "f"}])));
        assert_eq!(older.tool_choice, Some(json!("auto")));
        assert!(older.parallel_tool_calls);
        let both = taken(&json!({"tools": [], "functions": [1], "tool_choice": null}));
        assert_eq!((both.tools, both.tool_choice), (Some(json!([])), None));
        let twice = taken(&json!({"messages": [{"role": "assistant", "name": "",
            "tool_calls": [{"id": "c", "function": {"name": "f"}}], "function_call": {"name": "f"}}]}));
        let message = &twice.messages[0];
        assert_eq!((message.calls.len(), message.name.as_deref()), (1, None));
        assert_eq!(message.calls[0].arguments, "");
    }

    #[test]
    fn thinking_and_searching_can_be_wished_for_in_many_ways() {
        for (wish, enable, budget, effort) in [
            (json!({"enable_thinking": true}), Some(true), None, None),
            (
                json!({"extra_body": {"enable_thinking": false}}),
                Some(false),
                None,
                None,
            ),
            (
                json!({"chat_template_kwargs": {"enable_thinking": true}}),
                Some(true),
                None,
                None,
            ),
            (
                json!({"thinking": {"type": "enabled", "budget_tokens": 9}}),
                Some(true),
                Some(9),
                None,
            ),
            (
                json!({"thinking": {"type": "disabled"}}),
                Some(false),
                None,
                None,
            ),
            (json!({"thinking_budget": "12"}), None, Some(12), None),
            (json!({"reasoning_effort": "low"}), None, None, Some("low")),
            (
                json!({"reasoning": {"effort": "high"}}),
                None,
                None,
                Some("high"),
            ),
            (json!({}), None, None, None),
        ] {
            let expected = Wanted {
                enable,
                budget,
                effort: effort.map(str::to_owned),
            };
            assert_eq!(taken(&wish).thinking, expected, "{wish}");
        }
        assert!(taken(&json!({"web_search_options": {}})).web_search);
        assert!(taken(&json!({"enable_search": true})).web_search);
        assert!(!taken(&json!({"web_search_options": null})).web_search);
        assert!(!taken(&json!({"parallel_tool_calls": false})).parallel_tool_calls);
        let sampling = json!({"stop": ["a"], "temperature": 0, "seed": null});
        assert_eq!(taken(&sampling).ignored, ["temperature", "stop"]);
    }

    #[test]
    fn what_cannot_be_taken_is_named() {
        let bad = |part: Value| {
            let request = json!({"messages": [{"role": "user", "content": [part]}]});
            body(request.to_string().as_bytes())
                .expect_err("unreadable")
                .to_string()
        };
        assert_eq!(
            bad(json!({"type": "image_url", "image_url": {"url": "data:image/png;base64,%%"}})),
            "`messages[0].content[0]` is neither a URL nor valid base64"
        );
        assert_eq!(
            bad(json!({"type": "image_url"})),
            "`messages[0].content[0]` names no image"
        );
        assert_eq!(
            bad(json!({"type": "file", "file": {"file_id": "f"}})),
            "`messages[0].content[0]` must bring its file as `file_data`"
        );
        assert_eq!(
            bad(json!({"type": "input_audio", "input_audio": {"format": "wav"}})),
            "`messages[0].content[0]` is an empty attachment"
        );
        for message in [
            json!("hi"),
            json!({"role": "bot"}),
            json!({"content": "hi"}),
        ] {
            let request = json!({"messages": [{"role": "user"}, message]}).to_string();
            let error = body(request.as_bytes())
                .expect_err("unreadable")
                .to_string();
            assert!(
                error.starts_with("`messages[1].role` must be one of"),
                "{error}"
            );
        }
    }

    /// JSON of the keys and words that mean something.
    fn anything() -> impl Strategy<Value = Value> {
        let words = "role|user|assistant|tool|content|type|text|image_url|url|file|file_data|input_audio|data|format|\
                     tool_calls|function|name|arguments|id|messages|thinking|budget_tokens|reasoning|extra_body|\
                     data:a;base64,aGk|data:,%|https://h";
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            words.prop_map(Value::from),
        ];
        leaf.prop_recursive(6, 64, 6, move |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
                prop::collection::vec((words, inner), 0..6)
                    .prop_map(|members| Value::Object(members.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn no_json_makes_it_panic(whole in anything(), messages in anything(), part in anything(), role in "user|assistant|tool") {
            let _ = body(whole.to_string().as_bytes());
            for messages in [messages, json!([{"role": role, "content": [part.clone()], "tool_calls": [part]}])] {
                let mut whole = whole.clone();
                if let Some(whole) = whole.as_object_mut() {
                    whole.insert("messages".into(), messages);
                }
                if let Ok(taken) = body(whole.to_string().as_bytes()) {
                    let _ = attachments(&taken.messages);
                }
            }
        }

        #[test]
        fn nothing_makes_it_panic(text in "\\PC*") {
            let _ = body(text.as_bytes());
            let part = json!({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": text}]}]});
            let _ = body(part.to_string().as_bytes());
        }
    }
}
