//! The program itself, as a process that can be killed.

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};

/// A running `qwarden serve`.
pub struct Binary {
    child: Child,
    pub router: String,
    pub qwen: String,
    pub management: String,
}

fn command(data_dir: &Path, more: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_qwarden"));
    command
        .args(["serve", "--no-discovery", "--data-dir"])
        .arg(data_dir)
        .args(more);
    command
}

impl Binary {
    /// Starts it on free ports and waits until it serves.
    pub fn start(data_dir: &Path, more: &[&str]) -> Self {
        Self::logging(data_dir, more, Stdio::null())
    }

    /// The same, with its log going to `log`.
    pub fn logging(data_dir: &Path, more: &[&str], log: impl Into<Stdio>) -> Self {
        Self::with(data_dir, more, &[], log)
    }

    /// The same, in an environment that holds `variables`.
    pub fn with(
        data_dir: &Path,
        more: &[&str],
        variables: &[(&str, &str)],
        log: impl Into<Stdio>,
    ) -> Self {
        let ports = ["--port", "0", "--qwen-port", "0", "--api-port", "0"];
        let mut child = command(data_dir, &ports)
            .args(more)
            .envs(variables.iter().copied())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .expect("the binary starts");
        let stdout = child.stdout.take().expect("a pipe");
        let mut urls = Vec::new();
        for line in BufReader::new(stdout).lines() {
            let line = line.expect("a line");
            if let Some(at) = line.find("http://")
                && urls.len() < 3
            {
                let url = line[at..].split_whitespace().next().expect("a word");
                urls.push(url.trim_end_matches("/v1").to_owned());
            }
            if line.starts_with("try:") {
                break;
            }
        }
        let [router, qwen, management] =
            <[String; 3]>::try_from(urls).expect("three addresses are announced");
        Self {
            child,
            router,
            qwen,
            management,
        }
    }

    /// Sends a signal by name.
    pub fn signal(&self, name: &str) {
        let sent = Command::new("kill")
            .args(["-s", name, &self.child.id().to_string()])
            .status();
        assert!(sent.expect("kill runs").success());
    }

    /// `kill -9`.
    pub fn kill(&mut self) {
        self.child.kill().expect("it can be killed");
        self.child.wait().expect("it ends");
    }

    pub fn wait(&mut self) -> ExitStatus {
        self.child.wait().expect("it ends")
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Binary {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Starts it where it cannot run; returns its exit status and what it said.
pub fn fails(data_dir: &Path, more: &[&str]) -> (ExitStatus, String) {
    fails_with(data_dir, more, &[])
}

/// The same, in an environment that holds `variables`.
pub fn fails_with(
    data_dir: &Path,
    more: &[&str],
    variables: &[(&str, &str)],
) -> (ExitStatus, String) {
    let mut child = command(data_dir, more)
        .envs(variables.iter().copied())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it starts");
    let mut said = String::new();
    child
        .stderr
        .take()
        .expect("a pipe")
        .read_to_string(&mut said)
        .expect("text");
    (child.wait().expect("it ends"), said)
}
