//! :3002: seeing and steering the gateway.

pub(crate) mod activity;
pub(crate) mod bodies;
pub(crate) mod changes;
pub(crate) mod conventions;
pub(crate) mod credentials;
pub(crate) mod docs;
pub(crate) mod events;
pub(crate) mod export;
#[cfg(feature = "fault-injection")]
pub(crate) mod fault;
pub(crate) mod fields;
pub(crate) mod health;
pub(crate) mod import;
pub(crate) mod models;
pub(crate) mod openapi;
pub(crate) mod providers;
pub(crate) mod proxy;
pub(crate) mod recordings;
pub(crate) mod requests;
pub(crate) mod responses;
pub(crate) mod retention;
pub(crate) mod sessions;
pub(crate) mod settings;
pub(crate) mod stats;
pub(crate) mod supervision;
