//! `kill -9` amid a backup and amid a restore: what is left is a database, and every backup that is there is whole.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::json;

use crate::support::{Service, figures, read_cell, say, seeds};

/// Exchanges in the database: a copy then takes long enough to be killed.
const EXCHANGES: i64 = 1_500;

fn is_sound(path: &Path) -> bool {
    read_cell::<String>(path, "PRAGMA integrity_check") == "ok"
}

fn count(path: &Path) -> i64 {
    read_cell(path, "SELECT count(*) FROM requests")
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir).into_iter().flatten();
    entries
        .map(|entry| entry.expect("an entry").path())
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn r01_a_kill_amid_a_backup_leaves_the_database_and_whole_backups() {
    let mut dice = seeds::dice();
    let dir = tempfile::TempDir::new().expect("a directory");
    qwarden::measure::generate_history(dir.path(), EXCHANGES).expect("a history");
    let folder = dir.path().join("backups");
    let (rounds, mut whole, mut half, mut told) = (seeds::rounds(4), 0, 0, 0);
    // How long one takes, so that the kills fall into it.
    let service = Service::within(dir.path(), &[]);
    let began = Instant::now();
    let (status, answer) = service.post(&service.api("/api/backup"), &json!({})).await;
    assert_eq!(status, 201, "{answer}");
    let takes = began.elapsed();
    drop(service);
    for round in 0..rounds {
        let mut service = Service::within(dir.path(), &[]);
        let id = format!("round-{round}");
        let after = takes.mul_f64(dice.f64() * 1.2);
        let asked = service
            .client
            .post(service.api("/api/backup"))
            .json(&json!({}));
        let url = service.completions();
        let client = service.client.clone();
        let answered = async {
            let asked = client
                .post(url)
                .json(&say("echo", "kept"))
                .header("x-request-id", &id)
                .send();
            let answer = asked.await.ok()?;
            answer.text().await.ok()
        };
        let (answer, made) = tokio::select! {
            both = async { tokio::join!(answered, asked.send()) } => (both.0, both.1.is_ok()),
            () = tokio::time::sleep(after) => (None, false),
        };
        service.binary.kill();
        let database = service.database();
        assert!(is_sound(&database), "round {round}");
        if answer.is_some() {
            told += 1;
            let sql = format!("SELECT count(*) FROM requests WHERE client_request_id = '{id}'");
            let kept: i64 = read_cell(&database, &sql);
            assert_eq!(kept, 1, "round {round}: an answer that was heard");
        }
        let mut whole_now = 0;
        for path in files(&folder) {
            if path.extension().is_some_and(|end| end == "db") {
                whole_now += 1;
                assert!(is_sound(&path), "{}", path.display());
                assert!(count(&path) >= EXCHANGES, "{}", path.display());
            } else {
                half += 1;
            }
        }
        whole += usize::from(made);
        assert!(whole_now > 0);
    }
    // The next backup takes away what a kill left half-made.
    let service = Service::within(dir.path(), &[]);
    let (status, answer) = service.post(&service.api("/api/backup"), &json!({})).await;
    assert_eq!(status, 201, "{answer}");
    let left: Vec<_> = files(&folder)
        .into_iter()
        .filter(|path| path.extension().is_none_or(|end| end != "db"))
        .collect();
    assert!(left.is_empty(), "{left:?}");
    figures::record("R1", "kills amid a backup", rounds);
    figures::record("R1", "of them before it was whole", half);
    figures::record("R1", "backups told and whole", whole + 1);
    figures::record("R1", "answers heard meanwhile, all kept", told);
}

fn restoring(data: &Path, from: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_qwarden"));
    command
        .args(["restore", "--yes", "--data-dir"])
        .arg(data)
        .arg(from)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command
}

