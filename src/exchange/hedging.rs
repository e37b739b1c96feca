//! Asking another target beside one that takes unusually long, for short answers that come whole: the first one counts.

use std::time::Duration;

use futures_util::future::{Either, select};
use tokio::time::Instant;

use crate::actors::router::target::Target;
use crate::exchange::attempts::{Picked, Picker};
use crate::exchange::structured;
use crate::exchange::{Attempted, Exchange};
use crate::providers::tape::Tape;
use crate::providers::{Answer, UpstreamError};

/// A longer question is not asked twice.
const LONGEST: u64 = 4_000;

/// How long `target` is given before another one is asked; none when a question of about `tokens` is not asked twice.
pub(super) fn patience(target: &Target, tokens: u64) -> Option<Duration> {
    target.node.usual().filter(|_| tokens <= LONGEST)
}

impl Exchange {
    /// Asks `picked`, and another target once that took longer than `patience`. Afterwards `picked` is the one that is
    /// left, and `number` counts both.
    pub(super) async fn hedged(
        &mut self,
        chances: &mut Picker,
        picked: &mut Picked,
        number: &mut u32,
        tape: Tape,
        patience: Duration,
    ) -> Attempted {
        let began = Instant::now();
        let target = picked.target.clone();
        let call = self.call(&target, tape);
        let deadlines = call.deadlines;
        let mut first = structured::complete(&target, call);
        let waiting = tokio::time::timeout(patience, &mut first);
        match self.downlink.patiently(waiting).await {
            Err(interrupted) => return Attempted::Interrupted(interrupted),
            Ok(Ok(answer)) => return self.take(picked, answer, deadlines, began).await,
            Ok(Err(_)) => {}
        }
        let other = chances.another(picked);
        let Some(mut other) = other.filter(|_| self.retries.spend(Instant::now())) else {
            return match self.downlink.patiently(first).await {
                Ok(answer) => self.take(picked, answer, deadlines, began).await,
                Err(interrupted) => Attempted::Interrupted(interrupted),
            };
        };
        *number += 1;
        let first_place = self.recorder.current();
        let other_target = other.target.clone();
        let other_tape = self.recorder.attempt(*number, &other_target, &self.request);
        let (other_place, other_began) = (self.recorder.current(), Instant::now());
        let other_call = self.call(&other_target, other_tape.clone());
        let other_deadlines = other_call.deadlines;
        let second = structured::complete(&other_target, other_call);
        let (answer, rest, is_first) = match self.downlink.patiently(select(first, second)).await {
            Err(interrupted) => {
                self.recorder.turn_to(first_place);
                self.recorder.attempt_cancelled();
                self.recorder.turn_to(other_place);
                return Attempted::Interrupted(interrupted);
            }
            Ok(Either::Left((answer, second))) => (answer, second, true),
            Ok(Either::Right((answer, first))) => (answer, first, false),
        };
        let (won, lost) = if is_first {
            (first_place, other_place)
        } else {
            (other_place, first_place)
        };
        match answer {
            Ok(answer) => {
                drop(rest);
                self.recorder.turn_to(lost);
                self.recorder.attempt_cancelled();
                self.recorder.turn_to(won);
                let (deadlines, began) = if is_first {
                    (deadlines, began)
                } else {
                    std::mem::swap(picked, &mut other);
                    self.downlink.serving(&picked.target, *number, other_tape);
                    (other_deadlines, other_began)
                };
                drop(other);
                self.take(picked, Ok(answer), deadlines, began).await
            }
            Err(error) => {
                self.recorder.turn_to(won);
                self.failed_beside(chances, if is_first { picked } else { &mut other }, &error);
                self.recorder.turn_to(lost);
                let (deadlines, began) = if is_first {
                    std::mem::swap(picked, &mut other);
                    self.downlink.serving(&picked.target, *number, other_tape);
                    (other_deadlines, other_began)
                } else {
                    (deadlines, began)
                };
                drop(other);
                self.last_of_two(picked, rest, deadlines, began).await
            }
        }
    }

    /// One of the two failed while the other is under way.
    fn failed_beside(&mut self, chances: &mut Picker, failed: &mut Picked, error: &UpstreamError) {
        self.recorder.attempt_failed(error);
        let target = failed.target.clone();
        if failed.entrance.failed(&target, error, Instant::now()) {
            self.broke(&target, error);
        }
        chances.failed(failed, error, self.dice.throw());
    }

    async fn last_of_two(
        &mut self,
        picked: &Picked,
        rest: impl Future<Output = Result<Answer, UpstreamError>>,
        deadlines: crate::providers::Deadlines,
        began: Instant,
    ) -> Attempted {
        match self.downlink.patiently(rest).await {
            Ok(answer) => self.take(picked, answer, deadlines, began).await,
            Err(interrupted) => Attempted::Interrupted(interrupted),
        }
    }
}
