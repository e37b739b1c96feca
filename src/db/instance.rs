//! The data directory: private to its owner, and used by one process at a time (R8, S10).

use std::fs::{self, File, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};

use crate::db::error::DbError;
use crate::db::files;

const LOCK: &str = "qwarden.lock";
pub(crate) const DATABASE: &str = "qwarden.db";
/// What `SQLite` keeps beside the database. Made by it with the database's permissions, so only older files need care.
const COMPANIONS: [&str; 2] = ["qwarden.db-wal", "qwarden.db-shm"];
pub(crate) const BACKUPS: &str = "backups";

/// The hold on a data directory. It ends with the value, and with the process however that ends.
#[derive(Debug)]
pub(crate) struct Instance {
    database: PathBuf,
    /// Holds the operating system's lock as long as it is open.
    _lock: File,
}

/// Why the data directory cannot be used. Shown to its owner, so it may name the path.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OpenError {
    #[error(
        "the data directory `{}` is in use by another qwarden{}; stop that one, or choose another place with --data-dir",
        dir.display(),
        process(*pid)
    )]
    InUse { pid: Option<u32>, dir: PathBuf },
    #[error("the data directory `{}` cannot be used: {reason}; make it writable, or choose another place with --data-dir", dir.display())]
    Directory { dir: PathBuf, reason: String },
    #[error(transparent)]
    Database(#[from] DbError),
}

impl Instance {
    /// Takes the data directory `dir`, made when it is missing, for the process `pid`.
    pub(crate) fn open(dir: &Path, pid: u32) -> Result<Self, OpenError> {
        let unusable = |error: io::Error| OpenError::Directory {
            dir: dir.to_owned(),
            reason: error.to_string(),
        };
        files::create_private_dir(dir).map_err(unusable)?;
        refuse_shared(dir)?;
        let mut lock = files::open_private_file(&dir.join(LOCK)).map_err(unusable)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(OpenError::InUse {
                    dir: dir.to_owned(),
                    pid: written_pid(&mut lock),
                });
            }
            Err(TryLockError::Error(error)) => return Err(unusable(error)),
        }
        write_pid(&mut lock, pid).map_err(unusable)?;
        tighten(dir, &lock).map_err(unusable)?;
        let database = dir.join(DATABASE);
        files::ensure_private_file(&database).map_err(unusable)?;
        Ok(Self {
            database,
            _lock: lock,
        })
    }

    /// The database file. It exists, perhaps empty.
    pub(crate) fn database(&self) -> &Path {
        &self.database
    }
}

/// A folder like `/tmp` must not become ours: as root we would close it for everybody.
#[cfg(unix)]
fn refuse_shared(dir: &Path) -> Result<(), OpenError> {
    use std::os::unix::fs::PermissionsExt;
    let unusable = |reason: String| OpenError::Directory {
        dir: dir.to_owned(),
        reason,
    };
    let mode = fs::metadata(dir)
        .map_err(|error| unusable(error.to_string()))?
        .permissions()
        .mode();
    if mode & 0o1000 != 0 {
        return Err(unusable(
            "it is shared by all users; choose one of your own, such as a folder in it".into(),
        ));
    }
    Ok(())
}

#[cfg(not(unix))]
fn refuse_shared(_: &Path) -> Result<(), OpenError> {
    Ok(())
}

fn written_pid(lock: &mut File) -> Option<u32> {
    let mut text = String::new();
    lock.read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}

fn write_pid(lock: &mut File, pid: u32) -> io::Result<()> {
    lock.set_len(0)?;
    lock.rewind()?;
    writeln!(lock, "{pid}")?;
    lock.flush()
}

/// Closes what an older version, a copy or another umask left open for others.
fn tighten(dir: &Path, lock: &File) -> io::Result<()> {
    if owns(lock, dir)? {
        files::restrict(dir, 0o700)?;
    }
    for name in COMPANIONS {
        restrict_existing(&dir.join(name), 0o600)?;
    }
    let backups = dir.join(BACKUPS);
    restrict_existing(&backups, 0o700)?;
    if backups.is_dir() {
        for entry in fs::read_dir(&backups)? {
            let entry = entry?;
            if entry.file_type()?.is_file() {
                files::restrict(&entry.path(), 0o600)?;
            }
        }
    }
    Ok(())
}

fn restrict_existing(path: &Path, mode: u32) -> io::Result<()> {
    match files::restrict(path, mode) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        outcome => outcome,
    }
}

/// Whether `dir` belongs to whoever we run as. A mounted volume may belong to somebody else and still be meant for us.
#[cfg(unix)]
fn owns(file: &File, dir: &Path) -> io::Result<bool> {
    use std::os::unix::fs::MetadataExt;
    Ok(file.metadata()?.uid() == fs::metadata(dir)?.uid())
}

#[cfg(not(unix))]
fn owns(_: &File, _: &Path) -> io::Result<bool> {
    Ok(true)
}

fn process(pid: Option<u32>) -> String {
    pid.map_or_else(String::new, |pid| format!(" (process {pid})"))
}

#[cfg(test)]
#[cfg(unix)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o7777
    }

    #[test]
    fn everything_is_private_from_the_start() {
        let outer = tempfile::tempdir().unwrap();
        let dir = outer.path().join("a/b");
        let instance = Instance::open(&dir, 1).unwrap();
        assert_eq!(mode(&dir), 0o700);
        assert_eq!(mode(instance.database()), 0o600);
        assert_eq!(mode(&dir.join(LOCK)), 0o600);
    }

    #[test]
    fn what_stood_open_is_closed() {
        let outer = tempfile::tempdir().unwrap();
        let dir = outer.path().join("data");
        fs::create_dir_all(dir.join(BACKUPS)).unwrap();
        let names = [
            DATABASE,
            COMPANIONS[0],
            COMPANIONS[1],
            LOCK,
            "backups/old.db",
        ];
        for name in names {
            fs::write(dir.join(name), "").unwrap();
            fs::set_permissions(dir.join(name), fs::Permissions::from_mode(0o644)).unwrap();
        }
        for name in ["", BACKUPS] {
            fs::set_permissions(dir.join(name), fs::Permissions::from_mode(0o755)).unwrap();
        }
        let _instance = Instance::open(&dir, 1).unwrap();
        for name in names {
            assert_eq!(mode(&dir.join(name)), 0o600, "{name}");
        }
        assert_eq!((mode(&dir), mode(&dir.join(BACKUPS))), (0o700, 0o700));
    }

    #[test]
    fn a_second_process_is_refused_and_told_the_first() {
        let dir = tempfile::tempdir().unwrap();
        let first = Instance::open(dir.path(), 41_234).unwrap();
        let refused = Instance::open(dir.path(), 7).unwrap_err();
        assert!(matches!(
            refused,
            OpenError::InUse {
                pid: Some(41_234),
                ..
            }
        ));
        assert!(refused.to_string().contains("(process 41234)"), "{refused}");
        drop(first);
        let next = Instance::open(dir.path(), 7).unwrap();
        assert_eq!(
            fs::read_to_string(next.database().with_file_name(LOCK)).unwrap(),
            "7\n"
        );
    }

    #[test]
    fn a_folder_everybody_shares_is_refused_and_left_as_it_is() {
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o1777)).unwrap();
        assert!(matches!(
            Instance::open(dir.path(), 1),
            Err(OpenError::Directory { .. })
        ));
        assert_eq!(mode(dir.path()), 0o1777);
    }
}
