//! The HTTP clients all adapters share. Built when first needed: most gateways never use half of them.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::redirect::Policy;
use reqwest::{Client, Url};

use super::address::{self, OwnPorts};

/// A client is kept per scheme and connect deadline, which is a setting: few are ever in use.
const CLIENTS_KEPT: usize = 4;
/// Bytes of one answer that may wait unread in an HTTP/2 stream (R21).
const STREAM_WINDOW: u32 = 64 * 1024;

/// A cheap handle to the clients.
#[derive(Clone, Default)]
pub(crate) struct Http {
    own: OwnPorts,
    clients: Arc<Mutex<Vec<(Key, Client)>>>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
struct Key {
    tls: bool,
    connect: Duration,
    reach: Reach,
}

/// Which addresses names may lead to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reach {
    All,
    /// Not this machine: the port is one of ours.
    Elsewhere,
}

impl Http {
    pub(crate) fn new(own: OwnPorts) -> Self {
        Self {
            own,
            clients: Arc::default(),
        }
    }

    /// The ports that no provider may have.
    pub(super) fn own(&self) -> &OwnPorts {
        &self.own
    }

    /// The client for this URL and connect deadline.
    pub(super) fn client(&self, url: &Url, connect: Duration) -> Result<Client, String> {
        self.client_for("", url, connect)
    }

    /// The client for this URL of a provider of this kind. Fails when nothing may be called there: what is written in the
    /// URL is looked at here, what its name leads to when it is resolved.
    pub(super) fn client_for(
        &self,
        kind: &str,
        url: &Url,
        connect: Duration,
    ) -> Result<Client, String> {
        if let Some(why) = address::url_refusal(url).or_else(|| self.own.refusal(kind, url)) {
            return Err(format!("the address is {why}"));
        }
        let key = Key {
            tls: url.scheme() == "https",
            connect,
            reach: if self.own.has(kind, url) {
                Reach::Elsewhere
            } else {
                Reach::All
            },
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
        .dns_resolver(CheckedDns(key.reach))
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
struct CheckedDns(Reach);

impl CheckedDns {
    fn refusal(reach: Reach, address: IpAddr) -> Option<&'static str> {
        let is_here = || reach == Reach::Elsewhere && address::is_own(address);
        address::refusal(address).or_else(|| is_here().then_some("this gateway itself"))
    }
}

impl Resolve for CheckedDns {
    fn resolve(&self, name: Name) -> Resolving {
        let reach = self.0;
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
            let (refused, allowed): (Vec<SocketAddr>, Vec<SocketAddr>) =
                found.partition(|found| Self::refusal(reach, found.ip()).is_some());
            match refused
                .first()
                .and_then(|found| Self::refusal(reach, found.ip()))
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
        let http = Http::default();
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
        let mut found = CheckedDns(Reach::All)
            .resolve("localhost".parse().unwrap())
            .await
            .unwrap();
        assert!(found.all(|found| found.ip().is_loopback()));
        assert!(
            CheckedDns(Reach::Elsewhere)
                .resolve("localhost".parse().unwrap())
                .await
                .is_err(),
            "the port is ours"
        );
        assert!(
            CheckedDns(Reach::All)
                .resolve("169.254.169.254".parse().unwrap())
                .await
                .is_err()
        );
    }
}
