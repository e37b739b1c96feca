//! Table `audit_log`: who changed what.

use rusqlite::{Connection, named_params};
use serde::Serialize;
use serde_json::Value;

use crate::db::error::DbError;

const INSERT: &str = "
    INSERT INTO audit_log (id, principal, action, entity, entity_id, before, after, request_id, timestamp)
    VALUES (:id, :principal, :action, :entity, :entity_id, :before, :after, :request_id, :timestamp)
        ON CONFLICT (id) DO NOTHING";

/// One change. Its secrets are masked before it comes here.
#[derive(Clone, Debug, PartialEq, Serialize)]
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
