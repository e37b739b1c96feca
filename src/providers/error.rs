//! Why an attempt failed, in the terms routing decides by.

use std::fmt;
use std::time::Duration;

use crate::protocol::openai::error::UpstreamFault;

/// Which clock ran out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    Connect,
    FirstByte,
    /// Nothing at all came.
    Idle,
    /// Bytes came, but no event. Decided by whoever reads the events.
    Progress,
    /// It did not come to its end.
    Whole,
}

impl fmt::Display for Phase {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Connect => "to connect",
            Self::FirstByte => "to begin its answer",
            Self::Idle => "to send more",
            Self::Progress => "to get on with its answer",
            Self::Whole => "to end its answer",
        })
    }
}

/// What the upstream did. No variant holds an address, a header or a key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum UpstreamError {
    #[error("cannot connect to provider `{provider}`: {reason}")]
    Connect { provider: String, reason: String },
    #[error("provider `{provider}` took longer than {} ms {phase}", after.as_millis())]
    Timeout {
        provider: String,
        phase: Phase,
        after: Duration,
    },
    #[error("provider `{provider}` answered {status}: {}", fault.message)]
    Status {
        provider: String,
        status: u16,
        fault: UpstreamFault,
        retry_after: Option<Duration>,
        /// The upstream's `x-should-retry`.
        should_retry: Option<bool>,
    },
    #[error("provider `{provider}` sent what is not an answer: {reason}")]
    Malformed { provider: String, reason: String },
    #[error("provider `{provider}` ended early: {reason}")]
    Cut { provider: String, reason: String },
    #[error("provider `{provider}` sent more than {limit} bytes")]
    TooLarge { provider: String, limit: usize },
    /// An error inside a 200 stream or body.
    #[error("provider `{provider}` reported: {}", fault.message)]
    InBand {
        provider: String,
        fault: UpstreamFault,
    },
}

/// What a failure means for the request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The request itself is at fault: nobody would take it.
    Caller,
    /// The request is longer than the model's context.
    TooLong,
    /// The upstream's filter refuses the content.
    Filtered,
    /// This target cannot serve it, now or ever: a key, a quota, an unknown model. Another may.
    Elsewhere,
    /// It passes: the same target or another may be tried.
    Passing,
}

/// What a failure says about whom it happened with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Blame {
    /// Nothing: the request is at fault, or somebody is only asked to wait.
    Nobody,
    /// The model at this provider.
    Target,
    /// The provider, so all its models.
    Provider,
}

impl UpstreamError {
    /// See [`Verdict`].
    pub(crate) fn verdict(&self) -> Verdict {
        let by_words = self.fault().and_then(worded);
        match self {
            Self::Status { status: 413, .. } => Verdict::TooLong,
            Self::Status { .. } | Self::InBand { .. } if by_words.is_some() => {
                by_words.unwrap_or(Verdict::Caller)
            }
            Self::Status {
                status: 401..=404, ..
            }
            | Self::TooLarge { .. } => Verdict::Elsewhere,
            Self::Status { fault, .. } | Self::InBand { fault, .. } if fault.is_quota() => {
                Verdict::Elsewhere
            }
            _ if self.is_retryable() => Verdict::Passing,
            // The upstream says that a retry does not help there.
            Self::Status {
                status: 429 | 500..,
                ..
            } => Verdict::Elsewhere,
            Self::InBand { fault, .. } if matches!(fault.status, Some(401..=404)) => {
                Verdict::Elsewhere
            }
            _ => Verdict::Caller,
        }
    }

    /// See [`Blame`].
    pub(crate) fn blame(&self) -> Blame {
        let fault = self.fault();
        let is_busy = matches!(self, Self::Status { status: 429, .. })
            || fault.is_some_and(|fault| fault.status == Some(429) || fault.is_quota());
        let is_unreachable = matches!(
            self,
            Self::Connect { .. }
                | Self::Timeout {
                    phase: Phase::Connect,
                    ..
                }
        );
        match self.verdict() {
            Verdict::Caller | Verdict::TooLong | Verdict::Filtered | Verdict::Elsewhere => {
                Blame::Nobody
            }
            // A busy upstream is not a broken one.
            Verdict::Passing if is_busy => Blame::Nobody,
            Verdict::Passing if is_unreachable => Blame::Provider,
            Verdict::Passing => Blame::Target,
        }
    }

