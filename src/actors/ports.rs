//! The sockets and the connections they brought: owned above the listener actors.
//!
//! A socket is bound once. A listener that is restarted serves the same socket, so no connection is refused meanwhile,
//! and connections are tasks of their own, so none of them ends with the listener that accepted it. A port can move: the
//! new socket is bound before the old one is let go.

use std::net::{self, IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::clock::now_ms;
use crate::limits::connections::{
    BACKLOG, FAREWELL, MOST_CONNECTIONS, PROBE_DEADLINE, SEND_BUFFER,
};
use crate::tasks::lock;

/// What is asked then: every port answers it without asking any actor.
pub(crate) const PROBED: &str = "/health/live";

/// One of the ports.
pub(crate) struct Port {
    pub(crate) name: &'static str,
    /// The command line flag that moves it, for messages.
    pub(crate) flag: &'static str,
    /// Number 0 means that it stays closed, and not any that is free.
    may_be_off: bool,
    /// A socket that the service manager listens on already: used whenever the port opens at its address, and kept, since
    /// the service manager keeps it too.
    inherited: Option<net::TcpListener>,
    state: Mutex<State>,
}

/// What asking a port showed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Probe {
    Answered,
    /// Nothing came back.
    Silent,
    /// All connections it may hold are taken: the next waits for one to end.
    Full,
    /// We have no socket left to ask with, which says nothing about the port.
    NotAsked,
}

struct State {
    wanted: SocketAddr,
    /// Somebody opened it, and nobody closed it since: there is a socket unless it is off.
    is_on: bool,
    open: Option<Open>,
    /// Connections of sockets that were let go, as long as they may still carry something.
    retired: Vec<Connections>,
}

/// A socket that is bound and not yet served.
pub(crate) struct Bound {
    wanted: SocketAddr,
    open: Open,
}

#[derive(Clone)]
struct Open {
    socket: Arc<TcpListener>,
    address: SocketAddr,
    since: Instant,
    /// Unix time, ms.
    at: i64,
    connections: Connections,
}

/// The socket cannot be had.
#[derive(Clone, Debug, thiserror::Error)]
#[error("port {} for the {name} {reason}; stop what uses it, or choose another with {flag}", address.port())]
pub(crate) struct PortTaken {
    pub(crate) name: &'static str,
    pub(crate) flag: &'static str,
    pub(crate) address: SocketAddr,
    pub(crate) reason: String,
}

impl Port {
    /// Takes the one of `sockets` that listens at its address already, if there is one.
    pub(crate) fn new(
        name: &'static str,
        flag: &'static str,
        wanted: SocketAddr,
        sockets: &mut Vec<net::TcpListener>,
    ) -> Arc<Self> {
        let inherited = taken(sockets, wanted);
        Arc::new(Self::made(name, flag, false, wanted, inherited))
    }

    /// The same, for one that is off where its number is 0.
    pub(crate) fn optional(
        name: &'static str,
        flag: &'static str,
        wanted: SocketAddr,
        sockets: &mut Vec<net::TcpListener>,
    ) -> Arc<Self> {
        let inherited = taken(sockets, wanted);
        Arc::new(Self::made(name, flag, true, wanted, inherited))
    }

    fn made(
        name: &'static str,
        flag: &'static str,
        may_be_off: bool,
        wanted: SocketAddr,
        inherited: Option<net::TcpListener>,
    ) -> Self {
        Self {
            name,
            flag,
            may_be_off,
            inherited,
            state: Mutex::new(State {
                wanted,
                is_on: false,
                open: None,
                retired: Vec::new(),
            }),
        }
    }

    /// Binds the socket, or says that it is bound already. One that is off only remembers that it was asked to.
    pub(crate) fn open(&self) -> Result<SocketAddr, PortTaken> {
        let mut state = lock(&self.state);
        if let Some(open) = state.open.as_ref() {
            return Ok(open.address);
        }
        let address = if self.is_off(state.wanted) {
            state.wanted
        } else {
            let open = self.opened(state.wanted)?;
            let address = open.address;
            state.open = Some(open);
            address
        };
        state.is_on = true;
        Ok(address)
    }

    /// Whether at this address it is meant to be off.
    pub(crate) fn is_off(&self, wanted: SocketAddr) -> bool {
        self.may_be_off && wanted.port() == 0
    }

    /// Whether it was opened; see [`Port::is_off`].
    pub(crate) fn is_on(&self) -> bool {
        lock(&self.state).is_on
    }

    /// Binds a socket elsewhere, for [`Port::move_to`].
    pub(crate) fn bind(&self, wanted: SocketAddr) -> Result<Bound, PortTaken> {
        let open = self.opened(wanted)?;
        Ok(Bound { wanted, open })
    }

    /// Serves `bound` from now on, and hands over the connections of the socket before, if there was one. A closed port
    /// stays closed and only remembers where to open.
    pub(crate) fn move_to(&self, bound: Bound) -> Option<Connections> {
        let mut state = lock(&self.state);
        state.wanted = bound.wanted;
        if !state.is_on {
            return None;
        }
        let before = state.open.replace(bound.open)?;
        Some(before.connections)
    }

