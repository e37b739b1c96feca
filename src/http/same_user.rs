//! Which user of this machine a connection comes from (reliability contract, S5).
//!
//! Linux tells over netlink (`sock_diag(7)`), once per connection and only where it matters. Elsewhere, and where the
//! kernel does not tell, nobody is refused, and health says that there is no check.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, OnceLock};

use crate::settings::{self, Settings};

/// Asks the kernel. Cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct Users(Option<Arc<Known>>);

struct Known {
    kernel: kernel::Door,
    /// Our own.
    own: u32,
}

/// A connection, and who is at its other end, which is found out when it is first asked for.
#[derive(Clone)]
pub(crate) struct Caller(Arc<Ends>);

struct Ends {
    remote: SocketAddr,
    local: SocketAddr,
    is_foreign: OnceLock<bool>,
}

/// Whose callers are looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Door {
    Management,
    Completions,
}

impl Users {
    /// Tries it on a connection of our own: what cannot be read now will not be read later.
    pub(crate) fn open() -> Self {
        let known = kernel::Door::open().and_then(|kernel| {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).ok()?;
            let stream = TcpStream::connect(listener.local_addr().ok()?).ok()?;
            let own = kernel.owner(stream.local_addr().ok()?, stream.peer_addr().ok()?)?;
            Some(Arc::new(Known { kernel, own }))
        });
        Self(known)
    }

    /// For health: whose callers are looked at, or that nobody's can be.
    pub(crate) fn checked(&self, settings: &Settings) -> &'static str {
        match (settings.text(settings::AUTH_SAME_USER), &self.0) {
            (Some("off"), _) => "off",
            (_, None) => "unreadable",
            (Some("all"), _) => "all",
            _ => "management",
        }
    }

    /// Whether this is a caller of another user, and one who is asked for a token for that.
    pub(crate) fn refuse(&self, settings: &Settings, door: Door, caller: Option<&Caller>) -> bool {
        let is_looked_at = match settings.text(settings::AUTH_SAME_USER) {
            Some("off") => false,
            Some("all") => true,
            _ => door == Door::Management,
        };
        is_looked_at && caller.is_some_and(|caller| self.is_foreign(&caller.0))
    }

    fn is_foreign(&self, ends: &Ends) -> bool {
        let Some(known) = &self.0 else {
            return false;
        };
        if !ends.remote.ip().is_loopback() {
            return false;
        }
        // Where it cannot be told it is foreign: who fills our file descriptors or hangs up at once is not let in by that.
        *ends.is_foreign.get_or_init(|| {
            let owner = known.kernel.owner(ends.remote, ends.local);
            owner.is_none_or(|owner| owner != known.own && owner != ROOT)
        })
    }
}

const ROOT: u32 = 0;

impl Caller {
    pub(crate) fn of(stream: &tokio::net::TcpStream) -> Option<Self> {
        let canonical =
            |address: SocketAddr| SocketAddr::new(address.ip().to_canonical(), address.port());
        let ends = Ends {
            remote: canonical(stream.peer_addr().ok()?),
            local: canonical(stream.local_addr().ok()?),
            is_foreign: OnceLock::new(),
        };
        Some(Self(Arc::new(ends)))
    }
}

#[cfg(target_os = "linux")]
mod kernel {
    use std::net::{IpAddr, SocketAddr};
    use std::os::fd::OwnedFd;
    use std::sync::Mutex;

