//! What a chat's functions are to a client whose tools have more kinds than one, and names within names.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::hex;

/// The longest name of a function (`OpenAI` reference, chat completions).
const LONGEST: usize = 64;
/// Hexadecimal digits that tell two shortened names apart.
const MARK: usize = 8;

/// A tool as the client calls it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Called {
    pub(crate) name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) namespace: Option<String>,
    /// It takes free text instead of JSON.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) is_custom: bool,
}

impl Called {
    /// What the function is called where nothing else has that name.
    fn flat(&self) -> String {
        let Some(namespace) = &self.namespace else {
            return self.name.clone();
        };
        // Codex's namespaces of MCP servers end so already.
        let between = if namespace.ends_with("__") { "" } else { "__" };
        fit(&format!("{namespace}{between}{}", self.name))
    }
}

/// The functions of a request that are not simply functions to its client, by their names in the chat.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Names(BTreeMap<String, Called>);

impl Names {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Gives `called` a name that is not `taken`.
    pub(crate) fn add(&mut self, called: Called, taken: &mut BTreeSet<String>) -> String {
        let flat = called.flat();
        let mut name = flat.clone();
        let mut number = 2;
        while !taken.insert(name.clone()) {
            name = fit(&format!("{flat}_{number}"));
            number += 1;
        }
        if called.namespace.is_some() || called.is_custom || called.name != name {
            self.0.insert(name.clone(), called);
        }
        name
    }

    /// What the client calls the function `name`.
    pub(crate) fn called(&self, name: &str) -> Called {
        self.0.get(name).cloned().unwrap_or_else(|| Called {
            name: name.to_owned(),
            ..Called::default()
        })
    }

    /// The function that is `called` so. A call may be of a tool that is not offered any more.
    pub(crate) fn function(&self, called: &Called) -> String {
        let known = self.0.iter().find(|(_, known)| *known == called);
        known.map_or_else(|| called.flat(), |(name, _)| name.clone())
    }
}

/// A name that chat servers take.
fn fit(name: &str) -> String {
    let plain: String = name
        .chars()
        .map(|c| {
            let is_taken = c.is_ascii_alphanumeric() || c == '_' || c == '-';
            if is_taken { c } else { '_' }
        })
        .collect();
    if plain.len() <= LONGEST {
        return plain;
    }
    let mark: String = hex::encode(&Sha256::digest(name.as_bytes()))
        .chars()
        .take(MARK)
        .collect();
    let begun: String = plain.chars().take(LONGEST - MARK - 1).collect();
    format!("{begun}_{mark}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn within(namespace: &str, name: &str) -> Called {
        Called {
            name: name.into(),
            namespace: Some(namespace.into()),
            is_custom: false,
        }
    }

    #[test]
    fn names_lead_there_and_back() {
        let (mut names, mut taken) = (Names::default(), BTreeSet::from(["a__b".to_owned()]));
        let long = "x".repeat(70);
        for (called, name) in [
            (within("a", "b"), "a__b_2"),
            (within("mcp__s__", "read"), "mcp__s__read"),
            (within("my tools", "é"), "my_tools___"),
        ] {
            assert_eq!(names.add(called.clone(), &mut taken), name);
            assert_eq!(names.called(name), called);
            assert_eq!(names.function(&called), name);
        }
        let first = names.add(within(&long, "a"), &mut taken);
        let second = names.add(within(&long, "b"), &mut taken);
        assert!(first != second && first.len() == LONGEST);
        assert_eq!(names.called("plain").name, "plain");
        assert_eq!(names.function(&within("gone", "f")), "gone__f");
    }
}
