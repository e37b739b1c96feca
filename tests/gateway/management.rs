//! `/api/providers` and `/api/health` in the contract's shapes.

use serde_json::{Value, json};

use crate::support::upstream::{Upstream, json_answer, whole};
use crate::support::{TestGateway, say};

#[tokio::test]
async fn a_provider_is_created_listed_shown_used_and_deleted() {
    let gateway = TestGateway::start().await;
    let upstream = Upstream::start(|_| vec![json_answer(200, &whole("hi"))]).await;
    let body = json!({"id": "p1", "name": "P1", "type": "openai-compatible", "priority": 7, "description": "mine",
        "config": {"baseURL": upstream.base_url(), "apiKey": "sk-planted", "timeout": 9000,
                   "headers": {"x-team": "a", "x-api-key": "planted-too"}}});
    let response = gateway.post(&gateway.api("/api/providers"), &body).await;
    assert_eq!(response.status(), 201);
    assert_eq!(response.headers()["location"], "/api/providers/p1");
    let created: Value = response.json().await.expect("JSON");
    for (field, value) in [
        ("id", json!("p1")),
        ("enabled", json!(true)),
        ("priority", json!(7)),
        ("type", json!("openai-compatible")),
    ] {
        assert_eq!(created[field], value);
    }
    assert_eq!(created["config"]["apiKey"], "***MASKED***");
    assert_eq!(created["config"]["timeout"], 9000);
    assert_eq!(
        created["config"]["headers"],
        json!({"x-team": "a", "x-api-key": "***MASKED***"})
    );

    // In force for the very next request, by its bare model too.
    let answer: Value = gateway
        .chat(&say("p1/fake", "x"))
        .await
        .json()
        .await
        .expect("JSON");
    assert_eq!(answer["choices"][0]["message"]["content"], "hi");
    assert_eq!(gateway.chat(&say("fake", "x")).await.status(), 200);

    let (_, list) = gateway
        .get(&gateway.api("/api/providers?enabled=true&type=openai-compatible"))
        .await;
    assert_eq!(
        (&list["total"], &list["providers"][0]["runtime_status"]),
        (&json!(1), &json!("loaded"))
    );
    let (_, page) = gateway.get(&gateway.api("/api/providers?limit=1")).await;
    assert_eq!(
        (
            page["providers"].as_array().expect("a list").len(),
            &page["has_more"]
        ),
        (1, &json!(true))
    );
    let (_, one) = gateway.get(&gateway.api("/api/providers/p1")).await;
    assert!(
        one["models"].is_array() && one["health"]["state"] == "healthy",
        "{one}"
    );

    let gone = gateway
        .client
        .delete(gateway.api("/api/providers/p1"))
        .send()
        .await
        .expect("an answer");
    assert_eq!(gone.status(), 200);
    assert_eq!(
        gone.json::<Value>().await.expect("JSON"),
        json!({"success": true, "message": "Provider deleted"})
    );
    assert_eq!(
        gateway.chat(&say("p1/fake", "x")).await.status(),
        404,
        "in force for the next request"
    );
    let again = gateway
        .client
        .delete(gateway.api("/api/providers/p1"))
        .send()
        .await
        .expect("an answer");
    assert_eq!(again.status(), 404);
    assert_eq!(
        gateway.cell::<i64>("SELECT count(*) FROM provider_configs WHERE provider_id = 'p1'"),
        0
    );
    assert_eq!(upstream.completions().len(), 2);
    gateway.stop().await;
}

