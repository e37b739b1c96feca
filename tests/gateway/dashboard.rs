//! The dashboard's files, as they are served: S3, S20 and S22 of the reliability contract. What they do in a browser is tested
//! in `tests/dashboard`.

use reqwest::RequestBuilder;
use serde_json::{Value, json};

use crate::support::TestGateway;

const HTML: &str = "text/html,application/xhtml+xml;q=0.9";

fn page(gateway: &TestGateway, path: &str) -> RequestBuilder {
    gateway.client.get(gateway.api(path)).header("accept", HTML)
}

/// The addresses that a document names.
fn named(document: &str) -> Vec<String> {
    document
        .split('"')
        .filter(|part| part.starts_with('/'))
        .map(str::to_owned)
        .collect()
}

#[tokio::test]
async fn s20_pages_come_with_a_strict_policy_and_name_no_other_host() {
    let gateway = TestGateway::start().await;
    for path in ["/", "/providers", "/requests/some-id"] {
        let answer = page(&gateway, path).send().await.expect("an answer");
        assert_eq!(answer.status(), 200, "{path}");
        let headers = answer.headers().clone();
        assert_eq!(headers["content-type"], "text/html; charset=utf-8");
        assert_eq!(headers["x-content-type-options"], "nosniff");
        assert_eq!(headers["cache-control"], "no-cache");
        let policy = headers["content-security-policy"].to_str().expect("text");
        assert!(policy.starts_with("default-src 'none'"), "{policy}");
        assert!(policy.contains("frame-ancestors 'none'"), "{policy}");
        assert!(!policy.contains("unsafe"), "{policy}");
        assert!(
            !policy.contains("http") && !policy.contains('*'),
            "{policy}"
        );
        let document = answer.text().await.expect("a body");
        assert!(!document.contains("//"), "{document}");
        assert!(
            !document.contains("<style") && !document.contains(" style="),
            "{document}"
        );
        assert_eq!(document.matches("<script").count(), 2);
        assert_eq!(document.matches("<script src=").count(), 2);
    }
    gateway.stop().await;
}

#[tokio::test]
async fn what_a_page_names_is_there_packed_and_kept_for_good() {
    let gateway = TestGateway::start().await;
    let document = page(&gateway, "/").send().await.expect("an answer");
    let known = document.headers()["etag"].clone();
    let document = document.text().await.expect("a body");
    let again = page(&gateway, "/").header("if-none-match", &known);
    assert_eq!(again.send().await.expect("an answer").status(), 304);
    let manifest = gateway.client.get(gateway.api("/manifest.webmanifest"));
    let manifest = manifest.send().await.expect("an answer");
    let manifest = manifest.text().await.expect("a body");
    let mut addresses = named(&document);
    addresses.extend(named(&manifest).into_iter().filter(|path| path.len() > 1));
    assert!(addresses.len() >= 8, "{addresses:?}");
    for path in addresses {
        let plain = gateway.client.get(gateway.api(&path)).send().await;
        let plain = plain.expect("an answer");
        assert_eq!(plain.status(), 200, "{path}");
        assert!(!plain.headers().contains_key("content-encoding"), "{path}");
        if !path.starts_with("/assets/") {
            continue;
        }
        let lasts = plain.headers()["cache-control"].to_str().expect("text");
        assert!(lasts.contains("immutable"), "{path}: {lasts}");
        let length = plain.content_length().expect("a length");
        let packed = gateway.client.get(gateway.api(&path));
        let packed = packed.header("accept-encoding", "br, gzip;q=0.8");
        let packed = packed.send().await.expect("an answer");
        if path.ends_with("png") {
            assert!(!packed.headers().contains_key("content-encoding"), "{path}");
        } else {
            assert_eq!(packed.headers()["content-encoding"], "gzip", "{path}");
            assert!(packed.content_length().expect("a length") < length);
        }
    }
    gateway.stop().await;
}

#[tokio::test]
async fn every_page_of_the_dashboard_has_a_path_that_is_served() {
    let gateway = TestGateway::start().await;
    let registry = concat!(env!("CARGO_MANIFEST_DIR"), "/dashboard/pages/index.js");
    let registry = std::fs::read_to_string(registry).expect("the list of pages");
    let paths: Vec<_> = registry
        .split("path: \"")
        .skip(1)
        .filter_map(|rest| rest.split('"').next())
        .collect();
    assert_eq!(paths.len(), 14, "{paths:?}");
    for path in paths {
        let answer = page(&gateway, path).send().await.expect("an answer");
        assert_eq!(answer.status(), 200, "{path}");
        assert_eq!(answer.headers()["content-type"], "text/html; charset=utf-8");
    }
    gateway.stop().await;
}

