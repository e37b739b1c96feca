//! The conditions of a list: added one by one, bound and never pasted.

use rusqlite::ToSql;

/// A `WHERE` that grows. Conditions come from the program's own text, values from anywhere.
#[derive(Default)]
pub(super) struct Filter {
    conditions: Vec<&'static str>,
    values: Vec<Box<dyn ToSql>>,
}

impl Filter {
    /// Adds `condition`, whose only `?` is `value`; nothing when there is no value.
    pub(super) fn and<T: ToSql + 'static>(&mut self, condition: &'static str, value: Option<T>) {
        if let Some(value) = value {
            self.conditions.push(condition);
            self.values.push(Box::new(value));
        }
    }

    /// Adds a condition without a value.
    pub(super) fn only(&mut self, condition: &'static str) {
        self.conditions.push(condition);
    }

    /// Adds a condition with two `?`.
    pub(super) fn and_two<T: ToSql + 'static, U: ToSql + 'static>(
        &mut self,
        condition: &'static str,
        values: Option<(T, U)>,
    ) {
        if let Some((first, second)) = values {
            self.conditions.push(condition);
            self.values.push(Box::new(first));
            self.values.push(Box::new(second));
        }
    }

    /// ` WHERE ...`, or nothing.
    pub(super) fn clause(&self) -> String {
        if self.conditions.is_empty() {
            String::new()
        } else {
            format!(" WHERE {}", self.conditions.join(" AND "))
        }
    }

    /// What the `?` stand for, in order.
    pub(super) fn values(&self) -> Vec<&dyn ToSql> {
        self.values.iter().map(AsRef::as_ref).collect()
    }
}

/// Which part of a list is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Slice {
    pub(crate) limit: i64,
    pub(crate) offset: i64,
    /// Only what comes after this row: its time (Unix ms) and its id.
    pub(crate) after: Option<(i64, i64)>,
}
