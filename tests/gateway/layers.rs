//! The architecture as a test: who imports whom, and that the documents say what is true.

use std::path::{Path, PathBuf};

/// Each layer may import those to its left, and itself.
const LAYERS: &[&[&str]] = &[
    &[
        "settings", "limits", "tasks", "clock", "secrets", "hex", "sink", "logs",
    ],
    &["protocol"],
    &["providers"],
    &["routing"],
    &["db"],
    &["actors"],
    &["exchange"],
    &["http"],
    &["gateway"],
    &["cli", "measure", "fuzz"],
];

/// Who does not import whom although the layers would let it.
const APART: &[(&str, &str)] = &[("db", "providers")];

/// Crates that live in one place only.
const OWNED: &[(&str, &[&str])] = &[
    ("rusqlite", &["db"]),
    ("tokio_rusqlite", &["db"]),
    ("reqwest", &["providers", "cli"]),
    ("ractor", &["actors"]),
    ("axum", &["http"]),
    ("clap", &["cli"]),
    ("eventsource_stream", &["protocol", "cli"]),
];

fn sources(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).expect("readable") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// `src/http/error.rs` -> `http`.
fn module(path: &Path) -> String {
    let inside = path.strip_prefix(root().join("src")).expect("below src");
    let first = inside
        .components()
        .next()
        .expect("a name")
        .as_os_str()
        .to_string_lossy()
        .into_owned();
    first.trim_end_matches(".rs").to_owned()
}

fn rank(module: &str) -> Option<usize> {
    LAYERS.iter().position(|layer| layer.contains(&module))
}

#[test]
fn imports_point_downwards() {
    let mut files = Vec::new();
    sources(&root().join("src"), &mut files);
    assert!(files.len() > 30, "the walk finds the sources");
    let mut wrong = Vec::new();
    for file in files {
        let own = module(&file);
        if own == "lib" || own == "main" {
            continue;
        }
        let own_rank = rank(&own).unwrap_or_else(|| panic!("`{own}` has no layer"));
        let text = std::fs::read_to_string(&file).expect("readable");
        for part in text.split("crate::").skip(1) {
            let other: String = part
                .chars()
                .take_while(|c| c.is_alphanumeric() || *c == '_')
                .collect();
            if let Some(rank) = rank(&other)
                && other != own
                && (rank > own_rank
                    || (rank == own_rank && own_rank > 0)
                    || APART.contains(&(own.as_str(), other.as_str())))
            {
                wrong.push(format!("{} imports `{other}`", file.display()));
            }
        }
        for (krate, owners) in OWNED {
            let uses =
                text.contains(&format!("{krate}::")) && !text.contains(&format!("_{krate}::"));
            if uses && !owners.contains(&own.as_str()) {
                wrong.push(format!("{} uses the crate `{krate}`", file.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn the_readme_names_the_two_commands_and_every_port() {
    let readme = std::fs::read_to_string(root().join("README.md")).expect("a README");
    for said in [
        "cargo run --release -- serve",
        "cargo test",
        "3000",
        "3001",
        "3002",
        "/v1/chat/completions",
    ] {
        assert!(readme.contains(said), "README.md does not say `{said}`");
    }
}

#[test]
fn every_setting_is_in_the_documentation() {
    let text = std::fs::read_to_string(root().join("src/settings.rs")).expect("readable");
    let docs = std::fs::read_to_string(root().join("README.md")).expect("a README");
    let keys = text
        .lines()
        .filter_map(|line| line.split_once(": &str = \""))
        .filter_map(|(_, rest)| rest.split('"').next());
    let mut count = 0;
    for key in keys {
        count += 1;
        assert!(
            docs.contains(&format!("`{key}`")),
            "README.md does not list the setting `{key}`"
        );
    }
    assert!(count > 10);
}

/// The selftest's table of faults is a test itself.
const OWN_DURATIONS: &[&str] = &["limits.rs", "selftest"];

#[test]
fn deadlines_are_defined_in_one_place() {
    let mut files = Vec::new();
    sources(&root().join("src"), &mut files);
    let mut wrong = Vec::new();
    let mut found = 0;
    for file in files {
        let text = std::fs::read_to_string(&file).expect("readable");
        // Tests have times of their own; they stand at a file's end, or in files that say so.
        let is_test = ["simulation.rs", "roundtrip.rs", "fuzz/mod.rs"]
            .iter()
            .any(|test| file.ends_with(test))
            || file
                .components()
                .any(|part| part.as_os_str().to_string_lossy().starts_with("tests"));
        let code = text
            .split("#[cfg(test)]\nmod tests")
            .next()
            .unwrap_or_default();
        let literals = code.lines().filter(|line| writes_a_duration(line));
        let count = literals.count();
        if OWN_DURATIONS.iter().any(|own| {
            file.components()
                .any(|part| part.as_os_str().to_string_lossy() == *own)
        }) {
            found += count;
        } else if count > 0 && !is_test {
            wrong.push(format!("{}: {count}", file.display()));
        }
    }
    assert!(found > 50, "the walk finds those of `limits.rs`: {found}");
    assert!(
        wrong.is_empty(),
        "durations belong into src/limits.rs: {wrong:#?}"
    );
}

/// `Duration::from_secs(5)`, and not what is made of a setting.
fn writes_a_duration(line: &str) -> bool {
    line.split("Duration::from_").skip(1).any(|rest| {
        let after = rest.split_once('(').map_or("", |(_, after)| after);
        after.starts_with(|first: char| first.is_ascii_digit())
    })
}
