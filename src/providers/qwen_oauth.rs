//! The OAuth login that Qwen Code keeps in `~/.qwen/oauth_creds.json`, as a provider with native tools.
//!
//! Wire facts: `qwen-web-protocol`, A10 (as that client's source has them; the free tier behind it ended on 2026-04-15,
//! so only a login that already exists is used). Tokens that end are renewed and written back, as that client does.

use std::path::{Path, PathBuf};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use reqwest::Url;
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Map, Value, json};
use tokio::sync::Mutex;
use tokio::time::timeout;

use super::config::{self, ConfigError, Definition, InvalidConfig};
use super::http::{Http, reason};
use super::openai::OpenAi;
use super::{Answer, Call, Provider, UpstreamError, UpstreamModel, address, response};
use crate::clock::now_ms;
use crate::limits::qwen::{REFRESH_DEADLINE, TOKEN_LIMIT};
use crate::protocol::openai::error::UpstreamFault;

/// Type of these providers.
pub(super) const KIND: &str = "qwen-oauth";
/// The public client of Qwen Code.
const CLIENT_ID: &str = "f0304373b74a44d2b584a3fb70ca9e56";
const TOKEN_URL: &str = "https://chat.qwen.ai/api/v1/oauth2/token";
/// Where a login without `resource_url` is served (A1).
const DEFAULT_RESOURCE: &str = "https://dashscope.aliyuncs.com/compatible-mode/v1";
/// A token is renewed this long before its end.
const SKEW_MS: i64 = 60_000;

pub(super) struct QwenOauth {
    definition: Definition,
    file: PathBuf,
    token_url: Url,
    http: Http,
    /// One renewal at a time: a refresh token may be good for one use only.
    renewing: Mutex<()>,
}

/// The login as the file has it.
struct Tokens {
    access: SecretString,
    refresh: Option<SecretString>,
    resource: String,
    /// Unix ms.
    ends: Option<i64>,
    /// All of the file, to be written back with what we do not know of.
    file: Map<String, Value>,
}

impl QwenOauth {
    pub(super) fn new(definition: &Definition, http: Http) -> Result<Self, InvalidConfig> {
        let text = |key: &str| {
            definition
                .config
                .get(key)
                .and_then(Value::as_str)
                .map(str::trim)
                .filter(|text| !text.is_empty())
        };
        let refuse = |key: &str, problem: &str| InvalidConfig {
            provider: definition.id.clone(),
            errors: vec![ConfigError {
                key: key.into(),
                message: format!("`{key}` {problem}"),
            }],
        };
        let file = match text("credentialsFile") {
            Some(path) => PathBuf::from(path),
            None => directories::BaseDirs::new()
                .map(|dirs| dirs.home_dir().join(".qwen").join("oauth_creds.json"))
                .ok_or_else(|| refuse("credentialsFile", "is required: there is no home folder"))?,
        };
        let token_url = Url::parse(text("tokenURL").unwrap_or(TOKEN_URL))
            .map_err(|_| refuse("tokenURL", "must be a URL"))?;
        if let Some(why) = address::text_refusal(token_url.as_str(), http.own()) {
            return Err(refuse("tokenURL", &why));
        }
        Ok(Self {
            definition: definition.clone(),
            file,
            token_url,
            http,
            renewing: Mutex::default(),
        })
    }

    /// The adapter for the login as it is now. `spent` is a token that was refused.
    async fn adapter(
        &self,
        spent: Option<&SecretString>,
    ) -> Result<(OpenAi, SecretString), UpstreamError> {
        let _renewing = self.renewing.lock().await;
        let mut tokens = self.read().await?;
        let is_spent =
            spent.is_some_and(|spent| spent.expose_secret() == tokens.access.expose_secret());
        if is_spent || tokens.ends.is_some_and(|ends| ends - SKEW_MS <= now_ms()) {
            tokens = self.renew(tokens).await?;
        }
        let mut config = self.definition.config.clone();
        config.insert("baseURL".into(), tokens.resource.clone().into());
        config.insert("apiKey".into(), tokens.access.expose_secret().into());
        let definition = Definition {
            id: self.definition.id.clone(),
            kind: KIND.into(),
            config,
        };
        let settings = config::read(&definition).map_err(|error| {
            self.unusable(&format!("the login names no usable address: {error}"))
        })?;
        Ok((OpenAi::new(settings, self.http.clone()), tokens.access))
    }

    async fn read(&self) -> Result<Tokens, UpstreamError> {
        let bytes = tokio::fs::read(&self.file).await.map_err(|error| {
            let path = self.file.display();
            self.unusable(&format!(
                "{path} cannot be read ({error}); log in with Qwen Code first"
            ))
        })?;
        let file: Option<Map<String, Value>> = serde_json::from_slice(&bytes).ok();
        file.and_then(tokens)
            .ok_or_else(|| self.unusable("the file holds no login; log in with Qwen Code again"))
    }

