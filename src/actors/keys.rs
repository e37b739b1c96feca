//! The keys of clients: who may ask for completions, for which models, how often, for how much.
//!
//! Not an actor: the keys live in a watch channel above all of them, loaded once and again after each change, so that no
//! request waits for the database and nothing of it can crash. What was used with a key lies beside them: read once, then
//! counted as exchanges end, in step with table `key_usage`.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::sync::watch;

use crate::actors::database::{Database, StoreError};
use crate::clock::{now_ms, rfc3339};
use crate::db::keys::{self, KeyRow};
use crate::db::ops::{WriteOp, Written};
use crate::limits::actors::{RATE_PERIOD, USE_TOLD};
use crate::routing::budgets::{Spent, Used};
use crate::secrets::tokens::Hashed;
use crate::tasks::lock;

/// Checks and changes keys. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Keys {
    database: Database,
    sender: Arc<watch::Sender<Arc<Vec<Key>>>>,
    meters: Arc<Mutex<HashMap<String, Meter>>>,
    accounts: Arc<Mutex<HashMap<String, Account>>>,
}

/// What is used with one key. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Account {
    key: Arc<str>,
    used: Arc<Mutex<Used>>,
}

/// A key that may be used now.
#[derive(Clone)]
pub(crate) struct Admitted {
    pub(crate) row: Arc<KeyRow>,
    pub(crate) account: Account,
}

struct Key {
    row: Arc<KeyRow>,
    /// None when what is stored is none: then nothing matches it.
    hashed: Option<Hashed>,
}

/// What a key has used of its rate.
struct Meter {
    /// Requests that may still be made at once.
    left: f64,
    at: Instant,
    told: Option<Instant>,
}

/// Why a client is not let in.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NoKey {
    #[error("send an API key as `authorization: Bearer qw-...`")]
    Missing,
    #[error("this API key is not known here")]
    Unknown,
    #[error("this API key is disabled")]
    Disabled,
    #[error("this API key has expired")]
    Expired,
    #[error("this API key is over its {per_minute} requests per minute")]
    TooFast { per_minute: i64, after: Duration },
    #[error("this API key has used up its {what}; it can be used again from {}", rfc3339(*until))]
    Exhausted {
        what: String,
        /// Unix time, ms.
        until: i64,
        after: Duration,
    },
}

impl Keys {
    pub(crate) fn new(database: Database, rows: Vec<KeyRow>, used: HashMap<String, Used>) -> Self {
        let account = |(key, used): (String, Used)| (key.clone(), Account::new(&key, used));
        Self {
            database,
            sender: Arc::new(watch::channel(Arc::new(loaded(rows))).0),
            meters: Arc::default(),
            accounts: Arc::new(Mutex::new(used.into_iter().map(account).collect())),
        }
    }

    /// The key among `presented` that may be used now. `counts` says whether this is a request of its rate.
    pub(crate) fn admit(&self, presented: &[&str], counts: Counts) -> Result<Admitted, NoKey> {
        if presented.is_empty() {
            return Err(NoKey::Missing);
        }
        let keys = self.sender.borrow().clone();
        let row = keys
            .iter()
            .find(|key| presented.iter().any(|presented| key.is(presented)))
            .map(|key| key.row.clone())
            .ok_or(NoKey::Unknown)?;
        if row.disabled {
            return Err(NoKey::Disabled);
        }
        let now_ms = now_ms();
        if row.expires_at.is_some_and(|at| at <= now_ms) {
            return Err(NoKey::Expired);
        }
        let account = self.account(&row.id);
        if counts == Counts::Yes {
            account.check(&row, now_ms)?;
        }
        if self.use_it(&row, counts)? {
            let (id, at) = (row.id.clone(), now_ms);
            drop(self.database.record(WriteOp::KeyUsed { id, at }));
        }
        Ok(Admitted { row, account })
    }

    /// What was used with a key today and this month.
    pub(crate) fn used(&self, id: &str) -> Used {
        self.account(id).used(now_ms())
    }

    fn account(&self, id: &str) -> Account {
        let mut accounts = lock(&self.accounts);
        let account = accounts.entry(id.to_owned());
        account
            .or_insert_with(|| Account::new(id, Used::default()))
            .clone()
    }

