// SPDX-License-Identifier: MIT
// Sequences of a cache that are opened, stepped, forked, rolled back, cut, moved and closed at
// random, beside plain double loops that share no code with the library.
//
// HEED_REPLAY is the number of operations for each rule and storage type, 2000 if it is not set.

#include "heed/core/thread_pool.hpp"
#include "heed/kv/kv_cache.hpp"
#include "heed/kv/least_attended_last.hpp"
#include "heed/score/standard.hpp"
#include "support/random.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdlib>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

namespace heed::test {
namespace {

// ---- the reference

enum class Rule { most_masked, heavy_hitters, least_attended_last, oldest };

/// What a cache is told, in words of the reference.
struct Told {
  Index heads, key_heads, dim, value_dim;
  Rule rule;
  EvictWhen when;
  Index chunk;
  std::set<Index> protect;
  std::optional<Index> recent;
  std::optional<Index> selecting_head;
  Index turned = 0;  // numbers that turn by the position among the tokens held
  bool interleaved = false;

  bool weighs() const { return rule == Rule::heavy_hitters || rule == Rule::least_attended_last; }
  Index recent_of(Index budget) const {
    if (recent) return *recent;
    if (rule != Rule::heavy_hitters) return 1;
    return std::max<Index>(1, std::min(budget / 2, budget - Index(protect.size())));
  }
};

/// Number d of x, turned by a position.
double turned(const Told& told, const double* x, Index d, Index position) {
  const Index half = told.turned / 2;
  if (d >= told.turned) return x[d];
  const Index pair = told.interleaved ? d / 2 : d % half;
  const double a = x[told.interleaved ? 2 * pair : pair],
               b = x[told.interleaved ? 2 * pair + 1 : pair + half],
               angle = double(position) * std::pow(10000, -2 * double(pair) / double(told.turned));
  const bool first = told.interleaved ? d % 2 == 0 : d < half;
  return first ? a * std::cos(angle) - b * std::sin(angle)
               : a * std::sin(angle) + b * std::cos(angle);
}

struct PlainToken {
  Index position;
  std::shared_ptr<const std::vector<double>> key, value;  // [key_heads][dim or value_dim]
  double f = 0, weight = 0;
};

/// A sequence in plain double loops.
struct PlainSequence {
  std::vector<PlainToken> tokens;  // by position
  Index next = 0;
  std::optional<Index> budget;

  double claim(const Told& told, const PlainToken& t) const {
    return told.rule == Rule::oldest ? 0 : told.weighs() ? -t.weight : t.f;
  }
  bool may_go(const Told& told, const PlainToken& t, Index current) const {
    return told.protect.count(t.position) == 0 && t.position <= current - told.recent_of(*budget);
  }

  /// Evicts until the budget is met. `gone` are the positions that the library evicted here. It may
  /// decide otherwise only where rounding does; then its decision is taken. Returns how often.
  int shrink(const Told& told, Index current, std::set<Index> gone) {
    int followed = 0;
    while (budget && Index(tokens.size()) > *budget) {
      const PlainToken *most = nullptr, *theirs = nullptr;
      for (const PlainToken& t : tokens) {
        if (!may_go(told, t, current)) continue;
        if (!most || claim(told, t) > claim(told, *most)) most = &t;
        if (gone.count(t.position) > 0 && (!theirs || claim(told, t) > claim(told, *theirs)))
          theirs = &t;
      }
      if (!most || !theirs) {
        ADD_FAILURE() << "the library evicted no token that may go at " << current;
        return followed;
      }
      if (gone.count(most->position) == 0) {
        const double best = claim(told, *most), taken = claim(told, *theirs);
        EXPECT_LE(best - taken, 1e-9 * (1 + std::abs(best)))
            << "at " << current << " token " << theirs->position << " went, not " << most->position;
        EXPECT_FALSE(best == 0 && taken == 0) << "at " << current << " token " << theirs->position
                                              << " went, not the oldest, " << most->position;
        ++followed;
        most = theirs;
      }
      const Index position = most->position;
      gone.erase(position);
      erase(position, position + 1);
    }
    EXPECT_TRUE(gone.empty()) << "at " << current << " token " << *gone.begin()
                              << " went without need";
    return followed;
  }

