//! Requests that no route takes: 404, with the route that was probably meant, and 405.

use axum::http::{Method, Uri};
use strsim::normalized_damerau_levenshtein;

use super::error::{ApiError, ErrorCode};

/// A method and a path.
type Route = (&'static str, &'static str);

/// The likeness, of 1 at most, above which a route counts as the one that was meant.
const LIKE: f64 = 0.6;
/// Longer paths are like no route, and comparing them would take time.
const LONGEST: usize = 100;
/// What the paths of the API begin with, and what is easily forgotten.
const VERSION: &str = "/v1";

/// There is no such path; `routes` are those that there are.
pub fn not_found(uri: &Uri, routes: &[Route]) -> ApiError {
    let path = uri.path();
    let hint = match meant(path, routes) {
        Some((method, route)) => format!("did you mean `{method} {route}`? "),
        None => String::new(),
    };
    let detail = format!("there is no `{path}`; {hint}/docs lists all routes");
    ApiError::new(ErrorCode::NotFound, detail)
}

/// The path does not take this method.
pub async fn method_not_allowed(method: Method, uri: Uri) -> ApiError {
    let path = uri.path();
    let detail = format!("`{path}` does not take {method}; see the Allow header");
    ApiError::new(ErrorCode::MethodNotAllowed, detail)
}

/// The route that is most like `path`, if one is like it.
fn meant(path: &str, routes: &[Route]) -> Option<Route> {
    if path.len() > LONGEST {
        return None;
    }
    let path = path.to_ascii_lowercase();
    let likeness = |route: &str| {
        let bare = route.strip_prefix(VERSION).unwrap_or(route);
        let whole = normalized_damerau_levenshtein(&path, route);
        whole.max(normalized_damerau_levenshtein(&path, bare))
    };
    // A path with a parameter is no hint that can be followed.
    let fixed = routes.iter().filter(|(_, route)| !route.contains('{'));
    let scored = fixed.map(|route| (likeness(route.1), *route));
    let (likeness, route) = scored.max_by(|(one, _), (other, _)| one.total_cmp(other))?;
    (likeness > LIKE).then_some(route)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROUTES: [Route; 7] = [
        ("POST", "/v1/caption"),
        ("POST", "/v1/vqa"),
        ("POST", "/v1/segment"),
        ("POST", "/v1/chat/completions"),
        ("GET", "/v1/models"),
        ("GET", "/v1/models/{*id}"),
        ("GET", "/openapi.json"),
    ];

    #[test]
    fn a_path_that_is_like_a_route_means_it() {
        for (path, route) in [
            ("/v1/captions", "/v1/caption"),
            ("/v1/caption/", "/v1/caption"),
            ("/V1/Caption", "/v1/caption"),
            ("/v1/segmentation", "/v1/segment"),
            ("/api/v1/caption", "/v1/caption"),
            ("/vqa", "/v1/vqa"),
            ("/chat/completions", "/v1/chat/completions"),
            ("/openapi", "/openapi.json"),
        ] {
            let found = meant(path, &ROUTES).map(|(_, route)| route);
            assert_eq!(found, Some(route), "{path}");
        }
    }

    #[test]
    fn a_path_that_is_like_none_means_none() {
        let long = format!("/v1/caption{}", "/".repeat(LONGEST));
        for path in [
            "/x",
            "/robots.txt",
            "/v1",
            "/v1/embeddings",
            "/models/demo",
            &long,
        ] {
            assert_eq!(meant(path, &ROUTES), None, "{path}");
        }
    }
}