#[tokio::test]
async fn bad_providers_are_refused_with_every_fault() {
    let gateway = TestGateway::start().await;
    let url = gateway.api("/api/providers");
    let code = async |body: Value| {
        let response = gateway.post(&url, &body).await;
        let status = response.status().as_u16();
        let body: Value = response.json().await.expect("JSON");
        (
            status,
            body["error"]["code"]
                .as_str()
                .unwrap_or_default()
                .to_owned(),
            body,
        )
    };
    let (status, _, body) = code(json!({"id": "Bad Id", "name": ""})).await;
    assert_eq!(
        (status, body["error"]["errors"].as_array().map(Vec::len)),
        (400, Some(3)),
        "{body}"
    );
    let good = json!({"id": "p1", "name": "P1", "type": "x-unknown", "config": {"baseURL": "http://127.0.0.1:9/v1"}});
    assert_eq!(code(good.clone()).await.0, 201, "any type is valid");
    let (status, name, _) = code(good.clone()).await;
    assert_eq!((status, name.as_str()), (409, "provider_exists"));
    let mut other = good.clone();
    other["id"] = json!("p2");
    let (status, name, _) = code(other).await;
    assert_eq!((status, name.as_str()), (409, "provider_name_exists"));
    for config in [
        json!({}),
        json!({"baseURL": "ftp://x"}),
        json!({"baseURL": "http://169.254.169.254/v1"}),
        json!({"baseURL": "http://x", "timeout": "soon"}),
    ] {
        let (status, name, body) =
            code(json!({"id": "p3", "name": "P3", "type": "x-unknown", "config": config})).await;
        assert_eq!((status, name.as_str()), (422, "invalid_config"), "{body}");
    }
    assert_eq!(
        code(json!({"id": "echo", "name": "E", "type": "openai"}))
            .await
            .0,
        409,
        "the built-in one"
    );
    for query in [
        "limit=0",
        "limit=-5",
        "limit=2000",
        "limit=abc",
        "offset=-1",
    ] {
        let (status, body) = gateway.get(&format!("{url}?{query}")).await;
        assert_eq!(status, 400, "{query} {body}");
    }
    let (status, body) = gateway.get(&format!("{url}/nope")).await;
    assert_eq!(
        (status, &body["error"]["code"]),
        (404, &json!("provider_not_found"))
    );
    let broken = gateway
        .client
        .post(&url)
        .header("content-type", "application/json")
        .body("{")
        .send()
        .await
        .expect("an answer");
    assert_eq!(broken.status(), 400);
    gateway.stop().await;
}

#[tokio::test]
async fn a_new_database_offers_the_seeded_providers() {
    let gateway = TestGateway::start().await;
    let (_, list) = gateway.get(&gateway.api("/api/providers")).await;
    let shown: Vec<_> = list["providers"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|p| {
            (
                p["id"].as_str().unwrap_or_default().to_owned(),
                p["priority"].as_i64().unwrap_or_default(),
            )
        })
        .collect();
    let seeded = [
        ("lm-studio-default", 10),
        ("qwen-direct-default", 8),
        ("qwen-proxy-default", 5),
        ("ollama", 4),
        ("llama-cpp", 3),
        ("vllm", 2),
    ];
    assert_eq!(
        shown,
        seeded.map(|(id, priority)| (id.to_owned(), priority))
    );
    gateway.stop().await;
}

