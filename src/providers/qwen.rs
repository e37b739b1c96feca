//! chat.qwen.ai over HTTP: the site's calls with a user's own login, and nothing it did not supply.
//!
//! Wire facts: `qwen-web-protocol` (read from public implementations in 2026-11, not from the live site).

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use reqwest::header::{
    ACCEPT, AUTHORIZATION, CONTENT_TYPE, COOKIE, HeaderName, HeaderValue, ORIGIN, REFERER,
};
use reqwest::{Method, RequestBuilder, Response, Url};
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::calls::Calls;
use super::http::Http;
use super::response::{self, ContentType};
use super::tape::{Sending, Tape};
use super::{ByteStream, Deadlines, UpstreamError, address};
use crate::hex;
use crate::limits::qwen::{DOCUMENT_LIMIT, SIDE_DEADLINE, STOP_DEADLINE};
use crate::protocol::recording::{Purpose, Turn};

/// Type of the providers that reach the site from this process.
pub(crate) const DIRECT: &str = "qwen-direct";
/// Name of the upstream in errors and rows.
pub(crate) const PROVIDER: &str = "qwen";

/// A user's own login. `Debug` shows no secret.
#[derive(Clone, Debug)]
pub(crate) struct Login {
    pub(crate) id: String,
    pub(crate) label: String,
    /// A JWT, or the older `bx-umidtoken`.
    pub(crate) token: SecretString,
    /// The whole cookie header of the login session.
    pub(crate) cookies: SecretString,
    /// Other headers of the login session, a JSON object by name; may be empty.
    pub(crate) headers: SecretString,
}

impl Login {
    /// Without the site's own token this is the anonymous session of 2025, not a login.
    pub(crate) fn is_guest(&self) -> bool {
        self.jwt().is_none()
    }

    /// Whose chats it reaches: the account its token names, which outlives a renewed login; else the login itself.
    pub(crate) fn account(&self) -> String {
        let named = self
            .claims()
            .and_then(|claims| claims.get("id")?.as_str().map(str::to_owned));
        named.unwrap_or_else(|| {
            let mut digest = Sha256::new();
            digest.update(self.token.expose_secret());
            digest.update(self.cookies.expose_secret());
            hex::encode(&digest.finalize())
        })
    }

    /// Whether both are the same login with the same secrets.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        self.id == other.id
            && self.token.expose_secret() == other.token.expose_secret()
            && self.cookies.expose_secret() == other.cookies.expose_secret()
            && self.headers.expose_secret() == other.headers.expose_secret()
    }

    fn replayed(&self) -> Vec<(HeaderName, HeaderValue)> {
        let headers: serde_json::Map<String, Value> =
            serde_json::from_str(self.headers.expose_secret()).unwrap_or_default();
        let pair = |(name, value): (&String, &Value)| {
            let name = HeaderName::from_bytes(name.as_bytes()).ok()?;
            Some((name, secret_header(value.as_str()?)?))
        };
        headers.iter().filter_map(pair).collect()
    }

    /// What the JWT says, unverified.
    fn claims(&self) -> Option<Value> {
        let payload = self.jwt()?.split('.').nth(1)?.trim_end_matches('=');
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).ok()?).ok()
    }

    /// First and last four characters of the token.
    pub(crate) fn token_preview(&self) -> String {
        let token: Vec<char> = self.token.expose_secret().chars().collect();
        match (
            token.get(..4),
            token.len().checked_sub(4).and_then(|at| token.get(at..)),
        ) {
            (Some(head), Some(tail)) if token.len() >= 16 => {
                format!(
                    "{}...{}",
                    head.iter().collect::<String>(),
                    tail.iter().collect::<String>()
                )
            }
            _ => "***".into(),
        }
    }

    pub(crate) fn cookie_names(&self) -> Vec<String> {
        let pairs = self.cookies.expose_secret().split(';');
        pairs
            .filter_map(|pair| pair.trim().split_once('='))
            .map(|(name, _)| name.to_owned())
            .collect()
    }

    /// The token where it is a JWT, else the cookie `token` where that is one.
    fn jwt(&self) -> Option<&str> {
        let token = self.token.expose_secret();
        if is_jwt(token) {
            return Some(token);
        }
        let pairs = self.cookies.expose_secret().split(';');
        let cookie = pairs
            .filter_map(|pair| pair.trim().split_once('='))
            .find(|(name, _)| *name == "token");
        cookie.map(|(_, value)| value).filter(|value| is_jwt(value))
    }
}

