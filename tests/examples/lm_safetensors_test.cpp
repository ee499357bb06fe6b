// SPDX-License-Identifier: MIT
#include "examples/limited_files.hpp"
#include "examples/temporary_folder.hpp"
#include "lm/safetensors.hpp"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <functional>
#include <limits>

namespace lm {
namespace {

class SafetensorsTest : public TemporaryFolder {
 protected:
  /// The message of the FileError that reading these bytes throws, without the file's name.
  std::string refusal(const std::string& bytes) const {
    const std::filesystem::path path = file(bytes, "a.safetensors");
    try {
      read_safetensors(path);
    } catch (const FileError& error) {
      const std::string message = error.what(), name = path.string() + ": ";
      EXPECT_EQ(message.substr(0, name.size()), name);
      EXPECT_EQ(message.find('\n'), std::string::npos);
      return message.substr(name.size());
    }
    return "read without complaint";
  }
};

std::string little_endian(std::uint64_t value) {
  std::string text;
  for (int i = 0; i < 8; ++i) text += char(value >> (8 * i) & 0xff);
  return text;
}

/// A file by hand.
std::string file_of(const std::string& header, const std::string& data) {
  return little_endian(header.size()) + header + data;
}

std::string tensor(const std::string& name, const std::string& dtype, const std::string& shape,
                   const std::string& offsets) {
  return "\"" + name + R"(":{"dtype":")" + dtype + R"(","shape":)" + shape + R"(,"data_offsets":)" +
         offsets + "}";
}

const std::string eight(8, '\0');

TEST_F(SafetensorsTest, ReadsTensorsAndMetadataWhateverTheOrder) {
  const std::string header = "{" + tensor("late", "F32", "[1,2]", "[4,12]") + "," +
                             R"("__metadata__":{"made by":"hand"},)" +
                             tensor("early", "BF16", "[2]", "[0,4]") + "}   ";
  const std::string data("\x80\x3f\x00\xc0\0\0\x80\x3f\0\0\0\x40", 12);
  const Safetensors all = read_safetensors(file(file_of(header, data)));
  EXPECT_EQ(all.metadata.at("made by"), "hand");
  ASSERT_EQ(all.tensors.size(), 2u);
  EXPECT_EQ(all.tensors.at("late").shape, (Shape{1, 2}));
  EXPECT_EQ(floats(all.tensors.at("late")), (std::vector<float>{1, 2}));
  EXPECT_EQ(floats(all.tensors.at("early")), (std::vector<float>{1, -2}));
}

TEST_F(SafetensorsTest, ReadsBackWhatItWrites) {
  Safetensors all;
  all.metadata["key"] = "text with \"quotes\" and ü";
  all.tensors["matrix"] = store(std::vector<float>{1, -2, 3.25f, 1e-30f, 5, 6}, {2, 3});
  all.tensors["empty"] = store({}, {0, 7});
  all.tensors["scalar"] = store(std::vector<float>{4}, {}, Storage::f16);
  all.tensors["half"] = store(std::vector<float>{0.5f, -8}, {2}, Storage::bf16);
  write_safetensors(folder_ / "a", all);
  const Safetensors back = read_safetensors(folder_ / "a");
  EXPECT_EQ(back.metadata, all.metadata);
  ASSERT_EQ(back.tensors.size(), all.tensors.size());
  for (const auto& [name, stored] : all.tensors) {
    EXPECT_EQ(back.tensors.at(name).storage, stored.storage) << name;
    EXPECT_EQ(back.tensors.at(name).shape, stored.shape) << name;
    EXPECT_EQ(back.tensors.at(name).bytes, stored.bytes) << name;
  }
}

TEST_F(SafetensorsTest, LeavesNoPartBehindAndReplacesWhatWasThere) {
  Safetensors all;
  all.tensors["x"] = store(std::vector<float>{1}, {1});
  write_safetensors(folder_ / "a", all);
  all.tensors["x"] = store(std::vector<float>{2}, {1});
  write_safetensors(folder_ / "a", all);
  EXPECT_EQ(floats(read_safetensors(folder_ / "a").tensors.at("x")), std::vector<float>{2});
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(folder_), {}), 1);
  EXPECT_THROW(write_safetensors(folder_ / "absent" / "a", all), FileError);
}

