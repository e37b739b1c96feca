//! The connections: one that writes, a few that only read, and one that folds the log, each on its own thread.
//!
//! The only place that knows `tokio_rusqlite`. A closure that panics ends that thread for good: on the writing connection
//! every later call is [`DbError::Closed`], the reading ones catch it.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rusqlite::config::DbConfig;
use rusqlite::{OpenFlags, Transaction, TransactionBehavior};

pub(crate) use rusqlite::Connection;

use crate::db::backups;
use crate::db::error::DbError;
use crate::db::files;
use crate::db::fold::{FoldConnection, Folds, Log};
use crate::db::history::words;
use crate::db::migrate::{self, Migrated};
use crate::db::ops::{WriteOp, Written};
use crate::db::snapshot;
use crate::db::timings::{self, Timings};
use crate::db::upkeep::{self, Upkeep};
use crate::db::watch::FileWatch;
use crate::tasks::lock;

pub(crate) use crate::db::watch::Look;

/// For both kinds. The schema is ours, so functions in it need no trust; a busy timeout in ms sits out a foreign lock,
/// and leaves time to say so to whoever waits 5 s (R3).
const COMMON_PRAGMAS: &str = "
    PRAGMA busy_timeout = 2000;
    PRAGMA trusted_schema = OFF;
    PRAGMA cell_size_check = ON;
    PRAGMA mmap_size = 0;
    PRAGMA temp_store = MEMORY;
    PRAGMA foreign_keys = ON;";

/// Before the first table; later it has no effect. Lets retention give pages back to the disk.
const NEW_FILE_PRAGMAS: &str = "PRAGMA auto_vacuum = INCREMENTAL;";

/// Negative cache sizes are KiB. Where the log is not folded in time it is at 32 MiB, and it is cut to 64 MiB after that.
const WRITER_PRAGMAS: &str = "
    PRAGMA journal_mode = WAL;
    PRAGMA synchronous = FULL;
    PRAGMA secure_delete = ON;
    PRAGMA cache_size = -2048;
    PRAGMA wal_autocheckpoint = 8192;
    PRAGMA journal_size_limit = 67108864;";

/// Frames of a log that the writing connection folds at a commit: as the pragma says.
const FOLDED_HERE: i64 = 8_192;

const READER_PRAGMAS: &str = "
    PRAGMA query_only = ON;
    PRAGMA cache_size = -1024;";

const STATEMENTS_KEPT: usize = 64;

/// A lock on a database as another program would hold it; ends when it is dropped.
pub(crate) struct ForeignLock {
    _holder: Connection,
}

/// Keeps everybody else from writing to the file, for the self-test.
pub(crate) fn foreign_lock(path: &Path) -> Result<ForeignLock, DbError> {
    let holder = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    holder.execute_batch("PRAGMA busy_timeout = 5000; BEGIN IMMEDIATE")?;
    Ok(ForeignLock { _holder: holder })
}

/// How one operation of a transaction went.
pub(crate) struct Applied {
    pub(crate) outcome: Result<Written, DbError>,
    /// How long it held the database by itself: neither its commit nor the wait for others are in it.
    pub(crate) took: Duration,
}

impl From<Result<Written, DbError>> for Applied {
    /// It took no time, as far as is known.
    fn from(outcome: Result<Written, DbError>) -> Self {
        let took = Duration::ZERO;
        Self { outcome, took }
    }
}

/// What became of a transaction.
pub(crate) struct Committed {
    /// How each operation went.
    pub(crate) results: Vec<Applied>,
    /// How long they held the database.
    pub(crate) timings: Timings,
    /// How long the write-ahead log has become.
    pub(crate) log: Log,
    /// How many parts the index of words has now; none when this added nothing to it.
    pub(crate) parts: Option<u32>,
}

/// What became of a piece of upkeep.
pub(crate) struct Tended {
    /// What is left of it; none when it is done.
    pub(crate) left: Option<i64>,
    /// How long it held the database.
    pub(crate) took: Duration,
    /// How long the write-ahead log has become.
    pub(crate) log: Log,
}

