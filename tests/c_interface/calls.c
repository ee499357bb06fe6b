/* SPDX-License-Identifier: MIT */
#include "c_interface/calls.h"

static size_t bytes_of(heed_type type) {
  switch (type) {
    case HEED_FLOAT64:
    case HEED_INT64:
      return 8;
    case HEED_FLOAT32:
      return 4;
    case HEED_FLOAT16:
    case HEED_BFLOAT16:
      return 2;
    default:
      return 1;
  }
}

/* Of numbers that float16 holds as they are, and not of subnormal ones. */
static uint16_t half_of(float x) {
  uint32_t bits;
  memcpy(&bits, &x, sizeof bits);
  if (x == 0) return 0;
  return (uint16_t)((bits >> 16 & 0x8000u) | (((bits >> 23 & 0xffu) - 112u) << 10) |
                    (bits >> 13 & 0x3ffu));
}

static void put(void* to, heed_type type, double x) {
  const float single = (float)x;
  uint32_t bits;
  uint16_t half;
  memcpy(&bits, &single, sizeof bits);
  half = type == HEED_BFLOAT16 ? (uint16_t)(bits >> 16) : half_of(single);
  if (type == HEED_FLOAT64) memcpy(to, &x, sizeof x);
  if (type == HEED_FLOAT32) memcpy(to, &single, sizeof single);
  if (type == HEED_FLOAT16 || type == HEED_BFLOAT16) memcpy(to, &half, sizeof half);
}

static double get(const void* from, heed_type type) {
  double x;
  float single;
  if (type == HEED_FLOAT64) {
    memcpy(&x, from, sizeof x);
    return x;
  }
  memcpy(&single, from, sizeof single);
  return single;
}

/* Calls `with` on each number of a tensor, in row-major order. */
static void each_number(const heed_tensor* x, double* numbers_of,
                        void (*with)(char* at, heed_type type, double* number)) {
  int64_t dims[4] = {1, 1, 1, 1}, strides[4] = {0, 0, 0, 0}, a, b, c, d;
  int i;
  for (i = 0; i < x->rank; ++i) dims[i] = x->dims[i], strides[i] = x->strides[i];
  for (a = 0; a < dims[0]; ++a)
    for (b = 0; b < dims[1]; ++b)
      for (c = 0; c < dims[2]; ++c)
        for (d = 0; d < dims[3]; ++d)
          with((char*)x->data + a * strides[0] + b * strides[1] + c * strides[2] + d * strides[3],
               (heed_type)x->type, numbers_of++);
}
static void store(char* at, heed_type type, double* number) {
  put(at, type, *number);
}
static void fetch(char* at, heed_type type, double* number) {
  *number = get(at, type);
}

static heed_tensor empty(heed_type type, int rank, const int64_t* dims, order memory) {
  int64_t count = 1;
  int d;
  heed_tensor x;
  for (d = 0; d < rank; ++d) count *= dims[d];
  /* With room behind it: see mutations.c. */
  x = heed_row_major(room((size_t)count * bytes_of(type) + 4096), type, rank, dims);
  if (memory == BNHD && rank == 4) {
    const int64_t token = dims[1] * x.strides[2];
    x.strides[1] = x.strides[2], x.strides[2] = token;
  }
  return x;
}

static heed_tensor input(const double* from, heed_type type, int rank, const int64_t* dims,
                         order memory) {
  const heed_tensor x = empty(type, rank, dims, memory);
  each_number(&x, (double*)from, store);
  return x;
}

static heed_tensor output(c_call* call, double* to, heed_type type, int rank, const int64_t* dims,
                          order memory) {
  const heed_tensor x = empty(type, rank, dims, memory);
  call->results[call->result_count].to = to;
  call->results[call->result_count++].from = x;
  return x;
}

static const heed_tensor* keep(c_call* call, heed_tensor x) {
  call->fields[call->field_count] = x;
  return &call->fields[call->field_count++];
}

#define DIMS(...) ((const int64_t[]){__VA_ARGS__})
#define IN(x, rank, dims) \
  (of->x == NULL ? NULL : keep(call, input(of->x, call->computed, rank, dims, BHND)))
#define OUT(x, rank, dims) \
  (of->x == NULL ? NULL : keep(call, output(call, of->x, call->computed, rank, dims, BHND)))
#define INTEGERS(x, rank, dims) \
  (of->x == NULL ? NULL : keep(call, heed_row_major((void*)of->x, HEED_INT64, rank, dims)))

