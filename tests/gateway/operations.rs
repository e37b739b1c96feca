//! Backups, restoring, export and import by the command line, and the live view: the program and a gateway as they are used.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::cli::{DEAD, User};
use crate::events::Listener;
use crate::support::binary::Binary;
use crate::support::{TestGateway, client, read_cell, say, say_streamed};

fn mode(path: &Path) -> u32 {
    use std::os::unix::fs::PermissionsExt;
    std::fs::metadata(path)
        .expect("a file")
        .permissions()
        .mode()
        & 0o777
}

fn count(path: &Path) -> i64 {
    read_cell(path, "SELECT count(*) FROM requests")
}

async fn backup(gateway: &TestGateway, body: &Value) -> (u16, Value) {
    let response = gateway.post(&gateway.api("/api/backup"), body).await;
    let status = response.status().as_u16();
    (status, response.json().await.expect("a JSON body"))
}

async fn ask(gateway: &TestGateway, text: &str) {
    let answer = gateway.chat(&say("echo", text)).await;
    assert_eq!(answer.status(), 200);
    answer.bytes().await.expect("a body");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_under_load_has_every_row_that_was_acknowledged_before() {
    let gateway = TestGateway::start().await;
    for number in 0..20 {
        ask(&gateway, &format!("{number} {}", "word ".repeat(200))).await;
    }
    let before = count(&gateway.database());
    assert_eq!(before, 20);
    let load = async {
        for number in 0..40 {
            ask(&gateway, &format!("meanwhile {number}")).await;
        }
    };
    let copies = async {
        let mut made = Vec::new();
        for _ in 0..3 {
            let (status, answer) = backup(&gateway, &json!({})).await;
            assert_eq!(status, 201, "{answer}");
            made.push(answer);
        }
        made
    };
    let ((), made) = tokio::join!(load, copies);
    let mut least = before;
    for answer in &made {
        let path = PathBuf::from(answer["backup"]["path"].as_str().expect("a path"));
        assert_eq!(mode(&path), 0o600);
        assert_eq!(read_cell::<String>(&path, "PRAGMA integrity_check"), "ok");
        let rows = count(&path);
        assert!(rows >= least, "{rows} of {least}");
        least = rows;
    }
    assert_eq!(count(&gateway.database()), 60, "nothing was lost meanwhile");
    let (_, listed) = gateway.get(&gateway.api("/api/backups")).await;
    assert_eq!(listed["total"], 3);
    assert_eq!(listed["backups"][0], made[2]["backup"]);
    let audited =
        "SELECT count(*) FROM audit_log WHERE action = 'backed_up' AND principal = 'local'";
    assert_eq!(gateway.cell::<i64>(audited), 3);
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_newest_backups_stay_and_named_ones_always() {
    let gateway = TestGateway::with(&[("backup.keep", json!(2))]).await;
    let dir = TempDir::new().expect("a folder");
    let asked_for = dir.path().join("mine.db");
    let (status, answer) = backup(&gateway, &json!({"path": asked_for})).await;
    assert_eq!((status, &answer["backup"]["kind"]), (201, &json!("other")));
    assert_eq!(mode(&asked_for), 0o600);
    let (status, again) = backup(&gateway, &json!({"path": asked_for})).await;
    assert_eq!(
        (status, &again["error"]["code"], &again["error"]["param"]),
        (422, &json!("backup_unwritable"), &json!("path")),
        "nothing is written over"
    );
    let folder = gateway.database().with_file_name("backups");
    let mut names = Vec::new();
    for number in 0..4 {
        let (_, answer) = backup(&gateway, &json!({})).await;
        names.push(answer["backup"]["name"].clone());
        let gone: Vec<_> = names.iter().rev().skip(2).take(1).collect();
        assert_eq!(answer["removed"], json!(gone), "{number}");
        if number == 0 {
            let other = folder.join("qwarden-by-hand.db");
            std::fs::copy(&asked_for, other).expect("copied");
        }
    }
    let (_, listed) = gateway.get(&gateway.api("/api/backups")).await;
    let listed = listed["backups"].as_array().expect("a list").iter();
    let listed: Vec<_> = listed.map(|backup| backup["name"].clone()).collect();
    assert_eq!(listed.len(), 3, "{listed:?}");
    for name in [&names[2], &names[3], &json!("qwarden-by-hand.db")] {
        assert!(listed.contains(name), "{name} in {listed:?}");
    }
    assert!(asked_for.exists());
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_schedule_makes_the_first_backup_at_once_and_no_second_before_its_time() {
    let gateway = TestGateway::start().await;
    let mut listener =
        Listener::of(&gateway, "?types=backup:finished,settings:updated", None).await;
    let put = async |hours: i64| {
        let url = gateway.api("/api/settings/backup.everyHours");
        let put = gateway
            .client
            .put(url)
            .json(&json!({"value": hours}))
            .send();
        assert_eq!(put.await.expect("an answer").status(), 200);
    };
    put(5).await;
    let made = listener.until("backup:finished").await;
    assert!(made.data["name"].is_string(), "{:?}", made.data);
    // A change makes it look again; nothing is due.
    put(6).await;
    let (_, listed) = gateway.get(&gateway.api("/api/backups")).await;
    assert_eq!(listed["total"], 1);
    let audited = "SELECT principal FROM audit_log WHERE action = 'backed_up'";
    assert_eq!(gateway.cell::<String>(audited), "schedule");
    gateway.stop().await;
}

/// A copy that held the writer's lock would let none through.
#[tokio::test(flavor = "multi_thread")]
async fn the_writer_goes_on_while_a_backup_is_made() {
    let gateway = TestGateway::start().await;
    let conn = rusqlite::Connection::open(gateway.database()).expect("it opens");
    conn.busy_timeout(Duration::from_secs(5))
        .expect("a timeout");
    conn.execute_batch(
        "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 6000)
         INSERT INTO requests (request_id, timestamp, method, path, openai_request, model, stream, created_at)
         SELECT 'fill-' || i, i, 'POST', '/p', zeroblob(8000), 'm', 0, i FROM n",
    )
    .expect("it fills");
    drop(conn);
    let url = gateway.api("/api/settings/session.timeout");
    let write = async || {
        let put = gateway.client.put(&url).json(&json!({"value": 60_000}));
        assert_eq!(put.send().await.expect("an answer").status(), 200);
    };
    let dated = json!({});
    let mut copying = Box::pin(backup(&gateway, &dated));
    let mut beside = 0;
    let (status, answer) = loop {
        tokio::select! {
            done = &mut copying => break done,
            () = write() => beside += 1,
        }
    };
    drop(copying);
    assert_eq!(status, 201, "{answer}");
    assert!(answer["backup"]["bytes"].as_u64() > Some(48_000_000));
    assert!(beside > 0, "writes are committed while the copy is made");
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restore_brings_back_what_was_deleted_since() {
    let user = User::at(DEAD);
    let data = user.file("data");
    let data_arg = data.display().to_string();
    let mut binary = Binary::start(&data, &[]);
    let running = User::at(&binary.management);
    let http = client();
    let url = format!("{}/v1/chat/completions", binary.router);
    let sent = http.post(url).json(&say("echo", "keep me")).send().await;
    sent.expect("an answer").bytes().await.expect("a body");
    let saved = user.file("saved.db").display().to_string();
    let made = running.run(&["backup", &saved]).await.ok();
    assert_eq!(made.out.trim(), saved);
    assert_eq!(mode(saved.as_ref()), 0o600);
    running.run(&["request", "remove", "1", "--yes"]).await.ok();
    let restore = ["restore", &saved, "--data-dir", &data_arg, "--yes"];
    let refused = user.run(&restore).await.fails(1);
    assert!(
        refused.err.contains(&format!("kill {}", binary.pid())),
        "{refused:?}"
    );
    // It dies with a log that is not folded in.
    binary.kill();
    let refused = user.run(&restore[..4]).await.fails(2);
    assert!(refused.err.contains("--yes"), "{refused:?}");
    let database = data.join("qwarden.db");
    assert_eq!(count(&database), 0);

    let restored = user
        .run(&[&restore[..], &["--json"]].concat())
        .await
        .ok()
        .json();
    assert_eq!(count(&database), 1);
    assert_eq!(mode(&database), 0o600);
    let kept = PathBuf::from(restored["kept"].as_str().expect("a path"));
    assert_eq!((count(&kept), mode(&kept)), (0, 0o600));
    // And a gateway serves it, with what the file holds.
    let binary = Binary::start(&data, &[]);
    let running = User::at(&binary.management);
    let list = running
        .run(&["request", "list", "--json"])
        .await
        .ok()
        .json();
    assert_eq!(
        list["requests"][0]["openai_request"]["messages"][0]["content"],
        "keep me"
    );
    let listed = running
        .run(&["backup", "--list", "--json"])
        .await
        .ok()
        .json();
    assert_eq!(listed["backups"][0]["kind"], "replaced");
}

#[tokio::test]
async fn what_is_no_backup_of_ours_is_not_restored() {
    let user = User::at(DEAD);
    let data = user.file("data").display().to_string();
    let dir = TestGateway::start().await.stop().await;
    std::fs::rename(dir.path().join("data"), user.file("data")).expect("moved");
    let saved = user
        .run(&["backup", "good.db", "--data-dir", &data])
        .await
        .ok();
    assert_eq!(Path::new(saved.out.trim()), user.file("good.db"));
    let changed = |name: &str, sql: &str| {
        std::fs::copy(user.file("good.db"), user.file(name)).expect("copied");
        let conn = rusqlite::Connection::open(user.file(name)).expect("it opens");
        conn.execute_batch(sql).expect("it runs");
    };
    changed("newer.db", "PRAGMA user_version = 99");
    changed(
        "foreign.db",
        "PRAGMA user_version = 0; DROP TABLE operations",
    );
    std::os::unix::fs::symlink(user.file("good.db"), user.file("link.db")).expect("a link");
    std::fs::write(user.file("text.db"), "text").expect("written");
    let before = std::fs::read(user.file("data/qwarden.db")).expect("a file");
    for (file, why) in [
        ("newer.db", "schema version 99"),
        ("foreign.db", "no database of qwarden"),
        ("link.db", "symbolic link"),
        ("text.db", "no SQLite database"),
        ("none.db", "none at this path"),
    ] {
        let refused = user
            .run(&["restore", file, "--data-dir", &data, "--yes"])
            .await
            .fails(1);
        assert!(
            refused.out.is_empty() && refused.err.contains(why),
            "{file}: {refused:?}"
        );
    }
    let after = std::fs::read(user.file("data/qwarden.db")).expect("a file");
    assert!(before == after, "nothing changed");
    user.run(&["restore", "good.db", "--data-dir", &data, "--yes"])
        .await
        .ok();
}

#[tokio::test]
async fn without_a_gateway_a_backup_is_made_here_and_rotated_as_it_would() {
    let user = User::at(DEAD);
    let data = user.file("data").display().to_string();
    let none = user.run(&["backup", "--data-dir", &data]).await.fails(1);
    assert!(none.err.contains("no database"), "{none:?}");
    assert!(!user.file("data").exists());
    let gateway = TestGateway::start().await;
    let url = gateway.api("/api/settings/backup.keep");
    let put = gateway
        .client
        .put(url)
        .json(&json!({"value": 1}))
        .send()
        .await;
    assert_eq!(put.expect("an answer").status(), 200);
    ask(&gateway, "hello").await;
    let dir = gateway.stop().await;
    std::fs::rename(dir.path().join("data"), user.file("data")).expect("moved");
    let line = ["backup", "--json", "--data-dir", &data];
    let first = user.run(&line).await.ok().json();
    let second = user.run(&line).await.ok().json();
    assert_eq!(second["removed"], json!([first["backup"]["name"]]));
    let listed = user
        .run(&["backup", "--list", "--json", "--data-dir", &data])
        .await
        .ok()
        .json();
    assert_eq!(listed["backups"], json!([second["backup"]]));
    let path = second["backup"]["path"].as_str().expect("a path");
    assert_eq!(count(path.as_ref()), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_export_tells_what_the_list_tells() {
    let gateway = TestGateway::start().await;
    let user = User::of(&gateway);
    for text in ["one", "two =1+1", "echo:fail 500 broken", "Grüße\nthree"] {
        let answer = gateway.chat(&say("echo", text)).await;
        answer.bytes().await.expect("a body");
    }
    let listed = user.run(&["request", "list", "--json"]).await.ok().json();
    let rows = |text: &str| -> Vec<Value> {
        let lines = text.lines();
        lines
            .map(|line| serde_json::from_str(line).expect("JSON"))
            .collect()
    };
    let ids = |rows: &[Value]| -> Vec<Value> {
        rows.iter().map(|row| row["request_id"].clone()).collect()
    };
    let all = user.run(&["export"]).await.ok();
    let told = rows(&all.out);
    let wanted = listed["requests"].as_array().expect("rows");
    assert_eq!((ids(&told).len(), ids(&told)), (4, ids(wanted)));
    for (one, other) in told.iter().zip(wanted) {
        assert_eq!(one["openai_request"], other["openai_request"]);
    }
    assert!(
        all.err.is_empty(),
        "no progress outside a terminal: {all:?}"
    );

    let report = user
        .run(&["export", "-o", "out.jsonl", "--json"])
        .await
        .ok()
        .json();
    assert_eq!(
        (&report["exchanges"], &report["format"]),
        (&json!(4), &json!("jsonl"))
    );
    assert_eq!(user.read("out.jsonl"), all.out);
    assert_eq!(mode(&user.file("out.jsonl")), 0o600);
    let again = user.run(&["export", "-o", "out.jsonl"]).await.fails(2);
    assert!(again.err.contains("--yes"), "{again:?}");
    for (filter, count) in [
        (&["--status", "failed"][..], 1),
        (&["--errors"], 1),
        (&["--search", "grüße three"], 1),
        (&["--since", "2100-01-01"], 0),
        (&["--until", "2100-01-01", "--model", "echo"], 4),
    ] {
        let args = [&["export", "-o", "out.jsonl", "--yes"], filter].concat();
        user.run(&args).await.ok();
        assert_eq!(rows(&user.read("out.jsonl")).len(), count, "{filter:?}");
    }
    let table = user.run(&["export", "--format", "csv"]).await.ok().out;
    let mut table = csv::Reader::from_reader(table.as_bytes());
    let column = table
        .headers()
        .expect("a heading")
        .iter()
        .position(|name| name == "request_id");
    let column = column.expect("a column");
    let told: Vec<Value> = table
        .records()
        .map(|row| json!(row.expect("a row")[column]))
        .collect();
    assert_eq!(told, ids(wanted));
    // A line of JSON each is JSON; a table is not.
    let lines = user.run(&["export", "--json"]).await.ok();
    assert_eq!(lines.out, all.out);
    let table = ["export", "--json", "--format", "csv"];
    user.run(&table).await.fails(2);
    user.run(&["export", "--since", "yesterday"]).await.fails(2);
    gateway.stop().await;
    let gone = user.run(&["export", "-o", "gone.jsonl"]).await.fails(3);
    assert!(!user.file("gone.jsonl").exists(), "{gone:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_import_is_made_by_the_gateway_or_without_one() {
    let dir = TempDir::new().expect("a folder");
    let old = crate::import::old(dir.path(), "http://127.0.0.1:9/v1", "no-token");
    let gateway = TestGateway::start().await;
    let user = User::of(&gateway);
    std::fs::copy(&old, user.file("old.db")).expect("copied");
    let told = user
        .run(&["import", "old.db", "--dry-run", "--json"])
        .await
        .ok()
        .json();
    assert_eq!(
        (&told["dry_run"], &told["tables"]["requests"]["found"]),
        (&json!(true), &json!(1_100))
    );
    assert_eq!(count(&gateway.database()), 0);
    let done = user.run(&["import", "old.db"]).await.ok();
    let row = done
        .out
        .lines()
        .find(|line| line.starts_with("requests"))
        .expect("a row");
    assert_eq!(
        row.split_whitespace().collect::<Vec<_>>(),
        ["requests", "1100", "1100", "0", "0"]
    );
    assert_eq!(count(&gateway.database()), 1_100);
    let refused = user.run(&["import", "none.db", "--json"]).await.fails(1);
    assert_eq!(refused.json()["error"]["code"], "not_importable");
    gateway.stop().await;

    let alone = User::at(DEAD);
    let line = [
        "import",
        old.to_str().expect("text"),
        "--data-dir",
        "data",
        "--json",
    ];
    let done = alone.run(&line).await.ok().json();
    assert_eq!(done["tables"], told["tables"], "the same as by a gateway");
    assert_eq!(count(&alone.file("data/qwarden.db")), 1_100);
    let again = alone.run(&line).await.ok().json();
    assert_eq!(again["imported"], 0);
    // The seeds know the real ports, not those of the import.
    let seeded = "SELECT value FROM provider_configs WHERE provider_id = 'qwen-proxy-default' AND key = 'baseURL'";
    let seeded: String = read_cell(&alone.file("data/qwarden.db"), seeded);
    assert!(seeded.contains(":3000"), "{seeded}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_env_file_is_told_and_put_in_force() {
    let gateway = TestGateway::start().await;
    let user = User::of(&gateway);
    let text = "SESSION_TIMEOUT=60000\nLM_STUDIO_BASE_URL=http://127.0.0.1:9/v1\nQWEN_API_KEY=sk-planted\n\
                DEFAULT_PROVIDER=dashscope\nLOG_LEVEL=loud\nDATABASE_PATH=data/old.db\nTRUST_PROXY=1\n";
    std::fs::write(user.file("old.env"), text).expect("written");
    let line = ["migrate", "--env-file", "old.env", "--json", "--yes"];
    let told = User::at(DEAD);
    std::fs::write(told.file("old.env"), text).expect("written");
    let dry = told
        .run(&[&line[..], &["--dry-run"]].concat())
        .await
        .fails(1);
    assert_eq!(dry.json()["items"].as_array().map(Vec::len), Some(7));
    told.run(&line).await.fails(3);
    let done = user.run(&line).await.fails(1);
    assert!(!format!("{done:?}").contains("planted"), "{done:?}");
    let body = done.json();
    let state = |variable: &str| {
        let items = body["items"].as_array().expect("items");
        let item = items.iter().find(|item| item["variable"] == variable);
        item.expect("an item")["state"].clone()
    };
    assert_eq!(state("LOG_LEVEL"), "failed");
    for variable in [
        "SESSION_TIMEOUT",
        "LM_STUDIO_BASE_URL",
        "QWEN_API_KEY",
        "DEFAULT_PROVIDER",
    ] {
        assert_eq!(state(variable), "ok", "{variable}: {body}");
    }
    let (_, settings) = gateway.get(&gateway.api("/api/settings")).await;
    assert_eq!(settings["settings"]["session.timeout"], 60_000);
    assert_eq!(settings["settings"]["active_provider"], "dashscope");
    assert_eq!(settings["settings"]["logging.level"], "info");
    let (_, provider) = gateway
        .get(&gateway.api("/api/providers/lm-studio-default"))
        .await;
    assert_eq!(provider["config"]["baseURL"], "http://127.0.0.1:9/v1");
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_live_view_shows_what_runs_and_what_ended() {
    let gateway = TestGateway::start().await;
    let user = User::of(&gateway);
    ask(&gateway, "hello").await;
    let failed = gateway.chat(&say("echo", "echo:fail 500 broken")).await;
    failed.bytes().await.expect("a body");
    let stalled = say_streamed("echo", "echo:stall 600000\nslow");
    let mut open = gateway.chat(&stalled).await;
    // Its row is in the database once the head is here: a comment comes with it.
    open.chunk().await.expect("a first byte");
    let shown = user.run(&["top", "--once", "--json"]).await.ok().json();
    assert_eq!(
        shown["running"].as_array().map(Vec::len),
        Some(1),
        "{shown}"
    );
    assert_eq!(shown["running"][0]["model"], "echo");
    assert!(shown["running"][0]["age_ms"].is_u64());
    let ended = shown["finished"].as_array().expect("a list");
    let ended: Vec<_> = ended
        .iter()
        .map(|row| row["status"].as_str().expect("a word"))
        .collect();
    assert_eq!(ended, ["failed", "completed"]);
    assert!(shown["finished"][1]["duration_ms"].is_u64());
    assert_eq!(shown["errors_last_minute"], 1);
    assert_eq!(shown["supervision"]["children"][0]["name"], "database");
    // Without a terminal one picture is printed, and nothing that would move a cursor.
    let text = user.run(&["top"]).await.ok();
    for part in [
        "running 1",
        "errors/min 1",
        "database",
        "· listener-router",
        "failed",
    ] {
        assert!(text.out.contains(part), "{part}: {text:?}");
    }
    assert!(
        !text.out.contains('\u{1b}') && text.err.is_empty(),
        "{text:?}"
    );
    drop(open);
    gateway.stop().await;
    user.run(&["top", "--once"]).await.fails(3);
}

#[tokio::test]
async fn what_is_outlived_goes_by_command() {
    let gateway = TestGateway::start().await;
    let user = User::of(&gateway);
    for text in ["one", "two", "three"] {
        ask(&gateway, text).await;
    }
    let mut listener = Listener::of(&gateway, "?types=retention:progress", None).await;
    user.run(&["settings", "set", "retention.maxRequests", "1"])
        .await
        .ok();
    let heard = listener.until("retention:progress").await;
    assert_eq!(heard.data["total"], 2, "{heard:?}");
    let told = user.run(&["retention", "--dry-run"]).await.ok();
    assert!(told.out.contains("requests:"), "{told:?}");
    user.run(&["retention"]).await.fails(2);
    let done = user
        .run(&["retention", "--yes", "--json"])
        .await
        .ok()
        .json();
    assert_eq!(done["dry_run"], false, "{done}");
    assert_eq!(count(&gateway.database()), 1);
    gateway.stop().await;
}
