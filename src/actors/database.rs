//! The database writer: the only door to SQLite.
//!
//! Owns: the one writing connection and the query-only ones. Durable: everything it acknowledged. A crash loses:
//! nothing; what was queued waits in the [`Outbox`], which the handle owns, and reads are asked again. Never waits for:
//! a transaction or a read, both run in tasks that report back, so that the mailbox stays open while the disk is slow.
//!
//! Between two transactions it tends the file: `SQLite` would fold the log and merge the index of words in the midst of one
//! that had nothing to do with it, for tens of milliseconds, and whatever is to be written next waits. Here the log is folded
//! beside ([`crate::db::fold`]), and words are merged in pieces of few pages; with nothing to write, one after the other.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::sync::watch;

use crate::actors::address::{Address, Message as ActorMessage, Reply, Unavailable};
use crate::actors::behaviour::{Behaviour, Fatal, Own};
use crate::actors::outbox::{Acknowledged, Outbox};
use crate::actors::supervisor::ChildSpec;
use crate::clock::now_ms;
use crate::db::connections::{
    Committed, Connection, Look, ReadConnections, Tended, WriteConnection,
};
use crate::db::error::DbError;
use crate::db::fold::{FoldConnection, Log, Turn};
use crate::db::ops::{WriteOp, Written};
use crate::db::recovery::{self, Loss, Recovered};
use crate::db::timings::Timings;
use crate::db::upkeep::Upkeep;
use crate::limits::database::{
    LOOKS, MAILBOX, READ_DEADLINE, REFUSED_PAUSE, STOP_GRACE, WRITE_DEADLINE,
};
use crate::limits::upkeep::{LEAST_PAUSE, MOST_PAUSE};
use crate::tasks::{Owned, Tasks, lock};

/// Connections that reports read through beside the writer.
const READERS: usize = 2;

/// Pages of the index of words that are merged between two transactions: 1 to 3 ms; each of its parts makes it more.
const MERGED: u32 = 16;
const MOST_MERGED: u32 = 64;
/// From so many parts on there is a piece after each transaction, whatever else there is to do.
const BEHIND: u32 = 200;
const BEHIND_MERGED: u32 = 128;

/// How the rest of the gateway reaches the database. Cheap to clone, valid across restarts.
#[derive(Clone)]
pub(crate) struct Database {
    address: Address<Message>,
    shared: Arc<Shared>,
}

/// What outlives every incarnation.
struct Shared {
    outbox: Outbox,
    /// A wake-up is on its way: further ones would only fill the mailbox.
    waking: AtomicBool,
    /// Why the last transaction was refused, until one succeeds.
    trouble: Mutex<Option<DbError>>,
    commits: AtomicU64,
    late_acks: AtomicU64,
    timings: Mutex<Timings>,
    /// Why the file in place cannot be used any more, until another one serves.
    loss: Mutex<Option<Loss>>,
    /// Who still sees what was lost, and where it is to be copied.
    rescue: Mutex<Option<Rescue>>,
    recovered: watch::Sender<Option<Recovered>>,
    /// The log grows faster than it is folded.
    behind: watch::Sender<bool>,
}

/// What connections that are still open see of a file that is not in its place.
pub(crate) struct Rescue {
    readers: ReadConnections,
    to: PathBuf,
}

impl Rescue {
    /// Copies it, which may take long.
    pub(crate) async fn copy(self) -> Result<(), DbError> {
        self.readers
            .run(move |conn| recovery::rescue(conn, &self.to))
            .await
    }
}

