//! One port's accept loop.
//!
//! Owns: the loop, in a task that ends with the incarnation. The socket and the connections are owned above it. A
//! crash loses: nothing, the kernel queues connections until the next incarnation accepts them. Never waits for: a
//! connection.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;

use crate::actors::address::Message as ActorMessage;
use crate::actors::behaviour::{Behaviour, Fatal, Own};
use crate::actors::ports::{Connections, Port};
use crate::actors::supervisor::ChildSpec;
use crate::limits::connections::{ACCEPT_PAUSE, LISTENER_MAILBOX, MOST_CONNECTIONS};
use crate::tasks::{Owned, Tasks};

/// Serves one connection to its end. Given from above, so that no actor knows HTTP.
pub(crate) type Serve = Arc<dyn Fn(TcpStream, Connections) -> BoxFuture<'static, ()> + Send + Sync>;

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
        let limit = Arc::new(Semaphore::new(MOST_CONNECTIONS));
        let spawner = tasks.clone();
        let accepting = connections.track_accepting({
            let connections = connections.clone();
            async move {
                let mut ended = LoopEnded(Some(own));
                loop {
                    // Never closed, so this only waits.
                    let Ok(permit) = limit.clone().acquire_owned().await else {
                        break;
                    };
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
                            let serving = serve(stream, connections.clone());
                            spawner.spawn(
                                "connection",
                                connections.track(async move {
                                    serving.await;
                                    drop(permit);
                                }),
                            );
                        }
                        Err(error) => {
                            tracing::warn!(%error, "a connection could not be accepted");
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
