//! What requests are made of: a task's own fields, images, and the fields that all tasks share.

use utoipa::ToSchema;
use utoipa::openapi::encoding::Encoding;
use utoipa::openapi::schema::{AnyOfBuilder, Object, ObjectBuilder, OneOfBuilder, Schema};
use utoipa::openapi::{OpenApi, RefOr};

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

/// Says in `document` what utoipa has no attribute for: what kinds of image forms may have, and
/// which fields there have to be one of.
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
    for (name, schema) in schemas {
        let choice = match name {
            // Both together are all images of the request.
            _ if name.starts_with("ImagesJson_") => {
                let either = AnyOfBuilder::new().item(required("image"));
                either.item(required("images")).into()
            }
            _ if name.ends_with("_VqaFields") => one_of("question", "questions"),
            _ if name.ends_with("_QuestionFields") => one_of("answer", "answers"),
            _ => continue,
        };
        let RefOr::T(Schema::AllOf(parts)) = schema else {
            panic!("{name} is not made of parts");
        };
        parts.items.push(choice);
    }
}

fn one_of(one: &str, other: &str) -> RefOr<Schema> {
    let choice = OneOfBuilder::new().item(required(one));
    choice.item(required(other)).into()
}

fn required(field: &str) -> Object {
    ObjectBuilder::new().required(field).build()
}
