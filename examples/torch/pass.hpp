// SPDX-License-Identifier: MIT
/// @file
/// One call of heed on tensors' memory. Their number types compile side by side.
#pragma once

#include "attention.hpp"

namespace heed_torch {

/// Fills the outputs that are defined.
template <class T>
void forward(const Settings& settings, const Tensors& in, const Outputs& written);

/// From the gradients of the outputs, `received`, to those of the inputs, where defined; the ones
/// of q, k and v always are.
template <class T>
void backward(const Settings& settings, const Tensors& in, const Outputs& written,
              const Outputs& received, const Tensors& grads);

extern template void forward<float>(const Settings&, const Tensors&, const Outputs&);
extern template void forward<double>(const Settings&, const Tensors&, const Outputs&);
extern template void backward<float>(const Settings&, const Tensors&, const Outputs&,
                                     const Outputs&, const Tensors&);
extern template void backward<double>(const Settings&, const Tensors&, const Outputs&,
                                      const Outputs&, const Tensors&);

}  // namespace heed_torch
