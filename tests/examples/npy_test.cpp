// SPDX-License-Identifier: MIT
#include "attend/npy.hpp"

#include "examples/temporary_folder.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <sstream>
#include <string>
#include <vector>

namespace npy {
namespace {

class NpyTest : public TemporaryFolder {
 protected:
  /// The message of the Error that reading these bytes throws, without the file's name.
  std::string refusal(const std::string& bytes) const {
    const std::filesystem::path path = file(bytes);
    try {
      read(path);
    } catch (const Error& error) {
      const std::string message = error.what(), name = path.string() + ": ";
      EXPECT_EQ(message.substr(0, name.size()), name);
      EXPECT_EQ(message.find('\n'), std::string::npos);
      return message.substr(name.size());
    }
    return "read without complaint";
  }
};

std::string little_endian(std::uint64_t value, int bytes) {
  std::string text;
  for (int i = 0; i < bytes; ++i) text += char(value >> (8 * i) & 0xff);
  return text;
}

/// A file by hand: this dictionary, padded as NumPy pads it, then the data.
std::string npy_bytes(const std::string& dictionary, const std::string& data, int version = 1) {
  const int size_bytes = version == 1 ? 2 : 4;
  std::string header = dictionary;
  while ((8 + std::size_t(size_bytes) + header.size() + 1) % 64 != 0) header += ' ';
  header += '\n';
  return std::string("\x93NUMPY") + char(version) + '\0' +
         little_endian(header.size(), size_bytes) + header + data;
}

std::string header_of(const std::string& descr, const std::string& shape) {
  return "{'descr': '" + descr + "', 'fortran_order': False, 'shape': " + shape + ", }";
}

template <class T>
std::string raw(std::initializer_list<T> values) {
  std::string bytes;
  for (const T value : values) {
    std::array<char, sizeof(T)> copy;
    std::memcpy(copy.data(), &value, sizeof(T));
    bytes.append(copy.data(), copy.size());
  }
  return bytes;
}

template <class T>
std::vector<T> as_vector(const Array& array) {
  const auto values = array.values<T>();
  return {values.begin(), values.end()};
}

using Shape = std::vector<std::int64_t>;

/// The same file with every element's bytes in reverse.
std::string reversed(std::string bytes, std::size_t size) {
  for (auto x = bytes.begin(); x != bytes.end(); x += std::ptrdiff_t(size))
    std::reverse(x, x + std::ptrdiff_t(size));
  return bytes;
}

TEST_F(NpyTest, ReadsWhatNumPyWritesOfEitherByteOrder) {
  struct Case {
    const char* code;
    std::size_t size;
    std::string data, stored_as;
    Type type;
    std::vector<double> values;
  };
  for (const Case& c : std::vector<Case>{
           {"f4", 4, raw({1.5f, -2.f}), "float32", Type::float32, {1.5, -2}},
           {"f8", 8, raw({1e300, -0.1}), "float64", Type::float64, {1e300, -0.1}},
           // 1, −2, the largest, the least subnormal, −∞
           {"f2",
            2,
            raw<std::uint16_t>({0x3c00, 0xc000, 0x7bff, 0x0001, 0xfc00}),
            "float16",
            Type::float32,
            {1, -2, 65504, 0x1p-24, -INFINITY}},
           {"i1", 1, raw<std::int8_t>({-128, 127}), "int8", Type::int64, {-128, 127}},
           {"i2", 2, raw<std::int16_t>({-32768, 258}), "int16", Type::int64, {-32768, 258}},
           {"i4",
            4,
            raw<std::int32_t>({INT32_MIN, 66051}),
            "int32",
            Type::int64,
            {INT32_MIN, 66051}},
           {"i8", 8, raw<std::int64_t>({-5, 1L << 40}), "int64", Type::int64, {-5, 0x1p40}},
           {"u1", 1, raw<std::uint8_t>({7, 200}), "uint8", Type::uint8, {7, 200}},
           {"u2", 2, raw<std::uint16_t>({65535, 258}), "uint16", Type::int64, {65535, 258}},
           {"u4",
            4,
            raw<std::uint32_t>({UINT32_MAX, 66051}),
            "uint32",
            Type::int64,
            {UINT32_MAX, 66051}},
           {"u8", 8, raw<std::uint64_t>({3, 1L << 40}), "uint64", Type::int64, {3, 0x1p40}},
           {"b1", 1, raw<std::uint8_t>({1, 0}), "bool", Type::boolean, {1, 0}},
       })
    for (const char* order : {"<", ">", "|"}) {
      if (*order == '|' && c.size > 1) continue;
      SCOPED_TRACE(std::string(order) + c.code);
      const Array array = read(file(npy_bytes(
          header_of(order + std::string(c.code), "(" + std::to_string(c.values.size()) + ",)"),
          *order == '>' ? reversed(c.data, c.size) : c.data)));
      EXPECT_EQ(array.type, c.type);
      EXPECT_EQ(array.stored_as, c.stored_as);
      std::vector<double> values;
      const auto copy = [&](auto from) { values.assign(from.begin(), from.end()); };
      if (c.type == Type::float32) copy(array.values<float>());
      if (c.type == Type::float64) copy(array.values<double>());
      if (c.type == Type::int64) copy(array.values<std::int64_t>());
      if (c.type == Type::uint8 || c.type == Type::boolean) copy(array.values<std::uint8_t>());
      EXPECT_EQ(values, c.values);
    }
}

TEST_F(NpyTest, RefusesAnUnsignedNumberBeyondTheLargest) {
  const std::uint64_t most = INT64_MAX;
  EXPECT_EQ(as_vector<std::int64_t>(read(file(npy_bytes(header_of("<u8", "(1,)"), raw({most}))))),
            std::vector<std::int64_t>{INT64_MAX});
  EXPECT_EQ(refusal(npy_bytes(header_of("<u8", "(2,)"), raw({most, most + 1}))),
            "it holds 9223372036854775808 as uint64; at most 9223372036854775807 is read");
}

/// By its definition: the first index varies fastest. Larger than what is read at once, and with
/// dimensions of 1 and 0.
TEST_F(NpyTest, ReadsFortranOrder) {
  for (const Shape& shape : {Shape{}, Shape{5}, Shape{2, 3}, Shape{3, 1, 4}, Shape{1, 2, 3, 4},
                             Shape{2, 0, 3}, Shape{7, 31, 5, 67}})
    for (const char* order : {"<", ">"}) {
      std::vector<std::int64_t> dims = shape;
      dims.insert(dims.begin(), 4 - dims.size(), 1);
      std::string data, text;
      std::vector<std::int64_t> want(std::size_t(dims[0] * dims[1] * dims[2] * dims[3]));
      std::int32_t number = 0;
      for (std::int64_t l = 0; l < dims[3]; ++l)
        for (std::int64_t k = 0; k < dims[2]; ++k)
          for (std::int64_t j = 0; j < dims[1]; ++j)
            for (std::int64_t i = 0; i < dims[0]; ++i) {
              want[std::size_t(((i * dims[1] + j) * dims[2] + k) * dims[3] + l)] = ++number;
              data += raw({number});
            }
      for (const std::int64_t dim : shape) text += std::to_string(dim) + ",";
      SCOPED_TRACE(order + text);
      const Array array =
          read(file(npy_bytes("{'descr': '" + std::string(order) +
                                  "i4', 'fortran_order': True, 'shape': (" + text + "), }",
                              *order == '>' ? reversed(data, 4) : data)));
      EXPECT_EQ(array.shape, shape);
      EXPECT_TRUE(as_vector<std::int64_t>(array) == want);
    }
}

TEST_F(NpyTest, ReadsVersionsTwoAndThree) {
  for (const int version : {2, 3}) {
    const Array array = read(file(npy_bytes(header_of("<f4", "(1,)"), raw({3.f}), version)));
    EXPECT_EQ(as_vector<float>(array), std::vector{3.f});
  }
}

TEST_F(NpyTest, ReadsKeysInAnyOrderQuotesAndSpacing) {
  const Array array = read(file(npy_bytes(
      "{\"shape\":( 2 ,2),'fortran_order':False , 'descr' : \"<f4\"}", raw({1.f, 2.f, 3.f, 4.f}))));
  EXPECT_EQ(array.shape, (Shape{2, 2}));
}

TEST_F(NpyTest, ReadsScalarsAndEmptyArrays) {
  const Array scalar = read(file(npy_bytes(header_of("<f8", "()"), raw({2.5}))));
  EXPECT_EQ(scalar.shape, Shape{});
  EXPECT_EQ(scalar.size(), 1);
  const Array empty = read(file(npy_bytes(header_of("<f4", "(3, 0, 5)"), "")));
  EXPECT_EQ(empty.shape, (Shape{3, 0, 5}));
  EXPECT_EQ(empty.size(), 0);
}

TEST_F(NpyTest, RefusesWhatIsNoNpyFile) {
  EXPECT_EQ(refusal(""), "it is too short to be a .npy file");
  EXPECT_EQ(refusal("\x93NUM"), "it is too short to be a .npy file");
  EXPECT_EQ(refusal("PK\x03\x04 a zip file, .npz"),
            "it is not a .npy file: the first bytes differ");
  EXPECT_EQ(refusal(std::string("\x93NUMPY\x04\x00\x00\x00", 10)),
            "its version is 4.0; 1.0, 2.0 and 3.0 are read");
}

TEST_F(NpyTest, NamesTheFileThatIsMissingOrAFolder) {
  EXPECT_THROW(read(folder_ / "absent.npy"), Error);
  EXPECT_THROW(read(folder_), Error);
  try {
    read(folder_ / "absent.npy");
  } catch (const Error& error) {
    EXPECT_EQ(error.what(), (folder_ / "absent.npy").string() + ": no such file");
  }
}

TEST_F(NpyTest, RefusesOtherElementTypes) {
  for (const char* descr : {"<c8", "<f16", "<U3", "|O", "|S1", "|V4", "<M8[s]", "<i3", "f4", "=f4",
                            "|f4", "|i2", "<<f4", "<", "|", ""})
    EXPECT_EQ(refusal(npy_bytes(header_of(descr, "(1,)"), std::string(16, '\0'))),
              std::string("its element type is '") + descr +
                  "'; float16, float32, float64, int8 to int64, uint8 to uint64 and bool are "
                  "read, of either byte order");
  EXPECT_EQ(refusal(npy_bytes("{'descr': [('x', '<f4')], 'fortran_order': False, 'shape': (1,), }",
                              raw({1.f}))),
            "it holds records; arrays of one number type are read");
}

TEST_F(NpyTest, RefusesEveryTruncationOfAFile) {
  for (const int version : {1, 2}) {
    const std::string whole =
        npy_bytes(header_of("<f4", "(2, 2)"), raw({1.f, 2.f, 3.f, 4.f}), version);
    for (std::size_t size = 0; size < whole.size(); ++size)
      EXPECT_THROW(read(file(whole.substr(0, size))), Error) << size;
    EXPECT_NO_THROW(read(file(whole)));
  }
}

TEST_F(NpyTest, RefusesAHeaderThatLiesAboutTheData) {
  const std::string four = raw({1.f, 2.f, 3.f, 4.f});
  EXPECT_EQ(refusal(npy_bytes(header_of("<f4", "(5,)"), four)),
            "it is truncated: its header says [5] of float32, 20 bytes, and 16 follow");
  EXPECT_EQ(refusal(npy_bytes(header_of("<f4", "(3,)"), four)),
            "its header says [3] of float32, 12 bytes, and 16 follow");
  EXPECT_EQ(refusal(npy_bytes(header_of("<f4", "(0,)"), four)),
            "its header says [0] of float32, 0 bytes, and 16 follow");
}

TEST_F(NpyTest, AllocatesNothingForAHugeShape) {
  EXPECT_EQ(refusal(npy_bytes(header_of("<f8", "(1000000000000,)"), raw({1.}))),
            "it is truncated: its header says [1000000000000] of float64, 8000000000000 bytes, "
            "and 8 follow");
  // A header of 4 GB in a file of a few bytes.
  EXPECT_EQ(refusal(std::string("\x93NUMPY\x02\x00\xff\xff\xff\xff", 12) + "{'descr'"),
            "it is truncated: it ends within its header");
  // And in one that is as large, if of holes.
  const std::filesystem::path holes =
      file(std::string("\x93NUMPY\x02\x00\xff\xff\xff\xff", 12) + "{'descr'");
  std::filesystem::resize_file(holes, std::uintmax_t(1) << 33);
  try {
    read(holes);
    ADD_FAILURE() << "read without complaint";
  } catch (const Error& error) {
    EXPECT_EQ(error.what(), holes.string() +
                                ": its header has 4294967295 bytes; at most 1048576 "
                                "are read");
  }
}

TEST_F(NpyTest, NamesWhatIsWrongInAHeader) {
  const std::string start = "{'descr': '<f4', 'fortran_order': False, ", data = raw({1.f});
  EXPECT_EQ(refusal(npy_bytes(start + "'shape': (1,), 'shape': (1,)}", data)),
            "its header names 'shape' twice");
  EXPECT_EQ(refusal(npy_bytes(start + "'descr': '<f4', 'shape': (1,)}", data)),
            "its header names 'descr' twice");
  EXPECT_EQ(refusal(npy_bytes(start + "'shape': (1, -1)}", data)),
            "its header names a negative dimension");
  std::string ones;
  for (int i = 0; i < 64; ++i) ones += "1,";
  EXPECT_EQ(read(file(npy_bytes(start + "'shape': (" + ones + ")}", data))).shape, Shape(64, 1));
  EXPECT_EQ(refusal(npy_bytes(start + "'shape': (" + ones + "1)}", data)),
            "its header names more than 64 dimensions");
  EXPECT_EQ(read(file(npy_bytes(start + "'shape': (1L, 1L)}", data))).shape, (Shape{1, 1}));
}

/// Elements of a byte that become eight: it is theirs in memory that must fit.
TEST_F(NpyTest, RefusesShapesThatOverflowInMemory) {
  EXPECT_EQ(refusal(npy_bytes(header_of("|i1", "(0, 4611686018427387904)"), "")),
            "its shape [0, 4611686018427387904] overflows 64 bits");
}

TEST_F(NpyTest, RefusesShapesThatOverflow) {
  EXPECT_EQ(refusal(npy_bytes(header_of("<f4", "(4294967296, 4294967296)"), "")),
            "its shape [4294967296, 4294967296] overflows 64 bits");
  EXPECT_EQ(refusal(npy_bytes(header_of("<f4", "(4611686018427387904, 0, 8)"), "")),
            "its shape [4611686018427387904, 0, 8] overflows 64 bits");
  EXPECT_EQ(refusal(npy_bytes(header_of("|u1", "(9223372036854775808,)"), "")),
            "its header names a dimension that overflows 64 bits");
  EXPECT_EQ(refusal(npy_bytes(header_of("|u1", "(99999999999999999999999999,)"), "")),
            "its header names a dimension that overflows 64 bits");
}

TEST_F(NpyTest, RefusesMalformedHeaders) {
  for (const char* header : {
           "",
           "{",
           "}",
           "[]",
           "{}",
           "{'descr'}",
           "{'descr': '<f4'",
           "{'descr': <f4}",
           "{'descr': '<f4', 'fortran_order': False}",
           "{'descr': '<f4', 'fortran_order': False, 'shape': 1}",
           "{'descr': '<f4', 'fortran_order': False, 'shape': (1)}",
           "{'descr': '<f4', 'fortran_order': False, 'shape': (-1,)}",
           "{'descr': '<f4', 'fortran_order': False, 'shape': (1,,)}",
           "{'descr': '<f4', 'fortran_order': False, 'shape': (1 2)}",
           "{'descr': '<f4', 'fortran_order': False, 'shape': (1.0,)}",
           "{'descr': '<f4', 'fortran_order': False, 'shape': (1,)} x",
           "{'descr': '<f4', 'fortran_order': maybe, 'shape': (1,)}",
           "{'descr': '<f4', 'fortran_order': False, 'shape': (1,), 'extra': 1}",
           "{'descr': '<f4', 'descr': '<f4', 'fortran_order': False, 'shape': (1,)}",
           "{'descr': '<f4\n', 'fortran_order': False, 'shape': (1,)}",
           "{'descr': '<f4', 'fortran_order': False, 'shape': (1,)",
       })
    EXPECT_NE(refusal(npy_bytes(header, raw({1.f}))), "read without complaint") << header;
}

TEST_F(NpyTest, RefusesBooleansOtherThanZeroAndOne) {
  EXPECT_EQ(refusal(npy_bytes(header_of("|b1", "(2,)"), raw<char>({1, 2}))),
            "it holds a boolean that is neither 0 nor 1");
}

TEST_F(NpyTest, WritesWhatNumPyWrites) {
  Array array = zeros(Type::float32, {2, 3});
  array.values<float>()[4] = 1.f;
  std::ostringstream stream;
  write(stream, array);
  const std::string expected =
      npy_bytes("{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }",
                raw({0.f, 0.f, 0.f, 0.f, 1.f, 0.f}));
  EXPECT_EQ(stream.str(), expected);
  EXPECT_EQ(stream.str().size() % 64, 24u);  // the data begins at a multiple of 64
}

TEST_F(NpyTest, ReadsBackWhatItWrites) {
  for (const Type type : {Type::float32, Type::float64, Type::int64, Type::boolean, Type::uint8})
    for (const Shape& shape :
         {Shape{}, Shape{3}, Shape{2, 3}, Shape{1, 2, 0, 4}, Shape{2, 1, 3, 2}}) {
      Array array = zeros(type, shape);
      for (std::size_t i = 0; i < array.bytes.size(); ++i) array.bytes[i] = std::byte(i % 2);
      std::ostringstream stream;
      write(stream, array);
      const Array back = read(file(stream.str()));
      EXPECT_EQ(back.type, type);
      EXPECT_EQ(back.shape, shape);
      EXPECT_EQ(back.bytes, array.bytes);
    }
}

TEST_F(NpyTest, ShowsElementsOnlyAsWhatTheyAre) {
  const Array array = zeros(Type::float32, {4});
  EXPECT_THROW(array.values<double>(), std::logic_error);
  EXPECT_THROW(array.values<std::uint8_t>(), std::logic_error);
  EXPECT_EQ(zeros(Type::boolean, {4}).values<std::uint8_t>().size(), 4u);
}

}  // namespace
}  // namespace npy
