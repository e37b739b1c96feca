//! The import of an older program's database: one thread reads the file, the writer stores chunk by chunk.
//!
//! Not an actor: it owns nothing that must live on. An import that breaks off leaves whole chunks behind, and is simply
//! made again.

use std::path::Path;
use std::sync::Arc;

use tokio::sync::mpsc;

use crate::actors::database::{Database, StoreError};
use crate::actors::router::sealing;
use crate::clock::now_ms;
use crate::db::error::DbError;
use crate::db::import::report::{Report, Tally};
use crate::db::import::source::{Source, own_path};
use crate::db::import::{Content, ImportChunk, ImportRows, OldLogin, Piece, write};
use crate::db::ops::{WriteOp, Written};
use crate::secrets::Vault;

/// Chunks read ahead of the writer.
const AHEAD: usize = 1;

/// What an import is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    Store,
    /// Only tells what would be stored.
    Preview,
}

/// How far an import is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Progress {
    /// The table that is read.
    pub(crate) table: &'static str,
    /// Its rows so far.
    pub(crate) found: u64,
}

/// What an import found. The login is the caller's to store: it has to be sealed.
pub(crate) struct Imported {
    pub(crate) report: Report,
    pub(crate) login: Option<OldLogin>,
}

/// Reads the file at `path` and stores what is not there yet. [`DbError::NotImportable`] says what is wrong with it.
pub(crate) async fn import(
    database: &Database,
    vault: &Vault,
    path: &Path,
    effect: Effect,
    mut progress: impl FnMut(Progress),
) -> Result<Imported, StoreError> {
    let own = database.read(own_path).await?;
    let path = path.to_owned();
    let (sender, mut pieces) = mpsc::channel::<Piece>(AHEAD);
    // Ends by itself, at the latest when the other end of the channel is gone.
    let reading = tokio::task::spawn_blocking(move || {
        let source = Source::open(&path, &own)?;
        source.read(now_ms(), &mut |piece| sender.blocking_send(piece).is_ok())
    });
    let (mut report, mut login) = (Report::default(), None);
    while let Some(piece) = pieces.recv().await {
        report.read(&piece);
        let table = piece.table;
        match piece.content {
            Content::Nothing => {}
            Content::Login(found) => login = Some(found),
            Content::Rows(chunk) => {
                let chunk = Arc::new(sealed(vault, chunk)?);
                let tally = put(database, chunk.clone(), effect).await?;
                report.written(&chunk.rows, tally);
            }
        }
        let found = report.tables.get(table).map_or(0, |table| table.found);
        progress(Progress { table, found });
    }
    reading
        .await
        .unwrap_or_else(|_| Err(DbError::Other("the reading of the file crashed".into())))?;
    Ok(Imported { report, login })
}

fn sealed(vault: &Vault, chunk: ImportChunk) -> Result<ImportChunk, StoreError> {
    let ImportChunk { rows, bytes } = chunk;
    let rows = match rows {
        ImportRows::Provider(provider, config) => {
            let config = sealing::sealed(vault, &provider.id, config)?;
            ImportRows::Provider(provider, config)
        }
        rows => rows,
    };
    Ok(ImportChunk { rows, bytes })
}

async fn put(
    database: &Database,
    chunk: Arc<ImportChunk>,
    effect: Effect,
) -> Result<Tally, StoreError> {
    if effect == Effect::Preview {
        return database
            .read(move |conn| write::preview(conn, &chunk.rows))
            .await;
    }
    match database.write(WriteOp::Import(chunk)).await? {
        Written::Imported(tally) => Ok(tally),
        Written::Done | Written::Rows(_) | Written::Offered { .. } | Written::Removed(_) => {
            Ok(Tally::default())
        }
    }
}
