//! The rows of the file, in chunks: read in the order of their numbers, a table after those it refers to.

use std::collections::{BTreeMap, HashMap};

use crate::db::error::DbError;
use crate::db::import::cells::Cells;
use crate::db::import::report::MOST_REASONS;
use crate::db::import::rows::{self, Wanted};
use crate::db::import::source::{Source, damaged};
use crate::db::import::{
    CONFIGS, Content, ImportChunk, ImportRows, LOGINS, OLDEST_LOG, PROVIDERS, Piece, REQUESTS,
};
use crate::db::providers::{ConfigRow, ProviderRow};

/// Rows and bytes of one chunk: so many that a commit is worth it, so few that no other write waits long.
const CHUNK_ROWS: u32 = 500;
const CHUNK_BYTES: usize = 4 << 20;

/// Takes a part of the file; false when no more is wanted.
type Deliver<'a> = dyn FnMut(Piece) -> bool + 'a;

/// What came of some rows, besides those that are good.
#[derive(Default)]
struct Walked {
    found: u64,
    bytes: usize,
    skipped: u64,
    reasons: Vec<String>,
}

impl Walked {
    fn skip(&mut self, reason: String) {
        self.skipped += 1;
        if self.reasons.len() < MOST_REASONS {
            self.reasons.push(reason);
        }
    }

    fn piece(self, table: &'static str, rows: Option<ImportRows>) -> Piece {
        let bytes = self.bytes;
        Piece {
            table,
            found: self.found,
            skipped: self.skipped,
            reasons: self.reasons,
            content: rows.map_or(Content::Nothing, |rows| {
                Content::Rows(ImportChunk { rows, bytes })
            }),
        }
    }
}

impl Source {
    /// Gives out the whole file, a table after those its rows refer to. `now_ms` (Unix time) tells which login still
    /// is one, and stands in for times that are lost.
    pub(crate) fn read(&self, now_ms: i64, deliver: &mut Deliver<'_>) -> Result<(), DbError> {
        self.read_all(now_ms, deliver).map(drop).map_err(damaged)
    }

    fn read_all(&self, now: i64, deliver: &mut Deliver<'_>) -> Result<bool, DbError> {
        Ok(self.providers(now, deliver)?
            && self.simple(
                &rows::MODELS_WANTED,
                |c| rows::model(c, now),
                ImportRows::Models,
                deliver,
            )?
            && self.simple(
                &rows::LINKS_WANTED,
                |c| rows::link(c, now),
                ImportRows::Links,
                deliver,
            )?
            && self.simple(
                &rows::SETTINGS_WANTED,
                |c| rows::setting(c, now),
                ImportRows::Settings,
                deliver,
            )?
            && self.simple(
                &rows::SESSIONS_WANTED,
                |c| rows::session(c, now),
                ImportRows::Sessions,
                deliver,
            )?
            && self.simple(
                &rows::REQUESTS_WANTED,
                |c| rows::request(c, now),
                ImportRows::Requests,
                deliver,
            )?
            && self.simple(
                &rows::RESPONSES_WANTED,
                |c| rows::response(c, now),
                ImportRows::Responses,
                deliver,
            )?
            && self.simple(
                &rows::ERRORS_WANTED,
                |c| rows::error(c, now),
                ImportRows::Errors,
                deliver,
            )?
            && self.logins(now, deliver)?
            && self.oldest_log(deliver)?)
    }

