// SPDX-License-Identifier: MIT
#include "attend/npy.hpp"

#include <Eigen/Core>

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
#include <type_traits>
#include <utility>

namespace npy {
namespace {

static_assert(std::endian::native == std::endian::little,
              "arrays are written as they lie in memory");
static_assert(sizeof(bool) == 1, "a boolean file holds bytes");

constexpr std::string_view magic = "\x93NUMPY";
constexpr std::size_t alignment = 64;  // where the data begins, as NumPy writes it
constexpr std::size_t most_header = 1 << 20, most_dimensions = 64;  // NumPy's arrays have no more

/// A boolean as a file holds it, in a byte that may be something else.
struct Flag {
  std::uint8_t byte;
};

/// Copies an element of a file, its bytes in this machine's order, to one of an array.
template <class From, class To>
void put(const std::byte* from, std::byte* to) {
  From stored;
  std::memcpy(&stored, from, sizeof(From));
  To value;
  if constexpr (std::is_same_v<From, Flag>) {
    if (stored.byte > 1) throw Error("it holds a boolean that is neither 0 nor 1");
    value = stored.byte;
  } else {
    if constexpr (std::is_same_v<From, std::uint64_t>)
      if (!std::in_range<To>(stored))
        throw Error("it holds " + std::to_string(stored) + " as uint64; at most " +
                    std::to_string(std::numeric_limits<To>::max()) + " is read");
    value = To(stored);
  }
  std::memcpy(to, &value, sizeof(To));
}

/// An element type of files, and what its elements become.
struct Stored {
  std::string_view code;  ///< NumPy's, without the byte order
  std::string_view name;
  std::size_t size;
  Type type;
  void (*put)(const std::byte* from, std::byte* to);
};
template <class From, class To>
constexpr Stored stored(std::string_view code, std::string_view name, Type type) {
  return {code, name, sizeof(From), type, put<From, To>};
}

/// The first row of a Type is what it is written as.
constexpr std::array stored_types{
    stored<float, float>("f4", "float32", Type::float32),
    stored<double, double>("f8", "float64", Type::float64),
    stored<std::int64_t, std::int64_t>("i8", "int64", Type::int64),
    stored<Flag, std::uint8_t>("b1", "bool", Type::boolean),
    stored<std::uint8_t, std::uint8_t>("u1", "uint8", Type::uint8),
    stored<Eigen::half, float>("f2", "float16", Type::float32),
    stored<std::int8_t, std::int64_t>("i1", "int8", Type::int64),
    stored<std::int16_t, std::int64_t>("i2", "int16", Type::int64),
    stored<std::int32_t, std::int64_t>("i4", "int32", Type::int64),
    stored<std::uint16_t, std::int64_t>("u2", "uint16", Type::int64),
    stored<std::uint32_t, std::int64_t>("u4", "uint32", Type::int64),
    stored<std::uint64_t, std::int64_t>("u8", "uint64", Type::int64),
};

const Stored& row_of(Type type) {
  return *std::ranges::find(stored_types, type, &Stored::type);
}

/// What a 'descr' says.
struct Elements {
  const Stored* stored;
  bool big_endian;
};

/// What a header says.
struct Header {
  std::optional<Elements> elements;
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
      if (key == "descr")
        once(header.elements, key) = elements();
      else if (key == "fortran_order")
        once(header.fortran_order, key) = boolean();
      else if (key == "shape")
        once(header.shape, key) = shape();
      else
        throw Error("its header has an unexpected key '" + key + "'");
      if (!accept(',')) {
        expect('}');
        break;
      }
    }
    skip_space();
    if (at_ != text_.size()) throw malformed();
    if (!header.elements || !header.fortran_order || !header.shape)
      throw Error("its header lacks one of 'descr', 'fortran_order' and 'shape'");
    return header;
  }

 private:
  static Error malformed() { return Error("its header is malformed"); }

  template <class Value>
  static std::optional<Value>& once(std::optional<Value>& value, const std::string& key) {
    if (value) throw Error("its header names '" + key + "' twice");
    return value;
  }

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

  /// '<f4': a byte order and a type. '|', of no order, is for types of one byte.
  Elements elements() {
    skip_space();
    if (at_ < text_.size() && text_[at_] == '[')
      throw Error("it holds records; arrays of one number type are read");
    const std::string descr = string();
    const std::string_view order = std::string_view(descr).substr(0, 1);
    const auto row = std::ranges::find(stored_types, std::string_view(descr).substr(order.size()),
                                       &Stored::code);
    if (row != stored_types.end() &&
        (order == "<" || order == ">" || (order == "|" && row->size == 1)))
      return {&*row, order == ">"};
    throw Error("its element type is '" + descr +
                "'; float16, float32, float64, int8 to int64, uint8 to uint64 and bool are read, "
                "of either byte order");
  }

