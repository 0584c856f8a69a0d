//! Images that lie in the Label Studio which the operator has named, with its access token.
//!
//! The token goes to that address alone. Where it redirects elsewhere, as to a cloud's storage, the
//! image is fetched as any other URL is: from listed hosts, without the token.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use reqwest::{Client, RequestBuilder, header, redirect};
use serde::Deserialize;
use tokio::sync::OnceCell;
use url::Url;

use super::{ImageFetcher, body, failed, target, transport};
use crate::api::error::{ApiError, ErrorCode};
use crate::http_client;
use crate::settings::{ApiKey, Settings};

/// Paths of files in Label Studio: uploaded, in its local storage, in the storage behind it, in a cloud.
const PATHS: [&str; 3] = ["/data/", "/storage-data/", "/tasks/"];

/// The most bytes of an answer with a token.
const MOST_TOKEN_BYTES: u64 = 100_000;

/// Gets files from Label Studio.
#[derive(Debug, Clone)]
pub struct LabelStudioFiles {
    url: Url,
    key: ApiKey,
    timeout: Duration,
    max_bytes: u64,
    client: Arc<OnceCell<Client>>,
}

/// What a personal access token is exchanged for.
#[derive(Deserialize)]
struct Access {
    access: String,
}

impl LabelStudioFiles {
    /// `None` unless the settings name both an address and a token.
    pub fn new(settings: &Settings) -> Option<Self> {
        Some(Self {
            url: Url::parse(&settings.label_studio_url).ok()?,
            key: settings.label_studio_api_key.clone()?,
            timeout: settings.image_fetch_timeout,
            max_bytes: settings.max_body.as_u64(),
            client: Arc::default(),
        })
    }

    /// Whether `text` is the path of a file in some Label Studio.
    pub fn is_path(text: &str) -> bool {
        PATHS.iter().any(|path| text.starts_with(path))
    }

    /// Whether `text` is a URL of this Label Studio.
    pub fn has(&self, text: &str) -> bool {
        text.starts_with("http") && Url::parse(text).is_ok_and(|url| self.is_ours(&url))
    }

    fn is_ours(&self, url: &Url) -> bool {
        url.origin() == self.url.origin() && url.username().is_empty() && url.password().is_none()
    }

    /// The bytes of the file at `place`, a path or a URL of this Label Studio; `others` fetches what it
    /// redirects to elsewhere.
    ///
    /// # Errors
    /// [`ErrorCode::ImageUrlNotAllowed`] when it lies elsewhere; [`ErrorCode::ImageFetchFailed`].
    pub async fn fetch(&self, place: &str, others: &ImageFetcher) -> Result<Bytes, ApiError> {
        let fetched = tokio::time::timeout(self.timeout, self.get(place));
        let late = |_| {
            let timeout = self.timeout;
            Err(failed(format!("it did not arrive within {timeout:?}")))
        };
        match fetched.await.unwrap_or_else(late)? {
            Found::File(bytes) => Ok(bytes),
            Found::Elsewhere(url) => others.fetch(url.as_str()).await,
        }
    }

    async fn get(&self, place: &str) -> Result<Found, ApiError> {
        let mut url = self.locate(place)?;
        let client = self.client().await?;
        for _ in 0..=super::MOST_REDIRECTS {
            let request = self.authorize(client, client.get(url.clone())).await?;
            let response = request.send().await.map_err(transport)?;
            if !response.status().is_redirection() {
                let file = body(response, self.max_bytes)
                    .await
                    .map_err(in_label_studio)?;
                return Ok(Found::File(file));
            }
            url = target(&url, &response)?;
            if !self.is_ours(&url) {
                return Ok(Found::Elsewhere(url));
            }
        }
        Err(failed("Label Studio redirects too often"))
    }

    fn locate(&self, place: &str) -> Result<Url, ApiError> {
        let base = self.url.as_str().trim_end_matches('/');
        let located = match place.starts_with('/') {
            true => Url::parse(&format!("{base}{place}")),
            false => Url::parse(place),
        };
        located.ok().filter(|url| self.is_ours(url)).ok_or_else(|| {
            let detail = "this is no path of a file in Label Studio";
            ApiError::new(ErrorCode::ImageUrlNotAllowed, detail)
        })
    }

    /// The request with the token: a legacy one as it is, a personal one (a JWT) after an exchange.
    async fn authorize(
        &self,
        client: &Client,
        request: RequestBuilder,
    ) -> Result<RequestBuilder, ApiError> {
        let key = self.key.expose();
        if key.split('.').count() != 3 {
            return Ok(request.header(header::AUTHORIZATION, format!("Token {key}")));
        }
        let refresh = client
            .post(self.locate("/api/token/refresh")?)
            .header(header::CONTENT_TYPE, "application/json")
            .body(serde_json::json!({ "refresh": key }).to_string());
        let response = refresh.send().await.map_err(transport)?;
        let answer = body(response, MOST_TOKEN_BYTES).await;
        let answer = answer.map_err(in_label_studio)?;
        // Without the reason: it may quote the token.
        let Access { access } = serde_json::from_slice(&answer)
            .map_err(|_| failed("Label Studio gave no token for `label_studio_api_key`"))?;
        Ok(request.bearer_auth(access))
    }

