# SPDX-License-Identifier: MIT
# cmake -D COMPILER=... -D STANDARD=... -D PREFIX=... -D VERSION=... -P pkg_config.cmake
# Builds the consumer with what pkg-config says, and runs it.
cmake_minimum_required(VERSION 3.24)

set(ENV{PKG_CONFIG_PATH} ${PREFIX}/share/pkgconfig)

execute_process(COMMAND pkg-config --modversion heed OUTPUT_VARIABLE version
                OUTPUT_STRIP_TRAILING_WHITESPACE COMMAND_ERROR_IS_FATAL ANY)
if(NOT version STREQUAL VERSION)
  message(FATAL_ERROR "pkg-config says ${version}, the library is ${VERSION}")
endif()

execute_process(COMMAND pkg-config --cflags --libs heed OUTPUT_VARIABLE flags
                OUTPUT_STRIP_TRAILING_WHITESPACE COMMAND_ERROR_IS_FATAL ANY)
separate_arguments(flags UNIX_COMMAND "${flags}")
set(consumer ${CMAKE_CURRENT_LIST_DIR}/consumer)
execute_process(COMMAND ${COMPILER} ${STANDARD} ${consumer}/main.cpp ${consumer}/second_unit.cpp
                        ${flags} -o pkg_config_consumer COMMAND_ERROR_IS_FATAL ANY)
execute_process(COMMAND ${CMAKE_CURRENT_BINARY_DIR}/pkg_config_consumer COMMAND_ERROR_IS_FATAL ANY)
