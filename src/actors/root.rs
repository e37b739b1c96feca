//! The root supervisor: the one actor nobody restarts. When it ends, the process ends, for the service manager to
//! start anew.

use std::sync::Arc;

use ractor::{Actor, SupervisionEvent};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::actors::address::{Address, Message as ActorMessage, Reply, Unavailable};
use crate::actors::behaviour::{Behaviour, Fatal, Own, Supervised};
use crate::actors::gateway::Gateway;
use crate::actors::supervisor::{ChildSpec, Children, LifeEvent, Report};
use crate::actors::vitals::{Snapshot, Vitals};
use crate::limits::supervision::{RESTART_DEADLINE, ROOT_MAILBOX, STOP_DEADLINE, VIEW_DEADLINE};
use crate::tasks::Tasks;

/// How the tree is seen and steered.
#[derive(Clone)]
pub(crate) struct Supervision {
    address: Address<Message>,
    gateway: Gateway,
    specs: Arc<Vec<ChildSpec>>,
    listeners: Arc<Vec<ChildSpec>>,
}

/// Why a child was not restarted.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum RestartError {
    #[error("no actor is named `{name}`; there are {}", known.join(", "))]
    Unknown {
        name: String,
        known: Vec<&'static str>,
    },
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

impl Supervision {
    /// The live tree, top down.
    pub(crate) async fn tree(&self) -> Result<Snapshot, Unavailable> {
        let children = self.address.call(VIEW_DEADLINE, Message::View).await?;
        Ok(self.address.vitals().snapshot(children))
    }

    /// Ends one child in order and starts it anew. Answers when the new incarnation serves.
    pub(crate) async fn restart(&self, name: &str) -> Result<(), RestartError> {
        if self.gateway.has_child(name) {
            return Ok(self.gateway.restart(name).await??);
        }
        if self.specs.iter().any(|spec| spec.vitals.name == name) {
            let restarted = self
                .address
                .call(RESTART_DEADLINE, |reply| {
                    Message::Restart(name.to_owned(), reply)
                })
                .await?;
            return Ok(restarted?);
        }
        Err(RestartError::Unknown {
            name: name.to_owned(),
            known: self.names(),
        })
    }

    /// Ends every child, the last of the tree first.
    pub(crate) async fn stop(&self) -> Result<(), Unavailable> {
        self.address.call(STOP_DEADLINE, Message::Stop).await
    }

    /// Every child's vital signs, without asking anybody.
    pub(crate) fn vitals(&self) -> impl Iterator<Item = &Arc<Vitals>> {
        self.specs
            .iter()
            .flat_map(|spec| std::iter::once(&spec.vitals).chain(&spec.below))
    }

    fn names(&self) -> Vec<&'static str> {
        self.vitals().map(|vitals| vitals.name).collect()
    }

    /// Ends the named actor as if it had died; `false` when there is none. For the self-test: no route leads here.
    pub(crate) fn kill(&self, name: &str) -> bool {
        self.spec(name).is_some_and(ChildSpec::kill)
    }

    /// Kills the named actor from inside; `false` when there is none.
    #[cfg(feature = "fault-injection")]
    pub(crate) fn crash(&self, name: &str) -> bool {
        self.spec(name).is_some_and(|spec| (spec.crash)())
    }

    fn spec(&self, name: &str) -> Option<&ChildSpec> {
        let mut all = self.specs.iter().chain(self.listeners.iter());
        all.find(|spec| spec.vitals.name == name)
    }
}

/// A root supervisor that is not running yet, and the handle to it: listeners are given the handle before it starts.
pub(crate) struct Root {
    vitals: Arc<Vitals>,
    slot: watch::Sender<Option<ractor::ActorRef<crate::actors::address::Envelope<Message>>>>,
    address: Address<Message>,
}

impl Root {
    pub(crate) fn new() -> Self {
        let vitals = Vitals::new("root", ROOT_MAILBOX);
        let (slot, current) = watch::channel(None);
        let address = Address::new(vitals.clone(), current);
        Self {
            vitals,
            slot,
            address,
        }
    }

    /// The handle, for a tree of these `specs`.
    pub(crate) fn supervision(
        &self,
        gateway: Gateway,
        specs: Vec<ChildSpec>,
        listeners: Vec<ChildSpec>,
    ) -> Supervision {
        Supervision {
            address: self.address.clone(),
            gateway,
            specs: Arc::new(specs),
            listeners: Arc::new(listeners),
        }
    }

    /// Starts the tree. The handle resolves when the root supervisor has ended, after [`Supervision::stop`] or a failure.
    pub(crate) async fn start(
        self,
        specs: Vec<ChildSpec>,
        tasks: Tasks,
        observe: Arc<dyn Fn(LifeEvent) + Send + Sync>,
    ) -> Result<JoinHandle<()>, ractor::SpawnErr> {
        let behaviour = Supervised::<RootActor> {
            vitals: self.vitals.clone(),
            behaviour: std::marker::PhantomData,
        };
        let tasks_of_root = tasks.clone();
        let (actor, ended) = Actor::spawn(None, behaviour, (specs, tasks, observe)).await?;
        self.vitals.started();
        self.slot.send_replace(Some(actor));
        // The slot must live as long as the root: its end tells waiting callers that there is nobody to wait for.
        let slot = self.slot;
        Ok(tasks_of_root.spawn("root", async move {
            let _ = ended.await;
            drop(slot);
        }))
    }
}

pub(crate) enum Message {
    View(Reply<Vec<Snapshot>>),
    Restart(String, Reply<Result<(), Unavailable>>),
    Stop(Reply<()>),
    Report(Report),
}

impl ActorMessage for Message {
    fn name(&self) -> &'static str {
        match self {
            Self::View(_) => "view",
            Self::Restart(..) => "restart",
            Self::Stop(_) => "stop",
            Self::Report(_) => "report",
        }
    }
}

struct RootActor;

pub(crate) struct State {
    children: Children<Message>,
    own: Own<Message>,
    tasks: Tasks,
}

impl Behaviour for RootActor {
    type Message = Message;
    type State = State;
    type Arguments = (Vec<ChildSpec>, Tasks, Arc<dyn Fn(LifeEvent) + Send + Sync>);

    async fn start(
        (specs, tasks, observe): Self::Arguments,
        own: Own<Message>,
    ) -> Result<State, Fatal> {
        let mut children =
            Children::new(specs, own.clone(), Message::Report, tasks.clone(), observe);
        children.start_all();
        Ok(State {
            children,
            own,
            tasks,
        })
    }

    async fn handle(message: Message, state: &mut State) -> Result<(), Fatal> {
        match message {
            Message::View(reply) => drop(reply.send(state.children.snapshots())),
            Message::Restart(name, reply) => {
                // The handle asks for our children only.
                let _ = state.children.restart(&name, reply);
            }
            Message::Stop(reply) => {
                let (stopped, own) = (state.children.stop_all(), state.own.clone());
                state.tasks.spawn("tree stop", async move {
                    stopped.await;
                    let _ = reply.send(());
                    own.cell().stop(Some("shutdown".into()));
                });
            }
            Message::Report(report) => state.children.report(report),
        }
        Ok(())
    }

    fn child_event(event: SupervisionEvent, state: &mut State) {
        state.children.ended(event);
    }
}