  void erase(Index first, Index last) {
    tokens.erase(std::remove_if(
                     tokens.begin(), tokens.end(),
                     [&](const PlainToken& t) { return t.position >= first && t.position < last; }),
                 tokens.end());
  }

  /// The row of the newest token: attends, then votes and adds weights. q is [heads][dim].
  void attend(const Told& told, const double* q, double* out, double* lse) {
    const PlainToken& self = tokens.back();
    std::vector<double> z(tokens.size()), sum(tokens.size(), 0), vote(tokens.size(), 0);
    for (Index h = 0; h < told.heads; ++h) {
      const Index g = h / (told.heads / told.key_heads);
      double most = -INFINITY, total = 0;
      for (std::size_t j = 0; j < tokens.size(); ++j) {
        double s = 0;
        for (Index d = 0; d < told.dim; ++d)
          s += turned(told, q + h * told.dim, d, Index(tokens.size()) - 1) *
               turned(told, tokens[j].key->data() + g * told.dim, d, Index(j));
        s /= std::sqrt(double(told.dim));
        if (told.selecting_head == h && tokens[j].position != 0 && &tokens[j] != &self)
          vote[j] = std::max(0.0, s);
        z[j] = s - tokens[j].f;
        most = std::max(most, z[j]);
      }
      for (double& x : z) total += x = std::exp(x - most);
      lse[h] = most + std::log(total);
      std::fill_n(out + h * told.value_dim, told.value_dim, 0.0);
      for (std::size_t j = 0; j < tokens.size(); ++j) {
        sum[j] += z[j] / total;
        for (Index d = 0; d < told.value_dim; ++d)
          out[h * told.value_dim + d] +=
              z[j] / total * (*tokens[j].value)[std::size_t(g * told.value_dim + d)];
      }
    }
    for (std::size_t j = 0; j < tokens.size(); ++j) {
      tokens[j].f += vote[j];
      if (told.rule == Rule::least_attended_last) tokens[j].weight = 0;
      if (told.weighs()) tokens[j].weight += sum[j];
    }
  }
};

// ---- operations

/// Numbers that S stores exactly.
template <class S>
std::vector<double> exact_numbers(Random& random, Index count) {
  std::vector<double> x(static_cast<std::size_t>(count));
  for (double& number : x)
    if constexpr (std::is_same_v<S, double>)
      number = random.normal();
    else if constexpr (std::is_same_v<S, std::int8_t>)
      number = double(random.integer(-127, 128)) / 64;
    else
      number = double(S(float(random.normal())));
  if constexpr (std::is_same_v<S, std::int8_t>)  // the largest number decides the unit
    x[std::size_t(random.integer(0, count))] = 127.0 / 64;
  return x;
}

/// HEED_REPLAY, or 2000.
inline int operations() {
  const char* const given = std::getenv("HEED_REPLAY");
  return given ? std::atoi(given) : 2000;
}

/// Caches that share a pool, their sequences, and the reference's.
template <class S>
class World {
  using Cache = KvCache<double, S>;
  using Sequence = KvSequence<double, S>;

  struct Live {
    Sequence sequence;
    PlainSequence plain;
    std::size_t cache;
    int name;
  };
  struct Mark {
    KvMark<double, S> mark;
    PlainSequence plain;
    int name;
  };