    /// Serves nothing from now on although it is on, and hands over the connections of the socket before.
    pub(crate) fn turn_off(&self, wanted: SocketAddr) -> Option<Connections> {
        let mut state = lock(&self.state);
        state.wanted = wanted;
        Some(state.open.take()?.connections)
    }

    /// Where to open next time.
    pub(crate) fn want(&self, wanted: SocketAddr) {
        lock(&self.state).wanted = wanted;
    }

    fn opened(&self, wanted: SocketAddr) -> Result<Open, PortTaken> {
        let opened = match self.inherited_at(wanted) {
            Some(socket) => socket.and_then(adopted),
            None => bind(wanted),
        };
        let (socket, address) = opened.map_err(|error| PortTaken {
            name: self.name,
            flag: self.flag,
            address: wanted,
            reason: match error.kind() {
                std::io::ErrorKind::AddrInUse => "is in use by another program".into(),
                std::io::ErrorKind::PermissionDenied => "may not be opened by this user".into(),
                _ => format!("cannot be opened on {}: {error}", wanted.ip()),
            },
        })?;
        Ok(Open {
            socket: Arc::new(socket),
            address,
            since: Instant::now(),
            at: now_ms(),
            connections: Connections::default(),
        })
    }

    fn inherited_at(&self, wanted: SocketAddr) -> Option<std::io::Result<net::TcpListener>> {
        let socket = self.inherited.as_ref()?;
        let is_it = socket.local_addr().is_ok_and(|address| address == wanted);
        is_it.then(|| socket.try_clone())
    }

    /// Lets go of the socket, and hands over the connections it brought. Closed for good once the accept loop, told by
    /// its token, has dropped its share: [`Connections::accepting`] tells.
    pub(crate) fn close(&self) -> Option<Connections> {
        let open = {
            let mut state = lock(&self.state);
            state.is_on = false;
            state.open.take()?
        };
        open.connections.closing.cancel();
        Some(open.connections)
    }

    /// Remembers connections whose socket was let go, for an end that cannot wait for them.
    pub(crate) fn retire(&self, connections: Connections) {
        let mut state = lock(&self.state);
        state.retired.retain(|one| !one.is_over());
        state.retired.push(connections);
    }

    /// Ends connections whose socket was let go.
    pub(crate) fn end_retired(&self) {
        for connections in lock(&self.state).retired.drain(..) {
            connections.aborting.cancel();
            connections.killing.cancel();
        }
    }

    /// What an accept loop needs, while the port is open.
    pub(crate) fn serving(&self) -> Option<(Arc<TcpListener>, Connections)> {
        lock(&self.state)
            .open
            .as_ref()
            .map(|open| (open.socket.clone(), open.connections.clone()))
    }

    /// Where the port listens, or would.
    pub(crate) fn address(&self) -> SocketAddr {
        let state = lock(&self.state);
        state
            .open
            .as_ref()
            .map_or(state.wanted, |open| open.address)
    }

    /// Where it was asked to listen; port 0 there means any.
    pub(crate) fn wanted(&self) -> SocketAddr {
        lock(&self.state).wanted
    }

    pub(crate) fn opened_since(&self) -> Option<Instant> {
        lock(&self.state).open.as_ref().map(|open| open.since)
    }

    /// Unix time, ms.
    pub(crate) fn opened_at(&self) -> Option<i64> {
        lock(&self.state).open.as_ref().map(|open| open.at)
    }

    /// Whether a request to the port is answered.
    pub(crate) async fn answers(&self) -> bool {
        self.probe(PROBE_DEADLINE).await == Probe::Answered
    }

    /// Sends a request through the kernel's queue, the accept loop and the service, as a client would. Any answer counts,
    /// also that a key is missing.
    pub(crate) async fn probe(&self, deadline: Duration) -> Probe {
        let mut address = self.address();
        match address.ip() {
            IpAddr::V4(ip) if ip.is_unspecified() => address.set_ip(Ipv4Addr::LOCALHOST.into()),
            IpAddr::V6(ip) if ip.is_unspecified() => address.set_ip(Ipv6Addr::LOCALHOST.into()),
            IpAddr::V4(_) | IpAddr::V6(_) => {}
        }
        let Ok(socket) = new_socket(address) else {
            return Probe::NotAsked;
        };
        let asking = async {
            let mut stream = socket.connect(address).await?;
            let request =
                format!("GET {PROBED} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n");
            stream.write_all(request.as_bytes()).await?;
            let mut begin = [0; 5];
            stream.read_exact(&mut begin).await?;
            std::io::Result::Ok(&begin == b"HTTP/")
        };
        match tokio::time::timeout(deadline, asking).await {
            Ok(Ok(true)) => Probe::Answered,
            _ if self.is_full() => Probe::Full,
            _ => Probe::Silent,
        }
    }

