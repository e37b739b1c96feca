//! Starting, watching and restarting children: the part that both supervisors (root and gateway) share.
//!
//! [`Children`] is a state machine inside a supervisor's state. It never waits: a start runs in a task that reports
//! back, a backoff is a delayed message. One-for-one: no child of ours holds state of an earlier one.

use std::collections::{HashMap, VecDeque};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ractor::{Actor, ActorCell, ActorId, ActorStatus, SupervisionEvent};
use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::actors::address::{Address, Message, Reply, Unavailable};
use crate::actors::behaviour::{Behaviour, Own, Supervised};
use crate::actors::vitals::{Life, Snapshot, Vitals};
use crate::limits::supervision::{
    BACKOFF_FIRST, CHILD_GRACE, MELTDOWN_FIRST, MELTDOWN_LONGEST, RESTART_PERIOD, RESTARTS,
    START_DEADLINE,
};
use crate::tasks::Tasks;

/// When a child that ended is started again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(
    dead_code,
    reason = "the three OTP policies; every child of today is permanent"
)]
pub(crate) enum Restart {
    /// Always.
    Permanent,
    /// Only when it failed.
    Transient,
    /// Never.
    Temporary,
}

/// More than `intensity` restarts within `period` is a meltdown.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RestartWindow {
    pub(crate) intensity: usize,
    pub(crate) period: Duration,
}

/// 5 in 30 s (reliability contract, R12).
pub(crate) const WINDOW: RestartWindow = RestartWindow {
    intensity: RESTARTS,
    period: RESTART_PERIOD,
};

type Start = Arc<
    dyn Fn(ActorCell) -> Pin<Box<dyn Future<Output = Result<ActorCell, String>> + Send>>
        + Send
        + Sync,
>;

/// How one child is built, watched and stopped.
#[derive(Clone)]
pub(crate) struct ChildSpec {
    pub(crate) vitals: Arc<Vitals>,
    pub(crate) restart: Restart,
    /// How long an orderly stop may take before the child is killed.
    pub(crate) shutdown: Duration,
    /// The children of a child that is a supervisor itself, for the view of the tree.
    pub(crate) below: Vec<Arc<Vitals>>,
    start: Start,
    clear: Arc<dyn Fn() + Send + Sync>,
    kill: Arc<dyn Fn() -> bool + Send + Sync>,
    #[cfg(feature = "fault-injection")]
    pub(crate) crash: Arc<dyn Fn() -> bool + Send + Sync>,
}

impl ChildSpec {
    /// The spec of a permanent child that runs `B`, and the address that follows its incarnations.
    pub(crate) fn new<B: Behaviour>(
        name: &'static str,
        mailbox: usize,
        arguments: B::Arguments,
    ) -> (Self, Address<B::Message>) {
        let vitals = Vitals::new(name, mailbox);
        let (slot, current) = watch::channel(None);
        let slot = Arc::new(slot);
        let address = Address::new(vitals.clone(), current);
        let start = {
            let (vitals, slot) = (vitals.clone(), slot.clone());
            Arc::new(move |supervisor: ActorCell| {
                let (vitals, slot, arguments) = (vitals.clone(), slot.clone(), arguments.clone());
                let started = async move {
                    let behaviour = Supervised::<B> {
                        vitals: vitals.clone(),
                        behaviour: std::marker::PhantomData,
                    };
                    // No ractor name: those are one table per process, and gateways of parallel tests would collide.
                    let (actor, _) = Actor::spawn_linked(None, behaviour, arguments, supervisor)
                        .await
                        .map_err(|reason| format!("did not start: {reason}"))?;
                    let cell = actor.get_cell();
                    vitals.started();
                    slot.send_replace(Some(actor));
                    Ok(cell)
                };
                Box::pin(started) as Pin<Box<dyn Future<Output = _> + Send>>
            })
        };
        let clear = {
            let slot = slot.clone();
            Arc::new(move || {
                slot.send_replace(None);
            })
        };
        let kill = {
            let address = address.clone();
            Arc::new(move || address.kill())
        };
        #[cfg(feature = "fault-injection")]
        let crash = {
            let address = address.clone();
            Arc::new(move || address.crash())
        };
        let spec = Self {
            vitals,
            restart: Restart::Permanent,
            shutdown: CHILD_GRACE,
            below: Vec::new(),
            start,
            clear,
            kill,
            #[cfg(feature = "fault-injection")]
            crash,
        };
        (spec, address)
    }

