// SPDX-License-Identifier: MIT
#include "support/sharded.hpp"

#include "heed/distributed/backward.hpp"
#include "heed/score/alibi.hpp"
#include "heed/score/bias.hpp"
#include "heed/score/block_span.hpp"
#include "heed/score/causal.hpp"
#include "heed/score/documents.hpp"
#include "heed/score/position_temperature.hpp"
#include "heed/score/selective.hpp"
#include "heed/score/sinks.hpp"
#include "heed/score/softcap.hpp"
#include "heed/score/standard.hpp"
#include "heed/score/starts.hpp"
#include "heed/score/when.hpp"

#include <algorithm>
#include <limits>

namespace heed::test {
namespace {

constexpr double tau_of_memory = 1.3;

/// All inputs, of all tokens or of one rank.
struct ShardedInputs {
  Tensor<double> q, k, v, grad_out, bias;
  Tensor<double, 3> tau_q, tau_k, tau_v, grad_lse;
  Tensor<double, 2> grad_memory;
  Tensor<double, 1> slopes, sinks;
  Tensor<std::int64_t, 2> documents;
  Tensor<std::int64_t, 1> starts;

  explicit ShardedInputs(const ShardedCall& c) {
    const Shape& s = c.shape;
    std::uint64_t seed = 100 * c.seed;
    const auto tau = [&](Index heads) {
      const auto x = normal<double>(++seed, s.batch, heads, s.keys);
      return Tensor<double, 3>(x * x.constant(0.3) + x.constant(1));
    };
    q = normal<double>(++seed, s.batch, s.heads, s.queries, s.dim) * c.amplitude;
    k = normal<double>(++seed, s.batch, s.key_heads, s.keys, s.dim);
    v = normal<double>(++seed, s.batch, s.key_heads, s.keys, s.value_dim);
    grad_out = normal<double>(++seed, s.batch, s.heads, s.queries, s.value_dim);
    grad_lse = normal<double>(++seed, s.batch, s.heads, s.queries);
    grad_memory = normal<double>(++seed, s.batch, s.queries);
    tau_q = tau(s.heads), tau_k = tau(1), tau_v = tau(s.key_heads);
    slopes = uniform<double>(++seed, s.heads) * 0.1, sinks = normal<double>(++seed, s.heads);
    if (c.bias) bias = normal<double>(++seed, s.batch, s.heads, s.queries, s.keys);
    Random random(++seed);
    documents = Tensor<std::int64_t, 2>(s.batch, s.keys);
    starts = Tensor<std::int64_t, 1>(s.batch);
    for (Index b = 0; b < s.batch; ++b) {
      starts(b) = random.integer(0, s.keys / 2 + 1);
      for (Index j = 0, id = 3; j < s.keys; ++j) documents(b, j) = id += random.uniform() < 0.03;
    }
  }

