//! What exchanges cost, and how much clients' keys may use.

use reqwest::{Method, Response};
use serde_json::{Value, json};

use crate::support::upstream::{
    DONE, Step, Upstream, delta, finish, json_answer, sse_head, usage, whole,
};
use crate::support::{TestGateway, say, say_streamed};

/// Each answer takes a thousand tokens in and a hundred out.
async fn upstream() -> Upstream {
    Upstream::start(|request| {
        if request.json()["stream"] == json!(true) {
            let told = usage(1_000, 100);
            let text = format!("{}{}{told}{DONE}", delta("hi"), finish("stop"));
            return vec![sse_head(), Step::Chunk(text.into_bytes()), Step::End];
        }
        let mut answer = whole("hi");
        answer["usage"] = json!({"prompt_tokens": 1_000, "completion_tokens": 100, "total_tokens": 1_100,
            "prompt_tokens_details": {"cached_tokens": 400}});
        vec![json_answer(200, &answer)]
    })
    .await
}

/// Registers `upstream` as a provider of the type `openai`.
async fn vendor(gateway: &TestGateway, id: &str, upstream: &Upstream) {
    let config = json!({"baseURL": upstream.base_url(), "apiKey": "sk-upstream"});
    let body = json!({"id": id, "name": id, "type": "openai", "config": config});
    let response = gateway.post(&gateway.api("/api/providers"), &body).await;
    assert_eq!(response.status(), 201);
}

async fn call(gateway: &TestGateway, method: Method, path: &str, body: &Value) -> (u16, Value) {
    let request = gateway.client.request(method, gateway.api(path)).json(body);
    let response = request.send().await.expect("an answer");
    let status = response.status().as_u16();
    (status, response.json().await.expect("JSON"))
}

async fn complete(gateway: &TestGateway, key: &str, body: &Value) -> Response {
    let request = gateway.client.post(gateway.router("/v1/chat/completions"));
    let request = request.bearer_auth(key).json(body);
    request.send().await.expect("an answer")
}

