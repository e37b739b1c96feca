//! What every change leaves behind: a row of the audit log, and for requests with an `Idempotency-Key` their answer.

use std::collections::BTreeSet;

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::site::{Site, jwt};
use crate::support::upstream::{Step, Upstream, json_answer, whole};
use crate::support::{TestGateway, say};

/// Those that change nothing anybody configured: they ask, or say who one is.
const NO_CHANGES: &str = "
    POST /api/auth/login
    POST /api/auth/logout
    POST /api/chat/completions
    POST /api/providers/{id}/test
    POST /api/qwen/credentials/verify
    POST /api/requests/{id}/replay
    POST /api/requests/{id}/recording/replay
    POST /api/route/explain";

const LATER: u64 = 4_000_000_000;
const AUDITED: &str = "SELECT count(*) FROM audit_log";

async fn call(gateway: &TestGateway, method: &str, path: &str, body: &Value) -> Value {
    let method: Method = method.parse().expect("a method");
    let mut request = gateway.client.request(method.clone(), gateway.api(path));
    if method != Method::DELETE {
        request = request.json(body);
    }
    let answer = request.send().await.expect("an answer");
    let status = answer.status();
    let text = answer.text().await.expect("a body");
    assert!(status.is_success(), "{method} {path}: {status} {text}");
    serde_json::from_str(&text).unwrap_or_default()
}

/// The route of the description that a call is one of.
fn route<'a>(routes: &'a BTreeSet<String>, method: &str, path: &str) -> &'a str {
    let path = path.split('?').next().unwrap_or_default();
    let fits = |route: &&String| {
        let Some((its_method, its_path)) = route.split_once(' ') else {
            return false;
        };
        let (own, its): (Vec<_>, Vec<_>) =
            (path.split('/').collect(), its_path.split('/').collect());
        its_method == method
            && own.len() == its.len()
            && own
                .iter()
                .zip(its)
                .all(|(own, its)| its == *own || its.starts_with('{'))
    };
    let literal = |route: &&String| route.matches('{').count();
    let found = routes.iter().filter(fits).min_by_key(literal);
    found.unwrap_or_else(|| panic!("no route for {method} {path}"))
}

