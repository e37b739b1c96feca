//! Who listens on the gateway's ports.

use serde_json::Value;

use super::Finding;
use crate::cli::client::Client;
use crate::cli::failure::Failure;
use crate::limits::command_line::PORT_ANSWER;

/// Who answers on a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Listener {
    Nobody,
    Ours,
    Foreign,
}

/// The router's and the Qwen proxy's port. The management port is the check `gateway`.
pub(super) async fn check(is_up: bool, client: &Client, usual: [u16; 2]) -> Vec<Finding> {
    let status = if is_up {
        client.get(&["api", "proxy", "status"]).send().await.ok()
    } else {
        None
    };
    let mut findings = Vec::new();
    for ((name, key), usual) in [("router", "providerRouter"), ("qwen proxy", "qwenProxy")]
        .into_iter()
        .zip(usual)
    {
        let service = status.as_ref().map(|status| &status[key]);
        let port = service
            .and_then(|service| service["port"].as_u64())
            .and_then(|port| u16::try_from(port).ok())
            .filter(|port| *port > 0)
            .unwrap_or(usual);
        let is_open = service.map(|service| service["running"] == true);
        let listener = listener(&client.beside(port)).await;
        findings.push(judged(&format!("port {port}"), name, is_open, listener));
    }
    findings
}

/// `is_open` is what the gateway says of the port; `None` when no gateway runs.
fn judged(check: &str, name: &str, is_open: Option<bool>, listener: Listener) -> Finding {
    match (is_open, listener) {
        (Some(true), Listener::Ours) => Finding::ok(check, format!("ours: the {name}")),
        (Some(true), _) => Finding::problem(
            check,
            format!("the {name} should answer here, and does not"),
            "`qwarden restart` opens it again",
        ),
        (_, Listener::Foreign) => Finding::problem(
            check,
            format!("foreign: another program has the port of the {name}"),
            "stop that program, or choose another port: `qwarden serve --help`",
        ),
        (Some(false), Listener::Nobody) => Finding::warning(
            check,
            format!("free: the {name} is stopped"),
            "`qwarden start` opens it",
        ),
        (_, Listener::Ours) => Finding::warning(
            check,
            format!("ours: the {name} of a gateway that is managed elsewhere"),
            "name its management address with --url",
        ),
        (None, Listener::Nobody) => Finding::ok(check, format!("free, for the {name}")),
    }
}

/// Every port of a gateway tells its name, or refuses in its own form.
async fn listener(there: &Client) -> Listener {
    match there.get(&[]).within(PORT_ANSWER).send_any().await {
        Ok((_, body)) if is_ours(&body) => Listener::Ours,
        Err(Failure::NotRunning { .. }) => Listener::Nobody,
        Ok(_) | Err(_) => Listener::Foreign,
    }
}

fn is_ours(body: &Value) -> bool {
    let is_named = body["name"]
        .as_str()
        .is_some_and(|name| name.starts_with("qwarden"));
    let has_envelope = body["requestId"]
        .as_str()
        .is_some_and(|id| id.starts_with("req_"));
    is_named || (has_envelope && body["error"].is_object())
}

#[cfg(test)]
mod tests {
    use super::super::State;
    use super::*;

    #[test]
    fn a_port_is_judged_by_who_listens_and_who_should() {
        for (is_open, listener, state, word) in [
            (Some(true), Listener::Ours, State::Ok, "ours"),
            (Some(true), Listener::Nobody, State::Problem, "should"),
            (Some(true), Listener::Foreign, State::Problem, "should"),
            (Some(false), Listener::Nobody, State::Warning, "free"),
            (Some(false), Listener::Foreign, State::Problem, "foreign"),
            (None, Listener::Nobody, State::Ok, "free"),
            (None, Listener::Ours, State::Warning, "elsewhere"),
            (None, Listener::Foreign, State::Problem, "foreign"),
        ] {
            let finding = judged("port 1", "router", is_open, listener);
            assert_eq!(finding.state, state, "{finding:?}");
            assert!(finding.text.contains(word), "{finding:?}");
        }
    }
}
