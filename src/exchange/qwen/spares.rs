//! Chats that were opened before anybody asked for them, so that a first message waits for one round trip less.

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::Instant;

use crate::limits::qwen::{MOST_SPARES, SPARES_KEPT};
use crate::protocol::qwen::request::ChatType;
use crate::tasks::lock;

/// An account, a model and a kind of chat.
pub(crate) type Kind = (String, String, ChatType);

/// One spare of each kind at most.
#[derive(Default)]
pub(crate) struct Spares(Mutex<HashMap<Kind, (Instant, String)>>);

impl Spares {
    /// The spare chat of this kind, for use.
    pub(crate) fn take(&self, kind: &Kind) -> Option<String> {
        let (opened, chat_id) = lock(&self.0).remove(kind)?;
        (opened.elapsed() < SPARES_KEPT).then_some(chat_id)
    }

    /// Whether another spare of this kind is of use.
    pub(crate) fn lacks(&self, kind: &Kind) -> bool {
        let mut spares = lock(&self.0);
        spares.retain(|_, (opened, _)| opened.elapsed() < SPARES_KEPT);
        spares.len() < MOST_SPARES && !spares.contains_key(kind)
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        lock(&self.0)
            .values()
            .filter(|(opened, _)| opened.elapsed() < SPARES_KEPT)
            .count()
    }

    pub(crate) fn keep(&self, kind: Kind, chat_id: String) {
        lock(&self.0).insert(kind, (Instant::now(), chat_id));
    }
}
