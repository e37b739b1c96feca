//! `OpenAI`'s Responses, as a client speaks them: a request as a chat request, and the chat's answer as a response.
//!
//! Shapes: the types of openai-python 3.54, and what Codex 0.169 sends (client-behaviour, 2 and 3).

pub(crate) mod answer;
pub(crate) mod back;
mod content;
mod echo;
mod items;
pub(crate) mod kept;
pub(crate) mod names;
pub(crate) mod native;
pub(crate) mod request;
#[cfg(test)]
mod roundtrip;
pub(crate) mod telling;
mod tools;

use crate::protocol::openai::request::FieldError;

/// One thing that is wrong with a request, at its place.
fn fault(param: impl Into<String>, code: &'static str, message: impl Into<String>) -> FieldError {
    FieldError {
        param: Some(param.into()),
        message: message.into(),
        code,
    }
}

/// The id of the response to the request of this id.
pub(crate) fn response_id(request_id: &str) -> String {
    format!("resp_{request_id}")
}

/// The request that a response, or an item of its output, belongs to; none when the id is not one of ours.
pub(crate) fn request_of(id: &str) -> Option<&str> {
    let (kind, rest) = id.split_once('_')?;
    match kind {
        "resp" => Some(rest),
        "rs" | "msg" | "fc" | "ctc" => rest.rsplit_once('_').map(|(request, _)| request),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_tell_their_request() {
        assert_eq!(request_of(&response_id("01-2")), Some("01-2"));
        assert_eq!(request_of("msg_01-2_0"), Some("01-2"));
        assert_eq!(request_of("fc_call"), None);
        assert_eq!(request_of("01-2"), None);
    }
}
