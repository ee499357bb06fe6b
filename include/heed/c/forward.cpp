// SPDX-License-Identifier: MIT
#include "heed/c/forward.hpp"

HEED_C_KERNELS(heed::c::Common, heed::c_interface::describe, heed::c_interface::new_workspace,
               heed::c_interface::delete_workspace, heed::c_interface::quantize);
HEED_C_KERNELS(heed::c::Forward, heed::c_interface::forward<float>,
               heed::c_interface::forward<double>);
