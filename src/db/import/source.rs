//! The file to import: opened so that nothing beside it or in it changes.

use std::collections::{HashMap, HashSet};
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};

use crate::db::error::DbError;
use crate::db::files;

/// Where a file with a log is copied to, beside our own database.
const SCRATCH: &str = "import";
const COPY: &str = "source.db";
/// What holds the newest changes, or takes half-made ones back: the file is not whole without it.
const LOGS: [&str; 2] = ["-wal", "-journal"];
const MAGIC: &[u8] = b"SQLite format 3\0";
/// Versions of the file format, for reading and writing, in a file that is used with a write-ahead log.
const WITH_LOG: u8 = 2;
/// Another program may write while we copy; then we begin anew, so often.
const MOST_COPIES: usize = 3;

const PRAGMAS: &str = "
    PRAGMA busy_timeout = 5000;
    PRAGMA trusted_schema = OFF;
    PRAGMA cell_size_check = ON;
    PRAGMA mmap_size = 0;
    PRAGMA temp_store = MEMORY;
    PRAGMA cache_size = -2048;
    PRAGMA query_only = ON;";

/// Tables alone: a view or a virtual table of these names would run what its maker wrote.
const TABLES: &str = "SELECT name FROM sqlite_schema WHERE type = 'table' AND rootpage > 0";

const COLUMNS: &str = "SELECT name FROM pragma_table_info(?1)";

/// A table and a column of it that no other program's database is likely to have; one of them is enough.
const SIGNS: [(&str, &str); 5] = [
    ("requests", "openai_request"),
    ("sessions", "first_user_message"),
    ("provider_configs", "is_sensitive"),
    ("qwen_credentials", "cookies"),
    ("request_logs", "id"),
];

/// A database of the older program, open for reading.
pub(crate) struct Source {
    pub(super) conn: Connection,
    /// Its tables and their columns, in lower case.
    pub(super) tables: HashMap<String, HashSet<String>>,
    /// Dropped after the connection.
    _scratch: Option<Scratch>,
}

/// Where the own database lies, as its connection knows it.
pub(crate) fn own_path(conn: &Connection) -> Result<PathBuf, DbError> {
    match conn.path() {
        Some(path) if !path.is_empty() => Ok(path.into()),
        _ => Err(DbError::Other("it lies in no file".into())),
    }
}

impl Source {
    /// Opens the file at `path`. `own` is where our database lies: it is never touched, and a file that is not whole
    /// without its log is copied into a folder beside it.
    pub(crate) fn open(path: &Path, own: &Path) -> Result<Self, DbError> {
        let facts = fs::symlink_metadata(path).map_err(|error| unreadable(&error))?;
        if facts.is_symlink() {
            return refuse("it is a symbolic link; name the file itself");
        }
        if !facts.is_file() {
            return refuse("what lies there is no file");
        }
        // Must come before the file is opened: to close our own would drop the locks that SQLite holds on it.
        if is_same_file(path, own).map_err(|error| unreadable(&error))? {
            return refuse("it is the database of this qwarden");
        }
        let with_log = reads_with_log(path)?;
        let scratch = LOGS
            .iter()
            .find(|log| fs::metadata(files::beside(path, log)).is_ok_and(|log| log.len() > 0))
            .map(|log| Scratch::copy(path, log, own))
            .transpose()?;
        let conn = match &scratch {
            Some(scratch) => Connection::open_with_flags(
                scratch.0.join(COPY),
                OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX,
            ),
            // Or else SQLite would make a log and an index for it beside the file.
            None if with_log => Connection::open_with_flags(
                files::immutable(path),
                OpenFlags::SQLITE_OPEN_READ_ONLY
                    | OpenFlags::SQLITE_OPEN_NO_MUTEX
                    | OpenFlags::SQLITE_OPEN_URI,
            ),
            None => Connection::open_with_flags(
                path,
                OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX,
            ),
        };
        let conn = conn.map_err(|error| damaged(error.into()))?;
        let tables = prepared(&conn).map_err(damaged)?;
        recognised(&tables)?;
        Ok(Self {
            conn,
            tables,
            _scratch: scratch,
        })
    }
}

/// Sets the connection up, holds on to one moment of the file, and lists what is in it.
fn prepared(conn: &Connection) -> Result<HashMap<String, HashSet<String>>, DbError> {
    conn.execute_batch(PRAGMAS)?;
    conn.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true)?;
    conn.execute_batch("BEGIN")?;
    let names: Vec<String> = conn
        .prepare(TABLES)?
        .query_map([], |row| row.get("name"))?
        .collect::<Result<_, _>>()?;
    let mut tables = HashMap::new();
    let mut statement = conn.prepare(COLUMNS)?;
    for name in names {
        let columns = statement
            .query_map([&name], |row| row.get::<_, String>("name"))?
            .map(|column| column.map(|column| column.to_ascii_lowercase()))
            .collect::<Result<_, _>>()?;
        tables.insert(name.to_ascii_lowercase(), columns);
    }
    Ok(tables)
}

