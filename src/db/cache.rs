//! Table `response_cache`: answers that are given again to the same question while they are fresh.

use std::fmt;
use std::io::{self, Read};

use rusqlite::{Connection, OptionalExtension, Row, named_params, params};
use serde_json::Value;

use crate::db::error::DbError;

/// Zstandard's fastest regular level, as for bodies.
const LEVEL: i32 = 1;
/// No answer unpacks to more: what a damaged file claims must not take the memory.
const MOST: u64 = 64 << 20;
/// What an answer takes beside its body: its other columns and its places in the indexes.
const OVERHEAD: usize = 256;
/// What goes for one that comes, at most. More is only there when a bound was lowered, and goes piece by piece.
const EVICTED: u32 = 64;

const FIND: &str = "
    SELECT model, provider_id, upstream_model, is_stream, only_asked, created_at, body
      FROM response_cache
     WHERE key = :key AND expires_at > :now";

/// Applied twice it does what once does: a repetition takes nothing back that happened since.
const PUT: &str = "
    INSERT INTO response_cache (key, model, provider_id, upstream_model, is_stream, only_asked, usage, bytes, created_at,
                                expires_at, last_hit_at, body)
    VALUES (:key, :model, :provider_id, :upstream_model, :is_stream, :only_asked, :usage, :bytes, :created_at,
            :expires_at, :created_at, :body)
        ON CONFLICT (key) DO UPDATE
       SET provider_id = excluded.provider_id, upstream_model = excluded.upstream_model,
           is_stream = excluded.is_stream, only_asked = excluded.only_asked, usage = excluded.usage,
           bytes = excluded.bytes, created_at = excluded.created_at, expires_at = excluded.expires_at,
           last_hit_at = max(last_hit_at, excluded.last_hit_at), body = excluded.body";

const HIT: &str = "
    UPDATE response_cache SET hits = hits + 1, last_hit_at = max(last_hit_at, :at) WHERE key = :key";

const CLEAR: &str = "
    DELETE FROM response_cache
     WHERE rowid IN (SELECT rowid FROM response_cache WHERE created_at <= :by LIMIT :most)";

const CLEAR_MODEL: &str = "
    DELETE FROM response_cache
     WHERE rowid IN (SELECT rowid FROM response_cache WHERE model = :model AND created_at <= :by LIMIT :most)";

const HELD: &str = "
    SELECT count(*) AS entries, coalesce(sum(bytes), 0) AS bytes, min(created_at) AS oldest FROM response_cache";

/// By the index alone, which holds no bodies.
const SIZE: &str = "SELECT count(*), coalesce(sum(bytes), 0) FROM response_cache";

/// The first one that is too many when they are counted from the one last hit.
const TOO_MANY: &str = "
    SELECT last_hit_at, id
      FROM (SELECT last_hit_at, rowid AS id, row_number() OVER newest AS number, sum(bytes) OVER newest AS total
              FROM response_cache
            WINDOW newest AS (ORDER BY last_hit_at DESC, rowid DESC ROWS UNBOUNDED PRECEDING))
     WHERE number > :entries OR total > :bytes
     ORDER BY last_hit_at DESC, id DESC
     LIMIT 1";

const EVICT: &str = "
    DELETE FROM response_cache
     WHERE rowid IN (SELECT rowid FROM response_cache
                      WHERE (last_hit_at, rowid) <= (?1, ?2)
                      ORDER BY last_hit_at, rowid LIMIT ?3)";

const COUNT_EVICTED: &str =
    "SELECT count(*) FROM response_cache WHERE (last_hit_at, rowid) <= (?1, ?2)";

const EXPIRE: &str = "
    DELETE FROM response_cache WHERE rowid IN (SELECT rowid FROM response_cache WHERE expires_at <= ?1 LIMIT ?2)";

const COUNT_EXPIRED: &str = "SELECT count(*) FROM response_cache WHERE expires_at <= ?1";

/// What a question is known by.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Key(pub(crate) [u8; 32]);

impl fmt::Debug for Key {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Key")
    }
}

/// How much the cache may hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Bounds {
    pub(crate) entries: i64,
    pub(crate) bytes: i64,
}

/// An answer to be kept. Has no `Debug`: bodies are never logged.
#[derive(Clone)]
pub(crate) struct CacheRow {
    pub(crate) key: Key,
    /// As the client named it; empty for the default.
    pub(crate) model: String,
    pub(crate) provider_id: String,
    pub(crate) upstream_model: String,
    /// Its body is events, and not one document.
    pub(crate) is_stream: bool,
    /// Given to those alone that ask for the cache.
    pub(crate) only_asked: bool,
    /// An `OpenAI` usage object.
    pub(crate) usage: Option<Value>,
    pub(crate) body: PackedAnswer,
    /// Unix time, ms.
    pub(crate) created_at: i64,
    /// Unix time, ms.
    pub(crate) expires_at: i64,
    pub(crate) bounds: Bounds,
}

