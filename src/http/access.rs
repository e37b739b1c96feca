//! Who may manage: this machine's own user, or who holds the admin token (reliability contract, S5 to S8).
//!
//! Without a token clients of this machine's same user have full use, except that secrets stay masked. Clients of other machines
//! always need the token. Once there is one, only its holder may change it: or it would protect nothing.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use hyper::header::{AUTHORIZATION, COOKIE, HeaderName};
use hyper::http::Extensions;
use hyper::{HeaderMap, Method};
use tokio::net::TcpStream;

use crate::http::App;
use crate::http::error::ApiError;
use crate::http::same_user::{Caller, Door, Users};
use crate::limits::access::{LOGIN_LASTS, MOST_FAILURES, MOST_LOGINS, MOST_PEERS, WINDOW};
use crate::secrets::tokens::{self, Hashed};
use crate::settings::{self, Settings};
use crate::tasks::lock;

/// Holds the id of a login, not the token: browsers send cookies to every port of a host.
pub(crate) const LOGIN: &str = "qwarden_login";
/// Takes that cookie back.
pub(crate) const FORGET: &str = "qwarden_login=; Path=/; HttpOnly; SameSite=Strict; Max-Age=0";
/// What proxies say of those whose requests they pass on.
const FORWARDED: [&str; 4] = ["forwarded", "x-forwarded-for", "x-real-ip", "via"];
const API_KEY: HeaderName = HeaderName::from_static("x-api-key");

/// The two ends of a connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Peer {
    pub(crate) remote: IpAddr,
    /// Where it called us.
    pub(crate) local: IpAddr,
}

/// On whose behalf a management request is served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Principal {
    /// A client of this machine.
    Local,
    /// Who holds the admin token.
    Admin,
}

/// Remembers who failed and who is logged in, and knows whose a connection is. Cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct Gate {
    failures: Failures,
    logins: Arc<Mutex<Vec<Login>>>,
    /// Of clients' keys: a client that tries wrong ones locks nobody out of management.
    pub(crate) clients: Failures,
    pub(crate) users: Users,
}

/// Who tried what is wrong, lately. Cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct Failures(Arc<Mutex<HashMap<IpAddr, Vec<Instant>>>>);

impl Failures {
    /// Refuses a peer that failed too often; for how long it has to wait.
    pub(crate) fn check(&self, peer: IpAddr) -> Result<(), Duration> {
        let now = Instant::now();
        let mut failures = lock(&self.0);
        failures.retain(|_, times| {
            times.retain(|at| now.duration_since(*at) < WINDOW);
            !times.is_empty()
        });
        let known = failures.get(&peer);
        match known.filter(|times| times.len() >= MOST_FAILURES) {
            Some(times) => {
                let oldest = times.first().map_or(Duration::ZERO, |at| now - *at);
                Err(WINDOW.saturating_sub(oldest))
            }
            None => Ok(()),
        }
    }

    pub(crate) fn count(&self, peer: IpAddr) {
        let mut failures = lock(&self.0);
        if failures.len() >= MOST_PEERS && !failures.contains_key(&peer) {
            let oldest = failures.iter().min_by_key(|(_, times)| times.last());
            if let Some(oldest) = oldest.map(|(peer, _)| *peer) {
                failures.remove(&oldest);
            }
        }
        failures.entry(peer).or_default().push(Instant::now());
    }
}

struct Login {
    id: Hashed,
    until: Instant,
}

impl Peer {
    pub(crate) fn of(stream: &TcpStream) -> Self {
        // A connection whose ends cannot be told is nobody's of this machine.
        let canonical = |address: std::io::Result<std::net::SocketAddr>| {
            address.map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |address| {
                address.ip().to_canonical()
            })
        };
        Self {
            remote: canonical(stream.peer_addr()),
            local: canonical(stream.local_addr()),
        }
    }

    pub(crate) fn in_request(extensions: &Extensions) -> Self {
        extensions.get::<Self>().copied().unwrap_or(Self {
            remote: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            local: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        })
    }
}

/// Whether a request was made on this machine. What a proxy passes on was made elsewhere, whoever the proxy is.
pub(crate) fn is_near(request: &Request) -> bool {
    let peer = Peer::in_request(request.extensions());
    let headers = request.headers();
    peer.remote.is_loopback() && !FORWARDED.iter().any(|name| headers.contains_key(*name))
}

impl Principal {
    /// Of a request that was let in.
    pub(crate) fn in_request(extensions: &Extensions) -> Self {
        extensions.get::<Self>().copied().unwrap_or(Self::Local)
    }

    /// For the audit log.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::Admin => "admin",
        }
    }
}

/// The layer of :3002.
pub(crate) async fn management(
    State(app): State<App>,
    mut request: Request,
    next: Next,
) -> Response {
    let settings = app.settings.borrow().clone();
    match app.gate.admit(&settings, &request) {
        Ok(principal) => {
            if let Some(principal) = principal {
                request.extensions_mut().insert(principal);
            }
            next.run(request).await
        }
        Err(refused) => refused.into_response(),
    }
}

impl Gate {
    pub(crate) fn new() -> Self {
        Self {
            users: Users::open(),
            ..Self::default()
        }
    }

