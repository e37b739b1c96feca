use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::protocol::fuzz::fuzz;
use crate::protocol::tools::notation::{NATIVE_JSON, NEUTRAL};
use crate::protocol::tools::render;

fn tools() -> Arc<Tools> {
    Arc::new(Tools::read(Some(&json!([
        {"name": "read", "parameters": {"type": "object", "properties": {
            "filePath": {"type": "string"}, "offset": {"type": "integer"}}}},
        {"name": "write", "parameters": {"type": "object", "properties": {
            "filePath": {"type": "string"}, "content": {"type": "string"}, "count": {"type": "integer"},
            "tags": {"type": "array", "items": {"type": "string"}}}}},
        {"name": "bash", "parameters": {"type": "object", "properties": {"command": {"type": "string"}}}},
        {"name": "edit"}
    ]))))
}

/// Pieces as `text`, `name(arguments)` and `!reason`; pushed in chunks of `size` characters.
fn read(text: &str, size: usize) -> Vec<String> {
    let chars: Vec<char> = text.chars().collect();
    let chunks = chars.chunks(size).map(|chunk| chunk.iter().collect());
    shown(chunks)
}

fn shown(chunks: impl Iterator<Item = String>) -> Vec<String> {
    shown_in(&NATIVE_JSON, chunks)
}

fn shown_in(notation: &'static Notation, chunks: impl Iterator<Item = String>) -> Vec<String> {
    let mut parser = Parser::new(tools(), notation);
    let mut pieces: Vec<Piece> = chunks.flat_map(|chunk| parser.push(&chunk)).collect();
    pieces.extend(parser.finish());
    let mut out: Vec<(bool, String)> = Vec::new();
    for piece in pieces {
        match piece {
            Piece::Text(text) => match out.last_mut() {
                Some((true, last)) => last.push_str(&text),
                _ => out.push((true, text)),
            },
            Piece::Call(call) => {
                assert!(serde_json::from_str::<serde_json::Map<_, Value>>(&call.arguments).is_ok());
                out.push((false, format!("{}({})", call.name, call.arguments)));
            }
            Piece::Unreadable { reason, .. } => out.push((false, format!("!{reason}"))),
        }
    }
    out.into_iter().map(|(_, text)| text).collect()
}

/// Every chunk size gives the same.
fn check(text: &str, right: &[&str]) {
    for size in [usize::MAX, 1, 2, 3, 7] {
        assert_eq!(read(text, size), right, "in chunks of {size}: {text}");
    }
}

const READ: &str = r#"{"name": "read", "arguments": {"filePath": "x"}}"#;
const CALL: &str = r#"read({"filePath": "x"})"#;

