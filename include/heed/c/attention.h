/* SPDX-License-Identifier: MIT */
/**
 * @file
 * Attention, forward and backward.
 */
#ifndef HEED_C_ATTENTION_H
#define HEED_C_ATTENTION_H

#include "heed/c/run.h"
#include "heed/c/tensor.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef enum heed_causal {
  HEED_NOT_CAUSAL = 0,
  HEED_CAUSAL = 1,             /**< row i sees keys j ≤ p, its position; without a query offset q
                                    needs as many rows as k */
  HEED_CAUSAL_TOP_LEFT = 2,    /**< row i sees keys j ≤ i: PyTorch's is_causal */
  HEED_CAUSAL_BOTTOM_RIGHT = 3 /**< row i sees keys j ≤ i + Nk − Nq: FlashAttention's */
} heed_causal;

/** Departures from the paper's selection, joined by |. */
enum {
  HEED_VOTES_OF_ANY_SIGN = 1,  /**< a negative vote makes a key more likely */
  HEED_VOTES_ON_FIRST = 2,     /**< token 0 gets votes too */
  HEED_VOTES_ON_SELF = 4,      /**< a token votes on itself too */
  HEED_VOTES_OF_LAST_ROW = 8,  /**< F has the votes of the row before only */
  HEED_VOTES_FROM_OWN_ROW = 16 /**< a vote counts for its own row too */
};

/** A side of a window without a limit. */
#define HEED_UNBOUNDED INT64_MAX

/**
 * What happens to the scores q·k. Each field does nothing if it is 0 or NULL. p is the position of
 * row i among the keys, Nq rows, Nk keys; in the order in which they act:
 *
 *     scale, softcap, bias, alibi, masks, sinks, selective
 *
 * Numbers have the type of the output, integers HEED_INT64, flags HEED_UINT8. The fields grad_… are
 * read and written by heed_backward() alone; the fields written forward by heed_forward() alone.
 */
typedef struct heed_variant {
  size_t size; /**< sizeof(heed_variant), as HEED_VARIANT_INIT has it */

  double scale;   /**< of q·k; 0: 1/√D */
  double softcap; /**< c: s ← c tanh(s / c) */

  int32_t causal;                      /**< a heed_causal */
  int32_t window;                      /**< not 0: p − window_left ≤ j ≤ p + window_right */
  int64_t window_left, window_right;   /**< at least 0, or HEED_UNBOUNDED */
  int64_t block_size, previous_blocks; /**< not 0: |p div size − j div size| ≤ previous */
  int64_t query_offset;                /**< position of row 0 */
  const heed_tensor* query_offsets;    /**< [B] the same, for each sequence */
  const heed_tensor* lengths;          /**< [B] keys from there on are padding */
  const heed_tensor* starts;           /**< [B] keys before it are padding */
  const heed_tensor* documents;        /**< [B, Nk] i and j see each other if they are equal */
  const heed_tensor* mask;             /**< broadcast to [B, H, Nq, Nk]; 0 hides */
  const heed_tensor* bias;             /**< likewise; is added, −∞ hides */
  const heed_tensor* sinks;            /**< [H] logits without a value */
  int32_t alibi;                       /**< not 0: the paper's slopes */
  int32_t selective;                   /**< not 0: − F(i, j), arXiv:2410.02703 */
  const heed_tensor* alibi_slopes;     /**< [H] slope · (j − p) is added */
  const heed_tensor *tau_q, *tau_k;    /**< [B, H or 1, Nq], [B, G or 1, Nk]: τq(i) τk(j) q·k */
  const heed_tensor* tau_v;            /**< [B, G or 1, Nk]: τv(j) v_j; arXiv:2411.12892 */

  int64_t select_head;          /**< of the queries, selects */
  int32_t select_flags;         /**< HEED_VOTES_… */
  int32_t reserved;             /**< 0 */
  const heed_tensor* carry_in;  /**< [B, Nk] F of the first row, from earlier rows */
  const heed_tensor* carry_out; /**< [B, Nk] is written forward: F of the row after the last; may
                                     be carry_in itself, unless a backward pass follows */
  const heed_tensor* mask_f;    /**< [B, Nq, Nk] is written forward: F */
  const heed_tensor* memory;    /**< [B, Nq] is written forward: tokens that each row still holds,
                                     i + 1 − Σ_j min(F(i, j), τ) / τ */
  double memory_tau;            /**< τ; 0: 1 */

  const heed_tensor *grad_bias, *grad_sinks, *grad_alibi_slopes; /**< as those; overwritten */
  const heed_tensor *grad_tau_q, *grad_tau_k, *grad_tau_v;       /**< as those; overwritten */
  const heed_tensor* grad_carry_in;                              /**< [B, Nk] is overwritten */
  const heed_tensor *grad_carry_out, *grad_memory; /**< [B, Nk], [B, Nq] are read: of the loss */
} heed_variant;

/** Dot products over √D, and nothing else. */
#define HEED_VARIANT_INIT \
  { .size = sizeof(heed_variant) }

/**
 * Attention, in memory linear in the tokens:
 *
 *     out[b, h, i] = Σ_j softmax_j(s(i, j)) v[b, g, j],   lse[b, h, i] = log Σ_j exp s(i, j)
 *
 * Query head h reads key head g = h div (H / G). A row that sees no key is zero, its lse −∞.
 *
 * @param q    [B, H, Nq, D]. Of the type of out, or HEED_FLOAT16 or HEED_BFLOAT16 where out is
 *             HEED_FLOAT32.
 * @param k    [B, G, Nk, D]. Of the type of out or, where that is HEED_FLOAT32, also HEED_FLOAT16,
 *             HEED_BFLOAT16 or HEED_INT8.
 * @param v    [B, G, Nk, Dv], of the type of k.
 * @param variant  NULL: HEED_VARIANT_INIT.
 * @param out  [B, H, Nq, Dv] of HEED_FLOAT32 or HEED_FLOAT64, overwritten; overlaps no other.
 * @param lse  [B, H, Nq], likewise, or NULL.
 */
HEED_C_API heed_status heed_forward(const heed_tensor* q, const heed_tensor* k,
                                    const heed_tensor* v, const heed_variant* variant,
                                    const heed_tensor* out, const heed_tensor* lse,
                                    const heed_run* run);

/**
 * The gradients of heed_forward(), all tensors of HEED_FLOAT32 or all of HEED_FLOAT64.
 *
 * @param q, k, v, variant  as heed_forward() got them; out and lse as it wrote them.
 * @param grad_out  [B, H, Nq, Dv] ∂L/∂out.
 * @param grad_lse  [B, H, Nq] ∂L/∂lse, or NULL.
 * @param grad_q, grad_k, grad_v  as q, k and v, overwritten; overlap no other.
 */
HEED_C_API heed_status heed_backward(const heed_tensor* q, const heed_tensor* k,
                                     const heed_tensor* v, const heed_variant* variant,
                                     const heed_tensor* out, const heed_tensor* lse,
                                     const heed_tensor* grad_out, const heed_tensor* grad_lse,
                                     const heed_tensor* grad_q, const heed_tensor* grad_k,
                                     const heed_tensor* grad_v, const heed_run* run);

#ifdef __cplusplus
}
#endif
#endif
