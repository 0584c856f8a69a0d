//! Requests to the hub: the commit of a revision, a file's metadata, and its bytes.

use std::error::Error;
use std::io::{self, ErrorKind};
use std::ops::Range;
use std::time::Duration;

use reqwest::header::{AUTHORIZATION, ETAG, HeaderMap, HeaderName, HeaderValue, LOCATION, RANGE};
use reqwest::{Method, Response, StatusCode, Url, redirect};
use serde::Deserialize;

use super::backoff::Backoff;
use super::cache::is_commit;
use super::error::HubError;
use super::settings::HubSettings;
use crate::http_client;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// A connection without data for this long counts as cut.
const READ_TIMEOUT: Duration = Duration::from_secs(60);
const MAX_RELATIVE_REDIRECTS: usize = 5;
const USER_AGENT: &str = concat!("paligemma-server/", env!("CARGO_PKG_VERSION"));

const ERROR_CODE: &str = "x-error-code";
const LINKED_ETAG: HeaderName = HeaderName::from_static("x-linked-etag");
const LINKED_SIZE: HeaderName = HeaderName::from_static("x-linked-size");

/// One repository on the hub.
pub(super) struct Remote {
    id: String,
    endpoint: String,
    base: Url,
    authorization: Option<HeaderValue>,
    retry_delay: Duration,
    /// Follows redirects.
    files: reqwest::Client,
    /// Follows none: the second host's response lacks the hub's ETag.
    metadata: reqwest::Client,
}

/// Why an attempt failed.
pub(super) enum Interruption {
    /// A retry may get further.
    Transient(String),
    Final(HubError),
}

impl From<HubError> for Interruption {
    fn from(error: HubError) -> Self {
        Self::Final(error)
    }
}

/// What a revision names.
#[derive(Debug)]
pub(super) struct Commit {
    pub(super) hash: String,
    /// The names of all its files; none if the hub does not tell.
    pub(super) files: Vec<String>,
}

/// A file's metadata.
#[derive(Debug, Clone)]
pub(super) struct RemoteFile {
    pub(super) name: String,
    /// Identifies the content: SHA-256 for large files, git hash for small ones.
    pub(super) etag: String,
    /// In bytes.
    pub(super) size: u64,
}

impl Remote {
    pub(super) fn new(owner: &str, name: &str, settings: &HubSettings) -> Result<Self, HubError> {
        let endpoint = settings.endpoint.trim_end_matches('/').to_owned();
        let bad_endpoint = |reason: String| HubError::InvalidEndpoint {
            endpoint: endpoint.clone(),
            reason,
        };
        let base = Url::parse(&endpoint).map_err(|error| bad_endpoint(error.to_string()))?;
        if !["http", "https"].contains(&base.scheme()) {
            return Err(bad_endpoint("it is neither http nor https".to_owned()));
        }
        let authorization = settings.token.as_deref().map(authorization).transpose()?;
        let client = |builder: reqwest::ClientBuilder| {
            builder.build().map_err(|error| HubError::UnexpectedAnswer {
                endpoint: endpoint.clone(),
                what: format!("the HTTP client can't be created: {error}"),
            })
        };
        let files = client(http())?;
        let metadata = client(http().redirect(redirect::Policy::none()))?;
        Ok(Self {
            id: format!("{owner}/{name}"),
            base,
            authorization,
            retry_delay: settings.retry_delay,
            files,
            metadata,
            endpoint,
        })
    }

    pub(super) fn id(&self) -> &str {
        &self.id
    }

    pub(super) fn backoff(&self) -> Backoff {
        Backoff::new(self.retry_delay)
    }

