// SPDX-License-Identifier: MIT
#include "lm/model.hpp"

#include "heed/attention/rotary.hpp"
#include "heed/score/position_temperature.hpp"
#include "heed/score/standard.hpp"
#include "heed/score/when.hpp"

#include <cmath>
#include <numeric>

namespace lm {
namespace {

using Eigen::Index;

/// x / √(mean x² + ε) · weight, row by row.
template <class X, class Weight>
Matrix rms_norm(const X& x, const Weight& weight) {
  const auto scale =
      (x.array().square().rowwise().mean() + float(Config::norm_epsilon)).rsqrt().eval();
  return ((x.array().colwise() * scale).rowwise() * weight.array()).matrix();
}

/// The same of each head's numbers: x is [tokens, heads · D].
template <class Weight>
void norm_heads(Eigen::Ref<Matrix> x, const Weight& weight) {
  for (Index first = 0; first < x.cols(); first += weight.size())
    x.middleCols(first, weight.size()) =
        rms_norm(Matrix(x.middleCols(first, weight.size())), weight);
}

/// Columns [first, first + heads · D) of a matrix as [1, heads, tokens, D], no copy.
heed::View<float, 4> heads_of(Matrix& x, Index first, Index heads, Index dim) {
  return {x.data() + first, {1, heads, x.rows(), dim}, {x.size(), dim, x.cols(), 1}};
}

}  // namespace

Model::Model(const Checkpoint& checkpoint) : config_(checkpoint.config) {
  std::map<std::string, Shape> shapes;
  for (const Parameter& p : parameters(config_)) shapes[p.name] = p.shape;
  const auto matrix = [&](const std::string& name) -> Matrix {
    const Shape& shape = shapes.at(name);
    return Eigen::Map<const Matrix>(checkpoint.values.at(name).data(), shape[0],
                                    shape.size() > 1 ? shape[1] : 1);
  };
  const auto vector = [&](const std::string& name) -> Vector { return matrix(name).transpose(); };

  embedding_ = matrix("embedding");
  final_norm_ = vector("final_norm");
  for (std::int64_t l = 0; l < config_.layers; ++l) {
    const std::string prefix = "layers." + std::to_string(l) + ".";
    const auto temperature = [&](const std::string& name) {
      const double alpha = checkpoint.values.at(prefix + name + ".gain")[0];
      Temperature t{heed::Gain{heed::Gain::sigmoid, alpha}.value(), {}};
      if (config_.temperatures->token) t.feature = matrix(prefix + name + ".feature");
      return t;
    };
    Layer layer;
    layer.attention_norm = vector(prefix + "attention_norm");
    layer.feed_norm = vector(prefix + "feed_norm");
    if (config_.qk_norm) {
      layer.query_norm = vector(prefix + "query_norm");
      layer.key_norm = vector(prefix + "key_norm");
    }
    layer.qkv = matrix(prefix + "qkv");
    layer.attention_out = matrix(prefix + "attention_out");
    layer.gate_up = matrix(prefix + "gate_up");
    layer.down = matrix(prefix + "down");
    if (config_.temperatures) {
      layer.query_temperature = temperature("query_temperature");
      if (config_.temperatures->value) layer.value_temperature = temperature("value_temperature");
    }
    layers_.push_back(std::move(layer));
  }
}

/// @param x  [tokens, dim], what entered the layer.
/// @param heads  [tokens, heads · D], its queries or values.
/// @return [heads, tokens].
Matrix Model::temperature(const Temperature& of, const Matrix& x, Eigen::Ref<const Matrix> heads,
                          const std::vector<std::int64_t>& positions) const {
  Matrix tau = Matrix::Zero(config_.heads, x.rows());
  const Index dim = config_.head_dim;
  if (of.feature.size() > 0 && config_.temperatures->shared)
    for (Index h = 0; h < tau.rows(); ++h)
      tau.row(h).noalias() = of.feature.row(h) * heads.middleCols(h * dim, dim).transpose();
  else if (of.feature.size() > 0)
    tau.noalias() = of.feature * x.transpose();
  for (Index i = 0; i < tau.cols(); ++i) {
    const double place = 1 + of.gain * std::log(double(positions[std::size_t(i)] + 1));
    tau.col(i) = tau.col(i).array().tanh() + float(place);
  }
  return tau;
}

Matrix Model::attention(std::int64_t l, const Matrix& x, const std::vector<std::int64_t>& positions,
                        const Attend& attend) const {
  const Layer& layer = layers_[std::size_t(l)];
  const Index heads = config_.heads, dim = config_.head_dim, inner = heads * dim;
  Matrix qkv(x.rows(), 3 * inner);
  qkv.noalias() = x * layer.qkv.transpose();

  Matrix tau;
  if (layer.query_temperature)
    tau = temperature(*layer.query_temperature, x, qkv.leftCols(inner), positions);
  if (layer.value_temperature) {
    // A value's temperature is the same for all rows, so that the buffer can hold the product.
    const Matrix factor = temperature(*layer.value_temperature, x, qkv.rightCols(inner), positions);
    for (Index h = 0; h < heads; ++h)
      qkv.middleCols(2 * inner + h * dim, dim).array().colwise() *=
          factor.row(h).transpose().array();
  }
  if (config_.qk_norm) {
    norm_heads(qkv.leftCols(inner), layer.query_norm);
    norm_heads(qkv.middleCols(inner, inner), layer.key_norm);
  }
  heed::rotary(heads_of(qkv, 0, 2 * heads, dim), {.pairs = heed::RotaryOptions::interleaved,
                                                  .base = config_.rotary_base,
                                                  .positions = {positions.data(), {1, x.rows()}}});

  Matrix out(x.rows(), inner);
  attend(l,
         {heads_of(qkv, 0, heads, dim), heads_of(qkv, inner, heads, dim),
          heads_of(qkv, 2 * inner, heads, dim)},
         layer.query_temperature ? heed::View<const float, 3>(tau.data(), {1, heads, x.rows()})
                                 : heed::View<const float, 3>(),
         heads_of(out, 0, heads, dim));
  Matrix mixed(x.rows(), config_.dim);
  mixed.noalias() = out * layer.attention_out.transpose();
  return mixed;
}

void Model::read_rows(Bytes tokens, const std::vector<std::int64_t>& positions,
                      const Attend& attend, Eigen::Ref<Matrix> logits) const {
  const auto rows = Index(tokens.size());
  Matrix x(rows, config_.dim);
  for (Index i = 0; i < rows; ++i) x.row(i) = embedding_.row(tokens[std::size_t(i)]);
  for (std::int64_t l = 0; l < config_.layers; ++l) {
    const Layer& layer = layers_[std::size_t(l)];
    x += attention(l, rms_norm(x, layer.attention_norm), positions, attend);
    Matrix halves(rows, 2 * config_.hidden);
    halves.noalias() = rms_norm(x, layer.feed_norm) * layer.gate_up.transpose();
    const auto gate = halves.leftCols(config_.hidden).array();
    const Matrix gated =
        (gate / (1 + (-gate).exp()) * halves.rightCols(config_.hidden).array()).matrix();
    x.noalias() += gated * layer.down.transpose();
  }
  logits.noalias() = rms_norm(x, final_norm_) * embedding_.transpose();
}

Matrix Model::forward(Bytes tokens, Memory& memory, const Observer& observer) const {
  Matrix logits(Index(tokens.size()), Config::vocabulary);
  const Attend attend = [&](std::int64_t l, const Heads& heads, const auto& tau, const auto& out) {
    heed::KvBuffer<float>::Step step;
    if (observer) step = observer(l, heads);
    step.workspace = &memory.workspace();
    memory[l].step(heads.q, heads.k, heads.v,
                   heed::when(bool(tau), heed::query_temperature(tau)) | heed::standard, out, step);
  };
  for (std::size_t at = 0; at < tokens.size();) {
    const auto count = std::size_t(memory.next_piece(std::int64_t(tokens.size() - at)));
    std::vector<std::int64_t> positions(count);
    std::iota(positions.begin(), positions.end(), memory.position());
    read_rows(tokens.subspan(at, count), positions, attend,
              logits.middleRows(Index(at), Index(count)));
    memory.advance(std::int64_t(count));
    at += count;
  }
  return logits;
}

Matrix Model::forward(std::span<const Piece> pieces, SharedMemory& memory) const {
  std::vector<std::uint8_t> tokens;
  std::vector<std::int64_t> positions;
  for (const Piece& piece : pieces)
    for (std::size_t i = 0; i < piece.tokens.size(); ++i) {
      tokens.push_back(piece.tokens[i]);
      positions.push_back(piece.memory->next() + std::int64_t(i));
    }
  Matrix logits(Index(tokens.size()), Config::vocabulary);
  SharedStep step(memory, pieces);
  const Attend attend = [&](std::int64_t l, const Heads& heads, const auto&, const auto& out) {
    step.attend(l, heads, out);
  };
  read_rows(tokens, positions, attend, logits);
  return logits.topRows(step.rows());
}

}  // namespace lm
