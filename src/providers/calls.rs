//! How often the Qwen site was asked since the start, and what came of it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use reqwest::Response;

use crate::protocol::recording::Purpose;
use crate::providers::UpstreamError;
use crate::tasks::lock;

/// The counts. Cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct Calls(Arc<Mutex<Counted>>);

/// What was counted.
#[derive(Clone, Default)]
pub(crate) struct Counted {
    /// By what was asked and the status that came; `none` where nothing came.
    pub(crate) calls: BTreeMap<(&'static str, String), u64>,
    /// By the error's code.
    pub(crate) errors: BTreeMap<String, u64>,
}

impl Calls {
    pub(super) fn count(&self, purpose: Option<Purpose>, answer: &Result<Response, UpstreamError>) {
        let endpoint = match purpose {
            Some(Purpose::Completion) => "completions",
            Some(Purpose::NewChat) => "new_chat",
            Some(Purpose::Chat) => "chat",
            Some(Purpose::Resume) => "resume",
            None => "other",
        };
        let (status, error) = match answer {
            Ok(response) if response.status().is_success() => {
                (response.status().as_str().to_owned(), None)
            }
            Ok(response) => {
                let status = response.status().as_str().to_owned();
                (status.clone(), Some(format!("status_{status}")))
            }
            Err(error) => ("none".to_owned(), Some(error.code().to_owned())),
        };
        let mut counted = lock(&self.0);
        *counted.calls.entry((endpoint, status)).or_default() += 1;
        if let Some(error) = error {
            *counted.errors.entry(error).or_default() += 1;
        }
    }

    pub(crate) fn counted(&self) -> Counted {
        lock(&self.0).clone()
    }
}
