// SPDX-License-Identifier: MIT
#include "support/buffers_as.hpp"

namespace heed::test {

template WorkStats standard_step(KvBuffer<float>&, const Inputs<float>&, Tensor<float>&,
                                 const KvBuffer<float>::Step&);
template reference::Pruned pruned_oracle(const Inputs<float>&, const KvOptions&);
template Decided<float> decided(const Shape&, const KvOptions&, std::uint64_t);

}  // namespace heed::test
