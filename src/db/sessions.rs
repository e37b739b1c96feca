//! Table `sessions`: conversations that Qwen keeps for us.

use rusqlite::{Connection, OptionalExtension, Row, named_params};

use crate::db::error::DbError;

const TURNS: &str = "
    SELECT t.hash, t.session_id, t.login, t.chat_id, t.parent_id, s.expires_at
      FROM session_turns t
      JOIN sessions s ON s.id = t.session_id
     WHERE s.expires_at > ?1
     ORDER BY t.created_at DESC
     LIMIT ?2";

const PUT_SESSION: &str = "
    INSERT INTO sessions (id, chat_id, parent_id, first_user_message, message_count, conversation_hash, credential_id,
                          model, created_at, last_accessed, expires_at)
    VALUES (:id, :chat_id, :parent_id, :first_user_message, :message_count, :hash,
            (SELECT id FROM credentials WHERE id = :credential_id), :model, :at, :at, :expires_at)
        ON CONFLICT (id) DO UPDATE
       SET parent_id = excluded.parent_id, message_count = excluded.message_count,
           conversation_hash = excluded.conversation_hash, last_accessed = excluded.last_accessed,
           expires_at = excluded.expires_at";

const PUT_TURN: &str = "
    INSERT INTO session_turns (hash, session_id, login, chat_id, parent_id, created_at)
    VALUES (:hash, :session_id, :login, :chat_id, :parent_id, :at)
        ON CONFLICT (hash) DO UPDATE
       SET session_id = excluded.session_id, login = excluded.login, chat_id = excluded.chat_id,
           parent_id = excluded.parent_id, created_at = excluded.created_at";

const PRUNE: &str = "
    DELETE FROM session_turns
     WHERE hash IN (SELECT t.hash FROM session_turns t JOIN sessions s ON s.id = t.session_id
                     WHERE s.expires_at <= ?1 LIMIT 1000)";

const CHAT_OF: &str = "
    SELECT s.chat_id, (SELECT t.login FROM session_turns t WHERE t.session_id = s.id LIMIT 1) AS login
      FROM sessions s
     WHERE s.id = ?1";

const DELETE: &str = "DELETE FROM sessions WHERE id = ?1";

const END_ALL: &str = "UPDATE sessions SET expires_at = min(expires_at, ?1)";

const FORGET_ALL: &str = "DELETE FROM session_turns";

const FORGET_CHAT: &str = "DELETE FROM session_turns WHERE chat_id = ?1";

/// An answer, and where it stands upstream. Times are Unix ms.
#[derive(Clone)]
pub(crate) struct TurnRow {
    /// Hex of what led to it, itself included.
    pub(crate) hash: String,
    pub(crate) session_id: String,
    /// The account whose chat it is; outlives a renewed login.
    pub(crate) login: String,
    /// The row of `credentials` it was asked with, if there is one.
    pub(crate) credential_id: String,
    pub(crate) chat_id: String,
    /// The answer's id: the parent of the next turn.
    pub(crate) parent_id: String,
    pub(crate) first_user_message: String,
    pub(crate) message_count: i64,
    pub(crate) model: String,
    pub(crate) at: i64,
    pub(crate) expires_at: i64,
}

/// Where a session is upstream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ChatOf {
    pub(crate) chat_id: String,
    /// The account; none when nothing can go on from it any more.
    pub(crate) login: Option<String>,
}

/// Where a history goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct KnownTurn {
    pub(crate) hash: String,
    pub(crate) session_id: String,
    pub(crate) login: String,
    pub(crate) chat_id: String,
    pub(crate) parent_id: String,
    pub(crate) expires_at: i64,
}

