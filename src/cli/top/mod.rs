//! `qwarden top`: what the gateway does, as it does it.

mod screen;
mod view;

use std::io::{self, IsTerminal};

use clap::Args;
use crossterm::event::{Event as Input, EventStream, KeyCode, KeyEventKind, KeyModifiers};
use eventsource_stream::{Event, Eventsource};
use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use serde_json::Value;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::MissedTickBehavior;

use crate::cli::client::Client;
use crate::cli::console::{Console, print};
use crate::cli::failure::{Exit, Failure, Outcome};
use crate::cli::input::json_or_text;
use crate::cli::request::LIGHT;
use crate::cli::top::screen::Screen;
use crate::cli::top::view::View;
use crate::clock::now_ms;
use crate::limits::command_line::{REFRESH, TOP_SOON};

/// Exchanges of the past that the numbers of a first picture are made of.
const PAST: u32 = 500;

/// How it is shown.
#[derive(Args, Debug)]
#[command(after_help = "\
Keys: p pauses the picture, q ends it. Without a terminal, and with --json, one
picture is printed.")]
pub(crate) struct Options {
    /// Print one picture, and end.
    #[arg(long)]
    once: bool,
}

pub(crate) async fn run(options: Options, client: &Client, console: &Console) -> Outcome {
    let is_live = !options.once && !console.json && io::stdout().is_terminal();
    if is_live {
        // What runs or ended before is asked for once events are heard, so that nothing falls between the two.
        let events = listen(client).await?;
        let view = look(client).await?;
        return Box::pin(live(view, Some(events), client, console)).await;
    }
    let view = look(client).await?;
    if console.json {
        Console::json(&view.snapshot(now_ms()))?;
    } else {
        print(&view.text(now_ms(), None, console))?;
    }
    Ok(Exit::Done)
}

type Events = BoxStream<'static, Option<Event>>;

async fn listen(client: &Client) -> Result<Events, Failure> {
    let call = client
        .get(&["api", "events"])
        .query("types", Some("request:*,provider:*,events:lost"));
    let response = call.stream("text/event-stream").await?;
    let events = response.bytes_stream().eventsource();
    Ok(events.map(Result::ok).boxed())
}

/// The picture of this moment.
async fn look(client: &Client) -> Result<View, Failure> {
    let list = |status: Option<&str>| {
        client
            .get(&["api", "requests"])
            .query("limit", Some(PAST))
            .query("fields", Some(LIGHT))
            .query("status", status)
            .within(TOP_SOON)
    };
    let mut view = View::new(client.url());
    view.runs(&list(Some("in_progress")).send().await?);
    view.ended(&list(None).send().await?);
    view.tree = tree(client).await?;
    view.ails(
        &client
            .get(&["api", "health"])
            .within(TOP_SOON)
            .send()
            .await?,
    );
    Ok(view)
}

async fn tree(client: &Client) -> Result<Value, Failure> {
    let call = client.get(&["api", "supervision"]).within(TOP_SOON);
    call.send().await
}

/// Until somebody says stop. Every way out goes by the screen's end.
async fn live(
    mut view: View,
    mut events: Option<Events>,
    client: &Client,
    console: &Console,
) -> Outcome {
    let unheard = |error: io::Error| Failure::Other(format!("signals cannot be heard: {error}"));
    let mut terminate = signal(SignalKind::terminate()).map_err(unheard)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(unheard)?;
    let mut hang_up = signal(SignalKind::hangup()).map_err(unheard)?;
    let mut keys = EventStream::new();
    let mut clock = tokio::time::interval(REFRESH);
    clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut screen = Screen::open()?;
    let mut is_paused = false;
    loop {
        let heard = async {
            match &mut events {
                Some(events) => events.next().await.flatten(),
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = terminate.recv() => return Ok(Exit::Done),
            _ = interrupt.recv() => return Ok(Exit::Done),
            _ = hang_up.recv() => return Ok(Exit::Done),
            input = keys.next() => match input {
                None => return Ok(Exit::Done),
                Some(input) => match pressed(&input?) {
                    Some(Key::Quit) => return Ok(Exit::Done),
                    Some(Key::Pause) => is_paused = !is_paused,
                    // Another size.
                    None => {}
                },
            },
            event = heard => {
                if let Some(event) = event {
                    // Drawn with the next tick: there may be thousands a second.
                    view.hear(&event.event, &json_or_text(&event.data), now_ms());
                    continue;
                }
                events = None;
                view.is_reached = false;
            }
            _ = clock.tick() => {
                if events.is_none() || view.is_behind {
                    if let Ok((again, fresh)) = again(client).await {
                        events = Some(again);
                        view = fresh;
                    }
                } else {
                    match tree(client).await {
                        Ok(tree) => view.tree = tree,
                        Err(_) => view.is_reached = false,
                    }
                }
                if is_paused {
                    continue;
                }
            }
        }
        screen.draw(|size| view.picture(now_ms(), size, is_paused, console))?;
    }
}

/// After a gap, everything anew.
async fn again(client: &Client) -> Result<(Events, View), Failure> {
    let listening = tokio::time::timeout(TOP_SOON, listen(client)).await;
    let events = listening.map_err(|_| Failure::Other("no answer".into()))??;
    Ok((events, look(client).await?))
}

enum Key {
    Quit,
    Pause,
}

fn pressed(input: &Input) -> Option<Key> {
    let key = input.as_key_event()?;
    if key.kind != KeyEventKind::Press {
        return None;
    }
    // In this mode Ctrl-C is a key like any other.
    let with_control = key.modifiers.contains(KeyModifiers::CONTROL);
    match key.code {
        KeyCode::Char('c' | 'd') if with_control => Some(Key::Quit),
        KeyCode::Char('q') | KeyCode::Esc => Some(Key::Quit),
        KeyCode::Char('p' | ' ') => Some(Key::Pause),
        _ => None,
    }
}
