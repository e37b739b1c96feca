//! Copies of the database: made while it is used, checked before they count, and rotated.
//!
//! A copy is one moment of the database and one file that needs nothing beside it. The source is read inside one read
//! transaction: the writer goes on, and the copy never begins anew because of it.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use rusqlite::backup::{Backup as Copying, StepResult};
use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};
use serde::Serialize;
use utoipa::ToSchema;

use crate::clock::{compact_utc, from_compact_utc};
use crate::db::error::DbError;
use crate::db::files;
use crate::db::instance::BACKUPS;

/// 1 MiB with pages of 4 KiB: between two pieces somebody may say stop.
const PAGES_PER_STEP: i32 = 256;
/// Pieces after which they are written out: one sync of everything at the end would hold up the writer's.
const STEPS_PER_SYNC: u32 = 8;
const PARTIAL: &str = ".partial";
/// Copies of one second.
const MOST_PER_SECOND: u32 = 99;
const MAGIC: &[u8] = b"SQLite format 3\0";
/// Where the header of a file keeps its schema's version.
const VERSION_AT: std::ops::Range<usize> = 60..64;

/// Read-only in effect; the source is opened like the writer, since only so it may recover a log.
const SOURCE_PRAGMAS: &str = "
    PRAGMA busy_timeout = 5000;
    PRAGMA trusted_schema = OFF;
    PRAGMA mmap_size = 0;
    PRAGMA cache_size = -1024;
    PRAGMA query_only = ON;
    BEGIN;";

/// The file counts only once it is whole and synced, so nothing has to be taken back in it.
const TARGET_PRAGMAS: &str = "
    PRAGMA trusted_schema = OFF;
    PRAGMA mmap_size = 0;
    PRAGMA journal_mode = OFF;
    PRAGMA synchronous = OFF;
    PRAGMA cache_size = -1024;";

const BEGIN_READING: &str = "SELECT count(*) FROM sqlite_schema";

/// What is being done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Phase {
    Copying,
    Checking,
}

/// How far a copy is, in pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Progress {
    pub(crate) phase: Phase,
    pub(crate) done: u64,
    pub(crate) total: u64,
}

/// Whether to go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Go {
    On,
    Stop,
}

/// Why a file is among the backups.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = BackupKind)]
pub(crate) enum Kind {
    /// Made by request or by schedule; the oldest go.
    Backup,
    /// Made before an older schema was lifted.
    Migration,
    /// Set aside when another one was put in its place.
    Replaced,
    /// Somebody else's, or made under a name that was asked for.
    Other,
}

/// A copy of the database.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct Backup {
    pub(crate) name: String,
    #[schema(value_type = String)]
    pub(crate) path: PathBuf,
    pub(crate) bytes: u64,
    /// Unix time, ms.
    pub(crate) created_at: i64,
    pub(crate) schema_version: i64,
    pub(crate) kind: Kind,
}

/// The folder of the backups of the database at `database`.
pub(crate) fn folder(database: &Path) -> PathBuf {
    database.parent().unwrap_or(Path::new(".")).join(BACKUPS)
}

/// Copies the database at `database` to `to`, or to a dated file among its backups, and checks the copy. `now_ms` is Unix
/// time. Nothing is written over; what fails leaves nothing behind.
pub(crate) fn make(
    database: &Path,
    to: Option<&Path>,
    now_ms: i64,
    watch: &mut dyn FnMut(Progress) -> Go,
) -> Result<Backup, DbError> {
    let to = match to {
        Some(to) => to.to_owned(),
        None => dated(database, now_ms)?,
    };
    if fs::symlink_metadata(&to).is_ok() {
        return unwritable("there is something of that name already");
    }
    let (Some(dir), Some(name)) = (to.parent(), to.file_name()) else {
        return unwritable("it names no file");
    };
    if !dir.is_dir() {
        return unwritable("its folder does not exist");
    }
    let name = name.to_string_lossy().into_owned();
    let partial = dir.join(format!("{name}{PARTIAL}"));
    let file = match files::create_private_file(&partial) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            return unwritable(&format!("remove the half-made `{name}{PARTIAL}` beside it"));
        }
        file => file.map_err(|error| unmade(&error))?,
    };
    let partial = Partial(partial);
    copy(database, &partial.0, &file, watch)?;
    file.sync_all().map_err(|error| unmade(&error))?;
    drop(file);
    let (bytes, schema_version) = check(&partial.0, watch)?;
    fs::rename(&partial.0, &to).map_err(|error| unmade(&error))?;
    files::sync_dir(dir).map_err(|error| unmade(&error))?;
    Ok(Backup {
        kind: kind(&name),
        created_at: made_at(&name).unwrap_or(now_ms),
        name,
        path: to,
        bytes,
        schema_version,
    })
}

