/* SPDX-License-Identifier: MIT */
#include "c_interface/calls.h"

enum { HEADS = 4, KEY_HEADS = 2, DIM = 16, VALUE_DIM = 8, TOKENS = 40, BUDGET = 12 };

static heed_cache_options cache_options(heed_type storage) {
  heed_cache_options o = HEED_CACHE_INIT;
  o.type = storage == HEED_FLOAT64 ? HEED_FLOAT64 : HEED_FLOAT32, o.storage = storage;
  o.heads = HEADS, o.key_heads = KEY_HEADS, o.dim = DIM, o.value_dim = VALUE_DIM;
  o.budget = BUDGET, o.selective = 1;
  return o;
}

/* Tokens first … first + count − 1 of a tensor of two sequences; from `batch` on one of them. */
static heed_tensor part(const heed_tensor* x, int64_t batch, int64_t first, int64_t count) {
  heed_tensor y = *x;
  if (batch >= 0) y.data = (char*)y.data + batch * y.strides[0], y.dims[0] = 1;
  y.data = (char*)y.data + first * y.strides[2], y.dims[2] = count;
  return y;
}

static heed_status step(heed_handle cache, const heed_handle* sequences, int64_t batch,
                        const c_call* call, int64_t first, int64_t count) {
  const heed_tensor q = part(&call->q, batch, first, count),
                    k = part(&call->k, batch, first, count),
                    v = part(&call->v, batch, first, count),
                    out = part(&call->out, batch, first, count);
  heed_variant variant = HEED_VARIANT_INIT;
  variant.softcap = 3, variant.causal = HEED_CAUSAL;
  return heed_cache_step(cache, sequences, batch < 0 ? 2 : 1, &q, &k, &v, &variant, &out, NULL,
                         NULL);
}

static void test_as_cpp(heed_type storage, heed_evict rule, double most) {
  oracle_call c = sized_call(2, HEADS, KEY_HEADS, TOKENS, TOKENS, DIM, VALUE_DIM);
  c_call* call = room(sizeof *call);
  const heed_type computed = storage == HEED_FLOAT64 ? HEED_FLOAT64 : HEED_FLOAT32;
  const call_types types = {computed, computed, computed};
  heed_cache_options options = cache_options(storage);
  heed_handle cache, sequences[2];
  double* expected = zeros(2 * HEADS * TOKENS * VALUE_DIM);
  int64_t positions[2 * BUDGET], count, n, b;
  heed_held_token held[BUDGET];
  c.softcap = 3;
  EXPECT(oracle_cache(&c, BUDGET, (int)rule, 8, expected, positions) == 0);
  prepare(call, &c, types, BNHD);
  options.evict = rule, options.selective = rule == HEED_EVICT_MOST_MASKED;
  EXPECT_OK(heed_cache_open(&options, &cache));
  for (b = 0; b < 2; ++b) EXPECT_OK(heed_sequence_open(cache, &sequences[b]));
  for (n = 0; n < TOKENS; n += 8) EXPECT_OK(step(cache, sequences, -1, call, n, 8));
  finish(call);
  EXPECT_NEAR(c.out, expected, 2 * HEADS * TOKENS * VALUE_DIM, most);
  for (b = 0; b < 2; ++b) {
    EXPECT_OK(heed_sequence_get_held(sequences[b], 1, held, BUDGET, &count));
    EXPECT(count == BUDGET);
    for (n = 0; n < BUDGET; ++n) EXPECT(held[n].position == positions[b * BUDGET + n]);
    EXPECT_OK(heed_close(sequences[b]));
  }
  EXPECT_OK(heed_close(cache));
}

