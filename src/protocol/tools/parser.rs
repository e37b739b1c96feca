//! Reads tool calls out of an answer while it streams.
//!
//! Outside of code, a call mark begins a call. Text passes at once and byte for byte; held back is only what may yet
//! become a mark, and white space, which is dropped where it ends the text before a call or stands between calls or
//! behind the last one. Inside a fence calls count only if the fence holds nothing else and nothing but white space,
//! more such fences or an echoed result follow (annex A6), so these are told when the answer is whole.

use std::sync::Arc;

use memchr::{memchr, memchr2};

use crate::protocol::tools::block::{Block, Context, Step};
use crate::protocol::tools::declared::Tools;
use crate::protocol::tools::fence::{Fence, Held};
use crate::protocol::tools::notation::{self, Mark, Notation};
use crate::protocol::tools::reading::Found;
use crate::protocol::tools::text::{RUN, function, is_blank, run, solid};

/// Fences and guessed block ends that are looked through a second time; more would be an attack.
const SECOND_LOOKS: usize = 32;

/// What was read, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Piece {
    /// Text for the user.
    Text(String),
    /// A whole call of a declared tool.
    Call(ReadCall),
    /// A block that was meant as a call and cannot be read as one.
    Unreadable {
        /// The block as it was written.
        raw: String,
        /// What is wrong with it, in words for the model.
        reason: String,
    },
}

/// A call that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ReadCall {
    /// The tool as it was declared.
    pub(crate) name: String,
    /// A strict JSON object; keys and numbers as the model wrote them.
    pub(crate) arguments: String,
    /// The block as it was written; empty for all but the first call of a block.
    pub(crate) raw: String,
}

/// Reads one answer.
#[derive(Debug)]
pub(crate) struct Parser {
    tools: Arc<Tools>,
    notation: &'static Notation,
    /// What has come and not been told. In `State::Text` it begins with `blank` bytes of white space.
    buffer: String,
    blank: usize,
    at: usize,
    state: State,
    code: Code,
    /// Whether the text before the buffer ends with a line break, or is none.
    starts_line: bool,
    /// Whether only white space has come since the last call.
    after_call: bool,
    second_looks: usize,
}

#[derive(Debug)]
enum State {
    Text,
    Block(Box<Block>),
    Fence(Box<Fence>),
    /// A result was echoed: nothing more counts.
    Cut,
}

/// Whether the text stands in code, by the number of backticks that closes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Code {
    No,
    Inline(usize),
    Fence(usize),
}

/// What the end of a scan of text is.
enum Seen {
    /// All of it is text, or what follows cannot be told yet.
    End,
    Call(Block),
    Fence,
    Result,
}

impl Parser {
    /// A parser of one answer by a model that was taught `notation`. Without tools everything is text.
    pub(crate) fn new(tools: Arc<Tools>, notation: &'static Notation) -> Self {
        Self {
            tools,
            notation,
            buffer: String::new(),
            blank: 0,
            at: 0,
            state: State::Text,
            code: Code::No,
            starts_line: true,
            after_call: false,
            second_looks: 0,
        }
    }

    /// Takes in more of the answer.
    pub(crate) fn push(&mut self, text: &str) -> Vec<Piece> {
        if text.is_empty() {
            return Vec::new();
        }
        if self.tools.is_empty() {
            return vec![Piece::Text(text.to_owned())];
        }
        if matches!(self.state, State::Text) && self.at == self.buffer.len() && self.is_plain(text)
        {
            return self.pass(text);
        }
        self.buffer.push_str(text);
        let mut out = Vec::new();
        self.run(&mut out, false);
        out
    }

    /// The answer is whole: what was held back is told. Not for an answer that was cut.
    pub(crate) fn finish(mut self) -> Vec<Piece> {
        let mut out = Vec::new();
        self.run(&mut out, true);
        out
    }

    /// Whether a call has begun and not ended.
    pub(crate) fn in_call(&self) -> bool {
        match &self.state {
            State::Block(_) => true,
            State::Fence(fence) => fence.is_in_call(),
            State::Text | State::Cut => false,
        }
    }

    /// Whether a result was echoed: nothing that follows counts.
    pub(crate) fn is_over(&self) -> bool {
        matches!(self.state, State::Cut)
    }

    /// What has come of a call that has not ended, behind its opening mark.
    pub(crate) fn open_call(&self) -> Option<&str> {
        match &self.state {
            State::Block(block) => Some(block.body(&self.buffer)),
            _ => None,
        }
    }

