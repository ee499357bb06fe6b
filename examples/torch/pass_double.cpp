// SPDX-License-Identifier: MIT
#include "pass_of.hpp"

namespace heed_torch {

template void forward<double>(const Settings&, const Tensors&, const Outputs&);
template void backward<double>(const Settings&, const Tensors&, const Outputs&, const Outputs&,
                               const Tensors&);

}  // namespace heed_torch
