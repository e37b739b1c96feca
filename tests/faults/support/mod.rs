//! The program as a process in its own data directory, and what is done to it.

#[path = "../../support/binary.rs"]
pub mod binary;
pub mod dialects;
#[path = "../../support/figures.rs"]
pub mod figures;
pub mod process;
pub mod seeds;
pub mod service;
pub mod strace;
#[path = "../../support/talk.rs"]
mod talk;
#[path = "../../support/tls.rs"]
pub mod tls;
#[path = "../../support/upstream.rs"]
pub mod upstream;

pub use service::Service;
pub use talk::{Heard, PATIENCE, client, hear, read_cell, say, say_streamed};
