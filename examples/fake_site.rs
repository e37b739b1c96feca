//! The tests' stand-in for chat.qwen.ai as a program: clients are tried against it by hand and in CI.
//!
//! `fake_site SCRIPT` prints its address. `SCRIPT` is a JSON list of steps that its model takes in every chat that was
//! told of tools: `{"call": {"name": .., "arguments": {..}}}` or `{"text": ".."}`. A chat without tools gets one line of
//! text. With the environment variable `SHOW`, each turn is printed as it comes.
#![expect(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test's helper, not the product"
)]
#![expect(clippy::disallowed_methods, reason = "its tasks end with the process")]
#![expect(
    dead_code,
    unreachable_pub,
    reason = "the modules are those of the tests, which use more of them"
)]

#[path = "../tests/gateway/support/site.rs"]
mod site;
#[path = "../tests/support/upstream.rs"]
mod upstream;

use serde_json::Value;

use site::{Play, Site, Turn};

/// What the model does next.
fn step(script: &[Value], turn: &Turn, told: usize) -> Play {
    if !turn.content.contains("<tool_call>") && turn.before == 0 {
        return Play::says("A short title");
    }
    let step = &script[told.min(script.len() - 1)];
    if let Some(text) = step["text"].as_str() {
        return Play::says(text);
    }
    let call = serde_json::to_string_pretty(&step["call"]).expect("JSON");
    let text = format!(
        "I will use {}.\n<tool_call>\n{call}\n</tool_call>",
        step["call"]["name"]
    );
    // In small pieces, as models write.
    let letters: Vec<char> = text.chars().collect();
    Play::Says(
        letters
            .chunks(7)
            .map(|piece| piece.iter().collect())
            .collect(),
    )
}

#[tokio::main]
async fn main() {
    let path = std::env::args().nth(1).expect("the path of a script");
    let text = std::fs::read_to_string(path).expect("the script can be read");
    let script: Vec<Value> = serde_json::from_str(&text).expect("the script is a JSON list");
    let is_shown = std::env::var_os("SHOW").is_some();
    let site = Site::start(move |turn| {
        if is_shown {
            println!("--- {} ({})\n{}", turn.chat_id, turn.before, turn.content);
        }
        // A history that is told again in a new chat brings its calls along, after the one of the instructions.
        let retold = turn.content.matches("### Tool results").count();
        step(&script, turn, turn.before + retold)
    })
    .await;
    println!("{}", site.upstream.origin());
    std::future::pending::<()>().await;
}
