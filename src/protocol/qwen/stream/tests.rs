use proptest::prelude::*;

use super::*;
use crate::limits::upstreams::EVENT_LIMIT;
use crate::protocol::fuzz::fuzz;
use crate::protocol::sse::{self, Reader};
use crate::protocol::tools::declared::Tools;
use crate::protocol::tools::notation::NATIVE_JSON;
use crate::protocol::tools::parser::{Parser, Piece};

macro_rules! fixture {
    ($name:literal) => {
        include_str!(concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/tests/fixtures/qwen-web/",
            $name
        ))
    };
}

/// The events of a captured stream.
fn events(stream: &str) -> Vec<QwenEvent> {
    let mut translator = Translator::new();
    let data = stream
        .lines()
        .filter_map(|line| line.trim_end().strip_prefix("data:"));
    data.flat_map(|data| translator.push(data)).collect()
}

#[derive(Debug, Default, PartialEq)]
struct Read {
    content: String,
    reasoning: String,
    citations: Vec<String>,
    calls: Vec<(String, String)>,
    /// Completion tokens of the last counts, and those of reasoning.
    usage: Option<(u64, Option<u64>)>,
    results: usize,
    failed: Option<String>,
    is_finished: bool,
}

fn read(stream: &str) -> Read {
    let mut read = Read::default();
    let mut keys: Vec<String> = Vec::new();
    for event in events(stream) {
        assert!(
            !read.is_finished && read.failed.is_none(),
            "{event:?} after the end"
        );
        match event {
            QwenEvent::Created => {}
            QwenEvent::Reasoning(text) => read.reasoning.push_str(&text),
            QwenEvent::Content(text) => read.content.push_str(&text),
            QwenEvent::NativeCall {
                key,
                name,
                arguments,
            } => {
                let at = keys
                    .iter()
                    .position(|known| *known == key)
                    .unwrap_or_else(|| {
                        keys.push(key);
                        read.calls.push(Default::default());
                        keys.len() - 1
                    });
                if let Some(name) = name {
                    read.calls[at].0 = name;
                }
                match arguments {
                    NativeArguments::Increment(more) => read.calls[at].1.push_str(&more),
                    NativeArguments::Whole(whole) => read.calls[at].1 = whole,
                }
            }
            QwenEvent::Citations(more) => read
                .citations
                .extend(more.into_iter().map(|citation| citation.url)),
            QwenEvent::Image(url) => read.content.push_str(&url),
            QwenEvent::Usage(usage) => {
                read.usage = usage.completion.map(|count| (count, usage.reasoning));
            }
            QwenEvent::ToolResult => read.results += 1,
            QwenEvent::Failed(refusal) => read.failed = Some(refusal.message),
            QwenEvent::Finished => read.is_finished = true,
        }
    }
    read
}

fn finished(content: &str, usage: Option<(u64, Option<u64>)>) -> Read {
    Read {
        content: content.into(),
        usage,
        is_finished: true,
        ..Read::default()
    }
}

#[test]
fn every_fixture_is_read_as_its_readme_says() {
    let bees = "Bees dance to say where flowers are. 花の場所を踊りで伝える 🐝.";
    assert_eq!(
        read(fixture!("plain.sse")),
        finished(bees, Some((11, None)))
    );
    assert_eq!(read(fixture!("cumulative.sse")).content, bees);
    assert_eq!(
        read(fixture!("site-tail.sse")),
        finished("Greenings, traveller! 🌌\n\nTwo lines.", Some((10, None)))
    );
    assert_eq!(
        read(fixture!("framing-branches.sse")).content,
        "Only this counts."
    );
    assert_eq!(read(fixture!("empty.sse")), finished("", Some((0, None))));
    let summary = read(fixture!("thinking-snapshots.sse"));
    assert_eq!(
        (
            summary.reasoning.as_str(),
            summary.content.as_str(),
            summary.usage
        ),
        (
            "First I read the file.\n\nThen I answer.",
            "Done.",
            Some((14, Some(12)))
        )
    );
    let summary = read(fixture!("thinking-summary.sse"));
    assert_eq!(
        summary.reasoning,
        "Bees meet at the comb.\n\nOne sentence is enough."
    );
    let thinking = read(fixture!("thinking.sse"));
    assert!(thinking.is_finished && !thinking.reasoning.is_empty() && !thinking.content.is_empty());
    let search = read(fixture!("search.sse"));
    assert_eq!(
        (search.content.as_str(), search.citations.len()),
        ("They dance [1].", 1)
    );
    let marks = read(fixture!("search-marks.sse"));
    assert_eq!(
        (marks.content.as_str(), marks.citations.len()),
        ("It is so [[1]] and also [[2]].", 2)
    );
    let whole = read(&format!(
        "data: {}",
        fixture!("non-stream.json").replace('\n', "")
    ));
    assert_eq!(whole, finished("A whole answer.", None));
}

