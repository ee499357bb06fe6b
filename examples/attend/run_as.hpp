// SPDX-License-Identifier: MIT
/// @file
/// run() itself, for run_float.cpp and run_double.cpp, which compile side by side.
#pragma once

#include "attend/run.hpp"
#include "heed/core/thread_pool.hpp"
#include "heed/heed.hpp"

#include <algorithm>
#include <chrono>
#include <cmath>

namespace attend {

/// The variant a request describes: one type for every request, each stage there or not. What its
/// stages write goes to the result's tensors, as far as there are any.
template <class T>
auto variant_of(const Request& r, const Inputs& in, Result& to) {
  using heed::when;
  const WindowSides sides = r.window.value_or(WindowSides{});
  return when(r.query_offset.has_value(), heed::query_offset(r.query_offset.value_or(0))) |
         when(in.tau_q.has_value(),
              heed::query_temperature(view<T, 3>(in.tau_q)).grad(writable<T, 3>(to.grad_tau_q))) |
         when(in.tau_k.has_value(),
              heed::key_temperature(view<T, 3>(in.tau_k)).grad(writable<T, 3>(to.grad_tau_k))) |
         when(in.tau_v.has_value(),
              heed::value_temperature(view<T, 3>(in.tau_v)).grad(writable<T, 3>(to.grad_tau_v))) |
         when(!r.scale, heed::standard) |
         when(r.scale.has_value(), heed::scaled(r.scale.value_or(1))) |
         when(r.softcap.has_value(), heed::softcap(r.softcap.value_or(1))) |
         when(in.bias.has_value(),
              heed::bias(view<T, 4>(in.bias)).grad(writable<T, 4>(to.grad_bias))) |
         when(r.alibi, heed::alibi()) |
         // A prefix widens what the causal mask shows, so it stands in its place.
         when(r.causal && !r.prefix, heed::causal) |
         when(r.prefix.has_value(), heed::prefix_lm(r.prefix.value_or(0))) |
         when(r.window.has_value(), heed::window(sides.left, sides.right)) |
         when(r.block.has_value(), heed::block_span(r.block.value_or(1), r.previous_blocks)) |
         when(in.lengths.has_value(), heed::lengths(view<std::int64_t, 1>(in.lengths))) |
         when(in.mask.has_value(), heed::boolean_mask(view<std::uint8_t, 4>(in.mask))) |
         when(in.sinks.has_value(), heed::sinks(view<T, 1>(in.sinks))) |
         when(r.selective, heed::selecting({.head = r.select_head})
                               .carry_in(view<T, 2>(in.carry_in))
                               .carry_out(writable<T, 2>(to.carry_out))
                               .mask_f(writable<T, 3>(to.mask_f))
                               .grad_carry_in(writable<T, 2>(to.grad_carry)));
}

/// How a request is timed: `work` as often as it says, the seconds of each.
template <class Work>
std::vector<double> timed(const Request& r, const Work& work) {
  using Clock = std::chrono::steady_clock;
  std::vector<double> seconds;
  for (Integer n = 0; n < r.repeat; ++n) {
    const Clock::time_point start = Clock::now();
    work();
    seconds.push_back(std::chrono::duration<double>(Clock::now() - start).count());
  }
  return seconds;
}

/// Bytes of so many tokens' keys, values and F.
template <class T>
heed::Index bytes_of(const Request& r, const heed::View<const T, 4>& k,
                     const heed::View<const T, 4>& v, heed::Index tokens) {
  const heed::Index numbers = k.dim(1) * (k.dim(3) + v.dim(3)) + (r.selective ? 1 : 0);
  return k.dim(0) * tokens * numbers * heed::Index(sizeof(T));
}

/// Zeros of the shape and type of an input whose gradient is asked for.
inline void prepare(const Path& asked, const std::optional<NamedArray>& of,
                    std::optional<npy::Array>& gradient) {
  if (!asked.empty()) gradient = npy::zeros(of->array.type, of->array.shape);
}

/// The whole sequence at once.
template <class T>
Result run_whole(const Request& r, const Inputs& in, const heed::Options& options) {
  const auto q = view<T, 4>(in.q), k = view<T, 4>(in.k), v = view<T, 4>(in.v);
  const char* places = r.prefix ? "--prefix" : r.causal ? "--causal" : nullptr;
  if (places && !r.query_offset && q.dim(2) != k.dim(2))
    throw UsageError(std::string(places) + ": q has " + std::to_string(q.dim(2)) + " rows, k has " +
                     std::to_string(k.dim(2)) + "; say where they sit: --query-offset N");
  const Integer batch = q.dim(0), heads = q.dim(1), rows = q.dim(2), keys = k.dim(2);
  const npy::Type type = npy::type_of<T>();
  Result result;
  result.out = npy::zeros(type, {batch, heads, rows, v.dim(3)});
  if (!r.lse.empty() || in.grad_out) result.lse = npy::zeros(type, {batch, heads, rows});
  if (!r.carry_out.empty()) result.carry_out = npy::zeros(type, {batch, keys});
  if (!r.mask_f.empty()) result.mask_f = npy::zeros(type, {batch, rows, keys});
  prepare(r.grad_tau_q, in.tau_q, result.grad_tau_q);
  prepare(r.grad_tau_k, in.tau_k, result.grad_tau_k);
  prepare(r.grad_tau_v, in.tau_v, result.grad_tau_v);
  prepare(r.grad_bias, in.bias, result.grad_bias);
  prepare(r.grad_carry, in.carry_in, result.grad_carry);

  const auto variant = variant_of<T>(r, in, result);
  heed::WorkStats visited;
  result.seconds = timed(r, [&] {
    visited = heed::forward(q, k, v, variant, writable<T, 4>(result.out),
                            writable<T, 3>(result.lse), options);
  });
  result.pairs = visited.pairs;
  result.operations = 2. * double(k.dim(3) + v.dim(3)) * double(visited.pairs);
  result.tokens = k.dim(2);
  result.held_bytes = bytes_of<T>(r, k, v, k.dim(2));
  if (!in.grad_out) return result;

  result.grad_q = npy::zeros(type, in.q.array.shape);
  result.grad_k = npy::zeros(type, in.k.array.shape);
  result.grad_v = npy::zeros(type, in.v.array.shape);
  heed::backward(q, k, v, variant, writable<T, 4>(result.out), writable<T, 3>(result.lse),
                 view<T, 4>(in.grad_out), writable<T, 4>(result.grad_q),
                 writable<T, 4>(result.grad_k), writable<T, 4>(result.grad_v), options);
  return result;
}

/// x[b, g, j] · tau[b, g, j]: what a stage would do, where the buffer takes none that reads keys by
/// index. Without a temperature, x as it is.
template <class T>
class Tempered {
 public:
  Tempered(const char* what, const heed::View<const T, 4>& x, const heed::View<const T, 3>& tau)
      : view_(x) {
    if (!tau) return;
    heed::expect_dims(what, tau.dims(), {x.dim(0), tau.dim(1) == 1 ? 1 : x.dim(1), x.dim(2)},
                      "one per token, per key head or shared by them");
    for (heed::Index b = 0; b < x.dim(0); ++b)
      for (heed::Index g = 0; g < x.dim(1); ++g)
        for (heed::Index j = 0; j < x.dim(2); ++j)
          for (heed::Index d = 0; d < x.dim(3); ++d)
            product_.push_back(tau(b, tau.dim(1) == 1 ? 0 : g, j) * x(b, g, j, d));
    view_ = {product_.data(), x.dims()};
  }
  const heed::View<const T, 4>& view() const { return view_; }

