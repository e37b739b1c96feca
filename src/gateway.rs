//! The one place that knows all parts: opens the database, grows the tree, gives each listener the service of its port.

mod aftermath;

use std::collections::HashMap;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use futures_util::future::BoxFuture;
use serde_json::Value;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::actors::backups::Backups;
use crate::actors::binding::{self, Binding, Exposure};
use crate::actors::database::Database;
use crate::actors::keys::Keys;
use crate::actors::listener::Serve;
use crate::actors::ports::{Port, PortTaken};
use crate::actors::pulse::Pulse;
use crate::actors::root::Supervision;
use crate::actors::router::registry::Direct;
use crate::actors::router::resolve::closest;
use crate::actors::router::{sealing, seeds};
use crate::actors::salvage;
use crate::actors::settings::SettingsStore;
use crate::actors::tree::{Handles, Seed, Tree};
use crate::clock::new_id;
use crate::clock::now_ms;
use crate::db::connections::{ReadConnections, WriteConnection};
use crate::db::error::DbError;
use crate::db::instance::{Instance, OpenError};
use crate::db::keys::KeyRow;
use crate::db::ops::WriteOp;
use crate::db::providers::StoredProvider;
use crate::db::recovery::{self, Loss, Opened};
use crate::exchange::Exchanges;
use crate::exchange::admission::Admission;
use crate::exchange::cache::Cache;
use crate::exchange::counting::Counting;
use crate::exchange::qwen::QwenWeb;
use crate::gateway::aftermath::Memory;
use crate::http::access::Gate;
use crate::http::management::conventions::Turns;
use crate::http::metrics::Metrics;
use crate::http::{App, Integrity, Parts, ports, serve};
use crate::limits::connections::{
    DESCRIPTORS_KEPT, LEAST_CONNECTIONS, MOST_CONNECTIONS, MOST_MANAGERS,
};
use crate::limits::lifecycle::{
    BACKUP_GRACE, CHANGES_GRACE, FLUSH_DEADLINE, MANAGEMENT_GRACE, TASKS_GRACE,
};
use crate::providers::OwnPorts;
use crate::providers::http::Http;
use crate::providers::qwen::Login;
use crate::routing::budgets::Used;
use crate::routing::dice::{Dice, hash};
use crate::secrets::{KeyPlace, Vault};
use crate::settings::{self, Settings};
use crate::tasks::{Owned, Tasks};

/// How a gateway is started. Settings given here win over stored ones for the life of the process.
#[derive(Debug, Default)]
pub struct Config {
    /// Where the database and everything beside it lives; created when missing.
    pub data_dir: PathBuf,
    /// Settings by key, e.g. `("server.port", 0)`; port 0 lets the system choose.
    pub settings: Vec<(String, Value)>,
    /// Listen on whatever address is asked for, without a token or keys.
    pub insecure: bool,
    /// Sockets that a service manager listens on already, each at the address of one of the ports.
    pub sockets: Vec<TcpListener>,
}

/// Why a gateway did not start: one line that says what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The data directory is in use, or cannot be used.
    #[error("{0}")]
    DataDir(String),
    /// A port cannot be had.
    #[error("{0}")]
    Port(String),
    /// A setting given at the start is unknown or out of range.
    #[error("{0}")]
    Setting(String),
    /// The database cannot be used.
    #[error("{0}")]
    Database(String),
    /// The root supervisor did not start.
    #[error("the root supervisor did not start: {0}")]
    Root(String),
}

/// A running gateway.
pub struct Gateway {
    handles: Handles,
    settings: watch::Receiver<Arc<Settings>>,
    tasks: Tasks,
    /// Those that may still have something to store: they end before the database does.
    changes: Tasks,
    management: Arc<Port>,
    qwen: Arc<Port>,
    router: Arc<Port>,
    ollama: Arc<Port>,
    root: JoinHandle<()>,
    instance: Instance,
    warnings: Vec<String>,
    backups: Backups,
    pulse: Pulse,
    ending: CancellationToken,
    /// Ends with the value.
    backup_clock: Owned,
    /// What watches over the database; ends with the value.
    watching: [Owned; 3],
}

