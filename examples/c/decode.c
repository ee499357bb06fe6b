/* SPDX-License-Identifier: MIT */
/* A prompt and ten tokens more through a cache of 24 tokens, in C99: what selective attention
 * forgets, and that a wrong call says why. */
#include <heed/c/heed.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum { HEADS = 8, KEY_HEADS = 2, DIM = 32, PROMPT = 64, GENERATED = 10, BUDGET = 24 };

static void check(heed_status status) {
  if (status == HEED_OK) return;
  fprintf(stderr, "decode: %s: %s\n", heed_status_name(status), heed_last_error());
  exit(1);
}

/* [1, heads, tokens, DIM] of numbers in −1 … 1. */
static heed_tensor waves(float* numbers, int64_t heads, int64_t tokens, float speed) {
  int64_t i;
  int64_t dims[4];
  dims[0] = 1, dims[1] = heads, dims[2] = tokens, dims[3] = DIM;
  for (i = 0; i < heads * tokens * DIM; ++i) numbers[i] = sinf(speed * (float)i);
  return heed_row_major(numbers, HEED_FLOAT32, 4, dims);
}

int main(void) {
  static float q_numbers[HEADS * PROMPT * DIM], k_numbers[KEY_HEADS * PROMPT * DIM];
  static float v_numbers[KEY_HEADS * PROMPT * DIM], out_numbers[HEADS * PROMPT * DIM];
  heed_cache_options options = HEED_CACHE_INIT;
  heed_handle cache, sequence;
  heed_held_token held[BUDGET];
  heed_tensor q, k, v, out;
  const char* instruction_set;
  int64_t count, n;

  check(heed_instruction_set(&instruction_set));
  printf("heed %s, kernels for %s\n", heed_version(), instruction_set);

  options.type = HEED_FLOAT32;
  options.storage = HEED_BFLOAT16; /* half of the memory */
  options.heads = HEADS, options.key_heads = KEY_HEADS;
  options.dim = options.value_dim = DIM;
  options.budget = BUDGET, options.selective = 1;
  check(heed_cache_open(&options, &cache));
  check(heed_sequence_open(cache, &sequence));

  q = waves(q_numbers, HEADS, PROMPT, 0.7f), k = waves(k_numbers, KEY_HEADS, PROMPT, 1.3f);
  v = waves(v_numbers, KEY_HEADS, PROMPT, 2.1f), out = waves(out_numbers, HEADS, PROMPT, 0);
  check(heed_cache_step(cache, &sequence, 1, &q, &k, &v, NULL, &out, NULL, NULL));
  for (n = 0; n < GENERATED; ++n) {
    q = waves(q_numbers, HEADS, 1, 0.7f + (float)n), k = waves(k_numbers, KEY_HEADS, 1, (float)n);
    v = waves(v_numbers, KEY_HEADS, 1, 2.1f + (float)n), out = waves(out_numbers, HEADS, 1, 0);
    check(heed_cache_step(cache, &sequence, 1, &q, &k, &v, NULL, &out, NULL, NULL));
  }

  check(heed_sequence_get_held(sequence, 0, held, BUDGET, &count));
  printf("%d tokens went in, %d are held:", PROMPT + GENERATED, (int)count);
  for (n = 0; n < count; ++n) printf(" %d", (int)held[n].position);

  k.dims[3] = 16;
  if (heed_cache_step(cache, &sequence, 1, &q, &k, &v, NULL, &out, NULL, NULL) != HEED_OK)
    printf("\na wrong call: %s\n", heed_last_error());
  check(heed_close(sequence));
  check(heed_close(cache));
  return fflush(stdout) != 0;
}