#[test]
fn native_calls_are_put_together() {
    let call = |name: &str, arguments: &str| (name.to_owned(), arguments.to_owned());
    let native = read(fixture!("native-call.sse"));
    assert_eq!(
        native.calls,
        [call("read", r#"{"filePath":"src/main.rs","offset":0}"#)]
    );
    assert_eq!(native.results, 1);
    let fragments = read(fixture!("native-calls-fragments.sse"));
    assert_eq!(
        fragments.calls,
        [
            call("read", r#"{"filePath":"a.txt"}"#),
            call("bash", r#"{"command":"ls"}"#)
        ]
    );
}

#[test]
fn what_breaks_off_has_no_end() {
    let cut = read(fixture!("cut.sse"));
    assert_eq!(
        (cut.content.as_str(), cut.is_finished, cut.failed),
        ("Bees dance to say where flowers", false, None)
    );
    for stream in [fixture!("error-in-stream.sse"), fixture!("error-delta.sse")] {
        let read = read(stream);
        assert!(!read.is_finished && read.failed.is_some() && !read.content.is_empty());
    }
    let mut translator = Translator::new();
    assert!(matches!(
        translator.push("<html>captcha</html>")[..],
        [QwenEvent::Failed(_)]
    ));
    assert!(translator.is_finished());
    assert!(
        translator
            .push(r#"{"choices":[{"delta":{"content":"late"}}]}"#)
            .is_empty()
    );
}

#[test]
fn the_next_parent_is_the_answers_id() {
    for (stream, id) in [
        (
            fixture!("plain.sse"),
            Some("33333333-3333-4333-8333-333333333333"),
        ),
        (
            r#"data: {"choices":[{"delta":{"content":"a"}}],"response_id":"r"}"#,
            Some("r"),
        ),
        (r#"data: {"choices":[{"delta":{"content":"a"}}]}"#, None),
    ] {
        let mut translator = Translator::new();
        for data in stream.lines().filter_map(|line| line.strip_prefix("data:")) {
            translator.push(data);
        }
        assert_eq!(translator.response_id(), id);
        assert!(translator.saw_anything());
    }
}

#[test]
fn images_are_told_once() {
    let event = r#"data: {"choices":[{"delta":{"phase":"image_gen","content":"https://h/a.png","extra":{"image_list":[{"image":"https://h/a.png"}]}}}]}"#;
    assert_eq!(read(event).content, "https://h/a.png");
}

fn json(depth: u32) -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::Bool),
        any::<u64>().prop_map(Value::from),
        ".{0,8}".prop_map(Value::String),
    ];
    let key = prop::sample::select(vec![
        "choices",
        "delta",
        "content",
        "phase",
        "status",
        "extra",
        "usage",
        "response.created",
        "response_id",
        "error",
        "data",
        "success",
        "tool_calls",
        "function",
        "name",
        "arguments",
        "index",
        "summary_thought",
        "image_list",
        "ret",
        "input_tokens",
        "role",
        "sources",
        "url",
    ]);
    leaf.prop_recursive(depth, 64, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::Array),
            prop::collection::vec((key.clone(), inner), 0..6).prop_map(|pairs| Value::Object(
                pairs
                    .into_iter()
                    .map(|(key, value)| (key.to_owned(), value))
                    .collect()
            )),
        ]
    })
}

proptest! {
    #[test]
    fn nothing_makes_it_panic(events in prop::collection::vec(json(5), 1..6), text in "\\PC*") {
        let mut translator = Translator::new();
        for event in events {
            translator.push(&event.to_string());
        }
        translator.push(&text);
    }

    #[test]
    fn increments_come_out_as_they_went_in(pieces in prop::collection::vec(".{1,6}", 3..20)) {
        let mut translator = Translator::new();
        let mut content = String::new();
        for piece in &pieces {
            let event = serde_json::json!({"choices": [{"delta": {"phase": "answer", "status": "typing", "content": piece}}]});
            for event in translator.push(&event.to_string()) {
                if let QwenEvent::Content(text) = event {
                    content.push_str(&text);
                }
            }
        }
        for event in translator.push(r#"{"choices":[{"delta":{"phase":"answer","status":"finished"}}]}"#) {
            if let QwenEvent::Content(text) = event {
                content.push_str(&text);
            }
        }
        // Three deltas that each begin with all before are repeats by any reading.
        let repeats = pieces[1].len() > pieces[0].len() && pieces[1].starts_with(&pieces[0])
            && pieces[2].starts_with(&pieces[1]);
        prop_assume!(!repeats);
        prop_assert_eq!(content, pieces.concat());
    }
}

/// Frames of a stream that arrives in these pieces.
fn frames<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> Vec<sse::Frame> {
    let mut reader = Reader::new(EVENT_LIMIT);
    let mut frames = Vec::new();
    for piece in pieces {
        frames.extend(reader.push(piece).expect("within the limit"));
    }
    frames.extend(reader.finish());
    frames
}

fn in_pieces<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> Vec<QwenEvent> {
    let mut translator = Translator::new();
    let events = frames(pieces).into_iter().filter_map(|frame| frame.event);
    events
        .flat_map(|event| translator.push(&event.data))
        .collect()
}