/// The services of the ports, known once the handles are.
struct Services {
    qwen: serve::Service,
    router: serve::Service,
    ollama: serve::Service,
    management: serve::Service,
}

impl Gateway {
    /// Starts everything. When it returns, all ports serve.
    pub async fn start(config: Config) -> Result<Self, StartError> {
        let started = Instant::now();
        let flags = checked_flags(&config.settings)?;
        let instance = Instance::open(&config.data_dir, std::process::id())
            .map_err(|error| open_error(&error))?;
        let Prepared {
            settings,
            warnings,
            keys,
            used,
            providers,
            writer,
        } = prepare_database(&instance, &flags).await?;
        let exposure = if config.insecure {
            Exposure::Insecure
        } else {
            Exposure::Guarded
        };
        let host = binding::host(&settings, exposure)
            .await
            .map_err(|(_, message)| StartError::Setting(message))?;
        let tasks = Tasks::default();
        let place = if settings.flag(settings::KEYRING) {
            KeyPlace::Keyring
        } else {
            KeyPlace::File
        };
        let vault = Vault::open(&config.data_dir, place)
            .map_err(|error| StartError::DataDir(key_error(&error)))?;
        seal_stored(&writer, &vault, providers)
            .await
            .map_err(|error| database_error(&error))?;
        writer.close().await;
        let direct = Direct::default();
        let at = |key| SocketAddr::new(host, settings.port(key));
        let mut sockets = config.sockets;
        let mut port = |name, flag, key| Port::new(name, flag, at(key), &mut sockets);
        let qwen = port("Qwen proxy", "--qwen-port", settings::SERVER_QWEN_PORT);
        let router = port("router", "--port", settings::SERVER_PORT);
        let management = port("management API", "--api-port", settings::SERVER_API_PORT);
        let ollama_at = at(settings::OLLAMA_PORT);
        let ollama = Port::optional("Ollama API", "--ollama-port", ollama_at, &mut sockets);
        let all_ports = [
            qwen.clone(),
            router.clone(),
            management.clone(),
            ollama.clone(),
        ];
        refuse_strays(&sockets, &all_ports)?;
        let auto_start = settings.flag(settings::AUTO_START);
        let wanted = [
            Some(&management),
            auto_start.then_some(&qwen),
            auto_start.then_some(&router),
            auto_start.then_some(&ollama),
        ];
        for port in wanted.into_iter().flatten() {
            port.open().map_err(|taken| port_error(&taken))?;
        }

        let own = OwnPorts::new({
            let ports = all_ports.clone();
            move || ports.each_ref().map(|port| port.address().port())
        });
        let (sender, settings) = watch::channel(Arc::new(settings));
        let http = Http::new(own.clone()).through({
            let settings = settings.clone();
            move || {
                let settings = settings.borrow();
                settings
                    .text(settings::NETWORK_PROXY)
                    .unwrap_or_default()
                    .to_owned()
            }
        });
        let services: Arc<OnceLock<Services>> = Arc::default();
        let clients = Arc::new(Semaphore::new(room_for_clients(&settings.borrow())));
        let managers = Arc::new(Semaphore::new(MOST_MANAGERS));
        let tree = Tree::new(Seed {
            database: instance.database().to_owned(),
            http: http.clone(),
            vault: vault.clone(),
            login: environment_login(),
            direct: direct.clone(),
            settings: settings.clone(),
            tasks: tasks.clone(),
            qwen: (
                qwen.clone(),
                serving(&services, &settings, &clients, |services| &services.qwen),
            ),
            router: (
                router.clone(),
                serving(&services, &settings, &clients, |services| &services.router),
            ),
            ollama: (
                ollama.clone(),
                serving(&services, &settings, &clients, |services| &services.ollama),
            ),
            management: (
                management.clone(),
                serving(&services, &settings, &managers, |services| {
                    &services.management
                }),
            ),
        });
        let handles = tree.handles.clone();
        let changes = tasks.group();
        let web = QwenWeb::new(
            handles.credentials.clone(),
            handles.sessions.clone(),
            settings.clone(),
            http,
            changes.clone(),
        );
        let _ = direct.set(Arc::new(web.clone()));
        let backups = Backups::new(
            handles.database.clone(),
            handles.events.clone(),
            settings.clone(),
            tasks.clone(),
        );
        let pulse = Pulse::new(
            handles.supervision.clone(),
            handles.database.clone(),
            all_ports.clone(),
        );
        let ending = CancellationToken::new();
        let (integrity_sender, integrity) = watch::channel(Integrity::default());
        let app = App::from(Parts {
            exchanges: Exchanges {
                router: handles.router.clone(),
                database: handles.database.clone(),
                events: handles.events.clone(),
                settings: settings.clone(),
                tasks: changes.clone(),
                admission: Admission::default(),
                cache: Cache::default(),
                counting: Counting::default(),
                retries: Arc::default(),
                dice: Arc::new(Dice::new(seed())),
            },
            handles: handles.clone(),
            settings: settings.clone(),
            store: SettingsStore::new(handles.database.clone(), flags, sender),
            qwen: web,
            tasks: changes.clone(),
            importing: Arc::new(Semaphore::new(1)),
            backups: backups.clone(),
            pulse: pulse.clone(),
            started,
            integrity,
            changes: Turns::default(),
            managing: Admission::default(),
            binding: Binding::new(
                exposure,
                all_ports.clone(),
                handles.supervision.clone(),
                settings.clone(),
                tasks.clone(),
            ),
            own,
            keys: Keys::new(handles.database.clone(), keys, used),
            vault,
            gate: Gate::new(),
            metrics: Metrics::default(),
            ending: ending.clone(),
            qwen_port: qwen.clone(),
            router_port: router.clone(),
            ollama_port: ollama.clone(),
        });
        let _ = services.set(Services {
            qwen: ports::qwen(&app),
            router: ports::router(&app),
            ollama: ports::ollama(&app),
            management: ports::management(&app),
        });
        let root = tree
            .start()
            .await
            .map_err(|error| StartError::Root(error.to_string()))?;
        if auto_start {
            let opened = handles
                .gateway
                .start()
                .await
                .map_err(|error| StartError::Root(error.to_string()))?;
            opened.map_err(|taken| port_error(&taken))?;
        }
        // Ready means that a request would be served, not only accepted.
        handles
            .router
            .providers()
            .await
            .map_err(|error| StartError::Root(error.to_string()))?;

        let memory = Memory {
            handles: handles.clone(),
            store: app.store.clone(),
            keys: app.keys.clone(),
            settings: settings.clone(),
        };
        let watching = [
            tasks.spawn_owned(
                "integrity check",
                aftermath::check(handles.clone(), integrity_sender),
            ),
            tasks.spawn_owned("recovery", memory.follow()),
            tasks.spawn_owned(
                "salvage",
                salvage::run(handles.database.clone(), instance.database().to_owned()),
            ),
        ];
        Ok(Self {
            handles,
            settings,
            tasks,
            changes,
            management,
            qwen,
            router,
            ollama,
            root,
            instance,
            warnings,
            ending,
            backup_clock: backups.schedule(),
            backups,
            pulse,
            watching,
        })
    }

