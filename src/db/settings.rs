//! Table `settings`: what was changed from its default.

use rusqlite::Connection;

use crate::db::error::DbError;

const ALL: &str = "SELECT key, value, updated_at FROM settings ORDER BY key";

const PUT: &str = "
    INSERT INTO settings (key, value, updated_at) VALUES (?1, ?2, ?3)
        ON CONFLICT (key) DO UPDATE SET value = excluded.value, updated_at = excluded.updated_at";

const DELETE: &str = "DELETE FROM settings WHERE key = ?1";

/// Keys and values, the values as JSON text.
pub(crate) fn all(conn: &Connection) -> Result<Vec<(String, String)>, DbError> {
    let mut statement = conn.prepare_cached(ALL)?;
    let rows = statement.query_map([], |row| Ok((row.get("key")?, row.get("value")?)))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// One stored setting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SettingRow {
    pub(crate) key: String,
    /// JSON text.
    pub(crate) value: String,
    /// Unix time, ms.
    pub(crate) updated_at: i64,
}

/// What was changed from its default, by key.
pub(crate) fn rows(conn: &Connection) -> Result<Vec<SettingRow>, DbError> {
    let mut statement = conn.prepare_cached(ALL)?;
    let rows = statement.query_map([], |row| {
        Ok(SettingRow {
            key: row.get("key")?,
            value: row.get("value")?,
            updated_at: row.get("updated_at")?,
        })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Sets `key` to `value` (JSON text) at the time `at` (Unix, ms).
pub(super) fn put(conn: &Connection, key: &str, value: &str, at: i64) -> Result<(), DbError> {
    conn.prepare_cached(PUT)?.execute((key, value, at))?;
    Ok(())
}

/// Puts `key` back to its default. Returns how many rows that took.
pub(super) fn delete(conn: &Connection, key: &str) -> Result<usize, DbError> {
    Ok(conn.prepare_cached(DELETE)?.execute([key])?)
}
