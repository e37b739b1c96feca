//! The router: where a request goes.
//!
//! Owns: which providers and virtual models there are, which models they offer, and what their names lead to. Durable:
//! the tables of them, read again at each start. Kept above it: the last registry, the model lists, and how each target
//! does (breakers, latencies, limits), so that an incarnation that starts while the database is away still routes, and
//! none begins anew with a dead upstream. A crash loses: requests to refresh, whose turn it is. Never waits for: an
//! upstream or the database, tasks report back.

pub(crate) mod catalogue;
pub(crate) mod nodes;
pub(crate) mod plan;
pub(crate) mod probing;
pub(crate) mod registry;
pub(crate) mod resolve;
pub(crate) mod sealing;
pub(crate) mod seeds;
pub(crate) mod target;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use serde_json::json;
use tokio::sync::watch;

use crate::actors::address::{Address, Message as ActorMessage, Reply, Unavailable};
use crate::actors::behaviour::{Behaviour, Fatal, Own};
use crate::actors::database::{Database, StoreError};
use crate::actors::router::catalogue::{Listing, Offer};
use crate::actors::router::nodes::{Doing, Nodes};
use crate::actors::router::plan::{Question, RoutePlan};
use crate::actors::router::probing::Suspects;
use crate::actors::router::registry::{Direct, Entry, Registry, Stored};
use crate::actors::router::resolve::{NoTarget, Route, World};
use crate::actors::supervisor::ChildSpec;
use crate::clock::{new_id, now_ms};
use crate::db::audit::AuditRow;
use crate::db::error::DbError;
use crate::db::ops::WriteOp;
use crate::db::providers::{ConfigRow, ProviderChange, ProviderRow, StoredProvider};
use crate::limits::routing::{
    LIST_DEADLINE, LIST_FRESH, LIST_RETRY, MOST_ROUTES, MOST_WAITING, PLAN_DEADLINE, ROUTER_MAILBOX,
};
use crate::providers::http::Http;
use crate::providers::{InvalidConfig, Provider, UpstreamError, UpstreamModel};
use crate::routing::node::Closed;
use crate::secrets::Vault;
use crate::settings::{self, Settings};
use crate::tasks::{Owned, Tasks, lock};

/// How the rest of the gateway asks for routes and changes providers.
#[derive(Clone)]
pub(crate) struct Router {
    address: Address<Message>,
    board: Arc<Mutex<Board>>,
    database: Database,
    vault: Vault,
}

/// A provider as management shows it: what is stored, and what the router knows of it.
#[derive(Clone)]
pub(crate) struct ProviderView {
    pub(crate) stored: StoredProvider,
    pub(crate) listing: Listing,
    pub(crate) loaded: Result<(), String>,
    pub(crate) doing: Doing,
}

impl Router {
    /// Where a request goes, in the order to try.
    pub(crate) async fn plan(
        &self,
        question: Question,
    ) -> Result<Result<RoutePlan, NoTarget>, Unavailable> {
        let question = Arc::new(question);
        self.address
            .call(PLAN_DEADLINE, |reply| {
                Message::Plan(Asked::ToServe, question.clone(), reply)
            })
            .await
    }

    /// Where it would go. Takes nobody's turn.
    pub(crate) async fn explain(
        &self,
        question: Question,
    ) -> Result<Result<RoutePlan, NoTarget>, Unavailable> {
        let question = Arc::new(question);
        self.address
            .call(PLAN_DEADLINE, |reply| {
                Message::Plan(Asked::ToKnow, question.clone(), reply)
            })
            .await
    }

    /// Every model that can be asked for now.
    pub(crate) async fn models(&self) -> Result<Vec<Offer>, Unavailable> {
        self.address.call(PLAN_DEADLINE, Message::Models).await
    }

    /// Every provider, by falling priority.
    pub(crate) async fn providers(&self) -> Result<Vec<ProviderView>, Unavailable> {
        self.address.call(PLAN_DEADLINE, Message::Providers).await
    }

    /// How the enabled providers do, by falling priority. Asks no actor, so it is answered also while the router restarts.
    pub(crate) fn doing(&self) -> Vec<(String, Doing)> {
        let now = tokio::time::Instant::now();
        let board = lock(&self.board);
        let enabled = board
            .registry
            .iter()
            .flat_map(|registry| registry.enabled());
        enabled
            .map(|entry| (entry.id().to_owned(), board.nodes.doing(entry.id(), now)))
            .collect()
    }

