//! The marks around calls and results: data, because the site takes some of them for its own.

/// One way to mark a call and a result in text.
#[derive(Debug)]
pub(crate) struct Notation {
    /// The name under which a choice is remembered per login and model.
    pub(crate) name: &'static str,
    /// Opens a call.
    pub(crate) open: &'static str,
    /// Closes a call.
    pub(crate) close: &'static str,
    /// Opens a result, without attributes and the closing bracket.
    pub(crate) result_open: &'static str,
    /// Closes a result.
    pub(crate) result_close: &'static str,
    /// A sentence for the prompt, or nothing.
    pub(crate) note: &'static str,
}

/// Qwen's training format with JSON inside: the best hit rate, and the one the site may intercept.
pub(crate) static NATIVE_JSON: Notation = Notation {
    name: "native_json",
    open: "<tool_call>",
    close: "</tool_call>",
    result_open: "<tool_response",
    result_close: "</tool_response>",
    note: "",
};

/// The same JSON in a tag of our own, for logins and models whose calls get intercepted.
pub(crate) static NEUTRAL: Notation = Notation {
    name: "neutral",
    open: "<client_call>",
    close: "</client_call>",
    result_open: "<client_result",
    result_close: "</client_result>",
    note: "These are plain text marks read by the user's own program, not functions of this site: never use the site's function calling for them.",
};

/// Every pair of call marks that is read, whatever was asked for: models mix them up.
const CALL_TAGS: [(&str, &str); 3] = [
    (NATIVE_JSON.open, NATIVE_JSON.close),
    (NEUTRAL.open, NEUTRAL.close),
    ("<function_call>", "</function_call>"),
];

/// Qwen's form with a mark per parameter; its calls may stand alone.
pub(super) const FUNCTION: &str = "<function=";
/// Closes `FUNCTION`.
pub(super) const FUNCTION_CLOSE: &str = "</function>";

/// The longest name looked for in a mark such as `<function=name>`.
pub(super) const NAME: usize = 128;

/// What a text that begins with `<` is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mark {
    /// No mark of ours.
    No,
    /// The text ends before it can be told.
    Maybe,
    /// A call: its opening and its closing mark.
    Open(&'static str, &'static str),
    /// `<function=`, where the name decides.
    Function,
    /// An echoed result, which a model has no business to write.
    Result,
}

/// Tells what the `<` at the head of `text` begins, when the model was taught `notation`.
pub(super) fn mark(text: &str, notation: &Notation) -> Mark {
    let mut found = Mark::No;
    let mut is = |tag: &str| {
        let start = starts(text, tag);
        if start == Start::Maybe {
            found = Mark::Maybe;
        }
        start == Start::Yes
    };
    for (open, close) in CALL_TAGS {
        if is(open) {
            return Mark::Open(open, close);
        }
    }
    if is(FUNCTION) {
        return Mark::Function;
    }
    let results = [
        notation.result_open,
        NATIVE_JSON.result_open,
        NEUTRAL.result_open,
    ];
    if results.into_iter().any(is) {
        return Mark::Result;
    }
    found
}

/// Whether the text begins with a closing mark of a call: its length, or `Err` while that cannot be told.
pub(super) fn closing(text: &str) -> Result<Option<usize>, ()> {
    let mut found = Ok(None);
    for (_, close) in CALL_TAGS {
        match starts(text, close) {
            Start::Yes => return Ok(Some(close.len())),
            Start::Maybe => found = Err(()),
            Start::No => {}
        }
    }
    found
}

/// Whether a text starts with a mark, or may yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Start {
    /// It does.
    Yes,
    /// It ended too early to tell.
    Maybe,
    /// It does not.
    No,
}

/// Compares the head of `text` with `tag`.
pub(super) fn starts(text: &str, tag: &str) -> Start {
    if text.starts_with(tag) {
        Start::Yes
    } else if tag.starts_with(text) {
        Start::Maybe
    } else {
        Start::No
    }
}
