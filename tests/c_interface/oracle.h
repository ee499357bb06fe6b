/* SPDX-License-Identifier: MIT */
/**
 * @file
 * The C++ library, called without the C interface: what the tests of that compare with. All tensors
 * are double, row-major and without gaps; what is absent is NULL or 0.
 */
#ifndef HEED_TEST_ORACLE_H
#define HEED_TEST_ORACLE_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct oracle_call {
  int64_t batch, heads, key_heads, queries, keys, dim, value_dim;
  const double *q, *k, *v;

  double scale, softcap;
  int causal; /* 1 causal, 2 top left, 3 bottom right */
  int has_window;
  int64_t left, right, block, previous, offset;
  const int64_t *offsets, *lengths, *starts, *documents;
  const uint8_t* mask;                                  /* [B, 1, Nq, Nk] */
  const double* bias;                                   /* [1, H, Nq, Nk] */
  const double *sinks, *slopes, *tau_q, *tau_k, *tau_v; /* of tau [B, 1, N] */
  int alibi;

  int selective;
  int64_t select_head;
  int relu, protect_first, forbid_self, accumulate, shift;
  const double *carry_in, *grad_carry_out, *grad_memory;
  double tau;

  double *out, *lse, *carry_out, *mask_f, *memory;
  const double *grad_out, *grad_lse;
  double *grad_q, *grad_k, *grad_v, *grad_bias, *grad_sinks, *grad_slopes, *grad_tau_q, *grad_tau_k,
      *grad_tau_v, *grad_carry_in;
} oracle_call;

/** forward(), and backward() where grad_q is given. @return 0, or 1 if it throws. */
int oracle_run(const oracle_call* call);

/**
 * A cache of budget K, select_head 0, through steps of `rows` each, 2 sequences; rule 0 most_masked
 * with selection, 3 oldest without.
 * @param out  [2, H, N, Dv] of all steps; positions [2, K] of the tokens held at the end, −1
 * padded.
 */
int oracle_cache(const oracle_call* call, int64_t budget, int rule, int64_t rows, double* out,
                 int64_t* positions);

#ifdef __cplusplus
}
#endif
#endif