TEST_F(SafetensorsTest, LeavesWhatWasThereWhereTheNewFileDoesNotFit) {
  Safetensors all;
  all.tensors["x"] = store(std::vector<float>{1}, {1});
  write_safetensors(folder_ / "a", all);
  all.tensors["x"] = store(std::vector<float>(10'000), {10'000});
  const LimitedFiles limit(20'000);
  EXPECT_THROW(write_safetensors(folder_ / "a", all), FileError);
  EXPECT_EQ(floats(read_safetensors(folder_ / "a").tensors.at("x")), std::vector<float>{1});
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(folder_), {}), 1);
}

TEST_F(SafetensorsTest, HalvesAreTheNearestAndSurviveAsTheyAre) {
  // 1 + 2⁻⁸ lies between the bfloat16s 1 and 1 + 2⁻⁷, 1 + 2⁻¹¹ between the halves 1 and 1 + 2⁻¹⁰;
  // ties go to the even one.
  const float values[] = {1 + 0x1p-8f, 1 + 0x1p-8f + 0x1p-20f, 1 + 0x1p-11f,
                          1 + 0x1p-11f + 0x1p-20f};
  EXPECT_EQ(floats(store(values, {4}, Storage::bf16)), (std::vector<float>{1, 1 + 0x1p-7f, 1, 1}));
  EXPECT_EQ(floats(store(values, {4}, Storage::f16)),
            (std::vector<float>{1 + 0x1p-8f, 1 + 0x1p-8f, 1, 1 + 0x1p-10f}));
  const float tiny = 0x1p-24f;  // the smallest half
  EXPECT_EQ(floats(store({&tiny, 1}, {1}, Storage::f16)), std::vector<float>{tiny});
  const float infinite = std::numeric_limits<float>::infinity();
  EXPECT_EQ(floats(store({&infinite, 1}, {1}, Storage::f16)), std::vector<float>{infinite});
}

TEST_F(SafetensorsTest, StoresJustAsManyValuesAsTheShapeHas) {
  EXPECT_THROW(store(std::vector<float>{1, 2}, {3}), std::logic_error);
  EXPECT_THROW(store(std::vector<float>{1, 2}, {}), std::logic_error);
}

TEST_F(SafetensorsTest, NamesTheFileThatIsMissingOrAFolder) {
  EXPECT_THROW(read_safetensors(folder_ / "absent"), FileError);
  EXPECT_THROW(read_safetensors(folder_), FileError);
}

TEST_F(SafetensorsTest, RefusesEveryTruncationOfAFileAndEveryExcess) {
  const std::string whole = file_of("{" + tensor("x", "F32", "[2]", "[0,8]") + "}", eight);
  for (std::size_t size = 0; size < whole.size(); ++size)
    EXPECT_THROW(read_safetensors(file(whole.substr(0, size))), FileError) << size;
  EXPECT_NO_THROW(read_safetensors(file(whole)));
  EXPECT_EQ(refusal(whole + "x"), "its tensors take 8 bytes, and 9 follow the header");
}

TEST_F(SafetensorsTest, RefusesAHeaderLongerThanTheFile) {
  EXPECT_EQ(refusal("short"), "it is too short to be a safetensors file");
  EXPECT_EQ(refusal(little_endian(3) + "{}"), "its header is to have 3 bytes, and 2 follow");
  EXPECT_EQ(refusal(little_endian(~std::uint64_t(0)) + "{}"),
            "its header is to have 18446744073709551615 bytes, and 2 follow");
  EXPECT_EQ(refusal(little_endian(~std::uint64_t(0) - 7) + "{}"),
            "its header is to have 18446744073709551608 bytes, and 2 follow");
}

