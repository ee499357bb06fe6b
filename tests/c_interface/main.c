/* SPDX-License-Identifier: MIT */
#include "c_interface/check.h"

int failures = 0;

void expect_status(heed_status is, heed_status wanted, const char* text, const char* file,
                   int line) {
  if (is != wanted) {
    ++failures;
    printf("%s:%d: %s, should be %s: %s\n", file, line, heed_status_name(is),
           heed_status_name(wanted), heed_last_error());
  } else if (text != NULL && strstr(heed_last_error(), text) == NULL) {
    ++failures;
    printf("%s:%d: \"%s\" is not in \"%s\"\n", file, line, text, heed_last_error());
  }
}

void expect_near(const double* a, const double* b, int64_t count, double most, const char* what,
                 const char* file, int line) {
  int64_t i;
  for (i = 0; i < count; ++i)
    if (a[i] != b[i] && !(fabs(a[i] - b[i]) <= most)) {
      ++failures;
      printf("%s:%d: %s[%ld] is %g, should be %g\n", file, line, what, (long)i, a[i], b[i]);
      return;
    }
}

void* room(size_t bytes) {
  static void* all[4096];
  static int count = 0;
  void* memory = calloc(1, bytes);
  if (memory == NULL || count == 4096) {
    puts("the test has no memory left");
    exit(1);
  }
  return all[count++] = memory;
}

double* zeros(int64_t count) {
  return room((size_t)count * sizeof(double));
}

double* numbers(int64_t count, unsigned seed) {
  double* x = zeros(count);
  uint32_t state = seed * 2654435761u + 1u;
  int64_t i;
  for (i = 0; i < count; ++i) {
    state = state * 1664525u + 1013904223u;
    /* Few bits, so that float16 and bfloat16 hold them as they are. */
    x[i] = ((double)(state >> 25) - 63.5) / 64;
  }
  return x;
}

heed_tensor tensor(void* data, heed_type type, int rank, int64_t a, int64_t b, int64_t c,
                   int64_t d) {
  int64_t dims[4];
  dims[0] = a, dims[1] = b, dims[2] = c, dims[3] = d;
  return heed_row_major(data, type, rank, dims);
}

int main(void) {
  const char* name = NULL;
  (void)setvbuf(stdout, NULL, _IOLBF, 0); /* nothing is lost if it ends early */
  EXPECT_OK(heed_instruction_set(&name));
  EXPECT(strlen(heed_version()) >= 5);
  test_attention();
  test_gradients();
  test_storage();
  test_threads();
  test_cache();
  test_hostile_input();
  test_hostile_handles();
  test_mutations();
  test_dlpack();
  printf("heed %s, kernels for %s: %d failures\n", heed_version(), name, failures);
  return failures != 0;
}
