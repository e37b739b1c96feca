//! Table `recordings`: the raw bytes of an exchange with their times, packed.

use std::io::{self, Read};

use bytes::Bytes;
use rusqlite::{Connection, OptionalExtension, named_params};

use crate::db::error::DbError;
use crate::protocol::recording::{FORMAT, Recording};

/// Zstandard's fastest regular level, as for bodies.
const LEVEL: i32 = 1;
/// No recording unpacks to more: what a damaged file claims must not take the memory.
const MOST: u64 = 1 << 28;

const INSERT: &str = "
    INSERT INTO recordings (request_id, format, packed)
    SELECT id, :format, :packed FROM requests WHERE request_id = :request_id
        ON CONFLICT (request_id) DO NOTHING";

const DELETE: &str = "DELETE FROM recordings WHERE request_id = ?1";

const FIND: &str = "SELECT packed FROM recordings WHERE request_id = ?1";

/// A recording, ready to be stored. Has no `Debug`: bodies are never logged.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Packed(Vec<u8>);

impl Packed {
    /// Takes a few ms per MB, so it is not for the writer's thread.
    pub(crate) fn of(recording: Recording) -> Self {
        let bytes = recording.into_bytes();
        // Compression into memory has nothing to fail at.
        Self(zstd::bulk::compress(&bytes, LEVEL).unwrap_or_default())
    }

    /// Bytes in memory and in the file.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }
}

/// Adds the recording of an exchange, unless there is one.
pub(in crate::db) fn insert(
    conn: &Connection,
    request_id: &str,
    packed: &Packed,
) -> Result<(), DbError> {
    conn.prepare_cached(INSERT)?.execute(named_params! {
        ":request_id": request_id,
        ":format": FORMAT,
        ":packed": packed.0,
    })?;
    Ok(())
}

/// Removes the recording of an exchange: its texts are in it.
pub(in crate::db) fn delete(conn: &Connection, id: i64) -> Result<(), DbError> {
    conn.prepare_cached(DELETE)?.execute([id])?;
    Ok(())
}

/// The recording of the exchange with this number, still packed: unpacking it is no matter of the connection.
pub(crate) fn find(conn: &Connection, id: i64) -> Result<Option<Packed>, DbError> {
    let mut statement = conn.prepare_cached(FIND)?;
    let found = statement
        .query_row([id], |row| row.get("packed"))
        .optional()?;
    Ok(found.map(Packed))
}

/// What [`Packed::of`] packed.
pub(crate) fn unpack(packed: &Packed) -> Result<Recording, DbError> {
    let damaged = |why: String| DbError::Unreadable(format!("a recording cannot be read: {why}"));
    let bytes = unpacked(&packed.0).map_err(|error| damaged(error.to_string()))?;
    Recording::from_bytes(&Bytes::from(bytes)).map_err(|error| damaged(error.to_string()))
}

fn unpacked(packed: &[u8]) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    zstd::stream::read::Decoder::new(packed)?
        .take(MOST)
        .read_to_end(&mut bytes)?;
    Ok(bytes)
}
