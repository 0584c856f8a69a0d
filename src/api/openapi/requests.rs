//! What requests are made of: a task's own fields, images, and the fields that all tasks share.

use utoipa::ToSchema;
use utoipa::openapi::encoding::Encoding;
use utoipa::openapi::schema::{
    AnyOfBuilder, Object, ObjectBuilder, OneOfBuilder, Schema, SchemaType, Type,
};
use utoipa::openapi::{HeaderBuilder, OpenApi, RefOr};

use crate::api::extract::field_names::plural;
use crate::api::extract::options::Options;

/// A request with one image, as JSON. Either `image` or `image_key` is required.
#[derive(ToSchema)]
#[expect(dead_code, reason = "it only describes")]
pub struct ImageJson<T, O = Options> {
    /// Base64, a `data:` URL, or an https URL of an allowed host.
    #[schema(format = "data-url", example = "data:image/png;base64,iVBORw0KGgo…")]
    pub image: Option<String>,
    /// Instead of the image: the `x-image-key` of an earlier answer about it.
    #[schema(example = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad")]
    pub image_key: Option<String>,
    #[serde(flatten)]
    pub task: T,
    #[serde(flatten)]
    pub options: O,
}

/// Base64, a `data:` URL, or an https URL of an allowed host.
#[derive(ToSchema)]
#[schema(format = "data-url")]
#[expect(dead_code, reason = "it only describes")]
pub struct ImageText(String);

/// A request with one or several images, as JSON. At least one of the fields for images is required.
#[derive(ToSchema)]
#[expect(dead_code, reason = "it only describes")]
pub struct ImagesJson<T> {
    /// Base64, a `data:` URL, or an https URL of an allowed host.
    #[schema(format = "data-url", example = "data:image/png;base64,iVBORw0KGgo…")]
    pub image: Option<String>,
    /// Several of them.
    #[schema(value_type = Option<Vec<ImageText>>, min_items = 1)]
    pub images: Option<Vec<String>>,
    /// Instead of the image: the `x-image-key` of an earlier answer about it.
    #[schema(example = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad")]
    pub image_key: Option<String>,
    /// Several of them.
    #[schema(min_items = 1)]
    pub image_keys: Option<Vec<String>>,
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
    #[schema(value_type = Option<String>, format = Binary)]
    pub image: Option<Vec<u8>>,
    /// Instead of the image: the `x-image-key` of an earlier answer about it.
    #[schema(example = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad")]
    pub image_key: Option<String>,
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
    #[schema(value_type = Option<Vec<String>>, format = Binary, min_items = 1)]
    pub image: Option<Vec<Vec<u8>>>,
    /// Instead of images: the `x-image-key`s of earlier answers about them.
    #[schema(min_items = 1)]
    pub image_key: Option<Vec<String>>,
    #[serde(flatten)]
    pub task: T,
    #[serde(flatten)]
    pub options: Options,
}

/// What the image of a form may be.
const IMAGE_TYPES: &str = "image/jpeg, image/png, image/webp, image/gif, image/bmp, image/tiff";

/// Says in `document` what utoipa has no attribute for: what kinds of image forms may have, the
/// header of answers, and that of a text such as `question` and its plural one is required.
///
/// # Panics
/// When a schema is not made of parts, as flattened fields make it.
pub fn complete(document: &mut OpenApi) {
    let items = document.paths.paths.values_mut();
    let posts = items.filter_map(|item| item.post.as_mut());
    for post in posts.filter(|post| post.tags.iter().flatten().any(|tag| about_images(tag))) {
        if let Some(RefOr::T(body)) = &mut post.request_body
            && let Some(RefOr::T(form)) = body.content.get_mut("multipart/form-data")
        {
            let image = Encoding::builder().content_type(Some(IMAGE_TYPES));
            form.encoding.insert("image".to_owned(), image.build());
        }
        if let Some(RefOr::T(answer)) = post.responses.responses.get_mut("200") {
            let header = HeaderBuilder::new().description(Some(IMAGE_KEY_MEANS));
            answer
                .headers
                .insert("X-Image-Key".to_owned(), header.build().into());
        }
    }
    choose(document);
}

/// Whether the operations of this tag are requests about images.
fn about_images(tag: &str) -> bool {
    ["tasks", "openai"].contains(&tag)
}

const IMAGE_KEY_MEANS: &str = "The keys of the request's images in their order, with commas between: for each the SHA-256 of its file.";

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

/// The choices that a part of a request leaves: an image in any of its fields, and of each text that has
/// a field for several, one of both.
fn choices(part: &RefOr<Schema>) -> Vec<RefOr<Schema>> {
    let RefOr::T(Schema::Object(part)) = part else {
        return Vec::new();
    };
    if part.properties.contains_key("image") {
        let any = part
            .properties
            .keys()
            .filter(|name| name.starts_with("image"));
        let any = any.fold(AnyOfBuilder::new(), |any, name| any.item(required(name)));
        return vec![any.into()];
    }
    let texts = part.properties.iter().filter(|(_, field)| is_text(field));
    let pairs = texts.map(|(one, _)| (one, plural(one)));
    let pairs = pairs.filter(|(_, several)| part.properties.contains_key(several));
    let choice = |(one, several): (&String, String)| {
        let choice = OneOfBuilder::new().item(required(one));
        choice.item(required(&several)).into()
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
