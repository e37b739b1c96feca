//! Another target is asked beside one that takes unusually long, when the user wants that.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::upstream::{Received, Step, Upstream, json_answer, whole};
use crate::support::{TestGateway, say, say_streamed};

fn said(request: &Received) -> String {
    let body = request.json();
    let text = body["messages"][0]["content"].as_str();
    text.unwrap_or_default().to_owned()
}

/// Two providers of one name, of which the first has answered often enough to be known as quick.
async fn gateway(hedge: bool, first: &Upstream, second: &Upstream) -> TestGateway {
    let gateway = TestGateway::with(&[("routing.hedge", json!(hedge))]).await;
    gateway.provider("p1", first).await;
    gateway.provider("p2", second).await;
    let both = json!({"name": "both", "targets": [{"target": "p1/fake"}, {"target": "p2/fake"}]});
    let made = gateway
        .post(&gateway.api("/api/virtual-models"), &both)
        .await;
    assert_eq!(made.status(), 201);
    for number in 0..20 {
        let answer = gateway.chat(&say("both", &format!("quick {number}"))).await;
        assert_eq!(answer.headers()["x-qwarden-provider"], "p1");
    }
    gateway
}

async fn attempts(gateway: &TestGateway, id: &str) -> Vec<(Value, Value)> {
    let (_, shown) = gateway
        .get(&gateway.api(&format!("/api/requests/{id}")))
        .await;
    let rows = shown["attempts"].as_array().expect("attempts");
    rows.iter()
        .map(|row| (row["provider_id"].clone(), row["outcome"].clone()))
        .collect()
}

fn id_of(answer: &reqwest::Response) -> String {
    answer.headers()["x-request-id"]
        .to_str()
        .expect("text")
        .to_owned()
}

#[tokio::test]
async fn who_takes_unusually_long_is_overtaken_and_let_go() {
    let first = Upstream::start(|request| match said(request).as_str() {
        "slow" => vec![Step::Hang],
        text => vec![json_answer(200, &whole(text))],
    })
    .await;
    let second =
        Upstream::start(|request| vec![json_answer(200, &whole(&format!("2: {}", said(request))))])
            .await;
    let gateway = gateway(true, &first, &second).await;
    let answer = gateway.chat(&say("both", "slow")).await;
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.headers()["x-qwarden-provider"], "p2");
    assert_eq!(answer.headers()["x-qwarden-attempts"], "2");
    let id = id_of(&answer);
    let body: Value = answer.json().await.expect("JSON");
    assert_eq!(body["choices"][0]["message"]["content"], "2: slow");
    first.hung_up(Duration::from_secs(5)).await;
    let expected = [
        (json!("p1"), json!("cancelled")),
        (json!("p2"), json!("succeeded")),
    ];
    assert_eq!(attempts(&gateway, &id).await, expected);
    assert_eq!(
        (first.completions().len(), second.completions().len()),
        (21, 1)
    );
    gateway.stop().await;
}

#[tokio::test]
async fn the_first_still_counts_when_the_other_fails() {
    let first = Upstream::start(|request| match said(request).as_str() {
        "slow" => vec![Step::Gate, json_answer(200, &whole("at last"))],
        text => vec![json_answer(200, &whole(text))],
    })
    .await;
    let second =
        Upstream::start(|_| vec![json_answer(500, &json!({"error": {"message": "broken"}}))]).await;
    let gateway = gateway(true, &first, &second).await;
    let body = say("both", "slow");
    let asking = gateway.chat(&body);
    let (answer, ()) = tokio::join!(asking, async {
        second.wait_for(1).await;
        first.go(1);
    });
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.headers()["x-qwarden-provider"], "p1");
    let id = id_of(&answer);
    let body: Value = answer.json().await.expect("JSON");
    assert_eq!(body["choices"][0]["message"]["content"], "at last");
    let expected = [
        (json!("p1"), json!("succeeded")),
        (json!("p2"), json!("failed")),
    ];
    assert_eq!(attempts(&gateway, &id).await, expected);
    gateway.stop().await;
}

#[tokio::test]
async fn nobody_is_asked_twice_unasked_nor_for_a_stream() {
    for (hedge, streamed) in [(false, false), (true, true)] {
        let first = Upstream::start(|request| match said(request).as_str() {
            "slow" => vec![Step::Gate, Step::Reset],
            text => vec![json_answer(200, &whole(text))],
        })
        .await;
        let second =
            Upstream::start(|_| vec![json_answer(400, &json!({"error": {"message": "asked"}}))])
                .await;
        let gateway = gateway(hedge, &first, &second).await;
        let body = if streamed {
            say_streamed("both", "slow")
        } else {
            say("both", "slow")
        };
        let asking = gateway.chat(&body);
        let (answer, ()) = tokio::join!(asking, async {
            first.wait_for(21).await;
            assert!(second.completions().is_empty());
            first.go(1);
        });
        // Only once the first one has failed.
        assert_eq!(answer.status(), 400);
        gateway.stop().await;
    }
}
