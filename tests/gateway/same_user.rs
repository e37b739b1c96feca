//! S5: what other users of this machine may do. Their requests are made by curl under another user's id, which takes root.

use std::process::Command;

use serde_json::{Value, json};

use crate::support::{TestGateway, say};

/// Whose id is used: nobody's.
const OTHER: &str = "65534";

fn as_other() -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--reuid", OTHER, "--clear-groups"]);
    command
}

/// Whether this test may take another id; without root it could only fail.
fn may_change_users() -> bool {
    let able = as_other().arg("true").status();
    let able = able.is_ok_and(|status| status.success());
    assert!(able || std::env::var_os("CI").is_none(), "CI runs as root");
    able
}

/// Status and body of a request of another user.
async fn other(url: &str, more: &[&str]) -> (u16, Value) {
    let mut command = as_other();
    command
        .args([
            "curl",
            "-sS",
            "--noproxy",
            "*",
            "-m",
            "30",
            "-w",
            "\n%{http_code}",
        ])
        .args(more)
        .arg(url);
    let output = tokio::task::spawn_blocking(move || command.output()).await;
    let output = output.expect("it runs").expect("curl");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let (body, status) = said
        .rsplit_once('\n')
        .unwrap_or_else(|| panic!("{said}{}", String::from_utf8_lossy(&output.stderr)));
    let body = serde_json::from_str(body).unwrap_or(Value::Null);
    (status.parse().expect("a status"), body)
}

fn posted<'a>(body: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let mut arguments = vec!["-H", "content-type: application/json", "-d", body];
    arguments.extend(more);
    arguments
}

async fn set(gateway: &TestGateway, value: &str) {
    let url = gateway.api("/api/settings/auth.sameUser");
    let answer = gateway
        .client
        .put(url)
        .json(&json!({"value": value}))
        .send();
    assert_eq!(answer.await.expect("an answer").status(), 200);
    let (_, health) = gateway.get(&gateway.api("/api/health")).await;
    assert_eq!(health["checks"]["same_user"], value);
}

#[tokio::test(flavor = "multi_thread")]
async fn s5_other_users_of_this_machine_need_a_token() {
    if !may_change_users() {
        return;
    }
    let gateway = TestGateway::start().await;
    let (_, health) = gateway.get(&gateway.api("/api/health")).await;
    assert_eq!(health["checks"]["same_user"], "management");

    let provider = json!({"id": "theirs", "name": "theirs", "type": "openai-compatible",
                          "config": {"baseURL": "http://127.0.0.1:9/v1"}});
    let provider = provider.to_string();
    for (url, arguments) in [
        (gateway.api("/api/health"), vec![]),
        (gateway.api("/api/providers"), posted(&provider, &[])),
        (gateway.api("/api/nothing"), vec![]),
        // The older program's names of the same routes.
        (gateway.router("/v1/providers"), posted(&provider, &[])),
    ] {
        let (status, body) = other(&url, &arguments).await;
        assert_eq!(
            (status, &body["error"]["code"]),
            (403, &json!("other_user")),
            "{url} {body}"
        );
        let message = body["error"]["message"].to_string();
        assert!(message.contains("auth.sameUser"), "{message}");
    }
    let (_, providers) = gateway.get(&gateway.api("/api/providers")).await;
    assert!(!providers.to_string().contains("theirs"), "{providers}");
    // That the process lives and how to log in is nobody's secret; completions are another setting.
    assert_eq!(other(&gateway.api("/api/health/live"), &[]).await.0, 200);
    let (status, auth) = other(&gateway.api("/api/auth"), &[]).await;
    assert_eq!((status, &auth["principal"]), (200, &Value::Null));
    let chat = say("echo", "hello").to_string();
    let completions = gateway.router("/v1/chat/completions");
    assert_eq!(other(&completions, &posted(&chat, &[])).await.0, 200);

    // Who has a token is whom it was given to. Without it nothing has changed.
    let made = gateway
        .post(&gateway.api("/api/auth/token"), &json!({}))
        .await;
    let made: Value = made.json().await.expect("JSON");
    let header = format!(
        "authorization: Bearer {}",
        made["token"].as_str().expect("a token")
    );
    let url = gateway.api("/api/health");
    assert_eq!(other(&url, &["-H", &header]).await.0, 200);
    assert_eq!(
        other(&url, &["-H", "authorization: Bearer nonsense"])
            .await
            .0,
        401
    );
    assert_eq!(other(&url, &[]).await.0, 403);
    assert_eq!(gateway.get(&url).await.0, 200, "our own user needs none");

    set(&gateway, "all").await;
    let (status, body) = other(&completions, &posted(&chat, &[])).await;
    assert_eq!(
        (status, &body["error"]["code"]),
        (403, &json!("other_user")),
        "{body}"
    );
    let key = gateway
        .post(&gateway.api("/api/keys"), &json!({"name": "theirs"}))
        .await;
    let key: Value = key.json().await.expect("JSON");
    let header = format!(
        "authorization: Bearer {}",
        key["key"].as_str().expect("a key")
    );
    assert_eq!(
        other(&completions, &posted(&chat, &["-H", &header]))
            .await
            .0,
        200
    );
    assert_eq!(gateway.chat(&say("echo", "hello")).await.status(), 200);

    set(&gateway, "off").await;
    assert_eq!(other(&completions, &posted(&chat, &[])).await.0, 200);
    assert_eq!(
        other(&gateway.api("/api/providers"), &posted(&provider, &[]))
            .await
            .0,
        201
    );
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn s5_who_hangs_up_at_once_is_not_taken_for_root() {
    if !may_change_users() {
        return;
    }
    let gateway = TestGateway::start().await;
    let port = gateway.gateway.management_address().port();
    // The kernel counts a closed socket as root's.
    let body = r#"{"id":"m","name":"m"}"#;
    let script = format!(
        "for i in $(seq 200); do exec 3<>/dev/tcp/127.0.0.1/{port}; \
         printf 'POST /api/models HTTP/1.1\\r\\nhost: localhost\\r\\ncontent-type: application/json\\r\\n\
         content-length: {}\\r\\n\\r\\n%s' '{body}' >&3; exec 3>&-; done",
        body.len()
    );
    let mut command = as_other();
    command.args(["bash", "-c", &script]);
    let status = tokio::task::spawn_blocking(move || command.status()).await;
    assert!(status.expect("it runs").expect("bash").success());
    // Changes are made one after another, so this one comes after all of theirs.
    let mine = json!({"id": "mine", "name": "mine"});
    let mine = gateway.post(&gateway.api("/api/models"), &mine).await;
    assert_eq!(mine.status(), 201);
    let (_, models) = gateway.get(&gateway.api("/api/models?fields=id")).await;
    let ids: Vec<_> = models["models"]
        .as_array()
        .expect("a list")
        .iter()
        .collect();
    assert!(!ids.iter().any(|model| model["id"] == "m"), "{models}");
    assert!(ids.iter().any(|model| model["id"] == "mine"), "{models}");
    gateway.stop().await;
}