fn required() -> [(&'static str, Value); 1] {
    [("auth.requireKeys", json!("always"))]
}

/// A key with these budgets: its id, and the key.
async fn key(gateway: &TestGateway, mut body: Value) -> (String, String) {
    body["name"] = json!("Laptop");
    let (status, made) = call(gateway, Method::POST, "/api/keys", &body).await;
    assert_eq!(status, 201, "{made}");
    let text = |name: &str| made[name].as_str().expect("text").to_owned();
    (text("id"), text("key"))
}

/// The code and the words of a refusal for a budget, checked to be one that no client waits for.
async fn refusal(response: Response) -> (String, String) {
    assert_eq!(response.status(), 429);
    let header = |name: &str| {
        let value = response.headers().get(name).expect("a header");
        value.to_str().expect("text").to_owned()
    };
    let after: u64 = header("retry-after").parse().expect("seconds");
    assert!((1..=31 * 86_400).contains(&after), "{after}");
    assert_eq!(header("x-should-retry") == "false", after > 60);
    let body: Value = response.json().await.expect("JSON");
    let text = |name: &str| body["error"][name].as_str().expect("text").to_owned();
    (text("code"), text("message"))
}

#[tokio::test]
async fn what_an_exchange_cost_is_in_rows_sums_and_exports() {
    let gateway = TestGateway::start().await;
    let upstream = upstream().await;
    vendor(&gateway, "openai", &upstream).await;
    for body in [
        say("openai/gpt-4o", "hi"),
        say_streamed("openai/gpt-4o", "hi"),
        say("openai/nobody-knows-it", "hi"),
        say("echo", "hi"),
    ] {
        let response = gateway.chat(&body).await;
        assert_eq!(response.status(), 200);
        response.bytes().await.expect("a body");
    }
    let costs: String = gateway.cell(
        "SELECT group_concat(coalesce(cost_microusd, 'null'), ' ') FROM (SELECT cost_microusd FROM responses ORDER BY id)",
    );
    // 600 and 400 cached at 2.5 and 1.25 dollars, 100 at 10; then nothing from the cache; then an unknown price.
    assert_eq!(costs, "3000 3500 null 0");
    let (_, sums) = gateway
        .get(&gateway.api("/api/responses/stats?group_by=provider"))
        .await;
    assert_eq!(sums["cost_microusd"], 6_500);
    let of_openai = sums["groups"].as_array().expect("groups");
    let of_openai = of_openai.iter().find(|group| group["key"] == "openai");
    assert_eq!(of_openai.expect("a group")["cost_microusd"], 6_500);
    let (_, list) = gateway
        .get(&gateway.api("/api/requests?model=openai/gpt-4o"))
        .await;
    assert_eq!(
        list["requests"][1]["response_summary"]["cost_microusd"],
        3_000
    );
    let export = gateway
        .client
        .get(gateway.api("/api/requests/export?format=csv"));
    let export = export.send().await.expect("an answer");
    let export = export.text().await.expect("text");
    let mut lines = export.lines();
    let columns: Vec<_> = lines.next().expect("a head").split(',').collect();
    let place = columns.iter().position(|column| *column == "cost_microusd");
    let place = place.expect("the column");
    let told: Vec<_> = lines
        .filter_map(|line| line.split(',').nth(place))
        .collect();
    assert!(told.contains(&"3000") && told.contains(&"3500"), "{told:?}");
    gateway.stop().await;
}

#[tokio::test]
async fn an_attempt_that_failed_costs_what_it_told() {
    let gateway = TestGateway::start().await;
    let broken = Upstream::start(|_| {
        // Some tell their usage all along.
        let told = format!("{}{}", delta("Well, "), usage(1_000, 10));
        vec![sse_head(), Step::Chunk(told.into_bytes()), Step::Close]
    })
    .await;
    let sound = upstream().await;
    vendor(&gateway, "broken", &broken).await;
    vendor(&gateway, "sound", &sound).await;
    let request = gateway.client.post(gateway.router("/v1/chat/completions"));
    let request = request.header("x-qwarden-target", "broken/gpt-4o, sound/gpt-4o");
    let response = request.json(&say_streamed("gpt-4o", "hi")).send().await;
    let text = response.expect("an answer").text().await.expect("text");
    assert!(text.contains("[DONE]"), "{text}");
    let row = "SELECT attempts || ' ' || total_tokens || ' ' || cost_microusd FROM responses";
    // 1000 at 2.5 and 10 at 10 dollars, then what the sound one told.
    assert_eq!(gateway.cell::<String>(row), "2 1100 6100");
    gateway.stop().await;
}

#[tokio::test]
async fn a_link_says_what_a_model_costs_and_can_do() {
    let gateway = TestGateway::start().await;
    let upstream = upstream().await;
    gateway.provider("mine", &upstream).await;
    let model = json!({"id": "own", "name": "Own"});
    assert_eq!(
        call(&gateway, Method::POST, "/api/models", &model).await.0,
        201
    );
    let link = |config: Value| json!({"model_id": "own", "config": config});
    let path = "/api/providers/mine/models";
    for (config, key) in [
        (
            json!({"price": {"input": -1, "output": 1}}),
            "config.price.input",
        ),
        (json!({"price": 7}), "config.price"),
        (json!({"context_length": "long"}), "config.context_length"),
        (json!({"tools": "yes"}), "config.tools"),
    ] {
        let (status, body) = call(&gateway, Method::POST, path, &link(config)).await;
        assert_eq!(
            (status, &body["error"]["param"]),
            (422, &json!(key)),
            "{body}"
        );
    }
    let config = json!({"price": {"input": 1, "output": 2, "cached_input": 0}, "tools": false});
    assert_eq!(
        call(&gateway, Method::POST, path, &link(config)).await.0,
        201
    );
    assert_eq!(gateway.chat(&say("mine/own", "hi")).await.status(), 200);
    assert_eq!(
        gateway.cell::<i64>("SELECT cost_microusd FROM responses"),
        800
    );
    gateway.stop().await;
}

#[tokio::test]
async fn a_key_that_used_up_its_tokens_is_refused_also_after_a_restart() {
    let gateway = TestGateway::with(&required()).await;
    let upstream = upstream().await;
    vendor(&gateway, "openai", &upstream).await;
    let (id, secret) = key(&gateway, json!({"tokens_per_day": 2_000})).await;
    let (_, other) = key(&gateway, json!({"tokens_per_month": 0})).await;
    let ask = say("openai/gpt-4o", "hi");
    for _ in 0..2 {
        let response = complete(&gateway, &secret, &ask).await;
        assert_eq!(response.status(), 200);
        response.bytes().await.expect("a body");
    }
    let told = refusal(complete(&gateway, &secret, &ask).await).await;
    assert_eq!(told.0, "budget_exhausted");
    assert!(
        told.1.contains("2000 tokens per day") && told.1.contains("T00:00:00.000Z"),
        "{told:?}"
    );
    let told = refusal(complete(&gateway, &other, &ask).await).await;
    assert!(told.1.contains("0 tokens per month"), "{told:?}");
    // A list costs nothing.
    let models = gateway
        .client
        .get(gateway.router("/v1/models"))
        .bearer_auth(&secret);
    assert_eq!(models.send().await.expect("an answer").status(), 200);
    let path = format!("/api/keys/{id}");
    let (_, shown) = gateway.get(&gateway.api(&path)).await;
    let used = &shown["usage"]["today"];
    assert_eq!(
        (&used["requests"], &used["tokens"], &used["cost"]),
        (&json!(2), &json!(2_200), &json!(0.006))
    );
    let (_, list) = gateway.get(&gateway.api("/api/keys")).await;
    assert_eq!(list["keys"][0]["usage"], shown["usage"]);
    let (_, history) = gateway
        .get(&gateway.api(&format!("/api/requests?key={id}")))
        .await;
    assert_eq!(
        (&history["total"], &history["requests"][0]["key_id"]),
        (&json!(2), &json!(id))
    );

    let gateway = TestGateway::reopened(gateway.stop().await, &required()).await;
    let told = refusal(complete(&gateway, &secret, &ask).await).await;
    assert!(told.1.contains("2000 tokens per day"), "{told:?}");
    let (_, again) = gateway.get(&gateway.api(&path)).await;
    assert_eq!(again["usage"], shown["usage"]);
    let (_, changed) = call(
        &gateway,
        Method::PUT,
        &path,
        &json!({"tokens_per_day": null}),
    )
    .await;
    assert_eq!(changed["usage"], shown["usage"]);
    assert_eq!(complete(&gateway, &secret, &ask).await.status(), 200);
    assert_eq!(
        call(&gateway, Method::DELETE, &path, &json!({})).await.0,
        200
    );
    let left = "SELECT (SELECT count(*) FROM key_usage WHERE key_id <> '') || ' ' || (SELECT count(*) FROM requests WHERE key_id IS NOT NULL)";
    assert_eq!(gateway.cell::<String>(left), "0 3");
    gateway.stop().await;
}

#[tokio::test]
async fn a_key_that_used_up_its_dollars_is_refused_until_it_gets_more() {
    let gateway = TestGateway::with(&required()).await;
    let upstream = upstream().await;
    vendor(&gateway, "openai", &upstream).await;
    let budgets = json!({"cost_per_day": 5, "cost_per_month": 0.003});
    let (id, secret) = key(&gateway, budgets).await;
    let ask = say_streamed("openai/gpt-4o", "hi");
    let response = complete(&gateway, &secret, &ask).await;
    assert_eq!(response.status(), 200);
    response.bytes().await.expect("a body");
    let told = refusal(complete(&gateway, &secret, &ask).await).await;
    assert!(told.1.contains("$0.003 per month"), "{told:?}");
    let path = format!("/api/keys/{id}");
    let (status, changed) = call(
        &gateway,
        Method::PUT,
        &path,
        &json!({"cost_per_month": 1.5}),
    )
    .await;
    assert_eq!(
        (status, &changed["cost_per_month"], &changed["cost_per_day"]),
        (200, &json!(1.5), &json!(5.0))
    );
    assert_eq!(complete(&gateway, &secret, &ask).await.status(), 200);
    gateway.stop().await;
}

#[tokio::test]
async fn what_the_cache_gives_counts_for_nothing() {
    let mut settings = required().to_vec();
    settings.push(("cache.enabled", json!(true)));
    let gateway = TestGateway::with(&settings).await;
    let upstream = upstream().await;
    vendor(&gateway, "openai", &upstream).await;
    let (id, secret) = key(&gateway, json!({})).await;
    let mut ask = say("openai/gpt-4o", "hi");
    ask["temperature"] = json!(0);
    for _ in 0..2 {
        let response = complete(&gateway, &secret, &ask).await;
        response.bytes().await.expect("a body");
    }
    assert_eq!(upstream.completions().len(), 1);
    let costs = "SELECT group_concat(cost_microusd, ' ') FROM (SELECT cost_microusd FROM responses ORDER BY id)";
    assert_eq!(gateway.cell::<String>(costs), "3000 0");
    let (_, shown) = gateway.get(&gateway.api(&format!("/api/keys/{id}"))).await;
    let used = &shown["usage"]["today"];
    assert_eq!(
        (&used["requests"], &used["tokens"], &used["cost"]),
        (&json!(2), &json!(1_100), &json!(0.003))
    );
    gateway.stop().await;
}
