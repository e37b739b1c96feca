//! Puts another file in the database's place. Only for whoever holds the [`Instance`]: no connection may be open.
//!
//! The file is copied first and the copy is checked, so that what was checked is what is put in place. A crash at any point
//! leaves the old database or the new one, never one with the other's log.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use rusqlite::{Connection, OpenFlags};

use crate::clock::compact_utc;
use crate::db::backups::{self, Go, Phase, Progress};
use crate::db::error::DbError;
use crate::db::files;
use crate::db::instance::Instance;
use crate::db::migrate::{self, SCHEMA_VERSION};

const STAGED: &str = ".restoring";
const PIECE: usize = 1 << 20;
/// What holds the newest changes of a file: it is not whole without.
const LOGS: [&str; 2] = ["-wal", "-journal"];

const OBJECTS: &str = "SELECT type || ' ' || name, coalesce(sql, '') FROM sqlite_schema WHERE name NOT LIKE 'sqlite\\_%' ESCAPE '\\'";
/// What runs by itself when rows are written or read.
const ACTIVE: [&str; 2] = ["trigger ", "view "];
/// Tables of every version of ours that no other program's database is likely to have.
const SIGNS: [&str; 2] = ["table usage_rollups", "table operations"];

/// A checked copy beside the database, not yet in its place.
pub(crate) struct Staged {
    database: PathBuf,
    copy: Copy,
    pub(crate) bytes: u64,
    pub(crate) schema_version: i64,
}

/// Copies the file at `from` beside the database, and checks the copy. `watch` is told bytes.
pub(crate) fn stage(
    instance: &Instance,
    from: &Path,
    watch: &mut dyn FnMut(Progress) -> Go,
) -> Result<Staged, DbError> {
    let database = instance.database().to_owned();
    let mut source = source(from, &database)?;
    let copy = Copy(files::beside(&database, STAGED));
    // What a crash left there is of no use.
    let _ = fs::remove_file(&copy.0);
    let bytes = copy_bytes(&mut source, &copy.0, watch)?;
    let checking = Progress {
        phase: Phase::Checking,
        done: bytes,
        total: bytes,
    };
    if watch(checking) == Go::Stop {
        return refuse("it was stopped");
    }
    let schema_version = check(&copy.0)?;
    Ok(Staged {
        database,
        copy,
        bytes,
        schema_version,
    })
}

impl Staged {
    /// Puts the copy in the database's place. Returns where the old one is kept, when there was one. `now_ms` is Unix time.
    pub(crate) fn put(self, now_ms: i64) -> Result<Option<PathBuf>, DbError> {
        let database = &self.database;
        let dir = database.parent().unwrap_or(Path::new("."));
        let kept = self.keep(now_ms).map_err(|error| failed(&error))?;
        for suffix in ["-wal", "-journal", "-shm"] {
            match fs::remove_file(files::beside(database, suffix)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(failed(&error));
                }
                _ => {}
            }
        }
        // Before the new file is there: it must not meet the old one's log, whatever the disk does first.
        files::sync_dir(dir).map_err(|error| failed(&error))?;
        fs::rename(&self.copy.0, database).map_err(|error| failed(&error))?;
        files::sync_dir(dir).map_err(|error| failed(&error))?;
        Ok(kept)
    }

    /// Keeps the database under another name as well, with its log when that cannot be folded in.
    fn keep(&self, now_ms: i64) -> io::Result<Option<PathBuf>> {
        let database = &self.database;
        match fs::metadata(database) {
            Ok(facts) if facts.len() > 0 => {}
            Ok(_) => return Ok(None),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        }
        // A damaged one is kept with its log as it is.
        let _ = fold(database);
        let folder = backups::folder(database);
        files::create_private_dir(&folder)?;
        let stem = format!("qwarden-replaced-{}", compact_utc(now_ms));
        let mut kept = folder.join(format!("{stem}.db"));
        let mut number = 1;
        while fs::symlink_metadata(&kept).is_ok() {
            number += 1;
            kept = folder.join(format!("{stem}-{number:02}.db"));
        }
        keep_one(database, &kept)?;
        for suffix in LOGS {
            let log = files::beside(database, suffix);
            if fs::metadata(&log).is_ok_and(|log| log.len() > 0) {
                keep_one(&log, &files::beside(&kept, suffix))?;
            }
        }
        files::sync_dir(&folder)?;
        Ok(Some(kept))
    }
}

/// Opens the file, and no other that is put in its place meanwhile.
fn source(from: &Path, database: &Path) -> Result<File, DbError> {
    let named = fs::symlink_metadata(from).map_err(|error| unreadable(&error))?;
    if named.is_symlink() {
        return refuse("it is a symbolic link; name the file itself");
    }
    if !named.is_file() {
        return refuse("it is no file");
    }
    for suffix in LOGS {
        let log = files::beside(from, suffix);
        if fs::symlink_metadata(&log).is_ok_and(|log| log.len() > 0) {
            return refuse(
                "a log lies beside it, without which it is not whole; stop the program that uses it, or make a copy with \
                 `qwarden backup`",
            );
        }
    }
    let source = File::open(from).map_err(|error| unreadable(&error))?;
    let opened = source.metadata().map_err(|error| unreadable(&error))?;
    if !is_same(&named, &opened) {
        return refuse("it was replaced meanwhile");
    }
    if fs::metadata(database).is_ok_and(|own| is_same(&own, &opened)) {
        return refuse("it is the database in use");
    }
    Ok(source)
}

