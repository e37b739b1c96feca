//! What can go wrong in the database, in the program's words instead of `SQLite`'s.

use rusqlite::ffi::{self, ErrorCode};

/// Why a read or a write did not happen. Messages carry neither SQL nor paths.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum DbError {
    /// Another row has this value already. Several columns are joined by `, `.
    #[error("a row of `{table}` with this `{column}` exists already")]
    Conflict { table: String, column: String },
    /// The row meant, or one it refers to, is not there.
    #[error("{what}{} does not exist", quoted(id))]
    Missing { what: &'static str, id: String },
    /// Somebody else holds the lock.
    #[error("the database is locked by another program")]
    Busy,
    #[error("the disk is full: free some space")]
    Full,
    #[error("the database may only be read")]
    ReadOnly,
    #[error("the database file cannot be read or written: {0}")]
    Io(String),
    /// `SQLite` met a page that makes no sense.
    #[error("the database file is damaged: {0}")]
    Corrupt(String),
    /// The file in use is no longer the one at its place.
    #[error("the database file is gone: {0}")]
    Lost(String),
    /// The newest of the file in use stands in a log that is no longer beside it.
    #[error("the database file is not whole: {0}")]
    LogLost(String),
    /// A value that was stored has a form it cannot have, in a file that is sound.
    #[error("what is stored makes no sense: {0}")]
    Unreadable(String),
    /// The connection's thread has ended and does not come back.
    #[error("the database connection has ended")]
    Closed,
    /// A value breaks a rule of its table.
    #[error("the database refuses a value: {0}")]
    Invalid(String),
    #[error(
        "the database has schema version {found}, this qwarden knows up to {known}; use the newer qwarden"
    )]
    NewerSchema { found: i64, known: i64 },
    /// A file that was named for an import. The text is for whoever named it.
    #[error("the file cannot be imported: {0}")]
    NotImportable(String),
    /// Where a backup was to go. The text is for whoever named it.
    #[error("the backup cannot be written: {0}")]
    Unwritable(String),
    /// A file that was to take the database's place. The text is for whoever named it.
    #[error("the file cannot be restored: {0}")]
    NotRestorable(String),
    #[error("the database failed: {0}")]
    Other(String),
}

impl DbError {
    /// Whether only a new connection helps.
    pub(crate) fn is_closed(&self) -> bool {
        matches!(self, Self::Closed)
    }

    /// Whether the cause lies outside the operation that met it, so that any other would fail as well.
    pub(crate) fn is_storage(&self) -> bool {
        matches!(
            self,
            Self::Busy
                | Self::Full
                | Self::ReadOnly
                | Self::Io(_)
                | Self::Corrupt(_)
                | Self::Lost(_)
                | Self::LogLost(_)
                | Self::Closed
        )
    }

    /// Whether connections that are still open see more than there is in the file's place.
    pub(crate) fn is_loss(&self) -> bool {
        matches!(self, Self::Lost(_) | Self::LogLost(_))
    }

    /// Whether another file has to take the database's place.
    pub(crate) fn is_ruin(&self) -> bool {
        matches!(self, Self::Corrupt(_) | Self::Lost(_) | Self::LogLost(_))
    }

    /// The stable code that clients and health see.
    pub(crate) fn code(&self) -> &'static str {
        match self {
            Self::Conflict { .. } => "conflict",
            Self::Missing { .. } => "not_found",
            Self::Busy => "storage_busy",
            Self::Full => "storage_full",
            Self::ReadOnly => "storage_readonly",
            Self::Invalid(_) => "invalid_value",
            Self::NotImportable(_) => "not_importable",
            Self::Unwritable(_) => "backup_unwritable",
            Self::NotRestorable(_) => "not_restorable",
            Self::Io(_)
            | Self::Corrupt(_)
            | Self::Lost(_)
            | Self::LogLost(_)
            | Self::Unreadable(_)
            | Self::Closed
            | Self::NewerSchema { .. }
            | Self::Other(_) => "storage_error",
        }
    }
}

impl From<rusqlite::Error> for DbError {
    fn from(error: rusqlite::Error) -> Self {
        match error {
            rusqlite::Error::SqliteFailure(failure, text) => {
                from_sqlite(failure, text.as_deref().unwrap_or_default())
            }
            // Its own text would quote the statement.
            rusqlite::Error::SqlInputError { error, .. } => from_sqlite(error, ""),
            rusqlite::Error::FromSqlConversionFailure(..)
            | rusqlite::Error::IntegralValueOutOfRange(..)
            | rusqlite::Error::Utf8Error(..)
            | rusqlite::Error::InvalidColumnType(..) => {
                Self::Unreadable("a value has an unexpected form".into())
            }
            rusqlite::Error::NulError(_) => Self::Invalid("a text contains a zero byte".into()),
            _ => Self::Other("a query does not fit the schema".into()),
        }
    }
}

