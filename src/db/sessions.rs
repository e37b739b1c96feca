//! Table `sessions`: conversations that Qwen keeps for us.

use rusqlite::{Connection, OptionalExtension, Row, named_params, params_from_iter};
use serde::Serialize;
use utoipa::ToSchema;

use crate::db::error::DbError;
use crate::db::filter::{Filter, Slice};
use crate::db::usage;

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

/// The request row was queued before; its answer's may follow, and takes the session from it.
const BELONGS: &str = "UPDATE requests SET session_id = ?1 WHERE request_id = ?2";

const ITS_ANSWER: &str = "
    UPDATE responses SET session_id = ?1 WHERE request_id = (SELECT id FROM requests WHERE request_id = ?2)";

const PRUNE: &str = "
    DELETE FROM session_turns
     WHERE hash IN (SELECT t.hash FROM session_turns t JOIN sessions s ON s.id = t.session_id
                     WHERE s.expires_at <= ?1 LIMIT 1000)";

const CHAT_OF: &str = "
    SELECT s.chat_id, (SELECT t.login FROM session_turns t WHERE t.session_id = s.id LIMIT 1) AS login
      FROM sessions s
     WHERE s.id = ?1";

const COLUMNS: &str = "
    SELECT id, chat_id, parent_id, first_user_message, message_count, user_id, conversation_hash, credential_id, model,
           created_at, last_accessed, expires_at
      FROM sessions";

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
    /// The exchange that brought the answer.
    pub(crate) request_id: String,
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

/// A conversation as the management API shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct StoredSession {
    pub(crate) id: String,
    pub(crate) chat_id: String,
    pub(crate) parent_id: Option<String>,
    pub(crate) first_user_message: String,
    pub(crate) message_count: i64,
    pub(crate) user_id: Option<String>,
    pub(crate) conversation_hash: Option<String>,
    pub(crate) credential_id: Option<String>,
    pub(crate) model: Option<String>,
    /// Unix time, ms.
    pub(crate) created_at: i64,
    /// Unix time, ms.
    pub(crate) last_accessed: i64,
    /// Unix time, ms.
    pub(crate) expires_at: i64,
}

/// Which sessions are meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SessionState {
    Active,
    Expired,
    All,
}

/// Which sessions are meant, and in which order they come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SessionFilter {
    pub(crate) state: SessionState,
    pub(crate) chat_id: Option<String>,
    /// By the last use instead of the creation.
    pub(crate) by_use: bool,
    /// Only what comes after this one in the order: its time (Unix ms) and its id.
    pub(crate) after: Option<(i64, String)>,
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
    usage::add_answered(conn, &row.session_id, &row.request_id)?;
    for statement in [BELONGS, ITS_ANSWER] {
        conn.prepare_cached(statement)?
            .execute((&row.session_id, &row.request_id))?;
    }
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

/// The sessions of a filter at `now` (Unix ms), the newest first, and how many there are.
pub(crate) fn list(
    conn: &Connection,
    wanted: &SessionFilter,
    now: i64,
    slice: Slice,
) -> Result<(Vec<StoredSession>, i64), DbError> {
    let mut filter = Filter::default();
    filter.and("chat_id = ?", wanted.chat_id.clone());
    match wanted.state {
        SessionState::Active => filter.and("expires_at > ?", Some(now)),
        SessionState::Expired => filter.and("expires_at <= ?", Some(now)),
        SessionState::All => {}
    }
    let (order, after) = if wanted.by_use {
        ("last_accessed", "(last_accessed, id) < (?, ?)")
    } else {
        ("created_at", "(created_at, id) < (?, ?)")
    };
    let total = conn
        .prepare_cached(&format!("SELECT count(*) FROM sessions{}", filter.clause()))?
        .query_row(params_from_iter(filter.values()), |row| row.get(0))?;
    filter.and_two(after, wanted.after.clone());
    let sql = format!(
        "{COLUMNS}{} ORDER BY {order} DESC, id DESC LIMIT {} OFFSET {}",
        filter.clause(),
        slice.limit,
        slice.offset
    );
    let mut statement = conn.prepare_cached(&sql)?;
    let rows = statement.query_map(params_from_iter(filter.values()), stored)?;
    Ok((rows.collect::<Result<_, _>>()?, total))
}

/// One session.
pub(crate) fn find(conn: &Connection, id: &str) -> Result<Option<StoredSession>, DbError> {
    let mut statement = conn.prepare_cached(&format!("{COLUMNS} WHERE id = ?1"))?;
    Ok(statement.query_row([id], stored).optional()?)
}

/// How many sessions ended before `before` (Unix ms).
pub(crate) fn expired(conn: &Connection, before: i64) -> Result<i64, DbError> {
    let mut statement =
        conn.prepare_cached("SELECT count(*) FROM sessions WHERE expires_at < ?1")?;
    Ok(statement.query_row([before], |row| row.get(0))?)
}

fn stored(row: &Row<'_>) -> rusqlite::Result<StoredSession> {
    Ok(StoredSession {
        id: row.get("id")?,
        chat_id: row.get("chat_id")?,
        parent_id: row.get("parent_id")?,
        first_user_message: row.get("first_user_message")?,
        message_count: row.get("message_count")?,
        user_id: row.get("user_id")?,
        conversation_hash: row.get("conversation_hash")?,
        credential_id: row.get("credential_id")?,
        model: row.get("model")?,
        created_at: row.get("created_at")?,
        last_accessed: row.get("last_accessed")?,
        expires_at: row.get("expires_at")?,
    })
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
            request_id: "r".into(),
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
        let slice = Slice {
            limit: 5,
            offset: 0,
            after: None,
        };
        let listed = |state, now| {
            let filter = SessionFilter {
                state,
                chat_id: Some("c".into()),
                by_use: true,
                after: None,
            };
            list(&conn, &filter, now, slice).unwrap().1
        };
        assert_eq!(listed(SessionState::Active, 9), 1);
        assert_eq!(listed(SessionState::Expired, 9), 0);
        assert_eq!(listed(SessionState::All, 11), 1);
        assert_eq!(find(&conn, "s").unwrap().unwrap().message_count, 2);
        assert_eq!(end_all(&conn, 3).unwrap(), 1);
        assert_eq!(expired(&conn, 3).unwrap(), 0);
        assert_eq!(expired(&conn, 4).unwrap(), 1);
    }
}
