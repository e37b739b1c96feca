//! How the answer to a request is told again: to a tape beside its client, and when a recording is replayed.
//!
//! What the client gets is told by `http` from what it read of the request. Here the same is made of what was kept of it.

use std::time::Instant;

use crate::clock::{now_ms, rfc3339};
use crate::protocol::anthropic;
use crate::protocol::anthropic::telling::Messages;
use crate::protocol::dialect::{Dialect, Original, Telling};
use crate::protocol::ollama::answer::{Moment, OllamaTelling, Shape};
use crate::protocol::ollama::request::{self as ollama, Asked};
use crate::protocol::openai;
use crate::protocol::openai::completion::CompletionTelling;
use crate::protocol::openai::functions::FunctionTelling;
use crate::protocol::responses;
use crate::protocol::responses::answer::Head;
use crate::protocol::responses::request::Before;
use crate::protocol::responses::telling::Teller;

/// What tells the answer to `original`, that came to `path` and became the request `chat`. None where it cannot be read
/// any more.
pub(crate) fn telling(
    path: &str,
    original: &Original,
    chat: &[u8],
    request_id: &str,
) -> Option<Box<dyn Telling>> {
    match Dialect::of_path(path) {
        Dialect::Anthropic => {
            let read = anthropic::request::read(&original.body).ok()?;
            let (_, tokens) = openai::request::estimate(&String::from_utf8_lossy(chat));
            Some(Box::new(Messages::new(request_id, read.model, tokens)))
        }
        Dialect::Responses => {
            let asked = responses::request::read(&original.body).ok()?;
            let translated = asked.chat(&Before::default()).ok().or_else(|| {
                // It goes on from another one, whose items are in what a native upstream is sent.
                let native = responses::request::read(original.native.as_ref()?).ok()?;
                native.chat(&Before::default()).ok()
            })?;
            let head = Head {
                request_id: request_id.to_owned(),
                created: original.created,
                echo: translated.echo,
                model: asked.model().unwrap_or_default(),
            };
            Some(Box::new(Teller::new(head, translated.names)))
        }
        Dialect::Ollama => {
            let (shape, asked) = if path.ends_with("/generate") {
                (Shape::Generate, ollama::generate(&original.body).ok()?)
            } else {
                (Shape::Chat, ollama::chat(&original.body).ok()?)
            };
            let Asked::Completion(asked) = asked else {
                return None;
            };
            let told = OllamaTelling::new(shape, asked.model, asked.shows_thinking, clock());
            Some(Box::new(told))
        }
        Dialect::Chat if path.ends_with("/chat/completions") => Some(Box::new(FunctionTelling)),
        Dialect::Chat => Some(Box::new(CompletionTelling)),
    }
}

/// Counts from now.
pub(crate) fn clock() -> Box<dyn Fn() -> Moment + Send> {
    let began = Instant::now();
    Box::new(move || Moment {
        at: rfc3339(now_ms()),
        since: began.elapsed(),
    })
}
