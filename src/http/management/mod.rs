//! :3002: seeing and steering the gateway.

pub(crate) mod credentials;
#[cfg(feature = "fault-injection")]
pub(crate) mod fault;
pub(crate) mod health;
pub(crate) mod import;
pub(crate) mod providers;
pub(crate) mod proxy;
pub(crate) mod requests;
pub(crate) mod sessions;
pub(crate) mod settings;
pub(crate) mod supervision;