#[tokio::test(flavor = "multi_thread")]
async fn r01_a_kill_amid_a_restore_leaves_the_old_database_or_the_new_one() {
    let mut dice = seeds::dice();
    let dir = tempfile::TempDir::new().expect("a directory");
    // Two that can be told apart by what is in them: a small one in use, a large one to restore.
    let old = dir.path().join("old");
    let new = dir.path().join("new");
    qwarden::measure::generate_history(&old, 20).expect("a history");
    qwarden::measure::generate_history(&new, EXCHANGES).expect("a history");
    let old = old.join("qwarden.db");
    let made = Command::new(env!("CARGO_BIN_EXE_qwarden"))
        .args(["backup", "--data-dir"])
        .arg(&new)
        .arg(dir.path().join("new.db"))
        .stdout(Stdio::null())
        .status();
    assert!(made.expect("it runs").success());
    let backup = dir.path().join("new.db");
    let rounds = seeds::rounds(6);
    let (mut old_ones, mut new_ones) = (0, 0);
    let mut takes = Duration::ZERO;
    for round in 0..=rounds {
        let data = dir.path().join(format!("data-{round}"));
        std::fs::create_dir(&data).expect("a folder");
        let database = data.join("qwarden.db");
        std::fs::copy(&old, &database).expect("a copy");
        let began = Instant::now();
        let mut child = restoring(&data, &backup).spawn().expect("it starts");
        if round == 0 {
            assert!(child.wait().expect("it ends").success());
            takes = began.elapsed();
            assert_eq!(count(&database), EXCHANGES);
            continue;
        }
        let after = takes.mul_f64(dice.f64() * 1.1);
        tokio::time::sleep(after).await;
        let _ = child.kill();
        child.wait().expect("it ends");
        assert!(is_sound(&database), "round {round}");
        match count(&database) {
            20 => old_ones += 1,
            EXCHANGES => {
                new_ones += 1;
                let kept = files(&data.join("backups"));
                let kept: Vec<_> = kept
                    .iter()
                    .filter(|path| path.extension().is_some_and(|end| end == "db"))
                    .collect();
                assert_eq!(kept.len(), 1, "the old one is kept: {kept:?}");
                assert_eq!(count(kept[0]), 20);
            }
            other => panic!("round {round}: {other} rows"),
        }
        // Whatever was left half-made is in nobody's way.
        let ended = restoring(&data, &backup).status().expect("it runs");
        assert!(ended.success(), "round {round}");
        assert_eq!(count(&database), EXCHANGES, "round {round}");
        std::fs::remove_dir_all(&data).expect("removed");
    }
    figures::record("R1", "kills amid a restore", rounds);
    figures::record(
        "R1",
        "the old database / the new one after it",
        format!("{old_ones} / {new_ones}"),
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn r05_a_damaged_backup_is_not_restored() {
    let dir = tempfile::TempDir::new().expect("a directory");
    let data = dir.path().join("data");
    qwarden::measure::generate_history(&data, 300).expect("a history");
    let backup = dir.path().join("good.db");
    let made = Command::new(env!("CARGO_BIN_EXE_qwarden"))
        .args(["backup", "--data-dir"])
        .arg(&data)
        .arg(&backup)
        .stdout(Stdio::null())
        .status();
    assert!(made.expect("it runs").success());
    let good = std::fs::read(&backup).expect("a backup");
    let before = std::fs::read(data.join("qwarden.db")).expect("a database");
    let page = 4_096;
    let pages = good.len() / page;
    let mut refused = 0;
    let mut damaged: Vec<(String, Vec<u8>)> = Vec::new();
    for at in [1, pages / 3, pages / 2, pages - 2] {
        let mut bytes = good.clone();
        bytes[at * page..(at + 1) * page].fill(0x5a);
        damaged.push((format!("page {at} overwritten"), bytes));
    }
    damaged.push(("cut off".into(), good[..good.len() / 2].to_vec()));
    damaged.push(("empty".into(), Vec::new()));
    for (what, bytes) in damaged {
        let path = dir.path().join("damaged.db");
        std::fs::write(&path, bytes).expect("written");
        let ran = restoring(&data, &path)
            .stderr(Stdio::piped())
            .output()
            .expect("it runs");
        assert_eq!(ran.status.code(), Some(1), "{what}");
        let said = String::from_utf8_lossy(&ran.stderr).into_owned();
        assert!(!said.trim().is_empty(), "{what}");
        refused += 1;
        assert!(
            before == std::fs::read(data.join("qwarden.db")).expect("a database"),
            "{what}: nothing changed"
        );
    }
    assert!(
        restoring(&data, &backup)
            .status()
            .expect("it runs")
            .success()
    );
    figures::record("R5", "damaged backups refused", refused);
}
