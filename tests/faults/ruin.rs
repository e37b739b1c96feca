//! The database file is deleted, replaced, cut off or damaged, in use and at the start (R5).

use std::fs::{self, File, OpenOptions};
use std::io::{Seek, SeekFrom, Write};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::service::provider;
use crate::support::{PATIENCE, Service, figures, read_cell, say};

const PAGE: u64 = 4096;
/// R5, and what a busy machine takes besides.
const NOTICED: Duration = Duration::from_secs(5);
const SLACK: Duration = Duration::from_secs(3);
const CHATS: usize = 60;

/// What must still be there of the history.
#[derive(Clone, Copy, Debug, PartialEq)]
enum History {
    All,
    Most,
    Perhaps,
}

/// A configuration and a history worth keeping.
async fn filled() -> Service {
    let service = Service::start(&["--set", "history.commitWait=5000"]);
    let body = provider("kept", "http://127.0.0.1:9/v1");
    assert_eq!(
        service.post(&service.api("/api/providers"), &body).await.0,
        201
    );
    let setting = service.api("/api/settings/session.timeout");
    assert_eq!(
        service.put(&setting, &json!({"value": 123_456})).await.0,
        200
    );
    let padding = "word ".repeat(200);
    for number in 0..CHATS {
        let text = format!("chat number {number} {padding}");
        assert_eq!(service.chat(&say("echo", &text)).await.status(), 200);
    }
    service
}

fn wal(database: &Path) -> std::path::PathBuf {
    database.with_file_name("qwarden.db-wal")
}

/// Folds the log into the file, so that there is something to damage in it.
fn fold(database: &Path) {
    let conn = rusqlite::Connection::open(database).expect("it opens");
    conn.busy_timeout(PATIENCE).expect("a timeout");
    conn.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))
        .expect("folded");
}

/// Garbage where a table's pages are, as the file lists them.
fn spoil(database: &Path, table: &str, pages: usize) {
    let conn = rusqlite::Connection::open(database).expect("it opens");
    let sql = "SELECT pageno FROM dbstat WHERE name = ?1 AND pagetype = 'leaf' ORDER BY path LIMIT ?2 OFFSET 2";
    let mut statement = conn.prepare(sql).expect("dbstat is there");
    let numbers: Vec<i64> = statement
        .query_map((table, i64::try_from(pages).expect("few")), |row| {
            row.get::<_, i64>(0)
        })
        .expect("pages")
        .map(|page| page.expect("a number"))
        .collect();
    assert_eq!(numbers.len(), pages, "{table} has pages");
    let mut file = OpenOptions::new()
        .write(true)
        .open(database)
        .expect("writable");
    for number in numbers {
        file.seek(SeekFrom::Start(
            (u64::try_from(number).expect("a page") - 1) * PAGE,
        ))
        .expect("a place");
        file.write_all(&[0xa5; 4096]).expect("written");
    }
    file.sync_all().expect("synced");
}

/// A fresh file serves, with the configuration, and what was told since is in it. Returns health.
async fn recovered(name: &str, service: &Service, history: History) -> Value {
    let (health, _) = service
        .until("salvaged", |health| {
            health["checks"]["db"]["recovered"]["done"] == true
        })
        .await;
    let found = &health["checks"]["db"]["recovered"];
    assert!(
        found["why"].as_str().is_some_and(|why| !why.is_empty()),
        "{name}: {health}"
    );
    let (status, kept) = service.get(&service.api("/api/providers/kept")).await;
    assert_eq!(status, 200, "{name}: the configuration is back: {kept}");
    let (_, setting) = service
        .get(&service.api("/api/settings/session.timeout"))
        .await;
    assert_eq!(setting["value"], 123_456, "{name}: {setting}");
    // The file at its place is what is written to.
    let late = provider("late", "http://127.0.0.1:9/v1");
    let (status, answer) = service.post(&service.api("/api/providers"), &late).await;
    assert_eq!(status, 201, "{name}: {answer}");
    let count = |sql: &str| read_cell::<i64>(&service.database(), sql);
    assert_eq!(
        count("SELECT count(*) FROM providers WHERE id IN ('kept', 'late')"),
        2,
        "{name}"
    );
    assert_eq!(
        read_cell::<String>(&service.database(), "PRAGMA integrity_check"),
        "ok",
        "{name}"
    );
    let chats = count("SELECT count(*) FROM requests WHERE openai_request LIKE '%chat number%'");
    let chats = usize::try_from(chats).expect("few");
    match history {
        History::All => assert_eq!(chats, CHATS, "{name}: {found}"),
        History::Most => assert!(
            chats > CHATS / 2 && chats < CHATS,
            "{name}: {chats} {found}"
        ),
        History::Perhaps => {}
    }
    figures::record(
        "R5",
        &format!("{name}: exchanges salvaged of {CHATS}"),
        chats,
    );
    for kept in found["kept"].as_array().into_iter().flatten() {
        let kept = kept.as_str().expect("a name");
        // A copy that could not be made is not there; what was moved is.
        assert!(
            service.dir().join(kept).exists() || kept.contains("rescued"),
            "{name}: {kept} is kept"
        );
    }
    let doctor = Command::new(env!("CARGO_BIN_EXE_qwarden"))
        .args(["doctor", "--url", &service.binary.management, "--data-dir"])
        .arg(service.dir())
        .output()
        .expect("it runs");
    let said = String::from_utf8_lossy(&doctor.stdout);
    assert!(said.contains("recovery"), "{name}: doctor says it: {said}");
    health
}

