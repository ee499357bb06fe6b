// SPDX-License-Identifier: MIT
#include "heed/c/backward.hpp"

HEED_C_KERNELS(heed::c::Backward, heed::c_interface::backward<float>,
               heed::c_interface::backward<double>);
