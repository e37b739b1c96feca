//! A call that is still being written, told as it grows: for clients that want to watch it (`tools.streaming`).
//!
//! Only strict JSON with the name first can be told before it is whole; anything else waits for the parser.

use serde_json::Value;

/// The longest head of a call, up to its arguments, that is waited for.
const HEAD: usize = 512;

/// What has come of a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Grown {
    /// Its name, once.
    Name(String),
    /// More of its arguments' JSON text.
    Arguments(String),
}

/// Follows one call.
#[derive(Debug, Default)]
pub(crate) struct Partial {
    state: State,
    name: String,
    /// The arguments as far as they were told.
    told: String,
}

#[derive(Debug, Default)]
enum State {
    #[default]
    Head,
    Arguments {
        /// Where in the block the next byte to look at stands.
        at: usize,
        depth: usize,
        in_string: bool,
        is_escaped: bool,
    },
    /// All of them are there.
    Whole,
    /// Cannot be told before it is read.
    Silent,
}

impl Partial {
    /// A call that is not told before it is read.
    pub(crate) fn silent() -> Self {
        Self {
            state: State::Silent,
            ..Self::default()
        }
    }

    /// Takes all of the block so far, behind its opening mark.
    pub(crate) fn follow(&mut self, block: &str) -> Vec<Grown> {
        let mut grown = Vec::new();
        if matches!(self.state, State::Head) {
            match head(block) {
                Some((name, at)) => {
                    self.name.clone_from(&name);
                    grown.push(Grown::Name(name));
                    self.state = State::Arguments {
                        at,
                        depth: 0,
                        in_string: false,
                        is_escaped: false,
                    };
                }
                None if block.len() > HEAD => self.state = State::Silent,
                None => {}
            }
        }
        if let Some(more) = self.more(block) {
            self.told.push_str(&more);
            grown.push(Grown::Arguments(more));
        }
        grown
    }

    /// The name and the arguments that were told; none when nothing was.
    pub(crate) fn told(&self) -> Option<(&str, &str)> {
        let is_told = matches!(self.state, State::Arguments { .. } | State::Whole);
        is_told.then_some((self.name.as_str(), self.told.as_str()))
    }

    fn more(&mut self, block: &str) -> Option<String> {
        let State::Arguments {
            at,
            depth,
            in_string,
            is_escaped,
        } = &mut self.state
        else {
            return None;
        };
        let from = *at;
        let mut is_whole = false;
        for byte in block.as_bytes().get(from..)? {
            *at += 1;
            match (*in_string, byte) {
                (true, _) if *is_escaped => *is_escaped = false,
                (true, b'\\') => *is_escaped = true,
                (true, b'"') => *in_string = false,
                (false, b'"') => *in_string = true,
                (false, b'{' | b'[') => *depth += 1,
                (false, b'}' | b']') => {
                    *depth = depth.saturating_sub(1);
                    is_whole = *depth == 0;
                }
                _ => {}
            }
            if is_whole {
                break;
            }
        }
        let more = block.get(from..*at).filter(|more| !more.is_empty());
        let more = more.map(str::to_owned);
        if is_whole {
            self.state = State::Whole;
        }
        more
    }
}

/// `{"name": "..", "arguments": {` at the head of a block: the name, and where the arguments begin.
fn head(block: &str) -> Option<(String, usize)> {
    let rest = expect(block, "{")?;
    let rest = expect(expect(rest, "\"name\"")?, ":")?.trim_start();
    let inner = rest.strip_prefix('"')?;
    let end = inner.find('"')?;
    let name: Value = serde_json::from_str(rest.get(..end + 2)?).ok()?;
    let rest = expect(inner.get(end + 1..)?, ",")?;
    let rest = expect(expect(rest, "\"arguments\"")?, ":")?.trim_start();
    rest.starts_with('{').then(|| {
        (
            name.as_str().unwrap_or_default().to_owned(),
            block.len() - rest.len(),
        )
    })
}

fn expect<'a>(text: &'a str, token: &str) -> Option<&'a str> {
    text.trim_start().strip_prefix(token)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn follow(block: &str) -> (Vec<String>, String) {
        let mut partial = Partial::default();
        let (mut names, mut arguments) = (Vec::new(), String::new());
        for (end, _) in block.char_indices().skip(1).chain([(block.len(), ' ')]) {
            for grown in partial.follow(&block[..end]) {
                match grown {
                    Grown::Name(name) => names.push(name),
                    Grown::Arguments(more) => arguments.push_str(&more),
                }
            }
        }
        if let Some((name, told)) = partial.told() {
            assert_eq!(
                (names.as_slice(), told),
                ([name.to_owned()].as_slice(), arguments.as_str())
            );
        }
        (names, arguments)
    }

    #[test]
    fn strict_calls_grow_letter_by_letter() {
        let arguments = r#"{"a": "x}\"]{", "b": [1, {"c": "花"}]}"#;
        let block = format!("\n{{ \"name\" : \"edit\" ,\"arguments\": {arguments}}}\n");
        assert_eq!(
            follow(&block),
            (vec!["edit".to_owned()], arguments.to_owned())
        );
    }

    #[test]
    fn what_is_not_strict_or_has_another_order_waits() {
        for block in [
            r#"{"arguments": {"a": 1}, "name": "edit"}"#,
            r"{'name': 'edit', 'arguments': {}}",
            r#"{"name": "edit", "arguments": "{}"}"#,
            "<function=edit><parameter=a>1</parameter></function>",
            &format!("{{\"name\": \"{}", "a".repeat(2 * HEAD)),
        ] {
            assert_eq!(follow(block), (Vec::new(), String::new()), "{block}");
        }
    }
}
