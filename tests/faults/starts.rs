//! Starts that cannot succeed (R3, R30): one clear line and exit 1, and what was there before is as it was.

use std::process::{Command, Stdio};

use serde_json::json;

use crate::support::{PATIENCE, Service, figures};

/// What fails, in which calls on which file, and what the line must say.
const CASES: &[(&str, &str, &str, &str, &[&str])] = &[
    (
        "read-only file system",
        "qwarden.db",
        "openat",
        "EROFS",
        &["Read-only file system", "data directory"],
    ),
    (
        "no permission",
        "qwarden.db",
        "openat",
        "EACCES",
        &["Permission denied", "data directory"],
    ),
    (
        "full disk",
        "qwarden.db-wal",
        "pwrite64,write",
        "ENOSPC",
        &["full"],
    ),
    (
        "broken disk",
        "qwarden.db",
        "pread64,read",
        "EIO",
        &["disk i/o error"],
    ),
];

#[tokio::test(flavor = "multi_thread")]
async fn r03_r30_a_start_without_a_usable_disk_is_one_line_and_harms_nothing() {
    let mut service = Service::start(&[]);
    let model = json!({"id": "kept", "name": "kept"});
    let (status, told) = service.post(&service.api("/api/models"), &model).await;
    assert_eq!(status, 201, "{told}");
    service.binary.signal("TERM");
    assert!(service.binary.exit_within(PATIENCE).is_some(), "it stops");
    for (name, file, calls, error, words) in CASES {
        let output = Command::new("strace")
            .args(["-f", "-qq", "-o", "/dev/null", "-P"])
            .arg(service.dir().join(file))
            .args(["-e", &format!("inject={calls}:error={error}")])
            .arg(env!("CARGO_BIN_EXE_qwarden"))
            .args(["serve", "--no-discovery", "--port", "0", "--qwen-port", "0"])
            .args(["--api-port", "0", "--data-dir"])
            .arg(service.dir())
            .stdin(Stdio::null())
            .output()
            .expect("strace is installed (apt-get install strace)");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        println!("{name}: {said}");
        assert_eq!(output.status.code(), Some(1), "{name}: {said}");
        assert!(
            words.iter().all(|word| said.contains(word)),
            "{name}: {said}"
        );
        assert!(!said.contains("panicked"), "{name}: {said}");
    }
    service.restart();
    let (status, models) = service.get(&service.api("/api/models")).await;
    assert_eq!(status, 200);
    assert!(models.to_string().contains("kept"), "{models}");
    figures::record("R30", "starts without a usable disk, told", CASES.len());
}
