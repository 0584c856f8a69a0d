//! Who answers: the model in this process ([`resident`]), or running servers ([`servers`]).

mod resident;
mod servers;

use super::pictures::Picture;
use super::record::{Asked, Record};
pub use resident::Resident;
pub use servers::{Question, Servers};

/// Turns pictures into records.
pub struct Labeller {
    answerer: Answerer,
    /// The same for every picture.
    asked: Asked,
}

/// Who answers. Both give the same records.
pub enum Answerer {
    Resident(Box<Resident>),
    Servers(Servers),
}

impl Labeller {
    pub fn new(answerer: Answerer, asked: Asked) -> Self {
        Self { answerer, asked }
    }

    /// How many pictures to label at once.
    pub fn ahead(&self) -> usize {
        match &self.answerer {
            Answerer::Resident(resident) => resident.ahead,
            Answerer::Servers(servers) => servers.ahead(),
        }
    }

    /// Labels one picture. The record holds an error if the file is not a picture. Returns `None` if
    /// it can't be read or gets no answer; a later run may succeed.
    ///
    /// # Errors
    /// When the model or the engine fails, or no server is left.
    pub async fn label(&self, picture: Picture) -> anyhow::Result<Option<Record>> {
        let bytes = match picture.place.read().await {
            Ok(bytes) => bytes,
            Err(error) => {
                tracing::warn!(file = picture.name, "can't be read: {error}");
                return Ok(None);
            }
        };
        let record = Record {
            file: picture.name,
            asked: self.asked.clone(),
            ..Record::default()
        };
        match &self.answerer {
            Answerer::Resident(resident) => resident.label(bytes, record).await.map(Some),
            Answerer::Servers(servers) => servers.label(bytes, record).await,
        }
    }
}

/// The record of a picture that can't be labelled.
fn failed(record: Record, error: String) -> Record {
    tracing::warn!(file = record.file, "{error}");
    Record {
        error: Some(error),
        ..record
    }
}
