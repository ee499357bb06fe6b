// SPDX-License-Identifier: MIT
/// @file
/// The tensors a request names, read, checked and brought to one number type.
#pragma once

#include "attend/npy.hpp"
#include "attend/request.hpp"
#include "heed/core/views.hpp"

#include <array>
#include <optional>
#include <string>

namespace attend {

/// A file in memory, and its name for messages.
struct NamedArray {
  Path path;
  npy::Array array;
};

/// What was read; an option not given is none.
struct Inputs {
  NamedArray q, k, v;
  std::optional<NamedArray> tau_q, tau_k, tau_v, bias, mask, lengths, sinks, carry_in, grad_out;
};

/// Reads every file the request names.
/// @throws npy::Error, UsageError if a file holds another kind of number, or as many dimensions as
///         it cannot have.
Inputs read_inputs(const Request& request);

/// Whether to compute in double: what --dtype says, else if q is float64.
/// @throws UsageError if --dtype is left out and some float tensors are float64, others are not.
bool computes_in_double(const Request& request, const Inputs& inputs);

/// Brings the float tensors to T and the others to int64 and uint8, in place.
template <class T>
void convert(Inputs& inputs);

/// Dimensions of a view of an array of at most Rank: missing ones are put in front, as NumPy
/// broadcasts.
template <std::size_t Rank>
heed::Dims<Rank> dims_of(const npy::Array& array) {
  heed::Dims<Rank> dims;
  dims.fill(1);
  for (std::size_t d = 0; d < array.shape.size(); ++d)
    dims[Rank - array.shape.size() + d] = heed::Index(array.shape[d]);
  return dims;
}

/// The array as a view. Its elements must be T already.
template <class T, std::size_t Rank>
heed::View<const T, Rank> view(const NamedArray& file) {
  return {file.array.values<T>().data(), dims_of<Rank>(file.array)};
}

/// An empty view of one that is missing.
template <class T, std::size_t Rank>
heed::View<const T, Rank> view(const std::optional<NamedArray>& file) {
  return file ? view<T, Rank>(*file) : heed::View<const T, Rank>{};
}

/// An array to be written to.
template <class T, std::size_t Rank>
heed::View<T, Rank> writable(std::optional<npy::Array>& array) {
  if (!array) return {};
  return {array->values<T>().data(), dims_of<Rank>(*array)};
}

}  // namespace attend
