//! Values that name hosts, ports and URLs.

use std::net::IpAddr;

use serde::de::Deserializer;
use url::{Host, Url};

use super::form::{list, scalar};

/// A host name or an address as `url` writes it, without brackets.
fn parse_host(text: &str) -> Option<String> {
    if let Ok(address) = text.parse::<IpAddr>() {
        return Some(address.to_string());
    }
    match Host::parse(text).ok()? {
        Host::Domain(name) => Some(name),
        Host::Ipv4(address) => Some(address.to_string()),
        Host::Ipv6(address) => Some(address.to_string()),
    }
}

pub(in crate::settings) fn host<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<String, D::Error> {
    scalar(
        deserializer,
        &"a host name or an address, without scheme and port, such as 0.0.0.0",
        parse_host,
    )
}

pub(in crate::settings) fn hosts<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Vec<String>, D::Error> {
    list(
        deserializer,
        "a host name or an address, without scheme and port, such as images.example.org",
        parse_host,
    )
}

pub(in crate::settings) fn ports<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Vec<u16>, D::Error> {
    list(deserializer, "a port from 1 to 65535", |text| {
        text.parse().ok().filter(|&port| port > 0)
    })
}

pub(in crate::settings) fn origins<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Vec<String>, D::Error> {
    list(
        deserializer,
        "an origin as browsers send it, such as https://app.example.org or http://localhost:3000, or *",
        |text| {
            let origin = || Some(Url::parse(text).ok()?.origin().ascii_serialization());
            (text == "*" || origin().as_deref() == Some(text)).then(|| text.to_owned())
        },
    )
}

/// The URL of an HTTP service, without a slash at its end, or nothing.
pub(in crate::settings) fn endpoint<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<String, D::Error> {
    scalar(
        deserializer,
        &"empty, or an http or https URL such as http://localhost:4318",
        |text| {
            let is_http = |url: Url| matches!(url.scheme(), "http" | "https") && url.has_host();
            let allowed = text.is_empty() || Url::parse(text).is_ok_and(is_http);
            allowed.then(|| text.trim_end_matches('/').to_owned())
        },
    )
}
