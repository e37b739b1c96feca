//! Table `history_words`: which exchange has which words, and how people ask for them.
//!
//! The texts themselves are in the bodies; a snippet is cut from there.
//!
//! Each word is stored behind the number of its exchange's bucket, and asked for in each bucket by itself. The index goes on
//! with other work only between two words, so a word that every exchange has would else hold the database for as long as the
//! history is; and it keeps words in order, so what is outlived lies together.

use rusqlite::{Connection, OptionalExtension};

use crate::db::body;
use crate::db::error::DbError;
use crate::protocol::openai::texts;

const PUT: &str =
    "INSERT OR REPLACE INTO history_words (rowid, prompt, answer) VALUES (?1, ?2, ?3)";

const REMOVE: &str = "DELETE FROM history_words WHERE rowid = ?1";

const IS_KNOWN: &str = "SELECT 1 FROM history_words_docsize WHERE id = ?1";

/// What is there, and has no words yet: an exchange that ended meanwhile knows better. Asked for by itself, since the index
/// writes a part at each statement that takes rows from another one.
const LACKS: &str = "
    SELECT 1 FROM requests
     WHERE id = ?1 AND bodies_dropped = 0
       AND NOT EXISTS (SELECT 1 FROM history_words_docsize WHERE id = ?1)";

const WITHOUT: &str = "
    SELECT q.id AS id, q.openai_request AS openai_request, r.openai_response AS openai_response
      FROM requests q
      LEFT JOIN responses r ON r.request_id = q.id
     WHERE q.id > ?1 AND q.bodies_dropped = 0 AND q.status <> 'in_progress'
       AND NOT EXISTS (SELECT 1 FROM history_words_docsize d WHERE d.id = q.id)
     ORDER BY q.id";

const BODIES: &str = "
    SELECT q.openai_request AS openai_request, r.openai_response AS openai_response
      FROM requests q
      LEFT JOIN responses r ON r.request_id = q.id
     WHERE q.id = ?1";

/// Exchanges whose words lie together: what one word of theirs takes to be copied is some ms, even when all have it often.
const BUCKET: i64 = 4_096;

/// Stands for the bucket in an expression. In a text it parts words, as a blank does.
const MARK: char = '\u{1}';

/// The exchanges that have what a [`Query`] asks for; `?` is its expression. In each bucket by itself.
pub(super) const SAID: &str = "
    requests.id IN (
      WITH RECURSIVE buckets (number) AS (
           SELECT min(id) / 4096 FROM requests
            UNION ALL
           SELECT number + 1 FROM buckets WHERE number < (SELECT max(id) / 4096 FROM requests))
    SELECT words.rowid
      FROM buckets CROSS JOIN history_words AS words
        ON words.history_words MATCH replace(?, char(1), printf('%06x', number)))";

/// Characters of a snippet before the word that was found, and in all.
const BEFORE: usize = 60;
const SNIPPET: usize = 200;

/// The words of one exchange. Has no `Debug`: bodies are never logged.
#[derive(Clone)]
pub(crate) struct WordsRow {
    pub(crate) id: i64,
    pub(crate) prompt: String,
    pub(crate) answer: String,
}

/// What somebody looks for: all of some words and phrases.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Query {
    /// In the index's own syntax, made of quoted strings alone, with [`MARK`] for the bucket.
    expression: String,
    /// The beginnings of what is looked for, in small letters.
    marks: Vec<String>,
}

/// Whether the last word of a term may go on.
#[derive(Clone, Copy)]
enum End {
    Whole,
    Open,
}

impl Query {
    /// Reads words, `"phrases"` and `beginnings*`. None when there is not one word in it. Nothing else has a meaning:
    /// whatever is not part of a word only parts words.
    pub(crate) fn read(text: &str) -> Option<Self> {
        let mut query = Self {
            expression: String::new(),
            marks: Vec::new(),
        };
        // What stands at an odd place stands between quotes; a last one that is not closed counts as closed.
        let parts: Vec<&str> = text.split('"').collect();
        for (place, part) in parts.iter().enumerate() {
            if place % 2 == 1 {
                let next = parts.get(place + 1).copied().unwrap_or_default();
                let stars = part.ends_with('*') || next.starts_with('*');
                query.add(part, if stars { End::Open } else { End::Whole });
            } else {
                for word in part.split_whitespace() {
                    let stars = word.ends_with('*');
                    query.add(word, if stars { End::Open } else { End::Whole });
                }
            }
        }
        (!query.marks.is_empty()).then_some(query)
    }