    async fn renew(&self, old: Tokens) -> Result<Tokens, UpstreamError> {
        let gone = || self.rejected("the login has ended; log in with Qwen Code again");
        let refresh = old.refresh.as_ref().ok_or_else(gone)?;
        let form = [
            ("grant_type", "refresh_token"),
            ("refresh_token", refresh.expose_secret()),
            ("client_id", CLIENT_ID),
        ];
        let body = form_urlencoded(&form);
        let exchange = async {
            let client = self
                .http
                .client(&self.token_url, REFRESH_DEADLINE)
                .map_err(|reason| self.unusable(&reason))?;
            let sent = client
                .post(self.token_url.clone())
                .header("content-type", "application/x-www-form-urlencoded")
                .header("accept", "application/json")
                .body(body)
                .send();
            let mut response = sent.await.map_err(|error| UpstreamError::Connect {
                provider: self.definition.id.clone(),
                reason: reason(error),
            })?;
            let status = response.status().as_u16();
            let body = response::collect(
                &self.definition.id,
                &mut response,
                TOKEN_LIMIT,
                REFRESH_DEADLINE,
            )
            .await?;
            Ok((status, body))
        };
        let (status, body) = timeout(REFRESH_DEADLINE, exchange)
            .await
            .map_err(|_| self.unusable("the login could not be renewed in time"))??;
        if matches!(status, 400 | 401) {
            return Err(gone());
        }
        let answer: Map<String, Value> = serde_json::from_slice(&body)
            .map_err(|_| self.unusable("the login could not be renewed"))?;
        let mut file = old.file;
        for key in [
            "access_token",
            "refresh_token",
            "token_type",
            "resource_url",
        ] {
            // A refresh token that does not come back stays in force.
            if let Some(value) = answer.get(key).filter(|value| value.is_string()) {
                file.insert(key.into(), value.clone());
            }
        }
        if let Some(seconds) = answer.get("expires_in").and_then(Value::as_i64) {
            file.insert(
                "expiry_date".into(),
                json!(now_ms().saturating_add(seconds.saturating_mul(1_000))),
            );
        }
        if !answer.contains_key("access_token") {
            return Err(gone());
        }
        self.write(&file).await;
        tokens(file).ok_or_else(gone)
    }

    /// Qwen Code reads the same file: it must find the new token there.
    async fn write(&self, file: &Map<String, Value>) {
        let text = serde_json::to_vec_pretty(file).unwrap_or_default();
        if let Err(error) = write_private(&self.file, &text).await {
            tracing::warn!(%error, "the renewed login could not be written back");
        }
    }

    fn unusable(&self, reason: &str) -> UpstreamError {
        UpstreamError::Connect {
            provider: self.definition.id.clone(),
            reason: reason.to_owned(),
        }
    }

    fn rejected(&self, message: &str) -> UpstreamError {
        UpstreamError::Status {
            provider: self.definition.id.clone(),
            status: 401,
            fault: UpstreamFault {
                message: message.to_owned(),
                kind: Some("authentication_error".into()),
                code: Some("credentials_rejected".into()),
                status: Some(401),
            },
            retry_after: None,
            should_retry: Some(false),
        }
    }

    async fn try_twice(&self, call: Call) -> Result<Answer, UpstreamError> {
        let (adapter, token) = self.adapter(None).await?;
        match Provider::complete(&adapter, call.clone()).await {
            Err(UpstreamError::Status { status: 401, .. }) => {
                let (adapter, _) = self.adapter(Some(&token)).await?;
                Provider::complete(&adapter, call).await
            }
            other => other,
        }
    }
}

impl Provider for QwenOauth {
    fn kind(&self) -> &'static str {
        KIND
    }

    fn complete(&self, call: Call) -> BoxFuture<'_, Result<Answer, UpstreamError>> {
        self.try_twice(call).boxed()
    }

    fn models(
        &self,
        deadline: Duration,
    ) -> BoxFuture<'_, Result<Vec<UpstreamModel>, UpstreamError>> {
        async move {
            let (adapter, _) = self.adapter(None).await?;
            Provider::models(&adapter, deadline).await
        }
        .boxed()
    }
}

fn tokens(file: Map<String, Value>) -> Option<Tokens> {
    let text = |key: &str| {
        let value = file.get(key)?.as_str()?.trim();
        (!value.is_empty()).then(|| value.to_owned())
    };
    let resource = match text("resource_url") {
        Some(host) => {
            let url = if host.starts_with("http") {
                host
            } else {
                format!("https://{host}")
            };
            let url = url.trim_end_matches('/').to_owned();
            if url.ends_with("/v1") {
                url
            } else {
                format!("{url}/v1")
            }
        }
        None => DEFAULT_RESOURCE.to_owned(),
    };
    Some(Tokens {
        access: text("access_token")?.into(),
        refresh: text("refresh_token").map(SecretString::from),
        resource,
        ends: file.get("expiry_date").and_then(Value::as_i64),
        file,
    })
}

/// Private from its first byte, and whole or not there at all.
async fn write_private(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    use tokio::io::AsyncWriteExt;
    let draft = path.with_extension("qwarden");
    let mut options = tokio::fs::OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    options.mode(0o600);
    let mut file = options.open(&draft).await?;
    file.write_all(bytes).await?;
    file.sync_all().await?;
    tokio::fs::rename(draft, path).await
}

fn form_urlencoded(pairs: &[(&str, &str)]) -> String {
    let mut url = Url::parse_with_params("http://form/", pairs.iter().copied());
    url.as_mut()
        .ok()
        .and_then(|url| url.query().map(str::to_owned))
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_is_completed() {
        for (resource, expected) in [
            (json!("portal.qwen.ai"), "https://portal.qwen.ai/v1"),
            (json!("https://h/v1/"), "https://h/v1"),
            (Value::Null, DEFAULT_RESOURCE),
        ] {
            let file = json!({"access_token": "a", "resource_url": resource});
            let Value::Object(file) = file else {
                panic!("an object")
            };
            assert_eq!(tokens(file).expect("tokens").resource, expected);
        }
        assert!(tokens(Map::new()).is_none());
    }

    #[test]
    fn a_form_is_encoded() {
        assert_eq!(form_urlencoded(&[("a", "b c&d")]), "a=b+c%26d");
    }
}
