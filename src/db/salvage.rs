//! What can still be read of a database that was set aside: history, copied into the new one a piece at a time.
//!
//! A piece is read beside serving and stored like any write, together with how far it came. So a crash repeats no piece
//! and leaves none out, and nobody waits for longer than one.

use std::path::Path;

use rusqlite::config::DbConfig;
use rusqlite::types::Value as Sql;
use rusqlite::{Connection, OpenFlags, Row, ToSql, params_from_iter};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::db::error::DbError;
use crate::db::histogram::Histogram;
use crate::db::recovery;
use crate::db::snapshot::columns;

/// Bytes of a piece; one row may be longer.
const PIECE: usize = 1 << 20;

const INTERRUPT: &str =
    "UPDATE requests SET status = 'interrupted' WHERE status = 'in_progress' AND timestamp < ?1";

/// A table that is copied, and how its rows are told apart.
struct Table {
    name: &'static str,
    order: Order,
    /// The columns by which sums belong together; where a row is there already, both are added. Else the new one counts.
    sums_by: &'static [&'static str],
}

/// The order in which a table lies in the file.
enum Order {
    Rowid,
    /// By the columns of `sums_by`.
    Key,
}

const fn rows(name: &'static str) -> Table {
    Table {
        name,
        order: Order::Rowid,
        sums_by: &[],
    }
}

const BY_MODEL: &[&str] = &["hour", "provider", "model"];

/// Those that others refer to come first. Left out: configuration, which the snapshot has, and what is only a cache.
const TABLES: [Table; 14] = [
    rows("sessions"),
    rows("session_turns"),
    rows("requests"),
    rows("attempts"),
    rows("responses"),
    rows("recordings"),
    rows("errors"),
    rows("activity"),
    rows("audit_log"),
    rows("actor_events"),
    Table {
        name: "usage_rollups",
        order: Order::Key,
        sums_by: BY_MODEL,
    },
    Table {
        name: "usage_latencies",
        order: Order::Key,
        sums_by: BY_MODEL,
    },
    Table {
        name: "usage_by_session",
        order: Order::Rowid,
        sums_by: &["session_id", "hour", "provider", "model"],
    },
    Table {
        name: "key_usage",
        order: Order::Key,
        sums_by: &["key_id", "day"],
    },
];

/// How far the copying has come: a table by its number, and the last row of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Position {
    table: usize,
    after: Value,
}

impl Position {
    pub(crate) fn is_end(&self) -> bool {
        self.table >= TABLES.len()
    }

    pub(crate) fn end() -> Self {
        Self {
            table: TABLES.len(),
            after: Value::Null,
        }
    }

    fn next_table(&self) -> Self {
        Self {
            table: self.table + 1,
            after: Value::Null,
        }
    }
}

/// Rows of one table, and where the next ones are. Has no `Debug`: rows hold bodies.
pub(crate) struct Piece {
    pub(super) from: Position,
    pub(super) to: Position,
    table: &'static str,
    columns: Vec<String>,
    rows: Vec<Vec<Sql>>,
    pub(super) bytes: usize,
    /// Places that could not be read.
    pub(super) unreadable: u64,
}

impl Piece {
    /// That nothing more can be had.
    pub(crate) fn end(from: Position) -> Self {
        Self {
            unreadable: 1,
            to: Position::end(),
            ..Self::empty(from)
        }
    }

    fn empty(from: Position) -> Self {
        Self {
            to: from.clone(),
            from,
            table: "",
            columns: Vec::new(),
            rows: Vec::new(),
            bytes: 0,
            unreadable: 0,
        }
    }

    pub(crate) fn to(&self) -> &Position {
        &self.to
    }
}

/// A database that was set aside.
pub(crate) struct Source {
    conn: Connection,
}

/// Why a reading ended.
enum Ended {
    /// There are no more rows.
    Table,
    /// It has as much as was asked for.
    Full,
    /// What comes next cannot be read.
    Broken,
}

