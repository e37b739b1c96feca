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

/// Limits the descriptors of a process, with the hard limit where `both`. Returns whether that could be done.
pub fn limit_descriptors(pid: u32, most: usize, both: bool) -> bool {
    let value = if both {
        format!("--nofile={most}:{most}")
    } else {
        format!("--nofile={most}:")
    };
    let ran = Command::new("prlimit")
        .args(["--pid", &pid.to_string(), &value])
        .status();
    ran.is_ok_and(|status| status.success())
}
