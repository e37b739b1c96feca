//! Where a request would go, and how providers do: asked without sending anything.

use std::time::Duration;

use serde_json::{Value, json};

use crate::cli::User;
use crate::events::Listener;
use crate::support::upstream::{Step, Upstream, json_answer, whole};
use crate::support::{PATIENCE, TestGateway, say};

async fn explain(gateway: &TestGateway, query: &str, body: &Value) -> (u16, Value) {
    let url = gateway.api(&format!("/api/route/explain{query}"));
    let response = gateway.post(&url, body).await;
    let status = response.status().as_u16();
    (status, response.json().await.expect("JSON"))
}

async fn explained(gateway: &TestGateway, query: &str, body: &Value) -> Value {
    let (status, told) = explain(gateway, query, body).await;
    assert_eq!(status, 200, "{told}");
    told
}

async fn answering() -> Upstream {
    Upstream::start(|_| vec![json_answer(200, &whole("Hello"))]).await
}

async fn failing(status: u16, headers: &'static [(&'static str, &'static str)]) -> Upstream {
    Upstream::start(move |_| {
        let body = json!({"error": {"message": "no", "type": "server_error"}});
        let mut all = vec![("content-type", "application/json".to_owned())];
        all.extend(
            headers
                .iter()
                .map(|(name, value)| (*name, (*value).to_owned())),
        );
        vec![Step::Whole(status, all, body.to_string().into_bytes())]
    })
    .await
}

async fn virtual_model(gateway: &TestGateway, strategy: &str, targets: Value) {
    let body = json!({"name": "coder", "strategy": strategy, "targets": targets});
    let made = gateway
        .post(&gateway.api("/api/virtual-models"), &body)
        .await;
    assert_eq!(made.status(), 201);
}

fn names(rows: &Value) -> Vec<&str> {
    let rows = rows.as_array().expect("a list").iter();
    rows.map(|row| row["target"].as_str().expect("a name"))
        .collect()
}

/// Sends until the breaker of `model` is open.
async fn breaks(gateway: &TestGateway, listener: &mut Listener, model: &str) -> Value {
    for _ in 0..5 {
        let answer = gateway
            .client
            .post(gateway.router("/v1/chat/completions"))
            .header("x-qwarden-target", model)
            .header("x-qwarden-no-fallback", "true")
            .json(&say(model, "hi"));
        answer.send().await.expect("an answer");
        let health = gateway.get(&gateway.api("/api/health")).await.1;
        if health.to_string().contains("\"breaker\":\"open\"") {
            break;
        }
    }
    listener.until("provider:breaker_opened").await.data
}

