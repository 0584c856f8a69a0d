//! The messages of a chat, and what they come down to: one prompt about one image.

use serde::Deserialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::request::image_required;
use crate::api::error::{ApiError, ErrorCode};
use crate::api::extract::image_source::ImageSource;

/// One message of a chat.
#[derive(Debug, Deserialize, ToSchema)]
pub struct Message {
    #[schema(example = "user")]
    role: String,
    #[schema(value_type = Option<Content>)]
    content: Option<Value>,
}

/// A text, or parts.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(
    untagged,
    expecting = "expected a text, or a list of parts of type `text`, `image_url` or `image_key`"
)]
pub enum Content {
    Text(String),
    Parts(Vec<Part>),
}

/// A part of a message.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Part {
    Text {
        text: String,
    },
    ImageUrl {
        image_url: ImageUrl,
    },
    /// An image that was sent before, by the `x-image-key` of its answer.
    ImageKey {
        image_key: String,
    },
}

/// Where an image is: a `data:` URL, or an https URL of a host that the operator has allowed.
#[derive(Debug, Deserialize, ToSchema)]
pub struct ImageUrl {
    #[schema(example = "data:image/png;base64,iVBORw0KGgo…")]
    url: String,
}

/// What a chat comes down to.
#[derive(Debug)]
pub struct Asked {
    pub prompt: String,
    pub image: ImageSource,
    /// The field that the prompt comes from.
    pub param: String,
}

impl Asked {
    /// Reads the messages of a chat.
    ///
    /// # Errors
    /// A message of a user that can't be read or has several images; no such message; no image.
    pub fn read(messages: Vec<Message>) -> Result<Self, ApiError> {
        let mut prompt = None;
        let mut image = None;
        for (index, message) in messages.into_iter().enumerate() {
            if message.role != "user" {
                continue;
            }
            let param = format!("messages[{index}].content");
            let (text, mut images) = message.read(&param)?;
            if images.len() > 1 {
                let detail = format!(
                    "`{param}` has {} images; PaliGemma looks at one at a time",
                    images.len()
                );
                return Err(ApiError::new(ErrorCode::TooManyImages, detail).param(param));
            }
            image = images.pop().or(image);
            prompt = Some((text, param));
        }
        let Some((prompt, param)) = prompt else {
            let detail = "`messages` has no message of role `user`, which holds the prompt";
            return Err(ApiError::new(ErrorCode::MissingField, detail).param("messages"));
        };
        let how = "add a part `{\"type\": \"image_url\", \"image_url\": {\"url\": \"data:image/png;base64,…\"}}`";
        Ok(Self {
            prompt,
            image: image.ok_or_else(|| image_required("messages", how))?,
            param,
        })
    }
}

impl Message {
    /// Its texts, one a line, and its images.
    fn read(self, param: &str) -> Result<(String, Vec<ImageSource>), ApiError> {
        let content = self.content.map(serde_json::from_value).transpose();
        let content = content.map_err(|error: serde_json::Error| {
            let detail = format!("`{param}`: {error}");
            ApiError::new(ErrorCode::InvalidField, detail).param(param)
        })?;
        let parts = match content {
            None => Vec::new(),
            Some(Content::Text(text)) => vec![Part::Text { text }],
            Some(Content::Parts(parts)) => parts,
        };
        let (mut texts, mut images) = (Vec::new(), Vec::new());
        for (index, part) in parts.into_iter().enumerate() {
            match part {
                Part::Text { text } => texts.push(text),
                Part::ImageUrl { image_url } => {
                    let param = format!("{param}[{index}].image_url.url");
                    images.push(ImageSource::text(param, image_url.url.into()));
                }
                Part::ImageKey { image_key } => {
                    let param = format!("{param}[{index}].image_key");
                    images.push(ImageSource::key(param, image_key));
                }
            }
        }
        Ok((texts.join("\n"), images))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(messages: Value) -> Result<Asked, ApiError> {
        Asked::read(serde_json::from_value(messages).unwrap())
    }

    fn image(url: &str) -> Value {
        json!({"type": "image_url", "image_url": {"url": url, "detail": "low"}})
    }

    #[test]
    fn the_last_user_message_is_the_prompt_and_the_last_image_is_used() {
        let asked = read(json!([
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": [image("first"), image_text("caption en")]},
            {"role": "assistant", "content": [{"type": "refusal", "refusal": "no"}]},
            {"role": "user", "content": "answer en where?"},
        ]))
        .unwrap();
        assert_eq!(asked.prompt, "answer en where?");
        assert_eq!(asked.param, "messages[3].content");
        assert!(format!("{:?}", asked.image).contains("first"));
    }

    fn image_text(text: &str) -> Value {
        json!({"type": "text", "text": text})
    }

    #[test]
    fn chats_without_a_user_or_with_no_image_or_two_are_refused() {
        for (messages, code) in [
            (json!([]), ErrorCode::MissingField),
            (
                json!([{"role": "system", "content": "hi"}]),
                ErrorCode::MissingField,
            ),
            (
                json!([{"role": "user", "content": "hi"}]),
                ErrorCode::MissingField,
            ),
            (
                json!([{"role": "user", "content": [image("a"), image("b")]}]),
                ErrorCode::TooManyImages,
            ),
        ] {
            assert_eq!(read(messages.clone()).unwrap_err().code, code, "{messages}");
        }
    }
}