fn is_jwt(text: &str) -> bool {
    let parts: Vec<&str> = text.split('.').collect();
    let coded = |part: &&str| {
        part.bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
    };
    parts.len() == 3 && parts.iter().all(|part| !part.is_empty()) && parts.iter().all(coded)
}

/// When the login's JWT says it ends (Unix time, ms); `None` when it does not say.
pub(crate) fn token_expiry(login: &Login) -> Option<i64> {
    Some(as_ms(login.claims()?.get("exp")?.as_i64()?))
}

/// Seconds or milliseconds, told apart by size (annex A2).
pub(crate) fn as_ms(time: i64) -> i64 {
    if time > 100_000_000_000 {
        time
    } else {
        time.saturating_mul(1_000)
    }
}

/// What the site answered.
pub(crate) enum Answered {
    Events(ByteStream),
    /// Anything else, to be classified.
    Document {
        status: u16,
        content_type: Option<String>,
        body: Bytes,
    },
}

/// The site.
#[derive(Clone)]
pub(crate) struct Site {
    base: Url,
    http: Http,
    tape: Tape,
    calls: Calls,
}

impl Site {
    /// `base` is the address of the site or of a mirror, e.g. `https://chat.qwen.ai`.
    pub(crate) fn new(base: &str, http: Http, calls: Calls) -> Result<Self, String> {
        let base =
            Url::parse(base).map_err(|error| format!("`qwen.baseUrl` is not a URL: {error}"))?;
        if !matches!(base.scheme(), "http" | "https") || base.host_str().is_none() {
            return Err("`qwen.baseUrl` must be an http or https address".into());
        }
        Ok(Self {
            base,
            http,
            tape: Tape::default(),
            calls,
        })
    }

    /// The same site, with `tape` listening to the calls that an answer is made of.
    pub(crate) fn heard_by(self, tape: Tape) -> Self {
        Self { tape, ..self }
    }

    async fn send(
        &self,
        sending: Sending<'_>,
        request: RequestBuilder,
    ) -> Result<Response, UpstreamError> {
        let purpose = sending.purpose;
        let answer = self.tape.send(sending, request).await;
        self.calls.count(purpose, &answer);
        answer
    }

    /// Waits before the site is asked again.
    pub(crate) async fn pause(&self, pause: Duration) {
        self.tape.pause(pause).await;
    }

    /// One completion; `body` as the protocol builds it, `turn` for a recording.
    pub(crate) async fn complete(
        &self,
        login: &Login,
        chat_id: &str,
        body: &Value,
        turn: &Turn,
        deadlines: Deadlines,
    ) -> Result<Answered, UpstreamError> {
        let mut url = self.url("/api/v2/chat/completions");
        url.query_pairs_mut().append_pair("chat_id", chat_id);
        let request = self.request(
            Method::POST,
            &url,
            login,
            &format!("/c/{chat_id}"),
            deadlines.connect,
        )?;
        let request = request.json(body);
        let sending = Sending {
            provider: PROVIDER,
            purpose: Some(Purpose::Completion),
            login: Some(&login.id),
            turn: Some(turn),
            deadlines,
        };
        self.events(sending, request).await
    }