/// The files among the backups of the database at `database`, the newest first.
pub(crate) fn list(database: &Path) -> Result<Vec<Backup>, DbError> {
    let entries = match fs::read_dir(folder(database)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(|error| unmade(&error))?,
    };
    let mut found: Vec<Backup> = entries.flatten().filter_map(|entry| seen(&entry)).collect();
    // Without its end, a name stands before those that go on with a number.
    let key = |backup: &Backup| {
        let stem = backup.name.trim_end_matches(".db").to_owned();
        std::cmp::Reverse((backup.created_at, stem))
    };
    found.sort_by_key(key);
    Ok(found)
}

/// Removes all but the `keep` newest of those that were made by request or by schedule. Returns their names.
pub(crate) fn rotate(database: &Path, keep: usize) -> Result<Vec<String>, DbError> {
    let own = list(database)?.into_iter();
    let own = own.filter(|backup| backup.kind == Kind::Backup);
    let mut removed = Vec::new();
    for backup in own.skip(keep.max(1)) {
        fs::remove_file(&backup.path).map_err(|error| unmade(&error))?;
        removed.push(backup.name);
    }
    Ok(removed)
}

/// A name of this second that is not taken. Makes the folder, and removes what a crash left half-made in it.
fn dated(database: &Path, now_ms: i64) -> Result<PathBuf, DbError> {
    let folder = folder(database);
    files::create_private_dir(&folder).map_err(|error| unmade(&error))?;
    for entry in fs::read_dir(&folder)
        .map_err(|error| unmade(&error))?
        .flatten()
    {
        let name = entry.file_name().to_string_lossy().into_owned();
        if name
            .split_once(PARTIAL)
            .is_some_and(|(name, _)| kind(name) == Kind::Backup)
        {
            let _ = fs::remove_file(entry.path());
        }
    }
    let stem = format!("qwarden-{}", compact_utc(now_ms));
    // After the last one of this second, even where an earlier one has gone: the name tells which is the newest.
    let names: Vec<String> = (1..=MOST_PER_SECOND)
        .map(|number| numbered(&stem, number))
        .collect();
    let is_there = |name: &&String| fs::symlink_metadata(folder.join(name)).is_ok();
    let taken = names.iter().rposition(|name| is_there(&name));
    match names.get(taken.map_or(0, |taken| taken + 1)) {
        Some(name) => Ok(folder.join(name)),
        None => unwritable("all names of this second are taken"),
    }
}

fn numbered(stem: &str, number: u32) -> String {
    if number == 1 {
        format!("{stem}.db")
    } else {
        format!("{stem}-{number:02}.db")
    }
}

/// When a file of this name was made by request or by schedule (Unix ms); none when it was not.
fn made_at(name: &str) -> Option<i64> {
    let stem = name.strip_prefix("qwarden-")?.strip_suffix(".db")?;
    let (time, number) = match stem.split_once('-') {
        None => (stem, None),
        Some((time, number)) => (time, Some(number)),
    };
    let is_number = |text: &str| text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_digit());
    if !number.is_none_or(is_number) {
        return None;
    }
    from_compact_utc(time)
}

fn kind(name: &str) -> Kind {
    if made_at(name).is_some() {
        Kind::Backup
    } else if name.starts_with("qwarden-v") {
        Kind::Migration
    } else if name.starts_with("qwarden-replaced-") {
        Kind::Replaced
    } else {
        Kind::Other
    }
}

