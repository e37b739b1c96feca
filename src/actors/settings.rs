//! The settings in force, and the way to change one: stored first, then told to whoever watches.
//!
//! Not an actor: the value lives in a watch channel above all of them, so nothing of it can crash.

use std::sync::Arc;

use serde_json::Value;
use tokio::sync::watch;

use crate::actors::database::{Database, StoreError};
use crate::clock::now_ms;
use crate::db::ops::WriteOp;
use crate::db::settings::{self, SettingRow};
use crate::settings::{self as table, Settings};

/// Changes settings. Cheap to clone.
#[derive(Clone)]
pub(crate) struct SettingsStore {
    database: Database,
    flags: Arc<Vec<(&'static str, Value)>>,
    sender: Arc<watch::Sender<Arc<Settings>>>,
}

impl SettingsStore {
    /// `flags` are the command line's, which win over what is stored.
    pub(crate) fn new(
        database: Database,
        flags: Vec<(&'static str, Value)>,
        sender: watch::Sender<Arc<Settings>>,
    ) -> Self {
        Self {
            database,
            flags: Arc::new(flags),
            sender: Arc::new(sender),
        }
    }

    /// Stores `value`, or with `None` goes back to the default; in force when this returns.
    pub(crate) async fn put(&self, key: &str, value: Option<Value>) -> Result<(), StoreError> {
        let key = key.to_owned();
        let op = match value {
            Some(value) => WriteOp::PutSetting {
                key,
                value: value.to_string(),
                at: now_ms(),
            },
            None => WriteOp::DeleteSetting { key },
        };
        self.database.write(op).await?;
        self.reload().await
    }

    /// Puts what is stored in force.
    pub(crate) async fn reload(&self) -> Result<(), StoreError> {
        let stored = self.database.read(settings::all).await?;
        let (settings, _) =
            Settings::resolve(&stored, |name| std::env::var(name).ok(), &self.flags);
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
