//! What every change of the configuration leaves behind: a row of the audit log, and an event.

use hyper::http::Extensions;
use serde_json::{Value, json};

use crate::clock::{new_id, now_ms};
use crate::db::audit::AuditRow;
use crate::db::ops::WriteOp;
use crate::http::App;
use crate::http::access::Principal;
use crate::http::envelope::RequestId;

tokio::task_local! {
    /// Whom the current task works for. A change is recorded at the end of what may be a long way from its request.
    static ASKED: Asked;
}

/// Who asked for a change, and by which request.
#[derive(Clone, Default)]
pub(crate) struct Asked {
    principal: Option<Principal>,
    pub(crate) request_id: Option<String>,
}

impl Asked {
    pub(crate) fn by(extensions: &Extensions) -> Self {
        Self {
            principal: extensions.get().copied(),
            request_id: extensions.get::<RequestId>().map(|id| id.own.clone()),
        }
    }

    /// As the audit log names it.
    pub(crate) fn principal(&self) -> &'static str {
        self.principal.unwrap_or(Principal::Local).name()
    }

    /// Whom this task works for.
    pub(crate) fn here() -> Self {
        ASKED.try_with(Self::clone).unwrap_or_default()
    }

    /// Has `work` record its changes as asked for by this.
    pub(crate) fn for_whom<F: Future>(self, work: F) -> impl Future<Output = F::Output> {
        ASKED.scope(self, work)
    }
}

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
    let mut detail = json!({"action": change.action, "id": change.id});
    if let (Some(detail), Value::Object(more)) = (detail.as_object_mut(), change.detail) {
        detail.extend(more);
    }
    let description = format!("{} {} {}", change.entity, change.id, change.action);
    keep(
        app,
        Kept {
            entity: change.entity,
            id: change.id,
            action: change.action,
            before: change.before,
            after: change.after,
        },
    )
    .await;
    app.handles
        .events
        .publish(change.event, change.action, description, detail);
}

/// A row of the audit log. Without secrets.
pub(crate) struct Kept<'a> {
    pub(crate) entity: &'static str,
    pub(crate) id: &'a str,
    pub(crate) action: &'static str,
    pub(crate) before: Option<Value>,
    pub(crate) after: Option<Value>,
}

/// Keeps who changed what, and tells nobody.
pub(crate) async fn keep(app: &App, kept: Kept<'_>) {
    let asked = Asked::here();
    let row = AuditRow {
        id: new_id(),
        principal: asked.principal().into(),
        action: kept.action.into(),
        entity: kept.entity.into(),
        entity_id: Some(kept.id.to_owned()),
        before: kept.before,
        after: kept.after,
        request_id: asked.request_id,
        timestamp: now_ms(),
    };
    if let Err(error) = app.handles.database.write(WriteOp::RecordAudit(row)).await {
        tracing::warn!(%error, kept.entity, kept.id, "a change is not in the audit log");
    }
}
