//! The HTTP clients all adapters share. Built when first needed: most gateways never use half of them.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::redirect::Policy;
use reqwest::{Client, Proxy, Url};

use super::address::{self, OwnPorts};
use super::authority::Authority;

use crate::limits::upstreams::{CLIENTS_KEPT, POOL_IDLE, STREAM_WINDOW, TCP_KEEP_ALIVE};

/// A cheap handle to the clients.
#[derive(Clone, Default)]
pub(crate) struct Http {
    own: OwnPorts,
    clients: Arc<Mutex<Vec<(Key, Client)>>>,
    proxy: Option<Arc<ProxyNow>>,
    names: Names,
}

/// The address of the proxy upstreams elsewhere are asked through now; empty for none.
type ProxyNow = dyn Fn() -> String + Send + Sync;

#[derive(Clone, PartialEq, Eq)]
struct Key {
    tls: bool,
    connect: Duration,
    reach: Reach,
    /// Empty for none.
    proxy: String,
    authority: Option<Authority>,
}

/// Looks names up. Cheap to clone.
#[derive(Clone, Default)]
enum Names {
    #[default]
    System,
    #[cfg(test)]
    Told(Arc<dyn Fn(&str) -> SocketAddr + Send + Sync>),
}

impl Names {
    async fn find(&self, name: &str) -> io::Result<Vec<SocketAddr>> {
        match self {
            Self::System => Ok(tokio::net::lookup_host((name, 0)).await?.collect()),
            #[cfg(test)]
            Self::Told(told) => Ok(vec![told(name)]),
        }
    }
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
            ..Self::default()
        }
    }

    /// Asks upstreams elsewhere through the proxy that `proxy` names at that moment, and no other (S13).
    pub(crate) fn through(self, proxy: impl Fn() -> String + Send + Sync + 'static) -> Self {
        Self {
            proxy: Some(Arc::new(proxy)),
            ..self
        }
    }

    /// The ports that no provider may have.
    pub(super) fn own(&self) -> &OwnPorts {
        &self.own
    }

    /// The client for this URL and connect deadline.
    pub(super) fn client(&self, url: &Url, connect: Duration) -> Result<Client, String> {
        self.client_for("", url, connect, None)
    }

    /// The client for this URL of a provider of this kind, which may also be signed by `authority`. Fails when nothing may be
    /// called there: what is written in the URL is looked at here, what its name leads to when it is resolved.
    pub(super) fn client_for(
        &self,
        kind: &str,
        url: &Url,
        connect: Duration,
        authority: Option<&Authority>,
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
            proxy: match &self.proxy {
                // What is here would be somebody else's there.
                Some(proxy) if !address::is_loopback(url) => proxy(),
                _ => String::new(),
            },
            authority: authority.cloned(),
        };
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, client)) = clients.iter().find(|(known, _)| *known == key) {
            return Ok(client.clone());
        }
        let client = make(&key, self.names.clone()).map_err(|error| reason(error.without_url()))?;
        if clients.len() >= CLIENTS_KEPT {
            clients.remove(0);
        }
        clients.push((key, client.clone()));
        Ok(client)
    }
}

fn make(key: &Key, names: Names) -> reqwest::Result<Client> {
    let mut builder = Client::builder()
        .redirect(Policy::none())
        .referer(false)
        .no_proxy()
        .connect_timeout(key.connect)
        .pool_idle_timeout(POOL_IDLE)
        .pool_max_idle_per_host(32)
        .tcp_nodelay(true)
        .tcp_keepalive(TCP_KEEP_ALIVE)
        .dns_resolver(CheckedDns(key.reach, names))
        .user_agent(concat!("qwarden/", env!("CARGO_PKG_VERSION")));
    if !key.proxy.is_empty() {
        builder = builder.proxy(Proxy::all(&key.proxy)?);
    }
    if key.tls {
        if let Some(authority) = &key.authority {
            builder = builder.tls_certs_merge(authority.certificates()?);
        }
        builder
            .https_only(true)
            .http2_initial_stream_window_size(STREAM_WINDOW)
            .build()
    } else if key.proxy.starts_with("https:") {
        builder.http1_only().build()
    } else {
        // Without certificates the platform's store is not even opened.
        builder.http1_only().tls_certs_only([]).build()
    }
}

/// A resolver, less the addresses no provider may have.
struct CheckedDns(Reach, Names);

impl CheckedDns {
    fn refusal(reach: Reach, address: IpAddr) -> Option<&'static str> {
        let is_here = || reach == Reach::Elsewhere && address::is_own(address);
        address::refusal(address).or_else(|| is_here().then_some("this gateway itself"))
    }
}