    /// Where the router listens.
    pub fn router_address(&self) -> SocketAddr {
        self.router.address()
    }

    /// Where the Qwen proxy listens.
    pub fn qwen_address(&self) -> SocketAddr {
        self.qwen.address()
    }

    /// Where Ollama's API is served; none where it is off.
    pub fn ollama_address(&self) -> Option<SocketAddr> {
        self.ollama.opened_since()?;
        Some(self.ollama.address())
    }

    /// Where the management API listens.
    pub fn management_address(&self) -> SocketAddr {
        self.management.address()
    }

    /// The database file.
    pub fn database_path(&self) -> &std::path::Path {
        self.instance.database()
    }

    /// Stored or environment values that were refused at the start, for the log.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// Calls `set` with the level that should be logged, now and whenever it changes, until the gateway ends.
    pub fn follow_log_level<F: Fn(&str)>(&self, set: F) -> impl Future<Output = ()> + use<F> {
        let mut settings = self.settings.clone();
        async move {
            loop {
                set(log_level(&settings.borrow_and_update()));
                if settings.changed().await.is_err() {
                    return std::future::pending().await;
                }
            }
        }
    }

    /// How long a shutdown lets open requests finish.
    pub fn drain_timeout(&self) -> Duration {
        self.settings
            .borrow()
            .millis(settings::SERVER_DRAIN_TIMEOUT)
    }

