//! The data directory and the database file, from outside: the database itself is the gateway's alone.

use std::fs::{self, File, Metadata, TryLockError};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::time::UNIX_EPOCH;

use super::Finding;
use crate::cli::words::time;
use crate::clock::now_ms;

const DATABASE: &str = "qwarden.db";
/// What SQLite keeps beside it; written to last.
const LOG: &str = "qwarden.db-wal";
const LOCK: &str = "qwarden.lock";
/// 2025-01-01: this program is younger.
const YOUNGEST_MS: i64 = 1_735_689_600_000;
/// File systems and clocks of other machines are not exact.
const SLACK_MS: i64 = 120_000;

/// The directory, the file, and whether another process holds them.
pub(super) fn check(dir: &Path, is_up: bool) -> Vec<Finding> {
    let shown = dir.display();
    let found = match fs::metadata(dir) {
        Ok(found) => found,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let text = format!("`{shown}` is not there");
            return vec![if is_up {
                Finding::warning(
                    "data directory",
                    format!("{text}: the gateway uses another one"),
                    "name it with --data-dir, or QWARDEN_DATA_DIR",
                )
            } else {
                Finding::ok(
                    "data directory",
                    format!("{text} yet; `qwarden serve` makes it"),
                )
            }];
        }
        Err(error) => {
            return vec![Finding::problem(
                "data directory",
                format!("`{shown}`: {error}"),
                "make it yours: chown it to the user who runs qwarden",
            )];
        }
    };
    if !found.is_dir() {
        return vec![Finding::problem(
            "data directory",
            format!("`{shown}` is no directory"),
            "choose another place with --data-dir",
        )];
    }
    let mut findings = vec![private("data directory", dir, &found, 0o700)];
    findings.push(database(&dir.join(DATABASE)));
    if !is_up && is_held(&dir.join(LOCK)) {
        let holder = fs::read_to_string(dir.join(LOCK)).unwrap_or_default();
        findings.push(Finding::problem(
            "lock",
            format!(
                "process {} uses the data directory, and does not answer here",
                holder.trim()
            ),
            "name its management address with --url, or stop that process",
        ));
    }
    findings
}

fn database(path: &Path) -> Finding {
    match fs::metadata(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            Finding::ok("database", "there is none yet; `qwarden serve` makes it")
        }
        Err(error) => Finding::problem(
            "database",
            format!("`{}`: {error}", path.display()),
            "make it yours: chown it to the user who runs qwarden",
        ),
        Ok(found) if !found.is_file() => Finding::problem(
            "database",
            format!("`{}` is no file", path.display()),
            "move it away; `qwarden serve` makes a new one",
        ),
        Ok(found) => private("database", path, &found, 0o600),
    }
}

/// Whether its owner can use it, and nobody else.
fn private(check: &str, path: &Path, found: &Metadata, mode: u32) -> Finding {
    let shown = path.display();
    let is = found.permissions().mode() & 0o777;
    if is & mode != mode {
        return Finding::problem(
            check,
            format!("`{shown}` cannot be read and written by its owner (mode {is:o})"),
            format!("chmod {mode:o} '{shown}'"),
        );
    }
    // Asked of the system, which also knows of other owners and of file systems that are read-only. A directory is
    // not opened for writing; its mode has to do.
    let opened = if found.is_dir() {
        fs::read_dir(path).map(drop)
    } else {
        File::options().read(true).append(true).open(path).map(drop)
    };
    if let Err(error) = opened {
        return Finding::problem(
            check,
            format!("`{shown}` cannot be used (owner {}): {error}", found.uid()),
            "run qwarden as its owner, or chown it; the file system must take writes",
        );
    }
    if is & 0o077 != 0 {
        return Finding::warning(
            check,
            format!("`{shown}` is open to other users (mode {is:o}); it holds keys and history"),
            format!("chmod {mode:o} '{shown}'; `qwarden serve` does it at its next start"),
        );
    }
    Finding::ok(check, format!("{shown} (mode {is:o})"))
}

