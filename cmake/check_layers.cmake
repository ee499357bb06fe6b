# SPDX-License-Identifier: MIT
# cmake -D INCLUDE=include/heed -P check_layers.cmake
#
# A header may include its own folder and the folders before it, and no other. Outside of the
# folders lie version.hpp, which includes nothing, and heed.hpp, which includes everything.
#
# The engine has rooms, likewise in order. Of the headers beside the rooms, a room may include those
# that include no room: what every call names, such as options.hpp.
cmake_minimum_required(VERSION 3.24)

set(layers core simd score engine kv attention distributed c)
set(rooms pack tile prune schedule)
set(engine ${INCLUDE}/engine)

# Each header of a folder of `order`, in ${root}, includes by `prefix` only from its own folder, those
# before it, and what the regular expression `beside` matches.
function(check_order root prefix order beside)
  file(GLOB folders LIST_DIRECTORIES true RELATIVE ${root} ${root}/*)
  list(FILTER folders EXCLUDE REGEX "\\.(hpp|md)$")
  list(REMOVE_ITEM folders ${order})
  if(folders)
    message(SEND_ERROR "${root}: ${folders} is none of ${order}")
  endif()
  set(allowed)
  foreach(folder IN LISTS order)
    list(APPEND allowed ${folder})
    list(JOIN allowed | any_allowed)
    file(GLOB_RECURSE headers ${root}/${folder}/*.hpp ${root}/${folder}/*.h
         ${root}/${folder}/*.cpp)
    foreach(header IN LISTS headers)
      file(STRINGS ${header} includes REGEX "^ *# *include *[<\"]${prefix}/")
      foreach(line IN LISTS includes)
        if(NOT line MATCHES "${prefix}/((${any_allowed})/|${beside})")
          message(SEND_ERROR "${header}: ${line} points up: ${folder} may see ${any_allowed}")
        endif()
      endforeach()
    endforeach()
  endforeach()
endfunction()

check_order(${INCLUDE} heed "${layers}" "version\\.hpp")

# A relative path would slip past the rule.
file(GLOB_RECURSE headers ${INCLUDE}/*/*.hpp ${INCLUDE}/*/*.h ${INCLUDE}/*/*.cpp)
foreach(header IN LISTS headers)
  file(STRINGS ${header} relative REGEX "^ *# *include *\"[^\"]*\"")
  list(FILTER relative EXCLUDE REGEX "\"heed/")
  if(relative)
    message(SEND_ERROR "${header}: ${relative} should begin with heed/")
  endif()
endforeach()

list(JOIN rooms | any_room)
file(GLOB headers RELATIVE ${engine} ${engine}/*.hpp)
set(roomless)
foreach(header IN LISTS headers)
  file(STRINGS ${engine}/${header} includes REGEX "\"heed/engine/(${any_room})/")
  if(NOT includes)
    list(APPEND roomless ${header})
  endif()
endforeach()
list(JOIN roomless | named_by_all)
string(REPLACE . "\\." named_by_all "${named_by_all}")
check_order(${engine} heed/engine "${rooms}" "(${named_by_all})\"")
