//! Anthropic's Messages: as a client speaks it (`request`, `telling`), and as an upstream does (`upstream`, `stream`).
//!
//! Written from Anthropic's public API documentation ("Messages", "Streaming messages", "Errors") and from what its SDKs and
//! Claude Code were seen to send and to expect (client-behaviour.md, 2 to 6).

pub(crate) mod content;
pub(crate) mod request;
pub(crate) mod stream;
pub(crate) mod telling;
pub(crate) mod upstream;

#[cfg(test)]
mod tests;

/// Stands where a thinking block needs a signature and its author gave none. It proves nothing to anybody, so such a block
/// is never sent to an upstream that checks signatures.
pub(crate) const UNSIGNED: &str = "cXdhcmRlbg==";

/// Why an answer ended, from a chat completion's word.
pub(crate) fn stop_reason(finish_reason: Option<&str>, has_calls: bool) -> &'static str {
    match finish_reason {
        // Some servers say `stop` after calls.
        _ if has_calls => "tool_use",
        Some("length") => "max_tokens",
        Some("content_filter") => "refusal",
        _ => "end_turn",
    }
}

/// The reverse.
pub(crate) fn finish_reason(stop_reason: &str) -> &'static str {
    match stop_reason {
        "max_tokens" | "model_context_window_exceeded" => "length",
        "tool_use" => "tool_calls",
        "refusal" => "content_filter",
        _ => "stop",
    }
}
