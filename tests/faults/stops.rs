//! SIGTERM while an upstream says nothing (R29).

use std::time::{Duration, Instant};

use serde_json::json;

use crate::support::upstream::{Step, Upstream, delta, sse_head};
use crate::support::{PATIENCE, Service, figures, hear, say_streamed};

#[tokio::test(flavor = "multi_thread")]
async fn r29_a_hung_upstream_does_not_keep_it_from_ending() {
    const DRAIN: Duration = Duration::from_secs(1);
    let mut service = Service::start(&["--set", "server.drainTimeout=1000"]);
    let upstream = Upstream::start(|request| {
        let silent = request.json()["messages"][0]["content"] == "say nothing";
        if silent {
            vec![Step::Hang]
        } else {
            vec![sse_head(), Step::Chunk(delta("one").into()), Step::Hang]
        }
    })
    .await;
    service.provider("p1", &upstream).await;
    let mut begun = service.chat(&say_streamed("p1/fake", "hi")).await;
    let first = begun.chunk().await.expect("a chunk").expect("not the end");
    let waiting = {
        let request = service.client.post(service.completions());
        tokio::spawn(request.json(&json!({"model": "p1/fake", "messages": [{"role": "user", "content": "say nothing"}]})).send())
    };
    upstream.wait_for(2).await;
    let signalled = Instant::now();
    service.binary.signal("TERM");
    let rest = begun.text().await.expect("the body ends in order");
    let heard = hear(&format!("{}{rest}", String::from_utf8_lossy(&first)));
    assert_eq!(heard.errors.len(), 1, "{heard:?}");
    assert_eq!(heard.errors[0]["code"], "server_shutdown");
    assert_eq!(
        (heard.done, heard.finish_reasons.len()),
        (1, 0),
        "no end is made up"
    );
    let waited = waiting.await.expect("no panic").expect("an answer");
    assert_eq!(waited.status(), 503, "whoever waited is told");
    let status = tokio::task::block_in_place(|| service.binary.exit_within(PATIENCE));
    let took = signalled.elapsed();
    assert_eq!(status.expect("it ends").code(), Some(0));
    assert!(took < DRAIN + Duration::from_secs(2), "R29: {took:?}");
    figures::record(
        "R29",
        "SIGTERM to exit with two hung upstreams, drain 1 s",
        format!("{} ms", took.as_millis()),
    );
    service.restart();
    let database = service.database();
    let open: i64 = crate::support::read_cell(
        &database,
        "SELECT count(*) FROM responses WHERE error_code = 'server_shutdown'",
    );
    assert_eq!(open, 2, "both are told in the history");
}