impl Source {
    /// Opens the file for reading, its log included.
    pub(crate) fn open(path: &Path) -> Result<Self, DbError> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let conn = Connection::open_with_flags(path, flags)?;
        conn.execute_batch(
            "PRAGMA query_only = ON; PRAGMA trusted_schema = OFF; PRAGMA cell_size_check = ON; PRAGMA mmap_size = 0;
             -- Reads also what is shorter than it should be.
             PRAGMA writable_schema = ON; PRAGMA busy_timeout = 5000; PRAGMA cache_size = -1024;",
        )?;
        // It stays as it was found.
        conn.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
        Ok(Self { conn })
    }

    /// The next piece, of at most `most` rows. What cannot be read is passed over.
    pub(crate) fn next(&self, from: &Position, most: u32) -> Piece {
        let mut piece = Piece::empty(from.clone());
        let Some(table) = TABLES.get(from.table) else {
            return piece;
        };
        piece.table = table.name;
        let ended = match table.order {
            Order::Rowid => self.by_rowid(table, most, &mut piece),
            Order::Key => self.by_key(table, most, &mut piece),
        };
        match ended {
            Ok(Ended::Full) => {}
            Ok(Ended::Table) => piece.to = from.next_table(),
            Ok(Ended::Broken) | Err(_) if !piece.rows.is_empty() => {}
            Ok(Ended::Broken) | Err(_) => {
                piece.unreadable = 1;
                let after = from.after.as_i64().unwrap_or(0);
                piece.to = match table.order {
                    Order::Rowid => self.beyond(table.name, after).map_or_else(
                        || from.next_table(),
                        |found| Position {
                            table: from.table,
                            after: json!(found.saturating_sub(1)),
                        },
                    ),
                    Order::Key => from.next_table(),
                };
            }
        }
        piece
    }

    fn by_rowid(&self, table: &Table, most: u32, piece: &mut Piece) -> Result<Ended, DbError> {
        let sql = format!(
            "SELECT *, rowid FROM {} WHERE rowid >= ?1 ORDER BY rowid LIMIT ?2",
            table.name
        );
        // Not "greater than the last": that is looked for on the page of the last, which may be the broken one.
        let after = piece.from.after.as_i64();
        let first = after.map_or(i64::MIN, |after| after.saturating_add(1));
        self.read(&sql, &[&first, &most], most, piece, |_, row| {
            row.last().and_then(|last| match last {
                Sql::Integer(rowid) => Some(json!(rowid)),
                _ => None,
            })
        })
    }

    fn by_key(&self, table: &Table, most: u32, piece: &mut Piece) -> Result<Ended, DbError> {
        let key = table.sums_by.join(", ");
        let marks = vec!["?"; table.sums_by.len()].join(", ");
        let after: Vec<Sql> = match &piece.from.after {
            Value::Array(parts) => parts.iter().map(from_key).collect(),
            _ => Vec::new(),
        };
        let condition = if after.is_empty() {
            String::new()
        } else {
            format!("WHERE ({key}) > ({marks})")
        };
        let sql = format!(
            "SELECT *, 0 FROM {} {condition} ORDER BY {key} LIMIT {most}",
            table.name
        );
        let bound: Vec<&dyn ToSql> = after.iter().map(|value| value as &dyn ToSql).collect();
        let by = table.sums_by;
        self.read(&sql, &bound, most, piece, |columns, row| {
            let part = |name: &&str| {
                let at = columns.iter().position(|column| column == name)?;
                Some(to_key(row.get(at)?))
            };
            by.iter()
                .map(part)
                .collect::<Option<Vec<_>>>()
                .map(Value::Array)
        })
    }

    /// Reads rows into the piece as far as it goes. The last column only says where a row is.
    fn read(
        &self,
        sql: &str,
        bound: &[&dyn ToSql],
        most: u32,
        piece: &mut Piece,
        place: impl Fn(&[String], &[Sql]) -> Option<Value>,
    ) -> Result<Ended, DbError> {
        let mut statement = self.conn.prepare(sql)?;
        let names = statement.column_names();
        piece.columns = names.into_iter().map(str::to_owned).collect();
        let width = piece.columns.len();
        piece.columns.pop();
        let mut found = statement.query(bound)?;
        loop {
            let row = match found.next() {
                Ok(Some(row)) => row,
                Ok(None) => break,
                Err(_) => return Ok(Ended::Broken),
            };
            let Ok(mut values) = values(row, width) else {
                return Ok(Ended::Broken);
            };
            if let Some(after) = place(&piece.columns, &values) {
                piece.to.after = after;
            }
            values.pop();
            piece.bytes += values.iter().map(weight).sum::<usize>();
            piece.rows.push(values);
            if piece.bytes >= PIECE {
                break;
            }
        }
        let is_full =
            piece.bytes >= PIECE || piece.rows.len() >= usize::try_from(most).unwrap_or(usize::MAX);
        Ok(if is_full { Ended::Full } else { Ended::Table })
    }

    /// The first row behind a place that cannot be read: sought in doubling steps, then between the last two of them.
    fn beyond(&self, table: &str, after: i64) -> Option<i64> {
        let sql = format!("SELECT *, rowid FROM {table} WHERE rowid >= ?1 ORDER BY rowid LIMIT 1");
        let first_from = |from: i64| -> Result<Option<i64>, DbError> {
            let mut statement = self.conn.prepare_cached(&sql)?;
            let width = statement.column_count();
            let mut found = statement.query([from])?;
            let Some(row) = found.next()? else {
                return Ok(None);
            };
            values(row, width)?;
            Ok(Some(row.get(width - 1)?))
        };
        let (mut bad, mut step) = (after, 1_i64);
        let (mut good, mut found) = loop {
            let at = after.saturating_add(step);
            match first_from(at) {
                Ok(Some(found)) => break (at, found),
                Ok(None) => return None,
                Err(_) if at == i64::MAX => return None,
                Err(_) => bad = at,
            }
            step = step.saturating_mul(2);
        };
        while good - bad > 1 {
            let middle = bad + (good - bad) / 2;
            match first_from(middle) {
                Ok(Some(earlier)) => (good, found) = (middle, earlier),
                Ok(None) => return Some(found),
                Err(_) => bad = middle,
            }
        }
        Some(found)
    }
}

