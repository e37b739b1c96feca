//! Older files are lifted all or nothing, however often that is killed (R7).

use std::path::Path;
use std::time::Duration;

use tempfile::TempDir;

use crate::support::{Service, figures, read_cell, seeds};

const ROWS: i64 = 20_000;

/// The schemas of earlier releases: what each step begins from.
const V1: &str = include_str!("../../src/db/migrate/v1.sql");
const STEPS: [&str; 4] = [
    include_str!("../../src/db/migrate/v2.sql"),
    include_str!("../../src/db/migrate/v3.sql"),
    include_str!("../../src/db/migrate/v4.sql"),
    include_str!("../../src/db/migrate/v5.sql"),
];

fn number(version: usize) -> i64 {
    i64::try_from(version).expect("few")
}

/// A file as a qwarden of that schema left it.
fn older(database: &Path, version: usize) {
    let conn = rusqlite::Connection::open(database).expect("it opens");
    conn.execute_batch("PRAGMA foreign_keys = OFF")
        .expect("off");
    conn.execute_batch(V1).expect("the first schema");
    for step in &STEPS[..version - 1] {
        let step = format!("BEGIN IMMEDIATE; {step} COMMIT;");
        conn.execute_batch(&step).expect("the next");
    }
    conn.pragma_update(None, "user_version", number(version))
        .expect("set");
    conn.execute_batch(&format!(
        "INSERT INTO settings VALUES ('session.timeout', '77777', 1);
         WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {ROWS})
           INSERT INTO requests (request_id, timestamp, method, path, openai_request, model, stream, status, created_at)
           SELECT 'r' || i, i, 'POST', '/v1', json_object('x', hex(zeroblob(100))), 'm', 0, 'completed', i FROM n;"
    ))
    .expect("rows");
}

#[tokio::test(flavor = "multi_thread")]
async fn r07_an_upgrade_that_is_killed_is_completed_by_the_next_start() {
    let mut dice = seeds::dice();
    let rounds = seeds::rounds(10);
    let current: i64 = {
        let service = Service::start(&[]);
        read_cell(&service.database(), "PRAGMA user_version")
    };
    assert_eq!(
        usize::try_from(current),
        Ok(STEPS.len() + 2),
        "every older one is here"
    );
    for version in 1..=STEPS.len() + 1 {
        let mut midway = 0;
        let made_in = TempDir::new().expect("a directory");
        let made = made_in.path().join("older.db");
        older(&made, version);
        for _ in 0..rounds {
            let dir = TempDir::new().expect("a directory");
            let database = dir.path().join("qwarden.db");
            std::fs::copy(&made, &database).expect("copied");
            let mut process = std::process::Command::new(env!("CARGO_BIN_EXE_qwarden"))
                .args([
                    "serve",
                    "--no-discovery",
                    "--port",
                    "0",
                    "--qwen-port",
                    "0",
                    "--api-port",
                    "0",
                    "--data-dir",
                ])
                .arg(dir.path())
                .stdout(std::process::Stdio::null())
                .stderr(std::process::Stdio::null())
                .spawn()
                .expect("it starts");
            // The random point: before, in or after the upgrade.
            tokio::time::sleep(Duration::from_micros(dice.u64(10_000..300_000))).await;
            process.kill().expect("killed");
            process.wait().expect("it ends");
            let reached: i64 = read_cell(&database, "PRAGMA user_version");
            assert!(
                [number(version), current].contains(&reached),
                "all or nothing: {reached}"
            );
            midway += usize::from(reached != current);
            let service = Service::within(dir.path(), &[]);
            let count = |sql: &str| read_cell::<i64>(&service.database(), sql);
            assert_eq!(count("PRAGMA user_version"), current);
            assert_eq!(count("SELECT count(*) FROM requests"), ROWS);
            let setting = "SELECT value FROM settings WHERE key = 'session.timeout'";
            assert_eq!(read_cell::<String>(&service.database(), setting), "77777");
            assert_eq!(
                read_cell::<String>(&service.database(), "PRAGMA integrity_check"),
                "ok"
            );
            let backups = std::fs::read_dir(dir.path().join("backups")).expect("a backup was made");
            let whole = backups.flatten().filter(|entry| {
                entry
                    .file_name()
                    .to_string_lossy()
                    .starts_with(&format!("qwarden-v{version}-"))
                    && entry
                        .path()
                        .extension()
                        .is_some_and(|extension| extension == "db")
            });
            for backup in whole {
                assert_eq!(
                    read_cell::<i64>(&backup.path(), "SELECT count(*) FROM requests"),
                    ROWS
                );
            }
        }
        figures::record(
            "R7",
            &format!("upgrades from schema {version}, killed at a random point"),
            rounds,
        );
        figures::record(
            "R7",
            &format!("of these before the commit of schema {version}'s upgrade"),
            midway,
        );
    }
}
