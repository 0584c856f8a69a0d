//! What requests are made of: a task's own fields, images, and the fields that all tasks share.

use utoipa::ToSchema;
use utoipa::openapi::encoding::Encoding;
use utoipa::openapi::schema::{
    AnyOfBuilder, Object, ObjectBuilder, OneOfBuilder, Schema, SchemaType, Type,
};
use utoipa::openapi::{OpenApi, RefOr};

use crate::api::extract::field_names::plural;
use crate::api::extract::options::Options;

/// A request with one image, as JSON.
#[derive(ToSchema)]
#[expect(dead_code, reason = "it only describes")]
pub struct ImageJson<T> {
    /// Base64, a `data:` URL, or an https URL of an allowed host.
    #[schema(format = "data-url", example = "data:image/png;base64,iVBORw0KGgo…")]
    pub image: String,
    #[serde(flatten)]
    pub task: T,
    #[serde(flatten)]
    pub options: Options,
}

/// Base64, a `data:` URL, or an https URL of an allowed host.
#[derive(ToSchema)]
#[schema(format = "data-url")]
#[expect(dead_code, reason = "it only describes")]
pub struct ImageText(String);

/// A request with one or several images, as JSON. Either `image` or `images` is required.
#[derive(ToSchema)]
#[expect(dead_code, reason = "it only describes")]
pub struct ImagesJson<T> {
    /// Base64, a `data:` URL, or an https URL of an allowed host.
    #[schema(format = "data-url", example = "data:image/png;base64,iVBORw0KGgo…")]
    pub image: Option<String>,
    /// Several of them.
    #[schema(value_type = Option<Vec<ImageText>>, min_items = 1)]
    pub images: Option<Vec<String>>,
    #[serde(flatten)]
    pub task: T,
    #[serde(flatten)]
    pub options: Options,
}

/// A request with one image, as a form.
#[derive(ToSchema)]
#[expect(dead_code, reason = "it only describes")]
pub struct ImageForm<T> {
    /// The image file.
    #[schema(value_type = String, format = Binary)]
    pub image: Vec<u8>,
    #[serde(flatten)]
    pub task: T,
    #[serde(flatten)]
    pub options: Options,
}

/// A request with one or several images, as a form.
#[derive(ToSchema)]
#[expect(dead_code, reason = "it only describes")]
pub struct ImagesForm<T> {
    /// The image files: repeat the field for several.
    #[schema(value_type = Vec<String>, format = Binary, min_items = 1)]
    pub image: Vec<Vec<u8>>,
    #[serde(flatten)]
    pub task: T,
    #[serde(flatten)]
    pub options: Options,
}

/// What the image of a form may be.
const IMAGE_TYPES: &str = "image/jpeg, image/png, image/webp, image/gif, image/bmp, image/tiff";

/// Says in `document` what utoipa has no attribute for: what kinds of image forms may have, and that
/// of a text such as `question` and its plural one is required.
///
/// # Panics
/// When a schema is not made of parts, as flattened fields make it.
pub fn complete(document: &mut OpenApi) {
    let items = document.paths.paths.values_mut();
    let posts = items.filter_map(|item| item.post.as_mut());
    for body in posts.filter_map(|post| post.request_body.as_mut()) {
        if let RefOr::T(body) = body
            && let Some(RefOr::T(form)) = body.content.get_mut("multipart/form-data")
        {
            let image = Encoding::builder().content_type(Some(IMAGE_TYPES));
            form.encoding.insert("image".to_owned(), image.build());
        }
    }
    choose(document);
}

fn choose(document: &mut OpenApi) {
    let schemas = &mut document.components.get_or_insert_default().schemas;
    let kinds = ["ImageJson_", "ImagesJson_", "ImageForm_", "ImagesForm_"];
    let requests = schemas
        .iter_mut()
        .filter(|(name, _)| kinds.iter().any(|kind| name.starts_with(kind)));
    for (name, schema) in requests {
        let RefOr::T(Schema::AllOf(parts)) = schema else {
            panic!("{name} is not made of parts");
        };
        let choices: Vec<_> = parts.items.iter().flat_map(choices).collect();
        parts.items.extend(choices);
    }
}

/// The choices that a part of a request leaves: each text that has a field for several, too.
fn choices(part: &RefOr<Schema>) -> Vec<RefOr<Schema>> {
    let RefOr::T(Schema::Object(part)) = part else {
        return Vec::new();
    };
    let texts = part.properties.iter().filter(|(_, field)| is_text(field));
    let pairs = texts.map(|(one, _)| (required(one), plural(one)));
    let pairs = pairs.filter(|(_, several)| part.properties.contains_key(several));
    let choice = |(one, several): (Object, String)| match several.as_str() {
        // Both together are all images of the request.
        "images" => AnyOfBuilder::new()
            .item(one)
            .item(required(&several))
            .into(),
        _ => OneOfBuilder::new()
            .item(one)
            .item(required(&several))
            .into(),
    };
    pairs.map(choice).collect()
}

fn is_text(field: &RefOr<Schema>) -> bool {
    let RefOr::T(Schema::Object(field)) = field else {
        return false;
    };
    match &field.schema_type {
        SchemaType::Type(kind) => *kind == Type::String,
        SchemaType::Array(kinds) => kinds.contains(&Type::String),
        SchemaType::AnyValue => false,
    }
}

fn required(field: &str) -> Object {
    ObjectBuilder::new().required(field).build()
}
