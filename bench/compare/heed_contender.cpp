// SPDX-License-Identifier: MIT
#include "heed_contender.hpp"

#include "heed/core/thread_pool.hpp"
#include "heed/heed.hpp"

#include <string>

namespace compare {
namespace {

using heed::causal, heed::selective, heed::standard;
using Tensor = bench::Tensor<float, 4>;

std::vector<float> numbers(const Tensor& x) {
  return {x.data(), x.data() + x.size()};
}

/// The threads of a job, and memory that is kept between its calls.
struct Means {
  explicit Means(int threads, Forgotten forgotten) : pool(threads) {
    options.workspace = &workspace;
    if (threads > 1) options.executor = heed::executor(pool);
    if (forgotten == Forgotten::computed) options.negligible = 0;
  }
  Means(const Means&) = delete;
  Means& operator=(const Means&) = delete;

  Eigen::ThreadPool pool;
  heed::Workspace workspace;
  heed::Options options;
};

/// forward(), and backward() where the case trains.
template <class Variant>
class Pass : public Job {
 public:
  Pass(const Inputs& inputs, const Variant& variant, int threads, Forgotten forgotten)
      : x_(inputs), variant_(variant), means_(threads, forgotten), out_(inputs.q.dimensions()) {
    if (!inputs.what.trains()) return;
    lse_.resize(1, inputs.what.heads, inputs.what.tokens);
    grad_q_ = Tensor(inputs.q.dimensions());
    grad_k_ = Tensor(inputs.k.dimensions());
    grad_v_ = Tensor(inputs.v.dimensions());
  }

  void run() override {
    if (!x_.what.trains()) {
      heed::forward(x_.q, x_.k, x_.v, variant_, out_, means_.options);
      return;
    }
    heed::forward(x_.q, x_.k, x_.v, variant_, out_, lse_, means_.options);
    heed::backward(x_.q, x_.k, x_.v, variant_, out_, lse_, x_.grad_out, grad_q_, grad_k_, grad_v_,
                   means_.options);
  }

  Results results() const override {
    if (!x_.what.trains()) return {numbers(out_)};
    return {numbers(out_), numbers(grad_q_), numbers(grad_k_), numbers(grad_v_)};
  }

 private:
  const Inputs& x_;
  Variant variant_;
  Means means_;
  Tensor out_, grad_q_, grad_k_, grad_v_;
  bench::Tensor<float, 3> lse_;
};

/// Tokens `first` … of x [1, heads, N, D].
heed::View<const float, 4> tokens(const Tensor& x, Index first, Index count) {
  const Index heads = x.dimension(1), all = x.dimension(2), dim = x.dimension(3);
  return {x.data() + first * dim,
          {1, heads, count, dim},
          {heads * all * dim, all * dim, dim, Index(1)}};
}

/// A buffer of the case's size. Without selection it evicts its oldest token, so that every
/// step attends to the same number of keys.
heed::KvBuffer<float> buffer_for(const Case& what) {
  heed::KvOptions options;
  options.budget = what.keys();
  if (what.kind == Kind::decode) {
    options.evict = heed::Evict::oldest;
    options.select.reset();
    options.protect.clear();
    // For read(). With many rows a chunk, heads that share keys would read them one by one.
    options.chunk = 16;
  }
  return {{1, what.heads, what.key_heads, what.dim, what.dim}, options};
}

using Dims4 = Tensor::Dimensions;

/// Reads the first tokens of a text. If the case has only one query, the others are zero.
void read(heed::KvBuffer<float>& buffer, const Inputs& x, Index count) {
  Tensor out(1, x.what.heads, count, x.what.dim), q = out.constant(0);
  if (x.q.dimension(2) >= count) q = x.q.slice(Dims4{}, Dims4(out.dimensions()));
  buffer.step(q, tokens(x.k, 0, count), tokens(x.v, 0, count), standard, out);
}

/// A token through a KvBuffer: the last key's again and again, or those that come after N.
class Step : public Job {
 public:
  Step(const Inputs& inputs, int threads)
      : x_(inputs),
        pool_(threads),
        buffer_(buffer_for(inputs.what)),
        out_(1, inputs.what.heads, 1, inputs.what.dim) {
    if (threads > 1) options_.executor = heed::executor(pool_);
    read(buffer_, x_, first());
  }

  void run() override {
    const Index at = forgets() ? first() + next_++ % Inputs::coming : first();
    buffer_.step(tokens(x_.q, forgets() ? at : 0, 1), tokens(x_.k, at, 1), tokens(x_.v, at, 1),
                 standard, out_, options_);
  }

  Results results() const override { return {numbers(out_)}; }

 private:
  bool forgets() const { return x_.what.kind == Kind::forgetting; }
  /// The first token that run() takes.
  Index first() const { return forgets() ? x_.what.tokens : x_.what.tokens - 1; }

  const Inputs& x_;
  Eigen::ThreadPool pool_;
  heed::KvBuffer<float> buffer_;
  heed::KvBuffer<float>::Step options_;
  Tensor out_;
  Index next_ = 0;
};

class Heed : public Contender {
 public:
  Heed(Forgotten forgotten, int threads) : forgotten_(forgotten), threads_(threads) {}

  std::string name() const override {
    return forgotten_ == Forgotten::computed ? "heed, all pairs" : "heed";
  }
  std::string version() const override {
    return std::to_string(HEED_VERSION_MAJOR) + "." + std::to_string(HEED_VERSION_MINOR) + "." +
           std::to_string(HEED_VERSION_PATCH);
  }
  std::unique_ptr<Job> prepare(const Inputs& x) override {
    if (forgotten_ == Forgotten::computed && !x.what.selects()) return nullptr;
    if (x.what.decodes()) return std::make_unique<Step>(x, threads_);
    if (x.what.selects()) return pass(x, standard | causal | selective);
    return pass(x, standard | causal);
  }

 private:
  template <class Variant>
  std::unique_ptr<Job> pass(const Inputs& x, const Variant& variant) const {
    return std::make_unique<Pass<Variant>>(x, variant, threads_, forgotten_);
  }

  Forgotten forgotten_;
  int threads_;
};

}  // namespace

std::unique_ptr<Contender> heed_contender(Forgotten forgotten, int threads) {
  return std::make_unique<Heed>(forgotten, threads);
}

Held held_after(const Inputs& inputs) {
  heed::KvBuffer<float> buffer = buffer_for(inputs.what);
  read(buffer, inputs, inputs.what.tokens);
  Held held;
  for (const heed::KvToken<float>& token : buffer.sequence(0).held())
    held.positions.push_back(token.position), held.masked.push_back(token.f);
  return held;
}

}  // namespace compare
