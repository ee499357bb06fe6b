// SPDX-License-Identifier: MIT
#pragma once

#include <heed/core/dispatch.hpp>

/// Attention to k and v, which are stored in fewer bits on the way, or of q as well. All tensors
/// are [1, 1, tokens, dim]; `room` is for as many bytes as q, k and v have.
using Attend = void(const float* q, const float* k, const float* v, float* out, void* room,
                    long tokens, long dim);

struct Stored {
  Attend &half, &bfloat16, &quantized, &half_buffer, &quantized_buffer, &all_bfloat16;
};