fn seen(entry: &fs::DirEntry) -> Option<Backup> {
    let name = entry.file_name().into_string().ok()?;
    // Of the entry itself: a link is not ours.
    let facts = entry.metadata().ok()?;
    let stem = name.strip_suffix(".db")?;
    if !facts.is_file() || stem.is_empty() {
        return None;
    }
    let path = entry.path();
    let schema_version = version(&path).ok()??;
    let modified = || {
        let since = facts.modified().ok()?.duration_since(std::time::UNIX_EPOCH);
        i64::try_from(since.ok()?.as_millis()).ok()
    };
    Some(Backup {
        created_at: made_at(&name).or_else(modified)?,
        kind: kind(&name),
        name,
        path,
        bytes: facts.len(),
        schema_version,
    })
}

/// The version of the schema in a file that no connection of this process holds; none when it is no `SQLite` database.
pub(crate) fn version(path: &Path) -> io::Result<Option<i64>> {
    let mut head = [0; 100];
    match File::open(path)?.read_exact(&mut head) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        outcome => outcome?,
    }
    let version = head.get(VERSION_AT).and_then(|bytes| bytes.try_into().ok());
    Ok(version
        .filter(|_| head.starts_with(MAGIC))
        .map(|bytes| i64::from(i32::from_be_bytes(bytes))))
}

fn copy(
    database: &Path,
    partial: &Path,
    file: &File,
    watch: &mut dyn FnMut(Progress) -> Go,
) -> Result<(), DbError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let source = Connection::open_with_flags(database, flags)?;
    // The log is the writer's to fold in, and may be of a newer qwarden.
    source.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    source.execute_batch(SOURCE_PRAGMAS)?;
    source.query_row(BEGIN_READING, [], |row| row.get::<_, i64>(0))?;
    let mut target = Connection::open_with_flags(partial, flags)?;
    target.execute_batch(TARGET_PRAGMAS)?;
    let copying = Copying::new(&source, &mut target)?;
    let mut steps = 0_u32;
    loop {
        let step = copying.step(PAGES_PER_STEP)?;
        let pages = copying.progress();
        let done = pages.pagecount - pages.remaining;
        let progress = Progress {
            phase: Phase::Copying,
            done: u64::try_from(done).unwrap_or_default(),
            total: u64::try_from(pages.pagecount).unwrap_or_default(),
        };
        if watch(progress) == Go::Stop {
            return Err(stopped());
        }
        match step {
            StepResult::Done => break,
            StepResult::More => {}
            _ => return Err(DbError::Busy),
        }
        steps += 1;
        if steps.is_multiple_of(STEPS_PER_SYNC) {
            file.sync_data().map_err(|error| unmade(&error))?;
        }
    }
    drop(copying);
    // The copy says that it is used with a log, as the source is: a file for itself is easier to keep.
    target.pragma_update(None, "journal_mode", "DELETE")?;
    target.close().map_err(|(_, error)| error.into())
}

/// Copies what an open connection sees to the empty file at `to`.
pub(super) fn copy_open(source: &Connection, to: &Path) -> Result<(), DbError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut target = Connection::open_with_flags(to, flags)?;
    target.execute_batch(TARGET_PRAGMAS)?;
    let copying = Copying::new(source, &mut target)?;
    loop {
        match copying.step(PAGES_PER_STEP)? {
            StepResult::Done => break,
            StepResult::More => {}
            _ => return Err(DbError::Busy),
        }
    }
    drop(copying);
    target.pragma_update(None, "journal_mode", "DELETE")?;
    target.close().map_err(|(_, error)| error.into())
}

