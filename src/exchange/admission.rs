//! How many completions are served at once (R27).

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Those that are served now. Cheap to clone.
///
/// A count and no semaphore: the bound is a setting, and a lower one must hold for the next request although more than
/// that are running.
#[derive(Clone, Default)]
pub(crate) struct Admission(Arc<AtomicUsize>);

/// One completion's place, given back when dropped.
pub(crate) struct Place(Arc<AtomicUsize>);

impl Admission {
    /// A place, unless `most` are taken.
    pub(crate) fn enter(&self, most: usize) -> Option<Place> {
        let one_more = |taken| (taken < most).then_some(taken + 1);
        let entered = self
            .0
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, one_more);
        entered.ok().map(|_| Place(self.0.clone()))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bound_of_the_moment_holds() {
        let admission = Admission::default();
        let first = admission.enter(2).expect("a place");
        let second = admission.enter(2).expect("a place");
        assert!(admission.enter(2).is_none());
        assert!(admission.enter(3).is_some(), "a wider bound holds at once");
        drop(first);
        assert!(admission.enter(1).is_none(), "a narrower one, too");
        drop(second);
        assert!(admission.enter(1).is_some());
    }
}
