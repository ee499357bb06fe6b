/* SPDX-License-Identifier: MIT */
#include "c_interface/calls.h"

static const call_types single = {HEED_FLOAT32, HEED_FLOAT32, HEED_FLOAT32};

static c_call* good(oracle_call* c) {
  c_call* call = room(sizeof *call);
  *c = sized_call(1, 2, 2, 5, 5, 8, 8);
  c->grad_q = NULL;
  prepare(call, c, single, BHND);
  return call;
}

static heed_status forward(const c_call* x) {
  return heed_forward(&x->q, &x->k, &x->v, &x->variant, &x->out, &x->lse, NULL);
}

/* One field wrong of a call that is right, and nothing written. */
#define REFUSED(change, status, text)                                    \
  do {                                                                   \
    oracle_call of;                                                      \
    c_call* x = good(&of);                                               \
    int64_t number;                                                      \
    change;                                                              \
    expect_status(forward(x), status, text, __FILE__, __LINE__);         \
    finish(x);                                                           \
    for (number = 0; number < 80; ++number) EXPECT(of.out[number] == 0); \
  } while (0)

static void test_tensors(void) {
  static float numbers_of[8];
  static int64_t large[3] = {1, INT64_MAX, 3};
  heed_tensor scale = tensor(numbers_of, HEED_FLOAT32, 3, 1, 2, 5, 0);
  heed_tensor wrong = tensor(numbers_of, HEED_FLOAT32, 1, 3, 0, 0, 0);
  heed_tensor int_tensor = tensor(large, HEED_INT64, 1, 1, 0, 0, 0);

  REFUSED(x->q.data = NULL, HEED_INVALID_VALUE, "its data is null");
  REFUSED(x->out.data = NULL, HEED_INVALID_VALUE, "its data is null");
  REFUSED(x->k.data = (char*)x->k.data + 2, HEED_INVALID_VALUE, "alignment");
  REFUSED(x->k.type = 0, HEED_INVALID_TYPE, "k is of an unknown type (0)");
  REFUSED(x->k.type = -5, HEED_INVALID_TYPE, "k is of an unknown type (-5)");
  REFUSED(x->q.type = HEED_INT8, HEED_INVALID_TYPE, "q is int8");
  REFUSED(x->q.type = HEED_FLOAT64, HEED_INVALID_TYPE, "q is float64");
  REFUSED(x->v.type = HEED_FLOAT16, HEED_INVALID_TYPE, "v is float16 (3), must be float32");
  REFUSED(x->out.type = HEED_FLOAT16, HEED_INVALID_TYPE, "out is float16");
  REFUSED(x->k.type = x->v.type = HEED_INT8, HEED_INVALID_VALUE, "the scale of k is null");
  REFUSED(x->k.scale = &scale, HEED_INVALID_VALUE, "has a scale");
  REFUSED(x->q.rank = 3, HEED_INVALID_SHAPE, "q has 3 dimensions, must have 4");
  REFUSED(x->q.rank = -1, HEED_INVALID_SHAPE, "must have 4");
  REFUSED(x->q.rank = INT32_MAX, HEED_INVALID_SHAPE, "must have 4");
  REFUSED(x->q.flags = 2, HEED_INVALID_VALUE, "flags");
  REFUSED(x->q.reserved = 1, HEED_INVALID_VALUE, "reserved 1");
  REFUSED(x->out.flags = HEED_READ_ONLY, HEED_INVALID_VALUE, "only be read");
  REFUSED(x->q.dims[0] = 0, HEED_INVALID_SHAPE, "at least 1");
  REFUSED(x->q.dims[3] = 0, HEED_INVALID_SHAPE, "at least 1");
  REFUSED(x->q.dims[2] = -5, HEED_INVALID_SHAPE, "at least 1");
  REFUSED(x->k.dims[2] = INT64_MIN, HEED_INVALID_SHAPE, "at least 1");
  REFUSED(x->k.dims[2] = INT64_MAX, HEED_INVALID_SHAPE, "no memory holds");
  REFUSED(x->k.strides[2] = -32, HEED_INVALID_SHAPE, "negative");
  REFUSED(x->k.strides[2] = INT64_MIN, HEED_INVALID_SHAPE, "negative");
  REFUSED(x->k.strides[2] = 33, HEED_INVALID_SHAPE, "multiples of 4");
  REFUSED(x->k.strides[2] = INT64_MAX - 3, HEED_INVALID_SHAPE, "address space");
  REFUSED(x->k.strides[3] = 8, HEED_INVALID_SHAPE, "must be contiguous");
  REFUSED(x->k.dims[2] = 4, HEED_INVALID_SHAPE, "v is [1, 2, 5, 8], k is [1, 2, 4, 8]");
  REFUSED(x->q.dims[3] = 7, HEED_INVALID_SHAPE, "k is [1, 2, 5, 8], q is [1, 2, 5, 7]");
  REFUSED(x->q.dims[1] = 1, HEED_INVALID_SHAPE, "multiple of key heads");
  REFUSED(x->out.dims[3] = 7, HEED_INVALID_SHAPE, "out is [1, 2, 5, 7], should be");
  REFUSED(x->lse.dims[2] = 4, HEED_INVALID_SHAPE, "lse is");
  REFUSED(x->out.strides[2] = 0, HEED_INVALID_SHAPE, "its own numbers overlap");
  REFUSED(x->out.data = x->q.data, HEED_INVALID_SHAPE, "out overlaps q");
  REFUSED(x->out.data = (char*)x->v.data + 4, HEED_INVALID_SHAPE, "out overlaps v");
  REFUSED(x->lse.data = x->out.data, HEED_INVALID_SHAPE, "lse overlaps out");

  REFUSED(x->variant.size = 0, HEED_INVALID_VALUE, "size is 0");
  REFUSED(x->variant.size = (size_t)-1, HEED_INVALID_VALUE, "size is");
  REFUSED(x->variant.causal = 4, HEED_INVALID_VALUE, "causal is 4");
  REFUSED(x->variant.causal = -1, HEED_INVALID_VALUE, "causal is -1");
  REFUSED(x->variant.scale = NAN, HEED_INVALID_VALUE, "scaled is");
  REFUSED(x->variant.softcap = -1, HEED_INVALID_VALUE, "softcap is -1");
  REFUSED(x->variant.softcap = INFINITY, HEED_INVALID_VALUE, "softcap is inf");
  REFUSED(x->variant.window_left = 3, HEED_INVALID_VALUE, "window is 0");
  REFUSED((x->variant.window = 1, x->variant.window_left = -1), HEED_INVALID_VALUE, "negative");
  REFUSED(x->variant.block_size = -1, HEED_INVALID_VALUE, "block");
  REFUSED(x->variant.previous_blocks = 1, HEED_INVALID_VALUE, "block_size is 0");
  REFUSED(x->variant.query_offset = -1, HEED_INVALID_VALUE, "must not be negative");
  REFUSED(x->variant.query_offset = INT64_MAX, HEED_INVALID_VALUE, "positions lie in");
  REFUSED((x->variant.query_offset = 3, x->variant.causal = HEED_CAUSAL_TOP_LEFT),
          HEED_INVALID_VALUE, "another at");
  REFUSED(x->variant.bias = &wrong, HEED_INVALID_SHAPE, "bias is [1, 1, 1, 3]");
  REFUSED(x->variant.mask = &wrong, HEED_INVALID_TYPE, "mask is float32");
  REFUSED(x->variant.sinks = &wrong, HEED_INVALID_SHAPE, "sinks is [3], should be [2]");
  REFUSED(x->variant.lengths = &wrong, HEED_INVALID_TYPE, "lengths is float32");
  REFUSED((int_tensor.data = large + 1, x->variant.lengths = &int_tensor), HEED_INVALID_VALUE,
          "lengths[0] is");
  REFUSED((int_tensor.data = large + 1, x->variant.starts = &int_tensor), HEED_INVALID_VALUE,
          "starts[0] is");
  REFUSED((int_tensor.data = large + 1, x->variant.query_offsets = &int_tensor), HEED_INVALID_VALUE,
          "position");
  REFUSED((int_tensor.data = NULL, x->variant.query_offsets = &int_tensor), HEED_INVALID_VALUE,
          "query_offsets is [1], but its data is null");
  REFUSED(x->variant.documents = &int_tensor, HEED_INVALID_SHAPE, "documents has 1");
  REFUSED((x->variant.alibi = 1, x->variant.alibi_slopes = &wrong), HEED_INVALID_VALUE, "alibi");
  REFUSED(x->variant.carry_in = &wrong, HEED_INVALID_VALUE, "selective is 0");
  REFUSED(x->variant.select_flags = 1, HEED_INVALID_VALUE, "selective is 0");
  REFUSED((x->variant.selective = 1, x->variant.select_flags = 32), HEED_INVALID_VALUE, "0 … 31");
  REFUSED((x->variant.selective = 1, x->variant.select_head = 2), HEED_INVALID_VALUE,
          "head 2 selects");
  REFUSED((x->variant.selective = 1, x->variant.memory_tau = -1), HEED_INVALID_VALUE, "tau");
  REFUSED((x->variant.selective = 1, x->variant.carry_out = &x->lse), HEED_INVALID_SHAPE,
          "carry_out has 3");
  REFUSED(x->variant.reserved = 1, HEED_INVALID_VALUE, "reserved");
}

