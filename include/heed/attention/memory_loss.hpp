// SPDX-License-Identifier: MIT
/// @file
/// The memory loss: it trains selective attention to mask more keys.
#pragma once

#include "heed/core/check.hpp"

#include <algorithm>
#include <cstdint>

namespace heed::inline HEED_ABI {

/// Options of memory_loss().
struct MemoryLossOptions {
  double epsilon = 0.1;  ///< weight of this loss, relative to the model's own
  /// Set these where batch entries hold several sequences, or padding in front: the same tensors as
  /// for the stages documents and starts. Each sequence then counts as one batch entry.
  View<const std::int64_t, 2> documents{};  ///< [B, N]
  View<const std::int64_t, 1> starts{};     ///< [B]
};

namespace detail {

/// The first row that attains the maximum of M among rows [first, last).
template <class T>
Index fullest_row(const View<const T, 2>& memory, Index batch, Index first, Index last) {
  Index best = first;
  for (Index i = first + 1; i < last; ++i)
    if (memory(batch, i) > memory(batch, best)) best = i;
  return best;
}

/// Calls visit(first, last) with the rows of each sequence of a batch entry.
template <class Visit>
void each_sequence(const MemoryLossOptions& options, Index batch, Index length, Visit&& visit) {
  Index first = options.starts ? std::min(Index(options.starts(batch)), length) : 0;
  if (!options.documents) return visit(first, length);
  while (first < length) {
    Index last = first + 1;
    while (last < length && options.documents(batch, last) == options.documents(batch, first))
      ++last;
    visit(first, last);
    first = last;
  }
}

template <class T>
void check_memory_loss(const View<const T, 2>& memory, const Dims<2>& dims,
                       const View<const std::int64_t, 1>& lengths,
                       const MemoryLossOptions& options) {
  expect_dims("memory_loss: a layer's memory", memory.dims(), dims, "as the first layer's");
  if (options.documents)
    expect_dims("memory_loss: documents", options.documents.dims(), dims, "one id per row");
  if (options.starts) {
    expect_dims("memory_loss: starts", options.starts.dims(), {dims[0]},
                "one start per batch entry");
    expect_counts("memory_loss: starts", options.starts, dims[1]);
  }
  if (!lengths) return;
  expect_dims("memory_loss: lengths", lengths.dims(), {dims[0]}, "one length per batch entry");
  expect_counts("memory_loss: lengths", lengths, dims[1]);
}

}  // namespace detail

/// The memory loss of selective attention (Leviathan, Kalman, Matias, arXiv:2410.02703), to be
/// added to the model's own loss. It is the largest number of tokens that each layer holds at any
/// row, per token of the text:
///
///     L = ε/B Σ_b Σ_l max_i M_l[b, i] / (layers · length[b])
///
/// M is what selective.memory(…, τ) writes. The gradient goes to selective.grad_memory(…, τ), with
/// the same τ:
///
///     forward(q, k, v, standard | causal | selective.memory(memory[l]), …);        // each layer
///     loss += memory_loss(memory, lengths, {.epsilon = 0.1}, grad_memory);
///     backward(q, k, v, standard | causal | selective.grad_memory(grad_memory[l]), …);
///
/// @param memory   a container of [B, N] tensors, one per layer.
/// @param lengths  [B] the length of each batch entry; an empty view: N. Rows from there on are
/// padding and do not count. A sequence without rows adds nothing.
/// @param options  ε, and where sequences begin. With documents, B is their number, and length[b]
/// the length of a document.
/// @param grad_memory  as memory, overwritten: ε / (B · layers · length[b]) in one row of each
/// layer and sequence, the first one at which M is largest; 0 elsewhere.
/// @return L.
/// @throws ShapeError if shapes differ or a gradient overlaps another tensor; ValueError if there
/// are no layers, ε is not finite, or a length or start is outside 0 … N. Nothing was written then.
/// @note Time and memory traffic O(layers · B · N).
template <class Layers, class Grads>
double memory_loss(const Layers& memory, const View<const std::int64_t, 1>& lengths,
                   const MemoryLossOptions& options, Grads&& grad_memory) {
  using T = ScalarOf<decltype(memory[0])>;
  const std::size_t layers = memory.size();
  if (layers == 0) throw ValueError("memory_loss: there are no layers");
  if (grad_memory.size() != layers)
    throw ShapeError("memory_loss: there are ", layers, " layers and ", grad_memory.size(),
                     " gradients");
  const Dims<2> dims = View<const T, 2>(memory[0]).dims();
  if (!detail::is_finite(options.epsilon))
    throw ValueError("memory_loss: epsilon is ", options.epsilon, ", must be finite");
  const detail::Layout of_lengths = detail::layout_of("memory_loss: lengths", lengths);
  const auto of_memory = [&](std::size_t l) {
    return detail::layout_of("memory_loss: a layer's memory", View<const T, 2>(memory[l]));
  };
  const auto of_gradient = [&](std::size_t l) {
    return detail::layout_of("memory_loss: a layer's gradient", View<T, 2>(grad_memory[l]));
  };
  for (std::size_t l = 0; l < layers; ++l) {
    const detail::Layout gradient = of_gradient(l);
    detail::expect_disjoint(gradient);
    detail::expect_disjoint(gradient, of_lengths);
    for (std::size_t m = 0; m < layers; ++m) {
      detail::expect_disjoint(gradient, of_memory(m));
      if (m < l) detail::expect_disjoint(gradient, of_gradient(m));
    }
    detail::check_memory_loss(View<const T, 2>(memory[l]), dims, lengths, options);
    expect_dims("memory_loss: a layer's gradient", View<T, 2>(grad_memory[l]).dims(), dims,
                "the dimensions of its memory");
  }

  const auto length = [&](Index b) { return lengths ? Index(lengths(b)) : dims[1]; };
  Index sequences = options.documents ? 0 : dims[0];
  for (Index b = 0; b < dims[0] && options.documents; ++b)
    detail::each_sequence(options, b, length(b), [&](Index, Index) { ++sequences; });

  double loss = 0;
  for (std::size_t l = 0; l < layers; ++l) {
    const View<const T, 2> held(memory[l]);
    const View<T, 2> grad(grad_memory[l]);
    for (Index b = 0; b < dims[0]; ++b) {
      for (Index i = 0; i < dims[1]; ++i) grad(b, i) = T(0);
      detail::each_sequence(options, b, length(b), [&](Index first, Index last) {
        if (first >= last) return;
        const Index row = detail::fullest_row(held, b, first, last);
        const double share =
            options.epsilon / (double(sequences) * double(layers) * double(last - first));
        loss += share * double(held(b, row));
        grad(b, row) = T(share);
      });
    }
  }
  return loss;
}

}  // namespace heed::inline HEED_ABI
