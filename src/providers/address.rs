//! Which addresses an upstream may have (S12).

use std::net::{IpAddr, Ipv6Addr};

use reqwest::Url;

/// Why no provider may live at this address, or None when one may. Loopback and private networks are fine.
pub(crate) fn refusal(address: IpAddr) -> Option<&'static str> {
    match address.to_canonical() {
        IpAddr::V4(v4) if v4.octets() == [100, 100, 100, 200] => Some("a cloud metadata address"),
        IpAddr::V4(v4) if v4.is_link_local() => Some("a link-local address"),
        IpAddr::V4(v4) if v4.is_multicast() || v4.is_broadcast() => Some("a multicast address"),
        IpAddr::V4(v4) if v4.octets().first() == Some(&0) => Some("an unspecified address"),
        IpAddr::V6(v6) if v6 == METADATA_V6 => Some("a cloud metadata address"),
        IpAddr::V6(v6) if v6.is_unicast_link_local() => Some("a link-local address"),
        IpAddr::V6(v6) if v6.is_multicast() => Some("a multicast address"),
        IpAddr::V6(v6) if v6.is_unspecified() => Some("an unspecified address"),
        IpAddr::V4(_) | IpAddr::V6(_) => None,
    }
}

/// Why this URL may not be called as it is written. Names are checked again when they are resolved.
pub(crate) fn url_refusal(url: &Url) -> Option<&'static str> {
    let host = url.host_str()?;
    // The parser has already turned every spelling of an IPv4 address into the usual one.
    let host = host
        .trim_start_matches('[')
        .trim_end_matches(']')
        .trim_end_matches('.');
    match host.parse() {
        Ok(address) => refusal(address),
        Err(_) if host.eq_ignore_ascii_case("metadata.google.internal") => {
            Some("a cloud metadata address")
        }
        Err(_) => None,
    }
}

/// Amazon's metadata service over IPv6.
const METADATA_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254);

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
}