static void test_calls(void) {
  oracle_call of;
  c_call* x = good(&of);
  heed_run run = HEED_RUN_INIT;
  heed_handle handle = 0;
  struct {
    heed_variant variant;
    char later[64];
  } grown;
  EXPECT_REFUSED(heed_forward(NULL, &x->k, &x->v, NULL, &x->out, NULL, NULL), HEED_INVALID_VALUE,
                 "q is null");
  EXPECT_REFUSED(heed_forward(&x->q, NULL, &x->v, NULL, &x->out, NULL, NULL), HEED_INVALID_VALUE,
                 "k is null");
  EXPECT_REFUSED(heed_forward(&x->q, &x->k, NULL, NULL, &x->out, NULL, NULL), HEED_INVALID_VALUE,
                 "v is null");
  EXPECT_REFUSED(heed_forward(&x->q, &x->k, &x->v, NULL, NULL, NULL, NULL), HEED_INVALID_VALUE,
                 "out is null");
  EXPECT_OK(heed_forward(&x->q, &x->k, &x->v, NULL, &x->out, NULL, NULL));
  EXPECT_REFUSED(heed_backward(&x->q, &x->k, &x->v, NULL, &x->out, NULL, &x->out, NULL, &x->q,
                               &x->k, &x->v, NULL),
                 HEED_INVALID_VALUE, "lse is null");
  EXPECT_REFUSED(heed_backward(&x->q, &x->k, &x->v, NULL, &x->out, &x->lse, &x->out, NULL, &x->q,
                               &x->k, &x->v, NULL),
                 HEED_INVALID_SHAPE, "overlaps");
  EXPECT_REFUSED(
      heed_backward(NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL),
      HEED_INVALID_VALUE, "is null");
  x->variant.grad_sinks = &x->lse;
  EXPECT_REFUSED(heed_backward(&x->q, &x->k, &x->v, &x->variant, &x->out, &x->lse, &x->out, NULL,
                               &x->q, &x->k, &x->v, NULL),
                 HEED_INVALID_VALUE, "no tensor that it would be of");
  x = good(&of);

  /* A caller of a later version: what it does not set is accepted. */
  memset(&grown, 0, sizeof grown);
  grown.variant = x->variant, grown.variant.size = sizeof grown;
  EXPECT_OK(heed_forward(&x->q, &x->k, &x->v, &grown.variant, &x->out, NULL, NULL));
  grown.later[40] = 1;
  EXPECT_REFUSED(heed_forward(&x->q, &x->k, &x->v, &grown.variant, &x->out, NULL, NULL),
                 HEED_INVALID_VALUE, "does not know");

#define RUN_REFUSED(change, status, text)                                                       \
  do {                                                                                          \
    const heed_run initial = HEED_RUN_INIT;                                                     \
    run = initial, change;                                                                      \
    EXPECT_REFUSED(heed_forward(&x->q, &x->k, &x->v, NULL, &x->out, NULL, &run), status, text); \
  } while (0)
  RUN_REFUSED(run.size = 8, HEED_INVALID_VALUE, "heed_run.size is 8");
  RUN_REFUSED(run.workers = 4, HEED_INVALID_VALUE, "run_tasks is null");
  RUN_REFUSED(run.threads = 12345, HEED_INVALID_HANDLE, "never opened");
  RUN_REFUSED(run.workspace = UINT64_MAX, HEED_INVALID_HANDLE, "never opened");
  RUN_REFUSED(run.negligible = 2, HEED_INVALID_VALUE, "negligible");
  RUN_REFUSED(run.negligible = NAN, HEED_INVALID_VALUE, "negligible");
  RUN_REFUSED(run.bfloat16 = 4, HEED_INVALID_VALUE, "bfloat16 is 4");
  RUN_REFUSED(run.reserved = 4, HEED_INVALID_VALUE, "reserved is 4");
  EXPECT_OK(heed_workspace_open(&handle));
  RUN_REFUSED(run.threads = handle, HEED_INVALID_HANDLE, "which is a workspace, not threads");
  EXPECT_OK(heed_close(handle));
  RUN_REFUSED(run.workspace = handle, HEED_INVALID_HANDLE, "which is closed");

  EXPECT_REFUSED(heed_quantize(&x->q, &x->k), HEED_INVALID_TYPE, "numbers is float32");
  EXPECT_REFUSED(heed_quantize(NULL, &x->k), HEED_INVALID_VALUE, "x is null");
  EXPECT_REFUSED(heed_instruction_set(NULL), HEED_INVALID_VALUE, "name is null");
  EXPECT(strcmp(heed_status_name((heed_status)77), "unknown") == 0);
  EXPECT(strcmp(heed_status_name(HEED_INTERNAL_ERROR), "HEED_INTERNAL_ERROR") == 0);
}