    async fn client(&self) -> Result<&Client, ApiError> {
        let build = async || {
            http_client::builder()
                .no_proxy()
                .redirect(redirect::Policy::none())
                .build()
                .map_err(|error| ApiError::new(ErrorCode::Internal, error.to_string()))
        };
        self.client.get_or_try_init(build).await
    }
}

/// What a request to Label Studio led to.
enum Found {
    File(Bytes),
    Elsewhere(Url),
}

/// The error, and which setting to look at.
fn in_label_studio(error: ApiError) -> ApiError {
    let detail = format!(
        "{}; it lies in Label Studio (`label_studio_url`, `label_studio_api_key`)",
        error.detail
    );
    ApiError { detail, ..error }
}

#[cfg(test)]
mod tests {
    use axum::Router;
    use axum::http::{HeaderMap, StatusCode};
    use axum::response::{IntoResponse, Redirect};
    use axum::routing::{get, post};
    use tokio::net::TcpListener;

    use super::*;

    fn files(url: &str, key: &str) -> LabelStudioFiles {
        let flags = [("label_studio_url", url), ("label_studio_api_key", key)];
        let flags = flags.map(|(name, value)| (name.to_owned(), value.to_owned()));
        LabelStudioFiles::new(&Settings::load(None, [], flags.into()).unwrap()).unwrap()
    }

    /// What `files` gets from `place`, where nothing else may be fetched from.
    async fn got(files: &LabelStudioFiles, place: &str) -> Result<Bytes, ApiError> {
        let settings = Settings::load(None, [], [].into()).unwrap();
        files.fetch(place, &ImageFetcher::new(&settings)).await
    }

    /// A host that says which token it was sent, and takes a JWT for another.
    async fn host() -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let told = async |headers: HeaderMap| headers["authorization"].to_str().unwrap().to_owned();
        let routes = Router::new()
            .route("/data/upload/1/a.png", get(told))
            .route(
                "/storage-data/here",
                get(async || Redirect::temporary("/data/upload/1/a.png")),
            )
            .route(
                "/storage-data/cloud",
                get(async || Redirect::temporary("https://cloud.example.org/")),
            )
            .route(
                "/data/closed",
                get(async || StatusCode::UNAUTHORIZED.into_response()),
            )
            .route(
                "/api/token/refresh",
                post(async |body: String| match body.as_str() {
                    r#"{"refresh":"a.b.c"}"# => r#"{"access":"short"}"#,
                    _ => "{}",
                }),
            );
        tokio::spawn(async move { axum::serve(listener, routes).await });
        address
    }

    #[tokio::test]
    async fn the_token_goes_to_label_studio_alone() {
        let host = host().await;
        let legacy = files(&host, "secret");
        for place in [
            "/data/upload/1/a.png",
            "/storage-data/here",
            &format!("{host}/data/upload/1/a.png"),
        ] {
            assert_eq!(
                got(&legacy, place).await.unwrap(),
                "Token secret",
                "{place}"
            );
        }
        let personal = files(&host, "a.b.c");
        let sent = got(&personal, "/data/upload/1/a.png").await.unwrap();
        assert_eq!(sent, "Bearer short");
        for (place, code) in [
            ("/storage-data/cloud", ErrorCode::ImageUrlNotAllowed),
            (
                "https://example.org/data/a.png",
                ErrorCode::ImageUrlNotAllowed,
            ),
            ("/data/closed", ErrorCode::ImageFetchFailed),
            ("/data/missing", ErrorCode::ImageFetchFailed),
        ] {
            let error = got(&legacy, place).await.unwrap_err();
            assert_eq!(error.code, code, "{place}");
            assert!(!error.detail.contains("secret"), "{error}");
        }
    }

    #[tokio::test]
    async fn a_token_that_is_not_taken_is_not_shown() {
        let files = files(&host().await, "x.y.z");
        let error = got(&files, "/data/upload/1/a.png").await.unwrap_err();
        assert!(error.detail.contains("label_studio_api_key"), "{error}");
        assert!(!error.detail.contains("x.y.z"), "{error}");
    }

    #[test]
    fn only_its_own_urls_are_its_files() {
        let files = files("https://labels.example.org/", "secret");
        assert!(files.has("https://labels.example.org/data/upload/1/a.png"));
        for other in [
            "http://labels.example.org/data/upload/1/a.png",
            "https://labels.example.org:8443/a.png",
            "https://labels.example.org.evil.com/a.png",
            "https://user@labels.example.org/a.png",
            "/data/upload/1/a.png",
        ] {
            assert!(!files.has(other), "{other}");
        }
        assert!(LabelStudioFiles::is_path("/data/upload/1/a.png"));
        // How a JPEG begins in base64.
        assert!(!LabelStudioFiles::is_path("/9j/4AAQSkZJRg"));
    }
}
