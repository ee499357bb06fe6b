// SPDX-License-Identifier: MIT
#include "lm/shared_memory.hpp"

#include "heed/score/standard.hpp"

#include <algorithm>

namespace lm {
namespace {

heed::KvPool<float> pool_of(const Config& config, std::size_t bytes) {
  try {
    return {config.head_dim, config.head_dim, {.page = page_tokens, .bytes = bytes}};
  } catch (const heed::ValueError& error) {
    throw ConfigError(error.what());
  }
}

std::vector<heed::KvOptions> layers_of(const Config& config, const Forgetting& forgetting) {
  if (config.temperatures || (config.spans && config.spans->block))
    throw ConfigError("the model's attention is " + config.attention_name() +
                      ": several texts at once are for models without temperatures and blocks");
  return options_of(config, forgetting);
}

/// [1, H, rows, D] as [rows, H, D], the first so many rows.
heed::View<float, 3> packed(const heed::View<float, 4>& x, std::int64_t rows) {
  return {x.data(), {rows, x.dim(1), x.dim(3)}, {x.stride(2), x.stride(1), x.stride(3)}};
}

}  // namespace

SharedMemory::SharedMemory(const Config& config, const Forgetting& forgetting, std::size_t bytes)
    : layers_(shape_of(config), layers_of(config, forgetting), pool_of(config, bytes)) {}

SharedStep::SharedStep(SharedMemory& memory, std::span<const Piece> pieces) : memory_(memory) {
  for (const Piece& piece : pieces) {
    texts_.push_back(piece.memory);
    starts_.push_back(starts_.back() + std::int64_t(piece.tokens.size()));
  }
}

void SharedStep::attend(std::int64_t layer, const Heads& heads, const heed::View<float, 4>& out) {
  while (!take(layer, heads, out)) {
    texts_.back()->close();
    texts_.pop_back(), starts_.pop_back();
  }
  for (std::int64_t row = rows(); row < out.dim(2); ++row)
    for (std::int64_t head = 0; head < out.dim(1); ++head)
      std::fill_n(out.row(0, head, row), out.dim(3), 0.f);
}

bool SharedStep::take(std::int64_t layer, const Heads& heads, const heed::View<float, 4>& out) {
  std::vector<heed::KvSequence<float>*> sequences;
  for (TextMemory* text : texts_) sequences.push_back(&(*text)[layer]);
  try {
    memory_.layers_[layer].step_packed(sequences, {starts_.data(), {std::int64_t(starts_.size())}},
                                       packed(heads.q, rows()), packed(heads.k, rows()),
                                       packed(heads.v, rows()), heed::standard, packed(out, rows()),
                                       {.workspace = &memory_.workspace_});
    return true;
  } catch (const heed::OutOfPages&) {
    if (texts_.size() > 1) return false;
    texts_.front()->close();
    throw;
  }
}

}  // namespace lm
