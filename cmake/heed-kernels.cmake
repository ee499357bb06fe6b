# SPDX-License-Identifier: MIT
# heed_add_kernels(<target> SOURCES <file>... [ARCHS <name>...] [CHECK])
#
# Compiles each SOURCE once for each of ARCHS into the target, with all the target is compiled with.
# How such a source is written, and how heed::dispatch chooses at run time, heed/core/dispatch.hpp
# tells. The target's other sources keep the flags they have: give them no -march.
#
#   ARCHS   x86-64: x86-64     SSE2, which every such processor has
#                   x86-64-v2  SSE4.2: Nehalem, 2008
#                   x86-64-v3  AVX2, FMA: Haswell, 2013; Zen
#                   x86-64-v4  AVX-512: Skylake-X, 2017; Zen 4
#                   x86-64-v4-bf16  the same, and AVX512_BF16: Cooper Lake, 2020; Zen 4; there AMX
#                                   too, where the processor has it
#           Arm:    armv8-a    NEON, which every 64-bit one has
#           Those of the other family are passed over, so that one list serves both. Without ARCHS:
#           x86-64 x86-64-v3 x86-64-v4 armv8-a.
#   CHECK   After linking, the build fails if a function is in kernels of two instruction sets, or in
#           kernels and in the rest of the target: the linker keeps one body, which may be the one
#           that older processors cannot run. For optimised builds; in others the standard library's
#           own inline functions are such.
#
# A second call for the same target adds sources; its ARCHS must be the same.
function(heed_add_kernels target)
  cmake_parse_arguments(PARSE_ARGV 1 arg CHECK "" "SOURCES;ARCHS")
  set(call "heed_add_kernels(${target})")
  if(arg_UNPARSED_ARGUMENTS)
    message(FATAL_ERROR "${call}: ${arg_UNPARSED_ARGUMENTS} is none of SOURCES, ARCHS, CHECK")
  endif()
  if(NOT arg_SOURCES)
    message(FATAL_ERROR "${call}: no SOURCES are given")
  endif()
  if(NOT TARGET ${target})
    message(FATAL_ERROR "${call}: there is no target ${target}")
  endif()

  set(x86 x86-64 x86-64-v2 x86-64-v3 x86-64-v4 x86-64-v4-bf16)
  set(arm armv8-a)
  if(CMAKE_SYSTEM_PROCESSOR MATCHES "^(x86_64|[Aa][Mm][Dd]64)$")
    set(family ${x86})
  elseif(CMAKE_SYSTEM_PROCESSOR MATCHES "^(aarch64|[Aa][Rr][Mm]64)$")
    set(family ${arm})
  else()
    message(FATAL_ERROR "${call}: instruction sets are known of x86-64 and of 64-bit Arm, not of "
                        "${CMAKE_SYSTEM_PROCESSOR}")
  endif()
  if(NOT arg_ARCHS)
    set(arg_ARCHS x86-64 x86-64-v3 x86-64-v4 armv8-a)
  endif()
  foreach(arch IN LISTS arg_ARCHS)
    if(NOT arch IN_LIST x86 AND NOT arch IN_LIST arm)
      list(JOIN x86 ", " x86)
      list(JOIN arm ", " arm)
      message(FATAL_ERROR "${call}: ${arch} is none of ${x86}, ${arm}")
    endif()
  endforeach()
  set(archs)
  foreach(arch IN LISTS family)  # sorted, and each once
    if(arch IN_LIST arg_ARCHS)
      list(APPEND archs ${arch})
    endif()
  endforeach()
  if(NOT archs)
    list(JOIN arg_ARCHS ", " arg_ARCHS)
    list(JOIN family ", " family)
    message(FATAL_ERROR "${call}: ARCHS are ${arg_ARCHS}, ${CMAKE_SYSTEM_PROCESSOR} has ${family}")
  endif()
  get_target_property(before ${target} HEED_KERNEL_ARCHS)
  if(before AND NOT before STREQUAL archs)
    message(FATAL_ERROR "${call}: ARCHS are ${archs}, in an earlier call ${before}")
  endif()
  if(NOT CMAKE_CXX_COMPILER_ID MATCHES "GNU|Clang" OR MSVC)
    message(FATAL_ERROR "${call}: options are known of g++ and clang++, not of "
                        "${CMAKE_CXX_COMPILER_ID}")
  endif()

  if(NOT before)
    set_property(TARGET ${target} PROPERTY HEED_KERNEL_ARCHS ${archs})
    string(REPLACE "-" "_" identifiers "${archs}")
    list(JOIN identifiers , identifiers)
    target_compile_definitions(${target} PRIVATE HEED_KERNEL_ARCHS=${identifiers})
  endif()
  foreach(source IN LISTS arg_SOURCES)
    # CMake compiles a file once a target: another file for each instruction set includes it.
    cmake_path(ABSOLUTE_PATH source NORMALIZE OUTPUT_VARIABLE path)
    cmake_path(RELATIVE_PATH path BASE_DIRECTORY ${CMAKE_CURRENT_SOURCE_DIR} OUTPUT_VARIABLE name)
    string(REPLACE ../ __/ name ${name})
    foreach(arch IN LISTS archs)
      set(unit ${CMAKE_CURRENT_BINARY_DIR}/${target}_kernels/${name}.${arch}.cpp)
      file(CONFIGURE OUTPUT ${unit} CONTENT "#include \"${path}\"\n" @ONLY)
      string(REPLACE "-" "_" identifier ${arch})
      string(REPLACE "-v4-bf16" "-v4;-mavx512bf16;-mamx-tile;-mamx-bf16" options -march=${arch})
      # What is compiled with other flags can neither use a header compiled with the target's nor
      # be one file with its other sources.
      set_source_files_properties(
        ${unit} TARGET_DIRECTORY ${target}
        PROPERTIES COMPILE_OPTIONS "${options}" COMPILE_DEFINITIONS HEED_KERNEL_ARCH=${identifier}
                   SKIP_PRECOMPILE_HEADERS ON SKIP_UNITY_BUILD_INCLUSION ON)
      target_sources(${target} PRIVATE ${unit})
    endforeach()
  endforeach()

  # The family's first is what compilers do when told nothing: those kernels may share functions
  # with the rest of the target.
  list(POP_FRONT family)
  get_target_property(checked ${target} HEED_KERNELS_CHECKED)
  if(arg_CHECK AND family AND NOT checked)
    set_property(TARGET ${target} PROPERTY HEED_KERNELS_CHECKED ON)
    list(JOIN family | above)
    add_custom_command(
      TARGET ${target} POST_BUILD VERBATIM
      COMMAND ${CMAKE_COMMAND} -D NM=${CMAKE_NM} -D "OBJECTS=$<TARGET_OBJECTS:${target}>"
              -D "GROUP=_kernels/.*\\.(${above})\\.cpp"
              -P ${CMAKE_CURRENT_FUNCTION_LIST_DIR}/heed-shared-functions.cmake)
  endif()
endfunction()
