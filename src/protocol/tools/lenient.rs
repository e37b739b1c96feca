//! Mends the JSON that models write when they are careless; only for a block that has closed.
//!
//! The result is text, not a value: key order and the digits of numbers stay as they were written.

use serde_json::Number;

/// Deeper nesting than this is not a tool's arguments.
const DEPTH: usize = 100;

/// Whether braces missing at the very end may be supplied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    /// The text must close what it opened.
    Whole,
    /// The block was closed by its mark, so a forgotten brace is harmless.
    Forgiving,
}

/// Reads one value and returns it as strict JSON: single quotes, trailing commas, bare keys, raw line breaks and
/// unescaped quotes in strings are forgiven, and stray closing braces or code fences around it are passed over.
pub(super) fn mend(text: &str, ending: Ending) -> Option<String> {
    let (mended, rest) = mend_first(text, ending)?;
    rest.chars()
        .all(|c| c.is_whitespace() || matches!(c, '}' | ']' | ';' | '`'))
        .then_some(mended)
}

/// Like `mend` for the first of several values; returns what follows it, too.
pub(super) fn mend_first(text: &str, ending: Ending) -> Option<(String, &str)> {
    let mut reader = Reader {
        text,
        at: 0,
        ending,
        out: String::new(),
    };
    reader.fence();
    reader.value(0, Place::Alone)?;
    reader.blank();
    Some((reader.out, text.get(reader.at..)?))
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
    ending: Ending,
    out: String,
}

/// Where a string stands decides what may follow its closing quote.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Key,
    Member,
    Item,
    Alone,
}

impl<'a> Reader<'a> {
    fn value(&mut self, depth: usize, place: Place) -> Option<()> {
        if depth > DEPTH {
            return None;
        }
        self.blank();
        match self.peek()? {
            b'{' => self.object(depth),
            b'[' => self.array(depth),
            quote @ (b'"' | b'\'') => self.string(quote, place),
            _ => self.word(),
        }
    }

    fn object(&mut self, depth: usize) -> Option<()> {
        self.at += 1;
        self.out.push('{');
        let mut is_first = true;
        loop {
            self.blank();
            match self.peek() {
                None => return self.forgiven('}'),
                Some(b'}') => return self.close('}'),
                Some(b',') => self.at += 1,
                Some(next) => {
                    self.comma(&mut is_first);
                    if matches!(next, b'"' | b'\'') {
                        self.string(next, Place::Key)?;
                    } else {
                        let key = self.bare()?;
                        self.quoted(key)?;
                    }
                    self.member(depth)?;
                }
            }
        }
    }

    fn member(&mut self, depth: usize) -> Option<()> {
        self.blank();
        if self.peek()? != b':' {
            return None;
        }
        self.at += 1;
        self.out.push(':');
        self.value(depth + 1, Place::Member)?;
        self.separated(b'}')
    }

    fn array(&mut self, depth: usize) -> Option<()> {
        self.at += 1;
        self.out.push('[');
        let mut is_first = true;
        loop {
            self.blank();
            match self.peek() {
                None => return self.forgiven(']'),
                Some(b']') => return self.close(']'),
                Some(b',') => self.at += 1,
                Some(_) => {
                    self.comma(&mut is_first);
                    self.value(depth + 1, Place::Item)?;
                    self.separated(b']')?;
                }
            }
        }
    }

    fn comma(&mut self, is_first: &mut bool) {
        if !std::mem::replace(is_first, false) {
            self.out.push(',');
        }
    }

    #[expect(clippy::unnecessary_wraps, reason = "the last step of fallible ones")]
    fn close(&mut self, bracket: char) -> Option<()> {
        self.at += 1;
        self.out.push(bracket);
        Some(())
    }

    fn quoted(&mut self, text: &str) -> Option<()> {
        self.out.push_str(&serde_json::to_string(text).ok()?);
        Some(())
    }

    /// After a member or an item: a comma, the end, or nothing more.
    fn separated(&mut self, end: u8) -> Option<()> {
        self.blank();
        match self.peek() {
            Some(b',') | None => Some(()),
            Some(byte) if byte == end => Some(()),
            Some(_) => None,
        }
    }

