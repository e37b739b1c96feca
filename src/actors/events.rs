//! What happened, told to whoever listens: actors that failed, providers that changed, the gateway's start and stop.
//!
//! Owns: the ring buffer that late listeners replay. Durable: what belongs into the activity log, queued at the
//! database. A crash loses: the ring buffer. Never waits for: a listener, slow ones lose the oldest events.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use crate::actors::address::{Address, Message as ActorMessage, Reply, Unavailable};
use crate::actors::behaviour::{Behaviour, Fatal, Own};
use crate::actors::database::Database;
use crate::actors::supervisor::{ChildSpec, LifeEvent};
use crate::clock::{new_id, now_ms};
use crate::db::activity::{ActivityRow, ActorEventRow};
use crate::db::ops::WriteOp;

const KEPT: usize = 1_000;
const MAILBOX: usize = 10_000;
const DEADLINE: Duration = Duration::from_secs(2);

/// One thing that happened.
#[derive(Clone, Debug, serde::Serialize)]
pub(crate) struct Event {
    /// Sorts by time; what `Last-Event-ID` names.
    pub(crate) id: String,
    /// Unix time, ms.
    pub(crate) at: i64,
    /// `proxy:status`, `providers:updated`, `actor:restarted`, ...
    pub(crate) kind: &'static str,
    /// What it happened to, in the words of the activity log.
    pub(crate) action: &'static str,
    pub(crate) description: String,
    pub(crate) detail: Value,
}

/// How the rest of the gateway tells and hears what happened.
#[derive(Clone)]
pub(crate) struct Events(Address<Message>);

impl Events {
    /// Tells everybody. Never waits: an event that finds no actor is dropped.
    pub(crate) fn publish(
        &self,
        kind: &'static str,
        action: &'static str,
        description: String,
        detail: Value,
    ) {
        let event = Event {
            id: new_id(),
            at: now_ms(),
            kind,
            action,
            description,
            detail,
        };
        if self.0.cast(Message::Publish(Arc::new(event))).is_err() {
            tracing::debug!(kind, action, "an event found no listener");
        }
    }

    /// Tells of an actor's start or failure.
    pub(crate) fn publish_life(&self, life: &LifeEvent) {
        let _ = self.0.cast(Message::Life(life.clone()));
    }

    /// The newest events, oldest first.
    pub(crate) async fn recent(&self) -> Result<Vec<Arc<Event>>, Unavailable> {
        self.0.call(DEADLINE, Message::Recent).await
    }
}

/// The child spec for the tree, and the handle for everyone else.
pub(crate) fn child(database: Database) -> (ChildSpec, Events) {
    let (spec, address) = ChildSpec::new::<EventsActor>("events", MAILBOX, database);
    (spec, Events(address))
}

pub(crate) enum Message {
    Publish(Arc<Event>),
    Life(LifeEvent),
    Recent(Reply<Vec<Arc<Event>>>),
}

impl ActorMessage for Message {
    fn name(&self) -> &'static str {
        match self {
            Self::Publish(_) => "publish",
            Self::Life(_) => "life",
            Self::Recent(_) => "recent",
        }
    }
}

struct EventsActor;

pub(crate) struct State {
    kept: VecDeque<Arc<Event>>,
    database: Database,
}

impl Behaviour for EventsActor {
    type Message = Message;
    type State = State;
    type Arguments = Database;

    async fn start(database: Database, _: Own<Message>) -> Result<State, Fatal> {
        Ok(State {
            kept: VecDeque::new(),
            database,
        })
    }

    async fn handle(message: Message, state: &mut State) -> Result<(), Fatal> {
        match message {
            Message::Publish(event) => state.publish(event),
            Message::Life(life) => state.life(life),
            Message::Recent(reply) => drop(reply.send(state.kept.iter().cloned().collect())),
        }
        Ok(())
    }
}

impl State {
    fn publish(&mut self, event: Arc<Event>) {
        let row = ActivityRow {
            id: event.id.clone(),
            kind: event.kind.replace(':', "_"),
            action: event.action.to_owned(),
            description: event.description.clone(),
            metadata: event.detail.clone(),
            timestamp: event.at,
        };
        self.database.record(WriteOp::RecordActivity(row));
        self.keep(event);
    }

    fn life(&mut self, life: LifeEvent) {
        let at = now_ms();
        let id = new_id();
        let detail =
            json!({"actor": life.actor, "incarnation": life.incarnation, "reason": life.reason});
        let description = format!("actor {} {}", life.actor, life.event);
        self.keep(Arc::new(Event {
            id: id.clone(),
            at,
            kind: "actor:lifecycle",
            action: life.event,
            description,
            detail,
        }));
        self.database
            .record(WriteOp::RecordActorEvent(ActorEventRow {
                id,
                actor: life.actor.to_owned(),
                event: life.event.to_owned(),
                incarnation: i64::try_from(life.incarnation).unwrap_or(i64::MAX),
                reason: life.reason,
                timestamp: at,
            }));
    }

    fn keep(&mut self, event: Arc<Event>) {
        if self.kept.len() == KEPT {
            self.kept.pop_front();
        }
        self.kept.push_back(event);
    }
}
