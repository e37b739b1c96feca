//! Who may ask and what is given away: S1 to S4, S6 to S10 and S12 of the reliability contract.

use std::process::Stdio;
use std::sync::atomic::Ordering;

use reqwest::header::{HeaderMap, HeaderValue};
use reqwest::{Method, RequestBuilder, Response};
use serde_json::{Value, json};

use crate::support::tls::{TlsUpstream, authority};
use crate::support::upstream::{Upstream, json_answer, whole};
use crate::support::{TestGateway, client, say};

const MASK: &str = "***MASKED***";

async fn told(request: RequestBuilder) -> (u16, Value) {
    let response = request.send().await.expect("an answer");
    let status = response.status().as_u16();
    let text = response.text().await.expect("a body");
    (status, serde_json::from_str(&text).unwrap_or(Value::Null))
}

fn code(answer: &(u16, Value)) -> (u16, &str) {
    (
        answer.0,
        answer.1["error"]["code"].as_str().unwrap_or_default(),
    )
}

fn ask(gateway: &TestGateway, method: &str, path: &str) -> RequestBuilder {
    let method: Method = method.parse().expect("a method");
    // Bound to every address, it still has to be called by one.
    let url = gateway.api(path).replacen("0.0.0.0", "127.0.0.1", 1);
    gateway.client.request(method, url)
}

async fn set(gateway: &TestGateway, token: Option<&str>, key: &str, value: Value) -> (u16, Value) {
    let mut request =
        ask(gateway, "PUT", &format!("/api/settings/{key}")).json(&json!({ "value": value }));
    if let Some(token) = token {
        request = request.bearer_auth(token);
    }
    told(request).await
}

async fn new_token(gateway: &TestGateway) -> String {
    let (status, made) = told(ask(gateway, "POST", "/api/auth/token")).await;
    assert_eq!(status, 201, "{made}");
    made["token"].as_str().expect("a token").to_owned()
}

async fn answering() -> Upstream {
    Upstream::start(|_| vec![json_answer(200, &whole("Hello"))]).await
}

#[tokio::test]
async fn s2_s3_s4_what_a_foreign_page_sends_is_refused_on_all_ports_and_changes_nothing() {
    let gateway = TestGateway::start().await;
    let before = gateway.get(&gateway.api("/api/providers")).await.1;
    let provider = json!({"id": "evil", "name": "evil", "type": "openai", "config": {}});
    for base in [gateway.api(""), gateway.router(""), gateway.qwen("")] {
        let path = if base == gateway.api("") {
            "/api/providers"
        } else {
            "/v1/chat/completions"
        };
        let url = format!("{base}{path}");
        let own = base.trim_start_matches("http://");
        for (name, value) in [
            ("origin", "https://evil.example"),
            ("origin", "null"),
            ("origin", "http://localhost:1"),
            ("origin", &format!("https://{own}")),
            ("sec-fetch-site", "cross-site"),
            ("sec-fetch-site", "same-site"),
            ("host", "evil.example"),
            ("host", "127.0.0.1.nip.io"),
            ("host", "192.0.2.1"),
        ] {
            for method in [Method::POST, Method::GET, Method::OPTIONS] {
                let request = client().request(method, &url).header(name, value);
                let request = request
                    .header("access-control-request-method", "POST")
                    .json(&provider);
                let response = request.send().await.expect("an answer");
                assert_eq!(response.status(), 403, "{url} {name}: {value}");
                assert!(cors(response.headers()).is_empty(), "{url} {name}: {value}");
            }
        }
        for kind in [
            "application/x-www-form-urlencoded",
            "multipart/form-data",
            "text/plain",
        ] {
            let form = client().post(&url).header("content-type", kind);
            let answer = told(form.body(provider.to_string())).await;
            assert_eq!(code(&answer), (415, "unsupported_media_type"), "{url}");
        }
    }
    let after = gateway.get(&gateway.api("/api/providers")).await.1;
    assert_eq!(before, after);
    assert_eq!(gateway.cell::<i64>("SELECT count(*) FROM requests"), 0);
    gateway.stop().await;
}

fn cors(headers: &HeaderMap) -> Vec<(String, String)> {
    let names = headers
        .iter()
        .filter(|(name, _)| name.as_str().starts_with("access-control-"));
    names
        .map(|(name, value)| (name.to_string(), text(value)))
        .collect()
}

fn text(value: &HeaderValue) -> String {
    value.to_str().expect("text").to_owned()
}

#[tokio::test]
async fn s3_a_listed_origin_is_answered_and_may_read_the_answer() {
    let gateway = TestGateway::start().await;
    let page = "https://dash.example";
    for bad in ["*", "null", "dash.example", "https://dash.example/"] {
        let refused = set(&gateway, None, "cors.origins", json!(bad)).await;
        assert_eq!(refused.0, 400, "{bad}");
    }
    let listed = json!("http://localhost:5173, https://dash.example");
    assert_eq!(set(&gateway, None, "cors.origins", listed).await.0, 200);
    for base in [gateway.api(""), gateway.router(""), gateway.qwen("")] {
        let asked = async |origin: &str| -> Response {
            let request = client().request(Method::OPTIONS, format!("{base}/v1/chat/completions"));
            let request = request
                .header("origin", origin)
                .header("access-control-request-method", "PATCH")
                .header(
                    "access-control-request-headers",
                    "Content-Type, x-evil, if-match",
                );
            request.send().await.expect("an answer")
        };
        let response = asked(page).await;
        assert_eq!(response.status(), 204);
        let headers = response.headers();
        assert_eq!(headers["access-control-allow-origin"], page);
        assert_eq!(headers["vary"], "origin");
        assert!(text(&headers["access-control-allow-methods"]).contains("PATCH"));
        assert_eq!(
            headers["access-control-allow-headers"],
            "content-type, if-match"
        );
        assert!(!headers.contains_key("access-control-allow-credentials"));
        let own = asked(&base).await;
        assert_eq!(own.status(), 204, "our own pages");
        assert!(!own.headers().contains_key("access-control-allow-origin"));
        assert_eq!(asked("https://dash.example.evil").await.status(), 403);
        // An error may be read, too.
        let request = client().get(format!("{base}/nope")).header("origin", page);
        let response = request.send().await.expect("an answer");
        assert_eq!(response.status(), 404);
        assert_eq!(response.headers()["access-control-allow-origin"], page);
        let plain = client().get(format!("{base}/nope")).send().await;
        assert!(cors(plain.expect("an answer").headers()).is_empty());
    }
    let names = set(&gateway, None, "server.hostNames", json!("box.lan, other")).await;
    assert_eq!(names.0, 200);
    for (host, status) in [("box.lan:3002", 200), ("BOX.LAN", 200), ("lan", 403)] {
        let request = ask(&gateway, "GET", "/api/health/live").header("host", host);
        assert_eq!(told(request).await.0, status, "{host}");
    }
    gateway.stop().await;
}

