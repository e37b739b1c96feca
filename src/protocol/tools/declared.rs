//! The tools a client declared, and its wish whether they be used.

use std::collections::HashMap;

use serde_json::{Value, json};

/// One declared function.
#[derive(Clone, Debug)]
pub(crate) struct Tool {
    /// Its name, as the client will get it back.
    pub(crate) name: String,
    /// What it does, possibly empty.
    pub(crate) description: String,
    /// The JSON Schema of its arguments; `null` when none was given.
    pub(crate) parameters: Value,
}

/// The declared functions in the client's order.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tools {
    list: Vec<Tool>,
    by_name: HashMap<String, usize>,
}

impl Tools {
    /// Reads `tools` of a chat request, or the older `functions`; entries that are no functions are passed over.
    pub(crate) fn read(tools: Option<&Value>) -> Self {
        let mut read = Self::default();
        for entry in tools.and_then(Value::as_array).into_iter().flatten() {
            let Some(tool) = tool(entry) else { continue };
            if !read.by_name.contains_key(&tool.name) {
                read.by_name.insert(tool.name.clone(), read.list.len());
                read.list.push(tool);
            }
        }
        read
    }

    /// Whether nothing was declared.
    pub(crate) fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// The tools in order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Tool> {
        self.list.iter()
    }

    /// The names in order.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.list.iter().map(|tool| tool.name.as_str())
    }

    /// The tool of exactly this name.
    pub(crate) fn find(&self, name: &str) -> Option<&Tool> {
        self.by_name
            .get(name)
            .and_then(|&index| self.list.get(index))
    }

    /// The tool that was most likely meant: the same name but for case and punctuation, with or without a prefix such
    /// as `functions.`, or with a typing error in a long name. Two that fit equally well are none.
    pub(crate) fn closest(&self, name: &str) -> Option<&Tool> {
        let name = name.trim();
        if name.is_empty() || name.len() > 128 {
            return None;
        }
        let last = name
            .rsplit(['.', ':', '/'])
            .find(|part| !part.chars().all(|c| c.is_ascii_digit()));
        let wanted = plain(name);
        let short = plain(last.unwrap_or(name));
        self.find(name)
            .or_else(|| self.find(last?))
            .or_else(|| self.only(|tool| tool.name.eq_ignore_ascii_case(name)))
            .or_else(|| self.only(|tool| plain(&tool.name) == wanted))
            .or_else(|| self.only(|tool| plain(&tool.name) == short))
            .or_else(|| {
                self.only(|tool| {
                    tool.name
                        .rsplit_once("__")
                        .is_some_and(|(_, tail)| plain(tail) == short)
                })
            })
            .or_else(|| self.nearest(&short))
    }

    /// A stable text of what was declared, whatever its order, for hashing.
    pub(crate) fn fingerprint_text(&self) -> String {
        let mut sorted: Vec<&Tool> = self.list.iter().collect();
        sorted.sort_by(|a, b| a.name.cmp(&b.name));
        let all: Vec<Value> = sorted
            .into_iter()
            .map(|tool| json!({"name": tool.name, "description": tool.description, "parameters": tool.parameters}))
            .collect();
        let mut all = Value::Array(all);
        all.sort_all_objects();
        all.to_string()
    }

    fn only(&self, fits: impl Fn(&Tool) -> bool) -> Option<&Tool> {
        let mut fitting = self.list.iter().filter(|tool| fits(tool));
        fitting.next().filter(|_| fitting.next().is_none())
    }

    /// Short names differ by a letter and mean different things (`read`, `head`), so they are never guessed.
    fn nearest(&self, wanted: &str) -> Option<&Tool> {
        let allowed = match wanted.chars().count() {
            0..5 => return None,
            5..9 => 1,
            _ => 2,
        };
        let distance = |tool: &Tool| strsim::osa_distance(&plain(&tool.name), wanted);
        let least = self
            .list
            .iter()
            .map(distance)
            .min()
            .filter(|&least| least <= allowed)?;
        self.only(|tool| distance(tool) == least)
    }
}

/// The client's `tool_choice`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Choice {
    /// The model decides.
    Auto,
    /// No tool may be called.
    None,
    /// Some tool must be called.
    Required,
    /// This tool must be called.
    Named(String),
}

impl Choice {
    /// Reads `tool_choice` or the older `function_call`; what is not understood is `Auto`.
    pub(crate) fn read(value: Option<&Value>) -> Self {
        let Some(value) = value else {
            return Self::Auto;
        };
        if let Some(word) = value.as_str() {
            return Self::word(word);
        }
        let name = value
            .pointer("/function/name")
            .or_else(|| value.get("name"))
            .and_then(Value::as_str);
        if let Some(name) = name {
            return Self::Named(name.to_owned());
        }
        let word = value
            .get("mode")
            .or_else(|| value.get("type"))
            .and_then(Value::as_str);
        word.map_or(Self::Auto, Self::word)
    }

