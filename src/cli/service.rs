//! The service manager: sockets it hands over, and what it wants to be told (`sd_notify(3)`, `sd_listen_fds(3)`).
//!
//! The protocol is a few words over a datagram socket, so there is no crate for it here.

use std::convert::Infallible;
use std::net::TcpListener;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use anyhow::Context;

use crate::actors::pulse::{Fault, Pulse};

/// What starts us, if it wants to hear from us.
pub(crate) struct Service {
    told: Option<(UnixDatagram, SocketAddr)>,
    /// How often it wants a sign of life, at least.
    watchdog: Option<Duration>,
}

impl Service {
    /// By the environment of this process.
    pub(crate) fn of(variable: impl Fn(&str) -> Option<String>) -> Self {
        let told = variable("NOTIFY_SOCKET").and_then(|path| {
            let address = address(&path)?;
            Some((UnixDatagram::unbound().ok()?, address))
        });
        let is_meant =
            variable("WATCHDOG_PID").is_none_or(|pid| pid.parse().ok() == Some(std::process::id()));
        let period = variable("WATCHDOG_USEC").and_then(|period| period.parse().ok());
        let watchdog = period.filter(|period| is_meant && *period > 0);
        Self {
            watchdog: watchdog.map(Duration::from_micros),
            told,
        }
    }

    pub(crate) fn ready(&self) {
        self.tell("READY=1\nSTATUS=serving");
    }

    pub(crate) fn stopping(&self) {
        self.tell("STOPPING=1\nSTATUS=stopping: open requests may finish");
    }

    /// Gives signs of life for as long as all parts answer, for ever. What only a new process would help is left to the
    /// service manager, which kills us when the signs fail to come.
    pub(crate) async fn watch(&self, pulse: &Pulse) -> Infallible {
        let Some(period) = self.watchdog.filter(|_| self.told.is_some()) else {
            return std::future::pending().await;
        };
        let mut clock = tokio::time::interval(period / 4);
        clock.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut before = Vec::new();
        loop {
            clock.tick().await;
            let mut faults = pulse.faults(period / 2).await;
            faults.retain(|fault| fault.is_fatal);
            if faults != before {
                self.tell_of(&faults);
            }
            if faults.is_empty() {
                self.tell("WATCHDOG=1");
            }
            before = faults;
        }
    }

    fn tell_of(&self, faults: &[Fault]) {
        if faults.is_empty() {
            tracing::info!("all parts answer again");
            return self.tell("STATUS=serving");
        }
        let reasons: Vec<_> = faults.iter().map(|fault| fault.reason.as_str()).collect();
        let reasons = reasons.join("; ");
        tracing::error!(reasons, "the watchdog is not fed");
        self.tell(&format!("STATUS=not fed: {reasons}"));
    }

    /// A service manager that does not listen is no reason not to serve.
    fn tell(&self, words: &str) {
        if let Some((socket, address)) = &self.told
            && let Err(error) = socket.send_to_addr(words.as_bytes(), address)
        {
            tracing::debug!(%error, "the service manager cannot be told");
        }
    }
}

/// A path, or behind an `@` a name in Linux's abstract space.
fn address(path: &str) -> Option<SocketAddr> {
    #[cfg(target_os = "linux")]
    if let Some(name) = path.strip_prefix('@') {
        use std::os::linux::net::SocketAddrExt;
        return SocketAddr::from_abstract_name(name).ok();
    }
    SocketAddr::from_pathname(path).ok()
}

/// The sockets that were handed over. Takes its variables out of the environment, so it is called before there is a
/// second thread.
pub(crate) fn sockets() -> anyhow::Result<Vec<TcpListener>> {
    let mut handed = listenfd::ListenFd::from_env();
    let mut sockets = Vec::new();
    for index in 0..handed.len() {
        let socket = handed
            .take_tcp_listener(index)
            .context("the service manager handed over what is no listening TCP socket")?;
        sockets.extend(socket);
    }
    Ok(sockets)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_environment_says_who_is_told_and_how_often() {
        let dir = tempfile::TempDir::new().unwrap();
        let path = dir.path().join("notify");
        let manager = UnixDatagram::bind(&path).unwrap();
        let path = path.to_str().unwrap().to_owned();
        let own = std::process::id().to_string();
        for (pid, period, fed) in [
            (None, "2000000", Some(Duration::from_secs(2))),
            (Some(own.as_str()), "2000000", Some(Duration::from_secs(2))),
            (Some("1"), "2000000", None),
            (None, "0", None),
            (None, "soon", None),
        ] {
            let service = Service::of(|name| match name {
                "NOTIFY_SOCKET" => Some(path.clone()),
                "WATCHDOG_USEC" => Some(period.into()),
                _ => pid.map(str::to_owned),
            });
            assert_eq!(service.watchdog, fed, "{pid:?} {period}");
            service.ready();
            let mut message = [0; 64];
            let length = manager.recv(&mut message).unwrap();
            assert!(message[..length].starts_with(b"READY=1\n"));
        }
        let service = Service::of(|_| None);
        assert!(service.told.is_none() && service.watchdog.is_none());
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_name_behind_an_at_sign_is_abstract() {
        let address = address("@qwarden/test").unwrap();
        assert!(address.as_pathname().is_none() && !address.is_unnamed());
    }
}