  bool boolean() {
    if (accept_word("True")) return true;
    if (accept_word("False")) return false;
    throw malformed();
  }

  std::int64_t number() {
    if (accept('-')) throw Error("its header names a negative dimension");
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
    if (text_.substr(at_, 1) == "L") ++at_;  // as NumPy under Python 2 wrote some
    return value;
  }

  std::vector<std::int64_t> shape() {
    std::vector<std::int64_t> dims;
    expect('(');
    while (!accept(')')) {
      if (dims.size() == most_dimensions)
        throw Error("its header names more than " + std::to_string(most_dimensions) +
                    " dimensions");
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

/// The bytes of so many elements of `size`. Empty dimensions do not excuse huge ones: strides are
/// computed from them.
std::uint64_t bytes_of(std::size_t size, std::span<const std::int64_t> shape) {
  constexpr auto most = std::uint64_t(std::numeric_limits<std::int64_t>::max());
  std::uint64_t bytes = size;
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

/// Where the elements of a file lie in row-major order, one after the other.
class Places {
 public:
  Places(std::span<const std::int64_t> shape, bool fortran_order) {
    std::size_t stride = 1;
    for (std::size_t d = shape.size(); d-- > 0; stride *= std::size_t(shape[d]))
      if (shape[d] != 1) dims_.push_back({std::size_t(shape[d]), stride});
    if (fortran_order) std::ranges::reverse(dims_);
  }
  std::size_t next() {
    const std::size_t place = place_;
    for (Dim& dim : dims_) {
      place_ += dim.stride;
      if (++dim.at < dim.size) break;
      place_ -= dim.size * dim.stride;
      dim.at = 0;
    }
    return place;
  }

 private:
  struct Dim {
    std::size_t size, stride, at = 0;
  };
  std::vector<Dim> dims_;  ///< those that vary fastest in the file come first
  std::size_t place_ = 0;
};

/// Reads the elements through a buffer of some of them: beside the array nothing of its size is
/// held, whatever its order.
void take_elements(Reader& reader, const Elements& elements, bool fortran_order, Array& array) {
  const auto& [stored, big_endian] = elements;
  Places places(array.shape, fortran_order);
  std::array<std::byte, 1 << 16> buffer;
  const std::size_t size = size_of(array.type);
  while (reader.left() > 0) {
    const auto some = std::size_t(std::min<std::uint64_t>(buffer.size(), reader.left()));
    reader.take(reinterpret_cast<char*>(buffer.data()), some, "data");
    for (std::byte* x = buffer.data(); x != buffer.data() + some; x += stored->size) {
      if (big_endian) std::reverse(x, x + stored->size);
      stored->put(x, array.bytes.data() + places.next() * size);
    }
  }
}

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
  if (header_size > most_header)
    throw Error("its header has " + std::to_string(header_size) + " bytes; at most " +
                std::to_string(most_header) + " are read");
  std::string text(header_size, '\0');
  reader.take(text.data(), text.size(), "header");
  const Header header = HeaderParser(text).parse();

  const Stored& stored = *header.elements->stored;
  const std::vector<std::int64_t>& shape = *header.shape;
  const std::uint64_t bytes = bytes_of(stored.size, shape);
  if (bytes != reader.left())
    throw Error((bytes > reader.left() ? "it is truncated: its header says " : "its header says ") +
                to_string(shape) + " of " + std::string(stored.name) + ", " +
                std::to_string(bytes) + " bytes, and " + std::to_string(reader.left()) + " follow");
  Array array = zeros(stored.type, shape);
  array.stored_as = stored.name;
  take_elements(reader, *header.elements, *header.fortran_order, array);
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
  Array array{type, std::move(shape), {}, row_of(type).name};
  array.bytes.resize(bytes_of(size_of(type), array.shape));
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
  const Stored& stored = row_of(array.type);
  std::string text = std::string("{'descr': '") + (stored.size == 1 ? '|' : '<') +
                     std::string(stored.code) + "', 'fortran_order': False, 'shape': (" + shape +
                     "), }";
  const std::size_t before = magic.size() + 4;  // magic, version, header size
  text.append(alignment - 1 - (before + text.size()) % alignment, ' ');
  text += '\n';
  if (text.size() > 0xffff) throw Error("the shape does not fit a .npy header of version 1.0");

  stream << magic << '\x01' << '\x00' << char(text.size() & 0xff) << char(text.size() >> 8) << text;
  stream.write(reinterpret_cast<const char*>(array.bytes.data()),
               std::streamsize(array.bytes.size()));
}

}  // namespace npy
