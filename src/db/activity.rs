//! Tables `activity` and `actor_events`: what happened, for people.

use rusqlite::{Connection, named_params};
use serde::Serialize;
use serde_json::Value;

use crate::db::error::DbError;
use crate::db::json;

/// What people changed, and the actors that came back. An actor's first incarnation is no news.
const RECENT: &str = "
    SELECT id, type, action, description, metadata, timestamp, seq
      FROM (SELECT id, type, action, description, metadata, timestamp, seq
              FROM activity
             WHERE timestamp >= ?1
             ORDER BY timestamp DESC, seq DESC
             LIMIT ?2)
     UNION ALL
    SELECT id, 'actor_restarted', 'restarted', 'actor ' || actor || ' restarted',
           json_object('actor', actor, 'incarnation', incarnation), timestamp, seq
      FROM (SELECT id, actor, incarnation, timestamp, seq
              FROM actor_events
             WHERE timestamp >= ?1 AND event = 'started' AND incarnation > 1
             ORDER BY timestamp DESC, seq DESC
             LIMIT ?2)
     ORDER BY timestamp DESC, seq DESC
     LIMIT ?2";

const INSERT: &str = "
    INSERT INTO activity (id, type, action, description, metadata, timestamp)
    VALUES (:id, :type, :action, :description, :metadata, :timestamp)
        ON CONFLICT (id) DO NOTHING";

const INSERT_ACTOR_EVENT: &str = "
    INSERT INTO actor_events (id, actor, event, incarnation, reason, timestamp)
    VALUES (:id, :actor, :event, :incarnation, :reason, :timestamp)
        ON CONFLICT (id) DO NOTHING";

/// One line of the activity log.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct ActivityRow {
    pub(crate) id: String,
    #[serde(rename = "type")]
    pub(crate) kind: String,
    pub(crate) action: String,
    pub(crate) description: String,
    pub(crate) metadata: Value,
    /// Unix time, ms.
    pub(crate) timestamp: i64,
}

/// A start, failure or restart of an actor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct ActorEventRow {
    pub(crate) id: String,
    pub(crate) actor: String,
    pub(crate) event: String,
    pub(crate) incarnation: i64,
    pub(crate) reason: Option<String>,
    /// Unix time, ms.
    pub(crate) timestamp: i64,
}

/// The newest `limit` lines from `since` (Unix ms) on, the newest first.
pub(crate) fn recent(
    conn: &Connection,
    since: i64,
    limit: i64,
) -> Result<Vec<ActivityRow>, DbError> {
    let mut statement = conn.prepare_cached(RECENT)?;
    let rows = statement.query_map((since, limit), activity)?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Adds a line, unless it is there.
pub(super) fn insert(conn: &Connection, row: &ActivityRow) -> Result<(), DbError> {
    conn.prepare_cached(INSERT)?.execute(named_params! {
        ":id": row.id,
        ":type": row.kind,
        ":action": row.action,
        ":description": row.description,
        ":metadata": row.metadata.to_string(),
        ":timestamp": row.timestamp,
    })?;
    Ok(())
}

/// Adds an actor's event, unless it is there.
pub(super) fn insert_actor_event(conn: &Connection, row: &ActorEventRow) -> Result<(), DbError> {
    conn.prepare_cached(INSERT_ACTOR_EVENT)?
        .execute(named_params! {
            ":id": row.id,
            ":actor": row.actor,
            ":event": row.event,
            ":incarnation": row.incarnation,
            ":reason": row.reason,
            ":timestamp": row.timestamp,
        })?;
    Ok(())
}

fn activity(row: &rusqlite::Row<'_>) -> rusqlite::Result<ActivityRow> {
    Ok(ActivityRow {
        id: row.get("id")?,
        kind: row.get("type")?,
        action: row.get("action")?,
        description: row.get("description")?,
        metadata: json::value(row, "metadata")?.unwrap_or_default(),
        timestamp: row.get("timestamp")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::db::testing::{self, sample_activity};

    #[test]
    fn the_newest_lines_come_first() {
        let conn = testing::database();
        for (id, at) in [("a", 5), ("b", 7), ("c", 7), ("d", 6)] {
            insert(
                &conn,
                &ActivityRow {
                    timestamp: at,
                    ..sample_activity(id)
                },
            )
            .unwrap();
        }
        let ids: Vec<_> = recent(&conn, 6, 3)
            .unwrap()
            .into_iter()
            .map(|row| row.id)
            .collect();
        assert_eq!(ids, ["c", "b", "d"]);
        for (id, event, incarnation) in [
            ("e1", "started", 1),
            ("e2", "failed", 1),
            ("e3", "started", 2),
        ] {
            let row = ActorEventRow {
                id: id.into(),
                actor: "router".into(),
                event: event.into(),
                incarnation,
                reason: None,
                timestamp: 8,
            };
            insert_actor_event(&conn, &row).unwrap();
        }
        let newest = recent(&conn, 6, 2).unwrap();
        assert_eq!(
            (newest[0].id.as_str(), newest[0].kind.as_str()),
            ("e3", "actor_restarted")
        );
        assert_eq!(newest[0].metadata["actor"], "router");
        assert_eq!(newest[1].id, "c");
    }
}
