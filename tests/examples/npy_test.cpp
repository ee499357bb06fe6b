// SPDX-License-Identifier: MIT
#include "attend/npy.hpp"

#include "examples/temporary_folder.hpp"

#include <gtest/gtest.h>

#include <array>
#include <cstring>
#include <sstream>
#include <string>

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

TEST_F(NpyTest, ReadsEachElementType) {
  const Array f4 = read(file(npy_bytes(header_of("<f4", "(1, 3)"), raw({1.5f, -2.f, 0.25f}))));
  EXPECT_EQ(f4.type, Type::float32);
  EXPECT_EQ(f4.shape, (Shape{1, 3}));
  EXPECT_EQ(as_vector<float>(f4), (std::vector{1.5f, -2.f, 0.25f}));

  const Array f8 = read(file(npy_bytes(header_of("<f8", "(2,)"), raw({1e300, -0.1}))));
  EXPECT_EQ(as_vector<double>(f8), (std::vector{1e300, -0.1}));

  const Array i8 =
      read(file(npy_bytes(header_of("<i8", "(2,)"), raw<std::int64_t>({-5, 1L << 40}))));
  EXPECT_EQ(as_vector<std::int64_t>(i8), (std::vector<std::int64_t>{-5, 1L << 40}));

  const Array b1 = read(file(npy_bytes(header_of("|b1", "(2, 1)"), raw<char>({1, 0}))));
  EXPECT_EQ(as_vector<std::uint8_t>(b1), (std::vector<std::uint8_t>{1, 0}));

  const Array u1 = read(file(npy_bytes(header_of("|u1", "(2,)"), raw<char>({7, char(200)}))));
  EXPECT_EQ(as_vector<std::uint8_t>(u1), (std::vector<std::uint8_t>{7, 200}));
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

TEST_F(NpyTest, RefusesFortranOrderAndBigEndian) {
  EXPECT_EQ(refusal(npy_bytes("{'descr': '<f4', 'fortran_order': True, 'shape': (2, 2), }",
                              raw({1.f, 2.f, 3.f, 4.f}))),
            "it is in Fortran order; C order is read (numpy.ascontiguousarray)");
  EXPECT_EQ(refusal(npy_bytes(header_of(">f4", "(1,)"), "\1\2\3\4")), "it is big-endian ('>f4')");
  EXPECT_EQ(refusal(npy_bytes(header_of(">i8", "(1,)"), "\1\2\3\4\5\6\7\10")),
            "it is big-endian ('>i8')");
}

TEST_F(NpyTest, RefusesOtherElementTypes) {
  for (const char* descr : {"<f2", "<i4", "|i1", "<c8", "<U3", "|O", "|S1", "f4", ""})
    EXPECT_EQ(refusal(npy_bytes(header_of(descr, "(1,)"), std::string(16, '\0'))),
              std::string("its element type is '") + descr +
                  "'; float32, float64, int64, bool and uint8 are read");
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