#[tokio::test]
async fn s6_s8_the_admin_token_is_shown_once_kept_as_a_hash_and_needed_to_unmask() {
    let gateway = TestGateway::start().await;
    gateway.provider_at("p1", "http://127.0.0.1:9/v1").await;
    let secrets = "/api/providers/p1/config?mask=false";
    let refused = told(ask(&gateway, "GET", secrets).bearer_auth("anything")).await;
    assert_eq!(code(&refused), (403, "unmasking_refused"));
    assert_eq!(
        told(ask(&gateway, "GET", "/api/auth")).await.1,
        json!({"configured": false, "required": "remote", "principal": "local"})
    );
    let token = new_token(&gateway).await;
    assert!(token.len() >= 43);

    // Clients of this machine go on as before; what they present must be right all the same.
    assert_eq!(told(ask(&gateway, "GET", "/api/providers")).await.0, 200);
    let wrong = told(ask(&gateway, "GET", "/api/providers").bearer_auth("wrong")).await;
    assert_eq!(code(&wrong), (401, "invalid_token"));
    let refused = told(ask(&gateway, "GET", secrets)).await;
    assert_eq!(code(&refused), (403, "unmasking_refused"));
    for path in [secrets, "/api/p1/config?mask=false"] {
        let (status, shown) = told(ask(&gateway, "GET", path).bearer_auth(&token)).await;
        assert_eq!((status, &shown["masked"]), (200, &json!(false)));
        assert_eq!(shown["config"]["apiKey"], "sk-upstream");
    }
    let by_key = ask(&gateway, "GET", secrets).header("x-api-key", &token);
    assert_eq!(told(by_key).await.1["config"]["apiKey"], "sk-upstream");

    // Nobody but its holder may change it, by any road.
    for request in [
        ask(&gateway, "POST", "/api/auth/token"),
        ask(&gateway, "DELETE", "/api/auth/token"),
        ask(&gateway, "DELETE", "/api/settings/auth.adminToken"),
        ask(&gateway, "PUT", "/api/settings/auth.adminToken")
            .json(&json!({"value": "x".repeat(40)})),
        ask(&gateway, "POST", "/api/settings/bulk")
            .json(&json!({"settings": {"auth.adminToken": "x".repeat(40)}})),
    ] {
        assert_eq!(code(&told(request).await), (403, "admin_token_required"));
    }

    // It is shown nowhere.
    let (_, all) = told(ask(&gateway, "GET", "/api/settings")).await;
    assert_eq!(all["settings"]["auth.adminToken"], MASK);
    let (_, one) = told(ask(&gateway, "GET", "/api/settings/auth.adminToken")).await;
    assert_eq!(
        (&one["value"], &one["default"]),
        (&json!(MASK), &Value::Null)
    );
    let stored: String = gateway.cell("SELECT value FROM settings WHERE key = 'auth.adminToken'");
    assert!(stored.starts_with("\"sha256$") && !stored.contains(&token));
    let same = set(&gateway, None, "auth.adminToken", json!(MASK)).await;
    assert_eq!(same.0, 200, "what was shown may be sent back");
    assert_eq!(
        told(ask(&gateway, "GET", secrets).bearer_auth(&token))
            .await
            .0,
        200
    );

    // One of their own choice; the old one is over.
    let chosen = "a-token-that-somebody-chose-for-herself";
    let changed = set(&gateway, Some(&token), "auth.adminToken", json!(chosen)).await;
    assert_eq!((changed.0, &changed.1["value"]), (200, &json!(MASK)));
    let old = told(ask(&gateway, "GET", secrets).bearer_auth(&token)).await;
    assert_eq!(code(&old), (401, "invalid_token"));
    let short = set(&gateway, Some(chosen), "auth.adminToken", json!("short")).await;
    assert_eq!(short.0, 400);
    let replaced = told(ask(&gateway, "POST", "/api/auth/token").bearer_auth(chosen)).await;
    let token = replaced.1["token"].as_str().expect("a token").to_owned();
    let principals: Vec<String> = {
        let list: String = gateway.cell(
            "SELECT group_concat(principal || ' ' || action, ',') FROM (SELECT * FROM audit_log WHERE entity_id = 'auth.adminToken' ORDER BY seq)",
        );
        list.split(',').map(str::to_owned).collect()
    };
    assert_eq!(
        principals,
        ["local updated", "admin updated", "admin updated"]
    );
    let trail: String = gateway
        .cell("SELECT group_concat(coalesce(before, '') || coalesce(after, '')) FROM audit_log");
    assert!(
        !trail.contains("sha256$") && !trail.contains(chosen),
        "{trail}"
    );
    let deleted = ask(&gateway, "DELETE", "/api/auth/token").bearer_auth(&token);
    assert_eq!(told(deleted).await.0, 200);
    let none = told(ask(&gateway, "DELETE", "/api/auth/token")).await;
    assert_eq!(code(&none), (404, "admin_token_not_set"));
    gateway.stop().await;
}

#[tokio::test]
async fn s6_where_the_token_is_always_required_only_the_signs_of_life_are_open() {
    let gateway = TestGateway::start().await;
    let token = new_token(&gateway).await;
    assert_eq!(
        set(&gateway, None, "auth.required", json!("always"))
            .await
            .0,
        200
    );
    for (method, path) in [
        ("GET", "/api/providers"),
        ("GET", "/api/health"),
        ("GET", "/api/openapi.json"),
        ("GET", "/"),
        ("GET", "/nope"),
        ("GET", "/api/events"),
        ("POST", "/api/proxy/stop"),
        ("PUT", "/api/settings/auth.required"),
    ] {
        let answer = told(ask(&gateway, method, path)).await;
        assert_eq!(code(&answer), (401, "admin_token_required"), "{path}");
    }
    let unauthorized = ask(&gateway, "GET", "/api/providers")
        .send()
        .await
        .expect("an answer");
    assert_eq!(unauthorized.headers()["www-authenticate"], "Bearer");
    assert_eq!(told(ask(&gateway, "GET", "/api/health/live")).await.0, 200);
    assert_eq!(
        told(ask(&gateway, "GET", "/api/auth")).await.1["principal"],
        Value::Null
    );
    assert_eq!(
        gateway.chat(&say("echo", "hi")).await.status(),
        200,
        "completions are not management"
    );
    let admin = ask(&gateway, "GET", "/api/providers").bearer_auth(&token);
    assert_eq!(told(admin).await.0, 200);

    // A browser logs in and gets a cookie that is not the token.
    let bad = told(ask(&gateway, "POST", "/api/auth/login").json(&json!({}))).await;
    assert_eq!(bad.0, 400);
    let login = ask(&gateway, "POST", "/api/auth/login").json(&json!({"token": token}));
    let response = login.send().await.expect("an answer");
    assert_eq!(response.status(), 200);
    let cookie = text(&response.headers()["set-cookie"]);
    assert!(
        cookie.contains("HttpOnly") && cookie.contains("SameSite=Strict"),
        "{cookie}"
    );
    assert!(!cookie.contains(&token));
    let cookie = cookie.split(';').next().expect("a pair").to_owned();
    let with_cookie =
        |method, path| ask(&gateway, method, path).header("cookie", format!("a=b; {cookie}"));
    assert_eq!(
        told(with_cookie("GET", "/api/auth")).await.1["principal"],
        "admin"
    );
    assert_eq!(told(with_cookie("GET", "/api/providers")).await.0, 200);
    assert_eq!(told(with_cookie("POST", "/api/auth/logout")).await.0, 200);
    let ended = with_cookie("GET", "/api/providers")
        .send()
        .await
        .expect("an answer");
    assert_eq!(ended.status(), 401);
    assert!(text(&ended.headers()["set-cookie"]).contains("Max-Age=0"));
    gateway.stop().await;
}

