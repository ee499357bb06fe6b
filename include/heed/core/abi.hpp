// SPDX-License-Identifier: MIT
/// @file
/// The inline namespace that every header opens: `namespace heed::inline HEED_ABI { … }`.
///
/// An inline function that is compiled for AVX-512 in one translation unit and for plain x86-64 in
/// another has two bodies. If both had one name, the linker would keep either, and a caller on an
/// older machine could run an illegal instruction. The namespace therefore names the target of the
/// body: the version, the widest instruction set, whether infinities and NaN were declared absent,
/// and one letter for each extension that a compiler may use by itself. `heed::forward` is, for
/// example,
///
///     heed::v0_1_0_avx2_fhbcnpm::forward
///
/// Users write `heed::forward`. Two libraries that were built with different flags link into one
/// program, and each uses its own functions. A heed type of one library is a different type from
/// that of the other: pass pointers and numbers between them, or build both with the same flags.
#pragma once

#if (defined(_MSVC_LANG) ? _MSVC_LANG : __cplusplus) < 202002L
#error "heed needs C++20: -std=c++20"
#endif

#include "heed/version.hpp"

// The widest instruction set, by which xsimd and the vectoriser choose registers.
#if defined(__AVX512F__)
#define HEED_ISA avx512
#elif defined(__AVX2__)
#define HEED_ISA avx2
#elif defined(__AVX__)
#define HEED_ISA avx
#elif defined(__SSE4_2__)
#define HEED_ISA sse4_2
#elif defined(__SSE4_1__)
#define HEED_ISA sse4_1
#elif defined(__SSSE3__)
#define HEED_ISA ssse3
#elif defined(__SSE3__)
#define HEED_ISA sse3
#elif defined(__SSE2__) || defined(_M_X64)
#define HEED_ISA sse2
#elif defined(__ARM_FEATURE_SVE2)
#define HEED_ISA sve2
#elif defined(__ARM_FEATURE_SVE)
#define HEED_ISA sve
#elif defined(__aarch64__) || defined(_M_ARM64)
#define HEED_ISA neon64
#elif defined(__ARM_NEON)
#define HEED_ISA neon
#elif defined(__riscv_vector)
#define HEED_ISA rvv
#elif defined(__wasm_simd128__)
#define HEED_ISA wasm
#elif defined(__VSX__)
#define HEED_ISA vsx
#else
#define HEED_ISA scalar
#endif

// The width of a scalable register, if the flags fix it.
#if defined(__ARM_FEATURE_SVE_BITS) && __ARM_FEATURE_SVE_BITS + 0 > 0
#define HEED_ISA_BITS __ARM_FEATURE_SVE_BITS
#elif defined(__riscv_v_fixed_vlen)
#define HEED_ISA_BITS __riscv_v_fixed_vlen
#else
#define HEED_ISA_BITS
#endif

// Fused multiply-add, half precision, and discontinued extensions.
#if defined(__FMA__) || defined(__ARM_FEATURE_FMA)
#define HEED_ISA_FMA f
#else
#define HEED_ISA_FMA
#endif
#if defined(__FMA4__)
#define HEED_ISA_FMA4 g
#else
#define HEED_ISA_FMA4
#endif
#if defined(__XOP__)
#define HEED_ISA_XOP x
#else
#define HEED_ISA_XOP
#endif
#if defined(__SSE4A__)
#define HEED_ISA_SSE4A q
#else
#define HEED_ISA_SSE4A
#endif
#if defined(__F16C__) || defined(__ARM_FEATURE_FP16_VECTOR_ARITHMETIC)
#define HEED_ISA_F16 h
#else
#define HEED_ISA_F16
#endif

// Integer instructions. Compilers use them in any loop. A processor without lzcnt does not fault on
// it but runs another instruction.
#if defined(__BMI__)
#define HEED_ISA_BMI b
#else
#define HEED_ISA_BMI
#endif
#if defined(__BMI2__)
#define HEED_ISA_BMI2 c
#else
#define HEED_ISA_BMI2
#endif
#if defined(__TBM__)
#define HEED_ISA_TBM t
#else
#define HEED_ISA_TBM
#endif
#if defined(__LZCNT__)
#define HEED_ISA_LZCNT n
#else
#define HEED_ISA_LZCNT
#endif
#if defined(__POPCNT__)
#define HEED_ISA_POPCNT p
#else
#define HEED_ISA_POPCNT
#endif
#if defined(__MOVBE__)
#define HEED_ISA_MOVBE m
#else
#define HEED_ISA_MOVBE
#endif
#if defined(__GFNI__)
#define HEED_ISA_GFNI r
#else
#define HEED_ISA_GFNI
#endif
#if defined(__APX_F__)
#define HEED_ISA_APX a
#else
#define HEED_ISA_APX
#endif
#if defined(__ARM_FEATURE_ATOMICS)
#define HEED_ISA_ATOMICS l
#else
#define HEED_ISA_ATOMICS
#endif

// Short dot products, of x86-64 and Arm.
#if defined(__AVXVNNI__) || defined(__ARM_FEATURE_DOTPROD)
#define HEED_ISA_DOT d
#else
#define HEED_ISA_DOT
#endif
#if defined(__AVXVNNIINT8__) || defined(__ARM_FEATURE_MATMUL_INT8)
#define HEED_ISA_I8MM i
#else
#define HEED_ISA_I8MM
#endif
#if defined(__AVXIFMA__)
#define HEED_ISA_IFMA k
#else
#define HEED_ISA_IFMA
#endif
#if defined(__ARM_FEATURE_BF16_VECTOR_ARITHMETIC)
#define HEED_ISA_BF16 y
#else
#define HEED_ISA_BF16
#endif
#if defined(__ARM_FEATURE_COMPLEX)
#define HEED_ISA_COMPLEX z
#else
#define HEED_ISA_COMPLEX
#endif
#if defined(__ARM_FEATURE_SHA3)
#define HEED_ISA_SHA3 s
#else
#define HEED_ISA_SHA3
#endif

