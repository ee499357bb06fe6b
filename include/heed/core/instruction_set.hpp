// SPDX-License-Identifier: MIT
/// @file
/// The instruction sets that a kernel can be compiled for, and detection of those that this
/// processor offers.
///
/// They are the levels of the x86-64 psABI, named as for -march, and one more that multiplies
/// bfloat16. With any other -march a compiler may use instructions that detection would have to
/// list one by one, such as movbe or lzcnt. Each level includes the levels before it.
/// xsimd::available_architectures is not sufficient: xsimd 8 does not check that the operating
/// system saves wide registers, and no version checks all instructions of a level.
#pragma once

#include "heed/core/abi.hpp"

#if defined(__x86_64__)
#include <cpuid.h>
#endif

/// Names that must be the same in all units of a program, for any instruction set. Therefore they
/// are outside of the ABI namespace, and none is a function with a body.
namespace heed::arch {

#if defined(__x86_64__)

/// SSE2: the default of any x86-64 compiler.
struct x86_64 {
  static constexpr const char* name = "x86-64";
  static constexpr int level = 1;
};
/// SSE4.2 and popcnt: Nehalem, 2008.
struct x86_64_v2 {
  static constexpr const char* name = "x86-64-v2";
  static constexpr int level = 2;
};
/// AVX2, FMA, BMI: Haswell, 2013; Zen.
struct x86_64_v3 {
  static constexpr const char* name = "x86-64-v3";
  static constexpr int level = 3;
};
/// AVX-512 F, BW, CD, DQ, VL: Skylake-X, 2017; Zen 4.
struct x86_64_v4 {
  static constexpr const char* name = "x86-64-v4";
  static constexpr int level = 4;
};
/// The same with AVX512_BF16: Cooper Lake, 2020; Sapphire Rapids; Zen 4. It has no -march name; the
/// flags are -march=x86-64-v4 -mavx512bf16. It is also compiled with -mamx-tile -mamx-bf16; those
/// instructions are detected separately before use.
struct x86_64_v4_bf16 {
  static constexpr const char* name = "x86-64-v4-bf16";
  static constexpr int level = 5;
};

#elif defined(__aarch64__)

/// NEON, which every 64-bit Arm processor has.
struct armv8_a {
  static constexpr const char* name = "armv8-a";
  static constexpr int level = 1;
};

#endif

template <class... Archs>
struct List {};

/// All levels of this processor family, the lowest first.
#if defined(__x86_64__)
using Family = List<x86_64, x86_64_v2, x86_64_v3, x86_64_v4, x86_64_v4_bf16>;
#elif defined(__aarch64__)
using Family = List<armv8_a>;
#else
using Family = List<>;
#endif

}  // namespace heed::arch

namespace heed::inline HEED_ABI {

/// The level that this unit is compiled for. A unit that uses a part of a level counts as using all
/// of it.
#if defined(__AVX512BF16__)
inline constexpr int compiled_level = 5;
#elif defined(__AVX512F__)
inline constexpr int compiled_level = 4;
#elif defined(__AVX__)
inline constexpr int compiled_level = 3;
#elif defined(__SSE3__)
inline constexpr int compiled_level = 2;
#else
inline constexpr int compiled_level = 1;
#endif

namespace detail {

#if defined(__x86_64__)

struct Cpuid {
  unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
  /// All zero if the processor has no such leaf.
  explicit Cpuid(unsigned leaf, unsigned subleaf = 0) {
    __get_cpuid_count(leaf, subleaf, &eax, &ebx, &ecx, &edx);
  }
};

/// True if the system saves these parts of the registers on a context switch, according to XCR0.
inline bool system_preserves(unsigned parts) {
  unsigned low = 0, high = 0;
  asm volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return (low & parts) == parts;
}

inline int detect_level() {
  const auto has = [](unsigned word, unsigned bits) { return (word & bits) == bits; };
  constexpr unsigned ymm = 0x6, zmm = 0xe6;  // xmm and ymm; these, mask and zmm registers
  const Cpuid basic(1), more(7), extended(0x80000001);

  if (!has(basic.ecx,
           bit_SSE3 | bit_SSSE3 | bit_SSE4_1 | bit_SSE4_2 | bit_POPCNT | bit_CMPXCHG16B) ||
      !has(extended.ecx, bit_LAHF_LM))
    return 1;
  // Without OSXSAVE, xgetbv is an illegal instruction; so test that bit first.
  if (!has(basic.ecx, bit_OSXSAVE | bit_AVX | bit_FMA | bit_F16C | bit_MOVBE) ||
      !has(more.ebx, bit_AVX2 | bit_BMI | bit_BMI2) || !has(extended.ecx, bit_LZCNT) ||
      !system_preserves(ymm))
    return 2;
  if (!has(more.ebx, bit_AVX512F | bit_AVX512BW | bit_AVX512CD | bit_AVX512DQ | bit_AVX512VL) ||
      !system_preserves(zmm))
    return 3;
  // A subleaf beyond the last one has unspecified contents; eax holds the index of the last.
  constexpr unsigned avx512_bf16 = 1u << 5;
  return more.eax >= 1 && has(Cpuid(7, 1).eax, avx512_bf16) ? 5 : 4;
}

inline bool detect_intel() {
  const Cpuid vendor(0);
  return vendor.ebx == signature_INTEL_ebx && vendor.ecx == signature_INTEL_ecx &&
         vendor.edx == signature_INTEL_edx;
}

inline bool detect_amx_bf16() {
  constexpr unsigned amx_bf16 = 1u << 22, amx_tile = 1u << 24;
  return (Cpuid(7).edx & (amx_bf16 | amx_tile)) == (amx_bf16 | amx_tile);
}

#else

inline int detect_level() {
  return 1;
}
inline bool detect_intel() {
  return false;
}

#endif

}  // namespace detail

/// The highest level that both the processor and the operating system support.
inline int offered_level() {
  static const int level = detail::detect_level();
  return level;
}

/// The speed of VDPBF16PS differs between vendors, see Bfloat16.
inline bool is_intel() {
  static const bool yes = detail::detect_intel();
  return yes;
}

}  // namespace heed::inline HEED_ABI
