//! Images by URL, from hosts that the operator has listed and from nowhere else.
//!
//! A URL is an order to this server to open a connection, so: https only, listed hosts only, the
//! name is resolved once and the connection goes to that very address, which must be a public one
//! (unless the operator listed a literal address), no redirect is followed, no proxy is used, and
//! bytes and time are bounded.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use reqwest::redirect;
use url::{Host, Url};

use crate::settings::Settings;

use crate::api::respond::error::{ApiError, ErrorCode};

/// Fetches images over https from the hosts in `image_hosts`.
#[derive(Debug, Clone)]
pub struct ImageFetcher {
    hosts: Vec<String>,
    timeout: Duration,
    max_bytes: u64,
}

/// A URL that may be fetched, and the addresses that it stands for.
struct Target {
    url: Url,
    host: String,
    addresses: Vec<SocketAddr>,
}

impl ImageFetcher {
    pub fn new(settings: &Settings) -> Self {
        Self {
            hosts: settings.image_hosts.clone(),
            timeout: settings.image_fetch_timeout,
            max_bytes: settings.max_body.as_u64(),
        }
    }

    /// The bytes behind `url`.
    ///
    /// # Errors
    /// [`ErrorCode::ImageUrlNotAllowed`] before anything was connected to, and
    /// [`ErrorCode::ImageFetchFailed`] after.
    pub async fn fetch(&self, url: &str) -> Result<Bytes, ApiError> {
        let fetched = async {
            let target = self.resolve(self.check(url)?).await?;
            download(&client(&target)?, target.url, self.max_bytes).await
        };
        tokio::time::timeout(self.timeout, fetched)
            .await
            .unwrap_or_else(|_| {
                Err(failed(format!(
                    "it did not arrive within {:?}",
                    self.timeout
                )))
            })
    }

    /// The URL, if its form and its host are allowed.
    fn check(&self, url: &str) -> Result<Url, ApiError> {
        let url = Url::parse(url).map_err(|error| not_allowed(format!("not a URL: {error}")))?;
        if self.hosts.is_empty() {
            return Err(not_allowed(
                "this server fetches no images; send the file itself, or base64",
            ));
        }
        if url.scheme() != "https" {
            return Err(not_allowed("only https is fetched"));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(not_allowed(
                "a URL with a user name or password is not fetched",
            ));
        }
        // As they are listed: an IPv6 address without the brackets that it has in a URL.
        let host = match url.host() {
            Some(Host::Ipv6(ip)) => ip.to_string(),
            Some(host) => host.to_string(),
            None => String::new(),
        };
        if !self
            .hosts
            .iter()
            .any(|listed| listed.eq_ignore_ascii_case(&host))
        {
            return Err(not_allowed(format!(
                "the host `{host}` is not among those that this server fetches from"
            )));
        }
        Ok(url)
    }

    /// Resolves the host, once. A literal address was listed by the operator as it stands; a name
    /// must not lead into the server's own network.
    async fn resolve(&self, url: Url) -> Result<Target, ApiError> {
        let port = url.port_or_known_default().unwrap_or(443);
        let (host, addresses) = match url.host() {
            Some(Host::Ipv4(ip)) => (ip.to_string(), vec![(ip, port).into()]),
            Some(Host::Ipv6(ip)) => (ip.to_string(), vec![(ip, port).into()]),
            Some(Host::Domain(name)) => {
                let found = tokio::net::lookup_host((name, port))
                    .await
                    .map_err(|error| failed(format!("`{name}` can't be resolved: {error}")))?;
                let public = found.filter(|address| is_public(address.ip()));
                (name.to_owned(), public.collect::<Vec<_>>())
            }
            None => return Err(not_allowed("the URL has no host")),
        };
        if addresses.is_empty() {
            return Err(not_allowed(format!(
                "`{host}` has no public address; private ones are not connected to"
            )));
        }
        Ok(Target {
            url,
            host,
            addresses,
        })
    }
}

/// A client that can reach the target's addresses only.
fn client(target: &Target) -> Result<reqwest::Client, ApiError> {
    reqwest::Client::builder()
        .https_only(true)
        .no_proxy()
        .redirect(redirect::Policy::none())
        .resolve_to_addrs(&target.host, &target.addresses)
        .build()
        .map_err(|error| ApiError::new(ErrorCode::Internal, error.to_string()))
}