#[tokio::test]
async fn s6_ten_wrong_tokens_a_minute_are_enough() {
    let gateway = TestGateway::start().await;
    let token = new_token(&gateway).await;
    for n in 0..10 {
        let request = match n % 3 {
            0 => ask(&gateway, "GET", "/api/auth").bearer_auth("wrong"),
            1 => ask(&gateway, "GET", "/api/providers").header("x-api-key", "wrong"),
            _ => ask(&gateway, "POST", "/api/auth/login").json(&json!({"token": "wrong"})),
        };
        assert_eq!(code(&told(request).await), (401, "invalid_token"));
    }
    for tried in ["wrong", &token] {
        let request = ask(&gateway, "GET", "/api/providers").bearer_auth(tried);
        let response = request.send().await.expect("an answer");
        assert_eq!(response.status(), 429);
        let after: u64 = text(&response.headers()["retry-after"])
            .parse()
            .expect("seconds");
        assert!((1..=60).contains(&after));
    }
    assert_eq!(
        told(ask(&gateway, "GET", "/api/providers")).await.0,
        200,
        "who presents none is not held up"
    );
    gateway.stop().await;
}

#[tokio::test]
async fn s9_an_idempotency_key_keeps_no_secret() {
    let gateway = TestGateway::start().await;
    let request = ask(&gateway, "POST", "/api/auth/token").header("idempotency-key", "k1");
    let (_, made) = told(request).await;
    let token = made["token"].as_str().expect("a token");
    assert_eq!(
        gateway.cell::<i64>("SELECT count(*) FROM idempotency_keys"),
        0
    );
    let file = std::fs::read(gateway.database()).expect("the file");
    let log = std::fs::read(gateway.database().with_extension("db-wal")).unwrap_or_default();
    for bytes in [file, log] {
        assert!(
            !bytes
                .windows(token.len())
                .any(|window| window == token.as_bytes())
        );
    }
    gateway.stop().await;
}

async fn new_key(gateway: &TestGateway, body: &Value) -> (String, String) {
    let (status, made) = told(ask(gateway, "POST", "/api/keys").json(body)).await;
    assert_eq!(status, 201, "{made}");
    let text = |key: &str| made[key].as_str().expect("text").to_owned();
    (text("id"), text("key"))
}

async fn complete(url: &str, key: Option<&str>, model: &str) -> (u16, Value) {
    let mut request = client()
        .post(format!("{url}/v1/chat/completions"))
        .json(&say(model, "hi"));
    if let Some(key) = key {
        request = request.bearer_auth(key);
    }
    told(request).await
}

#[tokio::test]
async fn s13_upstreams_elsewhere_are_asked_through_the_proxy_of_the_settings_alone() {
    let proxy = Upstream::start(|_| vec![json_answer(200, &whole("through it"))]).await;
    let here = Upstream::start(|_| vec![json_answer(200, &whole("at once"))]).await;
    let gateway = TestGateway::start().await;
    gateway.provider("here", &here).await;
    gateway
        .provider_at("away", "http://models.invalid/v1")
        .await;
    let said = async |model: &str| {
        let answer = complete(&gateway.router(""), None, model).await;
        (
            answer.0,
            answer.1["choices"][0]["message"]["content"].clone(),
        )
    };
    for (bad, status) in [
        ("socks5://a:1", 400),
        ("http://me:secret@a:1", 400),
        ("http://169.254.169.254:80", 422),
        (&*gateway.router(""), 422),
    ] {
        let put = set(&gateway, None, "network.proxy", json!(bad)).await;
        assert_eq!(put.0, status, "{bad}: {}", put.1);
    }
    let put = set(&gateway, None, "network.proxy", json!(proxy.origin())).await;
    assert_eq!(put.0, 200, "{}", put.1);
    assert_eq!(said("here/fake").await, (200, json!("at once")));
    assert_eq!(said("away/fake").await, (200, json!("through it")));
    let asked = proxy.completions();
    assert_eq!(asked.len(), 1);
    assert_eq!(asked[0].path, "http://models.invalid/v1/chat/completions");
    let reset = ask(&gateway, "DELETE", "/api/settings/network.proxy");
    assert_eq!(told(reset).await.0, 200);
    assert_ne!(said("away/fake").await.0, 200);
    let dir = gateway.stop().await;

    // One of the environment is none.
    let own = proxy.origin();
    let variables =
        ["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"].map(|name| (name, &*own));
    let data = dir.path().join("data");
    let mut binary = crate::support::binary::Binary::with(&data, &[], &variables, Stdio::null());
    let answer = complete(&binary.router, None, "away/fake").await;
    assert_ne!(answer.0, 200, "{}", answer.1);
    assert_eq!(proxy.completions().len(), 1);
    binary.signal("TERM");
    binary.wait();
}