/// Why a read or a write did not happen.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum StoreError {
    #[error(transparent)]
    Db(#[from] DbError),
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

/// The database as health shows it.
#[derive(Clone, Debug, serde::Serialize, utoipa::ToSchema)]
#[schema(as = DatabaseHealth)]
pub(crate) struct Health {
    /// `ok`, or the code of what refuses writes.
    pub(crate) status: &'static str,
    pub(crate) queued: usize,
    /// History rows that could not be kept (R4).
    pub(crate) log_dropped_total: u64,
    pub(crate) commits: u64,
    /// Answers whose last byte went out before their row was committed (R2).
    pub(crate) commit_waits_expired: u64,
    /// How long writes held the database, by their kinds, since the start.
    pub(crate) writes: Timings,
    /// What a fresh file took the place of, if one did.
    pub(crate) recovered: Option<Recovered>,
}

impl Database {
    /// Stores `op` and waits for the commit.
    pub(crate) async fn write(&self, op: WriteOp) -> Result<Written, StoreError> {
        let actor = self.address.vitals().name;
        if let Some(retry_after) = self.address.vitals().melted_for() {
            return Err(Unavailable::Melted { actor, retry_after }.into());
        }
        let Some(acknowledged) = self.queue(op) else {
            return Err(Unavailable::Overloaded { actor }.into());
        };
        match tokio::time::timeout(WRITE_DEADLINE, acknowledged).await {
            Ok(Ok(applied)) => Ok(applied.outcome?),
            // The queue outlives the writer, so a dropped port means that the gateway is going away.
            Ok(Err(_)) => Err(Unavailable::Stopped { actor }.into()),
            // Why it takes so long is worth more than that it does.
            Err(_) => Err(lock(&self.shared.trouble).clone().map_or_else(
                || {
                    Unavailable::Deadline {
                        actor,
                        deadline: WRITE_DEADLINE,
                    }
                    .into()
                },
                StoreError::Db,
            )),
        }
    }

    /// Queues a row of history without waiting. `None` when it had to be shed, which is counted.
    pub(crate) fn record(&self, op: WriteOp) -> Option<Acknowledged> {
        self.queue(op)
    }

    /// Carries out upkeep that nobody was promised, and waits for its commit as long as that takes. Says too how long it held
    /// the writer.
    pub(crate) async fn tend(&self, op: WriteOp) -> Result<(Written, Duration), StoreError> {
        let actor = self.address.vitals().name;
        let Some(acknowledged) = self.queue(op) else {
            return Err(Unavailable::Overloaded { actor }.into());
        };
        let applied = acknowledged
            .await
            .map_err(|_| Unavailable::Stopped { actor })?;
        Ok((applied.outcome?, applied.took))
    }

    /// Waits while the log is longer than it should be, so that no write has to fold it; not for ever, since somebody may be
    /// reading what cannot be folded so long. For those who write much that nobody waits for, between two pieces: it is no part
    /// of the time that a piece takes.
    pub(crate) async fn folded(&self) {
        let mut behind = self.shared.behind.subscribe();
        let _ = tokio::time::timeout(MOST_PAUSE, behind.wait_for(|behind| !behind)).await;
    }

    /// Carries out a piece of upkeep.
    pub(crate) async fn upkeep(&self, upkeep: Upkeep) -> Result<Tended, StoreError> {
        let message = |reply| Message::Upkeep(upkeep, reply);
        Ok(self.address.call(WRITE_DEADLINE, message).await??)
    }

    /// Whether the writer, its thread included, gets round to an answer.
    pub(crate) async fn ping(&self, deadline: Duration) -> Result<(), StoreError> {
        Ok(self.address.call(deadline, Message::Ping).await??)
    }

    /// Keeps the writer's thread busy until the other end of `over` is dropped.
    #[cfg(feature = "fault-injection")]
    pub(crate) fn stall(&self, over: std::sync::mpsc::Receiver<()>) -> Result<(), Unavailable> {
        self.address.cast(Message::Stall(over))
    }

    /// Counts an answer whose row was not committed in time.
    pub(crate) fn count_late_ack(&self) {
        self.shared.late_acks.fetch_add(1, Ordering::Relaxed);
    }

    /// Runs `job` on a query-only connection.
    pub(crate) async fn read<R, F>(&self, job: F) -> Result<R, StoreError>
    where
        R: Send + 'static,
        F: Fn(&Connection) -> Result<R, DbError> + Clone + Send + 'static,
    {
        self.read_within(READ_DEADLINE, job).await
    }

    /// The same for what reads much, and what nobody waits for.
    pub(crate) async fn read_within<R, F>(
        &self,
        deadline: Duration,
        job: F,
    ) -> Result<R, StoreError>
    where
        R: Send + 'static,
        F: Fn(&Connection) -> Result<R, DbError> + Clone + Send + 'static,
    {
        let answer = self
            .address
            .call(deadline, |reply: Reply<Result<R, DbError>>| {
                let job = job.clone();
                Message::Read(Box::new(move |readers: ReadConnections| {
                    Box::pin(async move {
                        let _ = reply.send(readers.run(job).await);
                    })
                }))
            })
            .await?;
        Ok(answer?)
    }

    /// Compares the pages with each other, beside serving. Empty means sound.
    pub(crate) async fn quick_check(&self, deadline: Duration) -> Result<Vec<String>, StoreError> {
        let answer = self
            .address
            .call(deadline, |reply: Reply<Result<Vec<String>, DbError>>| {
                Message::Read(Box::new(move |readers: ReadConnections| {
                    Box::pin(async move {
                        let _ = reply.send(readers.quick_check().await);
                    })
                }))
            })
            .await?;
        Ok(answer?)
    }

    /// Waits until everything queued is stored, then folds the write-ahead log into the file. For the shutdown.
    pub(crate) async fn flush(&self, deadline: Duration) -> Result<(), StoreError> {
        let actor = self.address.vitals().name;
        self.wake();
        tokio::time::timeout(deadline, self.shared.outbox.emptied())
            .await
            .map_err(|_| Unavailable::Deadline { actor, deadline })?;
        Ok(self.address.call(deadline, Message::Checkpoint).await??)
    }

    pub(crate) fn health(&self) -> Health {
        Health {
            status: lock(&self.shared.trouble)
                .as_ref()
                .map_or("ok", DbError::code),
            queued: self.shared.outbox.len(),
            log_dropped_total: self.shared.outbox.dropped(),
            commits: self.shared.commits.load(Ordering::Relaxed),
            commit_waits_expired: self.shared.late_acks.load(Ordering::Relaxed),
            writes: lock(&self.shared.timings).clone(),
            recovered: self.shared.recovered.borrow().clone(),
        }
    }

    /// Changes whenever a fresh file took the place of another one, and while that one's history is copied.
    pub(crate) fn recovered(&self) -> watch::Receiver<Option<Recovered>> {
        self.shared.recovered.subscribe()
    }

    /// Reads again how far the copying has come.
    pub(crate) async fn recovery_went_on(&self) -> Result<Option<Recovered>, StoreError> {
        let found = self.read(recovery::stored).await?;
        self.shared.recovered.send_replace(found.clone());
        Ok(found)
    }

    /// What is to be copied before it can be read; once for each loss.
    pub(crate) fn take_rescue(&self) -> Option<Rescue> {
        lock(&self.shared.rescue).take()
    }

    /// Tells that pages of the file make no sense: another one takes its place.
    pub(crate) fn ruined(&self, faults: &[String]) {
        let error = DbError::Corrupt(faults.join("; "));
        // Without an incarnation there is nobody who uses the file; the check is made again by the next one.
        let _ = self.address.cast(Message::Ruined(error));
    }

    fn queue(&self, op: WriteOp) -> Option<Acknowledged> {
        let acknowledged = self.shared.outbox.push(op)?;
        self.wake();
        Some(acknowledged)
    }

    fn wake(&self) {
        if !self.shared.waking.swap(true, Ordering::AcqRel)
            && self.address.cast(Message::Wake).is_err()
        {
            // No incarnation lives or its mailbox is full of wake-ups' like: a start looks into the queue by itself.
            self.shared.waking.store(false, Ordering::Release);
        }
    }
}

/// The child spec for the tree, and the handle for everyone else.
pub(crate) fn child(path: PathBuf, tasks: Tasks) -> (ChildSpec, Database) {
    let shared = Arc::new(Shared {
        outbox: Outbox::default(),
        waking: AtomicBool::new(false),
        trouble: Mutex::new(None),
        commits: AtomicU64::new(0),
        late_acks: AtomicU64::new(0),
        timings: Mutex::default(),
        loss: Mutex::default(),
        rescue: Mutex::default(),
        recovered: watch::channel(None).0,
        behind: watch::channel(false).0,
    });
    let arguments = (path, shared.clone(), tasks);
    let (mut spec, address) = ChildSpec::new::<DatabaseActor>("database", MAILBOX, arguments);
    spec.shutdown = STOP_GRACE;
    (spec, Database { address, shared })
}

type ReadJob = Box<dyn FnOnce(ReadConnections) -> BoxFuture<'static, ()> + Send>;

pub(crate) enum Message {
    /// Something was queued.
    Wake,
    Read(ReadJob),
    Checkpoint(Reply<Result<(), DbError>>),
    Upkeep(Upkeep, Reply<Result<Tended, DbError>>),
    Ping(Reply<Result<(), DbError>>),
    #[cfg(feature = "fault-injection")]
    Stall(std::sync::mpsc::Receiver<()>),
    /// The transaction of our task ended.
    Ended(Result<Committed, DbError>),
    /// There may be something to do for the file.
    Tend,
    Tended(Upkeep, Result<Tended, DbError>),
    /// Upkeep made the log this long.
    Grown(Log),
    /// What the log has become beside.
    Folded(Result<Log, DbError>),
    /// The pause after a refused transaction is over.
    Resume,
    /// It is time to look at the file.
    Look,
    Looked(Result<Look, DbError>),
    /// The file cannot be used any more.
    Ruined(DbError),
}

impl ActorMessage for Message {
    fn name(&self) -> &'static str {
        match self {
            Self::Wake => "wake",
            Self::Read(_) => "read",
            Self::Checkpoint(_) => "checkpoint",
            Self::Upkeep(..) => "upkeep",
            Self::Ping(_) => "ping",
            #[cfg(feature = "fault-injection")]
            Self::Stall(_) => "stall",
            Self::Ended(_) => "ended",
            Self::Tend => "tend",
            Self::Tended(..) => "tended",
            Self::Grown(_) => "grown",
            Self::Folded(_) => "folded",
            Self::Resume => "resume",
            Self::Look => "look",
            Self::Looked(_) => "looked",
            Self::Ruined(_) => "ruined",
        }
    }
}

