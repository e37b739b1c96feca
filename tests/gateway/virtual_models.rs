//! Virtual models: how they are made, changed, kept and offered.

use reqwest::Method;
use serde_json::{Value, json};

use crate::cli::User;
use crate::events::Listener;
use crate::support::upstream::{Upstream, json_answer, whole};
use crate::support::{TestGateway, say};

const URL: &str = "/api/virtual-models";

async fn ask(gateway: &TestGateway, method: Method, path: &str, body: &Value) -> (u16, Value) {
    let mut request = gateway.client.request(method, gateway.api(path));
    if !body.is_null() {
        request = request.json(body);
    }
    let response = request.send().await.expect("an answer");
    let status = response.status().as_u16();
    (status, response.json().await.expect("JSON"))
}

async fn make(gateway: &TestGateway, name: &str, targets: &[&str]) {
    let body = json!({"name": name, "targets": targets});
    let (status, made) = ask(gateway, Method::POST, URL, &body).await;
    assert_eq!(status, 201, "{made}");
}

fn errors(answer: &Value) -> Vec<&str> {
    let errors = answer["error"]["errors"].as_array().into_iter().flatten();
    errors.filter_map(Value::as_str).collect()
}

async fn offers(gateway: &TestGateway) -> Vec<Value> {
    let (status, list) = gateway.get(&gateway.router("/v1/models")).await;
    assert_eq!(status, 200);
    list["data"].as_array().expect("a list").clone()
}

#[tokio::test]
async fn one_is_made_listed_changed_replaced_and_deleted() {
    let gateway = TestGateway::start().await;
    let mut listener = Listener::of(&gateway, "?types=virtual_models:*", None).await;
    let body = json!({"name": "coder", "description": "for agents", "strategy": "weighted",
        "targets": ["qwen/a", {"target": "ollama/b", "weight": 3}]});
    let response = gateway.post(&gateway.api(URL), &body).await;
    assert_eq!(response.status(), 201);
    assert_eq!(response.headers()["location"], "/api/virtual-models/coder");
    let made: Value = response.json().await.expect("JSON");
    assert_eq!(
        made["targets"],
        json!([{"target": "qwen/a", "weight": 1}, {"target": "ollama/b", "weight": 3}])
    );
    assert_eq!(
        (&made["strategy"], &made["enabled"], &made["description"]),
        (&json!("weighted"), &json!(true), &json!("for agents"))
    );
    let told = listener.until("virtual_models:updated").await.data;
    assert_eq!(
        (&told["action"], &told["virtualModel"]),
        (&json!("created"), &json!("coder"))
    );
    make(&gateway, "claude-*", &["coder"]).await;
    make(&gateway, "lab/x", &["coder", "qwen/a"]).await;

    for (query, names) in [
        ("", vec!["claude-*", "coder", "lab/x"]),
        ("?limit=1&offset=1", vec!["coder"]),
        ("?q=QWEN", vec!["coder", "lab/x"]),
        ("?strategy=weighted", vec!["coder"]),
        ("?enabled=false", vec![]),
    ] {
        let (status, list) = gateway.get(&gateway.api(&format!("{URL}{query}"))).await;
        assert_eq!(status, 200);
        let rows = list["virtual_models"].as_array().expect("a list");
        let got: Vec<_> = rows.iter().map(|row| row["name"].clone()).collect();
        assert_eq!(Value::from(got), json!(names), "{query}");
    }
    let (_, page) = gateway.get(&gateway.api(&format!("{URL}?limit=2"))).await;
    let cursor = page["next_cursor"].as_str().expect("there are more");
    let (_, rest) = gateway
        .get(&gateway.api(&format!("{URL}?limit=2&cursor={cursor}")))
        .await;
    assert_eq!(rest["virtual_models"][0]["name"], "lab/x");

    // A name is one segment of the path, whatever it holds.
    for (path, name) in [("claude-%2A", "claude-*"), ("lab%2Fx", "lab/x")] {
        let (status, one) = gateway.get(&gateway.api(&format!("{URL}/{path}"))).await;
        assert_eq!((status, &one["name"]), (200, &json!(name)));
    }

    let path = format!("{URL}/coder");
    let (status, changed) = ask(
        &gateway,
        Method::PATCH,
        &path,
        &json!({"targets": ["ollama/c"]}),
    )
    .await;
    assert_eq!(status, 200, "{changed}");
    assert_eq!(
        (
            &changed["targets"],
            &changed["strategy"],
            &changed["description"],
            &changed["created_at"]
        ),
        (
            &json!([{"target": "ollama/c", "weight": 1}]),
            &json!("weighted"),
            &json!("for agents"),
            &made["created_at"]
        )
    );
    let seen = gateway.client.get(gateway.api(&path)).send().await;
    let seen = seen.expect("an answer");
    let tag = seen.headers()["etag"].to_str().expect("text").to_owned();
    let (status, replaced) = ask(
        &gateway,
        Method::PUT,
        &path,
        &json!({"name": "programmer", "targets": ["ollama/d"], "enabled": false}),
    )
    .await;
    assert_eq!(status, 200, "{replaced}");
    assert_eq!(
        (
            &replaced["name"],
            &replaced["strategy"],
            &replaced["description"],
            &replaced["enabled"]
        ),
        (
            &json!("programmer"),
            &json!("priority"),
            &Value::Null,
            &json!(false)
        )
    );
    let path = format!("{URL}/programmer");
    let stale = gateway.client.delete(gateway.api(&path));
    let stale = stale.header("if-match", tag).send().await;
    assert_eq!(stale.expect("an answer").status(), 412);
    let (status, _) = ask(&gateway, Method::DELETE, &path, &Value::Null).await;
    assert_eq!(status, 200);
    let (status, gone) = ask(&gateway, Method::DELETE, &path, &Value::Null).await;
    assert_eq!(
        (status, &gone["error"]["code"]),
        (404, &json!("virtual_model_not_found"))
    );
    assert_eq!(
        gateway.cell::<i64>(
            "SELECT count(*) FROM virtual_targets WHERE virtual_model NOT IN ('claude-*', 'lab/x')"
        ),
        0
    );
    for action in ["created", "updated", "deleted"] {
        let trail = format!(
            "SELECT count(*) FROM audit_log WHERE entity = 'virtual model' AND action = '{action}'"
        );
        assert!(gateway.cell::<i64>(&trail) > 0, "{action}");
    }
    gateway.stop().await;
}

