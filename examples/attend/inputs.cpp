// SPDX-License-Identifier: MIT
#include "attend/inputs.hpp"

#include <algorithm>

namespace attend {
namespace {

bool is_float(npy::Type type) {
  return type == npy::Type::float32 || type == npy::Type::float64;
}

[[noreturn]] void refuse(const Path& path, const std::string& reason) {
  throw UsageError(path.string() + ": " + reason);
}

/// How many dimensions a file may have: exactly so many, or at most where it broadcasts.
struct Rank {
  std::size_t most;
  bool broadcasts = false;
};

NamedArray read(const Path& path, const char* what, bool floats, Rank rank) {
  NamedArray file{path, npy::read(path)};
  const auto& [type, shape, bytes, stored_as] = file.array;
  if (floats != is_float(type))
    refuse(path, "it holds " + std::string(stored_as) + ", " + what + " must be " +
                     (floats ? "float16, float32 or float64" : "whole numbers or bool"));
  if (shape.size() > rank.most || (shape.size() < rank.most && !rank.broadcasts))
    refuse(path, std::string(what) + " is " + npy::to_string(shape) + ", must have " +
                     (rank.broadcasts ? "at most " : "") + std::to_string(rank.most) +
                     (rank.most == 1 ? " dimension" : " dimensions"));
  return file;
}

std::optional<NamedArray> read_if(const Path& path, const char* what, bool floats, Rank rank) {
  if (path.empty()) return std::nullopt;
  return read(path, what, floats, rank);
}

template <class From, class To, class Convert>
void convert_to(npy::Array& array, const Convert& convert) {
  npy::Array converted = npy::zeros(npy::type_of<To>(), array.shape);
  std::ranges::transform(array.values<From>(), converted.values<To>().begin(), convert);
  array = std::move(converted);
}

template <class T>
void to_float(npy::Array& array) {
  const auto number = [](auto x) { return T(x); };
  if (array.type == npy::Type::float32 && npy::type_of<T>() != npy::Type::float32)
    convert_to<float, T>(array, number);
  if (array.type == npy::Type::float64 && npy::type_of<T>() != npy::Type::float64)
    convert_to<double, T>(array, number);
}

}  // namespace

Inputs read_inputs(const Request& r) {
  constexpr bool floats = true, whole = false;
  const Rank up_to_four{4, true};
  Inputs inputs{read(r.q, "q", floats, {4}),
                read(r.k, "k", floats, {4}),
                read(r.v, "v", floats, {4}),
                read_if(r.tau_q, "tau-q", floats, {3}),
                read_if(r.tau_k, "tau-k", floats, {3}),
                read_if(r.tau_v, "tau-v", floats, {3}),
                read_if(r.bias, "bias", floats, up_to_four),
                read_if(r.mask, "mask", whole, up_to_four),
                read_if(r.lengths, "lengths", whole, {1}),
                read_if(r.sinks, "sinks", floats, {1}),
                read_if(r.carry_in, "carry-in", floats, {2}),
                read_if(r.grad_out, "grad-out", floats, {4})};
  return inputs;
}

bool computes_in_double(const Request& request, const Inputs& inputs) {
  if (request.in_double) return *request.in_double;
  const npy::Type type = inputs.q.array.type;
  const auto expect_same = [&](const NamedArray& file) {
    if (file.array.type != type)
      refuse(file.path, "it holds " + std::string(file.array.stored_as) + ", q " +
                            std::string(inputs.q.array.stored_as) +
                            "; --dtype says which to compute in");
  };
  expect_same(inputs.k), expect_same(inputs.v);
  for (const auto* file : {&inputs.tau_q, &inputs.tau_k, &inputs.tau_v, &inputs.bias, &inputs.sinks,
                           &inputs.carry_in, &inputs.grad_out})
    if (*file) expect_same(**file);
  return type == npy::Type::float64;
}

template <class T>
void convert(Inputs& inputs) {
  for (NamedArray* file : {&inputs.q, &inputs.k, &inputs.v}) to_float<T>(file->array);
  for (auto* file : {&inputs.tau_q, &inputs.tau_k, &inputs.tau_v, &inputs.bias, &inputs.sinks,
                     &inputs.carry_in, &inputs.grad_out})
    if (*file) to_float<T>((*file)->array);
  if (inputs.mask && inputs.mask->array.type == npy::Type::int64)
    convert_to<std::int64_t, std::uint8_t>(inputs.mask->array,
                                           [](std::int64_t x) { return std::uint8_t(x != 0); });
  if (inputs.lengths && inputs.lengths->array.type != npy::Type::int64)
    convert_to<std::uint8_t, std::int64_t>(inputs.lengths->array,
                                           [](std::uint8_t x) { return std::int64_t(x); });
}

template void convert<float>(Inputs&);
template void convert<double>(Inputs&);

}  // namespace attend
