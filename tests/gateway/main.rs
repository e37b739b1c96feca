//! The gateway over loopback: a real listening gateway, a scripted upstream, a real database file.
#![expect(
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]
#![expect(
    clippy::disallowed_methods,
    reason = "a test's own tasks end with its runtime"
)]
#![expect(
    unreachable_pub,
    reason = "the support modules are shared by all others"
)]

mod support;

mod budgets;
mod cache;
mod changes;
mod cli;
mod completions;
mod contract;
mod dashboard;
mod dialects;
mod durability;
mod errors;
mod events;
mod explain;
mod exposure;
mod failover;
mod hedging;
mod history;
mod import;
mod layers;
mod lifecycle;
mod logs;
mod management;
mod metrics;
mod ollama;
mod operations;
mod passing;
mod playground;
mod qwen;
mod recordings;
mod responses;
mod same_user;
mod security;
mod service;
mod settings;
mod streams;
mod structured;
mod supervision;
mod terminal;
mod virtual_models;
