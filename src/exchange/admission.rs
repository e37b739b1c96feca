//! How many completions are served at once, and what their bodies may weigh together (R15, R27).

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Those that are served now. Cheap to clone.
///
/// Counts and no semaphores: the bounds are settings, and a lower one must hold for the next request although more than
/// that are running.
#[derive(Clone, Default)]
pub(crate) struct Admission {
    taken: Arc<AtomicUsize>,
    /// Bytes of bodies.
    buffered: Arc<AtomicUsize>,
}

/// One completion's place, given back when dropped.
pub(crate) struct Place(Arc<AtomicUsize>);

impl Admission {
    /// A place, unless `most` are taken.
    pub(crate) fn enter(&self, most: usize) -> Option<Place> {
        add(&self.taken, 1, most).then(|| Place(self.taken.clone()))
    }

    /// Whether [`Self::enter`] would refuse. It takes nothing: a body that comes slowly holds no place.
    pub(crate) fn is_full(&self, most: usize) -> bool {
        self.taken.load(Ordering::Acquire) >= most
    }

    /// What counts the body of one request; all together may have `most` bytes.
    pub(crate) fn buffering(&self, most: usize) -> Buffering {
        Buffering(Arc::new(Held {
            all: self.buffered.clone(),
            own: AtomicUsize::new(0),
            most,
        }))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

/// The bytes of one request's body, as long as anybody holds this.
#[derive(Clone)]
pub(crate) struct Buffering(Arc<Held>);

struct Held {
    all: Arc<AtomicUsize>,
    own: AtomicUsize,
    most: usize,
}

impl Buffering {
    /// Counts `bytes` that have come, unless all together would be too many. As they come, and not as they were announced:
    /// who announces much and sends nothing takes nothing from others.
    pub(crate) fn take(&self, bytes: usize) -> bool {
        let taken = add(&self.0.all, bytes, self.0.most);
        if taken {
            self.0.own.fetch_add(bytes, Ordering::AcqRel);
        }
        taken
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.all.fetch_sub(*self.own.get_mut(), Ordering::AcqRel);
    }
}

fn add(count: &AtomicUsize, more: usize, most: usize) -> bool {
    let added = |now: usize| Some(now.saturating_add(more)).filter(|sum| *sum <= most);
    count
        .fetch_update(Ordering::AcqRel, Ordering::Acquire, added)
        .is_ok()
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

    #[test]
    fn bytes_are_given_back_with_the_last_who_holds_them() {
        let admission = Admission::default();
        let first = admission.buffering(10);
        assert!(first.take(6) && first.take(2));
        let second = admission.buffering(10);
        assert!(!second.take(3), "all together");
        let kept = first.clone();
        drop(first);
        assert!(!second.take(3), "somebody still has them");
        drop(kept);
        assert!(second.take(10));
    }
}
