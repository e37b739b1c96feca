//! `qwarden logs`: what happens in the gateway, lately or as it happens.

use std::time::Duration;

use clap::Args;
use eventsource_stream::{Event, Eventsource};
use futures_util::StreamExt;
use serde_json::{Value, json};

use crate::cli::activity;
use crate::cli::client::Client;
use crate::cli::console::{Console, print};
use crate::cli::failure::{Exit, Failure, Outcome};
use crate::cli::words::{self, at};
use crate::limits::command_line::{FIRST_PAUSE, LONGEST_PAUSE};

/// Which events.
#[derive(Args, Debug)]
#[command(after_help = "\
With --json each event is one line: {\"id\", \"event\", \"data\"}.
The gateway's own log goes to the standard error of `qwarden serve`.")]
pub(crate) struct Options {
    /// Print events as they happen, until Ctrl-C; goes on when the gateway restarts.
    #[arg(short, long)]
    follow: bool,
    /// Only these kinds, by comma: providers:updated,actor:* ...
    #[arg(long, value_name = "LIST", requires = "follow")]
    types: Option<String>,
    /// Without -f: how many of the past to show, 1 to 1000.
    #[arg(short, long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=1000))]
    limit: u32,
}

pub(crate) async fn run(options: Options, client: &Client, console: &Console) -> Outcome {
    if options.follow {
        return follow(options.types.as_deref(), client, console).await;
    }
    let call = client.get(&["api", "activity", "recent"]);
    let body = call.query("limit", Some(options.limit)).send().await?;
    console.list(&body, "activities", activity::COLUMNS)?;
    Ok(Exit::Done)
}

/// Where a listener is in the stream of events.
#[derive(Default)]
struct Place {
    /// The id of the last event that had one.
    last: Option<String>,
    /// Whether a connection was had at all.
    connected: bool,
    pause: Duration,
}

async fn follow(types: Option<&str>, client: &Client, console: &Console) -> Outcome {
    let mut place = Place {
        pause: FIRST_PAUSE,
        ..Place::default()
    };
    loop {
        match listen(types, client, console, &mut place).await {
            Err(Failure::Closed) => return Ok(Exit::Done),
            // A wrong address, a wrong token or a gateway without events stays so; one that was there may come back.
            Err(failure) if !place.connected || is_final(&failure) => return Err(failure),
            Ok(()) | Err(_) => {}
        }
        Console::note("the gateway has closed the connection; trying again");
        tokio::time::sleep(place.pause).await;
        place.pause = (place.pause * 2).min(LONGEST_PAUSE);
    }
}

fn is_final(failure: &Failure) -> bool {
    matches!(failure, Failure::Refused(refusal) if refusal.status < 500)
}

/// Prints events until the connection ends.
async fn listen(
    types: Option<&str>,
    client: &Client,
    console: &Console,
    place: &mut Place,
) -> Result<(), Failure> {
    let mut call = client.get(&["api", "events"]).query("types", types);
    if let Some(last) = &place.last {
        call = call.header("last-event-id", last);
    }
    let response = call.stream("text/event-stream").await?;
    place.connected = true;
    let mut events = response.bytes_stream().eventsource();
    while let Some(event) = events.next().await {
        // What breaks off is asked for again.
        let Ok(event) = event else { return Ok(()) };
        place.pause = FIRST_PAUSE;
        print(&line(&event, console.json))?;
        if !event.id.is_empty() {
            place.last = Some(event.id);
        }
    }
    Ok(())
}

fn line(event: &Event, as_json: bool) -> String {
    let data: Value = crate::cli::input::json_or_text(&event.data);
    if as_json {
        return json!({"id": event.id, "event": event.event, "data": data}).to_string();
    }
    let time = match (data["at"].as_i64(), &data["timestamp"]) {
        (Some(at), _) => words::time(at),
        (None, Value::String(text)) => words::rfc3339_time(text),
        (None, _) => words::time(crate::clock::now_ms()),
    };
    // Of its kinds only `proxy:status` comes without a description.
    let what = ["/description", "/status/message"]
        .iter()
        .find(|pointer| data.pointer(pointer).is_some())
        .map_or_else(|| at(&data, ""), |pointer| at(&data, pointer));
    format!("{time}  {}  {what}", words::one_line(&event.event))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_one_line() {
        let event = |data: &str| Event {
            event: "providers:updated".into(),
            data: data.into(),
            id: "7".into(),
            retry: None,
        };
        let told = event(r#"{"at":1700000000123,"description":"provider x\ncreated"}"#);
        assert_eq!(
            line(&told, false),
            "2023-11-14 22:13:20Z  providers:updated  provider x created"
        );
        let told = line(&event(r#"{"b":1}"#), true);
        assert!(!told.contains('\n'), "{told}");
        let told: serde_json::Value = serde_json::from_str(&told).expect("JSON");
        let expected =
            serde_json::json!({"data": {"b": 1}, "event": "providers:updated", "id": "7"});
        assert_eq!(told, expected);
        assert!(line(&event("no json"), false).ends_with("  no json"));
    }
}