/* In 8 bits, by the library's own rounding; the numbers that it stands for go to the oracle. */
static heed_tensor quantized(const double* from, const int64_t* dims, c_call* call) {
  heed_tensor x = empty(HEED_INT8, 4, dims, BHND), wide = input(from, HEED_FLOAT32, 4, dims, BHND);
  const signed char* stored = x.data;
  int64_t n, d;
  x.scale = keep(call, empty(HEED_FLOAT32, 3, dims, BHND));
  EXPECT_OK(heed_quantize(&wide, &x));
  for (n = 0; n < dims[0] * dims[1] * dims[2]; ++n)
    for (d = 0; d < dims[3]; ++d)
      ((double*)from)[n * dims[3] + d] =
          (double)((const float*)x.scale->data)[n] * stored[n * dims[3] + d];
  return x;
}

static void prepare_variant(c_call* call, const oracle_call* of) {
  const int64_t b = of->batch, h = of->heads, n = of->queries, m = of->keys;
  const heed_variant initial = HEED_VARIANT_INIT;
  heed_variant* v = &call->variant;
  *v = initial;
  v->scale = of->scale, v->softcap = of->softcap, v->causal = of->causal;
  v->window = of->has_window, v->window_left = of->left, v->window_right = of->right;
  v->block_size = of->block, v->previous_blocks = of->previous, v->query_offset = of->offset;
  v->query_offsets = INTEGERS(offsets, 1, DIMS(b)), v->lengths = INTEGERS(lengths, 1, DIMS(b));
  v->starts = INTEGERS(starts, 1, DIMS(b)), v->documents = INTEGERS(documents, 2, DIMS(b, m));
  if (of->mask != NULL) /* without its first dimension where that is 1 */
    v->mask = keep(call, b == 1 ? heed_row_major((void*)of->mask, HEED_UINT8, 2, DIMS(n, m))
                                : heed_row_major((void*)of->mask, HEED_UINT8, 4, DIMS(b, 1, n, m)));
  v->bias = IN(bias, 3, DIMS(h, n, m)), v->sinks = IN(sinks, 1, DIMS(h));
  v->alibi = of->alibi, v->alibi_slopes = IN(slopes, 1, DIMS(h));
  v->tau_q = IN(tau_q, 3, DIMS(b, 1, n)), v->tau_k = IN(tau_k, 3, DIMS(b, 1, m));
  v->tau_v = IN(tau_v, 3, DIMS(b, 1, m));
  v->selective = of->selective, v->select_head = of->select_head;
  if (of->selective)
    v->select_flags =
        (of->relu ? 0 : HEED_VOTES_OF_ANY_SIGN) | (of->protect_first ? 0 : HEED_VOTES_ON_FIRST) |
        (of->forbid_self ? 0 : HEED_VOTES_ON_SELF) | (of->accumulate ? 0 : HEED_VOTES_OF_LAST_ROW) |
        (of->shift ? 0 : HEED_VOTES_FROM_OWN_ROW);
  v->carry_in = IN(carry_in, 2, DIMS(b, m)), v->carry_out = OUT(carry_out, 2, DIMS(b, m));
  v->mask_f = OUT(mask_f, 3, DIMS(b, n, m)), v->memory = OUT(memory, 2, DIMS(b, n));
  v->memory_tau = of->tau;
  v->grad_bias = OUT(grad_bias, 3, DIMS(h, n, m)), v->grad_sinks = OUT(grad_sinks, 1, DIMS(h));
  v->grad_alibi_slopes = OUT(grad_slopes, 1, DIMS(h));
  v->grad_tau_q = OUT(grad_tau_q, 3, DIMS(b, 1, n)),
  v->grad_tau_k = OUT(grad_tau_k, 3, DIMS(b, 1, m));
  v->grad_tau_v = OUT(grad_tau_v, 3, DIMS(b, 1, m));
  v->grad_carry_in = OUT(grad_carry_in, 2, DIMS(b, m));
  v->grad_carry_out = IN(grad_carry_out, 2, DIMS(b, m));
  v->grad_memory = IN(grad_memory, 2, DIMS(b, n));
}

