//! Backups: asked for, or by the clock.
//!
//! Not an actor: what it owns is one place, so that there is one backup at a time. A backup runs to its end in a task,
//! whoever asked for it, and leaves nothing behind when it breaks off. What is due is read off the folder each time, so a
//! restart forgets nothing.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::sync::{Semaphore, watch};

use crate::actors::database::{Database, StoreError};
use crate::actors::events::Events;
use crate::clock::{new_id, now_ms};
use crate::db::audit::AuditRow;
use crate::db::backups::{self, Backup, Go, Kind, Progress};
use crate::db::error::DbError;
use crate::db::import::source::own_path;
use crate::db::ops::WriteOp;
use crate::limits::upkeep::{LOOKED, TELLING};
use crate::settings::{self, Settings};
use crate::tasks::{Owned, Tasks};

const HOUR_MS: i64 = 3_600_000;

/// Why there is no backup.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum BackupError {
    #[error("a backup is under way")]
    Running,
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A backup that was made.
#[derive(Clone, Debug)]
pub(crate) struct Made {
    pub(crate) backup: Backup,
    /// Names of those that made room for it.
    pub(crate) removed: Vec<String>,
    pub(crate) took: Duration,
}

/// Who wants a backup, and by which management request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Wanted {
    pub(crate) principal: &'static str,
    pub(crate) request_id: Option<String>,
}

/// Makes backups. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Backups {
    database: Database,
    events: Events,
    settings: watch::Receiver<Arc<Settings>>,
    tasks: Tasks,
    place: Arc<Semaphore>,
    stopping: Arc<AtomicBool>,
}

impl Backups {
    pub(crate) fn new(
        database: Database,
        events: Events,
        settings: watch::Receiver<Arc<Settings>>,
        tasks: Tasks,
    ) -> Self {
        Self {
            database,
            events,
            settings,
            tasks,
            place: Arc::new(Semaphore::new(1)),
            stopping: Arc::default(),
        }
    }

    /// Makes one at `to`, or a dated one. Runs to its end even when the caller leaves.
    pub(crate) async fn make(
        &self,
        to: Option<PathBuf>,
        wanted: Wanted,
    ) -> Result<Made, BackupError> {
        let place = self.place.clone();
        let place = place
            .try_acquire_owned()
            .map_err(|_| BackupError::Running)?;
        let own = self.clone();
        let making = self.tasks.spawn("backup", async move {
            let _place = place;
            let made = own.copy_and_rotate(to).await;
            own.tell(&made, wanted).await;
            made
        });
        let crashed = |_| StoreError::from(DbError::Other("the backup crashed".into()));
        Ok(making.await.map_err(crashed)??)
    }

    /// What lies among the backups, the newest first.
    pub(crate) async fn list(&self) -> Result<Vec<Backup>, StoreError> {
        self.among(backups::list).await
    }

    /// Makes one whenever that is due, until the guard is dropped.
    pub(crate) fn schedule(&self) -> Owned {
        let own = self.clone();
        self.tasks.spawn_owned("backup clock", own.tick())
    }

    /// Ends the one under way, and lets no other begin.
    pub(crate) async fn stop(&self, grace: Duration) {
        self.stopping.store(true, Ordering::Relaxed);
        if let Ok(Ok(place)) = tokio::time::timeout(grace, self.place.acquire()).await {
            place.forget();
        }
    }

    async fn copy_and_rotate(&self, to: Option<PathBuf>) -> Result<Made, StoreError> {
        let began = Instant::now();
        let (stopping, events) = (self.stopping.clone(), self.events.clone());
        let mut told = None;
        let mut watch = move |progress: Progress| {
            if told.is_none_or(|at: Instant| at.elapsed() >= TELLING) {
                told = Some(Instant::now());
                let detail = json!({"phase": progress.phase, "done": progress.done, "total": progress.total});
                events.mention(
                    "backup:progress",
                    "progress",
                    "a backup is under way".into(),
                    detail,
                );
            }
            if stopping.load(Ordering::Relaxed) {
                Go::Stop
            } else {
                Go::On
            }
        };
        let backup = self
            .among(move |database| backups::make(database, to.as_deref(), now_ms(), &mut watch))
            .await?;
        let mut removed = Vec::new();
        if backup.kind == Kind::Backup {
            let keep = self.settings.borrow().size(settings::BACKUP_KEEP);
            // The backup is made: that older ones stay is no reason to say otherwise.
            match self
                .among(move |database| backups::rotate(database, keep))
                .await
            {
                Ok(names) => removed = names,
                Err(error) => tracing::warn!(%error, "older backups could not be removed"),
            }
        }
        Ok(Made {
            backup,
            removed,
            took: began.elapsed(),
        })
    }

