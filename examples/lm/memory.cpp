// SPDX-License-Identifier: MIT
#include "lm/memory.hpp"

#include <algorithm>
#include <numeric>

namespace lm {
namespace {

heed::KvOptions options_of_layer(const Config& config, const Forgetting& forgetting,
                                 std::int64_t layer) {
  heed::KvOptions o;
  o.protect.clear();
  if (!config.selective) o.select.reset();
  if (!config.is_full(layer)) {
    o.evict = heed::oldest;
    if (config.spans->window) o.budget = *config.spans->window;
    return o;
  }
  if (forgetting.budgets.empty() || !forgetting.budgets[std::size_t(layer)]) return o;
  const heed::Index budget = *forgetting.budgets[std::size_t(layer)];
  o.budget = budget, o.evict = forgetting.evict, o.heads = forgetting.heads;
  if (o.evict.evidence() == heed::Evidence::votes) o.protect = {0};
  if (o.evict.evidence() == heed::Evidence::age) {
    o.protect.resize(std::size_t(std::min<heed::Index>(forgetting.sinks, budget - 1)));
    std::iota(o.protect.begin(), o.protect.end(), heed::Index(0));
  }
  if (o.evict.uses_window()) {
    // The rows it looks at stay. So that it has a choice they are half of the budget at most.
    const heed::EvidenceWindow window = o.evict.window();
    o.evict =
        heed::snap(std::min(window.rows, std::max<heed::Index>(budget / 2, 1)), window.kernel);
  }
  if (forgetting.recent) {
    const heed::Index most = budget - heed::Index(o.protect.size());
    o.recent = std::clamp<heed::Index>(heed::Index(*forgetting.recent * double(budget)), 1, most);
  }
  return o;
}

/// A pool that grows with the text.
heed::KvPool<float> pool_of(const Config& config) {
  return {config.head_dim, config.head_dim, {.page = page_tokens}};
}

}  // namespace

bool Forgetting::forgets() const {
  return std::ranges::any_of(budgets, [](auto b) { return b.has_value(); });
}

std::vector<heed::KvOptions> options_of(const Config& config, const Forgetting& forgetting) {
  if (!forgetting.budgets.empty() && std::int64_t(forgetting.budgets.size()) != config.layers)
    throw ConfigError("there are " + std::to_string(forgetting.budgets.size()) + " budgets and " +
                      std::to_string(config.layers) + " layers");
  const bool selects = forgetting.evict.evidence() == heed::Evidence::votes;
  if (forgetting.forgets() && selects && !config.selective)
    throw ConfigError("the model's attention is " + config.attention_name() +
                      ", which selects nothing: " + forgetting.evict.name() +
                      " has no F to decide by");
  if (forgetting.forgets() && forgetting.heads != heed::KvHeads::together && config.selective)
    throw ConfigError("the model's attention is " + config.attention_name() +
                      ": F is of all heads, which then hold the same tokens");
  std::vector<heed::KvOptions> options;
  for (std::int64_t l = 0; l < config.layers; ++l)
    options.push_back(options_of_layer(config, forgetting, l));
  return options;
}

heed::KvShape shape_of(const Config& config) {
  return {.batch = 1,
          .heads = config.heads,
          .key_heads = config.heads,
          .dim = config.head_dim,
          .value_dim = config.head_dim};
}

Memory::Memory(const Config& config, const Forgetting& forgetting)
    : block_(config.spans ? config.spans->block : std::nullopt), pool_(pool_of(config)) {
  for (const heed::KvOptions& options : options_of(config, forgetting)) {
    clears_.push_back(block_ && !config.is_full(std::int64_t(layers_.size())));
    layers_.emplace_back(shape_of(config), options, pool_);
  }
}

void Memory::clear() {
  for (auto& layer : layers_) layer.clear(0);
  position_ = 0;
  begin_block();
}

/// No row votes against the first token of the text. The first token of a later block is not
/// protected, but a buffer counts positions from 0 in each block. It must be told.
void Memory::begin_block() {
  for (std::size_t l = 0; l < layers_.size(); ++l) {
    if (!clears_[l]) continue;
    heed::KvOptions options = layers_[l].options();
    const bool first = position_ == 0;
    if (options.select && options.select->protect_first != first) {
      options.select->protect_first = first;
      layers_[l] = heed::KvBuffer<float>(layers_[l].shape(), options, pool_);
    } else {
      layers_[l].clear(0);
    }
  }
}

std::int64_t Memory::next_piece(std::int64_t tokens) const {
  return block_ ? std::min(tokens, *block_ - position_ % *block_) : tokens;
}

void Memory::advance(std::int64_t tokens) {
  position_ += tokens;
  if (block_ && position_ % *block_ == 0) begin_block();
}

std::size_t Memory::notes_bytes() const {
  std::size_t sum = 0;
  for (const auto& layer : layers_) sum += layer.sequence(0).bytes();
  return sum;
}

std::vector<std::int64_t> Memory::kept() const {
  std::vector<std::int64_t> counts;
  for (const auto& layer : layers_) counts.push_back(layer.sequence(0).count());
  return counts;
}

}  // namespace lm
