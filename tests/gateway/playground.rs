//! Completions for whoever manages: the same exchange as on the router port, behind management's guards.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::upstream::{DONE, Step, Upstream, delta, finish, sse_head};
use crate::support::{TestGateway, hear, say, say_streamed};

const PATH: &str = "/api/chat/completions";

#[tokio::test]
async fn it_streams_what_the_router_port_would_and_is_in_the_history() {
    let gateway = TestGateway::start().await;
    let answer = format!("{}{}{DONE}", delta("Hello"), finish("stop"));
    let upstream =
        Upstream::start(move |_| vec![sse_head(), Step::Chunk(answer.clone().into()), Step::End])
            .await;
    gateway.provider("p1", &upstream).await;
    // Pictures are longer than any change.
    let picture = format!("data:image/png;base64,{}", "A".repeat(2 << 20));
    let mut body = say_streamed("p1/fake", "hi");
    body["messages"] = json!([{"role": "user", "content": [
        {"type": "text", "text": "what is this?"}, {"type": "image_url", "image_url": {"url": picture}}]}]);
    let response = gateway.post(&gateway.api(PATH), &body).await;
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    assert_eq!(response.headers()["x-qwarden-provider"], "p1");
    let id = response.headers()["x-request-id"].to_str().expect("text");
    let id = id.to_owned();
    let heard = hear(&response.text().await.expect("a stream"));
    assert_eq!((heard.text.as_str(), heard.done), ("Hello", 1));
    let (status, shown) = gateway
        .get(&gateway.api(&format!("/api/requests/{id}")))
        .await;
    assert_eq!(status, 200);
    assert_eq!(shown["path"], "/v1/chat/completions");
    assert_eq!(shown["status"], "completed");
    gateway.stop().await;
}

#[tokio::test]
async fn pages_of_others_and_forms_are_refused() {
    let gateway = TestGateway::start().await;
    let upstream = Upstream::start(|_| vec![Step::Hang]).await;
    gateway.provider("p1", &upstream).await;
    for (header, value, status) in [
        ("origin", "https://evil.example", 403),
        ("content-type", "text/plain", 415),
    ] {
        let request = gateway
            .client
            .post(gateway.api(PATH))
            .header("content-type", "application/json");
        let mut request = request.build().expect("a request");
        let headers = request.headers_mut();
        headers.insert(header, value.parse().expect("a value"));
        *request.body_mut() = Some(say("p1/fake", "hi").to_string().into());
        let response = gateway.client.execute(request).await.expect("an answer");
        assert_eq!(response.status(), status, "{header}");
        let told: Value = response.json().await.expect("JSON");
        assert!(told["error"]["code"].is_string(), "{told}");
    }
    assert!(upstream.completions().is_empty());
    gateway.stop().await;
}

#[tokio::test]
async fn who_stops_waiting_stops_the_upstream() {
    let gateway = TestGateway::start().await;
    let silent = Upstream::start(|_| vec![Step::Hang]).await;
    gateway.provider("p1", &silent).await;
    for (count, body) in [
        (1, say_streamed("p1/fake", "hi")),
        (2, say("p1/fake", "hi")),
    ] {
        let request = gateway.client.post(gateway.api(PATH)).json(&body);
        let asked = tokio::spawn(request.send());
        silent.wait_for(count).await;
        asked.abort();
        silent.hung_up(Duration::from_secs(5)).await;
    }
    gateway.stop().await;
}
