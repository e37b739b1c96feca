//! What can be seen of an actor from outside: its state, its restarts, its mailbox.
//!
//! Owned above the actor, so that it outlives every incarnation.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde::Serialize;
use tokio::sync::Semaphore;
use utoipa::ToSchema;

use crate::clock::now_ms;
use crate::tasks::lock;

/// Where a child is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = ActorLife)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Life {
    /// Never started, or stopped on purpose.
    Stopped,
    /// Its `start` is running.
    Starting,
    /// Takes messages.
    Running,
    /// Died; the next incarnation comes at once or after a short pause.
    Restarting,
    /// Died too often; retried with a growing pause, callers are refused meanwhile.
    Melted,
}

/// One actor's vital signs.
pub(crate) struct Vitals {
    pub(crate) name: &'static str,
    pub(crate) admission: Arc<Semaphore>,
    capacity: usize,
    handled: AtomicU64,
    record: Mutex<Record>,
}

struct Record {
    life: Life,
    incarnation: u64,
    restarts: u64,
    since: Instant,
    last_failure: Option<Failure>,
    retry_at: Option<Instant>,
    by_message: BTreeMap<&'static str, u64>,
}

/// Why an incarnation ended.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = ActorFailure)]
pub(crate) struct Failure {
    /// Unix time, ms.
    pub(crate) at: i64,
    pub(crate) reason: String,
}

/// What `/api/supervision` shows of one child.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = Actor, no_recursion)]
pub(crate) struct Snapshot {
    pub(crate) name: &'static str,
    pub(crate) state: Life,
    /// Counts from 1; 0 when it was never started.
    pub(crate) incarnation: u64,
    pub(crate) restarts: u64,
    pub(crate) last_failure: Option<Failure>,
    pub(crate) mailbox_depth: usize,
    pub(crate) mailbox_capacity: usize,
    pub(crate) messages_handled: u64,
    /// Seconds the current incarnation has been running, 0 when none is.
    pub(crate) uptime: u64,
    pub(crate) busiest_message: Option<&'static str>,
    /// Milliseconds until a melted child is tried again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) retry_in_ms: Option<u64>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false)]
    pub(crate) children: Vec<Snapshot>,
}

impl Vitals {
    /// `capacity` bounds the mailbox: ractor's own has no bound.
    pub(crate) fn new(name: &'static str, capacity: usize) -> Arc<Self> {
        Arc::new(Self {
            name,
            admission: Arc::new(Semaphore::new(capacity)),
            capacity,
            handled: AtomicU64::new(0),
            record: Mutex::new(Record {
                life: Life::Stopped,
                incarnation: 0,
                restarts: 0,
                since: Instant::now(),
                last_failure: None,
                retry_at: None,
                by_message: BTreeMap::new(),
            }),
        })
    }

    pub(crate) fn life(&self) -> Life {
        lock(&self.record).life
    }

    pub(crate) fn restarts(&self) -> u64 {
        lock(&self.record).restarts
    }

    pub(crate) fn last_failure(&self) -> Option<Failure> {
        lock(&self.record).last_failure.clone()
    }

    /// How long a melted child stays refused.
    pub(crate) fn melted_for(&self) -> Option<Duration> {
        let record = lock(&self.record);
        (record.life == Life::Melted).then(|| {
            record.retry_at.map_or(Duration::ZERO, |at| {
                at.saturating_duration_since(Instant::now())
            })
        })
    }

    pub(crate) fn set_life(&self, life: Life) {
        lock(&self.record).life = life;
    }

    /// A new incarnation serves.
    pub(crate) fn started(&self) {
        let mut record = lock(&self.record);
        record.life = Life::Running;
        record.incarnation += 1;
        if record.incarnation > 1 {
            record.restarts += 1;
        }
        record.since = Instant::now();
        record.retry_at = None;
    }

    /// An incarnation died; the next one is tried after `pause`.
    pub(crate) fn failed(&self, reason: &str, melted: bool, pause: Duration) {
        let mut record = lock(&self.record);
        record.life = if melted {
            Life::Melted
        } else {
            Life::Restarting
        };
        record.last_failure = Some(Failure {
            at: now_ms(),
            reason: reason.to_owned(),
        });
        record.retry_at = Some(Instant::now() + pause);
    }

    /// One message was handled.
    pub(crate) fn count(&self, message: &'static str) {
        self.handled.fetch_add(1, Ordering::Relaxed);
        *lock(&self.record).by_message.entry(message).or_default() += 1;
    }

    pub(crate) fn mailbox_depth(&self) -> usize {
        self.capacity
            .saturating_sub(self.admission.available_permits())
    }

    pub(crate) fn snapshot(&self, children: Vec<Snapshot>) -> Snapshot {
        let record = lock(&self.record);
        Snapshot {
            name: self.name,
            state: record.life,
            incarnation: record.incarnation,
            restarts: record.restarts,
            last_failure: record.last_failure.clone(),
            mailbox_depth: self.mailbox_depth(),
            mailbox_capacity: self.capacity,
            messages_handled: self.handled.load(Ordering::Relaxed),
            uptime: if record.life == Life::Running {
                record.since.elapsed().as_secs()
            } else {
                0
            },
            busiest_message: record
                .by_message
                .iter()
                .max_by_key(|(_, count)| **count)
                .map(|(name, _)| *name),
            retry_in_ms: record
                .retry_at
                .filter(|_| record.life == Life::Melted)
                .map(|at| {
                    u64::try_from(at.saturating_duration_since(Instant::now()).as_millis())
                        .unwrap_or(u64::MAX)
                }),
            children,
        }
    }
}
