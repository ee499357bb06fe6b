// SPDX-License-Identifier: MIT
#include "composition.hpp"

#include <algorithm>
#include <cmath>

namespace compare {
namespace {

using Tensor = bench::Tensor<float, 4>;
using Row = Eigen::RowVectorXf;

/// One head of x [1, H, N, D].
Eigen::Map<const Matrix> head(const Tensor& x, Index h) {
  const Index rows = x.dimension(2), dim = x.dimension(3);
  return {x.data() + h * rows * dim, rows, dim};
}

/// What every job has: q scaled, so that scores need not be.
class Composed : public Job {
 public:
  Composed(const Inputs& inputs, Steps& steps)
      : x_(inputs), steps_(steps), q_(inputs.q.dimensions()), out_(inputs.q.dimensions()) {}

  Results results() const override { return {{out_.data(), out_.data() + out_.size()}}; }

 protected:
  void scale() { q_ = x_.q * float(1 / std::sqrt(double(x_.what.dim))); }
  /// Rows [first, first + count) of one head's queries or outputs.
  Eigen::Map<Matrix> rows_of(Tensor& x, Index h, Index first, Index count) const {
    const Index rows = x.dimension(2), dim = x.dimension(3);
    return {x.data() + (h * rows + first) * dim, count, dim};
  }

  const Inputs& x_;
  Steps& steps_;
  Tensor q_, out_;
};

/// Causal attention, selective or not.
class Prefill : public Composed {
 public:
  Prefill(const Inputs& inputs, Steps& steps, Index rows_at_once)
      : Composed(inputs, steps),
        block_(rows_at_once == whole ? inputs.what.tokens
                                     : std::min(rows_at_once, inputs.what.tokens)),
        scores_(block_ * inputs.what.tokens) {
    if (inputs.what.selects()) votes_ = masked_ = scores_;
  }

  void run() override {
    scale();
    sum_ = Row::Zero(x_.what.tokens);
    for (Index first = 0; first < x_.what.tokens; first += block_)
      rows(first, std::min(block_, x_.what.tokens - first));
  }

 private:
  /// Without gaps between its rows, which oneDNN's softmax wants.
  using Square = Eigen::Map<Matrix>;

  void rows(Index first, Index count) {
    const Index keys = first + count;
    const bool selects = x_.what.selects();
    Square s(scores_.data(), count, keys), votes(votes_.data(), count, keys),
        masked(masked_.data(), count, keys);
    if (selects) select(first, votes, masked);
    for (Index h = 0; h < x_.what.heads; ++h) {
      if (selects && h == 0)
        s = votes - masked;
      else
        steps_.scores(rows_of(q_, h, first, count), head(x_.k, h).topRows(keys), s);
      if (selects && h > 0) s -= masked;
      steps_.softmax(s, first + 1);
      steps_.mix(s, head(x_.v, h).topRows(keys), rows_of(out_, h, first, count));
    }
  }

  /// Head 0's scores, and F of these rows: no row votes against the first token or itself.
  void select(Index first, Square& votes, Square& masked) {
    const Index count = votes.rows(), keys = votes.cols();
    steps_.scores(rows_of(q_, 0, first, count), head(x_.k, 0).topRows(keys), votes);
    for (Index r = 0; r < count; ++r) {
      masked.row(r) = sum_.head(keys);
      if (const Index others = first + r - 1; others > 0)
        sum_.segment(1, others) += votes.row(r).segment(1, others).cwiseMax(0);
    }
  }

  Index block_;
  Row scores_, votes_, masked_;
  Row sum_;
};

/// One query a head over all keys; those that share keys are rows of one matrix.
class Decode : public Composed {
 public:
  Decode(const Inputs& inputs, Steps& steps)
      : Composed(inputs, steps), scores_(group(), inputs.what.tokens) {}

