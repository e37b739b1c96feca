//! Which chat a request goes on in.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};

use super::{answer, ask, assert_clean, at, chat, last_line, log_in, logged_in, user, with_tools};
use crate::support::TestGateway;
use crate::support::site::{Play, Site, phase};

const SYSTEM: &str = "You are a careful gardener.";

/// A site that answers turn by turn with what it was told last.
async fn echoing() -> Site {
    Site::start(|turn| Play::says(&format!("re: {}", last_line(turn)))).await
}

/// A conversation as a client keeps it.
struct Conversation {
    messages: Vec<Value>,
}

impl Conversation {
    fn new() -> Self {
        Self {
            messages: vec![json!({"role": "system", "content": SYSTEM})],
        }
    }

    /// Says `text`, and keeps the answer.
    async fn say(&mut self, gateway: &TestGateway, text: &str) -> String {
        self.messages.push(user(text));
        let message = answer(gateway, &chat(&self.messages)).await;
        let said = message["content"].as_str().expect("text").to_owned();
        self.messages.push(message);
        said
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn forty_turns_use_one_chat_and_send_only_what_is_new() {
    let site = echoing().await;
    let gateway = logged_in(&site, "u1").await;
    let mut conversation = Conversation::new();
    for turn in 0..40 {
        let said = conversation.say(&gateway, &format!("turn {turn}")).await;
        assert_eq!(said, format!("re: turn {turn}"));
    }
    let turns = site.turns();
    assert_eq!((site.opened().len(), turns.len()), (1, 40));
    assert!(turns[0].content.contains(SYSTEM));
    for (at, turn) in turns.iter().enumerate().skip(1) {
        assert_eq!(turn.content, format!("turn {at}"));
        assert_eq!(
            turn.parent_id.as_deref(),
            Some(turns[at - 1].response_id.as_str())
        );
    }
    assert_clean(&site);
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edited_turn_starts_its_branch_at_the_right_answer() {
    let site = echoing().await;
    let gateway = logged_in(&site, "u1").await;
    let mut conversation = Conversation::new();
    for turn in 0..10 {
        conversation.say(&gateway, &format!("turn {turn}")).await;
    }
    // Turn 7 is edited and sent again, then the branch goes on.
    let mut branch = Conversation {
        messages: conversation.messages[..15].to_vec(),
    };
    assert_eq!(
        branch.say(&gateway, "turn 7, edited").await,
        "re: turn 7, edited"
    );
    branch.say(&gateway, "on the branch").await;
    // The old branch is still there.
    conversation.say(&gateway, "on the trunk").await;
    // The same turn once more, as a client does that did not like the answer.
    let again = answer(
        &gateway,
        &chat(&branch.messages[..branch.messages.len() - 1]),
    )
    .await;
    assert_eq!(again["content"], "re: on the branch");
    let turns = site.turns();
    assert_eq!(site.opened().len(), 1);
    let parent = |at: usize| turns[at].parent_id.as_deref();
    assert_eq!(
        (turns[10].content.as_str(), parent(10)),
        ("turn 7, edited", Some(turns[6].response_id.as_str()))
    );
    assert_eq!(parent(11), Some(turns[10].response_id.as_str()));
    assert_eq!(parent(12), Some(turns[9].response_id.as_str()));
    assert_eq!(parent(13), Some(turns[10].response_id.as_str()));
    assert_clean(&site);
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn twenty_turns_at_once_on_one_conversation_corrupt_nothing() {
    let site = echoing().await;
    let gateway = Arc::new(at(&site, &[("qwen.maxInFlight", json!(20))]).await);
    log_in(&gateway, "default", "u1").await;
    let mut conversation = Conversation::new();
    conversation.say(&gateway, "the beginning").await;
    let tasks: Vec<_> = (0..20)
        .map(|at| {
            let (gateway, mut messages) = (gateway.clone(), conversation.messages.clone());
            tokio::spawn(async move {
                messages.push(user(&format!("question {at}")));
                let message = answer(&gateway, &chat(&messages)).await;
                assert_eq!(message["content"], format!("re: question {at}"));
                messages.push(message);
                messages.push(user(&format!("and then {at}?")));
                let message = answer(&gateway, &chat(&messages)).await;
                assert_eq!(message["content"], format!("re: and then {at}?"));
            })
        })
        .collect();
    for task in tasks {
        task.await.expect("every turn is answered");
    }
    for turn in site
        .turns()
        .iter()
        .filter(|turn| turn.content.contains("question"))
    {
        let asked: std::collections::HashSet<&str> = turn
            .content
            .split("question ")
            .skip(1)
            .filter_map(|rest| rest.lines().next())
            .collect();
        assert_eq!(asked.len(), 1, "{}", turn.content);
        // A chat of its own was told all of it.
        if turn.parent_id.is_none() {
            assert!(turn.content.contains("the beginning") && turn.content.contains(SYSTEM));
        }
    }
    assert_clean(&site);
    let gateway = Arc::into_inner(gateway).expect("all tasks are over");
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_title_request_in_the_same_session_does_not_mix_with_it() {
    let site = echoing().await;
    let gateway = Arc::new(logged_in(&site, "u1").await);
    let post = |body: Value| {
        let gateway = gateway.clone();
        async move {
            let response = gateway
                .client
                .post(gateway.qwen("/v1/chat/completions"))
                .header("x-session-id", "ses_1")
                .json(&body)
                .send()
                .await
                .expect("an answer");
            let body: Value = response.json().await.expect("JSON");
            body["choices"][0]["message"].clone()
        }
    };
    let system = json!({"role": "system", "content": SYSTEM});
    let first = with_tools(&[system.clone(), user("plant a tree")]);
    let title = chat(&[
        json!({"role": "system", "content": "You make titles."}),
        user("Make a title"),
        user("plant a tree"),
    ]);
    let (first_answer, title_answer) = tokio::join!(post(first), post(title));
    assert_eq!(title_answer["content"], "re: plant a tree");
    let next = with_tools(&[
        system,
        user("plant a tree"),
        first_answer,
        user("and a rose"),
    ]);
    assert_eq!(post(next).await["content"], "re: and a rose");
    let turns = site.turns();
    let last = turns.last().expect("turns");
    let main = turns
        .iter()
        .find(|turn| turn.content.contains(SYSTEM))
        .expect("the first");
    assert_eq!(
        (&last.chat_id, &last.content),
        (&main.chat_id, &"and a rose".to_owned())
    );
    assert_eq!(site.opened().len(), 2);
    assert_clean(&site);
    Arc::into_inner(gateway).expect("ours").stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_client_rewrites_does_not_break_the_chain() {
    let site = Site::start(|turn| match turn.before {
        0 => Play::says("<tool_call>\n{\"name\": \"read\", \"arguments\": {\"offset\": 3, \"filePath\": \"a b\"}}\n</tool_call>"),
        _ => Play::says("  Read it.\n"),
    })
    .await;
    let gateway = logged_in(&site, "u1").await;
    let mut messages = vec![user("read a")];
    let call = answer(&gateway, &with_tools(&messages)).await;
    let id = call["tool_calls"][0]["id"].clone();
    // As Qwen Code returns it: null instead of "", arguments re-encoded, parts instead of a string.
    messages[0] = json!({"role": "user", "content": [{"type": "text", "text": "read a"}]});
    messages.push(
        json!({"role": "assistant", "content": null, "tool_calls": [{"id": id, "type": "function",
        "function": {"name": "read", "arguments": "{ \"filePath\":\"a b\",\"offset\": 3 }"}}]}),
    );
    messages.push(json!({"role": "tool", "tool_call_id": id, "content": [{"type": "text", "text": "the file"}]}));
    let said = answer(&gateway, &with_tools(&messages)).await;
    assert_eq!(said["content"].as_str().expect("text").trim(), "Read it.");
    messages.push(json!({"role": "assistant", "content": "Read it."}));
    messages.push(user("thanks"));
    answer(&gateway, &with_tools(&messages)).await;
    let turns = site.turns();
    assert_eq!((site.opened().len(), turns.len()), (1, 3));
    assert!(turns[1].content.contains("<tool_response") && turns[1].content.contains("the file"));
    assert!(
        !turns[1].content.contains("read a"),
        "only what is new: {}",
        turns[1].content
    );
    assert_eq!(turns[2].content, "thanks");
    assert_clean(&site);
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn other_instructions_or_tools_start_another_chat() {
    let site = echoing().await;
    let gateway = logged_in(&site, "u1").await;
    let history = |system: &str, last: &str| {
        vec![
            json!({"role": "system", "content": system}),
            user("one"),
            json!({"role": "assistant", "content": "re: one"}),
            user(last),
        ]
    };
    answer(&gateway, &chat(&history(SYSTEM, "")[..2])).await;
    answer(&gateway, &chat(&history(SYSTEM, "goes on"))).await;
    assert_eq!(site.opened().len(), 1);
    answer(&gateway, &chat(&history("You are a cook.", "goes on"))).await;
    answer(&gateway, &with_tools(&history(SYSTEM, "goes on"))).await;
    let mut other_model = chat(&history(SYSTEM, "goes on"));
    other_model["model"] = "qwen3-coder-plus".into();
    answer(&gateway, &other_model).await;
    assert_eq!(site.opened().len(), 4);
    // A client that compacted its history is told nothing of the old one.
    answer(
        &gateway,
        &chat(&[user("Summary: one was said."), user("goes on")]),
    )
    .await;
    let turns = site.turns();
    assert!(
        turns
            .last()
            .expect("turns")
            .content
            .contains("Summary: one was said.")
    );
    assert_eq!(site.opened().len(), 5);
    assert_clean(&site);
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_chat_is_told_again_in_a_new_one() {
    let site = echoing().await;
    let gateway = logged_in(&site, "u1").await;
    let mut conversation = Conversation::new();
    conversation.say(&gateway, "one").await;
    site.lose_chats();
    assert_eq!(conversation.say(&gateway, "two").await, "re: two");
    conversation.say(&gateway, "three").await;
    let turns = site.turns();
    assert_eq!(site.opened().len(), 2);
    let retold = &turns[turns.len() - 2].content;
    for part in [SYSTEM, "one", "re: one", "two"] {
        assert!(retold.contains(part), "{retold}");
    }
    assert_eq!(turns.last().expect("turns").content, "three");
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chat_that_is_still_busy_is_waited_for() {
    let refusals = Arc::new(AtomicUsize::new(0));
    let counted = refusals.clone();
    let site = Site::start(move |turn| {
        if turn.content == "two" && counted.fetch_add(1, Ordering::SeqCst) == 0 {
            return Play::refusal(400, "chat-in-progress.json");
        }
        Play::says(&format!("re: {}", last_line(turn)))
    })
    .await;
    let gateway = logged_in(&site, "u1").await;
    let mut conversation = Conversation::new();
    conversation.say(&gateway, "one").await;
    assert_eq!(conversation.say(&gateway, "two").await, "re: two");
    assert_eq!((site.opened().len(), site.stopped().len()), (1, 1));
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_conversation_outlives_crashes_and_restarts() {
    let site = echoing().await;
    let gateway = logged_in(&site, "u1").await;
    let mut conversation = Conversation::new();
    conversation.say(&gateway, "one").await;
    for actor in [
        "qwen-sessions",
        "credentials",
        "qwen-sessions",
        "credentials",
    ] {
        let before = gateway.actor(actor).await["incarnation"]
            .as_u64()
            .expect("a number");
        assert_eq!(gateway.crash(actor).await, 200);
        gateway.incarnation_after(actor, before).await;
        let said = conversation.say(&gateway, &format!("after {actor}")).await;
        assert_eq!(said, format!("re: after {actor}"));
    }
    assert_eq!(site.opened().len(), 1);
    let origin = json!(site.upstream.origin());
    let dir = gateway.stop().await;
    let gateway = TestGateway::reopened(dir, &[("qwen.baseUrl", origin)]).await;
    assert_eq!(
        conversation.say(&gateway, "after a restart").await,
        "re: after a restart"
    );
    assert_eq!(site.opened().len(), 1);
    assert_clean(&site);
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn crashes_in_the_middle_of_answers_change_none_of_them() {
    let site = echoing().await;
    let gateway = Arc::new(at(&site, &[("qwen.maxInFlight", json!(20))]).await);
    log_in(&gateway, "default", "u1").await;
    let tasks: Vec<_> = (0..8)
        .map(|at| {
            let gateway = gateway.clone();
            tokio::spawn(async move {
                let mut conversation = Conversation::new();
                for turn in 0..10 {
                    let text = format!("conversation {at}, turn {turn}");
                    assert_eq!(
                        conversation.say(&gateway, &text).await,
                        format!("re: {text}")
                    );
                }
            })
        })
        .collect();
    for actor in [
        "qwen-sessions",
        "credentials",
        "qwen-sessions",
        "credentials",
    ] {
        let before = gateway.actor(actor).await["incarnation"]
            .as_u64()
            .expect("a number");
        assert_eq!(gateway.crash(actor).await, 200);
        gateway.incarnation_after(actor, before).await;
    }
    for task in tasks {
        task.await.expect("every turn is answered");
    }
    assert_clean(&site);
    Arc::into_inner(gateway)
        .expect("all tasks are over")
        .stop()
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_in_the_middle_of_an_answer_does_not_change_it() {
    let site = Site::start(|turn| match turn.before {
        0 => Play::Halves(
            vec![phase("answer", "Before ", "typing")],
            vec![
                phase("answer", "and after.", "typing"),
                phase("answer", "", "finished"),
            ],
        ),
        _ => Play::says("Gladly."),
    })
    .await;
    let gateway = logged_in(&site, "u1").await;
    let mut body = chat(&[user("go")]);
    body["stream"] = true.into();
    let mut response = ask(&gateway, &body).await;
    let mut told = String::new();
    while !told.contains("Before") {
        let chunk = response.chunk().await.expect("a chunk").expect("not over");
        told.push_str(&String::from_utf8_lossy(&chunk));
    }
    for actor in ["qwen-sessions", "credentials"] {
        let before = gateway.actor(actor).await["incarnation"]
            .as_u64()
            .expect("a number");
        assert_eq!(gateway.crash(actor).await, 200);
        gateway.incarnation_after(actor, before).await;
    }
    site.upstream.go(1);
    while let Some(chunk) = response.chunk().await.expect("a chunk") {
        told.push_str(&String::from_utf8_lossy(&chunk));
    }
    let heard = crate::support::hear(&told);
    assert_eq!(
        (heard.text.as_str(), heard.finish_reasons.len()),
        ("Before and after.", 1)
    );
    let said = json!({"role": "assistant", "content": heard.text});
    let next = answer(&gateway, &chat(&[user("go"), said, user("please")])).await;
    assert_eq!(next["content"], "Gladly.");
    assert_eq!(site.opened().len(), 1);
    assert_clean(&site);
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_at_a_time_are_asked_of_a_login_unless_set_otherwise() {
    const TURNS: usize = 20;
    let site = Site::start(|turn| {
        let text = format!("re: {}", last_line(turn));
        Play::Held(vec![
            phase("answer", &text, "typing"),
            phase("answer", "", "finished"),
        ])
    })
    .await;
    let gateway = Arc::new(logged_in(&site, "u1").await);
    let tasks: Vec<_> = (0..TURNS)
        .map(|at| {
            let gateway = gateway.clone();
            tokio::spawn(async move {
                let text = format!("conversation {at}");
                let message = answer(&gateway, &chat(&[user(&text)])).await;
                assert_eq!(message["content"], format!("re: {text}"));
            })
        })
        .collect();
    let both = async {
        while site.turns().len() < 2 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(crate::support::PATIENCE, both)
        .await
        .expect("two are asked");
    site.upstream.go(TURNS);
    for task in tasks {
        task.await.expect("every turn is answered");
    }
    assert_eq!((site.turns().len(), site.most_at_once()), (TURNS, 2));
    assert_clean(&site);
    Arc::into_inner(gateway)
        .expect("all tasks are over")
        .stop()
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_conversation_expires() {
    let site = echoing().await;
    let gateway = at(&site, &[("session.timeout", json!(1000))]).await;
    log_in(&gateway, "default", "u1").await;
    let mut conversation = Conversation::new();
    conversation.say(&gateway, "one").await;
    let expires: i64 = gateway.cell("SELECT expires_at FROM sessions");
    let until = std::time::UNIX_EPOCH + std::time::Duration::from_millis(expires.unsigned_abs());
    while std::time::SystemTime::now() <= until {
        // Only the clock can say that a time has passed.
        ask(&gateway, &json!({})).await;
    }
    conversation.say(&gateway, "two").await;
    assert_eq!(site.opened().len(), 2);
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_renewed_login_goes_on_and_another_account_does_not() {
    let site = echoing().await;
    let gateway = logged_in(&site, "u1").await;
    let mut conversation = Conversation::new();
    conversation.say(&gateway, "one").await;
    log_in(&gateway, "default", "u1").await;
    conversation.say(&gateway, "two").await;
    assert_eq!(site.opened().len(), 1);
    log_in(&gateway, "default", "u2").await;
    conversation.say(&gateway, "three").await;
    assert_eq!(site.opened().len(), 2);
    gateway
        .client
        .delete(gateway.api("/api/qwen/credentials"))
        .send()
        .await
        .expect("an answer");
    let (_, health) = gateway.get(&gateway.qwen("/health")).await;
    assert_eq!(health["sessions"]["active"], 0);
    assert_clean(&site);
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_shows_its_exchanges_and_takes_them_with_it() {
    let site = echoing().await;
    let gateway = at(&site, &[]).await;
    log_in(&gateway, "default", "u1").await;
    let mut conversation = Conversation::new();
    conversation.say(&gateway, "one").await;
    conversation.say(&gateway, "two").await;
    let (_, list) = gateway
        .get(&gateway.api("/api/sessions?state=active&sort=last_accessed"))
        .await;
    assert_eq!(list["total"], 1, "{list}");
    assert_eq!(list["sessions"][0]["first_user_message"], "one");
    let id = list["sessions"][0]["id"]
        .as_str()
        .expect("an id")
        .to_owned();
    let session = gateway.api(&format!("/api/sessions/{id}"));
    let shown = async {
        loop {
            let (_, session) = gateway.get(&session).await;
            if session["request_count"] == 2 {
                return session;
            }
            tokio::task::yield_now().await;
        }
    };
    let shown = tokio::time::timeout(crate::support::PATIENCE, shown).await;
    let shown = shown.expect("both exchanges belong to it");
    assert_eq!(shown["expired"], false);
    assert!(shown["usage"]["total_tokens"].as_i64() > Some(0), "{shown}");
    let (_, requests) = gateway.get(&format!("{session}/requests?limit=1")).await;
    assert_eq!(
        (&requests["total"], &requests["has_more"]),
        (&json!(2), &json!(true))
    );
    let path = format!("/api/responses/session/{id}");
    assert_eq!(gateway.get(&gateway.api(&path)).await.1["total"], 2);
    let path = format!("/api/responses/stats?group_by=session&session_id={id}");
    let (_, stats) = gateway.get(&gateway.api(&path)).await;
    assert_eq!(stats["groups"][0]["key"], json!(id));
    assert_eq!(stats["groups"][0]["completed"], 2);
    let deleted = gateway.client.delete(&session).send().await;
    assert_eq!(deleted.expect("an answer").status(), 200);
    assert_eq!(gateway.cell::<i64>("SELECT count(*) FROM requests"), 0);
    let (_, stats) = gateway.get(&gateway.api("/api/responses/stats")).await;
    assert_eq!(stats["completed"], 2, "what was counted stays");
    let (code, stats) = gateway.get(&gateway.api(&path)).await;
    assert_eq!(code, 200, "{stats}");
    assert_eq!(stats["groups"][0]["key"], json!(id));
    assert_eq!(stats["groups"][0]["completed"], 2, "for it, too");
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_session_is_gone_here_and_if_wanted_there() {
    let site = echoing().await;
    let gateway = at(&site, &[("qwen.deleteChats", json!(true))]).await;
    log_in(&gateway, "default", "u1").await;
    let mut conversation = Conversation::new();
    conversation.say(&gateway, "one").await;
    let id: String = gateway.cell("SELECT id FROM sessions");
    let delete = || {
        let url = gateway.api(&format!("/api/sessions/{id}"));
        gateway.client.delete(url).send()
    };
    assert_eq!(delete().await.expect("an answer").status(), 200);
    assert_eq!(delete().await.expect("an answer").status(), 404);
    let deleted = async {
        while site.deleted().is_empty() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(crate::support::PATIENCE, deleted)
        .await
        .expect("the chat is deleted");
    assert_eq!(site.deleted(), site.opened());
    assert_eq!(conversation.say(&gateway, "two").await, "re: two");
    assert_eq!(site.opened().len(), 2);
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_spare_chat_saves_the_next_conversation_a_round_trip() {
    let site = echoing().await;
    let gateway = at(&site, &[("qwen.prewarm", json!(true))]).await;
    log_in(&gateway, "default", "u1").await;
    Conversation::new().say(&gateway, "one").await;
    let kept = async || {
        let waiting = async {
            while gateway.get(&gateway.qwen("/health")).await.1["sessions"]["spare_chats"] != 1 {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(crate::support::PATIENCE, waiting)
            .await
            .expect("a spare chat is opened");
    };
    kept().await;
    Conversation::new().say(&gateway, "two").await;
    let turns = site.turns();
    assert_eq!(turns[1].chat_id, site.opened()[1], "the spare chat is used");
    // One that is gone is stepped over.
    kept().await;
    site.lose_chats();
    assert_eq!(
        Conversation::new().say(&gateway, "three").await,
        "re: three"
    );
    assert_clean(&site);
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_chats_that_know_the_same_a_sessions_own_is_preferred() {
    let site = echoing().await;
    let gateway = logged_in(&site, "u1").await;
    let post = |session: &'static str, messages: Vec<Value>| {
        let request = gateway
            .client
            .post(gateway.qwen("/v1/chat/completions"))
            .header("x-session-id", session)
            .json(&chat(&messages));
        async move {
            let body: Value = request
                .send()
                .await
                .expect("an answer")
                .json()
                .await
                .expect("JSON");
            body["choices"][0]["message"].clone()
        }
    };
    let first = post("a", vec![user("hi")]).await;
    post("b", vec![user("hi")]).await;
    post("a", vec![user("hi"), first.clone(), user("more")]).await;
    post("b", vec![user("hi"), first.clone(), user("more")]).await;
    // A session nobody has seen goes on wherever the history is known: headers prefer, they do not pin.
    post("c", vec![user("hi"), first, user("more")]).await;
    let turns = site.turns();
    assert_eq!(site.opened().len(), 2);
    assert_eq!(
        (&turns[2].chat_id, &turns[3].chat_id),
        (&turns[0].chat_id, &turns[1].chat_id)
    );
    assert_clean(&site);
    gateway.stop().await;
}
