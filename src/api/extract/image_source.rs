//! Where an image comes from: the body itself, base64, a `data:` URL, an https URL, or an earlier request.

use std::borrow::Cow;
use std::sync::Arc;

use axum::body::Bytes;
use base64::Engine;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use serde::Deserialize;
use serde::de::value::StrDeserializer;
use serde::de::{self, IntoDeserializer};

use crate::pixels::{ImageError, Pixels};
use crate::telemetry::metrics::{Preparing, Stage};

use crate::api::error::{ApiError, ErrorCode};
use crate::api::image_fetcher::ImageFetcher;
use crate::api::kept_images::{ImageKey, Owner};
use crate::api::state::AppState;

/// Takes base64 with or without padding, and sloppy last bits, as common encoders write them.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

/// An image as it was sent, and the field that it was sent in.
#[derive(Debug)]
pub struct ImageSource {
    param: String,
    content: Content,
}

#[derive(Debug)]
enum Content {
    File(Bytes),
    /// In UTF-8.
    Text(Bytes),
    /// The key of an image that was sent before.
    Key(String),
    Prepared(ImageKey, Arc<Pixels>),
}

impl ImageSource {
    /// An image file from a form.
    pub fn file(param: impl Into<String>, bytes: Bytes) -> Self {
        Self {
            param: param.into(),
            content: Content::File(bytes),
        }
    }

    /// Base64, a `data:` URL or an https URL, in UTF-8.
    pub fn text(param: impl Into<String>, text: Bytes) -> Self {
        Self {
            param: param.into(),
            content: Content::Text(text),
        }
    }

    /// The key of an image that was sent before.
    pub fn key(param: impl Into<String>, key: impl Into<String>) -> Self {
        Self {
            param: param.into(),
            content: Content::Key(key.into()),
        }
    }

    /// An image that was prepared already.
    pub fn prepared(param: impl Into<String>, key: ImageKey, pixels: Arc<Pixels>) -> Self {
        Self {
            param: param.into(),
            content: Content::Prepared(key, pixels),
        }
    }

    /// The same with `prefix` before the name of its field.
    pub fn within(self, prefix: &str) -> Self {
        Self {
            param: format!("{prefix}{}", self.param),
            ..self
        }
    }

    /// The text, unless it was sent as a file.
    #[cfg(test)]
    pub fn sent_text(&self) -> Option<&str> {
        match &self.content {
            Content::File(_) | Content::Key(_) | Content::Prepared(..) => None,
            Content::Text(text) => str::from_utf8(text).ok(),
        }
    }

    /// Fetches or decodes the file and prepares it for the model, unless its owner has sent it before.
    ///
    /// # Errors
    /// Anything wrong with it, with the name of the field.
    pub async fn prepare(
        self,
        state: &AppState,
        owner: &Owner,
    ) -> Result<(ImageKey, Arc<Pixels>), ApiError> {
        let Self { param, content } = self;
        let prepared = async {
            let bytes = match content {
                Content::File(bytes) => bytes,
                Content::Text(text) => read_text(&text, &state.fetcher).await?,
                Content::Key(key) => {
                    let key = key.parse()?;
                    return Ok((key, state.kept_images.named(owner, key)?));
                }
                Content::Prepared(key, pixels) => return Ok((key, pixels)),
            };
            prepare_file(bytes, state, owner).await
        };
        prepared.await.map_err(|error| error.param(param))
    }
}

async fn prepare_file(
    bytes: Bytes,
    state: &AppState,
    owner: &Owner,
) -> Result<(ImageKey, Arc<Pixels>), ApiError> {
    let preprocessor = &state.preprocessor;
    let file = bytes.clone();
    let key = preprocessor.bounded(move || ImageKey::of(&file)).await;
    let key = key.map_err(|_| image_error(ImageError::ShuttingDown))?;
    if let Some(pixels) = state.kept_images.get(owner, key) {
        return Ok((key, pixels));
    }
    let pixels = Arc::new(preprocessor.prepare(bytes).await.map_err(image_error)?);
    state.kept_images.keep(owner.clone(), key, pixels.clone());
    Ok((key, pixels))
}

async fn read_text(text: &[u8], fetcher: &ImageFetcher) -> Result<Bytes, ApiError> {
    let not_utf8 = |_| ApiError::new(ErrorCode::InvalidField, "the text is not UTF-8");
    let text = str::from_utf8(text).map_err(not_utf8)?.trim();
    if let Some(rest) = strip_scheme(text, "data:") {
        return decode_data_url(rest);
    }
    if strip_scheme(text, "https://")
        .or(strip_scheme(text, "http://"))
        .is_some()
    {
        let _stage = Preparing::new(Stage::Fetching);
        return fetcher.fetch(text).await;
    }
    decode_base64(text)
}

