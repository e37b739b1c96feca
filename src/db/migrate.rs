//! From whatever schema a file has to the current one: all or nothing, after a backup copy (R7).

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::backup::Backup;
use rusqlite::{Connection, TransactionBehavior};

use crate::db::error::DbError;
use crate::db::files;
use crate::db::instance::BACKUPS;

/// The version of `schema.sql`. Kept in a file as `user_version`.
pub(crate) const SCHEMA_VERSION: i64 = 6;

const CURRENT: Schema<'_> = Schema {
    version: SCHEMA_VERSION,
    sql: include_str!("../../schema.sql"),
    steps: &[
        Step {
            from: 1,
            to: 2,
            sql: include_str!("migrate/v2.sql"),
        },
        Step {
            from: 2,
            to: 3,
            sql: include_str!("migrate/v3.sql"),
        },
        Step {
            from: 3,
            to: 4,
            sql: include_str!("migrate/v4.sql"),
        },
        Step {
            from: 4,
            to: 5,
            sql: include_str!("migrate/v5.sql"),
        },
        Step {
            from: 5,
            to: 6,
            sql: include_str!("migrate/v6.sql"),
        },
    ],
};

const USER_TABLES: &str = "SELECT count(*) FROM sqlite_schema";

/// What the opening of a file changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Migrated {
    /// 0 for a file that was empty.
    pub(crate) from: i64,
    pub(crate) to: i64,
    /// The copy from before, when an older file was lifted.
    pub(crate) backup: Option<PathBuf>,
}

/// One change of the schema.
struct Step<'a> {
    from: i64,
    to: i64,
    sql: &'a str,
}

/// A schema, and how older files become it.
struct Schema<'a> {
    version: i64,
    sql: &'a str,
    steps: &'a [Step<'a>],
}

/// Brings the file behind `conn`, which lies at `database`, to the current schema. `now_ms` (Unix time) names the backup.
pub(crate) fn migrate(
    conn: &mut Connection,
    database: &Path,
    now_ms: i64,
) -> Result<Migrated, DbError> {
    migrate_with(conn, &CURRENT, database, now_ms)
}

/// Refuses a file of a newer qwarden. To be asked before anything is written, a journal mode included.
pub(crate) fn refuse_newer(conn: &Connection) -> Result<(), DbError> {
    match user_version(conn)? {
        found if found > SCHEMA_VERSION => Err(DbError::NewerSchema {
            found,
            known: SCHEMA_VERSION,
        }),
        _ => Ok(()),
    }
}

fn migrate_with(
    conn: &mut Connection,
    schema: &Schema<'_>,
    database: &Path,
    now_ms: i64,
) -> Result<Migrated, DbError> {
    let from = user_version(conn)?;
    let to = schema.version;
    let unchanged = Migrated {
        from,
        to,
        backup: None,
    };
    match from {
        _ if from == to => Ok(unchanged),
        _ if from > to => Err(DbError::NewerSchema {
            found: from,
            known: to,
        }),
        0 => {
            create(conn, schema)?;
            Ok(unchanged)
        }
        _ => {
            let steps = steps_from(from, schema)?;
            let backup = back_up(conn, database, from, now_ms)?;
            if let Err(error) = run_steps(conn, &steps, to) {
                // The file is as it was; a copy per failing start would fill the disk.
                let _ = fs::remove_file(&backup);
                return Err(error);
            }
            Ok(Migrated {
                backup: Some(backup),
                ..unchanged
            })
        }
    }
}

fn user_version(conn: &Connection) -> Result<i64, DbError> {
    Ok(conn.pragma_query_value(None, "user_version", |row| row.get(0))?)
}

fn create(conn: &mut Connection, schema: &Schema<'_>) -> Result<(), DbError> {
    let transaction = conn.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let objects: i64 = transaction.query_row(USER_TABLES, [], |row| row.get(0))?;
    if objects > 0 {
        return Err(DbError::Invalid(
            "the file belongs to another program; import it instead".into(),
        ));
    }
    transaction.execute_batch(schema.sql)?;
    transaction.pragma_update(None, "user_version", schema.version)?;
    Ok(transaction.commit()?)
}

/// The steps that lead from the version `from` to the current one, in order.
fn steps_from<'a>(from: i64, schema: &'a Schema<'_>) -> Result<Vec<&'a Step<'a>>, DbError> {
    let mut steps = Vec::new();
    let mut reached = from;
    while reached != schema.version {
        let Some(step) = schema
            .steps
            .iter()
            .find(|step| step.from == reached && step.to > reached)
        else {
            return Err(DbError::Invalid(format!(
                "no way leads from its schema version {reached} to ours"
            )));
        };
        steps.push(step);
        reached = step.to;
    }
    Ok(steps)
}

fn run_steps(conn: &mut Connection, steps: &[&Step<'_>], to: i64) -> Result<(), DbError> {
    // A step that rebuilds a table would otherwise cascade into its children; within a transaction it cannot be turned
    // off, and `foreign_key_check` makes up for it.
    let enforced: bool = conn.pragma_query_value(None, "foreign_keys", |row| row.get(0))?;
    conn.pragma_update(None, "foreign_keys", false)?;
    let outcome = run_in_transaction(conn, steps, to);
    conn.pragma_update(None, "foreign_keys", enforced)?;
    outcome
}

fn run_in_transaction(conn: &mut Connection, steps: &[&Step<'_>], to: i64) -> Result<(), DbError> {
    let transaction = conn.transaction_with_behavior(TransactionBehavior::Immediate)?;
    for step in steps {
        transaction.execute_batch(step.sql)?;
    }
    let dangling = transaction
        .prepare("PRAGMA foreign_key_check")?
        .exists([])?;
    if dangling {
        return Err(DbError::Unreadable(
            "rows refer to rows that do not exist".into(),
        ));
    }
    transaction.pragma_update(None, "user_version", to)?;
    Ok(transaction.commit()?)
}

/// Copies the file beside itself, complete or not at all.
fn back_up(conn: &Connection, database: &Path, from: i64, now_ms: i64) -> Result<PathBuf, DbError> {
    let unusable = |error: io::Error| match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => DbError::Full,
        kind => DbError::Io(format!("no backup could be made: {kind}")),
    };
    let folder = database.parent().unwrap_or(Path::new(".")).join(BACKUPS);
    files::create_private_dir(&folder).map_err(unusable)?;
    let backup = folder.join(format!("qwarden-v{from}-{now_ms}.db"));
    let partial = backup.with_extension("partial");
    files::ensure_private_file(&partial).map_err(unusable)?;
    if let Err(error) = copy(conn, &partial) {
        let _ = fs::remove_file(&partial);
        return Err(error);
    }
    fs::rename(&partial, &backup).map_err(unusable)?;
    Ok(backup)
}

fn copy(conn: &Connection, to: &Path) -> Result<(), DbError> {
    const PAGES_PER_STEP: i32 = 4096;
    let mut target = Connection::open(to)?;
    Backup::new(conn, &mut target)?.run_to_completion(PAGES_PER_STEP, Duration::ZERO, None)?;
    target.close().map_err(|(_, error)| error.into())
}

#[cfg(test)]
mod tests;
