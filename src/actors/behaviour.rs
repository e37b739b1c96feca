//! What one of our actors is: a [`Behaviour`], run by ractor inside [`Supervised`].
//!
//! The wrapper counts messages, releases their places in the mailbox and holds the fault injection, so that an actor
//! file shows decisions only.

use std::future::Future;
use std::sync::Arc;

use ractor::{Actor, ActorCell, ActorProcessingErr, ActorRef, SupervisionEvent};

use crate::actors::address::{Envelope, Message};
use crate::actors::vitals::Vitals;

/// Why an actor cannot go on. `Err` means "restart me"; a request that cannot be met is a reply, never an `Err`.
pub(crate) type Fatal = ActorProcessingErr;

/// An actor's decisions.
pub(crate) trait Behaviour: Send + Sync + 'static {
    type Message: Message;
    type State: Send + 'static;
    /// What each incarnation is made from: handles and shared state, cloned for every start.
    type Arguments: Clone + Send + Sync + 'static;

    /// Builds the state of a new incarnation, from what is durable.
    fn start(
        arguments: Self::Arguments,
        own: Own<Self::Message>,
    ) -> impl Future<Output = Result<Self::State, Fatal>> + Send;

    /// Handles one message. Awaits nothing that can stall.
    fn handle(
        message: Self::Message,
        state: &mut Self::State,
    ) -> impl Future<Output = Result<(), Fatal>> + Send;

    /// Hears of a child's life, for the two supervisors.
    fn child_event(_event: SupervisionEvent, _state: &mut Self::State) {}

    /// Last words of an orderly stop. Not called after a crash.
    fn stopped(_state: &mut Self::State) -> impl Future<Output = ()> + Send {
        async {}
    }
}

/// An actor's way to itself: for its own tasks to report back.
pub(crate) struct Own<M: Message>(ActorRef<Envelope<M>>);

impl<M: Message> Clone for Own<M> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<M: Message> Own<M> {
    /// Queues `message` behind what waits already; a dead incarnation hears nothing.
    pub(crate) fn tell(&self, message: M) {
        let _ = self.0.send_message(Envelope::Told(message));
    }

    pub(crate) fn cell(&self) -> ActorCell {
        self.0.get_cell()
    }
}

/// Runs a [`Behaviour`] under ractor.
pub(crate) struct Supervised<B> {
    pub(crate) vitals: Arc<Vitals>,
    pub(crate) behaviour: std::marker::PhantomData<fn() -> B>,
}

impl<B: Behaviour> Actor for Supervised<B> {
    type Msg = Envelope<B::Message>;
    type State = B::State;
    type Arguments = B::Arguments;

    async fn pre_start(
        &self,
        myself: ActorRef<Self::Msg>,
        arguments: Self::Arguments,
    ) -> Result<Self::State, ActorProcessingErr> {
        B::start(arguments, Own(myself)).await
    }

    async fn handle(
        &self,
        _: ActorRef<Self::Msg>,
        envelope: Self::Msg,
        state: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        let (message, place) = match envelope {
            Envelope::Asked(message, place) => (message, Some(place)),
            Envelope::Told(message) => (message, None),
            #[cfg(feature = "fault-injection")]
            Envelope::Crash => return Err(injected_panic()),
        };
        self.vitals.count(message.name());
        if let Some(place) = &place {
            place.begin();
        }
        B::handle(message, state).await?;
        // Not reached by a panic or a failure: the message stays the suspect then.
        if let Some(place) = place {
            place.done();
        }
        Ok(())
    }

    async fn handle_supervisor_evt(
        &self,
        _: ActorRef<Self::Msg>,
        event: SupervisionEvent,
        state: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        B::child_event(event, state);
        Ok(())
    }

    async fn post_stop(
        &self,
        _: ActorRef<Self::Msg>,
        state: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        B::stopped(state).await;
        Ok(())
    }
}

#[cfg(feature = "fault-injection")]
#[expect(clippy::panic, reason = "the point of fault injection")]
fn injected_panic() -> Fatal {
    panic!("injected fault")
}