    /// A breaker of this provider opened: it is looked after until it is well. Never waits.
    pub(crate) fn suspect(&self, provider: &str) {
        let _ = self.address.cast(Message::Suspect(provider.to_owned()));
    }

    /// Stores a provider; the next completion can use it.
    pub(crate) async fn register(
        &self,
        provider: ProviderRow,
        config: Vec<ConfigRow>,
    ) -> Result<(), StoreError> {
        let config = sealing::sealed(&self.vault, &provider.id, config)?;
        self.database
            .write(WriteOp::CreateProvider {
                provider,
                config,
                operation: new_id(),
            })
            .await?;
        self.refresh().await
    }

    /// Changes a provider; the next completion finds it changed.
    pub(crate) async fn change(&self, change: ProviderChange) -> Result<(), StoreError> {
        let change = ProviderChange {
            put: sealing::sealed(&self.vault, &change.id, change.put)?,
            ..change
        };
        self.database
            .write(WriteOp::ChangeProvider(Box::new(change)))
            .await?;
        self.refresh().await
    }

    /// The adapter of a provider, enabled or not; the inner error says why none can be made of its configuration.
    pub(crate) async fn adapter(&self, id: &str) -> Result<Option<Adapter>, Unavailable> {
        self.address
            .call(PLAN_DEADLINE, |reply| {
                Message::Adapter(id.to_owned(), reply)
            })
            .await
    }

    /// Forgets a provider; the next completion cannot use it.
    pub(crate) async fn remove(&self, id: &str) -> Result<(), StoreError> {
        self.database
            .write(WriteOp::DeleteProvider {
                id: id.to_owned(),
                operation: new_id(),
            })
            .await?;
        self.refresh().await
    }

    /// Reads the providers and virtual models again and answers when they are in force.
    pub(crate) async fn refresh(&self) -> Result<(), StoreError> {
        self.address.call(PLAN_DEADLINE, Message::Refresh).await?
    }
}

/// What outlives every incarnation.
#[derive(Default)]
pub(crate) struct Board {
    registry: Option<Arc<Registry>>,
    listings: catalogue::Listings,
    nodes: Nodes,
}

/// What every incarnation is made from.
#[derive(Clone)]
pub(crate) struct Arguments {
    pub(crate) database: Database,
    pub(crate) http: Http,
    pub(crate) direct: Direct,
    pub(crate) vault: Vault,
    pub(crate) settings: watch::Receiver<Arc<Settings>>,
    pub(crate) tasks: Tasks,
}

impl Arguments {
    /// Made of the tables, off the runtime's threads: a provider may name a file, and that may be on a disk that hangs.
    async fn registry(&self) -> Result<Arc<Registry>, StoreError> {
        let stored = Stored::read(&self.database).await?;
        let own = self.clone();
        let build = move || Arc::new(Registry::build(stored, &own.http, &own.direct, &own.vault));
        let crashed = |_| DbError::Other("the providers could not be put together".into());
        Ok(tokio::task::spawn_blocking(build).await.map_err(crashed)?)
    }
}

/// The child spec for the tree, and the handle for everyone else.
pub(crate) fn child(arguments: Arguments) -> (ChildSpec, Router) {
    let (database, vault) = (arguments.database.clone(), arguments.vault.clone());
    let board = Arc::new(Mutex::new(Board::default()));
    let (spec, address) =
        ChildSpec::new::<RouterActor>("router", ROUTER_MAILBOX, (arguments, board.clone()));
    let handle = Router {
        address,
        board,
        database,
        vault,
    };
    (spec, handle)
}

/// What serves a provider, or why nothing does.
pub(crate) type Adapter = Result<Arc<dyn Provider>, InvalidConfig>;

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Asked {
    ToServe,
    ToKnow,
}

type PlanReply = Reply<Result<RoutePlan, NoTarget>>;
type RefreshReply = Reply<Result<(), StoreError>>;

pub(crate) enum Message {
    Plan(Asked, Arc<Question>, PlanReply),
    Models(Reply<Vec<Offer>>),
    Providers(Reply<Vec<ProviderView>>),
    Adapter(String, Reply<Option<Adapter>>),
    Refresh(RefreshReply),
    /// A breaker of this provider opened.
    Suspect(String),
    /// It is time to look after this provider.
    Probe(String),
    /// Our task read the providers and virtual models.
    Loaded(Result<Arc<Registry>, StoreError>),
    /// Our task asked an upstream for its models.
    Listed {
        provider: String,
        took: Duration,
        outcome: Result<Vec<UpstreamModel>, UpstreamError>,
    },
}