    /// Whether the same or another target may be tried, provided that the client has seen nothing yet.
    pub(crate) fn is_retryable(&self) -> bool {
        match self {
            Self::Connect { .. }
            | Self::Timeout { .. }
            | Self::Malformed { .. }
            | Self::Cut { .. } => true,
            Self::TooLarge { .. } => false,
            Self::Status {
                status,
                fault,
                should_retry,
                ..
            } => !fault.is_quota() && should_retry.unwrap_or_else(|| is_passing(*status)),
            Self::InBand { fault, .. } => !fault.is_quota() && fault.status.is_none_or(is_passing),
        }
    }

    /// The id of the provider it happened with.
    pub(crate) fn provider(&self) -> &str {
        match self {
            Self::Connect { provider, .. }
            | Self::Timeout { provider, .. }
            | Self::Status { provider, .. }
            | Self::Malformed { provider, .. }
            | Self::Cut { provider, .. }
            | Self::TooLarge { provider, .. }
            | Self::InBand { provider, .. } => provider,
        }
    }

    /// The stable word for rows, metrics and clients.
    pub(crate) fn code(&self) -> &'static str {
        match self {
            Self::Connect { .. } => "upstream_unreachable",
            Self::Timeout {
                phase: Phase::Connect,
                ..
            } => "upstream_connect_timeout",
            Self::Timeout {
                phase: Phase::FirstByte,
                ..
            } => "upstream_first_byte_timeout",
            Self::Timeout {
                phase: Phase::Idle | Phase::Progress,
                ..
            } => "upstream_idle_timeout",
            Self::Timeout {
                phase: Phase::Whole,
                ..
            } => "upstream_too_long",
            Self::Status { fault, .. } | Self::InBand { fault, .. } if fault.is_quota() => {
                "insufficient_quota"
            }
            Self::Status {
                status: 401 | 403, ..
            } => "upstream_auth",
            Self::Status { status: 429, .. } => "upstream_rate_limited",
            Self::Status { status: 500.., .. } => "upstream_error",
            Self::Status { .. } => "upstream_refused",
            Self::Malformed { .. } => "upstream_malformed",
            Self::Cut { .. } => "upstream_cut",
            Self::TooLarge { .. } => "upstream_too_large",
            Self::InBand { .. } => "upstream_in_band_error",
        }
    }

    /// The status the upstream sent, or named inside its error.
    pub(crate) fn status(&self) -> Option<u16> {
        match self {
            Self::Status { status, .. } => Some(*status),
            Self::InBand { fault, .. } => fault.status,
            Self::Connect { .. }
            | Self::Timeout { .. }
            | Self::Malformed { .. }
            | Self::Cut { .. }
            | Self::TooLarge { .. } => None,
        }
    }

    /// How long the upstream asked to be left alone.
    pub(crate) fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Status { retry_after, .. } => *retry_after,
            _ => None,
        }
    }

    /// What the upstream said, when it said something.
    pub(crate) fn fault(&self) -> Option<&UpstreamFault> {
        match self {
            Self::Status { fault, .. } | Self::InBand { fault, .. } => Some(fault),
            _ => None,
        }
    }
}

/// What the words of a fault mean, where its status does not say: vendors answer these with 400, 422 or 200.
fn worded(fault: &UpstreamFault) -> Option<Verdict> {
    const TOO_LONG: [&str; 9] = [
        "context_length_exceeded",
        "context length",
        "context window",
        "context size",
        "prompt is too long",
        "input is too long",
        "maximum number of tokens",
        "range of input length",
        "too many tokens",
    ];
    const FILTERED: [&str; 6] = [
        "content_filter",
        "content_policy_violation",
        "data_inspection_failed",
        "content management policy",
        "responsible_ai_policy_violation",
        "inappropriate content",
    ];
    const UNKNOWN_MODEL: [&str; 4] = [
        "model_not_found",
        "model_not_supported",
        "model not found",
        "no such model",
    ];
    let said = [&fault.code, &fault.kind, &Some(fault.message.clone())]
        .into_iter()
        .flatten()
        .map(|word| word.to_ascii_lowercase())
        .collect::<Vec<_>>();
    let names = |list: &[&str]| {
        list.iter()
            .any(|word| said.iter().any(|said| said.contains(word)))
    };
    if names(&FILTERED) {
        Some(Verdict::Filtered)
    } else if names(&TOO_LONG) && fault.code.as_deref() != Some("rate_limit_exceeded") {
        Some(Verdict::TooLong)
    } else if names(&UNKNOWN_MODEL) {
        Some(Verdict::Elsewhere)
    } else {
        None
    }
}