 public:
  World(Rule rule, std::uint64_t seed) : random_(seed) {
    told_.key_heads = random_.integer(1, 4);
    told_.heads = told_.key_heads * random_.integer(1, 4);
    told_.dim = random_.integer(2, 20), told_.value_dim = random_.integer(1, 20);
    told_.rule = rule;
    told_.when = EvictWhen(random_.integer(0, 3));
    told_.chunk = told_.weighs() ? 1 : random_.integer(1, 12);
    for (std::set<Index>& protect : protect_) {
      const Index most = random_.integer(0, 4);
      for (Index i = 0; i < most; ++i) protect.insert(random_.integer(0, 30));
      if (random_.uniform() < 0.7) protect.insert(0);
    }
    if (random_.uniform() < 0.3) told_.recent = random_.integer(1, 4);
    if (random_.uniform() < 0.8) told_.selecting_head = random_.integer(0, told_.heads);

    Random turns(seed + 1);  // of its own: what else is drawn stays
    if (turns.uniform() < 0.4) {
      told_.turned = 2 * turns.integer(1, told_.dim / 2 + 1);
      told_.interleaved = turns.uniform() < 0.5;
    }

    using Pool = KvPool<double, S>;
    KvPoolOptions memory{.page = random_.integer(1, Pool::largest_page / Pool::slot_multiple + 1) *
                                 Pool::slot_multiple};
    if (random_.uniform() < 0.6) *memory.page = Pool::slot_multiple;
    const Pool unlimited(told_.dim, told_.value_dim, memory);
    if (random_.uniform() < 0.5)
      memory.bytes = unlimited.page_bytes() * std::size_t(told_.key_heads * random_.integer(8, 30));
    pool_.emplace(told_.dim, told_.value_dim, memory);
    for (std::size_t i = 0; i < 2; ++i) {
      KvOptions o{.budget = budget(), .when = told_.when, .recent = told_.recent};
      if (i == 0 && random_.uniform() < 0.3) o.budget.reset();
      o.evict = rule == Rule::most_masked           ? EvictionRule(most_masked)
                : rule == Rule::heavy_hitters       ? EvictionRule(heavy_hitters)
                : rule == Rule::least_attended_last ? EvictionRule(least_attended_last)
                                                    : EvictionRule(oldest);
      o.protect.assign(protect_[i].begin(), protect_[i].end());
      o.chunk = told_.chunk;
      o.select.reset();
      if (told_.turned > 0)
        o.rotary.emplace(told_.turned, RotaryFrequencies{},
                         told_.interleaved ? RotaryPairs::interleaved : RotaryPairs::half_split);
      if (told_.selecting_head) o.select = SelectOptions{.head = *told_.selecting_head};
      caches_.emplace_back(KvShape{1, told_.heads, told_.key_heads, told_.dim, told_.value_dim}, o,
                           *pool_);
    }
  }

  std::string description() const {
    std::string text =
        "rule " + std::to_string(int(told_.rule)) + ", when " + std::to_string(int(told_.when)) +
        ", chunk " + std::to_string(told_.chunk) + ", heads " + std::to_string(told_.heads) + "/" +
        std::to_string(told_.key_heads) + ", dims " + std::to_string(told_.dim) + " and " +
        std::to_string(told_.value_dim) + ", page " + std::to_string(pool_->page()) + ", pages " +
        std::to_string(pool_->most_pages().value_or(0)) + ", selects " +
        std::to_string(told_.selecting_head.value_or(-1)) + ", turns " +
        std::to_string(told_.turned) + ", protect";
    for (const Cache& c : caches_) {
      for (const Index p : c.options().protect) text += " " + std::to_string(p);
      text += ", budget " + std::to_string(c.options().budget.value_or(-1)) + ";";
    }
    return text;
  }

  void run(int count) {
    for (int i = 0; i < count && !testing::Test::HasFailure(); ++i) {
      last_ = "nothing";
      operate();
      expect_all();
      if (testing::Test::HasFailure())
        ADD_FAILURE() << "operation " << i << ": " << last_ << "; " << description();
    }
  }
  int followed() const { return followed_; }
  int refused() const { return refused_; }
  int evicted() const { return evicted_; }

 private:
  void operate() {
    if (live_.empty()) return open();
    const double at = random_.uniform();
    if (at < 0.06 && live_.size() < 6) return open();
    if (at < 0.12 && live_.size() < 6) return fork();
    if (at < 0.17) return mark();
    if (at < 0.22) return roll_back();
    if (at < 0.26) return close();
    if (at < 0.29) return drop();
    if (at < 0.33) return set_budget();
    if (at < 0.36) return truncate();
    if (at < 0.39) return move();
    if (at < 0.395) return clear();
    step();
  }

