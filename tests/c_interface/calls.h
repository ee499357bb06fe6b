/* SPDX-License-Identifier: MIT */
/**
 * @file
 * A call of the oracle, through the C interface.
 */
#ifndef HEED_TEST_CALLS_H
#define HEED_TEST_CALLS_H

#include "c_interface/check.h"
#include "c_interface/oracle.h"

/** Where the rows of q, k, v and out are. */
typedef enum order { BHND, BNHD } order;

typedef struct call_types {
  heed_type computed, q, kv;
} call_types;

/** Tensors and variant of a call; `finish` brings results back. */
typedef struct c_call {
  heed_type computed;
  heed_tensor q, k, v, out, lse, grad_out, grad_lse, grad_q, grad_k, grad_v;
  heed_tensor fields[32]; /* of the variant */
  int field_count;
  heed_variant variant;
  struct {
    double* to;
    heed_tensor from;
  } results[32];
  int result_count;
} c_call;

/** Inputs, copied to the types, and room for the results that the oracle's call has. */
void prepare(c_call* call, const oracle_call* of, call_types types, order memory);
/** Copies what was written to the arrays of the oracle's call. */
void finish(const c_call* call);

/** Runs forward, and backward where grad_q is given, in one type. */
heed_status run_call(const oracle_call* of, call_types types, order memory, const heed_run* run);

/** A call of these sizes, with its inputs and room for out and lse. */
oracle_call sized_call(int64_t batch, int64_t heads, int64_t key_heads, int64_t queries,
                       int64_t keys, int64_t dim, int64_t value_dim);
/** Room for the gradients of q, k and v, and ∂L/∂out. */
void add_gradients(oracle_call* call);
/** The same call with other room for every result. */
oracle_call with_own_results(const oracle_call* call);
/** Compares every result of two calls. */
void expect_same(const oracle_call* a, const oracle_call* b, double most, const char* what);

#endif
