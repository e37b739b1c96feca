//! The tools of a request as functions of a chat request.
//!
//! Schemas keep their own bytes: the order of their members is what models follow when they write.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::fault;
use super::names::{Called, Names};
use crate::protocol::openai::request::FieldError;

/// A tool as clients write it, with the members of the kinds that become functions.
#[derive(Deserialize)]
struct Wire<'a> {
    #[serde(rename = "type")]
    kind: Option<String>,
    name: Option<String>,
    description: Option<String>,
    #[serde(borrow)]
    parameters: Option<&'a RawValue>,
    strict: Option<bool>,
    /// Of a namespace.
    #[serde(borrow)]
    tools: Option<Vec<&'a RawValue>>,
    /// Of a custom tool: what its text must look like.
    format: Option<Value>,
}

#[derive(Serialize)]
struct Function<'a> {
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<&'a str>,
    parameters: &'a RawValue,
    /// Some servers refuse the member, so it is written only where it asks for something.
    #[serde(skip_serializing_if = "Option::is_none")]
    strict: Option<bool>,
}

/// What is offered to the chat.
#[derive(Default)]
pub(super) struct Tools {
    functions: Vec<(String, Box<RawValue>)>,
    pub(super) names: Names,
}

impl Tools {
    /// Reads `tools`. What only `OpenAI`'s own servers can run is left out: a request never fails for it.
    pub(super) fn read(tools: Option<&RawValue>, faults: &mut Vec<FieldError>) -> Self {
        let list: Vec<&RawValue> = match tools.map(|tools| serde_json::from_str(tools.get())) {
            Some(Ok(Some(list))) => list,
            None | Some(Ok(None)) => return Self::default(),
            Some(Err(_)) => {
                faults.push(fault("tools", "invalid_type", "`tools` must be an array"));
                return Self::default();
            }
        };
        let mut wires = Vec::with_capacity(list.len());
        for (at, tool) in list.into_iter().enumerate() {
            let place = format!("tools[{at}]");
            if let Some(wire) = read_one(tool, &place, faults) {
                wires.push((place, wire));
            }
        }
        let mut read = Self::default();
        // Plain functions come first, so that they keep their names.
        let mut taken: BTreeSet<String> = wires
            .iter()
            .filter(|(_, wire)| wire.kind.as_deref() == Some("function"))
            .filter_map(|(_, wire)| wire.name.clone())
            .collect();
        for (place, wire) in wires {
            match wire.kind.as_deref() {
                Some("function") => {
                    let name = wire.name.clone().unwrap_or_default();
                    read.functions
                        .extend(as_function(&name, &wire).map(|raw| (name, raw)));
                }
                Some("custom") => read.add(None, &wire, &mut taken),
                Some("namespace") => {
                    let inner = wire.tools.clone().unwrap_or_default();
                    for (at, tool) in inner.into_iter().enumerate() {
                        let place = format!("{place}.tools[{at}]");
                        if let Some(inner) = read_one(tool, &place, faults) {
                            read.add(wire.name.clone(), &inner, &mut taken);
                        }
                    }
                }
                _ => {}
            }
        }
        read
    }

    fn add(&mut self, namespace: Option<String>, wire: &Wire<'_>, taken: &mut BTreeSet<String>) {
        let is_custom = match wire.kind.as_deref() {
            Some("function") => false,
            Some("custom") => true,
            _ => return,
        };
        let called = Called {
            name: wire.name.clone().unwrap_or_default(),
            namespace,
            is_custom,
        };
        let name = self.names.add(called, taken);
        let function = if is_custom {
            as_text_function(&name, wire)
        } else {
            as_function(&name, wire)
        };
        self.functions.extend(function.map(|raw| (name, raw)));
    }

    /// `tool_choice` of the chat request; none where there is nothing to choose. May take tools away.
    pub(super) fn choose(&mut self, choice: Option<&Value>) -> Option<Value> {
        let choice = choice?;
        if let Some(word) = choice.as_str() {
            return self.offers().then(|| json!(word));
        }
        let of = |choice: &Value, is_custom| Called {
            name: text(choice, "name"),
            namespace: choice["namespace"].as_str().map(str::to_owned),
            is_custom,
        };
        match choice["type"].as_str() {
            Some("function") => Some(named(&self.names.function(&of(choice, false)))),
            Some("custom") => Some(named(&self.names.function(&of(choice, true)))),
            Some("allowed_tools") => {
                let allowed: BTreeSet<String> = choice["tools"]
                    .as_array()
                    .into_iter()
                    .flatten()
                    .map(|tool| self.names.function(&of(tool, tool["type"] == "custom")))
                    .collect();
                self.functions.retain(|(name, _)| allowed.contains(name));
                self.offers()
                    .then(|| choice["mode"].as_str().unwrap_or("auto").into())
            }
            // One of the tools that are left out.
            _ => self.offers().then(|| json!("auto")),
        }
        .filter(|_| self.offers())
    }

