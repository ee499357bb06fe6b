// SPDX-License-Identifier: MIT
#include "support/gradients_as.hpp"

namespace heed::test {

template struct Mixture<float>;

}  // namespace heed::test
