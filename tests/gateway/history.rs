//! The history: what is stored how, how it is searched and exported, and what goes when.

use std::collections::BTreeSet;
use std::time::Duration;

use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::support::upstream::{Upstream, json_answer, whole};
use crate::support::{PATIENCE, TestGateway, say};

const DAY_MS: i64 = 86_400_000;

async fn told(gateway: &TestGateway, body: &Value) {
    let answer = gateway.chat(body).await;
    assert_eq!(answer.status(), 200);
    answer.bytes().await.expect("a body");
}

async fn list(gateway: &TestGateway, query: &[(&str, &str)]) -> (StatusCode, Value) {
    let url = reqwest::Url::parse_with_params(&gateway.api("/api/requests"), query);
    let request = gateway.client.get(url.expect("a URL"));
    let answer = request.send().await.expect("an answer");
    (answer.status(), answer.json().await.expect("JSON"))
}

async fn found(gateway: &TestGateway, query: &str) -> Vec<Value> {
    let (status, body) = list(gateway, &[("q", query)]).await;
    assert_eq!(status, 200, "{query}: {body}");
    assert_eq!(body["total"], body["count"], "{query}");
    body["requests"].as_array().expect("rows").clone()
}

async fn delete(gateway: &TestGateway, path: &str) {
    let answer = gateway.client.delete(gateway.api(path)).send().await;
    assert_eq!(answer.expect("an answer").status(), 200);
}

async fn put(gateway: &TestGateway, key: &str, value: Value) {
    let request = gateway
        .client
        .put(gateway.api(&format!("/api/settings/{key}")));
    let answer = request.json(&json!({"value": value})).send().await;
    assert_eq!(answer.expect("an answer").status(), 200);
}

async fn retain(gateway: &TestGateway, dry_run: bool) -> Value {
    let url = gateway.api("/api/retention/run");
    let answer = gateway.post(&url, &json!({"dry_run": dry_run})).await;
    assert_eq!(answer.status(), 200);
    let body: Value = answer.json().await.expect("JSON");
    assert_eq!(body["dry_run"], dry_run);
    body
}

/// Adds `count` exchanges that ended `days` ago, as another program would, with `bytes` of text that packs badly.
fn age(gateway: &TestGateway, days: i64, count: u32, bytes: u32) {
    let mut conn = rusqlite::Connection::open(gateway.database()).expect("it opens");
    conn.busy_timeout(PATIENCE).expect("a timeout");
    conn.pragma_update(None, "foreign_keys", true).expect("set");
    let now: i64 = conn
        .query_row("SELECT unixepoch() * 1000", [], |row| row.get(0))
        .expect("a time");
    let at = now - days * DAY_MS - DAY_MS / 2;
    let transaction = conn.transaction().expect("it begins");
    for number in 0..count {
        transaction
            .execute(
                "INSERT INTO requests (request_id, timestamp, method, path, openai_request, model, stream, status, created_at)
                 VALUES (?1, ?2, 'POST', '/v1/chat/completions',
                         json_object('messages', json_array(json_object('role', 'user', 'content', 'aged ' || hex(randomblob(?3))))),
                         'old', 0, 'completed', ?2)",
                (format!("aged-{days}-{number}"), at + i64::from(number), bytes / 2),
            )
            .expect("a row");
        transaction
            .execute(
                "INSERT INTO responses (request_id, response_id, timestamp, openai_response, http_status, duration_ms, created_at)
                 VALUES (last_insert_rowid(), ?1, ?2, '{\"choices\":[{\"message\":{\"content\":\"ripe\"}}]}', 200, 1, ?2)",
                (format!("answer-{days}-{number}"), at + i64::from(number)),
            )
            .expect("a row");
    }
    transaction.commit().expect("it is stored");
}