/* Forks, marks, files: each continues as the sequence itself would have. */
static void test_copies(void) {
  oracle_call c = sized_call(1, HEADS, KEY_HEADS, TOKENS, TOKENS, DIM, VALUE_DIM);
  oracle_call again = with_own_results(&c);
  c_call *call = room(sizeof *call), *other = room(sizeof *other);
  const call_types types = {HEED_FLOAT32, HEED_FLOAT32, HEED_FLOAT32};
  heed_cache_options options = cache_options(HEED_FLOAT16);
  heed_pool_options pool_options = HEED_POOL_INIT;
  heed_handle cache, one, fork, mark, loaded, second_cache;
  heed_pool_state pool;
  heed_sequence_state state;
  heed_held_token none;
  int64_t count = 0;
  const char* path = "c_interface_sequence.heed";
  prepare(call, &c, types, BNHD), prepare(other, &again, types, BNHD);
  pool_options.type = HEED_FLOAT32, pool_options.storage = HEED_FLOAT16;
  pool_options.dim = DIM, pool_options.value_dim = VALUE_DIM, pool_options.pages = 8;
  EXPECT_OK(heed_pool_open(&pool_options, &options.pool));
  EXPECT_OK(heed_cache_open(&options, &cache));
  EXPECT_OK(heed_cache_open(&options, &second_cache));
  EXPECT_OK(heed_cache_reserve(cache, 1));
  EXPECT_OK(heed_sequence_open(cache, &one));
  EXPECT_OK(step(cache, &one, 0, call, 0, 20));
  EXPECT_OK(heed_sequence_fork(0, one, &fork));
  EXPECT_OK(heed_mark_open(one, &mark));
  EXPECT_OK(heed_sequence_save(one, path));
  EXPECT_OK(heed_sequence_load(second_cache, path, &loaded));
  EXPECT_OK(step(cache, &one, 0, call, 20, 20));
  finish(call);

  EXPECT_OK(step(cache, &fork, 0, other, 20, 20));
  finish(other);
  for (count = 0; count < HEADS; ++count)
    EXPECT_NEAR(again.out + (count * TOKENS + 20) * VALUE_DIM,
                c.out + (count * TOKENS + 20) * VALUE_DIM, 20 * VALUE_DIM, 0);
  EXPECT_OK(step(second_cache, &loaded, 0, other, 20, 20));
  finish(other);
  for (count = 0; count < HEADS; ++count)
    EXPECT_NEAR(again.out + (count * TOKENS + 20) * VALUE_DIM,
                c.out + (count * TOKENS + 20) * VALUE_DIM, 20 * VALUE_DIM, 1e-5);
  EXPECT_OK(heed_sequence_roll_back(one, mark));
  EXPECT_OK(heed_sequence_get_state(one, &state));
  EXPECT(state.next == 20 && state.budget == BUDGET && state.pages == 2 && state.bytes > 0);
  EXPECT_REFUSED(heed_sequence_roll_back(fork, mark), HEED_INVALID_VALUE,
                 "the mark is of sequence");
  EXPECT_REFUSED(heed_sequence_truncate(one, 10), HEED_INVALID_VALUE, "return to a mark");
  EXPECT_OK(heed_sequence_set_budget(cache, one, 4));
  EXPECT_OK(heed_sequence_get_held(one, 0, NULL, 0, &count));
  EXPECT(count == 4);
  EXPECT_OK(heed_sequence_drop(one, 1, 20));
  EXPECT_OK(heed_sequence_get_held(one, 0, &none, 1, &count));
  EXPECT(count == 1 && none.position == 0);
  EXPECT_REFUSED(heed_sequence_set_budget(second_cache, one, 4), HEED_INVALID_VALUE,
                 "of another cache");
  EXPECT_REFUSED(step(second_cache, &one, 0, call, 20, 20), HEED_INVALID_VALUE, "of another cache");

  EXPECT_OK(heed_pool_get_state(options.pool, &pool));
  EXPECT(pool.most_pages == 8 && pool.pages_held > 0 && pool.page == 128);
  EXPECT(pool.bytes_held == pool.pages_held * pool.page_bytes);
  EXPECT_OK(heed_pool_get_state(cache, &pool));
  EXPECT(pool.most_pages == 8);

  /* What is full stays as it was; a sequence that closes makes room. */
  {
    heed_handle sequences[5];
    int opened = 0;
    heed_status status = HEED_OK;
    while (opened < 5 && status == HEED_OK) {
      EXPECT_OK(heed_sequence_open(cache, &sequences[opened]));
      status = step(cache, &sequences[opened++], 0, call, 0, 4);
    }
    EXPECT_REFUSED(status, HEED_OUT_OF_PAGES, "more are needed");
    EXPECT_OK(heed_sequence_get_state(sequences[opened - 1], &state));
    EXPECT(state.next == 0);
    EXPECT_OK(heed_sequence_clear(one));
    EXPECT_OK(heed_close(mark));
    EXPECT_OK(heed_close(fork));
    EXPECT_OK(step(cache, &sequences[opened - 1], 0, call, 0, 4));
    /* Sequences outlive their cache, but cannot step. */
    EXPECT_OK(heed_close(cache));
    EXPECT_OK(heed_sequence_get_state(sequences[0], &state));
    EXPECT(state.next == 4);
    EXPECT_REFUSED(step(cache, &sequences[0], 0, call, 4, 4), HEED_INVALID_HANDLE, "closed");
    while (opened-- > 0) EXPECT_OK(heed_close(sequences[opened]));
  }
  EXPECT_OK(heed_close(one));
  EXPECT_OK(heed_close(loaded));
  EXPECT_OK(heed_close(second_cache));
  EXPECT_OK(heed_close(options.pool));
  EXPECT(remove(path) == 0);
}

