//! Background work that somebody owns: named, counted, drained at shutdown.
//!
//! Knows nobody. Everything in the gateway that is not an actor and outlives one function call is spawned here,
//! so that a shutdown can wait for it and a test can see what is left.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::task::{AbortHandle, JoinHandle};
use tokio_util::task::TaskTracker;

/// The tasks of one gateway. Cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct Tasks {
    tracker: TaskTracker,
    running: Arc<Mutex<BTreeMap<&'static str, usize>>>,
}

impl Tasks {
    /// Runs `work` to its end, whoever started it.
    pub(crate) fn spawn<F>(&self, name: &'static str, work: F) -> JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        let counted = Counted::new(self.running.clone(), name);
        // An async block holds what it awaits twice: as it was handed over, and as it is polled.
        let work = Box::pin(work);
        self.tracker.spawn(async move {
            let _counted = counted;
            work.await
        })
    }

    /// Runs `work` until it ends or the returned guard is dropped.
    pub(crate) fn spawn_owned<F>(&self, name: &'static str, work: F) -> Owned
    where
        F: Future<Output = ()> + Send + 'static,
    {
        Owned(self.spawn(name, work).abort_handle())
    }

    /// Tasks of their own, which can be waited for apart; [`Self::running`] counts them all.
    pub(crate) fn group(&self) -> Self {
        Self {
            tracker: TaskTracker::new(),
            running: self.running.clone(),
        }
    }

    /// How many tasks run, by name; names without a running task are left out.
    pub(crate) fn running(&self) -> BTreeMap<&'static str, usize> {
        lock(&self.running).clone()
    }

    /// Waits until every task has ended, at most `grace`. Returns whether they did.
    pub(crate) async fn drain(&self, grace: Duration) -> bool {
        self.tracker.close();
        tokio::time::timeout(grace, self.tracker.wait())
            .await
            .is_ok()
    }
}

/// Ends its task when dropped.
pub(crate) struct Owned(AbortHandle);

impl Drop for Owned {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Counts one task in, and out again however it ends: return, panic or abort.
struct Counted {
    running: Arc<Mutex<BTreeMap<&'static str, usize>>>,
    name: &'static str,
}

impl Counted {
    fn new(running: Arc<Mutex<BTreeMap<&'static str, usize>>>, name: &'static str) -> Self {
        *lock(&running).entry(name).or_default() += 1;
        Self { running, name }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let mut running = lock(&self.running);
        if let Some(count) = running.get_mut(self.name) {
            *count -= 1;
            if *count == 0 {
                running.remove(self.name);
            }
        }
    }
}

/// Locks even when another holder panicked: every value guarded this way is whole between two statements.
pub(crate) fn lock<T: ?Sized>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_owned_task_ends_with_its_owner_and_is_counted_out() {
        let tasks = Tasks::default();
        let owned = tasks.spawn_owned("forever", std::future::pending());
        assert_eq!(tasks.running().get("forever"), Some(&1));
        drop(owned);
        assert!(tasks.drain(Duration::from_secs(5)).await);
        assert!(tasks.running().is_empty());
    }

    #[tokio::test]
    async fn a_group_is_waited_for_apart_and_counted_with_the_rest() {
        let tasks = Tasks::default();
        let group = tasks.group();
        let others = tasks.spawn_owned("forever", std::future::pending());
        let own = group.spawn_owned("change", std::future::pending());
        assert_eq!(tasks.running(), [("change", 1), ("forever", 1)].into());
        assert!(!group.drain(Duration::ZERO).await);
        drop(own);
        assert!(group.drain(Duration::from_secs(5)).await);
        drop(others);
    }

    #[tokio::test]
    async fn a_panicking_task_is_counted_out() {
        let tasks = Tasks::default();
        let handle = tasks.spawn("doomed", async { panic!("on purpose") });
        assert!(handle.await.is_err());
        assert!(tasks.running().is_empty());
    }
}
