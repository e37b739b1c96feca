//! Tables `api_keys` and `key_usage`: the keys of clients, as hashes, and what was used with them.

use std::collections::HashMap;

use rusqlite::{Connection, Row, named_params};

use crate::clock::{utc_day, utc_month};
use crate::db::error::DbError;
use crate::db::json;
use crate::routing::budgets::{Budgets, Spent, Used};

const ALL: &str = "
    SELECT id, name, prefix, hash, allowed_models, expires_at, disabled, rate_per_minute, tokens_per_day,
           tokens_per_month, cost_per_day_microusd, cost_per_month_microusd, created_at, updated_at, last_used_at
      FROM api_keys
     ORDER BY created_at, id";

/// Its last use is not this statement's to change.
const PUT: &str = "
    INSERT INTO api_keys (id, name, prefix, hash, allowed_models, expires_at, disabled, rate_per_minute, tokens_per_day,
                          tokens_per_month, cost_per_day_microusd, cost_per_month_microusd, created_at, updated_at)
    VALUES (:id, :name, :prefix, :hash, :allowed_models, :expires_at, :disabled, :rate_per_minute, :tokens_per_day,
            :tokens_per_month, :cost_per_day_microusd, :cost_per_month_microusd, :created_at, :updated_at)
        ON CONFLICT (id) DO UPDATE
       SET name = excluded.name, allowed_models = excluded.allowed_models, expires_at = excluded.expires_at,
           disabled = excluded.disabled, rate_per_minute = excluded.rate_per_minute,
           tokens_per_day = excluded.tokens_per_day, tokens_per_month = excluded.tokens_per_month,
           cost_per_day_microusd = excluded.cost_per_day_microusd,
           cost_per_month_microusd = excluded.cost_per_month_microusd,
           updated_at = excluded.updated_at";

const DELETE: &str = "DELETE FROM api_keys WHERE id = ?1";

const USED: &str =
    "UPDATE api_keys SET last_used_at = max(coalesce(last_used_at, 0), ?2) WHERE id = ?1";

/// A key that is gone has no usage to be kept.
const SPEND: &str = "
    INSERT INTO key_usage (key_id, day, requests, tokens, cost_microusd)
    SELECT id, :day, :requests, :tokens, :cost FROM api_keys WHERE id = :key
        ON CONFLICT (key_id, day) DO UPDATE
       SET requests = requests + excluded.requests, tokens = tokens + excluded.tokens,
           cost_microusd = cost_microusd + excluded.cost_microusd";

const USAGE: &str = "
    SELECT key_id, day, requests, tokens, cost_microusd FROM key_usage WHERE day >= ?1";

/// One key. Without `Debug`: its hash is not for logs.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct KeyRow {
    pub(crate) id: String,
    pub(crate) name: String,
    /// How the key begins.
    pub(crate) prefix: String,
    pub(crate) hash: String,
    /// None: every model.
    pub(crate) allowed_models: Option<Vec<String>>,
    /// Unix time, ms.
    pub(crate) expires_at: Option<i64>,
    pub(crate) disabled: bool,
    pub(crate) rate_per_minute: Option<i64>,
    pub(crate) budgets: Budgets,
    /// Unix time, ms.
    pub(crate) created_at: i64,
    /// Unix time, ms.
    pub(crate) updated_at: i64,
    /// Unix time, ms; about.
    pub(crate) last_used_at: Option<i64>,
}