/// Reads the whole file as one that nobody writes to. Returns its length and its schema's version.
fn check(path: &Path, watch: &mut dyn FnMut(Progress) -> Go) -> Result<(u64, i64), DbError> {
    let progress = Progress {
        phase: Phase::Checking,
        done: 0,
        total: 0,
    };
    if watch(progress) == Go::Stop {
        return Err(stopped());
    }
    let conn = open_unused(path)?;
    if let Some(fault) = faults(&conn)?.first() {
        return Err(DbError::Unreadable(format!(
            "the copy is not whole: {fault}"
        )));
    }
    let version = conn.pragma_query_value(None, "user_version", |row| row.get(0))?;
    let bytes = fs::metadata(path).map_err(|error| unmade(&error))?.len();
    Ok((bytes, version))
}

/// Opens a file that nobody writes to, so that nothing appears beside it.
pub(super) fn open_unused(path: &Path) -> Result<Connection, DbError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY
        | OpenFlags::SQLITE_OPEN_NO_MUTEX
        | OpenFlags::SQLITE_OPEN_URI;
    let conn = Connection::open_with_flags(files::immutable(path), flags)?;
    conn.execute_batch(
        "PRAGMA trusted_schema = OFF; PRAGMA cell_size_check = ON; PRAGMA query_only = ON;",
    )?;
    Ok(conn)
}

/// What `quick_check` finds; empty means sound.
pub(crate) fn faults(conn: &Connection) -> Result<Vec<String>, DbError> {
    let mut statement = conn.prepare("PRAGMA quick_check")?;
    let found = statement.query_map([], |row| row.get::<_, String>("quick_check"))?;
    let mut found: Vec<String> = found.collect::<Result<_, _>>()?;
    found.retain(|finding| finding != "ok");
    Ok(found)
}

fn stopped() -> DbError {
    DbError::Other("it was stopped before its end".into())
}

fn unwritable<T>(why: &str) -> Result<T, DbError> {
    Err(DbError::Unwritable(why.to_owned()))
}

fn unmade(error: &io::Error) -> DbError {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => DbError::Full,
        kind => DbError::Unwritable(kind.to_string()),
    }
}

/// A file that does not count yet; removed with the value, with what `SQLite` put beside it.
struct Partial(PathBuf);

