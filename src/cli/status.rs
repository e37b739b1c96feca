//! `qwarden status` and `qwarden health`: how the gateway does.

use serde_json::{Value, json};

use crate::cli::client::Client;
use crate::cli::console::Console;
use crate::cli::failure::{Exit, Failure, Outcome};
use crate::cli::table::{self, Column, Table};
use crate::cli::words::{Show, at};

const SERVICES: &[Column] = &[
    ("SERVICE", "/name", Show::Text),
    ("PORT", "/port", Show::Text),
    ("STATE", "/is", Show::State),
    ("UP", "/uptime", Show::Lasted),
    ("IN FLIGHT", "/in_flight", Show::Text),
    ("RESTARTS", "/restarts", Show::Text),
];

const HEALTH: &[Column] = &[
    ("status", "/status", Show::Text),
    ("version", "/version", Show::Text),
    ("up", "/uptime", Show::Lasted),
    ("database", "/checks/db/status", Show::Text),
    ("router", "/checks/router", Show::Text),
    ("qwen proxy", "/checks/qwen", Show::Text),
    ("login", "/checks/credentials", Show::Text),
];

pub(crate) async fn status(client: &Client, console: &Console) -> Outcome {
    let mut body = client.get(&["api", "proxy", "status"]).send().await?;
    let settings = client.get(&["api", "settings"]).send().await?;
    for key in ["active_provider", "active_model"] {
        body[key] = settings["settings"][key].clone();
    }
    console.answer(&body, || {
        format!(
            "{}\n{}",
            services(&body, console),
            table::fields(
                &json!({
                    "url": client.url(),
                    "provider": body["active_provider"],
                    "model": body["active_model"],
                    "providers": format!("{} of {} enabled", at(&body, "/providers/enabled"), at(&body, "/providers/total")),
                    "models": body["models"]["total"],
                    "login": login(&body["credentials"]),
                }),
                &[
                    ("management", "/url", Show::Text),
                    ("active provider", "/provider", Show::Text),
                    ("active model", "/model", Show::Text),
                    ("providers", "/providers", Show::Text),
                    ("models", "/models", Show::Text),
                    ("login", "/login", Show::Text),
                ],
            )
        )
    })?;
    Ok(Exit::Done)
}

/// The two gateway ports of a status answer.
pub(crate) fn services(body: &Value, console: &Console) -> String {
    let service = |name: &str, key: &str| {
        let mut row = body[key].clone();
        if !row.is_object() {
            row = json!({});
        }
        row["is"] = match row["running"].as_bool() {
            Some(true) => "running".into(),
            Some(false) => "stopped".into(),
            None => Value::Null,
        };
        row["name"] = name.into();
        row
    };
    let rows = [
        service("router", "providerRouter"),
        service("qwen proxy", "qwenProxy"),
    ];
    console.draw(&Table::of(&rows, SERVICES))
}

fn login(credentials: &Value) -> String {
    match (credentials["valid"].as_bool(), &credentials["expiresAt"]) {
        (Some(true), Value::Number(_)) => {
            let until = crate::cli::words::show(credentials.get("expiresAt"), Show::Seconds);
            format!("valid until {until}")
        }
        (Some(true), _) => "valid".into(),
        (Some(false), Value::Number(_)) => "not valid; `qwarden login`".into(),
        (Some(false), _) => "none; `qwarden login`".into(),
        (None, _) => "-".into(),
    }
}

pub(crate) async fn health(client: &Client, console: &Console) -> Outcome {
    let mut body = client.get(&["api", "health"]).send().await?;
    let ready = readiness(client).await?;
    let is_well = body["status"] == "ok" && ready["status"] == "ready";
    body["ready"] = ready;
    console.answer(&body, || table::fields(&body, HEALTH))?;
    if is_well {
        return Ok(Exit::Done);
    }
    for reason in body["ready"]["reasons"].as_array().into_iter().flatten() {
        Console::note(&format!("not ready: {}", at(reason, "")));
    }
    Console::note("`qwarden doctor` says what to do");
    Ok(Exit::Unhealthy)
}

/// Whether completions would be served; a refusal is an answer here.
pub(crate) async fn readiness(client: &Client) -> Result<Value, Failure> {
    let (_, body) = client.get(&["api", "health", "ready"]).send_any().await?;
    Ok(body)
}
