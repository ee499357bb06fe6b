// SPDX-License-Identifier: MIT
/// @file
/// The library's version. CMake reads it from here.
#pragma once

#define HEED_VERSION_MAJOR 0
#define HEED_VERSION_MINOR 1
#define HEED_VERSION_PATCH 0
