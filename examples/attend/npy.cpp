// SPDX-License-Identifier: MIT
#include "attend/npy.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <limits>
#include <optional>
#include <ostream>
#include <string_view>
#include <system_error>

namespace npy {
namespace {

static_assert(std::endian::native == std::endian::little, "the files are little-endian");
static_assert(sizeof(bool) == 1, "a boolean file holds bytes");

constexpr std::string_view magic = "\x93NUMPY";
constexpr std::size_t alignment = 64;  // where the data begins, as NumPy writes it

struct TypeRow {
  Type type;
  std::string_view descr;
  std::string_view name;
  std::size_t size;
};
constexpr std::array types{
    TypeRow{Type::float32, "<f4", "float32", 4}, TypeRow{Type::float64, "<f8", "float64", 8},
    TypeRow{Type::int64, "<i8", "int64", 8},     TypeRow{Type::boolean, "|b1", "bool", 1},
    TypeRow{Type::uint8, "|u1", "uint8", 1},
};

const TypeRow& row_of(Type type) {
  return *std::ranges::find(types, type, &TypeRow::type);
}

/// What a header says.
struct Header {
  std::optional<Type> type;
  std::optional<bool> fortran_order;
  std::optional<std::vector<std::int64_t>> shape;
};

/// Reads the header's Python literal, {'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }.
/// Every failure is an Error without the file's name, which the caller adds.
class HeaderParser {
 public:
  explicit HeaderParser(std::string_view text) : text_(text) {}

  Header parse() {
    Header header;
    expect('{');
    while (!accept('}')) {
      const std::string key = string();
      expect(':');
      if (key == "descr" && !header.type)
        header.type = type();
      else if (key == "fortran_order" && !header.fortran_order)
        header.fortran_order = boolean();
      else if (key == "shape" && !header.shape)
        header.shape = shape();
      else
        throw Error("its header has an unexpected key '" + key + "'");
      if (!accept(',')) {
        expect('}');
        break;
      }
    }
    skip_space();
    if (at_ != text_.size()) throw malformed();
    if (!header.type || !header.fortran_order || !header.shape)
      throw Error("its header lacks one of 'descr', 'fortran_order' and 'shape'");
    return header;
  }

 private:
  static Error malformed() { return Error("its header is malformed"); }

  void skip_space() {
    while (at_ < text_.size() && (text_[at_] == ' ' || text_[at_] == '\n' || text_[at_] == '\t'))
      ++at_;
  }
  bool accept(char c) {
    skip_space();
    if (at_ == text_.size() || text_[at_] != c) return false;
    ++at_;
    return true;
  }
  void expect(char c) {
    if (!accept(c)) throw malformed();
  }
  bool accept_word(std::string_view word) {
    skip_space();
    if (text_.substr(at_, word.size()) != word) return false;
    at_ += word.size();
    return true;
  }

  /// A quoted string of plain characters: nothing else belongs in these headers, nor in a message.
  std::string string() {
    skip_space();
    if (at_ == text_.size() || (text_[at_] != '\'' && text_[at_] != '"')) throw malformed();
    const std::size_t end = text_.find(text_[at_], at_ + 1);
    if (end == std::string_view::npos || end - at_ > 32) throw malformed();
    const std::string_view inside = text_.substr(at_ + 1, end - at_ - 1);
    if (!std::ranges::all_of(inside, [](char c) { return c >= ' ' && c <= '~' && c != '\\'; }))
      throw malformed();
    at_ = end + 1;
    return std::string(inside);
  }

  Type type() {
    skip_space();
    if (at_ < text_.size() && text_[at_] == '[')
      throw Error("it holds records; arrays of one number type are read");
    const std::string descr = string();
    const auto row = std::ranges::find(types, std::string_view(descr), &TypeRow::descr);
    if (row != types.end()) return row->type;
    if (descr.starts_with('>')) throw Error("it is big-endian ('" + descr + "')");
    throw Error("its element type is '" + descr +
                "'; float32, float64, int64, bool and uint8 are read");
  }

  bool boolean() {
    if (accept_word("True")) return true;
    if (accept_word("False")) return false;
    throw malformed();
  }

