//! The answer as a series of steps, made one at a time: a long one costs no memory.

use std::iter;
use std::sync::Arc;
use std::time::Duration;

use super::directives::Plan;
use crate::protocol::openai::build::{self, CallDelta, Delta, Head};
use crate::protocol::openai::chunk::Usage;

/// Characters of a call's arguments in one piece.
const FRAGMENT: usize = 8;

/// One thing the echo does.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    Pause(Duration),
    /// The data of one event.
    Send(String),
    /// An error event, the last one.
    Fail(String),
    /// The connection ends.
    Cut,
}

pub(super) type Steps = Box<dyn Iterator<Item = Step> + Send>;

/// Everything from the first chunk to `[DONE]`.
pub(super) fn steps(plan: &Plan, head: Head) -> Steps {
    let head = Arc::new(head);
    let send = |head: &Arc<Head>, delta: &Delta| Step::Send(build::chunk(head, delta, None));
    let first = iter::once(send(&head, &Delta::role()));
    let reasoning: Vec<Step> = plan
        .reasoning
        .iter()
        .map(|word| send(&head, &Delta::reasoning(word.clone())))
        .collect();
    let shown = plan
        .cut
        .into_iter()
        .chain(plan.error)
        .min()
        .map_or(plan.word_count(), |stop| stop.min(plan.word_count()));
    let words =
        spoken(plan, &head).take(usize::try_from(shown.saturating_mul(2)).unwrap_or(usize::MAX));
    let begin = first.chain(reasoning).chain(words);
    match (plan.cut, plan.error) {
        (Some(cut), error) if error.is_none_or(|error| cut <= error) => {
            Box::new(begin.chain(iter::once(Step::Cut)))
        }
        (_, Some(_)) => {
            let error = build::error("failed as asked", "server_error", Some("echo_error"));
            Box::new(begin.chain(iter::once(Step::Fail(error))))
        }
        _ => Box::new(begin.chain(ending(plan, &head))),
    }
}

/// Two steps for each word: a pause and the word.
fn spoken(plan: &Plan, head: &Arc<Head>) -> impl Iterator<Item = Step> + Send + use<> {
    let (words, delay, repeat, head) = (
        Arc::new(plan.words.clone()),
        plan.delay,
        plan.repeat,
        Arc::clone(head),
    );
    (0..repeat).flat_map(move |round| {
        let (words, head) = (Arc::clone(&words), Arc::clone(&head));
        (0..words.len()).flat_map(move |at| {
            let mut word = words.get(at).cloned().unwrap_or_default();
            if at + 1 == words.len() && round + 1 < repeat {
                word.push(' ');
            }
            [
                Step::Pause(delay),
                Step::Send(build::chunk(&head, &Delta::content(word), None)),
            ]
        })
    })
}

fn ending(plan: &Plan, head: &Head) -> Vec<Step> {
    let mut steps = Vec::new();
    let mut reason = "stop";
    if let Some((name, arguments)) = &plan.tool {
        reason = "tool_calls";
        let id = format!("call_{}", head.id.trim_start_matches("chatcmpl-"));
        let start = Delta::call(CallDelta::start(0, id, name.clone()));
        steps.push(Step::Send(build::chunk(head, &start, None)));
        let characters: Vec<char> = arguments.chars().collect();
        for piece in characters.chunks(FRAGMENT) {
            let piece = Delta::call(CallDelta::arguments(0, piece.iter().collect()));
            steps.push(Step::Send(build::chunk(head, &piece, None)));
        }
    }
    steps.push(Step::Send(build::chunk(
        head,
        &Delta::default(),
        Some(reason),
    )));
    if plan.include_usage {
        steps.push(Step::Send(build::usage_chunk(head, &usage(plan))));
    }
    steps.push(Step::Send("[DONE]".to_owned()));
    steps
}

fn usage(plan: &Plan) -> Usage {
    let reasoning = u64::try_from(plan.reasoning.len()).unwrap_or(u64::MAX);
    let completion = plan.word_count().saturating_add(reasoning);
    Usage {
        prompt: Some(plan.prompt_words),
        completion: Some(completion),
        total: Some(plan.prompt_words.saturating_add(completion)),
        cached: None,
        cache_write: None,
        is_estimated: false,
        reasoning: (reasoning > 0).then_some(reasoning),
    }
}
