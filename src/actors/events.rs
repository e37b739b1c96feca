//! What happened, told to whoever listens: actors that failed, providers that changed, the gateway's start and stop.
//!
//! Owns: the ring buffer that late listeners replay. Durable: what belongs into the activity log, queued at the
//! database. A crash loses: the ring buffer. Never waits for: a listener, slow ones lose the oldest events.

use std::collections::VecDeque;
use std::sync::Arc;

use serde_json::{Value, json};
use tokio::sync::broadcast;

use crate::actors::address::{Address, Message as ActorMessage, Reply, Unavailable};
use crate::actors::behaviour::{Behaviour, Fatal, Own};
use crate::actors::database::Database;
use crate::actors::supervisor::{ChildSpec, LifeEvent};
use crate::clock::{new_id, now_ms};
use crate::db::activity::{ActivityRow, ActorEventRow};
use crate::db::ops::WriteOp;
use crate::limits::actors::{EVENTS_BEHIND, EVENTS_DEADLINE, EVENTS_KEPT, EVENTS_MAILBOX};

/// One thing that happened.
#[derive(Clone, Debug, serde::Serialize, utoipa::ToSchema)]
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

/// What a listener missed, as far as it is kept, and what comes.
pub(crate) struct Heard {
    /// Something that happened after what the listener knows is not kept any more.
    pub(crate) is_incomplete: bool,
    pub(crate) missed: Vec<Arc<Event>>,
    pub(crate) coming: broadcast::Receiver<Arc<Event>>,
}

impl Events {
    /// Tells everybody. Never waits: an event that finds no actor is dropped.
    pub(crate) fn publish(
        &self,
        kind: &'static str,
        action: &'static str,
        description: String,
        detail: Value,
    ) {
        let event = event(kind, action, description, detail);
        if self.0.cast(Message::Publish(event)).is_err() {
            tracing::debug!(kind, action, "an event found no listener");
        }
    }

    /// Tells listeners alone: what is kept elsewhere, such as exchanges, stays out of the activity log.
    pub(crate) fn mention(
        &self,
        kind: &'static str,
        action: &'static str,
        description: String,
        detail: Value,
    ) {
        let event = event(kind, action, description, detail);
        let _ = self.0.cast(Message::Mention(event));
    }

    /// Listens from now on, or from after the event `last` where that is still kept.
    pub(crate) async fn listen(&self, last: Option<String>) -> Result<Heard, Unavailable> {
        self.0
            .call(EVENTS_DEADLINE, |reply| {
                Message::Listen(last.clone(), reply)
            })
            .await
    }

    /// Tells of an actor's start or failure.
    pub(crate) fn publish_life(&self, life: &LifeEvent) {
        let _ = self.0.cast(Message::Life(life.clone()));
    }

    /// The newest events, oldest first.
    pub(crate) async fn recent(&self) -> Result<Vec<Arc<Event>>, Unavailable> {
        self.0.call(EVENTS_DEADLINE, Message::Recent).await
    }
}

/// The child spec for the tree, and the handle for everyone else.
pub(crate) fn child(database: Database) -> (ChildSpec, Events) {
    // Kept above the actor, so that its crash parts no listener.
    let (listeners, _) = broadcast::channel(EVENTS_BEHIND);
    let (spec, address) =
        ChildSpec::new::<EventsActor>("events", EVENTS_MAILBOX, (database, listeners));
    (spec, Events(address))
}

fn event(
    kind: &'static str,
    action: &'static str,
    description: String,
    detail: Value,
) -> Arc<Event> {
    Arc::new(Event {
        id: new_id(),
        at: now_ms(),
        kind,
        action,
        description,
        detail,
    })
}

pub(crate) enum Message {
    Publish(Arc<Event>),
    Mention(Arc<Event>),
    Listen(Option<String>, Reply<Heard>),
    Life(LifeEvent),
    Recent(Reply<Vec<Arc<Event>>>),
}

impl ActorMessage for Message {
    fn name(&self) -> &'static str {
        match self {
            Self::Publish(_) => "publish",
            Self::Mention(_) => "mention",
            Self::Listen(..) => "listen",
            Self::Life(_) => "life",
            Self::Recent(_) => "recent",
        }
    }
}

struct EventsActor;

pub(crate) struct State {
    kept: VecDeque<Arc<Event>>,
    /// What came later than this id is all kept; what came before is not.
    complete_after: String,
    database: Database,
    listeners: broadcast::Sender<Arc<Event>>,
}

impl Behaviour for EventsActor {
    type Message = Message;
    type State = State;
    type Arguments = (Database, broadcast::Sender<Arc<Event>>);

    async fn start(
        (database, listeners): Self::Arguments,
        _: Own<Message>,
    ) -> Result<State, Fatal> {
        Ok(State {
            kept: VecDeque::new(),
            complete_after: new_id(),
            database,
            listeners,
        })
    }

    async fn handle(message: Message, state: &mut State) -> Result<(), Fatal> {
        match message {
            Message::Publish(event) => state.publish(event),
            Message::Mention(event) => state.keep(event),
            Message::Listen(last, reply) => drop(reply.send(state.heard(last.as_deref()))),
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
        self.lifecycle(&life);
        self.keep(Arc::new(Event {
            id: id.clone(),
            at,
            // Whoever listens for a restart need not know about first starts and failures.
            kind: if life.event == "started" && life.incarnation > 1 {
                "actor:restarted"
            } else {
                "actor:lifecycle"
            },
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

    /// What a listener's fate means to those who know the two ports and no actors.
    fn lifecycle(&mut self, life: &LifeEvent) {
        let process = match life.actor {
            "listener-router" => "providerRouter",
            "listener-qwen" => "qwenProxy",
            _ => return,
        };
        let (state, running) = match life.event {
            "started" => ("running", true),
            _ => ("error", false),
        };
        let lifecycle = json!({
            "process": process,
            "state": state,
            "port": null,
            "running": running,
            "error": life.reason,
        });
        let description = format!("{process} is {state}");
        self.keep(event(
            "lifecycle:update",
            state,
            description.clone(),
            json!({ "lifecycle": lifecycle }),
        ));
        self.keep(event("proxy:status", state, description, json!({})));
    }

    fn heard(&self, last: Option<&str>) -> Heard {
        let missed = match last {
            None => Vec::new(),
            // Ids sort by time, so it need not be one that is still kept.
            Some(last) => {
                let after = self.kept.iter().filter(|event| event.id.as_str() > last);
                after.cloned().collect()
            }
        };
        Heard {
            is_incomplete: last.is_some_and(|last| last < self.complete_after.as_str()),
            missed,
            coming: self.listeners.subscribe(),
        }
    }

    fn keep(&mut self, event: Arc<Event>) {
        // Nobody listening is no failure.
        let _ = self.listeners.send(event.clone());
        if self.kept.len() == EVENTS_KEPT
            && let Some(gone) = self.kept.pop_front()
        {
            self.complete_after.clone_from(&gone.id);
        }
        self.kept.push_back(event);
    }
}