impl Drop for Partial {
    fn drop(&mut self) {
        for suffix in ["", "-wal", "-shm", "-journal"] {
            let _ = fs::remove_file(files::beside(&self.0, suffix));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::db::migrate;

    const AT: i64 = 1_700_000_000_000;

    fn database(dir: &Path) -> (PathBuf, Connection) {
        let path = dir.join("qwarden.db");
        let mut conn = Connection::open(&path).unwrap();
        conn.pragma_update(None, "journal_mode", "WAL").unwrap();
        migrate::migrate(&mut conn, &path, AT).unwrap();
        (path, conn)
    }

    fn put(conn: &Connection, key: &str) {
        let sql = "INSERT INTO settings (key, value, updated_at) VALUES (?1, '1', 1)";
        conn.execute(sql, [key]).unwrap();
    }

    fn keys(path: &Path) -> Vec<String> {
        let conn = open_unused(path).unwrap();
        let mut statement = conn
            .prepare("SELECT key FROM settings ORDER BY key")
            .unwrap();
        let keys = statement.query_map([], |row| row.get(0)).unwrap();
        keys.map(Result::unwrap).collect()
    }

    #[test]
    fn a_copy_is_one_moment_in_one_private_file() {
        let dir = tempfile::tempdir().unwrap();
        let (path, conn) = database(dir.path());
        for number in 0..2_000 {
            put(&conn, &format!("{number:04}{}", "x".repeat(500)));
        }
        let mut calls = 0;
        // Another connection writes meanwhile, and what it writes is in the next copy.
        let made = make(&path, None, AT, &mut |_| {
            calls += 1;
            put(&conn, &format!("later-{calls}"));
            Go::On
        })
        .unwrap();
        assert!(calls > 2, "{calls}");
        assert_eq!(made.name, "qwarden-20231114T221320Z.db");
        assert_eq!(keys(&made.path).len(), 2_000);
        assert_eq!(made.bytes, fs::metadata(&made.path).unwrap().len());
        assert_eq!(made.schema_version, migrate::SCHEMA_VERSION);
        let next = make(&path, None, AT, &mut |_| Go::On).unwrap();
        assert_eq!(next.name, "qwarden-20231114T221320Z-02.db");
        assert_eq!(keys(&next.path).len(), 2_000 + calls);
        assert_eq!(list(&path).unwrap(), [next, made]);
        let names = fs::read_dir(folder(&path)).unwrap().count();
        assert_eq!(names, 2, "nothing is left beside them");
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            for backup in list(&path).unwrap() {
                let bits = fs::metadata(&backup.path).unwrap().permissions().mode();
                assert_eq!(bits & 0o777, 0o600);
            }
        }
    }

    #[test]
    fn what_is_there_is_not_written_over_and_what_fails_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let (path, _conn) = database(dir.path());
        let there = dir.path().join("there.db");
        fs::write(&there, "mine").unwrap();
        let link = dir.path().join("link.db");
        #[cfg(unix)]
        std::os::unix::fs::symlink(dir.path().join("nowhere"), &link).unwrap();
        #[cfg(not(unix))]
        fs::write(&link, "").unwrap();
        for to in [
            there.clone(),
            link,
            dir.path().join("no/such.db"),
            "/".into(),
        ] {
            let refused = make(&path, Some(&to), AT, &mut |_| Go::On).unwrap_err();
            assert!(
                matches!(refused, DbError::Unwritable(_)),
                "{to:?}: {refused}"
            );
        }
        assert_eq!(fs::read_to_string(there).unwrap(), "mine");
        let to = dir.path().join("stopped.db");
        for phase in [Phase::Copying, Phase::Checking] {
            let stop = &mut |progress: Progress| {
                if progress.phase == phase {
                    Go::Stop
                } else {
                    Go::On
                }
            };
            make(&path, Some(&to), AT, stop).unwrap_err();
            let left = fs::read_dir(dir.path()).unwrap().flatten();
            let left: Vec<_> = left.map(|entry| entry.file_name()).collect();
            assert!(
                left.iter()
                    .all(|name| !name.to_string_lossy().starts_with("stopped")),
                "{left:?}"
            );
        }
    }

    #[test]
    fn only_our_own_are_rotated() {
        let dir = tempfile::tempdir().unwrap();
        let (path, _conn) = database(dir.path());
        let made = make(&path, None, AT, &mut |_| Go::On).unwrap();
        let folder = folder(&path);
        for name in [
            "qwarden-20231114T221321Z.db",
            "qwarden-20231114T221321Z-02.db",
            "qwarden-v1-1700000000000.db",
            "qwarden-replaced-20231114T221320Z.db",
            "qwarden-20231114T221320Z.copy.db",
            "mine.db",
        ] {
            fs::copy(&made.path, folder.join(name)).unwrap();
        }
        fs::write(folder.join("qwarden-20231114T221319Z.db"), "no database").unwrap();
        fs::write(folder.join("qwarden-20231114T221318Z.db.partial"), "").unwrap();
        assert_eq!(rotate(&path, 9).unwrap(), [""; 0]);
        assert_eq!(
            rotate(&path, 1).unwrap(),
            ["qwarden-20231114T221321Z.db", "qwarden-20231114T221320Z.db"]
        );
        assert_eq!(rotate(&path, 0).unwrap(), [""; 0], "never the last one");
        let kinds: Vec<_> = list(&path)
            .unwrap()
            .iter()
            .map(|backup| backup.kind)
            .collect();
        for kind in [Kind::Backup, Kind::Migration, Kind::Replaced] {
            assert_eq!(
                kinds.iter().filter(|found| **found == kind).count(),
                1,
                "{kind:?}"
            );
        }
        assert_eq!(kinds.len(), 5);
        // A name that has become free again is not that of a newer one.
        let next = make(&path, None, AT + 1_000, &mut |_| Go::On).unwrap();
        assert_eq!(next.name, "qwarden-20231114T221321Z-03.db");
        assert!(!folder.join("qwarden-20231114T221318Z.db.partial").exists());
    }
}
