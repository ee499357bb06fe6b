// SPDX-License-Identifier: MIT
// Selective attention, forward and backward: heed against a composition of PyTorch's operations, in
// one process, by turns, on as many threads. Prints a Markdown table.
//
//   compare_torch [--threads N] [--repeat N] [TOKENS...]
#include "attention.hpp"
#include "composed.hpp"
#include "programs/output.hpp"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <algorithm>
#include <array>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <fstream>
#include <iostream>
#include <stdexcept>
#include <string>
#include <torch/csrc/autograd/autograd.h>
#include <torch/version.h>
#include <unistd.h>
#include <vector>

namespace {

constexpr std::int64_t heads = 8, dim = 64;

enum class By { heed, composition };

struct Inputs {
  at::Tensor q, k, v, grad_out;

  explicit Inputs(std::int64_t tokens) {
    at::manual_seed(1);
    for (at::Tensor* x : {&q, &k, &v}) *x = at::randn({1, heads, tokens, dim}).requires_grad_();
    grad_out = at::randn({1, heads, tokens, dim});
  }
};

at::Tensor attend(By by, const Inputs& x) {
  if (by == By::composition) return heed_torch::composed_selective_attention(x.q, x.k, x.v);
  heed_torch::Tensors in;
  in.q = x.q, in.k = x.k, in.v = x.v;
  heed_torch::Settings settings;
  settings.causal = settings.selective = true;
  return heed_torch::attention(in, settings).out;
}

/// Forward, and the three gradients.
void step(By by, const Inputs& x) {
  torch::autograd::grad({attend(by, x)}, {x.q, x.k, x.v}, {x.grad_out});
}

double seconds(By by, const Inputs& x) {
  using Clock = std::chrono::steady_clock;
  const Clock::time_point start = Clock::now();
  step(by, x);
  return std::chrono::duration<double>(Clock::now() - start).count();
}

/// The largest difference of the outputs. Gradients are not compared: a score of head 0 that is
/// zero except for rounding may vote in one and not in the other, and then that row's gradient
/// jumps.
double difference(const Inputs& x) {
  return (attend(By::heed, x) - attend(By::composition, x)).abs().max().item<double>();
}

/// A line of /proc/self/status, in bytes.
double status(const std::string& name) {
  std::ifstream file("/proc/self/status");
  for (std::string line; std::getline(file, line);)
    if (line.rfind(name + ":", 0) == 0) return std::stod(line.substr(name.size() + 1)) * 1024;
  throw std::runtime_error("/proc/self/status has no " + name);
}

/// How far memory rises above what the inputs take; to be asked once a process.
double own_peak(By by, std::int64_t tokens) {
  step(by, Inputs(16));  // so that libraries have what they keep
  const Inputs x(tokens);
  std::ofstream("/proc/self/clear_refs") << "5" << std::flush;  // the peak starts from here
  const double before = status("VmRSS");
  step(by, x);
  return status("VmHWM") - before;
}

std::string self() {
  std::array<char, 4096> path{};
  if (readlink("/proc/self/exe", path.data(), path.size() - 1) < 0)
    throw std::runtime_error("cannot read /proc/self/exe");
  return path.data();
}

/// The same in a process of its own.
double peak(By by, std::int64_t tokens) {
  const std::string command = "'" + self() + "' --peak " +
                              (by == By::heed ? "heed " : "composed ") + std::to_string(tokens);
  FILE* pipe = popen(command.c_str(), "r");
  double bytes = 0;
  const bool read = pipe && std::fscanf(pipe, "%lf", &bytes) == 1;
  if (!pipe || pclose(pipe) != 0 || !read) throw std::runtime_error("failed: " + command);
  return bytes;
}

std::string line_of(const char* file, const std::string& start) {
  std::ifstream stream(file);
  for (std::string line; std::getline(stream, line);)
    if (line.find(start) != std::string::npos) return line;
  return "";
}

void describe(int threads, int repeat) {
#ifdef __clang__
  const char* compiler = __VERSION__;
#else
  const char* compiler = "GCC " __VERSION__;
#endif
  const std::string cpu = line_of("/proc/cpuinfo", "model name"), march = HEED_MARCH;
  const bool open_blas = !line_of("/proc/self/maps", "openblas").empty();
  std::printf(
      "%s, %d thread%s, %s%s%s, PyTorch %s, %s.\n"
      "float, batch 1, %d heads of %d; forward and backward, the least of %d.\n\n",
      cpu.empty() ? "?" : cpu.substr(cpu.find(':') + 2).c_str(), threads, threads == 1 ? "" : "s",
      compiler, march.empty() ? "" : " -march=", march.c_str(), TORCH_VERSION,
      open_blas ? "OpenBLAS" : "NOT OPENBLAS, which is what compositions want", int(heads),
      int(dim), repeat);
}

void compare(const std::vector<std::int64_t>& sizes, int threads, int repeat) {
  seconds(By::composition, Inputs(64));  // loads the BLAS, which describe() looks for
  describe(threads, repeat);
  std::printf(
      "| tokens | heed, ms | composition, ms | times faster | heed, MB | composition, MB "
      "| times less | out differs by |\n|--:|--:|--:|--:|--:|--:|--:|--:|\n");
  for (const std::int64_t tokens : sizes) {
    const Inputs x(tokens);
    const double error = difference(x);
    double least[2] = {1e9, 1e9};
    for (int i = 0; i < repeat; ++i)
      for (const By by : {By::heed, By::composition})
        least[int(by)] = std::min(least[int(by)], seconds(by, x));
    const double own = peak(By::heed, tokens), theirs = peak(By::composition, tokens);
    std::printf("| %d | %.1f | %.1f | %.2f | %.1f | %.1f | %.1f | %.0e |\n", int(tokens),
                least[0] * 1e3, least[1] * 1e3, least[1] / least[0], own / 1e6, theirs / 1e6,
                theirs / own, error);
    std::fflush(stdout);
  }
}

int run(int argc, char** argv) {
  int threads = 1, repeat = 7;
  std::vector<std::int64_t> sizes;
  for (int i = 1; i < argc; ++i) {
    const std::string word = argv[i];
    const auto next = [&] {
      if (++i == argc) throw std::runtime_error(word + " wants something behind it");
      return std::string(argv[i]);
    };
    if (word == "--peak") {
      const By by = next() == "heed" ? By::heed : By::composition;
      std::printf("%.0f\n", own_peak(by, std::stoll(next())));
      return 0;
    }
    if (word == "--threads")
      threads = std::stoi(next());
    else if (word == "--repeat")
      repeat = std::stoi(next());
    else
      sizes.push_back(std::stoll(word));
  }
  if (sizes.empty()) sizes = {512, 1024, 2048, 4096};

  // Read when the libraries are loaded, which has happened: set them and start again.
  const std::string wanted = std::to_string(threads);
  for (const char* name : {"OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"})
    if (const char* set = std::getenv(name); !set || set != wanted) {
      setenv("OMP_NUM_THREADS", wanted.c_str(), 1);
      setenv("OPENBLAS_NUM_THREADS", wanted.c_str(), 1);
      execv(self().c_str(), argv);
      throw std::runtime_error("cannot start again");
    }
  if (at::get_num_threads() != threads)
    throw std::runtime_error("PyTorch has " + std::to_string(at::get_num_threads()) + " threads");
  compare(sizes, threads, repeat);
  return 0;
}

}  // namespace

int main(int argc, char** argv) try {
  return programs::ended("compare_torch", run(argc, argv));
} catch (const std::exception& error) {
  std::cerr << "compare_torch: " << error.what() << '\n';
  return 1;
}
