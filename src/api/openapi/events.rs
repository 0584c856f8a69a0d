//! What streams are made of.

use serde::Serialize;
use utoipa::ToSchema;
use utoipa::openapi::schema::{AnyOfBuilder, Object, ObjectBuilder, Schema, Type};
use utoipa::openapi::{OpenApi, RefOr};

use crate::api::respond::problem::Problem;
use crate::api::respond::shapes::{Delta, Done, ObjectFound, Queued, TaskResult};

/// One server-sent event, when `stream` is true.
///
/// `delta` (a piece of text) and `result` (a whole result), for several images or questions side by
/// side, then `done`; or `error`, which ends the stream. Lines that begin with a colon are comments
/// that keep the connection alive. Nothing is sent before the first event, not even the status: so
/// what fails before it has its own status instead of an `error` event. With `queue_position` the
/// first events may be `queued`, while the request waits.
#[derive(Serialize, ToSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "it only describes")]
pub enum Events<T> {
    Queued(Queued),
    Delta(Delta),
    Result(TaskResult<T>),
    Done(Done),
    Error(Problem),
}

/// One server-sent event, when `stream` is true.
///
/// As for other tasks, and `object` for each object as soon as it is complete; `result` has all of
/// them once more.
#[derive(Serialize, ToSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "it only describes")]
pub enum ObjectEvents<O, T> {
    Queued(Queued),
    Delta(Delta),
    Object(ObjectFound<O>),
    Result(TaskResult<T>),
    Done(Done),
    Error(Problem),
}

/// The name of the event whose data has the schema with that name.
const NAMES: [(&str, &str); 6] = [
    ("Queued", "queued"),
    ("Delta", "delta"),
    ("ObjectFound", "object"),
    ("TaskResult", "result"),
    ("Done", "done"),
    ("Problem", "error"),
];

/// Makes of the data that streams carry the events that they consist of.
///
/// # Panics
/// When a stream carries what no event is named for.
pub fn name(document: &mut OpenApi) {
    let schemas = &mut document.components.get_or_insert_default().schemas;
    let native = |name: &str| name.starts_with("Events_") || name.starts_with("ObjectEvents_");
    for (_, schema) in schemas.iter_mut().filter(|(name, _)| native(name)) {
        if let RefOr::T(Schema::OneOf(events)) = schema {
            for data in &mut events.items {
                *data = event(Some(event_name(data)), data.clone());
            }
        }
    }
    let items = document.paths.paths.values_mut();
    let posts = items.filter_map(|item| item.post.as_mut());
    for response in posts.flat_map(|post| post.responses.responses.values_mut()) {
        if let RefOr::T(response) = response
            && let Some(RefOr::T(content)) = response.content.get_mut("text/event-stream")
            && let Some(data) = content.schema.take()
        {
            let named =
                matches!(&data, RefOr::Ref(data) if native(schema_name(&data.ref_location)));
            content.schema = Some(match named {
                true => data,
                false => event(None, data),
            });
        }
    }
}

fn schema_name(location: &str) -> &str {
    location.rsplit('/').next().unwrap_or_default()
}

fn event_name(data: &RefOr<Schema>) -> &'static str {
    let RefOr::Ref(data) = data else {
        panic!("the data of an event has a schema of its own");
    };
    let schema = schema_name(&data.ref_location);
    let name = NAMES.iter().find(|(start, _)| schema.starts_with(start));
    name.unwrap_or_else(|| panic!("no event carries {schema}"))
        .1
}

/// An event as OpenAPI 3.2 describes it: an object with its name and its data, a text. Events of
/// OpenAI's API have no names, and the last of them is no JSON.
fn event(name: Option<&str>, data: RefOr<Schema>) -> RefOr<Schema> {
    let json = ObjectBuilder::new()
        .schema_type(Type::String)
        .content_media_type("application/json")
        .content_schema(Some(data));
    let object = ObjectBuilder::new().required("data");
    match name {
        Some(name) => object
            .property("event", text(name))
            .required("event")
            .property("data", json),
        None => {
            let data = AnyOfBuilder::new().item(json).item(text("[DONE]"));
            object.property("data", data)
        }
    }
    .into()
}

/// Exactly this text.
fn text(text: &str) -> Object {
    let any = ObjectBuilder::new().schema_type(Type::String);
    any.enum_values(Some([text])).build()
}
