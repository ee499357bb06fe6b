// SPDX-License-Identifier: MIT
/// @file
/// Tensors of the C interface as views.
#pragma once

#include "heed/c/errors.hpp"
#include "heed/c/tensor.h"
#include "heed/core/check.hpp"
#include "heed/engine/quantized.hpp"

#include <Eigen/Core>

#include <cstdint>

namespace heed::inline HEED_ABI::c_interface {

static_assert(std::is_same_v<Index, std::int64_t>, "heed: the C interface needs 64-bit pointers");

template <class T>
inline constexpr heed_type type_of = heed_type{};
template <>
inline constexpr heed_type type_of<float> = HEED_FLOAT32;
template <>
inline constexpr heed_type type_of<double> = HEED_FLOAT64;
template <>
inline constexpr heed_type type_of<Eigen::half> = HEED_FLOAT16;
template <>
inline constexpr heed_type type_of<Eigen::bfloat16> = HEED_BFLOAT16;
template <>
inline constexpr heed_type type_of<std::int8_t> = HEED_INT8;
template <>
inline constexpr heed_type type_of<std::uint8_t> = HEED_UINT8;
template <>
inline constexpr heed_type type_of<std::int64_t> = HEED_INT64;

inline const char* name_of(std::int32_t type) {
  constexpr const char* names[] = {"float32", "float64", "float16", "bfloat16",
                                   "int8",    "uint8",   "int64"};
  return type >= HEED_FLOAT32 && type <= HEED_INT64 ? names[type - HEED_FLOAT32]
                                                    : "of an unknown type";
}

[[noreturn]] inline void refuse_type(const char* what, const heed_tensor& x, const char* wanted) {
  throw Error(HEED_INVALID_TYPE, what, " is ", name_of(x.type), " (", x.type, "), must be ",
              wanted);
}

/// @throws ValueError if the tensor, or its data, is null.
inline const heed_tensor& given(const char* what, const heed_tensor* x) {
  if (x == nullptr) throw ValueError(what, " is null");
  return *x;
}

/// A tensor as a view, empty if it is null.
///
/// @param broadcasts  missing leading dimensions are 1.
/// @throws Error, ShapeError, ValueError if its type or rank are others, if a size is not positive,
///     a stride is negative or no multiple of a number, if it leaves the address space, is null or
///     misaligned, or if T is not const and the tensor may only be read.
template <class T, std::size_t Rank>
View<T, Rank> view(const char* what, const heed_tensor* x, bool broadcasts = false) {
  using Number = std::remove_const_t<T>;
  constexpr Index bytes = sizeof(T);
  if (x == nullptr) return {};
  if (x->type != type_of<Number>) refuse_type(what, *x, name_of(type_of<Number>));
  const Index rank = x->rank;
  if (broadcasts ? rank < 1 || rank > Index(Rank) : rank != Index(Rank))
    throw ShapeError(what, " has ", rank, " dimensions, must have ", broadcasts ? "1 … " : "",
                     Rank);
  if ((x->flags & ~HEED_READ_ONLY) != 0 || x->reserved != 0)
    throw ValueError(what, " has flags ", x->flags, " and reserved ", x->reserved,
                     ": they must be HEED_READ_ONLY or 0, and 0");
  if (!std::is_const_v<T> && (x->flags & HEED_READ_ONLY) != 0)
    throw ValueError(what, " is written, but may only be read");
  if (x->scale != nullptr && x->type != HEED_INT8)
    throw ValueError(what, " has a scale, but is ", name_of(x->type));
  Dims<Rank> dims, strides;
  dims.fill(1), strides.fill(0);
  for (Index d = 0; d < rank; ++d) {
    const std::size_t to = std::size_t(Index(Rank) - rank + d);
    const std::span<const Index> sizes(x->dims, std::size_t(rank)),
        steps(x->strides, std::size_t(rank));
    if (x->dims[d] < 1) throw ShapeError(what, " is ", sizes, ": each size must be at least 1");
    dims[to] = x->dims[d];
    if (x->dims[d] == 1) continue;
    if (x->strides[d] < 0)
      throw ShapeError(what, " is ", sizes, " with strides of ", steps,
                       " bytes: none may be negative");
    if (x->strides[d] % bytes != 0)
      throw ShapeError(what, " is ", sizes, " with strides of ", steps,
                       " bytes: they must be multiples of ", bytes, ", the size of its numbers");
    strides[to] = x->strides[d] / bytes;
  }
  // One row, however long, is contiguous.
  if (dims[Rank - 1] == 1) strides[Rank - 1] = 1;
  const View<T, Rank> viewed(static_cast<T*>(x->data), dims, strides);
  detail::layout_of(what, viewed);
  return viewed;
}
/// The same of a tensor that must be there.
template <class T, std::size_t Rank>
View<T, Rank> required(const char* what, const heed_tensor* x) {
  return view<T, Rank>(what, &given(what, x));
}

/// Keys or values in 8 bits, of numbers in T.
template <class T>
Quantized<T> quantized(const char* what, const char* scale, const heed_tensor* x) {
  const View<const std::int8_t, 4> numbers = required<const std::int8_t, 4>(what, x);
  return {numbers, required<const T, 3>(scale, x->scale)};
}

/// Calls f with the queries as a view, in the type that they have.
template <class T, std::size_t Rank, class F>
auto with_queries(const heed_tensor* q, const F& f) {
  const std::int32_t type = given("q", q).type;
  if constexpr (std::is_same_v<T, float>) {
    if (type == HEED_FLOAT16) return f(view<const Eigen::half, Rank>("q", q));
    if (type == HEED_BFLOAT16) return f(view<const Eigen::bfloat16, Rank>("q", q));
    if (type != HEED_FLOAT32) refuse_type("q", *q, "float32, float16 or bfloat16");
  }
  return f(view<const T, Rank>("q", q));
}

/// Calls f with keys and values, in the type that they have.
template <class T, std::size_t Rank, class F>
auto with_keys(const heed_tensor* k, const heed_tensor* v, const F& f) {
  const auto both = [&]<class S>(const S&) {
    const auto keys = required<const S, Rank>("k", k);
    return f(keys, required<const S, Rank>("v", v));
  };
  const std::int32_t type = given("k", k).type;
  if constexpr (std::is_same_v<T, float>) {
    if (type == HEED_FLOAT16) return both(Eigen::half());
    if (type == HEED_BFLOAT16) return both(Eigen::bfloat16());
    if constexpr (Rank == 4)
      if (type == HEED_INT8) {
        const Quantized<T> keys = quantized<T>("k", "the scale of k", k);
        return f(keys, quantized<T>("v", "the scale of v", v));
      }
    if (type != HEED_FLOAT32)
      refuse_type(
          "k", *k,
          Rank == 4 ? "float32, float16, bfloat16 or int8" : "float32, float16 or bfloat16");
  }
  return both(T());
}

}  // namespace heed::inline HEED_ABI::c_interface
