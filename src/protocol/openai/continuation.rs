//! Going on with an answer that broke off: what the next model is asked, and how its words are joined to those that the
//! client has already.

use bytes::Bytes;
use serde_json::{Value, json};

/// A new answer that repeats at least this much of the old one's beginning is the answer told anew.
const TOLD_ANEW: usize = 32;
/// Characters of the end that the next model is asked to repeat, and the least that is taken for such a repetition.
const TAIL: usize = 48;
const REPEATED: usize = 12;
/// A repetition that begins where a word does may be shorter.
const REPEATED_WORD: usize = 4;
/// The longest repetition that is looked for.
const MOST_REPEATED: usize = 2_048;

/// How a model is brought to go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// It continues an assistant message that stands last, marked with this field where its vendor wants one.
    Prefill(Option<&'static str>),
    /// It is told to.
    Instruction,
}

/// The request `body` with the part of the answer that was `told`, so that the model goes on. None when the body is not
/// what it was checked to be.
pub(crate) fn request(body: &[u8], told: &str, way: Way) -> Option<Bytes> {
    let mut whole: Value = serde_json::from_slice(body).ok()?;
    let messages = whole.get_mut("messages")?.as_array_mut()?;
    let mut partial = json!({"role": "assistant", "content": told});
    if let Way::Prefill(Some(mark)) = way {
        partial[mark] = json!(true);
    }
    messages.push(partial);
    if way == Way::Instruction {
        let end = tail(told);
        messages.push(json!({"role": "user", "content": format!(
            "The connection broke while you answered. What has arrived is your message above. Go on with it exactly \
             where it stops: begin by repeating its last words, which are «{end}», say nothing about this, and repeat \
             nothing that stands before them."
        )}));
    }
    Some(whole.to_string().into())
}

/// The last words, from the beginning of a word on.
fn tail(told: &str) -> &str {
    let text = told.trim_end();
    let start = text
        .char_indices()
        .rev()
        .take(TAIL)
        .last()
        .map_or(0, |(at, _)| at);
    let last = text.get(start..).unwrap_or_default();
    match last.find(char::is_whitespace) {
        Some(at) if start > 0 => last.get(at..).unwrap_or_default().trim_start(),
        _ => last,
    }
}

/// The next model told something else than the rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it did not go on with the answer that had begun")]
pub(crate) struct Diverged;

/// Takes what of a new answer the client has already out of it.
#[derive(Debug)]
pub(crate) struct Joint {
    told: String,
    way: Way,
    /// What came and is not yet understood; none once the joint is found.
    held: Option<String>,
}

impl Joint {
    pub(crate) fn new(told: String, way: Way) -> Self {
        Self {
            told,
            way,
            held: Some(String::new()),
        }
    }

    /// Takes the next piece; returns what the client shall get of it.
    pub(crate) fn push(&mut self, text: &str) -> Result<String, Diverged> {
        match &mut self.held {
            None => return Ok(text.to_owned()),
            Some(held) => held.push_str(text),
        }
        self.look(false)
    }

    /// The new answer is over: what was held back of it.
    pub(crate) fn finish(&mut self) -> Result<String, Diverged> {
        self.look(true)
    }

    fn look(&mut self, is_over: bool) -> Result<String, Diverged> {
        let Some(held) = self.held.take() else {
            return Ok(String::new());
        };
        if let Some(rest) = held.strip_prefix(&self.told) {
            return Ok(rest.to_owned());
        }
        let same = common(&held, &self.told);
        if same == held.len() && !is_over {
            // So far it is the old answer told anew.
            self.held = Some(held);
            return Ok(String::new());
        }
        let repeated = self.repeated(&held, is_over);
        match repeated {
            None => {
                self.held = Some(held);
                Ok(String::new())
            }
            // Told anew, but in other words, or not as far.
            Some(0) if same >= TOLD_ANEW || (same > 0 && same == held.len()) => Err(Diverged),
            Some(at) => Ok(self.joined(held.get(at..).unwrap_or_default(), at)),
        }
    }

    /// How many bytes at the beginning of `held` repeat the end of what was told. None: not to be said yet.
    fn repeated(&self, held: &str, is_over: bool) -> Option<usize> {
        let told = &self.told;
        let from = told.len().saturating_sub(MOST_REPEATED);
        let starts = told
            .char_indices()
            .map(|(at, _)| at)
            .filter(|at| *at >= from);
        for start in starts {
            let end = told.get(start..).unwrap_or_default();
            if end.len() > held.len() {
                if !is_over && end.starts_with(held) && !held.is_empty() {
                    // It may go on repeating.
                    return None;
                }
            } else if held.starts_with(end) {
                let before = told.get(..start).and_then(|told| told.chars().next_back());
                let is_word = before.is_none_or(|letter| !letter.is_alphanumeric());
                let length = end.chars().count();
                let is_meant = length >= REPEATED || (is_word && length >= REPEATED_WORD);
                return Some(if is_meant { end.len() } else { 0 });
            }
        }
        Some(0)
    }

    fn joined(&self, rest: &str, at: usize) -> String {
        let letter = |found: Option<char>| found.is_some_and(char::is_alphanumeric);
        let needs_space = at == 0
            && self.way == Way::Instruction
            && letter(self.told.chars().next_back())
            && letter(rest.chars().next());
        if needs_space {
            format!(" {rest}")
        } else {
            rest.to_owned()
        }
    }
}