void test_hostile_input(void) {
  test_tensors();
  test_calls();
}

#define CACHE_REFUSED(change, status, text)                   \
  do {                                                        \
    heed_cache_options o = HEED_CACHE_INIT;                   \
    heed_handle none = 99;                                    \
    o.type = HEED_FLOAT32, o.heads = 4, o.key_heads = 2;      \
    o.dim = o.value_dim = 8, o.selective = 1, change;         \
    EXPECT_REFUSED(heed_cache_open(&o, &none), status, text); \
    EXPECT(none == 99);                                       \
  } while (0)

static void test_options(void) {
  int64_t positions[1] = {-1};
  heed_pool_options pool = HEED_POOL_INIT;
  heed_handle handle = 0;
  CACHE_REFUSED(o.size = 0, HEED_INVALID_VALUE, "size");
  CACHE_REFUSED(o.type = HEED_INT8, HEED_INVALID_TYPE, "type is int8");
  CACHE_REFUSED(o.type = 0, HEED_INVALID_TYPE, "type is of an unknown type (0)");
  CACHE_REFUSED((o.type = HEED_FLOAT64, o.storage = HEED_FLOAT16), HEED_INVALID_TYPE, "storage");
  CACHE_REFUSED(o.storage = HEED_INT64, HEED_INVALID_TYPE, "storage int64");
  CACHE_REFUSED(o.heads = 0, HEED_INVALID_VALUE, "at least 1");
  CACHE_REFUSED(o.key_heads = 3, HEED_INVALID_SHAPE, "multiple of 3 key heads");
  CACHE_REFUSED(o.dim = -1, HEED_INVALID_VALUE, "");
  CACHE_REFUSED(o.value_dim = INT64_MAX, HEED_INVALID_VALUE, "no memory holds");
  CACHE_REFUSED(o.budget = -1, HEED_INVALID_VALUE, "budget is -1");
  CACHE_REFUSED(o.budget = 1, HEED_INVALID_VALUE, "must be at least 2");
  CACHE_REFUSED(o.budget = INT64_MAX, HEED_INVALID_VALUE, "budget");
  CACHE_REFUSED(o.evict = 6, HEED_INVALID_VALUE, "evict is 6");
  CACHE_REFUSED(o.when = 3, HEED_INVALID_VALUE, "when is 3");
  CACHE_REFUSED(o.key_head_tokens = 9, HEED_INVALID_VALUE, "heads is 9");
  CACHE_REFUSED(o.key_head_tokens = HEED_HEADS_APART, HEED_INVALID_VALUE, "select must be none");
  CACHE_REFUSED((o.selective = 0, o.budget = 8), HEED_INVALID_VALUE, "MOST_MASKED");
  CACHE_REFUSED((o.selective = 0, o.select_head = 1), HEED_INVALID_VALUE, "selective is 0");
  CACHE_REFUSED(o.select_head = 4, HEED_INVALID_VALUE, "head 4 selects");
  CACHE_REFUSED(o.select_flags = 99, HEED_INVALID_VALUE, "select_flags is 99");
  CACHE_REFUSED(o.protect_count = 1, HEED_INVALID_VALUE, "protect is null");
  CACHE_REFUSED((o.protect = positions, o.protect_count = 1), HEED_INVALID_VALUE, "is negative");
  CACHE_REFUSED((o.protect = positions, o.protect_count = INT64_MAX), HEED_INVALID_VALUE,
                "protect_count");
  CACHE_REFUSED(o.snap_rows = 3, HEED_INVALID_VALUE, "snap");
  CACHE_REFUSED((o.evict = HEED_EVICT_SNAP, o.snap_kernel = 2), HEED_INVALID_VALUE, "odd");
  CACHE_REFUSED(o.score_bound = -1, HEED_INVALID_VALUE, "score_bound");
  CACHE_REFUSED(o.negligible = 7, HEED_INVALID_VALUE, "negligible");
  CACHE_REFUSED(o.pool = 1234567, HEED_INVALID_HANDLE, "never opened");
  CACHE_REFUSED(o.reserved = 1, HEED_INVALID_VALUE, "reserved");
  EXPECT_REFUSED(heed_cache_open(NULL, &handle), HEED_INVALID_VALUE, "options is null");

  EXPECT_REFUSED(heed_pool_open(NULL, &handle), HEED_INVALID_VALUE, "options is null");
  pool.type = HEED_FLOAT32, pool.dim = pool.value_dim = 8, pool.bytes = 1;
  EXPECT_REFUSED(heed_pool_open(&pool, &handle), HEED_INVALID_VALUE, "hold no page");
#if !defined(__SANITIZE_ADDRESS__) /* which ends the program where memory is exhausted */
  pool.bytes = INT64_MAX / 2;
  EXPECT_REFUSED(heed_pool_open(&pool, &handle), HEED_OUT_OF_MEMORY, "memory");
#endif
  pool.bytes = 0, pool.page = 3;
  EXPECT_REFUSED(heed_pool_open(&pool, &handle), HEED_INVALID_VALUE, "a page of 3 slots");
  pool.page = 0, pool.storage = HEED_FLOAT16;
  EXPECT_REFUSED(heed_pool_open(&pool, NULL), HEED_INVALID_VALUE, "pool is null");
  EXPECT_OK(heed_pool_open(&pool, &handle));
  CACHE_REFUSED(o.pool = handle, HEED_INVALID_TYPE,
                "the pool computes in float32 and stores float16");
  CACHE_REFUSED((o.storage = HEED_FLOAT16, o.pool = handle, o.dim = 9), HEED_INVALID_SHAPE, "pool");
  EXPECT_OK(heed_close(handle));
  EXPECT_REFUSED(heed_threads_open(0, &handle), HEED_INVALID_VALUE, "0 threads");
  EXPECT_REFUSED(heed_threads_open(1 << 20, &handle), HEED_INVALID_VALUE, "threads");
  EXPECT_REFUSED(heed_threads_open(2, NULL), HEED_INVALID_VALUE, "null");
}

