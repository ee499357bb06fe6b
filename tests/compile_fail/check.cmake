# SPDX-License-Identifier: MIT
# cmake -D SOURCE=... -D COMPILER=... -D OPTIONS=... -D DIRECTORIES=... -D PRECOMPILED=...
#       -P check.cmake
#
# SOURCE compiles. With HEED_EXPECT_FAILURE defined it does not, and what the compiler says matches
# each line of the source that reads
#
#     // expect: regular expression
#
# so that a missing header or a misspelt name does not pass for the refusal that was meant.
cmake_minimum_required(VERSION 3.24)

set(command ${COMPILER} ${OPTIONS} -fsyntax-only -include ${PRECOMPILED})
foreach(directory IN LISTS DIRECTORIES)
  list(APPEND command -I${directory})
endforeach()

file(STRINGS ${SOURCE} expectations REGEX "^// expect: .+")
if(NOT expectations)
  message(FATAL_ERROR "${SOURCE}: no line reads `// expect: ...`")
endif()

execute_process(COMMAND ${command} ${SOURCE} RESULT_VARIABLE result ERROR_VARIABLE said)
if(NOT result EQUAL 0)
  message(FATAL_ERROR "${SOURCE} should compile as it stands:\n${said}")
endif()

execute_process(COMMAND ${command} -D HEED_EXPECT_FAILURE ${SOURCE}
                RESULT_VARIABLE result ERROR_VARIABLE said)
if(result EQUAL 0)
  message(FATAL_ERROR "${SOURCE} should not compile with HEED_EXPECT_FAILURE")
endif()
foreach(expectation IN LISTS expectations)
  string(REGEX REPLACE "^// expect: " "" expectation "${expectation}")
  if(NOT said MATCHES "${expectation}")
    message(FATAL_ERROR "${SOURCE} failed, but nothing matches `${expectation}` in\n${said}")
  endif()
endforeach()