#[tokio::test]
async fn s13_a_certificate_counts_only_if_the_system_or_the_providers_own_file_signed_it() {
    let upstream = TlsUpstream::start().await;
    let elsewhere = TlsUpstream::at("127.0.0.2").await;
    let gateway = TestGateway::start().await;
    let provider = |id: &str, address: &str, port: u16, more: Value| {
        let mut config =
            json!({"baseURL": format!("https://{address}:{port}/v1"), "apiKey": "sk-upstream"});
        for (key, value) in more.as_object().into_iter().flatten() {
            config[key] = value.clone();
        }
        let body = json!({"id": id, "name": id, "type": "openai-compatible", "config": config});
        told(ask(&gateway, "POST", "/api/providers").json(&body))
    };
    let signed = json!({"caFile": authority()});
    for (id, address, port, more) in [
        ("bare", "127.0.0.1", upstream.port, json!({})),
        ("signed", "127.0.0.1", upstream.port, signed.clone()),
        ("misnamed", "127.0.0.2", elsewhere.port, signed.clone()),
    ] {
        let made = provider(id, address, port, more).await;
        assert_eq!(made.0, 201, "{}", made.1);
    }
    let (status, answer) = complete(&gateway.router(""), None, "signed/fake").await;
    assert_eq!(
        (status, &answer["choices"][0]["message"]["content"]),
        (200, &json!("fine"))
    );
    let asked = upstream.seen.asked.load(Ordering::SeqCst);
    for id in ["bare", "misnamed"] {
        let (status, answer) = complete(&gateway.router(""), None, &format!("{id}/fake")).await;
        assert_eq!(status, 502, "{answer}");
        let why = answer["error"]["message"].as_str().unwrap_or_default();
        assert!(why.contains("certificate"), "{why}");
    }
    assert_eq!(upstream.seen.asked.load(Ordering::SeqCst), asked);
    assert_eq!(elsewhere.seen.asked.load(Ordering::SeqCst), 0);
    // A file that cannot be what is meant is refused when it is named.
    let here = std::env::current_dir().expect("a folder");
    for bad in [
        json!("ca.pem"),
        json!("/nowhere/ca.pem"),
        json!(here),
        json!(here.join("Cargo.toml")),
        json!("/dev/zero"),
        json!(7),
    ] {
        let more = json!({"caFile": bad});
        let refused = provider("odd", "127.0.0.1", upstream.port, more).await;
        assert_eq!(
            (refused.0, &refused.1["error"]["param"]),
            (422, &json!("config.caFile")),
            "{bad}: {}",
            refused.1
        );
    }
    // It is asked for each provider by itself, and may go again.
    let change = ask(&gateway, "PATCH", "/api/providers/bare/config/caFile");
    let changed = told(change.json(&json!({"value": authority()}))).await;
    assert_eq!(changed.0, 200, "{}", changed.1);
    let (status, answer) = complete(&gateway.router(""), None, "bare/fake").await;
    assert_eq!(status, 200, "{answer}");
    gateway.stop().await;
}

#[tokio::test]
async fn s6_a_client_that_tries_wrong_keys_has_to_wait_and_management_goes_on() {
    let gateway = TestGateway::start().await;
    let (_, key) = new_key(&gateway, &json!({"name": "all"})).await;
    assert_eq!(
        set(&gateway, None, "auth.requireKeys", json!("always"))
            .await
            .0,
        200
    );
    // On both ports together, and whatever is asked for.
    for number in 0..10 {
        let base = [gateway.router(""), gateway.qwen("")][number % 2].clone();
        let wrong = format!("qw-wrong-{number}");
        let answer = if number < 5 {
            complete(&base, Some(&wrong), "echo").await
        } else {
            let list = client().get(format!("{base}/v1/models"));
            told(list.header("x-api-key", wrong)).await
        };
        assert_eq!(code(&answer), (401, "invalid_api_key"), "{number}");
    }
    for key in ["qw-wrong", &*key] {
        let request = client()
            .post(gateway.router("/v1/chat/completions"))
            .bearer_auth(key)
            .json(&say("echo", "hi"));
        let response = request.send().await.expect("an answer");
        assert_eq!(response.status(), 429, "nothing is told of either");
        let after: u64 = text(&response.headers()["retry-after"])
            .parse()
            .expect("seconds");
        assert!((1..=60).contains(&after), "{after}");
        let body: Value = response.json().await.expect("JSON");
        assert_eq!(body["error"]["code"], "too_many_attempts");
    }
    let bare = complete(&gateway.router(""), None, "echo").await;
    assert_eq!(code(&bare), (401, "invalid_api_key"), "that is no try");
    let listed = told(ask(&gateway, "GET", "/api/keys")).await;
    assert_eq!(listed.0, 200);
    gateway.stop().await;
}

#[tokio::test]
async fn keys_are_shown_once_listed_changed_and_deleted() {
    let gateway = TestGateway::start().await;
    let (id, key) = new_key(&gateway, &json!({"name": "Laptop"})).await;
    assert!(key.starts_with("qw-") && key.len() > 40);
    let path = format!("/api/keys/{id}");
    let (_, shown) = told(ask(&gateway, "GET", &path)).await;
    assert!(key.starts_with(shown["prefix"].as_str().expect("text")));
    assert_eq!(shown.get("key"), None);
    let (_, list) = told(ask(&gateway, "GET", "/api/keys")).await;
    assert_eq!(
        (&list["total"], &list["keys"][0]["id"]),
        (&json!(1), &json!(id))
    );
    assert!(!list.to_string().contains(&key));
    let change = json!({"rate_per_minute": 5, "allowed_models": ["echo"], "tokens_per_day": 7});
    let (_, changed) = told(ask(&gateway, "PUT", &path).json(&change)).await;
    assert_eq!(changed["allowed_models"], json!(["echo"]));
    let nothing = json!({"rate_per_minute": null, "allowed_models": null});
    let (_, changed) = told(ask(&gateway, "PUT", &path).json(&nothing)).await;
    assert_eq!(changed["rate_per_minute"], Value::Null);
    assert_eq!(
        (&changed["allowed_models"], &changed["tokens_per_day"]),
        (&Value::Null, &json!(7))
    );
    for table in ["audit_log", "api_keys", "activity"] {
        let columns: String = gateway.cell(&format!(
            "SELECT group_concat(name, '|| '' '' ||') FROM pragma_table_info('{table}') WHERE type = 'TEXT' AND \"notnull\" = 1"
        ));
        let text: String = gateway.cell(&format!(
            "SELECT coalesce(group_concat({columns}), '') FROM {table}"
        ));
        assert!(!text.contains(&key), "{table}");
    }
    assert_eq!(told(ask(&gateway, "DELETE", &path)).await.0, 200);
    assert_eq!(
        code(&told(ask(&gateway, "DELETE", &path)).await),
        (404, "key_not_found")
    );
    gateway.stop().await;
}