TEST_F(SafetensorsTest, RefusesHeadersThatAreNotOfTheFormat) {
  const std::string good = tensor("x", "F32", "[2]", "[0,8]");
  for (const std::string& header : {std::string(""),
                                    std::string("{"),
                                    std::string("}"),
                                    std::string("[]"),
                                    std::string("null"),
                                    " {" + good + "}",
                                    "{" + good,
                                    "{" + good + "} x",
                                    "{" + good + ",}",
                                    std::string(R"({"x":1})"),
                                    std::string(R"({"x":[]})"),
                                    std::string(R"({"x":{}})"),
                                    std::string("{\"x\":{\"dtype\":\"F32\",\"shape\":[2]}}"),
                                    R"({"__metadata__":1,)" + good + "}",
                                    R"({"__metadata__":{"a":1},)" + good + "}",
                                    R"({"__metadata__":{"a":{}},)" + good + "}",
                                    "{" + good.substr(0, good.size() - 1) + R"(,"more":1}})",
                                    "{" + tensor("\xff", "F32", "[2]", "[0,8]") + "}",
                                    "{" + tensor("x", "F32", "[[2]]", "[0,8]") + "}",
                                    "{" + tensor("x", "F32", "2", "[0,8]") + "}",
                                    "{" + tensor("x", "F32", "[2.0]", "[0,8]") + "}",
                                    "{" + tensor("x", "F32", "[true]", "[0,8]") + "}",
                                    "{" + tensor("x", "F32", "[1,1,1,1,1,1,1,1,2]", "[0,8]") + "}",
                                    "{" + tensor("x", "F32", "[2]", "[0]") + "}",
                                    "{" + tensor("x", "F32", "[2]", "[0,8,8]") + "}",
                                    "{" + tensor("x", "F32", "[2]", "{}") + "}"})
    EXPECT_NE(refusal(file_of(header, eight)), "read without complaint") << header;
  EXPECT_EQ(refusal(file_of(std::string(100'000, '['), "")), "its header does not begin with {");
  std::string nested;
  for (int i = 0; i < 100'000; ++i) nested += "{\"a\":";
  EXPECT_EQ(refusal(file_of(nested, "")), "its header is nested too deep");
}

TEST_F(SafetensorsTest, AllowsSpacesBehindTheHeadersJsonAndNothingElse) {
  const std::string json = "{" + tensor("x", "F32", "[2]", "[0,8]") + "}";
  EXPECT_EQ(refusal(file_of(json + "       ", eight)), "read without complaint");
  for (const std::string& end :
       {std::string(1, '\0'), std::string(7, '\0'), std::string(" \0", 2), std::string("\0 ", 2),
        std::string("\0{", 2), std::string("\t"), std::string("\n"), std::string("\r"),
        std::string(" x"), std::string("\0}", 2), std::string("}"), std::string("{}")})
    EXPECT_TRUE(refusal(file_of(json + end, eight)).starts_with("its header ")) << end;
  EXPECT_EQ(refusal(file_of(json + std::string(1, '\0'), eight)), "its header is no JSON");
  EXPECT_EQ(refusal(file_of(json + "\n", eight)),
            "its header has more than spaces behind its JSON");
}

/// A way that looks at all earlier tensors for each, as the JSON parser's callbacks do, takes half
/// an hour for this file, which no test may.
TEST_F(SafetensorsTest, ReadsSeveralHundredThousandTensors) {
  constexpr std::size_t count = 300'000;
  std::string header = "{";
  for (std::size_t i = 0; i < count; ++i)
    header += (i > 0 ? "," : "") + tensor(std::to_string(i), "F32", "[0]", "[0,0]");
  EXPECT_EQ(read_safetensors(file(file_of(header + "}", ""))).tensors.size(), count);
}

TEST_F(SafetensorsTest, RefusesNamesGivenTwice) {
  const std::string x = tensor("x", "F32", "[1]", "[0,4]"), y = tensor("x", "F32", "[1]", "[4,8]");
  EXPECT_EQ(refusal(file_of("{" + x + "," + y + "}", eight)), "its header has 'x' twice");
  const std::string twice = R"({"x":{"dtype":"F32","shape":[2],"shape":[2],"data_offsets":[0,8]}})";
  EXPECT_EQ(refusal(file_of(twice, eight)), "its header has 'shape' twice");
  EXPECT_EQ(refusal(file_of(R"({"__metadata__":{"a":"1","a":"2"}})", "")),
            "its header has 'a' twice");
}

TEST_F(SafetensorsTest, RefusesElementTypesItDoesNotKnow) {
  for (const char* dtype : {"F64", "I64", "BOOL", "f32", ""})
    EXPECT_EQ(refusal(file_of("{" + tensor("x", dtype, "[2]", "[0,8]") + "}", eight)),
              std::string("tensor 'x': its dtype is '") + dtype + "'; F32, F16 and BF16 are read");
}

TEST_F(SafetensorsTest, RefusesOffsetsThatLieAboutTheShape) {
  const auto with = [&](const std::string& shape, const std::string& offsets) {
    return refusal(file_of("{" + tensor("x", "F32", shape, offsets) + "}", eight));
  };
  EXPECT_EQ(with("[2]", "[0,7]"), "tensor 'x': its offsets 0 … 7 do not hold [2] of F32, 8 bytes");
  EXPECT_EQ(with("[2]", "[8,0]"), "tensor 'x': its offsets 8 … 0 do not hold [2] of F32, 8 bytes");
  EXPECT_EQ(with("[3]", "[0,8]"), "tensor 'x': its offsets 0 … 8 do not hold [3] of F32, 12 bytes");
  EXPECT_EQ(with("[3]", "[0,12]"), "its tensors take 12 bytes, and 8 follow the header");
  EXPECT_EQ(with("[2]", "[-8,0]"), "tensor 'x': an offset is no whole number of 63 bits");
  EXPECT_EQ(with("[2]", "[18446744073709551608,0]"),
            "tensor 'x': an offset is no whole number of 63 bits");
  EXPECT_EQ(with("[2]", "[1e0,9]"), "tensor 'x': an offset is no whole number of 63 bits");
}

TEST_F(SafetensorsTest, TakesNoMemoryForAHugeShape) {
  EXPECT_EQ(refusal(file_of("{" + tensor("x", "F32", "[1000000000000]", "[0,4000000000000]") + "}",
                            eight)),
            "its tensors take 4000000000000 bytes, and 8 follow the header");
}

TEST_F(SafetensorsTest, RefusesShapesThatOverflow) {
  const auto with = [&](const std::string& shape) {
    return refusal(file_of("{" + tensor("x", "F32", shape, "[0,8]") + "}", eight));
  };
  EXPECT_EQ(with("[4294967296,4294967296]"),
            "tensor 'x': its shape [4294967296, 4294967296] overflows");
  // 2⁶² + 2 floats are 8 bytes, modulo 2⁶⁴.
  EXPECT_EQ(with("[4611686018427387906]"), "tensor 'x': its shape [4611686018427387906] overflows");
  EXPECT_EQ(with("[4611686018427387904,0,8]"),
            "tensor 'x': its shape [4611686018427387904, 0, 8] overflows");
  EXPECT_EQ(with("[9223372036854775808]"), "tensor 'x': a dimension is no whole number of 63 bits");
  EXPECT_EQ(with("[-2]"), "tensor 'x': a dimension is no whole number of 63 bits");
}

TEST_F(SafetensorsTest, RefusesTensorsThatOverlapOrLeaveAGap) {
  const auto with = [&](const std::string& first, const std::string& second) {
    return refusal(file_of(
        "{" + tensor("x", "F32", "[1]", first) + "," + tensor("y", "F32", "[1]", second) + "}",
        eight));
  };
  EXPECT_EQ(with("[0,4]", "[4,8]"), "read without complaint");
  EXPECT_EQ(with("[0,4]", "[0,4]"), "tensor 'y' begins at byte 0, the one before it ends at 4");
  EXPECT_EQ(with("[0,4]", "[2,6]"), "tensor 'y' begins at byte 2, the one before it ends at 4");
  EXPECT_EQ(with("[4,8]", "[0,4]"), "read without complaint");
  EXPECT_EQ(with("[4,8]", "[8,12]"), "tensor 'x' begins at byte 4, the one before it ends at 0");
  EXPECT_EQ(refusal(file_of("{" + tensor("x", "F32", "[1]", "[0,4]") + "," +
                                tensor("empty", "F32", "[0]", "[2,2]") + "}",
                            eight.substr(4))),
            "tensor 'empty' begins at byte 2, the one before it ends at 4");
}

TEST_F(SafetensorsTest, ShowsNoBytesThatMightConfuseATerminal) {
  EXPECT_EQ(refusal(file_of("{" + tensor("\\u001b[2J\\n", "F32", "[2]", "[0,7]") + "}", eight)),
            "tensor '?[2J?': its offsets 0 … 7 do not hold [2] of F32, 8 bytes");
}

/// Every byte of a good file put to several others: read or refused, never a crash, which the
/// sanitizers watch for.
TEST_F(SafetensorsTest, SurvivesEveryByteChanged) {
  const std::string whole = file_of(
      "{" + tensor("x", "F32", "[1]", "[0,4]") + "," + tensor("y", "BF16", "[2]", "[4,8]") + "}",
      eight);
  for (std::size_t i = 0; i < whole.size(); ++i)
    for (const char byte : {'\0', '\xff', '"', '{', '9', '-', ','}) {
      std::string changed = whole;
      changed[i] = byte;
      const std::filesystem::path path = file(changed);
      try {
        for (const auto& [name, stored] : read_safetensors(path).tensors)
          EXPECT_EQ(floats(stored).size(), stored.bytes.size() / size_of(stored.storage));
      } catch (const FileError&) {
      }
    }
}

}  // namespace
}  // namespace lm
