//! Changes a tool's configuration file, and keeps what else is in it.

use std::fmt::Write as _;
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::cli::failure::Failure;

/// What a file is to say.
pub(crate) enum Change {
    /// These members of a JSON object, at any depth.
    Json(Value),
    /// These lines, each key once; the text stands between key and value.
    Lines(&'static str, Vec<(String, String)>),
    /// These keys of a TOML file's first part, and one table.
    Toml {
        top: Vec<(String, String)>,
        heading: String,
        /// Its heading included.
        table: String,
    },
    /// One entry of a YAML list, known by its first line.
    Row { first: String, text: String },
    /// All of it; what has another first line is somebody else's.
    Whole { first: String, text: String },
    /// The tool writes it itself, by the command that is printed.
    Nothing,
}

impl Change {
    /// The new text; the error says what is wrong with the old one.
    pub(crate) fn merged(&self, old: Option<&str>) -> Result<String, String> {
        let old = old.unwrap_or_default();
        match self {
            Self::Json(wanted) => {
                let mut value = if old.trim().is_empty() {
                    Value::Object(serde_json::Map::new())
                } else {
                    // Comments are allowed in some tools' files, and would be lost.
                    serde_json::from_str(old)
                        .map_err(|error| format!("is no plain JSON ({error})"))?
                };
                if !value.is_object() {
                    return Err("holds no JSON object".into());
                }
                put(&mut value, wanted);
                Ok(format!("{value:#}\n"))
            }
            Self::Lines(between, pairs) => Ok(with_lines(old, between, pairs)),
            Self::Toml {
                top,
                heading,
                table,
            } => with_table(old, top, heading, table),
            Self::Row { first, text } => Ok(with_row(old, first, text)),
            Self::Whole { first, text } => {
                let is_ours = old.trim().is_empty() || old.lines().next() == Some(first);
                let whole = is_ours.then(|| text.clone());
                whole.ok_or_else(|| "is a configuration of your own".into())
            }
            Self::Nothing => Err("is written by the tool itself".into()),
        }
    }
}

fn put(value: &mut Value, wanted: &Value) {
    match (value, wanted) {
        (Value::Object(members), Value::Object(wanted)) => {
            for (key, wanted) in wanted {
                put(members.entry(key).or_insert(Value::Null), wanted);
            }
        }
        (value, wanted) => *value = wanted.clone(),
    }
}

fn with_lines(old: &str, between: &str, pairs: &[(String, String)]) -> String {
    let mark = between.trim();
    let key_of = |line: &str| {
        let (key, _) = line.split_once(mark)?;
        let key = key.trim();
        Some(key.strip_prefix("export ").unwrap_or(key).trim().to_owned())
    };
    let mut text = String::new();
    let mut missing: Vec<_> = pairs.iter().collect();
    for line in old.lines() {
        let key = key_of(line);
        let replaced = pairs
            .iter()
            .find(|(wanted, _)| Some(wanted) == key.as_ref());
        let Some((wanted, value)) = replaced else {
            text.push_str(line);
            text.push('\n');
            continue;
        };
        // A key that stands there twice is told once.
        if missing.iter().any(|(key, _)| key == wanted) {
            missing.retain(|(key, _)| key != wanted);
            let _ = writeln!(text, "{wanted}{between}{value}");
        }
    }
    for (key, value) in missing {
        let _ = writeln!(text, "{key}{between}{value}");
    }
    text
}

/// The list with the row in the place of the one that begins alike, or at its end.
fn with_row(old: &str, first: &str, row: &str) -> String {
    let mut text = String::new();
    let mut in_own = false;
    for line in old.lines() {
        if line.starts_with('-') {
            in_own = line.trim_end() == first;
        } else if !line.starts_with(char::is_whitespace) {
            in_own = false;
        }
        if !in_own {
            text.push_str(line);
            text.push('\n');
        }
    }
    text + row
}

/// Line by line: a TOML file is written by hand, and its comments and order are its owner's.
fn with_table(
    old: &str,
    top: &[(String, String)],
    heading: &str,
    table: &str,
) -> Result<String, String> {
    // Inside a text of several lines a line may look like anything.
    if old.contains("\"\"\"") || old.contains("'''") {
        return Err("holds texts of several lines, which this program does not read".into());
    }
    let mut before = String::new();
    let mut rest = String::new();
    let (mut in_top, mut in_own) = (true, false);
    for line in old.lines() {
        let trimmed = line.trim();
        if trimmed.starts_with('[') {
            in_top = false;
            in_own = trimmed == heading;
        }
        let key = trimmed.split_once('=').map(|(key, _)| key.trim());
        let replaced = in_top && top.iter().any(|(wanted, _)| Some(wanted.as_str()) == key);
        if in_own || replaced {
            continue;
        }
        let part = if in_top { &mut before } else { &mut rest };
        part.push_str(line);
        part.push('\n');
    }
    let mut text = String::new();
    for (key, value) in top {
        let _ = writeln!(text, "{key} = {value}");
    }
    for part in [before.trim(), rest.trim(), table.trim()] {
        if !part.is_empty() {
            text.push('\n');
            text.push_str(part);
            text.push('\n');
        }
    }
    Ok(text)
}

/// The text of a file, or nothing when there is no such file.
pub(crate) fn read(path: &Path) -> Result<Option<String>, Failure> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(unusable(path, &error)),
    }
}

