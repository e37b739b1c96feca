//! The fields of a management body: read one by one, all faults told at once.

use serde_json::{Map, Value};

use crate::db::patch::Patch;
use crate::http::error::ApiError;

/// A body that is being read.
pub(crate) struct Fields<'a> {
    body: &'a Map<String, Value>,
    faults: Vec<String>,
}

impl<'a> Fields<'a> {
    pub(crate) fn of(body: &'a Map<String, Value>) -> Self {
        Self {
            body,
            faults: Vec::new(),
        }
    }

    /// Adds a fault of its own kind.
    pub(crate) fn fault(&mut self, message: impl Into<String>) {
        self.faults.push(message.into());
    }

    /// Fails when any field was at fault.
    pub(crate) fn end(self) -> Result<(), ApiError> {
        if self.faults.is_empty() {
            Ok(())
        } else {
            Err(ApiError::Validation(self.faults))
        }
    }

    /// A text that must be there and say something, in at most `longest` bytes.
    pub(crate) fn required(&mut self, key: &str, longest: usize) -> Option<String> {
        if self.body.get(key).is_none_or(Value::is_null) {
            self.fault(format!("`{key}` is required"));
            return None;
        }
        self.optional(key, longest)
    }

    /// A text that must say something where it is there.
    pub(crate) fn optional(&mut self, key: &str, longest: usize) -> Option<String> {
        match self.body.get(key)? {
            Value::Null => None,
            Value::String(text) if text.trim().is_empty() => {
                self.fault(format!("`{key}` must be a non-empty string"));
                None
            }
            Value::String(text) if text.len() > longest || text.contains('\0') => {
                self.fault(format!(
                    "`{key}` must be at most {longest} bytes, without zero bytes"
                ));
                None
            }
            Value::String(text) => Some(text.clone()),
            _ => {
                self.fault(format!("`{key}` must be a non-empty string"));
                None
            }
        }
    }

    /// Any text.
    pub(crate) fn text(&mut self, key: &str) -> Option<String> {
        let is_text = |value: &Value| {
            let text = value.as_str().filter(|text| !text.contains('\0'));
            text.map(str::to_owned)
        };
        self.typed(key, "a string", is_text)
    }

    /// A text, or null to have none.
    pub(crate) fn nullable(&mut self, key: &str) -> Patch {
        match self.body.get(key) {
            None => Patch::Keep,
            Some(Value::Null) => Patch::Put(None),
            Some(_) => self
                .text(key)
                .map_or(Patch::Keep, |text| Patch::Put(Some(text))),
        }
    }

    pub(crate) fn boolean(&mut self, key: &str) -> Option<bool> {
        self.typed(key, "true or false", Value::as_bool)
    }

    pub(crate) fn integer(&mut self, key: &str) -> Option<i64> {
        self.typed(key, "an integer", Value::as_i64)
    }

    pub(crate) fn object(&mut self, key: &str) -> Option<Map<String, Value>> {
        self.typed(key, "an object", |value| value.as_object().cloned())
    }

    /// A list of texts that say something.
    pub(crate) fn texts(&mut self, key: &str) -> Option<Vec<String>> {
        self.typed(key, "an array of non-empty strings", |value| {
            value
                .as_array()?
                .iter()
                .map(|item| {
                    item.as_str()
                        .filter(|text| !text.is_empty() && !text.contains('\0'))
                        .map(str::to_owned)
                })
                .collect()
        })
    }

    /// `null` counts as absent.
    fn typed<T>(
        &mut self,
        key: &str,
        wanted: &str,
        read: impl Fn(&Value) -> Option<T>,
    ) -> Option<T> {
        let value = self.body.get(key).filter(|value| !value.is_null())?;
        let read = read(value);
        if read.is_none() {
            self.fault(format!("`{key}` must be {wanted}"));
        }
        read
    }
}
