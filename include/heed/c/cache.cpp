// SPDX-License-Identifier: MIT
#include "heed/c/cache.hpp"

HEED_C_KERNELS(heed::c::Caches, heed::c_interface::open_pool, heed::c_interface::open_cache);
