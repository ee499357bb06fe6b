// SPDX-License-Identifier: MIT
// Attention over a long sequence on the ranks of MPI: a row of a table with time, memory, bytes and
// balance. demo.sh runs it on several numbers of ranks.
//
//   mpirun -n 4 attention causal|window|selective zigzag|contiguous TOKENS
#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <fstream>
#include <heed/distributed/forward.hpp>
#include <heed/distributed/mpi.hpp>
#include <heed/heed.hpp>
#include <string>

namespace {

using Tensor = Eigen::Tensor<float, 4, Eigen::RowMajor>;
using heed::Index;
using heed::distributed::Chunk, heed::distributed::MpiGroup, heed::distributed::Sharding;
using heed::distributed::TrafficStats;

constexpr Index heads = 4, key_heads = 2, dim = 32, window = 4096;

/// Standard normal numbers that depend on the position, not on the rank that holds it.
void fill(Tensor& x, const Sharding& sharding, int rank, std::uint64_t seed) {
  const auto uniform = [](std::uint64_t& state) {  // splitmix64
    std::uint64_t z = state += 0x9e3779b97f4a7c15;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
    z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
    return double((z ^ (z >> 31)) >> 11) * 0x1p-53;
  };
  for (const Chunk& chunk : sharding.chunks()) {
    if (chunk.rank != rank) continue;
    for (Index h = 0; h < x.dimension(1); ++h)
      for (Index i = 0; i < chunk.rows(); ++i) {
        std::uint64_t state = seed * 0x2545f4914f6cdd1d + std::uint64_t(chunk.first + i) * 1000003 +
                              std::uint64_t(h) * 7919;
        for (Index d = 0; d < x.dimension(3); ++d)
          x(0, h, chunk.row + i, d) = float(std::sqrt(-2 * std::log(1 - uniform(state))) *
                                            std::cos(6.283185307179586 * uniform(state)));
      }
  }
}

/// The most memory this process has had, in MB, as Linux counts it.
double peak_megabytes() {
  std::ifstream status("/proc/self/status");
  for (std::string word; status >> word;)
    if (word == "VmHWM:") {
      double kilobytes = 0;
      status >> kilobytes;
      return kilobytes / 1024;
    }
  return 0;
}

double over_ranks(double own, MPI_Op op) {
  double all = 0;
  MPI_Allreduce(&own, &all, 1, MPI_DOUBLE, op, MPI_COMM_WORLD);
  return all;
}

TrafficStats attend(MpiGroup& group, const Sharding& sharding, const std::string& variant,
                    const Tensor& q, const Tensor& k, const Tensor& v, Tensor& out) {
  const auto run = [&](const auto& stages) {
    return heed::distributed::forward(group, sharding, q, k, v, stages, out);
  };
  using heed::standard, heed::causal, heed::selective;
  if (variant == "window") return run(standard | causal | heed::window(window - 1, 0));
  if (variant == "selective") return run(standard | causal | selective);
  return run(standard | causal);
}

void print_row(MpiGroup& group, const std::string& variant, const std::string& how, Index tokens) {
  const int rank = group.rank(), ranks = group.size();
  const Sharding sharding =
      how == "zigzag" ? Sharding::zigzag(tokens, ranks) : Sharding::contiguous(tokens, ranks);
  const Index rows = sharding.rows(rank);
  Tensor q(1, heads, rows, dim), k(1, key_heads, rows, dim), v(1, key_heads, rows, dim),
      out(1, heads, rows, dim);
  fill(q, sharding, rank, 1), fill(k, sharding, rank, 2), fill(v, sharding, rank, 3);

  MPI_Barrier(MPI_COMM_WORLD);
  const auto start = std::chrono::steady_clock::now();
  const TrafficStats stats = attend(group, sharding, variant, q, k, v, out);
  const double own_seconds =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();

  double squares = 0;
  for (Eigen::Index i = 0; i < out.size(); ++i)
    squares += double(out.data()[i]) * double(out.data()[i]);
  const double seconds = over_ranks(own_seconds, MPI_MAX),
               most_pairs = over_ranks(double(stats.work.pairs), MPI_MAX),
               pairs = over_ranks(double(stats.work.pairs), MPI_SUM),
               memory = over_ranks(peak_megabytes(), MPI_MAX),
               sent = over_ranks(double(stats.bytes), MPI_SUM) / 1e6,
               ring = over_ranks(double(stats.ring_bytes), MPI_SUM) / 1e6,
               norm = over_ranks(squares, MPI_SUM);
  if (rank == 0)
    std::printf("| %-9s | %-10s | %5d | %7.1f | %8.0f | %8.1f | %8.1f | %9.2f | %9.2f | %.6g |\n",
                variant.c_str(), how.c_str(), ranks, seconds, memory, sent, ring, pairs / 1e9,
                most_pairs * ranks / pairs, norm);
}

/// The arguments, or an exit with how they should be.
struct Arguments {
  std::string variant, how;
  Index tokens = 0;

  static Arguments of(int argc, char** argv) {
    const auto is_one_of = [](const char* text, std::initializer_list<const char*> names) {
      return std::any_of(names.begin(), names.end(),
                         [&](const char* name) { return std::strcmp(text, name) == 0; });
    };
    char* end = nullptr;
    const long tokens = argc == 4 ? std::strtol(argv[3], &end, 10) : 0;
    if (argc != 4 || !is_one_of(argv[1], {"causal", "window", "selective"}) ||
        !is_one_of(argv[2], {"zigzag", "contiguous"}) || *end != 0 || tokens < 1) {
      std::fprintf(stderr, "usage: attention causal|window|selective zigzag|contiguous TOKENS\n");
      std::exit(2);
    }
    return {argv[1], argv[2], tokens};
  }
};

}  // namespace

int main(int argc, char** argv) {
  const Arguments arguments = Arguments::of(argc, argv);
  MPI_Init(&argc, &argv);
  try {
    MpiGroup group(MPI_COMM_WORLD, std::chrono::hours(1));
    print_row(group, arguments.variant, arguments.how, arguments.tokens);
  } catch (const std::exception& e) {
    std::fprintf(stderr, "attention: %s\n", e.what());
    MPI_Abort(MPI_COMM_WORLD, 1);
  }
  MPI_Finalize();
}
