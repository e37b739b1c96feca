//! The rows of the self-test: what is broken, and what a client must get all the same.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use futures_util::future::BoxFuture;
use futures_util::{FutureExt, StreamExt};
use serde_json::{Value, json};

use crate::actors::database::Database;
use crate::actors::root::Supervision;
use crate::cli::failure::Failure;
use crate::cli::selftest::upstream::{SILENCE_MS, TEXT, Upstream};
use crate::db::connections;
use crate::db::upkeep::Upkeep;
use crate::gateway::Gateway;

/// Bytes of a row that does not fit.
const LARGE: usize = 800_000;

/// One fault.
pub(super) struct Row {
    pub(super) fault: &'static str,
    pub(super) expected: &'static str,
    pub(super) look: for<'a> fn(&'a Bench<'a>) -> BoxFuture<'a, Result<(), String>>,
}

pub(super) const ROWS: &[Row] = &[
    Row {
        fault: "none",
        expected: "all of the answer, a finish reason, the end marker",
        look: |bench| bench.whole(Door::Router, "whole").boxed(),
    },
    Row {
        fault: "characters split between reads",
        expected: "the text as it was",
        look: |bench| bench.whole(Door::Router, "split").boxed(),
    },
    Row {
        fault: "connection cut",
        expected: "what came, one error, the end marker, no finish reason",
        look: |bench| bench.broken(Door::Router, "cut", TEXT).boxed(),
    },
    Row {
        fault: "clean but early end",
        expected: "the same: an end without its marker is no end",
        look: |bench| bench.broken(Door::Router, "early-end", TEXT).boxed(),
    },
    Row {
        fault: "error inside the stream",
        expected: "the same, with the upstream's words",
        look: |bench| bench.broken(Door::Router, "in-band", TEXT).boxed(),
    },
    Row {
        fault: "malformed event",
        expected: "the same: what cannot be read is not passed on",
        look: |bench| bench.broken(Door::Router, "malformed", TEXT).boxed(),
    },
    Row {
        fault: "silence",
        expected: "the same, once the time is up",
        look: |bench| bench.broken(Door::Router, "stall", TEXT).boxed(),
    },
    Row {
        fault: "tool call cut",
        expected: "502, and nothing of the call",
        look: |bench| bench.call_cut(Door::Router).boxed(),
    },
    Row {
        fault: "upstream refuses",
        expected: "503 with its own Retry-After",
        look: |bench| bench.refused().boxed(),
    },
    Row {
        fault: "upstream is not there",
        expected: "502, never 500",
        look: |bench| bench.absent().boxed(),
    },
    Row {
        fault: "chat.qwen.ai: none",
        expected: "all of the answer, a finish reason, the end marker",
        look: |bench| bench.whole(Door::Qwen, "whole").boxed(),
    },
    Row {
        fault: "chat.qwen.ai: characters split between reads",
        expected: "the text as it was",
        look: |bench| bench.whole(Door::Qwen, "split").boxed(),
    },
    Row {
        fault: "chat.qwen.ai: connection cut",
        expected: "what came, one error, the end marker, no finish reason",
        look: |bench| bench.broken(Door::Qwen, "cut", TEXT).boxed(),
    },
    Row {
        fault: "chat.qwen.ai: clean but early end",
        expected: "the same",
        look: |bench| bench.broken(Door::Qwen, "early-end", TEXT).boxed(),
    },
    Row {
        fault: "chat.qwen.ai: error inside the stream",
        expected: "the same, with the site's words",
        look: |bench| bench.broken(Door::Qwen, "in-band", TEXT).boxed(),
    },
    Row {
        fault: "chat.qwen.ai: malformed event",
        expected: "the same: what cannot be read is not passed on",
        look: |bench| bench.broken(Door::Qwen, "malformed", TEXT).boxed(),
    },
    Row {
        fault: "chat.qwen.ai: tool call cut",
        expected: "502, and nothing of the call",
        look: |bench| bench.call_cut(Door::Qwen).boxed(),
    },
    Row {
        fault: "chat.qwen.ai: silence",
        expected: "the same, once the time is up",
        look: |bench| bench.broken(Door::Qwen, "stall", TEXT).boxed(),
    },
    Row {
        fault: "every actor killed amid a stream",
        expected: "the stream goes on, all actors serve again",
        look: |bench| bench.kills().boxed(),
    },
    Row {
        fault: "every actor restarted amid a stream",
        expected: "the stream goes on, all actors serve again",
        look: |bench| bench.restarts().boxed(),
    },
    Row {
        fault: "database locked by another program",
        expected: "completions go on, changes are refused with 503, and heal",
        look: |bench| bench.locked().boxed(),
    },
    Row {
        fault: "database full",
        expected: "completions go on, changes are refused with 503, and heal",
        look: |bench| bench.full().boxed(),
    },
    Row {
        fault: "history of it all",
        expected: "broken exchanges are failed, whole ones completed, none is open",
        look: |bench| bench.history().boxed(),
    },
];

