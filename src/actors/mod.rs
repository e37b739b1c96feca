//! State and lifecycles. Every actor has a typed handle; nobody outside builds its messages.

pub(crate) mod address;
pub(crate) mod backups;
pub(crate) mod behaviour;
pub(crate) mod binding;
pub(crate) mod credentials;
pub(crate) mod database;
pub(crate) mod events;
pub(crate) mod gateway;
pub(crate) mod import;
pub(crate) mod keys;
pub(crate) mod leases;
pub(crate) mod listener;
pub(crate) mod outbox;
pub(crate) mod pace;
pub(crate) mod ports;
pub(crate) mod pulse;
pub(crate) mod retention;
pub(crate) mod root;
pub(crate) mod router;
pub(crate) mod salvage;
pub(crate) mod sessions;
pub(crate) mod settings;
pub(crate) mod supervisor;
pub(crate) mod tree;
pub(crate) mod vitals;
