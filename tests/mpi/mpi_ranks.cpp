// SPDX-License-Identifier: MIT
// Run by mpirun on any number of ranks: several processes give what one gives, and a rank that
// stops answering is an error within the time limit.
//
//   mpi_ranks            mixtures, against one process
//   mpi_ranks silent     rank 1 does not take part
//   mpi_ranks disagree   ranks give different windows

#include "heed/distributed/mpi.hpp"
#include "support/sharded.hpp"

#include <gtest/gtest.h>

#include <chrono>
#include <cstdio>
#include <exception>
#include <string>
#include <thread>

namespace heed::test::mpi_ranks {
namespace {

using distributed::MpiGroup;
using distributed::Sharding;

Tensor<double, 1> sum_over_ranks(const Tensor<double, 1>& share) {
  Tensor<double, 1> sum(share.dimensions());
  MPI_Allreduce(share.data(), sum.data(), int(share.size()), MPI_DOUBLE, MPI_SUM, MPI_COMM_WORLD);
  return sum;
}

void expect_as_in_one_process(AnyGroup& group, const Sharding& sharding, const ShardedCall& call,
                              const ShardedResults& whole, const std::string& what) {
  const ShardedResults own = on_one_rank(group, sharding, call);
  expect_rows(own, whole, sharding, group.rank(), what);
  ShardedResults sums;
  sums.grad_slopes = sum_over_ranks(own.grad_slopes);
  sums.grad_sinks = sum_over_ranks(own.grad_sinks);
  MPI_Allreduce(&own.grad_alpha, &sums.grad_alpha, 1, MPI_DOUBLE, MPI_SUM, MPI_COMM_WORLD);
  expect_shared(sums, whole, what);
}

TEST(MpiRanks, MatchOneProcess) {
  MpiGroup mpi(MPI_COMM_WORLD);
  GroupOf<MpiGroup> group(mpi);
  const int ranks = group.size();
  for (const auto& [name, call] : sharded_calls(85)) {
    const ShardedResults whole = in_one_process(call);
    expect_as_in_one_process(group, Sharding::contiguous(85, ranks), call, whole,
                             name + ", contiguous");
    expect_as_in_one_process(group, Sharding::zigzag(85, ranks), call, whole, name + ", zigzag");
    expect_as_in_one_process(group,
                             Sharding::contiguous(uneven_bounds(85, ranks, call.seed), ranks), call,
                             whole, name + ", contiguous, uneven");
    expect_as_in_one_process(group,
                             Sharding::zigzag(uneven_bounds(85, 2 * ranks, call.seed), ranks), call,
                             whole, name + ", zigzag, uneven");
  }
}

ShardedCall window_of(Index left, int ranks) {
  const Index tokens = 8 * ranks;
  return {.shape = {1, 1, 1, tokens, tokens, 4, 4}, .left = left};
}

/// Prints what each rank gets from a call that must fail. Ends without MPI_Finalize(), which would
/// wait for the ranks.
int failing(const std::string& how) {
  MpiGroup mpi(MPI_COMM_WORLD, std::chrono::milliseconds(1500));
  GroupOf<MpiGroup> group(mpi);
  const int rank = group.rank(), ranks = group.size();
  try {
    if (how == "silent" && rank == 1)
      std::this_thread::sleep_for(std::chrono::seconds(4));
    else
      on_one_rank(group, Sharding::zigzag(8 * ranks, ranks),
                  window_of(how == "disagree" && rank == 1 ? 3 : 5, ranks));
    std::printf("no error\n");
  } catch (const std::exception& e) {
    std::printf("error: %s\n", e.what());
  }
  std::fflush(stdout);
  if (how == "disagree") return 0;
  std::this_thread::sleep_for(std::chrono::seconds(rank == 1 ? 0 : 3));
  std::_Exit(0);
}

}  // namespace
}  // namespace heed::test::mpi_ranks

int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  MPI_Init(&argc, &argv);
  const int code = argc > 1 ? heed::test::mpi_ranks::failing(argv[1]) : RUN_ALL_TESTS();
  MPI_Finalize();
  return code;
}