#[test]
fn calls_are_told_from_text() {
    for (text, right) in [
        (
            format!("a\n<tool_call>\n{READ}\n</tool_call>"),
            vec!["a", CALL],
        ),
        (
            format!("<tool_call>{READ}</tool_call><tool_call>{READ}</tool_call>"),
            vec![CALL, CALL],
        ),
        (
            format!("<client_call>{READ}</client_call>\n\n<function_call>{READ}</function_call>\n"),
            vec![CALL, CALL],
        ),
        (
            format!("<tool_call>{READ}</tool_call>\nb <i>c</i> <\n"),
            vec![CALL, "\nb <i>c</i> <\n"],
        ),
        (
            format!("<tool_call>{READ}</tool_call> b <tool_call>{READ}</tool_call>"),
            vec![CALL, " b", CALL],
        ),
        (
            format!("<tool_call><tool_call>{READ}</tool_call></tool_call>"),
            vec![CALL],
        ),
        (
            format!("<tool_call>[{READ},{READ}]</tool_call>"),
            vec![CALL, CALL],
        ),
        (
            format!("<tool_call>{READ}\n{READ}</tool_call>"),
            vec![CALL, CALL],
        ),
        (
            format!("<tool_call>{READ},\n{READ}</tool_call>"),
            vec!["read({\"filePath\":\"x\"})"; 2],
        ),
        (
            format!("<tool_call>\n```json\n{READ}\n```\n</tool_call>"),
            vec![CALL],
        ),
        (format!("<tool_call>{READ} done</tool_call>"), vec![CALL]),
        (
            format!("<tool_call>{READ}}}</tool_call>"),
            vec!["read({\"filePath\":\"x\"})"],
        ),
        // The closing mark was forgotten.
        (format!("a <tool_call>{READ}"), vec!["a", CALL]),
        (format!("<tool_call>{READ}\n</tool_c"), vec![CALL]),
        (
            format!("<tool_call>{READ}\n<tool_call>{READ}</tool_call>"),
            vec![CALL, CALL],
        ),
        (
            format!("<tool_call>{READ}\nThat's \"it\"."),
            vec![CALL, "\nThat's \"it\"."],
        ),
        // The mark is talked about.
        (
            "The <tool_call> mark, and <tool_call>".into(),
            vec!["The <tool_call> mark, and <tool_call>"],
        ),
        (
            "<tool_call></tool_call>".into(),
            vec!["<tool_call></tool_call>"],
        ),
        (
            "<tool_calls> <toolcall> <tool_ca".into(),
            vec!["<tool_calls> <toolcall> <tool_ca"],
        ),
        // Echoed results end the answer.
        (
            format!(
                "<tool_call>{READ}</tool_call>\n<tool_response name=\"read\">\nx</tool_response> more"
            ),
            vec![CALL],
        ),
        (
            format!("<tool_call>{READ}\n<client_result id=\"1\">"),
            vec![CALL],
        ),
        (
            format!("a <tool_response>b</tool_response><tool_call>{READ}</tool_call>"),
            vec!["a"],
        ),
    ] {
        check(&text, &right);
    }
}

