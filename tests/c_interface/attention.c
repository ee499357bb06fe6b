/* SPDX-License-Identifier: MIT */
#include "c_interface/calls.h"

static const call_types wide = {HEED_FLOAT64, HEED_FLOAT64, HEED_FLOAT64},
                        single = {HEED_FLOAT32, HEED_FLOAT32, HEED_FLOAT32};

/* The C interface gives what the C++ library gives: bit for bit if it were one instruction set. */
static void expect_as_cpp(const oracle_call* call, const char* what) {
  oracle_call by_c = with_own_results(call), in_single = with_own_results(call);
  EXPECT(oracle_run(call) == 0);
  EXPECT_OK(run_call(&by_c, wide, BHND, NULL));
  expect_same(&by_c, call, 1e-12, what);
  EXPECT_OK(run_call(&in_single, single, BNHD, NULL));
  expect_same(&in_single, call, call->grad_q == NULL ? 1e-5 : 5e-4, what);
}

static oracle_call square(void) {
  return sized_call(2, 4, 2, 37, 37, 20, 12);
}

static uint8_t* some_pairs(int64_t count) {
  uint8_t* flags = room((size_t)count);
  int64_t i;
  for (i = 0; i < count; ++i) flags[i] = i % 5 != 3 ? 2 : 0;
  return flags;
}

void test_attention(void) {
  static const int64_t offsets[] = {3, 20}, lengths[] = {30, 37}, starts[] = {5, 0};
  oracle_call c;
  int64_t* documents = room(2 * 37 * sizeof(int64_t));
  int64_t i;
  for (i = 0; i < 2 * 37; ++i) documents[i] = i % 37 / 10;

  c = square();
  expect_as_cpp(&c, "nothing but √D");
  c = square(), c.scale = -0.7, c.softcap = 1.5, c.causal = 1;
  expect_as_cpp(&c, "scale, softcap, causal");
  c = square(), c.causal = 1, c.has_window = 1, c.left = 9, c.right = 2;
  expect_as_cpp(&c, "window under a causal mask");
  c = square(), c.has_window = 1, c.left = 3, c.right = INT64_MAX;
  expect_as_cpp(&c, "window with one side");
  c = square(), c.block = 8, c.previous = 1;
  expect_as_cpp(&c, "block span");
  c = square(), c.bias = numbers(4 * 37 * 37, 6), c.sinks = numbers(4, 7);
  ((double*)c.bias)[5] = -INFINITY;
  expect_as_cpp(&c, "bias, sinks");
  c = square(), c.mask = some_pairs(2 * 37 * 37), c.alibi = 1;
  expect_as_cpp(&c, "mask, alibi");
  c = sized_call(1, 2, 2, 9, 30, 8, 8), c.mask = some_pairs(9 * 30), c.causal = 3;
  expect_as_cpp(&c, "mask of two dimensions, causal at the last row");
  c = sized_call(1, 2, 1, 9, 30, 8, 8), c.causal = 2, c.slopes = numbers(2, 8);
  expect_as_cpp(&c, "causal at the first row, slopes");
  c = sized_call(2, 2, 1, 9, 30, 8, 8), c.causal = 1, c.offsets = offsets;
  expect_as_cpp(&c, "an offset for each sequence");
  c = sized_call(2, 2, 1, 1, 30, 8, 8), c.causal = 1, c.offset = 17;
  expect_as_cpp(&c, "one row at an offset");
  c = square(), c.causal = 1, c.lengths = lengths;
  expect_as_cpp(&c, "padding behind");
  c = square(), c.causal = 1, c.starts = starts, c.selective = 1;
  expect_as_cpp(&c, "padding in front, and selection");
  c = square(), c.causal = 1, c.documents = documents;
  expect_as_cpp(&c, "documents");
  c = square(), c.tau_q = numbers(2 * 37, 9), c.tau_k = numbers(2 * 37, 10),
  c.tau_v = numbers(2 * 37, 11), c.causal = 1;
  expect_as_cpp(&c, "temperatures");
  c = square(), c.causal = 1, c.selective = 1, c.select_head = 2, c.tau = 0.4;
  c.mask_f = zeros(2 * 37 * 37), c.carry_out = zeros(2 * 37), c.memory = zeros(2 * 37);
  expect_as_cpp(&c, "selection, and what it writes");
  c = sized_call(2, 2, 2, 10, 37, 8, 8), c.causal = 1, c.offset = 27, c.selective = 1;
  c.carry_in = numbers(2 * 37, 12), c.carry_out = zeros(2 * 37), c.softcap = 2;
  expect_as_cpp(&c, "selection that goes on");
  for (i = 0; i < 5; ++i) {
    c = square(), c.causal = 1, c.selective = 1, c.mask_f = zeros(2 * 37 * 37);
    c.relu = i != 0, c.protect_first = i != 1, c.forbid_self = i != 2, c.accumulate = i != 3;
    c.shift = i != 4;
    expect_as_cpp(&c, "each option of selection");
  }
}

void test_gradients(void) {
  oracle_call c = square();
  c.causal = 1, c.softcap = 2, c.bias = numbers(4 * 37 * 37, 6), c.sinks = numbers(4, 7);
  c.slopes = numbers(4, 8), c.mask = some_pairs(2 * 37 * 37);
  c.grad_bias = zeros(4 * 37 * 37), c.grad_sinks = zeros(4), c.grad_slopes = zeros(4);
  add_gradients(&c);
  expect_as_cpp(&c, "gradients of bias, sinks and slopes");

  c = square(), c.tau_q = numbers(2 * 37, 9), c.tau_k = numbers(2 * 37, 10),
  c.tau_v = numbers(2 * 37, 11), c.causal = 1;
  c.grad_tau_q = zeros(2 * 37), c.grad_tau_k = zeros(2 * 37), c.grad_tau_v = zeros(2 * 37);
  add_gradients(&c), c.grad_lse = NULL;
  expect_as_cpp(&c, "gradients of temperatures");

  c = square(), c.causal = 1, c.selective = 1, c.carry_in = numbers(2 * 37, 12), c.tau = 0.3;
  c.grad_carry_in = zeros(2 * 37), c.grad_carry_out = numbers(2 * 37, 13);
  c.grad_memory = numbers(2 * 37, 14);
  add_gradients(&c);
  expect_as_cpp(&c, "gradients of selection");
}

/* Numbers of fewer bits give what the same numbers give in double. */
void test_storage(void) {
  static const heed_type q_types[] = {HEED_FLOAT32, HEED_FLOAT16, HEED_BFLOAT16},
                         kv_types[] = {HEED_FLOAT32, HEED_FLOAT16, HEED_BFLOAT16, HEED_INT8};
  heed_run run = HEED_RUN_INIT;
  int i, j, selective;
  run.bfloat16 = HEED_BFLOAT16_WIDENED;
  for (i = 0; i < 3; ++i)
    for (j = 0; j < 4; ++j)
      for (selective = 0; selective < 2; ++selective) {
        oracle_call c = square(), by_c;
        const call_types types = {HEED_FLOAT32, q_types[i], kv_types[j]};
        c.causal = 1, c.selective = selective, c.softcap = selective ? 0 : 3;
        by_c = with_own_results(&c);
        EXPECT_OK(run_call(&by_c, types, BNHD, &run)); /* before the oracle: it rounds k and v */
        EXPECT(oracle_run(&c) == 0);
        expect_same(&by_c, &c, 2e-5, "stored in fewer bits");
      }
}