    /// Ends the incarnation there is now without a word, as if it had died. `false` when there is none.
    pub(crate) fn kill(&self) -> bool {
        (self.kill)()
    }

    /// What the live view shows of this child and those below it.
    pub(crate) fn snapshot(&self) -> Snapshot {
        self.vitals.snapshot(
            self.below
                .iter()
                .map(|child| child.snapshot(Vec::new()))
                .collect(),
        )
    }
}

/// What a supervisor's tasks report back to it. A supervisor's message type wraps this.
pub(crate) enum Report {
    Started {
        child: usize,
        outcome: Result<ActorCell, String>,
    },
    RestartDue {
        child: usize,
    },
    KillDue {
        id: ActorId,
    },
}

/// What a supervisor hears of its children's lives, to tell others.
#[derive(Clone, Debug)]
pub(crate) struct LifeEvent {
    pub(crate) actor: &'static str,
    pub(crate) event: &'static str,
    pub(crate) incarnation: u64,
    pub(crate) reason: Option<String>,
}

/// The children of one supervisor.
pub(crate) struct Children<M: Message> {
    list: Vec<Child>,
    own: Own<M>,
    wrap: fn(Report) -> M,
    tasks: Tasks,
    observe: Arc<dyn Fn(LifeEvent) + Send + Sync>,
    /// Deaths heard before the start that made the child reported back.
    early_deaths: HashMap<ActorId, String>,
    stopping: bool,
    /// Ends the pauses when nobody is left who would hear of their end.
    over: DropGuard,
}

struct Child {
    spec: ChildSpec,
    cell: Option<ActorCell>,
    deaths: VecDeque<Instant>,
    meltdown: Duration,
    /// Set while an orderly restart waits for the old incarnation to end.
    restarting: bool,
    waiting: Vec<Reply<Result<(), Unavailable>>>,
}

impl<M: Message> Children<M> {
    pub(crate) fn new(
        specs: Vec<ChildSpec>,
        own: Own<M>,
        wrap: fn(Report) -> M,
        tasks: Tasks,
        observe: Arc<dyn Fn(LifeEvent) + Send + Sync>,
    ) -> Self {
        let children = specs
            .into_iter()
            .map(|spec| Child {
                spec,
                cell: None,
                deaths: VecDeque::new(),
                meltdown: MELTDOWN_FIRST,
                restarting: false,
                waiting: Vec::new(),
            })
            .collect();
        Self {
            list: children,
            own,
            wrap,
            tasks,
            observe,
            early_deaths: HashMap::new(),
            stopping: false,
            over: CancellationToken::new().drop_guard(),
        }
    }

    /// Starts every child that does not live, each in a task of its own: a handle waits for what it needs, so no
    /// order has to be kept for correctness, and one child that cannot start holds up none of the others.
    pub(crate) fn start_all(&mut self) {
        self.stopping = false;
        for child in 0..self.list.len() {
            if self
                .list
                .get(child)
                .is_some_and(|child| child.cell.is_none())
            {
                self.start(child);
            }
        }
    }

    /// Whether every child lives.
    pub(crate) fn all_running(&self) -> bool {
        self.list.iter().all(|child| child.cell.is_some())
    }

    /// What the live view shows, in the order of the tree.
    pub(crate) fn snapshots(&self) -> Vec<Snapshot> {
        self.list
            .iter()
            .map(|child| child.spec.snapshot())
            .collect()
    }

    /// Ends the child in order and starts it anew; answers when the new incarnation serves.
    pub(crate) fn restart(
        &mut self,
        name: &str,
        reply: Reply<Result<(), Unavailable>>,
    ) -> Result<(), UnknownChild> {
        let Some(index) = self
            .list
            .iter()
            .position(|child| child.spec.vitals.name == name)
        else {
            return Err(UnknownChild);
        };
        let Some(child) = self.list.get_mut(index) else {
            return Err(UnknownChild);
        };
        child.waiting.push(reply);
        if child.restarting {
            return Ok(());
        }
        match child.cell.clone() {
            Some(cell) => {
                child.restarting = true;
                (child.spec.clear)();
                child.spec.vitals.set_life(Life::Restarting);
                let (grace, id) = (child.spec.shutdown, cell.get_id());
                cell.stop(Some("restart requested".into()));
                self.after(grace, Report::KillDue { id });
            }
            None => self.start(index),
        }
        Ok(())
    }

