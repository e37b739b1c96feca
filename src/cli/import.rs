//! `qwarden import`: takes over the database of the older program, `provider-router.db`.

use std::path::PathBuf;

use clap::Args;
use serde_json::{Value, json};

use crate::cli::client::Client;
use crate::cli::console::Console;
use crate::cli::data_dir;
use crate::cli::failure::{Exit, Failure, Outcome};
use crate::cli::input::absolute;
use crate::cli::progress::{Progress, part};
use crate::cli::table::{Column, Table};
use crate::cli::words::{Show, at};
use crate::gateway::{Config, Gateway};
use crate::limits::command_line::IMPORT_GRACE;
use crate::limits::command_line::VERY_LONG;
use crate::settings;

const COLUMNS: &[Column] = &[
    ("TABLE", "/table", Show::Text),
    ("FOUND", "/found", Show::Text),
    ("IMPORTED", "/imported", Show::Text),
    ("EXISTING", "/existing", Show::Text),
    ("SKIPPED", "/skipped", Show::Text),
];

/// What is imported.
#[derive(Args, Debug)]
#[command(after_help = "\
Asks the running gateway. When none answers, the data directory is opened here,
without the gateway's ports. What is there already stays as it is, so an import
may be repeated.")]
pub(crate) struct Options {
    /// A provider-router.db. It is only read.
    file: PathBuf,
    /// Only tell what would be imported.
    #[arg(long)]
    dry_run: bool,
    /// Where the database lies, when no gateway answers.
    #[arg(long, env = "QWARDEN_DATA_DIR")]
    data_dir: Option<PathBuf>,
}

pub(crate) async fn run(options: Options, client: &Client, console: &Console) -> Outcome {
    let body = json!({"path": absolute(&options.file)?, "dry_run": options.dry_run});
    let answer = match Box::pin(ask(client, &body)).await {
        Err(Failure::NotRunning { .. }) => Box::pin(alone(options.data_dir, &body)).await?,
        answer => answer?,
    };
    console.answer(&answer, || shown(&answer, console))?;
    if options.dry_run {
        Console::note("nothing was imported; leave out --dry-run to do it");
    }
    Ok(Exit::Done)
}

async fn ask(client: &Client, body: &Value) -> Result<Value, Failure> {
    let call = client.post(&["api", "import"]).within(VERY_LONG);
    let asking = call.body(body.clone()).send();
    let mut progress = Progress::new();
    let totals = if progress.is_shown() && body["dry_run"] == false {
        preview(client, body).await
    } else {
        Value::Null
    };
    let line = |event: &Value| {
        let table = at(event, "/table");
        let rows = event["rows"].as_u64().unwrap_or_default();
        match totals[&table]["found"].as_u64() {
            Some(total) => part(&table, rows, total),
            None => format!("{table}: {rows} rows"),
        }
    };
    progress
        .during(client, "import:progress", line, asking)
        .await
}

/// What the file holds, table by table, for the bars. What is wrong with it the import itself says.
async fn preview(client: &Client, body: &Value) -> Value {
    let mut body = body.clone();
    body["dry_run"] = true.into();
    let call = client.post(&["api", "import"]).within(VERY_LONG);
    let mut answer = call.body(body).send().await.unwrap_or_default();
    answer["tables"].take()
}

/// By a gateway of this process: management only, on a port that nobody knows.
async fn alone(dir: Option<PathBuf>, body: &Value) -> Result<Value, Failure> {
    let config = Config {
        data_dir: data_dir::checked(dir)?,
        settings: vec![
            (settings::SERVER_API_PORT.into(), json!(0)),
            (settings::AUTO_START.into(), json!(false)),
            (settings::DISCOVERY.into(), json!(false)),
        ],
        ..Config::default()
    };
    let gateway = Gateway::start(config)
        .await
        .map_err(|error| Failure::Other(error.to_string()))?;
    let url = format!("http://{}", gateway.management_address());
    let answer = match Client::new(&url, None) {
        Ok(client) => ask(&client, body).await,
        Err(failure) => Err(failure),
    };
    let is_orderly = gateway.shutdown(IMPORT_GRACE).await;
    let answer = answer?;
    if is_orderly {
        Ok(answer)
    } else {
        Err(Failure::Other(
            "the database could not be closed in order; import again to be sure".into(),
        ))
    }
}

fn shown(answer: &Value, console: &Console) -> String {
    let tables = answer["tables"].as_object().into_iter().flatten();
    let rows: Vec<Value> = tables
        .map(|(name, table)| {
            let mut row = table.clone();
            row["table"] = name.as_str().into();
            row
        })
        .collect();
    console.draw(&Table::of(&rows, COLUMNS))
}
