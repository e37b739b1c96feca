//! The wire formats: serde types and pure translations. No I/O, no clock, no runtime.

pub(crate) mod compare;
pub(crate) mod dialect;
pub(crate) mod ollama;
pub(crate) mod openai;
pub(crate) mod qwen;
pub(crate) mod recording;
pub(crate) mod schema;
pub(crate) mod sse;
pub(crate) mod tools;
