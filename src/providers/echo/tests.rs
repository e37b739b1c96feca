use super::super::{Deadlines, Definition, Http, build};
use super::*;
use crate::protocol::sse::Reader;

fn call(text: &str, stream: bool, idle_ms: u64) -> Call {
    let body = json!({ "messages": [{ "role": "user", "content": text }], "stream": stream, "stream_options": { "include_usage": true } });
    let idle = Duration::from_millis(idle_ms);
    Call {
        is_translated: false,
        native: None,
        model: String::new(),
        body: Bytes::from(body.to_string()),
        stream,
        deadlines: Deadlines {
            connect: idle,
            first_byte: idle,
            idle,
        },
        request_id: "r1".into(),
        session: None,
        tape: crate::providers::tape::Tape::default(),
    }
}

struct Read {
    events: Vec<String>,
    answer: Assembled,
    done: bool,
    fault: Option<UpstreamFault>,
    failed: Option<UpstreamError>,
}

async fn streamed(text: &str) -> Read {
    let answer = Echo.complete(call(text, true, 300)).await.ok().unwrap();
    let Answer::Stream { mut bytes, .. } = answer else {
        panic!("not a stream")
    };
    let mut read = Read {
        events: Vec::new(),
        answer: Assembled::default(),
        done: false,
        fault: None,
        failed: None,
    };
    let mut reader = Reader::new(10_000);
    while let Some(next) = bytes.next().await {
        let chunk = match next {
            Ok(chunk) => chunk,
            Err(error) => {
                read.failed = Some(error);
                continue;
            }
        };
        for event in reader
            .push(&chunk)
            .unwrap()
            .into_iter()
            .filter_map(|frame| frame.event)
        {
            let scan = chunk::scan(&event.data).unwrap();
            read.answer.feed(&scan);
            read.done |= scan.done;
            read.fault = scan.error.or(read.fault);
            read.events.push(event.data);
        }
    }
    read
}

async fn failure(text: &str) -> UpstreamError {
    Echo.complete(call(text, false, 200)).await.err().unwrap()
}

#[tokio::test]
async fn the_last_user_message_comes_back_word_by_word() {
    let read = streamed("one  two\nthree").await;
    assert!(read.done && read.answer.is_complete());
    let whole = read.answer.to_json();
    assert_eq!(whole["choices"][0]["message"]["content"], "one  two\nthree");
    assert_eq!(
        (&whole["id"], &whole["model"]),
        (&json!("chatcmpl-r1"), &json!("echo"))
    );
    assert_eq!(
        whole["usage"],
        json!({ "prompt_tokens": 3, "completion_tokens": 3, "total_tokens": 6 })
    );
    assert_eq!(read.events.len(), 1 + 3 + 1 + 1 + 1);
    assert!(chunk::scan(&read.events[0]).unwrap().choices[0].has_role);
}

#[tokio::test]
async fn usage_comes_only_when_asked() {
    let mut asked = call("hi", true, 200);
    asked.body = Bytes::from_static(br#"{"messages":[{"role":"user","content":[{"type":"text","text":"a "},{"type":"text","text":"b"}]}]}"#);
    let Ok(Answer::Stream { bytes, .. }) = Echo.complete(asked).await else {
        panic!("not a stream")
    };
    let text: Vec<Bytes> = bytes.map(Result::unwrap).collect().await;
    let text = String::from_utf8(text.concat()).unwrap();
    assert!(
        !text.contains("usage") && text.contains("\"a \"") && text.ends_with("data: [DONE]\n\n"),
        "{text}"
    );
}

#[tokio::test]
async fn a_whole_answer_has_the_same_content() {
    let Ok(Answer::Whole { body, .. }) = Echo.complete(call("", false, 200)).await else {
        panic!("not whole")
    };
    let whole: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(
        whole["choices"][0]["message"],
        json!({ "role": "assistant", "content": "echo" })
    );
    assert_eq!(
        (&whole["object"], &whole["choices"][0]["finish_reason"]),
        (&json!("chat.completion"), &json!("stop"))
    );
    assert_eq!(whole["usage"]["completion_tokens"], 1);
}

#[tokio::test]
async fn reasoning_and_tools() {
    let read =
        streamed("echo:reasoning let me see\necho:tool get_weather {\"city\": \"Zürich\"}").await;
    let message = &read.answer.to_json()["choices"][0]["message"];
    assert_eq!(
        (&message["reasoning_content"], &message["content"]),
        (&json!("let me see"), &json!(""))
    );
    assert_eq!(
        message["tool_calls"][0]["function"],
        json!({ "name": "get_weather", "arguments": "{\"city\": \"Zürich\"}" })
    );
    assert_eq!(
        (
            read.answer.finish_reason().as_deref(),
            read.answer.usage().unwrap().reasoning
        ),
        (Some("tool_calls"), Some(3))
    );
}

#[tokio::test]
async fn failures_come_as_asked() {
    let error = failure("echo:fail 429 slow down").await;
    assert_eq!(
        (error.status(), error.retry_after()),
        (Some(429), Some(Duration::from_secs(1)))
    );
    assert_eq!(error.fault().unwrap().message, "slow down");
    assert_eq!(failure("echo:fail 500").await.code(), "upstream_error");
    assert_eq!(
        failure("echo:stall 5000").await.code(),
        "upstream_first_byte_timeout"
    );
    assert_eq!(failure("a b\necho:cut 1").await.code(), "upstream_cut");
    assert_eq!(
        failure("a b\necho:error 1").await.code(),
        "upstream_in_band_error"
    );
    assert_eq!(
        failure("a b\necho:delay 5000").await.code(),
        "upstream_idle_timeout"
    );
}

#[tokio::test]
async fn streams_break_as_asked() {
    let cut = streamed("a b c\necho:cut 2").await;
    assert!(!cut.done && !cut.answer.is_complete() && cut.failed.is_none());
    assert_eq!(
        cut.answer.to_json()["choices"][0]["message"]["content"],
        "a b "
    );
    let broken = streamed("a b c\necho:error 1").await;
    assert_eq!(
        (broken.fault.unwrap().message.as_str(), broken.done),
        ("failed as asked", false)
    );
    assert_eq!(
        broken.answer.to_json()["choices"][0]["message"]["content"],
        "a "
    );
    assert_eq!(
        streamed("a b\necho:delay 5000")
            .await
            .failed
            .unwrap()
            .code(),
        "upstream_idle_timeout"
    );
    assert!(streamed("a b\necho:delay 1").await.done);
}

#[tokio::test]
async fn the_text_can_be_repeated() {
    let read = streamed("a b\necho:repeat 3").await;
    assert_eq!(
        read.answer.to_json()["choices"][0]["message"]["content"],
        "a b a b a b"
    );
    assert_eq!(read.answer.usage().unwrap().completion, Some(6));
}

#[tokio::test]
async fn what_is_no_directive_is_text() {
    let read = streamed("echo:what 1\necho:fail 200\necho:cut soon").await;
    assert_eq!(
        read.answer.to_json()["choices"][0]["message"]["content"],
        "echo:what 1\necho:fail 200\necho:cut soon"
    );
}

#[tokio::test]
async fn it_is_built_by_its_kind_and_lists_itself() {
    let definition = Definition {
        id: "e".into(),
        kind: KIND.into(),
        config: serde_json::Map::new(),
    };
    let provider = build(&definition, &Http::default()).ok().unwrap();
    assert_eq!(provider.kind(), "echo");
    assert_eq!(provider.models(Duration::ZERO).await.unwrap()[0].id, "echo");
}
