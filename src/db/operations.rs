//! Table `operations`: which write operations were carried out, so that a repeated one is recognised.

use rusqlite::Connection;

use crate::db::error::DbError;

/// How many are remembered: far more than can be queued when the writer crashes.
const REMEMBERED: i64 = 20_000;

const REMEMBER: &str = "INSERT INTO operations (id) VALUES (?1) ON CONFLICT (id) DO NOTHING";

/// By number instead of age: deleting carries no time, and clocks jump.
const FORGET: &str = "DELETE FROM operations WHERE seq <= (SELECT max(seq) FROM operations) - ?1";

/// Remembers the operation `id`. False when it was carried out before.
pub(super) fn is_new(conn: &Connection, id: &str) -> Result<bool, DbError> {
    if conn.prepare_cached(REMEMBER)?.execute([id])? == 0 {
        return Ok(false);
    }
    conn.prepare_cached(FORGET)?.execute([REMEMBERED])?;
    Ok(true)
}
