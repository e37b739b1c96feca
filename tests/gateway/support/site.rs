//! chat.qwen.ai as far as the gateway needs it: it checks what it is sent, keeps chats, and answers by a script.
//!
//! Wire facts: `qwen-web-protocol`. The model's part is played by a closure that is handed each turn.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use super::upstream::{Received, Step, Upstream, json_answer, sse_head};

/// One message that reached a chat.
#[derive(Clone, Debug)]
pub struct Turn {
    pub chat_id: String,
    pub parent_id: Option<String>,
    /// What the user's message said.
    pub content: String,
    /// The id that the answer gets.
    pub response_id: String,
    /// How many turns the chat had before.
    pub before: usize,
    /// The token it came with.
    pub token: String,
    pub body: Value,
}

/// What the site makes of a turn.
#[derive(Clone)]
pub enum Play {
    /// Answers with this text, in these pieces.
    Says(Vec<String>),
    /// Thinks first.
    Thinks(Vec<String>, Vec<String>),
    /// Sends a file of captured events, with the ids of this turn.
    Fixture(&'static str),
    /// A whole body instead of a stream.
    Body(u16, &'static str, String),
    /// These events, to the end of the body.
    Events(Vec<Value>),
    /// These events, once somebody calls [`Upstream::go`].
    Held(Vec<Value>),
    /// Some events, and the others once somebody calls [`Upstream::go`].
    Halves(Vec<Value>, Vec<Value>),
    /// These events, then the connection does this; the site goes on by itself.
    Breaks(Vec<Value>, Step),
    /// Anything else.
    Steps(Vec<Step>),
}

/// Plays a part of the site's.
type Script = Arc<dyn Fn(&Turn) -> Play + Send + Sync>;

impl Play {
    pub fn says(text: &str) -> Self {
        Self::Says(text.split_inclusive(' ').map(str::to_owned).collect())
    }

    /// The body of a refusal, from the fixtures.
    pub fn refusal(status: u16, fixture: &str) -> Self {
        Self::Body(status, "application/json", self::fixture(fixture))
    }
}

#[derive(Default)]
struct Chat {
    token: String,
    /// Ids of its answers.
    answers: HashSet<String>,
    turns: usize,
    busy: bool,
}

#[derive(Default)]
struct Kept {
    chats: HashMap<String, Chat>,
    turns: Vec<Turn>,
    opened: Vec<String>,
    stopped: Vec<String>,
    deleted: Vec<String>,
    uploads: Vec<Received>,
    /// Files that were to be parsed.
    parsed: Vec<String>,
    /// How often somebody asked whether they were.
    asked_parsing: usize,
    /// What a request did wrong; a test that does not expect it fails.
    faults: Vec<String>,
    /// What the site makes of an answer after its connection broke.
    alone: Option<String>,
    /// What it answers who takes such an answer up again; nobody may, without.
    resume: Option<Script>,
    /// Answers that were asked for again, by id.
    resumed: Vec<String>,
    /// The most turns that were under way at once.
    most_at_once: usize,
    /// Tokens that the site does not take.
    rejected: HashSet<String>,
    next: u64,
}

/// See the module.
pub struct Site {
    pub upstream: Upstream,
    kept: Arc<Mutex<Kept>>,
}

impl Site {
    /// Answers each turn by `script`.
    pub async fn start(script: impl Fn(&Turn) -> Play + Send + Sync + 'static) -> Self {
        let kept: Arc<Mutex<Kept>> = Arc::default();
        let shared = kept.clone();
        let own_origin: Arc<Mutex<String>> = Arc::default();
        let origin = own_origin.clone();
        let upstream = Upstream::start(move |request| {
            let origin = origin.lock().expect("not poisoned").clone();
            answer(&shared, request, &script, &origin)
        })
        .await;
        *own_origin.lock().expect("not poisoned") = upstream.origin();
        Self { upstream, kept }
    }

    /// Always answers with `text`.
    pub async fn saying(text: &'static str) -> Self {
        Self::start(move |_| Play::says(text)).await
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().expect("not poisoned")
    }

    pub fn turns(&self) -> Vec<Turn> {
        self.kept().turns.clone()
    }

    /// Ids of the chats, in the order they were opened.
    pub fn opened(&self) -> Vec<String> {
        self.kept().opened.clone()
    }

    /// Ids of the chats that were told to stop.
    pub fn stopped(&self) -> Vec<String> {
        self.kept().stopped.clone()
    }

    pub fn deleted(&self) -> Vec<String> {
        self.kept().deleted.clone()
    }

    pub fn uploads(&self) -> Vec<Received> {
        self.kept().uploads.clone()
    }

    /// Ids of the files that were to be parsed.
    pub fn parsed(&self) -> Vec<String> {
        self.kept().parsed.clone()
    }

    /// What requests did wrong.
    pub fn faults(&self) -> Vec<String> {
        self.kept().faults.clone()
    }

    /// From now on every answer of the site ends in this text, also when the connection breaks.
    pub fn finishes_alone(&self, text: &str) {
        self.kept().alone = Some(text.to_owned());
    }

    /// From now on an answer whose connection broke can be taken up, and is played so.
    pub fn resumes(&self, script: impl Fn(&Turn) -> Play + Send + Sync + 'static) {
        self.kept().resume = Some(Arc::new(script));
    }

    /// Ids of the answers that were taken up again.
    pub fn resumed(&self) -> Vec<String> {
        self.kept().resumed.clone()
    }

    /// The most turns that were under way at once.
    pub fn most_at_once(&self) -> usize {
        self.kept().most_at_once
    }

    /// From now on this token is not taken.
    pub fn reject(&self, token: &str) {
        self.kept().rejected.insert(token.to_owned());
    }

    /// It is taken again.
    pub fn accept(&self, token: &str) {
        self.kept().rejected.remove(token);
    }

    /// The chats are gone, as when the user deleted them in the browser.
    pub fn lose_chats(&self) {
        self.kept().chats.clear();
    }
}

/// A token that names `user` and ends at `exp` (Unix seconds).
pub fn jwt(user: &str, exp: u64) -> String {
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let head = part(&json!({"alg": "HS256", "typ": "JWT"}));
    let payload = part(&json!({"id": user, "exp": exp}));
    format!(
        "{head}.{payload}.{}",
        URL_SAFE_NO_PAD.encode(format!("signature of {user}"))
    )
}

/// A file of `tests/fixtures/qwen-web`.
pub fn fixture(name: &str) -> String {
    let path = format!(
        "{}/tests/fixtures/qwen-web/{name}",
        env!("CARGO_MANIFEST_DIR")
    );
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn answer(
    kept: &Arc<Mutex<Kept>>,
    request: &Received,
    script: &(impl Fn(&Turn) -> Play + Send + Sync),
    origin: &str,
) -> Vec<Step> {
    let (path, query) = request.path.split_once('?').unwrap_or((&request.path, ""));
    let token = token(request);
    let mut locked = kept.lock().expect("not poisoned");
    if path == "/api/models" {
        return vec![whole(200, fixture("models.json"))];
    }
    if path == "/test/report" {
        return vec![json_answer(200, &report(&locked))];
    }
    if path.starts_with("/oss/") {
        locked.uploads.push(request.clone());
        return vec![whole(200, String::new())];
    }
    if token.is_empty() || locked.rejected.contains(&token) {
        return vec![whole(401, fixture("unauthorized.json"))];
    }
    match (request.method.as_str(), path) {
        ("GET", "/api/v1/auths/") => vec![json_answer(200, &json!({"id": "u", "name": "User"}))],
        ("POST", "/api/v2/chats/new") => {
            let body = request.json();
            for key in ["title", "models", "chat_mode", "chat_type", "timestamp"] {
                if body[key].is_null() {
                    locked.faults.push(format!("chats/new without {key}"));
                }
            }
            locked.next += 1;
            let id = format!("chat-{}", locked.next);
            let chat = Chat {
                token,
                ..Chat::default()
            };
            locked.chats.insert(id.clone(), chat);
            locked.opened.push(id.clone());
            vec![json_answer(
                200,
                &json!({"success": true, "request_id": "r", "data": {"id": id}}),
            )]
        }
        ("POST", "/api/v2/chat/completions/stop") => {
            let id = chat_id(query);
            let answer = request.json()["response_id"].as_str().map(str::to_owned);
            if let Some(chat) = locked.chats.get_mut(&id) {
                chat.busy = false;
                // What was stopped stays in the chat, as far as it came.
                let answer = answer.filter(|answer| answer.starts_with("response-"));
                chat.answers.extend(answer);
            }
            locked.stopped.push(id);
            vec![json_answer(
                200,
                &json!({"success": true, "data": {"status": true}}),
            )]
        }
        ("POST", "/api/v2/chat/completions") => {
            let turn = match take_turn(&mut locked, request, &chat_id(query), token) {
                Ok(turn) => turn,
                Err(refusal) => return vec![whole(200, refusal)],
            };
            drop(locked);
            play(kept, &turn, script(&turn))
        }
        ("GET", "/api/v2/chat/completions") => {
            let (id, answer) = (chat_id(query), parameter(query, "response_id"));
            if request.header("accept") != Some("text/event-stream") {
                locked.faults.push("a stream is accepted again".into());
            }
            let mut turns = locked.turns.iter();
            let turn = turns.find(|turn| turn.chat_id == id && turn.response_id == answer);
            let (turn, script) = (turn.cloned(), locked.resume.clone());
            locked.resumed.push(answer);
            drop(locked);
            match (turn, script) {
                (Some(turn), Some(script)) => play(kept, &turn, script(&turn)),
                _ => vec![whole(200, fixture("chat-not-found.json"))],
            }
        }
        ("GET", _) if path.starts_with("/api/v2/chats/") => {
            let id = path.trim_start_matches("/api/v2/chats/").to_owned();
            let alone = locked.alone.clone();
            let last = locked
                .turns
                .iter()
                .rev()
                .find(|turn| turn.chat_id == id)
                .cloned();
            let (Some(text), Some(turn)) = (alone, last) else {
                return vec![whole(200, fixture("chat-not-found.json"))];
            };
            if let Some(chat) = locked.chats.get_mut(&id) {
                chat.busy = false;
                chat.answers.insert(turn.response_id.clone());
            }
            let detail = fixture("chat-detail.json")
                .replace("11111111-1111-4111-8111-111111111111", &id)
                .replace("33333333-3333-4333-8333-333333333333", &turn.response_id)
                .replace("Hi!", &text);
            vec![whole(200, detail)]
        }
        ("DELETE", _) if path.starts_with("/api/v2/chats/") => {
            let id = path.trim_start_matches("/api/v2/chats/").to_owned();
            locked.chats.remove(&id);
            locked.deleted.push(id);
            vec![whole(200, fixture("chat-deleted.json"))]
        }
        ("POST", "/api/v1/files/getstsToken") => {
            let body = request.json();
            locked.next += 1;
            let name = body["filename"].as_str().unwrap_or("f").to_owned();
            let file = format!("u/{}_{name}", locked.next);
            let grant = json!({"access_key_id": "STS.ID", "access_key_secret": "SECRET", "security_token": "STSTOKEN",
                "file_url": format!("{origin}/oss/{file}?x=1"), "file_path": file, "file_id": format!("file-{}", locked.next),
                "bucketname": "bucket", "region": "oss-ap-southeast-1"});
            vec![json_answer(200, &grant)]
        }
        ("POST", "/api/v2/files/parse") => {
            let id = request.json()["file_id"]
                .as_str()
                .unwrap_or_default()
                .to_owned();
            locked.parsed.push(id);
            vec![json_answer(200, &json!({"success": true, "data": {}}))]
        }
        ("POST", "/api/v2/files/parse/status") => {
            let ids = request.json()["file_id_list"].clone();
            locked.asked_parsing += 1;
            // Not at once.
            let status = match locked.asked_parsing {
                1 => "parsing",
                _ => "success",
            };
            let entries: Vec<Value> = ids
                .as_array()
                .into_iter()
                .flatten()
                .map(|id| json!({"file_id": id, "status": status}))
                .collect();
            vec![json_answer(200, &json!({"success": true, "data": entries}))]
        }
        _ => {
            locked
                .faults
                .push(format!("{} {path} is no call of the site", request.method));
            vec![json_answer(404, &json!({"detail": "Not Found"}))]
        }
    }
}

/// For clients that are tried from outside: what was wrong, and in how many chats the model was told of tools.
fn report(kept: &Kept) -> Value {
    let told = kept
        .turns
        .iter()
        .filter(|turn| turn.before == 0 && turn.content.contains("<tool_call>"));
    json!({"faults": kept.faults, "chats_with_tools": told.count(), "turns": kept.turns.len()})
}

fn token(request: &Received) -> String {
    let bearer = request
        .header("authorization")
        .and_then(|value| value.strip_prefix("Bearer "));
    let cookie = request.header("cookie").and_then(|cookies| {
        cookies
            .split(';')
            .find_map(|pair| pair.trim().strip_prefix("token="))
    });
    cookie.or(bearer).unwrap_or_default().to_owned()
}

fn chat_id(query: &str) -> String {
    parameter(query, "chat_id")
}

fn parameter(query: &str, name: &str) -> String {
    let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    let found = pairs.find(|(key, _)| *key == name);
    found.map(|(_, value)| value.to_owned()).unwrap_or_default()
}

/// Checks a completion as the site would, and more.
fn take_turn(kept: &mut Kept, request: &Received, id: &str, token: String) -> Result<Turn, String> {
    let body = request.json();
    let mut faults = Vec::new();
    let messages = body["messages"].as_array().cloned().unwrap_or_default();
    let message = messages.first().cloned().unwrap_or_default();
    if messages.len() != 1 || message["role"] != "user" {
        faults.push("exactly one message of role user is sent".to_owned());
    }
    if body["stream"] != true || body["incremental_output"] != true {
        faults.push("a stream of increments is asked for".into());
    }
    if body["chat_id"] != id {
        faults.push("the chat id stands in the body as in the path".into());
    }
    if body["parent_id"] != message["parentId"] || body["parent_id"] != message["parent_id"] {
        faults.push("the parent stands in three places".into());
    }
    if body["timestamp"]
        .as_u64()
        .is_none_or(|at| at > 100_000_000_000)
    {
        faults.push("the completion's timestamp is in seconds".into());
    }
    if request.header("accept") != Some("text/event-stream") {
        faults.push("a stream is accepted".into());
    }
    for header in ["cookie", "origin", "referer", "x-request-id"] {
        if request.header(header).is_none() {
            faults.push(format!("no header {header}"));
        }
    }
    let Some(content) = message["content"].as_str().map(str::to_owned) else {
        kept.faults.push("the content is no string".into());
        return Err(fixture("validation-error.json"));
    };
    kept.faults.append(&mut faults);
    let Some(chat) = kept.chats.get_mut(id) else {
        return Err(fixture("chat-not-found.json"));
    };
    if chat.token != token {
        return Err(fixture("chat-not-found.json"));
    }
    let parent_id = body["parent_id"].as_str().map(str::to_owned);
    match &parent_id {
        Some(parent) if !chat.answers.contains(parent) => {
            return Err(fixture("parent-not-exist.json"));
        }
        None if chat.turns > 0 => kept.faults.push("a later turn without a parent".into()),
        _ => {}
    }
    if chat.busy {
        return Err(fixture("chat-in-progress.json"));
    }
    chat.busy = true;
    let before = chat.turns;
    chat.turns += 1;
    let under_way = kept.chats.values().filter(|chat| chat.busy).count();
    kept.most_at_once = kept.most_at_once.max(under_way);
    kept.next += 1;
    let turn = Turn {
        chat_id: id.to_owned(),
        parent_id,
        content,
        response_id: format!("response-{}", kept.next),
        before,
        token,
        body,
    };
    kept.turns.push(turn.clone());
    Ok(turn)
}

fn play(kept: &Arc<Mutex<Kept>>, turn: &Turn, play: Play) -> Vec<Step> {
    let created = json!({"response.created": {"chat_id": turn.chat_id, "parent_id": format!("user-{}", turn.response_id),
        "response_id": turn.response_id}});
    let free = {
        let (kept, turn) = (kept.clone(), turn.clone());
        Step::Run(Arc::new(move || {
            let mut kept = kept.lock().expect("not poisoned");
            if let Some(chat) = kept.chats.get_mut(&turn.chat_id) {
                chat.busy = false;
                chat.answers.insert(turn.response_id.clone());
            }
        }))
    };
    let stream = |events: Vec<Value>| {
        let mut steps = vec![sse_head(), Step::Chunk(event(&created))];
        steps.extend(events.iter().map(|data| Step::Chunk(event(data))));
        steps
    };
    let mut steps = match play {
        Play::Says(pieces) => stream(spoken(&pieces)),
        Play::Thinks(thoughts, pieces) => {
            let mut events: Vec<Value> = thoughts
                .iter()
                .map(|thought| phase("think", thought, "typing"))
                .collect();
            events.push(phase("think", "", "finished"));
            events.extend(spoken(&pieces));
            stream(events)
        }
        Play::Fixture(name) => {
            let text = fixture(name)
                .replace("11111111-1111-4111-8111-111111111111", &turn.chat_id)
                .replace("33333333-3333-4333-8333-333333333333", &turn.response_id);
            vec![sse_head(), Step::Chunk(text.into_bytes())]
        }
        Play::Body(status, kind, body) => {
            return vec![
                free,
                Step::Whole(
                    status,
                    vec![("content-type", kind.into())],
                    body.into_bytes(),
                ),
            ];
        }
        Play::Events(events) => stream(events),
        Play::Held(events) => held(stream(Vec::new()), &events),
        Play::Halves(first, second) => held(stream(first), &second),
        Play::Breaks(events, how) => {
            let mut steps = stream(events);
            steps.extend([free, how]);
            return steps;
        }
        Play::Steps(steps) => return steps,
    };
    // The chat is free before the client can see that its answer is whole.
    let last = steps.len() - 1;
    steps.insert(last, free);
    steps.push(Step::End);
    steps
}

/// `steps`, and behind a gate `events`.
fn held(mut steps: Vec<Step>, events: &[Value]) -> Vec<Step> {
    steps.push(Step::Gate);
    steps.extend(events.iter().map(|data| Step::Chunk(event(data))));
    steps
}

fn spoken(pieces: &[String]) -> Vec<Value> {
    let mut events: Vec<Value> = pieces
        .iter()
        .map(|piece| phase("answer", piece, "typing"))
        .collect();
    let count = pieces.len();
    for data in &mut events {
        data["usage"] = json!({"input_tokens": 7, "output_tokens": count, "total_tokens": 7 + count,
            "input_tokens_details": {"text_tokens": 7}, "output_tokens_details": {"text_tokens": count}, "cached_tokens": 0});
    }
    // As captured: the last event carries no usage.
    events.push(phase("answer", "", "finished"));
    events
}

/// A delta of the site's stream.
pub fn phase(phase: &str, content: &str, status: &str) -> Value {
    json!({"choices": [{"delta": {"role": "assistant", "content": content, "phase": phase, "status": status}}]})
}

fn event(data: &Value) -> Vec<u8> {
    format!("data: {data}\n\n").into_bytes()
}

fn whole(status: u16, body: String) -> Step {
    Step::Whole(
        status,
        vec![("content-type", "application/json".into())],
        body.into_bytes(),
    )
}
