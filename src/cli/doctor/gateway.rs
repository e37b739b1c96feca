//! What a running gateway says of itself.

use futures_util::future::join_all;
use serde_json::{Value, json};

use super::Finding;
use crate::cli::client::Client;
use crate::cli::failure::{Failure, or_nothing};
use crate::cli::provider::verdict;
use crate::cli::status::readiness;
use crate::cli::words::{Show, at, show};
use crate::limits::command_line::LONG;

/// Provider types that need the stored login.
const WITH_LOGIN: [&str; 2] = ["qwen-direct", "qwen-proxy"];

/// Whether there is a gateway, and which.
pub(super) fn reached(health: &Result<Value, Failure>, client: &Client) -> Vec<Finding> {
    let own = env!("CARGO_PKG_VERSION");
    match health {
        Ok(health) => {
            let version = at(health, "/version");
            let up = show(health.get("uptime"), Show::Lasted);
            let found = Finding::ok("gateway", format!("answers at {}, up {up}", client.url()));
            let version = if version == own {
                Finding::ok("version", own)
            } else {
                Finding::warning(
                    "version",
                    format!("the gateway is {version}, this program is {own}"),
                    "stop `qwarden serve` and start it again",
                )
            };
            vec![found, version]
        }
        Err(Failure::NotRunning { reason, .. }) => vec![
            Finding::problem(
                "gateway",
                format!("nothing answers at {} ({reason})", client.url()),
                "start it with `qwarden serve`, or name its address with --url",
            ),
            Finding::ok("version", own),
        ],
        Err(failure) => vec![
            Finding::problem(
                "gateway",
                failure.to_string(),
                "if another program has this port, stop it or name the right address with --url; a token is given with --token",
            ),
            Finding::ok("version", own),
        ],
    }
}

/// The time of the newest row the gateway knows, in Unix milliseconds.
pub(super) async fn newest(is_up: bool, client: &Client) -> Option<i64> {
    if !is_up {
        return None;
    }
    let call = client.get(&["api", "requests"]).query("limit", Some(1));
    let requests = call.query("fields", Some("timestamp")).send().await.ok()?;
    let call = client.get(&["api", "activity", "recent"]);
    let activity = or_nothing(call.query("limit", Some(1)).send().await).ok()?;
    let times = [
        requests.pointer("/requests/0/timestamp"),
        activity.pointer("/activities/0/timestamp_ms"),
    ];
    times.into_iter().flatten().filter_map(Value::as_i64).max()
}

/// Health, login and providers.
pub(super) async fn check(health: &Value, client: &Client) -> Vec<Finding> {
    let mut findings = vec![well(health)];
    findings.extend(recovered(health));
    findings.extend(ready(readiness(client).await));
    findings.extend(breakers(health));
    let credentials = client.get(&["api", "qwen", "credentials"]).send().await;
    let logins = logins(&credentials);
    let has_login = credentials.is_ok_and(|body| body["hasCredentials"] == true);
    findings.extend(logins);
    findings.extend(providers(client, has_login).await);
    findings
}

fn well(health: &Value) -> Finding {
    if health["status"] == "ok" {
        return Finding::ok("health", "ok");
    }
    let actors = health["actors"].as_object().into_iter().flatten();
    let mut ailing: Vec<String> = actors
        .filter(|(name, actor)| actor["state"] != "running" && !name.starts_with("listener-"))
        .map(|(name, actor)| format!("{name} is {}", at(actor, "/state")))
        .collect();
    let database = at(health, "/checks/db/status");
    if database != "ok" {
        ailing.push(format!("the database is {database}"));
    }
    let integrity = &health["checks"]["db"]["integrity"];
    let is_damaged = integrity.to_string().contains("damaged");
    if is_damaged {
        ailing.push(format!(
            "the database file is damaged: {}",
            at(integrity, "")
        ));
    }
    let text = format!("{}: {}", at(health, "/status"), ailing.join("; "));
    let remedy = if is_damaged {
        "a fresh file takes its place by itself; see the log of `qwarden serve`"
    } else {
        "see the log of `qwarden serve`; parts that fail are tried again by themselves"
    };
    Finding::problem("health", text, remedy)
}