#[tokio::test]
async fn every_change_leaves_a_row_in_the_audit_log() {
    let upstream = Upstream::start(|_| vec![json_answer(200, &whole("hi"))]).await;
    let site = Site::saying("from the site").await;
    let gateway = TestGateway::with(&[("qwen.baseUrl", json!(site.upstream.origin()))]).await;
    let (_, document) = gateway.get(&gateway.api("/api/openapi.json")).await;
    let paths = document["paths"].as_object().expect("paths");
    let routes: BTreeSet<String> = paths
        .iter()
        .flat_map(|(path, item)| {
            let methods = item.as_object().expect("methods").keys();
            methods.map(move |method| format!("{} {path}", method.to_uppercase()))
        })
        .filter(|route| !route.starts_with("GET "))
        .collect();
    let mut left: BTreeSet<&str> = routes.iter().map(String::as_str).collect();
    for route in NO_CHANGES
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
    {
        assert!(left.remove(route), "{route} is no route");
    }

    let provider = |id: &str| {
        json!({"id": id, "name": id, "type": "openai-compatible",
               "config": {"baseURL": upstream.base_url(), "apiKey": "sk-upstream"}})
    };
    let token = jwt("u1", LATER);
    let dir = tempfile::tempdir().expect("a folder");
    let old = crate::import::old(dir.path(), &upstream.base_url(), &token);
    let empty = json!({});
    let config = json!({"config": {"timeout": 9_000}});
    let virtual_model = json!({"name": "v", "targets": ["p/fake"]});
    let login = json!({"token": token, "cookies": format!("token={token}")});
    let calls = [
        ("POST", "/api/providers", provider("p")),
        ("PUT", "/api/providers/p", json!({"priority": 3})),
        ("POST", "/api/providers/p/disable", empty.clone()),
        ("POST", "/api/providers/p/enable", empty.clone()),
        ("POST", "/api/providers/p/reload", empty.clone()),
        ("PUT", "/api/providers/p/config", config.clone()),
        (
            "PATCH",
            "/api/providers/p/config/timeout",
            json!({"value": 8_000}),
        ),
        ("DELETE", "/api/providers/p/config/timeout", empty.clone()),
        ("PUT", "/api/p/config", config),
        ("PATCH", "/api/p/config/timeout", json!({"value": 8_000})),
        ("DELETE", "/api/p/config/timeout", empty.clone()),
        ("POST", "/api/models", json!({"id": "m", "name": "M"})),
        ("PUT", "/api/models/m", json!({"name": "N"})),
        ("POST", "/api/providers/p/models", json!({"model_id": "m"})),
        ("PUT", "/api/providers/p/models/m/default", empty.clone()),
        ("DELETE", "/api/providers/p/models/m", empty.clone()),
        ("POST", "/api/p/models", json!({"model_id": "m"})),
        ("PUT", "/api/p/models/m/default", empty.clone()),
        ("DELETE", "/api/p/models/m", empty.clone()),
        ("POST", "/api/models/sync", empty.clone()),
        ("POST", "/api/models/sync/p", empty.clone()),
        ("POST", "/api/virtual-models", virtual_model),
        (
            "PUT",
            "/api/virtual-models/v",
            json!({"name": "v", "targets": ["p/other"]}),
        ),
        ("PATCH", "/api/virtual-models/v", json!({"enabled": false})),
        ("DELETE", "/api/virtual-models/v", empty.clone()),
        ("PUT", "/api/settings/active_model", json!({"value": "m"})),
        (
            "PUT",
            "/api/settings/active_provider",
            json!({"value": "p"}),
        ),
        (
            "POST",
            "/api/settings/bulk",
            json!({"settings": {"retention.days": 7}}),
        ),
        ("DELETE", "/api/settings/retention.days", empty.clone()),
        ("POST", "/api/qwen/credentials", login),
        ("DELETE", "/api/qwen/credentials", empty.clone()),
        ("POST", "/api/keys", json!({"name": "k"})),
        ("PUT", "/api/keys/KEY", json!({"name": "l"})),
        ("DELETE", "/api/keys/KEY", empty.clone()),
        ("DELETE", "/api/responses/RESPONSE", empty.clone()),
        ("DELETE", "/api/requests/REQUEST", empty.clone()),
        ("DELETE", "/api/sessions/s", empty.clone()),
        ("DELETE", "/api/sessions", empty.clone()),
        ("DELETE", "/api/cache", empty.clone()),
        ("POST", "/api/backup", empty.clone()),
        ("POST", "/api/retention/run", empty.clone()),
        ("POST", "/api/import", json!({"path": old})),
        ("POST", "/api/proxy/stop", empty.clone()),
        ("POST", "/api/proxy/start", empty.clone()),
        ("POST", "/api/supervision/router/restart", empty.clone()),
        ("DELETE", "/api/models/m?force=true", empty.clone()),
        ("DELETE", "/api/providers/p?force=true", empty.clone()),
        ("POST", "/api/auth/token", empty.clone()),
    ];
    for id in ["s", "ended"] {
        gateway.cell::<i64>(&format!(
            "INSERT INTO sessions (id, chat_id, first_user_message, created_at, last_accessed, expires_at)
             VALUES ('{id}', 'c', 'hi', 1, 1, 9) RETURNING 1"
        ));
    }
    let mut key = String::new();
    for (method, path, body) in &calls {
        left.remove(route(&routes, method, path));
        if path.contains("RESPONSE") {
            let answer = gateway.chat(&say("p/fake", "hi")).await;
            answer.bytes().await.expect("a body");
        }
        let named = |sql: &str| gateway.cell::<String>(sql);
        let path = match *path {
            "/api/responses/RESPONSE" => format!(
                "/api/responses/{}",
                named("SELECT response_id FROM responses")
            ),
            "/api/requests/REQUEST" => {
                format!("/api/requests/{}", named("SELECT request_id FROM requests"))
            }
            path => path.replace("KEY", &key),
        };
        let before: i64 = gateway.cell(AUDITED);
        let answer = call(&gateway, method, &path, body).await;
        assert!(gateway.cell::<i64>(AUDITED) > before, "{method} {path}");
        if path == "/api/keys" {
            key = answer["id"].as_str().expect("an id").to_owned();
        }
    }
    left.remove("DELETE /api/auth/token");
    // It changes nothing that is kept, and would end the gateway that is looked into.
    left.remove("POST /api/shutdown");
    assert!(left.is_empty(), "unasked: {left:?}");

    // What was taken along is there as well, and nothing went without what was before or came after.
    for (entity, id) in [
        ("setting", "active_model"),
        ("setting", "active_provider"),
        ("credential", "default"),
    ] {
        let sql = format!(
            "SELECT count(*) FROM audit_log WHERE entity = '{entity}' AND entity_id = '{id}'"
        );
        assert!(gateway.cell::<i64>(&sql) >= 2, "{entity} {id}");
    }
    let bare = "SELECT coalesce(group_concat(entity || ' ' || action, ', '), '') FROM audit_log WHERE before IS NULL AND after IS NULL";
    assert_eq!(gateway.cell::<String>(bare), "");
    let nameless = "SELECT count(*) FROM audit_log WHERE request_id IS NULL";
    assert_eq!(gateway.cell::<i64>(nameless), 0);
    gateway.stop().await;
}