  void run() override {
    scale();
    for (Index g = 0; g < x_.what.key_heads; ++g) {
      const Index first = g * group();
      Eigen::Map<Matrix> q(&q_(0, first, 0, 0), group(), x_.what.dim),
          out(&out_(0, first, 0, 0), group(), x_.what.dim);
      steps_.scores(q, head(x_.k, g), scores_);
      steps_.softmax(scores_, x_.what.tokens);
      steps_.mix(scores_, head(x_.v, g), out);
    }
  }

 private:
  Index group() const { return x_.what.heads / x_.what.key_heads; }

  Matrix scores_;
};

/// Appends token after token to K slots; each evicts the most masked token.
class Forget : public Composed {
 public:
  Forget(const Inputs& inputs, Steps& steps)
      : Composed(inputs, steps),
        positions_(inputs.held.positions),
        masked_(Row::Map(inputs.held.masked.data(), inputs.what.budget)),
        scores_(1, inputs.what.budget),
        keys_(std::size_t(inputs.what.heads), Matrix(inputs.what.budget, inputs.what.dim)),
        values_(keys_) {
    out_.resize(1, x_.what.heads, 1, x_.what.dim);
    for (Index slot = 0; slot < x_.what.budget; ++slot) place(slot, positions_[std::size_t(slot)]);
    scale();
  }

  void run() override {
    const Index token = x_.what.tokens + next_++ % Inputs::coming, slot = most_masked();
    place(slot, token);
    positions_[std::size_t(slot)] = token;
    masked_[slot] = 0;
    for (Index h = 0; h < x_.what.heads; ++h) {
      steps_.scores(rows_of(q_, h, token, 1), keys_[std::size_t(h)], scores_);
      if (h == 0) votes_ = scores_.cwiseMax(0);
      scores_ -= masked_;
      steps_.softmax(scores_, x_.what.budget);
      steps_.mix(scores_, values_[std::size_t(h)], rows_of(out_, h, 0, 1));
    }
    votes_[slot] = 0;
    if (const Index first = slot_of_first(); first >= 0) votes_[first] = 0;
    masked_ += votes_;
  }

 private:
  void place(Index slot, Index token) {
    for (Index h = 0; h < x_.what.heads; ++h) {
      keys_[std::size_t(h)].row(slot) = head(x_.k, h).row(token);
      values_[std::size_t(h)].row(slot) = head(x_.v, h).row(token);
    }
  }
  /// −1: the first token is not held.
  Index slot_of_first() const {
    const auto at = std::ranges::find(positions_, Index(0));
    return at == positions_.end() ? -1 : at - positions_.begin();
  }
  Index most_masked() const {
    Row candidates = masked_;
    if (const Index first = slot_of_first(); first >= 0) candidates[first] = -1;
    Index slot = 0;
    candidates.maxCoeff(&slot);
    return slot;
  }

  std::vector<Index> positions_;
  Row masked_, votes_;
  Matrix scores_;
  std::vector<Matrix> keys_, values_;
  Index next_ = 0;
};

class Composition : public Contender {
 public:
  Composition(std::unique_ptr<Steps> steps, Index rows_at_once)
      : steps_(std::move(steps)), rows_at_once_(rows_at_once) {}

  std::string name() const override {
    return steps_->name() +
           (rows_at_once_ == whole ? "" : ", " + std::to_string(rows_at_once_) + " rows");
  }
  std::string version() const override { return steps_->version(); }
  std::unique_ptr<Job> prepare(const Inputs& x) override {
    if (x.what.trains() || (x.what.decodes() && rows_at_once_ != whole)) return nullptr;
    if (x.what.kind == Kind::decode) return std::make_unique<Decode>(x, *steps_);
    if (x.what.kind == Kind::forgetting) return std::make_unique<Forget>(x, *steps_);
    return std::make_unique<Prefill>(x, *steps_, rows_at_once_);
  }

 private:
  std::unique_ptr<Steps> steps_;
  Index rows_at_once_;
};

}  // namespace

std::unique_ptr<Contender> composition(std::unique_ptr<Steps> (&steps)(), Index rows_at_once) {
  return std::make_unique<Composition>(steps(), rows_at_once);
}

}  // namespace compare
