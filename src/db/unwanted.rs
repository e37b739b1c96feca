//! What somebody wants to be gone now, of whatever age, and its removal piece by piece. What is counted in the usage stays.

use rusqlite::{Connection, OptionalExtension, params};

use crate::db::cache;
use crate::db::error::DbError;

const REQUESTS: &str = "
    DELETE FROM requests
     WHERE id IN (SELECT id FROM requests WHERE session_id = ?1 ORDER BY timestamp LIMIT ?2)";

/// Answers of a conversation whose exchanges are of another: imports may bring such.
const RESPONSES: &str = "
    DELETE FROM responses WHERE id IN (SELECT id FROM responses WHERE session_id = ?1 LIMIT ?2)";

const TURNS: &str = "
    DELETE FROM session_turns
     WHERE rowid IN (SELECT rowid FROM session_turns WHERE session_id = ?1 LIMIT ?2)";

const SESSION: &str = "DELETE FROM sessions WHERE id = ?1";

const NEXT_ENDED: &str = "
    SELECT id FROM sessions WHERE expires_at < ?1 ORDER BY expires_at LIMIT 1";

/// What is to go. Times are Unix ms.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Unwanted {
    /// A conversation with its exchanges.
    Session { id: String },
    /// Conversations that ended before a time, with their exchanges.
    EndedSessions { before: i64 },
    /// Answers of the response cache that were made by then, those of one model or all.
    KeptAnswers { model: Option<String>, by: i64 },
}

/// What a piece came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Removed {
    /// Conversations, or kept answers. Exchanges go with their conversation and are not counted.
    pub(crate) count: usize,
    /// Nothing of what is meant is left.
    pub(crate) is_done: bool,
}

/// Removes at most `most` rows of what is meant. A conversation goes last, so that no piece takes all of its rows along.
pub(super) fn remove(conn: &Connection, what: &Unwanted, most: u32) -> Result<Removed, DbError> {
    let mut left = usize::try_from(most).unwrap_or(usize::MAX);
    match what {
        Unwanted::Session { id } => Ok(match session(conn, id, &mut left)? {
            Some(count) => Removed {
                count,
                is_done: true,
            },
            None => Removed::default(),
        }),
        Unwanted::EndedSessions { before } => {
            let mut removed = Removed::default();
            while left > 0 {
                let mut statement = conn.prepare_cached(NEXT_ENDED)?;
                let next = statement.query_row([before], |row| row.get::<_, String>(0));
                let Some(id) = next.optional()? else {
                    removed.is_done = true;
                    break;
                };
                removed.count += session(conn, &id, &mut left)?.unwrap_or(0);
            }
            Ok(removed)
        }
        Unwanted::KeptAnswers { model, by } => {
            let count = cache::clear(conn, model.as_deref(), *by, most)?;
            Ok(Removed {
                count,
                is_done: count < left,
            })
        }
    }
}

/// Takes up to `left` rows of a conversation, itself last. Says how many conversations went once it is gone; none while it
/// still has rows.
fn session(conn: &Connection, id: &str, left: &mut usize) -> Result<Option<usize>, DbError> {
    for rows in [REQUESTS, RESPONSES, TURNS] {
        let most = i64::try_from(*left).unwrap_or(i64::MAX);
        let gone = conn.prepare_cached(rows)?.execute(params![id, most])?;
        *left = left.saturating_sub(gone);
        if *left == 0 {
            return Ok(None);
        }
    }
    *left -= 1;
    Ok(Some(conn.prepare_cached(SESSION)?.execute([id])?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::db::history;
    use crate::db::sessions::{self, TurnRow};
    use crate::db::testing::{self, sample_outcome, sample_request};

    /// A conversation of `exchanges`, that ends at `expires_at`.
    fn conversation(conn: &Connection, id: &str, exchanges: usize, expires_at: i64) {
        for number in 0..exchanges {
            let name = format!("{id}-{number}");
            let request = sample_request(&name);
            history::begin(conn, &request).unwrap();
            let turn = TurnRow {
                hash: format!("{name:0>64}"),
                session_id: id.into(),
                login: "an account".into(),
                credential_id: "not stored".into(),
                chat_id: format!("chat of {id}"),
                parent_id: "p".into(),
                first_user_message: "hi".into(),
                message_count: 2,
                model: "m".into(),
                request_id: name.clone(),
                at: 5,
                expires_at,
            };
            sessions::record_turn(conn, &turn).unwrap();
            history::finish(conn, &request, &sample_outcome(&format!("a-{name}"))).unwrap();
        }
    }

    fn count(conn: &Connection, table: &str) -> i64 {
        let sql = format!("SELECT count(*) FROM {table}");
        conn.query_row(&sql, [], |row| row.get(0)).unwrap()
    }

    /// All pieces, and of each how many exchanges it took.
    fn pieces(conn: &Connection, what: &Unwanted, most: u32) -> (usize, Vec<i64>) {
        let (mut removed, mut taken) = (0, Vec::new());
        loop {
            let before = count(conn, "requests");
            let piece = remove(conn, what, most).unwrap();
            taken.push(before - count(conn, "requests"));
            removed += piece.count;
            if piece.is_done {
                return (removed, taken);
            }
            assert!(taken.len() < 100, "it comes to an end");
        }
    }

    #[test]
    fn no_piece_takes_more_of_a_conversation_than_it_may_and_the_rest_stays() {
        let conn = testing::database();
        conversation(&conn, "long", 10, 50);
        conversation(&conn, "other", 2, 50);
        let id = "long".to_owned();
        let (removed, taken) = pieces(&conn, &Unwanted::Session { id }, 3);
        assert_eq!(removed, 1);
        assert_eq!(taken.iter().sum::<i64>(), 10);
        assert!(taken.iter().all(|rows| *rows <= 3), "{taken:?}");
        assert_eq!(count(&conn, "sessions"), 1);
        assert_eq!(count(&conn, "requests"), 2);
        assert_eq!(count(&conn, "session_turns"), 2);
        assert_eq!(count(&conn, "history_words_docsize"), 2, "their words too");
        let id = "unknown".to_owned();
        let none = remove(&conn, &Unwanted::Session { id }, 3).unwrap();
        assert_eq!((none.count, none.is_done), (0, true));
        assert_eq!(
            count(&conn, "usage_rollups"),
            1,
            "what was counted stays counted"
        );
    }

    #[test]
    fn of_those_that_ended_each_is_counted_once_however_long_it_is() {
        let conn = testing::database();
        for (id, exchanges, expires_at) in [("a", 7, 10), ("b", 1, 11), ("c", 1, 12), ("on", 3, 99)]
        {
            conversation(&conn, id, exchanges, expires_at);
        }
        let (removed, taken) = pieces(&conn, &Unwanted::EndedSessions { before: 50 }, 4);
        assert_eq!(removed, 3);
        assert!(taken.iter().all(|rows| *rows <= 4), "{taken:?}");
        assert_eq!(count(&conn, "sessions"), 1);
        assert_eq!(count(&conn, "requests"), 3);
    }
}