  std::optional<Index> budget() {
    const Index kept =
        Index(std::max(protect_[0].size(), protect_[1].size())) + told_.recent.value_or(1);
    return kept +
           random_.integer(random_.uniform() < 0.3 ? 0 : 5, random_.uniform() < 0.2 ? 100 : 40);
  }
  /// What the cache of a sequence was told.
  Told of(const Live& x) const {
    Told told = told_;
    told.protect = protect_[x.cache];
    return told;
  }
  Live& any() { return live_[std::size_t(random_.integer(0, Index(live_.size())))]; }

  void open() {
    const std::size_t cache = std::size_t(random_.integer(0, 2));
    last_ = "open in cache " + std::to_string(cache);
    PlainSequence plain;
    plain.budget = caches_[cache].options().budget;
    live_.push_back({caches_[cache].open(), plain, cache, ++names_});
  }
  void fork() {
    const Live& from = any();
    last_ = "fork " + std::to_string(from.name);
    Live copy = from;
    copy.name = ++names_;
    live_.push_back(std::move(copy));
  }
  void close() {
    const std::size_t at = std::size_t(random_.integer(0, Index(live_.size())));
    last_ = "close " + std::to_string(live_[at].name);
    live_[at].sequence.close();
    EXPECT_FALSE(live_[at].sequence.is_open());
    live_.erase(live_.begin() + std::ptrdiff_t(at));
  }
  void clear() {
    Live& x = any();
    last_ = "clear " + std::to_string(x.name);
    x.sequence.clear();
    x.plain.tokens.clear(), x.plain.next = 0;
  }
  void mark() {
    const Live& x = any();
    last_ = "mark " + std::to_string(x.name);
    if (marks_.size() >= 5) marks_.erase(marks_.begin());
    marks_.push_back({x.sequence.mark(), x.plain, x.name});
  }
  void roll_back() {
    if (marks_.empty()) return;
    const Mark& m = marks_[std::size_t(random_.integer(0, Index(marks_.size())))];
    for (Live& x : live_) {
      last_ = "roll " + std::to_string(x.name) + " back to a mark of " + std::to_string(m.name);
      if (x.name == m.name) {
        x.sequence.roll_back(m.mark);
        x.plain = m.plain;
      } else {
        EXPECT_THROW(x.sequence.roll_back(m.mark), ValueError);
      }
    }
  }
  void drop() {
    Live& x = any();
    const Index first = random_.integer(0, x.plain.next + 1),
                last = random_.integer(first, x.plain.next + 1);
    last_ = "drop " + std::to_string(first) + " to " + std::to_string(last) + " of " +
            std::to_string(x.name);
    x.sequence.drop(first, last);
    x.plain.erase(first, last);
  }
  void truncate() {
    Live& x = any();
    const Index tokens = std::max<Index>(0, x.plain.next - random_.integer(0, 30));
    last_ = "truncate " + std::to_string(x.name) + " to " + std::to_string(tokens);
    const Index stay = std::count_if(x.plain.tokens.begin(), x.plain.tokens.end(),
                                     [&](const PlainToken& t) { return t.position < tokens; });
    const bool may =
        tokens == x.plain.next || (!told_.selecting_head && !told_.weighs() && stay == tokens);
    if (!may) {
      EXPECT_THROW(x.sequence.truncate(tokens), ValueError);
      return;
    }
    x.sequence.truncate(tokens);
    x.plain.erase(tokens, x.plain.next);
    x.plain.next = tokens;
  }
  void set_budget() {
    Live& x = any();
    std::optional<Index> to = budget();
    if (random_.uniform() < 0.2) to.reset();
    last_ =
        "set the budget of " + std::to_string(x.name) + " to " + std::to_string(to.value_or(-1));
    try {
      caches_[x.cache].set_budget(x.sequence, to);
    } catch (const OutOfPages&) {
      ++refused_;
      return;
    }
    x.plain.budget = to;
    std::set<Index> gone = positions(x.plain);
    for (const auto& token : x.sequence.held()) gone.erase(token.position);
    followed_ += x.plain.shrink(of(x), x.plain.next - 1, gone);
  }
  /// Continues in the other cache.
  void move() {
    Live& x = any();
    const std::size_t to = 1 - x.cache;
    last_ = "move " + std::to_string(x.name) + " to cache " + std::to_string(to);
    const std::optional<Index> limit = caches_[to].options().budget;
    if (limit && Index(x.plain.tokens.size()) > *limit) {
      EXPECT_THROW(caches_[to].open(x.sequence), ValueError);
      return;
    }
    x.sequence = caches_[to].open(x.sequence);
    x.cache = to, x.name = ++names_, x.plain.budget = limit;
  }