#[cfg(unix)]
fn is_same(one: &fs::Metadata, other: &fs::Metadata) -> bool {
    use std::os::unix::fs::MetadataExt;
    (one.dev(), one.ino()) == (other.dev(), other.ino())
}

#[cfg(not(unix))]
fn is_same(_: &fs::Metadata, _: &fs::Metadata) -> bool {
    false
}

fn copy_bytes(
    source: &mut File,
    to: &Path,
    watch: &mut dyn FnMut(Progress) -> Go,
) -> Result<u64, DbError> {
    let total = source.metadata().map_err(|error| unreadable(&error))?.len();
    let mut target = files::create_private_file(to).map_err(|error| failed(&error))?;
    let mut piece = vec![0; PIECE];
    let mut done = 0;
    loop {
        let read = source
            .read(&mut piece)
            .map_err(|error| unreadable(&error))?;
        let Some(bytes) = piece.get(..read).filter(|bytes| !bytes.is_empty()) else {
            break;
        };
        done += read as u64;
        if done > total {
            return refuse("it grows; stop the program that uses it");
        }
        target.write_all(bytes).map_err(|error| failed(&error))?;
        let progress = Progress {
            phase: Phase::Copying,
            done,
            total,
        };
        if watch(progress) == Go::Stop {
            return refuse("it was stopped");
        }
    }
    target.sync_all().map_err(|error| failed(&error))?;
    Ok(done)
}

/// Returns the schema's version of a sound database of ours.
fn check(copy: &Path) -> Result<i64, DbError> {
    let Some(found) = backups::version(copy).map_err(|error| failed(&error))? else {
        return refuse("it is no SQLite database");
    };
    if found > SCHEMA_VERSION {
        return Err(DbError::NotRestorable(format!(
            "it has schema version {found}, this qwarden knows up to {SCHEMA_VERSION}; use the newer qwarden"
        )));
    }
    let conn = backups::open_unused(copy).map_err(|error| damaged(&error))?;
    let objects = objects(&conn).map_err(|error| damaged(&error))?;
    if found < 1 || !SIGNS.iter().all(|sign| objects.contains_key(*sign)) {
        return refuse(
            "it is no database of qwarden; `qwarden import` reads one of the older program",
        );
    }
    let own = own_objects()?;
    let is_own = |(name, sql): (&String, &String)| own.get(name) == Some(sql);
    let is_active = |name: &str| ACTIVE.iter().any(|kind| name.starts_with(kind));
    let is_ours = if found == SCHEMA_VERSION {
        objects == own
    } else {
        // The steps to our version look at the rest.
        objects
            .iter()
            .filter(|(name, _)| is_active(name))
            .all(is_own)
    };
    if !is_ours {
        return refuse("its schema was changed by somebody else");
    }
    match backups::faults(&conn) {
        Ok(faults) if faults.is_empty() => Ok(found),
        Ok(faults) => Err(DbError::NotRestorable(format!(
            "it is damaged: {}",
            faults.join("; ")
        ))),
        Err(error) => Err(damaged(&error)),
    }
}

fn objects(conn: &Connection) -> Result<BTreeMap<String, String>, DbError> {
    let mut statement = conn.prepare(OBJECTS)?;
    let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

fn own_objects() -> Result<BTreeMap<String, String>, DbError> {
    let mut fresh = Connection::open_in_memory()?;
    migrate::migrate(&mut fresh, Path::new(""), 0)?;
    objects(&fresh)
}

/// Folds the log of a file that nobody uses into it; closing then removes it.
fn fold(database: &Path) -> Result<(), DbError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let conn = Connection::open_with_flags(database, flags)?;
    conn.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?;
    conn.close().map_err(|(_, error)| error.into())
}

/// A second name for the file where the file system has that, else a copy.
fn keep_one(from: &Path, to: &Path) -> io::Result<()> {
    if fs::hard_link(from, to).is_ok() {
        return files::restrict(to, 0o600);
    }
    let mut target = files::create_private_file(to)?;
    io::copy(&mut File::open(from)?, &mut target)?;
    target.sync_all()
}

fn refuse<T>(why: &str) -> Result<T, DbError> {
    Err(DbError::NotRestorable(why.to_owned()))
}

fn unreadable(error: &io::Error) -> DbError {
    DbError::NotRestorable(match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => {
            "there is none at this path".into()
        }
        kind => format!("it cannot be read: {kind}"),
    })
}

fn damaged(error: &DbError) -> DbError {
    DbError::NotRestorable(format!("it is damaged: {error}"))
}

fn failed(error: &io::Error) -> DbError {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => DbError::Full,
        kind => DbError::Io(kind.to_string()),
    }
}

