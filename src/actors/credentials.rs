//! The Qwen logins: whether there is one, and until when it is good.
//!
//! Owns: the logins, in memory. Durable: table `credentials`, read again at each start. A crash loses: nothing. Never
//! waits for: the network.

use std::time::Duration;

use crate::actors::address::{Address, Message as ActorMessage, Reply, Unavailable};
use crate::actors::behaviour::{Behaviour, Fatal, Own};
use crate::actors::database::Database;
use crate::actors::supervisor::ChildSpec;
use crate::clock::now_ms;
use crate::db::credentials::{self, CredentialRow};

/// Longer than a restart, shorter than patience.
const DEADLINE: Duration = Duration::from_secs(2);
const MAILBOX: usize = 1_024;

/// The logins as health and status show them: never a secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Standing {
    /// Logins stored.
    pub(crate) stored: usize,
    /// Whether one of them may be used now.
    pub(crate) valid: bool,
    /// Unix time, ms, when the longest-lived one expires.
    pub(crate) expires_at: Option<i64>,
}

/// How the rest of the gateway asks for logins.
#[derive(Clone)]
pub(crate) struct Credentials(Address<Message>);

impl Credentials {
    pub(crate) async fn standing(&self) -> Result<Standing, Unavailable> {
        self.0.call(DEADLINE, Message::Standing).await
    }
}

/// The child spec for the tree, and the handle for everyone else.
pub(crate) fn child(database: Database) -> (ChildSpec, Credentials) {
    let (spec, address) = ChildSpec::new::<CredentialsActor>("credentials", MAILBOX, database);
    (spec, Credentials(address))
}

pub(crate) enum Message {
    Standing(Reply<Standing>),
}

impl ActorMessage for Message {
    fn name(&self) -> &'static str {
        match self {
            Self::Standing(_) => "standing",
        }
    }
}

struct CredentialsActor;

pub(crate) struct State {
    logins: Vec<CredentialRow>,
}

impl Behaviour for CredentialsActor {
    type Message = Message;
    type State = State;
    type Arguments = Database;

    async fn start(database: Database, _: Own<Message>) -> Result<State, Fatal> {
        Ok(State {
            logins: database.read(credentials::all).await?,
        })
    }

    async fn handle(message: Message, state: &mut State) -> Result<(), Fatal> {
        match message {
            Message::Standing(reply) => drop(reply.send(state.standing(now_ms()))),
        }
        Ok(())
    }
}

impl State {
    fn standing(&self, now_ms: i64) -> Standing {
        let usable = |login: &&CredentialRow| login.expires_at.is_none_or(|at| at > now_ms);
        Standing {
            stored: self.logins.len(),
            valid: self.logins.iter().any(|login| usable(&login)),
            expires_at: self
                .logins
                .iter()
                .filter_map(|login| login.expires_at)
                .max(),
        }
    }
}