void prepare(c_call* call, const oracle_call* of, call_types types, order memory) {
  const int64_t *q = DIMS(of->batch, of->heads, of->queries, of->dim),
                *k = DIMS(of->batch, of->key_heads, of->keys, of->dim),
                *v = DIMS(of->batch, of->key_heads, of->keys, of->value_dim),
                *out = DIMS(of->batch, of->heads, of->queries, of->value_dim);
  memset(call, 0, sizeof *call);
  call->computed = types.computed;
  call->q = input(of->q, types.q, 4, q, memory);
  if (types.kv == HEED_INT8) {
    call->k = quantized(of->k, k, call), call->v = quantized(of->v, v, call);
  } else {
    call->k = input(of->k, types.kv, 4, k, memory), call->v = input(of->v, types.kv, 4, v, memory);
  }
  call->out = output(call, of->out, types.computed, 4, out, memory);
  call->lse = output(call, of->lse, types.computed, 3, out, BHND);
  prepare_variant(call, of);
  if (of->grad_q == NULL) return;
  call->grad_out = input(of->grad_out, types.computed, 4, out, memory);
  if (of->grad_lse != NULL) call->grad_lse = input(of->grad_lse, types.computed, 3, out, BHND);
  call->grad_q = output(call, of->grad_q, types.computed, 4, q, memory);
  call->grad_k = output(call, of->grad_k, types.computed, 4, k, memory);
  call->grad_v = output(call, of->grad_v, types.computed, 4, v, memory);
}

void finish(const c_call* call) {
  int i;
  for (i = 0; i < call->result_count; ++i)
    each_number(&call->results[i].from, call->results[i].to, fetch);
}

heed_status run_call(const oracle_call* of, call_types types, order memory, const heed_run* run) {
  c_call* call = room(sizeof *call);
  heed_status status;
  prepare(call, of, types, memory);
  status = heed_forward(&call->q, &call->k, &call->v, &call->variant, &call->out, &call->lse, run);
  if (status == HEED_OK && of->grad_q != NULL)
    status = heed_backward(&call->q, &call->k, &call->v, &call->variant, &call->out, &call->lse,
                           &call->grad_out, of->grad_lse == NULL ? NULL : &call->grad_lse,
                           &call->grad_q, &call->grad_k, &call->grad_v, run);
  finish(call);
  return status;
}

oracle_call sized_call(int64_t batch, int64_t heads, int64_t key_heads, int64_t queries,
                       int64_t keys, int64_t dim, int64_t value_dim) {
  oracle_call c;
  memset(&c, 0, sizeof c);
  c.batch = batch, c.heads = heads, c.key_heads = key_heads;
  c.queries = queries, c.keys = keys, c.dim = dim, c.value_dim = value_dim;
  c.q = numbers(batch * heads * queries * dim, 1), c.k = numbers(batch * key_heads * keys * dim, 2);
  c.v = numbers(batch * key_heads * keys * value_dim, 3);
  c.out = zeros(batch * heads * queries * value_dim), c.lse = zeros(batch * heads * queries);
  c.relu = c.protect_first = c.forbid_self = c.accumulate = c.shift = 1, c.tau = 1;
  return c;
}

void add_gradients(oracle_call* c) {
  c->grad_out = numbers(c->batch * c->heads * c->queries * c->value_dim, 4);
  c->grad_lse = numbers(c->batch * c->heads * c->queries, 5);
  c->grad_q = zeros(c->batch * c->heads * c->queries * c->dim);
  c->grad_k = zeros(c->batch * c->key_heads * c->keys * c->dim);
  c->grad_v = zeros(c->batch * c->key_heads * c->keys * c->value_dim);
}

/* Each result, and how many numbers it has. */
#define EACH_RESULT(X)                                        \
  X(out, c->batch * c->heads * c->queries * c->value_dim)     \
  X(lse, c->batch * c->heads * c->queries)                    \
  X(carry_out, c->batch * c->keys)                            \
  X(mask_f, c->batch * c->queries * c->keys)                  \
  X(memory, c->batch * c->queries)                            \
  X(grad_q, c->batch * c->heads * c->queries * c->dim)        \
  X(grad_k, c->batch * c->key_heads * c->keys * c->dim)       \
  X(grad_v, c->batch * c->key_heads * c->keys * c->value_dim) \
  X(grad_bias, c->heads * c->queries * c->keys)               \
  X(grad_sinks, c->heads)                                     \
  X(grad_slopes, c->heads)                                    \
  X(grad_tau_q, c->batch * c->queries)                        \
  X(grad_tau_k, c->batch * c->keys)                           \
  X(grad_tau_v, c->batch * c->keys)                           \
  X(grad_carry_in, c->batch * c->keys)

oracle_call with_own_results(const oracle_call* c) {
  oracle_call other = *c;
#define OWN(name, count) \
  if (c->name != NULL) other.name = zeros(count);
  EACH_RESULT(OWN)
#undef OWN
  return other;
}

void expect_same(const oracle_call* c, const oracle_call* b, double most, const char* what) {
#define SAME(name, count) \
  if (c->name != NULL) expect_near(c->name, b->name, count, most, #name, what, 0);
  EACH_RESULT(SAME)
#undef SAME
}
