//! Why a verb did not do what was asked, and the exit codes of the program.

use std::io;
use std::process::ExitCode;

use serde_json::Value;

/// How a verb ended that could say so. The numbers are a promise to scripts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    Done = 0,
    Failed = 1,
    Usage = 2,
    NotRunning = 3,
    Unhealthy = 4,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        ExitCode::from(exit as u8)
    }
}

/// What a verb returns.
pub(crate) type Outcome = Result<Exit, Failure>;

/// Why a verb ended early. Its text is what the user reads.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    #[error("{0}")]
    Usage(String),
    #[error("no qwarden answers at {url} ({reason}); `qwarden serve` starts it")]
    NotRunning { url: String, reason: String },
    /// The gateway refused; boxed, since it carries the whole answer.
    #[error("{0}")]
    Refused(Box<Refusal>),
    #[error("{0}")]
    Other(String),
    /// Whoever read standard output has left: there is nobody to tell.
    #[error("standard output is closed")]
    Closed,
}

/// An error of the API.
#[derive(Debug, thiserror::Error)]
#[error("{message}{}", request_id.as_ref().map(|id| format!(" (request {id})")).unwrap_or_default())]
pub(crate) struct Refusal {
    pub(crate) status: u16,
    pub(crate) message: String,
    pub(crate) request_id: Option<String>,
    pub(crate) body: Value,
}

impl Failure {
    pub(crate) fn exit(&self) -> Exit {
        match self {
            Self::Usage(_) => Exit::Usage,
            Self::NotRunning { .. } => Exit::NotRunning,
            Self::Refused(_) | Self::Other(_) => Exit::Failed,
            Self::Closed => Exit::Done,
        }
    }

    /// Whether the gateway said that there is no such thing, or no such route.
    pub(crate) fn is_missing(&self) -> bool {
        matches!(self, Self::Refused(refusal) if refusal.status == 404)
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe {
            Self::Closed
        } else {
            Self::Other(error.to_string())
        }
    }
}

/// What a gateway leaves out counts as nothing; what it adds is not looked at.
pub(crate) fn or_nothing(answer: Result<Value, Failure>) -> Result<Value, Failure> {
    match answer {
        Err(failure) if failure.is_missing() => Ok(Value::Null),
        answer => answer,
    }
}
