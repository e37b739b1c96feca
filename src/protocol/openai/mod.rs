//! `OpenAI` chat completions: requests as clients send them, answers as upstreams send them.

pub(crate) mod answer;
pub(crate) mod build;
pub(crate) mod chunk;
pub(crate) mod completion;
pub(crate) mod continuation;
pub(crate) mod error;
pub(crate) mod functions;
mod lenient;
pub(crate) mod message;
pub(crate) mod normalise;
pub(crate) mod plain;
pub(crate) mod request;
pub(crate) mod restream;
pub(crate) mod structured;
pub(crate) mod texts;
pub(crate) mod tokens;
