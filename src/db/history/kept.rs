//! Exchanges that their clients may ask for again.

use rusqlite::{Connection, OptionalExtension, Row};

use crate::db::body;
use crate::db::error::DbError;

const KEPT: &str = "
    SELECT requests.request_id AS request_id, requests.timestamp AS timestamp, status, key_id, openai_request,
           json_extract(tags, '$.kept') AS kept, openai_response, responses.error AS error, error_code
      FROM requests
      LEFT JOIN responses ON responses.request_id = requests.id
     WHERE requests.request_id = ?1 AND json_type(tags, '$.kept') = 'object'";

/// A request with its answer so far. Has no `Debug`: bodies are never logged.
pub(crate) struct KeptExchange {
    pub(crate) request_id: String,
    /// Unix time, ms.
    pub(crate) timestamp: i64,
    pub(crate) status: String,
    /// The id of the key it came with.
    pub(crate) key_id: Option<String>,
    /// The chat request as JSON text, or a note that it was left out.
    pub(crate) request: String,
    pub(crate) kept: String,
    /// The chat completion as JSON text, or a note that it was left out.
    pub(crate) answer: Option<String>,
    pub(crate) error: Option<String>,
    pub(crate) error_code: Option<String>,
}

/// The exchange, where its client may ask for it.
pub(crate) fn find(conn: &Connection, request_id: &str) -> Result<Option<KeptExchange>, DbError> {
    let mut statement = conn.prepare_cached(KEPT)?;
    Ok(statement.query_row([request_id], from_row).optional()?)
}

fn from_row(row: &Row<'_>) -> rusqlite::Result<KeptExchange> {
    Ok(KeptExchange {
        request_id: row.get("request_id")?,
        timestamp: row.get("timestamp")?,
        status: row.get("status")?,
        key_id: row.get("key_id")?,
        request: body::text(row, "openai_request")?.unwrap_or_default(),
        kept: row.get("kept")?,
        answer: body::text(row, "openai_response")?,
        error: row.get("error")?,
        error_code: row.get("error_code")?,
    })
}