/* Packed rows, drafts in a tree, another layer's queries. */
static void test_ways_to_step(void) {
  oracle_call c = sized_call(2, HEADS, KEY_HEADS, 6, 6, DIM, VALUE_DIM);
  c_call* call = room(sizeof *call);
  const call_types types = {HEED_FLOAT64, HEED_FLOAT64, HEED_FLOAT64};
  heed_cache_options options = cache_options(HEED_FLOAT64);
  heed_handle cache, dense[2], packed[2];
  heed_step step_options = HEED_STEP_INIT;
  heed_sequence_state state;
  int64_t tokens[2] = {6, 3}, starts[3] = {0, 6, 9}, parents[6] = {-1, 0, 1, 0, 3, -1}, i;
  int64_t path[3] = {0, 3, 4}, n, h, d, evict_row[12], evicted = 0;
  double *q = zeros(9 * HEADS * DIM), *k = zeros(9 * KEY_HEADS * DIM);
  double *v = zeros(9 * KEY_HEADS * VALUE_DIM), *out = zeros(9 * HEADS * VALUE_DIM);
  double *lse = zeros(2 * HEADS * 6), *packed_lse = zeros(HEADS * 9);
  heed_tensor pq = tensor(q, HEED_FLOAT64, 3, 9, HEADS, DIM, 0);
  heed_tensor pk = tensor(k, HEED_FLOAT64, 3, 9, KEY_HEADS, DIM, 0);
  heed_tensor pv = tensor(v, HEED_FLOAT64, 3, 9, KEY_HEADS, VALUE_DIM, 0);
  heed_tensor po = tensor(out, HEED_FLOAT64, 3, 9, HEADS, VALUE_DIM, 0);
  heed_tensor of_tokens = tensor(tokens, HEED_INT64, 1, 2, 0, 0, 0);
  heed_tensor of_starts = tensor(starts, HEED_INT64, 1, 3, 0, 0, 0);
  heed_tensor of_parents = tensor(parents, HEED_INT64, 2, 1, 6, 0, 0);
  heed_tensor of_lse = tensor(lse, HEED_FLOAT64, 3, 2, HEADS, 6, 0);
  heed_tensor of_packed_lse = tensor(packed_lse, HEED_FLOAT64, 3, 1, HEADS, 9, 0);
  heed_tensor of_evict_row = tensor(evict_row, HEED_INT64, 2, 2, 6, 0, 0);
  options.budget = 4;
  prepare(call, &c, types, BHND);
  for (n = 0; n < 9; ++n) { /* sequence 0 has rows 0 … 5, sequence 1 rows 0 … 2 */
    const int64_t b = n / 6, row = n % 6;
    for (h = 0; h < HEADS; ++h)
      for (d = 0; d < DIM; ++d)
        q[(n * HEADS + h) * DIM + d] = c.q[((b * HEADS + h) * 6 + row) * DIM + d];
    for (h = 0; h < KEY_HEADS; ++h) {
      for (d = 0; d < DIM; ++d)
        k[(n * KEY_HEADS + h) * DIM + d] = c.k[((b * KEY_HEADS + h) * 6 + row) * DIM + d];
      for (d = 0; d < VALUE_DIM; ++d)
        v[(n * KEY_HEADS + h) * VALUE_DIM + d] =
            c.v[((b * KEY_HEADS + h) * 6 + row) * VALUE_DIM + d];
    }
  }
  EXPECT_OK(heed_cache_open(&options, &cache));
  for (i = 0; i < 2; ++i) {
    EXPECT_OK(heed_sequence_open(cache, &dense[i]));
    EXPECT_OK(heed_sequence_open(cache, &packed[i]));
  }
  for (i = 0; i < 12; ++i) evict_row[i] = -7;
  step_options.tokens = &of_tokens, step_options.lse = &of_lse;
  step_options.evict_row = &of_evict_row;
  EXPECT_OK(heed_cache_step(cache, dense, 2, &call->q, &call->k, &call->v, NULL, &call->out,
                            &step_options, NULL));
  finish(call);
  for (i = 0; i < 12; ++i) evicted += evict_row[i] != -7;
  EXPECT(evicted == 2);
  step_options.tokens = step_options.evict_row = NULL;
  step_options.starts = &of_starts, step_options.lse = &of_packed_lse;
  EXPECT_OK(heed_cache_step(cache, packed, 2, &pq, &pk, &pv, NULL, &po, &step_options, NULL));
  for (n = 0; n < 9; ++n)
    for (h = 0; h < HEADS; ++h) {
      const int64_t b = n / 6, row = n % 6;
      EXPECT_NEAR(out + (n * HEADS + h) * VALUE_DIM,
                  c.out + ((b * HEADS + h) * 6 + row) * VALUE_DIM, VALUE_DIM, 1e-14);
      EXPECT_NEAR(packed_lse + h * 9 + n, lse + (b * HEADS + h) * 6 + row, 1, 1e-14);
    }
  EXPECT_REFUSED(
      heed_cache_attend(cache, packed, 2, &call->q, NULL, &call->out, &step_options, NULL),
      HEED_INVALID_VALUE, "attend");
  for (i = 0; i < 2; ++i) {
    EXPECT_OK(heed_close(dense[i]));
    EXPECT_OK(heed_close(packed[i]));
  }
  EXPECT_OK(heed_close(cache));

  options.selective = 0, options.budget = 0;
  EXPECT_OK(heed_cache_open(&options, &cache));
  EXPECT_OK(heed_sequence_open(cache, &dense[0]));
  {
    heed_tensor one_q = part(&call->q, 0, 0, 6), one_k = part(&call->k, 0, 0, 6);
    heed_tensor one_v = part(&call->v, 0, 0, 6), one_out = part(&call->out, 0, 0, 6);
    heed_step tree = HEED_STEP_INIT;
    double* again = zeros(HEADS * 3 * VALUE_DIM);
    heed_tensor last = tensor(again, HEED_FLOAT64, 4, 1, HEADS, 3, VALUE_DIM);
    heed_tensor last_q = part(&call->q, 0, 2, 3);
    tree.parents = &of_parents;
    EXPECT_OK(
        heed_cache_step(cache, dense, 1, &one_q, &one_k, &one_v, NULL, &one_out, &tree, NULL));
    EXPECT_OK(heed_sequence_accept(dense[0], 0, path, 3));
    EXPECT_OK(heed_sequence_get_state(dense[0], &state));
    EXPECT(state.next == 3 && state.budget == 0);
    EXPECT_OK(heed_cache_attend(cache, dense, 1, &last_q, NULL, &last, NULL, NULL));
    finish(call);
    /* Row 4 of the tree saw tokens 0, 3 and 4, which now are all; its query is the last of the
     * three. */
    for (h = 0; h < HEADS; ++h)
      EXPECT_NEAR(again + (h * 3 + 2) * VALUE_DIM, c.out + (h * 6 + 4) * VALUE_DIM, VALUE_DIM,
                  1e-13);
    EXPECT_OK(heed_sequence_truncate(dense[0], 1));
    EXPECT_OK(heed_sequence_get_state(dense[0], &state));
    EXPECT(state.next == 1);
    EXPECT_REFUSED(heed_sequence_accept(dense[0], 0, path, 3), HEED_INVALID_VALUE, "");
  }
  EXPECT_OK(heed_close(dense[0]));
  EXPECT_OK(heed_close(cache));
}

void test_cache(void) {
  test_as_cpp(HEED_FLOAT64, HEED_EVICT_MOST_MASKED, 1e-13);
  test_as_cpp(HEED_FLOAT64, HEED_EVICT_OLDEST, 1e-13);
  test_as_cpp(HEED_FLOAT32, HEED_EVICT_OLDEST, 1e-5);
  test_as_cpp(HEED_FLOAT16, HEED_EVICT_OLDEST, 1e-5);
  test_as_cpp(HEED_BFLOAT16, HEED_EVICT_OLDEST, 1e-5);
  test_as_cpp(HEED_INT8, HEED_EVICT_OLDEST, 2e-2);
  test_copies();
  test_ways_to_step();
}
