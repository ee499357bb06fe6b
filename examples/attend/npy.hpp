// SPDX-License-Identifier: MIT
/// @file
/// NumPy's .npy files, versions 1.0 to 3.0:
/// https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <iosfwd>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

namespace npy {

/// A file that is not what it should be. The message is one line: the file, then the reason.
struct Error : std::runtime_error {
  using std::runtime_error::runtime_error;
};

/// The element types of arrays here. Files are written so, little-endian, and read from more.
enum class Type { float32, float64, int64, boolean, uint8 };

std::size_t size_of(Type type);  ///< Bytes of an element.
std::string name_of(Type type);  ///< "float32", …
template <class T>
Type type_of();  ///< The Type of float, double, std::int64_t, bool, std::uint8_t.

/// An array in memory, row-major. A shape without numbers is a scalar, one element.
struct Array {
  Type type = Type::float32;
  std::vector<std::int64_t> shape;
  std::vector<std::byte> bytes;
  std::string_view stored_as;  ///< The type in the file it comes from: "float16" where now float32.

  std::int64_t size() const;  ///< Elements.

  /// The elements. T must be the type's own, or uint8_t for a boolean array, whose bytes are 0 and
  /// 1; anything else throws std::logic_error.
  template <class T>
  std::span<const T> values() const;
  template <class T>
  std::span<T> values();
};

/// "[1, 2, 5, 8]".
std::string to_string(std::span<const std::int64_t> shape);

/// An array of zeros.
Array zeros(Type type, std::vector<std::int64_t> shape);

/// Reads a whole file, in C or Fortran order and of either byte order. No number is changed:
/// float16 becomes float32; int8 to int32 and uint16 to uint64 become int64.
///
/// Beside the array itself, 64 KB are held.
///
/// @throws Error if the file cannot be read, is not .npy, is of another element type, holds more or
///         fewer bytes than its header says, a boolean other than 0 and 1, or a uint64 beyond
///         int64. Nothing is allocated for data that the file does not hold.
Array read(const std::filesystem::path& path);

/// Writes version 1.0 to a stream.
void write(std::ostream& stream, const Array& array);

}  // namespace npy
