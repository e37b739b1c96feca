//! `qwarden route`: where a request would go, and why.

use clap::Args;
use serde_json::{Value, json};

use crate::cli::client::Client;
use crate::cli::console::Console;
use crate::cli::failure::{Exit, Outcome};
use crate::cli::table::{Column, Table};
use crate::cli::words::{Show, at};

const COLUMNS: &[Column] = &[
    ("TARGET", "/target", Show::Text),
    ("PLACE", "/place", Show::Text),
    ("WHY", "/reason", Show::Text),
];
/// About a token.
const TOKEN: &str = "word";

/// A request to ask about.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  qwarden route coder
  qwarden route coder --tools --tokens 50000")]
pub(crate) struct Options {
    /// What the client would send as `model`.
    model: String,
    /// As if it offered a tool.
    #[arg(long)]
    tools: bool,
    /// As if it showed an image.
    #[arg(long)]
    image: bool,
    /// As if it was about so many tokens long.
    #[arg(long, value_name = "N", default_value_t = 10,
        value_parser = clap::value_parser!(u32).range(1..=200_000))]
    tokens: u32,
    /// As if it was a turn of this session.
    #[arg(long, value_name = "ID")]
    session: Option<String>,
}

pub(crate) async fn run(options: &Options, client: &Client, console: &Console) -> Outcome {
    let call = client.post(&["api", "route", "explain"]);
    let call = call.query("session", options.session.as_ref());
    let body = call.body(options.body()).send().await?;
    console.answer(&body, || shown(&body, console))?;
    Ok(Exit::Done)
}

impl Options {
    /// A request with what is asked about, and nothing else.
    fn body(&self) -> Value {
        let text = TOKEN.repeat(usize::try_from(self.tokens).unwrap_or_default());
        let mut content = vec![json!({"type": "text", "text": text})];
        if self.image {
            let url = json!({"url": "data:image/png;base64,AA=="});
            content.push(json!({"type": "image_url", "image_url": url}));
        }
        let mut body =
            json!({"model": self.model, "messages": [{"role": "user", "content": content}]});
        if self.tools {
            body["tools"] = json!([{"type": "function", "function": {"name": "tool", "parameters": {"type": "object"}}}]);
        }
        body
    }
}

fn shown(body: &Value, console: &Console) -> String {
    let rows = ["targets", "skipped"].map(|key| body[key].as_array().cloned().unwrap_or_default());
    let table = Table::of(&rows.concat(), COLUMNS);
    let meant = match body["via"].as_str() {
        Some(via) => format!("the virtual model {via}"),
        None => at(body, "/resolved"),
    };
    format!(
        "{meant}, by {}, about {} tokens\n\n{}",
        at(body, "/strategy"),
        at(body, "/needs/estimated_tokens"),
        console.draw(&table)
    )
}
