//! The user's logins: stored, judged, never shown.

use serde_json::{Value, json};

use super::{LATER, answer, ask, at, chat, log_in, logged_in, user};
use crate::support::binary::Binary;
use crate::support::site::{Play, Site, jwt, phase};
use crate::support::{TestGateway, hear};

async fn credentials(gateway: &TestGateway) -> Value {
    gateway.get(&gateway.api("/api/qwen/credentials")).await.1
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_is_taken_in_every_form_and_shown_in_none() {
    let site = Site::saying("fine").await;
    let gateway = at(&site, &[]).await;
    assert_eq!(
        credentials(&gateway).await,
        json!({"hasCredentials": false, "expiresAt": null, "isValid": false, "state": "missing", "accounts": []})
    );
    let token = jwt("u1", LATER);
    let curl = format!(
        "curl 'https://chat.qwen.ai/api/v2/chats/' -H 'authorization: Bearer {token}' -H 'user-agent: Browser/1' \
         -H 'bx-v: 2.5' -b 'token={token}; isg=1' --compressed"
    );
    for body in [
        json!({"token": token, "cookies": format!("token={token}; isg=1")}),
        json!({"cookie_header": format!("token={token}; isg=1")}),
        json!({"cookies": [{"name": "token", "value": token}, {"name": "isg", "value": "1"}]}),
        json!({"curl": curl}),
    ] {
        let response = gateway
            .post(&gateway.api("/api/qwen/credentials"), &body)
            .await;
        assert_eq!(response.status(), 200);
        let stored: Value = response.json().await.expect("JSON");
        assert_eq!(
            (&stored["expiresAt"], &stored["verified"]),
            (&json!(LATER), &json!(true)),
            "{body}"
        );
        let shown = credentials(&gateway).await;
        assert_eq!(shown["isValid"], true);
        assert_eq!(shown["cookie_names"], json!(["token", "isg"]));
        assert!(!shown.to_string().contains(&token[8..40]), "{shown}");
        assert_eq!(
            answer(&gateway, &chat(&[user("go")])).await["content"],
            "fine"
        );
    }
    // What the browser sent goes along, and nothing of it is made up for logins that came without.
    let completions = site.upstream.completions();
    let (plain, copied) = (&completions[0], completions.last().expect("four"));
    assert_eq!(copied.header("user-agent"), Some("Browser/1"));
    assert_eq!(copied.header("bx-v"), Some("2.5"));
    assert!(
        plain
            .header("user-agent")
            .expect("ours")
            .starts_with("qwarden/")
    );
    assert_eq!(plain.header("bx-v"), None);
    let response = gateway
        .client
        .delete(gateway.api("/api/qwen/credentials"))
        .send()
        .await
        .expect("an answer");
    let deleted: Value = response.json().await.expect("JSON");
    assert_eq!(deleted["deleted"], 1);
    assert_eq!(ask(&gateway, &chat(&[user("go")])).await.status(), 401);
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_login_is_refused_with_what_is_missing() {
    let site = Site::saying("fine").await;
    let gateway = at(&site, &[]).await;
    let past = jwt("u1", 1_700_000_000);
    for (body, status, part) in [
        (json!({}), 400, "`token` is required"),
        (json!({"token": 7, "cookies": "a=b"}), 400, "`token`"),
        (json!({"token": "t"}), 400, "`cookies` is required"),
        (
            json!({"token": "t\nx", "cookies": "a=b"}),
            400,
            "line breaks",
        ),
        (
            json!({"token": "t", "cookies": "a=b", "expiresAt": -1}),
            400,
            "`expiresAt`",
        ),
        (
            json!({"token": "t", "cookies": "a=b", "expiresAt": 1_700_000_000}),
            422,
            "expired",
        ),
        (
            json!({"token": "t", "cookies": "a=b", "expiresAt": 1_700_000_000_000_u64}),
            422,
            "expired",
        ),
        (json!({"token": past, "cookies": "a=b"}), 422, "expired"),
    ] {
        let response = gateway
            .post(&gateway.api("/api/qwen/credentials"), &body)
            .await;
        assert_eq!(response.status(), status, "{body}");
        let error = response.text().await.expect("text");
        assert!(error.contains(part), "{body}: {error}");
    }
    assert_eq!(credentials(&gateway).await["hasCredentials"], false);
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rejected_login_is_told_once_and_not_tried_again() {
    let site = Site::saying("fine").await;
    let gateway = logged_in(&site, "u1").await;
    site.reject(&jwt("u1", LATER));
    for _ in 0..2 {
        let response = ask(&gateway, &chat(&[user("go")])).await;
        assert_eq!(response.status(), 401);
        assert_eq!(response.headers()["x-should-retry"], "false");
        let error: Value = response.json().await.expect("JSON");
        assert_eq!(error["error"]["code"], "credentials_rejected");
        assert!(
            error["error"]["message"]
                .as_str()
                .expect("text")
                .contains("/api/qwen/credentials")
        );
    }
    let shown = credentials(&gateway).await;
    assert_eq!(
        (&shown["state"], &shown["isValid"]),
        (&json!("rejected"), &json!(false))
    );
    let told = "SELECT count(*) FROM activity WHERE type = 'credentials_updated' AND metadata LIKE '%rejected%'";
    while gateway.cell::<i64>(told) == 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(gateway.cell::<i64>(told), 1);
    // A new login mends it.
    log_in(&gateway, "default", "u2").await;
    assert_eq!(
        answer(&gateway, &chat(&[user("go")])).await["content"],
        "fine"
    );
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn r26_a_login_revoked_in_mid_flight_changes_state_once_and_open_streams_go_on() {
    let site = Site::start(|turn| match turn.content.contains("hold") {
        true => Play::Halves(
            vec![phase("answer", "Before ", "typing")],
            vec![
                phase("answer", "and after.", "typing"),
                phase("answer", "", "finished"),
            ],
        ),
        false => Play::says("fine"),
    })
    .await;
    let gateway = logged_in(&site, "u1").await;
    let mut held = chat(&[user("hold")]);
    held["stream"] = true.into();
    let mut open = ask(&gateway, &held).await;
    let mut told = String::new();
    while !told.contains("Before") {
        let chunk = open.chunk().await.expect("a chunk").expect("not over");
        told.push_str(&String::from_utf8_lossy(&chunk));
    }
    site.reject(&jwt("u1", LATER));
    let bodies: Vec<_> = (0..30)
        .map(|number| chat(&[user(&format!("go {number}"))]))
        .collect();
    let asking = bodies.iter().map(|body| ask(&gateway, body));
    for response in futures_util::future::join_all(asking).await {
        assert_eq!(response.status(), 401);
    }
    let changes = "SELECT count(*) FROM activity WHERE type = 'credentials_updated' AND metadata LIKE '%rejected%'";
    while gateway.cell::<i64>(changes) == 0 {
        tokio::task::yield_now().await;
    }
    log_in(&gateway, "default", "u2").await;
    assert_eq!(
        answer(&gateway, &chat(&[user("go")])).await["content"],
        "fine"
    );
    // Whatever was told late is told by now: rows of activity are written in order.
    assert_eq!(gateway.cell::<i64>(changes), 1);
    site.upstream.go(1);
    told.push_str(&open.text().await.expect("it ends in order"));
    let heard = hear(&told);
    assert_eq!(
        (heard.text.as_str(), heard.errors.len(), heard.done),
        ("Before and after.", 0, 1)
    );
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_limited_login_rests_while_another_works() {
    let limited = jwt("u1", LATER);
    let site = Site::start(move |turn| {
        if turn.token == limited {
            return Play::refusal(200, "rate-limited.json");
        }
        Play::says("from the other")
    })
    .await;
    let gateway = at(&site, &[]).await;
    log_in(&gateway, "a", "u1").await;
    log_in(&gateway, "b", "u2").await;
    for _ in 0..3 {
        assert_eq!(
            answer(&gateway, &chat(&[user("go")])).await["content"],
            "from the other"
        );
    }
    let asked = site
        .turns()
        .iter()
        .filter(|turn| turn.token == jwt("u1", LATER))
        .count();
    assert!(asked <= 1, "a resting login is left alone");
    site.reject(&jwt("u2", LATER));
    let response = ask(&gateway, &chat(&[user("go")])).await;
    assert_eq!(response.status(), 401);
    // Only the resting one is left.
    let response = ask(&gateway, &chat(&[user("go")])).await;
    assert_eq!(response.status(), 429);
    let seconds: u64 = response.headers()["retry-after"]
        .to_str()
        .expect("text")
        .parse()
        .expect("seconds");
    assert!((3 * 3600 - 60..=3 * 3600).contains(&seconds), "{seconds}");
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_planted_secret_is_nowhere_but_sealed_in_the_file() {
    const PLANTED: &str = "planted-cookie-value";
    let token = jwt("planted-user", LATER);
    let rejected = token.clone();
    let site = Site::start(move |turn| {
        assert_eq!(turn.token, rejected);
        Play::Body(
            200,
            "text/html",
            crate::support::site::fixture("challenge.html"),
        )
    })
    .await;
    let gateway = at(&site, &[]).await;
    let body = json!({"token": token, "cookies": format!("token={token}; isg={PLANTED}")});
    let mut seen = gateway
        .post(&gateway.api("/api/qwen/credentials"), &body)
        .await
        .text()
        .await
        .expect("text");
    seen += &ask(&gateway, &chat(&[user("go")]))
        .await
        .text()
        .await
        .expect("text");
    let backup = gateway.post(&gateway.api("/api/backup"), &json!({})).await;
    assert_eq!(backup.status(), 201);
    seen += &backup.text().await.expect("text");
    for path in [
        "/api/qwen/credentials",
        "/api/supervision",
        "/api/supervision/events",
        "/api/activity/recent?limit=100",
        "/api/health",
        "/api/proxy/status",
        "/api/requests",
        "/api/requests/export",
        "/api/backups",
    ] {
        let response = gateway
            .client
            .get(gateway.api(path))
            .send()
            .await
            .expect("an answer");
        seen += &response.text().await.expect("text");
    }
    // All that happened, told again.
    let events = gateway
        .client
        .get(gateway.api("/api/events"))
        .header("last-event-id", "0")
        .send();
    let mut events = events.await.expect("an answer");
    let mut told = String::new();
    while !told.contains("challenged") {
        let chunk = events.chunk().await.expect("a chunk").expect("not over");
        told.push_str(&String::from_utf8_lossy(&chunk));
    }
    drop(events);
    seen += &told;
    let audited: String =
        gateway.cell("SELECT group_concat(quote(before) || quote(after)) FROM audit_log");
    assert!(audited.contains("verified"), "{audited}");
    seen += &audited;
    let secrets = [PLANTED, &token[10..60], "signature of"];
    for secret in secrets {
        assert!(!seen.contains(secret), "{secret} in {seen}");
    }
    let sealed: i64 =
        gateway.cell("SELECT count(*) FROM credentials WHERE sealed = 1 AND length(cookies) > 40");
    assert_eq!(sealed, 1);
    let dir = gateway.stop().await;
    let folder = |path: std::path::PathBuf| {
        let entries = std::fs::read_dir(path).expect("readable");
        entries
            .map(|entry| entry.expect("an entry").path())
            .collect::<Vec<_>>()
    };
    let backups = folder(dir.path().join("data/backups"));
    assert_eq!(backups.len(), 1, "{backups:?}");
    for path in folder(dir.path().join("data")).into_iter().chain(backups) {
        if path.is_dir() {
            continue;
        }
        // The files beside the database go when its last connection does.
        let Ok(bytes) = std::fs::read(&path) else {
            assert!(!path.exists(), "{}", path.display());
            continue;
        };
        for secret in secrets {
            let found = bytes
                .windows(secret.len())
                .any(|window| window == secret.as_bytes());
            assert!(!found, "{secret} in {}", path.display());
        }
    }
    // The key opens it again.
    let gateway = TestGateway::reopened(dir, &[]).await;
    assert_eq!(credentials(&gateway).await["state"], "challenged");
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_of_the_environment_is_used_and_never_logged() {
    let token = jwt("environment-user", LATER);
    let site = Site::start(move |turn| {
        let refused = &turn.token;
        match turn.content.as_str() {
            "fine" => Play::says("Fine."),
            "limit" => Play::refusal(200, "parallel-limited.json"),
            _ => Play::Body(
                500,
                "application/json",
                format!("{{\"error\":\"no {refused}\"}}"),
            ),
        }
    })
    .await;
    let dir = tempfile::TempDir::new().expect("a folder");
    let log = dir.path().join("log");
    let base = site.upstream.origin();
    let cookies = format!("token={token}; isg=planted-in-cookies");
    let binary = Binary::with(
        &dir.path().join("data"),
        &["--set", "logging.level=debug"],
        &[
            ("QWEN_TOKEN", token.as_str()),
            ("QWEN_COOKIES", cookies.as_str()),
            ("QWEN_BASE_URL", base.as_str()),
        ],
        std::fs::File::create(&log).expect("a log"),
    );
    let client = crate::support::client();
    let mut answers = String::new();
    for text in ["fine", "break"] {
        let url = format!("{}/v1/chat/completions", binary.qwen);
        let response = client.post(url).json(&chat(&[user(text)])).send().await;
        answers += &response.expect("an answer").text().await.expect("text");
    }
    assert!(answers.contains("Fine."), "{answers}");
    let shown = client
        .get(format!("{}/api/qwen/credentials", binary.management))
        .send()
        .await;
    let shown: Value = shown.expect("an answer").json().await.expect("JSON");
    assert_eq!(
        (&shown["source"], &shown["state"]),
        (&json!("environment"), &json!("valid"))
    );
    // And one that is stored takes its place.
    let stored = jwt("stored-user", LATER);
    let body =
        json!({"token": stored, "cookies": format!("token={stored}; isg=planted-in-cookies")});
    let url = format!("{}/api/qwen/credentials", binary.management);
    assert_eq!(
        client
            .post(url)
            .json(&body)
            .send()
            .await
            .expect("an answer")
            .status(),
        200
    );
    for text in ["fine", "break"] {
        let url = format!("{}/v1/chat/completions", binary.qwen);
        let response = client.post(url).json(&chat(&[user(text)])).send().await;
        answers += &response.expect("an answer").text().await.expect("text");
    }
    drop(binary);
    let logged = std::fs::read_to_string(log).expect("a log");
    assert!(
        logged.contains("upstream answered"),
        "it logs at all: {logged}"
    );
    for secret in [
        "planted-in-cookies",
        &token[10..60],
        &stored[10..60],
        "signature of",
    ] {
        assert!(
            !logged.contains(secret) && !shown.to_string().contains(secret),
            "{secret} in {logged}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_that_ends_by_the_clock_says_so() {
    let site = Site::saying("fine").await;
    let gateway = at(&site, &[]).await;
    let soon = std::time::SystemTime::now() + std::time::Duration::from_secs(3);
    let soon = soon
        .duration_since(std::time::UNIX_EPOCH)
        .expect("after 1970")
        .as_secs();
    let token = jwt("u1", soon);
    let body = json!({"token": token, "cookies": "a=b"});
    let stored = gateway
        .post(&gateway.api("/api/qwen/credentials"), &body)
        .await;
    assert_eq!(stored.status(), 200);
    assert_eq!(credentials(&gateway).await["state"], "expiring");
    assert_eq!(
        answer(&gateway, &chat(&[user("go")])).await["content"],
        "fine"
    );
    let told = "SELECT count(*) FROM activity WHERE metadata LIKE '%\"expired\"%'";
    while gateway.cell::<i64>(told) == 0 {
        tokio::task::yield_now().await;
    }
    let shown = credentials(&gateway).await;
    assert_eq!(
        (&shown["state"], &shown["isExpired"], &shown["isValid"]),
        (&json!("expired"), &json!(true), &json!(false))
    );
    let response = ask(&gateway, &chat(&[user("go")])).await;
    assert_eq!(response.status(), 401);
    let error: Value = response.json().await.expect("JSON");
    assert_eq!(error["error"]["code"], "credentials_rejected");
    assert!(
        error["error"]["message"]
            .as_str()
            .expect("text")
            .contains("expired"),
        "{error}"
    );
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_login_of_several_can_be_forgotten() {
    let site = Site::saying("fine").await;
    let gateway = at(&site, &[]).await;
    let health = async || {
        let (_, health) = gateway.get(&gateway.qwen("/health")).await;
        health["checks"]["authentication"].clone()
    };
    assert_eq!(health().await, "not_configured");
    log_in(&gateway, "a", "u1").await;
    log_in(&gateway, "b", "u2").await;
    assert_eq!(health().await, "ok");
    let shown = credentials(&gateway).await;
    for account in shown["accounts"].as_array().expect("a list") {
        assert!(
            account["last_verified_at"].as_i64() > Some(1_700_000_000),
            "{account}"
        );
    }
    let delete = async |query: &str| -> Value {
        let url = gateway.api(&format!("/api/qwen/credentials{query}"));
        let response = gateway.client.delete(url).send().await.expect("an answer");
        assert_eq!(response.status(), 200);
        response.json().await.expect("JSON")
    };
    assert_eq!(delete("?label=nobody").await["deleted"], 0);
    assert_eq!(delete("?label=a").await["deleted"], 1);
    assert_eq!(delete("?label=a").await["deleted"], 0);
    let shown = credentials(&gateway).await;
    assert_eq!(
        (&shown["label"], shown["accounts"].as_array().map(Vec::len)),
        (&json!("b"), Some(1))
    );
    assert_eq!(
        answer(&gateway, &chat(&[user("go")])).await["content"],
        "fine"
    );
    assert_eq!(site.turns()[0].token, jwt("u2", LATER));
    // One that is there but of no use is not `ok`.
    site.reject(&jwt("u2", LATER));
    assert_eq!(ask(&gateway, &chat(&[user("go on")])).await.status(), 401);
    assert_eq!(health().await, "rejected");
    assert_eq!(delete("").await["deleted"], 1);
    assert_eq!(credentials(&gateway).await["state"], "missing");
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_least_recently_limited_login_comes_first() {
    let site = Site::saying("fine").await;
    let gateway = at(&site, &[]).await;
    for (label, user) in [("a", "u1"), ("b", "u2"), ("c", "u3")] {
        log_in(&gateway, label, user).await;
    }
    let database = gateway.database();
    let dir = gateway.stop().await;
    // Limits that are over.
    let stored = rusqlite::Connection::open(database).expect("the database opens");
    for (label, until) in [("a", 3_000), ("b", 1_000), ("c", 2_000)] {
        let changed = stored.execute(
            "UPDATE credentials SET limited_until = ?2 WHERE label = ?1",
            (label, until),
        );
        assert_eq!(changed.expect("written"), 1);
    }
    drop(stored);
    let settings = [("qwen.baseUrl", json!(site.upstream.origin()))];
    let gateway = TestGateway::reopened(dir, &settings).await;
    for (number, user_id) in ["u2", "u3", "u1"].into_iter().enumerate() {
        let text = format!("conversation {number}");
        assert_eq!(
            answer(&gateway, &chat(&[user(&text)])).await["content"],
            "fine"
        );
        let turns = site.turns();
        let token = &turns.last().expect("a turn").token;
        assert_eq!(*token, jwt(user_id, LATER));
        site.reject(token);
        let rejected = ask(&gateway, &chat(&[user("again")])).await.status();
        assert_eq!(rejected, if number == 2 { 401 } else { 200 });
    }
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_second_busy_answer_in_a_row_is_a_check() {
    let site = Site::start(|turn| match turn.content.as_str() {
        "fine" => Play::says("Fine."),
        _ => Play::refusal(200, "busy.json"),
    })
    .await;
    let gateway = logged_in(&site, "u1").await;
    for (text, status) in [("go", 503), ("fine", 200), ("go", 503), ("go", 403)] {
        let response = ask(&gateway, &chat(&[user(text)])).await;
        assert_eq!(response.status(), status, "{text}");
    }
    assert_eq!(credentials(&gateway).await["state"], "challenged");
    gateway.stop().await;
}

/// A keyring as `secret-tool` shows it, in a folder; it is locked while the file `locked` is there.
#[cfg(target_os = "linux")]
const KEYRING: &str = r#"#!/bin/sh
here=$(dirname "$0")
[ -e "$here/locked" ] && { echo "the keyring is locked" >&2; exit 1; }
case "$1" in
    lookup) [ -e "$here/secret" ] && cat "$here/secret" || exit 1 ;;
    store) cat > "$here/secret" ;;
esac
"#;

#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread")]
async fn the_key_can_live_in_the_keyring_and_a_locked_one_stops_nothing() {
    use std::os::unix::fs::PermissionsExt;
    let site = Site::saying("fine").await;
    let dir = tempfile::TempDir::new().expect("a folder");
    let (data, tool) = (dir.path().join("data"), dir.path().join("secret-tool"));
    std::fs::write(&tool, KEYRING).expect("a script");
    std::fs::set_permissions(&tool, std::fs::Permissions::from_mode(0o755)).expect("executable");
    let path = format!(
        "{}:{}",
        dir.path().display(),
        std::env::var("PATH").unwrap_or_default()
    );
    let base = site.upstream.origin();
    let start = |keyring: &str| {
        let setting = format!("security.keyring={keyring}");
        let variables = [("PATH", path.as_str()), ("QWEN_BASE_URL", base.as_str())];
        Binary::with(
            &data,
            &["--set", &setting],
            &variables,
            std::process::Stdio::null(),
        )
    };
    let client = crate::support::client();
    let state = async |binary: &Binary| {
        let url = format!("{}/api/qwen/credentials", binary.management);
        let shown: Value = client
            .get(url)
            .send()
            .await
            .expect("an answer")
            .json()
            .await
            .expect("JSON");
        shown["state"].clone()
    };
    let store = async |binary: &Binary| {
        let url = format!("{}/api/qwen/credentials", binary.management);
        let body = json!({"token": jwt("u1", LATER), "cookies": "a=b"});
        assert_eq!(
            client
                .post(url)
                .json(&body)
                .send()
                .await
                .expect("an answer")
                .status(),
            200
        );
    };
    let file = data.join("qwarden.key");
    // With a file first; then that key moves.
    let binary = start("false");
    store(&binary).await;
    drop(binary);
    assert!(file.exists());
    let binary = start("true");
    assert_eq!(state(&binary).await, "valid");
    drop(binary);
    assert!(!file.exists() && dir.path().join("secret").exists());
    // Locked: it starts, without that login, and with a key of its own.
    std::fs::write(dir.path().join("locked"), "").expect("a mark");
    let binary = start("true");
    assert_eq!(state(&binary).await, "missing");
    drop(binary);
    std::fs::remove_file(dir.path().join("locked")).expect("there");
    let binary = start("true");
    assert_eq!(state(&binary).await, "valid");
    drop(binary);
}
