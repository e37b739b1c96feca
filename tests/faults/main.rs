//! Promises of reliability, kept while things break: the real program as a process, a scripted upstream, a real file.
//!
//! `QWARDEN_SEED` repeats a random run, `QWARDEN_ROUNDS` says how often what is repeated is done, `QWARDEN_LONG` lets tests
//! take minutes and gigabytes, `QWARDEN_STREAMS` says how many streams are held, `QWARDEN_LOG` shows what the program logs,
//! `QWARDEN_BINARY` is another build of it to run.
//! `table` makes docs/reliability.md of a run.
#![expect(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test fails by panicking, and prints its seed"
)]
#![expect(
    clippy::disallowed_methods,
    reason = "a test's own tasks end with its runtime"
)]
#![expect(
    unreachable_pub,
    dead_code,
    reason = "the support modules are shared with tests/gateway"
)]
#![expect(
    clippy::cast_precision_loss,
    reason = "figures are rounded when they are told"
)]

mod support;

mod backups;
mod clients;
mod clock;
mod kills;
mod overload;
mod ruin;
mod starts;
mod stops;
mod storage;
mod storms;
mod upgrades;
mod upstreams;