    /// The commit that a branch, tag or commit hash currently names, and its files.
    pub(super) async fn commit(&self, revision: &str) -> Result<Commit, HubError> {
        #[derive(Deserialize)]
        struct Info {
            sha: String,
            #[serde(default)]
            siblings: Vec<Sibling>,
        }
        #[derive(Deserialize)]
        struct Sibling {
            rfilename: String,
        }
        let path = ["api", "models"].into_iter().chain(self.id.split('/'));
        let url = self.url(path.chain(["revision", revision]))?;
        let answer = self.send(&self.files, Method::GET, &url).await?;
        let (status, code) = (answer.status(), header(answer.headers(), ERROR_CODE));
        match status {
            _ if status.is_success() => {}
            StatusCode::NOT_FOUND => return Err(self.not_found(revision)),
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                return Err(self.refused(status, code, revision));
            }
            _ => return Err(self.unreachable(status.to_string())),
        }
        let body = answer
            .bytes()
            .await
            .map_err(|error| self.unreachable(transport_reason(&error)))?;
        let info: Info = serde_json::from_slice(&body)
            .map_err(|_| self.unexpected("the body is not the expected JSON".to_owned()))?;
        if !is_commit(&info.sha) {
            let commit = info.sha;
            return Err(self.unexpected(format!("`{commit}` as the commit of `{revision}`")));
        }
        let files = info.siblings.into_iter();
        Ok(Commit {
            hash: info.sha,
            files: files.map(|file| file.rfilename).collect(),
        })
    }

    /// A file's metadata at a commit, or `None` if there is no such file.
    pub(super) async fn describe(
        &self,
        commit: &str,
        file: &str,
    ) -> Result<Option<RemoteFile>, HubError> {
        let answer = self.head(self.file_url(commit, file)?).await?;
        let status = answer.status();
        let code = header(answer.headers(), ERROR_CODE);
        match status {
            StatusCode::NOT_FOUND => match code {
                Some("RepoNotFound" | "RevisionNotFound") => return Err(self.not_found(commit)),
                _ => return Ok(None),
            },
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                return Err(self.refused(status, code, commit));
            }
            _ if status.is_success() || status.is_redirection() => {}
            _ => return Err(self.unreachable(format!("{status} for {file}"))),
        }
        let headers = answer.headers();
        let etag = header(headers, LINKED_ETAG).or_else(|| header(headers, ETAG));
        let etag = etag.map(bare_etag).filter(|etag| is_file_name(etag));
        let size = header(headers, LINKED_SIZE)
            .or_else(|| header(headers, reqwest::header::CONTENT_LENGTH))
            .and_then(|size| size.parse().ok());
        match (etag, size) {
            (Some(etag), Some(size)) => Ok(Some(RemoteFile {
                name: file.to_owned(),
                etag: etag.to_owned(),
                size,
            })),
            _ => Err(self.unexpected(format!("no usable ETag or no size for {file}"))),
        }
    }

    /// A file's bytes or, where the server can do that (status 206), a range of them.
    pub(super) async fn open(
        &self,
        commit: &str,
        file: &str,
        range: Option<Range<u64>>,
    ) -> Result<Response, Interruption> {
        let url = self.file_url(commit, file)?;
        let mut request = self.authorized(self.files.get(url));
        if let Some(Range { start, end }) = range {
            request = request.header(RANGE, format!("bytes={start}-{}", end.saturating_sub(1)));
        }
        let answer = request
            .send()
            .await
            .map_err(|error| Interruption::Transient(transport_reason(&error)))?;
        let (status, code) = (answer.status(), header(answer.headers(), ERROR_CODE));
        match status {
            _ if status.is_success() => Ok(answer),
            StatusCode::NOT_FOUND => Err(self.not_found(commit).into()),
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                Err(self.refused(status, code, commit).into())
            }
            _ => Err(Interruption::Transient(status.to_string())),
        }
    }

    /// HEAD without following redirects to another host, because the hub's own response carries the
    /// metadata. Follows relative redirects, which lead to a renamed repository on the same hub.
    async fn head(&self, mut url: Url) -> Result<Response, HubError> {
        for _ in 0..=MAX_RELATIVE_REDIRECTS {
            let answer = self.send(&self.metadata, Method::HEAD, &url).await?;
            let location = header(answer.headers(), LOCATION);
            match location.filter(|location| is_relative(location)) {
                Some(location) if answer.status().is_redirection() => {
                    url = url
                        .join(location)
                        .map_err(|error| self.unexpected(format!("a redirect to {error}")))?;
                }
                _ => return Ok(answer),
            }
        }
        Err(self.unexpected("too many redirects".to_owned()))
    }

    /// Sends a request, again and again while the hub has transient troubles.
    async fn send(
        &self,
        client: &reqwest::Client,
        method: Method,
        url: &Url,
    ) -> Result<Response, HubError> {
        let mut backoff = self.backoff();
        loop {
            let request = self.authorized(client.request(method.clone(), url.clone()));
            let failure = match request.send().await {
                Ok(answer) if !is_transient(answer.status()) => return Ok(answer),
                Ok(answer) => answer.status().to_string(),
                Err(error) => transport_reason(&error),
            };
            let Some(pause) = backoff.pause() else {
                return Err(self.unreachable(failure));
            };
            let endpoint = &self.endpoint;
            tracing::warn!(
                "no usable response from the hub at {endpoint} ({failure}); it is asked again in {pause:?}"
            );
            tokio::time::sleep(pause).await;
        }
    }

    fn authorized(&self, request: reqwest::RequestBuilder) -> reqwest::RequestBuilder {
        match &self.authorization {
            Some(authorization) => request.header(AUTHORIZATION, authorization),
            None => request,
        }
    }

    fn file_url(&self, commit: &str, file: &str) -> Result<Url, HubError> {
        let path = self.id.split('/').chain(["resolve", commit]);
        // A file in a folder has several segments.
        self.url(path.chain(file.split('/')))
    }

    /// A path under the endpoint.
    fn url<'a>(&self, path: impl Iterator<Item = &'a str>) -> Result<Url, HubError> {
        let mut url = self.base.clone();
        url.path_segments_mut()
            .map_err(|()| self.unexpected("an address without a path".to_owned()))?
            .pop_if_empty()
            .extend(path);
        Ok(url)
    }

    fn refused(&self, status: StatusCode, code: Option<&str>, revision: &str) -> HubError {
        // Without access, the hub answers like this for missing and for private repositories.
        if code == Some("RepoNotFound") {
            return self.not_found(revision);
        }
        let (id, status) = (self.id.clone(), status.as_u16());
        match self.authorization {
            Some(_) => HubError::TokenRefused { id, status },
            None => HubError::TokenNeeded { id, status },
        }
    }

    fn not_found(&self, revision: &str) -> HubError {
        HubError::NotFound {
            endpoint: self.endpoint.clone(),
            id: self.id.clone(),
            revision: revision.to_owned(),
        }
    }

    fn unreachable(&self, reason: String) -> HubError {
        HubError::Unreachable {
            endpoint: self.endpoint.clone(),
            reason,
        }
    }

    fn unexpected(&self, what: String) -> HubError {
        HubError::UnexpectedAnswer {
            endpoint: self.endpoint.clone(),
            what,
        }
    }
}