  void step() {
    const std::size_t cache = any().cache;
    std::vector<Live*> members;
    for (Live& x : live_)
      if (x.cache == cache && random_.uniform() < 0.7) members.push_back(&x);
    for (std::size_t i = members.size(); i > 1; --i)
      std::swap(members[i - 1], members[std::size_t(random_.integer(0, Index(i)))]);
    const Index B = Index(members.size()), H = told_.heads, G = told_.key_heads, D = told_.dim,
                Dv = told_.value_dim;
    std::vector<std::int64_t> rows, starts{0};
    Index longest = 0, positions_of_all = 1;
    last_ = "step of";
    for (const Live* x : members) {
      const double at = random_.uniform();
      rows.push_back(at < 0.1    ? 0
                     : at < 0.6  ? 1
                     : at < 0.95 ? random_.integer(1, 6)
                                 : random_.integer(1, 40));
      starts.push_back(starts.back() + rows.back());
      longest = std::max(longest, Index(rows.back()));
      positions_of_all = std::max(positions_of_all, x->plain.next + Index(rows.back()));
      last_ += " " + std::to_string(x->name) + " by " + std::to_string(rows.back());
    }
    const bool packed = random_.uniform() < 0.5;
    if (packed) last_ += ", packed";
    const Index N = packed ? Index(starts.back()) : longest;
    // [B][N][heads][width] in memory if dense, [N][heads][width] if packed.
    const Index places = packed ? N : B * N;
    constexpr double nothing = std::numeric_limits<double>::quiet_NaN();
    std::vector<double> q(std::size_t(places * H * D), nothing),
        k(std::size_t(places * G * D), nothing), v(std::size_t(places * G * Dv), nothing),
        out(std::size_t(places * H * Dv), nothing), lse(std::size_t(places * H), nothing);
    const auto place = [&](Index b, Index i) {
      return packed ? Index(starts[std::size_t(b)]) + i : b * N + i;
    };
    for (Index b = 0; b < B; ++b)
      for (Index i = 0; i < rows[std::size_t(b)]; ++i) {
        const Index at = place(b, i);
        for (Index x = 0; x < H * D; ++x) q[std::size_t(at * H * D + x)] = random_.normal();
        for (Index g = 0; g < G; ++g) {
          const auto key = exact_numbers<S>(random_, D), value = exact_numbers<S>(random_, Dv);
          std::copy(key.begin(), key.end(), k.begin() + (at * G + g) * D);
          std::copy(value.begin(), value.end(), v.begin() + (at * G + g) * Dv);
        }
      }
    std::vector<std::int64_t> left(std::size_t(B * positions_of_all), -1);
    std::vector<Sequence*> sequences;
    for (Live* x : members) sequences.push_back(&x->sequence);
    KvStep<double> options{.evict_row = {left.data(), {B, positions_of_all}}};
    options.workspace = random_.uniform() < 0.5 ? &workspace_ : nullptr;
    if (random_.uniform() < 0.1) options.executor = executor(threads());
    const auto take = [&] {
      if (packed) {
        options.lse = View<double, 3>(lse.data(), {1, H, N}, {N * H, 1, H});
        caches_[cache].step_packed(sequences, View<const std::int64_t, 1>(starts.data(), {B + 1}),
                                   View<const double, 3>(q.data(), {N, H, D}),
                                   View<const double, 3>(k.data(), {N, G, D}),
                                   View<const double, 3>(v.data(), {N, G, Dv}), standard,
                                   View<double, 3>(out.data(), {N, H, Dv}), options);
      } else {
        options.lse = View<double, 3>(lse.data(), {B, H, N}, {N * H, 1, H});
        options.tokens = View<const std::int64_t, 1>(rows.data(), {B});
        const auto view = [&](auto* x, Index heads, Index width) {
          return View<std::remove_reference_t<decltype(*x)>, 4>(
              x, {B, heads, N, width}, {N * heads * width, width, heads * width, 1});
        };
        caches_[cache].step(
            sequences, view(std::as_const(q).data(), H, D), view(std::as_const(k).data(), G, D),
            view(std::as_const(v).data(), G, Dv), standard, view(out.data(), H, Dv), options);
      }
    };
    const Index pages_before = pool_->pages_held();
    try {
      take();
    } catch (const OutOfPages&) {
      ++refused_;
      last_ += ", refused";
      EXPECT_TRUE(pool_->most_pages());
      EXPECT_EQ(pool_->pages_held(), pages_before);
      if (!marks_.empty()) marks_.erase(marks_.begin());
      expect_all();
      return close();
    }
    for (Index b = 0; b < B; ++b) {
      Live& x = *members[std::size_t(b)];
      const auto leaves_at = [&](Index row) {
        std::set<Index> gone;
        for (const PlainToken& t : x.plain.tokens)
          if (left[std::size_t(b * positions_of_all + t.position)] == row) gone.insert(t.position);
        evicted_ += int(gone.size());
        return gone;
      };
      const Index n = Index(rows[std::size_t(b)]);
      for (Index i = 0; i < n; ++i) {
        const Index at = place(b, i), position = x.plain.next++;
        const auto numbers = [&](const std::vector<double>& all, Index width) {
          const auto first = all.begin() + at * G * width;
          return std::make_shared<const std::vector<double>>(first, first + G * width);
        };
        x.plain.tokens.push_back({position, numbers(k, D), numbers(v, Dv)});
        if (told_.when == EvictWhen::before_row)
          followed_ += x.plain.shrink(of(x), position, leaves_at(position));
        std::vector<double> want(std::size_t(H * Dv)), want_lse(static_cast<std::size_t>(H));
        x.plain.attend(told_, q.data() + at * H * D, want.data(), want_lse.data());
        for (Index j = 0; j < H * Dv; ++j)
          ASSERT_NEAR(out[std::size_t(at * H * Dv + j)], want[std::size_t(j)], 1e-9)
              << "row " << position << " of " << x.name;
        for (Index h = 0; h < H; ++h)
          ASSERT_NEAR(lse[std::size_t(at * H + h)], want_lse[std::size_t(h)], 1e-9)
              << "row " << position << " of " << x.name;
        if (told_.when == EvictWhen::after_row ||
            (told_.when == EvictWhen::chunk_end && ((i + 1) % told_.chunk == 0 || i + 1 == n)))
          followed_ += x.plain.shrink(of(x), position, leaves_at(position + 1));
        if (testing::Test::HasFailure()) return;
      }
      for (Index i = n; i < N && !packed; ++i)
        for (Index j = 0; j < H * Dv; ++j)
          ASSERT_EQ(out[std::size_t(place(b, i) * H * Dv + j)], 0) << "past the last row";
      if (n > 0 && x.plain.budget) {
        const Index late = told_.when == EvictWhen::before_row ? 0 : 1;
        EXPECT_LE(x.sequence.pages(), G * pages_of(*x.plain.budget + late)) << x.name;
      }
    }
  }
  Index pages_of(Index slots) const { return (slots + pool_->page() - 1) / pool_->page(); }

