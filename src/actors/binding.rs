//! Where the ports listen, and moving them while they serve.
//!
//! Not an actor: sockets and connections are owned above the listeners, so a move is a new socket under a listener that
//! is restarted. The new socket is bound first, so that a port that cannot be had changes nothing.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use tokio::sync::watch;

use crate::actors::ports::{Bound, Connections, Port, PortTaken};
use crate::actors::root::Supervision;
use crate::limits::connections::LOOK_UP;
use crate::settings::{self, Settings};
use crate::tasks::Tasks;

/// Who may be served beyond this machine (reliability contract, S1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exposure {
    /// Others only when they must show a token and keys.
    Guarded,
    /// The user said so at the start.
    Insecure,
}

/// The settings that say where a port is.
const PLACES: [&str; 5] = [
    settings::SERVER_QWEN_PORT,
    settings::SERVER_PORT,
    settings::SERVER_API_PORT,
    settings::OLLAMA_PORT,
    settings::SERVER_HOST,
];
/// As they stand in the tree, and which setting moves them.
const LISTENERS: [(&str, &str); 4] = [
    ("listener-qwen", settings::SERVER_QWEN_PORT),
    ("listener-router", settings::SERVER_PORT),
    ("listener-management", settings::SERVER_API_PORT),
    ("listener-ollama", settings::OLLAMA_PORT),
];

/// Moves the ports. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Binding {
    exposure: Exposure,
    /// In the order of [`LISTENERS`].
    ports: [Arc<Port>; 4],
    supervision: Supervision,
    settings: watch::Receiver<Arc<Settings>>,
    tasks: Tasks,
}

/// Ports that are about to move.
pub(crate) struct Moving(Vec<Move>);

struct Move {
    index: usize,
    step: Step,
}

enum Step {
    /// The port is closed: it only remembers.
    Remember(SocketAddr),
    /// The new socket is bound.
    Serve(Bound),
    /// There is to be none.
    TurnOff(SocketAddr),
    /// Old and new address overlap, so the new socket has taken the place of the old one already.
    Undo(SocketAddr),
}

/// Whether this setting says where a port is.
pub(crate) fn is_place(key: &str) -> bool {
    PLACES.contains(&key)
}

/// The address to listen on, or which setting forbids it and what to do.
pub(crate) async fn host(
    settings: &Settings,
    exposure: Exposure,
) -> Result<IpAddr, (&'static str, String)> {
    let host = settings.text(settings::SERVER_HOST).unwrap_or("127.0.0.1");
    let Some(address) = address_of(host).await else {
        return Err((
            settings::SERVER_HOST,
            format!(
                "the host `{host}` is neither an IP address nor a name that resolves; use 127.0.0.1, ::1 or localhost"
            ),
        ));
    };
    if address.is_loopback() || exposure == Exposure::Insecure {
        return Ok(address);
    }
    if settings.admin_token().is_none() {
        return Err((
            settings::AUTH_ADMIN_TOKEN,
            format!(
                "the host `{host}` is not of this machine only, which needs an admin token (QWARDEN_ADMIN_TOKEN, or \
                 POST /api/auth/token); use 127.0.0.1, or serve with --insecure"
            ),
        ));
    }
    if settings.text(settings::AUTH_REQUIRE_KEYS) == Some("never") {
        return Err((
            settings::AUTH_REQUIRE_KEYS,
            format!(
                "the host `{host}` is not of this machine only, which needs API keys: `auth.requireKeys` must not be \
                 `never`; use 127.0.0.1, or serve with --insecure"
            ),
        ));
    }
    Ok(address)
}

/// What `host` stands for. Of a name's addresses one of version 4 is taken, as most clients do.
async fn address_of(host: &str) -> Option<IpAddr> {
    if let Ok(address) = host.parse() {
        return Some(address);
    }
    if host.eq_ignore_ascii_case("localhost") {
        return Some(Ipv4Addr::LOCALHOST.into());
    }
    // What is no name is not asked for.
    if host.is_empty() || !settings::is_host_name(host) {
        return None;
    }
    let found = tokio::time::timeout(LOOK_UP, tokio::net::lookup_host((host, 0)));
    let addresses = found.await.ok()?.ok()?.map(|address| address.ip());
    addresses.min_by_key(IpAddr::is_ipv6)
}

impl Binding {
    pub(crate) fn new(
        exposure: Exposure,
        ports: [Arc<Port>; 4],
        supervision: Supervision,
        settings: watch::Receiver<Arc<Settings>>,
        tasks: Tasks,
    ) -> Self {
        Self {
            exposure,
            ports,
            supervision,
            settings,
            tasks,
        }
    }

