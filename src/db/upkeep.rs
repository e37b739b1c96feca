//! Work on the file itself, in pieces: pages given back to the disk, the index of words written anew.

use rusqlite::Connection;
use serde::Serialize;
use utoipa::ToSchema;

use crate::db::error::DbError;
use crate::db::fold;

const MERGE: &str = "INSERT INTO history_words (history_words, rank) VALUES ('merge', ?1)";

const EMPTY: &str = "INSERT INTO history_words (history_words) VALUES ('delete-all')";

const WORDS: &str = "SELECT count(*) FROM history_words_docsize";

/// The database file, without its write-ahead log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = DatabaseFile)]
pub(crate) struct FileSize {
    pub(crate) bytes: i64,
    /// Of them, those of pages that hold nothing.
    pub(crate) free_bytes: i64,
}

/// Row of `history_words_data` that says what the index is made of, and the mark of its newer form (`fts5_index.c`).
const STRUCTURE: &str = "SELECT block FROM history_words_data WHERE id = 10";
const COOKIE: usize = 4;
const NEWER: [u8; 4] = [0xff, 0, 0, 1];

/// How many parts the index of words has. There can be 2,000; searching looks into each.
pub(super) fn parts(conn: &Connection) -> Result<u32, DbError> {
    let block: Vec<u8> = conn
        .prepare_cached(STRUCTURE)?
        .query_row([], |row| row.get(0))?;
    let after = block.get(COOKIE..).unwrap_or_default();
    let mut rest = after.strip_prefix(&NEWER).unwrap_or(after);
    let _levels = number(&mut rest);
    Ok(number(&mut rest))
}

/// Empties an index of words that can take no part more, which nothing else mends: retention adds the words again. Merging
/// keeps far from there; files of schema 5 may have come to it.
pub(super) fn relieve(conn: &Connection) -> Result<(), DbError> {
    const TOO_MANY: u32 = 1_900;
    if parts(conn)? >= TOO_MANY {
        tracing::warn!("the index of words was full; it is made anew");
        conn.execute_batch(EMPTY)?;
    }
    Ok(())
}

/// A number of up to 28 bits as `SQLite` writes them, the high ones first, seven to a byte.
fn number(bytes: &mut &[u8]) -> u32 {
    let mut number = 0;
    while let Some((byte, rest)) = bytes.split_first() {
        *bytes = rest;
        number = number << 7 | u32::from(byte & 0x7f);
        if byte & 0x80 == 0 {
            break;
        }
    }
    number
}

/// How many exchanges have words.
pub(crate) fn with_words(conn: &Connection) -> Result<i64, DbError> {
    Ok(conn
        .prepare_cached(WORDS)?
        .query_row([], |row| row.get(0))?)
}

/// The file as this connection sees it.
pub(crate) fn file_size(conn: &Connection) -> Result<FileSize, DbError> {
    let pragma = |name| conn.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
    let page = pragma("page_size")?;
    Ok(FileSize {
        bytes: page * pragma("page_count")?,
        free_bytes: page * pragma("freelist_count")?,
    })
}

/// Work on the file that changes no row, in pieces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Upkeep {
    /// Gives that many free pages back to the disk.
    Shrink { pages: u32 },
    /// Begins to write the index of words anew, without those that were deleted.
    RewriteWords,
    /// Goes on with that, by about so many pages.
    GoOn { pages: u32 },
    /// Merges parts of the index of words, by about so many pages.
    MergeWords { pages: u32 },
    /// Folds the write-ahead log into the file.
    Fold,
    /// Lets the file grow to so many pages only, or as far as it likes again: a full disk, for the self-test.
    Cap { pages: Option<u32> },
}

impl Upkeep {
    /// What kind of work it is, for people.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Shrink { .. } => "shrink the file",
            Self::RewriteWords | Self::GoOn { .. } => "rewrite words",
            Self::MergeWords { .. } => "merge words",
            Self::Fold => "fold the log",
            Self::Cap { .. } => "cap the file",
        }
    }
}

/// Carries out one piece. Returns what is left: bytes that are free, parts of the index, or pages that were written; none when
/// it is done, or cannot be done.
pub(super) fn carry_out(conn: &Connection, upkeep: Upkeep) -> Result<Option<i64>, DbError> {
    match upkeep {
        Upkeep::Shrink { pages } => shrink(conn, pages),
        Upkeep::RewriteWords => merge(conn, -1),
        Upkeep::GoOn { pages } => merge(conn, i64::from(pages)),
        Upkeep::MergeWords { pages } => match merge(conn, i64::from(pages))? {
            Some(_) => parts(conn).map(|parts| Some(parts.into())),
            None => Ok(None),
        },
        Upkeep::Fold => fold::fold(conn).map(|log| Some(log.frames - log.folded)),
        Upkeep::Cap { pages } => cap(conn, pages),
    }
}

