//! The management contract: every route with good and bad input (`contract.txt`), and the conventions of them all.

use std::collections::{BTreeMap, BTreeSet};

use reqwest::Method;
use serde_json::{Value, json};

use crate::qwen::log_in;
use crate::support::site::Site;
use crate::support::upstream::{Upstream, json_answer, whole};
use crate::support::{TestGateway, say, say_streamed};

/// The routes the requirement names (contract, 8.1). None may vanish.
const SEED_ROUTES: &str = "
    POST /api/proxy/start
    POST /api/proxy/stop
    GET /api/proxy/status
    GET /api/providers
    GET /api/providers/{id}
    POST /api/providers
    PUT /api/providers/{id}
    DELETE /api/providers/{id}
    POST /api/providers/{id}/enable
    POST /api/providers/{id}/disable
    POST /api/providers/{id}/test
    POST /api/providers/{id}/reload
    GET /api/providers/{id}/config
    PUT /api/providers/{id}/config
    PATCH /api/providers/{id}/config/{key}
    DELETE /api/providers/{id}/config/{key}
    GET /api/providers/{id}/models
    POST /api/providers/{id}/models
    DELETE /api/providers/{id}/models/{model_id}
    PUT /api/providers/{id}/models/{model_id}/default
    GET /api/models
    GET /api/models/{id}
    POST /api/models
    PUT /api/models/{id}
    DELETE /api/models/{id}
    GET /api/sessions
    GET /api/sessions/{id}
    GET /api/sessions/{id}/requests
    DELETE /api/sessions/{id}
    DELETE /api/sessions
    GET /api/requests
    GET /api/requests/{id}
    DELETE /api/requests/{id}
    GET /api/responses
    GET /api/responses/stats
    GET /api/responses/{id}
    GET /api/responses/request/{request_id}
    GET /api/responses/session/{session_id}
    DELETE /api/responses/{id}
    GET /api/activity/recent
    GET /api/activity/stats
    GET /api/settings
    GET /api/settings/{key}
    PUT /api/settings/{key}
    POST /api/settings/bulk
    DELETE /api/settings/{key}
    POST /api/qwen/credentials
    GET /api/qwen/credentials
    DELETE /api/qwen/credentials
    GET /api/health
    GET /api/{id}/config
    PUT /api/{id}/config
    PATCH /api/{id}/config/{key}
    DELETE /api/{id}/config/{key}
    GET /api/{id}/models
    POST /api/{id}/models
    DELETE /api/{id}/models/{model_id}
    PUT /api/{id}/models/{model_id}/default
    GET /api/events
    GET /api/providers/types
    POST /api/requests/{id}/replay
    GET /api/requests/{id}/curl";

#[tokio::test]
async fn every_route_of_the_contract_is_served_and_described() {
    let gateway = TestGateway::start().await;
    let (status, document) = gateway.get(&gateway.api("/api/openapi.json")).await;
    assert_eq!(status, 200);
    assert_eq!(document["openapi"], "3.1.0");
    let paths = document["paths"].as_object().expect("paths");
    let described: BTreeSet<String> = paths
        .iter()
        .flat_map(|(path, item)| {
            let methods = item.as_object().expect("methods").keys();
            methods.map(move |method| format!("{} {path}", method.to_uppercase()))
        })
        .collect();
    let missing: Vec<_> = seed_routes()
        .filter(|route| !described.contains(*route))
        .collect();
    assert!(missing.is_empty(), "{missing:?}");
    // What is described is served: a path that is not would answer that there is no such route.
    for route in &described {
        let (method, path) = route.split_once(' ').expect("a method and a path");
        if ["/api/events", "/api/logs/live", "/metrics"].contains(&path)
            || path.ends_with("/restart")
            || path.starts_with("/api/proxy")
        {
            continue;
        }
        let method: Method = method.parse().expect("a method");
        let url = gateway.api(&path.replace(['{', '}'], ""));
        let answer = gateway.client.request(method, url).send().await;
        let body: Value = answer.expect("an answer").json().await.expect("JSON");
        let code = body["error"]["code"].as_str().unwrap_or_default();
        assert!(
            !["not_found", "method_not_allowed"].contains(&code),
            "{route}: {body}"
        );
    }
    gateway.stop().await;
}

