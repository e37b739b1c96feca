//! Who may ask: requests that name this machine, and pages that are ours (reliability contract, S2 and S3).
//!
//! A page anywhere on the web can make a browser send requests here, and can name its own host so that it resolves to
//! 127.0.0.1. The `host` header gives the second away, `origin` and `sec-fetch-site` the first.

use axum::extract::Request;
use hyper::header::{HOST, ORIGIN};

use crate::http::error::ApiError;

const LOCAL: [&str; 3] = ["localhost", "127.0.0.1", "[::1]"];

/// Lets a request in, or says why not.
pub(crate) fn admit(request: &Request) -> Result<(), ApiError> {
    let headers = request.headers();
    let mut hosts = headers.get_all(HOST).iter();
    let (Some(host), None) = (hosts.next(), hosts.next()) else {
        return Err(ApiError::Host { got: None });
    };
    let host = host.to_str().unwrap_or_default();
    let authority = request
        .uri()
        .authority()
        .map_or(host, |authority| authority.as_str());
    if !is_local(host) || !is_local(authority) {
        return Err(ApiError::Host {
            got: Some(host.to_owned()),
        });
    }
    if let Some(origin) = headers.get(ORIGIN) {
        let origin = origin.to_str().unwrap_or_default();
        if origin == format!("http://{host}") {
            return Ok(());
        }
        return Err(ApiError::Origin {
            got: origin.to_owned(),
        });
    }
    let site = headers
        .get("sec-fetch-site")
        .and_then(|site| site.to_str().ok());
    if matches!(site, Some("cross-site" | "same-site")) {
        return Err(ApiError::Origin {
            got: "another site".into(),
        });
    }
    Ok(())
}

/// Any port is fine, so that a forwarded port works.
fn is_local(host: &str) -> bool {
    let name = match host.rfind(':') {
        Some(colon)
            if host[colon + 1..].bytes().all(|byte| byte.is_ascii_digit())
                && !host[..colon].is_empty() =>
        {
            &host[..colon]
        }
        _ => host,
    };
    LOCAL.iter().any(|local| name.eq_ignore_ascii_case(local))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_this_machine_are_served() {
        for host in [
            "localhost",
            "LOCALHOST:3001",
            "127.0.0.1:9",
            "[::1]:3002",
            "[::1]",
        ] {
            assert!(is_local(host), "{host}");
        }
        for host in [
            "evil.example",
            "localhost.evil.example:3001",
            "127.0.0.1.nip.io",
            "",
            ":3001",
            "192.168.1.2",
        ] {
            assert!(!is_local(host), "{host}");
        }
    }
}