#[tokio::test]
async fn keys_open_completions_and_model_lists_where_they_are_required() {
    let gateway = TestGateway::start().await;
    let (_, key) = new_key(&gateway, &json!({"name": "all"})).await;
    let limits = json!({"name": "some", "allowed_models": ["echo", "p1/*"]});
    let (some_id, some) = new_key(&gateway, &limits).await;
    let (_, late) = new_key(&gateway, &json!({"name": "late", "expires_at": 1})).await;
    let (_, off) = new_key(&gateway, &json!({"name": "off", "disabled": true})).await;
    let router = gateway.router("");
    assert_eq!(
        complete(&router, None, "echo").await.0,
        200,
        "nobody of this machine needs one"
    );
    assert_eq!(complete(&router, Some("sk-dummy"), "echo").await.0, 200);
    assert_eq!(
        set(&gateway, None, "auth.requireKeys", json!("always"))
            .await
            .0,
        200
    );

    for base in [gateway.router(""), gateway.qwen("")] {
        for bad in [
            None,
            Some("sk-dummy"),
            Some(&*late),
            Some(&*off),
            Some(&key[..20]),
        ] {
            let answer = complete(&base, bad, "echo").await;
            assert_eq!(code(&answer), (401, "invalid_api_key"), "{base} {bad:?}");
            assert_eq!(answer.1["error"]["type"], "invalid_request_error");
            let mut list = client().get(format!("{base}/v1/models"));
            if let Some(bad) = bad {
                list = list.header("x-api-key", bad);
            }
            assert_eq!(told(list).await.0, 401);
        }
        let health = client().get(format!("{base}/health")).send().await;
        assert_eq!(health.expect("an answer").status(), 200);
    }
    let long = client().post(format!("{router}/v1/chat/completions"));
    let long = long.json(&say("echo", &"x".repeat(8_000_000)));
    assert_eq!(
        told(long).await.0,
        401,
        "also to a client that is still sending"
    );
    assert_eq!(complete(&router, Some(&key), "echo").await.0, 200);
    assert_eq!(complete(&router, Some(&some), "echo").await.0, 200);
    for model in ["other", "p2/echo", "ECHO"] {
        let refused = complete(&router, Some(&some), model).await;
        assert_eq!(code(&refused), (403, "model_not_allowed"), "{model}");
    }
    let unnamed = client()
        .post(format!("{router}/v1/chat/completions"))
        .bearer_auth(&some);
    let unnamed = unnamed.json(&json!({"messages": [{"role": "user", "content": "hi"}]}));
    assert_eq!(code(&told(unnamed).await), (403, "model_not_allowed"));
    gateway.provider_at("p2", "http://127.0.0.1:9/v1").await;
    told(ask(&gateway, "POST", "/api/providers/p2/models").json(&json!({"model_id": "m"}))).await;
    let list = client()
        .get(format!("{router}/v1/models"))
        .bearer_auth(&some);
    let (_, list) = told(list).await;
    let ids: Vec<_> = list["data"]
        .as_array()
        .expect("models")
        .iter()
        .map(|model| &model["id"])
        .collect();
    assert_eq!(ids, ["echo"]);

    // A change is in force for the next request.
    let path = format!("/api/keys/{some_id}");
    told(ask(&gateway, "PUT", &path).json(&json!({"disabled": true}))).await;
    assert_eq!(complete(&router, Some(&some), "echo").await.0, 401);
    let (_, used) = told(ask(&gateway, "GET", &path)).await;
    assert!(used["last_used_at"].is_i64(), "{used}");
    // A client's key is no admin token.
    let token = new_token(&gateway).await;
    assert_eq!(
        told(ask(&gateway, "GET", "/api/keys").bearer_auth(&key))
            .await
            .0,
        401
    );
    assert_eq!(
        told(ask(&gateway, "GET", "/api/keys").bearer_auth(&token))
            .await
            .0,
        200
    );
    gateway.stop().await;
}

#[tokio::test]
async fn a_key_over_its_rate_is_told_when_to_come_back() {
    let gateway = TestGateway::start().await;
    let (_, key) = new_key(&gateway, &json!({"name": "slow", "rate_per_minute": 2})).await;
    set(&gateway, None, "auth.requireKeys", json!("always")).await;
    let router = gateway.router("");
    assert_eq!(complete(&router, Some(&key), "echo").await.0, 200);
    assert_eq!(complete(&router, Some(&key), "echo").await.0, 200);
    let request = client()
        .post(format!("{router}/v1/chat/completions"))
        .bearer_auth(&key);
    let response = request
        .json(&say("echo", "hi"))
        .send()
        .await
        .expect("an answer");
    assert_eq!(response.status(), 429);
    let after: u64 = text(&response.headers()["retry-after"])
        .parse()
        .expect("seconds");
    assert!((1..=30).contains(&after), "{after}");
    let list = client()
        .get(format!("{router}/v1/models"))
        .bearer_auth(&key);
    assert_eq!(told(list).await.0, 200, "lists do not count");
    gateway.stop().await;
}

fn free_port() -> u16 {
    let socket = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    socket.local_addr().expect("an address").port()
}

async fn is_closed(base: &str) -> bool {
    let asked = client().get(format!("{base}/health")).send().await;
    asked.is_err_and(|error| error.is_connect())
}

#[tokio::test(flavor = "multi_thread")]
async fn ports_move_while_they_serve_and_a_taken_one_changes_nothing() {
    let gateway = TestGateway::start().await;
    let mut seen = gateway
        .chat(&crate::support::say_streamed(
            "echo",
            "echo:delay 20\none two three four five",
        ))
        .await;
    let first = seen.chunk().await.expect("a chunk").expect("not the end");
    for key in ["server.port", "server.qwenPort", "server.apiPort"] {
        let all = || [gateway.router(""), gateway.qwen(""), gateway.api("")];
        let before = all();
        let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = taken.local_addr().expect("an address").port();
        let refused = set(&gateway, None, key, json!(port)).await;
        assert_eq!(code(&refused), (409, "port_in_use"), "{key}");
        let refused = ask(&gateway, "POST", "/api/settings/bulk?atomic=true")
            .json(&json!({"settings": {key: port, "server.timeout": 7_000}}));
        assert_eq!(told(refused).await.0, 409);
        assert_eq!(all(), before);
        let (_, value) = told(ask(&gateway, "GET", &format!("/api/settings/{key}"))).await;
        assert_eq!(
            (&value["value"], &value["requiresRestart"]),
            (&json!(0), &json!(false))
        );
        drop(taken);

        let port = free_port();
        let (status, put) = set(&gateway, None, key, json!(port)).await;
        assert_eq!(
            (status, &put["requiresRestart"]),
            (200, &json!(false)),
            "{put}"
        );
        let after = all();
        for (old, new) in before.iter().zip(&after) {
            if old == new {
                continue;
            }
            assert_eq!(*new, format!("http://127.0.0.1:{port}"));
            assert_eq!(
                client()
                    .get(format!("{new}/health"))
                    .send()
                    .await
                    .expect("it serves")
                    .status()
                    .as_u16()
                    / 100,
                if key == "server.apiPort" { 4 } else { 2 }
            );
            assert!(is_closed(old).await, "{key}");
        }
        assert_ne!(before, after);
    }
    let rest = seen.text().await.expect("the stream goes on");
    let heard = crate::support::hear(&format!("{}{rest}", String::from_utf8_lossy(&first)));
    assert_eq!(
        (heard.text.as_str(), heard.done),
        ("one two three four five", 1)
    );
    assert_eq!(told(ask(&gateway, "GET", "/api/health/ready")).await.0, 200);
    // A listener that crashes comes back at the new port.
    let listener = gateway.actor("listener-router").await;
    gateway.crash("listener-router").await;
    let than = listener["incarnation"].as_u64().expect("a number");
    gateway.incarnation_after("listener-router", than).await;
    assert_eq!(gateway.chat(&say("echo", "hi")).await.status(), 200);
    // Stopped, a port only remembers.
    assert_eq!(told(ask(&gateway, "POST", "/api/proxy/stop")).await.0, 200);
    let port = free_port();
    assert_eq!(set(&gateway, None, "server.port", json!(port)).await.0, 200);
    assert_eq!(gateway.router(""), format!("http://127.0.0.1:{port}"));
    assert!(is_closed(&gateway.router("")).await);
    assert_eq!(told(ask(&gateway, "POST", "/api/proxy/start")).await.0, 200);
    assert_eq!(gateway.chat(&say("echo", "hi")).await.status(), 200);
    gateway.stop().await;
}

