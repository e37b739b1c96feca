//! How long writes hold the database: what is slow there holds up every other write.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;
use utoipa::ToSchema;

use crate::limits::upkeep::LONG_PIECE;

/// By the kind of write. A transaction as a whole, its commit included, is of the kind [`TRANSACTION`]; the words of the
/// exchanges that ended in it are of the kind [`WORDS`].
#[derive(Clone, Debug, Default, Serialize, ToSchema)]
#[serde(transparent)]
pub(crate) struct Timings(BTreeMap<&'static str, Timing>);

pub(crate) const TRANSACTION: &str = "transaction";
pub(crate) const WORDS: &str = "words of exchanges";

/// The writes of one kind.
#[derive(Clone, Copy, Debug, Default, Serialize, ToSchema)]
pub(crate) struct Timing {
    pub(crate) count: u64,
    /// How many took more than 20 ms: no upkeep should.
    pub(crate) over_20_ms: u64,
    pub(crate) longest_ms: f64,
    pub(crate) total_ms: f64,
}

impl Timings {
    pub(crate) fn add(&mut self, kind: &'static str, took: Duration) {
        let is_slow = took > LONG_PIECE;
        let took = took.as_secs_f64() * 1e3;
        self.merge_one(
            kind,
            Timing {
                count: 1,
                over_20_ms: is_slow.into(),
                longest_ms: took,
                total_ms: took,
            },
        );
    }

    pub(crate) fn merge(&mut self, other: &Self) {
        for (kind, timing) in &other.0 {
            self.merge_one(kind, *timing);
        }
    }

    fn merge_one(&mut self, kind: &'static str, other: Timing) {
        let timing = self.0.entry(kind).or_default();
        timing.count += other.count;
        timing.over_20_ms += other.over_20_ms;
        timing.longest_ms = timing.longest_ms.max(other.longest_ms);
        timing.total_ms += other.total_ms;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_of_each_kind_is_kept() {
        let (mut all, mut more) = (Timings::default(), Timings::default());
        all.add("a", Duration::from_millis(4));
        more.add("a", Duration::from_millis(29));
        more.add("b", Duration::from_millis(1));
        all.merge(&more);
        let shown = serde_json::to_value(&all).unwrap();
        let a =
            serde_json::json!({"count": 2, "over_20_ms": 1, "longest_ms": 29.0, "total_ms": 33.0});
        assert_eq!(shown["a"], a);
        assert_eq!(shown["b"]["count"], 1);
    }
}
