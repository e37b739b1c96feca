//! Chats that were opened before anybody asked for them, so that a first message waits for one round trip less.

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use crate::protocol::qwen::request::ChatType;
use crate::tasks::lock;

/// How long an unused chat is believed to be there.
const KEPT: Duration = Duration::from_mins(10);
/// Kinds that a spare is kept for.
const MOST: usize = 16;

/// An account, a model and a kind of chat.
pub(crate) type Kind = (String, String, ChatType);

/// One spare of each kind at most.
#[derive(Default)]
pub(crate) struct Spares(Mutex<HashMap<Kind, (Instant, String)>>);

impl Spares {
    /// The spare chat of this kind, for use.
    pub(crate) fn take(&self, kind: &Kind) -> Option<String> {
        let (opened, chat_id) = lock(&self.0).remove(kind)?;
        (opened.elapsed() < KEPT).then_some(chat_id)
    }

    /// Whether another spare of this kind is of use.
    pub(crate) fn lacks(&self, kind: &Kind) -> bool {
        let mut spares = lock(&self.0);
        spares.retain(|_, (opened, _)| opened.elapsed() < KEPT);
        spares.len() < MOST && !spares.contains_key(kind)
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        lock(&self.0)
            .values()
            .filter(|(opened, _)| opened.elapsed() < KEPT)
            .count()
    }

    pub(crate) fn keep(&self, kind: Kind, chat_id: String) {
        lock(&self.0).insert(kind, (Instant::now(), chat_id));
    }
}