#[tokio::test]
async fn a_plan_is_told_and_nothing_is_sent() {
    let (one, two) = (answering().await, answering().await);
    let gateway = TestGateway::start().await;
    gateway.provider("one", &one).await;
    gateway.provider("two", &two).await;
    let model = json!({"id": "small", "name": "Small"});
    gateway.post(&gateway.api("/api/models"), &model).await;
    let link = json!({"model_id": "small", "config": {"tools": false, "context_length": 1000}});
    gateway
        .post(&gateway.api("/api/providers/one/models"), &link)
        .await;
    virtual_model(&gateway, "priority", json!(["one/small", "two/big"])).await;

    let told = explained(&gateway, "", &say("coder", "hi")).await;
    assert_eq!(
        (
            &told["model"],
            &told["resolved"],
            &told["via"],
            &told["strategy"]
        ),
        (
            &json!("coder"),
            &json!("coder"),
            &json!("coder"),
            &json!("priority")
        )
    );
    assert_eq!(names(&told["targets"]), ["one/small", "two/big"]);
    assert_eq!(told["targets"][0]["reason"], "first in order");
    assert_eq!(told["skipped"], json!([]));
    assert_eq!(told["needs"]["tools"], false);

    // What a target lacks keeps it from being asked, as long as another one has it.
    let mut tools = say("coder", "hi");
    tools["tools"] =
        json!([{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]);
    let long = say("coder", &"word ".repeat(1_000));
    for (body, reason) in [
        (&tools, "it does not call tools"),
        (&long, "it holds 1000 tokens at most"),
    ] {
        let told = explained(&gateway, "", body).await;
        assert_eq!(names(&told["targets"]), ["two/big"]);
        let skipped = &told["skipped"][0];
        assert_eq!(
            (&skipped["target"], &skipped["why"], &skipped["reason"]),
            (&json!("one/small"), &json!("lacks"), &json!(reason))
        );
    }
    // The same wishes as a completion's, in headers or in the query.
    for query in [
        "?target=two/big,one/small",
        "?target=two%2Fbig&no_fallback=true",
    ] {
        let told = explained(&gateway, query, &say("coder", "hi")).await;
        assert_eq!(names(&told["targets"])[0], "two/big", "{query}");
        assert_eq!(told["via"], Value::Null);
    }
    let alone = explained(&gateway, "?no_fallback=true", &say("coder", "hi")).await;
    assert_eq!(
        (names(&alone["targets"]), names(&alone["skipped"])),
        (vec!["one/small"], vec!["two/big"])
    );
    assert_eq!(alone["skipped"][0]["why"], "no_fallback");

    // Refused as a completion would be.
    let (status, told) = explain(&gateway, "", &json!({"model": 7, "stream": "yes"})).await;
    assert_eq!(status, 400);
    assert!(
        told["error"]["errors"]
            .as_array()
            .is_some_and(|all| all.len() > 1),
        "{told}"
    );
    let (status, told) = explain(&gateway, "", &say("nobody/m", "hi")).await;
    let asked = gateway.chat(&say("nobody/m", "hi")).await;
    assert_eq!(asked.status(), status);
    let asked: Value = asked.json().await.expect("JSON");
    assert_eq!(told["error"]["code"], asked["error"]["code"]);

    assert!(one.completions().is_empty() && two.completions().is_empty());
    let user = User::of(&gateway);
    let shown = user.run(&["route", "coder", "--tools"]).await.ok();
    for part in [
        "the virtual model coder",
        "TARGET",
        "two/big",
        "it does not call tools",
    ] {
        assert!(shown.out.contains(part), "{shown:?}");
    }
    let words = ["route", "coder", "--tokens", "5000", "--image", "--json"];
    let told = user.run(&words).await.ok().json();
    assert_eq!(
        (names(&told["targets"]), &told["needs"]["vision"]),
        (vec!["two/big"], &json!(true))
    );
    gateway.stop().await;
}

#[tokio::test]
async fn every_name_is_listed_with_what_is_known_of_it() {
    let upstream = answering().await;
    let gateway = TestGateway::start().await;
    gateway.provider("one", &upstream).await;
    gateway.provider("two", &upstream).await;
    let model = json!({"id": "small", "name": "Small", "capabilities": ["code"]});
    gateway.post(&gateway.api("/api/models"), &model).await;
    let facts =
        json!({"tools": false, "context_length": 1000, "price": {"input": 1.5, "output": 2}});
    for (provider, config) in [("one", facts), ("two", json!({"context_length": 500}))] {
        let link = json!({"model_id": "small", "is_default": provider == "one", "config": config});
        let url = gateway.api(&format!("/api/providers/{provider}/models"));
        assert_eq!(gateway.post(&url, &link).await.status(), 201);
    }
    virtual_model(&gateway, "priority", json!(["one/small", "two/big"])).await;
    gateway.chat(&say("one/small", "hi")).await;
    let set = gateway.api("/api/settings/active_model");
    let set = gateway.client.put(set).json(&json!({"value": "coder"}));
    assert_eq!(set.send().await.expect("an answer").status(), 200);

    let told = gateway.get(&gateway.api("/api/route/models")).await.1;
    assert_eq!(told["default_model"], "coder");
    let all = told["models"].as_array().expect("a list");
    let named = |name: &str| {
        let mut same = all.iter().filter(|model| model["id"] == name);
        let found = same.next().unwrap_or_else(|| panic!("{name} in {told}"));
        assert!(same.next().is_none(), "{name} is listed once");
        found
    };
    assert!(all.iter().all(|model| model["id"] != "one/small"));
    let small = named("small");
    assert_eq!(small["is_virtual"], false);
    assert_eq!(small["context_length"], 500);
    assert_eq!(small["capabilities"], json!(["code"]));
    let (one, two) = (&small["providers"][0], &small["providers"][1]);
    assert_eq!(
        (&one["provider"], &one["is_default"]),
        (&json!("one"), &json!(true))
    );
    assert_eq!(
        (&one["tools"], &one["vision"]),
        (&json!(false), &Value::Null)
    );
    assert_eq!(one["price"]["input"], 1.5);
    assert_eq!(one["health"]["breaker"], "closed");
    assert!(one["health"]["latency_ms"].is_number(), "{one}");
    assert_eq!(
        (&two["provider"], &two["health"]),
        (&json!("two"), &Value::Null)
    );
    let coder = named("coder");
    assert_eq!(coder["is_virtual"], true);
    assert_eq!(coder["providers"][0]["provider"], "one");
    gateway.stop().await;
}

#[tokio::test]
async fn asking_takes_nobodys_turn() {
    let (one, two) = (answering().await, answering().await);
    for (strategy, reason) in [
        ("weighted", "its share is due: weight 3"),
        ("round_robin", "its turn"),
    ] {
        let gateway = TestGateway::start().await;
        gateway.provider("one", &one).await;
        gateway.provider("two", &two).await;
        let targets = json!([{"target": "one/m", "weight": 3}, {"target": "two/m", "weight": 1}]);
        virtual_model(&gateway, strategy, targets).await;
        let before = (one.completions().len(), two.completions().len());
        for _ in 0..4 {
            let mut told = Vec::new();
            for _ in 0..3 {
                let plan = explained(&gateway, "", &say("coder", "hi")).await;
                told.push(plan["targets"][0]["provider"].clone());
            }
            let answer = gateway.chat(&say("coder", "hi")).await;
            let served = answer.headers()["x-qwarden-provider"]
                .to_str()
                .expect("text")
                .to_owned();
            answer.bytes().await.expect("a body");
            assert_eq!(told, [&*served; 3], "{strategy}");
        }
        let plan = explained(&gateway, "", &say("coder", "hi")).await;
        assert_eq!(plan["targets"][0]["reason"], reason);
        let share = if strategy == "weighted" {
            (3, 1)
        } else {
            (2, 2)
        };
        assert_eq!(one.completions().len(), before.0 + share.0);
        assert_eq!(two.completions().len(), before.1 + share.1);
        gateway.stop().await;
    }
}

#[tokio::test]
async fn what_is_passed_over_is_told_with_why_and_until_when() {
    let upstream = answering().await;
    let busy = failing(429, &[("retry-after", "3600")]).await;
    let broken = failing(500, &[]).await;
    let gateway = TestGateway::start().await;
    let mut listener = Listener::of(&gateway, "?types=provider:*", None).await;
    gateway.provider("well", &upstream).await;
    gateway.provider("busy", &busy).await;
    gateway.provider("broken", &broken).await;
    let limited = json!({"id": "limited", "name": "limited", "type": "openai-compatible",
        "config": {"baseURL": upstream.base_url(), "requestsPerMinute": 1}});
    gateway.post(&gateway.api("/api/providers"), &limited).await;
    let targets = json!(["broken/m", "busy/m", "limited/m", "well/m"]);
    virtual_model(&gateway, "priority", targets).await;

    let opened = breaks(&gateway, &mut listener, "broken/m").await;
    assert_eq!(
        (&opened["provider"], &opened["model"], &opened["error"]),
        (&json!("broken"), &json!("m"), &json!("upstream_error"))
    );
    // The first finds out that `busy` is, perhaps without a retry left; the second uses up the limit.
    for _ in 0..3 {
        gateway
            .chat(&say("coder", "hi"))
            .await
            .bytes()
            .await
            .expect("a body");
    }
    let told = explained(&gateway, "", &say("coder", "hi")).await;
    assert_eq!(names(&told["targets"]), ["well/m"]);
    for (at, target, why, error) in [
        (0, "broken/m", "breaker_open", json!("upstream_error")),
        (1, "busy/m", "resting", json!("upstream_rate_limited")),
        (2, "limited/m", "limited", Value::Null),
    ] {
        let skipped = &told["skipped"][at];
        assert_eq!(
            (&skipped["target"], &skipped["why"], &skipped["last_error"]),
            (&json!(target), &json!(why), &error),
            "{told}"
        );
        let now = std::time::SystemTime::now();
        let now = now
            .duration_since(std::time::UNIX_EPOCH)
            .expect("after 1970");
        assert!(
            skipped["until"].as_u64().map(u128::from) > Some(now.as_millis()),
            "{told}"
        );
    }
    // The same is seen at the provider.
    let (_, shown) = gateway.get(&gateway.api("/api/providers/broken")).await;
    let model = &shown["health"]["models"][0];
    assert_eq!(
        (&model["model"], &model["breaker"]),
        (&json!("m"), &json!("open")),
        "{shown}"
    );
    assert_eq!(
        shown["health"]["breaker"], "closed",
        "only the model is at fault"
    );
    assert!(model["reopens_in_ms"].as_u64() > Some(0), "{shown}");
    let (_, shown) = gateway.get(&gateway.api("/api/providers/busy")).await;
    assert!(
        shown["health"]["models"][0]["resting_for_ms"].as_u64() > Some(3_000_000),
        "{shown}"
    );
    let (_, list) = gateway.get(&gateway.api("/api/providers?q=well")).await;
    let health = &list["providers"][0]["health"];
    assert_eq!(
        (&health["in_flight"], &health["waiting"]),
        (&json!(0), &json!(0))
    );
    assert!(
        health["models"][0]["latency_ms"].as_f64() > Some(0.0),
        "{list}"
    );
    let (_, health) = gateway.get(&gateway.api("/api/health")).await;
    assert_eq!(
        health["providers"]["broken"]["models"][0]["breaker"], "open",
        "{health}"
    );
    let user = User::of(&gateway);
    let shown = user.run(&["provider", "show", "broken"]).await.ok();
    assert!(
        shown.out.contains("open") && shown.out.contains("upstream_error"),
        "{shown:?}"
    );
    let doctor = user.run(&["doctor"]).await;
    assert!(doctor.out.contains("broken/m"), "{doctor:?}");
    let top = user.run(&["top", "--once"]).await.ok();
    assert!(top.out.contains("broken/m"), "{top:?}");
    gateway.stop().await;
}

#[tokio::test]
async fn who_says_that_nothing_remains_is_left_alone_until_the_reset() {
    let one = Upstream::start(|_| {
        let headers = vec![
            ("content-type", "application/json".to_owned()),
            ("x-ratelimit-remaining-requests", "0".to_owned()),
            ("x-ratelimit-reset-requests", "20s".to_owned()),
        ];
        vec![Step::Whole(
            200,
            headers,
            whole("Hello").to_string().into_bytes(),
        )]
    })
    .await;
    let two = answering().await;
    let gateway = TestGateway::start().await;
    gateway.provider("one", &one).await;
    gateway.provider("two", &two).await;
    virtual_model(&gateway, "priority", json!(["one/m", "two/m"])).await;
    for provider in ["one", "two", "two"] {
        let answer = gateway.chat(&say("coder", "hi")).await;
        assert_eq!(answer.headers()["x-qwarden-provider"], provider);
        answer.bytes().await.expect("a body");
    }
    assert_eq!(one.completions().len(), 1);
    let told = explained(&gateway, "", &say("coder", "hi")).await;
    assert_eq!(told["skipped"][0]["why"], "resting");
    assert_eq!(told["skipped"][0]["last_error"], "upstream_rate_limited");
    gateway.stop().await;
}

#[tokio::test]
async fn who_comes_back_is_found_by_asking_for_its_models() {
    let is_well = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let script = is_well.clone();
    let upstream = Upstream::start(move |_| {
        if script.load(std::sync::atomic::Ordering::SeqCst) {
            vec![json_answer(200, &whole("Hello"))]
        } else {
            vec![json_answer(500, &json!({"error": {"message": "no"}}))]
        }
    })
    .await;
    let gateway = TestGateway::start().await;
    let mut listener = Listener::of(&gateway, "?types=provider:*", None).await;
    gateway.provider("one", &upstream).await;
    for _ in 0..2 {
        gateway.chat(&say("one/m", "hi")).await;
    }
    let idle = upstream.listings();
    assert_eq!(idle, 0, "nobody is asked without need");
    breaks(&gateway, &mut listener, "one/m").await;
    let opened = std::time::Instant::now();
    is_well.store(true, std::sync::atomic::Ordering::SeqCst);
    let serving = async {
        loop {
            let answer = gateway.chat(&say("one/m", "hi")).await;
            let status = answer.status().as_u16();
            answer.bytes().await.expect("a body");
            if status == 200 {
                return;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, serving)
        .await
        .expect("it serves again");
    assert!(
        opened.elapsed() < Duration::from_secs(9),
        "sooner than the breaker alone"
    );
    listener.until("provider:breaker_closed").await;
    assert!(upstream.listings() > idle, "it was asked for its models");
    gateway.stop().await;
}

#[tokio::test]
async fn tags_are_kept_shown_and_searched_for() {
    let gateway = TestGateway::start().await;
    let ask = async |tags: &str| {
        let request = gateway.client.post(gateway.router("/v1/chat/completions"));
        let request = request
            .header("x-qwarden-tags", tags)
            .json(&say("echo", "hi"));
        let answer = request.send().await.expect("an answer");
        let (status, id) = (
            answer.status().as_u16(),
            answer.headers()["x-request-id"].clone(),
        );
        (
            status,
            id.to_str().expect("text").to_owned(),
            answer.json::<Value>().await.expect("JSON"),
        )
    };
    let (status, id, _) = ask("team=red, nightly").await;
    assert_eq!(status, 200);
    assert_eq!(ask("team=blue").await.0, 200);
    assert_eq!(ask("").await.0, 200);
    let (_, one) = gateway
        .get(&gateway.api(&format!("/api/requests/{id}")))
        .await;
    assert_eq!(one["tags"], json!({"team": "red", "nightly": "true"}));
    for (query, total) in [
        ("?tag=team:red", 1),
        ("?tag=team", 2),
        ("?tag=nightly", 1),
        ("?tag=nightly:true", 1),
        ("?tag=team:green", 0),
        ("?tag=replay_of", 0),
        ("", 3),
    ] {
        let (status, list) = gateway
            .get(&gateway.api(&format!("/api/requests{query}")))
            .await;
        assert_eq!((status, &list["total"]), (200, &json!(total)), "{query}");
    }
    let (_, list) = gateway
        .get(&gateway.api("/api/requests?tag=team:red"))
        .await;
    assert_eq!(list["requests"][0]["tags"]["team"], "red");
    let many: Vec<_> = (0..17).map(|number| format!("t{number}")).collect();
    for bad in [
        "=a",
        "a=1,a=2",
        &"x".repeat(65),
        &format!("a={}", "x".repeat(65)),
        &many.join(","),
    ] {
        let (status, _, told) = ask(bad).await;
        assert_eq!(
            (status, &told["error"]["param"]),
            (400, &json!("x-qwarden-tags")),
            "{bad} {told}"
        );
    }
    // A replay keeps what it repeats beside them.
    let again = gateway
        .post(
            &gateway.api(&format!("/api/requests/{id}/replay")),
            &json!({}),
        )
        .await;
    assert_eq!(again.status(), 200);
    let (_, one) = gateway
        .get(&gateway.api(&format!("/api/requests/{id}")))
        .await;
    assert_eq!(one["replays"].as_array().expect("ids").len(), 1);
    gateway.stop().await;
}