#[tokio::test]
async fn a_key_holds_up_its_own_request_alone_and_its_answer_comes_whole() {
    let upstream = Upstream::start(|_| vec![Step::Gate, json_answer(200, &whole("hi"))]).await;
    let gateway = TestGateway::start().await;
    gateway.provider("slow", &upstream).await;
    let testing = || {
        let request = gateway.client.post(gateway.api("/api/providers/slow/test"));
        let request = request.header("idempotency-key", "once");
        let sent = request
            .json(&json!({"prompt": "hi", "model": "fake"}))
            .send();
        tokio::spawn(sent)
    };
    let (first, second) = (testing(), testing());
    upstream.wait_for(1).await;
    let put = gateway
        .client
        .put(gateway.api("/api/settings/retention.days"));
    let put = put.json(&json!({"value": 7})).send().await;
    assert_eq!(
        put.expect("an answer").status(),
        200,
        "while the test goes on"
    );
    let made = gateway.client.post(gateway.api("/api/models"));
    let made = made.header("idempotency-key", "other");
    let made = made.json(&json!({"id": "m", "name": "M"})).send().await;
    assert_eq!(
        made.expect("an answer").status(),
        201,
        "under another key, too"
    );
    upstream.go(1);
    let mut bodies = Vec::new();
    for answer in [first, second] {
        let answer = answer.await.expect("it ran").expect("an answer");
        assert_eq!(answer.status(), 200);
        bodies.push(answer.json::<Value>().await.expect("JSON"));
    }
    assert_eq!(bodies[0], bodies[1]);
    assert_eq!(bodies[0]["healthy"], true);
    assert_eq!(upstream.completions().len(), 1, "asked once");

    let create = async || {
        let request = gateway.client.post(gateway.api("/api/models"));
        let request = request.header("idempotency-key", "model");
        let request = request.json(&json!({"id": "a/b", "name": "k"}));
        let answer = request.send().await.expect("an answer");
        (answer.status(), answer.headers().get("location").cloned())
    };
    let first = create().await;
    assert_eq!(first.1.as_ref().expect("a location"), "/api/models/a%2Fb");
    assert_eq!(create().await, first);
    gateway.stop().await;
}