    /// Whether nothing in `text` can change the state.
    fn is_plain(&self, text: &str) -> bool {
        match self.code {
            Code::No => memchr2(b'<', b'`', text.as_bytes()).is_none(),
            Code::Inline(_) => memchr2(b'\n', b'`', text.as_bytes()).is_none(),
            Code::Fence(_) => memchr(b'`', text.as_bytes()).is_none(),
        }
    }

    /// Tells plain text without a detour through the buffer, all of which is white space.
    fn pass(&mut self, text: &str) -> Vec<Piece> {
        let (told, blank) = text.split_at(solid(text));
        let mut out = Vec::new();
        if !told.is_empty() {
            let mut whole = std::mem::take(&mut self.buffer);
            whole.push_str(told);
            out.push(Piece::Text(whole));
            self.starts_line = false;
            self.after_call = false;
        }
        self.buffer.push_str(blank);
        self.at = self.buffer.len();
        self.blank = self.at;
        out
    }

    fn run(&mut self, out: &mut Vec<Piece>, is_whole: bool) {
        loop {
            let goes_on = match &self.state {
                State::Text => self.text(out, is_whole),
                State::Block(_) => self.block(out, is_whole),
                State::Fence(_) => self.fence(out, is_whole),
                State::Cut => {
                    self.buffer.clear();
                    false
                }
            };
            if !goes_on {
                return;
            }
        }
    }

    /// Tells text up to the next call; whether there is one.
    fn text(&mut self, out: &mut Vec<Piece>, is_whole: bool) -> bool {
        let seen = self.look(is_whole);
        if is_whole && matches!(seen, Seen::End) {
            let rest = std::mem::take(&mut self.buffer);
            let is_dropped = self.after_call && rest.bytes().all(|b| b.is_ascii_whitespace());
            if !rest.is_empty() && !is_dropped {
                out.push(Piece::Text(rest));
            }
            return false;
        }
        let fresh = self.buffer.get(self.blank..self.at).unwrap_or_default();
        let fresh = solid(fresh);
        if fresh > 0 {
            let end = self.blank + fresh;
            let rest = self.buffer.split_off(end);
            out.push(Piece::Text(std::mem::replace(&mut self.buffer, rest)));
            self.at -= end;
            self.starts_line = false;
            self.after_call = false;
        }
        self.blank = self.at;
        match seen {
            Seen::End => return false,
            Seen::Call(mut block) => {
                block.settle(self.at);
                self.state = State::Block(Box::new(block));
            }
            Seen::Fence => self.state = State::Fence(Box::new(Fence::new(self.at))),
            Seen::Result => self.state = State::Cut,
        }
        true
    }

    /// Moves `at` over text, to what is none.
    fn look(&mut self, is_whole: bool) -> Seen {
        loop {
            let rest = self.buffer.as_bytes().get(self.at..).unwrap_or_default();
            let found = match self.code {
                Code::No => memchr2(b'<', b'`', rest),
                Code::Inline(_) => memchr2(b'\n', b'`', rest),
                Code::Fence(_) => memchr(b'`', rest),
            };
            let Some(found) = found else {
                self.at = self.buffer.len();
                return Seen::End;
            };
            let byte = rest.get(found).copied();
            self.at += found;
            let seen = match byte {
                Some(b'<') => self.mark(is_whole),
                Some(b'`') => self.ticks(is_whole),
                // Inline code that has not closed in its line was a stray backtick.
                _ => {
                    self.code = Code::No;
                    self.at += 1;
                    None
                }
            };
            if let Some(seen) = seen {
                return seen;
            }
        }
    }

    /// A `<` outside of code: nothing if it is text.
    fn mark(&mut self, is_whole: bool) -> Option<Seen> {
        let rest = self.buffer.get(self.at..).unwrap_or_default();
        if self.after_call {
            let before = self.buffer.get(..self.at).unwrap_or_default();
            self.after_call = before.bytes().all(|byte| byte.is_ascii_whitespace());
        }
        if self.after_call {
            match notation::closing(rest) {
                // A second closing mark behind a call closes nothing.
                Ok(Some(len)) => {
                    self.buffer.drain(..self.at + len);
                    self.at = 0;
                    self.blank = 0;
                    return None;
                }
                Err(()) if !is_whole => return Some(Seen::End),
                // The answer ends in the middle of such a mark.
                Err(()) if rest.starts_with("</") => {
                    self.buffer.truncate(self.at);
                    return None;
                }
                _ => {}
            }
        }
        match notation::mark(rest, self.notation) {
            Mark::Open(open, close) => {
                return Some(Seen::Call(Block::tagged(self.at, open, close)));
            }
            Mark::Result => return Some(Seen::Result),
            Mark::Function => match function(rest, &self.tools) {
                Some(true) => return Some(Seen::Call(Block::bare(self.at))),
                None if !is_whole => return Some(Seen::End),
                _ => {}
            },
            Mark::Maybe if !is_whole => return Some(Seen::End),
            Mark::Maybe | Mark::No => {}
        }
        self.after_call = false;
        self.at += 1;
        None
    }

