// SPDX-License-Identifier: MIT
/// @file
/// A distributed call as one rank sees it, before any message.
#pragma once

#include "heed/distributed/agreement.hpp"
#include "heed/distributed/part_stages.hpp"
#include "heed/distributed/sharding.hpp"
#include "heed/engine/options.hpp"
#include "heed/score/position_temperature.hpp"
#include "heed/score/standard.hpp"

namespace heed::inline HEED_ABI::distributed::detail {

/// Numbers of a stage that must be the same on all ranks and that nothing else shows.
template <class S>
void add_numbers(Digest& digest, const S& stage) {
  if constexpr (std::is_same_v<S, Scaled>) digest.add(stage.factor);
  if constexpr (std::is_same_v<S, PositionTemperature>) digest.add(stage.gain);
  if constexpr (std::is_same_v<S, StaircaseTemperature>)
    digest.add(stage.beta), digest.add(std::uint64_t(stage.step));
}
template <class T>
void add_numbers(Digest& digest, const ScalableSoftmax<T>& stage) {
  for (Index h = 0; h < stage.scale.dim(0); ++h) digest.add(double(stage.scale(h)));
}

template <class S>
void add_type(Digest& digest) {
  digest.add_text(__PRETTY_FUNCTION__);
}

/// Binds stages to a problem and calls f(bound stages).
template <class T, Stage S, class F>
void with_bound(const S& stages, const Problem& problem, F&& f) {
  Workspace workspace;
  auto of_call = heed::detail::lay_out(
      workspace, [&](Arena& arena) { return bound<T>(stages, problem, arena); });
  f(of_call);
}

/// The rank's rows of q, k and v, the whole sequence as the masks see it, and the keys that each
/// row sees.
template <class T, Stage V>
class RankCall {
 public:
  /// @throws ShapeError, ValueError if this rank cannot begin. The tensors of the variant are added
  /// to those of the call.
  RankCall(const View<const T, 4>& q, const View<const T, 4>& k, const View<const T, 4>& v,
           const V& variant, const Sharding& sharding, int rank, int size, bool backward,
           heed::detail::CallTensors& tensors)
      : q_(q), k_(k), v_(v), variant_(variant), sharding_(sharding), rank_(rank) {
    if (sharding.ranks() != size)
      throw ValueError("the sharding is for ", sharding.ranks(), " ranks, the group has ", size);
    const Shape own = common_shape(q, k, v);
    const Index rows = sharding.rows(rank);
    if (own.queries != rows || own.keys != rows)
      throw ShapeError("q is ", q.dims(), ", k is ", k.dims(), ": the sharding gives this rank ",
                       rows, " tokens, and it holds the queries and the keys of each");
    expect_composable<T>(variant);
    selection_ = Selection<T>::of(variant);
    selection_.check();
    for (const Chunk& chunk : sharding.chunks())
      if (chunk.rank == rank && chunk.rows() > 0) own_.push_back(chunk);

    Shape all = own;
    all.queries = all.keys = sharding.tokens();
    whole_ = Problem(all), rows_ = Problem(own);
    whole_.backward = rows_.backward = backward;
    hook::place(variant, whole_);
    for (Index b = 0; b < own.batch; ++b)
      if (whole_.first_position(b) != 0)
        throw ValueError("distributed: row 0 is put at position ", whole_.first_position(b),
                         ", but the sharding says where rows sit");
    check_stages(tensors);
    see();
  }

  const Shape& shape() const { return rows_; }
  const Problem& rows() const { return rows_; }
  const Problem& whole() const { return whole_; }
  const V& variant() const { return variant_; }
  const Sharding& sharding() const { return sharding_; }
  int rank() const { return rank_; }
  /// The chunks of this rank that are not empty, in order.
  const Vector<Chunk>& chunks() const { return own_; }
  const Selection<T>& selection() const { return selection_; }
  const View<const T, 4>& q() const { return q_; }
  const View<const T, 4>& k() const { return k_; }
  const View<const T, 4>& v() const { return v_; }
  /// Does every row see its past unmasked, at no larger scores than the products?
  bool keeps_past() const { return keeps_past_; }

  Row row(Index b, Index h, const Chunk& chunk, Index i) const {
    const Index position = chunk.first + i;
    return {b, h, chunk.row + i, position, whole_.first_key(b, position)};
  }
  /// What the rows of a chunk see, from head `head` on; the keys are still to be set.
  SeenKeys seen(const Chunk& chunk, Index head) const {
    SeenKeys seen;
    seen.ranges = {seen_.data(), {rows_.batch, rows_.heads, rows_.queries}};
    seen.row = chunk.row, seen.head = head, seen.keeps_past = keeps_past_;
    return seen;
  }
  /// The positions that any row of a chunk sees.
  KeyRange seen_by(const Chunk& chunk) const {
    KeyRange all{whole_.keys, 0};
    const SeenKeys table = seen(chunk, 0);
    for (Index b = 0; b < rows_.batch; ++b)
      for (Index h = 0; h < rows_.heads; ++h)
        for (Index i = 0; i < chunk.rows(); ++i)
          if (const KeyRange& r = table.ranges(b, h, chunk.row + i); r.first < r.last)
            all = {std::min(all.first, r.first), std::max(all.last, r.last)};
    return all;
  }

