// SPDX-License-Identifier: MIT
/// @file
/// The text and its tensors, as make_text_tensors wrote them.
#pragma once

#include "attend/npy.hpp"
#include "demo/words.hpp"
#include "heed/core/views.hpp"

#include <filesystem>
#include <vector>

namespace demo {

using heed::Index;
using heed::View;

class Text {
 public:
  /// @throws std::runtime_error naming the file that is missing or does not fit.
  explicit Text(const std::filesystem::path& folder);

  const std::vector<Word>& words() const { return words_; }
  Index size() const { return Index(words_.size()); }
  /// The last place before i where the same word stands, or −1.
  Index last_mention(Index i) const { return last_mention_[std::size_t(i)]; }

  View<const float, 4> q() const { return view<4>(q_); }  ///< [1, heads, N, D]
  View<const float, 4> k() const { return view<4>(k_); }
  View<const float, 4> v() const { return view<4>(v_); }
  View<const float, 3> tau_q() const { return view<3>(tau_q_); }
  View<const float, 3> tau_v() const { return view<3>(tau_v_); }

 private:
  template <std::size_t Rank>
  static View<const float, Rank> view(const npy::Array& array) {
    heed::Dims<Rank> dims;
    for (std::size_t d = 0; d < Rank; ++d) dims[d] = Index(array.shape.at(d));
    return {array.values<float>().data(), dims};
  }

  std::vector<Word> words_;
  std::vector<Index> last_mention_;
  npy::Array q_, k_, v_, tau_q_, tau_v_;
};

}  // namespace demo
