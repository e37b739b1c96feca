//! The gateway: the public listeners, and what "start" and "stop" act on. A supervisor of its own.
//!
//! Owns: the listeners of :3000, :3001 and of Ollama's port. Kept above it: the sockets, the connections, and whether the gateway should
//! run, so that a crash closes nothing. Never waits for: a drain, a task reports back when it is done.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ractor::SupervisionEvent;

use crate::actors::address::{Address, Message as ActorMessage, Reply, Unavailable};
use crate::actors::behaviour::{Behaviour, Fatal, Own};
use crate::actors::ports::{Drained, Port, PortTaken};
use crate::actors::supervisor::{ChildSpec, Children, LifeEvent, Report};
use crate::limits::supervision::{GATEWAY_MAILBOX, GATEWAY_START, STOP_MARGIN};
use crate::tasks::Tasks;

/// What a start found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Started {
    Now,
    Already,
}

/// How the rest of the gateway starts and stops it.
#[derive(Clone)]
pub(crate) struct Gateway {
    address: Address<Message>,
    ports: Vec<Arc<Port>>,
    children: Vec<&'static str>,
}

impl Gateway {
    /// Opens both ports. Calls that overlap get the same answer.
    pub(crate) async fn start(&self) -> Result<Result<Started, PortTaken>, Unavailable> {
        self.address.call(GATEWAY_START, Message::Start).await
    }

    /// Closes both ports, lets requests finish within `grace`, ends the rest.
    pub(crate) async fn stop(&self, grace: Duration) -> Result<Drained, Unavailable> {
        self.address
            .call(grace + STOP_MARGIN, |reply| Message::Stop(grace, reply))
            .await
    }

    pub(crate) async fn restart(&self, name: &str) -> Result<Result<(), Unavailable>, Unavailable> {
        self.address
            .call(GATEWAY_START, |reply| {
                Message::Restart(name.to_owned(), reply)
            })
            .await
    }

    pub(crate) fn has_child(&self, name: &str) -> bool {
        self.children.contains(&name)
    }

    pub(crate) fn ports(&self) -> &[Arc<Port>] {
        &self.ports
    }
}

/// What every incarnation is made from.
#[derive(Clone)]
pub(crate) struct Arguments {
    pub(crate) ports: Vec<Arc<Port>>,
    pub(crate) listeners: Vec<ChildSpec>,
    pub(crate) tasks: Tasks,
    pub(crate) observe: Arc<dyn Fn(LifeEvent) + Send + Sync>,
}

/// The child spec for the tree, and the handle for everyone else.
pub(crate) fn child(arguments: Arguments) -> (ChildSpec, Gateway) {
    let ports = arguments.ports.clone();
    let below: Vec<_> = arguments
        .listeners
        .iter()
        .map(|spec| spec.vitals.clone())
        .collect();
    let wanted = Arc::new(AtomicBool::new(false));
    let (mut spec, address) =
        ChildSpec::new::<GatewayActor>("gateway", GATEWAY_MAILBOX, (arguments, wanted));
    let children = below.iter().map(|vitals| vitals.name).collect();
    spec.below = below;
    (
        spec,
        Gateway {
            address,
            ports,
            children,
        },
    )
}

pub(crate) enum Message {
    Start(Reply<Result<Started, PortTaken>>),
    Stop(Duration, Reply<Drained>),
    Restart(String, Reply<Result<(), Unavailable>>),
    Report(Report),
    Drained(Drained),
}

impl ActorMessage for Message {
    fn name(&self) -> &'static str {
        match self {
            Self::Start(_) => "start",
            Self::Stop(..) => "stop",
            Self::Restart(..) => "restart",
            Self::Report(_) => "report",
            Self::Drained(_) => "drained",
        }
    }
}

struct GatewayActor;

pub(crate) struct State {
    phase: Phase,
    ports: Vec<Arc<Port>>,
    children: Children<Message>,
    /// Whether the gateway should run: outlives the incarnation.
    wanted: Arc<AtomicBool>,
    starts: Vec<Reply<Result<Started, PortTaken>>>,
    stops: Vec<Reply<Drained>>,
    /// Starts asked for while a stop was under way.
    later: VecDeque<Reply<Result<Started, PortTaken>>>,
    own: Own<Message>,
    tasks: Tasks,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Stopped,
    Starting,
    Running,
    Stopping,
}