/// Removed with the value, unless it was put in place.
struct Copy(PathBuf);

impl Drop for Copy {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT: i64 = 1_700_000_000_000;

    fn made(path: &Path, key: &str) -> Connection {
        let mut conn = Connection::open(path).unwrap();
        conn.pragma_update(None, "journal_mode", "WAL").unwrap();
        migrate::migrate(&mut conn, path, AT).unwrap();
        let sql = "INSERT INTO settings (key, value, updated_at) VALUES (?1, '1', 1)";
        conn.execute(sql, [key]).unwrap();
        conn
    }

    fn key(path: &Path) -> String {
        let conn = backups::open_unused(path).unwrap();
        conn.query_row("SELECT key FROM settings", [], |row| row.get(0))
            .unwrap()
    }

    fn backup(dir: &Path, key: &str) -> PathBuf {
        let from = dir.join("from.db");
        let conn = made(&from, key);
        let to = dir.join(format!("{key}.db"));
        backups::make(&from, Some(&to), AT, &mut |_| Go::On).unwrap();
        drop(conn);
        fs::remove_file(from).unwrap();
        to
    }

    #[test]
    fn the_old_one_is_kept_whole_and_its_log_never_meets_the_new_one() {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("data");
        let file = backup(dir.path(), "new");
        for damaged in [false, true] {
            let _ = fs::remove_dir_all(&data);
            let instance = Instance::open(&data, 1).unwrap();
            // As after `kill -9`: a log that was not folded in.
            let conn = made(instance.database(), "old");
            let log = files::beside(instance.database(), "-wal");
            let saved = fs::read(&log).unwrap();
            let main = fs::read(instance.database()).unwrap();
            drop(conn);
            fs::write(instance.database(), main).unwrap();
            fs::write(&log, &saved).unwrap();
            if damaged {
                // Beyond help: a whole log would mend the file.
                fs::write(instance.database(), vec![7; 8192]).unwrap();
                fs::write(&log, vec![9; 100]).unwrap();
            }
            let staged = stage(&instance, &file, &mut |_| Go::On).unwrap();
            assert_eq!(staged.schema_version, SCHEMA_VERSION);
            let kept = staged.put(AT).unwrap().unwrap();
            assert_eq!(
                kept,
                data.join("backups/qwarden-replaced-20231114T221320Z.db")
            );
            assert!(!log.exists());
            assert_eq!(key(instance.database()), "new");
            if damaged {
                assert_eq!(fs::read(&kept).unwrap(), vec![7; 8192]);
            } else {
                assert_eq!(key(&kept), "old");
            }
            assert!(!files::beside(instance.database(), STAGED).exists());
        }
    }

    #[test]
    fn what_is_no_whole_database_of_ours_is_refused_and_nothing_changes() {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("data");
        let instance = Instance::open(&data, 1).unwrap();
        drop(made(instance.database(), "old"));
        let good = backup(dir.path(), "good");
        let changed = |name: &str, sql: &str| {
            let path = dir.path().join(name);
            fs::copy(&good, &path).unwrap();
            Connection::open(&path).unwrap().execute_batch(sql).unwrap();
            path
        };
        let newer = changed(
            "newer.db",
            &format!("PRAGMA user_version = {}", SCHEMA_VERSION + 1),
        );
        let foreign = changed("foreign.db", "PRAGMA user_version = 0");
        let armed = changed(
            "armed.db",
            "CREATE TRIGGER x AFTER INSERT ON requests BEGIN DELETE FROM audit_log; END",
        );
        let view = changed(
            "view.db",
            "PRAGMA user_version = 1; CREATE VIEW v AS SELECT 1",
        );
        let text = dir.path().join("text.db");
        fs::write(&text, "no database, but longer than the hundred bytes of a header, which takes a few more words than this").unwrap();
        let torn = dir.path().join("torn.db");
        let mut bytes = fs::read(&good).unwrap();
        let half = bytes.len() / 2;
        bytes.truncate(half);
        fs::write(&torn, bytes).unwrap();
        let live = dir.path().join("live.db");
        let conn = made(&live, "live");
        let mut cases = vec![
            (newer, "schema version"),
            (foreign, "no database of qwarden"),
            (armed, "changed by somebody else"),
            (view, "changed by somebody else"),
            (text, "no SQLite database"),
            (torn, "damaged"),
            (live, "a log lies beside it"),
            (dir.path().to_owned(), "no file"),
            (dir.path().join("none.db"), "none at this path"),
            (instance.database().to_owned(), "the database in use"),
        ];
        #[cfg(unix)]
        {
            let link = dir.path().join("link.db");
            std::os::unix::fs::symlink(&good, &link).unwrap();
            cases.push((link, "symbolic link"));
        }
        for (path, why) in cases.drain(..) {
            let refused = stage(&instance, &path, &mut |_| Go::On).err().unwrap();
            assert!(refused.to_string().contains(why), "{path:?}: {refused}");
            assert!(!files::beside(instance.database(), STAGED).exists());
        }
        drop(conn);
        assert_eq!(key(instance.database()), "old");
    }
}
