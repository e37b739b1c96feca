//! The configuration once more, in a small file beside the database: a ruined history never costs a user their set-up.
//!
//! Written before a change is acknowledged, so it is as new as what was told. Secrets in it are sealed as they are in the
//! tables. Made anew as a whole each time: configuration is small, and a file that is replaced is never half new.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use rusqlite::types::ValueRef;
use rusqlite::{Connection, params_from_iter};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::db::error::DbError;
use crate::db::files;
use crate::hex;
use crate::limits::database::BATCH_ROWS;

/// What is kept, parents before those that refer to them.
const TABLES: [&str; 10] = [
    "settings",
    "providers",
    "provider_configs",
    "models",
    "provider_models",
    "virtual_models",
    "virtual_targets",
    "credentials",
    "api_keys",
    OPERATIONS,
];
/// Of these a batch's worth: a change whose answer was lost with the file is repeated, and must be recognised.
const OPERATIONS: &str = "operations";
/// A blob stands as an object with this one member.
const BLOB: &str = "hex";

#[derive(Serialize, Deserialize)]
struct Snapshot {
    tables: Vec<Table>,
}

#[derive(Serialize, Deserialize)]
struct Table {
    name: String,
    columns: Vec<String>,
    rows: Vec<Vec<Value>>,
}

/// The snapshot's place, beside the database.
pub(super) fn place(database: &Path) -> PathBuf {
    database.with_extension("snapshot.json")
}

/// What is configured now.
pub(super) fn take(conn: &Connection) -> Result<Vec<u8>, DbError> {
    let mut tables = Vec::new();
    for name in TABLES {
        let newest = match name {
            OPERATIONS => format!(" ORDER BY seq DESC LIMIT {BATCH_ROWS}"),
            _ => String::new(),
        };
        let mut statement = conn.prepare_cached(&format!("SELECT * FROM {name}{newest}"))?;
        let columns: Vec<String> = statement
            .column_names()
            .into_iter()
            .map(str::to_owned)
            .collect();
        let width = columns.len();
        let rows = statement.query_map([], |row| {
            (0..width)
                .map(|column| row.get_ref(column).map(as_json))
                .collect()
        })?;
        tables.push(Table {
            name: name.to_owned(),
            rows: rows.collect::<Result<_, _>>()?,
            columns,
        });
    }
    serde_json::to_vec(&Snapshot { tables }).map_err(|error| DbError::Unreadable(error.to_string()))
}

/// Puts `bytes` in the place of the last snapshot.
pub(super) fn write(database: &Path, bytes: &[u8]) -> io::Result<()> {
    let place = place(database);
    let new = files::beside(&place, ".new");
    // What a crash left there is of no use.
    let _ = fs::remove_file(&new);
    let mut file = files::create_private_file(&new)?;
    file.write_all(bytes)?;
    file.sync_data()?;
    fs::rename(&new, &place)
}

/// Puts what the last snapshot keeps into an empty database. Returns how many rows that were; none when there is no
/// snapshot. What a later schema does not take is left out.
pub(super) fn restore(conn: &mut Connection, database: &Path) -> Result<Option<u64>, DbError> {
    let bytes = match fs::read(place(database)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        read => read.map_err(|error| DbError::Io(error.kind().to_string()))?,
    };
    let Ok(snapshot) = serde_json::from_slice::<Snapshot>(&bytes) else {
        tracing::error!("the snapshot of the configuration cannot be read");
        return Ok(Some(0));
    };
    let transaction = conn.transaction()?;
    let mut restored = 0;
    for name in TABLES {
        let Some(table) = snapshot.tables.iter().find(|table| table.name == name) else {
            continue;
        };
        let known = columns(&transaction, name)?;
        // Names come from a file: only those of the schema become SQL.
        let taken: Vec<usize> = (0..table.columns.len())
            .filter(|at| {
                table
                    .columns
                    .get(*at)
                    .is_some_and(|name| known.contains(name))
            })
            .collect();
        let named: Vec<&str> = taken
            .iter()
            .filter_map(|at| table.columns.get(*at).map(String::as_str))
            .collect();
        if named.is_empty() {
            continue;
        }
        let marks = vec!["?"; named.len()].join(", ");
        let sql = format!(
            "INSERT OR REPLACE INTO {name} ({}) VALUES ({marks})",
            named.join(", ")
        );
        let mut statement = transaction.prepare(&sql)?;
        for row in &table.rows {
            let values = taken
                .iter()
                .map(|at| row.get(*at).map_or(rusqlite::types::Value::Null, from_json));
            match statement
                .execute(params_from_iter(values))
                .map_err(DbError::from)
            {
                Ok(_) => restored += u64::from(name != OPERATIONS),
                Err(error) if error.is_storage() => return Err(error),
                Err(error) => {
                    tracing::warn!(table = name, %error, "a row of the snapshot is left out");
                }
            }
        }
    }
    transaction.commit()?;
    Ok(Some(restored))
}