#[test]
fn however_the_bytes_are_split_the_events_are_the_same() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/qwen-web");
    let mut streams = 0;
    for entry in std::fs::read_dir(folder).expect("the fixtures") {
        let path = entry.expect("an entry").path();
        if path.extension().is_none_or(|extension| extension != "sse") {
            continue;
        }
        streams += 1;
        let bytes = std::fs::read(&path).expect("readable");
        let whole = in_pieces(std::iter::once(bytes.as_slice()));
        assert!(!whole.is_empty(), "{}", path.display());
        for size in 1..=12 {
            assert_eq!(
                in_pieces(bytes.chunks(size)),
                whole,
                "{} by {size}",
                path.display()
            );
        }
        // Every single place: the reader remembers nothing from one event to the next, so each is split by itself.
        for frame in frames([bytes.as_slice()].into_iter()) {
            for at in 0..frame.raw.len() {
                let (head, tail) = frame.raw.split_at(at);
                let split = frames([head, tail].into_iter());
                let data = |frames: &[sse::Frame]| -> Vec<String> {
                    let events = frames.iter().filter_map(|frame| frame.event.as_ref());
                    events.map(|event| event.data.clone()).collect()
                };
                let expected = data(std::slice::from_ref(&frame));
                assert_eq!(data(&split), expected, "{} at {at}", path.display());
            }
        }
    }
    assert!(streams >= 16, "{streams}");
}

/// Whatever comes nothing panics, and however it is cut the events are the same; `tests/fuzz` does it for ten minutes.
#[test]
fn fuzzing_finds_nothing() {
    let event = prop_oneof![
        3 => json(5).prop_map(|event| format!("data: {event}\n\n")),
        1 => ".{0,40}".prop_map(|text| format!("data: {text}\r\n\r\n")),
        1 => ".{0,20}",
    ];
    let strategy = (
        prop::collection::vec(event, 1..8),
        prop::collection::vec(1_usize..60, 1..6),
    );
    fuzz("translator", &strategy, |(events, sizes)| {
        let stream = events.concat();
        let whole = in_pieces(std::iter::once(stream.as_bytes()));
        let mut rest = stream.as_bytes();
        let mut pieces = Vec::new();
        for size in sizes.iter().cycle() {
            if rest.is_empty() {
                break;
            }
            let (head, tail) = rest.split_at((*size).min(rest.len()));
            pieces.push(head);
            rest = tail;
        }
        prop_assert_eq!(in_pieces(pieces.into_iter()), whole);
        Ok(())
    });
}

/// What a client would be told of a stream that arrives in these pieces.
#[derive(Debug, Default, PartialEq)]
struct Told {
    reasoning: String,
    text: String,
    calls: Vec<(String, String)>,
    rest: Vec<QwenEvent>,
}

fn told<'a>(pieces: impl Iterator<Item = &'a [u8]>, tools: &std::sync::Arc<Tools>) -> Told {
    let mut told = Told::default();
    let mut parser = Parser::new(tools.clone(), &NATIVE_JSON);
    let read = |told: &mut Told, pieces: Vec<Piece>| {
        for piece in pieces {
            match piece {
                Piece::Text(text) | Piece::Unreadable { raw: text, .. } => {
                    told.text.push_str(&text);
                }
                Piece::Call(call) => told.calls.push((call.name, call.arguments)),
            }
        }
    };
    for event in in_pieces(pieces) {
        match event {
            QwenEvent::Content(text) => read(&mut told, parser.push(&text)),
            QwenEvent::Reasoning(text) => told.reasoning.push_str(&text),
            other => told.rest.push(other),
        }
    }
    if told.rest.last() == Some(&QwenEvent::Finished) {
        read(&mut told, parser.finish());
    }
    told
}

/// Of long files every so many places, or this would take minutes; that each of them reads the same from the first byte
/// to the event is shown above.
#[test]
fn however_the_bytes_are_split_the_client_is_told_the_same() {
    const CUTS: usize = 120;
    let tool = |name: &str| serde_json::json!({"name": name});
    let tools = ["read", "write", "edit", "bash"].map(tool);
    let tools = std::sync::Arc::new(Tools::read(Some(&serde_json::json!(tools))));
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/qwen-web");
    let mut calls = 0;
    for entry in std::fs::read_dir(folder).expect("the fixtures") {
        let path = entry.expect("an entry").path();
        if path.extension().is_none_or(|extension| extension != "sse") {
            continue;
        }
        let bytes = std::fs::read(&path).expect("readable");
        let whole = told(std::iter::once(bytes.as_slice()), &tools);
        calls += whole.calls.len();
        for at in (0..bytes.len()).step_by(bytes.len().div_ceil(CUTS)) {
            let (head, tail) = bytes.split_at(at);
            let split = told([head, tail].into_iter(), &tools);
            assert_eq!(split, whole, "{} at {at}", path.display());
        }
        for size in [1, 2, 3, 7] {
            let split = told(bytes.chunks(size), &tools);
            assert_eq!(split, whole, "{} by {size}", path.display());
        }
    }
    assert!(calls >= 5, "{calls}");
}
