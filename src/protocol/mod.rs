//! The wire formats: serde types and pure translations. No I/O, no clock, no runtime.

pub(crate) mod anthropic;
pub(crate) mod compare;
pub(crate) mod dialect;
#[cfg(test)]
pub(crate) mod fuzz;
pub(crate) mod ollama;
pub(crate) mod openai;
pub(crate) mod qwen;
pub(crate) mod recording;
pub(crate) mod responses;
pub(crate) mod schema;
pub(crate) mod sse;
pub(crate) mod tools;
