//! One call block as it streams in: where does it end?
//!
//! JSON strings and escapes are tracked, so that a closing mark inside a string does not close. A model that forgets
//! to escape a quote confuses the tracking, therefore:
//! - a closing mark outside strings with all braces closed ends the block;
//! - with braces open it ends the block only behind a brace, and only if the block reads with the missing ones added;
//! - every other closing mark is remembered as a guess. When the next call or a result begins, or the answer is whole,
//!   the last guess before that at which the block reads, leniently but complete, is its end.

use memchr::{memchr, memchr3};

use crate::protocol::tools::declared::Tools;
use crate::protocol::tools::lenient::Ending;
use crate::protocol::tools::notation::{self, FUNCTION_CLOSE, Mark, Notation, Start};
use crate::protocol::tools::reading::{self, Place, Reading};
use crate::protocol::tools::text::{Named, elements_end, is_bare_head, named};

/// Guesses kept per block: each costs a reading of the whole block.
const GUESSES: usize = 16;
/// Readings with missing braces tried per block, for the same reason.
const TRIES: usize = 4;
/// What closes JSON in a fence.
const FENCE: &str = "```";

/// A block whose opening mark was seen. Offsets count in the buffer the block is scanned in.
#[derive(Debug)]
pub(super) struct Block {
    /// Where its opening mark begins.
    pub(super) open: usize,
    body: usize,
    close: &'static str,
    form: Form,
    at: usize,
    depth: usize,
    quote: Option<u8>,
    /// Behind the last value whose braces are all closed.
    whole: Option<usize>,
    guesses: Vec<Guess>,
    /// How many calls or results seemed to begin inside.
    group: usize,
    tries: usize,
    is_doubled: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    /// Nothing but white space so far.
    Unknown,
    Json,
    /// `<function=name>` between call marks.
    Functions,
    /// The same without call marks.
    Bare,
    /// `<name>`.
    Elements,
}

#[derive(Clone, Copy, Debug)]
struct Guess {
    at: usize,
    group: usize,
}

/// What a scan came to.
#[derive(Debug)]
pub(super) enum Step {
    /// More text is needed.
    Wait,
    /// The opening mark was only talked about.
    Prose,
    /// The block ends before `end` and reads so.
    Closed { end: usize, reading: Reading },
}

/// What a block is read with.
#[derive(Clone, Copy)]
pub(super) struct Context<'a> {
    pub(super) tools: &'a Tools,
    pub(super) notation: &'a Notation,
    /// Whether nothing more will come.
    pub(super) is_whole: bool,
}

impl Block {
    /// A block between call marks.
    pub(super) fn tagged(open: usize, mark: &str, close: &'static str) -> Self {
        Self::new(open, open + mark.len(), close, Form::Unknown)
    }

    /// A `<function=name>` that stands alone.
    pub(super) fn bare(open: usize) -> Self {
        Self::new(open, open, FUNCTION_CLOSE, Form::Bare)
    }

    /// A JSON object in a code fence.
    pub(super) fn fenced(open: usize) -> Self {
        Self::new(open, open, FENCE, Form::Json)
    }

    fn new(open: usize, body: usize, close: &'static str, form: Form) -> Self {
        Self {
            open,
            body,
            close,
            form,
            // Behind the `<` of a bare function, which is no mark inside itself.
            at: if form == Form::Bare { body + 1 } else { body },
            depth: 0,
            quote: None,
            whole: None,
            guesses: Vec::new(),
            group: 0,
            tries: 0,
            is_doubled: false,
        }
    }

    /// Moves the block to where the buffer has been cut off before it.
    pub(super) fn settle(&mut self, open: usize) {
        let cut = self.open.saturating_sub(open);
        self.open -= cut;
        self.body -= cut;
        self.at -= cut;
    }