/// The connection through which all writes go.
pub(crate) struct WriteConnection {
    thread: tokio_rusqlite::Connection,
    keeper: Arc<Mutex<Keeper>>,
    path: PathBuf,
    folds: Folds,
}

/// What the writing thread knows beside its connection.
struct Keeper {
    database: PathBuf,
    watch: FileWatch,
    /// What the snapshot of the configuration says; none when it has to be written anew.
    snapshot: Option<Vec<u8>>,
}

impl WriteConnection {
    /// Opens the file, made when it is missing, and brings it to the current schema. `now_ms` is Unix time. A file of a
    /// newer qwarden is left as it is.
    pub(crate) async fn open(path: &Path, now_ms: i64) -> Result<(Self, Migrated), DbError> {
        files::ensure_private_file(path).map_err(|error| DbError::Io(error.kind().to_string()))?;
        let thread = open_thread(path).await?;
        let (path, folds) = (path.to_owned(), Folds::default());
        let (database, seen) = (path.clone(), folds.clone());
        let (migrated, watch) = thread
            .call(move |conn| {
                let migrated = prepare_writer(conn, &database, now_ms)?;
                Ok::<_, DbError>((migrated, FileWatch::new(&database, seen)?))
            })
            .await?;
        let keeper = Keeper {
            database: path.clone(),
            watch,
            snapshot: None,
        };
        let opened = Self {
            thread,
            keeper: Arc::new(Mutex::new(keeper)),
            path,
            folds,
        };
        Ok((opened, migrated))
    }

    /// Opens the connection that folds this one's log.
    pub(crate) async fn folding(&self) -> Result<FoldConnection, DbError> {
        FoldConnection::open(&self.path, self.folds.clone()).await
    }

    /// Runs `job` on the thread of the connection, for what brings a file into its state.
    pub(super) async fn prepare<R, F>(&self, job: F) -> Result<R, DbError>
    where
        F: FnOnce(&mut Connection) -> Result<R, DbError> + Send + 'static,
        R: Send + 'static,
    {
        Ok(self.thread.call(job).await?)
    }

    /// Looks whether the file is still the one at its place, and makes sense to a newcomer.
    pub(crate) async fn look(&self) -> Result<Look, DbError> {
        let keeper = self.keeper.clone();
        let look = move |conn: &mut Connection| lock(&keeper).watch.look(conn);
        Ok(self.thread.call(look).await?)
    }

    /// Writes the snapshot of the configuration when it says something else.
    pub(crate) async fn keep_configuration(&self) -> Result<(), DbError> {
        let keeper = self.keeper.clone();
        let keep = move |conn: &mut Connection| {
            keep_configuration(conn, &mut lock(&keeper));
            Ok::<_, DbError>(())
        };
        Ok(self.thread.call(keep).await?)
    }

    /// Stores `ops` in one transaction, and says for each how it went, in their order.
    ///
    /// An operation that fails by itself fails alone. When the storage fails, all of them did: nothing is stored, and the
    /// error is the whole answer. With a management write among them the commit is synced to the disk (R1).
    pub(crate) async fn commit(
        &self,
        ops: Vec<Arc<WriteOp>>,
    ) -> Result<Vec<Result<Written, DbError>>, DbError> {
        let committed = self.commit_timed(ops).await?;
        Ok(committed
            .results
            .into_iter()
            .map(|applied| applied.outcome)
            .collect())
    }

    /// The same, and what it means for the database.
    pub(crate) async fn commit_timed(&self, ops: Vec<Arc<WriteOp>>) -> Result<Committed, DbError> {
        let keeper = self.keeper.clone();
        let commit = move |conn: &mut Connection| commit(conn, &mut lock(&keeper), &ops);
        Ok(self.thread.call(commit).await?)
    }

