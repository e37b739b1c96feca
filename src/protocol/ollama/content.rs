//! The messages of a conversation.
//!
//! Ollama's calls need no ids: an answer is matched to its call by name or by order. A chat request needs them, so calls
//! without one are numbered, which is the same in every turn.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// A message as Ollama's clients write it.
#[derive(Deserialize)]
pub(super) struct Message<'a> {
    role: String,
    #[serde(default)]
    content: Option<String>,
    #[serde(default)]
    thinking: Option<String>,
    #[serde(default)]
    images: Option<Vec<String>>,
    #[serde(borrow, default)]
    tool_calls: Option<Vec<Call<'a>>>,
    #[serde(default, alias = "name")]
    tool_name: Option<String>,
    #[serde(default)]
    tool_call_id: Option<String>,
}

#[derive(Deserialize)]
struct Call<'a> {
    #[serde(default)]
    id: Option<String>,
    #[serde(borrow)]
    function: Function<'a>,
}

#[derive(Deserialize)]
struct Function<'a> {
    name: String,
    #[serde(borrow, default)]
    arguments: Option<&'a RawValue>,
}

/// A message of a chat request.
#[derive(Serialize)]
pub(super) struct ChatMessage<'a> {
    role: String,
    content: Content,
    #[serde(skip_serializing_if = "Option::is_none")]
    reasoning_content: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tool_calls: Vec<ChatCall<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_call_id: Option<String>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Content {
    Text(String),
    Parts(Vec<Part>),
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Part {
    Text { text: String },
    ImageUrl { image_url: Url },
}

#[derive(Serialize)]
struct Url {
    url: String,
}

#[derive(Serialize)]
struct ChatCall<'a> {
    id: String,
    r#type: &'static str,
    function: ChatFunction<'a>,
}

#[derive(Serialize)]
struct ChatFunction<'a> {
    name: String,
    arguments: Cow<'a, str>,
}

/// What images begin with in base64, and what they are then. What begins otherwise is called PNG: upstreams look.
const IMAGES: [(&str, &str); 5] = [
    ("/9j/", "jpeg"),
    ("iVBORw0KGgo", "png"),
    ("R0lGOD", "gif"),
    ("UklGR", "webp"),
    ("Qk", "bmp"),
];

/// The messages of a chat request. The result of a call that is not there (clients cut long conversations) is something
/// that the user says: upstreams refuse a result without its call.
pub(super) fn messages(messages: Vec<Message<'_>>) -> Vec<ChatMessage<'_>> {
    let mut numbered = 0;
    // Calls that have no answer yet: id and name.
    let mut open: Vec<(String, String)> = Vec::new();
    let mut told = Vec::with_capacity(messages.len());
    for mut message in messages {
        let is_result = message.role == "tool";
        let tool_call_id = is_result.then(|| answered(&message, &mut open)).flatten();
        if is_result && tool_call_id.is_none() {
            "user".clone_into(&mut message.role);
        }
        let mut tool_calls = Vec::new();
        for call in message.tool_calls.into_iter().flatten() {
            let id = call.id.filter(|id| !id.is_empty()).unwrap_or_else(|| {
                let id = format!("call_{numbered}");
                numbered += 1;
                id
            });
            open.push((id.clone(), call.function.name.clone()));
            tool_calls.push(ChatCall {
                id,
                r#type: "function",
                function: ChatFunction {
                    name: call.function.name,
                    arguments: arguments(call.function.arguments),
                },
            });
        }
        told.push(ChatMessage {
            role: message.role,
            content: content(
                message.content.unwrap_or_default(),
                &message.images.unwrap_or_default(),
            ),
            reasoning_content: message.thinking.filter(|text| !text.is_empty()),
            tool_calls,
            tool_call_id,
        });
    }
    told
}

/// A prompt as a chat.
pub(super) fn prompt<'a>(
    system: Option<String>,
    prompt: String,
    images: &[String],
) -> Vec<ChatMessage<'a>> {
    let message = |role: &str, content| ChatMessage {
        role: role.to_owned(),
        content,
        reasoning_content: None,
        tool_calls: Vec::new(),
        tool_call_id: None,
    };
    let system = system.map(|text| message("system", Content::Text(text)));
    let user = message("user", content(prompt, images));
    system.into_iter().chain([user]).collect()
}

/// The id of the call that this is the result of.
fn answered(message: &Message<'_>, open: &mut Vec<(String, String)>) -> Option<String> {
    let given = message.tool_call_id.as_deref().filter(|id| !id.is_empty());
    let name = message.tool_name.as_deref();
    let place = open
        .iter()
        .position(|(id, _)| Some(id.as_str()) == given)
        .or_else(|| {
            open.iter()
                .position(|(_, called)| Some(called.as_str()) == name)
        })
        .or(if open.is_empty() { None } else { Some(0) })?;
    Some(open.remove(place).0)
}

/// An object as the text a chat request wants. Some clients write that text already.
fn arguments(arguments: Option<&RawValue>) -> Cow<'_, str> {
    match arguments.map(RawValue::get) {
        None | Some("null") => Cow::Borrowed("{}"),
        Some(text) if text.starts_with('"') => {
            serde_json::from_str::<String>(text).map_or(Cow::Borrowed("{}"), Cow::Owned)
        }
        Some(object) => Cow::Borrowed(object),
    }
}

fn content(text: String, images: &[String]) -> Content {
    if images.is_empty() {
        return Content::Text(text);
    }
    let said = (!text.is_empty()).then_some(Part::Text { text });
    let seen = images.iter().map(|image| Part::ImageUrl {
        image_url: Url {
            url: data_url(image),
        },
    });
    Content::Parts(said.into_iter().chain(seen).collect())
}

fn data_url(image: &str) -> String {
    if image.starts_with("data:") {
        return image.to_owned();
    }
    let kind = IMAGES
        .iter()
        .find(|(start, _)| image.starts_with(start))
        .map_or("png", |(_, kind)| kind);
    format!("data:image/{kind};base64,{image}")
}