/// Whether a living process has the lock. A file that nobody holds is left over from the last run.
fn is_held(path: &Path) -> bool {
    let Ok(file) = File::open(path) else {
        return false;
    };
    // Shared, and let go at once: what it shuts out for a moment is a gateway that starts in that moment.
    matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock))
}

/// `newest` is the time of the newest row, where a gateway could say; else the file's own time has to do.
pub(super) fn clock(dir: &Path, newest: Option<i64>) -> Finding {
    let written = [DATABASE, LOG].iter().filter_map(|name| {
        let modified = fs::metadata(dir.join(name)).ok()?.modified().ok()?;
        let since = modified.duration_since(UNIX_EPOCH).ok()?;
        i64::try_from(since.as_millis()).ok()
    });
    let newest = newest.or_else(|| written.max());
    judged(now_ms(), newest)
}

fn judged(now: i64, newest: Option<i64>) -> Finding {
    let remedy = "set the clock: timedatectl set-ntp true";
    if now < YOUNGEST_MS {
        return Finding::problem("clock", format!("it says {}", time(now)), remedy);
    }
    match newest {
        Some(newest) if newest > now + SLACK_MS => Finding::problem(
            "clock",
            format!(
                "it says {}, but the database was written at {}",
                time(now),
                time(newest)
            ),
            remedy,
        ),
        _ => Finding::ok("clock", time(now)),
    }
}

#[cfg(test)]
mod tests {
    use super::super::State;
    use super::*;

    fn states(findings: &[Finding]) -> Vec<State> {
        findings.iter().map(|finding| finding.state).collect()
    }

    #[test]
    fn what_is_open_or_in_the_way_is_seen() {
        let outer = tempfile::tempdir().unwrap();
        let dir = outer.path().join("data");
        assert_eq!(states(&check(&dir, false)), [State::Ok]);
        assert_eq!(
            states(&check(&dir, true)),
            [State::Warning],
            "the gateway is elsewhere"
        );
        fs::create_dir(&dir).unwrap();
        let mode = |path: &Path, mode: u32| {
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        };
        mode(&dir, 0o700);
        assert_eq!(states(&check(&dir, false)), [State::Ok, State::Ok]);
        let database = dir.join(DATABASE);
        fs::write(&database, "").unwrap();
        mode(&database, 0o644);
        mode(&dir, 0o755);
        assert_eq!(
            states(&check(&dir, false)),
            [State::Warning, State::Warning]
        );
        mode(&database, 0o400);
        mode(&dir, 0o700);
        assert_eq!(states(&check(&dir, false)), [State::Ok, State::Problem]);
        fs::remove_file(&database).unwrap();
        fs::create_dir(&database).unwrap();
        assert_eq!(states(&check(&dir, false)), [State::Ok, State::Problem]);
        assert_eq!(
            states(&check(&outer.path().join("data/qwarden.db/x/y"), false)),
            [State::Ok]
        );
    }

    #[test]
    fn a_lock_counts_while_somebody_holds_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(LOCK);
        assert!(!is_held(&path));
        let file = File::create(&path).unwrap();
        assert!(!is_held(&path), "left over");
        file.lock().unwrap();
        assert!(is_held(&path));
        drop(file);
        assert!(!is_held(&path));
    }

    #[test]
    fn a_clock_may_not_run_behind_what_it_has_written() {
        let now = YOUNGEST_MS + 10_000_000;
        for (at, newest, state) in [
            (now, None, State::Ok),
            (now, Some(now), State::Ok),
            (now, Some(now + SLACK_MS), State::Ok),
            (now, Some(now + SLACK_MS + 1), State::Problem),
            (YOUNGEST_MS - 1, None, State::Problem),
        ] {
            assert_eq!(judged(at, newest).state, state, "{at} {newest:?}");
        }
    }
}