  static std::set<Index> positions(const PlainSequence& x) {
    std::set<Index> all;
    for (const PlainToken& t : x.tokens) all.insert(t.position);
    return all;
  }

  // ---- what must hold at any time

  void expect_same(const Sequence& s, const PlainSequence& plain, int name) const {
    ASSERT_EQ(s.next(), plain.next) << name;
    ASSERT_EQ(s.budget(), plain.budget) << name;
    for (Index g = 0; g < told_.key_heads; ++g) {
      const auto held = s.held(g);
      ASSERT_EQ(held.size(), plain.tokens.size()) << name;
      for (std::size_t j = 0; j < held.size(); ++j) {
        const PlainToken& want = plain.tokens[j];
        ASSERT_EQ(held[j].position, want.position) << name;
        ASSERT_NEAR(held[j].f, want.f, 1e-9 * (1 + want.f)) << name << ", " << want.position;
        const KvSlots<double>& slots = s.slots(g);
        const auto slot = std::find(slots.position.begin(), slots.position.end(), want.position) -
                          slots.position.begin();
        if (told_.turned > 0) {
          ASSERT_EQ(slots.inside[std::size_t(slot)], Index(j)) << name;
        }
        ASSERT_NEAR(held[j].weight, want.weight, 1e-9 * (1 + want.weight))
            << name << ", " << want.position;
      }
    }
    EXPECT_GE(s.pages(), told_.key_heads * pages_of(Index(plain.tokens.size()))) << name;
  }
  /// All sequences and marks are the reference's, and the pool counts just their pages.
  void expect_all() const {
    std::set<const std::byte*> pages;
    const auto count = [&](const Sequence& s) {
      for (Index g = 0; g < told_.key_heads; ++g)
        for (const auto& page : s.slots(g).pages) pages.insert(page.data());
    };
    for (const Live& x : live_) expect_same(x.sequence, x.plain, x.name), count(x.sequence);
    for (const Mark& m : marks_)
      expect_same(m.mark.sequence(), m.plain, m.name), count(m.mark.sequence());
    EXPECT_EQ(pool_->pages_held(), Index(pages.size()));
  }