    /// Backticks: nothing if they are text.
    fn ticks(&mut self, is_whole: bool) -> Option<Seen> {
        let rest = self.buffer.as_bytes().get(self.at..).unwrap_or_default();
        let run = run(rest);
        let is_open_ended = run < RUN && run == rest.len() && !is_whole;
        match self.code {
            _ if is_open_ended => return Some(Seen::End),
            Code::No if run >= 3 && self.is_line_start() => {
                if run < RUN && self.second_looks < SECOND_LOOKS {
                    return Some(Seen::Fence);
                }
                self.code = Code::Fence(run);
            }
            Code::No => self.code = Code::Inline(run),
            Code::Inline(ticks) if ticks == run => self.code = Code::No,
            Code::Fence(ticks) if run >= ticks && self.is_line_start() => {
                let after = rest.get(run..).unwrap_or_default();
                let blank = after
                    .iter()
                    .take(RUN)
                    .take_while(|&&byte| is_blank(byte))
                    .count();
                match after.get(blank) {
                    _ if blank == RUN => {}
                    None if !is_whole => return Some(Seen::End),
                    None | Some(b'\n') => self.code = Code::No,
                    Some(_) => {}
                }
            }
            Code::Inline(_) | Code::Fence(_) => {}
        }
        self.at += run;
        None
    }

    fn is_line_start(&self) -> bool {
        let before = self.buffer.as_bytes().get(..self.at).unwrap_or_default();
        match before.iter().rev().find(|&&byte| !is_blank(byte)) {
            Some(&byte) => byte == b'\n',
            None => self.starts_line,
        }
    }

    fn block(&mut self, out: &mut Vec<Piece>, is_whole: bool) -> bool {
        let State::Block(block) = &mut self.state else {
            return true;
        };
        let context = Context {
            tools: &self.tools,
            notation: self.notation,
            is_whole,
        };
        let (end, reading) = match block.scan(&self.buffer, context) {
            Step::Closed { end, reading } => (end, reading),
            Step::Wait if !is_whole => return false,
            Step::Wait if block.is_begun() => {
                self.second_looks += 1;
                let found = if self.second_looks < SECOND_LOOKS {
                    block.finish(&self.buffer, context)
                } else {
                    None
                };
                let unclosed = || Err("the call is not closed, or its JSON is broken".to_owned());
                found.unwrap_or_else(|| (self.buffer.len(), unclosed()))
            }
            Step::Prose | Step::Wait => return self.release(Code::No, None),
        };
        let open = block.open;
        let rest = self.buffer.split_off(end);
        let raw = self.buffer.split_off(open.min(self.buffer.len()));
        self.buffer = rest;
        match reading {
            Ok(found) => calls(found, raw, out),
            Err(reason) => out.push(Piece::Unreadable { raw, reason }),
        }
        self.resume();
        true
    }

    fn fence(&mut self, out: &mut Vec<Piece>, is_whole: bool) -> bool {
        let State::Fence(fence) = &mut self.state else {
            return true;
        };
        let context = Context {
            tools: &self.tools,
            notation: self.notation,
            is_whole,
        };
        match fence.scan(&self.buffer, context) {
            Held::Wait => false,
            Held::Text { at, ticks } => {
                self.second_looks += 1;
                self.release(ticks.map_or(Code::No, Code::Fence), Some(at))
            }
            Held::Calls { found, end } => {
                let rest = self.buffer.split_off(end);
                let raw = std::mem::replace(&mut self.buffer, rest).trim().to_owned();
                calls(found, raw, out);
                self.resume();
                true
            }
        }
    }

    /// What was held is text up to `at`, or only its first character is.
    fn release(&mut self, code: Code, at: Option<usize>) -> bool {
        self.at = at.unwrap_or(self.blank + 1);
        self.code = code;
        self.state = State::Text;
        true
    }

    fn resume(&mut self) {
        self.state = State::Text;
        self.code = Code::No;
        self.at = 0;
        self.blank = 0;
        self.starts_line = true;
        self.after_call = true;
    }
}

fn calls(found: Vec<Found>, raw: String, out: &mut Vec<Piece>) {
    let raws = std::iter::once(raw).chain(std::iter::repeat_with(String::new));
    let calls = found.into_iter().zip(raws).map(|(found, raw)| {
        Piece::Call(ReadCall {
            name: found.name,
            arguments: found.arguments,
            raw,
        })
    });
    out.extend(calls);
}

#[cfg(test)]
mod tests;
