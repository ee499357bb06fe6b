# SPDX-License-Identifier: MIT
# cmake -D NM=nm -D "OBJECTS=a.o;b.o" -D GROUP=regex -P heed-shared-functions.cmake
#
# Fails if a function has one name in objects of two groups, be it the library's, xsimd's, Eigen's or
# the language's. A group is what GROUP's parentheses match in the object's path; objects it does
# not match are a group too.
cmake_minimum_required(VERSION 3.24)

set(groups)
foreach(object IN LISTS OBJECTS)
  set(group rest)
  if(object MATCHES "${GROUP}")
    set(group ${CMAKE_MATCH_1})
  endif()
  execute_process(COMMAND ${NM} --defined-only --extern-only --demangle ${object}
                  OUTPUT_VARIABLE symbols COMMAND_ERROR_IS_FATAL ANY)
  string(REPLACE ";" "," symbols "${symbols}")  # would part a name in two
  string(REGEX MATCHALL "[0-9a-f]+ [TWi] [^\n]+" functions "${symbols}")
  list(TRANSFORM functions REPLACE "^[0-9a-f]+ [TWi] " "")
  # clang++ writes it itself, in every instruction set alike: two calls, which end the process.
  list(REMOVE_ITEM functions __clang_call_terminate)
  list(APPEND groups ${group})
  list(APPEND functions_of_${group} ${functions})
endforeach()
list(REMOVE_DUPLICATES groups)
foreach(group IN LISTS groups)
  if(NOT functions_of_${group})
    message(FATAL_ERROR "heed: no function found in the objects of ${group}: ${OBJECTS}")
  endif()
endforeach()

while(groups)
  list(POP_FRONT groups one)
  foreach(other IN LISTS groups)
    foreach(function IN LISTS functions_of_${one})
      if(function IN_LIST functions_of_${other})
        message(SEND_ERROR "heed: compiled for ${one} and for ${other}: ${function}")
      endif()
    endforeach()
  endforeach()
endwhile()
