//! Tool calls over plain text: tools rendered into a prompt, and calls read out of streamed text.
//!
//! What the texts look like is described in `reference/qwen-web-protocol.md`, section 7 and annex A6.

pub(crate) mod declared;
pub(crate) mod notation;
pub(crate) mod parser;
pub(crate) mod partial;
pub(crate) mod reading;
pub(crate) mod render;

mod block;
mod coerce;
mod fence;
mod lenient;
mod raw;
mod schema;
mod signature;
mod text;
