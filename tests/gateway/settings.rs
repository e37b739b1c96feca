//! `/api/settings` over a real gateway.

use serde_json::{Value, json};

use crate::support::upstream::{DONE, Step, Upstream, delta, finish, json_answer, sse_head, whole};
use crate::support::{TestGateway, say, say_streamed};

async fn send(
    gateway: &TestGateway,
    method: &str,
    path: &str,
    body: Option<&Value>,
) -> (u16, Value) {
    let method = method.parse().expect("a method");
    let mut request = gateway.client.request(method, gateway.api(path));
    if let Some(body) = body {
        request = request.json(body);
    }
    let response = request.send().await.expect("the gateway answers");
    let status = response.status().as_u16();
    (status, response.json().await.expect("a JSON body"))
}

#[tokio::test(flavor = "multi_thread")]
async fn values_are_typed_checked_and_in_force_at_once() {
    let gateway = TestGateway::start().await;
    let (status, all) = send(&gateway, "GET", "/api/settings", None).await;
    assert_eq!((status, &all["category"]), (200, &json!("all")));
    assert_eq!(all["settings"]["server.timeout"], 120_000);
    assert_eq!(all["settings"]["logging.logRequests"], true);
    let (_, logging) = send(&gateway, "GET", "/api/settings?category=logging", None).await;
    assert_eq!(
        logging["settings"].as_object().map(serde_json::Map::len),
        Some(3)
    );
    let (_, none) = send(&gateway, "GET", "/api/settings?category=nope", None).await;
    assert_eq!(none["settings"], json!({}));

    let (status, one) = send(&gateway, "GET", "/api/settings/server.timeout", None).await;
    assert_eq!(status, 200);
    assert_eq!(
        (
            &one["value"],
            &one["category"],
            &one["isDefault"],
            &one["type"]
        ),
        (
            &json!(120_000),
            &json!("server"),
            &json!(true),
            &json!("integer")
        )
    );
    assert_eq!(
        one["constraints"],
        json!({"minimum": 1000, "maximum": 600_000})
    );

    assert_eq!(all["details"], Value::Null);
    let (_, told) = send(&gateway, "GET", "/api/settings?details=true", None).await;
    assert_eq!(told["settings"], all["settings"]);
    let details = told["details"].as_array().expect("details");
    assert_eq!(
        Some(details.len()),
        all["settings"].as_object().map(serde_json::Map::len)
    );
    assert!(details.contains(&one), "as each is told by itself");
    let (_, logging) = send(
        &gateway,
        "GET",
        "/api/settings?details=true&category=logging",
        None,
    )
    .await;
    assert_eq!(logging["details"].as_array().map(Vec::len), Some(3));

    let put = |key: &'static str, value: Value| {
        let gateway = &gateway;
        async move {
            let path = format!("/api/settings/{key}");
            send(gateway, "PUT", &path, Some(&json!({ "value": value }))).await
        }
    };
    let (status, changed) = put("server.timeout", json!(5_000)).await;
    assert_eq!(
        (status, &changed["value"], &changed["requiresRestart"]),
        (200, &json!(5_000), &json!(false))
    );
    let (_, one) = send(&gateway, "GET", "/api/settings/server.timeout", None).await;
    assert_eq!(
        (&one["value"], &one["isDefault"]),
        (&json!(5_000), &json!(false))
    );
    assert!(one["updated_at"].is_i64());
    let (_, port) = send(&gateway, "GET", "/api/settings/server.port", None).await;
    assert_eq!(port["requiresRestart"], false);
    assert_eq!(
        port["constraints"],
        json!({"minimum": 1, "maximum": 65_535})
    );
    // What shells keep here, and what the older program had.
    for key in ["system.minimizeToTray", "system.checkUpdates"] {
        assert_eq!(all["settings"][key], true, "{key}");
        assert_eq!(put(key, json!(false)).await.0, 200);
    }
    assert_eq!(all["settings"]["session.cleanupInterval"], 600_000);
    for (key, value, status, code) in [
        ("server.timeout", json!("5000"), 400, "invalid_request"),
        ("server.timeout", json!(5), 400, "invalid_request"),
        ("logging.level", json!("loud"), 400, "invalid_request"),
        ("logging.logRequests", json!("yes"), 400, "invalid_request"),
        ("server.timeout", Value::Null, 400, "invalid_request"),
        ("server.nope", json!(1), 404, "unknown_setting"),
        ("active_provider", json!("nobody"), 422, "unusable_value"),
        ("server.port", json!(0), 422, "unusable_value"),
        ("server.port", json!(65_536), 400, "invalid_request"),
        ("server.host", json!("a b"), 422, "unusable_value"),
        (
            "server.host",
            json!("nobody.invalid"),
            422,
            "unusable_value",
        ),
    ] {
        let (got, error) = put(key, value.clone()).await;
        assert_eq!(got, status, "{key} {value}: {error}");
        assert_eq!(error["error"]["code"], code, "{key} {value}: {error}");
    }
    let (_, one) = send(&gateway, "GET", "/api/settings/server.timeout", None).await;
    assert_eq!(one["value"], 5_000, "a refused value changes nothing");
    let (status, reset) = send(&gateway, "DELETE", "/api/settings/server.timeout", None).await;
    assert_eq!((status, &reset["value"]), (200, &json!(120_000)));
    assert_eq!(
        send(&gateway, "DELETE", "/api/settings/server.nope", None)
            .await
            .0,
        404
    );
    assert_eq!(
        send(&gateway, "GET", "/api/settings/server.nope", None)
            .await
            .0,
        404
    );

    // What shells and dashboards keep is kept as it is.
    assert_eq!(put("x.theme", json!({"dark": true})).await.0, 200);
    let (_, theme) = send(&gateway, "GET", "/api/settings/x.theme", None).await;
    assert_eq!(theme["value"], json!({"dark": true}));
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_are_stored_at_once_all_or_those_that_are_good() {
    let gateway = TestGateway::start().await;
    let wanted = json!({"settings": {"server.timeout": 2_000, "logging.level": "loud", "logging.logResponses": false}});
    let (status, error) = send(
        &gateway,
        "POST",
        "/api/settings/bulk?atomic=true",
        Some(&wanted),
    )
    .await;
    assert_eq!(status, 400, "{error}");
    let (_, one) = send(&gateway, "GET", "/api/settings/server.timeout", None).await;
    assert_eq!(one["isDefault"], true);
    let (status, done) = send(&gateway, "POST", "/api/settings/bulk", Some(&wanted)).await;
    assert_eq!(status, 200);
    assert_eq!(done["updated"].as_array().map(Vec::len), Some(2));
    assert_eq!(done["errors"][0]["key"], "logging.level");
    let (_, one) = send(&gateway, "GET", "/api/settings/logging.logResponses", None).await;
    assert_eq!(one["value"], false);
    let bad = json!({"settings": {"logging.level": "loud"}});
    assert_eq!(
        send(&gateway, "POST", "/api/settings/bulk", Some(&bad))
            .await
            .0,
        400
    );
    assert_eq!(
        send(&gateway, "POST", "/api/settings/bulk", Some(&json!({})))
            .await
            .0,
        400
    );
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_counts_for_the_next_request() {
    let upstream = Upstream::start(|_| vec![json_answer(200, &whole("kept or not"))]).await;
    let gateway = TestGateway::start().await;
    gateway.provider("p1", &upstream).await;
    let (status, _) = send(
        &gateway,
        "PUT",
        "/api/settings/active_provider",
        Some(&json!({"value": "p1"})),
    )
    .await;
    assert_eq!(status, 200);
    let model = json!({"value": "fake"});
    send(&gateway, "PUT", "/api/settings/active_model", Some(&model)).await;
    let body = json!({"value": false});
    send(
        &gateway,
        "PUT",
        "/api/settings/logging.logResponses",
        Some(&body),
    )
    .await;
    let mut request = say("fake", "hello");
    request.as_object_mut().expect("an object").remove("model");
    let response = gateway.chat(&request).await;
    assert_eq!(
        response.headers()["x-qwarden-provider"],
        "p1",
        "the active provider is asked"
    );
    let kept: Option<String> = gateway.cell("SELECT openai_response FROM responses");
    assert_eq!(kept, None, "answers are not kept any more");
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_bound_of_completions_moves_while_they_run() {
    let upstream = Upstream::start(|asked| {
        if asked.json()["stream"] != true {
            return vec![json_answer(200, &whole("at once"))];
        }
        let rest = format!("{}{DONE}", finish("stop"));
        vec![
            sse_head(),
            Step::Chunk(delta("open").into_bytes()),
            Step::Gate,
            Step::Chunk(rest.into_bytes()),
            Step::End,
        ]
    })
    .await;
    let gateway = TestGateway::start().await;
    gateway.provider("p1", &upstream).await;
    let open = gateway.chat(&say_streamed("p1/fake", "hold")).await;
    assert_eq!(open.status(), 200);
    let bound = async |most: i64| {
        let body = json!({ "value": most });
        let path = "/api/settings/server.maxInFlight";
        let (status, changed) = send(&gateway, "PUT", path, Some(&body)).await;
        assert_eq!((status, &changed["requiresRestart"]), (200, &json!(false)));
        gateway.chat(&say("p1/fake", "hi")).await.status().as_u16()
    };
    assert_eq!(bound(1).await, 503, "the one that runs takes the place");
    assert_eq!(bound(2).await, 200);
    upstream.go(1);
    let text = open.text().await.expect("a whole stream");
    assert!(
        text.contains("[DONE]"),
        "a lower bound ends nothing: {text}"
    );
    gateway.stop().await;
}

/// `127.1` is no address by its form; the resolver of every system knows it without asking anybody.
#[tokio::test(flavor = "multi_thread")]
async fn a_host_may_be_a_name_that_resolves() {
    let gateway = TestGateway::with(&[("server.host", json!("127.1"))]).await;
    assert_eq!(
        gateway.gateway.router_address().ip().to_string(),
        "127.0.0.1"
    );
    // It is called by that name, too.
    let called = gateway.client.get(gateway.api("/api/health"));
    let called = called.header("host", "127.1").send().await;
    assert_eq!(called.expect("an answer").status(), 200);
    let other = gateway.client.get(gateway.api("/api/health"));
    let other = other.header("host", "127.2").send().await;
    assert_eq!(other.expect("an answer").status(), 403);
    gateway.stop().await;
}
