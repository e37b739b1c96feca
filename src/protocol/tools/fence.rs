//! A code fence that may hold a call: kept back until it is seen to be text, or the answer is whole.

use crate::protocol::tools::block::{Block, Context, Step};
use crate::protocol::tools::notation::{self, Mark};
use crate::protocol::tools::reading::{Found, is_call_key};
use crate::protocol::tools::text::{RUN, function, run};

/// By then a fence has shown that a call begins in it, or it is text.
const HEAD: usize = 256;

/// See the module. Offsets count in the buffer the fence is scanned in.
#[derive(Debug)]
pub(super) struct Fence {
    /// The first backtick of the fence that is read now.
    start: usize,
    ticks: usize,
    at: usize,
    part: Part,
    found: Vec<Found>,
}

#[derive(Debug)]
enum Part {
    /// Backticks, a word, white space.
    Head,
    Body(Box<Block>),
    /// Behind a call.
    Inside,
    /// Behind the fence.
    Behind,
}

/// What a scan came to.
pub(super) enum Held {
    /// More text is needed.
    Wait,
    /// All before `at` is text, and `at` stands in a fence of so many backticks.
    Text { at: usize, ticks: Option<usize> },
    /// The fences before `end` held calls, and nothing else follows.
    Calls { found: Vec<Found>, end: usize },
}

/// What the beginning of a fence is.
enum Head {
    Wait,
    Text,
    Call(Block),
}

impl Fence {
    /// A fence whose first backtick is at `start`.
    pub(super) fn new(start: usize) -> Self {
        Self {
            start,
            ticks: 0,
            at: start,
            part: Part::Head,
            found: Vec::new(),
        }
    }

    /// Whether a call has begun and not ended.
    pub(super) fn is_in_call(&self) -> bool {
        matches!(self.part, Part::Body(_))
    }

    /// Reads on from where the last scan stopped.
    pub(super) fn scan(&mut self, text: &str, given: Context<'_>) -> Held {
        loop {
            let decided = match &mut self.part {
                Part::Head => self.head(text, given),
                Part::Body(_) => self.body(text, given),
                Part::Inside => self.inside(text, given),
                Part::Behind => self.behind(text, given),
            };
            if let Some(held) = decided {
                return held;
            }
        }
    }

    fn head(&mut self, text: &str, given: Context<'_>) -> Option<Held> {
        let rest = text.get(self.start..).unwrap_or_default();
        self.ticks = run(rest.as_bytes());
        let is_long = rest.len() > HEAD;
        // The same view however the text was cut on its way.
        let rest = rest.get(..rest.floor_char_boundary(HEAD)).unwrap_or(rest);
        match begun(rest, self.start, self.ticks, given) {
            Head::Wait if !given.is_whole && !is_long => Some(Held::Wait),
            Head::Wait | Head::Text => Some(self.text()),
            Head::Call(block) => {
                self.part = Part::Body(Box::new(block));
                None
            }
        }
    }

    fn body(&mut self, text: &str, given: Context<'_>) -> Option<Held> {
        let Part::Body(block) = &mut self.part else {
            return None;
        };
        let (end, reading) = match block.scan(text, given) {
            Step::Wait if !given.is_whole => return Some(Held::Wait),
            Step::Wait => match block.finish(text, given) {
                Some(found) => found,
                None => return Some(self.text()),
            },
            Step::Prose => return Some(self.text()),
            Step::Closed { end, reading } => (end, reading),
        };
        let Ok(found) = reading else {
            return Some(self.text());
        };
        self.at = if block.is_fenced() {
            text.get(..end).unwrap_or(text).trim_end_matches('`').len()
        } else {
            end
        };
        self.found.extend(found);
        self.part = Part::Inside;
        None
    }

    fn inside(&mut self, text: &str, given: Context<'_>) -> Option<Held> {
        self.skip(text);
        let rest = text.get(self.at..).unwrap_or_default();
        match rest.bytes().next() {
            // A fence that was not closed at the end of the answer is closed there.
            None => Some(self.end(given)),
            Some(b'`') => {
                let run = run(rest.as_bytes());
                if run == rest.len() && run < RUN && !given.is_whole {
                    Some(Held::Wait)
                } else if run < 3 {
                    Some(self.text())
                } else {
                    self.at += run;
                    self.part = Part::Behind;
                    None
                }
            }
            Some(b'<') => match notation::mark(rest, given.notation) {
                Mark::Open(open, close) => {
                    self.part = Part::Body(Box::new(Block::tagged(self.at, open, close)));
                    None
                }
                Mark::Maybe if !given.is_whole => Some(Held::Wait),
                _ => Some(self.text()),
            },
            Some(_) => Some(self.text()),
        }
    }