    /// Folds the write-ahead log into the file. [`DbError::Busy`] when a reader holds on to it.
    pub(crate) async fn checkpoint(&self) -> Result<(), DbError> {
        let (keeper, folds) = (self.keeper.clone(), self.folds.clone());
        let fold = move |conn: &mut Connection| {
            let mut keeper = lock(&keeper);
            let _turn = folds.turn();
            keeper.watch.begin(conn)?;
            checkpoint(conn)?;
            keeper.watch.note(true)
        };
        Ok(self.thread.call(fold).await?)
    }

    /// Carries out a piece of upkeep. Returns what is left of it, or none when it is done, and how long that took.
    pub(crate) async fn upkeep(&self, upkeep: Upkeep) -> Result<Tended, DbError> {
        let keeper = self.keeper.clone();
        let carry_out = move |conn: &mut Connection| {
            let mut keeper = lock(&keeper);
            keeper.watch.begin(conn)?;
            let began = Instant::now();
            let left = upkeep::carry_out(conn, upkeep)?;
            let log = Log::of(conn);
            let has_folded = upkeep == Upkeep::Fold || log.frames >= FOLDED_HERE;
            keeper.watch.note(has_folded)?;
            let took = began.elapsed();
            Ok(Tended { left, took, log })
        };
        Ok(self.thread.call(carry_out).await?)
    }

    /// Answers once what was asked before is done.
    pub(crate) async fn ping(&self) -> Result<(), DbError> {
        Ok(self.thread.call(|_| Ok::<_, DbError>(())).await?)
    }

    /// Does nothing, and nothing else, until the other end of `over` is dropped.
    #[cfg(feature = "fault-injection")]
    pub(crate) async fn stall(&self, over: std::sync::mpsc::Receiver<()>) -> Result<(), DbError> {
        let wait = move |_: &mut Connection| {
            let _ = over.recv();
            Ok::<_, DbError>(())
        };
        Ok(self.thread.call(wait).await?)
    }

    /// Ends the connection after what it is doing now.
    pub(crate) async fn close(self) {
        // A connection that does not close now is closed when its thread sees that no handle is left.
        let _ = self.thread.close().await;
    }
}

/// The connections that only read. Cheap to clone.
#[derive(Clone)]
pub(crate) struct ReadConnections {
    readers: Arc<[Reader]>,
    /// What a job met that makes no sense.
    ruin: Arc<Mutex<Option<DbError>>>,
}

struct Reader {
    thread: tokio_rusqlite::Connection,
    /// Jobs waiting or running.
    jobs: Arc<AtomicUsize>,
}

impl ReadConnections {
    /// Opens `count` connections, at least one, to a file that exists and has the current schema.
    pub(crate) async fn open(path: &Path, count: usize) -> Result<Self, DbError> {
        let mut readers = Vec::new();
        for _ in 0..count.max(1) {
            let thread = open_thread(path).await?;
            thread.call(prepare_reader).await?;
            readers.push(Reader {
                thread,
                jobs: Arc::default(),
            });
        }
        Ok(Self {
            readers: readers.into(),
            ruin: Arc::default(),
        })
    }

    /// What a job met that shows the file to be damaged, if any did.
    pub(crate) fn ruin(&self) -> Option<DbError> {
        lock(&self.ruin).clone()
    }

    /// Runs `job` on the connection that has least to do, in a transaction of its own: it sees one moment of the
    /// database. A job that panics is an error to its caller alone.
    pub(crate) async fn run<R, F>(&self, job: F) -> Result<R, DbError>
    where
        F: FnOnce(&Connection) -> Result<R, DbError> + Send + 'static,
        R: Send + 'static,
    {
        let Some(reader) = self
            .readers
            .iter()
            .min_by_key(|reader| reader.jobs.load(Ordering::Relaxed))
        else {
            return Err(DbError::Closed);
        };
        let counted = Counted::new(reader.jobs.clone());
        let answer = reader.thread.call(move |conn| {
            // Moved in, so that a caller who leaves does not make a running job look done.
            let _counted = counted;
            catch_unwind(AssertUnwindSafe(|| job(&*conn.transaction()?)))
                .unwrap_or_else(|_| Err(DbError::Other("a read crashed".into())))
        });
        let outcome = answer.await.map_err(DbError::from);
        if let Err(error @ DbError::Corrupt(_)) = &outcome {
            *lock(&self.ruin) = Some(error.clone());
        }
        outcome
    }

