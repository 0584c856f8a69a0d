//! Requests to the hub: the commit of a revision, a file's metadata, and its bytes.

use std::ops::Range;
use std::time::Duration;

use hf_hub::repository::download::HFByteStream;
use hf_hub::{HFClient, HFError, HFRepository, RepoTypeModel};
use reqwest::header::{ETAG, HeaderMap, HeaderName, HeaderValue, LOCATION};
use reqwest::{Response, StatusCode, Url};

use super::backoff::Backoff;
use super::cache::is_commit;
use super::error::HubError;
use super::settings::HubSettings;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// A connection without data for this long counts as cut.
const READ_TIMEOUT: Duration = Duration::from_secs(60);
const MAX_RELATIVE_REDIRECTS: usize = 5;
const USER_AGENT: &str = concat!("paligemma-server/", env!("CARGO_PKG_VERSION"));
/// Stops `hf-hub` from looking for a token itself when the settings have none. This value is invalid
/// in a header, so the crate sends no `Authorization`.
const NO_TOKEN: &str = "\n";

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
    repository: HFRepository<RepoTypeModel>,
    metadata: reqwest::Client,
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
        // hf-hub's own client waits forever on a silent connection.
        let bytes = http().build();
        // hf-hub's metadata call follows redirects to the second host, whose response lacks the
        // hub's ETag, so we request metadata without following redirects.
        let metadata = http().redirect(reqwest::redirect::Policy::none()).build();
        let broken_client = |error: reqwest::Error| HubError::UnexpectedAnswer {
            endpoint: endpoint.clone(),
            what: format!("the HTTP client can't be created: {error}"),
        };
        let client = HFClient::builder()
            .endpoint(endpoint.as_str())
            .token(settings.token.as_deref().unwrap_or(NO_TOKEN))
            .cache_enabled(false)
            .client(bytes.map_err(broken_client)?)
            .retry_base_delay(settings.retry_delay)
            .retry_max_attempts(2)
            .build()
            .map_err(|error| bad_endpoint(reason(&error)))?;
        Ok(Self {
            id: format!("{owner}/{name}"),
            base,
            authorization,
            retry_delay: settings.retry_delay,
            repository: client.model(owner, name),
            metadata: metadata.map_err(broken_client)?,
            endpoint,
        })
    }

    pub(super) fn id(&self) -> &str {
        &self.id
    }

    pub(super) fn backoff(&self) -> Backoff {
        Backoff::new(self.retry_delay)
    }

    /// The commit that a branch, tag or commit hash currently names.
    pub(super) async fn commit(&self, revision: &str) -> Result<String, HubError> {
        let info = self.repository.info().revision(revision).send().await;
        let commit = info
            .map_err(|error| self.explain(&error, revision))?
            .sha
            .unwrap_or_default();
        if !is_commit(&commit) {
            return Err(self.unexpected(format!("`{commit}` as the commit of `{revision}`")));
        }
        Ok(commit)
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

    /// A file's bytes or a range of them, with the announced length.
    pub(super) async fn open(
        &self,
        commit: &str,
        file: &str,
        range: Option<Range<u64>>,
    ) -> Result<(Option<u64>, HFByteStream), HFError> {
        self.repository
            .download_file_stream()
            .filename(file)
            .revision(commit)
            .maybe_range(range)
            .send()
            .await
    }

    /// Converts an `hf-hub` error to ours.
    pub(super) fn explain(&self, error: &HFError, revision: &str) -> HubError {
        match error {
            HFError::AuthRequired { context } | HFError::Forbidden { context } => {
                self.refused(context.status, context.error_code.as_deref(), revision)
            }
            HFError::RepoNotFound { .. }
            | HFError::RevisionNotFound { .. }
            | HFError::EntryNotFound { .. } => self.not_found(revision),
            HFError::Request { source, .. } if source.is_decode() => {
                self.unexpected("the body is not the expected JSON".to_owned())
            }
            other => self.unreachable(reason(other)),
        }
    }

    /// HEAD without following redirects to another host, because the hub's own response carries the
    /// metadata. Follows relative redirects, which lead to a renamed repository on the same hub.
    async fn head(&self, mut url: Url) -> Result<Response, HubError> {
        for _ in 0..=MAX_RELATIVE_REDIRECTS {
            let answer = self.head_once(&url).await?;
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

    async fn head_once(&self, url: &Url) -> Result<Response, HubError> {
        let mut backoff = self.backoff();
        loop {
            let mut request = self.metadata.head(url.clone());
            if let Some(authorization) = &self.authorization {
                request = request.header(reqwest::header::AUTHORIZATION, authorization);
            }
            let failure = match request.send().await {
                Ok(answer) if !is_transient(answer.status()) => return Ok(answer),
                Ok(answer) => answer.status().to_string(),
                Err(error) => transport_reason(&error),
            };
            if !backoff.wait().await {
                return Err(self.unreachable(failure));
            }
        }
    }

    fn file_url(&self, commit: &str, file: &str) -> Result<Url, HubError> {
        let mut url = self.base.clone();
        url.path_segments_mut()
            .map_err(|()| self.unexpected("an address without a path".to_owned()))?
            .pop_if_empty()
            .extend(self.id.split('/'))
            .extend(["resolve", commit, file]);
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

/// What went wrong with a request, without URLs (which may be signed) and bodies.
pub(super) fn reason(error: &HFError) -> String {
    match error {
        HFError::Request { source, .. } => transport_reason(source),
        HFError::Http { context } => context.status.to_string(),
        HFError::RateLimited { .. } => StatusCode::TOO_MANY_REQUESTS.to_string(),
        HFError::Xet { operation, .. } => format!("xet {operation} failed"),
        HFError::MalformedResponse { what, .. } => what.clone(),
        HFError::Url(error) => error.to_string(),
        HFError::Io(error) => error.to_string(),
        _ => "the request failed".to_owned(),
    }
}

/// The innermost cause: "connection refused" rather than "error sending request".
fn transport_reason(error: &reqwest::Error) -> String {
    if error.is_timeout() {
        return "timed out".to_owned();
    }
    let mut cause: &dyn std::error::Error = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

fn http() -> reqwest::ClientBuilder {
    reqwest::Client::builder()
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
