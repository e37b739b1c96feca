//! Reads one answer and tells it on: reasoning and text as they come, calls once the answer is whole.
//!
//! Agents run a call as soon as they have it. When the answer then breaks off they ask for the turn again, and would run
//! the call again: so none is told of an answer that is not whole (R16), unless the user wants to watch them grow.

use crate::exchange::qwen::answering::Answering;
use crate::exchange::qwen::asked::Asked;
use crate::exchange::qwen::excuse::Excuse;
use crate::exchange::qwen::malformed;
use crate::exchange::qwen::teller::Teller;
use crate::protocol::openai::chunk::Usage;
use crate::protocol::qwen::refusal::Refusal;
use crate::protocol::qwen::request::ChatType;
use crate::protocol::qwen::stream::{NativeArguments, QwenEvent};
use crate::protocol::tools::declared::Tools;
use crate::protocol::tools::parser::{Parser, Piece, ReadCall};
use crate::protocol::tools::partial::{Grown, Partial};
use crate::protocol::tools::reading;
use crate::providers::UpstreamError;

/// What an answer came to.
pub(crate) enum Outcome {
    /// All of it is told, but for calls that could not be read.
    Whole(Vec<Garbled>),
    /// The site took a call for one of its own. What was told before that stays told.
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
    excuse: Excuse,
    /// Calls that are told once the answer is whole.
    calls: Vec<ReadCall>,
    /// How many calls were read, told or not.
    read: usize,
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
    // Where the site was asked to search, its own tools have work to do.
    let has_own_runner = tools.is_empty() || asked.chat_type != ChatType::Text;
    let mut relay = Relay {
        teller,
        tools,
        excuse: Excuse::new(!tools.is_empty()),
        calls: Vec::new(),
        read: 0,
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
            QwenEvent::Reasoning(text) => relay.teller.reasoning(text).await?,
            QwenEvent::Content(text) => {
                for piece in parser.push(&text) {
                    relay.piece(piece).await?;
                }
                if parser.is_over() || relay.read >= relay.most_calls {
                    // Nothing that follows counts, and the chat is to be free for the call's result.
                    return relay.stop(answering, parser).await;
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
            QwenEvent::ToolResult if relay.has_calls() => {
                // The site's own runner has begun on a call that is the client's to make.
                return relay.stop(answering, parser).await;
            }
            // With a call of its own making, what was told before is told again: better than no call at all.
            QwenEvent::ToolResult if !has_own_runner => return Ok(Outcome::Intercepted),
            QwenEvent::Created | QwenEvent::ToolResult => {}
            QwenEvent::Failed(refusal) => return Ok(Outcome::Refused(refusal)),
            QwenEvent::Finished => return relay.end(Some(parser)).await,
        }
    }
}

impl Relay<'_> {
    async fn piece(&mut self, piece: Piece) -> Result<(), UpstreamError> {
        match piece {
            Piece::Text(text) => self.text(&text).await,
            // A client that wants one call at a time gets the first; the model asks again for what it still needs.
            Piece::Call(_) if self.read >= self.most_calls => Ok(()),
            Piece::Call(call) => {
                self.read += 1;
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
        if self.growing.is_some() && block.is_some() {
            // Behind text that was held back, a call cannot begin.
            self.release().await?;
        }
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
        let told = self.excuse.take(text);
        self.teller.content(told).await
    }

    /// Tells what was held back.
    async fn release(&mut self) -> Result<(), UpstreamError> {
        let held = self.excuse.release();
        self.teller.content(held).await
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

    /// Whether there is a call for the client, in either form.
    fn has_calls(&self) -> bool {
        let mut natives = self.natives.iter();
        self.read > 0 || natives.any(|native| self.tools.closest(&native.name).is_some())
    }

    /// Ends the answer before the site does: a call that has begun in its text is none of it.
    async fn stop(
        self,
        answering: &mut Answering,
        parser: Parser,
    ) -> Result<Outcome, UpstreamError> {
        answering.stop().await;
        let parser = Some(parser).filter(|parser| !parser.in_call());
        self.end(parser).await
    }

    /// The answer is whole.
    async fn end(mut self, parser: Option<Parser>) -> Result<Outcome, UpstreamError> {
        for piece in parser.into_iter().flat_map(Parser::finish) {
            self.piece(piece).await?;
        }
        let has_calls = self.has_calls();
        let is_lost = !self.natives.is_empty() && self.garbled.is_empty();
        if !has_calls && (self.excuse.is_there() || (is_lost && !self.tools.is_empty())) {
            return Ok(Outcome::Intercepted);
        }
        // An excuse beside a call is for a call that we have.
        if !self.excuse.is_there() {
            self.release().await?;
        }
        for call in std::mem::take(&mut self.calls) {
            self.teller.call(call.name, call.arguments).await?;
        }
        for native in std::mem::take(&mut self.natives) {
            if self.tools.closest(&native.name).is_none() || self.read >= self.most_calls {
                continue;
            }
            match reading::native(&native.name, &native.arguments, self.tools) {
                Ok((name, arguments)) => {
                    self.read += 1;
                    self.teller.call(name, arguments).await?;
                }
                Err(reason) => self.garbled.push(Garbled {
                    raw: native.arguments,
                    reason,
                }),
            }
        }
        Ok(Outcome::Whole(self.garbled))
    }
}
