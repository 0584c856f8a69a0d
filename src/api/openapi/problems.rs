//! What goes wrong, for the contract.

use std::collections::BTreeMap;

use serde_json::json;
use utoipa::openapi::{ContentBuilder, HeaderBuilder, Ref, RefOr, Response, ResponseBuilder};
use utoipa::{IntoResponses, ToSchema};

use crate::api::error::ErrorCode;
use crate::api::respond::problem::Problem;

/// Every problem that a task route answers with.
pub struct Problems;

impl IntoResponses for Problems {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        let of_other_routes = [
            ErrorCode::NotFound,
            ErrorCode::InvalidAdapter,
            ErrorCode::MethodNotAllowed,
            ErrorCode::NoMaskDecoder,
            // Before there is a route.
            ErrorCode::MalformedRequest,
            ErrorCode::UriTooLong,
            ErrorCode::HeadersTooLarge,
        ];
        let codes = ErrorCode::ALL.iter().copied();
        problems(codes.filter(|code| !of_other_routes.contains(code)))
    }
}

/// The problems of a key that is missing or wrong, or has reached its limits.
pub struct KeyProblem;

impl IntoResponses for KeyProblem {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        problems([ErrorCode::Unauthorized, ErrorCode::RateLimited].into_iter())
    }
}

/// The problem of a route that its operator has not turned on.
pub struct OffProblem;

impl IntoResponses for OffProblem {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        problems([ErrorCode::NotFound].into_iter())
    }
}

/// The problem of a server that can't decode masks.
pub struct NoDecoderProblem;

impl IntoResponses for NoDecoderProblem {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        problems([ErrorCode::NoMaskDecoder].into_iter())
    }
}

/// The problems of asking for one model.
pub struct ModelProblems;

impl IntoResponses for ModelProblems {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        let codes = [
            ErrorCode::Unauthorized,
            ErrorCode::ModelNotFound,
            ErrorCode::RateLimited,
        ];
        problems(codes.into_iter())
    }
}

/// The problems of loading adapters and letting go of them.
pub struct AdapterProblems;

impl IntoResponses for AdapterProblems {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        let codes = [
            ErrorCode::InvalidAdapter,
            ErrorCode::InvalidField,
            ErrorCode::InvalidJson,
            ErrorCode::Unauthorized,
            ErrorCode::NotFound,
            ErrorCode::ModelNotFound,
            ErrorCode::BodyTooLarge,
            ErrorCode::UnsupportedMediaType,
            ErrorCode::RateLimited,
        ];
        problems(codes.into_iter())
    }
}

/// One response for each status, which lists the codes that go with it.
fn problems(codes: impl Iterator<Item = ErrorCode>) -> BTreeMap<String, RefOr<Response>> {
    let mut by_status: BTreeMap<u16, Vec<ErrorCode>> = BTreeMap::new();
    for code in codes {
        by_status
            .entry(code.status().as_u16())
            .or_default()
            .push(code);
    }
    by_status
        .into_iter()
        .map(|(status, codes)| (status.to_string(), problem_response(status, &codes).into()))
        .collect()
}

fn problem_response(status: u16, codes: &[ErrorCode]) -> Response {
    let line = |code: &ErrorCode| {
        let name = serde_json::to_value(code).unwrap_or_default();
        format!(
            "- `{}`: {}",
            name.as_str().unwrap_or_default(),
            code.title()
        )
    };
    let lines: Vec<String> = codes.iter().map(line).collect();
    // How one looks, where no request of the contract's examples has it for an answer.
    let example = json!({
        "code": codes[0],
        "title": codes[0].title(),
        "status": status,
        "detail": "what was wrong, and what to do about it",
        "request_id": "0b2806c8-4fe2-448f-83bf-d4dcee2cf885",
    });
    let content = ContentBuilder::new()
        .schema(Some(Ref::from_schema_name(Problem::name())))
        .example(Some(example))
        .build();
    let response = ResponseBuilder::new()
        .description(lines.join("\n"))
        .content("application/problem+json", content);
    let headers: &[_] = match status {
        401 => &[("WWW-Authenticate", "`Bearer`: how to send the key.")],
        429 | 503 => &[
            ("Retry-After", "Seconds after which to try again."),
            ("Retry-After-Ms", "The same in milliseconds."),
        ],
        _ => &[],
    };
    let add = |response: ResponseBuilder, (name, meaning): &(&str, &str)| {
        let header = HeaderBuilder::new().description(Some(*meaning));
        response.header(*name, header.build())
    };
    headers.iter().fold(response, add).build()
}
