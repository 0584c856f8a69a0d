//! A small Hugging Face hub on loopback, with a second server that holds the large files, as the
//! hub's CDN does. It can refuse, cut connections and lie about sizes, and it remembers requests.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Path, Request, State};
use axum::http::header::{
    AUTHORIZATION, CONTENT_LENGTH, CONTENT_RANGE, ETAG, HeaderMap, LOCATION, RANGE,
};
use axum::http::{HeaderName, Method, StatusCode};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::net::TcpListener;

pub const ID: &str = "google/paligemma-test";
pub const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// What goes wrong, and how.
#[derive(Default)]
pub struct Faults {
    /// The status and `x-error-code` of every answer of the hub; its body repeats the token.
    pub refuse: Option<(StatusCode, &'static str)>,
    /// The same for files alone, as gated repositories do it: what is there, anyone may see.
    pub refuse_files: Option<(StatusCode, &'static str)>,
    /// The second server's connections end at this offset of a file, so many times.
    pub cut: Option<(usize, usize)>,
    /// The size that the hub announces for large files, instead of the true one.
    pub announced_size: Option<usize>,
    /// The second server answers a range request with the whole file.
    pub ignore_ranges: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Host {
    Hub,
    Cdn,
}

/// A request that one of the two servers got.
#[derive(Debug, Clone)]
pub struct Seen {
    pub host: Host,
    pub method: Method,
    pub path: String,
    pub range: Option<String>,
    pub authorization: Option<String>,
}

pub struct FakeHub {
    pub endpoint: String,
    inner: Arc<Inner>,
}

struct Inner {
    files: BTreeMap<String, Bytes>,
    cdn: String,
    faults: Mutex<Faults>,
    seen: Mutex<Vec<Seen>>,
}

impl FakeHub {
    /// Serves files of [`ID`] at [`COMMIT`], which is `main` and the tag `v1`.
    pub async fn start(files: BTreeMap<String, Vec<u8>>, faults: Faults) -> Self {
        let hub = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let cdn = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", hub.local_addr().unwrap());
        let inner = Arc::new(Inner {
            files: files.into_iter().map(|(k, v)| (k, v.into())).collect(),
            cdn: format!("http://{}", cdn.local_addr().unwrap()),
            faults: Mutex::new(faults),
            seen: Mutex::default(),
        });
        let hub_routes = Router::new()
            .route(
                "/api/models/google/paligemma-test/revision/{revision}",
                get(info),
            )
            .route(
                "/google/paligemma-test/resolve/{revision}/{file}",
                get(resolve),
            );
        let cdn_routes = Router::new().route("/bytes/{file}", get(bytes));
        serve(hub, hub_routes, Host::Hub, &inner);
        serve(cdn, cdn_routes, Host::Cdn, &inner);
        Self { endpoint, inner }
    }

    /// All requests so far.
    pub fn seen(&self) -> Vec<Seen> {
        self.inner.seen.lock().unwrap().clone()
    }

    /// The requests for file contents so far, as `(path, range)`.
    pub fn downloads(&self) -> Vec<(String, Option<String>)> {
        let seen = self.seen().into_iter();
        seen.filter(|request| request.method == Method::GET && !request.path.starts_with("/api"))
            .filter(|request| request.host == Host::Cdn || !is_large(&request.path))
            .map(|request| (request.path, request.range))
            .collect()
    }

    pub fn set_faults(&self, faults: Faults) {
        *self.inner.faults.lock().unwrap() = faults;
    }
}

impl Inner {
    fn refusal(&self, path: &str) -> Option<(StatusCode, &'static str)> {
        let faults = self.faults.lock().unwrap();
        let files = faults.refuse_files.filter(|_| !path.starts_with("/api"));
        faults.refuse.or(files)
    }

    /// The end of the next body of a file, when it is to be cut there.
    fn next_cut(&self) -> Option<usize> {
        let mut faults = self.faults.lock().unwrap();
        let (at, times) = faults.cut.as_mut()?;
        *times = times.checked_sub(1)?;
        Some(*at)
    }
}

/// The etag that the hub gives a file: 64 digits for large files, 40 for small ones.
pub fn etag(name: &str, content: &[u8]) -> String {
    let digits = if is_large(name) { 64 } else { 40 };
    blake3::hash(content).to_hex()[..digits].to_owned()
}

fn is_large(path: &str) -> bool {
    path.ends_with(".safetensors")
}

fn serve(listener: TcpListener, routes: Router<Arc<Inner>>, host: Host, inner: &Arc<Inner>) {
    let state = (host, inner.clone());
    let app = routes
        .layer(from_fn_with_state(state, remember))
        .with_state(inner.clone());
    tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
}

async fn remember(
    State((host, inner)): State<(Host, Arc<Inner>)>,
    request: Request,
    next: Next,
) -> Response {
    let path = request.uri().path().to_owned();
    let authorization = text(request.headers(), &AUTHORIZATION);
    let refusal = (host == Host::Hub).then(|| inner.refusal(&path)).flatten();
    inner.seen.lock().unwrap().push(Seen {
        host,
        method: request.method().clone(),
        path,
        range: text(request.headers(), &RANGE),
        authorization: authorization.clone(),
    });
    match refusal {
        Some((status, code)) => {
            let body = format!("no entry with {}", authorization.unwrap_or_default());
            (status, [("x-error-code", code)], body).into_response()
        }
        None => next.run(request).await,
    }
}

fn text(headers: &HeaderMap, name: &HeaderName) -> Option<String> {
    Some(headers.get(name)?.to_str().unwrap().to_owned())
}

async fn info(State(inner): State<Arc<Inner>>, Path(revision): Path<String>) -> Response {
    if ![COMMIT, "main", "v1"].contains(&revision.as_str()) {
        let code = [("x-error-code", "RevisionNotFound")];
        return (StatusCode::NOT_FOUND, code).into_response();
    }
    let files = inner.files.keys();
    let siblings: Vec<_> = files
        .map(|name| serde_json::json!({ "rfilename": name }))
        .collect();
    let info = serde_json::json!({ "id": ID, "sha": COMMIT, "siblings": siblings });
    axum::Json(info).into_response()
}

async fn resolve(
    State(inner): State<Arc<Inner>>,
    Path((_, file)): Path<(String, String)>,
) -> Response {
    let Some(content) = inner.files.get(&file) else {
        let code = [("x-error-code", "EntryNotFound")];
        return (StatusCode::NOT_FOUND, code).into_response();
    };
    let etag = format!("\"{}\"", etag(&file, content));
    let commit = ("x-repo-commit", COMMIT.to_owned());
    if !is_large(&file) {
        return ([commit, ("etag", etag)], content.clone()).into_response();
    }
    let announced = inner.faults.lock().unwrap().announced_size;
    let headers = [
        commit,
        ("x-linked-etag", etag),
        (
            "x-linked-size",
            announced.unwrap_or(content.len()).to_string(),
        ),
        (LOCATION.as_str(), format!("{}/bytes/{file}", inner.cdn)),
    ];
    (StatusCode::FOUND, headers).into_response()
}

async fn bytes(
    State(inner): State<Arc<Inner>>,
    Path(file): Path<String>,
    method: Method,
    headers: HeaderMap,
) -> Response {
    let content = &inner.files[&file];
    let ignore_ranges = inner.faults.lock().unwrap().ignore_ranges;
    let range = headers.get(RANGE).filter(|_| !ignore_ranges);
    let range = range.map(|range| parse_range(range.to_str().unwrap(), content.len()));
    let status = match range {
        Some(_) => StatusCode::PARTIAL_CONTENT,
        None => StatusCode::OK,
    };
    let sent = range.clone().unwrap_or(0..content.len());
    let cut = (method == Method::GET).then(|| inner.next_cut()).flatten();
    let body = match cut.filter(|at| *at < sent.end) {
        Some(at) => cut_body(content.slice(sent.start.min(at)..at)),
        None => Body::from(content.slice(sent.clone())),
    };
    let mut response = (status, body).into_response();
    let answer = response.headers_mut();
    answer.insert(CONTENT_LENGTH, sent.len().into());
    // Not the hub's etag: a second host has its own.
    answer.insert(ETAG, "\"the-second-host\"".parse().unwrap());
    if range.is_some() {
        let text = format!("bytes {}-{}/{}", sent.start, sent.end - 1, content.len());
        answer.insert(CONTENT_RANGE, text.parse().unwrap());
    }
    response
}

/// `bytes=first-last`, cut to the file as servers do.
fn parse_range(range: &str, length: usize) -> Range<usize> {
    let (first, last) = range
        .strip_prefix("bytes=")
        .and_then(|range| range.split_once('-'))
        .unwrap();
    let first = first.parse().unwrap();
    first..length.min(last.parse::<usize>().unwrap() + 1)
}

/// Some bytes, then a closed connection.
fn cut_body(bytes: Bytes) -> Body {
    Body::from_stream(async_stream::stream! {
        yield Ok(bytes);
        // Long enough for the bytes to leave before the connection does.
        tokio::time::sleep(Duration::from_millis(30)).await;
        yield Err(std::io::Error::other("cut"));
    })
}
