// SPDX-License-Identifier: MIT
// Built with -Wsign-conversion as an error: users choose their warnings, and the headers need not
// be a system's to them.
#include "heed/heed.hpp"
#include "support/whole_library.hpp"