/// No route can be added without its description, but the description itself and its viewer.
#[test]
fn routes_are_made_from_their_descriptions() {
    // Every way axum has of adding one. Nesting is fine where the parts are described, as `OpenApiRouter` has them.
    const WAYS: [&str; 8] = [
        ".route(",
        ".route_service(",
        ".nest_service(",
        ".fallback(",
        ".fallback_service(",
        ".method_not_allowed_fallback(",
        ".on(",
        "MethodRouter",
    ];
    let source = |path: &str| {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
        std::fs::read_to_string(path).expect("a file")
    };
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/src/http/management");
    for file in walk(folder.as_ref()) {
        let name = file.file_name().expect("a name").to_string_lossy();
        if ["fault.rs", "openapi.rs", "docs.rs"].contains(&&*name) {
            continue;
        }
        let text = std::fs::read_to_string(&file).expect("a file");
        let beside = WAYS.iter().find(|way| text.contains(**way));
        assert_eq!(beside, None, "{} adds a route", file.display());
        let nests = text.contains(".nest(");
        assert!(
            !nests || !text.contains("axum::Router"),
            "{} nests what may not be described",
            file.display()
        );
    }
    for (file, served) in [
        ("src/http/management/openapi.rs", &["/api/openapi.json"][..]),
        (
            "src/http/management/docs.rs",
            &[
                "/api/docs",
                "/api/docs/start.js",
                "/api/docs/swagger-ui-bundle.js",
                "/api/docs/swagger-ui.css",
            ],
        ),
    ] {
        let text = source(file);
        let code = text.split("/api/{id}/").collect::<String>();
        let named: BTreeSet<_> = code
            .split('"')
            .filter(|part| part.starts_with("/api/"))
            .collect();
        assert_eq!(named, served.iter().copied().collect(), "{file}");
    }
    // Of what :3002 serves nothing else comes from elsewhere.
    let ports = source("src/http/ports.rs");
    let management = ports.split("fn management(").nth(1).expect("a function");
    let management = management.split("\n}").next().expect("its end");
    let merged: Vec<_> = management.matches(".merge(").collect();
    assert_eq!(
        merged.len(),
        3,
        "the description, its viewer, and faults of tests"
    );
    assert!(WAYS.iter().all(|way| !management.contains(way)));
}

#[tokio::test]
async fn the_viewer_needs_no_other_host() {
    let gateway = TestGateway::start().await;
    for path in [
        "/api/docs",
        "/api/docs/start.js",
        "/api/docs/swagger-ui.css",
        "/api/docs/swagger-ui-bundle.js",
    ] {
        let answer = gateway.client.get(gateway.api(path)).send().await;
        let answer = answer.expect("an answer");
        assert_eq!(answer.status(), 200, "{path}");
        let policy = answer.headers()["content-security-policy"].to_str();
        let policy = policy.expect("text").to_owned();
        assert!(policy.starts_with("default-src 'none'"), "{policy}");
        assert!(
            !policy.contains("http") && !policy.contains('*'),
            "{policy}"
        );
        let script = policy.split(';').find(|part| part.contains("script-src"));
        assert!(
            script.is_some_and(|part| !part.contains("unsafe")),
            "{policy}"
        );
        let text = answer.text().await.expect("a body");
        // The bundle and its styles name addresses in their comments and links; the policy keeps them from being loaded.
        if !path.contains("swagger-ui") {
            assert!(!text.contains("//"), "{path}: {text}");
        }
    }
    gateway.stop().await;
}

fn walk(folder: &std::path::Path) -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir(folder).expect("a folder");
    entries
        .map(|entry| entry.expect("an entry").path())
        .flat_map(|path| {
            if path.is_dir() {
                walk(&path)
            } else {
                vec![path]
            }
        })
        .collect()
}