impl ActorMessage for Message {
    fn name(&self) -> &'static str {
        match self {
            Self::Plan(..) => "plan",
            Self::Models(_) => "models",
            Self::Providers(_) => "providers",
            Self::Adapter(..) => "adapter",
            Self::Refresh(_) => "refresh",
            Self::Suspect(_) => "suspect",
            Self::Probe(_) => "probe",
            Self::Loaded(_) => "loaded",
            Self::Listed { .. } => "listed",
        }
    }
}

struct RouterActor;

pub(crate) struct State {
    registry: Arc<Registry>,
    board: Arc<Mutex<Board>>,
    arguments: Arguments,
    own: Own<Message>,
    /// Upstreams being asked for their models.
    listing: HashSet<String>,
    fetches: Vec<Owned>,
    suspects: Suspects,
    /// By what clients name; for these settings.
    routes: HashMap<Option<String>, Arc<Route>>,
    routes_for: Option<Arc<Settings>>,
    plans_waiting: Vec<(Asked, Arc<Question>, PlanReply)>,
    models_waiting: Vec<Reply<Vec<Offer>>>,
    /// Refreshes served by the load under way, and those that came after it began.
    loading: Option<(Owned, Vec<RefreshReply>)>,
    refreshes: Vec<RefreshReply>,
}

impl Behaviour for RouterActor {
    type Message = Message;
    type State = State;
    type Arguments = (Arguments, Arc<Mutex<Board>>);

    async fn start((arguments, board): Self::Arguments, own: Own<Message>) -> Result<State, Fatal> {
        let kept = lock(&board).registry.clone();
        let is_restart = kept.is_some();
        let registry = match kept {
            Some(kept) => kept,
            None => arguments.registry().await?,
        };
        let discovery = arguments.settings.borrow().flag(settings::DISCOVERY);
        let mut state = State {
            registry: registry.clone(),
            board,
            arguments,
            own,
            listing: HashSet::new(),
            fetches: Vec::new(),
            suspects: Suspects::default(),
            routes: HashMap::new(),
            routes_for: None,
            plans_waiting: Vec::new(),
            models_waiting: Vec::new(),
            loading: None,
            refreshes: Vec::new(),
        };
        state.follow(registry);
        if is_restart {
            // What is kept serves the requests that wait; the tables are read beside that.
            state.load();
        }
        if discovery {
            state.discover();
        }
        Ok(state)
    }

    async fn handle(message: Message, state: &mut State) -> Result<(), Fatal> {
        match message {
            Message::Plan(asked, question, reply) => state.plan(asked, question, reply),
            Message::Models(reply) => state.models(reply),
            Message::Providers(reply) => drop(reply.send(state.views())),
            Message::Adapter(id, reply) => {
                let entry = state.registry.find(&id);
                drop(reply.send(entry.map(|entry| entry.adapter.clone())));
            }
            Message::Refresh(reply) => state.refresh(Some(reply)),
            Message::Suspect(provider) => state.suspect(&provider),
            Message::Probe(provider) => state.probe(&provider),
            Message::Loaded(outcome) => state.loaded(outcome),
            Message::Listed {
                provider,
                took,
                outcome,
            } => state.listed(&provider, took, outcome),
        }
        Ok(())
    }
}

impl State {
    fn plan(&mut self, asked: Asked, question: Arc<Question>, reply: PlanReply) {
        let planned = self.planned(asked, &question);
        // A model nobody lists may have been pulled a moment ago: ask once more before saying no, or guessing.
        let unlisted = match &planned {
            Ok(plan) => plan.is_guess,
            Err(reason) => matches!(reason, NoTarget::UnknownModel { .. }),
        };
        if unlisted && self.plans_waiting.len() < MOST_WAITING {
            self.list_older_than(LIST_RETRY);
            if !self.listing.is_empty() {
                self.plans_waiting.push((asked, question, reply));
                return;
            }
        }
        let _ = reply.send(planned);
    }

    fn planned(&mut self, asked: Asked, question: &Question) -> Result<RoutePlan, NoTarget> {
        let route = self.route(question)?;
        let now = tokio::time::Instant::now();
        let plan = plan::plan(&route, question, now, asked == Asked::ToServe);
        if asked == Asked::ToServe {
            self.wanted(&plan);
        }
        Ok(plan)
    }

