//! The playground at `/`: a page that is part of the binary and asks this server alone.

use axum::http::{HeaderName, HeaderValue, header};
use axum::routing::get;
use axum::{Extension, Router};

use crate::api::middleware::observe::FileOf;
use crate::api::state::AppState;

/// Where the page is.
const PATH: &str = "/";

/// Nothing from elsewhere, and no script or style within the page.
const CONTENT_SECURITY_POLICY: &str =
    "default-src 'self'; img-src 'self' data: blob:; base-uri 'none'; frame-ancestors 'none'";

/// A file, where it is served and as what.
struct StaticFile {
    path: &'static str,
    media_type: &'static str,
    bytes: &'static [u8],
}

macro_rules! files {
    ($($path:literal: $media_type:literal = $file:literal,)*) => {
        &[$(StaticFile {
            path: $path,
            media_type: $media_type,
            bytes: include_bytes!(concat!("../../../", $file)),
        },)*]
    };
}

static FILES: &[StaticFile] = files! {
    "/": "text/html; charset=utf-8" = "src/web/index.html",
    "/answer.css": "text/css; charset=utf-8" = "src/web/answer.css",
    "/controls.css": "text/css; charset=utf-8" = "src/web/controls.css",
    "/playground.css": "text/css; charset=utf-8" = "src/web/playground.css",
    "/answer.js": "text/javascript; charset=utf-8" = "src/web/answer.js",
    "/answers.js": "text/javascript; charset=utf-8" = "src/web/answers.js",
    "/api.js": "text/javascript; charset=utf-8" = "src/web/api.js",
    "/camera.js": "text/javascript; charset=utf-8" = "src/web/camera.js",
    "/code.js": "text/javascript; charset=utf-8" = "src/web/code.js",
    "/drawing.js": "text/javascript; charset=utf-8" = "src/web/drawing.js",
    "/filetypes.js": "text/javascript; charset=utf-8" = "src/web/filetypes.js",
    "/form.js": "text/javascript; charset=utf-8" = "src/web/form.js",
    "/history.js": "text/javascript; charset=utf-8" = "src/web/history.js",
    "/key.js": "text/javascript; charset=utf-8" = "src/web/key.js",
    "/labels.js": "text/javascript; charset=utf-8" = "src/web/labels.js",
    "/languages.js": "text/javascript; charset=utf-8" = "src/web/languages.js",
    "/model.js": "text/javascript; charset=utf-8" = "src/web/model.js",
    "/overlay.js": "text/javascript; charset=utf-8" = "src/web/overlay.js",
    "/pictures.js": "text/javascript; charset=utf-8" = "src/web/pictures.js",
    "/playground.js": "text/javascript; charset=utf-8" = "src/web/playground.js",
    "/presets.js": "text/javascript; charset=utf-8" = "src/web/presets.js",
    "/problems.js": "text/javascript; charset=utf-8" = "src/web/problems.js",
    "/region.js": "text/javascript; charset=utf-8" = "src/web/region.js",
    "/run.js": "text/javascript; charset=utf-8" = "src/web/run.js",
    "/sampling.js": "text/javascript; charset=utf-8" = "src/web/sampling.js",
    "/save.js": "text/javascript; charset=utf-8" = "src/web/save.js",
    "/snippets.js": "text/javascript; charset=utf-8" = "src/web/snippets.js",
    "/sources.js": "text/javascript; charset=utf-8" = "src/web/sources.js",
    "/sse.js": "text/javascript; charset=utf-8" = "src/web/sse.js",
    "/stage.js": "text/javascript; charset=utf-8" = "src/web/stage.js",
    "/tasks.js": "text/javascript; charset=utf-8" = "src/web/tasks.js",
    "/words.js": "text/javascript; charset=utf-8" = "src/web/words.js",
    "/favicon.svg": "image/svg+xml" = "src/web/favicon.svg",
    // What browsers ask for at a page that names no icon, such as /metrics. The type says what it is.
    "/favicon.ico": "image/svg+xml" = "src/web/favicon.svg",
    "/examples/red-circle.png": "image/png" = "examples/images/red-circle.png",
    "/examples/circle-and-square.jpg": "image/jpeg" = "examples/images/circle-and-square.jpg",
    "/examples/three-hearts.png": "image/png" = "examples/images/three-hearts.png",
    "/examples/four-shapes.png": "image/png" = "examples/images/four-shapes.png",
    "/examples/tall.webp": "image/webp" = "examples/images/tall.webp",
    "/examples/exif-rotated.jpg": "image/jpeg" = "examples/images/exif-rotated.jpg",
};

/// A route for each file.
pub fn routes() -> Router<AppState> {
    FILES.iter().fold(Router::new(), |router, file| {
        router.route(
            file.path,
            get(move || async move { (Extension(FileOf(PATH)), headers(file), file.bytes) }),
        )
    })
}

fn headers(file: &StaticFile) -> [(HeaderName, HeaderValue); 4] {
    [
        (header::CONTENT_TYPE, file.media_type),
        // Another version of the server has other files under the same names.
        (header::CACHE_CONTROL, "no-cache"),
        (header::CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ]
    .map(|(name, value)| (name, HeaderValue::from_static(value)))
}