    /// Whether its parts answer.
    pub(crate) fn pulse(&self) -> &Pulse {
        &self.pulse
    }

    /// How its actors are seen and ended.
    pub(crate) fn supervision(&self) -> &Supervision {
        &self.handles.supervision
    }

    /// The door to its database.
    pub(crate) fn database(&self) -> &Database {
        &self.handles.database
    }

    /// The doors to its actors.
    #[cfg(feature = "measure")]
    pub(crate) fn handles(&self) -> &Handles {
        &self.handles
    }

    /// Resolves when a client that may has asked for the end of the process.
    pub fn asked_to_end(&self) -> impl Future<Output = ()> + use<> {
        self.ending.clone().cancelled_owned()
    }

    /// Resolves when the root supervisor has ended, which only a failure or [`Gateway::shutdown`] brings about.
    pub async fn ended(&mut self) {
        let _ = (&mut self.root).await;
    }

    /// Closes the ports, lets requests finish within `grace`, ends the rest with an error, stores what is queued.
    /// Returns whether everything ended in order.
    pub async fn shutdown(mut self, grace: Duration) -> bool {
        let mut orderly = match self.handles.gateway.stop(grace).await {
            Ok(drained) => {
                tracing::info!(
                    drained = drained.drained,
                    aborted = drained.aborted,
                    "the gateway is stopped"
                );
                true
            }
            Err(error) => {
                tracing::error!(%error, "the gateway did not stop in order");
                false
            }
        };
        if let Some(connections) = self.management.close() {
            connections.accepting_ended().await;
            connections.drain(MANAGEMENT_GRACE).await;
        }
        if !self.changes.drain(CHANGES_GRACE).await {
            tracing::warn!(tasks = ?self.changes.running(), "changes were still being made at the end");
        }
        drop(self.backup_clock);
        drop(self.watching);
        self.backups.stop(BACKUP_GRACE).await;
        for port in [&self.qwen, &self.router, &self.ollama, &self.management] {
            port.end_retired();
        }
        if let Err(error) = self.handles.database.flush(FLUSH_DEADLINE).await {
            tracing::error!(%error, "not everything queued could be stored");
            orderly = false;
        }
        if let Err(error) = self.handles.supervision.stop().await {
            tracing::error!(%error, "the actors did not stop in order");
            orderly = false;
        } else {
            let _ = (&mut self.root).await;
        }
        if !self.tasks.drain(TASKS_GRACE).await {
            tracing::warn!(tasks = ?self.tasks.running(), "tasks were still running at the end");
            orderly = false;
        }
        orderly
    }
}

/// Where chance begins: elsewhere in each process.
fn seed() -> u64 {
    hash(new_id().as_bytes())
}

