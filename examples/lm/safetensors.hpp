// SPDX-License-Identifier: MIT
/// @file
/// Tensors by name in a file, in the format safetensors
/// (https://huggingface.co/docs/safetensors):
///
///     8 bytes   n, the size of the header, little-endian
///     n bytes   JSON: {"name": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}, …,
///                      "__metadata__": {"key": "text", …}}
///     the rest  the tensors, little-endian, row-major, where their offsets say
///
/// Of the element types, F32, F16 and BF16. The tensors fill the rest of the file without a gap, as
/// the format demands.
#pragma once

#include "programs/file_error.hpp"

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <span>
#include <string>
#include <vector>

namespace lm {

using programs::FileError;

/// How a number is stored.
enum class Storage { f32, f16, bf16 };

std::size_t size_of(Storage storage);  ///< Bytes of a number.
std::string name_of(Storage storage);  ///< "F32", as files say it.

using Shape = std::vector<std::int64_t>;
std::string to_string(const Shape& shape);  ///< "[2, 3]".

/// A tensor as it is stored.
struct StoredTensor {
  Storage storage = Storage::f32;
  Shape shape;
  std::vector<std::byte> bytes;
};

/// What a file holds.
struct Safetensors {
  std::map<std::string, StoredTensor> tensors;
  std::map<std::string, std::string> metadata;
};

/// Rounds to the nearest.
/// @throws std::logic_error if there are more or fewer values than the shape says.
StoredTensor store(std::span<const float> values, Shape shape, Storage storage = Storage::f32);
std::vector<float> floats(const StoredTensor& tensor);

/// Reads a whole file.
///
/// @throws FileError if it cannot be read or breaks a rule of the format: sizes and offsets that
///     overflow or lie outside, tensors that overlap or leave a gap, names given twice, keys and
///     element types that are not known, anything but spaces behind the header's JSON. Nothing is
///     read past its end, no memory is taken that the file's size does not warrant, and the time
///     for n tensors grows like n log n.
Safetensors read_safetensors(const std::filesystem::path& path);

/// Writes beside `path` and moves the whole into its place, so that what was there stays until
/// then.
/// @throws FileError
void write_safetensors(const std::filesystem::path& path, const Safetensors& file);

}  // namespace lm
