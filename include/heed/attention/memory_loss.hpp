// SPDX-License-Identifier: MIT
/// @file The loss that asks selective attention to forget.
#pragma once

#include "heed/core/views.hpp"

#include <cstdint>

namespace heed::inline HEED_ABI {

struct MemoryLossOptions {
  double epsilon = 0.1;  ///< its weight beside the model's own loss
};

namespace detail {

/// The first row that attains the maximum of M among the first `length` ones.
template <class T>
Index fullest_row(const View<const T, 2>& memory, Index batch, Index length) {
  Index best = 0;
  for (Index i = 1; i < length; ++i)
    if (memory(batch, i) > memory(batch, best)) best = i;
  return best;
}

template <class T>
void check_memory_loss(const View<const T, 2>& memory, const Dims<2>& dims,
                       const View<const std::int64_t, 1>& lengths) {
  expect_dims("memory_loss: a layer's memory", memory.dims(), dims, "as the first layer's");
  if (!lengths) return;
  expect_dims("memory_loss: lengths", lengths.dims(), {dims[0]}, "one length per batch entry");
  for (Index b = 0; b < dims[0]; ++b)
    if (lengths(b) < 0 || lengths(b) > dims[1])
      throw ValueError("memory_loss: lengths[", b, "] is ", lengths(b), ", must lie in 0 … ",
                       dims[1]);
}

}  // namespace detail

/// The memory loss of selective attention (Leviathan, Kalman, Matias, arXiv:2410.02703), to be
/// added to that of the model: the tokens each layer holds where it holds most, per token of the
/// text,
///
///     L = ε/B Σ_b Σ_l max_i M_l[b, i] / (layers · length[b])
///
/// and its gradient. M is what selective.memory(…, τ) counts, the gradient what
/// selective.grad_memory(…, τ) takes, with the same τ:
///
///     forward(q, k, v, standard | causal | selective.memory(memory[l]), …);        // each layer
///     loss += memory_loss(memory, lengths, {.epsilon = 0.1}, grad_memory);
///     backward(q, k, v, standard | causal | selective.grad_memory(grad_memory[l]), …);
///
/// @param memory   a container of [B, N] tensors, one per layer.
/// @param lengths  [B] tokens of each sequence; an empty view: all N. Rows behind do not count, and
///                 a sequence of none adds nothing.
/// @param grad_memory  as memory, overwritten: ε / (B · layers · length[b]) in one row of each
///                     layer and sequence, the first of the fullest, and 0 elsewhere.
/// @return L.
/// @throws ShapeError, ValueError before anything is written.
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
  for (std::size_t l = 0; l < layers; ++l) {
    detail::check_memory_loss(View<const T, 2>(memory[l]), dims, lengths);
    expect_dims("memory_loss: a layer's gradient", View<T, 2>(grad_memory[l]).dims(), dims,
                "the dimensions of its memory");
  }

  double loss = 0;
  for (std::size_t l = 0; l < layers; ++l) {
    const View<const T, 2> held(memory[l]);
    const View<T, 2> grad(grad_memory[l]);
    for (Index b = 0; b < dims[0]; ++b) {
      for (Index i = 0; i < dims[1]; ++i) grad(b, i) = T(0);
      const Index length = lengths ? Index(lengths(b)) : dims[1];
      if (length == 0) continue;
      const Index row = detail::fullest_row(held, b, length);
      const double share = options.epsilon / (double(dims[0]) * double(layers) * double(length));
      loss += share * double(held(b, row));
      grad(b, row) = T(share);
    }
  }
  return loss;
}

}  // namespace heed::inline HEED_ABI