fn serving(
    services: &Arc<OnceLock<Services>>,
    settings: &watch::Receiver<Arc<Settings>>,
    room: &Arc<Semaphore>,
    pick: fn(&Services) -> &serve::Service,
) -> Serve {
    let (services, settings) = (services.clone(), settings.clone());
    let serve = Arc::new(move |stream, connections| -> BoxFuture<'static, ()> {
        let service = services.get().map(|services| pick(services).clone());
        let client_timeout = settings.borrow().millis(settings::SERVER_CLIENT_TIMEOUT);
        Box::pin(async move {
            // Set before the tree starts, so before anything is accepted.
            if let Some(service) = service {
                serve::connection(stream, service, connections, client_timeout).await;
            }
        })
    });
    Serve {
        connection: serve,
        turn_away: |stream| Box::pin(serve::turn_away(stream)),
        room: room.clone(),
    }
}

/// The least severe level that should be logged.
fn log_level(settings: &Settings) -> &str {
    settings.text(settings::LOGGING_LEVEL).unwrap_or("info")
}

/// How many connections of clients may be open at once: each may need another one, to its upstream, unless the settings know
/// better.
fn room_for_clients(settings: &Settings) -> usize {
    let descriptors = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    let descriptors = descriptors.map_or(usize::MAX, |most| {
        usize::try_from(most).unwrap_or(usize::MAX)
    });
    let left = descriptors.saturating_sub(DESCRIPTORS_KEPT);
    let most = match settings.size(settings::SERVER_MAX_CONNECTIONS) {
        0 => left / 2,
        most => most.min(left),
    };
    most.clamp(LEAST_CONNECTIONS, MOST_CONNECTIONS)
}

/// The database before the tree opens it.
struct Prepared {
    settings: Settings,
    warnings: Vec<String>,
    keys: Vec<KeyRow>,
    used: HashMap<String, Used>,
    providers: Vec<StoredProvider>,
    writer: WriteConnection,
}

