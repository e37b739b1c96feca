//! A JSON object one level deep: which members it has, and where their values stand.

use std::borrow::Cow;
use std::fmt;
use std::ops::Range;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::FieldError;
use super::check::wrong_type;

/// The members of a JSON object in their order, repeated keys included. Values are not looked into.
#[derive(Default)]
pub(super) struct Members<'a>(pub(super) Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'a> Members<'a> {
    /// The value that counts; None also when it is null.
    pub(super) fn get(&self, key: &str) -> Option<&'a RawValue> {
        self.last(key).filter(|value| value.get() != "null")
    }

    pub(super) fn last(&self, key: &str) -> Option<&'a RawValue> {
        self.0
            .iter()
            .rev()
            .find(|(name, _)| name == key)
            .map(|(_, value)| *value)
    }

    pub(super) fn is_repeated(&self, key: &str) -> bool {
        self.0.iter().filter(|(name, _)| name == key).count() > 1
    }

    pub(super) fn text(&self, key: &str, errors: &mut Vec<FieldError>) -> Option<String> {
        let value = self.get(key)?;
        match serde_json::from_str::<String>(value.get()) {
            Ok(text) if !text.trim().is_empty() => return Some(text),
            Ok(_) => errors.push(FieldError::of(
                key,
                "invalid_value",
                format!("`{key}` must not be empty"),
            )),
            Err(_) => errors.push(wrong_type(key, "a string", value)),
        }
        None
    }

    pub(super) fn flag(&self, key: &str, path: &str, errors: &mut Vec<FieldError>) -> bool {
        match self.get(key) {
            Some(value) if kind_of(value) == Kind::Bool => value.get() == "true",
            Some(value) => {
                errors.push(wrong_type(path, "true or false", value));
                false
            }
            None => false,
        }
    }
}

pub(super) fn members(object: &RawValue) -> Result<Members<'_>, serde_json::Error> {
    serde_json::from_str(object.get())
}

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(MembersVisitor)
    }
}

struct MembersVisitor;

impl<'de> Visitor<'de> for MembersVisitor {
    type Value = Members<'de>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members<'de>, A::Error> {
        let mut members = Vec::new();
        while let Some((Key(key), value)) = map.next_entry()? {
            members.push((key, value));
        }
        Ok(Members(members))
    }
}

#[derive(serde::Deserialize)]
struct Key<'a>(#[serde(borrow)] Cow<'a, str>);

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Null,
    Bool,
    Number,
    String,
    Array,
    Object,
}

impl Kind {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool => "a boolean",
            Self::Number => "a number",
            Self::String => "a string",
            Self::Array => "an array",
            Self::Object => "an object",
        }
    }
}

/// The first byte tells: the text is known to be one JSON value without space around it.
pub(super) fn kind_of(value: &RawValue) -> Kind {
    match value.get().as_bytes().first() {
        Some(b'n') => Kind::Null,
        Some(b't' | b'f') => Kind::Bool,
        Some(b'"') => Kind::String,
        Some(b'[') => Kind::Array,
        Some(b'{') => Kind::Object,
        _ => Kind::Number,
    }
}

pub(super) fn is_empty_array(value: &RawValue) -> bool {
    value
        .get()
        .get(1..)
        .is_some_and(|rest| rest.trim_start().starts_with(']'))
}

/// Where `value`, which was borrowed from `body`, stands in it.
pub(super) fn range_in(body: &[u8], value: &RawValue) -> Range<usize> {
    let start = value
        .get()
        .as_ptr()
        .addr()
        .saturating_sub(body.as_ptr().addr());
    start..start + value.get().len()
}