/// The text after `scheme`, in any case of letters.
fn strip_scheme<'a>(text: &'a str, scheme: &str) -> Option<&'a str> {
    let head = text.get(..scheme.len())?;
    head.eq_ignore_ascii_case(scheme)
        .then(|| &text[scheme.len()..])
}

/// Decodes what follows `data:` (RFC 2397).
fn decode_data_url(rest: &str) -> Result<Bytes, ApiError> {
    let malformed = || {
        ApiError::new(
            ErrorCode::InvalidBase64,
            "a `data:` URL has to be written as `data:image/png;base64,…`",
        )
    };
    let (description, data) = rest.split_once(',').ok_or_else(malformed)?;
    let mut parts = description.split(';').map(str::trim);
    let media_type = parts.next().unwrap_or_default().to_ascii_lowercase();
    if !media_type.starts_with("image/") {
        return Err(ApiError::new(
            ErrorCode::UnsupportedMediaType,
            format!(
                "the `data:` URL's type is `{media_type}`; it has to be an image type such as `image/jpeg`"
            ),
        ));
    }
    if !parts.any(|part| part.eq_ignore_ascii_case("base64")) {
        return Err(malformed());
    }
    decode_base64(data)
}

/// Decodes base64 in either alphabet, with or without padding, broken into lines or not.
fn decode_base64(text: &str) -> Result<Bytes, ApiError> {
    let odd = |byte: &u8| byte.is_ascii_whitespace() || matches!(byte, b'-' | b'_');
    let text = text.as_bytes();
    let standard: Cow<'_, [u8]> = if text.iter().any(odd) {
        let kept = text.iter().filter(|byte| !byte.is_ascii_whitespace());
        kept.map(|byte| match byte {
            b'-' => b'+',
            b'_' => b'/',
            byte => *byte,
        })
        .collect()
    } else {
        text.into()
    };
    let bytes = BASE64.decode(&standard).map_err(|error| {
        ApiError::new(
            ErrorCode::InvalidBase64,
            format!("not base64, a `data:` URL or an https URL: {error}"),
        )
    })?;
    Ok(bytes.into())
}

/// [`ImageError::code`] uses the names of the API's codes.
fn image_error(error: ImageError) -> ApiError {
    let name: StrDeserializer<'_, de::value::Error> = error.code().into_deserializer();
    let code = ErrorCode::deserialize(name).unwrap_or(ErrorCode::ImageCorrupt);
    ApiError::new(code, error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_read_in_every_common_form() {
        let bytes: Vec<u8> = (0..=255).chain(250..=253).collect();
        let padded = base64::prelude::BASE64_STANDARD.encode(&bytes);
        let url_safe = base64::prelude::BASE64_URL_SAFE.encode(&bytes);
        assert!(padded.ends_with('=') && padded.contains('+') && padded.contains('/'));
        let broken: String = padded
            .as_bytes()
            .chunks(76)
            .map(|line| format!("{}\r\n", str::from_utf8(line).unwrap()))
            .collect();
        let bare = padded.trim_end_matches('=').to_owned();
        for text in [padded, url_safe, broken, bare] {
            assert_eq!(decode_base64(&text).unwrap(), bytes, "{text}");
        }
    }

    #[test]
    fn other_text_is_not_base64() {
        let error = decode_base64("a photo!").unwrap_err();
        assert_eq!(error.code, ErrorCode::InvalidBase64);
    }

    #[test]
    fn a_data_url_must_hold_an_image_in_base64() {
        assert_eq!(
            decode_data_url("image/png;base64,AAEC").unwrap(),
            [0, 1, 2][..]
        );
        assert_eq!(
            decode_data_url("IMAGE/PNG;charset=x;BASE64,AAEC").unwrap(),
            [0, 1, 2][..]
        );
        for (url, code) in [
            ("text/plain;base64,AAEC", ErrorCode::UnsupportedMediaType),
            (";base64,AAEC", ErrorCode::UnsupportedMediaType),
            ("image/png,AAEC", ErrorCode::InvalidBase64),
            ("image/png;base64", ErrorCode::InvalidBase64),
        ] {
            assert_eq!(decode_data_url(url).unwrap_err().code, code, "{url}");
        }
    }
}