/// Opens and migrates the file once before the tree does, so that what is wrong with it is one clear line and an exit,
/// and so that the settings are known.
async fn prepare_database(
    instance: &Instance,
    flags: &[(&'static str, Value)],
) -> Result<Prepared, StartError> {
    let mut loss = None;
    let mut prepared = prepare(instance, flags, &mut loss).await;
    if let Err(error) = &prepared
        && error.is_ruin()
    {
        loss.get_or_insert_with(|| Loss::new(error.clone(), now_ms()));
        prepared = prepare(instance, flags, &mut loss).await;
    }
    prepared.map_err(|error| database_error(&error))
}

async fn prepare(
    instance: &Instance,
    flags: &[(&'static str, Value)],
    loss: &mut Option<Loss>,
) -> Result<Prepared, DbError> {
    let path = instance.database();
    let Opened {
        writer, migrated, ..
    } = recovery::open(path, now_ms(), loss).await?;
    if let Some(backup) = &migrated.backup {
        tracing::info!(from = migrated.from, to = migrated.to, backup = %backup.display(), "the database was migrated");
    }
    let readers = ReadConnections::open(path, 1).await?;
    let stored = readers.run(crate::db::settings::all).await?;
    let keys = readers.run(crate::db::keys::all).await?;
    let used = readers
        .run(|conn| crate::db::keys::usage(conn, now_ms()))
        .await?;
    let providers = readers.run(crate::db::providers::all).await?;
    drop(readers);
    let (settings, warnings) = Settings::resolve(&stored, |name| std::env::var(name).ok(), flags);
    let now = now_ms();
    let first = vec![
        Arc::new(WriteOp::InterruptUnfinished { before: now }),
        Arc::new(WriteOp::SeedProviders(seeds::seeds(
            now,
            settings.port(settings::SERVER_QWEN_PORT),
        ))),
    ];
    for outcome in writer.commit(first).await? {
        outcome?;
    }
    Ok(Prepared {
        settings,
        warnings,
        keys,
        used,
        providers,
        writer,
    })
}

/// A socket for none of our ports is a mistake in the service manager's file, and its clients would wait for ever. It is
/// not taken for a port by its number alone: where we listen decides who may call (S1).
fn refuse_strays(strays: &[TcpListener], ports: &[Arc<Port>]) -> Result<(), StartError> {
    let Some(stray) = strays.first() else {
        return Ok(());
    };
    let at = stray.local_addr();
    let at = at.map_or_else(|_| "an unknown address".into(), |at| at.to_string());
    let ours: Vec<_> = ports
        .iter()
        .map(|port| port.address().to_string())
        .collect();
    Err(StartError::Port(format!(
        "the service manager handed over a socket that listens at {at}, where no port of ours is ({}); make its address \
         and `server.host`, `server.port`, `server.qwenPort`, `server.apiPort` agree",
        ours.join(", ")
    )))
}

/// Seals what an earlier version stored in the open.
async fn seal_stored(
    writer: &WriteConnection,
    vault: &Vault,
    providers: Vec<StoredProvider>,
) -> Result<(), DbError> {
    let mut ops = Vec::new();
    for StoredProvider {
        provider, config, ..
    } in providers
    {
        for plain in config {
            let sealed = sealing::sealed_row(vault, &provider.id, plain.clone())?;
            if sealed.sealed && !plain.sealed {
                ops.push(Arc::new(WriteOp::SealConfig {
                    provider: provider.id.clone(),
                    plain,
                    sealed,
                }));
            }
        }
    }
    if ops.is_empty() {
        return Ok(());
    }
    tracing::info!(
        secrets = ops.len(),
        "secrets that were stored in the open are sealed"
    );
    for outcome in writer.commit(ops).await? {
        outcome?;
    }
    // The log holds what the file held before.
    match writer.checkpoint().await {
        Err(DbError::Busy) | Ok(()) => Ok(()),
        Err(error) => Err(error),
    }
}

fn checked_flags(given: &[(String, Value)]) -> Result<Vec<(&'static str, Value)>, StartError> {
    let check = |(key, value): &(String, Value)| {
        let setting =
            settings::find(key).ok_or_else(|| StartError::Setting(unknown_setting(key)))?;
        let kept = setting.taken(value).map_err(StartError::Setting)?;
        Ok((setting.key, kept))
    };
    given.iter().map(check).collect()
}

/// The login that the original took from the environment (management contract, 2.2).
fn environment_login() -> Option<Arc<Login>> {
    let set = |name| {
        std::env::var(name)
            .ok()
            .filter(|value| !value.trim().is_empty())
    };
    let (token, cookies) = (set("QWEN_TOKEN")?, set("QWEN_COOKIES")?);
    Some(Arc::new(Login {
        id: "environment".into(),
        label: "environment".into(),
        token: token.into(),
        cookies: cookies.into(),
        headers: "".into(),
    }))
}

fn key_error(error: &std::io::Error) -> String {
    format!("the key file in the data directory cannot be used: {error}")
}

fn unknown_setting(key: &str) -> String {
    let keys: Vec<String> = settings::SETTINGS
        .iter()
        .map(|setting| setting.key.to_owned())
        .collect();
    let close = closest(key, &keys);
    let meant = settings::SETTINGS
        .iter()
        .filter(|setting| close.iter().any(|close| close == setting.key));
    let meant: Vec<String> = meant
        .map(|setting| format!("`{}` ({})", setting.key, setting.help))
        .collect();
    match meant.as_slice() {
        [] => format!(
            "there is no setting `{key}`; there are: {}",
            keys.join(", ")
        ),
        meant => format!("there is no setting `{key}`; closest: {}", meant.join(", ")),
    }
}

fn open_error(error: &OpenError) -> StartError {
    StartError::DataDir(error.to_string())
}

fn database_error(error: &DbError) -> StartError {
    StartError::Database(error.to_string())
}

fn port_error(taken: &PortTaken) -> StartError {
    StartError::Port(taken.to_string())
}
