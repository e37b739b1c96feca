//! What the tests of promises measured, for `tests/faults/table`.

use std::fs::{OpenOptions, create_dir_all};
use std::io::Write;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

/// Notes a figure that the running test measured for `promise`, such as `record("R1", "rounds", 100)`. The last one counts, of
/// this build and of another one (`QWARDEN_BINARY`) each.
pub fn record(promise: &str, figure: &str, value: impl Into<Value>) {
    let thread = std::thread::current();
    let is_other = std::env::var_os("QWARDEN_BINARY").is_some();
    let line = json!({"promise": promise, "test": thread.name(), "figure": figure, "value": value.into(),
        "other_build": is_other});
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("reliability");
    create_dir_all(&dir).expect("a folder for figures");
    let mut file = OpenOptions::new()
        .create(true)
        .append(true)
        .open(dir.join("figures.jsonl"))
        .expect("a file for figures");
    // One write per line: tests of several processes may add to it.
    file.write_all(format!("{line}\n").as_bytes())
        .expect("it is written");
}

/// Notes the median and the 99th percentile of `times`, as text with their unit.
pub fn record_times(promise: &str, figure: &str, times: &mut [Duration]) {
    times.sort_unstable();
    let at = |percent: usize| {
        let index = (times.len() * percent).div_ceil(100).saturating_sub(1);
        times[index].as_secs_f64() * 1e3
    };
    let text = format!("p50 {:.1} ms, p99 {:.1} ms", at(50), at(99));
    record(promise, figure, text);
}
