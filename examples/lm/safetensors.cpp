// SPDX-License-Identifier: MIT
#include "lm/safetensors.hpp"

#include "lm/json.hpp"
#include "programs/output_files.hpp"

#include <Eigen/Core>

#include <algorithm>
#include <array>
#include <bit>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <limits>
#include <system_error>

namespace lm {
namespace {

static_assert(std::endian::native == std::endian::little, "the files are little-endian");

constexpr std::size_t length_bytes = 8;
/// The format's own limit.
constexpr std::uint64_t longest_header = 100'000'000;
constexpr std::string_view metadata_key = "__metadata__";

struct StorageRow {
  Storage storage;
  const char* name;
  std::size_t size;
};
constexpr std::array storages{StorageRow{Storage::f32, "F32", 4},
                              StorageRow{Storage::f16, "F16", 2},
                              StorageRow{Storage::bf16, "BF16", 2}};

const StorageRow& row_of(Storage storage) {
  return *std::ranges::find(storages, storage, &StorageRow::storage);
}

/// Bytes of a tensor.
std::uint64_t bytes_of(Storage storage, const Shape& shape) {
  constexpr auto most = std::uint64_t(std::numeric_limits<std::int64_t>::max());
  std::uint64_t bytes = size_of(storage);
  bool empty = false;
  for (const std::int64_t dim : shape) {
    empty |= dim == 0;
    const auto factor = std::uint64_t(std::max<std::int64_t>(dim, 1));
    if (bytes > most / factor) throw FileError("its shape " + to_string(shape) + " overflows");
    bytes *= factor;
  }
  return empty ? 0 : bytes;
}

/// JSON as the format has it, objects and lists two deep within the first, and behind it spaces,
/// which let the data begin where the writer likes.
Json parse_header(std::string_view text) {
  if (text.empty() || text.front() != '{') throw FileError("its header does not begin with {");
  Json header;
  try {
    header = parse_json(text, 3);
  } catch (const JsonError& error) {
    throw FileError(std::string("its header ") + error.what());
  }
  if (text[text.find_last_not_of(' ')] != '}')
    throw FileError("its header has more than spaces behind its JSON");
  return header;
}

/// Where a tensor lies, in bytes from the end of the header.
struct Extent {
  std::uint64_t first = 0, last = 0;
};

/// A number from 0 to 2⁶³ − 1.
std::int64_t natural(const Json& json, const char* what) {
  if (!json.is_number_unsigned() ||
      json.get<std::uint64_t>() > std::uint64_t(std::numeric_limits<std::int64_t>::max()))
    throw FileError(std::string(what) + " is no whole number of 63 bits");
  return json.get<std::int64_t>();
}

StoredTensor described_tensor(const Json& json, Extent& extent) {
  if (!json.is_object() || json.size() != 3 || !json.contains("dtype") || !json.contains("shape") ||
      !json.contains("data_offsets"))
    throw FileError("dtype, shape and data_offsets are wanted, and nothing else");
  StoredTensor tensor;
  const Json &dtype = json["dtype"], &shape = json["shape"], &offsets = json["data_offsets"];
  const std::string name = dtype.is_string() ? dtype.get<std::string>() : "";
  const auto row =
      std::ranges::find_if(storages, [&](const StorageRow& r) { return r.name == name; });
  if (row == storages.end())
    throw FileError("its dtype is " + shown(name) + "; F32, F16 and BF16 are read");
  tensor.storage = row->storage;
  if (!shape.is_array() || shape.size() > 8) throw FileError("its shape is no list of up to 8");
  for (const Json& dim : shape) tensor.shape.push_back(natural(dim, "a dimension"));
  if (!offsets.is_array() || offsets.size() != 2) throw FileError("its data_offsets are no pair");
  extent = {std::uint64_t(natural(offsets[0], "an offset")),
            std::uint64_t(natural(offsets[1], "an offset"))};
  const std::uint64_t bytes = bytes_of(tensor.storage, tensor.shape);
  if (extent.last < extent.first || extent.last - extent.first != bytes)
    throw FileError("its offsets " + std::to_string(extent.first) + " … " +
                    std::to_string(extent.last) + " do not hold " + to_string(tensor.shape) +
                    " of " + name + ", " + std::to_string(bytes) + " bytes");
  return tensor;
}

Safetensors read_unnamed(const std::filesystem::path& path) {
  std::error_code error;
  const auto status = std::filesystem::status(path, error);
  if (!std::filesystem::exists(status)) throw FileError("no such file");
  if (!std::filesystem::is_regular_file(status)) throw FileError("it is not a regular file");
  const std::uint64_t size = std::filesystem::file_size(path, error);
  if (error) throw FileError(error.message());
  std::ifstream stream(path, std::ios::binary);
  if (!stream) throw FileError(std::generic_category().message(errno));
  const auto take = [&](void* into, std::uint64_t count) {
    stream.read(static_cast<char*>(into), std::streamsize(count));
    if (!stream) throw FileError("it cannot be read to its end");
  };

  std::array<unsigned char, length_bytes> length{};
  if (size < length.size()) throw FileError("it is too short to be a safetensors file");
  take(length.data(), length.size());
  std::uint64_t header_size = 0;
  for (std::size_t i = length.size(); i-- > 0;) header_size = header_size << 8 | length[i];
  if (header_size > size - length_bytes)
    throw FileError("its header is to have " + std::to_string(header_size) + " bytes, and " +
                    std::to_string(size - length_bytes) + " follow");
  if (header_size > longest_header)
    throw FileError("its header is to have " + std::to_string(header_size) + " bytes, at most " +
                    std::to_string(longest_header) + " are allowed");
  std::string text(header_size, '\0');
  take(text.data(), text.size());
  const Json header = parse_header(text);

  Safetensors file;
  struct Placed {
    Extent extent;
    const std::string* name;
  };
  std::vector<Placed> order;
  for (const auto& [name, json] : header.items()) {
    if (name == metadata_key) {
      if (!json.is_object()) throw FileError("its __metadata__ is no object");
      for (const auto& [key, value] : json.items()) {
        if (!value.is_string())
          throw FileError("its __metadata__ has a " + shown(key) + " that is no text");
        file.metadata[key] = value.get<std::string>();
      }
      continue;
    }
    Extent extent;
    try {
      const auto place = file.tensors.emplace(name, described_tensor(json, extent)).first;
      order.push_back({extent, &place->first});
    } catch (const FileError& reason) {
      throw FileError("tensor " + shown(name) + ": " + reason.what());
    }
  }

  // One behind the other they leave no room for an overlap or a gap; empty ones come before the
  // tensor that begins where they do.
  std::ranges::sort(order, [](const Placed& a, const Placed& b) {
    return std::pair(a.extent.first, a.extent.last) < std::pair(b.extent.first, b.extent.last);
  });
  const std::uint64_t data_size = size - length_bytes - header_size;
  std::uint64_t end = 0;
  for (const Placed& placed : order) {
    if (placed.extent.first != end)
      throw FileError("tensor " + shown(*placed.name) + " begins at byte " +
                      std::to_string(placed.extent.first) + ", the one before it ends at " +
                      std::to_string(end));
    end = placed.extent.last;
  }
  if (end != data_size)
    throw FileError("its tensors take " + std::to_string(end) + " bytes, and " +
                    std::to_string(data_size) + " follow the header");
  for (const Placed& placed : order) {
    StoredTensor& tensor = file.tensors.at(*placed.name);
    tensor.bytes.resize(placed.extent.last - placed.extent.first);
    take(tensor.bytes.data(), tensor.bytes.size());
  }
  return file;
}

template <class Half>
StoredTensor halves(std::span<const float> values, StoredTensor tensor) {
  for (std::size_t i = 0; i < values.size(); ++i) {
    const Half half(values[i]);
    std::memcpy(tensor.bytes.data() + i * sizeof half, &half, sizeof half);
  }
  return tensor;
}

template <class Number>
std::vector<float> floats_of(const StoredTensor& tensor) {
  std::vector<float> values(tensor.bytes.size() / sizeof(Number));
  for (std::size_t i = 0; i < values.size(); ++i) {
    Number number;
    std::memcpy(static_cast<void*>(&number), tensor.bytes.data() + i * sizeof number,
                sizeof number);
    values[i] = static_cast<float>(number);
  }
  return values;
}

}  // namespace

std::size_t size_of(Storage storage) {
  return row_of(storage).size;
}
std::string name_of(Storage storage) {
  return row_of(storage).name;
}

std::string to_string(const Shape& shape) {
  std::string text = "[";
  for (const std::int64_t dim : shape) text += (text.size() > 1 ? ", " : "") + std::to_string(dim);
  return text + "]";
}

StoredTensor store(std::span<const float> values, Shape shape, Storage storage) {
  StoredTensor tensor{storage, std::move(shape), {}};
  const std::uint64_t bytes = bytes_of(storage, tensor.shape);
  if (bytes != values.size() * size_of(storage))
    throw std::logic_error(std::to_string(values.size()) + " values for a tensor " +
                           to_string(tensor.shape));
  tensor.bytes.resize(bytes);
  if (storage == Storage::f16) return halves<Eigen::half>(values, std::move(tensor));
  if (storage == Storage::bf16) return halves<Eigen::bfloat16>(values, std::move(tensor));
  std::ranges::copy(std::as_bytes(values), tensor.bytes.begin());
  return tensor;
}

std::vector<float> floats(const StoredTensor& tensor) {
  switch (tensor.storage) {
    case Storage::f16:
      return floats_of<Eigen::half>(tensor);
    case Storage::bf16:
      return floats_of<Eigen::bfloat16>(tensor);
    case Storage::f32:
      break;
  }
  return floats_of<float>(tensor);
}

Safetensors read_safetensors(const std::filesystem::path& path) {
  try {
    return read_unnamed(path);
  } catch (const FileError& error) {
    throw FileError(path.string() + ": " + error.what());
  }
}

void write_safetensors(const std::filesystem::path& path, const Safetensors& file) {
  Json header = Json::object();
  if (!file.metadata.empty()) header[std::string(metadata_key)] = file.metadata;
  std::uint64_t end = 0;
  for (const auto& [name, tensor] : file.tensors) {
    const std::uint64_t first = end;
    end += tensor.bytes.size();
    header[name] = {{"dtype", name_of(tensor.storage)},
                    {"shape", tensor.shape},
                    {"data_offsets", {first, end}}};
  }
  std::string text = header.dump();
  text.append((8 - text.size() % 8) % 8, ' ');  // the format lets the data begin aligned so

  programs::write_whole(path, [&](std::ostream& stream) {
    for (std::size_t i = 0; i < length_bytes; ++i) stream.put(char(text.size() >> (8 * i) & 0xff));
    stream << text;
    for (const auto& [name, tensor] : file.tensors)
      stream.write(reinterpret_cast<const char*>(tensor.bytes.data()),
                   std::streamsize(tensor.bytes.size()));
  });
}

}  // namespace lm
