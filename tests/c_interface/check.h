/* SPDX-License-Identifier: MIT */
/**
 * @file
 * A test in C: it counts what fails, and says where.
 */
#ifndef HEED_TEST_CHECK_H
#define HEED_TEST_CHECK_H

#include "heed/c/heed.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

extern int failures;

#define EXPECT(condition)                                                                         \
  do {                                                                                            \
    if (!(condition)) ++failures, printf("%s:%d: %s is false\n", __FILE__, __LINE__, #condition); \
  } while (0)

/** The call succeeds. */
#define EXPECT_OK(call) expect_status((call), HEED_OK, NULL, __FILE__, __LINE__)
/** The call is refused with this status, and the message has the text in it. */
#define EXPECT_REFUSED(call, status, text) \
  expect_status((call), (status), (text), __FILE__, __LINE__)
/** The numbers differ by at most `most`; equal infinities do not differ. */
#define EXPECT_NEAR(a, b, count, most) \
  expect_near((a), (b), (count), (most), #a, __FILE__, __LINE__)

void expect_status(heed_status is, heed_status wanted, const char* text, const char* file,
                   int line);
void expect_near(const double* a, const double* b, int64_t count, double most, const char* what,
                 const char* file, int line);

/** Memory that is never freed before the end: a test is short. */
void* room(size_t bytes);
double* zeros(int64_t count);
/** Numbers that look random, in −1 … 1, the same for the same seed. */
double* numbers(int64_t count, unsigned seed);

heed_tensor tensor(void* data, heed_type type, int rank, int64_t a, int64_t b, int64_t c,
                   int64_t d);

void test_attention(void);
void test_gradients(void);
void test_storage(void);
void test_threads(void);
void test_cache(void);
void test_hostile_input(void);
void test_hostile_handles(void);
void test_mutations(void);
void test_dlpack(void);

#endif