struct DatabaseActor;

pub(crate) struct State {
    writer: Arc<WriteConnection>,
    readers: ReadConnections,
    shared: Arc<Shared>,
    own: Own<Message>,
    tasks: Tasks,
    /// The transaction under way, or what is done for the file between two. Not aborted with the actor: a commit that has
    /// begun is let through, and its operations, still queued, may then run once more.
    busy: bool,
    pause: Option<Owned>,
    folder: Arc<FoldConnection>,
    folding: bool,
    log: Log,
    /// Parts of the index of words, while there may be some to merge.
    unmerged: Option<u32>,
    /// Until the next piece.
    rest: Option<Owned>,
    path: PathBuf,
    looking: bool,
    /// Ends with the incarnation.
    _clock: Owned,
}

impl Behaviour for DatabaseActor {
    type Message = Message;
    type State = State;
    type Arguments = (PathBuf, Arc<Shared>, Tasks);

    async fn start(
        (path, shared, tasks): Self::Arguments,
        own: Own<Message>,
    ) -> Result<State, Fatal> {
        let mut loss = lock(&shared.loss).take();
        let opened = recovery::open(&path, now_ms(), &mut loss).await;
        *lock(&shared.loss) = loss;
        let opened = opened?;
        let readers = ReadConnections::open(&path, READERS).await?;
        let folder = Arc::new(opened.writer.folding().await?);
        shared.recovered.send_if_modified(|known| {
            let is_news = *known != opened.recovered;
            known.clone_from(&opened.recovered);
            is_news
        });
        let clock = tasks.spawn_owned("database clock", tick(own.clone()));
        shared.behind.send_replace(false);
        shared.outbox.released();
        shared.waking.store(false, Ordering::Release);
        let mut state = State {
            writer: Arc::new(opened.writer),
            readers,
            shared,
            own,
            tasks,
            busy: false,
            pause: None,
            folder,
            folding: false,
            log: Log::default(),
            // An earlier process may have left some.
            unmerged: Some(1),
            rest: None,
            path,
            looking: false,
            _clock: clock,
        };
        state.commit_next();
        Ok(state)
    }

