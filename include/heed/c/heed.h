/* SPDX-License-Identifier: MIT */
/**
 * @file
 * heed for C, from C99 on, and for every language that calls C.
 *
 *     heed_tensor q = heed_row_major(q_data, HEED_FLOAT32, 4, (int64_t[]){1, 8, 512, 64});
 *     …
 *     heed_variant variant = HEED_VARIANT_INIT;
 *     variant.causal = HEED_CAUSAL;
 *     variant.selective = 1;
 *     if (heed_forward(&q, &k, &v, &variant, &out, NULL, NULL) != HEED_OK) puts(heed_last_error());
 *
 * Link with CMake's heed::c or pkg-config's heed-c, or compile heed/c/heed.cpp into the program.
 * No exception leaves a function, and none ends the program: each returns a status. Structs with a
 * field `size` may grow: a program runs with a later library of the same major version.
 */
#ifndef HEED_C_HEED_H
#define HEED_C_HEED_H

#include "heed/c/attention.h"
#include "heed/c/cache.h"

#endif