static void write_file(const char* path, const char* text, size_t size) {
  FILE* file = fopen(path, "wb");
  EXPECT(file != NULL && fwrite(text, 1, size, file) == size && fclose(file) == 0);
}

/* Every byte of a file changed, every length cut: refused, and nothing worse. */
static void test_files(heed_handle cache, heed_handle sequence) {
  const char* path = "c_interface_damaged.heed";
  static char bytes[1 << 16];
  size_t size = 0, i;
  heed_handle loaded = 0;
  FILE* file;
  EXPECT_OK(heed_sequence_save(sequence, path));
  file = fopen(path, "rb");
  EXPECT(file != NULL);
  if (file == NULL) return;
  size = fread(bytes, 1, sizeof bytes - 1, file);
  fclose(file);
  EXPECT(size > 200 && size < sizeof bytes - 1);
  for (i = 0; i < size; i += i < 200 ? 1 : 13) {
    bytes[i] ^= 0x41;
    write_file(path, bytes, size);
    bytes[i] ^= 0x41;
    EXPECT(heed_sequence_load(cache, path, &loaded) != HEED_OK);
    write_file(path, bytes, i);
    EXPECT_REFUSED(heed_sequence_load(cache, path, &loaded), HEED_FILE_ERROR, "file");
  }
  bytes[size] = 'x';
  write_file(path, bytes, size + 1);
  EXPECT_REFUSED(heed_sequence_load(cache, path, &loaded), HEED_FILE_ERROR, "behind the sequence");
  EXPECT(loaded == 0);
  EXPECT(remove(path) == 0);
  EXPECT_REFUSED(heed_sequence_load(cache, path, &loaded), HEED_FILE_ERROR, "cannot be opened");
  EXPECT_REFUSED(heed_sequence_load(cache, ".", &loaded), HEED_FILE_ERROR, "folder");
  EXPECT_REFUSED(heed_sequence_load(cache, NULL, &loaded), HEED_INVALID_VALUE, "the path is null");
  EXPECT_REFUSED(heed_sequence_save(sequence, NULL), HEED_INVALID_VALUE, "the path is null");
  EXPECT_REFUSED(heed_sequence_save(sequence, ""), HEED_INVALID_VALUE, "the path is empty");
  EXPECT_REFUSED(heed_sequence_save(sequence, "no/such/folder/x"), HEED_FILE_ERROR,
                 "cannot be opened");
  EXPECT_REFUSED(heed_sequence_save(sequence, "."), HEED_FILE_ERROR, "cannot be opened");
  file = fopen("/dev/full", "wb");
  if (file == NULL) return;
  fclose(file);
  EXPECT_REFUSED(heed_sequence_save(sequence, "/dev/full"), HEED_FILE_ERROR, "took less");
}

