//! The Qwen conversations: which prefix of messages continues which chat.
//!
//! Owns: nothing yet but the count it started with. Durable: table `sessions`. A crash loses: nothing. Never waits for:
//! the network.

use std::time::Duration;

use crate::actors::address::{Address, Message as ActorMessage, Reply, Unavailable};
use crate::actors::behaviour::{Behaviour, Fatal, Own};
use crate::actors::database::Database;
use crate::actors::supervisor::ChildSpec;
use crate::clock::now_ms;
use crate::db::sessions;

const DEADLINE: Duration = Duration::from_secs(2);
const MAILBOX: usize = 1_024;

/// How the rest of the gateway asks for conversations.
#[derive(Clone)]
pub(crate) struct Sessions(Address<Message>);

impl Sessions {
    /// Conversations that were not expired when the actor started.
    pub(crate) async fn active(&self) -> Result<i64, Unavailable> {
        self.0.call(DEADLINE, Message::Active).await
    }
}

/// The child spec for the tree, and the handle for everyone else.
pub(crate) fn child(database: Database) -> (ChildSpec, Sessions) {
    let (spec, address) = ChildSpec::new::<SessionsActor>("qwen-sessions", MAILBOX, database);
    (spec, Sessions(address))
}

pub(crate) enum Message {
    Active(Reply<i64>),
}

impl ActorMessage for Message {
    fn name(&self) -> &'static str {
        match self {
            Self::Active(_) => "active",
        }
    }
}

struct SessionsActor;

pub(crate) struct State {
    active: i64,
}

impl Behaviour for SessionsActor {
    type Message = Message;
    type State = State;
    type Arguments = Database;

    async fn start(database: Database, _: Own<Message>) -> Result<State, Fatal> {
        let now = now_ms();
        Ok(State {
            active: database
                .read(move |conn| sessions::active_count(conn, now))
                .await?,
        })
    }

    async fn handle(message: Message, state: &mut State) -> Result<(), Fatal> {
        match message {
            Message::Active(reply) => drop(reply.send(state.active)),
        }
        Ok(())
    }
}
