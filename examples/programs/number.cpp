// SPDX-License-Identifier: MIT
#include "programs/number.hpp"

#include <sstream>
#include <type_traits>

namespace programs {

template <class T>
std::string Range<T>::text() const {
  using Limits = std::numeric_limits<T>;
  std::ostringstream text;
  text << (std::is_integral_v<T> ? "a whole number" : "a finite number");
  if (std::is_integral_v<T> || least != Limits::lowest())
    text << (above ? " above " : " from ") << least;
  if (std::is_integral_v<T> || last != Limits::max()) text << " to " << last;
  return text.str();
}

template struct Range<std::int64_t>;
template struct Range<std::uint64_t>;
template struct Range<double>;

}  // namespace programs
