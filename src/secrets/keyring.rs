//! The desktop's keyring by its own command line tool: `secret-tool` (libsecret) or macOS's `security`.
//!
//! Not by a library: those for Linux bring a D-Bus stack that would double the build, for a key that is read once per
//! start. The key never stands in a command line, where other users could see it.

use std::io::Write;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;

use crate::limits::lifecycle::KEYRING_PATIENCE;

const SERVICE: &str = "qwarden";

/// Why the keyring is of no use here.
#[derive(Debug, thiserror::Error)]
pub(super) enum KeyringError {
    #[error("this system has no keyring that qwarden knows")]
    Unknown,
    #[error("`{tool}` cannot be run: {reason}")]
    Missing { tool: &'static str, reason: String },
    #[error("the keyring did not answer within {} s", KEYRING_PATIENCE.as_secs())]
    Silent,
    #[error("the keyring refused: {0}")]
    Refused(String),
}

/// The secret stored for `account`; none when there is none.
pub(super) fn read(account: &str) -> Result<Option<String>, KeyringError> {
    let (tool, arguments): (_, &[&str]) = if cfg!(target_os = "macos") {
        (
            "security",
            &["find-generic-password", "-s", SERVICE, "-w", "-a"],
        )
    } else if cfg!(unix) {
        ("secret-tool", &["lookup", "service", SERVICE, "account"])
    } else {
        return Err(KeyringError::Unknown);
    };
    let mut command = Command::new(tool);
    command.args(arguments).arg(account);
    let said = run(tool, command, None)?;
    Ok(Some(said.trim().to_owned()).filter(|secret| !secret.is_empty()))
}

/// Stores `secret` (hex) for `account`.
pub(super) fn write(account: &str, secret: &str) -> Result<(), KeyringError> {
    let (tool, arguments, input): (_, Vec<&str>, String) = if cfg!(target_os = "macos") {
        let quoted = account.replace(['"', '\\'], "_");
        let line = format!("add-generic-password -U -s {SERVICE} -a \"{quoted}\" -w {secret}\n");
        ("security", vec!["-i"], line)
    } else if cfg!(unix) {
        let arguments = [
            "store",
            "--label=qwarden",
            "service",
            SERVICE,
            "account",
            account,
        ];
        ("secret-tool", arguments.to_vec(), secret.to_owned())
    } else {
        return Err(KeyringError::Unknown);
    };
    let mut command = Command::new(tool);
    command.args(arguments);
    run(tool, command, Some(&input)).map(drop)
}

/// What a tool says within our patience. One that ends unsuccessfully and silently has found nothing.
fn run(
    tool: &'static str,
    mut command: Command,
    input: Option<&str>,
) -> Result<String, KeyringError> {
    let missing = |error: std::io::Error| KeyringError::Missing {
        tool,
        reason: error.to_string(),
    };
    let mut child: Child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(missing)?;
    if let (Some(mut stdin), Some(input)) = (child.stdin.take(), input) {
        stdin.write_all(input.as_bytes()).map_err(missing)?;
    }
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || sender.send(child.wait_with_output()));
    let output = match receiver.recv_timeout(KEYRING_PATIENCE) {
        Ok(output) => output.map_err(missing)?,
        Err(_) => return Err(KeyringError::Silent),
    };
    let complaint = String::from_utf8_lossy(&output.stderr);
    let complaint = complaint.trim();
    // `security` says so in words and with this status.
    let is_nothing = complaint.is_empty() || output.status.code() == Some(44);
    if output.status.success() || is_nothing {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(KeyringError::Refused(complaint.chars().take(200).collect()))
}