  CallRecord record(double negligible, bool has_grad_lse) const {
    CallRecord record;
    const auto& select = selection_.options;
    const auto& tensors = selection_.tensors;
    Digest type, chunks, selects, stages, options;
    add_type<V>(type);
    for (const Chunk& chunk : sharding_.chunks())
      chunks.add(std::uint64_t(chunk.last)), chunks.add(std::uint64_t(chunk.rank));
    for (const Index x :
         {Index(selection_.active), select.head, Index(select.relu), Index(select.protect_first),
          Index(select.forbid_self), Index(select.shift)})
      selects.add(std::uint64_t(x));
    selects.add(tensors.memory_tau);
    add_stage_numbers(stages);
    options.add(negligible);
    record.field = {Index(sizeof(T)),
                    rows_.backward ? Index(2) : Index(1),
                    rows_.batch,
                    rows_.heads,
                    rows_.key_heads,
                    rows_.dim,
                    rows_.value_dim,
                    whole_.keys,
                    chunks.value(),
                    type.value(),
                    mask_digest_.value(),
                    stages.value(),
                    selects.value(),
                    Index(has_grad_lse) + 2 * Index(bool(tensors.memory)) +
                        4 * Index(bool(tensors.grad_memory)),
                    options.value()};
    return record;
  }

 private:
  /// Stages with a number for each token are given those of this rank; the others see all tokens.
  void check_stages(heed::detail::CallTensors& tensors) {
    rows_.tensors = whole_.tensors = &tensors;
    hook::each_stage(variant_, [&]<class S>(const S& stage) {
      if constexpr (hook::Check::defined_by<S>)
        stage.check(StageRole<T, S>::rescales || StageRole<T, S>::scans ? rows_ : whole_);
    });
    rows_.tensors = whole_.tensors = nullptr;
  }

  /// Asks the masks which keys each row of this rank sees, and digests what the first head of every
  /// row sees, the same on all ranks.
  void see() {
    with_bound<T>(chosen<ThatScore<T>>(variant_), rows_,
                  [&](const auto& scores) { keeps_past_ = hook::keeps_causal_past(scores); });
    with_bound<T>(chosen<ThatMask<T>>(variant_), whole_, [&](const auto& masks) {
      keeps_past_ = keeps_past_ && hook::keeps_causal_past(masks);
      const auto range = [&](Index b, Index h, Index position) {
        const KeyRange seen =
            hook::keys(masks, KeyRange{0, whole_.keys}, whole_.row(b, h, position));
        return seen.first < seen.last ? seen : KeyRange{0, 0};
      };
      seen_.resize(std::size_t(rows_.batch * rows_.heads * rows_.queries));
      for (Index b = 0; b < rows_.batch; ++b) {
        for (Index h = 0; h < rows_.heads; ++h)
          for (const Chunk& chunk : own_)
            for (Index i = 0; i < chunk.rows(); ++i)
              seen_[std::size_t((b * rows_.heads + h) * rows_.queries + chunk.row + i)] =
                  range(b, h, chunk.first + i);
        if (rows_.heads == 0) continue;
        for (Index position = 0; position < whole_.keys; ++position) {
          const KeyRange seen = range(b, 0, position);
          mask_digest_.add(std::uint64_t(seen.first)), mask_digest_.add(std::uint64_t(seen.last));
        }
      }
    });
  }

  /// The stages that are switched on, their numbers, and what they make of one score.
  void add_stage_numbers(Digest& digest) const {
    hook::each_stage(variant_, [&]<class S>(const S& stage) {
      add_type<S>(digest);
      add_numbers(digest, stage);
    });
    if (rows_.batch == 0) return;
    with_bound<T>(chosen<ThatHaveSinks<T>>(variant_), rows_, [&](const auto& sinks) {
      for (Index h = 0; h < rows_.heads; ++h)
        digest.add(double(hook::sink(sinks, masked<T>, 0, h)));
    });
    with_bound<T>(chosen<ThatScore<T>>(variant_), rows_, [&](const auto& scores) {
      for (Index h = 0; h < rows_.heads; ++h) {
        const Lanes<T> at{.batch = 0,
                          .head = h,
                          .row = 0,
                          .position = 7,
                          .key = 3,
                          .keys = 1,
                          .block_row = 0,
                          .block_key = 0};
        T score[std::size_t(simd::width<T>)];
        hook::score(scores, Batch<T>(T(2.5)), at).store_unaligned(score);
        digest.add(double(score[0]));
      }
    });
  }

  View<const T, 4> q_, k_, v_;
  const V& variant_;
  const Sharding& sharding_;
  int rank_;
  Vector<Chunk> own_;
  Problem rows_;   ///< the rows of this rank, and as many keys
  Problem whole_;  ///< all tokens
  Selection<T> selection_;
  Vector<KeyRange> seen_;
  Digest mask_digest_;
  bool keeps_past_ = false;
};

}  // namespace heed::inline HEED_ABI::distributed::detail
