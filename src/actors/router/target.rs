//! One provider and one of its models: where an attempt goes.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::limits::routing::{RESTS, UNFIT_AVOIDED};
use crate::protocol::openai::continuation::Way;
use crate::providers::{Blame, Provider, Record, UpstreamError, Verdict};
use crate::routing::dice;
use crate::routing::facts::Facts;
use crate::routing::node::{Closed, Glance, Node, Pass};

/// One provider, and the name it knows the model by.
#[derive(Clone)]
pub(crate) struct Target {
    pub(crate) provider: String,
    pub(crate) upstream_model: String,
    pub(crate) adapter: Arc<dyn Provider>,
    /// The provider's own silence limit, when its configuration has one.
    pub(crate) timeout: Option<Duration>,
    /// Whether it understands `stream_options`.
    pub(crate) reports_usage: bool,
    /// Which of its exchanges are recorded, when its configuration says so.
    pub(crate) record: Option<Record>,
    pub(crate) facts: Facts,
    /// Its share, where shares count.
    pub(crate) weight: u32,
    /// A hash of provider and model.
    pub(crate) hash: u64,
    pub(crate) provider_node: Arc<Node>,
    pub(crate) node: Arc<Node>,
}

impl Target {
    /// A target of which nothing more is known.
    pub(crate) fn bare(provider: &str, upstream_model: &str, adapter: Arc<dyn Provider>) -> Self {
        Self {
            hash: dice::hash(format!("{provider}/{upstream_model}").as_bytes()),
            provider: provider.to_owned(),
            upstream_model: upstream_model.to_owned(),
            adapter,
            timeout: None,
            reports_usage: true,
            record: None,
            facts: Facts::default(),
            weight: 1,
            provider_node: Arc::default(),
            node: Arc::default(),
        }
    }

    /// The same with another share.
    pub(crate) fn weighing(self: &Arc<Self>, weight: u32) -> Arc<Self> {
        if self.weight == weight {
            return self.clone();
        }
        Arc::new(Self {
            weight,
            ..Self::clone(self)
        })
    }

    pub(crate) fn is_same(&self, other: &Self) -> bool {
        self.provider == other.provider && self.upstream_model == other.upstream_model
    }

    /// As clients write it.
    pub(crate) fn name(&self) -> String {
        format!("{}/{}", self.provider, self.upstream_model)
    }

    /// How it is brought to go on with an answer that another one began.
    pub(crate) fn way(&self) -> Way {
        match (self.facts.prefill, self.adapter.kind()) {
            (Some(true), "mistral") => Way::Prefill(Some("prefix")),
            (Some(true), "dashscope" | "moonshot") => Way::Prefill(Some("partial")),
            (Some(true), _) => Way::Prefill(None),
            _ => Way::Instruction,
        }
    }

    /// The code of what went wrong last.
    pub(crate) fn last_error(&self) -> Option<&'static str> {
        self.node
            .last_error()
            .or_else(|| self.provider_node.last_error())
    }

    pub(crate) fn glance(&self, tokens: u64, now: Instant) -> Glance {
        let (provider, own) = (
            self.provider_node.glance(tokens, now),
            self.node.glance(tokens, now),
        );
        Glance {
            closed: provider.closed.or(own.closed),
            is_avoided: provider.is_avoided || own.is_avoided,
            is_suspect: provider.is_suspect || own.is_suspect,
            in_flight: provider.in_flight.max(own.in_flight),
        }
    }

    /// Lets a probe in before the breaker's time where nobody else serves. Returns from when on; none if more than the
    /// breaker is in the way.
    pub(crate) fn hurry(&self, tokens: u64, now: Instant) -> Option<Instant> {
        let (provider, own) = (&self.provider_node, &self.node);
        let earliest = provider
            .earliest(tokens, now)?
            .max(own.earliest(tokens, now)?);
        if earliest <= now {
            provider.hurry(now);
            own.hurry(now);
        }
        Some(earliest)
    }

    /// Lets a request in, or says why not.
    pub(crate) fn enter(&self, tokens: u64, now: Instant) -> Result<Entrance, Closed> {
        // Looked at first, so that the provider's limits are not charged for what its model cannot serve.
        if let Some(closed) = self.node.glance(tokens, now).closed {
            return Err(closed);
        }
        let provider = self.provider_node.enter(tokens, now)?;
        let own = self.node.enter(tokens, now)?;
        Ok(Entrance { provider, own })
    }
}

/// A request that a target serves.
pub(crate) struct Entrance {
    provider: Pass,
    own: Pass,
}

impl Entrance {
    /// The first content came after `took`.
    pub(crate) fn began(&self, took: Duration, now: Instant) {
        self.own.began(took, now);
    }

    /// A whole answer came after `took`.
    pub(crate) fn took(&self, took: Duration) {
        self.own.took(took);
    }

    /// Returns whether that closed a breaker.
    pub(crate) fn succeeded(&mut self, tokens: Option<u64>, now: Instant) -> bool {
        let provider = self.provider.succeeded(tokens, now);
        self.own.succeeded(tokens, now) || provider
    }

    /// Returns whether that opened a breaker.
    pub(crate) fn failed(&mut self, target: &Target, error: &UpstreamError, now: Instant) -> bool {
        match (error.blame(), error.verdict()) {
            (Blame::Provider, _) => return self.provider.failed(error.code(), now),
            (Blame::Target, _) => {
                self.provider.succeeded(None, now);
                if let Some(wait) = error.retry_after() {
                    target.node.rest(now + wait, error.code());
                }
                return self.own.failed(error.code(), now);
            }
            // It refused for a good reason, so it is well.
            (Blame::Nobody, Verdict::Caller | Verdict::TooLong | Verdict::Filtered) => {
                self.succeeded(None, now);
            }
            (Blame::Nobody, Verdict::Elsewhere) => target.node.avoid(now + UNFIT_AVOIDED),
            (Blame::Nobody, Verdict::Passing) => {
                let wait = error.retry_after().unwrap_or(RESTS);
                target.node.rest(now + wait, error.code());
            }
        }
        false
    }
}
