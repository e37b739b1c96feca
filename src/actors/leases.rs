//! Which chats are being asked, by whom, and when they are free again. Above the session actor: its crash lets no second
//! request into a chat.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use tokio::sync::Notify;
use tokio::sync::futures::OwnedNotified;

use crate::tasks::lock;

/// See the module. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(crate) struct Leases {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    held: Mutex<HashMap<String, Holder>>,
    released: Arc<Notify>,
}

#[derive(Debug, PartialEq, Eq)]
enum Holder {
    /// Asks the question of this hash; none where nobody else can ask it there yet.
    Asks(Option<String>),
    /// Wants nothing more of the chat: the site is being told so.
    Leaves,
}

/// Why a chat cannot be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Taken {
    /// It is free in a moment: who had it leaves, or asked the very same, and so is being asked once more.
    Briefly,
    /// Somebody else goes on with it.
    Longer,
}

/// The right to be the only request of a chat. Given back when dropped.
#[derive(Debug)]
pub(crate) struct Lease {
    chat_id: String,
    leases: Leases,
}

impl Leases {
    /// Takes a free chat for the question of this hash.
    pub(crate) fn take(&self, chat_id: &str, question: &str) -> Result<Lease, Taken> {
        let mut held = lock(&self.shared.held);
        match held.get(chat_id) {
            None => {}
            Some(Holder::Leaves) => return Err(Taken::Briefly),
            Some(Holder::Asks(Some(asked))) if asked == question => return Err(Taken::Briefly),
            Some(Holder::Asks(_)) => return Err(Taken::Longer),
        }
        let holder = Holder::Asks(Some(question.to_owned()));
        held.insert(chat_id.to_owned(), holder);
        Ok(self.lease(chat_id))
    }

    /// Takes a chat that nobody else knows yet.
    pub(crate) fn claim(&self, chat_id: &str) -> Lease {
        lock(&self.shared.held).insert(chat_id.to_owned(), Holder::Asks(None));
        self.lease(chat_id)
    }

    /// Resolves when a chat was given back after this call.
    pub(crate) fn released(&self) -> OwnedNotified {
        self.shared.released.clone().notified_owned()
    }

    fn lease(&self, chat_id: &str) -> Lease {
        Lease {
            chat_id: chat_id.to_owned(),
            leases: self.clone(),
        }
    }
}

impl Lease {
    /// From now on it is held only until the site knows that nothing more is wanted.
    pub(crate) fn leave(&self) {
        if let Some(holder) = lock(&self.leases.shared.held).get_mut(&self.chat_id) {
            *holder = Holder::Leaves;
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        lock(&self.leases.shared.held).remove(&self.chat_id);
        self.leases.shared.released.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[test]
    fn who_leaves_and_who_asks_the_same_is_waited_for() {
        let leases = Leases::default();
        let lease = leases.take("c", "q").unwrap();
        assert_eq!(leases.take("c", "q").unwrap_err(), Taken::Briefly);
        assert_eq!(leases.take("c", "other").unwrap_err(), Taken::Longer);
        lease.leave();
        assert_eq!(leases.take("c", "other").unwrap_err(), Taken::Briefly);
        let released = leases.released();
        drop(lease);
        assert!(released.now_or_never().is_some(), "who waits is told");
        assert!(leases.released().now_or_never().is_none());
        drop(leases.take("c", "other").unwrap());
        let _new = leases.claim("n");
        assert_eq!(leases.take("n", "q").unwrap_err(), Taken::Longer);
    }
}