/// That the database is not the one it was.
fn recovered(health: &Value) -> Option<Finding> {
    let found = health.pointer("/checks/db/recovered")?.as_object()?;
    let number = |name: &str| found.get(name).and_then(Value::as_u64).unwrap_or_default();
    let kept: Vec<&str> = found
        .get("kept")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    let state = if found.get("done") == Some(&json!(true)) {
        "copied"
    } else {
        "copied so far"
    };
    let text = format!(
        "a fresh file took the place of one that could not be used ({}) at {}: {} rows of configuration restored, {} rows \
         of history {state}, {} places unreadable",
        at(health, "/checks/db/recovered/why"),
        show(found.get("at"), Show::Time),
        number("configuration"),
        number("rows"),
        number("unreadable"),
    );
    let remedy = if kept.is_empty() {
        "if you removed it yourself, all is well; else put a backup in its place with `qwarden restore`".to_owned()
    } else {
        format!(
            "what was there is kept in the data directory as {}; remove it once nothing is missed",
            kept.join(", ")
        )
    };
    Some(Finding::warning("recovery", text, remedy))
}

/// What fails so often that it is left alone.
fn breakers(health: &Value) -> Vec<Finding> {
    let providers = health["providers"].as_object().into_iter().flatten();
    let nodes = providers.flat_map(|(id, provider)| {
        let models = provider["models"].as_array().into_iter().flatten();
        let models = models.map(move |model| (id, format!("{id}/{}", at(model, "/model")), model));
        std::iter::once((id, id.clone(), provider)).chain(models)
    });
    let open = nodes.filter(|(_, _, node)| {
        let breaker = node["breaker"].as_str();
        breaker.is_some_and(|word| word != "closed")
    });
    open.map(|(id, name, node)| {
        let left = show(node.get("reopens_in_ms"), Show::Took);
        Finding::warning(
            "breaker",
            format!(
                "{name} failed again and again (last: {}) and is left alone; tried again in {left}",
                at(node, "/last_error")
            ),
            format!("other targets serve meanwhile; `qwarden provider test {id}` asks it now"),
        )
    })
    .collect()
}

fn ready(ready: Result<Value, Failure>) -> Vec<Finding> {
    let ready = match ready {
        Ok(ready) => ready,
        Err(failure) => {
            return vec![Finding::problem(
                "ready",
                failure.to_string(),
                "see the log of `qwarden serve`",
            )];
        }
    };
    if ready["status"] == "ready" {
        return vec![Finding::ok("ready", "completions are served")];
    }
    let reasons = ready["reasons"].as_array().into_iter().flatten();
    let mut findings: Vec<Finding> = reasons
        .map(|reason| {
            let reason = at(reason, "");
            let remedy = if reason.contains("stopped") {
                "`qwarden start` opens the ports"
            } else {
                "see the log of `qwarden serve`; `qwarden health` tells when it is over"
            };
            Finding::problem("ready", reason, remedy)
        })
        .collect();
    if findings.is_empty() {
        findings.push(Finding::problem(
            "ready",
            at(&ready, "/status"),
            "see the log of `qwarden serve`",
        ));
    }
    findings
}

fn logins(credentials: &Result<Value, Failure>) -> Vec<Finding> {
    let body = match credentials {
        Ok(body) => body,
        Err(failure) => {
            return vec![Finding::problem(
                "login",
                failure.to_string(),
                "see the log of `qwarden serve`",
            )];
        }
    };
    if body["hasCredentials"] != true {
        return vec![Finding::warning(
            "login",
            "no chat.qwen.ai login is stored; only the Qwen proxy needs one",
            "`qwarden login --help` says how to hand one over",
        )];
    }
    let own = [body.clone()];
    // The older program knows one login, and tells of it without a list.
    let accounts = body["accounts"].as_array().map_or(&own[..], Vec::as_slice);
    accounts.iter().map(login).collect()
}

fn login(account: &Value) -> Finding {
    let label = at(account, "/label");
    let ends = show(account.get("expiresAt"), Show::Seconds);
    let again = "log in at chat.qwen.ai and hand the login over again: `qwarden login --help`";
    match account["state"].as_str() {
        Some("expiring") => Finding::warning("login", format!("{label} ends {ends}"), again),
        Some("expired") => {
            Finding::problem("login", format!("{label} has expired ({ends})"), again)
        }
        Some("rejected") => Finding::problem(
            "login",
            format!("{label} is refused by chat.qwen.ai"),
            again,
        ),
        Some("challenged") => Finding::problem(
            "login",
            format!("{label} has to pass a check"),
            "open chat.qwen.ai in your browser, pass the check, hand the login over again",
        ),
        None if account["isValid"] == false => {
            Finding::problem("login", format!("{label} is not valid"), again)
        }
        _ if account["limited_until"].is_number() => Finding::warning(
            "login",
            format!(
                "{label} is over its limit until {}",
                show(account.get("limited_until"), Show::Seconds)
            ),
            "wait, or store a second login with `qwarden login --label`",
        ),
        _ if ends == "-" => Finding::ok("login", format!("{label} is valid")),
        _ => Finding::ok("login", format!("{label} is valid until {ends}")),
    }
}

