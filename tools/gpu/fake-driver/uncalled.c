// What the binary is linked with and does not call.

#include <stdlib.h>

#include "fake.h"

#define UNCALLED(name)                                     \
  EXPORT void name(void) {                                 \
    complain("%s is called, but it is not faked", #name);  \
    abort();                                               \
  }

UNCALLED(cublasDgemmStridedBatched)
UNCALLED(cudaDeviceGetAttribute)
UNCALLED(cudaFree)
UNCALLED(cudaFuncGetAttributes)
UNCALLED(cudaGetDeviceCount)
UNCALLED(cudaGetErrorName)
UNCALLED(cudaMalloc)
UNCALLED(cudaOccupancyMaxActiveBlocksPerMultiprocessorWithFlags)
UNCALLED(cudaPeekAtLastError)
UNCALLED(cudaSetDevice)
UNCALLED(cudaStreamSynchronize_ptsz)
UNCALLED(curandGenerateUniform)
UNCALLED(curandGenerateUniformDouble)
