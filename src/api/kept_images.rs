//! Images that were sent once and can be named afterwards.
//!
//! An image's key is the SHA-256 of its file, which a client can compute by itself: a proxy that hashes on
//! it sends every question about an image to the server that has it.

use std::fmt;
use std::num::NonZeroUsize;
use std::str::FromStr;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use axum::http::{HeaderName, HeaderValue};
use lru::LruCache;
use ring::digest::{SHA256, digest};

use super::error::{ApiError, ErrorCode};
use super::middleware::auth::KeyName;
use crate::pixels::Pixels;
use crate::telemetry::metrics;

/// The keys of a request's images, in their order, with commas between.
pub const IMAGE_KEY: HeaderName = HeaderName::from_static("x-image-key");

/// What identifies an image: the SHA-256 of its file.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct ImageKey([u8; 32]);

impl ImageKey {
    /// The key of a file with these bytes.
    pub fn of(file: &[u8]) -> Self {
        let digest = digest(&SHA256, file);
        let mut hash = [0; 32];
        hash.copy_from_slice(digest.as_ref());
        Self(hash)
    }
}

impl FromStr for ImageKey {
    type Err = ApiError;

    fn from_str(text: &str) -> Result<Self, ApiError> {
        match blake3::Hash::from_hex(text) {
            Ok(hash) => Ok(Self(hash.into())),
            Err(_) => {
                let shown: String = text.chars().take(80).collect();
                let detail = format!(
                    "`{shown}` is no image key: send the 64 hexadecimal digits of an answer's `x-image-key`, which are the SHA-256 of the image's file"
                );
                Err(ApiError::new(ErrorCode::InvalidField, detail))
            }
        }
    }
}

impl fmt::Display for ImageKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&blake3::Hash::from(self.0).to_hex())
    }
}

impl fmt::Debug for ImageKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ImageKey({self})")
    }
}

/// Whose image it is: of the holder of this API key, so that nobody asks about another's image.
pub type Owner = Option<KeyName>;

/// Prepared images by owner and key. Those used longest ago go first. Clones share them.
#[derive(Debug, Clone)]
pub struct KeptImages(Option<Arc<Mutex<Images>>>);

type Images = LruCache<(Owner, ImageKey), Arc<Pixels>>;

impl KeptImages {
    /// As many images of `side` × `side` pixels as fit into so many bytes; 0 keeps none.
    pub fn new(bytes: u64, side: u32) -> Self {
        let each = u64::from(side).pow(2) * 3;
        let most = usize::try_from(bytes / each.max(1)).unwrap_or(usize::MAX);
        // `unbounded` and `resize` take memory as images come; `new` would take all of it at once.
        let images = NonZeroUsize::new(most).map(|most| {
            let mut images = LruCache::unbounded();
            images.resize(most);
            Arc::new(Mutex::new(images))
        });
        Self(images)
    }

    /// The image of such a file, if its owner has sent it before.
    pub fn get(&self, owner: &Owner, key: ImageKey) -> Option<Arc<Pixels>> {
        let mut images = self
            .0
            .as_ref()?
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        images.get(&(owner.clone(), key)).cloned()
    }

    /// The image that a client names instead of sending it.
    ///
    /// # Errors
    /// When it is not here, or not any more.
    pub fn named(&self, owner: &Owner, key: ImageKey) -> Result<Arc<Pixels>, ApiError> {
        let found = self.get(owner, key);
        metrics::named_image(found.is_some());
        found.ok_or_else(|| {
            let detail = match self.0 {
                Some(_) => format!("the image {key} is not here, or not any more; send the image itself"),
                None => "this server keeps no images: its setting kept_images is 0; send the image itself".to_owned(),
            };
            ApiError::new(ErrorCode::ImageNotCached, detail)
        })
    }

    /// Keeps an image for its owner's next questions.
    pub fn keep(&self, owner: Owner, key: ImageKey, image: Arc<Pixels>) {
        if let Some(images) = &self.0 {
            let mut images = images.lock().unwrap_or_else(PoisonError::into_inner);
            images.put((owner, key), image);
        }
    }
}

/// The keys of a request's images, for its answer's header. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct AnsweredKeys(Arc<OnceLock<HeaderValue>>);

impl AnsweredKeys {
    /// These are the keys of the request's images.
    pub fn set(&self, keys: impl Iterator<Item = ImageKey>) {
        let keys: Vec<_> = keys.map(|key| key.to_string()).collect();
        if let Ok(value) = HeaderValue::from_str(&keys.join(",")) {
            self.0.get_or_init(|| value);
        }
    }

    pub fn header(&self) -> Option<HeaderValue> {
        self.0.get().cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(byte: u8) -> Arc<Pixels> {
        Arc::new(Pixels {
            data: vec![byte; 12],
            side: 2,
            width: 2,
            height: 2,
            hash: [byte; 32],
        })
    }

    #[test]
    fn a_key_is_the_files_sha_256() {
        let key = ImageKey::of(b"abc");
        let known = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(key.to_string(), known);
        assert_eq!(known.to_uppercase().parse::<ImageKey>().unwrap(), key);
        for other in ["", "ba78", &known[1..], &format!("{known}0"), "é"] {
            let error = other.parse::<ImageKey>().unwrap_err();
            assert_eq!(error.code, ErrorCode::InvalidField, "{other}");
        }
    }

    #[test]
    fn what_was_used_longest_ago_goes_first_and_owners_see_their_own() {
        let kept = KeptImages::new(25, 2);
        let [a, b, c] = [b"a", b"b", b"c"].map(|file| ImageKey::of(file));
        kept.keep(None, a, image(1));
        kept.keep(None, b, image(2));
        assert!(kept.named(&None, a).is_ok());
        kept.keep(None, c, image(3));
        assert!(kept.get(&None, a).is_some() && kept.get(&None, c).is_some());
        let gone = kept.named(&None, b).unwrap_err();
        assert_eq!(gone.code, ErrorCode::ImageNotCached);
        let other = Some(KeyName("other".into()));
        assert!(kept.get(&other, a).is_none());
    }

    #[test]
    fn without_memory_nothing_is_kept() {
        let kept = KeptImages::new(0, 2);
        let key = ImageKey::of(b"a");
        kept.keep(None, key, image(1));
        let error = kept.named(&None, key).unwrap_err();
        assert!(error.detail.contains("kept_images is 0"), "{error}");
    }
}