    /// Ends all children, the last started first, killing those that outstay their grace. The returned future does
    /// the waiting; no child is restarted meanwhile.
    pub(crate) fn stop_all(&mut self) -> impl Future<Output = ()> + Send + use<M> {
        self.stopping = true;
        let mut living = Vec::new();
        for child in &mut self.list {
            (child.spec.clear)();
            child.spec.vitals.set_life(Life::Stopped);
            child.restarting = false;
            child.waiting.clear();
            if let Some(cell) = child.cell.take() {
                living.push((cell, child.spec.shutdown));
            }
        }
        async move {
            for (cell, grace) in living.into_iter().rev() {
                let stopped = cell
                    .stop_and_wait(Some("shutdown".into()), Some(grace))
                    .await;
                if stopped.is_err() && cell.get_status() != ActorStatus::Stopped {
                    cell.kill();
                }
            }
        }
    }

    /// Takes a report of one of our tasks.
    pub(crate) fn report(&mut self, report: Report) {
        match report {
            Report::Started { child, outcome } => self.started(child, outcome),
            Report::RestartDue { child } => {
                if self
                    .list
                    .get(child)
                    .is_some_and(|child| child.cell.is_none())
                    && !self.stopping
                {
                    self.start(child);
                }
            }
            Report::KillDue { id } => {
                for child in &self.list {
                    if let Some(cell) = child.cell.as_ref().filter(|cell| cell.get_id() == id) {
                        cell.kill();
                    }
                }
            }
        }
    }

    /// Takes what ractor says of a child's end.
    pub(crate) fn ended(&mut self, event: SupervisionEvent) {
        let (cell, failed, reason) = match event {
            SupervisionEvent::ActorFailed(cell, reason) => (cell, true, reason.to_string()),
            SupervisionEvent::ActorTerminated(cell, _, reason) => {
                (cell, false, reason.unwrap_or_else(|| "stopped".into()))
            }
            _ => return,
        };
        let id = cell.get_id();
        let index = self
            .list
            .iter()
            .position(|child| child.cell.as_ref().is_some_and(|cell| cell.get_id() == id));
        let Some(index) = index else {
            if !self.stopping {
                self.early_deaths.insert(id, reason);
            }
            return;
        };
        let Some(child) = self.list.get_mut(index) else {
            return;
        };
        child.cell = None;
        (child.spec.clear)();
        if child.restarting {
            child.restarting = false;
            self.start(index);
        } else if match child.spec.restart {
            Restart::Permanent => true,
            Restart::Transient => failed,
            Restart::Temporary => false,
        } {
            self.died(index, &reason);
        } else {
            child.spec.vitals.set_life(Life::Stopped);
        }
    }

    fn start(&mut self, index: usize) {
        let Some(child) = self.list.get(index) else {
            return;
        };
        if child.spec.vitals.life() != Life::Melted {
            child.spec.vitals.set_life(Life::Starting);
        }
        let starting = (child.spec.start)(self.own.cell());
        let (own, wrap) = (self.own.clone(), self.wrap);
        self.tasks.spawn("actor start", async move {
            let outcome = match tokio::time::timeout(START_DEADLINE, starting).await {
                Ok(outcome) => outcome,
                Err(_) => Err(format!(
                    "did not start within {} s",
                    START_DEADLINE.as_secs()
                )),
            };
            own.tell(wrap(Report::Started {
                child: index,
                outcome,
            }));
        });
    }

