//! What people see on a terminal: bars, and the live picture. The terminal is a real one, made by `script` of util-linux.

use std::io::{Read, Write};
use std::process::{Child, Stdio};

use serde_json::json;
use tokio::sync::mpsc;

use crate::cli::{DEAD, User};
use crate::import;
use crate::support::{PATIENCE, TestGateway, say};

/// Runs to its end; what was drawn.
async fn drawn(user: &User, args: &[&str]) -> String {
    let mut command = user.on_terminal(args);
    let running = tokio::task::spawn_blocking(move || command.output());
    let output = running.await.expect("no panic").expect("`script` runs");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{text}");
    text
}

#[tokio::test]
async fn what_takes_long_shows_a_bar_on_a_terminal() {
    let gateway = TestGateway::start().await;
    for text in ["one", "two", "three"] {
        let answer = gateway.chat(&say("echo", text)).await;
        answer.bytes().await.expect("a body");
    }
    let user = User::of(&gateway);
    let text = drawn(&user, &["export", "-o", "history.jsonl"]).await;
    assert!(
        text.contains("exporting [####################] 100 %"),
        "{text:?}"
    );
    assert_eq!(user.read("history.jsonl").lines().count(), 3);
    let data = gateway.database();
    let data = data
        .parent()
        .expect("a folder")
        .to_string_lossy()
        .into_owned();
    let _dir = gateway.stop().await;
    let user = User::at(DEAD);
    let text = drawn(&user, &["backup", "--data-dir", &data]).await;
    assert!(
        text.contains("copying [") && text.contains(" %"),
        "{text:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn import_and_retention_show_how_far_they_are() {
    // An import is followed by a pass of retention: it is to find nothing yet.
    let gateway = TestGateway::with(&[("retention.days", json!(0))]).await;
    let user = User::of(&gateway);
    let dir = tempfile::tempdir().expect("a folder");
    let file = import::old(dir.path(), "http://127.0.0.1:9", "no-token");
    // From a time that retention does not keep.
    let more = "WITH RECURSIVE n (i) AS (SELECT 2000 UNION ALL SELECT i + 1 FROM n WHERE i < 12000)
        INSERT INTO requests SELECT i, 's1', 'r-' || i, i, 'POST', '/v1/chat/completions', '{}', '{}', 'old-model', 0, i
        FROM n";
    let older = rusqlite::Connection::open(&file).expect("a file");
    older.execute_batch(more).expect("it runs");
    drop(older);
    let text = drawn(&user, &["import", &file.to_string_lossy()]).await;
    assert!(
        text.contains("requests [") && text.contains(" %"),
        "{text:?}"
    );
    assert_eq!(gateway.cell::<i64>("SELECT count(*) FROM requests"), 11_101);
    user.run(&["settings", "set", "retention.days", "30"])
        .await
        .ok();
    let text = drawn(&user, &["retention", "--yes"]).await;
    assert!(
        text.contains("removing what is outlived [") && text.contains(" %"),
        "{text:?}"
    );
    assert_eq!(gateway.cell::<i64>("SELECT count(*) FROM requests"), 0);
    gateway.stop().await;
}

/// A program on a terminal, with what it has drawn so far.
struct Live {
    child: Child,
    pieces: mpsc::UnboundedReceiver<String>,
    text: String,
}

impl Live {
    fn start(user: &User, args: &[&str]) -> Self {
        let mut command = user.on_terminal(args);
        let mut child = command.stdin(Stdio::piped()).spawn().expect("it runs");
        let mut out = child.stdout.take().expect("a pipe");
        let (sender, pieces) = mpsc::unbounded_channel();
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(read) = out.read(&mut bytes)
                && read > 0
                && sender
                    .send(String::from_utf8_lossy(&bytes[..read]).into_owned())
                    .is_ok()
            {}
        });
        Self {
            child,
            pieces,
            text: String::new(),
        }
    }

    /// Waits until `part` is drawn, and forgets what came up to there.
    async fn until(&mut self, part: &str) {
        loop {
            if let Some(at) = self.text.find(part) {
                self.text.drain(..at + part.len());
                return;
            }
            let more = tokio::time::timeout(PATIENCE, self.pieces.recv()).await;
            let more = more.unwrap_or_else(|_| panic!("no {part:?} in {:?}", self.text));
            let more = more.unwrap_or_else(|| panic!("ended without {part:?}: {:?}", self.text));
            self.text.push_str(&more);
        }
    }

    fn press(&mut self, key: &str) {
        let stdin = self.child.stdin.as_mut().expect("a pipe");
        stdin.write_all(key.as_bytes()).expect("it reads");
        stdin.flush().expect("it reads");
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn top_draws_what_happens_and_obeys_keys() {
    const OTHER_SCREEN: &str = "\u{1b}[?1049h";
    const OWN_SCREEN: &str = "\u{1b}[?1049l";
    let gateway = TestGateway::start().await;
    let user = User::of(&gateway);
    let mut top = Live::start(&user, &["top"]);
    top.until(OTHER_SCREEN).await;
    top.until("listener-router").await;
    // It draws anew as things happen.
    let answer = gateway.chat(&say("echo", "hi")).await;
    answer.bytes().await.expect("a body");
    top.until("echo").await;
    top.press("p");
    top.until("paused").await;
    top.press("q");
    top.until(OWN_SCREEN).await;
    let ended = tokio::task::spawn_blocking(move || top.child.wait()).await;
    assert!(ended.expect("no panic").expect("it ends").success());
    gateway.stop().await;
}
