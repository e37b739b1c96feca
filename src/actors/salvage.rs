//! Copies what can still be read of a database that was set aside into the one that took its place.
//!
//! Not an actor: how far it has come stands in the database, so whoever goes on goes on from there.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::actors::database::{Database, StoreError};
use crate::actors::pace::Pace;
use crate::db::ops::{WriteOp, Written};
use crate::db::recovery::Recovered;
use crate::db::salvage::{Piece, Source};
use crate::limits::database::{SALVAGE_AGAIN, SALVAGE_TOLD};

/// Salvages whenever there is something to, until it is dropped. `path` is the database's.
pub(crate) async fn run(database: Database, path: PathBuf) {
    let mut recovered = database.recovered();
    loop {
        let now = recovered.borrow_and_update().clone();
        if let Some(now) = now.filter(|now| !now.done) {
            match salvage(&database, &path, &now).await {
                Ok(()) => {}
                Err(error) => {
                    tracing::warn!(%error, "salvaging is interrupted");
                    tokio::time::sleep(SALVAGE_AGAIN).await;
                    // Whatever serves now says where to go on.
                    let _ = database.recovery_went_on().await;
                    continue;
                }
            }
        }
        if recovered.changed().await.is_err() {
            return;
        }
    }
}

async fn salvage(database: &Database, path: &Path, found: &Recovered) -> Result<(), StoreError> {
    if let Some(rescue) = database.take_rescue()
        && let Err(error) = rescue.copy().await
    {
        tracing::warn!(%error, "what was lost could not be copied whole");
    }
    let places = found.kept.iter().map(|name| path.with_file_name(name));
    let source = places.into_iter().find(|place| place.is_file());
    let opened = match source {
        Some(place) => blocking(move || Source::open(&place)).await.ok(),
        None => None,
    };
    let mut position = found.position.clone();
    let Some(mut source) = opened else {
        store(database, Piece::end(position)).await?;
        database.recovery_went_on().await?;
        return Ok(());
    };
    let mut pace = Pace::new();
    let mut told = Instant::now();
    while !position.is_end() {
        let (at, most) = (position.clone(), pace.size);
        let (again, piece) = blocking_value(move || {
            let piece = source.next(&at, most);
            (source, piece)
        })
        .await?;
        source = again;
        position = piece.to().clone();
        let (is_stored, took) = store(database, piece).await?;
        if !is_stored {
            // Another file has taken this one's place meanwhile.
            break;
        }
        if told.elapsed() >= SALVAGE_TOLD {
            told = Instant::now();
            database.recovery_went_on().await?;
        }
        pace.rest(database, took).await;
    }
    if let Some(end) = database.recovery_went_on().await?.filter(|end| end.done) {
        tracing::info!(
            rows = end.rows,
            unreadable = end.unreadable,
            "what could be read of the earlier database was copied"
        );
    }
    Ok(())
}

/// Whether the piece was stored, and how long it held the writer.
async fn store(database: &Database, piece: Piece) -> Result<(bool, Duration), StoreError> {
    let op = WriteOp::Salvage(piece.into());
    let (written, took) = database.tend(op).await?;
    Ok((written == Written::Rows(1), took))
}

async fn blocking<R: Send + 'static>(
    job: impl FnOnce() -> Result<R, crate::db::error::DbError> + Send + 'static,
) -> Result<R, StoreError> {
    Ok(blocking_value(job).await??)
}

async fn blocking_value<R: Send + 'static>(
    job: impl FnOnce() -> R + Send + 'static,
) -> Result<R, StoreError> {
    let crashed = |_| crate::db::error::DbError::Other("the salvaging crashed".into());
    Ok(tokio::task::spawn_blocking(job).await.map_err(crashed)?)
}
