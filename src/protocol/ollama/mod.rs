//! Ollama's own API: its requests as chat requests, and chat completions as its answers.

pub(crate) mod answer;
pub(crate) mod catalogue;
mod content;
pub(crate) mod embedding;
pub(crate) mod request;
#[cfg(test)]
mod roundtrip;
