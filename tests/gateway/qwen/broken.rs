//! Answers whose connection dies, and those that end before the site does.

use serde_json::{Value, json};

use super::{
    answer, ask, assert_clean, at, calls, chat, log_in, logged_in, reasoning, streamed, user,
    with_tools,
};
use crate::support::site::{Play, Site, fixture, jwt, phase};
use crate::support::upstream::{Step, sse_head};

fn says(text: &str) -> Value {
    phase("answer", text, "typing")
}

fn end() -> Value {
    phase("answer", "", "finished")
}

/// An answer that breaks, and what it was going to be.
struct Broken {
    what: &'static str,
    came: Vec<Value>,
    how: Step,
    whole: Vec<Value>,
    text: &'static str,
    reasoning: &'static str,
    calls: Value,
}

fn broken() -> Vec<Broken> {
    let fragment = |arguments: &str| {
        json!({"choices": [{"delta": {"role": "assistant", "content": "", "phase": "tool_call", "status": "typing",
            "tool_calls": [{"index": 0, "id": "c0", "function": {"name": "read", "arguments": arguments}}]}}]})
    };
    let thought = |text: &str| phase("think", text, "typing");
    vec![
        Broken {
            what: "in text",
            came: vec![says("The first half")],
            how: Step::Close,
            whole: vec![
                says("The first"),
                says(" half and"),
                says(" the second."),
                end(),
            ],
            text: "The first half and the second.",
            reasoning: "",
            calls: json!([]),
        },
        Broken {
            what: "in text, reset, after thinking",
            came: vec![thought("I think"), says("One, ")],
            how: Step::Reset,
            whole: vec![
                thought("I "),
                thought("think"),
                says("One, two"),
                says("."),
                end(),
            ],
            text: "One, two.",
            reasoning: "I think",
            calls: json!([]),
        },
        Broken {
            what: "in reasoning",
            came: vec![thought("I thi")],
            how: Step::Close,
            whole: vec![thought("I think so"), says("Yes."), end()],
            text: "Yes.",
            reasoning: "I think so",
            calls: json!([]),
        },
        Broken {
            what: "in a call",
            came: vec![says(
                "Now.\n<tool_call>{\"name\": \"bash\", \"arguments\": {\"comm",
            )],
            how: Step::Close,
            whole: vec![
                says("Now.\n<tool_call>{\"name\": \"bash\", "),
                says("\"arguments\": {\"command\": \"ls\"}}</tool_call>"),
                end(),
            ],
            text: "Now.",
            reasoning: "",
            calls: json!([["bash", {"command": "ls"}]]),
        },
        Broken {
            what: "in a call of the site's own form",
            came: vec![fragment("{\"filePath\":")],
            how: Step::Reset,
            whole: vec![fragment("{\"filePath\":"), fragment("\"a\"}"), end()],
            text: "",
            reasoning: "",
            calls: json!([["read", {"filePath": "a"}]]),
        },
        Broken {
            what: "before the first word",
            came: Vec::new(),
            how: Step::Close,
            whole: vec![says("All of it."), end()],
            text: "All of it.",
            reasoning: "",
            calls: json!([]),
        },
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_whose_connection_died_is_asked_for_again_and_goes_on() {
    for broken in broken() {
        let (what, came, how) = (broken.what, broken.came, broken.how);
        let site = Site::start(move |_| Play::Breaks(came.clone(), how.clone())).await;
        let whole = broken.whole;
        site.resumes(move |_| Play::Events(whole.clone()));
        let gateway = logged_in(&site, "u1").await;
        let (heard, chunks) = streamed(&gateway, with_tools(&[user("go")])).await;
        assert_eq!(heard.text, broken.text, "{what}: {heard:?}");
        assert_eq!(reasoning(&chunks), broken.reasoning, "{what}");
        let got: Vec<Value> = calls(&chunks)
            .into_iter()
            .map(|(name, arguments)| json!([name, arguments]))
            .collect();
        assert_eq!(json!(got), broken.calls, "{what}");
        assert_eq!(
            (heard.errors.len(), heard.finish_reasons.len()),
            (0, 1),
            "{what}"
        );
        let turns = site.turns();
        assert_eq!(turns.len(), 1, "{what}: nothing is asked twice");
        assert_eq!(site.resumed(), [turns[0].response_id.clone()], "{what}");
        assert_clean(&site);
        gateway.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_go_on_from_what_was_told_is_an_error() {
    let resumes: [(&str, Option<Play>); 3] = [
        ("refused", None),
        (
            "another answer",
            Some(Play::Events(vec![says("The first of May."), end()])),
        ),
        (
            "broken again",
            Some(Play::Breaks(vec![says("The first half and")], Step::Reset)),
        ),
    ];
    for (what, play) in resumes {
        let site = Site::start(|_| Play::Breaks(vec![says("The first half")], Step::Close)).await;
        let heard_first = matches!(&play, Some(Play::Breaks(..)));
        if let Some(play) = play {
            site.resumes(move |_| play.clone());
        }
        let gateway = logged_in(&site, "u1").await;
        let (heard, _) = streamed(&gateway, chat(&[user("go")])).await;
        let text = if heard_first {
            "The first half and"
        } else {
            "The first half"
        };
        assert_eq!(
            (heard.text.as_str(), heard.errors.len()),
            (text, 1),
            "{what}"
        );
        assert!(heard.finish_reasons.is_empty(), "{what}");
        assert_eq!(site.resumed().len(), 1, "{what}: once");
        gateway.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_answer_is_tried_once_more_and_then_is_a_limit() {
    let nothings: [fn() -> Play; 4] = [
        || Play::Fixture("empty.sse"),
        || Play::Steps(vec![sse_head(), Step::End]),
        || Play::Breaks(Vec::new(), Step::End),
        || Play::Body(200, "text/plain", String::new()),
    ];
    for (number, nothing) in nothings.into_iter().enumerate() {
        let throttled = jwt("u1", super::LATER);
        let site = Site::start(move |turn| {
            if turn.token == throttled {
                return nothing();
            }
            Play::says("from the other")
        })
        .await;
        let gateway = logged_in(&site, "u1").await;
        let response = ask(&gateway, &chat(&[user("go")])).await;
        assert_eq!(response.status(), 429, "{number}");
        assert!(response.headers().contains_key("retry-after"));
        assert_eq!(response.headers()["x-should-retry"], "true");
        let error: Value = response.json().await.expect("JSON");
        assert_eq!(error["error"]["code"], "qwen_throttled", "{number}");
        assert_eq!(
            (site.turns().len(), site.opened().len()),
            (2, 2),
            "{number}"
        );
        // Now it is left alone for a moment.
        let response = ask(&gateway, &chat(&[user("go")])).await;
        assert_eq!(response.status(), 429);
        let seconds: u64 = response.headers()["retry-after"]
            .to_str()
            .expect("text")
            .parse()
            .expect("seconds");
        assert!((20..=60).contains(&seconds), "{number}: {seconds}");
        assert_eq!(site.turns().len(), 2, "{number}");
        gateway.stop().await;
        // With another login the second try is that one's.
        let gateway = at(&site, &[]).await;
        log_in(&gateway, "a", "u1").await;
        log_in(&gateway, "b", "u2").await;
        for (text, turns) in [("go", 4), ("again", 5)] {
            let message = answer(&gateway, &chat(&[user(text)])).await;
            assert_eq!(message["content"], "from the other", "{number}");
            assert_eq!(site.turns().len(), turns, "{number}: the first rests");
        }
        gateway.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_is_complete_ends_the_answer() {
    const CALL: &str =
        "<tool_call>{\"name\": \"bash\", \"arguments\": {\"command\": \"ls\"}}</tool_call>";
    let invented = vec![says(CALL), says("\n<tool_response name=\"bash\">\ninven")];
    let second = vec![says(CALL), says("\n<tool_call>{\"name\": \"ba")];
    for (events, parallel) in [(invented, true), (second, false)] {
        let site = Site::start(move |turn| match turn.before {
            0 => Play::Breaks(events.clone(), Step::Hang),
            _ => Play::says("Done."),
        })
        .await;
        let gateway = logged_in(&site, "u1").await;
        let mut body = with_tools(&[user("go")]);
        body["parallel_tool_calls"] = parallel.into();
        let message = answer(&gateway, &body).await;
        assert_eq!(message["tool_calls"].as_array().map(Vec::len), Some(1));
        assert_eq!(message["content"], "");
        site.upstream.hung_up(crate::support::PATIENCE).await;
        assert_eq!(site.stopped(), site.opened());
        // And the chat goes on.
        let id = message["tool_calls"][0]["id"].clone();
        let result = json!({"role": "tool", "tool_call_id": id, "content": "a.txt"});
        let mut next = with_tools(&[user("go"), message, result]);
        next["parallel_tool_calls"] = parallel.into();
        assert_eq!(answer(&gateway, &next).await["content"], "Done.");
        assert_eq!(site.opened().len(), 1);
        assert_clean(&site);
        gateway.stop().await;
    }
    let site = Site::start(|_| Play::Fixture("native-call.sse")).await;
    let gateway = logged_in(&site, "u1").await;
    let message = answer(&gateway, &with_tools(&[user("go")])).await;
    assert_eq!(message["tool_calls"].as_array().map(Vec::len), Some(1));
    assert_eq!(site.stopped(), site.opened());
    assert!(fixture("native-call.sse").contains("cannot use"));
    gateway.stop().await;
}
