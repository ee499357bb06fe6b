# SPDX-License-Identifier: MIT
# cmake -D INCLUDE=include/heed -P check_layers.cmake
#
# A header may include its own folder and the folders before it, and no other. Outside of the
# folders lie version.hpp, which includes nothing, and heed.hpp, which includes everything.
cmake_minimum_required(VERSION 3.24)

set(layers core simd score engine kv attention)

file(GLOB folders RELATIVE ${INCLUDE} ${INCLUDE}/*)
list(FILTER folders EXCLUDE REGEX "\\.hpp$")
list(REMOVE_ITEM folders ${layers})
if(folders)
  message(SEND_ERROR "${INCLUDE}: ${folders} is none of the layers ${layers}")
endif()

foreach(layer IN LISTS layers)
  list(FIND layers ${layer} rank)
  list(SUBLIST layers 0 ${rank} allowed)
  list(APPEND allowed ${layer})
  list(JOIN allowed | allowed)
  file(GLOB_RECURSE headers ${INCLUDE}/${layer}/*.hpp)
  foreach(header IN LISTS headers)
    file(STRINGS ${header} includes REGEX "^ *# *include *[<\"]heed/")
    foreach(line IN LISTS includes)
      if(NOT line MATCHES "heed/((${allowed})/|version\\.hpp)")
        message(SEND_ERROR "${header}: ${line} points up: ${layer} may see ${allowed}")
      endif()
    endforeach()
    # A relative path would slip past the rule.
    file(STRINGS ${header} relative REGEX "^ *# *include *\"[^\"]*\"")
    list(FILTER relative EXCLUDE REGEX "\"heed/")
    if(relative)
      message(SEND_ERROR "${header}: ${relative} should begin with heed/")
    endif()
  endforeach()
endforeach()