/// An address of this machine that is not loopback; none on a machine without a network.
fn outside() -> Option<std::net::IpAddr> {
    let socket = std::net::UdpSocket::bind("0.0.0.0:0").ok()?;
    // Nothing is sent: this only asks which way it would go.
    socket.connect("192.0.2.1:9").ok()?;
    let address = socket.local_addr().ok()?.ip();
    (!address.is_loopback() && !address.is_unspecified()).then_some(address)
}

#[tokio::test(flavor = "multi_thread")]
async fn s1_s7_other_machines_are_served_with_a_token_and_keys_only() {
    let gateway = TestGateway::start().await;
    let port = free_port();
    assert_eq!(set(&gateway, None, "server.port", json!(port)).await.0, 200);
    let everywhere = json!("0.0.0.0");
    for bad in ["0.0.0.0", "::", "192.0.2.1", "example.com", "7"] {
        let refused = set(&gateway, None, "server.host", json!(bad)).await;
        assert_eq!(refused.0, 422, "{bad}: {}", refused.1);
    }
    let token = new_token(&gateway).await;
    set(&gateway, None, "auth.requireKeys", json!("never")).await;
    let refused = set(&gateway, None, "server.host", everywhere.clone()).await;
    assert_eq!(
        (refused.0, &refused.1["error"]["param"]),
        (422, &json!("auth.requireKeys"))
    );
    set(&gateway, None, "auth.requireKeys", json!("remote")).await;
    if let Some(address) = outside() {
        // Somebody has the port on another address: the old socket is taken again.
        let other = std::net::TcpListener::bind((address, port)).expect("the port");
        let refused = set(&gateway, None, "server.host", everywhere.clone()).await;
        assert_eq!(code(&refused), (409, "port_in_use"));
        drop(other);
        assert_eq!(gateway.router(""), format!("http://127.0.0.1:{port}"));
        assert_eq!(complete(&gateway.router(""), None, "echo").await.0, 200);
    }
    let (status, moved) = set(&gateway, None, "server.host", everywhere).await;
    assert_eq!(status, 200, "{moved}");
    assert_eq!(
        gateway.gateway.router_address().to_string(),
        format!("0.0.0.0:{port}"),
        "the same port, wider"
    );
    let unguarded = ask(&gateway, "DELETE", "/api/auth/token").bearer_auth(&token);
    assert_eq!(told(unguarded).await.0, 422);
    let unguarded = set(&gateway, None, "auth.requireKeys", json!("never")).await;
    assert_eq!(unguarded.0, 422);

    let (_, key) = new_key(&gateway, &json!({"name": "lan"})).await;
    if let Some(address) = outside() {
        let at = |port: u16| format!("http://{address}:{port}");
        let api = at(gateway.gateway.management_address().port());
        let get = |path: &str| client().get(format!("{api}{path}"));
        assert_eq!(
            code(&told(get("/api/providers")).await),
            (401, "admin_token_required")
        );
        assert_eq!(told(get("/api/providers").bearer_auth(&key)).await.0, 401);
        assert_eq!(told(get("/api/providers").bearer_auth(&token)).await.0, 200);
        assert_eq!(told(get("/api/health/live")).await.0, 200);
        for base in [at(port), at(gateway.gateway.qwen_address().port())] {
            for path in ["/v1/models", "/health", "/"] {
                assert_eq!(
                    told(client().get(format!("{base}{path}"))).await.0,
                    401,
                    "{path}"
                );
            }
        }
        assert_eq!(complete(&at(port), Some("sk-dummy"), "echo").await.0, 401);
        assert_eq!(complete(&at(port), Some(&key), "echo").await.0, 200);
    }
    assert_eq!(
        complete(&format!("http://127.0.0.1:{port}"), None, "echo")
            .await
            .0,
        200
    );
    let back = set(&gateway, None, "server.host", json!("127.0.0.1")).await;
    assert_eq!(back.0, 200, "{}", back.1);
    assert_eq!(gateway.router(""), format!("http://127.0.0.1:{port}"));
    assert_eq!(complete(&gateway.router(""), None, "echo").await.0, 200);
    gateway.stop().await;
}

#[test]
fn s1_other_machines_are_not_served_without_a_token_unless_the_user_insists() {
    let dir = tempfile::TempDir::new().expect("a directory");
    let ports = [
        "--port",
        "0",
        "--qwen-port",
        "0",
        "--api-port",
        "0",
        "--host",
        "0.0.0.0",
    ];
    let (status, said) = crate::support::binary::fails(dir.path(), &ports);
    assert_eq!(
        (status.code(), said.trim().lines().count()),
        (Some(1), 1),
        "{said}"
    );
    assert!(
        said.contains("QWARDEN_ADMIN_TOKEN") && said.contains("--insecure"),
        "{said}"
    );
    let argument = [
        "--set",
        "auth.adminToken=aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    ];
    let (_, said) = crate::support::binary::fails(dir.path(), &argument);
    assert!(
        said.contains("command line") && !said.contains("aaaa"),
        "{said}"
    );
    drop(crate::support::binary::Binary::start(
        dir.path(),
        &["--host", "0.0.0.0", "--insecure"],
    ));
    let token = [(
        "QWARDEN_ADMIN_TOKEN",
        "a-token-of-the-environment-that-is-long",
    )];
    let started = crate::support::binary::Binary::with(
        dir.path(),
        &["--host", "0.0.0.0"],
        &token,
        std::process::Stdio::null(),
    );
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        let secrets = format!(
            "{}/api/providers/ollama/config?mask=false",
            started.management
        );
        assert_eq!(told(client().get(&secrets)).await.0, 403);
        assert_eq!(
            told(client().get(&secrets).bearer_auth(token[0].1)).await.0,
            200
        );
    });
    let empty = [("QWARDEN_ADMIN_TOKEN", "")];
    drop(started);
    let (status, said) = crate::support::binary::fails_with(dir.path(), &ports, &empty);
    assert_eq!(status.code(), Some(1), "an empty token is none");
    assert!(said.contains("auth.adminToken"), "{said}");
}

