//! A resolver that finds public addresses only, so that a name can't lead into the server's own
//! network.

use std::io;
use std::net::IpAddr;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};

/// Resolves names as the operating system does, and drops all addresses that are not public.
#[derive(Debug, Clone, Copy)]
pub struct PublicResolver;

/// Why a name was not resolved.
#[derive(Debug, thiserror::Error)]
pub enum ResolveError {
    #[error("`{name}` has no public address; private ones are not connected to")]
    NotPublic { name: String },
    #[error("`{name}` can't be resolved: {error}")]
    Unknown { name: String, error: io::Error },
}

impl Resolve for PublicResolver {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            let name = name.as_str().to_owned();
            // reqwest replaces port 0 by the URL's.
            let found = tokio::net::lookup_host((name.as_str(), 0)).await;
            let public: io::Result<Vec<_>> =
                found.map(|found| found.filter(|address| is_public(address.ip())).collect());
            match public {
                Ok(public) if public.is_empty() => Err(ResolveError::NotPublic { name }.into()),
                Ok(public) => Ok(Box::new(public.into_iter()) as Addrs),
                Err(error) => Err(ResolveError::Unknown { name, error }.into()),
            }
        })
    }
}

/// Whether an address lies in the public internet (the special-purpose registries of RFC 6890).
fn is_public(ip: IpAddr) -> bool {
    match ip.to_canonical() {
        IpAddr::V4(ip) => {
            let [a, b, c, _] = ip.octets();
            !(ip.is_private()
                || ip.is_loopback()
                || ip.is_link_local()
                || ip.is_broadcast()
                || ip.is_documentation()
                || ip.is_multicast()
                || a == 0
                // Carrier-grade NAT, protocol assignments, benchmarks, reserved.
                || (a == 100 && (64..128).contains(&b))
                || (a == 192 && b == 0 && c == 0)
                || (a == 198 && (18..20).contains(&b))
                || a >= 240)
        }
        // Only 2000::/3 is given out; of that, Teredo (2001::/32), 6to4 (2002::/16) and the
        // documentation range lead elsewhere.
        IpAddr::V6(ip) => {
            let [first, second, ..] = ip.segments();
            first & 0xe000 == 0x2000
                && first != 0x2002
                && !(first == 0x2001 && matches!(second, 0 | 0x0db8))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn special_addresses_are_not_public() {
        for ip in ["8.8.8.8", "93.184.215.14", "2606:4700:4700::1111"] {
            assert!(is_public(ip.parse().unwrap()), "{ip}");
        }
        for ip in [
            "127.0.0.1",
            "10.1.2.3",
            "172.16.0.1",
            "192.168.1.1",
            "169.254.169.254",
            "0.0.0.0",
            "100.64.0.1",
            "192.0.0.8",
            "198.18.0.1",
            "224.0.0.1",
            "255.255.255.255",
            "::1",
            "::",
            "fe80::1",
            "fc00::1",
            "fd00:ec2::254",
            "::ffff:127.0.0.1",
            "64:ff9b::7f00:1",
            "2002:7f00:1::",
            "2001:db8::1",
            "ff02::1",
        ] {
            assert!(!is_public(ip.parse().unwrap()), "{ip}");
        }
    }
}
