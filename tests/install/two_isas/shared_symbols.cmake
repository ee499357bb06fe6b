# SPDX-License-Identifier: MIT
# cmake -D NM=... -D NARROW=a.o -D WIDE=b.o -P shared_symbols.cmake
# No function has one name in both objects, be it the library's, xsimd's, Eigen's or the language's.
cmake_minimum_required(VERSION 3.24)

foreach(unit NARROW WIDE)
  execute_process(COMMAND ${NM} --defined-only --extern-only --demangle ${${unit}}
                  OUTPUT_VARIABLE symbols COMMAND_ERROR_IS_FATAL ANY)
  string(REGEX MATCHALL "[0-9a-f]+ [TWi] [^\n]+" functions "${symbols}")
  list(TRANSFORM functions REPLACE "^[0-9a-f]+ [TWi] " "")
  set(${unit} ${functions})
endforeach()
if(NOT NARROW OR NOT WIDE)
  message(FATAL_ERROR "no functions found: ${NARROW} and ${WIDE}")
endif()
foreach(function IN LISTS NARROW)
  if(function IN_LIST WIDE)
    message(SEND_ERROR "in both: ${function}")
  endif()
endforeach()
