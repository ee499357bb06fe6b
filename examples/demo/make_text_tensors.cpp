// SPDX-License-Identifier: MIT
// Queries, keys and values for a real text: what four attention heads of a small model might see in
// it. The same text gives the same files, byte for byte.
//
// A token is its word's company (10 numbers: co-occurrence in the whole text), its word's name (20:
// a fixed vector of its own), its position (10: sines and cosines), a one, and a mark on the token
// before the first word. Matrices of fixed numbers project that to
//
//     head 0   earlier tokens with the same name, less strongly the same company. It selects: a
//              word said again tells later words to forget where it was said before.
//     head 1   tokens of the same company.
//     head 2   the token just before.
//     head 3   tokens with the same name, but not itself: where was this word said last?
//
// Heads 0 and 1 read key head 0, heads 2 and 3 key head 1. A head that finds nothing looks at the
// token before the first word, which belongs to no head and holds nothing.
#include "attend/npy.hpp"
#include "demo/embedding.hpp"
#include "demo/words.hpp"
#include "programs/command_line.hpp"
#include "programs/output_files.hpp"

#include <Eigen/Core>

#include <array>
#include <cmath>
#include <cstdint>
#include <iostream>
#include <numbers>

namespace demo {
namespace {

using Eigen::Index;
using Eigen::MatrixXd;
using Eigen::VectorXd;

constexpr Index company = 10, name = 20, place = 10;
constexpr Index company_at = 0, name_at = company, place_at = name_at + name,
                one_at = place_at + place, mark_at = one_at + 1, token_dim = mark_at + 1;
constexpr Index heads = 4, key_heads = 2, dim = 32, value_dim = 16;
constexpr std::array wavelengths{3.3, 7.1, 17.3, 47., 131.};
static_assert(2 * wavelengths.size() == place && name + company + 2 == dim);

/// Tokens × token_dim: what stands at each position.
MatrixXd token_vectors(std::span<const Word> words, std::span<const Word> text) {
  const auto vectors = company_vectors(text, company);
  MatrixXd tokens = MatrixXd::Zero(Index(words.size()), token_dim);
  for (Index i = 0; i < tokens.rows(); ++i) {
    const std::string& word = words[std::size_t(i)].text;
    tokens.row(i).segment(place_at, place) = position_vector(double(i), wavelengths);
    if (word == beginning) {
      tokens(i, mark_at) = 1;
      continue;
    }
    tokens.row(i).segment(company_at, company) = vectors.at(word);
    tokens.row(i).segment(name_at, name) = name_vector(word, name);
    tokens(i, one_at) = 1;
  }
  return tokens;
}

/// token_dim × dim: passes the named part of a token on, times a factor, to columns of a
/// projection.
void pass(MatrixXd& projection, Index from, Index count, Index to, double factor) {
  projection.block(from, to, count, count).diagonal().array() += factor;
}

/// The projection to a key head. Key head 0 tells company and name, 1 name and position; both
/// whether the token is a word or stands before the first.
MatrixXd key_projection(Index key_head) {
  MatrixXd projection = MatrixXd::Zero(token_dim, dim);
  if (key_head == 0) pass(projection, company_at, company, 0, 1);
  pass(projection, name_at, name, key_head == 0 ? company : 0, 1);
  if (key_head == 1) pass(projection, place_at, place, name, 1);
  pass(projection, one_at, 1, dim - 2, 1);
  pass(projection, mark_at, 1, dim - 1, 1);
  return projection;
}

/// The projection to a query head, in units of a score: a word scores, say, 4 for the same company
/// plus 8 for the same name less 8, and the token before the first 2.
MatrixXd query_projection(Index head) {
  MatrixXd projection = MatrixXd::Zero(token_dim, dim);
  const auto against = [&](double every_word, double before_the_first) {
    projection(one_at, dim - 2) = -every_word;
    projection(one_at, dim - 1) = before_the_first;
  };
  switch (head) {
    case 0:
      pass(projection, company_at, company, 0, 4);
      pass(projection, name_at, name, company, 8);
      against(8, 2);
      break;
    case 1:
      pass(projection, company_at, company, 0, 5);
      against(0, 1);
      break;
    case 2: {
      // cos(a − b) = cos a cos b + sin a sin b: turned back by one token.
      for (Index pair = 0; pair < Index(wavelengths.size()); ++pair) {
        const double angle = 2 * std::numbers::pi / wavelengths[std::size_t(pair)];
        Eigen::Matrix2d turn;
        turn << std::cos(angle), -std::sin(angle), std::sin(angle), std::cos(angle);
        projection.block<2, 2>(place_at + 2 * pair, name + 2 * pair) = 14 * turn;
      }
      against(7, -5);
      break;
    }
    case 3:
      pass(projection, name_at, name, 0, 16);
      pass(projection, place_at, place, name, -5);
      against(8, 4);
      break;
  }
  return std::sqrt(double(dim)) * projection;
}

/// Value head 0 tells company and the coarser part of the position, 1 the name.
MatrixXd value_projection(Index key_head) {
  MatrixXd projection = MatrixXd::Zero(token_dim, value_dim);
  if (key_head == 0) {
    pass(projection, company_at, company, 0, 1);
    pass(projection, place_at + place - (value_dim - company), value_dim - company, company, 1);
  } else {
    pass(projection, name_at, value_dim, 0, 1);
  }
  projection.row(mark_at).setZero();
  return projection;
}

/// Temperatures as in SSA: τ = tanh(f) + gain, f larger for rarer words. Queries also have a part
/// that grows with the number n of tokens seen, 1 + σ(α) log n.
struct Temperatures {
  VectorXd of_word;                                 // tanh(f)
  std::array<double, heads> alpha{-3, -2, -3, -2};  // one for each head

