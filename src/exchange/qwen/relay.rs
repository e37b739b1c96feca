//! Reads one answer and tells it on: reasoning and text as they come, calls once the answer is whole.
//!
//! Agents run a call as soon as they have it. When the answer then breaks off they ask for the turn again, and would run
//! the call again: so none is told of an answer that is not whole (R16), unless the user wants to watch them grow.

use crate::exchange::qwen::answering::Answering;
use crate::exchange::qwen::asked::Asked;
use crate::exchange::qwen::malformed;
use crate::exchange::qwen::teller::Teller;
use crate::protocol::openai::chunk::Usage;
use crate::protocol::qwen::refusal::Refusal;
use crate::protocol::qwen::stream::{NativeArguments, QwenEvent};
use crate::protocol::tools::declared::Tools;
use crate::protocol::tools::notation::NATIVE_JSON;
use crate::protocol::tools::parser::{Parser, Piece, ReadCall};
use crate::protocol::tools::partial::{Grown, Partial};
use crate::providers::UpstreamError;

/// What the site's own excuse may be as long as (annex A6).
const EXCUSE: usize = 300;

/// What an answer came to.
pub(crate) enum Outcome {
    /// All of it is told, but for calls that could not be read.
    Whole(Vec<Garbled>),
    /// The site took a call for one of its own: nothing was told.
    Intercepted,
    /// The site broke off.
    Refused(Refusal),
}

/// A whole call that could not be read.
pub(crate) struct Garbled {
    pub(crate) raw: String,
    pub(crate) reason: String,
}

/// A call that the site handed back in its own form.
#[derive(Default)]
struct Native {
    key: String,
    name: String,
    arguments: String,
}

/// When calls are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Calls {
    /// Once the answer is whole.
    Whole,
    /// As they are written; one of an answer that breaks off stays unfinished.
    Grow,
}

struct Relay<'a> {
    teller: &'a mut Teller,
    tools: &'a Tools,
    /// Text that may turn out to be the site's excuse.
    held: String,
    /// Only at the head of an answer in the site's own notation.
    may_hold: bool,
    calls: Vec<ReadCall>,
    most_calls: usize,
    /// The call that is being written, where calls are told as they grow.
    growing: Option<Partial>,
    garbled: Vec<Garbled>,
    natives: Vec<Native>,
}

/// Tells `answering` to its end, or until the site asks for something else. `usage` is the latest seen.
pub(crate) async fn relay(
    teller: &mut Teller,
    asked: &Asked,
    calls: Calls,
    answering: &mut Answering,
    usage: &mut Option<Usage>,
) -> Result<Outcome, UpstreamError> {
    let tools = &asked.tools;
    let mut parser = Parser::new(tools.clone(), answering.notation);
    let may_hold = !tools.is_empty() && answering.notation.name == NATIVE_JSON.name;
    let mut relay = Relay {
        may_hold: may_hold && !teller.has_begun(),
        teller,
        tools,
        held: String::new(),
        calls: Vec::new(),
        most_calls: if asked.parallel { usize::MAX } else { 1 },
        growing: (calls == Calls::Grow).then(Partial::default),
        garbled: Vec::new(),
        natives: Vec::new(),
    };
    loop {
        let event = match answering.next().await {
            Err(UpstreamError::Cut { provider, .. }) if parser.in_call() => {
                return Err(UpstreamError::Cut {
                    provider,
                    reason: "the stream ended inside a tool call".into(),
                });
            }
            event => event?,
        };
        match event {
            QwenEvent::Created => {}
            QwenEvent::Reasoning(text) => relay.teller.reasoning(text).await?,
            QwenEvent::Content(text) => {
                for piece in parser.push(&text) {
                    relay.piece(piece).await?;
                }
                relay.grow(parser.open_call()).await?;
                relay.teller.is_alive().await?;
            }
            QwenEvent::Image(url) => relay.text(&format!("![image]({url})")).await?,
            QwenEvent::NativeCall {
                key,
                name,
                arguments,
            } => relay.native(key, name, arguments),
            QwenEvent::Citations(citations) => relay.teller.cite(citations),
            QwenEvent::Usage(latest) => *usage = Some(latest),
            QwenEvent::ToolResult if relay.has_native_calls() => {
                // The site's own runner has begun on a call that is the client's to make.
                answering.stop().await;
                return relay.end(parser).await;
            }
            QwenEvent::ToolResult => {
                // With a call of its own making, what was told before is told again: better than no call at all.
                if may_hold && (!relay.natives.is_empty() || !relay.teller.has_begun()) {
                    return Ok(Outcome::Intercepted);
                }
            }
            QwenEvent::Failed(refusal) => return Ok(Outcome::Refused(refusal)),
            QwenEvent::Finished => {
                if relay.may_hold && is_excuse(&relay.held) {
                    return Ok(Outcome::Intercepted);
                }
                return relay.end(parser).await;
            }
        }
    }
}