    pub(super) fn offers(&self) -> bool {
        !self.functions.is_empty()
    }

    /// `tools` of the chat request.
    pub(super) fn into_functions(self) -> Vec<Box<RawValue>> {
        self.functions.into_iter().map(|(_, raw)| raw).collect()
    }
}

fn read_one<'a>(tool: &'a RawValue, place: &str, faults: &mut Vec<FieldError>) -> Option<Wire<'a>> {
    let Ok(wire) = serde_json::from_str::<Wire<'a>>(tool.get()) else {
        let message = format!(
            "`{place}` must be a tool: an object with `type`, and its members of their own types"
        );
        faults.push(fault(place, "invalid_type", message));
        return None;
    };
    let is_named = wire.name.as_deref().is_some_and(|name| !name.is_empty());
    let needs_name = matches!(
        wire.kind.as_deref(),
        Some("function" | "custom" | "namespace")
    );
    if wire.kind.is_none() || (needs_name && !is_named) {
        let missing = if wire.kind.is_none() { "type" } else { "name" };
        let param = format!("{place}.{missing}");
        let message = format!("`{param}` is required");
        faults.push(fault(param, "missing_required_parameter", message));
        return None;
    }
    Some(wire)
}

fn as_function(name: &str, wire: &Wire<'_>) -> Option<Box<RawValue>> {
    let nothing = RawValue::from_string(r#"{"type":"object","properties":{}}"#.into()).ok()?;
    let given = wire.parameters.filter(|given| given.get() != "null");
    encode(&Function {
        name,
        description: wire.description.as_deref(),
        parameters: given.unwrap_or(&nothing),
        strict: wire.strict.filter(|strict| *strict),
    })
}

/// A tool that takes free text, as a function of one string.
fn as_text_function(name: &str, wire: &Wire<'_>) -> Option<Box<RawValue>> {
    let mut description = wire.description.clone().unwrap_or_default();
    if let Some(format) = wire
        .format
        .as_ref()
        .filter(|format| format["type"] == "grammar")
    {
        if !description.is_empty() {
            description.push_str("\n\n");
        }
        description.push_str("`input` must follow this grammar (");
        description.push_str(format["syntax"].as_str().unwrap_or("lark"));
        description.push_str("):\n");
        description.push_str(format["definition"].as_str().unwrap_or_default());
    }
    let parameters = json!({"type": "object", "properties": {"input": {"type": "string"}}, "required": ["input"],
        "additionalProperties": false});
    let parameters = serde_json::value::to_raw_value(&parameters).ok()?;
    encode(&Function {
        name,
        description: Some(description.as_str()).filter(|text| !text.is_empty()),
        parameters: &parameters,
        strict: None,
    })
}

fn encode(function: &Function<'_>) -> Option<Box<RawValue>> {
    #[derive(Serialize)]
    struct Tool<'a> {
        #[serde(rename = "type")]
        kind: &'static str,
        function: &'a Function<'a>,
    }
    let kind = "function";
    serde_json::value::to_raw_value(&Tool { kind, function }).ok()
}

fn named(name: &str) -> Value {
    json!({"type": "function", "function": {"name": name}})
}

fn text(value: &Value, key: &str) -> String {
    value[key].as_str().unwrap_or_default().to_owned()
}

/// What a call of such a tool gets: its text, out of the JSON that the function is called with.
pub(super) fn input_of(arguments: &str) -> String {
    let read: Option<Value> = serde_json::from_str(arguments).ok();
    let input = read.as_ref().and_then(|read| read["input"].as_str());
    // A model that wrote something else meant that as the text.
    input.unwrap_or(arguments).to_owned()
}