    /// Whether these settings may be in force together; else which one is at fault, and why.
    pub(crate) async fn check(&self, settings: &Settings) -> Result<(), (&'static str, String)> {
        host(settings, self.exposure).await.map(drop)
    }

    /// Binds the sockets that `settings` ask for. When one cannot be had, everything is as before.
    pub(crate) async fn prepare(&self, settings: &Settings) -> Result<Moving, PortTaken> {
        let mut moving = Moving(Vec::new());
        let Ok(host) = host(settings, self.exposure).await else {
            return Ok(moving);
        };
        for (index, (port, (_, key))) in self.ports.iter().zip(LISTENERS).enumerate() {
            let (from, to) = (port.wanted(), SocketAddr::new(host, settings.port(key)));
            if from == to {
                continue;
            }
            let at_once = if !port.is_on() {
                Some(Step::Remember(to))
            } else if port.is_off(to) {
                Some(Step::TurnOff(to))
            } else {
                None
            };
            if let Some(step) = at_once {
                moving.0.push(Move { index, step });
                continue;
            }
            let step = match port.bind(to) {
                Ok(bound) => Ok(Step::Serve(bound)),
                Err(_) if overlap(port.address(), to) => {
                    self.replace(index, to).await.map(|()| Step::Undo(from))
                }
                Err(taken) => Err(taken),
            };
            match step {
                Ok(step) => moving.0.push(Move { index, step }),
                Err(taken) => {
                    self.give_up(moving).await;
                    return Err(taken);
                }
            }
        }
        Ok(moving)
    }

    /// Serves the new sockets, and lets what runs on the old ones finish.
    pub(crate) async fn finish(&self, moving: Moving) {
        for Move { index, step } in moving.0 {
            let Some(port) = self.ports.get(index) else {
                continue;
            };
            match step {
                Step::Remember(to) => port.want(to),
                Step::Serve(bound) => {
                    let before = port.move_to(bound);
                    self.serve_anew(index, port, before).await;
                }
                Step::TurnOff(to) => {
                    let before = port.turn_off(to);
                    self.serve_anew(index, port, before).await;
                }
                Step::Undo(_) => {}
            }
            tracing::info!(port = port.name, address = %port.address(), "a port has moved");
        }
    }

    /// Puts back what [`Binding::prepare`] has changed already.
    pub(crate) async fn give_up(&self, moving: Moving) {
        for Move { index, step } in moving.0 {
            if let Step::Undo(from) = step
                && let Err(taken) = self.replace(index, from).await
            {
                tracing::error!(%taken, "a port could not be put back");
            }
        }
    }

    /// Opens a port anew where the old socket is in the way of the new one. For a moment nobody listens; the old address
    /// is taken again when the new one cannot be had.
    async fn replace(&self, index: usize, to: SocketAddr) -> Result<(), PortTaken> {
        let Some(port) = self.ports.get(index) else {
            return Ok(());
        };
        let from = port.address();
        let wanted = port.wanted();
        let Some(before) = port.close() else {
            port.want(to);
            return Ok(());
        };
        before.accepting_ended().await;
        port.want(to);
        let opened = port.open().map(drop);
        if opened.is_err() {
            port.want(from);
            if let Err(taken) = port.open() {
                tracing::error!(%taken, "a port could not be put back");
            }
            port.want(wanted);
        }
        self.restart(index).await;
        self.let_go(port, before);
        opened
    }

    /// The listener takes the socket that is there now, and what runs on the old one may finish.
    async fn serve_anew(&self, index: usize, port: &Port, before: Option<Connections>) {
        if port.is_on() {
            self.restart(index).await;
        }
        if let Some(before) = before {
            self.let_go(port, before);
        }
    }

    async fn restart(&self, index: usize) {
        let Some((listener, _)) = LISTENERS.get(index) else {
            return;
        };
        if let Err(error) = self.supervision.restart(listener).await {
            tracing::warn!(%error, listener, "a listener is late at its new port");
        }
    }

    fn let_go(&self, port: &Port, connections: Connections) {
        let grace = self
            .settings
            .borrow()
            .millis(settings::SERVER_DRAIN_TIMEOUT);
        connections.closing.cancel();
        port.retire(connections.clone());
        self.tasks.spawn("port move", async move {
            connections.drain(grace).await;
        });
    }
}

/// Whether one socket keeps the other from being bound: the same port on an address that covers the other's.
fn overlap(open: SocketAddr, wanted: SocketAddr) -> bool {
    open.port() == wanted.port() && (open.ip().is_unspecified() || wanted.ip().is_unspecified())
}
