// Graphs: what a stream is asked between begin and end of a capture is counted as recorded, and each
// launch of the graph as one.

#include <cuda.h>
#include <stdlib.h>
#include <string.h>

#include "fake.h"

// As the card has it, of one thread and stream: nothing here records two graphs at once.
static __thread int is_recording;
// Something was refused in the graph that is recorded.
static __thread int is_broken;
// Of the graph that is recorded: memory that it has allocated and not freed yet.
static __thread long open_allocations;
// Something to point to.
static int thing;

// FAKE_GRAPHS: what the card refuses, "record", "kernel" or "launch".
static int refuses(const char *what) {
  const char *asked = getenv("FAKE_GRAPHS");
  return asked && !strcmp(asked, what);
}

int recording(void) { return is_recording; }

int breaks_graph(void) {
  if (is_recording && refuses("kernel")) is_broken = 1;
  return is_broken;
}

int graph_is_broken(void) { return is_broken; }

int refused_in_graph(const char *what) {
  if (is_recording) complain("%s while a graph is recorded", what);
  return is_recording;
}

void graph_allocates(long change) {
  if (is_recording) open_allocations += change;
}

EXPORT CUresult cuStreamBeginCapture(CUstream stream, CUstreamCaptureMode mode) {
  (void)mode;
  if (!stream) {
    complain("the default stream can't be recorded");
    return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
  }
  if (refused_in_graph("another graph is begun")) return CUDA_ERROR_ILLEGAL_STATE;
  if (refuses("record")) return CUDA_ERROR_NOT_SUPPORTED;
  is_recording = 1;
  open_allocations = 0;
  return CUDA_SUCCESS;
}

EXPORT CUresult cuStreamEndCapture(CUstream stream, CUgraph *graph) {
  (void)stream;
  if (!is_recording) return CUDA_ERROR_ILLEGAL_STATE;
  is_recording = 0;
  if (is_broken) {
    is_broken = 0;
    return CUDA_ERROR_STREAM_CAPTURE_INVALIDATED;
  }
  if (open_allocations) {
    complain("a graph leaves %ld allocations behind", open_allocations);
    return CUDA_ERROR_STREAM_CAPTURE_INVALIDATED;
  }
  *graph = (CUgraph)&thing;
  return CUDA_SUCCESS;
}

EXPORT CUresult cuGraphInstantiateWithFlags(CUgraphExec *executable, CUgraph graph,
                                            unsigned long long flags) {
  (void)graph, (void)flags;
  *executable = (CUgraphExec)&thing;
  return CUDA_SUCCESS;
}

EXPORT CUresult cuGraphLaunch(CUgraphExec executable, CUstream stream) {
  (void)executable, (void)stream;
  if (refused_in_graph("a graph is launched")) return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
  if (refuses("launch")) return CUDA_ERROR_NOT_SUPPORTED;
  count("launch", "graph");
  return CUDA_SUCCESS;
}

EXPORT CUresult cuGraphExecDestroy(CUgraphExec executable) {
  (void)executable;
  return CUDA_SUCCESS;
}

EXPORT CUresult cuGraphDestroy(CUgraph graph) {
  (void)graph;
  return CUDA_SUCCESS;
}