impl Relay<'_> {
    async fn piece(&mut self, piece: Piece) -> Result<(), UpstreamError> {
        match piece {
            Piece::Text(text) => self.text(&text).await,
            Piece::Call(call) => {
                self.release().await?;
                if let Some(partial) = self.growing.as_mut().map(std::mem::take) {
                    return self.end_growing(&partial, call).await;
                }
                self.calls.push(call);
                Ok(())
            }
            Piece::Unreadable { raw, reason } => {
                if let Some(partial) = &mut self.growing
                    && std::mem::take(partial).told().is_some()
                {
                    return Err(malformed("a tool call that was being told cannot be read"));
                }
                self.garbled.push(Garbled { raw, reason });
                Ok(())
            }
        }
    }

    /// Tells what a call that is being written has grown by.
    async fn grow(&mut self, block: Option<&str>) -> Result<(), UpstreamError> {
        let (Some(partial), Some(block)) = (&mut self.growing, block) else {
            return Ok(());
        };
        for grown in partial.follow(block) {
            match grown {
                // Which tool is meant shows when it is read.
                Grown::Name(name) if self.tools.find(&name).is_none() => {
                    self.growing = Some(Partial::silent());
                    return Ok(());
                }
                Grown::Name(name) => self.teller.begin_call(name).await?,
                Grown::Arguments(more) => self.teller.more_arguments(more).await?,
            }
        }
        Ok(())
    }

    /// A call is whole: tells what is missing of it.
    async fn end_growing(
        &mut self,
        partial: &Partial,
        call: ReadCall,
    ) -> Result<(), UpstreamError> {
        let Some((name, told)) = partial.told() else {
            return self.teller.call(call.name, call.arguments).await;
        };
        if let Some(rest) = call.arguments.strip_prefix(told) {
            return self.teller.more_arguments(rest.to_owned()).await;
        }
        // What was told stands as the model wrote it, if it can stand at all.
        if name == call.name && serde_json::from_str::<serde_json::Value>(told).is_ok() {
            return Ok(());
        }
        Err(malformed("a tool call was not what it began as"))
    }

    async fn text(&mut self, text: &str) -> Result<(), UpstreamError> {
        if !self.may_hold {
            return self.teller.content(text.to_owned()).await;
        }
        self.held.push_str(text);
        if may_be_excuse(&self.held) {
            return Ok(());
        }
        self.release().await
    }

    /// Tells what was held back.
    async fn release(&mut self) -> Result<(), UpstreamError> {
        self.may_hold = false;
        self.teller.content(std::mem::take(&mut self.held)).await
    }

    fn native(&mut self, key: String, name: Option<String>, arguments: NativeArguments) {
        let known = self.natives.iter().position(|native| native.key == key);
        let at = known.unwrap_or_else(|| {
            self.natives.push(Native {
                key,
                ..Native::default()
            });
            self.natives.len() - 1
        });
        let Some(native) = self.natives.get_mut(at) else {
            return;
        };
        if let Some(name) = name {
            native.name = name;
        }
        match arguments {
            NativeArguments::Increment(more) => native.arguments.push_str(&more),
            NativeArguments::Whole(whole) => native.arguments = whole,
        }
    }

    fn has_native_calls(&self) -> bool {
        !self.natives.is_empty()
            && self
                .natives
                .iter()
                .all(|native| self.tools.find(&native.name).is_some())
    }

    /// The answer is whole.
    async fn end(mut self, parser: Parser) -> Result<Outcome, UpstreamError> {
        for piece in parser.finish() {
            self.piece(piece).await?;
        }
        self.release().await?;
        // A client that wants one call at a time gets the first; the model asks again for what it still needs.
        self.calls.truncate(self.most_calls);
        for call in std::mem::take(&mut self.calls) {
            self.teller.call(call.name, call.arguments).await?;
        }
        for native in std::mem::take(&mut self.natives) {
            if self.tools.find(&native.name).is_none() {
                continue;
            }
            match serde_json::from_str::<serde_json::Value>(&native.arguments) {
                Ok(value) if value.is_object() => {
                    self.teller.call(native.name, native.arguments).await?;
                }
                _ => self.garbled.push(Garbled {
                    reason: format!("the arguments of `{}` are no JSON object", native.name),
                    raw: native.arguments,
                }),
            }
        }
        Ok(Outcome::Whole(self.garbled))
    }
}

/// `Tool <name> does not exist(s).` and nothing more of note (annex A6).
fn is_excuse(text: &str) -> bool {
    let text = text.trim();
    let Some(rest) = text.strip_prefix("Tool ") else {
        return false;
    };
    text.len() < EXCUSE
        && rest
            .find(" does not exist")
            .is_some_and(|at| (1..=80).contains(&at))
}

fn may_be_excuse(text: &str) -> bool {
    let text = text.trim_start();
    text.len() < EXCUSE && ("Tool ".starts_with(text) || text.starts_with("Tool "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sites_excuse_is_told_from_prose() {
        assert!(is_excuse("Tool read does not exists."));
        assert!(is_excuse("Tool `fs.read` does not exist"));
        assert!(!is_excuse("Tools do not exist for that."));
        assert!(!is_excuse(&format!(
            "Tool read does not exist. {}",
            "But ".repeat(100)
        )));
        for text in ["", "T", "Tool", "Tool re"] {
            assert!(may_be_excuse(text), "{text}");
        }
        assert!(!may_be_excuse("The tool"));
    }
}