#[tokio::test]
async fn who_may_ask_is_the_same_after_a_restart() {
    let gateway = TestGateway::start().await;
    let (_, key) = new_key(&gateway, &json!({"name": "a", "allowed_models": ["echo"]})).await;
    set(&gateway, None, "auth.requireKeys", json!("always")).await;
    set(
        &gateway,
        None,
        "cors.origins",
        json!("https://dash.example"),
    )
    .await;
    let token = new_token(&gateway).await;
    set(&gateway, None, "auth.required", json!("always")).await;
    let dir = gateway.stop().await;
    let gateway = TestGateway::reopened(dir, &[]).await;
    assert_eq!(told(ask(&gateway, "GET", "/api/keys")).await.0, 401);
    assert_eq!(
        told(ask(&gateway, "GET", "/api/keys").bearer_auth(&token))
            .await
            .1["total"],
        1
    );
    let router = gateway.router("");
    assert_eq!(complete(&router, None, "echo").await.0, 401);
    assert_eq!(complete(&router, Some(&key), "echo").await.0, 200);
    assert_eq!(complete(&router, Some(&key), "other").await.0, 403);
    // No crash loses them either.
    let database = "/api/fault/crash/database";
    assert_eq!(
        told(ask(&gateway, "POST", database).bearer_auth(&token))
            .await
            .0,
        200
    );
    assert_eq!(complete(&router, None, "echo").await.0, 401);
    assert_eq!(complete(&router, Some(&key), "echo").await.0, 200);
    gateway.stop().await;
}

#[tokio::test]
async fn s12_no_provider_may_be_where_none_belongs_in_any_spelling() {
    let gateway = TestGateway::start().await;
    let port = |url: &str| url.rsplit(':').next().expect("a port").to_owned();
    let own = [gateway.router(""), gateway.api(""), gateway.qwen("")].map(|url| port(&url));
    let create = async |kind: &str, url: &str, enabled: bool| {
        let body = json!({"id": "p", "name": "p", "type": kind, "enabled": enabled, "config": {"baseURL": url}});
        told(ask(&gateway, "POST", "/api/providers").json(&body)).await
    };
    let mut refused: Vec<String> = [
        "ftp://example.com",
        "file:///etc/passwd",
        "http://169.254.169.254/v1",
        "http://2852039166/",
        "http://0xa9fea9fe/",
        "http://0251.0376.0251.0376/",
        "http://[::ffff:169.254.169.254]/",
        "http://[64:ff9b::a9fe:a9fe]/",
        "http://[fe80::1]/",
        "http://224.0.0.1/",
        "http://0.0.0.0/",
        "http://[::]/",
        "http://metadata.google.internal/",
    ]
    .map(str::to_owned)
    .to_vec();
    for port in &own {
        for host in [
            "127.0.0.1",
            "localhost",
            "2130706433",
            "0x7f.1",
            "[::1]",
            "[::ffff:127.0.0.1]",
            "127.1.2.3",
        ] {
            refused.push(format!("http://{host}:{port}/v1"));
        }
    }
    for url in &refused {
        for enabled in [true, false] {
            let answer = create("openai", url, enabled).await;
            assert_eq!(code(&answer), (422, "invalid_config"), "{url}");
        }
    }
    // Nor may it be moved there, enabled or not.
    assert_eq!(
        create("openai", "http://127.0.0.1:9/v1", false).await.0,
        201
    );
    for url in [
        "http://169.254.169.254/",
        &format!("http://localhost:{}", own[0]),
    ] {
        for (method, path, body) in [
            (
                "PUT",
                "/api/providers/p",
                json!({"config": {"baseURL": url}}),
            ),
            (
                "PUT",
                "/api/providers/p/config",
                json!({"config": {"baseURL": url}}),
            ),
            (
                "PATCH",
                "/api/providers/p/config/baseURL",
                json!({"value": url}),
            ),
        ] {
            let answer = told(ask(&gateway, method, path).json(&body)).await;
            assert_eq!(answer.0, 422, "{method} {path} {url}");
        }
    }
    let answer = set(
        &gateway,
        None,
        "qwen.baseUrl",
        json!("http://169.254.169.254"),
    )
    .await;
    assert_eq!(answer.0, 422);
    told(ask(&gateway, "DELETE", "/api/providers/p")).await;
    assert_eq!(
        create("qwen-proxy", &format!("http://localhost:{}", own[2]), true)
            .await
            .0,
        201
    );
    told(ask(&gateway, "DELETE", "/api/providers/p")).await;
    let other = create("qwen-proxy", &format!("http://localhost:{}", own[0]), true).await;
    assert_eq!(other.0, 422, "the exception is the Qwen proxy alone");
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn s12_what_a_name_leads_to_is_looked_at_again_when_it_is_called() {
    let gateway = TestGateway::start().await;
    let port = free_port();
    for (id, host) in [("number", "127.0.0.1"), ("name", "localhost")] {
        gateway
            .provider_at(id, &format!("http://{host}:{port}/v1"))
            .await;
    }
    // Our own port moves to where the providers are: none of them asks us to ask us.
    assert_eq!(set(&gateway, None, "server.port", json!(port)).await.0, 200);
    for id in ["number", "name"] {
        let refused = complete(&gateway.router(""), None, &format!("{id}/echo")).await;
        assert_eq!(code(&refused), (502, "upstream_unreachable"));
    }
    let asked: i64 = gateway.cell("SELECT count(*) FROM requests");
    assert_eq!(asked, 2);

    // A redirect is an answer, and nothing is followed.
    let target = answering().await;
    let location = target.base_url();
    let upstream = Upstream::start(move |_| {
        vec![crate::support::upstream::Step::Whole(
            307,
            vec![("location", location.clone())],
            Vec::new(),
        )]
    })
    .await;
    gateway.provider("moved", &upstream).await;
    let answer = complete(&gateway.router(""), None, "moved/fake").await;
    assert!(answer.0 >= 400, "{answer:?}");
    assert!(target.completions().is_empty());
    gateway.stop().await;
}

fn files_below(folder: &std::path::Path) -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir(folder).expect("a folder");
    entries
        .map(|entry| entry.expect("an entry").path())
        .flat_map(|path| {
            if path.is_dir() {
                files_below(&path)
            } else {
                vec![path]
            }
        })
        .collect()
}

fn holds(path: &std::path::Path, secret: &str) -> bool {
    let bytes = std::fs::read(path).expect("a file");
    bytes
        .windows(secret.len())
        .any(|window| window == secret.as_bytes())
}