/// Why there was no whole response, in words: a library's own are about its insides.
pub(super) fn transport_reason(error: &reqwest::Error) -> String {
    let mut cause: &dyn Error = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    let kind = cause.downcast_ref::<io::Error>().map(io::Error::kind);
    let known = match kind {
        _ if error.is_timeout() => "it took too long",
        _ if error.is_dns() => "its name can't be resolved",
        Some(ErrorKind::ConnectionRefused) => "the connection was refused",
        Some(
            ErrorKind::ConnectionReset
            | ErrorKind::ConnectionAborted
            | ErrorKind::BrokenPipe
            | ErrorKind::UnexpectedEof,
        ) => "the connection was cut",
        // Among them certificates, of which the cause alone says what is wrong.
        _ => return cause.to_string(),
    };
    known.to_owned()
}

fn http() -> reqwest::ClientBuilder {
    http_client::builder()
        .user_agent(USER_AGENT)
        .connect_timeout(CONNECT_TIMEOUT)
        .read_timeout(READ_TIMEOUT)
}

fn authorization(token: &str) -> Result<HeaderValue, HubError> {
    let mut value =
        HeaderValue::from_str(&format!("Bearer {token}")).map_err(|_| HubError::InvalidToken)?;
    value.set_sensitive(true);
    Ok(value)
}

fn header(headers: &HeaderMap, name: impl reqwest::header::AsHeaderName) -> Option<&str> {
    headers.get(name)?.to_str().ok()
}

fn is_transient(status: StatusCode) -> bool {
    status.is_server_error()
        || status == StatusCode::TOO_MANY_REQUESTS
        || status == StatusCode::REQUEST_TIMEOUT
}

fn is_relative(location: &str) -> bool {
    Url::parse(location) == Err(url::ParseError::RelativeUrlWithoutBase)
        && !location.starts_with("//")
}

/// `W/"abc"` and `"abc"` both mean `abc`.
fn bare_etag(etag: &str) -> &str {
    etag.strip_prefix("W/").unwrap_or(etag).trim_matches('"')
}

/// Whether an ETag, which is untrusted, is safe as a file name in the cache.
fn is_file_name(etag: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    !etag.is_empty() && etag.len() <= 128 && etag.bytes().all(allowed)
}
