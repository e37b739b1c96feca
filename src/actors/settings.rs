//! The settings in force, and the way to change one: stored first, then told to whoever watches.
//!
//! Not an actor: the value lives in a watch channel above all of them, so nothing of it can crash.

use std::sync::{Arc, Mutex};

use serde_json::Value;
use tokio::sync::watch;

use crate::actors::database::{Database, StoreError};
use crate::clock::now_ms;
use crate::db::ops::WriteOp;
use crate::db::settings::{self, SettingRow};
use crate::settings::{self as table, Settings};
use crate::tasks::lock;

/// Changes settings. Cheap to clone.
#[derive(Clone)]
pub(crate) struct SettingsStore {
    database: Database,
    flags: Arc<Mutex<Vec<(&'static str, Value)>>>,
    sender: Arc<watch::Sender<Arc<Settings>>>,
}

impl SettingsStore {
    /// `flags` are the command line's, which win over what is stored until it is changed.
    pub(crate) fn new(
        database: Database,
        flags: Vec<(&'static str, Value)>,
        sender: watch::Sender<Arc<Settings>>,
    ) -> Self {
        Self {
            database,
            flags: Arc::new(Mutex::new(flags)),
            sender: Arc::new(sender),
        }
    }

    /// Stores values, or with `None` goes back to the default; in force when this returns. The latest word counts: what a flag said is over for this run.
    pub(crate) async fn put_all(
        &self,
        changes: Vec<(String, Option<Value>)>,
    ) -> Result<(), StoreError> {
        let stored = self.store(changes).await;
        self.reload().await?;
        stored
    }

    async fn store(&self, changes: Vec<(String, Option<Value>)>) -> Result<(), StoreError> {
        for (key, value) in changes {
            let op = match value {
                Some(value) => WriteOp::PutSetting {
                    key: key.clone(),
                    value: value.to_string(),
                    at: now_ms(),
                },
                None => WriteOp::DeleteSetting { key: key.clone() },
            };
            self.database.write(op).await?;
            lock(&self.flags).retain(|(flag, _)| *flag != key);
        }
        Ok(())
    }

    /// What would be in force after these changes.
    pub(crate) async fn preview(
        &self,
        changes: &[(String, Option<Value>)],
    ) -> Result<Settings, StoreError> {
        let is_changed = |key: &str| changes.iter().any(|(changed, _)| changed == key);
        let mut stored = self.database.read(settings::all).await?;
        stored.retain(|(key, _)| !is_changed(key));
        let put = changes
            .iter()
            .filter_map(|(key, value)| Some((key.clone(), value.as_ref()?.to_string())));
        stored.extend(put);
        let mut flags = lock(&self.flags).clone();
        flags.retain(|(key, _)| !is_changed(key));
        Ok(resolved(&stored, &flags))
    }

    /// Puts what is stored in force.
    pub(crate) async fn reload(&self) -> Result<(), StoreError> {
        let stored = self.database.read(settings::all).await?;
        let settings = resolved(&stored, &lock(&self.flags));
        self.sender.send_replace(Arc::new(settings));
        Ok(())
    }

    /// What was changed from its default.
    pub(crate) async fn stored(&self) -> Result<Vec<SettingRow>, StoreError> {
        self.database.read(settings::rows).await
    }

    /// What is in force now.
    pub(crate) fn active_provider(&self) -> Option<String> {
        self.sender
            .borrow()
            .text(table::ACTIVE_PROVIDER)
            .map(str::to_owned)
    }
}

fn resolved(stored: &[(String, String)], flags: &[(&'static str, Value)]) -> Settings {
    Settings::resolve(stored, |name| std::env::var(name).ok(), flags).0
}
