# SPDX-License-Identifier: MIT
# cmake -D BUILD=... -D SOURCE=... -D STAGE=... -D MOVED=... -P move.cmake
# Installs into STAGE and moves the whole to MOVED, where it must be as good.
cmake_minimum_required(VERSION 3.24)

file(REMOVE_RECURSE ${STAGE} ${MOVED})
execute_process(COMMAND ${CMAKE_COMMAND} --install ${BUILD} --prefix ${STAGE}
                OUTPUT_QUIET COMMAND_ERROR_IS_FATAL ANY)
file(RENAME ${STAGE} ${MOVED})

file(GLOB_RECURSE headers RELATIVE ${SOURCE} ${SOURCE}/include/*.hpp ${SOURCE}/include/*.h
     ${SOURCE}/include/*.cpp)
foreach(header IN LISTS headers)
  if(NOT EXISTS ${MOVED}/${header})
    message(SEND_ERROR "${header} is not installed")
  endif()
endforeach()

# No file remembers where it was built or first installed, and nothing but the library is there.
file(GLOB_RECURSE files RELATIVE ${MOVED} ${MOVED}/*)
foreach(file IN LISTS files)
  if(NOT file MATCHES "^(include/heed/.*\\.hpp|include/heed/c/.*\\.(h|cpp)|share/(cmake|licenses|pkgconfig)/.*)$"
     AND NOT file MATCHES "^lib[^/]*/(.*/)?libheed_c\\.so[.0-9]*$")
    message(SEND_ERROR "${file} should not be installed")
  endif()
  file(READ ${MOVED}/${file} text)
  foreach(place ${SOURCE}/include ${BUILD} ${STAGE})
    string(FIND "${text}" ${place} found)
    if(NOT found EQUAL -1)
      message(SEND_ERROR "${file} names ${place}")
    endif()
  endforeach()
endforeach()
