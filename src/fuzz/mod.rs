//! Fuzzing on the stable toolchain: bytes that were seen, changed at random, given to whatever reads bytes from outside.
//!
//! Each target has a folder of inputs in `tests/corpus`. They are tried first, at every `cargo test`; then variations of
//! them for `QWARDEN_FUZZ_SECONDS` (`tests/fuzz`; a moment without). What makes a target take another way, by the answer it
//! gives, is varied on. An input that fails is made smaller, written into the folder, and so is a test from then on.

mod targets;

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Something that reads bytes. Says in a word what it made of them, or what it did wrong.
type Look = fn(&[u8]) -> Result<String, String>;

/// Inputs of this length at most: longer ones only take longer.
const LONGEST: usize = 4 << 10;
/// Inputs that are varied on, beside those of the folder.
const MOST_KEPT: usize = 4_096;
/// Far more than any of these inputs takes on a busy machine: time that grows with the square of the length is found.
const SLOW: Duration = Duration::from_secs(5);
const TRIES_TO_SHORTEN: usize = 400;

/// Fragments that mean something in one of the formats.
const WORDS: &[&str] = &[
    "\n",
    "\r\n\r\n",
    "\n\n",
    "\u{feff}",
    "\u{0}",
    "é",
    "🌍",
    "\u{fffd}",
    "\\u0000",
    "\\ud800",
    "\"",
    "\\",
    "{",
    "}",
    "[",
    "]",
    ":",
    ",",
    "null",
    "true",
    "false",
    "0",
    "-1",
    "1e999",
    "18446744073709551616",
    "0.5",
    "\"\"",
    "[]",
    "{}",
    "data: ",
    "data:",
    "event: ",
    "id: ",
    "retry: ",
    ": ",
    "[DONE]",
    "<tool_call>",
    "</tool_call>",
    "<tool_response>",
    "```",
    "```json\n",
    "`",
    "<function=",
    "<parameter=",
    "\"role\":",
    "\"user\"",
    "\"assistant\"",
    "\"tool\"",
    "\"system\"",
    "\"content\":",
    "\"type\":",
    "\"text\"",
    "\"image_url\"",
    "\"tool_use\"",
    "\"tool_result\"",
    "\"tool_calls\":",
    "\"tool_call_id\":",
    "\"model\":",
    "\"messages\":",
    "\"input\":",
    "\"tools\":",
    "\"stream\":true",
    "\"stream_options\":",
    "curl '",
    "' -H '",
    "$'",
    "--cookie ",
    "cookie: ",
    "token=",
    "; ",
    "=",
];

/// Tries `look` with the corpus `name`, then with what comes of it.
#[expect(
    clippy::print_stdout,
    reason = "`tests/fuzz` tells how many cases there were"
)]
fn fuzz(name: &str, look: Look) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/corpus")
        .join(name);
    let mut pool = corpus(&folder);
    assert!(!pool.is_empty(), "{} is empty", folder.display());
    let mut ways = HashSet::new();
    for (path, input) in &pool {
        match tried(look, input) {
            Ok(way) => drop(ways.insert(way)),
            Err(problem) => panic!("{name}: {}: {problem}", path.display()),
        }
    }
    let variable = |name: &str| -> Option<u64> {
        let text = std::env::var(name).ok()?;
        Some(text.parse().expect("a number"))
    };
    let seconds = variable("QWARDEN_FUZZ_SECONDS").unwrap_or(1);
    let seed = variable("QWARDEN_FUZZ_SEED").unwrap_or_else(|| fastrand::u64(..));
    let mut random = fastrand::Rng::with_seed(seed);
    let until = Instant::now() + Duration::from_secs(seconds);
    let most = pool.len() + MOST_KEPT;
    let mut cases = 0_u64;
    while Instant::now() < until {
        let input = varied(&mut random, &pool);
        cases += 1;
        match tried(look, &input) {
            Ok(way) => {
                if ways.insert(way) && pool.len() < most {
                    pool.push((PathBuf::new(), input));
                }
            }
            Err(problem) => {
                let input = shortened(look, input);
                let path = folder.join(format!("found-{:016x}", hash(&input)));
                std::fs::write(&path, &input).expect("the corpus can be written to");
                panic!(
                    "{name}: {problem}\nthe input is kept: {}\nrun it again: cargo test --locked --lib fuzz::targets::{name}\n\
                     seed {seed}, case {cases}",
                    path.display()
                );
            }
        }
    }
    println!(
        "{name}: {cases} cases in {seconds} s, {} ways, seed {seed}",
        ways.len()
    );
}

