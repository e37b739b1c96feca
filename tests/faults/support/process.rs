//! What a process uses, as the kernel tells it.

use std::process::Command;
use std::time::Duration;

/// What is resident, in bytes.
pub fn memory(pid: u32) -> usize {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .expect("a size");
    let kib: usize = line
        .trim()
        .trim_end_matches(" kB")
        .parse()
        .expect("a number");
    kib << 10
}

/// How many descriptors are open.
pub fn descriptors(pid: u32) -> usize {
    std::fs::read_dir(format!("/proc/{pid}/fd"))
        .expect("it runs")
        .count()
}

/// Time on the processor since its start.
pub fn cpu(pid: u32) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("it runs");
    // The name in parentheses may hold blanks.
    let (_, rest) = stat.rsplit_once(')').expect("a name");
    let fields: Vec<&str> = rest.split_whitespace().collect();
    let ticks: u64 = [fields[11], fields[12]]
        .iter()
        .map(|field| field.parse::<u64>().expect("a number"))
        .sum();
    // USER_HZ is 100 on every Linux there is.
    Duration::from_millis(ticks * 10)
}

/// Lets this process, and those it starts, have so many descriptors at least. Returns whether that could be done.
pub fn allow_descriptors(least: usize) -> bool {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let least = u64::try_from(least).expect("few");
    let now = getrlimit(Resource::Nofile);
    let is_enough = |limit: Option<u64>| limit.is_none_or(|limit| limit >= least);
    let wanted = Rlimit {
        current: now.current.map(|soft| soft.max(least)),
        maximum: now.maximum.map(|hard| hard.max(least)),
    };
    is_enough(now.current) || setrlimit(Resource::Nofile, wanted).is_ok()
}

/// Limits the descriptors of a process, but not for good. Returns whether that could be done.
pub fn limit_descriptors(pid: u32, most: usize) -> bool {
    let value = format!("--nofile={most}:");
    let ran = Command::new("prlimit")
        .args(["--pid", &pid.to_string(), &value])
        .status();
    ran.is_ok_and(|status| status.success())
}
