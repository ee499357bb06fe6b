/* SPDX-License-Identifier: MIT */
/* Thousands of calls, each right but for a few fields that hold what no caller means: none may
 * crash or hang, and each that is refused says why. Memory has room behind it, since a size or
 * stride that is possible cannot be told from one that is meant. */
#include "c_interface/calls.h"

static uint32_t state = 1;

static uint32_t any(uint32_t below) {
  state = state * 1664525u + 1013904223u;
  return (state >> 8) % below;
}

static int64_t any_number(void) {
  static const int64_t odd[] = {INT64_MIN, INT64_MIN + 1, -64,      -1, 0, 1, 2,
                                3,         INT64_MAX - 7, INT64_MAX};
  return odd[any(10)];
}

static double any_double(void) {
  switch (any(8)) {
    case 0:
      return NAN;
    case 1:
      return INFINITY;
    case 2:
      return -INFINITY;
    case 3:
      return 1e300;
    case 4:
      return -1;
    case 5:
      return 1e-310;
    case 6:
      return 0.5;
    default:
      return 0;
  }
}

static const heed_tensor* any_tensor(c_call* x) {
  const heed_tensor* all[8];
  all[0] = NULL, all[1] = &x->q, all[2] = &x->k, all[3] = &x->out, all[4] = &x->lse;
  all[5] = &x->fields[0], all[6] = &x->fields[1], all[7] = &x->fields[2];
  return all[any(8)];
}

static void mutate_tensor(heed_tensor* t) {
  const uint32_t d = any(4);
  switch (any(9)) {
    case 0:
      t->data = NULL;
      break;
    case 1:
      t->data = (char*)t->data + 1 + any(8);
      break;
    case 2:
      t->type = (int32_t)any(10) - 1;
      break;
    case 3:
      t->rank = (int32_t)any(8) - 1;
      break;
    case 4:
      t->flags = (int32_t)any(4);
      break;
    case 5:
    case 6: /* not beyond what is there */
      t->dims[d] = any(2) ? any_number() : t->dims[d] / 2;
      break;
    case 7:
      t->strides[d] = any_number();
      break;
    case 8:
      t->scale = any(2) ? t : NULL;
      break;
  }
}

static void mutate_variant(c_call* x) {
  heed_variant* v = &x->variant;
  const heed_tensor** tensors[] = {
      &v->query_offsets, &v->lengths,    &v->starts,       &v->documents,     &v->mask,
      &v->bias,          &v->sinks,      &v->alibi_slopes, &v->tau_q,         &v->tau_k,
      &v->tau_v,         &v->carry_in,   &v->carry_out,    &v->mask_f,        &v->memory,
      &v->grad_bias,     &v->grad_sinks, &v->grad_tau_q,   &v->grad_carry_in, &v->grad_carry_out,
      &v->grad_memory};
  int64_t* integers[] = {&v->window_left,     &v->window_right, &v->block_size,
                         &v->previous_blocks, &v->query_offset, &v->select_head};
  double* doubles[] = {&v->scale, &v->softcap, &v->memory_tau};
  int32_t* flags[] = {&v->causal,    &v->window,       &v->alibi,
                      &v->selective, &v->select_flags, &v->reserved};
  switch (any(5)) {
    case 0:
      *tensors[any(21)] = any_tensor(x);
      break;
    case 1:
      *integers[any(6)] = any_number();
      break;
    case 2:
      *doubles[any(3)] = any_double();
      break;
    case 3:
      *flags[any(6)] = (int32_t)any(8) - 2;
      break;
    case 4:
      v->size = any(4) ? v->size : (size_t)any_number();
      break;
  }
}

static void mutate(c_call* x) {
  heed_tensor* tensors[] = {&x->q,      &x->k,         &x->v,         &x->out,
                            &x->lse,    &x->grad_out,  &x->grad_q,    &x->grad_k,
                            &x->grad_v, &x->fields[0], &x->fields[1], &x->fields[2]};
  if (any(2))
    mutate_tensor(tensors[any(12)]);
  else
    mutate_variant(x);
}

static void expect_reason(heed_status status, int* refused) {
  if (status == HEED_OK) return;
  ++*refused;
  EXPECT(status != HEED_INTERNAL_ERROR && status != HEED_BUSY && heed_last_error()[0] != '\0');
}

void test_mutations(void) {
  static const call_types types = {HEED_FLOAT32, HEED_FLOAT32, HEED_FLOAT32};
  enum { CALLS = 6000 };
  oracle_call c = sized_call(1, 2, 2, 6, 6, 8, 8);
  c_call original, x;
  heed_cache_options options = HEED_CACHE_INIT;
  heed_handle cache, sequence;
  int refused = 0, n;
  c.selective = c.causal = 1;
  c.carry_in = numbers(6, 3), c.sinks = numbers(2, 4), c.carry_out = zeros(6);
  add_gradients(&c);
  prepare(&original, &c, types, BHND);
  EXPECT(original.field_count == 3 && original.variant.sinks == &original.fields[0]);
  options.type = HEED_FLOAT32, options.heads = options.key_heads = 2;
  options.dim = options.value_dim = 8, options.budget = 6;
  options.evict = HEED_EVICT_OLDEST;
  EXPECT_OK(heed_cache_open(&options, &cache));
  EXPECT_OK(heed_sequence_open(cache, &sequence));
  for (n = 0; n < CALLS; ++n) {
    x = original;
    x.variant.sinks = &x.fields[0], x.variant.carry_in = &x.fields[1];
    x.variant.carry_out = &x.fields[2];
    do mutate(&x);
    while (any(2));
    expect_reason(heed_forward(&x.q, &x.k, &x.v, &x.variant, &x.out, &x.lse, NULL), &refused);
    expect_reason(heed_backward(&x.q, &x.k, &x.v, &x.variant, &x.out, &x.lse, &x.grad_out, NULL,
                                &x.grad_q, &x.grad_k, &x.grad_v, NULL),
                  &refused);
    x.variant.selective = x.variant.causal = 0, x.variant.carry_in = x.variant.carry_out = NULL;
    expect_reason(
        heed_cache_step(cache, &sequence, 1, &x.q, &x.k, &x.v, &x.variant, &x.out, NULL, NULL),
        &refused);
  }
  EXPECT(refused > CALLS && refused < 3 * CALLS);
  EXPECT_OK(heed_close(sequence));
  EXPECT_OK(heed_close(cache));
}