    /// Compares the pages of the file with each other. What is wrong, in `SQLite`'s words; empty means sound.
    pub(crate) async fn quick_check(&self) -> Result<Vec<String>, DbError> {
        match self.run(backups::faults).await {
            Err(DbError::Corrupt(reason)) => Ok(vec![reason]),
            outcome => outcome,
        }
    }
}

/// One job more, as long as it lives.
struct Counted(Arc<AtomicUsize>);

impl Counted {
    fn new(jobs: Arc<AtomicUsize>) -> Self {
        jobs.fetch_add(1, Ordering::Relaxed);
        Self(jobs)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl From<tokio_rusqlite::Error<DbError>> for DbError {
    fn from(error: tokio_rusqlite::Error<DbError>) -> Self {
        match error {
            tokio_rusqlite::Error::Error(error) => error,
            _ => Self::Closed,
        }
    }
}

pub(super) async fn open_thread(path: &Path) -> Result<tokio_rusqlite::Connection, DbError> {
    // Never made here: SQLite would make it readable for others. Its thread alone uses it, so it needs no mutex.
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    Ok(tokio_rusqlite::Connection::open_with_flags(path, flags).await?)
}

fn prepare_writer(conn: &mut Connection, path: &Path, now_ms: i64) -> Result<Migrated, DbError> {
    conn.set_prepared_statement_cache_capacity(STATEMENTS_KEPT);
    conn.execute_batch(COMMON_PRAGMAS)?;
    // Closing would fold a log that a newer qwarden left behind into the file we are to leave alone.
    conn.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    migrate::refuse_newer(conn)?;
    conn.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, false)?;
    conn.execute_batch(NEW_FILE_PRAGMAS)?;
    conn.execute_batch(WRITER_PRAGMAS)?;
    let migrated = migrate::migrate(conn, path, now_ms)?;
    upkeep::relieve(conn)?;
    conn.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true)?;
    Ok(migrated)
}

fn prepare_reader(conn: &mut Connection) -> Result<(), DbError> {
    conn.set_prepared_statement_cache_capacity(STATEMENTS_KEPT);
    conn.execute_batch(COMMON_PRAGMAS)?;
    conn.execute_batch(READER_PRAGMAS)?;
    Ok(conn
        .set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true)
        .map(drop)?)
}

fn commit(
    conn: &mut Connection,
    keeper: &mut Keeper,
    ops: &[Arc<WriteOp>],
) -> Result<Committed, DbError> {
    let began = Instant::now();
    keeper.watch.begin(conn)?;
    let mut timings = Timings::default();
    if !conn.is_autocommit() {
        // A rollback failed earlier, perhaps with the disk away. Until it succeeds nothing new may join that transaction.
        conn.execute_batch("ROLLBACK")?;
    }
    set_synchronous(conn, ops.iter().any(|op| op.is_management()))?;
    let results = match apply_all(conn, ops, Apart::Changes, &mut timings)? {
        Some(results) => results,
        None => apply_all(conn, ops, Apart::Each, &mut timings)?.unwrap_or_default(),
    };
    // Whoever took the file away meanwhile took this with it: nobody is told that it is stored.
    keeper.watch.check(conn)?;
    let log = Log::of(conn);
    keeper.watch.note(log.frames >= FOLDED_HERE)?;
    if keeper.snapshot.is_none() || ops.iter().any(|op| op.is_configuration()) {
        keep_configuration(conn, keeper);
    }
    let has_words = ops.iter().any(|op| op.has_words());
    // It is stored: what is wrong with the index is met by who merges it.
    let parts = has_words.then(|| upkeep::parts(conn).unwrap_or_default());
    timings.add(timings::TRANSACTION, began.elapsed());
    Ok(Committed {
        results,
        timings,
        log,
        parts,
    })
}

/// Which operations get a savepoint of their own. At each one the index of words writes what it has as a part, so history,
/// of which nothing fails by itself, has none at first.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Apart {
    Changes,
    Each,
}