    fn forgiven(&mut self, bracket: char) -> Option<()> {
        if self.ending == Ending::Whole {
            return None;
        }
        self.out.push(bracket);
        Some(())
    }

    fn string(&mut self, quote: u8, place: Place) -> Option<()> {
        self.at += 1;
        let mut content = String::new();
        let mut from = self.at;
        loop {
            let byte = self.peek()?;
            if byte == b'\\' {
                content.push_str(self.text.get(from..self.at)?);
                self.at += 1;
                self.escape(&mut content)?;
                from = self.at;
            } else if byte == quote && self.ends(self.at + 1, place) {
                content.push_str(self.text.get(from..self.at)?);
                self.at += 1;
                return self.quoted(&content);
            } else {
                self.at += 1;
            }
        }
    }

    /// Whether the quote before `at` closes its string, judged by what follows.
    fn ends(&self, at: usize, place: Place) -> bool {
        let after = self.skip(at);
        match (place, self.byte(after)) {
            (_, None) => true,
            (Place::Key, next) => next == Some(b':'),
            (Place::Member, Some(b',')) => self.key_follows(self.skip(after + 1)),
            (Place::Member, Some(b'}')) | (Place::Item, Some(b']')) => {
                matches!(
                    self.byte(self.skip(after + 1)),
                    None | Some(b'}' | b']' | b',' | b'`')
                )
            }
            (Place::Item, Some(b',')) => {
                let next = self.byte(self.skip(after + 1));
                next.is_none_or(|b| {
                    matches!(
                        b,
                        b'"' | b'\'' | b'{' | b'[' | b']' | b'-' | b't' | b'f' | b'n'
                    ) || b.is_ascii_digit()
                })
            }
            _ => false,
        }
    }

    /// A quoted or bare key and its colon, or the end after a trailing comma.
    fn key_follows(&self, at: usize) -> bool {
        let rest = self.text.get(at..).unwrap_or_default();
        let Some(first) = rest.bytes().next() else {
            return true;
        };
        match first {
            b'}' => true,
            b'"' | b'\'' => {
                let inner = rest.get(1..).unwrap_or_default();
                // A key longer than this is none, and a longer look ahead would not be linear.
                let end = inner.bytes().take(128).position(|byte| byte == first);
                end.is_some_and(|end| self.byte(self.skip(at + end + 2)) == Some(b':'))
            }
            _ => {
                let end = rest.bytes().take(128).position(|byte| {
                    !(byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'))
                });
                end.is_some_and(|end| end > 0 && self.byte(self.skip(at + end)) == Some(b':'))
            }
        }
    }

    fn escape(&mut self, out: &mut String) -> Option<()> {
        let next = self.text.get(self.at..)?.chars().next()?;
        self.at += next.len_utf8();
        match next {
            'n' => out.push('\n'),
            't' => out.push('\t'),
            'r' => out.push('\r'),
            'b' => out.push('\u{8}'),
            'f' => out.push('\u{c}'),
            '"' | '\'' | '\\' | '/' => out.push(next),
            'u' => {
                let Some(first) = self.hex() else {
                    out.push_str("\\u");
                    return Some(());
                };
                out.push(self.scalar(first));
            }
            // `\d` and the like: the model forgot to double it.
            other => {
                out.push('\\');
                out.push(other);
            }
        }
        Some(())
    }

    fn scalar(&mut self, first: u32) -> char {
        if (0xD800..0xDC00).contains(&first) && self.text.get(self.at..self.at + 2) == Some("\\u") {
            let before = self.at;
            self.at += 2;
            if let Some(second) = self
                .hex()
                .filter(|second| (0xDC00..0xE000).contains(second))
            {
                return char::from_u32(0x1_0000 + ((first - 0xD800) << 10) + (second - 0xDC00))
                    .unwrap_or('\u{FFFD}');
            }
            self.at = before;
        }
        char::from_u32(first).unwrap_or('\u{FFFD}')
    }

    fn hex(&mut self) -> Option<u32> {
        let digits = self.text.get(self.at..self.at + 4)?;
        if !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return None;
        }
        self.at += 4;
        u32::from_str_radix(digits, 16).ok()
    }