void test_hostile_handles(void) {
  oracle_call of;
  c_call* x = good(&of);
  heed_cache_options o = HEED_CACHE_INIT;
  heed_handle cache, wide_cache, sequence, wide, mark, pair[2], other;
  heed_sequence_state state;
  heed_pool_state pool_state;
  heed_step step = HEED_STEP_INIT;
  int64_t count, path[2] = {1, 0};
  test_options();

  o.type = HEED_FLOAT32, o.heads = o.key_heads = 2, o.dim = o.value_dim = 8, o.selective = 1;
  EXPECT_OK(heed_cache_open(&o, &cache));
  o.type = HEED_FLOAT64;
  EXPECT_OK(heed_cache_open(&o, &wide_cache));
  EXPECT_OK(heed_sequence_open(cache, &sequence));
  EXPECT_OK(heed_sequence_open(wide_cache, &wide));
  EXPECT_OK(heed_mark_open(sequence, &mark));

#define STEP(c, s, n, variant) \
  heed_cache_step(c, s, n, &x->q, &x->k, &x->v, variant, &x->out, &step, NULL)
  EXPECT_REFUSED(STEP(0, &sequence, 1, NULL), HEED_INVALID_HANDLE, "no handle");
  EXPECT_REFUSED(STEP(sequence, &sequence, 1, NULL), HEED_INVALID_HANDLE,
                 "a sequence, not a cache");
  EXPECT_REFUSED(STEP(cache, &cache, 1, NULL), HEED_INVALID_HANDLE, "a cache, not a sequence");
  EXPECT_REFUSED(STEP(cache, NULL, 1, NULL), HEED_INVALID_VALUE, "sequences is null");
  EXPECT_REFUSED(STEP(cache, &sequence, 0, NULL), HEED_INVALID_VALUE, "0 sequences");
  EXPECT_REFUSED(STEP(cache, &sequence, INT64_MAX, NULL), HEED_INVALID_VALUE, "sequences");
  EXPECT_REFUSED(STEP(cache, &sequence, -1, NULL), HEED_INVALID_VALUE, "-1 sequences");
  EXPECT_REFUSED(STEP(cache, &wide, 1, NULL), HEED_INVALID_TYPE, "computes in float64");
  EXPECT_REFUSED(STEP(wide_cache, &wide, 1, NULL), HEED_INVALID_TYPE, "out is float32");
  pair[0] = pair[1] = sequence;
  EXPECT_REFUSED(STEP(cache, pair, 2, NULL), HEED_INVALID_VALUE, "one sequence twice");
  x->q.data = NULL;
  EXPECT_REFUSED(STEP(cache, &sequence, 1, NULL), HEED_INVALID_VALUE, "null");
  x = good(&of), x->out.data = x->k.data;
  EXPECT_REFUSED(STEP(cache, &sequence, 1, NULL), HEED_INVALID_SHAPE, "overlaps");
  x = good(&of), x->variant.selective = 1;
  EXPECT_REFUSED(STEP(cache, &sequence, 1, &x->variant), HEED_INVALID_VALUE, "selective");
  x = good(&of), x->variant.window = 1;
  EXPECT_REFUSED(STEP(cache, &sequence, 1, &x->variant), HEED_INVALID_VALUE, "window");
  x = good(&of), step.tokens = &x->lse;
  EXPECT_REFUSED(STEP(cache, &sequence, 1, NULL), HEED_INVALID_TYPE, "tokens is float32");
  step.tokens = NULL, step.size = 3;
  EXPECT_REFUSED(STEP(cache, &sequence, 1, NULL), HEED_INVALID_VALUE, "heed_step.size");
  step.size = sizeof step;
  EXPECT_OK(heed_sequence_get_state(sequence, &state));
  EXPECT(state.next == 0);
  EXPECT_OK(STEP(cache, &sequence, 1, NULL));

  EXPECT_REFUSED(heed_cache_reserve(cache, INT64_MAX), HEED_INVALID_VALUE, "reserve");
  EXPECT_REFUSED(heed_cache_reserve(cache, -1), HEED_INVALID_VALUE, "reserve");
  EXPECT_REFUSED(heed_sequence_get_state(sequence, NULL), HEED_INVALID_VALUE, "state is null");
  EXPECT_REFUSED(heed_sequence_get_held(sequence, 2, NULL, 0, &count), HEED_INVALID_VALUE,
                 "key head 2");
  EXPECT_REFUSED(heed_sequence_get_held(sequence, 0, NULL, 0, NULL), HEED_INVALID_VALUE, "count");
  EXPECT_REFUSED(heed_sequence_get_held(sequence, 0, NULL, -1, &count), HEED_INVALID_VALUE,
                 "capacity");
  EXPECT_REFUSED(heed_sequence_truncate(sequence, -1), HEED_INVALID_VALUE, "truncate");
  EXPECT_REFUSED(heed_sequence_drop(sequence, 3, 99), HEED_INVALID_VALUE, "drop");
  EXPECT_REFUSED(heed_sequence_drop(sequence, INT64_MIN, INT64_MAX), HEED_INVALID_VALUE, "drop");
  EXPECT_REFUSED(heed_sequence_accept(sequence, 0, path, 2), HEED_INVALID_VALUE, "must rise");
  EXPECT_REFUSED(heed_sequence_accept(sequence, 0, NULL, 2), HEED_INVALID_VALUE, "null");
  EXPECT_REFUSED(heed_sequence_accept(sequence, 0, path, INT64_MAX), HEED_INVALID_VALUE, "path");
  EXPECT_REFUSED(heed_sequence_set_budget(cache, sequence, 1), HEED_INVALID_VALUE, "at least 2");
  EXPECT_REFUSED(heed_sequence_set_budget(cache, sequence, -4), HEED_INVALID_VALUE, "negative");
  EXPECT_REFUSED(heed_sequence_roll_back(wide, mark), HEED_INVALID_TYPE, "the mark");
  EXPECT_REFUSED(heed_sequence_roll_back(sequence, sequence), HEED_INVALID_HANDLE, "not a mark");
  EXPECT_REFUSED(heed_sequence_fork(wide_cache, sequence, &other), HEED_INVALID_TYPE, "float32");
  EXPECT_REFUSED(heed_sequence_fork(0, sequence, NULL), HEED_INVALID_VALUE, "null");
  EXPECT_REFUSED(heed_sequence_open(cache, NULL), HEED_INVALID_VALUE, "null");
  EXPECT_REFUSED(heed_mark_open(sequence, NULL), HEED_INVALID_VALUE, "null");
  EXPECT_REFUSED(heed_pool_get_state(sequence, &pool_state), HEED_INVALID_HANDLE, "not a pool");
  test_files(cache, sequence);

  EXPECT_OK(heed_close(sequence));
  EXPECT_REFUSED(heed_close(sequence), HEED_INVALID_HANDLE, "which is closed");
  EXPECT_REFUSED(heed_sequence_clear(sequence), HEED_INVALID_HANDLE, "which is closed");
  EXPECT_REFUSED(STEP(cache, &sequence, 1, NULL), HEED_INVALID_HANDLE, "which is closed");
  EXPECT_REFUSED(heed_close(0), HEED_INVALID_HANDLE, "no handle");
  EXPECT_REFUSED(heed_close(UINT64_MAX), HEED_INVALID_HANDLE, "never opened");
  EXPECT_OK(heed_close(mark));
  EXPECT_OK(heed_close(wide));
  EXPECT_OK(heed_close(wide_cache));
  EXPECT_OK(heed_close(cache));
}
