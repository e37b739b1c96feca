//! The ports over HTTP: parse, ask a handle, encode. No SQL, no upstream, no business rule.

pub(crate) mod access;
pub(crate) mod aliases;
pub(crate) mod clients;
pub(crate) mod completions;
pub(crate) mod dashboard;
pub(crate) mod envelope;
pub(crate) mod error;
pub(crate) mod extract;
pub(crate) mod guard;
pub(crate) mod heads;
pub(crate) mod intake;
pub(crate) mod management;
pub(crate) mod metrics;
pub(crate) mod params;
pub(crate) mod ports;
pub(crate) mod same_user;
pub(crate) mod serve;

use std::sync::Arc;
use std::time::Instant;

use tokio::sync::{Semaphore, watch};
use tokio_util::sync::CancellationToken;

use crate::actors::backups::Backups;
use crate::actors::binding::Binding;
use crate::actors::keys::Keys;
use crate::actors::ports::Port;
use crate::actors::pulse::Pulse;
use crate::actors::settings::SettingsStore;
use crate::actors::tree::Handles;
use crate::exchange::Exchanges;
use crate::exchange::admission::Admission;
use crate::exchange::qwen::QwenWeb;
use crate::http::access::Gate;
use crate::http::management::conventions::Turns;
use crate::http::metrics::Metrics;
use crate::providers::OwnPorts;
use crate::secrets::Vault;
use crate::settings::Settings;
use crate::tasks::Tasks;

/// What handlers may use. Every layer and handler of a request has its own, so it must cost nothing to clone.
#[derive(Clone)]
pub(crate) struct App(Arc<Parts>);

impl From<Parts> for App {
    fn from(parts: Parts) -> Self {
        Self(Arc::new(parts))
    }
}

impl std::ops::Deref for App {
    type Target = Parts;

    fn deref(&self) -> &Parts {
        &self.0
    }
}

/// The handles, and what never changes.
pub(crate) struct Parts {
    pub(crate) handles: Handles,
    pub(crate) exchanges: Exchanges,
    pub(crate) settings: watch::Receiver<Arc<Settings>>,
    pub(crate) store: SettingsStore,
    pub(crate) qwen: QwenWeb,
    /// Changes under way: a shutdown lets them end while there is still a database.
    pub(crate) tasks: Tasks,
    /// One place: two imports at a time would gain nothing.
    pub(crate) importing: Arc<Semaphore>,
    pub(crate) backups: Backups,
    /// Whether the parts that everything needs answer.
    pub(crate) pulse: Pulse,
    pub(crate) started: Instant,
    pub(crate) integrity: watch::Receiver<Integrity>,
    pub(crate) qwen_port: Arc<Port>,
    pub(crate) router_port: Arc<Port>,
    pub(crate) ollama_port: Arc<Port>,
    /// Whose turn it is to change the configuration.
    pub(crate) changes: Turns,
    /// Requests to management that are served now.
    pub(crate) managing: Admission,
    /// Where the ports are.
    pub(crate) binding: Binding,
    pub(crate) keys: Keys,
    pub(crate) vault: Vault,
    /// Where no provider may be.
    pub(crate) own: OwnPorts,
    /// Who holds the admin token.
    pub(crate) gate: Gate,
    pub(crate) metrics: Metrics,
    /// Cancelled when somebody asked for the end of the process.
    pub(crate) ending: CancellationToken,
}

/// What the check of the database file beside serving found.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Integrity {
    #[default]
    Checking,
    Sound,
    Damaged(Vec<String>),
    Unknown(String),
}
