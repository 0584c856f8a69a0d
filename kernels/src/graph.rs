//! CUDA graphs: launches that are recorded once and then queued with one call.

use std::fmt;
use std::str::FromStr;

use candle_core::{Device, Result};

use super::cuda;

/// Whether a GPU's decode steps are recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GraphChoice {
    /// When a recorded step gives the same bits as another.
    Auto,
    On,
    Off,
}

impl FromStr for GraphChoice {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        match text {
            "auto" => Ok(Self::Auto),
            "on" => Ok(Self::On),
            "off" => Ok(Self::Off),
            other => Err(format!("{other:?} is none of auto, on and off")),
        }
    }
}

/// Recorded launches, which use the same memory each time.
pub struct Graph(cuda::Graph);

impl Graph {
    /// Records what `work` queues on `device`; nothing of it runs yet. What `work` allocates must be
    /// dropped when it returns, and it may neither wait for the GPU nor copy from or to it.
    ///
    /// # Errors
    /// Those of `work`; when the device has no graphs, or the driver refuses it.
    pub fn record(device: &Device, work: impl FnOnce() -> Result<()>) -> Result<Self> {
        cuda::Graph::record(device, work).map(Self)
    }

    /// Queues all of it.
    ///
    /// # Errors
    /// When the driver refuses it.
    pub fn launch(&self) -> Result<()> {
        self.0.launch()
    }
}

impl fmt::Debug for Graph {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Graph")
    }
}
