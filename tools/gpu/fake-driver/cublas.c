// Products of cuBLAS, whose matrices are checked, and which are counted; nothing is computed. And the
// random numbers of cuRAND, which nothing here asks for.

#include <cublas_v2.h>
#include <curand.h>

#include "fake.h"

static int thing;

EXPORT cublasStatus_t cublasCreate(cublasHandle_t *handle) {
  *handle = (cublasHandle_t)&thing;
  return CUBLAS_STATUS_SUCCESS;
}

EXPORT cublasStatus_t cublasDestroy(cublasHandle_t handle) {
  (void)handle;
  return CUBLAS_STATUS_SUCCESS;
}

EXPORT cublasStatus_t cublasSetStream(cublasHandle_t handle, cudaStream_t stream) {
  (void)handle, (void)stream;
  return CUBLAS_STATUS_SUCCESS;
}

// Bytes of a value; 0 if it is of a type that nothing here multiplies.
static size_t size_of(cudaDataType type) {
  switch (type) {
    case CUDA_R_32F: return 4;
    case CUDA_R_16F:
    case CUDA_R_16BF: return 2;
    default: return 0;
  }
}

// A batch of matrices, column after column.
struct matrices {
  const void *first;
  cudaDataType type;
  int rows, columns, leading;
  long long stride;
  int batch;
};

static int are_valid(const char *name, struct matrices of) {
  size_t size = size_of(of.type);
  if (!size || of.leading < of.rows || of.rows < 0 || of.columns < 0 || of.stride < 0) {
    complain("%s of %d × %d values of type %d, %d and %lld apart", name, of.rows, of.columns, of.type,
             of.leading, of.stride);
    return 0;
  }
  if (!of.rows || !of.columns || !of.batch) return 1;
  size_t values = (size_t)of.stride * (size_t)(of.batch - 1) +
                  (size_t)of.leading * (size_t)(of.columns - 1) + (size_t)of.rows;
  return lies_in_memory((uint64_t)of.first, values * size, name);
}

EXPORT cublasStatus_t cublasGemmStridedBatchedEx(
    cublasHandle_t handle, cublasOperation_t of_a, cublasOperation_t of_b, int m, int n, int k,
    const void *alpha, const void *a, cudaDataType type_a, int lda, long long stride_a, const void *b,
    cudaDataType type_b, int ldb, long long stride_b, const void *beta, void *c, cudaDataType type_c,
    int ldc, long long stride_c, int batch, cublasComputeType_t compute, cublasGemmAlgo_t algorithm) {
  (void)handle, (void)alpha, (void)beta, (void)compute, (void)algorithm;
  int as_is_a = of_a == CUBLAS_OP_N, as_is_b = of_b == CUBLAS_OP_N;
  struct matrices first = {a, type_a, as_is_a ? m : k, as_is_a ? k : m, lda, stride_a, batch};
  struct matrices second = {b, type_b, as_is_b ? k : n, as_is_b ? n : k, ldb, stride_b, batch};
  struct matrices product = {c, type_c, m, n, ldc, stride_c, batch};
  if (!are_valid("a product's first factor", first) ||
      !are_valid("a product's second factor", second) || !are_valid("a product", product)) {
    return CUBLAS_STATUS_INVALID_VALUE;
  }
  count("product", "cublasGemmStridedBatchedEx");
  return CUBLAS_STATUS_SUCCESS;
}

EXPORT curandStatus_t curandCreateGenerator(curandGenerator_t *generator, curandRngType_t type) {
  (void)type;
  *generator = (curandGenerator_t)&thing;
  return CURAND_STATUS_SUCCESS;
}

EXPORT curandStatus_t curandDestroyGenerator(curandGenerator_t generator) {
  (void)generator;
  return CURAND_STATUS_SUCCESS;
}

EXPORT curandStatus_t curandSetPseudoRandomGeneratorSeed(curandGenerator_t generator,
                                                         unsigned long long seed) {
  (void)generator, (void)seed;
  return CURAND_STATUS_SUCCESS;
}

EXPORT curandStatus_t curandSetStream(curandGenerator_t generator, cudaStream_t stream) {
  (void)generator, (void)stream;
  return CURAND_STATUS_SUCCESS;
}