/// The newest `limit` turns of conversations that have not expired at `now_ms` (Unix time).
pub(crate) fn turns(conn: &Connection, now_ms: i64, limit: u32) -> Result<Vec<KnownTurn>, DbError> {
    let mut statement = conn.prepare_cached(TURNS)?;
    let rows = statement.query_map((now_ms, limit), |row: &Row<'_>| {
        Ok(KnownTurn {
            hash: row.get("hash")?,
            session_id: row.get("session_id")?,
            login: row.get("login")?,
            chat_id: row.get("chat_id")?,
            parent_id: row.get("parent_id")?,
            expires_at: row.get("expires_at")?,
        })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Keeps a turn and what its conversation has come to.
pub(super) fn record_turn(conn: &Connection, row: &TurnRow) -> Result<(), DbError> {
    conn.prepare_cached(PUT_SESSION)?.execute(named_params! {
        ":id": row.session_id,
        ":chat_id": row.chat_id,
        ":parent_id": row.parent_id,
        ":first_user_message": row.first_user_message,
        ":message_count": row.message_count,
        ":hash": row.hash,
        ":credential_id": row.credential_id,
        ":model": row.model,
        ":at": row.at,
        ":expires_at": row.expires_at,
    })?;
    conn.prepare_cached(PUT_TURN)?.execute(named_params! {
        ":hash": row.hash,
        ":session_id": row.session_id,
        ":login": row.login,
        ":chat_id": row.chat_id,
        ":parent_id": row.parent_id,
        ":at": row.at,
    })?;
    Ok(())
}

/// Nothing goes on from this chat any more; its session stays, for the history.
pub(super) fn forget_chat(conn: &Connection, chat_id: &str) -> Result<usize, DbError> {
    Ok(conn.prepare_cached(FORGET_CHAT)?.execute([chat_id])?)
}

/// Removes turns of conversations that ended by `at` (Unix ms), so many that nobody waits for it.
pub(super) fn prune_turns(conn: &Connection, at: i64) -> Result<usize, DbError> {
    Ok(conn.prepare_cached(PRUNE)?.execute([at])?)
}

/// The account and the chat of a session; none when there is no such session.
pub(crate) fn chat_of(conn: &Connection, id: &str) -> Result<Option<ChatOf>, DbError> {
    let mut statement = conn.prepare_cached(CHAT_OF)?;
    let row = statement.query_row([id], |row| {
        Ok(ChatOf {
            chat_id: row.get("chat_id")?,
            login: row.get("login")?,
        })
    });
    Ok(row.optional()?)
}

/// Removes a session with its turns.
pub(super) fn delete(conn: &Connection, id: &str) -> Result<usize, DbError> {
    Ok(conn.prepare_cached(DELETE)?.execute([id])?)
}

/// Every conversation ends at `at` (Unix ms) and is gone on with no more.
pub(super) fn end_all(conn: &Connection, at: i64) -> Result<usize, DbError> {
    conn.prepare_cached(FORGET_ALL)?.execute([])?;
    Ok(conn.prepare_cached(END_ALL)?.execute([at])?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::db::testing;

    #[test]
    fn a_turn_is_known_until_its_chat_is_forgotten_or_expires() {
        let conn = testing::database();
        let turn = |hash: char, parent: &str| TurnRow {
            hash: hash.to_string().repeat(64),
            session_id: "s".into(),
            login: "an account".into(),
            credential_id: "not stored".into(),
            chat_id: "c".into(),
            parent_id: parent.into(),
            first_user_message: "hi".into(),
            message_count: 2,
            model: "m".into(),
            at: 5,
            expires_at: 10,
        };
        record_turn(&conn, &turn('a', "p1")).unwrap();
        record_turn(&conn, &turn('b', "p2")).unwrap();
        assert_eq!(turns(&conn, 9, 10).unwrap().len(), 2);
        assert_eq!(turns(&conn, 9, 1).unwrap().len(), 1);
        assert_eq!(turns(&conn, 10, 10).unwrap(), []);
        assert_eq!(prune_turns(&conn, 9).unwrap(), 0);
        let place = ChatOf {
            chat_id: "c".into(),
            login: Some("an account".into()),
        };
        assert_eq!(chat_of(&conn, "s").unwrap(), Some(place));
        assert_eq!(chat_of(&conn, "t").unwrap(), None);
        assert_eq!(forget_chat(&conn, "c").unwrap(), 2);
        assert_eq!(turns(&conn, 9, 10).unwrap(), []);
        record_turn(&conn, &turn('c', "p3")).unwrap();
        assert_eq!(prune_turns(&conn, 10).unwrap(), 1);
        assert_eq!(end_all(&conn, 3).unwrap(), 1);
        assert_eq!(delete(&conn, "s").unwrap(), 1);
    }
}
