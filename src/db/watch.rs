//! Whether the file in use is still the one at its place (R5).
//!
//! SQLite goes on writing into a file that was deleted or replaced, and acknowledges what nobody will find again. So the
//! names are compared with what is open: before a transaction, after its commit, and now and then. Only names are looked
//! at; opening and closing the file would drop the locks that SQLite holds on it.

use std::fs::{self, Metadata};
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use rusqlite::{Connection, OpenFlags};

use crate::db::error::DbError;
use crate::db::files;
use crate::db::fold::{Expected, Folds, Log};
use crate::db::migrate::SCHEMA_VERSION;

/// What one look found of a file that is still ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Look {
    Sound,
    /// Somebody else has written to it: its pages have to be read to know what.
    Touched,
}

/// The file and its log as they were when we last wrote to them.
pub(super) struct FileWatch {
    database: PathBuf,
    log: PathBuf,
    file: Mark,
    log_mark: Option<Mark>,
    /// The last look missed pages. One alone may have met a checkpoint half-way.
    is_short: bool,
    /// It was written to by somebody else since the last look.
    is_touched: bool,
    folds: Folds,
}

#[derive(Clone, Copy, PartialEq, Eq)]
struct Mark {
    id: (u64, u64),
    length: u64,
    modified: Option<SystemTime>,
}

impl FileWatch {
    /// Watches over the file of a connection that was just opened.
    pub(super) fn new(database: &Path, folds: Folds) -> Result<Self, DbError> {
        let log = files::beside(database, "-wal");
        let Some(file) = mark(database)? else {
            return Err(DbError::Lost("it was deleted".into()));
        };
        Ok(Self {
            database: database.to_owned(),
            log_mark: mark(&log)?,
            log,
            file,
            is_short: false,
            is_touched: false,
            folds,
        })
    }

    /// Compares the names with what is open. `conn` is the one connection that writes.
    pub(super) fn check(&self, conn: &Connection) -> Result<(), DbError> {
        match mark(&self.database)? {
            None => return lost("it was deleted"),
            Some(found) if found.id != self.file.id => return lost("it was replaced"),
            Some(found) if found.length == 0 => return ruined("it was emptied"),
            Some(_) => {}
        }
        let Some(expected) = self.log_mark else {
            return Ok(());
        };
        match mark(&self.log)? {
            None => log_lost("its log was deleted"),
            Some(found) if found.id != expected.id => log_lost("its log was replaced"),
            Some(found) if found.length < expected.length => log_was_cut(conn, found.length),
            Some(_) => Ok(()),
        }
    }

    /// The same before the writing connection does anything: what changed since the last time was somebody else.
    pub(super) fn begin(&mut self, conn: &Connection) -> Result<(), DbError> {
        self.check(conn)?;
        let look = || Ok(mark(&self.database)?.and_then(|found| found.modified));
        let (expected, now) = self.folds.expected(look)?;
        let known = self.file.modified;
        self.is_touched |= match expected {
            Expected::Any => return Ok(()),
            Expected::Same => now != known,
            Expected::Folded(before, after) => known != before || now != after,
            Expected::None => true,
        };
        self.file.modified = now;
        Ok(())
    }

    /// Takes what is there now for ours: after what the writing connection did. Only folding the log writes to the file.
    pub(super) fn note(&mut self, has_folded: bool) -> Result<(), DbError> {
        if let Some(found) = mark(&self.database)?.filter(|found| found.id == self.file.id) {
            let known = self.file.modified;
            self.file = found;
            if !has_folded || self.folds.is_open() {
                self.file.modified = known;
            }
        }
        let found = mark(&self.log)?;
        if self
            .log_mark
            .is_none_or(|expected| found.is_some_and(|found| found.id == expected.id))
        {
            self.log_mark = found;
        }
        Ok(())
    }

    /// The same as [`Self::begin`], and whether the beginning of the file makes sense to a newcomer, and its length.
    pub(super) fn look(&mut self, conn: &Connection) -> Result<Look, DbError> {
        self.begin(conn)?;
        // What our own connections have read they do not read again.
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let newcomer = Connection::open_with_flags(&self.database, flags)?;
        newcomer.execute_batch("PRAGMA query_only = ON; PRAGMA trusted_schema = OFF")?;
        let version: i64 = newcomer.pragma_query_value(None, "user_version", |row| row.get(0))?;
        let objects: i64 =
            newcomer.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
        if version != SCHEMA_VERSION || objects == 0 {
            return ruined("its schema is gone");
        }
        let size = |name| -> Result<u64, DbError> {
            let size: i64 = newcomer.pragma_query_value(None, name, |row| row.get(0))?;
            Ok(u64::try_from(size).unwrap_or_default())
        };
        let (pages, page) = (size("page_count")?, size("page_size")?.max(1));
        // In this order: a page that leaves the log has reached the file before.
        let log = mark(&self.log)?.map_or(0, |found| found.length);
        let Some(file) = mark(&self.database)? else {
            return lost("it was deleted");
        };
        let is_short = file.length / page + log / page < pages;
        if is_short && self.is_short {
            return ruined("it was cut off");
        }
        self.is_short = is_short;
        if !std::mem::take(&mut self.is_touched) {
            return Ok(Look::Sound);
        }
        self.note(false)?;
        Ok(Look::Touched)
    }
}

fn lost<T>(how: &str) -> Result<T, DbError> {
    Err(DbError::Lost(how.into()))
}

fn log_lost<T>(how: &str) -> Result<T, DbError> {
    Err(DbError::LogLost(how.into()))
}

fn ruined<T>(how: &str) -> Result<T, DbError> {
    Err(DbError::Corrupt(how.into()))
}

fn mark(path: &Path) -> Result<Option<Mark>, DbError> {
    match fs::metadata(path) {
        Ok(found) => Ok(Some(Mark {
            id: id(&found),
            length: found.len(),
            modified: found.modified().ok(),
        })),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(DbError::Io(error.kind().to_string())),
    }
}

#[cfg(unix)]
fn id(found: &Metadata) -> (u64, u64) {
    use std::os::unix::fs::MetadataExt;
    (found.dev(), found.ino())
}

/// Where files in use cannot be replaced.
#[cfg(not(unix))]
fn id(_: &Metadata) -> (u64, u64) {
    (0, 0)
}

/// A checkpoint of another program may empty the log; then nothing is missing in it.
fn log_was_cut(conn: &Connection, length: u64) -> Result<(), DbError> {
    const FRAME: u64 = 4096 + 24;
    match Log::read(conn) {
        Ok(log) if u64::try_from(log.frames).unwrap_or(0) * FRAME <= length => Ok(()),
        _ => log_lost("its log was cut off"),
    }
}