    fn route(&mut self, question: &Question) -> Result<Arc<Route>, NoTarget> {
        let settings = self.arguments.settings.borrow().clone();
        let are_current = self
            .routes_for
            .as_ref()
            .is_some_and(|known| Arc::ptr_eq(known, &settings));
        if !are_current {
            self.routes.clear();
            self.routes_for = Some(settings.clone());
        }
        if let Some(route) = self
            .routes
            .get(&question.model)
            .filter(|_| question.only.is_empty())
        {
            return Ok(route.clone());
        }
        let mut board = lock(&self.board);
        let board = &mut *board;
        let mut world = World {
            registry: &self.registry,
            listings: &board.listings,
            settings: &settings,
            nodes: &mut board.nodes,
        };
        if !question.only.is_empty() {
            return resolve::only(&question.only, &mut world).map(Arc::new);
        }
        let route = Arc::new(resolve::resolve(question.model.as_deref(), &mut world)?);
        if !route.is_guess {
            if self.routes.len() >= MOST_ROUTES {
                self.routes.clear();
            }
            self.routes.insert(question.model.clone(), route.clone());
        }
        Ok(route)
    }

    /// Puts a registry in force.
    fn follow(&mut self, registry: Arc<Registry>) {
        let mut board = lock(&self.board);
        let board = &mut *board;
        board.nodes.follow(board.registry.as_deref(), &registry);
        board.listings.retain(&registry);
        let old = board.registry.replace(registry.clone());
        let other = std::mem::replace(&mut self.registry, registry);
        self.routes.clear();
        // Thousands of models take a while to go, and plans would wait for it.
        let tasks = &self.arguments.tasks;
        tasks.spawn("old registry", async move { drop((old, other)) });
    }

    fn models(&mut self, reply: Reply<Vec<Offer>>) {
        self.list_older_than(LIST_FRESH);
        let first_time = self.registry.enabled().any(|entry| {
            self.listing.contains(entry.id())
                && lock(&self.board).listings.of(entry.id()).models.is_none()
        });
        if first_time && self.models_waiting.len() < MOST_WAITING {
            self.models_waiting.push(reply);
        } else {
            let _ = reply.send(self.offers());
        }
    }

    fn offers(&self) -> Vec<Offer> {
        catalogue::offers(&self.registry, &lock(&self.board).listings)
    }

    fn views(&self) -> Vec<ProviderView> {
        let now = tokio::time::Instant::now();
        let board = lock(&self.board);
        self.registry
            .entries()
            .map(|entry| ProviderView {
                stored: entry.stored.clone(),
                listing: board.listings.of(entry.id()).clone(),
                loaded: entry
                    .adapter
                    .as_ref()
                    .map(|_| ())
                    .map_err(ToString::to_string),
                doing: board.nodes.doing(entry.id(), now),
            })
            .collect()
    }

    /// Asks every enabled provider whose list is older than `age`, and is not being asked already.
    fn list_older_than(&mut self, age: Duration) {
        let registry = self.registry.clone();
        for entry in registry.enabled() {
            let asked = lock(&self.board).listings.of(entry.id()).asked;
            if asked.is_none_or(|asked| asked.elapsed() > age) {
                self.list(entry, LIST_DEADLINE);
            }
        }
    }

    fn list(&mut self, entry: &Entry, deadline: Duration) {
        let Ok(adapter) = entry.adapter.clone() else {
            return;
        };
        if !self.listing.insert(entry.id().to_owned()) {
            return;
        }
        let (own, provider) = (self.own.clone(), entry.id().to_owned());
        self.fetches
            .push(self.arguments.tasks.spawn_owned("model list", async move {
                let began = Instant::now();
                let outcome = adapter.models(deadline).await;
                own.tell(Message::Listed {
                    provider,
                    took: began.elapsed(),
                    outcome,
                });
            }));
    }

    /// Looks for the local servers that are offered but were never seen.
    fn discover(&mut self) {
        let registry = self.registry.clone();
        for entry in registry
            .entries()
            .filter(|entry| entry.stored.provider.auto_enable)
        {
            self.list(entry, LIST_DEADLINE);
        }
    }

    fn listed(
        &mut self,
        provider: &str,
        took: Duration,
        outcome: Result<Vec<UpstreamModel>, UpstreamError>,
    ) {
        self.listing.remove(provider);
        if self.listing.is_empty() {
            self.fetches.clear();
        }
        let seen = outcome.is_ok();
        {
            let mut board = lock(&self.board);
            if seen {
                let node = board.nodes.of_provider(provider);
                let now = tokio::time::Instant::now();
                node.seen(now);
                // What is wrong with a model may be over as well: one request finds out.
                for (_, node) in board.nodes.models_of(provider) {
                    node.seen(now);
                }
            }
            board.listings.record(provider, outcome, took, now_ms());
        }
        self.routes.clear();
        if seen
            && self
                .registry
                .find(provider)
                .is_some_and(|entry| entry.stored.provider.auto_enable)
        {
            self.seen(provider.to_owned());
        }
        if self.listing.is_empty() {
            for (asked, question, reply) in std::mem::take(&mut self.plans_waiting) {
                let _ = reply.send(self.planned(asked, &question));
            }
            for reply in std::mem::take(&mut self.models_waiting) {
                let _ = reply.send(self.offers());
            }
        }
    }

