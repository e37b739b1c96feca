//! What OpenAI clients call, on :3001 and :3000.

pub(crate) mod about;
pub(crate) mod asking;
pub(crate) mod chat;
pub(crate) mod messages;
pub(crate) mod models;
pub(crate) mod ollama;
pub(crate) mod passing;
pub(crate) mod qwen;
pub(crate) mod responses;