  Temperatures(std::span<const Word> words, std::span<const Word> text)
      : of_word(VectorXd::Zero(Index(words.size()))) {
    const auto counts = word_counts(text);
    double mean = 0;
    for (const Word& word : words.subspan(1)) mean += std::log(counts.at(word.text));
    mean /= double(words.size() - 1);
    for (std::size_t i = 1; i < words.size(); ++i)
      of_word(Index(i)) = std::tanh(0.35 * (mean - std::log(counts.at(words[i].text))));
  }

  double query(Index head, Index i) const {
    const double sigmoid = 1 / (1 + std::exp(-alpha[std::size_t(head)]));
    return of_word(i) + 1 + sigmoid * std::log(double(i + 1));
  }
  double value(Index i) const { return of_word(i) + 1; }
};

/// Rounded to 1/1024, so that the last bit of a logarithm cannot change a file, nor the sign of a
/// zero.
float rounded(double x) {
  const double units = std::round(x * 1024);
  return units == 0 ? 0 : float(units / 1024);
}

/// [1, heads, N, dim] from one matrix for each head.
template <class Head>
npy::Array tensor(Index of, Index rows, Index columns, const Head& head) {
  npy::Array array = npy::zeros(npy::Type::float32, {1, of, rows, columns});
  auto* next = array.values<float>().data();
  for (Index h = 0; h < of; ++h) {
    const MatrixXd matrix = head(h);
    for (Index i = 0; i < rows; ++i)
      for (Index d = 0; d < columns; ++d) *next++ = rounded(matrix(i, d));
  }
  return array;
}

template <class Tau>
npy::Array temperatures(Index of, Index rows, const Tau& tau) {
  npy::Array array = npy::zeros(npy::Type::float32, {1, of, rows});
  auto* next = array.values<float>().data();
  for (Index h = 0; h < of; ++h)
    for (Index i = 0; i < rows; ++i) *next++ = rounded(tau(h, i));
  return array;
}

void make(const std::filesystem::path& text_path, std::size_t count,
          const std::filesystem::path& folder) {
  const std::vector<Word> text = read_text(text_path);
  std::vector<Word> words{{beginning, "0:0"}};
  words.insert(words.end(), text.begin(),
               text.begin() + std::ptrdiff_t(std::min(count, text.size())));

  const MatrixXd tokens = token_vectors(words, text);
  const Temperatures tau(words, text);
  const Index rows = tokens.rows();
  programs::OutputFiles files;
  const auto save = [&](const char* file, const npy::Array& array) {
    files.add(folder / file, [&](std::ostream& stream) { npy::write(stream, array); });
    std::cout << (folder / file).string() << "  " << npy::to_string(array.shape) << "\n";
  };
  save("q.npy",
       tensor(heads, rows, dim, [&](Index h) -> MatrixXd { return tokens * query_projection(h); }));
  save("k.npy", tensor(key_heads, rows, dim,
                       [&](Index g) -> MatrixXd { return tokens * key_projection(g); }));
  save("v.npy", tensor(key_heads, rows, value_dim,
                       [&](Index g) -> MatrixXd { return tokens * value_projection(g); }));
  save("tau_q.npy", temperatures(heads, rows, [&](Index h, Index i) { return tau.query(h, i); }));
  save("tau_v.npy", temperatures(key_heads, rows, [&](Index, Index i) { return tau.value(i); }));

  files.add(folder / "tokens.txt", [&](std::ostream& stream) {
    for (const Word& word : words) stream << word.text << '\t' << word.verse << '\n';
  });
  programs::flush(std::cout);  // files appear only if all went well
  files.commit();
}

}  // namespace
}  // namespace demo

int main(int argc, char** argv) {
  std::filesystem::path text, folder;
  std::uint64_t words = 280;  // Genesis 1:1 to 1:13, the first three days
  programs::CommandLine line(
      "make_text_tensors",
      "Writes q, k, v, temperatures and tokens for the first words of a text.");
  line.text("--text", text, "FILE", "lines of chapter:verse and words")->required();
  line.number("--words", words, "N", programs::Range<std::uint64_t>{.least = 1},
              "how many words, from the first");
  line.text("--out", folder, "FOLDER", "where to write them")->required();
  return line.run(argc, argv, [&] { demo::make(text, words, folder); });
}
