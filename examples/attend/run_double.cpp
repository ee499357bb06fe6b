// SPDX-License-Identifier: MIT
#include "attend/run_as.hpp"

namespace attend {

template Result run<double>(const Request&, const Inputs&);

}  // namespace attend
