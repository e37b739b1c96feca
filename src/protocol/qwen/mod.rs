//! chat.qwen.ai's web chat: its requests, its stream, its refusals, and conversations as chains of hashes.

pub(crate) mod chain;
pub(crate) mod chats;
pub(crate) mod curl;
pub(crate) mod files;
pub(crate) mod models;
pub(crate) mod prompt;
pub(crate) mod refusal;
pub(crate) mod request;
pub(crate) mod stream;
