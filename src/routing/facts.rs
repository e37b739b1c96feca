//! What is known of a model: its context, what it can do, its price.

/// What is known of a model; none where nobody said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Facts {
    /// Tokens, question and answer together.
    pub(crate) context_length: Option<u64>,
    pub(crate) tools: Option<bool>,
    pub(crate) vision: Option<bool>,
    /// Answers by a JSON schema.
    pub(crate) structured: Option<bool>,
    /// It continues an assistant message that stands last.
    pub(crate) prefill: Option<bool>,
    pub(crate) price: Option<Price>,
}

/// Micro-dollars for a million tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Price {
    pub(crate) input: u64,
    pub(crate) output: u64,
}