/// `text` is `SQLite`'s; of it only names of tables and columns are let through.
fn from_sqlite(failure: ffi::Error, text: &str) -> DbError {
    let reason = || ffi::code_to_str(failure.extended_code).to_lowercase();
    match failure.extended_code {
        ffi::SQLITE_CONSTRAINT_UNIQUE
        | ffi::SQLITE_CONSTRAINT_PRIMARYKEY
        | ffi::SQLITE_CONSTRAINT_ROWID => conflict(text),
        ffi::SQLITE_CONSTRAINT_FOREIGNKEY => DbError::Missing {
            what: "a row that is referred to",
            id: String::new(),
        },
        ffi::SQLITE_CONSTRAINT_NOTNULL => {
            DbError::Invalid(format!("`{}` must be given", after_colon(text)))
        }
        ffi::SQLITE_READONLY_DBMOVED => DbError::Io("it was moved or deleted".into()),
        _ => match failure.code {
            ErrorCode::ConstraintViolation | ErrorCode::TypeMismatch => {
                DbError::Invalid("it is outside what its column allows".into())
            }
            ErrorCode::TooBig => DbError::Invalid("it is too large".into()),
            ErrorCode::DatabaseBusy
            | ErrorCode::DatabaseLocked
            | ErrorCode::FileLockingProtocolFailed => DbError::Busy,
            ErrorCode::DiskFull => DbError::Full,
            ErrorCode::ReadOnly | ErrorCode::PermissionDenied => DbError::ReadOnly,
            ErrorCode::SystemIoFailure | ErrorCode::CannotOpen | ErrorCode::NoLargeFileSupport => {
                DbError::Io(reason())
            }
            ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase => DbError::Corrupt(reason()),
            _ => DbError::Other(reason()),
        },
    }
}

/// Reads `UNIQUE constraint failed: provider_configs.provider_id, provider_configs.key`.
fn conflict(text: &str) -> DbError {
    let mut table = String::new();
    let mut columns = Vec::new();
    for name in after_colon(text).split(", ") {
        match name.split_once('.') {
            Some((of, column)) => {
                of.clone_into(&mut table);
                columns.push(column);
            }
            None => columns.push(name),
        }
    }
    DbError::Conflict {
        table,
        column: columns.join(", "),
    }
}

/// `SQLite` does not say which row a foreign key missed.
fn quoted(id: &str) -> String {
    if id.is_empty() {
        String::new()
    } else {
        format!(" `{id}`")
    }
}

fn after_colon(text: &str) -> &str {
    text.split_once(": ").map_or("", |(_, names)| names)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::db::testing;

    fn refusal(sql: &str) -> DbError {
        let conn = testing::database();
        conn.execute_batch(
            "INSERT INTO providers VALUES ('a', 'A', 'openai', 1, 0, NULL, 'user', 0, 1, 1);
             INSERT INTO models VALUES ('m', 'M', NULL, '[]', 1, 1), ('n', 'N', NULL, '[]', 1, 1);
             INSERT INTO provider_models VALUES (1, 'a', 'm', 1, NULL, 1, 1);",
        )
        .unwrap();
        conn.execute_batch(sql).unwrap_err().into()
    }

    fn conflict(table: &str, column: &str) -> DbError {
        DbError::Conflict {
            table: table.into(),
            column: column.into(),
        }
    }

    #[test]
    fn a_conflict_names_table_and_column() {
        let provider = |id: &str, name: &str| {
            refusal(&format!(
                "INSERT INTO providers VALUES ('{id}', '{name}', 'openai', 1, 0, NULL, 'user', 0, 1, 1)"
            ))
        };
        assert_eq!(provider("a", "B"), conflict("providers", "id"));
        assert_eq!(provider("b", "A"), conflict("providers", "name"));
        assert_eq!(
            refusal("INSERT INTO provider_models VALUES (2, 'a', 'm', 0, NULL, 1, 1)"),
            conflict("provider_models", "provider_id, model_id")
        );
        assert_eq!(
            refusal("INSERT INTO provider_models VALUES (2, 'a', 'n', 1, NULL, 1, 1)"),
            conflict("provider_models", "provider_id"),
            "a second default"
        );
    }

    #[test]
    fn broken_rules_are_invalid_values_and_missing_parents_are_missing() {
        for sql in [
            "UPDATE providers SET enabled = 2",
            "UPDATE providers SET enabled = 'yes'",
            "UPDATE providers SET origin = 'elsewhere'",
            "UPDATE providers SET name = NULL",
            "UPDATE models SET capabilities = '{}'",
            "UPDATE models SET capabilities = 'no json'",
        ] {
            assert!(matches!(refusal(sql), DbError::Invalid(_)), "{sql}");
        }
        let orphan = refusal("INSERT INTO provider_models VALUES (2, 'a', 'x', 0, NULL, 1, 1)");
        assert_eq!(orphan.code(), "not_found");
    }

    #[test]
    fn messages_quote_no_sql() {
        for sql in [
            "SELECT secret FROM nowhere",
            "UPDATE providers SET enabled = 2",
        ] {
            let message = refusal(sql).to_string();
            assert!(
                !message.contains("secret") && !message.contains(" IN "),
                "{message}"
            );
        }
    }

    #[test]
    fn codes_of_sqlite_become_the_codes_of_the_contract() {
        for (code, expected) in [
            (ffi::SQLITE_BUSY, "storage_busy"),
            (ffi::SQLITE_LOCKED, "storage_busy"),
            (ffi::SQLITE_FULL, "storage_full"),
            (ffi::SQLITE_READONLY, "storage_readonly"),
            (ffi::SQLITE_READONLY_DBMOVED, "storage_error"),
            (ffi::SQLITE_IOERR_FSYNC, "storage_error"),
            (ffi::SQLITE_CANTOPEN, "storage_error"),
            (ffi::SQLITE_NOTADB, "storage_error"),
            (ffi::SQLITE_NOMEM, "storage_error"),
        ] {
            let error =
                rusqlite::Error::SqliteFailure(ffi::Error::new(code), Some("at /home/me".into()));
            let error = DbError::from(error);
            assert_eq!(error.code(), expected, "{code}");
            assert!(!error.to_string().contains("/home"), "{error}");
        }
    }
}