    /// Adds one string of the index's syntax, which it takes apart as it took the texts apart.
    fn add(&mut self, term: &str, end: End) {
        let Some((_, first)) = words(term).next() else {
            return;
        };
        self.marks.push(first.to_lowercase());
        if !self.expression.is_empty() {
            self.expression.push_str(" AND ");
        }
        self.expression.push('"');
        // No quote is in it, so nothing leaves its string; a zero byte would end the whole expression.
        let mark = MARK.encode_utf8(&mut [0; 4]).to_owned();
        self.expression
            .push_str(&marked(term, &mark).replace('\0', " "));
        self.expression.push_str(match end {
            End::Whole => "\"",
            End::Open => "\" *",
        });
    }

    pub(super) fn expression(&self) -> &str {
        &self.expression
    }

    /// The place in `text` where the first of what is looked for stands, with what is around it.
    fn snippet(&self, text: &str) -> Option<String> {
        let at = words(text)
            .find(|(_, word)| {
                let word = word.to_lowercase();
                // Without blanks between words one stands within another.
                let is_in = |mark: &String| {
                    word.starts_with(mark) || (!mark.is_ascii() && word.contains(mark.as_str()))
                };
                self.marks.iter().any(is_in)
            })
            .map(|(at, _)| at)?;
        Some(cut(text, at))
    }
}

/// The words of `text` and where they begin.
fn words(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.split(|character: char| !character.is_alphanumeric())
        .filter(|word| !word.is_empty())
        // Where a part of a text begins in it is the distance of their addresses.
        .map(move |word| (word.as_ptr().addr() - text.as_ptr().addr(), word))
}

/// What is around the place `at` of `text`, on one line.
fn cut(text: &str, at: usize) -> String {
    let (before, after) = text.split_at_checked(at).unwrap_or((text, ""));
    let start = before
        .char_indices()
        .rev()
        .nth(BEFORE - 1)
        .map_or(0, |(start, _)| start);
    let mut snippet = String::new();
    if start > 0 {
        snippet.push('…');
    }
    let around = before.get(start..).unwrap_or_default().chars();
    let mut characters = around.chain(after.chars());
    for character in characters.by_ref().take(SNIPPET) {
        snippet.push(if character.is_control() {
            ' '
        } else {
            character
        });
    }
    if characters.next().is_some() {
        snippet.push('…');
    }
    snippet
}

/// The text with `mark` at the beginning of each word. Chinese, Japanese and Korean texts have no blanks between words: each
/// character is made a word, and what is asked for in them a phrase.
fn marked(text: &str, mark: &str) -> String {
    let mut marked = String::with_capacity(text.len() * 2);
    let mut is_within = false;
    for character in text.chars() {
        match character {
            '\u{3040}'..='\u{30ff}'
            | '\u{3400}'..='\u{4dbf}'
            | '\u{4e00}'..='\u{9fff}'
            | '\u{ac00}'..='\u{d7af}'
            | '\u{f900}'..='\u{faff}'
            | '\u{20000}'..='\u{3134f}' => {
                marked.push(' ');
                marked.push_str(mark);
                marked.extend([character, ' ']);
                is_within = false;
            }
            MARK => {
                marked.push(' ');
                is_within = false;
            }
            // An accent of its own is part of the letter before it.
            '\u{300}'..='\u{36f}' if is_within => marked.push(character),
            _ => {
                let is_letter = character.is_alphanumeric();
                if is_letter && !is_within {
                    marked.push_str(mark);
                }
                marked.push(character);
                is_within = is_letter;
            }
        }
    }
    marked
}

/// What stands before each word of the exchange `id`: as long for all of them.
fn bucket(id: i64) -> String {
    format!("{:06x}", id / BUCKET)
}

/// Puts the words of the exchange `id` in the place of those it had.
pub(in crate::db) fn put(
    conn: &Connection,
    id: i64,
    prompt: &str,
    answer: &str,
) -> Result<(), DbError> {
    let bucket = bucket(id);
    conn.prepare_cached(PUT)?
        .execute((id, marked(prompt, &bucket), marked(answer, &bucket)))?;
    Ok(())
}

