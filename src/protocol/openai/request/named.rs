//! Requests that are passed on as they are: which model they name, and how it is named anew.
//!
//! Either JSON or a form with files (`multipart/form-data`, RFC 7578).

use std::ops::Range;

use bytes::Bytes;
use serde_json::Value;

use super::FieldError;
use super::check;
use super::members::range_in;

/// Longest head of a form's part that is looked at.
const HEAD: usize = 4 * 1024;

/// A request with its model found.
#[derive(Clone, Debug)]
pub(crate) struct Named {
    pub(crate) body: Bytes,
    pub(crate) model: Option<String>,
    /// The answer is to come as events.
    pub(crate) stream: bool,
    place: Place,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Place {
    /// Here stands the model, as a JSON value.
    Json(Range<usize>),
    /// Right behind the `{` of a body that names none.
    JsonStart(usize),
    /// Here stands the model, as it is.
    Part(Range<usize>),
    /// A form between such lines that names none.
    NoPart(String),
}

impl Named {
    /// The body with this model.
    pub(crate) fn to(&self, model: &str) -> Bytes {
        if self.model.as_deref() == Some(model) {
            return self.body.clone();
        }
        let (range, text) = match &self.place {
            Place::Json(range) => (range.clone(), Value::from(model).to_string()),
            Place::JsonStart(at) => (*at..*at, format!("\"model\":{},", Value::from(model))),
            Place::Part(range) => (range.clone(), model.to_owned()),
            Place::NoPart(boundary) => (
                0..0,
                format!(
                    "--{boundary}\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\n{model}\r\n"
                ),
            ),
        };
        let (Some(before), Some(after)) =
            (self.body.get(..range.start), self.body.get(range.end..))
        else {
            return self.body.clone();
        };
        [before, text.as_bytes(), after].concat().into()
    }
}

/// Reads a body of JSON.
pub(crate) fn json(body: Bytes) -> Result<Named, Vec<FieldError>> {
    let mut errors = Vec::new();
    let fields = check::top_level(&body).map_err(|error| vec![error])?;
    let model = fields.text("model", &mut errors);
    let stream = fields.flag("stream", "stream", &mut errors);
    if !errors.is_empty() {
        return Err(errors);
    }
    let start = body
        .iter()
        .position(|byte| *byte == b'{')
        .map_or(0, |at| at + 1);
    let place = match fields.last("model") {
        Some(value) => Place::Json(range_in(&body, value)),
        None => Place::JsonStart(start),
    };
    Ok(Named {
        body,
        model,
        stream,
        place,
    })
}

/// Reads a form. `content_type` is its header.
pub(crate) fn form(content_type: &str, body: Bytes) -> Result<Named, Vec<FieldError>> {
    let boundary = boundary(content_type).ok_or_else(|| {
        vec![FieldError::whole(
            "invalid_value",
            "the header `content-type` of a form must name its `boundary`",
        )]
    })?;
    let range = part(&body, &boundary, "model");
    let text = |range: &Range<usize>| {
        let bytes = body.get(range.clone())?;
        Some(std::str::from_utf8(bytes).ok()?.to_owned())
    };
    let stream = part(&body, &boundary, "stream").as_ref().and_then(text);
    let model = range
        .as_ref()
        .and_then(text)
        .filter(|model| !model.trim().is_empty());
    Ok(Named {
        model,
        stream: stream.as_deref() == Some("true"),
        place: range.map_or(Place::NoPart(boundary), Place::Part),
        body,
    })
}

fn boundary(content_type: &str) -> Option<String> {
    let mut parts = content_type.split(';');
    let kind = parts.next()?.trim();
    if !kind.eq_ignore_ascii_case("multipart/form-data") {
        return None;
    }
    let value = parts.find_map(|part| {
        let (name, value) = part.trim().split_once('=')?;
        name.eq_ignore_ascii_case("boundary").then_some(value)
    })?;
    let value = value.trim_matches('"');
    (!value.is_empty() && value.len() <= 70).then(|| value.to_owned())
}

/// Where the value of the part called `name` stands.
fn part(body: &[u8], boundary: &str, name: &str) -> Option<Range<usize>> {
    let line = format!("--{boundary}");
    let end = format!("\r\n--{boundary}");
    let mut at = memchr::memmem::find(body, line.as_bytes())?;
    loop {
        let head = at + line.len();
        let rest = body.get(head..)?;
        if rest.starts_with(b"--") {
            return None;
        }
        let length = memchr::memmem::find(rest.get(..rest.len().min(HEAD))?, b"\r\n\r\n")?;
        let value = head + length + 4;
        let ends = value + memchr::memmem::find(body.get(value..)?, end.as_bytes())?;
        let text = String::from_utf8_lossy(rest.get(..length)?).into_owned();
        if is_called(&text, name) {
            return Some(value..ends);
        }
        at = ends + 2;
    }
}

fn is_called(head: &str, name: &str) -> bool {
    let lines = head.split("\r\n").filter_map(|line| line.split_once(':'));
    lines
        .filter(|(key, _)| key.trim().eq_ignore_ascii_case("content-disposition"))
        .flat_map(|(_, value)| value.split(';'))
        .filter_map(|part| part.trim().split_once('='))
        .any(|(key, value)| key.eq_ignore_ascii_case("name") && value.trim_matches('"') == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_named_anew_and_else_untouched() {
        let named = json(Bytes::from_static(
            br#"{"a": 1.0,"model" :"x" , "input":["b"]}"#,
        ))
        .unwrap();
        assert_eq!(named.model.as_deref(), Some("x"));
        assert_eq!(
            named.to("p\"q"),
            br#"{"a": 1.0,"model" :"p\"q" , "input":["b"]}"#.as_slice()
        );
        assert_eq!(named.to("x"), named.body);
        let unnamed = json(Bytes::from_static(br#"{"input":"b"}"#)).unwrap();
        assert_eq!(unnamed.to("x"), br#"{"model":"x","input":"b"}"#.as_slice());
        for bad in ["", "[]", "{\"model\":7}", "{"] {
            assert!(json(Bytes::from_static(bad.as_bytes())).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_form_is_named_anew_and_else_untouched() {
        let head = "multipart/form-data; boundary=\"xx\"";
        let form_of = |model: &str| {
            format!(
                "--xx\r\nContent-Disposition: form-data; name=\"file\"; filename=\"model\"\r\n\r\n\u{0}\r\n--x\r\n{model}\r\n--xx--\r\n"
            )
        };
        let part = "\r\n--xx\r\ncontent-disposition: form-data; name=\"model\"\r\n\r\nwhisper";
        let named = form(head, form_of(part).into()).unwrap();
        assert_eq!(named.model.as_deref(), Some("whisper"));
        assert_eq!(
            named.to("w2"),
            form_of(&part.replace("whisper", "w2")).as_bytes()
        );
        let unnamed = form(head, form_of("").into()).unwrap();
        assert_eq!(unnamed.model, None);
        let again = form(head, unnamed.to("w2")).unwrap();
        assert_eq!(again.model.as_deref(), Some("w2"));
        assert!(form("multipart/form-data", Bytes::new()).is_err());
        assert!(form("application/json", Bytes::new()).is_err());
    }
}
