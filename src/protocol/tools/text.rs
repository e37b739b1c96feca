//! Small questions about a piece of text.

use crate::protocol::tools::declared::Tools;
use crate::protocol::tools::notation::{FUNCTION, NAME};

/// Longer runs of backticks are cut into several: nobody means them, and they must not be held back.
pub(super) const RUN: usize = 64;
/// Whether `<function=name>` at the head of `text` names a tool; nothing while the name goes on.
pub(super) fn function(text: &str, tools: &Tools) -> Option<bool> {
    let rest = text.get(FUNCTION.len()..).unwrap_or_default();
    match rest.bytes().take(NAME).position(|byte| byte == b'>') {
        Some(end) => {
            let name = rest.get(..end).unwrap_or_default();
            Some(tools.closest(name.trim_matches(['"', '\''])).is_some())
        }
        None if rest.len() >= NAME => Some(false),
        None => None,
    }
}

/// The length of the run of backticks at the head, at most `RUN`.
pub(super) fn run(bytes: &[u8]) -> usize {
    bytes
        .iter()
        .take(RUN)
        .take_while(|&&byte| byte == b'`')
        .count()
}

/// White space within a line.
pub(super) fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\r')
}

/// The length of a text without the white space at its end.
pub(super) fn solid(text: &str) -> usize {
    text.trim_end_matches(|c: char| c.is_ascii_whitespace())
        .len()
}

/// What `<name>` is.
pub(super) enum Named {
    /// It names a tool.
    Tool,
    /// It has not ended.
    Unknown,
    /// It does not.
    Other,
}

/// Whether `name>` follows, and names a tool.
pub(super) fn named(text: &str, tools: &Tools) -> Named {
    let end = text.bytes().take(NAME).position(|byte| byte == b'>');
    let name = text.get(..end.unwrap_or(text.len())).unwrap_or_default();
    let is_name = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '.' | ':');
    match end {
        _ if !name.chars().all(is_name) || name.len() > NAME => Named::Other,
        Some(_) if tools.closest(name).is_some() => Named::Tool,
        Some(_) => Named::Other,
        None => Named::Unknown,
    }
}

/// Whether a bare function has nothing between its marks, or JSON.
pub(super) fn is_bare_head(before: &str) -> bool {
    let inner = before
        .strip_prefix(FUNCTION)
        .and_then(|rest| rest.split_once('>'))
        .map(|(_, inner)| inner.trim());
    inner.is_some_and(|inner| inner.is_empty() || (inner.starts_with('{') && inner.ends_with('}')))
}

/// Whether the first element is closed at the end.
pub(super) fn elements_end(before: &str) -> bool {
    let name = before
        .trim_start()
        .strip_prefix('<')
        .and_then(|rest| rest.split_once('>'))
        .map(|(name, _)| name);
    name.is_some_and(|name| {
        before
            .strip_suffix('>')
            .and_then(|rest| rest.strip_suffix(name))
            .is_some_and(|rest| rest.ends_with("</"))
    })
}
