/* SPDX-License-Identifier: MIT */
/**
 * @file
 * Tensors: a pointer, sizes, strides in bytes, and a type. From and to DLPack.
 */
#ifndef HEED_C_TENSOR_H
#define HEED_C_TENSOR_H

#include "heed/c/status.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef enum heed_type {
  HEED_FLOAT32 = 1,
  HEED_FLOAT64 = 2,
  HEED_FLOAT16 = 3,  /**< IEEE 754 binary16 */
  HEED_BFLOAT16 = 4, /**< the upper half of a float */
  HEED_INT8 = 5,     /**< with a scale for each token, see heed_tensor.scale */
  HEED_UINT8 = 6,    /**< flags of a mask: 0, or anything else; also a C _Bool */
  HEED_INT64 = 7
} heed_type;

enum {
  HEED_MAX_RANK = 4,
  HEED_READ_ONLY = 1 /**< flag of a tensor: it is refused as an output */
};

/**
 * A tensor in the memory of the caller. The library keeps no pointer to it after a call.
 *
 * Every size is at least 1. Strides are in bytes, not negative, and multiples of the size of a
 * number; along a dimension of size 1 any stride is accepted. Inputs may have strides of 0, and may
 * overlap one another. Rows, the last dimension, of queries, keys, values and outputs of that shape
 * must be contiguous. Data is aligned as its numbers are.
 */
typedef struct heed_tensor {
  void* data; /**< numbers of inputs are not written */
  /** Of HEED_INT8: [B, G, N], one scale for each token; its number is the integer times the scale.
      Of other types: NULL. */
  const struct heed_tensor* scale;
  int64_t dims[4];
  int64_t strides[4];
  int32_t type; /**< a heed_type */
  int32_t rank; /**< 1 … 4: how many of the sizes and strides count */
  int32_t flags;
  int32_t reserved; /**< 0 */
} heed_tensor;

/** A row-major tensor without gaps. Sizes that cannot be are refused by the call that gets it. */
HEED_C_API heed_tensor heed_row_major(void* data, heed_type type, int rank, const int64_t* dims);

/**
 * Stores keys or values in 8 bits: numbers[b, g, n, d] · scale[b, g, n] is x[b, g, n, d], to half a
 * unit of the scale, which is the largest number of the token over 127.
 *
 * @param x        [B, G, N, D] of HEED_FLOAT32 or HEED_FLOAT64, finite.
 * @param numbers  [B, G, N, D] of HEED_INT8; it and its scale, of the type of x, are overwritten.
 */
HEED_C_API heed_status heed_quantize(const heed_tensor* x, const heed_tensor* numbers);

/*
 * DLPack: https://dmlc.github.io/dlpack/latest/c_api.html. The structs are those of dlpack.h, all
 * versions of DLManagedTensor and version 1 of DLManagedTensorVersioned. That header is not needed
 * to pass on what a host hands over.
 */
struct DLManagedTensor;
struct DLManagedTensorVersioned;

/**
 * Describes the memory of a DLPack tensor, without a copy. The caller still owns it: call its
 * deleter when *tensor is not used any more.
 * @return HEED_INVALID_TYPE unless it is on the CPU, of a heed_type with one lane (bool and uint8
 *     both are HEED_UINT8); HEED_INVALID_SHAPE unless it has 1 … 4 dimensions; HEED_INVALID_VALUE
 *     for another major version.
 */
HEED_C_API heed_status heed_from_dlpack(const struct DLManagedTensor* managed, heed_tensor* tensor);
HEED_C_API heed_status heed_from_dlpack_versioned(const struct DLManagedTensorVersioned* managed,
                                                  heed_tensor* tensor);

/**
 * Makes a DLPack tensor of the memory of a tensor, without a copy. Its deleter calls
 * release(owner), unless release is NULL. If the call fails, the memory is still the caller's.
 */
HEED_C_API heed_status heed_to_dlpack(const heed_tensor* tensor, void* owner,
                                      void (*release)(void* owner),
                                      struct DLManagedTensor** managed);
HEED_C_API heed_status heed_to_dlpack_versioned(const heed_tensor* tensor, void* owner,
                                                void (*release)(void* owner),
                                                struct DLManagedTensorVersioned** managed);

#ifdef __cplusplus
}
#endif
#endif
