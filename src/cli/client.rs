//! Talks to a running gateway: JSON in, JSON out, and errors that say which exit code they mean.

use std::error::Error as _;
use std::time::Duration;

use reqwest::header::{ACCEPT, HeaderValue};
use reqwest::redirect::Policy;
use reqwest::{Method, RequestBuilder, Response, StatusCode, Url};
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;

use crate::cli::failure::{Failure, Refusal};
use crate::limits::command_line::{CONNECT, PATIENCE};

/// A gateway's address, and the right to use it.
#[derive(Clone)]
pub(crate) struct Client {
    http: reqwest::Client,
    base: Url,
    token: Option<SecretString>,
}

/// One request that is being put together.
pub(crate) struct Call {
    request: RequestBuilder,
    url: Url,
    body: Option<Value>,
    within: Option<Duration>,
}

impl Client {
    pub(crate) fn new(url: &str, token: Option<SecretString>) -> Result<Self, Failure> {
        let base = Url::parse(url)
            .ok()
            .filter(|base| matches!(base.scheme(), "http" | "https") && base.has_host())
            .ok_or_else(|| {
                Failure::Usage(format!(
                    "`{url}` is no address; --url takes one like http://127.0.0.1:3002"
                ))
            })?;
        let mut builder = reqwest::Client::builder()
            .connect_timeout(CONNECT)
            .redirect(Policy::none())
            // A gateway is on this machine, whatever proxy the environment names.
            .no_proxy()
            .user_agent(concat!("qwarden-cli/", env!("CARGO_PKG_VERSION")));
        if base.scheme() == "http" {
            // Without certificates the platform's store is not even opened.
            builder = builder.http1_only().tls_certs_only([]);
        }
        let http = builder
            .build()
            .map_err(|error| Failure::Other(format!("no HTTP client: {error}")))?;
        Ok(Self { http, base, token })
    }

    /// The address as the user gave it.
    pub(crate) fn url(&self) -> String {
        self.base.as_str().trim_end_matches('/').to_owned()
    }

    /// Where else on the same host: another port of the same gateway.
    pub(crate) fn beside(&self, port: u16) -> Self {
        let mut other = self.clone();
        // Refused only for addresses without a host, and those are refused at the start.
        let _ = other.base.set_port(Some(port));
        other
    }

    pub(crate) fn get(&self, path: &[&str]) -> Call {
        self.call(Method::GET, path)
    }

    pub(crate) fn post(&self, path: &[&str]) -> Call {
        self.call(Method::POST, path)
    }

    pub(crate) fn put(&self, path: &[&str]) -> Call {
        self.call(Method::PUT, path)
    }

    pub(crate) fn patch(&self, path: &[&str]) -> Call {
        self.call(Method::PATCH, path)
    }

    pub(crate) fn delete(&self, path: &[&str]) -> Call {
        self.call(Method::DELETE, path)
    }

    fn call(&self, method: Method, path: &[&str]) -> Call {
        let mut url = self.base.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            // Each is escaped: the id of a model may hold a `/`.
            segments.pop_if_empty().extend(path);
        }
        let mut request = self.http.request(method, url.clone());
        if let Some(token) = &self.token {
            let value = HeaderValue::from_str(&format!("Bearer {}", token.expose_secret()));
            if let Ok(mut value) = value {
                value.set_sensitive(true);
                request = request.header(reqwest::header::AUTHORIZATION, value);
            }
        }
        Call {
            request,
            url,
            body: None,
            within: Some(PATIENCE),
        }
    }
}

impl Call {
    /// Adds to the query; what is not given is left out.
    pub(crate) fn query(mut self, key: &str, value: Option<impl ToString>) -> Self {
        if let Some(value) = value {
            self.url
                .query_pairs_mut()
                .append_pair(key, &value.to_string());
        }
        self
    }

    pub(crate) fn header(mut self, name: &'static str, value: &str) -> Self {
        self.request = self.request.header(name, value);
        self
    }

    pub(crate) fn body(mut self, body: Value) -> Self {
        self.body = Some(body);
        self
    }

