// SPDX-License-Identifier: MIT
#include "torch_contender.hpp"

#include "torch/composed.hpp"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <ATen/core/grad_mode.h>
#include <cmath>
#include <stdexcept>
#include <torch/csrc/autograd/autograd.h>
#include <torch/version.h>

namespace compare {
namespace {

/// The numbers of x, seen, not copied.
at::Tensor seen(const bench::Tensor<float, 4>& x) {
  const auto& d = x.dimensions();
  return at::from_blob(const_cast<float*>(x.data()), {d[0], d[1], d[2], d[3]});
}

std::vector<float> numbers(const at::Tensor& x) {
  const at::Tensor c = x.contiguous();
  const float* data = c.data_ptr<float>();
  return {data, data + c.numel()};
}

/// Attention of q [1, H, N, D] to k and v, differentiable.
class Attention {
 public:
  explicit Attention(const Case& what) : what_(what) {}
  virtual ~Attention() = default;
  virtual at::Tensor operator()(const at::Tensor& q, const at::Tensor& k,
                                const at::Tensor& v) const = 0;

 protected:
  bool causal() const { return !what_.decodes(); }
  const Case& what_;
};

class ComposedAttention : public Attention {
 public:
  explicit ComposedAttention(const Case& what) : Attention(what) {
    if (causal()) hidden_ = at::full({what.tokens, what.tokens}, -INFINITY).triu(1);
  }
  at::Tensor operator()(const at::Tensor& q, const at::Tensor& k,
                        const at::Tensor& v) const override {
    if (what_.selects()) return heed_torch::composed_selective_attention(q, k, v);
    at::Tensor scores = at::matmul(q / std::sqrt(double(q.size(3))), k.transpose(2, 3));
    if (causal()) scores = scores + hidden_;
    return at::matmul(at::softmax(scores, 3), v);
  }

 private:
  at::Tensor hidden_;
};

#if TORCH_VERSION_MAJOR >= 2
class FusedAttention : public Attention {
 public:
  using Attention::Attention;
  at::Tensor operator()(const at::Tensor& q, const at::Tensor& k,
                        const at::Tensor& v) const override {
    return at::scaled_dot_product_attention(q, k, v, {}, 0, causal());
  }
};
#endif

class TorchJob : public Job {
 public:
  TorchJob(const Inputs& x, std::unique_ptr<Attention> attend)
      : what_(x.what), attend_(std::move(attend)), q_(seen(x.q)), k_(seen(x.k)), v_(seen(x.v)) {
    // Queries that share keys are rows of one matrix; of several tokens the mask would not allow
    // it.
    if (what_.decodes()) q_ = q_.view({1, what_.key_heads, -1, what_.dim});
    if (!what_.trains()) return;
    grad_out_ = seen(x.grad_out);
    for (at::Tensor* leaf : {&q_, &k_, &v_}) leaf->requires_grad_();
  }

  void run() override {
    if (what_.trains()) {
      const at::Tensor out = (*attend_)(q_, k_, v_);
      results_ = torch::autograd::grad({out}, {q_, k_, v_}, {grad_out_});
      results_.insert(results_.begin(), out.detach());
    } else {
      const at::NoGradGuard forward_alone;
      results_ = {(*attend_)(q_, k_, v_)};
    }
  }

  Results results() const override {
    Results all;
    for (const at::Tensor& x : results_) all.push_back(numbers(x));
    return all;
  }

 private:
  const Case& what_;
  std::unique_ptr<Attention> attend_;
  at::Tensor q_, k_, v_, grad_out_;
  std::vector<at::Tensor> results_;
};

/// @tparam A  an Attention made from a case.
template <class A>
class Torch : public Contender {
 public:
  Torch(const char* name, bool selects, int threads) : name_(name), selects_(selects) {
    if (at::get_num_threads() != threads)
      throw std::runtime_error("LibTorch has " + std::to_string(at::get_num_threads()) +
                               " threads");
  }
  std::string name() const override { return name_; }
  std::string version() const override { return TORCH_VERSION; }
  std::unique_ptr<Job> prepare(const Inputs& x) override {
    if (x.what.kind == Kind::forgetting || (x.what.selects() && !selects_)) return nullptr;
    return std::make_unique<TorchJob>(x, std::make_unique<A>(x.what));
  }

 private:
  const char* name_;
  bool selects_;
};

}  // namespace

std::unique_ptr<Contender> torch_composed(int threads) {
  return std::make_unique<Torch<ComposedAttention>>("LibTorch, composed", true, threads);
}

std::unique_ptr<Contender> torch_fused([[maybe_unused]] int threads) {
#if TORCH_VERSION_MAJOR >= 2
  return std::make_unique<Torch<FusedAttention>>("LibTorch, fused", false, threads);
#else
  return nullptr;
#endif
}

}  // namespace compare
