//! The program itself, as a process that can be killed.

use std::ffi::OsString;
use std::io::{BufRead, BufReader, Read};
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::{Duration, Instant};

/// Longer than any start takes, also from a damaged file on a busy machine.
const START_DEADLINE: Duration = Duration::from_mins(1);

/// A running `qwarden serve`.
pub struct Binary {
    child: Child,
    /// Disconnected once the process has closed its output, which its end does.
    output: Receiver<Vec<String>>,
    /// From its start to the moment it said that it serves.
    pub ready_after: Duration,
    pub router: String,
    pub qwen: String,
    pub management: String,
}

/// What is run: the build that belongs to the tests, or the one that `QWARDEN_BINARY` names.
fn program() -> OsString {
    std::env::var_os("QWARDEN_BINARY").unwrap_or_else(|| env!("CARGO_BIN_EXE_qwarden").into())
}

fn command(data_dir: &Path, more: &[&str]) -> Command {
    let mut command = Command::new(program());
    command
        .args(["serve", "--no-discovery", "--data-dir"])
        .arg(data_dir)
        .args(more);
    command
}

/// Free ports, where `more` does not say otherwise.
fn ports(more: &[&str]) -> Vec<&'static str> {
    let flags = ["--port", "--qwen-port", "--api-port"];
    let free = flags.into_iter().filter(|flag| !more.contains(flag));
    free.flat_map(|flag| [flag, "0"]).collect()
}

/// A shell makes the socket descriptor 3 and becomes the binary, so that the process id is the one that is told.
fn inheriting(data_dir: &Path, socket: &TcpListener) -> Command {
    let socket = OwnedFd::from(socket.try_clone().expect("a descriptor"));
    let script = "export LISTEN_PID=$$ LISTEN_FDS=1; exec \"$@\" 3<&0 0</dev/null";
    let mut command = Command::new("sh");
    command
        .args(["-c", script, "sh"])
        .arg(program())
        .args(["serve", "--no-discovery", "--data-dir"])
        .arg(data_dir)
        .stdin(Stdio::from(socket));
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
        let mut command = command(data_dir, &ports(more));
        command.args(more).envs(variables.iter().copied());
        Self::of(command, log.into())
    }

    /// The same, with `socket` handed over as a service manager does it.
    pub fn inheriting(data_dir: &Path, more: &[&str], socket: &TcpListener) -> Self {
        let mut command = inheriting(data_dir, socket);
        command.args(ports(more)).args(more);
        Self::of(command, Stdio::null())
    }

    fn of(mut command: Command, log: Stdio) -> Self {
        let started = Instant::now();
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .expect("the binary starts");
        let stdout = child.stdout.take().expect("a pipe");
        let (sender, output) = sync_channel(1);
        std::thread::spawn(move || listen(stdout, &sender));
        let urls = output.recv_timeout(START_DEADLINE).unwrap_or_else(|_| {
            let _ = child.kill();
            panic!(
                "it does not serve: {:?} after {:?}",
                child.wait(),
                started.elapsed()
            );
        });
        let ready_after = started.elapsed();
        let [router, qwen, management] =
            <[String; 3]>::try_from(urls).expect("three addresses are announced");
        Self {
            child,
            output,
            ready_after,
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

    /// Its exit status; none when it still runs after `deadline`.
    pub fn exit_within(&mut self, deadline: Duration) -> Option<ExitStatus> {
        use std::sync::mpsc::RecvTimeoutError;
        match self.output.recv_timeout(deadline) {
            Err(RecvTimeoutError::Disconnected) => Some(self.wait()),
            _ => None,
        }
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

/// Sends the addresses it announces, then reads until it has closed its output.
fn listen(stdout: ChildStdout, announced: &SyncSender<Vec<String>>) {
    let mut urls = Vec::new();
    for line in BufReader::new(stdout).lines().map_while(Result::ok) {
        if let Some(at) = line.find("http://")
            && urls.len() < 3
            && let Some(url) = line[at..].split_whitespace().next()
        {
            urls.push(url.trim_end_matches("/v1").to_owned());
        }
        if line.starts_with("try:") {
            let _ = announced.send(std::mem::take(&mut urls));
        }
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
    let mut command = command(data_dir, more);
    command.envs(variables.iter().copied());
    failing(command)
}

/// The same, with `socket` handed over.
pub fn fails_inheriting(
    data_dir: &Path,
    more: &[&str],
    socket: &TcpListener,
) -> (ExitStatus, String) {
    let mut command = inheriting(data_dir, socket);
    command.args(ports(more)).args(more);
    failing(command)
}

fn failing(mut command: Command) -> (ExitStatus, String) {
    let mut child = command
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