    /// Asks for an answer once more, from its beginning: its connection died, but the site goes on with it (annex A1).
    pub(crate) async fn resume(
        &self,
        login: &Login,
        chat_id: &str,
        response_id: &str,
        deadlines: Deadlines,
    ) -> Result<Answered, UpstreamError> {
        let mut url = self.url("/api/v2/chat/completions");
        url.query_pairs_mut()
            .append_pair("chat_id", chat_id)
            .append_pair("response_id", response_id);
        let page = format!("/c/{chat_id}");
        let request = self.request(Method::GET, &url, login, &page, deadlines.connect)?;
        let sending = Sending {
            provider: PROVIDER,
            purpose: Some(Purpose::Resume),
            login: Some(&login.id),
            turn: None,
            deadlines,
        };
        self.events(sending, request).await
    }

    async fn events(
        &self,
        sending: Sending<'_>,
        request: RequestBuilder,
    ) -> Result<Answered, UpstreamError> {
        let deadlines = sending.deadlines;
        // In place of the one that every request has, not beside it.
        let events = [
            (ACCEPT, HeaderValue::from_static("text/event-stream")),
            (
                HeaderName::from_static("x-accel-buffering"),
                HeaderValue::from_static("no"),
            ),
        ];
        let request = request.headers(events.into_iter().collect());
        let mut response = self.send(sending, request).await?;
        let status = response.status().as_u16();
        if status == 200 && response::content_type(response.headers()) == ContentType::EventStream {
            return Ok(Answered::Events(response::byte_stream(
                PROVIDER.into(),
                None,
                response,
                deadlines.idle,
            )));
        }
        let content_type = content_type(&response);
        let body =
            response::collect(PROVIDER, &mut response, DOCUMENT_LIMIT, deadlines.idle).await?;
        // Some deployments stream without saying so.
        if status == 200 && content_type.is_none() && body.starts_with(b"data:") {
            let whole = futures_util::stream::once(std::future::ready(Ok(body)));
            return Ok(Answered::Events(Box::pin(whole)));
        }
        Ok(Answered::Document {
            status,
            content_type,
            body,
        })
    }

    /// Opens a chat.
    pub(crate) async fn new_chat(
        &self,
        login: &Login,
        body: &Value,
        deadlines: Deadlines,
    ) -> Result<Answered, UpstreamError> {
        let url = self.url("/api/v2/chats/new");
        let request = self
            .request(Method::POST, &url, login, "/", deadlines.connect)?
            .json(body);
        self.document(Some(Purpose::NewChat), login, request, deadlines)
            .await
    }

    /// Ends a generation, so that its chat is free again.
    pub(crate) async fn stop(
        &self,
        login: &Login,
        chat_id: &str,
        body: &Value,
    ) -> Result<Answered, UpstreamError> {
        let mut url = self.url("/api/v2/chat/completions/stop");
        url.query_pairs_mut().append_pair("chat_id", chat_id);
        let request = self
            .request(
                Method::POST,
                &url,
                login,
                &format!("/c/{chat_id}"),
                STOP_DEADLINE,
            )?
            .json(body);
        self.document(None, login, request, within(STOP_DEADLINE))
            .await
    }

    /// Deletes one chat. (The same call without an id deletes all chats of the user, so an empty id is refused.)
    pub(crate) async fn delete_chat(
        &self,
        login: &Login,
        chat_id: &str,
    ) -> Result<Answered, UpstreamError> {
        if chat_id.is_empty() || chat_id.contains(['/', '?', '#']) {
            return Err(UpstreamError::Malformed {
                provider: PROVIDER.into(),
                reason: "no chat to delete".into(),
            });
        }
        let url = self.url(&format!("/api/v2/chats/{chat_id}"));
        let page = format!("/c/{chat_id}");
        let request = self.request(Method::DELETE, &url, login, &page, SIDE_DEADLINE)?;
        self.document(None, login, request, side()).await
    }