    use rustix::net::netlink::{self, SocketAddrNetlink};
    use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};
    use rustix::net::{connect, recv, send, socket_with};

    use crate::tasks::lock;

    /// `SOCK_DIAG_BY_FAMILY` and `NLM_F_REQUEST` of Linux.
    const BY_FAMILY: u16 = 20;
    const REQUEST: u16 = 1;
    const HEAD: usize = 16;
    const TCP: u8 = 6;
    const ASKED: usize = HEAD + 56;
    /// Where they stand in `struct inet_diag_msg`, behind the head.
    const UID: usize = HEAD + 64;
    const INODE: usize = HEAD + 68;

    /// One socket for all questions, so that none fails for want of another.
    pub(super) struct Door(Mutex<(OwnedFd, u32)>);

    impl Door {
        pub(super) fn open() -> Option<Self> {
            let socket = socket_with(
                AddressFamily::NETLINK,
                SocketType::DGRAM,
                SocketFlags::CLOEXEC | SocketFlags::NONBLOCK,
                Some(netlink::SOCK_DIAG),
            );
            let socket = socket.ok()?;
            // The kernel itself, and nobody else, is heard.
            connect(&socket, &SocketAddrNetlink::new(0, 0)).ok()?;
            Some(Self(Mutex::new((socket, 0))))
        }

        /// The user who opened the socket that is bound to `at` and connected to `to`; none when nobody holds it open.
        pub(super) fn owner(&self, at: SocketAddr, to: SocketAddr) -> Option<u32> {
            let mut door = lock(&self.0);
            let (socket, number) = &mut *door;
            *number = number.wrapping_add(1);
            send(&*socket, &question(*number, at, to), SendFlags::empty()).ok()?;
            // The answer is there when `send` returns. One to an earlier question is passed over.
            let mut answer = [0; 1_024];
            loop {
                let (_, length) = recv(&*socket, &mut answer[..], RecvFlags::empty()).ok()?;
                let answer = answer.get(..length)?;
                if u32_at(answer, 8)? == *number {
                    return read(answer);
                }
            }
        }
    }

    /// A socket that was closed while data is still on its way has no inode and counts as root's: it is nobody's here.
    fn read(answer: &[u8]) -> Option<u32> {
        let is_socket = u16::from_ne_bytes(bytes(answer, 4)?) == BY_FAMILY;
        let is_held = u32_at(answer, INODE)? != 0;
        u32_at(answer, UID).filter(|_| is_socket && is_held)
    }

    /// `struct nlmsghdr` and `struct inet_diag_req_v2` for exactly one socket.
    fn question(number: u32, at: SocketAddr, to: SocketAddr) -> Vec<u8> {
        let length = u32::try_from(ASKED).unwrap_or_default();
        let mut asked = Vec::with_capacity(ASKED);
        asked.extend(length.to_ne_bytes());
        asked.extend(BY_FAMILY.to_ne_bytes());
        asked.extend(REQUEST.to_ne_bytes());
        asked.extend(number.to_ne_bytes());
        asked.extend([0; 4]);
        let family = if at.is_ipv4() {
            AddressFamily::INET
        } else {
            AddressFamily::INET6
        };
        asked.push(u8::try_from(family.as_raw()).unwrap_or_default());
        asked.extend([TCP, 0, 0]);
        // Any state.
        asked.extend([0xff; 4]);
        asked.extend(at.port().to_be_bytes());
        asked.extend(to.port().to_be_bytes());
        asked.extend(octets(at.ip()));
        asked.extend(octets(to.ip()));
        // Any interface, and no cookie.
        asked.extend([0; 4]);
        asked.extend([0xff; 8]);
        asked
    }

    fn octets(address: IpAddr) -> [u8; 16] {
        match address {
            IpAddr::V4(address) => {
                let mut octets = [0; 16];
                octets[..4].copy_from_slice(&address.octets());
                octets
            }
            IpAddr::V6(address) => address.octets(),
        }
    }

    fn u32_at(bytes_of: &[u8], at: usize) -> Option<u32> {
        Some(u32::from_ne_bytes(bytes(bytes_of, at)?))
    }

    fn bytes<const N: usize>(of: &[u8], at: usize) -> Option<[u8; N]> {
        of.get(at..at + N)?.try_into().ok()
    }

    #[cfg(test)]
    mod tests {
        use std::net::{Ipv6Addr, Shutdown, TcpListener, TcpStream};

        use super::*;

        #[test]
        fn a_socket_that_nobody_holds_has_no_owner() {
            let door = Door::open().expect("Linux tells");
            for ip in ["127.0.0.1", "::1"] {
                let Ok(listener) = TcpListener::bind((ip, 0)) else {
                    assert_eq!(
                        ip,
                        Ipv6Addr::LOCALHOST.to_string(),
                        "only IPv6 may be missing"
                    );
                    continue;
                };
                let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
                let (at, to) = (stream.local_addr().unwrap(), stream.peer_addr().unwrap());
                let own = door.owner(at, to);
                assert!(own.is_some(), "{ip}");
                // Who only stops sending is still there; what is closed is root's in the kernel's words.
                stream.shutdown(Shutdown::Write).unwrap();
                assert_eq!(door.owner(at, to), own, "{ip}");
                drop(stream);
                assert_eq!(door.owner(at, to), None, "{ip}");
                assert_eq!(door.owner(to, at), None, "{ip}: nobody accepted it");
            }
        }
    }
}

#[cfg(not(target_os = "linux"))]
mod kernel {
    use std::net::SocketAddr;

    pub(super) struct Door;

    impl Door {
        pub(super) fn open() -> Option<Self> {
            None
        }

        pub(super) fn owner(&self, _: SocketAddr, _: SocketAddr) -> Option<u32> {
            None
        }
    }
}
