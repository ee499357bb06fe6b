// SPDX-License-Identifier: MIT
#include "attend/report.hpp"

#include "bench/roofline.hpp"

#include <algorithm>
#include <iomanip>
#include <ostream>

namespace attend {
namespace {

double median(std::vector<double> x) {
  std::ranges::sort(x);
  const std::size_t half = x.size() / 2;
  return x.size() % 2 == 1 ? x[half] : (x[half - 1] + x[half]) / 2;
}

}  // namespace

template <class T>
void report(std::ostream& stream, const Request& request, const Result& result) {
  const double least = *std::ranges::min_element(result.seconds);
  const double speed = least > 0 ? result.operations / least : 0;
  const double peak = roofline::multiply_add_peak<T>(int(request.threads));
  const heed::Index held = std::min(request.budget.value_or(result.tokens), result.tokens);
  stream << std::fixed << std::setprecision(3);
  stream << "time    " << least * 1e3 << " ms at least, " << median(result.seconds) * 1e3
         << " ms median of " << result.seconds.size() << "\n";
  stream << "pairs   " << result.pairs << " (query, key, head)\n" << std::setprecision(1);
  stream << "speed   " << speed / 1e9 << " GFLOP/s, " << speed / peak * 100 << " % of "
         << peak / 1e9 << " GFLOP/s, the " << npy::name_of(npy::type_of<T>())
         << " multiply-add peak of " << request.threads
         << (request.threads == 1 ? " thread" : " threads") << " measured now\n";
  stream << "buffer  " << held << " of " << result.tokens << " tokens, " << result.held_bytes
         << " bytes of " << (request.selective ? "keys, values and F" : "keys and values");
  if (request.budget) stream << "; " << result.buffer_bytes << " with free slots and scratch";
  stream << "\n";
}

template void report<float>(std::ostream&, const Request&, const Result&);
template void report<double>(std::ostream&, const Request&, const Result&);

}  // namespace attend
