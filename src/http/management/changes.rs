//! What every change of the configuration leaves behind: a row of the audit log, and an event.

use serde_json::{Value, json};

use crate::clock::{new_id, now_ms};
use crate::db::audit::AuditRow;
use crate::db::ops::WriteOp;
use crate::http::App;

/// A change that has been made.
pub(crate) struct Change<'a> {
    /// `provider`, `model`, ...: what the audit log files it under.
    pub(crate) entity: &'static str,
    pub(crate) id: &'a str,
    /// In the past tense: `created`, `updated`, `deleted`.
    pub(crate) action: &'static str,
    /// The event's kind.
    pub(crate) event: &'static str,
    pub(crate) detail: Value,
    /// Without secrets.
    pub(crate) before: Option<Value>,
    /// Without secrets.
    pub(crate) after: Option<Value>,
}

/// Keeps who changed what, and tells everybody. The change is made already: a trail that cannot be written is logged,
/// not undone.
pub(crate) async fn record(app: &App, change: Change<'_>) {
    let row = AuditRow {
        id: new_id(),
        principal: "local".into(),
        action: change.action.into(),
        entity: change.entity.into(),
        entity_id: Some(change.id.to_owned()),
        before: change.before,
        after: change.after,
        request_id: None,
        timestamp: now_ms(),
    };
    if let Err(error) = app.handles.database.write(WriteOp::RecordAudit(row)).await {
        tracing::warn!(%error, change.entity, change.id, "a change is not in the audit log");
    }
    let mut detail = json!({"action": change.action, "id": change.id});
    if let (Some(detail), Value::Object(more)) = (detail.as_object_mut(), change.detail) {
        detail.extend(more);
    }
    let description = format!("{} {} {}", change.entity, change.id, change.action);
    app.handles
        .events
        .publish(change.event, change.action, description, detail);
}