fn corpus(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let entries = std::fs::read_dir(folder).expect("a corpus");
    let mut paths: Vec<_> = entries
        .map(|entry| entry.expect("an entry").path())
        .collect();
    paths.sort();
    let read = |path: PathBuf| (path.clone(), std::fs::read(&path).expect("readable"));
    paths.into_iter().map(read).collect()
}

/// What the target made of `input`; a panic and a long time are wrong, whatever it reads.
fn tried(look: Look, input: &[u8]) -> Result<String, String> {
    let began = Instant::now();
    let outcome = catch_unwind(AssertUnwindSafe(|| look(input)));
    let outcome = outcome.map_err(|panic| {
        let words = panic.downcast_ref::<String>().map(String::as_str);
        let words = words.or_else(|| panic.downcast_ref::<&str>().copied());
        format!("it panics: {}", words.unwrap_or("without words"))
    })?;
    let took = began.elapsed();
    if took > SLOW {
        return Err(format!(
            "{} bytes take {} ms",
            input.len(),
            took.as_millis()
        ));
    }
    outcome
}

fn varied(random: &mut fastrand::Rng, pool: &[(PathBuf, Vec<u8>)]) -> Vec<u8> {
    let any = |random: &mut fastrand::Rng| &pool[random.usize(..pool.len())].1;
    let mut input = any(random).clone();
    for _ in 0..=random.usize(..4) {
        let at = random.usize(..=input.len());
        let longest = 1 << random.usize(..8);
        let end = at + random.usize(..=longest.min(input.len() - at));
        match random.u8(..10) {
            0 => drop(input.drain(at..end)),
            1 => {
                let again = input[at..end].repeat(1 + random.usize(..8));
                drop(input.splice(at..at, again));
            }
            2 if at < input.len() => input[at] = random.u8(..),
            3 if at < input.len() => input[at] ^= 1 << random.u8(..8),
            4 => {
                let other = any(random);
                let from = random.usize(..=other.len());
                let to = from + random.usize(..=(other.len() - from));
                drop(input.splice(at..end, other[from..to].iter().copied()));
            }
            5 => input.truncate(at),
            6 => input.insert(at, random.u8(..)),
            _ => {
                let word = WORDS[random.usize(..WORDS.len())].bytes();
                let end = if random.bool() { at } else { end };
                drop(input.splice(at..end, word));
            }
        }
    }
    input.truncate(LONGEST);
    input
}

/// The same failure in fewer bytes.
fn shortened(look: Look, mut input: Vec<u8>) -> Vec<u8> {
    let mut size = input.len() / 2;
    let mut tries = 0;
    while size > 0 && tries < TRIES_TO_SHORTEN {
        let mut at = 0;
        while at < input.len() && tries < TRIES_TO_SHORTEN {
            let mut shorter = input.clone();
            shorter.drain(at..(at + size).min(input.len()));
            tries += 1;
            if tried(look, &shorter).is_err() {
                input = shorter;
            } else {
                at += size;
            }
        }
        size /= 2;
    }
    input
}

fn hash(bytes: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    bytes.hash(&mut hasher);
    hasher.finish()
}

#[test]
fn a_fault_is_found_and_made_small() {
    let look: Look = |input| {
        let is_wrong = input.windows(2).any(|two| two == b"\"\0");
        if is_wrong {
            Err("wrong".into())
        } else {
            Ok(input.len().min(9).to_string())
        }
    };
    let mut random = fastrand::Rng::with_seed(1);
    let mut pool = vec![(PathBuf::new(), b"a<tool_call>\"b\"</tool_call>".to_vec())];
    let found = std::iter::repeat_with(|| {
        let input = varied(&mut random, &pool);
        if pool.len() < 64 {
            pool.push((PathBuf::new(), input.clone()));
        }
        input
    });
    let found = found
        .take(2_000_000)
        .find(|input| tried(look, input).is_err());
    assert_eq!(shortened(look, found.expect("it is found")), b"\"\0");
    assert!(tried(|_| panic!("no"), b"").is_err_and(|problem| problem == "it panics: no"));
}
