//! qwarden: a resilient local gateway to language models.
//!
//! Three ports (a Qwen proxy, a router over many providers, a management API), one process, one SQLite database, and a
//! tree of actors that are restarted when they fail:
//!
//! ```text
//! root
//! ├─ database              the only door to SQLite
//! ├─ events                what happened, and a ring buffer of it
//! ├─ credentials           the Qwen logins
//! ├─ qwen-sessions         conversations and the chats that continue them
//! ├─ retention             what the history has outlived, and the words of its search
//! ├─ router                providers, models, route plans
//! ├─ gateway               what "start" and "stop" act on
//! │  ├─ listener-qwen      :3000
//! │  ├─ listener-router    :3001
//! │  └─ listener-ollama    the port of `ollama.port`, off by default
//! └─ listener-management   :3002
//! ```
//!
//! Modules, each importing only from those above it:

pub(crate) mod clock;
pub(crate) mod hex;
pub(crate) mod limits;
pub(crate) mod logs;
pub(crate) mod secrets;
pub(crate) mod settings;
pub(crate) mod sink;
pub(crate) mod tasks;

pub(crate) mod protocol;

pub(crate) mod providers;

pub(crate) mod routing;

pub(crate) mod db;

pub(crate) mod actors;
pub(crate) mod exchange;
pub(crate) mod http;

pub mod gateway;

#[cfg(feature = "measure")]
#[doc(hidden)]
pub mod measure;

pub mod cli;

#[cfg(test)]
mod fuzz;
