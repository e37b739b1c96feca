//! Counts of tokens for answers whose upstream told none.
//!
//! The tokenizer takes 5 ms for 100 KB (release build), and prompts of agents are that long: what is longer than a few KB is
//! counted off the threads that carry all other streams, a few texts at a time.

use std::sync::Arc;

use bytes::Bytes;
use serde_json::Value;
use tokio::sync::Semaphore;

use crate::protocol::openai::chunk::Usage;
use crate::protocol::openai::tokens;

/// Bytes that are counted where they are: in less time than a thread takes to wake.
const SHORT: usize = 8 << 10;
/// Texts that are counted at once.
const AT_ONCE: usize = 2;

/// See the module. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Counting(Arc<Semaphore>);

impl Default for Counting {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(AT_ONCE)))
    }
}

impl Counting {
    /// What an answer came to, from the request's body and the answer's message.
    pub(crate) async fn usage(&self, request: Bytes, message: Value) -> Usage {
        let bytes = request.len() + said(&message);
        self.count(bytes, move || tokens::estimate(&request, &message))
            .await
            .unwrap_or_default()
    }

    /// The tokens of a chat request of so many bytes.
    pub(crate) async fn request(&self, chat: Value, bytes: usize) -> u64 {
        self.count(bytes, move || tokens::of_request(&chat))
            .await
            .unwrap_or_default()
    }

    /// None where the counting failed: then nothing is told rather than the answer held back.
    async fn count<T: Send + 'static>(
        &self,
        bytes: usize,
        count: impl FnOnce() -> T + Send + 'static,
    ) -> Option<T> {
        if bytes <= SHORT {
            return Some(count());
        }
        let place = self.0.clone().acquire_owned().await.ok()?;
        // The place goes along: whoever waits may leave, the thread counts on.
        let counted = tokio::task::spawn_blocking(move || {
            let _place = place;
            count()
        });
        counted.await.ok()
    }
}

/// The bytes of an answer's texts.
fn said(message: &Value) -> usize {
    let text = |key: &str| message[key].as_str().map_or(0, str::len);
    let calls = message["tool_calls"].as_array();
    let called = calls.into_iter().flatten();
    let arguments = called.filter_map(|call| call["function"]["arguments"].as_str());
    text("content") + text("reasoning_content") + arguments.map(str::len).sum::<usize>()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_long_prompt_is_counted_off_the_thread_that_asks() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .expect("a runtime");
        let own = std::thread::current().id();
        let thread = |bytes| {
            let counting = Counting::default();
            runtime.block_on(counting.count(bytes, || std::thread::current().id()))
        };
        assert_eq!(thread(SHORT), Some(own));
        assert!(thread(SHORT + 1).is_some_and(|other| other != own));
        // And it is the same count.
        let body = json!({"messages": [{"role": "user", "content": "word ".repeat(SHORT)}]});
        let message = json!({"content": "hello world"});
        let request = Bytes::from(body.to_string());
        let expected = tokens::estimate(&request, &message);
        let counted = runtime.block_on(Counting::default().usage(request, message));
        assert_eq!(counted, expected);
        assert!(counted.is_estimated && counted.completion == Some(2));
    }
}
