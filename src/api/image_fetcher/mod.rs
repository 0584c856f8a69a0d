//! Images by URL, from hosts that the operator has listed and from nowhere else.
//!
//! A URL is an order to this server to open a connection, so: https only, listed hosts and ports only,
//! names that lead to public addresses only (the operator may list a literal address of any kind), few
//! redirects, each checked like the URL itself, no proxy, and bounds on bytes and time. The client connects to the addresses that its
//! own resolver checked, so a name can't change its address between check and connection.
//!
//! [`LabelStudioFiles`] are got from the one Label Studio that the operator has named.

mod label_studio;
mod public_dns;

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use reqwest::{Client, Response, header, redirect};
use tokio::sync::OnceCell;
use url::{Host, Url};

pub use self::label_studio::LabelStudioFiles;
use self::public_dns::{PublicResolver, ResolveError};
use super::error::{ApiError, ErrorCode};
use crate::http_client;
use crate::settings::Settings;

/// How often a URL may lead to another.
const MOST_REDIRECTS: usize = 3;

/// Fetches images over https from the hosts in `image_hosts`.
#[derive(Debug, Clone)]
pub struct ImageFetcher {
    hosts: Vec<String>,
    ports: Vec<u16>,
    timeout: Duration,
    max_bytes: u64,
    client: Arc<OnceCell<Client>>,
}

impl ImageFetcher {
    pub fn new(settings: &Settings) -> Self {
        Self {
            hosts: settings.image_hosts.clone(),
            ports: settings.image_ports.clone(),
            timeout: settings.image_fetch_timeout,
            max_bytes: settings.max_body.as_u64(),
            client: Arc::default(),
        }
    }