#[tokio::test]
async fn what_would_not_do_is_refused_with_every_fault() {
    let gateway = TestGateway::start().await;
    make(&gateway, "a", &["b", "p/m"]).await;
    let post = async |body: Value| ask(&gateway, Method::POST, URL, &body).await;
    let (status, answer) =
        post(json!({"name": 7, "strategy": "best", "enabled": "yes", "targets": [{"weight": 1}]}))
            .await;
    assert_eq!((status, errors(&answer).len()), (400, 4), "{answer}");
    let (status, answer) = post(json!({})).await;
    assert_eq!(
        (status, errors(&answer)),
        (400, vec!["`name` is required", "`targets` is required"])
    );
    let (status, answer) = post(
        json!({"name": " ", "targets": ["", "x*", {"target": "p/m", "weight": 0},
        {"target": "p/m", "weight": 99_999_999_999_i64}]}),
    )
    .await;
    assert_eq!((status, errors(&answer).len()), (422, 5), "{answer}");
    assert_eq!(answer["error"]["code"], "invalid_virtual_model");
    for name in ["echo", "echo/echo", ""] {
        let (status, _) = post(json!({"name": name, "targets": ["p/m"]})).await;
        assert_eq!(status, 422, "{name}");
    }
    let (status, answer) = post(json!({"name": "a", "targets": ["p/m"]})).await;
    assert_eq!(
        (status, &answer["error"]["code"]),
        (409, &json!("virtual_model_exists"))
    );
    let (status, answer) = post(json!({"name": "b", "targets": ["a"]})).await;
    assert_eq!(status, 422);
    assert!(errors(&answer)[0].contains("`b` -> `a` -> `b`"), "{answer}");
    let (status, answer) = post(json!({"name": "claude-*", "targets": ["claude-x"]})).await;
    assert_eq!(status, 422, "{answer}");
    // With an exact name before it, it is no circle, as long as that is there.
    make(&gateway, "claude-x", &["p/m"]).await;
    make(&gateway, "claude-*", &["claude-x"]).await;
    let path = format!("{URL}/claude-x");
    let (status, answer) = ask(&gateway, Method::DELETE, &path, &Value::Null).await;
    assert_eq!(
        (status, &answer["error"]["code"]),
        (409, &json!("virtual_model_needed")),
        "{answer}"
    );
    for change in [
        json!({"enabled": false}),
        json!({"name": "other"}),
        json!({"targets": ["claude-y"]}),
    ] {
        let (status, answer) = ask(&gateway, Method::PATCH, &path, &change).await;
        assert_eq!(status, 422, "{change} {answer}");
    }
    let (status, answer) = ask(&gateway, Method::PATCH, &path, &json!({"name": "a"})).await;
    assert_eq!(
        (status, &answer["error"]["code"]),
        (409, &json!("virtual_model_exists"))
    );
    let (status, answer) = ask(&gateway, Method::PUT, &path, &json!({"enabled": true})).await;
    assert_eq!(
        (status, errors(&answer)),
        (400, vec!["`targets` is required"])
    );
    let (_, list) = gateway.get(&gateway.api(URL)).await;
    assert_eq!(list["total"], 3, "nothing was changed: {list}");
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_circle_is_made_by_two_at_once() {
    let gateway = TestGateway::start().await;
    for round in 0..10 {
        let (one, two) = (format!("a{round}"), format!("b{round}"));
        let (first, second) = (
            json!({"name": one, "targets": [two]}),
            json!({"name": two, "targets": [one]}),
        );
        let (first, second) = tokio::join!(
            ask(&gateway, Method::POST, URL, &first),
            ask(&gateway, Method::POST, URL, &second)
        );
        let mut statuses = [first.0, second.0];
        statuses.sort_unstable();
        assert_eq!(statuses, [201, 422]);
    }
    gateway.stop().await;
}

#[tokio::test]
async fn a_restart_keeps_them() {
    let gateway = TestGateway::start().await;
    make(&gateway, "coder", &["echo", "p/m"]).await;
    let (_, before) = gateway.get(&gateway.api(URL)).await;
    let incarnation = gateway.actor("router").await["incarnation"].as_u64();
    assert_eq!(gateway.crash("router").await, 200);
    gateway
        .incarnation_after("router", incarnation.expect("a number"))
        .await;
    let is_offered = |offers: Vec<Value>| offers.iter().any(|offer| offer["id"] == "coder");
    assert!(is_offered(offers(&gateway).await));
    let gateway = TestGateway::reopened(gateway.stop().await, &[]).await;
    assert_eq!(gateway.get(&gateway.api(URL)).await.1, before);
    assert!(is_offered(offers(&gateway).await));
    gateway.stop().await;
}

#[tokio::test]
async fn the_list_of_models_offers_them_with_what_is_known() {
    let gateway = TestGateway::start().await;
    let one = Upstream::listing(&json!([
        {"id": "big", "context_length": 9000, "capabilities": ["tools", "vision"]},
        {"id": "shared", "supported_parameters": ["tools"]}
    ]))
    .await;
    let two = Upstream::listing(&json!([
        {"id": "small", "context_length": 4000, "capabilities": {"function_calling": true, "vision": false}},
        {"id": "shared", "context_length": 5000}
    ]))
    .await;
    gateway.provider("one", &one).await;
    gateway.provider("two", &two).await;
    let model = json!({"id": "small", "name": "Small", "capabilities": ["code", "tools"]});
    gateway.post(&gateway.api("/api/models"), &model).await;
    let link = json!({"model_id": "small"});
    gateway
        .post(&gateway.api("/api/providers/two/models"), &link)
        .await;
    make(&gateway, "coder", &["one/big", "small"]).await;
    make(&gateway, "all", &["coder", "shared", "two/unlisted"]).await;
    make(&gateway, "nowhere", &["gone/m"]).await;
    make(&gateway, "claude-*", &["coder"]).await;
    make(&gateway, "shared", &["one/big"]).await;

    let offers = offers(&gateway).await;
    let one_offer = |id: &str| {
        let mut found = offers.iter().filter(|offer| offer["id"] == id);
        let offer = found.next().cloned();
        assert!(found.next().is_none(), "{id} is there once");
        offer.unwrap_or_else(|| panic!("{id} is not offered: {offers:?}"))
    };
    for (id, owner, providers, context, capabilities) in [
        (
            "small",
            "two",
            json!(["two"]),
            json!(4000),
            json!(["tools", "code"]),
        ),
        (
            "two/small",
            "two",
            json!(["two"]),
            json!(4000),
            json!(["tools", "code"]),
        ),
        (
            "one/shared",
            "one",
            json!(["one"]),
            Value::Null,
            json!(["tools"]),
        ),
        (
            "coder",
            "qwarden",
            json!(["one", "two"]),
            json!(4000),
            json!(["tools"]),
        ),
        (
            "all",
            "qwarden",
            json!(["one", "two"]),
            json!(4000),
            json!(["tools"]),
        ),
        ("nowhere", "qwarden", json!([]), Value::Null, Value::Null),
        // It hides the model of the same name.
        (
            "shared",
            "qwarden",
            json!(["one"]),
            json!(9000),
            json!(["tools", "vision"]),
        ),
    ] {
        let offer = one_offer(id);
        assert_eq!(offer["owned_by"], owner, "{offer}");
        assert_eq!(
            (
                &offer["providers"],
                &offer["context_length"],
                &offer["capabilities"]
            ),
            (&providers, &context, &capabilities),
            "{offer}"
        );
    }
    assert!(offers.iter().all(|offer| offer["id"] != "claude-*"));

    let path = format!("{URL}/coder");
    let (status, _) = ask(&gateway, Method::PATCH, &path, &json!({"enabled": false})).await;
    assert_eq!(status, 200);
    let (status, _) = gateway.get(&gateway.router("/v1/models/coder")).await;
    assert_eq!(status, 404, "in force at once");
    let (status, all) = gateway.get(&gateway.router("/v1/models/all")).await;
    assert_eq!((status, &all["providers"]), (200, &json!(["one", "two"])));
    gateway.stop().await;
}

#[tokio::test]
async fn the_command_line_sets_shows_and_removes_them() {
    let gateway = TestGateway::start().await;
    let user = User::of(&gateway);
    let line = [
        "alias",
        "set",
        "coder",
        "qwen/a",
        "ollama/b",
        "--strategy",
        "weighted",
        "--weight",
        "3,1",
        "--description",
        "for agents",
    ];
    let set = user.run(&line).await.ok();
    assert!(
        set.out.contains("weighted") && set.out.contains("ollama/b"),
        "{set:?}"
    );
    user.run(&["alias", "set", "claude-*", "coder"]).await.ok();
    // What is not named stays.
    let again = user
        .run(&["alias", "set", "coder", "lab/x/y", "--json"])
        .await
        .ok()
        .json();
    assert_eq!(
        (&again["targets"], &again["strategy"], &again["description"]),
        (
            &json!([{"target": "lab/x/y", "weight": 1}]),
            &json!("weighted"),
            &json!("for agents")
        )
    );
    let listed = user.run(&["alias", "list"]).await.ok();
    assert!(
        listed.out.contains("lab/x/y") && listed.out.contains("claude-*"),
        "{listed:?}"
    );
    let listed = user.run(&["alias", "list", "-q", "CLAUDE", "--json"]).await;
    assert_eq!(listed.ok().json()["total"], 1);
    user.run(&["alias", "disable", "claude-*"]).await.ok();
    let shown = user.run(&["alias", "show", "claude-*", "--json"]).await;
    assert_eq!(shown.ok().json()["enabled"], false);
    let enabled = user.run(&["alias", "enable", "claude-*"]).await.ok();
    assert_eq!(enabled.out, "claude-* is enabled\n");

    let circle = user.run(&["alias", "set", "lab/x/y", "coder"]).await;
    assert!(circle.fails(1).err.contains("circle"));
    let missing = user.run(&["alias", "show", "nope"]).await.fails(1);
    assert!(missing.err.contains("there is no virtual model `nope`"));
    let weights = ["alias", "set", "x", "p/a", "p/b", "--weight", "1"];
    assert!(user.run(&weights).await.fails(2).err.contains("--weight"));
    assert!(
        user.run(&["alias", "remove", "coder"])
            .await
            .fails(2)
            .err
            .contains("--yes")
    );
    user.run(&["alias", "remove", "coder", "--yes"]).await.ok();
    user.run(&["alias", "show", "coder"]).await.fails(1);
    gateway.stop().await;
}

/// Which provider was asked, and for which model.
async fn asked(gateway: &TestGateway, model: &str) -> (u16, String) {
    let answer = gateway.chat(&say(model, "hi")).await;
    let header = |name| {
        let value = answer.headers().get(name);
        value
            .map_or("", |value: &reqwest::header::HeaderValue| {
                value.to_str().expect("text")
            })
            .to_owned()
    };
    let target = format!(
        "{}/{}",
        header("x-qwarden-provider"),
        header("x-qwarden-model")
    );
    (answer.status().as_u16(), target)
}

#[tokio::test]
async fn names_lead_where_they_say() {
    let upstream = Upstream::start(|_| vec![json_answer(200, &whole("Hi"))]).await;
    let gateway = TestGateway::start().await;
    for id in ["p1", "p2"] {
        gateway.provider(id, &upstream).await;
    }
    make(&gateway, "coder", &["p2/big"]).await;
    make(&gateway, "claude-*", &["coder"]).await;
    make(&gateway, "claude-*-haiku", &["p1/small"]).await;
    make(&gateway, "p1/alias", &["p2/behind"]).await;
    make(&gateway, "mixed", &["nobody/x", "coder", "p1/third"]).await;
    for (model, target) in [
        ("coder", "p2/big"),
        ("claude-opus-4", "p2/big"),
        ("claude-3-haiku", "p1/small"),
        ("p1/claude-opus-4", "p1/claude-opus-4"),
        ("p1/alias", "p2/behind"),
        ("mixed", "p2/big"),
        ("echo", "echo/echo"),
    ] {
        assert_eq!(
            asked(&gateway, model).await,
            (200, target.to_owned()),
            "{model}"
        );
    }
    let bodies = upstream.completions();
    let models: Vec<_> = bodies
        .iter()
        .map(|body| body.json()["model"].clone())
        .collect();
    assert_eq!(models[..3], ["big", "big", "small"]);
    // A change counts for the next request; so does the default.
    let path = format!("{URL}/coder");
    ask(
        &gateway,
        Method::PATCH,
        &path,
        &json!({"targets": ["p1/other"]}),
    )
    .await;
    assert_eq!(asked(&gateway, "claude-opus-4").await.1, "p1/other");
    let active = gateway.api("/api/settings/active_model");
    let put = gateway
        .client
        .put(active)
        .json(&json!({"value": "claude-x"}));
    assert_eq!(put.send().await.expect("an answer").status(), 200);
    let nameless = json!({"messages": [{"role": "user", "content": "hi"}]});
    let answer = gateway.chat(&nameless).await;
    assert_eq!(answer.headers()["x-qwarden-model"], "other");
    ask(&gateway, Method::PATCH, &path, &json!({"enabled": false})).await;
    assert_eq!(asked(&gateway, "claude-opus-4").await.0, 404);
    gateway.stop().await;
}
