//! The HTTP clients all adapters share. Built when first needed: most gateways never use half of them.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::redirect::Policy;
use reqwest::{Client, Url};

use super::address;

/// A client is kept per scheme and connect deadline, which is a setting: few are ever in use.
const CLIENTS_KEPT: usize = 4;
/// Bytes of one answer that may wait unread in an HTTP/2 stream (R21).
const STREAM_WINDOW: u32 = 64 * 1024;

/// A cheap handle to the clients.
#[derive(Clone, Default)]
pub(crate) struct Http {
    clients: Arc<Mutex<Vec<(Key, Client)>>>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
struct Key {
    tls: bool,
    connect: Duration,
}

impl Http {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// The client for this URL and connect deadline. Fails only when the TLS backend cannot start.
    pub(super) fn client(&self, url: &Url, connect: Duration) -> Result<Client, String> {
        let key = Key {
            tls: url.scheme() == "https",
            connect,
        };
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, client)) = clients.iter().find(|(known, _)| *known == key) {
            return Ok(client.clone());
        }
        let client = make(key).map_err(|error| reason(error.without_url()))?;
        if clients.len() >= CLIENTS_KEPT {
            clients.remove(0);
        }
        clients.push((key, client.clone()));
        Ok(client)
    }
}

fn make(key: Key) -> reqwest::Result<Client> {
    let builder = Client::builder()
        .redirect(Policy::none())
        .referer(false)
        .no_proxy()
        .connect_timeout(key.connect)
        .pool_idle_timeout(Duration::from_mins(1))
        .pool_max_idle_per_host(32)
        .tcp_nodelay(true)
        .tcp_keepalive(Duration::from_secs(30))
        .dns_resolver(CheckedDns)
        .user_agent(concat!("qwarden/", env!("CARGO_PKG_VERSION")));
    if key.tls {
        builder
            .https_only(true)
            .http2_initial_stream_window_size(STREAM_WINDOW)
            .build()
    } else {
        // Without certificates the platform's store is not even opened.
        builder.http1_only().tls_certs_only([]).build()
    }
}

/// The system's resolver, less the addresses no provider may have.
struct CheckedDns;

impl Resolve for CheckedDns {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
            let (refused, allowed): (Vec<SocketAddr>, Vec<SocketAddr>) =
                found.partition(|found| address::refusal(found.ip()).is_some());
            match refused
                .first()
                .and_then(|found| address::refusal(found.ip()))
            {
                Some(why) if allowed.is_empty() => Err(io::Error::new(
                    io::ErrorKind::PermissionDenied,
                    format!("the name leads to {why}"),
                )
                .into()),
                _ => Ok(Box::new(allowed.into_iter()) as Addrs),
            }
        })
    }
}

/// The causes of an error on one line, without the URL, which may hold a key.
pub(super) fn reason(error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut cause: Option<&dyn std::error::Error> = std::error::Error::source(&error);
    let mut words = Vec::new();
    while let Some(current) = cause {
        let text = current.to_string();
        if !words.contains(&text) {
            words.push(text);
        }
        cause = current.source();
    }
    if words.is_empty() {
        error.to_string()
    } else {
        words.join(": ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_are_kept_and_bounded() {
        let http = Http::new();
        let plain = Url::parse("http://127.0.0.1").unwrap();
        let tls = Url::parse("https://example.com").unwrap();
        for seconds in 1..10 {
            http.client(&plain, Duration::from_secs(seconds)).unwrap();
            http.client(&tls, Duration::from_secs(seconds)).unwrap();
            http.client(&tls, Duration::from_secs(seconds)).unwrap();
        }
        assert_eq!(http.clients.lock().unwrap().len(), CLIENTS_KEPT);
    }

    #[tokio::test]
    async fn names_are_resolved_and_checked() {
        let mut found = CheckedDns
            .resolve("localhost".parse().unwrap())
            .await
            .unwrap();
        assert!(found.all(|found| found.ip().is_loopback()));
        assert!(
            CheckedDns
                .resolve("169.254.169.254".parse().unwrap())
                .await
                .is_err()
        );
    }
}
