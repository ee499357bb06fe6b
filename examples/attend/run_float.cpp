// SPDX-License-Identifier: MIT
#include "attend/run_as.hpp"

namespace attend {

template Result run<float>(const Request&, const Inputs&);

}  // namespace attend