    /// On whose behalf the request is served; nobody's is, where that is enough.
    fn admit(&self, settings: &Settings, request: &Request) -> Result<Option<Principal>, ApiError> {
        let peer = Peer::in_request(request.extensions());
        let is_near = is_near(request);
        let caller = request.extensions().get::<Caller>();
        let is_other_user = is_near && self.users.refuse(settings, Door::Management, caller);
        let headers = request.headers();
        let open = openness(request.method(), request.uri().path());
        if open == Open::Always {
            return Ok(None);
        }
        let Some(token) = settings.admin_token() else {
            return match open {
                _ if is_near && !is_other_user => Ok(Some(Principal::Local)),
                Open::ForAsking => Ok(None),
                _ if is_other_user => Err(other_user()),
                _ => Err(not_set()),
            };
        };
        let presented = presented(headers);
        let cookie = cookie(headers);
        if !presented.is_empty() {
            self.verify(&token, &presented, peer.remote)?;
            return Ok(Some(Principal::Admin));
        }
        if cookie.is_some_and(|id| self.is_logged_in(id)) {
            return Ok(Some(Principal::Admin));
        }
        let is_open = settings.text(settings::AUTH_REQUIRED) != Some("always");
        if is_near && !is_other_user && is_open {
            return Ok(Some(Principal::Local));
        }
        if open == Open::ForAsking {
            return Ok(None);
        }
        if is_other_user && cookie.is_none() {
            return Err(other_user());
        }
        Err(ApiError::Unauthorized {
            kind: "authentication_error",
            code: "admin_token_required",
            message: "send the admin token as `authorization: Bearer ...`".into(),
            forget: cookie.map(|_| FORGET),
        })
    }

    /// Refuses all but the token itself, and for a while everything after too many others.
    pub(crate) fn verify(
        &self,
        token: &Hashed,
        presented: &[&str],
        peer: IpAddr,
    ) -> Result<(), ApiError> {
        self.failures
            .check(peer)
            .map_err(|after| ApiError::TooMany {
                code: "too_many_attempts",
                message: "too many wrong tokens; try again later".into(),
                after,
            })?;
        if presented.iter().any(|presented| token.matches(presented)) {
            return Ok(());
        }
        self.failures.count(peer);
        Err(ApiError::Unauthorized {
            kind: "authentication_error",
            code: "invalid_token",
            message: "this is not the admin token".into(),
            forget: None,
        })
    }

    /// The id of a new login, for a cookie.
    pub(crate) fn log_in(&self) -> std::io::Result<zeroize::Zeroizing<String>> {
        let id = tokens::generate("")?;
        let login = Login {
            id: Hashed::of(&id)?,
            until: Instant::now() + LOGIN_LASTS,
        };
        let mut logins = lock(&self.logins);
        if logins.len() >= MOST_LOGINS {
            logins.remove(0);
        }
        logins.push(login);
        Ok(id)
    }

    /// Ends one login.
    pub(crate) fn log_out(&self, headers: &HeaderMap) {
        if let Some(id) = cookie(headers) {
            lock(&self.logins).retain(|login| !login.id.matches(id));
        }
    }

    /// Ends every login: the token they came with is not the token any more.
    pub(crate) fn log_all_out(&self) {
        lock(&self.logins).clear();
    }

    /// Failures are not counted: an id has 256 bits, and a browser with an old one would lock its own user out.
    fn is_logged_in(&self, id: &str) -> bool {
        let mut logins = lock(&self.logins);
        let now = Instant::now();
        logins.retain(|login| login.until > now);
        logins.iter().any(|login| login.id.matches(id))
    }
}

/// One of another user of this machine, who came without a token or key.
pub(crate) fn other_user() -> ApiError {
    ApiError::Forbidden {
        code: "other_user",
        message: "this connection comes from another user of the machine: send the admin token as `authorization: Bearer \
                  ...` (to :3000 and :3001 an API key), or let the gateway's own user set `auth.sameUser` to `off`"
            .into(),
    }
}

/// There is no token that could be asked for.
pub(crate) fn not_set() -> ApiError {
    ApiError::Forbidden {
        code: "admin_token_not_set",
        message:
            "there is no admin token; on the gateway's own machine, POST /api/auth/token makes one"
                .into(),
    }
}

/// Whether a route serves those who are nobody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Open {
    /// Whether the process lives, and the way to log in.
    Always,
    /// Who one is; a wrong token is refused all the same, or it could be guessed here.
    ForAsking,
    Never,
}

fn openness(method: &Method, path: &str) -> Open {
    match (method.as_str(), path) {
        ("GET", "/api/health/live") | ("POST", "/api/auth/login") => Open::Always,
        ("GET", "/api/auth") => Open::ForAsking,
        _ => Open::Never,
    }
}

/// What stands where tokens and keys may stand.
pub(crate) fn presented(headers: &HeaderMap) -> Vec<&str> {
    let bearers = headers.get_all(AUTHORIZATION).iter().filter_map(|value| {
        let (scheme, token) = value.to_str().ok()?.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
    });
    let keys = headers
        .get_all(API_KEY)
        .iter()
        .filter_map(|value| value.to_str().ok());
    bearers
        .chain(keys)
        .filter(|token| !token.is_empty())
        .collect()
}

fn cookie(headers: &HeaderMap) -> Option<&str> {
    headers
        .get_all(COOKIE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|cookies| cookies.split(';'))
        .filter_map(|cookie| cookie.trim().split_once('='))
        .find(|(name, _)| *name == LOGIN)
        .map(|(_, id)| id)
}