    /// A table whose rows stand for themselves.
    fn simple<T>(
        &self,
        wanted: &Wanted,
        convert: impl Fn(&Cells<'_>) -> Result<T, String>,
        wrap: fn(Vec<T>) -> ImportRows,
        deliver: &mut Deliver<'_>,
    ) -> Result<bool, DbError> {
        self.walk(wanted, convert, &mut |rows, walked| {
            deliver(walked.piece(wanted.table, Some(wrap(rows))))
        })
    }

    /// Each provider with its configuration.
    fn providers(&self, now: i64, deliver: &mut Deliver<'_>) -> Result<bool, DbError> {
        let mut configs: HashMap<String, BTreeMap<String, ConfigRow>> = HashMap::new();
        let mut faulty = Walked::default();
        self.walk(&rows::CONFIGS_WANTED, rows::config, &mut |rows, walked| {
            faulty.found += walked.skipped;
            faulty.skipped += walked.skipped;
            faulty.reasons.extend(walked.reasons);
            for (provider, row) in rows {
                configs
                    .entry(provider)
                    .or_default()
                    .insert(row.key.clone(), row);
            }
            true
        })?;
        let mut goes_on = self.walk(
            &rows::PROVIDERS_WANTED,
            |cells| rows::provider(cells, now),
            &mut |rows, walked| {
                let one = |row: ProviderRow| {
                    let config = configs.remove(&row.id).unwrap_or_default();
                    Walked {
                        found: 1,
                        bytes: walked.bytes,
                        ..Walked::default()
                    }
                    .piece(
                        PROVIDERS,
                        Some(ImportRows::Provider(
                            Box::new(row),
                            config.into_values().collect(),
                        )),
                    )
                };
                let goes_on = rows.into_iter().map(one).all(&mut *deliver);
                let unusable = Walked {
                    found: walked.skipped,
                    ..walked
                };
                goes_on && (unusable.found == 0 || deliver(unusable.piece(PROVIDERS, None)))
            },
        )?;
        for (provider, rows) in configs {
            for key in rows.into_keys() {
                faulty.found += 1;
                faulty.skip(format!("`{key}`: there is no provider `{provider}`"));
            }
        }
        if goes_on && faulty.found > 0 {
            goes_on = deliver(faulty.piece(CONFIGS, None));
        }
        Ok(goes_on)
    }

    /// The newest login that has not expired: the older program used one.
    fn logins(&self, now: i64, deliver: &mut Deliver<'_>) -> Result<bool, DbError> {
        let mut total = Walked::default();
        let mut newest = None;
        self.walk(
            &rows::LOGINS_WANTED,
            |cells| rows::login(cells, now),
            &mut |rows, walked| {
                total.found += walked.found;
                total.skipped += walked.skipped;
                total.reasons.extend(walked.reasons);
                for row in rows {
                    if newest.replace(row).is_some() {
                        total.skip("a newer login took its place".into());
                    }
                }
                true
            },
        )?;
        if total.found == 0 {
            return Ok(true);
        }
        let piece = total.piece(LOGINS, None);
        Ok(deliver(Piece {
            content: newest.map_or(Content::Nothing, Content::Login),
            ..piece
        }))
    }

    /// The log of its first layout, whose columns are not known: only told of.
    fn oldest_log(&self, deliver: &mut Deliver<'_>) -> Result<bool, DbError> {
        if !self.tables.contains_key(OLDEST_LOG) {
            return Ok(true);
        }
        let count: i64 = self
            .conn
            .query_row("SELECT count(*) FROM request_logs", [], |row| row.get(0))?;
        let count = u64::try_from(count).unwrap_or_default();
        Ok(count == 0
            || deliver(Piece {
                table: OLDEST_LOG,
                found: count,
                skipped: count,
                reasons: vec![
                    "a log of the first layout; start a newer release of the program once, which converts it".into(),
                ],
                content: Content::Nothing,
            }))
    }

    /// Reads a table chunk by chunk. One that is not there has no rows.
    fn walk<T>(
        &self,
        wanted: &Wanted,
        convert: impl Fn(&Cells<'_>) -> Result<T, String>,
        emit: &mut dyn FnMut(Vec<T>, Walked) -> bool,
    ) -> Result<bool, DbError> {
        let Some(sql) = self.select(wanted) else {
            return Ok(true);
        };
        let mut statement = self.conn.prepare(&sql)?;
        let mut after = i64::MIN;
        loop {
            let mut rows = statement.query((after, CHUNK_ROWS))?;
            let (mut good, mut walked) = (Vec::new(), Walked::default());
            while let Some(row) = rows.next()? {
                after = row.get("row_number")?;
                walked.found += 1;
                let cells = Cells(row);
                walked.bytes += cells.bytes();
                match convert(&cells) {
                    Ok(row) => good.push(row),
                    Err(reason) => walked.skip(reason),
                }
                if walked.bytes > CHUNK_BYTES {
                    break;
                }
            }
            if walked.found == 0 {
                return Ok(true);
            }
            if !emit(good, walked) {
                return Ok(false);
            }
        }
    }

    /// The query for the next rows after a number; columns that this version of the file lacks are NULL.
    fn select(&self, wanted: &Wanted) -> Option<String> {
        let there = self.tables.get(wanted.table)?;
        let own = wanted.columns.iter().map(|column| {
            if there.contains(*column) {
                format!("t.{column} AS {column}")
            } else {
                format!("NULL AS {column}")
            }
        });
        let requests = self.tables.get(REQUESTS);
        let can_join = there.contains("request_id")
            && requests.is_some_and(|columns| {
                ["id", "request_id", "model"]
                    .iter()
                    .all(|column| columns.contains(*column))
            });
        let joined = wanted.through_request.iter().map(|(expression, name)| {
            if can_join {
                (*expression).to_owned()
            } else {
                format!("NULL AS {name}")
            }
        });
        let columns: Vec<String> = own.chain(joined).collect();
        Some(format!(
            "SELECT t.rowid AS row_number, {} FROM {} t WHERE t.rowid > ?1 ORDER BY t.rowid LIMIT ?2",
            columns.join(", "),
            wanted.table
        ))
    }
}