    async fn handle(message: Message, state: &mut State) -> Result<(), Fatal> {
        match message {
            Message::Wake => {
                state.shared.waking.store(false, Ordering::Release);
                state.commit_next();
            }
            Message::Read(job) => {
                drop(
                    state
                        .tasks
                        .spawn("database read", job(state.readers.clone())),
                );
            }
            Message::Checkpoint(reply) => state.checkpoint(reply),
            Message::Upkeep(upkeep, reply) => state.upkeep(upkeep, reply),
            Message::Ping(reply) => {
                let writer = state.writer.clone();
                state.tasks.spawn("database ping", async move {
                    let _ = reply.send(writer.ping().await);
                });
            }
            #[cfg(feature = "fault-injection")]
            Message::Stall(over) => {
                let writer = state.writer.clone();
                state.tasks.spawn("database stall", async move {
                    let _ = writer.stall(over).await;
                });
            }
            Message::Ended(outcome) => return state.ended(outcome),
            Message::Tend => {
                state.rest = None;
                state.tend();
            }
            Message::Grown(log) => {
                state.note(log);
                state.tend();
            }
            Message::Tended(upkeep, outcome) => return state.tended(upkeep, outcome),
            Message::Folded(outcome) => {
                state.folding = false;
                match outcome {
                    Ok(log) => {
                        state.note(log);
                        // Where a reader is in the way of more, the next transaction is soon enough.
                        if log.turn() != Some(Turn::Beside) {
                            state.tend();
                        }
                    }
                    // The writer does it in the end, and says what is wrong.
                    Err(error) => tracing::debug!(%error, "the log was not folded"),
                }
            }
            Message::Look => return state.look(),
            Message::Looked(found) => return state.looked(found),
            Message::Ruined(error) => return state.ruined(error),
            Message::Resume => {
                state.pause = None;
                state.commit_next();
            }
        }
        Ok(())
    }

