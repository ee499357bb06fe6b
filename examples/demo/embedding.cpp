// SPDX-License-Identifier: MIT
#include "demo/embedding.hpp"

#include <Eigen/Eigenvalues>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <numbers>
#include <vector>

namespace demo {
namespace {

using Eigen::Index;
using Eigen::MatrixXd;
using Eigen::VectorXd;

constexpr double least_count = 5;  // of a word that serves as a context
constexpr Index reach = 5;         // in words, to either side

/// The words, most frequent first, so that the contexts are the first of them.
std::vector<std::string> by_frequency(const std::map<std::string, double>& counts) {
  std::vector<std::string> words;
  for (const auto& [word, count] : counts) words.push_back(word);
  std::ranges::stable_sort(words, std::greater(), [&](const auto& w) { return counts.at(w); });
  return words;
}

/// Positive pointwise mutual information, words × contexts.
MatrixXd mutual_information(const std::vector<Index>& text, Index words, Index contexts) {
  MatrixXd near = MatrixXd::Zero(words, contexts);
  const Index length = Index(text.size());
  for (Index i = 0; i < length; ++i)
    for (Index j = std::max<Index>(0, i - reach); j <= std::min(length - 1, i + reach); ++j)
      if (const Index context = text[std::size_t(j)]; j != i && context < contexts)
        near(text[std::size_t(i)], context) += 1. / double(std::abs(i - j));

  const VectorXd of_word = near.rowwise().sum();
  VectorXd of_context = near.colwise().sum().transpose().array().pow(0.75);
  of_context /= of_context.sum();
  for (Index w = 0; w < words; ++w)
    for (Index c = 0; c < contexts; ++c)
      near(w, c) =
          near(w, c) > 0 ? std::max(0., std::log(near(w, c) / (of_word(w) * of_context(c)))) : 0;
  return near;
}

}  // namespace

std::map<std::string, double> word_counts(std::span<const Word> words) {
  std::map<std::string, double> counts;
  for (const Word& word : words) ++counts[word.text];
  return counts;
}

std::map<std::string, VectorXd> company_vectors(std::span<const Word> words, Index dims) {
  const std::map<std::string, double> counts = word_counts(words);
  const std::vector<std::string> vocabulary = by_frequency(counts);
  std::map<std::string, Index> number;
  for (const std::string& word : vocabulary) number.emplace(word, Index(number.size()));
  const Index contexts =
      std::ranges::count_if(counts, [](const auto& entry) { return entry.second >= least_count; });

  std::vector<Index> text;
  for (const Word& word : words) text.push_back(number.at(word.text));
  const MatrixXd information = mutual_information(text, Index(vocabulary.size()), contexts);
  const MatrixXd square = information.topRows(contexts);
  const Eigen::SelfAdjointEigenSolver<MatrixXd> solver(0.5 * (square + square.transpose()));
  MatrixXd axes = solver.eigenvectors().rightCols(dims);
  for (Index d = 0; d < dims; ++d) {
    Index largest = 0;
    axes.col(d).cwiseAbs().maxCoeff(&largest);
    if (axes(largest, d) < 0) axes.col(d) *= -1;
    axes.col(d) *= std::pow(solver.eigenvalues()(contexts - dims + d), -0.75);
  }

  MatrixXd vectors = (information * axes).rowwise().normalized();
  VectorXd weight(vectors.rows());
  for (Index w = 0; w < weight.size(); ++w)
    weight(w) = std::sqrt(counts.at(vocabulary[std::size_t(w)]));
  const Eigen::RowVectorXd mean = (weight / weight.sum()).transpose() * vectors;
  vectors.rowwise() -= mean;

  std::map<std::string, VectorXd> result;
  for (const auto& [word, row] : number) result[word] = vectors.row(row).transpose().normalized();
  return result;
}

VectorXd name_vector(const std::string& word, Index dims) {
  std::uint64_t hash = 14695981039346656037u;  // FNV-1a, then MurmurHash3's last mixing
  for (const char letter : word) hash = (hash ^ std::uint64_t(letter)) * 1099511628211u;
  hash = (hash ^ hash >> 33) * 0xff51afd7ed558ccdu;
  hash = (hash ^ hash >> 33) * 0xc4ceb9fe1a85ec53u;
  hash ^= hash >> 33;
  VectorXd vector(dims);
  for (Index d = 0; d < dims; ++d) vector(d) = (hash >> d & 1) != 0 ? 1 : -1;
  return vector.normalized();
}

VectorXd position_vector(double position, std::span<const double> wavelengths) {
  VectorXd vector(2 * Index(wavelengths.size()));
  Index d = 0;
  for (const double wavelength : wavelengths) {
    const double angle = 2 * std::numbers::pi * position / wavelength;
    vector(d++) = std::cos(angle);
    vector(d++) = std::sin(angle);
  }
  return vector.normalized();
}

}  // namespace demo
