//! Tools over a chat that has none: told in the prompt, read out of the text.

use serde_json::{Value, json};

use super::{
    answer, ask, assert_clean, at, calls, chat, log_in, logged_in, streamed, user, with_tools,
};
use crate::support::site::{Play, Site, phase};
use crate::support::upstream::{Step, sse_head};

#[tokio::test(flavor = "multi_thread")]
async fn every_call_of_the_fixtures_is_read_as_its_readme_says() {
    let read = json!({"filePath": "src/main.rs", "offset": 0});
    let cases: Vec<(&str, Option<Value>)> = vec![
        ("native-call.sse", Some(json!([["read", read]]))),
        (
            "native-calls-fragments.sse",
            Some(json!([["read", {"filePath": "a.txt"}], ["bash", {"command": "ls"}]])),
        ),
        (
            "tool-call-parameters.sse",
            Some(json!([["write", {"filePath": "web/a.html",
            "content": "<p>if (a < b) { \"</tool_call>\" }</p>", "count": 42}]])),
        ),
        ("tool-call-cut.sse", None),
    ];
    for (name, expected) in cases {
        let site = Site::start(move |_| Play::Fixture(name)).await;
        let gateway = logged_in(&site, "u1").await;
        let (heard, chunks) = streamed(&gateway, with_tools(&[user("go")])).await;
        let got: Vec<Value> = calls(&chunks)
            .into_iter()
            .map(|(name, arguments)| json!([name, arguments]))
            .collect();
        assert_eq!(json!(got), expected.clone().unwrap_or(json!([])), "{name}");
        let finish: Vec<&str> = expected.iter().map(|_| "tool_calls").collect();
        assert_eq!(heard.finish_reasons, finish, "{name}");
        assert_eq!(
            heard.errors.len(),
            usize::from(expected.is_none()),
            "{name}"
        );
        assert!(!heard.text.contains("cannot use that tool"), "{name}");
        gateway.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn text_and_two_calls_come_in_order_and_whole() {
    let site = Site::start(|_| Play::Fixture("tool-calls.sse")).await;
    let gateway = logged_in(&site, "u1").await;
    let (heard, chunks) = streamed(&gateway, with_tools(&[user("go")])).await;
    assert_eq!(calls(&chunks).len(), 2);
    assert_eq!(heard.finish_reasons, ["tool_calls"]);
    assert!(!heard.text.contains("tool_call"), "{}", heard.text);
    let message = answer(&gateway, &with_tools(&[user("go, whole")])).await;
    assert_eq!(message["tool_calls"].as_array().map(Vec::len), Some(2));
    let mut one = with_tools(&[user("go, one by one")]);
    one["parallel_tool_calls"] = false.into();
    let first = answer(&gateway, &one).await;
    assert_eq!(first["tool_calls"].as_array().map(Vec::len), Some(1));
    assert!(message["content"].is_string());
    let prompt = &site.turns()[0].content;
    for part in ["filePath", "offset", "<tool_call>", "bash", "go"] {
        assert!(prompt.contains(part), "{prompt}");
    }
    assert_clean(&site);
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn content_beside_a_call_is_empty_text_never_null() {
    let site = Site::saying(
        "<tool_call>{\"name\": \"bash\", \"arguments\": {\"command\": \"ls\"}}</tool_call>",
    )
    .await;
    let gateway = logged_in(&site, "u1").await;
    let message = answer(&gateway, &with_tools(&[user("go")])).await;
    assert_eq!(
        (
            &message["content"],
            &message["tool_calls"][0]["function"]["name"]
        ),
        (&json!(""), &json!("bash"))
    );
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_intercepted_call_is_asked_for_again_in_the_other_notation() {
    let site = Site::start(|turn| {
        if turn.content.contains("<client_call>") || turn.before > 0 {
            return Play::says("<client_call>{\"name\": \"read\", \"arguments\": {\"filePath\": \"a\"}}</client_call>");
        }
        Play::Fixture("intercepted.sse")
    })
    .await;
    let gateway = logged_in(&site, "u1").await;
    let (heard, chunks) = streamed(&gateway, with_tools(&[user("go")])).await;
    assert_eq!(
        calls(&chunks),
        [("read".to_owned(), json!({"filePath": "a"}))]
    );
    assert!(!heard.text.contains("does not exist"), "{}", heard.text);
    assert_eq!(site.opened().len(), 2);
    // Remembered: the next conversation begins in that notation.
    streamed(&gateway, with_tools(&[user("another")])).await;
    assert_eq!(site.opened().len(), 3);
    // Without tools it is but a text.
    let site = Site::start(|_| Play::Fixture("intercepted.sse")).await;
    let plain = logged_in(&site, "u1").await;
    assert_eq!(
        answer(&plain, &chat(&[user("go")])).await["content"],
        "Tool read does not exists."
    );
    plain.stop().await;
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_cannot_be_read_is_asked_for_once_more() {
    let garbled = "Now.\n<tool_call>{\"name\": \"read\", \"arguments\": {{{]]</tool_call>";
    let site = Site::start(move |turn| match turn.before {
        0 => Play::says(garbled),
        _ => Play::says(
            "<tool_call>{\"name\": \"read\", \"arguments\": {\"filePath\": \"a\"}}</tool_call>",
        ),
    })
    .await;
    let gateway = logged_in(&site, "u1").await;
    let (heard, chunks) = streamed(&gateway, with_tools(&[user("go")])).await;
    assert_eq!(
        calls(&chunks),
        [("read".to_owned(), json!({"filePath": "a"}))]
    );
    assert_eq!(
        (heard.text.trim(), heard.finish_reasons.as_slice()),
        ("Now.", ["tool_calls".to_owned()].as_slice())
    );
    let turns = site.turns();
    assert_eq!((site.opened().len(), turns.len()), (1, 2));
    assert_eq!(turns[1].parent_id.as_ref(), Some(&turns[0].response_id));
    gateway.stop().await;
    // A model that does not learn: nothing is dropped, and it is not asked a third time.
    let site = Site::saying(garbled).await;
    let gateway = logged_in(&site, "u1").await;
    let (heard, _) = streamed(&gateway, with_tools(&[user("go")])).await;
    assert!(heard.text.contains("{{{]]"), "{}", heard.text);
    assert_eq!(
        (heard.finish_reasons.as_slice(), site.turns().len()),
        (["stop".to_owned()].as_slice(), 2)
    );
    gateway.stop().await;
    // The user may not want it.
    let gateway = at(&site, &[("tools.repeat", json!(false))]).await;
    log_in(&gateway, "default", "u1").await;
    streamed(&gateway, with_tools(&[user("go")])).await;
    assert_eq!(site.turns().len(), 3);
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_must_come_is_insisted_on_and_none_is_offered_when_none_may() {
    let site = Site::start(|turn| match turn.before {
        0 => Play::says("I would rather talk."),
        _ => Play::says(
            "<tool_call>{\"name\": \"bash\", \"arguments\": {\"command\": \"ls\"}}</tool_call>",
        ),
    })
    .await;
    let gateway = logged_in(&site, "u1").await;
    for choice in [
        json!("required"),
        json!({"type": "function", "function": {"name": "bash"}}),
    ] {
        let mut body = with_tools(&[user("go")]);
        body["tool_choice"] = choice;
        let (_, chunks) = streamed(&gateway, body).await;
        assert_eq!(
            calls(&chunks),
            [("bash".to_owned(), json!({"command": "ls"}))]
        );
    }
    let mut body = with_tools(&[user("no tools now")]);
    body["tool_choice"] = "none".into();
    let (heard, _) = streamed(&gateway, body).await;
    assert_eq!(heard.text, "I would rather talk.");
    let turns = site.turns();
    assert_eq!(turns.last().expect("turns").content, "no tools now");
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_is_told_only_once_it_is_whole() {
    let site = Site::start(|turn| {
        let created =
            json!({"response.created": {"chat_id": turn.chat_id, "response_id": turn.response_id}});
        let event = |data: &Value| Step::Chunk(format!("data: {data}\n\n").into_bytes());
        Play::Steps(vec![
            sse_head(),
            event(&created),
            event(&phase(
                "answer",
                "Before.\n<tool_call>{\"name\": \"bash\", \"arguments\": {\"command\": \"rm",
                "typing",
            )),
            Step::Gate,
            event(&phase("answer", " -i x\"}}</tool_call>", "typing")),
            event(&phase("answer", "", "finished")),
            Step::End,
        ])
    })
    .await;
    let gateway = logged_in(&site, "u1").await;
    let mut body = with_tools(&[user("go")]);
    body["stream"] = true.into();
    let mut response = ask(&gateway, &body).await;
    let mut text = String::new();
    while !text.contains("Before.") {
        let chunk = response.chunk().await.expect("a chunk").expect("not over");
        text.push_str(&String::from_utf8_lossy(&chunk));
    }
    assert!(!text.contains("bash"), "{text}");
    site.upstream.go(1);
    while let Some(chunk) = response.chunk().await.expect("a chunk") {
        text.push_str(&String::from_utf8_lossy(&chunk));
    }
    assert!(text.contains("rm -i x"), "{text}");
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_can_be_watched_as_it_is_written() {
    let site = Site::start(|turn| {
        let created = json!({"response.created": {"chat_id": turn.chat_id, "response_id": turn.response_id}});
        let event = |data: &Value| Step::Chunk(format!("data: {data}\n\n").into_bytes());
        let says = |text: &str| event(&phase("answer", text, "typing"));
        Play::Steps(vec![
            sse_head(),
            event(&created),
            says("<tool_call>{\"name\": \"bash\", \"arguments\": {\"command\": \"ls"),
            Step::Gate,
            says(" -l\"}}</tool_call>\n<tool_call>{'name': 'read', 'arguments': {'filePath': 'a'}}</tool_call>"),
            event(&phase("answer", "", "finished")),
            Step::End,
        ])
    })
    .await;
    let gateway = at(&site, &[("tools.streaming", json!("incremental"))]).await;
    log_in(&gateway, "default", "u1").await;
    let mut body = with_tools(&[user("go")]);
    body["stream"] = true.into();
    let mut response = ask(&gateway, &body).await;
    let mut text = String::new();
    while !text.contains("\\\"ls") {
        let chunk = response.chunk().await.expect("a chunk").expect("not over");
        text.push_str(&String::from_utf8_lossy(&chunk));
    }
    assert!(text.contains("bash") && !text.contains("-l"), "{text}");
    site.upstream.go(1);
    while let Some(chunk) = response.chunk().await.expect("a chunk") {
        text.push_str(&String::from_utf8_lossy(&chunk));
    }
    let chunks: Vec<Value> = text
        .lines()
        .filter_map(|line| serde_json::from_str(line.strip_prefix("data: ")?).ok())
        .collect();
    let expected = [
        ("bash".to_owned(), json!({"command": "ls -l"})),
        ("read".to_owned(), json!({"filePath": "a"})),
    ];
    assert_eq!(calls(&chunks), expected);
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_may_take_longer_to_write_than_an_upstream_may_be_silent() {
    const PIECES: usize = 14;
    let site = Site::start(|turn| {
        let created =
            json!({"response.created": {"chat_id": turn.chat_id, "response_id": turn.response_id}});
        let event = |data: &Value| Step::Chunk(format!("data: {data}\n\n").into_bytes());
        let says = |text: &str| event(&phase("answer", text, "typing"));
        let mut steps = vec![sse_head(), event(&created), says("Now.")];
        steps.push(says(
            "<tool_call>{\"name\": \"bash\", \"arguments\": {\"command\": \"",
        ));
        for _ in 0..PIECES {
            steps.extend([Step::Gate, says("ls ")]);
        }
        steps.extend([
            says("\"}}</tool_call>"),
            event(&phase("answer", "", "finished")),
            Step::End,
        ]);
        Play::Steps(steps)
    })
    .await;
    // An answer without an event for three seconds would be taken for dead; this call takes four.
    let gateway = at(&site, &[("server.timeout", json!(1000))]).await;
    log_in(&gateway, "default", "u1").await;
    let writing = async {
        for _ in 0..PIECES {
            tokio::time::sleep(std::time::Duration::from_millis(300)).await;
            site.upstream.go(1);
        }
    };
    let (((heard, chunks), ()), whole) = (
        tokio::join!(streamed(&gateway, with_tools(&[user("go")])), writing),
        json!({"command": "ls ".repeat(PIECES)}),
    );
    assert_eq!(calls(&chunks), [("bash".to_owned(), whole)], "{heard:?}");
    assert_eq!((heard.text.as_str(), heard.errors.len()), ("Now.", 0));
    gateway.stop().await;
}
