//! Recorded launches.

use std::sync::Arc;

use candle_core::cuda_backend::cudarc::driver::{CudaGraph, CudaStream, sys};
use candle_core::{Device, Error, Result, bail};

pub(crate) struct Graph(CudaGraph);

// SAFETY: a graph may be used from any thread, by one at a time, and `&Graph` is used by the thread
// alone that queues the model's work.
unsafe impl Send for Graph {}

impl Graph {
    /// See [`record`](crate::Graph::record).
    pub(crate) fn record(device: &Device, work: impl FnOnce() -> Result<()>) -> Result<Self> {
        let stream: Arc<CudaStream> = device.as_cuda_device()?.cuda_stream();
        // Other threads may go on using the driver, for other streams.
        let of_thread = sys::CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL;
        stream.begin_capture(of_thread).map_err(Error::wrap)?;
        let worked = work();
        // Also after an error: the stream must not stay in this state. What was freed in a capture that the
        // driver has given up fails, too, and the context remembers that and would refuse to end it.
        let context = stream.context();
        let freed = context.check_err();
        let graph = stream.end_capture(sys::CUgraphInstantiate_flags(0));
        let freed = freed.and(context.check_err());
        worked?;
        freed.map_err(Error::wrap)?;
        match graph.map_err(Error::wrap)? {
            Some(graph) => Ok(Self(graph)),
            None => bail!("nothing was recorded"),
        }
    }

    pub(crate) fn launch(&self) -> Result<()> {
        self.0.launch().map_err(Error::wrap)
    }
}