impl Resolve for CheckedDns {
    fn resolve(&self, name: Name) -> Resolving {
        let (reach, names) = (self.0, self.1.clone());
        Box::pin(async move {
            let found = names.find(name.as_str()).await?.into_iter();
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
        let io = current.downcast_ref::<std::io::Error>();
        if io.is_some_and(|io| io.kind() == std::io::ErrorKind::ConnectionRefused) {
            // What happens most, and to who has only just begun: said with its remedy.
            return "nothing listens at its address; start its server, or correct the address"
                .into();
        }
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
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

    use tokio::io::{AsyncReadExt, AsyncWriteExt};

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
        let mut found = CheckedDns(Reach::All, Names::System)
            .resolve("localhost".parse().unwrap())
            .await
            .unwrap();
        assert!(found.all(|found| found.ip().is_loopback()));
        assert!(
            CheckedDns(Reach::Elsewhere, Names::System)
                .resolve("localhost".parse().unwrap())
                .await
                .is_err(),
            "the port is ours"
        );
        assert!(
            CheckedDns(Reach::All, Names::System)
                .resolve("169.254.169.254".parse().unwrap())
                .await
                .is_err()
        );
    }

    /// A server that answers each connection with nothing, and counts them.
    async fn counting() -> (SocketAddr, Arc<AtomicUsize>) {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, asked) = (
            listener.local_addr().unwrap(),
            Arc::new(AtomicUsize::new(0)),
        );
        let counter = asked.clone();
        crate::tasks::Tasks::default().spawn("a server", async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                counter.fetch_add(1, Ordering::SeqCst);
                let _ = stream.read(&mut [0; 1_024]).await;
                let answer = b"HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n";
                let _ = stream.write_all(answer).await;
            }
        });
        (address, asked)
    }

    #[tokio::test]
    async fn s12_a_name_that_was_fine_when_it_was_saved_is_looked_at_again_at_each_call() {
        let (address, asked) = counting().await;
        let moved = Arc::new(AtomicBool::new(false));
        let told = {
            let moved = moved.clone();
            move |_: &str| {
                let here = IpAddr::from([127, 0, 0, 1]);
                let metadata = IpAddr::from([169, 254, 169, 254]);
                let is_moved = moved.load(Ordering::SeqCst);
                SocketAddr::new(if is_moved { metadata } else { here }, 0)
            }
        };
        let http = Http {
            names: Names::Told(Arc::new(told)),
            ..Http::default()
        };
        let url = Url::parse(&format!("http://models.example:{}/", address.port())).unwrap();
        assert_eq!(address::url_refusal(&url), None, "it may be saved");
        let client = http.client(&url, Duration::from_secs(5)).unwrap();
        assert_eq!(client.get(url.clone()).send().await.unwrap().status(), 204);
        moved.store(true, Ordering::SeqCst);
        let refused = client.get(url).send().await.unwrap_err();
        let why = reason(refused);
        assert!(
            why.contains("the name leads to a link-local address"),
            "{why}"
        );
        assert_eq!(asked.load(Ordering::SeqCst), 1);
    }

    #[tokio::test]
    async fn s13_the_proxy_is_asked_for_what_is_elsewhere_and_for_nothing_here() {
        let (address, asked) = counting().await;
        let through = Arc::new(Mutex::new(format!("http://{address}")));
        let now = through.clone();
        let http = Http::default().through(move || now.lock().unwrap().clone());
        let get = async |url: &str| {
            let url = Url::parse(url).unwrap();
            let client = http.client(&url, Duration::from_secs(5)).unwrap();
            client.get(url).send().await.map(|answer| answer.status())
        };
        assert_eq!(get("http://models.invalid/v1").await.unwrap(), 204);
        assert_eq!(get("http://192.0.2.1:9/v1").await.unwrap(), 204);
        assert!(
            get("https://models.invalid/v1").await.is_err(),
            "no tunnel comes of 204"
        );
        assert_eq!(asked.load(Ordering::SeqCst), 3);
        for here in [
            "http://127.0.0.1:9/",
            "http://localhost:9/",
            "http://[::1]:9/",
            "http://a.localhost.:9/",
        ] {
            assert!(get(here).await.is_err(), "{here}");
        }
        assert_eq!(asked.load(Ordering::SeqCst), 3);
        through.lock().unwrap().clear();
        assert!(get("http://models.invalid/v1").await.is_err());
        assert_eq!(
            asked.load(Ordering::SeqCst),
            3,
            "in force for the next call"
        );
    }
}
