//! The login that Qwen Code keeps in a file, as a provider of the router.

use serde_json::{Value, json};

use super::{chat, user};
use crate::support::TestGateway;
use crate::support::upstream::{Upstream, json_answer, whole};

/// A server that takes the token `good` alone, and renews `refresh-1`.
async fn server() -> Upstream {
    Upstream::start(|request| {
        if request.path == "/token" {
            let form = String::from_utf8_lossy(&request.body).into_owned();
            let known = form.contains("refresh_token=refresh-1")
                && form.contains("grant_type=refresh_token");
            return vec![if known {
                json_answer(
                    200,
                    &json!({"access_token": "good", "token_type": "Bearer", "expires_in": 3600}),
                )
            } else {
                json_answer(400, &json!({"error": "invalid_grant"}))
            }];
        }
        vec![if request.header("authorization") == Some("Bearer good") {
            json_answer(200, &whole("native"))
        } else {
            json_answer(
                401,
                &json!({"error": {"message": "invalid access token or token expired"}}),
            )
        }]
    })
    .await
}

struct Case {
    access: &'static str,
    refresh: &'static str,
    ends: i64,
    status: u16,
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stored_login_is_used_renewed_and_written_back() {
    let server = server().await;
    let gateway = TestGateway::start().await;
    let dir = tempfile::TempDir::new().expect("a folder");
    let far = 4_000_000_000_000;
    for (at, case) in [
        Case {
            access: "good",
            refresh: "refresh-1",
            ends: far,
            status: 200,
        },
        Case {
            access: "old",
            refresh: "refresh-1",
            ends: 1,
            status: 200,
        },
        Case {
            access: "revoked",
            refresh: "refresh-1",
            ends: far,
            status: 200,
        },
        Case {
            access: "old",
            refresh: "spent",
            ends: 1,
            status: 401,
        },
    ]
    .into_iter()
    .enumerate()
    {
        let file = dir.path().join(format!("{at}.json"));
        let kept = json!({"access_token": case.access, "refresh_token": case.refresh, "token_type": "Bearer",
            "resource_url": server.base_url(), "expiry_date": case.ends, "more": "kept"});
        std::fs::write(&file, kept.to_string()).expect("a file");
        let id = format!("oauth-{at}");
        let config =
            json!({"credentialsFile": file, "tokenURL": format!("{}/token", server.origin())});
        let made = json!({"id": id, "name": id, "type": "qwen-oauth", "config": config});
        let made = gateway.post(&gateway.api("/api/providers"), &made).await;
        assert_eq!(
            made.status(),
            201,
            "{}",
            made.text().await.unwrap_or_default()
        );
        let mut body = chat(&[user("go")]);
        body["model"] = format!("{id}/qwen3-coder-plus").into();
        let response = gateway.chat(&body).await;
        assert_eq!(response.status(), case.status, "{at}");
        let now: Value =
            serde_json::from_slice(&std::fs::read(&file).expect("a file")).expect("JSON");
        if case.status == 200 {
            let answer: Value = response.json().await.expect("JSON");
            assert_eq!(answer["choices"][0]["message"]["content"], "native");
            assert_eq!(
                (&now["access_token"], &now["refresh_token"], &now["more"]),
                (&json!("good"), &json!("refresh-1"), &json!("kept"))
            );
        } else {
            assert_eq!(response.headers()["x-should-retry"], "false");
            assert!(response.text().await.expect("text").contains("Qwen Code"));
            assert_eq!(now, kept, "nothing is written of a login that has ended");
        }
    }
    // No file, no login: the error says what to do.
    let missing = json!({"id": "none", "name": "none", "type": "qwen-oauth", "config": {"credentialsFile": dir.path().join("none")}});
    assert_eq!(
        gateway
            .post(&gateway.api("/api/providers"), &missing)
            .await
            .status(),
        201
    );
    let mut body = chat(&[user("go")]);
    body["model"] = "none/m".into();
    let error = gateway.chat(&body).await.text().await.expect("text");
    assert!(error.contains("log in with Qwen Code"), "{error}");
    gateway.stop().await;
}