    fn bare(&mut self) -> Option<&'a str> {
        let text = self.text;
        let rest = text.get(self.at..)?;
        let is_part = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '$' | '.' | '+');
        let end = rest.find(|c| !is_part(c)).unwrap_or(rest.len());
        let word = rest.get(..end).filter(|word| !word.is_empty())?;
        self.at += end;
        Some(word)
    }

    fn word(&mut self) -> Option<()> {
        let word = match self.bare()? {
            "true" | "True" => "true",
            "false" | "False" => "false",
            "null" | "None" | "undefined" => "null",
            number => {
                number.parse::<Number>().ok()?;
                number
            }
        };
        self.out.push_str(word);
        Some(())
    }

    fn fence(&mut self) {
        self.blank();
        if let Some(rest) = self
            .text
            .get(self.at..)
            .and_then(|rest| rest.strip_prefix("```"))
        {
            let word = rest.bytes().take_while(u8::is_ascii_alphanumeric).count();
            self.at += 3 + word;
        }
    }

    fn peek(&self) -> Option<u8> {
        self.byte(self.at)
    }

    fn byte(&self, at: usize) -> Option<u8> {
        self.text.as_bytes().get(at).copied()
    }

    fn blank(&mut self) {
        self.at = self.skip(self.at);
    }

    fn skip(&self, at: usize) -> usize {
        let rest = self.text.as_bytes().get(at..).unwrap_or_default();
        at + rest
            .iter()
            .take_while(|byte| byte.is_ascii_whitespace())
            .count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn value_of(text: &str) -> Option<Value> {
        serde_json::from_str(&mend(text, Ending::Forgiving)?).ok()
    }

    #[test]
    fn forgives_what_models_write() {
        for (text, value) in [
            (
                "{'a': 'it's', 'b': [1, 2,],}",
                json!({"a": "it's", "b": [1, 2]}),
            ),
            (
                "{\"a\": \"one\ntwo\tthree\"}",
                json!({"a": "one\ntwo\tthree"}),
            ),
            (
                r#"{"a": "say "hi" to "x", "y" now", "b": 1}"#,
                json!({"a": "say \"hi\" to \"x\", \"y\" now", "b": 1}),
            ),
            (
                r#"{"a": "let v = {"x": "y"};", "b": "c"}"#,
                json!({"a": "let v = {\"x\": \"y\"};", "b": "c"}),
            ),
            (
                r"{a: True, b_c: None, d: -1.5e3}",
                json!({"a": true, "b_c": null, "d": -1.5e3}),
            ),
            (
                r#"{"a": "\d+ \u0041\ud83d\ude00 \u12"}"#,
                json!({"a": "\\d+ A😀 \\u12"}),
            ),
            ("```json\n{\"a\": 1}\n```", json!({"a": 1})),
            (r#"{"a": {"b": 1}}}"#, json!({"a": {"b": 1}})),
            (r#"{"a": {"b": [1"#, json!({"a": {"b": [1]}})),
        ] {
            assert_eq!(value_of(text), Some(value), "{text}");
        }
    }

    #[test]
    fn refuses_what_is_not_whole() {
        assert_eq!(mend(r#"{"a": {"b": 1}"#, Ending::Whole), None);
        assert_eq!(mend(r#"{"a": "cut here"#, Ending::Forgiving), None);
        assert_eq!(mend(r#"{"a" 1}"#, Ending::Forgiving), None);
        assert_eq!(mend("{} and prose", Ending::Forgiving), None);
        assert_eq!(mend(&"[".repeat(100_000), Ending::Forgiving), None);
        assert_eq!(mend("", Ending::Forgiving), None);
    }

    #[test]
    fn order_and_digits_stay_as_written() {
        assert_eq!(
            mend("{z: 1.0, 'a': 12345678901234567890123,}", Ending::Whole).unwrap(),
            r#"{"z":1.0,"a":12345678901234567890123}"#
        );
    }

    #[test]
    fn several_values_are_read_one_after_the_other() {
        let (first, rest) = mend_first("{a: 1}\n{b: 2}", Ending::Whole).unwrap();
        assert_eq!((first.as_str(), rest), (r#"{"a":1}"#, "{b: 2}"));
    }
}