#[tokio::test]
async fn words_of_prompts_and_answers_are_found_until_they_are_deleted() {
    let upstream = Upstream::start(|_| {
        vec![json_answer(
            200,
            &whole("The capital is Réykjavik, 天气很好"),
        )]
    })
    .await;
    let gateway = TestGateway::start().await;
    gateway.provider("up", &upstream).await;
    let asked = json!({"model": "up/fake", "messages": [
        {"role": "system", "content": "Answer as a geographer"},
        {"role": "user", "content": "Which is Iceland's largest town?"},
    ]});
    told(&gateway, &asked).await;
    told(&gateway, &say("echo", "an unrelated iceberg")).await;
    for query in [
        "iceland",
        "ICELAND largest",
        "geographer",
        "capital town",
        "\"capital is\"",
        "reykjavik",
        "reyk*",
        "\"largest to\"*",
        "天气",
        "iceland's",
    ] {
        let rows = found(&gateway, query).await;
        assert_eq!(rows.len(), 1, "{query}");
        assert_eq!(rows[0]["model"], "up/fake");
        assert!(rows[0]["snippet"].is_string(), "{query}");
    }
    let snippet = found(&gateway, "capital").await[0]["snippet"].clone();
    assert_eq!(snippet, "The capital is Réykjavik, 天气很好");
    for query in ["icelan", "\"town largest\"", "iceland iceberg", "很天"] {
        assert!(found(&gateway, query).await.is_empty(), "{query}");
    }
    // Together with the other filters, page after page, the newest first.
    assert_eq!(found(&gateway, "ice*").await.len(), 2);
    let (_, narrow) = list(&gateway, &[("q", "ice*"), ("model", "echo")]).await;
    assert_eq!(narrow["total"], 1);
    let (_, page) = list(
        &gateway,
        &[("q", "ice*"), ("limit", "1"), ("fields", "model")],
    )
    .await;
    assert_eq!(page["requests"][0]["model"], "echo");
    assert_eq!(page["requests"][0].as_object().expect("a row").len(), 3);
    let cursor = page["next_cursor"].as_str().expect("more");
    let (_, page) = list(
        &gateway,
        &[("q", "ice*"), ("limit", "1"), ("cursor", cursor)],
    )
    .await;
    assert_eq!(page["requests"][0]["model"], "up/fake");
    assert_eq!(page["next_cursor"], Value::Null);
    let (_, plain) = list(&gateway, &[]).await;
    assert!(plain["requests"][0].get("snippet").is_none());

    let id = found(&gateway, "iceland").await[0]["id"].clone();
    delete(
        &gateway,
        &format!("/api/responses/{}", answer_of(&gateway, &id).await),
    )
    .await;
    assert!(found(&gateway, "reykjavik").await.is_empty());
    assert_eq!(found(&gateway, "iceland").await.len(), 1);
    delete(&gateway, &format!("/api/requests/{id}")).await;
    assert!(found(&gateway, "iceland").await.is_empty());
    assert_eq!(
        gateway.cell::<i64>("SELECT count(*) FROM history_words_docsize"),
        1
    );
    gateway.stop().await;
}

async fn answer_of(gateway: &TestGateway, id: &Value) -> Value {
    let url = gateway.api(&format!("/api/requests/{id}"));
    gateway.get(&url).await.1["response"]["id"].clone()
}

#[tokio::test]
async fn nothing_that_is_searched_for_is_taken_for_a_command() {
    let gateway = TestGateway::start().await;
    told(&gateway, &say("echo", "harmless")).await;
    let long = "a ".repeat(200);
    for query in [
        "\"",
        "\"\"\"",
        "*",
        "^",
        "(",
        ")",
        "a AND",
        "NOT",
        "NEAR(",
        "NEAR(a b, 5)",
        "prompt:",
        "{prompt answer}:x",
        "-prompt : x",
        "a* b*",
        "x'; DROP TABLE requests; --",
        "\\",
        "%",
        "a\u{0}b",
        "\u{feff}",
        "\u{301}",
        "🙂",
        "+",
        "a + b",
        "'",
        "''",
        "\"a",
        "a\"b\"c",
        "rank:1",
        "history_words",
        long.as_str(),
    ] {
        let (status, body) = list(&gateway, &[("q", query)]).await;
        if status == 200 {
            assert_eq!(body["total"], 0, "{query:?}");
        } else {
            assert_eq!(status, 400, "{query:?}: {body}");
            assert_eq!(body["error"]["param"], "q");
        }
    }
    let (status, body) = list(&gateway, &[("q", "harmless\" OR \"")]).await;
    assert_eq!(
        (status.as_u16(), &body["total"]),
        (200, &json!(0)),
        "OR is a word"
    );
    assert_eq!(found(&gateway, "harmless").await.len(), 1);
    gateway.stop().await;
}