/// What the rows work on.
pub(super) struct Bench<'a> {
    client: reqwest::Client,
    router: String,
    qwen: String,
    api: String,
    upstream: &'a Upstream,
    database: PathBuf,
    writer: Database,
    supervision: Supervision,
}

/// Which port is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Door {
    Router,
    Qwen,
}

impl Door {
    /// What clients call the upstream's `model` there.
    fn model(self, model: &str) -> String {
        match self {
            Self::Router => format!("scripted/{model}"),
            Self::Qwen => model.to_owned(),
        }
    }
}

/// What a client made of a stream.
#[derive(Debug, Default)]
struct Seen {
    text: String,
    errors: Vec<String>,
    finish: Option<String>,
    ends: usize,
}

impl<'a> Bench<'a> {
    pub(super) async fn of(
        gateway: &Gateway,
        upstream: &'a Upstream,
        database: PathBuf,
    ) -> Result<Self, Failure> {
        let client = reqwest::Client::builder()
            .no_proxy()
            .build()
            .map_err(|error| Failure::Other(error.to_string()))?;
        let bench = Self {
            client,
            router: format!("http://{}", gateway.router_address()),
            qwen: format!("http://{}", gateway.qwen_address()),
            api: format!("http://{}", gateway.management_address()),
            upstream,
            database,
            writer: gateway.database().clone(),
            supervision: gateway.supervision().clone(),
        };
        for (id, base) in [
            ("scripted", format!("http://{}/v1", upstream.address)),
            ("absent", "http://127.0.0.1:9/v1".to_owned()),
        ] {
            let body = json!({"id": id, "name": id, "type": "openai-compatible", "config": {"baseURL": base}});
            let made = bench.post("/api/providers", &body).await;
            let status = made.map_err(Failure::Other)?.status();
            if status != 201 {
                return Err(Failure::Other(format!(
                    "the provider {id} was refused: {status}"
                )));
            }
        }
        let login = json!({"token": "self-test", "cookies": "token=self-test"});
        let stored = bench.post("/api/qwen/credentials", &login).await;
        let status = stored.map_err(Failure::Other)?.status();
        if !status.is_success() {
            return Err(Failure::Other(format!("the login was refused: {status}")));
        }
        Ok(bench)
    }

    async fn post(&self, path: &str, body: &Value) -> Result<reqwest::Response, String> {
        let url = format!("{}{path}", self.api);
        self.client.post(url).json(body).send().await.map_err(words)
    }

    async fn ask(&self, model: &str) -> Result<reqwest::Response, String> {
        self.ask_at(Door::Router, model, json!({})).await
    }

    /// Asks with the members of `more` in the request.
    async fn ask_at(
        &self,
        door: Door,
        model: &str,
        more: Value,
    ) -> Result<reqwest::Response, String> {
        let base = match door {
            Door::Router => &self.router,
            Door::Qwen => &self.qwen,
        };
        let mut body = json!({"model": model, "stream": true, "messages": [{"role": "user", "content": "hi"}]});
        if let (Some(body), Value::Object(more)) = (body.as_object_mut(), more) {
            body.extend(more);
        }
        let url = format!("{base}/v1/chat/completions");
        self.client
            .post(url)
            .json(&body)
            .send()
            .await
            .map_err(words)
    }

    async fn stream(&self, door: Door, model: &str) -> Result<Seen, String> {
        let answer = self.ask_at(door, &door.model(model), json!({})).await?;
        if answer.status() != 200 {
            return Err(format!("status {} in place of 200", answer.status()));
        }
        read(answer).await
    }

    async fn whole(&self, door: Door, model: &str) -> Result<(), String> {
        complete(&self.stream(door, model).await?)
    }

