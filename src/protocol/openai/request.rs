//! A chat request: checked for what routing and every upstream need, and passed on as the client wrote it.

mod check;
mod members;
pub(crate) mod named;
pub(crate) mod roles;

use std::ops::Range;

use bytes::Bytes;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use self::members::{Kind, Members, is_empty_array, kind_of, members, range_in};

/// One thing that is wrong with a request, in words for the person who wrote the client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FieldError {
    /// Path of the field, such as `messages[3].role`; None when the body as a whole is meant.
    pub(crate) param: Option<String>,
    pub(crate) message: String,
    /// `missing_required_parameter`, `invalid_type`, `invalid_value`, `invalid_json`, `empty_body` or `too_deep`.
    pub(crate) code: &'static str,
}

impl FieldError {
    pub(crate) fn of(
        param: impl Into<String>,
        code: &'static str,
        message: impl Into<String>,
    ) -> Self {
        Self {
            param: Some(param.into()),
            message: message.into(),
            code,
        }
    }

    pub(crate) fn whole(code: &'static str, message: impl Into<String>) -> Self {
        Self {
            param: None,
            message: message.into(),
            code,
        }
    }
}

/// A checked request and the client's own bytes.
#[derive(Debug, Clone)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a fact of its own about the body"
)]
pub(crate) struct ChatRequest {
    /// The body as it came.
    pub(crate) body: Bytes,
    /// The model the client named, if any.
    pub(crate) model: Option<String>,
    pub(crate) stream: bool,
    /// Whether the client asked for the usage chunk of a stream.
    pub(crate) include_usage: bool,
    /// Whether there is at least one tool.
    pub(crate) has_tools: bool,
    pub(crate) message_count: usize,
    /// Whether the answer is to follow a JSON schema.
    pub(crate) has_schema: bool,
    /// Where in the body stands what a conversation keeps from turn to turn: its `prompt_cache_key`, else the first
    /// message of the user.
    kept: Option<Range<usize>>,
    places: Places,
}

/// Where in the body the values stand that may have to be replaced.
#[derive(Debug, Clone, Default)]
struct Places {
    /// Right behind the `{` of the body.
    start: usize,
    model: Option<Range<usize>>,
    stream_options: Option<Range<usize>>,
    /// Right behind the `{` of `stream_options`, when it is an object; and whether that is empty.
    options_start: Option<usize>,
    options_are_empty: bool,
    include_usage: Option<Range<usize>>,
    /// One of these keys stands there twice: which of them counts differs between servers.
    is_ambiguous: bool,
}

/// Checks a body and finds what routing needs. The error lists every problem there is.
pub(crate) fn parse(body: Bytes) -> Result<ChatRequest, Vec<FieldError>> {
    let fields = check::top_level(&body).map_err(|error| vec![error])?;
    let mut errors = Vec::new();
    let (message_count, first_of_user) = check::messages(&fields, &mut errors);
    check::options(&fields, &mut errors);
    let model = fields.text("model", &mut errors);
    let stream = fields.flag("stream", "stream", &mut errors);
    let options = match fields
        .get("stream_options")
        .filter(|options| kind_of(options) == Kind::Object)
    {
        // A key that is no text, such as half a surrogate: nothing could be put in beside it.
        Some(options) => members(options).unwrap_or_else(|error| {
            let message = format!("`stream_options` cannot be read: {error}");
            errors.push(FieldError::of("stream_options", "invalid_json", message));
            Members::default()
        }),
        None => Members::default(),
    };
    let include_usage = options.flag("include_usage", "stream_options.include_usage", &mut errors);
    if !errors.is_empty() {
        return Err(errors);
    }
    let range = |value: &RawValue| range_in(&body, value);
    let stream_options = fields
        .get("stream_options")
        .filter(|value| value.get() != "null");
    let places = Places {
        start: body
            .iter()
            .position(|byte| *byte == b'{')
            .map_or(0, |at| at + 1),
        model: fields.last("model").map(range),
        stream_options: fields.last("stream_options").map(range),
        options_start: stream_options.map(|options| range(options).start + 1),
        options_are_empty: options.0.is_empty(),
        include_usage: options.last("include_usage").map(range),
        is_ambiguous: fields.is_repeated("model")
            || fields.is_repeated("stream_options")
            || options.is_repeated("include_usage"),
    };
    let has_tools = fields
        .get("tools")
        .is_some_and(|tools| !is_empty_array(tools));
    let has_schema = fields.get("response_format").is_some_and(|format| {
        members(format).is_ok_and(|format| format.get("json_schema").is_some())
    });
    let cache_key = fields
        .get("prompt_cache_key")
        .filter(|key| kind_of(key) == Kind::String);
    let kept = cache_key.or(first_of_user).map(range);
    Ok(ChatRequest {
        body,
        model,
        stream,
        include_usage,
        has_tools,
        message_count,
        has_schema,
        kept,
        places,
    })
}