/// Of this connection only: it ends with it.
fn cap(conn: &Connection, pages: Option<u32>) -> Result<Option<i64>, DbError> {
    /// As many as there can be (<https://sqlite.org/limits.html>).
    const MOST: u32 = 4_294_967_294;
    let pages = pages.unwrap_or(MOST);
    let allowed = conn.query_row(&format!("PRAGMA max_page_count = {pages}"), [], |row| {
        row.get(0)
    })?;
    Ok(Some(allowed))
}

fn merge(conn: &Connection, pages: i64) -> Result<Option<i64>, DbError> {
    const IDLE: u64 = 2;
    let before = conn.total_changes();
    conn.prepare_cached(MERGE)?.execute([pages])?;
    // With nothing to do it changes less than two rows (https://sqlite.org/fts5.html, 6.8).
    let changed = conn.total_changes().saturating_sub(before);
    Ok((changed >= IDLE).then(|| i64::try_from(changed).unwrap_or(i64::MAX)))
}

/// Gives up to `pages` free pages back to the disk. Returns how many bytes are left free; none when the file was made
/// without the means.
fn shrink(conn: &Connection, pages: u32) -> Result<Option<i64>, DbError> {
    const INCREMENTAL: i64 = 2;
    let kind: i64 = conn.pragma_query_value(None, "auto_vacuum", |row| row.get(0))?;
    if kind != INCREMENTAL {
        return Ok(None);
    }
    // Each step of it gives one page back, so it has to be read to its end.
    let mut statement = conn.prepare(&format!("PRAGMA incremental_vacuum({pages})"))?;
    let mut steps = statement.query([])?;
    while steps.next()?.is_some() {}
    Ok(Some(file_size(conn)?.free_bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::db::history;
    use crate::db::testing::{self, sample_outcome, sample_request};

    #[test]
    fn free_pages_are_given_back_as_many_as_asked_for() {
        let dir = tempfile::tempdir().unwrap();
        let conn = Connection::open(dir.path().join("f.db")).unwrap();
        conn.execute_batch(
            "PRAGMA auto_vacuum = INCREMENTAL;
             CREATE TABLE t (b BLOB) STRICT;
             INSERT INTO t VALUES (zeroblob(400000));
             DELETE FROM t;",
        )
        .unwrap();
        let before = file_size(&conn).unwrap();
        assert!(before.free_bytes > 300_000);
        let shrink = |conn: &Connection, pages| carry_out(conn, Upkeep::Shrink { pages });
        let left = shrink(&conn, 10).unwrap().unwrap();
        assert_eq!(left, before.free_bytes - 10 * 4_096);
        assert_eq!(shrink(&conn, 1_000).unwrap(), Some(0));
        assert!(file_size(&conn).unwrap().bytes < before.bytes - 300_000);
        let rigid = Connection::open_in_memory().unwrap();
        assert_eq!(shrink(&rigid, 10).unwrap(), None);
    }

    #[test]
    fn the_index_is_rewritten_without_what_was_deleted() {
        let conn = testing::database();
        for number in 1..=10 {
            let request = sample_request(&format!("r{number}"));
            history::finish(&conn, &request, &sample_outcome(&format!("a{number}"))).unwrap();
        }
        let bytes = || {
            let sum = "SELECT sum(length(block)) FROM history_words_data WHERE id > 10";
            conn.query_row(sum, [], |row| row.get::<_, i64>(0)).unwrap()
        };
        let before = bytes();
        conn.execute("DELETE FROM requests WHERE id <= 5", [])
            .unwrap();
        assert!(carry_out(&conn, Upkeep::RewriteWords).unwrap().is_some());
        while carry_out(&conn, Upkeep::GoOn { pages: 1 })
            .unwrap()
            .is_some()
        {}
        assert!(bytes() < before * 3 / 4, "{before} {}", bytes());
        assert_eq!(with_words(&conn).unwrap(), 5);
        let found = "SELECT count(*) FROM history_words WHERE history_words MATCH '000000answered'";
        let found: i64 = conn.query_row(found, [], |row| row.get(0)).unwrap();
        assert_eq!(found, 5);
    }
}