    /// The bytes behind `url`.
    ///
    /// # Errors
    /// [`ErrorCode::ImageUrlNotAllowed`] before anything is connected to, and
    /// [`ErrorCode::ImageFetchFailed`] after.
    pub async fn fetch(&self, url: &str) -> Result<Bytes, ApiError> {
        let fetched = async {
            let url = self.check(url)?;
            let check = |url: &str| self.check(url);
            download(self.client().await?, url, self.max_bytes, check).await
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
        let port = url.port_or_known_default().unwrap_or_default();
        if !self.ports.contains(&port) {
            return Err(not_allowed(format!(
                "the port {port} is not among those that this server fetches from"
            )));
        }
        Ok(url)
    }

    /// The client of all fetches, built when it is first needed: a server that fetches no images
    /// needs no root certificates.
    async fn client(&self) -> Result<&Client, ApiError> {
        let build = async || {
            http_client::builder()
                .https_only(true)
                .no_proxy()
                .redirect(redirect::Policy::none())
                .dns_resolver(PublicResolver)
                .build()
                .map_err(|error| ApiError::new(ErrorCode::Internal, error.to_string()))
        };
        self.client.get_or_try_init(build).await
    }
}

/// Gets what is behind `url`, which has passed `check`, as every URL to which it leads must.
async fn download(
    client: &Client,
    url: Url,
    max_bytes: u64,
    check: impl Fn(&str) -> Result<Url, ApiError>,
) -> Result<Bytes, ApiError> {
    let mut url = url;
    for _ in 0..=MOST_REDIRECTS {
        let response = client.get(url.clone()).send().await.map_err(transport)?;
        if !response.status().is_redirection() {
            return body(response, max_bytes).await;
        }
        url = check(target(&url, &response)?.as_str()).map_err(|error| {
            not_allowed(format!("it leads elsewhere, and there: {}", error.detail))
        })?;
    }
    Err(failed(format!(
        "it leads elsewhere more than {MOST_REDIRECTS} times"
    )))
}

/// Where a redirect leads.
fn target(url: &Url, response: &Response) -> Result<Url, ApiError> {
    let location = response.headers().get(header::LOCATION);
    location
        .and_then(|location| location.to_str().ok())
        .and_then(|location| url.join(location).ok())
        .ok_or_else(|| {
            let status = response.status();
            failed(format!("the host answered {status} without a place to go"))
        })
}

async fn body(response: Response, max_bytes: u64) -> Result<Bytes, ApiError> {
    let status = response.status();
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
    let mut source = error.source();
    while let Some(cause) = source {
        match cause.downcast_ref::<ResolveError>() {
            Some(error @ ResolveError::NotPublic { .. }) => return not_allowed(error.to_string()),
            Some(error @ ResolveError::Unknown { .. }) => return failed(error),
            None => source = cause.source(),
        }
    }
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
    use axum::extract::Path;
    use axum::http::StatusCode;
    use axum::response::{IntoResponse, Redirect};
    use axum::routing::get;
    use tokio::net::TcpListener;

    use super::*;

    fn fetcher(hosts: &[&str]) -> ImageFetcher {
        ImageFetcher {
            hosts: hosts.iter().map(ToString::to_string).collect(),
            ports: vec![443, 8443],
            timeout: Duration::from_secs(5),
            max_bytes: 1_000,
            client: Arc::default(),
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
            "https://images.example.org:22/cow.jpg",
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
    async fn a_listed_name_that_resolves_to_loopback_is_refused() {
        let fetcher = fetcher(&["localhost"]);
        let error = fetcher.fetch("https://localhost/").await.unwrap_err();
        assert_eq!(error.code, ErrorCode::ImageUrlNotAllowed);
        assert!(error.detail.contains("no public address"), "{error}");
    }

    #[tokio::test]
    async fn an_unknown_name_is_reported() {
        let fetcher = fetcher(&["nowhere.invalid"]);
        let error = fetcher.fetch("https://nowhere.invalid/").await.unwrap_err();
        assert_eq!(error.code, ErrorCode::ImageFetchFailed);
        assert!(
            error.detail.contains("`nowhere.invalid` can't be resolved"),
            "{error}"
        );
    }

    #[tokio::test]
    async fn a_listed_address_is_connected_to() {
        let mut fetcher = fetcher(&["127.0.0.1"]);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        fetcher.ports = vec![listener.local_addr().unwrap().port()];
        let url = format!("https://{}/", listener.local_addr().unwrap());
        let (error, connection) = tokio::join!(fetcher.fetch(&url), async {
            // Closed at once: the TLS handshake fails.
            listener.accept().await.map(drop)
        });
        assert!(connection.is_ok());
        assert_eq!(error.unwrap_err().code, ErrorCode::ImageFetchFailed);
    }

    /// What `download` makes of a host on loopback that gives every request this answer.
    async fn download_of(
        response: impl IntoResponse + Clone + Send + Sync + 'static,
    ) -> Result<Bytes, ApiError> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let host = Router::new().fallback(move || async move { response });
        tokio::spawn(async move { axum::serve(listener, host).await });
        from_loopback(&url).await
    }

    /// What `download` makes of a URL, with a check that passes all of loopback but `/forbidden`.
    async fn from_loopback(url: &str) -> Result<Bytes, ApiError> {
        let client = http_client::builder()
            .no_proxy()
            .redirect(redirect::Policy::none())
            .build()
            .unwrap();
        let check = |url: &str| match url.ends_with("/forbidden") {
            true => Err(not_allowed("it is forbidden")),
            false => Ok(url.parse().unwrap()),
        };
        download(&client, url.parse().unwrap(), 1_000, check).await
    }

    #[tokio::test]
    async fn redirects_are_followed_a_few_times_and_checked_each_time() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let host = format!("http://{}", listener.local_addr().unwrap());
        // `/3` leads to `/2` and so on, and `/0` is the file.
        let step = async |Path(left): Path<usize>| match left {
            0 => [7; 10].into_response(),
            _ => Redirect::temporary(&(left - 1).to_string()).into_response(),
        };
        let routes = Router::new()
            .route("/{left}", get(step))
            .route("/out", get(async || Redirect::temporary("/forbidden")))
            .route("/nowhere", get(async || StatusCode::FOUND));
        tokio::spawn(async move { axum::serve(listener, routes).await });
        let bytes = from_loopback(&format!("{host}/3")).await.unwrap();
        assert_eq!(bytes, [7; 10][..]);
        for (path, code, words) in [
            ("4", ErrorCode::ImageFetchFailed, "more than 3 times"),
            (
                "out",
                ErrorCode::ImageUrlNotAllowed,
                "there: it is forbidden",
            ),
            ("nowhere", ErrorCode::ImageFetchFailed, "without a place"),
        ] {
            let error = from_loopback(&format!("{host}/{path}")).await.unwrap_err();
            assert_eq!(error.code, code, "{path}");
            assert!(error.detail.contains(words), "{error}");
        }
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
    async fn failures_of_the_host_are_reported() {
        for status in [404, 500] {
            let status = StatusCode::from_u16(status).unwrap();
            let error = download_of(status).await.unwrap_err();
            assert_eq!(error.code, ErrorCode::ImageFetchFailed);
            assert!(error.detail.contains(status.as_str()), "{error}");
        }
    }
}