impl Behaviour for GatewayActor {
    type Message = Message;
    type State = State;
    type Arguments = (Arguments, Arc<AtomicBool>);

    async fn start(
        (arguments, wanted): Self::Arguments,
        own: Own<Message>,
    ) -> Result<State, Fatal> {
        let Arguments {
            ports,
            listeners,
            tasks,
            observe,
        } = arguments;
        let children = Children::new(
            listeners,
            own.clone(),
            Message::Report,
            tasks.clone(),
            observe,
        );
        let mut state = State {
            phase: Phase::Stopped,
            ports,
            children,
            wanted,
            starts: Vec::new(),
            stops: Vec::new(),
            later: VecDeque::new(),
            own,
            tasks,
        };
        if state.wanted.load(Ordering::Acquire) {
            state.open().map_err(|taken| taken.to_string())?;
        }
        Ok(state)
    }

    async fn handle(message: Message, state: &mut State) -> Result<(), Fatal> {
        match message {
            Message::Start(reply) => state.start(reply),
            Message::Stop(grace, reply) => state.stop(grace, reply),
            Message::Restart(name, reply) => {
                // The handle asks for our children only.
                let _ = state.children.restart(&name, reply);
            }
            Message::Report(report) => state.report(report),
            Message::Drained(drained) => state.drained(drained),
        }
        Ok(())
    }

    fn child_event(event: SupervisionEvent, state: &mut State) {
        state.children.ended(event);
    }
}

impl State {
    fn start(&mut self, reply: Reply<Result<Started, PortTaken>>) {
        match self.phase {
            Phase::Running => drop(reply.send(Ok(Started::Already))),
            Phase::Starting => self.starts.push(reply),
            Phase::Stopping => self.later.push_back(reply),
            Phase::Stopped => match self.open() {
                Ok(()) => self.starts.push(reply),
                Err(taken) => drop(reply.send(Err(taken))),
            },
        }
    }

    /// Binds all ports or none, then starts the listeners.
    fn open(&mut self) -> Result<(), PortTaken> {
        for port in &self.ports {
            if let Err(taken) = port.open() {
                for port in &self.ports {
                    port.close();
                }
                return Err(taken);
            }
        }
        self.wanted.store(true, Ordering::Release);
        self.phase = Phase::Starting;
        self.children.start_all();
        Ok(())
    }

    fn report(&mut self, report: Report) {
        self.children.report(report);
        if self.phase == Phase::Starting && self.children.all_running() {
            self.phase = Phase::Running;
            for start in self.starts.drain(..) {
                let _ = start.send(Ok(Started::Now));
            }
        }
    }

    fn stop(&mut self, grace: Duration, reply: Reply<Drained>) {
        match self.phase {
            Phase::Stopped => drop(reply.send(Drained::default())),
            Phase::Stopping => self.stops.push(reply),
            Phase::Starting | Phase::Running => {
                self.stops.push(reply);
                self.phase = Phase::Stopping;
                self.wanted.store(false, Ordering::Release);
                let connections: Vec<_> =
                    self.ports.iter().filter_map(|port| port.close()).collect();
                let listeners = self.children.stop_all();
                let own = self.own.clone();
                self.tasks.spawn("gateway stop", async move {
                    listeners.await;
                    let mut total = Drained::default();
                    let ends = connections.into_iter().map(|connections| async move {
                        connections.accepting_ended().await;
                        connections.drain(grace).await
                    });
                    for drained in futures_util::future::join_all(ends).await {
                        total.drained += drained.drained;
                        total.aborted += drained.aborted;
                    }
                    own.tell(Message::Drained(total));
                });
            }
        }
    }

    fn drained(&mut self, drained: Drained) {
        self.phase = Phase::Stopped;
        for stop in self.stops.drain(..) {
            let _ = stop.send(drained);
        }
        while let Some(start) = self.later.pop_front() {
            self.start(start);
        }
    }
}