/// All keys, the oldest first.
pub(crate) fn all(conn: &Connection) -> Result<Vec<KeyRow>, DbError> {
    let mut statement = conn.prepare_cached(ALL)?;
    let rows = statement.query_map([], key)?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Adds a key, or changes what it may do.
pub(super) fn put(conn: &Connection, row: &KeyRow) -> Result<(), DbError> {
    let allowed = row.allowed_models.as_ref().map(|list| json::strings(list));
    conn.prepare_cached(PUT)?.execute(named_params! {
        ":id": row.id,
        ":name": row.name,
        ":prefix": row.prefix,
        ":hash": row.hash,
        ":allowed_models": allowed,
        ":expires_at": row.expires_at,
        ":disabled": row.disabled,
        ":rate_per_minute": row.rate_per_minute,
        ":tokens_per_day": row.budgets.tokens_per_day,
        ":tokens_per_month": row.budgets.tokens_per_month,
        ":cost_per_day_microusd": row.budgets.cost_per_day_microusd,
        ":cost_per_month_microusd": row.budgets.cost_per_month_microusd,
        ":created_at": row.created_at,
        ":updated_at": row.updated_at,
    })?;
    Ok(())
}

/// Removes a key. Returns how many rows that took.
pub(super) fn delete(conn: &Connection, id: &str) -> Result<usize, DbError> {
    Ok(conn.prepare_cached(DELETE)?.execute([id])?)
}

/// Keeps when a key was used last.
pub(super) fn used(conn: &Connection, id: &str, at: i64) -> Result<usize, DbError> {
    Ok(conn.prepare_cached(USED)?.execute((id, at))?)
}

/// Adds what an exchange took that ended `at` (Unix ms). Not idempotent: the caller knows whether it was added before.
pub(super) fn spend(conn: &Connection, key: &str, at: i64, spent: &Spent) -> Result<(), DbError> {
    conn.prepare_cached(SPEND)?.execute(named_params! {
        ":key": key,
        ":day": utc_day(at).0,
        ":requests": spent.requests,
        ":tokens": spent.tokens,
        ":cost": spent.cost_microusd,
    })?;
    Ok(())
}

/// What was used with each key in the day and the month of `now` (Unix ms), by the key's id.
pub(crate) fn usage(conn: &Connection, now: i64) -> Result<HashMap<String, Used>, DbError> {
    let (today, month) = (utc_day(now).0, utc_month(now).0);
    let mut used = HashMap::new();
    let mut statement = conn.prepare_cached(USAGE)?;
    let mut rows = statement.query([month])?;
    while let Some(row) = rows.next()? {
        let spent = Spent {
            requests: row.get("requests")?,
            tokens: row.get("tokens")?,
            cost_microusd: row.get("cost_microusd")?,
        };
        let day: i64 = row.get("day")?;
        let nothing = || Used::of(now, Spent::default(), Spent::default());
        let key: &mut Used = used.entry(row.get("key_id")?).or_insert_with(nothing);
        key.month.spent.add(&spent);
        if day >= today {
            key.day.spent.add(&spent);
        }
    }
    Ok(used)
}

fn key(row: &Row<'_>) -> rusqlite::Result<KeyRow> {
    Ok(KeyRow {
        id: row.get("id")?,
        name: row.get("name")?,
        prefix: row.get("prefix")?,
        hash: row.get("hash")?,
        // What cannot be read allows nothing.
        allowed_models: row
            .get::<_, Option<String>>("allowed_models")?
            .map(|text| serde_json::from_str(&text).unwrap_or_default()),
        expires_at: row.get("expires_at")?,
        disabled: row.get("disabled")?,
        rate_per_minute: row.get("rate_per_minute")?,
        budgets: Budgets {
            tokens_per_day: row.get("tokens_per_day")?,
            tokens_per_month: row.get("tokens_per_month")?,
            cost_per_day_microusd: row.get("cost_per_day_microusd")?,
            cost_per_month_microusd: row.get("cost_per_month_microusd")?,
        },
        created_at: row.get("created_at")?,
        updated_at: row.get("updated_at")?,
        last_used_at: row.get("last_used_at")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::db::ops::WriteOp;
    use crate::db::testing::{self, sample_outcome, sample_request};

    /// 2026-11-29T12:00:00Z.
    const NOON: i64 = 1_795_953_600_000;
    const DAY: i64 = 86_400_000;

    #[test]
    fn usage_is_that_of_the_day_and_the_month_and_goes_with_its_key() {
        let conn = testing::database();
        conn.execute_batch(
            "INSERT INTO api_keys (id, name, prefix, hash, created_at, updated_at) VALUES ('k', 'K', 'qw-', 'h', 1, 1)",
        )
        .unwrap();
        let ends = [NOON - 40 * DAY, NOON - DAY, NOON, NOON + 1];
        for (number, at) in ends.into_iter().enumerate() {
            for key in ["k", "gone"] {
                let mut request = (*sample_request(&format!("{key}{number}"))).clone();
                request.key_id = Some(key.into());
                let mut outcome = sample_outcome(&format!("a{key}{number}"));
                outcome.finished_at = at;
                let op = WriteOp::FinishExchange {
                    request: request.into(),
                    outcome,
                };
                op.apply(&conn).unwrap();
                op.apply(&conn).unwrap();
            }
        }
        let used = usage(&conn, NOON + DAY / 4).unwrap();
        let spent = |requests| Spent {
            requests,
            tokens: 15 * requests,
            cost_microusd: 42 * requests,
        };
        assert_eq!(used.len(), 1);
        assert_eq!(used["k"], Used::of(NOON, spent(2), spent(3)));
        let tomorrow = usage(&conn, NOON + DAY).unwrap();
        assert_eq!(tomorrow["k"].day.spent, Spent::default());
        delete(&conn, "k").unwrap();
        assert!(usage(&conn, NOON).unwrap().is_empty());
    }
}
