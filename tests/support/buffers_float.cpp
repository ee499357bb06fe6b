// SPDX-License-Identifier: MIT
#include "support/buffers_as.hpp"

namespace heed::test {

template WorkStats standard_step(KvBuffer<float>&, const Inputs<float>&, Tensor<float>&,
                                 const KvBuffer<float>::Step&);
template WorkStats standard_step(KvCache<float>&, KvCache<float>::Sequences, const Inputs<float>&,
                                 Tensor<float>&, const KvStep<float>&);
template WorkStats standard_step(KvCache<float>&, KvCache<float>::Sequences, const Packed<float>&,
                                 Tensor<float, 3>&, const KvStep<float>&);
template WorkStats standard_step_of(KvCache<float>&, KvCache<float>::Sequences,
                                    const Tensor<float>&, const Tensor<Eigen::bfloat16>&,
                                    const Tensor<Eigen::bfloat16>&, Tensor<float>&);
template WorkStats standard_step_of(KvCache<float>&, KvCache<float>::Sequences,
                                    const Tensor<float>&, const Tensor<Eigen::half>&,
                                    const Tensor<Eigen::half>&, Tensor<float>&);
template WorkStats standard_step_of(KvCache<float>&, KvCache<float>::Sequences,
                                    const Tensor<float>&, const Quantized<float, std::int8_t>&,
                                    const Quantized<float, std::int8_t>&, Tensor<float>&);
template reference::Pruned pruned_oracle(const Inputs<float>&, const KvOptions&);
template Decided<float> decided(const Shape&, const KvOptions&, std::uint64_t);

}  // namespace heed::test
