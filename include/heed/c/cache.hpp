// SPDX-License-Identifier: MIT
/// @file
/// Caches, sequences, marks and pools of the C interface.
#pragma once

#include "heed/c/variant.hpp"
#include "heed/kv/kv_file.hpp"

namespace heed::inline HEED_ABI::c_interface {

/// At most this many sequences in a step; more can only be a mistake.
inline constexpr std::int64_t most_sequences = std::int64_t(1) << 24;

template <class T, class S>
constexpr c::Types types() {
  return {type_of<T>, type_of<S>};
}
inline bool same(const c::Types& a, const c::Types& b) {
  return a.type == b.type && a.storage == b.storage;
}
/// @throws Error if the object is of other types.
inline void expect_types(const char* what, const c::Types& is, const c::Types& wanted) {
  if (!same(is, wanted))
    throw Error(HEED_INVALID_TYPE, what, " computes in ", name_of(is.type), " and stores ",
                name_of(is.storage), ", the cache ", name_of(wanted.type), " and ",
                name_of(wanted.storage));
}

/// What the objects have in common.
template <class Object, class Interface, class T, class S>
class Owned : public Interface {
 public:
  void destroy() noexcept final { delete static_cast<Object*>(this); }
  c::Types types() const final { return c_interface::types<T, S>(); }
};

template <class T, class S>
class MarkOf final : public Owned<MarkOf<T, S>, c::Mark, T, S> {
 public:
  explicit MarkOf(KvMark<T, S> of) : mark(std::move(of)) {}

  KvMark<T, S> mark;
};

template <class T, class S>
heed_pool_state state_of(const KvPool<T, S>& pool) {
  return {pool.page(),       Index(pool.page_bytes()), pool.most_pages().value_or(0),
          pool.pages_held(), Index(pool.bytes_held()), Index(pool.bytes_reserved())};
}

template <class T, class S>
class PoolOf final : public Owned<PoolOf<T, S>, c::Pool, T, S> {
 public:
  explicit PoolOf(const KvPool<T, S>& of) : pool(of) {}
  heed_pool_state state() const override { return state_of(pool); }

  KvPool<T, S> pool;
};

template <class T, class S>
class SequenceOf final : public Owned<SequenceOf<T, S>, c::Sequence, T, S> {
 public:
  explicit SequenceOf(KvSequence<T, S> of) : sequence(std::move(of)) {}

  heed_sequence_state state() const override {
    return {sequence.next(),      sequence.budget().value_or(0), sequence.pages(),
            sequence.own_pages(), Index(sequence.bytes()),       sequence.dropped()};
  }
  std::int64_t held(std::int64_t key_head, heed_held_token* tokens,
                    std::int64_t capacity) const override {
    const std::int64_t count = sequence.count(key_head);
    if (tokens == nullptr) return count;
    const Vector<KvToken<T>> all = sequence.held(key_head);
    for (std::int64_t n = 0; n < std::min(count, capacity); ++n) {
      const KvToken<T>& token = all[std::size_t(n)];
      tokens[n] = {token.position, double(token.f), double(token.weight)};
    }
    return count;
  }
  void clear() override { sequence.clear(); }
  void truncate(std::int64_t tokens) override { sequence.truncate(tokens); }
  void drop(std::int64_t first, std::int64_t last) override { sequence.drop(first, last); }
  void accept(std::int64_t first, const std::int64_t* path, std::int64_t count) override {
    sequence.accept(first, {path, std::size_t(count)});
  }
  c::Sequence* fork() const override { return new SequenceOf(sequence); }
  c::Mark* mark() const override { return new MarkOf<T, S>(sequence.mark()); }
  void roll_back(const c::Mark& mark) override {
    expect_types("the mark", mark.types(), this->types());
    sequence.roll_back(static_cast<const MarkOf<T, S>&>(mark).mark);
  }
  void save(std::ostream& to) const override { heed::save(to, sequence); }

  KvSequence<T, S> sequence;
};

template <class T, class S>
class CacheOf final : public Owned<CacheOf<T, S>, c::Cache, T, S> {
  using Sequence = KvSequence<T, S>;

 public:
  CacheOf(const KvShape& shape, KvOptions options, std::optional<KvPool<T, S>> pool)
      : cache_(shape, std::move(options), std::move(pool)) {}