// The parts of AVX-512; processors support any combination of them.
#if defined(__AVX512CD__)
#define HEED_ISA_512CD C
#else
#define HEED_ISA_512CD
#endif
#if defined(__AVX512DQ__)
#define HEED_ISA_512DQ D
#else
#define HEED_ISA_512DQ
#endif
#if defined(__AVX512BW__)
#define HEED_ISA_512BW B
#else
#define HEED_ISA_512BW
#endif
#if defined(__AVX512VL__)
#define HEED_ISA_512VL L
#else
#define HEED_ISA_512VL
#endif
#if defined(__AVX512ER__)
#define HEED_ISA_512ER E
#else
#define HEED_ISA_512ER
#endif
#if defined(__AVX512IFMA__)
#define HEED_ISA_512IFMA I
#else
#define HEED_ISA_512IFMA
#endif
#if defined(__AVX512VBMI__)
#define HEED_ISA_512VBMI V
#else
#define HEED_ISA_512VBMI
#endif
#if defined(__AVX512VBMI2__)
#define HEED_ISA_512VBMI2 W
#else
#define HEED_ISA_512VBMI2
#endif
#if defined(__AVX512VNNI__)
#define HEED_ISA_512VNNI N
#else
#define HEED_ISA_512VNNI
#endif
#if defined(__AVX512BF16__)
#define HEED_ISA_512BF16 Y
#else
#define HEED_ISA_512BF16
#endif
#if defined(__AVX512FP16__)
#define HEED_ISA_512FP16 H
#else
#define HEED_ISA_512FP16
#endif
#if defined(__AVX512BITALG__)
#define HEED_ISA_512BITALG A
#else
#define HEED_ISA_512BITALG
#endif
#if defined(__AVX512VPOPCNTDQ__)
#define HEED_ISA_512VPOPCNTDQ P
#else
#define HEED_ISA_512VPOPCNTDQ
#endif
#if defined(__AMX_BF16__) || defined(__AMXBF16__)  // the latter for clang++ 14 and earlier
#define HEED_ISA_AMX M
#define HEED_HAS_AMX_BF16
#else
#define HEED_ISA_AMX
#endif
#if defined(__AVX10_2__)
#define HEED_ISA_AVX10 X
#else
#define HEED_ISA_AVX10
#endif

// -ffast-math, or only its promise that NaN and infinities do not occur: x != x may then be false
// for NaN.
#if defined(__FAST_MATH__)
#define HEED_ISA_MATH _fast
#elif defined(__FINITE_MATH_ONLY__) && __FINITE_MATH_ONLY__ > 0
#define HEED_ISA_MATH _finite
#else
#define HEED_ISA_MATH
#endif

// Three groups of letters, each expanded before it is pasted; an absent extension pastes nothing.
#define HEED_ABI_PASTE_13(a, b, c, d, e, f, g, h, i, j, k, l, m) \
  a##b##c##d##e##f##g##h##i##j##k##l##m
#define HEED_ABI_JOIN_13(a, b, c, d, e, f, g, h, i, j, k, l, m) \
  HEED_ABI_PASTE_13(a, b, c, d, e, f, g, h, i, j, k, l, m)
#define HEED_ABI_SCALAR                                                                          \
  HEED_ABI_JOIN_13(HEED_ISA_FMA, HEED_ISA_FMA4, HEED_ISA_XOP, HEED_ISA_F16, HEED_ISA_BMI,        \
                   HEED_ISA_BMI2, HEED_ISA_TBM, HEED_ISA_LZCNT, HEED_ISA_POPCNT, HEED_ISA_MOVBE, \
                   HEED_ISA_GFNI, HEED_ISA_APX, HEED_ISA_ATOMICS)
#define HEED_ABI_VECTOR                                                                            \
  HEED_ABI_JOIN_13(HEED_ISA_DOT, HEED_ISA_I8MM, HEED_ISA_BF16, HEED_ISA_COMPLEX, HEED_ISA_SHA3,    \
                   HEED_ISA_512CD, HEED_ISA_512DQ, HEED_ISA_512BW, HEED_ISA_512VL, HEED_ISA_512ER, \
                   HEED_ISA_512IFMA, HEED_ISA_512VBMI, HEED_ISA_512VBMI2)
#define HEED_ABI_VECTOR_TAIL                                                                 \
  HEED_ABI_JOIN_13(HEED_ISA_512VNNI, HEED_ISA_512BF16, HEED_ISA_512FP16, HEED_ISA_512BITALG, \
                   HEED_ISA_512VPOPCNTDQ, HEED_ISA_AVX10, HEED_ISA_SSE4A, HEED_ISA_IFMA,     \
                   HEED_ISA_AMX, , , , )

#define HEED_ABI_PASTE(major, minor, patch, isa, bits, math, scalar, vector, tail) \
  v##major##_##minor##_##patch##_##isa##bits##math##_##scalar##vector##tail
#define HEED_ABI_JOIN(major, minor, patch, isa, bits, math, scalar, vector, tail) \
  HEED_ABI_PASTE(major, minor, patch, isa, bits, math, scalar, vector, tail)

/// The name of the inline namespace.
#define HEED_ABI                                                                      \
  HEED_ABI_JOIN(HEED_VERSION_MAJOR, HEED_VERSION_MINOR, HEED_VERSION_PATCH, HEED_ISA, \
                HEED_ISA_BITS, HEED_ISA_MATH, HEED_ABI_SCALAR, HEED_ABI_VECTOR,       \
                HEED_ABI_VECTOR_TAIL)
