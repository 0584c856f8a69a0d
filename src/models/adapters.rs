//! The adapters that are resident beside a model, by name.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::SystemTime;

use super::AdapterId;
use crate::checkpoint::adapter::AdapterError;
use crate::checkpoint::{Adapter, WeightFiles};

/// The adapters that requests may ask for. Cheap to clone; all clones share one list, from which a
/// model that has to be built again takes them.
#[derive(Debug, Clone, Default)]
pub struct Adapters(Arc<RwLock<Table>>);

#[derive(Debug, Default)]
struct Table {
    /// In the order in which they came.
    resident: Vec<Resident>,
    /// No two adapters ever have the same.
    last_id: u32,
}

/// One of them.
#[derive(Debug, Clone)]
pub struct Resident {
    pub name: String,
    pub id: AdapterId,
    pub adapter: Arc<Adapter>,
    /// When it came: seconds since 1970-01-01 00:00 UTC.
    pub created: u64,
}

impl Adapters {
    /// An adapter that fits `base`, with a number of its own, as it would be resident under a name.
    ///
    /// # Errors
    /// When it does not fit, or the name is taken.
    pub fn fit(
        &self,
        name: &str,
        adapter: Adapter,
        base: &WeightFiles,
    ) -> Result<Resident, AdapterError> {
        if self.get(name).is_some() {
            return Err(AdapterError::NameTaken(name.to_owned()));
        }
        let adapter = Arc::new(adapter.fit(base)?);
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let mut table = self.0.write().unwrap_or_else(PoisonError::into_inner);
        table.last_id += 1;
        Ok(Resident {
            name: name.to_owned(),
            id: AdapterId(table.last_id),
            adapter,
            created: since.map_or(0, |since| since.as_secs()),
        })
    }

    /// Adds one; gives it back if there is one of that name.
    ///
    /// # Errors
    /// When the name is taken.
    pub fn insert(&self, resident: Resident) -> Result<(), Resident> {
        let mut table = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if table.resident.iter().any(|it| it.name == resident.name) {
            return Err(resident);
        }
        table.resident.push(resident);
        Ok(())
    }

    /// Takes one out.
    pub fn remove(&self, name: &str) -> Option<Resident> {
        let mut table = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let index = table.resident.iter().position(|it| it.name == name)?;
        Some(table.resident.remove(index))
    }

    /// The one of that name.
    pub fn get(&self, name: &str) -> Option<Resident> {
        let table = self.0.read().unwrap_or_else(PoisonError::into_inner);
        table.resident.iter().find(|it| it.name == name).cloned()
    }

    /// All of them, in the order in which they came.
    pub fn all(&self) -> Vec<Resident> {
        let table = self.0.read().unwrap_or_else(PoisonError::into_inner);
        table.resident.clone()
    }
}
