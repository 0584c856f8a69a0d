//! What goes wrong, for the contract.

use std::collections::BTreeMap;

use utoipa::openapi::{ContentBuilder, HeaderBuilder, Ref, RefOr, Response, ResponseBuilder};
use utoipa::{IntoResponses, ToSchema};

use super::super::error::ErrorCode;
use super::super::problem::Problem;

/// Every problem that a task route answers with.
pub struct Problems;

impl IntoResponses for Problems {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        let of_other_routes = [
            ErrorCode::NotFound,
            ErrorCode::ModelNotFound,
            ErrorCode::MethodNotAllowed,
            ErrorCode::NoMaskDecoder,
        ];
        let codes = ErrorCode::ALL.iter().copied();
        problems(codes.filter(|code| !of_other_routes.contains(code)))
    }
}

/// The problem of a missing or wrong key.
pub struct KeyProblem;

impl IntoResponses for KeyProblem {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        problems([ErrorCode::Unauthorized].into_iter())
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
        problems([ErrorCode::Unauthorized, ErrorCode::ModelNotFound].into_iter())
    }
}

/// One response for each status, which lists the codes that go with it.
fn problems(codes: impl Iterator<Item = ErrorCode>) -> BTreeMap<String, RefOr<Response>> {
    let mut by_status: BTreeMap<u16, Vec<String>> = BTreeMap::new();
    for code in codes {
        let name = serde_json::to_value(code).unwrap_or_default();
        let line = format!(
            "- `{}`: {}",
            name.as_str().unwrap_or_default(),
            code.title()
        );
        by_status
            .entry(code.status().as_u16())
            .or_default()
            .push(line);
    }
    by_status
        .into_iter()
        .map(|(status, lines)| (status.to_string(), problem_response(status, &lines).into()))
        .collect()
}

fn problem_response(status: u16, lines: &[String]) -> Response {
    let content = ContentBuilder::new()
        .schema(Some(Ref::from_schema_name(Problem::name())))
        .build();
    let response = ResponseBuilder::new()
        .description(lines.join("\n"))
        .content("application/problem+json", content);
    let header = match status {
        401 => Some(("WWW-Authenticate", "`Bearer`: how to send the key.")),
        429 | 503 => Some(("Retry-After", "Seconds after which to try again.")),
        _ => None,
    };
    match header {
        Some((name, meaning)) => {
            let header = HeaderBuilder::new().description(Some(meaning));
            response.header(name, header.build()).build()
        }
        None => response.build(),
    }
}
