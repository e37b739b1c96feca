//! What a request needs of a model.

use crate::protocol::openai::request::ChatRequest;
use crate::routing::facts::{Facts, Price};

/// What of a request decides where it can go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Needs {
    pub(crate) tools: bool,
    pub(crate) vision: bool,
    pub(crate) structured: bool,
    /// About how many tokens it is.
    pub(crate) tokens: u64,
}

/// What a model lacks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lack {
    Tools,
    Vision,
    Structured,
    /// Its context holds no more tokens than this.
    Context(u64),
}

impl Needs {
    pub(crate) fn of(request: &ChatRequest) -> Self {
        let (images, tokens) = request.estimate();
        Self {
            tools: request.has_tools,
            vision: images > 0,
            structured: request.has_schema,
            tokens,
        }
    }

    /// What a model is known to lack; what nobody said of it is no lack.
    pub(crate) fn unmet(&self, facts: &Facts) -> Option<Lack> {
        if let Some(most) = facts.context_length.filter(|most| self.tokens > *most) {
            return Some(Lack::Context(most));
        }
        [
            (self.tools, facts.tools, Lack::Tools),
            (self.vision, facts.vision, Lack::Vision),
            (self.structured, facts.structured, Lack::Structured),
        ]
        .into_iter()
        .find(|(is_needed, is_offered, _)| *is_needed && *is_offered == Some(false))
        .map(|(_, _, lack)| lack)
    }

    /// What the request costs about, micro-dollars: its tokens, and a quarter as many for the answer.
    pub(crate) fn cost(&self, price: &Price) -> u64 {
        let of = |tokens: u64, price: u64| tokens.saturating_mul(price);
        (of(self.tokens, price.input)).saturating_add(of(self.tokens / 4 + 250, price.output))
            / 1_000_000
    }
}

impl Lack {
    /// In the words of a sentence: "it ...".
    pub(crate) fn words(self) -> String {
        match self {
            Self::Tools => "does not call tools".into(),
            Self::Vision => "takes no images".into(),
            Self::Structured => "does not answer by a schema".into(),
            Self::Context(most) => format!("holds {most} tokens at most"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_known_to_lack_is_a_lack() {
        let needs = Needs {
            tools: true,
            vision: false,
            structured: false,
            tokens: 9_000,
        };
        assert_eq!(needs.unmet(&Facts::default()), None);
        let of = |context_length, tools, vision| Facts {
            context_length,
            tools,
            vision,
            ..Facts::default()
        };
        assert_eq!(needs.unmet(&of(Some(9_000), Some(true), Some(false))), None);
        assert_eq!(needs.unmet(&of(None, Some(false), None)), Some(Lack::Tools));
        assert_eq!(
            needs.unmet(&of(Some(8_192), None, None)),
            Some(Lack::Context(8_192))
        );
    }
}