/// How many images a body holds, and about how many tokens it is: four bytes each, an image a thousand. For filters and
/// limits, never for bills. Reads the body once.
pub(crate) fn estimate(body: &str) -> (u64, u64) {
    let inline: usize = body
        .match_indices(";base64,")
        .filter_map(|(at, _)| body.get(at..)?.find('"'))
        .sum();
    // The kind of the part and its key carry the same name.
    let images = (body.matches("\"image_url\"").count() as u64).div_ceil(2);
    let tokens = body.len().saturating_sub(inline) as u64 / 4;
    (images, tokens + images * 1_000)
}

impl ChatRequest {
    /// What stays the same from turn to turn of one conversation.
    pub(crate) fn prefix(&self) -> &[u8] {
        let range = self.kept.clone();
        range
            .and_then(|range| self.body.get(range))
            .unwrap_or_default()
    }

    /// Its images and tokens, as [`estimate`] tells them.
    pub(crate) fn estimate(&self) -> (u64, u64) {
        // It was parsed, so it is text.
        estimate(std::str::from_utf8(&self.body).unwrap_or_default())
    }

    /// The body for an upstream: the client's own bytes, with `model` rewritten when one is given, and with the usage
    /// chunk of a stream asked for when `ask_usage`. Nothing else in it changes.
    pub(crate) fn upstream_body(&self, model: Option<&str>, ask_usage: bool) -> Bytes {
        let model =
            model.filter(|model| self.places.is_ambiguous || self.model.as_deref() != Some(*model));
        let ask_usage = ask_usage && self.stream && !self.include_usage;
        if model.is_none() && !ask_usage {
            return self.body.clone();
        }
        if self.places.is_ambiguous {
            return self.encode_again(model, ask_usage);
        }
        let mut edits: Vec<(Range<usize>, String)> = Vec::with_capacity(2);
        if let Some(model) = model {
            let value = Value::from(model).to_string();
            match &self.places.model {
                Some(range) => edits.push((range.clone(), value)),
                None => edits.push((
                    self.places.start..self.places.start,
                    format!("\"model\":{value},"),
                )),
            }
        }
        if ask_usage {
            edits.push(self.usage_edit());
        }
        edits.sort_by_key(|(range, _)| range.start);
        self.splice(&edits)
            .unwrap_or_else(|| self.encode_again(model, ask_usage))
    }

    fn usage_edit(&self) -> (Range<usize>, String) {
        let places = &self.places;
        match (
            &places.include_usage,
            places.options_start,
            &places.stream_options,
        ) {
            (Some(range), ..) => (range.clone(), "true".to_owned()),
            (None, Some(start), _) if places.options_are_empty => {
                (start..start, r#""include_usage":true"#.to_owned())
            }
            (None, Some(start), _) => (start..start, r#""include_usage":true,"#.to_owned()),
            (None, None, Some(null)) => (null.clone(), r#"{"include_usage":true}"#.to_owned()),
            (None, None, None) => (
                places.start..places.start,
                r#""stream_options":{"include_usage":true},"#.to_owned(),
            ),
        }
    }

    /// `edits` are in order and do not overlap.
    fn splice(&self, edits: &[(Range<usize>, String)]) -> Option<Bytes> {
        let added: usize = edits.iter().map(|(_, text)| text.len()).sum();
        let mut out = Vec::with_capacity(self.body.len() + added);
        let mut copied = 0;
        for (range, text) in edits {
            out.extend_from_slice(self.body.get(copied..range.start)?);
            out.extend_from_slice(text.as_bytes());
            copied = range.end;
        }
        out.extend_from_slice(self.body.get(copied..)?);
        Some(Bytes::from(out))
    }

    fn encode_again(&self, model: Option<&str>, ask_usage: bool) -> Bytes {
        let Ok(Value::Object(mut whole)) = serde_json::from_slice(&self.body) else {
            return self.body.clone();
        };
        if let Some(model) = model {
            whole.insert("model".to_owned(), json!(model));
        }
        if ask_usage {
            match whole.get_mut("stream_options") {
                Some(Value::Object(options)) => {
                    options.insert("include_usage".to_owned(), json!(true));
                }
                _ => {
                    whole.insert(
                        "stream_options".to_owned(),
                        json!({ "include_usage": true }),
                    );
                }
            }
        }
        Bytes::from(Value::Object(whole).to_string())
    }
}

#[cfg(test)]
mod tests;