async fn download(client: &reqwest::Client, url: Url, max_bytes: u64) -> Result<Bytes, ApiError> {
    let response = client.get(url).send().await.map_err(transport)?;
    let status = response.status();
    if status.is_redirection() {
        return Err(failed(format!(
            "the host answered {status}, and redirects are not followed"
        )));
    }
    if !status.is_success() {
        return Err(failed(format!("the host answered {status}")));
    }
    if response
        .content_length()
        .is_some_and(|length| length > max_bytes)
    {
        return Err(too_large(max_bytes));
    }
    let mut bytes = BytesMut::new();
    let mut chunks = response.bytes_stream();
    while let Some(chunk) = chunks.next().await {
        bytes.extend_from_slice(&chunk.map_err(transport)?);
        if bytes.len() as u64 > max_bytes {
            return Err(too_large(max_bytes));
        }
    }
    Ok(bytes.freeze())
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

fn not_allowed(reason: impl Into<String>) -> ApiError {
    ApiError::new(ErrorCode::ImageUrlNotAllowed, reason)
}

fn failed(reason: impl std::fmt::Display) -> ApiError {
    ApiError::new(
        ErrorCode::ImageFetchFailed,
        format!("the image could not be fetched: {reason}"),
    )
}

fn transport(error: reqwest::Error) -> ApiError {
    // Without the URL: it may carry a signature, and the client knows it anyway.
    failed(error.without_url())
}

fn too_large(max_bytes: u64) -> ApiError {
    ApiError::new(
        ErrorCode::ImageTooLarge,
        format!("the image behind the URL is larger than {max_bytes} bytes"),
    )
}

#[cfg(test)]
mod tests {
    use axum::Router;
    use axum::http::StatusCode;
    use axum::response::IntoResponse;
    use tokio::net::TcpListener;

    use super::*;

    fn fetcher(hosts: &[&str]) -> ImageFetcher {
        ImageFetcher {
            hosts: hosts.iter().map(ToString::to_string).collect(),
            timeout: Duration::from_secs(5),
            max_bytes: 1_000,
        }
    }

    #[test]
    fn only_https_urls_of_listed_hosts_pass() {
        let fetcher = fetcher(&["images.example.org"]);
        assert!(fetcher.check("https://images.example.org/cow.jpg").is_ok());
        assert!(
            fetcher
                .check("https://IMAGES.example.org:8443/cow.jpg")
                .is_ok()
        );
        for url in [
            "http://images.example.org/cow.jpg",
            "https://example.org/cow.jpg",
            "https://images.example.org.evil.com/cow.jpg",
            "https://evil.com#images.example.org",
            "https://images.example.org@evil.com/",
            "https://user:secret@images.example.org/",
            "https://127.0.0.1/",
            "https://[::1]/",
            "https://",
        ] {
            let error = fetcher.check(url).unwrap_err();
            assert_eq!(error.code, ErrorCode::ImageUrlNotAllowed, "{url}");
        }
    }

    #[test]
    fn without_listed_hosts_nothing_is_fetched() {
        let error = fetcher(&[]).check("https://example.org/").unwrap_err();
        assert_eq!(error.code, ErrorCode::ImageUrlNotAllowed);
    }

    #[tokio::test]
    async fn a_listed_name_that_leads_to_loopback_is_refused() {
        let fetcher = fetcher(&["localhost"]);
        let error = fetcher.fetch("https://localhost/").await.unwrap_err();
        assert_eq!(error.code, ErrorCode::ImageUrlNotAllowed);
        assert!(error.detail.contains("no public address"), "{error}");
    }

    #[tokio::test]
    async fn a_listed_literal_address_is_taken_as_it_stands() {
        let fetcher = fetcher(&["127.0.0.1", "::1"]);
        for (url, address) in [
            ("https://127.0.0.1:4443/", "127.0.0.1:4443"),
            ("https://[::1]:4443/", "[::1]:4443"),
            ("https://[0:0::1]/", "[::1]:443"),
        ] {
            let target = fetcher.resolve(fetcher.check(url).unwrap()).await.unwrap();
            assert_eq!(target.addresses, [address.parse().unwrap()]);
        }
    }

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

    /// What `download` makes of a host on loopback that gives every request this answer.
    async fn download_of(
        response: impl IntoResponse + Clone + Send + Sync + 'static,
    ) -> Result<Bytes, ApiError> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let host = Router::new().fallback(move || async move { response });
        tokio::spawn(async move { axum::serve(listener, host).await });
        let client = reqwest::Client::builder()
            .no_proxy()
            .redirect(redirect::Policy::none())
            .build()
            .unwrap();
        download(&client, url.parse().unwrap(), 1_000).await
    }

    #[tokio::test]
    async fn a_file_within_the_limit_arrives_whole() {
        let bytes = download_of([7; 1_000]).await;
        assert_eq!(bytes.unwrap(), [7; 1_000][..]);
    }

    #[tokio::test]
    async fn a_file_over_the_limit_is_refused() {
        let error = download_of([7; 1_001]).await;
        assert_eq!(error.unwrap_err().code, ErrorCode::ImageTooLarge);
    }

    #[tokio::test]
    async fn redirects_and_failures_of_the_host_are_reported() {
        for status in [302, 404, 500] {
            let status = StatusCode::from_u16(status).unwrap();
            let response = (status, [("location", "https://a.b/")]);
            let error = download_of(response).await.unwrap_err();
            assert_eq!(error.code, ErrorCode::ImageFetchFailed);
            assert!(error.detail.contains(status.as_str()), "{error}");
        }
    }
}
