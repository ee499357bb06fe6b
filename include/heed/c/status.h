/* SPDX-License-Identifier: MIT */
/**
 * @file
 * The status that every function of the C interface returns, its message, and what the library is.
 */
#ifndef HEED_C_STATUS_H
#define HEED_C_STATUS_H

#include <stddef.h>
#include <stdint.h>

#if defined(__GNUC__)
#define HEED_C_API __attribute__((visibility("default")))
#else
#define HEED_C_API
#endif

#ifdef __cplusplus
extern "C" {
#endif

/** Unless it is HEED_OK, heed_last_error() says what is wrong, and nothing was written, with one
    exception: HEED_BAD_EXECUTOR. */
typedef enum heed_status {
  HEED_OK = 0,
  HEED_INVALID_SHAPE = 1,  /**< sizes or strides that do not fit, tensors that overlap */
  HEED_INVALID_VALUE = 2,  /**< a number outside of its domain, a null or misaligned pointer */
  HEED_INVALID_TYPE = 3,   /**< a tensor of another number type, or on another device */
  HEED_INVALID_HANDLE = 4, /**< a closed handle, or one of another kind */
  HEED_BUSY = 5,           /**< another call is using the handle */
  HEED_OUT_OF_MEMORY = 6,
  HEED_OUT_OF_PAGES = 7,  /**< the pool of a cache is full; close a sequence and repeat the call */
  HEED_FILE_ERROR = 8,    /**< a file that cannot be opened, read or written, or is damaged */
  HEED_UNSUPPORTED = 9,   /**< the processor runs none of the compiled kernels */
  HEED_BAD_EXECUTOR = 10, /**< heed_run.run_tasks did not run each task once; the calling thread ran
                             the others, and what the call writes is complete */
  HEED_INTERNAL_ERROR = 11
} heed_status;

/** "HEED_INVALID_SHAPE" and so on; "unknown" for other numbers. */
HEED_C_API const char* heed_status_name(heed_status status);

/**
 * The message of the last call that failed in this thread, such as "k is [1, 2, 5, 8], q is
 * [1, 2, 5, 4]"; "" if none has. Valid until the next call that fails in this thread.
 */
HEED_C_API const char* heed_last_error(void);

/** The version of the library, such as "0.1.0". */
HEED_C_API const char* heed_version(void);

/**
 * Sets *name to the instruction set of the kernels in use, such as "x86-64-v3"; or, if they were
 * compiled once for the flags of the program, to that of their registers, such as "avx2".
 *
 * Kernels are chosen by the first call that needs them: the best that the processor and its system
 * offer, or those that the environment variable HEED_ARCH names.
 */
HEED_C_API heed_status heed_instruction_set(const char** name);

/**
 * Something that the library keeps: a cache, a sequence, a mark, a pool, threads or a workspace. 0
 * is none. A number is never used twice, so that a closed handle is always refused.
 */
typedef uint64_t heed_handle;

/**
 * Closes a handle of any kind. What others still need stays: a sequence may outlive its cache, a
 * cache its pool. @return HEED_INVALID_HANDLE if it is closed, HEED_BUSY if a call is using it.
 */
HEED_C_API heed_status heed_close(heed_handle handle);

#ifdef __cplusplus
}
#endif
#endif