  ShardedInputs of_rank(const distributed::Sharding& sharding, int rank) const {
    ShardedInputs own = *this;
    for (Tensor<double>* x : {&own.q, &own.k, &own.v, &own.grad_out})
      *x = cut(*x, sharding, rank, 2);
    for (Tensor<double, 3>* x : {&own.tau_q, &own.tau_k, &own.tau_v, &own.grad_lse})
      *x = cut(*x, sharding, rank, 2);
    own.grad_memory = cut(own.grad_memory, sharding, rank, 1);
    return own;
  }
};

auto variant_of(const ShardedCall& c, const ShardedInputs& in, ShardedResults& to) {
  using D2 = View<double, 2>;
  SelectiveWith<double> select{{}, c.select, {}};
  if (c.memory) {
    to.memory = Tensor<double, 2>(in.grad_memory.dimensions());
    select = select.memory(D2(to.memory), tau_of_memory).grad_memory(in.grad_memory, tau_of_memory);
  }
  to.grad_tau_q = in.tau_q, to.grad_tau_k = in.tau_k, to.grad_tau_v = in.tau_v;
  to.grad_slopes = in.slopes.constant(c.slopes ? 99 : 0);
  to.grad_sinks = in.sinks.constant(c.sinks ? 99 : 0);
  return when(c.temperatures, query_temperature(in.tau_q).grad(to.grad_tau_q)) |
         when(c.temperatures, key_temperature(in.tau_k).grad(to.grad_tau_k)) |
         when(c.temperatures, value_temperature(in.tau_v).grad(to.grad_tau_v)) |
         when(c.positions, position_temperature({.alpha = 0.2}).grad(&to.grad_alpha)) | standard |
         when(c.cap > 0, softcap(c.cap)) | when(c.bias, bias(in.bias)) |
         when(c.slopes, alibi(in.slopes).grad(to.grad_slopes)) | when(c.causal, causal) |
         when(c.left < unbounded || c.right < unbounded, window(c.left, c.right)) |
         when(c.block > 0, block_span(std::max<Index>(c.block, 1), 1)) |
         when(c.documents, documents(in.documents)) | when(c.starts, starts(in.starts)) |
         when(c.sinks, sinks(in.sinks).grad(to.grad_sinks)) | when(c.selects, select);
}

template <class Forward, class Backward>
ShardedResults results_of(const ShardedCall& c, const ShardedInputs& in, Forward&& forward,
                          Backward&& backward) {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  ShardedResults to;
  to.out = in.grad_out.constant(nan), to.lse = in.grad_lse.constant(nan);
  to.grad_q = in.q.constant(nan), to.grad_k = in.k.constant(nan), to.grad_v = in.v.constant(nan);
  const auto variant = variant_of(c, in, to);
  const View<const double, 3> grad_lse =
      c.grad_lse ? View<const double, 3>(in.grad_lse) : View<const double, 3>();
  forward(variant, to);
  backward(variant, to, grad_lse);
  return to;
}

}  // namespace

ShardedResults in_one_process(const ShardedCall& call) {
  const ShardedInputs in(call);
  const Options all{.negligible = 0};
  return results_of(
      call, in,
      [&](const auto& variant, auto& to) {
        to.forward.work = forward(in.q, in.k, in.v, variant, to.out, to.lse, all);
      },
      [&](const auto& variant, auto& to, const auto& grad_lse) {
        to.backward.work = backward(in.q, in.k, in.v, variant, to.out, to.lse, in.grad_out,
                                    grad_lse, to.grad_q, to.grad_k, to.grad_v, all);
      });
}

ShardedResults on_one_rank(AnyGroup& group, const distributed::Sharding& sharding,
                           const ShardedCall& call, const Options& options) {
  const ShardedInputs in = ShardedInputs(call).of_rank(sharding, group.rank());
  return results_of(
      call, in,
      [&](const auto& variant, auto& to) {
        to.forward = distributed::forward(group, sharding, in.q, in.k, in.v, variant, to.out,
                                          to.lse, options);
      },
      [&](const auto& variant, auto& to, const auto& grad_lse) {
        to.backward =
            distributed::backward(group, sharding, in.q, in.k, in.v, variant, to.out, to.lse,
                                  in.grad_out, grad_lse, to.grad_q, to.grad_k, to.grad_v, options);
      });
}

void expect_rows(const ShardedResults& of_rank, const ShardedResults& whole,
                 const distributed::Sharding& sharding, int rank, const std::string& what) {
  each_token_result(of_rank, whole,
                    [&](const char* name, int axis, const auto& got, const auto& all) {
                      if (all.size() == 0) return;
                      EXPECT_TRUE(close(got, cut(all, sharding, rank, axis)))
                          << name << " of rank " << rank << ", " << what;
                    });
}

void expect_shared(const ShardedResults& sums, const ShardedResults& whole,
                   const std::string& what) {
  // Sums over all pairs, of either sign.
  EXPECT_TRUE(close(sums.grad_slopes, whole.grad_slopes, 1e-11)) << "slopes, " << what;
  EXPECT_TRUE(close(sums.grad_sinks, whole.grad_sinks)) << "sinks, " << what;
  EXPECT_NEAR(sums.grad_alpha, whole.grad_alpha, 1e-11 * std::max(1., std::abs(whole.grad_alpha)))
      << what;
}

void add_shared(ShardedResults& sums, const ShardedResults& share) {
  const auto add = [](Tensor<double, 1>& to, const Tensor<double, 1>& x) {
    if (to.size() == 0)
      to = x;
    else
      to += x;
  };
  add(sums.grad_slopes, share.grad_slopes), add(sums.grad_sinks, share.grad_sinks);
  sums.grad_alpha += share.grad_alpha;
}

std::vector<Index> uneven_bounds(Index tokens, int chunks, std::uint64_t seed) {
  Random random(seed);
  std::vector<Index> bounds{0, tokens};
  while (int(bounds.size()) < chunks + 1)
    bounds.push_back(random.uniform() < 0.3 ? bounds.back() : random.integer(0, tokens + 1));
  std::sort(bounds.begin(), bounds.end());
  return bounds;
}

std::vector<std::pair<std::string, ShardedCall>> sharded_calls(Index tokens) {
  std::vector<std::pair<std::string, ShardedCall>> all;
  const Shape shape{.batch = 2,
                    .heads = 4,
                    .key_heads = 2,
                    .queries = tokens,
                    .keys = tokens,
                    .dim = 5,
                    .value_dim = 7};
  const auto add = [&](const std::string& name, auto&& change) {
    ShardedCall c{.shape = shape, .seed = std::uint64_t(all.size()) + 1};
    change(c);
    all.emplace_back(name, c);
  };
  add("standard", [](auto& c) { c.causal = false; });
  add("causal, loss on lse", [](auto& c) { c.grad_lse = true; });
  add("window", [](auto& c) { c.left = 11; });
  add("window ahead", [](auto& c) { c.causal = false, c.left = 5, c.right = 9; });
  add("block span", [](auto& c) { c.block = 9; });
  add("documents, alibi", [](auto& c) { c.documents = c.slopes = true; });
  add("temperatures, cap, sinks",
      [](auto& c) { c.temperatures = c.positions = c.sinks = c.grad_lse = true, c.cap = 2; });
  add("starts", [](auto& c) { c.starts = c.positions = c.sinks = true; });
  add("selective", [](auto& c) { c.selects = true; });
  add("selective that forgets", [](auto& c) { c.selects = true, c.amplitude = 4; });
  add("selective, memory", [](auto& c) { c.selects = c.memory = c.grad_lse = true; });
  add("selective, alibi, temperatures", [](auto& c) {
    c.selects = c.slopes = c.temperatures = c.positions = true, c.cap = 3, c.select.head = 3;
  });
  add("selective, documents, memory, sinks",
      [](auto& c) { c.selects = c.memory = c.documents = c.sinks = true; });
  add("selective, starts, window",
      [](auto& c) { c.selects = c.starts = c.memory = true, c.left = 25; });
  add("selective, block span", [](auto& c) { c.selects = true, c.block = 13; });
  add("selective, other options", [](auto& c) {
    c.selects = true;
    c.select = {
        .head = 1, .relu = false, .protect_first = false, .forbid_self = false, .shift = false};
  });
  add("no batch entries", [](auto& c) { c.shape.batch = 0, c.selects = c.sinks = true; });
  return all;
}

}  // namespace heed::test