/// Stores all of them in one transaction. None when one failed that could not be taken back alone: nothing is stored then.
fn apply_all(
    conn: &mut Connection,
    ops: &[Arc<WriteOp>],
    apart: Apart,
    timings: &mut Timings,
) -> Result<Option<Vec<Applied>>, DbError> {
    let mut transaction = conn.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let mut results = Vec::with_capacity(ops.len());
    for op in ops {
        let began = Instant::now();
        let is_apart = apart == Apart::Each || op.is_management();
        let applied = if is_apart {
            apply_alone(&mut transaction, op)
        } else {
            op.apply(&transaction)
        };
        let took = began.elapsed();
        timings.add(op.name(), took);
        match applied {
            // SQLite may have rolled back everything by itself: what followed would run outside any transaction.
            Err(error) if error.is_storage() || transaction.is_autocommit() => return Err(error),
            Err(_) if !is_apart => {
                transaction.rollback()?;
                return Ok(None);
            }
            outcome => results.push(Applied { outcome, took }),
        }
    }
    let began = Instant::now();
    let is_indexed = ops.iter().any(|op| op.is_indexed());
    if let Err(error) = index(&transaction, ops, &results) {
        if error.is_storage() || transaction.is_autocommit() {
            return Err(error);
        }
        tracing::warn!(%error, "exchanges cannot be searched for yet: their words are not in the index");
    }
    if is_indexed {
        timings.add(timings::WORDS, began.elapsed());
    }
    transaction.commit()?;
    Ok(Some(results))
}

/// Adds to the index of words what exchanges that ended said. By their numbers, or it would be a part for each that is smaller
/// than the one before.
fn index(conn: &Connection, ops: &[Arc<WriteOp>], results: &[Applied]) -> Result<(), DbError> {
    let mut said = Vec::new();
    for (op, applied) in ops.iter().zip(results) {
        // What was stored before has its words.
        if applied.outcome == Ok(Written::Rows(1)) {
            said.extend(op.said(conn)?);
        }
    }
    said.sort_unstable_by_key(|(id, ..)| *id);
    for (id, asked, answered) in said {
        words::put(conn, id, asked, answered)?;
    }
    Ok(())
}

/// The database has it; that the snapshot does not is mended with the next transaction.
fn keep_configuration(conn: &Connection, keeper: &mut Keeper) {
    let kept = snapshot::take(conn).and_then(|bytes| {
        if keeper.snapshot.as_ref() != Some(&bytes) {
            keeper.snapshot = None;
            snapshot::write(&keeper.database, &bytes)
                .map_err(|error| DbError::Io(error.kind().to_string()))?;
        }
        Ok(bytes)
    });
    match kept {
        Ok(bytes) => keeper.snapshot = Some(bytes),
        Err(error) => tracing::warn!(%error, "the snapshot of the configuration is not up to date"),
    }
}

/// In WAL mode `FULL` syncs the log at each commit, and with it all earlier ones; `NORMAL` only at checkpoints.
fn set_synchronous(conn: &Connection, full: bool) -> Result<(), DbError> {
    const NORMAL: i64 = 1;
    const FULL: i64 = 2;
    let wanted = if full { FULL } else { NORMAL };
    let current: i64 = conn.pragma_query_value(None, "synchronous", |row| row.get(0))?;
    if current != wanted {
        conn.pragma_update(None, "synchronous", wanted)?;
    }
    Ok(())
}

/// Leaves no trace of an operation that fails: the savepoint rolls back when it is dropped.
fn apply_alone(transaction: &mut Transaction<'_>, op: &WriteOp) -> Result<Written, DbError> {
    let savepoint = transaction.savepoint()?;
    let written = op.apply(&savepoint)?;
    savepoint.commit()?;
    Ok(written)
}

fn checkpoint(conn: &Connection) -> Result<(), DbError> {
    let busy: bool =
        conn.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get("busy"))?;
    if busy { Err(DbError::Busy) } else { Ok(()) }
}

#[cfg(test)]
mod tests;