 private:
  std::vector<T> product_;
  heed::View<const T, 4> view_;
};

inline heed::KvOptions buffer_options(const Request& r) {
  heed::KvOptions options;
  options.budget = r.budget;
  switch (r.evict) {
    case Evict::most_masked:
      options.evict = heed::most_masked;
      break;
    case Evict::heavy_hitters:
      options.evict = heed::heavy_hitters;
      break;
    case Evict::least_attended_last:
      options.evict = heed::least_attended_last;
      break;
    case Evict::oldest:
      options.evict = heed::oldest;
      break;
    case Evict::key_difference:
      options.evict = heed::key_difference;
      break;
    case Evict::snap:
      options.evict = heed::snap;
      break;
  }
  options.select = heed::SelectOptions{.head = r.select_head};
  options.chunk = r.chunk;
  return options;
}

/// Through a buffer of so many tokens.
template <class T>
Result run_pruned(const Request& r, const Inputs& in, const heed::Executor& executor) {
  using heed::when;
  const auto q = view<T, 4>(in.q);
  const Tempered<T> k("tau-k", view<T, 4>(in.k), view<T, 3>(in.tau_k));
  const Tempered<T> v("tau-v", view<T, 4>(in.v), view<T, 3>(in.tau_v));
  const Integer batch = q.dim(0), heads = q.dim(1), rows = q.dim(2);
  const npy::Type type = npy::type_of<T>();
  Result result;
  result.out = npy::zeros(type, {batch, heads, rows, v.view().dim(3)});
  if (!r.lse.empty()) result.lse = npy::zeros(type, {batch, heads, rows});
  if (!r.evict_row.empty()) {
    result.evict_row = npy::zeros(npy::Type::int64, {batch, rows});
    std::ranges::fill(result.evict_row->template values<std::int64_t>(), rows);
  }

  const auto variant = when(in.tau_q.has_value(), heed::query_temperature(view<T, 3>(in.tau_q))) |
                       when(!r.scale, heed::standard) |
                       when(r.scale.has_value(), heed::scaled(r.scale.value_or(1))) |
                       when(r.softcap.has_value(), heed::softcap(r.softcap.value_or(1))) |
                       when(r.alibi, heed::alibi()) |
                       when(in.sinks.has_value(), heed::sinks(view<T, 1>(in.sinks)));
  heed::KvBuffer<T> buffer({.batch = q.dim(0),
                            .heads = q.dim(1),
                            .key_heads = k.view().dim(1),
                            .dim = k.view().dim(3),
                            .value_dim = v.view().dim(3)},
                           buffer_options(r));
  typename heed::KvBuffer<T>::Step step;
  step.lse = writable<T, 3>(result.lse);
  step.tokens = view<std::int64_t, 1>(in.lengths);
  step.evict_row = writable<std::int64_t, 2>(result.evict_row);
  step.executor = executor;
  heed::WorkStats visited;
  result.seconds = timed(r, [&] {
    for (heed::Index b = 0; b < q.dim(0); ++b) buffer.clear(b);
    visited = buffer.step(q, k.view(), v.view(), variant, writable<T, 4>(result.out), step);
  });
  result.pairs = visited.pairs;
  result.operations = 2. * double(q.dim(3) + v.view().dim(3)) * double(visited.pairs);
  result.tokens = rows;
  result.held_bytes = bytes_of<T>(r, k.view(), v.view(), std::min(*r.budget, rows));
  result.buffer_bytes = heed::Index(buffer.bytes());
  return result;
}

template <class T>
Result run(const Request& r, const Inputs& in) {
  std::optional<Eigen::ThreadPool> pool;
  if (r.threads > 1) pool.emplace(int(r.threads));
  heed::Workspace workspace;
  heed::Options options;
  if (pool) options.executor = heed::executor(*pool);
  options.workspace = &workspace;
  if (!r.budget) return run_whole<T>(r, in, options);

  Result result = run_pruned<T>(r, in, options.executor);
  if (!r.mask_f.empty() || !r.carry_out.empty()) {
    // F depends on no eviction, so the whole sequence tells it, of evicted keys as well.
    Request once = r;
    once.repeat = 1;
    once.lse.clear();
    Result whole = run_whole<T>(once, in, options);
    result.mask_f = std::move(whole.mask_f);
    result.carry_out = std::move(whole.carry_out);
  }
  return result;
}

}  // namespace attend