    /// Asks for the right to store a file.
    pub(crate) async fn grant(
        &self,
        login: &Login,
        body: &Value,
        deadlines: Deadlines,
    ) -> Result<Answered, UpstreamError> {
        let url = self.url("/api/v1/files/getstsToken");
        let request = self
            .request(Method::POST, &url, login, "/", deadlines.connect)?
            .json(body);
        self.document(None, login, request, deadlines).await
    }

    /// Has a stored document read, so that the model can see its text (annex A8).
    pub(crate) async fn parse(
        &self,
        login: &Login,
        body: &Value,
    ) -> Result<Answered, UpstreamError> {
        let url = self.url("/api/v2/files/parse");
        let request = self.request(Method::POST, &url, login, "/", SIDE_DEADLINE)?;
        self.document(None, login, request.json(body), side()).await
    }

    /// Whether that is done.
    pub(crate) async fn parse_state(
        &self,
        login: &Login,
        body: &Value,
    ) -> Result<Answered, UpstreamError> {
        let url = self.url("/api/v2/files/parse/status");
        let request = self.request(Method::POST, &url, login, "/", SIDE_DEADLINE)?;
        self.document(None, login, request.json(body), side()).await
    }

    /// Stores a file where a grant says; returns the store's status.
    pub(crate) async fn put(
        &self,
        url: &str,
        headers: &[(&'static str, String)],
        data: Bytes,
        deadlines: Deadlines,
    ) -> Result<u16, UpstreamError> {
        let unreachable = |reason: String| UpstreamError::Connect {
            provider: PROVIDER.into(),
            reason,
        };
        let url = Url::parse(url).map_err(|error| unreachable(error.to_string()))?;
        if let Some(why) = address::url_refusal(&url) {
            return Err(unreachable(format!("the site's store must not be {why}")));
        }
        let client = self
            .http
            .client(&url, deadlines.connect)
            .map_err(unreachable)?;
        let mut request = client.put(url).body(data);
        for (name, value) in headers {
            if let Some(value) = secret_header(value) {
                request = request.header(*name, value);
            }
        }
        let sending = Sending {
            provider: PROVIDER,
            purpose: None,
            login: None,
            turn: None,
            deadlines,
        };
        Ok(self.send(sending, request).await?.status().as_u16())
    }

    /// A chat with its history: whether an answer whose connection died is whole.
    pub(crate) async fn chat(
        &self,
        login: &Login,
        chat_id: &str,
    ) -> Result<Answered, UpstreamError> {
        let url = self.url(&format!("/api/v2/chats/{chat_id}"));
        let page = format!("/c/{chat_id}");
        let request = self.request(Method::GET, &url, login, &page, SIDE_DEADLINE)?;
        self.document(Some(Purpose::Chat), login, request, side())
            .await
    }

    /// The models; needs no login to answer, so it proves none.
    pub(crate) async fn models(
        &self,
        login: &Login,
        deadline: Duration,
    ) -> Result<Answered, UpstreamError> {
        let url = self.url("/api/models");
        let request = self.request(Method::GET, &url, login, "/", deadline)?;
        self.document(None, login, request, within(deadline)).await
    }

    /// Who is logged in.
    pub(crate) async fn whoami(&self, login: &Login) -> Result<Answered, UpstreamError> {
        let url = self.url("/api/v1/auths/");
        let request = self.request(Method::GET, &url, login, "/", SIDE_DEADLINE)?;
        self.document(None, login, request, side()).await
    }

    async fn document(
        &self,
        purpose: Option<Purpose>,
        login: &Login,
        request: RequestBuilder,
        deadlines: Deadlines,
    ) -> Result<Answered, UpstreamError> {
        let sending = Sending {
            provider: PROVIDER,
            purpose,
            login: Some(&login.id),
            turn: None,
            deadlines,
        };
        let mut response = self.send(sending, request).await?;
        let (status, content_type) = (response.status().as_u16(), content_type(&response));
        let body =
            response::collect(PROVIDER, &mut response, DOCUMENT_LIMIT, deadlines.idle).await?;
        Ok(Answered::Document {
            status,
            content_type,
            body,
        })
    }

    fn url(&self, path: &str) -> Url {
        let mut url = self.base.clone();
        url.set_path(&format!("{}{path}", self.base.path().trim_end_matches('/')));
        url
    }

    /// A request with the login's own headers (annex A1: the cookie always, the bearer where the token is a JWT).
    fn request(
        &self,
        method: Method,
        url: &Url,
        login: &Login,
        page: &str,
        connect: Duration,
    ) -> Result<RequestBuilder, UpstreamError> {
        let unreachable = |reason: String| UpstreamError::Connect {
            provider: PROVIDER.into(),
            reason,
        };
        let client = self.http.client(&self.base, connect).map_err(unreachable)?;
        let origin = self.base.origin().ascii_serialization();
        let mut request = client
            .request(method, url.clone())
            .header(ACCEPT, "*/*")
            .header(CONTENT_TYPE, "application/json")
            .header(REFERER, format!("{origin}{page}"))
            .header(ORIGIN, origin)
            .header("source", "web")
            .header("x-request-id", uuid::Uuid::now_v7().to_string());
        // In place of ours where both are there.
        let replayed = login.replayed().into_iter().collect();
        request = request.headers(replayed);
        if let Some(cookies) = secret_header(login.cookies.expose_secret()) {
            request = request.header(COOKIE, cookies);
        }
        if let Some(jwt) = login.jwt() {
            if let Some(bearer) = secret_header(&format!("Bearer {jwt}")) {
                request = request.header(AUTHORIZATION, bearer);
            }
        } else if let Some(umid) = secret_header(login.token.expose_secret()) {
            request = request.header("bx-umidtoken", umid);
        }
        Ok(request)
    }
}

fn side() -> Deadlines {
    within(SIDE_DEADLINE)
}

fn within(deadline: Duration) -> Deadlines {
    Deadlines {
        connect: deadline,
        first_byte: deadline,
        idle: deadline,
    }
}

/// Sensitive headers are left out of `Debug` by the HTTP library.
fn secret_header(text: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(text.trim())
        .ok()
        .filter(|value| !value.is_empty())?;
    value.set_sensitive(true);
    Some(value)
}

fn content_type(response: &Response) -> Option<String> {
    let value = response.headers().get(CONTENT_TYPE)?;
    value.to_str().ok().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn login(token: &str, cookies: &str) -> Login {
        Login {
            id: "l".into(),
            label: "l".into(),
            token: token.into(),
            cookies: cookies.into(),
            headers: "".into(),
        }
    }

    #[test]
    fn the_end_of_a_login_is_read_from_its_token() {
        let payload = URL_SAFE_NO_PAD.encode(r#"{"id":"u","exp":1999999999}"#);
        let jwt = format!("aa.{payload}.cc");
        assert_eq!(token_expiry(&login(&jwt, "")), Some(1_999_999_999_000));
        assert_eq!(
            token_expiry(&login("umid", &format!("a=b; token={jwt}"))),
            Some(1_999_999_999_000)
        );
        assert_eq!(token_expiry(&login("umid", "a=b")), None);
        assert!(login("umid", "a=b").is_guest());
        assert!(!login(&jwt, "").is_guest());
        assert_eq!(as_ms(1_999_999_999_000), 1_999_999_999_000);
    }

    #[test]
    fn nothing_of_a_login_is_shown_but_its_edges() {
        let login = login(
            "abcdefghijklmnopqrstuvwxyz",
            "first=planted; second=planted",
        );
        assert_eq!(login.token_preview(), "abcd...wxyz");
        assert_eq!(login.cookie_names(), ["first", "second"]);
        let shown = format!("{login:?}");
        assert!(
            !shown.contains("planted") && !shown.contains("efgh"),
            "{shown}"
        );
    }
}