  static Eigen::ThreadPool& threads() {
    static Eigen::ThreadPool pool(2);
    return pool;
  }

  Random random_;
  Told told_{};  // of both caches, but for what they protect
  std::array<std::set<Index>, 2> protect_;
  std::optional<KvPool<double, S>> pool_;
  std::vector<Cache> caches_;
  Workspace workspace_;
  std::vector<Live> live_;
  std::vector<Mark> marks_;
  int names_ = 0, followed_ = 0, refused_ = 0, evicted_ = 0;
  std::string last_;
};

template <class S>
class Replays : public testing::Test {
 protected:
  static constexpr int storage_number = std::is_same_v<S, double>            ? 0
                                        : std::is_same_v<S, Eigen::bfloat16> ? 1
                                        : std::is_same_v<S, Eigen::half>     ? 2
                                                                             : 3;

  /// Many small worlds, of other sizes and options each.
  static void replay(Rule rule) {
    constexpr int of_a_world = 100;
    int followed = 0, refused = 0, evicted = 0;
    for (int done = 0; done < operations() && !testing::Test::HasFailure(); done += of_a_world) {
      const std::uint64_t seed = std::uint64_t(4 * (4 * done + int(rule)) + storage_number);
      SCOPED_TRACE("world " + std::to_string(seed));
      World<S> world(rule, seed);
      world.run(of_a_world);
      followed += world.followed(), refused += world.refused(), evicted += world.evicted();
    }
    // It did what it is for. Rounding seldom decides.
    if (operations() >= 2000) {
      EXPECT_GT(evicted, operations() / 4);
      EXPECT_GT(refused, 0);
    }
    EXPECT_LE(followed, evicted / 100);
    if (std::getenv("HEED_REPLAY"))
      std::printf("%d operations, %d evictions, %d times out of pages, %d decided by rounding\n",
                  operations(), evicted, refused, followed);
  }
};
using ReplayedStorages = testing::Types<double, Eigen::bfloat16, Eigen::half, std::int8_t>;
TYPED_TEST_SUITE(Replays, ReplayedStorages);

TYPED_TEST(Replays, EvictTheMostMasked) {
  this->replay(Rule::most_masked);
}
TYPED_TEST(Replays, EvictThoseThatAreNoHeavyHitters) {
  this->replay(Rule::heavy_hitters);
}
TYPED_TEST(Replays, EvictTheLeastAttendedLast) {
  this->replay(Rule::least_attended_last);
}
TYPED_TEST(Replays, EvictTheOldest) {
  this->replay(Rule::oldest);
}

/// Ten times HEED_REPLAY tokens through a budget of 64.
TEST(LongSequences, StayWithinTheirBytes) {
  const Told told{2, 1, 8, 8, Rule::most_masked, EvictWhen::before_row, 64, {0}, {}, Index(0)};
  const KvPool<double> pool(8, 8);
  KvCache<double> cache({1, 2, 1, 8, 8}, {.budget = 64}, pool);
  auto sequence = cache.open();
  PlainSequence plain;
  plain.budget = 64;
  Random random(1);
  std::vector<double> q(2 * 8 * 8), k(8 * 8), v(8 * 8), out(2 * 8 * 8), want(2 * 8), lse(2);
  std::size_t bytes = 0, reserved = 0, scratch = 0;
  for (Index steps = 0; sequence.next() < 10 * operations(); ++steps) {
    const Index n = steps < 20 ? 8 : random.integer(1, 9);
    for (std::vector<double>* x : {&q, &k, &v})
      for (double& number : *x) number = random.normal();
    const auto rows = [&](auto& x, Index heads) {
      return View<double, 4>(x.data(), {1, heads, n, 8}, {heads * n * 8, 8, heads * 8, 1});
    };
    cache.step({&sequence}, rows(q, 2), rows(k, 1), rows(v, 1), standard, rows(out, 2));
    const auto held = sequence.held();
    std::set<Index> stay;
    for (const auto& t : held) stay.insert(t.position);
    for (Index i = 0; i < n; ++i) {
      const auto part = [&](const std::vector<double>& x) {
        return std::make_shared<const std::vector<double>>(x.begin() + i * 8,
                                                           x.begin() + (i + 1) * 8);
      };
      plain.tokens.push_back({plain.next++, part(k), part(v)});
      if (plain.tokens.size() > 64) {
        const auto most =
            std::max_element(plain.tokens.begin(), plain.tokens.end() - 1,
                             [](const PlainToken& a, const PlainToken& b) {
                               return (a.position == 0 ? -1 : a.f) < (b.position == 0 ? -1 : b.f);
                             });
        plain.tokens.erase(most);
      }
      plain.attend(told, q.data() + i * 16, want.data(), lse.data());
      for (std::size_t d = 0; d < 16; ++d)
        ASSERT_NEAR(out[std::size_t(i) * 16 + d], want[d], 1e-9) << "row " << plain.next - 1;
    }
    ASSERT_EQ(held.size(), plain.tokens.size());
    for (std::size_t j = 0; j < held.size(); ++j) {
      ASSERT_EQ(held[j].position, plain.tokens[j].position);
      ASSERT_NEAR(held[j].f, plain.tokens[j].f, 1e-9 * (1 + plain.tokens[j].f));
    }
    if (steps == 20)
      bytes = sequence.bytes(), reserved = pool.bytes_reserved(), scratch = cache.scratch_bytes();
    if (steps < 20) continue;
    ASSERT_EQ(sequence.bytes(), bytes);
    ASSERT_EQ(pool.bytes_reserved(), reserved);
    ASSERT_EQ(cache.scratch_bytes(), scratch);
    ASSERT_EQ(pool.pages_held(), 1);
  }
}

}  // namespace
}  // namespace heed::test