/// Takes the words of the exchange `id` out.
pub(in crate::db) fn remove(conn: &Connection, id: i64) -> Result<(), DbError> {
    conn.prepare_cached(REMOVE)?.execute([id])?;
    Ok(())
}

/// The answer of the exchange `id` is gone, and its words with it.
pub(super) fn remove_answer(conn: &Connection, id: i64) -> Result<(), DbError> {
    if conn.prepare_cached(IS_KNOWN)?.exists([id])? {
        let (prompt, _, _) = texts_of(conn, id)?;
        put(conn, id, &prompt, "")?;
    }
    Ok(())
}

/// Adds words that were missing.
pub(in crate::db) fn add(conn: &Connection, rows: &[WordsRow]) -> Result<usize, DbError> {
    let mut lacks = conn.prepare_cached(LACKS)?;
    let mut added = 0;
    for row in rows {
        if lacks.exists([row.id])? {
            put(conn, row.id, &row.prompt, &row.answer)?;
            added += 1;
        }
    }
    Ok(added)
}

/// Ended exchanges after `after` whose words are missing, until their texts come to `most` bytes.
pub(crate) fn without(
    conn: &Connection,
    after: i64,
    most: usize,
) -> Result<Vec<WordsRow>, DbError> {
    let mut statement = conn.prepare_cached(WITHOUT)?;
    let mut rows = statement.query([after])?;
    let (mut found, mut bytes) = (Vec::new(), 0);
    while bytes < most
        && let Some(row) = rows.next()?
    {
        let prompt = body::text(row, "openai_request")?.unwrap_or_default();
        let answer = body::text(row, "openai_response")?.unwrap_or_default();
        let words = WordsRow {
            id: row.get("id")?,
            prompt: texts::of_request(&prompt),
            answer: texts::of_answer(&answer),
        };
        // Also an exchange without a word takes a row.
        bytes += 64 + words.prompt.len() + words.answer.len();
        found.push(words);
    }
    Ok(found)
}

/// Where the exchange `id` says what is looked for, and how many bytes had to be read for that.
pub(super) fn snippet(
    conn: &Connection,
    id: i64,
    query: &Query,
) -> Result<(Option<String>, usize), DbError> {
    let (prompt, answer, read) = texts_of(conn, id)?;
    let found = query.snippet(&prompt).or_else(|| query.snippet(&answer));
    // The index also takes letters for each other that differ in their accents.
    let begins = || [prompt, answer].into_iter().find(|text| !text.is_empty());
    Ok((found.or_else(|| begins().map(|text| cut(&text, 0))), read))
}

