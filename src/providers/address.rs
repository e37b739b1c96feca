//! Which addresses an upstream may have (S12).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};
use std::sync::Arc;

use reqwest::Url;

/// The kind of provider that may name our Qwen proxy, as databases of the older program do.
pub(super) const QWEN_PROXY: &str = "qwen-proxy";
const OWN: &str = "an address of this gateway itself";

/// Cloud metadata services outside the link-local range: Alibaba, Azure, Oracle; Amazon and Google over IPv6.
const METADATA_V4: [[u8; 4]; 3] = [[100, 100, 100, 200], [168, 63, 129, 16], [192, 0, 0, 192]];
const METADATA_V6: [Ipv6Addr; 2] = [
    Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254),
    Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254),
];

/// Why no provider may live at this address, or None when one may. Loopback and private networks are fine.
pub(crate) fn refusal(address: IpAddr) -> Option<&'static str> {
    match address.to_canonical() {
        IpAddr::V4(v4) => refusal_v4(v4),
        IpAddr::V6(v6) if METADATA_V6.contains(&v6) => Some("a cloud metadata address"),
        IpAddr::V6(v6) if v6.is_unicast_link_local() => Some("a link-local address"),
        IpAddr::V6(v6) if v6.is_multicast() => Some("a multicast address"),
        IpAddr::V6(v6) if v6.is_unspecified() => Some("an unspecified address"),
        IpAddr::V6(v6) => embedded(v6).and_then(refusal_v4),
    }
}

fn refusal_v4(v4: Ipv4Addr) -> Option<&'static str> {
    if METADATA_V4.contains(&v4.octets()) {
        Some("a cloud metadata address")
    } else if v4.is_link_local() {
        Some("a link-local address")
    } else if v4.is_multicast() || v4.is_broadcast() {
        Some("a multicast address")
    } else if v4.octets().first() == Some(&0) {
        Some("an unspecified address")
    } else {
        None
    }
}

/// The IPv4 address that a gateway of the network takes this one for: NAT64, 6to4, and the old compatible form.
fn embedded(v6: Ipv6Addr) -> Option<Ipv4Addr> {
    let (high, low) = match v6.segments() {
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] | [0x2002, high, low, ..] => (high, low),
        [0, 0, 0, 0, 0, 0, high, low] if high != 0 => (high, low),
        _ => return None,
    };
    Some(Ipv4Addr::from_bits(
        (u32::from(high) << 16) | u32::from(low),
    ))
}

/// The ports this gateway listens on now: a provider there would ask us to ask us. Cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct OwnPorts(Option<Arc<Listening>>);

/// The Qwen proxy's port, then the others.
type Listening = dyn Fn() -> [u16; 4] + Send + Sync;

impl OwnPorts {
    pub(crate) fn new(listening: impl Fn() -> [u16; 4] + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(listening)))
    }

    /// Whether a provider of this kind must not reach this machine at the port of `url`.
    pub(super) fn has(&self, kind: &str, url: &Url) -> bool {
        let (Some(listening), Some(port)) = (&self.0, url.port_or_known_default()) else {
            return false;
        };
        let [qwen, others @ ..] = listening();
        others.contains(&port) || (qwen == port && kind != QWEN_PROXY)
    }

    /// Why a provider of this kind may not be at `url` as it is written.
    pub(super) fn refusal(&self, kind: &str, url: &Url) -> Option<&'static str> {
        if !self.has(kind, url) {
            return None;
        }
        let host = host(url)?;
        let is_here = host.parse().map_or_else(|_| is_localhost(host), is_own);
        is_here.then_some(OWN)
    }
}

/// Whether the URL as it is written names this machine's loopback.
pub(super) fn is_loopback(url: &Url) -> bool {
    host(url).is_some_and(|host| {
        host.parse::<IpAddr>().map_or_else(
            |_| is_localhost(host),
            |address| address.to_canonical().is_loopback(),
        )
    })
}

fn is_localhost(host: &str) -> bool {
    let name = host.to_ascii_lowercase();
    name == "localhost" || name.ends_with(".localhost")
}