    fn behind(&mut self, text: &str, given: Context<'_>) -> Option<Held> {
        self.skip(text);
        let rest = text.get(self.at..).unwrap_or_default();
        let prose = Held::Text {
            at: self.at,
            ticks: None,
        };
        match rest.bytes().next() {
            None => Some(self.end(given)),
            Some(b'`') => {
                let run = run(rest.as_bytes());
                if run == rest.len() && run < RUN && !given.is_whole {
                    return Some(Held::Wait);
                }
                if !(3..RUN).contains(&run) {
                    return Some(prose);
                }
                self.start = self.at;
                self.part = Part::Head;
                None
            }
            Some(b'<') => match notation::mark(rest, given.notation) {
                Mark::Result => Some(self.calls()),
                Mark::Maybe if !given.is_whole => Some(Held::Wait),
                _ => Some(prose),
            },
            Some(_) => Some(prose),
        }
    }

    fn end(&mut self, given: Context<'_>) -> Held {
        if given.is_whole {
            self.calls()
        } else {
            Held::Wait
        }
    }

    fn calls(&mut self) -> Held {
        Held::Calls {
            found: std::mem::take(&mut self.found),
            end: self.at,
        }
    }

    fn text(&self) -> Held {
        Held::Text {
            at: self.start + self.ticks,
            ticks: Some(self.ticks),
        }
    }

    fn skip(&mut self, text: &str) {
        let rest = text.as_bytes().get(self.at..).unwrap_or_default();
        self.at += rest
            .iter()
            .take_while(|byte| byte.is_ascii_whitespace())
            .count();
    }
}

/// Looks at the backticks, the word behind them, and the first of the content.
fn begun(rest: &str, start: usize, ticks: usize, given: Context<'_>) -> Head {
    let after = rest.get(ticks..).unwrap_or_default();
    let Some(info) = after.find(['\n', '<', '{', '`']) else {
        return Head::Wait;
    };
    let content = after.get(info..).unwrap_or_default();
    let blank = content.len() - content.trim_ascii_start().len();
    let content = content.get(blank..).unwrap_or_default();
    let at = start + ticks + info + blank;
    match content.bytes().next() {
        None => Head::Wait,
        Some(b'<') => match notation::mark(content, given.notation) {
            Mark::Open(open, close) => Head::Call(Block::tagged(at, open, close)),
            Mark::Function => match function(content, given.tools) {
                Some(true) => Head::Call(Block::bare(at)),
                Some(false) => Head::Text,
                None => Head::Wait,
            },
            Mark::Maybe => Head::Wait,
            Mark::Result | Mark::No => Head::Text,
        },
        Some(b'{') => first_key(content, at, given),
        Some(_) => Head::Text,
    }
}

/// JSON is common in answers: only an object that begins like a call is held back.
fn first_key(content: &str, at: usize, given: Context<'_>) -> Head {
    let inner = content.get(1..).unwrap_or_default().trim_ascii_start();
    let Some(quote) = inner.bytes().next() else {
        return Head::Wait;
    };
    if !matches!(quote, b'"' | b'\'') {
        return Head::Text;
    }
    let mut parts = inner.split(char::from(quote)).skip(1);
    let (Some(key), Some(colon)) = (parts.next(), parts.next()) else {
        return Head::Wait;
    };
    if !is_call_key(key) {
        return Head::Text;
    }
    if key != "name" {
        return Head::Call(Block::fenced(at));
    }
    match (parts.next(), parts.next()) {
        (Some(name), Some(_)) if colon.trim() == ":" => {
            if given.tools.closest(name).is_some() {
                Head::Call(Block::fenced(at))
            } else {
                Head::Text
            }
        }
        (Some(_), Some(_)) => Head::Text,
        _ => Head::Wait,
    }
}