    fn started(&mut self, index: usize, outcome: Result<ActorCell, String>) {
        let Some(child) = self.list.get_mut(index) else {
            return;
        };
        match outcome {
            Ok(cell) if self.stopping => {
                (child.spec.clear)();
                child.spec.vitals.set_life(Life::Stopped);
                cell.stop(Some("shutdown".into()));
            }
            Ok(cell) => {
                if let Some(reason) = self.early_deaths.remove(&cell.get_id()) {
                    (child.spec.clear)();
                    self.died(index, &reason);
                    return;
                }
                child.cell = Some(cell);
                for waiting in child.waiting.drain(..) {
                    let _ = waiting.send(Ok(()));
                }
                self.tell(index, "started", None);
            }
            Err(reason) if self.stopping => {
                tracing::debug!(reason, "a child that was starting is not needed any more");
            }
            Err(reason) => self.died(index, &reason),
        }
    }

    /// Decides when a child that failed is started again.
    fn died(&mut self, index: usize, reason: &str) {
        if self.stopping {
            return;
        }
        let Some(child) = self.list.get_mut(index) else {
            return;
        };
        let now = Instant::now();
        if child
            .deaths
            .back()
            .is_some_and(|last| now.duration_since(*last) > WINDOW.period)
        {
            child.meltdown = MELTDOWN_FIRST;
        }
        child.deaths.push_back(now);
        while child
            .deaths
            .front()
            .is_some_and(|first| now.duration_since(*first) > WINDOW.period)
        {
            child.deaths.pop_front();
        }
        let recent = child.deaths.len();
        let melted = recent > WINDOW.intensity;
        let pause = if melted {
            let pause = child.meltdown;
            child.meltdown = (pause * 2).min(MELTDOWN_LONGEST);
            pause
        } else {
            backoff(recent)
        };
        child.spec.vitals.failed(reason, melted, pause);
        // Clearing again wakes the callers that wait, so that they see the meltdown at once.
        (child.spec.clear)();
        let actor = child.spec.vitals.name;
        if melted {
            for waiting in child.waiting.drain(..) {
                let _ = waiting.send(Err(Unavailable::Melted {
                    actor,
                    retry_after: pause,
                }));
            }
            tracing::error!(
                actor,
                reason,
                retry_in_ms = pause.as_millis(),
                "actor keeps failing and is paused"
            );
        } else {
            tracing::warn!(
                actor,
                reason,
                restarts = recent,
                "actor failed and is restarted"
            );
        }
        let event = if melted { "melted" } else { "failed" };
        self.tell(index, event, Some(reason.to_owned()));
        self.after(pause, Report::RestartDue { child: index });
    }

    fn tell(&self, index: usize, event: &'static str, reason: Option<String>) {
        if let Some(child) = self.list.get(index) {
            let incarnation = child.spec.vitals.snapshot(Vec::new()).incarnation;
            (self.observe)(LifeEvent {
                actor: child.spec.vitals.name,
                event,
                incarnation,
                reason,
            });
        }
    }

    fn after(&self, pause: Duration, report: Report) {
        if pause.is_zero() {
            self.own.tell((self.wrap)(report));
            return;
        }
        let (own, wrap) = (self.own.clone(), self.wrap);
        let over = self.over.token().clone();
        self.tasks.spawn("restart backoff", async move {
            tokio::select! {
                () = over.cancelled() => {}
                () = tokio::time::sleep(pause) => own.tell(wrap(report)),
            }
        });
    }
}

/// No child of that name lives below this supervisor.
#[derive(Debug)]
pub(crate) struct UnknownChild;

/// The first restart comes at once: a waiting caller then loses well under a millisecond. Later ones pause, with
/// jitter so that children that died together do not come back in step.
fn backoff(recent_deaths: usize) -> Duration {
    match u32::try_from(recent_deaths.saturating_sub(2)) {
        _ if recent_deaths <= 1 => Duration::ZERO,
        Ok(doublings) => BACKOFF_FIRST
            .saturating_mul(1 << doublings.min(6))
            .mul_f64(0.75 + fastrand::f64() / 2.0),
        Err(_) => BACKOFF_FIRST,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_restart_is_immediate_and_later_ones_grow() {
        assert_eq!(backoff(1), Duration::ZERO);
        assert!(backoff(2) >= BACKOFF_FIRST.mul_f64(0.75));
        assert!(backoff(5) >= BACKOFF_FIRST * 6);
        assert!(backoff(100) <= BACKOFF_FIRST * 80);
    }
}
