//! The command line against a real gateway: what it prints where, and its exit codes.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::upstream::{Step, Upstream, json_answer, whole};
use crate::support::{TestGateway, say};

/// Nobody may listen there, so nobody does.
pub const DEAD: &str = "http://127.0.0.1:1";

/// What a run of the program said, and how it ended.
#[derive(Debug)]
pub struct Said {
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

impl Said {
    #[track_caller]
    pub fn ok(self) -> Self {
        assert_eq!(self.code, Some(0), "{self:?}");
        self
    }

    #[track_caller]
    pub fn fails(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{self:?}");
        self
    }

    /// The one JSON document on standard output.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

/// A user with a home of their own, whose shell knows the gateway at `url`.
pub struct User {
    home: TempDir,
    url: String,
}

impl User {
    pub fn of(gateway: &TestGateway) -> Self {
        Self::at(&gateway.api(""))
    }

    pub fn at(url: &str) -> Self {
        Self {
            home: TempDir::new().expect("a temporary directory"),
            url: url.to_owned(),
        }
    }

    /// On a terminal of its own, made by `script` of util-linux. What the program is told goes to its standard input.
    pub fn on_terminal(&self, args: &[&str]) -> Command {
        let quoted = |word: &str| format!("'{}'", word.replace('\'', "'\\''"));
        let program = std::iter::once(env!("CARGO_BIN_EXE_qwarden"));
        let line: Vec<_> = program.chain(args.iter().copied()).map(quoted).collect();
        let command = self.command(&[]);
        let mut script = Command::new("script");
        script
            .args(["-qec", &line.join(" "), "/dev/null"])
            .env_clear()
            .envs(
                command
                    .get_envs()
                    .filter_map(|(key, value)| Some((key, value?))),
            )
            .env("TERM", "xterm")
            .env("SHELL", "/bin/sh")
            .current_dir(self.home.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        script
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_qwarden"));
        let own = ["PATH", "LD_LIBRARY_PATH"];
        let kept = own
            .iter()
            .filter_map(|key| Some((key, std::env::var_os(key)?)));
        command
            .args(args)
            .env_clear()
            .envs(kept)
            .env("HOME", self.home.path())
            .env("QWARDEN_URL", &self.url)
            .env("COLUMNS", "80")
            .current_dir(self.home.path())
            .stdin(Stdio::null());
        command
    }

    pub async fn run(&self, args: &[&str]) -> Said {
        self.tell(args, None).await
    }

    /// With `input` on standard input. Waits in a thread: the gateway may live in this one.
    async fn tell(&self, args: &[&str], input: Option<&str>) -> Said {
        let mut command = self.command(args);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        if input.is_some() {
            command.stdin(Stdio::piped());
        }
        let input = input.map(str::to_owned);
        let running = move || {
            let mut child = command.spawn().expect("the binary starts");
            if let (Some(input), Some(mut stdin)) = (input, child.stdin.take()) {
                stdin.write_all(input.as_bytes()).expect("it reads");
            }
            child.wait_with_output().expect("it ends")
        };
        let output = tokio::task::spawn_blocking(running)
            .await
            .expect("no panic");
        Said {
            code: output.status.code(),
            out: String::from_utf8(output.stdout).expect("text"),
            err: String::from_utf8(output.stderr).expect("text"),
        }
    }

    pub fn file(&self, path: &str) -> PathBuf {
        self.home.path().join(path)
    }

    pub fn read(&self, path: &str) -> String {
        std::fs::read_to_string(self.file(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
    }
}

fn words(line: &str) -> Vec<&str> {
    line.split_whitespace().collect()
}

#[tokio::test]
async fn without_a_gateway_it_says_how_to_start_one() {
    let user = User::at(DEAD);
    for verb in [
        "status",
        "list --json",
        "health",
        "env opencode --model m",
        "logs -f",
    ] {
        let said = user.run(&words(verb)).await;
        if verb.starts_with("env") {
            // The usual ports are as good as any then.
            assert!(said.ok().out.contains("http://127.0.0.1:3001/v1"));
            continue;
        }
        let said = said.fails(3);
        assert!(
            said.out.is_empty() && said.err.contains("qwarden serve"),
            "{said:?}"
        );
    }
}

#[tokio::test]
async fn wrong_usage_is_told_before_anything_is_asked() {
    let user = User::at(DEAD);
    for line in [
        "frobnicate",
        "status --url nonsense",
        "history -l 0",
        "login",
        "provider edit x",
        "provider add --id x",
        "provider add --id x --type t --config novalue",
        "provider list --enabled --disabled",
        "login --cookies - --token-value -",
        "login --from-curl does-not-exist",
        "provider remove x",
        "model remove x",
        "model unlink x y",
        "alias remove x",
        "alias set x",
        "alias set x a b --weight 1",
        "session remove x",
        "session clean",
        "request remove 1",
        "response remove 1",
        "credentials clear",
        "logout",
        "export --json --format csv",
        "export --format xml",
        "key remove x",
        "key edit x",
        "token remove",
        "migrate --env-file does-not-exist",
        "backup x --list",
    ] {
        let said = user.run(&words(line)).await.fails(2);
        assert!(
            said.out.is_empty() && !said.err.is_empty(),
            "{line}: {said:?}"
        );
        let is_destructive = ["remove", "unlink", "clean", "clear", "logout"]
            .iter()
            .any(|verb| line.contains(verb));
        assert_eq!(
            said.err.contains("--yes"),
            is_destructive,
            "{line}: {said:?}"
        );
    }
}

#[tokio::test]
async fn help_fits_eighty_columns_everywhere() {
    let user = User::at(DEAD);
    let mut lines = vec![String::new()];
    let mut seen = 0;
    while let Some(line) = lines.pop() {
        let mut args = words(&line);
        args.push("--help");
        let said = user.run(&args).await.ok();
        let long = said.out.lines().find(|line| line.chars().count() > 80);
        assert_eq!(long, None, "{line}");
        seen += 1;
        let commands = said.out.split("Commands:\n").nth(1).unwrap_or_default();
        let commands = commands.lines().take_while(|line| !line.is_empty());
        for name in commands.filter_map(|line| words(line).first().copied()) {
            if name != "help" {
                lines.push(format!("{line} {name}"));
            }
        }
    }
    assert!(seen > 50, "{seen}");
}

#[tokio::test]
async fn every_list_is_a_table_or_one_json_document() {
    let gateway = TestGateway::start().await;
    let user = User::of(&gateway);
    assert_eq!(gateway.chat(&say("echo", "hi")).await.status(), 200);
    for (line, field) in [
        ("status", "/providerRouter/port"),
        ("health", "/ready/reasons"),
        ("list", "/providers/0/id"),
        ("provider list", "/providers/0/type"),
        ("provider show ollama", "/config/baseURL"),
        ("model list", "/models"),
        ("alias list", "/virtual_models"),
        ("settings list", "/settings/server.timeout"),
        ("settings get server.timeout", "/value"),
        ("credentials list", "/accounts"),
        ("session list", "/sessions"),
        ("history -l 5 -p echo", "/requests/0/provider"),
        ("request list --status completed", "/requests/0/status"),
        ("request show 1", "/attempts/0/outcome"),
        ("request curl 1", "/command"),
        ("response list", "/responses/0/total_tokens"),
        ("response show 1", "/request/request_id"),
        ("stats", "/byProvider/0/provider"),
        ("response stats --by provider", "/groups/0/key"),
        ("response stats --by hour", "/groups/0/total_tokens"),
        ("activity -l 3", "/activities"),
        ("logs", "/activities"),
        ("doctor", "/findings/0/check"),
        ("env codex", "/base_url"),
    ] {
        let mut args = words(line);
        let text = user.run(&args).await.ok();
        assert!(
            !text.out.is_empty() && !text.out.contains('\t'),
            "{line}: {text:?}"
        );
        assert!(
            !text.out.contains('\u{1b}'),
            "no colour outside a terminal: {text:?}"
        );
        args.push("--json");
        let said = user.run(&args).await.ok();
        assert!(said.json().pointer(field).is_some(), "{line}: {said:?}");
    }
    gateway.stop().await;
}

#[tokio::test]
async fn the_ports_are_stopped_and_started_and_health_tells() {
    let gateway = TestGateway::start().await;
    let user = User::of(&gateway);
    user.run(&["health"]).await.ok();
    let stopped = user.run(&["stop", "--json"]).await.ok();
    assert_eq!(stopped.json()["status"], "stopped");
    let unwell = user.run(&["health"]).await.fails(4);
    assert!(unwell.err.contains("the router is stopped"), "{unwell:?}");
    assert!(user.run(&["status"]).await.ok().out.contains("stopped"));
    user.run(&["start"]).await.ok();
    user.run(&["health"]).await.ok();
    let again = user.run(&["restart", "--drain-ms", "10"]).await.ok();
    assert!(again.out.contains("running"), "{again:?}");
    gateway.stop().await;
}

#[tokio::test]
async fn a_provider_is_added_changed_chosen_and_removed() {
    let gateway = TestGateway::start().await;
    let user = User::of(&gateway);
    let upstream = Upstream::start(|_| vec![json_answer(200, &whole("hi"))]).await;
    let base = format!("baseURL={}", upstream.base_url());
    std::fs::write(user.file("key"), "sk-planted\n").expect("written");
    let added = user
        .run(&[
            "provider",
            "add",
            "--id",
            "lab",
            "--type",
            "openai-compatible",
            "--config",
            &base,
            "--config",
            "timeout=9000",
            "--api-key-file",
            "key",
            "--yes",
            "--json",
        ])
        .await
        .ok();
    let shown = added.json();
    assert_eq!(
        (&shown["name"], &shown["config"]["timeout"]),
        (&json!("lab"), &json!(9000))
    );
    assert_eq!(shown["config"]["apiKey"], "***MASKED***");

    let line = "provider edit lab --priority 3 --name Lab --config timeout=5000 --json";
    let edited = user.run(&words(line)).await.ok().json();
    assert_eq!(
        (
            &edited["priority"],
            &edited["name"],
            &edited["config"]["timeout"]
        ),
        (&json!(3), &json!("Lab"), &json!(5000))
    );
    assert_eq!(
        edited["config"]["apiKey"], "***MASKED***",
        "what is not named stays"
    );
    let line = "provider edit lab --unset-config timeout --json";
    let edited = user.run(&words(line)).await.ok().json();
    assert!(edited["config"]["timeout"].is_null(), "{edited}");

    let tested = user.run(&["provider", "test", "lab"]).await.ok();
    assert!(
        tested.out.starts_with("lab works: 1 models, "),
        "{tested:?}"
    );
    user.run(&["provider", "disable", "lab"]).await.ok();
    let line = "provider list -t openai-compatible -e --json";
    assert_eq!(user.run(&words(line)).await.ok().json()["total"], 0);
    user.run(&["provider", "enable", "lab"]).await.ok();
    assert_eq!(user.run(&words(line)).await.ok().json()["total"], 1);
    user.run(&["provider", "reload", "lab"]).await.ok();

    let none = user.run(&["test"]).await.fails(2);
    assert!(none.err.contains("no provider is active"), "{none:?}");
    let chosen = user.run(&["set", "lab"]).await.ok();
    assert_eq!(chosen.out, "From: -\nTo:   lab\n");
    assert_eq!(
        user.run(&["status", "--json"]).await.ok().json()["active_provider"],
        "lab"
    );
    let list = user.run(&["list"]).await.ok();
    assert!(
        list.out.lines().any(|line| line.starts_with("*  lab ")),
        "{list:?}"
    );
    user.run(&["test"]).await.ok();

    let refused = user
        .run(&words("provider remove lab --yes --json"))
        .await
        .fails(1);
    assert_eq!(refused.json()["error"]["code"], "provider_active");
    assert!(refused.err.contains("(request req_"), "{refused:?}");
    user.run(&words("provider remove lab --force --yes"))
        .await
        .ok();
    let gone = user.run(&words("provider show lab")).await.fails(1);
    assert!(
        gone.out.is_empty() && gone.err.contains("no provider `lab`"),
        "{gone:?}"
    );
    gateway.stop().await;
}

#[tokio::test]
async fn a_provider_that_does_not_answer_fails_its_test() {
    let gateway = TestGateway::start().await;
    let user = User::of(&gateway);
    gateway.provider_at("dead", &format!("{DEAD}/v1")).await;
    let tested = user.run(&["test", "dead"]).await.fails(1);
    assert!(tested.out.starts_with("dead does not work: "), "{tested:?}");
    let tested = user.run(&["test", "dead", "--json"]).await.fails(1);
    assert_eq!(tested.json()["healthy"], false);
    gateway.stop().await;
}

#[tokio::test]
async fn models_are_described_linked_and_synced() {
    let gateway = TestGateway::start().await;
    let user = User::of(&gateway);
    let upstream = Upstream::start(|_| Vec::new()).await;
    gateway.provider("lab", &upstream).await;
    let id = "Qwen/Qwen3-32B";
    let line = format!("model add --id {id} --capabilities chat,tools --json");
    let added = user.run(&words(&line)).await.ok().json();
    assert_eq!(added["model"]["capabilities"], json!(["chat", "tools"]));
    user.run(&["model", "edit", id, "--description", "big"])
        .await
        .ok();
    user.run(&["model", "link", "lab", id]).await.ok();
    user.run(&["model", "default", "lab", id]).await.ok();
    let shown = user.run(&["model", "show", id, "--json"]).await.ok().json();
    assert_eq!(
        (
            &shown["model"]["description"],
            &shown["model"]["providers"][0]["is_default"]
        ),
        (&json!("big"), &json!(true))
    );
    let listed = user.run(&words("model list -c tools -p lab")).await.ok();
    assert!(listed.out.contains("chat, tools"), "{listed:?}");
    let synced = user.run(&words("model sync lab --json")).await.ok().json();
    assert_eq!(synced["result"]["modelsAdded"], 1, "{synced}");
    user.run(&["model", "unlink", "lab", id, "--yes"])
        .await
        .ok();
    user.run(&["model", "remove", id, "--yes"]).await.ok();
    user.run(&["model", "show", id]).await.fails(1);
    gateway.stop().await;
}

#[tokio::test]
async fn settings_are_stored_by_their_type() {
    let gateway = TestGateway::start().await;
    let user = User::of(&gateway);
    for (key, value, stored) in [
        ("server.timeout", "60000", json!(60_000)),
        ("tools.repeat", "false", json!(false)),
        ("active_model", "123", json!("123")),
        ("x.theme", "{\"dark\":true}", json!({"dark": true})),
    ] {
        let said = user
            .run(&["settings", "set", key, value, "--json"])
            .await
            .ok();
        assert_eq!(said.json()["value"], stored);
        let got = user.run(&["settings", "get", key]).await.ok();
        assert_eq!(got.out.trim(), value, "the bare value");
    }
    user.run(&["settings", "unset", "active_model"]).await.ok();
    assert_eq!(
        user.run(&["settings", "get", "active_model"])
            .await
            .ok()
            .out,
        "\n"
    );
    let refused = user
        .run(&["settings", "set", "server.timeout", "5"])
        .await
        .fails(1);
    assert!(refused.err.contains("from 1000 to 600000"), "{refused:?}");
    assert!(refused.err.contains("(request req_"), "{refused:?}");
    gateway.stop().await;
}

#[tokio::test]
async fn a_login_is_handed_over_and_never_shown() {
    let gateway = TestGateway::with(&[("qwen.baseUrl", json!(DEAD))]).await;
    let user = User::of(&gateway);
    let copied = "curl 'https://chat.qwen.ai/api/v1/auths/' -H 'authorization: Bearer planted-token-1' \\\n  \
                  -b 'token=planted-token-1; ssxmod_itna=planted-cookie'";
    std::fs::write(user.file("request.txt"), copied).expect("written");
    let mut said = vec![
        user.run(&words("login --from-curl request.txt")).await.ok(),
        user.tell(&words("login --from-curl - --label piped"), Some(copied))
            .await
            .ok(),
    ];
    let cookies = "token=planted-token-2; a=planted-cookie";
    let add = words("credentials add --label second --cookies -");
    said.push(user.tell(&add, Some(cookies)).await.ok());
    let listed = user.run(&words("credentials list --json")).await.ok();
    let labels = listed.json();
    let labels: Vec<_> = labels["accounts"]
        .as_array()
        .expect("a list")
        .iter()
        .filter_map(|account| account["label"].as_str())
        .collect();
    assert_eq!(labels.len(), 3, "{labels:?}");
    said.push(listed);
    said.push(user.run(&words("credentials show second")).await.ok());
    user.run(&words("credentials show nobody")).await.fails(1);
    for said in &said {
        assert!(!format!("{said:?}").contains("planted"), "{said:?}");
    }
    user.run(&words("logout --yes")).await.ok();
    let none = user.run(&words("credentials show")).await.ok();
    assert!(none.err.contains("qwarden login"), "{none:?}");
    gateway.stop().await;
}

#[tokio::test]
async fn a_request_is_replayed_as_it_was_asked() {
    let gateway = TestGateway::start().await;
    let user = User::of(&gateway);
    let answer = gateway.chat(&say("echo", "it's me")).await;
    let id = answer.headers()["x-request-id"]
        .to_str()
        .expect("text")
        .to_owned();
    assert_eq!(answer.status(), 200);
    assert_eq!(
        user.run(&["request", "replay", &id]).await.ok().out,
        "it's me\n"
    );
    let words = ["request", "replay", &id, "--provider", "nobody"];
    assert_eq!(user.run(&words).await.code, Some(1), "no such provider");
    let curl = user.run(&["request", "curl", &id]).await.ok();
    assert!(
        curl.out.contains(&gateway.router("/v1/chat/completions")),
        "{curl:?}"
    );
    assert!(curl.out.contains(r"it'\''s me"), "{curl:?}");
    let history = user.run(&["history", "--json"]).await.ok().json();
    assert_eq!(history["total"], 2);
    let stats = user.run(&["stats", "--json"]).await.ok().json();
    let echo = &stats["byProvider"][0];
    assert_eq!(
        (&echo["provider"], &echo["total_responses"]),
        (&json!("echo"), &json!(2))
    );
    user.run(&["request", "remove", &id, "--yes"]).await.ok();
    user.run(&["request", "show", &id]).await.fails(1);
    gateway.stop().await;
}

#[tokio::test]
async fn every_tool_is_pointed_at_the_port_in_use() {
    let gateway = TestGateway::start().await;
    let user = User::of(&gateway);
    let (root, base) = (gateway.router(""), gateway.router("/v1"));
    for (tool, said) in [
        ("opencode", format!("\"baseURL\": \"{base}\"")),
        ("claude-code", format!("export ANTHROPIC_BASE_URL={root}\n")),
        ("codex", format!("base_url = \"{base}\"\n")),
        ("qwen-code", format!("export OPENAI_BASE_URL={base}\n")),
        ("aider", format!("export OPENAI_API_BASE={base}\n")),
        ("openai-python", format!("base_url=\"{base}\"")),
        ("openai-node", format!("baseURL: \"{base}\"")),
        ("llm", format!("api_base: \"{base}\"\n")),
        ("langchain", format!("base_url=\"{base}\"")),
        ("continue", format!("apiBase: \"{base}\"\n")),
        ("cline", format!("-m lab/m -b {base}\n")),
    ] {
        let printed = user.run(&["env", tool, "--model", "lab/m"]).await.ok();
        assert!(printed.out.contains(&said), "{tool}: {printed:?}");
        assert!(printed.out.contains("lab/m"), "{tool}: {printed:?}");
        assert!(printed.err.contains("then: "), "{tool}: {printed:?}");
    }
    let closed = user.run(&words("env ollama")).await.ok();
    assert!(closed.out.contains("OLLAMA_HOST=http://127.0.0.1:11434"));
    assert!(closed.err.contains("ollama.port"), "{closed:?}");
    let port = crate::support::free_port().to_string();
    user.run(&["settings", "set", "ollama.port", &port])
        .await
        .ok();
    let open = user.run(&words("env ollama")).await.ok();
    assert!(open.out.contains(&gateway.ollama("")), "{open:?}");
    let qwen = user.run(&words("env opencode --qwen --model m")).await.ok();
    assert!(qwen.out.contains(&gateway.qwen("/v1")), "{qwen:?}");
    user.run(&words("settings set active_model lab/active"))
        .await
        .ok();
    let chosen = user.run(&words("env codex")).await.ok();
    assert!(chosen.out.contains("model = \"lab/active\""), "{chosen:?}");
    gateway.stop().await;
}

#[tokio::test]
async fn a_tools_file_is_written_and_what_else_is_in_it_stays() {
    let user = User::at(DEAD);
    let path = ".config/opencode/opencode.json";
    std::fs::create_dir_all(user.file(".config/opencode")).expect("made");
    let old = r#"{"theme": "dark", "provider": {"other": {"name": "mine"}}}"#;
    std::fs::write(user.file(path), old).expect("written");
    let args = words("env opencode --model m --write");
    user.run(&args).await.fails(2);
    assert_eq!(user.read(path), old, "nobody said yes");
    let yes = words("env opencode --model m --write --yes --json");
    assert_eq!(user.run(&yes).await.ok().json()["written"], true);
    let new: Value = serde_json::from_str(&user.read(path)).expect("JSON");
    assert_eq!(
        (&new["theme"], &new["model"]),
        (&json!("dark"), &json!("qwarden/m"))
    );
    assert_eq!(new["provider"]["other"], json!({"name": "mine"}));
    assert_eq!(user.read(&format!("{path}.bak")), old);
    assert_eq!(user.run(&yes).await.ok().json()["written"], false);

    for (tool, path, said) in [
        ("claude-code", ".claude/settings.json", "ANTHROPIC_BASE_URL"),
        ("codex", ".codex/config.toml", "wire_api = \"responses\""),
        ("qwen-code", ".qwen/.env", "OPENAI_MODEL=m"),
        (
            "aider",
            ".aider.conf.yml",
            "openai-api-base: http://127.0.0.1:3001/v1",
        ),
        (
            "openai-python",
            ".env",
            "OPENAI_BASE_URL=http://127.0.0.1:3001/v1",
        ),
        (
            "llm",
            ".config/io.datasette.llm/extra-openai-models.yaml",
            "- model_id: qwarden\n  model_name: \"m\"\n",
        ),
        ("continue", ".continue/config.yaml", "model: \"m\"\n"),
    ] {
        let args = ["env", tool, "--model", "m", "--write", "--yes"];
        user.run(&args).await.ok();
        assert!(
            user.read(path).contains(said),
            "{tool}: {}",
            user.read(path)
        );
    }
    // A row of a list takes its own place, and other rows stay.
    let rows = "- model_id: mine\n  model_name: x\n- model_id: qwarden\n  model_name: old\n  vision: true\n- model_id: last\n";
    std::fs::write(user.file("rows.yaml"), rows).expect("written");
    let args = words("env llm --model m --write --yes --path rows.yaml");
    user.run(&args).await.ok();
    let rows = user.read("rows.yaml");
    assert!(
        rows.starts_with(
            "- model_id: mine\n  model_name: x\n- model_id: last\n- model_id: qwarden\n"
        )
    );
    assert!(!rows.contains("old") && !rows.contains("vision"), "{rows}");
    for (tool, what) in [("continue", "of your own"), ("cline", "by the tool itself")] {
        std::fs::write(user.file("mine.yaml"), "name: mine\n").expect("written");
        let args = [
            "env",
            tool,
            "--model",
            "m",
            "--write",
            "--yes",
            "--path",
            "mine.yaml",
        ];
        let refused = user.run(&args).await.fails(1);
        assert!(refused.err.contains(what), "{refused:?}");
        assert_eq!(user.read("mine.yaml"), "name: mine\n");
    }
    std::fs::write(user.file("mine.json"), "{ // a comment\n}").expect("written");
    let commented = words("env opencode --model m --write --yes --path mine.json");
    let refused = user.run(&commented).await.fails(1);
    assert!(refused.err.contains("left as it is"), "{refused:?}");
    assert_eq!(user.read("mine.json"), "{ // a comment\n}");
}

/// State and remedy of what the doctor says of `check`.
#[track_caller]
fn finding(said: &Said, check: &str) -> (String, String) {
    let body = said.json();
    let findings = body["findings"].as_array().expect("a list");
    let found = findings
        .iter()
        .find(|finding| finding["check"] == check)
        .unwrap_or_else(|| panic!("no {check} in {body}"));
    let text = |key: &str| found[key].as_str().unwrap_or_default().to_owned();
    (text("state"), text("remedy"))
}

fn data_dir(gateway: &TestGateway) -> String {
    let dir = gateway.database();
    dir.parent()
        .map(Path::to_string_lossy)
        .expect("a directory")
        .into_owned()
}

#[tokio::test]
async fn the_doctor_finds_a_sound_gateway_sound() {
    let gateway = TestGateway::start().await;
    let user = User::of(&gateway);
    let dir = data_dir(&gateway);
    let said = user
        .run(&["doctor", "--json", "--data-dir", &dir])
        .await
        .ok();
    let (router, qwen) = (
        gateway.gateway.router_address(),
        gateway.gateway.qwen_address(),
    );
    for check in [
        "gateway",
        "version",
        "data directory",
        "database",
        "clock",
        "health",
        "ready",
        &format!("port {}", router.port()),
        &format!("port {}", qwen.port()),
    ] {
        assert_eq!(finding(&said, check).0, "ok", "{check}: {said:?}");
    }
    // A new gateway has no login; that is no problem yet.
    let (state, remedy) = finding(&said, "login");
    assert!(
        state == "warning" && remedy.contains("qwarden login"),
        "{said:?}"
    );
    gateway.stop().await;
}

#[tokio::test]
async fn the_doctor_names_every_fault_and_its_remedy() {
    use std::os::unix::fs::PermissionsExt;

    let gateway = TestGateway::start().await;
    let user = User::of(&gateway);
    gateway.provider_at("dead", &format!("{DEAD}/v1")).await;
    std::fs::set_permissions(gateway.database(), std::fs::Permissions::from_mode(0o644))
        .expect("ours");
    user.run(&["stop"]).await.ok();
    let dir = data_dir(&gateway);
    let args = ["doctor", "--data-dir", &dir];
    let said = user.run(&[&args[..], &["--json"]].concat()).await.fails(4);
    assert_eq!(said.json()["status"], "problem");
    for (check, state, remedy) in [
        ("ready", "problem", "qwarden start"),
        ("provider dead", "problem", "qwarden provider disable dead"),
        ("database", "warning", "chmod 600"),
    ] {
        let found = finding(&said, check);
        assert!(
            found.0 == state && found.1.contains(remedy),
            "{check}: {said:?}"
        );
    }
    let text = user.run(&args).await.fails(4);
    assert!(
        text.out.contains("what to do:") && text.err.is_empty(),
        "{text:?}"
    );
    gateway.stop().await;
}

#[tokio::test]
async fn the_doctor_works_without_a_gateway() {
    let user = User::at(DEAD);
    let foreign = Upstream::start(|_| {
        let kind = ("content-type", "text/html".to_owned());
        vec![Step::Whole(200, vec![kind], b"<html>".to_vec())]
    })
    .await;
    let port = foreign
        .origin()
        .rsplit(':')
        .next()
        .expect("a port")
        .to_owned();
    let line = format!("doctor --json --data-dir none --port {port} --qwen-port 1");
    let said = user.run(&words(&line)).await.fails(4);
    let (state, remedy) = finding(&said, "gateway");
    assert!(
        state == "problem" && remedy.contains("qwarden serve"),
        "{said:?}"
    );
    assert_eq!(finding(&said, &format!("port {port}")).0, "problem");
    assert_eq!(finding(&said, "port 1").0, "ok");
    assert_eq!(
        finding(&said, "data directory").0,
        "ok",
        "made at the first start"
    );

    // A database from tomorrow: the clock was set back.
    let dir = user.file("data");
    std::fs::create_dir(&dir).expect("made");
    let file = std::fs::File::create(dir.join("qwarden.db")).expect("made");
    let tomorrow = std::time::SystemTime::now() + std::time::Duration::from_hours(24);
    file.set_modified(tomorrow).expect("ours");
    let said = user
        .run(&words(
            "doctor --json --data-dir data --port 1 --qwen-port 1",
        ))
        .await
        .fails(4);
    assert_eq!(finding(&said, "clock").0, "problem");
}

#[tokio::test]
async fn the_doctor_tells_an_expired_login_and_a_file_that_cannot_be_read() {
    let gateway = TestGateway::start().await;
    let login = json!({"token": "t", "cookies": "c=1", "expiresAt": 4_000_000_000_i64});
    let url = gateway.api("/api/qwen/credentials");
    assert_eq!(gateway.post(&url, &login).await.status(), 200);
    let database = gateway.database();
    let dir = gateway.stop().await;
    let conn = rusqlite::Connection::open(&database).expect("the database opens");
    conn.execute("UPDATE credentials SET expires_at = 1", [])
        .expect("one login");
    drop(conn);
    let gateway = TestGateway::reopened(dir, &[]).await;
    let user = User::of(&gateway);
    let args = ["doctor", "--json", "--data-dir", &data_dir(&gateway)];
    let said = user.run(&args).await;
    let (state, remedy) = finding(&said, "login");
    assert!(
        state != "ok" && remedy.contains("qwarden login"),
        "{said:?}"
    );
    gateway.stop().await;

    // Root reads whatever its mode forbids: a folder in its place nobody can read as a file.
    let user = User::at(DEAD);
    std::fs::create_dir_all(user.file("data").join("qwarden.db")).expect("made");
    let line = "doctor --json --data-dir data --port 1 --qwen-port 1";
    let said = user.run(&words(line)).await.fails(4);
    let (state, remedy) = finding(&said, "database");
    assert!(state == "problem" && !remedy.is_empty(), "{said:?}");
}

/// All at once: the port taken, the login expired, the database file unusable, the provider dead.
#[tokio::test]
async fn the_doctor_names_four_faults_of_one_set_up() {
    use std::os::unix::fs::PermissionsExt;

    let gateway = TestGateway::start().await;
    let login = json!({"token": "t", "cookies": "c=1", "expiresAt": 4_000_000_000_i64});
    let url = gateway.api("/api/qwen/credentials");
    assert_eq!(gateway.post(&url, &login).await.status(), 200);
    gateway.provider_at("dead", &format!("{DEAD}/v1")).await;
    let database = gateway.database();
    let dir = gateway.stop().await;
    let conn = rusqlite::Connection::open(&database).expect("the database opens");
    conn.execute("UPDATE credentials SET expires_at = 1", [])
        .expect("one login");
    drop(conn);
    let foreign = Upstream::start(|_| {
        let kind = ("content-type", "text/html".to_owned());
        vec![Step::Whole(200, vec![kind], b"<html>".to_vec())]
    })
    .await;
    let port = foreign.origin();
    let port: u16 = port
        .rsplit(':')
        .next()
        .expect("a port")
        .parse()
        .expect("a number");
    let closed = [
        ("server.port", json!(port)),
        ("system.autoStart", json!(false)),
    ];
    let gateway = TestGateway::reopened(dir, &closed).await;
    let mode = |mode: u32| {
        let permissions = std::fs::Permissions::from_mode(mode);
        std::fs::set_permissions(&database, permissions).expect("ours");
    };
    mode(0o000);
    let user = User::of(&gateway);
    let dir = data_dir(&gateway);
    let said = user.run(&["doctor", "--json", "--data-dir", &dir]).await;
    mode(0o600);
    let said = said.fails(4);
    for (check, remedy) in [
        (&*format!("port {port}"), "choose another port"),
        ("login", "qwarden login"),
        ("database", "chmod 600"),
        ("provider dead", "qwarden provider disable dead"),
    ] {
        let found = finding(&said, check);
        assert!(
            found.0 == "problem" && found.1.contains(remedy),
            "{check}: {said:?}"
        );
    }
    gateway.stop().await;
}

#[tokio::test]
async fn keys_and_the_admin_token_are_made_and_taken_back() {
    let gateway = TestGateway::start().await;
    let user = User::of(&gateway);
    let made = words("key add Laptop --models echo,groq/* --rate 60");
    let made = user.run(&made).await.ok();
    assert!(made.out.starts_with("qw-"), "{made:?}");
    assert!(made.err.contains("not shown again"), "{made:?}");
    let list = user.run(&words("key list --json")).await.ok().json();
    let key = &list["keys"][0];
    assert_eq!(
        (
            &key["name"],
            &key["allowed_models"],
            &key["rate_per_minute"]
        ),
        (&json!("Laptop"), &json!(["echo", "groq/*"]), &json!(60))
    );
    let id = key["id"].as_str().expect("an id");
    user.run(&["key", "edit", id, "--name", "Box"]).await.ok();
    user.run(&["key", "disable", id]).await.ok();
    let shown = user.run(&["key", "show", id, "--json"]).await.ok().json();
    assert_eq!(
        (&shown["name"], &shown["disabled"]),
        (&json!("Box"), &json!(true))
    );
    user.run(&["key", "remove", id, "--yes"]).await.ok();
    user.run(&["key", "show", id]).await.fails(1);

    let token = user.run(&words("token new")).await.ok();
    let token = token.out.trim().to_owned();
    let refused = user.run(&words("token new --yes")).await.fails(1);
    assert!(refused.err.contains("admin token"), "{refused:?}");
    let shown = user
        .run(&["token", "show", "--json", "--token", &token])
        .await;
    assert_eq!(shown.ok().json()["principal"], "admin");
    user.run(&["token", "remove", "--yes", "--token", &token])
        .await
        .ok();
    let shown = user.run(&words("token show --json")).await.ok().json();
    assert_eq!(shown["configured"], false);
    gateway.stop().await;
}

/// A program that runs on, and is ended with the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Runs `args` until they have printed `count` lines.
async fn first_lines(user: &User, args: &[&str], count: usize) -> Vec<String> {
    let mut command = user.command(args);
    command.stdout(Stdio::piped()).stderr(Stdio::null());
    let reading = move || {
        let mut running = Running(command.spawn().expect("the binary starts"));
        let stdout = running.0.stdout.take().expect("a pipe");
        let lines = BufReader::new(stdout).lines();
        lines
            .take(count)
            .map(|line| line.expect("a line"))
            .collect()
    };
    tokio::task::spawn_blocking(reading)
        .await
        .expect("no panic")
}

#[tokio::test]
async fn events_are_followed_through_a_broken_connection() {
    let upstream = Upstream::start(|request| {
        let id = match request.header("last-event-id") {
            None => "7",
            Some("7") => "8",
            Some(_) => "never told",
        };
        let event = format!("event: x:y\nid: {id}\ndata: {{\"description\":\"event {id}\"}}\n\n");
        let kind = ("content-type", "text/event-stream".to_owned());
        vec![
            Step::Head(200, vec![kind]),
            Step::Chunk(event.into_bytes()),
            Step::Close,
        ]
    })
    .await;
    let user = User::at(&upstream.origin());
    let lines = first_lines(&user, &["logs", "-f", "--json"], 2).await;
    let ids: Vec<Value> = lines
        .iter()
        .map(|line| serde_json::from_str::<Value>(line).expect("JSON")["id"].clone())
        .collect();
    assert_eq!(ids, ["7", "8"]);
}

#[tokio::test]
async fn the_gateways_own_events_are_followed() {
    let gateway = TestGateway::start().await;
    let user = User::of(&gateway);
    let lines = first_lines(&user, &["logs", "-f"], 1).await;
    assert!(lines[0].contains("  proxy:status  "), "{lines:?}");
    gateway.stop().await;
}

#[tokio::test]
async fn the_token_goes_along_and_other_programs_are_told_apart() {
    let upstream = Upstream::start(|request| {
        let refusal = json!({"error": {"message": "who are you"}, "requestId": "req_1"});
        match (request.header("authorization"), request.path.as_str()) {
            (Some("Bearer s3cret"), "/api/providers/types/test") => {
                vec![json_answer(
                    200,
                    &json!({"provider_id": "types", "healthy": true}),
                )]
            }
            (Some("Bearer s3cret"), _) => {
                let kind = ("content-type", "text/html".to_owned());
                vec![Step::Whole(404, vec![kind], b"<html>".to_vec())]
            }
            _ => vec![json_answer(401, &refusal)],
        }
    })
    .await;
    let user = User::at(&upstream.origin());
    let line = "test types --token s3cret";
    let said = user.run(&words(line)).await.ok();
    assert_eq!(said.out, "types works: -\n", "what is missing is a dash");
    let refused = user.run(&words("test types")).await.fails(1);
    assert_eq!(refused.err, "qwarden: who are you (request req_1)\n");
    let foreign = user.run(&words("status --token s3cret")).await.fails(1);
    assert!(foreign.err.contains("that is no qwarden"), "{foreign:?}");
    let help = user
        .command(&["--help"])
        .env("QWARDEN_TOKEN", "s3cret")
        .output();
    let help = String::from_utf8(help.expect("it runs").stdout).expect("text");
    assert!(
        help.contains("QWARDEN_TOKEN") && !help.contains("s3cret"),
        "{help}"
    );
}

#[tokio::test]
async fn every_shell_gets_completions() {
    let user = User::at(DEAD);
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let said = user.run(&["completions", shell]).await.ok();
        assert!(
            said.out.contains("provider") && said.out.contains("doctor"),
            "{shell}"
        );
    }
}

#[tokio::test]
async fn the_self_test_breaks_things_and_finds_that_they_hold() {
    let user = User::at(DEAD);
    let told = user.run(&["selftest", "--json"]).await.ok().json();
    assert_eq!(told["failed"], 0, "{told:#}");
    let rows = told["rows"].as_array().expect("rows");
    assert_eq!(told["passed"], rows.len(), "{told:#}");
    let faults: Vec<_> = rows
        .iter()
        .map(|row| row["fault"].as_str().unwrap_or_default())
        .collect();
    for fault in [
        "connection cut",
        "silence",
        "tool call cut",
        "database locked by another program",
        "database full",
    ] {
        assert!(faults.contains(&fault), "{faults:?}");
    }
}