/// Whether this machine has the address.
pub(super) fn is_own(address: IpAddr) -> bool {
    let address = address.to_canonical();
    // Only an address of its own can be bound; nothing is sent.
    address.is_loopback() || address.is_unspecified() || UdpSocket::bind((address, 0)).is_ok()
}

fn host(url: &Url) -> Option<&str> {
    let host = url.host_str()?;
    // The parser has already turned every spelling of an IPv4 address into the usual one.
    Some(
        host.trim_start_matches('[')
            .trim_end_matches(']')
            .trim_end_matches('.'),
    )
}

/// What is wrong with an address that people write, in words that follow its name.
pub(crate) fn text_refusal(text: &str, own: &OwnPorts) -> Option<String> {
    let Ok(url) = Url::parse(text.trim()) else {
        return Some("must be a URL".into());
    };
    if !matches!(url.scheme(), "http" | "https") {
        return Some("must begin with `http://` or `https://`".into());
    }
    let why = url_refusal(&url).or_else(|| own.refusal("", &url))?;
    Some(format!("must not be {why}"))
}

/// Why this URL may not be called as it is written. Names are checked again when they are resolved.
pub(crate) fn url_refusal(url: &Url) -> Option<&'static str> {
    let host = host(url)?;
    match host.parse() {
        Ok(address) => refusal(address),
        Err(_)
            if ["metadata.google.internal", "metadata.goog"]
                .iter()
                .any(|name| host.eq_ignore_ascii_case(name)) =>
        {
            Some("a cloud metadata address")
        }
        Err(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_is_seen_through() {
        for url in [
            "http://169.254.169.254/v1",
            "http://0xa9fea9fe/",
            "http://2852039166/",
            "http://[::ffff:169.254.169.254]/",
            "http://[::ffff:a9fe:a9fe]/",
            "http://[::169.254.169.254]/",
            "http://[64:ff9b::169.254.169.254]/",
            "http://[2002:a9fe:a9fe::1]/",
            "http://0251.0376.0251.0376/",
            "http://169.254.43518/",
            "http://168.63.129.16/",
            "http://255.255.255.255/",
            "http://[ff02::1]/",
            "http://[fd20:ce::254]/",
            "http://0.0.0.0:1",
            "http://0/",
            "http://[::]/",
            "http://[fe80::1]/",
            "http://[fd00:ec2::254]/",
            "http://224.0.0.1/",
            "http://100.100.100.200/",
            "http://metadata.google.internal./",
        ] {
            assert!(url_refusal(&Url::parse(url).unwrap()).is_some(), "{url}");
        }
        for url in [
            "http://127.0.0.1:1",
            "http://localhost",
            "http://[::1]/",
            "http://192.168.0.7/",
            "https://api.example.com/v1",
        ] {
            assert_eq!(url_refusal(&Url::parse(url).unwrap()), None, "{url}");
        }
    }

    #[test]
    fn our_own_ports_are_seen_in_every_spelling() {
        let own = OwnPorts::new(|| [3000, 3001, 3002, 11_434]);
        let refused =
            |kind: &str, url: &str| own.refusal(kind, &Url::parse(url).unwrap()).is_some();
        for url in [
            "http://127.0.0.1:3001/v1",
            "http://localhost:3002",
            "http://a.localhost.:3001",
            "http://2130706433:3001",
            "http://0x7f.1:3002",
            "http://[::1]:3001",
            "http://[::ffff:127.0.0.1]:3001",
            "http://127.9.9.9:3001",
            "http://0.0.0.0:3001",
            "http://localhost:11434/v1",
        ] {
            assert!(refused("openai", url), "{url}");
            assert!(refused(QWEN_PROXY, url), "{url}");
        }
        assert!(refused("openai", "http://localhost:3000"));
        assert!(!refused(QWEN_PROXY, "http://localhost:3000"));
        for url in [
            "http://127.0.0.1:3003",
            "http://192.0.2.1:3001",
            "https://api.example.com",
        ] {
            assert!(!refused("openai", url), "{url}");
        }
        assert!(text_refusal("ftp://a", &own).is_some());
        assert!(text_refusal("http://localhost:3000", &own).is_some());
        assert_eq!(text_refusal("https://chat.qwen.ai", &own), None);
    }
}
