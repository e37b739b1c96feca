//! The tree: which children the root has, in which order, and what each is given. The one place to add an actor.

use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::actors::credentials::{self, Credentials};
use crate::actors::database::{self, Database};
use crate::actors::events::{self, Events};
use crate::actors::gateway::{self, Gateway};
use crate::actors::listener::{self, Serve};
use crate::actors::ports::Port;
use crate::actors::retention::{self, Retention};
use crate::actors::root::{Root, Supervision};
use crate::actors::router::registry::Direct;
use crate::actors::router::{self, Router};
use crate::actors::sessions::{self, Sessions};
use crate::actors::supervisor::{ChildSpec, LifeEvent};
use crate::providers::http::Http;
use crate::providers::qwen::Login;
use crate::secrets::Vault;
use crate::settings::Settings;
use crate::tasks::Tasks;

/// What the tree is grown from.
pub(crate) struct Seed {
    pub(crate) database: PathBuf,
    pub(crate) http: Http,
    pub(crate) vault: Vault,
    /// The login of the environment.
    pub(crate) login: Option<Arc<Login>>,
    /// The adapter of the providers of type `qwen-direct`, set before the tree starts.
    pub(crate) direct: Direct,
    pub(crate) settings: watch::Receiver<Arc<Settings>>,
    pub(crate) tasks: Tasks,
    pub(crate) qwen: (Arc<Port>, Serve),
    pub(crate) router: (Arc<Port>, Serve),
    pub(crate) ollama: (Arc<Port>, Serve),
    pub(crate) management: (Arc<Port>, Serve),
}

/// The handles of all actors.
#[derive(Clone)]
pub(crate) struct Handles {
    pub(crate) supervision: Supervision,
    pub(crate) database: Database,
    pub(crate) events: Events,
    pub(crate) credentials: Credentials,
    pub(crate) sessions: Sessions,
    pub(crate) retention: Retention,
    pub(crate) router: Router,
    pub(crate) gateway: Gateway,
}

/// A tree that does not run yet: its handles may be given away already, calls wait for the start.
pub(crate) struct Tree {
    pub(crate) handles: Handles,
    root: Root,
    children: Vec<ChildSpec>,
    observe: Arc<dyn Fn(LifeEvent) + Send + Sync>,
    tasks: Tasks,
}

impl Tree {
    pub(crate) fn new(seed: Seed) -> Self {
        let tasks = seed.tasks;
        let (database_spec, database) = database::child(seed.database, tasks.clone());
        let (events_spec, events) = events::child(database.clone());
        let (credentials_spec, credentials) = credentials::child(credentials::Arguments {
            database: database.clone(),
            events: events.clone(),
            vault: seed.vault.clone(),
            fallback: seed.login,
            tasks: tasks.clone(),
        });
        let (sessions_spec, sessions) = sessions::child(database.clone(), seed.settings.clone());
        let (retention_spec, retention) = retention::child(retention::Arguments {
            database: database.clone(),
            events: events.clone(),
            settings: seed.settings.clone(),
            tasks: tasks.clone(),
        });
        let (router_spec, router) = router::child(router::Arguments {
            database: database.clone(),
            http: seed.http,
            direct: seed.direct,
            vault: seed.vault,
            settings: seed.settings,
            tasks: tasks.clone(),
        });
        let observe: Arc<dyn Fn(LifeEvent) + Send + Sync> = {
            let events = events.clone();
            Arc::new(move |life| events.publish_life(&life))
        };
        let listen = |name, (port, serve): (Arc<Port>, Serve)| {
            listener::child(
                name,
                listener::Arguments {
                    port,
                    serve,
                    tasks: tasks.clone(),
                },
            )
        };
        let ports = vec![
            seed.qwen.0.clone(),
            seed.router.0.clone(),
            seed.ollama.0.clone(),
        ];
        let listeners = vec![
            listen("listener-qwen", seed.qwen),
            listen("listener-router", seed.router),
            listen("listener-ollama", seed.ollama),
        ];
        let (gateway_spec, gateway) = gateway::child(gateway::Arguments {
            ports,
            listeners: listeners.clone(),
            tasks: tasks.clone(),
            observe: observe.clone(),
        });
        let management_spec = listen("listener-management", seed.management);
        let children = vec![
            database_spec,
            events_spec,
            credentials_spec,
            sessions_spec,
            retention_spec,
            router_spec,
            gateway_spec,
            management_spec,
        ];
        let root = Root::new();
        let supervision = root.supervision(gateway.clone(), children.clone(), listeners);
        let handles = Handles {
            supervision,
            database,
            events,
            credentials,
            sessions,
            retention,
            router,
            gateway,
        };
        Self {
            handles,
            root,
            children,
            observe,
            tasks,
        }
    }

    /// Starts every actor. The handle resolves when the root supervisor has ended.
    pub(crate) async fn start(self) -> Result<JoinHandle<()>, ractor::SpawnErr> {
        self.root
            .start(self.children, self.tasks, self.observe)
            .await
    }
}
