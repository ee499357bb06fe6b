# SPDX-License-Identifier: MIT
# Toolchain: 64-bit Arm by Debian's g++-aarch64-linux-gnu; what is built runs under qemu-user.
set(CMAKE_SYSTEM_NAME Linux)
set(CMAKE_SYSTEM_PROCESSOR aarch64)
set(CMAKE_CXX_COMPILER aarch64-linux-gnu-g++)
set(CMAKE_CROSSCOMPILING_EMULATOR qemu-aarch64;-L;/usr/aarch64-linux-gnu)

# Headers alone suit every architecture, but Debian 12 keeps xsimd's package file with the host's
# libraries, where a cross build does not look.
file(GLOB heed_xsimd_dir /usr/lib/*-linux-gnu/cmake/xsimd)
if(heed_xsimd_dir)
  set(xsimd_DIR ${heed_xsimd_dir})
endif()
