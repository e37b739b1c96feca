//! What follows when another file has taken the database's place, and the check of the file beside serving.

use std::sync::Arc;

use serde_json::json;
use tokio::sync::watch;

use crate::actors::keys::Keys;
use crate::actors::router::seeds;
use crate::actors::settings::SettingsStore;
use crate::actors::tree::Handles;
use crate::clock::now_ms;
use crate::db::ops::WriteOp;
use crate::db::recovery::{self, Recovered};
use crate::http::Integrity;
use crate::limits::lifecycle::CHECK_DEADLINE;
use crate::settings::{self, Settings};

/// Those that have read their rows into memory.
const READERS: [&str; 2] = ["credentials", "qwen-sessions"];

/// When the file in use took the place of another one, if it did.
fn taken_at(recovered: &watch::Receiver<Option<Recovered>>) -> Option<i64> {
    recovered.borrow().as_ref().map(|recovered| recovered.at)
}

/// Waits until another file has taken the place of the one that did at `known`.
async fn another(
    recovered: &mut watch::Receiver<Option<Recovered>>,
    known: Option<i64>,
) -> Option<i64> {
    let is_other = |now: &Option<Recovered>| now.as_ref().is_some_and(|now| Some(now.at) != known);
    let changed = recovered.wait_for(is_other).await;
    let taken = changed.map(|now| now.as_ref().map(|now| now.at));
    match taken {
        Ok(taken) => taken,
        // The gateway is going away.
        Err(_) => std::future::pending().await,
    }
}

/// Checks the file at the start and whenever it is another one. Pages that make no sense are not served from.
pub(super) async fn check(handles: Handles, integrity: watch::Sender<Integrity>) {
    let database = handles.database;
    let mut recovered = database.recovered();
    loop {
        let known = taken_at(&recovered);
        let found = match database.quick_check(CHECK_DEADLINE).await {
            Ok(faults) if faults.is_empty() => Integrity::Sound,
            Ok(faults) => Integrity::Damaged(faults),
            Err(error) => Integrity::Unknown(error.to_string()),
        };
        // What was found of a file that is not in use any more says nothing.
        if taken_at(&recovered) == known {
            if let Integrity::Damaged(faults) = &found {
                tracing::error!(faults = faults.len(), "the database file is damaged");
                let damage: Vec<String> = faults
                    .iter()
                    .filter(|fault| recovery::is_damage(fault))
                    .cloned()
                    .collect();
                if !damage.is_empty() {
                    database.ruined(&damage);
                }
            }
            integrity.send_replace(found);
            another(&mut recovered, known).await;
            integrity.send_replace(Integrity::Checking);
        }
    }
}

/// What is held in memory, to be read again.
pub(super) struct Memory {
    pub(super) handles: Handles,
    pub(super) store: SettingsStore,
    pub(super) keys: Keys,
    pub(super) settings: watch::Receiver<Arc<Settings>>,
}

impl Memory {
    /// Reads it again whenever another file has taken the place of the one it was read from.
    pub(super) async fn follow(self) {
        let mut recovered = self.handles.database.recovered();
        let mut known = taken_at(&recovered);
        loop {
            known = another(&mut recovered, known).await;
            self.reload().await;
            let Some(found) = recovered.borrow().clone() else {
                continue;
            };
            let description = format!(
                "a fresh database took the place of one that could not be used: {}",
                found.why
            );
            let detail =
                json!({"why": found.why, "kept": found.kept, "configuration": found.configuration});
            self.handles
                .events
                .publish("database:recovered", "recovered", description, detail);
        }
    }

    /// What cannot be read now is read with the next change of it.
    async fn reload(&self) {
        if let Err(error) = self.store.reload().await {
            tracing::warn!(%error, "the settings were not read again");
        }
        let port = self.settings.borrow().port(settings::SERVER_QWEN_PORT);
        let seeds = WriteOp::SeedProviders(seeds::seeds(now_ms(), port));
        if let Err(error) = self.handles.database.write(seeds).await {
            tracing::warn!(%error, "the first providers were not looked for");
        }
        if let Err(error) = self.keys.reload().await {
            tracing::warn!(%error, "the keys were not read again");
        }
        if let Err(error) = self.handles.router.refresh().await {
            tracing::warn!(%error, "the providers were not read again");
        }
        for actor in READERS {
            if let Err(error) = self.handles.supervision.restart(actor).await {
                tracing::warn!(%error, actor, "it was not started again");
            }
        }
    }
}