/// Routes that have no bad input: they read none, or take whatever comes.
const TAKES_ANYTHING: [&str; 10] = [
    "POST /api/proxy/start",
    "GET /api/proxy/status",
    "GET /api/providers/types",
    "GET /api/activity/stats",
    "GET /api/settings",
    "GET /api/qwen/credentials",
    "DELETE /api/qwen/credentials",
    "GET /api/health",
    "GET /api/requests/{id}/curl",
    "GET /api/events",
];

#[tokio::test]
async fn every_route_takes_good_input_and_refuses_bad_input_in_one_form() {
    let upstream = answering().await;
    let site = Site::saying("Hello").await;
    let origin = json!(site.upstream.origin());
    let gateway = TestGateway::with(&[("qwen.baseUrl", origin)]).await;
    let mut shapes = Shapes::read();
    let mut seen: BTreeMap<&str, BTreeSet<char>> = BTreeMap::new();
    let mut table = include_str!("contract.txt").replace("UPSTREAM", &upstream.base_url());
    for (name, value) in one_exchange(&gateway).await {
        table = table.replace(name, &value);
    }
    let rows = table.lines().filter(|line| !line.starts_with('#'));
    for row in rows {
        let columns: Vec<&str> = row.split(" | ").collect();
        let [asked, body, status, pointer, expected] = columns[..] else {
            panic!("a row without its five columns: {row}");
        };
        let (method, path) = asked.split_once(' ').expect("a method and a path");
        let mut request = gateway
            .client
            .request(method.parse().expect("a method"), gateway.api(path));
        if body != "-" {
            request = request
                .header("content-type", "application/json")
                .body(body.to_owned());
        }
        let response = request.send().await.expect("an answer");
        let got = response.status().as_u16();
        let headers = response.headers().clone();
        let answer: Value = response.json().await.expect("JSON");
        assert_eq!(got.to_string(), status, "{row}: {answer}");
        let found = answer.pointer(pointer);
        if expected == "*" {
            assert!(found.is_some(), "{row}: {answer}");
        } else {
            let expected: Value = serde_json::from_str(expected).expect("JSON");
            assert_eq!(found, Some(&expected), "{row}: {answer}");
        }
        if let Some(route) = route_of(method, path) {
            let kind = status.chars().next().expect("a digit");
            seen.entry(route).or_default().insert(kind);
            if kind == '2' && !path.contains("fields=") {
                shapes.check(route, &answer);
            }
        }
        if got >= 400 {
            let error = &answer["error"];
            assert_eq!(error["message"], answer["message"], "{answer}");
            assert!(
                error["type"].is_string() && error["code"].is_string(),
                "{answer}"
            );
            assert_eq!(
                answer["requestId"],
                headers["x-request-id"].to_str().unwrap(),
                "{answer}"
            );
        }
        assert_eq!(got == 405, headers.contains_key("allow"), "{row}");
    }
    for route in seed_routes().filter(|route| *route != "GET /api/events") {
        let seen = seen.remove(route).unwrap_or_default();
        assert!(seen.contains(&'2'), "no good input of {route}");
        let is_refused = seen.contains(&'4') || TAKES_ANYTHING.contains(&route);
        assert!(is_refused, "no bad input of {route}");
    }
    shapes.end();
    gateway.stop().await;
}

/// Makes an exchange of a conversation; returns the names of its parts in the table, and their ids.
async fn one_exchange(gateway: &TestGateway) -> [(&'static str, String); 3] {
    log_in(gateway, "default", "u1").await;
    let url = gateway.qwen("/v1/chat/completions");
    let answer = gateway.post(&url, &say("qwen3-max", "hi")).await;
    assert_eq!(answer.status(), 200);
    answer.bytes().await.expect("a body");
    let (_, list) = gateway.get(&gateway.api("/api/responses")).await;
    let (_, exchange) = gateway.get(&gateway.api("/api/requests")).await;
    let text = |value: &Value| value.as_str().expect("an id").to_owned();
    [
        ("SESSION", text(&list["responses"][0]["session_id"])),
        ("REQUEST", text(&exchange["requests"][0]["request_id"])),
        ("RESPONSE", text(&list["responses"][0]["response_id"])),
    ]
}

fn seed_routes() -> impl Iterator<Item = &'static str> {
    SEED_ROUTES
        .lines()
        .map(str::trim)
        .filter(|route| !route.is_empty())
}

