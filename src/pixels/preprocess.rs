//! From a request's bytes to [`Pixels`], off the async threads and a few at a time.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinError;

use super::decode::File;
use super::decode_memory::DecodeMemory;
use super::{ImageError, ImageLimits, Pixels, resize};
use crate::telemetry::metrics::{Preparing, Stage};

/// Decodes and resizes pictures for one model. Clones share the bound on concurrent work.
#[derive(Debug, Clone)]
pub struct Preprocessor {
    side: u32,
    limits: ImageLimits,
    concurrency: usize,
    permits: Arc<Semaphore>,
    memory: DecodeMemory,
}

impl Preprocessor {
    /// Pictures become `side` × `side` pixels; at most `concurrency` (at least 1) are worked on at
    /// a time, and the others wait.
    pub fn new(side: u32, limits: ImageLimits, concurrency: usize) -> Self {
        let permits = concurrency.clamp(1, Semaphore::MAX_PERMITS);
        Self {
            side,
            limits,
            concurrency: permits,
            permits: Arc::new(Semaphore::new(permits)),
            memory: DecodeMemory::new(limits.memory, permits),
        }
    }

    /// Width and height of prepared pictures in pixels.
    pub fn side(&self) -> u32 {
        self.side
    }

    /// How many pictures are worked on at a time.
    pub fn concurrency(&self) -> usize {
        self.concurrency
    }

    /// Runs [`Self::prepare_blocking`] on tokio's blocking threads once there is memory and a permit
    /// for it.
    ///
    /// Dropping the future before that cancels the work; later, the work still runs to its end and
    /// holds both until then.
    ///
    /// # Errors
    /// See [`ImageError`].
    pub async fn prepare(&self, bytes: Bytes) -> Result<Pixels, ImageError> {
        let waiting = Preparing::new(Stage::Waiting);
        let (limits, header) = (self.limits, bytes.clone());
        let memory = move || File::new(&header)?.memory(limits);
        let memory = self.bounded(memory).await.map_err(not_done)??;
        let memory = self.memory.take(memory).await;
        let preprocessor = self.clone();
        let work = move || {
            let (_memory, _stage) = (memory, waiting.next(Stage::Decoding));
            preprocessor.prepare_blocking(&bytes)
        };
        self.bounded(work).await.map_err(not_done)?
    }

    /// Runs work on pixels off the async threads, within the bound on concurrent decoding.
    ///
    /// # Errors
    /// When it panics, or the runtime stops before it begins.
    pub async fn bounded<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, JoinError> {
        let permit = acquired(&self.permits, 1).await;
        let work = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            work()
        });
        work.await
    }

    /// The picture itself, upright and in RGB on white, as large as it is.
    ///
    /// # Errors
    /// See [`ImageError`].
    pub fn picture(&self, bytes: &[u8]) -> Result<image::RgbImage, ImageError> {
        let file = File::new(bytes)?;
        file.memory(self.limits)?;
        file.decode(self.limits)
    }

    /// Sniffs the format, checks the header, decodes, turns upright, converts to RGB on white,
    /// squashes to the model's square as Pillow does, and hashes.
    ///
    /// # Errors
    /// See [`ImageError`].
    pub fn prepare_blocking(&self, bytes: &[u8]) -> Result<Pixels, ImageError> {
        let image = self.picture(bytes)?;
        let (width, height) = image.dimensions();
        let data = resize::resize_bicubic(image, self.side).into_raw();
        Ok(Pixels {
            hash: blake3::hash(&data).into(),
            data,
            side: self.side,
            width,
            height,
        })
    }
}

/// So many permits of a semaphore, once it has them.
pub(super) async fn acquired(semaphore: &Arc<Semaphore>, permits: u32) -> OwnedSemaphorePermit {
    Arc::clone(semaphore)
        .acquire_many_owned(permits)
        .await
        .expect("the semaphore is never closed")
}

/// Why work on a picture has no result.
fn not_done(error: JoinError) -> ImageError {
    // A panic is a bug in the decoder: refuse the file; the panic's message is in the log.
    match error.is_panic() {
        true => ImageError::Corrupt {
            format: "image",
            reason: "its decoder gave up on it".to_owned(),
        },
        false => ImageError::ShuttingDown,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn a_dropped_request_holds_its_place_until_its_work_ends() {
        let limits = ImageLimits {
            max_side: 5000,
            max_pixels: 12_000_000,
            memory: 1 << 30,
        };
        let preprocessor = Preprocessor::new(224, limits, 1);
        let photo = include_bytes!("../../tests/goldens/pixels/images/photo_12_megapixels.jpg");

        let mut work = Box::pin(preprocessor.prepare(Bytes::from_static(photo)));
        assert!(futures::poll!(&mut work).is_pending());
        drop(work);
        assert_eq!(preprocessor.permits.available_permits(), 0);

        let freed = preprocessor.permits.acquire();
        let freed = tokio::time::timeout(Duration::from_secs(60), freed).await;
        assert!(freed.is_ok(), "the place was not given back");
    }
}