/// The columns of a table of ours.
pub(super) fn columns(conn: &Connection, table: &str) -> Result<Vec<String>, DbError> {
    let mut statement = conn.prepare_cached("SELECT name FROM pragma_table_info(?1)")?;
    let names = statement.query_map([table], |row| row.get(0))?;
    Ok(names.collect::<Result<_, _>>()?)
}

fn as_json(value: ValueRef<'_>) -> Value {
    match value {
        ValueRef::Null => Value::Null,
        ValueRef::Integer(number) => json!(number),
        ValueRef::Real(number) => json!(number),
        ValueRef::Text(text) => json!(String::from_utf8_lossy(text)),
        ValueRef::Blob(bytes) => Value::Object(Map::from_iter([(
            BLOB.to_owned(),
            json!(hex::encode(bytes)),
        )])),
    }
}

fn from_json(value: &Value) -> rusqlite::types::Value {
    use rusqlite::types::Value as Sql;
    match value {
        Value::Number(number) => match (number.as_i64(), number.as_f64()) {
            (Some(whole), _) => Sql::Integer(whole),
            (None, Some(real)) => Sql::Real(real),
            (None, None) => Sql::Null,
        },
        Value::String(text) => Sql::Text(text.clone()),
        Value::Object(members) => members
            .get(BLOB)
            .and_then(Value::as_str)
            .and_then(hex::decode)
            .map_or(Sql::Null, Sql::Blob),
        Value::Null | Value::Bool(_) | Value::Array(_) => Sql::Null,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::db::ops::{WriteOp, Written};
    use crate::db::testing;

    #[test]
    fn what_is_configured_comes_back_as_it_was() {
        let dir = tempfile::tempdir().unwrap();
        let database = dir.path().join("qwarden.db");
        let conn = testing::database();
        conn.execute_batch(
            "INSERT INTO settings VALUES ('a', '{\"b\": 1}', 5);
             INSERT INTO providers VALUES ('p', 'P', 'openai', 1, -3, NULL, 'user', 0, 1, 2);
             INSERT INTO provider_configs VALUES (7, 'p', 'apiKey', 'sealed text', 1, 1, 1, 2);
             INSERT INTO models VALUES ('m', 'M', NULL, '[]', 1, 1);
             INSERT INTO provider_models VALUES (1, 'p', 'm', 1, NULL, 1, 1);
             INSERT INTO virtual_models VALUES ('v*', NULL, 'priority', 1, 1, 1);
             INSERT INTO virtual_targets VALUES ('v*', 0, 'p/m', 2);
             INSERT INTO credentials (id, label, kind, token, sealed, created_at, updated_at)
                    VALUES ('c', 'default', 'jwt', x'00ff10', 1, 1, 1);
             INSERT INTO api_keys (id, name, prefix, hash, created_at, updated_at) VALUES ('k', 'K', 'qw-', 'h', 1, 1);",
        )
        .unwrap();
        let before = take(&conn).unwrap();
        write(&database, &before).unwrap();
        let mut fresh = testing::database();
        assert_eq!(restore(&mut fresh, &database).unwrap(), Some(9));
        assert_eq!(take(&fresh).unwrap(), before);
        assert_eq!(
            restore(&mut testing::database(), &dir.path().join("other.db")).unwrap(),
            None
        );
    }

    #[test]
    fn a_change_that_is_repeated_after_the_loss_of_the_file_is_recognised() {
        let dir = tempfile::tempdir().unwrap();
        let database = dir.path().join("qwarden.db");
        let (provider, config) = testing::sample_provider("a");
        let create = WriteOp::CreateProvider {
            provider,
            config,
            operation: "op-1".into(),
        };
        let conn = testing::database();
        assert_eq!(create.apply(&conn), Ok(Written::Done));
        write(&database, &take(&conn).unwrap()).unwrap();
        let mut fresh = testing::database();
        restore(&mut fresh, &database).unwrap();
        assert_eq!(create.apply(&fresh), Ok(Written::Done));
    }

    #[test]
    fn a_snapshot_of_another_schema_is_taken_as_far_as_it_fits() {
        let dir = tempfile::tempdir().unwrap();
        let database = dir.path().join("qwarden.db");
        let odd = json!({"tables": [
            {"name": "settings", "columns": ["key", "gone; DROP TABLE providers", "value", "updated_at"],
             "rows": [["a", 1, "2", 3], ["b", 1, "no json", 3], ["c"]]},
            {"name": "nowhere", "columns": ["x"], "rows": [[1]]},
        ]});
        write(&database, odd.to_string().as_bytes()).unwrap();
        assert_eq!(
            restore(&mut testing::database(), &database).unwrap(),
            Some(1)
        );
        write(&database, b"no json").unwrap();
        assert_eq!(
            restore(&mut testing::database(), &database).unwrap(),
            Some(0)
        );
    }
}
