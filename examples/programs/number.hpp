// SPDX-License-Identifier: MIT
/// @file
/// Numbers as users write them on a command line: whole and finite, or refused by name.
#pragma once

#include <charconv>
#include <cstdint>
#include <limits>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <system_error>

namespace programs {

/// A command line, or a combination of inputs, that makes no sense. One line.
struct UsageError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

/// The whole text as a number, in decimal. CLI11 would take 99999999999999999999 for the largest it
/// knows, and −1 for the largest without a sign.
template <class T>
std::optional<T> number_of(std::string_view text) {
  T value{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

/// What a number may be: all of a type's where nothing is said. NaN and the infinities never.
template <class T>
struct Range {
  T least = std::numeric_limits<T>::lowest(), last = std::numeric_limits<T>::max();
  bool above = false;  ///< more than `least`, which is not in the range itself

  bool holds(T value) const { return (above ? value > least : value >= least) && value <= last; }
  std::string text() const;  ///< "a whole number from 1 to 9", "a finite number above 0"
};

/// Counts and sizes. Sums of the largest taken, and products with a few thousand, stay within 64
/// bits.
constexpr Range<std::int64_t> count(std::int64_t least, std::int64_t last = 1'000'000'000'000'000) {
  return {least, last};
}
/// Temperatures, rates, weights: nothing negative, nothing that overflows a float's square.
inline constexpr Range<double> from_zero{0, 1e9};

/// Reads the value of an option.
/// @throws UsageError "NAME is 'TEXT', must be …" unless it is a number of the range.
template <class T>
T number(std::string_view name, std::string_view text, const Range<T>& range) {
  const std::optional<T> value = number_of<T>(text);
  if (!value || !range.holds(*value))
    throw UsageError(std::string(name) + " is '" + std::string(text) + "', must be " +
                     range.text());
  return *value;
}

}  // namespace programs