/// The route of the requirement that a path belongs to: the one with the fewest blanks.
fn route_of(method: &str, path: &str) -> Option<&'static str> {
    let path = path.split('?').next().unwrap_or_default();
    let parts: Vec<&str> = path.split('/').collect();
    let fits = |route: &&str| {
        let Some((its_method, its_path)) = route.split_once(' ') else {
            return false;
        };
        let its_parts: Vec<&str> = its_path.split('/').collect();
        its_method == method
            && its_parts.len() == parts.len()
            && its_parts
                .iter()
                .zip(&parts)
                .all(|(its, part)| its == part || its.starts_with('{'))
    };
    seed_routes()
        .filter(fits)
        .min_by_key(|route| route.matches('{').count())
}

/// What good answers hold (`contract-shapes.txt`), and what of it was seen.
struct Shapes {
    /// By route: places and the type that is there.
    members: BTreeMap<&'static str, Vec<(String, &'static str)>>,
    unseen: BTreeSet<(&'static str, String)>,
}

impl Shapes {
    fn read() -> Self {
        let lines = include_str!("contract-shapes.txt").lines();
        let lines = lines.filter(|line| !line.is_empty() && !line.starts_with('#'));
        let mut named: BTreeMap<&str, Vec<(String, &'static str)>> = BTreeMap::new();
        for line in lines {
            let (name, members) = line.split_once(" | ").expect("a name and its members");
            let mut all = Vec::new();
            for member in members.split(", ") {
                if let Some((place, kind)) = member.split_once(' ') {
                    all.push((place.to_owned(), kind));
                    continue;
                }
                let at = member.find('@').expect("a type, or a name");
                let (before, name) = member.split_at(at);
                let known = named
                    .get(name)
                    .unwrap_or_else(|| panic!("{name} is not told"));
                let below = known
                    .iter()
                    .map(|(place, kind)| (format!("{before}{place}"), *kind));
                all.extend(below);
            }
            named.insert(name, all);
        }
        named.retain(|name, _| !name.starts_with('@'));
        let told: BTreeSet<_> = named.keys().copied().collect();
        let wanted: BTreeSet<_> = seed_routes()
            .filter(|route| *route != "GET /api/events")
            .collect();
        assert_eq!(told, wanted, "each route has its shape");
        let unseen = named
            .iter()
            .flat_map(|(route, members)| members.iter().map(|(place, _)| (*route, place.clone())))
            .collect();
        Self {
            members: named,
            unseen,
        }
    }

    fn check(&mut self, route: &'static str, answer: &Value) {
        for (place, kind) in &self.members[route] {
            let parts: Vec<&str> = place.split('/').collect();
            if holds(answer, &parts, kind, &format!("{route}, {place}: {answer}")) {
                self.unseen.remove(&(route, place.clone()));
            }
        }
    }

    /// A list that was always empty says nothing of its elements.
    fn end(self) {
        assert_eq!(self.unseen, BTreeSet::new(), "never seen");
    }
}

/// Whether `kind` was found at the place; fails when something else is there.
fn holds(value: &Value, place: &[&str], kind: &str, words: &str) -> bool {
    let Some((part, rest)) = place.split_first() else {
        let is_right = match kind.trim_end_matches('?') {
            "string" => value.is_string(),
            "integer" => value.is_i64() || value.is_u64(),
            "number" => value.is_number(),
            "boolean" => value.is_boolean(),
            "object" => value.is_object(),
            "array" => value.is_array(),
            "any" => true,
            other => panic!("no type `{other}`"),
        };
        assert!(
            is_right || (kind.ends_with('?') && value.is_null()),
            "{words}"
        );
        return true;
    };
    if *part == "*" {
        let all = value
            .as_array()
            .unwrap_or_else(|| panic!("no list: {words}"));
        let mut any = false;
        for one in all {
            any |= holds(one, rest, kind, words);
        }
        return any;
    }
    let member = value
        .get(part)
        .unwrap_or_else(|| panic!("not there: {words}"));
    holds(member, rest, kind, words)
}

async fn answering() -> Upstream {
    Upstream::start(|_| vec![json_answer(200, &whole("Hello"))]).await
}

#[tokio::test]
async fn changes_are_in_force_for_the_next_request() {
    let (one, two) = (answering().await, answering().await);
    let gateway = TestGateway::start().await;
    gateway.provider("one", &one).await;
    gateway.provider("two", &two).await;
    let put = async |path: &str, body: Value| {
        let request = gateway.client.put(gateway.api(path)).json(&body);
        request.send().await.expect("an answer").status().as_u16()
    };
    let served = async |id: &str| {
        let answer = gateway.chat(&say("fake", "hi")).await;
        assert_eq!(answer.status(), 200);
        assert_eq!(answer.headers()["x-qwarden-provider"], id);
    };
    assert_eq!(
        put("/api/settings/active_provider", json!({"value": "two"})).await,
        200
    );
    served("two").await;
    let disable = gateway.api("/api/providers/two/disable");
    assert_eq!(gateway.post(&disable, &json!({})).await.status(), 200);
    served("one").await;
    // The key that was masked is still the one that is sent.
    let config = json!({"config": {"apiKey": "***MASKED***", "baseURL": two.base_url()}});
    assert_eq!(put("/api/providers/one/config", config).await, 200);
    let before = two.completions().len();
    served("one").await;
    let sent = two.completions();
    assert_eq!(sent.len(), before + 1);
    assert_eq!(
        sent.last().expect("one").header("authorization"),
        Some("Bearer sk-upstream")
    );
    gateway.stop().await;
}

#[tokio::test]
async fn history_is_listed_filtered_paged_and_deleted() {
    let gateway = TestGateway::start().await;
    for (model, text) in [
        ("echo", "one"),
        ("echo", "echo:fail 500 broken"),
        ("echo", "three"),
    ] {
        gateway
            .chat(&say(model, text))
            .await
            .bytes()
            .await
            .expect("a body");
    }
    gateway
        .chat(&say_streamed("echo", "four"))
        .await
        .bytes()
        .await
        .expect("a body");
    let get = async |path: &str| {
        let (status, body) = gateway.get(&gateway.api(path)).await;
        assert_eq!(status, 200, "{path}: {body}");
        body
    };
    let all = get("/api/requests").await;
    assert_eq!((&all["total"], &all["count"]), (&json!(4), &json!(4)));
    let newest = &all["requests"][0];
    assert_eq!(newest["stream"], true);
    assert_eq!(newest["openai_request"]["messages"][0]["content"], "four");
    assert!(newest["response_summary"]["total_tokens"].as_i64() > Some(0));
    let page = get("/api/requests?limit=3&fields=request_id").await;
    assert_eq!(page["requests"][0].as_object().expect("a row").len(), 2);
    // Rows that are added meanwhile do not move a cursor.
    gateway
        .chat(&say("echo", "five"))
        .await
        .bytes()
        .await
        .expect("a body");
    let cursor = page["next_cursor"].as_str().expect("more");
    let rest = get(&format!("/api/requests?limit=3&cursor={cursor}")).await;
    assert_eq!(rest["requests"].as_array().expect("rows").len(), 1);
    assert_eq!(
        rest["requests"][0]["openai_request"]["messages"][0]["content"],
        "one"
    );
    assert_eq!(rest["next_cursor"], Value::Null);
    for (query, total) in [
        ("model=echo&stream=true&start_date=1", 1),
        ("status=failed", 1),
        ("has_error=false&provider=echo", 4),
        ("end_date=1", 0),
        ("session_id=nope", 0),
    ] {
        assert_eq!(
            get(&format!("/api/requests?{query}")).await["total"],
            total,
            "{query}"
        );
    }
    let failed = get("/api/responses?has_error=true").await;
    assert_eq!(failed["total"], 1);
    let response = &failed["responses"][0];
    let (number, uuid) = (
        &response["id"],
        response["response_id"].as_str().expect("an id"),
    );
    for name in [number.to_string(), uuid.to_owned()] {
        let one = get(&format!("/api/responses/{name}")).await;
        assert_eq!(one["request"]["id"], response["request_id"]);
    }
    let request = response["request_id"].to_string();
    let by_number = get(&format!("/api/requests/{request}")).await;
    let by_uuid = get(&format!(
        "/api/requests/{}",
        by_number["request_id"].as_str().expect("an id")
    ))
    .await;
    assert_eq!(by_number, by_uuid);
    assert_eq!(
        get(&format!("/api/responses/request/{request}")).await["id"],
        *number
    );
    let delete = async |path: String| {
        let answer = gateway.client.delete(gateway.api(&path)).send().await;
        answer.expect("an answer").status().as_u16()
    };
    assert_eq!(delete(format!("/api/responses/{number}zzz")).await, 404);
    assert_eq!(delete(format!("/api/responses/{number}")).await, 200);
    assert_eq!(delete(format!("/api/responses/{number}")).await, 404);
    assert_eq!(delete(format!("/api/requests/{request}")).await, 200);
    assert_eq!(get("/api/requests").await["total"], 4);
    let stats = get("/api/activity/stats").await;
    assert_eq!(
        stats["stats"]["total_api_requests"], 5,
        "what was counted stays"
    );
    let recent = get("/api/activity/recent?limit=3").await;
    assert_eq!(recent["activities"].as_array().expect("lines").len(), 3);
    gateway.stop().await;
}

#[tokio::test]
async fn entity_tags_and_idempotency_keys_keep_changes_apart() {
    let upstream = answering().await;
    let gateway = TestGateway::start().await;
    gateway.provider("p1", &upstream).await;
    let url = gateway.api("/api/providers/p1");
    let seen = gateway.client.get(&url).send().await.expect("an answer");
    let tag = seen.headers()["etag"].to_str().expect("text").to_owned();
    let again = gateway.client.get(&url).header("if-none-match", &tag);
    let again = again.send().await.expect("an answer");
    assert_eq!(again.status(), 304);
    assert_eq!(again.bytes().await.expect("a body").len(), 0);
    let change = async |path: &str, tag: &str, priority: i64| {
        let request = gateway
            .client
            .put(gateway.api(path))
            .header("if-match", tag);
        let request = request.json(&json!({"priority": priority}));
        request.send().await.expect("an answer").status().as_u16()
    };
    assert_eq!(change("/api/providers/p1", "\"0\"", 1).await, 412);
    assert_eq!(change("/api/providers/p1", &tag, 1).await, 200);
    assert_eq!(
        change("/api/providers/p1", &tag, 2).await,
        412,
        "it was changed since"
    );
    assert_eq!(change("/api/providers/p1", "*", 3).await, 200);
    assert_eq!(change("/api/providers/nope", &tag, 3).await, 404);
    // Of many that saw the same, one wins.
    let seen = gateway.client.get(&url).send().await.expect("an answer");
    let tag = seen.headers()["etag"].to_str().expect("text").to_owned();
    let all =
        futures_util::future::join_all((10..20).map(|n| change("/api/providers/p1", &tag, n)))
            .await;
    assert_eq!(
        all.iter().filter(|status| **status == 200).count(),
        1,
        "{all:?}"
    );

    let create = async |key: &str, id: &str| {
        let request = gateway.client.post(gateway.api("/api/models"));
        let request = request.header("idempotency-key", key);
        let answer = request
            .json(&json!({"id": id, "name": "k"}))
            .send()
            .await
            .expect("an answer");
        let status = answer.status().as_u16();
        (status, answer.text().await.expect("a body"))
    };
    let first = create("k1", "k").await;
    assert_eq!(first.0, 201);
    assert_eq!(create("k1", "k").await, first);
    assert_eq!(create("k2", "k").await.0, 409);
    let other = create("k1", "other").await;
    assert_eq!(other.0, 409);
    assert!(other.1.contains("idempotency_conflict"), "{}", other.1);
    let form = gateway.client.post(gateway.api("/api/models"));
    let form = form
        .header("content-type", "application/x-www-form-urlencoded")
        .body("id=x");
    assert_eq!(form.send().await.expect("an answer").status(), 415);
    gateway.stop().await;
}

#[tokio::test]
async fn the_older_programs_addresses_are_served_where_openai_has_none() {
    let upstream = answering().await;
    let site = Site::saying("Hello").await;
    let origin = json!(site.upstream.origin());
    let gateway = TestGateway::with(&[("qwen.baseUrl", origin)]).await;
    gateway.provider("p1", &upstream).await;
    gateway
        .chat(&say("fake", "hi"))
        .await
        .bytes()
        .await
        .expect("a body");
    for (path, pointer) in [
        ("/v1/providers", "/providers/0/id"),
        ("/v1/providers/p1/config", "/config/apiKey"),
        ("/v1/sessions", "/sessions"),
        ("/v1/sessions/chat/none", "/count"),
        ("/v1/requests", "/requests/0/model"),
        ("/v1/settings", "/settings"),
        ("/v1/qwen/credentials", "/hasCredentials"),
        ("/api/v1/activity/recent", "/activities"),
        ("/api/v1/activity/stats", "/stats"),
        ("/v1/models", "/data/0/id"),
        ("/v1/models/fake", "/object"),
    ] {
        let (status, body) = gateway.get(&gateway.router(path)).await;
        assert_eq!(status, 200, "{path}: {body}");
        assert!(body.pointer(pointer).is_some(), "{path}: {body}");
    }
    let synced = gateway
        .post(&gateway.router("/v1/models/sync/p1"), &json!({}))
        .await;
    assert_eq!(
        synced.json::<Value>().await.expect("JSON")["result"]["modelsAdded"],
        1
    );
    assert_eq!(
        gateway.get(&gateway.router("/v1/responses")).await.0,
        405,
        "OpenAI's, which lists none"
    );
    // On the Qwen proxy nothing without a login, and then lists in OpenAI's form.
    for path in [
        "/v1/sessions",
        "/v1/requests",
        "/v1/responses",
        "/v1/models",
    ] {
        let (status, body) = gateway.get(&gateway.qwen(path)).await;
        assert_eq!(
            (status, &body["error"]["code"]),
            (401, &json!("missing_credentials")),
            "{path}: {body}"
        );
    }
    log_in(&gateway, "default", "u1").await;
    let (_, list) = gateway.get(&gateway.qwen("/v1/requests?limit=1")).await;
    assert_eq!(
        (&list["object"], &list["data"][0]["model"]),
        (&json!("list"), &json!("fake"))
    );
    let (_, totals) = gateway.get(&gateway.qwen("/v1/responses/stats")).await;
    assert_eq!(totals["statistics"]["total_responses"], 1);
    assert_eq!(totals["session_id"], "all");
    for name in ["sort", "orderBy"] {
        let url = gateway.qwen(&format!("/v1/sessions?limit=1&{name}=(select+1)"));
        let (status, body) = gateway.get(&url).await;
        assert_eq!(
            (status, &body["error"]["param"]),
            (400, &json!("sort")),
            "{name}"
        );
    }
    let (status, _) = gateway
        .get(&gateway.qwen("/v1/sessions?orderBy=last_accessed"))
        .await;
    assert_eq!(status, 200);
    let url = gateway.qwen("/v1/chat/completions");
    let answer = gateway.post(&url, &say("qwen3-max", "hi")).await;
    answer.bytes().await.expect("a body");
    let session: String = gateway.cell("SELECT id FROM sessions");
    let (_, totals) = gateway
        .get(&gateway.qwen(&format!("/v1/sessions/{session}/stats")))
        .await;
    assert_eq!(
        (
            &totals["session_id"],
            &totals["statistics"]["total_responses"]
        ),
        (&json!(session), &json!(1))
    );
    gateway.stop().await;
}

#[tokio::test]
async fn an_exchange_is_sent_again_to_whom_one_likes() {
    let (one, two) = (answering().await, answering().await);
    let gateway = TestGateway::start().await;
    gateway.provider("one", &one).await;
    gateway.provider("two", &two).await;
    let asked = say_streamed("one/fake", "it's me");
    let answer = gateway.chat(&asked).await;
    let id = answer.headers()["x-request-id"]
        .to_str()
        .expect("text")
        .to_owned();
    answer.bytes().await.expect("a body");
    let url = gateway.api(&format!("/api/requests/{id}/replay"));
    for (body, provider, sent_to) in [
        (json!({}), "one", &one),
        (json!({"provider": "two"}), "two", &two),
        (json!({"model": "two/fake"}), "two", &two),
        (json!({"provider": "one", "model": "other"}), "one", &one),
    ] {
        let before = sent_to.completions().len();
        let answer = gateway.post(&url, &body).await;
        assert_eq!(answer.status(), 200, "{body}");
        let told: Value = answer.json().await.expect("JSON");
        assert_eq!(told["provider"], provider, "{told}");
        assert_eq!(
            told["response"]["choices"][0]["message"]["content"],
            "Hello"
        );
        let sent = sent_to.completions();
        assert_eq!(sent.len(), before + 1);
        let last = sent.last().expect("one").json();
        assert_eq!(last["messages"], asked["messages"]);
        assert_eq!(last["stream"], false);
        let path = format!(
            "/api/requests/{}",
            told["request_id"].as_str().expect("an id")
        );
        let (_, repeated) = gateway.get(&gateway.api(&path)).await;
        assert_eq!(repeated["replay_of"], told["replay_of"]);
    }
    gateway.provider_at("dead", "http://127.0.0.1:9/v1").await;
    let failed = gateway.post(&url, &json!({"provider": "dead"})).await;
    assert_eq!(failed.status(), 200);
    let failed: Value = failed.json().await.expect("JSON");
    assert_eq!(failed["error"]["code"], "upstream_unreachable", "{failed}");
    assert_eq!(failed["response"], Value::Null);
    let (_, first) = gateway
        .get(&gateway.api(&format!("/api/requests/{id}")))
        .await;
    assert_eq!(first["replays"].as_array().expect("ids").len(), 5);
    assert_eq!(first["replay_of"], Value::Null);
    let nobody = gateway.post(&url, &json!({"provider": "nobody"})).await;
    assert_eq!(nobody.status(), 404);
    // What curl is told is what was asked.
    let (_, told) = gateway
        .get(&gateway.api(&format!("/api/requests/{id}/curl")))
        .await;
    let command = told["command"].as_str().expect("a command").to_owned();
    let before = one.completions().len();
    let shell = std::process::Command::new("sh")
        .args(["-c", &command])
        .spawn();
    let mut shell = shell.expect("curl runs");
    one.wait_for(before + 1).await;
    let ran = tokio::task::spawn_blocking(move || shell.wait()).await;
    assert!(
        ran.expect("it ends").expect("a status").success(),
        "{command}"
    );
    assert_eq!(one.completions().len(), before + 1);
    assert_eq!(
        one.completions().last().expect("one").json()["messages"],
        asked["messages"]
    );
    // A body that was not kept cannot be sent again.
    let put = gateway
        .client
        .put(gateway.api("/api/settings/logging.logRequests"));
    put.json(&json!({"value": false}))
        .send()
        .await
        .expect("an answer");
    let answer = gateway.chat(&say("one/fake", "secret")).await;
    let id = answer.headers()["x-request-id"]
        .to_str()
        .expect("text")
        .to_owned();
    answer.bytes().await.expect("a body");
    let again = gateway
        .post(
            &gateway.api(&format!("/api/requests/{id}/replay")),
            &json!({}),
        )
        .await;
    assert_eq!(again.status(), 422);
    gateway.stop().await;
}
