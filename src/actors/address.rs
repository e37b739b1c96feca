//! Where an actor is reached, whichever incarnation of it lives: the inside of every handle.
//!
//! An [`Address`] follows the incarnations and asks again when one dies under a call. A message that was in an
//! incarnation's hands when it died is asked once more and no further: it is the likely cause, and asking on would burn
//! the restart window of the whole gateway. A message that only waited is innocent and may wait on.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ractor::ActorRef;
use tokio::sync::{OwnedSemaphorePermit, oneshot, watch};
use tokio::time::{Instant, timeout_at};

use crate::actors::vitals::{Life, Vitals};

/// What an actor can be told. A reply port, where there is one, is the last field of its variant.
pub(crate) trait Message: Send + 'static {
    /// Short name of the variant, for the live view of the tree.
    fn name(&self) -> &'static str;
}

/// Takes the answer to a call. Dropping it unanswered tells the caller that the incarnation died.
pub(crate) type Reply<R> = oneshot::Sender<R>;

/// What travels in a mailbox.
pub(crate) enum Envelope<M> {
    /// From outside: holds its place in the bounded mailbox until it was handled.
    Asked(M, Place),
    /// From the actor's own tasks, which its own state bounds.
    Told(M),
    /// Panics inside `handle`, as a bug would.
    #[cfg(feature = "fault-injection")]
    Crash,
}

/// A message's place in the mailbox, and how far the actor has come with it.
pub(crate) struct Place {
    _permit: OwnedSemaphorePermit,
    in_hand: Arc<AtomicBool>,
}

impl Place {
    /// The actor works on the message now: until it says that it is done, a death is laid at this message's door.
    pub(crate) fn begin(&self) {
        self.in_hand.store(true, Ordering::Release);
    }

    pub(crate) fn done(self) {
        self.in_hand.store(false, Ordering::Release);
    }
}

/// Why an actor gave no answer. Always passing: the caller may try again.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub(crate) enum Unavailable {
    #[error("`{actor}` did not answer within {} ms", deadline.as_millis())]
    Deadline {
        actor: &'static str,
        deadline: Duration,
    },
    #[error("`{actor}` crashed twice over this request")]
    Crashed { actor: &'static str },
    #[error("`{actor}` keeps failing and is paused for another {} ms", retry_after.as_millis())]
    Melted {
        actor: &'static str,
        retry_after: Duration,
    },
    #[error("`{actor}` is stopped")]
    Stopped { actor: &'static str },
    #[error("`{actor}` has too many requests waiting")]
    Overloaded { actor: &'static str },
}

/// A bounded way to an actor. Cheap to clone, valid across restarts.
pub(crate) struct Address<M: Message> {
    vitals: Arc<Vitals>,
    current: watch::Receiver<Option<ActorRef<Envelope<M>>>>,
}

impl<M: Message> Clone for Address<M> {
    fn clone(&self) -> Self {
        Self {
            vitals: self.vitals.clone(),
            current: self.current.clone(),
        }
    }
}

impl<M: Message> Address<M> {
    pub(crate) fn new(
        vitals: Arc<Vitals>,
        current: watch::Receiver<Option<ActorRef<Envelope<M>>>>,
    ) -> Self {
        Self { vitals, current }
    }

    pub(crate) fn vitals(&self) -> &Arc<Vitals> {
        &self.vitals
    }

    /// Asks the actor and waits for its answer, at most `deadline`. What is asked must be idempotent: when an
    /// incarnation dies under the call, the next one is asked.
    pub(crate) async fn call<R, F>(&self, deadline: Duration, message: F) -> Result<R, Unavailable>
    where
        R: Send + 'static,
        F: Fn(Reply<R>) -> M,
    {
        let actor = self.vitals.name;
        let until = Instant::now() + deadline;
        let mut current = self.current.clone();
        let mut deaths = 0;
        loop {
            let incarnation = current.borrow_and_update().clone();
            if let Some(incarnation) = incarnation {
                let permit = self.admitted(until).await?;
                let (reply, answer) = oneshot::channel();
                let in_hand = Arc::new(AtomicBool::new(false));
                let place = Place {
                    _permit: permit,
                    in_hand: in_hand.clone(),
                };
                if incarnation
                    .send_message(Envelope::Asked(message(reply), place))
                    .is_ok()
                {
                    match timeout_at(until, answer).await {
                        Ok(Ok(answer)) => return Ok(answer),
                        Ok(Err(_)) if !in_hand.load(Ordering::Acquire) => {}
                        Ok(Err(_)) if deaths == 1 => return Err(Unavailable::Crashed { actor }),
                        Ok(Err(_)) => deaths += 1,
                        Err(_) => return Err(Unavailable::Deadline { actor, deadline }),
                    }
                }
            }
            if let Some(retry_after) = self.vitals.melted_for()
                && Instant::now() + retry_after >= until
            {
                return Err(Unavailable::Melted { actor, retry_after });
            }
            match timeout_at(until, current.changed()).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => return Err(Unavailable::Stopped { actor }),
                Err(_) => return Err(self.gave_up(deadline)),
            }
        }
    }

    /// A place in the mailbox. There nearly always is one: the clock is asked only where it must be waited for.
    async fn admitted(&self, until: Instant) -> Result<OwnedSemaphorePermit, Unavailable> {
        let actor = self.vitals.name;
        let admission = &self.vitals.admission;
        if let Ok(permit) = admission.clone().try_acquire_owned() {
            return Ok(permit);
        }
        match timeout_at(until, admission.clone().acquire_owned()).await {
            Ok(Ok(permit)) => Ok(permit),
            Ok(Err(_)) => Err(Unavailable::Stopped { actor }),
            Err(_) => Err(Unavailable::Overloaded { actor }),
        }
    }

    /// Tells the actor something without waiting for an answer. Lost when no incarnation lives, so only for what the
    /// next one learns in another way.
    pub(crate) fn cast(&self, message: M) -> Result<(), Unavailable> {
        let actor = self.vitals.name;
        let Some(incarnation) = self.current.borrow().clone() else {
            return Err(Unavailable::Stopped { actor });
        };
        let Ok(permit) = self.vitals.admission.clone().try_acquire_owned() else {
            return Err(Unavailable::Overloaded { actor });
        };
        let place = Place {
            _permit: permit,
            in_hand: Arc::default(),
        };
        incarnation
            .send_message(Envelope::Asked(message, place))
            .map_err(|_| Unavailable::Stopped { actor })
    }

    /// Ends the current incarnation from outside, amid whatever it does; its supervisor takes that for a death.
    pub(crate) fn kill(&self) -> bool {
        let incarnation = self.current.borrow().clone();
        incarnation
            .inspect(|incarnation| incarnation.kill())
            .is_some()
    }

    /// Kills the current incarnation from inside.
    #[cfg(feature = "fault-injection")]
    pub(crate) fn crash(&self) -> bool {
        let incarnation = self.current.borrow().clone();
        incarnation.is_some_and(|incarnation| incarnation.send_message(Envelope::Crash).is_ok())
    }

    fn gave_up(&self, deadline: Duration) -> Unavailable {
        let actor = self.vitals.name;
        match self.vitals.life() {
            Life::Melted => Unavailable::Melted {
                actor,
                retry_after: self.vitals.melted_for().unwrap_or_default(),
            },
            Life::Stopped => Unavailable::Stopped { actor },
            Life::Starting | Life::Running | Life::Restarting => {
                Unavailable::Deadline { actor, deadline }
            }
        }
    }
}