/// Does `harm` while it serves, and sees that no completion fails and nothing is acknowledged into a lost file.
async fn in_use(name: &str, history: History, harm: impl FnOnce(&Path)) {
    let service = filled().await;
    harm(&service.database());
    let began = Instant::now();
    let mut acknowledged = Vec::new();
    let mut number = 0;
    let noticed = loop {
        number += 1;
        let body = provider(&format!("p{number}"), "http://127.0.0.1:9/v1");
        match service.post(&service.api("/api/providers"), &body).await.0 {
            201 => acknowledged.push(format!("p{number}")),
            status => assert_eq!(status, 503, "{name}"),
        }
        let answer = service.chat(&say("echo", "meanwhile")).await;
        assert_eq!(answer.status(), 200, "{name}: completions go on");
        if !service.health().await["checks"]["db"]["recovered"].is_null() {
            break began.elapsed();
        }
        assert!(began.elapsed() < PATIENCE, "{name}: it is not noticed");
    };
    assert!(noticed < NOTICED + SLACK, "{name}: {noticed:?}");
    figures::record(
        "R5",
        &format!("{name}: noticed after"),
        format!("{} ms", noticed.as_millis()),
    );
    recovered(name, &service, history).await;
    for id in &acknowledged {
        let sql = format!("SELECT count(*) FROM providers WHERE id = '{id}'");
        assert_eq!(
            read_cell::<i64>(&service.database(), &sql),
            1,
            "{name}: {id} was told and is lost"
        );
    }
    // And all of it survives the process.
    let mut service = service;
    service.restart();
    assert_eq!(
        service.get(&service.api("/api/providers/late")).await.0,
        200,
        "{name}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn r05_a_file_that_is_deleted_in_use_comes_back_whole() {
    in_use("deleted", History::All, |database| {
        fs::remove_file(database).expect("removed");
    })
    .await;
    in_use("deleted with its log", History::All, |database| {
        for suffix in ["", "-wal", "-shm"] {
            let _ = fs::remove_file(database.with_file_name(format!("qwarden.db{suffix}")));
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn r05_a_file_that_is_replaced_in_use_is_no_end() {
    in_use("replaced by garbage", History::All, |database| {
        let other = database.with_file_name("other");
        fs::write(&other, "this is no database ".repeat(5_000)).expect("written");
        fs::rename(other, database).expect("replaced");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn r05_a_log_that_is_deleted_or_cut_off_in_use_is_noticed() {
    in_use("log deleted", History::All, |database| {
        fs::remove_file(wal(database)).expect("removed");
    })
    .await;
    in_use("log cut off", History::Perhaps, |database| {
        File::options()
            .write(true)
            .open(wal(database))
            .expect("opened")
            .set_len(0)
            .expect("cut");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn r05_a_file_that_is_damaged_in_use_is_set_aside() {
    in_use("emptied", History::Perhaps, |database| {
        fold(database);
        File::options()
            .write(true)
            .open(database)
            .expect("opened")
            .set_len(0)
            .expect("cut");
    })
    .await;
    in_use("pages overwritten", History::Most, |database| {
        fold(database);
        spoil(database, "requests", 2);
    })
    .await;
}

/// Does `harm` while it does not run.
async fn at_start(name: &str, history: History, harm: impl FnOnce(&Path)) {
    let mut service = filled().await;
    service.binary.signal("TERM");
    assert!(service.binary.exit_within(PATIENCE).is_some(), "it stops");
    harm(&service.database());
    let took = service.restart();
    assert!(took < Duration::from_secs(2) + SLACK, "{name}: {took:?}");
    recovered(name, &service, history).await;
    figures::record(
        "R5",
        &format!("{name}: start to ready"),
        format!("{} ms", took.as_millis()),
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn r05_a_file_that_is_damaged_at_the_start_is_set_aside() {
    at_start("start without a file", History::Perhaps, |database| {
        fs::remove_file(database).expect("removed");
    })
    .await;
    at_start("start with garbage", History::Perhaps, |database| {
        fs::write(database, "this is no database ".repeat(5_000)).expect("written");
    })
    .await;
    at_start("start with damaged pages", History::Most, |database| {
        spoil(database, "requests", 2);
    })
    .await;
    at_start("start with half a file", History::Perhaps, |database| {
        let file = File::options().write(true).open(database).expect("opened");
        let length = file.metadata().expect("there").len();
        file.set_len(length / PAGE / 2 * PAGE).expect("cut");
    })
    .await;
}