/// 408, 429 and 5xx pass (R22); 409 and 425 are in the same spirit, and the SDKs retry them too.
fn is_passing(status: u16) -> bool {
    matches!(status, 408 | 409 | 425 | 429 | 500..)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(status: u16, code: Option<&str>, should_retry: Option<bool>) -> UpstreamError {
        let fault = UpstreamFault {
            message: "m".into(),
            code: code.map(str::to_owned),
            ..UpstreamFault::default()
        };
        UpstreamError::Status {
            provider: "p".into(),
            status,
            fault,
            retry_after: None,
            should_retry,
        }
    }

    #[test]
    fn each_failure_has_its_verdict_and_its_blame() {
        let timeout = |phase| UpstreamError::Timeout {
            provider: "p".into(),
            phase,
            after: Duration::from_secs(1),
        };
        let said = |code: u16, message: &str| UpstreamError::Status {
            provider: "p".into(),
            status: code,
            fault: UpstreamFault::text(message),
            retry_after: None,
            should_retry: None,
        };
        let connect = UpstreamError::Connect {
            provider: "p".into(),
            reason: "r".into(),
        };
        let cut = UpstreamError::Cut {
            provider: "p".into(),
            reason: "r".into(),
        };
        let in_band = UpstreamError::InBand {
            provider: "p".into(),
            fault: UpstreamFault::text("the engine died"),
        };
        for (error, verdict, blame) in [
            (status(429, None, None), Verdict::Passing, Blame::Nobody),
            (
                status(429, Some("insufficient_quota"), None),
                Verdict::Elsewhere,
                Blame::Nobody,
            ),
            (status(503, None, None), Verdict::Passing, Blame::Target),
            (
                status(503, None, Some(false)),
                Verdict::Elsewhere,
                Blame::Nobody,
            ),
            (status(400, None, None), Verdict::Caller, Blame::Nobody),
            (status(422, None, None), Verdict::Caller, Blame::Nobody),
            (status(401, None, None), Verdict::Elsewhere, Blame::Nobody),
            (status(404, None, None), Verdict::Elsewhere, Blame::Nobody),
            (status(413, None, None), Verdict::TooLong, Blame::Nobody),
            (
                status(400, Some("context_length_exceeded"), None),
                Verdict::TooLong,
                Blame::Nobody,
            ),
            (
                said(400, "This model's maximum context length is 8192 tokens"),
                Verdict::TooLong,
                Blame::Nobody,
            ),
            (
                said(400, "prompt is too long: 210000 tokens > 200000 maximum"),
                Verdict::TooLong,
                Blame::Nobody,
            ),
            (
                status(400, Some("content_filter"), None),
                Verdict::Filtered,
                Blame::Nobody,
            ),
            (
                status(400, Some("data_inspection_failed"), None),
                Verdict::Filtered,
                Blame::Nobody,
            ),
            (
                status(400, Some("model_not_found"), None),
                Verdict::Elsewhere,
                Blame::Nobody,
            ),
            (connect, Verdict::Passing, Blame::Provider),
            (timeout(Phase::Connect), Verdict::Passing, Blame::Provider),
            (timeout(Phase::FirstByte), Verdict::Passing, Blame::Target),
            (cut, Verdict::Passing, Blame::Target),
            (in_band, Verdict::Passing, Blame::Target),
        ] {
            assert_eq!(
                (error.verdict(), error.blame()),
                (verdict, blame),
                "{error}"
            );
        }
    }

    #[test]
    fn what_passes_is_retryable() {
        for (error, retryable, code) in [
            (status(429, None, None), true, "upstream_rate_limited"),
            (
                status(429, Some("insufficient_quota"), None),
                false,
                "insufficient_quota",
            ),
            (status(503, None, None), true, "upstream_error"),
            (status(503, None, Some(false)), false, "upstream_error"),
            (status(400, None, None), false, "upstream_refused"),
            (status(400, None, Some(true)), true, "upstream_refused"),
            (status(401, None, None), false, "upstream_auth"),
            (
                UpstreamError::Connect {
                    provider: "p".into(),
                    reason: "r".into(),
                },
                true,
                "upstream_unreachable",
            ),
            (
                UpstreamError::TooLarge {
                    provider: "p".into(),
                    limit: 1,
                },
                false,
                "upstream_too_large",
            ),
        ] {
            assert_eq!(
                (error.is_retryable(), error.code()),
                (retryable, code),
                "{error}"
            );
        }
    }
}