fn recognised(tables: &HashMap<String, HashSet<String>>) -> Result<(), DbError> {
    if tables.contains_key("usage_rollups") && tables.contains_key("operations") {
        return refuse(
            "it is a database of qwarden itself; start qwarden with its folder as --data-dir",
        );
    }
    let is_there = |(table, column): &(&str, &str)| {
        tables
            .get(*table)
            .is_some_and(|columns| columns.contains(*column))
    };
    if SIGNS.iter().any(is_there) {
        return Ok(());
    }
    refuse("it has none of the tables of a provider-router.db")
}

/// Whether the file is used with a write-ahead log. Refuses what is no `SQLite` database.
fn reads_with_log(path: &Path) -> Result<bool, DbError> {
    let mut head = [0; 20];
    let read = File::open(path).and_then(|mut file| file.read_exact(&mut head));
    if let Err(error) = read
        && error.kind() != io::ErrorKind::UnexpectedEof
    {
        return Err(unreadable(&error));
    }
    if !head.starts_with(MAGIC) {
        return refuse("it is no SQLite database");
    }
    Ok(head.ends_with(&[WITH_LOG, WITH_LOG]))
}

#[cfg(unix)]
fn is_same_file(one: &Path, other: &Path) -> io::Result<bool> {
    use std::os::unix::fs::MetadataExt;
    let (one, other) = (fs::metadata(one)?, fs::metadata(other)?);
    Ok((one.dev(), one.ino()) == (other.dev(), other.ino()))
}

#[cfg(not(unix))]
fn is_same_file(one: &Path, other: &Path) -> io::Result<bool> {
    Ok(fs::canonicalize(one)? == fs::canonicalize(other)?)
}

/// A folder of our own with a copy, removed with the value.
struct Scratch(PathBuf);

impl Scratch {
    fn copy(path: &Path, log: &str, own: &Path) -> Result<Self, DbError> {
        let folder = own.parent().unwrap_or(Path::new(".")).join(SCRATCH);
        let log_path = files::beside(path, log);
        for _ in 0..MOST_COPIES {
            // What a crash left there is of no use.
            let _ = fs::remove_dir_all(&folder);
            files::create_private_dir(&folder).map_err(|error| uncopied(&error))?;
            let scratch = Self(folder.clone());
            let to = folder.join(COPY);
            let before = [stamp(path), stamp(&log_path)];
            for (from, to) in [(path, to.clone()), (&log_path, files::beside(&to, log))] {
                copy_private(from, &to)?;
            }
            if before == [stamp(path), stamp(&log_path)] {
                return Ok(scratch);
            }
        }
        refuse("another program writes to it; stop that one first")
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn copy_private(from: &Path, to: &Path) -> Result<(), DbError> {
    let mut source = File::open(from).map_err(|error| unreadable(&error))?;
    let mut target = files::open_private_file(to).map_err(|error| uncopied(&error))?;
    io::copy(&mut source, &mut target).map_err(|error| uncopied(&error))?;
    Ok(())
}

fn stamp(path: &Path) -> Option<(u64, SystemTime)> {
    let facts = fs::metadata(path).ok()?;
    Some((facts.len(), facts.modified().ok()?))
}

fn refuse<T>(why: &str) -> Result<T, DbError> {
    Err(DbError::NotImportable(why.to_owned()))
}

fn unreadable(error: &io::Error) -> DbError {
    DbError::NotImportable(match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => {
            "there is none at this path".into()
        }
        io::ErrorKind::PermissionDenied => "qwarden may not read it".into(),
        kind => format!("it cannot be read: {kind}"),
    })
}

/// What goes wrong with our copy is ours, not the file's.
fn uncopied(error: &io::Error) -> DbError {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => DbError::Full,
        kind => DbError::Io(format!(
            "no copy of the file to import could be made: {kind}"
        )),
    }
}

/// The failure is the other file's, and must not be told as one of our database.
pub(super) fn damaged(error: DbError) -> DbError {
    match error {
        DbError::Busy => {
            DbError::NotImportable("another program holds its lock; stop that one first".into())
        }
        DbError::Corrupt(reason)
        | DbError::Unreadable(reason)
        | DbError::Io(reason)
        | DbError::Other(reason) => DbError::NotImportable(format!("it cannot be read: {reason}")),
        other => DbError::NotImportable(format!("it cannot be read: {}", other.code())),
    }
}
