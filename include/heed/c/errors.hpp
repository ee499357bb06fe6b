// SPDX-License-Identifier: MIT
/// @file
/// Exceptions as statuses of the C interface.
#pragma once

#include "heed/c/status.h"
#include "heed/core/checked_file.hpp"
#include "heed/core/error.hpp"
#include "heed/kv/page_pool.hpp"

#include <cstdio>
#include <exception>
#include <new>

namespace heed::inline HEED_ABI::c_interface {

/// An error of the interface alone.
struct Error : std::invalid_argument {
  heed_status status;

  template <class... Pieces>
  explicit Error(heed_status s, const Pieces&... pieces)
      : std::invalid_argument(detail::Message(pieces...).text()), status(s) {}
};

/// In a catch block: copies the message of the exception, and returns its status.
inline heed_status describe(char* text, std::size_t size) {
  const auto say = [=](heed_status status, const char* message) {
    std::snprintf(text, size, "%s", message);
    return status;
  };
  try {
    throw;
  } catch (const Error& e) {
    return say(e.status, e.what());
  } catch (const ShapeError& e) {
    return say(HEED_INVALID_SHAPE, e.what());
  } catch (const ValueError& e) {
    return say(HEED_INVALID_VALUE, e.what());
  } catch (const OutOfPages& e) {
    return say(HEED_OUT_OF_PAGES, e.what());
  } catch (const FileError& e) {
    return say(HEED_FILE_ERROR, e.what());
  } catch (const std::bad_alloc&) {
    return say(HEED_OUT_OF_MEMORY, "memory is exhausted");
  } catch (const std::length_error&) {  // of a vector larger than any memory
    return say(HEED_OUT_OF_MEMORY, "more memory is asked for than there can be");
  } catch (const std::exception& e) {
    return say(HEED_INTERNAL_ERROR, e.what());
  } catch (...) {
    return say(HEED_INTERNAL_ERROR, "an exception of an unknown type");
  }
}

}  // namespace heed::inline HEED_ABI::c_interface
