//! The write-ahead log, folded into the file while writes go on.
//!
//! Folding megabytes takes a disk tens of milliseconds. `SQLite` would have it done by whatever commit makes the log that long, and
//! every write behind it waits. So another connection does it, on its own thread; what was written meanwhile is little, and the
//! writing connection folds that itself: only when nothing is left does the log begin anew.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::SystemTime;

use rusqlite::Connection;

use crate::db::connections::open_thread;
use crate::db::error::DbError;
use crate::tasks::lock;

/// Frames, of a page each, that are folded at once: 4 MiB, little enough for a disk that is synced meanwhile to take more.
const ENOUGH: i64 = 1_024;
/// So few take the writing connection little more than a commit.
const FEW: i64 = 128;
/// Beyond that the one beside does not catch up with what is written: the writer does more of it, rather than all at the end.
const LONG: i64 = 3 * ENOUGH;
const MORE: i64 = 512;

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
    /// As far as it can be told: what asks has other things to do than to fail of this.
    pub(super) fn of(conn: &Connection) -> Self {
        Self::read(conn).unwrap_or_default()
    }

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

    /// Whether the log grows faster than it is folded: what can wait has to.
    pub(crate) fn is_behind(self) -> bool {
        self.frames >= LONG && self.frames - self.folded > FEW
    }

    /// None while the log is short, or as good as new.
    pub(crate) fn turn(self) -> Option<Turn> {
        let left = self.frames - self.folded;
        match left {
            _ if self.frames < ENOUGH || left <= 0 => None,
            ..=FEW => Some(Turn::Writer),
            ..=MORE if self.is_behind() => Some(Turn::Writer),
            _ => Some(Turn::Beside),
        }
    }
}

/// Folds what can be folded now, whoever reads or writes.
pub(super) fn fold(conn: &Connection) -> Result<Log, DbError> {
    Log::told(conn, FOLD)
}

/// What folding beside did to the file's time, so that only what others do to it counts as theirs.
#[derive(Clone, Debug, Default)]
pub(super) struct Folds(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    marks: Mutex<Marks>,
    /// Held by who folds: `SQLite` does not let a second one wait, it refuses.
    turn: Mutex<()>,
}

#[derive(Debug, Default)]
struct Marks {
    is_folding: bool,
    /// Since somebody asked: the time before the first, the time after the last, and whether another one came between two.
    since: Option<(Time, Time)>,
    is_broken: bool,
}

/// When a file was last written to; none where that cannot be told.
pub(super) type Time = Option<SystemTime>;

/// What the file's time must be if nobody else wrote to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Expected {
    /// It is being folded into: nothing can be told.
    Any,
    /// What it was.
    Same,
    /// What it was before, and what it is now.
    Folded(Time, Time),
    /// Somebody else came between.
    None,
}

impl Folds {
    /// Asks `look` for the file's time at a moment at which no folding begins or ends.
    pub(super) fn expected(
        &self,
        look: impl FnOnce() -> Result<Time, DbError>,
    ) -> Result<(Expected, Time), DbError> {
        let mut marks = lock(&self.0.marks);
        let now = look()?;
        let expected = match marks.since {
            _ if marks.is_folding => return Ok((Expected::Any, now)),
            None => Expected::Same,
            Some(_) if marks.is_broken => Expected::None,
            Some((before, after)) => Expected::Folded(before, after),
        };
        *marks = Marks::default();
        Ok((expected, now))
    }

    /// Whether the file's time is about to be explained.
    pub(super) fn is_open(&self) -> bool {
        let marks = lock(&self.0.marks);
        marks.is_folding || marks.since.is_some()
    }

    /// Keeps others from folding; waits until nobody does.
    pub(super) fn turn(&self) -> MutexGuard<'_, ()> {
        lock(&self.0.turn)
    }

    fn begin<'a>(&'a self, file: &'a Path) -> Folding<'a> {
        let mut marks = lock(&self.0.marks);
        let before = time(file);
        marks.is_folding = true;
        match &mut marks.since {
            Some((_, after)) => marks.is_broken |= *after != before,
            since => *since = Some((before, before)),
        }
        Folding { folds: self, file }
    }
}

struct Folding<'a> {
    folds: &'a Folds,
    file: &'a Path,
}

impl Drop for Folding<'_> {
    fn drop(&mut self) {
        let mut marks = lock(&self.folds.0.marks);
        marks.is_folding = false;
        if let Some((_, after)) = &mut marks.since {
            *after = time(self.file);
        }
    }
}

fn time(file: &Path) -> Time {
    fs::metadata(file).and_then(|found| found.modified()).ok()
}

/// The connection that folds beside the writing one.
pub(crate) struct FoldConnection {
    thread: tokio_rusqlite::Connection,
    file: PathBuf,
    folds: Folds,
}

impl FoldConnection {
    pub(super) async fn open(path: &Path, folds: Folds) -> Result<Self, DbError> {
        let thread = open_thread(path).await?;
        thread
            .call(|conn| Ok::<_, DbError>(conn.execute_batch(PRAGMAS)?))
            .await?;
        let file = path.to_owned();
        Ok(Self {
            thread,
            file,
            folds,
        })
    }

    /// See [`fold`]. Only one at a time does something.
    pub(crate) async fn fold(&self) -> Result<Log, DbError> {
        let (folds, file) = (self.folds.clone(), self.file.clone());
        let job = move |conn: &mut Connection| {
            let _turn = folds.turn();
            let _folding = folds.begin(&file);
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
            (LONG + MORE, LONG, Some(Turn::Writer)),
            (LONG + MORE + 1, LONG, Some(Turn::Beside)),
            (ENOUGH + 9, ENOUGH + 9, None),
        ] {
            assert_eq!(Log { frames, folded }.turn(), turn, "{frames} {folded}");
        }
    }
}