/// Puts `text` in the place of the file; what was there stays beside it.
pub(crate) fn replace(path: &Path, text: &str) -> Result<(), Failure> {
    // A link to a file elsewhere stays a link.
    let target = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let change = || -> io::Result<()> {
        if let Some(dir) = target.parent().filter(|dir| !dir.as_os_str().is_empty()) {
            fs::create_dir_all(dir)?;
        }
        let draft = beside(&target, ".new");
        // What is merged may hold keys of others: never open to more than the old file was.
        let mut file = fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&draft)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        if target.exists() {
            fs::copy(&target, beside(&target, ".bak"))?;
            fs::set_permissions(&draft, fs::metadata(&target)?.permissions())?;
        }
        fs::rename(&draft, &target)
    };
    change().map_err(|error| unusable(path, &error))
}

fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    PathBuf::from(name)
}

fn unusable(path: &Path, error: &io::Error) -> Failure {
    Failure::Other(format!("`{}`: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn members_of_a_json_file_are_kept() {
        let change = Change::Json(json!({"env": {"A": "new"}}));
        let old = r#"{"env": {"A": "old", "B": "b"}, "theme": "dark"}"#;
        let new: Value = serde_json::from_str(&change.merged(Some(old)).unwrap()).unwrap();
        assert_eq!(new, json!({"env": {"A": "new", "B": "b"}, "theme": "dark"}));
        assert!(change.merged(Some("{ // mine\n}")).is_err());
        assert!(change.merged(Some("[1]")).is_err());
        assert!(change.merged(Some(" ")).is_ok());
    }

    #[test]
    fn lines_are_replaced_where_they_stand() {
        let change = Change::Lines(
            "=",
            vec![("A".into(), "1".into()), ("B".into(), "2".into())],
        );
        let old = "# mine\nexport A = 0\nC=3\nA=9\n";
        let new = "# mine\nA=1\nC=3\nB=2\n";
        assert_eq!(change.merged(Some(old)).as_deref(), Ok(new));
        assert_eq!(
            change.merged(Some(new)).as_deref(),
            Ok(new),
            "once is enough"
        );
    }

    #[test]
    fn a_toml_file_keeps_its_other_tables() {
        let change = Change::Toml {
            top: vec![("model".into(), "\"m\"".into())],
            heading: "[model_providers.qwarden]".into(),
            table: "[model_providers.qwarden]\nbase_url = \"u\"\n".into(),
        };
        let old = "# mine\nmodel = \"old\"\nmodel_reasoning = 1\n\n[model_providers.qwarden]\nbase_url = \"v\"\n\n\
                   [profiles.x]\nmodel = \"kept\"\n";
        let new = "model = \"m\"\n\n# mine\nmodel_reasoning = 1\n\n[profiles.x]\nmodel = \"kept\"\n\n\
                   [model_providers.qwarden]\nbase_url = \"u\"\n";
        assert_eq!(change.merged(Some(old)).as_deref(), Ok(new));
        assert_eq!(
            change.merged(Some(new)).as_deref(),
            Ok(new),
            "once is enough"
        );
        assert!(
            change
                .merged(Some("x = \"\"\"\nmodel = 1\n\"\"\""))
                .is_err()
        );
    }

    #[test]
    fn what_was_there_stays_beside_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("deep").join("c.json");
        replace(&path, "one").unwrap();
        assert!(!beside(&path, ".bak").exists());
        replace(&path, "two").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "two");
        assert_eq!(fs::read_to_string(beside(&path, ".bak")).unwrap(), "one");
        assert!(!beside(&path, ".new").exists());
    }
}