#[tokio::test]
async fn long_bodies_are_packed_and_read_back_as_they_were() {
    let words: Vec<String> = (0..6_000)
        .map(|n| format!("word{n} \"quoted\" ä"))
        .collect();
    let long = words.join("\n");
    let answer = whole(&long);
    let upstream = {
        let answer = answer.clone();
        Upstream::start(move |_| vec![json_answer(200, &answer)]).await
    };
    let gateway = TestGateway::start().await;
    gateway.provider("up", &upstream).await;
    let asked = say("up/fake", &long);
    told(&gateway, &asked).await;
    let (_, all) = list(&gateway, &[]).await;
    assert_eq!(all["requests"][0]["openai_request"], asked);
    let id = &all["requests"][0]["id"];
    let (_, one) = gateway
        .get(&gateway.api(&format!("/api/requests/{id}")))
        .await;
    assert_eq!(one["openai_request"], asked);
    let kept = &one["response"]["openai_response"];
    assert_eq!(kept["choices"][0]["message"]["content"], json!(long));
    let (_, answers) = gateway.get(&gateway.api("/api/responses")).await;
    assert_eq!(&answers["responses"][0]["openai_response"], kept);
    for (table, column) in [
        ("requests", "openai_request"),
        ("responses", "openai_response"),
    ] {
        let kind: String = gateway.cell(&format!("SELECT typeof({column}) FROM {table}"));
        let bytes: i64 = gateway.cell(&format!("SELECT length({column}) FROM {table}"));
        assert_eq!(kind, "blob");
        assert!(usize::try_from(bytes).expect("a length") < long.len() / 3);
    }
    gateway.stop().await;
}