#[tokio::test]
async fn the_activity_tells_of_restarts_and_what_is_under_way_takes_no_place() {
    let upstream = Upstream::start(|_| vec![Step::Gate, json_answer(200, &whole("hi"))]).await;
    let gateway = TestGateway::start().await;
    gateway.provider("slow", &upstream).await;
    let newest = async |limit: usize| {
        let url = gateway.api(&format!("/api/activity/recent?limit={limit}"));
        gateway.get(&url).await.1["activities"].clone()
    };
    call(
        &gateway,
        "POST",
        "/api/supervision/retention/restart",
        &json!({}),
    )
    .await;
    let restarted = async {
        loop {
            let lines = newest(1_000).await;
            let mut lines = lines.as_array().expect("lines").iter();
            if lines.any(|line| {
                line["type"] == "actor_restarted" && line["metadata"]["actor"] == "retention"
            }) {
                return;
            }
            tokio::task::yield_now().await;
        }
    };
    let restarted = tokio::time::timeout(crate::support::PATIENCE, restarted).await;
    restarted.expect("it is told");
    let done = gateway.chat(&say("echo", "done")).await;
    done.bytes().await.expect("a body");
    let waiting = tokio::spawn({
        let (client, url) = (
            gateway.client.clone(),
            gateway.router("/v1/chat/completions"),
        );
        async move { client.post(url).json(&say("slow/fake", "hi")).send().await }
    });
    upstream.wait_for(1).await;
    let begun = "SELECT count(*) FROM requests WHERE status = 'in_progress'";
    let stored = async {
        while gateway.cell::<i64>(begun) != 1 {
            tokio::task::yield_now().await;
        }
    };
    let stored = tokio::time::timeout(crate::support::PATIENCE, stored).await;
    stored.expect("it has begun");
    assert_eq!(newest(1).await[0]["type"], "api_request");
    upstream.go(1);
    let answer = waiting.await.expect("it ran").expect("an answer");
    assert_eq!(answer.status(), 200);
    gateway.stop().await;
}

#[tokio::test]
async fn the_audit_log_is_listed_by_what_was_changed_and_by_whom() {
    let gateway = TestGateway::start().await;
    for value in ["m1", "m2", "m3"] {
        let url = gateway.api("/api/settings/active_model");
        let put = gateway.client.put(url).json(&json!({ "value": value }));
        assert_eq!(put.send().await.expect("an answer").status(), 200);
    }
    let provider = json!({"id": "p", "name": "P", "type": "openai-compatible", "config": {"baseURL": "http://127.0.0.1:9/v1", "apiKey": "sk-secret"}});
    let made = gateway
        .post(&gateway.api("/api/providers"), &provider)
        .await;
    assert_eq!(made.status(), 201);

    let list = async |query: &str| {
        gateway
            .get(&gateway.api(&format!("/api/audit{query}")))
            .await
    };
    let (status, all) = list("").await;
    assert_eq!((status, &all["total"]), (200, &json!(4)), "{all}");
    assert!(!all.to_string().contains("sk-secret"), "{all}");
    let newest = &all["changes"][0];
    assert_eq!(
        (
            &newest["entity"],
            &newest["entity_id"],
            &newest["action"],
            &newest["principal"]
        ),
        (
            &json!("provider"),
            &json!("p"),
            &json!("created"),
            &json!("local")
        )
    );
    assert!(newest["request_id"].is_string(), "{newest}");
    let (_, settings) = list("?entity=setting&limit=2").await;
    assert_eq!(
        (&settings["total"], &settings["count"]),
        (&json!(3), &json!(2))
    );
    assert_eq!(
        (
            &settings["changes"][0]["before"],
            &settings["changes"][0]["after"]
        ),
        (&json!("m2"), &json!("m3"))
    );
    let cursor = settings["next_cursor"].as_str().expect("there are more");
    let (_, rest) = list(&format!("?entity=setting&limit=2&cursor={cursor}")).await;
    assert_eq!(
        (&rest["count"], &rest["changes"][0]["after"]),
        (&json!(1), &json!("m1"))
    );
    for (query, total) in [
        ("?entity_id=active_model", 3),
        ("?principal=admin", 0),
        ("?principal=local", 4),
        ("?start_date=9007199254740991", 0),
        ("?end_date=0", 0),
    ] {
        let (_, found) = list(query).await;
        assert_eq!(found["total"], total, "{query}: {found}");
    }
    let (status, refused) = list("?start_date=2&end_date=1").await;
    assert_eq!(
        (status, &refused["error"]["code"]),
        (400, &json!("invalid_date_range"))
    );
    gateway.stop().await;
}