    async fn stopped(state: &mut State) {
        if let Err(reason) = state.writer.checkpoint().await {
            tracing::warn!(%reason, "the write-ahead log was not folded in at the stop");
        }
    }
}

impl State {
    fn commit_next(&mut self) {
        if self.busy || self.pause.is_some() {
            return;
        }
        let batch = self.shared.outbox.take();
        if batch.is_empty() {
            return;
        }
        self.busy = true;
        let (writer, own) = (self.writer.clone(), self.own.clone());
        self.tasks.spawn("database commit", async move {
            own.tell(Message::Ended(writer.commit_timed(batch).await));
        });
    }

    fn ended(&mut self, outcome: Result<Committed, DbError>) -> Result<(), Fatal> {
        self.busy = false;
        match outcome {
            Ok(committed) => {
                lock(&self.shared.timings).merge(&committed.timings);
                self.note(committed.log);
                self.unmerged = committed.parts.or(self.unmerged);
                self.shared.commits.fetch_add(1, Ordering::Relaxed);
                if lock(&self.shared.trouble).take().is_some() {
                    tracing::info!("the database takes writes again");
                }
                self.shared.outbox.committed(committed.results);
                self.tend();
                self.commit_next();
                Ok(())
            }
            // The connection's thread is gone and does not come back: only a new incarnation helps.
            Err(error) if error.is_closed() => {
                self.shared.outbox.died();
                Err(error.into())
            }
            Err(error) if error.is_ruin() => self.ruined(error),
            Err(error) => {
                if lock(&self.shared.trouble).replace(error.clone()).is_none() {
                    tracing::error!(%error, "the database refuses writes; history is kept in memory meanwhile");
                }
                self.shared.outbox.refused(&error);
                let own = self.own.clone();
                self.pause = Some(self.tasks.spawn_owned("database pause", async move {
                    tokio::time::sleep(REFUSED_PAUSE).await;
                    own.tell(Message::Resume);
                }));
                Ok(())
            }
        }
    }

    /// Does the next piece of what the file needs, unless it rests between two.
    fn tend(&mut self) {
        let is_behind = self.unmerged.is_some_and(|parts| parts > BEHIND);
        if self.busy || self.pause.is_some() || (self.rest.is_some() && !is_behind) {
            return;
        }
        let upkeep = match self.log.turn().filter(|_| !self.folding) {
            Some(Turn::Writer) => Upkeep::Fold,
            turn => {
                if turn == Some(Turn::Beside) {
                    self.fold();
                }
                // What is merged makes the log longer.
                let Some(parts) = self.unmerged.filter(|_| is_behind || !self.log.is_behind())
                else {
                    return;
                };
                let pages = if is_behind {
                    BEHIND_MERGED
                } else {
                    MOST_MERGED.min(MERGED + parts)
                };
                Upkeep::MergeWords { pages }
            }
        };
        self.busy = true;
        let (writer, own) = (self.writer.clone(), self.own.clone());
        self.tasks.spawn("database upkeep", async move {
            own.tell(Message::Tended(upkeep, writer.upkeep(upkeep).await));
        });
    }

