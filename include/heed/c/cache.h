/* SPDX-License-Identifier: MIT */
/**
 * @file
 * The key-value cache of a layer, with eviction: pools of pages, caches, sequences, marks.
 *
 * Different sequences may be used by different threads at a time. A handle that another call is
 * using is refused, HEED_BUSY.
 */
#ifndef HEED_C_CACHE_H
#define HEED_C_CACHE_H

#include "heed/c/attention.h"

#ifdef __cplusplus
extern "C" {
#endif

/** Which token is evicted first. */
typedef enum heed_evict {
  HEED_EVICT_MOST_MASKED = 0,         /**< the largest F; needs heed_cache_options.selective */
  HEED_EVICT_HEAVY_HITTERS = 1,       /**< the least weight received in all: H2O */
  HEED_EVICT_LEAST_ATTENDED_LAST = 2, /**< the least weight from the newest row: TOVA */
  HEED_EVICT_OLDEST = 3,              /**< with protected first positions: StreamingLLM */
  HEED_EVICT_KEY_DIFFERENCE = 4,      /**< the key most like the mean of all: KeyDiff */
  HEED_EVICT_SNAP = 5                 /**< the least weight from the last rows of a step: SnapKV */
} heed_evict;

typedef enum heed_evict_when {
  HEED_BEFORE_ROW = 0, /**< a row sees at most the budget, with itself */
  HEED_AFTER_ROW = 1,  /**< a row sees up to one token more */
  HEED_CHUNK_END = 2
} heed_evict_when;

/** Do the key heads of a layer hold the same tokens? Unless together, nothing may select. */
typedef enum heed_key_heads {
  HEED_HEADS_TOGETHER = 0,
  HEED_HEADS_APART = 1, /**< each chooses its own */
  HEED_HEADS_SHARED = 2 /**< each chooses its own, and they share the budget: AdaKV */
} heed_key_heads;

/** Protects no position, in place of position 0. */
#define HEED_PROTECT_NOTHING (-1)

/** A pool of pages, for the keys and values of several layers. */
typedef struct heed_pool_options {
  size_t size;     /**< sizeof(heed_pool_options), as HEED_POOL_INIT has it */
  int32_t type;    /**< HEED_FLOAT32 or HEED_FLOAT64: what is computed in */
  int32_t storage; /**< 0: type; where that is HEED_FLOAT32, also HEED_FLOAT16, HEED_BFLOAT16,
                        HEED_INT8 */
  int64_t dim, value_dim; /**< D and Dv, at least 1 */
  int64_t page;           /**< tokens of a page; 0: 128 */
  int64_t bytes, pages;   /**< the most of each, taken at once; 0: the pool grows */
} heed_pool_options;
#define HEED_POOL_INIT \
  { .size = sizeof(heed_pool_options) }

typedef struct heed_pool_state {
  int64_t page, page_bytes; /**< tokens and bytes of a page */
  int64_t most_pages;       /**< 0: no limit */
  int64_t pages_held, bytes_held;
  int64_t bytes_reserved; /**< taken from the system */
} heed_pool_state;

/** The cache of a layer. Fields that are 0 do nothing, or have the default that they name. */
typedef struct heed_cache_options {
  size_t size;                    /**< sizeof(heed_cache_options), as HEED_CACHE_INIT has it */
  int32_t type, storage;          /**< as in heed_pool_options */
  int64_t heads, key_heads;       /**< H, G; at least 1 */
  int64_t dim, value_dim;         /**< D, Dv; at least 1 */
  heed_handle pool;               /**< 0: the cache has its own, which grows */
  int64_t budget;                 /**< the most tokens a sequence holds; 0: no limit */
  int32_t evict;                  /**< a heed_evict */
  int32_t when;                   /**< a heed_evict_when */
  int32_t key_head_tokens;        /**< a heed_key_heads */
  int32_t selective;              /**< not 0: as heed_variant.selective, with the next two */
  int32_t select_flags;           /**< HEED_VOTES_… */
  int32_t reserved;               /**< 0 */
  int64_t select_head;            /**< of the queries, selects */
  int64_t recent;                 /**< newest tokens that stay; 0: what the rule says */
  const int64_t* protect;         /**< positions that stay; NULL: position 0 */
  int64_t protect_count;          /**< or HEED_PROTECT_NOTHING */
  int64_t chunk;                  /**< rows at once, at most 96; 0: the library's choice */
  int64_t snap_rows, snap_kernel; /**< of HEED_EVICT_SNAP; 0: 32 and 7 */
  double score_bound;             /**< scores lie within ± it: dead tokens go; 0: not known */
  double negligible;              /**< as heed_run.negligible, of tokens that so go */
} heed_cache_options;
#define HEED_CACHE_INIT \
  { .size = sizeof(heed_cache_options) }

/** What a step has beside its tensors. Fields that are 0 or NULL do nothing. */
typedef struct heed_step {
  size_t size;                /**< sizeof(heed_step), as HEED_STEP_INIT has it */
  const heed_tensor* lse;     /**< [B, H, N], overwritten; [1, H, N] where rows are packed */
  const heed_tensor* tokens;  /**< [B] of the N rows, those that each sequence has */
  const heed_tensor* starts;  /**< [B + 1] sequence b has rows starts[b] … starts[b + 1] − 1 of
                                   packed q, k, v and out */
  const heed_tensor* parents; /**< [B, N] or [1, N]: the new tokens are a tree; token n follows
                                   number parents[b, n] of them, −1: the last one held */
  const heed_tensor* evict_row; /**< [B, ≥ positions] where a token is evicted, the first position
                                     that does not see it is written */
} heed_step;
#define HEED_STEP_INIT \
  { .size = sizeof(heed_step) }

typedef struct heed_sequence_state {
  int64_t next;             /**< position of the next token: how many were appended */
  int64_t budget;           /**< 0: no limit */
  int64_t pages, own_pages; /**< that it refers to; that no other sequence or mark shares */
  int64_t bytes;            /**< beside the pages */
  double dropped;           /**< bounds a row's weight lost to evictions by score_bound */
} heed_sequence_state;

/** A token that a sequence holds. */
typedef struct heed_held_token {
  int64_t position;
  double f;      /**< F of the next row; 0 without selection */
  double weight; /**< weights received, if the rule counts them; else 0 */
} heed_held_token;

HEED_C_API heed_status heed_pool_open(const heed_pool_options* options, heed_handle* pool);
/** @param pool  a pool, or a cache, whose pool it is then. */
HEED_C_API heed_status heed_pool_get_state(heed_handle pool, heed_pool_state* state);

HEED_C_API heed_status heed_cache_open(const heed_cache_options* options, heed_handle* cache);
/** Allocates the pages of this many sequences, if there is a budget, so that steps need not. */
HEED_C_API heed_status heed_cache_reserve(heed_handle cache, int64_t sequences);

/** A sequence without tokens. */
HEED_C_API heed_status heed_sequence_open(heed_handle cache, heed_handle* sequence);
/** A copy, which shares pages until one of the two writes to them. @param cache  0: that of
    `from`; or another with the same heads, dimensions, types and selection. */
HEED_C_API heed_status heed_sequence_fork(heed_handle cache, heed_handle from,
                                          heed_handle* sequence);

/**
 * Appends N tokens to each of B different sequences of the cache; each row attends to the tokens
 * that its sequence holds then. No sequence has changed unless the call returns HEED_OK.
 *
 * @param q  [B, H, N, D], or [N, H, D] with heed_step.starts.   @param k  [B, G, N, D] or
 *     [N, G, D].   @param v  [B, G, N, Dv] or [N, G, Dv]. Types as heed_forward() takes them;
 * packed ones not of HEED_INT8.
 * @param variant  of it scale, softcap, alibi, alibi_slopes, sinks, tau_q; causal may be
 * HEED_CAUSAL, which a cache is. The others are refused. Selection is an option of the cache.
 * @param out  [B, H, N, Dv] or [N, H, Dv], overwritten; zero in rows behind a sequence's last.
 */
HEED_C_API heed_status heed_cache_step(heed_handle cache, const heed_handle* sequences,
                                       int64_t count, const heed_tensor* q, const heed_tensor* k,
                                       const heed_tensor* v, const heed_variant* variant,
                                       const heed_tensor* out, const heed_step* step,
                                       const heed_run* run);
/** The last N tokens of each sequence attend again, with other queries, for a layer that shares
    these keys and values. Nothing changes, and F is not subtracted. Of heed_step lse and tokens. */
HEED_C_API heed_status heed_cache_attend(heed_handle cache, const heed_handle* sequences,
                                         int64_t count, const heed_tensor* q,
                                         const heed_variant* variant, const heed_tensor* out,
                                         const heed_step* step, const heed_run* run);

HEED_C_API heed_status heed_sequence_get_state(heed_handle sequence, heed_sequence_state* state);
/**
 * The tokens that a key head holds, by position.
 * @param tokens  NULL, or room for `capacity` of them; no more are written.
 * @param count   how many there are.
 */
HEED_C_API heed_status heed_sequence_get_held(heed_handle sequence, int64_t key_head,
                                              heed_held_token* tokens, int64_t capacity,
                                              int64_t* count);
/** Changes the budget; what exceeds it is evicted at once. 0: no limit. */
HEED_C_API heed_status heed_sequence_set_budget(heed_handle cache, heed_handle sequence,
                                                int64_t budget);
/** Removes all tokens. */
HEED_C_API heed_status heed_sequence_clear(heed_handle sequence);
/** Removes the tokens from position `tokens` on. Refused where tokens were evicted, or where those
    that go have changed F or weights of those that stay: use a mark. */
HEED_C_API heed_status heed_sequence_truncate(heed_handle sequence, int64_t tokens);
/** Evicts the tokens at positions first … last − 1, protected or not. */
HEED_C_API heed_status heed_sequence_drop(heed_handle sequence, int64_t first, int64_t last);
/** Of a tree of drafts appended from position `first` on, keeps the tokens first + path[0], first +
    path[1], …, which move to first, first + 1, …; the path rises. */
HEED_C_API heed_status heed_sequence_accept(heed_handle sequence, int64_t first,
                                            const int64_t* path, int64_t count);

/** The state as it is now, to return to. */
HEED_C_API heed_status heed_mark_open(heed_handle sequence, heed_handle* mark);
/** Undoes all steps, evictions and budgets since a mark of this sequence. */
HEED_C_API heed_status heed_sequence_roll_back(heed_handle sequence, heed_handle mark);

/**
 * Writes a sequence to a file, which another process can load into a cache of the same shape,
 * types, selection and rule. The file is written under another name beside it and then renamed, so
 * that an older one stays whole if it fails; what is no regular file is written as it is.
 */
HEED_C_API heed_status heed_sequence_save(heed_handle sequence, const char* path);
HEED_C_API heed_status heed_sequence_load(heed_handle cache, const char* path,
                                          heed_handle* sequence);

#ifdef __cplusplus
}
#endif
#endif