#[tokio::test(flavor = "multi_thread")]
async fn s8_s9_s10_a_planted_provider_secret_appears_nowhere() {
    const SECRETS: [&str; 3] = ["planted-api-key", "planted-header", "planted-query"];
    // Refuses, and repeats what it was sent.
    let upstream = Upstream::start(|request| {
        let sent = request.header("authorization").unwrap_or_default().len();
        vec![json_answer(
            401,
            &json!({"error": {"message": format!("no: {sent}"), "code": "bad_key"}}),
        )]
    })
    .await;
    let dir = tempfile::TempDir::new().expect("a directory");
    let log = dir.path().join("log.txt");
    let file = std::fs::File::create(&log).expect("a file");
    let data = dir.path().join("data");
    let mut binary = crate::support::binary::Binary::with(
        &data,
        &["--log-level", "debug"],
        &[("QWARDEN_LOG_FORMAT", "json")],
        file,
    );
    let api = binary.management.clone();
    let asked = async |method: Method, path: &str, body: Value| {
        told(client().request(method, format!("{api}{path}")).json(&body)).await
    };
    let config = json!({
        "baseURL": format!("{}?api-key={}", upstream.base_url(), SECRETS[2]),
        "apiKey": SECRETS[0],
        "headers": {"x-secret-key": SECRETS[1], "x-team": "blue"},
    });
    let body = json!({"id": "p1", "name": "p1", "type": "openai-compatible", "config": config});
    assert_eq!(asked(Method::POST, "/api/providers", body).await.0, 201);
    let again = json!({"config": {"apiKey": SECRETS[0], "timeout": 5_000}});
    assert_eq!(
        asked(Method::PUT, "/api/providers/p1/config", again)
            .await
            .0,
        200
    );
    asked(Method::POST, "/api/providers/p1/test", json!({})).await;
    asked(Method::POST, "/api/providers/p1/reload", json!({})).await;
    complete(&binary.router, None, "p1/fake").await;
    let sent = upstream.completions();
    let sent = sent.last().expect("a request");
    assert_eq!(sent.header("authorization"), Some("Bearer planted-api-key"));
    assert_eq!(sent.header("x-secret-key"), Some(SECRETS[1]));
    for path in [
        "/api/providers",
        "/api/providers/p1",
        "/api/providers/p1/config",
        "/api/requests",
        "/api/responses",
        "/api/activity/recent?limit=1000",
        "/api/settings",
        "/api/health",
        "/api/proxy/status",
        "/api/supervision",
        "/api/supervision/events",
        "/api/models",
    ] {
        let text = client()
            .get(format!("{api}{path}"))
            .send()
            .await
            .expect("an answer")
            .text()
            .await
            .expect("text");
        for secret in SECRETS {
            assert!(!text.contains(secret), "{path}: {text}");
        }
    }
    let health = client()
        .get(format!("{}/health", binary.router))
        .send()
        .await
        .expect("an answer")
        .text()
        .await
        .expect("text");
    assert!(!health.contains("planted"), "{health}");
    binary.signal("TERM");
    tokio::task::spawn_blocking(move || binary.wait())
        .await
        .expect("it ends");
    for path in files_below(dir.path()) {
        for secret in SECRETS {
            assert!(!holds(&path, secret), "{} holds {secret}", path.display());
        }
    }
    let sealed: i64 = crate::support::read_cell(
        &data.join("qwarden.db"),
        "SELECT sum(sealed) FROM provider_configs WHERE provider_id = 'p1'",
    );
    assert_eq!(sealed, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn s10_secrets_in_the_open_are_sealed_at_the_start_and_a_lost_key_stops_their_provider_alone()
{
    let upstream = answering().await;
    let gateway = TestGateway::start().await;
    gateway.provider("p1", &upstream).await;
    gateway.provider("p2", &upstream).await;
    told(ask(&gateway, "DELETE", "/api/providers/p2/config/apiKey")).await;
    let database = gateway.database();
    let dir = gateway.stop().await;
    let conn = rusqlite::Connection::open(&database).expect("the database");
    conn.execute("UPDATE provider_configs SET value = '\"sk-in-the-open\"', sealed = 0 WHERE provider_id = 'p1' AND key = 'apiKey'", [])
        .expect("an update");
    // Out of the log and into the file, also where another connection of this process has not let go yet.
    conn.busy_timeout(crate::support::PATIENCE)
        .expect("a busy timeout");
    conn.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))
        .expect("a checkpoint");
    conn.close().expect("closed");
    assert!(holds(&database, "sk-in-the-open"));

    let gateway = TestGateway::reopened(dir, &[]).await;
    assert!(!holds(&database, "sk-in-the-open"));
    assert_eq!(complete(&gateway.router(""), None, "p1/fake").await.0, 200);
    let sent = upstream.completions();
    assert_eq!(
        sent.last().expect("one").header("authorization"),
        Some("Bearer sk-in-the-open")
    );
    let dir = gateway.stop().await;
    std::fs::remove_file(database.with_file_name("qwarden.key")).expect("the key is lost");

    let gateway = TestGateway::reopened(dir, &[]).await;
    let (_, shown) = told(ask(&gateway, "GET", "/api/providers/p1")).await;
    assert_eq!(
        (&shown["runtime_status"], &shown["config"]["apiKey"]),
        (&json!("not_loaded"), &json!(MASK))
    );
    assert!(
        shown["health"]["error"]
            .as_str()
            .expect("words")
            .contains("`apiKey`"),
        "{shown}"
    );
    let refused = complete(&gateway.router(""), None, "p1/fake").await;
    assert_eq!(code(&refused), (422, "invalid_config"));
    assert_eq!(
        complete(&gateway.router(""), None, "p2/fake").await.0,
        200,
        "the others serve"
    );
    // What was shown is sent back: nothing is lost, nothing is made up.
    let same = ask(&gateway, "PUT", "/api/providers/p1").json(&json!({"config": {"apiKey": MASK}}));
    assert_eq!(code(&told(same).await), (422, "invalid_config"));
    let renewed =
        ask(&gateway, "PUT", "/api/providers/p1").json(&json!({"config": {"apiKey": "sk-new"}}));
    assert_eq!(told(renewed).await.0, 200);
    assert_eq!(complete(&gateway.router(""), None, "p1/fake").await.0, 200);
    let sent = upstream.completions();
    assert_eq!(
        sent.last().expect("one").header("authorization"),
        Some("Bearer sk-new")
    );
    gateway.stop().await;
}

#[tokio::test]
async fn s7_what_a_proxy_passes_on_is_not_of_this_machine() {
    let gateway = TestGateway::start().await;
    for name in ["forwarded", "x-forwarded-for", "x-real-ip", "via"] {
        let management = ask(&gateway, "GET", "/api/providers").header(name, "192.0.2.7");
        let refused = told(management).await;
        assert_eq!(code(&refused), (403, "admin_token_not_set"), "{name}");
        let make = ask(&gateway, "POST", "/api/auth/token").header(name, "127.0.0.1");
        assert_eq!(told(make).await.0, 403, "{name}");
        let completion = client()
            .post(gateway.router("/v1/chat/completions"))
            .header(name, "192.0.2.7")
            .json(&say("echo", "hi"));
        assert_eq!(told(completion).await.0, 401, "{name}");
    }
    let token = new_token(&gateway).await;
    let passed_on = ask(&gateway, "GET", "/api/providers").header("x-forwarded-for", "192.0.2.7");
    let passed_on = passed_on.bearer_auth(&token);
    assert_eq!(told(passed_on).await.0, 200);
    gateway.stop().await;
}
