// SPDX-License-Identifier: MIT
/// @file
/// Vectors for words, from the company they keep in a text.
#pragma once

#include "demo/words.hpp"

#include <Eigen/Core>

#include <map>
#include <span>
#include <string>

namespace demo {

/// A vector of unit length for every word of a text, near for words that stand among the same
/// words: light and darkness, heaven and firmament, seed and herb.
///
/// Positive pointwise mutual information of words within five of one another, the nearer counting
/// more (weight 1/distance; contexts smoothed by the power 3/4, Levy, Goldberg and Dagan 2015),
/// between the words that occur at least five times; its eigenvectors of largest eigenvalue λ,
/// weighted λ^(1/4); the other words projected onto them; the mean, which says only how common a
/// word is, taken away.
/// @note The eigenvectors' signs are fixed, so the same text gives the same vectors up to rounding.
std::map<std::string, Eigen::VectorXd> company_vectors(std::span<const Word> words,
                                                       Eigen::Index dims);

/// A vector of unit length that depends on the letters of the word alone: ±1/√dims by the bits of
/// a hash, so that no two words are alike. At most 64 dims.
Eigen::VectorXd name_vector(const std::string& word, Eigen::Index dims);

/// Sines and cosines of a position, one pair for each wavelength (in tokens), unit length: the dot
/// product of two is largest for equal positions and depends on their distance alone.
Eigen::VectorXd position_vector(double position, std::span<const double> wavelengths);

/// How often each word occurs.
std::map<std::string, double> word_counts(std::span<const Word> words);

}  // namespace demo
