// SPDX-License-Identifier: MIT
/// @file
/// All storage types of keys and values.
#pragma once

#include "heed/simd/codec/bfloat16.hpp"
#include "heed/simd/codec/binary16.hpp"
#include "heed/simd/codec/fp8.hpp"
#include "heed/simd/codec/int4.hpp"
#include "heed/simd/codec/int8.hpp"
#include "heed/simd/codec/plain.hpp"
