//! The write-ahead log, folded into the file while writes go on.
//!
//! Folding megabytes takes a disk tens of milliseconds. `SQLite` would have it done by whatever commit makes the log that long, and
//! every write behind it waits. So another connection does it, on its own thread; what was written meanwhile is little, and the
//! writing connection folds that itself: only when nothing is left does the log begin anew.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rusqlite::Connection;

use crate::db::connections::open_thread;
use crate::db::error::DbError;

/// Frames, of a page each, that are folded at once: 4 MiB, little enough for a disk that is synced meanwhile to take more.
const ENOUGH: i64 = 1_024;
/// So few take the writing connection little more than a commit.
const FEW: i64 = 128;

const PRAGMAS: &str = "
    PRAGMA query_only = ON;
    PRAGMA trusted_schema = OFF;
    PRAGMA mmap_size = 0;
    PRAGMA cache_size = -64;";

/// Looks without doing anything (<https://sqlite.org/pragma.html#pragma_wal_checkpoint>).
const STATE: &str = "PRAGMA wal_checkpoint(NOOP)";
/// Waits for nobody.
const FOLD: &str = "PRAGMA wal_checkpoint(PASSIVE)";

/// How far the log has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Log {
    /// Frames in it.
    pub(crate) frames: i64,
    /// Of them, those that are in the file.
    pub(crate) folded: i64,
}

/// Who folds next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    Beside,
    Writer,
}

impl Log {
    pub(super) fn read(conn: &Connection) -> Result<Self, DbError> {
        Self::told(conn, STATE)
    }

    fn told(conn: &Connection, sql: &str) -> Result<Self, DbError> {
        Ok(conn.prepare_cached(sql)?.query_row([], |row| {
            Ok(Self {
                frames: row.get("log")?,
                folded: row.get("checkpointed")?,
            })
        })?)
    }

    /// None while the log is short, or as good as new.
    pub(crate) fn turn(self) -> Option<Turn> {
        let left = self.frames - self.folded;
        match left {
            _ if self.frames < ENOUGH || left <= 0 => None,
            ..=FEW => Some(Turn::Writer),
            _ => Some(Turn::Beside),
        }
    }
}

/// Folds what can be folded now, whoever reads or writes.
pub(super) fn fold(conn: &Connection) -> Result<Log, DbError> {
    Log::told(conn, FOLD)
}

/// Counts beginnings and ends: odd while the file is being written to by the connection beside.
#[derive(Clone, Debug, Default)]
pub(super) struct Folds(Arc<AtomicU64>);

impl Folds {
    /// Since the beginning. To be asked after the file was looked at: what was seen of it was then not before.
    pub(super) fn count(&self) -> u64 {
        self.0.load(Ordering::Acquire)
    }

    fn begin(&self) -> Folding<'_> {
        self.0.fetch_add(1, Ordering::AcqRel);
        Folding(self)
    }
}

struct Folding<'a>(&'a Folds);

impl Drop for Folding<'_> {
    fn drop(&mut self) {
        self.0.0.fetch_add(1, Ordering::AcqRel);
    }
}

/// The connection that folds beside the writing one.
pub(crate) struct FoldConnection {
    thread: tokio_rusqlite::Connection,
    folds: Folds,
}

impl FoldConnection {
    pub(super) async fn open(path: &Path, folds: Folds) -> Result<Self, DbError> {
        let thread = open_thread(path).await?;
        thread
            .call(|conn| Ok::<_, DbError>(conn.execute_batch(PRAGMAS)?))
            .await?;
        Ok(Self { thread, folds })
    }

    /// See [`fold`]. Only one at a time does something.
    pub(crate) async fn fold(&self) -> Result<Log, DbError> {
        let folds = self.folds.clone();
        let job = move |conn: &mut Connection| {
            let _folding = folds.begin();
            fold(conn)
        };
        Ok(self.thread.call(job).await?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_log_is_folded_beside_and_its_rest_by_the_writer() {
        for (frames, folded, turn) in [
            (100, 0, None),
            (ENOUGH - 1, 0, None),
            (ENOUGH, 0, Some(Turn::Beside)),
            (ENOUGH + 9, ENOUGH, Some(Turn::Writer)),
            (ENOUGH + FEW + 1, ENOUGH, Some(Turn::Beside)),
            (ENOUGH + 9, ENOUGH + 9, None),
        ] {
            assert_eq!(Log { frames, folded }.turn(), turn, "{frames} {folded}");
        }
    }
}