    fn word(word: &str) -> Self {
        match word {
            "none" => Self::None,
            "required" | "any" => Self::Required,
            _ => Self::Auto,
        }
    }
}

fn tool(entry: &Value) -> Option<Tool> {
    let function = entry
        .get("function")
        .filter(|inner| inner.is_object())
        .unwrap_or(entry);
    let name = function.get("name")?.as_str()?.trim();
    if name.is_empty() {
        return None;
    }
    // A hosted tool such as `{"type":"web_search_preview"}` has a type of its own and cannot be offered.
    if entry
        .get("type")
        .and_then(Value::as_str)
        .is_some_and(|kind| !matches!(kind, "function" | "custom"))
    {
        return None;
    }
    let schema = function
        .get("parameters")
        .or_else(|| function.get("input_schema"));
    Some(Tool {
        name: name.to_owned(),
        description: function
            .get("description")
            .and_then(Value::as_str)
            .unwrap_or_default()
            .trim()
            .to_owned(),
        parameters: schema.cloned().unwrap_or(Value::Null),
    })
}

fn plain(name: &str) -> String {
    name.chars()
        .filter(|c| c.is_alphanumeric())
        .flat_map(char::to_lowercase)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tools(names: &[&str]) -> Tools {
        let list: Vec<Value> = names
            .iter()
            .map(|name| json!({"type": "function", "function": {"name": name}}))
            .collect();
        Tools::read(Some(&Value::Array(list)))
    }

    fn closest<'a>(tools: &'a Tools, name: &str) -> Option<&'a str> {
        tools.closest(name).map(|tool| tool.name.as_str())
    }

    #[test]
    fn reads_every_form_of_declaration_once() {
        let read = Tools::read(Some(&json!([
            {"type": "function", "function": {"name": "a", "parameters": {"type": "object"}}},
            {"name": "b", "description": " does b "},
            {"type": "function", "name": "c"},
            {"name": "d", "input_schema": {"type": "object"}},
            {"type": "web_search", "name": "w"}, {"type": "function"}, 7, {"name": "a"}
        ])));
        assert_eq!(read.names().collect::<Vec<_>>(), ["a", "b", "c", "d"]);
        assert_eq!(read.find("b").unwrap().description, "does b");
        assert!(Tools::read(None).is_empty());
        assert!(Tools::read(Some(&json!([]))).is_empty());
    }

    #[test]
    fn finds_the_tool_that_was_meant() {
        let tools = tools(&[
            "read",
            "Bash",
            "write_file",
            "mcp__files__list_directory",
            "edit_a",
            "edit_b",
        ]);
        assert_eq!(closest(&tools, "READ"), Some("read"));
        assert_eq!(closest(&tools, "functions.read"), Some("read"));
        assert_eq!(closest(&tools, "functions.bash:0"), Some("Bash"));
        assert_eq!(closest(&tools, "WriteFile"), Some("write_file"));
        assert_eq!(closest(&tools, "write_fiel"), Some("write_file"));
        assert_eq!(
            closest(&tools, "list_directory"),
            Some("mcp__files__list_directory")
        );
        assert_eq!(closest(&tools, "head"), None);
        assert_eq!(closest(&tools, "edit_c"), None);
        assert_eq!(closest(&tools, ""), None);
        assert_eq!(closest(&tools, "::"), None);
    }

    #[test]
    fn fingerprints_do_not_depend_on_order() {
        assert_eq!(
            tools(&["a", "b"]).fingerprint_text(),
            tools(&["b", "a"]).fingerprint_text()
        );
        assert_ne!(
            tools(&["a"]).fingerprint_text(),
            tools(&["b"]).fingerprint_text()
        );
    }

    #[test]
    fn reads_choices() {
        assert_eq!(Choice::read(None), Choice::Auto);
        assert_eq!(Choice::read(Some(&json!("none"))), Choice::None);
        assert_eq!(Choice::read(Some(&json!("required"))), Choice::Required);
        assert_eq!(
            Choice::read(Some(&json!({"type": "any"}))),
            Choice::Required
        );
        assert_eq!(
            Choice::read(Some(
                &json!({"type": "function", "function": {"name": "a"}})
            )),
            Choice::Named("a".into())
        );
        assert_eq!(
            Choice::read(Some(&json!({"type": "tool", "name": "a"}))),
            Choice::Named("a".into())
        );
        assert_eq!(
            Choice::read(Some(&json!({"type": "allowed_tools", "mode": "required"}))),
            Choice::Required
        );
        assert_eq!(Choice::read(Some(&json!(3))), Choice::Auto);
    }
}
