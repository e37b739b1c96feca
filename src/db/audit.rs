//! Table `audit_log`: who changed what.

use rusqlite::{Connection, Row, named_params, params_from_iter};
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use crate::db::error::DbError;
use crate::db::filter::{Filter, Slice};
use crate::db::json;

const INSERT: &str = "
    INSERT INTO audit_log (id, principal, action, entity, entity_id, before, after, request_id, timestamp)
    VALUES (:id, :principal, :action, :entity, :entity_id, :before, :after, :request_id, :timestamp)
        ON CONFLICT (id) DO NOTHING";

/// Which changes are meant; what is absent is not asked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct AuditFilter {
    pub(crate) entity: Option<String>,
    pub(crate) entity_id: Option<String>,
    pub(crate) principal: Option<String>,
    /// Unix time, ms; included.
    pub(crate) from: Option<i64>,
    /// Unix time, ms; included.
    pub(crate) until: Option<i64>,
}

/// A change as it is shown.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub(crate) struct AuditEntry {
    /// Rises with every change.
    pub(crate) seq: i64,
    #[serde(flatten)]
    pub(crate) row: AuditRow,
}

/// One change. Its secrets are masked before it comes here.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
#[schema(as = AuditChange)]
pub(crate) struct AuditRow {
    pub(crate) id: String,
    /// Who did it.
    pub(crate) principal: String,
    pub(crate) action: String,
    /// `provider`, `setting`, ...
    pub(crate) entity: String,
    pub(crate) entity_id: Option<String>,
    pub(crate) before: Option<Value>,
    pub(crate) after: Option<Value>,
    /// The management request that asked for it.
    pub(crate) request_id: Option<String>,
    /// Unix time, ms.
    pub(crate) timestamp: i64,
}

/// The changes of a filter, the newest first, and how many there are of them.
pub(crate) fn list(
    conn: &Connection,
    wanted: &AuditFilter,
    slice: Slice,
) -> Result<(Vec<AuditEntry>, i64), DbError> {
    let mut filter = Filter::default();
    filter.and("entity = ?", wanted.entity.clone());
    filter.and("entity_id = ?", wanted.entity_id.clone());
    filter.and("principal = ?", wanted.principal.clone());
    filter.and("timestamp >= ?", wanted.from);
    filter.and("timestamp <= ?", wanted.until);
    let count = format!("SELECT count(*) FROM audit_log{}", filter.clause());
    let mut statement = conn.prepare_cached(&count)?;
    let total = statement.query_row(params_from_iter(filter.values()), |row| row.get(0))?;
    filter.and_two("(timestamp, seq) < (?, ?)", slice.after);
    let sql = format!(
        "SELECT seq, id, principal, action, entity, entity_id, before, after, request_id, timestamp
           FROM audit_log{} ORDER BY timestamp DESC, seq DESC LIMIT {} OFFSET {}",
        filter.clause(),
        slice.limit,
        slice.offset
    );
    let mut statement = conn.prepare_cached(&sql)?;
    let rows = statement.query_map(params_from_iter(filter.values()), entry)?;
    Ok((rows.collect::<Result<_, _>>()?, total))
}

fn entry(row: &Row<'_>) -> rusqlite::Result<AuditEntry> {
    Ok(AuditEntry {
        seq: row.get("seq")?,
        row: AuditRow {
            id: row.get("id")?,
            principal: row.get("principal")?,
            action: row.get("action")?,
            entity: row.get("entity")?,
            entity_id: row.get("entity_id")?,
            before: json::value(row, "before")?,
            after: json::value(row, "after")?,
            request_id: row.get("request_id")?,
            timestamp: row.get("timestamp")?,
        },
    })
}

/// Adds a change, unless it is there.
pub(super) fn insert(conn: &Connection, row: &AuditRow) -> Result<(), DbError> {
    conn.prepare_cached(INSERT)?.execute(named_params! {
        ":id": row.id,
        ":principal": row.principal,
        ":action": row.action,
        ":entity": row.entity,
        ":entity_id": row.entity_id,
        ":before": row.before.as_ref().map(Value::to_string),
        ":after": row.after.as_ref().map(Value::to_string),
        ":request_id": row.request_id,
        ":timestamp": row.timestamp,
    })?;
    Ok(())
}