  std::int64_t number() {
    skip_space();
    const std::size_t begin = at_;
    std::int64_t value = 0;
    for (; at_ < text_.size() && text_[at_] >= '0' && text_[at_] <= '9'; ++at_) {
      const std::int64_t digit = text_[at_] - '0';
      if (value > (std::numeric_limits<std::int64_t>::max() - digit) / 10)
        throw Error("its header names a dimension that overflows 64 bits");
      value = 10 * value + digit;
    }
    if (at_ == begin) throw malformed();
    return value;
  }

  std::vector<std::int64_t> shape() {
    std::vector<std::int64_t> dims;
    expect('(');
    while (!accept(')')) {
      dims.push_back(number());
      if (accept(',')) continue;
      if (dims.size() == 1) throw malformed();  // (3) is a number in brackets; (3,) is a shape
      expect(')');
      break;
    }
    return dims;
  }

  std::string_view text_;
  std::size_t at_ = 0;
};

/// The bytes of an array of this type and shape. Empty dimensions do not excuse huge ones: strides
/// are computed from them.
std::uint64_t bytes_of(Type type, std::span<const std::int64_t> shape) {
  constexpr auto most = std::uint64_t(std::numeric_limits<std::int64_t>::max());
  std::uint64_t bytes = size_of(type);
  bool empty = false;
  for (const std::int64_t dim : shape) {
    empty |= dim == 0;
    const auto factor = std::uint64_t(std::max<std::int64_t>(dim, 1));
    if (bytes > most / factor) throw Error("its shape " + to_string(shape) + " overflows 64 bits");
    bytes *= factor;
  }
  return empty ? 0 : bytes;
}

/// Reads from the front of a file whose size is known.
class Reader {
 public:
  explicit Reader(const std::filesystem::path& path) {
    std::error_code error;
    const auto status = std::filesystem::status(path, error);
    if (!std::filesystem::exists(status)) throw Error("no such file");
    if (!std::filesystem::is_regular_file(status)) throw Error("it is not a regular file");
    left_ = std::filesystem::file_size(path, error);
    if (error) throw Error(error.message());
    stream_.open(path, std::ios::binary);
    if (!stream_) throw Error(std::generic_category().message(errno));
  }

  std::uint64_t left() const { return left_; }

  /// @throws Error if the file holds fewer bytes than that.
  void take(char* into, std::uint64_t count, const char* what) {
    if (count > left_) throw Error(std::string("it is truncated: it ends within its ") + what);
    stream_.read(into, std::streamsize(count));
    if (!stream_) throw Error("it cannot be read to its end");
    left_ -= count;
  }

