// SPDX-License-Identifier: MIT
// Owns the precompiled header of the test programs; asserts nothing and is not run.
