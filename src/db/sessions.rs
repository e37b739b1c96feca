//! Table `sessions`: conversations that Qwen keeps for us.

use rusqlite::Connection;

use crate::db::error::DbError;

const ACTIVE_COUNT: &str = "SELECT count(*) FROM sessions WHERE expires_at > ?1";

/// How many have not expired at `now_ms` (Unix time).
pub(crate) fn active_count(conn: &Connection, now_ms: i64) -> Result<i64, DbError> {
    Ok(conn
        .prepare_cached(ACTIVE_COUNT)?
        .query_row([now_ms], |row| row.get(0))?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::db::testing;

    #[test]
    fn expired_sessions_do_not_count() {
        let conn = testing::database();
        conn.execute_batch(
            "INSERT INTO sessions (id, chat_id, first_user_message, created_at, last_accessed, expires_at)
             VALUES ('a', 'c', 'hi', 1, 1, 10), ('b', 'd', 'hi', 1, 1, 11)",
        )
        .unwrap();
        assert_eq!(active_count(&conn, 10).unwrap(), 1);
    }
}
