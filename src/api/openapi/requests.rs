//! What requests are made of: a task's own fields, images, and the fields that all tasks share.

use utoipa::ToSchema;
use utoipa::openapi::encoding::Encoding;
use utoipa::openapi::schema::{ObjectBuilder, OneOf, Schema};
use utoipa::openapi::{OpenApi, RefOr};

use super::super::openai::SharedFields;
use super::super::options::Options;

/// A request with one image, as JSON.
#[derive(ToSchema)]
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
pub struct ImagesJson<T> {
    /// Base64, a `data:` URL, or an https URL of an allowed host.
    #[schema(
        nullable = false,
        format = "data-url",
        example = "data:image/png;base64,iVBORw0KGgo…"
    )]
    pub image: Option<String>,
    /// Several of them.
    #[schema(nullable = false, value_type = Option<Vec<ImageText>>, min_items = 1)]
    pub images: Option<Vec<String>>,
    #[serde(flatten)]
    pub task: T,
    #[serde(flatten)]
    pub options: Options,
}

/// A request with one image, as a form.
#[derive(ToSchema)]
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
pub struct ImagesForm<T> {
    /// The image files: repeat the field for several.
    #[schema(value_type = Vec<String>, format = Binary, min_items = 1)]
    pub image: Vec<Vec<u8>>,
    #[serde(flatten)]
    pub task: T,
    #[serde(flatten)]
    pub options: Options,
}

/// A request of a client of OpenAI's API.
#[derive(ToSchema)]
pub struct OpenAiJson<T> {
    #[serde(flatten)]
    pub task: T,
    #[serde(flatten)]
    pub shared: SharedFields,
}

/// Fields of which exactly one is required, by the end of the name of the schemas that have them.
const ONE_OF: [(&str, [&str; 2]); 2] = [
    ("_VqaFields", ["question", "questions"]),
    ("_QuestionFields", ["answer", "answers"]),
];

/// What the image of a form may be.
const IMAGE_TYPES: &str = "image/jpeg, image/png, image/webp, image/gif, image/bmp, image/tiff";

/// Says in `document` what utoipa has no attribute for: what kinds of image forms may have, and
/// which fields exclude each other.
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
    exclude(document);
}

fn exclude(document: &mut OpenApi) {
    let schemas = &mut document.components.get_or_insert_default().schemas;
    for (name, schema) in schemas {
        let mut choices = Vec::new();
        if name.starts_with("ImagesJson_") {
            choices.push(["image", "images"]);
        }
        let ends = ONE_OF.iter().filter(|(end, _)| name.ends_with(end));
        choices.extend(ends.map(|(_, fields)| *fields));
        for fields in choices {
            let RefOr::T(Schema::AllOf(parts)) = schema else {
                panic!("{name} is not made of parts");
            };
            let required = fields.map(|field| ObjectBuilder::new().required(field).build().into());
            let mut one = OneOf::new();
            one.items = required.into();
            parts.items.push(Schema::OneOf(one).into());
        }
    }
}