/// An answer that was kept. Has no `Debug`: bodies are never logged.
pub(crate) struct Kept {
    pub(crate) provider_id: String,
    pub(crate) upstream_model: String,
    pub(crate) is_stream: bool,
    pub(crate) only_asked: bool,
    /// Unix time, ms.
    pub(crate) created_at: i64,
    pub(crate) body: PackedAnswer,
}

/// What the cache holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Held {
    pub(crate) entries: i64,
    pub(crate) bytes: i64,
    /// Unix time, ms, of the oldest answer.
    pub(crate) oldest: Option<i64>,
}

/// The bytes of an answer, packed. Has no `Debug`: bodies are never logged.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct PackedAnswer(Vec<u8>);

impl PackedAnswer {
    /// Takes a few ms per MB, so it is not for the writer's thread.
    pub(crate) fn of(bytes: &[u8]) -> Self {
        // Compression into memory has nothing to fail at.
        Self(zstd::bulk::compress(bytes, LEVEL).unwrap_or_default())
    }

    /// What was packed. Not for a reader's thread either.
    pub(crate) fn unpack(&self) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        zstd::stream::read::Decoder::new(self.0.as_slice())?
            .take(MOST)
            .read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    /// Bytes in memory and in the file.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }
}

/// The answer kept for `key`, unless it has expired at `now` (Unix ms).
pub(crate) fn find(conn: &Connection, key: Key, now: i64) -> Result<Option<Kept>, DbError> {
    let mut statement = conn.prepare_cached(FIND)?;
    let found = statement.query_row(named_params! { ":key": key.0, ":now": now }, kept);
    Ok(found.optional()?)
}

fn kept(row: &Row<'_>) -> rusqlite::Result<Kept> {
    Ok(Kept {
        provider_id: row.get("provider_id")?,
        upstream_model: row.get("upstream_model")?,
        is_stream: row.get("is_stream")?,
        only_asked: row.get("only_asked")?,
        created_at: row.get("created_at")?,
        body: PackedAnswer(row.get("body")?),
    })
}

/// How much there is, expired answers included.
pub(crate) fn held(conn: &Connection) -> Result<Held, DbError> {
    let mut statement = conn.prepare_cached(HELD)?;
    Ok(statement.query_row([], |row| {
        Ok(Held {
            entries: row.get("entries")?,
            bytes: row.get("bytes")?,
            oldest: row.get("oldest")?,
        })
    })?)
}

/// Keeps an answer in place of the one with its key, and drops those least recently hit that are then too many.
pub(super) fn put(conn: &Connection, row: &CacheRow) -> Result<(), DbError> {
    let bytes = i64::try_from(row.body.len() + OVERHEAD).unwrap_or(i64::MAX);
    conn.prepare_cached(PUT)?.execute(named_params! {
        ":key": row.key.0,
        ":model": row.model,
        ":provider_id": row.provider_id,
        ":upstream_model": row.upstream_model,
        ":is_stream": row.is_stream,
        ":only_asked": row.only_asked,
        ":usage": row.usage.as_ref().map(Value::to_string),
        ":bytes": bytes,
        ":created_at": row.created_at,
        ":expires_at": row.expires_at,
        ":body": row.body.0,
    })?;
    if let Some(until) = too_many(conn, row.bounds)? {
        evict(conn, until, EVICTED)?;
    }
    Ok(())
}

/// Counts that an answer was given again.
pub(super) fn hit(conn: &Connection, key: Key, at: i64) -> Result<(), DbError> {
    conn.prepare_cached(HIT)?
        .execute(named_params! { ":key": key.0, ":at": at })?;
    Ok(())
}

/// Drops at most `most` answers that were made by then, of all or of one model as clients name it.
pub(super) fn clear(
    conn: &Connection,
    model: Option<&str>,
    by: i64,
    most: u32,
) -> Result<usize, DbError> {
    let Some(model) = model else {
        let mut statement = conn.prepare_cached(CLEAR)?;
        return Ok(statement.execute(named_params! { ":by": by, ":most": most })?);
    };
    let mut statement = conn.prepare_cached(CLEAR_MODEL)?;
    Ok(statement.execute(named_params! { ":model": model, ":by": by, ":most": most })?)
}

/// The last hit and the number of the most recently hit answer that is too many; all that are older are, too.
pub(super) fn too_many(conn: &Connection, bounds: Bounds) -> Result<Option<(i64, i64)>, DbError> {
    let (entries, bytes): (i64, i64) = conn
        .prepare_cached(SIZE)?
        .query_row([], |row| Ok((row.get(0)?, row.get(1)?)))?;
    if entries <= bounds.entries && bytes <= bounds.bytes {
        return Ok(None);
    }
    let mut statement = conn.prepare_cached(TOO_MANY)?;
    let found = statement.query_row(
        named_params! { ":entries": bounds.entries, ":bytes": bounds.bytes },
        |row| Ok((row.get("last_hit_at")?, row.get("id")?)),
    );
    Ok(found.optional()?)
}

