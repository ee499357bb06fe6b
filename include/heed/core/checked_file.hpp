// SPDX-License-Identifier: MIT
/// @file
/// Numbers in a stream of bytes, with a checksum.
#pragma once

#include "heed/core/error.hpp"
#include "heed/core/vector.hpp"

#include <bit>
#include <cassert>
#include <cstdint>
#include <cstring>
#include <istream>
#include <ostream>
#include <stdexcept>
#include <type_traits>

namespace heed::inline HEED_ABI {

/// A file that cannot be read: it is truncated, damaged, or of another kind or version; or a stream
/// that cannot be written.
struct FileError : std::runtime_error {
  template <class... Pieces>
  explicit FileError(const Pieces&... pieces)
      : std::runtime_error(detail::Message(pieces...).text()) {}
};

namespace detail {

/// FNV-1a of 64 bits (Fowler, Noll, Vo). For a given byte, a step is a bijection of the sum.
/// Therefore one changed byte always changes the result.
class Fnv1a {
 public:
  void add(const std::byte* bytes, std::size_t count) {
    for (std::size_t i = 0; i < count; ++i)
      sum_ = (sum_ ^ std::uint64_t(bytes[i])) * 1099511628211U;
  }
  std::uint64_t value() const { return sum_; }

 private:
  std::uint64_t sum_ = 14695981039346656037U;
};

/// Converts a number between the order of bytes in memory and in files, which is little-endian.
inline void to_or_from_little_endian(std::byte* bytes, std::size_t count) {
  if (std::endian::native == std::endian::little) return;
  for (std::size_t i = 0; i < count / 2; ++i) {
    const std::byte first = bytes[i];
    bytes[i] = bytes[count - 1 - i], bytes[count - 1 - i] = first;
  }
}

// The two classes have the same functions number(), text() and sum(), so that one function can
// describe a format for both directions. Of a stream they call read(), write() and good() only: see
// Message for what can go wrong with inline functions of the standard library.

/// Writes numbers and texts. @throws FileError if the stream does not take them.
class FileWriter {
 public:
  explicit FileWriter(std::ostream& to) : to_(to) {}

  template <class X>
  void number(const X& x) {
    static_assert(std::is_trivially_copyable_v<X> && sizeof(X) <= 8);
    if (used_ + sizeof x > sizeof bytes_) flush();
    std::memcpy(bytes_ + used_, &x, sizeof x);
    to_or_from_little_endian(bytes_ + used_, sizeof x);
    used_ += sizeof x;
  }
  template <std::size_t Size>
  void text(const char (&x)[Size]) {
    for (const char letter : x) number(letter);
  }
  /// Writes the checksum of all bytes so far.
  void sum() {
    flush();
    number(sum_.value());
    flush();
  }

 private:
  void flush() {
    sum_.add(bytes_, used_);
    to_.write(reinterpret_cast<const char*>(bytes_), std::streamsize(used_));
    if (!to_.good()) throw FileError("the stream took less than the whole file");
    used_ = 0;
  }

  std::ostream& to_;
  Fnv1a sum_;
  std::size_t used_ = 0;
  std::byte bytes_[4096];
};

/// Reads what a FileWriter wrote, and no byte more. @throws FileError if the stream ends before.
class FileReader {
 public:
  explicit FileReader(std::istream& from) : from_(from) {}

  /// Reads this many bytes at once, for the calls that follow. Without it each one reads its own.
  void fetch(std::size_t count) {
    assert(next_ == ahead_.size());
    ahead_.resize(count), next_ = 0;
    from_.read(reinterpret_cast<char*>(ahead_.data()), std::streamsize(count));
    if (!from_.good())
      throw FileError("the file ends in the middle: ", count, " bytes are missing after ", read_);
    sum_.add(ahead_.data(), count);
    read_ += count;
  }
  template <class X>
  void number(X& x) {
    static_assert(std::is_trivially_copyable_v<X> && sizeof(X) <= 8);
    if (next_ == ahead_.size()) fetch(sizeof x);
    assert(ahead_.size() - next_ >= sizeof x);
    to_or_from_little_endian(ahead_.data() + next_, sizeof x);
    std::memcpy(static_cast<void*>(&x), ahead_.data() + next_, sizeof x);
    next_ += sizeof x;
  }
  template <std::size_t Size>
  void text(char (&x)[Size]) {
    if (next_ == ahead_.size()) fetch(Size);
    for (char& letter : x) number(letter);
  }
  /// Compares the checksum of all bytes so far with the one that follows.
  void sum() {
    const std::uint64_t computed = sum_.value(), at = read_;
    std::uint64_t stored{};
    number(stored);
    if (stored != computed)
      throw FileError("the file is damaged: its first ", at,
                      " bytes have another checksum than it says");
  }

 private:
  std::istream& from_;
  Fnv1a sum_;
  std::uint64_t read_ = 0;
  Vector<std::byte> ahead_;
  std::size_t next_ = 0;
};

/// Copies a name into a field of a file, filled with zeros. @throws ValueError if it is too long.
template <std::size_t Size>
void set_text(char (&field)[Size], const char* text) {
  const std::size_t length = std::strlen(text);
  if (length >= Size)
    throw ValueError("the name ", text, " has ", length, " letters, a file has room for ",
                     Size - 1);
  std::memset(field, 0, Size);
  std::memcpy(field, text, length);
}
/// @throws FileError unless the field is as set_text() makes one, without control characters.
template <std::size_t Size>
void check_text(const char (&field)[Size]) {
  std::size_t length = 0;
  while (length < Size && static_cast<unsigned char>(field[length]) >= ' ') ++length;
  bool good = length < Size;
  for (std::size_t i = length; i < Size; ++i) good &= field[i] == 0;
  if (!good) throw FileError("the file has a name that is no text");
}

}  // namespace detail
}  // namespace heed::inline HEED_ABI
