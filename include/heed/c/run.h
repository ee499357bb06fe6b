/* SPDX-License-Identifier: MIT */
/**
 * @file
 * How a call runs: its threads, its scratch memory, and what it tells of its work.
 */
#ifndef HEED_C_RUN_H
#define HEED_C_RUN_H

#include "heed/c/status.h"

#ifdef __cplusplus
extern "C" {
#endif

/** One task of a call. It does not fail. */
typedef void (*heed_task)(void* context, int64_t task, int64_t worker);

/**
 * Runs task(context, t, w) once for each t in 0 … tasks − 1, and returns when all are done. 0 ≤ w <
 * heed_run.workers, and no two tasks that run at a time have the same w. A task may wait for
 * another that has started, so a started task must keep running. Not called for a single task,
 * which the calling thread runs.
 */
typedef void (*heed_run_tasks)(void* pool, int64_t tasks, heed_task task, void* context);

/** The work of a call. */
typedef struct heed_work {
  int64_t pairs;  /**< (query, key, head) that were computed */
  int64_t tiles;  /**< register tiles */
  double dropped; /**< bounds the softmax weight of a row that was pruned */
} heed_work;

/**
 * How a call runs. Where a heed_run* is a parameter, NULL is the same as HEED_RUN_INIT. Results do
 * not depend on the threads, bit for bit.
 */
typedef struct heed_run {
  size_t size;              /**< sizeof(heed_run), as HEED_RUN_INIT has it */
  heed_handle threads;      /**< of heed_threads_open(); 0: the calling thread, or run_tasks */
  heed_run_tasks run_tasks; /**< NULL: none. A host's own pool runs the tasks. */
  void* pool;               /**< what run_tasks gets */
  int64_t workers;          /**< of run_tasks, at least 1; else 0 */
  heed_handle workspace;    /**< of heed_workspace_open(); 0: memory is taken for the call */
  /** The weight of a row that selection may prune, in (0, 1]. 0: half a unit in the last place of
      1; HEED_PRUNE_NOTHING: none. */
  double negligible;
  int32_t bfloat16; /**< a heed_bfloat16: how bfloat16 queries, keys and values are multiplied */
  int32_t reserved; /**< 0 */
  heed_work* work;  /**< NULL, or overwritten */
} heed_run;

#define HEED_RUN_INIT \
  { .size = sizeof(heed_run) }
#define HEED_PRUNE_NOTHING (-1.0)

typedef enum heed_bfloat16 {
  HEED_BFLOAT16_FASTEST = 0,
  HEED_BFLOAT16_WIDENED = 1, /**< as float */
  HEED_BFLOAT16_PAIRS = 2,   /**< by AVX512_BF16 */
  HEED_BFLOAT16_TILES = 3    /**< by AMX_BF16 as well */
} heed_bfloat16;

/** Starts `count` threads, 1 … 1024. Several calls may share them. */
HEED_C_API heed_status heed_threads_open(int count, heed_handle* threads);

/** Scratch memory that grows to what the largest call needs. One call at a time may use it. */
HEED_C_API heed_status heed_workspace_open(heed_handle* workspace);

#ifdef __cplusplus
}
#endif
#endif