/// Asks every enabled provider, all at once.
async fn providers(client: &Client, has_login: bool) -> Vec<Finding> {
    let call = client
        .get(&["api", "providers"])
        .query("enabled", Some(true));
    let listed = match call.query("limit", Some(1_000)).send().await {
        Ok(listed) => listed,
        Err(failure) => {
            return vec![Finding::problem(
                "providers",
                failure.to_string(),
                "see the log of `qwarden serve`",
            )];
        }
    };
    let enabled = listed["providers"].as_array().map(Vec::as_slice);
    let enabled = enabled.unwrap_or_default();
    if enabled.is_empty() {
        return vec![Finding::warning(
            "providers",
            "none is enabled: only the model `echo` answers",
            "`qwarden list` shows them, `qwarden provider enable` and `qwarden provider add` help",
        )];
    }
    join_all(
        enabled
            .iter()
            .map(|provider| asked(provider, client, has_login)),
    )
    .await
}

async fn asked(provider: &Value, client: &Client, has_login: bool) -> Finding {
    let id = at(provider, "/id");
    let check = format!("provider {id}");
    let call = client.post(&["api", "providers", &id, "test"]).within(LONG);
    let tested = match or_nothing(call.send().await) {
        // A gateway without this route knows what it saw last.
        Ok(Value::Null) => {
            let state = &provider["health"]["state"];
            json!({"healthy": state == "healthy", "error": provider["health"]["error"]})
        }
        Ok(tested) => tested,
        Err(failure) => json!({"healthy": false, "error": failure.to_string()}),
    };
    let text = verdict(&tested);
    if tested["healthy"] == true {
        return Finding::ok(&check, text);
    }
    let kind = provider["type"].as_str().unwrap_or_default();
    if WITH_LOGIN.contains(&kind) && !has_login {
        return Finding::warning(&check, text, "it needs a login: `qwarden login --help`");
    }
    Finding::problem(
        &check,
        text,
        format!(
            "`qwarden provider show {id}` shows its address; start its server, mend it with `qwarden provider edit`, \
             or switch it off with `qwarden provider disable {id}`"
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::super::State;
    use super::*;

    #[test]
    fn logins_are_weighed() {
        let weigh = |account: Value| {
            logins(&Ok(json!({"hasCredentials": true, "accounts": [account]})))[0].state
        };
        for (account, state) in [
            (json!({"state": "valid"}), State::Ok),
            (
                json!({"state": "valid", "limited_until": 1}),
                State::Warning,
            ),
            (json!({"state": "expiring"}), State::Warning),
            (json!({"state": "expired"}), State::Problem),
            (json!({"state": "rejected"}), State::Problem),
            (json!({"state": "challenged"}), State::Problem),
            (json!({"isValid": false}), State::Problem),
        ] {
            assert_eq!(weigh(account.clone()), state, "{account}");
        }
        let none = logins(&Ok(json!({"hasCredentials": false})));
        assert_eq!(none[0].state, State::Warning);
        let old = logins(&Ok(json!({"hasCredentials": true, "isValid": false})));
        assert_eq!(old[0].state, State::Problem);
    }

    #[test]
    fn what_ails_a_gateway_is_named() {
        let finding = well(
            &json!({"status": "degraded", "checks": {"db": {"status": "full"}},
            "actors": {"router": {"state": "melted"}, "listener-qwen": {"state": "stopped"}}}),
        );
        assert_eq!(finding.state, State::Problem);
        assert_eq!(
            finding.text,
            "degraded: router is melted; the database is full"
        );
        let reasons = ready(Ok(
            json!({"status": "not_ready", "reasons": ["the router is stopped"]}),
        ));
        assert_eq!(
            reasons[0].remedy.as_deref(),
            Some("`qwarden start` opens the ports")
        );
    }
}