    /// What has come behind its opening mark, of the buffer it is scanned in.
    pub(super) fn body<'a>(&self, buffer: &'a str) -> &'a str {
        buffer.get(self.body..).unwrap_or_default()
    }

    /// Whether it is JSON in a code fence.
    pub(super) fn is_fenced(&self) -> bool {
        self.close == FENCE
    }

    /// Whether more than the opening mark has come.
    pub(super) fn is_begun(&self) -> bool {
        self.form != Form::Unknown
    }

    /// Reads on from where the last scan stopped.
    pub(super) fn scan(&mut self, text: &str, given: Context<'_>) -> Step {
        if self.form == Form::Unknown
            && let Some(step) = self.begin(text, given)
        {
            return step;
        }
        if self.form == Form::Json {
            self.json(text, given)
        } else {
            self.marks(text, given)
        }
    }

    /// The answer is whole and the block has not closed: its best end, if it can be read at all.
    pub(super) fn finish(&self, text: &str, given: Context<'_>) -> Option<(usize, Reading)> {
        let good = |end: usize, ending| {
            let reading = self.read(text, end, ending, given);
            reading.is_ok().then_some((end, reading))
        };
        let guess = |ending| {
            (0..=self.group).find_map(|group| {
                let (at, reading) = self.guessed(text, group, ending, given)?;
                Some((at + self.close.len(), reading))
            })
        };
        let may_lack_close = self.form != Form::Bare || text.trim_end().ends_with("</parameter>");
        self.whole
            .and_then(|end| good(end, Ending::Whole))
            .or_else(|| guess(Ending::Whole))
            .or_else(|| good(text.len(), Ending::Whole).filter(|_| may_lack_close))
            .or_else(|| guess(Ending::Forgiving))
    }

    /// Tells the form by the first character.
    fn begin(&mut self, text: &str, given: Context<'_>) -> Option<Step> {
        loop {
            let rest = text.get(self.at..).unwrap_or_default();
            let blank = rest.bytes().take_while(u8::is_ascii_whitespace).count();
            self.at += blank;
            let rest = rest.get(blank..).unwrap_or_default();
            match rest.bytes().next() {
                None => return Some(Step::Wait),
                Some(b'{' | b'[') => self.form = Form::Json,
                Some(b'`') => match notation::starts(rest, FENCE) {
                    Start::Yes => self.form = Form::Json,
                    Start::Maybe => return Some(Step::Wait),
                    Start::No => return Some(Step::Prose),
                },
                Some(b'<') => match notation::mark(rest, given.notation) {
                    Mark::Function => self.form = Form::Functions,
                    Mark::Maybe => return Some(Step::Wait),
                    Mark::Result => return Some(Step::Prose),
                    // The mark was written twice; more often is no call.
                    Mark::Open(..) if self.is_doubled => return Some(Step::Prose),
                    Mark::Open(open, close) => {
                        self.is_doubled = true;
                        self.at += open.len();
                        self.body = self.at;
                        self.close = close;
                        continue;
                    }
                    Mark::No => match named(rest.get(1..).unwrap_or_default(), given.tools) {
                        Named::Tool => self.form = Form::Elements,
                        Named::Unknown => return Some(Step::Wait),
                        Named::Other => return Some(Step::Prose),
                    },
                },
                Some(_) => return Some(Step::Prose),
            }
            if self.form != Form::Json {
                self.at += 1;
            }
            return None;
        }
    }

    fn json(&mut self, text: &str, given: Context<'_>) -> Step {
        let bytes = text.as_bytes();
        let mark = self.close.as_bytes().first().copied().unwrap_or(b'<');
        while let Some(&byte) = bytes.get(self.at) {
            if let Some(quote) = self.quote {
                let rest = bytes.get(self.at..).unwrap_or_default();
                let Some(found) = memchr3(quote, b'\\', mark, rest) else {
                    self.at = bytes.len();
                    return Step::Wait;
                };
                self.at += found;
                let byte = bytes.get(self.at).copied().unwrap_or(mark);
                if byte == b'\\' {
                    if self.at + 1 >= bytes.len() {
                        return Step::Wait;
                    }
                    self.at += 2;
                    continue;
                } else if byte == quote {
                    self.quote = None;
                } else if let Some(step) = self.mark(text, given) {
                    return step;
                } else {
                    continue;
                }
            } else if byte == mark {
                if let Some(step) = self.mark(text, given) {
                    return step;
                }
                continue;
            } else {
                match byte {
                    b'"' | b'\'' if self.depth > 0 => self.quote = Some(byte),
                    b'{' | b'[' => self.depth += 1,
                    b'}' | b']' if self.depth > 0 => {
                        self.depth -= 1;
                        if self.depth == 0 {
                            self.whole = Some(self.at + 1);
                        }
                    }
                    _ => {}
                }
            }
            self.at += 1;
        }
        Step::Wait
    }

    fn marks(&mut self, text: &str, given: Context<'_>) -> Step {
        loop {
            let rest = text.as_bytes().get(self.at..).unwrap_or_default();
            let Some(found) = memchr(b'<', rest) else {
                self.at = text.len();
                return Step::Wait;
            };
            self.at += found;
            if let Some(step) = self.mark(text, given) {
                return step;
            }
        }
    }

    /// Deals with what may be a mark at `at`, and moves behind it unless it decides something.
    fn mark(&mut self, text: &str, given: Context<'_>) -> Option<Step> {
        let rest = text.get(self.at..).unwrap_or_default();
        match notation::starts(rest, self.close) {
            Start::Yes => return self.closing(text, given),
            Start::Maybe if !given.is_whole => return Some(Step::Wait),
            _ => {}
        }
        if self.close != FENCE {
            match notation::mark(rest, given.notation) {
                Mark::Open(..) | Mark::Result => return self.boundary(text, given),
                Mark::Maybe if !given.is_whole => return Some(Step::Wait),
                _ => {}
            }
        }
        self.at += 1;
        None
    }

    fn closing(&mut self, text: &str, given: Context<'_>) -> Option<Step> {
        let at = self.at;
        let end = at + self.close.len();
        let before = text.get(self.body..at).unwrap_or_default().trim_end();
        let is_outside = self.quote.is_none();
        let closes = match self.form {
            Form::Json => is_outside && (self.depth == 0 || self.close == FENCE),
            Form::Functions => before.ends_with(FUNCTION_CLOSE) || before.ends_with("</parameter>"),
            Form::Bare => before.ends_with("</parameter>") || is_bare_head(before),
            Form::Elements | Form::Unknown => elements_end(before),
        };
        if closes {
            let mut reading = self.read(text, end, Ending::Whole, given);
            if reading.is_err()
                && let Some(whole) = self.whole.filter(|_| self.close != FENCE)
            {
                // Words behind the object and before the closing mark mean nothing.
                reading = self.read(text, whole, Ending::Whole, given).or(reading);
            }
            return Some(Step::Closed { end, reading });
        }
        if self.form == Form::Json
            && is_outside
            && before.ends_with(['}', ']'])
            && self.tries < TRIES
        {
            self.tries += 1;
            let reading = self.read(text, end, Ending::Forgiving, given);
            if reading.is_ok() {
                return Some(Step::Closed { end, reading });
            }
        }
        let guess = Guess {
            at,
            group: self.group,
        };
        if self.guesses.len() < GUESSES {
            self.guesses.push(guess);
        } else if let Some(last) = self.guesses.last_mut() {
            *last = guess;
        }
        self.at += 1;
        None
    }

    /// Another call or a result seems to begin.
    fn boundary(&mut self, text: &str, given: Context<'_>) -> Option<Step> {
        let at = self.at;
        let before = text.get(self.body..at).unwrap_or_default();
        let is_complete = match self.form {
            Form::Json => self.quote.is_none() && self.depth == 0 && self.whole.is_some(),
            Form::Functions => before.trim_end().ends_with(FUNCTION_CLOSE),
            _ => false,
        };
        if is_complete {
            // The closing mark was forgotten.
            let reading = self.read_to(text, at, Ending::Whole, given);
            return Some(Step::Closed { end: at, reading });
        }
        if let Some((guess, reading)) = self.guessed(text, self.group, Ending::Whole, given) {
            let end = guess + self.close.len();
            return Some(Step::Closed { end, reading });
        }
        self.group += 1;
        self.at += 1;
        None
    }

    /// The last guess of a group at which the block reads.
    fn guessed(
        &self,
        text: &str,
        group: usize,
        ending: Ending,
        given: Context<'_>,
    ) -> Option<(usize, Reading)> {
        let mut guesses = self
            .guesses
            .iter()
            .rev()
            .filter(|guess| guess.group == group);
        guesses.find_map(|guess| {
            let before = text.get(self.body..guess.at)?.trim_end();
            // What does not end like JSON need not be read through.
            if self.form == Form::Json
                && ending == Ending::Whole
                && !before.ends_with(['}', ']', ';', '`'])
            {
                return None;
            }
            let end = guess.at + self.close.len();
            let reading = self.read(text, end, ending, given);
            reading.is_ok().then_some((guess.at, reading))
        })
    }

    /// Reads the block up to `end`, with or without its closing mark before that.
    fn read(&self, text: &str, end: usize, ending: Ending, given: Context<'_>) -> Reading {
        let content = text.get(self.body..end).unwrap_or_default();
        let inner = match self.form {
            // The closing mark of a bare function is part of what is read.
            Form::Bare => content,
            _ => content.strip_suffix(self.close).unwrap_or(content),
        };
        self.read_to(text, self.body + inner.len(), ending, given)
    }

    fn read_to(&self, text: &str, end: usize, ending: Ending, given: Context<'_>) -> Reading {
        let content = text.get(self.body..end).unwrap_or_default();
        let place = if self.close == FENCE {
            Place::Fence
        } else {
            Place::Tag
        };
        match self.form {
            Form::Json => reading::json(content, ending, place, given.tools),
            Form::Functions | Form::Bare => reading::functions(content, ending, given.tools)
                .or_else(|_| reading::functions(content, Ending::Forgiving, given.tools)),
            Form::Elements | Form::Unknown => reading::elements(content, given.tools),
        }
    }
}