#[tokio::test]
async fn each_rule_removes_what_it_has_outlived_and_the_sums_stay() {
    let gateway = TestGateway::start().await;
    told(&gateway, &say("echo", "a fresh one")).await;
    age(&gateway, 40, 3, 100);
    age(&gateway, 20, 4, 100);
    age(&gateway, 10, 5, 100);
    let sums = "SELECT sum(requests) FROM usage_rollups";
    assert_eq!(gateway.cell::<i64>(sums), 1);
    let count = "SELECT count(*) FROM requests";
    let settled = async |wanted: i64| {
        let settling = async {
            while gateway.cell::<i64>(count) != wanted {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(PATIENCE, settling)
            .await
            .expect("it goes");
    };
    assert_eq!(
        retain(&gateway, false).await["indexed"],
        12,
        "what came from elsewhere"
    );
    assert_eq!(found(&gateway, "aged ripe").await.len(), 12);
    assert_eq!(gateway.cell::<i64>(count), 13, "without a rule all stays");

    // A rule is carried out when it is set.
    put(&gateway, "retention.days", json!(30)).await;
    settled(10).await;
    put(&gateway, "retention.maxRequests", json!(7)).await;
    settled(7).await;
    // After the pass that the setting asked for.
    retain(&gateway, false).await;
    age(&gateway, 50, 2, 100);
    let planned = retain(&gateway, true).await;
    assert_eq!(planned["deleted"]["requests"], 2);
    assert_eq!(gateway.cell::<i64>(count), 9, "nothing is gone yet");
    let made = retain(&gateway, false).await;
    assert_eq!(made["deleted"], planned["deleted"]);
    assert_eq!(retain(&gateway, true).await["deleted"]["requests"], 0);
    settled(7).await;

    put(&gateway, "retention.bodiesDays", json!(15)).await;
    let dropped = "SELECT count(*) FROM requests WHERE bodies_dropped = 1";
    let dropping = async {
        while gateway.cell::<i64>(dropped) != 1 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, dropping)
        .await
        .expect("they go");
    assert_eq!(
        found(&gateway, "ripe").await.len(),
        5,
        "without bodies nothing is found"
    );
    let (_, old) = list(&gateway, &[("end_date", "9999999999999"), ("offset", "6")]).await;
    let note = &old["requests"][0]["openai_request"]["qwarden"];
    assert_eq!(note["omitted"], "too old");
    assert!(note["bytes"].as_i64() > Some(100));
    assert_eq!(gateway.cell::<i64>(sums), 1);
    assert_eq!(found(&gateway, "fresh").await.len(), 1);

    gateway.cell::<i64>("UPDATE activity SET timestamp = 5 RETURNING 1");
    let planned = retain(&gateway, true).await["deleted"].clone();
    let activities = planned["activity"].as_i64().expect("a number");
    assert!(activities > 0);
    assert_eq!(retain(&gateway, false).await["deleted"], planned);
    gateway.stop().await;
}

#[tokio::test]
async fn a_file_that_is_too_large_shrinks_by_its_oldest_exchanges() {
    let gateway = TestGateway::start().await;
    told(&gateway, &say("echo", "the newest")).await;
    age(&gateway, 3, 1_500, 8_000);
    let before = retain(&gateway, true).await;
    assert_eq!(before["deleted"]["requests"], 0);
    let bytes = |answer: &Value| answer["file"]["bytes"].as_i64().expect("a size");
    assert!(bytes(&before) > 10 << 20, "{before}");
    put(&gateway, "history.search", json!(false)).await;
    put(&gateway, "retention.maxSizeMb", json!(6)).await;
    let after = retain(&gateway, false).await;
    assert!(bytes(&after) <= 8 << 20, "{after}");
    let left: i64 = gateway.cell("SELECT count(*) FROM requests");
    assert!((300..1_200).contains(&left), "{left} are left");
    assert_eq!(found(&gateway, "newest").await.len(), 1);
    let database = gateway.database();
    let _dir = gateway.stop().await;
    let length = std::fs::metadata(database).expect("a file").len();
    assert!(length <= 8 << 20, "{length}");
}

/// Each exchange is a part more of the index; the writer merges them while it has nothing else to do.
#[tokio::test]
async fn the_index_of_words_stays_in_few_parts() {
    let wait = ("history.commitWait", json!(5_000));
    let gateway = TestGateway::with(&[wait]).await;
    for number in 0..40 {
        told(&gateway, &say("echo", &format!("number{number} again"))).await;
    }
    let parts = "SELECT count(DISTINCT segid) FROM history_words_idx";
    let merging = async {
        while gateway.cell::<i64>(parts) >= 10 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, merging)
        .await
        .expect("they are merged");
    assert_eq!(found(&gateway, "again").await.len(), 40);
    assert_eq!(found(&gateway, "number7").await.len(), 1);
    let (_, health) = gateway.get(&gateway.api("/api/health")).await;
    let merges = &health["checks"]["db"]["writes"]["merge words"];
    assert!(merges["count"].as_u64() > Some(0), "{health}");
    gateway.stop().await;
}

#[tokio::test]
async fn completions_go_on_while_much_is_removed() {
    let wait = ("history.commitWait", json!(1_000));
    let gateway = TestGateway::with(&[wait]).await;
    retain(&gateway, false).await;
    age(&gateway, 30, 2_000, 6_000);
    put(&gateway, "retention.days", json!(7)).await;
    let url = gateway.api("/api/retention/run");
    let run = tokio::spawn({
        let client = gateway.client.clone();
        async move { client.post(url).json(&json!({})).send().await }
    });
    let mut told_meanwhile = 0;
    while !run.is_finished() {
        told(&gateway, &say("echo", "meanwhile")).await;
        told_meanwhile += 1;
    }
    let answer = run.await.expect("it ran").expect("an answer");
    assert_eq!(answer.status(), 200);
    assert!(told_meanwhile > 0);
    assert_eq!(
        gateway.cell::<i64>("SELECT count(*) FROM requests"),
        told_meanwhile
    );
    let (_, health) = gateway.get(&gateway.api("/api/health")).await;
    let late = health.pointer("/checks/db/commit_waits_expired");
    assert_eq!(late, Some(&json!(0)), "{health}");
    held_in_pieces(&gateway, "retain").await;
    gateway.stop().await;
}

/// What held the writer came in many pieces of which none was most of it. Not in ms: this machine may be busy.
async fn held_in_pieces(gateway: &TestGateway, kind: &str) {
    let (_, health) = gateway.get(&gateway.api("/api/health")).await;
    let writes = &health["checks"]["db"]["writes"];
    let [count, longest, total] = ["count", "longest_ms", "total_ms"]
        .map(|name| writes[kind][name].as_f64().expect("a number"));
    assert!(count >= 8.0, "{writes}");
    assert!(longest < total / 2.0, "{writes}");
    assert!(total / count < 20.0, "{writes}");
}

/// A conversation `long`, of 1,500 exchanges.
fn converse(gateway: &TestGateway) {
    age(gateway, 30, 1_500, 4_000);
    gateway.cell::<i64>(
        "INSERT INTO sessions (id, chat_id, first_user_message, created_at, last_accessed, expires_at)
         VALUES ('long', 'c', 'hi', 1, 1, 9) RETURNING 1",
    );
    gateway.cell::<i64>("UPDATE requests SET session_id = 'long' RETURNING 1");
}

/// Waiting for others is no reason for smaller pieces: they would be of one row each.
#[tokio::test]
async fn pieces_stay_large_while_the_writer_is_busy_with_others() {
    let gateway = TestGateway::start().await;
    converse(&gateway);
    let delete = gateway.client.delete(gateway.api("/api/sessions/long"));
    let run = tokio::spawn(delete.send());
    let busy = gateway.api("/api/fault/stalled-writer");
    while !run.is_finished() {
        // The writer does nothing else until the client leaves, which is longer than a piece should take.
        let stall = gateway.client.get(&busy).timeout(Duration::from_millis(30));
        assert!(stall.send().await.is_err());
    }
    let answer = run.await.expect("it ran").expect("an answer");
    assert_eq!(answer.status(), 200);
    assert_eq!(gateway.cell::<i64>("SELECT count(*) FROM requests"), 0);
    let (_, health) = gateway.get(&gateway.api("/api/health")).await;
    let pieces = &health["checks"]["db"]["writes"]["discard"]["count"];
    assert!(pieces.as_u64().is_some_and(|count| count < 300), "{health}");
    gateway.stop().await;
}

#[tokio::test]
async fn conversations_and_kept_answers_go_in_pieces_too() {
    let gateway = TestGateway::start().await;
    converse(&gateway);
    let other = "INSERT INTO sessions (id, chat_id, first_user_message, created_at, last_accessed, expires_at)
                 VALUES ('ended', 'd', 'hi', 1, 1, 9) RETURNING 1";
    gateway.cell::<i64>(other);
    let answer = gateway.client.delete(gateway.api("/api/sessions/long"));
    assert_eq!(answer.send().await.expect("an answer").status(), 200);
    assert_eq!(gateway.cell::<i64>("SELECT count(*) FROM requests"), 0);
    let left = "SELECT count(*) FROM sessions";
    assert_eq!(gateway.cell::<i64>(left), 1);
    held_in_pieces(&gateway, "discard").await;
    let answer = gateway.client.delete(gateway.api("/api/sessions"));
    let answer = answer.send().await.expect("an answer");
    let body: Value = answer.json().await.expect("JSON");
    assert_eq!(body["deleted"], 1);
    assert_eq!(gateway.cell::<i64>(left), 0);
    gateway.stop().await;
}

#[tokio::test]
async fn the_search_can_be_turned_off_and_on() {
    let off = ("history.search", json!(false));
    let gateway = TestGateway::with(&[off]).await;
    told(&gateway, &say("echo", "unnoticed")).await;
    assert!(found(&gateway, "unnoticed").await.is_empty());
    let dir = gateway.stop().await;
    let gateway = TestGateway::reopened(dir, &[]).await;
    retain(&gateway, false).await;
    assert_eq!(found(&gateway, "unnoticed").await.len(), 1);
    // Without their bodies exchanges have no words either.
    put(&gateway, "logging.logRequests", json!(false)).await;
    put(&gateway, "logging.logResponses", json!(false)).await;
    told(&gateway, &say("echo", "unkept")).await;
    assert!(found(&gateway, "unkept").await.is_empty());
    gateway.stop().await;
}

#[tokio::test]
async fn an_export_is_the_list() {
    let gateway = TestGateway::start().await;
    for text in ["=SUM(1)", "two, \"quoted\"\nlines", "echo:fail 500 broken"] {
        let answer = gateway.chat(&say("echo", text)).await;
        answer.bytes().await.expect("a body");
    }
    age(&gateway, 1, 450, 3_000);
    let request = gateway
        .client
        .get(gateway.api("/api/requests/export?format=jsonl"));
    let answer = request.send().await.expect("an answer");
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.headers()["content-type"], "application/x-ndjson");
    assert_eq!(
        answer.headers()["content-disposition"],
        "attachment; filename=\"qwarden-requests.jsonl\""
    );
    let text = answer.text().await.expect("a body");
    let rows: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect();
    let (_, listed) = list(&gateway, &[("limit", "1000")]).await;
    let listed = listed["requests"].as_array().expect("rows");
    assert_eq!(rows.len(), 453);
    assert_eq!(rows.len(), listed.len());
    for (row, listed) in rows.iter().zip(listed) {
        for field in [
            "id",
            "request_id",
            "timestamp",
            "model",
            "status",
            "openai_request",
        ] {
            assert_eq!(row[field], listed[field]);
        }
    }
    let url = gateway.api("/api/requests/export?format=csv&model=echo&guard=false");
    let answer = gateway.client.get(url).send().await.expect("an answer");
    assert_eq!(answer.headers()["content-type"], "text/csv; charset=utf-8");
    let text = answer.text().await.expect("a body");
    let mut table = csv::Reader::from_reader(text.as_bytes());
    let headers = table.headers().expect("a head").clone();
    let column = |name: &str| {
        headers
            .iter()
            .position(|header| header == name)
            .expect("a column")
    };
    let cells: Vec<csv::StringRecord> = table.records().map(|row| row.expect("a row")).collect();
    assert_eq!(cells.len(), 3);
    for (cells, listed) in cells.iter().zip(listed) {
        assert_eq!(cells[column("id")], listed["id"].to_string());
        let body: Value = serde_json::from_str(&cells[column("openai_request")]).expect("JSON");
        assert_eq!(body, listed["openai_request"]);
    }
    let statuses: BTreeSet<&str> = cells.iter().map(|row| &row[column("status")]).collect();
    assert_eq!(statuses, BTreeSet::from(["completed", "failed"]));
    // The same filters as the list.
    let url = gateway.api("/api/requests/export?format=jsonl&q=quoted&status=completed");
    let answer = gateway.client.get(url).send().await.expect("an answer");
    assert_eq!(answer.text().await.expect("a body").lines().count(), 1);
    gateway.stop().await;
}