    async fn broken(&self, door: Door, model: &str, text: &str) -> Result<(), String> {
        let began = Instant::now();
        let seen = self.stream(door, model).await?;
        check(seen.text == text, || format!("the text is `{}`", seen.text))?;
        check(seen.errors.len() == 1, || {
            format!("{} errors were told: {:?}", seen.errors.len(), seen.errors)
        })?;
        check(seen.ends == 1, || format!("{} end markers came", seen.ends))?;
        check(seen.finish.is_none(), || {
            format!("a finish reason was made up: {:?}", seen.finish)
        })?;
        if model == "in-band" {
            check(
                seen.errors.iter().any(|error| error.contains("overloaded")),
                || format!("the upstream's words are lost: {:?}", seen.errors),
            )?;
        }
        if model == "stall" {
            let took = began.elapsed();
            let most = Duration::from_millis(SILENCE_MS * 3);
            check(took < most, || format!("it took {} ms", took.as_millis()))?;
        }
        Ok(())
    }

    async fn call_cut(&self, door: Door) -> Result<(), String> {
        let tool = json!({"type": "function", "function": {"name": "write", "parameters": {"type": "object"}}});
        let more = json!({"tools": [tool]});
        let answer = self.ask_at(door, &door.model("tool-cut"), more).await?;
        check(answer.status() == 502, || {
            format!("status {}", answer.status())
        })?;
        let body = answer.text().await.map_err(words)?;
        check(!body.contains("tool_calls"), || format!("it came: {body}"))
    }

    async fn refused(&self) -> Result<(), String> {
        let answer = self.ask("scripted/refuse").await?;
        let retry = answer.headers().get("retry-after").cloned();
        check(answer.status() == 503, || {
            format!("status {}", answer.status())
        })?;
        check(retry.as_ref().is_some_and(|after| after == "30"), || {
            format!("retry-after is {retry:?}")
        })
    }

    async fn absent(&self) -> Result<(), String> {
        let answer = self.ask("absent/m").await?;
        check(answer.status() == 502, || {
            format!("status {}", answer.status())
        })
    }

    /// Every actor is ended as if it had died, each while a stream runs.
    async fn kills(&self) -> Result<(), String> {
        let tree = self.get("/api/supervision").await?;
        for (name, before) in children(&tree)? {
            let answer = self.ask("scripted/gated").await?;
            let killing = async {
                let was_there = self.supervision.kill(&name);
                let outcome = if was_there {
                    self.back(&name, before).await
                } else {
                    Err("it was not there".into())
                };
                self.upstream.go();
                outcome
            };
            let (seen, back) = futures_util::join!(read(answer), killing);
            back.map_err(|problem| format!("{name}: {problem}"))?;
            complete(&seen?).map_err(|problem| format!("{name}: {problem}"))?;
            let after = self.whole(Door::Router, "whole").await;
            after.map_err(|problem| format!("after {name}: {problem}"))?;
        }
        self.is_ready().await
    }