  heed_pool_state pool_state() const override { return state_of(cache_.pool()); }
  void reserve(std::int64_t sequences) override {
    const Index pages = cache_.options().budget ? cache_.pages_for(*cache_.options().budget) : 1;
    if (sequences < 0 || detail::product_of(sequences, pages) > detail::max_bytes)
      throw ValueError("reserve for ", sequences, " sequences of ", pages, " pages");
    cache_.reserve(sequences);
  }
  c::Sequence* open() const override { return new SequenceOf<T, S>(cache_.open()); }
  c::Sequence* fork(const c::Sequence& from) const override {
    return new SequenceOf<T, S>(cache_.open(own(from)));
  }
  c::Sequence* load(std::istream& from) const override {
    return new SequenceOf<T, S>(heed::load(from, cache_));
  }
  void set_budget(c::Sequence& sequence, std::int64_t budget) override {
    if (budget < 0) throw ValueError("budget is ", budget, ", must not be negative");
    cache_.set_budget(own(sequence), budget == 0 ? std::nullopt : std::optional<Index>(budget));
  }

  heed_work step(const c::StepArguments& x) override {
    const bool packed = x.step->starts != nullptr;
    return call(x, [&](const auto& sequences, const auto& variant, const auto& step) {
      if (packed)
        return step_of<3>(x, [&](const auto& q, const auto& k, const auto& v, const auto& out) {
          return cache_.step_packed(sequences,
                                    view<const std::int64_t, 1>("starts", x.step->starts), q, k, v,
                                    variant, out, step);
        });
      return step_of<4>(x, [&](const auto& q, const auto& k, const auto& v, const auto& out) {
        return cache_.step(sequences, q, k, v, variant, out, step);
      });
    });
  }
  heed_work attend(const c::StepArguments& x) override {
    const heed_step& given = *x.step;
    if (given.starts != nullptr || given.parents != nullptr || given.evict_row != nullptr)
      throw ValueError("attend: heed_step.starts, parents and evict_row are of steps that append");
    return call(x, [&](const auto& sequences, const auto& variant, const auto& step) {
      return with_queries<T, 4>(x.q, [&](const auto& q) {
        return cache_.attend(sequences, q, variant, required<T, 4>("out", x.out), step);
      });
    });
  }

 private:
  static const Sequence& own(const c::Sequence& of) {
    expect_types("the sequence", of.types(), c_interface::types<T, S>());
    return static_cast<const SequenceOf<T, S>&>(of).sequence;
  }
  static Sequence& own(c::Sequence& of) {
    return const_cast<Sequence&>(own(static_cast<const c::Sequence&>(of)));
  }

  /// Calls f with the sequences, the stages and the options of a step.
  template <class F>
  static heed_work call(const c::StepArguments& x, const F& f) {
    Vector<Sequence*> sequences(std::size_t(x.count), nullptr);
    for (std::int64_t b = 0; b < x.count; ++b) sequences[std::size_t(b)] = &own(*x.sequences[b]);
    const Options options = options_of(*x.run);
    if (x.run->negligible != 0 || x.run->bfloat16 != 0)
      throw ValueError(
          "heed_run.negligible and bfloat16 are not of steps; see heed_cache_options.negligible");
    KvStep<T> step;
    step.lse = view<T, 3>("lse", x.step->lse);
    step.tokens = view<const std::int64_t, 1>("tokens", x.step->tokens);
    step.parents = view<const std::int64_t, 2>("parents", x.step->parents);
    step.evict_row = view<std::int64_t, 2>("evict_row", x.step->evict_row);
    step.executor = options.executor, step.workspace = options.workspace;
    const VariantStages<T> stages(*x.variant, true);
    return work_of(
        f(std::span<Sequence* const>(sequences.data(), sequences.size()), stages.of_cache(), step));
  }
  template <std::size_t Rank, class F>
  static WorkStats step_of(const c::StepArguments& x, const F& f) {
    const View<T, Rank> out = required<T, Rank>("out", x.out);
    return with_queries<T, Rank>(x.q, [&](const auto& q) {
      return with_keys<T, Rank>(x.k, x.v,
                                [&](const auto& k, const auto& v) { return f(q, k, v, out); });
    });
  }

