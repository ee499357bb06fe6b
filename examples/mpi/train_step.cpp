// SPDX-License-Identifier: MIT
// Forward and backward over the ranks of MPI: each holds a part of the tokens, and gets the rows
// and the gradients that one process would.
//
//   mpirun -n 4 train_step
#include <cmath>
#include <cstdio>
#include <heed/distributed/backward.hpp>
#include <heed/distributed/mpi.hpp>
#include <heed/heed.hpp>

using Tensor = Eigen::Tensor<float, 4, Eigen::RowMajor>;
using heed::distributed::Chunk, heed::distributed::MpiGroup, heed::distributed::Sharding;

/// A number for each position, head and column that no sharding changes.
void fill(Tensor& x, const Sharding& sharding, int rank, float phase) {
  for (const Chunk& chunk : sharding.chunks())
    for (heed::Index p = chunk.first; chunk.rank == rank && p < chunk.last; ++p)
      for (heed::Index h = 0; h < x.dimension(1); ++h)
        for (heed::Index d = 0; d < x.dimension(3); ++d)
          x(0, h, chunk.row + p - chunk.first, d) =
              std::sin(phase * float(1 + p % 97) + float(d * (h + 1)));
}

/// Σ of squares over all ranks: what must not depend on their number.
double norm(const Tensor& x) {
  double own = 0, all = 0;
  for (Eigen::Index i = 0; i < x.size(); ++i) own += double(x.data()[i]) * double(x.data()[i]);
  MPI_Allreduce(&own, &all, 1, MPI_DOUBLE, MPI_SUM, MPI_COMM_WORLD);
  return all;
}

int main(int argc, char** argv) {
  MPI_Init(&argc, &argv);
  {
    MpiGroup group(MPI_COMM_WORLD);
    const int rank = group.rank();
    const Sharding sharding = Sharding::zigzag(1000, group.size());
    const heed::Index rows = sharding.rows(rank);

    Tensor q(1, 4, rows, 16), k(1, 2, rows, 16), v(1, 2, rows, 16);
    fill(q, sharding, rank, 1), fill(k, sharding, rank, 2), fill(v, sharding, rank, 3);
    Tensor out(q.dimensions()), grad_q(q.dimensions()), grad_k(k.dimensions()),
        grad_v(v.dimensions());
    Eigen::Tensor<float, 3, Eigen::RowMajor> lse(1, 4, rows);

    const auto variant = heed::standard | heed::causal | heed::selective;
    heed::distributed::forward(group, sharding, q, k, v, variant, out, lse);
    // The loss is half the sum of squares, so that its gradient is out itself.
    heed::distributed::backward(group, sharding, q, k, v, variant, out, lse, out, grad_q, grad_k,
                                grad_v);

    const double loss = norm(out) / 2, of_q = norm(grad_q), of_k = norm(grad_k),
                 of_v = norm(grad_v);
    if (rank == 0)
      std::printf("%d ranks: loss %.5g, gradients of q %.4g, k %.4g, v %.4g\n", group.size(), loss,
                  of_q, of_k, of_v);
  }
  MPI_Finalize();
}
