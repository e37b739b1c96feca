//! What other programs watch: `/metrics`, `/health` and `/health/detailed` of the Qwen proxy; and the end by request.

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::qwen::log_in;
use crate::support::binary::Binary;
use crate::support::site::Site;
use crate::support::{TestGateway, client, say};

#[tokio::test]
async fn requests_and_calls_of_the_site_are_counted() {
    let site = Site::saying("Hello").await;
    let origin = json!(site.upstream.origin());
    let gateway = TestGateway::with(&[("qwen.baseUrl", origin)]).await;
    log_in(&gateway, "default", "u1").await;
    let url = gateway.qwen("/v1/chat/completions");
    let answer = gateway.post(&url, &say("qwen3-max", "hi")).await;
    assert_eq!(answer.status(), 200);
    answer.bytes().await.expect("a body");
    gateway.get(&gateway.qwen("/made/up")).await;
    for url in [gateway.qwen("/metrics"), gateway.api("/metrics")] {
        let answer = gateway.client.get(&url).send().await.expect("an answer");
        let kind = answer.headers()["content-type"].to_str().expect("text");
        assert!(kind.starts_with("text/plain; version=0.0.4"), "{kind}");
        let text = answer.text().await.expect("a body");
        for (name, kind) in [
            ("http_request_duration_seconds", "histogram"),
            ("http_requests_total", "counter"),
            ("qwen_api_calls_total", "counter"),
            ("qwen_api_errors_total", "counter"),
            ("active_sessions", "gauge"),
            ("streaming_connections_active", "gauge"),
        ] {
            let line = format!("# TYPE {name} {kind}\n");
            assert_eq!(text.matches(&line).count(), 1, "{text}");
        }
        for line in [
            "http_requests_total{port=\"qwen\",method=\"POST\",path=\"/v1/chat/completions\",status=\"200\"} 1\n",
            "http_requests_total{port=\"qwen\",method=\"GET\",path=\"other\",status=\"404\"} 1\n",
            "qwen_api_calls_total{endpoint=\"completions\",status=\"200\"} 1\n",
            "le=\"+Inf\"} 1\n",
            "active_sessions 1\n",
            "streaming_connections_active{port=\"qwen\"} 0\n",
        ] {
            assert!(text.contains(line), "{line}: {text}");
        }
    }
    gateway.stop().await;
}

#[tokio::test]
async fn the_qwen_proxy_says_when_too_much_fails() {
    let gateway = TestGateway::start().await;
    let (status, health) = gateway.get(&gateway.qwen("/health/detailed")).await;
    assert_eq!(
        (status, &health["status"], &health["checks"]["errors"]),
        (200, &json!("healthy"), &json!("ok"))
    );
    assert_eq!(health["metrics"]["process"]["pid"], std::process::id());
    assert_eq!(health["metrics"]["sessions"]["activeSessions"], 0);
    assert_eq!(health["errors"]["recent_count"], 0);
    // What 101 failed exchanges leave behind, in the file itself.
    let conn = rusqlite::Connection::open(gateway.database()).expect("the database opens");
    conn.busy_timeout(crate::support::PATIENCE)
        .expect("a busy timeout");
    conn.execute_batch(
        "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 101)
         INSERT INTO requests (request_id, timestamp, method, path, openai_request, model, stream, status, created_at)
         SELECT 'failed-' || i, unixepoch() * 1000, 'POST', '/v1/chat/completions', '{}', 'qwen3-max', 0, 'failed',
                unixepoch() * 1000 FROM n;
         INSERT INTO responses (request_id, response_id, timestamp, error, error_code, provider_id, http_status,
                                duration_ms, created_at)
         SELECT id, request_id, timestamp, 'it broke', 'upstream_error', 'qwen', 502, 1, created_at FROM requests;",
    )
    .expect("rows");
    drop(conn);
    for path in ["/health", "/health/detailed"] {
        let (status, health) = gateway.get(&gateway.qwen(path)).await;
        assert_eq!(
            (status, &health["status"], &health["checks"]["errors"]),
            (503, &json!("degraded"), &json!("degraded")),
            "{path}"
        );
    }
    let (_, health) = gateway.get(&gateway.qwen("/health/detailed")).await;
    assert_eq!(
        (
            &health["errors"]["recent_count"],
            &health["errors"]["last_error"]
        ),
        (&json!(101), &json!("it broke"))
    );
    gateway.stop().await;
}

#[tokio::test]
async fn who_holds_the_admin_token_may_end_the_process() {
    let dir = TempDir::new().expect("a temporary directory");
    let token = "t".repeat(40);
    let variables = [("QWARDEN_ADMIN_TOKEN", token.as_str())];
    let starting = dir.path().join("data");
    let null = std::process::Stdio::null();
    let mut binary = Binary::with(&starting, &[], &variables, null);
    let url = format!("{}/api/shutdown", binary.management);
    let refused = client().post(&url).send().await.expect("an answer");
    assert_eq!(refused.status(), 403);
    let told: Value = refused.json().await.expect("JSON");
    assert_eq!(told["error"]["code"], "admin_token_required");
    let answer = client().post(&url).bearer_auth(&token).send().await;
    assert_eq!(answer.expect("an answer").status(), 202);
    let ended = tokio::task::spawn_blocking(move || binary.wait()).await;
    assert!(ended.expect("no panic").success());
}