#[tokio::test]
async fn health_shows_the_parts() {
    let gateway = TestGateway::start().await;
    let (status, health) = gateway.get(&gateway.api("/api/health")).await;
    assert_eq!(
        (status, &health["status"], &health["service"]),
        (200, &json!("ok"), &json!("api-server"))
    );
    for field in ["timestamp", "version"] {
        assert!(health[field].is_string(), "{field}");
    }
    assert_eq!(health["checks"]["credentials"], "missing");
    assert_eq!(gateway.get(&gateway.api("/api/health/live")).await.0, 200);
    assert_eq!(gateway.get(&gateway.api("/api/health/ready")).await.0, 200);
    let checked = async {
        while gateway.get(&gateway.api("/api/health")).await.1["checks"]["db"]["integrity"]
            != "sound"
        {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(crate::support::PATIENCE, checked)
        .await
        .expect("the file is checked beside serving");
    let (status, about) = gateway.get(&gateway.router("/")).await;
    assert_eq!((status, &about["name"]), (200, &json!("qwarden")));
    assert_eq!(
        gateway
            .client
            .head(gateway.router("/"))
            .send()
            .await
            .expect("an answer")
            .status(),
        200
    );
    let (_, health) = gateway.get(&gateway.router("/health")).await;
    assert!(health["registeredProviders"].is_array() && health["status"] == "ok");
    gateway.stop().await;
}

#[tokio::test]
async fn a_local_server_that_is_seen_is_enabled() {
    let upstream = Upstream::start(|_| vec![json_answer(200, &whole("local"))]).await;
    let dir = TestGateway::start().await.stop().await;
    let database = dir.path().join("data").join("qwarden.db");
    let conn = rusqlite::Connection::open(database).expect("it opens");
    let moved =
        "UPDATE provider_configs SET value = ?1 WHERE provider_id = 'ollama' AND key = 'baseURL'";
    assert_eq!(
        conn.execute(moved, [json!(upstream.base_url()).to_string()])
            .expect("an update"),
        1
    );
    drop(conn);
    let gateway = TestGateway::reopened(dir, &[("system.discovery", json!(true))]).await;
    let enabled = async {
        while gateway.get(&gateway.api("/api/providers/ollama")).await.1["enabled"] != true {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(crate::support::PATIENCE, enabled)
        .await
        .expect("it is seen");
    let answer: Value = gateway
        .chat(&say("ollama/fake", "x"))
        .await
        .json()
        .await
        .expect("JSON");
    assert_eq!(answer["choices"][0]["message"]["content"], "local");
    let (_, vllm) = gateway.get(&gateway.api("/api/providers/vllm")).await;
    assert_eq!(
        (&vllm["enabled"], &vllm["auto_enable"]),
        (&json!(false), &json!(true)),
        "not seen, still offered"
    );
    gateway.stop().await;
}

/// Lists, where their rows are, and how those are named.
const LISTS: [(&str, &str, &str); 5] = [
    ("sessions", "sessions", "id"),
    ("sessions?sort=last_accessed", "sessions", "id"),
    ("providers", "providers", "id"),
    ("models", "models", "id"),
    ("virtual-models", "virtual_models", "name"),
];

#[tokio::test]
async fn pages_go_on_where_they_ended_whatever_came_before_them_meanwhile() {
    let gateway = TestGateway::start().await;
    let session = |id: &str, at: i64| {
        gateway.cell::<i64>(&format!(
            "INSERT INTO sessions (id, chat_id, first_user_message, created_at, last_accessed, expires_at)
             VALUES ('{id}', 'c', 'hi', {at}, {at}, 9) RETURNING 1"
        ));
    };
    let make = async |path: &str, body: Value| {
        let made = gateway.post(&gateway.api(path), &body).await;
        assert_eq!(made.status(), 201, "{path}: {body}");
    };
    let provider = |id: &str, priority: i64| json!({"id": id, "name": id, "type": "echo", "priority": priority});
    // Three of each, and then one that stands before them all.
    for (name, at) in [("b", 3), ("c", 2), ("d", 1)] {
        session(name, at);
        make("/api/providers", provider(name, 900 + at)).await;
        make("/api/models", json!({"id": name, "name": name})).await;
        make(
            "/api/virtual-models",
            json!({"name": name, "targets": ["echo"]}),
        )
        .await;
    }
    let page = async |list: &str, cursor: Option<&Value>| {
        let mut url = format!(
            "/api/{list}{}limit=2",
            if list.contains('?') { '&' } else { '?' }
        );
        if let Some(cursor) = cursor {
            url = format!("{url}&cursor={}", cursor.as_str().expect("text"));
        }
        let (status, body) = gateway.get(&gateway.api(&url)).await;
        assert_eq!(status, 200, "{url}: {body}");
        body
    };
    let names = |body: &Value, field: &str, name: &str| {
        let rows = body[field].as_array().expect("rows").iter();
        let names = rows.map(|row| row[name].as_str().expect("text").to_owned());
        names.collect::<Vec<_>>()
    };
    let mut cursors = Vec::new();
    for (list, field, name) in LISTS {
        let first = page(list, None).await;
        assert_eq!(names(&first, field, name), ["b", "c"], "{list}");
        cursors.push(first["next_cursor"].clone());
    }
    session("a", 4);
    make("/api/providers", provider("a", 999)).await;
    make("/api/models", json!({"id": "a", "name": "a"})).await;
    make(
        "/api/virtual-models",
        json!({"name": "a", "targets": ["echo"]}),
    )
    .await;
    for ((list, field, name), cursor) in LISTS.into_iter().zip(&cursors) {
        let next = page(list, Some(cursor)).await;
        assert_eq!(names(&next, field, name)[0], "d", "{list}");
    }
    let url = format!(
        "/api/sessions?cursor={}",
        cursors[3].as_str().expect("text")
    );
    let (status, body) = gateway.get(&gateway.api(&url)).await;
    assert_eq!(
        (status, &body["error"]["code"]),
        (400, &json!("invalid_cursor"))
    );
    gateway.stop().await;
}