    /// Runs `job` on a thread that may wait for the disk, with the place of the database.
    async fn among<R, F>(&self, job: F) -> Result<R, StoreError>
    where
        R: Send + 'static,
        F: FnOnce(&Path) -> Result<R, DbError> + Send + 'static,
    {
        let database = self.database.read(own_path).await?;
        let job = tokio::task::spawn_blocking(move || job(&database));
        let crashed = |_| DbError::Other("the backup crashed".into());
        Ok(job.await.map_err(crashed)??)
    }

    /// A trail that cannot be written is logged: the backup is made.
    async fn tell(&self, made: &Result<Made, StoreError>, wanted: Wanted) {
        let made = match made {
            Ok(made) => made,
            Err(error) => {
                tracing::warn!(%error, "no backup could be made");
                let description = format!("backup failed: {error}");
                let detail = json!({"error": error.to_string()});
                self.events
                    .publish("backup:failed", "failed", description, detail);
                return;
            }
        };
        let backup = &made.backup;
        let row = AuditRow {
            id: new_id(),
            principal: wanted.principal.into(),
            action: "backed_up".into(),
            entity: "database".into(),
            entity_id: Some(backup.name.clone()),
            before: None,
            after: Some(json!({"backup": backup, "removed": made.removed})),
            request_id: wanted.request_id,
            timestamp: now_ms(),
        };
        if let Err(error) = self.database.write(WriteOp::RecordAudit(row)).await {
            tracing::warn!(%error, "a backup is not in the audit log");
        }
        tracing::info!(
            backup.name,
            backup.bytes,
            removed = made.removed.len(),
            "a backup was made"
        );
        let detail: Value =
            json!({"name": backup.name, "bytes": backup.bytes, "removed": made.removed});
        let description = format!("backup {} made", backup.name);
        self.events
            .publish("backup:finished", "created", description, detail);
    }

    async fn tick(self) {
        let mut settings = self.settings.clone();
        loop {
            let hours = settings.borrow_and_update().integer(settings::BACKUP_EVERY);
            let mut pause = LOOKED;
            if hours > 0 {
                let newest = self.list().await.map(|all| {
                    let own = all.into_iter().filter(|backup| backup.kind == Kind::Backup);
                    own.map(|backup| backup.created_at).max()
                });
                // A folder that cannot be read is looked at again later.
                if let Ok(newest) = newest {
                    let left = due_in(newest, hours, now_ms());
                    if left.is_zero() {
                        // What went wrong is told there; it is tried again after the pause.
                        let wanted = Wanted {
                            principal: "schedule",
                            request_id: None,
                        };
                        let _ = self.make(None, wanted).await;
                    } else {
                        pause = pause.min(left);
                    }
                }
            }
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                changed = settings.changed() => if changed.is_err() {
                    return;
                },
            }
        }
    }
}

/// How long until the next one. Times are Unix ms; one from the future counts as one of now, or none would be made until
/// then.
fn due_in(newest: Option<i64>, hours: i64, now: i64) -> Duration {
    let Some(newest) = newest else {
        return Duration::ZERO;
    };
    let left = hours * HOUR_MS - (now - newest).max(0);
    Duration::from_millis(u64::try_from(left).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_backup_is_due_when_the_newest_is_old_enough() {
        let hour = Duration::from_hours(1);
        for (newest, hours, now, left) in [
            (None, 1, 0, Duration::ZERO),
            (Some(0), 1, 0, hour),
            (Some(0), 2, HOUR_MS, hour),
            (Some(0), 1, HOUR_MS, Duration::ZERO),
            (Some(0), 1, 9 * HOUR_MS, Duration::ZERO),
            (Some(9 * HOUR_MS), 1, 0, hour),
        ] {
            assert_eq!(due_in(newest, hours, now), left, "{newest:?} {hours} {now}");
        }
    }
}
