// SPDX-License-Identifier: MIT
#include "steps.hpp"

#include <array>
#include <limits>
#include <map>
#include <oneapi/dnnl/dnnl.hpp>

namespace compare {
namespace {

using dnnl::memory;
using Desc = memory::desc;

Desc desc(Index rows, Index cols, Index stride, bool transposed = false) {
  using Strides = memory::dims;
  return transposed ? Desc({cols, rows}, memory::data_type::f32, Strides{1, stride})
                    : Desc({rows, cols}, memory::data_type::f32, Strides{stride, 1});
}

// The interface of versions 2 and 3.
#if DNNL_VERSION_MAJOR < 3
dnnl::matmul matmul(const dnnl::engine& engine, const Desc& a, const Desc& b, const Desc& c) {
  return dnnl::matmul({{a, b, c}, engine});
}
dnnl::primitive softmax_of_rows(const dnnl::engine& engine, const Desc& x) {
  using Softmax = dnnl::softmax_forward;
  return Softmax({{dnnl::prop_kind::forward_inference, x, 1}, engine});
}
#else
dnnl::matmul matmul(const dnnl::engine& engine, const Desc& a, const Desc& b, const Desc& c) {
  return dnnl::matmul({engine, a, b, c});
}
dnnl::primitive softmax_of_rows(const dnnl::engine& engine, const Desc& x) {
  using Softmax = dnnl::softmax_forward;
  return Softmax(
      {engine, dnnl::prop_kind::forward_inference, dnnl::algorithm::softmax_accurate, x, x, 1});
}
#endif

/// Primitives are made for one shape, and kept.
class OneDnnSteps : public Steps {
 public:
  std::string name() const override { return "oneDNN"; }
  std::string version() const override {
    const dnnl_version_t* v = dnnl_version();
    return std::to_string(v->major) + "." + std::to_string(v->minor) + "." +
           std::to_string(v->patch);
  }

  void scores(const ConstBlock& q, const ConstBlock& k, Block s) override {
    product(q, k, true, s);
  }
  void softmax(Block s, Index visible) override {
    for (Index r = 0; visible + r < s.cols() && r < s.rows(); ++r)
      s.row(r).tail(s.cols() - visible - r).setConstant(-std::numeric_limits<float>::infinity());
    const Desc all = desc(s.rows(), s.cols(), s.outerStride());
    const auto [at, made] = softmaxes_.try_emplace({s.rows(), s.cols(), s.outerStride()});
    if (made) at->second = softmax_of_rows(engine_, all);
    const memory x(all, engine_, s.data());
    at->second.execute(stream_, {{DNNL_ARG_SRC, x}, {DNNL_ARG_DST, x}});
    stream_.wait();
  }
  void mix(const ConstBlock& weights, const ConstBlock& v, Block out) override {
    product(weights, v, false, out);
  }

 private:
  void product(const ConstBlock& a, const ConstBlock& b, bool transposed, Block c) {
    const Desc da = desc(a.rows(), a.cols(), a.outerStride()),
               db = desc(b.rows(), b.cols(), b.outerStride(), transposed),
               dc = desc(c.rows(), c.cols(), c.outerStride());
    const auto [at, made] =
        products_.try_emplace({a.rows(), a.cols(), a.outerStride(), b.rows(), b.cols(),
                               b.outerStride(), c.outerStride(), Index(transposed)});
    if (made) at->second = matmul(engine_, da, db, dc);
    const auto of = [&](const Desc& d, const float* data) {
      return memory(d, engine_, const_cast<float*>(data));
    };
    at->second.execute(stream_, {{DNNL_ARG_SRC, of(da, a.data())},
                                 {DNNL_ARG_WEIGHTS, of(db, b.data())},
                                 {DNNL_ARG_DST, of(dc, c.data())}});
    stream_.wait();
  }

  dnnl::engine engine_{dnnl::engine::kind::cpu, 0};
  dnnl::stream stream_{engine_};
  std::map<std::array<Index, 8>, dnnl::primitive> products_;
  std::map<std::array<Index, 3>, dnnl::primitive> softmaxes_;
};

}  // namespace

std::unique_ptr<Steps> onednn_steps() {
  return std::make_unique<OneDnnSteps>();
}

}  // namespace compare