/// Stores a piece, unless that or another one was stored from there before. Returns how many rows are new, with the
/// place that says how far it came.
pub(super) fn apply(conn: &Connection, piece: &Piece) -> Result<usize, DbError> {
    let Some(mut recovered) = recovery::stored(conn)?.filter(|found| found.position == piece.from)
    else {
        return Ok(0);
    };
    let table = TABLES.iter().find(|table| table.name == piece.table);
    if let Some(table) = table.filter(|_| !piece.rows.is_empty()) {
        recovered.rows += store(conn, table, piece)?;
    }
    recovered.unreadable += piece.unreadable;
    recovered.position = piece.to.clone();
    if recovered.position.is_end() {
        conn.execute(INTERRUPT, [recovered.at])?;
        recovered.done = true;
    }
    recovery::put(conn, &recovered)?;
    Ok(1)
}

fn store(conn: &Connection, table: &Table, piece: &Piece) -> Result<u64, DbError> {
    let known = columns(conn, table.name)?;
    let taken: Vec<usize> = (0..piece.columns.len())
        .filter(|at| {
            piece
                .columns
                .get(*at)
                .is_some_and(|name| known.contains(name))
        })
        .collect();
    let names: Vec<&str> = taken
        .iter()
        .filter_map(|at| piece.columns.get(*at).map(String::as_str))
        .collect();
    let marks = vec!["?"; names.len()].join(", ");
    let sql = format!(
        "INSERT OR IGNORE INTO {} ({}) VALUES ({marks})",
        table.name,
        names.join(", ")
    );
    let mut insert = conn.prepare_cached(&sql)?;
    let mut stored = 0;
    for row in &piece.rows {
        let values: Vec<&Sql> = taken.iter().filter_map(|at| row.get(*at)).collect();
        match insert
            .execute(params_from_iter(values.iter()))
            .map_err(DbError::from)
        {
            Ok(0) if !table.sums_by.is_empty() => match add_up(conn, table, &names, &values) {
                Ok(()) => stored += 1,
                Err(error) if error.is_storage() => return Err(error),
                // A sum that its table does not take.
                Err(_) => {}
            },
            // It is there already: written by who goes on with what the old file began.
            Ok(0) => {}
            Ok(_) => stored += 1,
            Err(error) if error.is_storage() => return Err(error),
            // Its parent could not be read, or was there already under another number.
            Err(_) => {}
        }
    }
    Ok(stored)
}