    fn is_full(&self) -> bool {
        let state = lock(&self.state);
        let open = state.open.as_ref();
        open.is_some_and(|open| open.connections.tracker.len() >= MOST_CONNECTIONS)
    }

    pub(crate) fn in_flight(&self) -> usize {
        lock(&self.state)
            .open
            .as_ref()
            .map_or(0, |open| open.connections.in_flight())
    }
}

fn new_socket(address: SocketAddr) -> std::io::Result<TcpSocket> {
    if address.is_ipv4() {
        TcpSocket::new_v4()
    } else {
        TcpSocket::new_v6()
    }
}

/// The one of `sockets` that listens at `wanted`, which it then has no more.
fn taken(sockets: &mut Vec<net::TcpListener>, wanted: SocketAddr) -> Option<net::TcpListener> {
    let mut addresses = sockets.iter().map(net::TcpListener::local_addr);
    let at = addresses.position(|address| address.is_ok_and(|address| address == wanted))?;
    Some(sockets.swap_remove(at))
}

fn adopted(socket: net::TcpListener) -> std::io::Result<(TcpListener, SocketAddr)> {
    socket.set_nonblocking(true)?;
    let listener = TcpListener::from_std(socket)?;
    let address = listener.local_addr()?;
    Ok((listener, address))
}

fn bind(address: SocketAddr) -> std::io::Result<(TcpListener, SocketAddr)> {
    let socket = new_socket(address)?;
    socket.set_reuseaddr(true)?;
    // Accepted connections inherit it. A client that is slow makes its upstream wait soon (R21).
    socket.set_send_buffer_size(SEND_BUFFER)?;
    socket.bind(address)?;
    let listener = socket.listen(BACKLOG)?;
    let address = listener.local_addr()?;
    Ok((listener, address))
}

/// The connections one opening of a port brought, and what they are told when it closes.
#[derive(Clone, Default)]
pub(crate) struct Connections {
    tracker: TaskTracker,
    accepting: TaskTracker,
    /// No further request on this connection.
    pub(crate) closing: CancellationToken,
    /// Requests still running say goodbye now.
    pub(crate) aborting: CancellationToken,
    /// Connections end, whatever they carry.
    pub(crate) killing: CancellationToken,
    in_flight: Arc<AtomicUsize>,
}

/// How a stop went, in requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Drained {
    /// Requests that finished within the grace.
    pub(crate) drained: usize,
    /// Requests that were ended with an error.
    pub(crate) aborted: usize,
}

/// Counts one completion in, and out when dropped.
pub(crate) struct InFlight(Arc<AtomicUsize>);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Connections {
    /// Counts a completion for as long as the guard lives.
    pub(crate) fn enter(&self) -> InFlight {
        self.in_flight.fetch_add(1, Ordering::AcqRel);
        InFlight(self.in_flight.clone())
    }

    pub(crate) fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::Acquire)
    }

    /// Nothing came of it any more.
    fn is_over(&self) -> bool {
        self.tracker.is_closed() && self.tracker.is_empty()
    }

    /// Makes `serving` one of the tasks a drain waits for.
    pub(crate) fn track<F: Future>(&self, serving: F) -> impl Future<Output = F::Output> + use<F> {
        self.tracker.track_future(serving)
    }

    /// Makes `accepting` something a close waits for.
    pub(crate) fn track_accepting<F: Future>(
        &self,
        accepting: F,
    ) -> impl Future<Output = F::Output> + use<F> {
        self.accepting.track_future(accepting)
    }

    /// Waits until no accept loop holds the socket any more.
    pub(crate) async fn accepting_ended(&self) {
        self.accepting.close();
        self.accepting.wait().await;
    }

    /// Lets requests finish within `grace`, then has them say goodbye, then ends what is left.
    pub(crate) async fn drain(self, grace: Duration) -> Drained {
        self.closing.cancel();
        let at_stop = self.in_flight();
        self.tracker.close();
        let mut aborted = 0;
        if tokio::time::timeout(grace, self.tracker.wait())
            .await
            .is_err()
        {
            aborted = self.in_flight();
            self.aborting.cancel();
            if tokio::time::timeout(FAREWELL, self.tracker.wait())
                .await
                .is_err()
            {
                self.killing.cancel();
                self.tracker.wait().await;
            }
        }
        Drained {
            drained: at_stop.saturating_sub(aborted),
            aborted,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_port_whose_connections_nobody_takes_does_not_answer() {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let port = Port::new("router", "--port", any, &mut Vec::new());
        assert!(!port.answers().await, "it is closed");
        port.open().expect("a port");
        // The kernel takes the connection, and that is all that happens.
        assert!(!port.answers().await);
        let (socket, _) = port.serving().expect("it is open");
        let serving = async {
            let (mut stream, _) = socket.accept().await.expect("a connection");
            // The one that nobody took still waits in front.
            let (mut next, _) = socket.accept().await.expect("a connection");
            for stream in [&mut stream, &mut next] {
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await;
            }
        };
        let (answered, ()) = tokio::join!(port.answers(), serving);
        assert!(answered);
    }
}
