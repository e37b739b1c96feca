//! Failures of the operating system, put into a running process: `strace` lets chosen calls on chosen files fail.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::sync_channel;

use super::PATIENCE;

/// Lasts as long as the value.
pub struct Injection {
    strace: Child,
}

impl Injection {
    /// Lets each of `calls` (as `strace` names them) of the process on `file` end as `how` says: `error=ENOSPC`.
    pub fn start(process: u32, file: &Path, calls: &str, how: &str) -> Self {
        let mut strace = Command::new("strace")
            .args(["-f", "-o", "/dev/null", "-p", &process.to_string(), "-P"])
            .arg(file)
            .args(["-e", &format!("trace={calls}")])
            .args(["-e", &format!("inject={calls}:{how}")])
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("strace is installed (apt-get install strace)");
        let said = strace.stderr.take().expect("a pipe");
        let (attached, is_attached) = sync_channel(1);
        std::thread::spawn(move || {
            // It waits for whoever reads it, so it is read to its end.
            for line in BufReader::new(said).lines().map_while(Result::ok) {
                println!("{line}");
                if line.contains("attached") {
                    let _ = attached.try_send(());
                }
            }
        });
        is_attached
            .recv_timeout(PATIENCE)
            .expect("strace may attach to the process");
        Self { strace }
    }
}

impl Drop for Injection {
    /// Lets go of the process, which goes on.
    fn drop(&mut self) {
        let id = self.strace.id().to_string();
        let _ = Command::new("kill").args(["-s", "INT", &id]).status();
        let _ = self.strace.wait();
    }
}
