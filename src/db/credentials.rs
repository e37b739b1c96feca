//! Table `credentials`: logins at Qwen.

use std::fmt;

use rusqlite::{Connection, Row, named_params};

use crate::db::error::DbError;

const ALL: &str = "
    SELECT id, label, kind, token, cookies, headers, sealed, expires_at, state, last_used_at, limited_until,
           last_verified_at, last_error, created_at, updated_at
      FROM credentials
     ORDER BY created_at, id";

const PUT: &str = "
    INSERT INTO credentials (id, label, kind, token, cookies, headers, sealed, expires_at, state, last_used_at,
                             limited_until, last_verified_at, last_error, created_at, updated_at)
    VALUES (:id, :label, :kind, :token, :cookies, :headers, :sealed, :expires_at, :state, :last_used_at,
            :limited_until, :last_verified_at, :last_error, :created_at, :updated_at)
        ON CONFLICT (id) DO UPDATE
       SET label = excluded.label, kind = excluded.kind, token = excluded.token, cookies = excluded.cookies,
           headers = excluded.headers, sealed = excluded.sealed, expires_at = excluded.expires_at,
           state = excluded.state, last_used_at = excluded.last_used_at, limited_until = excluded.limited_until,
           last_verified_at = excluded.last_verified_at, last_error = excluded.last_error,
           updated_at = excluded.updated_at";

/// The sealed bytes tell whether this still is the login that was judged.
const JUDGE: &str = "
    UPDATE credentials
       SET state = :state, limited_until = :limited_until, last_verified_at = :last_verified_at,
           last_error = :last_error, updated_at = :updated_at
     WHERE id = :id AND token IS :token";

const DELETE_ALL: &str = "DELETE FROM credentials";

const DELETE: &str = "DELETE FROM credentials WHERE label = ?1";

/// One login. Neither `Serialize` nor a full `Debug`: it carries secrets.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct CredentialRow {
    pub(crate) id: String,
    pub(crate) label: String,
    /// `jwt`, `umid` or `guest`.
    pub(crate) kind: String,
    pub(crate) token: Option<Vec<u8>>,
    pub(crate) cookies: Option<Vec<u8>>,
    pub(crate) headers: Option<Vec<u8>>,
    /// Token, cookies and headers are encrypted.
    pub(crate) sealed: bool,
    /// Unix time, ms.
    pub(crate) expires_at: Option<i64>,
    /// `missing`, `valid`, `expiring`, `expired`, `rejected` or `challenged`.
    pub(crate) state: String,
    pub(crate) last_used_at: Option<i64>,
    /// Qwen refuses it until then.
    pub(crate) limited_until: Option<i64>,
    pub(crate) last_verified_at: Option<i64>,
    pub(crate) last_error: Option<String>,
    pub(crate) created_at: i64,
    pub(crate) updated_at: i64,
}

impl fmt::Debug for CredentialRow {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("CredentialRow")
            .field("id", &self.id)
            .field("kind", &self.kind)
            .field("state", &self.state)
            .field("expires_at", &self.expires_at)
            .finish_non_exhaustive()
    }
}

/// All logins, the oldest first.
pub(crate) fn all(conn: &Connection) -> Result<Vec<CredentialRow>, DbError> {
    let mut statement = conn.prepare_cached(ALL)?;
    let rows = statement.query_map([], credential)?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Adds a login, or replaces what is known of it.
pub(super) fn put(conn: &Connection, row: &CredentialRow) -> Result<(), DbError> {
    conn.prepare_cached(PUT)?.execute(named_params! {
        ":id": row.id,
        ":label": row.label,
        ":kind": row.kind,
        ":token": row.token,
        ":cookies": row.cookies,
        ":headers": row.headers,
        ":sealed": row.sealed,
        ":expires_at": row.expires_at,
        ":state": row.state,
        ":last_used_at": row.last_used_at,
        ":limited_until": row.limited_until,
        ":last_verified_at": row.last_verified_at,
        ":last_error": row.last_error,
        ":created_at": row.created_at,
        ":updated_at": row.updated_at,
    })?;
    Ok(())
}

/// Keeps what the site made of a login, unless another one has taken its place since.
pub(super) fn judge(conn: &Connection, row: &CredentialRow) -> Result<usize, DbError> {
    Ok(conn.prepare_cached(JUDGE)?.execute(named_params! {
        ":id": row.id,
        ":token": row.token,
        ":state": row.state,
        ":limited_until": row.limited_until,
        ":last_verified_at": row.last_verified_at,
        ":last_error": row.last_error,
        ":updated_at": row.updated_at,
    })?)
}

/// Removes every login; `secure_delete` overwrites their bytes.
pub(super) fn delete_all(conn: &Connection) -> Result<usize, DbError> {
    Ok(conn.prepare_cached(DELETE_ALL)?.execute([])?)
}

/// Removes the login of this label.
pub(super) fn delete(conn: &Connection, label: &str) -> Result<usize, DbError> {
    Ok(conn.prepare_cached(DELETE)?.execute([label])?)
}

fn credential(row: &Row<'_>) -> rusqlite::Result<CredentialRow> {
    Ok(CredentialRow {
        id: row.get("id")?,
        label: row.get("label")?,
        kind: row.get("kind")?,
        token: row.get("token")?,
        cookies: row.get("cookies")?,
        headers: row.get("headers")?,
        sealed: row.get("sealed")?,
        expires_at: row.get("expires_at")?,
        state: row.get("state")?,
        last_used_at: row.get("last_used_at")?,
        limited_until: row.get("limited_until")?,
        last_verified_at: row.get("last_verified_at")?,
        last_error: row.get("last_error")?,
        created_at: row.get("created_at")?,
        updated_at: row.get("updated_at")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::db::testing;

    #[test]
    fn a_login_is_read_whole_and_printed_without_its_secrets() {
        let conn = testing::database();
        conn.execute(
            "INSERT INTO credentials (id, label, kind, token, cookies, expires_at, created_at, updated_at)
             VALUES ('a', 'mine', 'jwt', ?1, ?2, 9, 1, 1)",
            (b"hush-token".as_slice(), b"hush-cookie".as_slice()),
        )
        .unwrap();
        let stored = all(&conn).unwrap().remove(0);
        assert_eq!(
            (stored.token.as_deref(), stored.expires_at),
            (Some(b"hush-token".as_slice()), Some(9))
        );
        let printed = format!("{stored:?}");
        let bytes = format!("{:?}", b"hush");
        assert!(
            !printed.contains("hush") && !printed.contains(bytes.trim_matches(['[', ']'])),
            "{printed}"
        );
    }
}
