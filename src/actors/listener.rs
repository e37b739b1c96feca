//! One port's accept loop.
//!
//! Owns: the loop, in a task that ends with the incarnation. The socket and the connections are owned above it. A
//! crash loses: nothing, the kernel queues connections until the next incarnation accepts them. Never waits for: a
//! connection.

use std::sync::Arc;
use std::time::Instant;

use futures_util::future::BoxFuture;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;

use crate::actors::address::Message as ActorMessage;
use crate::actors::behaviour::{Behaviour, Fatal, Own};
use crate::actors::ports::{Connections, Port};
use crate::actors::supervisor::ChildSpec;
use crate::limits::connections::{ACCEPT_PAUSE, ACCEPT_WARNED, LISTENER_MAILBOX, MOST_TURNED_AWAY};
use crate::tasks::{Owned, Tasks};

/// What is done with connections. Given from above, so that no actor knows HTTP.
#[derive(Clone)]
pub(crate) struct Serve {
    /// Serves one to its end.
    pub(crate) connection:
        Arc<dyn Fn(TcpStream, Connections) -> BoxFuture<'static, ()> + Send + Sync>,
    /// Tells one that it is too many.
    pub(crate) turn_away: fn(TcpStream) -> BoxFuture<'static, ()>,
    /// Places of those that are served, which ports may share.
    pub(crate) room: Arc<Semaphore>,
}

/// What an incarnation serves.
#[derive(Clone)]
pub(crate) struct Arguments {
    pub(crate) port: Arc<Port>,
    pub(crate) serve: Serve,
    pub(crate) tasks: Tasks,
}

/// The child spec for a tree.
pub(crate) fn child(name: &'static str, arguments: Arguments) -> ChildSpec {
    let (spec, _) = ChildSpec::new::<ListenerActor>(name, LISTENER_MAILBOX, arguments);
    spec
}

pub(crate) enum Message {
    /// The accept loop is gone although nobody closed the port.
    LoopEnded,
}

impl ActorMessage for Message {
    fn name(&self) -> &'static str {
        match self {
            Self::LoopEnded => "loop_ended",
        }
    }
}

struct ListenerActor;

pub(crate) struct State {
    /// Held for its drop; none while the port is off.
    _accepting: Option<Owned>,
}

impl Behaviour for ListenerActor {
    type Message = Message;
    type State = State;
    type Arguments = Arguments;

    async fn start(arguments: Arguments, own: Own<Message>) -> Result<State, Fatal> {
        let Arguments { port, serve, tasks } = arguments;
        let Some((socket, connections)) = port.serving() else {
            if port.is_on() && port.is_off(port.wanted()) {
                return Ok(State { _accepting: None });
            }
            return Err(format!("the port of the {} is closed", port.name).into());
        };
        let turning_away = Arc::new(Semaphore::new(MOST_TURNED_AWAY));
        let mut warned: Option<Instant> = None;
        let spawner = tasks.clone();
        let accepting = connections.track_accepting({
            let connections = connections.clone();
            async move {
                let mut ended = LoopEnded(Some(own));
                loop {
                    let accepted = tokio::select! {
                        () = connections.closing.cancelled() => {
                            ended.0 = None;
                            break;
                        }
                        accepted = socket.accept() => accepted,
                    };
                    match accepted {
                        Ok((stream, _)) => {
                            let _ = stream.set_nodelay(true);
                            let Ok(place) = serve.room.clone().try_acquire_owned() else {
                                // Told at once, rather than left in the kernel's queue (R27).
                                if let Ok(place) = turning_away.clone().try_acquire_owned() {
                                    let telling = (serve.turn_away)(stream);
                                    spawner.spawn(
                                        "turned away",
                                        connections.track(async move {
                                            telling.await;
                                            drop(place);
                                        }),
                                    );
                                }
                                continue;
                            };
                            let serving = (serve.connection)(stream, connections.clone());
                            spawner.spawn(
                                "connection",
                                connections.track(async move {
                                    serving.await;
                                    drop(place);
                                }),
                            );
                        }
                        Err(error) => {
                            if warned.is_none_or(|at| at.elapsed() >= ACCEPT_WARNED) {
                                warned = Some(Instant::now());
                                tracing::warn!(%error, "a connection could not be accepted");
                            }
                            tokio::time::sleep(ACCEPT_PAUSE).await;
                        }
                    }
                }
            }
        });
        Ok(State {
            _accepting: Some(tasks.spawn_owned("accept loop", accepting)),
        })
    }

    async fn handle(message: Message, _: &mut State) -> Result<(), Fatal> {
        match message {
            Message::LoopEnded => Err("the accept loop ended".into()),
        }
    }
}

/// Tells the actor when the loop ends in any way but on purpose, a panic included.
struct LoopEnded(Option<Own<Message>>);

impl Drop for LoopEnded {
    fn drop(&mut self) {
        if let Some(own) = &self.0 {
            own.tell(Message::LoopEnded);
        }
    }
}
