// SPDX-License-Identifier: MIT
/// @file
/// Texts of a model in files: save() and load().
///
/// | offset | type        |                                                              |
/// |--------|-------------|--------------------------------------------------------------|
/// |      0 | 8 letters   | "heed KVM"                                                   |
/// |      8 | u32         | version of the format, 1                                     |
/// |     12 | i64         | number of layers                                             |
/// |     20 | u64         | FNV-1a (64 bits) of all bytes before                         |
/// |     28 |             | each layer's sequence, in the format of kv_file.hpp          |
#pragma once

#include "heed/kv/kv_file.hpp"
#include "heed/kv/kv_model.hpp"

namespace heed::inline HEED_ABI {
namespace detail {

/// What is in front of the layers.
struct KvModelFileHeader {
  static constexpr char right_magic[9] = "heed KVM";
  char magic[8] = {};
  std::uint32_t version = 1;
  std::int64_t layers = 0;

  template <class File>
  void begin(File& file) {
    file.text(magic), file.number(version);
  }
  template <class File>
  void rest(File& file) {
    file.number(layers);
    file.sum();
  }
};

}  // namespace detail

/// Writes a text's sequences of all layers to a stream; see save() of a KvSequence.
/// @throws ValueError if it is closed: nothing is written then; FileError if the stream does not
///     take all.
template <class T, StorageOf<T> S>
void save(std::ostream& to, const KvModelSequence<T, S>& sequence) {
  if (!sequence.is_open()) throw ValueError("the sequence is closed");
  detail::KvModelFileHeader header;
  std::memcpy(header.magic, header.right_magic, sizeof header.magic);
  header.layers = sequence.size();
  detail::FileWriter file(to);
  header.begin(file), header.rest(file);
  for (Index l = 0; l < sequence.size(); ++l) save(to, sequence[l]);
}

/// Reads a text that save() wrote, to continue it in the caches of this model; see load() of a
/// KvSequence.
/// @throws FileError, ShapeError, ValueError, OutOfPages, std::bad_alloc as there, and FileError if
///     the numbers of layers differ or its layers are at different positions. No page is held then.
template <class T, StorageOf<T> S>
KvModelSequence<T, S> load(std::istream& from, const KvModel<T, S>& model) {
  detail::KvModelFileHeader header;
  detail::FileReader file(from);
  header.begin(file);
  if (std::memcmp(header.magic, header.right_magic, sizeof header.magic) != 0)
    throw FileError("the file is none of a KvModelSequence: it does not begin with \"heed KVM\"");
  if (header.version != 1)
    throw FileError("the file is of version ", header.version, ", this library reads version 1");
  header.rest(file);
  if (header.layers != model.size())
    throw FileError("the file has ", header.layers, " layers, the model has ", model.size());
  KvModelSequence<T, S> sequence = model.open();
  for (Index l = 0; l < model.size(); ++l) {
    sequence[l] = load(from, model[l]);
    if (sequence[l].next() != sequence.next())
      throw FileError("layer ", l, " of the file is at position ", sequence[l].next(),
                      ", layer 0 at ", sequence.next());
  }
  return sequence;
}

}  // namespace heed::inline HEED_ABI
