//! Table `idempotency_keys`: answers to management requests that may come again.

use rusqlite::{Connection, OptionalExtension, named_params};

use crate::db::error::DbError;

/// How long an answer is kept.
pub(super) const KEPT_MS: i64 = 24 * 3_600_000;

const FIND: &str = "
    SELECT key, method, path, body_hash, status, location, body, created_at
      FROM idempotency_keys
     WHERE key = :key AND method = :method AND path = :path AND created_at > :oldest";

const PUT: &str = "
    INSERT INTO idempotency_keys (key, method, path, body_hash, status, location, body, created_at)
    VALUES (:key, :method, :path, :body_hash, :status, :location, :body, :at)
        ON CONFLICT (key, method, path) DO UPDATE
       SET body_hash = excluded.body_hash, status = excluded.status,
           location = excluded.location, body = excluded.body, created_at = excluded.created_at";

const PRUNE: &str = "DELETE FROM idempotency_keys WHERE created_at <= ?1";

/// An answer that is given again when its request comes again.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct KeptAnswer {
    pub(crate) key: String,
    pub(crate) method: String,
    pub(crate) path: String,
    /// Hex of the request's body.
    pub(crate) body_hash: String,
    pub(crate) status: u16,
    /// The header of that name.
    pub(crate) location: Option<String>,
    pub(crate) body: String,
    /// Unix time, ms.
    pub(crate) at: i64,
}

/// The answer kept under `key` for this method and path, if it is not older than a day at `now` (Unix ms).
pub(crate) fn find(
    conn: &Connection,
    key: &str,
    method: &str,
    path: &str,
    now: i64,
) -> Result<Option<KeptAnswer>, DbError> {
    let mut statement = conn.prepare_cached(FIND)?;
    let row = statement.query_row(
        named_params! { ":key": key, ":method": method, ":path": path, ":oldest": now - KEPT_MS },
        |row| {
            Ok(KeptAnswer {
                key: row.get("key")?,
                method: row.get("method")?,
                path: row.get("path")?,
                body_hash: row.get("body_hash")?,
                status: row.get("status")?,
                location: row.get("location")?,
                body: row.get("body")?,
                at: row.get("created_at")?,
            })
        },
    );
    Ok(row.optional()?)
}

/// Keeps an answer, and drops those that are too old.
pub(super) fn put(conn: &Connection, answer: &KeptAnswer) -> Result<(), DbError> {
    conn.prepare_cached(PRUNE)?.execute([answer.at - KEPT_MS])?;
    conn.prepare_cached(PUT)?.execute(named_params! {
        ":key": answer.key,
        ":method": answer.method,
        ":path": answer.path,
        ":body_hash": answer.body_hash,
        ":status": answer.status,
        ":location": answer.location,
        ":body": answer.body,
        ":at": answer.at,
    })?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::db::testing;

    #[test]
    fn an_answer_is_kept_for_a_day() {
        let conn = testing::database();
        let answer = |key: &str, at: i64| KeptAnswer {
            key: key.into(),
            method: "POST".into(),
            path: "/api/models".into(),
            body_hash: "h".into(),
            status: 201,
            location: Some("/api/models/m".into()),
            body: "{}".into(),
            at,
        };
        put(&conn, &answer("a", 1)).unwrap();
        let found = |key: &str, now| find(&conn, key, "POST", "/api/models", now).unwrap();
        assert!(found("a", KEPT_MS) == Some(answer("a", 1)));
        assert!(found("a", KEPT_MS + 1).is_none());
        assert!(
            find(&conn, "a", "POST", "/api/providers", 2)
                .unwrap()
                .is_none()
        );
        put(&conn, &answer("b", KEPT_MS + 1)).unwrap();
        assert!(found("a", 2).is_none());
        assert!(found("b", 2).is_some());
    }
}