#[test]
fn every_shape_of_json_call_is_read() {
    for (json, right) in [
        (
            r#"{"name":"read","arguments":"{\"filePath\": \"x\"}"}"#,
            CALL,
        ),
        (r#"{"name":"read","parameters":{"filePath": "x"}}"#, CALL),
        (r#"{"name":"read","input":{"filePath": "x"}}"#, CALL),
        (r#"{"args":{"filePath": "x"},"tool":"read"}"#, CALL),
        (
            r#"{"type":"function","id":"c","function":{"name":"Read","arguments":"{\"filePath\": \"x\"}"}}"#,
            CALL,
        ),
        (
            r#"{"name":"functions.read","arguments":{"filePath": "x"}}"#,
            CALL,
        ),
        (r#"{"name":"read","arguments":{}}"#, "read({})"),
        (r#"{"name":"read","arguments":""}"#, "read({})"),
        (r#"{"name":"read","arguments":null}"#, "read({})"),
        (r#"{"name":"read"}"#, "read({})"),
        (
            r#"{"name":"read","arguments":{"offset":"3","z":1.0,"a":"\u82b1"}}"#,
            r#"read({"offset":3,"z":1.0,"a":"\u82b1"})"#,
        ),
        (
            r#"{"name":"edit","arguments":{"z":"</tool_call>","a":"\\\"</tool_call>\\"}}"#,
            r#"edit({"z":"</tool_call>","a":"\\\"</tool_call>\\"})"#,
        ),
        (
            r#"{"name":"edit","arguments":{"a":"<tool_call>{}</tool_call>\n<tool_call>"}}"#,
            r#"edit({"a":"<tool_call>{}</tool_call>\n<tool_call>"})"#,
        ),
        // Careless.
        (
            "{'name': 'read', 'arguments': {'filePath': 'x',},}",
            r#"read({"filePath":"x"})"#,
        ),
        (
            "{name: \"read\", arguments: {filePath: \"a\nb\"}}",
            r#"read({"filePath":"a\nb"})"#,
        ),
        (
            r#"{"name":"write","arguments":{"content":"say "hi" to "x""}}"#,
            r#"write({"content":"say \"hi\" to \"x\""})"#,
        ),
        (
            r#"{"name":"write","arguments":{"content":"one " quote"}}"#,
            r#"write({"content":"one \" quote"})"#,
        ),
        (
            r#"{"name":"write","arguments":{"content":"a "</tool_call>" b"}}"#,
            r#"write({"content":"a \"</tool_call>\" b"})"#,
        ),
        (
            r#"{"name":"write","arguments":{"content":"it's </tool_call>"}}"#,
            r#"write({"content":"it's </tool_call>"})"#,
        ),
        (
            r#"{"name":"read","arguments":{"filePath":"x"}"#,
            r#"read({"filePath":"x"})"#,
        ),
        // Not to be read.
        (
            r#"{"name":"rm","arguments":{}}"#,
            "!tool `rm` is not declared; declared are: read, write, bash, edit",
        ),
        (r#"{"arguments":{}}"#, "!a call has no name"),
        (
            r#"{"name":"read","arguments":[1]}"#,
            "!the arguments are no JSON object",
        ),
        (
            r#"{"name":"read","arguments":"what"}"#,
            "!the arguments are no JSON object",
        ),
        ("[]", "!the block holds no call"),
        ("{]", "!the block is no JSON"),
        (
            r#"{"function":{"function":{"name":"read"}}}"#,
            "!a call is nested too deep",
        ),
    ] {
        check(&format!("<tool_call>\n{json}\n</tool_call>"), &[right]);
    }
}

#[test]
fn parameters_are_read_by_the_schema() {
    let body = "<parameter=filePath>\na\n</parameter>\n<parameter=count>\n 42 \n</parameter><parameter=tags>[\"t\"]</parameter>";
    let right = r#"write({"filePath":"a","count":42,"tags":["t"]})"#;
    for text in [
        format!("<tool_call>\n<function=write>\n{body}\n</function>\n</tool_call>"),
        format!("<function=write>{body}</function>"),
        format!("<function=write>{body}</function>\n</tool_call>\n"),
        format!("<function=write>{body}"),
        format!("<tool_call><function=write>{body}</tool_call>"),
        "<tool_call><write><filePath>a</filePath><count>42</count><tags>[\"t\"]</tags></write></tool_call>".into(),
        "<tool_call><function=write>\n<parameter=filePath>a\n<parameter=count>42\n<parameter=tags>[\"t\"]</function></tool_call>".into(),
    ] {
        check(&text, &[right]);
    }
    check(
        "<function=bash><parameter=command>a</parameter><parameter=command>b</parameter></function>",
        &[r#"bash({"command":"b"})"#],
    );
    check("<function=read></function> b", &["read({})", " b"]);
    check("<function=read>{\"filePath\": \"x\"}</function>", &[CALL]);
    check(
        "<tool_call><read>{\"filePath\": \"x\"}</read></tool_call>",
        &[CALL],
    );
    check(
        "<function=what>a</function>",
        &["<function=what>a</function>"],
    );
    check(
        "<tool_call><b>a</b></tool_call>",
        &["<tool_call><b>a</b></tool_call>"],
    );
    check(
        "<tool_call><function=bash><parameter=command>42</parameter></function><function=bash><parameter=command>\ntrue\n\n</parameter></function></tool_call>",
        &[r#"bash({"command":"42"})"#, r#"bash({"command":"true\n"})"#],
    );
    check(
        "<function=bash><parameter=command>a</parameter></function> <parameter=x></parameter></function>",
        &[
            r#"bash({"command":"a"})"#,
            " <parameter=x></parameter></function>",
        ],
    );
}

#[test]
fn calls_in_code_count_only_if_nothing_else_is_there() {
    for text in [
        format!("a\n```json\n{READ}\n```"),
        format!("a\n```\n{READ}\n```\n\n"),
        format!("a\n  ```xml\n<tool_call>\n{READ}\n</tool_call>\n```\n"),
        format!("a\n```<tool_call>{READ}</tool_call>```"),
        format!("a\n```json\n{READ}\n"),
        format!("a\n```json\n{READ}\n```\n<tool_response>x"),
        format!("a\n````\n<tool_call>{READ}\n````"),
    ] {
        check(&text, &["a", CALL]);
    }
    check(
        &format!("```json\n{READ}\n```\n```json\n{READ}\n```"),
        &[CALL, CALL],
    );
    check(
        &format!("```\n<tool_call>{READ}</tool_call>\n<tool_call>{READ}</tool_call>\n```"),
        &[CALL, CALL],
    );
    for text in [
        format!("```json\n{READ}\n```\nand then"),
        format!("```json\n{READ}\n{READ}\n```"),
        format!("```json\n[{READ}]\n```"),
        "```json\n{\"name\": \"read\", \"arguments\": {}, \"description\": \"d\"}\n```".into(),
        "```json\n{\"name\": \"read\"}\n```".into(),
        "```json\n{\"name\": \"Anna\", \"arguments\": {}}\n```".into(),
        "```json\n{\"a\": 1}\n```\n".into(),
        format!("`<tool_call>{READ}</tool_call>`"),
        format!("``a ` <tool_call>{READ}</tool_call>`` b"),
        format!("```\nlet a = 1;\n<tool_call>{READ}</tool_call>\n```\n"),
        format!("````\n```\n<tool_call>{READ}</tool_call>\n```\n````\n"),
        format!("text ```\n``` <tool_call {READ} ` ```"),
    ] {
        check(&text, &[&text]);
    }
    check(
        &format!("```\n<tool_call>{READ}</tool_call>\n```\n<tool_call>{READ}</tool_call>"),
        &[&format!("```\n<tool_call>{READ}</tool_call>\n```"), CALL],
    );
    check(
        &format!("a ` b\n<tool_call>{READ}</tool_call>"),
        &["a ` b", CALL],
    );
}

#[test]
fn broken_blocks_do_not_swallow_the_next() {
    let odd = r#"<tool_call>{"name":"write","arguments":{"content":"one " quote"}}</tool_call>"#;
    let mended = r#"write({"content":"one \" quote"})"#;
    check(
        &format!("{odd}\nand <tool_call>{READ}</tool_call> end"),
        &[mended, "\nand", CALL, " end"],
    );
    check(&format!("{odd}\n<tool_response>"), &[mended]);
    let unclosed = "!the call is not closed, or its JSON is broken";
    check("a <tool_call>{\"name\": \"rea", &["a", unclosed]);
    check(
        "<tool_call>{\"name\": \"read\", \"arguments\": {}",
        &[unclosed],
    );
    check("<function=read><parameter=filePath>x", &[unclosed]);
}

#[test]
fn text_is_not_delayed() {
    let mut parser = Parser::new(tools(), &NATIVE_JSON);
    let text = |text: &str| vec![Piece::Text(text.to_owned())];
    assert_eq!(parser.push("Hello <"), text("Hello"));
    assert_eq!(parser.push("b> wor"), text(" <b> wor"));
    assert_eq!(parser.push("ld\n"), text("ld"));
    assert_eq!(parser.push("<tool_cal"), []);
    assert!(!parser.in_call());
    assert_eq!(parser.push("l> x"), text("\n<tool_call> x"));
    assert_eq!(parser.push("\n```json\n{\"a\""), text("\n```json\n{\"a\""));
    assert_eq!(parser.push(": 1}\n```\n<tool_call>{"), text(": 1}\n```"));
    assert!(parser.in_call());
}

#[test]
fn cut_calls_are_never_told() {
    let whole = format!("<tool_call>{READ}</tool_call>");
    for end in 0..whole.len() {
        let mut parser = Parser::new(tools(), &NATIVE_JSON);
        assert!(
            !parser
                .push(&whole[..end])
                .iter()
                .any(|piece| matches!(piece, Piece::Call(_)))
        );
        assert_eq!(parser.in_call(), end > "<tool_call>".len() - 1, "{end}");
    }
}

#[test]
fn without_tools_everything_is_text() {
    let mut parser = Parser::new(Arc::default(), &NATIVE_JSON);
    let text = format!("<tool_call>{READ}</tool_call><tool_response> ");
    assert_eq!(parser.push(&text), [Piece::Text(text)]);
    assert_eq!(parser.finish(), []);
}

#[test]
fn raw_is_the_block_as_written() {
    let mut parser = Parser::new(tools(), &NATIVE_JSON);
    let block = format!("<tool_call>[{READ},{READ}]</tool_call>");
    let raws: Vec<String> = parser
        .push(&format!(
            "a {block} b <tool_call>{{\"name\":\"rm\"}}</tool_call>"
        ))
        .into_iter()
        .filter_map(|piece| match piece {
            Piece::Call(call) => Some(call.raw),
            Piece::Unreadable { raw, .. } => Some(raw),
            Piece::Text(_) => None,
        })
        .collect();
    assert_eq!(
        raws,
        [
            block,
            String::new(),
            "<tool_call>{\"name\":\"rm\"}</tool_call>".into()
        ]
    );
}

#[test]
fn fixtures_are_read_right() {
    let written = r#"write({"filePath":"web/a.html","content":"<p>if (a < b) { \"</tool_call>\" }</p>","count":42})"#;
    let edit = r##"edit({"path": "src/a.rs", "old": "let s = \"</tool_call>\";", "new": "let s = r#\"{\\\"a\\\":[1,2]}\"#;\n// 花"})"##;
    let quoted = contents("quoted-call").concat();
    for (name, right) in [
        (
            "tool-calls",
            vec![
                "I will change the file, then run the tests.",
                edit,
                r#"bash({"command":"cargo test -- --nocapture","timeout":120000})"#,
            ],
        ),
        (
            "malformed-tool-call",
            vec![r#"write({"path":"a.txt","content":"line one\nline two"})"#],
        ),
        ("tool-call-parameters", vec!["I will write it.", written]),
        ("echoed-result", vec![r#"read({"filePath": "a.txt"})"#]),
        ("quoted-call", vec![quoted.as_str()]),
        ("intercepted", vec!["Tool read does not exists."]),
    ] {
        let contents = contents(name);
        assert_eq!(shown(contents.iter().cloned()), right, "{name}");
        check(&contents.concat(), &right);
    }
    let mut parser = Parser::new(tools(), &NATIVE_JSON);
    let pieces: Vec<Piece> = contents("tool-call-cut")
        .iter()
        .flat_map(|part| parser.push(part))
        .collect();
    assert_eq!(
        pieces
            .iter()
            .filter(|piece| matches!(piece, Piece::Call(_)))
            .count(),
        1
    );
}

fn contents(name: &str) -> Vec<String> {
    let path = format!(
        "{}/tests/fixtures/qwen-web/{name}.sse",
        env!("CARGO_MANIFEST_DIR")
    );
    let stream = std::fs::read_to_string(path).unwrap();
    let events = stream.lines().filter_map(|line| line.strip_prefix("data:"));
    let contents = events.filter_map(|event| {
        let event: Value = serde_json::from_str(event).ok()?;
        Some(
            event
                .pointer("/choices/0/delta/content")?
                .as_str()?
                .to_owned(),
        )
    });
    contents.collect()
}

/// Every byte of a long call is looked at a bounded number of times: a quadratic parser would not come to an end.
#[test]
fn long_texts_are_read_in_linear_time() {
    let long = 1 << 20;
    let arguments = json!({"content": "a\"<`\\ ".repeat(long / 6)}).to_string();
    let call = render::call("write", &arguments, &NATIVE_JSON);
    for text in [
        call.clone(),
        call.replace('>', ">\n").replace('{', "{ ,"),
        " ".repeat(long),
        "`".repeat(long),
        "<".repeat(long),
        "<tool_call>".repeat(long / 11),
        "<tool_call>{\"</tool_call>".repeat(long / 25),
        "```json\n{\"name\":\"read\"".repeat(long / 22),
        "```json\n{\"name\":\"read\",\"arguments\":{}}\n```\n".repeat(long / 43),
        format!(
            "<function=write><parameter=content>{}",
            "</parameter>".repeat(long / 12)
        ),
        format!("<tool_call>{}", "[".repeat(long)),
    ] {
        let mut parser = Parser::new(tools(), &NATIVE_JSON);
        for c in text.chars() {
            parser.push(c.encode_utf8(&mut [0; 4]));
        }
        parser.finish();
    }
}

fn fragment() -> impl Strategy<Value = String> {
    let fixed: Vec<&str> = vec![
        "<tool_call>",
        "</tool_call>",
        "<client_call>",
        "</client_call>",
        "<function_call>",
        "<function=read>",
        "</function>",
        "<parameter=filePath>",
        "</parameter>",
        "<tool_response",
        "<tool_",
        "<",
        ">",
        "</",
        "`",
        "``",
        "```",
        "````",
        "```json\n",
        "```\n",
        "\n```",
        "\n",
        " ",
        "\"",
        "'",
        "\\",
        "\\\"",
        "{",
        "}",
        "[",
        "]",
        ":",
        ",",
        "a",
        "花",
        "😀",
        "<read>",
        "</read>",
        "<filePath>",
        "</filePath>",
        "{\"name\":\"read\",\"arguments\":{\"filePath\":\"",
        "\"}}",
        "{'name': 'bash', ",
        "prose. ",
        "<function=",
        "<function=nope>",
        "\r\n",
        "\t",
        "~~~",
        READ,
    ];
    prop_oneof![
        12 => proptest::sample::select(fixed).prop_map(str::to_owned),
        1 => any::<String>(),
        1 => Just(format!("<tool_call>{READ}</tool_call>")),
        1 => Just(format!("\n```json\n{READ}\n```\n")),
    ]
}

fn value() -> impl Strategy<Value = Value> {
    let text = proptest::collection::vec(fragment(), 0..6).prop_map(|parts| parts.concat());
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        text.prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 32, 6, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            proptest::collection::btree_map(any::<String>(), inner, 0..6)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

fn cut(text: &str, sizes: &[usize]) -> Vec<String> {
    let mut chars = text.chars();
    let mut sizes = sizes.iter().cycle();
    let mut out = Vec::new();
    loop {
        let size = sizes.next().copied().unwrap_or(1);
        let chunk: String = chars.by_ref().take(size).collect();
        if chunk.is_empty() {
            return out;
        }
        out.push(chunk);
    }
}

/// `PROPTEST_CASES` asks for a longer run.
fn config() -> ProptestConfig {
    let default = ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::default()
    };
    if std::env::var_os("PROPTEST_CASES").is_some() {
        return default;
    }
    ProptestConfig {
        cases: 2_000,
        ..default
    }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn any_cut_of_the_text_reads_the_same(
        parts in proptest::collection::vec(fragment(), 0..40),
        sizes in proptest::collection::vec(1_usize..12, 1..8),
    ) {
        let text = parts.concat();
        prop_assert_eq!(shown(cut(&text, &sizes).into_iter()), read(&text, usize::MAX));
    }

    #[test]
    fn text_without_marks_passes_byte_for_byte(text in "[^<`]{0,200}", sizes in proptest::collection::vec(1_usize..12, 1..8)) {
        prop_assert_eq!(shown(cut(&text, &sizes).into_iter()).concat(), text);
    }

    #[test]
    fn rendered_calls_come_back_exactly(
        arguments in proptest::collection::btree_map(any::<String>(), value(), 0..5),
        sizes in proptest::collection::vec(1_usize..40, 1..8),
        is_neutral in any::<bool>(),
    ) {
        let notation = if is_neutral { &NEUTRAL } else { &NATIVE_JSON };
        let arguments = Value::Object(arguments.into_iter().collect()).to_string();
        let text = format!("Now.\n{}\nThen.", render::call("edit", &arguments, notation));
        let right = ["Now.".to_owned(), format!("edit({arguments})"), "\nThen.".to_owned()];
        prop_assert_eq!(shown(cut(&text, &sizes).into_iter()), right);
    }
}

/// The properties above together, in both notations; `tests/fuzz` does it for ten minutes.
#[test]
fn fuzzing_finds_nothing() {
    let strategy = (
        proptest::collection::vec(fragment(), 0..40),
        proptest::collection::btree_map(any::<String>(), value(), 0..5),
        proptest::collection::vec(1_usize..40, 1..8),
    );
    fuzz("tool parser", &strategy, |(parts, arguments, sizes)| {
        let arguments = Value::Object(arguments.into_iter().collect()).to_string();
        for notation in [&NATIVE_JSON, &NEUTRAL] {
            let text = parts.concat();
            prop_assert_eq!(
                shown_in(notation, cut(&text, &sizes).into_iter()),
                shown_in(notation, std::iter::once(text))
            );
            let call = render::call("edit", &arguments, notation);
            let text = format!("Now.\n{call}\nThen.");
            let right = [
                "Now.".to_owned(),
                format!("edit({arguments})"),
                "\nThen.".to_owned(),
            ];
            prop_assert_eq!(shown_in(notation, cut(&text, &sizes).into_iter()), right);
        }
        Ok(())
    });
}
