// SPDX-License-Identifier: MIT
#include "support/buffers_as.hpp"

namespace heed::test {

template WorkStats standard_step(KvBuffer<double>&, const Inputs<double>&, Tensor<double>&,
                                 const KvBuffer<double>::Step&);
template WorkStats standard_step(KvCache<double>&, KvCache<double>::Sequences,
                                 const Inputs<double>&, Tensor<double>&, const KvStep<double>&);
template WorkStats standard_step(KvCache<double>&, KvCache<double>::Sequences,
                                 const Packed<double>&, Tensor<double, 3>&, const KvStep<double>&);
template reference::Pruned pruned_oracle(const Inputs<double>&, const KvOptions&);
template Decided<double> decided(const Shape&, const KvOptions&, std::uint64_t);

}  // namespace heed::test