/// Drops at most `most` answers up to this one, the least recently hit first.
pub(super) fn evict(conn: &Connection, (at, id): (i64, i64), most: u32) -> Result<usize, DbError> {
    Ok(conn.prepare_cached(EVICT)?.execute((at, id, most))?)
}

pub(super) fn count_evicted(conn: &Connection, (at, id): (i64, i64)) -> Result<i64, DbError> {
    Ok(conn
        .prepare_cached(COUNT_EVICTED)?
        .query_row(params![at, id], |row| row.get(0))?)
}

/// Drops at most `most` answers that have expired by then.
pub(super) fn expire(conn: &Connection, by: i64, most: u32) -> Result<usize, DbError> {
    Ok(conn.prepare_cached(EXPIRE)?.execute((by, most))?)
}

pub(super) fn count_expired(conn: &Connection, by: i64) -> Result<i64, DbError> {
    Ok(conn
        .prepare_cached(COUNT_EXPIRED)?
        .query_row([by], |row| row.get(0))?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::db::testing;

    const WIDE: Bounds = Bounds {
        entries: 100,
        bytes: 1 << 20,
    };

    fn row(number: u8, at: i64, bounds: Bounds) -> CacheRow {
        CacheRow {
            key: Key([number; 32]),
            model: format!("m{number}"),
            provider_id: "p".into(),
            upstream_model: "m-large".into(),
            is_stream: true,
            only_asked: false,
            usage: None,
            body: PackedAnswer::of(&[number; 100]),
            created_at: at,
            expires_at: at + 100,
            bounds,
        }
    }

    fn there(conn: &Connection) -> Vec<u8> {
        let is_there = |number: &u8| find(conn, Key([*number; 32]), 0).unwrap().is_some();
        (0..10).filter(is_there).collect()
    }

    #[test]
    fn an_answer_is_found_until_it_expires() {
        let conn = testing::database();
        put(&conn, &row(1, 10, WIDE)).unwrap();
        let found = |now| find(&conn, Key([1; 32]), now).unwrap();
        let kept = found(109).unwrap();
        assert_eq!(kept.body.unpack().unwrap(), [1; 100]);
        assert_eq!((kept.created_at, kept.is_stream), (10, true));
        assert!(found(110).is_none());
        assert_eq!(count_expired(&conn, 109).unwrap(), 0);
        assert_eq!(expire(&conn, 110, 5).unwrap(), 1);
        assert_eq!(held(&conn).unwrap(), Held::default());
    }

    #[test]
    fn what_was_hit_last_stays_longest() {
        let conn = testing::database();
        let three = Bounds { entries: 3, ..WIDE };
        for number in 1..=3 {
            put(&conn, &row(number, i64::from(number), three)).unwrap();
        }
        hit(&conn, Key([1; 32]), 50).unwrap();
        put(&conn, &row(4, 51, three)).unwrap();
        assert_eq!(there(&conn), [1, 3, 4]);
        // The bytes count as the number does.
        let each = held(&conn).unwrap().bytes / 3;
        let two = Bounds {
            bytes: each * 5 / 2,
            ..WIDE
        };
        let until = too_many(&conn, two).unwrap().unwrap();
        assert_eq!(count_evicted(&conn, until).unwrap(), 1);
        assert_eq!(evict(&conn, until, 9).unwrap(), 1);
        assert_eq!(there(&conn), [1, 4]);
        assert_eq!(too_many(&conn, two).unwrap(), None);
        let none = Bounds { bytes: 0, ..WIDE };
        put(&conn, &row(5, 60, none)).unwrap();
        assert!(there(&conn).is_empty());
    }

    #[test]
    fn a_new_answer_takes_the_place_and_keeps_the_count() {
        let conn = testing::database();
        put(&conn, &row(1, 10, WIDE)).unwrap();
        hit(&conn, Key([1; 32]), 20).unwrap();
        let newer = CacheRow {
            body: PackedAnswer::of(b"new"),
            is_stream: false,
            ..row(1, 15, WIDE)
        };
        put(&conn, &newer).unwrap();
        let kept = find(&conn, Key([1; 32]), 114).unwrap().unwrap();
        assert_eq!(kept.body.unpack().unwrap(), b"new");
        let counted = "SELECT hits || ' ' || last_hit_at FROM response_cache";
        let counted: String = conn.query_row(counted, [], |row| row.get(0)).unwrap();
        assert_eq!(counted, "1 20");
        put(&conn, &row(2, 10, WIDE)).unwrap();
        assert_eq!(clear(&conn, Some("m2"), 10, 9).unwrap(), 1);
        assert_eq!(clear(&conn, None, 14, 9).unwrap(), 0, "made later");
        assert_eq!(clear(&conn, None, 15, 9).unwrap(), 1);
    }
}