/// The arguments of the function that stands for a tool that takes `input`.
pub(super) fn arguments_of(input: &str) -> String {
    json!({"input": input}).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(tools: &Value) -> (Tools, Vec<FieldError>) {
        let raw = RawValue::from_string(tools.to_string()).unwrap();
        let mut faults = Vec::new();
        (Tools::read(Some(&raw), &mut faults), faults)
    }

    fn told(tools: Tools) -> Vec<Value> {
        let functions = tools.into_functions();
        functions
            .iter()
            .map(|raw| serde_json::from_str(raw.get()).unwrap())
            .collect()
    }

    #[test]
    fn every_kind_becomes_a_function_or_is_left_out() {
        let (tools, faults) = read(&json!([
            {"type": "namespace", "name": "agents", "tools": [
                {"type": "function", "name": "spawn", "strict": false, "parameters": {"type": "object"}},
                {"type": "custom", "name": "tell"}]},
            {"type": "function", "name": "agents__spawn", "parameters": null, "strict": true},
            {"type": "web_search", "external_web_access": false},
            {"type": "custom", "name": "patch", "description": "d",
             "format": {"type": "grammar", "syntax": "lark", "definition": "start: x"}},
            {"type": "local_shell"},
        ]));
        assert_eq!(faults, []);
        let names = tools.names.clone();
        let told = told(tools);
        let all: Vec<&str> = told
            .iter()
            .map(|tool| tool["function"]["name"].as_str().unwrap())
            .collect();
        assert_eq!(
            all,
            ["agents__spawn_2", "agents__tell", "agents__spawn", "patch"]
        );
        assert_eq!(told[0]["function"]["parameters"], json!({"type": "object"}));
        assert_eq!(told[0]["function"].get("strict"), None);
        assert_eq!(told[2]["function"]["strict"], true);
        assert_eq!(
            told[2]["function"]["parameters"],
            json!({"type": "object", "properties": {}})
        );
        let description = told[3]["function"]["description"].as_str().unwrap();
        assert!(
            description.starts_with("d\n\n") && description.ends_with("(lark):\nstart: x"),
            "{description}"
        );
        assert_eq!(
            names.called("agents__spawn_2").namespace.as_deref(),
            Some("agents")
        );
        assert!(
            names.called("patch").is_custom && names.called("agents__spawn").namespace.is_none()
        );
    }

    #[test]
    fn a_schema_keeps_the_order_of_its_members() {
        let text = r#"[{"type":"function","name":"f","parameters":{"type":"object","properties":{"z":{},"a":{}}}}]"#;
        let raw = RawValue::from_string(text.into()).unwrap();
        let functions = Tools::read(Some(&raw), &mut Vec::new()).into_functions();
        assert!(
            functions[0]
                .get()
                .contains(r#""properties":{"z":{},"a":{}}"#)
        );
    }

    #[test]
    fn a_choice_is_one_of_what_there_is() {
        let tools = json!([{"type": "function", "name": "f"}, {"type": "custom", "name": "c"},
            {"type": "namespace", "name": "n", "tools": [{"type": "function", "name": "g"}]}]);
        for (choice, wanted) in [
            (json!("required"), json!("required")),
            (json!({"type": "function", "name": "f"}), named("f")),
            (
                json!({"type": "function", "name": "g", "namespace": "n"}),
                named("n__g"),
            ),
            (json!({"type": "custom", "name": "c"}), named("c")),
            (json!({"type": "web_search"}), json!("auto")),
        ] {
            assert_eq!(
                read(&tools).0.choose(Some(&choice)),
                Some(wanted),
                "{choice}"
            );
        }
        let (mut some, _) = read(&tools);
        let allowed = json!({"type": "allowed_tools", "mode": "required",
            "tools": [{"type": "custom", "name": "c"}, {"type": "web_search"}]});
        assert_eq!(some.choose(Some(&allowed)), Some(json!("required")));
        assert_eq!(told(some).len(), 1);
        let (mut none, _) = read(&json!([{"type": "web_search"}]));
        assert_eq!(none.choose(Some(&json!("required"))), None);
        assert_eq!(
            none.choose(Some(&json!({"type": "function", "name": "f"}))),
            None
        );
    }

    #[test]
    fn what_is_no_tool_is_named() {
        let (_, faults) = read(&json!([{"type": "function"}, 7, {"name": "f"},
            {"type": "namespace", "name": "n", "tools": [{"type": "function", "name": ""}]}]));
        let params: Vec<_> = faults
            .iter()
            .filter_map(|fault| fault.param.as_deref())
            .collect();
        assert_eq!(
            params,
            [
                "tools[0].name",
                "tools[1]",
                "tools[2].type",
                "tools[3].tools[0].name"
            ]
        );
    }

    #[test]
    fn free_text_is_read_out_of_json() {
        let text = "a \"b\"\n";
        assert_eq!(input_of(&arguments_of(text)), text);
        assert_eq!(input_of("bare"), "bare");
    }
}