    fn tended(&mut self, upkeep: Upkeep, outcome: Result<Tended, DbError>) -> Result<(), Fatal> {
        self.busy = false;
        let mut took = Duration::ZERO;
        match outcome {
            Ok(tended) => {
                took = tended.took;
                self.note(tended.log);
                if upkeep == Upkeep::Fold {
                    // Where a reader is in the way of more, the next transaction is soon enough.
                    self.log = Log::default();
                }
                lock(&self.shared.timings).add(upkeep.name(), took);
                if matches!(upkeep, Upkeep::MergeWords { .. }) {
                    self.unmerged = tended.left.and_then(|parts| u32::try_from(parts).ok());
                }
            }
            Err(error) if error.is_closed() => return Err(error.into()),
            // The next transaction meets what is wrong; until then there is no use in another try.
            Err(error) => {
                tracing::debug!(%error, "the file could not be tended");
                self.unmerged = None;
            }
        }
        self.commit_next();
        if self.unmerged.is_some() {
            let own = self.own.clone();
            self.rest = Some(self.tasks.spawn_owned("database rest", async move {
                tokio::time::sleep(took.clamp(LEAST_PAUSE, MOST_PAUSE)).await;
                own.tell(Message::Tend);
            }));
        }
        Ok(())
    }

    /// How long the log is now.
    fn note(&mut self, log: Log) {
        self.log = log;
        let is_behind = log.is_behind();
        self.shared
            .behind
            .send_if_modified(|was| std::mem::replace(was, is_behind) != is_behind);
    }

    /// Folds the log beside what goes on.
    fn fold(&mut self) {
        self.folding = true;
        let (folder, own) = (self.folder.clone(), self.own.clone());
        self.tasks.spawn("database fold", async move {
            own.tell(Message::Folded(folder.fold().await));
        });
    }

    /// Nothing more goes into this file: the next incarnation opens another one, and finds what is queued where it was.
    fn ruined(&mut self, error: DbError) -> Result<(), Fatal> {
        tracing::error!(%error, "the database file cannot be used any more");
        self.shared.outbox.released();
        let mut loss = Loss::new(error.clone(), now_ms());
        if error.is_loss() {
            let to = loss.rescued(&self.path);
            let readers = self.readers.clone();
            *lock(&self.shared.rescue) = Some(Rescue { readers, to });
        }
        *lock(&self.shared.loss) = Some(loss);
        Err(error.into())
    }

    fn look(&mut self) -> Result<(), Fatal> {
        if let Some(error) = self.readers.ruin() {
            return self.ruined(error);
        }
        if !self.looking {
            self.looking = true;
            let (writer, own) = (self.writer.clone(), self.own.clone());
            self.tasks.spawn("database look", async move {
                own.tell(Message::Looked(writer.look().await));
            });
        }
        Ok(())
    }

    fn looked(&mut self, found: Result<Look, DbError>) -> Result<(), Fatal> {
        self.looking = false;
        match found {
            Ok(Look::Touched) => self.check_pages(),
            Err(error) if error.is_ruin() => return self.ruined(error),
            // The next transaction meets whatever else is wrong.
            Ok(Look::Sound) | Err(_) => {}
        }
        Ok(())
    }

    /// Reads the whole file beside serving.
    fn check_pages(&self) {
        tracing::warn!("another program has written to the database file; it is checked");
        let (path, own) = (self.path.clone(), self.own.clone());
        self.tasks.spawn("database check", async move {
            let checking = tokio::task::spawn_blocking(move || recovery::damage(&path));
            if let Ok(Ok(faults)) = checking.await
                && !faults.is_empty()
            {
                own.tell(Message::Ruined(DbError::Corrupt(faults.join("; "))));
            }
        });
    }

    fn upkeep(&self, upkeep: Upkeep, reply: Reply<Result<Tended, DbError>>) {
        let (writer, shared, own) = (self.writer.clone(), self.shared.clone(), self.own.clone());
        self.tasks.spawn("database upkeep", async move {
            let outcome = writer.upkeep(upkeep).await;
            if let Ok(tended) = &outcome {
                lock(&shared.timings).add(upkeep.name(), tended.took);
                own.tell(Message::Grown(tended.log));
            }
            let _ = reply.send(outcome);
        });
    }

    fn checkpoint(&self, reply: Reply<Result<(), DbError>>) {
        let writer = self.writer.clone();
        self.tasks.spawn("database checkpoint", async move {
            let _ = reply.send(writer.checkpoint().await);
        });
    }
}

async fn tick(own: Own<Message>) {
    loop {
        tokio::time::sleep(LOOKS).await;
        own.tell(Message::Look);
    }
}
