//! Properties tried with fresh seeds for as long as `QWARDEN_FUZZ_SECONDS` says (`tests/fuzz`); a moment without.

use std::time::{Duration, Instant};

use proptest::prelude::*;
use proptest::test_runner::{TestCaseResult, TestRunner};

/// Cases of one seed.
const CASES: u32 = 256;

/// Tries `holds` with whatever `strategy` makes up, and tells how many cases there were.
#[expect(
    clippy::print_stdout,
    reason = "`tests/fuzz` tells how many cases there were"
)]
pub(crate) fn fuzz<S: Strategy>(
    what: &str,
    strategy: &S,
    holds: impl Fn(S::Value) -> TestCaseResult,
) {
    let seconds = std::env::var("QWARDEN_FUZZ_SECONDS").ok();
    let seconds = seconds.map_or(2, |seconds| seconds.parse().expect("seconds"));
    let until = Instant::now() + Duration::from_secs(seconds);
    let mut cases = 0;
    while Instant::now() < until {
        // Each runner draws its own seed.
        let mut runner = TestRunner::new(ProptestConfig {
            cases: CASES,
            failure_persistence: None,
            ..ProptestConfig::default()
        });
        if let Err(error) = runner.run(strategy, &holds) {
            panic!("{what}: {error}");
        }
        cases += CASES;
    }
    println!("{what}: {cases} cases in {seconds} s");
}