#[tokio::test]
async fn s22_no_path_reaches_a_file_and_what_is_unknown_stays_json() {
    let gateway = TestGateway::start().await;
    let document = page(&gateway, "/").send().await.expect("an answer");
    let document = document.text().await.expect("a body");
    let style = named(&document)
        .into_iter()
        .find(|path| path.ends_with("app.css"))
        .expect("a style sheet");
    let folder = style.trim_end_matches("app.css");
    for path in [
        format!("{folder}%2e%2e/Cargo.toml"),
        format!("{folder}..%2fCargo.toml"),
        format!("{folder}%2fetc%2fpasswd"),
        format!("{folder}README.md"),
        format!("{folder}index.html"),
        format!("{folder}vendor/preact.d.ts"),
        style.replace("/assets/", "/assets/0"),
        "/assets/".into(),
        "/nope".into(),
        "/api/nope".into(),
    ] {
        let answer = page(&gateway, &path).send().await.expect("an answer");
        assert_eq!(answer.status(), 404, "{path}");
        let body: Value = answer.json().await.expect("JSON");
        assert_eq!(body["error"]["code"], "not_found", "{path}");
    }
    let posted = gateway.client.post(gateway.api("/providers"));
    let posted = posted.json(&json!({})).send().await.expect("an answer");
    assert_eq!(
        posted.status(),
        404,
        "only GET and HEAD are the dashboard's"
    );
    // A program that asks for `/` is told what is served, as before.
    let (status, about) = gateway.get(&gateway.api("/")).await;
    assert_eq!(
        (status, &about["name"]),
        (200, &json!("qwarden management"))
    );
    gateway.stop().await;
}

#[tokio::test]
async fn s3_a_link_elsewhere_may_lead_to_a_page_and_to_nothing_else() {
    let gateway = TestGateway::start().await;
    let status = async |base: String, path: &str, mode: &str, dest: &str, accept: &str| {
        let request = gateway.client.get(format!("{base}{path}"));
        let request = request
            .header("accept", accept)
            .header("sec-fetch-site", "cross-site")
            .header("sec-fetch-mode", mode)
            .header("sec-fetch-dest", dest);
        request.send().await.expect("an answer").status().as_u16()
    };
    let api = gateway.api("");
    for path in ["/", "/providers", "/requests/some-id"] {
        let to = async |mode, dest| status(api.clone(), path, mode, dest, HTML).await;
        assert_eq!(to("navigate", "document").await, 200, "{path}");
        assert_eq!(to("navigate", "iframe").await, 403, "{path}");
        assert_eq!(to("no-cors", "script").await, 403, "{path}");
    }
    for path in ["/api/providers", "/api/docs", "/metrics", "/nope"] {
        let answered = status(api.clone(), path, "navigate", "document", HTML).await;
        assert_eq!(answered, 403, "{path}");
    }
    let listed = status(api.clone(), "/", "navigate", "document", "*/*").await;
    assert_eq!(listed, 403, "the list is no page");
    let router = status(gateway.router(""), "/", "navigate", "document", HTML).await;
    assert_eq!(router, 403, "the other ports have no pages");
    let posted = page(&gateway, "/providers")
        .header("origin", "https://evil.example")
        .header("sec-fetch-mode", "navigate")
        .header("sec-fetch-dest", "document");
    let posted = posted.send().await.expect("an answer");
    assert_eq!(posted.status(), 403, "an origin that is told is looked at");
    gateway.stop().await;
}

#[tokio::test]
async fn pages_are_served_without_the_token_that_the_api_wants() {
    let gateway = TestGateway::start().await;
    let made = gateway.client.post(gateway.api("/api/auth/token"));
    let made: Value = made.send().await.unwrap().json().await.expect("JSON");
    let token = made["token"].as_str().expect("a token");
    let always = gateway
        .client
        .put(gateway.api("/api/settings/auth.required"))
        .bearer_auth(token)
        .json(&json!({"value": "always"}));
    assert_eq!(always.send().await.expect("an answer").status(), 200);
    let answer = page(&gateway, "/settings").send().await;
    assert_eq!(answer.expect("an answer").status(), 200);
    let refused = page(&gateway, "/api/settings").send().await;
    assert_eq!(refused.expect("an answer").status(), 401);
    gateway.stop().await;
}
