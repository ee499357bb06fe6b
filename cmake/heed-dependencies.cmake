# SPDX-License-Identifier: MIT
# Finds Eigen and xsimd, for the build tree and for the installed package alike.
# Leaves the targets Eigen3::Eigen and heed::xsimd, and in heed_dependencies_missing what is wrong.
#
# No version is asked of find_package: no request or range accepts both Eigen 3.4 and 5.0, and
# xsimd's own version file accepts one major version only. The numbers are compared here.
set(heed_dependencies_missing "")

# A project that has brought its own Eigen or xsimd keeps it.
foreach(heed_dependency "Eigen3 Eigen3::Eigen 3.4" "xsimd xsimd 8.1")
  separate_arguments(heed_dependency)
  list(POP_FRONT heed_dependency heed_package heed_target heed_floor)
  if(TARGET ${heed_target})
    continue()
  endif()
  find_package(${heed_package} CONFIG QUIET)
  if(NOT ${heed_package}_FOUND)
    string(APPEND heed_dependencies_missing "needs ${heed_package} ${heed_floor} or newer, found none. ")
  elseif(${heed_package}_VERSION VERSION_LESS heed_floor)
    string(APPEND heed_dependencies_missing "needs ${heed_package} ${heed_floor} or newer, "
                                            "found ${${heed_package}_VERSION} in ${${heed_package}_DIR}. ")
  endif()
endforeach()

# xsimd's headers and nothing else: in Debian 12 its target asks for the library xtl, which its
# package does not bring, and in Debian 13 it defines XSIMD_ENABLE_XTL_COMPLEX, which changes types.
if(NOT heed_dependencies_missing AND NOT TARGET heed::xsimd)
  add_library(heed::xsimd INTERFACE IMPORTED)
  get_target_property(heed_xsimd_headers xsimd INTERFACE_INCLUDE_DIRECTORIES)
  set_target_properties(heed::xsimd PROPERTIES INTERFACE_INCLUDE_DIRECTORIES "${heed_xsimd_headers}")
endif()
