//! The database: schema, rows, queries and write operations.
//!
//! Synchronous functions on a [`Connection`](connections::Connection); only [`connections`] knows a runtime. Times and
//! ids come from the caller. Nothing above this module knows `SQLite`: failures leave it as [`error::DbError`].

pub(crate) mod activity;
pub(crate) mod audit;
pub(crate) mod backups;
pub(crate) mod body;
pub(crate) mod cache;
pub(crate) mod connections;
pub(crate) mod credentials;
pub(crate) mod days;
pub(crate) mod error;
pub(crate) mod files;
pub(crate) mod filter;
pub(crate) mod fold;
pub(crate) mod histogram;
pub(crate) mod history;
pub(crate) mod idempotency;
pub(crate) mod import;
pub(crate) mod instance;
mod json;
pub(crate) mod keys;
pub(crate) mod migrate;
pub(crate) mod models;
mod operations;
pub(crate) mod ops;
pub(crate) mod patch;
pub(crate) mod providers;
pub(crate) mod recordings;
pub(crate) mod recovery;
pub(crate) mod restore;
pub(crate) mod retention;
pub(crate) mod salvage;
pub(crate) mod sessions;
pub(crate) mod settings;
mod snapshot;
pub(crate) mod stats;
pub(crate) mod sums;
pub(crate) mod timings;
pub(crate) mod unwanted;
pub(crate) mod upkeep;
pub(crate) mod usage;
pub(crate) mod virtual_models;
mod watch;

#[cfg(feature = "measure")]
pub(crate) mod generated;
#[cfg(test)]
mod testing;
