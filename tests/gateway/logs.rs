//! `/api/logs` of the program itself: what it wrote, and what it writes.

use futures_util::StreamExt;
use serde_json::{Value, json};

use crate::support::binary::Binary;
use crate::support::{PATIENCE, client};

#[tokio::test(flavor = "multi_thread")]
async fn lines_are_listed_by_level_and_words_and_followed() {
    let dir = tempfile::tempdir().expect("a folder");
    let binary = Binary::start(dir.path(), &["--log-level", "debug"]);
    let client = client();
    let url = |path: &str| format!("{}{path}", binary.management);
    let get = async |path: &str| {
        let answer = client.get(url(path)).send().await.expect("an answer");
        let status = answer.status().as_u16();
        (status, answer.json::<Value>().await.expect("JSON"))
    };
    let missing = async |name: &str| get(&format!("/api/providers/{name}")).await;
    missing("nowhere-1").await;

    let (status, all) = get("/api/logs").await;
    assert_eq!((status, &all["level"]), (200, &json!("debug")), "{all}");
    let lines = all["lines"].as_array().expect("lines");
    assert_eq!(all["total"], lines.len());
    let rising = lines
        .windows(2)
        .all(|two| two[0]["seq"].as_u64() < two[1]["seq"].as_u64());
    assert!(rising, "{all}");
    let (_, found) = get("/api/logs?q=NOWHERE-1").await;
    assert_eq!(found["total"], 1, "{found}");
    let line = &found["lines"][0];
    assert_eq!(
        (&line["level"], &line["message"], &line["fields"]["status"]),
        (&json!("debug"), &json!("request refused"), &json!(404))
    );
    let (_, severe) = get("/api/logs?q=nowhere-1&level=warn").await;
    assert_eq!(severe["total"], 0, "{severe}");
    let (_, newest) = get("/api/logs?limit=1").await;
    assert_eq!(newest["lines"].as_array().map(Vec::len), Some(1));
    for bad in ["level=loud", "limit=0", "after=-1"] {
        let (status, refused) = get(&format!("/api/logs?{bad}")).await;
        assert_eq!(status, 400, "{refused}");
    }

    // What was missed first, then what comes.
    let after = line["seq"].as_u64().expect("a number") - 1;
    let address = url(&format!("/api/logs/live?after={after}"));
    let mut stream = client
        .get(address)
        .send()
        .await
        .expect("an answer")
        .bytes_stream();
    let mut text = String::new();
    for name in ["nowhere-1", "nowhere-2"] {
        if name == "nowhere-2" {
            missing(name).await;
        }
        while !text.contains(name) {
            let piece = stream.next().await.expect("more").expect("no failure");
            text.push_str(&String::from_utf8_lossy(&piece));
        }
    }
    assert!(text.starts_with("event: log\n"), "{text}");
    assert_eq!(
        text.matches("/api/providers/nowhere-1\"").count(),
        1,
        "{text}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_level_is_in_force_while_it_runs() {
    let dir = tempfile::tempdir().expect("a folder");
    let binary = Binary::start(dir.path(), &[]);
    let client = client();
    let url = |path: &str| format!("{}{path}", binary.management);
    let lines_of = async |name: &str| {
        let missing = client.get(url(&format!("/api/providers/{name}")));
        assert_eq!(missing.send().await.expect("an answer").status(), 404);
        let found = client.get(url(&format!("/api/logs?q={name}")));
        let found: Value = found
            .send()
            .await
            .expect("an answer")
            .json()
            .await
            .expect("JSON");
        found["total"].as_u64().expect("a number")
    };
    assert_eq!(lines_of("unheard").await, 0);
    let change = client
        .put(url("/api/settings/logging.level"))
        .json(&json!({"value": "debug"}));
    assert_eq!(change.send().await.expect("an answer").status(), 200);
    // The change is told to the log beside the answer.
    let heard = async {
        while lines_of("heard").await == 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, heard)
        .await
        .expect("it is in force");
}