/// Adds a row of sums to the one that is there.
fn add_up(
    conn: &Connection,
    table: &Table,
    names: &[&str],
    values: &[&Sql],
) -> Result<(), DbError> {
    let is_key = |name: &&str| table.sums_by.contains(name);
    let value_of = |name: &&str| {
        let at = names.iter().position(|column| column == name)?;
        values.get(at).copied()
    };
    let key: Vec<&Sql> = table.sums_by.iter().filter_map(value_of).collect();
    let sums: Vec<&str> = names.iter().copied().filter(|name| !is_key(name)).collect();
    let matches: Vec<String> = table
        .sums_by
        .iter()
        .map(|name| format!("{name} = ?"))
        .collect();
    let matches = matches.join(" AND ");
    let read = format!(
        "SELECT {} FROM {} WHERE {matches}",
        sums.join(", "),
        table.name
    );
    let there: Vec<Sql> = conn
        .prepare_cached(&read)?
        .query_row(params_from_iter(key.iter()), |row| {
            values_of(row, sums.len())
        })?;
    let added = there
        .iter()
        .zip(sums.iter().filter_map(value_of))
        .map(|(there, more)| sum(there, more));
    let set: Vec<String> = sums.iter().map(|name| format!("{name} = ?")).collect();
    let write = format!(
        "UPDATE {} SET {} WHERE {matches}",
        table.name,
        set.join(", ")
    );
    let bound: Vec<Sql> = added.chain(key.into_iter().cloned()).collect();
    conn.prepare_cached(&write)?
        .execute(params_from_iter(bound))?;
    Ok(())
}

fn sum(there: &Sql, more: &Sql) -> Sql {
    match (there, more) {
        (Sql::Integer(there), Sql::Integer(more)) => Sql::Integer(there.saturating_add(*more)),
        (Sql::Blob(there), Sql::Blob(more)) => {
            let mut both = Histogram::default();
            both.merge(there);
            both.merge(more);
            Sql::Blob(both.to_bytes())
        }
        _ => there.clone(),
    }
}

fn values(row: &Row<'_>, width: usize) -> Result<Vec<Sql>, DbError> {
    Ok(values_of(row, width)?)
}

fn values_of(row: &Row<'_>, width: usize) -> rusqlite::Result<Vec<Sql>> {
    (0..width).map(|column| row.get(column)).collect()
}

fn weight(value: &Sql) -> usize {
    8 + match value {
        Sql::Text(text) => text.len(),
        Sql::Blob(bytes) => bytes.len(),
        Sql::Null | Sql::Integer(_) | Sql::Real(_) => 0,
    }
}

fn to_key(value: &Sql) -> Value {
    match value {
        Sql::Integer(number) => json!(number),
        Sql::Text(text) => json!(text),
        _ => Value::Null,
    }
}

fn from_key(value: &Value) -> Sql {
    match value {
        Value::Number(number) => number.as_i64().map_or(Sql::Null, Sql::Integer),
        Value::String(text) => Sql::Text(text.clone()),
        _ => Sql::Null,
    }
}

#[cfg(test)]
mod tests;
