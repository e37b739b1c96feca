//! Random tests that can be run again: each prints its seed, and takes it from the environment.

use std::str::FromStr;

/// The chance of one test. `QWARDEN_SEED` repeats a run.
pub fn dice() -> fastrand::Rng {
    let seed = variable("QWARDEN_SEED").unwrap_or_else(|| fastrand::u64(..));
    println!("QWARDEN_SEED={seed}");
    fastrand::Rng::with_seed(seed)
}

/// How often a test does what it repeats: `QWARDEN_ROUNDS`, or as often as everyday runs have time for.
pub fn rounds(everyday: usize) -> usize {
    variable("QWARDEN_ROUNDS").unwrap_or(everyday)
}

/// Whether this run may take minutes and gigabytes: `QWARDEN_LONG` is set.
pub fn is_long_run() -> bool {
    variable::<String>("QWARDEN_LONG").is_some()
}

fn variable<T: FromStr>(name: &str) -> Option<T> {
    let text = std::env::var(name).ok()?;
    Some(
        text.parse()
            .unwrap_or_else(|_| panic!("{name}={text} is not understood")),
    )
}