    /// Takes one request off the key's rate. Says whether its use is to be stored.
    fn use_it(&self, row: &KeyRow, counts: Counts) -> Result<bool, NoKey> {
        let now = Instant::now();
        let mut meters = lock(&self.meters);
        let per_minute = row.rate_per_minute.filter(|_| counts == Counts::Yes);
        let full = per_minute.map_or(0.0, as_float);
        let meter = meters.entry(row.id.clone()).or_insert(Meter {
            left: full,
            at: now,
            told: None,
        });
        if let Some(per_minute) = per_minute {
            let per_second = full / RATE_PERIOD.as_secs_f64();
            let gained = now.duration_since(meter.at).as_secs_f64() * per_second;
            meter.left = (meter.left + gained).min(full);
            meter.at = now;
            if meter.left < 1.0 {
                let after = Duration::from_secs_f64((1.0 - meter.left) / per_second);
                return Err(NoKey::TooFast { per_minute, after });
            }
            meter.left -= 1.0;
        }
        let is_due = meter
            .told
            .is_none_or(|told| now.duration_since(told) >= USE_TOLD);
        if is_due {
            meter.told = Some(now);
        }
        Ok(is_due)
    }

    /// All keys, the oldest first.
    pub(crate) async fn all(&self) -> Result<Vec<KeyRow>, StoreError> {
        self.database.read(keys::all).await
    }

    /// Stores a key in place of the one with its id; in force when this returns.
    pub(crate) async fn put(&self, row: KeyRow) -> Result<(), StoreError> {
        lock(&self.meters).remove(&row.id);
        self.database.write(WriteOp::PutKey(Box::new(row))).await?;
        self.reload().await
    }

    /// Forgets a key, from the next request on. Returns whether there was one.
    pub(crate) async fn remove(&self, id: &str) -> Result<bool, StoreError> {
        let op = WriteOp::DeleteKey { id: id.to_owned() };
        let written = self.database.write(op).await?;
        self.reload().await?;
        lock(&self.meters).remove(id);
        lock(&self.accounts).remove(id);
        Ok(written != Written::Rows(0))
    }

    /// Puts what is stored in force.
    pub(crate) async fn reload(&self) -> Result<(), StoreError> {
        let rows = self.all().await?;
        self.sender.send_replace(Arc::new(loaded(rows)));
        Ok(())
    }
}

impl Account {
    fn new(key: &str, used: Used) -> Self {
        Self {
            key: key.into(),
            used: Arc::new(Mutex::new(used)),
        }
    }

    /// The key's id.
    pub(crate) fn key(&self) -> &str {
        &self.key
    }

    /// Adds what an exchange took that ended `at` (Unix ms).
    pub(crate) fn add(&self, at: i64, spent: &Spent) {
        lock(&self.used).add(at, spent);
    }

    fn used(&self, now: i64) -> Used {
        lock(&self.used).at(now)
    }

    fn check(&self, row: &KeyRow, now: i64) -> Result<(), NoKey> {
        let exhausted = lock(&self.used).exhausted(&row.budgets, now);
        exhausted.map_or(Ok(()), |exhausted| {
            let left = exhausted.until.saturating_sub(now);
            Err(NoKey::Exhausted {
                what: exhausted.what,
                until: exhausted.until,
                after: Duration::from_millis(u64::try_from(left).unwrap_or_default()),
            })
        })
    }
}

/// Whether a request counts for the rate and the budgets of its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Counts {
    Yes,
    No,
}

impl Key {
    /// What is shown of a key finds it; the hash says whether it is the one.
    fn is(&self, presented: &str) -> bool {
        presented.starts_with(&self.row.prefix)
            && self
                .hashed
                .as_ref()
                .is_some_and(|hashed| hashed.matches(presented))
    }
}

fn loaded(rows: Vec<KeyRow>) -> Vec<Key> {
    let load = |row: KeyRow| Key {
        hashed: Hashed::read(&row.hash),
        row: Arc::new(row),
    };
    rows.into_iter().map(load).collect()
}

/// A rate is checked to be small.
fn as_float(rate: i64) -> f64 {
    f64::from(i32::try_from(rate).unwrap_or(i32::MAX))
}