    /// Waits until an incarnation later than `before` runs.
    async fn back(&self, name: &str, before: u64) -> Result<(), String> {
        loop {
            let tree = self.get("/api/supervision").await?;
            let now = children(&tree)?
                .into_iter()
                .find(|(child, _)| child == name);
            if now.is_some_and(|(_, incarnation)| incarnation > before) {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    async fn restarts(&self) -> Result<(), String> {
        let tree = self.get("/api/supervision").await?;
        for (name, _) in children(&tree)? {
            let answer = self.ask("scripted/gated").await?;
            let restarting = async {
                let path = format!("/api/supervision/{name}/restart");
                let answer = self.post(&path, &json!({})).await;
                self.upstream.go();
                answer.map(|answer| answer.status())
            };
            let (seen, restarted) = futures_util::join!(read(answer), restarting);
            let status = restarted.map_err(|error| format!("{name}: {error}"))?;
            check(status == 200, || {
                format!("{name}: its restart was answered {status}")
            })?;
            complete(&seen?).map_err(|problem| format!("{name}: {problem}"))?;
            let after = self.whole(Door::Router, "whole").await;
            after.map_err(|problem| format!("after {name}: {problem}"))?;
        }
        self.is_ready().await
    }

    async fn is_ready(&self) -> Result<(), String> {
        let ready = self.get("/api/health/ready").await?;
        check(ready["status"] == "ready", || {
            format!("not ready: {}", ready["reasons"])
        })
    }

    async fn locked(&self) -> Result<(), String> {
        let lock = connections::foreign_lock(&self.database).map_err(|error| error.to_string())?;
        let outcome = async {
            self.whole(Door::Router, "whole").await?;
            let model = json!({"id": "locked", "name": "locked"});
            let refused = self.post("/api/models", &model).await?;
            let has_retry = refused.headers().contains_key("retry-after");
            check(refused.status() == 503 && has_retry, || {
                format!("a change was answered {}", refused.status())
            })
        }
        .await;
        drop(lock);
        outcome?;
        self.heals("unlocked").await
    }

    async fn full(&self) -> Result<(), String> {
        let cap = async |pages| {
            let capped = self.writer.upkeep(Upkeep::Cap { pages }).await;
            capped.map(drop).map_err(|error| error.to_string())
        };
        cap(Some(1)).await?;
        let outcome = async {
            // Larger than what may be free in the file.
            let model = json!({"id": "large", "name": "large", "description": "x".repeat(LARGE)});
            let refused = self.post("/api/models", &model).await?;
            let has_retry = refused.headers().contains_key("retry-after");
            check(refused.status() == 503 && has_retry, || {
                format!("a change was answered {}", refused.status())
            })?;
            self.whole(Door::Router, "whole").await
        }
        .await;
        cap(None).await?;
        outcome?;
        self.heals("roomy").await
    }

    /// By itself; until then changes are refused.
    async fn heals(&self, id: &str) -> Result<(), String> {
        loop {
            let made = self
                .post("/api/models", &json!({"id": id, "name": id}))
                .await?;
            match made.status().as_u16() {
                201 | 409 => return Ok(()),
                503 => tokio::time::sleep(Duration::from_millis(100)).await,
                other => return Err(format!("afterwards a change was answered {other}")),
            }
        }
    }

    async fn history(&self) -> Result<(), String> {
        for (model, status) in [
            ("whole", "completed"),
            ("split", "completed"),
            ("cut", "failed"),
            ("early-end", "failed"),
            ("in-band", "failed"),
            ("malformed", "failed"),
            ("stall", "failed"),
            ("tool-cut", "failed"),
        ] {
            let list = self
                .get(&format!(
                    "/api/requests?model=scripted/{model}&fields=status"
                ))
                .await?;
            let rows = list["requests"].as_array().cloned().unwrap_or_default();
            check(
                !rows.is_empty() && rows.iter().all(|row| row["status"] == status),
                || format!("{model}: {rows:?} in place of {status}"),
            )?;
        }
        let open = self
            .get("/api/requests?status=in_progress&fields=id")
            .await?;
        check(open["total"] == 0, || format!("{} are open", open["total"]))
    }

    async fn get(&self, path: &str) -> Result<Value, String> {
        let answer = self.client.get(format!("{}{path}", self.api)).send().await;
        answer.map_err(words)?.json().await.map_err(words)
    }
}

async fn read(answer: reqwest::Response) -> Result<Seen, String> {
    let mut bytes = answer.bytes_stream();
    let mut all = Vec::new();
    while let Some(piece) = bytes.next().await {
        all.extend_from_slice(
            &piece.map_err(|error| format!("the stream broke: {}", words(error)))?,
        );
    }
    let text = String::from_utf8(all).map_err(|_| "the stream is no UTF-8".to_owned())?;
    let mut seen = Seen::default();
    for data in text.lines().filter_map(|line| line.strip_prefix("data: ")) {
        if data == "[DONE]" {
            seen.ends += 1;
            continue;
        }
        let value: Value =
            serde_json::from_str(data).map_err(|_| format!("no JSON was passed on: {data}"))?;
        if let Some(message) = value.pointer("/error/message").and_then(Value::as_str) {
            seen.errors.push(message.to_owned());
        }
        let choice = &value["choices"][0];
        seen.text
            .push_str(choice["delta"]["content"].as_str().unwrap_or_default());
        if let Some(reason) = choice["finish_reason"].as_str() {
            seen.finish = Some(reason.to_owned());
        }
    }
    Ok(seen)
}

fn complete(seen: &Seen) -> Result<(), String> {
    let is_whole = seen.text == TEXT && seen.errors.is_empty() && seen.ends == 1;
    check(is_whole && seen.finish.as_deref() == Some("stop"), || {
        format!("{seen:?}")
    })
}

/// All actors below the root, with their incarnations.
fn children(tree: &Value) -> Result<Vec<(String, u64)>, String> {
    fn walk(node: &Value, found: &mut Vec<(String, u64)>) {
        for child in node["children"].as_array().into_iter().flatten() {
            let name = child["name"].as_str().unwrap_or_default().to_owned();
            let runs = child["state"] == "running";
            let incarnation = child["incarnation"].as_u64().filter(|_| runs);
            found.push((name, incarnation.unwrap_or_default()));
            walk(child, found);
        }
    }
    let mut found = Vec::new();
    walk(tree, &mut found);
    check(found.len() > 5, || {
        format!("the tree is too small: {found:?}")
    })?;
    Ok(found)
}

fn check(holds: bool, problem: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(problem()) }
}

fn words(error: reqwest::Error) -> String {
    // Without the address, which says nothing here.
    error.without_url().to_string()
}