/// The length of the common beginning, bytes.
fn common(a: &str, b: &str) -> usize {
    a.char_indices()
        .zip(b.chars())
        .find(|((_, x), y)| x != y)
        .map_or(a.len().min(b.len()), |((at, _), _)| at)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANSWER: &str = "Ownership in Rust means that each value has one owner, and that it is dropped with it. \
                          Borrowing lends a value without giving it away.";

    /// What the client has at the end when `new` comes after `told`, in pieces of every size.
    fn joined(told: &str, new: &str, way: Way) -> Result<String, Diverged> {
        let mut results = Vec::new();
        for size in [1, 2, 3, 7, 1_000] {
            let mut joint = Joint::new(told.to_owned(), way);
            let mut text = told.to_owned();
            let letters: Vec<char> = new.chars().collect();
            let mut outcome = Ok(());
            for piece in letters.chunks(size) {
                match joint.push(&piece.iter().collect::<String>()) {
                    Ok(more) => text.push_str(&more),
                    Err(diverged) => outcome = Err(diverged),
                }
                if outcome.is_err() {
                    break;
                }
            }
            let outcome = outcome
                .and_then(|()| joint.finish())
                .map(|more| text + &more);
            results.push(outcome);
        }
        assert!(
            results.windows(2).all(|two| two[0] == two[1]),
            "{results:?}"
        );
        results.remove(0)
    }

    #[test]
    fn wherever_it_broke_the_answer_is_whole_once() {
        for (cut, _) in ANSWER.char_indices().skip(1) {
            let (told, rest) = ANSWER.split_at(cut);
            for way in [Way::Prefill(None), Way::Instruction] {
                assert_eq!(
                    joined(told, ANSWER, way).as_deref(),
                    Ok(ANSWER),
                    "told anew after {told:?}"
                );
                if way != Way::Instruction {
                    assert_eq!(
                        joined(told, rest, way).as_deref(),
                        Ok(ANSWER),
                        "gone on after {told:?}"
                    );
                }
                let again = format!("{}{rest}", tail(told));
                if told.len() > 2 * TAIL && told.trim_end() == told {
                    assert_eq!(
                        joined(told, &again, way).as_deref(),
                        Ok(ANSWER),
                        "repeated after {told:?}"
                    );
                }
            }
        }
    }

    #[test]
    fn words_are_kept_apart_where_a_model_was_told_to_go_on() {
        for (told, new, way, whole) in [
            (
                "one two three",
                "four five",
                Way::Instruction,
                "one two three four five",
            ),
            (
                "one two three",
                " four five",
                Way::Instruction,
                "one two three four five",
            ),
            (
                "one two th",
                "ree four",
                Way::Prefill(None),
                "one two three four",
            ),
            (
                "one two three,",
                "four",
                Way::Instruction,
                "one two three,four",
            ),
            (
                "count: three four",
                "three four five",
                Way::Instruction,
                "count: three four five",
            ),
            ("all of it.", "", Way::Instruction, "all of it."),
            (
                "a lot of words that ended here.",
                "ended here.",
                Way::Instruction,
                "a lot of words that ended here.",
            ),
        ] {
            assert_eq!(
                joined(told, new, way).as_deref(),
                Ok(whole),
                "{told:?} + {new:?}"
            );
        }
    }

    #[test]
    fn an_answer_told_anew_in_other_words_is_not_joined() {
        let told = "The three states are running, restarting and melted, and";
        for new in [
            "The three states are running, restarting and stopped, and then",
            "The three states are running, restart",
        ] {
            assert_eq!(joined(told, new, Way::Instruction), Err(Diverged), "{new}");
        }
    }

    #[test]
    fn the_request_gets_what_was_told() {
        let body = br#"{"model":"m","messages":[{"role":"user","content":"hi"}],"x":1}"#;
        let read = |way| -> Value {
            serde_json::from_slice(&request(body, "Hello the", way).expect("a body")).expect("JSON")
        };
        let prefilled = read(Way::Prefill(Some("partial")));
        assert_eq!(
            prefilled["messages"][1],
            json!({"role": "assistant", "content": "Hello the", "partial": true})
        );
        assert_eq!(
            (
                prefilled["messages"].as_array().map(Vec::len),
                &prefilled["x"]
            ),
            (Some(2), &json!(1))
        );
        let told = read(Way::Instruction);
        assert_eq!(
            told["messages"][1],
            json!({"role": "assistant", "content": "Hello the"})
        );
        let said = told["messages"][2]["content"].as_str().expect("text");
        assert!(said.contains("«Hello the»"), "{said}");
        assert_eq!(request(b"[]", "x", Way::Instruction), None);
    }

    #[test]
    fn the_tail_begins_with_a_word() {
        assert_eq!(tail("short one "), "short one");
        let end = tail(ANSWER);
        assert!(
            ANSWER.ends_with(end) && end.len() <= TAIL && end.starts_with("Borrowing"),
            "{end}"
        );
        assert_eq!(tail(&"ü".repeat(99)).chars().count(), TAIL);
    }
}