fn texts_of(conn: &Connection, id: i64) -> Result<(String, String, usize), DbError> {
    let found = conn
        .prepare_cached(BODIES)?
        .query_row([id], |row| {
            Ok((
                body::text(row, "openai_request")?.unwrap_or_default(),
                body::text(row, "openai_response")?.unwrap_or_default(),
            ))
        })
        .optional()?;
    let (asked, answered) = found.unwrap_or_default();
    let read = asked.len() + answered.len();
    Ok((texts::of_request(&asked), texts::of_answer(&answered), read))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::db::testing;

    fn expression(text: &str) -> Option<String> {
        Query::read(text).map(|query| query.expression.replace(MARK, "~"))
    }

    /// Which exchanges say what is asked.
    fn found(conn: &Connection, asked: &str) -> Vec<i64> {
        let sql = format!("SELECT id FROM requests WHERE {SAID} ORDER BY id");
        let query = Query::read(asked).unwrap();
        let mut statement = conn.prepare(&sql).unwrap();
        let rows = statement.query_map([query.expression()], |row| row.get(0));
        rows.unwrap().map(Result::unwrap).collect()
    }

    fn with_words(texts: &[(i64, &str)]) -> Connection {
        let conn = testing::database();
        for (id, text) in texts {
            conn.execute(
                "INSERT INTO requests (id, request_id, timestamp, method, path, openai_request, model, stream, created_at)
                 VALUES (?1, ?1, 5, 'POST', '/p', '{}', 'm', 1, 5)",
                [id],
            )
            .unwrap();
            put(&conn, *id, text, "").unwrap();
        }
        conn
    }

    #[test]
    fn words_are_found_in_every_bucket_and_only_whole() {
        let all = [1, BUCKET - 1, BUCKET, 3 * BUCKET + 7];
        let conn = with_words(&all.map(|id| (id, "Say hello-world again, 12 times")));
        for asked in ["hello", "HELLO world", "\"hello world\"", "wor*", "12"] {
            assert_eq!(found(&conn, asked), all, "{asked}");
        }
        for asked in [
            "ello",
            "worl",
            "000001hello",
            "000001",
            "\"world hello\"",
            "1",
        ] {
            assert_eq!(found(&conn, asked), [0; 0], "{asked}");
        }
        remove(&conn, BUCKET).unwrap();
        assert_eq!(found(&conn, "hello"), [1, BUCKET - 1, 3 * BUCKET + 7]);
    }

    #[test]
    fn letters_and_their_accents_are_one_however_they_are_written() {
        let conn = with_words(&[
            (1, "\u{e9}t\u{e9}"),
            (2, "e\u{301}te\u{301}"),
            (3, "ete"),
            (4, "天气很好"),
        ]);
        for asked in ["\u{e9}t\u{e9}", "e\u{301}te\u{301}", "ete", "et*"] {
            assert_eq!(found(&conn, asked), [1, 2, 3], "{asked}");
        }
        assert_eq!(found(&conn, "气很"), [4]);
        assert_eq!(found(&conn, "气好"), [0; 0]);
    }

    #[test]
    fn a_bucket_is_as_large_as_the_question_takes_it_for() {
        assert_eq!(SAID.matches(&format!("id) / {BUCKET}")).count(), 2);
        assert_eq!(bucket(BUCKET * 0x1_0000), "010000");
    }

    #[test]
    fn words_phrases_and_beginnings_are_read_and_nothing_else() {
        for (asked, read) in [
            ("one two", r#""~one" AND "~two""#),
            (
                r#"say "one  two" three"#,
                r#""~say" AND "~one  ~two" AND "~three""#,
            ),
            ("begin*", r#""~begin*" *"#),
            (r#""one tw"* x"#, r#""~one ~tw" * AND "~x""#),
            (r#""one tw*"#, r#""~one ~tw*" *"#),
            ("foo-bar_baz", r#""~foo-~bar_~baz""#),
            ("a OR NOT b", r#""~a" AND "~OR" AND "~NOT" AND "~b""#),
            ("prompt:x {answer}:y", r#""~prompt:~x" AND "{~answer}:~y""#),
            ("天气*", r#"" ~天  ~气 *" *"#),
        ] {
            assert_eq!(expression(asked).as_deref(), Some(read), "{asked}");
        }
        for nothing in ["", "  ", "\"", "\"\"", "***", "- ' ( ) ^ +", "\u{0}"] {
            assert_eq!(expression(nothing), None, "{nothing:?}");
        }
    }

    #[test]
    fn a_snippet_shows_the_word_and_what_is_around_it() {
        let query = Query::read("needle").unwrap();
        let long = format!("{} a Needle\n{}", "hay ".repeat(100), "straw ".repeat(100));
        let snippet = query.snippet(&long).unwrap();
        assert!(
            snippet.starts_with('…') && snippet.ends_with('…') && snippet.contains("a Needle "),
            "{snippet}"
        );
        assert!(snippet.chars().count() <= SNIPPET + 2);
        assert_eq!(query.snippet("the needle").unwrap(), "the needle");
        assert_eq!(query.snippet("a pin"), None);
        let query = Query::read("很好").unwrap();
        assert_eq!(query.snippet("天气很好").unwrap(), "天气很好");
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

        #[test]
        fn whatever_is_asked_the_index_takes_it(asked in "[a-z0-9äß天\u{301}\"*(){}:^+' \\-]{0,40}|\\PC{0,40}", said in any::<String>()) {
            let conn = testing::database();
            put(&conn, 1, &said, "").unwrap();
            if let Some(query) = Query::read(&asked) {
                let count: i64 = conn
                    .query_row("SELECT count(*) FROM history_words WHERE history_words MATCH ?1", [query.expression.replace(MARK, &bucket(1))], |row| row.get(0))
                    .unwrap();
                prop_assert!(count <= 1);
                query.snippet(&said);
            }
        }
    }
}
