// SPDX-License-Identifier: MIT
// Built with -ffast-math, under which a compiler may take NaN and infinity for absent: rotary()
// refuses them nevertheless, and leaves its tensor as it was.
#include <cstdio>
#include <heed/attention/rotary.hpp>
#include <limits>
#include <vector>

namespace {

int failures = 0;

template <class Change>
void refuses(const char* what, Change&& change) {
  std::vector<float> x(64, 3.F);
  heed::RotaryOptions options;
  change(options);
  try {
    heed::rotary(heed::View<float, 4>(x.data(), {1, 2, 4, 8}), options);
    std::printf("%s was taken\n", what);
    ++failures;
  } catch (const heed::ValueError&) {
  }
  for (const float number : x)
    if (number != 3.F) {
      std::printf("%s: written to before it was refused\n", what);
      ++failures;
      break;
    }
}

}  // namespace

int main() {
  using heed::RotaryOptions;
  // Not constants to the compiler.
  volatile double nan = std::numeric_limits<double>::quiet_NaN(),
                  infinity = std::numeric_limits<double>::infinity();
  for (const double wrong : {double(nan), double(infinity), -double(infinity)}) {
    refuses("base", [&](RotaryOptions& o) { o.base = wrong; });
    refuses("scale", [&](RotaryOptions& o) { o.scale = wrong; });
    refuses("linear", [&](RotaryOptions& o) { o.scaling = heed::LinearRotary{wrong}; });
    refuses("YaRN", [&](RotaryOptions& o) {
      o.scaling = heed::YarnRotary{.factor = wrong, .original_context = 8};
    });
    refuses("Llama 3", [&](RotaryOptions& o) { o.scaling = heed::Llama3Rotary{wrong}; });
    const std::vector<double> own = {1, 1, wrong, 1};
    refuses("own frequencies", [&](RotaryOptions& o) {
      o.scaling = heed::GivenRotary{{own.data(), {4}}};
    });
    refuses("attention factor", [&](RotaryOptions& o) {
      o.scaling = heed::YarnRotary{.factor = 2, .original_context = 8, .attention_factor = wrong};
    });
  }
  return failures == 0 ? 0 : 1;
}