    pub(crate) fn within(mut self, deadline: Duration) -> Self {
        self.within = Some(deadline);
        self
    }

    /// The answer, where the gateway did what it was asked.
    pub(crate) async fn send(self) -> Result<Value, Failure> {
        let url = self.url.clone();
        read(self.open().await?, &url).await
    }

    /// The answer and its status, also where the gateway refused in JSON.
    pub(crate) async fn send_any(self) -> Result<(StatusCode, Value), Failure> {
        let url = self.url.clone();
        let response = self.open().await?;
        let status = response.status();
        let bytes = response
            .bytes()
            .await
            .map_err(|error| broken(&url, &error))?;
        let body = serde_json::from_slice(&bytes).map_err(|_| foreign(&url, status))?;
        Ok((status, body))
    }

    /// An answer that is read as it comes; it has no deadline.
    pub(crate) async fn stream(mut self, kind: &'static str) -> Result<Response, Failure> {
        self.within = None;
        self.request = self.request.header(ACCEPT, kind);
        let url = self.url.clone();
        let response = self.open().await?;
        if response.status().is_success() {
            return Ok(response);
        }
        match read(response, &url).await {
            Ok(_) => Err(Failure::Other(format!("{url} answered without a stream"))),
            Err(failure) => Err(failure),
        }
    }

    async fn open(self) -> Result<Response, Failure> {
        let url = self.url;
        // Built late, since the query is known late.
        let (client, request) = self.request.build_split();
        let mut request = request.map_err(|error| Failure::Usage(error.to_string()))?;
        *request.url_mut() = url.clone();
        *request.timeout_mut() = self.within;
        if let Some(body) = &self.body {
            let json = HeaderValue::from_static("application/json");
            request
                .headers_mut()
                .insert(reqwest::header::CONTENT_TYPE, json);
            *request.body_mut() = Some(body.to_string().into());
        }
        client
            .execute(request)
            .await
            .map_err(|error| unanswered(&url, &error))
    }
}

async fn read(response: Response, url: &Url) -> Result<Value, Failure> {
    let status = response.status();
    let header = response.headers().get("x-request-id");
    let header = header.and_then(|id| id.to_str().ok()).map(str::to_owned);
    let bytes = response
        .bytes()
        .await
        .map_err(|error| broken(url, &error))?;
    let body: Value = serde_json::from_slice(&bytes).map_err(|_| foreign(url, status))?;
    if status.is_success() {
        return Ok(body);
    }
    let text = |pointer: &str| {
        body.pointer(pointer)
            .and_then(Value::as_str)
            .map(str::to_owned)
    };
    // The three forms of the errors of the older program, ours first.
    let message = text("/error/message")
        .or_else(|| text("/message"))
        .or_else(|| text("/error"))
        .unwrap_or_else(|| format!("{url} answered {status}"));
    Err(Failure::Refused(Box::new(Refusal {
        status: status.as_u16(),
        message,
        request_id: text("/requestId").or(header),
        body,
    })))
}

fn unanswered(url: &Url, error: &reqwest::Error) -> Failure {
    if error.is_connect() {
        return Failure::NotRunning {
            url: origin(url),
            reason: root_cause(error),
        };
    }
    broken(url, error)
}

fn broken(url: &Url, error: &reqwest::Error) -> Failure {
    let reason = if error.is_timeout() {
        "it took too long".to_owned()
    } else {
        root_cause(error)
    };
    Failure::Other(format!("{} did not answer: {reason}", origin(url)))
}

fn foreign(url: &Url, status: StatusCode) -> Failure {
    Failure::Other(format!(
        "{} answered {status} without JSON: that is no qwarden; see --url",
        origin(url)
    ))
}

fn origin(url: &Url) -> String {
    url.origin().ascii_serialization()
}

/// The innermost cause: what is around it only names the layers.
fn root_cause(error: &reqwest::Error) -> String {
    let mut cause = error.source();
    let mut text = None;
    while let Some(inner) = cause {
        text = Some(inner.to_string());
        cause = inner.source();
    }
    text.unwrap_or_else(|| error.to_string())
}
