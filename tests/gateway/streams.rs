//! Streams that go wrong: the client gets all that came, then one error, then the end marker (R16, R17, R20).

use std::time::Duration;

use serde_json::json;

use crate::support::upstream::{DONE, Step, Upstream, delta, finish, sse_head};
use crate::support::{Heard, TestGateway, hear, say_streamed};

/// What a client hears when the upstream does `steps` after two words.
async fn after_two_words(gateway: &TestGateway, steps: Vec<Step>) -> Heard {
    let upstream = Upstream::start(move |_| {
        let mut all = vec![
            sse_head(),
            Step::Chunk(delta("one ").into()),
            Step::Chunk(delta("two").into()),
        ];
        all.extend(steps.iter().cloned());
        all
    })
    .await;
    let id = format!(
        "p{}",
        upstream
            .base_url()
            .rsplit(':')
            .next()
            .expect("a port")
            .trim_end_matches("/v1")
    );
    gateway.provider(&id, &upstream).await;
    let response = gateway
        .chat(&say_streamed(&format!("{id}/fake"), "hi"))
        .await;
    assert_eq!(response.status(), 200);
    hear(&response.text().await.expect("the body ends in order"))
}

fn assert_cut(heard: &Heard, what: &str) {
    assert_eq!(heard.text, "one two", "{what}");
    assert_eq!(heard.errors.len(), 1, "{what}: exactly one error");
    assert_eq!(heard.done, 1, "{what}: then the end marker");
    assert!(
        heard.finish_reasons.is_empty(),
        "{what}: no finish reason is made up"
    );
}

#[tokio::test]
async fn r16_a_stream_that_breaks_off_is_an_error_and_never_a_made_up_end() {
    let gateway = TestGateway::with(&[("server.timeout", json!(1000))]).await;
    let long = format!("data: {}\n\n", "x".repeat(2 << 20));
    let cases: Vec<(&str, Vec<Step>)> = vec![
        ("clean end without a terminator", vec![Step::End]),
        ("connection closed", vec![Step::Close]),
        ("reset", vec![Step::Reset]),
        ("silence", vec![Step::Hang]),
        (
            "half an event",
            vec![Step::Chunk(b"data: {\"cho".to_vec()), Step::End],
        ),
        (
            "not JSON",
            vec![Step::Chunk(b"data: garbage\n\n".to_vec()), Step::End],
        ),
        (
            "broken chunk framing",
            vec![Step::Raw(b"zz\r\noops".to_vec()), Step::Close],
        ),
        (
            "an event without end",
            vec![Step::Chunk(long.into_bytes()), Step::End],
        ),
        (
            "in-band error",
            vec![
                Step::Chunk(b"data: {\"error\":{\"message\":\"overloaded\"}}\n\n".to_vec()),
                Step::End,
            ],
        ),
    ];
    let count = i64::try_from(cases.len()).expect("few");
    for (what, steps) in cases {
        assert_cut(&after_two_words(&gateway, steps).await, what);
    }
    assert_eq!(
        gateway.cell::<i64>("SELECT count(*) FROM requests WHERE status = 'failed'"),
        count
    );
    assert_eq!(
        gateway.cell::<i64>(
            "SELECT count(*) FROM responses WHERE error IS NOT NULL AND finish_reason IS NULL"
        ),
        count
    );
    gateway.stop().await;
}

#[tokio::test]
async fn an_in_band_error_keeps_the_upstreams_words() {
    let gateway = TestGateway::start().await;
    let error =
        Step::Chunk(b"data: {\"error\":{\"message\":\"the model is overloaded\"}}\n\n".to_vec());
    let heard = after_two_words(&gateway, vec![error, Step::End]).await;
    assert!(
        heard.errors[0]["message"]
            .as_str()
            .expect("text")
            .contains("the model is overloaded")
    );
    gateway.stop().await;
}

#[tokio::test]
async fn a_finish_reason_without_an_end_marker_is_a_whole_answer() {
    let gateway = TestGateway::start().await;
    for steps in [
        vec![Step::Chunk(finish("length").into()), Step::End],
        vec![Step::Chunk(finish("length").into()), Step::Close],
    ] {
        let heard = after_two_words(&gateway, steps).await;
        assert_eq!(
            (heard.errors.len(), heard.done, heard.finish_reasons),
            (0, 1, vec!["length".to_owned()])
        );
    }
    gateway.stop().await;
}

#[tokio::test]
async fn what_comes_after_the_end_marker_is_not_forwarded() {
    let gateway = TestGateway::start().await;
    let steps = vec![
        Step::Chunk(format!("{}{DONE}{}", finish("stop"), delta("ghost")).into()),
        Step::End,
    ];
    assert_eq!(after_two_words(&gateway, steps).await.text, "one two");
    gateway.stop().await;
}

#[tokio::test]
async fn odd_but_legal_framing_is_read_and_bad_bytes_are_repaired() {
    let gateway = TestGateway::start().await;
    let mut bytes = b"\xef\xbb\xbf: hello\r\n\r\n".to_vec();
    bytes.extend_from_slice(delta("a ").replace('\n', "\r\n").as_bytes());
    bytes.extend_from_slice(delta("b ").replacen("data: ", "data:", 1).as_bytes());
    bytes.extend_from_slice(
        b"data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"\xff\"}}]}\n\n",
    );
    bytes.extend_from_slice(format!("{}{DONE}", finish("stop")).as_bytes());
    let upstream =
        Upstream::start(move |_| vec![sse_head(), Step::Chunk(bytes.clone()), Step::End]).await;
    gateway.provider("p1", &upstream).await;
    let got = gateway
        .chat(&say_streamed("p1/fake", "hi"))
        .await
        .text()
        .await
        .expect("UTF-8");
    let normal = got.replace("\r\n", "\n").replace("data:{", "data: {");
    let heard = hear(&normal);
    assert_eq!(heard.text, "a b \u{fffd}");
    assert_eq!((heard.done, heard.errors.len()), (1, 0));
    gateway.stop().await;
}

#[tokio::test]
async fn r20_a_client_that_leaves_cancels_the_upstream() {
    let gateway = TestGateway::start().await;
    let upstream =
        Upstream::start(|_| vec![sse_head(), Step::Chunk(delta("one").into()), Step::Hang]).await;
    gateway.provider("p1", &upstream).await;
    let mut response = gateway.chat(&say_streamed("p1/fake", "hi")).await;
    response.chunk().await.expect("a chunk");
    drop(response);
    upstream.hung_up(Duration::from_secs(1)).await;
    wait_for_status(&gateway, "client_closed", 1).await;

    // Also before the first byte, and for a plain request.
    let silent = Upstream::start(|_| vec![Step::Hang]).await;
    gateway.provider("p2", &silent).await;
    for (count, body) in [
        (1, say_streamed("p2/fake", "hi")),
        (2, crate::support::say("p2/fake", "hi")),
    ] {
        let request = gateway
            .client
            .post(gateway.router("/v1/chat/completions"))
            .json(&body);
        let asked = tokio::spawn(request.send());
        silent.wait_for(count).await;
        asked.abort();
        silent.hung_up(Duration::from_secs(1)).await;
    }
    wait_for_status(&gateway, "client_closed", 3).await;
    gateway.stop().await;
}

async fn wait_for_status(gateway: &TestGateway, status: &str, count: i64) {
    let sql = format!("SELECT count(*) FROM requests WHERE status = '{status}'");
    let waiting = async {
        while gateway.cell::<i64>(&sql) < count {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(crate::support::PATIENCE, waiting)
        .await
        .expect("the row is written");
}