    /// A local server answered for the first time: its provider is enabled from now on.
    fn seen(&mut self, provider: String) {
        tracing::info!(provider, "found a local model server");
        let (database, own) = (self.arguments.database.clone(), self.own.clone());
        self.arguments.tasks.spawn("provider seen", async move {
            let at = now_ms();
            let id = provider.clone();
            if let Err(error) = database.write(WriteOp::ProviderSeen { id, at }).await {
                tracing::warn!(%error, "a local server that was found could not be enabled");
                return;
            }
            let row = AuditRow {
                id: new_id(),
                principal: "discovery".into(),
                action: "enabled".into(),
                entity: "provider".into(),
                entity_id: Some(provider),
                before: Some(json!({"enabled": false})),
                after: Some(json!({"enabled": true})),
                request_id: None,
                timestamp: at,
            };
            if let Err(error) = database.write(WriteOp::RecordAudit(row)).await {
                tracing::warn!(%error, "that a provider was enabled is not in the audit log");
            }
            own.tell(Message::Refresh(tokio::sync::oneshot::channel().0));
        });
    }

    /// Reads providers and virtual models again. One load at a time: a refresh asked for meanwhile is served by the next one, so that
    /// an older picture never replaces a newer one.
    fn refresh(&mut self, reply: Option<Reply<Result<(), StoreError>>>) {
        self.refreshes.extend(reply);
        if self.loading.is_some() || self.refreshes.is_empty() {
            return;
        }
        self.load();
    }

    fn load(&mut self) {
        let (arguments, own) = (self.arguments.clone(), self.own.clone());
        let task = self
            .arguments
            .tasks
            .spawn_owned("provider load", async move {
                own.tell(Message::Loaded(arguments.registry().await));
            });
        self.loading = Some((task, std::mem::take(&mut self.refreshes)));
    }

    fn loaded(&mut self, outcome: Result<Arc<Registry>, StoreError>) {
        let replies = self
            .loading
            .take()
            .map(|(_, replies)| replies)
            .unwrap_or_default();
        let outcome = outcome.map(|registry| self.follow(registry));
        if let Err(error) = &outcome {
            tracing::warn!(%error, "the providers could not be read; the last known ones stay in force");
        }
        for reply in replies {
            let _ = reply.send(outcome.clone());
        }
        self.refresh(None);
    }
}

impl State {
    /// Requests want targets whose breakers are open.
    fn wanted(&mut self, plan: &RoutePlan) {
        for (target, closed) in &plan.closed {
            if matches!(closed, Closed::Broken { .. }) {
                self.suspect(&target.provider);
            }
        }
    }

    /// Looks after a provider from now on, or for longer.
    fn suspect(&mut self, provider: &str) {
        if self.suspects.wanted(provider) {
            self.look_again(provider);
        }
    }

    fn look_again(&mut self, provider: &str) {
        let (own, name) = (self.own.clone(), provider.to_owned());
        self.suspects.again(provider, |wait| {
            self.arguments
                .tasks
                .spawn_owned("active probe", async move {
                    tokio::time::sleep(wait).await;
                    own.tell(Message::Probe(name));
                })
        });
    }

    /// Asks a provider for its models if it is still wanted and still broken. That it answers lets one request through.
    fn probe(&mut self, provider: &str) {
        let is_broken = lock(&self.board).nodes.broken(provider).next().is_some();
        let registry = self.registry.clone();
        let entry = registry.find(provider);
        match entry.filter(|entry| is_broken && entry.stored.provider.enabled) {
            Some(entry) if self.suspects.are_wanted(provider) => {
                self.list(entry, LIST_DEADLINE);
                self.look_again(provider);
            }
            _ => self.suspects.forget(provider),
        }
    }
}

/// Whether a write failed because the id or the name is taken.
pub(crate) fn conflict(error: &StoreError) -> Option<&str> {
    match error {
        StoreError::Db(DbError::Conflict { column, .. }) => Some(column),
        _ => None,
    }
}