 private:
  std::ifstream stream_;
  std::uint64_t left_ = 0;
};

Array read_unnamed(const std::filesystem::path& path) {
  Reader reader(path);
  std::array<char, 8> start{};
  if (reader.left() < start.size()) throw Error("it is too short to be a .npy file");
  reader.take(start.data(), start.size(), "first bytes");
  if (std::string_view(start.data(), magic.size()) != magic)
    throw Error("it is not a .npy file: the first bytes differ");
  const int major = static_cast<unsigned char>(start[6]),
            minor = static_cast<unsigned char>(start[7]);
  if (major < 1 || major > 3 || minor != 0)
    throw Error("its version is " + std::to_string(major) + "." + std::to_string(minor) +
                "; 1.0, 2.0 and 3.0 are read");

  std::array<unsigned char, 4> size_bytes{};
  reader.take(reinterpret_cast<char*>(size_bytes.data()), major == 1 ? 2 : 4, "header");
  std::uint64_t header_size = 0;
  for (std::size_t i = size_bytes.size(); i-- > 0;) header_size = header_size << 8 | size_bytes[i];
  if (header_size > reader.left()) throw Error("it is truncated: it ends within its header");
  std::string text(header_size, '\0');
  reader.take(text.data(), text.size(), "header");
  const Header header = HeaderParser(text).parse();

  Array array{*header.type, *header.shape, {}};
  const std::uint64_t bytes = bytes_of(array.type, array.shape);
  if (*header.fortran_order)
    throw Error("it is in Fortran order; C order is read (numpy.ascontiguousarray)");
  if (bytes != reader.left())
    throw Error((bytes > reader.left() ? "it is truncated: its header says " : "its header says ") +
                to_string(array.shape) + " of " + name_of(array.type) + ", " +
                std::to_string(bytes) + " bytes, and " + std::to_string(reader.left()) + " follow");
  array.bytes.resize(bytes);
  reader.take(reinterpret_cast<char*>(array.bytes.data()), bytes, "data");
  if (array.type == Type::boolean &&
      std::ranges::any_of(array.bytes, [](std::byte b) { return std::to_integer<int>(b) > 1; }))
    throw Error("it holds a boolean that is neither 0 nor 1");
  return array;
}

template <class T>
bool holds(Type type) {
  return type_of<T>() == type || (type_of<T>() == Type::uint8 && type == Type::boolean);
}

}  // namespace

std::size_t size_of(Type type) {
  return row_of(type).size;
}
std::string name_of(Type type) {
  return std::string(row_of(type).name);
}

template <>
Type type_of<float>() {
  return Type::float32;
}
template <>
Type type_of<double>() {
  return Type::float64;
}
template <>
Type type_of<std::int64_t>() {
  return Type::int64;
}
template <>
Type type_of<bool>() {
  return Type::boolean;
}
template <>
Type type_of<std::uint8_t>() {
  return Type::uint8;
}

std::int64_t Array::size() const {
  return std::int64_t(bytes.size() / size_of(type));
}

template <class T>
std::span<const T> Array::values() const {
  if (!holds<T>(type)) throw std::logic_error("the array holds " + name_of(type));
  return {reinterpret_cast<const T*>(bytes.data()), bytes.size() / sizeof(T)};
}

template <class T>
std::span<T> Array::values() {
  if (!holds<T>(type)) throw std::logic_error("the array holds " + name_of(type));
  return {reinterpret_cast<T*>(bytes.data()), bytes.size() / sizeof(T)};
}

template std::span<const float> Array::values() const;
template std::span<const double> Array::values() const;
template std::span<const std::int64_t> Array::values() const;
template std::span<const bool> Array::values() const;
template std::span<const std::uint8_t> Array::values() const;
template std::span<float> Array::values();
template std::span<double> Array::values();
template std::span<std::int64_t> Array::values();
template std::span<bool> Array::values();
template std::span<std::uint8_t> Array::values();

std::string to_string(std::span<const std::int64_t> shape) {
  std::string text = "[";
  for (const std::int64_t dim : shape) text += (text.size() > 1 ? ", " : "") + std::to_string(dim);
  return text + "]";
}

Array zeros(Type type, std::vector<std::int64_t> shape) {
  Array array{type, std::move(shape), {}};
  array.bytes.resize(bytes_of(type, array.shape));
  return array;
}

Array read(const std::filesystem::path& path) {
  try {
    return read_unnamed(path);
  } catch (const Error& error) {
    throw Error(path.string() + ": " + error.what());
  }
}

void write(std::ostream& stream, const Array& array) {
  std::string shape;
  for (const std::int64_t dim : array.shape) shape += std::to_string(dim) + ", ";
  if (array.shape.size() > 1) shape.resize(shape.size() - 2);
  if (array.shape.size() == 1) shape.resize(shape.size() - 1);
  std::string text = "{'descr': '" + std::string(row_of(array.type).descr) +
                     "', 'fortran_order': False, 'shape': (" + shape + "), }";
  const std::size_t before = magic.size() + 4;  // magic, version, header size
  text.append(alignment - 1 - (before + text.size()) % alignment, ' ');
  text += '\n';
  if (text.size() > 0xffff) throw Error("the shape does not fit a .npy header of version 1.0");

  stream << magic << '\x01' << '\x00' << char(text.size() & 0xff) << char(text.size() >> 8) << text;
  stream.write(reinterpret_cast<const char*>(array.bytes.data()),
               std::streamsize(array.bytes.size()));
}

}  // namespace npy
