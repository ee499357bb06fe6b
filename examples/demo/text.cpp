// SPDX-License-Identifier: MIT
#include "demo/text.hpp"

#include <map>

namespace demo {
namespace {

/// float32 with so many dimensions, `tokens` of them in the third.
npy::Array read(const std::filesystem::path& path, std::size_t rank, Index tokens) {
  npy::Array array = npy::read(path);
  if (array.type != npy::Type::float32 || array.shape.size() != rank || array.shape[2] != tokens)
    throw npy::Error(path.string() + ": it does not fit tokens.txt; make_text_tensors writes both");
  return array;
}

}  // namespace

Text::Text(const std::filesystem::path& folder)
    : words_(read_tokens(folder / "tokens.txt")),
      q_(read(folder / "q.npy", 4, size())),
      k_(read(folder / "k.npy", 4, size())),
      v_(read(folder / "v.npy", 4, size())),
      tau_q_(read(folder / "tau_q.npy", 3, size())),
      tau_v_(read(folder / "tau_v.npy", 3, size())) {
  std::map<std::string, Index> last;
  for (Index i = 0; i < size(); ++i) {
    const auto [entry, is_new] = last.try_emplace(words_[std::size_t(i)].text, -1);
    last_mention_.push_back(entry->second);
    entry->second = i;
  }
}

}  // namespace demo