  KvCache<T, S> cache_;
};

inline EvictionRule rule_of(const heed_cache_options& x) {
  if (x.evict != HEED_EVICT_SNAP && (x.snap_rows != 0 || x.snap_kernel != 0))
    throw ValueError("snap_rows and snap_kernel are of HEED_EVICT_SNAP, evict is ", x.evict);
  switch (x.evict) {
    case HEED_EVICT_MOST_MASKED:
      return most_masked;
    case HEED_EVICT_HEAVY_HITTERS:
      return heavy_hitters;
    case HEED_EVICT_LEAST_ATTENDED_LAST:
      return least_attended_last;
    case HEED_EVICT_OLDEST:
      return oldest;
    case HEED_EVICT_KEY_DIFFERENCE:
      return key_difference;
    case HEED_EVICT_SNAP:
      return snap(x.snap_rows == 0 ? snap.rows : x.snap_rows,
                  x.snap_kernel == 0 ? snap.kernel : x.snap_kernel);
  }
  throw ValueError("heed_cache_options.evict is ", x.evict, ", must lie in 0 … 5");
}

inline KvOptions options_of(const heed_cache_options& x) {
  const auto unless_zero = [](std::int64_t n) {
    return n == 0 ? std::nullopt : std::optional<Index>(n);
  };
  KvOptions options;
  for (const auto& [what, n] :
       {std::pair("budget", x.budget), std::pair("recent", x.recent), std::pair("chunk", x.chunk)})
    if (n < 0) throw ValueError("heed_cache_options.", what, " is ", n, ", must not be negative");
  options.budget = unless_zero(x.budget);
  options.evict = rule_of(x);
  options.when = EvictWhen(x.when);
  options.heads = KvHeads(x.key_head_tokens);
  options.recent = unless_zero(x.recent), options.chunk = unless_zero(x.chunk);
  if (x.selective != 0)
    options.select = select_options(x.select_head, x.select_flags);
  else
    options.select.reset();
  if (x.selective == 0 && (x.select_head != 0 || x.select_flags != 0))
    throw ValueError("heed_cache_options: options of selection are given, but selective is 0");
  if (x.selective == 0 && x.budget != 0 && x.evict == HEED_EVICT_MOST_MASKED)
    throw ValueError(
        "heed_cache_options: HEED_EVICT_MOST_MASKED goes by the votes of selection, but selective "
        "is 0");
  if (x.reserved != 0) throw ValueError("heed_cache_options.reserved is ", x.reserved, ", not 0");
  if (x.protect_count < HEED_PROTECT_NOTHING || x.protect_count > most_sequences ||
      (x.protect == nullptr) != (x.protect_count <= 0))
    throw ValueError("heed_cache_options.protect is ", x.protect == nullptr ? "null" : "given",
                     ", protect_count is ", x.protect_count);
  if (x.protect_count != 0)
    options.protect.assign(x.protect, x.protect + std::max<std::int64_t>(x.protect_count, 0));
  if (x.score_bound != 0) options.score_bound = x.score_bound;
  options.negligible = negligible_of(x.negligible);
  return options;
}

/// Calls f with values of the two types that are named.
template <class F>
auto with_types(std::int32_t type, std::int32_t storage, const F& f) {
  if (type == HEED_FLOAT64 && (storage == 0 || storage == HEED_FLOAT64)) return f(0.0, 0.0);
  if (type == HEED_FLOAT32) switch (storage) {
      case 0:
      case HEED_FLOAT32:
        return f(0.f, 0.f);
      case HEED_FLOAT16:
        return f(0.f, Eigen::half());
      case HEED_BFLOAT16:
        return f(0.f, Eigen::bfloat16());
      case HEED_INT8:
        return f(0.f, std::int8_t());
    }
  throw Error(HEED_INVALID_TYPE, "type is ", name_of(type), " (", type, "), storage ",
              storage == 0 ? "the same" : name_of(storage), " (", storage,
              "): computed is in float32 or float64; float32 is stored as it is, in float16, "
              "bfloat16 or int8");
}

inline c::Pool* open_pool(const heed_pool_options& x) {
  for (const auto& [what, n] :
       {std::pair("page", x.page), std::pair("bytes", x.bytes), std::pair("pages", x.pages)})
    if (n < 0) throw ValueError("heed_pool_options.", what, " is ", n, ", must not be negative");
  KvPoolOptions options;
  if (x.page != 0) options.page = x.page;
  if (x.bytes != 0) options.bytes = std::size_t(x.bytes);
  if (x.pages != 0) options.pages = x.pages;
  return with_types(x.type, x.storage, [&]<class T, class S>(const T&, const S&) -> c::Pool* {
    return new PoolOf<T, S>(KvPool<T, S>(x.dim, x.value_dim, options));
  });
}

inline c::Cache* open_cache(const heed_cache_options& x, const c::Pool* pool) {
  const KvShape shape{1, x.heads, x.key_heads, x.dim, x.value_dim};
  return with_types(x.type, x.storage, [&]<class T, class S>(const T&, const S&) -> c::Cache* {
    std::optional<KvPool<T, S>> shared;
    if (pool != nullptr) {
      expect_types("the pool", pool->types(), types<T, S>());
      shared = static_cast<const PoolOf<T, S>*>(pool)->pool;
    }
    return new CacheOf<T, S>(shape, options_of(x), std::move(shared));
  });
}

}  // namespace heed::inline HEED_ABI::c_interface
